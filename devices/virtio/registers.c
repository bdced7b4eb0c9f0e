/* SPDX-License-Identifier: Apache-2.0 */
/* registers.c - what a driver reads and writes through any transport: features, status, the set-up of
 * queues, the configuration space. Section numbers: virtio 1.2. */
#include <config.h>

#include "common/checked.h"
#include "devices/virtio/core.h"

#define DRIVER_STATUS_BITS \
	(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)

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
		virtio_begin_reset(v);
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
		virtio_queue_reset(v, q);
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
