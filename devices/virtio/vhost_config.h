/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_config.h - what a vhost-user device is told when it is made, and what it tells. */
#ifndef DEVICES_VIRTIO_VHOST_CONFIG_H
#define DEVICES_VIRTIO_VHOST_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/transport.h"

enum vhost_kind { VHOST_KIND_BLK, VHOST_KIND_NET, VHOST_KIND_FS, VHOST_KINDS };

#define VHOST_TAG_MAX 36u
#define VHOST_WHY_MAX 160u

struct vhost_user_config {
	enum vhost_kind kind;
	int fd;              /* connected stream socket of the peer; the device's after success */
	unsigned queues;     /* blk: queues; fs: of requests; at most what the peer has. 0: 1 */
	uint16_t queue_size; /* a power of two, 2..VIRTQ_SIZE_MAX; 0: 256 */
	char tag[VHOST_TAG_MAX + 1]; /* fs */
	uint8_t mac[6];      /* net: bit 0 of the first byte is 0 */
	char *why;           /* what was wrong if it cannot be made: VHOST_WHY_MAX bytes; may be NULL */
	void (*changed)(void *opaque); /* what vhost_user_info() tells did; any thread; may be NULL */
	void *opaque;
	struct virtio_place place;
};

struct vhost_user_info {
	bool up;                 /* there is a peer that does the work */
	unsigned changes;        /* of up */
	char why[VHOST_WHY_MAX]; /* of one that is not */
};

#endif
