#include "nth.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nth_calls.h"

/* How many are still to come until one fails; below 1: none. */
static atomic_long left;
static atomic_ulong seen;
static atomic_bool counting, failed;

void __sanitizer_print_stack_trace(void) __attribute__((weak));

bool nth_fails(void)
{
    if (!atomic_load(&counting))
        return false;
    atomic_fetch_add(&seen, 1);
    if (atomic_load(&left) < 1 || atomic_fetch_sub(&left, 1) != 1)
        return false;
    atomic_store(&failed, true);
    if (__sanitizer_print_stack_trace && getenv("NTH_TRACE"))
        __sanitizer_print_stack_trace();
    errno = ENOMEM;
    return true;
}

void nth_arm(unsigned long n)
{
    atomic_store(&failed, false);
    atomic_store(&seen, 0);
    atomic_store(&left, (long)n);
    atomic_store(&counting, true);
}

void nth_over(void)
{
    atomic_store(&counting, false);
}

void nth_again(void)
{
    atomic_store(&counting, true);
}

static struct {
    char *s;
    size_t len;
} said;

void nth_say(const char *fmt, ...)
{
    va_list ap;
    bool was = atomic_exchange(&counting, false);
    char *text, *grown;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0 || !(grown = realloc(said.s, said.len + (size_t)n + 1)))
        abort();
    said.s = grown;
    memcpy(said.s + said.len, text, (size_t)n + 1);
    said.len += (size_t)n;
    free(text);
    atomic_store(&counting, was);
}

static char *said_take(void)
{
    char *s = said.s ? said.s : strdup("");

    said.s = NULL;
    said.len = 0;
    return s;
}

static unsigned fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* What an operation that was denied memory once has to do: succeed wholly, or say that there was none. */
static const char *verdict(bool hit, int rc, const struct vm_err *e, const char *expected, const char *got)
{
    if (!hit && rc)
        return "it fails afterwards, with memory enough";
    if (!rc)
        return strcmp(expected, got) ? "it claims success, and has lost something" : NULL;
    if (e->code == VM_E_OK || e->code >= VM_E_COUNT)
        return "it fails without a code";
    return strstr(e->text, "memory") ? NULL : "it fails and names another cause";
}

static bool complain(const char *name, unsigned long n, const char *what, const char *text)
{
    fprintf(stderr, "%s, allocation %lu: %s: %s\n", name, n, what, text);
    return false;
}

enum { EACH = 200 }; /* so many are each denied; of the others fewer and fewer, but with NTH_ALL in the environment */

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

bool nth_walk(const struct nth_case *c)
{
    struct vm_err e = {0};
    char *expected;
    unsigned long n = 1, told = 0;
    unsigned open;
    bool good = true, all = getenv("NTH_ALL") != NULL;
    int rc;

    for (int warm = 0; warm < 2; warm++) { /* what libraries keep for ever is taken now */
        nth_arm(0);
        rc = c->run(&e);
        nth_over();
        if (rc < 0)
            return complain(c->name, 0, "it fails with memory enough", e.text);
        expected = said_take();
        if (!warm)
            free(expected);
    }
    open = fds();
    for (bool hit = true; hit; n += all ? 1 : 1 + n / EACH) {
        char *got;
        const char *wrong;

        e = (struct vm_err){0};
        nth_arm(n);
        rc = c->run(&e);
        nth_over();
        hit = atomic_load(&failed);
        told += rc < 0;
        got = said_take();
        if ((wrong = verdict(hit, rc, &e, expected, got)))
            good = complain(c->name, n, wrong, rc ? e.text : got);
        free(got);
        if (fds() != open)
            good = complain(c->name, n, fds() > open ? "it leaves a descriptor open" : "it closes one that is not its own",
                            e.text);
        open = fds();
    }
    if (!told)
        good = complain(c->name, 0, "no allocation ever failed", "this shows nothing");
    free(expected);
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
        good = complain(c->name, 0, "memory is lost", "see above");
    printf("%-30s %5lu allocations, %lu told\n", c->name, atomic_load(&seen), told);
    return good;
}

int test_J1_each_allocation_fails(int argc, char **argv, const struct nth_case *v, size_t n)
{
    unsigned bad = 0, ran = 0;

    for (size_t i = 0; i < n; i++) {
        bool wanted = argc < 2;

        for (int a = 1; a < argc; a++)
            wanted |= strstr(v[i].name, argv[a]) != NULL;
        ran += wanted;
        bad += wanted && !nth_walk(&v[i]);
        fflush(stdout);
    }
    printf("%u operations, %u wrong\n", ran, bad);
    return bad || !ran;
}
