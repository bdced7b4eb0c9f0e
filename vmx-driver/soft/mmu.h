/* SPDX-License-Identifier: Apache-2.0 */
/* mmu.h - what mmu.c, access.c and tlb.c share. GENERAL. */
#ifndef VMX_SOFT_MMU_H
#define VMX_SOFT_MMU_H

#include "vmx-driver/soft/soft.h"

#define PAGE_OFFSET 0xfffull
#define PAGE_BASE (~PAGE_OFFSET)

enum { /* page-fault error code (SDM 3A 4.7) */
	PF_P = 1u << 0,
	PF_W = 1u << 1,
	PF_U = 1u << 2,
	PF_RSVD = 1u << 3,
	PF_I = 1u << 4,
};

/* What a page walk found. */
struct soft_walk {
	uint64_t gpa;   /* of the address itself, in this VM: after EPT, if that is in use */
	uint32_t error; /* page-fault error code when it failed */
	uint8_t level;  /* 0: no paging, 1: 4 KiB, 2: 2 or 4 MiB, 3: 1 GiB */
	bool write;     /* a write by this kind of access would be allowed */
	bool dirty;     /* the leaf's D bit is set (by now) */
	bool global;
};

/* The whole walk for an access in context ctx. SOFT_OK, SOFT_EXCEPTION: a page fault with w->error,
 * SOFT_VMEXIT: refused by EPT. */
int soft_walk_tables(struct soft_vcpu *v, uint64_t la, unsigned flags, unsigned ctx, bool set_ad,
		     struct soft_walk *w);
/* Slot that holds gpa, or NULL. */
const struct vmx_slot *soft_slot(const struct soft_vcpu *v, uint64_t gpa);
/* Sets the dirty bit of the page if its slot is tracked. */
void soft_mark_dirty(const struct vmx_slot *slot, uint64_t gpa);
static inline bool soft_is_dirty(const struct vmx_slot *slot, uint64_t gpa)
{
	uint64_t page = (gpa - slot->gpa) >> 12;

	return __atomic_load_n(&slot->dirty[page / 64], __ATOMIC_RELAXED) >> (page % 64) & 1;
}

/* The first context of the current operation. */
static inline unsigned soft_ctx_half(const struct soft_vcpu *v)
{
	return v->nonroot ? CTX_KINDS : 0;
}
/* CTX_USER, CTX_KERNEL or CTX_KERNEL_AC: the rules, in whichever operation. */
static inline unsigned soft_ctx_kind(unsigned ctx)
{
	return ctx >= CTX_KINDS ? ctx - CTX_KINDS : ctx;
}
/* Context whose rules an access with these flags follows. */
static inline unsigned soft_ctx(const struct soft_vcpu *v, unsigned flags)
{
	return (flags & ACC_SYSTEM) ? soft_ctx_half(v) + CTX_KERNEL : v->ctx;
}
/* A context whose code is not 64-bit. Translated 32-bit code computes addresses with 64 bits, and while
 * the stack pointer, which wraps at 4 GiB, moves by less than a page it goes on with the same distance to
 * host memory. So that every address that is found here is the one meant, such a context has no entries
 * from 4 GiB on, nor for the first and the last page below. */
static inline bool soft_tlb_narrow(const struct soft_tlb *t)
{
	return (t->ibtc_mode & MODE_CODE) != CODE_64;
}
/* May it have one for the 1 << shift bytes around la? */
static inline bool soft_narrow_piece(uint64_t la, unsigned shift)
{
	return la >> shift && la >> shift < 0xffffffffu >> shift;
}
/* The exec TLB of a context, and its number: one for both kernel ones. */
static inline unsigned soft_x_number(unsigned ctx)
{
	return (ctx >= CTX_KINDS ? 2 : 0) + (soft_ctx_kind(ctx) != CTX_USER);
}
static inline struct soft_xtlb *soft_xtlb_of(struct soft_vcpu *v, unsigned ctx)
{
	return v->xtlb[soft_x_number(ctx)];
}

/* Linear addresses wrap at 4 GiB outside 64-bit mode. */
static inline uint64_t soft_wrap(const struct soft_vcpu *v, uint64_t la, unsigned flags)
{
	if ((v->efer & EFER_LMA) && ((flags & ACC_SYSTEM) || (v->mode & MODE_CODE) == CODE_64))
		return la;
	return la & 0xffffffffu;
}

/* The other place that the page of an entry may have. */
static inline struct soft_l1 *soft_l1_other(struct soft_tlb *t, const struct soft_l1 *e)
{
	return &t->l1[(size_t)(e - t->l1) ^ SOFT_L1_OTHER];
}
/* The entry for that page, in whichever of its places it is, or the place for it. */
static inline struct soft_l1 *soft_l1_entry(struct soft_vcpu *v, unsigned ctx, uint64_t la)
{
	struct soft_l1 *e = &v->tlb[ctx].l1[(la >> 12) % SOFT_L1_SIZE];
	struct soft_l1 *other = soft_l1_other(&v->tlb[ctx], e);
	uint64_t page = la & ~4095ull;

	return e->tag_r != page && other->tag_r == page ? other : e;
}

/* An entry moves to where it may be as well; what was there is lost. */
void soft_l1_make_room(struct soft_tlb *t, struct soft_l1 *e);
/* The entry for la, found in either place, changes to the first one: sites that are JIT_BY_L1 look nowhere
 * else. Where it is then. */
struct soft_l1 *soft_l1_to_first(struct soft_tlb *t, uint64_t la, struct soft_l1 *e);
/* Notes that l1[slot] is being filled, before it is. */
void soft_tlb_log(struct soft_tlb *t, unsigned slot, bool global);
/* Takes those pages, none of them global, into the filter of the tlb. */
void soft_tlb_large(struct soft_tlb *t, const struct soft_large *more);
void soft_large_copy(struct soft_large *dst, const struct soft_large *src);
/* Notes in tlb `ctx` that something of this walk is cached there. code: in the exec TLB or ibtc. */
void soft_tlb_note(struct soft_vcpu *v, unsigned ctx, uint64_t la, const struct soft_walk *w,
		   bool code);

#endif
