/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine/thread.h"
#include "machine/timer.h"

#define EVENTS_MAX 16
#define TURNS_MAX 1000

enum { TAG_WAKE, TAG_TIMERS, TAG_DEVICES }; /* in the outer epoll */

struct loop_watch {
	struct loop *loop;
	uint64_t id; /* what epoll gives back: a removed watch is not found any more */
	int fd;
	loop_fn *fn;
	void *opaque;
	struct loop_watch *next;
};

/*
 * Two epoll sets: device watches are in the inner one, which is itself a member of the outer one.
 * Holding takes the inner one and the timers out of the outer one.
 */
struct loop {
	struct timers *timers;
	int outer, inner, wake;
	pthread_mutex_t lock;
	pthread_cond_t idle; /* a callback ended */
	struct loop_watch *watches;
	uint64_t next_id;
	struct loop_call *calls, **calls_end;
	bool started, stopping, held;
	bool turning;                    /* someone is in turn_once() */
	pthread_t thread, turner;
	const struct loop_watch *running; /* its callback runs */
	bool running_timers;
};

static int outer_add(struct loop *loop, int fd, uint64_t tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };

	return epoll_ctl(loop->outer, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int loop_create(struct timers *timers, struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	loop->timers = timers;
	loop->calls_end = &loop->calls;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->idle, NULL);
	loop->outer = epoll_create1(EPOLL_CLOEXEC);
	loop->inner = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->outer < 0 || loop->inner < 0 || loop->wake < 0) {
		r = -errno;
		goto fail;
	}
	r = outer_add(loop, loop->wake, TAG_WAKE);
	if (r >= 0)
		r = outer_add(loop, loop->inner, TAG_DEVICES);
	if (r >= 0 && timers)
		r = outer_add(loop, timers_fd(timers), TAG_TIMERS);
	if (r < 0)
		goto fail;
	*ret_loop = loop;
	return 0;
fail:
	loop_destroy(loop);
	return r;
}

struct loop *loop_destroy(struct loop *loop)
{
	struct loop_call *call;

	if (!loop)
		return NULL;
	loop_stop(loop);
	assert(!loop->watches);
	while ((call = loop->calls)) {
		loop->calls = call->next;
		call->queued = false;
		if (call->owned)
			free(call);
	}
	if (loop->outer >= 0)
		close(loop->outer);
	if (loop->inner >= 0)
		close(loop->inner);
	if (loop->wake >= 0)
		close(loop->wake);
	pthread_cond_destroy(&loop->idle);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
	return NULL;
}

static void wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* Full (EAGAIN) is as good: it is readable. */
	while (write(loop->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static bool on_thread(const struct loop *loop)
{
	return loop->turning && pthread_equal(loop->turner, pthread_self());
}

bool loop_on_thread(const struct loop *loop)
{
	struct loop *l = (struct loop *)loop;
	bool is;

	pthread_mutex_lock(&l->lock);
	is = on_thread(l);
	pthread_mutex_unlock(&l->lock);
	return is;
}

/* --- watches ---------------------------------------------------------------------------------- */

int loop_add(struct loop *loop, int fd, uint32_t events, loop_fn *fn, void *opaque,
	     struct loop_watch **ret_watch)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = { .events = events };
	int r = 0;

	if (!watch)
		return -ENOMEM;
	*watch = (struct loop_watch){ .loop = loop, .fd = fd, .fn = fn, .opaque = opaque };
	pthread_mutex_lock(&loop->lock);
	watch->id = ++loop->next_id;
	event.data.u64 = watch->id;
	if (epoll_ctl(loop->inner, EPOLL_CTL_ADD, fd, &event) < 0) {
		r = -errno;
	} else {
		watch->next = loop->watches;
		loop->watches = watch;
		*ret_watch = watch;
	}
	pthread_mutex_unlock(&loop->lock);
	if (r < 0)
		free(watch);
	return r;
}

int loop_modify(struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.u64 = watch->id };

	return epoll_ctl(watch->loop->inner, EPOLL_CTL_MOD, watch->fd, &event) < 0 ? -errno : 0;
}

struct loop_watch *loop_remove(struct loop_watch *watch)
{
	struct loop *loop;
	struct loop_watch **at;

