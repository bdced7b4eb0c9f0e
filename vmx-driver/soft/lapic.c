/* SPDX-License-Identifier: Apache-2.0 */
/* lapic.c - the local APIC's registers and its timer (SDM 3A chapter 11). GENERAL. */
#include "vmx-driver/soft/lapic.h"

/* A guest may not load its own host with a periodic timer of nanoseconds. */
#define PERIOD_MIN_HZ 20000u

static unsigned timer_mode(const struct soft_lapic *a)
{
	return a->lvt[LVT_TIMER] >> 17 & 3;
}

static unsigned divider(const struct soft_lapic *a)
{
	unsigned shift = ((a->tdcr & 3) | (a->tdcr >> 1 & 4)) + 1;

	return 1u << (shift & 7);
}

static uint64_t count_to_tsc(const struct soft_vcpu *v, uint32_t count)
{
	return soft_mul_div((uint64_t)count * divider(v->lapic), soft_vm_of(v)->tsc_hz, SOFT_CRYSTAL_HZ);
}

/* --- timer ---------------------------------------------------------------------------------- */

uint64_t soft_next_expiry(const struct soft_vcpu *v)
{
	uint64_t expires = v->lapic->expires;

	return v->vmx.timer_on && v->vmx.timer_end < expires ? v->vmx.timer_end : expires;
}

static void set_timer(struct soft_vcpu *v, uint64_t now, uint64_t at)
{
	v->lapic->timer_at = at;
	soft_timer_set(v, at > now ? at - now : 0);
}

/* What the host's timer was set for before may still come, in vain. */
static void arm(struct soft_vcpu *v, uint64_t expires)
{
	struct soft_lapic *a = v->lapic;
	uint64_t now = __builtin_ia32_rdtsc();

	a->expires = expires;
	if (expires == SOFT_NEVER)
		return;
	if (expires <= now)
		soft_request(v, SOFT_REQ_EVENT);
	else
		set_timer(v, now, soft_next_expiry(v) - a->early);
}

static void start_count(struct soft_vcpu *v, uint32_t count)
{
	struct soft_lapic *a = v->lapic;
	uint64_t ticks = count_to_tsc(v, count);

	a->period = 0;
	if (timer_mode(a) == TIMER_DEADLINE || !count) {
		arm(v, SOFT_NEVER);
		return;
	}
	if (timer_mode(a) == TIMER_PERIODIC) {
		uint64_t least = soft_vm_of(v)->tsc_hz / PERIOD_MIN_HZ;

		a->period = ticks < least ? least : ticks;
	}
	arm(v, __builtin_ia32_rdtsc() + ticks);
}

static uint32_t current_count(const struct soft_vcpu *v)
{
	const struct soft_lapic *a = v->lapic;
	uint64_t now = __builtin_ia32_rdtsc(), left, count;

	if (a->expires == SOFT_NEVER || timer_mode(a) == TIMER_DEADLINE)
		return 0;
	if (now < a->expires)
		left = a->expires - now;
	else if (a->period)
		left = a->period - (now - a->expires) % a->period;
	else
		return 0;
	count = soft_mul_div(left, SOFT_CRYSTAL_HZ, soft_vm_of(v)->tsc_hz) / divider(v->lapic);
	return count > a->tmict ? a->tmict : (uint32_t)count;
}

static void set_deadline(struct soft_vcpu *v, uint64_t guest_tsc)
{
	struct soft_lapic *a = v->lapic;
	uint64_t now = __builtin_ia32_rdtsc(), expires;
	uint64_t guest_now = now + v->tsc_offset - v->vmx.tsc_offset;

	if (timer_mode(a) != TIMER_DEADLINE)
		return;
	a->deadline_msr = guest_tsc;
	a->period = 0;
	if (!guest_tsc)
		expires = SOFT_NEVER;
	else if (guest_tsc <= guest_now)
		expires = 0;
	else if (__builtin_add_overflow(now, guest_tsc - guest_now, &expires))
		expires = SOFT_NEVER;
	arm(v, expires);
}

void soft_lapic_timer(struct soft_vcpu *v)
{
	struct soft_lapic *a = v->lapic;
	uint64_t now, next = soft_next_expiry(v);

	if (next == SOFT_NEVER)
		return;
	now = __builtin_ia32_rdtsc();
	if (now < next) {
		/* Woken early, while the guest runs: then once more. */
		if (a->timer_at <= now || a->timer_at > next)
			set_timer(v, now, next);
		return;
	}
	if (now < a->expires) /* the other timer's time, which is looked at elsewhere */
		return;
	a->deadline_msr = 0;
	if (a->period) {
		uint64_t behind = now - a->expires;

		arm(v, a->expires + (behind / a->period + 1) * a->period);
	} else {
		arm(v, SOFT_NEVER);
	}
	soft_lapic_fire(v, LVT_TIMER);
}

