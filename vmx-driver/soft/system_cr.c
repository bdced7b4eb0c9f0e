/* SPDX-License-Identifier: Apache-2.0 */
/* system_cr.c - control and debug registers, reset (SDM 3A 2.5, 9.1, 9.8.5; 3B 17.2). GENERAL. */
#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/pcid.h"
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_apic.h"

#define DR6_FIXED 0xffff0ff0ull
#define DR6_BITS 0xe00full
#define DR6_BD (1ull << 13)
#define DR7_FIXED 0x400ull
#define DR7_BITS 0xffff23ffull
#define DR7_GD (1ull << 13)

void sys_set_flags(struct soft_vcpu *v, uint64_t value, uint64_t mask)
{
	uint64_t old = soft_get_rflags(v);
	uint64_t now = (old & ~mask) | (value & mask & FL_ALL);

	v->rflags = (now & ~(uint64_t)FL_ARITH) | FL_FIXED;
	soft_set_arith(v, now);
	if ((old ^ now) & (FL_TF | FL_AC | FL_VM))
		soft_update_mode(v);
	if ((now & ~old) & FL_IF)
		soft_events_recheck(v);
}

/* --- control registers ---------------------------------------------------------------------- */

int sys_load_pdptes(struct soft_vcpu *v, uint64_t cr3)
{
	uint64_t reserved = (~sys_cpuid(v)->phys_mask & ~(1ull << 63)) | (1ull << 63) | 0x1e6;
	uint64_t entry[4] = { 0 };
	uint8_t *table;
	int rc = soft_guest_phys(v, cr3 & 0xffffffe0u, &table);

	if (rc != SOFT_OK)
		return rc;
	if (table)
		soft_copy(entry, table, sizeof(entry));
	for (unsigned i = 0; i < 4; i++)
		if ((entry[i] & 1) && (entry[i] & reserved))
			return sys_gp0(v);
	for (unsigned i = 0; i < 4; i++)
		v->pdpte[i] = entry[i];
	return SOFT_OK;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* In VMX operation some bits have to stay 1 (SDM 3C 23.8). */
static bool vmx_fixed_ok(const struct soft_vcpu *v, uint64_t value)
{
	uint64_t must = soft_vmx_caps(v)->cr0_must;

	if (soft_vmx_proc2(v, PROC2_UNRESTRICTED))
		must &= ~(CR0_PE | CR0_PG);
	return !v->vmx.on || (value & must) == must;
}

static int write_cr0(struct soft_vcpu *v, uint64_t value)
{
	uint64_t old = v->cr0, efer = v->efer, changed;
	int rc;

	if (value >> 32 || !vmx_fixed_ok(v, value))
		return sys_gp0(v);
	value &= CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |
		 CR0_PG;
	value |= CR0_ET;
	changed = value ^ old;
	if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
		return sys_gp0(v);
	if ((changed & CR0_PG) && (value & CR0_PG) && (efer & EFER_LME)) {
		/* A 16-bit TSS or 64-bit CS can't be there when IA-32e mode begins. */
		if (!(v->cr4 & CR4_PAE) || (v->seg[SOFT_CS].attributes & SEG_L) ||
		    (!v->seg[SOFT_TR].unusable && !(v->seg[SOFT_TR].attributes & 8)))
			return sys_gp0(v);
		efer |= EFER_LMA;
	}
	if ((changed & CR0_PG) && !(value & CR0_PG)) {
		if (sys_code64(v) || (v->cr4 & CR4_PCIDE))
			return sys_gp0(v);
		efer &= ~EFER_LMA;
	}
	if (pae_paging(value, v->cr4, efer) && (changed & (CR0_PG | CR0_CD | CR0_NW))) {
		rc = sys_load_pdptes(v, v->cr3);
		if (rc != SOFT_OK)
			return rc;
	}
	v->cr0 = value;
	v->efer = efer;
	if (changed & (CR0_PE | CR0_WP | CR0_PG))
		soft_tlb_flush(v, false);
	soft_update_mode(v);
	return SOFT_OK;
}

/* Bit 63 of what is moved to CR3 with PCIDs: the new one's translations may stay. */
#define CR3_KEEP (1ull << 63)
#define CR3_PCID 0xfffull

static int write_cr3(struct soft_vcpu *v, uint64_t value)
{
	bool pcids = v->cr4 & CR4_PCIDE, keep = pcids && (value & CR3_KEEP);
	uint16_t from = v->cr3 & CR3_PCID, to = value & CR3_PCID;

	if (keep)
		value &= ~CR3_KEEP;
	if (sys_long(v)) {
		if (value & ~sys_cpuid(v)->phys_mask)
			return sys_gp0(v);
	} else {
		value = (uint32_t)value;
		if (pae_paging(v->cr0, v->cr4, v->efer)) {
			int rc = sys_load_pdptes(v, value);

			if (rc != SOFT_OK)
				return rc;
		}
	}
	v->cr3 = value;
	if (!pcids)
		soft_tlb_flush(v, v->cr4 & CR4_PGE);
	else if (from != to && !v->nonroot)
		soft_pcid_switch(v, from, to, keep);
	else if (from != to || !keep)
		soft_tlb_flush_current(v, v->cr4 & CR4_PGE);
	return SOFT_OK;
}

static int write_cr4(struct soft_vcpu *v, uint64_t value)
{
	uint64_t changed = value ^ v->cr4;
	int rc;

	if ((value & ~sys_cpuid(v)->cr4_mask) || (v->vmx.on && !(value & CR4_VMXE)))
		return sys_gp0(v);
	if (sys_long(v) && !(value & CR4_PAE))
		return sys_gp0(v);
	if ((changed & value & CR4_PCIDE) && (!sys_long(v) || (v->cr3 & CR3_PCID)))
		return sys_gp0(v);
	if (pae_paging(v->cr0, value, v->efer) &&
	    (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP))) {
		rc = sys_load_pdptes(v, v->cr3);
		if (rc != SOFT_OK)
			return rc;
	}
	v->cr4 = value;
	if (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE))
		soft_tlb_flush(v, false);
	soft_update_mode(v);
	return SOFT_OK;
}

