/* SPDX-License-Identifier: Apache-2.0 */
/* The stepper alone: the stack, segment registers, integer instructions. */
#include <string.h>

#include "tests/unit/soft_rig.h"
#include "tests/unit/unit.h"

/* --- stack ---------------------------------------------------------------------------------- */
static void test_stack(void)
{
	struct rig *r = rig_new(CODE_64);

	CODE(r, 0x54); /* PUSH RSP: the old value */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 8), RIG_STACK);
	CODE(r, 0x6a, 0x80);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 16), (uint64_t)-128);
	CODE(r, 0x66, 0x50);
	r->v.gpr[SOFT_RAX] = 0x12345;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 18);
	CODE(r, 0x66, 0x5b);
	r->v.gpr[SOFT_RBX] = ~0ull;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RBX], 0xffffffffffff2345ull);
	CODE(r, 0x5c); /* POP RSP */
	set64(r, RIG_STACK - 16, RIG_STACK - 64);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 64);
	CODE(r, 0x8f, 0x44, 0x24, 0x08); /* POP [RSP+8]: address after the increment */
	set64(r, RIG_STACK - 64, 0x1122334455667788ull);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 48), 0x1122334455667788ull);
	CODE(r, 0x8f, 0x00); /* POP [RAX], missing */
	r->v.gpr[SOFT_RAX] = RIG_MISSING;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 56);
	AFTER(r, 0);
	CODE(r, 0x9c); /* PUSHFQ hides RF */
	soft_set_rflags(&r->v, FL_RF | FL_CF | FL_OF | FL_IF);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 64), FL_CF | FL_OF | FL_IF | 2);
	CODE(r, 0xc9);
	r->v.gpr[SOFT_RBP] = RIG_STACK - 0x100;
	set64(r, RIG_STACK - 0x100, 77);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RBP], 77);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 0xf8);
	/* ENTER 0x20, 2 */
	CODE(r, 0xc8, 0x20, 0, 2);
	r->v.gpr[SOFT_RSP] = RIG_STACK;
	r->v.gpr[SOFT_RBP] = RIG_STACK + 0x100;
	set64(r, RIG_STACK + 0xf8, 0xabcdef);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 8), RIG_STACK + 0x100);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 16), 0xabcdef);
	CU_ASSERT_EQUAL(get64(r, RIG_STACK - 24), RIG_STACK - 8);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RBP], RIG_STACK - 8);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK - 24 - 0x20);
	rig_free(r);
}

static void test_stack_legacy(void)
{
	struct rig *r = rig_new(CODE_32);
	uint32_t val[8];

	for (unsigned i = 0; i < 8; i++)
		if (i != SOFT_RSP)
			r->v.gpr[i] = 0x1000 + i;
	CODE(r, 0x60);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	memcpy(val, rig_at(r, RIG_STACK - 32), 32);
	for (unsigned i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(val[7 - i], i == SOFT_RSP ? RIG_STACK : 0x1000 + i);
	for (unsigned i = 0; i < 8; i++)
		if (i != SOFT_RSP)
			r->v.gpr[i] = 0;
	CODE(r, 0x61);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	for (unsigned i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(r->v.gpr[i], i == SOFT_RSP ? RIG_STACK : 0x1000 + i);
	/* PUSHAD that does not fit can begin again */
	r->v.gpr[SOFT_RSP] = RIG_MISSING + 0x1010;
	CODE(r, 0x60);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_MISSING + 0x1010);
	AFTER(r, 0);
	rig_free(r);
	r = rig_new(CODE_16); /* SP wraps */
	r->v.gpr[SOFT_RSP] = 0xabcd0000;
	r->v.gpr[SOFT_RAX] = 0x1234;
	CODE(r, 0x50);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], 0xabcdfffe);
	CODE(r, 0x5b);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RBX], 0x1234);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], 0xabcd0000);
	rig_free(r);
}

static void test_segments(void)
{
	struct rig *r = rig_new(CODE_64);

	r->v.gpr[SOFT_RAX] = 0x18;
	CODE(r, 0x8e, 0xd0);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.seg[SOFT_SS].selector, 0x18);
	CU_ASSERT_TRUE(r->v.shadow);
	CODE(r, 0x8c, 0xd3); /* MOV EBX, SS: lasts one instruction, and clears the upper half */
	r->v.gpr[SOFT_RBX] = ~0ull;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_FALSE(r->v.shadow);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RBX], 0x18);
	CODE(r, 0x8e, 0xc8); /* MOV CS */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_UD);
	r->v.gpr[SOFT_RSP] = RIG_STACK;
	set64(r, RIG_STACK, 0xdead);
	CODE(r, 0x0f, 0xa1); /* POP FS of a bad selector */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK);
	set64(r, RIG_STACK, 0x2b);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.seg[SOFT_FS].selector, 0x2b);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], RIG_STACK + 8);
	rig_free(r);
	r = rig_new(CODE_32);
	set64(r, RIG_DATA, 0x0010cafebabeull);
	r->v.gpr[SOFT_RBX] = RIG_DATA;
	CODE(r, 0xc4, 0x03);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], 0xcafebabe);
	CU_ASSERT_EQUAL(r->v.seg[SOFT_ES].selector, 0x10);
	rig_free(r);
}

