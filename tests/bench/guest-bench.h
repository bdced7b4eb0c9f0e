/* SPDX-License-Identifier: Apache-2.0 */
/* guest-bench.h - what the files of the benchmark program share. */
#ifndef GUEST_BENCH_H
#define GUEST_BENCH_H

#include <stddef.h>
#include <stdint.h>

#define BIG (32u << 20)

struct work {
	uint32_t *a, *b; /* BIG bytes each */
	uint64_t sink;   /* results go here: nothing is optimized away */
	size_t packed;   /* bytes of b that bench_inflate() unpacks */
	const char *self;
};

uint64_t bench_now_ns(void);

/* How late timers are (guest-bench-latency.c); the program's exit status. */
int bench_latency(void);

/* Whole programs, n times over (guest-bench-mixed.c, guest-bench-programs.c); what comes before them is
 * not timed. */
void bench_mixed(struct work *w, uint64_t n);
void bench_lua(struct work *w, uint64_t n);
void prepare_deflate(struct work *w);
void prepare_inflate(struct work *w);
void bench_deflate(struct work *w, uint64_t n);
void bench_inflate(struct work *w, uint64_t n);

#endif
