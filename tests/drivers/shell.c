/* Stands in for vms-agent in the tests of drivers/: reads a shell line from the fd it is given (--fd 3) up to its end,
 * runs it, sends back what it wrote, then one byte of exit status. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char line[16384];
    size_t n = 0;
    ssize_t got;
    int fd = argc == 3 && !strcmp(argv[1], "--fd") ? atoi(argv[2]) : -1, status;
    unsigned char code;
    pid_t pid;

    if (fd < 0)
        return 2;
    while (n < sizeof line - 1 && (got = read(fd, line + n, sizeof line - 1 - n)) > 0)
        n += (size_t)got;
    if ((pid = fork()) == 0) {
        dup2(fd, 1);
        dup2(fd, 2);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    code = (unsigned char)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return write(fd, &code, 1) != 1;
}
