#include "libvirt.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

/* A libvirtd that says nothing for KEEPALIVE_S * KEEPALIVE_COUNT is not waited for to tell how a domain ended. */
enum { KEEPALIVE_S = 3, KEEPALIVE_COUNT = 2, CALLS_MAX = 64, IDLE_MAX = 4, ENDS_MAX = 256 };
enum { CALL_WAITED_FOR, CALL_GIVEN_UP, CALL_DONE };

#define VIRT_LIBRARY "libvirt.so.0"
#define VIRT_URI "qemu:///system"
#define VIRT_PREFIX "vmsd-"

/* One lock and one condition for all of it: what they guard is touched a few times in the life of a guest. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct virt v;
    bool loaded;
    virConnectPtr idle[IDLE_MAX];
    unsigned n_idle;
    unsigned calls;       /* under way, given up or not */
    virConnectPtr watch;  /* by which we hear how domains end */
    bool closed, opening; /* closed: watch is of no use any more */
    struct { uint32_t id; int detail; bool set; } ends[ENDS_MAX];
    unsigned ends_next;
} virt = {.lock = PTHREAD_MUTEX_INITIALIZER};

void virt_name(uint32_t id, char out[static VIRT_NAME])
{
    snprintf(out, VIRT_NAME, VIRT_PREFIX "%u", id);
}

/* Under the lock; false when the deadline is over. */
static bool wait_changed(struct deadline d)
{
    struct timespec until;
    int ms = deadline_poll_ms(d);

    if (!deadline_left(d))
        return false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&virt.changed, &virt.lock, &until);
    return true;
}

