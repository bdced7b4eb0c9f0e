/* SPDX-License-Identifier: Apache-2.0 */
/* alias.c - see alias.h. */
#include "vmx-driver/soft/alias.h"

#include <sys/mman.h>

#include "vmx-driver/soft/jit.h"
#include "vmx-driver/soft/runs.h"

#define PAGE 4096u
#define AREA ((size_t)SOFT_ALIAS_PAGES * PAGE)
#define TABLE (SOFT_ALIAS_PAGES * sizeof(struct soft_alias_page))
#define NOBODY 1u /* no page's linear address */

static uint8_t *place(const struct soft_alias *a, unsigned i)
{
	return a->base + (size_t)i * PAGE;
}

/* Nothing there, but nobody else either. Where that is, or MAP_FAILED. */
static void *reserve(uint8_t *at, size_t size, int how)
{
	return mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0);
}

static bool create(struct soft_alias *a)
{
	void *area = reserve(NULL, AREA, 0);

	if (area == MAP_FAILED)
		return false;
	a->page = jit_reserve(TABLE);
	if (!a->page) {
		munmap(area, AREA);
		return false;
	}
	a->base = area;
	return true;
}

static void forget_runs(struct soft_vcpu *v, uint64_t la)
{
	for (unsigned ctx = 0; ctx < v->ctx_count; ctx++)
		soft_runs_flush(&v->tlb[ctx], la, 12);
}

static void take_away(struct soft_alias *a, unsigned i)
{
	if (reserve(place(a, i), PAGE, MAP_FIXED) == MAP_FAILED) {
		/* A mapping too many: it stays until another one takes its place, and is nobody's. */
		a->page[i].la = NOBODY;
		return;
	}
	a->page[i].host = 0;
	a->count--;
}

static void make_room(struct soft_vcpu *v)
{
	struct soft_alias *a = &v->alias;

	do
		a->hand = (a->hand + 1) % SOFT_ALIAS_PAGES;
	while (!a->page[a->hand].host);
	forget_runs(v, a->page[a->hand].la);
	take_away(a, a->hand);
}

/* What was at its place is gone, whether the kernel did it or not. */
bool soft_alias_map(struct soft_vcpu *v, uint64_t la, uint64_t host)
{
	struct soft_alias *a = &v->alias;
	unsigned i = soft_alias_index(la);
	struct soft_alias_page *p;

	a->off = !a->page && !create(a);
	if (a->off)
		return false;
	p = &a->page[i];
	if (p->host)
		forget_runs(v, p->la);
	else if (a->count >= soft_alias_most(soft_vm_of(v)->vcpu_count))
		make_room(v);
	a->count += !p->host;
	if (mremap((void *)(uintptr_t)host, 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place(a, i)) ==
	    place(a, i)) {
		*p = (struct soft_alias_page){ la, host };
		soft_count(&v->n_aliases);
		return true;
	}
	p->host = 0;
	a->count--;
	a->off = true;
	/* It may have left a hole, which anybody's mmap() may have filled. */
	a->torn = reserve(place(a, i), PAGE, MAP_FIXED_NOREPLACE) != place(a, i);
	return false;
}

static bool is_shared(const struct vmx_slots *slots, uint64_t host)
{
	for (size_t i = 0; i < slots->count; i++) {
		const struct vmx_slot *s = &slots->slot[i];

		if ((s->flags & VMX_MAP_SHARED) && host - (uint64_t)(uintptr_t)s->host < s->size)
			return true;
	}
	return false;
}

void soft_alias_keep(struct soft_alias *a, const struct vmx_slots *now)
{
	for (unsigned i = 0; a->count && i < SOFT_ALIAS_PAGES; i++)
		if (a->page[i].host && !is_shared(now, a->page[i].host))
			take_away(a, i);
}

void soft_alias_fini(struct soft_alias *a)
{
	if (!a->page)
		return;
	for (unsigned i = 0; a->torn && i < SOFT_ALIAS_PAGES; i++)
		if (a->page[i].host)
			munmap(place(a, i), PAGE);
	munmap(a->page, TABLE);
	if (!a->torn)
		munmap(a->base, AREA);
	*a = (struct soft_alias){ 0 };
}
