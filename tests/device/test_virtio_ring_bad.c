/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio core over both transports and both ring formats: every way to break the rules of rings
 * and registers.
 */
#include <config.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "tests/device/echo.h"

/* --- bad rings -------------------------------------------------------------------------------- */

typedef void spoil_fn(struct echo_bench *b);

static void beyond_ram(struct echo_bench *b)
{
	vd_desc(&b->d, 0, RIG_MEMORY - 31, 32, VD_NEXT, 1);
	vd_push(&b->d, 0);
}
static void wrapping(struct echo_bench *b)
{
	vd_desc(&b->d, 0, UINT64_MAX - 10, 32, VD_NEXT, 1);
	vd_push(&b->d, 0);
}
static void huge(struct echo_bench *b)
{
	vd_desc(&b->d, 1, ECHO_IN(0), 0xffffffff, VD_WRITE, 0);
	vd_push(&b->d, 0);
}
static void own_registers(struct echo_bench *b)
{
	vd_desc(&b->d, 1, b->rig->mmio ? ECHO_MMIO : b->d.common, 4, VD_WRITE, 0);
	vd_push(&b->d, 0);
}
static void read_after_write(struct echo_bench *b)
{
	vd_desc(&b->d, 1, ECHO_IN(0), 16, VD_WRITE | VD_NEXT, 2);
	vd_desc(&b->d, 2, ECHO_OUT(0), 16, 0, 0);
	vd_push(&b->d, 0);
}
static void ind_not_negotiated(struct echo_bench *b)
{
	vd_desc(&b->d, 0, ECHO_TABLE, 48, VD_INDIRECT, 0);
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

static void split_head_size(struct echo_bench *b) { vd_push(&b->d, 16); }
static void split_head_max(struct echo_bench *b) { vd_push(&b->d, 0xffff); }
static void split_ahead(struct echo_bench *b) { vd_store16(&b->d, VD_AVAIL(0) + 2, 17); }
static void split_behind(struct echo_bench *b) { vd_store16(&b->d, VD_AVAIL(0) + 2, 0xffff); }
static void split_next_out(struct echo_bench *b)
{
	vd_desc(&b->d, 0, ECHO_OUT(0), 32, VD_NEXT, 16);
	vd_push(&b->d, 0);
}
static void split_loop(struct echo_bench *b)
{
	vd_desc(&b->d, 1, ECHO_IN(0), 32, VD_NEXT | VD_WRITE, 1);
	vd_push(&b->d, 0);
}
static void split_empty_loop(struct echo_bench *b)
{
	vd_desc(&b->d, 1, 0, 0, VD_NEXT, 0);
	vd_push(&b->d, 0);
}

static spoil_fn *const bad_split[] = {
	split_head_size, split_head_max, split_ahead, split_behind, split_next_out, split_loop,
	split_empty_loop,
};

static void packed_id_size(struct echo_bench *b) { vd_slot(&b->d, ECHO_IN(0), 32, 16, VD_WRITE); }
static void packed_id_max(struct echo_bench *b) { vd_slot(&b->d, ECHO_IN(0), 32, 0xffff, VD_WRITE); }
static void packed_endless(struct echo_bench *b) /* every slot links to the next, for ever */
{
	unsigned i;

	for (i = 0; i < 16; i++)
		vd_slot(&b->d, ECHO_OUT(0), 1, 0, VD_NEXT);
}
static void packed_endless_empty(struct echo_bench *b)
{
	unsigned i;

	for (i = 0; i < 16; i++)
		vd_slot(&b->d, 0, 0, 0, VD_NEXT);
}
static void packed_indirect_in_list(struct echo_bench *b)
{
	vd_slot(&b->d, ECHO_OUT(0), 1, 0, VD_NEXT);
	vd_slot(&b->d, ECHO_TABLE, 48, 0, VD_INDIRECT);
}
static void packed_indirect_next(struct echo_bench *b)
{
	vd_slot(&b->d, ECHO_TABLE, 48, 0, VD_INDIRECT | VD_NEXT);
	vd_slot(&b->d, ECHO_IN(0), 16, 0, VD_WRITE);
}

static spoil_fn *const bad_packed[] = {
	packed_id_size, packed_id_max, packed_endless, packed_endless_empty,
	packed_indirect_in_list, packed_indirect_next,
};

static void ind_nested(struct echo_bench *b)
{
	uint8_t raw[16] = { 0 };

	put_le64(raw, ECHO_TABLE + 0x100);
	put_le32(raw + 8, 16);
	put_le16(raw + (b->rig->packed ? 14 : 12), VD_INDIRECT);
	vd_store(&b->d, ECHO_TABLE, raw, sizeof(raw));
	vd_desc(&b->d, 0, ECHO_TABLE, 16, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}
static void ind_len(struct echo_bench *b, uint64_t gpa, uint32_t len)
{
	static const uint8_t zeroes[1100 * 16];

	vd_store(&b->d, ECHO_TABLE, zeroes, sizeof(zeroes));
	vd_desc(&b->d, 0, gpa, len, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}
static void ind_odd(struct echo_bench *b) { ind_len(b, ECHO_TABLE, 47); }
static void ind_none(struct echo_bench *b) { ind_len(b, ECHO_TABLE, 0); }
static void ind_huge(struct echo_bench *b) { ind_len(b, ECHO_TABLE, 0xfffffff0); }
static void ind_long(struct echo_bench *b) { ind_len(b, ECHO_TABLE, 1025 * 16); }
static void ind_beyond(struct echo_bench *b) { ind_len(b, RIG_MEMORY - 32, 48); }
static void ind_wrapping(struct echo_bench *b) { ind_len(b, UINT64_MAX - 15, 48); }
static void ind_many(struct echo_bench *b) /* more segments than a chain may have */
{
	uint8_t raw[16] = { 0 };
	unsigned i;

	put_le64(raw, ECHO_OUT(0));
	put_le32(raw + 8, 1);
	for (i = 0; i < 512; i++) {
		if (!b->rig->packed) {
			put_le16(raw + 12, VD_NEXT);
			put_le16(raw + 14, (uint16_t)(i + 1));
		}
		vd_store(&b->d, ECHO_TABLE + 16 * i, raw, sizeof(raw));
	}
	vd_desc(&b->d, 0, ECHO_TABLE, 512 * 16, VD_INDIRECT, 0);
	vd_push(&b->d, 0);
}

static spoil_fn *const bad_indirect[] = {
	ind_nested, ind_odd, ind_none, ind_huge, ind_long, ind_beyond, ind_wrapping, ind_many,
};

/* The device is lost, quiet, and back after a reset. */
static void try_spoil(struct echo_bench *b, spoil_fn *spoil, uint64_t features, const char *name)
{
	echo_start(b, features, 16);
	echo_good(b);
	spoil(b);
	vd_kick(&b->d, 0);
	if (!vd_wait_status(&b->d, 0x40, 0x40)) {
		rig_check_failed(__FILE__, __LINE__, name);
		return;
	}
	vd_select(&b->d, 1); /* the other queue is quiet too */
	echo_good(b);
	vd_push(&b->d, 0);
	vd_kick(&b->d, 1);
	rig_turn(b->rig);
	CHECK_EQ(vd_used_idx(&b->d), 0);
	echo_start(b, features, 16);
	echo_must_work(b);
}

static void violations(struct rig *r)
{
	struct echo_bench b;
	size_t i;

	echo_open(r, &b);
	for (i = 0; i < ARRAY_SIZE(bad_chains); i++)
		try_spoil(&b, bad_chains[i].fn, 0, bad_chains[i].name);
	for (i = 0; i < ARRAY_SIZE(bad_split) && !r->packed; i++)
		try_spoil(&b, bad_split[i], 0, "bad_split");
	for (i = 0; i < ARRAY_SIZE(bad_packed) && r->packed; i++)
		try_spoil(&b, bad_packed[i], VF_INDIRECT, "bad_packed");
	for (i = 0; i < ARRAY_SIZE(bad_indirect); i++)
		try_spoil(&b, bad_indirect[i], VF_INDIRECT, "bad_indirect");
}

/* A head or id that the device still has, and (packed) slots that it still has. */
static void twice(struct rig *r)
{
	struct echo_bench b;

	echo_open(r, &b);
	echo_start(&b, 0, 16);
	b.e->hold = true;
	echo_good(&b);
	vd_push(&b.d, 0);
	vd_push(&b.d, 0);
	vd_kick(&b.d, 0);
	CHECK(vd_wait_status(&b.d, 0x40, 0x40));
	CHECK_EQ(b.e->helds, 1);
	echo_release(b.e, 0);
	CHECK_EQ(vd_used_idx(&b.d), 0);
	if (!r->packed)
		return;
	echo_start(&b, 0, 4);
	vd_slot(&b.d, ECHO_IN(0), 8, 0, VD_WRITE);
	vd_slot(&b.d, ECHO_IN(0), 8, 1, VD_WRITE);
	vd_slot(&b.d, ECHO_IN(0), 8, 2, VD_WRITE);
	vd_kick(&b.d, 0);
	rig_turn(r);
	CHECK_EQ(b.e->helds, 3);
	vd_slot(&b.d, ECHO_OUT(0), 8, 3, VD_NEXT); /* slot 3, then 0 again, which is not free */
	vd_slot(&b.d, ECHO_IN(0), 8, 3, VD_WRITE);
	vd_kick(&b.d, 0);
	CHECK(vd_wait_status(&b.d, 0x40, 0x40));
	CHECK_EQ(b.e->helds, 3);
	while (b.e->helds)
		echo_release(b.e, 0);
	b.e->hold = false;
	echo_start(&b, 0, 16);
	echo_must_work(&b);
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
	{ 64, false, 0x10000, ECHO_MMIO, 0x1a000 },
};

static void bad_geometry(struct rig *r)
{
	struct echo_bench b;
	size_t i;

	echo_open(r, &b);
	for (i = 0; i < ARRAY_SIZE(geometry); i++) {
		bool fine = r->packed && geometry[i].packed_may;

		CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, 0)), 0xb);
		vd_set(&b.d, VC_QSEL, 2, 0);
		vd_set(&b.d, VC_QSIZE, 2, geometry[i].size);
		vd_set_address(&b.d, VC_QDESC, geometry[i].desc);
		vd_set_address(&b.d, VC_QDRIVER, geometry[i].driver);
		vd_set_address(&b.d, VC_QDEVICE, geometry[i].device);
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
static void one_access(struct echo_bench *b, uint8_t status, uint64_t base, unsigned offset,
		       unsigned size, uint64_t value)
{
	vd_set(&b->d, VC_STATUS, 1, 0);
	if (status >= 0xb) {
		(void)vd_negotiate(&b->d, echo_with(b, 0));
		vd_queue(&b->d, 0, 16);
		b->d.queue_size = 16;
	}
	vd_set(&b->d, VC_STATUS, 1, status & 0xf);
	if (status & 0x40) {
		echo_good(b);
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
	if (!b->rig->mmio) { /* there most are write-only */
		CHECK_EQ(vd_get(&b->d, VC_QSIZE, 2), 16);
		CHECK_EQ(vd_get(&b->d, VC_QDESC, 4), VD_DESC(0));
		CHECK_EQ(vd_get(&b->d, VC_QDEVICE + 4, 4), 0);
	}
}

static void illegal_registers(struct rig *r)
{
	static const uint8_t statuses[] = { 0, 1, 3, 0xb, 0xf, 0x4f };
	static const uint64_t values[] = { 0, 1, 2, 0xff, 0x7fff, 0xffff, 0x10000, 0xffffffff };
	const unsigned status_at = r->mmio ? 0x70 : VC_STATUS, end = r->mmio ? 0x140 : 0x60;
	struct echo_bench b;
	size_t s, v;
	unsigned offset, size;

	echo_open(r, &b);
	for (s = 0; s < ARRAY_SIZE(statuses); s++)
		for (v = 0; v < ARRAY_SIZE(values); v++)
			for (size = 1; size <= 8; size *= 2)
				for (offset = 0; offset + size <= end; offset++)
					if (offset + size <= status_at || offset > status_at + 3)
						one_access(&b, statuses[s],
							   r->mmio ? ECHO_MMIO : b.d.common,
							   offset, size, values[v]);
	echo_start(&b, 0, 16);
	echo_must_work(&b);
}

static void queue_numbers(struct rig *r)
{
	static const uint32_t numbers[] = { 2, 15, 16, 0x3ff, 0xfffe, 0xffff };
	struct echo_bench b;
	size_t i;

	echo_open(r, &b);
	CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, VF_RING_RESET)), 0xb);
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
	echo_start(&b, 0, 16);
	for (i = 0; i < 0x400; i++) { /* every notification cell, every number */
		if (r->mmio)
			rig_write(r, ECHO_MMIO + 0x50, 4, i * 0x400001);
		else
			rig_write(r, b.d.notify + 4 * i, 2, 0xffff);
	}
	rig_turn(r);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xf);
	echo_must_work(&b);
}

