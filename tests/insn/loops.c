/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loops.c - loops over memory, as compilers make them: pointers that move by a constant, an index,
 * a counter. They cross page borders in both directions, run into pages that are not there, that are
 * read-only or hold their own code, lose their alignment on the way, leave by the side door.
 *
 * No instruction here leaves a flag undefined but those of `undefined`.
 */
#include "tests/insn/asm.h"
#include "tests/insn/insn.h"

#include <stdio.h>
#include <string.h>

#define POINTERS_MAX 3u
#define EXITS_MAX 8u

struct pointer {
	int reg;
	int32_t stride;
};

struct loop {
	struct rng rng;
	struct test_case *tc;
	struct code code;
	struct pointer ptr[POINTERS_MAX];
	unsigned pointer_count;
	int index, counter, limit, data[3], spare;
	int32_t index_step;
	uint32_t turns;
	unsigned exits[EXITS_MAX], exit_count; /* where the rel32 of jumps out stand */
};

/* --- registers and addresses ------------------------------------------------------------------------ */

/* Where a pointer starts: so that its turns meet one of the borders there are. */
static uint64_t start_for(struct loop *l, int32_t stride)
{
	const uint64_t borders[] = { MEM_VA, MEM_VA + 0x1000, MEM_END, RO_VA, RO_VA + RO_SIZE };
	uint64_t at = borders[rng_below(&l->rng, 3)];

	if (rng_percent(&l->rng, 6))
		at = borders[3 + rng_below(&l->rng, 2)];
	at -= (uint64_t)((int64_t)stride * rng_below(&l->rng, l->turns + 4));
	if (rng_percent(&l->rng, 50))
		at += rng_below(&l->rng, 128) - 64;
	if (rng_percent(&l->rng, 60))
		at &= ~15ull;
	/* most often somewhere to begin with */
	if ((at < MEM_VA || at >= MEM_END) && rng_percent(&l->rng, 90))
		at = MEM_VA + 64 + rng_below(&l->rng, MEM_SIZE - 128);
	return at;
}

static int32_t some_stride(struct loop *l)
{
	static const int8_t usual[] = { 0, 1, 2, 4, 8, 16, 32, 64, -1, -4, -8, -16, -32, -64, 3, 24 };

	if (rng_percent(&l->rng, 80))
		return usual[rng_below(&l->rng, sizeof(usual))];
	return (int32_t)rng_below(&l->rng, 2400) - 1200;
}

static void choose_registers(struct loop *l)
{
	static const uint16_t turns[] = { 1, 2, 5, 40, 300, 2000 };
	int order[15], n = 0;
	struct cpu *in = &l->tc->in;

	for (int reg = 0; reg < 16; reg++)
		if (reg != RSP)
			order[n++] = reg;
	for (int k = n - 1; k > 0; k--) {
		int other = (int)rng_below(&l->rng, (uint32_t)k + 1), t = order[k];

		order[k] = order[other];
		order[other] = t;
	}
	l->turns = 1 + rng_below(&l->rng, turns[rng_below(&l->rng, sizeof(turns) / sizeof(turns[0]))]);
	l->pointer_count = 1 + rng_below(&l->rng, POINTERS_MAX);
	for (unsigned k = 0; k < l->pointer_count; k++) {
		l->ptr[k] = (struct pointer){ order[--n], some_stride(l) };
		in->gpr[l->ptr[k].reg] = start_for(l, l->ptr[k].stride);
	}
	l->index = order[--n];
	l->index_step = rng_percent(&l->rng, 60) ? 0 : some_stride(l) / 8;
	in->gpr[l->index] = rng_percent(&l->rng, 60) ? 0 : rng_below(&l->rng, 64);
	l->counter = order[--n];
	in->gpr[l->counter] = l->turns;
	l->limit = order[--n];
	for (unsigned k = 0; k < 3; k++)
		l->data[k] = order[--n];
	l->spare = order[--n];
	in->gpr[RSP] = MEM_VA + 0x1800 + rng_below(&l->rng, 16) * 8;
}

static struct address some_address(struct loop *l)
{
	const struct pointer *p = &l->ptr[rng_below(&l->rng, l->pointer_count)];
	struct address a = { p->reg, -1, 0, (int32_t)rng_below(&l->rng, 64) - 32 };

	if (rng_percent(&l->rng, 60))
		a.disp &= ~15;
	if (rng_percent(&l->rng, 35)) {
		a.index = l->index;
		a.log2 = rng_below(&l->rng, 4);
	} else if (rng_percent(&l->rng, 5)) {
		a.base = -1;
		a.disp = (int32_t)(MEM_VA + rng_below(&l->rng, MEM_SIZE + 32));
	} else if (rng_percent(&l->rng, 5)) {
		a.base = RSP;
	}
	return a;
}

/* --- the body ---------------------------------------------------------------------------------------- */

