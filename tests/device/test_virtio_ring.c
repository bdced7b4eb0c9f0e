/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio core over both transports and both ring formats, with a device that gives back what it
 * got, at once or when it is told: what rings must do, and every way to break their rules.
 */
#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/chips.h"
#include "devices/virtio/core.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"

#define ECHO_ID 42u
#define MMIO_BASE 0xd0000000ull
#define MMIO_LINE 5u
#define HELD_MAX 64u
#define OUT(n) (VD_BUFFERS + (n) * 0x100ull)
#define IN(n) (VD_BUFFERS + 0x80000ull + (n) * 0x100ull)
#define TABLE 0x90000ull /* for indirect descriptors */

/* --- the device ------------------------------------------------------------------------------- */

struct echo {
	struct device dev;
	struct virtio virtio;
	struct virtio_pci *pci;
	struct virtio_mmio *mmio;
	bool hold;
	unsigned helds, queue_resets;
	struct {
		unsigned queue;
		struct virtq_chain chain;
	} held[HELD_MAX];
};

static struct echo *echo_of(struct virtio *v)
{
	return (struct echo *)((char *)v - offsetof(struct echo, virtio));
}

/* What can be read goes into what can be written. Lock held. */
static void echo_answer(struct virtio *v, unsigned queue, const struct virtq_chain *c)
{
	uint32_t n = c->out_bytes < c->in_bytes ? c->out_bytes : c->in_bytes, done;
	uint8_t buf[256];

	n = n < 0x10000 ? n : 0x10000;
	for (done = 0; done < n && virtio_running(v); done += sizeof(buf)) {
		uint32_t len = n - done < sizeof(buf) ? n - done : sizeof(buf);

		CHECK(virtq_copy_out(&v->queue[queue].ring, c, done, buf, len) == 0);
		CHECK(virtq_copy_in(&v->queue[queue].ring, c, done, buf, len) == 0);
	}
	virtio_release(v, queue, c, n);
}

static void echo_kick(struct virtio *v, unsigned queue)
{
	struct echo *e = echo_of(v);
	struct virtq_chain chain;

	pthread_mutex_lock(&v->lock);
	do {
		virtio_want_kicks(v, queue, false);
		while (e->helds < HELD_MAX && virtio_get(v, queue, &chain) > 0) {
			if (e->hold) {
				e->held[e->helds].queue = queue;
				e->held[e->helds++].chain = chain;
			} else {
				echo_answer(v, queue, &chain);
			}
		}
		virtio_end(v, queue);
		virtio_want_kicks(v, queue, true);
	} while (e->helds < HELD_MAX && virtio_has(v, queue));
	pthread_mutex_unlock(&v->lock);
}

/* Gives back the i-th of those held. */
static void echo_release(struct echo *e, unsigned i)
{
	struct virtio *v = &e->virtio;
	unsigned queue = e->held[i].queue;

	CHECK(i < e->helds);
	pthread_mutex_lock(&v->lock);
	echo_answer(v, queue, &e->held[i].chain);
	virtio_end(v, queue);
	memmove(&e->held[i], &e->held[i + 1], (--e->helds - i) * sizeof(e->held[0]));
	pthread_mutex_unlock(&v->lock);
}

static void echo_queue_reset(struct virtio *v, unsigned queue)
{
	(void)queue;
	echo_of(v)->queue_resets++;
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.id = ECHO_ID,
	.kick = echo_kick,
	.queue_reset = echo_queue_reset,
};

static bool over_mmio, over_packed;

static int echo_create(struct machine *machine, const void *config, struct device **ret_device);

static void echo_reset(struct device *dev)
{
	virtio_reset_wait(&((struct echo *)dev)->virtio);
}

static void echo_destroy(struct device *dev)
{
	struct echo *e = (struct echo *)dev;

	while (e->helds)
		echo_release(e, 0);
	virtio_pci_destroy(e->pci);
	virtio_mmio_destroy(e->mmio);
	virtio_fini(&e->virtio);
	free(e);
}

static const struct device_class echo_class = {
	.name = "echo",
	.create = echo_create,
	.destroy = echo_destroy,
	.reset = echo_reset,
};

static int echo_create(struct machine *machine, const void *config, struct device **ret_device)
{
	static const uint8_t space[4] = { 1, 2, 3, 4 };
	const struct virtio_mmio_place place = { MMIO_BASE, MMIO_LINE };
	const struct virtio_info info = { .ops = &echo_ops, .queue_count = 2, .queue_size = 256,
					  .config = space, .config_size = sizeof(space) };
	struct echo *e = calloc(1, sizeof(*e));
	int r;

	(void)config;
	if (!e)
		return -ENOMEM;
	e->dev.class = &echo_class;
	e->dev.machine = machine;
	r = virtio_init(&e->virtio, machine, &info);
	if (r == 0)
		r = over_mmio ? virtio_mmio_create(&e->virtio, &place, &e->mmio)
			      : virtio_pci_create(&e->virtio, 0x00ff00, &e->pci);
	*ret_device = &e->dev;
	return r;
}

