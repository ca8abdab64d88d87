/* Whatever a VMM answers on its API, in HTTP and in JSON: an error in one clean line, or figures that only ever are shown or
 * compared. The input's first byte says what is asked; each question gets the same answer. */
#include "fuzz.h"

#include <drivers/ch.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/text.h>

enum { PATIENCE_MS = 2000 };

/* ---- the VMM: a thread that answers ---- */

static char dir[] = "/tmp/fuzz_ch.XXXXXX";
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static struct { const uint8_t *p; size_t n; sem_t asked, done; } answer;

static void remove_dir(void)
{
    unlink(address.sun_path);
    rmdir(dir);
}

static void answer_one(int fd)
{
    char request[8192];

    sem_wait(&answer.asked);
    (void)!recv(fd, request, sizeof request, 0);
    (void)!send(fd, answer.p, answer.n, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while (recv(fd, request, sizeof request, 0) > 0) /* until the client is done, so that it hears no reset */
        ;
    close(fd);
    sem_post(&answer.done);
}

static void *play_vmm(void *arg)
{
    const int *listener = arg;

    for (int fd; (fd = accept4(*listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
        answer_one(fd);
    return NULL;
}

static void start_vmm(void)
{
    static int listener;
    pthread_t thread;

    MUST(mkdtemp(dir) && sem_init(&answer.asked, 0, 0) == 0 && sem_init(&answer.done, 0, 0) == 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/" KEEPER_API, dir);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(bind(listener, (const struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 16) == 0);
    MUST(pthread_create(&thread, NULL, play_vmm, &listener) == 0);
    atexit(remove_dir);
}

/* The input is the answer: it stays until nobody sends it any more. */
int fake_ch_call(const struct ch_call *c, struct deadline d, json_t **out, struct vm_err *e);
int fake_ch_call(const struct ch_call *c, struct deadline d, json_t **out, struct vm_err *e)
{
    sem_post(&answer.asked);
    int rc = ch_call(c, d, out, e);
    sem_wait(&answer.done);
    return rc;
}

/* ---- what a host has besides ---- */

void fake_ch_host_probe(const struct drv_guest *g, struct ch_host *out);
void fake_ch_host_probe(const struct drv_guest *g, struct ch_host *out)
{
    (void)g;
    *out = (struct ch_host){ .cpus = 2, .memory = 1 << 30 };
}

int fake_ch_disk_limits(const struct drv_guest *g, const struct ch_host *h, const struct guest_spec *bounds, uint64_t rate,
                        struct vm_err *e);
int fake_ch_disk_limits(const struct drv_guest *g, const struct ch_host *h, const struct guest_spec *bounds, uint64_t rate,
                        struct vm_err *e)
{
    (void)g, (void)h, (void)rate, (void)e;
    MUST(bounds->memory > 0);
    return 0;
}

int fake_cgroup_limits(const struct cgroup *c, const struct guest_spec *s, const dev_t *devices, size_t n, struct vm_err *e);
int fake_cgroup_limits(const struct cgroup *c, const struct guest_spec *s, const dev_t *devices, size_t n, struct vm_err *e)
{
    (void)c, (void)devices, (void)n, (void)e;
    MUST(s->memory <= (1 << 30)); /* the VMM cannot talk its own limit up */
    return 0;
}

void fake_cgroup_stats(const struct cgroup *c, struct drv_stats *out);
void fake_cgroup_stats(const struct cgroup *c, struct drv_stats *out)
{
    (void)c;
    *out = (struct drv_stats){ .cpu_seconds = 1, .memory = 1, .memory_limit = 1 << 30 };
}

/* ---- what is asked ---- */

static int call(const char *method, const char *what, struct vm_err *e)
{
    OWN(json) json_t *body = json_object(), *got = NULL;
    struct ch_call c = { dir, method, what, strcmp(method, "GET") ? body : NULL, -1 };

    return fake_ch_call(&c, deadline_in(PATIENCE_MS), &got, e);
}

static int limits(struct vm_err *e)
{
    struct guest_spec s = { .name = "db", .memory = 256 << 20, .cpus = 2 };
    struct drv_guest g = { .id = 1, .spec = &s, .run_dir = dir };

    return ch_driver.limits(&g, NULL, e);
}

static int stats(struct vm_err *e)
{
    struct drv_proc nobody = { 0 };
    struct drv_stats s;

    return ch_driver.stats(1, dir, &nobody, &s, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static bool started;
    struct vm_err e = { 0 };
    uint8_t what = next_byte(&data, &n) % 4;
    int rc;

    if (!started)
        start_vmm();
    started = true;
    answer.p = data;
    answer.n = n;
    if (what == 0)
        rc = call("GET", "vm.info", &e);
    else if (what == 1)
        rc = call("PUT", "vm.boot", &e);
    else if (what == 2)
        rc = limits(&e);
    else
        rc = stats(&e);
    MUST(rc == 0 || (rc == -1 && e.text[0] && text_is_clean(e.text, strlen(e.text))));
    return 0;
}
