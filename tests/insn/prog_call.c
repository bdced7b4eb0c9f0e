/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prog_call.c - a program's functions, calls and returns, the usual and the unusual ones, and jumps through
 * tables.
 */
#include "tests/insn/prog_gen.h"

/* --- branches through a register or memory ------------------------------------------------------------ */

static void add_int3(struct gen *g)
{
	put(&g->p->code, 0xcc);
	op_end(g->p);
}

/* jmp or call to a label, without naming it in the branch */
static void add_indirect(struct gen *g, int label, bool call)
{
	struct program *p = g->p;
	struct code *c = &p->code;
	const struct address here = { ADDRESS_RIP, -1, 0, 0 };
	int slot = label_new(p), over;
	const int reg = gen_data(g);

	gen_spend(g, 2);
	if (rng_percent(&g->rng, 50)) {
		gen_lea_label(g, reg, label);
		put_reg(c, 0, false, 0xff, call ? 2 : 4, reg);
		op_end(p);
		return;
	}
	put_mem(c, 0, false, 0xff, call ? 2 : 4, &here);
	op_ref(p, REF_RIP, c->len - 4, slot, 0);
	over = label_new(p);
	if (call)
		op_branch(p, BR_JMP, over);
	label_here(p, slot);
	op_table(p, label);
	label_here(p, over);
}

static void add_call(struct gen *g, int label)
{
	if (rng_percent(&g->rng, 65)) {
		gen_spend(g, 1);
		op_branch(g->p, BR_CALL, label);
	} else {
		add_indirect(g, label, true);
	}
}

static void add_ret(struct gen *g)
{
	gen_spend(g, 1);
	put(&g->p->code, 0xc3);
	op_end(g->p);
}

/* --- functions -------------------------------------------------------------------------------------- */

void gen_call(struct gen *g)
{
	const unsigned outer = unit_begin(g->p);
	struct function *f = g->fn_count ? &g->fn[rng_below(&g->rng, g->fn_count)] : NULL;
	uint64_t cost;

	if (f) {
		const uint64_t deepest = f->recursive ? 1 + rng_below(&g->rng, rng_percent(&g->rng, 80) ? 12 : 60) : 1;
		const uint64_t depth = f->recursive ? gen_turns(g, deepest) : 1;

		cost = f->cost * depth;
		if (g->spent + cost * g->weight < 2 * g->budget) {
			const int32_t before = g->frame;

			gen_spend(g, cost);
			if (f->recursive) {
				gen_push(g, g->depth);
				gen_mov(g, g->depth, depth);
			}
			add_call(g, f->label);
			if (f->recursive)
				gen_pop(g, g->depth);
			g->frame = before;
		}
	}
	unit_end(g->p, outer);
}

/* dec depth; jz; call itself */
static void add_recursion(struct gen *g, const struct function *f)
{
	const unsigned outer = unit_begin(g->p);
	int end = label_new(g->p);

	put_reg(&g->p->code, 0, true, 0xff, 1, g->depth);
	gen_end(g);
	op_branch(g->p, 4, end);
	add_call(g, f->label);
	label_here(g->p, end);
	unit_end(g->p, outer);
}

struct frame {
	unsigned saved; /* counters */
	int32_t size;
	bool rbp; /* which is the last one of the data registers, and none meanwhile */
};

static void choose_frame(struct gen *g, struct frame *f)
{
	*f = (struct frame){ .saved = rng_below(&g->rng, g->counter_count + 1) };
	if (rng_percent(&g->rng, 40))
		f->size = 8 * (1 + (int32_t)rng_below(&g->rng, 20));
	if (f->saved || !rng_percent(&g->rng, 30) || g->data_count < 3)
		return;
	for (unsigned k = 0; k < g->data_count; k++) {
		if (g->data[k] != RBP)
			continue;
		g->data[k] = g->data[g->data_count - 1];
		g->data[--g->data_count] = RBP;
		f->rbp = true;
		return;
	}
}

