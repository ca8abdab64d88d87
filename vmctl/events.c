/* vmctl events */
#include <fnmatch.h>
#include <string.h>
#include <unistd.h>
#include "cli.h"
#include "select.h"
#include "stream.h"
#include "term.h"

enum { AGAIN_S = 1 };

struct events {
    const struct cli *cli;
    json_t *names; /* of the guests that are meant; NULL: all, and the host */
    int64_t last;  /* id of the last one, 0: none yet */
    bool away;     /* that vmsd was lost has been said */
};

static bool wanted(const struct events *v, const json_t *ev)
{
    const struct strv *types = &v->cli->values[OPT_TYPE];
    bool found = types->n == 0;

    for (size_t i = 0; i < types->n && !found; i++)
        found = fnmatch(types->v[i], json_str(ev, "type", ""), 0) == 0;
    return found && (!v->names || json_object_get(v->names, json_str(ev, "guest", "")));
}

static int on_event(const json_t *ev, void *arg, struct vm_err *e)
{
    struct events *v = arg;

    v->away = false;
    v->last = json_integer_value(json_object_get(ev, "id"));
    if (!wanted(v, ev))
        return 0;
    if (v->cli->json)
        return cli_print_json_line(ev) < 0 ? vm_fail_sys(e, "write to standard output") : 0;
    term_say("%s  %s  %s  %s", json_str(ev, "at", "-"), json_str(ev, "guest", "host"), json_str(ev, "type", "-"),
             json_str(ev, "text", ""));
    return fflush(stdout) == 0 ? 0 : vm_fail_sys(e, "write to standard output");
}

static int read_once(struct cli *cli, struct events *v, struct vm_err *e)
{
    struct stream_records records = {.record = on_event, .arg = v};
    OWN(text) struct text path = {0};
    struct transfer t = {.method = "GET", .sink = stream_records_sink, .arg = &records};
    int rc;

    text_add(&path, "/v1/events");
    if (v->last)
        text_addf(&path, "?since=%lld", (long long)v->last);
    else if (cli_value(cli, OPT_SINCE))
        client_query(&path, "since", cli_value(cli, OPT_SINCE));
    if (cli_has(cli, OPT_FOLLOW))
        client_query(&path, "follow", "1");
    t.path = path.s;
    if (path.failed)
        rc = vm_no_memory(e);
    else if ((rc = client_stream(&cli->client, &t, e)) == 0)
        rc = stream_records_end(&records, e);
    text_done(records.line);
    return rc;
}

/* A vmsd that is started anew, upgraded say, goes on where the last one was. */
static int follow(struct cli *cli, struct events *v, struct vm_err *e)
{
    while (read_once(cli, v, e) == 0 || v->last) {
        if (ferror(stdout))
            return -1;
        if (!v->away)
            term_complain("vmsd ended or was lost; looking for it every second");
        v->away = true;
        sleep(AGAIN_S);
    }
    return -1;
}

static int names_of(struct cli *cli, json_t **out, struct vm_err *e)
{
    OWN(json) json_t *guests = NULL;
    json_t *guest;
    size_t i;

    if (!cli->n_args && !cli_has(cli, OPT_TAG))
        return 0;
    if (select_guests(cli, 0, &guests, e) < 0)
        return -1;
    if (!(*out = json_object()))
        return vm_no_memory(e);
    json_array_foreach(guests, i, guest)
        json_put(*out, json_str(guest, "name", ""), json_true());
    return 0;
}

int cmd_events(struct cli *cli)
{
    struct events v = {.cli = cli};
    struct vm_err e = {0};
    int rc = names_of(cli, &v.names, &e);

    if (rc == 0)
        rc = cli_has(cli, OPT_FOLLOW) ? follow(cli, &v, &e) : read_once(cli, &v, &e);
    json_decref(v.names);
    return rc < 0 ? cli_fail(cli, &e) : EXIT_DONE;
}
