/* SPDX-License-Identifier: Apache-2.0 */
/* workers.c - see workers.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "devices/backend/workers.h"
#include "machine/thread.h"

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct work *first, **last;
	bool stop;
	unsigned count;
	pthread_t thread[WORKERS_MAX];
};

static void *worker_main(void *opaque)
{
	struct workers *w = opaque;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct work *work;

		while (!w->first && !w->stop)
			pthread_cond_wait(&w->more, &w->lock);
		work = w->first;
		if (!work)
			break;
		w->first = work->next;
		if (!w->first)
			w->last = &w->first;
		pthread_mutex_unlock(&w->lock);
		work->fn(work);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void workers_submit(struct workers *w, struct work *work)
{
	pthread_mutex_lock(&w->lock);
	work->next = NULL;
	*w->last = work;
	w->last = &work->next;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

int workers_create(const char *name, unsigned threads, struct workers **ret_workers)
{
	struct workers *w = calloc(1, sizeof(*w));
	int r = 0;

	assert(threads && threads <= WORKERS_MAX);
	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	w->last = &w->first;
	while (w->count < threads && r == 0) {
		r = machine_thread_create(&w->thread[w->count], name, worker_main, w);
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
