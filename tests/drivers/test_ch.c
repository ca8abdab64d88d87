/* The cloud-hypervisor driver and its keeper over a double of the VMM: guests that live. Faults: test_ch_faults.c. Needs
 * root. */
#include "ch_trial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/path.h>

/* ---- life ---- */

START_TEST(test_life)
{
    struct drv_stats s;
    char text[16] = "";
    int fd;

    guest_init(1, "on vm.boot say hello from the guest\n");
    guest_tap();
    trial_start(t);
    ck_assert(console_says("hello from the guest"));
    const char *said = console(), *create = strstr(said, "REQ PUT vm.create"), *net = strstr(said, "REQ PUT vm.add-net"),
               *boot = strstr(said, "REQ PUT vm.boot");
    ck_assert(create && net && boot && create < net && net < boot && strstr(net, "FD "));
    OK(t->drv->agent(&t->g, &t->p, deadline_in(3000), &fd, &t->e));
    ck_assert(write(fd, "ping", 4) == 4 && read(fd, text, sizeof text - 1) == 4);
    ck_assert_str_eq(text, "ping");
    close(fd);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
    ck_assert_uint_eq(s.io_read, 4196);
    ck_assert_uint_eq(s.io_write, 512);
    ck_assert_uint_eq(s.pids, UINT64_MAX);
    OK(t->drv->grow(&t->g, &t->p, paths[PATH_VOLUME], &t->e));
    ck_assert(console_says("REQ PUT vm.resize-disk"));
    ck_assert_int_eq(t->drv->grow(&t->g, &t->p, "/etc/hostname", &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_ABSENT);
    struct drv_exit x;
    ck_assert_int_eq(t->drv->reap(t->g.id, t->run, &x, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_CONFLICT);
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(3000), &t->p, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_CONFLICT);
    trial_stop(t);
    traffic_keep();
    ck_assert_int_eq(trial_reap(t).kind, EXIT_POWEROFF);
    trial_stop(t); /* gone already is success */
    trial_done(t);
    close(tap.fd);
}
END_TEST

/* D14, D16: what the VMM is, and sees of the host. */
START_TEST(test_D14_jail)
{
    char want[80];

    guest_init(2, "on vm.boot look\n");
    trial_start(t);
    ck_assert(console_says("SEE socket"));
    char *see = console();
    ck_assert_msg(strstr(see, "SEE /dev:") && strstr(see, "SEE /run: vsock\n"), "%s", see);
    ck_assert_ptr_nonnull(strstr(see, "SEE /etc/passwd absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /proc/self/status absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /dev/mem absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /root absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /var/tmp absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /sys absent\n"));
    /* 0, 1, 2, its API, its events, the call that it is serving, and its vsock. */
    snprintf(want, sizeof want, "SEE fds 7 uid %u pid 1 write 0\n", t->g.uid_base);
    ck_assert_msg(strstr(see, want) != NULL, "%s", see);
    char status[64], *text;
    snprintf(status, sizeof status, "/proc/%d/status", (int)t->p.leader);
    int fd = open(status, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && path_read_fd(fd, status, 64 << 10, &text, NULL, NULL) == 0);
    close(fd);
    ck_assert(strstr(text, "NoNewPrivs:\t1") && strstr(text, "CapPrm:\t0000000000000000") &&
              strstr(text, "CapBnd:\t0000000000000000") && strstr(text, "Groups:\t \n"));
    free(text);
    guest_over();
}
END_TEST

START_TEST(test_adopt)
{
    struct drv_proc p;

    guest_init(3, "");
    trial_start(t);
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    ck_assert(p.keeper.pid == t->p.keeper.pid && p.leader == t->p.leader && p.phase == DRV_BOOTED);
    /* Nobody else's guest. */
    for (size_t i = 0; drivers()[i]; i++)
        if (drivers()[i] != t->drv) {
            ck_assert_int_eq(drivers()[i]->adopt(t->g.id, t->run, &p, &t->e), -1);
            ck_assert_int_eq(t->e.code, VM_E_ABSENT);
        }
    guest_over();
}
END_TEST

START_TEST(test_G11_run_wiped)
{
    char path[128];
    struct drv_proc p;

    guest_init(4, "");
    trial_start(t);
    snprintf(path, sizeof path, "%s/state", t->run);
    ck_assert(unlink(path) == 0);
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    ck_assert(p.keeper.pid == t->p.keeper.pid && p.leader == t->p.leader && p.phase == DRV_BOOTED);
    guest_over();
}
END_TEST

START_TEST(test_resize)
{
    guest_init(5, "");
    trial_start(t);
    t->spec.memory = 512 << 20;
    OK(t->drv->limits(&t->g, &t->p, &t->e));
    ck_assert(console_says("BODY {\"desired_ram\":536870912}"));
    OK(t->drv->limits(&t->g, &t->p, &t->e)); /* nothing to do */
    t->spec.memory = 128 << 20;
    ck_assert_int_eq(t->drv->limits(&t->g, &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT && strstr(t->e.text, "restart"), "%s", t->e.text);
    t->spec.memory = 512 << 20;
    t->spec.cpus = 200;
    ck_assert_int_eq(t->drv->limits(&t->g, &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT && strstr(t->e.text, "cpus"), "%s", t->e.text);
    traffic_keep();
    guest_over();
}
END_TEST

/* A VMM in an enemy's hands does not talk its cgroup into more memory than it has. */
START_TEST(test_N6_claims_memory)
{
    struct drv_stats before, after;

    guest_init(9, "on vm.info status 200 {\"config\":{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":4},\"memory\":"
                  "{\"size\":268435456,\"hotplug_size\":1e16,\"hotplugged_size\":1e15}}}\n");
    trial_start(t);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &before, &t->e));
    t->drv->limits(&t->g, &t->p, &t->e);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &after, &t->e));
    ck_assert_uint_eq(after.memory_limit, before.memory_limit);
    guest_over();
}
END_TEST