	if (!watch)
		return NULL;
	loop = watch->loop;
	pthread_mutex_lock(&loop->lock);
	for (at = &loop->watches; *at != watch; at = &(*at)->next)
		assert(*at);
	*at = watch->next;
	(void)epoll_ctl(loop->inner, EPOLL_CTL_DEL, watch->fd, NULL);
	while (loop->running == watch && !on_thread(loop))
		pthread_cond_wait(&loop->idle, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
	free(watch);
	return NULL;
}

void loop_hold(struct loop *loop, bool hold)
{
	pthread_mutex_lock(&loop->lock);
	if (hold != loop->held) {
		loop->held = hold;
		if (hold) {
			(void)epoll_ctl(loop->outer, EPOLL_CTL_DEL, loop->inner, NULL);
			if (loop->timers)
				(void)epoll_ctl(loop->outer, EPOLL_CTL_DEL, timers_fd(loop->timers),
						NULL);
		} else {
			(void)outer_add(loop, loop->inner, TAG_DEVICES);
			if (loop->timers)
				(void)outer_add(loop, timers_fd(loop->timers), TAG_TIMERS);
		}
	}
	while (hold && (loop->running || loop->running_timers) && !on_thread(loop))
		pthread_cond_wait(&loop->idle, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

/* --- posted calls ----------------------------------------------------------------------------- */

void loop_post_call(struct loop *loop, struct loop_call *call)
{
	pthread_mutex_lock(&loop->lock);
	if (!call->queued) {
		call->queued = true;
		call->next = NULL;
		*loop->calls_end = call;
		loop->calls_end = &call->next;
	}
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

void loop_cancel_call(struct loop *loop, struct loop_call *call)
{
	struct loop_call **at;

	pthread_mutex_lock(&loop->lock);
	for (at = &loop->calls; *at && *at != call; at = &(*at)->next)
		;
	if (*at)
		*at = call->next;
	/* The end may have moved. */
	for (at = &loop->calls; *at; at = &(*at)->next)
		;
	loop->calls_end = at;
	call->queued = false;
	pthread_mutex_unlock(&loop->lock);
}

int loop_post(struct loop *loop, loop_post_fn *fn, void *opaque)
{
	struct loop_call *call = calloc(1, sizeof(*call));

	if (!call)
		return -ENOMEM;
	*call = (struct loop_call){ .fn = fn, .opaque = opaque, .owned = true };
	loop_post_call(loop, call);
	return 0;
}

/* Runs what was queued when it began: a call that posts itself waits for the next turn. */
static int run_calls(struct loop *loop)
{
	struct loop_call *call, *last = NULL;
	uint64_t count;
	bool end = false;
	int n = 0;

	while (read(loop->wake, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&loop->lock);
	for (call = loop->calls; call; call = call->next)
		last = call;
	while (!end && (call = loop->calls)) {
		loop_post_fn *fn = call->fn;
		void *opaque = call->opaque;

		end = call == last;
		loop->calls = call->next;
		if (!loop->calls)
			loop->calls_end = &loop->calls;
		call->queued = false;
		if (call->owned)
			free(call);
		pthread_mutex_unlock(&loop->lock);
		fn(opaque);
		n++;
		pthread_mutex_lock(&loop->lock);
	}
	if (loop->calls)
		wake(loop);
	pthread_mutex_unlock(&loop->lock);
	return n;
}

/* --- turning ---------------------------------------------------------------------------------- */

static int run_watch(struct loop *loop, uint64_t id, uint32_t events)
{
	struct loop_watch *watch;
	loop_fn *fn;
	void *opaque;

	pthread_mutex_lock(&loop->lock);
	for (watch = loop->watches; watch && watch->id != id; watch = watch->next)
		;
	if (!watch || loop->held) {
		pthread_mutex_unlock(&loop->lock);
		return 0;
	}
	fn = watch->fn;
	opaque = watch->opaque;
	loop->running = watch;
	pthread_mutex_unlock(&loop->lock);
	fn(opaque, events);
	pthread_mutex_lock(&loop->lock);
	loop->running = NULL; /* `watch` may be gone */
	pthread_cond_broadcast(&loop->idle);
	pthread_mutex_unlock(&loop->lock);
	return 1;
}

static int run_devices(struct loop *loop)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(loop->inner, events, EVENTS_MAX, 0), done = 0;

	for (int i = 0; i < n; i++)
		done += run_watch(loop, events[i].data.u64, events[i].events);
	return done;
}

static int run_timers(struct loop *loop)
{
	int n = 0;

	pthread_mutex_lock(&loop->lock);
	if (loop->held) {
		pthread_mutex_unlock(&loop->lock);
		return 0;
	}
	loop->running_timers = true;
	pthread_mutex_unlock(&loop->lock);
	n = timers_run(loop->timers);
	pthread_mutex_lock(&loop->lock);
	loop->running_timers = false;
	pthread_cond_broadcast(&loop->idle);
	pthread_mutex_unlock(&loop->lock);
	return n;
}

static int turn_once(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[3];
	int n = epoll_wait(loop->outer, events, 3, timeout_ms), done = 0;

	for (int i = 0; i < n; i++) {
		switch (events[i].data.u64) {
		case TAG_WAKE:
			done += run_calls(loop);
			break;
		case TAG_TIMERS:
			done += run_timers(loop);
			break;
		case TAG_DEVICES:
			done += run_devices(loop);
			break;
		}
	}
	return done;
}

static void set_turner(struct loop *loop, bool turning)
{
	pthread_mutex_lock(&loop->lock);
	loop->turning = turning;
	loop->turner = pthread_self();
	pthread_mutex_unlock(&loop->lock);
}

int loop_turn(struct loop *loop, int timeout_ms)
{
	int done, all = 0;

	assert(!loop->started);
	set_turner(loop, true);
	for (int i = 0; i < TURNS_MAX; i++) {
		done = turn_once(loop, all ? 0 : timeout_ms);
		all += done;
		if (!done)
			break;
	}
	set_turner(loop, false);
	return all;
}

static void *loop_main(void *opaque)
{
	struct loop *loop = opaque;
	bool stopping;

	set_turner(loop, true);
	do {
		(void)turn_once(loop, -1);
		pthread_mutex_lock(&loop->lock);
		stopping = loop->stopping;
		pthread_mutex_unlock(&loop->lock);
	} while (!stopping);
	set_turner(loop, false);
	return NULL;
}

int loop_start(struct loop *loop, const struct thread_hook *hook)
{
	int r;

	assert(!loop->started);
	loop->stopping = false;
	r = machine_thread_create(&loop->thread, hook, THREAD_LOOP, "loop", loop_main, loop);
	loop->started = r >= 0;
	return r;
}

void loop_stop(struct loop *loop)
{
	if (!loop->started)
		return;
	assert(!loop_on_thread(loop));
	pthread_mutex_lock(&loop->lock);
	loop->stopping = true;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
	pthread_join(loop->thread, NULL);
	loop->started = false;
}
