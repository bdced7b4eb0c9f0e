/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h - virtio-blk (virtio 1.2, 5.2) over PCI, or over MMIO where a place is given. */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/mmio.h"
#include "machine/device.h"

#define VIRTIO_BLK_SERIAL_MAX 20u

struct block;

struct virtio_blk_config {
	int fd;             /* raw image: regular file or block device (backend/block.h), the device's
			     * after success. -1: `block` is given instead */
	struct block *block; /* the device's after success */
	bool readonly;
	struct virtio_mmio_place mmio;
	bool on_loop;       /* tests: no threads, requests are done on the loop thread */
	char serial[VIRTIO_BLK_SERIAL_MAX + 1]; /* device ID string, may be empty */
};

extern const struct device_class virtio_blk_class;

#endif
