/* SPDX-License-Identifier: Apache-2.0 */
/* Timers and the event loop. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine/loop.h"
#include "machine/timer.h"
#include "tests/unit/unit.h"

/* --- timers ----------------------------------------------------------------------------------- */

struct tick {
	struct timer timer;
	struct timers *timers;
	char *trace;
	char name;
	uint64_t last, period;
};

static void on_tick(void *opaque, uint64_t now)
{
	struct tick *t = opaque;
	size_t n = strlen(t->trace);

	t->trace[n] = t->name;
	t->trace[n + 1] = 0;
	t->last = now;
	if (t->period)
		timer_arm(&t->timer, now + t->period);
}

static void test_timer_order(void)
{
	struct timers *timers;
	struct tick ticks[6];
	char trace[64] = "";
	static const uint64_t when[6] = { 50, 10, 30, 30, 20, 40 };

	CU_ASSERT_FATAL(timers_create(true, &timers) == 0);
	for (int i = 0; i < 6; i++) {
		ticks[i] = (struct tick){ .trace = trace, .name = (char)('a' + i) };
		timer_init(&ticks[i].timer, timers, on_tick, &ticks[i]);
		CU_ASSERT(timer_arm(&ticks[i].timer, when[i]) == 0);
	}
	timer_cancel(&ticks[5].timer);
	CU_ASSERT(!timer_armed(&ticks[5].timer) && timer_armed(&ticks[0].timer));
	timers_advance(timers, 9);
	CU_ASSERT_STRING_EQUAL(trace, "");
	timers_advance(timers, 1);
	CU_ASSERT_STRING_EQUAL(trace, "b");
	timer_arm(&ticks[0].timer, 15); /* moved forward */
	timers_advance(timers, 1000);
	CU_ASSERT(!strcmp(trace, "baecd") || !strcmp(trace, "baedc"));
	CU_ASSERT(ticks[4].last == 20 && timers_now(timers) == 1010);
	for (int i = 0; i < 6; i++)
		timer_fini(&ticks[i].timer);
	timers_destroy(timers);
}

static void test_timer_periodic(void)
{
	struct timers *timers;
	char trace[64] = "";
	struct tick tick = { .trace = trace, .name = 'x', .period = 100 };

	CU_ASSERT_FATAL(timers_create(true, &timers) == 0);
	timer_init(&tick.timer, timers, on_tick, &tick);
	timer_arm(&tick.timer, 100);
	timers_advance(timers, 1000);
	CU_ASSERT(strlen(trace) == 10 && tick.last == 1000);
	timers_suspend(timers, true);
	timers_advance(timers, 1000);
	CU_ASSERT(strlen(trace) == 10 && timers_now(timers) == 1000);
	timers_suspend(timers, false);
	timers_advance(timers, 100);
	CU_ASSERT(strlen(trace) == 11 && tick.last == 1100);
	timer_fini(&tick.timer);
	timers_destroy(timers);
	timer_fini(&(struct timer){ 0 });
}

static void test_timer_many(void)
{
	enum { N = 500 };
	static struct tick ticks[N];
	static char trace[N + 1];
	struct timers *timers;
	uint64_t seed = 12345;

	memset(trace, 0, sizeof(trace));
	CU_ASSERT_FATAL(timers_create(true, &timers) == 0);
	for (int i = 0; i < N; i++) {
		ticks[i] = (struct tick){ .trace = trace, .name = 't' };
		timer_init(&ticks[i].timer, timers, on_tick, &ticks[i]);
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		timer_arm(&ticks[i].timer, 1 + (seed >> 40));
	}
	for (int i = 0; i < N; i += 3)
		timer_cancel(&ticks[i].timer);
	timers_advance(timers, UINT64_MAX);
	CU_ASSERT(strlen(trace) == N - (N + 2) / 3);
	for (int i = 0; i < N; i++) {
		CU_ASSERT((i % 3 == 0) == (ticks[i].last == 0));
		CU_ASSERT(ticks[i].last == 0 || ticks[i].last == ticks[i].timer.deadline);
		timer_fini(&ticks[i].timer);
	}
	timers_destroy(timers);
}

/* --- loop ------------------------------------------------------------------------------------- */

struct watcher {
	struct loop *loop;
	struct loop_watch *watch;
	int fd;
	_Atomic int calls;
	bool remove_self;
};

static void on_ready(void *opaque, uint32_t events)
{
	struct watcher *w = opaque;
	uint64_t n;

	CU_ASSERT(events & EPOLLIN);
	CU_ASSERT(loop_on_thread(w->loop));
	CU_ASSERT(read(w->fd, &n, sizeof(n)) == sizeof(n));
	w->calls++;
	if (w->remove_self)
		w->watch = loop_remove(w->watch);
}

