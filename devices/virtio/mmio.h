/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h - virtio over memory-mapped registers (virtio 1.2, 4.2; version 2 only), for guests
 * without PCI: offsets turned into the core's calls.
 */
#ifndef DEVICES_VIRTIO_MMIO_H
#define DEVICES_VIRTIO_MMIO_H

#include <stdint.h>

struct virtio;
struct virtio_mmio;

#define VIRTIO_MMIO_SIZE 0x1000u

/* Where a device's registers are (below 4 GiB), and its interrupt line (level, 5..23, may be shared;
 * irq.h). Firmware tells the guest. base 0: not on this transport. */
struct virtio_mmio_place {
	uint64_t base; /* multiple of VIRTIO_MMIO_SIZE */
	unsigned line;
};

/* Puts v (initialised, and living longer) there. -EINVAL, -EEXIST: place; -ENOMEM; -ENOSPC: too many
 * for the firmware's tables. While the
 * machine is being made. */
int virtio_mmio_create(struct virtio *v, const struct virtio_mmio_place *place,
		       struct virtio_mmio **ret_mmio);
/* Resets v (waits for what is in flight) and detaches from it; before virtio_fini(). NULL is fine;
 * returns NULL. No vCPU runs. */
struct virtio_mmio *virtio_mmio_destroy(struct virtio_mmio *m);

#endif
