#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/un.h>
#include "older.h"
#include "term.h"

#define X(fn, name, usage, options, least, most, help) {name, usage, options, least, most, help, cmd_##fn},
const struct cli_command cli_commands[] = {CLI_COMMANDS(X)};
#undef X
const size_t n_cli_commands = ARRAY_LEN(cli_commands);

#define X(id, letter, word, argument, help) [OPT_##id] = {letter, word, argument, help},
const struct cli_option_row cli_options[OPT_COUNT] = {CLI_OPTIONS(X)};
#undef X

/* getopt's own tables for a set of options: val is the row, moved out of the letters' way. */
enum { ROW_BASE = 256, LETTERS_MAX = 3 * OPT_COUNT + 3 };
struct getopt_tables {
    char letters[LETTERS_MAX];
    struct option words[OPT_COUNT + 1];
};

static void tables_fill(struct getopt_tables *g, uint32_t set, bool stop_at_argument)
{
    size_t n = 0, at = 0;

    *g = (struct getopt_tables){0};
    if (stop_at_argument)
        g->letters[at++] = '+';
    g->letters[at++] = ':'; /* a missing argument is told from an unknown option */
    for (int i = 0; i < OPT_COUNT; i++) {
        const struct cli_option_row *row = &cli_options[i];

        if (!(set & 1u << i))
            continue;
        if (row->letter) {
            g->letters[at++] = row->letter;
            if (row->argument)
                g->letters[at++] = ':';
        }
        g->words[n++] = (struct option){
            .name = row->word,
            .has_arg = !row->argument            ? no_argument
                       : row->argument[0] == '[' ? optional_argument
                                                 : required_argument,
            .val = ROW_BASE + i,
        };
    }
}

static int row_of(int got, uint32_t set)
{
    for (int i = 0; i < OPT_COUNT; i++)
        if ((set & 1u << i) && (got == ROW_BASE + i || got == cli_options[i].letter))
            return i;
    return -1;
}

/* got: what getopt_long complained with. */
static int bad_option(const struct cli *cli, int got, const char *argument, uint32_t set, struct vm_err *e)
{
    const char *space = cli->command ? " " : "", *name = cli->command ? cli->command->name : "";
    const char *words[OPT_COUNT], *near = NULL;
    char letter[] = {'-', (char)optopt, '\0'};
    const char *given = optopt && optopt < ROW_BASE ? letter : argument;
    size_t n = 0;

    if (got == ':')
        return vm_fail(e, VM_E_INVALID, "%.100s needs an argument; see vmctl %s%s--help", given, name, space);
    if (optopt >= ROW_BASE)
        return vm_fail(e, VM_E_INVALID, "%.100s: it takes no argument; see vmctl %s%s--help", given, name, space);
    for (int i = 0; i < OPT_COUNT; i++)
        if (set & 1u << i)
            words[n++] = cli_options[i].word;
    if (!strncmp(given, "--", 2))
        near = text_nearest(given + 2, words, n);
    return vm_fail(e, VM_E_INVALID, "unknown option %.100s%s%s; see vmctl %s%s--help", given,
                   near ? "; did you mean --" : "", near ? near : "", name, space);
}

/* Takes the options of argv that are in the set; *rest is the first argument. */
static int take_options(struct cli *cli, int argc, char **argv, uint32_t set, bool stop_at_argument, int *rest,
                        struct vm_err *e)
{
    struct getopt_tables g;
    int got, row;

    tables_fill(&g, set, stop_at_argument);
    optind = 0; /* begin anew and forget what was read before */
    opterr = 0;
    while ((got = getopt_long(argc, argv, g.letters, g.words, NULL)) != -1) {
        if ((row = row_of(got, set)) < 0)
            return bad_option(cli, got, argv[optind - 1], set, e);
        strv_add(&cli->values[row], optarg ? optarg : "");
        if (cli->values[row].failed)
            return vm_no_memory(e);
    }
    *rest = optind;
    return 0;
}

static const struct cli_command *command_find(const char *name)
{
    for (size_t i = 0; i < n_cli_commands; i++)
        if (!strcmp(cli_commands[i].name, name))
            return &cli_commands[i];
    return NULL;
}

/* One word, or two: "image ls". *words: how many it took. */
static int command_take(struct cli *cli, int argc, char **argv, int *words, struct vm_err *e)
{
    OWN(str) char *two = argc > 1 ? text_format("%s %s", argv[0], argv[1]) : NULL;
    const char *names[ARRAY_LEN(cli_commands)], *near;
    size_t n = 0, length = strlen(argv[0]);

    if ((cli->command = two ? command_find(two) : NULL)) {
        *words = 2;
        return 0;
    }
    if ((cli->command = command_find(argv[0]))) {
        *words = 1;
        return 0;
    }
    for (size_t i = 0; i < n_cli_commands; i++) {
        const struct cli_command *c = &cli_commands[i];

        if (!strncmp(c->name, argv[0], length) && c->name[length] == ' ')
            return vm_fail(e, VM_E_INVALID, "'%.40s' wants one more word, as in 'vmctl %s'; see vmctl --help", argv[0],
                           c->name);
        if (c->usage)
            names[n++] = c->name;
    }
    near = text_nearest(argv[0], names, n);
    return vm_fail(e, VM_E_INVALID, "unknown command '%.100s'%s%s%s; see vmctl --help", argv[0],
                   near ? "; did you mean '" : "", near ? near : "", near ? "'" : "");
}

