/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_region.c - where translated code stands, and how it makes room for other code.
 *
 * The cache is a ring of regions. Blocks are added to the current one; when that is full the oldest
 * one is emptied and is the current one next. It goes step by step, so that nobody waits long:
 *   1. While the current region fills up its blocks leave the hash and every jump between them and
 *      others is bent back. Branch tables may still lead to them, and writes to their bytes find them.
 *   2. Who sees soft_cache.gone change drops the entries of its branch tables that lead there
 *      (soft_jit_run()). A vCPU that has done so, or is parked and will do so before it runs any code, is
 *      no more inside. Only if some vCPU did neither by the time that the region is wanted, all are parked.
 *   3. The blocks leave the lists of their pages. What is left is filled with INT3.
 */
#include <errno.h>
#include <sys/mman.h>

#include "vmx-driver/soft/jit_emit.h"

#define REGIONS 16u              /* if they are not larger then than */
#define REGION_MAX (512u << 10)  /* bytes of code, so that step 3 is short, and not smaller than */
#define REGION_MIN (24u << 10)
#define HOT_PERCENT 54u          /* of the code, where guests' kernels and programs were looked at */
#define META_PER_CODE 1u
#define META_FIRST 64u           /* nothing is there: no metadata has jit_ref 0 */
#define AT_ONCE 16u              /* blocks that are unlinked under one hold of the lock */
#define EACH_TIME 8u             /* ... for each one that is made */

static unsigned index_now(const struct soft_cache *cache)
{
	return (unsigned)(cache->turn % cache->region_count);
}

static struct jit_region *current(const struct soft_cache *cache)
{
	return &cache->regions[index_now(cache)];
}

static uint8_t *meta_of(const struct soft_cache *cache, unsigned region)
{
	return cache->meta + META_FIRST + region * cache->meta_size;
}

/* Where the reference to a region's i-th block stands. */
static jit_ref *block_slot(const struct soft_cache *cache, unsigned region, uint32_t i)
{
	return (jit_ref *)(void *)(meta_of(cache, region) + cache->meta_size) - 1 - i;
}

static struct jit_block *block_of(const struct soft_cache *cache, unsigned region, uint32_t i)
{
	return jit_block_at(cache, *block_slot(cache, region, i));
}

static size_t meta_bytes(const struct soft_cache *cache)
{
	return META_FIRST + cache->region_count * cache->meta_size;
}

