/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_find.c - looks blocks and code pages up, links blocks.
 *
 * GENERAL (soft.h): called with the guest's FP state in the registers.
 */
#include "vmx-driver/soft/jit.h"

struct jit_page *jit_page_get(struct soft_cache *cache, uint64_t gpa)
{
	uint64_t top = gpa >> 30, low = gpa >> 12 & (JIT_PAGES_LEAF - 1);
	struct jit_page **leaf;

	if (top >= JIT_PAGES_TOP)
		return NULL;
	leaf = __atomic_load_n(&cache->pages[top], __ATOMIC_ACQUIRE);
	return leaf ? __atomic_load_n(&leaf[low], __ATOMIC_ACQUIRE) : NULL;
}

uint64_t jit_line_mask(uint64_t gpa, uint64_t n)
{
	uint64_t first = (gpa & 4095) >> JIT_LINE_SHIFT;
	uint64_t last = ((gpa & 4095) + (n ? n - 1 : 0)) >> JIT_LINE_SHIFT;

	if (last > 63)
		last = 63;
	return (last - first == 63 ? ~0ull : ((1ull << (last - first + 1)) - 1)) << first;
}

bool soft_code_overlaps(struct soft_vm *vm, uint64_t gpa, unsigned n)
{
	struct jit_page *page = jit_page_get(vm->cache, gpa);

	return page && (__atomic_load_n(&page->lines, __ATOMIC_ACQUIRE) & jit_line_mask(gpa, n));
}

bool soft_code_page(struct soft_vm *vm, uint64_t gpa)
{
	struct jit_page *page = jit_page_get(vm->cache, gpa);

	return page && (__atomic_load_n(&page->guarded, __ATOMIC_ACQUIRE) ||
			__atomic_load_n(&page->lines, __ATOMIC_ACQUIRE));
}

bool soft_code_page_write(struct soft_vm *vm, uint64_t gpa)
{
	struct jit_page *page = jit_page_get(vm->cache, gpa);

	if (!page || !soft_code_page(vm, gpa))
		return false;
	/* Who claims it does so under the lock: either sees what the other did. */
	soft_lock(&vm->cache->lock);
	if (!page->lines)
		__atomic_store_n(&page->guarded, false, __ATOMIC_RELEASE);
	soft_unlock(&vm->cache->lock);
	return soft_code_page(vm, gpa);
}

jit_ref *jit_hash_slot(const struct soft_cache *cache, uint64_t frame, uint64_t rip, uint32_t mode)
{
	uint64_t gpa = frame << 12 | (rip & 4095);
	uint64_t h = (gpa ^ rip >> 12 ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

	return &cache->hash[h >> 32 & cache->hash_mask];
}

struct jit_block *jit_block_find(struct soft_cache *cache, const struct jit_key *key)
{
	uint64_t frame2 = key->gpa2 >> 12;
	struct jit_block *block = jit_hash_first(cache, key);

	while (block && (!jit_block_is(cache, block, key) || jit_recipe_of(block->recipe) != key->recipe ||
			 (block->frame2 != JIT_NO_FRAME && block->frame2 != frame2)))
		block = jit_block_at(cache, block->hash_next);
	return block;
}

bool jit_seen_elsewhere(struct soft_cache *cache, uint64_t gpa, uint64_t rip)
{
	struct jit_page *page = jit_page_get(cache, gpa);
	uint64_t at = page ? __atomic_load_n(&page->seen_at, __ATOMIC_RELAXED) : 0;

	return at && at != (rip & ~4095ull);
}

static void forget_in(struct soft_cache *cache, struct soft_tlb *t, unsigned i, unsigned region)
{
	const uint8_t *hot = cache->rx + cache->hot_at + region * cache->hot_size;

	if ((uintptr_t)t->ibtc[i].host - (uintptr_t)hot < cache->hot_size)
		t->ibtc[i].rip = soft_ibtc_free(i);
}

void jit_branches_forget(struct soft_vcpu *v, unsigned region)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;

	v->code_epoch++;
	for (unsigned ctx = 0; ctx < v->ctx_count; ctx++) {
		struct soft_tlb *t = &v->tlb[ctx];
		bool logged = t->ibtc_filled <= SOFT_IBTC_LOG;
		unsigned n = logged ? t->ibtc_filled : SOFT_IBTC_SIZE;

		if (region == JIT_ALL_REGIONS)
			soft_ibtc_flush(v, ctx);
		else
			for (unsigned i = 0; i < n; i++)
				forget_in(cache, t, logged ? t->ibtc_log[i] : i, region);
	}
}

void jit_store_rel32(const struct soft_cache *cache, uint32_t rel32, uint32_t to)
{
	uint32_t distance = to - (rel32 + 4);

	/* within 8 aligned bytes, where one store is seen whole; C's are for aligned words */
	__asm__ volatile("movl %1, %0" : "=m"(*(soft_u32 *)(cache->rw + rel32)) : "r"(distance) : "memory");
}

void jit_link(struct soft_cache *cache, struct jit_link *link, struct jit_block *to)
{
	const struct jit_block *from = jit_block_at(cache, link->from);

	/* Another frame: the page was mapped anew while `from` ran, which is no affair of who runs it next. */
	if (link->to || !jit_block_live(cache, from) || !jit_block_live(cache, to) ||
	    to->frame2 != JIT_NO_FRAME || to->frame != from->frame)
		return;
	link->to = jit_ref_of(cache, to);
	link->next_in = to->incoming;
	to->incoming = jit_ref_of(cache, link);
	jit_store_rel32(cache, link->rel32, to->host);
}
