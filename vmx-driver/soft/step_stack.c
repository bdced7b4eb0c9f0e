/* SPDX-License-Identifier: Apache-2.0 */
/* step_stack.c - the stack, segment registers as operands, and MOV with an absolute address. */
#include "vmx-driver/soft/step.h"

static void set_sp(struct soft_vcpu *v, uint64_t sp)
{
	soft_set_gpr(v, SOFT_RSP, soft_sp_width(v), sp);
}

int soft_op_push(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t val;
	int rc = soft_read_operand(v, insn, 0, &val);

	if (rc == SOFT_OK)
		rc = soft_push(v, val, insn->zi.operand_width / 8);
	return rc ? rc : soft_done(v);
}

/* Segments decide about the mode outside 64-bit code, and SS about the next instruction always. */
static int load_sreg(struct soft_vcpu *v, unsigned seg, uint16_t selector)
{
	int rc = soft_load_segment(v, seg, selector);

	if (rc)
		return rc;
	if (seg == SOFT_SS || (v->mode & MODE_CODE) != CODE_64)
		soft_update_mode(v);
	return SOFT_OK;
}

static int pop_sreg(struct soft_vcpu *v, unsigned seg, unsigned size)
{
	uint64_t val, sp = v->gpr[SOFT_RSP];
	unsigned width = soft_sp_width(v); /* of the old SS */
	int rc = soft_stack_read(v, sp, &val, size);

	if (rc == SOFT_OK)
		rc = load_sreg(v, seg, (uint16_t)val);
	if (rc)
		return rc;
	soft_set_gpr(v, SOFT_RSP, width, sp + size);
	if (seg == SOFT_SS)
		v->shadow = SHADOW_MOV_SS;
	return soft_done(v);
}

int soft_op_pop(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	uint64_t val, old = v->gpr[SOFT_RSP];
	int rc;

	if (insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    soft_sreg(insn->op[0].reg.value) >= 0)
		return pop_sreg(v, (unsigned)soft_sreg(insn->op[0].reg.value), size);
	rc = soft_stack_read(v, old, &val, size);
	if (rc)
		return rc;
	/* The address of a memory operand is computed with the stack pointer after the pop. */
	set_sp(v, old + size);
	rc = soft_write_operand(v, insn, 0, val);
	if (rc) {
		v->gpr[SOFT_RSP] = old;
		return rc;
	}
	return soft_done(v);
}

int soft_op_pusha(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	uint64_t sp = v->gpr[SOFT_RSP];
	int rc;

	/* A fault on the way leaves the values before it stored, as processors do. */
	for (unsigned i = 1; i <= 8; i++) {
		rc = soft_stack_write(v, sp - i * size, v->gpr[i - 1], size);
		if (rc)
			return rc;
	}
	set_sp(v, sp - 8 * size);
	return soft_done(v);
}

int soft_op_popa(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	uint64_t sp = v->gpr[SOFT_RSP], val;
	int rc;

	/* A fault on the way leaves the registers that came before it loaded, as processors do: the
	 * stack pointer changes last and the instruction can begin again. */
	for (unsigned i = 0; i < 8; i++) {
		rc = soft_stack_read(v, sp + i * size, &val, size);
		if (rc)
			return rc;
		if (7 - i != SOFT_RSP)
			soft_set_gpr(v, 7 - i, size, val);
	}
	set_sp(v, sp + 8 * size);
	return soft_done(v);
}

int soft_op_pushf(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t flags = soft_get_rflags(v) & ~(uint64_t)(FL_VM | FL_RF);
	int rc;

	if ((v->rflags & FL_VM) && (v->rflags & FL_IOPL) != FL_IOPL)
		return soft_raise_error(v, EXC_GP, 0);
	rc = soft_push(v, flags, insn->zi.operand_width / 8);
	return rc ? rc : soft_done(v);
}

