/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with drivers that break every rule: registers, rings, chains, memory that changes. */
#include <config.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/blkdriver.h"

/* --- illegal accesses to the transport -------------------------------------------------------- */

/* In every status, every register with every width and odd values: only what is allowed changes. */
static void illegal_registers(struct rig *r)
{
	static const uint8_t statuses[] = { 0, 1, 3, 0xb, 0xf, 0x4f };
	static const uint64_t values[] = { 0, 1, 2, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x10000,
					   0x80000000, 0xffffffff };
	struct disk k;
	size_t s, v;
	unsigned offset, size;

	bd_open(r, &k, false);
	for (s = 0; s < ARRAY_SIZE(statuses); s++)
		for (v = 0; v < ARRAY_SIZE(values); v++)
			for (size = 1; size <= 8; size *= 2)
				for (offset = 0; offset < 0x60; offset += 1) {
					if (offset == VC_STATUS)
						continue;
					vd_set(&k.d, VC_STATUS, 1, 0);
					if (statuses[s] >= 0xb) {
						(void)vd_negotiate(&k.d, VF_VERSION_1);
						vd_queue(&k.d, 0, 64);
						k.d.queue_size = 64;
						k.d.avail = 0;
					}
					vd_set(&k.d, VC_STATUS, 1, statuses[s] & 0xf);
					if (statuses[s] & 0x40) {
						vd_push(&k.d, 0xffff);
						vd_kick(&k.d, 0);
						CHECK(vd_wait_status(&k.d, 0x40, 0x40));
					}
					vd_set(&k.d, offset, size, values[v]);
					(void)vd_get(&k.d, offset, size);
					if (statuses[s] < 0xb || offset + size <= VC_QSEL)
						continue;
					/* an enabled queue keeps its geometry */
					vd_set(&k.d, VC_QSEL, 2, 0);
					CHECK_EQ(vd_get(&k.d, VC_QSIZE, 2), 64);
					CHECK_EQ(vd_get(&k.d, VC_QENABLE, 2), 1);
					CHECK_EQ(vd_get(&k.d, VC_QDESC, 4), VD_DESC(0));
					CHECK_EQ(vd_get(&k.d, VC_QDEVICE + 4, 4), 0);
				}
	vd_start(&k.d, 0, 64);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

static void queue_numbers(struct rig *r)
{
	static const uint32_t numbers[] = { 1, 2, 15, 16, 0x3ff, 0xfffe, 0xffff };
	struct disk k;
	size_t i;

	bd_open(r, &k, false);
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1), 0xb);
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		vd_set(&k.d, VC_QSEL, 2, numbers[i]);
		CHECK_EQ(vd_get(&k.d, VC_QSIZE, 2), 0);
		vd_set(&k.d, VC_QSIZE, 2, 64);
		vd_set(&k.d, VC_QVEC, 2, 0);
		vd_set(&k.d, VC_QDESC, 4, 0x10000);
		vd_set(&k.d, VC_QENABLE, 2, 1);
		CHECK_EQ(vd_get(&k.d, VC_QENABLE, 2), 0);
		CHECK_EQ(vd_get(&k.d, VC_QVEC, 2), 0);
	}
	vd_start(&k.d, 0, 64);
	for (i = 0; i < 0x400; i++) { /* every notification cell, every number */
		if (r->mmio)
			rig_write(r, BD_MMIO_BASE + 0x50, 4, i * 0x400001);
		else
			rig_write(r, k.d.notify + 4 * i, 2, 0xffff);
	}
	rig_turn(r);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

