/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_code32.c - what the translation of flat 32-bit code has of its own (MODE_FLAT, MODE_SS32; all other
 * 16- and 32-bit code is the stepper's).
 *
 * Zydis decodes it as what it is, and jit_data.c encodes it for 64-bit mode. Addresses wrap at 4 GiB,
 * in translated code as little as possible: one that is a register and a small displacement is computed
 * and checked with 64 bits, for it wraps as good as never, and when it does the check fails, as no TLB of
 * such code has pages from 4 GiB on (soft_tlb_narrow()). The slow path wraps it. All others are computed
 * with 32 bits before they are checked.
 */
#include "vmx-driver/soft/jit_tr.h"
#include "vmx-driver/soft/step.h"

#define NEAR 0x10000 /* bytes that lie around a pointer */

static bool is_branch(const struct soft_insn *insn)
{
	return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT ||
	       insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR || insn->zi.mnemonic == ZYDIS_MNEMONIC_RET;
}

/* CS may not be readable, and is not writable. */
static bool has_odd_address(const struct soft_insn *insn)
{
	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (insn->zi.address_width != 32 || op->mem.segment == ZYDIS_REGISTER_CS))
			return true;
	}
	return false;
}

bool jit_kind32(const struct soft_insn *insn, enum jit_kind *ret)
{
	bool odd = has_odd_address(insn);

	if (insn->soft_op == &soft_form_ops[FORM_NOP])
		return false;
	*ret = insn->soft_op && !jit_loads_ss(insn) ? K_OP : K_STEP;
	if (!odd && (insn->soft_op == &soft_form_ops[FORM_INC_SHORT] ||
		     insn->soft_op == &soft_form_ops[FORM_MOV_MOFFS])) {
		*ret = K_DATA;
		return true;
	}
	return odd || insn->soft_op == &soft_form_ops[FORM_BIT_MEMORY] ||
	       (is_branch(insn) && insn->zi.operand_width != 32);
}

bool jit_is_pointer(const struct item *it, const ZydisDecodedOperand *mem)
{
	return it->insn.code == CODE_64 ||
	       (mem->mem.index == ZYDIS_REGISTER_NONE && mem->mem.base != ZYDIS_REGISTER_NONE &&
		mem->mem.disp.value > -NEAR && mem->mem.disp.value < NEAR);
}

/* The stepper knows why FS or GS is not 4 GiB to read and write. */
static void emit_segment_check(struct tr *t, const struct item *it, unsigned n)
{
	struct jit_buf *b = &t->b;
	uint8_t *hole;

	e_vcpu8(b, 0x80, 1, 7, GS_OFF(seg_whole) + n, 0); /* cmp byte [seg_whole + n], 0 */
	hole = e_jcc_fwd(b, CC_E);
	jit_cold_begin(t);
	e_fix(b, hole, b->p);
	jit_emit_leave(t, it->rip, SOFT_STEP);
	jit_cold_end(t);
}

struct jit_place jit_emit_access32(struct tr *t, const struct item *it, const ZydisDecodedOperand *mem,
				   unsigned size, bool write)
{
	bool has_segment = jit_has_segment(mem);
	bool high;

	if (has_segment)
		emit_segment_check(t, it, mem->mem.segment == ZYDIS_REGISTER_GS);
	else if (mem->mem.base == ZYDIS_REGISTER_NONE && mem->mem.index == ZYDIS_REGISTER_NONE)
		return jit_emit_check_constant(t, (uint32_t)mem->mem.disp.value, false, size, write);
	else if (jit_is_pointer(it, mem))
		return jit_emit_check(t, (unsigned)jit_host_reg((unsigned)jit_guest_reg(mem->mem.base, &high)),
				      (int32_t)mem->mem.disp.value, size, write);
	jit_emit_ea(&t->b, H_R11, &it->insn, mem, 0, true);
	return jit_emit_check_r11(t, size, write, false);
}
