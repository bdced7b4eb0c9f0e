/* SPDX-License-Identifier: Apache-2.0 */
/* prog_flow.c - a program as a whole, its branches and counted loops. */
#include "tests/insn/prog_gen.h"

#include <stdio.h>
#include <string.h>

/* --- conditions ------------------------------------------------------------------------------------- */

static unsigned some_condition(struct gen *g)
{
	return rng_below(&g->rng, 16);
}

/* if, else; or several branches on the same flags; or a branch that waits for flags made long ago. */
static void gen_if(struct gen *g)
{
	const unsigned outer = unit_begin(g->p), ways = 1 + rng_below(&g->rng, 3);
	int els = label_new(g->p), end = label_new(g->p);

	if (rng_percent(&g->rng, 75))
		gen_define_flags(g);
	for (unsigned k = 0; k < ways; k++) {
		unsigned op;

		gen_spend(g, 1);
		op = op_branch(g->p, some_condition(g), rng_percent(&g->rng, 80) ? els : end);
		if (rng_percent(&g->rng, 10)) {
			g->p->op[op].brief = false;
			gen_patchable(g, op, 1);
		}
		if (rng_percent(&g->rng, 40))
			gen_plain(g, 2);
	}
	gen_statements(g, 2);
	if (rng_percent(&g->rng, 50)) {
		op_branch(g->p, BR_JMP, end);
		label_here(g->p, els);
		gen_statements(g, 2);
	} else {
		label_here(g->p, els);
	}
	label_here(g->p, end);
	unit_end(g->p, outer);
}

/* --- counted loops ---------------------------------------------------------------------------------- */

uint64_t gen_turns(struct gen *g, uint64_t wanted)
{
	const uint64_t left = g->spent < g->budget ? g->budget - g->spent : 0, most = left / (g->weight * 15);

	return wanted < most ? wanted : most ? most : 1;
}

static void end_loop(struct gen *g, int counter, uint64_t turns, bool up, int head)
{
	struct program *p = g->p;
	struct code *c = &p->code;

	gen_spend(g, 2);
	if (rng_percent(&g->rng, 50)) {
		put_reg(c, 0, true, 0xff, up ? 0 : 1, counter); /* inc, dec */
	} else {
		put_reg(c, 0, true, 0x83, up ? 0 : 5, counter); /* add, sub */
		put(c, 1);
	}
	op_end(p);
	if (up) {
		put_reg(c, 0, rng_percent(&g->rng, 50), 0x81, 7, counter); /* cmp */
		put4(c, (uint32_t)turns);
		op_end(p);
	}
	op_branch(p, up && rng_percent(&g->rng, 50) ? 2 : 5, head); /* below, not equal */
}

static void gen_loop(struct gen *g)
{
	const unsigned outer = unit_begin(g->p);
	const uint64_t weight = g->weight;
	const bool up = rng_percent(&g->rng, 40);
	uint64_t turns;
	int head, counter;

	if (g->loops < g->loops_max) {
		head = label_new(g->p);
		counter = g->counter[g->loops];
		turns = gen_turns(g, 1 + rng_below(&g->rng, rng_percent(&g->rng, 70) ? 8 :
							 rng_percent(&g->rng, 95) ? 150 : 4000));
		gen_mov(g, counter, up ? 0 : turns);
		g->weight *= turns;
		label_here(g->p, head);
		g->loops++;
		gen_statements(g, 3);
		g->loops--;
		end_loop(g, counter, turns, up, head);
		g->weight = weight;
	}
	unit_end(g->p, outer);
}

/* --- statements ------------------------------------------------------------------------------------- */

static void plain(struct gen *g)
{
	gen_plain(g, 6);
}

static const struct {
	void (*make)(struct gen *g);
	uint8_t weight;
	bool nests;
} statements[] = {
	{ plain, 24, false },	    { gen_if, 14, true },	{ gen_loop, 8, true },
	{ gen_array_loop, 9, false }, { gen_call, 12, false },	{ gen_odd_return, 5, false },
	{ gen_switch, 4, true },    { gen_interpreter, 3, false }, { gen_stack, 8, true },
	{ gen_string, 4, false },   { gen_flags, 4, false },	{ gen_patch, 3, false },
	{ gen_wild, 1, false },	    { gen_other_page, 3, false },
};

void gen_statements(struct gen *g, unsigned max)
{
	const unsigned n = 1 + rng_below(&g->rng, max);

	g->nesting++;
	for (unsigned i = 0; i < n; i++) {
		unsigned total = 0, k = 0, pick;

		for (unsigned s = 0; s < sizeof(statements) / sizeof(statements[0]); s++)
			total += statements[s].weight;
		pick = rng_below(&g->rng, total);
		while (pick >= statements[k].weight)
			pick -= statements[k++].weight;
		if (g->spent > g->budget || g->p->count > OPS_MAX / 2 || (statements[k].nests && g->nesting > 4))
			k = 0;
		statements[k].make(g);
	}
	g->nesting--;
}

/* --- a program -------------------------------------------------------------------------------------- */

/* All but RSP, in any order; in 32-bit code one of the first three has byte registers. Their number. */
static int shuffle_registers(struct gen *g, int order[15])
{
	const bool is32 = g->p->code.is32;
	int n = 0;

	for (int reg = 0; reg < (is32 ? 8 : 16); reg++)
		if (reg != RSP)
			order[n++] = reg;
	for (int k = n - 1; k > 0; k--) {
		int other = (int)rng_below(&g->rng, (uint32_t)k + 1), t = order[k];

		order[k] = order[other];
		order[other] = t;
	}
	for (int k = 1; is32 && order[0] >= 4; k++) {
		int t = order[0];

		order[0] = order[k];
		order[k] = t;
	}
	return n;
}

