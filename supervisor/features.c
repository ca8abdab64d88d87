#include "api.h"

/* What an older vmsd lacks, for clients that would rather ask than guess. A word is added with what it stands for, here
 * and in docs/api.md, and never renamed or taken back: somebody relies on it. */
static const char *const features[] = {
    "alerts",
    "audit",
    "host-profile",
    "numbers",
    "openmetrics",
    "wishes",
};

json_t *features_json(void)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ARRAY_LEN(features); i++)
        json_array_append_new(list, json_string(features[i]));
    return list;
}
