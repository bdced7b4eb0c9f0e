/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_exit.c - VM exits and VM aborts (SDM 3C chapter 27, 26.8). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

#define CR0_KEPT (CR0_ET | CR0_NW | CR0_CD | 0x1ff80000ull | 1ull << 17 | 0xffc0ull)

/* --- saving the guest (27.3) ---------------------------------------------------------------- */

static void save_segments(const struct soft_vcpu *v, struct soft_vmcs *c)
{
	for (unsigned i = SOFT_ES; i <= SOFT_TR; i++) {
		const struct vmx_segment *s = &v->seg[i];

		c->guest_selector[i] = s->selector;
		c->guest_base[i] = s->base;
		c->guest_limit[i] = s->limit;
		c->guest_rights[i] = s->attributes | (s->unusable ? RIGHTS_UNUSABLE : 0);
	}
	c->guest_gdtr_base = v->gdtr.base;
	c->guest_gdtr_limit = v->gdtr.limit;
	c->guest_idtr_base = v->idtr.base;
	c->guest_idtr_limit = v->idtr.limit;
}

static void save_control(const struct soft_vcpu *v, struct soft_vmcs *c)
{
	c->guest_cr0 = v->cr0;
	c->guest_cr3 = v->cr3;
	c->guest_cr4 = v->cr4;
	if (c->exit_ctls & EXIT_SAVE_DEBUG) {
		c->guest_dr7 = v->dr7;
		c->guest_debugctl = v->debugctl;
	}
	if (c->exit_ctls & EXIT_SAVE_PAT)
		c->guest_pat = v->pat;
	if (c->exit_ctls & EXIT_SAVE_EFER)
		c->guest_efer = v->efer;
	c->guest_sysenter_cs = (uint32_t)v->sysenter_cs;
	c->guest_sysenter_esp = v->sysenter_esp;
	c->guest_sysenter_eip = v->sysenter_eip;
	c->entry_ctls &= ~(uint32_t)ENTRY_LONG;
	if (v->efer & EFER_LMA)
		c->entry_ctls |= ENTRY_LONG;
	if (v->eptp)
		soft_copy(c->guest_pdpte, v->pdpte, sizeof(v->pdpte));
}

static uint32_t interruptibility(const struct soft_vcpu *v)
{
	uint32_t block = v->nmi_blocked ? BLOCK_NMI : 0;

	if (v->shadow == SHADOW_STI && (v->rflags & FL_IF))
		block |= BLOCK_STI;
	else if (v->shadow == SHADOW_MOV_SS)
		block |= BLOCK_MOV_SS;
	return block;
}

static uint32_t activity(const struct soft_vcpu *v)
{
	if (v->activity == VMX_HALTED)
		return ACTIVITY_HLT;
	if (v->activity == VMX_WAIT_FOR_SIPI)
		return ACTIVITY_SIPI;
	return v->activity == VMX_SHUTDOWN_STATE ? ACTIVITY_SHUTDOWN : ACTIVITY_ACTIVE;
}

static void save_guest(struct soft_vcpu *v)
{
	struct soft_vmcs *c = &v->vmx.vmcs;

	save_segments(v, c);
	save_control(v, c);
	c->guest_rsp = v->gpr[SOFT_RSP];
	c->guest_rip = v->rip;
	c->guest_rflags = soft_get_rflags(v);
	c->guest_interruptibility = interruptibility(v);
	c->guest_activity = activity(v);
	c->guest_pending_debug = v->vmx.pending_debug;
	if (v->shadow == SHADOW_MOV_SS && (v->rflags & FL_TF) && v->vmexit.reason != REASON_MTF)
		c->guest_pending_debug |= PENDING_STEP;
}

/* --- what the host is told (27.2) ----------------------------------------------------------- */

/* The instruction of these has a length; of exceptions, the software ones. */
static bool has_length(uint32_t reason, uint32_t event)
{
	switch (reason) {
	case REASON_EXCEPTION:
		return (event & EVENT_TYPE) == TYPE_SOFT_EXCEPTION || (event & EVENT_TYPE) == TYPE_INT1;
	case REASON_EXTERNAL:
	case REASON_TRIPLE_FAULT:
	case REASON_INIT:
	case REASON_SIPI:
	case REASON_INTERRUPT_WINDOW:
	case REASON_NMI_WINDOW:
	case REASON_MTF:
	case REASON_TPR:
	case REASON_EOI:
	case REASON_APIC_WRITE:
	case REASON_TIMER:
		return false;
	default:
		return true;
	}
}

