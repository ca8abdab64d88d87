/* vmsd: reads its options, opens its parts from the ground up, and turns. */
#include "alert.h"
#include "leave.h"
#include "measures.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>

static const char usage[] =
    "Usage: vmsd [OPTION…]\n"
    "Supervises the containers and microVMs that `vmctl apply` tells it of.\n\n"
    "  --socket PATH     API socket (default /run/vmsd/vmsd.sock, or $VMSD_SOCKET)\n"
    "  --state DIR       state directory (default /var/lib/vmsd)\n"
    "  --run DIR         runtime directory (default: where the socket is)\n"
    "  --images DIR      directory of image recipes; may repeat (default /etc/vmsd/images, /usr/share/vmsd/images,\n"
    "                    and images/ beside the program's source when it runs from a build directory)\n"
    "  --starter PATH    socket of vms-starter (default: one of its own, as a child)\n"
    "  --jobs N          guests that are worked on side by side (default: twice the CPUs, at least 4)\n"
    "  --debug           say more\n"
    "  --version, --help\n";

static int bad_option(const char *what)
{
    fprintf(stderr, "vmsd: %s; see vmsd --help\n", what);
    return 2;
}

/* The directory of our own program, for helpers that lie beside it. */
static char *program_dir(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    char *slash;

    if (n < 0)
        return NULL;
    path[n] = '\0';
    if ((slash = strrchr(path, '/')))
        *slash = '\0';
    return strdup(path);
}

static char *helper(const char *dir, const char *name)
{
    char *beside = text_format("%s/%s", dir, name);

    if (beside && access(beside, X_OK) == 0)
        return beside;
    free(beside);
    return text_format("%s/../lib/vmsd/%s", dir, name);
}

/* 0, 1 and 2 are open, and beyond them nothing but a socket that systemd gave. */
static int settle_fds(struct vm_err *e)
{
    int given = sd_listen_fds(0), fd = -1;

    while (fd < SD_LISTEN_FDS_START) /* what is open takes the lowest number that is not */
        if ((fd = open("/dev/null", O_RDWR)) < 0)
            return vm_fail_sys(e, "open /dev/null");
    close_range((unsigned)(SD_LISTEN_FDS_START + (given > 0 ? given : 0)), ~0u, 0);
    return 0;
}

/* What a burst of work took is given back after it. By itself glibc would keep an arena for every worker, and in each as
 * much free memory as twice the largest block that was ever freed. */
static void settle_memory(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
}

/* Nothing of the environment that we were started in reaches our files, children or memory dumps. */
static int settle_process(struct vm_err *e)
{
    struct rlimit files = {65536, 65536};

    if (settle_fds(e) < 0)
        return -1;
    umask(0022);
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    prctl(PR_SET_DUMPABLE, 0);
    unsetenv("LD_PRELOAD");
    unsetenv("LD_LIBRARY_PATH");
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    return 0;
}

enum { LOCK_MS = 2000 };

/* Held as long as we live: two daemons in one directory would both be right, and both wrong. */
static int lock_dir(const char *path, mode_t mode, int *out, struct vm_err *e)
{
    OWN(fd) int dir = path_mkdirs_host(path, mode, e);
    OWN(fd) int fd = dir < 0 ? -1 : path_open(dir, "lock", PATH_BENEATH, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, e);

    if (fd < 0)
        return -1;
    /* A vmsd that was just killed may have been about to exec a helper: until it does, the helper holds the lock too. */
    for (struct deadline d = deadline_in(LOCK_MS); flock(fd, LOCK_EX | LOCK_NB) < 0 && deadline_left(d);)
        sleep_ms(20);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return vm_fail(e, VM_E_CONFLICT, "another vmsd works on %s; end it first", path);
    *out = take_fd(&fd);
    return 0;
}

/* Everybody may come as far as the socket. What is made from then on is ours alone. */
static int lock_dirs(const struct options *o, int *run, int *state, struct vm_err *e)
{
    if (lock_dir(o->run_dir, 0755, run, e) < 0)
        return -1;
    umask(0077);
    return lock_dir(o->state_dir, 0700, state, e);
}

