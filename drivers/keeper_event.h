/* keeper_event.h: what cloud-hypervisor's --event-monitor tells. Private to vms-keeper; pure, and takes no memory.
 *
 * A stream of JSON objects {"timestamp": …, "source": "vm", "event": "booted", "properties": {"event": "panic"} or null}.
 * The VMM may be hostile or cut off in the middle of an object: whatever comes, the reader stays within its buffers. It
 * begins anew at an empty line, which follows each object, and at a brace that opens a line: neither is within an object. */
#ifndef VMSD_DRIVERS_KEEPER_EVENT_H
#define VMSD_DRIVERS_KEEPER_EVENT_H

#include <stdbool.h>
#include <stddef.h>

enum { EVENT_WORD = 32, EVENT_DEPTH = 8 };

/* Words that are longer are cut off, and so are none that anybody knows. */
struct event { char source[EVENT_WORD], name[EVENT_WORD], detail[EVENT_WORD] /* properties.event */; };

/* Start with {0}. */
struct event_reader {
    struct event event;
    char word[EVENT_WORD], key[EVENT_WORD];
    size_t n, depth;
    bool text, escape, value, properties, broken;
    char before;
};

/* One byte more; true: an object is whole, and r->event is what it says until the next call. */
bool event_read(struct event_reader *r, char c);

#endif
