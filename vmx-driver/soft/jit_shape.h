/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_shape.h - decoded instructions by their shape: their bytes without displacement, immediate and,
 * for the most frequent opcodes, without the numbers of registers.
 *
 * Half of a translation's time would go into decoding, though code has but some hundred shapes: what is
 * known of a shape is copied, and the rest is read from the instruction.
 */
#ifndef VMX_SOFT_JIT_SHAPE_H
#define VMX_SOFT_JIT_SHAPE_H

#include <stddef.h>

#include "vmx-driver/soft/soft.h"

#define JIT_SHAPES 4096u
#define JIT_SHAPE_OPERANDS 6u

/* From which part of ModRM an operand comes; SHAPE_FIXED: from none. */
enum shape_role { SHAPE_REG, SHAPE_RM, SHAPE_MEMORY, SHAPE_FIXED };

struct jit_shape {
	uint64_t key;     /* 0: empty */
	int8_t disp, imm; /* the operands that have the values, or -1 */
	bool free;        /* registers are the instruction's own */
	uint16_t writes;  /* general registers that it writes beside them */
	struct shape_part {
		int8_t op;      /* which operand comes from there, or -1 */
		uint16_t first; /* of REG and RM: register 0 of its class */
	} part[SHAPE_FIXED];
	/* the beginning of a struct soft_insn, up to its last operand */
	_Alignas(struct soft_insn) uint8_t insn[offsetof(struct soft_insn, op) +
						JIT_SHAPE_OPERANDS * sizeof(ZydisDecodedOperand)];
};

/* soft_decode_into() and jit_facts_find() for 64-bit code, by the shapes seen so far (JIT_SHAPES of them, all 0 at first).
 * Nobody else uses them meanwhile. */
bool jit_shape_decode(struct jit_shape *shapes, struct soft_vm *vm, const uint8_t *bytes, unsigned n,
		      struct soft_insn *ret, bool *ret_short);

#endif
