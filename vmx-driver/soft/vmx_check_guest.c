/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_check_guest.c - VM entry: checks of the guest state (SDM 3C 26.3.1). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

#define RFLAGS_RESERVED (~0x3fffffull | 1u << 15 | 1u << 5 | 1u << 3)
#define DEBUGCTL_BITS 3u
#define DEBUGCTL_BTF 2u
#define PENDING_BITS (PENDING_STEP | PENDING_BREAKPOINT | PENDING_HITS)
#define RIGHTS_RESERVED 0xfffe0f00u

struct guest {
	const struct soft_vcpu *v;
	const struct soft_vmcs *c;
	bool wide;         /* IA-32e mode */
	bool vm86;
	bool unrestricted;
	uint32_t event;    /* to be injected, 0: none */
};

/* --- control and debug registers, MSRs ------------------------------------------------------ */

static bool efer_ok(const struct guest *g)
{
	uint64_t efer = g->c->guest_efer;

	if (!(g->c->entry_ctls & ENTRY_LOAD_EFER))
		return true;
	if ((efer & ~(sys_cpuid(g->v)->efer_mask | EFER_LMA)) || !!(efer & EFER_LMA) != g->wide)
		return false;
	return !(g->c->guest_cr0 & CR0_PG) || !!(efer & EFER_LME) == g->wide;
}

static bool registers_ok(const struct guest *g)
{
	const struct soft_vmx_caps *caps = soft_vmx_caps(g->v);
	const struct soft_vmcs *c = g->c;
	uint64_t must = caps->cr0_must;

	if (g->unrestricted)
		must &= ~(CR0_PE | CR0_PG);
	if ((c->guest_cr0 & must) != must || c->guest_cr0 >> 32 ||
	    ((c->guest_cr0 & CR0_PG) && !(c->guest_cr0 & CR0_PE)))
		return false;
	if ((c->guest_cr4 & caps->cr4_must) != caps->cr4_must || (c->guest_cr4 & ~caps->cr4_may))
		return false;
	if ((c->entry_ctls & ENTRY_LOAD_DEBUG) &&
	    ((c->guest_debugctl & ~(uint64_t)DEBUGCTL_BITS) || c->guest_dr7 >> 32))
		return false;
	if (g->wide && (!(c->guest_cr0 & CR0_PG) || !(c->guest_cr4 & CR4_PAE)))
		return false;
	if (!g->wide && (c->guest_cr4 & CR4_PCIDE))
		return false;
	if ((c->guest_cr3 & ~sys_cpuid(g->v)->phys_mask) ||
	    !sys_canonical(c->guest_sysenter_esp) || !sys_canonical(c->guest_sysenter_eip))
		return false;
	if ((c->entry_ctls & ENTRY_LOAD_PAT) && !soft_vmx_pat_ok(c->guest_pat))
		return false;
	return efer_ok(g);
}

/* --- segments (26.3.1.2) -------------------------------------------------------------------- */

static bool usable(const struct guest *g, unsigned seg)
{
	return seg == SOFT_CS || !(g->c->guest_rights[seg] & RIGHTS_UNUSABLE);
}

static unsigned type_of(const struct guest *g, unsigned seg)
{
	return g->c->guest_rights[seg] & SEG_TYPE;
}

static unsigned dpl_of(const struct guest *g, unsigned seg)
{
	return sys_dpl(g->c->guest_rights[seg]);
}

static bool granularity_ok(const struct guest *g, unsigned seg)
{
	uint32_t limit = g->c->guest_limit[seg];

	if (g->c->guest_rights[seg] & SEG_G)
		return (limit & 0xfff) == 0xfff;
	return !(limit & 0xfff00000u);
}

static bool vm86_ok(const struct guest *g)
{
	const struct soft_vmcs *c = g->c;

	for (unsigned i = SOFT_ES; i <= SOFT_GS; i++)
		if (c->guest_base[i] != (uint64_t)c->guest_selector[i] << 4 ||
		    c->guest_limit[i] != 0xffff || c->guest_rights[i] != 0xf3)
			return false;
	return true;
}

static bool code_ok(const struct guest *g)
{
	unsigned type = type_of(g, SOFT_CS), dpl = dpl_of(g, SOFT_CS), ss = dpl_of(g, SOFT_SS);
	uint32_t rights = g->c->guest_rights[SOFT_CS];

	switch (type) {
	case 3:
		if (!g->unrestricted || dpl != 0)
			return false;
		break;
	case 9:
	case 11:
		if (dpl != ss)
			return false;
		break;
	case 13:
	case 15:
		if (dpl > ss)
			return false;
		break;
	default:
		return false;
	}
	return !(g->wide && (rights & SEG_L) && (rights & SEG_DB));
}

