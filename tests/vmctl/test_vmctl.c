/* The parts of vmctl that need no daemon and no terminal. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include "vmctl/answer.h"
#include "vmctl/cli.h"
#include "vmctl/human.h"
#include "vmctl/live.h"
#include "vmctl/modes.h"
#include "vmctl/raw.h"
#include "vmctl/plan.h"
#include "vmctl/stream.h"
#include "vmctl/table.h"
#include "vmctl/term.h"
#include "vmctl/upgrade.h"

/* --- text --- */

static void check_cut(const char *s, size_t cells, const char *want)
{
    OWN(text) struct text t = {0};
    size_t used = term_add_cut(&t, s, cells);

    ck_assert_str_eq(t.s ? t.s : "", want);
    ck_assert_uint_eq(used, term_width(want));
    ck_assert_uint_le(used, cells);
}

START_TEST(test_cut)
{
    check_cut("abc", 3, "abc");
    check_cut("abcd", 3, "ab…");
    check_cut("abcd", 1, "…");
    check_cut("abcd", 0, "");
    check_cut("äöü", 3, "äöü");
    check_cut("äöüß", 3, "äö…");
    check_cut("日本語", 6, "日本語");
    check_cut("日本語", 5, "日本…");
    check_cut("日本語", 4, "日…"); /* half a wide character is none */
}
END_TEST

START_TEST(test_human)
{
    char out[HUMAN_MAX];
    OWN(json)
    json_t *v = json_pack("{s:i,s:f,s:f,s:s,s:n,s:[s,s],s:f}", "int", 1536, "f", 3.25, "s", 12.345, "t",
                          "2026-11-20T09:48:00.250Z", "null", "list", "a", "b", "long", 3725.0);

    ck_assert_str_eq(human_size(json_object_get(v, "int"), out), "1.5K");
    ck_assert_str_eq(human_size(json_object_get(v, "null"), out), "-");
    ck_assert_str_eq(human_size(NULL, out), "-");
    ck_assert_str_eq(human_percent(json_object_get(v, "f"), out), "3.2%");
    ck_assert_str_eq(human_percent(json_object_get(v, "t"), out), "-");
    ck_assert_str_eq(human_seconds(json_object_get(v, "s"), out), "12.3s");
    ck_assert_str_eq(human_seconds(json_object_get(v, "long"), out), "1h2m");
    ck_assert_str_eq(human_int(json_object_get(v, "int"), out), "1536");
    ck_assert_str_eq(human_int(json_object_get(v, "f"), out), "-");
    ck_assert_int_eq(human_time("2026-11-20T09:48:00.250Z"), 1795168080250);
    ck_assert_int_eq(human_time("2026-11-20T09:48:00Z"), 1795168080000);
    ck_assert_int_eq(human_time("2026-11-20T09:48:00+01:00"), -1);
    ck_assert_int_eq(human_time("yesterday"), -1);
    ck_assert_int_eq(human_time(NULL), -1);
    ck_assert_str_eq(human_ago(json_object_get(v, "t"), 1795168080250 + 7500, out), "7s");
    ck_assert_str_eq(human_ago(json_object_get(v, "t"), 1795168080250 - 7500, out), "0s");
    ck_assert_str_eq(human_ago(json_object_get(v, "t"), 1795168080250 + 90061000, out), "1d1h");
    ck_assert_str_eq(human_count(1, "guest", out), "1 guest");
    ck_assert_str_eq(human_count(0, "guest", out), "0 guests");
}
END_TEST

/* --- tables --- */

static const struct table_column columns[] = {
    {"NAME", .least = 4},
    {"STATE", .least = 3, .coloured = true},
    {"SIZE", .right = true},
};

static char *render(size_t width, bool colour)
{
    OWN(table) struct table t = {.columns = columns, .n_columns = 3};
    struct text out = {0};

    table_add(&t, "a-long-name");
    table_add(&t, "running");
    table_add(&t, "1.5G");
    table_add(&t, "b");
    table_add(&t, NULL);
    table_add(&t, "12M");
    table_render(&t, width, colour, &out);
    return text_take(&out);
}

