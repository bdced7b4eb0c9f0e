/* SPDX-License-Identifier: Apache-2.0 */
/* What the translator's decoder by shape says of random instructions is what Zydis says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/jit_shape.h"

#define ROUNDS 1000000u

struct rng {
	uint64_t state;
};

static uint32_t next(struct rng *rng)
{
	rng->state = rng->state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rng->state >> 33);
}

/* Prefixes, opcodes of the maps that code is made of, then anything; displacements are often 0. */
static void random_bytes(struct rng *rng, uint8_t *p)
{
	static const uint8_t prefixes[] = { 0x66, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x67, 0x2e, 0x36, 0x3e };
	unsigned n = 0, modrm;

	for (unsigned i = 0; i < 16; i++)
		p[i] = (uint8_t)next(rng);
	while (next(rng) % 4 == 0 && n < 3)
		p[n++] = prefixes[next(rng) % sizeof(prefixes)];
	if (next(rng) % 2)
		p[n++] = (uint8_t)(0x40 | next(rng) % 16);
	switch (next(rng) % 8) {
	case 0:
	case 1:
	case 2:
		p[n++] = 0x0f;
		break;
	case 3:
		p[n++] = 0x0f;
		p[n++] = next(rng) % 2 ? 0x38 : 0x3a;
		break;
	default:
		break;
	}
	modrm = n + 1;
	if (next(rng) % 4 == 0)
		memset(p + modrm + 1 + next(rng) % 2, 0, 4);
}

static bool same(const struct soft_insn *a, const struct soft_insn *b)
{
	return !memcmp(&a->zi, &b->zi, sizeof(a->zi)) &&
	       !memcmp(a->op, b->op, a->zi.operand_count * sizeof(a->op[0])) &&
	       !memcmp(a->bytes, b->bytes, sizeof(a->bytes)) && a->len == b->len &&
	       a->code == b->code && a->fp == b->fp && a->mem[0] == b->mem[0] &&
	       a->mem[1] == b->mem[1] && a->lock == b->lock && a->allowed == b->allowed &&
	       a->writes == b->writes && a->renamed == b->renamed && a->soft_op == b->soft_op &&
	       a->snippet == b->snippet && !memcmp(&a->facts, &b->facts, sizeof(a->facts));
}

static void test_random(void)
{
	struct vmx_vm_options options = { .size = sizeof(options), .engine = VMX_ENGINE_SOFT };
	struct jit_shape *shapes = calloc(JIT_SHAPES, sizeof(*shapes));
	struct soft_insn *by_shape = calloc(2, sizeof(*by_shape)), *whole = by_shape + 1;
	struct rng rng = { 1 };
	struct vmx_vm *vm;
	unsigned valid = 0, kept = 0;

	CU_ASSERT_FATAL(shapes && by_shape && vmx_vm_create(&options, &vm) == 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		bool ok, ok_whole, is_short, is_short_whole;
		unsigned n = next(&rng) % 8 ? 15 : 1 + next(&rng) % 15;
		uint8_t bytes[16];

		random_bytes(&rng, bytes);
		ok = jit_shape_decode(shapes, soft_vm_from(vm), bytes, n, by_shape, &is_short);
		ok_whole = soft_decode_into(soft_vm_from(vm), bytes, n, CODE_64, whole, &is_short_whole);
		if (ok_whole)
			jit_facts_find(whole);
		valid += ok_whole;
		if (ok == ok_whole && is_short == is_short_whole && (!ok || same(by_shape, whole)))
			continue;
		printf("round %u: ok %d %d, short %d %d:", i, ok, ok_whole, is_short, is_short_whole);
		for (unsigned k = 0; k < n; k++)
			printf(" %02x", bytes[k]);
		puts("");
		CU_FAIL_FATAL("decoded in another way");
	}
	for (unsigned i = 0; i < JIT_SHAPES; i++)
		kept += shapes[i].key != 0;
	CU_ASSERT(valid > ROUNDS / 2 && kept > JIT_SHAPES / 4);
	vmx_vm_destroy(vm);
	free(by_shape);
	free(shapes);
}

/* The same bytes again, with other registers and values: not decoded anew. */
static void test_hits(void)
{
	static const struct {
		const char *first, *then;
		unsigned len;
	} pairs[] = {
		{ "\x48\x8b\x43\x08", "\x4c\x8b\x69\xf0", 4 },         /* mov r64, [r64 + disp8] */
		{ "\x48\x89\xd8", "\x4d\x89\xfe", 3 },                 /* mov r64, r64 */
		{ "\x83\xc0\x01", "\x83\xc1\xff", 3 },                 /* add r32, imm8 */
		{ "\xe8\0\0\0\0", "\xe8\x78\x56\x34\x82", 5 },         /* call rel32 */
		{ "\x48\x8d\x04\x4b", "\x4a\x8d\x34\xe1", 4 },         /* lea r64, [r64 + r64 * n] */
		{ "\x0f\xb6\x07", "\x0f\xb6\x1e", 3 },                 /* movzx r32, byte [r64] */
	};
	struct vmx_vm_options options = { .size = sizeof(options), .engine = VMX_ENGINE_SOFT };
	struct jit_shape *shapes = calloc(JIT_SHAPES, sizeof(*shapes)), *all = NULL;
	struct soft_insn *insn = calloc(1, sizeof(*insn));
	struct vmx_vm *vm;
	bool is_short;

	all = calloc(JIT_SHAPES, sizeof(*all));
	CU_ASSERT_FATAL(shapes && insn && all && vmx_vm_create(&options, &vm) == 0);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		CU_ASSERT(jit_shape_decode(shapes, soft_vm_from(vm), (const uint8_t *)pairs[i].first,
					   pairs[i].len, insn, &is_short));
		memcpy(all, shapes, JIT_SHAPES * sizeof(*all));
		CU_ASSERT(jit_shape_decode(shapes, soft_vm_from(vm), (const uint8_t *)pairs[i].then,
					   pairs[i].len, insn, &is_short));
		CU_ASSERT(memcmp(all, shapes, JIT_SHAPES * sizeof(*all)) == 0);
		CU_ASSERT(insn->len == pairs[i].len && !memcmp(insn->bytes, pairs[i].then, insn->len));
	}
	vmx_vm_destroy(vm);
	free(all);
	free(insn);
	free(shapes);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "random instructions", test_random },
		{ "other registers and values", test_hits },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("decoding by shape", tests));
}