/* --- the script's verbs ----------------------------------------------------------------------- */

struct bench {
	struct rig *rig;
	struct vdriver d;
	struct echo *e;
};

static uint64_t with(uint64_t features)
{
	return features | VF_VERSION_1 | (over_packed ? VF_PACKED : 0);
}

static void open_bench(struct rig *r, struct bench *b)
{
	memset(b, 0, sizeof(*b));
	b->rig = r;
	b->e = (struct echo *)rig_add(r, &echo_class, NULL);
	CHECK(over_mmio ? vd_find_mmio(r, &b->d, MMIO_BASE, ECHO_ID)
			: vd_find(r, &b->d, 0x1040 + ECHO_ID));
}

static void start(struct bench *b, uint64_t features, uint16_t size)
{
	vd_start_queues(&b->d, with(features), size, 2);
}

static void fill(struct bench *b, unsigned slot, uint8_t seed, uint32_t len)
{
	uint8_t bytes[0x100];
	uint32_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)(seed + 7 * i);
	vd_store(&b->d, OUT(slot), bytes, len);
	memset(bytes, 0, sizeof(bytes));
	vd_store(&b->d, IN(slot), bytes, sizeof(bytes));
}

static bool echoed(struct bench *b, unsigned slot, uint8_t seed, uint32_t len)
{
	uint8_t bytes[0x100];
	uint32_t i;

	vd_load(&b->d, IN(slot), bytes, sizeof(bytes));
	for (i = 0; i < sizeof(bytes); i++)
		if (bytes[i] != (i < len ? (uint8_t)(seed + 7 * i) : 0))
			return false;
	return true;
}

/* A chain of `pieces` parts to read and one to write, from descriptor `first` on. */
static void put_chain(struct bench *b, uint16_t first, unsigned slot, uint32_t len, unsigned pieces)
{
	unsigned i;

	for (i = 0; i < pieces; i++)
		vd_desc(&b->d, first + i, OUT(slot) + i * (len / pieces),
			i + 1 < pieces ? len / pieces : len - i * (len / pieces), VD_NEXT,
			(uint16_t)(first + i + 1));
	vd_desc(&b->d, first + pieces, IN(slot), 0x100, VD_WRITE, 0);
}

static bool all_back(struct bench *b)
{
	return vd_wait(&b->d, b->d.avail);
}

/* Interrupt pending? Taken back, if so. */
static bool take_interrupt(struct bench *b)
{
	uint64_t isr;

	rig_turn(b->rig);
	if (!over_mmio)
		return rig_read(b->rig, b->d.isr, 1) & 1;
	isr = rig_read(b->rig, MMIO_BASE + 0x60, 4);
	rig_write(b->rig, MMIO_BASE + 0x64, 4, isr);
	return isr & 1;
}

/* One exchange; works whatever came before. */
static void must_work(struct bench *b)
{
	fill(b, 0, 99, 40);
	put_chain(b, 0, 0, 40, 1);
	vd_push(&b->d, 0);
	vd_kick(&b->d, b->d.queue);
	CHECK(all_back(b));
	CHECK(echoed(b, 0, 99, 40));
}

/* --- what rings do ---------------------------------------------------------------------------- */

static void offered(struct rig *r)
{
	struct bench b;

	open_bench(r, &b);
	CHECK_EQ(vd_features(&b.d), VF_CORE);
	start(&b, 0, 16);
	must_work(&b);
}