static bool is_crowded(int reg)
{
	return reg >= 8 && reg < 12;
}

/* The first `want` of R8 to R11, which translated code has in memory, to that place and those below. */
static void crowd(int *order, int place, int want)
{
	for (int k = 0; k <= place && want; k++) {
		int t = order[k];

		if (!is_crowded(t))
			continue;
		order[k] = order[place];
		order[place--] = t;
		want--;
	}
}

/* Few data registers, R8 to R11 among them if they are left. */
static void choose_few(struct gen *g)
{
	unsigned few = 0;

	for (unsigned k = 0; k < g->data_count; k++) {
		int t = g->data[k];

		if (!is_crowded(t))
			continue;
		g->data[k] = g->data[few];
		g->data[few++] = t;
	}
	g->data_count = 4 + rng_below(&g->rng, 3);
}

static void choose_registers(struct gen *g)
{
	struct cpu *in = &g->p->tc.in;
	int order[15], n = shuffle_registers(g, order);
	const bool crowded = !g->p->code.is32 && rng_percent(&g->rng, 40);

	if (crowded)
		crowd(order, n - 1, 2);
	g->ptr_count = g->p->code.is32 ? 2 : GEN_POINTERS;
	g->counter_count = g->p->code.is32 ? 1 : GEN_LOOPS;
	g->word = g->p->code.is32 ? 4 : 8;
	g->p->code.byte_reg = order[0] + (rng_percent(&g->rng, 50) ? 4 : 0);
	g->aligned = rng_percent(&g->rng, 85);
	g->base[0] = (uint32_t)MEM_VA + 0x400;
	g->base[1] = (uint32_t)MEM_VA + 0x1000 + (g->aligned ? 0 : rng_below(&g->rng, 64) - 32);
	g->base[2] = (uint32_t)ALIAS_VA + 0xc00 + rng_below(&g->rng, 16) * 64;
	g->base[3] = (uint32_t)MEM_END - 0x800 + (g->aligned ? 0 : rng_below(&g->rng, 64));
	for (unsigned k = 0; k < g->ptr_count; k++) {
		g->ptr[k] = order[--n];
		in->gpr[g->ptr[k]] = g->base[k];
	}
	for (unsigned k = 0; k < g->counter_count; k++)
		in->gpr[g->counter[k] = order[--n]] = 1;
	in->gpr[g->depth = order[--n]] = 1;
	while (n)
		g->data[g->data_count++] = order[--n];
	if (crowded)
		choose_few(g);
	in->gpr[RSP] = STACK_VA + STACK_SIZE - 0x40 - rng_below(&g->rng, 64) * 8;
	if (rng_percent(&g->rng, 15))
		in->gpr[RSP] -= rng_below(&g->rng, 8);
	if (rng_percent(&g->rng, 97)) {
		in->xs.mxcsr |= 0x1f80;
		in->xs.fcw |= 0x3f;
	}
}

static void init_case(struct test_case *tc, struct rng *rng, uint8_t mode, uint64_t seed, uint64_t index)
{
	memset(tc, 0, sizeof(*tc));
	tc->seed = seed;
	tc->index = index;
	tc->mode = mode;
	tc->template = (uint16_t)rng_below(rng, TEMPLATES);
	tc->code_va = (uint32_t)CODE_VA + (uint32_t)(index % PROGRAMS_AT_ONCE) * PROGRAM_SIZE;
	snprintf(tc->name, sizeof(tc->name), "program");
	random_cpu(rng, &tc->in);
}

static void make(struct gen *g, uint64_t seed, uint64_t index)
{
	struct program *p = g->p;
	unsigned functions = rng_below(&g->rng, GEN_FUNCTIONS);

	init_case(&p->tc, &g->rng, g->forms->mode, seed, index);
	choose_registers(g);
	g->budget = rng_percent(&g->rng, 80) ? 4000 : rng_percent(&g->rng, 90) ? 20000 : 80000;
	g->weight = 1;
	g->scratch = label_new(p);
	label_here(p, g->scratch);
	unit_begin(p);
	for (unsigned k = 0; k < SCRATCH / 8; k++)
		op_data(p, random_value(&g->rng));
	for (unsigned k = 0; k < functions; k++)
		gen_function(g);
	g->spent = 0;
	g->loops_max = g->counter_count;
	p->main = (int16_t)label_new(p);
	label_here(p, p->main);
	p->taken[p->main] = false;
	unit_begin(p);
	for (unsigned k = 1 + rng_below(&g->rng, 3); k; k--)
		gen_statements(g, 4);
	unit_begin(p);
	put(&p->code, 0xcc);
	op_end(p);
}

void generate_program(struct program *p, const struct forms *forms, uint64_t seed, uint64_t index)
{
	for (unsigned attempt = 0;; attempt++) {
		struct gen g = { .forms = forms, .p = p };

		g.rng = rng_make(seed, index * 64 + attempt / 2 + ((2ull + forms->mode) << 40));
		p->seed = seed;
		p->index = index;
		program_init(p, forms, &g.rng);
		make(&g, seed, index);
		for (unsigned i = 0; i < p->count && attempt % 2; i++)
			p->op[i].page_at = -1; /* did not fit; perhaps without gaps */
		if (program_settle(p))
			return;
	}
}
