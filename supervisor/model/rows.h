/* rows.h: how a table of fields is written. Private to supervisor/model. */
#ifndef VMSD_MODEL_ROWS_H
#define VMSD_MODEL_ROWS_H

#include "fields.h"

#define MEMBER(type, m) .at = offsetof(struct type, m), .size = sizeof(((struct type *)0)->m)
#define MEMBERS(type, m, count) MEMBER(type, m), .n_at = offsetof(struct type, count)
#define NOWHERE .at = NO_MEMBER
#define CHOICES(...) .choices = (const char *const[]){__VA_ARGS__, NULL}
#define KB 0x1p10
#define MB 0x1p20
#define GB 0x1p30
#define TB 0x1p40
#define SECONDS 1e3
#define MINUTES 6e4
#define HOURS 36e5

#define TABLE(name, what, ...) \
    static const struct table name##_table = {.title = what, .rows = name##_rows, .n = ARRAY_LEN(name##_rows), \
                                              __VA_ARGS__}
#define NO_KIND .kind_at = NO_MEMBER

extern const struct table alerts_table; /* of a guest; fields_host.c */

#endif
