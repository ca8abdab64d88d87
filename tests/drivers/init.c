/* The init of tiny guests in the tests of drivers/: does what /trial says, one word and perhaps a number:
 *   exit N      says a line on the console and exits with N after a moment, never having been ready
 *   hang        ignores every signal and never gets ready */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    char word[32] = "";
    int n = 0, fd = open("/trial", O_RDONLY | O_CLOEXEC);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;

    if (!f || fscanf(f, "%31s %d", word, &n) < 1)
        return 99;
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_IGN);
    if (!strcmp(word, "exit")) {
        usleep(500000); /* so that it was there */
        printf("init says no\n");
        return n;
    }
    for (;;)
        pause();
}
