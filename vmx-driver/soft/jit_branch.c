/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_branch.c - ways out of a block.
 *
 * The host's stack holds a pair for each guest CALL in progress: where the guest will return to, and,
 * as the host's own return address, the code for that. A RET that takes the address from the guest's
 * stack which the topmost pair expects is the host's RET; any other takes a pair away and goes through
 * the branch table. Who leaves translated code leaves all pairs behind; what changes the meaning of
 * guest addresses while translated code goes on sets v->returns_stale (jit_stubs.c).
 */
#include "vmx-driver/soft/jit_tr.h"

void jit_emit_leave(struct tr *t, uint64_t rip, unsigned code)
{
	if (jit_recipe_now(t))
		e_store_imm(&t->b, GS_OFF(flag_recipe), t->recipe);
	e_store_guest(&t->b, GS_OFF(rip), rip);
	e_mov_imm(&t->b, H_R11, code);
	e_jmp(&t->b, jit_stub(t, t->cache->stubs.exit));
}

void jit_emit_poll(struct tr *t, uint64_t rip)
{
	struct jit_buf *b = &t->b;
	uint8_t *hole;

	e_poll(b);
	hole = e_jcc_fwd(b, CC_NE);
	jit_cold_begin(t);
	e_fix(b, hole, b->p);
	jit_emit_leave(t, rip, SOFT_AGAIN);
	jit_cold_end(t);
}

/* Not with MODE_AC, which kernels set around their accesses to user memory: so the pairs of the code
 * around that stay good. */
static bool has_pairs(const struct tr *t)
{
	return t->cache->chain && !(t->mode & MODE_AC);
}

static uint32_t branch_table(const struct tr *t)
{
	return e_tlb_offset(t->ctx, offsetof(struct soft_tlb, ibtc));
}

static void emit_indirect_miss(struct tr *t, int32_t undo)
{
	struct jit_buf *b = &t->b;

	e_mov_imm(b, H_R9, (uint64_t)(int64_t)undo);
	e_guest(b, H_R11, t->s->item[t->i].rip);
	e_jmp(b, jit_stub(t, t->cache->stubs.branch));
}

/* r10: an address, r11: its slot (e_branch_slot()). Returns the hole of the jump that is taken where the
 * table has another. */
static uint8_t *emit_table_jump(struct jit_buf *b, uint32_t table, bool call)
{
	uint8_t *miss;

	e_gs_r11x8(b, true, 0x3b, H_R10, table); /* cmp r10, [rip] */
	miss = e_jcc_fwd(b, CC_NE);
	e_gs_r11x8(b, false, 0xff, call ? 2 : 4, table + (uint32_t)offsetof(struct soft_ibtc, host));
	return miss;
}

void jit_emit_indirect(struct tr *t, int32_t undo, bool call)
{
	struct jit_buf *b = &t->b;
	uint32_t table = branch_table(t);
	uint8_t *miss, *poll;

	if (!t->cache->chain) {
		emit_indirect_miss(t, undo);
		return;
	}
	e_branch_slot(b);
	e_poll(b);
	poll = e_jcc_fwd(b, CC_NE);
	miss = emit_table_jump(b, table, call);
	jit_cold_begin(t);
	e_fix(b, poll, b->p);
	e_fix(b, miss, b->p);
	emit_indirect_miss(t, undo);
	jit_cold_end(t);
}

