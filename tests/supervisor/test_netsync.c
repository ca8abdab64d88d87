/* The firewall follows the world: what a change could not do, the next one does. */
#include "stubs.h"

#include <stdlib.h>
#include <string.h>
#include <turn.h>

enum { CHECK_MS = 8000 /* the check, and how late it may be */ };

static struct world world;
static struct network_spec lan = {.name = "lan", .bridge = "vms-lan"};
static char did[200]; /* on workers, one at a time */
static unsigned busy; /* how many times more the bridge cannot be removed */
static char asked[100];
static bool linked; /* the guest's first nic is on its bridge */
static unsigned mended;

/* ---- what netsync.c needs of the rest ---- */

const struct network_spec *world_network(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->n_networks; i++)
        if (!strcmp(w->networks[i]->name, name))
            return w->networks[i];
    return NULL;
}

int net_rules(const struct net_world *w, char **out, struct vm_err *e)
{
    (void)e;
    *out = text_format("%zu networks", w->n_networks);
    return 0;
}
int net_rules_apply(const char *rules, struct vm_err *e) { (void)e, strcat(strcat(did, rules), ", "); return 0; }
int net_rules_remove(struct vm_err *e) { (void)e, strcat(did, "no rules, "); return 0; }
int net_bridge_remove(const char *bridge, struct vm_err *e)
{
    if (busy && busy--)
        return vm_fail(e, VM_E_BACKEND, "%s is busy", bridge);
    strcat(strcat(strcat(did, "-"), bridge), ", ");
    return 0;
}
int store_drop_network(struct store *s, const char *name, struct vm_err *e)
{
    (void)s, (void)e;
    strcat(strcat(strcat(did, "forgot "), name), ", ");
    return 0;
}
int net_rules_check(bool *present, struct vm_err *e) { (void)e, *present = world.n_networks; return 0; }
int net_rules_watch(int *fd, struct vm_err *e) { (void)fd; return vm_fail(e, VM_E_SYSTEM, "not here"); }
bool net_rules_touched(int fd) { (void)fd; return true; }
int net_ports(struct strv *out, struct vm_err *e)
{
    (void)e;
    if (linked)
        strv_add(out, "vms7-0");
    return 0;
}
int net_relay_rules(const struct net_world *w, struct net_relay_rule **out, size_t *n, struct vm_err *e)
{
    (void)w, (void)out, (void)n, (void)e;
    return 0;
}
int net_relay_set(struct net_relay *r, const struct net_relay_rule *rules, size_t n, struct vm_err *e)
{
    (void)r, (void)rules, (void)n, (void)e;
    return 0;
}
void names_push(struct world *w) { (void)w; }
char *names_upstream(void) { return NULL; }
void names_take_upstream(struct world *w, char *text) { (void)w, free(text); }
struct job *job_new(struct guest *g, enum job_verb verb)
{
    (void)g, (void)verb;
    mended++;
    return NULL;
}
void job_submit(struct job *j) { (void)j; }

static void answer(const struct vm_err *e, void *arg)
{
    (void)arg;
    strcat(asked, e ? e->text : "in force");
    loop_quit(world.loop);
}

/* A bridge that cannot be removed now goes a moment later, though no network is left, and is not reported as an attack. */
START_TEST(test_bridge_that_is_busy)
{
    static struct network_spec *networks[] = {&lan};

    world = (struct world){.networks = networks, .n_networks = 1};
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    ck_assert_int_eq(netsync_open(&world, NULL), 0);
    netsync_ask(&world, answer, NULL);
    ck_assert_int_eq(loop_run(world.loop, NULL), 0);
    ck_assert_str_eq(asked, "in force");
    ck_assert_str_eq(did, "1 networks, ");

    busy = 1;
    netsync_forget(&world, &lan);
    world.n_networks = 0;
    netsync_ask(&world, answer, NULL);
    ck_assert_int_eq(loop_run(world.loop, NULL), 0);
    ck_assert_str_eq(asked, "in forcevms-lan is busy");
    ck_assert_str_eq(did, "1 networks, no rules, ");
    turn(world.loop, CHECK_MS);
    ck_assert_str_eq(did, "1 networks, no rules, no rules, -vms-lan, forgot lan, ");
    ck_assert_uint_eq(heard.events, 0);

    loop_drain(world.loop);
    netsync_close(&world);
    loop_close(world.loop);
}
END_TEST

/* A link that somebody removed is put back; one that an apply has yet to make is none of those. */
START_TEST(test_links)
{
    static struct network_spec *networks[] = {&lan};
    static struct net_nic nics[] = {{.ifname = "vms7-0", .network = "lan"}, {.ifname = "vms7-1", .network = "lan"}};
    struct guest guest = {.w = &world, .id = 7, .name = (char *)"db", .state = ST_RUNNING, .nics = nics, .n_nics = 2, .n_linked = 1};
    struct guest *list[] = {&guest};

    world = (struct world){.networks = networks, .n_networks = 1, .guests = list, .n_guests = 1};
    linked = true;
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    ck_assert_int_eq(netsync_open(&world, NULL), 0);
    netsync_ask(&world, NULL, NULL);
    turn(world.loop, CHECK_MS);
    ck_assert_uint_eq(mended, 0);
    linked = false;
    turn(world.loop, CHECK_MS);
    ck_assert_uint_ge(mended, 1);

    loop_drain(world.loop);
    netsync_close(&world);
    loop_close(world.loop);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("netsync");
    TCase *t = tcase_create("netsync");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, test_bridge_that_is_busy);
    tcase_add_test(t, test_links);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
