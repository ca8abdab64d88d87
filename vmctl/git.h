/* git.h: which commit a directory of specs is of. One thread. */
#ifndef VMCTL_GIT_H
#define VMCTL_GIT_H

/* "COMMIT", or "COMMIT-dirty" if files that git knows were changed since. Yours; NULL: it is no checkout, or there is no git. */
char *git_commit(const char *dir);

#endif
