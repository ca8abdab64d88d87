/* vmctl image …, volume … */
#include <string.h>
#include <vmsd/clock.h>
#include "cli.h"
#include "human.h"
#include "stream.h"
#include "table.h"
#include "term.h"

static int get(struct cli *cli, const char *path, json_t **doc)
{
    struct vm_err e = {0};

    return client_json(&cli->client, "GET", path, doc, &e) < 0 ? cli_fail(cli, &e) : EXIT_DONE;
}

int cmd_image_ls(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"ID", .least = 12},     {"NAME", .least = 6},   {"KIND", .least = 4},
        {"SIZE", .right = true}, {"AGE", .right = true}, {"USED-BY", .least = 6},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(json) json_t *doc = NULL;
    int status = get(cli, "/v1/images", &doc);
    json_t *image;
    size_t i;

    if (status)
        return status;
    if (cli->json)
        return cli_written(cli_print_json(doc));
    json_array_foreach(json_object_get(doc, "images"), i, image) {
        OWN(str) char *used = human_list(json_object_get(image, "used_by"));
        char s[HUMAN_MAX];

        table_addf(&t, "%.12s", json_str(image, "id", ""));
        table_add(&t, json_str(image, "name", NULL));
        table_add(&t, json_str(image, "kind", NULL));
        table_add(&t, human_size(json_object_get(image, "bytes"), s));
        table_add(&t, human_ago(json_object_get(image, "created_at"), wall_ms(), s));
        table_add(&t, used);
    }
    return cli_written(table_print(&t));
}

int cmd_volume_ls(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"NAME", .least = 6},    {"TYPE", .least = 4},  {"SIZE", .right = true},
        {"USED", .right = true}, {"GUEST", .least = 6},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(json) json_t *doc = NULL;
    int status = get(cli, "/v1/volumes", &doc);
    json_t *volume;
    size_t i;

    if (status)
        return status;
    if (cli->json)
        return cli_written(cli_print_json(doc));
    json_array_foreach(json_object_get(doc, "volumes"), i, volume) {
        char s[HUMAN_MAX];

        table_add(&t, json_str(volume, "name", NULL));
        table_add(&t, json_str(volume, "type", NULL));
        table_add(&t, human_size(json_object_get(volume, "size"), s));
        table_add(&t, human_size(json_object_get(volume, "bytes"), s));
        table_add(&t, json_str(volume, "guest", NULL));
    }
    return cli_written(table_print(&t));
}

/* Of what is not there: the nearest of the names that are in vmsd's list of these things ("volumes"). */
static void add_hint(struct cli *cli, const char *things, const char *given, struct vm_err *e)
{
    OWN(str) char *path = text_format("/v1/%s", things);
    OWN(json) json_t *doc = NULL;
    OWN(mem) const char **names = NULL;
    const struct vm_err was = *e;
    const json_t *list;
    const char *near;
    size_t n;

    if (e->code != VM_E_ABSENT || !path || client_json(&cli->client, "GET", path, &doc, NULL) < 0)
        return;
    list = json_object_get(doc, things);
    n = json_array_size(list);
    if (!(names = calloc(n + 1, sizeof *names)))
        return;
    for (size_t i = 0; i < n; i++)
        names[i] = json_str(json_array_get(list, i), "name", "");
    if ((near = text_nearest(given, names, n)))
        vm_fail(e, was.code, "%.150s; did you mean '%.60s'?", was.text, near);
}

/* A request that is answered with {removed: […]}. things: the list that has the name, for a hint; NULL: none. */
static int removal(struct cli *cli, const char *method, const char *head, const char *name, const char *things)
{
    OWN(str) char *path = client_path(head, name, "");
    OWN(json) json_t *doc = NULL;
    OWN(str) char *list = NULL;
    struct vm_err e = {0};

    if (!path)
        vm_no_memory(&e);
    if (!path || client_json(&cli->client, method, path, &doc, &e) < 0) {
        if (things)
            add_hint(cli, things, name, &e);
        return cli_fail(cli, &e);
    }
    if (cli->json)
        return cli_written(cli_print_json(doc));
    list = human_list(json_object_get(doc, "removed"));
    term_say("removed: %s", list && *list ? list : "nothing");
    return EXIT_DONE;
}

/* image ls shows the beginning of an id: that is enough where it is only one's. */
int cmd_image_rm(struct cli *cli)
{
    OWN(json) json_t *doc = NULL;
    const char *given = cli->args[0], *whole = NULL, *named = NULL;
    struct vm_err e = {0};
    int status = get(cli, "/v1/images", &doc);
    json_t *image;
    size_t i, n = 0;

    if (status)
        return status;
    json_array_foreach(json_object_get(doc, "images"), i, image) {
        const char *id = json_str(image, "id", "");

        if (!strcmp(json_str(image, "name", ""), given))
            named = id;
        if (strncmp(id, given, strlen(given)) != 0)
            continue;
        whole = id;
        n++;
    }
    if (n > 1 || !*given)
        vm_fail(&e, VM_E_INVALID, "%zu images begin with '%.64s'; write more of the id", n, given);
    else if (!n && named)
        vm_fail(&e, VM_E_INVALID, "'%.64s' is a recipe's name; an image goes by its id: vmctl image rm %.12s", given, named);
    if (e.code)
        return cli_fail(cli, &e);
    return removal(cli, "DELETE", "/v1/images/", whole ? whole : given, NULL);
}

int cmd_image_gc(struct cli *cli)
{
    return removal(cli, "POST", "/v1/images/gc", "", NULL);
}

int cmd_volume_rm(struct cli *cli)
{
    return removal(cli, "DELETE", "/v1/volumes/", cli->args[0], "volumes");
}

struct build {
    bool json, ended, ok;
    char *error, *image;
    struct stream_shown shown;
};

static int on_build(const json_t *r, void *arg, struct vm_err *e)
{
    struct build *b = arg;
    const char *text = json_str(r, "text", NULL), *type = json_str(r, "type", "");

    if (b->json && cli_print_json_line(r) < 0)
        return vm_fail_sys(e, "write to standard output");
    if (!b->json && text && !strcmp(type, "progress"))
        return stream_shown_sink(text, strlen(text), &b->shown, e);
    if (!strcmp(type, "result")) {
        free(b->error);
        free(b->image);
        b->ended = true;
        b->ok = json_flag(r, "ok", false);
        b->error = strdup(json_str(r, "error", "no reason was given"));
        b->image = human_value(json_object_get(r, "image"));
    }
    return 0;
}

int cmd_image_build(struct cli *cli)
{
    struct build b = {.json = cli->json};
    struct stream_records records = {.record = on_build, .arg = &b};
    OWN(str) char *path = client_path("/v1/images/", cli->args[0], "/build");
    struct transfer t = {.method = "POST", .path = path, .sink = stream_records_sink, .arg = &records};
    struct vm_err e = {0};
    int status = EXIT_DONE;

    if (!path)
        vm_no_memory(&e);
    if (!path || client_stream(&cli->client, &t, &e) < 0 || stream_records_end(&records, &e) < 0 ||
        stream_shown_end(&b.shown, &e) < 0) {
        status = cli_fail(cli, &e);
    } else if (!b.ended || !b.ok) {
        term_complain("%s: %s", cli->args[0], b.ended ? b.error : "vmsd ended its answer without a result");
        status = EXIT_FAILED;
    } else if (!cli->json) {
        term_say("%s: built, %s", cli->args[0], b.image);
    }
    text_done(records.line);
    text_done(b.shown.held);
    free(b.error);
    free(b.image);
    return status;
}
