/* A session with the guest's agent, and requests that have no output. */
#include "latch.h"
#include "steps.h"

enum { AGENT_MS = 30000, SETUP_MS = 20000, READY_MS = 30000 };

int job_ask(struct job *j, const struct strv *request, const void *input, size_t n, int64_t ms, struct vm_err *e)
{
    struct agent_exec x = {.request = *request, .input = input, .n_input = n};
    struct agent_wait w = job_agent(j);
    struct agent_result r = {0};

    if (request->failed)
        return vm_no_memory(e);
    if (agent_exec_wait(&w, &x, deadline_in(ms), &r, e) < 0)
        return -1;
    return r.ok ? 0 : vm_fail(e, VM_E_BACKEND, "%s", r.error);
}

int job_setup(struct job *j, struct vm_err *e)
{
    OWN(strv) struct strv q = {0};

    if (boot_request(j->name, j->nics, (const struct network_spec *const *)j->networks, j->n_nics, &q, e) < 0)
        return -1;
    return job_ask(j, &q, NULL, 0, SETUP_MS, e);
}

struct dialled {
    struct latch latch;
    const struct job *job;
    int fd;
    char token[BOOT_TOKEN];
    bool need;
};

/* A session that is not up yet, or whose guest could not be set up, makes way: some lines have room for one alone. */
static void needs_agent(struct guest *g, void *arg)
{
    struct dialled *d = arg;

    d->need = !agent_is_up(g->agent) || !g->agent_ready;
    if (d->need && g->agent)
        guest_drop_agent(g, "a job dials anew");
}

static void answered(struct guest *g, bool up, const char *why, void *arg)
{
    struct dialled *d = arg;
    struct vm_err e = {0};

    (void)g;
    if (!up)
        vm_fail(&e, VM_E_BACKEND, "%s", why);
    latch_open(&d->latch, up ? NULL : &e);
}

static void take_agent(struct guest *g, void *arg)
{
    struct dialled *d = arg;

    if (d->job->cut) { /* whoever cuts drops the session, and has done so already */
        answered(g, false, "not waited for any longer", d);
        return;
    }
    guest_on_agent(g, answered, d);
    guest_take_agent(g, take_fd(&d->fd), d->token);
}

/* It came up, but the guest does not end what it is told to do. */
static void give_up(struct guest *g, void *arg)
{
    if (g->agent_waiter.arg == arg)
        guest_drop_agent(g, "it does not let itself be set up");
}

int step_agent(struct job *j, struct vm_err *e)
{
    struct dialled d = {.job = j, .fd = -1};
    struct deadline until = {.at = deadline_in(AGENT_MS).at, .cut = &j->cut};
    struct drv_guest view;
    int rc;

    job_on_loop(j, needs_agent, &d);
    if (!d.need)
        return 0;
    job_borrow(j, &view);
    if (boot_token_read(j->run_dir, d.token, e) < 0 || j->driver->agent(&view, &j->proc, until, &d.fd, e) < 0)
        return -1;
    latch_init(&d.latch);
    job_on_loop(j, take_agent, &d);
    if (!latch_opens(&d.latch, deadline_in(READY_MS)))
        job_on_loop(j, give_up, &d);
    rc = latch_wait(&d.latch, e);
    fd_drop(d.fd);
    return rc;
}
