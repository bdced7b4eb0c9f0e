/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_stack.c - one check for several accesses to the guest's stack.
 *
 * In a group of them RSP may move by what is known: PUSH, POP, ADD, SUB and LEA; CALL or RET ends it.
 * Once the page is checked the distance to the host's memory is the same wherever RSP points.
 */
#include "vmx-driver/soft/jit_tr.h"

#define GROUP_ITEMS 40u
#define GROUP_SPAN 160 /* bytes */
#define RUN_MAX 12u
#define DISTANCE (1 << 20) /* from where RSP is at the group's start */
#define DISTANCE32 2000     /* so that ESP does not wrap: see soft_tlb_narrow() */

bool jit_is_stack(const ZydisDecodedOperand *mem)
{
	return (mem->mem.base == ZYDIS_REGISTER_RSP || mem->mem.base == ZYDIS_REGISTER_ESP) &&
	       mem->mem.index == ZYDIS_REGISTER_NONE;
}

struct jit_place jit_stack_place(int32_t disp)
{
	return (struct jit_place){ .base = H_R8, .index = JIT_INDEX(H_R11), .disp = disp };
}

bool jit_in_stack_group(const struct tr *t)
{
	return t->group.stack && t->i < t->group.end;
}

static bool names_register(const struct item *it)
{
	return jit_is_word(&it->insn, &it->insn.op[0]);
}

/* Is the first operand RSP, or ESP in 32-bit code? */
static bool is_rsp(const struct item *it)
{
	ZydisRegister reg = it->insn.op[0].reg.value;

	return names_register(it) && (reg == ZYDIS_REGISTER_RSP || reg == ZYDIS_REGISTER_ESP);
}

