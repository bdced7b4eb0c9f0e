/* SPDX-License-Identifier: Apache-2.0 */
/* jit_loop_emit.c - the checks before a loop, and its body without any. */
#include "common/checked.h"
#include "vmx-driver/soft/jit_loop.h"

jit_recipe jit_loop_recipe(const struct loop *loop, jit_recipe r)
{
	unsigned a = jit_recipe_a(r), b = jit_recipe_b(r);

	if (!r || !loop)
		return r;
	if (a < 16)
		a = loop->name[a];
	if (jit_recipe_has_b(r) && b < 16)
		b = loop->name[b];
	return jit_recipe_make(jit_recipe_op(r), jit_recipe_log2(r), a, b, jit_recipe_imm(r));
}

/* --- before the iterations ------------------------------------------------------------------------ */

/* dst = where its first iteration begins, + add, by the registers as they are at the start */
static void emit_stream_address(struct tr *t, const struct loop_stream *s, unsigned dst, int32_t add)
{
	ZydisDecodedOperand op = { .type = ZYDIS_OPERAND_TYPE_MEMORY };

	if (s->code)
		op.mem.base = ZYDIS_REGISTER_RIP;
	else if (s->base != JIT_NOBODYS)
		op.mem.base = (ZydisRegister)(ZYDIS_REGISTER_RAX + s->base);
	if (s->index != JIT_NOBODYS)
		op.mem.index = (ZydisRegister)(ZYDIS_REGISTER_RAX + s->index);
	op.mem.scale = (uint8_t)(1u << s->log2);
	op.mem.disp.value = s->lo + add;
	jit_emit_ea(&t->b, dst, &t->s->item[s->item].insn, &op, 0, false);
}

/* reg /= by, reg below 4096 */
static void emit_divide(struct jit_buf *b, unsigned reg, unsigned by)
{
	if ((by & (by - 1)) == 0) {
		if (by > 1)
			e_shift_imm(b, false, 5, reg, (unsigned)__builtin_ctz(by));
		return;
	}
	/* 2^24 / by, rounded up, is exact for numbers up to 2^12 by others up to 2^12 */
	e3(b, 0x48 | (reg >= 8 ? 5 : 0), 0x69, 0xc0 | (reg & 7) << 3 | (reg & 7)); /* imul */
	e4(b, ((1u << 24) + by - 1) / by);
	e_shift_imm(b, true, 5, reg, 24);
}

static unsigned distance(const struct loop_stream *s)
{
	return (unsigned)(s->stride < 0 ? -s->stride : s->stride);
}

static bool same_strides(const struct loop *loop, unsigned *ret_stride)
{
	bool same = true;

	*ret_stride = 0;
	for (unsigned k = 0; k < loop->stream_count; k++) {
		unsigned by = distance(&loop->stream[k]);

		if (!by)
			continue;
		same = same && (!*ret_stride || *ret_stride == by);
		*ret_stride = !*ret_stride || by < *ret_stride ? by : *ret_stride;
	}
	return same;
}

/* both of r9 to r11 */
static void e_cmov(struct jit_buf *b, bool w, unsigned cc, unsigned to, unsigned from)
{
	e2(b, 0x45 | (w ? 8 : 0), 0x0f);
	e2(b, 0x40 | cc, 0xc0 | (to & 7) << 3 | (from & 7));
}

/* cmp a, b; cmovcc a, b */
static void emit_choose(struct jit_buf *b, bool w, unsigned cc, unsigned to, unsigned from)
{
	e_rr(b, w, 0x39, to, from);
	e_cmov(b, w, cc, to, from);
}

static void check_one(struct tr *t, const struct loop_stream *s)
{
	emit_stream_address(t, s, H_R10, 0);
	jit_emit_check_loop(t, s);
}

