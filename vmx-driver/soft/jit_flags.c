/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_flags.c - where the guest's arithmetic flags are while a block runs: in RFLAGS, in v->aflags,
 * or to be had by a recipe (jit_recipe.h); t->where and t->recipe say which, several at once.
 *
 * An instruction that sets the flags is followed by one of three fates (fate_of()): nobody can look
 * before the next one sets them; somebody might, as a fault or in a block of this page, for whom a
 * recipe will do; or somebody surely needs them in v->aflags, and then they are saved from RFLAGS
 * while they are there.
 */
#include "common/checked.h"
#include "vmx-driver/soft/jit_tr.h"

enum fate { FATE_UNSEEN, FATE_RECIPE, FATE_SAVED };

static bool sets_all(const struct item *it)
{
	return it->writes == FL_ARITH && !it->needs;
}

/* What becomes of flags that the item at i leaves. */
static enum fate fate_of(const struct tr *t, unsigned i)
{
	const struct jit_scratch *s = t->s;
	bool seen = false;

	for (unsigned k = i + 1; k < s->count; k++) {
		const struct item *it = &s->item[k];

		if (it->saves)
			return FATE_SAVED;
		switch (it->kind) {
		case K_NONE:
		case K_LEA:
			break;
		case K_DATA:
			seen |= jit_memory_operand(&it->insn) != NULL && !t->loop;
			if (it->writes)
				return seen ? FATE_RECIPE : FATE_UNSEEN;
			break;
		case K_JCC: /* in a loop they are in RFLAGS all the way, and saved outside */
			seen |= !t->loop || k + 1 == s->count;
			break;
		case K_CALL:
		case K_JMP:
		case K_STEP:
			return FATE_RECIPE;
		default:
			seen = true;
			break;
		}
	}
	return jit_linkable(t, s->end_rip) ? FATE_RECIPE : FATE_SAVED;
}

/* Nothing but its own instruction's fault can show the guest its flags. */
static bool cannot_trap(const struct item *it)
{
	return !jit_memory_operand(&it->insn) && it->insn.fp == FP_NONE &&
	       it->insn.zi.mnemonic != ZYDIS_MNEMONIC_DIV && it->insn.zi.mnemonic != ZYDIS_MNEMONIC_IDIV;
}

bool jit_flags_idle(const struct tr *t, unsigned i)
{
	const struct jit_scratch *s = t->s;
	const struct item *it = &s->item[i];

	if (t->loop || it->kind != K_DATA || !it->writes || (it->insn.zi.cpu_flags->tested & FL_ARITH))
		return false;
	for (unsigned k = i + 1; k < s->count; k++) {
		it = &s->item[k];
		if (it->kind == K_NONE || it->kind == K_LEA)
			continue;
		if (it->kind != K_DATA || it->needs || !cannot_trap(it))
			return false;
		if (it->writes)
			return true;
	}
	return false;
}

/* --- recipes as host code ------------------------------------------------------------------- */

static uint32_t place_offset(unsigned place)
{
	return place < 16 ? GS_OFF(gpr) + 8 * place : GS_OFF(flag_slot) + 8 * (place - PLACE_SLOT_A);
}

static bool is_pinned(unsigned place)
{
	return place < 16 && jit_host_reg(place) >= 0;
}

/* The host register that has the guest's, or a copy of it; -1: none, or no guest register. */
static int host_of(const struct jit_buf *b, unsigned place)
{
	return is_pinned(place) ? jit_host_reg(place) : place < 16 ? e_kept_host(b, place) : -1;
}

/* op between a register and a member of the vCPU, of 1 << log2 bytes */
static void e_vcpu_log2(struct jit_buf *b, unsigned log2, unsigned opcode, unsigned reg, uint32_t disp)
{
	uint32_t bytes = 0x40 | (log2 == 3 ? 8 : 0) | (reg >= 8 ? 4 : 0) | opcode << 8;

	e_vcpu(b, log2 == 1 ? 0x66 | bytes << 8 : bytes, log2 == 1 ? 3 : 2, reg, disp);
}

