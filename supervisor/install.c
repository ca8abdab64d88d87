/* Files, secrets and install scripts: what is put into a running guest through its agent. Workers only. */
#include "facts.h"
#include "script_log.h"
#include "scripts.h"
#include "steps.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/child.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

#define BUNDLE_DIR "/var/lib/vmsd/bundle"
enum { PUT_MS = 60000, SYNC_MS = 60000, LOST_MS = 1000 /* from the end of the session to that of the guest */, END_MS = 5000 };

static int put(struct job *j, const char *path, mode_t mode, const char *owner, const void *data, size_t n,
               struct vm_err *e)
{
    OWN(strv) struct strv q = {0};

    strv_add(&q, "op=put");
    strv_addf(&q, "path=%s", path);
    strv_addf(&q, "mode=%o", (unsigned)mode);
    if (owner)
        strv_addf(&q, "owner=%s", owner);
    return job_ask(j, &q, data, n, PUT_MS, e) < 0 ? vm_context(e, "write '%s'", path) : 0;
}

static int simple(struct job *j, const char *op, const char *path, const char *mode, struct vm_err *e)
{
    OWN(strv) struct strv q = {0};

    strv_addf(&q, "op=%s", op);
    strv_addf(&q, "path=%s", path);
    if (mode)
        strv_addf(&q, "mode=%s", mode);
    return job_ask(j, &q, NULL, 0, PUT_MS, e) < 0 ? vm_context(e, "%s '%s'", op, path) : 0;
}

