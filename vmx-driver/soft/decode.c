/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - bytes to struct soft_insn: Zydis, and what kind of execution the instruction needs. Whatever reaches soft_exec_native() is executed by the host's processor at the
 * host's privilege, so an instruction runs natively only if its category is known to be plain
 * computation; all others need an operation in C or are #UD.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmx-driver/soft/step.h"

static ZyanStatus decoder_for(unsigned code, ZydisDecoder *ret)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth stack;
	} modes[] = {
		[CODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		[CODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[CODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};
	/* Processors that lack these execute the same bytes as NOP. */
	static const ZydisDecoderMode off[] = { ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET,
						ZYDIS_DECODER_MODE_CLDEMOTE };
	ZyanStatus status = ZydisDecoderInit(ret, modes[code].mode, modes[code].stack);

	for (size_t i = 0; i < sizeof(off) / sizeof(off[0]) && ZYAN_SUCCESS(status); i++)
		status = ZydisDecoderEnableMode(ret, off[i], ZYAN_FALSE);
	return status;
}

/* --- which operation ------------------------------------------------------------------------ */

static enum soft_form string_form(uint8_t opcode)
{
	switch (opcode & ~1) {
	case 0xa4:
		return FORM_MOVS;
	case 0xa6:
		return FORM_CMPS;
	case 0xaa:
		return FORM_STOS;
	case 0xac:
		return FORM_LODS;
	case 0xae:
		return FORM_SCAS;
	case 0x6c:
		return FORM_INS;
	case 0x6e:
		return FORM_OUTS;
	default:
		return FORM_UD;
	}
}

static enum soft_form mov_form(const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;

	if (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
		if (zi->opcode == 0x8e)
			return FORM_MOV_TO_SREG;
		if (zi->opcode == 0x8c)
			return FORM_MOV_FROM_SREG;
		if (zi->opcode >= 0xa0 && zi->opcode <= 0xa3)
			return FORM_MOV_MOFFS;
	} else if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F && zi->opcode >= 0x20 &&
		   zi->opcode <= 0x26) {
		return FORM_MOV_SYSTEM;
	}
	return FORM_NONE;
}

static enum soft_form branch_form(const ZydisDecodedInstruction *zi, enum soft_form near_form,
				  enum soft_form far_form)
{
	return zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? far_form : near_form;
}

static bool is_high_byte(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_AH &&
	       op->reg.value <= ZYDIS_REGISTER_BH;
}

static bool is_stack_pointer(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       (op->reg.value == ZYDIS_REGISTER_SP || op->reg.value == ZYDIS_REGISTER_ESP);
}

static enum soft_form form_of(const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;

	/* 0F 0D with a register is #UD or NOP: what the host's processor says. */
	if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F && zi->opcode == 0x0d &&
	    insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		return FORM_NONE;
	switch (zi->meta.category) {
	case ZYDIS_CATEGORY_STRINGOP:
	case ZYDIS_CATEGORY_IOSTRINGOP:
		return string_form(zi->opcode);
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_PREFETCH:
	case ZYDIS_CATEGORY_PREFETCHWT1:
	case ZYDIS_CATEGORY_MPX: /* not offered: hint opcodes */
	case ZYDIS_CATEGORY_CLDEMOTE:
		return FORM_NOP;
	case ZYDIS_CATEGORY_NOP:
		return zi->mnemonic == ZYDIS_MNEMONIC_NOP ? FORM_NOP : FORM_NONE;
	case ZYDIS_CATEGORY_CALL:
		return branch_form(zi, FORM_CALL, FORM_CALL_FAR);
	default:
		break;
	}
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHWT1:
		return FORM_NOP;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return FORM_UD;
	case ZYDIS_MNEMONIC_MOV:
		return mov_form(insn);
	case ZYDIS_MNEMONIC_MOVNTI: /* never takes a 66 prefix, which 16-bit code would need */
		return insn->code == CODE_16 ? FORM_MOV_MOFFS : FORM_NONE;
	case ZYDIS_MNEMONIC_JMP:
		return branch_form(zi, FORM_JMP, FORM_JMP_FAR);
	case ZYDIS_MNEMONIC_RET:
		return branch_form(zi, FORM_RET, FORM_RET_FAR);
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
		return zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && zi->opcode >= 0x40 &&
				       zi->opcode <= 0x4f ?
			       FORM_INC_SHORT :
			       FORM_NONE;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
				       insn->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER ?
			       FORM_BIT_MEMORY :
			       FORM_NONE;
	case ZYDIS_MNEMONIC_CMPXCHG:
		return insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY && is_high_byte(&insn->op[1]) ?
			       FORM_CMPXCHG_HIGH :
			       FORM_NONE;
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_CRC32:
		return is_high_byte(&insn->op[1]) && is_stack_pointer(&insn->op[0]) ?
			       FORM_EXTEND_HIGH :
			       FORM_NONE;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
		return FORM_NONE; /* by mnemonic */
	default:
		return zi->meta.category == ZYDIS_CATEGORY_COND_BR ? FORM_JCC : FORM_NONE;
	}
}

