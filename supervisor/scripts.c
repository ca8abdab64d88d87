#include "scripts.h"

#include <stdlib.h>
#include <string.h>

void scripts_put(struct guest *g, const struct store_script *r)
{
    bool running = !strcmp(r->state, "running"), done = !strcmp(r->state, "done"), silent = !done && !r->exit_code && !r->signal;
    struct script_result *v, one = {.started_at = r->started_at, .duration_ms = r->duration_ms, .ok = done,
                                    .exit_code = silent ? -1 : r->signal ? 128 + r->signal : r->exit_code};

    if (running) /* vmsd ended while it did */
        return;
    if (r->index >= g->n_scripts) {
        if (!(v = realloc(g->scripts, (r->index + 1) * sizeof *v)))
            return;
        memset(v + g->n_scripts, 0, (r->index + 1 - g->n_scripts) * sizeof *v);
        g->scripts = v;
        g->n_scripts = r->index + 1;
    }
    v = &g->scripts[r->index];
    free(v->script);
    *v = one;
    v->script = strdup(r->script);
}

void scripts_drop(struct guest *g)
{
    for (size_t i = 0; i < g->n_scripts; i++)
        free(g->scripts[i].script);
    free(g->scripts);
    g->scripts = NULL;
    g->n_scripts = 0;
}