static void check_table(size_t width, const char *want)
{
    OWN(str) char *got = render(width, false);

    ck_assert_str_eq(got, want);
}

START_TEST(test_table_fits)
{
    check_table(0, "NAME         STATE    SIZE\n"
                   "a-long-name  running  1.5G\n"
                   "b            -         12M\n");
    check_table(26, "NAME         STATE    SIZE\n"
                    "a-long-name  running  1.5G\n"
                    "b            -         12M\n");
    check_table(20, "NAME    STATE   SIZE\n"
                    "a-lon…  runni…  1.5G\n"
                    "b       -        12M\n");
    check_table(15, "NAME  ST…  SIZE\n"
                    "a-l…  ru…  1.5G\n"
                    "b     -     12M\n");
    check_table(14, "NAME  STATE  …\n"
                    "a-l…  runn…  …\n"
                    "b     -      …\n");
}
END_TEST

START_TEST(test_table_never_wraps)
{
    for (size_t width = 3; width < 40; width++) {
        OWN(str) char *got = render(width, false);

        for (char *line = strtok(got, "\n"); line; line = strtok(NULL, "\n"))
            ck_assert_uint_le(term_width(line), width);
    }
}
END_TEST

START_TEST(test_table_colours)
{
    OWN(str) char *got = render(0, true);

    ck_assert_ptr_nonnull(strstr(got, "\033[32mrunning\033[0m  1.5G\n"));
    ck_assert_ptr_null(strstr(got, "\033[0m\033"));
}
END_TEST

START_TEST(test_P1_table)
{
    static const struct table_column one[] = {{"X", .least = 1}};
    OWN(table) struct table t = {.columns = one, .n_columns = 1};
    OWN(text) struct text out = {0};

    table_add(&t, "a\nb\033[2J\xff");
    table_render(&t, 0, true, &out);
    ck_assert_ptr_nonnull(strstr(out.s, "a\\x0Ab\\x1B[2J\\xFF\n"));
}
END_TEST

/* --- the command line --- */

/* argv as it comes: split at spaces. */
static int parse(struct cli *cli, const char *line, struct vm_err *e)
{
    static char copy[256], *argv[32];
    int argc = 0;

    *cli = (struct cli){0};
    *e = (struct vm_err){0};
    snprintf(copy, sizeof copy, "%s", line);
    for (char *s = strtok(copy, " "); s; s = strtok(NULL, " "))
        argv[argc++] = s;
    argv[argc] = NULL;
    return cli_parse(cli, argc, argv, e);
}

START_TEST(test_parse)
{
    struct cli cli;
    struct vm_err e;

    unsetenv("VMSD_SOCKET");
    ck_assert_int_eq(parse(&cli, "vmctl ls db -t a web -o json -t b", &e), 0);
    ck_assert_str_eq(cli.command->name, "ls");
    ck_assert_uint_eq(cli.n_args, 2);
    ck_assert_str_eq(cli.args[0], "db");
    ck_assert_str_eq(cli.args[1], "web");
    ck_assert_uint_eq(cli.values[OPT_TAG].n, 2);
    ck_assert_str_eq(cli_value(&cli, OPT_TAG), "b");
    ck_assert(cli.json);
    ck_assert_str_eq(cli.client.socket, CLIENT_SOCKET);
    cli_done(&cli);

    ck_assert_int_eq(parse(&cli, "vmctl --socket /s -o json volume rm v", &e), 0);
    ck_assert_str_eq(cli.command->name, "volume rm");
    ck_assert_str_eq(cli.client.socket, "/s");
    ck_assert(cli.json);
    cli_done(&cli);

    /* The same letter means what its command says; behind the guest's name nothing is vmctl's. */
    ck_assert_int_eq(parse(&cli, "vmctl exec -it -e A=1 db -- ls -t --help", &e), 0);
    ck_assert(cli_has(&cli, OPT_TTY) && cli_has(&cli, OPT_STDIN) && !cli_has(&cli, OPT_TAG) &&
              !cli_has(&cli, OPT_HELP));
    ck_assert_uint_eq(cli.n_args, 5);
    ck_assert_str_eq(cli.args[4], "--help");
    cli_done(&cli);

    ck_assert_int_eq(parse(&cli, "vmctl rm db --purge", &e), 0);
    ck_assert(cli_has(&cli, OPT_PURGE) && !cli_has(&cli, OPT_PURGE_VOLUME));
    cli_done(&cli);
    ck_assert_int_eq(parse(&cli, "vmctl apply --purge v", &e), 0);
    ck_assert_str_eq(cli_value(&cli, OPT_PURGE_VOLUME), "v");
    ck_assert_uint_eq(cli.n_args, 0);
    cli_done(&cli);
}
END_TEST

