#include "answer.h"

#include <string.h>

/* The value of a header in head, which is NUL-terminated; *n is its length. NULL: not there. */
static const char *header(const char *head, const char *name, size_t *n)
{
    size_t length = strlen(name);

    *n = 0;
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) != 0 || line[length] != ':')
            continue;
        line += length + 1;
        line += strspn(line, " \t");
        *n = strcspn(line, "\r");
        return line;
    }
    return NULL;
}

static bool is(const char *value, size_t n, const char *word)
{
    return value && n == strlen(word) && !strncasecmp(value, word, n);
}

ssize_t answer_head(const char *s, size_t n, const char *protocol, struct answer_head *out)
{
    const char *end = memmem(s, n, "\r\n\r\n", 4), *value;
    char head[ANSWER_HEAD_MAX + 1], number[24];
    size_t length, value_n;
    uint64_t told;

    if (!end)
        return n < ANSWER_HEAD_MAX ? 0 : -1;
    length = (size_t)(end - s) + 4;
    if (length > ANSWER_HEAD_MAX || memchr(s, '\0', length))
        return -1;
    memcpy(head, s, length);
    head[length] = '\0';
    if (strncmp(head, "HTTP/1.1 ", 9) != 0 || strspn(head + 9, "0123456789") != 3)
        return -1;
    *out = (struct answer_head){.status = (int)strtol(head + 9, NULL, 10), .length = SIZE_MAX};
    if ((value = header(head, "Content-Length", &value_n)) && value_n < sizeof number) {
        memcpy(number, value, value_n);
        number[value_n] = '\0';
        if (!text_to_u64(number, &told))
            return -1;
        out->length = told;
    }
    value = header(head, "Transfer-Encoding", &value_n);
    out->chunked = is(value, value_n, "chunked");
    if (value && !out->chunked)
        return -1; /* nothing else was asked for */
    value = header(head, "Upgrade", &value_n);
    out->upgraded = out->status == 101 && is(value, value_n, protocol);
    return (ssize_t)length;
}

/* Adds to the line what of p belongs to it, through `end`; how many bytes that was. A line that is complete ends with it. */
static size_t line_add(struct answer *a, const char *p, size_t n, const char *end, size_t max)
{
    size_t before = a->line.len, room = max - before, end_n = strlen(end);
    const char *found;

    text_add_bytes(&a->line, p, n < room ? n : room);
    if (a->line.failed)
        return n;
    found = memmem(a->line.s, a->line.len, end, end_n);
    if (found)
        a->line.len = (size_t)(found - a->line.s) + end_n;
    return a->line.len - before;
}

static bool line_ends(const struct answer *a, const char *end)
{
    size_t n = strlen(end);

    return a->line.len >= n && !memcmp(a->line.s + a->line.len - n, end, n);
}

/* Of a complete head: what comes then. One that only says "go on" is passed over. */
static int head_take(struct answer *a)
{
    if (answer_head(a->line.s, a->line.len, "", &a->head) < 0)
        return -1;
    a->line.len = 0;
    a->left = a->head.length;
    if (a->head.status < 200)
        a->at = ANSWER_HEAD;
    else if (a->head.status == 204 || a->head.status == 304 || (!a->head.chunked && a->left == 0))
        a->at = ANSWER_ENDED;
    else
        a->at = a->head.chunked ? ANSWER_SIZE : a->left == SIZE_MAX ? ANSWER_ENDLESS : ANSWER_COUNTED;
    return 0;
}

/* Of a complete line of the chunked encoding. Extensions behind ';' mean nothing here. */
static int line_take(struct answer *a)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    size_t size = 0, i = 0;
    const char *digit;

    if (a->at == ANSWER_BEHIND) {
        if (a->line.len != 2)
            return -1;
        a->at = ANSWER_SIZE;
    } else if (a->at == ANSWER_TRAILER) {
        a->at = a->line.len == 2 ? ANSWER_ENDED : ANSWER_TRAILER;
    } else {
        for (; a->line.s[i] && (digit = strchr(digits, a->line.s[i])); i++) {
            if (size >> 48)
                return -1;
            size = size << 4 | (size_t)((digit - digits) & 15);
        }
        if (i == 0 || !strchr("\r; \t", a->line.s[i]))
            return -1;
        a->left = size;
        a->at = size ? ANSWER_COUNTED : ANSWER_TRAILER;
    }
    a->line.len = 0;
    return 0;
}

int answer_read(struct answer *a, const char *p, size_t n)
{
    while (n > 0 && a->at != ANSWER_ENDED) {
        bool counted = a->at == ANSWER_COUNTED, head = a->at == ANSWER_HEAD;
        const char *end = head ? "\r\n\r\n" : "\r\n";
        size_t max = head ? ANSWER_HEAD_MAX : ANSWER_LINE_MAX, taken = n;

        if (counted || a->at == ANSWER_ENDLESS) {
            taken = counted && a->left < n ? a->left : n;
            if (a->body(p, taken, a->arg) < 0)
                return -1;
            if (counted && (a->left -= taken) == 0)
                a->at = a->head.chunked ? ANSWER_BEHIND : ANSWER_ENDED;
        } else {
            taken = line_add(a, p, n, end, max);
            if (a->line.failed || (!line_ends(a, end) && a->line.len == max))
                return -1;
            if (line_ends(a, end) && (head ? head_take(a) : line_take(a)) < 0)
                return -1;
        }
        p += taken;
        n -= taken;
    }
    return 0;
}

bool answer_is_whole(const struct answer *a)
{
    return a->at == ANSWER_ENDED || a->at == ANSWER_ENDLESS;
}
