/* table.h: rows of cells that fit the terminal. Pure. */
#ifndef VMCTL_TABLE_H
#define VMCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <vmsd/text.h>

struct table_column {
    const char *title;
    size_t least;  /* may be cut down to that many cells; 0: never cut */
    bool right;    /* a number */
    bool coloured; /* its words have colours: states, health */
};
struct table {
    const struct table_column *columns;
    size_t n_columns;
    struct strv cells; /* row by row */
};

/* The next cell. Text from outside is made visible here; NULL and "" show as "-". */
void table_add(struct table *t, const char *cell);
VM_PRINTF(2) void table_addf(struct table *t, const char *fmt, ...);
/* Appends title and rows. No line is longer than width cells; 0: no limit. */
void table_render(const struct table *t, size_t width, bool colour, struct text *out);
int table_print(const struct table *t);
void table_done(struct table t);
OWN_DEFINE(table, struct table, table_done)

#endif
