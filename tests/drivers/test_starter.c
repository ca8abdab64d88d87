/* drivers/starter*.c: what vms-starter does, and above all what it does not do, whoever asks. And how vmsd asks it. */
#include "drivers/keeper.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/own.h>
#include <vmsd/starter.h>

enum { GUEST = 6553600, WAIT_MS = 10000 };

static char dir[] = "/var/tmp/vmsd-starter-XXXXXX", double_[64];
static char *const place[] = {STARTER_PROGRAM, "--unpack", double_, "--builder", double_, "--keeper", double_,
                              "--agent", "/bin/true", NULL};
static struct vm_err e;
static struct starter_told told;
static int conn = -1, null = -1, room = -1;

static void script(const char *text)
{
    OWN(file) FILE *f = fopen(double_, "we");

    ck_assert(f && fprintf(f, "#!/bin/sh\n%s\n", text) > 0 && fchmod(fileno(f), 0755) == 0);
}

static void make(void)
{
    ck_assert(mkdtemp(dir) && chmod(dir, 0755) == 0);
    snprintf(double_, sizeof double_, "%s/double", dir);
    script("exit 7");
    ck_assert((null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && (room = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
    starter_place((struct starter_place){.argv = place});
}

static void drop(void)
{
    char *const argv[] = {"rm", "-r", dir, NULL};

    starter_place((struct starter_place){0});
    conn = fd_drop(conn);
    ck_assert(child_must(argv, deadline_in(WAIT_MS), NULL, &e) == 0);
}

/* ---- asking ---- */

static int ask_raw(const struct starter_request *r)
{
    conn = fd_drop(conn);
    e = (struct vm_err){0};
    return starter_ask(r, deadline_in(WAIT_MS), &told, &conn, &e);
}

#define FDS(...) .fds = (const int[]){__VA_ARGS__}, .n_fds = sizeof((const int[]){__VA_ARGS__}) / sizeof(int)
#define WORDS(text) .words = text, .n_words = sizeof text
#define ask(id, ...) ask_raw(&(struct starter_request){.ask.verb = STARTER_##id, __VA_ARGS__})

static void refused(int rc, const char *why)
{
    ck_assert_int_eq(rc, -1);
    ck_assert_msg(e.code == VM_E_DENIED && strstr(e.text, why), "%d: '%s', not '%s'", e.code, e.text, why);
}

static int sealed(void)
{
    int fd = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    ck_assert(write(fd, "", 1) == 1 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    return fd;
}

static char words[4096];
static int ask_program(enum starter_verb verb, int at)
{
    size_t n = (size_t)snprintf(words, sizeof words, "%s", double_) + 2; /* no environment */

    return ask_raw(&(struct starter_request){.ask.verb = verb, .words = words, .n_words = n, FDS(null, null, at)});
}

/* What the double says by its output. */
static char *said(struct child_starter by)
{
    char *const argv[] = {double_, NULL};
    struct child_plan plan = {.argv = argv, .starter = &by};
    struct child_end end;

    ck_assert_msg(child_run(&plan, deadline_in(WAIT_MS), &end, &e) == 0, "%s", e.text);
    return end.output;
}

/* ---- what is no request ---- */

/* A connection to a vms-starter that is ours, for what no vmsd would send. */
static pid_t raw_pid;
static int raw_channel = -1;

static void raw_start(int fd3)
{
    if ((raw_pid = fork()) == 0) {
        fcntl(fd3, F_SETFD, 0);
        dup2(fd3, 3);
        if (fd3 == 3 || fcntl(3, F_SETFD, 0) == 0)
            execv(place[0], place);
        _exit(127);
    }
    ck_assert_int_gt(raw_pid, 0);
}

static int send_fd(int to, int fd)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = {
        .head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec iov = {"", 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};

    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    return (int)sendmsg(to, &m, MSG_NOSIGNAL);
}

static void raw_open(void)
{
    int pair[2];

    ck_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    raw_start(pair[1]);
    close(pair[1]);
    raw_channel = pair[0];
}

static void raw_close(void)
{
    int status;

    raw_channel = fd_drop(raw_channel);
    ck_assert_int_eq(waitpid(raw_pid, &status, 0), raw_pid);
    ck_assert_int_eq(status, 0); /* it ends by itself with vmsd */
}

static int raw_dial(void)
{
    int pair[2];

    ck_assert(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    ck_assert_int_eq(send_fd(raw_channel, pair[1]), 1);
    close(pair[1]);
    conn = fd_drop(conn);
    return conn = pair[0];
}

static int hear(void)
{
    e = (struct vm_err){0};
    return starter_hear(conn, deadline_in(WAIT_MS), &told, &e);
}

START_TEST(test_garbage_is_no_request)
{
    static char big[STARTER_WORDS_MAX + 4096];
    struct starter_ask a = {.protocol = STARTER_PROTOCOL, .verb = STARTER_VERB_COUNT};

    raw_open();
    ck_assert(send(raw_dial(), "?", 1, 0) == 1);
    refused(hear(), "not a request");
    memcpy(big, &a, sizeof a);
    ck_assert(send(raw_dial(), big, sizeof a + STARTER_WORDS_MAX, 0) > 0);
    refused(hear(), "does no such thing"); /* whole, and no verb */
    ck_assert(send(raw_dial(), big, sizeof a + STARTER_WORDS_MAX + 1, 0) > 0);
    refused(hear(), "not a request");
    ck_assert(send(raw_dial(), big, sizeof big, 0) > 0);
    refused(hear(), "not a request");
    big[sizeof a + 9] = 'x'; /* a last word without its end */
    ck_assert(send(raw_dial(), big, sizeof a + 10, 0) > 0);
    refused(hear(), "not a request");
    a.protocol++;
    ck_assert(send(raw_dial(), &a, sizeof a, 0) > 0);
    refused(hear(), "another version");
    raw_dial();
    close(conn), conn = -1; /* says nothing, and leaves */
    raw_close();
}
END_TEST

START_TEST(test_more_files_than_a_request_has)
{
    union { struct cmsghdr head; char room[CMSG_SPACE((STARTER_FDS_MAX + 1) * sizeof(int))]; } control = {
        .head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN((STARTER_FDS_MAX + 1) * sizeof(int))}};
    struct starter_ask a = {.protocol = STARTER_PROTOCOL};
    struct iovec iov = {&a, sizeof a};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};

    for (int i = 0; i <= STARTER_FDS_MAX; i++)
        memcpy(CMSG_DATA(&control.head) + (size_t)i * sizeof null, &null, sizeof null);
    raw_open();
    ck_assert(sendmsg(raw_dial(), &m, 0) > 0);
    refused(hear(), "not a request");
    raw_close();
}
END_TEST

START_TEST(test_A6_nobody_but_root_asks)
{
    struct starter_ask a = {.protocol = STARTER_PROTOCOL, .verb = STARTER_VERB_COUNT};

    raw_open();
    ck_assert(seteuid(65534) == 0); /* whose a connection is, it was when it was made */
    raw_dial();
    ck_assert(seteuid(0) == 0);
    ck_assert(send(conn, &a, sizeof a, 0) > 0);
    refused(hear(), "others than root");
    raw_close();
}
END_TEST

/* ---- keepers ---- */

START_TEST(test_keepers_that_are_none)
{
    OWN(fd) int open_plan = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    OWN(fd) int plan = sealed();
    OWN(fd) int foreign = open("/sys/fs/cgroup", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int go[2];

    ck_assert(pipe2(go, O_CLOEXEC) == 0);
    refused(ask(KEEP, .ask.kind = KEEPER_KIND_COUNT, FDS(go[0], plan)), "no such keeper");
    refused(ask(KEEP, .ask.kind = UINT32_MAX, FDS(go[0], plan)), "no such keeper");
    refused(ask(KEEP, FDS(go[0])), "no such keeper");
    refused(ask(KEEP), "no such keeper");
    refused(ask(KEEP, WORDS("x"), FDS(go[0], plan)), "no such keeper");
    refused(ask(KEEP, FDS(plan, plan)), "by a pipe");
    refused(ask(KEEP, FDS(go[0], open_plan)), "sealed");
    refused(ask(KEEP, FDS(go[0], null)), "sealed");
    refused(ask(KEEP, .ask.flags = STARTER_BORN, FDS(go[0], plan)), "no such keeper");
    refused(ask(KEEP, .ask.flags = STARTER_BORN, FDS(go[0], room, plan)), "control group");
    refused(ask(KEEP, .ask.flags = STARTER_BORN, FDS(go[0], foreign, plan)), "control group");
    close(go[0]), close(go[1]);
}
END_TEST

START_TEST(test_keeper_waits_and_outlives_the_connection)
{
    OWN(fd) int plan = sealed();
    OWN(fd) int pidfd = -1;
    char out[64] = "";
    int go[2];

    script("echo \"$1\" $(ls /proc/self/fd | tr '\\n' ' ') >$(dirname $0)/kept");
    ck_assert(pipe2(go, O_CLOEXEC) == 0);
    ck_assert_msg(ask(KEEP, .ask.kind = KEEPS_VMM, FDS(go[0], plan, room)) == 0, "%s", e.text);
    ck_assert((pidfd = pidfd_open(told.pid, 0)) >= 0);
    conn = fd_drop(conn);
    close(go[0]);
    usleep(100000);
    ck_assert_int_eq(faccessat(room, "kept", F_OK, 0), -1);
    ck_assert(write(go[1], "", 1) == 1);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, WAIT_MS), 1);
    OWN(fd) int kept = openat(room, "kept", O_RDONLY | O_CLOEXEC);
    ck_assert(kept >= 0 && read(kept, out, sizeof out - 1) > 0);
    ck_assert_msg(!strncmp(out, "cloud-hypervisor 0 1 2 3", 24), "%s", out);
    close(go[1]);
}
END_TEST

START_TEST(test_keeper_whose_vmsd_is_gone_never_begins)
{
    OWN(fd) int plan = sealed();
    int go[2];

    script("touch $(dirname $0)/kept");
    ck_assert(pipe2(go, O_CLOEXEC) == 0);
    ck_assert(ask(KEEP, FDS(go[0], plan)) == 0);
    close(go[0]), close(go[1]);
    for (int i = 0; i < 500 && kill(told.pid, 0) == 0; i++)
        usleep(10000);
    ck_assert_int_eq(faccessat(room, "kept", F_OK, 0), -1);
}
END_TEST

/* ---- agents ---- */

START_TEST(test_the_host_is_not_entered)
{
    OWN(fd) int self = pidfd_open(getpid(), 0);
    OWN(fd) int foreign = open("/sys/fs/cgroup", O_PATH | O_DIRECTORY | O_CLOEXEC);

    ck_assert_int_eq(ask(ENTER, FDS(self, null)), -1);
    ck_assert_msg(!strncmp(e.text, "enter the guest's namespaces: Invalid argument", 40), "%s", e.text);
    ck_assert_int_eq(ask(ENTER, FDS(null, null)), -1); /* no process at all */
    refused(ask(ENTER, FDS(self)), "needs a guest's init");
    refused(ask(ENTER, .ask.flags = STARTER_BORN, FDS(self, null)), "needs a guest's init");
    refused(ask(ENTER, .ask.flags = STARTER_BORN, FDS(self, null, foreign)), "control groups");
    refused(ask(ENTER, FDS(self, null, null)), "control groups");
    refused(ask(ENTER, FDS(self, null, room)), "control groups");
}
END_TEST

/* ---- programs ---- */

static char build[8192];
static int ask_build(const char *builder, const char *word, const char *env)
{
    const char *const parts[] = {"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", builder, "--mode=root",
                                 "--format=directory", "--variant=apt", word, "bookworm", "tree", "-", "", env};
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        n += (size_t)snprintf(build + n, sizeof build - n, "%s", parts[i]) + 1;
    return ask_raw(&(struct starter_request){.ask.verb = STARTER_BUILD, .words = build, .n_words = n, FDS(null, null, room)});
}

START_TEST(test_programs_that_it_does_not_run)
{
    static const char hook[] = "-hook=cp customize \"$1\"/.customize && env -u TMPDIR chroot \"$1\" /.customize && "
                               "rm \"$1\"/.customize";
    static const char *const bad[] = {
        "--setup-hook=rm -rf /", "--customize-hook=rm -rf /", "--hook-dir=/tmp", "--aptopt=DPkg::Pre-Invoke=x",
        "--dpkgopt=pre-invoke=x", "--mode=unshare", "--format=tar", "-", "--", "--customize", "--essential-hook=x",
        "--include", "--dpkgopt=path-excludes=", "--keyring=/x", "--logfile=/etc/passwd"};
    static const char *const bad_env[] = {"LD_PRELOAD=/x", "PATH=/tmp", "BASH_ENV=/x", "TMPDIR=relative", "HTTP_PROXY=x", "x"};
    OWN(str) char *custom = text_format("--customize%s", hook), *extract = text_format("--extract%s", hook),
                  *more = text_format("--customize%s; rm -rf /", hook);

    ck_assert_int_eq(ask_build(double_, "--include=init,sudo", "TMPDIR=/x"), 0);
    ck_assert_int_eq(ask_build(double_, custom, "http_proxy=http://x"), 0);
    ck_assert_int_eq(ask_build(double_, extract, "LC_ALL=C.UTF-8"), 0);
    refused(ask_build(double_, more, "LC_ALL=C.UTF-8"), "runs no such program");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (strcmp(bad[i], "-") != 0) /* stdin */
            refused(ask_build(double_, bad[i], "LC_ALL=C.UTF-8"), "runs no such program");
    for (size_t i = 0; i < ARRAY_LEN(bad_env); i++)
        refused(ask_build(double_, "--include=init", bad_env[i]), "runs no such program");
    refused(ask_build("/bin/sh", "--include=init", "LC_ALL=C.UTF-8"), "runs no such program");

    refused(ask(UNPACK, WORDS("/bin/sh\0"), FDS(null, null, room)), "runs no such program");
    refused(ask(UNPACK, WORDS(""), FDS(null, null, room)), "runs no such program");
    refused(ask(UNPACK, FDS(null, null, room)), "runs no such program");
    refused(ask(CHECK, WORDS("e2fsck\0-f\0-p\0/dev/sda\0"), FDS(null, null, null)), "runs no such program");
    refused(ask(CHECK, WORDS("e2fsck\0-f\0-p\0/proc/self/fd/3\0-k\0"), FDS(null, null, null)), "runs no such program");
    refused(ask_program(STARTER_CHECK, null), "runs no such program");
    refused(ask_program(STARTER_UNPACK, null), "works in a directory");
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), 0);
    refused(ask(UNPACK, WORDS("x"), FDS(null, null)), "runs no such program");
    refused(ask(COMMAND, WORDS(""), FDS(null, null)), "runs no such program");
    refused(ask(COMMAND, WORDS("/bin/true\0"), FDS(null, null, room)), "runs no such program");
    refused(ask(UNPACK, WORDS("x"), FDS(null, null, room, room)), "runs no such program");
}
END_TEST

