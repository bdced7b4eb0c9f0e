/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insn.h - instruction tests: the same bytes on the processor underneath and in a guest.
 *
 * A case is code, registers and memory, made from (seed, index) alone. The native side runs it in a
 * child process, the guest side through vmx.h; both at the same virtual addresses, both until the
 * first exception (a case that went well ends in INT3). compare.c says whether they agree.
 *
 * Addresses, both sides. Everything the code may touch lies below 2 GiB, for 32-bit mode:
 *   CODE_VA   CODE_SLOTS slots of CODE_SLOT bytes, readable, writable, executable
 *   MEM_VA    two pages of data; what precedes and follows is not present
 *   RO_VA     one read-only page, not present around it
 *   STACK_VA  two pages of stack, not present around them
 *   ALIAS_VA  the two pages of data again, the second one first; in the same sets of a TLB
 */
#ifndef INSN_H
#define INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <Zydis/Zydis.h>

#include "tests/insn/rng.h"

#define CODE_VA 0x10000000ull
#define CODE_SLOT 512u
#define CODE_SLOTS 256u
#define CODE_SIZE (CODE_SLOT * CODE_SLOTS)
#define MEM_VA 0x20001000ull
#define MEM_SIZE 0x2000u
#define MEM_END (MEM_VA + MEM_SIZE)
#define RO_VA 0x20004000ull
#define RO_SIZE 0x1000u
#define STACK_VA 0x20008000ull
#define STACK_SIZE 0x2000u
#define ALIAS_VA (MEM_VA + 0x1000000)
#define GS_BASE 0x40ull /* small: GS-relative addresses stay in the data */

#define CODE_MAX 400u
#define TEMPLATES 32u
#define PATCHES_MAX 8u
#define SEQ_MAX 20u

enum { MODE_64 = 0, MODE_32 = 1 };

enum {
	FL_CF = 1u << 0, FL_PF = 1u << 2, FL_AF = 1u << 4, FL_ZF = 1u << 6, FL_SF = 1u << 7,
	FL_TF = 1u << 8, FL_IF = 1u << 9, FL_DF = 1u << 10, FL_OF = 1u << 11, FL_NT = 1u << 14,
	FL_RF = 1u << 16, FL_AC = 1u << 18, FL_ID = 1u << 21,
	FL_ARITH = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
	FL_COMPARED = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID,
};

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

struct xstate {
	uint8_t st[8][16]; /* ST0..ST7, ten bytes each */
	uint16_t fcw, fsw;
	uint8_t ftw; /* one bit a register: 1 valid */
	uint32_t mxcsr;
	uint8_t ymm[16][32];
};

struct cpu {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	struct xstate xs;
};

struct patch { /* memory that differs from the template */
	uint32_t va;
	uint8_t len;
	uint8_t bytes[16];
};

struct test_case {
	uint64_t seed, index;
	char name[32]; /* mnemonic, "sequence", "loop" or the name of a special case */
	uint8_t mode;
	bool cpl3_only;     /* means something else at CPL 0 */
	bool any_fault;       /* more than one access may fault, in an order of the maker's choice */
	uint32_t undefined; /* flags that need not agree at the end */
	uint32_t undefined_anywhere; /* ... if a fault ends the case somewhere in the middle */
	uint32_t code_va;
	uint16_t code_len;
	uint8_t code[CODE_MAX];
	const uint8_t *program; /* not NULL: code_len bytes here instead */
	uint16_t template;
	uint8_t patch_count;
	struct patch patch[PATCHES_MAX];
	struct cpu in;
};

enum outcome_status { RAN = 1, HUNG, DIED, ENGINE_FAILED };

struct outcome {
	enum outcome_status status;
	uint8_t vector;
	uint32_t error_code;
	uint64_t cr2; /* of a #PF */
	struct cpu out;
	uint8_t code[ZYDIS_MAX_INSTRUCTION_LENGTH]; /* native side: what stands at out.rip in the end */
	uint8_t mem[MEM_SIZE], stack[STACK_SIZE];
	char why[96]; /* ENGINE_FAILED */
};

/* Which instructions there are: the leaves of CPUID that say so. */
struct features {
	uint32_t l1_ecx, l1_edx, l7_ebx, l7_ecx, x1_ecx, x1_edx;
};

/* --- forms.c: what instructions there are ----------------------------------------------------- */

enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };

struct form {
	uint16_t mnemonic;
	uint8_t vex : 1, map : 3, w : 1, l : 1, modrm : 1, mem : 1;
	uint8_t pp;     /* legacy: bit 0 66, bit 1 F2, bit 2 F3; VEX: the pp field */
	uint8_t opcode;
	int8_t reg, rm; /* -1: any */
};

struct forms {
	struct form *form; /* sorted by mnemonic */
	size_t count;
	uint16_t *mnemonics; /* the different ones */
	uint32_t *first;     /* index of the first form of mnemonics[i]; one more at the end */
	size_t mnemonic_count;
	ZydisDecoder decoder;
	uint8_t mode;
};

/* Everything that both sets of features have and that can be compared. only: one mnemonic (lower
 * case) or NULL. 0 or -ENOMEM. */
