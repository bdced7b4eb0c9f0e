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

typedef void spoil_fn(struct vdriver *d);

static void head_size(struct vdriver *d) { vd_push(d, 64); }
static void head_max(struct vdriver *d) { vd_push(d, 0xffff); }
static void avail_ahead(struct vdriver *d)
{
	vd_store16(d, VD_AVAIL(0) + 2, 65);
}
static void avail_behind(struct vdriver *d)
{
	vd_store16(d, VD_AVAIL(0) + 2, 0xffff);
}
static void next_out(struct vdriver *d)
{
	vd_desc(d, 1, DATA(0), 512, VD_NEXT | VD_WRITE, 64);
	vd_push(d, 0);
}
static void loop_self(struct vdriver *d)
{
	vd_desc(d, 1, DATA(0), 512, VD_NEXT | VD_WRITE, 1);
	vd_push(d, 0);
}
static void loop_empty(struct vdriver *d)
{
	vd_desc(d, 1, 0, 0, VD_NEXT, 1);
	vd_push(d, 0);
}
static void loop_two(struct vdriver *d)
{
	vd_desc(d, 1, DATA(0), 512, VD_NEXT | VD_WRITE, 2);
	vd_desc(d, 2, DATA(0), 512, VD_NEXT | VD_WRITE, 1);
	vd_push(d, 0);
}
static void read_after_write(struct vdriver *d)
{
	vd_desc(d, 2, STATUS(0), 1, 0, 0);
	vd_push(d, 0);
}
static void no_status(struct vdriver *d)
{
	vd_desc(d, 0, HEADER(0), 16, 0, 0);
	vd_push(d, 0);
}
static void short_header(struct vdriver *d)
{
	vd_desc(d, 0, HEADER(0), 15, VD_NEXT, 1);
	vd_push(d, 0);
}
static void only_status(struct vdriver *d)
{
	vd_push(d, 2);
}
static void all_empty(struct vdriver *d)
{
	vd_desc(d, 0, 0, 0, 0, 0);
	vd_push(d, 0);
}
static void beyond_ram(struct vdriver *d)
{
	vd_desc(d, 1, RIG_MEMORY - 511, 512, VD_NEXT | VD_WRITE, 2);
	vd_push(d, 0);
}
static void wrapping(struct vdriver *d)
{
	vd_desc(d, 1, UINT64_MAX - 10, 512, VD_NEXT | VD_WRITE, 2);
	vd_push(d, 0);
}
static void huge(struct vdriver *d)
{
	vd_desc(d, 1, 0, 0xffffffff, VD_NEXT | VD_WRITE, 2);
	vd_push(d, 0);
}
static void own_bar(struct vdriver *d)
{
	vd_desc(d, 1, d->mmio ? d->mmio : d->common, 4, VD_NEXT | VD_WRITE, 2);
	vd_push(d, 0);
}
static void not_negotiated(struct vdriver *d)
{
	vd_desc(d, 0, 0x80000, 48, VD_INDIRECT, 0);
	vd_push(d, 0);
}

static void try_chain(struct disk *k, spoil_fn *spoil, uint64_t features)
{
	struct vdriver *d = &k->d;
	uint8_t before[16] = { 0 }, after[16];

	vd_start(d, features, 64);
	bd_good_chain(d);
	spoil(d);
	vd_kick(d, 0);
	CHECK(vd_wait_status(d, 0x40, 0x40));
	vd_store(d, VD_USED(0) + 4, before, sizeof(before));
	vd_kick(d, 0); /* and stays quiet */
	rig_turn(d->rig);
	vd_load(d, VD_USED(0) + 4, after, sizeof(after));
	CHECK(!memcmp(before, after, sizeof(after)));
	vd_start(d, features, 64); /* a reset mends it */
	CHECK_EQ(bd_request(d, T_IN, 0, 512, true), 0);
}

