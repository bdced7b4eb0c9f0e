/* SPDX-License-Identifier: Apache-2.0 */
/* jit_facts.c - what the translator has to know of an instruction: see jit_facts.h. */
#include "vmx-driver/soft/jit_tr.h"

/* --- register fields and the memory operand ---------------------------------------------------- */

/* The destination's old value is never left in place. For all others it is loaded first: BSF of 0,
 * shifts by 0 and the like keep it. */
static bool always_writes(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_MOV || mnemonic == ZYDIS_MNEMONIC_MOVZX ||
	       mnemonic == ZYDIS_MNEMONIC_MOVSX || mnemonic == ZYDIS_MNEMONIC_MOVSXD;
}

static void set_field(struct jit_field *f, const struct soft_insn *insn, const ZydisDecodedOperand *op)
{
	int guest = jit_guest_reg(op->reg.value, &f->high);

	if (guest < 0)
		return;
	f->guest = (uint8_t)guest;
	f->read = (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || op->size < 32 ||
		  !always_writes(insn->zi.mnemonic);
	f->written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

void jit_facts_registers(struct jit_facts *facts)
{
	uint32_t in_memory = 0;

	facts->resident = facts->scratch = 0;
	facts->plain = true;
	for (unsigned i = 0; i < JIT_FIELDS; i++) {
		unsigned guest = facts->field[i].guest;
		int host;

		if (guest == JIT_NOBODYS || facts->field[i].high)
			continue;
		host = jit_host_reg(guest);
		facts->plain &= host == (int)guest || host < 0;
		if (host >= 0)
			continue;
		facts->resident |= (uint8_t)(1u << i);
		facts->scratch += !(in_memory >> guest & 1);
		in_memory |= 1u << guest;
	}
}

static void find_operands(struct soft_insn *insn)
{
	struct jit_facts *facts = &insn->facts;

	for (unsigned i = 0; i < JIT_FIELDS; i++)
		facts->field[i] = (struct jit_field){ .guest = JIT_NOBODYS };
	facts->mem = facts->accessed = -1;
	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			facts->mem = (int8_t)i;
			if (op->mem.type != ZYDIS_MEMOP_TYPE_AGEN && facts->accessed < 0)
				facts->accessed = (int8_t)i;
			continue;
		}
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (op->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG: set_field(&facts->field[FIELD_REG], insn, op); break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM: set_field(&facts->field[FIELD_RM], insn, op); break;
		case ZYDIS_OPERAND_ENCODING_OPCODE: set_field(&facts->field[FIELD_OPCODE], insn, op); break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD: set_field(&facts->field[FIELD_VVVV], insn, op); break;
		default: break;
		}
	}
	jit_facts_registers(facts);
}

/* --- can it be copied ------------------------------------------------------------------------- */

/* Instructions whose memory operand is not simply where its address says, or whose encoding hides
 * more registers than the operands show. The stepper knows them. */
static bool is_special(const struct soft_insn *insn)
{
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
	case ZYDIS_MNEMONIC_XLAT:
		return true;
	default:
		return false;
	}
}

static bool needs_rex(const struct soft_insn *insn)
{
	const struct jit_field *f = insn->facts.field;

	if (insn->facts.mem >= 0 && insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return true;
	for (unsigned i = 0; i < FIELD_VVVV; i++)
		if (f[i].guest != JIT_NOBODYS && !f[i].high && (f[i].guest >= 8 || f[i].guest == SOFT_RSP))
			return true;
	return false;
}

/* Can it be copied at all (else the stepper's special cases must do it)? */
static bool is_copied(const struct soft_insn *insn)
{
	const struct jit_field *f = insn->facts.field;
	unsigned mems = 0;

	if (insn->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	    insn->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return false;
	if (is_special(insn))
		return false;
	/* their W=1 forms move 64 bits, which only 64-bit code can */
	if (insn->code != CODE_64 && (insn->zi.attributes & ZYDIS_ATTRIB_HAS_VEX) && insn->zi.raw.vex.W &&
	    (insn->zi.mnemonic == ZYDIS_MNEMONIC_VPEXTRD || insn->zi.mnemonic == ZYDIS_MNEMONIC_VPINSRD))
		return false;
	for (unsigned i = 0; i < insn->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB || i >= insn->zi.operand_count_visible)
				return false;
			mems++;
		}
		if (op->type == ZYDIS_OPERAND_TYPE_POINTER)
			return false;
	}
	if (mems > 1)
		return false;
	if ((f[FIELD_REG].high || f[FIELD_RM].high || f[FIELD_OPCODE].high) && needs_rex(insn)) {
		/* AH..BH cannot stand beside REX: exchanged with AL..BL around the copy, which
		 * works for one register that the instruction does not use otherwise. */
		if (insn->facts.mem < 0 || f[FIELD_RM].guest != JIT_NOBODYS ||
		    f[FIELD_OPCODE].guest != JIT_NOBODYS)
			return false;
		/* AL is CMPXCHG's own: only without REX, which a jit address does not allow */
		if (insn->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG)
			return false;
	}
	return true;
}

