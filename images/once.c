/* Work that many ask for and one does. Between processes the lock of the image decides, see image.c. */
#include "images.h"

#include <string.h>
#include <time.h>

struct once {
    struct once *next;
    char key[ONCE_KEY];
    unsigned waiting; /* the last of them frees it */
    bool ended;
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

/* With the lock of the store. */
static int once_wait(struct image_store *s, struct once *o, struct deadline d, struct vm_err *e)
{
    int rc = 0;

    o->waiting++;
    while (!o->ended && deadline_left(d)) {
        int64_t at = now_ms() + deadline_poll_ms(d);
        struct timespec until = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};
        pthread_cond_clockwait(&s->ended, &s->lock, CLOCK_MONOTONIC, &until);
    }
    if (!o->ended)
        rc = vm_fail(e, VM_E_TIMEOUT, "another guest's build of this image takes too long");
    else if ((rc = o->rc) < 0 && e)
        *e = o->why;
    if (--o->waiting == 0 && o->ended)
        free(o);
    return rc;
}

int once_do(struct image_store *s, const char *key, once_fn *work, void *arg, struct deadline d, struct vm_err *e)
{
    struct once *o;
    int rc;

    pthread_mutex_lock(&s->lock);
    if ((o = once_find(s, key))) {
        rc = once_wait(s, o, d, e);
        pthread_mutex_unlock(&s->lock);
        return rc;
    }
    if (!(o = calloc(1, sizeof *o))) {
        pthread_mutex_unlock(&s->lock);
        return vm_no_memory(e);
    }
    snprintf(o->key, sizeof o->key, "%s", key);
    o->next = s->under_way;
    s->under_way = o;
    pthread_mutex_unlock(&s->lock);

    struct vm_err why = {0};
    rc = work(s, arg, d, &why);
    if (rc < 0 && e)
        *e = why;

    pthread_mutex_lock(&s->lock);
    once_unlist(s, o);
    o->ended = true;
    o->rc = rc;
    o->why = why;
    pthread_cond_broadcast(&s->ended);
    if (o->waiting == 0)
        free(o);
    pthread_mutex_unlock(&s->lock);
    return rc;
}
