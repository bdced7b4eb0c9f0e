/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk, over both transports: what it must do. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/chips.h"
#include "devices/virtio/blk.h"
#include "machine/irq.h"
#include "tests/device/blkdriver.h"

/* --- what it does ----------------------------------------------------------------------------- */

static void discovery(struct rig *r)
{
	struct disk k;
	uint64_t features;

	bd_open(r, &k, false);
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

	bd_open(r, &k, false);
	vd_start(&k.d, 1 << 9, 64);
	CHECK_EQ(bd_request(&k.d, T_IN, 5, 1024, true), 0);
	vd_load(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(data[0], 6);
	CHECK_EQ(data[1023], 7);
	vd_used(&k.d, 0, &id, &len);
	CHECK_EQ(id, 0);
	CHECK_EQ(len, 1025);
	memset(data, 0xa5, sizeof(data));
	vd_store(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(bd_request(&k.d, T_OUT, DISK_SECTORS - 2, 1024, false), 0);
	CHECK(pread(k.fd, disk, sizeof(disk), (DISK_SECTORS - 2) * 512) == sizeof(disk));
	CHECK(!memcmp(data, disk, sizeof(disk)));
	vd_used(&k.d, 1, &id, &len);
	CHECK_EQ(len, 1);
	CHECK_EQ(bd_request(&k.d, T_FLUSH, 0, 0, false), 0);
	CHECK_EQ(bd_request(&k.d, T_ID, 0, 20, true), 0);
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

	bd_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		memset(data, 0xcc, sizeof(data));
		vd_store(&k.d, DATA(0), data, sizeof(data));
		CHECK_EQ(bd_request(&k.d, table[i].type, table[i].sector, table[i].len, table[i].in),
			 table[i].status);
	}
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf); /* none of them cost the device */
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
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

	bd_open(r, &k, false);
	vd_start(&k.d, 1 << 9 | 1 << 13 | 1 << 14, 64);
	range(&k.d, 0, 10, 2, 0);
	range(&k.d, 1, 20, 1, 1);
	CHECK_EQ(bd_request(&k.d, T_ZEROES, 0, 32, false), 0);
	CHECK(pread(k.fd, sector, 512, 11 * 512) == 512);
	CHECK_EQ(sector[100], 0);
	CHECK(pread(k.fd, sector, 512, 20 * 512) == 512);
	CHECK_EQ(sector[100], 0);
	CHECK(pread(k.fd, sector, 512, 12 * 512) == 512);
	CHECK_EQ(sector[100], 13);
	range(&k.d, 0, 100, 8, 0);
	CHECK_EQ(bd_request(&k.d, T_DISCARD, 0, 16, false), 0);
	range(&k.d, 0, 100, 8, 1);
	CHECK_EQ(bd_request(&k.d, T_DISCARD, 0, 16, false), 2); /* no flags for discard */
	range(&k.d, 0, 100, 8, 2);
	CHECK_EQ(bd_request(&k.d, T_ZEROES, 0, 16, false), 2);
	range(&k.d, 0, DISK_SECTORS - 1, 2, 0);
	CHECK_EQ(bd_request(&k.d, T_ZEROES, 0, 16, false), 1);
	range(&k.d, 0, UINT64_MAX - 1, 4, 0);
	CHECK_EQ(bd_request(&k.d, T_DISCARD, 0, 16, false), 1);
	range(&k.d, 0, 0, 0xffffffff, 0);
	CHECK_EQ(bd_request(&k.d, T_DISCARD, 0, 16, false), 1);
	range(&k.d, 0, 0, 0, 0);
	CHECK_EQ(bd_request(&k.d, T_ZEROES, 0, 16, false), 1);
	close(k.fd);
}

static void readonly_disk(struct rig *r)
{
	struct disk k;
	uint8_t sector[512];

	bd_open(r, &k, true);
	CHECK_EQ(vd_features(&k.d) & (1 << 5 | 1 << 13 | 1 << 14), 1 << 5);
	vd_start(&k.d, 1 << 5 | 1 << 9, 64);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	CHECK_EQ(bd_request(&k.d, T_OUT, 0, 512, false), 1);
	range(&k.d, 0, 0, 1, 0);
	CHECK_EQ(bd_request(&k.d, T_ZEROES, 0, 16, false), 1);
	CHECK_EQ(bd_request(&k.d, T_DISCARD, 0, 16, false), 1);
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

	bd_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	bd_put_header(&k.d, 0, T_IN, 7);
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

	bd_open(r, &k, false);
	vd_start(&k.d, VF_INDIRECT, 64);
	bd_put_header(&k.d, 0, T_IN, 3);
	vd_desc_at(&k.d, 0x80000, 0, HEADER(0), 16, VD_NEXT, 2);
	vd_desc_at(&k.d, 0x80000, 2, DATA(0), 512, VD_NEXT | VD_WRITE, 1);
	vd_desc_at(&k.d, 0x80000, 1, STATUS(0), 1, VD_WRITE, 0);
	vd_desc(&k.d, 9, 0x80000, 48, VD_INDIRECT, 0);
	vd_push(&k.d, 9);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 1));
	CHECK_EQ(bd_status(&k.d, 0), 0);
	/* one ordinary descriptor, then the table (2.7.5.3.2) */
	bd_put_header(&k.d, 0, T_IN, 3);
	vd_desc(&k.d, 1, HEADER(0), 16, VD_NEXT, 2);
	vd_desc_at(&k.d, 0x80000, 0, DATA(0), 512, VD_NEXT | VD_WRITE, 1);
	vd_desc(&k.d, 2, 0x80000, 32, VD_INDIRECT, 0);
	vd_push(&k.d, 1);
	vd_kick(&k.d, 0);
	CHECK(vd_wait(&k.d, 2));
	CHECK_EQ(bd_status(&k.d, 0), 0);
	close(k.fd);
}

