/* Work that many ask for and one does. Between processes the lock of the image decides, see image.c. */
#include "images.h"

#include <string.h>
#include <time.h>

struct once {
    struct once *next;
    char key[ONCE_KEY];
    unsigned waiting; /* the last of them frees it */
    bool ended, called_off;
    int rc;
    struct vm_err why;
};

/* With the lock of the store. The work of that key that is under way, or NULL. */
static struct once *once_find(const struct image_store *s, const char *key)
{
    struct once *o = s->under_way;

    while (o && strcmp(o->key, key))
        o = o->next;
    return o;
}

static void once_unlist(struct image_store *s, struct once *o)
{
    struct once **at = &s->under_way;

    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
}

/* With the lock of the store. False: whoever was at it was called off, which is no news for others: one of them begins anew. */
static bool once_wait(struct image_store *s, struct once *o, struct deadline d, int *rc, struct vm_err *e)
{
    o->waiting++;
    while (!o->ended && deadline_left(d)) {
        int64_t at = now_ms() + deadline_poll_ms(d);
        struct timespec until = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};
        pthread_cond_clockwait(&s->ended, &s->lock, CLOCK_MONOTONIC, &until);
    }
    bool anew = o->called_off && deadline_left(d);
    if (!o->ended)
        *rc = vm_fail(e, VM_E_TIMEOUT, "another guest's build of this image takes too long");
    else if ((*rc = o->rc) < 0 && e)
        *e = o->why;
    if (--o->waiting == 0 && o->ended)
        free(o);
    return !anew;
}

/* With the lock of the store. How the last try of that key failed, if it was after the time; or NULL. */
static const struct once_failed *failed_since(const struct image_store *s, const char *key, int64_t time)
{
    for (size_t i = 0; i < ONCE_FAILED; i++)
        if (time && s->failed[i].at >= time && !strcmp(s->failed[i].key, key))
            return &s->failed[i];
    return NULL;
}

/* With the lock of the store. */
static void failed_add(struct image_store *s, const char *key, const struct vm_err *why)
{
    struct once_failed *f = &s->failed[s->n_failed++ % ONCE_FAILED];

    *f = (struct once_failed){.at = now_ms(), .why = *why};
    snprintf(f->key, sizeof f->key, "%s", key);
}

/* With the lock of the store. False: somebody has done it, as *rc and *e say; else *out is to be worked on and ended. */
static bool once_begin(struct image_store *s, const struct once_ask *ask, struct deadline d, struct once **out, int *rc,
                       struct vm_err *e)
{
    const struct once_failed *f;
    struct once *o;

    while ((o = once_find(s, ask->key)))
        if (once_wait(s, o, d, rc, e))
            return false;
    if ((f = failed_since(s, ask->key, ask->asked_at))) {
        *rc = vm_fail(e, f->why.code, "%s", f->why.text);
        return false;
    }
    if (!(o = calloc(1, sizeof *o))) {
        *rc = vm_no_memory(e);
        return false;
    }
    snprintf(o->key, sizeof o->key, "%s", ask->key);
    o->next = s->under_way;
    s->under_way = o;
    *out = o;
    return true;
}

int once_do(struct image_store *s, const struct once_ask *ask, struct deadline d, struct vm_err *e)
{
    struct once *o = NULL;
    int rc = 0;

    pthread_mutex_lock(&s->lock);
    bool mine = once_begin(s, ask, d, &o, &rc, e);
    pthread_mutex_unlock(&s->lock);
    if (!mine)
        return rc;

    struct vm_err why = {0};
    rc = ask->work(s, ask->arg, d, &why);
    if (rc < 0 && e)
        *e = why;

    pthread_mutex_lock(&s->lock);
    once_unlist(s, o);
    o->ended = true;
    o->rc = rc;
    o->why = why;
    o->called_off = rc < 0 && !deadline_left(d); /* a time limit was his, and so was a wish that cut him off */
    if (rc < 0 && !o->called_off)
        failed_add(s, ask->key, &why);
    pthread_cond_broadcast(&s->ended);
    if (o->waiting == 0)
        free(o);
    pthread_mutex_unlock(&s->lock);
    return rc;
}
