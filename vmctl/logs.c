/* vmctl logs, console */
#include <errno.h>
#include <string.h>
#include "cli.h"
#include "many.h"
#include "select.h"
#include "session.h"
#include "stream.h"
#include "term.h"

enum { LINES_BEFORE = 10 };

/* How many lines are shown before what comes: a screenful, so that one sees where it stands. */
static size_t lines_before(void)
{
    return term_rows() > 1 ? term_rows() - 1 : LINES_BEFORE;
}

/* What vmsd keeps: "install" or "console". */
static int kept(struct cli *cli, const char *guest, const char *source, const char *script, struct vm_err *e)
{
    struct stream_shown shown = {0};
    OWN(str) char *head = client_path("/v1/guests/", guest, "/logs");
    OWN(text) struct text path = {0};
    struct transfer t = {.method = "GET", .sink = stream_shown_sink, .arg = &shown};
    char before[24];
    int rc, end;

    snprintf(before, sizeof before, "%zu", lines_before());
    text_add(&path, head ? head : "");
    client_query(&path, "source", source);
    if (script)
        client_query(&path, "script", script);
    if (cli_value(cli, OPT_LINES))
        client_query(&path, "lines", cli_value(cli, OPT_LINES));
    else if (cli_has(cli, OPT_FOLLOW) && !strcmp(source, "console"))
        client_query(&path, "lines", before);
    if (cli_has(cli, OPT_FOLLOW))
        client_query(&path, "follow", "1");
    if (!head || path.failed)
        return vm_no_memory(e);
    t.path = path.s;
    rc = client_stream(&cli->client, &t, e);
    end = stream_shown_end(&shown, rc == 0 ? e : NULL);
    return rc < 0 ? rc : end;
}

struct journal {
    struct stream_shown shown;
    bool began; /* something of it was shown */
};

static int show_output(enum frame_channel channel, const void *p, size_t n, void *arg, struct vm_err *e)
{
    struct journal *j = arg;

    if (channel != CHANNEL_STDOUT)
        return 0;
    j->began = true;
    return stream_shown_sink(p, n, &j->shown, e);
}

/* The guest's own journal; *status as a shell sees it. */
static int journal(struct cli *cli, const char *guest, bool *began, int *status, struct vm_err *e)
{
    const char *argv[8] = {"journalctl", "--no-pager", "--quiet"};
    char before[24];
    struct journal j = {0};
    struct session_io io = {.in = -1, .out = show_output, .arg = &j};
    OWN(json) json_t *request = NULL;
    size_t n = 3;
    int rc, end;

    if (cli_has(cli, OPT_FOLLOW))
        argv[n++] = "--follow";
    argv[n++] = "--lines";
    snprintf(before, sizeof before, "%zu", lines_before());
    argv[n++] = cli_value(cli, OPT_LINES) ? cli_value(cli, OPT_LINES) : cli_has(cli, OPT_FOLLOW) ? before : "all";
    request = session_request(argv);
    rc = session_run(&cli->client, guest, request, &io, status, e);
    end = stream_shown_end(&j.shown, rc == 0 ? e : NULL);
    *began = j.began;
    return rc < 0 ? rc : end;
}

static int lines_ok(const struct cli *cli, struct vm_err *e)
{
    const char *lines = cli_value(cli, OPT_LINES);
    uint64_t n;

    if (lines && !text_to_u64(lines, &n))
        return vm_fail(e, VM_E_INVALID, "-n %.40s: a number of lines was expected", lines);
    return 0;
}

int cmd_console(struct cli *cli)
{
    OWN(str) char *guest = NULL;
    struct vm_err e = {0};

    if (lines_ok(cli, &e) < 0 || select_one(cli, cli->args[0], &guest, &e) < 0 ||
        kept(cli, guest, "console", NULL, &e) < 0)
        return cli_fail(cli, &e);
    return EXIT_DONE;
}

/* "--install=2", or "NAME --install 2", which getopt takes for a further argument. */
static int script_number(struct cli *cli, struct vm_err *e)
{
    const char *nn = cli_value(cli, OPT_INSTALL), *last = cli->n_args > 1 ? cli->args[cli->n_args - 1] : "x";
    uint64_t n;

    if (nn && *nn && !text_to_u64(nn, &n))
        return vm_fail(e, VM_E_INVALID, "--install %.40s: the number of a script was expected", nn);
    if (!nn || *nn || !text_to_u64(last, &n))
        return 0;
    cli->n_args--;
    strv_add(&cli->values[OPT_INSTALL], last);
    return cli->values[OPT_INSTALL].failed ? vm_no_memory(e) : 0;
}

static int of_one(struct cli *cli, const char *guest)
{
    const char *script = cli_value(cli, OPT_INSTALL);
    struct vm_err e = {0};
    int status = 0, rc;
    bool began;

    if (script)
        return kept(cli, guest, "install", *script ? script : NULL, &e) < 0 ? cli_fail(cli, &e) : EXIT_DONE;
    rc = journal(cli, guest, &began, &status, &e);
    if (rc == 0 && status != 126 && status != 127)
        return status;
    if (rc < 0 && e.sys == EPIPE)
        return EXIT_PIPE;
    if (cli->client.unreached || (rc < 0 && began))
        return cli_fail(cli, &e);
    term_complain("no journal of %s (%s); its console:", guest, rc < 0 ? e.text : "it has no journalctl");
    return kept(cli, guest, "console", NULL, &e) < 0 ? cli_fail(cli, &e) : EXIT_DONE;
}

int cmd_logs(struct cli *cli)
{
    OWN(json) json_t *guests = NULL;
    struct vm_err e = {0};
    int status;

    if (lines_ok(cli, &e) < 0 || script_number(cli, &e) < 0 || select_named(cli, &guests, &e) < 0)
        return cli_fail(cli, &e);
    if (json_array_size(guests) == 1)
        return of_one(cli, json_str(json_array_get(guests, 0), "name", ""));
    status = many_run(cli, guests, of_one, &e);
    return status < 0 ? cli_fail(cli, &e) : status;
}
