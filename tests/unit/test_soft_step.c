/* SPDX-License-Identifier: Apache-2.0 */
/* The stepper alone: decoding, control flow, native operands, debug, restarts. */
#include <string.h>

#include "common/checked.h"
#include "tests/unit/soft_rig.h"
#include "tests/unit/unit.h"

/* --- decoding ------------------------------------------------------------------------------- */
static const struct {
	uint8_t bytes[8], len, code, fp;
	int8_t mem;
	bool lock, allowed;
	soft_op_fn *fn;
} classes[] = {
	{ { 0x01, 0x03 }, 2, CODE_64, FP_NONE, 0, false, true, NULL },
	{ { 0xf0, 0x01, 0x03 }, 3, CODE_64, FP_NONE, 0, true, true, NULL },
	{ { 0x87, 0x03 }, 2, CODE_64, FP_NONE, 0, true, true, NULL },
	{ { 0x87, 0xc3 }, 2, CODE_64, FP_NONE, -1, false, true, NULL },
	{ { 0x8d, 0x03 }, 2, CODE_64, FP_NONE, -1, false, true, soft_op_lea },
	{ { 0x0f, 0x1f, 0x44, 0, 0 }, 5, CODE_64, FP_NONE, -1, false, true, soft_op_nop },
	{ { 0xf3, 0x0f, 0x1e, 0xfa }, 4, CODE_64, FP_NONE, -1, false, true, soft_op_nop },
	{ { 0x66, 0x0f, 0x1a, 0xc0 }, 4, CODE_64, FP_NONE, -1, false, true, soft_op_nop },
	{ { 0x0f, 0x0d, 0x08 }, 3, CODE_64, FP_NONE, -1, false, true, soft_op_nop },
	{ { 0x90 }, 1, CODE_64, FP_NONE, -1, false, true, soft_op_nop },
	{ { 0xd9, 0x00 }, 2, CODE_64, FP_X87, 0, false, true, NULL },
	{ { 0x9b }, 1, CODE_64, FP_X87, -1, false, true, NULL },
	{ { 0x0f, 0x77 }, 2, CODE_64, FP_MMX, -1, false, true, NULL },
	{ { 0x0f, 0x6f, 0x00 }, 3, CODE_64, FP_MMX, 1, false, true, NULL },
	{ { 0x0f, 0x28, 0x00 }, 3, CODE_64, FP_SSE, 1, false, true, NULL },
	{ { 0x0f, 0xae, 0x10 }, 3, CODE_64, FP_SSE, 0, false, true, NULL },
	{ { 0xc5, 0xf8, 0x28, 0x00 }, 4, CODE_64, FP_AVX, 1, false, true, NULL },
	{ { 0xc5, 0xf8, 0x77 }, 3, CODE_64, FP_AVX, -1, false, true, NULL },
	{ { 0xc4, 0xe2, 0x78, 0xf2, 0xc0 }, 5, CODE_64, FP_NONE, -1, false, true, NULL },
	{ { 0x0f, 0xc3, 0x03 }, 3, CODE_64, FP_NONE, 0, false, true, NULL }, /* MOVNTI */
	{ { 0xf2, 0x0f, 0x10, 0x00 }, 4, CODE_64, FP_SSE, 1, false, true, NULL }, /* MOVSD */
	{ { 0xa5 }, 1, CODE_64, FP_NONE, 0, false, true, soft_op_movs },
	{ { 0xa7 }, 1, CODE_64, FP_NONE, 0, false, true, soft_op_cmps },
	{ { 0x6d }, 1, CODE_64, FP_NONE, 0, false, true, soft_op_ins },
	{ { 0x75, 0 }, 2, CODE_64, FP_NONE, -1, false, true, soft_op_jcc },
	{ { 0xe3, 0 }, 2, CODE_64, FP_NONE, -1, false, true, soft_op_jcxz },
	{ { 0xff, 0x20 }, 2, CODE_64, FP_NONE, 0, false, true, soft_op_jmp },
	{ { 0xff, 0x28 }, 2, CODE_64, FP_NONE, 0, false, true, soft_op_jmp_far },
	{ { 0xcb }, 1, CODE_64, FP_NONE, 2, false, true, soft_op_ret_far },
	{ { 0x0f, 0x22, 0xc0 }, 3, CODE_64, FP_NONE, -1, false, true, soft_op_mov_system },
	{ { 0x8e, 0xd8 }, 2, CODE_64, FP_NONE, -1, false, true, soft_op_mov_to_sreg },
	{ { 0x0f, 0xab, 0x03 }, 3, CODE_64, FP_NONE, 0, false, true, soft_op_bit_memory },
	{ { 0x0f, 0xba, 0x2b, 3 }, 4, CODE_64, FP_NONE, 0, false, true, NULL },
	{ { 0x40 }, 1, CODE_32, FP_NONE, -1, false, true, soft_op_inc_short },
	{ { 0xff, 0xc0 }, 2, CODE_32, FP_NONE, -1, false, true, NULL },
	{ { 0xfc }, 1, CODE_64, FP_NONE, -1, false, true, soft_op_cld },
	{ { 0x0f, 0x0b }, 2, CODE_64, FP_NONE, -1, false, true, soft_op_ud },
	/* Nobody has an operation for these here: they must not run on the host. */
	{ { 0xf4 }, 1, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0xfa }, 1, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0x0f, 0x05 }, 2, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0xcd, 0x80 }, 2, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0xcc }, 1, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0xe4, 0x10 }, 2, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0x0f, 0x30 }, 2, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0x0f, 0x31 }, 2, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0x0f, 0xa2 }, 2, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0xf3, 0x48, 0x0f, 0xae, 0xd0 }, 5, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0xf3, 0x0f, 0x01, 0xe0 + 8 }, 4, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0x0f, 0x01, 0xd8 }, 3, CODE_64, FP_NONE, -1, false, false, NULL }, /* VMRUN */
	{ { 0x0f, 0x01, 0xd9 }, 3, CODE_64, FP_NONE, -1, false, false, NULL },
	{ { 0x66, 0x0f, 0x79, 0xc1 }, 4, CODE_64, FP_SSE, -1, false, false, NULL }, /* SSE4a */
	{ { 0x9d }, 1, CODE_64, FP_NONE, 1, false, false, NULL },
};

