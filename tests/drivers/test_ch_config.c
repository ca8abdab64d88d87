/* What cloud-hypervisor is told, and what is made of its events: pure. The requests go to the file named by
 * $VMS_CH_REQUESTS as well, for test_ch_openapi.py. */
#include <check.h>
#include <drivers/ch.h>
#include <drivers/keeper_event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

static struct vm_err e;

static void keep(const char *call, const char *body)
{
    const char *path = getenv("VMS_CH_REQUESTS");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;

    if (fd >= 0)
        dprintf(fd, "REQ PUT %s\nBODY %s\n", call, body);
    fd_drop(fd);
}

static char *config_of(const struct drv_guest *g, const struct ch_host *h)
{
    OWN(json) json_t *j = NULL;
    char *text;

    ck_assert_msg(ch_config(g, h, &j, &e) == 0, "%s", e.text);
    ck_assert((text = json_to_text(j)) != NULL);
    keep("vm.create", text);
    return text;
}

static void golden(const char *name, const json_t *j)
{
    char path[64], *want = NULL, *have = json_dumps(j, JSON_INDENT(1) | JSON_SORT_KEYS);
    int fd;

    snprintf(path, sizeof path, "drivers/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0 && path_read_fd(fd, path, 64 << 10, &want, NULL, &e) == 0, "%s", path);
    close(fd);
    want[strcspn(want, "\n") ? strlen(want) - 1 : 0] = '\0';
    ck_assert_msg(!strcmp(want, have), "%s is not:\n%s", path, have);
    free(want);
    free(have);
}

static const struct guest_spec plain_spec = {.kind = KIND_MICROVM, .name = "db", .cpus = 1, .memory = 512 << 20};
static const struct guest_spec full_spec = {
    .kind = KIND_MICROVM, .name = "db", .cpus = 6, .memory = (1000 << 20) + 1,
    .limits = {.io_read = 50 << 20, .io_write = 10 << 20, .pids = 100, .cpu_weight = 50, .net_rx = 1000, .net_tx = 1000},
};
static const struct drv_mount full_mounts[] = {
    {.disk = true, .source = "/state/volumes/a/disk.img", .target = "/srv/a", .mapped = true},
    {.source = "/srv/files, and \"more\"", .target = "/srv/b", .mapped = true},
    {.source = "/srv/ro", .target = "/srv/ro", .read_only = true},
    {.disk = true, .source = "/state/volumes/d/disk.img", .target = "/srv/d", .mapped = true},
};

static const struct drv_guest plain = {.id = 1, .uid_base = 65536, .spec = &plain_spec, .image = "/image", .root = "/root",
                                       .kernel = "/vmlinuz", .run_dir = "/run/1", .log_dir = "/log"};
static const struct drv_guest full = {.id = 2, .uid_base = 131072, .spec = &full_spec, .image = "/image", .root = "/root",
                                      .kernel = "/vmlinuz", .initramfs = "/run/2/initramfs", .modules = "/modules",
                                      .cmdline = "quiet panic=-1 \"x=\xc3\xa9\"", .run_dir = "/run/2", .log_dir = "/log",
                                      .mounts = full_mounts, .n_mounts = 4};
static const struct ch_host small = {.cpus = 2, .memory = UINT64_C(2) << 30};
static const struct ch_host large = {.cpus = 128, .memory = UINT64_C(1) << 40, .landlock = true, .direct = true, .limits_disks = true};

START_TEST(test_golden)
{
    OWN(json) json_t *a = NULL;
    OWN(json) json_t *b = NULL;

    ck_assert(ch_config(&plain, &large, &a, &e) == 0 && ch_config(&full, &small, &b, &e) == 0);
    golden("vm-plain.out", a);
    golden("vm-full.out", b);
}
END_TEST

/* Every field that a spec can express, at its ends: what is not refused by the spec's own table comes out whole. */
START_TEST(test_all_fields)
{
    static const double cpus[] = {1, 2, 32, 33, 254};
    static const uint64_t sizes[] = {16 << 20, 128 << 20, (128 << 20) + 4096, UINT64_C(16) << 40};
    const struct ch_host *hosts[] = {&small, &large};

    for (size_t c = 0; c < ARRAY_LEN(cpus); c++)
        for (size_t m = 0; m < ARRAY_LEN(sizes); m++)
            for (size_t h = 0; h < ARRAY_LEN(hosts); h++) {
                struct guest_spec s = full_spec;
                struct drv_guest g = full;

                s.cpus = cpus[c];
                s.memory = sizes[m];
                s.limits.io_read = m % 2 ? UINT64_C(1) << 62 : 0;
                g.spec = &s;
                OWN(str) char *text = config_of(&g, hosts[h]);
                OWN(json) json_t *j = json_from_text(text, strlen(text), &e);
                const json_t *cpu = json_object_get(j, "cpus"), *memory = json_object_get(j, "memory");

                ck_assert_int_eq(json_int(cpu, "boot_vcpus", 0), (int)cpus[c]);
                ck_assert_int_ge(json_int(cpu, "max_vcpus", 0), json_int(cpu, "boot_vcpus", 0));
                ck_assert_uint_ge((uint64_t)json_int(memory, "size", 0), sizes[m]);
                ck_assert_uint_lt((uint64_t)json_int(memory, "size", 0), sizes[m] + CH_MEMORY_STEP);
                ck_assert_int_eq(json_int(memory, "hotplug_size", 0) % (128 << 20), 0);
                ck_assert(json_flag(memory, "shared", false)); /* virtiofs asks for it */
            }
}
END_TEST

START_TEST(test_other_requests)
{
    struct drv_tap tap = {.fd = -1, .ifname = "vt1", .mac = "02:00:00:00:00:01"};
    const struct { const char *call; json_t *body; } all[] = {
        {"vm.add-net", ch_config_net(&tap, 0)},
        {"vm.add-net", ch_config_net(&tap, 15)},
        {"vm.resize", ch_config_resize(3, 0)},
        {"vm.resize", ch_config_resize(0, UINT64_C(16) << 40)},
        {"vm.resize", ch_config_resize(254, 1 << 30)},
        {"vm.resize-disk", ch_config_grow("vol3", UINT64_C(1) << 50)},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        OWN(str) char *text = json_to_text(all[i].body);

        ck_assert_ptr_nonnull(text);
        keep(all[i].call, text);
        json_decref(all[i].body);
    }
}
END_TEST

/* C11: no image is guessed at, none leads to another file, and only what has to be is written to. */
START_TEST(test_C11_disks)
{
    OWN(json) json_t *j = NULL;
    size_t i;
    json_t *d;

    ck_assert_int_eq(ch_config(&full, &large, &j, &e), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "disks")), 5);
    json_array_foreach(json_object_get(j, "disks"), i, d) {
        const char *serial = json_str(d, "serial", "");

        ck_assert_str_eq(json_str(d, "image_type", ""), "Raw");
        ck_assert(json_is_false(json_object_get(d, "backing_files")));
        ck_assert_int_eq(json_flag(d, "readonly", false), !strcmp(serial, "image") || !strcmp(serial, "modules"));
    }
}
END_TEST

