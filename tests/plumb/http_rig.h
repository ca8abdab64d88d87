/* "http_rig.h": an HTTP server in a process of its own, and raw clients of it. For tests. */
#ifndef HTTP_RIG_H
#define HTTP_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <vmsd/http.h>
#include <vmsd/text.h>

enum { RIG_WRITER = 0, RIG_READER = 2001, RIG_NOBODY = 65534 }; /* uids, which give the role */
enum { RIG_BODY_MAX = 1000 };

extern char rig_socket[108];

void rig_start(void);
void rig_stop(void); /* fails unless the server ends well, without a leak */

/* The same server within this process. */
struct http_server *rig_serve(struct loop *l);

int rig_dial(uid_t as);
void rig_send(int fd, const void *p, size_t n);
void rig_say(int fd, const char *s);

/* One answer, or what there was until the end. Bounded by some seconds. */
struct rig_answer {
    int status; /* 0: the connection ended without an answer */
    struct text head, body;
};
struct rig_answer rig_hear(int fd);
void rig_answer_done(struct rig_answer a);
OWN_DEFINE(rig_answer, struct rig_answer, rig_answer_done)
bool rig_ended(int fd); /* does the server close it within some seconds? */

/* A whole exchange on a new connection. */
struct rig_answer rig_ask(uid_t as, const char *method, const char *path, const char *body);
/* A number out of GET /v1/counters. */
int64_t rig_count(const char *name);
/* Waits for some seconds until it is that number. */
void rig_await(const char *name, int64_t value);

#endif