void *jit_reserve(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int jit_regions_create(struct soft_cache *cache, size_t used)
{
	size_t room = cache->size - used, size = room / REGIONS;

	if (size > REGION_MAX)
		size = REGION_MAX;
	if (size < REGION_MIN)
		size = REGION_MIN;
	cache->region_count = (unsigned)(room / size);
	cache->hot_size = size * HOT_PERCENT / 100 & ~15ull;
	cache->cold_size = (size - cache->hot_size) & ~15ull;
	cache->hot_at = used;
	cache->cold_at = used + cache->region_count * cache->hot_size;
	cache->meta_size = size * META_PER_CODE & ~15ull;
	cache->meta = jit_reserve(meta_bytes(cache));
	cache->regions = jit_reserve(cache->region_count * sizeof(*cache->regions));
	return cache->meta && cache->regions ? 0 : -ENOMEM;
}

void jit_regions_destroy(struct soft_cache *cache)
{
	if (cache->meta)
		munmap(cache->meta, meta_bytes(cache));
	if (cache->regions)
		munmap(cache->regions, cache->region_count * sizeof(*cache->regions));
}

/* --- adding blocks -------------------------------------------------------------------------- */

static struct jit_buf free_part(const struct soft_cache *cache, size_t at, size_t size, size_t used)
{
	uint8_t *start = cache->rw + at + index_now(cache) * size;

	return (struct jit_buf){ .p = start + used, .end = start + size };
}

void jit_region_begin(struct soft_cache *cache, struct jit_buf *hot, struct jit_buf *cold)
{
	struct jit_region *r = current(cache);

	r->meta_used = r->meta_made;
	*hot = free_part(cache, cache->hot_at, cache->hot_size, r->used);
	*cold = free_part(cache, cache->cold_at, cache->cold_size, r->used_cold);
}

/* Statistics read them meanwhile. */
static void set_used(struct jit_region *r, size_t hot, size_t cold, size_t meta)
{
	__atomic_store_n(&r->used, hot, __ATOMIC_RELAXED);
	__atomic_store_n(&r->used_cold, cold, __ATOMIC_RELAXED);
	__atomic_store_n(&r->meta_made, meta, __ATOMIC_RELAXED);
}

/* How much of a part is used up to p. */
static size_t used_up_to(const struct soft_cache *cache, size_t at, size_t size, const uint8_t *p)
{
	return (size_t)(p - (cache->rw + at + index_now(cache) * size));
}

void jit_region_commit(struct soft_cache *cache, const struct jit_buf *hot, const struct jit_buf *cold,
		       struct jit_block *block)
{
	struct jit_region *r = current(cache);

	/* the next block begins at a multiple of 16; so does the end */
	set_used(r, (used_up_to(cache, cache->hot_at, cache->hot_size, hot->p) + 15) & ~15ull,
		 used_up_to(cache, cache->cold_at, cache->cold_size, cold->p), r->meta_used);
	*block_slot(cache, index_now(cache), r->count) = jit_ref_of(cache, block);
	__atomic_store_n(&r->count, r->count + 1, __ATOMIC_RELEASE);
}

/* A slot for the block that all this is for is kept free. */
void *jit_meta_alloc(struct soft_cache *cache, size_t size)
{
	struct jit_region *r = current(cache);
	size_t at = (r->meta_used + 7) & ~7ull;
	size_t limit = cache->meta_size - (r->count + 1) * sizeof(jit_ref);

	if (at > limit || size > limit - at)
		return NULL;
	r->meta_used = at + size;
	return meta_of(cache, index_now(cache)) + at;
}

bool jit_region_empty(const struct soft_cache *cache)
{
	return !current(cache)->count;
}

/* Blocks are in the order of their hot code, a region's pieces in that of regions. */
struct jit_block *jit_block_of_host(struct soft_cache *cache, const uint8_t *host)
{
	size_t at = (size_t)(host - cache->rx) - cache->hot_at, region = at / cache->hot_size;
	uint32_t lo = 0, hi;
	struct jit_block *block;

	if (region >= cache->region_count)
		return NULL;
	hi = __atomic_load_n(&cache->regions[region].count, __ATOMIC_ACQUIRE);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (jit_host(cache, block_of(cache, (unsigned)region, mid)) <= host)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return NULL;
	block = block_of(cache, (unsigned)region, lo - 1);
	return host < jit_host(cache, block) + block->host_size ? block : NULL;
}

/* --- emptying a region ---------------------------------------------------------------------- */

/* Step 1, for some blocks of the oldest region. The last of them announces it. */
static void unlink_some(struct soft_cache *cache, unsigned n)
{
	unsigned region = (unsigned)((cache->turn + 1) % cache->region_count);
	struct jit_region *r = &cache->regions[region];

	soft_lock(&cache->lock);
	for (; n && r->unlinked < r->count; n--)
		jit_block_unlink(cache, block_of(cache, region, r->unlinked++));
	if (r->unlinked == r->count && r->count && !r->gone) {
		r->gone = true;
		cache->gone_region = region;
		__atomic_store_n(&cache->gone, cache->gone + 1, __ATOMIC_SEQ_CST);
	}
	soft_unlock(&cache->lock);
}

void jit_region_prepare(struct soft_cache *cache)
{
	const struct jit_region *r = current(cache);

	if (r->used > cache->hot_size / 2 || r->used_cold > cache->cold_size / 2 ||
	    r->meta_used > cache->meta_size / 2)
		unlink_some(cache, EACH_TIME);
}

/* Step 2: is no vCPU but v inside of what is gone, nor will be? */
static bool all_left(struct soft_vm *vm, const struct soft_vcpu *v)
{
	uint64_t gone = vm->cache->gone;

	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		struct soft_vcpu *other = vm->vcpus[i];

		/* Who parks no more says so before it looks at `gone`. */
		if (other && other != v && !atomic_load(&other->parked) &&
		    __atomic_load_n(&jit_of(other)->gone, __ATOMIC_ACQUIRE) != gone)
			return false;
	}
	return true;
}

/* Step 3. A region's blocks are older than all others. */
static void leave_pages(struct soft_cache *cache, unsigned region)
{
	const struct jit_region *r = &cache->regions[region];
	jit_ref first = jit_ref_of(cache, meta_of(cache, region));

	for (uint32_t i = 0; i < r->count;) {
		soft_lock(&cache->lock);
		for (unsigned n = 0; n < AT_ONCE && i < r->count; n++, i++) {
			struct jit_block *block = block_of(cache, region, i);

			for (unsigned k = 0; k < 2; k++)
				if (jit_block_listed(block, k))
					jit_page_leave(cache, jit_page_get(cache, jit_block_gpa(block, k)),
						       k, first, cache->meta_size);
		}
		soft_unlock(&cache->lock);
	}
}

/* Step 2, where it must be, and step 3. */
static void empty(struct soft_vm *vm, struct soft_vcpu *v, unsigned region)
{
	struct soft_cache *cache = vm->cache;
	struct jit_region *r = &cache->regions[region];

	while (!r->gone)
		unlink_some(cache, AT_ONCE);
	if (!all_left(vm, v)) {
		soft_count(&cache->n_evictions_parked);
		soft_exclusive_begin(vm, v);
		soft_exclusive_end(vm, v);
	}
	leave_pages(cache, region);
	jit_insns_forget(vm, cache, cache->turn + 1 - cache->region_count);
	/* Should anybody come here yet: not on. */
	memset(cache->rw + cache->hot_at + region * cache->hot_size, 0xcc, r->used);
	memset(cache->rw + cache->cold_at + region * cache->cold_size, 0xcc, r->used_cold);
	soft_count(&cache->n_evictions);
}

void jit_region_next(struct soft_vm *vm, struct soft_vcpu *v)
{
	struct soft_cache *cache = vm->cache;
	unsigned region = (unsigned)((cache->turn + 1) % cache->region_count);
	struct jit_region *r = &cache->regions[region];
	uint64_t began = __builtin_ia32_rdtsc();

	if (r->count)
		empty(vm, v, region);
	set_used(r, 0, 0, 0);
	r->meta_used = 0;
	r->unlinked = 0;
	r->gone = false;
	__atomic_store_n(&r->count, 0, __ATOMIC_RELEASE);
	cache->turn++;
	soft_longest(&cache->longest_eviction, began);
}