static void add_memory_op(struct loop *l)
{
	const struct memory_op *op = some_memory_op(&l->rng);
	int reg = l->data[rng_below(&l->rng, 3)];
	struct address a = some_address(l);

	if (op->opcode == 0x1b1 && l->data[0] != RAX && l->data[1] != RAX && l->data[2] != RAX)
		return; /* CMPXCHG changes RAX, which may be a pointer */
	put_memory_op(&l->code, &l->rng, op, reg, &a);
}

static void add_register_op(struct loop *l)
{
	int a = l->data[rng_below(&l->rng, 3)], b = l->data[rng_below(&l->rng, 3)];

	if (rng_percent(&l->rng, 12)) { /* LEA of the pointers and the index */
		struct address at = some_address(l);

		put_mem(&l->code, 0, rng_percent(&l->rng, 50), 0x8d, a, &at);
	} else {
		put_register_op(&l->code, &l->rng, a, b);
	}
}

/* A way out that is seldom taken. */
static void add_exit(struct loop *l)
{
	struct address a = some_address(l);

	if (l->exit_count == EXITS_MAX)
		return;
	if (rng_percent(&l->rng, 50)) {
		put_mem(&l->code, 0, false, 0x80, 7, &a); /* cmp byte, imm */
		put(&l->code, rng_below(&l->rng, 256));
	} else {
		put_mem(&l->code, 0, false, 0x3a, l->data[0], &a); /* cmp r8, m8 */
	}
	put_jcc(&l->code, 4, 0);
	l->exits[l->exit_count++] = l->code.len - 4u;
}

/* reg += by, in one of the ways that there are. */
static void add_step(struct loop *l, int reg, int32_t by)
{
	struct address a = { reg, -1, 0, by };

	switch (rng_below(&l->rng, 5)) {
	case 0:
		put_mem(&l->code, 0, true, 0x8d, reg, &a);
		break;
	case 1:
		put_reg(&l->code, 0, true, 0x81, 5, reg); /* sub */
		put4(&l->code, (uint32_t)-by);
		break;
	case 2: /* lea spare, [reg + by]; mov reg, spare */
		put_mem(&l->code, 0, true, 0x8d, l->spare, &a);
		put_reg(&l->code, 0, true, 0x89, l->spare, reg);
		break;
	default:
		put_reg(&l->code, 0, true, 0x81, 0, reg); /* add */
		put4(&l->code, (uint32_t)by);
		break;
	}
}

/* An immediate of the loop itself is written to: add data, imm8 with a new one each time. Or what
 * follows the code, in its page. */
static void add_own_code(struct loop *l)
{
	struct address a = { -1, -1, 0, 0 };

	if (rng_percent(&l->rng, 50)) {
		a.disp = (int32_t)(l->tc->code_va + CODE_MAX + rng_below(&l->rng, 40));
		put_mem(&l->code, 0, true, 0x01, l->data[0], &a);
		return;
	}
	a.disp = (int32_t)(l->tc->code_va + l->code.len + 8u + 3u);
	put_mem(&l->code, 0, false, 0x88, l->data[0], &a); /* mov [imm8], r8: 8 bytes */
	put_reg(&l->code, 0, true, 0x83, 0, l->data[1]);
	put(&l->code, 1);
}

/* A counter that goes up or down to a limit, near a border of the comparison. */
static void add_count_end(struct loop *l, unsigned head)
{
	const uint64_t borders[] = { 0, 1ull << 31, 1ull << 32, 1ull << 63, 0x123456, 0x123456 };
	const unsigned which = rng_below(&l->rng, 6);
	const bool wide = rng_percent(&l->rng, 60), swapped = rng_percent(&l->rng, 30);
	const bool is_signed = rng_percent(&l->rng, 50), exact = rng_percent(&l->rng, 40);
	/* by more than 1 it could step over a limit that is the last number */
	const uint32_t most = (!exact && which < 4) || rng_percent(&l->rng, 60) ? 1 : 40;
	const int32_t by = (int32_t)(1 + rng_below(&l->rng, most)) * (rng_percent(&l->rng, 40) ? -1 : 1);
	const bool up = (by > 0) != swapped; /* as the operands stand */
	unsigned cc = is_signed ? (up ? 12 : 15) : up ? 2 : 7;
	const uint64_t start = borders[which] - (uint64_t)((int64_t)by * rng_below(&l->rng, l->turns + 1));
	uint64_t limit = start + (uint64_t)((int64_t)by * l->turns);

	if (exact)
		cc = 5;
	else if (which >= 4 && rng_percent(&l->rng, 40))
		limit += (uint64_t)((int64_t)rng_below(&l->rng, 80) - 40);
	if (!exact && which >= 4 && rng_percent(&l->rng, 40))
		cc ^= is_signed ? 2 : 4; /* or equal */
	l->tc->in.gpr[l->counter] = start;
	l->tc->in.gpr[l->limit] = limit;
	add_step(l, l->counter, by);
	if (swapped) {
		put_reg(&l->code, 0, wide, 0x39, l->counter, l->limit); /* cmp limit, counter */
	} else if (rng_percent(&l->rng, 60) || (wide && limit != (uint64_t)(int64_t)(int32_t)limit)) {
		put_reg(&l->code, 0, wide, 0x39, l->limit, l->counter);
	} else {
		put_reg(&l->code, 0, wide, 0x81, 7, l->counter);
		put4(&l->code, (uint32_t)limit);
	}
	put_jcc(&l->code, cc, head);
}

