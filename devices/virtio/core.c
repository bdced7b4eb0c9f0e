/* SPDX-License-Identifier: Apache-2.0 */
/* core.c - states, chains, notifications and life of a virtio device. Section numbers: virtio 1.2. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"
#include "devices/virtio/core.h"
#include "machine/device.h"
#include "machine/loop.h"
#include "vmx-driver/vmx.h"

#define RING_FEATURES \
	(1ull << VIRTIO_F_INDIRECT_DESC | 1ull << VIRTIO_F_EVENT_IDX | 1ull << VIRTIO_F_VERSION_1 | \
	 1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_RING_RESET)
#define ERRORS_LOGGED 8u

/* --- state ------------------------------------------------------------------------------------ */

bool virtio_running(const struct virtio *v)
{
	return (v->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK &&
	       !v->resetting;
}

bool virtio_has_feature(const struct virtio *v, unsigned bit)
{
	return v->accepted >> bit & 1;
}

static bool dma_allowed(const struct virtio *v)
{
	return !v->transport || v->transport->dma_allowed(v->transport_opaque);
}

static void interrupt(struct virtio *v, unsigned isr, uint16_t vector)
{
	if (v->transport)
		v->transport->interrupt(v->transport_opaque, isr, vector);
}

void virtio_guest_error(struct virtio *v, const char *what)
{
	if (v->guest_errors++ < ERRORS_LOGGED)
		log_line(v->machine->log, LOG_LEVEL_WARNING, "%s: guest error: %s", v->ops->name,
			 what);
	if (v->status & VIRTIO_NEEDS_RESET)
		return;
	v->status |= VIRTIO_NEEDS_RESET;
	if (v->status & VIRTIO_DRIVER_OK)
		interrupt(v, VIRTIO_ISR_CONFIG, v->config_vector);
}

void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (virtio_running(v))
		interrupt(v, VIRTIO_ISR_CONFIG, v->config_vector);
}

/* The end of a reset: nothing is in flight. */
static void finish_reset(struct virtio *v)
{
	unsigned i;

	assert(!v->in_flight);
	for (i = 0; i < v->queue_count; i++) {
		virtq_reset(&v->queue[i].ring);
		v->queue[i].resetting = v->queue[i].renewable = false;
	}
	v->status = 0;
	v->accepted = 0;
	v->resetting = false;
	v->config_vector = VIRTIO_NO_VECTOR;
	if (v->transport)
		v->transport->interrupt_clear(v->transport_opaque);
	if (v->ops->stopped)
		v->ops->stopped(v);
}

/* The end of a queue's own reset. */
static void finish_queue_reset(struct virtio_queue *q)
{
	virtq_reset(&q->ring);
	q->resetting = false;
	q->renewable = true;
}

void virtio_queue_reset(struct virtio *v, struct virtio_queue *q)
{
	if (!virtio_has_feature(v, VIRTIO_F_RING_RESET) || !virtio_running(v) || !q->ring.enabled ||
	    q->resetting)
		return;
	q->resetting = true;
	if (v->ops->queue_reset)
		v->ops->queue_reset(v, (unsigned)(q - v->queue));
	if (!q->ring.in_flight)
		finish_queue_reset(q);
}

void virtio_begin_reset(struct virtio *v)
{
	if (!v->in_flight) {
		finish_reset(v);
		return;
	}
	v->resetting = true; /* the last virtio_release() finishes it */
	if (v->ops->resetting)
		v->ops->resetting(v);
}

