#include "older.h"

#include <string.h>

/* The word of GET /v1/host's features that a command needs; docs/api.md has them all. */
static const struct need {
    int (*run)(struct cli *cli);
    const char *feature;
} needs[] = {
    {cmd_alerts, "alerts"},  {cmd_silence, "alerts"}, {cmd_audit, "audit"},    {cmd_host, "host-profile"}, {cmd_start, "wishes"},
    {cmd_stop, "wishes"},    {cmd_restart, "wishes"}, {cmd_rebuild, "wishes"}, {cmd_rm, "wishes"},
};

static const char *need_of(const struct cli_command *c)
{
    for (size_t i = 0; c && i < ARRAY_LEN(needs); i++)
        if (needs[i].run == c->run)
            return needs[i].feature;
    return NULL;
}

static bool has(const json_t *host, const char *feature)
{
    json_t *word;
    size_t i;

    json_array_foreach(json_object_get(host, "features"), i, word)
        if (json_is_string(word) && !strcmp(json_string_value(word), feature))
            return true;
    return false;
}

bool older_vmsd(const struct cli *cli, struct vm_err *e)
{
    const char *need = need_of(cli->command);
    struct client client = cli->client;
    OWN(json) json_t *host = NULL;

    if (!need || !client.refused || client_json(&client, "GET", "/v1/host", &host, NULL) < 0 || has(host, need))
        return false;
    vm_fail(e, VM_E_UNAVAILABLE, "this vmsd (%.40s) is older than vmctl: it has no %s; update it",
            json_str(host, "version", "version unknown"), need);
    return true;
}
