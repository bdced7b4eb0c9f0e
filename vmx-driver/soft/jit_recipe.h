/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_recipe.h - how to make the guest's arithmetic flags again when somebody asks.
 *
 * Saving the flags costs more than what made them, and most are overwritten unseen. So a block may
 * go on, over memory accesses and into the next block, with flags that are nowhere: a recipe tells
 * from which values, still at hand, the processor can compute them once more. Every place where the
 * guest's state can be looked at has either the flags in v->aflags or a recipe.
 */
#ifndef VMX_SOFT_JIT_RECIPE_H
#define VMX_SOFT_JIT_RECIPE_H

#include "vmx-driver/soft/soft.h"

/* 0: none, the flags are in v->aflags. Else bits 3:0 an operation, 5:4 log2 of its bytes, 10:6 where
 * operand a is, 15:11 where b is, 47:16 an immediate. */
typedef uint64_t jit_recipe;
#define JIT_RECIPE_BYTES 6u

struct jit_recipe_kept { /* the same where there are many */
	uint16_t part[3];
};
static inline jit_recipe jit_recipe_of(struct jit_recipe_kept kept)
{
	return kept.part[0] | (uint32_t)kept.part[1] << 16 | (uint64_t)kept.part[2] << 32;
}
static inline struct jit_recipe_kept jit_recipe_keep(jit_recipe r)
{
	return (struct jit_recipe_kept){ { (uint16_t)r, (uint16_t)(r >> 16), (uint16_t)(r >> 32) } };
}

enum recipe_op {
	RECIPE_CMP = 1, /* a - b */
	RECIPE_TEST,    /* a & b */
	RECIPE_ADD,     /* what made a by adding b */
	RECIPE_SUB,     /* what made a by subtracting b */
	RECIPE_NEG,     /* what made a by NEG */
	RECIPE_SHL,     /* a shifted by b; in the order of ModRM.reg: 4, 5, 7 */
	RECIPE_SHR,
	RECIPE_SAR,
};

enum { /* places: 0..15 a guest register */
	PLACE_SLOT_A = 16, /* v->flag_slot[0] */
	PLACE_SLOT_B = 17, /* v->flag_slot[1] */
	PLACE_IMM = 18,
};

static inline jit_recipe jit_recipe_make(enum recipe_op op, unsigned log2, unsigned a, unsigned b,
					 int32_t imm)
{
	return (uint64_t)op | log2 << 4 | a << 6 | b << 11 | (uint64_t)(uint32_t)imm << 16;
}
static inline enum recipe_op jit_recipe_op(jit_recipe r) { return (enum recipe_op)(r & 15); }
static inline unsigned jit_recipe_log2(jit_recipe r) { return r >> 4 & 3; }
static inline unsigned jit_recipe_a(jit_recipe r) { return r >> 6 & 31; }
static inline unsigned jit_recipe_b(jit_recipe r) { return r >> 11 & 31; }
static inline int32_t jit_recipe_imm(jit_recipe r) { return (int32_t)(r >> 16); }
/* Does b name a register or a slot? */
static inline bool jit_recipe_has_b(jit_recipe r)
{
	return jit_recipe_op(r) != RECIPE_NEG && jit_recipe_b(r) != PLACE_IMM;
}

/* Follows the recipe into v->aflags; guest registers are in v->gpr. 0: does nothing. GENERAL. */
void jit_recipe_follow(struct soft_vcpu *v, jit_recipe recipe);

#endif
