/* The audit log as the API shows it. */
#include "api.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 200, LIMIT_MAX = 10000, NAME_BYTES = 16 << 10 };

/* The names of users may come from a directory server, and be gone. */
static json_t *user_name(int64_t uid)
{
    OWN(mem) char *buf = malloc(NAME_BYTES);
    struct passwd pw, *found = NULL;

    return buf && uid >= 0 && getpwuid_r((uid_t)uid, &pw, buf, NAME_BYTES, &found) == 0 && found ? json_string(found->pw_name) : json_null();
}

static int audit_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *list = store_audits(x->w->store, x->number, x->limit, e), *row;
    size_t i;

    if (!list)
        return -1;
    json_array_foreach (list, i, row) {
        json_put(row, "user", user_name(json_int(row, "uid", -1)));
        json_put(row, "login_user", user_name(json_int(row, "login", -1)));
    }
    *body = json_object();
    json_put(*body, "audit", list);
    return 0;
}

void audit_get(struct http_request *r, void *arg)
{
    const char *since = http_query(r, "since"), *limit = http_query(r, "limit");
    uint64_t from = 0, n = LIMIT;
    struct vm_err e = {0};

    if ((since && !text_to_u64(since, &from)) || from > INT64_MAX)
        vm_fail(&e, VM_E_INVALID, "since: '%.40s' is not the id of an entry", since);
    else if (limit && (!text_to_u64(limit, &n) || n < 1 || n > LIMIT_MAX))
        vm_fail(&e, VM_E_INVALID, "limit: expected a number from 1 to %d", LIMIT_MAX);
    if (e.code == VM_E_OK)
        api_work(r, (struct api_work){.w = arg, .run = audit_run, .number = (int64_t)from, .limit = (unsigned)n});
    else
        http_reply_error(r, &e);
}