/* No signal of vmsd is meant for these threads, and nobody waits for their end. */
static int thread_start(void *(*run)(void *), void *arg)
{
    sigset_t all, old;
    pthread_t t;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if ((rc = pthread_create(&t, NULL, run, arg)) == 0)
        pthread_detach(t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* ---- the library ---- */

static void *events_run(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "libvirt-events");
    for (;;)
        if (virt.v.virEventRunDefaultImpl() < 0)
            sleep_ms(100); /* no memory, say: the connection's timers come late */
    return NULL;
}

static void be_silent(void *arg, virErrorPtr error)
{
    (void)arg, (void)error;
}

static int functions_find(void *so, struct virt *v)
{
#define X(f) \
    if (!(v->f = (__typeof__(v->f))dlsym(so, #f))) \
        return -1;
    VIRT_FUNCTIONS(X)
#undef X
    return 0;
}

/* Under the lock. Stays loaded, once it is: its threads and handlers cannot be taken back. */
static int library_load(struct vm_err *e)
{
    pthread_condattr_t attr;
    struct virt v;
    void *so = dlopen(VIRT_LIBRARY, RTLD_NOW | RTLD_LOCAL);

    if (!so)
        return vm_fail(e, VM_E_UNAVAILABLE, VIRT_LIBRARY " is missing; apt install libvirt0");
    if (functions_find(so, &v) < 0) {
        dlclose(so);
        return vm_fail(e, VM_E_UNAVAILABLE, VIRT_LIBRARY " is too old: it needs libvirt 9.0 or newer");
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&virt.changed, &attr);
    pthread_condattr_destroy(&attr);
    virt.v = v;
    v.virSetErrorFunc(NULL, be_silent);
    if (v.virInitialize() < 0 || v.virEventRegisterDefaultImpl() < 0 || thread_start(events_run, NULL) != 0)
        return vm_fail(e, VM_E_UNAVAILABLE, VIRT_LIBRARY " does not start: no memory or no threads");
    return 0;
}

const struct virt *virt_load(struct vm_err *e)
{
    int rc = 0;

    pthread_mutex_lock(&virt.lock);
    if (!virt.loaded)
        virt.loaded = (rc = library_load(e)) == 0;
    pthread_mutex_unlock(&virt.lock);
    return rc < 0 ? NULL : &virt.v;
}

/* ---- errors and domains ---- */

static enum vm_errc code_of(const virError *error)
{
    if (!error)
        return VM_E_BACKEND;
    if (error->domain == VIR_FROM_RPC || error->domain == VIR_FROM_REMOTE || error->code == VIR_ERR_NO_CONNECT)
        return VM_E_UNAVAILABLE;
    return error->code == VIR_ERR_NO_DOMAIN ? VM_E_ABSENT : error->code == VIR_ERR_DOM_EXIST ? VM_E_CONFLICT : VM_E_BACKEND;
}

/* What QEMU itself said, out of what libvirt makes of it: "internal error: …: TIME qemu-system-x86_64: it". */
static const char *qemu_words(const char *message)
{
    const char *at = strstr(message, " qemu-system-");

    return at && (at = strstr(at, ": ")) ? at + 2 : NULL;
}

/* In one line; it may quote a guest's names. */
int virt_fail(const struct virt *v, struct vm_err *e, const char *fmt, ...)
{
    OWN(text) struct text clean = {0};
    virErrorPtr error = v->virGetLastError();
    const char *message = error && error->message ? error->message : "it does not say why", *qemu = qemu_words(message);
    char what[160];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    message = qemu ? qemu : message;
    for (size_t n; *message; message += n + (message[n] == '\n')) {
        n = strcspn(message, "\n");
        text_add_visible(&clean, message, n, NULL);
        if (message[n] && message[n + 1])
            text_add(&clean, "; ");
    }
    return vm_fail(e, code_of(error), "%s: %s: %s", what, qemu ? "QEMU" : "libvirt", clean.s ? clean.s : "no memory");
}

virDomainPtr virt_domain(const struct virt *v, virConnectPtr c, const struct virt_call *call, struct vm_err *e)
{
    virDomainPtr d = v->virDomainLookupByName(c, call->name);

    if (!d)
        virt_fail(v, e, "domain %s", call->name);
    return d;
}

void virt_domain_drop(virDomainPtr d)
{
    if (d)
        virt.v.virDomainFree(d);
}

/* ---- how domains ended ---- */

static int on_lifecycle(virConnectPtr c, virDomainPtr d, int event, int detail, void *arg)
{
    const char *name = virt.v.virDomainGetName(d);
    uint64_t id;

    (void)c, (void)arg;
    if (event != VIR_DOMAIN_EVENT_STOPPED || strncmp(name, VIRT_PREFIX, strlen(VIRT_PREFIX)) ||
        !text_to_u64(name + strlen(VIRT_PREFIX), &id))
        return 0;
    pthread_mutex_lock(&virt.lock);
    virt.ends[virt.ends_next].id = (uint32_t)id;
    virt.ends[virt.ends_next].detail = detail;
    virt.ends[virt.ends_next].set = true;
    virt.ends_next = (virt.ends_next + 1) % ENDS_MAX;
    pthread_cond_broadcast(&virt.changed);
    pthread_mutex_unlock(&virt.lock);
    return 0;
}

/* Under the lock. */
static bool end_find(uint32_t id, int *detail)
{
    bool found = false;

    for (unsigned i = 0; i < ENDS_MAX; i++)
        if (virt.ends[i].set && virt.ends[i].id == id) {
            *detail = virt.ends[i].detail;
            virt.ends[i].set = false;
            found = true;
        }
    return found;
}

bool virt_end_take(uint32_t id, struct deadline d, int *detail)
{
    bool found;

    pthread_mutex_lock(&virt.lock);
    while (!(found = end_find(id, detail)) && virt.watch && !virt.closed && wait_changed(d))
        ;
    pthread_mutex_unlock(&virt.lock);
    return found;
}

void virt_end_forget(uint32_t id)
{
    int detail;

    pthread_mutex_lock(&virt.lock);
    end_find(id, &detail);
    pthread_mutex_unlock(&virt.lock);
}

static void on_close(virConnectPtr c, int reason, void *arg)
{
    (void)c, (void)reason, (void)arg;
    pthread_mutex_lock(&virt.lock);
    virt.closed = true;
    pthread_cond_broadcast(&virt.changed);
    pthread_mutex_unlock(&virt.lock);
}

static virConnectPtr watch_open(void)
{
    const struct virt *v = &virt.v;
    virConnectPtr c = v->virConnectOpen(VIRT_URI);

    if (c && (v->virConnectRegisterCloseCallback(c, on_close, NULL, NULL) < 0 ||
              v->virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                                  VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), NULL, NULL) < 0 ||
              v->virConnectSetKeepAlive(c, KEEPALIVE_S, KEEPALIVE_COUNT) < 0)) {
        v->virConnectClose(c);
        return NULL;
    }
    return c;
}

/* Opened by whoever calls next. While one is at it, the others go on without. */
static void watch_ensure(void)
{
    virConnectPtr old, c;

    pthread_mutex_lock(&virt.lock);
    if (virt.opening || (virt.watch && !virt.closed)) {
        pthread_mutex_unlock(&virt.lock);
        return;
    }
    old = virt.watch;
    virt.watch = NULL;
    virt.closed = false;
    virt.opening = true;
    pthread_mutex_unlock(&virt.lock);
    if (old) {
        virt.v.virConnectUnregisterCloseCallback(old, on_close);
        virt.v.virConnectClose(old);
    }
    c = watch_open();
    pthread_mutex_lock(&virt.lock);
    virt.watch = c;
    virt.opening = false;
    pthread_mutex_unlock(&virt.lock);
}

/* ---- connections for calls ---- */

/* No two threads share one. A call that hangs holds up no other; and libvirt before 10.4 writes to the stack of a thread
 * that is gone when two of them call by one connection (CVE-2024-4418), or when one has a keepalive of its own. */
static virConnectPtr connection_take(struct vm_err *e)
{
    virConnectPtr c = NULL;

    do {
        if (c)
            virt.v.virConnectClose(c); /* libvirtd was started anew */
        pthread_mutex_lock(&virt.lock);
        c = virt.n_idle ? virt.idle[--virt.n_idle] : NULL;
        pthread_mutex_unlock(&virt.lock);
    } while (c && virt.v.virConnectIsAlive(c) != 1);
    if (!c && !(c = virt.v.virConnectOpen(VIRT_URI))) {
        virt_fail(&virt.v, e, "libvirtd (" VIRT_URI ") cannot be reached");
        if (e)
            e->code = VM_E_UNAVAILABLE;
    }
    return c;
}

static void connection_give(virConnectPtr c)
{
    pthread_mutex_lock(&virt.lock);
    if (virt.n_idle < IDLE_MAX) {
        virt.idle[virt.n_idle++] = c;
        c = NULL;
    }
    pthread_mutex_unlock(&virt.lock);
    if (c)
        virt.v.virConnectClose(c);
}

/* ---- calls ---- */

struct virt_call *virt_call_new(uint32_t id, int (*run)(const struct virt *, virConnectPtr, struct virt_call *,
                                                        struct vm_err *))
{
    struct virt_call *call = calloc(1, sizeof *call);

    if (call) {
        call->run = run;
        call->refs = 1;
        virt_name(id, call->name);
    }
    return call;
}

void virt_call_drop(struct virt_call *call)
{
    if (!call || atomic_fetch_sub(&call->refs, 1) > 1)
        return;
    if (call->drop)
        call->drop(call->arg);
    free(call->text);
    free(call);
}

static bool is_given_up(const struct virt_call *call)
{
    bool is;

    pthread_mutex_lock(&virt.lock);
    is = call->state == CALL_GIVEN_UP;
    pthread_mutex_unlock(&virt.lock);
    return is;
}

static void *call_run(void *arg)
{
    struct virt_call *call = arg;
    virConnectPtr c;
    int rc;

    pthread_setname_np(pthread_self(), "libvirt-call");
    if ((c = connection_take(&call->err)))
        watch_ensure();
    /* One that hung until now has been overtaken, by a new start of that guest perhaps. */
    rc = c && !is_given_up(call) ? call->run(&virt.v, c, call, &call->err) : -1;
    pthread_mutex_lock(&virt.lock);
    if (call->state == CALL_GIVEN_UP && rc == 0 && call->undo) {
        pthread_mutex_unlock(&virt.lock);
        call->undo(&virt.v, c, call);
        pthread_mutex_lock(&virt.lock);
    }
    call->state = CALL_DONE;
    call->rc = rc;
    virt.calls--;
    pthread_cond_broadcast(&virt.changed);
    pthread_mutex_unlock(&virt.lock);
    if (c)
        connection_give(c);
    virt_call_drop(call);
    return NULL;
}

/* Under the lock. */
static int call_begin(struct virt_call *call, struct vm_err *e)
{
    if (virt.calls >= CALLS_MAX)
        return vm_fail(e, VM_E_UNAVAILABLE, "libvirtd does not answer: %u calls wait for it", virt.calls);
    atomic_fetch_add(&call->refs, 1);
    if (thread_start(call_run, call) != 0) {
        atomic_fetch_sub(&call->refs, 1);
        return vm_fail(e, VM_E_SYSTEM, "no thread for a call to libvirtd");
    }
    virt.calls++;
    return 0;
}

int virt_ask(struct virt_call *call, struct deadline d, struct vm_err *e)
{
    int rc;

    if (!call)
        return vm_no_memory(e);
    if (!virt_load(e))
        return -1;
    pthread_mutex_lock(&virt.lock);
    if ((rc = call_begin(call, e)) == 0) {
        while (call->state == CALL_WAITED_FOR && wait_changed(d))
            ;
        if (call->state == CALL_DONE) {
            if ((rc = call->rc) < 0 && e)
                *e = call->err;
        } else {
            call->state = CALL_GIVEN_UP;
            rc = vm_fail(e, VM_E_TIMEOUT, "libvirtd does not answer in time; see systemctl status libvirtd");
        }
    }
    pthread_mutex_unlock(&virt.lock);
    return rc;
}
