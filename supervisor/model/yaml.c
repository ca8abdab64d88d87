/* From bytes to nodes, by libfyaml's events. The tree is ours, not the library's, so that every bound is ours too:
 * an alias refers to the anchored node instead of copying it, and its weight counts each time. */
#include "node.h"

#include <libfyaml.h>
#include <stdarg.h>
#include <string.h>

struct anchor {
    const char *name;
    struct node *node;
};

struct builder {
    const char *file, *data;
    struct arena *arena;
    struct issues *issues;
    struct docs *out;
    struct doc *doc;             /* the one being built */
    struct node **pile;          /* finished nodes whose parents are still open, and those parents */
    size_t n, cap;
    size_t open[SPEC_DEPTH_MAX]; /* where in the pile each open list or map stands */
    unsigned depth, nodes, docs;
    struct anchor anchors[ANCHORS_MAX];
    unsigned n_anchors;
    bool no_memory;
};

VM_PRINTF(3) static bool refuse(struct builder *b, const struct fy_mark *m, const char *fmt, ...);

static bool refuse(struct builder *b, const struct fy_mark *m, const char *fmt, ...)
{
    char what[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    issue_add(b->issues, b->file, m ? (unsigned)m->line + 1 : 1, m ? (unsigned)m->column + 1 : 1, false, "%s", what);
    return false;
}

static bool out_of_memory(struct builder *b)
{
    b->no_memory = true;
    return false;
}

static bool pile_push(struct builder *b, struct node *s)
{
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct node **pile = realloc(b->pile, cap * sizeof(struct node *));

        if (!pile)
            return out_of_memory(b);
        b->pile = pile;
        b->cap = cap;
    }
    b->pile[b->n++] = s;
    return true;
}

static struct node *node_new(struct builder *b, enum node_kind kind, const struct fy_mark *m)
{
    struct node *s = NULL;

    if (b->nodes++ >= NODES_MAX) {
        refuse(b, m, "more than %d values in one document; split it", NODES_MAX);
        return NULL;
    }
    if (!(s = arena_take(b->arena, sizeof *s))) {
        b->no_memory = true;
        return NULL;
    }
    s->doc = b->doc;
    s->kind = kind;
    s->line = m ? (unsigned)m->line + 1 : 1;
    s->column = m ? (unsigned)m->column + 1 : 1;
    s->weight = 1;
    return s;
}

/* Only what YAML's core schema would find by itself may be written as a tag: nothing. */
static bool add_marks(struct builder *b, struct node *s, struct fy_token *anchor, struct fy_token *tag,
                      const struct fy_mark *m)
{
    const char *name;
    size_t n;

    if (tag)
        return refuse(b, fy_token_start_mark(tag), "tags such as !!str are not used here; quote a string instead");
    if (!anchor)
        return true;
    if (b->n_anchors == ANCHORS_MAX)
        return refuse(b, m, "more than %d anchors in one document", ANCHORS_MAX);
    name = fy_token_get_text(anchor, &n);
    if (!(name = arena_copy(b->arena, name, n)))
        return out_of_memory(b);
    b->anchors[b->n_anchors++] = (struct anchor){name, s};
    return true;
}

/* libfyaml 0.7 leaks memory for a string in single quotes that has '' in it many times, so such a string is read here.
 * NULL with a complaint, or without memory. */
static const char *single_quoted(struct builder *b, struct fy_token *t, const struct fy_mark *m, size_t *n)
{
    size_t from = fy_token_start_mark(t)->input_pos, length = fy_token_end_mark(t)->input_pos - from;
    const char *raw = b->data + from;
    char *text;

    if (!memmem(raw, length, "''", 2))
        return fy_token_get_text(t, n);
    if (memchr(raw, '\n', length) || memchr(raw, '\r', length)) {
        refuse(b, m, "a string in single quotes with '' and line breaks; expected one line; use double quotes");
        return NULL;
    }
    if (!(text = arena_copy(b->arena, raw, length))) {
        b->no_memory = true;
        return NULL;
    }
    *n = 0;
    for (size_t i = 0; i < length; i++) {
        text[(*n)++] = raw[i];
        i += raw[i] == '\'';
    }
    text[*n] = '\0';
    return text;
}

