/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_translate.c - makes a block: decode, emission.
 *
 * A block is up to 64 guest instructions of one page, entered at its start, left at several
 * places. Where its guest state can be looked at the arithmetic flags are in v->aflags or there is a
 * recipe for them (jit_flags.c).
 */
#include <stdlib.h>

#include "vmx-driver/soft/jit_tr.h"

struct jit_scratch *jit_scratch_new(void)
{
	return calloc(1, sizeof(struct jit_scratch));
}

/* Moves links and points behind the block and fills the links' addresses into the code. */
static bool finish(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct jit_block *block = t->block;
	uint64_t first = t->rip & 0xfff, last = (s->end_rip - 1 - t->rip) + first;

	block->points = jit_meta_alloc(t->cache, s->point_count * sizeof(*s->point));
	block->links = jit_meta_alloc(t->cache, s->link_count * sizeof(*s->link));
	if (!block->points || !block->links)
		return false;
	memcpy(block->points, s->point, s->point_count * sizeof(*s->point));
	memcpy(block->links, s->link, s->link_count * sizeof(*s->link));
	block->point_count = s->point_count;
	block->link_count = s->link_count;
	for (unsigned k = 0; k < s->link_count; k++) {
		uint8_t *p = block->links[k].unlinked, *limit = p + 64;
		uint64_t mark = (uint64_t)k | 0x4c494e4b00000000u, real = (uint64_t)(uintptr_t)&block->links[k];

		while (p < limit && memcmp(p, &mark, 8) != 0)
			p++;
		if (p == limit)
			return false;
		memcpy(p, &real, 8);
		block->links[k].from = block;
		block->links[k].unlinked = t->cache->rx + (block->links[k].unlinked - t->cache->rw);
	}
	if (last > 4095)
		last = 4095;
	block->part[0].lines = 0;
	for (uint64_t line = first >> JIT_LINE_SHIFT; line <= last >> JIT_LINE_SHIFT; line++)
		block->part[0].lines |= 1ull << line;
	block->gpa2 = JIT_NO_PAGE;
	if (t->crosses) {
		block->gpa2 = t->gpa2;
		block->part[1].lines = 1;
	}
	block->host = t->cache->rx + (t->start - t->cache->rw);
	block->host_size = (uint32_t)(t->b.p - t->start);
	return true;
}

static bool emit_block(struct tr *t)
{
	struct jit_scratch *s = t->s;

	bool loops = t->cache->chain && t->cache->use_l0;

	t->group.end = 0;
	if (loops)
		jit_loop_cut(t);
	if (t->mode & JIT_LOOP)
		jit_emit_poll(t, t->rip);
	if ((t->mode & (JIT_LOOP | JIT_UNGROUPED)) == JIT_LOOP && loops)
		jit_loop_emit(t);
	t->b.keeps = true;
	t->b.kept_at = NULL;
	for (t->i = 0; t->i < s->count;) {
		bool groups = t->cache->chain && !(t->mode & JIT_UNGROUPED);
		unsigned n;

		if (t->i >= t->group.end && groups)
			jit_start_stack_group(t);
		n = groups ? jit_push_run(t) : 0;
		if (!n && groups)
			n = jit_pop_run(t);
		if (!n) {
			if (t->i >= t->group.end && groups)
				jit_start_group(t);
			jit_emit_item(t, &s->item[t->i]);
			n = 1;
		}
		jit_stack_moved(t, n);
		t->i += n;
	}
	if (s->open_end) {
		t->i = s->count - 1;
		jit_emit_edge(t, s->end_rip, s->to_loop, false);
	}
	jit_cold_begin(t);
	jit_emit_slow_paths(t);
	jit_cold_end(t);
	return !t->b.full && !t->other.full && finish(t);
}

/* Saves the flags and goes on in the block that has them in v->aflags. */
static bool emit_adapter(struct tr *t)
{
	t->s->count = 0;
	t->s->end_rip = t->rip + 1;
	jit_flags_to_mem(t);
	jit_emit_link(t, ALWAYS, t->rip, t->mode & JIT_UNGROUPED);
	return !t->b.full && !t->other.full && finish(t);
}

struct jit_block *jit_translate(struct soft_vcpu *v, const struct jit_key *key,
				const struct jit_source *source)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct jit_scratch *s = cache->scratch;
	struct tr t = {
		.v = v, .cache = cache, .s = s, .gpa = key->gpa, .rip = key->rip, .mode = key->mode,
		.ctx = v->ctx, .gpa2 = key->gpa2, .where = key->recipe ? 0 : IN_MEM,
		.recipe = key->recipe, .insns_max = source->insns,
	};
	const uint8_t *cold;

	jit_region_begin(cache, &t.b, &t.other);
	t.start = t.b.p;
	cold = t.other.p;
	t.block = jit_meta_alloc(cache, sizeof(*t.block));
	if (!t.block)
		return NULL;
	memset(t.block, 0, sizeof(*t.block));
	t.block->gpa = key->gpa;
	t.block->rip = key->rip;
	t.block->mode = key->mode;
	t.block->recipe = key->recipe;
	s->slow_count = s->link_count = s->point_count = 0;
	if (!source->adapter)
		jit_decode_block(&t, source->page, source->page2);
	if (source->adapter ? !emit_adapter(&t) : !emit_block(&t))
		return NULL;
	jit_region_commit(cache, &t.b, &t.other, t.block);
	/* Who comes into the block over a link took no lock since: soft_jit_run() reads this. */
	__atomic_store_n(&cache->n_blocks, cache->n_blocks + 1, __ATOMIC_RELEASE);
	soft_add(&cache->n_insns, s->count);
	soft_add(&cache->n_bytes, t.block->host_size + (size_t)(t.other.p - cold));
	return t.block;
}
