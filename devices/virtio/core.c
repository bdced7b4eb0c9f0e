/* SPDX-License-Identifier: Apache-2.0 */
/* core.c - see core.h. Section numbers are those of virtio 1.2. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/log.h"
#include "devices/virtio/core.h"
#include "machine/device.h"
#include "machine/loop.h"
#include "vmx-driver/vmx.h"

#define RING_FEATURES \
	(1ull << VIRTIO_F_INDIRECT_DESC | 1ull << VIRTIO_F_EVENT_IDX | 1ull << VIRTIO_F_VERSION_1 | \
	 1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_RING_RESET)
#define DRIVER_STATUS_BITS \
	(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)
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

/* 2.6.1: allowed only once the queue runs. */
static void queue_reset(struct virtio *v, struct virtio_queue *q)
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

static void begin_reset(struct virtio *v)
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
	begin_reset(v);
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

/* --- features and status ---------------------------------------------------------------------- */

uint32_t virtio_device_features(struct virtio *v, uint32_t select)
{
	return select < 2 ? (uint32_t)(v->offered >> 32 * select) : 0;
}

uint32_t virtio_driver_features(struct virtio *v, uint32_t select)
{
	uint64_t accepted;

	pthread_mutex_lock(&v->lock);
	accepted = v->accepted;
	pthread_mutex_unlock(&v->lock);
	return select < 2 ? (uint32_t)(accepted >> 32 * select) : 0;
}

void virtio_set_driver_features(struct virtio *v, uint32_t select, uint32_t value)
{
	pthread_mutex_lock(&v->lock);
	if (select < 2 && v->status & VIRTIO_DRIVER && !(v->status & VIRTIO_FEATURES_OK) &&
	    !v->resetting) {
		v->accepted &= ~(0xffffffffull << 32 * select);
		v->accepted |= (uint64_t)value << 32 * select;
	}
	pthread_mutex_unlock(&v->lock);
}

uint8_t virtio_status(struct virtio *v)
{
	uint8_t status;

	pthread_mutex_lock(&v->lock);
	status = v->status;
	pthread_mutex_unlock(&v->lock);
	return status;
}

/* 3.1.1: FEATURES_OK sticks only if we can live with what the driver chose. */
static bool features_fit(const struct virtio *v)
{
	return !(v->accepted & ~v->offered) && virtio_has_feature(v, VIRTIO_F_VERSION_1);
}

static void add_status(struct virtio *v, uint8_t value)
{
	uint8_t new = value & (uint8_t)~v->status & DRIVER_STATUS_BITS;
	unsigned i;

	v->status |= new & (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FAILED);
	if (new & VIRTIO_FEATURES_OK && v->status & VIRTIO_DRIVER && features_fit(v))
		v->status |= VIRTIO_FEATURES_OK;
	if (!(new & VIRTIO_DRIVER_OK) || !(v->status & VIRTIO_FEATURES_OK) ||
	    v->status & VIRTIO_NEEDS_RESET)
		return;
	v->status |= VIRTIO_DRIVER_OK;
	if (v->ops->started)
		v->ops->started(v);
	for (i = 0; i < v->queue_count; i++) /* what was put in before is not forgotten */
		if (v->queue[i].ring.enabled)
			virtio_kick_again(v, i);
}

void virtio_set_status(struct virtio *v, uint8_t value)
{
	pthread_mutex_lock(&v->lock);
	if (v->resetting)
		; /* not before the status reads 0 */
	else if (!value)
		begin_reset(v);
	else
		add_status(v, value);
	pthread_mutex_unlock(&v->lock);
}

