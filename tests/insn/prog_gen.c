/* SPDX-License-Identifier: Apache-2.0 */
/* prog_gen.c - the parts of a program that do not branch: instructions, stack, strings, own code. */
#include "tests/insn/prog_gen.h"

#include <string.h>

bool gen_is_data(const struct gen *g, int reg)
{
	for (unsigned k = 0; k < g->data_count; k++)
		if (g->data[k] == reg)
			return true;
	return false;
}

void gen_spend(struct gen *g, uint64_t n)
{
	g->spent += g->weight * n;
}

unsigned gen_end(struct gen *g)
{
	gen_spend(g, 1);
	return op_end(g->p);
}

void gen_mov(struct gen *g, int reg, uint64_t v)
{
	put_mov_imm(&g->p->code, reg, v);
	gen_end(g);
}

void gen_reset_pointer(struct gen *g, unsigned k)
{
	gen_mov(g, g->ptr[k], g->base[k]);
}

void gen_push(struct gen *g, int reg)
{
	struct code *c = &g->p->code;

	if (reg >= 8)
		put(c, 0x41);
	put(c, 0x50 | ((unsigned)reg & 7));
	gen_end(g);
	g->frame += g->word;
}

void gen_pop(struct gen *g, int reg)
{
	struct code *c = &g->p->code;

	if (reg >= 8)
		put(c, 0x41);
	put(c, 0x58 | ((unsigned)reg & 7));
	gen_end(g);
	g->frame -= g->word;
}

void gen_lea_label(struct gen *g, int dst, int label)
{
	const struct address a = { ADDRESS_RIP, -1, 0, 0 };
	struct code *c = &g->p->code;

	gen_spend(g, 1);
	if (rng_percent(&g->rng, 50)) {
		put_mem(c, 0, true, 0x8d, dst, &a);
		op_ref(g->p, REF_RIP, c->len - 4, label, 0);
	} else { /* all addresses are below 2 GiB */
		put_mov_imm(c, dst, 0);
		op_ref(g->p, REF_ABS32, c->len - 4, label, 0);
	}
}

/* --- instructions ----------------------------------------------------------------------------------- */

struct address gen_address(struct gen *g)
{
	struct address a = { g->ptr[rng_below(&g->rng, g->ptr_count)], -1, 0, (int32_t)rng_below(&g->rng, 240) - 120 };

	if (g->aligned && rng_percent(&g->rng, 70))
		a.disp &= ~31;
	if (g->loops && rng_percent(&g->rng, 20)) {
		a.index = g->counter[rng_below(&g->rng, g->loops)];
		a.log2 = rng_below(&g->rng, 3);
	} else if (g->frame >= 72 && rng_percent(&g->rng, 25)) {
		a.base = RSP;
		a.disp = (int32_t)rng_below(&g->rng, (uint32_t)g->frame - 64);
		if (rng_percent(&g->rng, 60))
			a.disp &= ~7;
	} else if (rng_percent(&g->rng, 4)) {
		a.base = -1;
		a.disp = (int32_t)(MEM_VA + rng_below(&g->rng, MEM_SIZE - 64));
	}
	return a;
}

bool gen_is_aligned(const struct gen *g, const struct address *a)
{
	return g->aligned && a->base >= 0 && a->base != RSP && a->index < 0 && !(a->disp & 15);
}

void gen_memory_op(struct gen *g, const struct address *a, bool aligned)
{
	const struct memory_op *op = some_memory_op(&g->rng);

	while ((op->how & OP_ALIGNED) && !aligned && !rng_percent(&g->rng, 3))
		op = some_memory_op(&g->rng);

	if (op->opcode == 0x1b1 && !gen_is_data(g, RAX))
		return; /* CMPXCHG */
	if (!g->p->code.is32 && rng_percent(&g->rng, 5))
		put(&g->p->code, 0x67); /* all addresses have 32 bits */
	put_memory_op(&g->p->code, &g->rng, op, gen_data(g), a);
	gen_end(g);
}

