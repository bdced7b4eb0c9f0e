/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_region.c - how the translator's code cache makes room: region by region (jit_region.c). */
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/unit/unit.h"
#include "vmx-driver/soft/jit_emit.h"

#define CODE_BYTES 200u
#define KEYS 4096u

struct rig {
	struct soft_vm vm;
	struct soft_cache *cache;
	struct soft_vcpu *v[2];
	unsigned made;
	unsigned keys; /* blocks with lines of their own */
	struct jit_block *last;
};

static uint64_t gpa_of(const struct rig *r, unsigned n)
{
	return 0x100000 + n % r->keys * 64;
}

static uint64_t rip_of(const struct rig *r, unsigned n)
{
	return (uint64_t)n << 12 | (gpa_of(r, n) & 4095);
}

static struct soft_vcpu *new_vcpu(struct rig *r)
{
	struct soft_vcpu *v = calloc(1, sizeof(*v));

	CU_ASSERT_PTR_NOT_NULL_FATAL(v);
	v->v.vm = &r->vm.vm;
	v->parked = true;
	v->ctx_count = CTX_KINDS;
	v->jit = calloc(1, sizeof(struct jit_vcpu));
	CU_ASSERT_PTR_NOT_NULL_FATAL(v->jit);
	return v;
}

static struct rig *new_rig_of(uint64_t cache_bytes)
{
	struct rig *r = calloc(1, sizeof(*r));

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	pthread_mutex_init(&r->vm.excl_lock, NULL);
	pthread_cond_init(&r->vm.excl_cond, NULL);
	r->vm.vm.options.code_cache_bytes = cache_bytes;
	r->keys = KEYS;
	CU_ASSERT_EQUAL_FATAL(soft_cache_create(&r->vm), 0);
	r->cache = r->vm.cache;
	for (unsigned i = 0; i < 2; i++)
		r->vm.vcpus[i] = r->v[i] = new_vcpu(r);
	return r;
}

static struct rig *new_rig(void)
{
	return new_rig_of(1u << 20);
}

static void free_rig(struct rig *r)
{
	for (unsigned i = 0; i < 2; i++) {
		free(r->v[i]->jit);
		free(r->v[i]);
	}
	soft_cache_destroy(&r->vm);
	pthread_cond_destroy(&r->vm.excl_cond);
	pthread_mutex_destroy(&r->vm.excl_lock);
	free(r);
}

static struct jit_block *find(struct rig *r, unsigned n)
{
	struct jit_key key = { .gpa = gpa_of(r, n), .rip = rip_of(r, n), .gpa2 = JIT_NO_PAGE };

	return jit_block_find(r->cache, &key);
}

/* A block of one jump and then nothing, or NULL: no room. */
static struct jit_block *try_block(struct rig *r)
{
	struct soft_cache *cache = r->cache;
	struct jit_buf hot, cold;
	struct jit_block *b;

	jit_region_begin(cache, &hot, &cold);
	b = jit_meta_alloc(cache, sizeof(*b) + sizeof(struct jit_link));
	if (!b)
		return NULL;
	*b = (struct jit_block){
		.rip = rip_of(r, r->made), .frame = gpa_of(r, r->made) >> 12, .frame2 = JIT_NO_FRAME,
		.last_line = (gpa_of(r, r->made) & 4095) / 64, .link_count = 1, .host_size = CODE_BYTES,
		.host = (uint32_t)(hot.p - cache->rw),
	};
	e_nop(&hot, 3);
	e1(&hot, 0xe9);
	*jit_links(b) = (struct jit_link){
		.from = jit_ref_of(cache, b),
		.rel32 = (uint32_t)(hot.p - cache->rw),
		.unlinked = (uint32_t)(cold.p - cache->rw),
	};
	e4(&hot, (uint32_t)(cold.p - (hot.p + 4)));
	for (unsigned i = 8; i < CODE_BYTES; i++)
		e1(&hot, 0x90);
	for (unsigned i = 0; i < CODE_BYTES / 2; i++)
		e1(&cold, 0x90);
	if (hot.full || cold.full)
		return NULL;
	jit_region_commit(cache, &hot, &cold, b);
	jit_block_add(&r->vm, b);
	jit_page_narrow(jit_page_get(cache, gpa_of(r, r->made)));
	r->made++;
	return b;
}

static struct jit_block *make(struct rig *r)
{
	struct jit_block *b = try_block(r);

	if (!b) {
		jit_region_next(&r->vm, r->v[0]);
		b = try_block(r);
	}
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	jit_region_prepare(r->cache);
	return b;
}

