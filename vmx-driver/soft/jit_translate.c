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

/* The block with its links and points behind it; the links' references go into the code. */
static struct jit_block *finish(struct tr *t, uint32_t mode)
{
	struct soft_cache *cache = t->cache;
	struct jit_scratch *s = t->s;
	uint64_t last = (s->end_rip - 1 - t->rip) + (t->rip & 0xfff);
	size_t points = (size_t)(jit_points_pack(s->packed, s->point, s->point_count) - s->packed);
	size_t links = s->link_count * sizeof(*s->link), host_size = (size_t)(t->b.p - t->start);
	struct jit_block *block;
	uint8_t *to;

	if (t->b.full || t->other.full || host_size > UINT16_MAX)
		return NULL;
	block = jit_meta_alloc(cache, sizeof(*block) + links + points + (s->loops ? sizeof(s->holds) : 0));
	if (!block)
		return NULL;
	*block = (struct jit_block){
		.rip = t->rip,
		.frame = (uint32_t)(t->gpa >> 12),
		.frame2 = t->crosses ? (uint32_t)(t->gpa2 >> 12) : JIT_NO_FRAME,
		.mode = mode,
		.recipe = jit_recipe_keep(t->entry_recipe),
		.last_line = (uint8_t)((last > 4095 ? 4095 : last) >> JIT_LINE_SHIFT),
		.loops = s->loops,
		.host = (uint32_t)(t->start - cache->rw),
		.host_size = (uint16_t)host_size,
		.point_bytes = (uint16_t)points,
		.link_count = (uint16_t)s->link_count,
	};
	for (unsigned k = 0; k < s->link_count; k++) {
		struct jit_link *link = &jit_links(block)[k];
		jit_ref ref = jit_ref_of(cache, link);

		*link = s->link[k];
		link->from = jit_ref_of(cache, block);
		memcpy(s->link_ref[k], &ref, sizeof(ref));
	}
	to = (uint8_t *)(block + 1) + links;
	memcpy(to, s->packed, points);
	if (s->loops)
		memcpy(to + points, s->holds, sizeof(s->holds));
	return block;
}

static void emit_block(struct tr *t)
{
	struct jit_scratch *s = t->s;

	bool loops = t->cache->chain && t->cache->use_l0 && t->word == 8;

	t->group.end = 0;
	if (loops)
		jit_loop_cut(t);
	if (t->mode & JIT_LOOP)
		jit_emit_poll(t, t->rip);
	if ((t->mode & (JIT_LOOP | JIT_UNGROUPED)) == JIT_LOOP && loops)
		jit_loop_emit(t);
	t->b.keeps = true;
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
}

/* Saves the flags and goes on in the block that has them in v->aflags. */
static void emit_adapter(struct tr *t)
{
	t->s->count = 0;
	t->s->end_rip = t->rip + 1;
	jit_flags_to_mem(t);
	jit_emit_link(t, ALWAYS, t->rip, t->mode & JIT_UNGROUPED);
}

struct jit_block *jit_translate(struct soft_vcpu *v, const struct jit_key *key,
				const struct jit_source *source)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct jit_scratch *s = cache->scratch;
	struct tr t = {
		.v = v, .cache = cache, .s = s, .gpa = key->gpa, .rip = key->rip, .mode = key->mode,
		.word = (key->mode & MODE_CODE) == CODE_64 ? 8 : 4,
		.ctx = v->ctx, .gpa2 = key->gpa2, .where = key->recipe ? 0 : IN_MEM,
		.recipe = key->recipe, .entry_recipe = key->recipe, .insns_max = source->insns,
	};
	struct jit_block *block;
	const uint8_t *cold;

	jit_region_begin(cache, &t.b, &t.other);
	t.b.moved = t.other.moved = t.mode & JIT_MOVED;
	if (t.b.moved)
		jit_emit_entry(&t.b, t.rip);
	t.start = t.b.p;
	cold = t.other.p;
	s->slow_count = s->link_count = s->point_count = 0;
	s->loops = false;
	if (source->adapter) {
		emit_adapter(&t);
	} else {
		jit_decode_block(&t, source->page, source->page2);
		emit_block(&t);
	}
	block = finish(&t, key->mode);
	if (!block)
		return NULL;
	jit_region_commit(cache, &t.b, &t.other, block);
	/* Who comes into the block over a link took no lock since: soft_jit_run() reads this. */
	__atomic_store_n(&cache->n_blocks, cache->n_blocks + 1, __ATOMIC_RELEASE);
	soft_add(&cache->n_insns, s->count);
	soft_add(&cache->n_bytes, block->host_size + (size_t)(t.other.p - cold));
	return block;
}
