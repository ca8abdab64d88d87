/* vmctl exec, shell */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "cli.h"
#include "select.h"
#include "session.h"
#include "term.h"

static int add_env(const struct cli *cli, bool tty, json_t *request, struct vm_err *e)
{
    OWN(json) json_t *env = json_object();
    const struct strv *given = &cli->values[OPT_ENV];
    const char *term = getenv("TERM");

    if (tty && term)
        json_put_str(env, "TERM", term);
    for (size_t i = 0; i < given->n; i++) {
        const char *eq = strchr(given->v[i], '=');
        OWN(str) char *key = eq && eq != given->v[i] ? strndup(given->v[i], (size_t)(eq - given->v[i])) : NULL;
        json_t *value = eq ? json_string(eq + 1) : NULL;

        if (!key || !value || json_object_set_new(env, key, value) < 0)
            return vm_fail(e, VM_E_INVALID, "-e %.100s: KEY=VALUE in UTF-8 was expected", given->v[i]);
    }
    json_put(request, "env", TAKE(env));
    return 0;
}

/* vmsd is there, but the command could not be run. */
static int not_run(const struct cli *cli, const struct vm_err *e)
{
    int status = cli_fail(cli, e);

    return status == EXIT_UNREACHED ? status : EXIT_EXEC;
}

static int run(struct cli *cli, const char *const *argv, bool tty, bool forward)
{
    OWN(json) json_t *request = session_request(argv);
    OWN(str) char *guest = NULL;
    /* A name is taken at its word: what vmsd is asked before is what a command waits for. */
    bool named = text_is_label(cli->args[0], SPEC_NAME_MAX);
    struct session_io io = {.in = forward ? STDIN_FILENO : -1, .tty = tty, .out = session_to_stdio};
    struct vm_err e = {0}, why = {0};
    int status;

    if (!request) {
        vm_fail(&e, VM_E_INVALID, "the command's arguments must be UTF-8");
        return cli_fail(cli, &e);
    }
    if (tty && !isatty(STDIN_FILENO)) {
        vm_fail(&e, VM_E_INVALID, "standard input is no terminal, so %s cannot have one either; %s",
                cli->command->name, cli->command->run == cmd_exec ? "leave out -t" : "vmctl exec NAME -- sh needs none");
        return cli_fail(cli, &e);
    }
    json_put_str(request, "user", cli_value(cli, OPT_USER));
    json_put_str(request, "cwd", cli_value(cli, OPT_WORKDIR));
    if (add_env(cli, tty, request, &e) < 0)
        return cli_fail(cli, &e);
    if (!named && select_one(cli, cli->args[0], &guest, &e) < 0)
        return not_run(cli, &e);
    if (session_run(&cli->client, named ? cli->args[0] : guest, request, &io, &status, &e) == 0)
        return status;
    if (named && e.code == VM_E_ABSENT && select_one(cli, cli->args[0], &guest, &why) < 0) /* it knows the nearest */
        e = why;
    return e.sys == EPIPE ? EXIT_PIPE : not_run(cli, &e);
}

int cmd_exec(struct cli *cli)
{
    bool dashes = !strcmp(cli->args[1], "--"), tty = cli_has(cli, OPT_TTY);
    const char *const *argv = (const char *const *)cli->args + 1 + dashes;
    struct vm_err e = {0};

    if (!*argv)
        vm_fail(&e, VM_E_INVALID, "a command is missing: vmctl exec %s -- ARGV…", cli->args[0]);
    else if (!dashes && **argv == '-')
        vm_fail(&e, VM_E_INVALID, "options of exec stand before the guest's name: vmctl exec %s %s -- ARGV…", *argv,
                cli->args[0]);
    if (e.code)
        return cli_fail(cli, &e);
    return run(cli, argv, tty, tty || cli_has(cli, OPT_STDIN) || !isatty(STDIN_FILENO));
}

int cmd_shell(struct cli *cli)
{
    static const char *const argv[] = {
        "/bin/sh",
        "-c",
        "command -v bash >/dev/null && exec bash -l; exec sh -l",
        NULL,
    };

    return run(cli, argv, true, true);
}
