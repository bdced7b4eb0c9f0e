/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_facts.h - what the translator asks of an instruction again and again, in few bytes: found once
 * for all instructions of a shape (jit_shape.h), but for the numbers of registers.
 */
#ifndef VMX_SOFT_JIT_FACTS_H
#define VMX_SOFT_JIT_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#define JIT_NOBODYS 0xffu

/* Where an instruction's bytes name a general-purpose register. */
enum jit_field_name { FIELD_REG, FIELD_RM, FIELD_OPCODE, FIELD_VVVV, JIT_FIELDS };
struct jit_field {
	uint8_t guest; /* its number; JIT_NOBODYS: none is named here */
	bool high;     /* AH..BH */
	bool read;     /* also if a part of it is left alone */
	bool written;
};

enum jit_kind {
	K_DATA,   /* copied */
	K_NONE,   /* does nothing */
	K_LEA,
	K_BITMEM, /* BT BTS BTR BTC with a memory operand and a register bit offset */
	K_PUSH, K_POP, K_LEAVE, K_PUSHF,
	K_CLI, K_SWAPGS, K_AC, /* at CPL 0; STAC and CLAC */
	K_CALL, K_RET, K_JMP, K_JCC,
	K_OP,     /* an operation in C */
	K_STEP,   /* the stepper must */
};

struct jit_facts {
	struct jit_field field[JIT_FIELDS];
	uint8_t resident;  /* fields whose register lives in memory, a bit each; */
	uint8_t scratch;   /* so many registers are that */
	bool plain;        /* all others are the host's of the same name */
	bool copied;       /* jit_data_ok() */
	enum jit_kind kind : 8; /* in supervisor code, if it is allowed and the FPU is there */
	int8_t mem;        /* the operand with an address, or -1; */
	int8_t accessed;   /* if it is not LEA's */
	/* Arithmetic flags that must be in RFLAGS before, and that it leaves there: none or all. */
	uint16_t needs, writes;
	int8_t count;      /* >= 0: if that operand is 0 modulo 32 it needs them all */
};

struct soft_insn;
/* All of insn->facts from the rest of it. */
void jit_facts_find(struct soft_insn *insn);
/* What follows from the fields' registers. */
void jit_facts_registers(struct jit_facts *facts);

#endif