/* --- which kind ------------------------------------------------------------------------------- */

static enum jit_kind branch_kind(const struct soft_insn *insn)
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

/* MOV and POP: nothing comes between it and the next instruction, and that one should know. */
bool jit_loads_ss(const struct soft_insn *insn)
{
	return (insn->zi.mnemonic == ZYDIS_MNEMONIC_MOV || insn->zi.mnemonic == ZYDIS_MNEMONIC_POP) &&
	       insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       insn->op[0].reg.value == ZYDIS_REGISTER_SS;
}

static enum jit_kind kind_of(const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	const unsigned width = insn->code == CODE_64 ? 64 : 32;
	enum jit_kind kind;

	if (insn->code == CODE_32 && jit_kind32(insn, &kind))
		return kind;
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
		return K_NONE;
	case ZYDIS_MNEMONIC_LEA:
		return K_LEA;
	case ZYDIS_MNEMONIC_PUSH:
		if (zi->operand_width != width)
			return K_STEP;
		if (jit_is_word(insn, &insn->op[0]) || insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return K_PUSH;
		return insn->soft_op ? K_OP : K_STEP;
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		return zi->operand_width == width ? K_PUSHF : K_STEP;
	case ZYDIS_MNEMONIC_CLI:
		return K_CLI;
	case ZYDIS_MNEMONIC_SWAPGS:
		return K_SWAPGS;
	case ZYDIS_MNEMONIC_STAC:
	case ZYDIS_MNEMONIC_CLAC:
		return K_AC;
	case ZYDIS_MNEMONIC_POP:
		if (zi->operand_width == width && jit_is_word(insn, &insn->op[0]))
			return K_POP;
		return insn->soft_op ? K_OP : K_STEP;
	case ZYDIS_MNEMONIC_LEAVE:
		return zi->operand_width == width ? K_LEAVE : K_STEP;
	default:
		break;
	}
	if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || zi->mnemonic == ZYDIS_MNEMONIC_RET) {
		enum jit_kind k = branch_kind(insn);

		if (k != K_OP)
			return k;
	}
	if (zi->meta.category == ZYDIS_CATEGORY_PREFETCH || zi->meta.category == ZYDIS_CATEGORY_WIDENOP ||
	    zi->meta.category == ZYDIS_CATEGORY_NOP)
		return zi->mnemonic == ZYDIS_MNEMONIC_PAUSE ? K_OP : K_NONE;
	if (has_reg_bit_offset(insn))
		return zi->address_width == 64 ? K_BITMEM : K_STEP;
	if (insn->soft_op)
		return jit_loads_ss(insn) ? K_STEP : K_OP;
	return insn->facts.copied ? K_DATA : K_STEP;
}

/* --- flags ------------------------------------------------------------------------------------ */

static bool is_shift(const ZydisDecodedInstruction *zi)
{
	return zi->meta.category == ZYDIS_CATEGORY_SHIFT || zi->meta.category == ZYDIS_CATEGORY_ROTATE ||
	       zi->mnemonic == ZYDIS_MNEMONIC_SHLD || zi->mnemonic == ZYDIS_MNEMONIC_SHRD;
}

/* Flags that an instruction reads or leaves as they were, and those it sets. */
static void find_flags(struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	struct jit_facts *facts = &insn->facts;
	uint32_t tested = 0, written = 0;

	facts->needs = facts->writes = 0;
	facts->count = -1;
	if (facts->kind != K_DATA && facts->kind != K_BITMEM && facts->kind != K_JCC)
		return;
	if (zi->cpu_flags) {
		tested = zi->cpu_flags->tested & FL_ARITH;
		written = (zi->cpu_flags->modified | zi->cpu_flags->set_0 | zi->cpu_flags->set_1 |
			   zi->cpu_flags->undefined) & FL_ARITH;
	}
	facts->needs = (uint16_t)tested;
	facts->writes = written ? FL_ARITH : 0;
	/* A shift or rotate by 0 leaves all flags alone; a rotate leaves most of them. */
	if (written && is_shift(zi)) {
		unsigned last = zi->operand_count_visible - 1u;

		if (zi->meta.category == ZYDIS_CATEGORY_SHIFT &&
		    insn->op[last].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			facts->count = (int8_t)last;
		else
			facts->needs = FL_ARITH;
	} else if (zi->mnemonic == ZYDIS_MNEMONIC_BSF || zi->mnemonic == ZYDIS_MNEMONIC_BSR) {
		facts->needs = FL_ARITH; /* some processors leave all but ZF alone */
	} else if (written && written != FL_ARITH) {
		facts->needs = FL_ARITH; /* the others must survive it */
	}
}

void jit_facts_find(struct soft_insn *insn)
{
	find_operands(insn);
	insn->facts.copied = is_copied(insn);
	insn->facts.kind = kind_of(insn);
	find_flags(insn);
}