/* --- integer instructions ------------------------------------------------------------------- */
static void test_decimal(void)
{
	static const struct {
		uint8_t opcode, imm;
		uint16_t ax, want_ax;
		uint32_t in, want, mask;
	} cases[] = { /* SDM 2A examples, and the edges */
		{ 0x27, 0, 0x00ae, 0x0014, 0, FL_CF | FL_AF | FL_PF, FL_CF | FL_AF | FL_ZF | FL_SF | FL_PF },
		{ 0x27, 0, 0x0009, 0x0009, 0, 0, FL_CF | FL_AF },
		{ 0x27, 0, 0x0099, 0x00ff, FL_CF | FL_AF, FL_CF | FL_AF | FL_SF, FL_CF | FL_AF | FL_SF },
		{ 0x27, 0, 0x009a, 0x0000, 0, FL_CF | FL_AF | FL_ZF, FL_CF | FL_AF | FL_ZF },
		{ 0x2f, 0, 0x00ee, 0x0088, 0, FL_CF | FL_AF | FL_SF, FL_CF | FL_AF | FL_SF },
		{ 0x2f, 0, 0x0003, 0x009d, FL_AF | FL_CF, FL_CF | FL_AF | FL_SF, FL_CF | FL_AF | FL_SF },
		{ 0x2f, 0, 0x0005, 0x00ff, FL_AF, FL_CF | FL_AF, FL_CF | FL_AF },
		{ 0x37, 0, 0x000f, 0x0105, 0, FL_AF | FL_CF, FL_AF | FL_CF },
		{ 0x37, 0, 0x0205, 0x0205, 0, 0, FL_AF | FL_CF },
		{ 0x37, 0, 0x00fa, 0x0200, 0, FL_AF | FL_CF, FL_AF | FL_CF },
		{ 0x3f, 0, 0x020f, 0x0109, 0, FL_AF | FL_CF, FL_AF | FL_CF },
		{ 0x3f, 0, 0x0203, 0x000d, FL_AF, FL_AF | FL_CF, FL_AF | FL_CF },
		{ 0xd4, 10, 0x0047, 0x0701, 0, 0, FL_ZF | FL_SF },
		{ 0xd4, 16, 0xff20, 0x0200, 0, FL_ZF | FL_PF, FL_ZF | FL_SF | FL_PF },
		{ 0xd5, 10, 0x0701, 0x0047, 0, FL_PF, FL_ZF | FL_SF | FL_PF },
		{ 0xd6, 0, 0x1200, 0x12ff, FL_CF, FL_CF, FL_CF },
		{ 0xd6, 0, 0x12ff, 0x1200, 0, 0, FL_CF },
	};
	struct rig *r = rig_new(CODE_32);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t bytes[2] = { cases[i].opcode, cases[i].imm };

		rig_code(r, bytes, 2);
		soft_set_rflags(&r->v, cases[i].in);
		r->v.gpr[SOFT_RAX] = 0x55550000u | cases[i].ax;
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		if (r->v.gpr[SOFT_RAX] != (0x55550000u | cases[i].want_ax) ||
		    (soft_get_rflags(&r->v) & cases[i].mask) != cases[i].want) {
			printf("\n  case %zu: ax %llx flags %llx\n", i,
			       (unsigned long long)r->v.gpr[SOFT_RAX],
			       (unsigned long long)soft_get_rflags(&r->v));
			CU_FAIL("decimal");
		}
	}
	CODE(r, 0xd4, 0);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_DE);
	rig_free(r);
}

