/* term.h: what standard output is, and text made fit for it. One thread. */
#ifndef VMCTL_TERM_H
#define VMCTL_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <vmsd/text.h>

#define TERM_STYLES(X) X(NONE, "") X(BOLD, "1") X(DIM, "2") X(RED, "31") X(GREEN, "32") X(YELLOW, "33")
#define X(id, code) STYLE_##id,
enum term_style { TERM_STYLES(X) STYLE_COUNT };
#undef X

/* Cells are counted in UTF-8 whatever the user's locale says. */
void term_init(void);
bool term_is_tty(void);       /* standard output is a terminal that understands ANSI sequences */
bool term_has_colour(void);   /* … and NO_COLOR is not set */
/* Both are 0 when standard output is no terminal: then nothing is cut. */
size_t term_columns(void);
size_t term_rows(void);

size_t term_width(const char *s); /* cells that s takes; s is visible text */
/* Appends s cut to at most `cells`, with an ellipsis where it was cut; returns the cells used. */
size_t term_add_cut(struct text *t, const char *s, size_t cells);
void term_add_spaces(struct text *t, size_t n);
/* Appends s with what a terminal would act upon as \xNN. */
void term_add_visible(struct text *t, const char *s);
/* Appends s, which starts at cell `indent`, broken between words where `columns` end (0: nowhere), and a line's end. */
void term_add_wrapped(struct text *t, const char *s, size_t indent, size_t columns);
/* Appends s in that style, if colour is wanted at all. */
void term_add_styled(struct text *t, const char *s, enum term_style style, bool colour);
/* The style of a state, health or level word; STYLE_NONE for all others. */
enum term_style term_style_of(const char *word);

/* Writes a built text to standard output at once. -1: it could not be written. */
int term_write(const struct text *t);
/* One formatted line on standard output or error, made visible as a whole. */
VM_PRINTF(1) void term_say(const char *fmt, ...);
VM_PRINTF(1) void term_complain(const char *fmt, ...); /* "vmctl: …" */

#endif
