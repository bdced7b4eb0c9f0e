/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/lifecycle.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "machine/boot.h"
#include "machine/device.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "machine/timer.h"
#include "machine/vcpu.h"
#include "vmx-driver/vmx.h"

struct life {
	struct life_options options;
	struct machine *machine;
	struct vcpus *vcpus;
	struct loop_call wake; /* step() is due */
	struct boot_entry entry;
	bool held; /* devices, timers and guest time stand still; loop thread */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed; /* ended, frozen, want_freeze */
	bool want_freeze, frozen;
	struct life_info info;
	uint64_t started_ns, running_since;
	/* What is wanted. */
	bool want_start, want_paused, want_reset, want_kill;
	enum machine_request request; /* of the guest: the first since the last reset */
	int request_code;
	bool has_fatal;
	struct vcpu_fatal fatal;
};

#define BIT(state) (1u << (state))

/* Which states may follow which. */
static const unsigned may_follow[LIFE_STATES] = {
	[LIFE_CREATED] = BIT(LIFE_STARTING) | BIT(LIFE_STOPPING),
	[LIFE_STARTING] = BIT(LIFE_RUNNING) | BIT(LIFE_PAUSED) | BIT(LIFE_STOPPING),
	[LIFE_RUNNING] = BIT(LIFE_PAUSED) | BIT(LIFE_STOPPING),
	[LIFE_PAUSED] = BIT(LIFE_RUNNING) | BIT(LIFE_STOPPING),
	[LIFE_STOPPING] = BIT(LIFE_STOPPED) | BIT(LIFE_FAILED),
	[LIFE_STOPPED] = 0,
	[LIFE_FAILED] = 0,
};

static bool ended(const struct life *life)
{
	return life->info.state == LIFE_STOPPED || life->info.state == LIFE_FAILED;
}

/* --- steps, all on the loop thread ------------------------------------------------------------ */

static void set_state(struct life *life, enum life_state state)
{
	pthread_mutex_lock(&life->lock);
	assert(may_follow[life->info.state] & BIT(state));
	if (life->info.state == LIFE_RUNNING)
		life->info.run_ns += clock_monotonic_ns() - life->running_since;
	if (state == LIFE_RUNNING)
		life->running_since = clock_monotonic_ns();
	life->info.state = state;
	if (ended(life))
		pthread_cond_broadcast(&life->changed);
	pthread_mutex_unlock(&life->lock);
	if (life->options.changed)
		life->options.changed(life->options.opaque);
}

/* Everything stands still. The vCPUs are parked. */
static void hold(struct life *life)
{
	if (life->held)
		return;
	life->held = true;
	loop_hold(life->machine->loop, true);
	timers_suspend(life->machine->timers, true);
	machine_pause_devices(life->machine);
	(void)vmx_vm_suspend_time(life->machine->vm);
}

static void release(struct life *life)
{
	if (!life->held)
		return;
	life->held = false;
	(void)vmx_vm_resume_time(life->machine->vm);
	machine_resume_devices(life->machine);
	timers_suspend(life->machine->timers, false);
	loop_hold(life->machine->loop, false);
}

/* Why it stops, once: the first reason stays. */
static void __attribute__((format(printf, 3, 4)))
set_stop(struct life *life, enum life_stop stop, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (life->info.stop == LIFE_STOP_NONE) {
		life->info.stop = stop;
		vsnprintf(life->info.detail, sizeof(life->info.detail), fmt, ap);
	}
	va_end(ap);
}

/* Does anything want the machine to stop? Fills the reason. The lock held. */
static bool stop_wanted(struct life *life)
{
	if (life->want_kill) {
		set_stop(life, LIFE_STOP_KILLED, "stopped by force");
	} else if (life->has_fatal) {
		life->info.rip = life->fatal.rip;
		set_stop(life, life->fatal.triple_fault ? LIFE_STOP_TRIPLE_FAULT :
							  LIFE_STOP_ENGINE_ERROR,
			 "%s", life->fatal.text);
	} else if (life->request == MACHINE_REQUEST_POWEROFF) {
		set_stop(life, LIFE_STOP_POWEROFF, "the guest powered itself off");
	} else if (life->request == MACHINE_REQUEST_DEBUG_EXIT) {
		life->info.exit_code = life->request_code;
		set_stop(life, LIFE_STOP_DEBUG_EXIT, "the guest ended with code %d",
			 life->request_code);
	} else if (life->request == MACHINE_REQUEST_RESET && life->options.reboot_stops) {
		set_stop(life, LIFE_STOP_RESET, "the guest asked for a reset");
	}
	return life->info.stop != LIFE_STOP_NONE;
}

