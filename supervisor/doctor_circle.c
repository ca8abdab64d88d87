/* Circles through services: a guest that starts after others which cannot do without it. Pure. */
#include "doctor.h"

#include <stdlib.h>

/* Whom a guest waits for, directly or not. by: from whom each was reached, SIZE_MAX: not at all; todo: room for all. */
static void reach(const struct doctor_needs *waits, size_t from, size_t n_guests, size_t *by, size_t *todo)
{
    size_t first = 0, last = 0;

    for (size_t i = 0; i < n_guests; i++)
        by[i] = SIZE_MAX;
    by[from] = from;
    for (todo[last++] = from; first < last; first++) {
        for (size_t i = 0; i < waits->n; i++) {
            if (waits->v[i].who != todo[first] || by[waits->v[i].whom] != SIZE_MAX)
                continue;
            by[waits->v[i].whom] = todo[first];
            todo[last++] = waits->v[i].whom;
        }
    }
}

/* "dns -> db -> dns: db asks dns for names" */
static void tell(const char *const *names, const size_t *by, size_t server, size_t asker, struct strv *out)
{
    OWN(strv) struct strv way = {0};
    OWN(text) struct text t = {0};

    for (size_t at = asker; at != server; at = by[at])
        strv_add(&way, names[at]);
    text_addf(&t, "%s starts after", names[server]);
    for (size_t i = way.n; i; i--)
        text_addf(&t, "%s %s", i < way.n ? ", which starts after" : "", way.v[i - 1]);
    text_addf(&t, ", which asks %s for names", names[server]);
    out->failed |= way.failed || t.failed;
    if (!out->failed)
        strv_add(out, t.s);
}

void doctor_circles(const char *const *names, size_t n_guests, const struct doctor_needs *waits,
                    const struct doctor_needs *asks, struct strv *out)
{
    size_t *by = calloc(2 * n_guests + 1, sizeof *by);

    out->failed |= !by;
    for (size_t i = 0; i < asks->n && by; i++) {
        size_t server = asks->v[i].whom;

        if (i && asks->v[i - 1].whom == server)
            continue; /* they stand together, and were looked at with the first */
        reach(waits, server, n_guests, by, by + n_guests);
        for (size_t k = i; k < asks->n && asks->v[k].whom == server; k++) {
            if (asks->v[k].who == server || by[asks->v[k].who] == SIZE_MAX)
                continue;
            tell(names, by, server, asks->v[k].who, out);
            break;
        }
    }
    free(by);
}
