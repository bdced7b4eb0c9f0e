/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_ring.h - the ring that a vhost-user peer works on: the driver's side of a split virtqueue
 * (virtio 1.2, 2.7) in memory of our own, whose descriptors point into guest memory.
 *
 * The guest's ring and the peer's are two. A chain that the guest made available is taken with
 * virtio_get(), with all the core's checks, placed here, and given back to the guest when the peer
 * has. So the guest sees a buffer as used only after the processors' engine was told that it was
 * written; what is in flight is known here and nowhere else needed, whatever becomes of the peer; and
 * the guest's ring may be of a format that the peer has never heard of. Data is not copied.
 *
 * The peer's part of the memory is hostile: each field is read once and checked.
 *
 * Threads: one at a time; the virtio core's lock is held around every call.
 */
#ifndef DEVICES_VIRTIO_VHOST_RING_H
#define DEVICES_VIRTIO_VHOST_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/queue.h"

struct vhost_slot { /* one for each descriptor; that of a chain's first one has the chain */
	struct virtq_chain chain;
	uint16_t next;           /* descriptor of the same chain, or free one, behind this; or NONE */
	uint16_t older, newer;   /* heads in flight, in the order of their placing; or NONE */
	bool in_flight;
	bool parked;             /* the device's: counted by virtio_park() */
};

struct vhost_ring {
	uint16_t size;
	bool indirect;           /* the peer takes indirect tables */
	uint64_t gpa;            /* of `shared`, as the peer has it */
	uint8_t *shared;         /* descriptors, available ring, used ring, indirect tables */
	struct vhost_slot *slot; /* [size] */
	uint16_t free, free_count;
	uint16_t oldest, newest; /* in flight; or NONE */
	uint16_t avail, used;    /* indices: next to fill, next to take */
};
#define VHOST_RING_NONE 0xffffu

/* Bytes of shared memory that a ring takes, a multiple of 4096. size: a power of two, at most
 * VIRTQ_SIZE_MAX. */
size_t vhost_ring_bytes(uint16_t size);
/* shared: zeroed, still the caller's, for as long as the ring lives. -ENOMEM. */
int vhost_ring_init(struct vhost_ring *r, uint16_t size, uint8_t *shared, uint64_t gpa);
void vhost_ring_fini(struct vhost_ring *r); /* fine on a zeroed struct */

/* Where the parts are, as the peer has them. */
uint64_t vhost_ring_desc(const struct vhost_ring *r);
uint64_t vhost_ring_avail(const struct vhost_ring *r);
uint64_t vhost_ring_used(const struct vhost_ring *r);

/* The slot that the next chain goes to, NULL if there is none: its chain is to be filled. */
struct vhost_slot *vhost_ring_next(struct vhost_ring *r);
/* Makes that chain (not empty) available to the peer. -ENOSPC: not enough descriptors are free now;
 * if nothing is in flight there never will be. */
int vhost_ring_place(struct vhost_ring *r);
/* Does the peer want to be told? After one or more placings. */
bool vhost_ring_wants_kick(const struct vhost_ring *r);

/* Takes the next chain that the peer gave back: 1, it is in flight no more. The slot holds until the
 * next vhost_ring_next(). 0: none. -EPROTO: the peer broke a rule, *ret_what says which. */
int vhost_ring_take(struct vhost_ring *r, struct vhost_slot **ret_slot, uint32_t *ret_written,
		    const char **ret_what);
/* Takes the oldest one back without the peer, which does not work on the ring. NULL: none. */
struct vhost_slot *vhost_ring_abandon(struct vhost_ring *r);
/* Begins anew for a peer that comes, or comes back: what is in flight is made available again, in its
 * order. No peer works on the ring. */
void vhost_ring_restart(struct vhost_ring *r);

#endif