/* Streams that move differently. r9 = how many more iterations stay in the page of each. */
static void check_each(struct tr *t, const struct loop *loop)
{
	struct jit_buf *b = &t->b;
	bool first = true;

	for (unsigned k = 0; k < loop->stream_count; k++) {
		const struct loop_stream *s = &loop->stream[k];

		if (!s->stride)
			continue;
		check_one(t, s);
		if (s->stride > 0) {
			e_alu_imm(b, false, 6, H_R11, 4095); /* xor: 4095 - r11 */
			e_alu_imm(b, false, 5, H_R11, (uint32_t)(s->hi - s->lo - 1));
		}
		emit_divide(b, H_R11, distance(s));
		if (first)
			e_rr(b, false, 0x89, H_R9, H_R11);
		else
			emit_choose(b, false, CC_A, H_R9, H_R11);
		first = false;
	}
}

/* Streams that all move by as much, up or down: the one that is least far from the border that it moves
 * to stands for all. */
static void check_together(struct tr *t, struct loop *loop, unsigned stride)
{
	struct jit_buf *b = &t->b;
	unsigned reg = H_R9;
	int32_t last = 4096;
	uint8_t *hole;

	for (unsigned k = 0; k < loop->stream_count; k++) {
		const struct loop_stream *s = &loop->stream[k];

		if (s->stride && 4096 - (s->hi - s->lo) < last)
			last = (int32_t)(4096 - (s->hi - s->lo));
	}
	for (unsigned k = 0; k < loop->stream_count; k++) {
		const struct loop_stream *s = &loop->stream[k];

		if (!s->stride)
			continue;
		if (s->stride > 0) { /* offset in the page */
			emit_stream_address(t, s, reg, 0);
			e_gs(b, true, 0x2b, reg, s->l0);
		} else { /* last - offset */
			emit_stream_address(t, s, H_R10, -last);
			e_load(b, reg, s->l0);
			e_rr(b, true, 0x29, reg, H_R10);
		}
		if (reg == H_R11)
			emit_choose(b, true, CC_B, H_R9, H_R11);
		reg = H_R11;
	}
	e_alu_imm(b, true, 7, H_R9, (uint32_t)last);
	hole = e_jcc_fwd(b, CC_A);
	jit_cold_begin(t);
	e_fix(b, hole, b->p);
	for (unsigned k = 0; k < loop->stream_count; k++)
		if (loop->stream[k].stride)
			check_one(t, &loop->stream[k]);
	loop->miss = e_jmp_fwd(b);
	jit_cold_end(t);
	e_rr(b, false, 0xf7, H_R9, 3); /* neg */
	e_alu_imm(b, false, 0, H_R9, (uint32_t)last);
	emit_divide(b, H_R9, stride);
}

/* reg = guest register + add */
static void emit_guest_value(struct jit_buf *b, unsigned reg, unsigned guest, int32_t add)
{
	int host = jit_host_reg(guest);

	if (host < 0) {
		e_load_gpr(b, reg, guest);
		host = (int)reg;
	}
	e_lea(b, reg, (unsigned)host, add);
}

/* r9: not more than the iterations before the one that ends the loop. */
static void emit_trips(struct tr *t, const struct loop_trips *trips, uint32_t cap)
{
	unsigned left = trips->stride > 0 ? H_R10 : H_R11, other = trips->stride > 0 ? H_R11 : H_R10;
	unsigned by = (unsigned)(trips->stride < 0 ? -trips->stride : trips->stride);
	uint32_t most = (cap - 1) * by;
	struct jit_buf *b = &t->b;

	if ((by & (by - 1)) && most > 4095)
		most = 4095; /* emit_divide() */
	emit_guest_value(b, H_R11, trips->moving, trips->stride);
	if (trips->fixed == JIT_NOBODYS)
		e_mov_imm(b, H_R10, (uint64_t)(int64_t)trips->imm);
	else
		emit_guest_value(b, H_R10, trips->fixed, 0);
	e_rr(b, trips->wide, 0x29, left, other); /* sub */
	e_mov_imm(b, other, 0);
	if (trips->beyond)
		e_cmov(b, true, trips->beyond, left, other);
	e_mov_imm(b, other, most);
	emit_choose(b, true, CC_A, left, other);
	emit_divide(b, left, by);
	emit_choose(b, false, CC_A, H_R9, left);
}

