/* SPDX-License-Identifier: Apache-2.0 */
/* system.c - the other privileged and system instructions. GENERAL. */
#include "vmx-driver/soft/pcid.h"
#include "vmx-driver/soft/pv.h"
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_apic.h"

/* --- flags ---------------------------------------------------------------------------------- */

static bool iopl_ok(const struct soft_vcpu *v)
{
	return !(v->cr0 & CR0_PE) || v->cpl <= sys_iopl(v);
}

int sys_op_cli(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	if (!iopl_ok(v))
		return sys_gp0(v);
	v->rflags &= ~(uint64_t)FL_IF;
	return sys_done(v);
}

int sys_op_sti(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	if (!iopl_ok(v))
		return sys_gp0(v);
	if (!(v->rflags & FL_IF)) {
		v->rflags |= FL_IF;
		v->shadow = SHADOW_STI;
		soft_events_recheck(v);
	}
	return sys_done(v);
}

static int set_ac(struct soft_vcpu *v, uint64_t ac)
{
	if (v->cpl != 0 || sys_vm86(v) || !(sys_cpuid(v)->cr4_mask & CR4_SMAP))
		return sys_ud(v);
	if ((v->rflags & FL_AC) != ac) {
		v->rflags ^= FL_AC;
		soft_update_mode(v);
	}
	return sys_done(v);
}

int sys_op_clac(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return set_ac(v, 0);
}

int sys_op_stac(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return set_ac(v, FL_AC);
}

int sys_op_popf(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8u;
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
	uint64_t value;
	int rc;

	if (sys_vm86(v) && sys_iopl(v) < 3)
		return sys_gp0(v);
	rc = soft_pop(v, &value, size);
	if (rc != SOFT_OK)
		return rc;
	if (iopl_ok(v))
		mask |= FL_IF;
	if (v->cpl == 0)
		mask |= FL_IOPL;
	if (size == 2)
		mask &= 0xffff;
	sys_set_flags(v, value & ~(uint64_t)FL_RF, mask);
	return sys_done(v);
}

/* --- TLB, caches, waiting ------------------------------------------------------------------- */

int sys_op_invlpg(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t offset = 0;
	unsigned seg = SOFT_DS;

	if (v->cpl != 0)
		return sys_gp0(v);
	if (insn->mem[0] >= 0) {
		soft_ea(v, insn, (unsigned)insn->mem[0], &seg, &offset);
	} else {
		for (unsigned i = 0; i < insn->zi.operand_count; i++)
			if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
				soft_ea(v, insn, i, &seg, &offset);
	}
	if (!sys_code64(v))
		offset = (uint32_t)(offset + v->seg[seg].base);
	else if (seg == SOFT_FS || seg == SOFT_GS)
		offset += v->seg[seg].base;
	if (soft_vmx_proc(v, PROC_INVLPG))
		return soft_vmx_exit(v, REASON_INVLPG, offset);
	/* A non-canonical address is a no-op. */
	if (sys_canonical(offset))
		soft_tlb_flush_page(v, offset);
	return sys_done(v);
}

enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_NOT_GLOBAL };

int sys_op_invpcid(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t type, desc[2], la;
	int rc;

	if (insn->mem[0] < 0 || (soft_nonroot(v) && !soft_vmx_proc2(v, PROC2_INVPCID)))
		return sys_ud(v);
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_vmx_proc(v, PROC_INVLPG))
		return soft_vmx_exit_operands(v, insn, REASON_INVPCID, 0);
	rc = soft_read_operand(v, insn, 0, &type);
	if (rc == SOFT_OK)
		rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], false, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, desc, 16, 0);
	if (rc != SOFT_OK)
		return rc;
	/* Without PCIDs there is PCID 0 only. */
	if (type > INVPCID_NOT_GLOBAL || desc[0] >> 12 ||
	    (type == INVPCID_ADDRESS && !sys_canonical(desc[1])) ||
	    (type <= INVPCID_CONTEXT && !(v->cr4 & CR4_PCIDE) && desc[0]))
		return sys_gp0(v);
	if (type > INVPCID_CONTEXT)
		soft_tlb_flush(v, type == INVPCID_NOT_GLOBAL);
	else if (desc[0] != ((v->cr4 & CR4_PCIDE) ? v->cr3 & 0xfff : 0))
		soft_pcid_drop(v, (uint16_t)desc[0]);
	else if (type == INVPCID_ADDRESS)
		soft_tlb_flush_page(v, desc[1]);
	else
		soft_tlb_flush_current(v, true);
	return sys_done(v);
}

