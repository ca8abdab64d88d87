/* What --help and the man page say, from the tables in cli.h. */
#include "cli.h"

#include <string.h>
#include "term.h"

/* "-n, --lines N", "    --install[=NN]" */
static void option_text(const struct cli_option_row *row, struct text *out)
{
    if (row->letter)
        text_addf(out, "-%c, ", row->letter);
    else
        text_add(out, "    ");
    text_addf(out, "--%s", row->word);
    if (row->argument && row->argument[0] == '[')
        text_addf(out, "[=%s", row->argument + 1);
    else if (row->argument)
        text_addf(out, " %s", row->argument);
}

static void pair(struct text *out, const char *left, const char *right, size_t width)
{
    size_t used = term_width(left);

    text_add(out, "  ");
    text_add(out, left);
    term_add_spaces(out, used < width ? width - used : 0);
    text_addf(out, "  %s\n", right);
}

static void help_options(uint32_t set, struct text *out)
{
    text_add(out, "\nOptions:\n");
    for (int i = 0; i < OPT_COUNT; i++) {
        OWN(text) struct text left = {0};

        if (!(set & 1u << i))
            continue;
        option_text(&cli_options[i], &left);
        if (left.failed)
            out->failed = true;
        else
            pair(out, left.s, cli_options[i].help, 22);
    }
}

static void help_all(struct text *out)
{
    text_add(out, "Usage: vmctl [-H HOST]… [-o json] COMMAND …\n\n"
                  "Guests are selected by name, glob ('db*') or tag (-t TAG).\n\nCommands:\n");
    for (size_t i = 0; i < n_cli_commands; i++)
        if (cli_commands[i].usage)
            pair(out, cli_commands[i].name, cli_commands[i].help, 11);
    help_options(OPTS_ALWAYS | OPTS_DATA, out);
    text_add(out, "\nExit status: 0 done, 1 failed, 2 usage or bad spec, 3 vmsd not reached,\n"
                  "4 some guests unhealthy. vmctl COMMAND --help and man vmctl tell more.\n");
}

void cli_help(const struct cli_command *c, struct text *out)
{
    if (!c) {
        help_all(out);
        return;
    }
    text_addf(out, "Usage: vmctl %s [OPTION…]%s%s\n\n%c%s.\n", c->name, c->usage && *c->usage ? " " : "",
              c->usage ? c->usage : "", c->help[0] >= 'a' && c->help[0] <= 'z' ? c->help[0] - 'a' + 'A' : c->help[0],
              c->help + 1);
    help_options(c->options | OPTS_ALWAYS, out);
}

/* scdoc gives a meaning to some characters; a backslash takes it away. */
static void scdoc_add(struct text *out, const char *s)
{
    for (; *s; s++) {
        if (strchr("\\*_#<[", *s))
            text_add(out, "\\");
        text_add_bytes(out, s, 1);
    }
}

static void manual_options(uint32_t set, struct text *out)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        OWN(text) struct text left = {0};

        if (!(set & 1u << i))
            continue;
        option_text(&cli_options[i], &left);
        if (left.failed) {
            out->failed = true;
            return;
        }
        text_add(out, "\t*");
        scdoc_add(out, left.s + strspn(left.s, " "));
        text_add(out, "*\n\t\t");
        scdoc_add(out, cli_options[i].help);
        text_add(out, ".\n\n");
    }
}

void cli_manual(struct text *out)
{
    text_add(out, "# COMMANDS\n\n");
    for (size_t i = 0; i < n_cli_commands; i++) {
        const struct cli_command *c = &cli_commands[i];

        if (!c->usage)
            continue;
        text_addf(out, "*%s* ", c->name);
        scdoc_add(out, c->usage);
        text_add(out, "\n\t");
        scdoc_add(out, c->help);
        text_add(out, ".\n\n");
        manual_options(c->options, out);
    }
}
