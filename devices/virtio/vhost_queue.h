/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_queue.h - the queues of a device whose work somebody else does: a vhost-user back-end, or the
 * host's kernel. Chains go from the guest's rings to rings of our own (vhost_ring.h) and back.
 *
 * Threads: one at a time, with the virtio core's lock held, but for make and close.
 */
#ifndef DEVICES_VIRTIO_VHOST_QUEUE_H
#define DEVICES_VIRTIO_VHOST_QUEUE_H

#include "devices/backend/vhost_setup.h"
#include "devices/virtio/core.h"
#include "devices/virtio/vhost_ring.h"

/* The rings' memory, as the worker has it: above all RAM, below where its addresses begin. */
#define VHOST_SHARED_GPA (1ull << 42)

struct loop;
struct memory;
struct vhost_queues;

struct vhost_queue {
	struct vhost_queues *all;
	unsigned index;            /* of the device's queues */
	struct vhost_ring ring;
	int kick_fd, call_fd;      /* eventfds, non-blocking; -1: none */
	struct loop_watch *watch;  /* of call_fd */
};

struct vhost_queues {
	struct virtio *virtio;
	/* Chains of this queue stay with the worker until something comes. May be NULL: none do. */
	bool (*parks)(unsigned queue);
	/* May the worker get this chain? Else it goes back as it is. May be NULL: each but empty ones. */
	bool (*fits)(struct vhost_queue *q, const struct virtq_chain *chain);
	/* The worker is done with a chain, which is still to be released. May be NULL. */
	void (*done)(struct vhost_queue *q, const struct virtq_chain *chain, uint32_t written);
	/* call_fd has rung: loop thread, without the lock. */
	void (*called)(struct vhost_queue *q);
	uint16_t size;             /* of each ring */
	bool indirect;             /* the worker takes indirect tables */
	unsigned count;
	int shared_fd;             /* the rings' memory; -1: none */
	uint8_t *shared;
	size_t shared_size;
	struct vhost_queue queue[VHOST_QUEUES_MAX];
};

/* Before anything else. Afterwards close() is fine, whatever make() said. */
void vhost_queues_init(struct vhost_queues *qs, struct virtio *virtio);
/* Rings, their memory, eventfds and watches for count queues; the other members were filled in. What
 * memfd_create(), mmap(), eventfd() and epoll say. */
int vhost_queues_make(struct vhost_queues *qs, struct loop *loop, unsigned count);
/* Loop thread, or where that stands still; nothing is in flight. */
void vhost_queues_close(struct vhost_queues *qs);

/* As if call_fd had rung: where the loop stands still, without the lock. */
void vhost_queue_poll(struct vhost_queue *q);
/* All that the guest has for the worker, as far as there is room, for one turn; the worker is told. The
 * worker works on the ring. */
void vhost_queue_feed(struct vhost_queue *q);
/* What the worker is done with is the guest's again. What it did wrong, or NULL. */
const char *vhost_queue_collect(struct vhost_queue *q);
const char *vhost_queues_collect(struct vhost_queues *qs);
/* The same for what no worker will be done with. No worker works on the rings. */
void vhost_queues_abandon(struct vhost_queues *qs);
/* The machine stands still (yes), and no worker works: what one did not finish waits for the next, which
 * gets it at its start. */
void vhost_queues_park(struct vhost_queues *qs, bool yes);
/* A worker is about to begin: regions and rings of *ret, each ring as of vhost_ring_restart(). */
void vhost_queues_restart(struct vhost_queues *qs, struct vhost_setup *ret);
/* It has begun: both sides look at all queues. */
void vhost_queues_kick(struct vhost_queues *qs);

#endif