static void test_classes(void)
{
	struct rig *r = rig_new(CODE_64);

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		struct soft_insn insn;
		bool too_short = true, ok;

		ok = soft_decode_into(&r->vm, classes[i].bytes, classes[i].len, classes[i].code, &insn,
				      &too_short);
		if (!ok) { /* some need not decode at all */
			CU_ASSERT_FALSE(classes[i].allowed);
			continue;
		}
		if (insn.len != classes[i].len || insn.fp != classes[i].fp ||
		    (classes[i].allowed && insn.mem[0] != classes[i].mem) ||
		    insn.lock != classes[i].lock || insn.allowed != classes[i].allowed ||
		    (insn.soft_op ? insn.soft_op->fn : NULL) != classes[i].fn) {
			printf("\n  case %zu: len %u fp %u mem %d lock %d allowed %d op %p\n", i,
			       insn.len, insn.fp, insn.mem[0], insn.lock, insn.allowed,
			       (const void *)insn.soft_op);
			CU_FAIL("classification");
		}
	}
	rig_free(r);
}

static void test_decode_cache(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t add[] = { 0x01, 0xc3, 0x90 }, sub[] = { 0x29, 0xc3, 0x90 };
	bool too_short;
	const struct soft_insn *a, *b;

	r->v.rip = 0x1000;
	a = soft_decode(&r->v, add, 3, CODE_64, &too_short);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_EQUAL(r->fp_saves, 1);
	b = soft_decode(&r->v, add, 3, CODE_64, &too_short);
	CU_ASSERT_PTR_EQUAL(a, b);
	CU_ASSERT_EQUAL(r->fp_saves, 1);
	CU_ASSERT_PTR_NULL(soft_decode(&r->v, add, 1, CODE_64, &too_short));
	CU_ASSERT_TRUE(too_short);
	b = soft_decode(&r->v, sub, 3, CODE_64, &too_short);
	CU_ASSERT_EQUAL(b->zi.mnemonic, ZYDIS_MNEMONIC_SUB);
	b = soft_decode(&r->v, sub, 3, CODE_32, &too_short);
	CU_ASSERT_EQUAL(b->code, CODE_32);
	CU_ASSERT_PTR_NULL(soft_decode(&r->v, (const uint8_t *)"\xf0\x89\x03", 3, CODE_64, &too_short));
	CU_ASSERT_FALSE(too_short); /* LOCK MOV */
	rig_free(r);
}

