/* SPDX-License-Identifier: Apache-2.0 */
/* blkdriver.c - see blkdriver.h. */
#include <config.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/device/blkdriver.h"

void bd_add(struct rig *r, struct disk *k, struct virtio_blk_config *config)
{
	if (r->mmio)
		config->place.mmio = (struct virtio_mmio_place){ BD_MMIO_BASE, BD_MMIO_LINE };
	k->dev = rig_add(r, &virtio_blk_class, config);
	if (r->mmio)
		CHECK(vd_find_mmio(r, &k->d, BD_MMIO_BASE, 2));
	else
		CHECK(vd_find(r, &k->d, 0x1042));
}

void bd_open(struct rig *r, struct disk *k, bool readonly)
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
	bd_add(r, k, &config);
}

void bd_put_header(struct vdriver *d, unsigned slot, uint32_t type, uint64_t sector)
{
	uint8_t header[16] = { 0 }, status = 0xee;

	put_le32(header, type);
	put_le64(header + 8, sector);
	vd_store(d, HEADER(slot), header, sizeof(header));
	vd_store(d, STATUS(slot), &status, 1);
}

void bd_put(struct vdriver *d, unsigned slot, uint32_t type, uint64_t sector,
			uint32_t len, bool data_in)
{
	uint16_t i = (uint16_t)(3 * slot);

	bd_put_header(d, slot, type, sector);
	vd_desc(d, i, HEADER(slot), 16, VD_NEXT, (uint16_t)(len ? i + 1 : i + 2));
	if (len)
		vd_desc(d, i + 1u, DATA(slot), len, VD_NEXT | (data_in ? VD_WRITE : 0), i + 2);
	vd_desc(d, i + 2u, STATUS(slot), 1, VD_WRITE, 0);
	vd_push(d, i);
}

uint8_t bd_status(struct vdriver *d, unsigned slot)
{
	uint8_t status;

	vd_load(d, STATUS(slot), &status, 1);
	return status;
}

uint8_t bd_request(struct vdriver *d, uint32_t type, uint64_t sector, uint32_t len, bool in)
{
	bd_put(d, 0, type, sector, len, in);
	vd_kick(d, 0);
	if (!vd_wait(d, d->avail))
		return 0xff;
	return bd_status(d, 0);
}

void bd_good_chain(struct vdriver *d)
{
	bd_put_header(d, 0, T_IN, 0);
	vd_desc(d, 0, HEADER(0), 16, VD_NEXT, 1);
	vd_desc(d, 1, DATA(0), 512, VD_NEXT | VD_WRITE, 2);
	vd_desc(d, 2, STATUS(0), 1, VD_WRITE, 0);
}
