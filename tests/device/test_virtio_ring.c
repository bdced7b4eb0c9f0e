/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio core over both transports and both ring formats: what rings must do. */
#include <config.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "tests/device/echo.h"

/* --- what rings do ---------------------------------------------------------------------------- */

static void offered(struct rig *r)
{
	struct echo_bench b;

	echo_open(r, &b);
	CHECK_EQ(vd_features(&b.d), VF_CORE);
	echo_start(&b, 0, 16);
	echo_must_work(&b);
}

/* Many laps of a small ring with chains of several lengths, on both queues. */
static void laps(struct rig *r)
{
	static const uint16_t sizes[] = { 8, 16, 256, 12, 7, 255 };
	struct echo_bench b;
	size_t s;
	unsigned i;
	uint32_t id, len;

	echo_open(r, &b);
	for (s = 0; s < (r->packed ? ARRAY_SIZE(sizes) : 3); s++) {
		echo_start(&b, s & 1 ? VF_EVENT_IDX : 0, sizes[s]);
		for (i = 0; i < 400; i++) {
			unsigned pieces = 1 + i % 5, first = i % 2;
			uint32_t bytes = 20 + i % 200;

			vd_select(&b.d, i % 2);
			echo_fill(&b, i % 3, (uint8_t)i, bytes);
			echo_chain(&b, (uint16_t)first, i % 3, bytes, pieces);
			vd_push(&b.d, (uint16_t)first);
			vd_kick(&b.d, i % 2);
			CHECK(echo_all_back(&b));
			CHECK(echo_came_back(&b, i % 3, (uint8_t)i, bytes));
			vd_used(&b.d, (uint16_t)(b.d.avail - 1), &id, &len);
			CHECK_EQ(id, first);
			CHECK_EQ(len, bytes);
		}
	}
}

/* Several in flight, given back in another order than they came, over several laps. */
static void any_order(struct rig *r)
{
	static const uint8_t order[] = { 2, 0, 2, 1, 0 }; /* each: of those still held */
	static const uint8_t seen[] = { 2, 0, 4, 3, 1 };
	struct echo_bench b;
	unsigned i, round;
	uint32_t id, len;

	echo_open(r, &b);
	echo_start(&b, 0, 16);
	b.e->hold = true;
	for (round = 0; round < 30; round++) {
		for (i = 0; i < 5; i++) {
			echo_fill(&b, i, (uint8_t)(round + i), 30 + i);
			echo_chain(&b, (uint16_t)(3 * i), i, 30 + i, 1 + (i + round) % 2);
			vd_push(&b.d, (uint16_t)(3 * i));
		}
		vd_kick(&b.d, 0);
		rig_turn(r);
		CHECK_EQ(b.e->helds, 5);
		for (i = 0; i < 5; i++)
			echo_release(b.e, order[i]);
		CHECK(echo_all_back(&b));
		for (i = 0; i < 5; i++) {
			vd_used(&b.d, (uint16_t)(b.d.avail - 5 + i), &id, &len);
			CHECK_EQ(id, 3 * seen[i]);
			CHECK_EQ(len, 30u + seen[i]);
			CHECK(echo_came_back(&b, i, (uint8_t)(round + i), 30 + i));
		}
	}
}

static void full_ring(struct rig *r)
{
	struct echo_bench b;
	uint16_t i, round;

	echo_open(r, &b);
	echo_start(&b, VF_EVENT_IDX, 16);
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 8; i++) {
			echo_fill(&b, i, (uint8_t)i, 16);
			echo_chain(&b, (uint16_t)(2 * i), i, 16, 1);
			vd_push(&b.d, (uint16_t)(2 * i));
		}
		vd_kick(&b.d, 0);
		CHECK(echo_all_back(&b));
		for (i = 0; i < 8; i++)
			CHECK(echo_came_back(&b, i, (uint8_t)i, 16));
	}
}