int soft_write_cr(struct soft_vcpu *v, unsigned cr, uint64_t value)
{
	switch (cr) {
	case 0:
		return write_cr0(v, value);
	case 2:
		v->cr2 = value;
		return SOFT_OK;
	case 3:
		return write_cr3(v, value);
	case 4:
		return write_cr4(v, value);
	case 8:
		if (value > 15)
			return sys_gp0(v);
		if (soft_vmx_proc(v, PROC_TPR_SHADOW))
			soft_vmx_set_tpr(v, (uint32_t)value << 4);
		else
			soft_lapic_set_cr8(v, value);
		return SOFT_OK;
	default:
		return sys_ud(v);
	}
}

static int read_cr(struct soft_vcpu *v, unsigned cr, uint64_t *ret)
{
	switch (cr) {
	case 0:
		*ret = v->cr0;
		return SOFT_OK;
	case 2:
		*ret = v->cr2;
		return SOFT_OK;
	case 3:
		*ret = v->cr3;
		return SOFT_OK;
	case 4:
		*ret = v->cr4;
		return SOFT_OK;
	case 8:
		if (soft_vmx_proc(v, PROC_TPR_SHADOW))
			*ret = soft_vmx_get_tpr(v) >> 4 & 15;
		else
			*ret = soft_lapic_get_cr8(v);
		return SOFT_OK;
	default:
		return sys_ud(v);
	}
}

/* --- debug registers ------------------------------------------------------------------------ */

static int check_dr(struct soft_vcpu *v, unsigned *dr)
{
	if (*dr > 7)
		return sys_ud(v);
	if (*dr == 4 || *dr == 5) {
		if (v->cr4 & CR4_DE)
			return sys_ud(v);
		*dr += 2;
	}
	if (v->cpl != 0)
		return sys_gp0(v);
	return v->dr7 & DR7_GD ? soft_raise_debug(v, DR6_BD) : SOFT_OK;
}

static int write_dr(struct soft_vcpu *v, unsigned dr, uint64_t value)
{
	if (dr < 4) {
		v->dr[dr] = value;
	} else if (value >> 32) {
		return sys_gp0(v);
	} else if (dr == 6) {
		v->dr6 = (value & DR6_BITS) | DR6_FIXED;
	} else {
		v->dr7 = (value & DR7_BITS) | DR7_FIXED;
	}
	soft_update_mode(v);
	return SOFT_OK;
}

