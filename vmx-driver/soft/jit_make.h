/* SPDX-License-Identifier: Apache-2.0 */
/* jit_make.h - what jit_run.c (GENERAL) calls outside the GENERAL files, with FP state saved. */
#ifndef VMX_SOFT_JIT_MAKE_H
#define VMX_SOFT_JIT_MAKE_H

#include "vmx-driver/soft/jit.h"

/* A snippet that the host processor refused returns this + exception vector. */
#define JIT_TRAP_VECTOR 200

/* Translates the block at v->rip for mode (v->mode, perhaps JIT_UNGROUPED), whose first byte is at gpa; the next linear page is at gpa2 (or
 * JIT_NO_PAGE). Flushes the cache when it is full. NULL: nothing to translate there. */
struct jit_block *jit_make(struct soft_vcpu *v, uint32_t mode, uint64_t gpa, uint64_t gpa2);
/* Host code of one data instruction for soft_exec_native(); NULL if it cannot be copied. */
const void *jit_snippet_make(struct soft_vcpu *v, struct soft_insn *insn);

#endif