static bool add_scalar(struct builder *b, struct fy_event *ev, const struct fy_mark *m)
{
    struct fy_token *t = ev->scalar.value;
    /* A value that is not there has no token: it belongs to the key before it. */
    struct node *before = b->n ? b->pile[b->n - 1] : NULL, *s = node_new(b, NODE_SCALAR, m);
    const char *text = "";
    size_t n = 0;

    if (!s)
        return false;
    if (t && fy_token_scalar_style(t) == FYSS_SINGLE_QUOTED) {
        if (!(text = single_quoted(b, t, m, &n)))
            return false;
    } else if (t && !(text = fy_token_get_text(t, &n))) {
        return out_of_memory(b);
    }
    if (n > STRING_MAX)
        return refuse(b, m, "a string of %zu bytes; expected at most %d; put it into a file", n, STRING_MAX);
    if (memchr(text, '\0', n))
        return refuse(b, m, "a string with a NUL character; expected plain text");
    if (!m && before) {
        s->line = before->line;
        s->column = before->column;
    }
    s->plain = !t || fy_token_scalar_style(t) == FYSS_PLAIN;
    s->n = n;
    if (!(s->text = arena_copy(b->arena, text, n)))
        return out_of_memory(b);
    return add_marks(b, s, ev->scalar.anchor, ev->scalar.tag, m) && pile_push(b, s);
}

static bool add_alias(struct builder *b, struct fy_event *ev, const struct fy_mark *m)
{
    size_t n;
    const char *name = fy_token_get_text(ev->alias.anchor, &n);
    const struct node *known = NULL;
    struct node *s;

    for (unsigned i = b->n_anchors; name && i-- > 0 && !known;)
        if (strlen(b->anchors[i].name) == n && !memcmp(b->anchors[i].name, name, n))
            known = b->anchors[i].node;
    if (!known)
        return refuse(b, m, "the alias *%.*s has no anchor before it", name ? (int)n : 0, name ? name : "");
    for (unsigned i = 0; i < b->depth; i++)
        if (b->pile[b->open[i]] == known)
            return refuse(b, m, "the alias *%.*s is inside of what it stands for", (int)n, name);
    if (b->depth + known->height >= SPEC_DEPTH_MAX)
        return refuse(b, m, "nested deeper than %d levels", SPEC_DEPTH_MAX);
    if (!(s = node_new(b, known->kind, m)))
        return false;
    s->plain = known->plain;
    s->weight = known->weight;
    s->height = known->height;
    s->n = known->n;
    if (known->kind == NODE_SCALAR)
        s->text = known->text;
    else
        s->items = known->items;
    return pile_push(b, s);
}

static bool add_open(struct builder *b, enum node_kind kind, struct fy_token *anchor, struct fy_token *tag,
                     const struct fy_mark *m)
{
    struct node *s;

    if (b->depth == SPEC_DEPTH_MAX)
        return refuse(b, m, "nested deeper than %d levels", SPEC_DEPTH_MAX);
    if (!(s = node_new(b, kind, m)) || !add_marks(b, s, anchor, tag, m))
        return false;
    b->open[b->depth++] = b->n;
    return pile_push(b, s);
}

static int key_order(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    int c = strcmp(x->text, y->text);

    if (c)
        return c;
    return x->line != y->line ? (x->line < y->line ? -1 : 1) : (x->column > y->column) - (x->column < y->column);
}

