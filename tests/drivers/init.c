/* The init of tiny guests in the tests of drivers/: does what /trial says, one word and perhaps a number:
 *   exit N      says a line on the console and exits with N, never having been ready
 *   hang        ignores every signal and never gets ready
 *   stamp       writes the monotonic time of its first instruction to the console, then hangs
 *   flood       gets ready and writes to the console without end */
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
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const char *path = getenv("NOTIFY_SOCKET");

    if (!path)
        return;
    strncpy(a.sun_path, path, sizeof a.sun_path - 1);
    if (sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&a, sizeof a) < 0)
        perror("READY");
    close(fd);
}

int main(void)
{
    char word[32] = "";
    int n = 0, fd = open("/trial", O_RDONLY | O_CLOEXEC);
    struct timespec now;
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;

    if (!f || fscanf(f, "%31s %d", word, &n) < 1)
        return 99;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!strcmp(word, "stamp"))
        printf("init at %lld\n", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000), fflush(stdout);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_IGN);
    if (!strcmp(word, "exit")) {
        printf("init says no\n");
        return n;
    }
    if (!strcmp(word, "flood")) {
        static const char line[] = "0123456789012345678901234567890123456789012345678901234567890123456789012345678\n";

        ready();
        for (;;)
            if (write(1, line, sizeof line - 1) < 0)
                usleep(1000);
    }
    for (;;)
        pause();
}
