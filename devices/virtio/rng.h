/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - virtio-rng (virtio 1.2, 5.4) over PCI or MMIO: the host's random numbers. */
#ifndef DEVICES_VIRTIO_RNG_H
#define DEVICES_VIRTIO_RNG_H

#include "devices/virtio/transport.h"
#include "machine/device.h"

struct virtio_rng_config {
	struct virtio_place place;
};

extern const struct device_class virtio_rng_class;

#endif
