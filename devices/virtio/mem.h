/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h - virtio-mem (virtio 1.2, 5.15): memory that the guest takes and gives back in blocks, up to
 * what the operator asks for at the time.
 *
 * The blocks lie in an area of their own behind RAM (memory.h), which firmware does not tell of. What is not
 * plugged is the host's again and out of reach, of the processors as of other devices' DMA; so the
 * driver must know VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE (Linux 5.16), and one that does not gets no
 * further than DEVICE_NEEDS_RESET. The guest can have less than what is asked for; never more.
 *
 * A reset of the device changes nothing of the blocks. A reset of the machine unplugs all.
 */
#ifndef DEVICES_VIRTIO_MEM_H
#define DEVICES_VIRTIO_MEM_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_MEM_BLOCK_DEFAULT (2ull << 20)
#define VIRTIO_MEM_BLOCK_MIN (1ull << 20)
#define VIRTIO_MEM_BLOCK_MAX (1ull << 30)
#define VIRTIO_MEM_MAX (1ull << 40)

struct virtio_mem_config {
	struct virtio_place place;
	uint64_t size;      /* at most; a multiple of block, at most VIRTIO_MEM_MAX */
	uint64_t requested; /* at first; a multiple of block, at most size */
	uint64_t block;     /* a power of two, BLOCK_MIN to BLOCK_MAX */
};

extern const struct device_class virtio_mem_class;

struct virtio_mem_info {
	bool driver; /* the guest has one */
	uint64_t size, block, requested, plugged;
};

/* How much the guest should take. -EINVAL: not a multiple of the block size; -ERANGE: more than its size.
 * Any thread. */
int virtio_mem_resize(struct device *dev, uint64_t bytes);
/* Any thread. */
void virtio_mem_info(struct device *dev, struct virtio_mem_info *ret_info);

#endif
