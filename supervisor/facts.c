#include "facts.h"

#include <string.h>

static const char *const names[] = {"VMS_NAME", "VMS_ADDRESS", "VMS_ADDRESS6", "VMS_NETWORK", "VMS_SUBNET", "VMS_DOMAIN"};

struct facts facts_of(const struct guest *g)
{
    struct facts f = {.spec = g->spec};

    if (g->n_nics && (f.network = world_network(g->w, g->nics[0].network)))
        f.nic = &g->nics[0];
    return f;
}

const char *fact(const struct facts *f, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < f->spec->env.n; i++)
        if (!strncmp(f->spec->env.v[i], name, n) && f->spec->env.v[i][n] == '=')
            return f->spec->env.v[i] + n + 1;
    if (!strcmp(name, "VMS_NAME"))
        return f->spec->name;
    if (!f->nic)
        return NULL;
    if (!strcmp(name, "VMS_ADDRESS"))
        return f->nic->address;
    if (!strcmp(name, "VMS_ADDRESS6"))
        return f->nic->address6;
    if (!strcmp(name, "VMS_NETWORK"))
        return f->network->name;
    if (!strcmp(name, "VMS_SUBNET"))
        return f->network->subnet;
    if (!strcmp(name, "VMS_DOMAIN"))
        return f->network->domain;
    return NULL;
}

void facts_env(const struct facts *f, struct strv *q)
{
    strv_add(q, "env=CREDENTIALS_DIRECTORY=" CREDENTIALS_DIR);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *v = fact(f, names[i]);

        if (v && *v)
            strv_addf(q, "env=%s=%s", names[i], v);
    }
    for (size_t i = 0; i < f->spec->env.n; i++)
        strv_addf(q, "env=%s", f->spec->env.v[i]);
}
