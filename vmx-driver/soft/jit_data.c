/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_data.c - copies one guest instruction with other registers and another memory operand.
 *
 * The instruction's bytes are taken apart into prefixes, REX or VEX, opcode, ModRM/SIB/displacement
 * and immediates; general-purpose register fields are replaced by the host's (jit.h), the memory
 * operand by struct jit_place. Everything else stays the guest's own bytes.
 */
#include "vmx-driver/soft/jit_emit.h"

#define NO_REG 0xffu

/* A register field of the instruction that names a general-purpose register. */
struct field {
	bool gpr, high;
	uint8_t guest;
	uint8_t host;
	uint8_t width; /* bytes */
	bool read, written;
};

struct fields {
	struct field reg, rm, opcode, vvvv;
	const ZydisDecodedOperand *mem;
};

int jit_host_reg(unsigned guest)
{
	if (guest == SOFT_RSP)
		return H_R8;
	if (guest >= 8 && guest < 12)
		return -1;
	return (int)guest;
}

int jit_guest_reg(ZydisRegister reg, bool *ret_high)
{
	*ret_high = false;
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return reg - ZYDIS_REGISTER_AL;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
		*ret_high = true;
		return reg - ZYDIS_REGISTER_AH;
	}
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return reg - ZYDIS_REGISTER_SPL + 4;
	if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		return reg - ZYDIS_REGISTER_AX;
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return reg - ZYDIS_REGISTER_EAX;
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return reg - ZYDIS_REGISTER_RAX;
	return -1;
}

/* The destination's old value is never left in place. For all others it is loaded first: BSF of 0,
 * shifts by 0 and the like keep it. */
static bool always_writes(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_MOV || mnemonic == ZYDIS_MNEMONIC_MOVZX ||
	       mnemonic == ZYDIS_MNEMONIC_MOVSX || mnemonic == ZYDIS_MNEMONIC_MOVSXD;
}

static void field_set(struct field *f, const struct soft_insn *insn, const ZydisDecodedOperand *op)
{
	int guest = jit_guest_reg(op->reg.value, &f->high);

	if (guest < 0)
		return;
	f->gpr = true;
	f->guest = (uint8_t)guest;
	f->width = (uint8_t)(op->size / 8);
	f->read = (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || f->width < 4 ||
		  !always_writes(insn->zi.mnemonic);
	f->written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	f->host = NO_REG;
}

static void fields_get(const struct soft_insn *insn, struct fields *f)
{
	*f = (struct fields){ 0 };
	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			f->mem = op;
			continue;
		}
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (op->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG: field_set(&f->reg, insn, op); break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM: field_set(&f->rm, insn, op); break;
		case ZYDIS_OPERAND_ENCODING_OPCODE: field_set(&f->opcode, insn, op); break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD: field_set(&f->vvvv, insn, op); break;
		default: break;
		}
	}
}

/* --- what can be copied --------------------------------------------------------------------- */

static bool is_moffs(const struct soft_insn *insn)
{
	return insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       insn->zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
	       insn->zi.opcode >= 0xa0 && insn->zi.opcode <= 0xa3;
}

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

