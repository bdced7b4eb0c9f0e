/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - virtio-net (virtio 1.2, 5.1) over PCI: one pair of queues, no offloads. */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include <stdint.h>

#include "machine/device.h"

struct virtio_net_config {
	int fd;         /* of backend/net.h's stream, the device's after success */
	uint8_t mac[6]; /* bit 0 of the first byte is 0 */
};

extern const struct device_class virtio_net_class;

#endif
