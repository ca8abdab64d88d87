/* stream.h: sinks for answers that come piece by piece. One thread. */
#ifndef VMCTL_STREAM_H
#define VMCTL_STREAM_H

#include <stdbool.h>
#include <vmsd/json.h>
#include <vmsd/text.h>

enum { STREAM_LINE_MAX = 4 << 20 };

/* Cuts an application/x-ndjson answer into its objects. Set record and arg; the rest starts as 0. */
struct stream_records {
    int (*record)(const json_t *object, void *arg, struct vm_err *e);
    void *arg;
    struct text line;
};
int stream_records_sink(const char *p, size_t n, void *records, struct vm_err *e);
/* A last line that was cut off. */
int stream_records_end(struct stream_records *r, struct vm_err *e);

/* Shows text from a guest on standard output: colours and cursor movements (CSI sequences) and carriage returns are
 * left out, anything else that a terminal would act upon comes as \xNN. Starts as { 0 }. */
struct stream_shown {
    struct text held; /* a sequence or a character that is not complete yet */
};
int stream_shown_sink(const char *p, size_t n, void *shown, struct vm_err *e);
int stream_shown_end(struct stream_shown *s, struct vm_err *e);
/* The filter itself, for a text that is whole when `whole`, else as far as it can be decided; returns the bytes of s
 * that it used up. */
size_t stream_show(struct text *out, const char *s, size_t n, bool whole);

/* Writes to the file descriptor that arg points to. */
int stream_fd_sink(const char *p, size_t n, void *fd, struct vm_err *e);

#endif
