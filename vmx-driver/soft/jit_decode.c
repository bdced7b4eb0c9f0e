/* SPDX-License-Identifier: Apache-2.0 */
/* jit_decode.c - which instructions a block has, what each is, what it does to flags. */
#include "common/checked.h"
#include "vmx-driver/soft/jit_tr.h"

static bool fp_usable(const struct tr *t, const struct soft_insn *insn)
{
	switch (insn->fp) {
	case FP_NONE: return true;
	case FP_X87:
	case FP_MMX: return !(t->mode & MODE_NM);
	case FP_SSE: return !(t->mode & MODE_NM) && (t->mode & MODE_SSE);
	default: return !(t->mode & MODE_NM) && (t->mode & MODE_AVX);
	}
}

static bool writes_memory(const struct soft_insn *insn)
{
	for (unsigned i = 0; i < insn->zi.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (insn->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return true;
	return false;
}

static enum kind classify_branch(const struct soft_insn *insn)
{
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? K_OP : K_JMP;
	case ZYDIS_MNEMONIC_CALL:
		return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? K_OP : K_CALL;
	case ZYDIS_MNEMONIC_RET:
		return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? K_OP : K_RET;
	default:
		break;
	}
	if (insn->zi.meta.category == ZYDIS_CATEGORY_COND_BR &&
	    ((insn->zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (insn->zi.opcode & 0xf0) == 0x70) ||
	     (insn->zi.opcode_map == ZYDIS_OPCODE_MAP_0F && (insn->zi.opcode & 0xf0) == 0x80)))
		return K_JCC;
	return K_OP;
}

static bool has_reg_bit_offset(const struct soft_insn *insn)
{
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		       insn->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	default:
		return false;
	}
}

bool jit_is_gpr64(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_RAX &&
	       op->reg.value <= ZYDIS_REGISTER_R15;
}

/* MOV and POP: nothing comes between it and the next instruction, and that one should know. */
static bool loads_ss(const struct soft_insn *insn)
{
	return (insn->zi.mnemonic == ZYDIS_MNEMONIC_MOV || insn->zi.mnemonic == ZYDIS_MNEMONIC_POP) &&
	       insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       insn->op[0].reg.value == ZYDIS_REGISTER_SS;
}

static enum kind classify(const struct tr *t, const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;

	if (!insn->allowed || !fp_usable(t, insn))
		return K_STEP;
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
		return K_NONE;
	case ZYDIS_MNEMONIC_LEA:
		return K_LEA;
	case ZYDIS_MNEMONIC_PUSH:
		if (zi->operand_width != 64)
			return K_STEP;
		if (jit_is_gpr64(&insn->op[0]) || insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return K_PUSH;
		return insn->soft_op ? K_OP : K_STEP;
	case ZYDIS_MNEMONIC_PUSHFQ:
		return zi->operand_width == 64 ? K_PUSHF : K_STEP;
	case ZYDIS_MNEMONIC_CLI:
		/* CPL 1 and 2, where IOPL decides, are the stepper's */
		return t->mode & MODE_USER ? K_OP : K_CLI;
	case ZYDIS_MNEMONIC_POP:
		if (zi->operand_width == 64 && jit_is_gpr64(&insn->op[0]))
			return K_POP;
		return insn->soft_op ? K_OP : K_STEP;
	case ZYDIS_MNEMONIC_LEAVE:
		return zi->operand_width == 64 ? K_LEAVE : K_STEP;
	default:
		break;
	}
	if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || zi->mnemonic == ZYDIS_MNEMONIC_RET) {
		enum kind k = classify_branch(insn);

		if (k != K_OP)
			return k;
	}
	if (zi->meta.category == ZYDIS_CATEGORY_PREFETCH || zi->meta.category == ZYDIS_CATEGORY_WIDENOP ||
	    zi->meta.category == ZYDIS_CATEGORY_NOP)
		return zi->mnemonic == ZYDIS_MNEMONIC_PAUSE ? K_OP : K_NONE;
	if (has_reg_bit_offset(insn))
		return zi->address_width == 64 ? K_BITMEM : K_STEP;
	if (insn->soft_op)
		return loads_ss(insn) ? K_STEP : K_OP;
	return jit_data_ok(insn) ? K_DATA : K_STEP;
}

bool jit_ends_block(const struct item *it)
{
	switch (it->kind) {
	case K_CALL:
	case K_RET:
	case K_JMP:
	case K_STEP:
		return true;
	case K_OP:
		if (jit_is_sti(it))
			return false;
		return !(it->insn.soft_op->flags & SOFT_OP_FALLS) || writes_memory(&it->insn);
	default:
		return false;
	}
}

