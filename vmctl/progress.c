#include "progress.h"

#include <signal.h>
#include <string.h>
#include <vmsd/clock.h>
#include "human.h"
#include "issues.h"
#include "live.h"
#include "plan.h"
#include "stream.h"
#include "term.h"

struct progress {
    bool json, live;
    const char *host; /* if it is another one */
    const char *verb; /* of the command, where the class of its jobs is another word */
    struct tasks tasks;
    struct live view;
    struct strv unwell; /* guests that failed, were blocked or are not healthy */
    struct strv errors; /* as results gave them: "db: what" or "what" … */
    struct strv told;   /* … and those of them that already stand at a guest's end */
    size_t results, changed, failed, blocked, unhealthy;
    double seconds; /* of the longest stream */
    bool bad_specs, not_ok;
    struct sigaction was[2]; /* what SIGINT and SIGTERM did before */
};

static volatile sig_atomic_t interrupts, continued;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupts = 1;
}

static void on_continued(int sig)
{
    (void)sig;
    continued = 1;
}

int progress_open(const struct cli *cli, struct progress **out, struct vm_err *e)
{
    struct progress *p = calloc(1, sizeof *p);
    struct sigaction act = {.sa_handler = on_interrupt};

    if (!p)
        return vm_no_memory(e);
    p->json = cli->json;
    p->host = cli->client.host;
    p->verb = cli->command->run == cmd_start || cli->command->run == cmd_stop ? cli->command->name : NULL;
    p->live = !cli->json && term_is_tty();
    interrupts = 0;
    sigaction(SIGINT, &act, &p->was[0]);
    sigaction(SIGTERM, &act, &p->was[1]);
    if (p->live) /* the shell had the terminal meanwhile */
        sigaction(SIGCONT, &(struct sigaction){.sa_handler = on_continued, .sa_flags = SA_RESTART}, NULL);
    *out = p;
    return 0;
}

void progress_close(struct progress *p)
{
    if (!p)
        return;
    live_end(&p->view);
    sigaction(SIGINT, &p->was[0], NULL);
    sigaction(SIGTERM, &p->was[1], NULL);
    signal(SIGCONT, SIG_DFL);
    tasks_done(p->tasks);
    strv_done(p->unwell);
    strv_done(p->errors);
    strv_done(p->told);
    free(p);
}

bool progress_interrupted(void)
{
    return interrupts;
}

bool progress_tick(void *progress)
{
    struct progress *p = progress;

    if (continued)
        live_forget(&p->view);
    continued = 0;
    if (p->live)
        live_draw(&p->view, &p->tasks, now_ms());
    return !interrupts;
}

/* Above the live view, or right away. */
static void emit(struct progress *p, struct text *t)
{
    if (t->failed || !t->len)
        return;
    if (p->live)
        text_add(&p->view.above, t->s);
    else
        term_write(t);
}

static void note_unwell(struct progress *p, const char *guest)
{
    if (*guest && !strv_has(&p->unwell, guest))
        strv_add(&p->unwell, guest);
}

void progress_expect(struct progress *p, const json_t *guests)
{
    json_t *guest;
    size_t i;

    json_array_foreach(guests, i, guest)
        tasks_get(&p->tasks, json_str(guest, "name", ""));
}

/* What a plan has besides guests has words before its name: "network services". */
static void expect_changes(struct progress *p, const json_t *changes)
{
    json_t *change;
    size_t i;

    json_array_foreach(changes, i, change) {
        OWN(str) char *guest = hosts_label(change, "guest");

        if (guest && !strchr(guest, ' ') && strcmp(json_str(change, "class", "none"), "none") != 0)
            tasks_get(&p->tasks, guest);
    }
}

static void on_plan(struct progress *p, const json_t *r)
{
    OWN(text) struct text t = {0};

    if (issues_print(json_object_get(r, "errors"))) {
        p->bad_specs = true;
        return;
    }
    plan_show(r, false, term_has_colour(), &t);
    plan_summary(r, &t);
    emit(p, &t);
    expect_changes(p, json_object_get(r, "changes"));
}

