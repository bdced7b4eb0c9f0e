/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_entry.c - VM entry: loading the guest (SDM 3C 26.3.2 - 26.8) and MSR areas. GENERAL. */
#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* --- MSR areas (26.4, 27.4, 27.6) ----------------------------------------------------------- */

enum {
	MSR_TSC = 0x10, MSR_UCODE_WRITE = 0x79, MSR_SMM_MONITOR = 0x9b, MSR_SMBASE = 0x9e,
	MSR_FS_BASE = 0xc0000100, MSR_GS_BASE = 0xc0000101,
};
/* IA32_VMX_MISC recommends to stay below; what is beyond fails, or a guest could keep its processor
 * in a list for minutes. */
#define MSR_LIST_MAX 512u
struct msr_entry {
	uint32_t index, reserved;
	uint64_t value;
};

static bool index_ok(const struct msr_entry *e)
{
	return !e->reserved && e->index >> 8 != 8 && e->index != MSR_SMM_MONITOR;
}

static bool load_msr(struct soft_vcpu *v, const struct msr_entry *e)
{
	if (!index_ok(e) || e->index == MSR_FS_BASE || e->index == MSR_GS_BASE ||
	    e->index == MSR_UCODE_WRITE)
		return false;
	return sys_write_msr(v, e->index, e->value) == SOFT_OK;
}

unsigned soft_vmx_load_msrs(struct soft_vcpu *v, uint64_t list, uint32_t count)
{
	struct soft_exc kept = v->exc;
	struct msr_entry e;

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = soft_gpa_ptr(v, list + (uint64_t)i * sizeof(e), false);

		if (p)
			soft_copy(&e, p, sizeof(e));
		if (!p || i >= MSR_LIST_MAX || !load_msr(v, &e)) {
			v->exc = kept;
			return i + 1;
		}
	}
	return 0;
}

bool soft_vmx_store_msrs(struct soft_vcpu *v, uint64_t list, uint32_t count, uint64_t tsc)
{
	struct soft_exc kept = v->exc;
	struct msr_entry e;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t at = list + (uint64_t)i * sizeof(e);
		uint8_t *p = soft_gpa_ptr(v, at, true);

		if (p)
			soft_copy(&e, p, sizeof(e));
		if (!p || i >= MSR_LIST_MAX || !index_ok(&e) || e.index == MSR_SMBASE ||
		    sys_read_msr(v, e.index, &e.value) != SOFT_OK) {
			v->exc = kept;
			return false;
		}
		if (e.index == MSR_TSC)
			e.value = tsc;
		soft_copy(p + 8, &e.value, 8);
		if (soft_code_overlaps(soft_vm_of(v), at, sizeof(e)))
			soft_code_written(soft_vm_of(v), v, at, sizeof(e));
	}
	return true;
}

/* --- guest state ---------------------------------------------------------------------------- */

static void load_segments(struct soft_vcpu *v, const struct soft_vmcs *c)
{
	for (unsigned i = SOFT_ES; i <= SOFT_TR; i++) {
		struct vmx_segment *s = &v->seg[i];

		s->selector = c->guest_selector[i];
		s->base = c->guest_base[i];
		s->limit = c->guest_limit[i];
		s->attributes = (uint16_t)(c->guest_rights[i] & 0xf0ff);
		s->unusable = i != SOFT_CS && (c->guest_rights[i] & RIGHTS_UNUSABLE);
	}
	v->gdtr.base = c->guest_gdtr_base;
	v->gdtr.limit = (uint16_t)c->guest_gdtr_limit;
	v->idtr.base = c->guest_idtr_base;
	v->idtr.limit = (uint16_t)c->guest_idtr_limit;
}

static void load_efer(struct soft_vcpu *v, const struct soft_vmcs *c)
{
	if (c->entry_ctls & ENTRY_LOAD_EFER) {
		v->efer = c->guest_efer;
		return;
	}
	v->efer &= ~EFER_LMA;
	if (c->guest_cr0 & CR0_PG)
		v->efer &= ~EFER_LME;
	if (c->entry_ctls & ENTRY_LONG)
		v->efer |= EFER_LMA | EFER_LME;
}

/* Bits of CR0 that neither entry nor exit change: ET, NW, CD and the reserved ones. */
#define CR0_KEPT (CR0_ET | CR0_NW | CR0_CD | 0x1ff80000ull | 1ull << 17 | 0xffc0ull)

