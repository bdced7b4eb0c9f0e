/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk over virtio-pci: what it must do, and what it must survive. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/block.h"
#include "devices/chips.h"
#include "devices/virtio/blk.h"
#include "machine/irq.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"

#define DISK_SECTORS 2048u
#define HEADER(n) (VD_BUFFERS + (n) * 0x2000ull)
#define STATUS(n) (HEADER(n) + 0x10)
#define DATA(n) (HEADER(n) + 0x1000)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };

struct disk {
	struct vdriver d;
	struct device *dev;
	int fd; /* our own copy */
};

#define MMIO_BASE 0xd0000000ull
#define MMIO_LINE 5u

/* Cases run over PCI, or all over again over MMIO (main's table says). */
static bool over_mmio;

static void disk_open(struct rig *r, struct disk *k, bool readonly)
{
	struct virtio_blk_config config = { .readonly = readonly, .serial = "serial-0123456789ab" };
	uint8_t sector[512];
	unsigned i;

	k->fd = memfd_create("disk", MFD_CLOEXEC);
	CHECK(ftruncate(k->fd, DISK_SECTORS * 512 + 100) == 0); /* the odd bytes don't count */
	for (i = 0; i < DISK_SECTORS; i++) {
		memset(sector, (int)(i % 255 + 1), sizeof(sector));
		CHECK(pwrite(k->fd, sector, sizeof(sector), i * 512) == sizeof(sector));
	}
	config.fd = fcntl(k->fd, F_DUPFD_CLOEXEC, 3);
	if (over_mmio)
		config.place.mmio = (struct virtio_mmio_place){ MMIO_BASE, MMIO_LINE };
	k->dev = rig_add(r, &virtio_blk_class, &config);
	if (over_mmio)
		CHECK(vd_find_mmio(r, &k->d, MMIO_BASE, 2));
	else
		CHECK(vd_find(r, &k->d, 0x1042));
}

static void put_header(struct vdriver *d, unsigned slot, uint32_t type, uint64_t sector)
{
	uint8_t header[16] = { 0 }, status = 0xee;

	put_le32(header, type);
	put_le64(header + 8, sector);
	vd_store(d, HEADER(slot), header, sizeof(header));
	vd_store(d, STATUS(slot), &status, 1);
}

/* Three descriptors from 3*slot: header, data (to or from the device), status. */
static void put_request(struct vdriver *d, unsigned slot, uint32_t type, uint64_t sector,
			uint32_t len, bool data_in)
{
	uint16_t i = (uint16_t)(3 * slot);

	put_header(d, slot, type, sector);
	vd_desc(d, i, HEADER(slot), 16, VD_NEXT, (uint16_t)(len ? i + 1 : i + 2));
	if (len)
		vd_desc(d, i + 1u, DATA(slot), len, VD_NEXT | (data_in ? VD_WRITE : 0), i + 2);
	vd_desc(d, i + 2u, STATUS(slot), 1, VD_WRITE, 0);
	vd_push(d, i);
}

static uint8_t got_status(struct vdriver *d, unsigned slot)
{
	uint8_t status;

	vd_load(d, STATUS(slot), &status, 1);
	return status;
}

/* One request from start to end; its status byte, 0xff if it never came back. */
static uint8_t request(struct vdriver *d, uint32_t type, uint64_t sector, uint32_t len, bool in)
{
	put_request(d, 0, type, sector, len, in);
	vd_kick(d, 0);
	if (!vd_wait(d, d->avail))
		return 0xff;
	return got_status(d, 0);
}

/* --- what it does ----------------------------------------------------------------------------- */

