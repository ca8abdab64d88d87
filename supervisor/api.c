#include "api.h"
#include "apply.h"
#include "job.h"
#include "profile.h"
#include "wish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

bool api_flag(const struct http_request *r, const char *name)
{
    const char *v = http_query(r, name);

    return v && strcmp(v, "0") && strcmp(v, "false") && strcmp(v, "no");
}

struct guest *api_guest(struct http_request *r, struct world *w)
{
    const char *name = http_path_arg(r, "name");
    struct guest *g = world_guest(w, name);
    struct vm_err e = {0};

    if (g)
        return g;
    vm_fail(&e, VM_E_ABSENT, "there is no guest '%.40s'", name);
    http_reply_error(r, &e);
    return NULL;
}

struct guest *api_guest_with_agent(struct http_request *r, struct world *w)
{
    struct guest *g = api_guest(r, w);
    struct vm_err e = {0};

    if (!g || agent_is_up(g->agent))
        return g;
    if (guest_is_up(g))
        vm_fail(&e, VM_E_UNAVAILABLE, "the agent of '%s' does not answer yet; try again", g->name);
    else
        vm_fail(&e, VM_E_UNAVAILABLE, "'%s' does not run (%s); start it", g->name, life_state_name(g->state));
    http_reply_error(r, &e);
    return NULL;
}

static void work_run(void *arg)
{
    struct api_work *x = arg;
    struct vm_err e = {0};

    x->rc = x->run(x, &x->body, &x->err);
    if (json_lost() && x->rc == 0) /* of this thread; the loop cannot know */
        x->rc = vm_no_memory(&x->err);
    struct store_deed deed = {.verb = x->verb, .what = x->text ? x->text : "", .result = x->rc < 0 ? x->err.text : NULL};

    if (x->verb && store_audit(x->w->store, &x->by, &deed, &e) < 0)
        log_warn(NULL, "audit of '%s': %s, continuing", x->verb, e.text);
}

static void work_done(void *arg, bool cancelled)
{
    struct api_work *x = arg;

    if (cancelled)
        x->rc = x->err.code != VM_E_OK ? -1 : vm_fail(&x->err, VM_E_UNAVAILABLE, "vmsd is ending");
    if (x->request && x->rc < 0)
        http_reply_error(x->request, &x->err);
    else if (x->request)
        http_reply_json(x->request, 200, TAKE(x->body));
    json_decref(x->body);
    json_decref(x->extra);
    free(x->text);
    free(x);
}

static void work_abort(void *arg)
{
    ((struct api_work *)arg)->request = NULL;
}

void api_work(struct http_request *r, struct api_work x)
{
    struct api_work *own = malloc(sizeof *own);
    struct vm_err e = {0};

    if (json_lost() || !own) {
        free(own);
        vm_no_memory(&e);
        http_reply_error(r, &e);
        json_decref(x.extra);
        free(x.text);
        return;
    }
    *own = x;
    own->request = r;
    if (x.verb)
        own->by = access_actor(r);
    http_on_abort(r, work_abort, own);
    if (loop_work(x.w->loop, (struct loop_job){work_run, work_done, own}, &own->err) < 0)
        work_done(own, true);
}

static void reply_text(struct http_request *r, const char *type, const struct text *t)
{
    struct vm_err e = {0};

    if (!t->failed) {
        http_reply_text(r, 200, type, t->s ? t->s : "", t->len);
        return;
    }
    vm_no_memory(&e);
    http_reply_error(r, &e);
}

static void guests_get(struct http_request *r, void *arg)
{
    struct world *w = arg;
    OWN(text) struct text t = {0};

    text_add(&t, "{\"guests\":[");
    for (size_t i = 0; i < w->n_guests; i++) {
        if (i)
            text_add(&t, ",");
        text_add(&t, guest_show(w->guests[i]));
    }
    text_add(&t, "]}\n");
    reply_text(r, "application/json", &t);
}

static int guest_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    size_t n = json_array_size(json_object_get(json_object_get(x->extra, "spec"), "install"));
    json_t *scripts = store_scripts(x->w->store, x->id, e);

    if (!scripts)
        return -1;
    while (json_array_size(scripts) > n) /* what an earlier spec had more */
        json_array_remove(scripts, json_array_size(scripts) - 1);
    json_put(x->extra, "scripts", scripts);
    *body = TAKE(x->extra);
    return 0;
}

