/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alias.h - pages of guest memory mapped a second time, in the order of the guest's linear addresses.
 *
 * What follows each other in linear memory lies anywhere in the guest's physical memory, and so in the
 * host's. Where translated code should find many pages by one distance to host memory (struct soft_run),
 * they are mapped again in a piece of address space that each vCPU has for that: linear page n at page n %
 * SOFT_ALIAS_PAGES. Only memory that was mapped with VMX_MAP_SHARED; at most some thousand pages, and so
 * many in a second; pages that are not used any more are taken away when others need the room.
 *
 * Host addresses in there stand in runs alone, and whatever changes a page of it forgets those first.
 */
#ifndef VMX_SOFT_ALIAS_H
#define VMX_SOFT_ALIAS_H

#include <stdbool.h>
#include <stdint.h>

#define SOFT_ALIAS_PAGES 32768u
/* Each may be a mapping by itself, and a gap beside it: a process has 65530 of them (vm.max_map_count). */
#define SOFT_ALIAS_MOST 8192u /* of a VM */
#define SOFT_ALIAS_MOST_OF_VCPU 2048u

struct soft_vcpu;
struct vmx_slots;

struct soft_alias { /* of a vCPU; zeroes: nothing there yet */
	uint8_t *base;
	struct soft_alias_page {
		uint64_t la;   /* linear page, or no page at all */
		uint64_t host; /* where it is in the slot's mapping; 0: nothing is mapped here */
	} *page;
	unsigned count; /* that are mapped */
	unsigned hand;  /* where the next one is looked for that is taken away */
	bool off;       /* the host does not do it */
	bool torn;      /* somebody else's memory may be in there: it stays as it is */
	unsigned tokens; /* changes that may be made now, */
	uint64_t tokens_at; /* as of this TSC */
};

static inline unsigned soft_alias_index(uint64_t la)
{
	return (unsigned)(la >> 12) % SOFT_ALIAS_PAGES;
}
/* Is the linear page mapped, and that host page at its place? */
static inline bool soft_alias_has(const struct soft_alias *a, uint64_t la, uint64_t host)
{
	unsigned i = soft_alias_index(la);

	return a->page && a->page[i].host == host && a->page[i].la == la;
}
static inline uint64_t soft_alias_at(const struct soft_alias *a, uint64_t la)
{
	return (uint64_t)(uintptr_t)a->base + ((uint64_t)soft_alias_index(la) << 12);
}
/* So many may a vCPU have. */
static inline unsigned soft_alias_most(unsigned vcpus)
{
	unsigned share = SOFT_ALIAS_MOST / (vcpus ? vcpus : 1);

	return share < SOFT_ALIAS_MOST_OF_VCPU ? share : SOFT_ALIAS_MOST_OF_VCPU;
}
/* Makes that so, in the place of any other page if there are too many. Both are pages; host: in a slot with
 * VMX_MAP_SHARED. By the vCPU's own thread, its FP state saved. False: not now, nor ever after (->off). */
bool soft_alias_map(struct soft_vcpu *v, uint64_t la, uint64_t host);
/* Takes away all pages that are not in a slot with VMX_MAP_SHARED now. No run leads there, and the vCPU does
 * not run. */
void soft_alias_keep(struct soft_alias *a, const struct vmx_slots *now);
void soft_alias_fini(struct soft_alias *a);

#endif
