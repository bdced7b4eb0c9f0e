/* SPDX-License-Identifier: Apache-2.0 */
/* asm.c - encodes the instructions of loops and programs. */
#include "tests/insn/asm.h"

void put(struct code *c, unsigned byte)
{
	if (c->len < c->room)
		c->at[c->len++] = (uint8_t)byte;
}

void put4(struct code *c, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		put(c, v >> 8 * i & 0xff);
}

static void put_op(struct code *c, unsigned pre, bool w, unsigned opcode, int reg, int rm_base, int index)
{
	if (pre)
		put(c, pre);
	if (!c->is32)
		put(c, 0x40 | (w ? 8 : 0) | (reg >= 8 ? 4 : 0) | (index >= 8 ? 2 : 0) | (rm_base >= 8 ? 1 : 0));
	if (opcode >> 8)
		put(c, 0x0f);
	put(c, opcode & 0xff);
}

/* The number that the register has in a byte instruction. */
static int byte_reg(const struct code *c, int reg)
{
	return c->is32 && reg >= 4 ? c->byte_reg : reg;
}

/* Those used here of which ModRM.reg is a byte register. */
static bool has_byte_reg(unsigned opcode)
{
	return opcode == 0x00 || opcode == 0x38 || opcode == 0x3a || opcode == 0x84 || opcode == 0x88 ||
	       opcode == 0x8a;
}

void put_mem(struct code *c, unsigned pre, bool w, unsigned opcode, int reg, const struct address *a)
{
	const unsigned r = ((unsigned)(has_byte_reg(opcode) ? byte_reg(c, reg) : reg) & 7) << 3;
	const unsigned base = (unsigned)a->base & 7, index = a->index < 0 ? 4 : (unsigned)a->index & 7;
	const bool small = a->disp == (int8_t)a->disp;

	put_op(c, pre, w, opcode, reg, a->base, a->index);
	if (a->base == ADDRESS_RIP) {
		put(c, r | 5);
	} else if (a->base < 0) { /* SIB without base; without both: absolute */
		put(c, r | 4);
		put(c, a->log2 << 6 | index << 3 | 5);
	} else {
		put(c, (small ? 0x40u : 0x80u) | r | (a->index < 0 && base != 4 ? base : 4));
		if (a->index >= 0 || base == 4)
			put(c, a->log2 << 6 | index << 3 | base);
		if (small) {
			put(c, (uint8_t)a->disp);
			return;
		}
	}
	put4(c, (uint32_t)a->disp);
}

void put_reg(struct code *c, unsigned pre, bool w, unsigned opcode, int reg, int rm)
{
	if (c->is32 && opcode == 0xff && reg < 2) { /* INC, DEC: the form that 64-bit code has not */
		put(c, 0x40u | (unsigned)reg << 3 | (unsigned)rm);
		return;
	}
	if (has_byte_reg(opcode))
		reg = byte_reg(c, reg);
	if (has_byte_reg(opcode) || (opcode & ~15u) == 0x190)
		rm = byte_reg(c, rm);
	put_op(c, pre, w, opcode, reg, rm, -1);
	put(c, 0xc0 | ((unsigned)reg & 7) << 3 | ((unsigned)rm & 7));
}

void put_jcc(struct code *c, unsigned cc, unsigned target)
{
	put(c, 0x0f);
	put(c, 0x80 | cc);
	put4(c, target - (c->len + 4u));
}

void put_mov_imm(struct code *c, int reg, uint64_t v)
{
	const bool w = !c->is32 && v >> 32;

	if (w && v == (uint64_t)(int32_t)v) {
		put_reg(c, 0, true, 0xc7, 0, reg);
		put4(c, (uint32_t)v);
		return;
	}
	if (w || reg >= 8)
		put(c, 0x40 | (w ? 8 : 0) | (reg >= 8 ? 1 : 0));
	put(c, 0xb8 | ((unsigned)reg & 7));
	put4(c, (uint32_t)v);
	if (w)
		put4(c, (uint32_t)(v >> 32));
}

/* --- some of each kind ------------------------------------------------------------------------------ */