static void test_fetch_faults(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t jmp[] = { 0xe9, 1, 2 };

	memcpy(rig_at(r, RIG_MISSING - 3), jmp, 3);
	r->v.rip = RIG_MISSING - 3;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_PF);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING);
	CU_ASSERT_EQUAL(r->v.rip, RIG_MISSING - 3);
	/* 16 bytes */
	CODE(r, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
	     0x66, 0x90);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	CODE(r, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
	     0x90);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 15);
	CODE(r, 0x06); /* PUSH ES */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_UD);
	r->v.rip = 0x0000800000000000ull;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	rig_free(r);
	r = rig_new(CODE_16); /* the last byte of the segment, and one more */
	r->v.seg[SOFT_CS].limit = 0x0fff;
	*rig_at(r, RIG_CODE + 0xfff) = 0xb0;
	r->v.rip = 0xfff;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	*rig_at(r, RIG_CODE + 0xfff) = 0x90;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.rip, 0x1000);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	rig_free(r);
}

/* --- flags and mode ------------------------------------------------------------------------- */
static void test_real_mode_vex(void)
{
	static const uint8_t andn[] = { 0xc4, 0xe2, 0x78, 0xf2, 0xc0 };
	struct rig *r = rig_new(CODE_16);

	rig_code(r, andn, 5); /* no FP, but VEX needs protected mode */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_UD);
	r->v.cr0 |= CR0_PE;
	soft_update_mode(&r->v);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	rig_free(r);
}

static void test_flags(void)
{
	struct rig *r = rig_new(CODE_64);

	soft_set_rflags(&r->v, ~0ull);
	CU_ASSERT_EQUAL(soft_get_rflags(&r->v), 0x3f7fd7);
	CU_ASSERT_EQUAL(r->v.aflags, 0xd701);
	soft_set_rflags(&r->v, 0);
	CU_ASSERT_EQUAL(soft_get_rflags(&r->v), 2);
	CU_ASSERT_EQUAL(r->v.rflags & FL_ARITH, 0);
	soft_set_rflags(&r->v, FL_TF);
	CU_ASSERT_TRUE(r->v.mode & MODE_SLOW);
	soft_set_rflags(&r->v, 0);
	CU_ASSERT_EQUAL(r->v.mode, (uint32_t)(CODE_64 | MODE_SSE | MODE_AVX));
	CU_ASSERT_EQUAL(r->v.ctx, CTX_KERNEL);
	r->v.cr4 |= CR4_SMAP;
	r->flushes = 0;
	soft_set_rflags(&r->v, FL_AC);
	CU_ASSERT_EQUAL(r->v.ctx, CTX_KERNEL_AC);
	CU_ASSERT_EQUAL(r->flushes, 1);
	soft_set_rflags(&r->v, 0);
	soft_set_rflags(&r->v, FL_AC);
	CU_ASSERT_EQUAL(r->flushes, 1); /* each context still has its own mode */
	r->v.cpl = 3;
	soft_update_mode(&r->v);
	CU_ASSERT_EQUAL(r->v.ctx, CTX_USER);
	CU_ASSERT_EQUAL(r->v.mode, (uint32_t)(CODE_64 | MODE_SSE | MODE_AVX | MODE_USER));
	r->v.cr0 |= CR0_AM | CR0_TS;
	soft_update_mode(&r->v);
	CU_ASSERT_TRUE(r->v.mode & MODE_SLOW);
	CU_ASSERT_TRUE(r->v.mode & MODE_NM);
	rig_free(r);
}

