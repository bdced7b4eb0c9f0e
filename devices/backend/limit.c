/* SPDX-License-Identifier: Apache-2.0 */
/* limit.c - see limit.h. */
#include <config.h>

#include "devices/backend/limit.h"

#define SECOND_NS 1000000000ull

/* How long the bucket takes to fill by n, rounded up, never more than a year's worth. */
static uint64_t time_for(const struct limit_bucket *b, uint64_t n)
{
	const uint64_t most = 365ull * 86400 * SECOND_NS;
	unsigned __int128 ns = (unsigned __int128)n * SECOND_NS + b->rate.per_second - 1;

	ns /= b->rate.per_second;
	return ns < most ? (uint64_t)ns : most;
}

static uint64_t fullest(const struct limit_bucket *b, uint64_t now)
{
	uint64_t ns = b->rate.burst ? time_for(b, b->rate.burst) : SECOND_NS / 10;

	return now > ns ? now - ns : 0;
}

void limit_init(struct limit *limit, struct limit_rate bytes, struct limit_rate ops, uint64_t now)
{
	*limit = (struct limit){ .bytes.rate = bytes, .ops.rate = ops };
	if (bytes.per_second)
		limit->bytes.empty_at = fullest(&limit->bytes, now);
	if (ops.per_second)
		limit->ops.empty_at = fullest(&limit->ops, now);
}

static uint64_t wait_for(const struct limit_bucket *b, uint64_t now)
{
	return b->rate.per_second && b->empty_at > now ? b->empty_at - now : 0;
}

uint64_t limit_wait(const struct limit *limit, uint64_t now)
{
	uint64_t bytes = wait_for(&limit->bytes, now), ops = wait_for(&limit->ops, now);

	return bytes > ops ? bytes : ops;
}

static void take(struct limit_bucket *b, uint64_t n, uint64_t now)
{
	uint64_t full;

	if (!b->rate.per_second)
		return;
	full = fullest(b, now);
	if (b->empty_at < full)
		b->empty_at = full;
	b->empty_at += time_for(b, n);
}

void limit_take(struct limit *limit, uint64_t bytes, uint64_t now)
{
	take(&limit->bytes, bytes, now);
	take(&limit->ops, 1, now);
}