static void add_prologue(struct gen *g, const struct frame *f)
{
	struct code *c = &g->p->code;

	for (unsigned k = 0; k < f->saved; k++)
		gen_push(g, g->counter[k]);
	if (f->rbp) {
		gen_push(g, RBP);
		put_reg(c, 0, true, 0x89, RSP, RBP);
		gen_end(g);
	}
	if (f->size) {
		put_reg(c, 0, true, 0x81, 5, RSP); /* sub */
		put4(c, (uint32_t)f->size);
		gen_end(g);
	}
}

static void add_epilogue(struct gen *g, const struct frame *f)
{
	struct code *c = &g->p->code;

	if (f->rbp) {
		put(c, 0xc9); /* leave */
		gen_end(g);
	} else if (f->size) {
		put_reg(c, 0, true, 0x81, 0, RSP); /* add */
		put4(c, (uint32_t)f->size);
		gen_end(g);
	}
	for (unsigned k = f->saved; k-- > 0;)
		gen_pop(g, g->counter[k]);
	add_ret(g);
}

/* Counters saved, perhaps a frame, a body, perhaps a call of itself, returns in one or two places. */
void gen_function(struct gen *g)
{
	struct function f = { .label = label_new(g->p), .recursive = rng_percent(&g->rng, 35) };
	const unsigned outer = unit_begin(g->p), first = g->p->count;
	struct frame frame;

	choose_frame(g, &frame);
	g->spent = 0;
	label_here(g->p, f.label);
	add_prologue(g, &frame);
	g->frame = frame.size;
	g->loops_max = frame.saved;
	gen_statements(g, 3);
	if (rng_percent(&g->rng, 25)) {
		const unsigned unit = unit_begin(g->p);
		int skip = label_new(g->p);

		gen_define_flags(g);
		op_branch(g->p, rng_below(&g->rng, 16), skip);
		g->p->unit = (uint16_t)unit;
		add_epilogue(g, &frame);
		g->frame = frame.size;
		label_here(g->p, skip);
	}
	if (f.recursive) {
		add_recursion(g, &f);
		gen_statements(g, 1);
	}
	add_epilogue(g, &frame);
	g->data_count += frame.rbp;
	g->frame = 0;
	if (rng_percent(&g->rng, 40)) /* across the end of a page */
		g->p->op[first].page_at = (int16_t)(0x1000 - 1 - rng_below(&g->rng, 100));
	f.cost = g->spent;
	g->fn[g->fn_count++] = f;
	unit_end(g->p, outer);
}

/* --- returns that are no returns ---------------------------------------------------------------------- */

/* lea r, [over]; push r; ret */
static void return_as_jump(struct gen *g)
{
	const int reg = gen_data(g);
	int over = label_new(g->p);

	gen_lea_label(g, reg, over);
	gen_push(g, reg);
	add_ret(g);
	g->frame -= g->word;
	add_int3(g);
	label_here(g->p, over);
}

/* call next; next: pop r. Now and then so often that the pairs on the host's stack run over. */
static void call_without_return(struct gen *g)
{
	int next = label_new(g->p);

	add_call(g, next);
	label_here(g->p, next);
	if (rng_percent(&g->rng, 50)) {
		gen_pop(g, gen_data(g));
		g->frame += g->word;
	} else {
		put_reg(&g->p->code, 0, true, 0x83, 0, RSP);
		put(&g->p->code, (unsigned)g->word);
		gen_end(g);
	}
}

