/* SPDX-License-Identifier: Apache-2.0 */
/* asm.h - instructions with chosen registers, put into a buffer one after the other. */
#ifndef INSN_ASM_H
#define INSN_ASM_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/insn/rng.h"

struct code { /* what does not fit is left out */
	uint8_t *at;
	unsigned len, room;
	bool is32; /* 32-bit code: what is 64 bits wide otherwise has 32 */
	/* in 32-bit code: stands for ESP..EDI in byte instructions, where only EAX..EBX and their high
	 * halves (4..7) are encoded */
	int byte_reg;
};

#define ADDRESS_RIP (-2) /* base: four bytes, RIP-relative or, in 32-bit code, the address itself */

struct address {
	int base, index; /* -1: none */
	unsigned log2;
	int32_t disp;
};

void put(struct code *c, unsigned byte);
void put4(struct code *c, uint32_t v);
/* pre: a prefix byte or 0. opcode: one byte, or 0x100 + the one after 0f. reg: register or /digit. */
void put_mem(struct code *c, unsigned pre, bool w, unsigned opcode, int reg, const struct address *a);
void put_reg(struct code *c, unsigned pre, bool w, unsigned opcode, int reg, int rm);
/* target: offset in the buffer */
void put_jcc(struct code *c, unsigned cc, unsigned target);
void put_mov_imm(struct code *c, int reg, uint64_t v); /* the shortest of three forms */

enum { OP_WIDE = 1 /* 64 bits half of the time */, OP_ALIGNED = 2 /* to 16, or #GP */ };

struct memory_op { /* op register, memory or the other way round */
	uint16_t opcode;
	uint8_t pre;
	int8_t digit; /* instead of the register; -1: none */
	uint8_t imm;  /* bytes */
	uint8_t how;  /* OP_ */
};

/* Integer, scalar and vector instructions on memory that leave no flag undefined but AF. CMPXCHG (opcode
 * 0x1b1) changes RAX. */
const struct memory_op *some_memory_op(struct rng *rng);
void put_memory_op(struct code *c, struct rng *rng, const struct memory_op *op, int reg,
		   const struct address *a);
/* One of register a, perhaps with b, likewise. */
void put_register_op(struct code *c, struct rng *rng, int a, int b);

#endif
