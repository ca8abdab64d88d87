/* The session with a guest's agent: who waits for it hears of it once, and a lost one is made again when nobody else does. */
#include "../../supervisor/boot.h"
#include "stubs.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <turn.h>
#include <unistd.h>

enum { RETRY_MS = 3000, DIALS_MAX = 12 };

static struct world world;
static struct guest guest, *list[] = {&guest};
static const struct vm_driver *driver;

/* ---- an agent that says what the test says ---- */

struct agent { int fd; };
static struct agent the_agent;
static struct agent_events events; /* but for the token, which is lent */
static char token_given[64];
static struct agent_stream_events setup;
static bool refuses_request;
static unsigned opened, names;

int agent_open(struct loop *l, int take_fd, struct agent_events ev, struct agent **out, struct vm_err *e)
{
    (void)l, (void)e;
    the_agent.fd = take_fd;
    events = ev;
    snprintf(token_given, sizeof token_given, "%s", ev.token ? ev.token : "none");
    opened++;
    *out = &the_agent;
    return 0;
}
void agent_close(struct agent *a)
{
    if (a)
        a->fd = fd_drop(a->fd);
}
int agent_request(struct agent *a, const struct strv *q, struct agent_stream_events ev, struct agent_stream **out, struct vm_err *e)
{
    (void)a, (void)out;
    ck_assert_str_eq(q->v[0], "op=setup");
    setup = ev;
    return refuses_request ? vm_fail(e, VM_E_UNAVAILABLE, "busy") : 0;
}

/* ---- what session.c needs of the rest ---- */

int boot_request(const char *name, const struct net_nic *nics, const struct network_spec *const *networks, size_t n,
                 struct strv *out, struct vm_err *e)
{
    (void)name, (void)nics, (void)networks, (void)n, (void)e;
    strv_add(out, "op=setup");
    return 0;
}
int boot_token_read(const char *run, char out[static BOOT_TOKEN], struct vm_err *e)
{
    (void)run, (void)e;
    strcpy(out, "secret");
    return 0;
}
struct job *job_new(struct guest *g, enum job_verb verb)
{
    struct job *j = calloc(1, sizeof *j);

    *j = (struct job){.w = g->w, .verb = verb, .driver = driver};
    return j;
}
int job_copy(struct job *j, struct guest *g, struct vm_err *e) { (void)j, (void)g, (void)e; return 0; }
void job_borrow(const struct job *j, struct drv_guest *out) { (void)j, (void)out; }
void job_free(struct job *j) { free(j); }
void names_push_to(struct guest *g) { (void)g; names++; }
const struct network_spec *world_network(struct world *w, const char *name) { (void)w, (void)name; return NULL; }

static unsigned dialled;
static bool answers;
static int dial(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e)
{
    (void)g, (void)p, (void)d;
    dialled++;
    if (!answers)
        return vm_fail(e, VM_E_TIMEOUT, "no answer");
    *fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return 0;
}
static const struct vm_driver container = {.agent = dial}, microvm = {.agent = dial, .can = DRV_BOOTS_KERNEL};

static char heard_of[200];
static void hear(struct guest *g, bool up, const char *why, void *arg)
{
    ck_assert_ptr_eq(g, &guest);
    ck_assert_ptr_eq(arg, heard_of);
    strcat(strcat(heard_of, up ? "up" : why), " ");
}

static void set_up(void)
{
    world = (struct world){.guests = list, .n_guests = 1};
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    driver = &container;
    guest = (struct guest){.w = &world, .id = 3, .name = (char *)"db", .state = ST_RUNNING, .driver = driver};
    the_agent.fd = -1;
}

static void tear_down(void)
{
    agent_close(guest.agent);
    loop_timer_free(guest.retry);
    loop_close(world.loop);
}

static int take(const char *token)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    guest_on_agent(&guest, hear, heard_of);
    guest_take_agent(&guest, fd, token);
    return fd;
}

START_TEST(test_container_is_ready_at_once)
{
    guest.job = (struct job *)&world; /* that waits for it, and makes what is lost again itself */
    take("");
    ck_assert_str_eq(token_given, "none");
    ck_assert_str_eq(heard_of, "");
    events.up(events.arg);
    ck_assert(guest.agent_ready);
    ck_assert_uint_eq(names, 1);
    events.down(events.arg, "it went");
    ck_assert_str_eq(heard_of, "up "); /* once */
    ck_assert(!guest.agent_ready && !guest.agent && !guest.retry);
}
END_TEST

