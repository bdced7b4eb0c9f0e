/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_check_ctls.c - VM entry: checks of the controls and of the host state (SDM 3C 26.2). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* Which vectors of exceptions push an error code. */
#define VECTORS_WITH_ERROR \
	(1u << EXC_DF | 1u << EXC_TS | 1u << EXC_NP | 1u << EXC_SS | 1u << EXC_GP | 1u << EXC_PF | \
	 1u << EXC_AC)

static bool page_ok(const struct soft_vcpu *v, uint64_t gpa)
{
	return soft_vmx_address_ok(v, gpa, VMX_PAGE_SIZE);
}

static bool word_ok(const struct soft_vmx_caps *caps, enum vmx_word word, uint32_t value)
{
	return (value & caps->must[word]) == caps->must[word] && !(value & ~caps->may[word]);
}

bool soft_vmx_eptp_ok(const struct soft_vcpu *v, uint64_t eptp)
{
	unsigned type = eptp & 7;

	return (type == 0 || type == 6) && (eptp >> 3 & 7) == 3 && !(eptp & 0xf80) &&
	       !(eptp & ~sys_cpuid(v)->phys_mask);
}

/* --- execution controls (26.2.1.1) ---------------------------------------------------------- */

static bool apic_ok(struct soft_vcpu *v, const struct soft_vmcs *c, uint32_t proc2)
{
	const uint8_t *page;

	if (!(c->proc & PROC_TPR_SHADOW))
		return !(proc2 & (PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY));
	if (!page_ok(v, c->virtual_apic))
		return false;
	if ((proc2 & PROC2_X2APIC) && (proc2 & PROC2_APIC_ACCESS))
		return false;
	if (proc2 & PROC2_INTERRUPT_DELIVERY)
		return c->pin & PIN_EXTERNAL;
	if (c->tpr_threshold & ~0xfu)
		return false;
	if (proc2 & PROC2_APIC_ACCESS)
		return true;
	page = soft_gpa_ptr(v, c->virtual_apic, false);
	return !page || c->tpr_threshold <= (unsigned)page[0x80] >> 4;
}

static bool proc2_ok(const struct soft_vcpu *v, const struct soft_vmcs *c, uint32_t proc2)
{
	if ((proc2 & PROC2_APIC_ACCESS) && !page_ok(v, c->apic_access))
		return false;
	if ((proc2 & PROC2_VPID) && !c->vpid)
		return false;
	if ((proc2 & PROC2_EPT) && !soft_vmx_eptp_ok(v, c->eptp))
		return false;
	if ((proc2 & PROC2_UNRESTRICTED) && !(proc2 & PROC2_EPT))
		return false;
	if ((proc2 & PROC2_PML) && (!(proc2 & PROC2_EPT) || !page_ok(v, c->pml_address)))
		return false;
	return !(proc2 & PROC2_SHADOW_VMCS) ||
	       (page_ok(v, c->vmread_bitmap) && page_ok(v, c->vmwrite_bitmap));
}

static bool posted_ok(const struct soft_vcpu *v, const struct soft_vmcs *c, uint32_t proc2)
{
	return (proc2 & PROC2_INTERRUPT_DELIVERY) && (c->exit_ctls & EXIT_ACK_INTERRUPT) &&
	       !(c->posted_vector & 0xff00) && soft_vmx_address_ok(v, c->posted_descriptor, 64);
}

static bool execution_ok(struct soft_vcpu *v, const struct soft_vmcs *c, uint32_t proc2)
{
	const struct soft_vmx_caps *caps = soft_vmx_caps(v);

	if (!word_ok(caps, VMX_PIN, c->pin) || !word_ok(caps, VMX_PROC, c->proc) ||
	    !word_ok(caps, VMX_PROC2, proc2))
		return false;
	if (c->cr3_target_count > 4)
		return false;
	if ((c->proc & PROC_IO_BITMAPS) &&
	    (!page_ok(v, c->io_bitmap[0]) || !page_ok(v, c->io_bitmap[1])))
		return false;
	if ((c->proc & PROC_MSR_BITMAPS) && !page_ok(v, c->msr_bitmap))
		return false;
	if (!(c->pin & PIN_NMI) && (c->pin & PIN_VIRTUAL_NMI))
		return false;
	if (!(c->pin & PIN_VIRTUAL_NMI) && (c->proc & PROC_NMI_WINDOW))
		return false;
	if ((c->pin & PIN_POSTED) && !posted_ok(v, c, proc2))
		return false;
	return apic_ok(v, c, proc2) && proc2_ok(v, c, proc2);
}

/* --- exit and entry controls (26.2.1.2, 26.2.1.3) ------------------------------------------- */

static bool msr_area_ok(const struct soft_vcpu *v, uint64_t gpa, uint32_t count)
{
	return !count || (soft_vmx_address_ok(v, gpa, 16) &&
			  !((gpa + (uint64_t)count * 16 - 1) & ~sys_cpuid(v)->phys_mask));
}

static bool exit_ok(const struct soft_vcpu *v, const struct soft_vmcs *c)
{
	if (!word_ok(soft_vmx_caps(v), VMX_EXIT_CTLS, c->exit_ctls))
		return false;
	if (!(c->pin & PIN_TIMER) && (c->exit_ctls & EXIT_SAVE_TIMER))
		return false;
	return msr_area_ok(v, c->exit_msr_store, c->exit_store_count) &&
	       msr_area_ok(v, c->exit_msr_load, c->exit_load_count);
}

