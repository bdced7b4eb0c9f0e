/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tsc.h - how fast the host's TSC goes. The longer ago the first look at it was, the better is the
 * figure, and nobody has to wait: a process that lives long looks once and hands that on.
 */
#ifndef COMMON_TSC_H
#define COMMON_TSC_H

#include <stdint.h>

struct tsc_sample { /* one moment by three clocks */
	uint64_t tsc;
	uint64_t raw_ns;       /* CLOCK_MONOTONIC_RAW: NTP does not slew the hardware's frequency */
	uint64_t suspended_ns; /* how long the host slept since it was started */
};

void tsc_sample(struct tsc_sample *ret);
/* Hz, from a sample of any process on this host since when the TSC went on evenly; to a few ppm. Waits
 * about 8 ms where that is not known: since is NULL or younger, or the host slept in between. 0: the
 * TSC does not count. Any thread. */
uint64_t tsc_hz(const struct tsc_sample *since);

#endif
