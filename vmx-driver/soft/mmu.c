/* SPDX-License-Identifier: Apache-2.0 */
/* mmu.c - page walks (SDM 3A chapter 4). GENERAL. */
#include "vmx-driver/soft/mmu.h"

#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/vmx_apic.h"

enum { /* page-table entries */
	PTE_P = 1u << 0,
	PTE_W = 1u << 1,
	PTE_U = 1u << 2,
	PTE_A = 1u << 5,
	PTE_D = 1u << 6,
	PTE_PS = 1u << 7,
	PTE_G = 1u << 8,
};
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

#define WALK_LEVELS 4
/* A walk starts over when another processor changes an entry under it; not for ever. */
#define WALK_RETRIES 8

struct walk_entry {
	uint64_t gpa, value;
	uint64_t guest; /* its address in the VMX guest, if EPT is in use */
};
struct walk_path {
	uint64_t la;
	bool set_ad;
	struct walk_entry entry[WALK_LEVELS];
	unsigned count;
	unsigned size;   /* of an entry: 4 or 8 */
	bool user, write, nx; /* what all entries together permit */
	uint64_t leaf;
};

const struct vmx_slot *soft_slot(const struct soft_vcpu *v, uint64_t gpa)
{
	return vmx_slot_find(atomic_load_explicit(&v->v.vm->slots, memory_order_acquire), gpa);
}

void soft_mark_dirty(const struct vmx_slot *slot, uint64_t gpa)
{
	uint64_t page = (gpa - slot->gpa) >> 12;

	if (slot->dirty && !soft_is_dirty(slot, gpa))
		__atomic_fetch_or(&slot->dirty[page / 64], 1ull << (page % 64), __ATOMIC_SEQ_CST);
}

uint8_t *soft_gpa_ptr(struct soft_vcpu *v, uint64_t gpa, bool write)
{
	const struct vmx_slot *s = soft_slot(v, gpa);

	if (!s || !(s->flags & (write ? VMX_MAP_WRITE : VMX_MAP_READ)))
		return NULL;
	if (write)
		soft_mark_dirty(s, gpa);
	return s->host + (gpa - s->gpa);
}

/* Bits that must be 0 in an entry of the 8-byte formats. shift: what it maps, large: it is a leaf
 * above the last level. */
static uint64_t reserved_bits(const struct soft_vcpu *v, unsigned shift, bool large)
{
	uint64_t mask = v->pa_reserved;

	if (!(v->efer & EFER_NX))
		mask |= PTE_NX;
	if (!(v->efer & EFER_LMA))
		mask |= 0x7ff0000000000000ull;
	if (large)
		mask |= ((1ull << shift) - 1) & ~0x1fffull;
	if (shift == 39)
		mask |= PTE_PS;
	return mask;
}

/* Where an entry of the paging structures is: through EPT in its guest. SOFT_OK or SOFT_VMEXIT. */
static int entry_address(struct soft_vcpu *v, const struct walk_path *path, uint64_t guest,
			 uint32_t need, uint64_t *ret_gpa)
{
	const struct soft_ept_access a = {
		.gla = path->la, .need = need, .what = EPT_Q_GLA, .set_ad = path->set_ad,
	};
	struct soft_ept_entry e;
	int rc = soft_ept_translate(v, guest, &a, &e);

	*ret_gpa = e.mem;
	if (rc == SOFT_OK && soft_vmx_apic_page(v, e.mem))
		return soft_vmx_apic_exit(v, path->la, e.mem,
					  v->vmx.idt_event ? APIC_ACCESS_PHYSICAL_DELIVERY :
							     APIC_ACCESS_PHYSICAL);
	return rc;
}

/* Reads the entry at `guest` into the path. SOFT_EXCEPTION: page fault w->error. */
static int read_entry(struct soft_vcpu *v, uint64_t guest, struct walk_path *path,
		      struct soft_walk *w)
{
	uint64_t value, gpa = guest;
	const uint8_t *p;

	if (v->eptp) {
		int rc = entry_address(v, path, guest, soft_ept_table_need(v), &gpa);

		if (rc != SOFT_OK)
			return rc;
	}
	p = soft_gpa_ptr(v, gpa, false);
	if (!p) { /* no memory there: a bus would give ones, which has reserved bits set */
		w->error |= PF_P | PF_RSVD;
		return SOFT_EXCEPTION;
	}
	if (path->size == 8)
		value = __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	else
		value = __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
	if (!(value & PTE_P))
		return SOFT_EXCEPTION;
	path->entry[path->count++] = (struct walk_entry){ gpa, value, guest };
	path->user &= (value & PTE_U) != 0;
	path->write &= (value & PTE_W) != 0;
	path->nx |= path->size == 8 && (value & PTE_NX);
	path->leaf = value;
	return SOFT_OK;
}