/* Which 32-bit code is translated. */
static void test_legacy_mode(void)
{
	static const struct {
		unsigned seg;
		uint64_t base;
		uint32_t limit;
		uint16_t attributes;
		uint32_t mode;
	} cases[] = {
		{ SOFT_DS, 0, ~0u, 0xc093, MODE_FLAT | MODE_SS32 },
		{ SOFT_DS, 0, ~0u, 0xc092, MODE_FLAT | MODE_SS32 },
		{ SOFT_DS, 0, ~0u, 0xc091, MODE_SLOW | MODE_SS32 }, /* not writable */
		{ SOFT_ES, 0, ~0u, 0xc097, MODE_SLOW | MODE_SS32 }, /* grows down */
		{ SOFT_ES, 0, ~0u, 0xc09b, MODE_SLOW | MODE_SS32 }, /* code */
		{ SOFT_ES, 1, ~0u, 0xc093, MODE_SLOW | MODE_SS32 },
		{ SOFT_DS, 0, ~0u - 1, 0xc093, MODE_SLOW | MODE_SS32 },
		{ SOFT_SS, 0, ~0u, 0x8093, MODE_SLOW | MODE_FLAT }, /* 16-bit stack */
		{ SOFT_CS, 0, ~0u, 0xc099, MODE_FLAT | MODE_SS32 },
		{ SOFT_CS, 16, ~0u, 0xc09b, MODE_SLOW | MODE_SS32 },
		{ SOFT_FS, 16, 0xfff, 0xc093, MODE_FLAT | MODE_SS32 },
	};
	struct rig *r = rig_new(CODE_16);

	CU_ASSERT_EQUAL(r->v.mode, (uint32_t)(CODE_16 | MODE_SSE | MODE_AVX | MODE_SLOW | MODE_REAL));
	rig_free(r);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmx_segment *s;

		r = rig_new(CODE_32);
		s = &r->v.seg[cases[i].seg];
		s->base = cases[i].base;
		s->limit = cases[i].limit;
		s->attributes = cases[i].attributes;
		soft_update_mode(&r->v);
		CU_ASSERT_EQUAL(r->v.mode, CODE_32 | MODE_SSE | MODE_AVX | cases[i].mode);
		CU_ASSERT_EQUAL(r->v.seg_whole[0], cases[i].seg != SOFT_FS);
		rig_free(r);
	}
}