static bool needs_rex(const struct soft_insn *insn, const struct fields *f)
{
	const struct field *all[] = { &f->reg, &f->rm, &f->opcode };

	if (f->mem && insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return true;
	for (unsigned i = 0; i < 3; i++)
		if (all[i]->gpr && !all[i]->high && (all[i]->guest >= 8 || all[i]->guest == SOFT_RSP))
			return true;
	return false;
}

bool jit_data_ok(const struct soft_insn *insn)
{
	struct fields f;
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
	fields_get(insn, &f);
	if ((f.reg.high || f.rm.high || f.opcode.high) && needs_rex(insn, &f)) {
		/* AH..BH cannot stand beside REX: exchanged with AL..BL around the copy, which
		 * works for one register that the instruction does not use otherwise. */
		if (!f.mem || f.rm.gpr || f.opcode.gpr)
			return false;
		/* AL is CMPXCHG's own: only without REX, which a jit address does not allow */
		if (insn->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG)
			return false;
	}
	return true;
}

/* --- register allocation -------------------------------------------------------------------- */

/* Gives a memory-resident guest register a scratch register; two fields of one register share it. */
static void assign(struct field *f, uint8_t by_guest[16], const uint8_t *free_regs, unsigned *next)
{
	int host;

	if (!f->gpr)
		return;
	host = f->high ? f->guest : jit_host_reg(f->guest);
	if (host >= 0) {
		f->host = (uint8_t)host;
		return;
	}
	if (by_guest[f->guest] == NO_REG)
		by_guest[f->guest] = free_regs[(*next)++];
	f->host = by_guest[f->guest];
}

/* place: of the memory operand, whose registers are not free (at most two others are needed). */
static unsigned assign_all(struct fields *f, const struct jit_place *place)
{
	static const uint8_t any[] = { H_R9, H_R10, H_R11 }, beside_r10[] = { H_R9, H_R11, H_R11 };
	const uint8_t *free_regs = f->mem && place->base == H_R10 ? beside_r10 : any;
	uint8_t by_guest[16];
	unsigned next = 0;

	memset(by_guest, NO_REG, sizeof(by_guest));
	assign(&f->reg, by_guest, free_regs, &next);
	assign(&f->rm, by_guest, free_regs, &next);
	assign(&f->opcode, by_guest, free_regs, &next);
	assign(&f->vvvv, by_guest, free_regs, &next);
	return next;
}

unsigned jit_data_scratch(const struct soft_insn *insn)
{
	struct fields f;

	fields_get(insn, &f);
	return assign_all(&f, &(struct jit_place){ .base = H_R10 });
}

static void transfer(struct jit_buf *b, const struct fields *f, bool store)
{
	const struct field *all[] = { &f->reg, &f->rm, &f->opcode, &f->vvvv };
	unsigned done = 0;

	for (unsigned i = 0; i < 4; i++) {
		const struct field *x = all[i];
		bool wanted;

		if (!x->gpr || x->high || jit_host_reg(x->guest) >= 0 || (done & 1u << x->guest))
			continue;
		wanted = false;
		for (unsigned k = 0; k < 4; k++)
			if (all[k]->gpr && !all[k]->high && all[k]->guest == x->guest)
				wanted |= store ? all[k]->written : all[k]->read;
		if (!wanted)
			continue;
		done |= 1u << x->guest;
		if (store)
			e_put_gpr(b, x->host, x->guest);
		else
			e_get_gpr(b, x->host, x->guest);
	}
}

/* Does the instruction leave the host register that is kept with what it is said to hold? */
static bool keeps_kept(const struct jit_buf *b, const struct fields *f)
{
	const struct field *all[] = { &f->reg, &f->rm, &f->opcode, &f->vvvv };

	for (unsigned i = 0; i < 4; i++)
		if (all[i]->gpr && all[i]->host == b->kept_host &&
		    (all[i]->written || all[i]->guest != b->kept_guest))
			return false;
	return true;
}

/* --- encoding ------------------------------------------------------------------------------- */

static unsigned reg_bits(const struct field *f, unsigned raw)
{
	if (!f->gpr)
		return raw;
	return f->high ? f->guest + 4u : f->host;
}

static bool is_blendv(const struct soft_insn *insn)
{
	return insn->zi.mnemonic == ZYDIS_MNEMONIC_VBLENDVPS ||
	       insn->zi.mnemonic == ZYDIS_MNEMONIC_VBLENDVPD ||
	       insn->zi.mnemonic == ZYDIS_MNEMONIC_VPBLENDVB;
}

/* VEX.W chooses between 32- and 64-bit general registers: outside 64-bit mode it is ignored. */
static bool w_is_operand_size(const struct soft_insn *insn, const struct fields *f)
{
	if (insn->zi.mnemonic != ZYDIS_MNEMONIC_VPEXTRD && insn->zi.mnemonic != ZYDIS_MNEMONIC_VPINSRD &&
	    (f->reg.gpr || f->rm.gpr || f->vvvv.gpr))
		return true;
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_VCVTSI2SD:
	case ZYDIS_MNEMONIC_VCVTSI2SS:
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VPCMPESTRI:
	case ZYDIS_MNEMONIC_VPCMPESTRM:
		return true;
	default:
		return false;
	}
}