static void finish_stop(struct life *life)
{
	static const unsigned failures = BIT(LIFE_STOP_TRIPLE_FAULT) | BIT(LIFE_STOP_ENGINE_ERROR) |
					 BIT(LIFE_STOP_BOOT_ERROR);
	bool failed = failures & BIT(life->info.stop);

	hold(life);
	log_line(life->machine->log, failed ? LOG_LEVEL_ERROR : LOG_LEVEL_NOTICE, "%s: %s",
		 failed ? "failed" : "stopped", life->info.detail);
	set_state(life, failed ? LIFE_FAILED : LIFE_STOPPED);
}

static int enter(struct vmx_vcpu *vcpu, void *opaque)
{
	return boot_enter(opaque, vcpu);
}

static void boot_error(struct life *life, const char *what)
{
	pthread_mutex_lock(&life->lock);
	set_stop(life, LIFE_STOP_BOOT_ERROR, "%s", what);
	pthread_mutex_unlock(&life->lock);
}

/* Puts the boot processor at the kernel's entry. On an error the next step stops the machine. */
static void enter_kernel(struct life *life)
{
	char text[120];
	int r = vcpus_call(life->vcpus, 0, enter, &life->entry);

	if (r < 0) {
		snprintf(text, sizeof(text), "the processor does not take its first state: %s",
			 strerror(-r));
		boot_error(life, text);
	}
}

/* Processors, chips and memory as at power-on, but for what the guest left in RAM. */
static void finish_reset(struct life *life)
{
	char *error = NULL;
	int r;

	hold(life);
	pthread_mutex_lock(&life->lock);
	life->want_reset = false;
	life->request = MACHINE_REQUEST_NONE;
	life->info.resets++;
	pthread_mutex_unlock(&life->lock);
	log_line(life->machine->log, LOG_LEVEL_DEBUG, "reset"); /* a guest can do it for ever */
	r = vmx_vm_reset(life->machine->vm);
	vcpus_forget_exits(life->vcpus);
	machine_reset_devices(life->machine);
	if (r >= 0)
		r = life->options.load(life->options.opaque, &life->entry, &error);
	if (r < 0)
		boot_error(life, error ? error : strerror(-r));
	else
		enter_kernel(life);
	free(error);
	if (life->options.changed) /* the count of resets did */
		life->options.changed(life->options.opaque);
}

/* Lets somebody else work on the machine. The vCPUs are parked. */
static void freeze(struct life *life)
{
	bool run;

	pthread_mutex_lock(&life->lock);
	life->frozen = true;
	pthread_cond_broadcast(&life->changed);
	while (life->want_freeze)
		pthread_cond_wait(&life->changed, &life->lock);
	life->frozen = false;
	pthread_cond_broadcast(&life->changed);
	run = life->info.state == LIFE_RUNNING && !life->held;
	pthread_mutex_unlock(&life->lock);
	if (run)
		vcpus_run(life->vcpus);
}

/* One step towards what is wanted. False: nothing to do, or the vCPUs are still on their way. */
static bool step_once(struct life *life)
{
	enum life_state state;
	bool stop, reset, pause, go, start, still;

	pthread_mutex_lock(&life->lock);
	state = life->info.state;
	stop = !ended(life) && stop_wanted(life);
	reset = life->want_reset || life->request == MACHINE_REQUEST_RESET;
	pause = life->want_paused;
	start = life->want_start;
	still = life->want_freeze;
	pthread_mutex_unlock(&life->lock);

	if (state == LIFE_STOPPED || state == LIFE_FAILED)
		return false;
	if (still) {
		if (!vcpus_park(life->vcpus))
			return false;
		freeze(life);
		return true;
	}
	if (stop) {
		if (state != LIFE_STOPPING)
			set_state(life, LIFE_STOPPING);
		if (!vcpus_park(life->vcpus))
			return false;
		finish_stop(life);
		return false;
	}
	if (state == LIFE_CREATED) {
		if (!start)
			return false;
		set_state(life, LIFE_STARTING);
		enter_kernel(life);
		return true;
	}
	if (reset || (state == LIFE_RUNNING && pause)) {
		if (!vcpus_park(life->vcpus))
			return false;
		if (reset) {
			finish_reset(life);
			return true;
		}
		hold(life);
		set_state(life, LIFE_PAUSED);
		return true;
	}
	if (pause && state == LIFE_STARTING)
		set_state(life, LIFE_PAUSED);
	go = !pause && (state != LIFE_RUNNING || life->held);
	if (go) {
		release(life);
		if (state != LIFE_RUNNING)
			set_state(life, LIFE_RUNNING);
		vcpus_run(life->vcpus);
	}
	return false;
}

