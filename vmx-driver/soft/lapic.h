/* SPDX-License-Identifier: Apache-2.0 */
/* lapic.h - local APIC, events and the timer thread, between lapic.c apic_send.c event.c timer.c
 * soft.c state.c. */
#ifndef VMX_SOFT_LAPIC_H
#define VMX_SOFT_LAPIC_H

#include "vmx-driver/soft/soft.h"

enum { /* register offsets of the xAPIC page (SDM 3A table 11-1) */
	APIC_ID = 0x20, APIC_VERSION = 0x30, APIC_TPR = 0x80, APIC_APR = 0x90, APIC_PPR = 0xa0,
	APIC_EOI = 0xb0, APIC_RRD = 0xc0, APIC_LDR = 0xd0, APIC_DFR = 0xe0, APIC_SVR = 0xf0,
	APIC_ISR = 0x100, APIC_TMR = 0x180, APIC_IRR = 0x200, APIC_ESR = 0x280,
	APIC_ICR = 0x300, APIC_ICR2 = 0x310, APIC_LVT = 0x320, APIC_TMICT = 0x380,
	APIC_TMCCT = 0x390, APIC_TDCR = 0x3e0, APIC_SELF_IPI = 0x3f0,
};
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
#define LVT_MASKED (1u << 16)
enum { /* delivery modes */
	APIC_FIXED = 0, APIC_LOWEST = 1, APIC_SMI = 2, APIC_NMI = 4, APIC_INIT = 5, APIC_SIPI = 6,
	APIC_EXTINT = 7,
};
enum { TIMER_ONESHOT = 0, TIMER_PERIODIC = 1, TIMER_DEADLINE = 2 };

#define APIC_BASE_BSP (1u << 8)
#define APIC_BASE_X2 (1u << 10)
#define APIC_BASE_EN (1u << 11)
#define SVR_ENABLE (1u << 8)
#define SOFT_NEVER UINT64_MAX

/* Owner thread, but for what is _Atomic and, read only, by who routes interrupts. */
struct soft_lapic {
	uint32_t esr, icr, icr2, tmict, tdcr;
	_Atomic uint32_t tpr, svr, ldr, dfr;
	_Atomic uint32_t lvt[LVT_COUNT];
	_Atomic uint32_t errors;         /* not yet latched into esr */
	_Atomic uint64_t irr[4], tmr[4]; /* any thread posts */
	uint64_t isr[4];
	uint64_t deadline_msr; /* IA32_TSC_DEADLINE: guest TSC, 0: none */
	uint64_t expires;      /* host TSC of the next expiry, SOFT_NEVER */
	uint64_t period;       /* periodic mode: host TSC ticks */
	/* timer.c: the host's timer, the host TSC that it is set for (0: look at once), and by how much
	 * before the expiry that is */
	uint64_t timer_at, early;
	int timer;
	bool has_timer;
};

/* The signal of the host's timers, in the threads of vCPUs. */
#define VMX_SOFT_SIGNAL SIGRTMIN
/* On the vCPU's own thread; destroy: any. */
int soft_timer_create(struct soft_vcpu *v);
void soft_timer_destroy(struct soft_vcpu *v);
/* Around each resume. What fell due outside is looked at first. */
void soft_timer_enter(struct soft_vcpu *v);
void soft_timer_leave(void);
/* Has SOFT_REQ_TIMER requested so many TSC ticks from now. Owner. GENERAL. */
void soft_timer_set(struct soft_vcpu *v, uint64_t ticks);
/* Sleeps until something is requested or the expiry that the timer is set for comes. Owner. */
void soft_sleep(struct soft_vcpu *v);

struct soft_message { /* an interrupt on its way */
	uint32_t dest;
	uint8_t vector;
	uint8_t mode;   /* delivery mode */
	bool logical;
	bool level;     /* trigger mode */
	bool broadcast; /* dest does not matter */
	struct soft_vcpu *not_to; /* "all excluding self" */
};
/* Any thread. GENERAL. */
void soft_apic_send(struct soft_vm *vm, const struct soft_message *m);
void soft_apic_post(struct soft_vcpu *target, unsigned vector, bool level);
void soft_apic_send_icr(struct soft_vcpu *v, uint32_t icr, uint32_t dest);
/* What the entry of the local vector table says, when its source fires. */
void soft_lapic_fire(struct soft_vcpu *v, unsigned entry);
/* Highest vector that may interrupt now (priority only), or -1. Owner. */
int soft_lapic_pending(const struct soft_vcpu *v);
/* That vector goes from IRR to ISR. */
void soft_lapic_accept(struct soft_vcpu *v, unsigned vector);
/* EOI of the highest interrupt in service. Owner. */
void soft_lapic_eoi(struct soft_vcpu *v);
/* Would the processor answer the PIC's INTR wire? (IF is not looked at.) */
bool soft_lapic_takes_extint(const struct soft_vcpu *v);
/* Fires the timer if it is due, else sees to it that the host's is set. Owner. */
void soft_lapic_timer(struct soft_vcpu *v);
/* Host TSC at which that timer or a VMX guest's is due, SOFT_NEVER. */
uint64_t soft_next_expiry(const struct soft_vcpu *v);
/* The host TSC jumped by that much while time stood still: expiries move. */
void soft_lapic_time_shift(struct soft_vcpu *v, uint64_t ticks);
uint32_t soft_lapic_read(struct soft_vcpu *v, unsigned offset);
void soft_lapic_get_page(struct soft_vcpu *v, uint8_t page[1024]);
void soft_lapic_set_page(struct soft_vcpu *v, const uint8_t page[1024]);
/* INIT, SIPI, NMI from any thread; the first two with apic_lock held, which also guards the change
 * of v->activity to VMX_WAIT_FOR_SIPI. */
void soft_post_init_locked(struct soft_vcpu *v);
void soft_post_sipi_locked(struct soft_vcpu *v, unsigned vector);
void soft_post_nmi(struct soft_vcpu *v);
/* a * b / c, or UINT64_MAX where that does not fit. */
static inline uint64_t soft_mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t lo, hi;

	__asm__("mulq %3" : "=a"(lo), "=d"(hi) : "0"(a), "rm"(b) : "cc");
	if (hi >= c)
		return UINT64_MAX;
	__asm__("divq %2" : "+a"(lo), "+d"(hi) : "rm"(c) : "cc");
	return lo;
}

static inline void soft_set_bit(uint64_t *map, unsigned n)
{
	map[n / 64] |= 1ull << (n % 64);
}

#endif
