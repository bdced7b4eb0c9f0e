/* SPDX-License-Identifier: Apache-2.0 */
/* workers.c - see workers.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "devices/backend/workers.h"
#include "machine/loop.h"
#include "machine/thread.h"

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct work *first, **last;
	bool stop;
	struct loop *loop; /* of the posted kind */
	bool posted;
	unsigned count;
	pthread_t thread[WORKERS_MAX];
};

/* Takes and does the first piece of work, if there is one. Lock held; let go meanwhile. */
static bool do_one(struct workers *w)
{
	struct work *work = w->first;

	if (!work)
		return false;
	w->first = work->next;
	if (!w->first)
		w->last = &w->first;
	pthread_mutex_unlock(&w->lock);
	work->fn(work);
	pthread_mutex_lock(&w->lock);
	return true;
}

static void *worker_main(void *opaque)
{
	struct workers *w = opaque;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->first && !w->stop)
			pthread_cond_wait(&w->more, &w->lock);
		if (!do_one(w))
			break;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void workers_help(struct workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	while (do_one(w))
		;
	pthread_mutex_unlock(&w->lock);
}

static void posted(void *opaque)
{
	struct workers *w = opaque;

	pthread_mutex_lock(&w->lock);
	w->posted = false;
	pthread_mutex_unlock(&w->lock);
	workers_help(w);
}

void workers_submit(struct workers *w, struct work *work)
{
	pthread_mutex_lock(&w->lock);
	work->next = NULL;
	*w->last = work;
	w->last = &work->next;
	if (w->count)
		pthread_cond_signal(&w->more);
	else if (!w->posted) /* no memory: the next one posts */
		w->posted = loop_post(w->loop, posted, w) == 0;
	pthread_mutex_unlock(&w->lock);
}

int workers_create(const char *name, unsigned threads, const struct thread_hook *hook,
		   struct loop *loop, struct workers **ret_workers)
{
	return workers_create_kind(name, threads, hook, THREAD_BLOCK, loop, ret_workers);
}

int workers_create_kind(const char *name, unsigned threads, const struct thread_hook *hook,
			enum thread_kind kind, struct loop *loop, struct workers **ret_workers)
{
	struct workers *w = calloc(1, sizeof(*w));
	int r = 0;

	assert(threads <= WORKERS_MAX);
	if (!w)
		return -ENOMEM;
	w->loop = loop;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	w->last = &w->first;
	while (w->count < threads && r == 0) {
		r = machine_thread_create(&w->thread[w->count], hook, kind, name, worker_main, w);
		w->count += r == 0;
	}
	if (r < 0) {
		workers_destroy(w);
		return r;
	}
	*ret_workers = w;
	return 0;
}

struct workers *workers_destroy(struct workers *w)
{
	unsigned i;

	if (!w)
		return NULL;
	workers_help(w);
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->lock);
	for (i = 0; i < w->count; i++)
		pthread_join(w->thread[i], NULL);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}