static void negotiation(struct rig *r)
{
	struct echo_bench b;

	echo_open(r, &b);
	CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, 0) & ~VF_VERSION_1), 3);
	CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, 1)), 3); /* not offered */
	CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, VF_IN_ORDER)), 3);
	CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, 1ull << 63)), 3);
	CHECK_EQ(vd_negotiate(&b.d, echo_with(&b, VF_EVENT_IDX)), 0xb);
	vd_set(&b.d, VC_STATUS, 1, 1); /* bits can't be taken back */
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xb);
	vd_set(&b.d, VC_STATUS, 1, 0);
	vd_set(&b.d, VC_STATUS, 1, 4); /* DRIVER_OK out of nothing */
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0);
}

/* Another processor writes into rings and tables all the time. */
static void changing_memory(struct rig *r)
{
	struct echo_bench b;
	struct vd_flipper f = { .where = { { VD_DESC(0), 62 }, { VD_DESC(0), 62 }, { VD_AVAIL(0), 62 },
					   { ECHO_TABLE, 62 } } };
	unsigned i;

	echo_open(r, &b);
	vd_flip_start(&f, r);
	for (i = 0; i < 1000; i++) {
		vd_negotiate(&b.d, echo_with(&b, i & 1 ? VF_INDIRECT : VF_EVENT_IDX));
		vd_queue(&b.d, 0, 16);
		b.d.queue_size = 16;
		vd_set(&b.d, VC_STATUS, 1, 0xf);
		echo_good(&b);
		if (r->packed) /* vd_push() would read back what the other wrote */
			vd_slot(&b.d, i & 2 ? ECHO_TABLE : ECHO_OUT(0), 64, 0, i & 2 ? VD_INDIRECT : 0);
		else
			vd_push(&b.d, 0);
		vd_kick(&b.d, 0);
		rig_turn(r);
	}
	vd_flip_stop(&f);
	echo_start(&b, 0, 16);
	echo_must_work(&b);
}

int main(int argc, char **argv)
{
	static const struct rig_virtio_case cases[] = {
		{ "violations", violations, RIG_RINGS },
		{ "the same twice", twice, RIG_RINGS },
		{ "bad geometry", bad_geometry, RIG_RINGS },
		{ "illegal register accesses", illegal_registers, RIG_RINGS },
		{ "queue numbers", queue_numbers, RIG_RINGS },
		{ "negotiation", negotiation, RIG_RINGS },
		{ "changing memory", changing_memory, RIG_RINGS },
	};

	return rig_virtio_main("virtio-ring-bad", cases, ARRAY_SIZE(cases), argc, argv);
}
