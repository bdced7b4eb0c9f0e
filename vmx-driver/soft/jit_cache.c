/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_cache.c - the code cache: memory, blocks by guest address, guest pages that hold code.
 *
 * One memory file is mapped twice, writable and executable (W^X); jit_region.c says where in it
 * blocks stand. A guest page with code is never in any TLB as writable; a write that hits its 64-byte
 * lines with code kills their blocks while every other vCPU is parked (soft_exclusive_begin()).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/huge.h"
#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/jit_emit.h"

#define DEFAULT_CACHE (128ull << 20)
#define TINY_CACHE (160ull << 10)
#define KEPT_RESERVE (1u << 20)
#define KILLED_AT_ONCE 64u /* blocks, in one section: each has a place in every vCPU's branch tables */
#define COUNTED_AT_ONCE 32u
#define CODE_LEAST 64u
#define HASH_PER_BYTES 512u /* of the cache */

static int map_code(struct soft_cache *cache)
{
	cache->fd = memfd_create("vmx-code", MFD_CLOEXEC);
	if (cache->fd < 0)
		return -errno;
	if (ftruncate(cache->fd, (off_t)cache->size) < 0)
		return -errno;
	cache->rw = huge_map(cache->size, PROT_READ | PROT_WRITE, cache->fd);
	cache->rx = cache->rw ? huge_map(cache->size, PROT_READ | PROT_EXEC, cache->fd) : NULL;
	return cache->rx ? 0 : -errno;
}

/* Parts fill up one after the other, and once the ring has come round none is left. */
size_t soft_memory(struct vmx_vm *base, struct vmx_memory *ret, size_t n)
{
	const struct soft_cache *cache = soft_vm_from(base)->cache;

	if (n)
		*ret = (struct vmx_memory){ cache->rw, cache->size, cache->fd, CODE_LEAST };
	return 1;
}

static size_t hash_bytes(const struct soft_cache *cache)
{
	return (cache->hash_mask + 1ull) * sizeof(*cache->hash);
}

int soft_cache_create(struct soft_vm *vm)
{
	struct soft_cache *cache = calloc(1, sizeof(*cache));
	uint32_t debug = vm->vm.options.soft_debug;
	struct jit_buf b;
	int r;

	if (!cache)
		return -ENOMEM;
	vm->cache = cache;
	cache->fd = -1;
	cache->size = vm->vm.options.code_cache_bytes ? vm->vm.options.code_cache_bytes : DEFAULT_CACHE;
	if (cache->size < (1u << 20))
		cache->size = 1u << 20;
	if (debug & VMX_SOFT_TINY_CACHE)
		cache->size = TINY_CACHE;
	if (cache->size > (1ull << 30)) /* displacements are 32 bits */
		cache->size = 1ull << 30;
	cache->size &= ~4095ull;
	cache->chain = !(debug & VMX_SOFT_NO_CHAIN);
	cache->use_l0 = !(debug & VMX_SOFT_NO_TLB);
	cache->all_moved = debug & VMX_SOFT_MOVED_CODE;
	cache->all_runs = debug & VMX_SOFT_RUNS;
	cache->block_insns = debug & VMX_SOFT_ONE_INSN ? 1 : JIT_BLOCK_INSNS;
	pthread_mutex_init(&cache->translating, NULL);
	r = map_code(cache);
	if (r < 0)
		goto fail;
	r = -ENOMEM;
	cache->kept_max = (cache->size + KEPT_RESERVE) / sizeof(struct jit_kept);
	cache->hash_mask = (1u << (31 - __builtin_clz((uint32_t)(cache->size / HASH_PER_BYTES)))) - 1;
	cache->epoch = 1;
	cache->hash = jit_reserve(hash_bytes(cache));
	cache->pages = jit_reserve(JIT_PAGES_TOP * sizeof(*cache->pages));
	cache->scratch = jit_scratch_new();
	if (!cache->hash || !cache->pages || !cache->scratch)
		goto fail;
	r = jit_signals_install();
	if (r < 0)
		goto fail;
	b = (struct jit_buf){ .p = cache->rw, .end = cache->rw + cache->size };
	jit_stubs_emit(cache, &b);
	r = jit_regions_create(cache, ((size_t)(b.p - cache->rw) + 15) & ~15ull);
	if (r < 0)
		goto fail;
	return 0;
fail:
	soft_cache_destroy(vm);
	return r;
}