static void ring(int fd)
{
	uint64_t one = 1;

	CU_ASSERT(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void count_call(void *opaque)
{
	++*(_Atomic int *)opaque;
}

static void test_loop_turn(void)
{
	struct watcher w = { .fd = eventfd(0, EFD_NONBLOCK) };
	_Atomic int calls = 0;
	struct loop_call call = { .fn = count_call, .opaque = &calls };

	CU_ASSERT_FATAL(loop_create(NULL, &w.loop) == 0);
	CU_ASSERT(loop_add(w.loop, w.fd, EPOLLIN, on_ready, &w, &w.watch) == 0);
	CU_ASSERT(loop_turn(w.loop, 0) == 0);
	ring(w.fd);
	CU_ASSERT(loop_turn(w.loop, -1) == 1 && w.calls == 1);
	/* Held: devices wait, posted calls do not. */
	loop_hold(w.loop, true);
	ring(w.fd);
	CU_ASSERT(loop_post(w.loop, count_call, &calls) == 0);
	loop_post_call(w.loop, &call);
	loop_post_call(w.loop, &call);
	CU_ASSERT(loop_turn(w.loop, -1) == 2 && w.calls == 1 && calls == 2);
	/* Cancelled: first, last, alone, not at all queued. */
	for (int i = 0; i < 4; i++) {
		loop_cancel_call(w.loop, &call);
		if (i & 1)
			CU_ASSERT(loop_post(w.loop, count_call, &calls) == 0);
		loop_post_call(w.loop, &call);
		if (i & 2)
			CU_ASSERT(loop_post(w.loop, count_call, &calls) == 0);
		loop_cancel_call(w.loop, &call);
		CU_ASSERT(loop_turn(w.loop, 0) == !!(i & 1) + !!(i & 2));
	}
	CU_ASSERT(calls == 6);
	calls = 2;
	loop_hold(w.loop, false);
	w.remove_self = true;
	CU_ASSERT(loop_turn(w.loop, -1) == 1 && w.calls == 2 && !w.watch);
	ring(w.fd);
	CU_ASSERT(loop_turn(w.loop, 0) == 0);
	CU_ASSERT(loop_post(w.loop, count_call, &calls) == 0); /* dropped with the loop */
	loop_destroy(w.loop);
	CU_ASSERT(calls == 2);
	close(w.fd);
}

static void test_loop_thread(void)
{
	struct watcher w = { .fd = eventfd(0, EFD_NONBLOCK) };
	struct timers *timers;
	char trace[8] = "";
	struct tick tick = { .trace = trace, .name = 'x' };
	_Atomic int calls = 0;

	CU_ASSERT_FATAL(timers_create(false, &timers) == 0);
	CU_ASSERT_FATAL(loop_create(timers, &w.loop) == 0);
	timer_init(&tick.timer, timers, on_tick, &tick);
	timer_arm(&tick.timer, timers_now(timers) + 20000000);
	CU_ASSERT(loop_add(w.loop, w.fd, EPOLLIN, on_ready, &w, &w.watch) == 0);
	CU_ASSERT(loop_start(w.loop, NULL) == 0);
	CU_ASSERT(!loop_on_thread(w.loop));
	for (int i = 0; i < 100; i++)
		loop_post(w.loop, count_call, &calls);
	ring(w.fd);
	for (int i = 0; i < 30000 && (calls < 100 || !w.calls || timer_armed(&tick.timer)); i++)
		usleep(1000);
	loop_hold(w.loop, true);
	CU_ASSERT(calls == 100 && w.calls == 1);
	CU_ASSERT_STRING_EQUAL(trace, "x");
	ring(w.fd);
	usleep(5000);
	CU_ASSERT(w.calls == 1);
	loop_hold(w.loop, false);
	for (int i = 0; i < 30000 && w.calls < 2; i++)
		usleep(1000);
	CU_ASSERT(w.calls == 2);
	w.watch = loop_remove(w.watch);
	timer_fini(&tick.timer);
	loop_stop(w.loop);
	loop_destroy(w.loop);
	timers_destroy(timers);
	close(w.fd);
}

int main(void)
{
	CU_TestInfo timer[] = {
		{ "order, cancel, move", test_timer_order },
		{ "periodic, suspended", test_timer_periodic },
		{ "many", test_timer_many },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo loop[] = {
		{ "turned by hand: watch, post, hold, remove", test_loop_turn },
		{ "with its thread", test_loop_thread },
		CU_TEST_INFO_NULL,
	};

	return UNIT_RUN(
		UNIT_SUITE("timer", timer),
		UNIT_SUITE("loop", loop));
}
