/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - virtio-net (virtio 1.2, 5.1) with several pairs of queues and a control queue. */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/limit.h"
#include "devices/backend/net.h"
#include "devices/virtio/transport.h"
#include "machine/device.h"

struct virtio_net_limits { /* one direction */
	struct limit_rate bytes, packets;
};

struct virtio_net_config {
	enum net_kind kind;
	int fds[NET_PAIRS_MAX]; /* the device's after success */
	unsigned fd_count;      /* 0: nobody is there yet, the cable is not plugged in (no tap) */
	uint8_t mac[6];         /* bit 0 of the first byte is 0 */
	uint16_t mtu;           /* that the driver is told; 0: none, else at least 68 */
	struct virtio_net_limits to_guest, from_guest;
	void (*changed)(void *opaque); /* the link went up or down; any thread; may be NULL */
	void *opaque;
	struct virtio_place place;
};

struct virtio_net_counters {
	uint64_t rx_packets, rx_bytes, rx_dropped; /* to the guest */
	uint64_t tx_packets, tx_bytes, tx_dropped;
};

struct virtio_net_info {
	bool link;
	unsigned pairs; /* in use */
	struct virtio_net_counters counters;
};

extern const struct device_class virtio_net_class;

/* Puts another peer behind the card, of the kind it was made with: the cable is plugged in again.
 * fds are the device's after success. Errors as of net_backend_create(), -EINVAL also for one that
 * can do less. Any thread but the loop's. */
int virtio_net_attach(struct device *device, const int *fds, unsigned count);
void virtio_net_info(struct device *device, struct virtio_net_info *ret_info); /* any thread */

#endif
