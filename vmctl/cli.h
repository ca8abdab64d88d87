/* cli.h: the command line as two tables: options and commands. Help and the man page's commands grow from them. */
#ifndef VMCTL_CLI_H
#define VMCTL_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/text.h>
#include "client.h"
#include "hosts.h"

enum vmctl_exit {
    EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHED, EXIT_UNHEALTHY, EXIT_EXEC = 125,
    EXIT_PIPE = 141, /* nobody reads on: as a program ends that writes to a closed pipe */
};

/* id, letter, word, argument (NULL: a switch; "[X]": may be left out), help. A letter or a word may mean two things in
 * different commands, never in the same. */
#define CLI_OPTIONS(X) \
    X(HELP, 'h', "help", NULL, "show this help") \
    X(SOCKET, 0, "socket", "PATH", "socket; default: $VMSD_SOCKET or " CLIENT_SOCKET) \
    X(HOST, 'H', "host", "HOST", "another host: ssh://[USER@]HOST[:PORT][/SOCKET], or a name; may repeat") \
    X(HOSTS, 0, "hosts", "FILE", "what names hosts; default: $VMSD_HOSTS or " HOSTS_FILE) \
    X(OUTPUT, 'o', "output", "FORMAT", "json: the API's documents; table: for people") \
    X(TAG, 't', "tag", "TAG", "guests with this tag; may repeat") \
    X(ALL, 0, "all", NULL, "every guest") \
    X(PRUNE, 0, "prune", NULL, "remove guests that left the directory; volumes stay") \
    X(PURGE_VOLUME, 0, "purge", "VOLUME", "delete this volume and its data; may repeat") \
    X(PURGE, 0, "purge", NULL, "delete its volumes and their data too") \
    X(YES, 'y', "yes", NULL, "do not ask before a root or a volume is thrown away") \
    X(FOLLOW, 'f', "follow", NULL, "go on with what comes; ends with Ctrl-C") \
    X(INSTALL, 0, "install", "[NN]", "output of the install scripts, or of script NN only") \
    X(LINES, 'n', "lines", "N", "only the last N") \
    X(SINCE, 0, "since", "ID", "only what came after this one") \
    X(FOR, 0, "for", "TIME", "for so long, as in 2h (default: 1h); 0s ends it") \
    X(HISTORY, 0, "history", NULL, "those that are over, too") \
    X(TYPE, 0, "type", "TYPE", "only events of this type, or of such ('limit', 'restart-*'); may repeat") \
    X(STDIN, 'i', "interactive", NULL, "forward standard input even if it is a terminal") \
    X(TTY, 't', "tty", NULL, "give the command a terminal") \
    X(USER, 'u', "user", "USER", "run as this user of the guest; default: root") \
    X(ENV, 'e', "env", "K=V", "set an environment variable; may repeat") \
    X(WORKDIR, 'w', "workdir", "DIR", "run in this directory; default: the user's home") \
    X(ARCHIVE, 'a', "archive", NULL, "keep owners, by their numbers") \
    X(OWNER, 0, "owner", "USER[:GROUP]", "whose the copy in a guest is; default: root")
#define X(id, letter, word, argument, help) OPT_##id,
enum cli_option { CLI_OPTIONS(X) OPT_COUNT };
#undef X
struct cli_option_row {
    char letter;
    const char *word, *argument, *help;
};
extern const struct cli_option_row cli_options[OPT_COUNT];

struct cli {
    const struct cli_command *command;
    struct client client;
    struct hosts hosts;
    struct strv values[OPT_COUNT]; /* of each option as often as it was given; "" for a switch */
    char **args;                   /* behind the options, NULL-terminated */
    size_t n_args;
    bool json;
};

#define OPT(id) (1u << OPT_##id)
enum {
    OPTS_ALWAYS = OPT(HELP) | OPT(SOCKET) | OPT(HOST) | OPT(HOSTS),
    OPTS_DATA = OPT(OUTPUT),
    OPTS_SELECT = OPT(TAG) | OPT(OUTPUT),
};

