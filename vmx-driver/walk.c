/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.c - from a guest-virtual to a guest-physical address, as the processor would (W9, SDM 3A 4).
 *
 * For engines that have no translator of their own. Protection keys are not looked at. vm->lock is
 * held by the caller, so the slots stay.
 */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <string.h>

#define CR0_WP (1u << 16)
#define CR0_PG (1u << 31)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_LA57 (1u << 12)
#define CR4_SMEP (1u << 20)
#define CR4_SMAP (1u << 21)
#define EFER_LMA (1u << 10)
#define EFER_NXE (1u << 11)
#define RFLAGS_AC (1u << 18)

#define PTE_P 0x01u
#define PTE_W 0x02u
#define PTE_U 0x04u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u
#define PTE_NX (1ull << 63)
#define ADDRESS_MASK 0x000ffffffffff000ull

struct walk {
	const struct vmx_slots *slots;
	const struct vmx_sregs *sregs;
	uint64_t rflags;
	unsigned cpl, phys_bits;
	uint32_t flags;
	uint64_t gva;
	/* what the tables said */
	uint64_t gpa;
	uint64_t rights;    /* AND of W and U over the levels */
	bool nx;
	unsigned used;      /* entries walked through, for A and D */
	uint64_t entry_gpa[5];
	unsigned entry_size;
};

/* The guest's memory at gpa, or NULL; `len` does not cross a page. */
static void *host_of(const struct walk *w, uint64_t gpa)
{
	const struct vmx_slot *s = vmx_slot_find(w->slots, gpa);

	return s ? s->host + (gpa - s->gpa) : NULL;
}

static bool read_entry(struct walk *w, uint64_t gpa, uint64_t *ret)
{
	const void *p = host_of(w, gpa);

	if (!p)
		return false;
	if (w->entry_size == 8)
		*ret = __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	else
		*ret = __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
	return true;
}

static bool reserved(const struct walk *w, uint64_t entry, unsigned level, bool leaf)
{
	uint64_t mask = ADDRESS_MASK & ~((1ull << w->phys_bits) - 1);

	if (w->entry_size == 4) /* PSE-36 is not offered by anything we run on */
		return leaf && level == 2 && (entry & 0x003fe000u);
	if (!(w->sregs->efer & EFER_NXE))
		mask |= PTE_NX;
	if (level >= 4)
		mask |= PTE_PS;
	if (leaf && level == 2)
		mask |= 0x001fe000ull;
	if (leaf && level == 3)
		mask |= 0x3fffe000ull;
	if (!(w->sregs->efer & EFER_LMA)) /* PAE */
		mask |= 0x7ff0000000000000ull;
	return entry & mask;
}

/* Walks `levels` levels from the table at `table`. */
static enum vmx_translate_result walk_tables(struct walk *w, uint64_t table, unsigned levels)
{
	unsigned bits = w->entry_size == 8 ? 9 : 10;

	w->rights = PTE_W | PTE_U;
	for (unsigned level = levels; level; level--) {
		unsigned shift = 12 + bits * (level - 1);
		uint64_t index = w->gva >> shift & ((1u << bits) - 1), entry;
		uint64_t at = table + index * w->entry_size;
		bool leaf;

		if (!read_entry(w, at, &entry))
			return VMX_TRANSLATE_GPA_UNMAPPED;
		if (!(entry & PTE_P))
			return VMX_TRANSLATE_NOT_PRESENT;
		leaf = level == 1 || (level <= 3 && (entry & PTE_PS) &&
				      (w->entry_size == 8 || w->sregs->cr4 & CR4_PSE));
		if (reserved(w, entry, level, leaf))
			return VMX_TRANSLATE_RESERVED_BITS;
		w->rights &= entry;
		w->nx |= w->entry_size == 8 && (entry & PTE_NX);
		w->entry_gpa[w->used++] = at;
		table = entry & (w->entry_size == 8 ? ADDRESS_MASK : 0xfffff000u);
		if (leaf) {
			uint64_t low = (1ull << shift) - 1;

			w->gpa = (table & ~low) | (w->gva & low);
			return VMX_TRANSLATE_OK;
		}
	}
	return VMX_TRANSLATE_NOT_PRESENT;
}

/* PAE outside long mode: four pointers, then two levels. */
static enum vmx_translate_result walk_pae(struct walk *w)
{
	uint64_t entry;

	if (!read_entry(w, (w->sregs->cr3 & 0xffffffe0u) + (w->gva >> 30 & 3) * 8, &entry))
		return VMX_TRANSLATE_GPA_UNMAPPED;
	if (!(entry & PTE_P))
		return VMX_TRANSLATE_NOT_PRESENT;
	return walk_tables(w, entry & ADDRESS_MASK, 2);
}