static void discovery(struct rig *r)
{
	struct disk k;
	uint64_t features;

	disk_open(r, &k, false);
	features = vd_features(&k.d);
	CHECK_EQ(features, VF_CORE | 1 << 2 | 1 << 6 | 1 << 9 |
				   1 << 13 | 1 << 14);
	CHECK_EQ(vd_cfg_read(&k.d, 8, 4), 0x01000001); /* class, revision 1 */
	CHECK_EQ(vd_get(&k.d, VC_NUMQ, 2), 1);
	CHECK_EQ(rig_read(r, k.d.config, 4), DISK_SECTORS);
	CHECK_EQ(rig_read(r, k.d.config + 4, 4), 0);
	CHECK_EQ(rig_read(r, k.d.config + 12, 4), 254);
	CHECK_EQ(rig_read(r, k.d.config + 20, 4), 512);
	CHECK_EQ(k.d.config_length, 60);
	CHECK_EQ(rig_read(r, k.d.config + 58, 4), 0); /* behind the end: zeroes */
	CHECK_EQ(rig_read(r, k.d.config + 0xffc, 4), 0);
	vd_set(&k.d, VC_STATUS, 1, 3);
	rig_write(r, k.d.config, 4, 1); /* read-only */
	CHECK_EQ(rig_read(r, k.d.config, 4), DISK_SECTORS);
	close(k.fd);
}

static void requests(struct rig *r)
{
	struct disk k;
	uint8_t data[1024], disk[1024];
	uint32_t id, len;

	disk_open(r, &k, false);
	vd_start(&k.d, 1 << 9, 64);
	CHECK_EQ(request(&k.d, T_IN, 5, 1024, true), 0);
	vd_load(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(data[0], 6);
	CHECK_EQ(data[1023], 7);
	vd_used(&k.d, 0, &id, &len);
	CHECK_EQ(id, 0);
	CHECK_EQ(len, 1025);
	memset(data, 0xa5, sizeof(data));
	vd_store(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(request(&k.d, T_OUT, DISK_SECTORS - 2, 1024, false), 0);
	CHECK(pread(k.fd, disk, sizeof(disk), (DISK_SECTORS - 2) * 512) == sizeof(disk));
	CHECK(!memcmp(data, disk, sizeof(disk)));
	vd_used(&k.d, 1, &id, &len);
	CHECK_EQ(len, 1);
	CHECK_EQ(request(&k.d, T_FLUSH, 0, 0, false), 0);
	CHECK_EQ(request(&k.d, T_ID, 0, 20, true), 0);
	vd_load(&k.d, DATA(0), data, 20);
	CHECK(!memcmp(data, "serial-0123456789ab", 20));
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf);
	close(k.fd);
}

static void bad_requests(struct rig *r)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		bool in;
		uint8_t status;
	} table[] = {
		{ T_IN, DISK_SECTORS, 512, true, 1 },
		{ T_IN, DISK_SECTORS - 1, 1024, true, 1 },
		{ T_IN, UINT64_MAX, 512, true, 1 },
		{ T_IN, UINT64_MAX / 512, 512, true, 1 },
		{ T_IN, 1ull << 55, 512, true, 1 },
		{ T_IN, 0, 511, true, 1 },
		{ T_IN, 0, 0, true, 1 },
		{ T_OUT, DISK_SECTORS, 512, false, 1 },
		{ T_OUT, 0, 513, false, 1 },
		{ T_OUT, 0, 0, false, 1 },
		{ T_OUT, 0, 512, true, 1 },  /* data in the wrong direction */
		{ T_IN, 0, 512, false, 1 },
		{ 2, 0, 512, true, 2 },      /* SCSI: gone */
		{ 0xffffffff, 0, 512, true, 2 },
		{ T_DISCARD, 0, 15, false, 1 },
		{ T_DISCARD, 0, 0, false, 1 },
		{ T_ZEROES, 0, 17 * 16, false, 1 },
	};
	struct disk k;
	uint8_t data[512];
	size_t i;

	disk_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		memset(data, 0xcc, sizeof(data));
		vd_store(&k.d, DATA(0), data, sizeof(data));
		CHECK_EQ(request(&k.d, table[i].type, table[i].sector, table[i].len, table[i].in),
			 table[i].status);
	}
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf); /* none of them cost the device */
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

static void range(struct vdriver *d, unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	uint8_t raw[16];

	put_le64(raw, sector);
	put_le32(raw + 8, n);
	put_le32(raw + 12, flags);
	vd_store(d, DATA(0) + 16 * i, raw, sizeof(raw));
}

