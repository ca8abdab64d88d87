/* A stand-in for cloud-hypervisor: speaks its HTTP on fd 3 and its events on fd 4, as a VMM in vms-keeper's care, and does
 * what /kernel tells, line by line:
 *
 *   on CALL sleep MS | die STATUS | fault N | hang | torn | endless | nonsense | status N TEXT | say TEXT
 *   on CALL event SOURCE NAME [DETAIL] | garbage | flood
 *   on CALL look          tells on the console what it can see of the host
 *   on CALL link PATH     makes its vsock a link to PATH
 *
 * CALL: "vm.boot", …, "start", or "agent", when somebody asks for the agent's port, whose agent sends back what it gets.
 * A line counts before the call is answered; what it says of the answer replaces that. Requests and answers are told on the
 * console, for those who check them: "REQ GET vm.info", "BODY {…}", "ANS 200 {…}", "FD n". Static: its root has nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { API = 3, EVENTS = 4, CONNS = 8, TEXT_MAX = 64 << 10, SHARES = 8 };

struct conn { int fd, passed; size_t n; char buf[TEXT_MAX]; };

static struct {
    char script[TEXT_MAX], config[TEXT_MAX];
    struct conn conns[CONNS];
    int vsock, agent, shares[SHARES];
    unsigned cpus;
    unsigned long long hotplugged;
    bool created, booted;
} vmm = {.vsock = -1, .agent = -1, .cpus = 1};

static void put(int fd, const char *s, size_t n)
{
    while (n) {
        ssize_t did = write(fd, s, n);

        if (did < 0 && errno != EAGAIN && errno != EINTR)
            return;
        if (did > 0)
            s += did, n -= (size_t)did;
    }
}

__attribute__((format(printf, 2, 3))) static void say(int fd, const char *fmt, ...)
{
    static char text[TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void event(const char *source, const char *name, const char *detail)
{
    say(EVENTS, "{\n  \"timestamp\": {\n    \"secs\": 1,\n    \"nanos\": 2\n  },\n  \"source\": \"%s\",\n  \"event\": \"%s\",\n", source,
        name);
    if (detail && *detail)
        say(EVENTS, "  \"properties\": {\n    \"event\": \"%s\"\n  }\n}\n\n", detail);
    else
        say(EVENTS, "  \"properties\": null\n}\n\n");
}

static void end(void)
{
    event("vm", "shutdown", NULL);
    event("vm", "deleted", NULL);
    event("vmm", "shutdown", NULL);
    exit(0);
}

/* ---- what it can see ---- */

