/* SPDX-License-Identifier: Apache-2.0 */
/* workers.h - a few threads of one device, for host calls that block. */
#ifndef DEVICES_BACKEND_WORKERS_H
#define DEVICES_BACKEND_WORKERS_H

struct workers;

struct work { /* embed it; stays the caller's */
	void (*fn)(struct work *work); /* on a worker thread, no lock held; may submit again */
	struct work *next;
};

#define WORKERS_MAX 8u

/* name: of the threads, at most 15 characters. 1..WORKERS_MAX threads. */
int workers_create(const char *name, unsigned threads, struct workers **ret_workers);
/* Runs what was submitted, then ends the threads. Not from a worker. NULL is fine; returns NULL. */
struct workers *workers_destroy(struct workers *w);
/* Queues work, which must not be queued already. Never fails, never waits. Any thread. */
void workers_submit(struct workers *w, struct work *work);

#endif
