/* <vmsd/err.h>: an error is a value. Floor 0. Any thread. */
#ifndef VMSD_ERR_H
#define VMSD_ERR_H

#include <stdio.h>

#define VM_PRINTF(n) __attribute__((format(printf, n, n + 1)))

#define VM_ERRORS(X) /* code, name, HTTP status, exit status of vmctl */ \
    X(OK,          "ok",          200, 0) \
    X(INVALID,     "invalid",     400, 2) \
    X(DENIED,      "denied",      403, 1) \
    X(ABSENT,      "absent",      404, 1) \
    X(CONFLICT,    "conflict",    409, 1) \
    X(TOO_LARGE,   "too-large",   413, 2) \
    X(SYSTEM,      "system",      500, 1) \
    X(BACKEND,     "backend",     502, 1) \
    X(UNAVAILABLE, "unavailable", 503, 1) \
    X(TIMEOUT,     "timeout",     504, 1)

#define X(id, name, http, exit) VM_E_##id,
enum vm_errc { VM_ERRORS(X) VM_E_COUNT };
#undef X

/* text is one line without a final newline: the thing, the cause and, where there is one, the remedy. It is valid UTF-8,
 * also where it was cut off. */
struct vm_err {
    enum vm_errc code;
    int sys; /* errno, or 0 */
    char text[400];
};

/* All three fill *e (which may be NULL) and return -1, so that a function can end with them. */
VM_PRINTF(3) int vm_fail(struct vm_err *e, enum vm_errc code, const char *fmt, ...);
VM_PRINTF(2) int vm_fail_sys(struct vm_err *e, const char *fmt, ...); /* SYSTEM; adds ": strerror(errno)" */
VM_PRINTF(2) int vm_context(struct vm_err *e, const char *fmt, ...);  /* "new: old text", code kept */
int vm_no_memory(struct vm_err *e);

/* They are called through this: so compilers and analyzers see at each call that it is -1, and raise no false alarm. */
static inline int vm_failed(int rc)
{
    (void)rc;
    return -1;
}
#define vm_fail(...) vm_failed(vm_fail(__VA_ARGS__))
#define vm_fail_sys(...) vm_failed(vm_fail_sys(__VA_ARGS__))
#define vm_context(...) vm_failed(vm_context(__VA_ARGS__))
#define vm_no_memory(...) vm_failed(vm_no_memory(__VA_ARGS__))

const char *vm_err_name(enum vm_errc code);
int vm_err_http(enum vm_errc code);
int vm_err_exit(enum vm_errc code);

#endif