/* 4-level and PAE tables from `shift` on. */
static int walk_8(struct soft_vcpu *v, uint64_t la, uint64_t table, unsigned shift,
		  struct walk_path *path, struct soft_walk *w)
{
	for (;; shift -= 9) {
		bool large;
		int rc;

		rc = read_entry(v, table + (la >> shift & 511) * 8, path, w);
		if (rc != SOFT_OK)
			return rc;
		large = (shift == 30 || shift == 21) && (path->leaf & PTE_PS);
		if (path->leaf & reserved_bits(v, shift, large)) {
			w->error |= PF_P | PF_RSVD;
			return SOFT_EXCEPTION;
		}
		if (shift == 12 || large)
			break;
		table = path->leaf & PTE_ADDR;
	}
	w->level = (uint8_t)((shift - 12) / 9 + 1);
	w->gpa = (path->leaf & PTE_ADDR & ~((1ull << shift) - 1)) | (la & ((1ull << shift) - 1));
	return SOFT_OK;
}

static int walk_4(struct soft_vcpu *v, uint64_t la, struct walk_path *path, struct soft_walk *w)
{
	int rc = read_entry(v, (v->cr3 & 0xfffff000u) + (la >> 22 & 1023) * 4, path, w);

	if (rc != SOFT_OK)
		return rc;
	if ((path->leaf & PTE_PS) && (v->cr4 & CR4_PSE)) {
		w->level = 2;
		w->gpa = (path->leaf & 0xffc00000u) | (path->leaf >> 13 & 0xff) << 32 |
			 (la & 0x3fffff);
		if ((path->leaf & 1u << 21) || (w->gpa & v->pa_reserved)) {
			w->error |= PF_P | PF_RSVD;
			return SOFT_EXCEPTION;
		}
		return SOFT_OK;
	}
	rc = read_entry(v, (path->leaf & 0xfffff000u) + (la >> 12 & 1023) * 4, path, w);
	if (rc != SOFT_OK)
		return rc;
	w->level = 1;
	w->gpa = (path->leaf & 0xfffff000u) | (la & PAGE_OFFSET);
	return SOFT_OK;
}

static int walk_mode(struct soft_vcpu *v, uint64_t la, struct walk_path *path, struct soft_walk *w)
{
	path->size = (v->cr4 & CR4_PAE) ? 8 : 4;
	path->user = path->write = true;
	if (path->size == 4)
		return walk_4(v, la, path, w);
	if (v->efer & EFER_LMA)
		return walk_8(v, la, v->cr3 & PTE_ADDR, 39, path, w);
	if (!(v->pdpte[la >> 30 & 3] & PTE_P))
		return SOFT_EXCEPTION;
	return walk_8(v, la, v->pdpte[la >> 30 & 3] & PTE_ADDR, 21, path, w);
}

/* SDM 3A 4.6.1. */
static bool permitted(const struct soft_vcpu *v, const struct walk_path *path, unsigned flags,
		      unsigned ctx)
{
	if ((flags & ACC_EXEC) && path->nx)
		return false;
	if (ctx == CTX_USER)
		return path->user && (path->write || !(flags & ACC_WRITE));
	if (path->user) {
		if (flags & ACC_EXEC)
			return !(v->cr4 & CR4_SMEP);
		if ((v->cr4 & CR4_SMAP) && ctx != CTX_KERNEL_AC)
			return false;
	}
	return path->write || !(flags & ACC_WRITE) || !(v->cr0 & CR0_WP);
}

