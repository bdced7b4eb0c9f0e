/* SPDX-License-Identifier: Apache-2.0 */
/* flags.c - RFLAGS, and the mode word that is derived from the processor's state. */
#include "vmx-driver/soft/mmu.h"
#include "vmx-driver/soft/step.h"

#define FL_EXIST                                                                              \
	((uint64_t)(FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | \
		    FL_VIF | FL_VIP | FL_ID))
#define ATTR_L (1u << 13)
#define ATTR_DB (1u << 14)

uint64_t soft_get_rflags(const struct soft_vcpu *v)
{
	return v->rflags | soft_arith_flags(v) | 2;
}

void soft_set_rflags(struct soft_vcpu *v, uint64_t rflags)
{
	uint64_t old = v->rflags;

	v->rflags = (rflags & FL_EXIST & ~(uint64_t)FL_ARITH) | 2;
	soft_set_arith(v, rflags);
	if ((old ^ v->rflags) & (FL_TF | FL_VM | FL_AC))
		soft_update_mode(v);
	if ((v->rflags & FL_IF) && !(old & FL_IF))
		soft_events_recheck(v);
}

/* 4 GiB of data that may be read and written. Expand-down would give the limit another meaning. */
static bool segment_whole(const struct vmx_segment *seg)
{
	return seg->limit == 0xffffffff && !seg->unusable && (seg->attributes & 0x9e) == 0x92;
}

static bool segments_flat(const struct soft_vcpu *v)
{
	static const uint8_t data[] = { SOFT_DS, SOFT_ES, SOFT_SS };
	const struct vmx_segment *cs = &v->seg[SOFT_CS];

	for (unsigned i = 0; i < sizeof(data); i++)
		if (v->seg[data[i]].base || !segment_whole(&v->seg[data[i]]))
			return false;
	return !cs->base && cs->limit == 0xffffffff && !cs->unusable;
}

static uint32_t code_mode(const struct soft_vcpu *v)
{
	const struct vmx_segment *cs = &v->seg[SOFT_CS];

	if (v->rflags & FL_VM)
		return CODE_16;
	if ((v->efer & EFER_LMA) && (cs->attributes & ATTR_L))
		return CODE_64;
	return cs->attributes & ATTR_DB ? CODE_32 : CODE_16;
}

static uint32_t legacy_mode(struct soft_vcpu *v, uint32_t code)
{
	const uint32_t fast = MODE_SS32 | MODE_FLAT;
	uint32_t mode = 0;

	if (!(v->cr0 & CR0_PE) || (v->rflags & FL_VM))
		mode |= MODE_REAL;
	if ((v->seg[SOFT_SS].attributes & ATTR_DB) && !(v->rflags & FL_VM))
		mode |= MODE_SS32;
	if (segments_flat(v))
		mode |= MODE_FLAT;
	v->seg_whole[0] = segment_whole(&v->seg[SOFT_FS]);
	v->seg_whole[1] = segment_whole(&v->seg[SOFT_GS]);
	return code == CODE_32 && mode == fast ? mode : mode | MODE_SLOW;
}

void soft_update_mode(struct soft_vcpu *v)
{
	uint32_t mode = code_mode(v);
	unsigned ctx = CTX_KERNEL;

	if (mode != CODE_64)
		mode |= legacy_mode(v, mode);
	if (v->cpl == 3) {
		mode |= MODE_USER;
		ctx = CTX_USER;
	} else if ((v->rflags & FL_AC) && (v->cr4 & CR4_SMAP)) {
		mode |= MODE_AC;
		ctx = CTX_KERNEL_AC;
	}
	if (v->cr0 & (CR0_TS | CR0_EM))
		mode |= MODE_NM;
	if (v->cr4 & CR4_OSFXSR)
		mode |= MODE_SSE;
	if ((v->cr4 & CR4_OSXSAVE) && (v->xcr0 & 6) == 6)
		mode |= MODE_AVX;
	/* At CPL 1 and 2 IOPL decides about CLI; translated supervisor code is CPL 0 code. */
	if (soft_single(v) || soft_aligned_only(v) || v->cpl == 1 || v->cpl == 2)
		mode |= MODE_SLOW;
	if (v->nonroot) {
		mode |= MODE_NONROOT;
		ctx += CTX_KINDS;
	}
	/* Code that runs with MODE_AC has no part in the returns (jit_branch.c). */
	if ((v->mode ^ mode) & ~MODE_AC)
		v->returns_stale = 1;
	v->mode = mode;
	v->ctx = (uint8_t)ctx;
	v->ibtc = v->tlb[ctx].ibtc;
	if (v->tlb[ctx].ibtc_mode == mode)
		return;
	if ((mode & MODE_CODE) != CODE_64 && !soft_tlb_narrow(&v->tlb[ctx]))
		soft_tlb_flush_ctx(v, ctx); /* there may be what a narrow one must not have */
	else
		soft_ibtc_flush(v, ctx);
	v->tlb[ctx].ibtc_mode = mode;
}
