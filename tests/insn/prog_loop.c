/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prog_loop.c - a program's loops over arrays: pointers and an index that move by constants, several
 * arrays that may overlap (also through the alias of their memory), across page borders and now and then
 * beyond the end.
 */
#include "tests/insn/prog_gen.h"

#define EXITS_MAX 4u

struct array {
	unsigned ptr;
	int32_t stride;
	uint32_t start;
};

struct array_loop {
	struct gen *g;
	struct array array[GEN_POINTERS];
	unsigned array_count;
	int counter, index, exit;
	int32_t index_step;
	uint32_t turns;
};

static int32_t some_stride(struct gen *g)
{
	static const int8_t usual[] = { 0, 1, 2, 4, 8, 8, 16, 32, 64, -1, -4, -8, -16, -32, 3, 24 };

	if (rng_percent(&g->rng, 85))
		return usual[rng_below(&g->rng, sizeof(usual))];
	return (int32_t)rng_below(&g->rng, 1200) - 600;
}

/* From where all its turns are inside the data, seldom a little outside. */
static uint32_t some_start(struct array_loop *l, int32_t stride)
{
	struct rng *rng = &l->g->rng;
	const uint32_t lo = (uint32_t)(rng_percent(rng, 65) ? MEM_VA : ALIAS_VA);
	const uint32_t span = (uint32_t)(stride < 0 ? -stride : stride) * l->turns;
	uint32_t room = MEM_SIZE - 0x100 - span, at = lo + 0x80;

	at += rng_percent(rng, 40) ? (rng_percent(rng, 50) ? 0 : room - 1) : rng_below(rng, room);
	if (stride < 0)
		at += span;
	if (l->g->aligned || rng_percent(rng, 60))
		at &= ~31u;
	if (rng_percent(rng, 5))
		at += (stride < 0 ? 0u - 1u : 1u) * rng_below(rng, 0x100);
	return at;
}

static void choose_arrays(struct array_loop *l)
{
	struct gen *g = l->g;
	int32_t widest = 1;

	l->array_count = 1 + rng_below(&g->rng, g->ptr_count < 3 ? g->ptr_count : 3);
	for (unsigned k = 0; k < l->array_count; k++) {
		struct array *a = &l->array[k];

		a->ptr = k;
		a->stride = k && rng_percent(&g->rng, 70) ? l->array[0].stride : some_stride(g);
		if (a->stride > widest || -a->stride > widest)
			widest = a->stride < 0 ? -a->stride : a->stride;
	}
	l->turns = 1 + rng_below(&g->rng, rng_percent(&g->rng, 50) ? 12 : 400);
	if (l->turns > (MEM_SIZE - 0x200) / (uint32_t)widest)
		l->turns = (MEM_SIZE - 0x200) / (uint32_t)widest;
	l->turns = (uint32_t)gen_turns(g, l->turns);
	for (unsigned k = 0; k < l->array_count; k++) {
		struct array *a = &l->array[k];

		a->start = some_start(l, a->stride);
		if (k && rng_percent(&g->rng, 40)) { /* on the first one */
			a->start = l->array[0].start + 8 * rng_below(&g->rng, 16) - 64;
			if (rng_percent(&g->rng, 30) && a->start < MEM_END)
				a->start = (uint32_t)ALIAS_VA + ((a->start - (uint32_t)MEM_VA) ^ 0x1000);
		}
	}
}

static struct address some_address(struct array_loop *l)
{
	struct gen *g = l->g;
	struct address a = { g->ptr[l->array[rng_below(&g->rng, l->array_count)].ptr], -1, 0,
			     (int32_t)rng_below(&g->rng, 64) - 32 };

	if (g->aligned || rng_percent(&g->rng, 60))
		a.disp &= ~31;
	if (l->index_step && rng_percent(&g->rng, 35)) {
		a.index = l->index;
		a.log2 = rng_below(&g->rng, 4);
	} else if (g->frame >= 72 && rng_percent(&g->rng, 8)) {
		a = (struct address){ RSP, -1, 0, 8 * (int32_t)rng_below(&g->rng, 4) };
	}
	return a;
}

static bool all_aligned(const struct array_loop *l)
{
	for (unsigned k = 0; k < l->array_count; k++)
		if ((l->array[k].stride | (int32_t)l->array[k].start) & 15)
			return false;
	return true;
}

static void add_step(struct array_loop *l, int reg, int32_t by)
{
	struct gen *g = l->g;
	struct code *c = &g->p->code;
	struct address a = { reg, -1, 0, by };

	switch (rng_below(&g->rng, 4)) {
	case 0:
		put_mem(c, 0, true, 0x8d, reg, &a);
		break;
	case 1:
		put_reg(c, 0, true, 0x81, 5, reg); /* sub */
		put4(c, (uint32_t)-by);
		break;
	default:
		put_reg(c, 0, true, by == (int8_t)by ? 0x83 : 0x81, 0, reg);
		if (by == (int8_t)by)
			put(c, (uint8_t)by);
		else
			put4(c, (uint32_t)by);
		break;
	}
	gen_end(g);
}

