/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_shape.c - decodes by shape: see jit_shape.h.
 *
 * What is found here of an instruction's parts is a guess that only has to be the same for the same
 * bytes. A shape is kept if Zydis says that head, displacement and immediate are the whole
 * instruction, in this order; then they are so for every instruction with this head.
 */
#include <string.h>

#include "common/checked.h"
#include "vmx-driver/soft/jit.h"
#include "vmx-driver/soft/jit_shape.h"
#include "vmx-driver/soft/step.h"

#define HEAD_MAX 7u

/* Of the opcodes of the first map and of the one after 0F, a bit each: there is a ModRM byte; */
static const uint32_t has_modrm[2][8] = {
	{ 0x0f0f0f0f, 0x0f0f0f0f, 0x00000000, 0x00000a08, 0x0000ffff, 0x00000000, 0xff0f00c3, 0xc0c00000 },
	{ 0xffffa00f, 0xff00ffff, 0xffffffff, 0xff7fffff, 0xffff0000, 0xfffff8f8, 0xffff00ff, 0xffffffff },
};
/* its numbers of registers make no difference (ALU, MOV, LEA, IMUL, shifts, TEST, NOT..IDIV; SSE moves,
 * CMOVcc, SETcc, MOVZX, MOVSX, BT..BTC, XADD); */
static const uint32_t any_register[2][8] = {
	{ 0x0f0f0f0f, 0x0f0f0f0f, 0x00000000, 0x00000a08, 0x00002ffb, 0x00000000, 0x000f0003, 0x00c00000 },
	{ 0x00030000, 0x00000300, 0x0000ffff, 0xc000c000, 0xffff0000, 0xc8c88808, 0x00000003, 0x00000000 },
};
/* and of these, ModRM.reg belongs to the opcode. */
static const uint32_t is_group[2][8] = {
	{ 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x0000000b, 0x00000000, 0x000f0003, 0x00c00000 },
	{ 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x00000000 },
};

static bool has(const uint32_t bits[2][8], unsigned map, uint8_t opcode)
{
	return bits[map][opcode >> 5] >> (opcode & 31) & 1;
}

struct head {
	unsigned len;
	uint64_t key;
	uint8_t rex, modrm, sib;
	bool has_sib, free;
};

static bool is_prefix(uint8_t byte)
{
	/* 26 2e 36 3e, 64 to 67, f0 f2 f3 */
	static const uint32_t bits[8] = { [1] = 0x40404040, [3] = 0x000000f0, [7] = 0x000d0000 };

	return bits[byte >> 5] >> (byte & 31) & 1;
}

/* What a ModRM (and SIB) byte says but for numbers of registers. Zydis names the stack segment where
 * RSP or RBP is the base. */
static uint8_t kind_of(const struct head *h, bool group)
{
	unsigned mod = h->modrm >> 6, rm = h->modrm & 7, base = h->has_sib ? h->sib & 7 : rm;
	unsigned reg = group ? h->modrm >> 3 & 7 : 0, kind = 0;

	if (mod == 3)
		return (uint8_t)(0xc0 | reg);
	if (mod == 0 && base == 5)
		kind = 1; /* none, or RIP */
	else if ((base == 4 || base == 5) && !(h->rex & 1))
		kind = 2;
	if (h->has_sib)
		kind |= (h->sib & 0x38) == 0x20 && !(h->rex & 2) ? 0 : 4;
	return (uint8_t)(mod << 6 | kind << 3 | reg);
}

/* So many bytes, and zeros where the instruction may be read beyond them. */
struct bytes {
	uint8_t p[24];
};

static struct bytes bytes_of(const uint8_t *p, unsigned n)
{
	struct bytes bytes = { { 0 } };

	if (n == 15) {
		memcpy(bytes.p, p, 8);
		memcpy(bytes.p + 7, p + 7, 8);
	} else {
		memcpy(bytes.p, p, n);
	}
	return bytes;
}

static uint64_t byte_at(unsigned at, unsigned value)
{
	return (uint64_t)value << 8 * at;
}

