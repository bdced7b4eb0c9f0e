/* SPDX-License-Identifier: Apache-2.0 */
/* operand.c - effective addresses, operands, the stack, and the checks of FP instructions. */
#include "vmx-driver/soft/step.h"

static uint64_t address_register(const struct soft_vcpu *v, ZydisRegister reg)
{
	struct soft_reg r;

	if (reg == ZYDIS_REGISTER_NONE)
		return 0;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return v->next_rip;
	if (!soft_gpr(reg, &r))
		return 0;
	return (v->gpr[r.index] >> r.shift) & soft_mask(r.size);
}

void soft_ea(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, unsigned *ret_seg,
	     uint64_t *ret_offset)
{
	const ZydisDecodedOperandMem *mem = &insn->op[i].mem;
	int seg = soft_sreg(mem->segment);
	uint64_t offset;

	offset = address_register(v, mem->base) + (uint64_t)mem->disp.value;
	if (mem->type != ZYDIS_MEMOP_TYPE_VSIB) /* a vector index is added by who knows the lane */
		offset += address_register(v, mem->index) * mem->scale;
	*ret_seg = seg < 0 ? SOFT_DS : (unsigned)seg;
	*ret_offset = offset & soft_mask(insn->zi.address_width / 8);
}

int soft_data_la(struct soft_vcpu *v, unsigned seg, uint64_t offset, unsigned size, bool write,
		 uint64_t *ret_la)
{
	int rc = soft_linear(v, seg, offset, size, write, ret_la);

	if (rc == SOFT_OK && soft_aligned_only(v) && (size == 2 || size == 4 || size == 8) &&
	    (*ret_la & (size - 1)))
		return soft_raise_error(v, EXC_AC, 0);
	return rc;
}

int soft_operand_la(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, bool write,
		    uint64_t *ret_la)
{
	unsigned seg;
	uint64_t offset;

	soft_ea(v, insn, i, &seg, &offset);
	return soft_data_la(v, seg, offset, insn->op[i].size / 8u, write, ret_la);
}

int soft_read_operand(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, uint64_t *val)
{
	const ZydisDecodedOperand *op = &insn->op[i];
	struct soft_reg r;
	uint64_t la, data = 0;
	unsigned size = op->size / 8u;
	int rc;

	switch (op->type) {
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		*val = op->imm.value.u; /* sign-extended to 64 bits where it is signed */
		return SOFT_OK;
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (soft_gpr(op->reg.value, &r))
			*val = (v->gpr[r.index] >> r.shift) & soft_mask(r.size);
		else if (soft_sreg(op->reg.value) >= 0)
			*val = v->seg[soft_sreg(op->reg.value)].selector;
		else
			return soft_raise(v, EXC_UD);
		return SOFT_OK;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		if (size == 0 || size > 8)
			return soft_raise(v, EXC_UD);
		rc = soft_operand_la(v, insn, i, false, &la);
		if (rc == SOFT_OK)
			rc = soft_read(v, la, &data, size, 0);
		*val = data;
		return rc;
	default:
		return soft_raise(v, EXC_UD);
	}
}

int soft_write_operand(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, uint64_t val)
{
	const ZydisDecodedOperand *op = &insn->op[i];
	struct soft_reg r;
	uint64_t la;
	unsigned size = op->size / 8u;
	int rc;

	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER && soft_gpr(op->reg.value, &r)) {
		if (r.shift)
			v->gpr[r.index] = (v->gpr[r.index] & ~0xff00ull) | (val & 0xff) << 8;
		else
			soft_set_gpr(v, r.index, r.size, val);
		return SOFT_OK;
	}
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || size == 0 || size > 8)
		return soft_raise(v, EXC_UD);
	rc = soft_operand_la(v, insn, i, true, &la);
	if (rc == SOFT_OK)
		rc = soft_write(v, la, &val, size, ACC_WRITE);
	return rc;
}

/* --- stack ---------------------------------------------------------------------------------- */
int soft_stack_read(struct soft_vcpu *v, uint64_t sp, uint64_t *val, unsigned size)
{
	uint64_t la, data = 0;
	int rc = soft_data_la(v, SOFT_SS, sp & soft_mask(soft_sp_width(v)), size, false, &la);

	if (rc == SOFT_OK)
		rc = soft_read(v, la, &data, size, 0);
	*val = data;
	return rc;
}

int soft_stack_write(struct soft_vcpu *v, uint64_t sp, uint64_t val, unsigned size)
{
	uint64_t la;
	int rc = soft_data_la(v, SOFT_SS, sp & soft_mask(soft_sp_width(v)), size, true, &la);

	if (rc == SOFT_OK)
		rc = soft_write(v, la, &val, size, ACC_WRITE);
	return rc;
}

int soft_push(struct soft_vcpu *v, uint64_t val, unsigned size)
{
	uint64_t sp = v->gpr[SOFT_RSP] - size;
	int rc = soft_stack_write(v, sp, val, size);

	if (rc == SOFT_OK)
		soft_set_gpr(v, SOFT_RSP, soft_sp_width(v), sp);
	return rc;
}

int soft_pop(struct soft_vcpu *v, uint64_t *val, unsigned size)
{
	uint64_t sp = v->gpr[SOFT_RSP];
	int rc = soft_stack_read(v, sp, val, size);

	if (rc == SOFT_OK)
		soft_set_gpr(v, SOFT_RSP, soft_sp_width(v), sp + size);
	return rc;
}

/* --- others --------------------------------------------------------------------------------- */
bool soft_is_ram(struct soft_vcpu *v, uint64_t la)
{
	uint64_t gpa;
	uint32_t error;
	unsigned level;

	return soft_walk(v, la, ACC_WRITE, v->cpl == 3, false, &gpa, &error, &level) == SOFT_OK &&
	       soft_gpa_ptr(v, gpa & ~0xfffull, true) != NULL;
}

bool soft_is_smp(const struct soft_vcpu *v)
{
	return soft_vm_of(v)->vcpu_count > 1;
}

/* SDM 3A table 2-2 (x87), 2A 2.4 (SSE), 2.4.x (AVX): EM, TS, OSFXSR, OSXSAVE, XCR0. */
int soft_fp_check(struct soft_vcpu *v, const struct soft_insn *insn)
{
	switch (insn->fp) {
	case FP_X87:
		if (insn->zi.mnemonic == ZYDIS_MNEMONIC_FWAIT) {
			if ((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
				return soft_raise(v, EXC_NM);
			return SOFT_OK;
		}
		if (v->cr0 & (CR0_EM | CR0_TS))
			return soft_raise(v, EXC_NM);
		return SOFT_OK;
	case FP_SSE:
		if (!(v->cr4 & CR4_OSFXSR))
			return soft_raise(v, EXC_UD);
		__attribute__((fallthrough));
	case FP_MMX:
		if (v->cr0 & CR0_EM)
			return soft_raise(v, EXC_UD);
		break;
	case FP_AVX:
		if (!(v->mode & MODE_AVX) || (v->mode & MODE_REAL))
			return soft_raise(v, EXC_UD);
		if (insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
		    (v->xcr0 & 0xe0) != 0xe0)
			return soft_raise(v, EXC_UD);
		break;
	default:
		return SOFT_OK;
	}
	if (v->cr0 & CR0_TS)
		return soft_raise(v, EXC_NM);
	return SOFT_OK;
}
