/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer.c - one thread a VM that wakes vCPUs when their APIC timer is due.
 *
 * It only sets SOFT_REQ_EVENT: the vCPU itself looks at the clock and fires the timer. A vCPU that
 * sets an expiry stores it in lapic->poke and then reads sleeps_until; this thread stores
 * sleeps_until and then reads every poke: one of the two sees the other.
 */
#include "vmx-driver/soft/lapic.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"

/* Wakes those that are due; the next one's time. */
static uint64_t poke_due(struct soft_vm *vm)
{
	uint64_t next = SOFT_NEVER, now = __builtin_ia32_rdtsc();

	soft_lock(&vm->apic_lock);
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		struct soft_vcpu *v = vm->vcpus[i];
		uint64_t poke = v ? atomic_load(&v->lapic->poke) : SOFT_NEVER;

		if (poke > now) {
			if (poke < next)
				next = poke;
		} else if (atomic_compare_exchange_strong(&v->lapic->poke, &poke, SOFT_NEVER)) {
			soft_request(v, SOFT_REQ_EVENT);
		} else {
			next = 0; /* set anew just now */
		}
	}
	soft_unlock(&vm->apic_lock);
	return next;
}

void soft_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t until, uint64_t tsc_hz)
{
	struct timespec at, *timeout = NULL;

	if (until != SOFT_NEVER) {
		uint64_t now = __builtin_ia32_rdtsc(), ns;
		unsigned __int128 left = (unsigned __int128)(until > now ? until - now : 0) *
					 NSEC_PER_SEC / tsc_hz;

		/* A day at most: what is beyond is looked at again. */
		ns = left > 86400 * NSEC_PER_SEC ? 86400 * NSEC_PER_SEC : (uint64_t)left;
		ns += clock_monotonic_ns();
		at.tv_sec = (time_t)(ns / NSEC_PER_SEC);
		at.tv_nsec = (long)(ns % NSEC_PER_SEC);
		timeout = &at;
	}
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value, timeout, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

static void *timer_thread(void *arg)
{
	struct soft_timer *t = arg;

	prctl(PR_SET_NAME, "vmx-timer");
	prctl(PR_SET_TIMERSLACK, 1);
	if (t->vm->vm.options.thread_started)
		t->vm->vm.options.thread_started(t->vm->vm.options.thread_opaque);
	while (!atomic_load(&t->stop)) {
		uint32_t seen = atomic_load(&t->changes);
		uint64_t next;

		atomic_store(&t->sleeps_until, SOFT_NEVER);
		next = poke_due(t->vm);
		if (!next)
			continue;
		/* What was set since poke_due() looked saw SOFT_NEVER and changed the word. */
		atomic_store(&t->sleeps_until, next);
		soft_futex_wait(&t->changes, seen, next, t->vm->tsc_hz);
	}
	return NULL;
}

int soft_timer_create(struct soft_vm *vm)
{
	struct soft_timer *t = calloc(1, sizeof(*t));
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	if (!t)
		return -ENOMEM;
	t->vm = vm;
	t->sleeps_until = SOFT_NEVER;
	vm->timer = t;
	r = pthread_attr_init(&attr);
	if (!r) {
		pthread_attr_setstacksize(&attr, 64 * 1024);
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r = pthread_create(&t->thread, &attr, timer_thread, t);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		pthread_attr_destroy(&attr);
	}
	if (r) {
		vm->timer = NULL;
		free(t);
	}
	return -r;
}

void soft_timer_destroy(struct soft_vm *vm)
{
	struct soft_timer *t = vm->timer;

	if (!t)
		return;
	atomic_store(&t->stop, true);
	atomic_fetch_add(&t->changes, 1);
	soft_futex_wake(&t->changes);
	pthread_join(t->thread, NULL);
	free(t);
	vm->timer = NULL;
}

/* Host TSC and clock at one moment: the pair with the least time between two TSC reads. */
static void sample(uint64_t *ret_tsc, uint64_t *ret_ns)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < 32; i++) {
		struct timespec t;
		uint64_t before = __builtin_ia32_rdtsc(), after;

		/* Not the clock that NTP slews: the frequency is the hardware's. */
		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __builtin_ia32_rdtsc();
		if (after - before < best) {
			best = after - before;
			*ret_tsc = before + best / 2;
			*ret_ns = (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
		}
	}
}

uint64_t soft_measure_tsc_hz(void)
{
	const struct timespec nap = { .tv_nsec = 8000000 };
	uint64_t tsc[2], ns[2];

	sample(&tsc[0], &ns[0]);
	nanosleep(&nap, NULL);
	sample(&tsc[1], &ns[1]);
	if (ns[1] <= ns[0] || tsc[1] <= tsc[0])
		return 0;
	return (uint64_t)((unsigned __int128)(tsc[1] - tsc[0]) * NSEC_PER_SEC / (ns[1] - ns[0]));
}