START_TEST(test_disks_of_the_host_are_not_checked)
{
    static const char argv[] = "e2fsck\0-f\0-p\0/proc/self/fd/3\0";
    OWN(fd) int disk = openat(room, "disk", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    refused(ask(CHECK, WORDS(argv), FDS(null, null, disk)), "only disks of guests");
    refused(ask(CHECK, WORDS(argv), FDS(null, null, room)), "only disks of guests");
    refused(ask(CHECK, WORDS(argv), FDS(null, null, null)), "only disks of guests");
    ck_assert(fchown(disk, GUEST, GUEST) == 0);
    ck_assert_int_eq(ask(CHECK, WORDS(argv), FDS(null, null, disk)), 0);
    ck_assert_int_eq(hear(), 0);
    ck_assert(WIFEXITED(told.status) && WEXITSTATUS(told.status) != 0); /* it is no file system */
}
END_TEST

START_TEST(test_D14_a_program_has_three_files_and_its_directory)
{
    OWN(str) char *out = NULL, *want = text_format("0\n1\n2\n3\n%s\nPATH=x\n", dir);

    script("ls /proc/self/fd; pwd; echo PATH=x; env | grep -vE '^(PATH|PWD|LC_ALL|OLDPWD|SHLVL|_)='");
    out = said((struct child_starter){.verb = STARTER_UNPACK, .at = room, .in = null});
    ck_assert_str_eq(out, want);
}
END_TEST

START_TEST(test_status_comes_back)
{
    char *const argv[] = {double_, NULL};
    struct child_starter by = {.verb = STARTER_UNPACK, .at = room, .in = -1};
    struct child_plan plan = {.argv = argv, .starter = &by, .input = "hello", .n_input = 5};
    struct child_end end;

    script("cat; echo err >&2; exit 7");
    ck_assert(child_run(&plan, deadline_in(WAIT_MS), &end, &e) == 0);
    ck_assert_str_eq(end.output, "helloerr\n");
    ck_assert(WIFEXITED(end.status) && WEXITSTATUS(end.status) == 7);
    free(end.output);
    script("kill -9 $$");
    ck_assert(child_run(&plan, deadline_in(WAIT_MS), &end, &e) == 0);
    ck_assert(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGKILL);
    free(end.output);
    unlink(double_);
    ck_assert_int_eq(child_run(&plan, deadline_in(WAIT_MS), &end, &e), -1);
    ck_assert_msg(strstr(e.text, "No such file"), "%s", e.text);
}
END_TEST

/* A program that a spec names: whatever it is, by its name or its path, in an environment of its own. */
START_TEST(test_command)
{
    char *const argv[] = {"sh", "-c", "echo \"$#:$1:$2\"; env | grep ^A=; id -u; runuser -u nobody -- id -un; ls /proc/self/fd",
                          "sh", "", "x", NULL};
    char *const env[] = {"A=b c", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL}, *const none[] = {"/nowhere/x", NULL};
    struct child_plan plan = {.argv = argv, .env = env, .starter = CHILD_COMMAND};
    struct child_end end;

    ck_assert_msg(child_run(&plan, deadline_in(WAIT_MS), &end, &e) == 0, "%s", e.text);
    ck_assert_str_eq(end.output, "2::x\nA=b c\n0\nnobody\n0\n1\n2\n3\n");
    free(end.output);
    plan.argv = none;
    ck_assert_int_eq(child_run(&plan, deadline_in(WAIT_MS), &end, &e), -1);
    ck_assert_str_eq(e.text, "run '/nowhere/x': No such file or directory");
}
END_TEST

static bool gone(pid_t pid)
{
    for (int i = 0; i < 500; i++, usleep(10000))
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return true;
    return false;
}

START_TEST(test_time_ends_a_program_and_what_it_left)
{
    char *const argv[] = {double_, NULL};
    struct child_starter by = {.verb = STARTER_UNPACK, .at = room, .in = -1};
    struct child_plan plan = {.argv = argv, .starter = &by};
    struct child_end end;
    char text[16] = "";

    script("sleep 1000 & echo $! >pid; sleep 1000");
    ck_assert_int_eq(child_run(&plan, deadline_in(500), &end, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    OWN(fd) int fd = openat(room, "pid", O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    ck_assert(gone((pid_t)strtol(text, NULL, 10)));
}
END_TEST

START_TEST(test_program_ends_with_the_connection)
{
    script("trap '' TERM HUP; sleep 1000 & wait; sleep 1000");
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), 0);
    ck_assert_int_eq(kill(told.pid, 0), 0);
    conn = fd_drop(conn);
    ck_assert(gone(told.pid));
}
END_TEST

static pid_t parent_of(pid_t pid)
{
    char path[40], stat[256] = "", *at;
    int ppid = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, stat, sizeof stat - 1) > 0 && (at = strrchr(stat, ')')))
        sscanf(at, ") %*c %d", &ppid);
    return ppid;
}