static void guest_get(struct http_request *r, void *arg)
{
    struct world *w = arg;
    struct guest *g = api_guest(r, w);
    struct vm_err e = {0};
    json_t *o;
    OWN(json) json_t *spec = NULL;

    if (!g)
        return;
    if (!(spec = json_from_text(g->text, strlen(g->text), &e))) {
        http_reply_error(r, &e);
        return;
    }
    o = json_object();
    json_put(o, "guest", guest_json(g));
    json_put(o, "spec", access_spec(r, spec));
    json_put(o, "checks", health_json(g));
    json_put(o, "job", job_json(g->job ? g->job : g->next));
    json_put(o, "events", events_recent(w, g->name, 20));
    api_work(r, (struct api_work){.w = w, .run = guest_run, .id = g->id, .extra = o});
}

static void health_get(struct http_request *r, void *arg)
{
    struct guest *g = api_guest(r, arg);
    json_t *o;

    if (!g)
        return;
    o = json_object();
    json_put_str(o, "health", health_name(health_of(g)));
    json_put(o, "checks", health_json(g));
    http_reply_json(r, 200, o);
}

static int usage_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *samples = store_samples(x->w->store, x->id, x->number, e);

    if (!samples)
        return -1;
    *body = json_object();
    json_put(*body, "samples", samples);
    return 0;
}

/* since: RFC 3339 as we give it, or seconds before now ("3600"). */
static bool parse_since(const char *s, int64_t *wall)
{
    char again[CLOCK_TEXT];
    struct tm tm = {0};
    const char *rest;
    uint64_t ago;

    if (!s) {
        *wall = wall_ms() - 3600000;
        return true;
    }
    if (text_to_u64(s, &ago) && ago < 1000000000) {
        *wall = wall_ms() - (int64_t)ago * 1000;
        return true;
    }
    if (!(rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm)))
        return false;
    *wall = (int64_t)timegm(&tm) * 1000;
    strftime(again, sizeof again, "%Y-%m-%dT%H:%M:%S", &tm); /* no blanks in it, and no 31st of February */
    if (rest[0] == '.' && strspn(rest + 1, "0123456789"))
        rest += 1 + strspn(rest + 1, "0123456789");
    return !strncmp(s, again, strlen(again)) && !strcmp(rest, "Z");
}

static void usage_get(struct http_request *r, void *arg)
{
    struct guest *g = api_guest(r, arg);
    struct vm_err e = {0};
    int64_t since;

    if (!g)
        return;
    if (!parse_since(http_query(r, "since"), &since)) {
        vm_fail(&e, VM_E_INVALID, "since: expected a time such as 2026-01-31T12:00:00Z, or seconds before now");
        http_reply_error(r, &e);
        return;
    }
    api_work(r, (struct api_work){.w = g->w, .run = usage_run, .id = g->id, .number = since});
}

static void wish(struct http_request *r, void *arg, enum wish_verb verb)
{
    struct guest *g = api_guest(r, arg);

    if (g)
        wish_serve(r, g, verb);
}

static void start_post(struct http_request *r, void *arg)
{
    wish(r, arg, WISH_START);
}

static void stop_post(struct http_request *r, void *arg)
{
    wish(r, arg, WISH_STOP);
}

static void restart_post(struct http_request *r, void *arg)
{
    wish(r, arg, WISH_RESTART);
}

static void rebuild_post(struct http_request *r, void *arg)
{
    wish(r, arg, WISH_REBUILD);
}

static void guest_delete(struct http_request *r, void *arg)
{
    wish(r, arg, WISH_REMOVE);
}

static void validate_post(struct http_request *r, void *arg)
{
    apply_serve(r, arg, APPLY_VALIDATE);
}

static void plan_post(struct http_request *r, void *arg)
{
    apply_serve(r, arg, APPLY_PLAN);
}

static void apply_post(struct http_request *r, void *arg)
{
    apply_serve(r, arg, APPLY_APPLY);
}

static int jobs_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *jobs = store_jobs(x->w->store, x->number, 200, e);

    if (!jobs)
        return -1;
    if (x->number == 0) {
        *body = json_object();
        json_put(*body, "jobs", jobs);
        return 0;
    }
    *body = json_incref(json_array_get(jobs, 0));
    json_decref(jobs);
    return *body ? 0 : vm_fail(e, VM_E_ABSENT, "there is no job %lld", (long long)x->number);
}

static void jobs_get(struct http_request *r, void *arg)
{
    api_work(r, (struct api_work){.w = arg, .run = jobs_run});
}

