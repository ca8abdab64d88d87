#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/loop.h>

static struct loop *loop;
static char story[256]; /* what happened, one letter per event */

static void tell(char c)
{
    size_t n = strlen(story);
    ck_assert_uint_lt(n, sizeof(story) - 1);
    story[n] = c;
    story[n + 1] = '\0';
}

static void set_up(void)
{
    struct vm_err e;
    story[0] = '\0';
    ck_assert_msg(loop_open(4, &loop, &e) == 0, "%s", e.text);
}

static void tear_down(void)
{
    loop_close(loop);
}

static void run(void)
{
    struct vm_err e;
    ck_assert_msg(loop_run(loop, &e) == 0, "%s", e.text);
}

static void quit(void *arg)
{
    (void)arg;
    loop_quit(loop);
}

static void tell_arg(void *arg)
{
    tell(*(const char *)arg);
}

/* ---- timers ---- */

static struct loop_timer *timer(void (*fn)(void *), void *arg)
{
    struct loop_timer *t = NULL;
    struct vm_err e;
    ck_assert_msg(loop_timer_new(loop, fn, arg, &t, &e) == 0, "%s", e.text);
    return t;
}

START_TEST(test_timers_fire_in_order_and_once)
{
    struct loop_timer *c = timer(tell_arg, "c"), *a = timer(tell_arg, "a"), *b = timer(tell_arg, "b");
    struct loop_timer *never = timer(tell_arg, "x"), *end = timer(quit, NULL);
    loop_timer_set(c, 60, 0);
    loop_timer_set(a, 20, 0);
    loop_timer_set(b, 40, 0);
    loop_timer_set(never, 30, 0);
    loop_timer_stop(never);
    loop_timer_set(end, 100, 0);
    run();
    ck_assert_str_eq(story, "abc");
    loop_timer_free(a);
    loop_timer_free(b);
    loop_timer_free(c);
    loop_timer_free(never);
    loop_timer_free(end);
}
END_TEST

START_TEST(test_timer_is_never_early_nor_much_late)
{
    struct loop_timer *end = timer(quit, NULL);
    for (int64_t ms = 0; ms <= 30; ms += 10) {
        int64_t before = now_ms();
        loop_timer_set(end, ms, 0);
        run();
        int64_t took = now_ms() - before;
        ck_assert_int_ge(took, ms);
        ck_assert_int_le(took, ms + 100); /* sd-event's default accuracy would add up to 250 */
    }
    loop_timer_free(end);
}
END_TEST

static struct loop_timer *own_timer;
static void free_own_timer(void *arg)
{
    tell_arg(arg);
    loop_timer_free(own_timer);
    loop_quit(loop);
}
static void set_again(void *arg)
{
    tell_arg(arg);
    if (strlen(story) < 3)
        loop_timer_set(own_timer, 1, 0);
    else
        free_own_timer(arg);
}

START_TEST(test_timer_sets_itself_again_and_frees_itself)
{
    own_timer = timer(set_again, "t");
    loop_timer_set(own_timer, 0, 0);
    run();
    ck_assert_str_eq(story, "tttt");
}
END_TEST

/* ---- watches ---- */

static struct loop_watch *own_watch, *other_watch;
static void free_both_watches(int fd, uint32_t revents, void *arg)
{
    (void)fd;
    ck_assert(revents & EPOLLIN);
    tell_arg(arg);
    loop_watch_free(own_watch);
    loop_watch_free(other_watch);
    loop_post(loop, quit, NULL);
}

