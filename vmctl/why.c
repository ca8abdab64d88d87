#include "why.h"

#include <string.h>
#include "hosts.h"
#include "human.h"
#include "stream.h"

enum { CHECKS_MAX = 5, LINES_MAX = 8, LOG_MAX = 256 << 10 };

/* What is known; each of them NULL where there is none. */
struct why {
    const json_t *guest, *job, *checks, *script; /* script: the first that failed */
    const json_t *ended, *plan, *limit, *job_failed;
    const char *name;
    bool up, wanted; /* it runs; it is to run */
};

static const json_t *failed_script(const json_t *scripts)
{
    json_t *s;
    size_t i;

    json_array_foreach(scripts, i, s)
        if (!strcmp(json_str(s, "state", ""), "failed"))
            return s;
    return NULL;
}

/* Of events, the newest last. What came before the guest last ran has been got over; that it ended says how it is now. */
static void read_events(struct why *w, const json_t *events)
{
    json_t *e;
    size_t i;

    json_array_foreach(events, i, e) {
        const char *type = json_str(e, "type", ""), *to = json_str(e, "to", "");

        if (!strcmp(type, "ended"))
            w->ended = e;
        else if (!strcmp(type, "restart-planned") || !strcmp(type, "crash-loop"))
            w->plan = e;
        else if (!strcmp(type, "limit"))
            w->limit = e;
        else if (!strcmp(type, "job-failed"))
            w->job_failed = e;
        else if (!strcmp(type, "job-done"))
            w->job_failed = NULL;
        if (!strcmp(type, "state") && (!strcmp(to, "starting") || !strcmp(to, "running")))
            w->plan = NULL;
    }
}

static bool all_ok(const json_t *checks)
{
    json_t *c;
    size_t i;

    json_array_foreach(checks, i, c)
        if (strcmp(json_str(c, "state", "ok"), "ok") != 0)
            return false;
    return true;
}

static bool is_well(const struct why *w)
{
    const char *health = json_str(w->guest, "health", "none");

    if (json_str(w->guest, "error", NULL) || w->script || json_is_object(w->job))
        return false;
    return !w->wanted || (w->up && (!strcmp(health, "healthy") || !strcmp(health, "none")) && all_ok(w->checks));
}

static void show_event(struct page *p, const char *label, const json_t *event)
{
    char ago[HUMAN_MAX];

    if (event)
        page_wrapf(p, label, "%s ago: %s", human_ago(json_object_get(event, "at"), p->now, ago),
                   json_str(event, "text", ""));
}

static void show_checks(struct page *p, const struct why *w)
{
    char since[HUMAN_MAX], n[HUMAN_MAX];
    size_t i, shown = 0;
    json_t *c;

    json_array_foreach(w->checks, i, c) {
        const char *message = json_str(c, "message", NULL), *state = json_str(c, "state", "ok");

        if (!strcmp(state, "ok") || shown++ >= CHECKS_MAX)
            continue;
        page_wrapf(p, state, "%s, since %s, %s times: %s", json_str(c, "check", ""),
                   human_ago(json_object_get(c, "since"), p->now, since), human_int(json_object_get(c, "failures"), n),
                   message ? message : "not answered yet");
    }
}

static void show_script(struct page *p, const struct why *w)
{
    const char *error = json_str(w->script, "error", NULL);
    char code[HUMAN_MAX];

    if (error) /* it names the script */
        page_wrapf(p, "script", "%s", error);
    else if (w->script)
        page_wrapf(p, "script", "%s: exit status %s", json_str(w->script, "script", ""),
                   human_int(json_object_get(w->script, "exit_code"), code));
}

/* When it is started again; nobody counts down for a job that runs. */
static void show_retry(struct page *p, const struct why *w)
{
    int64_t at = w->plan ? human_time(json_str(w->plan, "at", "")) : -1;
    int64_t left = at < 0 ? 0 : at + (int64_t)(json_num(w->plan, "wait", 0) * 1000) - p->now;
    char shown[TEXT_HUMAN];

    if (!w->wanted)
        page_row(p, "retry", "none: it was stopped by hand");
    else if (w->plan && !strcmp(json_str(w->plan, "type", ""), "crash-loop"))
        show_event(p, "retry", w->plan);
    else if (left > 0)
        page_wrapf(p, "retry", "in %s", text_human_duration(left, shown));
    else if (!w->up && !json_is_object(w->job))
        page_row(p, "retry", "none");
}

