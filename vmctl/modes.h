/* modes.h: what a program in a guest switched on in the user's terminal, so that it can be switched off again. Pure. */
#ifndef VMCTL_MODES_H
#define VMCTL_MODES_H

#include <stdint.h>
#include <vmsd/text.h>

enum { MODES_SEQUENCE = 32 };

/* Starts as { 0 }. */
struct modes {
    char seen[MODES_SEQUENCE]; /* of the sequence that has begun */
    size_t n;
    uint32_t changed; /* a bit for each row of the table in modes.c */
};
/* Bytes on their way to the terminal; a sequence may come in pieces. */
void modes_see(struct modes *m, const char *p, size_t n);
/* Appends what makes the terminal as it was before, and forgets all. Nothing, where nothing was switched. */
void modes_undo(struct modes *m, struct text *out);

#endif
