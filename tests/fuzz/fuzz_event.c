/* cloud-hypervisor's --event-monitor, as a hostile VMM would write it: each event's words end within their room, and after
 * two empty lines an event that is whole is understood, whatever came before. */
#include "fuzz.h"

#include <drivers/keeper_event.h>

static bool read_all(struct event_reader *r, const char *p, size_t n)
{
    bool whole = false;

    for (size_t i = 0; i < n; i++) {
        whole = event_read(r, p[i]);
        MUST(r->n < EVENT_WORD && r->depth <= n);
        if (!whole)
            continue;
        MUST(memchr(r->event.source, '\0', EVENT_WORD) && memchr(r->event.name, '\0', EVENT_WORD));
        MUST(memchr(r->event.detail, '\0', EVENT_WORD));
    }
    return whole;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char panic[] = "\n\n{\"source\": \"guest\", \"event\": \"panic\", \"properties\": {\"event\": \"crash\"}}";
    struct event_reader r = { 0 };

    read_all(&r, (const char *)data, n);
    MUST(read_all(&r, panic, sizeof panic - 1));
    MUST(!strcmp(r.event.source, "guest") && !strcmp(r.event.name, "panic") && !strcmp(r.event.detail, "crash"));
    return 0;
}
