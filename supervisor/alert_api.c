/* Alerts as the API shows them. */
#include "alert.h"
#include "api.h"

#include <string.h>
#include <vmsd/clock.h>

enum { LIMIT_MAX = 1000 /* whoever reads may ask, and often */, SILENCE_S = 3600, SILENCE_MAX_S = 30 * 86400 };

static json_t *silence_json(const char *guest, int64_t until)
{
    char at[CLOCK_TEXT];

    return json_pack("{ss ss}", "guest", guest, "until", wall_text(until, at));
}

static int alerts_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *list = store_alerts(x->w->store, x->number, x->limit, e);

    if (!list)
        return -1;
    *body = json_object();
    json_put(*body, "alerts", list);
    json_put(*body, "channels", json_incref(json_object_get(x->extra, "channels")));
    json_put(*body, "silent", json_incref(json_object_get(x->extra, "silent")));
    return 0;
}

void alerts_get(struct http_request *r, void *arg)
{
    struct world *w = arg;
    const char *limit = http_query(r, "limit");
    json_t *channels = json_array(), *silent = json_array();
    struct vm_err e = {0};
    uint64_t n = LIMIT_MAX;

    if (limit && (!text_to_u64(limit, &n) || n < 1 || n > LIMIT_MAX)) {
        vm_fail(&e, VM_E_INVALID, "limit: expected a number from 1 to %d", LIMIT_MAX);
        http_reply_error(r, &e);
        json_decref(channels);
        json_decref(silent);
        return;
    }
    for (size_t i = 0; i < w->host_spec->n_notify; i++) {
        OWN(str) char *channel = alert_channel(i, &w->host_spec->notify[i]);

        json_array_append_new(channels, channel ? json_string(channel) : NULL);
    }
    for (size_t i = 0; i < w->n_guests; i++)
        if (w->guests[i]->silent_until > wall_ms())
            json_array_append_new(silent, silence_json(w->guests[i]->name, w->guests[i]->silent_until));
    api_work(r, (struct api_work){.w = w, .run = alerts_run, .number = api_flag(r, "all"), .limit = (unsigned)n, .extra = json_pack("{so so}", "channels", channels, "silent", silent)});
}

/* ---- silence ---- */

static void silence_put(void *arg)
{
    const struct api_work *x = arg;
    struct guest *g = world_guest_by_id(x->w, x->id);

    if (g)
        g->silent_until = x->number;
}

/* Written first, then in force. */
static int silence_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    if (store_put_silence(x->w->store, x->id, x->number, e) < 0)
        return -1;
    loop_call(x->w->loop, silence_put, x);
    *body = silence_json(x->text, x->number);
    return 0;
}

void silence_post(struct http_request *r, void *arg)
{
    struct guest *g = api_guest(r, arg);
    const char *text = http_query(r, "for");
    uint64_t seconds = SILENCE_S;
    struct vm_err e = {0};
    char *name;

    if (!g)
        return;
    if (text && (!text_to_u64(text, &seconds) || seconds > SILENCE_MAX_S))
        vm_fail(&e, VM_E_INVALID, "for: expected seconds, at most %d; 0 ends it", SILENCE_MAX_S);
    else if (!(name = strdup(g->name)))
        vm_no_memory(&e);
    else
        api_work(r, (struct api_work){.w = g->w, .run = silence_run, .verb = "silence", .text = name, .id = g->id,
                                      .number = wall_ms() + (int64_t)seconds * 1000});
    if (e.code != VM_E_OK)
        http_reply_error(r, &e);
}
