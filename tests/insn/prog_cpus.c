/* SPDX-License-Identifier: Apache-2.0 */
/* prog_cpus.c - programs on several processors of one guest at once: they share its translated code. */
#include <pthread.h>

#include "tests/insn/prog_run.h"

struct cpu_thread { /* one processor, its programs and its native side */
	struct program_sides sides;
	const struct forms *forms;
	struct guest *first; /* to join, or NULL */
	unsigned cpu;
	uint64_t seed, begin, end;
	struct program_counts counts;
	pthread_t thread;
	int r;
};

static int run_guest(void *guest, const struct test_case *tc, size_t n, unsigned cpl, struct outcome *out)
{
	return guest_run(guest, tc, n, cpl, out);
}

static void *run_thread(void *opaque)
{
	struct cpu_thread *t = opaque;
	struct guest *guest = NULL;

	if (t->first) {
		t->r = guest_join(&guest, t->first, t->cpu);
		t->sides.run = run_guest;
		t->sides.opaque = guest;
	}
	if (t->r == 0)
		t->r = programs_run_one(&t->sides, t->forms, t->seed, t->begin, t->end, &t->counts);
	guest_free(guest);
	return NULL;
}

static int start_thread(struct cpu_thread *t, const struct program_cpus *cpus)
{
	int r = native_new(&t->sides.native, cpus->templates);

	if (r < 0)
		return r;
	t->first = cpus->first;
	r = -pthread_create(&t->thread, NULL, run_thread, t);
	if (r < 0)
		native_free(t->sides.native);
	return r;
}

int programs_run(const struct program_sides *sides, const struct program_cpus *cpus,
		 const struct forms *forms, uint64_t seed, uint64_t begin, uint64_t end,
		 struct program_counts *counts)
{
	const uint64_t n = end - begin;
	struct cpu_thread t[PROGRAM_CPUS_MAX];
	unsigned started = 1;
	int r = 0;

	for (unsigned k = 0; k < cpus->count; k++)
		t[k] = (struct cpu_thread){ .sides = *sides, .forms = forms, .cpu = k, .seed = seed,
					    .begin = begin + n * k / cpus->count,
					    .end = begin + n * (k + 1) / cpus->count };
	while (r == 0 && started < cpus->count) {
		r = start_thread(&t[started], cpus);
		started += r == 0;
	}
	if (r == 0)
		run_thread(&t[0]);
	for (unsigned k = 0; k < started; k++) {
		if (k) {
			pthread_join(t[k].thread, NULL);
			native_free(t[k].sides.native);
		}
		r = r < 0 ? r : t[k].r;
		counts->passed += t[k].counts.passed;
		counts->failed += t[k].counts.failed;
		counts->skipped += t[k].counts.skipped;
		counts->to_end += t[k].counts.to_end;
	}
	return r;
}