START_TEST(test_parse_refuses)
{
    static const char *const lines[] = {
        "vmctl",           "vmctl nothing",          "vmctl ls --nothing", "vmctl ls -o xml", "vmctl shell",
        "vmctl shell a b", "vmctl volume",           "vmctl logs -n",      "vmctl rm -t",     "vmctl exec",
        "vmctl exec db",   "vmctl -o json shell db", "vmctl image zz",
    };

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct cli cli;
        struct vm_err e;

        ck_assert_msg(parse(&cli, lines[i], &e) < 0, "%s", lines[i]);
        ck_assert_int_eq(e.code, VM_E_INVALID);
        ck_assert(*e.text);
        cli_done(&cli);
    }
}
END_TEST

START_TEST(test_tables_whole)
{
    for (size_t i = 0; i < n_cli_commands; i++) {
        const struct cli_command *c = &cli_commands[i];

        ck_assert(c->name && c->help && c->run && c->least <= c->most);
        for (int a = 0; a < OPT_COUNT; a++)
            for (int b = a + 1; b < OPT_COUNT; b++) { /* no letter or word twice in a command */
                uint32_t both = 1u << a | 1u << b;

                if (((c->options | OPTS_ALWAYS) & both) != both)
                    continue;
                ck_assert_str_ne(cli_options[a].word, cli_options[b].word);
                ck_assert(!cli_options[a].letter || cli_options[a].letter != cli_options[b].letter);
            }
    }
}
END_TEST

/* --- streams --- */

static int collect(const json_t *object, void *arg, struct vm_err *e)
{
    (void)e;
    text_addf(arg, "%d ", (int)json_int(object, "n", -1));
    return 0;
}

START_TEST(test_records)
{
    static const char lines[] = "{\"n\":1}\n\n{\"n\":2}\n{\"n\":3}";

    for (size_t cut = 1; cut < sizeof lines; cut++) { /* however it comes */
        OWN(text) struct text seen = {0};
        struct stream_records r = {.record = collect, .arg = &seen};

        for (size_t at = 0; at < sizeof lines - 1; at += cut) {
            size_t n = sizeof lines - 1 - at;

            ck_assert_int_eq(stream_records_sink(lines + at, n < cut ? n : cut, &r, NULL), 0);
        }
        ck_assert_int_eq(stream_records_end(&r, NULL), 0);
        ck_assert_str_eq(seen.s, "1 2 3 ");
    }
}
END_TEST

START_TEST(test_records_bounds)
{
    OWN(text) struct text seen = {0};
    struct stream_records r = {.record = collect, .arg = &seen};
    OWN(str) char *line = malloc(STREAM_LINE_MAX + 1);
    struct vm_err e = {0};

    memset(line, ' ', STREAM_LINE_MAX + 1);
    memcpy(line, "{\"n\":1}", 7);
    ck_assert_int_eq(stream_records_sink(line, STREAM_LINE_MAX, &r, &e), 0);
    ck_assert_int_eq(stream_records_sink("\n", 1, &r, &e), 0);
    ck_assert_str_eq(seen.s, "1 ");
    ck_assert_int_eq(stream_records_sink(line, STREAM_LINE_MAX + 1, &r, &e), -1);
    ck_assert_int_eq(e.code, VM_E_BACKEND);
    stream_records_end(&r, NULL);
    ck_assert_int_eq(stream_records_sink("{]\n", 3, &r, &e), -1);
    stream_records_end(&r, NULL);
}
END_TEST

