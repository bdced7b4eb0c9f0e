/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c - bytes of a form with chosen registers and address; the decoder has the last word. */
#include "tests/insn/insn.h"

#include <string.h>

bool insn_decode(const struct forms *forms, struct insn *insn)
{
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&forms->decoder, insn->bytes, 15, &insn->d, insn->op)))
		return false;
	insn->len = insn->d.length;
	return true;
}

int gpr_number(ZydisRegister reg)
{
	ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (full < ZYDIS_REGISTER_RAX || full > ZYDIS_REGISTER_R15)
		return -1;
	return (int)(full - ZYDIS_REGISTER_RAX);
}

/* mod, rm, SIB and displacement of a memory operand. disp32 where there is no base. */
static uint8_t *put_memory(const struct insn_choice *c, unsigned reg, uint8_t mode, uint8_t *p)
{
	static const uint8_t mods[] = { 0, 1, 2, 2, 2 };
	unsigned disp_size = c->disp_size, base = (unsigned)c->base & 7, rm;
	bool sib;

	if (c->rip_relative || (c->base < 0 && c->index < 0 && mode == MODE_32 && !(c->scale & 1))) {
		*p++ = (uint8_t)(reg << 3 | 5);
		memcpy(p, &c->disp, 4);
		return p + 4;
	}
	sib = c->base < 0 || c->index >= 0 || base == 4;
	if (c->base >= 0 && base == 5 && disp_size == 0)
		disp_size = 1;
	rm = sib ? 4 : base;
	*p++ = (uint8_t)((c->base < 0 ? 0 : mods[disp_size]) << 6 | reg << 3 | rm);
	if (sib)
		*p++ = (uint8_t)(c->scale << 6 | (c->index < 0 ? 4 : (unsigned)c->index & 7) << 3 |
				 (c->base < 0 ? 5 : base));
	if (c->base < 0)
		disp_size = 4;
	memcpy(p, &c->disp, disp_size);
	return p + disp_size;
}

/* 16-bit addressing: the eight fixed sums. */
static uint8_t *put_memory16(const struct insn_choice *c, unsigned reg, uint8_t *p)
{
	unsigned mod = c->disp_size == 0 ? 0 : c->disp_size == 1 ? 1 : 2, rm = (unsigned)c->base & 7;
	unsigned size = mod == 0 ? (rm == 6 ? 2 : 0) : mod;

	*p++ = (uint8_t)(mod << 6 | reg << 3 | rm);
	memcpy(p, &c->disp, size);
	return p + size;
}

static uint8_t *put_legacy_prefixes(const struct form *f, const struct insn_choice *c, uint8_t mode,
				    unsigned rex, uint8_t *p)
{
	if (c->segment)
		*p++ = c->segment;
	if (c->lock)
		*p++ = 0xf0;
	if (c->addr_prefix)
		*p++ = 0x67;
	if (f->vex)
		return p;
	if (f->pp & 1)
		*p++ = 0x66;
	if (f->pp & 2)
		*p++ = 0xf2;
	if (f->pp & 4)
		*p++ = 0xf3;
	if (mode == MODE_64 && (rex || c->rex_bare))
		*p++ = (uint8_t)(0x40 | rex);
	return p;
}

bool encode(const struct forms *forms, const struct form *f, const struct insn_choice *c,
	    struct rng *rng, struct insn *ret)
{
	static const uint8_t escape[] = { 0, 0x0f, 0x38, 0x3a };
	unsigned reg = f->reg >= 0 ? (unsigned)f->reg : c->reg;
	unsigned rm = f->rm >= 0 ? (unsigned)f->rm : c->rm;
	bool m16 = forms->mode == MODE_32 && c->addr_prefix;
	unsigned r = reg >> 3, x = 0, b = 0;
	uint8_t *p = ret->bytes;

	memset(ret, 0, sizeof(*ret));
	if (f->modrm && f->mem && !m16) {
		x = c->index >= 0 ? (unsigned)c->index >> 3 : 0;
		b = c->base >= 0 ? (unsigned)c->base >> 3 : 0;
	} else {
		b = rm >> 3;
	}
	p = put_legacy_prefixes(f, c, forms->mode, f->w << 3 | r << 2 | x << 1 | b, p);
	if (f->vex && f->map == MAP_0F && !f->w && !x && !b && rng_percent(rng, 60)) {
		*p++ = 0xc5;
		*p++ = (uint8_t)((!r) << 7 | (~c->vvvv & 15) << 3 | f->l << 2 | f->pp);
	} else if (f->vex) {
		*p++ = 0xc4;
		*p++ = (uint8_t)((!r) << 7 | (!x) << 6 | (!b) << 5 | f->map);
		*p++ = (uint8_t)(f->w << 7 | (~c->vvvv & 15) << 3 | f->l << 2 | f->pp);
	} else if (f->map) {
		*p++ = 0x0f;
		if (f->map > MAP_0F)
			*p++ = escape[f->map];
	}
	*p++ = f->opcode;
	if (f->modrm && f->mem)
		p = m16 ? put_memory16(c, reg & 7, p) : put_memory(c, reg & 7, forms->mode, p);
	else if (f->modrm)
		*p++ = (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7));
	/* Whatever immediate follows. */
	while (p < ret->bytes + 15)
		*p++ = (uint8_t)rng_u64(rng);
	return insn_decode(forms, ret) && ret->d.mnemonic == f->mnemonic;
}