/* op reg, b with 1 << log2 bytes: an ALU operation by its number (0 ADD, 5 SUB, 7 CMP) or TEST. */
#define ALU_TEST 8u
static void emit_alu(struct jit_buf *b, unsigned alu, unsigned log2, unsigned reg, unsigned place,
		     int32_t imm)
{
	unsigned wide = log2 ? 1 : 0, w = log2 == 3 ? 8 : 0;
	int host = host_of(b, place);

	if (host >= 0) {
		unsigned src = (unsigned)host;

		if (log2 == 1)
			e1(b, 0x66);
		e1(b, 0x40 | w | (src >= 8 ? 4 : 0) | (reg >= 8 ? 1 : 0)); /* always: SIL and the like */
		e2(b, (alu == ALU_TEST ? 0x84 : alu << 3) | wide, 0xc0 | (src & 7) << 3 | (reg & 7));
		return;
	}
	if (place == PLACE_IMM) {
		bool small = alu != ALU_TEST && imm == (int8_t)imm; /* then that is enough for any size */

		if (log2 == 1)
			e1(b, 0x66);
		e1(b, 0x40 | w | (reg >= 8 ? 1 : 0));
		e2(b, (alu == ALU_TEST ? 0xf6 : 0x80) | wide | (small && wide ? 2 : 0),
		   0xc0 | (alu == ALU_TEST ? 0 : alu << 3) | (reg & 7));
		e_bytes(b, &imm, small || log2 == 0 ? 1 : log2 == 1 ? 2 : 4);
		return;
	}
	e_vcpu_log2(b, log2, (alu == ALU_TEST ? 0x84 : alu << 3 | 2) | wide, reg, place_offset(place));
}

static void emit_group3_neg(struct jit_buf *b, unsigned log2)
{
	if (log2 == 1)
		e1(b, 0x66);
	e1(b, 0x41 | (log2 == 3 ? 8 : 0));
	e2(b, 0xf6 | (log2 ? 1 : 0), 0xc0 | 3 << 3 | (H_R9 & 7));
}

static void emit_shift(struct jit_buf *b, unsigned ext, unsigned log2, int32_t count)
{
	if (log2 == 1)
		e1(b, 0x66);
	e1(b, 0x41 | (log2 == 3 ? 8 : 0));
	e3(b, 0xc0 | (log2 ? 1 : 0), 0xc0 | ext << 3 | (H_R9 & 7), (unsigned)count);
}

/* The flags by recipe into RFLAGS; r9 is clobbered. */
static void emit_recipe(struct tr *t)
{
	struct jit_buf *b = &t->b;
	jit_recipe r = t->recipe;
	enum recipe_op op = jit_recipe_op(r);
	unsigned a = jit_recipe_a(r), place = jit_recipe_b(r), log2 = jit_recipe_log2(r), reg = H_R9;
	int32_t imm = jit_recipe_imm(r), host = host_of(b, a);
	bool compares = op == RECIPE_CMP || op == RECIPE_TEST;
	const uint8_t *from = b->p;

	if (host >= 0 && compares) {
		reg = (unsigned)host;
	} else {
		if (host >= 0)
			e_mov(b, H_R9, (unsigned)host);
		else
			e_load(b, H_R9, place_offset(a));
		e_kept_over(b, from, HOST_BIT(H_R9));
	}
	from = b->p;
	switch (op) {
	case RECIPE_CMP: emit_alu(b, 7, log2, reg, place, imm); break;
	case RECIPE_TEST: emit_alu(b, ALU_TEST, log2, reg, place, imm); break;
	case RECIPE_ADD:
		emit_alu(b, 5, log2, reg, place, imm);
		emit_alu(b, 0, log2, reg, place, imm);
		break;
	case RECIPE_SUB:
		emit_alu(b, 0, log2, reg, place, imm);
		emit_alu(b, 7, log2, reg, place, imm);
		break;
	case RECIPE_NEG:
		emit_group3_neg(b, log2);
		emit_group3_neg(b, log2);
		break;
	case RECIPE_SHL: emit_shift(b, 4, log2, imm); break;
	case RECIPE_SHR: emit_shift(b, 5, log2, imm); break;
	case RECIPE_SAR: emit_shift(b, 7, log2, imm); break;
	}
	e_kept_over(b, from, compares ? 0 : HOST_BIT(H_R9));
}

