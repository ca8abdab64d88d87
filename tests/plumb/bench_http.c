/* bench_http [connections] [seconds]: a small GET over keep-alive connections, one request at a time on each. */
#include "plumb/http_rig.h"

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES_MAX = 4 << 20 };

static const char request[] = "GET /v1/things HTTP/1.1\r\nHost: x\r\n\r\n";
static uint32_t *samples; /* µs */
static size_t n_samples;

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void serve(void)
{
    struct loop *l;
    if (loop_open(1, &l, NULL) < 0)
        exit(1);
    rig_serve(l);
    loop_run(l, NULL);
}

static void load(int n, int64_t until)
{
    struct pollfd *fds = calloc((size_t)n, sizeof *fds);
    int64_t *begin = calloc((size_t)n, sizeof *begin);

    for (int i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = rig_dial(RIG_WRITER), .events = POLLIN};
        begin[i] = now_us();
        rig_send(fds[i].fd, request, sizeof request - 1);
    }
    while (now_us() < until && n_samples < SAMPLES_MAX && poll(fds, (nfds_t)n, 1000) > 0)
        for (int i = 0; i < n && n_samples < SAMPLES_MAX; i++) {
            char answer[1024];
            if (!fds[i].revents)
                continue;
            if (read(fds[i].fd, answer, sizeof answer) < 100 || memcmp(answer, "HTTP/1.1 200", 12) != 0)
                exit(1);
            int64_t now = now_us();
            samples[n_samples++] = (uint32_t)(now - begin[i]);
            begin[i] = now;
            rig_send(fds[i].fd, request, sizeof request - 1);
        }
    free(fds);
    free(begin);
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 50, seconds = argc > 2 ? atoi(argv[2]) : 5;

    snprintf(rig_socket, sizeof rig_socket, "/tmp/bench_http.%d", (int)getpid());
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    pid_t server = fork();
    if (server == 0)
        serve();
    for (int i = 0; i < 100 && access(rig_socket, F_OK) < 0; i++)
        usleep(10000);
    int64_t begin = now_us();
    load(n, begin + seconds * INT64_C(1000000));
    double took = (double)(now_us() - begin) / 1e6;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    unlink(rig_socket);
    if (!n_samples)
        return 1;
    qsort(samples, n_samples, sizeof *samples, compare);
    printf("%d connections: %.0f requests/s, p50 %u us, p99 %u us, max %u us\n", n, (double)n_samples / took,
           samples[n_samples / 2], samples[n_samples * 99 / 100], samples[n_samples - 1]);
    return 0;
}