static void test_fp_checks(void)
{
	static const uint8_t x87[] = { 0xd9, 0xe8 }, mmx[] = { 0x0f, 0x6f, 0xc1 },
			     sse[] = { 0x0f, 0x28, 0xc1 }, avx[] = { 0xc5, 0xf8, 0x28, 0xc1 },
			     wait[] = { 0x9b };
	static const struct {
		const uint8_t *bytes;
		unsigned len;
		uint64_t cr0, cr4_off, xcr0;
		int vector; /* -1: fine */
	} cases[] = {
		{ x87, 2, 0, 0, 7, -1 },	     { x87, 2, CR0_TS, 0, 7, EXC_NM },
		{ x87, 2, CR0_EM, 0, 7, EXC_NM },    { wait, 1, CR0_EM, 0, 7, -1 },
		{ wait, 1, CR0_TS, 0, 7, -1 },	     { wait, 1, CR0_TS | CR0_MP, 0, 7, EXC_NM },
		{ mmx, 3, 0, CR4_OSFXSR, 7, -1 },    { mmx, 3, CR0_EM, 0, 7, EXC_UD },
		{ mmx, 3, CR0_TS, 0, 7, EXC_NM },    { sse, 3, 0, 0, 7, -1 },
		{ sse, 3, 0, CR4_OSFXSR, 7, EXC_UD }, { sse, 3, CR0_EM, 0, 7, EXC_UD },
		{ sse, 3, CR0_TS, 0, 7, EXC_NM },    { avx, 4, 0, 0, 7, -1 },
		{ avx, 4, 0, CR4_OSXSAVE, 7, EXC_UD }, { avx, 4, 0, 0, 3, EXC_UD },
		{ avx, 4, CR0_TS, 0, 7, EXC_NM },    { avx, 4, 0, CR4_OSFXSR, 7, -1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *r = rig_new(CODE_64);
		int rc;

		rig_code(r, cases[i].bytes, cases[i].len);
		r->v.cr0 |= cases[i].cr0;
		r->v.cr4 &= ~cases[i].cr4_off;
		r->v.xcr0 = cases[i].xcr0;
		soft_update_mode(&r->v);
		rc = rig_step(r, 0);
		CU_ASSERT_EQUAL(rc, cases[i].vector < 0 ? SOFT_OK : SOFT_EXCEPTION);
		if (cases[i].vector >= 0)
			CU_ASSERT_EQUAL(r->v.exc.vector, cases[i].vector);
		rig_free(r);
	}
}

/* --- control flow --------------------------------------------------------------------------- */
static void test_branches(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0xeb, 0xfe); /* to itself */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 0);
	CODE(r, 0x66, 0xe9, 0x10, 0, 0, 0); /* 66 is ignored in 64-bit code */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 0x16);
	CODE(r, 0xe8, 0xf0, 0xff, 0xff, 0xff);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.rip, RIG_CODE + 5 - 16);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 8), RIG_CODE + 5);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 8);
	CODE(r, 0xc2, 0x10, 0);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 5);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK + 16);
	/* A target that is not canonical: nothing changes. */
	set64(r, RIG_STACK + 16, 0x0000900000000000ull);
	CODE(r, 0xc3);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	AFTER(r, 0);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK + 16);
	CODE(r, 0xff, 0xd0); /* CALL RAX */
	r->v.gpr[SOFT_RAX] = 0x8000000000000ull;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK + 16);
	r->v.gpr[SOFT_RSP] = RIG_MISSING + 8;
	r->v.gpr[SOFT_RAX] = RIG_CODE;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_PF);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_MISSING + 8);
	/* JMP [RSP+8] */
	r->v.gpr[SOFT_RSP] = RIG_STACK;
	set64(r, RIG_STACK + 8, RIG_CODE + 0x40);
	CODE(r, 0xff, 0x64, 0x24, 0x08);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 0x40);
	rig_free(r);

	r = rig_new(CODE_16); /* IP wraps, unless the prefix makes it EIP: then the limit matters */
	CODE(r, 0xe9, 0xf0, 0xff);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.rip, 0xfff3);
	CODE(r, 0x66, 0xe9, 0xf0, 0xff, 0xff, 0xff);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	CODE(r, 0xe8, 0x10, 0x00);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], 0xbffe);
	CU_ASSERT_EQUAL(*(uint16_t *)(void *)rig_at(r, RIG_STACK - 2), 3);
	rig_free(r);
}

static void test_conditions(void)
{
	struct rig *r = rig_new(CODE_64);
	unsigned wrong = 0;

	for (unsigned cc = 0; cc < 16; cc++) {
		for (unsigned i = 0; i < 64; i++) {
			uint64_t fl = (i & 1 ? FL_CF : 0) | (i & 2 ? FL_PF : 0) |
				      (i & 4 ? FL_AF : 0) | (i & 8 ? FL_ZF : 0) |
				      (i & 16 ? FL_SF : 0) | (i & 32 ? FL_OF : 0);
			uint8_t bytes[2] = { (uint8_t)(0x70 + cc), 0x10 };
			bool c = fl & FL_CF, z = fl & FL_ZF, s = fl & FL_SF, o = fl & FL_OF,
			     p = fl & FL_PF;
			bool want[8] = { o, c, z, c || z, s, p, s != o, z || s != o };

			soft_set_rflags(&r->v, fl);
			rig_code(r, bytes, 2);
			wrong += rig_step(r, 0) != SOFT_OK;
			wrong += r->v.rip != RIG_CODE + (want[cc / 2] != (cc & 1) ? 0x12 : 2);
		}
	}
	CU_ASSERT_EQUAL(wrong, 0);
	rig_free(r);
}

