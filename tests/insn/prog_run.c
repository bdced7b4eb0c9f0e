/* SPDX-License-Identifier: Apache-2.0 */
/* prog_run.c - runs programs on both sides; makes those that differ small. */
#include "tests/insn/program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/insn/prog_run.h"

/* What is undefined where the program ended natively need not agree. */
static void set_undefined(struct program *p, const struct outcome *native)
{
	const uint64_t rip = native->out.rip - (native->vector == 3);
	const struct op *o = native->status == RAN ? program_op_at(p, rip) : NULL;

	p->tc.undefined = o ? o->undefined : FL_ARITH;
	p->tc.undefined_anywhere = p->tc.undefined;
	p->tc.any_fault = o && o->any_fault;
}

/* A program that changes itself may make an instruction that the guest may execute at CPL 0, and whose #GP
 * ended it natively, at CPL 3: what it did from there on can be compared with nothing. */
static bool is_beyond(const struct program *p, unsigned cpl, const struct outcome *native,
		      const struct outcome *guest)
{
	ZydisDecodedInstruction d;

	return cpl == 0 && native->status == RAN && native->vector == 13 &&
	       (guest->status != RAN || guest->vector != 13 || guest->out.rip != native->out.rip) &&
	       ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(p->decoder, NULL, native->code,
							  sizeof(native->code), &d)) &&
	       insn_privileged(&d);
}

/* --- shrinking -------------------------------------------------------------------------------------- */

struct shrink {
	const struct program_sides *sides;
	unsigned cpl;
	struct program *p; /* a copy: the whole one runs at the other CPL as well */
	bool gone[OPS_MAX]; /* units */
	struct outcome *out;
};

static bool differs(struct shrink *s)
{
	struct program *p = s->p;

	for (unsigned i = 0; i < p->count; i++)
		p->op[i].dead = p->op[i].guard || s->gone[p->op[i].unit];
	if (!program_settle(p) || native_run(s->sides->native, &p->tc, 1, &s->out[0]) < 0 ||
	    s->out[0].status != RAN ||
	    s->sides->run(s->sides->opaque, &p->tc, 1, s->cpl, &s->out[1]) < 0)
		return false;
	set_undefined(p, &s->out[0]);
	return !is_beyond(p, s->cpl, &s->out[0], &s->out[1]) &&
	       compare(&p->tc, s->cpl, &s->out[0], &s->out[1]) != 0;
}

/* Tries to do without units [at, at + n). */
static bool drop(struct shrink *s, unsigned at, unsigned n)
{
	bool before[OPS_MAX], any = false;

	memcpy(before, s->gone, sizeof(before));
	for (unsigned u = at; u < at + n && u <= s->p->unit_count; u++) {
		any |= !s->gone[u];
		s->gone[u] = true;
	}
	if (any && differs(s))
		return true;
	memcpy(s->gone, before, sizeof(before));
	return false;
}

/* Smaller as long as it gets smaller. The last unit is the program's end. */
static void shrink(struct shrink *s)
{
	bool smaller = true;

	while (smaller) {
		smaller = false;
		for (unsigned n = (s->p->unit_count + 1) / 2; n; n /= 2)
			for (unsigned at = 1; at < s->p->unit_count; at += n)
				smaller |= drop(s, at, at + n <= s->p->unit_count ? n : s->p->unit_count - at);
	}
}

static void show(struct shrink *s, const char *how)
{
	const struct program *p = s->p;

	report(&p->tc, s->cpl, &s->out[0], &s->out[1], how);
	program_list(p);
	for (unsigned i = 0; i < 16; i++)
		printf("%s%s %016" PRIx64 "%s", i % 4 ? "  " : "    ", gpr_name(i), p->tc.in.gpr[i],
		       i % 4 == 3 ? "\n" : "");
	fflush(stdout);
}

static int shrink_and_report(const struct program_sides *sides, const struct program *p, unsigned cpl)
{
	struct shrink *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	s->sides = sides;
	s->cpl = cpl;
	s->p = malloc(sizeof(*p));
	s->out = calloc(2, sizeof(*s->out));
	if (!s->p || !s->out)
		goto out;
	*s->p = *p;
	s->p->tc.program = s->p->image;
	if (differs(s)) {
		shrink(s);
		if (!differs(s))
			printf("not every time:\n");
		show(s, sides->how);
	} else {
		printf("FAIL program, CPL %u, %s: --seed %" PRIu64 " --kind program --case %" PRIu64 " --mode %s"
		       ": differed once, not when run again\n", cpl, sides->how, p->seed, p->index,
		       p->code.is32 ? "32" : "64");
	}
	r = 0;
out:
	free(s->p);
	free(s->out);
	free(s);
	return r;
}

/* --- running ---------------------------------------------------------------------------------------- */

static int run_batch(const struct program_sides *sides, struct program *p, size_t n, struct test_case *tc,
		     struct outcome *native, struct outcome *guest, struct program_counts *counts)
{
	int r;

	for (size_t i = 0; i < n; i++)
		tc[i] = p[i].tc;
	r = native_run(sides->native, tc, n, native);
	for (size_t i = 0; i < n && r == 0; i++) {
		set_undefined(&p[i], &native[i]);
		tc[i] = p[i].tc;
		counts->to_end += native[i].status == RAN && native[i].vector == 3;
	}
	for (unsigned cpl = 0; cpl <= 3 && r == 0; cpl += 3) {
		if (!(sides->cpls >> cpl & 1))
			continue;
		r = sides->run(sides->opaque, tc, n, cpl, guest);
		for (size_t i = 0; i < n && r == 0; i++) {
			if (native[i].status != RAN) {
				counts->skipped++;
				printf("skip: program %" PRIu64 " does not end on the processor itself\n", p[i].index);
			} else if (is_beyond(&p[i], cpl, &native[i], &guest[i])) {
				counts->skipped++;
				printf("skip: program %" PRIu64 " goes on at CPL 0 where it faults natively\n",
				       p[i].index);
			} else if (compare(&tc[i], cpl, &native[i], &guest[i])) {
				counts->failed++;
				if (counts->reported++ < sides->reports)
					r = shrink_and_report(sides, &p[i], cpl);
			} else {
				counts->passed++;
			}
		}
	}
	return r;
}

int programs_run_one(const struct program_sides *sides, const struct forms *forms, uint64_t seed,
		     uint64_t begin, uint64_t end, struct program_counts *counts)
{
	struct program *p = calloc(PROGRAMS_AT_ONCE, sizeof(*p));
	struct test_case *tc = calloc(PROGRAMS_AT_ONCE, sizeof(*tc));
	struct outcome *out = calloc(2ull * PROGRAMS_AT_ONCE, sizeof(*out));
	int r = p && tc && out ? 0 : -ENOMEM;

	for (uint64_t i = begin; i < end && r == 0; i += PROGRAMS_AT_ONCE) {
		const size_t n = end - i < PROGRAMS_AT_ONCE ? (size_t)(end - i) : PROGRAMS_AT_ONCE;

		for (size_t k = 0; k < n; k++)
			generate_program(&p[k], forms, seed, i + k);
		r = run_batch(sides, p, n, tc, out, out + PROGRAMS_AT_ONCE, counts);
	}
	free(p);
	free(tc);
	free(out);
	return r;
}