static bool check_keys(struct builder *b, const struct node *map)
{
    struct node **keys = arena_take(b->arena, (map->n + 1) * sizeof(struct node *));

    if (!keys)
        return out_of_memory(b);
    for (size_t i = 0; i < map->n; i++) {
        keys[i] = map->items[2 * i];
        if (keys[i]->kind != NODE_SCALAR) {
            issue_at(b->issues, keys[i], "%s as a key; expected a name", node_kind_name(keys[i]));
            return false;
        }
    }
    qsort(keys, map->n, sizeof(struct node *), key_order);
    for (size_t i = 1; i < map->n; i++)
        if (!strcmp(keys[i - 1]->text, keys[i]->text))
            issue_at(b->issues, keys[i], "%s: given twice, first in line %u; keep one of them", keys[i]->text,
                     keys[i - 1]->line);
    return true;
}

static bool add_close(struct builder *b)
{
    if (!b->depth) /* a parser that sends such would make us read what lies before the array */
        return refuse(b, NULL, "a list or map ends that never began");
    size_t at = b->open[--b->depth], n = b->n - at - 1;
    struct node *s = b->pile[at];
    size_t weight = 1;

    for (size_t i = 0; i < n; i++) {
        const struct node *child = b->pile[at + 1 + i];

        weight += child->weight;
        if (child->height >= s->height)
            s->height = child->height + 1;
    }
    if (weight > NODES_MAX) {
        issue_at(b->issues, s, "its aliases stand for more than %d values; write less or split the document",
                 NODES_MAX);
        return false;
    }
    if (!(s->items = arena_take(b->arena, (n + 1) * sizeof(struct node *))))
        return out_of_memory(b);
    if (n)
        memcpy(s->items, b->pile + at + 1, n * sizeof(struct node *));
    s->weight = (unsigned)weight;
    s->n = s->kind == NODE_MAP ? n / 2 : n;
    b->n = at + 1;
    return s->kind != NODE_MAP || check_keys(b, s);
}

static bool doc_begin(struct builder *b)
{
    if (b->out->n >= DOCS_MAX || ++b->docs > DOCS_MAX)
        return refuse(b, NULL, "more than %d documents in all", DOCS_MAX);
    b->n = b->depth = b->nodes = b->n_anchors = 0;
    if (!(b->doc = arena_take(b->arena, sizeof *b->doc)))
        return out_of_memory(b);
    b->doc->file = b->file;
    return true;
}

/* A document that says nothing ("---" and no more) is no document. */
static bool doc_end(struct builder *b)
{
    struct docs *out = b->out;
    struct node *root = b->n ? b->pile[0] : NULL;

    if (!root || (root->kind == NODE_SCALAR && node_scalar(root) == SCALAR_NULL))
        return true;
    if (root->kind != NODE_MAP) {
        issue_at(b->issues, root, "the document is %s; expected %s", node_kind_name(root),
                 out->expected ? out->expected : "a map with \"kind\" and \"name\"");
        return true;
    }
    if (out->n == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 64;
        struct doc **v = realloc(out->v, cap * sizeof(struct doc *));

        if (!v)
            return out_of_memory(b);
        out->v = v;
        out->cap = cap;
    }
    b->doc->root = root;
    out->v[out->n++] = b->doc;
    return true;
}

static bool feed(struct builder *b, struct fy_event *ev)
{
    const struct fy_mark *m = fy_event_start_mark(ev);

    switch (ev->type) {
    case FYET_DOCUMENT_START:
        return doc_begin(b);
    case FYET_DOCUMENT_END:
        return doc_end(b);
    case FYET_SCALAR:
        return add_scalar(b, ev, m);
    case FYET_ALIAS:
        return add_alias(b, ev, m);
    case FYET_MAPPING_START:
        return add_open(b, NODE_MAP, ev->mapping_start.anchor, ev->mapping_start.tag, m);
    case FYET_SEQUENCE_START:
        return add_open(b, NODE_LIST, ev->sequence_start.anchor, ev->sequence_start.tag, m);
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        return add_close(b);
    default:
        return true;
    }
}

/* libfyaml takes a NUL for the end of the text, and characters that rearrange what one reads have no business even in
 * a comment: both are found before it starts. Returns the offset of the first such character, or n. */
