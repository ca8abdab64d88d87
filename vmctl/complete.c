/* vmctl completion, vmctl complete: what the shell may offer for the word that is being written, from the same tables as
 * --help. The scripts for the shells only ask and show. */
#include <string.h>
#include "cli.h"
#include "term.h"

static const char bash[] =
    "_vmctl() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\\n'\n"
    "    COMPREPLY=($(vmctl complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null | cut -f1))\n"
    "    [ \"${#COMPREPLY[@]}\" != 1 ] || [ \"${COMPREPLY[0]%:}\" = \"${COMPREPLY[0]}\" ] || compopt -o nospace\n"
    "}\n"
    "complete -o bashdefault -o default -F _vmctl vmctl\n";
static const char zsh[] =
    "#compdef vmctl\n"
    "_vmctl() {\n"
    "    local -a found\n"
    "    found=(${(f)\"$(vmctl complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null | sed 's/:/\\\\:/g; s/\\t/:/')\"})\n"
    "    if (( $#found )); then _describe vmctl found; else _files; fi\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _vmctl ]; then _vmctl; else compdef _vmctl vmctl; fi\n";
static const char fish[] =
    "complete -c vmctl -a '(set -l words (commandline -opc) (commandline -ct); vmctl complete -- $words[2..] 2>/dev/null)'\n";

static const struct { const char *shell, *script; } scripts[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

int cmd_completion(struct cli *cli)
{
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
        if (!strcmp(cli->args[0], scripts[i].shell))
            return cli_written(fputs(scripts[i].script, stdout) < 0 ? -1 : 0);
    term_complain("completion for '%.40s': unknown shell; bash, zsh or fish", cli->args[0]);
    return EXIT_USAGE;
}

/* ---- what is offered ---- */

struct asked {
    struct cli *cli;
    const struct cli_command *command; /* NULL: its name is being written */
    const char *first;                 /* of two words, "image"; or NULL */
    const char *word;                  /* what there is of the word */
    const struct cli_option_row *option; /* whose argument the word is; or NULL */
    size_t place;                      /* 0: the command's first argument */
    bool elsewhere;                    /* another host is meant, for which nobody waits here */
};

/* A word that the shell would have to quote is not worth it. */
static void offer(const struct asked *a, const char *word, const char *help)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";

    if (*word && !word[strspn(word, plain)] && !strncmp(word, a->word, strlen(a->word)))
        printf("%s%s%s\n", word, *help ? "\t" : "", help);
}

static void offer_options(const struct asked *a)
{
    uint32_t set = a->command ? a->command->options | OPTS_ALWAYS : OPTS_ALWAYS | OPTS_DATA;

    for (int i = 0; i < OPT_COUNT; i++) {
        OWN(str) char *word = text_format("--%s", cli_options[i].word);

        if (word && (set & 1u << i))
            offer(a, word, cli_options[i].help);
    }
}

/* "image" once, and behind it its second words. */
static void offer_commands(const struct asked *a)
{
    size_t length = a->first ? strlen(a->first) : 0;
    const char *said = "";

    for (size_t i = 0; i < n_cli_commands; i++) {
        const struct cli_command *c = &cli_commands[i];
        const char *space = strchr(c->name, ' ');

        if (!c->usage || (a->first && (!space || strncmp(c->name, a->first, length) || c->name[length] != ' ')))
            continue;
        if (a->first) {
            offer(a, space + 1, c->help);
        } else if (!space) {
            offer(a, c->name, c->help);
        } else if (strncmp(said, c->name, (size_t)(space - c->name) + 1)) {
            OWN(str) char *head = text_format("%.*s", (int)(space - c->name), c->name);

            if (head)
                offer(a, head, "");
            said = c->name;
        }
    }
}

/* The daemon may be away: then there is nothing to offer. */
static void offer_known(const struct asked *a, const char *path, const char *list, const char *key, const char *tail)
{
    OWN(json) json_t *doc = NULL;
    json_t *row;
    size_t i;

    if (a->elsewhere || client_json(&a->cli->client, "GET", path, &doc, NULL) < 0)
        return;
    json_array_foreach(json_object_get(doc, list), i, row) {
        OWN(str) char *word = text_format("%s%s", json_str(row, key, ""), tail);

        if (word)
            offer(a, word, "");
    }
}