static uint64_t read_dr(const struct soft_vcpu *v, unsigned dr)
{
	return dr < 4 ? v->dr[dr] : dr == 6 ? v->dr6 : v->dr7;
}

/* --- the instructions ----------------------------------------------------------------------- */

static unsigned general_index(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_RAX)
		return (unsigned)(reg - ZYDIS_REGISTER_RAX) & 15;
	return (unsigned)(reg - ZYDIS_REGISTER_EAX) & 15;
}

static bool is_cr(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_CR0 && reg <= ZYDIS_REGISTER_CR15;
}

static bool is_dr(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_DR0 && reg <= ZYDIS_REGISTER_DR15;
}

/* Comes before all faults but those of registers that do not exist. */
static int intercept_dr(struct soft_vcpu *v, unsigned dr, unsigned gpr, bool read)
{
	return soft_nonroot(v) && dr < 8 ? soft_vmx_intercept_dr(v, dr, gpr, read) : SOFT_OK;
}

static int mov_from(struct soft_vcpu *v, ZydisRegister dst, ZydisRegister src)
{
	uint64_t value = 0;
	int rc;

	if (is_cr(src)) {
		if (v->cpl != 0)
			return sys_gp0(v);
		rc = read_cr(v, (unsigned)(src - ZYDIS_REGISTER_CR0), &value);
		if (rc == SOFT_OK && soft_nonroot(v))
			rc = soft_vmx_intercept_cr_read(v, (unsigned)(src - ZYDIS_REGISTER_CR0),
							general_index(dst), &value);
	} else {
		unsigned dr = (unsigned)(src - ZYDIS_REGISTER_DR0);

		rc = intercept_dr(v, dr, general_index(dst), true);
		if (rc == SOFT_OK)
			rc = check_dr(v, &dr);
		if (rc == SOFT_OK)
			value = read_dr(v, dr);
	}
	if (rc != SOFT_OK)
		return rc;
	v->gpr[general_index(dst)] = sys_code64(v) ? value : (uint32_t)value;
	return sys_done(v);
}

static int mov_to(struct soft_vcpu *v, ZydisRegister dst, ZydisRegister src)
{
	uint64_t value = v->gpr[general_index(src)];
	int rc;

	if (!sys_code64(v))
		value = (uint32_t)value;
	if (is_cr(dst)) {
		if (v->cpl != 0)
			return sys_gp0(v);
		rc = SOFT_OK;
		if (soft_nonroot(v))
			rc = soft_vmx_intercept_cr_write(v, (unsigned)(dst - ZYDIS_REGISTER_CR0),
							 general_index(src), &value);
		if (rc == SOFT_OK)
			rc = soft_write_cr(v, (unsigned)(dst - ZYDIS_REGISTER_CR0), value);
	} else {
		unsigned dr = (unsigned)(dst - ZYDIS_REGISTER_DR0);

		rc = intercept_dr(v, dr, general_index(src), false);
		if (rc == SOFT_OK)
			rc = check_dr(v, &dr);
		if (rc == SOFT_OK)
			rc = write_dr(v, dr, value);
	}
	return rc == SOFT_OK ? sys_done(v) : rc;
}

int soft_op_mov_system(struct soft_vcpu *v, const struct soft_insn *insn)
{
	ZydisRegister dst = insn->op[0].reg.value, src = insn->op[1].reg.value;

	if (is_cr(src) || is_dr(src))
		return mov_from(v, dst, src);
	if (is_cr(dst) || is_dr(dst))
		return mov_to(v, dst, src);
	return sys_ud(v);
}

int sys_op_clts(struct soft_vcpu *v, const struct soft_insn *insn)
{
	bool skip = false;

	(void)insn;
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_nonroot(v)) {
		int rc = soft_vmx_intercept_clts(v, &skip);

		if (rc != SOFT_OK)
			return rc;
	}
	if (!skip)
		v->cr0 &= ~CR0_TS;
	soft_update_mode(v);
	return sys_done(v);
}