/* The process of a request is killed: what it started dies with it, and whoever asked is told. */
START_TEST(test_killed_in_the_middle)
{
    script("sleep 1000");
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), 0);
    pid_t program = told.pid, request = parent_of(program), starter = parent_of(request);
    kill(request, SIGKILL);
    ck_assert_int_eq(hear(), -1);
    ck_assert_msg(e.code == VM_E_BACKEND && strstr(e.text, "try again"), "%s", e.text);
    ck_assert(gone(program));

    /* The starter is killed: what runs goes on to its end, and the next request has a new one. */
    script("sleep 1; exit 3");
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), 0);
    OWN(fd) int first = conn;
    ck_assert_int_eq(parent_of(parent_of(told.pid)), starter);
    OWN(fd) int dying = pidfd_open(starter, 0);
    kill(starter, SIGKILL);
    ck_assert_int_eq(poll(&(struct pollfd){.fd = dying, .events = POLLIN}, 1, WAIT_MS), 1);
    conn = -1;
    ck_assert_msg(ask_program(STARTER_UNPACK, room) == 0, "%s", e.text);
    ck_assert_int_ne(parent_of(parent_of(told.pid)), starter);
    ck_assert(starter_hear(first, deadline_in(WAIT_MS), &told, &e) == 0 && WEXITSTATUS(told.status) == 3);
}
END_TEST

