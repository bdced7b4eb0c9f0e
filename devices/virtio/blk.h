/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h - virtio-blk (virtio 1.2, 5.2) over PCI or MMIO. */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_BLK_SERIAL_MAX 20u

struct block;

struct virtio_blk_config {
	/* One of the two; it is the device's after success. fd: of a raw image, see
	 * block_raw_create(), or -1. */
	int fd;
	struct block *block;
	bool readonly;
	struct virtio_place place;
	bool on_loop; /* tests: no threads, requests are done on the loop thread */
	char serial[VIRTIO_BLK_SERIAL_MAX + 1]; /* device ID string, may be empty */
};

extern const struct device_class virtio_blk_class;

#endif