static bool event_type_ok(const struct soft_vcpu *v, const struct soft_vmcs *c)
{
	unsigned vector = c->entry_event & EVENT_VECTOR;

	switch (c->entry_event & EVENT_TYPE) {
	case TYPE_EXTERNAL:
		return true;
	case TYPE_NMI:
		return vector == EXC_NMI;
	case TYPE_EXCEPTION:
		return vector < 32;
	case TYPE_SOFT_INT:
	case TYPE_INT1:
	case TYPE_SOFT_EXCEPTION:
		return c->entry_insn_len <= 15 &&
		       (c->entry_insn_len || (soft_vmx_caps(v)->misc & 1u << 30));
	case TYPE_OTHER: /* pending MTF */
		return vector == 0 && soft_vmx_has(soft_vmx_caps(v), VMX_NEED(VMX_PROC, 27));
	default:
		return false;
	}
}

static bool event_ok(const struct soft_vcpu *v, const struct soft_vmcs *c, uint32_t proc2)
{
	uint32_t event = c->entry_event, vector = event & EVENT_VECTOR;
	bool error;

	if (!(event & EVENT_VALID))
		return true;
	if ((event & 0x7ffff000u) || !event_type_ok(v, c))
		return false;
	error = (event & EVENT_TYPE) == TYPE_EXCEPTION && vector < 32 &&
		(VECTORS_WITH_ERROR >> vector & 1) &&
		(!(proc2 & PROC2_UNRESTRICTED) || (c->guest_cr0 & CR0_PE));
	if (error != !!(event & EVENT_ERROR))
		return false;
	return !error || !(c->entry_event_error >> 16);
}

unsigned soft_vmx_check_controls(struct soft_vcpu *v)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	uint32_t proc2 = c->proc & PROC_SECONDARY ? c->proc2 : 0;

	if (!execution_ok(v, c, proc2) || !exit_ok(v, c) ||
	    !word_ok(soft_vmx_caps(v), VMX_ENTRY_CTLS, c->entry_ctls) || !event_ok(v, c, proc2) ||
	    !msr_area_ok(v, c->entry_msr_load, c->entry_load_count))
		return VMERR_CONTROLS;
	return 0;
}

/* --- host state (26.2.2 - 26.2.4) ----------------------------------------------------------- */

bool soft_vmx_pat_ok(uint64_t pat)
{
	for (unsigned i = 0; i < 64; i += 8)
		if (!(0xf3u >> (pat >> i & 0xff & 31) & 1) || (pat >> i & 0xf8))
			return false;
	return true;
}

static bool host_registers_ok(const struct soft_vcpu *v, const struct soft_vmcs *c)
{
	const struct soft_vmx_caps *caps = soft_vmx_caps(v);

	if ((c->host_cr0 & caps->cr0_must) != caps->cr0_must || c->host_cr0 >> 32)
		return false;
	if ((c->host_cr4 & caps->cr4_must) != caps->cr4_must || (c->host_cr4 & ~caps->cr4_may))
		return false;
	if ((c->host_cr3 & ~sys_cpuid(v)->phys_mask) || !sys_canonical(c->host_sysenter_esp) ||
	    !sys_canonical(c->host_sysenter_eip))
		return false;
	return !(c->exit_ctls & EXIT_LOAD_PAT) || soft_vmx_pat_ok(c->host_pat);
}

static bool host_efer_ok(const struct soft_vcpu *v, const struct soft_vmcs *c, bool wide)
{
	uint64_t long_bits = EFER_LMA | EFER_LME;

	if (!(c->exit_ctls & EXIT_LOAD_EFER))
		return true;
	return !(c->host_efer & ~(sys_cpuid(v)->efer_mask | EFER_LMA)) &&
	       (c->host_efer & long_bits) == (wide ? long_bits : 0);
}

static bool host_segments_ok(const struct soft_vmcs *c, bool wide)
{
	for (unsigned i = SOFT_ES; i <= SOFT_GS; i++)
		if (c->host_selector[i] & 7)
			return false;
	if ((c->host_tr_selector & 7) || !c->host_tr_selector || !c->host_selector[SOFT_CS] ||
	    (!wide && !c->host_selector[SOFT_SS]))
		return false;
	return sys_canonical(c->host_fs_base) && sys_canonical(c->host_gs_base) &&
	       sys_canonical(c->host_tr_base) && sys_canonical(c->host_gdtr_base) &&
	       sys_canonical(c->host_idtr_base);
}

static bool host_size_ok(const struct soft_vcpu *v, const struct soft_vmcs *c, bool wide)
{
	if (sys_long(v) != wide)
		return false;
	if (wide)
		return (c->host_cr4 & CR4_PAE) && sys_canonical(c->host_rip);
	return !(c->entry_ctls & ENTRY_LONG) && !(c->host_cr4 & CR4_PCIDE) && !(c->host_rip >> 32);
}

unsigned soft_vmx_check_host(struct soft_vcpu *v)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	bool wide = c->exit_ctls & EXIT_HOST_LONG;

	if (!host_registers_ok(v, c) || !host_efer_ok(v, c, wide) || !host_segments_ok(c, wide) ||
	    !host_size_ok(v, c, wide))
		return VMERR_HOST_STATE;
	return 0;
}
