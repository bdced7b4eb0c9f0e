/* SPDX-License-Identifier: Apache-2.0 */
/* jit_insns.c - emits one guest instruction. */
#include "common/checked.h"
#include "vmx-driver/soft/jit_tr.h"

static void emit_data(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const ZydisDecodedOperand *mem = jit_memory_operand(&it->insn);
	struct jit_place place = { .base = H_R10 };
	jit_recipe recipe;
	unsigned state;

	if (mem && t->loop) {
		place = jit_loop_place(t, mem);
	} else if (mem && t->i < t->group.end && jit_in_group(t, mem)) {
		place = t->group.place;
		place.disp = (int32_t)(mem->mem.disp.value - t->group.bias);
	} else if (mem && t->i < t->group.end) {
		jit_flags_clobber(t);
		place = jit_emit_check_within(t, it, mem);
	} else if (mem) {
		unsigned size = mem->size ? mem->size / 8u : 1;
		bool write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

		jit_flags_clobber(t);
		place = jit_emit_access(t, it, mem, size, write);
	}
	if (mem && (jit_data_swaps(&it->insn, place.base) ||
		    (place.index && jit_data_swaps(&it->insn, place.index & 15)))) {
		e_mem(b, 0x8d, H_R10, place); /* lea */
		place = (struct jit_place){ .base = H_R10 };
	}
	if (mem && jit_data_scratch(&it->insn) >= 2 && place.index == JIT_INDEX(H_R11) &&
	    (place.base == H_R9 || place.base == H_R10)) {
		const uint8_t *from = b->p;

		/* r11 is the host address from here on, and the base's register free */
		e_rr(b, true, 0x01, H_R11, place.base);
		e_kept_over(b, from, HOST_BIT(H_R11));
		place = (struct jit_place){ .base = H_R11, .disp = place.disp };
	}
	if (it->needs && !jit_flags_idle(t, t->i))
		jit_flags_to_reg(t); /* r9 is free: register operands are loaded afterwards */
	if (mem && jit_flags_splits(t, it)) {
		jit_point_here(t, 0);
		t->recipe = jit_flags_split(t, it, place);
		t->where = IN_REG;
		return;
	}
	recipe = jit_flags_prepare(t, it);
	jit_point_here(t, 0);
	jit_emit_data(b, &it->insn, place, &state);
	if (state & POINT_SWAPPED)
		t->s->point[t->s->point_count - 1].state |= (uint16_t)state;
	if (it->writes) {
		t->where = IN_REG;
		t->recipe = recipe;
	}
}

/* Where LEA has its result for a guest register that lives in memory: in its copy, if there is one; a base
 * is loaded before, and stays. */
static unsigned lea_scratch(struct jit_buf *b, const struct soft_insn *insn, unsigned guest)
{
	ZydisRegister base = insn->op[1].mem.base;
	unsigned taken = 0;
	bool high;
	int kept;

	if (insn->zi.operand_width == 16)
		return H_R9;
	if (base != ZYDIS_REGISTER_NONE && jit_guest_reg(base, &high) >= 0 &&
	    jit_host_reg((unsigned)jit_guest_reg(base, &high)) < 0)
		taken = HOST_BIT(e_use_gpr(b, (unsigned)jit_guest_reg(base, &high), 0));
	kept = e_kept_host(b, guest);
	return kept >= 0 ? (unsigned)kept : e_kept_spare(b, taken);
}

static void emit_lea_insn(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const struct soft_insn *insn = &it->insn;
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(insn->op[0].reg.value, &high);
	int host = jit_host_reg(guest);
	unsigned dst = host >= 0 ? (unsigned)host : lea_scratch(b, insn, guest);

	if (insn->zi.operand_width != 16) {
		jit_emit_ea(b, dst, insn, &insn->op[1], it->rip + insn->len, false);
	} else {
		jit_emit_ea(b, H_R10, insn, &insn->op[1], it->rip + insn->len, false);
		if (host < 0)
			e_get_gpr(b, dst, guest);
		e1(b, 0x66);
		e_rr(b, false, 0x89, dst, H_R10);
	}
	if (host < 0)
		e_put_gpr(b, dst, guest);
}

static void load_guest(struct jit_buf *b, unsigned into, const ZydisDecodedOperand *op)
{
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(op->reg.value, &high);
	int host = jit_host_reg(guest);

	if (host >= 0)
		e_mov(b, into, (unsigned)host);
	else
		e_get_gpr(b, into, guest);
}