static void discard_and_zeroes(struct rig *r)
{
	struct disk k;
	uint8_t sector[512];

	disk_open(r, &k, false);
	vd_start(&k.d, 1 << 9 | 1 << 13 | 1 << 14, 64);
	range(&k.d, 0, 10, 2, 0);
	range(&k.d, 1, 20, 1, 1);
	CHECK_EQ(request(&k.d, T_ZEROES, 0, 32, false), 0);
	CHECK(pread(k.fd, sector, 512, 11 * 512) == 512);
	CHECK_EQ(sector[100], 0);
	CHECK(pread(k.fd, sector, 512, 20 * 512) == 512);
	CHECK_EQ(sector[100], 0);
	CHECK(pread(k.fd, sector, 512, 12 * 512) == 512);
	CHECK_EQ(sector[100], 13);
	range(&k.d, 0, 100, 8, 0);
	CHECK_EQ(request(&k.d, T_DISCARD, 0, 16, false), 0);
	range(&k.d, 0, 100, 8, 1);
	CHECK_EQ(request(&k.d, T_DISCARD, 0, 16, false), 2); /* no flags for discard */
	range(&k.d, 0, 100, 8, 2);
	CHECK_EQ(request(&k.d, T_ZEROES, 0, 16, false), 2);
	range(&k.d, 0, DISK_SECTORS - 1, 2, 0);
	CHECK_EQ(request(&k.d, T_ZEROES, 0, 16, false), 1);
	range(&k.d, 0, UINT64_MAX - 1, 4, 0);
	CHECK_EQ(request(&k.d, T_DISCARD, 0, 16, false), 1);
	range(&k.d, 0, 0, 0xffffffff, 0);
	CHECK_EQ(request(&k.d, T_DISCARD, 0, 16, false), 1);
	range(&k.d, 0, 0, 0, 0);
	CHECK_EQ(request(&k.d, T_ZEROES, 0, 16, false), 1);
	close(k.fd);
}

static void readonly_disk(struct rig *r)
{
	struct disk k;
	uint8_t sector[512];

	disk_open(r, &k, true);
	CHECK_EQ(vd_features(&k.d) & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
	vd_start(&k.d, 1 << 5 | 1 << 9, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	CHECK_EQ(request(&k.d, T_OUT, 0, 512, false), 1);
	range(&k.d, 0, 0, 1, 0);
	CHECK_EQ(request(&k.d, T_ZEROES, 0, 16, false), 1);
	CHECK_EQ(request(&k.d, T_DISCARD, 0, 16, false), 1);
	CHECK(pread(k.fd, sector, 512, 0) == 512);
	CHECK_EQ(sector[0], 1);
	close(k.fd);
}

/* The header in sixteen pieces, the data in four, some empty: layout is the driver's affair. */
static void any_layout(struct rig *r)
{
	struct disk k;
	uint8_t data[2048];
	uint16_t i;

	disk_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	put_header(&k.d, 0, T_IN, 7);
	for (i = 0; i < 16; i++)
		vd_desc(&k.d, i, HEADER(0) + i, 1, VD_NEXT, i + 1);
	vd_desc(&k.d, 16, 0, 0, VD_NEXT, 17);
	for (i = 17; i < 21; i++)
		vd_desc(&k.d, i, DATA(0) + (i - 17u) * 500, 500, VD_NEXT | VD_WRITE, i + 1);
	vd_desc(&k.d, 21, DATA(0) + 2000, 49, VD_WRITE, 0); /* 48 bytes of data and the status */
	vd_push(&k.d, 0);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 1));
	vd_load(&k.d, DATA(0), data, 2048);
	CHECK_EQ(data[0], 8);
	CHECK_EQ(data[2047], 11);
	vd_load(&k.d, DATA(0) + 2048, data, 1);
	CHECK_EQ(data[0], 0);
	close(k.fd);
}