static uint16_t checked_vector(const struct virtio *v, uint32_t vector)
{
	return vector < v->vectors ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

uint16_t virtio_config_vector(struct virtio *v)
{
	uint16_t vector;

	pthread_mutex_lock(&v->lock);
	vector = v->config_vector;
	pthread_mutex_unlock(&v->lock);
	return vector;
}

void virtio_set_config_vector(struct virtio *v, uint16_t vector)
{
	pthread_mutex_lock(&v->lock);
	v->config_vector = checked_vector(v, vector);
	pthread_mutex_unlock(&v->lock);
}

/* --- queues ----------------------------------------------------------------------------------- */

static uint32_t ring_get(const struct virtio_queue *queue, enum virtio_queue_field field)
{
	const struct virtq *q = &queue->ring;

	switch (field) {
	case VIRTQ_SIZE_LIMIT:
		return q->size_max;
	case VIRTQ_SIZE:
		return q->size;
	case VIRTQ_VECTOR:
		return q->vector;
	case VIRTQ_ENABLE:
		return q->enabled;
	case VIRTQ_RESET:
		return queue->resetting;
	case VIRTQ_DESC_LOW:
		return (uint32_t)q->desc;
	case VIRTQ_DESC_HIGH:
		return (uint32_t)(q->desc >> 32);
	case VIRTQ_DRIVER_LOW:
		return (uint32_t)q->driver;
	case VIRTQ_DRIVER_HIGH:
		return (uint32_t)(q->driver >> 32);
	case VIRTQ_DEVICE_LOW:
		return (uint32_t)q->device;
	case VIRTQ_DEVICE_HIGH:
		return (uint32_t)(q->device >> 32);
	}
	return 0;
}

uint32_t virtio_queue_get(struct virtio *v, uint32_t queue, enum virtio_queue_field field)
{
	uint32_t value = 0;

	pthread_mutex_lock(&v->lock);
	if (queue < v->queue_count)
		value = ring_get(&v->queue[queue], field);
	pthread_mutex_unlock(&v->lock);
	return value;
}

static void set_low(uint64_t *address, uint32_t value)
{
	*address = (*address & 0xffffffff00000000ull) | value;
}

static void set_high(uint64_t *address, uint32_t value)
{
	*address = (*address & 0xffffffffull) | (uint64_t)value << 32;
}

static void ring_enable(struct virtio *v, struct virtq *q)
{
	const struct virtq_format format = {
		.packed = virtio_has_feature(v, VIRTIO_F_RING_PACKED),
		.event_idx = virtio_has_feature(v, VIRTIO_F_EVENT_IDX),
		.indirect = virtio_has_feature(v, VIRTIO_F_INDIRECT_DESC),
	};

	if (virtq_enable(q, &format) < 0)
		virtio_guest_error(v, "queue enabled with a bad size or bad addresses");
}

static void ring_set(struct virtio *v, struct virtq *q, enum virtio_queue_field field,
		     uint32_t value)
{
	switch (field) {
	case VIRTQ_SIZE:
		q->size = value <= 0xffff ? (uint16_t)value : 0xffff; /* judged at enable */
		break;
	case VIRTQ_DESC_LOW:
		set_low(&q->desc, value);
		break;
	case VIRTQ_DESC_HIGH:
		set_high(&q->desc, value);
		break;
	case VIRTQ_DRIVER_LOW:
		set_low(&q->driver, value);
		break;
	case VIRTQ_DRIVER_HIGH:
		set_high(&q->driver, value);
		break;
	case VIRTQ_DEVICE_LOW:
		set_low(&q->device, value);
		break;
	case VIRTQ_DEVICE_HIGH:
		set_high(&q->device, value);
		break;
	case VIRTQ_ENABLE:
		if (value == 1)
			ring_enable(v, q);
		break;
	default:
		break;
	}
}

/* Only while the queue is not enabled, and between FEATURES_OK and DRIVER_OK (4.1.4.3) or after a
 * reset of its own (2.6.1.2). */
static bool queue_settable(const struct virtio *v, const struct virtio_queue *q)
{
	uint8_t mask = VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET;

	if (v->resetting || q->ring.enabled)
		return false;
	return (v->status & mask) == (VIRTIO_DRIVER | VIRTIO_FEATURES_OK) ||
	       (q->renewable && virtio_running(v));
}

void virtio_queue_set(struct virtio *v, uint32_t queue, enum virtio_queue_field field,
		      uint32_t value)
{
	struct virtio_queue *q;

	if (queue >= v->queue_count)
		return;
	q = &v->queue[queue];
	pthread_mutex_lock(&v->lock);
	if (field == VIRTQ_VECTOR)
		q->ring.vector = checked_vector(v, value);
	else if (field == VIRTQ_RESET && value == 1)
		queue_reset(v, q);
	else if (queue_settable(v, q))
		ring_set(v, &q->ring, field, value);
	if (q->ring.enabled && virtio_running(v) && field == VIRTQ_ENABLE)
		virtio_kick_again(v, queue); /* what was put in before is not forgotten */
	pthread_mutex_unlock(&v->lock);
}

/* --- configuration space ---------------------------------------------------------------------- */

uint8_t virtio_config_generation(struct virtio *v)
{
	uint8_t generation;

	pthread_mutex_lock(&v->lock);
	generation = v->generation;
	pthread_mutex_unlock(&v->lock);
	return generation;
}

uint64_t virtio_config_read(struct virtio *v, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	unsigned i;

	pthread_mutex_lock(&v->lock);
	for (i = 0; i < size && i < 8; i++)
		if (offset < v->config_size && i < v->config_size - offset)
			value |= (uint64_t)v->config[offset + i] << 8 * i;
	pthread_mutex_unlock(&v->lock);
	return value;
}

void virtio_config_write(struct virtio *v, uint64_t offset, unsigned size, uint64_t value)
{
	unsigned i;

	pthread_mutex_lock(&v->lock);
	if (v->status & VIRTIO_DRIVER && !v->resetting &&
	    range_inside(offset, size, v->config_size)) {
		for (i = 0; i < size; i++) {
			uint8_t mask = v->config_wmask[offset + i];
			uint8_t byte = (uint8_t)(value >> 8 * i);

			v->config[offset + i] =
				(uint8_t)((v->config[offset + i] & ~mask) | (byte & mask));
		}
		if (v->ops->config_written)
			v->ops->config_written(v, (unsigned)offset, size);
	}
	pthread_mutex_unlock(&v->lock);
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
