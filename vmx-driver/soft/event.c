/* SPDX-License-Identifier: Apache-2.0 */
/* event.c - making a vCPU look up: requests, and what might be deliverable. GENERAL. */
#include "vmx-driver/soft/lapic.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#define NS_PER_S 1000000000ull
#define TIMER_MAX_S 86400u

/* The system call itself keeps vector registers; a libc wrapper promises nothing. */
static long system_call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "+a"(number)
			 : "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return number;
}

static void futex_wake(_Atomic int *word)
{
	system_call(SYS_futex, (long)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0);
}

void soft_timer_set(struct soft_vcpu *v, uint64_t ticks)
{
	struct { /* as the kernel has it */
		int64_t interval_s, interval_ns, s, ns;
	} when = { 0 };
	uint64_t ns = soft_mul_div(ticks, NS_PER_S, soft_vm_of(v)->tsc_hz);

	if (ns > TIMER_MAX_S * NS_PER_S) /* then it is looked at again */
		ns = TIMER_MAX_S * NS_PER_S;
	when.s = (int64_t)(ns / NS_PER_S);
	when.ns = (int64_t)(ns % NS_PER_S) + !ns; /* 0 would stop it */
	system_call(SYS_timer_settime, v->lapic->timer, 0, (long)&when, 0);
}

void soft_request(struct soft_vcpu *v, uint32_t req_bits)
{
	atomic_fetch_or(&v->exit_req, req_bits);
	/* The sleeper sets wake before it looks at exit_req. */
	if (atomic_load(&v->wake)) {
		atomic_store(&v->wake, 0);
		futex_wake(&v->wake);
	}
}

void soft_events_recheck(struct soft_vcpu *v)
{
	bool event = v->nmi_pending || v->init_pending || v->sipi_pending || v->exc_pending;

	for (unsigned i = 0; i < 4; i++)
		event |= v->eoi_exits[i] != 0;
	event |= v->nonroot; /* windows and the like */
	if (v->rflags & FL_IF)
		event |= v->extint_ready || v->extint_line || soft_lapic_pending(v) >= 0;
	v->look_again = event || !(v->rflags & FL_IF);
	if (event)
		atomic_fetch_or(&v->exit_req, SOFT_REQ_EVENT);
}

void soft_post_init_locked(struct soft_vcpu *v)
{
	v->init_pending = true;
	v->sipi_pending = false;
	soft_request(v, SOFT_REQ_EVENT);
}

void soft_post_sipi_locked(struct soft_vcpu *v, unsigned vector)
{
	if ((!v->init_pending && v->activity != VMX_WAIT_FOR_SIPI) || v->sipi_pending)
		return;
	v->sipi_pending = true;
	v->sipi_vector = (uint8_t)vector;
	soft_request(v, SOFT_REQ_EVENT);
}

void soft_post_nmi(struct soft_vcpu *v)
{
	uint8_t n = v->nmi_pending;

	while (n < 2 && !atomic_compare_exchange_weak(&v->nmi_pending, &n, (uint8_t)(n + 1)))
		;
	soft_request(v, SOFT_REQ_EVENT);
}
