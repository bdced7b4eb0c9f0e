/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_apic.c - the virtual APIC of a VMX guest (SDM 3C chapter 29), its preemption timer. GENERAL. */
#include "vmx-driver/soft/vmx_apic.h"

#include "vmx-driver/soft/lapic.h"
#include "vmx-driver/soft/sys.h"

/* IA32_VMX_MISC: the timer counts the TSC's bit of that number. */
static unsigned timer_shift(const struct soft_vcpu *v)
{
	return soft_vmx_caps(v)->misc & 31;
}

/* A register on the virtual-APIC page; NULL where no memory is. */
static uint8_t *register_at(struct soft_vcpu *v, unsigned offset, bool write)
{
	uint64_t page = v->vmx.vmcs.virtual_apic & ~0xfffull;
	uint8_t *p = soft_gpa_ptr(v, page + offset, write);

	if (p && write && soft_code_overlaps(soft_vm_of(v), page + offset, 4))
		soft_code_written(soft_vm_of(v), v, page + offset, 4);
	return p;
}

uint32_t soft_vapic_get(struct soft_vcpu *v, unsigned offset)
{
	const uint8_t *p = register_at(v, offset, false);

	return p ? __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED) : 0;
}

void soft_vapic_set(struct soft_vcpu *v, unsigned offset, uint32_t value)
{
	uint8_t *p = register_at(v, offset, true);

	if (p)
		__atomic_store_n((uint32_t *)(void *)p, value, __ATOMIC_RELAXED);
}

void soft_vmx_apic_trap(struct soft_vcpu *v, uint32_t reason, uint64_t qualification)
{
	v->vmx.trap_reason = reason;
	v->vmx.trap_qualification = qualification;
	atomic_fetch_or(&v->exit_req, SOFT_REQ_EVENT);
}

uint32_t soft_vmx_get_tpr(struct soft_vcpu *v)
{
	return soft_vapic_get(v, APIC_TPR);
}

/* 29.1.2 */
static void tpr_changed(struct soft_vcpu *v, uint32_t tpr)
{
	if (v->vmx.proc2 & PROC2_INTERRUPT_DELIVERY)
		soft_virq_priority(v);
	else if ((tpr >> 4 & 15) < (v->vmx.vmcs.tpr_threshold & 15))
		soft_vmx_apic_trap(v, REASON_TPR, 0);
}

void soft_vmx_set_tpr(struct soft_vcpu *v, uint32_t tpr)
{
	soft_vapic_set(v, APIC_TPR, tpr & 0xff);
	tpr_changed(v, tpr);
}

void soft_vmx_tpr_begin(struct soft_vcpu *v)
{
	v->vmx.trap_reason = 0;
	v->vmx.virtual_pending = v->vmx.virtual_taken = false;
	if (soft_vmx_proc2(v, PROC2_INTERRUPT_DELIVERY))
		soft_virq_priority(v);
	else if (soft_vmx_proc(v, PROC_TPR_SHADOW) && soft_vmx_proc2(v, PROC2_APIC_ACCESS))
		tpr_changed(v, soft_vmx_get_tpr(v));
}

int soft_vmx_apic_exit(struct soft_vcpu *v, uint64_t la, uint64_t gpa, enum soft_apic_access type)
{
	(void)soft_vmx_exit(v, REASON_APIC_ACCESS, (gpa & 0xfff) | (uint32_t)type << 12);
	v->vmexit.gla = la;
	return SOFT_VMEXIT;
}

/* Which registers the processor serves, a bit for each 16 bytes of the first 1024 (29.4.2, 29.4.3). */
#define REGISTER(offset) (1ull << ((offset) >> 4))
#define SERVED_ALWAYS REGISTER(APIC_TPR)
#define SERVED_DELIVERY (REGISTER(APIC_EOI) | REGISTER(APIC_ICR)) /* writes */
#define SERVED_WRITES \
	(REGISTER(APIC_ID) | REGISTER(APIC_TPR) | REGISTER(APIC_EOI) | REGISTER(APIC_LDR) | \
	 REGISTER(APIC_DFR) | REGISTER(APIC_SVR) | REGISTER(APIC_ESR) | REGISTER(APIC_ICR) | \
	 REGISTER(APIC_ICR2) | 0x3full << (APIC_LVT >> 4) | REGISTER(APIC_TMICT) | \
	 REGISTER(APIC_TDCR))
#define SERVED_READS \
	(SERVED_WRITES | REGISTER(APIC_VERSION) | 0xffull << (APIC_ISR >> 4) | \
	 0xffull << (APIC_TMR >> 4) | 0xffull << (APIC_IRR >> 4))

static bool served(const struct soft_vcpu *v, unsigned offset, unsigned n, bool write)
{
	uint64_t set = SERVED_ALWAYS;

	if (!soft_vmx_proc(v, PROC_TPR_SHADOW) || offset % 16 + n > 4 || offset >= 1024)
		return false;
	if (write && soft_vmx_proc2(v, PROC2_INTERRUPT_DELIVERY))
		set |= SERVED_DELIVERY;
	if (soft_vmx_proc2(v, PROC2_APIC_REGISTERS))
		set |= write ? SERVED_WRITES : SERVED_READS;
	return set & REGISTER(offset);
}

