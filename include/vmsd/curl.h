/* <vmsd/curl.h>: libcurl, loaded when it is first needed. Floor 1. Any thread. */
#ifndef VMSD_CURL_H
#define VMSD_CURL_H

#include <curl/curl.h>
#include <vmsd/err.h>

#define LIBCURL_FUNCTIONS(X) \
    X(global_init) X(free) X(slist_append) X(slist_free_all) \
    X(easy_init) X(easy_cleanup) X(easy_setopt) X(easy_getinfo) X(easy_perform) X(easy_escape) X(easy_strerror) \
    X(multi_init) X(multi_cleanup) X(multi_setopt) X(multi_add_handle) X(multi_remove_handle) X(multi_perform) \
    X(multi_poll) X(multi_info_read) X(multi_socket_action) X(multi_assign) X(multi_strerror)
#define X(f) __typeof__(curl_##f) *f;
extern struct libcurl { LIBCURL_FUNCTIONS(X) } libcurl;
#undef X

/* Before any use of libcurl. */
int libcurl_need(struct vm_err *e);

#endif
