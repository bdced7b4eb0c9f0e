/* SPDX-License-Identifier: Apache-2.0 */
/* runs.h - runs of pages that an access finds in one entry (struct soft_run). GENERAL. */
#ifndef VMX_SOFT_RUNS_H
#define VMX_SOFT_RUNS_H

#include "vmx-driver/soft/soft.h"

/* Makes run[index] of the current context that around la, which L1 has: for an access of so many bytes. */
void soft_run_fill(struct soft_vcpu *v, uint64_t la, unsigned index, unsigned size, bool write);
/* Forgets all; those with any of the 1 << shift bytes from la on; those for writes. */
void soft_runs_clear(struct soft_tlb *t);
void soft_runs_flush(struct soft_tlb *t, uint64_t la, unsigned shift);
void soft_runs_protect(struct soft_tlb *t);

#endif
