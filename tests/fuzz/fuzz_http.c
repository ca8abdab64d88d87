/* Whatever a client says on its connection: the server lives, and the connection ends when the client is done. */
#include "fuzz.h"
#include "plumb/http_rig.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct loop_timer *patience;

static void hung_up(int fd, uint32_t revents, void *arg)
{
    char chunk[65536];
    (void)arg;
    while (recv(fd, chunk, sizeof chunk, MSG_DONTWAIT) > 0)
        ;
    if (revents & EPOLLHUP)
        loop_quit(loop);
}

static void out_of_patience(void *arg)
{
    (void)arg;
    loop_quit(loop); /* a stream, say */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loop_watch *watch;

    if (!loop) {
        snprintf(rig_socket, sizeof rig_socket, "/tmp/fuzz_http.%d", (int)getpid());
        if (loop_open(1, &loop, NULL) < 0 || loop_timer_new(loop, out_of_patience, NULL, &patience, NULL) < 0)
            abort();
        rig_serve(loop);
    }
    OWN(fd) int fd = rig_dial(RIG_WRITER);
    if (loop_watch_new(loop, fd, EPOLLIN, hung_up, NULL, &watch, NULL) < 0)
        abort();
    (void)!send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    loop_timer_set(patience, 5, 0);
    if (loop_run(loop, NULL) < 0)
        abort();
    loop_watch_free(watch);
    return 0;
}