void soft_lapic_time_shift(struct soft_vcpu *v, uint64_t ticks)
{
	struct soft_lapic *a = v->lapic;

	v->vmx.timer_end += ticks;
	if (a->expires != SOFT_NEVER && a->expires != 0)
		a->expires += ticks;
	a->timer_at = 0;
}

/* --- priorities ----------------------------------------------------------------------------- */

static int highest(const uint64_t map[4])
{
	for (int i = 3; i >= 0; i--)
		if (map[i])
			return i * 64 + 63 - __builtin_clzll(map[i]);
	return -1;
}

static int highest_irr(const struct soft_lapic *a)
{
	for (int i = 3; i >= 0; i--) {
		uint64_t word = atomic_load_explicit(&a->irr[i], memory_order_acquire);

		if (word)
			return i * 64 + 63 - __builtin_clzll(word);
	}
	return -1;
}

static uint32_t ppr(const struct soft_lapic *a)
{
	int isr = highest(a->isr);
	uint32_t in_service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

	return (a->tpr & 0xf0) >= in_service ? a->tpr : in_service;
}

int soft_lapic_pending(const struct soft_vcpu *v)
{
	int irr = highest_irr(v->lapic);

	if (irr < 0 || !(v->apic_base & APIC_BASE_EN))
		return -1;
	return ((uint32_t)irr & 0xf0) > (ppr(v->lapic) & 0xf0) ? irr : -1;
}

void soft_lapic_accept(struct soft_vcpu *v, unsigned vector)
{
	atomic_fetch_and(&v->lapic->irr[vector / 64], ~(1ull << (vector % 64)));
	soft_set_bit(v->lapic->isr, vector);
}

void soft_lapic_eoi(struct soft_vcpu *v)
{
	struct soft_lapic *a = v->lapic;
	int vector = highest(a->isr);
	uint64_t bit;

	if (vector < 0)
		return;
	bit = 1ull << (vector % 64);
	a->isr[vector / 64] &= ~bit;
	if (atomic_load_explicit(&a->tmr[vector / 64], memory_order_relaxed) & bit)
		atomic_fetch_or(&v->eoi_exits[vector / 64], bit);
	soft_events_recheck(v);
}

uint64_t soft_lapic_get_cr8(struct soft_vcpu *v)
{
	return v->lapic->tpr >> 4;
}

void soft_lapic_set_cr8(struct soft_vcpu *v, uint64_t value)
{
	v->lapic->tpr = (uint32_t)(value & 15) << 4;
	soft_events_recheck(v);
}