static int open_socket(const struct options *o, int *fd, struct vm_err *e)
{
    const struct group *g = getgrnam("vmsd");

    if (sd_listen_fds(1) == 1) {
        *fd = SD_LISTEN_FDS_START;
        return 0;
    }
    /* Everybody may knock: who may enter is decided by the peer's credentials. Without the group, root alone. */
    return http_listen(o->socket, g ? 0666 : 0600, g ? g->gr_gid : (gid_t)-1, fd, e);
}

static void on_signal(int sig, void *arg)
{
    struct world *w = arg;

    sd_notify(0, "STOPPING=1");
    if (!w->leaving && drv_host_ends() && leave(w))
        return;
    log_info(NULL, "signal %d: ending; guests go on", sig);
    w->stopping = true;
    loop_quit(w->loop);
}

static void on_watchdog(void *arg)
{
    struct world *w = arg;

    sd_notify(0, "WATCHDOG=1");
    loop_timer_set(w->watchdog, w->watchdog_ms, w->watchdog_ms / 4);
}

static int start_watchdog(struct world *w, struct vm_err *e)
{
    uint64_t usec = 0;

    if (sd_watchdog_enabled(0, &usec) <= 0)
        return 0;
    w->watchdog_ms = (int64_t)(usec / 3000);
    if (loop_timer_new(w->loop, on_watchdog, w, &w->watchdog, e) < 0)
        return -1;
    on_watchdog(w);
    return 0;
}

static int open_parts(struct world *w, const struct options *o, struct vm_err *e)
{
    OWN(fd) int run = path_mkdirs_host(o->run_dir, 0755, e);
    OWN(fd) int guests = run < 0 ? -1 : path_mkdirs(run, "guests", 0700, e);
    OWN(fd) int listener = -1;
    struct sysinfo si;

    if (guests < 0 || drivers_init(o->keeper, e) < 0)
        return -1;
    if (sysinfo(&si) == 0)
        w->host_memory = (uint64_t)si.totalram * si.mem_unit;
    w->upstream = names_upstream();
    survey_open(w);
    if (store_open(o->state_dir, &w->store, e) < 0 || image_store_open(o->state_dir, &o->recipes, &w->images, e) < 0 ||
        image_store_set_unpacker(w->images, o->unpacker, e) < 0 ||
        image_store_set_boot(w->images, o->init, o->agent, e) < 0 ||
        events_open(w, e) < 0 || netsync_open(w, e) < 0 || net_relay_open(w->loop, &w->relay, e) < 0 ||
        usage_open(w, e) < 0 || measures_open(w, e) < 0 || open_socket(o, &listener, e) < 0)
        return -1;
    if (loop_signal(w->loop, SIGTERM, on_signal, w, e) < 0 || loop_signal(w->loop, SIGINT, on_signal, w, e) < 0)
        return -1;
    if (recover(w, e) < 0 || alerts_open(w, e) < 0)
        return -1;
    return api_open(w, take_fd(&listener), e) < 0 ? -1 : start_watchdog(w, e);
}

/* What still runs on a worker (an image build, say) is cut off then, as by a crash, which everything stands. */
enum { END_SECONDS = 5 };

static void cut_off(int sig)
{
    (void)sig;
    _exit(0);
}

static void close_parts(struct world *w, struct loop *l)
{
    w->stopping = true;
    signal(SIGALRM, cut_off);
    alarm(END_SECONDS);
    http_server_free(w->http);
    for (size_t i = 0; i < w->n_guests; i++) { /* jobs that wait for an agent are let go before the workers are joined */
        guest_drop_agent(w->guests[i], "vmsd is ending");
    }
    loop_drain(l);
    loop_timer_free(w->watchdog);
    loop_timer_free(w->leaving);
    netsync_close(w);
    net_relay_close(w->relay);
    alerts_close(w);
    usage_close(w);
    measures_close(w);
    events_close(w);
    world_close(w);
    loop_close(l);
}

static int serve(const struct options *o, struct vm_err *e)
{
    OWN(fd) int run_lock = -1, state_lock = -1;
    struct loop *l = NULL;
    struct world *w = NULL;
    int rc;

    settle_memory();
    if (settle_process(e) < 0 || lock_dirs(o, &run_lock, &state_lock, e) < 0 || loop_open(2 * o->jobs + 24, &l, e) < 0)
        return -1;
    if (world_open(o, l, &w, e) < 0) {
        loop_close(l);
        return -1;
    }
    rc = open_parts(w, o, e);
    if (rc == 0) {
        log_info(NULL, "vmsd %s: %zu guests, at %s", VMSD_VERSION, w->n_guests, o->socket);
        sd_notifyf(0, "READY=1\nSTATUS=%zu guests", w->n_guests);
        rc = loop_run(l, e);
    }
    close_parts(w, l);
    return rc;
}