/* How far an instruction that does not end the block moves RSP. False: not known. */
static bool moves(const struct tr *t, const struct item *it, int64_t *ret_by)
{
	const ZydisDecodedOperand *op = it->insn.op;

	*ret_by = 0;
	if (it->kind == K_PUSH) {
		*ret_by = -(int64_t)t->word;
		return true;
	}
	if (it->kind == K_POP) {
		*ret_by = t->word;
		return !is_rsp(it);
	}
	if (!jit_writes_guest(it, SOFT_RSP))
		return true;
	if (!is_rsp(it))
		return false;
	if (it->kind == K_LEA && jit_is_stack(&op[1])) {
		*ret_by = op[1].mem.disp.value;
		return jit_own_width(it);
	}
	if (it->kind != K_DATA || op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return false;
	*ret_by = it->insn.zi.mnemonic == ZYDIS_MNEMONIC_ADD ? op[1].imm.value.s : -op[1].imm.value.s;
	return it->insn.zi.mnemonic == ZYDIS_MNEMONIC_ADD || it->insn.zi.mnemonic == ZYDIS_MNEMONIC_SUB;
}

struct access { /* to [RSP + disp, +size) */
	int64_t disp;
	unsigned size;
	bool write;
};

static bool is_access(const struct tr *t, const struct item *it, struct access *a)
{
	const ZydisDecodedOperand *mem = jit_memory_operand(&it->insn);

	*a = (struct access){ .size = t->word };
	switch (it->kind) {
	case K_PUSH:
	case K_CALL:
		a->disp = -(int64_t)t->word;
		a->write = true;
		return !mem;
	case K_POP:
		return !is_rsp(it);
	case K_RET:
		return true;
	case K_DATA:
		if (!mem || !jit_can_group(it, mem) || !jit_is_stack(mem))
			return false;
		*a = (struct access){ mem->mem.disp.value, mem->size / 8u,
				      mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE };
		return true;
	default:
		return false;
	}
}

struct plan { /* a group from the current item on, as far as it was looked at */
	unsigned end;
	int64_t lo, hi; /* from where RSP is at its start */
	bool write;
	int64_t rsp;    /* how far RSP has moved */
	/* checks with the group beside its own; without it */
	unsigned within, plain;
	const struct item *last;        /* access to the stack, if RSP did not move since */
	bool along;                     /* the item taken last goes along with the one before */
	const ZydisDecodedOperand *off; /* the last operand off another base */
};

/* Has the access no check of its own without this group? */
static bool goes_along(const struct item *last, const struct item *it)
{
	if (!last)
		return false;
	return last->kind == it->kind || (last->kind == K_POP && it->kind == K_RET);
}

/* How far RSP may move within a group, and accesses lie from it. */
static int64_t furthest(const struct tr *t)
{
	return t->word == 8 ? DISTANCE : DISTANCE32;
}

/* Takes the item to the plan. False: it can't be in the group. */
static bool take(const struct tr *t, struct plan *p, const struct item *it, bool lasts)
{
	const ZydisDecodedOperand *mem = jit_memory_operand(&it->insn);
	const int64_t distance = furthest(t);
	struct access a;

	if (is_access(t, it, &a)) {
		int64_t lo = p->rsp + a.disp, hi = lo + a.size;

		lo = lo < p->lo ? lo : p->lo;
		hi = hi > p->hi ? hi : p->hi;
		if (hi - lo > GROUP_SPAN || lo < -distance || hi > distance)
			return false;
		p->lo = lo;
		p->hi = hi;
		p->write |= a.write;
		p->along = goes_along(p->last, it);
		p->plain += !p->along;
		p->last = it;
	} else if (mem && it->kind == K_DATA) {
		if (!lasts || !jit_can_be_within(t, it, mem))
			return false;
		p->plain += !p->off || !jit_same_address_regs(p->off, mem);
		p->within++;
		p->off = mem;
	} else if (!jit_keeps_scratch(it)) {
		return false;
	}
	if (p->off && (jit_writes_reg(it, p->off->mem.base) || jit_writes_reg(it, p->off->mem.index)))
		p->off = NULL;
	return true;
}

/* Does the longer plan save more checks? What goes along with an access of the group would have a check of
 * its own again behind its end. */
static bool is_better(const struct plan *longer, const struct plan *best)
{
	int more = (int)(longer->plain - longer->within) - (int)(best->plain - best->within);

	return more > 0 || (more == 0 && longer->along);
}

void jit_start_stack_group(struct tr *t)
{
	const struct jit_scratch *s = t->s;
	const struct item *head = &s->item[t->i];
	struct plan p = { .end = t->i }, best;
	struct access a;
	const int64_t distance = furthest(t);
	int64_t by;
	bool lasts;

	if (!is_access(t, head, &a))
		return;
	lasts = jit_mode_l0(jit_site_mode(t, head));
	best = p;
	p.lo = p.hi = a.disp;
	for (unsigned k = t->i; k < s->count && k < t->i + GROUP_ITEMS; k++) {
		const struct item *it = &s->item[k];

		if (!take(t, &p, it, lasts))
			break;
		p.end = k + 1;
		if (p.last == it && is_better(&p, &best))
			best = p;
		if (jit_ends_block(it) || !moves(t, it, &by))
			break;
		p.rsp += by;
		if (p.rsp < -distance || p.rsp > distance)
			break;
		if (by && p.last != it)
			p.last = NULL;
	}
	if (best.plain < best.within + 2)
		return;
	jit_flags_clobber(t);
	t->group = (struct group){ .end = best.end, .stack = true, .place = jit_stack_place(0),
				   .lo = best.lo, .size = (unsigned)(best.hi - best.lo) };
	t->group.l0 = jit_emit_check_site(t, H_R8, (int32_t)best.lo, t->group.size, best.write, true);
}

void jit_stack_moved(struct tr *t, unsigned n)
{
	int64_t by;

	if (!jit_in_stack_group(t))
		return;
	for (unsigned k = t->i; k < t->i + n; k++)
		if (moves(t, &t->s->item[k], &by))
			t->group.lo -= by;
}

/* Up to where a run may go. */
static unsigned run_end(const struct tr *t)
{
	unsigned end = jit_in_stack_group(t) ? t->group.end : t->s->count;

	return end < t->i + RUN_MAX ? end : t->i + RUN_MAX;
}

/* PUSH reg / imm one after the other. Returns how many were emitted (0: not a run). */
unsigned jit_push_run(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct jit_buf *b = &t->b;
	unsigned n = 0, end;
	int32_t word = (int32_t)t->word;
	const uint8_t *from;

	if (s->item[t->i].kind != K_PUSH)
		return 0;
	end = run_end(t);
	while (t->i + n < end && s->item[t->i + n].kind == K_PUSH && names_register(&s->item[t->i + n]) &&
	       !is_rsp(&s->item[t->i + n]))
		n++;
	if (n < 2)
		return 0;
	jit_flags_before(t, t->i); /* all of them write RSP and nothing else */
	if (!jit_in_stack_group(t)) {
		jit_flags_clobber(t);
		jit_emit_check_site(t, H_R8, -word * (int32_t)n, t->word * n, true, true);
	}
	jit_point_here(t, 0);
	for (unsigned k = 0; k < n; k++) {
		bool high;
		unsigned guest = (unsigned)jit_guest_reg(s->item[t->i + k].insn.op[0].reg.value, &high);
		int host = jit_host_reg(guest);
		unsigned reg = host < 0 ? e_use_gpr(b, guest, 0) : (unsigned)host;

		from = b->p;
		e_mem_w(b, word == 8, 0x89, reg, jit_stack_place(-word * (int32_t)(k + 1)));
		e_kept_over(b, from, 0);
	}
	from = b->p;
	e_lea_w(b, word == 8, H_R8, H_R8, -word * (int32_t)n);
	e_kept_over(b, from, 0);
	return n;
}

/* POP reg one after the other, and the RET that may follow. */
unsigned jit_pop_run(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct jit_buf *b = &t->b;
	unsigned n = 0, end;
	int32_t word = (int32_t)t->word;
	bool ret;

	if (s->item[t->i].kind != K_POP)
		return 0;
	end = run_end(t);
	while (t->i + n < end && s->item[t->i + n].kind == K_POP && !is_rsp(&s->item[t->i + n]))
		n++;
	ret = n && t->i + n < (jit_in_stack_group(t) ? t->group.end : s->count) && s->item[t->i + n].kind == K_RET &&
	      s->item[t->i + n].insn.zi.operand_count_visible == 0;
	if (n + ret < 2)
		return 0;
	if (ret)
		jit_flags_to_mem(t);
	for (unsigned k = 0; k < n; k++)
		jit_flags_before(t, t->i + k);
	if (!jit_in_stack_group(t)) {
		jit_flags_clobber(t);
		jit_emit_check_site(t, H_R8, 0, t->word * (n + ret), false, true);
	}
	jit_point_here(t, 0);
	for (unsigned k = 0; k < n; k++) {
		bool high;
		unsigned guest = (unsigned)jit_guest_reg(s->item[t->i + k].insn.op[0].reg.value, &high);
		int host = jit_host_reg(guest);

		e_mem_w(b, word == 8, 0x8b, host < 0 ? H_R9 : (unsigned)host,
			jit_stack_place(word * (int32_t)k));
		if (host < 0)
			e_put_gpr(b, H_R9, guest);
	}
	if (ret)
		e_mem_w(b, word == 8, 0x8b, H_R10, jit_stack_place(word * (int32_t)n));
	e_lea_w(b, word == 8, H_R8, H_R8, word * (int32_t)(n + ret));
	if (ret) {
		t->i += n;
		jit_emit_return(t, word);
		return 1;
	}
	return n;
}
