/* <vmsd/loop.h>: the event loop (sd-event) and its workers. Floor 1.
 *
 * One thread, the loop thread, owns all state. It never blocks: what blocks is a job on a worker, which sees only its
 * argument and is told back on the loop. Only loop_post may be called from any thread. */
#ifndef VMSD_LOOP_H
#define VMSD_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

struct loop;
struct loop_timer;
struct loop_watch;

/* workers: threads that run jobs at once; they are started when first needed and end after some idle time. */
int loop_open(unsigned workers, struct loop **out, struct vm_err *e);
/* Ends the workers: waits for running jobs, calls done(arg, true) for those that never ran; loop_work fails from then on.
 * Timers and watches stay until they are freed. */
void loop_drain(struct loop *l);
void loop_close(struct loop *l);   /* drains and frees; timers and watches must be gone */
int loop_run(struct loop *l, struct vm_err *e); /* until loop_quit */
void loop_quit(struct loop *l);
/* SIGTERM, SIGINT, SIGHUP as call-backs on the loop; call before any thread exists (it blocks them). */
int loop_signal(struct loop *l, int sig, void (*fn)(int sig, void *arg), void *arg, struct vm_err *e);

struct loop_job { void (*run)(void *arg); void (*done)(void *arg, bool cancelled); void *arg; };
int loop_work(struct loop *l, struct loop_job job, struct vm_err *e);

/* Runs fn(arg) on the loop thread soon, in the order of posting. Any thread. Never fails (memory is taken or abort). */
void loop_post(struct loop *l, void (*fn)(void *arg), void *arg);
/* Like loop_post and waits until fn has run; for workers. */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);
bool loop_is_here(const struct loop *l); /* on the loop's thread? */

/* A timer that fires once after ms, and again when its call-back sets it again. slack_ms lets wake-ups coincide. */
int loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **out, struct vm_err *e);
void loop_timer_set(struct loop_timer *t, int64_t ms, int64_t slack_ms);
void loop_timer_stop(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t); /* NULL is welcome; allowed in its own call-back */

/* Watches fd (borrowed: close it after loop_watch_free) for EPOLL* events. */
int loop_watch_new(struct loop *l, int fd, uint32_t events, void (*fn)(int fd, uint32_t revents, void *arg), void *arg,
                   struct loop_watch **out, struct vm_err *e);
void loop_watch_set(struct loop_watch *w, uint32_t events);
void loop_watch_free(struct loop_watch *w); /* NULL is welcome; allowed in its own call-back */

#endif
