/* Alerts as the API shows them. */
#include "alert.h"
#include "api.h"

enum { LIMIT = 1000, LIMIT_MAX = 10000 };

static int alerts_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *list = store_alerts(x->w->store, x->number, x->limit, e);

    if (!list)
        return -1;
    *body = json_object();
    json_put(*body, "alerts", list);
    json_put(*body, "channels", TAKE(x->extra));
    return 0;
}

void alerts_get(struct http_request *r, void *arg)
{
    struct world *w = arg;
    const char *limit = http_query(r, "limit");
    json_t *channels = json_array();
    struct vm_err e = {0};
    uint64_t n = LIMIT;

    if (limit && (!text_to_u64(limit, &n) || n < 1 || n > LIMIT_MAX)) {
        vm_fail(&e, VM_E_INVALID, "limit: expected a number from 1 to %d", LIMIT_MAX);
        http_reply_error(r, &e);
        json_decref(channels);
        return;
    }
    for (size_t i = 0; i < w->host_spec->n_notify; i++) {
        OWN(str) char *channel = alert_channel(i, &w->host_spec->notify[i]);

        json_array_append_new(channels, channel ? json_string(channel) : NULL);
    }
    api_work(r, (struct api_work){.w = w, .run = alerts_run, .number = api_flag(r, "all"), .limit = (unsigned)n, .extra = channels});
}
