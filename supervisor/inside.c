/* What guests with a kernel of their own say of their memory: the host sees but what their hypervisor takes. Asked from
 * their agents now and then, shown, and believed by nobody. Loop thread only. */
#include "usage.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

enum { SAID_MAX = 1024, STALE_MS = 60000 };

struct inside {
    struct agent_stream *asking; /* one request at a time, or NULL */
    char said[SAID_MAX];
    size_t n;
    int64_t at;                  /* monotonic: of the last answer, 0: none */
    uint64_t total, used;
    uint64_t kills;              /* for lack of memory; UINT64_MAX: it does not say */
};

static void heard(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct inside *x = ((struct guest *)arg)->inside;
    size_t room = sizeof x->said - 1 - x->n;

    if (ch != AGENT_STDOUT || n > room) /* what counts comes first; the rest, however long it is, is not taken */
        agent_stream_pause(x->asking, true);
    if (ch != AGENT_STDOUT)
        return;
    memcpy(x->said + x->n, p, n < room ? n : room);
    x->n += n < room ? n : room;
}

bool inside_number(const char *said, const char *key, uint64_t *out)
{
    size_t n = strlen(key);
    char digits[24];

    for (const char *line = said; line; line = text_next_line(line)) {
        size_t len;

        if (strncmp(line, key, n) || line[n] != '=')
            continue;
        len = strcspn(line + n + 1, "\n");
        if (len >= sizeof digits)
            return false;
        memcpy(digits, line + n + 1, len);
        digits[len] = '\0';
        return text_to_u64(digits, out);
    }
    return false;
}

static void answered(const struct agent_result *r, void *arg)
{
    struct guest *g = arg;
    struct inside *x = g->inside;
    uint64_t total, available;

    x->asking = NULL;
    x->said[x->n] = '\0';
    if (!r->ok || !inside_number(x->said, "memory_total", &total) ||
        !inside_number(x->said, "memory_available", &available) || available > total || total > INT64_MAX)
        return;
    x->at = now_ms();
    x->total = total;
    x->used = total - available;
    if (!inside_number(x->said, "oom_kills", &x->kills))
        x->kills = UINT64_MAX;
    guest_dirty(g);
}

void inside_ask(struct guest *g)
{
    OWN(strv) struct strv q = {0};

    if (!guest_is_up(g) || !g->driver || !(g->driver->can & DRV_BOOTS_KERNEL) || !agent_is_up(g->agent))
        return;
    if (!g->inside && !(g->inside = calloc(1, sizeof *g->inside)))
        return;
    if (g->inside->asking)
        return;
    g->inside->n = 0;
    strv_add(&q, "op=usage");
    if (!q.failed)
        agent_request(g->agent, &q, (struct agent_stream_events){.data = heard, .end = answered, .arg = g},
                      &g->inside->asking, NULL);
}

void inside_drop(struct guest *g)
{
    free(g->inside);
    g->inside = NULL;
}

bool inside_memory(const struct guest *g, uint64_t *used, uint64_t *total)
{
    const struct inside *x = g->inside;

    if (!x || !x->at || !guest_is_up(g) || now_ms() - x->at > STALE_MS)
        return false;
    *used = x->used;
    *total = x->total;
    return true;
}

uint64_t inside_kills(const struct guest *g)
{
    return g->inside && g->inside->at ? g->inside->kills : UINT64_MAX;
}