/* It hangs: that is told in time, and what was asked for does not come later. */
START_TEST(test_stopped_in_the_middle)
{
    script("exit 0");
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), 0);
    pid_t starter = parent_of(parent_of(told.pid));
    kill(starter, SIGSTOP);
    script("touch $(dirname $0)/ran");
    size_t n = (size_t)snprintf(words, sizeof words, "%s", double_) + 2;
    struct starter_request r = {.ask.verb = STARTER_UNPACK, .words = words, .n_words = n, FDS(null, null, room)};
    conn = fd_drop(conn);
    ck_assert_int_eq(starter_ask(&r, deadline_in(300), &told, &conn, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    kill(starter, SIGCONT);
    script("exit 0");
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), 0); /* after the other */
    ck_assert_int_eq(hear(), 0);
    ck_assert_int_eq(faccessat(room, "ran", F_OK, 0), -1);
}
END_TEST

/* vmsd's descriptors are of its mounts, so what it asks for happens among these. */
START_TEST(test_among_the_mounts_of_who_asks)
{
    OWN(str) char *out = NULL;
    struct stat st;

    free(said((struct child_starter){.verb = STARTER_UNPACK, .at = room, .in = null})); /* it runs, and has the host's */
    ck_assert(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    ck_assert(stat("/proc/self/ns/mnt", &st) == 0);
    script("stat -L -c %i /proc/self/ns/mnt");
    out = said((struct child_starter){.verb = STARTER_UNPACK, .at = room, .in = null});
    ck_assert_uint_eq(strtoul(out, NULL, 10), st.st_ino);
}
END_TEST

/* ---- as a service ---- */

START_TEST(test_service)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    OWN(fd) int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", dir);
    starter_place((struct starter_place){.socket = a.sun_path});
    ck_assert_int_eq(starter_reach(NULL), -1);
    ck_assert_int_eq(ask_program(STARTER_UNPACK, room), -1);
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
    ck_assert_msg(strstr(e.text, "systemctl restart vms-starter.socket"), "%s", e.text);

    ck_assert(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 8) == 0);
    raw_start(listener);
    ck_assert_int_eq(starter_reach(NULL), 0);
    ck_assert_msg(ask_program(STARTER_UNPACK, room) == 0, "%s", e.text);
    ck_assert(hear() == 0 && WEXITSTATUS(told.status) == 7);
    kill(raw_pid, SIGKILL);
    waitpid(raw_pid, NULL, 0);
    raw_start(listener); /* as systemd does; the socket stays */
    ck_assert_msg(ask_program(STARTER_UNPACK, room) == 0, "%s", e.text);
    kill(raw_pid, SIGTERM);
    waitpid(raw_pid, NULL, 0);
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: not root");
        return 77;
    }
    Suite *s = suite_create("starter");
    TCase *t = tcase_create("starter");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, make, drop);
    tcase_add_test(t, test_garbage_is_no_request);
    tcase_add_test(t, test_more_files_than_a_request_has);
    tcase_add_test(t, test_A6_nobody_but_root_asks);
    tcase_add_test(t, test_keepers_that_are_none);
    tcase_add_test(t, test_keeper_waits_and_outlives_the_connection);
    tcase_add_test(t, test_keeper_whose_vmsd_is_gone_never_begins);
    tcase_add_test(t, test_the_host_is_not_entered);
    tcase_add_test(t, test_programs_that_it_does_not_run);
    tcase_add_test(t, test_disks_of_the_host_are_not_checked);
    tcase_add_test(t, test_D14_a_program_has_three_files_and_its_directory);
    tcase_add_test(t, test_status_comes_back);
    tcase_add_test(t, test_command);
    tcase_add_test(t, test_time_ends_a_program_and_what_it_left);
    tcase_add_test(t, test_program_ends_with_the_connection);
    tcase_add_test(t, test_killed_in_the_middle);
    tcase_add_test(t, test_stopped_in_the_middle);
    tcase_add_test(t, test_among_the_mounts_of_who_asks);
    tcase_add_test(t, test_service);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