/* Shown as a whole, and in all ways of two pieces. */
static void check_shown(const char *s, const char *want)
{
    size_t n = strlen(s);

    for (size_t cut = 0; cut <= n; cut++) {
        OWN(text) struct text out = {0};
        size_t used = stream_show(&out, s, cut, false);

        ck_assert_uint_le(used, cut);
        ck_assert_uint_eq(stream_show(&out, s + used, n - used, true), n - used);
        ck_assert_str_eq(out.s ? out.s : "", want);
    }
}

START_TEST(test_P1_shown)
{
    check_shown("plain\ttext\n", "plain\ttext\n");
    check_shown("\033[32m[ OK ]\033[0m up\r\n", "[ OK ] up\n");
    check_shown("\033[2J\033[10;20Hx", "x");
    check_shown("\033]0;title\007x", "\\x1B]0;title\\x07x");
    check_shown("\033Px\033\\", "\\x1BPx\\x1B\\");
    check_shown("\033", "\\x1B");
    check_shown("\033[", "\\x1B[");
    check_shown("\033[31", "\\x1B[31");
    check_shown("\033[3\n", "\\x1B[3\n");
    check_shown("é日本\xf0\x9f\x98\x80", "é日本\xf0\x9f\x98\x80");
    check_shown("\xc3", "\\xC3");
    check_shown("\xc2\x9b"
                "31m",
                "\\xC2\\x9B31m");
    check_shown("\xe2\x80\xae"
                "x",
                "\\xE2\\x80\\xAEx");
    check_shown("\033[0000000000000000000000000000000000000000m", "\\x1B[0000000000000000000000000000000000000000m");
}
END_TEST

/* --- progress --- */

START_TEST(test_tail)
{
    struct tasks tasks = {0};
    struct task *t = tasks_get(&tasks, "db");
    OWN(text) struct text out = {0};
    char line[32];

    ck_assert_ptr_eq(tasks_get(&tasks, "db"), t);
    ck_assert_ptr_ne(tasks_get(&tasks, "dns"), t);
    task_begin(t, "install:01", "a.sh", 0);
    ck_assert_str_eq(task_last_line(t), "");
    for (int i = 0; i < TASK_TAIL + 5; i++)
        task_output(t, line, (size_t)snprintf(line, sizeof line, "line %d\n", i));
    task_output(t, "part", 4);
    ck_assert_str_eq(task_last_line(t), "line 24");
    task_add_tail(t, &out);
    ck_assert_int_eq(strncmp(out.s, "    | line 5\n", 13), 0);
    ck_assert_ptr_nonnull(strstr(out.s, "    | line 24\n    | part\n"));
    task_begin(t, "health", NULL, 0);
    ck_assert_str_eq(task_last_line(t), "");
    tasks_done(tasks);
}
END_TEST

START_TEST(test_tail_bounds)
{
    struct tasks tasks = {0};
    struct task *t = tasks_get(&tasks, "db");

    task_begin(t, "image", NULL, 0);
    for (int i = 0; i < 1000; i++)
        task_output(t, "0123456789", 10);
    ck_assert_uint_eq(t->partial.len, TASK_LINE_MAX);
    task_output(t, "\n\ta\033[2Jb\n", 9);
    ck_assert_str_eq(task_last_line(t), " ab");
    task_output(t, "10 %\r20 %\r", 10);
    task_output(t, "30 %\r\nnext\r\n", 12);
    ck_assert_str_eq(task_line(t, 1), "30 %");
    ck_assert_str_eq(task_last_line(t), "next");
    tasks_done(tasks);
}
END_TEST

static void compose(const struct tasks *tasks, size_t width, size_t rows, const char *expected)
{
    struct live_block block = {0};
    OWN(text) struct text all = {0};

    live_compose(tasks, 1000, 66000, width, rows, &block);
    ck_assert_uint_le(block.lines.n, rows);
    for (size_t i = 0; i < block.lines.n; i++) {
        ck_assert_uint_le(term_width(block.lines.v[i]), width);
        text_addf(&all, "%s\n", block.lines.v[i]);
    }
    if (expected)
        ck_assert_str_eq(all.s ? all.s : "", expected);
    strv_done(block.lines);
}