/* Many laps of a small ring with chains of several lengths, on both queues. */
static void laps(struct rig *r)
{
	static const uint16_t sizes[] = { 8, 16, 256, 12, 7, 255 };
	struct bench b;
	size_t s;
	unsigned i;
	uint32_t id, len;

	open_bench(r, &b);
	for (s = 0; s < (over_packed ? ARRAY_SIZE(sizes) : 3); s++) {
		start(&b, s & 1 ? VF_EVENT_IDX : 0, sizes[s]);
		for (i = 0; i < 400; i++) {
			unsigned pieces = 1 + i % 5, first = i % 2;
			uint32_t bytes = 20 + i % 200;

			vd_select(&b.d, i % 2);
			fill(&b, i % 3, (uint8_t)i, bytes);
			put_chain(&b, (uint16_t)first, i % 3, bytes, pieces);
			vd_push(&b.d, (uint16_t)first);
			vd_kick(&b.d, i % 2);
			CHECK(all_back(&b));
			CHECK(echoed(&b, i % 3, (uint8_t)i, bytes));
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
	struct bench b;
	unsigned i, round;
	uint32_t id, len;

	open_bench(r, &b);
	start(&b, 0, 16);
	b.e->hold = true;
	for (round = 0; round < 30; round++) {
		for (i = 0; i < 5; i++) {
			fill(&b, i, (uint8_t)(round + i), 30 + i);
			put_chain(&b, (uint16_t)(3 * i), i, 30 + i, 1 + (i + round) % 2);
			vd_push(&b.d, (uint16_t)(3 * i));
		}
		vd_kick(&b.d, 0);
		rig_turn(r);
		CHECK_EQ(b.e->helds, 5);
		for (i = 0; i < 5; i++)
			echo_release(b.e, order[i]);
		CHECK(all_back(&b));
		for (i = 0; i < 5; i++) {
			vd_used(&b.d, (uint16_t)(b.d.avail - 5 + i), &id, &len);
			CHECK_EQ(id, 3 * seen[i]);
			CHECK_EQ(len, 30u + seen[i]);
			CHECK(echoed(&b, i, (uint8_t)(round + i), 30 + i));
		}
	}
}

static void full_ring(struct rig *r)
{
	struct bench b;
	uint16_t i, round;

	open_bench(r, &b);
	start(&b, VF_EVENT_IDX, 16);
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 8; i++) {
			fill(&b, i, (uint8_t)i, 16);
			put_chain(&b, (uint16_t)(2 * i), i, 16, 1);
			vd_push(&b.d, (uint16_t)(2 * i));
		}
		vd_kick(&b.d, 0);
		CHECK(all_back(&b));
		for (i = 0; i < 8; i++)
			CHECK(echoed(&b, i, (uint8_t)i, 16));
	}
}

static void indirect(struct rig *r)
{
	struct bench b;
	unsigned i;

	open_bench(r, &b);
	start(&b, VF_INDIRECT, 8);
	for (i = 0; i < 20; i++) {
		fill(&b, 0, (uint8_t)i, 100);
		vd_desc_at(&b.d, TABLE, 0, OUT(0), 60, VD_NEXT, 1);
		vd_desc_at(&b.d, TABLE, 1, OUT(0) + 60, 40, VD_NEXT, 2);
		vd_desc_at(&b.d, TABLE, 2, IN(0), 0x100, VD_WRITE, 0);
		if (over_packed) { /* entries end with id and flags, not flags and next */
			uint8_t raw[16] = { 0 };

			put_le64(raw, OUT(0));
			put_le32(raw + 8, 60);
			vd_store(&b.d, TABLE, raw, 16);
			put_le64(raw, OUT(0) + 60);
			put_le32(raw + 8, 40);
			vd_store(&b.d, TABLE + 16, raw, 16);
			put_le64(raw, IN(0));
			put_le32(raw + 8, 0x100);
			put_le16(raw + 14, VD_WRITE);
			vd_store(&b.d, TABLE + 32, raw, 16);
		}
		vd_desc(&b.d, 3, TABLE, 48, VD_INDIRECT, 0);
		vd_push(&b.d, 3);
		vd_kick(&b.d, 0);
		CHECK(all_back(&b));
		CHECK(echoed(&b, 0, (uint8_t)i, 100));
	}
}

/* --- interrupts and kicks --------------------------------------------------------------------- */

static uint16_t driver_flags(struct bench *b, uint16_t flags)
{
	vd_store16(&b->d, over_packed ? VD_AVAIL(0) + 2 : VD_AVAIL(0), flags);
	return flags;
}

static void suppression(struct rig *r)
{
	struct bench b;

	open_bench(r, &b);
	start(&b, 0, 16);
	must_work(&b);
	CHECK(take_interrupt(&b));
	driver_flags(&b, 1);
	must_work(&b);
	CHECK(!take_interrupt(&b));
	driver_flags(&b, 0);
	must_work(&b);
	CHECK(take_interrupt(&b));
	if (over_packed) { /* the device wants kicks, and says so */
		CHECK_EQ(vd_load16(&b.d, VD_USED(0) + 2), 0);
		driver_flags(&b, 2); /* by descriptor: not negotiated, so always */
		must_work(&b);
		CHECK(take_interrupt(&b));
	} else {
		CHECK_EQ(vd_load16(&b.d, VD_USED(0)), 0);
	}
}

/* An interrupt at exactly the chain that the driver asked for, wherever the lap ends. Chains take
 * two slots; the ring has 16 (split: the index counts chains). */