static size_t first_unclean(const char *s, size_t n)
{
    size_t at = 0;

    while ((at += text_clean_part(s + at, n - at)) < n && memchr("\n\t\r", s[at], 3))
        at++;
    return at;
}

/* libfyaml reads brackets ahead, to the end of the line, before it tells of the first one. So brackets that nobody
 * would write, not even in comments, are found before it starts as well: the offset of the first too many, or n. */
static size_t first_too_deep(const char *s, size_t n)
{
    unsigned open = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '[' || s[i] == '{')
            open++;
        else if ((s[i] == ']' || s[i] == '}') && open)
            open--;
        if (open > BRACKETS_MAX)
            return i;
    }
    return n;
}

static struct fy_mark mark_of(const char *s, size_t at)
{
    struct fy_mark m = {0};

    for (size_t i = 0; i < at; i++) {
        m.line += s[i] == '\n';
        m.column = s[i] == '\n' ? 0 : m.column + ((s[i] & 0xc0) != 0x80);
    }
    return m;
}

static bool check_bytes(struct builder *b, const char *s, size_t n)
{
    size_t at = first_unclean(s, n);
    struct fy_mark m = mark_of(s, at);

    if (at < n)
        return refuse(b, &m, "the byte 0x%02X: a control character, a direction mark or no UTF-8; expected plain text",
                      (unsigned)(unsigned char)s[at]);
    if ((at = first_too_deep(s, n)) == n)
        return true;
    m = mark_of(s, at);
    return refuse(b, &m, "more than %d open brackets; expected at most %d levels", BRACKETS_MAX, SPEC_DEPTH_MAX);
}

static void syntax_error(struct builder *b, struct fy_diag *diag)
{
    void *at = NULL;
    const struct fy_diag_error *first = fy_diag_errors_iterate(diag, &at);

    issue_add(b->issues, b->file, first && first->line > 0 ? (unsigned)first->line : 0,
              first && first->column > 0 ? (unsigned)first->column : 1, false, "not YAML: %s",
              first && first->msg ? first->msg : "the parser gave up; expected YAML 1.2 or JSON");
}

static void run(struct builder *b, struct fy_parser *parser, struct fy_diag *diag)
{
    struct fy_event *ev;
    bool going = true;

    while (going && (ev = fy_parser_parse(parser))) {
        going = feed(b, ev);
        fy_parser_event_free(parser, ev);
    }
    if (going && fy_parser_get_stream_error(parser))
        syntax_error(b, diag);
}

int yaml_read(const char *file, const char *data, size_t n, struct arena *a, struct docs *out, struct issues *is)
{
    struct builder b = {.file = file, .arena = a, .issues = is, .out = out};
    struct fy_diag_cfg quiet;
    struct fy_parse_cfg cfg = {.search_path = "", .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE};
    struct fy_parser *parser = NULL;

    if (n >= 3 && !memcmp(data, "\xef\xbb\xbf", 3)) { /* a byte order mark */
        data += 3;
        n -= 3;
    }
    b.data = data;
    if (n > SPEC_FILE_MAX) {
        issue_add(is, file, 0, 0, false, "%zu bytes; expected at most %d; split it", n, SPEC_FILE_MAX);
        return 0;
    }
    if (!check_bytes(&b, data, n))
        return 0;
    fy_diag_cfg_default(&quiet);
    quiet.fp = NULL;
    quiet.colorize = false;
    if ((cfg.diag = fy_diag_create(&quiet)))
        fy_diag_set_collect_errors(cfg.diag, true);
    if (!cfg.diag || !(parser = fy_parser_create(&cfg)) || fy_parser_set_string(parser, data, n) < 0)
        b.no_memory = true;
    else
        run(&b, parser, cfg.diag);
    if (parser)
        fy_parser_destroy(parser);
    if (cfg.diag)
        fy_diag_destroy(cfg.diag);
    free(b.pile);
    return b.no_memory ? -1 : 0;
}
