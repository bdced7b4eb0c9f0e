/* SPDX-License-Identifier: Apache-2.0 */
/* transport.h - puts a virtio device where its configuration wants it: PCI or MMIO. */
#ifndef DEVICES_VIRTIO_TRANSPORT_H
#define DEVICES_VIRTIO_TRANSPORT_H

#include <stdint.h>

#include "devices/virtio/mmio.h"

struct virtio;

/* The part of its configuration that every virtio device has; all zero is fine. */
struct virtio_place {
	struct virtio_mmio_place mmio; /* base 0: PCI */
	uint64_t without;              /* features that it must not offer: virtio_info.without */
};

/* After virtio_init(). class_code: for PCI. Errors of virtio_pci_create(), virtio_mmio_create(). */
int virtio_connect(struct virtio *v, const struct virtio_place *place, uint32_t class_code);
/* Before virtio_fini(). Waits for what is in flight. Fine on a zeroed struct. */
void virtio_disconnect(struct virtio *v);

#endif
