/* vmctl: the command that speaks to vmsd. */
#include <fcntl.h>
#include <unistd.h>
#include "cli.h"
#include "fleet.h"
#include "term.h"

/* Where one of these is closed, vmsd's socket would become it: so it is a file that can be neither read nor written. */
static void keep_standard(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        int got = fcntl(fd, F_GETFD) < 0 ? open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) : fd;

        if (got != fd)
            _exit(EXIT_FAILED);
    }
}

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

    keep_standard();
    term_init();
    status = cli_parse(&cli, argc, argv, &e) < 0 ? cli_fail(&cli, &e) : run(&cli);
    cli_done(&cli);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_DONE)
        status = cli_written(-1);
    return status;
}