int sys_op_lmsw(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t value, gla = 0;
	int rc;

	if (v->cpl != 0)
		return sys_gp0(v);
	rc = soft_read_operand(v, insn, 0, &value);
	if (rc == SOFT_OK && soft_nonroot(v) && insn->mem[0] >= 0)
		rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], false, &gla);
	if (rc == SOFT_OK && soft_nonroot(v))
		rc = soft_vmx_intercept_lmsw(v, insn, gla, &value);
	if (rc != SOFT_OK)
		return rc;
	/* PE can be set but not cleared. */
	value = (v->cr0 & ~0xeull) | (value & 0xf);
	rc = write_cr0(v, value);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

int sys_op_smsw(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t value = v->cr0;
	int rc;

	if ((v->cr4 & CR4_UMIP) && v->cpl > 0)
		return sys_gp0(v);
	if (soft_nonroot(v))
		(void)soft_vmx_intercept_cr_read(v, 0, 0, &value);
	rc = soft_write_operand(v, insn, 0, value);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

/* --- reset ---------------------------------------------------------------------------------- */

static void reset_segment(struct soft_vcpu *v, unsigned seg, uint16_t attributes)
{
	v->seg[seg] = (struct vmx_segment){ .limit = 0xffff, .attributes = attributes };
}

/* What INIT leaves alone. */
static void reset_msrs(struct soft_vcpu *v)
{
	v->star = v->lstar = v->cstar = v->fmask = v->kernel_gs_base = v->tsc_aux = 0;
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->pat = 0x0007040600070406ull;
	v->misc_enable = 1; /* fast strings */
	v->spec_ctrl = v->tsc_adjust = v->debugctl = 0;
	v->feature_control = soft_vmx_caps(v)->offered ? 5 : 1; /* locked; VMX outside SMX */
	v->mtrr_deftype = 0;
	for (unsigned i = 0; i < 16; i++)
		v->mtrr_phys[i] = 0;
	for (unsigned i = 0; i < 11; i++)
		v->mtrr_fixed[i] = 0;
}

static void reset_fp(struct soft_vcpu *v)
{
	v->xcr0 = 1;
	if (!v->xsave)
		return;
	if (v->fp_live)
		soft_fp_save(v);
	soft_zero(v->xsave, v->xsave_size);
	sys_put(v->xsave, 2, 0x40);                     /* FCW */
	sys_put(v->xsave + 24, 4, 0x1f80);              /* MXCSR */
	sys_put(v->xsave + 512, 8, 3 & v->xsave_mask);  /* XSTATE_BV */
}

void soft_cpu_reset(struct soft_vcpu *v, bool init)
{
	for (unsigned i = 0; i < 16; i++)
		v->gpr[i] = 0;
	v->gpr[SOFT_RDX] = sys_cpuid(v)->signature;
	v->rip = v->next_rip = 0xfff0;
	v->rflags = FL_FIXED;
	soft_set_arith(v, 0);
	v->cpl = 0;
	for (unsigned seg = SOFT_ES; seg <= SOFT_GS; seg++)
		reset_segment(v, seg, 0x93);
	reset_segment(v, SOFT_LDTR, 0x82);
	reset_segment(v, SOFT_TR, 0x8b);
	v->seg[SOFT_CS].selector = 0xf000;
	v->seg[SOFT_CS].base = 0xffff0000;
	v->seg[SOFT_CS].attributes = 0x9b;
	v->gdtr = v->idtr = (struct vmx_table){ .limit = 0xffff };
	v->cr0 = CR0_ET | (init ? v->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW);
	v->cr2 = v->cr3 = v->cr4 = v->efer = 0;
	for (unsigned i = 0; i < 4; i++)
		v->dr[i] = v->pdpte[i] = 0;
	v->dr6 = DR6_FIXED;
	v->dr7 = DR7_FIXED;
	soft_vmx_reset(v);
	v->delivering = 0;
	v->shadow = 0;
	v->nmi_blocked = false;
	v->exit_answered = VMX_EXIT_NONE;
	v->log.count = v->log.next = 0;
	if (!init) {
		v->pv_time = soft_vm_of(v)->pv_wall = 0;
		reset_msrs(v);
		reset_fp(v);
	}
	soft_tlb_flush_all(v);
	soft_update_mode(v);
}
