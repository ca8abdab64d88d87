#include "rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct call c;

#define sh(script, ...) call_run(&c, "op=exec", "arg=/bin/sh", "arg=-c", "arg=" script, ##__VA_ARGS__)

static bool alive(pid_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f) {
        (void)!fscanf(f, "%*d (%*[^)]) %c", &state);
        fclose(f);
    }
    return f && state != 'Z';
}

static void until_dead(pid_t pid, int64_t ms)
{
    for (struct deadline d = deadline_in(ms); alive(pid); sleep_ms(20))
        ck_assert_msg(deadline_left(d) > 0, "process %d lives on", (int)pid);
}

START_TEST(test_exit_codes)
{
    ck_assert(sh("exit 0"));
    ck_assert_int_eq(c.r.exit_code, 0);
    ck_assert(sh("exit 1"));
    ck_assert_int_eq(c.r.exit_code, 1);
    ck_assert(sh("exit 255"));
    ck_assert_int_eq(c.r.exit_code, 255);
    ck_assert_int_eq(c.r.signal, 0);
}
END_TEST

START_TEST(test_signals)
{
    ck_assert(sh("kill -9 $$"));
    ck_assert_int_eq(c.r.signal, 9);
    ck_assert_int_eq(c.r.exit_code, -1);
    ck_assert(sh("kill -PIPE $$")); /* SIGPIPE is what it was */
    ck_assert_int_eq(c.r.signal, SIGPIPE);
    call_begin(&c, "op=exec", "arg=sleep", "arg=100", NULL);
    agent_stream_signal(c.s, SIGUSR1);
    call_wait(&c);
    ck_assert_int_eq(c.r.signal, SIGUSR1);
}
END_TEST

START_TEST(test_not_there)
{
    ck_assert(!call_run(&c, "op=exec", "arg=no-such-program"));
    ck_assert_str_eq(c.r.error, "run 'no-such-program': No such file or directory");
    ck_assert(!c.r.lost);
    ck_assert(!sh("true", "cwd=/no/such"));
    ck_assert_str_eq(c.r.error, "enter directory '/no/such': No such file or directory");
    ck_assert(!sh("true", "user=nobody-of-that-name"));
    ck_assert_str_eq(c.r.error, "no user 'nobody-of-that-name' in this guest");
    ck_assert(!sh("true", "env=NOVALUE"));
    ck_assert(!call_run(&c, "op=exec"));
    ck_assert_str_eq(c.r.error, "exec without arg=");
    ck_assert(!call_run(&c, "op=dance"));
    ck_assert_str_eq(c.r.error, "this vms-agent has no op 'dance'");
    ck_assert(!call_run(&c, "no=op"));
}
END_TEST

START_TEST(test_channels)
{
    ck_assert(sh("echo out; echo err >&2"));
    ck_assert_str_eq(c.out.s, "out\n");
    ck_assert_str_eq(c.err.s, "err\n");
    ck_assert(sh("echo out; echo err >&2", "merge=1"));
    ck_assert_str_eq(c.out.s, "out\nerr\n");
    ck_assert_uint_eq(c.err.len, 0);
}
END_TEST

