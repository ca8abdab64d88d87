/* Whatever comes as a request's target: an error, or segments and values that are clean. */
#include "fuzz.h"

#include <supervisor/plumb/http_target.h>
#include <vmsd/text.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWN(str) char *raw = strndup((const char *)data, size);
    struct http_target t;
    struct vm_err e;

    if (target_parse(raw, &t, &e) < 0) {
        MUST(e.text[0] && text_is_clean(e.text, strlen(e.text)));
        return 0;
    }
    for (size_t i = 0; i < t.n_segments; i++)
        MUST(t.segment[i][0] && !strchr(t.segment[i], '/') && strcmp(t.segment[i], "..") != 0);
    for (size_t i = 0; i < t.n_query; i++)
        MUST(text_is_clean(t.query[i].value, strlen(t.query[i].value)));
    target_matches(&t, "/v1/guests/{name}/exec");
    target_arg(&t, "/v1/guests/{name}/exec", "name");
    target_done(t);
    return 0;
}
