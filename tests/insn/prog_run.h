/* SPDX-License-Identifier: Apache-2.0 */
/* prog_run.h - random programs, run on both sides and compared. */
#ifndef INSN_PROG_RUN_H
#define INSN_PROG_RUN_H

#include "tests/insn/insn.h"

struct program_sides {
	struct native *native;
	/* the other side, as guest_run() */
	int (*run)(void *opaque, const struct test_case *tc, size_t n, unsigned cpl, struct outcome *out);
	void *opaque;
	unsigned cpls, reports; /* cpls: bit 0 and bit 3 */
	const char *how;
};

struct program_counts {
	uint64_t passed, failed, skipped, reported, to_end; /* to_end: natively up to the INT3 at the end */
};

#define PROGRAM_CPUS_MAX 8u

struct program_cpus {
	struct guest *first; /* the guest behind sides.run, if count is not 1 */
	unsigned count;      /* 1 .. PROGRAM_CPUS_MAX processors of its VM, each with its share */
	const uint8_t (*templates)[MEM_SIZE];
};

/* Programs begin..end - 1 of a seed. 0 or a negative errno; differences are counted and printed. */
int programs_run(const struct program_sides *sides, const struct program_cpus *cpus,
		 const struct forms *forms, uint64_t seed, uint64_t begin, uint64_t end,
		 struct program_counts *counts);
/* The same on one processor, in this thread. */
int programs_run_one(const struct program_sides *sides, const struct forms *forms, uint64_t seed,
		     uint64_t begin, uint64_t end, struct program_counts *counts);

#endif