static void load_control(struct soft_vcpu *v, const struct soft_vmcs *c)
{
	v->cr0 = (v->cr0 & CR0_KEPT) | (c->guest_cr0 & ~CR0_KEPT);
	v->cr3 = c->guest_cr3;
	v->cr4 = c->guest_cr4;
	if (c->entry_ctls & ENTRY_LOAD_DEBUG) {
		v->dr7 = (c->guest_dr7 & ~0xd000ull) | 0x400;
		v->debugctl = c->guest_debugctl;
	}
	if (c->entry_ctls & ENTRY_LOAD_PAT)
		v->pat = c->guest_pat;
	v->sysenter_cs = c->guest_sysenter_cs;
	v->sysenter_esp = c->guest_sysenter_esp;
	v->sysenter_eip = c->guest_sysenter_eip;
	load_efer(v, c);
}

static void load_pdptes(struct soft_vcpu *v, const struct soft_vmcs *c)
{
	const uint8_t *table;

	if (v->eptp) {
		soft_copy(v->pdpte, c->guest_pdpte, sizeof(v->pdpte));
		return;
	}
	if ((v->efer & EFER_LMA) || (v->cr0 & (CR0_PG | CR0_PE)) != (CR0_PG | CR0_PE) ||
	    !(v->cr4 & CR4_PAE))
		return;
	table = soft_gpa_ptr(v, v->cr3 & 0xffffffe0u, false);
	if (table)
		soft_copy(v->pdpte, table, sizeof(v->pdpte));
}

static void load_activity(struct soft_vcpu *v, const struct soft_vmcs *c)
{
	v->activity = VMX_ACTIVE;
	if (!(c->entry_event & EVENT_VALID) && c->guest_activity == ACTIVITY_HLT)
		v->activity = VMX_HALTED;
	else if (c->guest_activity == ACTIVITY_SIPI)
		v->activity = VMX_WAIT_FOR_SIPI;
	v->shadow = 0;
	if (c->guest_interruptibility & BLOCK_STI)
		v->shadow = SHADOW_STI;
	else if (c->guest_interruptibility & BLOCK_MOV_SS)
		v->shadow = SHADOW_MOV_SS;
	v->nmi_blocked = c->guest_interruptibility & BLOCK_NMI;
}

static unsigned cpl_of(const struct soft_vcpu *v)
{
	if (!(v->cr0 & CR0_PE))
		return 0;
	return (v->rflags & FL_VM) ? 3 : sys_dpl(v->seg[SOFT_SS].attributes);
}

uint16_t soft_vmx_vpid(const struct soft_vcpu *v)
{
	return v->vmx.proc2 & PROC2_VPID ? v->vmx.vmcs.vpid : 0;
}

static void load_guest(struct soft_vcpu *v)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;

	v->vmx.pin = c->pin;
	v->vmx.proc = c->proc;
	v->vmx.proc2 = c->proc & PROC_SECONDARY ? c->proc2 : 0;
	soft_tlb_leave(v, soft_vmx_vpid(v));
	/* Without VPIDs no translation survives an entry; hypervisors that log what becomes dirty count
	 * on guest-physical ones to be forgotten as well. */
	if (!soft_vmx_vpid(v) && (v->vmx.proc2 & PROC2_PML))
		soft_ept_cache_flush(v);
	v->nonroot = true;
	v->eptp = v->vmx.proc2 & PROC2_EPT ? c->eptp : 0;
	load_control(v, c);
	load_pdptes(v, c);
	load_segments(v, c);
	v->gpr[SOFT_RSP] = c->guest_rsp;
	v->rip = v->next_rip = c->guest_rip;
	v->rflags = (c->guest_rflags & FL_ALL & ~(uint64_t)FL_ARITH) | FL_FIXED;
	soft_set_arith(v, c->guest_rflags);
	load_activity(v, c);
	v->vmx.pending_debug = c->guest_pending_debug;
	v->vmx.tsc_offset = v->vmx.proc & PROC_TSC_OFFSET ? c->tsc_offset : 0;
	v->tsc_offset += v->vmx.tsc_offset;
	v->vmx.idt_event = 0;
	v->vmx.inject = 0;
	v->delivering = 0;
	v->cpl = (uint8_t)cpl_of(v);
	soft_tlb_enter(v, soft_vmx_vpid(v));
	soft_update_mode(v);
}

int soft_vmx_enter(struct soft_vcpu *v)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	uint64_t qualification;
	unsigned bad;

	if (!soft_vmx_check_guest(v, &qualification))
		return soft_vmx_entry_failed(v, REASON_BAD_GUEST, qualification);
	load_guest(v);
	bad = soft_vmx_load_msrs(v, c->entry_msr_load, c->entry_load_count);
	if (bad)
		return soft_vmx_entry_failed(v, REASON_BAD_MSR, bad);
	v->vmx.launched = true;
	v->vmx.dirty = true;
	if (c->entry_event & EVENT_VALID)
		v->vmx.inject = c->entry_event;
	soft_vmx_event_enter(v);
	/* The loop injects the event, or looks for others. */
	atomic_fetch_or(&v->exit_req, SOFT_REQ_EVENT);
	return SOFT_AGAIN;
}