/* --- what the other files ask for ----------------------------------------------------------- */

void jit_flags_to_mem(struct tr *t)
{
	const uint8_t *from;
	unsigned scratch;

	if (t->where & IN_MEM)
		return;
	if (!(t->where & IN_REG))
		emit_recipe(t);
	scratch = e_kept_spare(&t->b, 0);
	from = t->b.p;
	e_flags_save(&t->b, scratch);
	e_kept_over(&t->b, from, HOST_BIT(scratch));
	t->where |= IN_MEM;
	t->recipe = 0;
}

void jit_flags_to_reg(struct tr *t)
{
	const uint8_t *from = t->b.p;

	if (t->where & IN_REG)
		return;
	if (t->recipe) {
		emit_recipe(t);
	} else {
		e_flags_load(&t->b);
		e_kept_over(&t->b, from, HOST_BIT(H_R9));
	}
	t->where |= IN_REG;
}

void jit_flags_settle(struct tr *t)
{
	if (!t->recipe)
		jit_flags_to_mem(t);
}

void jit_flags_clobber(struct tr *t)
{
	jit_flags_settle(t);
	t->where &= IN_MEM;
}

/* The slot gets a guest register. */
static void store_operand(struct jit_buf *b, unsigned guest, unsigned slot)
{
	unsigned src = is_pinned(guest) ? (unsigned)jit_host_reg(guest) : e_use_gpr(b, guest, 0);
	const uint8_t *from = b->p;

	e_store(b, src, place_offset(slot));
	e_kept_over(b, from, 0);
}

/* An operand of the recipe is about to be overwritten: it goes into a slot. */
static void keep_operand(struct tr *t, unsigned guest)
{
	jit_recipe r = t->recipe;
	unsigned a = jit_recipe_a(r), b = jit_recipe_b(r);
	bool is_a = a == guest, is_b = jit_recipe_has_b(r) && b == guest;
	unsigned slot = is_a ? PLACE_SLOT_A : PLACE_SLOT_B;

	if (!is_a && !is_b)
		return;
	store_operand(&t->b, guest, slot);
	t->recipe = jit_recipe_make(jit_recipe_op(r), jit_recipe_log2(r), is_a ? slot : a,
				    is_b ? slot : b, jit_recipe_imm(r));
}

void jit_flags_before(struct tr *t, unsigned i)
{
	const struct item *it = &t->s->item[i];

	if (it->saves) {
		jit_flags_to_mem(t);
		return;
	}
	if (!t->recipe || (t->where & IN_MEM) || sets_all(it))
		return;
	if (cannot_trap(it) && jit_flags_idle(t, i)) {
		t->where |= IN_REG; /* whatever they are */
		t->recipe = 0;
		return;
	}
	if ((t->where & IN_REG) && it->kind == K_DATA && !jit_memory_operand(&it->insn) &&
	    fate_of(t, i) == FATE_UNSEEN) {
		t->recipe = 0; /* RFLAGS will do */
		return;
	}
	for (unsigned writes = it->insn.writes; writes; writes &= writes - 1)
		keep_operand(t, (unsigned)__builtin_ctz(writes));
}

/* --- making recipes -------------------------------------------------------------------------- */

/* A general-purpose register, not AH..BH: its number, else -1. */
static int plain_reg(const ZydisDecodedOperand *op)
{
	bool high;
	int guest = op->type == ZYDIS_OPERAND_TYPE_REGISTER ? jit_guest_reg(op->reg.value, &high) : -1;

	return guest >= 0 && !high ? guest : -1;
}