/* ModRM, SIB and the tail (immediates). */
static void emit_modrm_tail(struct jit_buf *b, const struct soft_insn *insn, const struct fields *f,
			    unsigned reg, unsigned rm, const struct jit_place *place, bool swap_high)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	unsigned tail;

	if (swap_high && f->reg.high)
		reg -= 4;
	if (f->mem)
		e_place(b, reg, *place);
	else
		e1(b, 0xc0 | (reg & 7) << 3 | (rm & 7));
	if (is_moffs(insn))
		return;
	tail = zi->raw.modrm.offset + 1u;
	if (zi->raw.sib.offset >= tail)
		tail = zi->raw.sib.offset + 1u;
	if (zi->raw.disp.size)
		tail = zi->raw.disp.offset + zi->raw.disp.size / 8u;
	if (insn->code != CODE_64 && is_blendv(insn)) {
		e1(b, insn->bytes[tail] & 0x7f); /* only 8 registers */
		return;
	}
	e_bytes(b, insn->bytes + tail, insn->len - tail);
}

/* Legacy prefixes that stay: operand size, REP forms, LOCK. In 16-bit code the sense of 66 turns. */
static void emit_prefixes(struct jit_buf *b, const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	bool has_66 = false, mandatory_66 = false;
	uint8_t rep = 0, lock = 0;

	for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
		uint8_t p = zi->raw.prefixes[i].value;

		if (p == 0x66) {
			has_66 = true;
			mandatory_66 |= zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY;
		} else if (p == 0xf2 || p == 0xf3) {
			rep = p;
		} else if (p == 0xf0) {
			lock = p;
		}
	}
	if (insn->code == CODE_16 && !mandatory_66 && insn->fp != FP_SSE && insn->fp != FP_MMX)
		has_66 = !has_66;
	if (lock)
		e1(b, lock);
	if (has_66)
		e1(b, 0x66);
	if (rep)
		e1(b, rep);
}

static void emit_legacy(struct jit_buf *b, const struct soft_insn *insn, const struct fields *f,
			const struct jit_place *place, bool swap_high)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	bool has_modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
	unsigned raw_r = 0, raw_b = 0, w = 0, reg, rm = 0, rex;
	unsigned opcode_at = zi->raw.prefix_count, opcode_end;
	uint8_t opcode[4];
	unsigned n;

	if (insn->code == CODE_64 && (zi->attributes & ZYDIS_ATTRIB_HAS_REX)) {
		raw_r = zi->raw.rex.R ? 8 : 0;
		raw_b = zi->raw.rex.B ? 8 : 0;
		w = zi->raw.rex.W ? 8 : 0;
	}
	opcode_end = has_modrm ? zi->raw.modrm.offset :
		     zi->raw.disp.size ? zi->raw.disp.offset :
		     zi->raw.imm[0].size ? zi->raw.imm[0].offset : insn->len;
	n = opcode_end - opcode_at;
	if (n > sizeof(opcode)) {
		b->full = true;
		return;
	}
	memcpy(opcode, insn->bytes + opcode_at, n);
	reg = reg_bits(&f->reg, zi->raw.modrm.reg | raw_r);
	emit_prefixes(b, insn);

	if (insn->code != CODE_64 && n == 1 && opcode[0] >= 0x40 && opcode[0] <= 0x4f) {
		/* INC/DEC of one byte are REX prefixes here */
		rm = f->opcode.host;
		rex = 0x40 | (rm >= 8 ? 1 : 0);
		if (rex != 0x40)
			e1(b, rex);
		e2(b, 0xff, 0xc0 | (opcode[0] >= 0x48 ? 8 : 0) | (rm & 7));
		return;
	}
	if (insn->code != CODE_64 && n == 1 && opcode[0] == 0x82)
		opcode[0] = 0x80;
	if (is_moffs(insn)) {
		static const uint8_t with_modrm[4] = { 0x8a, 0x8b, 0x88, 0x89 };

		opcode[0] = with_modrm[opcode[0] - 0xa0];
		reg = H_RAX;
		has_modrm = true;
	}
	if (f->mem) {
		rex = w | e_place_rex(f->reg.high ? 0 : reg, *place);
	} else if (has_modrm) {
		rm = reg_bits(&f->rm, zi->raw.modrm.rm | raw_b);
		rex = 0x40 | w | (reg >= 8 && !f->reg.high ? 4 : 0) | (rm >= 8 && !f->rm.high ? 1 : 0);
	} else {
		rm = reg_bits(&f->opcode, (opcode[n - 1] & 7u) | raw_b);
		rex = 0x40 | w | (rm >= 8 && !f->opcode.high ? 1 : 0);
	}
	/* SPL..DIL need a REX even when it says nothing. */
	if (rex != 0x40 || (insn->code == CODE_64 && (zi->attributes & ZYDIS_ATTRIB_HAS_REX) &&
			    !f->reg.high && !f->rm.high && !f->opcode.high))
		e1(b, rex);
	if (!has_modrm) {
		if (f->opcode.gpr)
			opcode[n - 1] = (uint8_t)((opcode[n - 1] & ~7u) | (rm & 7));
		e_bytes(b, opcode, n);
		e_bytes(b, insn->bytes + opcode_end, insn->len - opcode_end);
		return;
	}
	e_bytes(b, opcode, n);
	emit_modrm_tail(b, insn, f, reg, rm, place, swap_high);
}