static void bad_geometry(struct rig *r)
{
	static const struct {
		uint16_t size;
		uint64_t desc, driver, device;
	} table[] = {
		{ 0, 0x10000, 0x18000, 0x1a000 },
		{ 3, 0x10000, 0x18000, 0x1a000 },
		{ 63, 0x10000, 0x18000, 0x1a000 },
		{ 512, 0x10000, 0x18000, 0x1a000 },
		{ 0xffff, 0x10000, 0x18000, 0x1a000 },
		{ 64, 0x10008, 0x18000, 0x1a000 },
		{ 64, 0x10000, 0x18001, 0x1a000 },
		{ 64, 0x10000, 0x18000, 0x1a002 },
		{ 64, RIG_MEMORY, 0x18000, 0x1a000 },
		{ 64, RIG_MEMORY - 16, 0x18000, 0x1a000 },
		{ 64, 0x10000, RIG_MEMORY - 16, 0x1a000 },
		{ 64, 0x10000, 0x18000, RIG_MEMORY - 16 },
		{ 64, 0xfffffffffffffff0, 0x18000, 0x1a000 },
		{ 64, 0x10000, 0xfffffffffffffffe, 0x1a000 },
		{ 64, 0x10000, 0x18000, 0xfffffffffffffffc },
		{ 64, 0xfec00000, 0x18000, 0x1a000 },
	};
	struct disk k;
	size_t i;

	bd_open(r, &k, false);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1), 0xb);
		vd_set(&k.d, VC_QSEL, 2, 0);
		vd_set(&k.d, VC_QSIZE, 2, table[i].size);
		vd_set(&k.d, VC_QDESC, 4, (uint32_t)table[i].desc);
		vd_set(&k.d, VC_QDESC + 4, 4, table[i].desc >> 32);
		vd_set(&k.d, VC_QDRIVER, 4, (uint32_t)table[i].driver);
		vd_set(&k.d, VC_QDRIVER + 4, 4, table[i].driver >> 32);
		vd_set(&k.d, VC_QDEVICE, 4, (uint32_t)table[i].device);
		vd_set(&k.d, VC_QDEVICE + 4, 4, table[i].device >> 32);
		vd_set(&k.d, VC_QENABLE, 2, 1);
		CHECK_EQ(vd_get(&k.d, VC_QENABLE, 2), 0);
		CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0x4b);
		vd_set(&k.d, VC_STATUS, 1, 0xf); /* no way on from here but a reset */
		CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0x4b);
	}
	close(k.fd);
}

static void negotiation(struct rig *r)
{
	struct disk k;

	bd_open(r, &k, false);
	CHECK_EQ(vd_negotiate(&k.d, 0), 3);                        /* no VERSION_1 */
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1 | 1), 3);         /* not offered */
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1 | 1ull << 63), 3);
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1 | 1 << 9), 0xb);
	vd_set(&k.d, VC_GFSEL, 4, 0); /* too late */
	vd_set(&k.d, VC_GF, 4, 0);
	CHECK_EQ(vd_get(&k.d, VC_GF, 4), r->mmio ? 0 : 1 << 9); /* MMIO: write-only */
	vd_set(&k.d, VC_GFSEL, 4, 2);
	CHECK_EQ(vd_get(&k.d, VC_GF, 4), 0);
	vd_set(&k.d, VC_STATUS, 1, 1); /* bits can't be taken back */
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xb);
	vd_set(&k.d, VC_STATUS, 1, 0);
	vd_set(&k.d, VC_STATUS, 1, 4); /* DRIVER_OK out of nothing */
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	vd_set(&k.d, VC_STATUS, 1, 0xff);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1) & 0x4c, 0); /* the driver can't set NEEDS_RESET */
	close(k.fd);
}

