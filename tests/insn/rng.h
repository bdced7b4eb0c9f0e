/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - a small seeded generator (the splitmix64 recurrence). */
#ifndef INSN_RNG_H
#define INSN_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
	uint64_t state;
};

static inline uint64_t rng_u64(struct rng *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* 0 .. n-1 */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)(((rng_u64(r) >> 32) * n) >> 32);
}

static inline bool rng_percent(struct rng *r, unsigned p)
{
	return rng_below(r, 100) < p;
}

static inline struct rng rng_make(uint64_t seed, uint64_t stream)
{
	struct rng r = { seed * 0xd1342543de82ef95ull + stream };

	rng_u64(&r);
	r.state ^= stream << 32;
	rng_u64(&r);
	return r;
}

#endif