static void indirect(struct rig *r)
{
	struct echo_bench b;
	unsigned i;

	echo_open(r, &b);
	echo_start(&b, VF_INDIRECT, 8);
	for (i = 0; i < 20; i++) {
		echo_fill(&b, 0, (uint8_t)i, 100);
		vd_desc_at(&b.d, ECHO_TABLE, 0, ECHO_OUT(0), 60, VD_NEXT, 1);
		vd_desc_at(&b.d, ECHO_TABLE, 1, ECHO_OUT(0) + 60, 40, VD_NEXT, 2);
		vd_desc_at(&b.d, ECHO_TABLE, 2, ECHO_IN(0), 0x100, VD_WRITE, 0);
		if (r->packed) { /* entries end with id and flags, not flags and next */
			uint8_t raw[16] = { 0 };

			put_le64(raw, ECHO_OUT(0));
			put_le32(raw + 8, 60);
			vd_store(&b.d, ECHO_TABLE, raw, 16);
			put_le64(raw, ECHO_OUT(0) + 60);
			put_le32(raw + 8, 40);
			vd_store(&b.d, ECHO_TABLE + 16, raw, 16);
			put_le64(raw, ECHO_IN(0));
			put_le32(raw + 8, 0x100);
			put_le16(raw + 14, VD_WRITE);
			vd_store(&b.d, ECHO_TABLE + 32, raw, 16);
		}
		vd_desc(&b.d, 3, ECHO_TABLE, 48, VD_INDIRECT, 0);
		vd_push(&b.d, 3);
		vd_kick(&b.d, 0);
		CHECK(echo_all_back(&b));
		CHECK(echo_came_back(&b, 0, (uint8_t)i, 100));
	}
}

/* --- interrupts and kicks --------------------------------------------------------------------- */

static uint16_t driver_flags(struct echo_bench *b, uint16_t flags)
{
	vd_store16(&b->d, b->rig->packed ? VD_AVAIL(0) + 2 : VD_AVAIL(0), flags);
	return flags;
}

static void suppression(struct rig *r)
{
	struct echo_bench b;

	echo_open(r, &b);
	echo_start(&b, 0, 16);
	echo_must_work(&b);
	CHECK(echo_take_interrupt(&b));
	driver_flags(&b, 1);
	echo_must_work(&b);
	CHECK(!echo_take_interrupt(&b));
	driver_flags(&b, 0);
	echo_must_work(&b);
	CHECK(echo_take_interrupt(&b));
	if (r->packed) { /* the device wants kicks, and says so */
		CHECK_EQ(vd_load16(&b.d, VD_USED(0) + 2), 0);
		driver_flags(&b, 2); /* by descriptor: not negotiated, so always */
		echo_must_work(&b);
		CHECK(echo_take_interrupt(&b));
	} else {
		CHECK_EQ(vd_load16(&b.d, VD_USED(0)), 0);
	}
}

/* An interrupt at exactly the chain that the driver asked for, wherever the lap ends. Chains take
 * two slots; the ring has 16 (split: the index counts chains). */
static void event_index(struct rig *r)
{
	struct echo_bench b;
	unsigned chains = 0, round;

	echo_open(r, &b);
	echo_start(&b, VF_EVENT_IDX, 16);
	for (round = 0; round < 40; round++) {
		unsigned distance = round % 7, i; /* this many without, then one with */

		if (r->packed) {
			unsigned slot = 2 * (chains + distance);

			vd_store16(&b.d, VD_AVAIL(0),
				   (uint16_t)(slot % 16 | (slot / 16 % 2 ? 0 : 0x8000)));
			vd_store16(&b.d, VD_AVAIL(0) + 2, 2);
		} else {
			vd_store16(&b.d, VD_AVAIL(0) + 4 + 2 * 16, (uint16_t)(chains + distance));
		}
		for (i = 0; i <= distance; i++, chains++) {
			echo_must_work(&b);
			CHECK_EQ(echo_take_interrupt(&b), i == distance);
		}
		/* and the device asks for the next chain to be told */
		if (r->packed) {
			CHECK_EQ(vd_load16(&b.d, VD_USED(0)),
				 2 * chains % 16 | (2 * chains / 16 % 2 ? 0 : 0x8000));
			CHECK_EQ(vd_load16(&b.d, VD_USED(0) + 2), 2);
		} else {
			CHECK_EQ(vd_load16(&b.d, VD_USED(0) + 4 + 8 * 16), chains);
		}
	}
}

/* --- resets ----------------------------------------------------------------------------------- */

static void reset_in_flight(struct rig *r)
{
	struct echo_bench b;
	unsigned i;

	echo_open(r, &b);
	echo_start(&b, 0, 16);
	b.e->hold = true;
	for (i = 0; i < 5; i++) {
		echo_chain(&b, (uint16_t)(2 * i), i, 16, 1);
		vd_push(&b.d, (uint16_t)(2 * i));
	}
	vd_kick(&b.d, 0);
	rig_turn(r);
	CHECK_EQ(b.e->helds, 5);
	vd_set(&b.d, VC_STATUS, 1, 0);
	CHECK(vd_get(&b.d, VC_STATUS, 1) != 0);
	vd_set(&b.d, VC_STATUS, 1, 0xf); /* too early */
	vd_set(&b.d, VC_QENABLE, 2, 1);
	while (b.e->helds > 1)
		echo_release(b.e, b.e->helds / 2);
	CHECK(vd_get(&b.d, VC_STATUS, 1) != 0);
	echo_release(b.e, 0);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0);
	CHECK_EQ(vd_used_idx(&b.d), 0);
	b.e->hold = false;
	echo_start(&b, 0, 8);
	echo_must_work(&b);
}

