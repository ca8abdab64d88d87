#include "agent.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool to_id(const char *s, unsigned *out)
{
    char *end;
    unsigned long v = strtoul(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || v >= UINT32_MAX)
        return false;
    *out = (unsigned)v;
    return true;
}

static int group_find(const char *name, gid_t *gid, struct vm_err *e)
{
    const struct group *gr = getgrnam(name);
    if (gr)
        *gid = gr->gr_gid;
    else if (!to_id(name, gid))
        return vm_fail(e, VM_E_ABSENT, "no group '%.64s' in this guest", name);
    return 0;
}

int owner_find(const char *text, struct owner *out, struct vm_err *e)
{
    size_t n = strcspn(text, ":");
    struct owner o = { .home = "/", .shell = "/bin/sh" };
    unsigned uid;

    if (n == 0 || n >= sizeof(o.name))
        return vm_fail(e, VM_E_INVALID, "'%.64s' is no user[:group]", text);
    memcpy(o.name, text, n);
    const struct passwd *pw = getpwnam(o.name);
    if (!pw && to_id(o.name, &uid)) {
        o.uid = o.gid = uid;
        o.name[0] = '\0';
        pw = getpwuid(uid);
    } else if (!pw) {
        return vm_fail(e, VM_E_ABSENT, "no user '%.64s' in this guest", o.name);
    }
    if (pw) {
        o.uid = pw->pw_uid;
        o.gid = pw->pw_gid;
        snprintf(o.name, sizeof(o.name), "%s", pw->pw_name);
        snprintf(o.home, sizeof(o.home), "%s", pw->pw_dir);
        snprintf(o.shell, sizeof(o.shell), "%s", *pw->pw_shell ? pw->pw_shell : "/bin/sh");
    }
    if (text[n] == ':' && group_find(text + n + 1, &o.gid, e) < 0)
        return -1;
    *out = o;
    return 0;
}

static int become(const struct owner *o, struct vm_err *e)
{
    int rc = *o->name ? initgroups(o->name, o->gid) : setgroups(0, NULL);
    if (rc < 0 || setgid(o->gid) < 0 || setuid(o->uid) < 0)
        return vm_fail_sys(e, "become user %u", (unsigned)o->uid);
    op_die_with_agent();
    return 0;
}

static int fill_environment(const struct request *rq, const struct owner *o, struct vm_err *e)
{
    clearenv();
    setenv("PATH", ROOT_PATH, 1);
    setenv("HOME", o->home, 1);
    setenv("SHELL", o->shell, 1);
    if (*o->name) {
        setenv("USER", o->name, 1);
        setenv("LOGNAME", o->name, 1);
    }
    if (request_get(rq, "pty"))
        setenv("TERM", "vt220", 1);
    size_t at = 0;
    for (const char *v; (v = pairs_next(rq->p, rq->n, "env", &at));) {
        if (*v == '=' || !strchr(v, '='))
            return vm_fail(e, VM_E_INVALID, "env=%.64s is not KEY=VALUE", v);
        putenv((char *)v);
    }
    return 0;
}

static int go_to(const struct request *rq, const struct owner *o, struct vm_err *e)
{
    const char *cwd = request_get(rq, "cwd");
    if (cwd)
        return chdir(cwd) < 0 ? vm_fail_sys(e, "enter directory '%.200s'", cwd) : 0;
    if (chdir(o->home) < 0 && chdir("/") < 0)
        return vm_fail_sys(e, "enter directory /");
    return 0;
}

int op_exec(const struct request *rq, struct vm_err *e)
{
    static char *argv[FRAME_PAIRS_MAX + 1];
    static struct owner o;
    const char *user = request_get(rq, "user");
    size_t at = 0, n = 0;

    for (const char *v; (v = pairs_next(rq->p, rq->n, "arg", &at));)
        argv[n++] = (char *)v;
    if (n == 0)
        return vm_fail(e, VM_E_INVALID, "exec without arg=");
    if (owner_find(user ? user : "0", &o, e) < 0)
        return -1;
    if (request_get(rq, "pty") && fchown(0, o.uid, (gid_t)-1) < 0)
        return vm_fail_sys(e, "give the terminal to user %u", (unsigned)o.uid);
    if (user && become(&o, e) < 0)
        return -1;
    if (fill_environment(rq, &o, e) < 0 || go_to(rq, &o, e) < 0)
        return -1;
    execvp(argv[0], argv);
    if (errno == ENOENT && strchr(argv[0], '/') && access(argv[0], F_OK) == 0)
        return vm_fail(e, VM_E_ABSENT, "run '%.160s': the interpreter that it names is not in this guest", argv[0]);
    return vm_fail_sys(e, "run '%.200s'", argv[0]);
}
