/* What a client is told of the jobs that it asked for, line by line until the last one ended. Loop thread only. A client
 * that goes away stops nothing. Private to supervisor/. */
#ifndef REPORT_H
#define REPORT_H

#include "job.h"

struct report {
    struct watcher watcher;      /* first: jobs know the report by it */
    struct world *w;
    struct http_stream *stream;  /* NULL: nobody listens (any more) */
    unsigned open;               /* jobs that have not ended */
    unsigned changed, failed, blocked, unhealthy;
    struct strv errors, guests;  /* guests: names whose health counts at the end */
    int64_t began;
    bool sealed, finished;
    bool apply;                  /* how it ends is kept as the last apply's */
};

struct report *report_new(struct world *w); /* never NULL */
void report_listen(struct report *x, struct http_request *r); /* answers r with the stream */
void report_line(struct report *x, json_t *line);             /* borrowed */
void report_error(struct report *x, const char *guest, const char *text); /* counts as failed */
void report_submit(struct report *x, struct job *j);          /* j is taken */
/* No more jobs come: when the last has ended, says the result, ends the stream and frees x. */
void report_seal(struct report *x);

#endif
