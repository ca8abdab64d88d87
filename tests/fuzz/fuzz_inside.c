/* What a guest says of its own memory (op=usage), in pieces of any size on any channel: taken within bounds, and believed only
 * as far as it is one. */
#include "fuzz.h"

#include <supervisor/usage.h>

static struct agent_stream_events stream;
static struct agent_stream *const asked = (struct agent_stream *)&stream; /* only ever compared */
static unsigned dirty;

bool fake_agent_is_up(const struct agent *a);
bool fake_agent_is_up(const struct agent *a)
{
    return !a;
}

bool fake_guest_is_up(const struct guest *g);
bool fake_guest_is_up(const struct guest *g)
{
    return g->state == ST_RUNNING;
}

void fake_guest_dirty(struct guest *g);
void fake_guest_dirty(struct guest *g)
{
    (void)g;
    dirty++;
}

void fake_agent_stream_pause(struct agent_stream *s, bool paused);
void fake_agent_stream_pause(struct agent_stream *s, bool paused)
{
    MUST(s == asked && paused);
}

int fake_agent_request(struct agent *a, const struct strv *request, struct agent_stream_events ev, struct agent_stream **out,
                       struct vm_err *e);
int fake_agent_request(struct agent *a, const struct strv *request, struct agent_stream_events ev, struct agent_stream **out,
                       struct vm_err *e)
{
    (void)a, (void)e;
    MUST(request->n == 1);
    stream = ev;
    *out = asked;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct vm_driver driver = { .can = DRV_BOOTS_KERNEL };
    struct guest g = { .state = ST_RUNNING, .driver = &driver };
    struct agent_result r = { .ok = true };
    uint64_t used, total;

    dirty = 0;
    inside_ask(&g);
    while (n) {
        uint8_t how = next_byte(&data, &n);
        size_t piece = (how >> 1) * 16u + 1;

        piece = piece < n ? piece : n;
        if (piece)
            stream.data(how & 1 ? AGENT_STDERR : AGENT_STDOUT, data, piece, stream.arg);
        data += piece;
        n -= piece;
    }
    stream.end(&r, stream.arg);
    MUST(dirty <= 1 && inside_memory(&g, &used, &total) == dirty);
    MUST(!dirty || (used <= total && total <= INT64_MAX));
    inside_kills(&g);
    inside_drop(&g);
    return 0;
}
