#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/own.h>

static struct vm_err e;

#define ARGV(...) ((char *const[]){__VA_ARGS__, NULL})
#define SH(script) ARGV("sh", "-c", script)

static struct child_end run(struct child_plan plan)
{
    struct child_end end = {0};
    ck_assert_msg(child_run(&plan, deadline_in(20000), &end, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(strlen(end.output), end.n);
    return end;
}

static void expect(struct child_plan plan, const char *output)
{
    struct child_end end = run(plan);
    ck_assert_str_eq(end.output, output);
    ck_assert_int_eq(end.status, 0);
    free(end.output);
}

START_TEST(test_status_and_output_come_back)
{
    struct child_end end = run((struct child_plan){.argv = SH("echo out; echo err >&2; exit 7")});
    ck_assert(WIFEXITED(end.status));
    ck_assert_int_eq(WEXITSTATUS(end.status), 7);
    ck_assert_str_eq(end.output, "out\nerr\n");
    free(end.output);

    end = run((struct child_plan){.argv = SH("kill -9 $$")});
    ck_assert(WIFSIGNALED(end.status));
    ck_assert_int_eq(WTERMSIG(end.status), SIGKILL);
    free(end.output);
}
END_TEST

START_TEST(test_must)
{
    char *out = NULL;
    ck_assert_int_eq(child_must(SH("echo fine"), deadline_in(5000), &out, &e), 0);
    ck_assert_str_eq(out, "fine\n");
    free(out);
    ck_assert_int_eq(child_must(ARGV("true"), deadline_in(5000), NULL, &e), 0);

    char *const *fails = SH("echo first; printf 'no \\033[31mroom\\n\\n'; exit 3");
    ck_assert_int_eq(child_must(fails, deadline_in(5000), NULL, &e), -1);
    ck_assert_int_eq(e.code, VM_E_BACKEND);
    ck_assert_str_eq(e.text, "sh: exit status 3: no \\x1B[31mroom");
    ck_assert_int_eq(child_must(SH("kill -TERM $$"), deadline_in(5000), NULL, &e), -1);
    ck_assert_str_eq(e.text, "sh: killed by signal 15");
}
END_TEST

START_TEST(test_environment_is_empty_but_for_what_is_named)
{
    setenv("CANARY", "secret", 1);
    setenv("LD_PRELOAD", "/nowhere.so", 1);
    expect((struct child_plan){.argv = ARGV("env")},
           "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C.UTF-8\n");
    expect((struct child_plan){.argv = ARGV("/usr/bin/env"), .env = ARGV("A=b")}, "A=b\n");
    unsetenv("LD_PRELOAD");
}
END_TEST

START_TEST(test_input_is_fed_whole)
{
    static char big[1 << 20];
    memset(big, 'x', sizeof big);
    expect((struct child_plan){.argv = ARGV("wc", "-c"), .input = big, .n_input = sizeof big}, "1048576\n");
    expect((struct child_plan){.argv = ARGV("wc", "-c")}, "0\n");
}
END_TEST

START_TEST(test_D14_no_fd_is_inherited)
{
    int leaks[3];
    for (int i = 0; i < 3; i++)
        ck_assert_int_ge(leaks[i] = open("/dev/null", O_RDONLY), 3); /* no O_CLOEXEC */
    /* 3 is the directory that ls reads */
    expect((struct child_plan){.argv = ARGV("ls", "/proc/self/fd")}, "0\n1\n2\n3\n");
    for (int i = 0; i < 3; i++)
        close(leaks[i]);
}
END_TEST

START_TEST(test_signals_are_default_and_unblocked)
{
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    expect((struct child_plan){.argv = ARGV("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")},
           "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}
END_TEST

START_TEST(test_output_is_bounded_and_counted)
{
    struct child_plan plan = {.argv = SH("head -c 100000 /dev/zero | tr '\\0' x"), .output_max = 1000};
    struct child_end end = run(plan);
    ck_assert_uint_eq(end.n, 1000);
    ck_assert_uint_eq(end.dropped, 99000);
    free(end.output);

    plan.output_max = 0;
    end = run(plan);
    ck_assert_uint_eq(end.n, 64 << 10);
    ck_assert_uint_eq(end.dropped, 100000 - (64 << 10));
    free(end.output);

    plan.output_max = 100000; /* at the bound */
    end = run(plan);
    ck_assert_uint_eq(end.n, 100000);
    ck_assert_uint_eq(end.dropped, 0);
    free(end.output);
}
END_TEST

static void count_lines(const char *p, size_t n, void *arg)
{
    for (size_t i = 0; i < n; i++)
        *(unsigned *)arg += p[i] == '\n';
}

START_TEST(test_ten_thousand_lines_arrive)
{
    unsigned lines = 0;
    expect((struct child_plan){.argv = ARGV("seq", "10000"), .on_output = count_lines, .arg = &lines}, "");
    ck_assert_uint_eq(lines, 10000);
    struct child_end end = run((struct child_plan){.argv = ARGV("seq", "10000")});
    ck_assert_uint_eq(end.n, 48894);
    free(end.output);
}
END_TEST

static bool alive(pid_t pid)
{
    struct proc_id id;
    return proc_id_of(pid, &id, NULL) == 0;
}

/* A script tells pids before it hangs; then none of them may be left. */
static pid_t pids[8];
static unsigned n_pids;
static void note_pids(const char *p, size_t n, void *arg)
{
    (void)arg;
    OWN(str) char *s = strndup(p, n);
    char *save = NULL;
    for (char *word = strtok_r(s, "\n", &save); word; word = strtok_r(NULL, "\n", &save))
        pids[n_pids++] = atoi(word);
}

static void expect_timeout(char *script, int64_t ms, int64_t at_most)
{
    struct child_plan plan = {.argv = ARGV("bash", "-c", script), .on_output = note_pids};
    struct child_end end;
    int64_t begin = now_ms();
    n_pids = 0;
    ck_assert_int_eq(child_run(&plan, deadline_in(ms), &end, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    ck_assert_int_le(now_ms() - begin, at_most);
    ck_assert_uint_ge(n_pids, 1);
    sleep_ms(50); /* init reaps */
    for (unsigned i = 0; i < n_pids; i++)
        ck_assert_msg(!alive(pids[i]), "%d lives on", (int)pids[i]);
}

START_TEST(test_timeout_kills_the_whole_session)
{
    expect_timeout("echo $$; sleep 100 & echo $!; sleep 99", 200, 1500);
    /* job control: each job in a process group of its own */
    expect_timeout("set -m; echo $$; sleep 100 & echo $!; (echo $BASHPID; sleep 98) & sleep 99", 200, 1500);
}
END_TEST

START_TEST(test_timeout_kills_those_that_ignore_sigterm)
{
    expect_timeout("trap '' TERM; echo $$; sleep 100 & echo $!; while :; do sleep 1; done", 200, 4000);
}
END_TEST

START_TEST(test_timeout_of_one_that_floods)
{
    struct child_end end;
    struct child_plan plan = {.argv = ARGV("yes")};
    ck_assert_int_eq(child_run(&plan, deadline_in(100), &end, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    ck_assert_str_eq(e.text, "'/usr/bin/yes' took too long and was killed");
}
END_TEST

START_TEST(test_without_time_nothing_is_started)
{
    static char path[] = "/tmp/vmsd-child-XXXXXX";
    struct child_end end;
    int fd = mkstemp(path);

    ck_assert_int_eq(child_run(&(struct child_plan){.argv = ARGV("rm", path)}, deadline_in(0), &end, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    ck_assert_str_eq(e.text, "what came before 'rm' took too long: no time is left for it");
    usleep(100000);
    ck_assert_int_eq(unlink(path), 0);
    close(fd);
}
END_TEST

START_TEST(test_a_background_process_with_the_pipe_does_not_hold_us_up)
{
    int64_t begin = now_ms();
    struct child_end end = run((struct child_plan){.argv = SH("sleep 3 & echo done")});
    ck_assert_str_eq(end.output, "done\n");
    ck_assert_int_lt(now_ms() - begin, 1000);
    free(end.output);
}
END_TEST

static int prepare_fails(void *arg)
{
    return *(int *)arg;
}
static int prepare_hands_over(void *arg)
{
    return fcntl(*(int *)arg, F_SETFD, 0) < 0 ? errno : 0;
}

START_TEST(test_prepare_and_exec_failures_carry_the_errno)
{
    struct child_end end;
    struct child_plan plan = {.argv = ARGV("true"), .prepare = prepare_fails, .prepare_arg = &(int){ENOSPC}};
    ck_assert_int_eq(child_run(&plan, deadline_in(5000), &end, &e), -1);
    ck_assert_int_eq(e.sys, ENOSPC);
    ck_assert_str_eq(e.text, "prepare to run '/usr/bin/true': No space left on device");

    plan = (struct child_plan){.argv = ARGV("/nowhere/program")};
    ck_assert_int_eq(child_run(&plan, deadline_in(5000), &end, &e), -1);
    ck_assert_int_eq(e.sys, ENOENT);
    ck_assert_str_eq(e.text, "run '/nowhere/program': No such file or directory");

    plan = (struct child_plan){.argv = ARGV("no-such-program")};
    ck_assert_int_eq(child_run(&plan, deadline_in(5000), &end, &e), -1);
    ck_assert_int_eq(e.code, VM_E_BACKEND);
    ck_assert_ptr_nonnull(strstr(e.text, "'no-such-program'"));
}
END_TEST

START_TEST(test_prepare_can_hand_an_fd_over)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char script[64];
    snprintf(script, sizeof script, "test -e /proc/self/fd/%d && echo there || echo absent", fd);
    expect((struct child_plan){.argv = SH(script), .prepare = prepare_hands_over, .prepare_arg = &fd}, "there\n");
    expect((struct child_plan){.argv = SH(script)}, "absent\n");
}
END_TEST

/* A process that runs a child and dies: the child must die with it unless it is to survive. */
static bool child_outlives_us(bool survive)
{
    int out[2];
    pid_t grandchild = 0;
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    pid_t us = fork();
    if (us == 0) {
        char script[64];
        struct child_end end;
        snprintf(script, sizeof script, "echo $$ >/proc/%d/fd/%d; exec sleep 30", (int)getpid(), out[1]);
        child_run(&(struct child_plan){.argv = SH(script), .survive = survive}, deadline_in(30000), &end, NULL);
        _exit(0);
    }
    char text[16] = "";
    ck_assert_int_gt(read(out[0], text, sizeof text - 1), 0);
    grandchild = atoi(text);
    kill(us, SIGKILL);
    waitpid(us, NULL, 0);
    sleep_ms(50);
    bool lives = alive(grandchild);
    kill(grandchild, SIGKILL);
    close(out[0]);
    close(out[1]);
    return lives;
}

START_TEST(test_child_dies_with_us_unless_it_is_to_survive)
{
    ck_assert(!child_outlives_us(false));
    ck_assert(child_outlives_us(true));
}
END_TEST

START_TEST(test_L6_identity_of_a_process)
{
    struct proc_id id, other;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, ") Z 1 (");
        pause();
        _exit(0);
    }
    sleep_ms(20);
    ck_assert_msg(proc_id_of(pid, &id, &e) == 0, "%s", e.text);
    ck_assert_int_eq(id.pid, pid);
    ck_assert_uint_eq(strlen(id.boot), 36);
    int fd = proc_id_open(&id, &e);
    ck_assert_int_ge(fd, 0);
    close(fd);

    other = id;
    other.start++; /* the pid was given to an innocent process */
    ck_assert_int_eq(proc_id_open(&other, &e), -1);
    ck_assert_int_eq(e.code, VM_E_ABSENT);
    other = id;
    other.boot[0] ^= 1; /* before the last boot */
    ck_assert_int_eq(proc_id_open(&other, &e), -1);
    ck_assert_int_eq(e.code, VM_E_ABSENT);

    kill(pid, SIGKILL);
    while (alive(pid))
        sleep_ms(1);
    ck_assert_int_eq(proc_id_open(&id, &e), -1); /* a zombie */
    ck_assert_int_eq(e.code, VM_E_ABSENT);
    waitpid(pid, NULL, 0);
    ck_assert_int_eq(proc_id_open(&id, &e), -1); /* gone */
    ck_assert_int_eq(e.code, VM_E_ABSENT);
    id.pid = 0;
    ck_assert_int_eq(proc_id_open(&id, &e), -1);
    ck_assert_int_eq(e.code, VM_E_ABSENT);
}
END_TEST

START_TEST(test_no_fd_and_no_zombie_is_left)
{
    struct child_end end;
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    for (int i = 0; i < 20; i++) {
        end = run((struct child_plan){.argv = ARGV("true"), .input = "x", .n_input = 1});
        free(end.output);
        child_run(&(struct child_plan){.argv = ARGV("/nowhere")}, deadline_in(1000), &end, &e);
        child_run(&(struct child_plan){.argv = ARGV("nowhere")}, deadline_in(1000), &end, &e);
    }
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(after);
    ck_assert_int_eq(before, after);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* How often the word is in our memory, but for the copy that is looked through. */
static unsigned in_memory(const char *word)
{
    enum { REGION_MAX = 64 << 20 };
    char *copy = mmap(NULL, REGION_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), line[512];
    OWN(fd) int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    OWN(file) FILE *maps = fopen("/proc/self/maps", "re");
    unsigned found = 0;

    ck_assert(copy != MAP_FAILED && memory >= 0 && maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char writable;

        ck_assert_int_eq(sscanf(line, "%lx-%lx %*c%c", &from, &to, &writable), 3);
        if (writable != 'w' || to - from > REGION_MAX || ((uintptr_t)copy >= from && (uintptr_t)copy < to))
            continue;
        ssize_t n = pread(memory, copy, to - from, (off_t)from);
        for (char *at = copy; n > 0 && (at = memmem(at, (size_t)(copy + n - at), word, strlen(word))); at++)
            found++;
    }
    munmap(copy, REGION_MAX);
    return found;
}

/* The secret comes in two words, so that it is in the command line of nobody. */
START_TEST(test_A4_secret_output_is_wiped)
{
    static const char script[] = "x=$(head -c 3000 /dev/zero | tr '\\0' x); printf %s%s%s $x canary- 4711; sleep 0.1; "
                                 "head -c 2000 /dev/zero; sleep 0.1; exec sleep $0";
    char word[16];
    struct child_end end;
    struct child_plan plan = {.argv = ARGV("sh", "-c", (char *)script, "0"), .secret = true};

    snprintf(word, sizeof word, "canary%c%d", '-', 4711);
    ck_assert_int_eq(child_run(&plan, deadline_in(20000), &end, &e), 0);
    ck_assert_uint_eq(end.n, 3000 + strlen(word) + 2000);
    ck_assert_uint_eq(in_memory(word), 2); /* in the output and here */
    explicit_bzero(end.output, end.n);
    free(end.output);
    ck_assert_uint_eq(in_memory(word), 1);

    plan.argv = ARGV("sh", "-c", (char *)script, "60");
    ck_assert_int_eq(child_run(&plan, deadline_in(1000), &end, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    ck_assert_uint_eq(in_memory(word), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("child");
    TCase *t = tcase_create("child");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, test_status_and_output_come_back);
    tcase_add_test(t, test_must);
    tcase_add_test(t, test_environment_is_empty_but_for_what_is_named);
    tcase_add_test(t, test_input_is_fed_whole);
    tcase_add_test(t, test_D14_no_fd_is_inherited);
    tcase_add_test(t, test_signals_are_default_and_unblocked);
    tcase_add_test(t, test_output_is_bounded_and_counted);
    tcase_add_test(t, test_ten_thousand_lines_arrive);
    tcase_add_test(t, test_A4_secret_output_is_wiped);
    tcase_add_test(t, test_timeout_kills_the_whole_session);
    tcase_add_test(t, test_without_time_nothing_is_started);
    tcase_add_test(t, test_timeout_kills_those_that_ignore_sigterm);
    tcase_add_test(t, test_timeout_of_one_that_floods);
    tcase_add_test(t, test_a_background_process_with_the_pipe_does_not_hold_us_up);
    tcase_add_test(t, test_prepare_and_exec_failures_carry_the_errno);
    tcase_add_test(t, test_prepare_can_hand_an_fd_over);
    tcase_add_test(t, test_child_dies_with_us_unless_it_is_to_survive);
    tcase_add_test(t, test_L6_identity_of_a_process);
    tcase_add_test(t, test_no_fd_and_no_zombie_is_left);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
