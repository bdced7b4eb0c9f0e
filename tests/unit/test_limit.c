/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets: what is let through in a second, bursts, debt, and rates at both ends. */
#include "common/checked.h"
#include "devices/backend/limit.h"
#include "tests/unit/unit.h"

#define SECOND 1000000000ull

/* Operations of `size` bytes that get through in `seconds`, asking whenever allowed. */
static uint64_t let_through(struct limit *l, uint64_t *now, uint64_t size, unsigned seconds)
{
	uint64_t until = *now + seconds * SECOND, n = 0, wait;

	while (*now < until) {
		wait = limit_wait(l, *now);
		if (wait) {
			*now += wait;
			continue;
		}
		limit_take(l, size, *now);
		n++;
		*now += 100; /* nobody is infinitely fast */
	}
	return n;
}

static void test_rates(void)
{
	static const struct { uint64_t bytes, ops, size, want; } cases[] = {
		{ 1000000, 0, 1000, 10000 }, { 0, 500, 4096, 5000 }, { 1000000, 500, 1000, 5000 },
		{ 1000000, 5000, 1000, 10000 }, { 1, 0, 1, 10 }, { 1000000, 0, 3000000, 3 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct limit_rate bytes = { cases[i].bytes, 1 }, ops = { cases[i].ops, 1 };
		uint64_t now = 77 * SECOND, n;
		struct limit l;

		limit_init(&l, bytes, ops, now);
		CU_ASSERT(limit_is_set(&l));
		n = let_through(&l, &now, cases[i].size, 10);
		CU_ASSERT(n >= cases[i].want && n <= cases[i].want + cases[i].want / 100 + 2);
	}
}

static void test_burst(void)
{
	uint64_t now = 5 * SECOND;
	struct limit l;

	limit_init(&l, (struct limit_rate){ 1000, 500 }, (struct limit_rate){ 0, 0 }, now);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 50; i++) { /* the burst at once, however long it was saved for */
			CU_ASSERT_EQUAL(limit_wait(&l, now), 0);
			limit_take(&l, 10, now);
		}
		CU_ASSERT_EQUAL(limit_wait(&l, now), 0); /* empty, not in debt */
		limit_take(&l, 100, now);
		CU_ASSERT_EQUAL(limit_wait(&l, now), SECOND / 10);
		CU_ASSERT_EQUAL(limit_wait(&l, now + SECOND / 10 - 1), 1);
		CU_ASSERT_EQUAL(limit_wait(&l, now + SECOND / 10), 0);
		now += 1000 * SECOND;
	}
}

static void test_none_and_extremes(void)
{
	struct limit_rate none = { 0, 0 }, fastest = { UINT64_MAX, 0 }, slowest = { 1, 0 };
	struct limit l;

	limit_init(&l, none, none, 0);
	CU_ASSERT(!limit_is_set(&l));
	limit_take(&l, UINT64_MAX, 0);
	CU_ASSERT_EQUAL(limit_wait(&l, 0), 0);
	limit_init(&l, fastest, fastest, 0);
	limit_take(&l, UINT32_MAX, 0);
	CU_ASSERT(limit_wait(&l, 0) <= 2);
	limit_init(&l, slowest, none, 0);
	limit_take(&l, UINT64_MAX, 0); /* no overflow: at most a year */
	CU_ASSERT(limit_wait(&l, 0) > 364ull * 86400 * SECOND);
	CU_ASSERT_EQUAL(limit_wait(&l, 366ull * 86400 * SECOND), 0);
}

int main(void)
{
	static CU_TestInfo tests[] = {
		{ "rates", test_rates }, { "bursts and debt", test_burst },
		{ "none, fastest, slowest", test_none_and_extremes }, CU_TEST_INFO_NULL
	};

	return UNIT_RUN(UNIT_SUITE("limit", tests));
}