START_TEST(test_environment)
{
    ck_assert(sh("echo $PATH:$HOME:$USER:$TERM; pwd; echo $A"));
    ck_assert_str_eq(c.out.s, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/root:root:\n/root\n\n");
    ck_assert(sh("echo \"$A\"; echo $HOME; pwd", "env=A=x = y", "env=HOME=/h", "cwd=/usr"));
    ck_assert_str_eq(c.out.s, "x = y\n/h\n/usr\n");
}
END_TEST

START_TEST(test_user)
{
    ck_assert(sh("id -un; id -G; echo $USER $HOME", "user=daemon"));
    ck_assert_str_eq(c.out.s, "daemon\n1\ndaemon /usr/sbin\n");
    ck_assert(sh("id -un; id -gn", "user=daemon:adm"));
    ck_assert_str_eq(c.out.s, "daemon\nadm\n");
    ck_assert(sh("id -u; id -G", "user=54321:54322"));
    ck_assert_str_eq(c.out.s, "54321\n54322\n");
}
END_TEST

/* D14: no fd of the agent, nothing of its signals, session or memory score. */
START_TEST(test_D14_child_is_clean)
{
    ck_assert(sh("for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; cat /proc/self/oom_score_adj;"
                 "grep -E '^Sig(Blk|Ign)' /proc/self/status; [ $(ps -o sid= -p $$) = $$ ] && echo own"));
    ck_assert_str_eq(c.out.s, "0\n1\n2\n0\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nown\n");
}
END_TEST

START_TEST(test_stdin)
{
    enum { BIG = 3 << 20 }; /* many windows, both ways */
    OWN(str) char *big = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (char)(i * 7 + i / 251);
    c.input = big;
    c.n_input = BIG;
    ck_assert(call_run(&c, "op=exec", "arg=cat", "stdin=1"));
    ck_assert_uint_eq(c.out.len, BIG);
    ck_assert_int_eq(memcmp(c.out.s, big, BIG), 0);
    ck_assert(call_run(&c, "op=exec", "arg=true", "stdin=1")); /* reads nothing of it */
    ck_assert_int_eq(c.r.exit_code, 0);
    c.input = NULL;
    ck_assert(call_run(&c, "op=exec", "arg=cat")); /* /dev/null */
    ck_assert_uint_eq(c.out.len, 0);
}
END_TEST

static long agent_rss_kib(void)
{
    char path[64], line[128];
    long kib = -1;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)rig.pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        sscanf(line, "VmRSS: %ld", &kib);
    if (f)
        fclose(f);
    return kib;
}

/* D3: back-pressure up to the writer, and flat memory. */
START_TEST(test_D3_slow_reader)
{
    int64_t begin = now_ms();
    long most = 0;
    call_begin(&c, "op=exec", "arg=head", "arg=-c", "arg=100000000", "arg=/dev/zero", NULL);
    for (int i = 0; !c.ended; i++) {
        agent_stream_pause(c.s, i % 2);
        rig_for(20);
        most = agent_rss_kib() > most ? agent_rss_kib() : most;
        ck_assert_int_lt(now_ms() - begin, 40000);
    }
    ck_assert_uint_eq(c.n_out, 100000000);
    ck_assert_int_eq(c.r.exit_code, 0);
    printf("100 MB in %lld ms, vms-agent at most %ld KiB\n", (long long)(now_ms() - begin), most);
    ck_assert_int_lt(most, 2048);
    call_begin(&c, "op=exec", "arg=head", "arg=-c", "arg=100000000", "arg=/dev/zero", NULL);
    begin = now_ms();
    call_wait(&c);
    printf("100 MB without pause in %lld ms\n", (long long)(now_ms() - begin));
}
END_TEST

START_TEST(test_stalled_stream_blocks_nobody)
{
    struct call stalled = { 0 };
    call_begin(&stalled, "op=exec", "arg=yes", NULL);
    agent_stream_pause(stalled.s, true);
    rig_for(300);
    uint64_t before = stalled.n_out;
    ck_assert_uint_eq(before, FRAME_WINDOW); /* the whole credit, and no more */
    for (int i = 0; i < 20; i++)
        ck_assert(sh("echo fine"));
    ck_assert_uint_eq(stalled.n_out, before);
    agent_stream_pause(stalled.s, false);
    rig_for(100);
    ck_assert_uint_gt(stalled.n_out, before);
    agent_stream_cancel(stalled.s);
    call_wait(&stalled);
    ck_assert_int_eq(stalled.r.signal, SIGTERM);
    call_done(&stalled);
}
END_TEST