/* Computation on registers and one memory operand, nothing that the host's kernel, its segments or
 * its control flow would see. */
static bool runs_natively(const ZydisDecodedInstruction *zi)
{
	switch (zi->meta.category) {
	case ZYDIS_CATEGORY_ADOX_ADCX:
	case ZYDIS_CATEGORY_AES:
	case ZYDIS_CATEGORY_AMD3DNOW:
	case ZYDIS_CATEGORY_AVX:
	case ZYDIS_CATEGORY_AVX2:
	case ZYDIS_CATEGORY_AVX512:
	case ZYDIS_CATEGORY_AVX512_BITALG:
	case ZYDIS_CATEGORY_AVX512_VBMI:
	case ZYDIS_CATEGORY_AVX512_VP2INTERSECT:
	case ZYDIS_CATEGORY_BINARY:
	case ZYDIS_CATEGORY_BITBYTE:
	case ZYDIS_CATEGORY_BLEND:
	case ZYDIS_CATEGORY_BMI1:
	case ZYDIS_CATEGORY_BMI2:
	case ZYDIS_CATEGORY_BROADCAST:
	case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_COMPRESS:
	case ZYDIS_CATEGORY_CONFLICT:
	case ZYDIS_CATEGORY_CONVERT:
	case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_EXPAND:
	case ZYDIS_CATEGORY_FCMOV:
	case ZYDIS_CATEGORY_FMA4:
	case ZYDIS_CATEGORY_FP16:
	case ZYDIS_CATEGORY_GFNI:
	case ZYDIS_CATEGORY_IFMA:
	case ZYDIS_CATEGORY_KMASK:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_LOGICAL_FP:
	case ZYDIS_CATEGORY_LZCNT:
	case ZYDIS_CATEGORY_MMX:
	case ZYDIS_CATEGORY_PCLMULQDQ:
	case ZYDIS_CATEGORY_RDRAND:
	case ZYDIS_CATEGORY_RDSEED:
	case ZYDIS_CATEGORY_ROTATE:
	case ZYDIS_CATEGORY_SEMAPHORE:
	case ZYDIS_CATEGORY_SETCC:
	case ZYDIS_CATEGORY_SHA:
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_SSE:
	case ZYDIS_CATEGORY_STTNI:
	case ZYDIS_CATEGORY_TBM:
	case ZYDIS_CATEGORY_VAES:
	case ZYDIS_CATEGORY_VBMI2:
	case ZYDIS_CATEGORY_VEX:
	case ZYDIS_CATEGORY_VFMA:
	case ZYDIS_CATEGORY_VPCLMULQDQ:
	case ZYDIS_CATEGORY_X87_ALU:
	case ZYDIS_CATEGORY_XOP:
		return true;
	default:
		break;
	}
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_MOVDIRI:
	case ZYDIS_MNEMONIC_SERIALIZE:
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_STMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR:
	case ZYDIS_MNEMONIC_VSTMXCSR:
	case ZYDIS_MNEMONIC_EMMS:
		return true;
	default:
		return false;
	}
}

/* --- classification ------------------------------------------------------------------------- */

static bool is_vector_encoding(const ZydisDecodedInstruction *zi)
{
	return zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
	       zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	       zi->encoding == ZYDIS_INSTRUCTION_ENCODING_XOP;
}