static void on_step(struct progress *p, const json_t *r)
{
    const char *guest = json_str(r, "guest", ""), *step = json_str(r, "step", ""), *text = json_str(r, "text", "");
    const char *state = json_str(r, "state", "");
    struct task *task = tasks_get(&p->tasks, guest);
    OWN(text) struct text t = {0};
    char lasted[HUMAN_MAX];

    if (!task || !strcmp(state, "skipped"))
        return;
    if (!strcmp(state, "started")) {
        task_begin(task, step, text, now_ms());
        return;
    }
    human_seconds(json_object_get(r, "duration"), lasted);
    term_add_visible(&t, guest);
    text_add(&t, ": ");
    if (task->step.len && !strncmp(task->step.s, step, strlen(step)))
        text_add(&t, task->step.s); /* with what its beginning told */
    else
        term_add_visible(&t, step);
    if (!strcmp(state, "failed")) { /* why, the guest's end will tell */
        if (!strcmp(step, "health"))
            note_unwell(p, guest);
        term_add_styled(&t, " failed", STYLE_RED, term_has_colour());
        text_addf(&t, " after %s\n", lasted);
        task_add_tail(task, &t);
        emit(p, &t);
    } else if (!p->live) {
        text_addf(&t, " done in %s\n", lasted);
        emit(p, &t);
    }
}

static void on_output(struct progress *p, const json_t *r)
{
    const char *guest = json_str(r, "guest", "");
    struct task *task = tasks_get(&p->tasks, guest);
    const json_t *text = json_object_get(r, "text");
    OWN(text) struct text t = {0};

    if (!task || !json_is_string(text))
        return;
    task_output(task, json_string_value(text), json_string_length(text));
    if (p->live || strcmp(json_str(r, "step", ""), "health") != 0)
        return;
    term_add_visible(&t, guest);
    text_add(&t, ": waits for ");
    text_add_visible(&t, json_string_value(text), strcspn(json_string_value(text), "\n"), NULL);
    text_add(&t, "\n");
    emit(p, &t);
}

static void on_waiting(struct progress *p, const json_t *r)
{
    const char *guest = json_str(r, "guest", "");
    struct task *task = tasks_get(&p->tasks, guest);
    OWN(str) char *names = human_list(json_object_get(r, "for"));
    OWN(text) struct text t = {0};

    if (!task || !names)
        return;
    text_addf(&t, "waits for %s", names);
    if (!t.failed)
        task_rest(task, TASK_WAITS, t.s, now_ms());
    if (p->live)
        return;
    t.len = 0;
    term_add_visible(&t, guest);
    text_add(&t, ": waits for ");
    term_add_visible(&t, names);
    text_add(&t, "\n");
    emit(p, &t);
}

static void on_guest(struct progress *p, const json_t *r)
{
    const char *guest = json_str(r, "guest", ""), *state = json_str(r, "state", "");
    const char *class = p->verb ? p->verb : json_str(r, "class", "");
    const char *error = json_str(r, "error", "");
    const char *how = !strcmp(state, "done") || !strcmp(state, "blocked") ? state : "failed";
    struct task *task = tasks_get(&p->tasks, guest);
    OWN(text) struct text t = {0};
    char lasted[HUMAN_MAX];

    if (!task)
        return;
    task_rest(task, !strcmp(state, "done") ? TASK_DONE : !strcmp(state, "blocked") ? TASK_BLOCKED : TASK_FAILED, error,
              now_ms());
    if (strcmp(state, "done") != 0 && strcmp(state, "blocked") != 0 && *class) /* else nothing was begun */
        note_unwell(p, guest);
    if (!strcmp(class, "none"))
        class = "";
    term_add_visible(&t, guest);
    text_add(&t, ": ");
    term_add_visible(&t, class);
    text_add(&t, *class ? " " : "");
    term_add_styled(&t, how, term_style_of(how), term_has_colour());
    if (json_num(r, "duration", 0) > 0)
        text_addf(&t, " in %s", human_seconds(json_object_get(r, "duration"), lasted));
    if (*error) {
        text_add(&t, ": ");
        term_add_visible(&t, error);
        strv_addf(&p->told, "%s: %s", guest, error);
    }
    text_add(&t, "\n");
    emit(p, &t);
}

/* A number, or a list of names, which are remembered as not well. */
static size_t count(struct progress *p, const json_t *v, bool unwell)
{
    const json_t *name;
    size_t i;

    if (!json_is_array(v))
        return json_integer_value(v) > 0 ? (size_t)json_integer_value(v) : 0;
    json_array_foreach(v, i, name)
        if (unwell && json_string_value(name))
            note_unwell(p, json_string_value(name));
    return json_array_size(v);
}