static void free_pages(struct soft_cache *cache)
{
	for (size_t i = 0; cache->pages && i < JIT_PAGES_TOP; i++) {
		struct jit_page **leaf = cache->pages[i];

		if (!leaf)
			continue;
		for (size_t k = 0; k < JIT_PAGES_LEAF; k++)
			free(leaf[k]);
		munmap(leaf, JIT_PAGES_LEAF * sizeof(*leaf));
	}
}

static bool in_operation(const struct soft_vm *vm, const struct jit_kept *kept)
{
	for (unsigned i = 0; vm && i < VMX_VCPUS_MAX; i++)
		if (vm->vcpus[i] && __atomic_load_n(&vm->vcpus[i]->op_insn, __ATOMIC_RELAXED) == &kept->insn)
			return true;
	return false;
}

void jit_insns_forget(struct soft_vm *vm, struct soft_cache *cache, uint64_t turn)
{
	for (size_t i = 0; i < JIT_KEPT_SIZE; i++) {
		for (struct jit_kept **p = &cache->kept[i], *kept; (kept = *p);) {
			if (kept->turn > turn || in_operation(vm, kept)) {
				p = &kept->next;
				continue;
			}
			*p = kept->next;
			free(kept);
			cache->kept_count--;
		}
	}
}

void soft_cache_destroy(struct soft_vm *vm)
{
	struct soft_cache *cache = vm->cache;

	if (!cache)
		return;
	free_pages(cache);
	jit_insns_forget(NULL, cache, ~0ull);
	jit_regions_destroy(cache);
	if (cache->pages)
		munmap(cache->pages, JIT_PAGES_TOP * sizeof(*cache->pages));
	if (cache->hash)
		munmap(cache->hash, hash_bytes(cache));
	if (cache->rw)
		munmap(cache->rw, cache->size);
	if (cache->rx)
		munmap(cache->rx, cache->size);
	if (cache->fd >= 0)
		close(cache->fd);
	free(cache->scratch);
	pthread_mutex_destroy(&cache->translating);
	free(cache);
	vm->cache = NULL;
}

const struct soft_insn *jit_insn_keep(struct soft_cache *cache, const struct soft_insn *insn)
{
	struct jit_kept **slot, *kept;
	unsigned hash = insn->len;

	for (unsigned i = 0; i < insn->len; i++)
		hash = hash * 31 + insn->bytes[i];
	slot = &cache->kept[hash % JIT_KEPT_SIZE];
	for (kept = *slot; kept; kept = kept->next)
		if (kept->insn.len == insn->len && kept->insn.code == insn->code &&
		    memcmp(kept->insn.bytes, insn->bytes, insn->len) == 0)
			break;
	if (kept) {
		kept->turn = cache->turn;
		return &kept->insn;
	}
	if (cache->kept_count >= cache->kept_max)
		return NULL;
	kept = malloc(sizeof(*kept));
	if (!kept)
		return NULL;
	cache->kept_count++;
	kept->insn = *insn;
	kept->turn = cache->turn;
	kept->next = *slot;
	*slot = kept;
	return &kept->insn;
}

/* --- pages ---------------------------------------------------------------------------------- */

/* The record of a page, made if need be. cache->lock held. NULL: no memory, or beyond 1 TiB. */
struct jit_page *jit_page_make(struct soft_cache *cache, uint64_t gpa)
{
	uint64_t top = gpa >> 30, low = gpa >> 12 & (JIT_PAGES_LEAF - 1);
	struct jit_page **leaf;

	if (top >= JIT_PAGES_TOP)
		return NULL;
	leaf = cache->pages[top];
	if (!leaf) {
		leaf = jit_reserve(JIT_PAGES_LEAF * sizeof(*leaf));
		if (!leaf)
			return NULL;
		__atomic_store_n(&cache->pages[top], leaf, __ATOMIC_RELEASE);
	}
	if (!leaf[low]) {
		struct jit_page *page = calloc(1, sizeof(*page));

		__atomic_store_n(&leaf[low], page, __ATOMIC_RELEASE);
	}
	return leaf[low];
}

/* --- blocks --------------------------------------------------------------------------------- */

static jit_ref *hash_slot(const struct soft_cache *cache, const struct jit_block *block)
{
	return jit_hash_slot(cache, block->frame, block->rip, block->mode);
}

uint64_t jit_block_lines(const struct jit_block *block, unsigned k)
{
	if (k)
		return 1;
	return jit_line_mask(block->rip, ((block->last_line + 1ull) << JIT_LINE_SHIFT) - (block->rip & 4095));
}

static void see(struct soft_cache *cache, struct jit_page *page, const struct jit_block *block)
{
	uint64_t at = page->seen_at;

	if (jit_is_moved(block))
		at = JIT_SEVERAL;
	else if (!at && jit_may_move(cache, block->mode))
		at = block->rip & ~4095ull;
	__atomic_store_n(&page->seen_at, at, __ATOMIC_RELAXED);
}

