#include "rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* agent_exec_wait on a worker, while the test's thread runs the loop. */
static struct job {
    struct agent_exec x;
    int64_t ms;
    bool no_agent, done;
    int rc;
    struct agent_result r;
    struct vm_err e;
    int64_t took_ms;
} j;

static struct agent *get(void *arg)
{
    (void)arg;
    ck_assert(loop_is_here(rig.loop));
    return j.no_agent ? NULL : rig.agent;
}

static void job_run(void *arg)
{
    struct agent_wait w = { .loop = rig.loop, .get = get };
    int64_t begin = now_ms();
    (void)arg;
    j.rc = agent_exec_wait(&w, &j.x, deadline_in(j.ms), &j.r, &j.e);
    j.took_ms = now_ms() - begin;
}

static void job_done(void *arg, bool cancelled)
{
    (void)arg, (void)cancelled;
    j.done = true;
    loop_quit(rig.loop);
}

static void begin(const char *script)
{
    struct loop_job job = { .run = job_run, .done = job_done };
    struct vm_err e;
    strv_add(&j.x.request, "op=exec");
    strv_add(&j.x.request, "arg=sh");
    strv_add(&j.x.request, "arg=-c");
    strv_addf(&j.x.request, "arg=%s", script);
    strv_add(&j.x.request, "stdin=1");
    ck_assert_int_eq(loop_work(rig.loop, job, &e), 0);
}

static void run(const char *script)
{
    begin(script);
    rig_until(&j.done, 15000);
}

START_TEST(test_result_and_output)
{
    j.x.output_max = 100;
    run("echo out; echo err >&2; exit 5");
    ck_assert_int_eq(j.rc, 0);
    ck_assert(j.r.ok);
    ck_assert_int_eq(j.r.exit_code, 5);
    ck_assert_uint_eq(j.x.n_output, 8);
    ck_assert_uint_eq(strlen(j.x.output), 8);
}
END_TEST

static uint64_t seen;

static void on_output(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    (void)ch, (void)p, (void)arg;
    ck_assert(loop_is_here(rig.loop));
    seen += n;
}

START_TEST(test_output_bound)
{
    j.x.output_max = 1000;
    j.x.on_output = on_output;
    run("head -c 1000000 /dev/zero");
    ck_assert_int_eq(j.rc, 0);
    ck_assert_uint_eq(j.x.n_output, 1000);
    ck_assert_uint_eq(seen, 1000000);
}
END_TEST

START_TEST(test_no_output_kept)
{
    run("echo lost");
    ck_assert_int_eq(j.rc, 0);
    ck_assert_ptr_null(j.x.output);
}
END_TEST

START_TEST(test_large_input)
{
    enum { BIG = 5 << 20 };
    OWN(str) char *big = malloc(BIG);
    memset(big, 'x', BIG);
    j.x.input = big;
    j.x.n_input = BIG;
    j.x.output_max = 100;
    run("sleep 0.1; wc -c");
    ck_assert_int_eq(j.rc, 0);
    ck_assert_int_eq(atoi(j.x.output), BIG);
}
END_TEST

START_TEST(test_guest_could_not)
{
    strv_add(&j.x.request, "cwd=/no/such");
    run("true");
    ck_assert_int_eq(j.rc, 0);
    ck_assert(!j.r.ok);
    ck_assert_str_eq(j.r.error, "enter directory '/no/such': No such file or directory");
}
END_TEST

START_TEST(test_deadline)
{
    char path[] = "/tmp/vmsd-wait-XXXXXX", script[100];
    close(mkstemp(path));
    snprintf(script, sizeof(script), "trap '' TERM; while :; do echo >> %s; sleep 0.05; done", path);
    j.ms = 300;
    run(script);
    ck_assert_int_eq(j.rc, -1);
    ck_assert_int_eq(j.e.code, VM_E_TIMEOUT);
    ck_assert_int_ge(j.took_ms, 300 + 1900); /* SIGTERM did not help: the grace, then SIGKILL */
    ck_assert_int_lt(j.took_ms, 5000);
    unlink(path);
    sleep_ms(200);
    ck_assert_int_ne(access(path, F_OK), 0); /* it has ended when the wait has */
}
END_TEST

START_TEST(test_no_agent)
{
    j.no_agent = true;
    run("true");
    ck_assert_int_eq(j.rc, -1);
    ck_assert_int_eq(j.e.code, VM_E_UNAVAILABLE);
}
END_TEST

START_TEST(test_agent_goes_down)
{
    begin("sleep 100");
    rig_for(200);
    kill(rig.pid, SIGKILL);
    rig_until(&j.done, 2000);
    ck_assert_int_eq(j.rc, -1);
    ck_assert_int_eq(j.e.code, VM_E_UNAVAILABLE);
    ck_assert_str_eq(j.e.text, "lost the guest's agent: the agent closed the connection");
    rig_agent_ended(1000);
}
END_TEST

START_TEST(test_session_closed)
{
    begin("sleep 100");
    rig_for(200);
    agent_close(rig.agent);
    rig.agent = NULL;
    rig_until(&j.done, 2000);
    ck_assert_int_eq(j.e.code, VM_E_UNAVAILABLE);
}
END_TEST

static void set_up(void)
{
    j = (struct job){ .ms = 10000 };
    rig_start();
}

static void tear_down(void)
{
    rig_stop();
    strv_done(j.x.request);
    free(j.x.output);
}

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_result_and_output);
    tcase_add_test(t, test_output_bound);
    tcase_add_test(t, test_no_output_kept);
    tcase_add_test(t, test_large_input);
    tcase_add_test(t, test_guest_could_not);
    tcase_add_test(t, test_deadline);
    tcase_add_test(t, test_no_agent);
    tcase_add_test(t, test_agent_goes_down);
    tcase_add_test(t, test_session_closed);
}

int main(void)
{
    return run_suite("agent-wait", add);
}
