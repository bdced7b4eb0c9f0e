/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer.h - time and timers of one machine.
 *
 * Machine time is monotonic, in nanoseconds, 0 at creation, and stands still while the machine is
 * paused. A manual clock (tests, fuzzing) moves only by timers_advance().
 */
#ifndef MACHINE_TIMER_H
#define MACHINE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timers;

/* now: machine time at the call; the deadline may be long past. Loop thread (or the thread that
 * calls timers_advance()), no lock of the timer service held: it may arm and cancel. */
typedef void timer_fn(void *opaque, uint64_t now);

struct timer { /* embed it; fields belong to timer.c */
	struct timers *timers;
	timer_fn *fn;
	void *opaque;
	uint64_t deadline;
	size_t slot; /* place in the heap + 1; 0: not armed */
};

int timers_create(bool manual, struct timers **ret_timers);
struct timers *timers_destroy(struct timers *timers); /* all timers are gone; NULL is fine */

uint64_t timers_now(struct timers *timers); /* any thread */
/* Manual clock: moves time forward, running what falls due in order, each at its own deadline. */
void timers_advance(struct timers *timers, uint64_t ns);
/* Stops and restarts machine time; nests not. Timers due wait. Any thread. */
void timers_suspend(struct timers *timers, bool suspend);

void timer_init(struct timer *timer, struct timers *timers, timer_fn *fn, void *opaque);
/* Runs once when machine time reaches deadline; arming again moves it. -ENOMEM (then it is not
 * armed). Any thread, device lock may be held. */
int timer_arm(struct timer *timer, uint64_t deadline);
/* Not armed any more. A callback that already began may still be running: a device whose lock the
 * callback takes must check its own state there. Any thread, device lock may be held. */
void timer_cancel(struct timer *timer);
/* Cancels and waits for a callback in progress. No lock held that the callback takes. For destroy.
 * Fine on a zeroed struct. */
void timer_fini(struct timer *timer);
bool timer_armed(const struct timer *timer);

/* For loop.c. timers_fd() becomes readable when something is due; timers_run() runs it. */
int timers_fd(const struct timers *timers);
int timers_run(struct timers *timers);

#endif