static void step(void *opaque)
{
	struct life *life = opaque;

	while (step_once(life))
		;
}

/* --- what asks for steps ---------------------------------------------------------------------- */

static void wake(struct life *life)
{
	loop_post_call(life->machine->loop, &life->wake);
}

static void on_parked(void *opaque)
{
	wake(opaque);
}

static void on_fatal(void *opaque, const struct vcpu_fatal *fatal)
{
	struct life *life = opaque;

	pthread_mutex_lock(&life->lock);
	if (!life->has_fatal) {
		life->has_fatal = true;
		life->fatal = *fatal;
	}
	pthread_mutex_unlock(&life->lock);
	wake(life);
}

/* From a device, perhaps with its lock held, on a vCPU thread or the loop thread. */
static void on_request(void *opaque, enum machine_request what, int code)
{
	struct life *life = opaque;
	bool first;

	pthread_mutex_lock(&life->lock);
	first = life->request == MACHINE_REQUEST_NONE;
	if (first) {
		life->request = what;
		life->request_code = code;
	}
	pthread_mutex_unlock(&life->lock);
	if (!first)
		return;
	vcpus_stop(life->vcpus);
	wake(life);
}

/* As on_request(). */
static void on_stall(void *opaque, const char *reason, const char *why)
{
	struct life *life = opaque;

	pthread_mutex_lock(&life->lock);
	if (!life->info.stall[0]) {
		snprintf(life->info.stall, sizeof(life->info.stall), "%s", why);
		life->info.stall_reason = reason;
		life->info.stalls++;
		log_line(life->machine->log, LOG_LEVEL_WARNING, "paused: %s", why);
	}
	life->want_paused = true;
	pthread_mutex_unlock(&life->lock);
	wake(life);
}

static void on_first_run(void *opaque)
{
	struct life *life = opaque;

	if (life->options.changed) /* boot_ns is known */
		life->options.changed(life->options.opaque);
}

static const struct vcpus_events vcpu_events = { .parked = on_parked, .first_run = on_first_run,
						 .fatal = on_fatal };

enum want { WANT_START, WANT_PAUSE, WANT_RESUME, WANT_RESET, WANT_KILL };

static bool possible(const struct life *life, enum want want)
{
	bool going = life->want_start && life->info.stop == LIFE_STOP_NONE && !ended(life);

	switch (want) {
	case WANT_START:
		return life->info.state == LIFE_CREATED && !life->want_start && !life->want_kill;
	case WANT_PAUSE:
		return going && !life->want_paused;
	case WANT_RESUME:
		return going && life->want_paused;
	case WANT_RESET:
		return going;
	case WANT_KILL:
		return !ended(life);
	}
	return false;
}

static int ask(struct life *life, enum want want)
{
	bool ok;

	pthread_mutex_lock(&life->lock);
	ok = possible(life, want);
	if (ok) {
		switch (want) {
		case WANT_START:
			life->want_start = true;
			if (!life->started_ns)
				life->started_ns = clock_monotonic_ns();
			break;
		case WANT_PAUSE:
		case WANT_RESUME:
			life->want_paused = want == WANT_PAUSE;
			if (want == WANT_RESUME)
				life->info.stall[0] = '\0';
			break;
		case WANT_RESET:
			life->want_reset = true;
			break;
		case WANT_KILL:
			life->want_kill = true;
			break;
		}
	}
	pthread_mutex_unlock(&life->lock);
	if (!ok)
		return -EBADFD;
	wake(life);
	return 0;
}