/* The callee returns to somewhere else. */
static void changed_return(struct gen *g)
{
	const struct address top = { RSP, -1, 0, 0 };
	int fn = label_new(g->p), other = label_new(g->p), over = label_new(g->p);
	const int reg = gen_data(g);

	add_call(g, fn);
	gen_plain(g, 2);
	op_branch(g->p, BR_JMP, over);
	label_here(g->p, other);
	gen_plain(g, 2);
	op_branch(g->p, BR_JMP, over);
	label_here(g->p, fn);
	if (rng_percent(&g->rng, 70)) { /* else it is as it should be */
		int skip = label_new(g->p);

		if (rng_percent(&g->rng, 50)) { /* depends */
			gen_define_flags(g);
			op_branch(g->p, rng_below(&g->rng, 16), skip);
		}
		gen_lea_label(g, reg, other);
		put_mem(&g->p->code, 0, true, 0x89, reg, &top);
		gen_end(g);
		label_here(g->p, skip);
	}
	add_ret(g);
	label_here(g->p, over);
}

/* mov r, rsp; two calls deeper; mov rsp, r; jmp. The register is the recursion's, saved around. */
static void long_jump(struct gen *g)
{
	int outer = label_new(g->p), inner = label_new(g->p), out = label_new(g->p);

	gen_push(g, g->depth);
	put_reg(&g->p->code, 0, true, 0x89, RSP, g->depth);
	gen_end(g);
	add_call(g, outer);
	add_int3(g);
	label_here(g->p, outer);
	add_call(g, inner);
	add_int3(g);
	label_here(g->p, inner);
	gen_plain(g, 2);
	put_reg(&g->p->code, 0, true, 0x89, g->depth, RSP);
	gen_end(g);
	op_branch(g->p, BR_JMP, out);
	label_here(g->p, out);
	gen_pop(g, g->depth);
}

/* The callee takes its arguments with it. */
static void return_and_pop(struct gen *g)
{
	const unsigned n = 1 + rng_below(&g->rng, 4);
	int fn = label_new(g->p), over = label_new(g->p);
	const int32_t before = g->frame;

	for (unsigned k = 0; k < n; k++)
		gen_push(g, gen_data(g));
	add_call(g, fn);
	op_branch(g->p, BR_JMP, over);
	label_here(g->p, fn);
	gen_plain(g, 2);
	put(&g->p->code, 0xc2);
	put(&g->p->code, (unsigned)g->word * n);
	put(&g->p->code, 0);
	gen_end(g);
	label_here(g->p, over);
	g->frame = before;
}

/* Two return addresses change places: the outer one is returned to first. */
static void swapped_returns(struct gen *g)
{
	int outer = label_new(g->p), inner = label_new(g->p), over = label_new(g->p);
	const int a = g->data[0], b = g->data[1];

	add_call(g, outer);
	put_reg(&g->p->code, 0, true, 0x83, 0, RSP);
	put(&g->p->code, (unsigned)g->word);
	gen_end(g);
	op_branch(g->p, BR_JMP, over);
	label_here(g->p, outer);
	add_call(g, inner);
	add_int3(g);
	label_here(g->p, inner);
	gen_pop(g, a);
	gen_pop(g, b);
	gen_push(g, a);
	gen_push(g, b);
	add_ret(g);
	label_here(g->p, over);
}

void gen_odd_return(struct gen *g)
{
	static void (*const kinds[])(struct gen *g) = {
		return_as_jump, call_without_return, changed_return, long_jump, return_and_pop, swapped_returns,
	};
	const unsigned outer = unit_begin(g->p);
	const int32_t before = g->frame;

	g->frame = 0; /* what is at the top of the stack is not for writing */
	kinds[rng_below(&g->rng, sizeof(kinds) / sizeof(kinds[0]))](g);
	g->frame = before;
	unit_end(g->p, outer);
}

/* --- tables ----------------------------------------------------------------------------------------- */

/* index &= n - 1; jmp or call [table + index * 8]. table: a label */
static void add_dispatch(struct gen *g, int index, int base, unsigned n, int table, bool call)
{
	struct program *p = g->p;
	struct code *c = &p->code;
	const struct address flat = { -1, index, 3, 0 }, based = { base, index, 3, 0 };

	put_reg(c, 0, false, 0x83, 4, index);
	put(c, n - 1);
	gen_end(g);
	gen_spend(g, 1);
	if (base < 0) {
		put_mem(c, 0, false, 0xff, call ? 2 : 4, &flat);
		op_ref(p, REF_ABS32, c->len - 4, table, 0);
	} else {
		gen_lea_label(g, base, table);
		put_mem(c, 0, false, 0xff, call ? 2 : 4, &based);
		op_end(p);
	}
}