/* BT family with a bit offset in a register: it selects the unit in memory (SDM 2A, BT). */
static void emit_bitmem(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const struct soft_insn *insn = &it->insn;
	unsigned width = insn->zi.operand_width, log2 = width == 64 ? 6 : width == 32 ? 5 : 4;
	bool write = insn->zi.mnemonic != ZYDIS_MNEMONIC_BT;
	uint8_t opcode = insn->zi.opcode;

	jit_flags_clobber(t);
	jit_emit_ea(b, H_R10, insn, &insn->op[0], it->rip + insn->len, true);
	load_guest(b, H_R9, &insn->op[1]);
	if (width == 32)
		e_rr(b, true, 0x63, H_R9, H_R9); /* movsxd r9, r9d (RM form: same register) */
	else if (width == 16)
		e2(b, 0x4d, 0x0f), e2(b, 0xbf, 0xc9); /* movsx r9, r9w */
	e_shift_imm(b, true, 7, H_R9, log2);
	e_shift_imm(b, true, 4, H_R9, log2 - 3);
	e_rr(b, true, 0x01, H_R10, H_R9);
	jit_emit_check(t, H_R10, 0, width / 8, write);
	load_guest(b, H_R9, &insn->op[1]);
	e_alu_imm(b, false, 4, H_R9, width - 1);
	/* the other flags survive: loaded through rax, which r9 must not be used for */
	e_store(b, H_R9, GS_OFF(scratch) + 8);
	e_flags_load(b);
	e_load(b, H_R9, GS_OFF(scratch) + 8);
	jit_point_here(t, 0);
	if (insn->lock)
		e1(b, 0xf0);
	if (width == 16)
		e1(b, 0x66);
	e2(b, 0x47 | (width == 64 ? 8 : 0), 0x0f); /* REX.RXB: r9, [r10 + r11] */
	e3(b, opcode, 0x04 | (H_R9 & 7) << 3, 0x1a);
	t->where = IN_REG;
	t->recipe = 0;
}

/* RSP, or ESP. */
static void emit_move_stack(struct tr *t, int32_t by)
{
	e_lea_w(&t->b, t->word == 8, H_R8, H_R8, by);
}

/* Loads or stores t->word bytes. */
static void emit_word(struct tr *t, unsigned opcode, unsigned reg, struct jit_place place)
{
	e_mem_w(&t->b, t->word == 8, opcode, reg, place);
}

/* Checks t->word bytes of the stack, unless that is done. */
static struct jit_place check_stack(struct tr *t, int32_t disp, bool write)
{
	if (jit_in_stack_group(t))
		return jit_stack_place(disp);
	jit_flags_clobber(t);
	return jit_emit_check(t, H_R8, disp, t->word, write);
}

static struct jit_place check_push(struct tr *t)
{
	return check_stack(t, -(int32_t)t->word, true);
}

static void emit_push_value(struct tr *t, unsigned reg, struct jit_place place)
{
	const uint8_t *from = t->b.p;

	jit_point_here(t, 0);
	emit_word(t, 0x89, reg, place);
	emit_move_stack(t, -(int32_t)t->word);
	e_kept_over(&t->b, from, 0);
}

static void emit_push(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const ZydisDecodedOperand *op = &it->insn.op[0];
	struct jit_place place;
	unsigned reg = H_R9;

	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		jit_flags_clobber(t);
		place = jit_emit_access(t, it, op, t->word, false);
		jit_point_here(t, 0);
		emit_word(t, 0x8b, H_R9, place);
		e_store(b, H_R9, GS_OFF(scratch) + 8);
	}
	place = check_push(t);
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		e_load(b, H_R9, GS_OFF(scratch) + 8);
	} else if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		e_mov_imm(b, H_R9, op->imm.is_signed ? (uint64_t)op->imm.value.s : op->imm.value.u);
	} else {
		bool high;
		unsigned guest = (unsigned)jit_guest_reg(op->reg.value, &high);
		int host = jit_host_reg(guest);

		if (host >= 0)
			reg = (unsigned)host;
		else
			reg = e_use_gpr(b, guest, 0);
	}
	emit_push_value(t, reg, place);
}

/* PUSHFQ: v->rflags and v->aflags put together; RF and VM are pushed as 0. */
static void emit_pushf(struct tr *t)
{
	struct jit_buf *b = &t->b;
	struct jit_place place;

	jit_flags_clobber(t);
	place = check_push(t);
	e_store(b, H_R11, GS_OFF(scratch) + 8);
	e_vcpu(b, 0xb60f44, 3, H_R9, GS_OFF(aflags)); /* movzx r9d, byte [aflags]: OF */
	e_shift_imm(b, false, 4, H_R9, 11);
	e_vcpu(b, 0xb60f44, 3, H_R11, GS_OFF(aflags) + 1); /* movzx r11d, byte [aflags + 1] */
	e_rr(b, false, 0x09, H_R9, H_R11); /* or */
	e_gs(b, true, 0x0b, H_R9, GS_OFF(rflags));
	e_alu_imm(b, false, 4, H_R9, (uint32_t)~(FL_RF | FL_VM));
	e_load(b, H_R11, GS_OFF(scratch) + 8);
	emit_push_value(t, H_R9, place);
}

