/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.h - how many bytes and operations a second a device may move: a pair of token buckets.
 *
 * A bucket fills at its rate up to its burst. Whoever finds anything in it may go, whatever he
 * takes, and the next waits until the debt is paid: an operation larger than the burst is slow, and
 * never stuck. One user at a time (the device's lock).
 */
#ifndef DEVICES_BACKEND_LIMIT_H
#define DEVICES_BACKEND_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct limit_rate {
	uint64_t per_second; /* 0: no limit */
	uint64_t burst;      /* 0: a tenth of a second's worth */
};

/* A bucket is kept as the moment at which it is neither full nor in debt: empty. Behind now by the
 * burst's time it is full, ahead of now it is in debt. */
struct limit_bucket {
	struct limit_rate rate;
	uint64_t empty_at;
};

struct limit {
	struct limit_bucket bytes, ops;
};

/* Full buckets. now: nanoseconds of a clock that does not run backwards, here and below. */
void limit_init(struct limit *limit, struct limit_rate bytes, struct limit_rate ops, uint64_t now);
static inline bool limit_is_set(const struct limit *limit)
{
	return limit->bytes.rate.per_second || limit->ops.rate.per_second;
}
/* 0: go ahead. Else how many nanoseconds to wait before asking again. */
uint64_t limit_wait(const struct limit *limit, uint64_t now);
/* One operation of so many bytes was begun. */
void limit_take(struct limit *limit, uint64_t bytes, uint64_t now);

#endif