/* Any instruction that there is, if it writes none but data registers. */
static bool try_any(struct gen *g)
{
	const struct forms *f = g->forms;
	size_t m = rng_below(&g->rng, (uint32_t)f->mnemonic_count);
	const struct form *form = &f->form[f->first[m] + rng_below(&g->rng, f->first[m + 1] - f->first[m])];
	struct insn_choice c;
	struct insn insn;
	struct address a;

	if (rng_percent(&g->rng, 60) && (form->vex || form->map > MAP_0F))
		return false;
	a = gen_address(g);
	random_choice(&g->rng, f, form, &c);
	c.addr_prefix = !g->p->code.is32 && rng_percent(&g->rng, 3);
	c.segment = 0;
	c.rip_relative = false;
	c.base = a.base;
	c.index = a.index;
	c.scale = (uint8_t)a.log2;
	c.disp = a.disp;
	c.disp_size = c.disp == (int8_t)c.disp ? 1 : 4;
	if (!encode(f, form, &c, &g->rng, &insn) || !insn_in_sequence(&g->rng, &insn) ||
	    insn.d.meta.category == ZYDIS_CATEGORY_STRINGOP)
		return false;
	fill_immediates(&g->rng, &insn);
	if (!insn_decode(f, &insn))
		return false;
	for (unsigned i = 0; i < insn.d.operand_count; i++) {
		const int reg = insn_written_gpr(&insn.op[i]);

		if (insn.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && insn.op[i].size >= 128 && !form->vex &&
		    !gen_is_aligned(g, &a) && !rng_percent(&g->rng, 3))
			return false;
		if (reg >= 0 && !gen_is_data(g, reg))
			return false;
	}
	for (unsigned i = 0; i < insn.len; i++)
		put(&g->p->code, insn.bytes[i]);
	gen_end(g);
	return true;
}

/* Scalar and register instructions that loops and branches are made of. */
static void add_register_op(struct gen *g)
{
	struct code *c = &g->p->code;
	struct address a;

	if (rng_percent(&g->rng, 15)) {
		a = gen_address(g);
		put_mem(c, 0, rng_percent(&g->rng, 70), 0x8d, gen_data(g), &a); /* LEA */
	} else if (rng_percent(&g->rng, 10)) {
		put_reg(c, 0, rng_percent(&g->rng, 70), 0x140 | rng_below(&g->rng, 16), gen_data(g), gen_data(g));
	} else if (rng_percent(&g->rng, 12)) { /* an immediate that may change */
		put_reg(c, 0, rng_percent(&g->rng, 50), 0x81, (int)rng_below(&g->rng, 8), gen_data(g));
		put4(c, (uint32_t)random_value(&g->rng));
		gen_patchable(g, gen_end(g), (int)gen_imm_at(g));
		return;
	} else {
		put_register_op(c, &g->rng, gen_data(g), gen_data(g));
	}
	gen_end(g);
}

void gen_plain(struct gen *g, unsigned max)
{
	const unsigned n = 1 + rng_below(&g->rng, max);

	for (unsigned i = 0; i < n; i++) {
		const unsigned what = rng_below(&g->rng, 100), outer = unit_begin(g->p);
		struct address a;

		if (what < 35) {
			a = gen_address(g);
			gen_memory_op(g, &a, gen_is_aligned(g, &a));
		} else if (what < 70) {
			add_register_op(g);
		} else {
			for (unsigned tries = 0; tries < 20 && !try_any(g); tries++)
				;
		}
		unit_end(g->p, outer);
	}
}