static void default_recipes(struct options *o, const char *dir)
{
    OWN(str) char *source = text_format("%s/../images", dir);

    strv_add(&o->recipes, "/etc/vmsd/images");
    strv_addf(&o->recipes, "%s/../share/vmsd/images", dir);
    if (source && access(source, R_OK) == 0)
        strv_add(&o->recipes, source);
}

static const struct option options[] = {
    {"socket", required_argument, NULL, 's'}, {"state", required_argument, NULL, 'S'},
    {"run", required_argument, NULL, 'r'},    {"images", required_argument, NULL, 'i'},
    {"starter", required_argument, NULL, 'x'},
    {"jobs", required_argument, NULL, 'j'},   {"debug", no_argument, NULL, 'd'},
    {"version", no_argument, NULL, 'V'},      {"help", no_argument, NULL, 'h'},
    {0},
};

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *o)
{
    bool absolute;
    uint64_t n;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 's': o->socket = optarg; break;
        case 'S': o->state_dir = optarg; break;
        case 'r': o->run_dir = optarg; break;
        case 'i': strv_add(&o->recipes, optarg); break;
        case 'x': o->starter = optarg; break;
        case 'd': log_set_level(LOG_DEBUG); break;
        case 'j':
            if (!text_to_u64(optarg, &n) || n < 1 || n > 64)
                return bad_option("--jobs: expected a number from 1 to 64");
            o->jobs = (unsigned)n;
            break;
        case 'V': puts("vmsd " VMSD_VERSION); return 0;
        case 'h': fputs(usage, stdout); return 0;
        default: return 2;
        }
    }
    if (optind < argc)
        return bad_option("it takes no arguments");
    absolute = o->socket[0] == '/' && o->state_dir[0] == '/' && (!o->run_dir || o->run_dir[0] == '/') &&
               (!o->starter || o->starter[0] == '/');
    for (size_t i = 0; i < o->recipes.n; i++)
        absolute &= o->recipes.v[i][0] == '/';
    return absolute ? -1 : bad_option("paths must be absolute");
}

int main(int argc, char **argv)
{
    OWN(str) char *dir = program_dir(), *agent = NULL, *keeper = NULL, *unpacker = NULL, *init = NULL, *run = NULL,
        *starter = NULL;
    const char *env = getenv("VMSD_SOCKET");
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct options o = {
        .socket = env && *env ? env : "/run/vmsd/vmsd.sock",
        .state_dir = "/var/lib/vmsd",
        .jobs = cpus > 2 ? (unsigned)cpus * 2 : 4,
    };
    struct vm_err e = {0};
    int rc = parse(argc, argv, &o);

    if (rc >= 0) {
        strv_done(o.recipes);
        return rc;
    }
    agent = dir ? helper(dir, "vms-agent") : NULL;
    keeper = dir ? helper(dir, "vms-keeper") : NULL;
    unpacker = dir ? helper(dir, "vms-unpack") : NULL;
    starter = dir ? helper(dir, "vms-starter") : NULL;
    init = dir ? helper(dir, "vms-init") : NULL; /* looked for when the first microVM is made */
    run = strndup(o.socket, (size_t)(strrchr(o.socket, '/') - o.socket));
    if (!agent || !keeper || !unpacker || !init || !run || !starter)
        return bad_option("no memory");
    if (!o.run_dir)
        o.run_dir = run;
    if (!o.recipes.n)
        default_recipes(&o, dir);
    o.agent = agent;
    o.keeper = keeper;
    o.unpacker = unpacker;
    o.init = init;
    starter_place((struct starter_place){.socket = o.starter, .argv = (char *const[]){
        starter, "--keeper", keeper, "--agent", agent, "--unpack", unpacker, NULL}});
    rc = serve(&o, &e);
    if (rc < 0)
        log_error(NULL, "vmsd: %s", e.text);
    strv_done(o.recipes);
    return rc < 0 ? 1 : 0;
}
