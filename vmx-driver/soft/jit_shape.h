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

enum shape_role { SHAPE_FIXED, SHAPE_REG, SHAPE_RM, SHAPE_MEMORY };

struct jit_shape {
	uint64_t key;     /* 0: empty */
	int8_t disp, imm; /* the operands that have the values, or -1 */
	bool free;        /* registers are the instruction's own */
	struct {
		enum shape_role role : 8; /* from which field of ModRM it comes */
		uint16_t first; /* of REG and RM: register 0 of its class */
	} op[JIT_SHAPE_OPERANDS];
	/* the beginning of a struct soft_insn, up to its last operand */
	_Alignas(struct soft_insn) uint8_t insn[offsetof(struct soft_insn, op) +
						JIT_SHAPE_OPERANDS * sizeof(ZydisDecodedOperand)];
};

/* soft_decode_into() for 64-bit code, by the shapes seen so far (JIT_SHAPES of them, all 0 at first).
 * Nobody else uses them meanwhile. */
bool jit_shape_decode(struct jit_shape *shapes, struct soft_vm *vm, const uint8_t *bytes, unsigned n,
		      struct soft_insn *ret, bool *ret_short);

#endif