static const struct memory_op memory_ops[] = {
	{ 0x8b, 0, -1, 0, OP_WIDE }, { 0x89, 0, -1, 0, OP_WIDE }, { 0x8a, 0, -1, 0, 0 },
	{ 0x88, 0, -1, 0, 0 }, { 0x8b, 0x66, -1, 0, 0 }, { 0x89, 0x66, -1, 0, 0 },
	{ 0x03, 0, -1, 0, OP_WIDE }, { 0x01, 0, -1, 0, OP_WIDE }, { 0x29, 0, -1, 0, OP_WIDE },
	{ 0x2b, 0, -1, 0, OP_WIDE }, { 0x13, 0, -1, 0, OP_WIDE }, { 0x11, 0, -1, 0, OP_WIDE },
	{ 0x1b, 0, -1, 0, OP_WIDE }, { 0x39, 0, -1, 0, OP_WIDE }, { 0x3b, 0, -1, 0, OP_WIDE },
	{ 0x3a, 0, -1, 0, 0 }, { 0x31, 0, -1, 0, OP_WIDE }, { 0x85, 0, -1, 0, OP_WIDE },
	{ 0x87, 0, -1, 0, OP_WIDE }, { 0xfe, 0, 0, 0, 0 }, { 0xff, 0, 1, 0, OP_WIDE },
	{ 0x83, 0, 0, 1, OP_WIDE }, { 0x83, 0, 5, 1, OP_WIDE }, { 0x80, 0, 7, 1, 0 },
	{ 0x83, 0, 7, 1, OP_WIDE }, { 0xf7, 0, 3, 0, OP_WIDE }, { 0xc7, 0, 0, 4, OP_WIDE },
	{ 0x1b6, 0, -1, 0, OP_WIDE }, { 0x1be, 0, -1, 0, OP_WIDE }, { 0x1b7, 0, -1, 0, OP_WIDE },
	{ 0x142, 0, -1, 0, OP_WIDE }, { 0x14f, 0, -1, 0, OP_WIDE }, { 0x192, 0, 0, 0, 0 },
	{ 0x110, 0, -1, 0, 0 }, { 0x111, 0, -1, 0, 0 }, { 0x128, 0, -1, 0, OP_ALIGNED },
	{ 0x129, 0, -1, 0, OP_ALIGNED }, { 0x16f, 0xf3, -1, 0, 0 }, { 0x17f, 0xf3, -1, 0, 0 },
	{ 0x1fe, 0x66, -1, 0, OP_ALIGNED }, { 0x158, 0, -1, 0, OP_ALIGNED }, { 0x158, 0xf2, -1, 0, 0 },
	{ 0x110, 0xf3, -1, 0, 0 }, { 0x111, 0xf3, -1, 0, 0 }, { 0x1c1, 0, -1, 0, OP_WIDE },
	{ 0x1b1, 0, -1, 0, OP_WIDE }, { 0xdd, 0, 0, 0, 0 }, { 0xdd, 0, 3, 0, 0 },
};

const struct memory_op *some_memory_op(struct rng *rng)
{
	return &memory_ops[rng_below(rng, sizeof(memory_ops) / sizeof(memory_ops[0]))];
}

void put_memory_op(struct code *c, struct rng *rng, const struct memory_op *op, int reg,
		   const struct address *a)
{
	put_mem(c, op->pre, (op->how & OP_WIDE) && rng_percent(rng, 50), op->opcode, op->digit < 0 ? reg : op->digit, a);
	for (unsigned i = 0; i < op->imm; i++)
		put(c, rng_below(rng, 256));
}

void put_register_op(struct code *c, struct rng *rng, int a, int b)
{
	static const uint16_t ops[] = { 0x01, 0x29, 0x31, 0x39, 0x85, 0x11, 0x19, 0x89, 0x21 };
	const bool w = rng_percent(rng, 50);

	if (rng_percent(rng, 8))
		put(c, 0x66); /* 16 bits, unless w */
	switch (rng_below(rng, 7)) {
	case 0:
		put_reg(c, 0, w, 0xff, (int)rng_below(rng, 2), a); /* INC, DEC */
		break;
	case 1:
		put_reg(c, 0, false, 0x190 | rng_below(rng, 16), 0, a); /* SETcc */
		break;
	case 2:
		put_reg(c, 0, w, 0x83, (int)rng_below(rng, 8), a);
		put(c, rng_below(rng, 256));
		break;
	case 3: /* a shift by one defines OF */
		put_reg(c, 0, w, 0xd1, rng_percent(rng, 50) ? 4 : 5, a);
		break;
	default:
		put_reg(c, 0, w, ops[rng_below(rng, sizeof(ops) / sizeof(ops[0]))], a, b);
		break;
	}
}