/* The head without what all of its shape have in their own way. */
static uint64_t key_of(const struct bytes *bytes, const struct head *h, unsigned map, unsigned at, uint8_t opcode)
{
	uint64_t key;

	memcpy(&key, bytes->p, sizeof(key));
	key &= byte_at(h->len, 1) - 1;
	if (h->free) {
		if (h->rex)
			key &= ~byte_at(at - 2 - map, 7);
		key &= ~byte_at(at, h->has_sib ? 0xffff : 0xff);
		key |= byte_at(at, kind_of(h, has(is_group, map, opcode)));
	}
	return key | byte_at(7, h->len | (unsigned)h->free << 3 | (unsigned)h->has_sib << 4);
}

/* False: none that is short enough. */
static bool parse_head(const struct bytes *bytes, unsigned n, struct head *h)
{
	const uint8_t *p = bytes->p;
	unsigned i = 0, map = 0, at = 0;
	bool addr32 = false;
	uint8_t opcode;

	h->rex = 0;
	h->has_sib = h->free = false;
	for (; i < HEAD_MAX && is_prefix(p[i]); i++)
		addr32 |= p[i] == 0x67;
	if ((p[i] & 0xf0) == 0x40)
		h->rex = p[i++];
	if (p[i] == 0x0f) {
		map = 1;
		i++;
	}
	opcode = p[i++];
	i += map && (opcode == 0x38 || opcode == 0x3a);
	if (has(has_modrm, map, opcode)) {
		h->modrm = p[at = i++];
		h->has_sib = h->modrm < 0xc0 && (h->modrm & 7) == 4;
		h->sib = p[i];
		i += h->has_sib;
		/* AH to BH as the source of MOVZX and MOVSX are special (decode.c). */
		h->free = !addr32 && has(any_register, map, opcode) &&
			  !(map && (opcode & 0xf7) == 0xb6 && !h->rex && h->modrm >= 0xc4);
	}
	h->len = i;
	if (i > n || i > HEAD_MAX)
		return false;
	h->key = key_of(bytes, h, map, at, opcode);
	return true;
}

static uint64_t value_at(const uint8_t *p, unsigned bits, bool is_signed)
{
	uint64_t val;

	memcpy(&val, p, sizeof(val));
	val <<= 64 - bits;
	return is_signed ? (uint64_t)((int64_t)val >> (64 - bits)) : val >> (64 - bits);
}

/* --- what an instruction has of its own ------------------------------------------------------- */

static unsigned number_of(const struct head *h, enum shape_role role)
{
	if (role == SHAPE_REG)
		return (h->modrm >> 3 & 7u) | (h->rex & 4u) << 1;
	return (h->modrm & 7u) | (h->rex & 1u) << 3;
}

/* Register n of the class whose register 0 is `first`. */
static ZydisRegister numbered(unsigned first, unsigned n, bool rex)
{
	if (first == ZYDIS_REGISTER_AL && rex && n >= 4)
		return (ZydisRegister)(ZYDIS_REGISTER_SPL + n - 4);
	if (first == ZYDIS_REGISTER_MM0)
		n &= 7;
	return (ZydisRegister)(first + n);
}

static void put_address(ZydisDecodedOperandMem *mem, const struct head *h)
{
	unsigned base = h->has_sib ? h->sib & 7 : h->modrm & 7, index = h->sib >> 3 & 7;

	if (h->modrm >= 0x40 || base != 5)
		mem->base = (ZydisRegister)(ZYDIS_REGISTER_RAX + (base | (h->rex & 1u) << 3));
	if (!h->has_sib)
		return;
	index |= (h->rex & 2u) << 2;
	if (index != 4) {
		mem->index = (ZydisRegister)(ZYDIS_REGISTER_RAX + index);
		mem->scale = (ZyanU8)(1u << (h->sib >> 6));
	}
}

/* A register operand, and the field of the instruction that it is. */
static void put_register(struct soft_insn *insn, enum shape_role role, const struct shape_part *part,
			 const struct head *h)
{
	enum jit_field_name name = role == SHAPE_REG ? FIELD_REG : FIELD_RM;
	struct jit_field *field = &insn->facts.field[name];
	ZydisRegister reg = numbered(part->first, number_of(h, role), h->rex);

	insn->op[part->op].reg.value = reg;
	if (field->guest == JIT_NOBODYS)
		return;
	field->guest = (uint8_t)jit_guest_reg(reg, &field->high);
	if (field->written)
		insn->writes |= (uint16_t)(1u << field->guest);
}