static void event_index(struct rig *r)
{
	struct bench b;
	unsigned chains = 0, round;

	open_bench(r, &b);
	start(&b, VF_EVENT_IDX, 16);
	for (round = 0; round < 40; round++) {
		unsigned distance = round % 7, i; /* this many without, then one with */

		if (over_packed) {
			unsigned slot = 2 * (chains + distance);

			vd_store16(&b.d, VD_AVAIL(0),
				   (uint16_t)(slot % 16 | (slot / 16 % 2 ? 0 : 0x8000)));
			vd_store16(&b.d, VD_AVAIL(0) + 2, 2);
		} else {
			vd_store16(&b.d, VD_AVAIL(0) + 4 + 2 * 16, (uint16_t)(chains + distance));
		}
		for (i = 0; i <= distance; i++, chains++) {
			must_work(&b);
			CHECK_EQ(take_interrupt(&b), i == distance);
		}
		/* and the device asks for the next chain to be told */
		if (over_packed) {
			CHECK_EQ(vd_load16(&b.d, VD_USED(0)),
				 2 * chains % 16 | (2 * chains / 16 % 2 ? 0 : 0x8000));
			CHECK_EQ(vd_load16(&b.d, VD_USED(0) + 2), 2);
		} else {
			CHECK_EQ(vd_load16(&b.d, VD_USED(0) + 4 + 8 * 16), chains);
		}
	}
}

/* --- bad rings -------------------------------------------------------------------------------- */

typedef void spoil_fn(struct bench *b);

static void good(struct bench *b)
{
	put_chain(b, 0, 0, 32, 1);
}

