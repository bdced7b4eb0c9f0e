/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xsave.c - saving and restoring x87/SSE/AVX state to guest memory (SDM 1 chapter 13). GENERAL.
 *
 * The guest's state is in the host's registers, so the host's own XSAVE does the work: at the
 * guest's own bytes where they lie in one RAM page, else in a copy. A restore always works on a
 * copy whose header was checked: another vCPU may change the original meanwhile.
 */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

#define AREA_MAX 1024u
#define HEADER 512u
#define EXTENDED 576u
#define AVX_SIZE 256u
#define XCOMP_COMPACT (1ull << 63)
enum { X_FP = 1, X_SSE = 2, X_AVX = 4 };

enum kind { KIND_FXSAVE, KIND_XSAVE, KIND_XSAVEC, KIND_FXRSTOR, KIND_XRSTOR, KIND_XRSTORS };

/* Components that EDX:EAX asks for and that are there. */
static uint64_t requested(const struct soft_vcpu *v)
{
	return ((uint32_t)v->gpr[SOFT_RAX] | v->gpr[SOFT_RDX] << 32) & (v->xcr0 | v->xss);
}

/* Bytes of an area with these components (AVX comes right after the header in both formats). */
static unsigned area_size(uint64_t rfbm)
{
	return (rfbm & X_AVX) ? EXTENDED + AVX_SIZE : EXTENDED;
}

static void native_save(void *area, uint64_t rfbm, enum kind kind, bool wide)
{
	uint32_t lo = (uint32_t)rfbm, hi = 0;

	if (kind == KIND_FXSAVE && wide)
		__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
	else if (kind == KIND_FXSAVE)
		__asm__ volatile("fxsave (%0)" : : "r"(area) : "memory");
	else if (kind == KIND_XSAVEC && wide)
		__asm__ volatile("xsavec64 (%0)" : : "r"(area), "a"(lo), "d"(hi) : "memory");
	else if (kind == KIND_XSAVEC)
		__asm__ volatile("xsavec (%0)" : : "r"(area), "a"(lo), "d"(hi) : "memory");
	else if (wide)
		__asm__ volatile("xsave64 (%0)" : : "r"(area), "a"(lo), "d"(hi) : "memory");
	else
		__asm__ volatile("xsave (%0)" : : "r"(area), "a"(lo), "d"(hi) : "memory");
}

static void native_restore(const void *area, uint64_t rfbm, enum kind kind, bool wide)
{
	uint32_t lo = (uint32_t)rfbm, hi = 0;

	if (kind == KIND_FXRSTOR && wide)
		__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
	else if (kind == KIND_FXRSTOR)
		__asm__ volatile("fxrstor (%0)" : : "r"(area) : "memory");
	else if (wide)
		__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"(lo), "d"(hi) : "memory");
	else
		__asm__ volatile("xrstor (%0)" : : "r"(area), "a"(lo), "d"(hi) : "memory");
}

/* Faults that come before the operand, and its linear address. */
static int prepare(struct soft_vcpu *v, const struct soft_insn *insn, bool fx, bool write,
		   unsigned size, uint64_t *ret_la)
{
	uint64_t offset = 0;
	unsigned seg = SOFT_DS, align = fx ? 15 : 63;
	int rc;

	if (!fx && !(v->cr4 & CR4_OSXSAVE))
		return sys_ud(v);
	if ((v->cr0 & CR0_TS) || (fx && (v->cr0 & CR0_EM)))
		return soft_raise(v, EXC_NM);
	if (insn->mem[0] < 0)
		return sys_ud(v);
	soft_ea(v, insn, (unsigned)insn->mem[0], &seg, &offset);
	rc = soft_linear(v, seg, offset, size, write, ret_la);
	if (rc != SOFT_OK)
		return rc;
	if (*ret_la & align)
		return sys_gp0(v);
	if (!v->fp_live)
		soft_fp_load(v);
	return SOFT_OK;
}