static void put_registers(struct soft_insn *insn, const struct jit_shape *shape, const struct head *h)
{
	ZydisDecodedInstructionRaw *raw = &insn->zi.raw;

	insn->writes = shape->writes;
	if (shape->part[SHAPE_MEMORY].op >= 0)
		put_address(&insn->op[shape->part[SHAPE_MEMORY].op].mem, h);
	if (shape->part[SHAPE_REG].op >= 0)
		put_register(insn, SHAPE_REG, &shape->part[SHAPE_REG], h);
	if (shape->part[SHAPE_RM].op >= 0)
		put_register(insn, SHAPE_RM, &shape->part[SHAPE_RM], h);
	jit_facts_registers(&insn->facts);
	if (h->rex) {
		raw->rex.R = h->rex >> 2 & 1;
		raw->rex.X = h->rex >> 1 & 1;
		raw->rex.B = h->rex & 1;
		raw->prefixes[raw->rex.offset].value = h->rex;
	}
	raw->modrm.reg = h->modrm >> 3 & 7;
	raw->modrm.rm = h->modrm & 7;
	if (h->has_sib) {
		raw->sib.scale = h->sib >> 6;
		raw->sib.index = h->sib >> 3 & 7;
		raw->sib.base = h->sib & 7;
	}
}

static void put_bytes(struct soft_insn *insn, const struct bytes *bytes)
{
	uint64_t part[2];

	memcpy(part, bytes->p, sizeof(part));
	if (insn->len < 8)
		part[0] &= byte_at(insn->len, 1) - 1;
	part[1] &= insn->len < 8 ? 0 : byte_at(insn->len - 8u, 1) - 1;
	memcpy(insn->bytes, part, sizeof(part));
}

static void put_values(struct soft_insn *insn, const struct jit_shape *shape, const uint8_t *p,
		       unsigned head)
{
	ZydisDecodedInstructionRaw *raw = &insn->zi.raw;

	if (shape->disp >= 0) {
		raw->disp.value = (int64_t)value_at(p + head, raw->disp.size, true);
		insn->op[shape->disp].mem.disp.value = raw->disp.value;
	}
	if (shape->imm >= 0) {
		raw->imm[0].value.u = value_at(p + head + raw->disp.size / 8, raw->imm[0].size,
					       raw->imm[0].is_signed);
		insn->op[shape->imm].imm.value.u = raw->imm[0].value.u;
	}
}

/* --- a shape from an instruction -------------------------------------------------------------- */

/* The only operand of a type that has a value of its own, or -1. */
static int only_operand(const struct soft_insn *insn, ZydisOperandType type)
{
	int found = -1;

	for (unsigned i = 0; i < insn->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type != type ||
		    (type == ZYDIS_OPERAND_TYPE_MEMORY && !op->mem.disp.has_displacement))
			continue;
		if (found >= 0)
			return -1;
		found = (int)i;
	}
	return found;
}

static bool find_values(struct jit_shape *shape, const struct soft_insn *insn, const struct bytes *bytes,
			unsigned head)
{
	const ZydisDecodedInstructionRaw *raw = &insn->zi.raw;
	unsigned disp = raw->disp.size, imm = raw->imm[0].size;

	shape->disp = shape->imm = -1;
	if (disp) {
		int k = only_operand(insn, ZYDIS_OPERAND_TYPE_MEMORY);

		if (k < 0 || raw->disp.offset != head || raw->disp.value != insn->op[k].mem.disp.value ||
		    (uint64_t)raw->disp.value != value_at(bytes->p + head, disp, true))
			return false;
		shape->disp = (int8_t)k;
	}
	if (imm) {
		int k = only_operand(insn, ZYDIS_OPERAND_TYPE_IMMEDIATE);
		const uint8_t *at = bytes->p + head + disp / 8;

		if (k < 0 || raw->imm[0].offset != head + disp / 8 ||
		    raw->imm[0].value.u != insn->op[k].imm.value.u ||
		    raw->imm[0].value.u != value_at(at, imm, raw->imm[0].is_signed))
			return false;
		shape->imm = (int8_t)k;
	}
	return true;
}

