/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - what stands behind a network card: a place for Ethernet frames to go to and come from.
 *
 * Everything here happens on the loop thread, or while it stands still: no locks.
 */
#ifndef DEVICES_BACKEND_NET_H
#define DEVICES_BACKEND_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_FRAME_MIN 14u
#define NET_FRAME_MAX 65553u /* 64 KiB - 1 of payload behind header and VLAN tag */

struct loop;
struct net_backend;

struct net_events { /* towards the card; they don't destroy the backend */
	/* A frame for the guest, valid during the call. False: no room now: the backend keeps it,
	 * and offers it again after its resume(). */
	bool (*receive)(void *opaque, const uint8_t *frame, size_t len);
	void (*link)(void *opaque, bool up);
};

struct net_backend_ops {
	/* NET_FRAME_MIN..NET_FRAME_MAX bytes from the guest. Never waits. False: dropped. */
	bool (*send)(struct net_backend *nb, const uint8_t *frame, size_t len);
	void (*resume)(struct net_backend *nb); /* there is room for receive() again */
	void (*destroy)(struct net_backend *nb);
};

struct net_backend {
	const struct net_backend_ops *ops;
	const struct net_events *events;
	void *opaque;
	uint64_t sent, received, dropped; /* frames */
};

/* A connected stream socket, non-blocking, each frame behind its length (32 bits, big endian): what
 * passt speaks, and another machine of ours. fd belongs to the backend after success only. */
int net_stream_create(struct loop *loop, int fd, const struct net_events *events, void *opaque,
		      struct net_backend **ret_backend);

/* NULL is fine; returns NULL. */
static inline struct net_backend *net_backend_destroy(struct net_backend *nb)
{
	if (nb)
		nb->ops->destroy(nb);
	return NULL;
}

#endif