static int save(struct soft_vcpu *v, const struct soft_insn *insn, enum kind kind)
{
	uint64_t rfbm = requested(v);
	uint8_t copy[AREA_MAX] __attribute__((aligned(64)));
	bool fx = kind == KIND_FXSAVE, wide = insn->zi.raw.rex.W;
	unsigned size = fx ? HEADER : area_size(rfbm);
	void *host = NULL;
	uint64_t la;
	int rc;

	rc = prepare(v, insn, fx, true, size, &la);
	if (rc == SOFT_OK)
		rc = soft_host_ptr(v, la, size, ACC_WRITE, &host);
	if (rc != SOFT_OK)
		return rc;
	if (host && !((uintptr_t)host & 63)) {
		native_save(host, rfbm, kind, wide);
		return sys_done(v);
	}
	/* What the instruction does not write stays as it was. */
	rc = soft_read(v, la, copy, size, 0);
	if (rc != SOFT_OK)
		return rc;
	native_save(copy, rfbm, kind, wide);
	rc = soft_write(v, la, copy, size, ACC_WRITE);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

static bool mxcsr_ok(const struct soft_vcpu *v, const uint8_t *area)
{
	return !((uint32_t)sys_get(area + 24, 4) & ~sys_cpuid(v)->mxcsr_mask);
}

/* Reserved bits of an XSAVE area (SDM 1 13.8, 13.12). XRSTORS knows the compacted format alone. */
static bool header_ok(const struct soft_vcpu *v, const uint8_t *area, uint64_t rfbm, enum kind kind)
{
	uint64_t h[8], zero = 0;

	for (unsigned i = 0; i < 8; i++)
		h[i] = sys_get(area + HEADER + i * 8, 8);
	for (unsigned i = 2; i < 8; i++)
		zero |= h[i];
	if (h[1] & XCOMP_COMPACT) {
		if (!sys_cpuid(v)->isa[ZYDIS_ISA_SET_XSAVEC] ||
		    (h[1] & ~(XCOMP_COMPACT | v->xcr0 | v->xss)) ||
		    (h[0] & ~(h[1] & ~XCOMP_COMPACT)) || zero)
			return false;
		return !(rfbm & h[0] & X_SSE) || mxcsr_ok(v, area);
	}
	if (kind == KIND_XRSTORS || (h[0] & ~v->xcr0) || h[1] || h[2])
		return false;
	return !(rfbm & (X_SSE | X_AVX)) || mxcsr_ok(v, area);
}

static int restore(struct soft_vcpu *v, const struct soft_insn *insn, enum kind kind)
{
	uint64_t rfbm = requested(v);
	uint8_t copy[AREA_MAX] __attribute__((aligned(64)));
	bool fx = kind == KIND_FXRSTOR, wide = insn->zi.raw.rex.W;
	unsigned size = fx ? HEADER : area_size(rfbm);
	uint64_t la;
	int rc;

	rc = prepare(v, insn, fx, false, size, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, copy, size, 0);
	if (rc != SOFT_OK)
		return rc;
	if (fx ? !mxcsr_ok(v, copy) : !header_ok(v, copy, rfbm, kind))
		return sys_gp0(v);
	/* Where this form does not look at MXCSR, the host's processor may all the same. */
	sys_put(copy + 24, 4, sys_get(copy + 24, 4) & sys_cpuid(v)->mxcsr_mask);
	native_restore(copy, rfbm, kind, wide);
	return sys_done(v);
}

int sys_op_fxsave(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return save(v, insn, KIND_FXSAVE);
}

/* XSAVEOPT as XSAVE: that it may leave out what did not change is an optimisation. */
int sys_op_xsave(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return save(v, insn, KIND_XSAVE);
}

int sys_op_xsavec(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return save(v, insn, KIND_XSAVEC);
}

/* What XSAVES and XRSTORS check before the rest: they are the supervisor's, and the VMX host's. */
static int begin_supervisor(struct soft_vcpu *v, const struct soft_insn *insn,
			    enum vmx_reason reason)
{
	if (!(v->cr4 & CR4_OSXSAVE) || (soft_nonroot(v) && !soft_vmx_proc2(v, PROC2_XSAVES)))
		return sys_ud(v);
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_nonroot(v) && (requested(v) & v->xss & v->vmx.vmcs.xss_exiting))
		return soft_vmx_exit_operands(v, insn, reason, 0);
	return SOFT_OK;
}

/* Without supervisor components, and with no use made of the modified optimization, as XSAVEC. */
int sys_op_xsaves(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int rc = begin_supervisor(v, insn, REASON_XSAVES);

	return rc == SOFT_OK ? save(v, insn, KIND_XSAVEC) : rc;
}

int sys_op_xrstors(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int rc = begin_supervisor(v, insn, REASON_XRSTORS);

	return rc == SOFT_OK ? restore(v, insn, KIND_XRSTORS) : rc;
}

int sys_op_fxrstor(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return restore(v, insn, KIND_FXRSTOR);
}

int sys_op_xrstor(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return restore(v, insn, KIND_XRSTOR);
}

int sys_op_xgetbv(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint32_t index = (uint32_t)v->gpr[SOFT_RCX];
	uint64_t value = v->xcr0;

	(void)insn;
	if (!(v->cr4 & CR4_OSXSAVE))
		return sys_ud(v);
	if (index > 1)
		return sys_gp0(v);
	if (index == 1) { /* XINUSE & XCR0 */
		uint32_t lo, hi;

		if (!v->fp_live)
			soft_fp_load(v);
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(1));
		value &= lo;
	}
	v->gpr[SOFT_RAX] = (uint32_t)value;
	v->gpr[SOFT_RDX] = value >> 32;
	return sys_done(v);
}

int sys_op_xsetbv(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t value = (uint32_t)v->gpr[SOFT_RAX] | v->gpr[SOFT_RDX] << 32;

	(void)insn;
	if (!(v->cr4 & CR4_OSXSAVE))
		return sys_ud(v);
	if (v->cpl != 0)
		return sys_gp0(v);
	if (soft_nonroot(v))
		return soft_vmx_exit(v, REASON_XSETBV, 0);
	if ((uint32_t)v->gpr[SOFT_RCX] != 0)
		return sys_gp0(v);
	if (!(value & X_FP) || (value & ~sys_cpuid(v)->xcr0) ||
	    (value & (X_SSE | X_AVX)) == X_AVX)
		return sys_gp0(v);
	v->xcr0 = value;
	soft_update_mode(v);
	return sys_done(v);
}