static int command_check(struct cli *cli, struct vm_err *e)
{
    const struct cli_command *c = cli->command;
    const char *format = cli_value(cli, OPT_OUTPUT);

    if (format && !(c->options & OPT(OUTPUT)))
        return vm_fail(e, VM_E_INVALID, "%s has no -o; its output is what it is", c->name);
    if (format && strcmp(format, "json") != 0 && strcmp(format, "table") != 0)
        return vm_fail(e, VM_E_INVALID, "-o %.40s: unknown format; json or table", format);
    cli->json = format && !strcmp(format, "json");
    if (cli->n_args < c->least)
        return vm_fail(e, VM_E_INVALID, "an argument is missing; usage: vmctl %s %s", c->name, c->usage);
    if (cli->n_args > c->most)
        return vm_fail(e, VM_E_INVALID, "too many arguments, from '%.100s' on; usage: vmctl %s%s%s",
                       cli->args[c->most], c->name, c->usage && *c->usage ? " " : "", c->usage ? c->usage : "");
    return 0;
}

/* What was said is stronger than the environment, and a host stronger than a socket. */
static int choose_daemon(struct cli *cli, struct vm_err *e)
{
    const char *socket = cli_value(cli, OPT_SOCKET);
    bool said = socket;

    if (said && (cli_has(cli, OPT_HOST) || cli_has(cli, OPT_HOSTS)))
        return vm_fail(e, VM_E_INVALID, "--socket is of this host, -H of another one: give one of them");
    if (!said)
        socket = getenv("VMSD_SOCKET");
    cli->client.socket = socket && *socket ? socket : CLIENT_SOCKET;
    if (strlen(cli->client.socket) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return vm_fail(e, VM_E_INVALID, "the socket's path is longer than the kernel takes: %s", cli->client.socket);
    return said ? 0 : hosts_choose(cli, e);
}

int cli_parse(struct cli *cli, int argc, char **argv, struct vm_err *e)
{
    static char help[] = "--help", version[] = "version";
    int rest, words = 1;

    if (argc > 1 && !strcmp(argv[1], "help")) /* these two as most programs have them */
        argv[1] = help;
    else if (argc > 1 && !strcmp(argv[1], "--version"))
        argv[1] = version;
    if (take_options(cli, argc, argv, OPTS_ALWAYS | OPT(OUTPUT), true, &rest, e) < 0)
        return -1;
    if (rest < argc) {
        argc -= rest;
        argv += rest;
        if (command_take(cli, argc, argv, &words, e) < 0)
            return -1;
        argc -= words - 1;
        argv += words - 1;
        /* What stands behind exec's NAME is the command's own. */
        if (take_options(cli, argc, argv, cli->command->options | OPTS_ALWAYS, cli->command->run == cmd_exec, &rest,
                         e) < 0)
            return -1;
        cli->args = argv + rest;
        cli->n_args = (size_t)(argc - rest);
        if (!cli_has(cli, OPT_HELP) && command_check(cli, e) < 0)
            return -1;
    } else if (!cli_has(cli, OPT_HELP)) {
        return vm_fail(e, VM_E_INVALID, "a command is missing; see vmctl --help");
    }
    return cli_has(cli, OPT_HELP) ? 0 : choose_daemon(cli, e);
}

void cli_done(struct cli *cli)
{
    hosts_done(&cli->hosts);
    for (int i = 0; i < OPT_COUNT; i++)
        strv_done(cli->values[i]);
}

static const char *turn;

void cli_turn(const char *host)
{
    turn = host;
}

int cli_fail(const struct cli *cli, const struct vm_err *e)
{
    struct vm_err older = {0};
    const struct vm_err *why = older_vmsd(cli, &older) ? &older : e;

    term_complain("%s%s%s", turn ? turn : "", turn ? ": " : "", why->text);
    return cli->client.unreached ? EXIT_UNREACHED : vm_err_exit(why->code);
}

int cli_written(int rc)
{
    if (rc < 0)
        term_complain("write to standard output: %s", strerror(errno));
    return rc < 0 ? EXIT_FAILED : EXIT_DONE;
}

static int print_json(const json_t *doc, size_t flags)
{
    OWN(json) json_t *marked = turn && json_is_object(doc) ? hosts_mark(turn, doc) : NULL;

    doc = marked ? marked : doc;
    if (json_lost()) {
        errno = ENOMEM;
        return -1;
    }
    if (json_dumpf(doc, stdout, flags | JSON_ENSURE_ASCII | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) < 0)
        return -1;
    putchar('\n');
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -1;
}

int cli_print_json(const json_t *doc)
{
    return print_json(doc, JSON_INDENT(2));
}

int cli_print_json_line(const json_t *doc)
{
    return print_json(doc, JSON_COMPACT);
}
