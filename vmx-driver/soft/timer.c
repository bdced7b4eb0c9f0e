/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timer.c - the clock of the host: what wakes a vCPU when its APIC timer is due, and how fast it goes.
 *
 * Each vCPU has a timer of the kernel's that signals its thread, whether that sleeps in HLT or runs
 * the guest: setting it is one system call, which wakes nobody. The signal only says "look": the vCPU
 * itself compares the clock with the expiry. It is set for a little before, by as much as the host
 * was late lately, and a vCPU that sleeps spins for the rest.
 */
#include "vmx-driver/soft/lapic.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

/* At most so long a sleeper is woken before its time. */
#define EARLY_MAX_US 120u
/* A later estimate of how late the host is moves by so much at most: one hiccup is none of its habits. */
#define EARLY_STEP_US 4u
/* It comes down by this part of the difference: where the two hold each other, one in 20 or 30 is later. */
#define EARLY_DECAY 64u

#ifdef __SANITIZE_THREAD__
/* A thread sanitizer puts handlers off until the thread calls libc, which guest code never does. This
 * is libc's own name for the same function. */
int __sigaction(int sig, const struct sigaction *action, struct sigaction *old);
#define sigaction(...) __sigaction(__VA_ARGS__)
#endif

/* The vCPU whose resume this thread is in: a signal at any other time finds nothing to do, and the
 * next resume looks at the clock. */
static _Thread_local struct soft_vcpu *_Atomic resuming;

__attribute__((no_sanitize("thread"))) static void on_timer(int sig, siginfo_t *info, void *context)
{
	struct soft_vcpu *v = atomic_load_explicit(&resuming, memory_order_relaxed);

	(void)sig;
	(void)context;
	if (!v || info->si_code != SI_TIMER || info->si_value.sival_ptr != v)
		return;
	atomic_fetch_or(&v->exit_req, SOFT_REQ_TIMER);
	atomic_store(&v->wake, 0); /* it may be on its way into the wait */
}

int soft_timer_create(struct soft_vcpu *v)
{
	struct sigaction action = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = VMX_SOFT_SIGNAL };
	sigset_t set;
	int id;

	event.sigev_value.sival_ptr = v;
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigemptyset(&action.sa_mask);
	sigemptyset(&set);
	sigaddset(&set, VMX_SOFT_SIGNAL);
	if (sigaction(VMX_SOFT_SIGNAL, &action, NULL) < 0)
		return -errno;
	if (pthread_sigmask(SIG_UNBLOCK, &set, NULL))
		return -EIO;
	/* Not libc's: its handles are its own, and a timer is set from where libc cannot be called. */
	if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) < 0)
		return -errno;
	v->lapic->timer = id;
	v->lapic->has_timer = true;
	return 0;
}

void soft_timer_destroy(struct soft_vcpu *v)
{
	if (v->lapic && v->lapic->has_timer)
		syscall(SYS_timer_delete, v->lapic->timer);
}

void soft_timer_enter(struct soft_vcpu *v)
{
	atomic_store_explicit(&resuming, v, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	if (soft_next_expiry(v) != SOFT_NEVER && v->lapic->timer_at <= __builtin_ia32_rdtsc())
		atomic_fetch_or(&v->exit_req, SOFT_REQ_TIMER);
}

void soft_timer_leave(void)
{
	atomic_store_explicit(&resuming, NULL, memory_order_relaxed);
}

void soft_sleep(struct soft_vcpu *v)
{
	struct soft_lapic *a = v->lapic;
	uint64_t us = soft_vm_of(v)->tsc_hz / 1000000, expires = soft_next_expiry(v);
	uint64_t due = a->timer_at, now, late;

	atomic_store(&v->wake, 1);
	if (!atomic_load(&v->exit_req))
		syscall(SYS_futex, &v->wake, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
	atomic_store(&v->wake, 0);
	now = __builtin_ia32_rdtsc();
	if (expires == SOFT_NEVER || due > now || !(atomic_load(&v->exit_req) & SOFT_REQ_TIMER))
		return;
	late = now - due;
	if (late > a->early)
		a->early += late - a->early < EARLY_STEP_US * us ? late - a->early : EARLY_STEP_US * us;
	else
		a->early -= (a->early - late) / EARLY_DECAY;
	if (a->early > EARLY_MAX_US * us)
		a->early = EARLY_MAX_US * us;
	while (__builtin_ia32_rdtsc() < expires && atomic_load(&v->exit_req) == SOFT_REQ_TIMER &&
	       expires - due <= EARLY_MAX_US * us)
		__builtin_ia32_pause();
}
