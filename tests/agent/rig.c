#include "rig.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEEP_MAX = 4 << 20, CALL_MS = 20000 };

struct rig rig;

static void on_up(void *arg)
{
    (void)arg;
    rig.up = true;
    loop_quit(rig.loop);
}

static void on_down(void *arg, const char *why)
{
    (void)arg;
    ck_assert_str_eq(rig.down, ""); /* once */
    snprintf(rig.down, sizeof(rig.down), "%s", why);
    loop_quit(rig.loop);
}

static pid_t start_agent(int fd, const char *script)
{
    char all[1024];
    snprintf(all, sizeof(all), "set -e; %s\nexec %s --fd 9", script ? script : "", AGENT_PROGRAM);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd, 9);
        if (!script)
            execl(AGENT_PROGRAM, "vms-agent", "--fd", "9", (char *)NULL);
        else if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
            execl("/bin/sh", "sh", "-c", all, (char *)NULL);
        _exit(127);
    }
    return pid;
}

void rig_start(void)
{
    rig_start_after(NULL);
}

void rig_start_after(const char *script)
{
    struct vm_err e;
    int sv[2];
    rig = (struct rig){ 0 };
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    rig.pid = start_agent(sv[1], script);
    close(sv[1]);
    ck_assert_msg(loop_open(4, &rig.loop, &e) == 0, "%s", e.text);
    struct agent_events ev = { .up = on_up, .down = on_down };
    ck_assert_msg(agent_open(rig.loop, sv[0], ev, &rig.agent, &e) == 0, "%s", e.text);
    rig_until(&rig.up, 5000);
}

int rig_agent_ended(int64_t ms)
{
    int status = -1;
    for (struct deadline d = deadline_in(ms); waitpid(rig.pid, &status, WNOHANG) == 0; sleep_ms(10))
        ck_assert_msg(deadline_left(d) > 0, "vms-agent did not end");
    rig.pid = 0;
    return status;
}

void rig_stop(void)
{
    agent_close(rig.agent);
    if (rig.pid)
        ck_assert_int_eq(rig_agent_ended(15000), 0);
    loop_close(rig.loop);
}

static void on_late(void *arg)
{
    (void)arg;
    rig.late = true;
    loop_quit(rig.loop);
}

static void run(const bool *flag, int64_t ms)
{
    struct loop_timer *t = NULL;
    struct vm_err e;
    rig.late = false;
    ck_assert(loop_timer_new(rig.loop, on_late, NULL, &t, &e) == 0);
    loop_timer_set(t, ms, 0);
    while (!rig.late && !(flag && *flag))
        ck_assert_msg(loop_run(rig.loop, &e) == 0, "%s", e.text);
    loop_timer_free(t);
}

void rig_until(const bool *flag, int64_t ms)
{
    run(flag, ms);
    ck_assert_msg(*flag, "it did not happen within %lld ms; session: %s", (long long)ms, rig.down);
}

void rig_for(int64_t ms)
{
    run(NULL, ms);
}

/* ---- calls ---- */

static void on_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct call *c = arg;
    struct text *t = ch == AGENT_STDOUT ? &c->out : &c->err;
    c->n_out += n;
    if (t->len + n <= KEEP_MAX)
        text_add_bytes(t, p, n);
}

static void feed(void *arg)
{
    struct call *c = arg;
    while (c->input && c->fed < c->n_input) {
        size_t n = c->n_input - c->fed > 50000 ? 50000 : c->n_input - c->fed;
        if (agent_stream_write(c->s, c->input + c->fed, n) < 0)
            return;
        c->fed += n;
    }
    if (c->input)
        agent_stream_eof(c->s);
}

static void on_end(const struct agent_result *r, void *arg)
{
    struct call *c = arg;
    ck_assert(!c->ended);
    c->ended = true;
    c->r = *r;
    c->s = NULL;
    loop_quit(rig.loop);
}

struct call *call_begin(struct call *c, const char *first, ...)
{
    OWN(strv) struct strv request = { 0 };
    struct agent_stream_events ev = { .data = on_data, .drained = feed, .end = on_end, .arg = c };
    struct vm_err e;
    va_list ap;

    text_done(c->out);
    text_done(c->err);
    *c = (struct call){ .input = c->input, .n_input = c->n_input };
    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *))
        strv_add(&request, s);
    va_end(ap);
    ck_assert_msg(agent_request(rig.agent, &request, ev, &c->s, &e) == 0, "%s", e.text);
    feed(c);
    return c;
}

void call_wait(struct call *c)
{
    rig_until(&c->ended, CALL_MS);
    text_add(&c->out, "");
    text_add(&c->err, "");
}

void call_done(struct call *c)
{
    text_done(c->out);
    text_done(c->err);
    *c = (struct call){ 0 };
}

int run_suite(const char *name, void (*add)(TCase *t))
{
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    add(t);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