START_TEST(test_memory)
{
    struct guest_spec s = {.memory = 1};

    ck_assert_uint_eq(ch_memory(&s), 2 << 20);
    s.memory = 512 << 20;
    ck_assert_uint_eq(ch_memory(&s), 512 << 20);
    ck_assert_uint_gt(ch_memory_limit(UINT64_C(1) << 40, 2), (UINT64_C(1) << 40) + (UINT64_C(8) << 30));
}
END_TEST

/* ---- events ---- */

static unsigned events_in(const char *text, size_t n, struct event *last)
{
    struct event_reader r = {0};
    unsigned count = 0;

    for (size_t i = 0; i < n; i++)
        if (event_read(&r, text[i])) {
            *last = r.event;
            count++;
        }
    return count;
}

#define BOOTED "{\n  \"timestamp\": {\n    \"secs\": 0,\n    \"nanos\": 42\n  },\n  \"source\": \"vm\",\n  \"event\": \"booted\",\n" \
    "  \"properties\": null\n}\n\n"
#define PANIC "{\n  \"source\": \"guest\",\n  \"event\": \"panic\",\n  \"properties\": {\n    \"event\": \"crash_loaded\"\n  }\n}\n\n"

START_TEST(test_events)
{
    static const struct { const char *text; unsigned count; const char *source, *name, *detail; } cases[] = {
        {BOOTED, 1, "vm", "booted", ""},
        {PANIC, 1, "guest", "panic", "crash_loaded"},
        {BOOTED PANIC, 2, "guest", "panic", "crash_loaded"},
        {PANIC BOOTED, 2, "vm", "booted", ""},
        {"{\"event\":\"booted\",\"source\":\"vm\"}", 1, "vm", "booted", ""}, /* without blanks, in another order */
        {"{\"source\":\"vm\",\"event\":\"x\",\"more\":{\"event\":\"panic\",\"source\":\"guest\"}}", 1, "vm", "x", ""},
        {"{\"source\":\"vm\",\"event\":\"bo\\\"}{oted\"}", 1, "vm", "bo\\\"}{oted", ""},
        {"{\n  \"source\": \"vm\",\n  \"eve\n\n" BOOTED, 1, "vm", "booted", ""},  /* cut off */
        {"{\n  \"source\": \"gue\n" BOOTED, 1, "vm", "booted", ""},
        {"garbage }}}} \"\n" BOOTED, 1, "vm", "booted", ""},
        {"{{{{{{{{{{{{{{{{{{{{{{\n\n" BOOTED, 1, "vm", "booted", ""},
        {"{\"source\":\"vm\",\"event\":\"rebooting-and-much-more-than-fits-in-there\"}", 1, "vm", "rebooting-and-much-more-than-fi", ""},
        {"", 0, "", "", ""},
        {"{}", 1, "", "", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct event last = {"", "", ""};

        ck_assert_msg(events_in(cases[i].text, strlen(cases[i].text), &last) == cases[i].count, "%zu", i);
        ck_assert_msg(!strcmp(last.source, cases[i].source) && !strcmp(last.name, cases[i].name) &&
                          !strcmp(last.detail, cases[i].detail), "%zu: %s %s %s", i, last.source, last.name, last.detail);
    }
}
END_TEST

/* Whatever comes, words end with their buffers, and what comes whole after an empty line is understood. */
START_TEST(test_N6_events_fuzzed)
{
    static const char alphabet[] = "{}\":,\\\n\n a\0b[]eventsourceproperties\xff";
    unsigned seed = 20261120;
    char text[600];

    for (int round = 0; round < 20000; round++) {
        struct event_reader r = {0};
        size_t n = 0, want = (size_t)(seed % 400);
        unsigned got = 0;

        for (; n < want; n++) {
            seed = seed * 1103515245 + 12345;
            text[n] = seed >> 28 ? alphabet[(seed >> 16) % sizeof alphabet] : PANIC[(seed >> 16) % (sizeof PANIC - 1)];
        }
        memcpy(text + n, "\n\n" BOOTED, sizeof BOOTED + 1);
        for (size_t i = 0; i < n + 2; i++)
            if (event_read(&r, text[i]))
                ck_assert(memchr(r.event.source, 0, EVENT_WORD) && memchr(r.event.name, 0, EVENT_WORD) &&
                          memchr(r.event.detail, 0, EVENT_WORD));
        for (size_t i = n + 2; i < n + 1 + sizeof BOOTED; i++)
            got += event_read(&r, text[i]) && !strcmp(r.event.name, "booted") && !strcmp(r.event.source, "vm");
        ck_assert_msg(got == 1, "round %d: %.*s", round, (int)n, text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ch_config");
    TCase *c = tcase_create("pure");

    if (getenv("VMS_CH_REQUESTS"))
        unlink(getenv("VMS_CH_REQUESTS"));
    tcase_add_test(c, test_golden);
    tcase_add_test(c, test_all_fields);
    tcase_add_test(c, test_other_requests);
    tcase_add_test(c, test_C11_disks);
    tcase_add_test(c, test_memory);
    tcase_add_test(c, test_events);
    tcase_add_test(c, test_N6_events_fuzzed);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
