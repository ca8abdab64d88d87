/* make_docs reference|schema: prints what docs/ keeps a copy of. */
#include <stdio.h>
#include <string.h>
#include <vmsd/json.h>
#include <vmsd/spec.h>

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "reference")) {
        OWN(str) char *text = spec_reference();

        return !text || fputs(text, stdout) < 0;
    }
    if (argc == 2 && !strcmp(argv[1], "schema")) {
        OWN(json) json_t *schema = spec_schema();

        return json_dumpf(schema, stdout, JSON_INDENT(2) | JSON_SORT_KEYS) < 0 || puts("") < 0;
    }
    fputs("usage: make_docs reference|schema\n", stderr);
    return 2;
}