static bool stack_ok(const struct guest *g)
{
	unsigned type = type_of(g, SOFT_SS), dpl = dpl_of(g, SOFT_SS);

	if (usable(g, SOFT_SS) && type != 3 && type != 7)
		return false;
	if (!g->unrestricted &&
	    ((g->c->guest_selector[SOFT_SS] & 3) != (g->c->guest_selector[SOFT_CS] & 3) ||
	     dpl != (g->c->guest_selector[SOFT_SS] & 3u)))
		return false;
	return dpl == 0 || (type_of(g, SOFT_CS) != 3 && (g->c->guest_cr0 & CR0_PE));
}

static bool data_ok(const struct guest *g, unsigned seg)
{
	unsigned type = type_of(g, seg);

	if (!usable(g, seg))
		return true;
	if (!(type & SEG_ACCESSED) || ((type & SEG_CODE) && !(type & SEG_RW)))
		return false;
	return g->unrestricted || type > 11 ||
	       dpl_of(g, seg) >= (g->c->guest_selector[seg] & 3u);
}

/* What code, stack and data have in common. */
static bool segment_ok(const struct guest *g, unsigned seg)
{
	uint32_t rights = g->c->guest_rights[seg];

	if (!usable(g, seg))
		return true;
	if ((rights & (SEG_S | SEG_P)) != (SEG_S | SEG_P) || (rights & RIGHTS_RESERVED))
		return false;
	if (seg != SOFT_FS && seg != SOFT_GS && g->c->guest_base[seg] >> 32)
		return false;
	return granularity_ok(g, seg);
}

static bool segments_ok(const struct guest *g)
{
	if (g->vm86)
		return vm86_ok(g);
	for (unsigned i = SOFT_ES; i <= SOFT_GS; i++)
		if (!segment_ok(g, i) || (i != SOFT_CS && i != SOFT_SS && !data_ok(g, i)))
			return false;
	return code_ok(g) && stack_ok(g);
}

static bool system_segments_ok(const struct guest *g)
{
	const struct soft_vmcs *c = g->c;
	uint32_t tr = c->guest_rights[SOFT_TR], ldtr = c->guest_rights[SOFT_LDTR];
	unsigned type = tr & SEG_TYPE;

	if ((c->guest_selector[SOFT_TR] & 4) || (type != 11 && (type != 3 || g->wide)) ||
	    (tr & (SEG_S | SEG_P)) != SEG_P || (tr & (RIGHTS_RESERVED | RIGHTS_UNUSABLE)) ||
	    !granularity_ok(g, SOFT_TR))
		return false;
	if (!sys_canonical(c->guest_base[SOFT_TR]) || !sys_canonical(c->guest_base[SOFT_FS]) ||
	    !sys_canonical(c->guest_base[SOFT_GS]))
		return false;
	if (!usable(g, SOFT_LDTR))
		return true;
	return !(c->guest_selector[SOFT_LDTR] & 4) && (ldtr & (SEG_TYPE | SEG_S | SEG_P)) ==
	       (SYS_LDT | SEG_P) && !(ldtr & RIGHTS_RESERVED) && granularity_ok(g, SOFT_LDTR) &&
	       sys_canonical(c->guest_base[SOFT_LDTR]);
}

static bool tables_ok(const struct soft_vmcs *c)
{
	return sys_canonical(c->guest_gdtr_base) && sys_canonical(c->guest_idtr_base) &&
	       !(c->guest_gdtr_limit >> 16) && !(c->guest_idtr_limit >> 16);
}

/* --- RIP, RFLAGS (26.3.1.4) ----------------------------------------------------------------- */

static bool external_event(const struct guest *g)
{
	return g->event && (g->event & EVENT_TYPE) == TYPE_EXTERNAL;
}

static bool nmi_event(const struct guest *g)
{
	return g->event && (g->event & EVENT_TYPE) == TYPE_NMI;
}

static bool rip_ok(const struct guest *g)
{
	uint64_t rip = g->c->guest_rip, top = rip >> 48, flags = g->c->guest_rflags;

	if (!g->wide || !(g->c->guest_rights[SOFT_CS] & SEG_L)) {
		if (rip >> 32)
			return false;
	} else if (top != 0 && top != 0xffff) {
		return false;
	}
	if ((flags & RFLAGS_RESERVED) || !(flags & FL_FIXED))
		return false;
	if (g->vm86 && (g->wide || !(g->c->guest_cr0 & CR0_PE)))
		return false;
	return !external_event(g) || (flags & FL_IF);
}

/* --- what is no register (26.3.1.5) --------------------------------------------------------- */