/* Flags that an instruction reads or leaves as they were, and those it sets. */
static void flags_of(struct item *it)
{
	const ZydisDecodedInstruction *zi = &it->insn.zi;
	uint32_t tested = 0, written = 0;

	it->needs = it->writes = 0;
	if (it->kind == K_OP || it->kind == K_STEP || it->kind == K_NONE || it->kind == K_LEA ||
	    it->kind == K_PUSH || it->kind == K_POP || it->kind == K_LEAVE || it->kind == K_PUSHF ||
	    it->kind == K_CLI || it->kind == K_CALL || it->kind == K_RET || it->kind == K_JMP)
		return;
	if (zi->cpu_flags) {
		tested = zi->cpu_flags->tested & FL_ARITH;
		written = (zi->cpu_flags->modified | zi->cpu_flags->set_0 | zi->cpu_flags->set_1 |
			   zi->cpu_flags->undefined) & FL_ARITH;
	}
	it->needs = tested;
	it->writes = written;
	/* A shift or rotate by 0 leaves all flags alone; a rotate leaves most of them. */
	if (written && (zi->meta.category == ZYDIS_CATEGORY_SHIFT ||
			zi->meta.category == ZYDIS_CATEGORY_ROTATE ||
			zi->mnemonic == ZYDIS_MNEMONIC_SHLD || zi->mnemonic == ZYDIS_MNEMONIC_SHRD)) {
		const ZydisDecodedOperand *last = &it->insn.op[zi->operand_count_visible - 1];
		bool known = last->type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
			     (last->imm.value.u & 31) != 0 && zi->meta.category == ZYDIS_CATEGORY_SHIFT;

		if (!known)
			it->needs = FL_ARITH;
	} else if (zi->mnemonic == ZYDIS_MNEMONIC_BSF || zi->mnemonic == ZYDIS_MNEMONIC_BSR) {
		it->needs = FL_ARITH; /* some processors leave all but ZF alone */
	} else if (written && written != FL_ARITH) {
		it->needs = FL_ARITH; /* the others must survive it */
	}
	if (written && it->needs)
		it->writes = FL_ARITH;
}

/* Decodes the instruction at offset `at` of the page. An instruction that goes on in the next page
 * is a block of its own. False: not here. */
static bool decode_one(struct tr *t, struct item *it, const uint8_t *page, const uint8_t *page2,
		       unsigned at)
{
	struct soft_vm *vm = soft_vm_of(t->v);
	unsigned here = 4096 - at < 15 ? 4096 - at : 15;
	bool too_short = false;
	uint8_t both[30];

	if (jit_shape_decode(t->s->shape, vm, page + at, here, &it->insn, &too_short))
		return true;
	if (!too_short || !page2 || t->s->count)
		return false;
	memcpy(both, page + at, here);
	memcpy(both + here, page2, 15);
	if (!soft_decode_into(vm, both, 15, CODE_64, &it->insn, &too_short))
		return false;
	t->crosses = true;
	return true;
}

/* In VMX non-root operation an access of a branch in STI's shadow may exit, and tells of it. */
static bool alone_after_sti(const struct tr *t, const struct item *it)
{
	return (t->mode & MODE_NONROOT) && t->s->count && jit_is_sti(it - 1) &&
	       (it->kind == K_CALL || it->kind == K_RET || it->kind == K_JMP);
}

void jit_decode_block(struct tr *t, const uint8_t *page, const uint8_t *page2)
{
	struct jit_scratch *s = t->s;
	unsigned at = (unsigned)(t->rip & 0xfff), limit = t->insns_max;
	uint64_t rip = t->rip;

	s->count = 0;
	s->open_end = true;
	s->to_loop = false;
	while (s->count < limit && at < 4096) {
		struct item *it = &s->item[s->count];

		it->rip = rip;
		if (!decode_one(t, it, page, page2, at)) {
			if (s->count && jit_near_end(rip))
				break; /* perhaps only the page ends: a block of its own finds out */
			it->kind = K_STEP;
			it->insn.len = 1;
			rip++;
			it->needs = it->writes = 0;
			s->count++;
			s->open_end = false;
			break;
		}
		it->kind = classify(t, &it->insn);
		if (alone_after_sti(t, it))
			it->kind = K_STEP;
		flags_of(it);
		at += it->insn.len;
		rip += it->insn.len;
		s->count++;
		if (jit_ends_block(it)) {
			s->open_end = false;
			break;
		}
		/* No interrupt between STI and the next instruction: that one ends the block. */
		if (jit_is_sti(it) && s->count + 1 < limit)
			limit = s->count + 1;
	}
	s->end_rip = rip;
	/* What follows STI has to be in its block: nothing else knows of its shadow. */
	if (s->open_end && s->count && jit_is_sti(&s->item[s->count - 1])) {
		s->item[s->count - 1].kind = K_STEP;
		s->open_end = false;
	}
}

const ZydisDecodedOperand *jit_memory_operand(const struct soft_insn *insn)
{
	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    insn->op[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			return &insn->op[i];
	return NULL;
}

bool jit_writes_guest(const struct item *it, unsigned guest)
{
	return it->insn.writes >> guest & 1;
}

uint64_t jit_branch_target(const struct item *it)
{
	return it->rip + it->insn.len + it->insn.op[0].imm.value.u;
}

bool jit_is_direct(const struct item *it)
{
	return it->insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}