static void beyond_ram(struct bench *b)
{
	vd_desc(&b->d, 0, RIG_MEMORY - 31, 32, VD_NEXT, 1);
	vd_push(&b->d, 0);
}
static void wrapping(struct bench *b)
{
	vd_desc(&b->d, 0, UINT64_MAX - 10, 32, VD_NEXT, 1);
	vd_push(&b->d, 0);
}
static void huge(struct bench *b)
{
	vd_desc(&b->d, 1, IN(0), 0xffffffff, VD_WRITE, 0);
	vd_push(&b->d, 0);
}
static void own_registers(struct bench *b)
{
	vd_desc(&b->d, 1, over_mmio ? MMIO_BASE : b->d.common, 4, VD_WRITE, 0);
	vd_push(&b->d, 0);
}
static void read_after_write(struct bench *b)
{
	vd_desc(&b->d, 1, IN(0), 16, VD_WRITE | VD_NEXT, 2);
	vd_desc(&b->d, 2, OUT(0), 16, 0, 0);
	vd_push(&b->d, 0);
}
static void ind_not_negotiated(struct bench *b)
{
	vd_desc(&b->d, 0, TABLE, 48, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}

static const struct {
	const char *name;
	spoil_fn *fn;
} bad_chains[] = {
	{ "beyond RAM", beyond_ram }, { "wrapping", wrapping }, { "huge", huge },
	{ "own registers", own_registers }, { "read after write", read_after_write },
	{ "indirect, not negotiated", ind_not_negotiated },
};

static void split_head_size(struct bench *b) { vd_push(&b->d, 16); }
static void split_head_max(struct bench *b) { vd_push(&b->d, 0xffff); }
static void split_ahead(struct bench *b) { vd_store16(&b->d, VD_AVAIL(0) + 2, 17); }
static void split_behind(struct bench *b) { vd_store16(&b->d, VD_AVAIL(0) + 2, 0xffff); }
static void split_next_out(struct bench *b)
{
	vd_desc(&b->d, 0, OUT(0), 32, VD_NEXT, 16);
	vd_push(&b->d, 0);
}
static void split_loop(struct bench *b)
{
	vd_desc(&b->d, 1, IN(0), 32, VD_NEXT | VD_WRITE, 1);
	vd_push(&b->d, 0);
}
static void split_empty_loop(struct bench *b)
{
	vd_desc(&b->d, 1, 0, 0, VD_NEXT, 0);
	vd_push(&b->d, 0);
}

static spoil_fn *const bad_split[] = {
	split_head_size, split_head_max, split_ahead, split_behind, split_next_out, split_loop,
	split_empty_loop,
};

static void packed_id_size(struct bench *b) { vd_slot(&b->d, IN(0), 32, 16, VD_WRITE); }
static void packed_id_max(struct bench *b) { vd_slot(&b->d, IN(0), 32, 0xffff, VD_WRITE); }
static void packed_endless(struct bench *b) /* every slot links to the next, for ever */
{
	unsigned i;

	for (i = 0; i < 16; i++)
		vd_slot(&b->d, OUT(0), 1, 0, VD_NEXT);
}
static void packed_endless_empty(struct bench *b)
{
	unsigned i;

	for (i = 0; i < 16; i++)
		vd_slot(&b->d, 0, 0, 0, VD_NEXT);
}
static void packed_indirect_in_list(struct bench *b)
{
	vd_slot(&b->d, OUT(0), 1, 0, VD_NEXT);
	vd_slot(&b->d, TABLE, 48, 0, VD_INDIRECT);
}
static void packed_indirect_next(struct bench *b)
{
	vd_slot(&b->d, TABLE, 48, 0, VD_INDIRECT | VD_NEXT);
	vd_slot(&b->d, IN(0), 16, 0, VD_WRITE);
}

static spoil_fn *const bad_packed[] = {
	packed_id_size, packed_id_max, packed_endless, packed_endless_empty,
	packed_indirect_in_list, packed_indirect_next,
};

static void ind_nested(struct bench *b)
{
	uint8_t raw[16] = { 0 };

	put_le64(raw, TABLE + 0x100);
	put_le32(raw + 8, 16);
	put_le16(raw + (over_packed ? 14 : 12), VD_INDIRECT);
	vd_store(&b->d, TABLE, raw, sizeof(raw));
	vd_desc(&b->d, 0, TABLE, 16, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}
static void ind_len(struct bench *b, uint64_t gpa, uint32_t len)
{
	static const uint8_t zeroes[1100 * 16];

	vd_store(&b->d, TABLE, zeroes, sizeof(zeroes));
	vd_desc(&b->d, 0, gpa, len, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}
static void ind_odd(struct bench *b) { ind_len(b, TABLE, 47); }
static void ind_none(struct bench *b) { ind_len(b, TABLE, 0); }
static void ind_huge(struct bench *b) { ind_len(b, TABLE, 0xfffffff0); }
static void ind_long(struct bench *b) { ind_len(b, TABLE, 1025 * 16); }
static void ind_beyond(struct bench *b) { ind_len(b, RIG_MEMORY - 32, 48); }
static void ind_wrapping(struct bench *b) { ind_len(b, UINT64_MAX - 15, 48); }
static void ind_many(struct bench *b) /* more segments than a chain may have */
{
	uint8_t raw[16] = { 0 };
	unsigned i;

	put_le64(raw, OUT(0));
	put_le32(raw + 8, 1);
	for (i = 0; i < 512; i++) {
		if (!over_packed) {
			put_le16(raw + 12, VD_NEXT);
			put_le16(raw + 14, (uint16_t)(i + 1));
		}
		vd_store(&b->d, TABLE + 16 * i, raw, sizeof(raw));
	}
	vd_desc(&b->d, 0, TABLE, 512 * 16, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}

static spoil_fn *const bad_indirect[] = {
	ind_nested, ind_odd, ind_none, ind_huge, ind_long, ind_beyond, ind_wrapping, ind_many,
};

/* The device is lost, quiet, and back after a reset. */
static void try_spoil(struct bench *b, spoil_fn *spoil, uint64_t features, const char *name)
{
	start(b, features, 16);
	good(b);
	spoil(b);
	vd_kick(&b->d, 0);
	if (!vd_wait_status(&b->d, 0x40, 0x40)) {
		rig_check_failed(__FILE__, __LINE__, name);
		return;
	}
	vd_select(&b->d, 1); /* the other queue is quiet too */
	good(b);
	vd_push(&b->d, 0);
	vd_kick(&b->d, 1);
	rig_turn(b->rig);
	CHECK_EQ(vd_used_idx(&b->d), 0);
	start(b, features, 16);
	must_work(b);
}

static void violations(struct rig *r)
{
	struct bench b;
	size_t i;

	open_bench(r, &b);
	for (i = 0; i < ARRAY_SIZE(bad_chains); i++)
		try_spoil(&b, bad_chains[i].fn, 0, bad_chains[i].name);
	for (i = 0; i < ARRAY_SIZE(bad_split) && !over_packed; i++)
		try_spoil(&b, bad_split[i], 0, "bad_split");
	for (i = 0; i < ARRAY_SIZE(bad_packed) && over_packed; i++)
		try_spoil(&b, bad_packed[i], VF_INDIRECT, "bad_packed");
	for (i = 0; i < ARRAY_SIZE(bad_indirect); i++)
		try_spoil(&b, bad_indirect[i], VF_INDIRECT, "bad_indirect");
}

/* A head or id that the device still has, and (packed) slots that it still has. */
static void twice(struct rig *r)
{
	struct bench b;

	open_bench(r, &b);
	start(&b, 0, 16);
	b.e->hold = true;
	good(&b);
	vd_push(&b.d, 0);
	vd_push(&b.d, 0);
	vd_kick(&b.d, 0);
	CHECK(vd_wait_status(&b.d, 0x40, 0x40));
	CHECK_EQ(b.e->helds, 1);
	echo_release(b.e, 0);
	CHECK_EQ(vd_used_idx(&b.d), 0);
	if (!over_packed)
		return;
	start(&b, 0, 4);
	vd_slot(&b.d, IN(0), 8, 0, VD_WRITE);
	vd_slot(&b.d, IN(0), 8, 1, VD_WRITE);
	vd_slot(&b.d, IN(0), 8, 2, VD_WRITE);
	vd_kick(&b.d, 0);
	rig_turn(r);
	CHECK_EQ(b.e->helds, 3);
	vd_slot(&b.d, OUT(0), 8, 3, VD_NEXT); /* slot 3, then 0 again, which is not free */
	vd_slot(&b.d, IN(0), 8, 3, VD_WRITE);
	vd_kick(&b.d, 0);
	CHECK(vd_wait_status(&b.d, 0x40, 0x40));
	CHECK_EQ(b.e->helds, 3);
	while (b.e->helds)
		echo_release(b.e, 0);
	b.e->hold = false;
	start(&b, 0, 16);
	must_work(&b);
}

static const struct {
	uint16_t size;
	bool packed_may; /* a size that only packed rings can have */
	uint64_t desc, driver, device;
} geometry[] = {
	{ 0, false, 0x10000, 0x18000, 0x1a000 },
	{ 3, true, 0x10000, 0x18000, 0x1a000 },
	{ 63, true, 0x10000, 0x18000, 0x1a000 },
	{ 257, false, 0x10000, 0x18000, 0x1a000 },
	{ 512, false, 0x10000, 0x18000, 0x1a000 },
	{ 0xffff, false, 0x10000, 0x18000, 0x1a000 },
	{ 64, false, 0x10008, 0x18000, 0x1a000 },
	{ 64, false, 0x10000, 0x18001, 0x1a000 },
	{ 64, false, 0x10000, 0x18000, 0x1a002 },
	{ 64, false, RIG_MEMORY, 0x18000, 0x1a000 },
	{ 64, false, RIG_MEMORY - 16, 0x18000, 0x1a000 },
	{ 64, false, 0x10000, RIG_MEMORY, 0x1a000 },
	{ 64, false, 0x10000, 0x18000, RIG_MEMORY },
	{ 64, false, 0xfffffffffffffff0, 0x18000, 0x1a000 },
	{ 64, false, 0x10000, 0xfffffffffffffffc, 0x1a000 },
	{ 64, false, 0x10000, 0x18000, 0xfffffffffffffffc },
	{ 64, false, 0xfec00000, 0x18000, 0x1a000 },
	{ 64, false, 0x10000, MMIO_BASE, 0x1a000 },
};

static void set_address(struct vdriver *d, unsigned offset, uint64_t gpa)
{
	vd_set(d, offset, 4, (uint32_t)gpa);
	vd_set(d, offset + 4, 4, gpa >> 32);
}

static void bad_geometry(struct rig *r)
{
	struct bench b;
	size_t i;

	open_bench(r, &b);
	for (i = 0; i < ARRAY_SIZE(geometry); i++) {
		bool fine = over_packed && geometry[i].packed_may;

		CHECK_EQ(vd_negotiate(&b.d, with(0)), 0xb);
		vd_set(&b.d, VC_QSEL, 2, 0);
		vd_set(&b.d, VC_QSIZE, 2, geometry[i].size);
		set_address(&b.d, VC_QDESC, geometry[i].desc);
		set_address(&b.d, VC_QDRIVER, geometry[i].driver);
		set_address(&b.d, VC_QDEVICE, geometry[i].device);
		vd_set(&b.d, VC_QENABLE, 2, 1);
		CHECK_EQ(vd_get(&b.d, VC_QENABLE, 2), fine);
		CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), fine ? 0xb : 0x4b);
		vd_set(&b.d, VC_STATUS, 1, 0xf); /* no way on from an error but a reset */
		CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), fine ? 0xf : 0x4b);
	}
}

