/* SPDX-License-Identifier: Apache-2.0 */
/* workers.h - a few threads of one device, for host calls that block. */
#ifndef DEVICES_BACKEND_WORKERS_H
#define DEVICES_BACKEND_WORKERS_H

#include "machine/thread.h"

struct loop;
struct workers;

struct work { /* embed it; stays the caller's */
	void (*fn)(struct work *work); /* on a worker thread, no lock held; may submit again */
	struct work *next;
};

#define WORKERS_MAX 8u

/* name: of the threads, at most 15 characters; hook: thread.h. 1..WORKERS_MAX threads; or none: then the work is
 * posted to the loop, and everything happens in an order that a test can repeat. */
int workers_create(const char *name, unsigned threads, const struct thread_hook *hook,
		   struct loop *loop, struct workers **ret_workers);
/* The same for another kind of thread than THREAD_BLOCK. */
int workers_create_kind(const char *name, unsigned threads, const struct thread_hook *hook,
			enum thread_kind kind, struct loop *loop, struct workers **ret_workers);
/* Does what is queued and not begun, on this thread. Needed before waiting for work to end, as
 * there may be no threads. No lock held that the work takes. */
void workers_help(struct workers *w);
/* Runs what was submitted, then ends the threads. Not from a worker. NULL is fine; returns NULL.
 * The loop, if used, does not turn any more. */
struct workers *workers_destroy(struct workers *w);
/* Queues work, which must not be queued already. Never waits. Any thread. */
void workers_submit(struct workers *w, struct work *work);

#endif
