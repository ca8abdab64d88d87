/* page.h: what a person is shown of one thing: rows of a label and a value, under headings. One thread. */
#ifndef VMCTL_PAGE_H
#define VMCTL_PAGE_H

#include <stdint.h>
#include <vmsd/text.h>

/* What is being built, how wide a line may be (0: as it likes), and what time it is. */
struct page {
    struct text out;
    size_t width;
    int64_t now;
};
void page_heading(struct page *p, const char *title);
/* A label and its value on one line, made visible and cut to the page. Without a value there is no line. */
void page_row(struct page *p, const char *label, const char *value);
VM_PRINTF(3) void page_rowf(struct page *p, const char *label, const char *fmt, ...);
/* The same, broken between words and never cut: what is to be read to its end. */
VM_PRINTF(3) void page_wrapf(struct page *p, const char *label, const char *fmt, ...);

#endif
