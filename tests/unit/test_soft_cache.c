/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_cache.c - the translator's code cache when it is full. */
#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"
#include "vmx-driver/soft/jit_tr.h"

#define HALF 384u
#define ROOM_MAX 144u
#define FILL 0xa5

/* A cache of two halves of HALF bytes; before each of them what belongs to nobody. */
struct halves {
	struct soft_cache cache;
	struct jit_scratch *scratch;
	uint8_t code[2 * HALF + ROOM_MAX];
};

static void start(struct halves *h, struct tr *t, unsigned hot_room, unsigned cold_room)
{
	memset(h->code, FILL, sizeof(h->code));
	h->cache.rw = h->cache.rx = h->code;
	h->cache.chain = true;
	h->cache.stubs.exit = h->cache.stubs.lookup = h->cache.stubs.branch = h->cache.stubs.link = h->code;
	h->scratch->count = h->scratch->link_count = h->scratch->point_count = 0;
	*t = (struct tr){ .cache = &h->cache, .s = h->scratch, .where = IN_MEM, .rip = 0x1000 };
	t->b.end = h->code + HALF;
	t->start = t->b.p = t->b.end - hot_room;
	t->other.end = h->code + 2 * HALF;
	t->other.p = t->other.end - cold_room;
}

static bool untouched(const uint8_t *from, const uint8_t *to)
{
	while (from < to)
		if (*from++ != FILL)
			return false;
	return true;
}

/* What is emitted to both halves stays in what is free of them, wherever it breaks off: other
 * processors run the code beside it. */
static void check(void (*emit)(struct tr *t))
{
	struct halves *h = calloc(1, sizeof(*h));
	unsigned full = 0, fits = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(h);
	h->scratch = jit_scratch_new();
	CU_ASSERT_PTR_NOT_NULL_FATAL(h->scratch);
	for (unsigned hot = 0; hot <= ROOM_MAX; hot++) {
		for (unsigned cold = 0; cold <= ROOM_MAX; cold++) {
			struct tr t;

			start(h, &t, hot, cold);
			emit(&t);
			full += t.b.full || t.other.full;
			fits += !t.b.full && !t.other.full;
			CU_ASSERT_TRUE(untouched(h->code, h->code + HALF - hot));
			CU_ASSERT_TRUE(untouched(h->code + HALF, h->code + 2 * HALF - cold));
			CU_ASSERT_TRUE(untouched(h->code + 2 * HALF, h->code + sizeof(h->code)));
		}
	}
	CU_ASSERT_TRUE(full > 0);
	CU_ASSERT_TRUE(fits > 0);
	free(h->scratch);
	free(h);
}

static void link_always(struct tr *t) { jit_emit_link(t, ALWAYS, 0x1800, 0); }
static void link_if(struct tr *t) { jit_emit_link(t, CC_NE, 0x1800, 0); }
static void poll(struct tr *t) { jit_emit_poll(t, 0x1800); }
static void far_edge(struct tr *t) { jit_emit_edge(t, 0x5000, false, false); }
static void call(struct tr *t)
{
	if (jit_emit_call_pair(t))
		jit_emit_call_back(t, 0x1800);
}
static void ret(struct tr *t) { jit_emit_return(t, 8); }

static void test_link(void) { check(link_always); }
static void test_link_if(void) { check(link_if); }
static void test_poll(void) { check(poll); }
static void test_far_edge(void) { check(far_edge); }
static void test_call(void) { check(call); }
static void test_return(void) { check(ret); }

int main(void)
{
	CU_TestInfo tests[] = {
		{ "a jump that may be bent", test_link },
		{ "a conditional one", test_link_if },
		{ "asking for requests", test_poll },
		{ "a jump to another page", test_far_edge },
		{ "what a call does beside it", test_call },
		{ "a return", test_return },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(
		UNIT_SUITE("both halves of the code cache stay within their bounds", tests));
}
