/* One notice, to one receiver. Words of a guest are in it: they are data, in JSON, in a variable or in the body of a mail, and
 * never part of a program's arguments or of a mail's header. */
#include "alert.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/clock.h>
#include <vmsd/path.h>
#include <vmsd/post.h>

enum { URL_MAX = 2048 };

/* "https://hooks.example.org": what a URL says without its secrets. */
static char *host_of(const char *url)
{
    const char *rest = strstr(url, "://");
    size_t n = rest ? strcspn(rest + 3, "/?#") : 0;
    const char *at = rest ? memrchr(rest + 3, '@', n) : NULL, *from = at ? at + 1 : rest ? rest + 3 : url;

    return rest ? text_format("%.*s%.*s", (int)(rest + 3 - url), url, (int)(rest + 3 + n - from), from) : text_format("?");
}

char *alert_channel(size_t i, const struct spec_notify *to)
{
    OWN(str) char *host = NULL;

    switch (to->kind) {
    case NOTIFY_COMMAND: return text_format("notify[%zu]: command %s", i, to->command.v[0]);
    case NOTIFY_WEBHOOK_FILE: return text_format("notify[%zu]: webhook of %s", i, to->webhook_file);
    case NOTIFY_MAIL: return text_format("notify[%zu]: mail to %s", i, to->mail);
    case NOTIFY_WEBHOOK: break;
    }
    host = host_of(to->webhook);
    return host ? text_format("notify[%zu]: webhook %s", i, host) : NULL;
}

static const char *time_or(int64_t at, char out[static CLOCK_TEXT], const char *otherwise)
{
    return at ? wall_text(at, out) : otherwise;
}

static json_t *notice_json(const struct store_notice *n, const char *host)
{
    const struct store_alert *a = &n->alert;
    char began[CLOCK_TEXT], ended[CLOCK_TEXT];
    json_t *o = json_object();

    json_put_int(o, "id", a->id);
    json_put_str(o, "state", n->what);
    json_put_str(o, "kind", a->kind);
    json_put_str(o, "level", a->level);
    json_put_str(o, "host", host);
    json_put_str(o, "guest", a->guest);
    json_put_str(o, "subject", a->subject);
    json_put_str(o, "text", a->text);
    json_put_str(o, "began_at", time_or(a->began_at, began, NULL));
    json_put_str(o, "ended_at", time_or(a->ended_at, ended, NULL));
    return o;
}

/* What it printed may have a secret in it. */
static int run(const struct child_plan *plan, int64_t timeout_ms, const struct world *w, struct vm_err *e)
{
    struct deadline d = deadline_in(timeout_ms);
    struct child_end end = {0};

    d.cut = &w->stopping;
    if (child_run(plan, d, &end, e) < 0)
        return -1;
    free(end.output);
    if (WIFEXITED(end.status) && WEXITSTATUS(end.status) == 0)
        return 0;
    return vm_fail(e, VM_E_BACKEND, "'%s' %s %d; run it as root to see why", plan->argv[0],
                   WIFEXITED(end.status) ? "ends with status" : "was killed by signal",
                   WIFEXITED(end.status) ? WEXITSTATUS(end.status) : WTERMSIG(end.status));
}