void gen_switch(struct gen *g)
{
	const unsigned outer = unit_begin(g->p), n = 2u << rng_below(&g->rng, 2);
	int table = label_new(g->p), end = label_new(g->p), ways[4];

	for (unsigned k = 0; k < n; k++)
		ways[k] = label_new(g->p);
	add_dispatch(g, g->data[0], rng_percent(&g->rng, 50) ? g->data[1] : -1, n, table, false);
	label_here(g->p, table);
	for (unsigned k = 0; k < n; k++)
		op_table(g->p, ways[rng_percent(&g->rng, 80) ? k : 0]);
	for (unsigned k = 0; k < n; k++) {
		label_here(g->p, ways[k]);
		gen_statements(g, 1);
		if (rng_percent(&g->rng, 80))
			op_branch(g->p, BR_JMP, end);
	}
	label_here(g->p, end);
	unit_end(g->p, outer);
}

struct interpreter {
	int counter, code, index, base, table, head, done;
	unsigned n;
	bool threaded, calls;
};

/* The next byte of the interpreted program, and on to what it means. */
static void add_fetch(struct gen *g, const struct interpreter *in)
{
	struct address at = { in->code, -1, 0, 0 };
	struct code *c = &g->p->code;

	put_reg(c, 0, true, 0xff, 1, in->counter);
	gen_end(g);
	gen_spend(g, 1);
	op_branch(g->p, 4, in->done);
	put_mem(c, 0, false, 0x1b6, in->index, &at);
	gen_end(g);
	put_reg(c, 0, true, 0xff, 0, in->code);
	gen_end(g);
	add_dispatch(g, in->index, in->base, in->n, in->table, in->calls);
}

/* A loop that reads bytes of the data and jumps (or calls) by them: with one jump for all, or one each. */
void gen_interpreter(struct gen *g)
{
	const unsigned outer = unit_begin(g->p);
	const uint64_t weight = g->weight, turns = gen_turns(g, 2 + rng_below(&g->rng, 150));
	struct interpreter in = { .code = g->ptr[0], .index = g->data[0], .n = 4u << rng_below(&g->rng, 2) };
	const int32_t before = g->frame;
	int ways[8];

	if (g->loops >= g->loops_max) {
		unit_end(g->p, outer);
		return;
	}
	in.counter = g->counter[g->loops++];
	in.base = rng_percent(&g->rng, 50) ? g->data[1] : -1;
	in.calls = rng_percent(&g->rng, 25);
	in.threaded = !in.calls && rng_percent(&g->rng, 50);
	in.table = label_new(g->p);
	in.head = label_new(g->p);
	in.done = label_new(g->p);
	gen_mov(g, in.counter, turns);
	g->weight *= turns;
	label_here(g->p, in.head);
	add_fetch(g, &in);
	if (in.calls)
		op_branch(g->p, BR_JMP, in.head);
	g->weight = weight * (turns / in.n + 1);
	g->frame = in.calls ? 0 : before;
	for (unsigned k = 0; k < in.n; k++) {
		ways[k] = label_new(g->p);
		label_here(g->p, ways[k]);
		gen_plain(g, 3);
		if (in.calls)
			add_ret(g);
		else if (in.threaded)
			add_fetch(g, &in);
		else
			op_branch(g->p, BR_JMP, in.head);
	}
	label_here(g->p, in.table);
	for (unsigned k = 0; k < in.n; k++)
		op_table(g->p, ways[k]);
	label_here(g->p, in.done);
	g->weight = weight;
	g->frame = before;
	g->loops--;
	gen_reset_pointer(g, 0);
	unit_end(g->p, outer);
}
