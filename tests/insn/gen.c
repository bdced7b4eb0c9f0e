/* SPDX-License-Identifier: Apache-2.0 */
/* gen.c - one random instruction with registers and memory that make it interesting. */
#include "tests/insn/insn.h"

#include <stdio.h>
#include <string.h>

/* --- values --------------------------------------------------------------------------------------- */

uint64_t random_value(struct rng *rng)
{
	uint64_t v = rng_u64(rng);

	switch (rng_below(rng, 10)) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return v & 0xff;
	case 3: return 1ull << (v & 63);
	case 4: return (1ull << (v & 63)) - 1;
	case 5: return 0x8000000080008080ull >> (v & 3) * 8;
	case 6: return 0x7fffffff7fff7f7full;
	case 7: return (uint64_t)(int64_t)(int8_t)v;
	default: return v;
	}
}

static uint32_t random_float(struct rng *rng)
{
	static const uint32_t special[] = { 0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
					    0xff800000, 0x7fc00000, 0x7f800001, 1, 0x807fffff,
					    0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000 };
	uint32_t v = (uint32_t)rng_u64(rng);

	if (v & 3)
		return (v & 0x807fffff) | (110 + rng_below(rng, 36)) << 23;
	return special[rng_below(rng, sizeof(special) / sizeof(special[0]))];
}

static uint64_t random_double(struct rng *rng)
{
	static const uint64_t special[] = {
		0, 1ull << 63, 0x3ff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
		0x7ff8000000000000, 0x7ff0000000000001, 1, 0x000fffffffffffff, 0x7fefffffffffffff,
		0x41dfffffffc00000, 0xc3e0000000000000,
	};
	uint64_t v = rng_u64(rng);

	if (v & 3)
		return (v & 0x800fffffffffffff) | (uint64_t)(1000 + rng_below(rng, 60)) << 52;
	return special[rng_below(rng, sizeof(special) / sizeof(special[0]))];
}

void random_bytes(struct rng *rng, uint8_t *p, size_t n)
{
	for (size_t at = 0; at < n; at += 32) {
		unsigned kind = rng_below(rng, 4);

		for (unsigned i = 0; i < 4; i++) {
			uint64_t v = rng_u64(rng);

			if (kind == 1)
				v = random_float(rng) | (uint64_t)random_float(rng) << 32;
			else if (kind == 2)
				v = random_double(rng);
			else if (kind == 3)
				v = random_value(rng);
			memcpy(p + at + i * 8, &v, 8);
		}
	}
}

static void random_x87(struct rng *rng, struct xstate *xs)
{
	for (unsigned i = 0; i < 8; i++) {
		uint64_t m = rng_u64(rng) | 1ull << 63;
		uint16_t e = (uint16_t)(16383 - 70 + (int)rng_below(rng, 140));

		switch (rng_below(rng, 10)) {
		case 0: m = 0, e = 0; break;
		case 1: m = 1ull << 63, e = 0x7fff; break;
		case 2: m |= 1ull << 62, e = 0x7fff; break;
		case 3: m >>= 3, e = 0; break;
		case 4: m = 1ull << 63; break;
		default: break;
		}
		e |= (uint16_t)(rng_below(rng, 2) << 15);
		memcpy(xs->st[i], &m, 8);
		memcpy(xs->st[i] + 8, &e, 2);
	}
	xs->fcw = 0x37f;
	if (rng_percent(rng, 30))
		xs->fcw = (uint16_t)(0x7f | rng_below(rng, 16) << 8);
	if (rng_percent(rng, 5))
		xs->fcw &= (uint16_t)~(1u << rng_below(rng, 6));
	xs->fsw = (uint16_t)(rng_below(rng, 8) << 11 | (rng_below(rng, 16) & 7) << 8);
	xs->ftw = rng_percent(rng, 60) ? 0xff : (uint8_t)rng_u64(rng);
}

