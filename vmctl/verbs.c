/* vmctl start, stop, restart, rebuild, rm: one wish for all guests that are meant, so that vmsd brings those that depend
 * on each other down and up in order. */
#include <string.h>
#include "cli.h"
#include "progress.h"
#include "select.h"

/* The wish as the API takes it; NULL: no memory. */
static char *wish_text(const char *verb, const json_t *guests, bool purge)
{
    OWN(json) json_t *names = json_array();
    OWN(json) json_t *wish = NULL;
    json_t *guest;
    size_t i;

    json_array_foreach(guests, i, guest)
        json_array_append_new(names, json_string(json_str(guest, "name", "")));
    wish = json_pack("{s:s, s:O, s:b}", "verb", verb, "guests", names, "purge", (int)purge);
    return wish ? json_to_text(wish) : NULL;
}

static int verb(struct cli *cli, const char *name)
{
    OWN(json) json_t *guests = NULL;
    OWN(progress) struct progress *p = NULL;
    OWN(str) char *wish = NULL;
    struct vm_err e = {0};

    if (select_named(cli, &guests, &e) < 0)
        return cli_fail(cli, &e);
    if (!(wish = wish_text(name, guests, cli_has(cli, OPT_PURGE))))
        vm_no_memory(&e);
    if (wish && progress_open(cli, &p, &e) == 0)
        progress_expect(p, guests);
    if (!p || progress_post(cli, "/v1/guests", wish, strlen(wish), p, &e) < 0) {
        progress_close(TAKE(p)); /* the live view goes before the complaint */
        return cli_fail(cli, &e);
    }
    return progress_finish(p, 1);
}

int cmd_start(struct cli *cli)
{
    return verb(cli, "start");
}

int cmd_stop(struct cli *cli)
{
    return verb(cli, "stop");
}

int cmd_restart(struct cli *cli)
{
    return verb(cli, "restart");
}

int cmd_rebuild(struct cli *cli)
{
    return verb(cli, "rebuild");
}

int cmd_rm(struct cli *cli)
{
    return verb(cli, "remove");
}
