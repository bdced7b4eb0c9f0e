/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step_vector.c - vector instructions whose memory accesses depend on vector registers: masked moves
 * (lanes that are off must not fault) and gathers (one address per lane).
 */
#include "vmx-driver/soft/step.h"

#define X87_FSW 2u
#define X87_TAGS 4u
#define X87_ST 32u
#define SSE_XMM 160u
#define XSTATE_BV 512u
#define AVX_YMM_HIGH 576u /* standard format, SDM 1 13.4.3 */

enum { COMPONENT_X87 = 1, COMPONENT_SSE = 2, COMPONENT_AVX = 4 };

/* Brings the FP state into v->xsave with the components there in full, also those which are in
 * their initial configuration. */
static void open_vectors(struct soft_vcpu *v, bool avx)
{
	uint64_t bv, want = COMPONENT_SSE | (avx ? COMPONENT_AVX : 0);

	soft_fp_save(v);
	soft_copy(&bv, v->xsave + XSTATE_BV, sizeof(bv));
	if (!(bv & COMPONENT_SSE))
		soft_zero(v->xsave + SSE_XMM, 256);
	if (avx && !(bv & COMPONENT_AVX))
		soft_zero(v->xsave + AVX_YMM_HIGH, 256);
	bv |= want;
	soft_copy(v->xsave + XSTATE_BV, &bv, sizeof(bv));
}

/* XMM or YMM register number; *ret_size 16 or 32. */
static bool vector_register(ZydisRegister reg, unsigned *ret_index, unsigned *ret_size)
{
	if (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_XMM15) {
		*ret_index = (unsigned)(reg - ZYDIS_REGISTER_XMM0);
		*ret_size = 16;
	} else if (reg >= ZYDIS_REGISTER_YMM0 && reg <= ZYDIS_REGISTER_YMM15) {
		*ret_index = (unsigned)(reg - ZYDIS_REGISTER_YMM0);
		*ret_size = 32;
	} else {
		return false;
	}
	return true;
}

static void get_vector(const struct soft_vcpu *v, unsigned index, uint8_t out[32])
{
	soft_copy(out, v->xsave + SSE_XMM + 16 * index, 16);
	soft_copy(out + 16, v->xsave + AVX_YMM_HIGH + 16 * index, 16);
}

static void set_vector(struct soft_vcpu *v, unsigned index, const uint8_t in[32])
{
	soft_copy(v->xsave + SSE_XMM + 16 * index, in, 16);
	soft_copy(v->xsave + AVX_YMM_HIGH + 16 * index, in + 16, 16);
}

/* --- MASKMOVQ, (V)MASKMOVDQU: bytes at DS:rDI ----------------------------------------------- */

/* The x87 image in full; the register stack's top. */
static unsigned open_x87(struct soft_vcpu *v, uint16_t *fsw)
{
	static const uint8_t fcw[2] = { 0x7f, 0x03 };
	uint64_t bv;

	soft_copy(&bv, v->xsave + XSTATE_BV, sizeof(bv));
	if (!(bv & COMPONENT_X87)) {
		soft_zero(v->xsave, 24);
		soft_copy(v->xsave, fcw, 2);
		soft_zero(v->xsave + X87_ST, 128);
		bv |= COMPONENT_X87;
		soft_copy(v->xsave + XSTATE_BV, &bv, sizeof(bv));
	}
	soft_copy(fsw, v->xsave + X87_FSW, 2);
	return *fsw >> 11 & 7;
}

/* An MMX instruction leaves the x87 stack top at 0 and all registers valid. The image keeps the
 * registers in stack order, so they turn with it. */
static void enter_mmx(struct soft_vcpu *v)
{
	uint8_t st[128];
	uint16_t fsw;
	unsigned top = open_x87(v, &fsw);

	soft_copy(st, v->xsave + X87_ST, 128);
	for (unsigned i = 0; i < 8; i++)
		soft_copy(v->xsave + X87_ST + 16 * i, st + 16 * ((i - top) & 7), 16);
	fsw &= (uint16_t)~(7u << 11);
	soft_copy(v->xsave + X87_FSW, &fsw, 2);
	v->xsave[X87_TAGS] = 0xff;
}