static void indirect(struct rig *r)
{
	struct disk k;

	disk_open(r, &k, false);
	vd_start(&k.d, VF_INDIRECT, 64);
	put_header(&k.d, 0, T_IN, 3);
	vd_desc_at(&k.d, 0x80000, 0, HEADER(0), 16, VD_NEXT, 2);
	vd_desc_at(&k.d, 0x80000, 2, DATA(0), 512, VD_NEXT | VD_WRITE, 1);
	vd_desc_at(&k.d, 0x80000, 1, STATUS(0), 1, VD_WRITE, 0);
	vd_desc(&k.d, 9, 0x80000, 48, VD_INDIRECT, 0);
	vd_push(&k.d, 9);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 1));
	CHECK_EQ(got_status(&k.d, 0), 0);
	/* one ordinary descriptor, then the table (2.7.5.3.2) */
	put_header(&k.d, 0, T_IN, 3);
	vd_desc(&k.d, 1, HEADER(0), 16, VD_NEXT, 2);
	vd_desc_at(&k.d, 0x80000, 0, DATA(0), 512, VD_NEXT | VD_WRITE, 1);
	vd_desc(&k.d, 2, 0x80000, 32, VD_INDIRECT, 0);
	vd_push(&k.d, 1);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 2));
	CHECK_EQ(got_status(&k.d, 0), 0);
	close(k.fd);
}

/* More than the device takes at once; all come back, whatever the order. */
static void many(struct rig *r)
{
	struct disk k;
	uint16_t i, round;
	uint32_t id, len;
	unsigned seen[256];

	disk_open(r, &k, false);
	vd_start(&k.d, VF_EVENT_IDX, 256);
	for (i = 0; i < 256; i++) { /* one descriptor cannot be a request: share pieces */
		put_header(&k.d, 0, T_FLUSH, 0);
	}
	for (round = 0; round < 8; round++) {
		memset(seen, 0, sizeof(seen));
		for (i = 0; i < 85; i++) {
			vd_desc(&k.d, 3u * i, HEADER(0), 16, VD_NEXT, (uint16_t)(3 * i + 1));
			vd_desc(&k.d, 3u * i + 1, STATUS(0), 1, VD_WRITE, 0);
			vd_push(&k.d, (uint16_t)(3 * i));
		}
		vd_kick(&k.d, 0);
		CHECK(vd_wait(&k.d, k.d.avail));
		for (i = 0; i < 85; i++) {
			vd_used(&k.d, (uint16_t)(k.d.avail - 85 + i), &id, &len);
			CHECK(id < 255 && id % 3 == 0);
			seen[id % 256]++;
		}
		for (i = 0; i < 85; i++)
			CHECK_EQ(seen[3 * i], 1);
	}
	close(k.fd);
}

/* --- interrupts ------------------------------------------------------------------------------- */

static void interrupts_intx(struct rig *r)
{
	struct disk k;

	disk_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	rig_turn(r);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 8); /* INTx pending */
	CHECK_EQ(rig_read(r, k.d.isr, 1), 1);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0);
	CHECK_EQ(rig_read(r, k.d.isr, 1), 0);
	vd_store16(&k.d, VD_AVAIL(0), 1); /* no interrupt, please */
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	CHECK_EQ(rig_read(r, k.d.isr, 1), 0);
	close(k.fd);
}

static bool some_msi(void *opaque)
{
	return rig_msis(opaque) > 0;
}

static void interrupts_msix(struct rig *r)
{
	struct disk k;

	disk_open(r, &k, false);
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1), 0xb);
	vd_msix(&k.d, 2);
	CHECK_EQ(vd_get(&k.d, VC_QVEC, 2), 1);
	vd_set(&k.d, VC_QVEC, 2, 2); /* there is no vector 2 */
	CHECK_EQ(vd_get(&k.d, VC_QVEC, 2), 0xffff);
	vd_set(&k.d, VC_CVEC, 2, 0x1234);
	CHECK_EQ(vd_get(&k.d, VC_CVEC, 2), 0xffff);
	vd_set(&k.d, VC_CVEC, 2, 0);
	vd_set(&k.d, VC_QVEC, 2, 1);
	vd_queue(&k.d, 0, 64);
	k.d.queue_size = 64;
	vd_set(&k.d, VC_STATUS, 1, 0xf);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	CHECK(rig_turn_until(r, some_msi, r));
	CHECK_EQ(r->msi[0].data, 0x41);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0); /* not both */
	vd_push(&k.d, 64); /* a guest error: configuration interrupt */
	vd_kick(&k.d, 0);
	CHECK(vd_wait_status(&k.d, 0x40, 0x40));
	CHECK_EQ(r->msi[1].data, 0x40);
	close(k.fd);
}