static void say_lines(struct task *t, int n)
{
    for (int i = 0; i < n; i++) {
        char line[32];

        task_output(t, line, (size_t)snprintf(line, sizeof line, "line %d\n", i));
    }
}

START_TEST(test_live_one)
{
    struct tasks tasks = {0};
    struct task *t = tasks_get(&tasks, "db");

    compose(&tasks, 79, 23, "");
    task_begin(t, "install:01", "scripts/a.sh", 1000);
    task_output(t, "Setting up\n", 11);
    compose(&tasks, 79, 23, "| db  1m5s  install:01 scripts/a.sh  Setting up\n");
    say_lines(t, 9);
    compose(&tasks, 79, 4, "| db  1m5s  install:01 scripts/a.sh\n    | line 6\n    | line 7\n    | line 8\n");
    compose(&tasks, 20, 1, "| db  1m5s  install…\n");
    task_begin(t, "health", NULL, 60000);
    task_output(t, "tcp 53\ntcp 54\n", 14);
    compose(&tasks, 79, 23, "| db    6s  health  waits for tcp 54\n");
    task_output(t, "日本語日本語\n", 19);
    for (size_t width = 1; width < 60; width++)
        for (size_t rows = 0; rows < 4; rows++)
            compose(&tasks, width, rows, NULL);
    tasks_done(tasks);
}
END_TEST

/* What failed comes first, then what runs with its output, then what waits; what has no room is in the sum. */
START_TEST(test_live_many)
{
    struct tasks tasks = {0};
    char name[16];

    for (int i = 0; i < 40; i++) {
        struct task *t;

        snprintf(name, sizeof name, "web-%02d", i);
        t = tasks_get(&tasks, name);
        if (i < 10)
            task_rest(t, TASK_DONE, "", 2000);
        else if (i >= 30 && i < 38)
            task_begin(t, "boot", NULL, 66000);
        else if (i == 38)
            task_rest(t, TASK_WAITS, "waits for web-39", 1000);
        else if (i == 39)
            task_rest(t, TASK_FAILED, "scripts/a.sh: exit status 7", 1000);
    }
    compose(&tasks, 60, 6, "! web-39        scripts/a.sh: exit status 7\n| web-30    0s  boot\n| web-31    0s  boot\n"
                           "| web-32    0s  boot\n| web-33    0s  boot\n"
                           "10 of 40 done, 1 failed, 8 running, 21 waiting  1m5s\n");
    compose(&tasks, 60, 1, "10 of 40 done, 1 failed, 8 running, 21 waiting  1m5s\n");
    compose(&tasks, 30, 1, "10 of 40 done, 1 failed, 8 ru…\n");
    say_lines(tasks.v[37], 9);
    compose(&tasks, 60, 14, "! web-39        scripts/a.sh: exit status 7\n| web-30    0s  boot\n| web-31    0s  boot\n"
                            "| web-32    0s  boot\n| web-33    0s  boot\n| web-34    0s  boot\n| web-35    0s  boot\n"
                            "| web-36    0s  boot\n| web-37    0s  boot\n    | line 5\n    | line 6\n    | line 7\n"
                            "    | line 8\n10 of 40 done, 1 failed, 8 running, 21 waiting  1m5s\n");
    for (size_t i = 0; i < 40; i++)
        task_rest(tasks.v[i], TASK_FAILED, "x", 0);
    compose(&tasks, 60, 3, NULL);
    compose(&tasks, 60, 500, NULL);
    tasks_done(tasks);
}
END_TEST

