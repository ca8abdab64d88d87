#include <vmsd/lazy.h>

#include <dlfcn.h>

/* Under the lock. A library with a missing function stays loaded: the next try finds it faster. */
static int load(struct lazy *l, struct vm_err *e)
{
    void *so = dlopen(l->so, RTLD_NOW | RTLD_LOCAL), **to = l->table;

    if (!so) {
        const char *why = dlerror();
        return vm_fail(e, VM_E_UNAVAILABLE, "%s cannot be loaded: %s; is the package %s there?", l->so, why ? why : "no memory",
                       l->package);
    }
    for (size_t i = 0; i < l->n; i++)
        if (!(to[i] = dlsym(so, l->names[i])))
            return vm_fail(e, VM_E_UNAVAILABLE, "%s has no %s: it is too old; upgrade the package %s", l->so, l->names[i],
                           l->package);
    return l->begin && !l->begin() ? vm_no_memory(e) : 0;
}

int lazy_need(struct lazy *l, struct vm_err *e)
{
    int rc = 0;

    pthread_mutex_lock(&l->lock);
    if (!l->loaded)
        l->loaded = (rc = load(l, e)) == 0;
    pthread_mutex_unlock(&l->lock);
    return rc;
}