/* SDM 2A ENTER. Stores below the stack pointer may be repeated when it is restarted. */
int soft_op_enter(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8, width = soft_sp_width(v);
	uint64_t alloc = insn->op[0].imm.value.u & 0xffff, level = insn->op[1].imm.value.u & 31;
	uint64_t sp = v->gpr[SOFT_RSP] - size, bp = v->gpr[SOFT_RBP], frame, val, la;
	int rc = soft_stack_write(v, sp, bp, size);

	if (rc)
		return rc;
	/* With a 16-bit stack and 32-bit operands all of ESP goes to EBP. */
	frame = (v->gpr[SOFT_RSP] & ~soft_mask(width)) | (sp & soft_mask(width));
	for (uint64_t i = 1; i < level; i++) {
		bp -= size;
		sp -= size;
		rc = soft_stack_read(v, bp, &val, size);
		if (rc == SOFT_OK)
			rc = soft_stack_write(v, sp, val, size);
		if (rc)
			return rc;
	}
	if (level) {
		sp -= size;
		rc = soft_stack_write(v, sp, frame, size);
		if (rc)
			return rc;
	}
	sp -= alloc;
	rc = soft_linear(v, SOFT_SS, sp & soft_mask(width), size, true, &la);
	if (rc == SOFT_OK)
		rc = soft_probe(v, la, size, ACC_WRITE);
	if (rc)
		return rc;
	soft_set_gpr(v, SOFT_RBP, size, frame);
	set_sp(v, sp);
	return soft_done(v);
}

int soft_op_leave(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	uint64_t sp = v->gpr[SOFT_RBP], val;
	int rc = soft_stack_read(v, sp, &val, size);

	if (rc)
		return rc;
	set_sp(v, sp + size);
	soft_set_gpr(v, SOFT_RBP, size, val);
	return soft_done(v);
}

/* --- segment registers ---------------------------------------------------------------------- */
int soft_op_mov_to_sreg(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int seg = soft_sreg(insn->op[0].reg.value);
	uint64_t val;
	int rc;

	if (seg < 0 || seg == SOFT_CS)
		return soft_raise(v, EXC_UD);
	rc = soft_read_operand(v, insn, 1, &val);
	if (rc == SOFT_OK)
		rc = load_sreg(v, (unsigned)seg, (uint16_t)val);
	if (rc)
		return rc;
	if (seg == SOFT_SS)
		v->shadow = SHADOW_MOV_SS;
	return soft_done(v);
}

int soft_op_mov_from_sreg(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int seg = soft_sreg(insn->op[1].reg.value);
	int rc;

	if (seg < 0)
		return soft_raise(v, EXC_UD);
	rc = soft_write_operand(v, insn, 0, v->seg[seg].selector);
	return rc ? rc : soft_done(v);
}

/* LES LDS LSS LFS LGS: offset, then selector. */
int soft_op_load_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8, seg;
	uint64_t val = 0, selector = 0, la;
	uint8_t buf[10];
	int rc;

	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_LES:
		seg = SOFT_ES;
		break;
	case ZYDIS_MNEMONIC_LDS:
		seg = SOFT_DS;
		break;
	case ZYDIS_MNEMONIC_LSS:
		seg = SOFT_SS;
		break;
	case ZYDIS_MNEMONIC_LFS:
		seg = SOFT_FS;
		break;
	default:
		seg = SOFT_GS;
		break;
	}
	rc = soft_operand_la(v, insn, 1, false, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, buf, size + 2, 0);
	if (rc)
		return rc;
	soft_copy(&val, buf, size);
	soft_copy(&selector, buf + size, 2);
	rc = load_sreg(v, seg, (uint16_t)selector);
	if (rc)
		return rc;
	soft_write_operand(v, insn, 0, val);
	return soft_done(v);
}

/* MOV between the accumulator and an absolute address: the native form would need 64 bits. */
int soft_op_mov_moffs(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t val;
	int rc = soft_read_operand(v, insn, 1, &val);

	if (rc == SOFT_OK)
		rc = soft_write_operand(v, insn, 0, val);
	return rc ? rc : soft_done(v);
}
