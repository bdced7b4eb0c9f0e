/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - virtio-rng (virtio 1.2, 5.4) over PCI: the host's random numbers. No config. */
#ifndef DEVICES_VIRTIO_RNG_H
#define DEVICES_VIRTIO_RNG_H

#include "machine/device.h"

extern const struct device_class virtio_rng_class;

#endif