void random_cpu(struct rng *rng, struct cpu *cpu)
{
	memset(cpu, 0, sizeof(*cpu));
	for (unsigned i = 0; i < 16; i++)
		cpu->gpr[i] = random_value(rng);
	cpu->rflags = (rng_u64(rng) & FL_ARITH) | FL_IF | 2;
	random_x87(rng, &cpu->xs);
	cpu->xs.mxcsr = 0x1f80 | rng_below(rng, 4) << 13;
	if (rng_percent(rng, 10))
		cpu->xs.mxcsr |= 0x8000;
	if (rng_percent(rng, 10))
		cpu->xs.mxcsr |= 0x40;
	if (rng_percent(rng, 10))
		cpu->xs.mxcsr |= rng_below(rng, 64);
	if (rng_percent(rng, 6))
		cpu->xs.mxcsr &= ~(0x80u << rng_below(rng, 6));
	random_bytes(rng, cpu->xs.ymm[0], sizeof(cpu->xs.ymm));
}

/* Where a memory operand of `size` bytes shall be: mostly plain, often across a border. */
uint32_t random_address(struct rng *rng, unsigned size)
{
	const uint32_t middle = (uint32_t)MEM_VA + 0x1000, end = (uint32_t)MEM_END;
	unsigned k = 1 + rng_below(rng, size > 1 ? size - 1 : 1), r = rng_below(rng, 100);

	if (r < 48)
		return (uint32_t)MEM_VA + 0x200 + rng_below(rng, 0x1c0 / 4) * 64;
	if (r < 66)
		return (uint32_t)MEM_VA + 0x200 + rng_below(rng, 0x1b00);
	if (r < 80)
		return middle - k;
	if (r < 85)
		return (uint32_t)MEM_VA + 0x400 + rng_below(rng, 16) * 64 - k;
	if (r < 88)
		return end - size;
	if (r < 92)
		return end - k;
	if (r < 94)
		return (uint32_t)MEM_VA - k;
	if (r < 97)
		return (uint32_t)RO_VA + rng_below(rng, RO_SIZE / 16 - 4) * 16;
	if (r < 98)
		return (uint32_t)RO_VA - k;
	return end + rng_below(rng, 0x800);
}

void case_patch(struct test_case *tc, uint64_t va, const void *bytes, size_t len)
{
	struct patch *p;

	if (tc->patch_count == PATCHES_MAX || va < MEM_VA || len > sizeof(p->bytes) ||
	    va + len > MEM_END)
		return;
	p = &tc->patch[tc->patch_count++];
	p->va = (uint32_t)va;
	p->len = (uint8_t)len;
	memcpy(p->bytes, bytes, len);
}

/* --- the instruction ----------------------------------------------------------------------------- */

void random_choice(struct rng *rng, const struct forms *forms, const struct form *form,
		   struct insn_choice *c)
{
	/* FS is the child's thread pointer; a null GS is no segment for 32-bit code. */
	static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x65 };
	const unsigned regs = forms->mode == MODE_64 ? 16 : 8;
	static const uint8_t disp_sizes[] = { 0, 1, 4 };

	memset(c, 0, sizeof(*c));
	c->reg = (uint8_t)rng_below(rng, regs);
	c->rm = (uint8_t)rng_below(rng, regs);
	c->vvvv = rng_percent(rng, 70) ? (uint8_t)rng_below(rng, regs) : 0;
	c->rex_bare = rng_percent(rng, 20);
	c->base = (int)rng_below(rng, regs);
	c->index = -1;
	c->scale = (uint8_t)rng_below(rng, 4);
	c->disp_size = disp_sizes[rng_below(rng, 3)];
	c->disp = (int32_t)rng_u64(rng);
	if (c->disp_size == 4 && rng_percent(rng, 60))
		c->disp >>= 20;
	if (rng_percent(rng, 40)) {
		c->index = (int)rng_below(rng, regs);
		if (c->index == 4)
			c->index = -1;
	}
	if (rng_percent(rng, 12)) {
		c->base = -1;
		if (rng_percent(rng, 50) && c->index < 0)
			c->rip_relative = forms->mode == MODE_64;
	}
	c->addr_prefix = rng_percent(rng, forms->mode == MODE_64 ? 8 : 2);
	if (rng_percent(rng, 6))
		c->segment = segments[rng_below(rng, forms->mode == MODE_64 ? 5 : 4)];
	c->lock = form->modrm && form->mem && !form->vex && rng_percent(rng, 20);
}

