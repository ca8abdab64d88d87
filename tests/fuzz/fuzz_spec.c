/* libFuzzer: any bytes as a spec file. What was read loads again, and plans against itself as nothing to do. */
#include "fuzz.h"

#include <vmsd/json.h>
#include <vmsd/plan.h>

static void check_guest(const struct guest_spec *g)
{
    OWN(str) char *text = json_to_text(g->json);
    OWN(guest_spec) struct guest_spec *again = NULL;
    OWN(plan_change) struct plan_change *c = NULL;
    struct plan_actual have = {.name = g->name, .applied = text, .scripts_done = g->n_install};

    if (!text || guest_spec_load(text, &again, NULL) < 0 || plan_guest(&have, again, &c, NULL) < 0 ||
        c->class != PLAN_NONE)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char script[] = "#!/bin/sh\n", *copy = malloc(n + 1);
    struct bundle_file files[] = {{.path = "a.yaml", .mode = 0644, .data = copy, .len = n},
                                  {.path = "s.sh", .mode = 0755, .data = script, .len = sizeof script - 1}};
    struct bundle b = {.files = files, .n = 2, .base = (n & 1) ? "/srv" : NULL};
    OWN(spec_set) struct spec_set *s = NULL;

    if (!copy)
        return 0;
    memcpy(copy, data, n);
    copy[n] = '\0';
    if (!spec_set_read(&b, NULL, &s, NULL) && !s->n_errors)
        for (size_t i = 0; i < s->n_guests; i++)
            check_guest(s->guests[i]);
    free(copy);
    return 0;
}