/* Checks all streams; r9 = the number of iterations that are free of checks, less one. */
static void emit_checks(struct tr *t, struct loop *loop)
{
	struct jit_buf *b = &t->b;
	uint32_t cap = LOOP_POLL / (loop->back + 1);
	unsigned stride;
	bool same;

	jit_loop_slots(t, loop);
	same = same_strides(loop, &stride);
	for (unsigned k = 0; k < loop->stream_count; k++)
		if (!loop->stream[k].stride)
			check_one(t, &loop->stream[k]);
	if (!stride)
		e_mov_imm(b, H_R9, cap - 1);
	else if (same)
		check_together(t, loop, stride);
	else
		check_each(t, loop);
	if (loop->trips.stride) {
		emit_trips(t, &loop->trips, cap);
	} else if (stride && 4095 / stride >= cap) {
		e_mov_imm(b, H_R11, cap - 1);
		emit_choose(b, false, CC_A, H_R9, H_R11);
	}
}

/* reg += guest register << log2 */
static void emit_add_guest(struct jit_buf *b, unsigned reg, unsigned guest, unsigned log2)
{
	int host = jit_host_reg(guest);

	if (host < 0) {
		e_load_gpr(b, H_R9, guest);
		host = H_R9;
	}
	e2(b, 0x48 | (reg >= 8 ? 5 : 0) | (host >= 8 ? 2 : 0), 0x8d); /* lea reg, [reg + host * n + 0] */
	e3(b, 0x44 | (reg & 7) << 3, log2 << 6 | ((unsigned)host & 7) << 3 | (reg & 7), 0);
}

/* Registers as the fast body has them; r9: as emit_checks() leaves it. From here on nothing calls. */
static void emit_setup(struct tr *t, const struct loop *loop)
{
	struct jit_buf *b = &t->b;

	for (unsigned guest = 0; guest < 16; guest++)
		if (loop->borrowed >> guest & 1)
			e_store_gpr(b, (unsigned)jit_host_reg(guest), guest);
	e_lea(b, loop->counter, H_R9, 1);
	for (unsigned k = 0; k < loop->stream_count; k++) {
		const struct loop_stream *s = &loop->stream[k];
		unsigned add = s->base_moves ? s->index : s->base;

		e_load(b, s->host, s->l0 + 8);
		if (s->base == JIT_NOBODYS && s->index == JIT_NOBODYS) {
			e_address(b, H_R9, (uint64_t)s->lo, s->code);
			e_rr(b, true, 0x01, s->host, H_R9);
		} else if (add != JIT_NOBODYS) {
			emit_add_guest(b, s->host, add, s->base_moves ? s->log2 : 0);
		}
	}
	for (unsigned guest = 8; guest < 12; guest++)
		if (loop->name[guest] != guest)
			e_load_gpr(b, (unsigned)jit_host_reg(loop->name[guest]), guest);
}

/* --- the body --------------------------------------------------------------------------------------- */

struct jit_place jit_loop_place(const struct tr *t, const ZydisDecodedOperand *mem)
{
	const struct loop_access *access = &t->loop->access[t->i];
	const struct loop_stream *s = &t->loop->stream[access->stream];
	struct jit_place place = { .base = s->host };
	bool high;

	if (s->base == JIT_NOBODYS && s->index == JIT_NOBODYS) {
		place.disp = (int32_t)(access->at - s->lo);
		return place;
	}
	place.disp = (int32_t)(mem->mem.disp.value + access->bias);
	if (s->base_moves) {
		place.base = (uint8_t)jit_host_reg((unsigned)jit_guest_reg(mem->mem.base, &high));
		place.index = JIT_INDEX(s->host);
	} else if (s->index != JIT_NOBODYS) {
		place.index = JIT_INDEX((uint8_t)jit_host_reg(
			(unsigned)jit_guest_reg(mem->mem.index, &high)));
		place.log2 = s->log2;
	}
	return place;
}