static void set_bytes(uint8_t *at, uint64_t v, unsigned bits)
{
	memcpy(at, &v, bits / 8);
}

void fill_immediates(struct rng *rng, struct insn *insn)
{
	for (unsigned i = 0; i < 2; i++) {
		const unsigned size = insn->d.raw.imm[i].size;

		if (!size || insn->d.raw.imm[i].is_relative)
			continue;
		set_bytes(insn->bytes + insn->d.raw.imm[i].offset, random_value(rng), size);
	}
	if (insn->d.mnemonic == ZYDIS_MNEMONIC_ENTER)
		insn->bytes[insn->d.raw.imm[1].offset] &= 0xe3;
}

struct solver {
	struct rng *rng;
	struct test_case *tc;
	struct insn *insn;
	uint32_t fixed; /* registers whose value an address needs */
};

static void fix(struct solver *s, int reg, uint64_t value, unsigned width)
{
	if (reg < 0 || s->fixed >> reg & 1)
		return;
	/* Above the address size anything may stand. */
	if (width == 32 && rng_percent(s->rng, 50))
		value = (uint32_t)value | rng_u64(s->rng) << 32;
	s->tc->in.gpr[reg] = value;
	s->fixed |= 1u << reg;
}

/* The element indices of a gather around its base. */
static void solve_vsib(struct solver *s, const ZydisDecodedOperand *op, uint64_t *want)
{
	const unsigned reg = (unsigned)(op->mem.index - (op->mem.index >= ZYDIS_REGISTER_YMM0 ?
								 ZYDIS_REGISTER_YMM0 :
								 ZYDIS_REGISTER_XMM0)) & 15;
	const bool wide = s->insn->d.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
			  s->insn->d.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS ||
			  s->insn->d.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD ||
			  s->insn->d.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;

	*want = MEM_VA + 0x1000;
	for (unsigned i = 0; i < (wide ? 4u : 8u); i++) {
		int64_t v = ((int64_t)rng_below(s->rng, 0x1e00) - 0xf00) / (op->mem.scale ? op->mem.scale : 1);

		if (rng_percent(s->rng, 2))
			v *= 4;
		memcpy(s->tc->in.xs.ymm[reg] + i * (wide ? 8 : 4), &v, wide ? 8 : 4);
	}
}

static void solve_memory(struct solver *s, const ZydisDecodedOperand *op)
{
	struct insn *insn = s->insn;
	const unsigned width = insn->d.address_width;
	const int base = gpr_number(op->mem.base), index = gpr_number(op->mem.index);
	const unsigned scale = op->mem.scale ? op->mem.scale : 1;
	uint8_t *disp = insn->bytes + insn->d.raw.disp.offset;
	const unsigned disp_bits = insn->d.raw.disp.size;
	uint64_t want = random_address(s->rng, op->size / 8u), need;

	if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		solve_vsib(s, op, &want);
	if (s->tc->mode == MODE_64 && width == 64 && rng_percent(s->rng, 1))
		want |= 0x8000ull << 40; /* not canonical */
	if (op->mem.segment == ZYDIS_REGISTER_GS)
		want -= GS_BASE;
	need = want - (uint64_t)op->mem.disp.value;
	if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP) {
		set_bytes(disp, want - (s->tc->code_va + insn->len), 32);
		return;
	}
	if (base < 0 && (index < 0 || op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)) {
		if (disp_bits >= 32)
			set_bytes(disp, want, disp_bits);
		return;
	}
	if (base < 0) {
		if (disp_bits == 32 && need % scale)
			set_bytes(disp, (uint64_t)op->mem.disp.value + need % scale, 32);
		fix(s, index, need / scale, width);
	} else if (index < 0 || op->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
		fix(s, base, need, width);
	} else if (base == index) {
		fix(s, base, need / (scale + 1), width);
	} else {
		uint64_t v = rng_below(s->rng, 64);

		if (rng_percent(s->rng, 40))
			v = rng_percent(s->rng, 50) ? -v : random_value(s->rng);
		fix(s, index, v, width);
		fix(s, base, need - s->tc->in.gpr[index] * scale, width);
	}
}