void gen_define_flags(struct gen *g)
{
	struct code *c = &g->p->code;
	const bool w = rng_percent(&g->rng, 50);
	struct address a = gen_address(g);
	static const uint8_t ops[] = { 0x39, 0x85, 0x29, 0x01, 0x38, 0x84 };

	switch (rng_below(&g->rng, 4)) {
	case 0:
		put_mem(c, 0, w, rng_percent(&g->rng, 50) ? 0x3b : 0x39, gen_data(g), &a);
		break;
	case 1:
		put_reg(c, 0, w, 0x83, rng_percent(&g->rng, 70) ? 7 : 5, gen_data(g));
		put(c, (uint8_t)random_value(&g->rng));
		break;
	default:
		put_reg(c, 0, w, ops[rng_below(&g->rng, sizeof(ops))], gen_data(g), gen_data(g));
		break;
	}
	gen_end(g);
}

/* --- the stack -------------------------------------------------------------------------------------- */

static void add_frame(struct gen *g)
{
	const uint32_t size = 16 + 8 * rng_below(&g->rng, 24);
	struct address up = { RSP, -1, 0, (int32_t)size };
	struct code *c = &g->p->code;
	const int32_t before = g->frame;

	put_reg(c, 0, true, 0x81, 5, RSP); /* sub */
	put4(c, size);
	gen_end(g);
	g->frame = before + (int32_t)size;
	for (unsigned k = 1 + rng_below(&g->rng, 5); k; k--) {
		struct address a = { RSP, -1, 0, 8 * (int32_t)rng_below(&g->rng, size / 8) };
		const unsigned outer = unit_begin(g->p);

		put_mem(c, 0, true, rng_percent(&g->rng, 50) ? 0x89 : 0x8b, gen_data(g), &a);
		gen_end(g);
		unit_end(g->p, outer);
	}
	if (g->nesting < 3 && rng_percent(&g->rng, 60))
		gen_statements(g, 2);
	if (rng_percent(&g->rng, 50)) {
		put_mem(c, 0, true, 0x8d, RSP, &up);
	} else {
		put_reg(c, 0, true, 0x81, 0, RSP);
		put4(c, size);
	}
	gen_end(g);
	g->frame = before;
}

/* Registers pushed, and popped in an order of its own. */
static void add_pushes(struct gen *g)
{
	const unsigned n = 1 + rng_below(&g->rng, 6);
	const int32_t before = g->frame;
	struct code *c = &g->p->code;

	for (unsigned k = 0; k < n; k++) {
		struct address a = gen_address(g);

		switch (rng_below(&g->rng, 6)) {
		case 0:
			put(c, 0x68);
			put4(c, (uint32_t)random_value(&g->rng));
			break;
		case 1:
			put_mem(c, 0, false, 0xff, 6, &a);
			break;
		default:
			gen_push(g, rng_percent(&g->rng, 90) ? gen_data(g) : RSP);
			continue;
		}
		gen_end(g);
		g->frame += g->word;
	}
	if (rng_percent(&g->rng, 50))
		gen_plain(g, 3);
	for (unsigned k = 0; k < n; k++) {
		struct address a = gen_address(g);

		if (rng_percent(&g->rng, 12) && a.base != RSP) {
			put_mem(c, 0, false, 0x8f, 0, &a);
			gen_end(g);
			g->frame -= g->word;
		} else {
			gen_pop(g, gen_data(g));
		}
	}
	g->frame = before;
}

/* The same in words of 16 bits. */
static void add_narrow_pushes(struct gen *g)
{
	const unsigned n = 1 + rng_below(&g->rng, 5);
	const int32_t before = g->frame;

	for (unsigned k = 0; k < n; k++) {
		put(&g->p->code, 0x66);
		gen_push(g, gen_data(g));
	}
	g->frame = before + 2 * (int32_t)n;
	if (rng_percent(&g->rng, 30))
		gen_plain(g, 2);
	for (unsigned k = 0; k < n; k++) {
		put(&g->p->code, 0x66);
		gen_pop(g, gen_data(g));
	}
	g->frame = before;
}