static void test_loops(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0x67, 0xe2, 0x10); /* 32-bit count */
	r->v.gpr[SOFT_RCX] = 0x1100000001ull;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 3);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0);
	CODE(r, 0xe2, 0x10);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 0x12);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], ~0ull);
	CODE(r, 0xe1, 0x10); /* LOOPE, ZF clear */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 2);
	CODE(r, 0xe0, 0x10);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 0x12);
	CODE(r, 0x67, 0xe3, 0x10);
	r->v.gpr[SOFT_RCX] = 0x100000000ull;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 0x13);
	CODE(r, 0xe3, 0x10);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	AFTER(r, 2);
	rig_free(r);
}

/* --- native operands, restarts -------------------------------------------------------------- */
static void test_native_operands(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0x01, 0x03); /* ADD [RBX], EAX */
	r->v.gpr[SOFT_RAX] = 5;
	r->v.gpr[SOFT_RBX] = RIG_DATA;
	set64(r, RIG_DATA, 0xffffffff00000001ull);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_DATA), 0xffffffff00000006ull);
	r->v.gpr[SOFT_RBX] = RIG_DATA + 0xffe; /* crosses a page */
	set64(r, RIG_DATA + 0xffe, 10);
	CODE(r, 0x01, 0x03);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_DATA + 0xffe), 15);
	r->v.gpr[SOFT_RBX] = RIG_MISSING - 2; /* second page missing: untouched */
	CODE(r, 0x01, 0x03);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING);
	AFTER(r, 0);
	r->v.gpr[SOFT_RBX] = RIG_CODED + 8;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->code_writes, 1);
	/* alignment of the copy is that of the original */
	r->no_ptr = true;
	CODE(r, 0x0f, 0x28, 0x03);
	r->v.gpr[SOFT_RBX] = RIG_DATA + 8;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	r->v.gpr[SOFT_RBX] = RIG_DATA + 16;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	/* #AC */
	r->v.cpl = 3;
	r->v.cr0 |= CR0_AM;
	soft_set_rflags(&r->v, FL_AC);
	CODE(r, 0x01, 0x03);
	r->v.gpr[SOFT_RBX] = RIG_DATA + 2;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_AC);
	rig_free(r);
}

static void test_device_restart(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0x0f, 0xc1, 0x03); /* XADD [RBX], EAX: a read, a write, and a register */
	r->v.gpr[SOFT_RBX] = RIG_DEVICE + 0x10;
	r->v.gpr[SOFT_RAX] = 7;
	CU_ASSERT_EQUAL(soft_step(&r->v), SOFT_EXIT);
	CU_ASSERT_EQUAL(r->v.log.entry[0].kind, SOFT_LOG_MEM_READ);
	r->v.log.entry[0].data = 100;
	r->v.log.count = 1;
	CU_ASSERT_EQUAL(soft_step(&r->v), SOFT_EXIT);
	CU_ASSERT_EQUAL(r->v.log.entry[1].kind, SOFT_LOG_MEM_WRITE);
	CU_ASSERT_EQUAL(r->v.exit_request.rflags, 107); /* what it wrote */
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], 7);	      /* not yet */
	r->v.log.count = 2;
	CU_ASSERT_EQUAL(soft_step(&r->v), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], 100);
	CU_ASSERT_EQUAL(r->v.log.count, 0);
	AFTER(r, 3);
	CODE(r, 0x8f, 0x03); /* POP [RBX] */
	set64(r, RIG_STACK, 42);
	CU_ASSERT_EQUAL(soft_step(&r->v), SOFT_EXIT);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK);
	CU_ASSERT_EQUAL(r->v.exit_request.rflags, 42);
	r->v.log.count = 1;
	CU_ASSERT_EQUAL(soft_step(&r->v), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK + 8);
	rig_free(r);
}