static bool is_imm(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static int32_t imm_of(const ZydisDecodedOperand *op)
{
	return (int32_t)(op->imm.is_signed ? op->imm.value.s : (int64_t)op->imm.value.u);
}

static unsigned log2_of(const ZydisDecodedOperand *op)
{
	return op->size == 64 ? 3 : op->size == 32 ? 2 : op->size == 16 ? 1 : 0;
}

/* Operations with operands a and b, and what is left in a. */
static const struct recipe_row {
	ZydisMnemonic mnemonic;
	enum recipe_op op;
	bool of_result; /* TEST of what is in a afterwards */
} recipe_rows[] = {
	{ ZYDIS_MNEMONIC_CMP, RECIPE_CMP, false },
	{ ZYDIS_MNEMONIC_TEST, RECIPE_TEST, false },
	{ ZYDIS_MNEMONIC_ADD, RECIPE_ADD, false },
	{ ZYDIS_MNEMONIC_SUB, RECIPE_SUB, false },
	{ ZYDIS_MNEMONIC_AND, RECIPE_TEST, true },
	{ ZYDIS_MNEMONIC_OR, RECIPE_TEST, true },
	{ ZYDIS_MNEMONIC_XOR, RECIPE_TEST, true },
	{ ZYDIS_MNEMONIC_NEG, RECIPE_NEG, false },
	{ ZYDIS_MNEMONIC_SHL, RECIPE_SHL, false },
	{ ZYDIS_MNEMONIC_SHR, RECIPE_SHR, false },
	{ ZYDIS_MNEMONIC_SAR, RECIPE_SAR, false },
};

static const struct recipe_row *row_of(const struct soft_insn *insn)
{
	for (size_t k = 0; k < ARRAY_SIZE(recipe_rows); k++)
		if (recipe_rows[k].mnemonic == insn->zi.mnemonic)
			return &recipe_rows[k];
	return NULL;
}

static bool is_shift(enum recipe_op op)
{
	return op == RECIPE_SHL || op == RECIPE_SHR || op == RECIPE_SAR;
}

/* Of an instruction whose first operand is the plain register a and that has no memory operand. */
static jit_recipe reg_recipe(const struct soft_insn *insn, const struct recipe_row *row, unsigned a)
{
	const ZydisDecodedOperand *op = insn->op;
	unsigned log2 = log2_of(&op[0]);
	int b;

	if (row->of_result)
		return jit_recipe_make(RECIPE_TEST, log2, a, a, 0);
	if (row->op == RECIPE_NEG)
		return jit_recipe_make(RECIPE_NEG, log2, a, PLACE_IMM, 0);
	if (is_shift(row->op))
		return is_imm(&op[1]) ? jit_recipe_make(row->op, log2, PLACE_SLOT_A, PLACE_IMM,
							 imm_of(&op[1]) & 63) : 0;
	if (is_imm(&op[1]))
		return jit_recipe_make(row->op, log2, a, PLACE_IMM, imm_of(&op[1]));
	b = plain_reg(&op[1]);
	if (b < 0)
		return 0;
	if ((unsigned)b == a && row->op == RECIPE_SUB) /* what is left is 0 */
		return jit_recipe_make(RECIPE_TEST, log2, a, a, 0);
	if ((unsigned)b == a && row->op == RECIPE_ADD)
		return 0;
	return jit_recipe_make(row->op, log2, a, (unsigned)b, 0);
}

jit_recipe jit_flags_recipe(const struct soft_insn *insn)
{
	const struct recipe_row *row = row_of(insn);
	int a = plain_reg(&insn->op[0]);

	return row && a >= 0 && !is_shift(row->op) && !jit_memory_operand(insn) ?
		       reg_recipe(insn, row, (unsigned)a) : 0;
}

jit_recipe jit_flags_prepare(struct tr *t, const struct item *it)
{
	const struct soft_insn *insn = &it->insn;
	const struct recipe_row *row = sets_all(it) ? row_of(insn) : NULL;
	jit_recipe recipe;
	int a;

	if (!row || fate_of(t, t->i) != FATE_RECIPE)
		return 0;
	a = plain_reg(&insn->op[0]);
	if (a < 0 || (jit_memory_operand(insn) && !row->of_result))
		return 0;
	recipe = reg_recipe(insn, row, (unsigned)a);
	if (recipe && is_shift(row->op))
		store_operand(&t->b, (unsigned)a, PLACE_SLOT_A);
	return recipe;
}

/* --- instructions with a memory operand ------------------------------------------------------- */

/* mov(zx) r9, [place] */
static void emit_load_r9(struct jit_buf *b, unsigned log2, struct jit_place place)
{
	e1(b, e_place_rex(H_R9, place) | (log2 == 3 ? 8 : 0));
	if (log2 < 2)
		e2(b, 0x0f, log2 ? 0xb7 : 0xb6);
	else
		e1(b, 0x8b);
	e_place(b, H_R9, place);
}

bool jit_flags_splits(const struct tr *t, const struct item *it)
{
	const struct soft_insn *insn = &it->insn;
	const struct recipe_row *row = sets_all(it) ? row_of(insn) : NULL;
	const ZydisDecodedOperand *mem = jit_memory_operand(insn);
	const ZydisDecodedOperand *other;

	if (!row || !mem || row->of_result || insn->zi.operand_count_visible != 2)
		return false;
	other = mem == &insn->op[0] ? &insn->op[1] : &insn->op[0];
	if (row->op == RECIPE_ADD || row->op == RECIPE_SUB) {
		if (mem == &insn->op[0] || !is_pinned((unsigned)plain_reg(other)))
			return false;
	} else if (row->op != RECIPE_CMP && row->op != RECIPE_TEST) {
		return false;
	}
	if (!is_imm(other) && plain_reg(other) < 0)
		return false;
	return fate_of(t, t->i) == FATE_RECIPE;
}

jit_recipe jit_flags_split(struct tr *t, const struct item *it, struct jit_place place)
{
	const struct soft_insn *insn = &it->insn;
	const struct recipe_row *row = row_of(insn);
	const ZydisDecodedOperand *op = insn->op;
	unsigned log2 = log2_of(jit_memory_operand(insn));
	struct jit_buf *b = &t->b;

	emit_load_r9(b, log2, place);
	/* Each operand has a slot of its own: the other one may have to be kept as well. */
	e_store(b, H_R9, place_offset(&op[0] == jit_memory_operand(insn) ? PLACE_SLOT_A : PLACE_SLOT_B));
	if (&op[0] == jit_memory_operand(insn)) {
		unsigned with = is_imm(&op[1]) ? PLACE_IMM : (unsigned)plain_reg(&op[1]);
		int32_t imm = is_imm(&op[1]) ? imm_of(&op[1]) : 0;

		emit_alu(b, row->op == RECIPE_CMP ? 7 : ALU_TEST, log2, H_R9, with, imm);
		return jit_recipe_make(row->op, log2, PLACE_SLOT_A, with, imm);
	}
	{
		unsigned a = (unsigned)plain_reg(&op[0]);
		unsigned alu = row->op == RECIPE_CMP ? 7 : row->op == RECIPE_ADD ? 0 :
			       row->op == RECIPE_SUB ? 5 : ALU_TEST;

		if (is_pinned(a)) {
			unsigned host = (unsigned)jit_host_reg(a);

			/* op host, r9: MR form */
			if (log2 == 1)
				e1(b, 0x66);
			e1(b, 0x44 | (log2 == 3 ? 8 : 0) | (host >= 8 ? 1 : 0));
			e2(b, (alu == ALU_TEST ? 0x84 : alu << 3) | (log2 ? 1 : 0),
			   0xc0 | (H_R9 & 7) << 3 | (host & 7));
		} else {
			/* op gs:[a], r9 */
			e_vcpu_log2(b, log2, (alu == ALU_TEST ? 0x84 : alu << 3) | (log2 ? 1 : 0), H_R9,
				    place_offset(a));
		}
		return jit_recipe_make(row->op, log2, a, PLACE_SLOT_B, 0);
	}
}
