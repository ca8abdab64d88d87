/* vmctl top: the guests and what they use, live. */
#include <curses.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include "cli.h"
#include "term.h"
#include "top_rows.h"

enum { EVERY_MS = 2000, KEY_MS = 100, LOST_S = 4, CTRL_C = 3, ESCAPE = 27 };

/* The signal that ends it, after which the terminal is as it was and no ssh is left. */
static volatile sig_atomic_t ended;

static void on_end(int sig)
{
    ended = sig;
}

/* One screen: lines of text, the first guest's row below the title, a footer. */
struct view {
    struct cli *cli;
    struct top top;
    struct strv lines;
    size_t chosen, first; /* of the guests: where the cursor is, and what the uppermost row shows */
    bool typing, quit, open;
    struct vm_err err; /* why there is nothing new */
};

enum { HEAD_LINES = 2 };

static size_t rows_shown(void)
{
    return LINES > HEAD_LINES + 1 ? (size_t)LINES - HEAD_LINES - 1 : 1;
}

static void put_line(int y, const char *line, int attributes)
{
    attrset((attr_t)attributes);
    mvaddnstr(y, 0, line, -1);
    clrtoeol();
}

static void draw(struct view *v)
{
    static const char one[] = "q quit  Enter show  / filter  N name c cpu m memory d disk n net p pressure h health a age";
    static const char many[] = "q quit  Enter show  / filter  H host N name c cpu m memory d disk n net p pressure h health a age";
    const char *keys = v->top.hosts ? many : one;
    size_t rows = rows_shown(), n = v->top.names.n;

    v->chosen = n && v->chosen >= n ? n - 1 : v->chosen;
    v->first = v->chosen < v->first ? v->chosen : v->chosen >= v->first + rows ? v->chosen - rows + 1 : v->first;
    erase();
    for (size_t i = 0; i < v->lines.n && i < HEAD_LINES; i++)
        put_line((int)i, v->lines.v[i], i == HEAD_LINES - 1 ? A_BOLD : A_NORMAL);
    for (size_t i = 0; i < rows && v->first + i < n && HEAD_LINES + v->first + i < v->lines.n; i++)
        put_line((int)(HEAD_LINES + i), v->lines.v[HEAD_LINES + v->first + i], v->first + i == v->chosen ? A_REVERSE : A_NORMAL);
    attrset(A_DIM);
    if (v->typing)
        mvprintw(LINES - 1, 0, "/%s_", v->top.filter);
    else
        mvaddnstr(LINES - 1, 0, v->err.code ? v->err.text : keys, COLS);
    attrset(A_NORMAL);
    refresh();
}