static int send_command(const struct spec_notify *to, const json_t *notice, const struct world *w, struct vm_err *e)
{
    OWN(str) char *input = json_to_text(notice);
    OWN(strv) struct strv env = {0};
    const char *key;
    json_t *v;

    strv_add(&env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    strv_add(&env, "LC_ALL=C.UTF-8");
    json_object_foreach((json_t *)notice, key, v) {
        OWN(text) struct text name = {0};

        for (const char *c = key; *c; c++)
            text_addf(&name, "%c", *c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
        if (json_is_integer(v))
            strv_addf(&env, "VMS_ALERT_%s=%lld", name.s, (long long)json_integer_value(v));
        else
            strv_addf(&env, "VMS_ALERT_%s=%s", name.s, json_is_string(v) ? json_string_value(v) : "");
        env.failed |= name.failed;
    }
    if (!input || env.failed)
        return vm_no_memory(e);
    struct child_plan plan = {.argv = (char *const *)to->command.v, .env = env.v, .input = input, .n_input = strlen(input),
                              .starter = CHILD_COMMAND};
    return run(&plan, to->timeout_ms, w, e);
}

static int send_webhook(const struct spec_notify *to, const char *url, const json_t *notice, struct vm_err *e)
{
    OWN(str) char *body = json_to_text(notice);

    return body ? post_json(url, body, to->timeout_ms, e) : vm_no_memory(e);
}

static int send_webhook_of_file(const struct spec_notify *to, const json_t *notice, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(to->webhook_file, O_RDONLY | O_NONBLOCK, e);
    OWN(str) char *url = NULL;
    size_t n = 0;
    int rc;

    if (fd < 0 || path_read_fd(fd, to->webhook_file, URL_MAX, &url, &n, e) < 0)
        return -1;
    url[strcspn(url, "\r\n")] = '\0';
    if ((strncmp(url, "https://", 8) && strncmp(url, "http://", 7)) || !text_is_clean(url, strlen(url)))
        rc = vm_fail(e, VM_E_INVALID, "%s: its first line is no http or https URL", to->webhook_file);
    else
        rc = send_webhook(to, url, notice, e);
    explicit_bzero(url, n);
    return rc;
}

/* One line of a header, of ASCII. */
static void add_header(struct text *t, const char *s)
{
    for (; *s; s++)
        text_addf(t, "%c", *s >= ' ' && *s <= '~' ? *s : '?');
}

static char *mail_text(const struct spec_notify *to, const struct store_notice *n, const char *host)
{
    const struct store_alert *a = &n->alert;
    char began[CLOCK_TEXT], ended[CLOCK_TEXT];
    struct text t = {0};

    text_addf(&t, "To: %s\nSubject: [vmsd] ", to->mail);
    add_header(&t, host);
    text_addf(&t, ": %s: ", n->what);
    add_header(&t, a->guest ? a->guest : *a->subject ? a->subject : "host");
    text_addf(&t, " %s\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
              "Content-Transfer-Encoding: 8bit\n\n", a->kind);
    text_addf(&t, "%s\n\n", a->text);
    text_addf(&t, "%s %s (%s) of %s on %s\nsince %s\n", n->what, a->kind, a->level, a->guest ? a->guest : "the host", host,
              time_or(a->began_at, began, "?"));
    if (a->ended_at)
        text_addf(&t, "until %s\n", wall_text(a->ended_at, ended));
    text_addf(&t, "\nvmctl alerts shows all of them%s%s.\n", a->guest ? "; vmctl show " : "", a->guest ? a->guest : "");
    return text_take(&t);
}

static int send_mail(const struct spec_notify *to, const struct store_notice *n, const char *host, const struct world *w,
                     struct vm_err *e)
{
    OWN(str) char *mail = mail_text(to, n, host);
    char *argv[] = {(char *)to->sendmail, "-t", "-i", NULL};

    if (!mail)
        return vm_no_memory(e);
    struct child_plan plan = {.argv = argv, .input = mail, .n_input = strlen(mail), .starter = CHILD_COMMAND};
    return run(&plan, to->timeout_ms, w, e);
}

int alert_send(const struct spec_notify *to, const struct store_notice *n, const struct world *w, struct vm_err *e)
{
    char host[65] = "";
    OWN(json) json_t *notice = NULL;

    gethostname(host, sizeof host - 1);
    notice = notice_json(n, host);
    switch (to->kind) {
    case NOTIFY_COMMAND: return send_command(to, notice, w, e);
    case NOTIFY_WEBHOOK: return send_webhook(to, to->webhook, notice, e);
    case NOTIFY_WEBHOOK_FILE: return send_webhook_of_file(to, notice, e);
    case NOTIFY_MAIL: break;
    }
    return send_mail(to, n, host, w, e);
}
