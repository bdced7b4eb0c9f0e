/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/timer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/clock.h"

/* A device may arm again for "now" for ever: let the loop look at other things in between. */
#define RUN_MAX 64
/* Manual clock: more callbacks than this in one advance are a device that makes no progress. */
#define ADVANCE_MAX 1000000

struct timers {
	pthread_mutex_t lock;
	pthread_cond_t idle; /* running became NULL */
	bool manual, suspended;
	uint64_t now;    /* manual, or suspended: machine time */
	uint64_t origin; /* host time of machine time 0 */
	int fd;
	struct timer **heap; /* earliest first */
	size_t count, capacity;
	const struct timer *running;
	pthread_t runner;
};

int timers_create(bool manual, struct timers **ret_timers)
{
	struct timers *timers = calloc(1, sizeof(*timers));
	int r;

	if (!timers)
		return -ENOMEM;
	timers->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timers->fd < 0) {
		r = -errno;
		free(timers);
		return r;
	}
	pthread_mutex_init(&timers->lock, NULL);
	pthread_cond_init(&timers->idle, NULL);
	timers->manual = manual;
	timers->origin = clock_monotonic_ns();
	*ret_timers = timers;
	return 0;
}

struct timers *timers_destroy(struct timers *timers)
{
	if (!timers)
		return NULL;
	assert(timers->count == 0);
	close(timers->fd);
	pthread_cond_destroy(&timers->idle);
	pthread_mutex_destroy(&timers->lock);
	free(timers->heap);
	free(timers);
	return NULL;
}

static uint64_t now_locked(const struct timers *timers)
{
	if (timers->manual || timers->suspended)
		return timers->now;
	return clock_monotonic_ns() - timers->origin;
}

uint64_t timers_now(struct timers *timers)
{
	uint64_t now;

	pthread_mutex_lock(&timers->lock);
	now = now_locked(timers);
	pthread_mutex_unlock(&timers->lock);
	return now;
}

/* --- heap, under the lock --------------------------------------------------------------------- */

static void put(struct timers *timers, size_t at, struct timer *timer)
{
	timers->heap[at] = timer;
	timer->slot = at + 1;
}