static int load_bundle(struct job *j, struct bundle **out, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(j->w->options->state_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(str) char *tar = NULL;
    char name[100];
    size_t n;

    snprintf(name, sizeof name, "bundles/%.64s.tar", j->bundle);
    if (dir < 0 || path_read(dir, name, BUNDLE_BYTES_MAX * 2, &tar, &n, e) < 0)
        return vm_context(e, "the files of the last apply");
    return bundle_from_tar(tar, n, NULL, out, e);
}

static struct facts facts_of_job(const struct job *j)
{
    return (struct facts){j->spec, j->n_nics ? &j->nics[0] : NULL, j->n_nics ? j->networks[0] : NULL};
}

static const char *fact_of(const char *name, void *facts)
{
    return fact(facts, name);
}

static int put_file(struct job *j, const struct bundle *b, const struct spec_file *f, struct vm_err *e)
{
    OWN(str) char *filled = NULL;
    const struct bundle_file *src = NULL;
    const char *data;
    size_t n;

    for (size_t i = 0; i < b->n && !src; i++)
        if (!strcmp(b->files[i].path, f->source))
            src = &b->files[i];
    if (!src)
        return vm_fail(e, VM_E_ABSENT, "'%s' is not in the bundle", f->source);
    data = src->data;
    n = src->len;
    if (f->template) {
        struct facts facts = facts_of_job(j);

        if (spec_template(src->data, src->len, fact_of, &facts, &filled, e) < 0)
            return vm_context(e, "%s", f->source);
        data = filled;
        n = strlen(filled);
    }
    return put(j, f->target, f->mode, f->owner, data, n, e);
}

static int put_secrets(struct job *j, struct vm_err *e)
{
    if (!j->spec->n_secrets)
        return 0;
    if (simple(j, "mkdir", CREDENTIALS_DIR, "0700", e) < 0)
        return -1;
    for (size_t i = 0; i < j->spec->n_secrets; i++) {
        OWN(str) char *path = text_format(CREDENTIALS_DIR "/%s", j->spec->secrets[i].name);
        struct secret s = {0};
        int rc;

        if (!path)
            return vm_no_memory(e);
        if (secret_read(&j->spec->secrets[i], &s, e) < 0)
            return -1;
        rc = put(j, path, 0400, NULL, s.data, s.n, e);
        secret_wipe(&s);
        if (rc < 0)
            return -1;
    }
    return 0;
}

struct names {
    char *upstream, *hosts, *resolv;
};

static void get_names(struct guest *g, void *arg)
{
    struct names *n = arg;

    names_take_upstream(g->w, n->upstream);
    n->hosts = names_hosts(g->w, g);
    n->resolv = names_resolv(g->w, g);
}

/* They change while the guest runs, when its root can be written no more. */
static int link_names(struct job *j, struct vm_err *e)
{
    OWN(strv) struct strv q = {0};
    struct agent_exec x = {0};
    struct agent_wait w = job_agent(j);
    struct agent_result r = {0};

    strv_add(&q, "op=exec");
    strv_add(&q, "arg=ln");
    strv_add(&q, "arg=-sf");
    strv_add(&q, "arg=" NAMES_DIR "/hosts");
    if (j->n_nics)
        strv_add(&q, "arg=" NAMES_DIR "/resolv.conf");
    strv_add(&q, "arg=/etc/");
    if (q.failed)
        return vm_no_memory(e);
    x.request = q;
    if (agent_exec_wait(&w, &x, deadline_in(PUT_MS), &r, e) < 0)
        return -1;
    return r.ok && !r.exit_code && !r.signal ? 0 : vm_fail(e, VM_E_BACKEND, "ln in the guest fails: no links in /etc to " NAMES_DIR);
}

static int put_names(struct job *j, struct vm_err *e)
{
    bool linked = j->open_root || j->spec->security.read_only_root;
    struct names n = {0};
    int rc = j->open_root ? link_names(j, e) : 0;

    if (rc < 0)
        return -1;
    n.upstream = names_upstream(); /* of now: the check of netsync.c may come too late for a script */
    job_on_loop(j, get_names, &n);
    if (n.hosts)
        rc = put(j, linked ? NAMES_DIR "/hosts" : "/etc/hosts", 0644, NULL, n.hosts, strlen(n.hosts), e);
    if (rc == 0 && n.resolv && j->n_nics)
        rc = put(j, linked ? NAMES_DIR "/resolv.conf" : "/etc/resolv.conf", 0644, NULL, n.resolv, strlen(n.resolv), e);
    free(n.hosts);
    free(n.resolv);
    return rc;
}

/* Owners that only an install script will make have their files written again after the scripts. */
static int put_files(struct job *j, bool last, struct vm_err *e)
{
    OWN(bundle) struct bundle *b = NULL;

    if (!j->spec->n_files || j->spec->security.read_only_root) /* written before it was made so */
        return 0;
    if (load_bundle(j, &b, e) < 0)
        return -1;
    for (size_t i = 0; i < j->spec->n_files; i++) {
        const struct spec_file *f = &j->spec->files[i];
        bool foreign = f->owner && strcmp(f->owner, "root") && strcmp(f->owner, "root:root");

        if (last && !foreign)
            continue;
        if (put_file(j, b, f, e) == 0)
            continue;
        if (last || !foreign || !job_installs(j))
            return -1;
        *e = (struct vm_err){0};
    }
    return 0;
}

int job_files(struct job *j, struct vm_err *e)
{
    if (put_names(j, e) < 0 || put_secrets(j, e) < 0)
        return -1;
    return put_files(j, false, e);
}

static int unpack(struct job *j, const struct bundle *b, struct vm_err *e)
{
    if (simple(j, "remove", BUNDLE_DIR, NULL, e) < 0)
        return -1;
    for (size_t i = 0; i < b->n; i++) {
        OWN(str) char *path = text_format(BUNDLE_DIR "/%s", b->files[i].path);
        bool program = b->files[i].len > 2 && !memcmp(b->files[i].data, "#!", 2);

        if (!path)
            return vm_no_memory(e);
        if (put(j, path, program ? 0755 : b->files[i].mode, NULL, b->files[i].data, b->files[i].len, e) < 0)
            return -1;
    }
    return 0;
}

static void script_request(struct job *j, const struct spec_script *s, struct strv *q)
{
    struct facts facts = facts_of_job(j);

    strv_add(q, "op=exec");
    strv_add(q, "cwd=" BUNDLE_DIR);
    strv_add(q, "merge=1");
    strv_add(q, "env=DEBIAN_FRONTEND=noninteractive");
    facts_env(&facts, q);
    for (size_t i = 0; i < s->env.n; i++)
        strv_addf(q, "env=%s", s->env.v[i]);
    if (s->user)
        strv_addf(q, "user=%s", s->user);
    strv_addf(q, "arg=./%s", s->script);
    for (size_t i = 0; i < s->args.n; i++)
        strv_addf(q, "arg=%s", s->args.v[i]);
}

static int judge(const struct agent_result *r, const struct spec_script *s, const char *last, struct vm_err *e)
{
    if (!r->ok)
        return vm_fail(e, VM_E_BACKEND, "%s: %s", s->script, r->error);
    if (r->signal)
        return vm_fail(e, VM_E_BACKEND, "%s was killed by signal %d", s->script, r->signal);
    if (r->exit_code)
        return vm_fail(e, VM_E_BACKEND, "%s exited with %d%s%.160s", s->script, r->exit_code, *last ? ": " : "", last);
    return 0;
}

struct end {
    bool up;
    char why[200];
};

static void look_at_end(struct guest *g, void *arg)
{
    struct end *x = arg;

    x->up = guest_is_up(g);
    snprintf(x->why, sizeof x->why, "%s", g->error ? g->error : "the guest was shut down");
}

/* The agent was lost. If it went with its guest, then what ended that is to be told. */
static int tell_end(struct job *j, struct vm_err *e)
{
    OWN(fd) int keeper = proc_id_open(&j->proc.keeper, NULL);
    struct pollfd p = {.fd = keeper, .events = POLLIN};
    struct deadline d = deadline_in(END_MS);
    struct end x;

    if (keeper >= 0 && poll(&p, 1, LOST_MS) != 1)
        return -1;
    for (job_on_loop(j, look_at_end, &x); x.up && deadline_left(d); job_on_loop(j, look_at_end, &x))
        sleep_ms(20);
    return x.up ? -1 : vm_fail(e, VM_E_BACKEND, "%s", x.why);
}

/* What the guest wrote goes to its disks before it counts as done: a microVM that is killed, or a host that loses its power,
 * loses what a kernel had not written yet. A container's plain sync would be the whole host's. */
static void sync_disks(struct job *j)
{
    OWN(strv) struct strv q = {0};
    struct vm_err e;

    strv_add(&q, "op=exec");
    strv_add(&q, "arg=sync");
    if (!job_boots(j)) {
        strv_add(&q, "arg=-f");
        strv_add(&q, "arg=/");
        for (size_t i = 0; i < j->spec->n_volumes; i++)
            strv_addf(&q, "arg=%s", j->spec->volumes[i].target);
    }
    if (job_ask(j, &q, NULL, 0, SYNC_MS, &e) < 0)
        log_debug(j->name, "sync: %s", e.text);
}

static void keep_result(struct guest *g, void *row)
{
    scripts_put(g, row);
}

/* The last of what was printed, as far as it may be told: the log is for fewer eyes than an error. */
static void last_line(const struct job *j, const struct text *printed, char *last, size_t max)
{
    const char *line = printed->s ? printed->s : "", *end;

    while ((end = strpbrk(line, "\n\r")))
        line = end + 1;
    if (*line && secrets_may_be_in(j->spec, line))
        snprintf(last, max, "see vmctl logs %s --install", j->name);
    else
        snprintf(last, max, "%s", line);
}

/* The next run overwrites the log, and nothing the audit. */
static void audit(const struct job *j, const struct store_script *row, const struct text *printed)
{
    OWN(json) json_t *detail = json_object();
    OWN(str) char *text = NULL;
    struct vm_err e = {0};

    json_put_str(detail, "script", row->script);
    json_put_int(detail, "exit_code", row->exit_code);
    json_put_int(detail, "signal", row->signal);
    json_put(detail, "duration", json_real((double)row->duration_ms / 1000));
    json_put_str(detail, "output", printed->s && secrets_may_be_in(j->spec, printed->s) ? NULL : printed->s ? printed->s : "");
    if (!(text = json_to_text(detail)))
        vm_no_memory(&e);
    else
        store_audit(j->w->store, &store_vmsd, &(struct store_deed){.verb = "script", .what = j->name, .detail = text,
                                                                  .result = row->error}, &e);
    if (e.code != VM_E_OK)
        log_warn(j->name, "audit of %s: %s, continuing", row->script, e.text);
}

static int run_script(struct job *j, unsigned i, struct vm_err *e)
{
    const struct spec_script *s = &j->spec->install[i];
    OWN(strv) struct strv q = {0};
    struct store_script row = {.index = i, .script = s->script, .state = "running", .started_at = wall_ms()};
    struct agent_exec x = {.on_output = script_log_add};
    struct agent_wait w = job_agent(j);
    struct agent_result r = {0};
    struct script_log *log = NULL;
    char last[200], allowed[TEXT_HUMAN];
    int64_t began = now_ms();
    int rc;

    script_request(j, s, &q);
    if (q.failed)
        return vm_no_memory(e);
    if (store_put_script(j->w->store, j->guest_id, &row, e) < 0 || script_log_new(j, i, &log, e) < 0)
        return -1;
    x.request = q;
    x.arg = log;
    rc = agent_exec_wait(&w, &x, deadline_in(s->timeout_ms), &r, e);
    OWN(text) struct text printed = script_log_end(log);
    last_line(j, &printed, last, sizeof last);
    if (rc < 0 && e->code == VM_E_TIMEOUT)
        vm_fail(e, VM_E_TIMEOUT, "%s took longer than its timeout of %s and was ended", s->script,
                text_human_duration(s->timeout_ms, allowed));
    else if (rc < 0) {
        tell_end(j, e);
        vm_context(e, "%s", s->script);
    } else
        rc = judge(&r, s, last, e);
    if (rc == 0)
        sync_disks(j);
    row.state = rc < 0 ? "failed" : "done";
    row.exit_code = r.exit_code;
    row.signal = r.signal;
    row.duration_ms = now_ms() - began;
    row.error = rc < 0 ? e->text : NULL;
    job_on_loop(j, keep_result, &row);
    audit(j, &row, &printed);
    if (store_put_script(j->w->store, j->guest_id, &row, rc < 0 ? NULL : e) < 0)
        return -1;
    return rc;
}

/* How many of the scripts need not run: those at the front that succeeded on this root with the same digest. */
static unsigned still_valid(const struct job *j)
{
    const char *line = j->digests;
    unsigned i;

    for (i = 0; i < j->scripts_done && i < j->spec->n_install; i++) {
        size_t n = strcspn(line, "\n");
        const char *want = j->spec->install[i].digest;

        if (n != strlen(want) || memcmp(line, want, n))
            break;
        line += n + (line[n] == '\n');
    }
    return i;
}

struct done {
    unsigned n;
    const char *digests;
};

static void set_done(struct guest *g, void *arg)
{
    const struct done *d = arg;

    g->scripts_done = d->n;
    guest_set_text(&g->script_digests, d->digests);
}

static int record(struct job *j, unsigned done, struct vm_err *e)
{
    struct text lines = {0};
    char *digests;
    int rc;

    for (unsigned i = 0; i < done; i++)
        text_addf(&lines, "%s\n", j->spec->install[i].digest);
    if (!(digests = text_take(&lines)))
        return vm_no_memory(e);
    rc = store_put_scripts(j->w->store, j->guest_id, done, digests, e);
    if (rc == 0)
        job_on_loop(j, set_done, &(struct done){done, digests});
    free(digests);
    return rc;
}

static int one_script(struct job *j, struct vm_err *e)
{
    return run_script(j, j->script_index, e);
}

bool job_installs(const struct job *j)
{
    return still_valid(j) < j->spec->n_install;
}

int job_install(struct job *j, struct vm_err *e)
{
    OWN(bundle) struct bundle *b = NULL;
    unsigned first = still_valid(j), n = (unsigned)j->spec->n_install;

    if (first != j->scripts_done && record(j, first, e) < 0)
        return -1;
    if (first == n)
        return 0;
    if (load_bundle(j, &b, e) < 0 || unpack(j, b, e) < 0)
        return -1;
    for (unsigned i = first; i < n; i++) {
        char name[24];

        snprintf(name, sizeof name, "install:%02u", i + 1);
        j->script_index = i;
        j->step_about = j->spec->install[i].script;
        if (job_step(j, name, one_script, e) < 0 || record(j, i + 1, e) < 0)
            return -1;
    }
    j->step_about = NULL;
    if (simple(j, "remove", BUNDLE_DIR, NULL, e) < 0)
        return -1;
    return put_files(j, true, e);
}