/* --- illegal accesses ------------------------------------------------------------------------- */

/* In every status, every register with every width and odd values: an enabled queue keeps its
 * geometry, and a device that was not broken works. */
static void one_access(struct bench *b, uint8_t status, uint64_t base, unsigned offset,
		       unsigned size, uint64_t value)
{
	vd_set(&b->d, VC_STATUS, 1, 0);
	if (status >= 0xb) {
		(void)vd_negotiate(&b->d, with(0));
		vd_queue(&b->d, 0, 16);
		b->d.queue_size = 16;
	}
	vd_set(&b->d, VC_STATUS, 1, status & 0xf);
	if (status & 0x40) {
		good(b);
		beyond_ram(b);
		vd_kick(&b->d, 0);
		CHECK(vd_wait_status(&b->d, 0x40, 0x40));
	}
	rig_write(b->rig, base + offset, size, value);
	(void)rig_read(b->rig, base + offset, size);
	if (status < 0xb)
		return;
	vd_set(&b->d, VC_QSEL, 2, 0);
	CHECK_EQ(vd_get(&b->d, VC_QENABLE, 2), 1);
	if (!over_mmio) { /* there most are write-only */
		CHECK_EQ(vd_get(&b->d, VC_QSIZE, 2), 16);
		CHECK_EQ(vd_get(&b->d, VC_QDESC, 4), VD_DESC(0));
		CHECK_EQ(vd_get(&b->d, VC_QDEVICE + 4, 4), 0);
	}
}

