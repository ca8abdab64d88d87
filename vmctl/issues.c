#include "issues.h"

#include <stdlib.h>
#include <string.h>
#include "term.h"

static int by_place(const void *pa, const void *pb)
{
    const json_t *a = *(json_t *const *)pa, *b = *(json_t *const *)pb;
    int64_t la = json_int(a, "line", 0), lb = json_int(b, "line", 0);
    int64_t ca = json_int(a, "column", 0), cb = json_int(b, "column", 0);
    int files = strcmp(json_str(a, "file", ""), json_str(b, "file", ""));

    return files ? files : la != lb ? (la < lb ? -1 : 1) : (ca > cb) - (ca < cb);
}

static void print(const json_t *issue)
{
    OWN(text) struct text t = {0}, shown = {0};
    const char *host = json_str(issue, "host", NULL);
    int64_t line = json_int(issue, "line", 0);

    text_addf(&t, "%s%s%s", host ? host : "", host ? ": " : "", json_str(issue, "file", ""));
    if (line > 0)
        text_addf(&t, ":%lld:%lld", (long long)line, (long long)json_int(issue, "column", 0));
    text_addf(&t, "%s%s%s", t.len ? ": " : "", json_flag(issue, "warning", false) ? "warning: " : "", json_str(issue, "what", ""));
    if (!t.failed)
        term_add_visible(&shown, t.s);
    if (!t.failed && !shown.failed)
        fprintf(stderr, "%s\n", shown.s ? shown.s : "");
}

size_t issues_errors(const json_t *issues)
{
    size_t i, errors = 0;
    json_t *issue;

    json_array_foreach(issues, i, issue)
        errors += !json_flag(issue, "warning", false);
    return errors;
}

size_t issues_print(const json_t *issues)
{
    size_t n = json_array_size(issues), i;
    OWN(mem) const json_t **sorted = calloc(n + 1, sizeof *sorted);
    json_t *issue;

    fflush(stdout);
    json_array_foreach(issues, i, issue) {
        if (sorted)
            sorted[i] = issue;
        else
            print(issue); /* no memory to sort them */
    }
    if (sorted) {
        qsort(sorted, n, sizeof *sorted, by_place);
        for (i = 0; i < n; i++)
            print(sorted[i]);
    }
    return issues_errors(issues);
}