static void offer_tags(const struct asked *a)
{
    OWN(json) json_t *doc = NULL, *seen = json_object();
    json_t *row, *tag;
    size_t i, k;

    if (a->elsewhere || client_json(&a->cli->client, "GET", "/v1/guests", &doc, NULL) < 0)
        return;
    json_array_foreach(json_object_get(doc, "guests"), i, row) {
        json_array_foreach(json_object_get(row, "tags"), k, tag) {
            if (!json_is_string(tag) || json_object_get(seen, json_string_value(tag)))
                continue;
            offer(a, json_string_value(tag), "");
            json_put(seen, json_string_value(tag), json_true());
        }
    }
}

static void offer_hosts(const struct asked *a)
{
    OWN(strv) struct strv names = {0};

    hosts_names(a->cli, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(a, names.v[i], i ? "" : "each of them");
}

/* As the usage says it: "[DIR|-] [NAME…]", "NAME…", "NAME", "NAME -- ARGV…". */
static bool is_guest(const char *usage, bool first)
{
    return strstr(usage, "NAME…") ? !first || strncmp(usage, "[DIR", 4) : first && strstr(usage, "NAME");
}

static void offer_argument(const struct asked *a)
{
    const char *name = a->command->name;
    bool first = a->place == 0;

    if (!strcmp(name, "completion") && first)
        for (size_t i = 0; i < ARRAY_LEN(scripts); i++)
            offer(a, scripts[i].shell, "");
    else if (!strcmp(name, "image build") && first)
        offer_known(a, "/v1/images", "images", "name", "");
    else if (!strcmp(name, "image rm") && first)
        offer_known(a, "/v1/images", "images", "id", "");
    else if (!strcmp(name, "volume rm") && first)
        offer_known(a, "/v1/volumes", "volumes", "name", "");
    else if (!strcmp(name, "cp"))
        offer_known(a, "/v1/guests", "guests", "name", ":");
    else if (is_guest(a->command->usage, first))
        offer_known(a, "/v1/guests", "guests", "name", "");
}

static void answer(const struct asked *a)
{
    if (a->option == &cli_options[OPT_OUTPUT]) {
        offer(a, "json", "the API's documents");
        offer(a, "table", "for people");
    } else if (a->option == &cli_options[OPT_TAG]) {
        offer_tags(a);
    } else if (a->option == &cli_options[OPT_HOST]) {
        offer_hosts(a);
    } else if (a->option) {
        return; /* files, and what only the user knows */
    } else if (a->word[0] == '-') {
        offer_options(a);
    } else if (a->command) {
        offer_argument(a);
    } else {
        offer_commands(a);
    }
}

/* ---- what was written before ---- */

/* The option of that name whose argument is the next word; or NULL. */
static const struct cli_option_row *wants_more(const struct asked *a, const char *word)
{
    uint32_t set = a->command ? a->command->options | OPTS_ALWAYS : OPTS_ALWAYS | OPTS_DATA;

    for (int i = 0; i < OPT_COUNT; i++) {
        const struct cli_option_row *row = &cli_options[i];
        char letter[] = {'-', row->letter, '\0'};

        if ((set & 1u << i) && row->argument && row->argument[0] != '[' &&
            ((row->letter && !strcmp(word, letter)) || (!strncmp(word, "--", 2) && !strcmp(word + 2, row->word))))
            return row;
    }
    return NULL;
}

static void take_name(struct asked *a, const char *word)
{
    OWN(str) char *whole = a->first ? text_format("%s %s", a->first, word) : text_format("%s", word);

    for (size_t i = 0; whole && i < n_cli_commands; i++)
        if (cli_commands[i].usage && !strcmp(cli_commands[i].name, whole))
            a->command = &cli_commands[i];
    a->first = a->command ? NULL : word;
}

static void take_word(struct asked *a, const char *word)
{
    if (a->option) {
        if (a->option == &cli_options[OPT_SOCKET])
            a->cli->client.socket = word;
        a->elsewhere |= a->option == &cli_options[OPT_HOST] || a->option == &cli_options[OPT_HOSTS];
        a->option = NULL;
    } else if (word[0] == '-') {
        a->option = wants_more(a, word);
    } else if (!a->command) {
        take_name(a, word);
    } else {
        a->place++;
    }
}

int cmd_complete(struct cli *cli)
{
    struct asked a = {.cli = cli, .word = cli->n_args ? cli->args[cli->n_args - 1] : "",
                      .elsewhere = cli->client.remote || cli->hosts.several};

    for (size_t i = 0; i + 1 < cli->n_args; i++)
        take_word(&a, cli->args[i]);
    answer(&a);
    return cli_written(fflush(stdout));
}
