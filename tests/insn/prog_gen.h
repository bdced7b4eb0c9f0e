/* SPDX-License-Identifier: Apache-2.0 */
/* prog_gen.h - what the makers of a program's statements share. */
#ifndef INSN_PROG_GEN_H
#define INSN_PROG_GEN_H

#include "tests/insn/program.h"

#define GEN_POINTERS 4u
#define GEN_LOOPS 2u /* nested, in one function */
#define GEN_FUNCTIONS 6u
#define GEN_PATCHES 24u
#define SCRATCH 128u

struct function {
	int label;
	uint64_t cost;
	bool recursive; /* counts down in gen.depth; ends with 0 there */
};

struct gen {
	struct rng rng;
	const struct forms *forms;
	struct program *p;
	/* registers by what they are for; all but data[] only change where a statement says so */
	int ptr[GEN_POINTERS], counter[GEN_LOOPS], depth, data[15];
	unsigned data_count, ptr_count, counter_count; /* 32-bit code has fewer */
	int32_t word;                                  /* bytes that PUSH takes */
	uint32_t base[GEN_POINTERS]; /* values of ptr[] */
	unsigned loops;              /* around here, in this function */
	unsigned loops_max;          /* the function has saved so many counters */
	unsigned nesting;            /* of statements */
	int32_t frame;               /* bytes from RSP on that may be written */
	uint64_t weight, spent, budget; /* how often this runs; instructions run so far, at most */
	struct function fn[GEN_FUNCTIONS];
	unsigned fn_count;
	struct { int label; uint16_t unit; int8_t at; } patch[GEN_PATCHES]; /* bytes that may change */
	unsigned patch_count;
	int scratch;  /* label of SCRATCH bytes of data among the code */
	bool aligned; /* pointers are, to 64 */
};

/* 81 /digit register, imm32: where the immediate starts */
static inline unsigned gen_imm_at(const struct gen *g) { return g->p->code.is32 ? 2 : 3; }
static inline int gen_data(struct gen *g) { return g->data[rng_below(&g->rng, g->data_count)]; }
bool gen_is_data(const struct gen *g, int reg);
void gen_spend(struct gen *g, uint64_t n);

/* prog_gen.c: instructions that go on to the next one */
unsigned gen_end(struct gen *g); /* op_end(), counted */
void gen_mov(struct gen *g, int reg, uint64_t v);
void gen_reset_pointer(struct gen *g, unsigned k);
struct address gen_address(struct gen *g);
bool gen_is_aligned(const struct gen *g, const struct address *a);
void gen_memory_op(struct gen *g, const struct address *a, bool aligned);
void gen_plain(struct gen *g, unsigned max);
void gen_define_flags(struct gen *g);
void gen_push(struct gen *g, int reg);
void gen_pop(struct gen *g, int reg);
/* dst = a label's address */
void gen_lea_label(struct gen *g, int dst, int label);
void gen_stack(struct gen *g);
void gen_string(struct gen *g);
void gen_flags(struct gen *g);
void gen_patch(struct gen *g);
void gen_wild(struct gen *g);
void gen_other_page(struct gen *g);
/* Remembers the operation as one whose byte `at` may be changed. */
void gen_patchable(struct gen *g, unsigned op, int at);

/* prog_flow.c: statements */
void gen_statements(struct gen *g, unsigned max);
uint64_t gen_turns(struct gen *g, uint64_t wanted); /* at most; what the budget allows */

/* prog_loop.c: loops over arrays */
void gen_array_loop(struct gen *g);

/* prog_call.c */
void gen_call(struct gen *g);
void gen_odd_return(struct gen *g);
void gen_switch(struct gen *g);
void gen_interpreter(struct gen *g);
void gen_function(struct gen *g);

#endif