static void on_result(struct progress *p, const json_t *r)
{
    const json_t *error;
    size_t i;
    double seconds = json_num(r, "duration", 0);

    p->results++;
    p->not_ok |= !json_flag(r, "ok", false);
    p->changed += count(p, json_object_get(r, "changed"), false);
    p->failed += count(p, json_object_get(r, "failed"), true);
    p->blocked += count(p, json_object_get(r, "blocked"), false);
    p->unhealthy += count(p, json_object_get(r, "unhealthy"), true);
    if (seconds > p->seconds)
        p->seconds = seconds;
    json_array_foreach(json_object_get(r, "errors"), i, error)
        if (json_string_value(error))
            strv_add(&p->errors, json_string_value(error));
}

int progress_record(const json_t *record, void *progress, struct vm_err *e)
{
    static const struct {
        const char *type;
        void (*on)(struct progress *p, const json_t *r);
    } types[] = {
        {"plan", on_plan},       {"step", on_step},   {"output", on_output},
        {"waiting", on_waiting}, {"guest", on_guest}, {"result", on_result},
    };
    struct progress *p = progress;
    const char *type = json_str(record, "type", "");

    if (p->json) {
        if (cli_print_json_line(record) < 0)
            return vm_fail_sys(e, "write to standard output");
        p->bad_specs |= !strcmp(type, "plan") && issues_errors(json_object_get(record, "errors"));
        if (!strcmp(type, "result"))
            on_result(p, record);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (!strcmp(type, types[i].type))
            types[i].on(p, record);
    return 0;
}

static void add_count(struct text *t, size_t n, const char *what)
{
    if (n)
        text_addf(t, ", %zu %s", n, what);
}

/* "left/db" is on one of several hosts. */
static void say_where(const struct progress *p, const char *guest)
{
    const char *slash = strrchr(guest, '/'), *name = slash ? slash + 1 : guest;
    OWN(str) char *host = slash ? strndup(guest, (size_t)(slash - guest)) : NULL;
    OWN(str) char *vmctl = hosts_command(host ? host : p->host);

    if (vmctl)
        term_say("%s: look with %s show %s, %s logs %s --install", guest, vmctl, name, vmctl, name);
}

static void summary(struct progress *p)
{
    OWN(text) struct text t = {0};
    char lasted[HUMAN_MAX];
    OWN(json) json_t *seconds = json_real(p->seconds);

    text_addf(&t, "%zu changed", p->changed);
    add_count(&t, p->failed, "failed");
    add_count(&t, p->blocked, "blocked");
    add_count(&t, p->unhealthy, "not healthy");
    text_addf(&t, " in %s", human_seconds(seconds, lasted));
    if (!t.failed)
        term_say("%s", t.s);
    for (size_t i = 0; i < p->errors.n; i++)
        if (!strv_has(&p->told, p->errors.v[i]))
            term_complain("%s", p->errors.v[i]);
    for (size_t i = 0; i < p->unwell.n; i++)
        say_where(p, p->unwell.v[i]);
}

int progress_finish(struct progress *p, size_t streams)
{
    live_end(&p->view);
    if (interrupts) {
        term_complain("stopped watching; vmsd goes on with the work, vmctl jobs shows it");
        return EXIT_FAILED;
    }
    if (p->bad_specs && !p->json)
        term_complain("the specs have errors; nothing was done%s", streams > 1 ? " there" : "");
    if (p->bad_specs && streams < 2)
        return EXIT_USAGE;
    if (p->results < streams) {
        term_complain("vmsd ended its answer without a result; once it runs it goes on with the work, vmctl jobs shows it");
        return EXIT_FAILED;
    }
    if (!p->json)
        summary(p);
    if (p->bad_specs)
        return EXIT_USAGE;
    if (p->failed || p->blocked)
        return EXIT_FAILED;
    return p->unhealthy ? EXIT_UNHEALTHY : p->not_ok ? EXIT_FAILED : EXIT_DONE;
}

int progress_post(struct cli *cli, const char *path, const void *body, size_t n, struct progress *p, struct vm_err *e)
{
    struct stream_records records = {.record = progress_record, .arg = p};
    struct transfer t = {
        .method = "POST", .path = path, .body = body, .n = n, .sink = stream_records_sink, .arg = &records};

    if (client_run(&cli->client, &t, 1, progress_tick, p, e) < 0)
        return -1;
    if (progress_interrupted()) {
        text_done(records.line);
        return 0;
    }
    if (stream_records_end(&records, t.failed ? NULL : e) < 0 && !t.failed)
        return -1;
    if (t.failed)
        *e = t.err;
    return t.failed ? -1 : 0;
}
