/* vmctl apply */
#include "apply.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "git.h"
#include "plan.h"
#include "progress.h"
#include "source.h"
#include "stream.h"
#include "term.h"

bool apply_asks(const struct cli *cli)
{
    return !cli_has(cli, OPT_YES) && !cli->json && isatty(STDIN_FILENO) && term_is_tty();
}

int apply_confirm(const struct cli *cli, const json_t *plan, bool *go, struct vm_err *e)
{
    OWN(text) struct text shown = {0};
    char answer[16];

    *go = true;
    if (!plan_destroys(plan) && !cli_has(cli, OPT_PURGE_VOLUME))
        return 0;
    plan_show(plan, true, term_has_colour(), &shown);
    for (size_t i = 0; i < cli->values[OPT_PURGE_VOLUME].n; i++) {
        text_add(&shown, "deletes volume ");
        text_add(&shown, cli->values[OPT_PURGE_VOLUME].v[i]);
        text_add(&shown, " and its data\n");
    }
    text_add(&shown, "Go on? [y/N] ");
    if (term_write(&shown) < 0)
        return vm_fail_sys(e, "write to standard output");
    *go = fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
    if (!*go)
        term_complain("nothing was done");
    return 0;
}

void apply_path(const struct cli *cli, const struct source *s, const char *head, struct text *out)
{
    bool plan = !strcmp(head, "/v1/plan");
    OWN(str) char *commit = !plan && s->base ? git_commit(s->base) : NULL;

    source_path(s, head, out);
    if (cli_has(cli, OPT_PRUNE))
        client_query(out, "prune", "1");
    if (plan)
        return;
    client_query_list(out, "purge", &cli->values[OPT_PURGE_VOLUME]);
    if (commit)
        client_query(out, "commit", commit);
}

static int ask(struct cli *cli, const struct source *s, bool *go, struct vm_err *e)
{
    OWN(text) struct text path = {0};
    OWN(json) json_t *plan = NULL;

    *go = true;
    if (!apply_asks(cli))
        return 0;
    apply_path(cli, s, "/v1/plan", &path);
    if (path.failed)
        return vm_no_memory(e);
    if (client_post(&cli->client, path.s, s->tar, s->n, &plan, e) < 0)
        return -1;
    return apply_confirm(cli, plan, go, e);
}

int cmd_apply(struct cli *cli)
{
    OWN(source) struct source s = {0};
    OWN(text) struct text path = {0};
    OWN(progress) struct progress *p = NULL;
    struct vm_err e = {0};
    bool go;

    if (source_read(cli, &s, &e) < 0 || ask(cli, &s, &go, &e) < 0)
        return cli_fail(cli, &e);
    if (!go)
        return EXIT_FAILED;
    apply_path(cli, &s, "/v1/apply", &path);
    if (path.failed)
        vm_no_memory(&e);
    /* A signal ends vmctl as long as ssh connects, and from then on its watching only. */
    if (path.failed || client_reach(&cli->client, &e) < 0 || progress_open(cli, &p, &e) < 0 || progress_post(cli, path.s, s.tar, s.n, p, &e) < 0) {
        progress_close(TAKE(p)); /* the live view goes before the complaint */
        return cli_fail(cli, &e);
    }
    return progress_finish(p, 1);
}