/* INVD and WBINVD: memory is coherent. */
int sys_op_wbinvd(struct soft_vcpu *v, const struct soft_insn *insn)
{
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_nonroot(v) && insn->zi.mnemonic == ZYDIS_MNEMONIC_INVD)
		return soft_vmx_exit(v, REASON_INVD, 0);
	if (soft_vmx_proc2(v, PROC2_WBINVD))
		return soft_vmx_exit(v, REASON_WBINVD, 0);
	return sys_done(v);
}

int sys_op_hlt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_vmx_proc(v, PROC_HLT))
		return soft_vmx_exit(v, REASON_HLT, 0);
	v->shadow = 0;
	(void)sys_done(v);
	return SOFT_HALT;
}

/* So many, with no more than so many ticks between them: what is waited for does not come at once. */
#define PAUSES 64u
#define PAUSE_GAP 4096u

/* Who waits long waits for a processor that the host may not be running at all. */
int sys_op_pause(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t now;

	(void)insn;
	if (soft_vmx_proc(v, PROC_PAUSE))
		return soft_vmx_exit(v, REASON_PAUSE, 0);
	__builtin_ia32_pause();
	now = __builtin_ia32_rdtsc();
	v->pauses = now - v->paused_at < PAUSE_GAP ? v->pauses + 1 : 0;
	v->paused_at = now;
	if (v->pauses == PAUSES) {
		v->pauses = 0;
		soft_yield(v);
	}
	return sys_done(v);
}

int sys_op_ud(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return sys_ud(v);
}

/* --- ports ---------------------------------------------------------------------------------- */