/* One queue alone (2.6.1), with chains in flight, to another size and place; the other goes on. */
static void queue_reset(struct rig *r)
{
	struct echo_bench b;

	echo_open(r, &b);
	echo_start(&b, VF_RING_RESET, 16);
	echo_must_work(&b);
	b.e->hold = true;
	echo_good(&b);
	vd_push(&b.d, 0);
	vd_kick(&b.d, 0);
	rig_turn(r);
	CHECK_EQ(b.e->helds, 1);
	vd_set(&b.d, VC_QSEL, 2, 0);
	vd_set(&b.d, VC_QRESET, 2, 1);
	CHECK_EQ(b.e->queue_resets, 1);
	CHECK_EQ(vd_get(&b.d, VC_QRESET, 2), 1); /* not done: a chain is out */
	vd_set(&b.d, VC_QRESET, 2, 1);
	CHECK_EQ(b.e->queue_resets, 1);
	vd_set(&b.d, VC_QSIZE, 2, 8); /* too early */
	vd_select(&b.d, 1);
	b.e->hold = false;
	echo_must_work(&b);
	vd_select(&b.d, 0);
	vd_set(&b.d, VC_QSEL, 2, 0);
	echo_release(b.e, 0);
	CHECK_EQ(vd_get(&b.d, VC_QRESET, 2), 0);
	CHECK_EQ(vd_get(&b.d, VC_QENABLE, 2), 0);
	CHECK_EQ(vd_get(&b.d, VC_QSIZE, 2), 256);
	CHECK_EQ(vd_used_idx(&b.d), 1); /* what was in flight did not come back */
	vd_kick(&b.d, 0);
	rig_turn(r);
	vd_queue(&b.d, 0, 8);
	CHECK_EQ(vd_get(&b.d, VC_QENABLE, 2), 1);
	b.d.queue_size = 8;
	echo_must_work(&b);
	vd_set(&b.d, VC_QSIZE, 2, 4); /* and is closed again */
	echo_must_work(&b);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xf);
	/* badly set up anew: the device is lost, not the process */
	vd_set(&b.d, VC_QSEL, 2, 0);
	vd_set(&b.d, VC_QRESET, 2, 1);
	vd_set_address(&b.d, VC_QDESC, RIG_MEMORY - 16);
	vd_set(&b.d, VC_QENABLE, 2, 1);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0x4f);
	echo_start(&b, 0, 16);
	echo_must_work(&b);
	vd_set(&b.d, VC_QSEL, 2, 0); /* not negotiated now */
	vd_set(&b.d, VC_QRESET, 2, 1);
	CHECK_EQ(vd_get(&b.d, VC_QENABLE, 2), 1);
	echo_must_work(&b);
}

/* The whole device is reset while a queue's own reset waits. */
static void reset_in_queue_reset(struct rig *r)
{
	struct echo_bench b;

	echo_open(r, &b);
	echo_start(&b, VF_RING_RESET, 16);
	b.e->hold = true;
	echo_good(&b);
	vd_push(&b.d, 0);
	vd_kick(&b.d, 0);
	rig_turn(r);
	vd_set(&b.d, VC_QSEL, 2, 0);
	vd_set(&b.d, VC_QRESET, 2, 1);
	vd_set(&b.d, VC_STATUS, 1, 0);
	CHECK(vd_get(&b.d, VC_STATUS, 1) != 0);
	echo_release(b.e, 0);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0);
	b.e->hold = false;
	echo_start(&b, VF_RING_RESET, 16);
	echo_must_work(&b);
}

int main(int argc, char **argv)
{
	static const struct rig_virtio_case cases[] = {
		{ "features", offered, RIG_RINGS },
		{ "laps", laps, RIG_RINGS },
		{ "any order", any_order, RIG_RINGS },
		{ "full ring", full_ring, RIG_RINGS },
		{ "indirect", indirect, RIG_RINGS },
		{ "suppression", suppression, RIG_RINGS },
		{ "event index", event_index, RIG_RINGS },
		{ "reset in flight", reset_in_flight, RIG_RINGS },
		{ "queue reset", queue_reset, RIG_RINGS },
		{ "reset in a queue's reset", reset_in_queue_reset, RIG_RINGS },
	};

	return rig_virtio_main("virtio-ring", cases, ARRAY_SIZE(cases), argc, argv);
}