void gen_stack(struct gen *g)
{
	const unsigned outer = unit_begin(g->p);

	if (rng_percent(&g->rng, 45))
		add_frame(g);
	else if (rng_percent(&g->rng, 12))
		add_narrow_pushes(g);
	else
		add_pushes(g);
	unit_end(g->p, outer);
}

/* --- strings ---------------------------------------------------------------------------------------- */

static void set_string_register(struct gen *g, int reg, bool down)
{
	const uint32_t at = (uint32_t)(rng_percent(&g->rng, 70) ? MEM_VA : ALIAS_VA) + 0x100 +
			    rng_below(&g->rng, MEM_SIZE - 0x200);

	gen_mov(g, reg, rng_percent(&g->rng, 30) ? ((at & ~0xfffu) + (down ? 0x1008 : 0xff8)) : at);
}

void gen_string(struct gen *g)
{
	static const uint8_t opcodes[] = { 0xa4, 0xaa, 0xa6, 0xae, 0xac };
	static const int regs[] = { RSI, RDI, RCX, RAX };
	const unsigned outer = unit_begin(g->p), kind = rng_below(&g->rng, sizeof(opcodes));
	const bool down = rng_percent(&g->rng, 25), rep = rng_percent(&g->rng, 85);
	const uint32_t n = rng_below(&g->rng, rng_percent(&g->rng, 80) ? 24 : 200);
	struct code *c = &g->p->code;
	const int32_t before = g->frame;

	for (unsigned k = 0; k < 4; k++)
		if (!gen_is_data(g, regs[k]))
			gen_push(g, regs[k]);
	set_string_register(g, RSI, down);
	set_string_register(g, RDI, down);
	gen_mov(g, RCX, n);
	if (down) {
		put(c, 0xfd);
		gen_end(g);
	}
	if (rng_percent(&g->rng, 15))
		put(c, 0x66);
	if (rep)
		put(c, kind == 2 || kind == 3 ? 0xf2 + rng_below(&g->rng, 2) : 0xf3);
	if (!c->is32 && rng_percent(&g->rng, 40))
		put(c, 0x48);
	put(c, opcodes[kind] | rng_below(&g->rng, 2));
	gen_spend(g, n);
	gen_end(g);
	if (down) {
		put(c, 0xfc);
		gen_end(g);
	}
	for (unsigned k = 4; k-- > 0;)
		if (!gen_is_data(g, regs[k]))
			gen_pop(g, regs[k]);
	g->frame = before;
	unit_end(g->p, outer);
}

/* --- flags ------------------------------------------------------------------------------------------ */

void gen_flags(struct gen *g)
{
	static const uint8_t simple[] = { 0xf5, 0xf8, 0xf9, 0x9e, 0x9f }; /* CMC CLC STC SAHF LAHF */
	const unsigned outer = unit_begin(g->p), k = rng_below(&g->rng, 8);
	const struct address top = { RSP, -1, 0, 0 };
	struct code *c = &g->p->code;

	if (k < 5) {
		if (k < 3 || gen_is_data(g, RAX)) {
			put(c, simple[k]);
			gen_end(g);
		}
	} else {
		put(c, 0x9c); /* pushf */
		gen_end(g);
		if (k == 7) { /* others are taken */
			put_mem(c, 0, true, 0x81, 6, &top); /* xor */
			put4(c, (uint32_t)rng_u64(&g->rng) & FL_ARITH);
			gen_end(g);
			put(c, 0x9d);
			gen_end(g);
		} else {
			gen_pop(g, gen_data(g));
			g->frame += g->word;
		}
	}
	unit_end(g->p, outer);
}

/* --- code that changes itself ----------------------------------------------------------------------- */