static uint8_t fp_class(const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	bool mmx = false, xmm = false, x87 = zi->meta.isa_ext == ZYDIS_ISA_EXT_X87;

	for (unsigned i = 0; i < zi->operand_count; i++) {
		if (insn->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (ZydisRegisterGetClass(insn->op[i].reg.value)) {
		case ZYDIS_REGCLASS_X87:
			x87 = true;
			break;
		case ZYDIS_REGCLASS_MMX:
			mmx = true;
			break;
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_YMM:
		case ZYDIS_REGCLASS_ZMM:
		case ZYDIS_REGCLASS_MASK:
			xmm = true;
			break;
		default:
			if (insn->op[i].reg.value == ZYDIS_REGISTER_MXCSR)
				xmm = true;
			break;
		}
	}
	if (zi->mnemonic == ZYDIS_MNEMONIC_VZEROALL || zi->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER)
		xmm = true;
	/* From memory to a general or MMX register: MXCSR is all that they share with the rest. */
	if (zi->meta.category == ZYDIS_CATEGORY_CONVERT && zi->meta.isa_ext != ZYDIS_ISA_EXT_BASE &&
	    zi->meta.isa_ext != ZYDIS_ISA_EXT_LONGMODE)
		xmm = true;
	if (xmm)
		return is_vector_encoding(zi) ? FP_AVX : FP_SSE;
	if (mmx || zi->mnemonic == ZYDIS_MNEMONIC_EMMS || zi->mnemonic == ZYDIS_MNEMONIC_FEMMS)
		return FP_MMX;
	return x87 ? FP_X87 : FP_NONE;
}

static void find_memory(struct soft_insn *insn)
{
	unsigned n = 0;

	insn->mem[0] = insn->mem[1] = -1;
	for (unsigned i = 0; i < insn->zi.operand_count && n < 2; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    insn->op[i].mem.type == ZYDIS_MEMOP_TYPE_MEM)
			insn->mem[n++] = (int8_t)i;
}

/* What Zydis does not say: with a source of 0 the destination keeps its value. */
static void fix_operands(struct soft_insn *insn)
{
	if (insn->zi.mnemonic == ZYDIS_MNEMONIC_BSF || insn->zi.mnemonic == ZYDIS_MNEMONIC_BSR)
		insn->op[0].actions |= ZYDIS_OPERAND_ACTION_READ;
}

/* W outside 64-bit code, where there is no 64-bit register to move: #UD on AMD's processors. */
static bool wide_in_legacy(const struct soft_insn *insn)
{
	return insn->code != CODE_64 &&
	       insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && insn->zi.raw.vex.W &&
	       (insn->zi.mnemonic == ZYDIS_MNEMONIC_VPEXTRD ||
		insn->zi.mnemonic == ZYDIS_MNEMONIC_VPINSRD);
}

uint16_t soft_written_gprs(const struct soft_insn *insn)
{
	uint16_t written = 0;
	struct soft_reg reg;

	for (unsigned i = 0; i < insn->zi.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (insn->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    soft_gpr(insn->op[i].reg.value, &reg))
			written |= (uint16_t)(1u << reg.index);
	return written;
}

static void classify(struct soft_vm *vm, struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	enum soft_form form = form_of(insn);

	insn->fp = FP_NONE;
	insn->lock = (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK) != 0;
	insn->soft_op = NULL;
	insn->snippet = NULL;
	find_memory(insn);
	fix_operands(insn);
	insn->writes = soft_written_gprs(insn);
	if (zi->mnemonic == ZYDIS_MNEMONIC_XCHG && insn->mem[0] >= 0)
		insn->lock = true;
	if (form == FORM_NOP) { /* its operand is not accessed */
		insn->mem[0] = insn->mem[1] = -1;
		insn->soft_op = &soft_form_ops[FORM_NOP];
		insn->allowed = true;
		return;
	}
	insn->allowed = soft_isa_allowed(vm, zi);
	insn->fp = fp_class(insn);
	if (form != FORM_NONE) {
		insn->soft_op = &soft_form_ops[form];
		return;
	}
	if (vm->ops[zi->mnemonic])
		insn->soft_op = vm->ops[zi->mnemonic];
	else if (!runs_natively(zi) || (zi->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) ||
		 insn->mem[1] >= 0 || wide_in_legacy(insn))
		insn->allowed = false;
}

bool soft_decode_into(struct soft_vm *vm, const uint8_t *bytes, unsigned n, unsigned code,
		      struct soft_insn *ret, bool *ret_short)
{
	ZydisDecoder decoder;
	ZyanStatus status;

	*ret_short = n == 0;
	if (n == 0 || code > CODE_64)
		return false;
	if (!ZYAN_SUCCESS(decoder_for(code, &decoder)))
		return false;
	status = ZydisDecoderDecodeFull(&decoder, bytes, n, &ret->zi, ret->op);
	if (!ZYAN_SUCCESS(status)) {
		*ret_short = status == ZYDIS_STATUS_NO_MORE_DATA ||
			     status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
		return false;
	}
	ret->len = ret->zi.length;
	ret->code = (uint8_t)code;
	ret->renamed = false;
	memset(ret->bytes, 0, sizeof(ret->bytes));
	memcpy(ret->bytes, bytes, ret->len);
	classify(vm, ret);
	return true;
}

int soft_decoder_init(struct soft_vcpu *v)
{
	v->decoder = calloc(1, sizeof(*v->decoder));
	return v->decoder ? 0 : -ENOMEM;
}

void soft_decoder_fini(struct soft_vcpu *v)
{
	free(v->decoder);
	v->decoder = NULL;
}