bool soft_lapic_takes_extint(const struct soft_vcpu *v)
{
	uint32_t lint0 = v->lapic->lvt[LVT_LINT0];

	return !(v->apic_base & APIC_BASE_EN) ||
	       (!(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == APIC_EXTINT);
}

void soft_lapic_fire(struct soft_vcpu *v, unsigned entry)
{
	uint32_t lvt = v->lapic->lvt[entry];

	if ((lvt & LVT_MASKED) || !(v->apic_base & APIC_BASE_EN))
		return;
	/* Timer and error have no delivery mode: fixed. */
	if (entry == LVT_TIMER || entry == LVT_ERROR || (lvt >> 8 & 7) == APIC_FIXED)
		soft_apic_post(v, lvt & 0xff, false);
	else if ((lvt >> 8 & 7) == APIC_NMI)
		soft_post_nmi(v);
}

/* --- registers ------------------------------------------------------------------------------ */

static bool x2(const struct soft_vcpu *v)
{
	return v->apic_base & APIC_BASE_X2;
}

static uint32_t map_word(const void *map, unsigned offset)
{
	unsigned i = offset >> 4 & 7;
	uint64_t word = __atomic_load_n((const uint64_t *)map + i / 2, __ATOMIC_RELAXED);

	return (uint32_t)(word >> (i % 2 * 32));
}

static uint32_t id_register(const struct soft_vcpu *v)
{
	return x2(v) ? v->v.id : v->v.id << 24;
}

/* What a register holds; registers that do not exist: 0. */
uint32_t soft_lapic_read(struct soft_vcpu *v, unsigned offset)
{
	const struct soft_lapic *a = v->lapic;

	switch (offset) {
	case APIC_ID: return id_register(v);
	case APIC_VERSION: return (LVT_COUNT - 1) << 16 | 0x14;
	case APIC_TPR: return a->tpr;
	case APIC_PPR: return ppr(a);
	case APIC_LDR: return a->ldr;
	case APIC_DFR: return a->dfr;
	case APIC_SVR: return a->svr;
	case APIC_ISR ... APIC_ISR + 0x70: return map_word(a->isr, offset);
	case APIC_TMR ... APIC_TMR + 0x70: return map_word(&a->tmr, offset);
	case APIC_IRR ... APIC_IRR + 0x70: return map_word(&a->irr, offset);
	case APIC_ESR: return a->esr;
	case APIC_ICR: return a->icr;
	case APIC_ICR2: return a->icr2;
	case APIC_LVT ... APIC_LVT + 0x50: return a->lvt[(offset - APIC_LVT) >> 4];
	case APIC_TMICT: return timer_mode(a) == TIMER_DEADLINE ? 0 : a->tmict;
	case APIC_TMCCT: return current_count(v);
	case APIC_TDCR: return a->tdcr;
	default: return 0;
	}
}

/* Bits of each LVT entry that can be written. */
static const uint32_t lvt_bits[LVT_COUNT] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
	[LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff, [LVT_ERROR] = 0x100ff,
};

static void write_lvt(struct soft_vcpu *v, unsigned entry, uint32_t value)
{
	struct soft_lapic *a = v->lapic;
	unsigned old_mode;

	if (entry == LVT_TIMER) /* what expired by now did so in the old mode */
		soft_lapic_timer(v);
	old_mode = timer_mode(a);
	value &= lvt_bits[entry];
	if (!(a->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	a->lvt[entry] = value;
	if (entry == LVT_TIMER && timer_mode(a) != old_mode) {
		/* To and from deadline mode disarms; one-shot and periodic only differ at expiry. */
		if (old_mode == TIMER_DEADLINE || timer_mode(a) == TIMER_DEADLINE) {
			a->deadline_msr = 0;
			arm(v, SOFT_NEVER);
		}
		a->period = timer_mode(a) == TIMER_PERIODIC ? count_to_tsc(v, a->tmict) : 0;
		if (a->period && a->period < soft_vm_of(v)->tsc_hz / PERIOD_MIN_HZ)
			a->period = soft_vm_of(v)->tsc_hz / PERIOD_MIN_HZ;
	}
	soft_events_recheck(v); /* LINT0 may let the PIC through now */
}

static void write_svr(struct soft_vcpu *v, uint32_t value)
{
	struct soft_lapic *a = v->lapic;

	a->svr = value & 0x3ff;
	if (!(value & SVR_ENABLE))
		for (unsigned i = 0; i < LVT_COUNT; i++)
			a->lvt[i] |= LVT_MASKED;
}

/* False: no such register, or it cannot be written. */
static bool write_register(struct soft_vcpu *v, unsigned offset, uint32_t value)
{
	struct soft_lapic *a = v->lapic;

	switch (offset) {
	case APIC_TPR:
		a->tpr = value & 0xff;
		soft_events_recheck(v);
		return true;
	case APIC_EOI:
		soft_lapic_eoi(v);
		return true;
	case APIC_SVR:
		write_svr(v, value);
		return true;
	case APIC_ESR:
		a->esr = atomic_exchange(&a->errors, 0);
		return true;
	case APIC_LVT ... APIC_LVT + 0x50:
		write_lvt(v, (offset - APIC_LVT) >> 4, value);
		return true;
	case APIC_TMICT:
		if (timer_mode(a) != TIMER_DEADLINE) {
			a->tmict = value;
			start_count(v, value);
		}
		return true;
	case APIC_TDCR:
		a->tdcr = value & 0xb;
		return true;
	default:
		return false;
	}
}

/* Registers that only xAPIC mode writes, or writes in another form. */
static bool write_xapic(struct soft_vcpu *v, unsigned offset, uint32_t value)
{
	struct soft_lapic *a = v->lapic;

	switch (offset) {
	case APIC_ID: /* fixed here, as on current processors */
		return true;
	case APIC_LDR:
		a->ldr = value & 0xff000000u;
		return true;
	case APIC_DFR:
		a->dfr = value | 0x0fffffffu;
		return true;
	case APIC_ICR2:
		a->icr2 = value & 0xff000000u;
		return true;
	case APIC_ICR:
		a->icr = value & ~(1u << 12);
		soft_apic_send_icr(v, a->icr, a->icr2 >> 24);
		return true;
	default:
		return write_register(v, offset, value);
	}
}

int soft_lapic_mmio(struct soft_vcpu *v, uint32_t offset, unsigned size, bool write, uint64_t *data)
{
	unsigned shift = offset % 16 * 8;
	bool whole = size == 4 && !shift;

	if (!write) {
		uint64_t value = soft_lapic_read(v, offset & ~15u);

		*data = shift < 32 ? value >> shift : 0;
		return SOFT_OK;
	}
	if (whole && !write_xapic(v, offset, (uint32_t)*data)) {
		if (!(atomic_fetch_or(&v->lapic->errors, 1u << 7) & 1u << 7))
			soft_lapic_fire(v, LVT_ERROR);
	}
	return SOFT_OK;
}

/* --- MSRs ----------------------------------------------------------------------------------- */

static bool x2_readable(unsigned offset)
{
	switch (offset) {
	case APIC_ID: case APIC_VERSION: case APIC_TPR: case APIC_PPR: case APIC_LDR: case APIC_SVR:
	case APIC_ISR ... APIC_ISR + 0x70: case APIC_TMR ... APIC_TMR + 0x70:
	case APIC_IRR ... APIC_IRR + 0x70: case APIC_ESR: case APIC_ICR:
	case APIC_LVT ... APIC_LVT + 0x50: case APIC_TMICT: case APIC_TMCCT: case APIC_TDCR:
		return true;
	default:
		return false;
	}
}

/* Bits that may be set in a write in x2APIC mode. */
static uint32_t x2_writable(unsigned offset)
{
	switch (offset) {
	case APIC_TPR: return 0xff;
	case APIC_SVR: return 0x3ff;
	case APIC_LVT ... APIC_LVT + 0x50:
		return lvt_bits[(offset - APIC_LVT) >> 4] | 1u << 12 | 1u << 14;
	case APIC_TMICT: return UINT32_MAX;
	case APIC_TDCR: return 0xb;
	default: return 0; /* EOI, ESR: only 0 */
	}
}

static int x2_msr(struct soft_vcpu *v, unsigned offset, bool write, uint64_t *value)
{
	struct soft_lapic *a = v->lapic;

	if (!x2(v))
		return soft_raise_error(v, EXC_GP, 0);
	if (!write) {
		if (!x2_readable(offset))
			return soft_raise_error(v, EXC_GP, 0);
		*value = soft_lapic_read(v, offset);
		if (offset == APIC_ICR)
			*value |= (uint64_t)a->icr2 << 32;
		return SOFT_OK;
	}
	if (offset == APIC_ICR) {
		if (*value & 0xfff32000u)
			return soft_raise_error(v, EXC_GP, 0);
		a->icr = (uint32_t)*value & ~(1u << 12);
		a->icr2 = (uint32_t)(*value >> 32);
		soft_apic_send_icr(v, a->icr, a->icr2);
		return SOFT_OK;
	}
	if (offset == APIC_SELF_IPI) {
		if (*value & ~0xffull)
			return soft_raise_error(v, EXC_GP, 0);
		soft_apic_send_icr(v, 1u << 18 | (uint32_t)*value, 0);
		return SOFT_OK;
	}
	if (*value & ~(uint64_t)x2_writable(offset) || !write_register(v, offset, (uint32_t)*value))
		return soft_raise_error(v, EXC_GP, 0);
	return SOFT_OK;
}

static int set_base(struct soft_vcpu *v, uint64_t value)
{
	uint64_t old = v->apic_base, changed = old ^ value;
	unsigned was = old >> 10 & 3, now = value >> 10 & 3;

	/* EN=bit 1, EXTD=bit 0 of the two: 1 is invalid; 3 only from 2 or itself, 2 not from 3. */
	if ((value & 0x2ff) || (value & v->pa_reserved) ||
	    value >> 52 || now == 1 || (now == 3 && was == 0) || (now == 2 && was == 3))
		return soft_raise_error(v, EXC_GP, 0);
	v->apic_base = value;
	if (was && !now)
		soft_lapic_reset(v);
	if (now == 3 && was != 3)
		v->lapic->ldr = v->v.id >> 4 << 16 | 1u << (v->v.id & 15);
	/* The page at the base is RAM or registers depending on it. */
	if (changed & ~(uint64_t)APIC_BASE_BSP)
		soft_tlb_flush_all(v);
	soft_events_recheck(v);
	return SOFT_OK;
}

int soft_lapic_msr(struct soft_vcpu *v, uint32_t index, bool write, uint64_t *value)
{
	switch (index) {
	case 0x1b:
		if (write)
			return set_base(v, *value);
		*value = v->apic_base;
		return SOFT_OK;
	case 0x6e0:
		if (write)
			set_deadline(v, *value);
		else
			*value = timer_mode(v->lapic) == TIMER_DEADLINE ? v->lapic->deadline_msr : 0;
		return SOFT_OK;
	case 0x800 ... 0x8ff:
		return x2_msr(v, (index - 0x800) << 4, write, value);
	default:
		return soft_raise_error(v, EXC_GP, 0);
	}
}

/* --- reset and saved state ------------------------------------------------------------------ */

void soft_lapic_reset(struct soft_vcpu *v)
{
	struct soft_lapic *a = v->lapic;

	a->tpr = a->esr = a->icr = a->icr2 = a->tmict = a->tdcr = 0;
	a->svr = 0xff;
	a->dfr = UINT32_MAX;
	a->ldr = x2(v) ? v->v.id >> 4 << 16 | 1u << (v->v.id & 15) : 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		a->lvt[i] = LVT_MASKED;
	/* The firmware's usual gift: the boot processor hears the PIC ("virtual wire"). */
	if (!v->v.id) {
		a->lvt[LVT_LINT0] = APIC_EXTINT << 8;
		a->lvt[LVT_LINT1] = APIC_NMI << 8;
	}
	atomic_store(&a->errors, 0);
	for (unsigned i = 0; i < 4; i++) {
		atomic_store(&a->irr[i], 0);
		atomic_store(&a->tmr[i], 0);
		atomic_store(&v->eoi_exits[i], 0);
		a->isr[i] = 0;
	}
	a->deadline_msr = 0;
	a->period = 0;
	a->expires = SOFT_NEVER;
}

void soft_lapic_get_page(struct soft_vcpu *v, uint8_t page[1024])
{
	soft_zero(page, 1024);
	for (unsigned offset = 0; offset < 1024; offset += 16) {
		uint32_t value = soft_lapic_read(v, offset);

		soft_copy(page + offset, &value, sizeof(value));
	}
}

static uint32_t page_word(const uint8_t page[1024], unsigned offset)
{
	uint32_t value;

	soft_copy(&value, page + offset, sizeof(value));
	return value;
}

static uint64_t page_map(const uint8_t page[1024], unsigned offset, unsigned i)
{
	return page_word(page, offset + i * 32) |
	       (uint64_t)page_word(page, offset + i * 32 + 16) << 32;
}

void soft_lapic_set_page(struct soft_vcpu *v, const uint8_t page[1024])
{
	struct soft_lapic *a = v->lapic;

	a->tpr = page_word(page, APIC_TPR) & 0xff;
	a->svr = page_word(page, APIC_SVR) & 0x3ff;
	a->ldr = x2(v) ? v->v.id >> 4 << 16 | 1u << (v->v.id & 15) :
			 page_word(page, APIC_LDR) & 0xff000000u;
	a->dfr = page_word(page, APIC_DFR) | 0x0fffffffu;
	a->esr = page_word(page, APIC_ESR) & 0xff;
	a->icr = page_word(page, APIC_ICR) & ~(1u << 12);
	a->icr2 = page_word(page, APIC_ICR2);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		a->lvt[i] = page_word(page, APIC_LVT + i * 16) & lvt_bits[i];
	a->tmict = page_word(page, APIC_TMICT);
	a->tdcr = page_word(page, APIC_TDCR) & 0xb;
	for (unsigned i = 0; i < 4; i++) {
		/* Vectors 0..15 do not exist. */
		uint64_t mask = i ? ~0ull : ~0xffffull;

		a->isr[i] = page_map(page, APIC_ISR, i) & mask;
		atomic_store(&a->tmr[i], page_map(page, APIC_TMR, i) & mask);
		atomic_store(&a->irr[i], page_map(page, APIC_IRR, i) & mask);
	}
	a->deadline_msr = 0;
	start_count(v, a->tmict);
	if (timer_mode(a) != TIMER_DEADLINE && page_word(page, APIC_TMCCT))
		arm(v, __builtin_ia32_rdtsc() + count_to_tsc(v, page_word(page, APIC_TMCCT)));
	else if (timer_mode(a) == TIMER_ONESHOT)
		arm(v, SOFT_NEVER); /* it had expired */
	soft_request(v, SOFT_REQ_EVENT);
}