static void event_index(struct rig *r)
{
	struct disk k;
	unsigned i;

	disk_open(r, &k, false);
	vd_start(&k.d, VF_EVENT_IDX, 64);
	vd_store16(&k.d, VD_AVAIL(0) + 4 + 2 * 64, 2); /* interrupt me at the third */
	for (i = 0; i < 3; i++) {
		CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
		rig_turn(r);
		if (i < 2)
			CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0);
	}
	while (!(vd_cfg_read(&k.d, 6, 2) & 8) && i++ < 1000)
		usleep(1000);
	CHECK_EQ(rig_read(r, k.d.isr, 1), 1);
	/* the device asks to be kicked for the next one */
	CHECK_EQ(vd_load16(&k.d, VD_USED(0) + 4 + 8 * 64), k.d.avail);
	close(k.fd);
}

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

	disk_open(r, &k, false);
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
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

static void queue_numbers(struct rig *r)
{
	static const uint32_t numbers[] = { 1, 2, 15, 16, 0x3ff, 0xfffe, 0xffff };
	struct disk k;
	size_t i;

	disk_open(r, &k, false);
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
		if (over_mmio)
			rig_write(r, MMIO_BASE + 0x50, 4, i * 0x400001);
		else
			rig_write(r, k.d.notify + 4 * i, 2, 0xffff);
	}
	rig_turn(r);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
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

	disk_open(r, &k, false);
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

	disk_open(r, &k, false);
	CHECK_EQ(vd_negotiate(&k.d, 0), 3);                        /* no VERSION_1 */
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1 | 1), 3);         /* not offered */
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1 | 1ull << 63), 3);
	CHECK_EQ(vd_negotiate(&k.d, VF_VERSION_1 | 1 << 9), 0xb);
	vd_set(&k.d, VC_GFSEL, 4, 0); /* too late */
	vd_set(&k.d, VC_GF, 4, 0);
	CHECK_EQ(vd_get(&k.d, VC_GF, 4), over_mmio ? 0 : 1 << 9); /* MMIO: write-only */
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

	disk_open(r, &k, false);
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

	disk_open(r, &k, false);
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
					rig_write(r, MMIO_BASE + offset, size, values[v]);
					(void)rig_read(r, MMIO_BASE + offset, size);
					if (statuses[s] < 0xb)
						continue;
					vd_set(&k.d, VC_QSEL, 2, 0);
					CHECK_EQ(vd_get(&k.d, VC_QENABLE, 2), 1);
					CHECK_EQ(vd_get(&k.d, VC_QDESC, 4), VD_DESC(0));
				}
	vd_start(&k.d, 0, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

static void interrupts_mmio(struct rig *r)
{
	struct disk k;

	rig_add(r, &ioapic_class, NULL);
	rig_write(r, 0xfec00000, 4, 0x10 + 2 * MMIO_LINE);
	rig_write(r, 0xfec00010, 4, 0x8035);
	disk_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	CHECK(rig_turn_until(r, some_msi, r));
	CHECK_EQ(r->msi[0].data & 0xff, 0x35);
	CHECK_EQ(rig_read(r, MMIO_BASE + 0x60, 4), 1);
	rig_write(r, MMIO_BASE + 0x64, 4, 1);
	CHECK_EQ(rig_read(r, MMIO_BASE + 0x60, 4), 0);
	irq_eoi(r->machine->irqs, 0x35);
	CHECK_EQ(rig_msis(r), 1); /* the line is low again */
	close(k.fd);
}

/* --- bad rings -------------------------------------------------------------------------------- */

typedef void spoil_fn(struct vdriver *d);

static void good_chain(struct vdriver *d)
{
	put_header(d, 0, T_IN, 0);
	vd_desc(d, 0, HEADER(0), 16, VD_NEXT, 1);
	vd_desc(d, 1, DATA(0), 512, VD_NEXT | VD_WRITE, 2);
	vd_desc(d, 2, STATUS(0), 1, VD_WRITE, 0);
}

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
static void same_twice(struct vdriver *d)
{
	vd_push(d, 0);
	vd_push(d, 0);
}

static void try_chain(struct disk *k, spoil_fn *spoil, uint64_t features)
{
	struct vdriver *d = &k->d;
	uint8_t before[16] = { 0 }, after[16];

	vd_start(d, features, 64);
	good_chain(d);
	spoil(d);
	vd_kick(d, 0);
	CHECK(vd_wait_status(d, 0x40, 0x40));
	vd_store(d, VD_USED(0) + 4, before, sizeof(before));
	vd_kick(d, 0); /* and stays quiet */
	rig_turn(d->rig);
	vd_load(d, VD_USED(0) + 4, after, sizeof(after));
	CHECK(!memcmp(before, after, sizeof(after)));
	vd_start(d, features, 64); /* a reset mends it */
	CHECK_EQ(request(d, T_IN, 0, 512, true), 0);
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

	disk_open(r, &k, false);
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

	disk_open(r, &k, false);
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

	disk_open(r, &k, false);
	vd_start(&k.d, VF_INDIRECT, 64);
	put_header(&k.d, 0, T_OUT, 0);
	for (i = 0; i < 256; i++) /* 250 x 4 MiB: under 1 GiB, allowed, and not on the disk */
		vd_desc_at(&k.d, 0x80000, i, i ? 0 : HEADER(0), i ? big : 16,
			   i == 250 ? VD_WRITE : VD_NEXT, i + 1);
	vd_desc_at(&k.d, 0x80000, 250, STATUS(0), 1, VD_WRITE, 0);
	vd_desc(&k.d, 0, 0x80000, 256 * 16, VD_INDIRECT, 0);
	vd_push(&k.d, 0);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 1));
	CHECK_EQ(got_status(&k.d, 0), 1);
	close(k.fd);
}