static void pci_window(struct rig *r)
{
	struct disk k;

	bd_open(r, &k, false);
	vd_cfg_write(&k.d, k.d.window + 8, 4, 0x2000); /* device configuration */
	vd_cfg_write(&k.d, k.d.window + 12, 4, 4);
	CHECK_EQ(vd_cfg_read(&k.d, k.d.window + 16, 4), DISK_SECTORS);
	vd_cfg_write(&k.d, k.d.window + 8, 4, VC_STATUS);
	vd_cfg_write(&k.d, k.d.window + 12, 4, 1);
	vd_cfg_write(&k.d, k.d.window + 16, 1, 3);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 3);
	vd_cfg_write(&k.d, k.d.window + 12, 4, 3); /* no such length */
	vd_cfg_write(&k.d, k.d.window + 16, 4, 0);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 3);
	vd_cfg_write(&k.d, k.d.window + 12, 4, 4);
	vd_cfg_write(&k.d, k.d.window + 8, 4, 0xfffffffc); /* outside */
	vd_cfg_write(&k.d, k.d.window + 16, 4, 0);
	(void)vd_cfg_read(&k.d, k.d.window + 16, 4);
	vd_cfg_write(&k.d, k.d.window + 8, 4, VC_STATUS);
	vd_cfg_write(&k.d, k.d.window + 12, 4, 1);
	vd_cfg_write(&k.d, k.d.window + 4, 1, 1); /* another BAR */
	vd_cfg_write(&k.d, k.d.window + 16, 1, 0);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 3);
	close(k.fd);
}