START_TEST(test_live_rows)
{
    OWN(strv) struct strv drawn = {0};

    ck_assert_uint_eq(live_rows(&drawn, 80), 0);
    strv_add(&drawn, "0123456789");
    strv_add(&drawn, "");
    strv_add(&drawn, "日本");
    ck_assert_uint_eq(live_rows(&drawn, 80), 3);
    ck_assert_uint_eq(live_rows(&drawn, 10), 3);
    ck_assert_uint_eq(live_rows(&drawn, 9), 4); /* the terminal has become narrower */
    ck_assert_uint_eq(live_rows(&drawn, 3), 7);
}
END_TEST

/* --- the terminal in a guest's hands --- */

static void check_undo(const char *wrote, const char *expected)
{
    for (size_t piece = 1; piece <= strlen(wrote) + 1; piece++) {
        struct modes m = {0};
        OWN(text) struct text out = {0};

        for (size_t at = 0, n = strlen(wrote); at < n; at += piece)
            modes_see(&m, wrote + at, at + piece < n ? piece : n - at);
        modes_undo(&m, &out);
        ck_assert_str_eq(out.s ? out.s : "", expected);
    }
}

START_TEST(test_modes)
{
    check_undo("plain, no \033]0;title [?25l\007 and nothing \033[2J\033[10;5H\033[K", "");
    check_undo("\033[?1049h\033[?25l", "\033[?1049l\033[?25h");
    check_undo("\033[?1049h\033[?25lvim\033[?25h\033[?1049l", "");
    check_undo("\033[?1000;1006;2004hmouse", "\033[?1000l\033[?1006l\033[?2004l");
    check_undo("\033[?2004h$ \033[?2004l", "");
    check_undo("\033[1;31mred", "\033[0m");
    check_undo("\033[5;20r\033=\033(0\016", "\0337\033[r\0338\033>\033(B\017");
    check_undo("\033=\033>\033(0\033(B\016\017", "");
    check_undo("\033[>4;2m\033[>1u\033[3 q", "\033[>4m\033[<9u\033[0 q");
    check_undo("\033[?25l\033c", "");
    check_undo("\033[?00000000000000000000000000000000000000000000025l", "");
    check_undo("\033[?99999999999999999999h\033[?h\033[;h\033[h\033[ q\033[ \033[", "\033[0 q");
}
END_TEST

START_TEST(test_modes_any_bytes)
{
    struct modes m = {0};
    OWN(text) struct text out = {0};

    srand(7);
    for (int i = 0; i < 300000; i++) {
        static const char often[] = {'\033', '[', '?', ';', '2', '5', 'h', 'l', '\0', ' ', '('};
        char c = i % 3 ? often[(size_t)rand() % sizeof often] : (char)rand();

        modes_see(&m, &c, 1);
        ck_assert_uint_lt(m.n, MODES_SEQUENCE);
    }
    modes_undo(&m, &out);
    ck_assert(!out.failed);
}
END_TEST

START_TEST(test_detach)
{
    struct raw_detach d = {0};

    ck_assert(!raw_detaches(&d, "ls\x1d\x1d", 4, 0));
    ck_assert(!raw_detaches(&d, "x\x1d", 2, 10)); /* another key between */
    ck_assert(!raw_detaches(&d, "\x1d", 1, 500));
    ck_assert(!raw_detaches(&d, "\x1d", 1, 1100)); /* too late */
    ck_assert(!raw_detaches(&d, "\033[93;5u", 7, 1200));
    ck_assert(raw_detaches(&d, "\033[27;5;93~", 10, 2100));
}
END_TEST

START_TEST(test_plan_destroys)
{
    OWN(json) json_t *harmless = json_pack("{s:[{s:s,s:b}]}", "changes", "class", "restart", "destroys_data", 0);
    OWN(json) json_t *rebuild = json_pack("{s:[{s:s,s:b}]}", "changes", "class", "rebuild", "destroys_data", 1);
    OWN(json) json_t *removal = json_pack("{s:[{s:s,s:b}]}", "changes", "class", "remove", "destroys_data", 0);

    ck_assert(!plan_destroys(harmless));
    ck_assert(plan_destroys(rebuild));
    ck_assert(plan_destroys(removal));
    ck_assert(!plan_destroys(NULL));
}
END_TEST

/* --- answers --- */

