/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_point.c - what a block knows of its instructions for traps, packed (jit_point.c). */
#include <stdlib.h>

#include "tests/unit/unit.h"
#include "vmx-driver/soft/jit.h"

#define POINTS 500u

struct points {
	struct jit_point point[POINTS];
	uint8_t packed[POINTS * JIT_POINT_MAX + 1];
	size_t bytes;
};

static void pack(struct points *p, unsigned n)
{
	memset(p->packed, 0xa5, sizeof(p->packed));
	p->bytes = (size_t)(jit_points_pack(p->packed, p->point, n) - p->packed);
	CU_ASSERT_TRUE_FATAL(p->bytes <= n * JIT_POINT_MAX);
	CU_ASSERT_EQUAL(p->packed[p->bytes], 0xa5);
}

static void check(const struct points *p, uint32_t host, const struct jit_point *want)
{
	struct jit_point got;

	CU_ASSERT_TRUE_FATAL(jit_points_find(p->packed, p->bytes, host, &got));
	CU_ASSERT_EQUAL(got.host, want->host);
	CU_ASSERT_EQUAL(got.guest, want->guest);
	CU_ASSERT_EQUAL(got.state, want->state);
	CU_ASSERT_EQUAL(got.recipe, want->recipe);
}

/* Each is found where it begins and up to where the next one does. */
static void check_all(const struct points *p, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		check(p, p->point[k].host, &p->point[k]);
		check(p, k + 1 < n ? p->point[k + 1].host - 1 : ~0u, &p->point[k]);
	}
}

static jit_recipe any_recipe(void)
{
	jit_recipe r = jit_recipe_make(RECIPE_CMP + (unsigned)(rand() % 8), (unsigned)(rand() % 4),
				       (unsigned)(rand() % 17), (unsigned)(rand() % 19), rand() - rand());

	return rand() % 3 ? r : 0;
}

static void test_any(void)
{
	struct points *p = calloc(1, sizeof(*p));

	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	srand(7);
	for (unsigned round = 0; round < 20; round++) {
		uint32_t host = (uint32_t)(rand() % 300);

		for (unsigned k = 0; k < POINTS; k++) {
			bool same = k && rand() % 2;

			p->point[k] = (struct jit_point){
				.host = host,
				/* on by one instruction, or back, as loops have their bodies twice */
				.guest = (uint16_t)(k && rand() % 9 ? p->point[k - 1].guest + rand() % 16 :
								      rand() % 900),
				.state = same ? p->point[k - 1].state :
						(uint16_t)(POINT_FLAGS_LIVE * (unsigned)(rand() % 8) |
							   (unsigned)(rand() % 4) << 4),
				.recipe = same ? p->point[k - 1].recipe : any_recipe(),
			};
			host += 1 + (uint32_t)(rand() % (rand() % 20 ? 60 : 100000));
		}
		pack(p, POINTS);
		check_all(p, POINTS);
	}
	free(p);
}

/* The ordinary ones take two bytes. */
static void test_small(void)
{
	struct points p = { 0 };

	for (unsigned k = 0; k < 10; k++)
		p.point[k] = (struct jit_point){ .host = 30 * k, .guest = (uint16_t)(5 * k) };
	pack(&p, 10);
	CU_ASSERT_EQUAL(p.bytes, 20);
	check_all(&p, 10);
}

static void test_before_first(void)
{
	struct points p = { .point[0] = { .host = 100, .guest = 3 } };
	struct jit_point got;

	pack(&p, 1);
	check(&p, 0, &p.point[0]);
	CU_ASSERT_FALSE(jit_points_find(p.packed, 0, 0, &got));
}

static void test_recipe(void)
{
	static const int32_t imms[] = { 0, 1, -1, INT32_MAX, INT32_MIN };

	for (size_t i = 0; i < sizeof(imms) / sizeof(imms[0]); i++) {
		jit_recipe r = jit_recipe_make(RECIPE_SAR, 3, PLACE_SLOT_A, PLACE_IMM, imms[i]);
		jit_recipe back = jit_recipe_of(jit_recipe_keep(r));

		CU_ASSERT_EQUAL(back, r);
		CU_ASSERT_EQUAL(r >> 8 * JIT_RECIPE_BYTES, 0);
		CU_ASSERT_EQUAL(jit_recipe_op(back), RECIPE_SAR);
		CU_ASSERT_EQUAL(jit_recipe_log2(back), 3);
		CU_ASSERT_EQUAL(jit_recipe_a(back), PLACE_SLOT_A);
		CU_ASSERT_EQUAL(jit_recipe_b(back), PLACE_IMM);
		CU_ASSERT_EQUAL(jit_recipe_imm(back), imms[i]);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "of all kinds", test_any },
		{ "ordinary ones are small", test_small },
		{ "before the first", test_before_first },
		{ "recipes", test_recipe },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("points of a block", tests));
}
