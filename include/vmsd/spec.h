/* <vmsd/spec.h>: what a user wrote, checked and complete. Floor 1, pure. Any thread.
 *
 * A spec exists in two forms that come from one field table: the canonical JSON (keys sorted, defaults merged in,
 * values normalised: sizes in bytes, durations in milliseconds, lists as lists), which is stored, compared and shown;
 * and the struct below, a view on that JSON, which code reads. Equal texts mean: nothing to do. */
#ifndef VMSD_SPEC_H
#define VMSD_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/bundle.h>
#include <vmsd/err.h>
#include <vmsd/own.h>
#include <vmsd/text.h>

enum { SPEC_NAME_MAX = 32, SPEC_FILE_MAX = 1 << 20, SPEC_DEPTH_MAX = 16, SPEC_GUESTS_MAX = 10000,
       NUMBER_NAME_MAX = 128 };

enum spec_kind { KIND_CONTAINER, KIND_MICROVM };

struct spec_list { const char **v; size_t n; };      /* also NULL-terminated: fits argv */
struct spec_range { uint16_t lo, hi; };
struct spec_ranges { struct spec_range *v; size_t n; };

enum spec_image_kind { IMAGE_RECIPE, IMAGE_DIRECTORY, IMAGE_TAR, IMAGE_DISK };
struct spec_image { enum spec_image_kind kind; const char *name; /* recipe or absolute path */ const char *sha256; };

struct spec_nic { const char *network, *address, *address6, *mac; }; /* all but network may be NULL: chosen by vmsd */
struct spec_allow { struct spec_list from; struct spec_ranges tcp, udp; bool icmp; };
struct spec_port { const char *address; /* NULL: all of the host */ uint16_t host, guest; bool udp; };
struct spec_volume { const char *name, *target; uint64_t size; bool directory; };
struct spec_bind { const char *source, *target; bool read_only, mapped; };              /* source is absolute */
struct spec_file { const char *source, *target, *owner; mode_t mode; bool template; };  /* source: path in the bundle */
struct spec_secret { const char *name, *file, *env; struct spec_list command; };        /* one of the three */
struct spec_script {
    const char *script;            /* path in the bundle */
    struct spec_list args, env;    /* env: "KEY=value" */
    const char *user;              /* NULL: root */
    int64_t timeout_ms;
    const char *digest;            /* of all that decides about running again: script, args, env, inputs, user, and of
                                      every script before it */
};
enum spec_check_kind { CHECK_TCP, CHECK_HTTP, CHECK_EXEC, CHECK_UNITS };
struct spec_check {
    enum spec_check_kind kind;
    uint16_t port;                 /* tcp, http */
    const char *path, *host, *body; /* http; host and body may be NULL */
    int status;                    /* http; 0: any 2xx or 3xx */
    struct spec_list exec;
    struct spec_list numbers;      /* exec, http: names that are kept of what it tells; a * at the end: all that begin so */
    int64_t every_ms, timeout_ms, start_period_ms;
    unsigned failures, successes;
};
enum spec_restart_policy { RESTART_ALWAYS, RESTART_ON_FAILURE, RESTART_NO };
struct spec_restart {
    enum spec_restart_policy policy;
    int64_t backoff_min_ms, backoff_max_ms;
    unsigned give_up;              /* that many restarts … */
    int64_t give_up_window_ms;     /* … in this time, then it stays down; 0: never */
};
struct spec_limits { uint64_t pids, io_read, io_write, net_rx, net_tx; unsigned cpu_weight; }; /* 0: none */
struct spec_security { bool read_only_root, no_new_privileges; struct spec_list capabilities; };

/* When somebody is told; 0: never. */
struct spec_alerts {
    int64_t unhealthy_ms;
    unsigned restarts;             /* in a row */
    unsigned memory;               /* per cent of its limit … */
    int64_t memory_for_ms;         /* … for so long */
    unsigned disk;                 /* per cent, of its root and its volumes */
    uint64_t growth;               /* bytes within a day, of the same */
    int64_t applied_ms;
};

/* Strings and lists belong to the spec. */
struct guest_spec {
    json_t *json;                  /* canonical; NULL in a slim one */
    enum spec_kind kind;
    const char *name;
    struct spec_list tags, domains, depends_on;
    struct spec_image image;
    double cpus;
    uint64_t memory, disk;         /* bytes */
    struct spec_nic *nics;         size_t n_nics;
    struct spec_allow *allow;      size_t n_allow;
    struct spec_port *ports;       size_t n_ports;
    struct spec_volume *volumes;   size_t n_volumes;
    struct spec_bind *binds;       size_t n_binds;
    struct spec_list env;          /* "KEY=value" */
    struct spec_file *files;       size_t n_files;
    struct spec_secret *secrets;   size_t n_secrets;
    struct spec_script *install;   size_t n_install;
    struct spec_check *health;     size_t n_health;
    struct spec_restart restart;
    struct spec_limits limits;
    struct spec_security security;
    struct spec_alerts alerts;
    bool autostart;
    int64_t stop_timeout_ms, boot_timeout_ms;
    const char *hypervisor;        /* microvm: auto, cloud-hypervisor, qemu */
    const char *kernel, *initramfs, *cmdline; /* microvm, may be NULL */
    void *arena;                   /* memory of the lists, private */
};

