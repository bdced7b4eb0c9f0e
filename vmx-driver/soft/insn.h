/* SPDX-License-Identifier: Apache-2.0 */
/* insn.h - a decoded instruction, and the C operation that carries it out. */
#ifndef VMX_SOFT_INSN_H
#define VMX_SOFT_INSN_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmx-driver/soft/jit_facts.h"

struct soft_vcpu;
struct soft_insn;
typedef int soft_op_fn(struct soft_vcpu *v, const struct soft_insn *insn);

enum { /* soft_op.flags */
	SOFT_OP_FALLS = 1u << 0, /* always continues at next_rip and never changes v->mode: a
				  * translated block may go on after it */
};
struct soft_op {
	ZydisMnemonic mnemonic;
	soft_op_fn *fn;
	uint32_t flags;
};

/* A decoded instruction. Lives as long as its holder says (decoder cache: until the next
 * soft_decode() on this vCPU; translated block: as long as the block). */
struct soft_insn {
	ZydisDecodedInstruction zi;
	uint8_t bytes[16];
	uint8_t len;
	uint8_t code;    /* CODE_* it was decoded for */
	uint8_t fp;      /* enum soft_fp_class */
	int8_t mem[2];   /* indices in op[] of its memory operands (not address generation), -1 */
	bool lock;       /* LOCK prefix, or XCHG with memory */
	bool allowed;    /* the guest's CPUID offers it */
	uint16_t writes; /* general registers that it writes (a part of), a bit each */
	bool renamed;    /* jit's: its register operands are not those of its bytes */
	const struct soft_op *soft_op; /* the C operation, or NULL: run natively */
	void *snippet;   /* jit's: host code of soft_exec_native(), made on first use */
	struct jit_facts facts; /* jit's: jit_facts_find() */
	uint32_t snippet_generation; /* jit's: snippet is of this generation of its arena */
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT]; /* the last: most have but few */
};
enum soft_fp_class { FP_NONE, FP_X87, FP_MMX, FP_SSE, FP_AVX };

#endif
