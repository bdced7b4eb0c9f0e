/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console.h - virtio-console (virtio 1.2, 5.3): a terminal (hvc0 in Linux) and named streams
 * (/dev/virtio-ports/NAME), each with a peer on the host (backend/peer.h).
 *
 * Port 0 is the terminal. With it alone the device is the simple kind: two queues, and the
 * terminal's size in the configuration space. Named ports make it the kind with many ports.
 */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_CONSOLE_PORTS_MAX 8u /* named ones */
#define VIRTIO_CONSOLE_NAME_MAX 64u

/* The device works with copies of the descriptors: these stay the caller's, also after success. */
struct virtio_console_config {
	int fd;              /* the terminal's peer, see peer_create(); -1: no terminal */
	unsigned port_count; /* named ports; without a terminal at least 1 */
	struct {
		int fd;      /* as above; not -1 */
		char name[VIRTIO_CONSOLE_NAME_MAX + 1];
	} port[VIRTIO_CONSOLE_PORTS_MAX];
	struct virtio_place place;
};

extern const struct device_class virtio_console_class;

/* The terminal has another size; 1 to 65535 each. Any thread. */
void virtio_console_resize(struct device *dev, uint16_t columns, uint16_t rows);

#endif