static void add_end(struct loop *l, unsigned head)
{
	const struct pointer *p = &l->ptr[0];
	struct cpu *in = &l->tc->in;
	const struct address down = { l->counter, -1, 0, -1 };

	switch (rng_below(&l->rng, 8)) {
	case 0:
		put_reg(&l->code, 0, true, 0xff, 1, l->counter); /* dec */
		put_jcc(&l->code, 5, head);
		break;
	case 1:
		put_mem(&l->code, 0, true, 0x8d, l->counter, &down);
		put_reg(&l->code, 0, true, 0x85, l->counter, l->counter);
		put_jcc(&l->code, 5, head);
		break;
	case 2: /* a compare with where the pointer will be */
		in->gpr[l->limit] = in->gpr[p->reg] + (uint64_t)((int64_t)p->stride * l->turns);
		if (p->stride) {
			put_reg(&l->code, 0, true, 0x39, l->limit, p->reg);
			put_jcc(&l->code, 5, head);
			break;
		}
		__attribute__((fallthrough));
	case 3: /* the way out in the middle, JMP at the end */
		put_reg(&l->code, 0, true, 0x83, 5, l->counter);
		put(&l->code, 1);
		put_jcc(&l->code, 2, 0);
		l->exits[l->exit_count++] = l->code.len - 4u;
		put(&l->code, 0xe9);
		put4(&l->code, head - (l->code.len + 4u));
		break;
	case 4:
	case 5:
	case 6:
		add_count_end(l, head);
		break;
	default:
		put_reg(&l->code, 0, true, 0x83, 5, l->counter); /* sub counter, 1 */
		put(&l->code, 1);
		put_jcc(&l->code, 5, head);
		break;
	}
}

static void add_body(struct loop *l)
{
	const unsigned count = 1 + rng_below(&l->rng, 7);
	unsigned step_at[POINTERS_MAX], index_at = rng_below(&l->rng, count);

	for (unsigned k = 0; k < POINTERS_MAX; k++)
		step_at[k] = rng_below(&l->rng, count);
	for (unsigned i = 0; i < count; i++) {
		if (rng_percent(&l->rng, 55))
			add_memory_op(l);
		else if (rng_percent(&l->rng, 75))
			add_register_op(l);
		else if (rng_percent(&l->rng, 90) && l->exit_count < EXITS_MAX - 1)
			add_exit(l);
		else if (rng_percent(&l->rng, 40))
			add_own_code(l);
		for (unsigned k = 0; k < l->pointer_count; k++)
			if (i == step_at[k] && l->ptr[k].stride)
				add_step(l, l->ptr[k].reg, l->ptr[k].stride);
		if (i == index_at && l->index_step)
			add_step(l, l->index, l->index_step);
	}
}

void generate_loop(struct test_case *tc, uint64_t seed, uint64_t index)
{
	struct loop l = { .tc = tc, .code = { .at = tc->code, .room = CODE_MAX } };
	unsigned head;

	l.rng = rng_make(seed, index * 4 + 3 + (1ull << 40));
	memset(tc, 0, offsetof(struct test_case, in));
	tc->seed = seed;
	tc->index = index;
	tc->mode = MODE_64;
	tc->template = (uint16_t)rng_below(&l.rng, TEMPLATES);
	tc->code_va = (uint32_t)CODE_VA + (uint32_t)(index % CODE_SLOTS) * CODE_SLOT + 64;
	snprintf(tc->name, sizeof(tc->name), "loop");
	random_cpu(&l.rng, &tc->in);
	tc->in.xs.mxcsr |= 0x1f80;
	tc->in.xs.fcw |= 0x3f;
	tc->undefined = tc->undefined_anywhere = FL_AF; /* AND, OR, XOR, TEST, shifts */
	choose_registers(&l);
	head = l.code.len;
	add_body(&l);
	add_end(&l, head);
	tc->code_len = (uint16_t)l.code.len;
	for (unsigned k = 0; k < l.exit_count; k++) {
		const uint32_t rel = tc->code_len - (l.exits[k] + 4u);

		memcpy(tc->code + l.exits[k], &rel, 4);
	}
	tc->in.rip = tc->code_va;
}
