/* Which guests are meant, and in which order they come. */
#include <vmsd/plan.h>

#include <string.h>

/* '*' for any characters, '?' for one. Goes back to the last '*' only, so that no pattern takes long. */
static bool glob(const char *pattern, const char *s)
{
    const char *star = NULL, *from = NULL;

    while (*s) {
        if (*pattern == '*') {
            star = ++pattern;
            from = s;
        } else if (*pattern == '?' || *pattern == *s) {
            pattern++;
            s++;
        } else if (star) {
            pattern = star;
            s = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

static bool match_one(const char *pattern, const char *name, const struct spec_list *tags)
{
    if (strncmp(pattern, "tag:", 4) != 0)
        return glob(pattern, name);
    for (size_t i = 0; tags && i < tags->n; i++)
        if (glob(pattern + 4, tags->v[i]))
            return true;
    return false;
}

bool select_match(const struct strv *patterns, const char *name, const struct spec_list *tags)
{
    if (!patterns || !patterns->n)
        return true;
    for (size_t i = 0; i < patterns->n; i++)
        if (match_one(patterns->v[i], name, tags))
            return true;
    return false;
}

struct place {
    const char *name;
    size_t index;
};

static int place_order(const void *a, const void *b)
{
    return strcmp(((const struct place *)a)->name, ((const struct place *)b)->name);
}

/* A walk in depth without recursion, as a chain may be as long as there are guests. */
struct walk {
    struct guest_spec *const *guests;
    struct place *places; /* by name */
    size_t *next;         /* per guest: how many of its dependencies were looked at, plus 1; 0: not met yet */
    size_t *open;         /* guests whose dependencies are being placed */
    size_t n, n_open, n_done;
};

static void walk_from(struct walk *w, size_t start, size_t *order)
{
    w->open[w->n_open++] = start;
    w->next[start] = 1;
    while (w->n_open) {
        size_t at = w->open[w->n_open - 1];
        const struct spec_list *deps = &w->guests[at]->depends_on;

        if (w->next[at] > deps->n) {
            order[w->n_done++] = at;
            w->n_open--;
        } else {
            struct place key = {.name = deps->v[w->next[at]++ - 1]};
            const struct place *dep = bsearch(&key, w->places, w->n, sizeof key, place_order);

            if (dep && !w->next[dep->index]) {
                w->next[dep->index] = 1;
                w->open[w->n_open++] = dep->index;
            }
        }
    }
}

int plan_order(struct guest_spec *const *guests, size_t n, size_t *order)
{
    OWN(mem) void *places = calloc(n + 1, sizeof(struct place));
    OWN(mem) void *next = calloc(n + 1, sizeof(size_t));
    OWN(mem) void *open = calloc(n + 1, sizeof(size_t));
    struct walk w = {.guests = guests, .places = places, .next = next, .open = open, .n = n};

    if (!places || !next || !open)
        return -1;
    for (size_t i = 0; i < n; i++)
        w.places[i] = (struct place){guests[i]->name, i};
    qsort(w.places, n, sizeof(struct place), place_order);
    for (size_t i = 0; i < n; i++)
        if (!w.next[i])
            walk_from(&w, i, order);
    return 0;
}