static void bad_chains(struct rig *r)
{
	static const struct {
		const char *name;
		spoil_fn *fn;
	} table[] = {
		{ "head = size", head_size }, { "head = 0xffff", head_max },
		{ "avail ahead", avail_ahead }, { "avail behind", avail_behind },
		{ "next out of range", next_out }, { "loop to itself", loop_self },
		{ "loop of empty ones", loop_empty }, { "loop of two", loop_two },
		{ "read after write", read_after_write }, { "no status", no_status },
		{ "short header", short_header }, { "only a status", only_status },
		{ "nothing at all", all_empty }, { "beyond RAM", beyond_ram },
		{ "wrapping", wrapping }, { "huge", huge }, { "own BAR", own_bar },
		{ "indirect, not negotiated", not_negotiated },
	};
	struct disk k;
	size_t i;

	bd_open(r, &k, false);
	for (i = 0; i < ARRAY_SIZE(table); i++)
		try_chain(&k, table[i].fn, 0);
	close(k.fd);
}

static void ind_nested(struct vdriver *d)
{
	vd_desc_at(d, 0x80000, 0, 0x81000, 48, VD_INDIRECT, 0);
	vd_desc(d, 0, 0x80000, 48, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_odd(struct vdriver *d)
{
	vd_desc(d, 0, 0x80000, 47, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_none(struct vdriver *d)
{
	vd_desc(d, 0, 0x80000, 0, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_huge(struct vdriver *d)
{
	vd_desc(d, 0, 0x80000, 0xfffffff0, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_long(struct vdriver *d)
{
	vd_desc(d, 0, 0x80000, 1025 * 16, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_next(struct vdriver *d)
{
	vd_desc(d, 0, 0x80000, 48, VD_INDIRECT | VD_NEXT, 1);
	vd_push(d, 0);
}
static void ind_link_out(struct vdriver *d)
{
	vd_desc_at(d, 0x80000, 0, HEADER(0), 16, VD_NEXT, 3);
	vd_desc(d, 0, 0x80000, 48, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_loop(struct vdriver *d)
{
	vd_desc_at(d, 0x80000, 0, HEADER(0), 16, VD_NEXT, 0);
	vd_desc(d, 0, 0x80000, 48, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_many(struct vdriver *d) /* more segments than a chain may have */
{
	uint16_t i;

	for (i = 0; i < 512; i++)
		vd_desc_at(d, 0x80000, i, HEADER(0), 1, VD_NEXT, i + 1);
	vd_desc(d, 0, 0x80000, 512 * 16, VD_INDIRECT, 0);
	vd_push(d, 0);
}
static void ind_beyond(struct vdriver *d)
{
	vd_desc(d, 0, RIG_MEMORY - 32, 48, VD_INDIRECT, 0);
	vd_push(d, 0);
}

static void bad_indirect(struct rig *r)
{
	static spoil_fn *const table[] = { ind_nested, ind_odd, ind_none, ind_huge, ind_long,
					   ind_next, ind_link_out, ind_loop, ind_many, ind_beyond };
	struct disk k;
	size_t i;

	bd_open(r, &k, false);
	for (i = 0; i < ARRAY_SIZE(table); i++)
		try_chain(&k, table[i], VF_INDIRECT);
	close(k.fd);
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

/* A second processor changes descriptors, rings and headers all the time. What the device reads,
 * it reads once; the sanitizers see to the rest. */
struct flipper {
	struct rig *rig;
	atomic_bool stop;
};

static void *flip(void *opaque)
{
	struct flipper *f = opaque;
	uint32_t x = 99;

	while (!f->stop) {
		uint64_t where;

		x = x * 1664525u + 1013904223u;
		switch (x >> 30) {
		case 0:
			where = HEADER(0) + (x >> 8 & 15u);
			break;
		case 1:
			where = VD_AVAIL(0) + (x >> 8 & 63u);
			break;
		default:
			where = VD_DESC(0) + (x >> 8 & 127u);
			break;
		}
		(void)mem_store16(f->rig->machine->memory, where & ~1ull,
				  (uint16_t)(x >> 4 & 0x1ff));
	}
	return NULL;
}

static void changing_memory(struct rig *r)
{
	struct disk k;
	struct flipper f = { .rig = r };
	pthread_t thread;
	unsigned i;

	bd_open(r, &k, false);
	pthread_create(&thread, NULL, flip, &f);
	for (i = 0; i < 1500; i++) {
		vd_start(&k.d, i & 1 ? VF_INDIRECT : VF_EVENT_IDX, 64);
		bd_good_chain(&k.d);
		vd_push(&k.d, 0);
		vd_kick(&k.d, 0);
		rig_turn(r);
	}
	f.stop = true;
	pthread_join(thread, NULL);
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