/* --- debug ---------------------------------------------------------------------------------- */
static void test_single_step(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0x90);
	soft_set_rflags(&r->v, FL_TF);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_DB);
	CU_ASSERT_EQUAL(r->v.exc.dr6, 1u << 14);
	AFTER(r, 1);
	CODE(r, 0x8e, 0xd0); /* MOV SS puts it off */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CODE(r, 0x90);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CODE(r, 0xf3, 0xaa); /* REP STOSB: after each element */
	r->v.gpr[SOFT_RCX] = 2;
	r->v.gpr[SOFT_RDI] = RIG_DATA;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	AFTER(r, 0);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 1);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	AFTER(r, 2);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0);
	rig_free(r);
}

static void test_breakpoints(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0x90);
	r->v.dr[1] = RIG_CODE;
	r->v.dr7 = 1u << 2;
	soft_update_mode(&r->v);
	CU_ASSERT_TRUE(r->v.mode & MODE_SLOW);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_DB);
	CU_ASSERT_EQUAL(r->v.exc.dr6, 2);
	AFTER(r, 0);
	soft_set_rflags(&r->v, FL_RF);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_FALSE(r->v.rflags & FL_RF);
	/* data, writes of 4 bytes */
	r->v.dr[0] = RIG_DATA + 4;
	r->v.dr7 = 1u << 0 | 1u << 16 | 3u << 18;
	r->v.gpr[SOFT_RBX] = RIG_DATA + 1;
	r->v.gpr[SOFT_RAX] = 0;
	CODE(r, 0x01, 0x03);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.dr6, 1);
	AFTER(r, 2);
	r->v.gpr[SOFT_RBX] = RIG_DATA;
	CODE(r, 0x01, 0x03);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CODE(r, 0x3b, 0x43, 0x04); /* a read does not hit a write breakpoint */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	r->v.dr7 |= 3u << 16;
	CODE(r, 0x3b, 0x43, 0x04);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	r->v.dr[1] = 0x1f0; /* a port, with CR4.DE: INSB */
	r->v.dr7 |= 1u << 2 | 2u << 20;
	r->v.gpr[SOFT_RDX] = 0x1f0;
	r->v.gpr[SOFT_RDI] = RIG_DATA + 0x800;
	CODE(r, 0x6c);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	r->v.cr4 |= CR4_DE;
	CODE(r, 0x6c);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.dr6, 2);
	AFTER(r, 1);
	r->v.dr[0] = RIG_STACK - 8; /* PUSH */
	CODE(r, 0x50);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 8);
	rig_free(r);
}

int main(void)
{
	static CU_TestInfo decode[] = {
		{ "classes", test_classes },
		{ "cache", test_decode_cache },
		{ "fetch faults", test_fetch_faults },
		CU_TEST_INFO_NULL,
	};
	static CU_TestInfo state[] = {
		{ "flags and mode", test_flags },
		{ "32-bit code that is translated", test_legacy_mode },
		{ "FP checks", test_fp_checks },
		{ "VEX in real mode", test_real_mode_vex },
		CU_TEST_INFO_NULL,
	};
	static CU_TestInfo insns[] = {
		{ "branches", test_branches },
		{ "conditions", test_conditions },
		{ "loops", test_loops },
		{ "native operands", test_native_operands },
		{ "restart after a device", test_device_restart },
		CU_TEST_INFO_NULL,
	};
	static CU_TestInfo debug[] = {
		{ "single step", test_single_step },
		{ "breakpoints", test_breakpoints },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(
		UNIT_SUITE("decode", decode),
		UNIT_SUITE("state", state),
		UNIT_SUITE("instructions", insns),
		UNIT_SUITE("debug", debug));
}