static void sift_up(struct timers *timers, size_t at)
{
	struct timer *timer = timers->heap[at];

	while (at > 0 && timers->heap[(at - 1) / 2]->deadline > timer->deadline) {
		put(timers, at, timers->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	put(timers, at, timer);
}

static void sift_down(struct timers *timers, size_t at)
{
	struct timer *timer = timers->heap[at];

	for (;;) {
		size_t child = at * 2 + 1;

		if (child >= timers->count)
			break;
		if (child + 1 < timers->count &&
		    timers->heap[child + 1]->deadline < timers->heap[child]->deadline)
			child++;
		if (timers->heap[child]->deadline >= timer->deadline)
			break;
		put(timers, at, timers->heap[child]);
		at = child;
	}
	put(timers, at, timer);
}

static void heap_remove(struct timers *timers, struct timer *timer)
{
	size_t at = timer->slot - 1;
	struct timer *last = timers->heap[--timers->count];

	timer->slot = 0;
	if (last == timer)
		return;
	put(timers, at, last);
	sift_down(timers, at);
	sift_up(timers, last->slot - 1);
}

static int heap_add(struct timers *timers, struct timer *timer)
{
	if (timers->count == timers->capacity) {
		size_t capacity = timers->capacity ? timers->capacity * 2 : 16;
		struct timer **heap = reallocarray(timers->heap, capacity, sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		timers->heap = heap;
		timers->capacity = capacity;
	}
	put(timers, timers->count++, timer);
	sift_up(timers, timers->count - 1);
	return 0;
}

/* Makes the descriptor ready when the first timer falls due. Real clock only. */
static void program(struct timers *timers)
{
	struct itimerspec when = { 0 };

	if (timers->manual)
		return;
	if (timers->count && !timers->suspended) {
		uint64_t host;

		if (__builtin_add_overflow(timers->heap[0]->deadline, timers->origin, &host) ||
		    host > (uint64_t)INT64_MAX)
			host = INT64_MAX;
		when.it_value.tv_sec = (time_t)(host / NSEC_PER_SEC);
		when.it_value.tv_nsec = (long)(host % NSEC_PER_SEC);
	}
	(void)timerfd_settime(timers->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* --- one timer -------------------------------------------------------------------------------- */

void timer_init(struct timer *timer, struct timers *timers, timer_fn *fn, void *opaque)
{
	*timer = (struct timer){ .timers = timers, .fn = fn, .opaque = opaque };
}

int timer_arm(struct timer *timer, uint64_t deadline)
{
	struct timers *timers = timer->timers;
	const struct timer *first;
	int r = 0;

	pthread_mutex_lock(&timers->lock);
	first = timers->count ? timers->heap[0] : NULL;
	if (timer->slot)
		heap_remove(timers, timer);
	timer->deadline = deadline;
	r = heap_add(timers, timer);
	if (timers->count && (timers->heap[0] == timer || first == timer))
		program(timers);
	pthread_mutex_unlock(&timers->lock);
	return r;
}

void timer_cancel(struct timer *timer)
{
	struct timers *timers = timer->timers;

	/* The descriptor may fire early once: timers_run() then finds nothing due. */
	pthread_mutex_lock(&timers->lock);
	if (timer->slot)
		heap_remove(timers, timer);
	pthread_mutex_unlock(&timers->lock);
}

void timer_fini(struct timer *timer)
{
	struct timers *timers = timer->timers;

	if (!timers)
		return;
	pthread_mutex_lock(&timers->lock);
	while (timers->running == timer && !pthread_equal(timers->runner, pthread_self()))
		pthread_cond_wait(&timers->idle, &timers->lock);
	if (timer->slot)
		heap_remove(timers, timer);
	pthread_mutex_unlock(&timers->lock);
	timer->timers = NULL;
}

bool timer_armed(const struct timer *timer)
{
	bool armed;

	if (!timer->timers)
		return false;
	pthread_mutex_lock(&timer->timers->lock);
	armed = timer->slot != 0;
	pthread_mutex_unlock(&timer->timers->lock);
	return armed;
}

/* --- running ---------------------------------------------------------------------------------- */

/* Runs the first timer; the lock is dropped meanwhile. */
static void run_first(struct timers *timers, uint64_t now)
{
	struct timer *timer = timers->heap[0];
	timer_fn *fn = timer->fn;
	void *opaque = timer->opaque;

	heap_remove(timers, timer);
	timers->running = timer;
	timers->runner = pthread_self();
	pthread_mutex_unlock(&timers->lock);
	fn(opaque, now);
	pthread_mutex_lock(&timers->lock);
	timers->running = NULL;
	pthread_cond_broadcast(&timers->idle);
}

int timers_run(struct timers *timers)
{
	uint64_t expirations;
	int n = 0;

	while (read(timers->fd, &expirations, sizeof(expirations)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&timers->lock);
	while (n < RUN_MAX && timers->count && !timers->suspended) {
		uint64_t now = now_locked(timers);

		if (timers->heap[0]->deadline > now)
			break;
		run_first(timers, now);
		n++;
	}
	program(timers);
	pthread_mutex_unlock(&timers->lock);
	return n;
}

void timers_advance(struct timers *timers, uint64_t ns)
{
	uint64_t end;

	assert(timers->manual);
	pthread_mutex_lock(&timers->lock);
	if (__builtin_add_overflow(timers->now, ns, &end))
		end = UINT64_MAX;
	for (int n = 0; n < ADVANCE_MAX && timers->count && !timers->suspended; n++) {
		uint64_t deadline = timers->heap[0]->deadline;

		if (deadline > end)
			break;
		if (deadline > timers->now)
			timers->now = deadline;
		run_first(timers, timers->now);
	}
	if (!timers->suspended)
		timers->now = end;
	pthread_mutex_unlock(&timers->lock);
}

void timers_suspend(struct timers *timers, bool suspend)
{
	pthread_mutex_lock(&timers->lock);
	if (suspend != timers->suspended) {
		if (suspend)
			timers->now = now_locked(timers);
		else if (!timers->manual)
			timers->origin = clock_monotonic_ns() - timers->now;
		timers->suspended = suspend;
		program(timers);
	}
	pthread_mutex_unlock(&timers->lock);
}

int timers_fd(const struct timers *timers)
{
	return timers->fd;
}
