/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_apic.c - the virtual APIC of a VMX guest (SDM 3C chapter 29), its preemption timer. GENERAL. */
#include "vmx-driver/soft/vmx_apic.h"

#include "vmx-driver/soft/lapic.h"

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

uint32_t soft_vmx_get_tpr(struct soft_vcpu *v)
{
	const uint8_t *p = register_at(v, APIC_TPR, false);

	return p ? __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED) : 0;
}

/* 29.1.2 */
static void check_threshold(struct soft_vcpu *v, uint32_t tpr)
{
	if ((tpr >> 4 & 15) >= (v->vmx.vmcs.tpr_threshold & 15))
		return;
	v->vmx.tpr_exit = true;
	atomic_fetch_or(&v->exit_req, SOFT_REQ_EVENT);
}

void soft_vmx_set_tpr(struct soft_vcpu *v, uint32_t tpr)
{
	uint8_t *p = register_at(v, APIC_TPR, true);

	if (p)
		__atomic_store_n((uint32_t *)p, tpr & 0xff, __ATOMIC_RELAXED);
	check_threshold(v, tpr);
}

void soft_vmx_tpr_begin(struct soft_vcpu *v)
{
	v->vmx.tpr_exit = false;
	if (soft_vmx_proc(v, PROC_TPR_SHADOW) && soft_vmx_proc2(v, PROC2_APIC_ACCESS))
		check_threshold(v, soft_vmx_get_tpr(v));
}

int soft_vmx_apic_exit(struct soft_vcpu *v, uint64_t la, uint64_t gpa, enum soft_apic_access type)
{
	(void)soft_vmx_exit(v, REASON_APIC_ACCESS, (gpa & 0xfff) | (uint32_t)type << 12);
	v->vmexit.gla = la;
	return SOFT_VMEXIT;
}

int soft_vmx_apic_access(struct soft_vcpu *v, uint64_t la, uint64_t gpa, uint8_t *buf, unsigned n,
			 bool write)
{
	unsigned offset = gpa & 0xfff;
	uint32_t tpr;

	if (!soft_vmx_proc(v, PROC_TPR_SHADOW) || offset < APIC_TPR || offset + n > APIC_TPR + 4) {
		if (v->vmx.idt_event)
			return soft_vmx_apic_exit(v, la, gpa, APIC_ACCESS_DELIVERY);
		return soft_vmx_apic_exit(v, la, gpa, write ? APIC_ACCESS_WRITE : APIC_ACCESS_READ);
	}
	tpr = soft_vmx_get_tpr(v);
	if (write) {
		soft_copy((uint8_t *)&tpr + (offset - APIC_TPR), buf, n);
		soft_vmx_set_tpr(v, tpr);
	} else {
		soft_copy(buf, (const uint8_t *)&tpr + (offset - APIC_TPR), n);
	}
	return SOFT_OK;
}

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
