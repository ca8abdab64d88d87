/* What commands in a guest are told of it: the same for scripts, checks and exec. */
#include "../../supervisor/facts.h"

#include <check.h>
#include <string.h>

static struct network_spec network = {.name = "lan", .subnet = "10.0.0.0/24", .domain = "lan.internal"};
static struct net_nic nic = {.address = "10.0.0.2", .network = "lan"};
static const char *env[] = {"COLOUR=blue", "VMS_SUBNET=mine", "EMPTY="};
static struct guest_spec spec = {.name = "db", .env = {env, 3}};
static struct world world;
static struct guest guest = {.w = &world, .spec = &spec, .nics = &nic, .n_nics = 1};

const struct network_spec *world_network(struct world *w, const char *name)
{
    ck_assert_ptr_eq(w, &world);
    return strcmp(name, network.name) ? NULL : &network;
}

static void expect(const char *words)
{
    struct facts f = facts_of(&guest);
    OWN(strv) struct strv q = {0};
    OWN(text) struct text t = {0};

    facts_env(&f, &q);
    for (size_t i = 0; i < q.n; i++) {
        ck_assert(!strncmp(q.v[i], "env=", 4));
        text_addf(&t, "%s%s", i ? " " : "", q.v[i] + 4);
    }
    ck_assert_str_eq(t.s, words);
}

START_TEST(test_env)
{
    expect("CREDENTIALS_DIRECTORY=/run/vmsd/credentials VMS_NAME=db VMS_ADDRESS=10.0.0.2 VMS_NETWORK=lan VMS_SUBNET=mine "
           "VMS_DOMAIN=lan.internal COLOUR=blue VMS_SUBNET=mine EMPTY=");
    guest.n_nics = 0;
    expect("CREDENTIALS_DIRECTORY=/run/vmsd/credentials VMS_NAME=db VMS_SUBNET=mine COLOUR=blue VMS_SUBNET=mine EMPTY=");
    guest.n_nics = 1;
    nic.network = "gone"; /* its spec was dropped a moment ago */
    expect("CREDENTIALS_DIRECTORY=/run/vmsd/credentials VMS_NAME=db VMS_SUBNET=mine COLOUR=blue VMS_SUBNET=mine EMPTY=");
}
END_TEST

START_TEST(test_names)
{
    struct facts f = facts_of(&guest);

    ck_assert_str_eq(fact(&f, "COLOUR"), "blue");
    ck_assert_str_eq(fact(&f, "EMPTY"), "");
    ck_assert_str_eq(fact(&f, "VMS_SUBNET"), "mine"); /* what the spec says comes first */
    ck_assert_str_eq(fact(&f, "VMS_ADDRESS6"), "");   /* a template may name what the guest has not */
    ck_assert_ptr_null(fact(&f, "COLOU"));
    ck_assert_ptr_null(fact(&f, "HOME"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("facts");
    TCase *t = tcase_create("facts");
    tcase_add_test(t, test_env);
    tcase_add_test(t, test_names);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