static void emit_pop(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(it->insn.op[0].reg.value, &high);
	int host = jit_host_reg(guest);
	struct jit_place place;
	const uint8_t *from;
	unsigned into;

	place = check_stack(t, 0, false);
	jit_point_here(t, 0);
	if (guest == SOFT_RSP) { /* the popped value wins over the increment */
		emit_word(t, 0x8b, H_R8, place);
		return;
	}
	into = host >= 0 ? (unsigned)host : e_kept_spare(b, 0);
	from = b->p;
	emit_word(t, 0x8b, into, place);
	emit_move_stack(t, (int32_t)t->word);
	e_kept_over(b, from, HOST_BIT(into));
	if (host < 0)
		e_put_gpr(b, into, guest);
}

static void emit_leave_insn(struct tr *t)
{
	struct jit_buf *b = &t->b;
	struct jit_place place;

	jit_flags_clobber(t);
	place = jit_emit_check(t, H_RBP, 0, t->word, false);
	jit_point_here(t, 0);
	emit_word(t, 0x8b, H_R9, place);
	e_lea_w(b, t->word == 8, H_R8, H_RBP, (int32_t)t->word);
	e_mov(b, H_RBP, H_R9);
}

/* Target of an indirect branch into r10. */
static void emit_branch_target(struct tr *t, struct item *it)
{
	const struct soft_insn *insn = &it->insn;
	struct jit_buf *b = &t->b;
	struct jit_place place;

	if (insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		load_guest(b, H_R10, &insn->op[0]);
		if (t->word != 8)
			e_rr(b, false, 0x89, H_R10, H_R10);
		return;
	}
	place = jit_emit_access(t, it, &insn->op[0], t->word, false);
	jit_point_here(t, 0);
	emit_word(t, 0x8b, H_R10, place);
}

uint8_t *jit_emit_canonical(struct jit_buf *b, unsigned reg)
{
	if (reg != H_R10)
		e_mov(b, H_R10, reg);
	e_shift_imm(b, true, 7, H_R10, 47); /* bits 63:47 all 0 or all 1 */
	e_lea(b, H_R10, H_R10, 1);
	e_alu_imm(b, true, 7, H_R10, 1);
	return e_jcc_fwd(b, CC_A);
}

/* Nothing is pushed for a target in r10 that is not canonical. */
static void emit_check_target(struct tr *t, const struct item *it)
{
	struct jit_buf *b = &t->b;
	uint8_t *hole = jit_emit_canonical(b, H_R10);

	jit_cold_begin(t);
	e_fix(b, hole, b->p);
	jit_emit_leave(t, it->rip, SOFT_STEP);
	jit_cold_end(t);
}

static void emit_call(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	uint64_t next = jit_next_rip(it);
	struct jit_place place;
	bool pair;

	jit_flags_clobber(t);
	if (!jit_is_direct(it)) {
		emit_branch_target(t, it);
		e_store(b, H_R10, GS_OFF(scratch) + 8);
		if (t->word == 8)
			emit_check_target(t, it);
	}
	place = check_push(t);
	e_guest(b, H_R9, next);
	emit_push_value(t, H_R9, place);
	pair = jit_emit_call_pair(t);
	if (jit_is_direct(it)) {
		uint64_t target = jit_branch_target(it);

		jit_emit_edge(t, target, jit_is_back(target, it->rip), pair);
	} else {
		e_load(b, H_R10, GS_OFF(scratch) + 8);
		jit_emit_indirect(t, -(int32_t)t->word, pair);
	}
	if (pair)
		jit_emit_call_back(t, next);
}