/* A program that does not read: its stdin fills up, others go on. */
START_TEST(test_unread_stdin_blocks_nobody)
{
    struct call deaf = { .input = calloc(1, 1 << 20), .n_input = 1 << 20 };
    call_begin(&deaf, "op=exec", "arg=sleep", "arg=100", "stdin=1", NULL);
    rig_for(200);
    ck_assert_uint_lt(deaf.fed, deaf.n_input);
    ck_assert(sh("echo fine"));
    agent_stream_cancel(deaf.s);
    call_wait(&deaf);
    free((char *)deaf.input);
    call_done(&deaf);
}
END_TEST

START_TEST(test_background_does_not_hold)
{
    int64_t begin = now_ms();
    ck_assert(sh("echo now; (sleep 5; echo late) & exit 3"));
    ck_assert_int_eq(c.r.exit_code, 3);
    ck_assert_str_eq(c.out.s, "now\n");
    ck_assert_int_lt(now_ms() - begin, 2000);
    ck_assert(sh("yes & sleep 0.2; exit 4")); /* nor one that writes without end */
    ck_assert_int_eq(c.r.exit_code, 4);
}
END_TEST

/* ---- the end of things ---- */

static pid_t first_line_pid(struct call *of)
{
    for (int i = 0; i < 100 && !(of->out.s && strchr(of->out.s, '\n')); i++)
        rig_for(20);
    ck_assert_ptr_nonnull(of->out.s);
    return (pid_t)atoi(of->out.s);
}

START_TEST(test_cancel_kills_the_group)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* we are init, and a quick one: the group is empty when its last one is reaped */
    call_begin(&c, "op=exec", "arg=sh", "arg=-c", "arg=sleep 100 & echo $!; wait", NULL);
    pid_t inner = first_line_pid(&c);
    int64_t begin = now_ms();
    ck_assert(alive(inner));
    agent_stream_cancel(c.s);
    while (!c.ended) {
        rig_for(20);
        waitpid(inner, NULL, WNOHANG);
    }
    ck_assert_int_eq(c.r.signal, SIGTERM);
    ck_assert(!alive(inner));
    ck_assert_int_lt(now_ms() - begin, 1000); /* no grace where none is needed */
}
END_TEST

/* One of the group ignores SIGTERM: it gets its 2 s, then SIGKILL; END comes after that. */
START_TEST(test_cancel_kills_the_stubborn)
{
    call_begin(&c, "op=exec", "arg=sh", "arg=-c", "arg=(trap '' TERM; exec sh -c 'echo $$; while :; do sleep 0.1; done') & wait", NULL);
    pid_t inner = first_line_pid(&c);
    int64_t begin = now_ms();
    agent_stream_cancel(c.s);
    call_wait(&c);
    ck_assert_int_ge(now_ms() - begin, 1900);
    ck_assert_int_lt(now_ms() - begin, 4000);
    until_dead(inner, 500);
}
END_TEST

START_TEST(test_cancel_lets_handlers_speak)
{
    char path[] = "/tmp/vmsd-cancel-XXXXXX", script[200];
    close(mkstemp(path));
    snprintf(script, sizeof(script), "arg=trap 'echo bye && echo cleaned > %s; exit 7' TERM; echo $$; while :; do sleep 0.05; done", path);
    call_begin(&c, "op=exec", "arg=sh", "arg=-c", script, NULL);
    first_line_pid(&c);
    agent_stream_cancel(c.s);
    call_wait(&c);
    ck_assert_int_eq(c.r.exit_code, 7);
    char said[16] = "";
    FILE *f = fopen(path, "re");
    ck_assert(f && fgets(said, sizeof(said), f));
    fclose(f);
    unlink(path);
    ck_assert_str_eq(said, "cleaned\n");
}
END_TEST

/* An install script must never run twice: when the host is gone, so is all that runs, before the agent ends. */
START_TEST(test_session_end_kills_all)
{
    struct call other = { 0 };
    call_begin(&c, "op=exec", "arg=sh", "arg=-c", "arg=sleep 100 & echo $!; wait", NULL);
    call_begin(&other, "op=exec", "arg=sh", "arg=-c", "arg=trap '' TERM; echo $$; while :; do sleep 0.1; done", NULL);
    pid_t one = first_line_pid(&c), two = first_line_pid(&other);
    agent_close(rig.agent);
    rig.agent = NULL;
    ck_assert(c.ended && c.r.lost && !c.r.ok);
    ck_assert(other.ended && other.r.lost);
    ck_assert_int_eq(rig_agent_ended(5000), 0);
    ck_assert(!alive(one));
    ck_assert(!alive(two));
    call_done(&other);
}
END_TEST