/* Data and mask of MASKMOVQ; #MF if an x87 exception is pending. */
static int mmx_operands(struct soft_vcpu *v, const struct soft_insn *insn, uint8_t *data,
			uint8_t *mask)
{
	unsigned a = (unsigned)(insn->op[0].reg.value - ZYDIS_REGISTER_MM0);
	unsigned b = (unsigned)(insn->op[1].reg.value - ZYDIS_REGISTER_MM0), top;
	uint16_t fsw;

	top = open_x87(v, &fsw);
	if (fsw & 0x80)
		return soft_raise(v, EXC_MF);
	soft_copy(data, v->xsave + X87_ST + 16 * ((a - top) & 7), 8);
	soft_copy(mask, v->xsave + X87_ST + 16 * ((b - top) & 7), 8);
	return SOFT_OK;
}

/* Stores the bytes whose mask byte has its top bit set. As on the processors that this was compared
 * with (the manual leaves it open) all n must be writable, and segment and page of the first HALF of
 * them are looked at before those of the second. */
#define HALF 8u
static int store_bytes(struct soft_vcpu *v, unsigned seg, uint64_t offset, uint64_t offset_mask,
		       const uint8_t *data, const uint8_t *mask, unsigned n)
{
	uint64_t la[2] = { 0, 0 };
	int rc = SOFT_OK;

	for (unsigned i = 0; i < n && rc == SOFT_OK; i += HALF) {
		rc = soft_linear(v, seg, (offset + i) & offset_mask, HALF, true, &la[i / HALF]);
		if (rc == SOFT_OK)
			rc = soft_probe(v, la[i / HALF], HALF, ACC_WRITE);
	}
	for (unsigned i = 0; i < n && rc == SOFT_OK; i++)
		if (mask[i] & 0x80)
			rc = soft_write(v, la[i / HALF] + i % HALF, &data[i], 1, ACC_WRITE);
	return rc;
}

int soft_op_masked_store_implicit(struct soft_vcpu *v, const struct soft_insn *insn)
{
	bool mmx = insn->zi.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
	uint8_t data[32], mask[32];
	unsigned a, b, size, seg;
	uint64_t offset;
	int rc;

	open_vectors(v, insn->fp == FP_AVX);
	if (mmx) {
		rc = mmx_operands(v, insn, data, mask);
		if (rc)
			return rc;
		enter_mmx(v); /* even if the store faults */
	} else {
		if (!vector_register(insn->op[0].reg.value, &a, &size) ||
		    !vector_register(insn->op[1].reg.value, &b, &size))
			return soft_raise(v, EXC_UD);
		soft_copy(data, v->xsave + SSE_XMM + 16 * a, 16);
		soft_copy(mask, v->xsave + SSE_XMM + 16 * b, 16);
	}
	soft_ea(v, insn, 2, &seg, &offset);
	rc = store_bytes(v, seg, offset, soft_mask(insn->zi.address_width / 8), data, mask,
			 mmx ? HALF : 2 * HALF);
	return rc ? rc : soft_done(v);
}

/* --- VMASKMOVPS/PD, VPMASKMOVD/Q ------------------------------------------------------------ */

struct lanes {
	unsigned seg, size, count; /* size: bytes of a lane */
	uint64_t offset, offset_mask;
	uint8_t mask[32];
};

static bool lane_on(const struct lanes *l, unsigned i)
{
	return l->mask[i * l->size + l->size - 1] & 0x80;
}

/* Each lane that is on: ACC_WRITE checks, then stores it from buf; 0 loads it into buf. */
static int move_lanes(struct soft_vcpu *v, const struct lanes *l, uint8_t *buf, unsigned flags,
		      bool probe)
{
	uint64_t la;
	int rc;

	for (unsigned i = 0; i < l->count; i++) {
		if (!lane_on(l, i))
			continue;
		rc = soft_linear(v, l->seg, (l->offset + i * l->size) & l->offset_mask, l->size,
				 flags & ACC_WRITE, &la);
		if (rc == SOFT_OK && probe)
			rc = soft_probe(v, la, l->size, flags);
		else if (rc == SOFT_OK && (flags & ACC_WRITE))
			rc = soft_write(v, la, buf + i * l->size, l->size, flags);
		else if (rc == SOFT_OK)
			rc = soft_read(v, la, buf + i * l->size, l->size, flags);
		if (rc)
			return rc;
	}
	return SOFT_OK;
}