/* Always written as the three-byte VEX. R, X, B and vvvv are stored inverted (SDM 2A 2.3.5). */
static void emit_vex(struct jit_buf *b, const struct soft_insn *insn, const struct fields *f,
		     const struct jit_place *place)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	const uint8_t *vex = insn->bytes + zi->raw.vex.offset;
	bool three = vex[0] == 0xc4;
	unsigned raw_r = (vex[1] & 0x80) ? 0 : 8;
	unsigned raw_b = three && !(vex[1] & 0x20) ? 8 : 0;
	unsigned map = three ? vex[1] & 0x1f : 1;
	unsigned last = three ? vex[2] : vex[1];
	unsigned w = three ? last & 0x80 : 0;
	unsigned vvvv = (~last >> 3) & 15;
	unsigned reg, rm = 0, r, x = 0, bb;
	unsigned opcode_at = zi->raw.vex.offset + (three ? 3u : 2u);

	if (insn->code != CODE_64) {
		raw_r = raw_b = 0;
		vvvv &= 7;
		if (w_is_operand_size(insn, f))
			w = 0;
	}
	reg = reg_bits(&f->reg, zi->raw.modrm.reg | raw_r);
	if (f->vvvv.gpr)
		vvvv = f->vvvv.host;
	if (f->mem) {
		x = place->index & 8;
		bb = place->base & 8;
	} else {
		rm = reg_bits(&f->rm, zi->raw.modrm.rm | raw_b);
		bb = rm & 8;
	}
	r = reg & 8;
	e1(b, 0xc4);
	e1(b, (r ? 0 : 0x80) | (x ? 0 : 0x40) | (bb ? 0 : 0x20) | map);
	e1(b, w | (~vvvv & 15) << 3 | (last & 7));
	e1(b, insn->bytes[opcode_at]);
	if (zi->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		emit_modrm_tail(b, insn, f, reg, rm, place, false);
}

/* The bytes can stay as they are. */
static bool verbatim(const struct soft_insn *insn, const struct fields *f)
{
	const struct field *all[] = { &f->reg, &f->rm, &f->opcode, &f->vvvv };

	if (insn->code != CODE_64 || f->mem || insn->renamed)
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (all[i]->gpr && !all[i]->high && all[i]->host != all[i]->guest)
			return false;
	return true;
}

bool jit_data_swaps(const struct soft_insn *insn, unsigned host)
{
	struct fields f;

	fields_get(insn, &f);
	return f.mem && f.reg.high && f.reg.guest == host;
}