void jit_block_add(struct soft_vm *vm, struct jit_block *block)
{
	struct soft_cache *cache = vm->cache;
	jit_ref *slot = hash_slot(cache, block), ref = jit_ref_of(cache, block);

	soft_lock(&cache->lock);
	block->epoch = cache->epoch;
	block->hash_next = *slot;
	*slot = ref;
	for (unsigned k = 0; k < 2; k++) {
		struct jit_page *page = jit_page_make(cache, jit_block_gpa(block, k));

		if (page) {
			jit_block_list(block, k, true);
			block->next[k] = 0;
			if (page->blocks[k])
				jit_block_at(cache, page->last[k])->next[k] = ref;
			else
				page->blocks[k] = ref;
			page->last[k] = ref;
			page->of_blocks |= jit_block_lines(block, k);
			if (!k)
				see(cache, page, block);
		}
	}
	soft_unlock(&cache->lock);
}

static void unlink_one(struct soft_cache *cache, struct jit_link *link)
{
	jit_store_rel32(cache, link->rel32, link->unlinked);
	link->to = 0;
}

static void forget_in_table(struct soft_vcpu *v, unsigned ctx, const struct jit_block *block)
{
	struct soft_tlb *t = &v->tlb[ctx];
	unsigned slot = jit_branch_slot(block->rip);

	if (jit_is_moved(block)) {
		if (t->ibtc_mode == (block->mode & ~JIT_MODE_BITS))
			soft_ibtc_flush(v, ctx);
	} else if (t->ibtc[slot].rip == block->rip) {
		t->ibtc[slot].rip = soft_ibtc_free(slot);
	}
}

/* No vCPU's branch table leads to the block any more: each has one place for its address, but those of
 * moved code are not known. */
static void forget_branches(struct soft_vm *vm, const struct jit_block *block)
{
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		struct soft_vcpu *v = vm->vcpus[i];

		if (v)
			v->code_epoch++;
		for (unsigned ctx = 0; v && ctx < v->ctx_count; ctx++)
			forget_in_table(v, ctx, block);
	}
}

void jit_block_unlink(struct soft_cache *cache, struct jit_block *block)
{
	jit_ref *p = hash_slot(cache, block), ref = jit_ref_of(cache, block);

	if (!block->epoch)
		return;
	while (*p && *p != ref)
		p = &jit_block_at(cache, *p)->hash_next;
	if (*p)
		*p = block->hash_next;
	/* What it had links with was thrown away as well, and may be something else by now. */
	if (!jit_block_live(cache, block)) {
		block->epoch = 0;
		block->dead = true;
		return;
	}
	for (struct jit_link *in = jit_link_at(cache, block->incoming); in; in = jit_link_at(cache, in->next_in))
		unlink_one(cache, in);
	block->incoming = 0;
	for (unsigned k = 0; k < block->link_count; k++) {
		struct jit_link *out = &jit_links(block)[k];
		jit_ref *in, of_out = jit_ref_of(cache, out);

		if (!out->to)
			continue;
		in = &jit_block_at(cache, out->to)->incoming;
		while (*in && *in != of_out)
			in = &jit_link_at(cache, *in)->next_in;
		if (*in)
			*in = out->next_in;
		unlink_one(cache, out);
	}
	block->epoch = 0;
}

static void kill_block(struct soft_vm *vm, struct jit_block *block)
{
	jit_block_unlink(vm->cache, block);
	block->dead = true;
	forget_branches(vm, block);
	soft_count(&vm->cache->n_killed);
}

/* Those of an earlier epoch run no more. Those that were only unlinked may, for now. */
static bool may_run(const struct soft_cache *cache, const struct jit_block *block)
{
	return !block->dead && (!block->epoch || block->epoch == cache->epoch);
}

/* The lines of its first blocks, `most` of them. False: there are more. */
static bool count_lines(const struct soft_cache *cache, const struct jit_page *page, unsigned most,
			uint64_t *ret_lines)
{
	*ret_lines = 0;
	for (unsigned k = 0; k < 2; k++) {
		for (struct jit_block *block = jit_block_at(cache, page->blocks[k]); block;
		     block = jit_block_at(cache, block->next[k])) {
			if (!most--)
				return false;
			*ret_lines |= may_run(cache, block) ? jit_block_lines(block, k) : 0;
		}
	}
	return true;
}