int soft_op_masked_move(struct soft_vcpu *v, const struct soft_insn *insn)
{
	bool store = insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	unsigned mask_reg, data_reg, bytes;
	uint8_t data[32];
	struct lanes l;
	int rc = SOFT_OK;

	if (!vector_register(insn->op[1].reg.value, &mask_reg, &bytes) ||
	    !vector_register(insn->op[store ? 2 : 0].reg.value, &data_reg, &bytes))
		return soft_raise(v, EXC_UD);
	soft_ea(v, insn, (unsigned)insn->mem[0], &l.seg, &l.offset);
	l.offset_mask = soft_mask(insn->zi.address_width / 8);
	l.size = insn->zi.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS ||
				 insn->zi.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD ?
			 4 : 8;
	l.count = bytes / l.size;
	open_vectors(v, true);
	get_vector(v, mask_reg, l.mask);
	if (store) {
		get_vector(v, data_reg, data);
		rc = move_lanes(v, &l, data, ACC_WRITE, true);
		if (rc == SOFT_OK)
			rc = move_lanes(v, &l, data, ACC_WRITE, false);
	} else {
		soft_zero(data, sizeof(data));
		rc = move_lanes(v, &l, data, 0, false);
		if (rc == SOFT_OK)
			set_vector(v, data_reg, data);
	}
	return rc ? rc : soft_done(v);
}

/* --- VGATHER*, VPGATHER* (AVX2) ------------------------------------------------------------- */

struct gather {
	unsigned element, index_size, count, seg;
	uint64_t base, offset_mask;
	uint8_t scale;
	unsigned dest_reg, mask_reg;
	uint8_t dest[32], mask[32], index[32];
};

static uint64_t gather_offset(const struct gather *g, unsigned i)
{
	int64_t index;
	int32_t index32;

	if (g->index_size == 4) {
		soft_copy(&index32, g->index + 4 * i, 4);
		index = index32;
	} else {
		soft_copy(&index, g->index + 8 * i, 8);
	}
	return (g->base + (uint64_t)index * g->scale) & g->offset_mask;
}

static bool gather_sizes(ZydisMnemonic mnemonic, struct gather *g)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VPGATHERDD:
		g->index_size = 4;
		g->element = 4;
		return true;
	case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VPGATHERDQ:
		g->index_size = 4;
		g->element = 8;
		return true;
	case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VPGATHERQD:
		g->index_size = 8;
		g->element = 4;
		return true;
	case ZYDIS_MNEMONIC_VGATHERQPD:
	case ZYDIS_MNEMONIC_VPGATHERQQ:
		g->index_size = 8;
		g->element = 8;
		return true;
	default:
		return false;
	}
}

static bool gather_open(struct soft_vcpu *v, const struct soft_insn *insn, struct gather *g)
{
	unsigned dest_bytes, index_bytes, mask_bytes, index_reg, lanes;

	if (insn->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX ||
	    !gather_sizes(insn->zi.mnemonic, g) ||
	    !vector_register(insn->op[0].reg.value, &g->dest_reg, &dest_bytes) ||
	    !vector_register(insn->op[1].mem.index, &index_reg, &index_bytes) ||
	    !vector_register(insn->op[2].reg.value, &g->mask_reg, &mask_bytes) ||
	    g->dest_reg == g->mask_reg || g->dest_reg == index_reg || g->mask_reg == index_reg)
		return false;
	lanes = index_bytes / g->index_size;
	g->count = dest_bytes / g->element;
	if (lanes < g->count)
		g->count = lanes;
	soft_ea(v, insn, 1, &g->seg, &g->base);
	g->offset_mask = soft_mask(insn->zi.address_width / 8);
	g->scale = insn->op[1].mem.scale ? insn->op[1].mem.scale : 1;
	open_vectors(v, true);
	get_vector(v, g->dest_reg, g->dest);
	get_vector(v, g->mask_reg, g->mask);
	get_vector(v, index_reg, g->index);
	return true;
}

/* A fault keeps the elements that were loaded before it: their mask elements are cleared. */
int soft_op_gather(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct gather g;
	uint64_t la;
	unsigned used;
	int rc = SOFT_OK;

	if (!gather_open(v, insn, &g))
		return soft_raise(v, EXC_UD);
	for (unsigned i = 0; i < g.count; i++) {
		if (g.mask[(i + 1) * g.element - 1] & 0x80) {
			rc = soft_linear(v, g.seg, gather_offset(&g, i), g.element, false, &la);
			if (rc == SOFT_OK)
				rc = soft_read(v, la, g.dest + i * g.element, g.element, 0);
			if (rc)
				break;
		}
		soft_zero(g.mask + i * g.element, g.element);
	}
	if (rc == SOFT_EXIT) /* from the start again, with what was read in the log */
		return rc;
	if (rc == SOFT_OK) {
		used = g.count * g.element;
		soft_zero(g.mask, sizeof(g.mask));
		soft_zero(g.dest + used, (unsigned)sizeof(g.dest) - used);
	}
	set_vector(v, g.dest_reg, g.dest);
	set_vector(v, g.mask_reg, g.mask);
	return rc ? rc : soft_done(v);
}
