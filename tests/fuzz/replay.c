/* libFuzzer's stand-in, for any compiler: gives the harness each file of its corpus once. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/own.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void replay(int dir, const char *name)
{
    OWN(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        perror(name);
        exit(1);
    }
    OWN(mem) uint8_t *data = malloc((size_t)st.st_size + !st.st_size); /* as long as the input, for the sanitizer to watch */
    if (!data || read(fd, data, (size_t)st.st_size) != st.st_size) {
        perror(name);
        exit(1);
    }
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
    unsigned n = 0;

    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) {
            perror(argv[i]);
            return 1;
        }
        for (const struct dirent *de; (de = readdir(d));) {
            if (de->d_name[0] == '.')
                continue;
            printf("%s/%s\n", argv[i], de->d_name);
            fflush(stdout); /* the last line before a crash names the input */
            replay(dirfd(d), de->d_name);
            n++;
        }
        closedir(d);
    }
    printf("%u inputs\n", n);
    return n == 0;
}
