/* http serve SOCKET BYTES            a bare libmicrohttpd that answers everything with so many bytes
 * http ask SOCKET PATH CLIENTS N     asks N times, spread over clients that ask without a pause, each on a connection of
 *                                    its own; prints how long each answer took, in microseconds, and its bytes
 * The floor of an API's answer, and what measures both. */
#include <err.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_un address;
static char *page;
static size_t page_bytes;

/* ---- serve ---- */

static enum MHD_Result answer(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *data, size_t *n, void **state)
{
    static int seen;
    struct MHD_Response *r;
    enum MHD_Result rc;

    (void)arg, (void)url, (void)method, (void)version, (void)data, (void)n;
    if (!*state) {
        *state = &seen;
        return MHD_YES;
    }
    r = MHD_create_response_from_buffer(page_bytes, page, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Content-Type", "application/json");
    rc = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return rc;
}

static int serve(const char *bytes)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    page_bytes = (size_t)atol(bytes);
    if (!(page = malloc(page_bytes + 1)))
        err(1, "memory");
    memset(page, 'x', page_bytes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 128) < 0)
        err(1, "%s", address.sun_path);
    if (!MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
                          MHD_OPTION_END))
        errx(1, "libmicrohttpd");
    for (;;)
        pause();
}

/* ---- ask ---- */

struct client {
    pthread_t thread;
    size_t n, bytes;
    double *us;
    const char *path;
};

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Reads one answer with a Content-Length; its length. */
static size_t take(int fd, char *buffer, size_t size)
{
    size_t have = 0, want = 0;

    while (!want || have < want) {
        ssize_t n = read(fd, buffer + have, size - 1 - have);
        char *end, *length;

        if (n <= 0)
            err(1, "the connection ended");
        have += (size_t)n;
        if (want)
            continue;
        buffer[have] = '\0';
        if (!(end = strstr(buffer, "\r\n\r\n")))
            continue;
        if (strncmp(buffer, "HTTP/1.1 200", 12) || !(length = strcasestr(buffer, "\ncontent-length:")) || length > end)
            errx(1, "unexpected answer: %.60s", buffer);
        want = (size_t)(end + 4 - buffer) + (size_t)atol(length + sizeof "\ncontent-length:" - 1);
        if (want >= size)
            errx(1, "an answer of %zu bytes", want);
    }
    return want;
}

static void *ask(void *arg)
{
    enum { ANSWER_MAX = 16 << 20 };
    struct client *c = arg;
    char request[512], *buffer = malloc(ANSWER_MAX);
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: vmsd\r\n\r\n", c->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (!buffer || fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        err(1, "%s", address.sun_path);
    for (size_t i = 0; i < c->n; i++) {
        double began = now_us();

        if (write(fd, request, (size_t)n) != n)
            err(1, "write");
        c->bytes = take(fd, buffer, ANSWER_MAX);
        c->us[i] = now_us() - began;
    }
    close(fd);
    free(buffer);
    return NULL;
}

static int ask_all(const char *path, size_t n_clients, size_t n)
{
    struct client *clients = calloc(n_clients, sizeof *clients);

    for (size_t i = 0; i < n_clients; i++) {
        clients[i] = (struct client){.n = n / n_clients, .us = calloc(n / n_clients, sizeof(double)), .path = path};
        if (pthread_create(&clients[i].thread, NULL, ask, &clients[i]))
            errx(1, "thread");
    }
    for (size_t i = 0; i < n_clients; i++) {
        pthread_join(clients[i].thread, NULL);
        for (size_t k = 0; k < clients[i].n; k++)
            printf("%.1f %zu\n", clients[i].us[k], clients[i].bytes);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        errx(2, "usage: http serve SOCKET BYTES | http ask SOCKET PATH CLIENTS N");
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[2]);
    if (!strcmp(argv[1], "serve"))
        return serve(argv[3]);
    return argc == 6 ? ask_all(argv[3], (size_t)atol(argv[4]), (size_t)atol(argv[5])) : 2;
}