START_TEST(test_agent_killed)
{
    call_begin(&c, "op=exec", "arg=sh", "arg=-c", "arg=echo $$; exec sleep 100", NULL);
    pid_t pid = first_line_pid(&c);
    kill(rig.pid, SIGKILL);
    call_wait(&c);
    ck_assert(c.r.lost);
    ck_assert_str_eq(c.r.error, "the agent closed the connection");
    ck_assert_str_eq(rig.down, c.r.error);
    rig_agent_ended(1000);
    until_dead(pid, 1000);
    struct agent_stream *s;
    struct vm_err e = { 0 };
    ck_assert_int_eq(agent_request(rig.agent, &(struct strv){ 0 }, (struct agent_stream_events){ 0 }, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
}
END_TEST

START_TEST(test_streams_bound)
{
    struct call many[FRAME_STREAMS_MAX] = { 0 };
    OWN(strv) struct strv one = { 0 };
    struct agent_stream *s;
    struct vm_err e = { 0 };
    for (int i = 0; i < FRAME_STREAMS_MAX; i++)
        call_begin(&many[i], "op=exec", "arg=sleep", "arg=100", NULL);
    strv_add(&one, "op=ping");
    ck_assert_int_eq(agent_request(rig.agent, &one, (struct agent_stream_events){ 0 }, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
    for (int i = 0; i < FRAME_STREAMS_MAX; i++)
        agent_stream_cancel(many[i].s);
    for (int i = 0; i < FRAME_STREAMS_MAX; i++) {
        call_wait(&many[i]);
        ck_assert_int_eq(many[i].r.signal, SIGTERM);
        call_done(&many[i]);
    }
    ck_assert(call_run(&c, "op=ping"));
}
END_TEST

START_TEST(test_request_bounds)
{
    OWN(strv) struct strv many = { 0 }, big = { 0 };
    OWN(str) char *text = calloc(1, FRAME_PAYLOAD_MAX);
    struct agent_stream *s;
    struct vm_err e = { 0 };
    memset(text, 'x', FRAME_PAYLOAD_MAX - 1);
    text[1] = '=';
    strv_add(&big, text);          /* with its NUL exactly the bound … */
    strv_add(&big, "a=b");         /* … and past it */
    ck_assert_int_eq(agent_request(rig.agent, &big, (struct agent_stream_events){ 0 }, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TOO_LARGE);
    for (int i = 0; i <= FRAME_PAIRS_MAX; i++)
        strv_add(&many, "a=b");
    ck_assert_int_eq(agent_request(rig.agent, &many, (struct agent_stream_events){ 0 }, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TOO_LARGE);
    ck_assert_int_eq(agent_request(rig.agent, &(struct strv){ 0 }, (struct agent_stream_events){ 0 }, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_INVALID);

    memcpy(text, "env=A=", 6);     /* as large as can be: 64 KiB of it arrive */
    text[FRAME_PAYLOAD_MAX - 60] = '\0';
    ck_assert(call_run(&c, "op=exec", "arg=sh", "arg=-c", "arg=echo ${#A}", text));
    ck_assert_int_eq(atoi(c.out.s), FRAME_PAYLOAD_MAX - 60 - 6);
}
END_TEST

/* ---- terminals ---- */

START_TEST(test_terminal)
{
    ck_assert(sh("test -t 0 && test -t 1 && test -t 2 && stty size && tty && echo $TERM", "pty=31x97"));
    ck_assert_ptr_nonnull(strstr(c.out.s, "31 97\r\n/dev/pts/"));
    ck_assert_ptr_nonnull(strstr(c.out.s, "vt220\r\n"));
    ck_assert(sh("stat -c %U $(tty); : < /dev/tty && echo mine", "pty=1x1", "user=daemon"));
    ck_assert_str_eq(c.out.s, "daemon\r\nmine\r\n");
    ck_assert(!sh("true", "pty=big"));
    ck_assert_str_eq(c.r.error, "pty=big is not ROWSxCOLS");
}
END_TEST

START_TEST(test_terminal_resize)
{
    call_begin(&c, "op=exec", "arg=bash", "arg=-c", "arg=trap 'stty size; exit 5' WINCH; echo 0; while :; do sleep 0.05; done",
               "pty=24x80", NULL);
    first_line_pid(&c);
    agent_stream_resize(c.s, 50, 132);
    call_wait(&c);
    ck_assert_int_eq(c.r.exit_code, 5);
    ck_assert_str_eq(c.out.s, "0\r\n50 132\r\n");
}
END_TEST

START_TEST(test_terminal_input)
{
    c.input = "hello\n"; /* then EOF, as ^D */
    c.n_input = 6;
    ck_assert(call_run(&c, "op=exec", "arg=sh", "arg=-c", "arg=stty -echo; cat; echo over", "pty=24x80"));
    ck_assert_ptr_nonnull(strstr(c.out.s, "hello\r\n"));
    ck_assert_ptr_nonnull(strstr(c.out.s, "over\r\n"));
    c.input = NULL;
}
END_TEST

START_TEST(test_terminal_output_is_whole)
{
    for (int i = 0; i < 20; i++) {
        ck_assert(sh("seq 1 5000", "pty=24x80"));
        ck_assert_uint_ge(c.out.len, 6);
        ck_assert_str_eq(c.out.s + c.out.len - 6, "5000\r\n");
        ck_assert_uint_eq(c.out.len, 28893);
    }
}
END_TEST

/* An interactive shell ignores SIGTERM; the hang-up of its terminal ends it, and the job in the foreground. */
START_TEST(test_terminal_cancel)
{
    int64_t begin = now_ms();
    call_begin(&c, "op=exec", "arg=bash", "arg=--norc", "arg=-i", "pty=24x80", NULL);
    agent_stream_write(c.s, "sleep 1234\n", 11);
    rig_for(300);
    agent_stream_cancel(c.s);
    call_wait(&c);
    ck_assert_int_lt(now_ms() - begin, 4500);
    ck_assert(sh("pgrep -f '[s]leep 1234'"));
    ck_assert_int_eq(c.r.exit_code, 1);
}
END_TEST

static void set_up(void)
{
    c = (struct call){ 0 };
    rig_start();
}

static void tear_down(void)
{
    rig_stop();
    call_done(&c);
}

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_exit_codes);
    tcase_add_test(t, test_signals);
    tcase_add_test(t, test_not_there);
    tcase_add_test(t, test_channels);
    tcase_add_test(t, test_environment);
    tcase_add_test(t, test_user);
    tcase_add_test(t, test_D14_child_is_clean);
    tcase_add_test(t, test_stdin);
    tcase_add_test(t, test_D3_slow_reader);
    tcase_add_test(t, test_stalled_stream_blocks_nobody);
    tcase_add_test(t, test_unread_stdin_blocks_nobody);
    tcase_add_test(t, test_background_does_not_hold);
    tcase_add_test(t, test_cancel_kills_the_group);
    tcase_add_test(t, test_cancel_kills_the_stubborn);
    tcase_add_test(t, test_cancel_lets_handlers_speak);
    tcase_add_test(t, test_session_end_kills_all);
    tcase_add_test(t, test_agent_killed);
    tcase_add_test(t, test_streams_bound);
    tcase_add_test(t, test_request_bounds);
    tcase_add_test(t, test_terminal);
    tcase_add_test(t, test_terminal_resize);
    tcase_add_test(t, test_terminal_input);
    tcase_add_test(t, test_terminal_output_is_whole);
    tcase_add_test(t, test_terminal_cancel);
}

int main(void)
{
    return run_suite("agent-exec", add);
}
