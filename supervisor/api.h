/* The API's handlers, a file for each matter. Loop thread only; arg is the world. Private to supervisor/. */
#ifndef API_H
#define API_H

#include "world.h"

/* A query's switch: there, and neither 0 nor false nor no. */
bool api_flag(const struct http_request *r, const char *name);
/* The guest of the path's {name}; NULL: the request has been answered with 404. */
struct guest *api_guest(struct http_request *r, struct world *w);
/* The same, with its agent up; else answered with 503. */
struct guest *api_guest_with_agent(struct http_request *r, struct world *w);

/* Work that may wait, for one request: run on a worker fills body or err, the loop answers. */
struct api_work {
    struct world *w;
    struct http_request *request; /* NULL: the client went away */
    int (*run)(struct api_work *x, json_t **body, struct vm_err *e);
    const char *verb;             /* of the audit log, with text as what it was done to; NULL: it changes nothing */
    char *text;                   /* an argument, freed with it; may be NULL */
    uint32_t id;
    int64_t number;
    unsigned limit;               /* so many at most */
    json_t *extra;                /* taken from the loop's state for run, freed with it; may be NULL */
    json_t *body;
    struct store_actor by;        /* whose request it is */
    int rc;
    struct vm_err err;
};
void api_work(struct http_request *r, struct api_work x);

/* access.c */
int access_open(struct world *w, struct vm_err *e); /* before the API is */
enum http_role access_role(const struct http_peer *p, const gid_t *groups, size_t n, void *arg);
/* A spec as this peer may see it: whoever only reads is told the names of variables, not their values. Yours. */
json_t *access_spec(const struct http_request *r, json_t *spec);
/* Who asks. */
struct store_actor access_actor(const struct http_request *r);
/* Into the audit log, soon: for what is not a wish, an apply, or api_work. verb is static. */
void access_record(struct world *w, const struct http_request *r, const char *verb, const char *what);

/* exec.c */
void exec_serve(struct http_request *r, void *arg);
/* files.c */
void files_get(struct http_request *r, void *arg);
void files_put(struct http_request *r, void *arg);
void inside_get(struct http_request *r, void *arg);
/* events.c */
void events_get(struct http_request *r, void *arg);
/* logs.c */
void logs_get(struct http_request *r, void *arg);
/* images_api.c */
void images_list(struct http_request *r, void *arg);
void images_build(struct http_request *r, void *arg);
void images_remove(struct http_request *r, void *arg);
void images_gc(struct http_request *r, void *arg);
void volumes_list(struct http_request *r, void *arg);
void volumes_remove(struct http_request *r, void *arg);
/* audit.c */
void audit_get(struct http_request *r, void *arg);
/* alert_api.c */
void alerts_get(struct http_request *r, void *arg);
void silence_post(struct http_request *r, void *arg);
/* features.c */
json_t *features_json(void);
/* openapi.c */
void openapi_get(struct http_request *r, void *arg);

#endif