static int keep(const char *p, size_t n, void *arg)
{
    text_add_bytes(arg, p, n);
    return 0;
}

static int refuse(const char *p, size_t n, void *arg)
{
    (void)p, (void)n, (void)arg;
    return -1;
}

/* How much of it was read, or -1; read in pieces of that length. */
static ssize_t answer_in(size_t piece, const char *s, struct text *body, struct answer *a)
{
    ssize_t all = 0, taken = 0;

    answer_begin(a, keep, body);
    for (size_t n = strlen(s), at = 0; at < n && taken >= 0; at += piece) {
        taken = answer_read(a, s + at, n - at < piece ? n - at : piece);
        all += taken;
    }
    return taken < 0 ? -1 : all;
}

START_TEST(test_answers)
{
    enum end { AT_ONCE, WITH_THE_CONNECTION, NEVER };
    static const struct { const char *answer, *body; int status; enum end end; size_t behind; } good[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "abc", 200, AT_ONCE, 1},
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", "abc", 200, NEVER, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, AT_ONCE, 0},
        {"HTTP/1.1 204 No Content\r\n\r\n", "", 204, AT_ONCE, 0},
        {"HTTP/1.1 200 OK\r\n\r\nabc", "abc", 200, WITH_THE_CONNECTION, 0},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\ncontent-length: 2\r\n\r\n{}", "{}", 404, AT_ONCE, 0},
        {"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: 1\r\n\r\nrest",
         "abc0123456789", 200, AT_ONCE, 4},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", "abc", 200, NEVER, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc", "abc", 200, NEVER, 0},
        {"HTTP/1.1 200 O", "", 0, NEVER, 0},
    };
    static const char *const bad[] = {
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 1011 x\r\n\r\n",
        "HTTP/1.1 400 x\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 400 x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3x\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    };
    struct text body = {0};
    struct answer a;

    for (size_t piece = 1; piece < 64; piece++) {
        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
            body.len = 0;
            text_add(&body, "");
            ck_assert_msg(answer_in(piece, good[i].answer, &body, &a) == (ssize_t)(strlen(good[i].answer) - good[i].behind),
                          "%s", good[i].answer);
            ck_assert_str_eq(body.s, good[i].body);
            ck_assert_int_eq(a.status, good[i].status);
            ck_assert_int_eq(a.ended, good[i].end == AT_ONCE);
            ck_assert_int_eq(answer_is_whole(&a), good[i].end != NEVER);
            ck_assert(!a.upgraded);
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
            ck_assert_msg(answer_in(piece, bad[i], &body, &a) == -1, "%s", bad[i]);
    }
    text_done(body);
}
END_TEST

START_TEST(test_answer_upgraded)
{
    static const char good[] = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nUPGRADE: vmsd-exec\r\n\r\nHTTP/1.1 500";
    struct text body = {0};
    struct answer a;

    for (size_t piece = 1; piece < sizeof good; piece++) {
        ck_assert_int_eq(answer_in(piece, good, &body, &a), (ssize_t)sizeof good - 13);
        ck_assert(a.ended && a.upgraded && body.len == 0);
    }
}
END_TEST

START_TEST(test_answer_bounds)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    struct answer a;
    ssize_t rc = 0;
    size_t all = 0;

    answer_begin(&a, refuse, NULL);
    ck_assert_int_gt(answer_read(&a, head, sizeof head - 1), 0);
    ck_assert_int_gt(answer_read(&a, "\r\n1\r\n", 5), 0);
    ck_assert_int_eq(answer_read(&a, "x", 1), -1); /* nobody wants the body */
    ck_assert(!answer_is_whole(&a));

    answer_begin(&a, refuse, NULL);
    ck_assert_int_gt(answer_read(&a, head, sizeof head - 1), 0);
    while (rc >= 0 && all < (1 << 20)) { /* a head without an end */
        rc = answer_read(&a, "X-Header: and so on\r\n", 21);
        all += 21;
    }
    ck_assert_int_eq(rc, -1);
}
END_TEST