/* ---- the agent ---- */

START_TEST(test_never_answers)
{
    guest_init(90, "on agent status 1\n");
    OK(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e));
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(500), &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_TIMEOUT);
    ck_assert_int_eq(t->p.phase, DRV_STARTED);
    kill(t->p.leader, SIGKILL);
    trial_wait_end(t);
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(5000), &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_BACKEND && strstr(t->e.text, "killed"), "%s", t->e.text);
    guest_over();
}
END_TEST

/* While it boots it panics: noticed at once, and told. */
START_TEST(test_panic_in_boot)
{
    guest_init(91, "on agent say Kernel panic - not syncing: no root\non agent event guest panic panic\non agent status 1\n");
    OK(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e));
    int64_t before = now_ms();
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(20000), &t->e), -1);
    ck_assert_int_lt(now_ms() - before, 5000);
    ck_assert_msg(t->e.code == VM_E_BACKEND && strstr(t->e.text, "Kernel panic - not syncing: no root"), "%s", t->e.text);
    guest_over();
}
END_TEST

/* A hostile VMM leads its vsock elsewhere: nobody follows. */
START_TEST(test_D7_vsock_link)
{
    static const char *const places[] = {"/run/systemd/private", "../../../../../../var/tmp/vmsd-trial-8092/sock", "vsock2"};
    char script[100];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd, listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        snprintf(script, sizeof script, "on vm.boot link %s\n", places[i]);
        guest_init(92, script);
        snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", t->dir);
        if (i == 0)
            ck_assert(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 4) == 0);
        OK(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e));
        ck_assert_int_eq(t->drv->agent(&t->g, &t->p, deadline_in(500), &fd, &t->e), -1);
        ck_assert_msg(strstr(t->e.text, "vsock") != NULL, "%s", t->e.text);
        ck_assert(accept(listener, NULL, NULL) < 0 && errno == EAGAIN);
        guest_over();
    }
    close(listener);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cloud-hypervisor");
    TCase *c = tcase_create("life");

    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_life);
    tcase_add_test(c, test_D14_jail);
    tcase_add_test(c, test_adopt);
    tcase_add_test(c, test_G11_run_wiped);
    tcase_add_test(c, test_resize);
    tcase_add_test(c, test_N6_claims_memory);
    tcase_add_test(c, test_never_answers);
    tcase_add_test(c, test_panic_in_boot);
    tcase_add_test(c, test_D7_vsock_link);
    suite_add_tcase(s, c);
    return suite_run(s, NULL);
}
