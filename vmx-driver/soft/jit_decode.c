/* SPDX-License-Identifier: Apache-2.0 */
/* jit_decode.c - which instructions a block has. */
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

bool jit_is_gpr64(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_RAX &&
	       op->reg.value <= ZYDIS_REGISTER_R15;
}

bool jit_is_word(const struct soft_insn *insn, const ZydisDecodedOperand *op)
{
	return insn->code == CODE_64 ? jit_is_gpr64(op) :
				       op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
					       op->reg.value >= ZYDIS_REGISTER_EAX && op->reg.value <= ZYDIS_REGISTER_EDI;
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

static bool decode_bytes(const struct tr *t, struct item *it, const uint8_t *bytes, unsigned n, bool *ret_short)
{
	struct soft_vm *vm = soft_vm_of(t->v);
	unsigned code = t->mode & MODE_CODE;

	if (code == CODE_64)
		return jit_shape_decode(t->s->shape, vm, bytes, n, &it->insn, ret_short);
	if (!soft_decode_into(vm, bytes, n, code, &it->insn, ret_short))
		return false;
	jit_facts_find(&it->insn);
	return true;
}

/* Decodes the instruction whose `left` bytes up to the end of its page begin there. One that goes on in the
 * next page is a block of its own. False: not here. */
static bool decode_one(struct tr *t, struct item *it, const uint8_t *code, const uint8_t *page2,
		       unsigned left)
{
	unsigned here = left < JIT_INSN_MAX ? left : JIT_INSN_MAX;
	uint8_t both[2 * JIT_INSN_MAX];
	bool too_short = false;

	if (decode_bytes(t, it, code, here, &too_short))
		return true;
	if (!too_short || !page2 || t->s->count)
		return false;
	memcpy(both, code, here);
	soft_copy(both + here, page2, JIT_INSN_MAX);
	if (!decode_bytes(t, it, both, JIT_INSN_MAX, &too_short))
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

/* Does it end, or may it end, where only v->aflags will do? */
static bool needs_saved_flags(const struct tr *t, const struct item *it)
{
	switch (it->kind) {
	case K_RET:
	case K_OP:
	case K_AC:
	case K_PUSHF:
	case K_BITMEM:
		return true;
	case K_CALL:
	case K_JMP:
		return !jit_is_direct(it) || !jit_linkable(t, jit_branch_target(it));
	default:
		return false;
	}
}

/* Left to the stepper. */
static void leave(struct item *it)
{
	it->kind = K_STEP;
	it->needs = it->writes = 0;
	it->saves = false;
}

static void classify(const struct tr *t, struct item *it)
{
	const struct soft_insn *insn = &it->insn;
	const struct jit_facts *facts = &insn->facts;

	it->kind = facts->kind;
	if (!insn->allowed || !fp_usable(t, insn) || alone_after_sti(t, it)) {
		leave(it);
		return;
	}
	if ((it->kind == K_CLI || it->kind == K_SWAPGS || it->kind == K_AC) && (t->mode & MODE_USER))
		it->kind = K_OP; /* CPL 1 and 2, where IOPL decides, are the stepper's */
	it->saves = needs_saved_flags(t, it);
	it->needs = facts->needs;
	it->writes = facts->writes;
	if (facts->count >= 0 && (insn->op[facts->count].imm.value.u & 31) == 0)
		it->needs = FL_ARITH;
}

void jit_decode_block(struct tr *t, const uint8_t *page, const uint8_t *page2)
{
	struct jit_scratch *s = t->s;
	unsigned at = (unsigned)(t->rip & 0xfff), start = at, limit = t->insns_max;
	uint64_t rip = t->rip;

	soft_copy(s->code, page + at, 4096 - at < sizeof(s->code) ? 4096 - at : sizeof(s->code));
	s->count = 0;
	s->open_end = true;
	s->to_loop = false;
	while (s->count < limit && at < 4096) {
		struct item *it = &s->item[s->count];

		it->rip = rip;
		it->note = jit_site_noted(t, rip);
		if (!decode_one(t, it, s->code + (at - start), page2, 4096 - at)) {
			if (s->count && jit_near_end(rip))
				break; /* perhaps only the page ends: a block of its own finds out */
			leave(it);
			it->insn.len = 1;
			rip++;
			s->count++;
			s->open_end = false;
			break;
		}
		classify(t, it);
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
	s->end_rip = t->word == 8 ? rip : (uint32_t)rip;
	/* What follows STI has to be in its block: nothing else knows of its shadow. */
	if (s->open_end && s->count && jit_is_sti(&s->item[s->count - 1])) {
		leave(&s->item[s->count - 1]);
		s->open_end = false;
	}
}

uint64_t jit_branch_target(const struct item *it)
{
	uint64_t target = it->rip + it->insn.len + it->insn.op[0].imm.value.u;

	return it->insn.code == CODE_64 ? target : (uint32_t)target;
}

bool jit_is_direct(const struct item *it)
{
	return it->insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}