START_TEST(test_microvm_is_ready_when_it_knows_what_it_is)
{
    guest.driver = &microvm;
    take("token");
    ck_assert_str_eq(token_given, "token");
    events.up(events.arg);
    ck_assert(!guest.agent_ready);
    setup.end(&(struct agent_result){.ok = true}, setup.arg);
    ck_assert(guest.agent_ready);
    ck_assert_str_eq(heard_of, "up ");
}
END_TEST

START_TEST(test_setup_that_fails)
{
    guest.driver = &microvm;
    take("");
    events.up(events.arg);
    setup.end(&(struct agent_result){.error = "no such interface"}, setup.arg);
    ck_assert(!guest.agent_ready);
    ck_assert_str_eq(heard_of, "no such interface ");

    refuses_request = true;
    take("");
    events.up(events.arg);
    ck_assert_str_eq(heard_of, "no such interface busy ");

    refuses_request = false;
    take("");
    events.up(events.arg);
    setup.end(&(struct agent_result){.lost = true, .error = "lost"}, setup.arg); /* the end of the session is told by itself */
    ck_assert_str_eq(heard_of, "no such interface busy ");
    events.down(events.arg, "it went");
    ck_assert_str_eq(heard_of, "no such interface busy it went ");
}
END_TEST

START_TEST(test_none_is_opened_at_vmsd_s_end)
{
    world.stopping = true;
    int fd = take("");
    ck_assert_uint_eq(opened, 0);
    ck_assert_str_eq(heard_of, "vmsd is ending ");
    ck_assert(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
}
END_TEST

START_TEST(test_lost_one_is_made_again)
{
    take("");
    events.up(events.arg);
    events.down(events.arg, "it went");
    ck_assert_ptr_nonnull(guest.retry);
    ck_assert_uint_eq(dialled, 0);
    turn(world.loop, RETRY_MS + 800);
    ck_assert_uint_eq(dialled, 1);
    ck_assert_ptr_null(guest.agent);
    ck_assert_ptr_nonnull(guest.retry); /* nobody answered: again */
    answers = true;
    turn(world.loop, RETRY_MS + 800);
    ck_assert_uint_eq(dialled, 2);
    ck_assert_ptr_nonnull(guest.agent);
    ck_assert_str_eq(token_given, "secret");
    guest_redial(&guest);
    ck_assert_ptr_null(guest.retry);
}
END_TEST

/* No thread is to be had for it, say. */
START_TEST(test_dial_that_cannot_begin)
{
    loop_drain(world.loop);
    guest_redial(&guest);
    turn(world.loop, RETRY_MS + 800);
    ck_assert_uint_eq(dialled, 0);
    ck_assert_ptr_nonnull(guest.retry);
}
END_TEST

/* As many as may be are under way, with guests that do not answer. */
START_TEST(test_dials_at_once)
{
    world.dials = DIALS_MAX;
    guest_redial(&guest);
    turn(world.loop, RETRY_MS + 800);
    ck_assert_uint_eq(dialled, 0);
    world.dials--;
    turn(world.loop, RETRY_MS + 800);
    ck_assert_uint_eq(dialled, 1);
    ck_assert_uint_eq(world.dials, DIALS_MAX - 1);
}
END_TEST

START_TEST(test_who_is_not_dialled)
{
    guest.state = ST_STOPPED;
    guest_redial(&guest);
    ck_assert_ptr_null(guest.retry);
    guest.state = ST_RUNNING;
    guest.next = (struct job *)&world;
    guest_redial(&guest);
    ck_assert_ptr_null(guest.retry);
    guest.next = NULL;
    guest_redial(&guest);
    ck_assert_ptr_nonnull(guest.retry);
    guest.job = (struct job *)&world; /* a job came meanwhile, and dials itself */
    turn(world.loop, RETRY_MS + 800);
    ck_assert_uint_eq(dialled, 0);
    ck_assert_ptr_null(guest.retry);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session");
    TCase *t = tcase_create("session");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_container_is_ready_at_once);
    tcase_add_test(t, test_microvm_is_ready_when_it_knows_what_it_is);
    tcase_add_test(t, test_setup_that_fails);
    tcase_add_test(t, test_none_is_opened_at_vmsd_s_end);
    tcase_add_test(t, test_lost_one_is_made_again);
    tcase_add_test(t, test_dial_that_cannot_begin);
    tcase_add_test(t, test_dials_at_once);
    tcase_add_test(t, test_who_is_not_dialled);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