/* --- a back end that waits -------------------------------------------------------------------- */

struct slow {
	struct block block;
	pthread_mutex_t lock;
	pthread_cond_t go;
	bool open;
	atomic_uint entered, destroyed;
};

static int slow_wait(struct block *b)
{
	struct slow *s = (struct slow *)b;

	pthread_mutex_lock(&s->lock);
	s->entered++;
	while (!s->open)
		pthread_cond_wait(&s->go, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int slow_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		      uint64_t *ret_done)
{
	unsigned i;

	(void)offset;
	(void)slow_wait(b);
	*ret_done = 0;
	for (i = 0; i < n; i++) {
		memset(iov[i].iov_base, 0x77, iov[i].iov_len);
		*ret_done += iov[i].iov_len;
	}
	return 0;
}

static int slow_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	(void)iov, (void)n, (void)offset;
	return slow_wait(b);
}

static int slow_range(struct block *b, uint64_t offset, uint64_t len)
{
	(void)offset, (void)len;
	return slow_wait(b);
}

static int slow_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	(void)unmap;
	return slow_range(b, offset, len);
}

static void slow_destroy(struct block *b)
{
	((struct slow *)b)->destroyed++;
}

static const struct block_ops slow_ops = {
	.readv = slow_readv, .writev = slow_writev, .flush = slow_wait, .discard = slow_range,
	.write_zeroes = slow_zeroes, .destroy = slow_destroy,
};

static void slow_open(struct rig *r, struct disk *k, struct slow *s)
{
	struct virtio_blk_config config = { .fd = -1, .block = &s->block };

	memset(s, 0, sizeof(*s));
	s->block = (struct block){ .ops = &slow_ops, .size = DISK_SECTORS * 512 };
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->go, NULL);
	k->fd = -1;
	if (over_mmio)
		config.place.mmio = (struct virtio_mmio_place){ MMIO_BASE, MMIO_LINE };
	k->dev = rig_add(r, &virtio_blk_class, &config);
	if (over_mmio)
		CHECK(vd_find_mmio(r, &k->d, MMIO_BASE, 2));
	else
		CHECK(vd_find(r, &k->d, 0x1042));
}

static void slow_go(struct slow *s)
{
	pthread_mutex_lock(&s->lock);
	s->open = true;
	pthread_cond_broadcast(&s->go);
	pthread_mutex_unlock(&s->lock);
}

static bool slow_entered(void *opaque)
{
	return ((struct slow *)opaque)->entered > 0;
}

