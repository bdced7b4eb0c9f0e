/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_internal.h - shared by vhost_user.c (life, rings) and vhost_types.c (what is peculiar to disks,
 * network cards and file systems) only. */
#ifndef DEVICES_VIRTIO_VHOST_INTERNAL_H
#define DEVICES_VIRTIO_VHOST_INTERNAL_H

#include "devices/backend/vhost_peer.h"
#include "devices/virtio/core.h"
#include "devices/virtio/vhost_queue.h"
#include "devices/virtio/vhost_user.h"
#include "machine/loop.h"

struct vhost_user;

struct vhost_type {
	struct virtio_ops ops;   /* what vhost_user.c does not set */
	uint32_t class_code;
	uint64_t passed;         /* features that the peer may offer the guest */
	uint64_t own;            /* those that this side adds */
	size_t peer_config;      /* bytes of the configuration space that are the peer's; 0: none */
	unsigned queues_min;     /* that the peer must have */
	/* How many the guest gets; the peer's number is at least queues_min. */
	unsigned (*queues)(const struct vhost_user_config *c, unsigned peer_queues);
	/* Writes what the guest is to read there; returns its size. */
	size_t (*config)(const struct vhost_user *d, uint8_t *space);
	/* Chains of this queue stay with the peer until something comes. May be NULL: none do. */
	bool (*parks)(unsigned queue);
	/* The peer came or went. v->lock held. May be NULL. */
	void (*link)(struct vhost_user *d, bool up);
};
extern const struct vhost_type vhost_types[VHOST_KINDS];

struct vhost_user {
	struct device dev;
	struct virtio virtio;
	const struct vhost_type *type;
	struct virtio_ops ops;     /* of the type, with what all have */
	struct vhost_user_config conf; /* fd, why and place are not used */
	unsigned queue_count;
	unsigned segments_max;     /* of a chain */
	bool indirect;             /* the peer takes indirect tables */
	struct vhost_peer peer;    /* the loop thread's */
	bool paused;               /* likewise */
	unsigned running_epoch;    /* likewise: epoch at the last start */
	struct loop_call sync;
	uint64_t features;         /* that the guest was offered and the peer must keep to */
	struct vhost_queues queues;
	/* Under virtio.lock: */
	bool made;                 /* the guest can see it */
	bool active;               /* the peer may touch rings */
	unsigned epoch;            /* resets */
	int new_fd;                /* a peer that waits to be greeted; -1: none */
	struct vhost_user_info info;
};

#endif
