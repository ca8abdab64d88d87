#include "human.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <vmsd/json.h>

static const char *dash(char *out)
{
    snprintf(out, HUMAN_MAX, "-");
    return out;
}

const char *human_size(const json_t *v, char out[static HUMAN_MAX])
{
    double bytes = json_number_value(v);

    return json_is_number(v) && bytes >= 0 && bytes < 18e18 ? text_human_size((uint64_t)bytes, out) : dash(out);
}

const char *human_percent(const json_t *v, char out[static HUMAN_MAX])
{
    if (!json_is_number(v))
        return dash(out);
    snprintf(out, HUMAN_MAX, "%.1f%%", json_number_value(v));
    return out;
}

const char *human_seconds(const json_t *v, char out[static HUMAN_MAX])
{
    double s = json_number_value(v);

    if (!json_is_number(v) || !(s >= 0 && s < 1e12))
        return dash(out);
    if (s >= 60)
        return text_human_duration((int64_t)(s * 1000), out);
    snprintf(out, HUMAN_MAX, "%.1fs", s);
    return out;
}

int64_t human_time(const char *rfc3339)
{
    struct tm tm = {0};
    const char *rest = rfc3339 ? strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    int64_t ms = 0, scale = 100;

    if (!rest)
        return -1;
    if (*rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
            ms += (*rest - '0') * scale;
    return *rest == 'Z' ? (int64_t)timegm(&tm) * 1000 + ms : -1;
}

const char *human_ago(const json_t *v, int64_t now, char out[static HUMAN_MAX])
{
    int64_t at = human_time(json_string_value(v));

    if (at < 0)
        return dash(out);
    if (now - at >= 10000)
        return text_human_duration(now - at, out);
    snprintf(out, HUMAN_MAX, "%ds", now < at ? 0 : (int)((now - at) / 1000)); /* the clocks may differ a little */
    return out;
}

const char *human_int(const json_t *v, char out[static HUMAN_MAX])
{
    if (!json_is_integer(v))
        return dash(out);
    snprintf(out, HUMAN_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    return out;
}

char *human_value(const json_t *v)
{
    const char *s = json_string_value(v);

    if (json_is_real(v))
        return text_format("%.15g", json_real_value(v));
    return s ? strdup(s) : v ? json_to_text(v) : strdup("-");
}

char *human_list(const json_t *list)
{
    struct text t = {0};
    size_t i;
    json_t *v;

    json_array_foreach(list, i, v) {
        OWN(str) char *s = human_value(v);

        text_addf(&t, "%s%s", i ? ", " : "", s ? s : "");
        t.failed |= !s;
    }
    return text_take(&t);
}

const char *human_count(size_t n, const char *what, char out[static HUMAN_MAX])
{
    snprintf(out, HUMAN_MAX, "%zu %s%s", n, what, n == 1 ? "" : "s");
    return out;
}