/* A place in this case's slot: everything there but the instruction is INT3. */
static uint32_t landing(struct solver *s)
{
	if (rng_percent(s->rng, 3))
		return 0x30000123; /* not present */
	if (rng_percent(s->rng, 70))
		return s->tc->code_va + s->insn->len + rng_below(s->rng, 24);
	return s->tc->code_va - 1 - rng_below(s->rng, 24);
}

static void solve_branch(struct solver *s, uint64_t memory_at)
{
	struct insn *insn = s->insn;
	const ZydisDecodedOperand *op = &insn->op[0];
	uint64_t target = landing(s);

	if (insn->d.meta.category == ZYDIS_CATEGORY_RET) {
		case_patch(s->tc, s->tc->in.gpr[RSP], &target, 8);
		return;
	}
	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op->imm.is_relative) {
		for (unsigned i = 0; i < 2; i++) {
			if (!insn->d.raw.imm[i].is_relative)
				continue;
			if (insn->d.raw.imm[i].size == 8 && target >> 28 != CODE_VA >> 28)
				target = s->tc->code_va + insn->len;
			set_bytes(insn->bytes + insn->d.raw.imm[i].offset,
				  target - (s->tc->code_va + insn->len), insn->d.raw.imm[i].size);
		}
	} else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		fix(s, gpr_number(op->reg.value), target, 64);
	} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		case_patch(s->tc, memory_at, &target, 8);
	}
}

static uint64_t effective_address(const struct test_case *tc, const struct insn *insn,
				  const ZydisDecodedOperand *op)
{
	const int base = gpr_number(op->mem.base), index = gpr_number(op->mem.index);
	uint64_t ea = (uint64_t)op->mem.disp.value;

	if (op->mem.base == ZYDIS_REGISTER_RIP)
		ea += tc->code_va + insn->len;
	if (base >= 0)
		ea += tc->in.gpr[base];
	if (index >= 0)
		ea += tc->in.gpr[index] * op->mem.scale;
	if (insn->d.address_width == 32)
		ea = (uint32_t)ea;
	return ea + (op->mem.segment == ZYDIS_REGISTER_GS ? GS_BASE : 0);
}

static bool is_repeated(const ZydisDecodedInstruction *d)
{
	return (d->meta.category == ZYDIS_CATEGORY_STRINGOP ||
		d->meta.category == ZYDIS_CATEGORY_IOSTRINGOP) &&
	       (d->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
				 ZYDIS_ATTRIB_HAS_REPNE));
}