START_TEST(test_watch_freed_by_itself_or_by_another_is_silent)
{
    struct vm_err e;
    int a[2], b[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    ck_assert_int_eq(loop_watch_new(loop, a[0], EPOLLIN, free_both_watches, "w", &own_watch, &e), 0);
    ck_assert_int_eq(loop_watch_new(loop, b[0], EPOLLIN, free_both_watches, "w", &other_watch, &e), 0);
    ck_assert_int_eq(write(a[1], "x", 1), 1);
    ck_assert_int_eq(write(b[1], "x", 1), 1); /* both are ready in the same round */
    run();
    ck_assert_str_eq(story, "w");
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}
END_TEST

START_TEST(test_watch_of_a_bad_fd_is_an_error)
{
    struct vm_err e;
    struct loop_watch *w = NULL;
    ck_assert_int_eq(loop_watch_new(loop, -1, EPOLLIN, free_both_watches, NULL, &w, &e), -1);
    ck_assert_int_eq(e.sys, EBADF);
    ck_assert_ptr_null(w);
}
END_TEST

static void tell_signal(int sig, void *arg)
{
    ck_assert_int_eq(sig, SIGHUP);
    tell_arg(arg);
    loop_quit(loop);
}

START_TEST(test_signal_arrives_on_the_loop)
{
    struct vm_err e;
    ck_assert_int_eq(loop_signal(loop, SIGHUP, tell_signal, "s", &e), 0);
    raise(SIGHUP);
    run();
    ck_assert_str_eq(story, "s");
    ck_assert_int_eq(loop_signal(loop, SIGHUP, tell_signal, "s", &e), -1); /* taken already */
}
END_TEST

/* ---- posts ---- */

enum { POSTERS = 4, POSTS = 10000 };
static unsigned next_of[POSTERS], arrived;

static void post_arrived(void *arg)
{
    unsigned n = (unsigned)(uintptr_t)arg;
    ck_assert(loop_is_here(loop));
    ck_assert_uint_eq(n % POSTS, next_of[n / POSTS]);
    next_of[n / POSTS]++;
    if (++arrived == POSTERS * POSTS)
        loop_quit(loop);
}

static void *poster(void *arg)
{
    ck_assert(!loop_is_here(loop));
    for (uintptr_t i = 0; i < POSTS; i++)
        loop_post(loop, post_arrived, (void *)((uintptr_t)arg * POSTS + i));
    return NULL;
}

START_TEST(test_posts_of_each_thread_keep_their_order)
{
    pthread_t threads[POSTERS];
    for (uintptr_t i = 0; i < POSTERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
    run();
    for (unsigned i = 0; i < POSTERS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(next_of[i], POSTS);
    }
}
END_TEST

static void post_forever(void *arg)
{
    if (!*(bool *)arg)
        loop_post(loop, post_forever, arg);
    else
        loop_quit(loop);
}
static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

START_TEST(test_a_post_that_posts_itself_starves_nobody)
{
    bool enough = false;
    struct loop_timer *t = timer(set_flag, &enough);
    loop_timer_set(t, 5, 0);
    loop_post(loop, post_forever, &enough);
    run();
    loop_timer_free(t);
}
END_TEST

/* ---- jobs ---- */

struct work {
    atomic_int *running, *most;
    int64_t ms;
    bool ran_on_worker, done, cancelled;
};
static unsigned jobs_left;

static void work_run(void *arg)
{
    struct work *w = arg;
    w->ran_on_worker = !loop_is_here(loop);
    int now = atomic_fetch_add(w->running, 1) + 1;
    for (int most = atomic_load(w->most); now > most && !atomic_compare_exchange_weak(w->most, &most, now);)
        ;
    sleep_ms(w->ms);
    atomic_fetch_sub(w->running, 1);
}

static void work_done(void *arg, bool cancelled)
{
    struct work *w = arg;
    ck_assert(loop_is_here(loop));
    ck_assert(!w->done);
    w->done = true;
    w->cancelled = cancelled;
    if (--jobs_left == 0)
        loop_quit(loop);
}

static void start_work(struct work *w)
{
    struct vm_err e;
    jobs_left++;
    ck_assert_int_eq(loop_work(loop, (struct loop_job){ work_run, work_done, w }, &e), 0);
}

START_TEST(test_jobs_run_on_workers_up_to_the_bound)
{
    atomic_int running = 0, most = 0;
    struct work works[16];
    for (unsigned i = 0; i < ARRAY_LEN(works); i++) {
        works[i] = (struct work){ .running = &running, .most = &most, .ms = 20 };
        start_work(&works[i]);
    }
    run();
    ck_assert_int_eq(atomic_load(&most), 4);
    for (unsigned i = 0; i < ARRAY_LEN(works); i++)
        ck_assert(works[i].ran_on_worker && works[i].done && !works[i].cancelled);
}
END_TEST

static void look_at_signals(void *arg)
{
    pthread_sigmask(SIG_SETMASK, NULL, arg);
}
static void looked(void *arg, bool cancelled)
{
    (void)arg, (void)cancelled;
    loop_quit(loop);
}

START_TEST(test_workers_block_all_signals)
{
    sigset_t theirs, ours;
    struct vm_err e;
    ck_assert_int_eq(loop_work(loop, (struct loop_job){ look_at_signals, looked, &theirs }, &e), 0);
    run();
    pthread_sigmask(SIG_SETMASK, NULL, &ours);
    for (int sig = 1; sig < 32; sig++) {
        ck_assert(sig == SIGKILL || sig == SIGSTOP || sigismember(&theirs, sig));
        ck_assert(!sigismember(&ours, sig));
    }
}
END_TEST

START_TEST(test_close_waits_for_running_jobs_and_cancels_the_others)
{
    atomic_int running = 0, most = 0;
    struct work works[8];
    for (unsigned i = 0; i < ARRAY_LEN(works); i++) {
        works[i] = (struct work){ .running = &running, .most = &most, .ms = 100 };
        start_work(&works[i]);
    }
    while (atomic_load(&running) < 4)
        sleep_ms(1);
    loop_close(loop);
    unsigned ran = 0;
    for (unsigned i = 0; i < ARRAY_LEN(works); i++) {
        ck_assert(works[i].done);
        ck_assert(works[i].cancelled == !works[i].ran_on_worker);
        ran += works[i].ran_on_worker;
    }
    ck_assert_uint_eq(ran, 4);
    set_up();
}
END_TEST

static void call_back(void *arg)
{
    ck_assert(loop_is_here(loop));
    tell_arg(arg);
}
static atomic_bool calling;
static void call_the_loop(void *arg)
{
    atomic_store(&calling, true);
    loop_call(loop, call_back, "1");
    ck_assert_str_eq(story, "1"); /* it has run when loop_call is back */
    loop_call(loop, call_back, "2");
    *(bool *)arg = true;
}
static void called_done(void *arg, bool cancelled)
{
    ck_assert(!cancelled);
    ck_assert(*(bool *)arg);
    tell('d');
    loop_quit(loop);
}

START_TEST(test_call_waits_for_the_loop)
{
    struct vm_err e;
    bool called = false;
    atomic_store(&calling, false);
    ck_assert_int_eq(loop_work(loop, (struct loop_job){ call_the_loop, called_done, &called }, &e), 0);
    if (_i == 0) {
        run();
        ck_assert_str_eq(story, "12d");
        return;
    }
    while (!atomic_load(&calling))
        sleep_ms(1);
    loop_close(loop); /* a job may sit in loop_call when the loop closes */
    ck_assert_str_eq(story, "12d");
    set_up();
}
END_TEST

static void refuse_more(void *arg, bool cancelled)
{
    struct vm_err e;
    (void)arg, (void)cancelled;
    ck_assert_int_eq(loop_work(loop, (struct loop_job){ quit, refuse_more, NULL }, &e), -1);
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
    tell('r');
}
static void nothing(void *arg)
{
    (void)arg;
}

START_TEST(test_no_new_job_while_closing)
{
    struct vm_err e;
    ck_assert_int_eq(loop_work(loop, (struct loop_job){ nothing, refuse_more, NULL }, &e), 0);
    loop_close(loop);
    ck_assert_str_eq(story, "r");
    set_up();
}
END_TEST

START_TEST(test_posts_between_drain_and_close_still_run)
{
    loop_drain(loop);
    loop_post(loop, tell_arg, "p");
    loop_close(loop);
    ck_assert_str_eq(story, "p");
    set_up();
}
END_TEST

START_TEST(test_number_of_workers_is_bounded)
{
    struct loop *l = NULL;
    struct vm_err e;
    ck_assert_int_eq(loop_open(0, &l, &e), -1);
    ck_assert_int_eq(loop_open(1025, &l, &e), -1);
    ck_assert_str_eq(e.text, "1025 workers is outside 1..1024");
    ck_assert_int_eq(loop_open(1024, &l, &e), 0);
    loop_close(l);
}
END_TEST

static void wait_700_ms(void *arg)
{
    usleep(700000);
    quit(arg);
}

static void count_for_600_ms(void *arg)
{
    struct timespec cpu;
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    while (cpu.tv_sec * 1000 + cpu.tv_nsec / 1000000 < 600);
    quit(arg);
}

static void wait_100_ms(void *arg)
{
    usleep(100000);
    quit(arg);
}

START_TEST(test_a_call_back_that_holds_up_the_loop_is_told)
{
    static void (*const fns[])(void *) = { wait_700_ms, count_for_600_ms, wait_100_ms };
    char said[400] = "";
    int log = memfd_create("log", 0);
    ck_assert_int_eq(dup2(log, STDERR_FILENO), STDERR_FILENO);
    loop_post(loop, fns[_i], loop);
    run();
    ck_assert_int_ge(pread(log, said, sizeof said - 1, 0), 0);
    if (_i < 2)
        ck_assert_ptr_nonnull(strstr(said, "the loop was blocked for "));
    else
        ck_assert_str_eq(said, "");
    close(log);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loop");
    TCase *t = tcase_create("loop");
    tcase_set_timeout(t, 30); /* on a busy machine 600 ms of CPU take their time */
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_timers_fire_in_order_and_once);
    tcase_add_test(t, test_timer_is_never_early_nor_much_late);
    tcase_add_test(t, test_timer_sets_itself_again_and_frees_itself);
    tcase_add_test(t, test_watch_freed_by_itself_or_by_another_is_silent);
    tcase_add_test(t, test_watch_of_a_bad_fd_is_an_error);
    tcase_add_test(t, test_signal_arrives_on_the_loop);
    tcase_add_test(t, test_posts_of_each_thread_keep_their_order);
    tcase_add_test(t, test_a_post_that_posts_itself_starves_nobody);
    tcase_add_test(t, test_jobs_run_on_workers_up_to_the_bound);
    tcase_add_test(t, test_workers_block_all_signals);
    tcase_add_test(t, test_close_waits_for_running_jobs_and_cancels_the_others);
    tcase_add_loop_test(t, test_call_waits_for_the_loop, 0, 2);
    tcase_add_test(t, test_no_new_job_while_closing);
    tcase_add_test(t, test_posts_between_drain_and_close_still_run);
    tcase_add_test(t, test_number_of_workers_is_bounded);
    tcase_add_loop_test(t, test_a_call_back_that_holds_up_the_loop_is_told, 0, 3);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