/* Registers as everybody else has them: nothing here touches RFLAGS. */
static void emit_restore(struct tr *t, const struct loop *loop)
{
	struct jit_buf *b = &t->b;

	for (unsigned guest = 8; guest < 12; guest++)
		if (loop->name[guest] != guest)
			e_store_gpr(b, (unsigned)jit_host_reg(loop->name[guest]), guest);
	for (unsigned guest = 0; guest < 16; guest++)
		if (loop->borrowed >> guest & 1)
			e_load_gpr(b, (unsigned)jit_host_reg(guest), guest);
}

/* Leaves for a guest address. */
static void emit_out(struct tr *t, struct loop *loop, uint64_t target, uint64_t from)
{
	unsigned where = t->where;
	jit_recipe recipe = t->recipe;

	emit_restore(t, loop);
	t->loop = NULL;
	t->recipe = jit_loop_recipe(loop, recipe);
	jit_emit_edge(t, target, jit_is_back(target, from), false);
	t->loop = loop;
	t->recipe = recipe;
	t->where = where;
}

static void emit_side_exit(struct tr *t, struct loop *loop, const struct item *it)
{
	uint8_t *hole;

	jit_flags_to_reg(t);
	hole = e_jcc_fwd(&t->b, it->insn.zi.opcode & 15);
	jit_cold_begin(t);
	e_fix(&t->b, hole, t->b.p);
	emit_out(t, loop, jit_branch_target(it), it->rip);
	jit_cold_end(t);
}

struct flags_at { /* of struct tr */
	unsigned where;
	jit_recipe recipe;
};

static jit_recipe recipe_outside(const struct tr *t)
{
	return t->where & IN_MEM ? 0 : jit_loop_recipe(t->loop, t->recipe);
}

/* The end of the iterations that were counted: to the checks of the block that takes flags as they are. */
static void emit_counted_out(struct tr *t, struct loop *loop)
{
	if (recipe_outside(t) != t->entry_recipe) {
		emit_out(t, loop, t->rip, t->rip);
		return;
	}
	emit_restore(t, loop);
	e_jmp(&t->b, t->start);
}

/* A way out of the loop whose jump is at `out`, with the flags as they were at it. */
static void emit_end(struct tr *t, struct loop *loop, uint8_t *out, const struct flags_at *at)
{
	const struct item *it = &t->s->item[loop->back];
	struct flags_at now = { t->where, t->recipe };

	e_fix(&t->b, out, t->b.p);
	t->where = at->where;
	t->recipe = at->recipe;
	emit_out(t, loop, it->rip + it->insn.len, it->rip);
	t->where = now.where;
	t->recipe = now.recipe;
}

static uint8_t *emit_jump_out(struct tr *t, const struct loop *loop, struct flags_at *ret_at)
{
	jit_flags_to_reg(t);
	*ret_at = (struct flags_at){ t->where, t->recipe };
	return e_jcc_fwd(&t->b, (t->s->item[loop->back].insn.zi.opcode & 15) ^ 1);
}

/* The jump back: counts. False: flags do not come around as they were at the head; then what follows
 * takes them as they are. */
static bool emit_back(struct tr *t, struct loop *loop, jit_recipe at_head)
{
	bool asks = t->s->item[loop->back].kind == K_JCC, around;
	struct jit_buf *b = &t->b;
	uint8_t *out = NULL, *counted;
	struct flags_at at;
	unsigned where;

	if (asks && !loop->trips.stride)
		out = emit_jump_out(t, loop, &at);
	jit_flags_settle(t);
	around = recipe_outside(t) == at_head;
	e_rr(b, false, 0xff, loop->counter, 1); /* dec */
	t->where &= IN_MEM;
	counted = e_jcc_fwd(b, around ? CC_NE : CC_E);
	loop->end = b->p;
	if (!around)
		jit_cold_begin(t);
	e_fix(b, counted, around ? loop->head : b->p);
	where = t->where;
	if (asks && !out)
		out = emit_jump_out(t, loop, &at);
	emit_counted_out(t, loop);
	t->where = where;
	if (out)
		emit_end(t, loop, out, &at);
	if (!around)
		jit_cold_end(t);
	return around;
}