/* A library's page has many blocks, each of a process that had it elsewhere. Then a line that none of them
 * has any more counts as code until somebody writes there. */
void jit_page_leave(struct soft_cache *cache, struct jit_page *page, unsigned k, jit_ref first, size_t size)
{
	uint64_t lines;

	while (page->blocks[k] && page->blocks[k] - first < size) {
		struct jit_block *block = jit_block_at(cache, page->blocks[k]);

		page->blocks[k] = block->next[k];
		jit_block_list(block, k, false);
	}
	if (count_lines(cache, page, COUNTED_AT_ONCE, &lines))
		page->of_blocks = lines;
	jit_page_narrow(page);
}

/* Kills blocks of a page that touch the lines, KILLED_AT_ONCE at most; others parked, cache->lock held.
 * A block in two pages leaves the other's list when that one is looked through. False: there are more. */
static bool kill_lines(struct soft_vm *vm, struct jit_page *page, uint64_t mask)
{
	unsigned n = 0;

	for (unsigned k = 0; k < 2; k++) {
		jit_ref last = 0;

		for (jit_ref *p = &page->blocks[k]; *p;) {
			struct jit_block *block = jit_block_at(vm->cache, *p);

			if (!block->dead && (jit_block_lines(block, k) & mask)) {
				if (n++ == KILLED_AT_ONCE)
					return false;
				kill_block(vm, block);
			}
			if (block->dead) {
				if (!block->next[k])
					page->last[k] = last;
				*p = block->next[k];
				jit_block_list(block, k, false);
			} else {
				last = *p;
				p = &block->next[k];
			}
		}
	}
	(void)count_lines(vm->cache, page, ~0u, &page->of_blocks);
	if (!page->blocks[0])
		__atomic_store_n(&page->seen_at, 0, __ATOMIC_RELAXED);
	jit_page_narrow(page);
	return true;
}

void jit_page_narrow(struct jit_page *page)
{
	__atomic_store_n(&page->lines, page->claimed ? ~0ull : page->of_blocks, __ATOMIC_RELEASE);
}

static bool touches_code(struct soft_vm *vm, uint64_t gpa, uint64_t n)
{
	while (n) {
		uint64_t part = 4096 - (gpa & 4095);

		if (part > n)
			part = n;
		if (soft_code_overlaps(vm, gpa, (unsigned)part))
			return true;
		gpa += part;
		n -= part;
	}
	return false;
}

/* The same for [gpa, gpa+n) in one page, in sections between which the others go on: they may run what was
 * there for a little longer, as after any store of somebody else's. */
static void kill_part(struct soft_vm *vm, struct soft_vcpu *v, uint64_t gpa, uint64_t n)
{
	struct soft_cache *cache = vm->cache;
	struct jit_page *page = jit_page_get(cache, gpa);
	bool all = !page;

	while (!all) {
		soft_exclusive_begin(vm, v);
		soft_lock(&cache->lock);
		all = kill_lines(vm, page, jit_line_mask(gpa, n));
		soft_unlock(&cache->lock);
		soft_exclusive_end(vm, v);
	}
}

void soft_code_written(struct soft_vm *vm, struct soft_vcpu *v, uint64_t gpa, uint64_t n)
{
	if (!touches_code(vm, gpa, n))
		return;
	while (n) {
		uint64_t part = 4096 - (gpa & 4095);

		if (part > n)
			part = n;
		if (soft_code_overlaps(vm, gpa, (unsigned)part))
			kill_part(vm, v, gpa, part);
		gpa += part;
		n -= part;
	}
	if (v)
		soft_count(&v->n_invalidations);
}

/* Everything goes; not from inside translated code. Blocks of another epoch are not found any more; what
 * is left of them goes with their regions, when these are wanted; until then their pages may ask for
 * nothing. */
void soft_code_flush_all(struct soft_vm *vm, struct soft_vcpu *v)
{
	struct soft_cache *cache = vm->cache;

	soft_exclusive_begin(vm, v);
	soft_lock(&cache->lock);
	cache->epoch++;
	if (!cache->epoch)
		cache->epoch = 1;
	__atomic_store_n(&cache->gone, cache->gone + 1, __ATOMIC_RELEASE);
	cache->gone_region = JIT_ALL_REGIONS;
	soft_count(&cache->n_flushes);
	soft_unlock(&cache->lock);
	soft_exclusive_end(vm, v);
}

/* Inside an exclusive section: guest-physical addresses mean something else now. */
void soft_cache_slots_changed(struct soft_vm *vm, const struct vmx_slots *now)
{
	(void)now;
	soft_code_flush_all(vm, NULL);
}