/* Registers that single instructions want to be something in particular. */
static void solve_special(struct solver *s, const ZydisDecodedOperand *mem, uint64_t at)
{
	struct test_case *tc = s->tc;
	struct rng *rng = s->rng;
	uint64_t v[2];

	switch (s->insn->d.mnemonic) {
	case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS: case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		if (mem && s->insn->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
			fix(s, gpr_number(s->insn->op[1].reg.value),
			    (uint64_t)((int64_t)rng_below(rng, 0x2000) - 0x1000), 64);
		break;
	case ZYDIS_MNEMONIC_DIV: case ZYDIS_MNEMONIC_IDIV:
		if (rng_percent(rng, 60))
			fix(s, RDX, rng_percent(rng, 70) ? 0 : rng_below(rng, 3) - 1ull, 64);
		break;
	case ZYDIS_MNEMONIC_CMPXCHG:
		if (mem && rng_percent(rng, 50))
			case_patch(tc, at, &tc->in.gpr[RAX], 8);
		break;
	case ZYDIS_MNEMONIC_CMPXCHG8B: case ZYDIS_MNEMONIC_CMPXCHG16B:
		v[0] = tc->in.gpr[RAX], v[1] = tc->in.gpr[RDX];
		if (s->insn->d.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B)
			v[0] = (uint32_t)v[0] | v[1] << 32;
		if (rng_percent(rng, 50))
			case_patch(tc, at, v, s->insn->d.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B ? 8 : 16);
		break;
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
		/* Counts over 16 with 16-bit operands are undefined. */
		tc->in.gpr[RCX] &= ~0x10ull;
		if (s->insn->d.raw.imm[0].size)
			s->insn->bytes[s->insn->d.raw.imm[0].offset] &= 0xef;
		break;
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ:
		v[0] = rng_u64(rng) & 0x3ffed5 & ~(uint64_t)(rng_percent(rng, 80) ? FL_AC : 0);
		case_patch(tc, tc->in.gpr[RSP], v, 8);
		break;
	case ZYDIS_MNEMONIC_LDMXCSR: case ZYDIS_MNEMONIC_VLDMXCSR:
		v[0] = (rng_u64(rng) & 0xffff) | 0x1f80;
		if (rng_percent(rng, 90))
			case_patch(tc, at, v, 4);
		break;
	default:
		break;
	}
	if (is_repeated(&s->insn->d))
		/* Not 0 for INS and OUTS: is the port checked then? */
		fix(s, RCX, (rng_percent(rng, 90) ? rng_below(rng, 40) : rng_below(rng, 3000)) +
				    (s->insn->d.meta.category == ZYDIS_CATEGORY_IOSTRINGOP),
		    s->insn->d.address_width);
}

static const uint16_t cpl3_only[] = {
	ZYDIS_MNEMONIC_POPF, ZYDIS_MNEMONIC_POPFD, ZYDIS_MNEMONIC_POPFQ, ZYDIS_MNEMONIC_SMSW,
	ZYDIS_MNEMONIC_INVLPG, ZYDIS_MNEMONIC_INVPCID, ZYDIS_MNEMONIC_WBINVD, ZYDIS_MNEMONIC_INVD,
	ZYDIS_MNEMONIC_SWAPGS, ZYDIS_MNEMONIC_RSM, ZYDIS_MNEMONIC_CLAC, ZYDIS_MNEMONIC_STAC,
};

bool insn_privileged(const ZydisDecodedInstruction *d)
{
	return (d->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) || d->meta.category == ZYDIS_CATEGORY_IO ||
	       d->meta.category == ZYDIS_CATEGORY_IOSTRINGOP || d->mnemonic == ZYDIS_MNEMONIC_CLI ||
	       d->mnemonic == ZYDIS_MNEMONIC_STI;
}

/* Segment registers, IOPL, privileges: CPL 0 is another world. */
bool insn_cpl3_only(const struct insn *insn)
{
	if (insn_privileged(&insn->d) || insn->d.meta.category == ZYDIS_CATEGORY_SYSTEM)
		return true;
	for (unsigned i = 0; i < insn->d.operand_count_visible; i++) {
		ZydisRegisterClass class = insn->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ?
			ZydisRegisterGetClass(insn->op[i].reg.value) : ZYDIS_REGCLASS_INVALID;

		if (class == ZYDIS_REGCLASS_SEGMENT || class == ZYDIS_REGCLASS_CONTROL ||
		    class == ZYDIS_REGCLASS_DEBUG)
			return true;
	}
	for (size_t i = 0; i < sizeof(cpl3_only) / sizeof(cpl3_only[0]); i++) {
		if (cpl3_only[i] == insn->d.mnemonic)
			return true;
	}
	return false;
}

/* Two operands in memory, or one that is read in pieces: which fault comes first differs. */
bool insn_any_fault(const struct insn *insn)
{
	switch (insn->d.mnemonic) {
	case ZYDIS_MNEMONIC_CMPSB: case ZYDIS_MNEMONIC_CMPSW: case ZYDIS_MNEMONIC_CMPSQ:
	case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR: case ZYDIS_MNEMONIC_ENTER:
		return true;
	case ZYDIS_MNEMONIC_MOVSB: case ZYDIS_MNEMONIC_MOVSW: case ZYDIS_MNEMONIC_MOVSQ:
		return true;
	case ZYDIS_MNEMONIC_CMPSD: case ZYDIS_MNEMONIC_MOVSD:
		return insn->d.meta.category == ZYDIS_CATEGORY_STRINGOP;
	default:
		return false;
	}
}

static bool solve(struct solver *s, const struct forms *forms)
{
	struct insn *insn = s->insn;
	int first = -1;
	uint64_t at = 0;

	if (rng_percent(s->rng, 50))
		fix(s, RBP, random_address(s->rng, 8), 64);
	s->fixed &= ~(1u << RBP);
	for (unsigned i = 0; i < insn->d.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
			continue;
		if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && gpr_number(op->mem.base) == RSP)
			continue; /* the stack is where it is */
		solve_memory(s, op);
		if (!insn_decode(forms, insn))
			return false;
		if (first < 0)
			first = (int)i;
	}
	if (first >= 0)
		at = effective_address(s->tc, insn, &insn->op[first]);
	solve_special(s, first >= 0 ? &insn->op[first] : NULL, at);
	if (insn->d.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE) {
		if (first >= 0)
			at = effective_address(s->tc, insn, &insn->op[first]);
		solve_branch(s, at);
	}
	return insn_decode(forms, insn);
}

