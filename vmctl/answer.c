#include "answer.h"

static int on_head(struct http_parser *p)
{
    struct answer *a = p->data;

    a->status = p->status_code;
    return 0;
}

static int on_body(struct http_parser *p, const char *at, size_t n)
{
    struct answer *a = p->data;

    return a->body(at, n, a->arg);
}

static int on_end(struct http_parser *p)
{
    struct answer *a = p->data;

    if (p->status_code < 200 && !p->upgrade)
        return 0; /* it only says "go on" */
    a->upgraded = p->upgrade;
    a->ended = true;
    http_parser_pause(p, 1);
    return 0;
}

static const struct http_parser_settings hooks = {
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_end,
};

void answer_begin(struct answer *a, int (*body)(const char *p, size_t n, void *arg), void *arg)
{
    *a = (struct answer){.body = body, .arg = arg};
    http_parser_init(&a->parser, HTTP_RESPONSE);
    a->parser.data = a;
}

ssize_t answer_read(struct answer *a, const char *p, size_t n)
{
    size_t taken = a->ended ? 0 : http_parser_execute(&a->parser, &hooks, p, n);

    return a->ended || HTTP_PARSER_ERRNO(&a->parser) == HPE_OK ? (ssize_t)taken : -1;
}

bool answer_is_whole(struct answer *a)
{
    if (!a->ended)
        http_parser_execute(&a->parser, &hooks, "", 0);
    return a->ended;
}
