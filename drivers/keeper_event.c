#include "keeper_event.h"

#include <stdio.h>
#include <string.h>

/* A string is whole: a key, or the value of one. */
static void word_end(struct event_reader *r)
{
    char *to = NULL;

    r->word[r->n] = '\0';
    if (!r->value) {
        memcpy(r->key, r->word, sizeof r->key);
        return;
    }
    if (r->depth == 1 && !strcmp(r->key, "source"))
        to = r->event.source;
    else if (r->depth == 1 && !strcmp(r->key, "event"))
        to = r->event.name;
    else if (r->depth == 2 && r->properties && !strcmp(r->key, "event"))
        to = r->event.detail;
    if (to)
        memcpy(to, r->word, sizeof r->word);
}

static void text_byte(struct event_reader *r, char c)
{
    if (r->escape)
        r->escape = false; /* no word that we know has one */
    else if (c == '\\')
        r->escape = true;
    else if (c == '"') {
        r->text = false;
        word_end(r);
        return;
    }
    if (r->n < sizeof r->word - 1)
        r->word[r->n++] = c;
}

static void object_begin(struct event_reader *r)
{
    if (r->depth == 1)
        r->properties = r->value && !strcmp(r->key, "properties");
    if (++r->depth > EVENT_DEPTH)
        r->broken = true;
    r->value = false;
}

bool event_read(struct event_reader *r, char c)
{
    bool line = r->before == '\n';

    r->before = c;
    if ((line && c == '\n') || (c == '{' && (line || r->depth == 0))) {
        *r = (struct event_reader){.before = c, .depth = c == '{'};
        return false;
    }
    if (r->broken || r->depth == 0)
        return false;
    if (r->text) {
        text_byte(r, c);
        return false;
    }
    switch (c) {
    case '"':
        r->text = true;
        r->n = 0;
        return false;
    case ':':
        r->value = true;
        return false;
    case ',':
        r->value = false;
        return false;
    case '{':
        object_begin(r);
        return false;
    case '}':
        r->value = false;
        return --r->depth == 0;
    default:
        return false;
    }
}
