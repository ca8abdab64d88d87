#include <vmsd/curl.h>

#include <vmsd/lazy.h>
#include <vmsd/own.h>

struct libcurl libcurl;

#define X(f) "curl_" #f,
static const char *const names[] = {LIBCURL_FUNCTIONS(X)};
#undef X
_Static_assert(sizeof libcurl == sizeof names, "the table holds a pointer for each name");

static bool begin(void)
{
    return libcurl.global_init(CURL_GLOBAL_NOTHING) == CURLE_OK;
}

int libcurl_need(struct vm_err *e)
{
    static struct lazy lazy = {.so = "libcurl.so.4", .package = "libcurl4", .names = names, .table = &libcurl,
                               .n = ARRAY_LEN(names), .begin = begin, .lock = PTHREAD_MUTEX_INITIALIZER};

    return lazy_need(&lazy, e);
}
