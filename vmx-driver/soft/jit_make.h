/* SPDX-License-Identifier: Apache-2.0 */
/* jit_make.h - what jit_run.c (GENERAL) calls outside the GENERAL files, with FP state saved. */
#ifndef VMX_SOFT_JIT_MAKE_H
#define VMX_SOFT_JIT_MAKE_H

#include "vmx-driver/soft/jit.h"

/* A snippet that the host processor refused returns this + exception vector. */
#define JIT_TRAP_VECTOR 200

/* Translates the block for a key. Flushes the cache when it is full. NULL: nothing to translate
 * there. */
struct jit_block *jit_make(struct soft_vcpu *v, const struct jit_key *key);
/* Host code of one data instruction for soft_exec_native(); NULL if it cannot be copied. */
const void *jit_snippet_make(struct soft_vcpu *v, struct soft_insn *insn);

#endif