void jit_emit_data(struct jit_buf *b, const struct soft_insn *insn, struct jit_place place,
		   unsigned *ret_point_state)
{
	const uint8_t *from;
	struct fields f;
	bool swap;

	*ret_point_state = 0;
	fields_get(insn, &f);
	assign_all(&f, &place);
	transfer(b, &f, false);
	from = b->p;
	swap = f.mem && f.reg.high;
	if (swap) { /* xchg al, ah: no flags */
		e2(b, 0x86, 0xc0 | f.reg.guest << 3 | (f.reg.guest + 4u));
		*ret_point_state = POINT_SWAPPED | (unsigned)f.reg.guest << 4;
	}
	if (verbatim(insn, &f))
		e_bytes(b, insn->bytes, insn->len);
	else if (insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		emit_vex(b, insn, &f, &place);
	else
		emit_legacy(b, insn, &f, &place, swap);
	if (swap)
		e2(b, 0x86, 0xc0 | f.reg.guest << 3 | (f.reg.guest + 4u));
	if (keeps_kept(b, &f))
		e_kept_over(b, from);
	transfer(b, &f, true);
}

/* --- effective addresses -------------------------------------------------------------------- */

/* A guest register as a host register to compute with; memory-resident ones into `into`. */
static unsigned address_reg(struct jit_buf *b, ZydisRegister reg, unsigned into)
{
	bool high;
	int guest = jit_guest_reg(reg, &high);
	int host = jit_host_reg((unsigned)guest);

	if (host >= 0)
		return (unsigned)host;
	e_get_gpr(b, into, (unsigned)guest);
	return into;
}

/* lea dst, [base + index * scale + disp]; base or index may be NO_REG */
static void emit_lea_bytes(struct jit_buf *b, bool w, unsigned dst, unsigned base, unsigned index, unsigned scale,
		     int32_t disp)
{
	unsigned log2 = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
	unsigned d = (dst & 7) << 3, mod;

	if (base == NO_REG) { /* SIB without base: disp32 */
		e2(b, 0x40 | (dst >= 8 ? 4 : 0) | (w ? 8 : 0) | (index != NO_REG && index >= 8 ? 2 : 0), 0x8d);
		e2(b, 0x04 | d, log2 << 6 | (index == NO_REG ? 4u : (index & 7)) << 3 | 5);
		e4(b, (uint32_t)disp);
		return;
	}
	if (disp == 0 && index == NO_REG) {
		e_rr(b, w, 0x89, dst, base);
		return;
	}
	mod = disp == 0 && (base & 7) != 5 ? 0 : disp == (int8_t)disp ? 1 : 2;
	e2(b, 0x40 | (dst >= 8 ? 4 : 0) | (w ? 8 : 0) | (index != NO_REG && index >= 8 ? 2 : 0) |
		      (base >= 8 ? 1 : 0), 0x8d);
	if (index == NO_REG && (base & 7) != 4)
		e1(b, mod << 6 | d | (base & 7));
	else
		e2(b, mod << 6 | 0x04 | d, log2 << 6 | (index == NO_REG ? 4u : (index & 7)) << 3 | (base & 7));
	if (mod == 1)
		e1(b, (uint8_t)disp);
	else if (mod == 2)
		e4(b, (uint32_t)disp);
}

static void emit_lea(struct jit_buf *b, bool w, unsigned dst, unsigned base, unsigned index, unsigned scale,
		     int32_t disp)
{
	const uint8_t *from = b->p;

	emit_lea_bytes(b, w, dst, base, index, scale, disp);
	if (dst != b->kept_host)
		e_kept_over(b, from);
}

void jit_emit_ea(struct jit_buf *b, unsigned dst, const struct soft_insn *insn,
		 const ZydisDecodedOperand *op, uint64_t next_rip, bool with_segment)
{
	bool wide = insn->zi.address_width == 64;
	int64_t disp = op->mem.disp.value;
	unsigned base = NO_REG, index = NO_REG;

	if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
		uint64_t ea = next_rip + (uint64_t)disp;

		e_mov_imm(b, dst, wide ? ea : (uint32_t)ea);
	} else if (disp != (int32_t)disp ||
		   (op->mem.base == ZYDIS_REGISTER_NONE && op->mem.index == ZYDIS_REGISTER_NONE)) {
		e_mov_imm(b, dst, wide ? (uint64_t)disp : (uint32_t)disp);
	} else {
		if (op->mem.base != ZYDIS_REGISTER_NONE)
			base = address_reg(b, op->mem.base, H_R10);
		if (op->mem.index != ZYDIS_REGISTER_NONE)
			index = address_reg(b, op->mem.index, H_R11);
		if (wide && base == dst && index == NO_REG && disp == 0)
			; /* there already */
		else
			emit_lea(b, wide, dst, base, index, op->mem.scale, (int32_t)disp);
	}
	if (with_segment &&
	    (op->mem.segment == ZYDIS_REGISTER_FS || op->mem.segment == ZYDIS_REGISTER_GS)) {
		unsigned seg = op->mem.segment == ZYDIS_REGISTER_FS ? SOFT_FS : SOFT_GS;

		e_gs(b, true, 0x03, dst, GS_OFF(seg) + (uint32_t)(seg * sizeof(struct vmx_segment)) +
					   (uint32_t)offsetof(struct vmx_segment, base));
	}
}
