/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_recipe.c - makes flags from a recipe. GENERAL (soft.h).
 */
#include "vmx-driver/soft/jit_recipe.h"

static uint64_t place(const struct soft_vcpu *v, jit_recipe recipe, unsigned where)
{
	if (where < 16)
		return v->gpr[where];
	if (where == PLACE_IMM)
		return (uint64_t)(int64_t)jit_recipe_imm(recipe);
	return v->flag_slot[where - PLACE_SLOT_A];
}

/* The flags of one instruction on x and y, as LAHF and SETO give them. */
#define FLAGS_OF(insn, type, source) \
	do { \
		type x_ = (type)x, y_ = (type)y; \
\
		__asm__(insn "\n\tlahf\n\tseto %%al" : "=&a"(flags), "+&d"(x_) : source(y_) : "cc"); \
	} while (0)
#define FLAGS_BY_SIZE(insn, source) \
	do { \
		switch (jit_recipe_log2(recipe)) { \
		case 0: FLAGS_OF(insn "b %b2, %b1", uint8_t, source); break; \
		case 1: FLAGS_OF(insn "w %w2, %w1", uint16_t, source); break; \
		case 2: FLAGS_OF(insn "l %k2, %k1", uint32_t, source); break; \
		default: FLAGS_OF(insn "q %q2, %q1", uint64_t, source); break; \
		} \
	} while (0)
#define SHIFT_BY_SIZE(insn) \
	do { \
		switch (jit_recipe_log2(recipe)) { \
		case 0: FLAGS_OF(insn "b %%cl, %b1", uint8_t, "c"); break; \
		case 1: FLAGS_OF(insn "w %%cl, %w1", uint16_t, "c"); break; \
		case 2: FLAGS_OF(insn "l %%cl, %k1", uint32_t, "c"); break; \
		default: FLAGS_OF(insn "q %%cl, %q1", uint64_t, "c"); break; \
		} \
	} while (0)

void jit_recipe_follow(struct soft_vcpu *v, jit_recipe recipe)
{
	uint64_t x = place(v, recipe, jit_recipe_a(recipe));
	uint64_t y = place(v, recipe, jit_recipe_b(recipe));
	uint32_t flags = 0;

	if (!recipe)
		return;
	switch (jit_recipe_op(recipe)) {
	case RECIPE_CMP: FLAGS_BY_SIZE("cmp", "c"); break;
	case RECIPE_TEST: FLAGS_BY_SIZE("test", "c"); break;
	case RECIPE_ADD:
		x -= y;
		FLAGS_BY_SIZE("add", "c");
		break;
	case RECIPE_SUB:
		x += y;
		FLAGS_BY_SIZE("cmp", "c");
		break;
	case RECIPE_NEG:
		y = -x;
		x = 0;
		FLAGS_BY_SIZE("cmp", "c");
		break;
	case RECIPE_SHL: SHIFT_BY_SIZE("shl"); break;
	case RECIPE_SHR: SHIFT_BY_SIZE("shr"); break;
	case RECIPE_SAR: SHIFT_BY_SIZE("sar"); break;
	}
	v->aflags = (uint16_t)flags;
}
