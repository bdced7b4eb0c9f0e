/* SPDX-License-Identifier: Apache-2.0 */
#include "common/tsc.h"

#include <time.h>

#include "common/clock.h"

#define LEAST_NS 8000000u  /* a sample is good to some 30 ns */
#define SLEPT_NS 1000000u  /* two clocks that are read one after the other may differ by less */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* The reading with the least time between two TSC reads. */
void tsc_sample(struct tsc_sample *ret)
{
	uint64_t best = UINT64_MAX;

	*ret = (struct tsc_sample){ .suspended_ns = UINT64_MAX };
	for (unsigned i = 0; i < 32; i++) {
		uint64_t before = __builtin_ia32_rdtsc(), raw = clock_ns(CLOCK_MONOTONIC_RAW);
		uint64_t after = __builtin_ia32_rdtsc(), monotonic = clock_ns(CLOCK_MONOTONIC);
		uint64_t slept = clock_ns(CLOCK_BOOTTIME) - monotonic;

		if (after - before < best) {
			best = after - before;
			ret->tsc = before + best / 2;
			ret->raw_ns = raw;
		}
		if (slept < ret->suspended_ns)
			ret->suspended_ns = slept;
	}
}

static uint64_t rate(const struct tsc_sample *from, const struct tsc_sample *to)
{
	uint64_t ns = to->raw_ns - from->raw_ns;

	if (to->raw_ns <= from->raw_ns || to->tsc <= from->tsc)
		return 0;
	return (uint64_t)((unsigned __int128)(to->tsc - from->tsc) * NSEC_PER_SEC / ns);
}

uint64_t tsc_hz(const struct tsc_sample *since)
{
	const struct timespec nap = { .tv_nsec = LEAST_NS };
	struct tsc_sample now, then;

	tsc_sample(&now);
	/* A suspended host's TSC starts anew, or counted on while the clock stood. */
	if (since && since->raw_ns < now.raw_ns && now.raw_ns - since->raw_ns >= LEAST_NS &&
	    since->tsc < now.tsc && now.suspended_ns - since->suspended_ns + SLEPT_NS < 2 * SLEPT_NS)
		return rate(since, &now);
	nanosleep(&nap, NULL);
	tsc_sample(&then);
	return rate(&now, &then);
}