/* More than the device takes at once; all come back, whatever the order. */
static void many(struct rig *r)
{
	struct disk k;
	uint16_t i, round;
	uint32_t id, len;
	unsigned seen[256];

	bd_open(r, &k, false);
	vd_start(&k.d, VF_EVENT_IDX, 256);
	for (i = 0; i < 256; i++) { /* one descriptor cannot be a request: share pieces */
		bd_put_header(&k.d, 0, T_FLUSH, 0);
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

	bd_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	rig_turn(r);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 8); /* INTx pending */
	CHECK_EQ(rig_read(r, k.d.isr, 1), 1);
	CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0);
	CHECK_EQ(rig_read(r, k.d.isr, 1), 0);
	vd_store16(&k.d, VD_AVAIL(0), 1); /* no interrupt, please */
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
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

	bd_open(r, &k, false);
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
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
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

	bd_open(r, &k, false);
	vd_start(&k.d, VF_EVENT_IDX, 64);
	vd_store16(&k.d, VD_AVAIL(0) + 4 + 2 * 64, 2); /* interrupt me at the third */
	for (i = 0; i < 3; i++) {
		CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
		rig_turn(r);
		if (i < 2)
			CHECK_EQ(vd_cfg_read(&k.d, 6, 2) & 8, 0);
	}
	while (!(vd_cfg_read(&k.d, 6, 2) & 8) && i++ < 30000)
		usleep(1000);
	CHECK_EQ(rig_read(r, k.d.isr, 1), 1);
	/* the device asks to be kicked for the next one */
	CHECK_EQ(vd_load16(&k.d, VD_USED(0) + 4 + 8 * 64), k.d.avail);
	close(k.fd);
}

static void interrupts_mmio(struct rig *r)
{
	struct disk k;

	rig_add(r, &ioapic_class, NULL);
	rig_write(r, 0xfec00000, 4, 0x10 + 2 * BD_MMIO_LINE);
	rig_write(r, 0xfec00010, 4, 0x8035);
	bd_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 512, true), 0);
	CHECK(rig_turn_until(r, some_msi, r));
	CHECK_EQ(r->msi[0].data & 0xff, 0x35);
	CHECK_EQ(rig_read(r, BD_MMIO_BASE + 0x60, 4), 1);
	rig_write(r, BD_MMIO_BASE + 0x64, 4, 1);
	CHECK_EQ(rig_read(r, BD_MMIO_BASE + 0x60, 4), 0);
	irq_eoi(r->machine->irqs, 0x35);
	CHECK_EQ(rig_msis(r), 1); /* the line is low again */
	close(k.fd);
}

static void bus_master_off(struct rig *r)
{
	struct disk k;

	bd_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	vd_cfg_write(&k.d, 4, 2, 2);
	bd_put(&k.d, 0, T_IN, 0, 512, true);
	vd_kick(&k.d, 0);
	rig_turn(r);
	usleep(10000);
	CHECK_EQ(vd_used_idx(&k.d), 0);
	CHECK_EQ(bd_status(&k.d, 0), 0xee);
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

	bd_open(r, &k, false);
	vd_start(&k.d, 0, 64);
	CHECK(ftruncate(k.fd, 512) == 0);
	memset(data, 0xdd, sizeof(data));
	vd_store(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(bd_request(&k.d, T_IN, 0, 1024, true), 1);
	vd_load(&k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(data[511], 1);
	CHECK_EQ(data[512], 0);
	CHECK_EQ(data[1023], 0);
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

int main(int argc, char **argv)
{
	static const struct rig_virtio_case cases[] = {
		{ "discovery", discovery, RIG_PCI },
		{ "requests", requests, RIG_BOTH },
		{ "bad requests", bad_requests, RIG_BOTH },
		{ "discard and write zeroes", discard_and_zeroes, RIG_BOTH },
		{ "read-only", readonly_disk, RIG_BOTH },
		{ "any layout", any_layout, RIG_BOTH },
		{ "indirect", indirect, RIG_BOTH },
		{ "many at once", many, RIG_BOTH },
		{ "INTx", interrupts_intx, RIG_PCI },
		{ "MSI-X", interrupts_msix, RIG_PCI },
		{ "event index", event_index, RIG_PCI },
		{ "interrupts", interrupts_mmio, RIG_MMIO },
		{ "truncated image", truncated, RIG_BOTH },
		{ "bus master off", bus_master_off, RIG_PCI },
		{ "bad descriptors", bad_descriptors, RIG_PCI },
	};

	return rig_virtio_main("virtio-blk", cases, ARRAY_SIZE(cases), argc, argv);
}