void gen_patchable(struct gen *g, unsigned op, int at)
{
	const unsigned k = g->patch_count < GEN_PATCHES ? g->patch_count++ : rng_below(&g->rng, GEN_PATCHES);

	g->patch[k].label = label_new(g->p);
	g->patch[k].unit = g->p->op[op].unit;
	g->patch[k].at = (int8_t)at;
	label_op(g->p, g->patch[k].label, op);
}

/* A store into an instruction that has been made or follows. */
void gen_patch(struct gen *g)
{
	const struct address a = { ADDRESS_RIP, -1, 0, 0 };
	struct program *p = g->p;
	struct code *c = &p->code;
	const bool ahead = !g->patch_count || rng_percent(&g->rng, 50);
	const unsigned outer = unit_begin(p), k = rng_below(&g->rng, g->patch_count ? g->patch_count : 1);
	int label = ahead ? label_new(p) : g->patch[k].label;

	if (!ahead)
		p->unit = g->patch[k].unit;
	gen_spend(g, 20); /* such a store is slow */
	if (!ahead && g->patch[k].at == 1) { /* a condition: the opposite one */
		put_mem(c, 0, false, 0x80, 6, &a);
		put(c, 1);
		op_ref(p, REF_RIP, c->len - 5, label, 1);
	} else {
		put_mem(c, 0, false, rng_percent(&g->rng, 50) ? 0x88 : 0x00, gen_data(g), &a); /* mov, add */
		op_ref(p, REF_RIP, c->len - 4, label, (int)(gen_imm_at(g) + rng_below(&g->rng, 4)));
	}
	if (ahead) {
		const unsigned unit = p->unit;
		unsigned op;

		gen_plain(g, 2);
		p->unit = (uint16_t)unit;
		put_reg(c, 0, rng_percent(&g->rng, 50), 0x81, (int)rng_below(&g->rng, 8), gen_data(g));
		put4(c, 0);
		op = gen_end(g);
		label_op(p, label, op);
	}
	unit_end(p, outer);
}

/* Several accesses off one register to data in a page with code, or in a page that is read-only. */
void gen_other_page(struct gen *g)
{
	const unsigned outer = unit_begin(g->p), pick = rng_below(&g->rng, g->data_count);
	const bool own = rng_percent(&g->rng, 75);
	const int base = g->data[pick];

	g->data[pick] = g->data[--g->data_count]; /* keeps its value meanwhile */
	if (own)
		gen_lea_label(g, base, g->scratch);
	else
		gen_mov(g, base, RO_VA + rng_below(&g->rng, RO_SIZE - SCRATCH) / 8 * 8);
	for (unsigned k = 2 + rng_below(&g->rng, 5); k; k--) {
		struct address a = { base, -1, 0, (int32_t)rng_below(&g->rng, SCRATCH - 16) };
		const unsigned unit = unit_begin(g->p);

		if (own || rng_percent(&g->rng, 5)) {
			gen_memory_op(g, &a, false);
			gen_spend(g, 10);
		} else {
			put_mem(&g->p->code, 0, rng_percent(&g->rng, 50), 0x03, gen_data(g), &a);
			gen_end(g);
		}
		unit_end(g->p, unit);
	}
	g->data[g->data_count++] = base;
	unit_end(g->p, outer);
}

/* --- things that mostly fault ----------------------------------------------------------------------- */

void gen_wild(struct gen *g)
{
	static const uint32_t edges[] = { (uint32_t)MEM_VA, (uint32_t)MEM_END, (uint32_t)RO_VA,
					  (uint32_t)RO_VA + RO_SIZE, (uint32_t)STACK_VA + STACK_SIZE };
	const unsigned outer = unit_begin(g->p);
	struct address a = { gen_data(g), -1, 0, (int32_t)rng_below(&g->rng, 16) - 8 };

	if (rng_percent(&g->rng, 70))
		gen_mov(g, a.base, edges[rng_below(&g->rng, 5)] - rng_below(&g->rng, 24));
	gen_memory_op(g, &a, false);
	unit_end(g->p, outer);
}