void jit_emit_return(struct tr *t, int32_t undo)
{
	struct jit_buf *b = &t->b;
	uint8_t *other, *last, *poll;

	if (!has_pairs(t)) {
		jit_emit_indirect(t, undo, false);
		return;
	}
	if (jit_after_sti(t->s)) { /* what waited comes before CLI there, which may be the next instruction */
		e_poll(b);
		poll = e_jcc_fwd(b, CC_NE);
		jit_cold_begin(t);
		e_fix(b, poll, b->p);
		emit_indirect_miss(t, undo);
		jit_cold_end(t);
	}
	e_mem(b, 0x3b, H_R10, (struct jit_place){ .base = H_RSP, .disp = 8 }); /* cmp */
	other = e_jcc_fwd(b, CC_NE);
	e1(b, 0xc3);
	jit_cold_begin(t);
	e_fix(b, other, b->p);
	e_gs(b, true, 0x3b, H_RSP, GS_OFF(returns));
	last = e_jcc_fwd(b, CC_E);
	e_lea(b, H_RSP, H_RSP, 16);
	e_fix(b, last, b->p);
	jit_emit_indirect(t, undo, false);
	jit_cold_end(t);
}

bool jit_emit_call_pair(struct tr *t)
{
	struct jit_buf *b = &t->b;
	uint8_t *full, *back;

	if (!has_pairs(t))
		return false;
	e2(b, 0xf7, 0xc0 | H_RSP); /* test esp, imm32 */
	e4(b, JIT_RETURNS_SIZE);
	full = e_jcc_fwd(b, CC_E);
	back = b->p;
	e2(b, 0x41, 0x50 | (H_R9 & 7)); /* push r9 */
	jit_cold_begin(t);
	e_fix(b, full, b->p);
	e_load(b, H_RSP, GS_OFF(returns));
	e_jmp(b, back);
	jit_cold_end(t);
	return true;
}

void jit_emit_entry(struct jit_buf *b, uint64_t at)
{
	e2(b, 0x4d, 0x8d); /* lea r11, [r10 - at] */
	e1(b, 0x80 | (H_R11 & 7) << 3 | (H_R10 & 7));
	e4(b, -(uint32_t)at);
	e_store(b, H_R11, GS_OFF(code_page));
}

void jit_emit_call_back(struct tr *t, uint64_t next)
{
	e_lea(&t->b, H_RSP, H_RSP, 8);
	if (t->mode & JIT_MOVED)
		jit_emit_entry(&t->b, next);
	t->where = IN_MEM;
	t->recipe = 0;
	jit_emit_edge(t, next, false, false);
}

bool jit_after_sti(const struct jit_scratch *s)
{
	for (unsigned i = s->count > 1 ? s->count - 2 : 0; i < s->count; i++)
		if (s->item[i].insn.zi.mnemonic == ZYDIS_MNEMONIC_STI)
			return true;
	return false;
}

/* Every loop has a jump backwards or a call, so the others need not ask who wants the vCPU. What waited
 * for STI is taken at once. */
static bool polls_far(const struct tr *t, uint64_t target, bool call)
{
	return call || jit_is_back(target, t->s->item[t->i].rip) || jit_after_sti(t->s);
}

/* The same from moved code: where in the table the target is it finds out when it runs. */
static void emit_moved_edge(struct tr *t, uint64_t target, bool call)
{
	struct jit_buf *b = &t->b;
	uint8_t *miss, *poll = NULL;

	e_guest(b, H_R10, target);
	e_branch_slot(b);
	if (polls_far(t, target, call)) {
		e_poll(b);
		poll = e_jcc_fwd(b, CC_NE);
	}
	miss = emit_table_jump(b, branch_table(t), call);
	jit_cold_begin(t);
	if (poll)
		e_fix(b, poll, b->p);
	e_fix(b, miss, b->p);
	e_jmp(b, jit_stub(t, t->cache->stubs.lookup));
	jit_cold_end(t);
}

/* To a known address in another page: which page that is can change, so through the table. The block there
 * wants its address in r10 if it is moved code. */