static void reset_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	unsigned i;

	slow_open(r, &k, &s);
	vd_start(&k.d, 0, 64);
	for (i = 0; i < 20; i++)
		put_request(&k.d, i, T_IN, i, 512, true);
	vd_kick(&k.d, 0);
	CHECK(rig_turn_until(r, slow_entered, &s));
	vd_set(&k.d, VC_STATUS, 1, 0);
	CHECK(vd_get(&k.d, VC_STATUS, 1) != 0); /* not yet, and nobody waited for it */
	vd_set(&k.d, VC_STATUS, 1, 0xf);
	vd_set(&k.d, VC_QENABLE, 2, 1);
	vd_kick(&k.d, 0);
	rig_turn(r);
	slow_go(&s);
	CHECK(vd_wait_status(&k.d, 0xff, 0));
	CHECK_EQ(vd_used_idx(&k.d), 0); /* nothing came back after the reset */
	CHECK(s.entered <= 4); /* what had not begun was forgotten */
	vd_start(&k.d, 0, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
}

static void error_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	uint8_t data;

	slow_open(r, &k, &s);
	vd_start(&k.d, 0, 64);
	good_chain(&k.d);
	same_twice(&k.d); /* a head that is in flight already */
	vd_kick(&k.d, 0);
	CHECK(vd_wait_status(&k.d, 0x40, 0x40));
	vd_set(&k.d, VC_STATUS, 1, 0);
	slow_go(&s);
	CHECK(vd_wait_status(&k.d, 0xff, 0));
	CHECK_EQ(vd_used_idx(&k.d), 0);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	vd_load(&k.d, DATA(0), &data, 1);
	CHECK_EQ(data, 0x77);
}

static void *go_later(void *opaque)
{
	usleep(50000);
	slow_go(opaque);
	return NULL;
}

static void pause_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	pthread_t thread;
	uint16_t used;

	slow_open(r, &k, &s);
	vd_start(&k.d, 0, 64);
	put_request(&k.d, 0, T_IN, 0, 512, true);
	vd_kick(&k.d, 0);
	CHECK(rig_turn_until(r, slow_entered, &s));
	pthread_create(&thread, NULL, go_later, &s);
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine);
	used = vd_used_idx(&k.d);
	CHECK_EQ(used, 1); /* quiet now: what was in flight is back */
	put_request(&k.d, 1, T_IN, 0, 512, true);
	vd_kick(&k.d, 0);
	rig_turn(r);
	usleep(20000);
	CHECK_EQ(vd_used_idx(&k.d), 1);
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	CHECK(vd_wait(&k.d, 2)); /* the kick was not lost */
	pthread_join(thread, NULL);
}

static void machine_reset_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	pthread_t thread;

	slow_open(r, &k, &s);
	vd_start(&k.d, 0, 64);
	put_request(&k.d, 0, T_OUT, 0, 512, false);
	vd_kick(&k.d, 0);
	CHECK(rig_turn_until(r, slow_entered, &s));
	pthread_create(&thread, NULL, go_later, &s);
	machine_reset_devices(r->machine);
	CHECK_EQ(s.open, true);
	pthread_join(thread, NULL);
	CHECK_EQ(vd_cfg_read(&k.d, 4, 2) & 4, 0); /* bus mastering is off again */
	vd_cfg_write(&k.d, 4, 2, 6);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
}

static void destroy_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	pthread_t thread;
	struct rig other;

	(void)r;
	rig_open(&other);
	slow_open(&other, &k, &s);
	vd_start(&k.d, 0, 64);
	put_request(&k.d, 0, T_OUT, 0, 512, false);
	vd_kick(&k.d, 0);
	CHECK(rig_turn_until(&other, slow_entered, &s));
	pthread_create(&thread, NULL, go_later, &s);
	rig_close(&other);
	pthread_join(thread, NULL);
	CHECK_EQ(s.destroyed, 1);
}

static void bus_master_off(struct rig *r)
{
	struct disk k;

	disk_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	vd_cfg_write(&k.d, 4, 2, 2);
	put_request(&k.d, 0, T_IN, 0, 512, true);
	vd_kick(&k.d, 0);
	rig_turn(r);
	usleep(10000);
	CHECK_EQ(vd_used_idx(&k.d), 0);
	CHECK_EQ(got_status(&k.d, 0), 0xee);
	vd_cfg_write(&k.d, 4, 2, 6);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 1));
	close(k.fd);
}