static void *trickle(void *arg)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    int *listener = arg, fd = accept(*listener, NULL, NULL);

    for (ssize_t n = write(fd, head, sizeof head - 1); n > 0; n = send(fd, "x", 1, MSG_NOSIGNAL))
        sleep_ms(20);
    close(fd);
    return NULL;
}

START_TEST(test_a_limit_holds_for_the_whole_answer)
{
    char path[] = "/tmp/vmctl-XXXXXX/sock";
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct client c = {.socket = path};
    struct transfer t = {.method = "GET", .path = "/v1/guests", .limit_s = 1};
    int64_t began = now_ms();
    pthread_t thread;

    *strrchr(path, '/') = '\0';
    ck_assert_ptr_nonnull(mkdtemp(path));
    path[strlen(path)] = '/';
    strcpy(at.sun_path, path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, trickle, &fd), 0);
    ck_assert_int_eq(client_run(&c, &t, 1, NULL, NULL, NULL), 0);
    ck_assert(t.failed);
    ck_assert_int_eq(t.err.code, VM_E_TIMEOUT);
    ck_assert_int_ge(now_ms() - began, 1000);
    ck_assert_int_lt(now_ms() - began, 10000); /* of the 20 s that all of it takes */
    pthread_join(thread, NULL);
    close(fd);
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
}
END_TEST

START_TEST(test_client_error)
{
    static const char good[] = "{\"error\": {\"code\": \"conflict\", \"message\": \"db is busy: %n%s\"}}";
    struct vm_err e;

    client_error(409, good, sizeof good - 1, &e);
    ck_assert_int_eq(e.code, VM_E_CONFLICT);
    ck_assert_str_eq(e.text, "db is busy: %n%s");
    client_error(500, "<html>", 6, &e);
    ck_assert_int_eq(e.code, VM_E_BACKEND);
    client_error(500, NULL, 0, &e);
    ck_assert_ptr_nonnull(strstr(e.text, "500"));
}
END_TEST

START_TEST(test_client_paths)
{
    OWN(str) char *p = client_path("/v1/guests/", "a/../b?c", "/exec");
    OWN(text) struct text t = {0};
    OWN(strv) struct strv none = {0}, two = {0};

    ck_assert_str_eq(p, "/v1/guests/a%2F..%2Fb%3Fc/exec");
    text_add(&t, "/x");
    client_query_list(&t, "no", &none);
    client_query(&t, "a", "1&2");
    strv_add(&two, "tag:x");
    strv_add(&two, "d*");
    client_query_list(&t, "s", &two);
    ck_assert_str_eq(t.s, "/x?a=1%262&s=tag%3Ax&s=d%2A");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vmctl");
    TCase *c = tcase_create("parts");
    SRunner *r;
    int failed;

    term_init();
    tcase_add_test(c, test_cut);
    tcase_add_test(c, test_human);
    tcase_add_test(c, test_table_fits);
    tcase_add_test(c, test_table_never_wraps);
    tcase_add_test(c, test_table_colours);
    tcase_add_test(c, test_P1_table);
    tcase_add_test(c, test_parse);
    tcase_add_test(c, test_parse_refuses);
    tcase_add_test(c, test_tables_whole);
    tcase_add_test(c, test_records);
    tcase_add_test(c, test_records_bounds);
    tcase_add_test(c, test_P1_shown);
    tcase_add_test(c, test_tail);
    tcase_add_test(c, test_tail_bounds);
    tcase_add_test(c, test_live_one);
    tcase_add_test(c, test_live_many);
    tcase_add_test(c, test_modes);
    tcase_add_test(c, test_modes_any_bytes);
    tcase_add_test(c, test_detach);
    tcase_add_test(c, test_live_rows);
    tcase_add_test(c, test_plan_destroys);
    tcase_add_test(c, test_answer_upgraded);
    tcase_add_test(c, test_answers);
    tcase_add_test(c, test_answer_bounds);
    tcase_add_test(c, test_a_limit_holds_for_the_whole_answer);
    tcase_add_test(c, test_client_error);
    tcase_add_test(c, test_client_paths);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