int soft_io_allowed(struct soft_vcpu *v, uint16_t port, unsigned size)
{
	const struct vmx_segment *tr = &v->seg[SOFT_TR];
	uint16_t map = 0, bits = 0;
	uint32_t at;
	int rc;

	if (!(v->cr0 & CR0_PE) || (!sys_vm86(v) && v->cpl <= sys_iopl(v)))
		return SOFT_OK;
	if (tr->unusable || !(tr->attributes & 8) || tr->limit < 0x67)
		return sys_gp0(v);
	rc = soft_read(v, tr->base + 0x66, &map, 2, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	at = (uint32_t)map + port / 8;
	if (at + 1 > tr->limit)
		return sys_gp0(v);
	rc = soft_read(v, tr->base + at, &bits, 2, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	if ((bits >> (port & 7)) & ((1u << size) - 1))
		return sys_gp0(v);
	return SOFT_OK;
}

static uint16_t port_of(const struct soft_vcpu *v, const ZydisDecodedOperand *op)
{
	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return op->imm.value.u & 0xff;
	return (uint16_t)v->gpr[SOFT_RDX];
}

int sys_op_in(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint16_t port = port_of(v, &insn->op[1]);
	unsigned size = insn->op[0].size / 8u;
	uint32_t data = 0;
	int rc;

	rc = soft_io_allowed(v, port, size);
	if (rc == SOFT_OK && soft_nonroot(v))
		rc = soft_vmx_intercept_io(v, port, size, true, insn);
	if (rc == SOFT_OK)
		rc = soft_port(v, port, size, false, &data);
	if (rc == SOFT_OK)
		rc = soft_write_operand(v, insn, 0, data);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

int sys_op_out(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint16_t port = port_of(v, &insn->op[0]);
	unsigned size = insn->op[1].size / 8u;
	uint32_t data = (uint32_t)v->gpr[SOFT_RAX];
	int rc;

	if (size < 4)
		data &= (1u << (size * 8)) - 1;
	rc = soft_io_allowed(v, port, size);
	if (rc == SOFT_OK && soft_nonroot(v))
		rc = soft_vmx_intercept_io(v, port, size, false, insn);
	if (rc == SOFT_OK)
		rc = soft_port(v, port, size, true, &data);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

/* --- time, MSRs, CPUID ---------------------------------------------------------------------- */

static int read_tsc(struct soft_vcpu *v, bool rdtscp)
{
	struct vmx_exit *x = &v->exit_request;
	uint64_t tsc = soft_rdtsc(v);

	if (rdtscp && soft_nonroot(v) && !soft_vmx_proc2(v, PROC2_RDTSCP))
		return sys_ud(v);
	if ((v->cr4 & CR4_TSD) && v->cpl > 0)
		return sys_gp0(v);
	if (soft_vmx_proc(v, PROC_RDTSC))
		return soft_vmx_exit(v, rdtscp ? REASON_RDTSCP : REASON_RDTSC, 0);
	if (sys_opt(v, VMX_OPT_RDTSC)) {
		if (!sys_answered(v, VMX_EXIT_RDTSC)) {
			x->rdtsc.tsc = tsc;
			x->rdtsc.rdtscp = rdtscp;
			return sys_exit(v, VMX_EXIT_RDTSC);
		}
		tsc = x->rdtsc.tsc;
	}
	v->gpr[SOFT_RAX] = (uint32_t)tsc;
	v->gpr[SOFT_RDX] = tsc >> 32;
	if (rdtscp)
		v->gpr[SOFT_RCX] = (uint32_t)v->tsc_aux;
	return sys_done(v);
}

int sys_op_rdtsc(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return read_tsc(v, false);
}

int sys_op_rdtscp(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return read_tsc(v, true);
}

/* There are no performance counters. */
int sys_op_rdpmc(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	if (v->cpl > 0 && (v->cr0 & CR0_PE) && !(v->cr4 & CR4_PCE))
		return sys_gp0(v);
	if (soft_vmx_proc(v, PROC_RDPMC))
		return soft_vmx_exit(v, REASON_RDPMC, 0);
	return sys_gp0(v);
}

/* An MSR that the engine does not know: the caller of resume may. */
static int msr_exit(struct soft_vcpu *v, uint32_t index, bool write, uint64_t *value)
{
	struct vmx_exit *x = &v->exit_request;

	if (!sys_opt(v, VMX_OPT_MSR))
		return sys_gp0(v);
	if (sys_answered(v, VMX_EXIT_MSR)) {
		if (x->msr.fault)
			return sys_gp0(v);
		*value = x->msr.value;
		return SOFT_OK;
	}
	x->msr.index = index;
	x->msr.write = write;
	x->msr.value = write ? *value : 0;
	x->msr.fault = false;
	return sys_exit(v, VMX_EXIT_MSR);
}

int sys_op_rdmsr(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint32_t index = (uint32_t)v->gpr[SOFT_RCX];
	uint64_t value = 0;
	int rc;

	(void)insn;
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_nonroot(v)) {
		rc = soft_vmx_intercept_msr(v, index, false);
		if (rc != SOFT_OK)
			return rc;
	}
	rc = soft_vmx_x2apic_read(v, index, &value);
	if (rc == SOFT_AGAIN)
		rc = sys_read_msr(v, index, &value);
	if (rc == SOFT_AGAIN)
		rc = msr_exit(v, index, false, &value);
	if (rc != SOFT_OK)
		return rc;
	v->gpr[SOFT_RAX] = (uint32_t)value;
	v->gpr[SOFT_RDX] = value >> 32;
	return sys_done(v);
}

int sys_op_wrmsr(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint32_t index = (uint32_t)v->gpr[SOFT_RCX];
	uint64_t value = (uint32_t)v->gpr[SOFT_RAX] | v->gpr[SOFT_RDX] << 32;
	int rc;

	(void)insn;
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_nonroot(v)) {
		rc = soft_vmx_intercept_msr(v, index, true);
		if (rc != SOFT_OK)
			return rc;
	}
	rc = soft_vmx_x2apic_write(v, index, value);
	if (rc == SOFT_AGAIN)
		rc = sys_write_msr(v, index, value);
	if (rc == SOFT_AGAIN)
		rc = msr_exit(v, index, true, &value);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

int sys_op_cpuid(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint32_t leaf = (uint32_t)v->gpr[SOFT_RAX], subleaf = (uint32_t)v->gpr[SOFT_RCX];
	struct vmx_exit *x = &v->exit_request;
	uint32_t out[4];

	(void)insn;
	if (soft_nonroot(v))
		return soft_vmx_exit(v, REASON_CPUID, 0);
	soft_cpuid(v, leaf, subleaf, out);
	if (sys_opt(v, VMX_OPT_CPUID)) {
		if (!sys_answered(v, VMX_EXIT_CPUID)) {
			x->cpuid.leaf = leaf;
			x->cpuid.subleaf = subleaf;
			x->cpuid.eax = out[0];
			x->cpuid.ebx = out[1];
			x->cpuid.ecx = out[2];
			x->cpuid.edx = out[3];
			return sys_exit(v, VMX_EXIT_CPUID);
		}
		out[0] = x->cpuid.eax;
		out[1] = x->cpuid.ebx;
		out[2] = x->cpuid.ecx;
		out[3] = x->cpuid.edx;
	}
	v->gpr[SOFT_RAX] = out[0];
	v->gpr[SOFT_RBX] = out[1];
	v->gpr[SOFT_RCX] = out[2];
	v->gpr[SOFT_RDX] = out[3];
	return sys_done(v);
}

int sys_op_hypercall(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct vmx_exit *x = &v->exit_request;

	if (!sys_opt(v, VMX_OPT_HYPERCALL))
		return insn->zi.mnemonic == ZYDIS_MNEMONIC_VMCALL ? soft_pv_hypercall(v) : sys_ud(v);
	if (sys_answered(v, VMX_EXIT_HYPERCALL)) {
		v->gpr[SOFT_RAX] = x->hypercall.result;
		return sys_done(v);
	}
	x->hypercall.nr = v->gpr[SOFT_RAX];
	x->hypercall.args[0] = v->gpr[SOFT_RBX];
	x->hypercall.args[1] = v->gpr[SOFT_RCX];
	x->hypercall.args[2] = v->gpr[SOFT_RDX];
	x->hypercall.args[3] = v->gpr[SOFT_RSI];
	x->hypercall.args[4] = v->gpr[SOFT_RDI];
	x->hypercall.args[5] = v->gpr[SOFT_RBP];
	x->hypercall.result = 0;
	return sys_exit(v, VMX_EXIT_HYPERCALL);
}

/* --- FS and GS bases, RDPID ----------------------------------------------------------------- */

static int base_check(struct soft_vcpu *v)
{
	return sys_code64(v) && (v->cr4 & CR4_FSGSBASE) ? SOFT_OK : sys_ud(v);
}

static int read_base(struct soft_vcpu *v, const struct soft_insn *insn, unsigned seg)
{
	int rc = base_check(v);

	if (rc == SOFT_OK)
		rc = soft_write_operand(v, insn, 0, v->seg[seg].base);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

static int write_base(struct soft_vcpu *v, const struct soft_insn *insn, unsigned seg)
{
	uint64_t value = 0;
	int rc = base_check(v);

	if (rc == SOFT_OK)
		rc = soft_read_operand(v, insn, 0, &value);
	if (rc != SOFT_OK)
		return rc;
	if (!sys_canonical(value))
		return sys_gp0(v);
	v->seg[seg].base = value;
	return sys_done(v);
}

int sys_op_rdfsbase(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return read_base(v, insn, SOFT_FS);
}

int sys_op_rdgsbase(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return read_base(v, insn, SOFT_GS);
}

int sys_op_wrfsbase(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return write_base(v, insn, SOFT_FS);
}

int sys_op_wrgsbase(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return write_base(v, insn, SOFT_GS);
}

int sys_op_rdpid(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int rc;

	if (soft_nonroot(v) && !soft_vmx_proc2(v, PROC2_RDTSCP))
		return sys_ud(v);
	rc = soft_write_operand(v, insn, 0, (uint32_t)v->tsc_aux);
	return rc == SOFT_OK ? sys_done(v) : rc;
}
