/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - one event thread per machine: descriptors, posted calls and timers (timer.h).
 *
 * Device callbacks (watches and timers) are held while the machine is paused; posted calls are
 * not. A test makes a loop without a thread and turns it by hand with loop_turn().
 */
#ifndef MACHINE_LOOP_H
#define MACHINE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_watch;
struct thread_hook;
struct timers;

/* events: EPOLLIN, EPOLLOUT, ... that are ready. Loop thread. */
typedef void loop_fn(void *opaque, uint32_t events);
typedef void loop_post_fn(void *opaque);

/* timers (may be NULL) are run by this loop. Owned by the caller, outlive it. */
int loop_create(struct timers *timers, struct loop **ret_loop);
/* Stops the thread (not from the loop thread), drops what is posted. NULL is fine; returns NULL.
 * Watches must be gone. */
struct loop *loop_destroy(struct loop *loop);
/* Starts the event thread (hook: thread.h). Without it loop_turn() does the work. */
int loop_start(struct loop *loop, const struct thread_hook *hook);
/* Ends and joins the event thread; not from the loop thread. Posted calls wait for a turn. */
void loop_stop(struct loop *loop);
bool loop_on_thread(const struct loop *loop); /* also true inside loop_turn() */

/* Watches fd (not owned; keep it open until removed). events 0: only errors. Any thread. A regular
 * file can't be watched: -EPERM. */
int loop_add(struct loop *loop, int fd, uint32_t events, loop_fn *fn, void *opaque,
	     struct loop_watch **ret_watch);
int loop_modify(struct loop_watch *watch, uint32_t events);
/* On return the callback does not run and never will (unless called from inside it). Must not be
 * called with a lock held that the callback takes. NULL is fine; returns NULL. Any thread. */
struct loop_watch *loop_remove(struct loop_watch *watch);

/* A call to be made on the loop thread. The caller owns it and keeps it until it has run
 * or was cancelled; other members belong to loop.c. */
struct loop_call {
	loop_post_fn *fn;
	void *opaque;
	struct loop_call *next;
	bool queued, owned;
};

/* Calls fn(opaque) on the loop thread, in order. -ENOMEM. Any thread. */
int loop_post(struct loop *loop, loop_post_fn *fn, void *opaque);
/* The same, needing no memory: one queued already is not queued again (and runs after this). */
void loop_post_call(struct loop *loop, struct loop_call *call);
/* It is not queued any more. Before *call goes away; nobody posts it now. On the loop thread, or
 * while that is stopped. */
void loop_cancel_call(struct loop *loop, struct loop_call *call);
/* While held, no watch and no timer callback runs. On return none is running (called from a loop
 * callback: none but this one). Any thread. */
void loop_hold(struct loop *loop, bool hold);

/* Handles everything that is ready now, or waits up to timeout_ms (-1: for ever) for the first.
 * Only while no thread was started. Returns the number of callbacks run. */
int loop_turn(struct loop *loop, int timeout_ms);

#endif