static void illegal_registers(struct rig *r)
{
	static const uint8_t statuses[] = { 0, 1, 3, 0xb, 0xf, 0x4f };
	static const uint64_t values[] = { 0, 1, 2, 0xff, 0x7fff, 0xffff, 0x10000, 0xffffffff };
	const unsigned status_at = over_mmio ? 0x70 : VC_STATUS, end = over_mmio ? 0x140 : 0x60;
	struct bench b;
	size_t s, v;
	unsigned offset, size;

	open_bench(r, &b);
	for (s = 0; s < ARRAY_SIZE(statuses); s++)
		for (v = 0; v < ARRAY_SIZE(values); v++)
			for (size = 1; size <= 8; size *= 2)
				for (offset = 0; offset + size <= end; offset++)
					if (offset + size <= status_at || offset > status_at + 3)
						one_access(&b, statuses[s],
							   over_mmio ? MMIO_BASE : b.d.common,
							   offset, size, values[v]);
	start(&b, 0, 16);
	must_work(&b);
}

static void queue_numbers(struct rig *r)
{
	static const uint32_t numbers[] = { 2, 15, 16, 0x3ff, 0xfffe, 0xffff };
	struct bench b;
	size_t i;

	open_bench(r, &b);
	CHECK_EQ(vd_negotiate(&b.d, with(VF_RING_RESET)), 0xb);
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		vd_set(&b.d, VC_QSEL, 2, numbers[i]);
		CHECK_EQ(vd_get(&b.d, VC_QSIZE, 2), 0);
		vd_set(&b.d, VC_QSIZE, 2, 64);
		vd_set(&b.d, VC_QDESC, 4, 0x10000);
		vd_set(&b.d, VC_QENABLE, 2, 1);
		vd_set(&b.d, VC_QRESET, 2, 1);
		CHECK_EQ(vd_get(&b.d, VC_QENABLE, 2), 0);
		CHECK_EQ(vd_get(&b.d, VC_QRESET, 2), 0);
	}
	start(&b, 0, 16);
	for (i = 0; i < 0x400; i++) { /* every notification cell, every number */
		if (over_mmio)
			rig_write(r, MMIO_BASE + 0x50, 4, i * 0x400001);
		else
			rig_write(r, b.d.notify + 4 * i, 2, 0xffff);
	}
	rig_turn(r);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xf);
	must_work(&b);
}

static void negotiation(struct rig *r)
{
	struct bench b;

	open_bench(r, &b);
	CHECK_EQ(vd_negotiate(&b.d, with(0) & ~VF_VERSION_1), 3);
	CHECK_EQ(vd_negotiate(&b.d, with(1)), 3); /* not offered */
	CHECK_EQ(vd_negotiate(&b.d, with(VF_IN_ORDER)), 3);
	CHECK_EQ(vd_negotiate(&b.d, with(1ull << 63)), 3);
	CHECK_EQ(vd_negotiate(&b.d, with(VF_EVENT_IDX)), 0xb);
	vd_set(&b.d, VC_STATUS, 1, 1); /* bits can't be taken back */
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xb);
	vd_set(&b.d, VC_STATUS, 1, 0);
	vd_set(&b.d, VC_STATUS, 1, 4); /* DRIVER_OK out of nothing */
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0);
}

/* --- resets ----------------------------------------------------------------------------------- */