static void job_get(struct http_request *r, void *arg)
{
    struct vm_err e = {0};
    uint64_t id;

    if (text_to_u64(http_path_arg(r, "id"), &id) && id && id < INT64_MAX) {
        api_work(r, (struct api_work){.w = arg, .run = jobs_run, .number = (int64_t)id});
        return;
    }
    vm_fail(&e, VM_E_INVALID, "the id of a job is a number");
    http_reply_error(r, &e);
}

static void names_get(struct http_request *r, void *arg)
{
    const char *format = http_query(r, "format");
    json_t *o, *list, *entry, *v;
    OWN(text) struct text t = {0};
    struct vm_err e = {0};
    size_t i, k;

    if (format && strcmp(format, "json") && strcmp(format, "hosts")) {
        vm_fail(&e, VM_E_INVALID, "format: expected json or hosts");
        http_reply_error(r, &e);
        return;
    }
    list = names_json(arg);
    if (!format || strcmp(format, "hosts")) {
        o = json_object();
        json_put(o, "names", list);
        http_reply_json(r, 200, o);
        return;
    }
    json_array_foreach (list, i, entry) {
        json_array_foreach (json_object_get(entry, "addresses"), k, v) {
            json_t *name;
            size_t m;

            text_add(&t, json_string_value(v));
            json_array_foreach (json_object_get(entry, "names"), m, name)
                text_addf(&t, " %s", json_string_value(name));
            text_add(&t, "\n");
        }
    }
    json_decref(list);
    reply_text(r, "text/plain; charset=utf-8", &t);
}

static json_t *host_json(struct world *w)
{
    json_t *o = json_object(), *counts = json_object();
    int64_t running = 0, healthy = 0;
    char host[65] = "", at[CLOCK_TEXT];
    struct utsname kernel = {0};
    struct sysinfo si = {0};

    for (size_t i = 0; i < w->n_guests; i++) {
        running += guest_is_up(w->guests[i]);
        healthy += health_of(w->guests[i]) == HEALTH_HEALTHY;
    }
    gethostname(host, sizeof host - 1);
    uname(&kernel);
    sysinfo(&si);
    json_put_str(o, "version", VMSD_VERSION);
    json_put(o, "features", features_json());
    json_put_int(o, "pid", getpid());
    json_put_str(o, "hostname", host);
    json_put_str(o, "kernel", kernel.release);
    json_put_int(o, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
    json_put_int(o, "memory_bytes", (int64_t)w->host_memory);
    json_put_int(o, "uptime", si.uptime);
    json_put_str(o, "started_at", wall_text(w->started_at, at));
    json_put(o, "systemd", json_boolean(w->host.systemd));
    json_put_str(o, "cgroup", w->host.cgroup2 ? "v2" : "v1");
    json_put(o, "drivers", json_incref(w->drivers));
    json_put_int(counts, "guests", (int64_t)w->n_guests);
    json_put_int(counts, "running", running);
    json_put_int(counts, "healthy", healthy);
    json_put(o, "counts", counts);
    return o;
}

static void host_get(struct http_request *r, void *arg)
{
    http_reply_json(r, 200, host_json(arg));
}

static int profile_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    (void)x;
    *body = profile_json(e);
    return *body ? 0 : -1;
}

static void profile_get(struct http_request *r, void *arg)
{
    api_work(r, (struct api_work){.w = arg, .run = profile_run});
}

static int doctor_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *findings = doctor_findings(x->w);

    if (!findings)
        return vm_no_memory(e);
    *body = json_object();
    json_put(*body, "findings", findings);
    return 0;
}

static void doctor_get(struct http_request *r, void *arg)
{
    api_work(r, (struct api_work){.w = arg, .run = doctor_run});
}

static void metrics_get(struct http_request *r, void *arg)
{
    const char *format = http_query(r, "format");
    bool old = format && !strcmp(format, "text");
    OWN(str) char *s = NULL;
    struct text t;
    struct vm_err e;

    if (format && !old && strcmp(format, "openmetrics")) {
        vm_fail(&e, VM_E_INVALID, "format: expected openmetrics or text");
        http_reply_error(r, &e);
        return;
    }
    s = metrics_text(arg, !old);
    t = (struct text){.s = s, .len = s ? strlen(s) : 0, .failed = !s};
    reply_text(r, old ? "text/plain; version=0.0.4; charset=utf-8" : "application/openmetrics-text; version=1.0.0; charset=utf-8", &t);
}

