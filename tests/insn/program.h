/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.h - random programs, 64-bit and 32-bit: branches, loops, calls, tables, code that changes itself.
 *
 * A program is a list of operations with references between them by label. It ends by itself: loops
 * count in registers that nothing else writes. Operations of one unit make sense together only (a
 * loop's counter and its branch); program_shrink() drops units as long as native and guest differ.
 *
 * No flag that an instruction leaves undefined is read: in front of each reader stands a guard, an
 * instruction that defines all flags, which program_settle() brings to life where it must.
 */
#ifndef INSN_PROGRAM_H
#define INSN_PROGRAM_H

#include "tests/insn/asm.h"
#include "tests/insn/insn.h"

#define PROGRAM_SIZE 0x2000u /* bytes of code, at a multiple of that */
#define PROGRAMS_AT_ONCE (CODE_SIZE / PROGRAM_SIZE)
#define OPS_MAX 1600u
#define LABELS_MAX 600u

enum ref { REF_NONE, REF_BRANCH, REF_RIP, REF_ABS32, REF_ABS64 };
enum flow { FLOW_NEXT, FLOW_BRANCH, FLOW_JUMP, FLOW_CALL, FLOW_ANY, FLOW_ANY_CALL, FLOW_STOP };

struct op {
	uint8_t bytes[24]; /* branches: the form with four bytes of distance */
	uint8_t len;
	enum ref ref : 8;
	enum flow flow : 8; /* ANY: to wherever an address was taken, or behind a call */
	uint8_t ref_at;     /* where in bytes */
	int16_t label;      /* -1: none */
	int8_t addend;      /* bytes beyond the label */
	bool dead, guard, data, any_fault;
	bool brief, is_short; /* a branch that would like to be, is, of one byte of distance */
	int16_t page_at;      /* starts at this offset of a page; -1: right behind the last one */
	uint16_t unit;
	uint32_t reads, defines, undefines; /* arithmetic flags */
	uint32_t undefined;                 /* may be, before it */
	uint32_t at;                        /* offset in the program */
};

struct program {
	const ZydisDecoder *decoder;
	struct rng *rng; /* guards' registers */
	uint64_t seed, index;
	struct op op[OPS_MAX];
	unsigned count;
	int16_t label[LABELS_MAX]; /* index of an operation */
	bool taken[LABELS_MAX];    /* its address is known to the program */
	unsigned label_count;
	int16_t main; /* label */
	uint16_t unit, unit_count;
	bool full; /* of operations or labels: the program is no good */
	struct code code; /* of the operation being made */
	uint8_t code_bytes[24];
	uint8_t image[PROGRAM_SIZE];
	struct test_case tc;
};

/* --- prog_code.c: making and linking ---------------------------------------------------------------- */

void program_init(struct program *p, const struct forms *forms, struct rng *rng);
/* A unit's number; the operations made until the matching unit_end() are of it, but for those of units
 * begun in between. */
unsigned unit_begin(struct program *p);
void unit_end(struct program *p, unsigned outer);
int label_new(struct program *p);
void label_here(struct program *p, int label);             /* before the next operation */
void label_op(struct program *p, int label, unsigned op);  /* exactly there, behind any guard */
/* What p->code has got becomes an operation; its index. */
unsigned op_end(struct program *p);
unsigned op_ref(struct program *p, enum ref ref, unsigned ref_at, int label, int addend);
/* cc 0..15, or one of these */
enum { BR_JMP = 16, BR_CALL };
unsigned op_branch(struct program *p, unsigned cc, int label);
unsigned op_table(struct program *p, int label); /* eight bytes of data: its address */
unsigned op_data(struct program *p, uint64_t v);
/* False: does not fit into PROGRAM_SIZE, or needs a guard where none may be. */
bool program_settle(struct program *p);
const struct op *program_op_at(const struct program *p, uint64_t va);
void program_list(const struct program *p);

/* --- prog_gen.c, prog_flow.c ------------------------------------------------------------------------ */

void generate_program(struct program *p, const struct forms *forms, uint64_t seed, uint64_t index);

#endif