/* The same, and the one before jumps to it. */
static struct jit_block *make_linked(struct rig *r)
{
	struct jit_block *b = make(r);

	if (r->last && jit_block_live(r->cache, r->last))
		jit_link(r->cache, jit_links(r->last), b);
	return r->last = b;
}

/* Where the jump of a block goes. */
static const uint8_t *target(const struct rig *r, const struct jit_block *b)
{
	uint32_t rel32 = jit_links((struct jit_block *)b)->rel32;
	int32_t distance;

	memcpy(&distance, r->cache->rw + rel32, 4);
	return r->cache->rx + rel32 + 4 + distance;
}

static void check_links(struct rig *r, unsigned first)
{
	for (unsigned n = first; n < r->made; n++) {
		struct jit_block *b = find(r, n);
		const struct jit_link *link = b ? jit_links(b) : NULL;
		const struct jit_block *to = link ? jit_block_at(r->cache, link->to) : NULL;

		if (!b)
			continue;
		CU_ASSERT_TRUE(!to || jit_block_live(r->cache, to));
		CU_ASSERT_PTR_EQUAL(target(r, b), r->cache->rx + (to ? to->host : link->unlinked));
		CU_ASSERT_PTR_EQUAL(jit_block_of_host(r->cache, jit_host(r->cache, b) + CODE_BYTES - 1), b);
	}
}

/* The oldest go first, a region's worth at a time. */
static void test_order(void)
{
	struct rig *r = new_rig();
	unsigned oldest = 0, most = 0, fewest = ~0u;

	while (r->cache->n_evictions < 3 * r->cache->region_count) {
		unsigned from = oldest;

		make_linked(r);
		while (!find(r, oldest))
			oldest++;
		CU_ASSERT_PTR_EQUAL(find(r, r->made - 1), r->last);
		if (oldest - from > most)
			most = oldest - from;
		if (oldest && r->made - oldest < fewest)
			fewest = r->made - oldest;
		for (unsigned n = from; n < oldest; n++)
			CU_ASSERT_PTR_NULL(find(r, n));
		if (r->made % 256 == 0)
			check_links(r, oldest);
	}
	CU_ASSERT_TRUE(most > 0);
	CU_ASSERT_TRUE(most * (r->cache->region_count - 2) <= fewest);
	CU_ASSERT_EQUAL(r->cache->n_evictions_parked, 0);
	check_links(r, oldest);
	free_rig(r);
}

/* When a region is wanted, its blocks have left the hash: a few with each block that was made before. */
static void test_prepared(void)
{
	struct rig *r = new_rig_of(16u << 20);
	struct soft_cache *cache = r->cache;

	while (cache->n_evictions < 2 * cache->region_count) {
		const struct jit_region *oldest;

		if (try_block(r)) {
			jit_region_prepare(cache);
			continue;
		}
		oldest = &cache->regions[(cache->turn + 1) % cache->region_count];
		CU_ASSERT_TRUE(!oldest->count || oldest->gone);
		jit_region_next(&r->vm, r->v[0]);
	}
	CU_ASSERT_EQUAL(cache->n_evictions_parked, 0);
	free_rig(r);
}

/* Until the region is emptied its blocks may still run somewhere: writes to their bytes count. */
static void test_pages(void)
{
	struct rig *r = new_rig();
	struct jit_block *first = make(r);

	while (find(r, 0))
		make(r);
	CU_ASSERT_FALSE(jit_block_live(r->cache, first));
	CU_ASSERT_EQUAL(r->cache->n_evictions, 0);
	CU_ASSERT_TRUE(soft_code_overlaps(&r->vm, gpa_of(r, 0), 1));
	CU_ASSERT_PTR_EQUAL(jit_block_of_host(r->cache, jit_host(r->cache, first)), first);
	soft_code_written(&r->vm, NULL, gpa_of(r, 0), 1);
	CU_ASSERT_TRUE(first->dead);
	CU_ASSERT_FALSE(soft_code_overlaps(&r->vm, gpa_of(r, 0), 1));
	CU_ASSERT_TRUE(soft_code_overlaps(&r->vm, gpa_of(r, 1), 1));
	while (!r->cache->n_evictions)
		make(r);
	CU_ASSERT_FALSE(soft_code_overlaps(&r->vm, gpa_of(r, 1), 1));
	CU_ASSERT_TRUE(soft_code_overlaps(&r->vm, gpa_of(r, r->made - 1), 1));
	free_rig(r);
}

