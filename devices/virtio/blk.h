/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h - virtio-blk (virtio 1.2, 5.2) over PCI, or over MMIO where a place is given. */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/limit.h"
#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_BLK_SERIAL_MAX 20u
#define VIRTIO_BLK_QUEUES_MAX 16u

struct block;

struct virtio_blk_config {
	/* One of the two; it is the device's after success. fd: of a raw image, see
	 * block_raw_create(), or -1. */
	int fd;
	struct block *block;
	bool readonly;
	unsigned queues; /* 0: one */
	bool threads;    /* transfers by threads only, no io_uring */
	bool here;       /* who rings does what need not wait */
	struct limit_rate bytes, ops;
	struct virtio_place place;
	bool on_loop; /* tests: no threads, requests are done on the loop thread */
	char serial[VIRTIO_BLK_SERIAL_MAX + 1]; /* device ID string, may be empty */
};

extern const struct device_class virtio_blk_class;

/* Makes the disk larger, and tells the guest; 0: takes the size that the file has got by other
 * means. *ret_size: what it is now. -ERANGE: smaller; else as block_ops.resize. Any thread but the
 * loop's, one at a time. */
int virtio_blk_resize(struct device *device, uint64_t size, uint64_t *ret_size);

#endif
