#include "images.h"

#include <string.h>
#include <sys/wait.h>
#include <vmsd/child.h>

#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"

/* "URI SUITE COMPONENT", as asked for below. False: something else. */
static bool source_split(char *line, char *part[static 3])
{
    for (size_t i = 0; i < 3; i++)
        if (!(part[i] = strsep(&line, " ")) || !*part[i])
            return false;
    return !line;
}

/* The archive itself, its updates and its security fixes; no backports, no proposed updates. */
static bool suite_fits(const char *have, const char *suite)
{
    size_t n = strlen(suite);

    return !strncmp(have, suite, n) &&
           (!have[n] || !strcmp(have + n, "-updates") || !strcmp(have + n, "-security"));
}

/* A mirror of Debian, not of somebody who builds packages for Debian: its last part is "debian" or begins so. */
static bool is_debian(const char *uri)
{
    size_t n = strlen(uri);

    if (strncmp(uri, "http://", 7) && strncmp(uri, "https://", 8))
        return false;
    while (n && uri[n - 1] == '/')
        n--;
    while (n && uri[n - 1] != '/')
        n--;
    return !strncmp(uri + n, "debian", 6);
}

int sources_of_host(const char *suite, const struct strv *components, struct deadline d, char **out, struct vm_err *e)
{
    static char *const ask[] = {"apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                                "Identifier: Packages", NULL};
    OWN(text) struct text sources = {0};
    OWN(str) char *list = NULL;
    char *rest, *line, *part[3];
    struct vm_err no_apt;

    /* A host without apt is no error: mmdebstrap then uses its default, or says what is missing. */
    if (child_must(ask, d, &list, &no_apt) < 0)
        list = NULL;
    for (rest = list; rest && (line = strsep(&rest, "\n"));)
        if (source_split(line, part) && suite_fits(part[1], suite) && is_debian(part[0]) &&
            strv_has(components, part[2]))
            text_addf(&sources, "deb [signed-by=" KEYRING "] %s %s %s\n", part[0], part[1], part[2]);
    return (*out = text_take(&sources)) ? 0 : vm_no_memory(e);
}