/* The blocks of a page: the oldest first, none of a region that was emptied, the last one known. */
static unsigned check_page(struct rig *r, uint64_t gpa)
{
	const struct jit_page *page = jit_page_get(r->cache, gpa);
	jit_ref last = 0;
	unsigned n = 0;

	for (const struct jit_block *b = jit_block_at(r->cache, page->blocks[0]); b;
	     b = jit_block_at(r->cache, b->next[0]), n++) {
		const struct jit_block *before = jit_block_at(r->cache, last);

		CU_ASSERT_TRUE(jit_block_listed(b, 0));
		CU_ASSERT_PTR_EQUAL(jit_block_of_host(r->cache, jit_host(r->cache, b)), b);
		CU_ASSERT_TRUE(!before || before->rip < b->rip);
		CU_ASSERT_EQUAL(page->of_blocks & jit_block_lines(b, 0), jit_block_lines(b, 0));
		last = jit_ref_of(r->cache, b);
	}
	if (n)
		CU_ASSERT_EQUAL(page->last[0], last);
	return n;
}

/* One page of code at many addresses, as each program has a library elsewhere. */
static void test_library(void)
{
	struct rig *r = new_rig();
	uint64_t evicted = 0;
	unsigned listed = 0;

	r->keys = 40;
	while (r->cache->n_evictions < 2 * r->cache->region_count) {
		make(r);
		if (r->cache->n_evictions == evicted)
			continue;
		evicted = r->cache->n_evictions;
		listed = check_page(r, gpa_of(r, 0));
		CU_ASSERT_TRUE(listed > r->keys && listed < r->made);
	}
	/* some are killed: the first, the last, one between; others follow behind the last */
	soft_code_written(&r->vm, NULL, gpa_of(r, r->made - 1), 1);
	CU_ASSERT_FALSE(soft_code_overlaps(&r->vm, gpa_of(r, r->made - 1), 1));
	CU_ASSERT_TRUE(check_page(r, gpa_of(r, 0)) < listed);
	make(r);
	check_page(r, gpa_of(r, 0));
	soft_code_written(&r->vm, NULL, gpa_of(r, 0) & ~4095ull, 4096);
	CU_ASSERT_EQUAL(check_page(r, gpa_of(r, 0)), 0);
	CU_ASSERT_FALSE(soft_code_overlaps(&r->vm, gpa_of(r, 0) & ~4095ull, 4096));
	make(r);
	CU_ASSERT_EQUAL(check_page(r, gpa_of(r, 0)), 1);
	free_rig(r);
}

/* Who may be inside is waited for; who has been told, or told itself, is not. */
static void test_others(void)
{
	struct rig *r = new_rig();
	struct soft_cache *cache = r->cache;

	while (cache->n_evictions < 2)
		make(r);
	CU_ASSERT_EQUAL(cache->n_evictions_parked, 0);
	r->v[1]->parked = false; /* runs, as far as that goes, and looks at nothing */
	while (cache->n_evictions < 4)
		make(r);
	CU_ASSERT_EQUAL(cache->n_evictions_parked, 2);
	while (cache->n_evictions < 6) {
		make(r);
		jit_of(r->v[1])->gone = cache->gone;
	}
	CU_ASSERT_EQUAL(cache->n_evictions_parked, 2);
	CU_ASSERT_TRUE(cache->longest_eviction > 0);
	free_rig(r);
}

static void test_branches(void)
{
	struct rig *r = new_rig();
	struct soft_cache *cache = r->cache;
	struct soft_tlb *t = &r->v[1]->tlb[CTX_KERNEL];
	struct soft_ibtc *mine = &t->ibtc[7], *next = &t->ibtc[9], *zero = &t->ibtc[0];
	uint8_t *region_1 = cache->rx + cache->hot_at + cache->hot_size;

	*zero = (struct soft_ibtc){ 16, region_1 };
	*mine = (struct soft_ibtc){ 17, region_1 + cache->hot_size - 1 };
	*next = (struct soft_ibtc){ 18, region_1 + cache->hot_size };
	t->ibtc_filled = SOFT_IBTC_LOG + 1;
	jit_branches_forget(r->v[1], 1);
	CU_ASSERT_EQUAL(zero->rip, 1);
	CU_ASSERT_EQUAL(mine->rip, SOFT_TAG_INVALID);
	CU_ASSERT_EQUAL(next->rip, 18);
	t->ibtc_filled = 1;
	t->ibtc_log[0] = 9;
	jit_branches_forget(r->v[1], 2);
	CU_ASSERT_EQUAL(next->rip, SOFT_TAG_INVALID);
	free_rig(r);
}

