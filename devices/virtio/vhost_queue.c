/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_queue.c - see vhost_queue.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/virtio/vhost_queue.h"
#include "machine/device.h"
#include "machine/loop.h"
#include "machine/memory.h"

#define FEED_MAX 64u /* chains in one turn */
_Static_assert(MEMORY_PARTS_MAX < VHOST_REGIONS_MAX, "regions of a setup");

static bool parks(const struct vhost_queue *q)
{
	return q->all->parks && q->all->parks(q->index);
}

static void park(struct vhost_queue *q, struct vhost_slot *slot, bool yes)
{
	if (slot->parked == yes)
		return;
	slot->parked = yes;
	virtio_park(q->all->virtio, yes ? 1 : -1);
}

/* --- back to the guest -------------------------------------------------------------------------- */

/* A chain is the guest's again. The engine hears of all that may have been written first. */
static void give_back(struct vhost_queue *q, struct vhost_slot *slot, uint32_t written)
{
	struct virtio *v = q->all->virtio;

	virtq_iov_written(&v->queue[q->index].ring, &slot->chain, 0, slot->chain.in_bytes);
	park(q, slot, false);
	virtio_release(v, q->index, &slot->chain, written);
}

const char *vhost_queue_collect(struct vhost_queue *q)
{
	struct vhost_slot *slot;
	const char *what = NULL;
	uint32_t written;
	unsigned n = 0;
	int r;

	while ((r = vhost_ring_take(&q->ring, &slot, &written, &what)) > 0) {
		if (q->all->done)
			q->all->done(q, &slot->chain, written);
		give_back(q, slot, written);
		n++;
	}
	if (n)
		virtio_end(q->all->virtio, q->index);
	return r < 0 ? what : NULL;
}

const char *vhost_queues_collect(struct vhost_queues *qs)
{
	const char *what = NULL;

	for (unsigned i = 0; i < qs->count && !what; i++)
		what = vhost_queue_collect(&qs->queue[i]);
	return what;
}

void vhost_queues_abandon(struct vhost_queues *qs)
{
	struct vhost_slot *slot;

	for (unsigned i = 0; i < qs->count; i++)
		while ((slot = vhost_ring_abandon(&qs->queue[i].ring)))
			give_back(&qs->queue[i], slot, 0);
}

/* --- to the worker ------------------------------------------------------------------------------ */

static bool fits(struct vhost_queue *q, const struct virtq_chain *chain)
{
	return (chain->readable || chain->writable) && (!q->all->fits || q->all->fits(q, chain));
}

/* One chain: 1, 0: there is none now, -ENOSPC: no room. */
static int feed_one(struct vhost_queue *q, bool *ret_placed)
{
	struct virtio *v = q->all->virtio;
	struct vhost_ring *ring = &q->ring;
	struct vhost_slot *slot = vhost_ring_next(ring);

	if (!slot)
		return -ENOSPC;
	if (virtio_get(v, q->index, &slot->chain) <= 0)
		return 0;
	if (!fits(q, &slot->chain)) {
		virtio_release(v, q->index, &slot->chain, 0);
		virtio_end(v, q->index);
		return 1;
	}
	if (vhost_ring_place(ring) < 0) {
		bool never = ring->oldest == VHOST_RING_NONE;

		virtio_unget(v, q->index, &slot->chain);
		if (never)
			virtio_guest_error(v, "a chain of more descriptors than the queue has");
		return -ENOSPC;
	}
	park(q, slot, parks(q));
	*ret_placed = true;
	return 1;
}

void vhost_queue_feed(struct vhost_queue *q)
{
	struct virtio *v = q->all->virtio;
	bool placed = false;
	unsigned n = 0;
	int r = 1;

	for (; n < FEED_MAX && r > 0; n++)
		r = feed_one(q, &placed);
	if (placed && vhost_ring_wants_kick(&q->ring))
		(void)eventfd_write(q->kick_fd, 1);
	if (r < 0)
		return; /* it goes on when something comes back */
	if (r == 0)
		virtio_want_kicks(v, q->index, true);
	if (r > 0 || virtio_has(v, q->index)) /* more, or it came before the driver saw that */
		virtio_kick_again(v, q->index);
}

void vhost_queues_park(struct vhost_queues *qs, bool yes)
{
	for (unsigned i = 0; i < qs->count; i++) {
		struct vhost_queue *q = &qs->queue[i];
		struct vhost_ring *ring = &q->ring;

		for (uint16_t at = ring->oldest; at != VHOST_RING_NONE; at = ring->slot[at].newer)
			park(q, &ring->slot[at], yes || parks(q));
	}
}

