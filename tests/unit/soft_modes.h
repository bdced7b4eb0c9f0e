/* SPDX-License-Identifier: Apache-2.0 */
/* soft_modes.h - a suite of tests for each way that the engine can run a guest (VMX_SOFT_* in vmx.h). */
#ifndef TESTS_UNIT_SOFT_MODES_H
#define TESTS_UNIT_SOFT_MODES_H

#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

static uint32_t soft_mode; /* vmx_vm_options.soft_debug of the suite that runs */

static inline int soft_in_steps(void) { soft_mode = VMX_SOFT_STEP_ONLY; return 0; }
static inline int soft_translated(void) { soft_mode = 0; return 0; }
static inline int soft_one_insn(void) { soft_mode = VMX_SOFT_ONE_INSN; return 0; }
static inline int soft_no_chain(void) { soft_mode = VMX_SOFT_NO_CHAIN; return 0; }
static inline int soft_no_tlb(void) { soft_mode = VMX_SOFT_NO_TLB; return 0; }
static inline int soft_tiny(void) { soft_mode = VMX_SOFT_TINY_CACHE; return 0; }
static inline int soft_moved(void) { soft_mode = VMX_SOFT_MOVED_CODE; return 0; }
static inline int soft_runs(void) { soft_mode = VMX_SOFT_RUNS; return 0; }

/* For UNIT_RUN(). */
#define SOFT_SUITE_STEPPED(tests) UNIT_SUITE_IN("stepped", soft_in_steps, tests)
#define SOFT_SUITE_TRANSLATED(tests) UNIT_SUITE_IN("translated", soft_translated, tests)
#define SOFT_SUITES_TRANSLATED(tests) \
	SOFT_SUITE_TRANSLATED(tests), \
	UNIT_SUITE_IN("blocks of one instruction", soft_one_insn, tests), \
	UNIT_SUITE_IN("no links", soft_no_chain, tests), \
	UNIT_SUITE_IN("no TLB", soft_no_tlb, tests), \
	UNIT_SUITE_IN("a tiny code cache", soft_tiny, tests), \
	UNIT_SUITE_IN("moved code", soft_moved, tests), \
	UNIT_SUITE_IN("runs of pages", soft_runs, tests)
#define SOFT_SUITES(tests) SOFT_SUITE_STEPPED(tests), SOFT_SUITES_TRANSLATED(tests)

/* A guest in the way of the suite. */
static inline void soft_start(struct guest *g)
{
	if (guest_create(g, soft_mode) < 0)
		CU_FAIL_FATAL("guest_create");
}

#endif