/* The file was cut short behind our back: an I/O error, and no stale bytes. */
static void truncated(struct rig *r)
{
	struct disk k;
	uint8_t data[1024];

	disk_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	CHECK(ftruncate(k.fd, 512) == 0);
	memset(data, 0xdd, sizeof(data));
	vd_store(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(request(&k.d, T_IN, 0, 1024, true), 1);
	vd_load(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(data[511], 1);
	CHECK_EQ(data[512], 0);
	CHECK_EQ(data[1023], 0);
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

	disk_open(r, &k, false);
	pthread_create(&thread, NULL, flip, &f);
	for (i = 0; i < 1500; i++) {
		vd_start(&k.d, i & 1 ? VF_INDIRECT : VF_EVENT_IDX, 64);
		good_chain(&k.d);
		vd_push(&k.d, 0);
		vd_kick(&k.d, 0);
		rig_turn(r);
	}
	f.stop = true;
	pthread_join(thread, NULL);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(request(&k.d, T_IN, 0, 512, true), 0);
	close(k.fd);
}

static void bad_descriptors(struct rig *r)
{
	struct virtio_blk_config config = { .readonly = false };
	int pipes[2];
	struct device *dev = NULL;

	CHECK(pipe2(pipes, O_CLOEXEC) == 0);
	config.fd = pipes[0]; /* no disk */
	CHECK_EQ(device_create(r->machine, &virtio_blk_class, &config, &dev), (uint64_t)-EINVAL);
	CHECK(fcntl(pipes[0], F_GETFD) >= 0); /* still ours */
	close(pipes[0]);
	close(pipes[1]);
	config.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK_EQ(device_create(r->machine, &virtio_blk_class, &config, &dev), (uint64_t)-EINVAL);
	close(config.fd);
	config.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC); /* read-only, but not asked for */
	CHECK_EQ(device_create(r->machine, &virtio_blk_class, &config, &dev), (uint64_t)-EINVAL);
	config.readonly = true;
	CHECK_EQ(device_create(r->machine, &virtio_blk_class, &config, &dev), 0);
	config.fd = 9999;
	CHECK_EQ(device_create(r->machine, &virtio_blk_class, &config, &dev), (uint64_t)-EBADF);
}

#define MMIO(name, fn) \
	static void mmio_##fn(struct rig *r) { over_mmio = true; fn(r); over_mmio = false; }
#define CASES(X)                                        \
	X("requests", requests)                         \
	X("bad requests", bad_requests)                 \
	X("discard and write zeroes", discard_and_zeroes) \
	X("read-only", readonly_disk)                   \
	X("any layout", any_layout)                     \
	X("indirect", indirect)                         \
	X("many at once", many)                         \
	X("queue numbers", queue_numbers)               \
	X("bad geometry", bad_geometry)                 \
	X("negotiation", negotiation)                   \
	X("bad chains", bad_chains)                     \
	X("bad indirect tables", bad_indirect)          \
	X("a gigabyte in one request", sum_overflow)    \
	X("reset in flight", reset_in_flight)           \
	X("guest error in flight", error_in_flight)     \
	X("pause in flight", pause_in_flight)           \
	X("destroy in flight", destroy_in_flight)       \
	X("truncated image", truncated)                 \
	X("changing memory", changing_memory)
#define PCI_ROW(name, fn) { name, fn },
#define MMIO_ROW(name, fn) { "mmio: " name, mmio_##fn },
CASES(MMIO)
MMIO("interrupts", interrupts_mmio)
MMIO("illegal register accesses", illegal_mmio)

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		CASES(PCI_ROW)
		{ "discovery", discovery },
		{ "INTx", interrupts_intx },
		{ "MSI-X", interrupts_msix },
		{ "event index", event_index },
		{ "illegal register accesses", illegal_registers },
		{ "window in config space", pci_window },
		{ "machine reset in flight", machine_reset_in_flight },
		{ "bus master off", bus_master_off },
		{ "bad descriptors", bad_descriptors },
		CASES(MMIO_ROW)
		MMIO_ROW("interrupts", interrupts_mmio)
		MMIO_ROW("illegal register accesses", illegal_mmio)
	};

	return rig_main("virtio-blk", cases, ARRAY_SIZE(cases), argc, argv);
}