static void compose(struct view *v)
{
    OWN(text) struct text out = {0};
    char *rest = NULL;

    strv_done(v->lines);
    v->lines = (struct strv){0};
    if (top_render(&v->top, (size_t)COLS, wall_ms(), &out) < 0) {
        vm_no_memory(&v->err);
        return;
    }
    for (char *line = strtok_r(out.s, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        strv_add(&v->lines, line);
}

/* ---- keys ---- */

static void type(struct view *v, int key)
{
    char *filter = v->top.filter;
    size_t n = strlen(filter);

    if (key == '\n' || key == KEY_ENTER || key == ESCAPE) {
        v->typing = false;
        if (key == ESCAPE)
            *filter = '\0';
    } else if ((key == KEY_BACKSPACE || key == '\b' || key == 127) && n) {
        filter[n - 1] = '\0';
    } else if (key > ' ' && key < 127 && n + 1 < sizeof v->top.filter) {
        filter[n] = (char)key;
        filter[n + 1] = '\0';
    }
}

static void move_to(struct view *v, int key)
{
    size_t page = rows_shown(), n = v->top.names.n;

    if (key == KEY_DOWN && v->chosen + 1 < n)
        v->chosen++;
    else if (key == KEY_UP && v->chosen)
        v->chosen--;
    else if (key == KEY_NPAGE)
        v->chosen += page;
    else if (key == KEY_PPAGE)
        v->chosen -= v->chosen < page ? v->chosen : page;
}

static void press(struct view *v, int key)
{
    if (v->typing)
        type(v, key);
    else if (key == 'q' || key == CTRL_C)
        v->quit = true;
    else if (key == '/')
        v->typing = true;
    else if (key == '\n' || key == KEY_ENTER)
        v->open = v->top.names.n > 0;
    else if (!top_key(&v->top, key))
        move_to(v, key);
    if (key != ERR) {
        compose(v);
        draw(v);
    }
}

/* While an answer is waited for, which may be long, keys work. */
static bool keys_during(void *arg)
{
    struct view *v = arg;
    int key;

    timeout(0);
    while (!v->quit && (key = getch()) != ERR)
        press(v, key);
    v->quit |= ended != 0;
    return !v->quit;
}

static void wait_for_keys(struct view *v, int64_t until)
{
    while (!v->quit && !v->open && now_ms() < until) {
        timeout(KEY_MS);
        press(v, getch());
        v->quit |= ended != 0;
    }
}

/* ---- the whole ---- */

/* The guests of all hosts; *e: what the first of the others lacks, which never keeps the rest from being shown. */
static json_t *ask_all(struct view *v, struct vm_err *e)
{
    struct hosts *all = &v->cli->hosts;
    OWN(mem) struct transfer *t = calloc(all->n, sizeof *t);
    OWN(mem) json_t **docs = calloc(all->n, sizeof(json_t *));
    json_t *doc = json_pack("{s:[]}", "guests");

    for (size_t i = 0; t && i < all->n; i++) {
        t[i] = (struct transfer){.method = "GET", .path = "/v1/guests", .limit_s = LOST_S, .cut = true};
        t[i].at = host_client(&all->v[i], &t[i].err);
    }
    if (!t || !docs || !doc || client_gather(NULL, t, all->n, keys_during, v, docs, NULL) < 0) {
        json_decref(doc);
        vm_no_memory(e);
        return NULL;
    }
    v->top.here = 0;
    for (size_t i = 0; i < all->n; i++) {
        hosts_merge(all->v[i].name, json_object_get(docs[i], "guests"), json_object_get(doc, "guests"));
        v->top.here += docs[i] != NULL;
        json_decref(docs[i]);
        if (!docs[i] && t[i].err.code && !e->code)
            vm_fail(e, t[i].err.code, "%.60s: %.170s", all->v[i].name, t[i].err.text);
    }
    return doc;
}

static void look(struct view *v)
{
    OWN(json) json_t *doc = NULL;
    struct vm_err e = {0};

    if (v->top.hosts)
        doc = ask_all(v, &e);
    else
        client_watch(&v->cli->client, "/v1/guests", keys_during, v, &doc, &e);
    if (!v->quit && doc && top_update(&v->top, doc, now_ms()) < 0)
        vm_fail(&e, VM_E_BACKEND, "vmsd's answer is no list of guests");
    v->err = e;
    compose(v);
    draw(v);
}

/* On the screen as the shell knows it, so that it can be read and scrolled like any other output. */
static void show_chosen(struct view *v)
{
    const json_t *guest = top_guest(&v->top, v->top.names.v[v->chosen]);
    char *name[] = {(char *)json_str(guest, "name", ""), NULL};
    struct cli one = {.command = v->cli->command, .args = name, .n_args = 1};

    v->open = false;
    hosts_turn(v->cli, guest);
    one.client = v->cli->client;
    def_prog_mode();
    endwin();
    cmd_show(&one);
    cli_turn(NULL);
    term_say("%s", "");
    term_say("any key goes back to the list");
    reset_prog_mode();
    timeout(-1);
    getch();
    draw(v);
}

int cmd_top(struct cli *cli)
{
    struct view v = {.cli = cli, .top.sort = TOP_CPU};
    struct vm_err e = {0};

    if (!term_is_tty() || !isatty(STDIN_FILENO)) {
        term_complain("top needs a terminal; vmctl ls shows the same once");
        return EXIT_USAGE;
    }
    if (cli->hosts.several && hosts_reach(&cli->hosts) < 0)
        return EXIT_DONE; /* each host has its status */
    if (!cli->hosts.several && client_reach(&cli->client, &e) < 0) /* ssh may ask for something, before the screen is taken */
        return cli_fail(cli, &e);
    v.top.hosts = cli->hosts.several ? cli->hosts.n : 0;
    signal(SIGTERM, on_end);
    signal(SIGHUP, on_end);
    setlocale(LC_CTYPE, "C.UTF-8");
    if (!initscr())
        return EXIT_FAILED;
    raw(); /* Ctrl-C is a key: whatever happens, the terminal comes back as it was */
    noecho();
    keypad(stdscr, TRUE);
    set_escdelay(25);
    curs_set(0);
    while (!v.quit) {
        int64_t next = now_ms() + EVERY_MS;

        look(&v);
        wait_for_keys(&v, next);
        if (v.open)
            show_chosen(&v);
    }
    endwin();
    top_done(&v.top);
    strv_done(v.lines);
    return ended ? 128 + ended : EXIT_DONE;
}