static void test_small_integer(void)
{
	struct rig *r = rig_new(CODE_32);
	int32_t bounds[2] = { -5, 10 };

	CODE(r, 0x40);
	r->v.gpr[SOFT_RAX] = 0x7fffffff;
	soft_set_rflags(&r->v, FL_CF);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], 0x80000000);
	CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_CF | FL_OF | FL_SF | FL_AF | FL_PF);
	CODE(r, 0x66, 0x4b);
	r->v.gpr[SOFT_RBX] = 0x00010000;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RBX], 0x0001ffff);
	CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_CF | FL_SF | FL_AF | FL_PF);
	memcpy(rig_at(r, RIG_DATA), bounds, 8);
	r->v.gpr[SOFT_RBX] = RIG_DATA;
	CODE(r, 0x62, 0x03);
	r->v.gpr[SOFT_RAX] = (uint32_t)-5;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CODE(r, 0x62, 0x03);
	r->v.gpr[SOFT_RAX] = 11;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_BR);
	*rig_at(r, RIG_DATA + 0xc3) = 0x99;
	r->v.gpr[SOFT_RAX] = 0x777700c3;
	CODE(r, 0xd7);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], 0x77770099);
	CODE(r, 0xa1, 0x00, 0x20, 0x01, 0x00); /* MOV EAX, [0x12000] */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], (uint32_t)-5);
	CODE(r, 0x8e, 0xe0); /* high byte register operand through XLAT's neighbour: MOV FS, AX */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.seg[SOFT_FS].selector, 0xfffb);
	rig_free(r);
}

static void test_bit_memory(void)
{
	struct rig *r = rig_new(CODE_64);

	for (int pass = 0; pass < 2; pass++) {
		r->no_ptr = pass;
		r->v.gpr[SOFT_RBX] = RIG_DATA + 0x100;
		memset(rig_at(r, RIG_DATA), 0, 0x200);
		r->v.gpr[SOFT_RAX] = 32 * 5 + 7;
		CODE(r, 0xf0, 0x0f, 0xab, 0x03); /* LOCK BTS [RBX], EAX */
		soft_set_rflags(&r->v, FL_CF | FL_ZF);
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(get64(r, RIG_DATA + 0x100 + 20), 0x80);
		CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_ZF);
		CODE(r, 0x48, 0x0f, 0xa3, 0x03); /* BT, the same bit by quadwords */
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_ZF | FL_CF);
		r->v.gpr[SOFT_RAX] = (uint64_t)-1; /* below */
		CODE(r, 0x48, 0x0f, 0xbb, 0x03);
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(get64(r, RIG_DATA + 0xf8), 1ull << 63);
		CODE(r, 0xf0, 0x48, 0x0f, 0xb3, 0x03);
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(get64(r, RIG_DATA + 0xf8), 0);
		CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_ZF | FL_CF);
		r->v.gpr[SOFT_RAX] = 0xffff8000u; /* 16-bit operand: AX = -32768 */
		r->v.gpr[SOFT_RBX] = RIG_DATA + 0x1000;
		memset(rig_at(r, RIG_DATA), 0, 8);
		CODE(r, 0x66, 0x0f, 0xab, 0x03);
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(get64(r, RIG_DATA), 1);
	}
	r->v.gpr[SOFT_RBX] = RIG_MISSING;
	CU_ASSERT_EQUAL(r->native_runs, 0);
	rig_free(r);
}

static void test_high_bytes(void)
{
	struct rig *r = rig_new(CODE_64);

	for (int pass = 0; pass < 2; pass++) {
		r->no_ptr = pass;
		*rig_at(r, RIG_DATA) = 0x42;
		r->v.gpr[SOFT_RDI] = RIG_DATA;
		r->v.gpr[SOFT_RDX] = 0x9900;
		r->v.gpr[SOFT_RAX] = 0x1141;
		CODE(r, 0xf0, 0x0f, 0xb0, 0x37); /* LOCK CMPXCHG [RDI], DH */
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(*rig_at(r, RIG_DATA), 0x42);
		CU_ASSERT_EQUAL(r->v.gpr[SOFT_RAX], 0x1142);
		CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_CF | FL_SF | FL_PF | FL_AF);
		CODE(r, 0xf0, 0x0f, 0xb0, 0x37);
		CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
		CU_ASSERT_EQUAL(*rig_at(r, RIG_DATA), 0x99);
		CU_ASSERT_EQUAL(soft_arith_flags(&r->v), FL_ZF | FL_PF);
	}
	CODE(r, 0x0f, 0xbe, 0xe6); /* MOVSX ESP, DH */
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], 0xffffff99);
	CODE(r, 0x0f, 0xb6, 0xe6);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSP], 0x99);
	rig_free(r);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "stack", test_stack },
		{ "stack, 16 and 32 bits", test_stack_legacy },
		{ "segment registers", test_segments },
		{ "decimal", test_decimal },
		{ "integer without native form", test_small_integer },
		{ "BT with memory", test_bit_memory },
		{ "AH to DH without a native form", test_high_bytes },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("instructions", tests));
}