static void add_exit(struct array_loop *l)
{
	struct gen *g = l->g;
	struct address a = some_address(l);
	struct code *c = &g->p->code;

	if (rng_percent(&g->rng, 50)) {
		put_mem(c, 0, false, 0x80, 7, &a); /* cmp byte, imm */
		put(c, rng_below(&g->rng, 256));
	} else {
		put_mem(c, 0, false, 0x3a, gen_data(g), &a);
	}
	gen_end(g);
	gen_spend(g, 1);
	op_branch(g->p, 4, l->exit);
}

static void add_body(struct array_loop *l)
{
	struct gen *g = l->g;
	const unsigned count = 1 + rng_below(&g->rng, 7);
	unsigned step_at[GEN_POINTERS], index_at = rng_below(&g->rng, count), exits = 0;
	struct code *c = &g->p->code;

	for (unsigned k = 0; k < g->ptr_count; k++)
		step_at[k] = rng_below(&g->rng, count);
	for (unsigned i = 0; i < count; i++) {
		const unsigned what = rng_below(&g->rng, 100), outer = unit_begin(g->p);
		struct address a = some_address(l);

		if (what < 60) {
			gen_memory_op(g, &a, all_aligned(l) && !(a.disp & 15) && a.index < 0);
		} else if (what < 88) {
			put_register_op(c, &g->rng, g->data[0], gen_data(g));
			gen_end(g);
		} else if (exits++ < 2) {
			add_exit(l);
		}
		for (unsigned k = 0; k < l->array_count; k++) {
			unit_begin(g->p);
			if (i == step_at[k] && l->array[k].stride)
				add_step(l, g->ptr[l->array[k].ptr], l->array[k].stride);
		}
		unit_end(g->p, outer);
		if (i == index_at && l->index_step)
			add_step(l, l->index, l->index_step);
	}
}

/* The counter's step and the way back. */
static void add_end(struct array_loop *l, int head)
{
	struct gen *g = l->g;
	struct program *p = g->p;
	struct code *c = &p->code;
	const struct address less = { l->counter, -1, 0, -1 };

	gen_spend(g, 2);
	switch (rng_below(&g->rng, 4)) {
	case 0:
		put_mem(c, 0, true, 0x8d, l->counter, &less);
		op_end(p);
		put_reg(c, 0, true, 0x85, l->counter, l->counter);
		op_end(p);
		op_branch(p, 5, head);
		break;
	case 1:
		put_reg(c, 0, true, 0xff, 1, l->counter); /* dec */
		op_end(p);
		op_branch(p, 5, head);
		break;
	case 2: /* the way out, and JMP */
		put_reg(c, 0, true, 0x83, 5, l->counter);
		put(c, 1);
		op_end(p);
		op_branch(p, 4, l->exit);
		op_branch(p, BR_JMP, head);
		break;
	default:
		put_reg(c, 0, true, 0x83, 5, l->counter); /* sub */
		put(c, 1);
		op_end(p);
		op_branch(p, rng_percent(&g->rng, 50) ? 5 : 7, head);
		break;
	}
}

void gen_array_loop(struct gen *g)
{
	struct array_loop l = { .g = g, .index = g->data[g->data_count - 1] };
	const unsigned outer = unit_begin(g->p);
	const uint64_t weight = g->weight;
	int head = label_new(g->p);

	if (g->loops >= g->loops_max) {
		unit_end(g->p, outer);
		return;
	}
	l.exit = label_new(g->p);
	l.counter = g->counter[g->loops++];
	choose_arrays(&l);
	g->data_count--; /* the index is nobody's meanwhile */
	if (rng_percent(&g->rng, 40)) {
		l.index_step = rng_percent(&g->rng, 70) ? 1 : (int32_t)rng_below(&g->rng, 9) - 4;
		gen_mov(g, l.index, rng_below(&g->rng, 8));
	}
	for (unsigned k = 0; k < l.array_count; k++)
		gen_mov(g, g->ptr[l.array[k].ptr], l.array[k].start);
	gen_mov(g, l.counter, l.turns);
	g->weight *= l.turns;
	label_here(g->p, head);
	add_body(&l);
	add_end(&l, head);
	label_here(g->p, l.exit);
	g->weight = weight;
	g->data_count++;
	g->loops--;
	for (unsigned k = 0; k < l.array_count; k++)
		gen_reset_pointer(g, l.array[k].ptr);
	unit_end(g->p, outer);
}