static void emit_far_edge(struct tr *t, uint64_t target, bool call)
{
	struct jit_buf *b = &t->b;
	uint32_t at = branch_table(t) + jit_branch_slot(target) * (uint32_t)sizeof(struct soft_ibtc);
	bool is_short = (int64_t)target == (int32_t)target && !jit_may_move(t->cache, t->mode);
	uint8_t *miss, *poll = NULL;

	if (polls_far(t, target, call)) {
		e_poll(b);
		poll = e_jcc_fwd(b, CC_NE);
	}
	if (is_short) {
		e_cmp_gs_imm(b, at, (uint32_t)target);
	} else {
		e_mov_imm(b, H_R10, target);
		e_gs(b, true, 0x3b, H_R10, at);
	}
	miss = e_jcc_fwd(b, CC_NE);
	e_vcpu(b, 0xff, 1, call ? 2 : 4, at + (uint32_t)offsetof(struct soft_ibtc, host));
	jit_cold_begin(t);
	if (poll)
		e_fix(b, poll, b->p);
	e_fix(b, miss, b->p);
	if (poll || is_short)
		e_mov_imm(b, H_R10, target);
	e_jmp(b, jit_stub(t, t->cache->stubs.lookup));
	jit_cold_end(t);
}

/* One store bends the jump while others run it: its displacement, after so many bytes, may not leave 8
 * aligned ones. CS prefixes, which mean nothing here; a NOP would part it from its comparison. */
static void emit_pads(struct jit_buf *b, unsigned opcode_len)
{
	for (unsigned at = ((uintptr_t)b->p + opcode_len) & 7; at > 4 && at < 8; at++)
		e1(b, 0x2e);
}

void jit_emit_link(struct tr *t, unsigned cc, uint64_t target, uint32_t mode_bits)
{
	unsigned opcode_len = cc < ALWAYS ? 2 : 1;
	struct jit_buf *b = &t->b;
	struct jit_scratch *s = t->s;
	struct jit_link *link;
	uint8_t *rel32;

	if (s->link_count >= JIT_LINKS_MAX || (!(t->where & IN_MEM) && !t->recipe)) {
		b->full = true;
		return;
	}
	link = &s->link[s->link_count];
	emit_pads(b, opcode_len);
	if (cc >= ALWAYS)
		e1(b, cc == CALLING ? 0xe8 : 0xe9);
	else
		e2(b, 0x0f, 0x80 | cc);
	rel32 = b->p;
	e4(b, 0);
	jit_cold_begin(t);
	e_fix(b, rel32, b->p);
	*link = (struct jit_link){
		.rel32 = (uint32_t)(rel32 - t->cache->rw),
		.unlinked = (uint32_t)(b->p - t->cache->rw),
		.target = (uint16_t)((target & 4095) | (mode_bits | (t->mode & JIT_MOVED)) >> 16),
		.recipe = jit_recipe_keep(jit_recipe_now(t)),
	};
	e_mov_imm(b, H_R11, 0); /* jit_ref: filled in when the links have their place; see finish() */
	s->link_ref[s->link_count] = b->p - sizeof(jit_ref);
	e_jmp(b, jit_stub(t, t->cache->stubs.link));
	jit_cold_end(t);
	s->link_count++;
}

bool jit_linkable(const struct tr *t, uint64_t target)
{
	return t->cache->chain && target >> JIT_PAGE_SHIFT == t->rip >> JIT_PAGE_SHIFT &&
	       !jit_near_end(target);
}

void jit_emit_edge(struct tr *t, uint64_t target, bool backward, bool call)
{
	if (!t->cache->chain) {
		jit_flags_settle(t);
		jit_emit_leave(t, target, JIT_LOOKUP);
		return;
	}
	if (!jit_linkable(t, target)) {
		jit_flags_to_mem(t);
		if (t->mode & JIT_MOVED)
			emit_moved_edge(t, target, call);
		else
			emit_far_edge(t, target, call);
		return;
	}
	jit_flags_settle(t);
	/* What waited for STI is taken here, not some blocks later when IF may be clear again. A call
	 * forward and the RET that it has a pair for are no loop to the others, but a tree of them takes
	 * for ever. */
	if (jit_after_sti(t->s) || (call && !backward)) {
		jit_flags_clobber(t);
		jit_emit_poll(t, target);
	}
	jit_emit_link(t, call ? CALLING : ALWAYS, target, backward ? JIT_LOOP : 0);
}
