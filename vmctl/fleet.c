#include "fleet.h"

#include "term.h"

/* What a command does with several hosts: it needs none of them, takes one after the other, knows itself how to put together
 * what they say, or even reaches them by itself. */
enum how { ALONE, HERE, EACH, WHOLE, OWN_WAY };

static const struct {
    int (*run)(struct cli *cli);
    enum how how;
    int (*over)(struct cli *cli); /* if that is another function */
} commands[] = {
    {cmd_ls, WHOLE, NULL},
    {cmd_show, WHOLE, NULL},
    {cmd_events, WHOLE, NULL},
    {cmd_plan, OWN_WAY, fleet_plan},
    {cmd_apply, OWN_WAY, fleet_apply},
    {cmd_top, OWN_WAY, NULL},
    {cmd_host, EACH, NULL},
    {cmd_doctor, EACH, NULL},
    {cmd_alerts, EACH, NULL},
    {cmd_audit, EACH, NULL},
    {cmd_jobs, EACH, NULL},
    {cmd_image_ls, EACH, NULL},
    {cmd_volume_ls, EACH, NULL},
    {cmd_version, EACH, NULL},
    {cmd_validate, HERE, NULL},
    {cmd_completion, HERE, NULL},
    {cmd_complete, HERE, NULL},
    {cmd_schema, HERE, NULL},
    {cmd_reference, HERE, NULL},
    {cmd_manual, HERE, NULL},
};

static void heading(const char *host, bool first)
{
    OWN(text) struct text t = {0};

    text_add(&t, first ? "" : "\n");
    term_add_styled(&t, host, STYLE_BOLD, term_has_colour());
    text_add(&t, "\n");
    term_write(&t);
}

static int each(struct cli *cli)
{
    bool first = true;

    for (size_t i = 0; i < cli->hosts.n; i++) {
        struct host *h = &cli->hosts.v[i];

        if (host_left_out(h))
            continue;
        if (!cli->json)
            heading(h->name, first);
        first = false;
        cli->client = h->client;
        cli_turn(h->name);
        h->status = cli->command->run(cli);
        fflush(stdout);
    }
    cli_turn(NULL);
    return EXIT_DONE;
}

static int refuse(const struct cli *cli)
{
    OWN(text) struct text names = {0};

    for (size_t i = 0; i < cli->hosts.n; i++)
        text_addf(&names, "%s%s", i ? ", " : "", cli->hosts.v[i].name);
    term_complain("%s works on one host at a time, named by -H; these are %zu: %s", cli->command->name, cli->hosts.n,
                  names.failed ? "…" : names.s);
    return EXIT_USAGE;
}

int fleet_run(struct cli *cli)
{
    int (*run)(struct cli *cli) = cli->command->run;
    enum how how = ALONE;
    int status = EXIT_DONE;

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i].run != cli->command->run)
            continue;
        how = commands[i].how;
        run = commands[i].over ? commands[i].over : run;
    }
    if (how == ALONE)
        return refuse(cli);
    if (how == HERE)
        return run(cli);
    if (how == OWN_WAY || hosts_reach(&cli->hosts) == 0)
        status = how == EACH ? each(cli) : run(cli);
    return hosts_status(&cli->hosts, status);
}