static void add_region(struct vhost_setup *s, const struct vhost_region *region)
{
	assert(s->regions < VHOST_REGIONS_MAX);
	s->region[s->regions++] = *region;
}

void vhost_queues_restart(struct vhost_queues *qs, struct vhost_setup *ret)
{
	struct memory_part parts[MEMORY_PARTS_MAX];
	size_t n = memory_parts(qs->virtio->machine->memory, parts);

	ret->regions = 0;
	for (size_t i = 0; i < n; i++)
		add_region(ret, &(struct vhost_region){ parts[i].gpa, parts[i].size, parts[i].offset,
							parts[i].fd, parts[i].host });
	add_region(ret, &(struct vhost_region){ VHOST_SHARED_GPA, qs->shared_size, 0, qs->shared_fd,
						qs->shared });
	ret->vrings = qs->count;
	for (unsigned i = 0; i < qs->count; i++) {
		struct vhost_queue *q = &qs->queue[i];

		vhost_ring_restart(&q->ring);
		ret->vring[i] = (struct vhost_vring){
			.size = q->ring.size, .desc = vhost_ring_desc(&q->ring),
			.avail = vhost_ring_avail(&q->ring), .used = vhost_ring_used(&q->ring),
			.kick_fd = q->kick_fd, .call_fd = q->call_fd,
		};
	}
}

void vhost_queues_kick(struct vhost_queues *qs)
{
	for (unsigned i = 0; i < qs->count; i++) {
		(void)eventfd_write(qs->queue[i].kick_fd, 1);
		virtio_kick_again(qs->virtio, qs->queue[i].index);
	}
}

/* --- life --------------------------------------------------------------------------------------- */

void vhost_queues_init(struct vhost_queues *qs, struct virtio *virtio)
{
	*qs = (struct vhost_queues){ .virtio = virtio, .shared_fd = -1 };
	for (unsigned i = 0; i < VHOST_QUEUES_MAX; i++)
		qs->queue[i] = (struct vhost_queue){ .all = qs, .index = i, .kick_fd = -1,
						     .call_fd = -1 };
}

static int make_shared(struct vhost_queues *qs)
{
	qs->shared_size = qs->count * vhost_ring_bytes(qs->size);
	qs->shared_fd = memfd_create("vhost-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (qs->shared_fd < 0 || ftruncate(qs->shared_fd, (off_t)qs->shared_size) < 0 ||
	    fcntl(qs->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	qs->shared = mmap(NULL, qs->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, qs->shared_fd, 0);
	if (qs->shared == MAP_FAILED) {
		qs->shared = NULL;
		return -errno;
	}
	return 0;
}

void vhost_queue_poll(struct vhost_queue *q)
{
	eventfd_t count;

	(void)eventfd_read(q->call_fd, &count);
	q->all->called(q);
}

static void on_call(void *opaque, uint32_t events)
{
	(void)events;
	vhost_queue_poll(opaque);
}

static int make_queue(struct vhost_queue *q, struct loop *loop)
{
	struct vhost_queues *qs = q->all;
	size_t offset = q->index * vhost_ring_bytes(qs->size);
	int r = vhost_ring_init(&q->ring, qs->size, qs->shared + offset, VHOST_SHARED_GPA + offset);

	if (r < 0)
		return r;
	q->ring.indirect = qs->indirect;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0 || q->call_fd < 0)
		return -errno;
	return loop_add(loop, q->call_fd, EPOLLIN, on_call, q, &q->watch);
}

int vhost_queues_make(struct vhost_queues *qs, struct loop *loop, unsigned count)
{
	int r;

	assert(count <= VHOST_QUEUES_MAX && qs->called);
	qs->count = count;
	r = make_shared(qs);
	for (unsigned i = 0; i < count && r == 0; i++)
		r = make_queue(&qs->queue[i], loop);
	return r;
}

void vhost_queues_close(struct vhost_queues *qs)
{
	for (unsigned i = 0; i < qs->count; i++) {
		struct vhost_queue *q = &qs->queue[i];

		q->watch = loop_remove(q->watch);
		if (q->kick_fd >= 0)
			close(q->kick_fd);
		if (q->call_fd >= 0)
			close(q->call_fd);
		vhost_ring_fini(&q->ring);
	}
	if (qs->shared)
		munmap(qs->shared, qs->shared_size);
	if (qs->shared_fd >= 0)
		close(qs->shared_fd);
	qs->count = 0;
	qs->shared = NULL;
	qs->shared_fd = -1;
}
