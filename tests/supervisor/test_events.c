/* What happened is written to the store, though no thread is to be had for it at first. */
#include "../../supervisor/api.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <turn.h>

enum { WRITE_MS = 2000 };

static unsigned written;
static char last[1000];

int store_event_last(struct store *s, int64_t *id, struct vm_err *e) { (void)s, (void)id, (void)e; return 0; }
int store_put_events(struct store *s, const struct store_event *v, size_t n, struct vm_err *e)
{
    (void)s, (void)e;
    written += (unsigned)n;
    snprintf(last, sizeof last, "%s", v[n - 1].body);
    return 0;
}
int store_events(struct store *s, int64_t since, unsigned limit, int (*each)(const struct store_event *ev, void *arg),
                 void *arg, struct vm_err *e)
{
    (void)s, (void)since, (void)limit, (void)each, (void)arg, (void)e;
    return 0;
}

/* ---- nobody asks ---- */

bool api_flag(const struct http_request *r, const char *name) { (void)r, (void)name; return false; }
const char *http_query(const struct http_request *r, const char *name) { (void)r, (void)name; return NULL; }
void http_on_abort(struct http_request *r, void (*fn)(void *arg), void *arg) { (void)r, (void)fn, (void)arg; }
void http_reply_error(struct http_request *r, const struct vm_err *e) { (void)r, (void)e; }
void http_reply_text(struct http_request *r, int status, const char *type, const char *body, size_t n)
{
    (void)r, (void)status, (void)type, (void)body, (void)n;
}
struct http_stream *http_reply_stream(struct http_request *r, int status, const char *type, void (*gone)(void *arg), void *arg)
{
    (void)r, (void)status, (void)type, (void)gone, (void)arg;
    return NULL;
}
bool http_stream_write(struct http_stream *s, const void *p, size_t n) { (void)s, (void)p, (void)n; return false; }
size_t http_stream_backlog(const struct http_stream *s) { (void)s; return 0; }
void http_stream_on_drain(struct http_stream *s, void (*fn)(void *arg), void *arg) { (void)s, (void)fn, (void)arg; }
void http_stream_end(struct http_stream *s) { (void)s; }

void guest_set_text(char **slot, const char *text)
{
    free(*slot);
    *slot = text ? strdup(text) : NULL;
}

START_TEST(test_no_thread)
{
    struct world w = {0};

    ck_assert_int_eq(loop_open(1, &w.loop, NULL), 0);
    ck_assert_int_eq(events_open(&w, NULL), 0);
    events_add(&w, "db", "state", NULL, "first");
    turn(w.loop, WRITE_MS);
    ck_assert_uint_eq(written, 1);
    loop_drain(w.loop); /* from now on there is none */
    events_add(&w, "db", "state", NULL, "second");
    turn(w.loop, WRITE_MS);
    ck_assert_uint_eq(written, 1);
    events_close(&w);
    ck_assert_uint_eq(written, 2);
    ck_assert_ptr_nonnull(strstr(last, "second"));
    loop_close(w.loop);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("events");
    TCase *t = tcase_create("events");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, test_no_thread);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
