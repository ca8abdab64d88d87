/* Commands that need no daemon: vmctl validate, schema, reference, manual. */
#include <string.h>
#include <vmsd/spec.h>
#include "cli.h"
#include "human.h"
#include "issues.h"
#include "source.h"
#include "term.h"

static json_t *issues_json(const struct spec_set *set)
{
    json_t *list = json_array();

    for (size_t i = 0; i < set->n_issues; i++) {
        const struct spec_issue *is = &set->issues[i];
        json_t *j = json_object();

        json_put_str(j, "file", is->file);
        json_put_int(j, "line", is->line);
        json_put_int(j, "column", is->column);
        json_put(j, "warning", json_boolean(is->warning));
        json_put_str(j, "what", is->what);
        json_array_append_new(list, j);
    }
    return list;
}

/* where: how the directories are called. */
static int validate(struct cli *cli, const struct strv *dirs, const char *where)
{
    OWN(bundle) struct bundle *b = NULL;
    OWN(spec_set) struct spec_set *set = NULL;
    OWN(json) json_t *doc = NULL;
    OWN(str) char *base = NULL;
    struct spec_host host = {0};
    char guests[HUMAN_MAX], networks[HUMAN_MAX], errors[HUMAN_MAX], warnings[HUMAN_MAX];
    struct vm_err e = {0};

    if (source_bundle(cli, dirs, &base, &b, &e) < 0) {
        e.code = VM_E_INVALID; /* whatever it is, these are no good specs */
        return cli_fail(cli, &e);
    }
    if (spec_set_read(b, &host, &set, &e) < 0)
        return cli_fail(cli, &e);
    doc = json_object();
    json_put(doc, "issues", issues_json(set));
    json_put_int(doc, "guests", (int64_t)set->n_guests);
    json_put_int(doc, "networks", (int64_t)set->n_networks);
    if (cli->json) {
        if (cli_print_json(doc) < 0)
            return cli_written(-1);
    } else {
        issues_print(json_object_get(doc, "issues"));
        term_say("%s: %s, %s; %s, %s", where, human_count(set->n_guests, "guest", guests),
                 human_count(set->n_networks, "network", networks), human_count(set->n_errors, "error", errors),
                 human_count(set->n_issues - set->n_errors, "warning", warnings));
    }
    return set->n_errors ? EXIT_USAGE : EXIT_DONE;
}

int cmd_validate(struct cli *cli)
{
    bool several = cli->hosts.several && !cli->n_args;
    int status = EXIT_DONE;
    struct vm_err e = {0};

    if (cli->n_args && !strcmp(cli->args[0], "-")) {
        vm_fail(&e, VM_E_INVALID, "validate reads a directory; vmctl plan - checks a tar");
        return cli_fail(cli, &e);
    }
    for (size_t i = 0; i < (several ? cli->hosts.n : 1); i++) {
        OWN(strv) struct strv dirs = {0};
        int there;

        source_dirs(cli, i, &dirs);
        if (dirs.failed) {
            vm_no_memory(&e);
            return cli_fail(cli, &e);
        }
        cli_turn(several ? cli->hosts.v[i].name : NULL);
        there = validate(cli, &dirs, several ? cli->hosts.v[i].name : dirs.v[dirs.n - 1]);
        status = there ? there : status;
    }
    return status;
}

int cmd_schema(struct cli *cli)
{
    OWN(json) json_t *schema = spec_schema();
    struct vm_err e = {0};

    if (!schema) {
        vm_no_memory(&e);
        return cli_fail(cli, &e);
    }
    return cli_written(cli_print_json(schema));
}

int cmd_reference(struct cli *cli)
{
    OWN(str) char *s = spec_reference();
    struct vm_err e = {0};

    if (!s) {
        vm_no_memory(&e);
        return cli_fail(cli, &e);
    }
    return cli_written(fputs(s, stdout) < 0 ? -1 : 0);
}

int cmd_manual(struct cli *cli)
{
    OWN(text) struct text t = {0};

    (void)cli;
    cli_manual(&t);
    return cli_written(term_write(&t));
}
