/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx_virq.c - virtual interrupts of a VMX guest: their priorities, delivery, end and posting (SDM 3C
 * 29.1.3 - 29.2, 29.6). GENERAL.
 */
#include "vmx-driver/soft/vmx_apic.h"

#include "vmx-driver/soft/lapic.h"

enum { STATUS_RVI = 0xff, STATUS_SVI_SHIFT = 8 };

/* The guest interrupt status: vectors requested and in service, 0: none. */
static unsigned rvi(const struct soft_vcpu *v)
{
	return v->vmx.vmcs.guest_interrupt_status & STATUS_RVI;
}

static unsigned svi(const struct soft_vcpu *v)
{
	return v->vmx.vmcs.guest_interrupt_status >> STATUS_SVI_SHIFT;
}

static void set_status(struct soft_vcpu *v, unsigned requested, unsigned in_service)
{
	v->vmx.vmcs.guest_interrupt_status =
		(uint16_t)(requested | in_service << STATUS_SVI_SHIFT);
}

/* --- the 256 bits at VIRR and VISR: 32 of them every 16 bytes --------------------------------- */

static void change_bit(struct soft_vcpu *v, unsigned map, unsigned vector, bool on)
{
	unsigned offset = map + vector / 32 * 16;
	uint32_t word = soft_vapic_get(v, offset), bit = 1u << vector % 32;

	soft_vapic_set(v, offset, on ? word | bit : word & ~bit);
}

/* Highest bit set, 0 if there is none: vector 0 cannot be told apart, here as on a processor. */
static unsigned highest(struct soft_vcpu *v, unsigned map)
{
	for (unsigned i = 8; i-- > 0;) {
		uint32_t word = soft_vapic_get(v, map + i * 16);

		if (word)
			return i * 32 + 31 - (unsigned)__builtin_clz(word);
	}
	return 0;
}

/* --- priorities ----------------------------------------------------------------------------- */

static unsigned class_of(uint32_t priority)
{
	return priority >> 4 & 15;
}

static void evaluate(struct soft_vcpu *v)
{
	v->vmx.virtual_pending = !(v->vmx.proc & PROC_INTERRUPT_WINDOW) &&
				 class_of(rvi(v)) > class_of(soft_vapic_get(v, APIC_PPR));
	if (v->vmx.virtual_pending)
		atomic_fetch_or(&v->exit_req, SOFT_REQ_EVENT);
}

static void update_ppr(struct soft_vcpu *v)
{
	uint32_t tpr = soft_vapic_get(v, APIC_TPR) & 0xff;

	soft_vapic_set(v, APIC_PPR, class_of(tpr) >= class_of(svi(v)) ? tpr : svi(v) & 0xf0);
}

void soft_virq_priority(struct soft_vcpu *v)
{
	update_ppr(v);
	evaluate(v);
}

/* --- requests ------------------------------------------------------------------------------- */

void soft_virq_request(struct soft_vcpu *v, unsigned vector)
{
	change_bit(v, APIC_IRR, vector, true);
	set_status(v, vector > rvi(v) ? vector : rvi(v), svi(v));
	evaluate(v);
}

unsigned soft_virq_take(struct soft_vcpu *v)
{
	unsigned vector = rvi(v);

	change_bit(v, APIC_ISR, vector, true);
	soft_vapic_set(v, APIC_PPR, vector & 0xf0);
	change_bit(v, APIC_IRR, vector, false);
	set_status(v, highest(v, APIC_IRR), vector);
	v->vmx.virtual_pending = false;
	return vector;
}

void soft_virq_end(struct soft_vcpu *v)
{
	unsigned vector = svi(v);

	change_bit(v, APIC_ISR, vector, false);
	set_status(v, rvi(v), highest(v, APIC_ISR));
	update_ppr(v);
	if (v->vmx.vmcs.eoi_exit[vector / 64] >> vector % 64 & 1)
		soft_vmx_apic_trap(v, REASON_EOI, vector);
	else
		evaluate(v);
}

/* --- posted interrupts ---------------------------------------------------------------------- */

#define DESCRIPTOR_ON 32 /* byte: bit 0, outstanding notification */

bool soft_virq_posted(struct soft_vcpu *v, unsigned vector)
{
	uint64_t at = v->vmx.vmcs.posted_descriptor;
	uint64_t *words;
	unsigned best = 0;

	if (!soft_vmx_pin(v, PIN_POSTED) || vector != v->vmx.vmcs.posted_vector)
		return false;
	soft_lapic_eoi(v);
	words = (uint64_t *)(void *)soft_gpa_ptr(v, at, true);
	if (!words)
		return true;
	__atomic_fetch_and((uint8_t *)words + DESCRIPTOR_ON, (uint8_t)~1u, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t word = __atomic_exchange_n(&words[i], 0, __ATOMIC_SEQ_CST);

		for (; word; word &= word - 1) {
			best = i * 64 + (unsigned)__builtin_ctzll(word);
			change_bit(v, APIC_IRR, best, true);
		}
	}
	if (soft_code_overlaps(soft_vm_of(v), at, 64))
		soft_code_written(soft_vm_of(v), v, at, 64);
	set_status(v, best > rvi(v) ? best : rvi(v), svi(v));
	evaluate(v);
	return true;
}
