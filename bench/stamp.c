/* The init of tiny containers, and their true: leaves the monotonic time of its start in /stamp, says that it is up, answers HTTP on port
 * 8080, and ends when it is asked to. Static, so that its first instruction is not the loader's. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void ready(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (path && fd >= 0) {
        strncpy(a.sun_path, path, sizeof a.sun_path - 1);
        if (sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&a, sizeof a) < 0)
            perror("READY");
    }
    close(fd);
}

static void end(int sig)
{
    (void)sig;
    _exit(0);
}

static void serve(void)
{
    static const char page[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client, one = 1;
    char request[4096];

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 16) < 0)
        _exit(1);
    while ((client = accept(fd, NULL, NULL)) >= 0 || errno == EINTR || errno == ECONNABORTED) {
        if (client >= 0 && read(client, request, sizeof request) > 0 && write(client, page, sizeof page - 1) < 0)
            perror("write");
        close(client);
    }
}

int main(int argc, char **argv)
{
    const char *name = argc ? strrchr(argv[0], '/') : NULL;
    struct timespec now;
    FILE *f;

    if (!strcmp(name ? name + 1 : argv[0], "true"))
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((f = fopen("/stamp.new", "we"))) {
        fprintf(f, "%lld\n", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
        fclose(f);
        rename("/stamp.new", "/stamp");
    }
    signal(SIGRTMIN + 3, end);
    signal(SIGTERM, end);
    signal(SIGPWR, end);
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    signal(SIGPIPE, SIG_IGN);
    ready();
    serve();
}