/* SOFT_AGAIN: the entry is another one by now. */
static int set_entry_bits(struct soft_vcpu *v, const struct walk_path *path, unsigned i,
			  uint64_t bits)
{
	uint64_t old = path->entry[i].value, gpa = path->entry[i].gpa;
	uint8_t *p;
	bool done;

	if ((old & bits) == bits)
		return SOFT_OK;
	if (v->eptp) { /* reading it took no right to write yet */
		int rc = entry_address(v, path, path->entry[i].guest, EPT_R | EPT_W, &gpa);

		if (rc != SOFT_OK)
			return rc;
	}
	p = soft_gpa_ptr(v, gpa, true);
	if (!p) /* tables in ROM */
		return SOFT_OK;
	if (path->size == 8) {
		done = __atomic_compare_exchange_n((uint64_t *)p, &old, old | bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	} else {
		uint32_t old4 = (uint32_t)old;

		done = __atomic_compare_exchange_n((uint32_t *)p, &old4, (uint32_t)(old4 | bits),
						   false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	}
	if (done && soft_code_overlaps(soft_vm_of(v), gpa, path->size))
		soft_code_written(soft_vm_of(v), v, gpa, path->size);
	return done ? SOFT_OK : SOFT_AGAIN;
}

static int set_ad_bits(struct soft_vcpu *v, struct walk_path *path, bool write)
{
	for (unsigned i = 0; i < path->count; i++) {
		uint64_t bits = PTE_A | (write && i == path->count - 1 ? (uint64_t)PTE_D : 0);
		int rc = set_entry_bits(v, path, i, bits);

		if (rc != SOFT_OK)
			return rc;
	}
	if (write)
		path->leaf |= PTE_D;
	return SOFT_OK;
}

/* The paging structures' own part of the walk: what they say goes through EPT yet. */
static int walk_paging(struct soft_vcpu *v, uint64_t la, unsigned flags, unsigned kind, bool set_ad,
		       struct soft_walk *w)
{
	struct walk_path path = { .la = la, .set_ad = set_ad };
	int rc;

	for (unsigned retry = 0;; retry++) {
		w->error = ((flags & ACC_WRITE) ? PF_W : 0) | (kind == CTX_USER ? PF_U : 0);
		if ((flags & ACC_EXEC) && ((v->efer & EFER_NX) || (v->cr4 & CR4_SMEP)))
			w->error |= PF_I;
		path.count = 0;
		path.nx = false;
		rc = walk_mode(v, la, &path, w);
		if (rc != SOFT_OK)
			return rc;
		if (!permitted(v, &path, flags, kind)) {
			w->error |= PF_P;
			return SOFT_EXCEPTION;
		}
		rc = set_ad ? set_ad_bits(v, &path, flags & ACC_WRITE) : SOFT_OK;
		if (rc == SOFT_VMEXIT)
			return rc;
		if (rc == SOFT_OK || retry == WALK_RETRIES)
			break;
	}
	w->write = permitted(v, &path, ACC_WRITE, kind);
	w->dirty = path.leaf & PTE_D;
	w->global = (path.leaf & PTE_G) && (v->cr4 & CR4_PGE);
	return SOFT_OK;
}

/* The address that the paging structures gave, through EPT. */
static int walk_ept(struct soft_vcpu *v, uint64_t la, unsigned flags, bool set_ad,
		    struct soft_walk *w)
{
	struct soft_ept_access a = {
		.gla = la, .need = EPT_R, .what = EPT_Q_GLA | EPT_Q_FINAL, .set_ad = set_ad,
	};
	struct soft_ept_entry e;
	int rc;

	if (flags & ACC_WRITE)
		a.need = EPT_W;
	else if (flags & ACC_EXEC)
		a.need = EPT_X;
	rc = soft_ept_translate(v, w->gpa, &a, &e);
	if (rc != SOFT_OK)
		return rc;
	w->gpa = e.mem;
	w->write = w->write && (e.rights & EPT_W);
	w->dirty = w->dirty && e.dirty;
	return SOFT_OK;
}

int soft_walk_tables(struct soft_vcpu *v, uint64_t la, unsigned flags, unsigned ctx, bool set_ad,
		     struct soft_walk *w)
{
	if (v->cr0 & CR0_PG) {
		int rc = walk_paging(v, la, flags, soft_ctx_kind(ctx), set_ad, w);

		if (rc != SOFT_OK)
			return rc;
	} else {
		w->gpa = la & 0xffffffffu;
		w->error = 0;
		w->level = 0;
		w->write = w->dirty = true;
		w->global = false;
	}
	return v->eptp ? walk_ept(v, la, flags, set_ad, w) : SOFT_OK;
}

int soft_walk(struct soft_vcpu *v, uint64_t la, unsigned access_flags, bool user, bool set_ad,
	      uint64_t *ret_gpa, uint32_t *ret_pf_error, unsigned *ret_level)
{
	struct soft_walk w;
	unsigned ctx = soft_ctx_half(v) + (user ? CTX_USER : CTX_KERNEL);
	int rc = SOFT_EXCEPTION;

	if (!user && !(access_flags & ACC_SYSTEM) && (v->mode & MODE_AC))
		ctx = soft_ctx_half(v) + CTX_KERNEL_AC;
	w.error = 0;
	if ((v->efer & EFER_LMA) && !soft_canonical(la))
		goto fault;
	rc = soft_walk_tables(v, la, access_flags, ctx, set_ad, &w);
	if (rc != SOFT_OK)
		goto fault;
	/* Who asks about code caches the answer by linear address (ibtc). */
	if (access_flags & ACC_EXEC)
		soft_tlb_note(v, ctx, la, &w, true);
	*ret_gpa = w.gpa;
	if (ret_level)
		*ret_level = w.level;
	return SOFT_OK;
fault:
	if (ret_pf_error)
		*ret_pf_error = w.error;
	return rc;
}
