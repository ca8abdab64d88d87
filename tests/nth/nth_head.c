/* What the head makes of what guests tell. */
#include "nth.h"

#include <string.h>
#include <supervisor/numbers.h>

static int read_numbers(struct vm_err *e)
{
    static const char *const all[] = {"*"};
    const char text[] = "size_bytes{db=\"a\\\"b\",guest=\"x\"} 1\nqueue 2\nnone\n";
    struct numbers *x = numbers_read(text, strlen(text), &(struct spec_list){(const char **)all, 1});
    OWN(text) struct text said = {0};
    OWN(json) json_t *list = x ? numbers_json(x) : NULL;
    OWN(str) char *shown = list ? json_to_text(list) : NULL;

    if (x)
        numbers_say(x, &said);
    nth_over();
    numbers_free(x);
    if (!shown || said.failed)
        return vm_no_memory(e);
    nth_say("%s %s", said.s, shown);
    return 0;
}

static const struct nth_case cases[] = {
    {"head: numbers", read_numbers},
};

int main(int argc, char **argv)
{
    return test_J1_each_allocation_fails(argc, argv, cases, ARRAY_LEN(cases));
}