static void reset_in_flight(struct rig *r)
{
	struct bench b;
	unsigned i;

	open_bench(r, &b);
	start(&b, 0, 16);
	b.e->hold = true;
	for (i = 0; i < 5; i++) {
		put_chain(&b, (uint16_t)(2 * i), i, 16, 1);
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
	start(&b, 0, 8);
	must_work(&b);
}

/* One queue alone (2.6.1), with chains in flight, to another size and place; the other goes on. */
static void queue_reset(struct rig *r)
{
	struct bench b;

	open_bench(r, &b);
	start(&b, VF_RING_RESET, 16);
	must_work(&b);
	b.e->hold = true;
	good(&b);
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
	must_work(&b);
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
	must_work(&b);
	vd_set(&b.d, VC_QSIZE, 2, 4); /* and is closed again */
	must_work(&b);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xf);
	/* badly set up anew: the device is lost, not the process */
	vd_set(&b.d, VC_QSEL, 2, 0);
	vd_set(&b.d, VC_QRESET, 2, 1);
	set_address(&b.d, VC_QDESC, RIG_MEMORY - 16);
	vd_set(&b.d, VC_QENABLE, 2, 1);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0x4f);
	start(&b, 0, 16);
	must_work(&b);
	vd_set(&b.d, VC_QSEL, 2, 0); /* not negotiated now */
	vd_set(&b.d, VC_QRESET, 2, 1);
	CHECK_EQ(vd_get(&b.d, VC_QENABLE, 2), 1);
	must_work(&b);
}

/* The whole device is reset while a queue's own reset waits. */
static void reset_in_queue_reset(struct rig *r)
{
	struct bench b;

	open_bench(r, &b);
	start(&b, VF_RING_RESET, 16);
	b.e->hold = true;
	good(&b);
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
	start(&b, VF_RING_RESET, 16);
	must_work(&b);
}

/* Another processor writes into rings and tables all the time. */
struct flipper {
	struct rig *rig;
	atomic_bool stop;
};

static void *flip(void *opaque)
{
	struct flipper *f = opaque;
	uint32_t x = 99;

	while (!f->stop) {
		static const uint64_t where[] = { VD_DESC(0), VD_DESC(0), VD_AVAIL(0), TABLE };

		x = x * 1664525u + 1013904223u;
		(void)mem_store16(f->rig->machine->memory,
				  where[x >> 30] + (x >> 8 & 62u),
				  (uint16_t)(x >> 4 & (x & 0x8000 ? 0x8087 : 0x1ff)));
	}
	return NULL;
}

static void changing_memory(struct rig *r)
{
	struct bench b;
	struct flipper f = { .rig = r };
	pthread_t thread;
	unsigned i;

	open_bench(r, &b);
	pthread_create(&thread, NULL, flip, &f);
	for (i = 0; i < 1000; i++) {
		vd_negotiate(&b.d, with(i & 1 ? VF_INDIRECT : VF_EVENT_IDX));
		vd_queue(&b.d, 0, 16);
		b.d.queue_size = 16;
		vd_set(&b.d, VC_STATUS, 1, 0xf);
		good(&b);
		if (over_packed) /* vd_push() would read back what the other wrote */
			vd_slot(&b.d, i & 2 ? TABLE : OUT(0), 64, 0, i & 2 ? VD_INDIRECT : 0);
		else
			vd_push(&b.d, 0);
		vd_kick(&b.d, 0);
		rig_turn(r);
	}
	f.stop = true;
	pthread_join(thread, NULL);
	start(&b, 0, 16);
	must_work(&b);
}

#define CASES(X)                                             \
	X("features", offered)                               \
	X("laps", laps)                                      \
	X("any order", any_order)                            \
	X("full ring", full_ring)                            \
	X("indirect", indirect)                              \
	X("suppression", suppression)                        \
	X("event index", event_index)                        \
	X("violations", violations)                          \
	X("the same twice", twice)                           \
	X("bad geometry", bad_geometry)                      \
	X("illegal register accesses", illegal_registers)    \
	X("queue numbers", queue_numbers)                    \
	X("negotiation", negotiation)                        \
	X("reset in flight", reset_in_flight)                \
	X("queue reset", queue_reset)                        \
	X("reset in a queue's reset", reset_in_queue_reset)  \
	X("changing memory", changing_memory)

#define VARIANT(kind, fn, mmio, packed)         \
	static void kind##_##fn(struct rig *r)  \
	{                                       \
		over_mmio = mmio;               \
		over_packed = packed;           \
		fn(r);                          \
	}
#define VARIANTS(name, fn)                           \
	VARIANT(pci_split, fn, false, false)         \
	VARIANT(pci_packed, fn, false, true)         \
	VARIANT(mmio_split, fn, true, false)         \
	VARIANT(mmio_packed, fn, true, true)
#define ROWS(name, fn)                               \
	{ "pci, split: " name, pci_split_##fn },     \
	{ "pci, packed: " name, pci_packed_##fn },   \
	{ "mmio, split: " name, mmio_split_##fn },   \
	{ "mmio, packed: " name, mmio_packed_##fn },
CASES(VARIANTS)

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = { CASES(ROWS) };

	return rig_main("virtio-ring", cases, ARRAY_SIZE(cases), argc, argv);
}
