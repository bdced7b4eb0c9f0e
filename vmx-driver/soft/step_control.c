/* SPDX-License-Identifier: Apache-2.0 */
/* step_control.c - near branches and the direction flag. */
#include "vmx-driver/soft/step.h"

int soft_jump_check(struct soft_vcpu *v, uint64_t target)
{
	bool ok;

	if ((v->mode & MODE_CODE) == CODE_64)
		ok = soft_canonical(target);
	else
		ok = target <= v->seg[SOFT_CS].limit;
	return ok ? SOFT_OK : soft_raise_error(v, EXC_GP, 0);
}

/* Where op[0] of a near branch leads, truncated to the operand size. */
static int branch_target(struct soft_vcpu *v, const struct soft_insn *insn, uint64_t *ret)
{
	int rc = soft_read_operand(v, insn, 0, ret);

	if (insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		*ret += v->next_rip;
	*ret &= soft_mask(insn->zi.operand_width / 8);
	return rc;
}

int soft_op_jmp(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t target = 0;
	int rc = branch_target(v, insn, &target);

	if (rc == SOFT_OK)
		rc = soft_jump_check(v, target);
	return rc ? rc : soft_jump(v, target);
}

/* A fault of the stack comes before one of the target, which leaves the stack as it is. */
int soft_op_call(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	uint64_t target = 0, sp = v->gpr[SOFT_RSP] - size, la;
	int rc = branch_target(v, insn, &target);

	if (rc == SOFT_OK && soft_jump_check(v, target) != SOFT_OK) {
		rc = soft_data_la(v, SOFT_SS, sp & soft_mask(soft_sp_width(v)), size, true, &la);
		if (rc == SOFT_OK)
			rc = soft_probe(v, la, size, ACC_WRITE);
		if (rc == SOFT_OK)
			rc = soft_jump_check(v, target);
	}
	if (rc == SOFT_OK)
		rc = soft_push(v, v->next_rip, size);
	return rc ? rc : soft_jump(v, target);
}

int soft_op_ret(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	uint64_t target, sp = v->gpr[SOFT_RSP];
	int rc = soft_stack_read(v, sp, &target, size);

	if (rc == SOFT_OK)
		rc = soft_jump_check(v, target);
	if (rc)
		return rc;
	sp += size;
	if (insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		sp += insn->op[0].imm.value.u;
	soft_set_gpr(v, SOFT_RSP, soft_sp_width(v), sp);
	return soft_jump(v, target);
}

/* The condition that the low four bits of Jcc, SETcc, CMOVcc name (SDM 1 appendix B). */
static bool condition(uint64_t fl, unsigned cc)
{
	bool sf_ne_of = !(fl & FL_SF) != !(fl & FL_OF), yes;

	switch (cc >> 1) {
	case 0:
		yes = fl & FL_OF;
		break;
	case 1:
		yes = fl & FL_CF;
		break;
	case 2:
		yes = fl & FL_ZF;
		break;
	case 3:
		yes = fl & (FL_CF | FL_ZF);
		break;
	case 4:
		yes = fl & FL_SF;
		break;
	case 5:
		yes = fl & FL_PF;
		break;
	case 6:
		yes = sf_ne_of;
		break;
	default:
		yes = sf_ne_of || (fl & FL_ZF);
		break;
	}
	return yes != (cc & 1);
}

int soft_op_jcc(struct soft_vcpu *v, const struct soft_insn *insn)
{
	if (!condition(soft_arith_flags(v), insn->zi.opcode & 15))
		return soft_done(v);
	return soft_op_jmp(v, insn);
}

int soft_op_jcxz(struct soft_vcpu *v, const struct soft_insn *insn)
{
	if (v->gpr[SOFT_RCX] & soft_mask(insn->zi.address_width / 8))
		return soft_done(v);
	return soft_op_jmp(v, insn);
}

int soft_op_loop(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned width = insn->zi.address_width / 8;
	uint64_t count = (v->gpr[SOFT_RCX] - 1) & soft_mask(width), target;
	bool zf = soft_arith_flags(v) & FL_ZF, taken = count != 0;
	int rc;

	if (insn->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE)
		taken = taken && zf;
	else if (insn->zi.mnemonic == ZYDIS_MNEMONIC_LOOPNE)
		taken = taken && !zf;
	target = v->next_rip;
	if (taken) {
		rc = branch_target(v, insn, &target);
		if (rc == SOFT_OK)
			rc = soft_jump_check(v, target);
		if (rc)
			return rc;
	}
	soft_set_gpr(v, SOFT_RCX, width, count);
	return soft_jump(v, target);
}

int soft_op_cld(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	v->rflags &= ~(uint64_t)FL_DF;
	return soft_done(v);
}

int soft_op_std(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	v->rflags |= FL_DF;
	return soft_done(v);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: guest memory is coherent; only the checks of a byte read remain. */
int soft_op_cache_line(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned seg;
	uint64_t offset, la;
	int rc;

	soft_ea(v, insn, 0, &seg, &offset);
	rc = soft_linear(v, seg, offset, 1, false, &la);
	if (rc == SOFT_OK)
		rc = soft_probe(v, la, 1, 0);
	return rc ? rc : soft_done(v);
}