/* function, name, arguments, options, least and most arguments, help */
#define MANY SIZE_MAX
#define CLI_COMMANDS(X) \
    X(apply, "apply", "[DIR|-] [NAME…]", OPTS_SELECT | OPT(PRUNE) | OPT(PURGE_VOLUME) | OPT(YES), 0, MANY, \
      "make the host as the directory (vms.d) or tar (-) says") \
    X(plan, "plan", "[DIR|-] [NAME…]", OPTS_SELECT, 0, MANY, "show what apply would change, and what it costs") \
    X(validate, "validate", "[DIR]", OPTS_DATA, 0, 1, "check the specs of a directory (vms.d); needs no daemon") \
    X(ls, "ls", "[NAME…]", OPTS_SELECT, 0, MANY, "list guests") \
    X(show, "show", "NAME…", OPTS_SELECT, 0, MANY, "everything about a guest, and why it is not healthy") \
    X(top, "top", "", 0, 0, 0, "guests and what they use, live: sort, filter, open one") \
    X(start, "start", "NAME…", OPTS_SELECT | OPT(ALL), 0, MANY, "start guests and wait until they are healthy") \
    X(stop, "stop", "NAME…", OPTS_SELECT | OPT(ALL), 0, MANY, "stop guests; they stay stopped until started by hand") \
    X(restart, "restart", "NAME…", OPTS_SELECT | OPT(ALL), 0, MANY, "stop guests and start them again") \
    X(rebuild, "rebuild", "NAME…", OPTS_SELECT | OPT(ALL), 0, MANY, \
      "make guests anew from image and scripts; volumes stay") \
    X(rm, "rm", "NAME…", OPTS_SELECT | OPT(PURGE), 0, MANY, "stop and remove guests; volumes stay") \
    X(exec, "exec", "NAME -- ARGV…", OPT(STDIN) | OPT(TTY) | OPT(USER) | OPT(ENV) | OPT(WORKDIR), 2, MANY, \
      "run a command in a guest") \
    X(shell, "shell", "NAME", OPT(USER), 1, 1, "a login shell in a guest; Ctrl-] three times leaves it") \
    X(console, "console", "NAME", OPT(FOLLOW) | OPT(LINES), 1, 1, "what a guest wrote to its console; with -f the last screenful, and what comes") \
    X(logs, "logs", "NAME…", OPT(TAG) | OPT(FOLLOW) | OPT(INSTALL) | OPT(LINES), 0, MANY, \
      "journals of guests, or the output of their install scripts") \
    X(cp, "cp", "SRC|- DST|-", OPT(ARCHIVE) | OPT(OWNER), 2, 2, \
      "copy a file or a directory into a guest or out of it (NAME:/PATH)") \
    X(events, "events", "[NAME…]", OPTS_SELECT | OPT(FOLLOW) | OPT(SINCE) | OPT(TYPE), 0, MANY, "what happened") \
    X(alerts, "alerts", "", OPTS_DATA | OPT(HISTORY) | OPT(LINES), 0, 0, "what is not well, and whether somebody was told") \
    X(silence, "silence", "NAME…", OPTS_SELECT | OPT(ALL) | OPT(FOR), 0, MANY, "tell nobody of these guests for a while") \
    X(audit, "audit", "", OPTS_DATA | OPT(SINCE) | OPT(LINES), 0, 0, "who did what, and when") \
    X(image_ls, "image ls", "", OPTS_DATA, 0, 0, "list built images") \
    X(image_build, "image build", "NAME", OPTS_DATA, 1, 1, "build an image from its recipe") \
    X(image_rm, "image rm", "ID", OPTS_DATA, 1, 1, "remove an image that no guest uses") \
    X(image_gc, "image gc", "", OPTS_DATA, 0, 0, "remove all images that no guest uses") \
    X(volume_ls, "volume ls", "", OPTS_DATA, 0, 0, "list volumes") \
    X(volume_rm, "volume rm", "NAME", OPTS_DATA, 1, 1, "delete a volume and its data") \
    X(jobs, "jobs", "", OPTS_DATA, 0, 0, "what vmsd is doing") \
    X(host, "host", "", OPTS_DATA, 0, 0, "this host and its drivers") \
    X(doctor, "doctor", "", OPTS_DATA, 0, 0, "what this host can and cannot do, and how to mend it") \
    X(completion, "completion", "bash|zsh|fish", 0, 1, 1, "print what makes a shell complete the words of vmctl") \
    X(schema, "schema", "", 0, 0, 0, "print the JSON Schema of specs") \
    X(version, "version", "", OPTS_DATA, 0, 0, "versions of vmctl and vmsd") \
    X(complete, "complete", NULL, 0, 0, MANY, "what may stand for the last of these words; for the shells") \
    X(reference, "reference", NULL, 0, 0, 0, "print the reference of spec fields as Markdown") \
    X(manual, "manual", NULL, 0, 0, 0, "print the man page's sections on commands and options as scdoc")

struct cli_command {
    const char *name;
    const char *usage; /* of its arguments; NULL: hidden */
    uint32_t options;
    size_t least, most;
    const char *help;
    int (*run)(struct cli *cli); /* an exit status */
};
extern const struct cli_command cli_commands[];
extern const size_t n_cli_commands;

#define X(fn, ...) int cmd_##fn(struct cli *cli);
CLI_COMMANDS(X)
#undef X

/* Fills *cli, which starts as { 0 }, from the arguments behind the program's name. 0; or -1 with *e. cli->command is
 * NULL when only --help was asked for. */
int cli_parse(struct cli *cli, int argc, char **argv, struct vm_err *e);
void cli_done(struct cli *cli);
/* Help of one command, or of all (NULL). */
void cli_help(const struct cli_command *c, struct text *out);
void cli_manual(struct text *out);

static inline bool cli_has(const struct cli *cli, enum cli_option o)
{
    return cli->values[o].n > 0;
}
/* The last value given, or NULL. */
static inline const char *cli_value(const struct cli *cli, enum cli_option o)
{
    return cli->values[o].n ? cli->values[o].v[cli->values[o].n - 1] : NULL;
}

/* It is that host's turn, one of several: complaints name it, and objects printed as JSON have it as "host". NULL: no one's. */
void cli_turn(const char *host);
/* Says what went wrong, and gives the exit status for it: return cli_fail(cli, &e). */
int cli_fail(const struct cli *cli, const struct vm_err *e);
/* The exit status after writing to standard output: says so when rc is -1. */
int cli_written(int rc);
/* Prints a document as it came, or one line of a stream. ASCII only, so a terminal cannot act upon it. */
int cli_print_json(const json_t *doc);
int cli_print_json_line(const json_t *doc);

#endif