/* The class of a register that comes from ModRM. False: another one than those. */
static bool find_class(struct shape_part *part, const struct soft_insn *insn, enum shape_role role,
		       const struct head *h)
{
	static const ZydisRegister firsts[] = { ZYDIS_REGISTER_AL, ZYDIS_REGISTER_AX, ZYDIS_REGISTER_EAX,
						ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_MM0,
						ZYDIS_REGISTER_XMM0 };
	const ZydisDecodedOperand *op = &insn->op[part->op];

	for (size_t k = 0; k < ARRAY_SIZE(firsts); k++) {
		part->first = (uint16_t)firsts[k];
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op->reg.value == numbered(firsts[k], number_of(h, role), h->rex))
			return true;
	}
	return false;
}

/* Which operands come from ModRM, and general registers that are written but not named there. */
static bool find_parts(struct jit_shape *shape, const struct soft_insn *insn, const struct head *h)
{
	bool high;

	shape->writes = 0;
	for (unsigned i = 0; i < insn->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];
		enum shape_role role = SHAPE_FIXED;

		if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			role = SHAPE_REG;
		else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			role = op->type == ZYDIS_OPERAND_TYPE_MEMORY ? SHAPE_MEMORY : SHAPE_RM;
		if (role == SHAPE_FIXED) {
			if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
			    jit_guest_reg(op->reg.value, &high) >= 0)
				shape->writes |= (uint16_t)(1u << jit_guest_reg(op->reg.value, &high));
			continue;
		}
		if (shape->part[role].op >= 0)
			return false;
		shape->part[role].op = (int8_t)i;
		if (role != SHAPE_MEMORY && !find_class(&shape->part[role], insn, role, h))
			return false;
	}
	return true;
}

/* Can the instruction stand for all of its shape? */
static bool make_shape(struct jit_shape *shape, const struct soft_insn *insn, const struct bytes *bytes,
		       const struct head *h)
{
	const ZydisDecodedInstructionRaw *raw = &insn->zi.raw;
	unsigned count = insn->zi.operand_count;

	if (insn->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || raw->imm[1].size ||
	    h->len + (raw->disp.size + raw->imm[0].size) / 8 != insn->len || raw->disp.size > 32 ||
	    count > JIT_SHAPE_OPERANDS || !find_values(shape, insn, bytes, h->len))
		return false;
	shape->free = h->free;
	for (unsigned role = 0; role < SHAPE_FIXED; role++)
		shape->part[role].op = -1;
	if (h->free && !find_parts(shape, insn, h))
		return false;
	memcpy(shape->insn, insn, offsetof(struct soft_insn, op) + count * sizeof(insn->op[0]));
	return true;
}

bool jit_shape_decode(struct jit_shape *shapes, struct soft_vm *vm, const uint8_t *p, unsigned n,
		      struct soft_insn *ret, bool *ret_short)
{
	struct bytes bytes = bytes_of(p, n);
	struct jit_shape *shape = NULL;
	struct head h;

	if (parse_head(&bytes, n, &h)) {
		const struct soft_insn *insn;

		shape = &shapes[(h.key * 0x9e3779b97f4a7c15ull >> 32) % JIT_SHAPES];
		insn = (const struct soft_insn *)(const void *)shape->insn;
		if (shape->key == h.key && insn->len <= n) {
			memcpy(ret, insn, offsetof(struct soft_insn, op) +
						  insn->zi.operand_count * sizeof(insn->op[0]));
			put_values(ret, shape, bytes.p, h.len);
			put_bytes(ret, &bytes);
			if (shape->free)
				put_registers(ret, shape, &h);
			*ret_short = false;
			return true;
		}
	}
	if (!soft_decode_into(vm, p, n, CODE_64, ret, ret_short))
		return false;
	jit_facts_find(ret);
	if (shape)
		shape->key = make_shape(shape, ret, &bytes, &h) ? h.key : 0;
	return true;
}