static bool activity_ok(const struct guest *g)
{
	uint32_t activity = g->c->guest_activity, vector = g->event & EVENT_VECTOR;
	unsigned type = g->event & EVENT_TYPE;

	if (activity == ACTIVITY_ACTIVE)
		return true;
	if (activity > ACTIVITY_SIPI || !(soft_vmx_caps(g->v)->misc >> (5 + activity) & 1))
		return false;
	if (g->c->guest_interruptibility & (BLOCK_STI | BLOCK_MOV_SS))
		return false;
	if (activity == ACTIVITY_SIPI)
		return !g->event;
	if (activity == ACTIVITY_HLT && dpl_of(g, SOFT_SS) != 0)
		return false;
	if (!g->event || nmi_event(g))
		return true;
	if (type == TYPE_EXCEPTION && (vector == EXC_MC || (vector == EXC_DB && activity ==
							    ACTIVITY_HLT)))
		return true;
	return activity == ACTIVITY_HLT && (type == TYPE_EXTERNAL || type == TYPE_OTHER);
}

static bool interruptibility_ok(const struct guest *g, uint64_t *qualification)
{
	uint32_t block = g->c->guest_interruptibility;

	if ((block & ~(uint32_t)BLOCK_ALL) || (block & BLOCK_SMI) ||
	    (block & (BLOCK_STI | BLOCK_MOV_SS)) == (BLOCK_STI | BLOCK_MOV_SS) ||
	    ((block & BLOCK_STI) && !(g->c->guest_rflags & FL_IF)))
		return false;
	if (external_event(g) && (block & (BLOCK_STI | BLOCK_MOV_SS)))
		return false;
	if (!nmi_event(g))
		return true;
	if ((block & BLOCK_NMI) && (g->c->pin & PIN_VIRTUAL_NMI))
		return false;
	if (block & BLOCK_STI)
		*qualification = 3;
	return !(block & (BLOCK_STI | BLOCK_MOV_SS));
}

static bool pending_debug_ok(const struct guest *g)
{
	uint64_t pending = g->c->guest_pending_debug;
	uint64_t debugctl = g->c->entry_ctls & ENTRY_LOAD_DEBUG ? g->c->guest_debugctl :
								   g->v->debugctl;
	bool step = (g->c->guest_rflags & FL_TF) && !(debugctl & DEBUGCTL_BTF);

	if (pending & ~(uint64_t)PENDING_BITS)
		return false;
	if (!(g->c->guest_interruptibility & (BLOCK_STI | BLOCK_MOV_SS)) &&
	    g->c->guest_activity != ACTIVITY_HLT)
		return true;
	return step == !!(pending & PENDING_STEP);
}

static bool link_pointer_ok(struct soft_vcpu *v, const struct guest *g)
{
	uint64_t link = g->c->link_pointer;
	const uint8_t *p;
	uint32_t revision = VMCS_REVISION;

	if (link == VMCS_NONE)
		return true;
	if (!soft_vmx_address_ok(v, link, VMX_PAGE_SIZE) || link == v->vmx.current)
		return false;
	if ((g->c->proc & PROC_SECONDARY) && (g->c->proc2 & PROC2_SHADOW_VMCS))
		revision |= VMCS_SHADOW;
	p = soft_gpa_ptr(v, link, false);
	return p && sys_get(p, 4) == revision;
}

/* PAE paging's four top entries: from the VMCS with EPT, else from memory. */
static bool pdptes_ok(struct soft_vcpu *v, const struct guest *g)
{
	const struct soft_vmcs *c = g->c;
	uint64_t reserved = (~sys_cpuid(v)->phys_mask) | 0x1e6, entry[4] = { 0 };
	const uint8_t *table;

	if (g->wide || !(c->guest_cr0 & CR0_PG) || !(c->guest_cr4 & CR4_PAE))
		return true;
	if ((c->proc & PROC_SECONDARY) && (c->proc2 & PROC2_EPT)) {
		soft_copy(entry, c->guest_pdpte, sizeof(entry));
	} else {
		table = soft_gpa_ptr(v, c->guest_cr3 & 0xffffffe0u, false);
		if (table)
			soft_copy(entry, table, sizeof(entry));
	}
	for (unsigned i = 0; i < 4; i++)
		if ((entry[i] & 1) && (entry[i] & reserved))
			return false;
	return true;
}

bool soft_vmx_check_guest(struct soft_vcpu *v, uint64_t *ret_qualification)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	const struct guest g = {
		.v = v,
		.c = c,
		.wide = c->entry_ctls & ENTRY_LONG,
		.vm86 = c->guest_rflags & FL_VM,
		.unrestricted = (c->proc & PROC_SECONDARY) && (c->proc2 & PROC2_UNRESTRICTED),
		.event = c->entry_event & EVENT_VALID ? c->entry_event : 0,
	};

	*ret_qualification = 0;
	if (!registers_ok(&g) || !segments_ok(&g) || !system_segments_ok(&g) || !tables_ok(c) ||
	    !rip_ok(&g) || !activity_ok(&g) || !interruptibility_ok(&g, ret_qualification) ||
	    !pending_debug_ok(&g))
		return false;
	if (!link_pointer_ok(v, &g)) {
		*ret_qualification = 4;
		return false;
	}
	if (!pdptes_ok(v, &g)) {
		*ret_qualification = 2;
		return false;
	}
	return true;
}
