/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_apic.h - the virtual APIC of a VMX guest (SDM 3C chapter 29), its preemption timer. GENERAL. */
#ifndef VMX_SOFT_VMX_APIC_H
#define VMX_SOFT_VMX_APIC_H

#include "vmx-driver/soft/vmx_ops.h"

/* CR8, IA32_X2APIC_TPR and offset 80H, when the TPR shadow is in use: the virtual-APIC page's TPR.
 * A value below the threshold makes an exit before the next instruction. */
uint32_t soft_vmx_get_tpr(struct soft_vcpu *v);
void soft_vmx_set_tpr(struct soft_vcpu *v, uint32_t tpr);

/* MSRs of the x2APIC where "virtualize x2APIC mode" has them go to the virtual-APIC page (29.5).
 * SOFT_OK: it is done; SOFT_EXCEPTION; SOFT_AGAIN: the MSR is the processor's own. */
int soft_vmx_x2apic_read(struct soft_vcpu *v, uint32_t msr, uint64_t *ret_value);
int soft_vmx_x2apic_write(struct soft_vcpu *v, uint32_t msr, uint64_t value);
/* What VM entry finds: the TPR against its threshold, or virtual interrupts (26.7.7, 26.3.2.5). */
void soft_vmx_tpr_begin(struct soft_vcpu *v);
/* A register on the virtual-APIC page; 0 and nothing where no memory is. */
uint32_t soft_vapic_get(struct soft_vcpu *v, unsigned offset);
void soft_vapic_set(struct soft_vcpu *v, unsigned offset, uint32_t value);
/* An exit before the next instruction, because of what this one did to the APIC. */
void soft_vmx_apic_trap(struct soft_vcpu *v, uint32_t reason, uint64_t qualification);

/* --- virtual interrupts (vmx_virq.c); with "virtual-interrupt delivery" only ------------------ */

/* The TPR, or what VM entry loaded, may have changed what is recognized (PPR virtualization). */
void soft_virq_priority(struct soft_vcpu *v);
/* Self-IPI virtualization. */
void soft_virq_request(struct soft_vcpu *v, unsigned vector);
/* The recognized interrupt goes into service: its vector, to be delivered. */
unsigned soft_virq_take(struct soft_vcpu *v);
/* EOI virtualization. */
void soft_virq_end(struct soft_vcpu *v);
/* An acknowledged interrupt of that vector: was it the notification of posted ones (29.6)? Then they
 * are requested now. */
bool soft_virq_posted(struct soft_vcpu *v, unsigned vector);

/* Is that physical address on the APIC-access page? */
static inline bool soft_vmx_apic_page(const struct soft_vcpu *v, uint64_t gpa)
{
	return soft_vmx_proc2(v, PROC2_APIC_ACCESS) &&
	       !((gpa ^ v->vmx.vmcs.apic_access) & 0x000ffffffffff000ull);
}
enum soft_apic_access { /* in the exit qualification, table 27-6 */
	APIC_ACCESS_READ = 0, APIC_ACCESS_WRITE = 1, APIC_ACCESS_FETCH = 2,
	APIC_ACCESS_DELIVERY = 3, APIC_ACCESS_PHYSICAL_DELIVERY = 10, APIC_ACCESS_PHYSICAL = 15,
};
/* An access within that page: done on the virtual-APIC page (SOFT_OK), or SOFT_VMEXIT. */
int soft_vmx_apic_access(struct soft_vcpu *v, uint64_t la, uint64_t gpa, uint8_t *buf, unsigned n,
			 bool write);
/* What may only exit: a fetch, a walk through paging structures there. */
int soft_vmx_apic_exit(struct soft_vcpu *v, uint64_t la, uint64_t gpa, enum soft_apic_access type);

/* The preemption timer (25.5.1): from VM entry to VM exit, when it may have to be stored. */
void soft_vmx_timer_start(struct soft_vcpu *v);
void soft_vmx_timer_stop(struct soft_vcpu *v);
static inline bool soft_vmx_timer_due(const struct soft_vcpu *v)
{
	return v->vmx.timer_on && __builtin_ia32_rdtsc() >= v->vmx.timer_end;
}

#endif