/* ---- its last lines ---- */

static int collect(const char *s, size_t n, void *arg, struct vm_err *e)
{
    struct text *t = arg;

    if (t->len < LOG_MAX)
        text_add_bytes(t, s, n < LOG_MAX - t->len ? n : LOG_MAX - t->len);
    return t->failed ? vm_no_memory(e) : 0;
}

static void show_lines(struct client *c, const struct why *w, struct page *p)
{
    OWN(str) char *head = client_path("/v1/guests/", w->name, "/logs");
    OWN(text) struct text path = {0}, got = {0}, shown = {0};
    struct transfer t = {.method = "GET", .sink = collect, .arg = &got};
    struct vm_err e = {0};
    const char *label = w->script ? "it printed" : "console";
    char *rest = NULL, number[HUMAN_MAX];

    text_add(&path, head ? head : "");
    client_query(&path, "source", w->script ? "install" : "console");
    if (w->script)
        client_query(&path, "script", human_int(json_object_get(w->script, "index"), number));
    snprintf(number, sizeof number, "%d", LINES_MAX);
    client_query(&path, "lines", number);
    t.path = path.s;
    if (!head || path.failed || client_stream(c, &t, &e) < 0) {
        page_wrapf(p, "last lines", "%s", e.code ? e.text : "no memory");
        return;
    }
    stream_show(&shown, got.s ? got.s : "", got.len, true);
    for (char *line = shown.s ? strtok_r(shown.s, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        page_row(p, label, line);
        label = "";
    }
}

/* ---- what helps ---- */

static void show_help(const struct client *c, struct page *p, const struct why *w)
{
    const json_t *waits = json_object_get(w->job, "waits_for");
    const char *dependency = json_string_value(json_array_get(waits, 0)), *name = w->name;
    OWN(str) char *vmctl = hosts_command(c->host);
    OWN(text) struct text line = {.failed = !vmctl};
    char number[HUMAN_MAX];

    if (w->script)
        text_addf(&line, "%s logs %s --install %s; mend the script, then %s apply", vmctl, name,
                  human_int(json_object_get(w->script, "index"), number), vmctl);
    else if (dependency)
        text_addf(&line, "%s show %s", vmctl, dependency);
    else if (!w->wanted)
        text_addf(&line, "%s start %s", vmctl, name);
    else if (w->up)
        text_addf(&line, "%s logs %s -n 50; %s exec %s -- systemctl --failed; %s shell %s", vmctl, name, vmctl, name, vmctl, name);
    else
        text_addf(&line, "%s console %s; %s start %s", vmctl, name, vmctl, name);
    p->out.failed |= line.failed;
    page_wrapf(p, "try", "%s", line.s ? line.s : "");
}

void why_show(struct client *c, const json_t *doc, struct page *p)
{
    struct why w = {.guest = json_object_get(doc, "guest"),
                    .job = json_object_get(doc, "job"),
                    .checks = json_object_get(doc, "checks"),
                    .script = failed_script(json_object_get(doc, "scripts"))};

    w.name = json_str(w.guest, "name", "");
    w.up = !strcmp(json_str(w.guest, "state", ""), "running");
    w.wanted = !strcmp(json_str(w.guest, "wish", "up"), "up");
    read_events(&w, json_object_get(doc, "events"));
    if (is_well(&w))
        return;
    page_heading(p, "Why");
    show_checks(p, &w);
    show_script(p, &w);
    if (!w.script)
        show_event(p, "failed", w.job_failed);
    show_event(p, "last exit", w.ended);
    show_event(p, "limit", w.limit);
    show_retry(p, &w);
    show_lines(c, &w, p);
    show_help(c, p, &w);
}
