/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_data.c - copies one guest instruction with other registers and another memory operand.
 *
 * The instruction's bytes are taken apart into prefixes, REX or VEX, opcode, ModRM/SIB/displacement
 * and immediates; general-purpose register fields are replaced by the host's (jit.h), the memory
 * operand by struct jit_place. Everything else stays the guest's own bytes.
 */
#include "vmx-driver/soft/jit_kept.h"

#define NO_REG 0xffu

struct fields { /* of the instruction, and the host's registers for them */
	const struct jit_facts *facts;
	const struct jit_field *f; /* facts->field */
	uint8_t host[JIT_FIELDS];
	bool mem; /* there is a memory operand */
};

static bool is_gpr(const struct fields *f, enum jit_field_name name)
{
	return f->f[name].guest != JIT_NOBODYS;
}

static bool is_moffs(const struct soft_insn *insn)
{
	return insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       insn->zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
	       insn->zi.opcode >= 0xa0 && insn->zi.opcode <= 0xa3;
}

/* --- register allocation -------------------------------------------------------------------- */

/* Does the field name a register that lives in memory? */
static bool is_resident(const struct fields *f, unsigned i)
{
	return f->facts->resident >> i & 1;
}

/* The first field that names the same register as field i. */
static unsigned first_of(const struct fields *f, unsigned i)
{
	unsigned k = 0;

	while (k < i && (f->f[k].guest != f->f[i].guest || !is_resident(f, k)))
		k++;
	return k;
}

/* Gives each memory-resident guest register a scratch register: the one with its copy, which may be the
 * place's as well, or a free one. Two fields of one register share it.
 * place: of the memory operand, whose registers are not free (at most two others are needed). */
static void assign(const struct jit_buf *b, struct fields *f, const struct jit_place *place)
{
	unsigned taken = f->mem ? HOST_BIT(place->base) | HOST_BIT(place->index & 15) : 0;
	unsigned without = 0;

	for (unsigned i = 0; i < JIT_FIELDS; i++) {
		const struct jit_field *x = &f->f[i];
		int kept;

		if (x->guest == JIT_NOBODYS)
			continue;
		f->host[i] = x->high ? x->guest : (uint8_t)jit_host_reg(x->guest);
		if (!is_resident(f, i))
			continue;
		kept = e_kept_host(b, x->guest);
		if (kept < 0) {
			without |= 1u << i;
			continue;
		}
		f->host[i] = (uint8_t)kept;
		taken |= HOST_BIT(kept);
	}
	for (unsigned i = 0; without >> i; i++) {
		unsigned k = first_of(f, i);

		if (!(without >> i & 1))
			continue;
		f->host[i] = k < i ? f->host[k] : (uint8_t)e_kept_spare(b, taken);
		taken |= HOST_BIT(f->host[i]);
	}
}

static void transfer(struct jit_buf *b, const struct fields *f, bool store)
{
	unsigned done = 0;

	for (unsigned i = 0; f->facts->resident >> i; i++) {
		unsigned guest = f->f[i].guest;
		bool wanted = false;

		if (!(f->facts->resident >> i & 1) || (done & 1u << guest))
			continue;
		for (unsigned k = 0; k < JIT_FIELDS; k++)
			if (f->f[k].guest == guest && !f->f[k].high)
				wanted |= store ? f->f[k].written : f->f[k].read;
		if (!wanted)
			continue;
		done |= 1u << guest;
		if (store)
			e_put_gpr(b, f->host[i], guest);
		else
			e_get_gpr(b, f->host[i], guest);
	}
}

/* The host registers that the instruction writes by its fields. */
static unsigned written_hosts(const struct fields *f)
{
	unsigned written = 0;

	for (unsigned i = 0; i < JIT_FIELDS; i++)
		if (f->f[i].guest != JIT_NOBODYS && f->f[i].written)
			written |= HOST_BIT(f->host[i]);
	return written;
}

/* --- encoding ------------------------------------------------------------------------------- */

