/* SPDX-License-Identifier: Apache-2.0 */
/* special.c - the hand-written cases: code from special64.S and special32.S, fixed registers. */
#include "tests/insn/insn.h"

#include <stdio.h>
#include <string.h>

struct entry {
	const char *name;
	const uint8_t *start, *end;
};

/* The tables of the assembler files. */
extern const struct entry insn_special64[], insn_special64_end[];
extern const struct entry insn_special32[], insn_special32_end[];

static size_t count64(void)
{
	return (size_t)(insn_special64_end - insn_special64);
}

size_t special_count(void)
{
	return count64() + (size_t)(insn_special32_end - insn_special32);
}

/* Mean something else, or another exception, at CPL 0. */
static bool only_at_cpl3(const char *name)
{
	static const char *const starts[] = { "privileged", "pushf, popf", "push and pop of segment",
					      "int n", "arpl", "flags live over a store across pages" };

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		if (strncmp(name, starts[i], strlen(starts[i])) == 0)
			return true;
	}
	return false;
}

void special_case(struct test_case *tc, size_t n)
{
	const bool is64 = n < count64();
	const struct entry *e = is64 ? &insn_special64[n] : &insn_special32[n - count64()];
	struct rng rng = rng_make(7, n);
	uint64_t *gpr = tc->in.gpr;

	memset(tc, 0, sizeof(*tc));
	snprintf(tc->name, sizeof(tc->name), "%s", e->name);
	tc->index = n;
	tc->mode = is64 ? MODE_64 : MODE_32;
	tc->code_va = (uint32_t)CODE_VA + (uint32_t)(n % CODE_SLOTS) * CODE_SLOT + 64;
	tc->code_len = (uint16_t)(e->end - e->start);
	memcpy(tc->code, e->start, tc->code_len <= CODE_MAX ? tc->code_len : CODE_MAX);
	tc->template = 1;
	tc->cpl3_only = only_at_cpl3(e->name);
	random_cpu(&rng, &tc->in);
	tc->in.xs.mxcsr = 0x1f80;
	tc->in.xs.fcw = 0x37f;
	tc->in.rflags = FL_CF | FL_ZF | FL_IF | 2;
	gpr[RAX] = 0x1122334455667788;
	gpr[RCX] = 5;
	gpr[RDX] = 0x8877665544332211;
	gpr[RBX] = MEM_VA + 0x400;
	gpr[RSI] = MEM_VA + 0x200;
	gpr[RDI] = MEM_VA + 0x600;
	gpr[RBP] = is64 ? MEM_VA + 0x800 : MEM_VA + 0x1000;
	gpr[RSP] = MEM_VA + 0x1800;
	gpr[R8] = MEM_VA + 0x1000;
	gpr[R9] = MEM_END;
	gpr[R10] = RO_VA;
	gpr[R11] = 0x8000000000000000;
	tc->in.rip = tc->code_va;
}
