/* SPDX-License-Identifier: Apache-2.0 */
/* net_config.h - what a network card is told when it is made, and what it tells. */
#ifndef DEVICES_VIRTIO_NET_CONFIG_H
#define DEVICES_VIRTIO_NET_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/limit.h"
#include "devices/backend/net.h"
#include "devices/virtio/transport.h"

#define NET_WHY_MAX 160u

struct virtio_net_limits { /* one direction */
	struct limit_rate bytes, packets;
};

struct virtio_net_config {
	enum net_kind kind;
	int fds[NET_PAIRS_MAX]; /* the device's after success */
	unsigned fd_count;      /* 0: nobody is there yet, the cable is not plugged in (no tap) */
	int vhost_fds[NET_PAIRS_MAX]; /* /dev/vhost-net; likewise */
	unsigned vhost_count;   /* 0, or fd_count of a tap without limits: the kernel moves packets */
	bool vhost_must;        /* not made if the kernel does not */
	char *why;              /* then: why, NET_WHY_MAX bytes; may be NULL */
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
	bool vhost;     /* the kernel moves its packets while there is a driver */
	unsigned pairs; /* in use */
	struct virtio_net_counters counters;
};

#endif