enum { TAR_MAX = (int)(BUNDLE_BYTES_MAX + (BUNDLE_BYTES_MAX >> 2)), FILE_MAX = 64 << 20, SMALL = 64 << 10, WISHES = 1 << 20 };

static const struct http_route routes[] = {
    {"GET", "/v1/host", ROLE_READ, 0, host_get, ""},
    {"GET", "/v1/host/profile", ROLE_READ, 0, profile_get, ""},
    {"GET", "/v1/audit", ROLE_WRITE, 0, audit_get, "since limit"},
    {"GET", "/v1/alerts", ROLE_READ, 0, alerts_get, "all limit"},
    {"GET", "/v1/doctor", ROLE_READ, 0, doctor_get, ""},
    {"GET", "/v1/guests", ROLE_READ, 0, guests_get, ""},
    {"POST", "/v1/guests", ROLE_WRITE, WISHES, wishes_post, ""},
    {"GET", "/v1/guests/{name}", ROLE_READ, 0, guest_get, ""},
    {"GET", "/v1/guests/{name}/health", ROLE_READ, 0, health_get, ""},
    {"GET", "/v1/guests/{name}/usage", ROLE_READ, 0, usage_get, "since"},
    {"GET", "/v1/guests/{name}/inside", ROLE_READ, 0, inside_get, ""},
    {"GET", "/v1/guests/{name}/logs", ROLE_WRITE, 0, logs_get, "source lines follow script"},
    {"POST", "/v1/guests/{name}/exec", ROLE_WRITE, SMALL, exec_serve, ""},
    {"GET", "/v1/guests/{name}/files", ROLE_WRITE, 0, files_get, "path"},
    {"PUT", "/v1/guests/{name}/files", ROLE_WRITE, FILE_MAX, files_put, "path mode owner"},
    {"POST", "/v1/guests/{name}/start", ROLE_WRITE, 0, start_post, "wait"},
    {"POST", "/v1/guests/{name}/stop", ROLE_WRITE, 0, stop_post, "wait"},
    {"POST", "/v1/guests/{name}/restart", ROLE_WRITE, 0, restart_post, "wait"},
    {"POST", "/v1/guests/{name}/rebuild", ROLE_WRITE, 0, rebuild_post, "wait"},
    {"POST", "/v1/guests/{name}/silence", ROLE_WRITE, 0, silence_post, "for"},
    {"DELETE", "/v1/guests/{name}", ROLE_WRITE, 0, guest_delete, "wait purge"},
    {"POST", "/v1/validate", ROLE_WRITE, TAR_MAX, validate_post, "base"},
    {"POST", "/v1/plan", ROLE_WRITE, TAR_MAX, plan_post, "base select* prune purge*"},
    {"POST", "/v1/apply", ROLE_WRITE, TAR_MAX, apply_post, "base select* prune purge* commit"},
    {"GET", "/v1/jobs", ROLE_READ, 0, jobs_get, ""},
    {"GET", "/v1/jobs/{id}", ROLE_READ, 0, job_get, ""},
    {"GET", "/v1/events", ROLE_READ, 0, events_get, "since follow guest"},
    {"GET", "/v1/images", ROLE_READ, 0, images_list, ""},
    {"POST", "/v1/images/{name}/build", ROLE_WRITE, 0, images_build, ""},
    {"DELETE", "/v1/images/{id}", ROLE_WRITE, 0, images_remove, ""},
    {"POST", "/v1/images/gc", ROLE_WRITE, 0, images_gc, ""},
    {"GET", "/v1/volumes", ROLE_READ, 0, volumes_list, ""},
    {"DELETE", "/v1/volumes/{name}", ROLE_WRITE, 0, volumes_remove, ""},
    {"GET", "/v1/names", ROLE_READ, 0, names_get, "format"},
    {"GET", "/v1/metrics", ROLE_READ, 0, metrics_get, "format"},
    {"GET", "/v1/openapi.json", ROLE_READ, 0, openapi_get, NULL},
};

int api_open(struct world *w, int listen_fd, struct vm_err *e)
{
    struct http_options o = {.routes = routes, .n_routes = ARRAY_LEN(routes), .role_of = access_role, .arg = w};

    drv_host_probe(&w->host);
    if (access_open(w, e) < 0) {
        fd_drop(listen_fd);
        return -1;
    }
    return http_serve(w->loop, listen_fd, &o, &w->http, e);
}
