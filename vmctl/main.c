/* vmctl: the command that speaks to vmsd. */
#include "cli.h"
#include "fleet.h"
#include "term.h"

static int run(struct cli *cli)
{
    OWN(text) struct text help = {0};

    if (!cli_has(cli, OPT_HELP))
        return cli->hosts.several ? fleet_run(cli) : cli->command->run(cli);
    cli_help(cli->command, &help);
    return cli_written(term_write(&help));
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    struct vm_err e = {0};
    int status;

    term_init();
    status = cli_parse(&cli, argc, argv, &e) < 0 ? cli_fail(&cli, &e) : run(&cli);
    cli_done(&cli);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_DONE)
        status = cli_written(-1);
    return status;
}