int forms_init(struct forms *forms, uint8_t mode, const struct features *host,
	       const struct features *guest, const char *only);
void forms_fini(struct forms *forms);
bool features_allow(const struct features *f, const ZydisDecodedInstruction *insn);
void features_of_host(struct features *f);
/* Flags that the instruction leaves undefined: manuals' word, as a mask of RFLAGS. */
uint32_t undefined_flags(const ZydisDecodedInstruction *insn);

/* --- gen.c, encode.c, seq.c, loops.c: making cases ------------------------------------------------------ */

struct insn_choice { /* the variable half of an encoding */
	bool mem;
	int base, index; /* -1 none */
	bool rip_relative;
	uint8_t scale, disp_size; /* log2; 0, 1 or 4 bytes (2 in 16-bit addressing) */
	int32_t disp;
	uint8_t reg, rm, vvvv;
	bool lock, addr_prefix, rex_bare;
	uint8_t segment; /* prefix byte or 0 */
};

struct insn {
	uint8_t bytes[16];
	uint8_t len;
	ZydisDecodedInstruction d;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* Encodes; false if the bytes are no valid encoding of the form's mnemonic. */
bool encode(const struct forms *forms, const struct form *form, const struct insn_choice *choice,
	    struct rng *rng, struct insn *ret);
bool insn_decode(const struct forms *forms, struct insn *insn);
/* Random registers and vector state. */
void random_cpu(struct rng *rng, struct cpu *cpu);
uint64_t random_value(struct rng *rng);
void random_bytes(struct rng *rng, uint8_t *p, size_t n); /* n a multiple of 32 */
uint32_t random_address(struct rng *rng, unsigned size);
void random_choice(struct rng *rng, const struct forms *forms, const struct form *form,
		   struct insn_choice *c);
void fill_immediates(struct rng *rng, struct insn *insn);
void case_patch(struct test_case *tc, uint64_t va, const void *bytes, size_t len);
/* Case `index` of `seed`: one instruction, or a sequence. */
void generate_single(struct test_case *tc, const struct forms *forms, uint64_t seed, uint64_t index);
void generate_sequence(struct test_case *tc, const struct forms *forms, uint64_t seed,
		       uint64_t index);
void generate_loop(struct test_case *tc, uint64_t seed, uint64_t index); /* loops.c, 64-bit */
/* Segment registers, IOPL, privileges: means something else at CPL 0. */
bool insn_cpl3_only(const struct insn *insn);
/* Needs CPL 0 or IOPL. */
bool insn_privileged(const ZydisDecodedInstruction *d);
bool insn_any_fault(const struct insn *insn);
/* The general-purpose register that the operand is and is written, or -1. */
int insn_written_gpr(const ZydisDecodedOperand *op);
/* May it stand among others, with nothing prepared for it? No branch among them. */
bool insn_in_sequence(struct rng *rng, const struct insn *insn);
int gpr_number(ZydisRegister reg); /* of the enclosing 64-bit register, or -1 */

/* --- special.c: written by hand (special64.S, special32.S) ------------------------------------ */

size_t special_count(void);
void special_case(struct test_case *tc, size_t n);

/* --- running ------------------------------------------------------------------------------------ */

/* Both fill out[0..n) for tc[0..n), n <= CODE_SLOTS; the cases' slots must be different. */
struct native;
int native_new(struct native **ret, const uint8_t (*templates)[MEM_SIZE]);
struct native *native_free(struct native *native);
int native_run(struct native *native, const struct test_case *tc, size_t n, struct outcome *out);

struct guest;
int guest_new(struct guest **ret, const uint8_t (*templates)[MEM_SIZE], int engine,
	      uint32_t soft_debug, unsigned cpus);
/* Processor `cpu`, from 1 on, of that one's VM, with memory of its own. In the thread that runs it. */
int guest_join(struct guest **ret, struct guest *first, unsigned cpu);
struct guest *guest_free(struct guest *guest);
int guest_run(struct guest *guest, const struct test_case *tc, size_t n, unsigned cpl,
	      struct outcome *out);
int guest_features(struct guest *guest, struct features *ret);

/* Restores memory and code of a case; shared by both sides. */
void place_memory(const struct test_case *tc, const uint8_t (*templates)[MEM_SIZE], uint8_t *mem);
void place_stack(const struct test_case *tc, const uint8_t (*templates)[MEM_SIZE], uint8_t *stack);
void place_code(const struct test_case *tc, uint8_t *code_area);
void xstate_to_area(const struct xstate *xs, uint8_t *area);
void xstate_from_area(const uint8_t *area, struct xstate *xs);

/* --- compare.c --------------------------------------------------------------------------------- */

/* Bit set of what differs, 0 if they agree. */
uint32_t compare(const struct test_case *tc, unsigned cpl, const struct outcome *native,
		 const struct outcome *guest);
const char *gpr_name(unsigned i);
void report(const struct test_case *tc, unsigned cpl, const struct outcome *native,
	    const struct outcome *guest, const char *how);
void disassemble(const struct test_case *tc); /* not of programs */

#endif