static bool emit_body(struct tr *t, struct loop *loop)
{
	const struct loop_trips *trips = &loop->trips;
	struct jit_scratch *s = t->s;
	jit_recipe at_head = recipe_outside(t);

	for (unsigned pad = ++loop->bodies == loop->pad_body ? loop->pad : 0, n; pad; pad -= n) {
		n = pad > 8 ? 8 : pad;
		e_nop(&t->b, n);
	}
	loop->head = t->b.p;
	for (t->i = 0; t->i < loop->back; t->i++) {
		struct item *it = &s->item[t->i];
		bool last = trips->stride && t->i + 1 == loop->back;

		if (it->kind == K_JCC)
			emit_side_exit(t, loop, it);
		else if (!last || !trips->elided)
			jit_emit_item(t, it);
		if (last) { /* nobody looks at RFLAGS but after the loop */
			t->recipe = jit_flags_recipe(&it->insn);
			t->where = 0;
		}
	}
	return emit_back(t, loop, at_head);
}

static void note_holders(struct jit_scratch *s, const struct loop *loop)
{
	s->loops = true;
	for (unsigned guest = 0; guest < 16; guest++) {
		s->holds[guest] = (uint8_t)guest;
		if (loop->borrowed >> guest & 1)
			s->holds[guest] = loop->name[guest] != guest ? loop->name[guest] : JIT_NOBODYS;
	}
}

static bool emit_loop(struct tr *t, struct loop *loop)
{
	struct jit_scratch *s = t->s;
	unsigned count = s->count;
	bool open_end = s->open_end, ok;
	uint64_t end_rip = s->end_rip;

	emit_checks(t, loop);
	emit_setup(t, loop);
	/* what comes after the loop does not concern its flags */
	s->count = loop->back + 1;
	s->open_end = s->item[loop->back].kind == K_JCC;
	s->end_rip = s->item[loop->back].rip + s->item[loop->back].insn.len;
	jit_loop_rename(t, loop);
	t->loop = loop;
	t->recipe = jit_loop_recipe(loop, t->recipe);
	/* the first iteration may have its flags from elsewhere: then it stands before the others */
	ok = emit_body(t, loop) || (loop->back <= LOOP_TWICE && emit_body(t, loop));
	t->loop = NULL;
	jit_loop_rename(t, loop);
	s->count = count;
	s->open_end = open_end;
	s->end_rip = end_rip;
	return ok && !t->b.full && !t->other.full;
}

/* The body could be in fewer lines of the host's cache, of which the processor reads one a cycle. */
static bool badly_placed(const struct loop *loop)
{
	uintptr_t head = (uintptr_t)loop->head, last = (uintptr_t)loop->end - 1;

	return (last >> JIT_LINE_SHIFT) - (head >> JIT_LINE_SHIFT) > (last - head) >> JIT_LINE_SHIFT;
}

/* False: no loop, or not in that place; nothing was emitted. */
static bool try_loop(struct tr *t, struct loop *loop, unsigned pad, unsigned pad_body)
{
	struct jit_scratch *s = t->s;
	struct tr before = *t;
	unsigned slow_count = s->slow_count, link_count = s->link_count, point_count = s->point_count;

	t->i = 0;
	if (!jit_loop_find(t, loop, 0))
		return false;
	loop->pad = pad;
	loop->pad_body = pad_body;
	if (emit_loop(t, loop) && (pad_body || !badly_placed(loop))) {
		t->where = before.where;
		t->recipe = before.recipe;
		return true;
	}
	*t = before;
	s->slow_count = slow_count;
	s->link_count = link_count;
	s->point_count = point_count;
	return false;
}

void jit_loop_emit(struct tr *t)
{
	struct loop loop = { .end = NULL };

	if (!try_loop(t, &loop, 0, 0)) {
		unsigned pad = -(unsigned)(uintptr_t)loop.head & ((1u << JIT_LINE_SHIFT) - 1);

		if (!loop.end || !try_loop(t, &loop, pad, loop.bodies))
			return;
	}
	note_holders(t->s, &loop);
	t->i = 0;
	t->ordinary = t->b.p;
	if (loop.miss)
		e_fix(&t->b, loop.miss, t->ordinary);
}