struct network_spec {
    json_t *json;
    const char *name, *bridge;     /* bridge: interface name, always set */
    const char *subnet, *subnet6;  /* CIDR; subnet6 may be NULL */
    bool nat;
    struct spec_list dns;          /* addresses; empty: the host's upstream resolvers */
    const char *domain;            /* "services.internal" */
    struct spec_ranges host_tcp, host_udp; /* host_services: ports of the host open to guests */
    void *arena;
};

enum spec_notify_kind { NOTIFY_COMMAND, NOTIFY_WEBHOOK, NOTIFY_WEBHOOK_FILE, NOTIFY_MAIL };
struct spec_notify {
    enum spec_notify_kind kind;
    struct spec_list command;
    const char *webhook, *webhook_file; /* a URL; a file of the host that holds one */
    const char *mail, *sendmail;   /* an address; the program that takes it */
    int64_t timeout_ms;
};
struct spec_path { const char *path; unsigned full; uint64_t growth; }; /* per cent, bytes within a day; 0: never */

/* What is the host's own. */
struct host_spec {
    json_t *json;
    struct spec_notify *notify;    size_t n_notify;
    struct spec_path *paths;       size_t n_paths;
    unsigned full, critical;       /* per cent, of each file system; 0: never */
    bool drives;
    int64_t remind_ms;             /* 0: told once */
    int64_t recover_ms;
    void *arena;
};

/* One complaint. line and column start at 1; 0: the file as a whole. */
struct spec_issue { char *file; unsigned line, column; bool warning; char *what; /* "what; expected; hint" */ };

struct spec_set {
    struct guest_spec **guests;    size_t n_guests;    /* by name */
    struct network_spec **networks; size_t n_networks; /* by name */
    struct host_spec *host;        /* or NULL: none is there */
    struct spec_issue *issues;     size_t n_issues;    /* by file, line, column */
    size_t n_errors;               /* of the issues, those that are no warnings */
};

/* What the checks may know of the host; zero means unknown and skips the check. */
struct spec_look;
struct spec_host {
    uint64_t memory;
    /* Asked about each guest when all specs are without fault, for what only the host can tell; complains. */
    void (*look)(struct spec_look *at, struct guest_spec *g, void *arg);
    void *arg;
};
/* path: the field that is wrong, "secrets[0]". */
VM_PRINTF(3) void spec_complain(struct spec_look *at, const char *path, const char *fmt, ...);
VM_PRINTF(3) void spec_warn(struct spec_look *at, const char *path, const char *fmt, ...); /* and nothing is refused */

/* Reads every spec of a bundle: parses, merges defaults, checks across specs. Returns 0 also when the specs have
 * errors: they are in issues, and guests and networks then hold only what could be read. -1: no memory. */
int spec_set_read(const struct bundle *b, const struct spec_host *host, struct spec_set **out, struct vm_err *e);
void spec_set_free(struct spec_set *s);
OWN_DEFINE(spec_set, struct spec_set *, spec_set_free)
/* "db.yaml:7:9: cpus: 0 is outside …": yours, or NULL. */
char *spec_issue_text(const struct spec_issue *i);

/* From the canonical text that guest_spec.json gives (json_to_text), as the store keeps it. */
int guest_spec_load(const char *text, struct guest_spec **out, struct vm_err *e);
int network_spec_load(const char *text, struct network_spec **out, struct vm_err *e);
int host_spec_load(const char *text, struct host_spec **out, struct vm_err *e); /* NULL: all defaults */
/* Lets the JSON go, most of a spec's memory, for whoever keeps the text. */
void guest_spec_slim(struct guest_spec *g);
void guest_spec_free(struct guest_spec *g);
void network_spec_free(struct network_spec *n);
void host_spec_free(struct host_spec *h);
OWN_DEFINE(guest_spec, struct guest_spec *, guest_spec_free)
OWN_DEFINE(network_spec, struct network_spec *, network_spec_free)
OWN_DEFINE(host_spec, struct host_spec *, host_spec_free)

/* ${NAME} and $$ in a template; lookup returns a borrowed value or NULL for an unknown name, which is an error that
 * names line and column. *out is yours. */
int spec_template(const char *text, size_t n, const char *(*lookup)(const char *name, void *arg), void *arg, char **out,
                  struct vm_err *e);

/* A value of the canonical spec as one would write it: "512M", "[core, data]", "{host: 8080, guest: 80}". field: as the
 * plan names it, "health[0].every"; an unknown one is written as it is. Yours; NULL: no memory. */
char *spec_value_text(const char *field, const json_t *v);

json_t *spec_schema(void);         /* JSON Schema, draft 2020-12, from the field table; yours */
char *spec_reference(void);        /* Markdown reference of all fields, from the same table; yours */

#endif