/* In every status, every MMIO register with every width and odd values. */
static void illegal_mmio(struct rig *r)
{
	static const uint8_t statuses[] = { 0, 1, 3, 0xb, 0xf };
	static const uint32_t values[] = { 0, 1, 2, 0xff, 0x7fff, 0xffff, 0x10000, 0xffffffff };
	struct disk k;
	size_t s, v;
	unsigned offset, size;

	bd_open(r, &k, false);
	for (s = 0; s < ARRAY_SIZE(statuses); s++)
		for (v = 0; v < ARRAY_SIZE(values); v++)
			for (size = 1; size <= 8; size *= 2)
				for (offset = 0; offset < 0x140; offset++) {
					if ((offset < 0x74 && offset + size > 0x70) ||
					    offset + size > 0x140)
						continue;
					vd_set(&k.d, VC_STATUS, 1, 0);
					if (statuses[s] >= 0xb) {
						(void)vd_negotiate(&k.d, VF_VERSION_1);
						vd_queue(&k.d, 0, 64);
					}
					vd_set(&k.d, VC_STATUS, 1, statuses[s]);
					rig_write(r, BD_MMIO_BASE + offset, size, values[v]);
					(void)rig_read(r, BD_MMIO_BASE + offset, size);
					if (statuses[s] < 0xb)
						continue;
					vd_set(&k.d, VC_QSEL, 2, 0);
					CHECK_EQ(vd_get(&k.d, VC_QENABLE, 2), 1);
					CHECK_EQ(vd_get(&k.d, VC_QDESC, 4), VD_DESC(0));
				}
	vd_start(&k.d, 0, 64);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

/* --- bad rings -------------------------------------------------------------------------------- */

#define TABLE 0x80000ull /* of indirect descriptors */
#define OWN_REGISTERS 1ull /* in place of an address */

struct bad_desc {
	uint16_t index;
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

/* How a good chain (descriptors 0 to 2) is spoiled. */
struct bad_chain {
	const char *name;
	uint16_t head;          /* what is pushed */
	uint16_t avail;         /* or, not 0: what the index is set to without a push */
	unsigned descs;         /* of `desc` */
	struct bad_desc desc[2];
	unsigned entries;       /* of the table: each is `entry`, the i-th leads to entry.next + i */
	struct bad_desc entry;
};

#define OUT_MORE VD_NEXT
#define IN_MORE (VD_NEXT | VD_WRITE)
static const struct bad_chain bad_plain[] = {
	{ "head = size", .head = 64 },
	{ "head = 0xffff", .head = 0xffff },
	{ "avail ahead", .avail = 65 },
	{ "avail behind", .avail = 0xffff },
	{ "next out of range", .descs = 1, .desc = { { 1, DATA(0), 512, IN_MORE, 64 } } },
	{ "loop to itself", .descs = 1, .desc = { { 1, DATA(0), 512, IN_MORE, 1 } } },
	{ "loop of empty ones", .descs = 1, .desc = { { 1, 0, 0, OUT_MORE, 1 } } },
	{ "loop of two", .descs = 2,
	  .desc = { { 1, DATA(0), 512, IN_MORE, 2 }, { 2, DATA(0), 512, IN_MORE, 1 } } },
	{ "read after write", .descs = 1, .desc = { { 2, STATUS(0), 1, 0, 0 } } },
	{ "no status", .descs = 1, .desc = { { 0, HEADER(0), 16, 0, 0 } } },
	{ "short header", .descs = 1, .desc = { { 0, HEADER(0), 15, OUT_MORE, 1 } } },
	{ "only a status", .head = 2 },
	{ "nothing at all", .descs = 1, .desc = { { 0, 0, 0, 0, 0 } } },
	{ "beyond RAM", .descs = 1, .desc = { { 1, RIG_MEMORY - 511, 512, IN_MORE, 2 } } },
	{ "wrapping", .descs = 1, .desc = { { 1, UINT64_MAX - 10, 512, IN_MORE, 2 } } },
	{ "huge", .descs = 1, .desc = { { 1, 0, 0xffffffff, IN_MORE, 2 } } },
	{ "own registers", .descs = 1, .desc = { { 1, OWN_REGISTERS, 4, IN_MORE, 2 } } },
	{ "indirect, not negotiated", .descs = 1, .desc = { { 0, TABLE, 48, VD_INDIRECT, 0 } } },
};

static const struct bad_chain bad_tables[] = {
	{ "nested", .descs = 1, .desc = { { 0, TABLE, 48, VD_INDIRECT, 0 } },
	  .entries = 1, .entry = { 0, TABLE + 0x1000, 48, VD_INDIRECT, 0 } },
	{ "odd length", .descs = 1, .desc = { { 0, TABLE, 47, VD_INDIRECT, 0 } } },
	{ "empty", .descs = 1, .desc = { { 0, TABLE, 0, VD_INDIRECT, 0 } } },
	{ "huge", .descs = 1, .desc = { { 0, TABLE, 0xfffffff0, VD_INDIRECT, 0 } } },
	{ "long", .descs = 1, .desc = { { 0, TABLE, 1025 * 16, VD_INDIRECT, 0 } } },
	{ "and more behind it", .descs = 1, .desc = { { 0, TABLE, 48, VD_INDIRECT | VD_NEXT, 1 } } },
	{ "leads out", .descs = 1, .desc = { { 0, TABLE, 48, VD_INDIRECT, 0 } },
	  .entries = 1, .entry = { 0, HEADER(0), 16, VD_NEXT, 3 } },
	{ "loop", .descs = 1, .desc = { { 0, TABLE, 48, VD_INDIRECT, 0 } },
	  .entries = 1, .entry = { 0, HEADER(0), 16, VD_NEXT, 0 } },
	{ "more segments than a chain may have", .descs = 1,
	  .desc = { { 0, TABLE, 512 * 16, VD_INDIRECT, 0 } },
	  .entries = 512, .entry = { 0, HEADER(0), 1, VD_NEXT, 1 } },
	{ "beyond RAM", .descs = 1, .desc = { { 0, RIG_MEMORY - 32, 48, VD_INDIRECT, 0 } } },
};

static void spoil(struct vdriver *d, const struct bad_chain *c)
{
	const struct bad_desc *e = &c->entry;
	unsigned i;

	for (i = 0; i < c->descs; i++) {
		const struct bad_desc *b = &c->desc[i];
		uint64_t gpa = b->gpa == OWN_REGISTERS ? d->mmio ? d->mmio : d->common : b->gpa;

		vd_desc(d, b->index, gpa, b->len, b->flags, b->next);
	}
	for (i = 0; i < c->entries; i++)
		vd_desc_at(d, TABLE, i, e->gpa, e->len, e->flags, (uint16_t)(e->next + i));
	if (c->avail)
		vd_store16(d, VD_AVAIL(0) + 2, c->avail);
	else
		vd_push(d, c->head);
}

/* The device is lost, quiet, and back after a reset. */
static void try_chains(struct rig *r, const struct bad_chain *chains, size_t n, uint64_t features)
{
	uint8_t before[16] = { 0 }, after[16];
	struct disk k;
	struct vdriver *d = &k.d;
	size_t i;

	bd_open(r, &k, false);
	for (i = 0; i < n; i++) {
		vd_start(d, features, 64);
		bd_good_chain(d);
		spoil(d, &chains[i]);
		vd_kick(d, 0);
		if (!vd_wait_status(d, 0x40, 0x40))
			rig_check_failed(__FILE__, __LINE__, chains[i].name);
		vd_store(d, VD_USED(0) + 4, before, sizeof(before));
		vd_kick(d, 0);
		rig_turn(r);
		vd_load(d, VD_USED(0) + 4, after, sizeof(after));
		CHECK(!memcmp(before, after, sizeof(after)));
		vd_start(d, features, 64);
		CHECK_EQ(bd_request(d, T_IN, 0, 512, true), 0);
	}
	close(k.fd);
}

static void bad_chains(struct rig *r)
{
	try_chains(r, bad_plain, ARRAY_SIZE(bad_plain), 0);
}

static void bad_indirect(struct rig *r)
{
	try_chains(r, bad_tables, ARRAY_SIZE(bad_tables), VF_INDIRECT);
}

/* The last descriptors of the table point at 4 GiB in all: the sum must not wrap. */
static void sum_overflow(struct rig *r)
{
	struct disk k;
	uint16_t i;
	uint32_t big = RIG_MEMORY;

	bd_open(r, &k, false);
	vd_start(&k.d, VF_INDIRECT, 64);
	bd_put_header(&k.d, 0, T_OUT, 0);
	for (i = 0; i < 256; i++) /* 250 x 4 MiB: under 1 GiB, allowed, and not on the disk */
		vd_desc_at(&k.d, 0x80000, i, i ? 0 : HEADER(0), i ? big : 16,
			   i == 250 ? VD_WRITE : VD_NEXT, i + 1);
	vd_desc_at(&k.d, 0x80000, 250, STATUS(0), 1, VD_WRITE, 0);
	vd_desc(&k.d, 0, 0x80000, 256 * 16, VD_INDIRECT, 0);
	vd_push(&k.d, 0);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 1));
	CHECK_EQ(bd_status(&k.d, 0), 1);
	close(k.fd);
}

