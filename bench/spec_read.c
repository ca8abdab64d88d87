/* spec_read [N]: how long reading, checking and planning N guests takes (1,000 unless told). Prints milliseconds. */
#include "model/help.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vmsd/json.h>

static double ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static const char spec[] =
    "kind: container\n"
    "name: g%d\n"
    "tags: [services, core, data]\n"
    "network: {name: services, address: 10.20.%d.%d}\n"
    "depends_on: [g%d]\n"
    "allow:\n"
    "  - {from: [g0, \"tag:core\"], tcp: [5432]}\n"
    "ports: {host: %d, guest: 80}\n"
    "volumes:\n"
    "  - {name: data%d, target: /var/lib/data, size: 4G}\n"
    "binds:\n"
    "  - {source: ./files/db, target: /srv/files, read_only: true}\n"
    "secrets:\n"
    "  - {name: pg_rss, file: /etc/vmsd/secrets/pg_rss}\n"
    "env: {NUMBER: %d}\n"
    "install:\n"
    "  - scripts/base.sh\n"
    "  - script: scripts/plain.sh\n"
    "    env: {VERSION: \"15\", DATABASES: rss}\n"
    "    inputs: [scripts/lib.sh, files/web]\n"
    "    timeout: 10m\n"
    "health:\n"
    "  - {exec: [runuser, -u, postgres, --, psql, -qtAXc, \"select 1\"], every: 15s, timeout: 5s}\n"
    "  - {units: true, every: 30s}\n";

static struct bundle *make(int n)
{
    struct bundle *b = help_bundle("/srv/vms.d");

    help_text(b, "a.yaml", "kind: network\nname: services\nsubnet: 10.20.0.0/16\n---\n"
                           "kind: defaults\nimage: debian-12\nmemory: 256M\nrestart: {backoff: 1s..2m}\n");
    for (int i = 0; i < n; i++) {
        char text[2000], path[32];

        snprintf(text, sizeof text, spec, i, i / 250 % 256, i % 250 + 2, i ? i - 1 : 1, i % 60000 + 1000, i, i);
        if (!i)
            *strstr(text, "depends_on: [g1]") = '#';
        snprintf(path, sizeof path, "g%d.yaml", i);
        help_text(b, path, text);
    }
    help_usual_files(b);
    help_seal(b);
    return b;
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    OWN(help_bundle) struct bundle *b = make(n);

    for (int round = 0; round < 3; round++) {
        OWN(spec_set) struct spec_set *s = NULL;
        double t0 = ms(), t1, t2, t3;
        size_t *order, changes = 0;

        if (spec_set_read(b, NULL, &s, NULL) < 0 || s->n_errors || !(order = calloc(s->n_guests + 1, sizeof *order))) {
            OWN(str) char *issues = s ? help_issues(s) : NULL;

            fprintf(stderr, "%.2000s\n", issues ? issues : "no memory");
            return 1;
        }
        t1 = ms();
        if (plan_order(s->guests, s->n_guests, order) < 0)
            return 1;
        for (size_t i = 0; i < s->n_guests; i++) { /* against what is stored: unchanged */
            OWN(str) char *text = json_to_text(s->guests[order[i]]->json);
            OWN(plan_change) struct plan_change *c = NULL;
            struct plan_actual have = {.name = s->guests[order[i]]->name, .applied = text, .scripts_done = 2};

            if (plan_guest(&have, s->guests[order[i]], &c, NULL) < 0)
                return 1;
            changes += c->class != PLAN_NONE;
        }
        t2 = ms();
        for (size_t i = 0; i < s->n_guests; i++) { /* against another guest's: changed */
            OWN(str) char *text = json_to_text(s->guests[(i + 1) % s->n_guests]->json);
            OWN(plan_change) struct plan_change *c = NULL;
            struct plan_actual have = {.name = s->guests[i]->name, .applied = text, .scripts_done = 2};

            if (plan_guest(&have, s->guests[i], &c, NULL) < 0)
                return 1;
        }
        t3 = ms();
        printf("%d guests: read and check %.1f ms, plan unchanged %.1f ms (%zu changes), plan changed %.1f ms\n", n, t1 - t0,
               t2 - t1, changes, t3 - t2);
        free(order);
    }
    return 0;
}