static void emit_ret(struct tr *t, struct item *it)
{
	const struct soft_insn *insn = &it->insn;
	struct jit_place place;
	int32_t extra = (int32_t)t->word;

	if (insn->zi.operand_count_visible && insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		extra += (int32_t)(insn->op[0].imm.value.u & 0xffff);
	jit_flags_clobber(t);
	place = check_stack(t, 0, false);
	jit_point_here(t, 0);
	emit_word(t, 0x8b, H_R10, place);
	emit_move_stack(t, extra);
	jit_emit_return(t, extra);
}

static void emit_jmp(struct tr *t, struct item *it)
{
	jit_flags_clobber(t);
	if (jit_is_direct(it)) {
		uint64_t target = jit_branch_target(it);

		jit_emit_edge(t, target, jit_is_back(target, it->rip), false);
	} else {
		emit_branch_target(t, it);
		jit_emit_indirect(t, 0, false);
	}
}

/* The flags are settled before the jump, which does not change them: then both ways are direct. */
static void emit_jcc(struct tr *t, struct item *it)
{
	uint64_t target = jit_branch_target(it);
	unsigned cc = it->insn.zi.opcode & 15;
	jit_recipe recipe;
	const uint8_t *from;
	uint8_t *hole;
	unsigned where;

	jit_flags_to_reg(t);
	jit_flags_settle(t);
	where = t->where;
	recipe = t->recipe;
	from = t->b.p;
	if (jit_linkable(t, target) && !jit_after_sti(t->s)) {
		jit_emit_link(t, cc, target, jit_is_back(target, it->rip) ? JIT_LOOP : 0);
		e_kept_over(&t->b, from, 0);
	} else if (jit_is_back(target, it->rip) && t->cache->chain) {
		/* a loop: most often taken, so its way back stands in line */
		hole = e_jcc_fwd(&t->b, cc ^ 1);
		jit_emit_edge(t, target, true, false);
		e_fix(&t->b, hole, t->b.p);
		e_kept_over(&t->b, from, 0);
	} else {
		hole = e_jcc_fwd(&t->b, cc);
		jit_cold_begin(t);
		e_fix(&t->b, hole, t->b.p);
		jit_emit_edge(t, target, false, false);
		jit_cold_end(t);
		e_kept_over(&t->b, from, 0);
	}
	t->where = where;
	t->recipe = recipe;
}

static bool is_branch(const struct item *it)
{
	return it->kind == K_CALL || it->kind == K_RET || it->kind == K_JMP || it->kind == K_JCC;
}

/* The instruction in the shadow of STI, the last of its block, is done. */
static void emit_end_shadow(struct tr *t)
{
	e_vcpu8(&t->b, 0xc6, 1, 0, GS_OFF(shadow), 0); /* mov byte [shadow], 0 */
}

void jit_emit_op_call(struct tr *t, const struct item *it)
{
	struct soft_cache *cache = t->cache;
	struct jit_op_site *site = jit_meta_alloc(cache, sizeof(*site));
	const struct soft_insn *kept = jit_insn_keep(cache, &it->insn);

	if (!site || !kept) {
		t->b.full = true;
		return;
	}
	site->fn = it->insn.soft_op->fn;
	site->insn = kept;
	site->rip = it->rip;
	site->next_rip = jit_next_rip(it);
	e_mov_imm(&t->b, H_R11, (uint64_t)(uintptr_t)site);
	e_call(&t->b, jit_stub(t, cache->stubs.op[!!(t->mode & JIT_MOVED)]));
}

void jit_emit_dispatch(struct tr *t, const struct item *it)
{
	if (t->i && jit_is_sti(it - 1))
		emit_end_shadow(t);
	e_jmp(&t->b, jit_stub(t, t->cache->stubs.dispatch));
}

static void emit_op(struct tr *t, struct item *it)
{
	jit_flags_clobber(t);
	if (!jit_emit_system(t, it))
		jit_emit_op_call(t, it);
	if (jit_is_sti(it) && t->i + 1 < t->s->count && is_branch(&t->s->item[t->i + 1]))
		emit_end_shadow(t); /* there is no way behind the branch */
	if (jit_ends_block(it))
		jit_emit_dispatch(t, it);
}

void jit_emit_item(struct tr *t, struct item *it)
{
	jit_flags_before(t, t->i);
	switch (it->kind) {
	case K_DATA: emit_data(t, it); break;
	case K_NONE: break;
	case K_LEA: emit_lea_insn(t, it); break;
	case K_BITMEM: emit_bitmem(t, it); break;
	case K_PUSH: emit_push(t, it); break;
	case K_POP: emit_pop(t, it); break;
	case K_PUSHF: emit_pushf(t); break;
	case K_CLI: jit_emit_cli(t); break;
	case K_SWAPGS: jit_emit_swapgs(t); break;
	case K_AC: jit_emit_ac(t, it); break;
	case K_LEAVE: emit_leave_insn(t); break;
	case K_CALL: emit_call(t, it); break;
	case K_RET: emit_ret(t, it); break;
	case K_JMP: emit_jmp(t, it); break;
	case K_JCC: emit_jcc(t, it); break;
	case K_OP: emit_op(t, it); break;
	case K_STEP:
		jit_flags_clobber(t);
		jit_emit_leave(t, it->rip, SOFT_STEP);
		break;
	}
	if (t->i && jit_is_sti(it - 1) && !jit_ends_block(it) && !is_branch(it))
		emit_end_shadow(t);
}