/* A second processor changes descriptors, rings and headers all the time. */
static void changing_memory(struct rig *r)
{
	struct disk k;
	struct vd_flipper f = { .where = { { HEADER(0), 15 }, { VD_AVAIL(0), 63 }, { VD_DESC(0), 127 },
					   { VD_DESC(0), 127 } } };
	unsigned i;

	bd_open(r, &k, false);
	vd_flip_start(&f, r);
	for (i = 0; i < 1500; i++) {
		vd_start(&k.d, i & 1 ? VF_INDIRECT : VF_EVENT_IDX, 64);
		bd_good_chain(&k.d);
		vd_push(&k.d, 0);
		vd_kick(&k.d, 0);
		rig_turn(r);
	}
	vd_flip_stop(&f);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

int main(int argc, char **argv)
{
	static const struct rig_virtio_case cases[] = {
		{ "illegal register accesses", illegal_registers, RIG_PCI },
		{ "illegal register accesses", illegal_mmio, RIG_MMIO },
		{ "queue numbers", queue_numbers, RIG_BOTH },
		{ "bad geometry", bad_geometry, RIG_BOTH },
		{ "negotiation", negotiation, RIG_BOTH },
		{ "window in config space", pci_window, RIG_PCI },
		{ "bad chains", bad_chains, RIG_BOTH },
		{ "bad indirect tables", bad_indirect, RIG_BOTH },
		{ "a gigabyte in one request", sum_overflow, RIG_BOTH },
		{ "changing memory", changing_memory, RIG_BOTH },
	};

	return rig_virtio_main("virtio-blk-bad", cases, ARRAY_SIZE(cases), argc, argv);
}