void virtio_reset_wait(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	virtio_begin_reset(v);
	while (v->resetting)
		pthread_cond_wait(&v->idle, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void virtio_drain(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	while (v->in_flight > v->parked)
		pthread_cond_wait(&v->idle, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void virtio_park(struct virtio *v, int n)
{
	v->parked += (unsigned)n;
	assert(v->parked <= v->in_flight);
	if (v->parked == v->in_flight)
		pthread_cond_broadcast(&v->idle);
}

/* --- chains ----------------------------------------------------------------------------------- */

/* May rings be touched now? */
static bool rings_open(const struct virtio *v)
{
	return virtio_running(v) && dma_allowed(v);
}

static bool ring_open(const struct virtio *v, unsigned queue)
{
	assert(queue < v->queue_count);
	return rings_open(v) && !v->queue[queue].resetting;
}

bool virtio_has(struct virtio *v, unsigned queue)
{
	return ring_open(v, queue) && virtq_has(&v->queue[queue].ring);
}

void virtio_want_kicks(struct virtio *v, unsigned queue, bool want)
{
	if (ring_open(v, queue))
		virtq_want_kicks(&v->queue[queue].ring, want);
}

int virtio_get(struct virtio *v, unsigned queue, struct virtq_chain *chain)
{
	int r;

	if (!ring_open(v, queue))
		return 0;
	r = virtq_get(&v->queue[queue].ring, chain);
	if (r < 0) {
		virtio_guest_error(v, "bad available ring or descriptor chain");
		return 0;
	}
	v->in_flight += (unsigned)r;
	return r;
}

/* A chain of that queue is not in flight any more. */
static void chain_back(struct virtio *v, struct virtio_queue *q)
{
	if (q->resetting && !q->ring.in_flight)
		finish_queue_reset(q);
	if (--v->in_flight == v->parked)
		pthread_cond_broadcast(&v->idle);
	if (v->in_flight)
		return;
	if (v->resetting)
		finish_reset(v);
	pthread_cond_broadcast(&v->idle);
}

void virtio_release(struct virtio *v, unsigned queue, const struct virtq_chain *chain,
		    uint32_t written)
{
	struct virtio_queue *q = &v->queue[queue];

	assert(v->in_flight);
	if (ring_open(v, queue))
		virtq_release(&q->ring, chain, written);
	else
		virtq_drop(&q->ring, chain);
	chain_back(v, q);
}

void virtio_unget(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
	struct virtio_queue *q = &v->queue[queue];

	assert(v->in_flight);
	if (ring_open(v, queue))
		virtq_unget(&q->ring, chain);
	else
		virtq_drop(&q->ring, chain);
	chain_back(v, q);
}

void virtio_end(struct virtio *v, unsigned queue)
{
	struct virtq *ring = &v->queue[queue].ring;

	if (ring_open(v, queue) && virtq_end(ring))
		interrupt(v, VIRTIO_ISR_QUEUE, ring->vector);
}

/* --- notifications ---------------------------------------------------------------------------- */

void virtio_kick_again(struct virtio *v, unsigned queue)
{
	(void)eventfd_write(v->queue[queue].kick_fd, 1);
}

void virtio_notify(struct virtio *v, uint32_t queue)
{
	if (queue < v->queue_count && !(v->ops->kick_here && v->ops->kick_here(v, queue)))
		virtio_kick_again(v, queue);
}

/* On KVM an exit is what costs, and the kernel rings a bell without one. */
bool virtio_wants_exits(const struct virtio *v)
{
	return v->ops->kick_here && v->machine->vm &&
	       vmx_vm_engine(v->machine->vm) == VMX_ENGINE_SOFT;
}

int virtio_notify_fd(const struct virtio *v, uint32_t queue)
{
	return queue < v->queue_count ? v->queue[queue].kick_fd : -1;
}

static void queue_kicked(void *opaque, uint32_t events)
{
	struct virtio_queue *q = opaque;
	struct virtio *v = q->virtio;
	eventfd_t count;
	bool run;

	(void)events;
	(void)eventfd_read(q->kick_fd, &count);
	pthread_mutex_lock(&v->lock);
	run = virtio_running(v) && q->ring.enabled && !q->ring.dead && !q->resetting;
	pthread_mutex_unlock(&v->lock);
	if (run)
		v->ops->kick(v, (unsigned)(q - v->queue));
}

/* --- life ------------------------------------------------------------------------------------- */

void virtio_attach(struct virtio *v, const struct virtio_transport_ops *ops, void *opaque,
		   uint16_t vectors)
{
	v->transport = ops;
	v->transport_opaque = opaque;
	v->vectors = vectors;
}

static int queue_init(struct virtio *v, unsigned i, uint16_t size)
{
	struct virtio_queue *q = &v->queue[i];

	q->virtio = v;
	q->ring.memory = v->machine->memory;
	q->ring.size_max = size;
	virtq_reset(&q->ring);
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0)
		return -errno;
	return loop_add(v->machine->loop, q->kick_fd, EPOLLIN, queue_kicked, q, &q->watch);
}

int virtio_init(struct virtio *v, struct machine *machine, const struct virtio_info *info)
{
	unsigned i;
	int r = 0;

	assert(info->queue_count && info->queue_count <= VIRTIO_QUEUES_MAX);
	assert(info->queue_size && info->queue_size <= VIRTQ_SIZE_MAX);
	assert(info->config_size <= VIRTIO_CONFIG_MAX);
	assert(!(info->features & ~info->ops->features));
	v->machine = machine;
	v->ops = info->ops;
	v->offered = (info->features | RING_FEATURES) & ~info->without;
	v->queue_count = info->queue_count;
	v->config_size = info->config_size;
	v->config_vector = VIRTIO_NO_VECTOR;
	if (info->config_size)
		memcpy(v->config, info->config, info->config_size);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->idle, NULL);
	for (i = 0; i < VIRTIO_QUEUES_MAX; i++)
		v->queue[i].kick_fd = -1;
	for (i = 0; i < v->queue_count && r == 0; i++)
		r = queue_init(v, i, info->queue_size);
	if (r < 0)
		virtio_fini(v);
	return r;
}

void virtio_fini(struct virtio *v)
{
	unsigned i;

	if (!v->machine)
		return;
	for (i = 0; i < v->queue_count; i++)
		v->queue[i].watch = loop_remove(v->queue[i].watch);
	virtio_reset_wait(v);
	for (i = 0; i < v->queue_count; i++)
		if (v->queue[i].kick_fd >= 0)
			close(v->queue[i].kick_fd);
	pthread_cond_destroy(&v->idle);
	pthread_mutex_destroy(&v->lock);
	v->machine = NULL;
}