static bool try_single(struct test_case *tc, const struct forms *forms, const struct form *form,
		       struct rng *rng)
{
	struct insn insn;
	struct insn_choice choice;
	struct solver s = { .rng = rng, .tc = tc, .insn = &insn };

	random_choice(rng, forms, form, &choice);
	if (!encode(forms, form, &choice, rng, &insn)) {
		/* The usual reasons: an operand that must be unused, and LOCK. */
		choice.vvvv = 0;
		choice.lock = false;
		if (!encode(forms, form, &choice, rng, &insn))
			return false;
	}
	/* PAUSE with REX.B is XCHG on some processors. */
	if (insn.d.mnemonic == ZYDIS_MNEMONIC_PAUSE && insn.d.raw.rex.B)
		return false;
	if (insn.d.mnemonic == ZYDIS_MNEMONIC_MOV && insn.op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    ZydisRegisterGetClass(insn.op[0].reg.value) == ZYDIS_REGCLASS_SEGMENT)
		return false;
	fill_immediates(rng, &insn);
	random_cpu(rng, &tc->in);
	tc->patch_count = 0;
	tc->in.gpr[RSP] = rng_percent(rng, 75) ? MEM_VA + 0x1000 + rng_below(rng, 0x100) * 8 :
						 random_address(rng, 8);
	s.fixed = 0;
	if (insn.d.meta.category == ZYDIS_CATEGORY_STRINGOP && rng_percent(rng, 50))
		tc->in.rflags |= FL_DF;
	if (!insn_decode(forms, &insn) || !solve(&s, forms) || insn.d.mnemonic != form->mnemonic)
		return false;
	tc->undefined = undefined_flags(&insn.d);
	tc->cpl3_only = insn_cpl3_only(&insn);
	tc->any_fault = insn_any_fault(&insn);
	memcpy(tc->code, insn.bytes, insn.len);
	tc->code_len = insn.len;
	return true;
}

void generate_single(struct test_case *tc, const struct forms *forms, uint64_t seed, uint64_t index)
{
	struct rng rng = rng_make(seed, index * 4 + forms->mode);
	const size_t m = index % forms->mnemonic_count;
	const struct form *form = &forms->form[forms->first[m]];
	const uint32_t slot = (uint32_t)(index % CODE_SLOTS);

	memset(tc, 0, offsetof(struct test_case, in));
	tc->seed = seed;
	tc->index = index;
	tc->mode = forms->mode;
	tc->template = (uint16_t)rng_below(&rng, TEMPLATES);
	tc->code_va = (uint32_t)CODE_VA + slot * CODE_SLOT + 64;
	/* The last slot of a page: often across its end. */
	if (slot % 8 == 7 && rng_percent(&rng, 50))
		tc->code_va = (uint32_t)CODE_VA + (slot + 1) * CODE_SLOT - 1 - rng_below(&rng, 12);
	snprintf(tc->name, sizeof(tc->name), "%s", ZydisMnemonicGetString(form->mnemonic));
	for (unsigned tries = 0; tries < 200; tries++) {
		const struct form *f = form + rng_below(&rng, forms->first[m + 1] - forms->first[m]);

		if (try_single(tc, forms, f, &rng))
			break;
	}
	tc->in.rip = tc->code_va;
}
