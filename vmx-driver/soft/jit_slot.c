/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_slot.c - which entry of L0 an access has, or whether it does without.
 *
 * A program's loops do best with one for each access. A kernel runs thousands of accesses once from
 * one system call or task switch to the next, more than L0 has entries, and on another stack and task
 * than last time: there those share one that are likely to be to one page. What that gets wrong is
 * found by the misses, as ever (JIT_BY_L1).
 */
#include "vmx-driver/soft/jit_tr.h"

/* Shares of the entries of one kind, for supervisor code. */
#define OF_A_KIND (SOFT_L0_SIZE / (SOFT_L0_KINDS / SOFT_L0_LINE))
#define STACK_SLOTS 16u
#define PAGE_SLOTS_LOG 7u
#define BASE_SLOTS_LOG 8u
#define FIRST_PAGE STACK_SLOTS
#define FIRST_BASE (FIRST_PAGE + (1u << PAGE_SLOTS_LOG))
#define FIRST_OWN (FIRST_BASE + (1u << BASE_SLOTS_LOG))
/* For SOFT_LARGE_SIZE bytes each, of those for reads. Nobody else may fill them: what is said of a small
 * page would be taken for what is around it too. */
#define LARGE_SLOTS 128u
#define FIRST_LARGE (OF_A_KIND - LARGE_SLOTS)
_Static_assert(FIRST_OWN < FIRST_LARGE, "slots of each way to choose one");
/* Code that lies within so many bytes shares: about a function. */
#define NEAR_SHIFT 8
#define SLOT_HASH 0x9e3779b1u

static bool shares(const struct tr *t)
{
	return !(t->mode & MODE_USER);
}

/* Some are for writes, so that a load never uses a store's permission, some for entries that hold the
 * host page: lines of either kind take turns. */
static uint32_t entry(unsigned n, bool write, bool page)
{
	unsigned kind = (page ? SOFT_L0_PAGE : 0) | (write ? SOFT_L0_WRITE : 0);

	return n / SOFT_L0_LINE * SOFT_L0_KINDS + kind + n % SOFT_L0_LINE;
}

/* One after the other, so that what is translated together lies together in the host's cache. */
uint32_t jit_slot_own(struct tr *t, bool write, bool page)
{
	unsigned kind = page << 1 | write, first = shares(t) && !page ? FIRST_OWN : 0;
	unsigned end = write ? OF_A_KIND : FIRST_LARGE;

	return entry(first + t->cache->l0_next[kind]++ % (end - first), write, page);
}
_Static_assert(SOFT_L0_WRITE == 1 * SOFT_L0_LINE && SOFT_L0_PAGE == 2 * SOFT_L0_LINE, "l0_next");

uint32_t jit_slot_large(struct tr *t, bool page)
{
	return entry(FIRST_LARGE + t->cache->l0_next_large++ % LARGE_SLOTS, false, page);
}

/* For each size its own, as the size of an access and its run's last byte say what a hit is. */
uint32_t jit_slot_run(struct tr *t, unsigned size, bool write, bool page)
{
	static const uint8_t count[] = { 16, 16, 24, 40, 12, 8, 6, 6 };
	unsigned log2 = soft_run_class(size), kind = page << 1 | write, first = 0;

	for (unsigned i = 0; i < log2; i++)
		first += count[i];
	return kind * SOFT_RUNS_OF_KIND + first + t->cache->run_next[kind][log2]++ % count[log2];
}
_Static_assert(SOFT_RUN_WRITE == 1 * SOFT_RUNS_OF_KIND && SOFT_RUN_PAGE == 2 * SOFT_RUNS_OF_KIND, "run_next");
_Static_assert(16 + 16 + 24 + 40 + 12 + 8 + 6 + 6 == SOFT_RUNS_OF_KIND, "shares of the sizes");

uint32_t jit_slot_of_page(struct tr *t, uint64_t page, bool write)
{
	unsigned hash = (uint32_t)(page ^ page >> 12) * SLOT_HASH;

	if (!shares(t))
		return jit_slot_own(t, write, false);
	return entry(FIRST_PAGE + (hash >> (32 - PAGE_SLOTS_LOG)), write, false);
}

uint32_t jit_slot_of_base(struct tr *t, unsigned base, bool write)
{
	unsigned near = (unsigned)(t->gpa >> NEAR_SHIFT);

	if (!shares(t) || base == H_R10)
		return jit_slot_own(t, write, false);
	if (base == H_R8) /* the guest's RSP */
		return entry(near % STACK_SLOTS, write, false);
	return entry(FIRST_BASE + ((near ^ base << 20) * SLOT_HASH >> (32 - BASE_SLOTS_LOG)), write,
		     false);
}

unsigned jit_site_noted(const struct tr *t, uint64_t rip)
{
	return t->cache->use_l0 ? jit_site_note(t->cache, (t->gpa & ~4095ull) + (rip & 4095)) : 0;
}

enum jit_site_mode jit_site_mode(const struct tr *t, const struct item *it)
{
	enum jit_site_mode mode = it->note & JIT_SITE_MODE;

	return mode == JIT_BY_L0 && t->cache->all_runs ? JIT_BY_RUN : mode;
}

enum jit_site_mode jit_access_mode(enum jit_site_mode mode, unsigned size, bool write)
{
	bool cannot = mode == JIT_BY_LARGE ? write : mode == JIT_BY_RUN && size > SOFT_RUN_SIZE_MAX;

	return cannot ? JIT_BY_L1 : mode;
}

bool jit_site_reads(const struct item *it)
{
	return it->note & JIT_SITE_READS;
}