int life_start(struct life *life)
{
	return ask(life, WANT_START);
}

int life_pause(struct life *life)
{
	return ask(life, WANT_PAUSE);
}

int life_resume(struct life *life)
{
	return ask(life, WANT_RESUME);
}

int life_reset(struct life *life)
{
	return ask(life, WANT_RESET);
}

int life_kill(struct life *life)
{
	return ask(life, WANT_KILL);
}

int life_freeze(struct life *life)
{
	int r;

	pthread_mutex_lock(&life->lock);
	life->want_freeze = !ended(life);
	pthread_mutex_unlock(&life->lock);
	wake(life);
	pthread_mutex_lock(&life->lock);
	while (life->want_freeze && !life->frozen && !ended(life))
		pthread_cond_wait(&life->changed, &life->lock);
	r = life->frozen ? 0 : -EBADFD;
	if (r < 0)
		life->want_freeze = false;
	pthread_mutex_unlock(&life->lock);
	return r;
}

void life_thaw(struct life *life)
{
	pthread_mutex_lock(&life->lock);
	life->want_freeze = false;
	pthread_cond_broadcast(&life->changed);
	/* It must be seen before the next freeze asks. */
	while (life->frozen)
		pthread_cond_wait(&life->changed, &life->lock);
	pthread_mutex_unlock(&life->lock);
}

void life_info(struct life *life, struct life_info *ret_info)
{
	uint64_t first = vcpus_first_run_ns(life->vcpus);

	pthread_mutex_lock(&life->lock);
	*ret_info = life->info;
	if (life->info.state == LIFE_RUNNING)
		ret_info->run_ns += clock_monotonic_ns() - life->running_since;
	if (first && first > life->started_ns)
		ret_info->boot_ns = first - life->started_ns;
	pthread_mutex_unlock(&life->lock);
}

/* --- creation --------------------------------------------------------------------------------- */

int life_create(const struct life_options *options, struct life **ret_life, char **ret_error)
{
	struct life *life = calloc(1, sizeof(*life));
	int r;

	*ret_error = NULL;
	if (!life)
		return -ENOMEM;
	life->options = *options;
	life->machine = options->machine;
	life->started_ns = options->asked_ns;
	life->wake = (struct loop_call){ .fn = step, .opaque = life };
	pthread_mutex_init(&life->lock, NULL);
	pthread_cond_init(&life->changed, NULL);
	r = vcpus_create(life->machine, options->cpus, &vcpu_events, life, &life->vcpus);
	if (r >= 0)
		r = options->load(options->opaque, &life->entry, ret_error);
	if (r >= 0)
		r = vcpus_wait(life->vcpus);
	if (r >= 0) {
		hold(life); /* nothing moves before the start */
		life->machine->request_opaque = life;
		life->machine->request = on_request;
		life->machine->stall = on_stall;
		r = loop_start(life->machine->loop, life->machine->threads);
		memory_huge_start(life->machine->memory, life->machine->threads);
	}
	if (r < 0) {
		life->machine->request = NULL;
		life->machine->stall = NULL;
		life->vcpus = vcpus_destroy(life->vcpus);
		loop_cancel_call(life->machine->loop, &life->wake);
		pthread_cond_destroy(&life->changed);
		pthread_mutex_destroy(&life->lock);
		free(life);
		return r;
	}
	*ret_life = life;
	return 0;
}

struct life *life_destroy(struct life *life)
{
	if (!life)
		return NULL;
	(void)life_kill(life); /* -EBADFD: ended already */
	pthread_mutex_lock(&life->lock);
	while (!ended(life))
		pthread_cond_wait(&life->changed, &life->lock);
	pthread_mutex_unlock(&life->lock);
	/* The last step may still be on its way out of changed(). */
	loop_stop(life->machine->loop);
	memory_huge_stop(life->machine->memory);
	life->machine->request = NULL;
	life->machine->stall = NULL;
	vcpus_destroy(life->vcpus);
	/* A vCPU thread may have asked for a step after the last one. */
	loop_cancel_call(life->machine->loop, &life->wake);
	pthread_cond_destroy(&life->changed);
	pthread_mutex_destroy(&life->lock);
	free(life);
	return NULL;
}