static unsigned reg_bits(const struct fields *f, enum jit_field_name name, unsigned raw)
{
	if (!is_gpr(f, name))
		return raw;
	return f->f[name].high ? f->f[name].guest + 4u : f->host[name];
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
	    (is_gpr(f, FIELD_REG) || is_gpr(f, FIELD_RM) || is_gpr(f, FIELD_VVVV)))
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

/* The instruction's bytes from there on. */
static void emit_rest(struct jit_buf *b, const struct soft_insn *insn, unsigned from)
{
	unsigned at = from < sizeof(insn->bytes) / 2 ? from : sizeof(insn->bytes) / 2;
	uint64_t rest;

	if (from == insn->len)
		return;
	if (insn->len - at > sizeof(rest)) {
		e_bytes(b, insn->bytes + from, insn->len - from);
		return;
	}
	memcpy(&rest, insn->bytes + at, sizeof(rest));
	e_word(b, rest >> 8 * (from - at), insn->len - from);
}

/* ModRM, SIB and the tail (immediates). */
static void emit_modrm_tail(struct jit_buf *b, const struct soft_insn *insn, const struct fields *f,
			    unsigned reg, unsigned rm, const struct jit_place *place, bool swap_high)
{
	const ZydisDecodedInstruction *zi = &insn->zi;
	unsigned tail;

	if (swap_high && f->f[FIELD_REG].high)
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
	emit_rest(b, insn, tail);
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
	for (unsigned i = 0; i < n; i++)
		opcode[i] = insn->bytes[opcode_at + i];
	reg = reg_bits(f, FIELD_REG, zi->raw.modrm.reg | raw_r);
	emit_prefixes(b, insn);

	if (insn->code != CODE_64 && n == 1 && opcode[0] >= 0x40 && opcode[0] <= 0x4f) {
		/* INC/DEC of one byte are REX prefixes here */
		rm = f->host[FIELD_OPCODE];
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
		rex = w | e_place_rex(f->f[FIELD_REG].high ? 0 : reg, *place);
	} else if (has_modrm) {
		rm = reg_bits(f, FIELD_RM, zi->raw.modrm.rm | raw_b);
		rex = 0x40 | w | (reg >= 8 && !f->f[FIELD_REG].high ? 4 : 0) | (rm >= 8 && !f->f[FIELD_RM].high ? 1 : 0);
	} else {
		rm = reg_bits(f, FIELD_OPCODE, (opcode[n - 1] & 7u) | raw_b);
		rex = 0x40 | w | (rm >= 8 && !f->f[FIELD_OPCODE].high ? 1 : 0);
	}
	/* SPL..DIL need a REX even when it says nothing. */
	if (rex != 0x40 || (insn->code == CODE_64 && (zi->attributes & ZYDIS_ATTRIB_HAS_REX) &&
			    !f->f[FIELD_REG].high && !f->f[FIELD_RM].high && !f->f[FIELD_OPCODE].high))
		e1(b, rex);
	if (!has_modrm) {
		if (is_gpr(f, FIELD_OPCODE))
			opcode[n - 1] = (uint8_t)((opcode[n - 1] & ~7u) | (rm & 7));
		e_bytes(b, opcode, n);
		emit_rest(b, insn, opcode_end);
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
	reg = reg_bits(f, FIELD_REG, zi->raw.modrm.reg | raw_r);
	if (is_gpr(f, FIELD_VVVV))
		vvvv = f->host[FIELD_VVVV];
	if (f->mem) {
		x = place->index & 8;
		bb = place->base & 8;
	} else {
		rm = reg_bits(f, FIELD_RM, zi->raw.modrm.rm | raw_b);
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
static bool verbatim(const struct soft_insn *insn)
{
	const struct jit_facts *facts = &insn->facts;

	return facts->plain && !facts->resident && facts->mem < 0 && insn->code == CODE_64 && !insn->renamed;
}

static void emit_verbatim(struct jit_buf *b, const struct soft_insn *insn)
{
	const uint8_t *from = b->p;

	if (insn->len <= 8)
		emit_rest(b, insn, 0);
	else
		e_bytes(b, insn->bytes, insn->len);
	e_kept_over(b, from, 0); /* it names no register that lives in memory */
}

void jit_emit_data(struct jit_buf *b, const struct soft_insn *insn, struct jit_place place,
		   unsigned *ret_point_state)
{
	struct fields f = { .facts = &insn->facts, .f = insn->facts.field, .mem = insn->facts.mem >= 0 };
	unsigned high = f.f[FIELD_REG].guest;
	bool swap = f.mem && f.f[FIELD_REG].high;
	const uint8_t *from;

	*ret_point_state = 0;
	if (verbatim(insn)) {
		emit_verbatim(b, insn);
		return;
	}
	assign(b, &f, &place);
	if (f.facts->resident)
		transfer(b, &f, false);
	from = b->p;
	if (swap) { /* xchg al, ah: no flags */
		e2(b, 0x86, 0xc0 | high << 3 | (high + 4u));
		*ret_point_state = POINT_SWAPPED | high << 4;
	}
	if (insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		emit_vex(b, insn, &f, &place);
	else
		emit_legacy(b, insn, &f, &place, swap);
	if (swap)
		e2(b, 0x86, 0xc0 | high << 3 | (high + 4u));
	e_kept_over(b, from, written_hosts(&f));
	if (f.facts->resident)
		transfer(b, &f, true);
}

/* --- effective addresses -------------------------------------------------------------------- */

/* A guest register as a host register to compute with, not `base`; memory-resident ones where there is a
 * copy, or loaded: a base for the next time as well, an index if that ends no copy. */
static unsigned address_reg(struct jit_buf *b, ZydisRegister reg, unsigned base)
{
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(reg, &high);
	int host = jit_host_reg(guest);
	unsigned into = H_R10;

	if (host < 0)
		host = e_kept_host(b, guest);
	if (host >= 0)
		return (unsigned)host;
	if (b->keeps)
		into = e_kept_spare(b, base != NO_REG ? HOST_BIT(base) : 0);
	if (base != NO_REG && (!b->keeps || e_kept_guest(b, into) >= 0))
		into = H_R11;
	e_get_gpr(b, into, guest);
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
	e_kept_over(b, from, HOST_BIT(dst));
}

void jit_emit_ea(struct jit_buf *b, unsigned dst, const struct soft_insn *insn,
		 const ZydisDecodedOperand *op, uint64_t next_rip, bool with_segment)
{
	/* what LEA has of it can be less */
	bool wide = insn->zi.address_width == 64 &&
		    !(insn->zi.mnemonic == ZYDIS_MNEMONIC_LEA && insn->zi.operand_width == 32);
	int64_t disp = op->mem.disp.value;
	unsigned base = NO_REG, index = NO_REG;
	const uint8_t *from = b->p;

	if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
		uint64_t ea = next_rip + (uint64_t)disp;

		e_guest(b, dst, wide || b->moved ? ea : (uint32_t)ea);
		if (b->moved && !wide)
			e_rr(b, false, 0x89, dst, dst);
		e_kept_over(b, from, HOST_BIT(dst));
	} else if (disp != (int32_t)disp ||
		   (op->mem.base == ZYDIS_REGISTER_NONE && op->mem.index == ZYDIS_REGISTER_NONE)) {
		e_mov_imm(b, dst, wide ? (uint64_t)disp : (uint32_t)disp);
		e_kept_over(b, from, HOST_BIT(dst));
	} else {
		if (op->mem.base != ZYDIS_REGISTER_NONE)
			base = address_reg(b, op->mem.base, NO_REG);
		if (op->mem.index != ZYDIS_REGISTER_NONE)
			index = address_reg(b, op->mem.index, base);
		if (wide && base == dst && index == NO_REG && disp == 0)
			; /* there already */
		else
			emit_lea(b, wide, dst, base, index, op->mem.scale, (int32_t)disp);
	}
	if (with_segment && jit_has_segment(op)) /* outside 64-bit code the sum wraps at 4 GiB */
		e_segment_base(b, insn->code == CODE_64, 0x03, dst, op->mem.segment);
}