static enum vmx_translate_result find_gpa(struct walk *w)
{
	const struct vmx_sregs *s = w->sregs;

	if (!(s->efer & EFER_LMA))
		w->gva = (uint32_t)w->gva;
	w->gpa = w->gva;
	w->rights = PTE_W | PTE_U;
	if (!(s->cr0 & CR0_PG))
		return VMX_TRANSLATE_OK;
	w->entry_size = s->cr4 & CR4_PAE ? 8 : 4;
	if (s->efer & EFER_LMA) {
		unsigned levels = s->cr4 & CR4_LA57 ? 5 : 4, bits = 12 + 9 * levels;

		if ((uint64_t)((int64_t)(w->gva << (64 - bits)) >> (64 - bits)) != w->gva)
			return VMX_TRANSLATE_NOT_PRESENT; /* not canonical */
		return walk_tables(w, s->cr3 & ADDRESS_MASK, levels);
	}
	if (s->cr4 & CR4_PAE)
		return walk_pae(w);
	return walk_tables(w, s->cr3 & 0xfffff000u, 2);
}

static bool allowed(const struct walk *w)
{
	const struct vmx_sregs *s = w->sregs;
	bool user = w->cpl == 3 && !(w->flags & VMX_TRANSLATE_PRIVILEGE_EXEMPT);
	bool user_page = w->rights & PTE_U, exec = w->flags & VMX_TRANSLATE_EXEC;

	if (!(s->cr0 & CR0_PG))
		return true;
	if (user && !user_page)
		return false;
	if ((w->flags & VMX_TRANSLATE_WRITE) && !(w->rights & PTE_W) && (user || s->cr0 & CR0_WP))
		return false;
	if (exec && (w->nx || (!user && user_page && s->cr4 & CR4_SMEP)))
		return false;
	return user || !user_page || !(s->cr4 & CR4_SMAP) || (w->rflags & RFLAGS_AC) ||
	       !(w->flags & (VMX_TRANSLATE_READ | VMX_TRANSLATE_WRITE));
}

static enum vmx_translate_result check_slot(const struct walk *w)
{
	const struct vmx_slot *s = vmx_slot_find(w->slots, w->gpa);

	if (!s)
		return VMX_TRANSLATE_GPA_UNMAPPED;
	if ((w->flags & VMX_TRANSLATE_WRITE) && !(s->flags & VMX_MAP_WRITE))
		return VMX_TRANSLATE_GPA_NO_WRITE;
	if ((w->flags & VMX_TRANSLATE_EXEC) && !(s->flags & VMX_MAP_EXEC))
		return VMX_TRANSLATE_GPA_NO_READ;
	return VMX_TRANSLATE_OK;
}

static void set_accessed(const struct walk *w)
{
	for (unsigned i = 0; i < w->used; i++) {
		const struct vmx_slot *s = vmx_slot_find(w->slots, w->entry_gpa[i]);
		uint32_t bits = PTE_A, *p = host_of(w, w->entry_gpa[i]);

		if (!s || !(s->flags & VMX_MAP_WRITE))
			continue;
		if (i == w->used - 1 && (w->flags & VMX_TRANSLATE_WRITE))
			bits |= PTE_D;
		if ((__atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST) & bits) != bits && s->dirty) {
			uint64_t page = (w->entry_gpa[i] - s->gpa) / VMX_PAGE_SIZE;

			__atomic_fetch_or(&s->dirty[page / 64], 1ull << (page % 64),
					  __ATOMIC_RELAXED);
		}
	}
}

enum vmx_translate_result vmx_walk(const struct vmx_slots *slots, const struct vmx_sregs *sregs,
				   uint64_t rflags, unsigned phys_bits, uint64_t gva,
				   uint32_t flags, uint64_t *ret_gpa)
{
	struct walk w = {
		.slots = slots,
		.sregs = sregs,
		.rflags = rflags,
		.cpl = sregs->ss.attributes >> 5 & 3,
		.phys_bits = phys_bits,
		.flags = flags,
		.gva = gva,
	};
	enum vmx_translate_result result = find_gpa(&w);

	if (result != VMX_TRANSLATE_OK)
		return result;
	if (!allowed(&w))
		return VMX_TRANSLATE_PRIVILEGE;
	*ret_gpa = w.gpa;
	result = check_slot(&w);
	if (result == VMX_TRANSLATE_OK && (flags & VMX_TRANSLATE_SET_AD))
		set_accessed(&w);
	return result;
}