static void list(const char *path)
{
    DIR *d = opendir(path);

    say(1, "SEE %s:", path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            say(1, " %s", e->d_name);
    say(1, "%s\n", d ? "" : " nothing");
    if (d)
        closedir(d);
}

static void look(void)
{
    static const char *const files[] = {"/etc/passwd", "/proc/self/status", "/dev/mem", "/root", "/var/tmp", "/sys"};
    struct stat st;
    int n = 0;

    list("/");
    list("/dev");
    list("/run");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        say(1, "SEE %s %s\n", files[i], stat(files[i], &st) < 0 ? "absent" : "there");
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    say(1, "SEE fds %d uid %d pid %d write %d\n", n, getuid(), getpid(), open("/new", O_CREAT | O_WRONLY, 0600) >= 0);
    say(1, "SEE socket %d\n", socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

/* ---- the script ---- */

struct answer { int status; const char *body; bool torn, endless; };

static void act(const char *what, const char *arg, struct answer *a)
{
    static const char garbage[] = "{\"source\": \"vm\", \"event\": \"rebo\0oting\" {{{{{{{{{{{{\"\\\\\"\n{\"source\": \"vm\", \"eve\n";
    char source[64], name[64], detail[64] = "";
    int n = atoi(arg);

    if (!strcmp(what, "sleep"))
        nanosleep(&(struct timespec){n / 1000, n % 1000 * 1000000L}, NULL);
    else if (!strcmp(what, "die")) {
        say(2, "Error booting VM: the double was told to die\n");
        _exit(n);
    } else if (!strcmp(what, "fault")) {
        *(volatile int *)(intptr_t)n = n; /* the first process of a namespace takes no signal from itself, but a fault */
    } else if (!strcmp(what, "hang"))
        for (;;)
            pause();
    else if (!strcmp(what, "torn"))
        a->torn = true;
    else if (!strcmp(what, "endless"))
        a->endless = true;
    else if (!strcmp(what, "nonsense"))
        *a = (struct answer){.status = 200, .body = "{\"state\": nonsense"};
    else if (!strcmp(what, "status"))
        *a = (struct answer){.status = n, .body = strchr(arg, ' ') ? strchr(arg, ' ') + 1 : ""};
    else if (!strcmp(what, "say"))
        say(1, "%s\n", arg);
    else if (!strcmp(what, "event") && sscanf(arg, "%63s %63s %63s", source, name, detail) >= 2)
        event(source, name, detail);
    else if (!strcmp(what, "garbage"))
        put(EVENTS, garbage, sizeof garbage - 1);
    else if (!strcmp(what, "flood"))
        for (int i = 0; i < n; i++)
            event("virtio-device", "activated", "a-word-that-is-longer-than-anybody-would-think");
    else if (!strcmp(what, "look"))
        look();
    else if (!strcmp(what, "link")) {
        unlink("/run/vsock");
        if (symlink(arg, "/run/vsock") < 0)
            say(1, "link: %s\n", strerror(errno));
    }
}

static void script_run(const char *call, struct answer *a)
{
    static char copy[TEXT_MAX], args[TEXT_MAX]; /* what an answer says stays until the next call */
    char *rest = copy, *line;
    size_t used = 0;

    memcpy(copy, vmm.script, sizeof copy);
    while ((line = strsep(&rest, "\n"))) {
        char on[32], what[32];
        int at = 0;

        if (sscanf(line, "on %31s %31s %n", on, what, &at) < 2 || strcmp(on, call))
            continue;
        snprintf(args + used, sizeof args - used, "%s", at ? line + at : "");
        act(what, args + used, a);
        used += strlen(args + used) + 1;
    }
}

/* ---- what a VMM does ---- */

static int listen_on(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    return bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 8) < 0 ? -1 : fd;
}

/* Connects to each share's virtiofsd, as the one client that it takes. */
static bool shares_connect(void)
{
    int n = 0;

    for (const char *at = vmm.config; (at = strstr(at, "\"/run/share")) && n < SHARES; at++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};

        sscanf(at, "\"%100[^\"]", a.sun_path);
        vmm.shares[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(vmm.shares[n++], (struct sockaddr *)&a, sizeof a) < 0)
            return false;
    }
    return true;
}

static unsigned long long number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void info(char *out, size_t size)
{
    snprintf(out, size,
             "{\"config\":{\"payload\":{\"kernel\":\"/kernel\"},\"cpus\":{\"boot_vcpus\":%u,\"max_vcpus\":%llu},"
             "\"memory\":{\"size\":%llu,\"hotplug_size\":%llu,\"hotplugged_size\":%llu,\"hotplug_method\":\"VirtioMem\"}},"
             "\"state\":\"%s\",\"memory_actual_size\":1}",
             vmm.cpus, number_after(vmm.config, "\"max_vcpus\":"), number_after(vmm.config, "\"size\":"),
             number_after(vmm.config, "\"hotplug_size\":"), vmm.hotplugged, vmm.booted ? "Running" : "Created");
}

static void serve(const char *call, const char *body, int passed, struct answer *a)
{
    static char text[4096];

    *a = (struct answer){.status = 204};
    if (!strcmp(call, "vm.create")) {
        snprintf(vmm.config, sizeof vmm.config, "%s", body);
        const char *memory = strstr(body, "\"memory\":");
        if (memory)
            memmove(vmm.config, vmm.config + (memory - body), strlen(memory) + 1);
        /* What comes before is looked at as well: max_vcpus and the shares. */
        strncat(vmm.config, body, sizeof vmm.config - strlen(vmm.config) - 1);
        vmm.cpus = (unsigned)number_after(body, "\"boot_vcpus\":");
        vmm.created = true;
    } else if (!strcmp(call, "vm.add-net") && passed < 0)
        *a = (struct answer){500, "[\"Error from API\",\"no file descriptor came with it\"]", false, false};
    else if (!strcmp(call, "vm.boot") && !vmm.created)
        *a = (struct answer){404, "[\"Error from API\",\"The VM is not created\"]", false, false};
    else if (!strcmp(call, "vm.boot")) {
        event("vm", "booting", NULL);
        vmm.vsock = listen_on("/run/vsock");
        if (!shares_connect())
            *a = (struct answer){500, "[\"Error from API\",\"The VM could not boot\",\"vhost-user: connection refused\"]", false, false};
        else
            event("vm", "booted", NULL), vmm.booted = true;
    } else if (!strcmp(call, "vm.resize")) {
        unsigned long long ram = number_after(body, "\"desired_ram\":"), cpus = number_after(body, "\"desired_vcpus\":");

        vmm.cpus = cpus ? (unsigned)cpus : vmm.cpus;
        vmm.hotplugged = ram ? ram - number_after(vmm.config, "\"size\":") : vmm.hotplugged;
    } else if (!strcmp(call, "vm.info")) {
        info(text, sizeof text);
        *a = (struct answer){200, text, false, false};
    } else if (!strcmp(call, "vm.counters"))
        *a = (struct answer){200, "{\"root\":{\"read_bytes\":4096,\"write_bytes\":512,\"read_latency_min\":18446744073709551615},"
                                  "\"image\":{\"read_bytes\":100,\"write_bytes\":0}}", false, false};
}

static void reply(struct conn *c, const struct answer *a)
{
    size_t n = a->body ? strlen(a->body) : 0;

    say(1, "ANS %d %s\n", a->status, n ? a->body : "");
    if (a->torn)
        say(c->fd, "HTTP/1.1 20");
    else if (a->endless) {
        say(c->fd, "HTTP/1.1 200 \r\nContent-Length: 1000000000\r\n\r\n");
        for (int i = 0; i < 64; i++)
            say(c->fd, "%65000s", "");
    } else if (n)
        say(c->fd, "HTTP/1.1 %d \r\nServer: double\r\nConnection: keep-alive\r\nContent-Length: %zu\r\n\r\n%s", a->status, n, a->body);
    else
        say(c->fd, "HTTP/1.1 %d \r\nServer: double\r\nConnection: keep-alive\r\n\r\n", a->status);
}

static void conn_close(struct conn *c)
{
    close(c->fd);
    if (c->passed >= 0)
        close(c->passed);
    *c = (struct conn){.fd = -1, .passed = -1};
}

/* True when a whole request was there, and has been served. */
static bool request(struct conn *c)
{
    char method[16], call[64] = "", *head = memmem(c->buf, c->n, "\r\n\r\n", 4), *length;
    struct answer a;
    size_t body;

    if (!head)
        return false;
    length = strcasestr(c->buf, "\r\nContent-Length:");
    body = length && length < head ? strtoul(length + 17, NULL, 10) : 0;
    if (c->n < (size_t)(head + 4 - c->buf) + body)
        return false;
    c->buf[c->n] = '\0';
    sscanf(c->buf, "%15s /api/v1/%63s", method, call);
    say(1, "REQ %s %s\n", method, call);
    if (body)
        say(1, "BODY %s\n", head + 4);
    if (c->passed >= 0)
        say(1, "FD %d\n", c->passed);
    serve(call, head + 4, c->passed, &a);
    script_run(call, &a);
    reply(c, &a);
    if (!strcmp(call, "vm.power-button") && a.status == 204)
        end();
    c->n = 0;
    return !a.torn && !a.endless;
}

static void conn_read(struct conn *c)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct iovec iov = {c->buf + c->n, sizeof c->buf - 1 - c->n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (n <= 0) {
        conn_close(c);
        return;
    }
    if (h && h->cmsg_type == SCM_RIGHTS)
        memcpy(&c->passed, CMSG_DATA(h), sizeof c->passed);
    c->n += (size_t)n;
    c->buf[c->n] = '\0';
    if (strstr(c->buf, "\r\n\r\n") && !request(c) && !c->n)
        conn_close(c);
}

/* The agent sends back what it gets. */
static void agent_serve(void)
{
    struct answer a = {0};
    char line[32];
    int fd = accept(vmm.vsock, NULL, NULL);
    ssize_t n = read(fd, line, sizeof line - 1);

    line[n > 0 ? n : 0] = '\0';
    script_run("agent", &a);
    if (strcmp(line, "CONNECT 1024\n") || a.status) {
        close(fd);
        return;
    }
    say(fd, "OK 1073741824\n");
    if (vmm.agent >= 0)
        close(vmm.agent);
    vmm.agent = fd;
}

static void agent_echo(void)
{
    char text[4096];
    ssize_t n = read(vmm.agent, text, sizeof text);

    if (n > 0)
        put(vmm.agent, text, (size_t)n);
    else {
        close(vmm.agent);
        vmm.agent = -1;
    }
}

static void accept_call(void)
{
    int fd = accept(API, NULL, NULL);

    for (int i = 0; i < CONNS && fd >= 0; i++)
        if (vmm.conns[i].fd < 0) {
            vmm.conns[i].fd = fd;
            return;
        }
    close(fd);
}

int main(int argc, char **argv)
{
    struct answer none;
    int fd = open("/kernel", O_RDONLY);

    if (argc > 1 && !strcmp(argv[1], "--version")) {
        printf("cloud-hypervisor v%s\n", strstr(argv[0], "old") ? "50.0.0" : "53.0.0");
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    if (fd < 0 || read(fd, vmm.script, sizeof vmm.script - 1) < 0)
        return 1;
    close(fd);
    for (int i = 0; i < CONNS; i++)
        vmm.conns[i].fd = vmm.conns[i].passed = -1;
    event("vmm", "starting", NULL);
    script_run("start", &none);
    for (;;) {
        struct pollfd p[CONNS + 3];

        for (int i = 0; i < CONNS; i++)
            p[i] = (struct pollfd){.fd = vmm.conns[i].fd, .events = POLLIN};
        p[CONNS] = (struct pollfd){.fd = API, .events = POLLIN};
        p[CONNS + 1] = (struct pollfd){.fd = vmm.vsock, .events = POLLIN};
        p[CONNS + 2] = (struct pollfd){.fd = vmm.agent, .events = POLLIN};
        if (poll(p, CONNS + 3, -1) < 0)
            return 1;
        for (int i = 0; i < CONNS; i++)
            if (p[i].revents)
                conn_read(&vmm.conns[i]);
        if (p[CONNS].revents)
            accept_call();
        if (p[CONNS + 1].revents)
            agent_serve();
        if (p[CONNS + 2].revents)
            agent_echo();
    }
}