static void tell(struct soft_vcpu *v)
{
	const struct soft_vmexit *x = &v->vmexit;
	struct soft_vmcs *c = &v->vmx.vmcs;
	uint64_t len = v->next_rip - v->rip;
	bool memory = x->reason == REASON_EPT_VIOLATION || x->reason == REASON_EPT_MISCONFIG;

	c->exit_reason = x->reason;
	c->qualification = x->qualification;
	if (v->vmx.nmi_unblocked_by_iret && !v->vmx.idt_event &&
	    (x->reason == REASON_EPT_VIOLATION || x->reason == REASON_PML_FULL))
		c->qualification |= QUALIFY_IRET_UNBLOCKED;
	c->exit_insn_info = x->insn_info;
	c->exit_event = x->event;
	c->exit_event_error = x->event_error;
	c->idt_event = v->vmx.idt_event;
	c->idt_event_error = v->vmx.idt_event & EVENT_ERROR ? v->vmx.idt_error : 0;
	c->exit_insn_len = (has_length(x->reason, x->event) || v->vmx.idt_event) && len <= 15 ?
				   (uint32_t)len : 0;
	if (memory || x->gla)
		c->guest_linear = x->gla;
	if (memory)
		c->guest_physical = x->gpa;
	c->entry_event &= ~EVENT_VALID;
	/* Such an instruction is resumed as after a fault. */
	if ((memory || x->reason == REASON_APIC_ACCESS || x->reason == REASON_PML_FULL) && !v->vmx.idt_event)
		v->rflags |= FL_RF;
}

/* --- loading the host (27.5) ---------------------------------------------------------------- */

static void host_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector, uint64_t base,
			 uint16_t attributes)
{
	struct vmx_segment *s = &v->seg[seg];

	s->selector = selector;
	s->base = base;
	s->limit = 0xffffffffu;
	s->attributes = attributes;
	s->unusable = !selector && seg != SOFT_CS;
}

static void load_host_segments(struct soft_vcpu *v, const struct soft_vmcs *c, bool wide)
{
	const uint16_t common = SEG_P | SEG_S | SEG_G | SEG_RW | SEG_ACCESSED;
	const uint16_t data = common | SEG_DB;
	const uint16_t code = common | SEG_CODE | (wide ? SEG_L : SEG_DB);

	host_segment(v, SOFT_CS, c->host_selector[SOFT_CS], 0, code);
	host_segment(v, SOFT_SS, c->host_selector[SOFT_SS], 0, data);
	host_segment(v, SOFT_DS, c->host_selector[SOFT_DS], 0, data);
	host_segment(v, SOFT_ES, c->host_selector[SOFT_ES], 0, data);
	host_segment(v, SOFT_FS, c->host_selector[SOFT_FS], c->host_fs_base, data);
	host_segment(v, SOFT_GS, c->host_selector[SOFT_GS], c->host_gs_base, data);
	host_segment(v, SOFT_TR, c->host_tr_selector, c->host_tr_base, SEG_P | SYS_TSS32_BUSY);
	v->seg[SOFT_TR].limit = 0x67;
	sys_null_segment(&v->seg[SOFT_LDTR], 0);
	v->gdtr = (struct vmx_table){ .base = c->host_gdtr_base, .limit = 0xffff };
	v->idtr = (struct vmx_table){ .base = c->host_idtr_base, .limit = 0xffff };
}

static void load_host_control(struct soft_vcpu *v, const struct soft_vmcs *c, bool wide)
{
	v->cr0 = (v->cr0 & CR0_KEPT) | (c->host_cr0 & ~CR0_KEPT);
	v->cr3 = c->host_cr3;
	v->cr4 = wide ? c->host_cr4 | CR4_PAE : c->host_cr4 & ~CR4_PCIDE;
	v->dr7 = 0x400;
	v->debugctl = 0;
	v->sysenter_cs = c->host_sysenter_cs;
	v->sysenter_esp = c->host_sysenter_esp;
	v->sysenter_eip = c->host_sysenter_eip;
	if (c->exit_ctls & EXIT_LOAD_EFER)
		v->efer = c->host_efer;
	v->efer &= ~(EFER_LMA | EFER_LME);
	if (wide)
		v->efer |= EFER_LMA | EFER_LME;
	if (c->exit_ctls & EXIT_LOAD_PAT)
		v->pat = c->host_pat;
}

