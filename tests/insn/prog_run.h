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

/* Programs first..end - 1 of a seed. 0 or a negative errno; differences are counted and printed. */
int programs_run(const struct program_sides *sides, const struct forms *forms, uint64_t seed, uint64_t first,
		 uint64_t end, struct program_counts *counts);

#endif
