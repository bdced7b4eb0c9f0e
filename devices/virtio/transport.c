/* SPDX-License-Identifier: Apache-2.0 */
/* transport.c - see transport.h. */
#include <config.h>

#include "devices/virtio/core.h"
#include "devices/virtio/pci.h"
#include "devices/virtio/transport.h"

int virtio_connect(struct virtio *v, const struct virtio_place *place, uint32_t class_code)
{
	return place->mmio.base ? virtio_mmio_create(v, &place->mmio, &v->mmio)
				: virtio_pci_create(v, class_code, &v->pci);
}

void virtio_disconnect(struct virtio *v)
{
	v->pci = virtio_pci_destroy(v->pci);
	v->mmio = virtio_mmio_destroy(v->mmio);
}