/* An interrupt to itself that needs nothing of the real APIC: edge, fixed, a vector above 15. */
static bool is_self_ipi(uint32_t icr)
{
	return (icr & 0xffffb700u) == 1u << 18 && (icr & 0xf0);
}

/* What follows a write that went to the virtual-APIC page (29.4.3.2). */
static void written(struct soft_vcpu *v, unsigned offset)
{
	bool delivery = soft_vmx_proc2(v, PROC2_INTERRUPT_DELIVERY);

	switch (offset & ~15u) {
	case APIC_TPR:
		soft_vmx_set_tpr(v, soft_vmx_get_tpr(v) & 0xff);
		return;
	case APIC_EOI:
		if (!delivery)
			break;
		soft_vapic_set(v, APIC_EOI, 0);
		soft_virq_end(v);
		return;
	case APIC_ICR:
		if (!delivery || !is_self_ipi(soft_vapic_get(v, APIC_ICR)))
			break;
		soft_virq_request(v, soft_vapic_get(v, APIC_ICR) & 0xff);
		return;
	case APIC_ICR2:
		soft_vapic_set(v, APIC_ICR2, soft_vapic_get(v, APIC_ICR2) & 0xff000000u);
		return;
	default:
		break;
	}
	soft_vmx_apic_trap(v, REASON_APIC_WRITE, offset & 0xff0);
}

int soft_vmx_apic_access(struct soft_vcpu *v, uint64_t la, uint64_t gpa, uint8_t *buf, unsigned n,
			 bool write)
{
	unsigned offset = gpa & 0xfff;
	uint32_t value;

	if (!served(v, offset, n, write)) {
		if (v->vmx.idt_event)
			return soft_vmx_apic_exit(v, la, gpa, APIC_ACCESS_DELIVERY);
		return soft_vmx_apic_exit(v, la, gpa, write ? APIC_ACCESS_WRITE : APIC_ACCESS_READ);
	}
	value = soft_vapic_get(v, offset & ~15u);
	if (write) {
		soft_copy((uint8_t *)&value + offset % 16, buf, n);
		soft_vapic_set(v, offset & ~15u, value);
		written(v, offset);
	} else {
		soft_copy(buf, (const uint8_t *)&value + offset % 16, n);
	}
	return SOFT_OK;
}

/* --- x2APIC mode ---------------------------------------------------------------------------- */

#define X2APIC_FIRST 0x800u
#define X2APIC_LAST 0x8ffu

int soft_vmx_x2apic_read(struct soft_vcpu *v, uint32_t msr, uint64_t *ret_value)
{
	unsigned offset = (msr & 0xff) << 4;

	if (!soft_vmx_proc2(v, PROC2_X2APIC) || msr < X2APIC_FIRST || msr > X2APIC_LAST ||
	    (offset != APIC_TPR && !soft_vmx_proc2(v, PROC2_APIC_REGISTERS)))
		return SOFT_AGAIN;
	*ret_value = soft_vapic_get(v, offset) | (uint64_t)soft_vapic_get(v, offset + 4) << 32;
	return SOFT_OK;
}

int soft_vmx_x2apic_write(struct soft_vcpu *v, uint32_t msr, uint64_t value)
{
	unsigned offset = (msr & 0xff) << 4;

	if (!soft_vmx_proc2(v, PROC2_X2APIC) || msr < X2APIC_FIRST || msr > X2APIC_LAST ||
	    (offset != APIC_TPR && !soft_vmx_proc2(v, PROC2_INTERRUPT_DELIVERY)))
		return SOFT_AGAIN;
	switch (offset) {
	case APIC_TPR:
	case APIC_SELF_IPI:
		if (value >> 8)
			return sys_gp0(v);
		break;
	case APIC_EOI:
		if (value)
			return sys_gp0(v);
		break;
	default:
		return SOFT_AGAIN;
	}
	soft_vapic_set(v, offset, (uint32_t)value);
	soft_vapic_set(v, offset + 4, 0);
	if (offset == APIC_TPR)
		tpr_changed(v, (uint32_t)value);
	else if (offset == APIC_EOI)
		soft_virq_end(v);
	else if (value & 0xf0)
		soft_virq_request(v, (unsigned)value);
	else
		soft_vmx_apic_trap(v, REASON_APIC_WRITE, APIC_SELF_IPI);
	return SOFT_OK;
}

/* --- preemption timer ----------------------------------------------------------------------- */

void soft_vmx_timer_start(struct soft_vcpu *v)
{
	if (!soft_vmx_pin(v, PIN_TIMER))
		return;
	v->vmx.timer_end = __builtin_ia32_rdtsc() +
			   ((uint64_t)v->vmx.vmcs.preemption_timer << timer_shift(v));
	v->vmx.timer_on = true;
	soft_lapic_timer(v);
}

void soft_vmx_timer_stop(struct soft_vcpu *v)
{
	struct soft_vmcs *c = &v->vmx.vmcs;
	uint64_t now = __builtin_ia32_rdtsc(), left = 0;

	if (!v->vmx.timer_on)
		return;
	v->vmx.timer_on = false;
	if (v->vmx.timer_end > now)
		left = (v->vmx.timer_end - now) >> timer_shift(v);
	if (c->exit_ctls & EXIT_SAVE_TIMER)
		c->preemption_timer = (uint32_t)left;
}
