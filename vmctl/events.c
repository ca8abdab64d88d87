/* vmctl events */
#include <string.h>
#include "cli.h"
#include "select.h"
#include "stream.h"
#include "term.h"

static int on_event(const json_t *ev, void *arg, struct vm_err *e)
{
    const struct cli *cli = arg;

    if (cli->json)
        return cli_print_json_line(ev) < 0 ? vm_fail_sys(e, "write to standard output") : 0;
    term_say("%s  %s  %s  %s", json_str(ev, "at", "-"), json_str(ev, "guest", "host"), json_str(ev, "type", "-"),
             json_str(ev, "text", ""));
    return fflush(stdout) == 0 ? 0 : vm_fail_sys(e, "write to standard output");
}

int cmd_events(struct cli *cli)
{
    struct stream_records records = {.record = on_event, .arg = cli};
    OWN(text) struct text path = {0};
    OWN(str) char *guest = NULL;
    struct transfer t = {.method = "GET", .sink = stream_records_sink, .arg = &records};
    struct vm_err e = {0};
    int rc;

    if (cli->n_args && select_one(cli, cli->args[0], &guest, &e) < 0)
        return cli_fail(cli, &e);
    text_add(&path, "/v1/events");
    if (guest)
        client_query(&path, "guest", guest);
    if (cli_value(cli, OPT_SINCE))
        client_query(&path, "since", cli_value(cli, OPT_SINCE));
    if (cli_has(cli, OPT_FOLLOW))
        client_query(&path, "follow", "1");
    t.path = path.s;
    if (path.failed)
        rc = vm_no_memory(&e);
    else if ((rc = client_stream(&cli->client, &t, &e)) == 0)
        rc = stream_records_end(&records, &e);
    text_done(records.line);
    return rc < 0 ? cli_fail(cli, &e) : EXIT_DONE;
}