/* What operations were called with stays for who is in one. */
static void test_kept(void)
{
	struct rig *r = new_rig();
	struct soft_insn insn = { .len = 1, .bytes = { 0xf4 } };
	const struct soft_insn *used;

	used = jit_insn_keep(r->cache, &insn);
	CU_ASSERT_PTR_NOT_NULL_FATAL(used);
	CU_ASSERT_PTR_EQUAL(jit_insn_keep(r->cache, &insn), used);
	insn.bytes[0] = 0xf5;
	CU_ASSERT_PTR_NOT_NULL(jit_insn_keep(r->cache, &insn));
	r->v[1]->op_insn = used;
	while (r->cache->n_evictions < 1)
		make(r);
	CU_ASSERT_EQUAL(r->cache->kept_count, 1);
	CU_ASSERT_EQUAL(used->bytes[0], 0xf4);
	r->v[1]->op_insn = NULL;
	while (r->cache->n_evictions < 2)
		make(r);
	CU_ASSERT_EQUAL(r->cache->kept_count, 0);
	free_rig(r);
}

/* Everything at once, in the middle of emptying a region; and on from there. */
static void test_flush(void)
{
	struct rig *r = new_rig();
	uint64_t gone;

	while (r->cache->n_evictions < 3)
		make_linked(r);
	for (unsigned i = 0; i < 100; i++)
		make_linked(r);
	gone = r->cache->gone;
	soft_code_flush_all(&r->vm, NULL);
	CU_ASSERT_TRUE(r->cache->gone > gone);
	CU_ASSERT_EQUAL(r->cache->gone_region, JIT_ALL_REGIONS);
	for (unsigned n = 0; n < r->made; n++)
		CU_ASSERT_PTR_NULL(find(r, n));
	while (r->cache->n_evictions < 3 * r->cache->region_count)
		make_linked(r);
	check_links(r, 0);
	free_rig(r);
}

/* Pages of memory that somebody touched. */
static size_t touched(const void *start, size_t bytes)
{
	unsigned char *in = calloc(1, bytes / 4096);
	size_t n = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(in);
	CU_ASSERT_EQUAL(mincore((void *)(uintptr_t)start, bytes, in), 0);
	for (size_t i = 0; i < bytes / 4096; i++)
		n += in[i] & 1;
	free(in);
	return n;
}

/* Nobody stands still for the size of a cache when all of it goes. */
static void test_large(void)
{
	struct rig *r = new_rig_of(1u << 30);
	struct soft_cache *cache = r->cache;
	size_t hash = (cache->hash_mask + 1ull) * sizeof(*cache->hash), before;

	CU_ASSERT_TRUE(hash >= 1u << 20);
	before = touched(cache->hash, hash);
	soft_code_flush_all(&r->vm, NULL);
	CU_ASSERT_EQUAL(touched(cache->hash, hash), before);
	free_rig(r);
}

/* A page of which there is much code, as many programs have it at other addresses: a piece of it in each
 * section. */
static void test_many(void)
{
	struct rig *r = new_rig_of(8u << 20);
	const unsigned n = 2000;
	uint64_t pauses;

	r->keys = 2;
	for (unsigned i = 0; i < n; i++)
		make_linked(r);
	CU_ASSERT_EQUAL(r->cache->n_evictions, 0);
	pauses = r->vm.n_pauses;
	soft_code_written(&r->vm, NULL, gpa_of(r, 0), 1);
	CU_ASSERT_EQUAL(r->cache->n_killed, n / 2);
	CU_ASSERT_TRUE(r->vm.n_pauses - pauses >= n / 2 / 100);
	for (unsigned i = 0; i < n; i++)
		CU_ASSERT_EQUAL(find(r, i) != NULL, i % 2 == 1);
	CU_ASSERT_FALSE(soft_code_overlaps(&r->vm, gpa_of(r, 0), 1));
	CU_ASSERT_TRUE(soft_code_overlaps(&r->vm, gpa_of(r, 1), 1));
	check_links(r, 0);
	free_rig(r);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "the oldest go, a region at a time", test_order },
		{ "a region is prepared before it is wanted", test_prepared },
		{ "writes find blocks until they are gone", test_pages },
		{ "one page of code at many addresses", test_library },
		{ "vCPUs that may be inside are waited for", test_others },
		{ "branch tables forget a region", test_branches },
		{ "instructions of operations", test_kept },
		{ "everything at once", test_flush },
		{ "a large cache", test_large },
		{ "many blocks of one page", test_many },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("regions of the code cache", tests));
}