static int vm_abort(struct soft_vcpu *v, enum vmx_abort why)
{
	uint8_t *p = soft_gpa_ptr(v, v->vmx.current, true);

	soft_vmx_flush(v);
	if (p)
		sys_put(p + offsetof(struct soft_vmcs_region, abort), 4, why);
	return SOFT_SHUTDOWN;
}

/* SOFT_AGAIN, or SOFT_SHUTDOWN. was_nmi: an NMI is the reason. */
static int load_host(struct soft_vcpu *v, bool was_nmi)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	bool wide = c->exit_ctls & EXIT_HOST_LONG, wide_guest = v->efer & EFER_LMA;
	uint16_t vpid = soft_vmx_vpid(v);

	soft_tlb_leave(v, vpid);
	v->nonroot = false;
	v->eptp = 0;
	v->tsc_offset -= v->vmx.tsc_offset;
	v->vmx.tsc_offset = 0;
	load_host_control(v, c, wide);
	load_host_segments(v, c, wide);
	v->gpr[SOFT_RSP] = c->host_rsp;
	v->rip = v->next_rip = c->host_rip;
	v->rflags = FL_FIXED;
	soft_set_arith(v, 0);
	v->cpl = 0;
	v->activity = VMX_ACTIVE;
	v->shadow = 0;
	v->exc_pending = false;
	v->delivering = 0;
	v->exit_answered = VMX_EXIT_NONE;
	v->log.count = v->log.next = 0;
	v->vmx.idt_event = v->vmx.inject = 0;
	v->vmx.pending_debug = 0;
	v->vmx.nmi_unblocked_by_iret = false;
	/* With virtual NMIs it was not this processor's own NMIs that were blocked. */
	if (was_nmi)
		v->nmi_blocked = true;
	else if (v->vmx.pin & PIN_VIRTUAL_NMI)
		v->nmi_blocked = false;
	soft_tlb_enter(v, vpid);
	soft_update_mode(v);
	soft_events_recheck(v);
	if (wide_guest && !wide)
		return vm_abort(v, ABORT_HOST_LONG);
	if (!wide && (v->cr4 & CR4_PAE) && sys_load_pdptes(v, v->cr3) != SOFT_OK)
		return vm_abort(v, ABORT_HOST_PDPTE);
	if (soft_vmx_load_msrs(v, c->exit_msr_load, c->exit_load_count))
		return vm_abort(v, ABORT_LOAD_MSR);
	return SOFT_AGAIN;
}

int soft_vmx_leave(struct soft_vcpu *v)
{
	/* The areas' TSC is the processor's own. */
	uint64_t host_tsc = v->vmexit.host_tsc ? v->vmexit.host_tsc : __builtin_ia32_rdtsc();
	uint64_t tsc = host_tsc + v->tsc_offset - v->vmx.tsc_offset;
	struct soft_vmcs *c = &v->vmx.vmcs;
	bool nmi = v->vmexit.reason == REASON_EXCEPTION &&
		   (v->vmexit.event & EVENT_TYPE) == TYPE_NMI;

	if (!soft_nonroot(v)) /* cannot be */
		return SOFT_SHUTDOWN;
	v->vmx.dirty = true;
	tell(v);
	soft_vmx_event_leave(v);
	save_guest(v);
	if (!soft_vmx_store_msrs(v, c->exit_msr_store, c->exit_store_count, tsc)) {
		(void)load_host(v, nmi);
		return vm_abort(v, ABORT_SAVE_MSR);
	}
	return load_host(v, nmi);
}

int soft_vmx_entry_failed(struct soft_vcpu *v, uint32_t reason, uint64_t qualification)
{
	struct soft_vmcs *c = &v->vmx.vmcs;

	c->exit_reason = reason | REASON_ENTRY_FAILED;
	c->qualification = qualification;
	v->vmx.dirty = true;
	return load_host(v, false);
}
