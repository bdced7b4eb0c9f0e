/* SPDX-License-Identifier: Apache-2.0 */
/* mmio.c - see mmio.h. Only decoding: every guard is the core's. */
#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "common/checked.h"
#include "devices/virtio/core.h"
#include "devices/virtio/mmio.h"
#include "machine/bus.h"
#include "machine/device.h"
#include "machine/irq.h"

#define MAGIC 0x74726976u /* "virt" */
#define MMIO_VERSION 2u
#define VENDOR 0x564d5844u /* "VMXD" */

enum { /* 4.2.2 */
	R_MAGIC = 0x000, R_VERSION = 0x004, R_DEVICE_ID = 0x008, R_VENDOR_ID = 0x00c,
	R_DEVICE_FEATURES = 0x010, R_DEVICE_FEATURES_SEL = 0x014,
	R_DRIVER_FEATURES = 0x020, R_DRIVER_FEATURES_SEL = 0x024,
	R_QUEUE_SEL = 0x030, R_QUEUE_NUM_MAX = 0x034, R_QUEUE_NUM = 0x038, R_QUEUE_READY = 0x044,
	R_QUEUE_NOTIFY = 0x050, R_INTERRUPT_STATUS = 0x060, R_INTERRUPT_ACK = 0x064,
	R_STATUS = 0x070,
	R_QUEUE_DESC_LOW = 0x080, R_QUEUE_DESC_HIGH = 0x084,
	R_QUEUE_DRIVER_LOW = 0x090, R_QUEUE_DRIVER_HIGH = 0x094,
	R_QUEUE_DEVICE_LOW = 0x0a0, R_QUEUE_DEVICE_HIGH = 0x0a4,
	R_SHM_LEN_LOW = 0x0b0, R_SHM_BASE_HIGH = 0x0bc, /* no shared memory: all ones */
	R_QUEUE_RESET = 0x0c0,
	R_CONFIG_GENERATION = 0x0fc, R_CONFIG = 0x100,
};

struct virtio_mmio {
	struct virtio *virtio;
	struct virtio_mmio_place place;
	/* v->lock guards the rest */
	uint32_t device_feature_select, driver_feature_select, queue_select;
	uint32_t isr;
	bool pulled; /* irq_pull()'s */
};

/* Which field of the selected queue a register is, or -1. */
static int queue_field(uint64_t offset)
{
	switch (offset) {
	case R_QUEUE_NUM_MAX:
		return VIRTQ_SIZE_LIMIT;
	case R_QUEUE_NUM:
		return VIRTQ_SIZE;
	case R_QUEUE_READY:
		return VIRTQ_ENABLE;
	case R_QUEUE_RESET:
		return VIRTQ_RESET;
	case R_QUEUE_DESC_LOW:
		return VIRTQ_DESC_LOW;
	case R_QUEUE_DESC_HIGH:
		return VIRTQ_DESC_HIGH;
	case R_QUEUE_DRIVER_LOW:
		return VIRTQ_DRIVER_LOW;
	case R_QUEUE_DRIVER_HIGH:
		return VIRTQ_DRIVER_HIGH;
	case R_QUEUE_DEVICE_LOW:
		return VIRTQ_DEVICE_LOW;
	case R_QUEUE_DEVICE_HIGH:
		return VIRTQ_DEVICE_HIGH;
	default:
		return -1;
	}
}

static void set_line(struct virtio_mmio *m, bool level)
{
	irq_pull(m->virtio->machine->irqs, m->place.line, &m->pulled, level);
}

static uint32_t locked_get(struct virtio_mmio *m, const uint32_t *from)
{
	uint32_t value;

	pthread_mutex_lock(&m->virtio->lock);
	value = *from;
	pthread_mutex_unlock(&m->virtio->lock);
	return value;
}

static void locked_set(struct virtio_mmio *m, uint32_t *to, uint32_t value)
{
	pthread_mutex_lock(&m->virtio->lock);
	*to = value;
	pthread_mutex_unlock(&m->virtio->lock);
}

static uint32_t register_read(struct virtio_mmio *m, uint64_t offset)
{
	struct virtio *v = m->virtio;
	int field = queue_field(offset);

	if (field >= 0) /* which of them are write-only makes no difference */
		return virtio_queue_get(v, locked_get(m, &m->queue_select),
					(enum virtio_queue_field)field);
	switch (offset) {
	case R_MAGIC:
		return MAGIC;
	case R_VERSION:
		return MMIO_VERSION;
	case R_DEVICE_ID:
		return v->ops->id;
	case R_VENDOR_ID:
		return VENDOR;
	case R_DEVICE_FEATURES:
		return virtio_device_features(v, locked_get(m, &m->device_feature_select));
	case R_INTERRUPT_STATUS:
		return locked_get(m, &m->isr);
	case R_STATUS:
		return virtio_status(v);
	case R_CONFIG_GENERATION:
		return virtio_config_generation(v);
	default:
		return offset >= R_SHM_LEN_LOW && offset <= R_SHM_BASE_HIGH ? UINT32_MAX : 0;
	}
}

static void acknowledge(struct virtio_mmio *m, uint32_t bits)
{
	pthread_mutex_lock(&m->virtio->lock);
	m->isr &= ~bits;
	if (!m->isr)
		set_line(m, false);
	pthread_mutex_unlock(&m->virtio->lock);
}

static void register_write(struct virtio_mmio *m, uint64_t offset, uint32_t value)
{
	struct virtio *v = m->virtio;
	int field = queue_field(offset);

	if (field >= 0) {
		virtio_queue_set(v, locked_get(m, &m->queue_select),
				 (enum virtio_queue_field)field, value);
		return;
	}
	switch (offset) {
	case R_DEVICE_FEATURES_SEL:
		locked_set(m, &m->device_feature_select, value);
		break;
	case R_DRIVER_FEATURES_SEL:
		locked_set(m, &m->driver_feature_select, value);
		break;
	case R_DRIVER_FEATURES:
		virtio_set_driver_features(v, locked_get(m, &m->driver_feature_select), value);
		break;
	case R_QUEUE_SEL:
		locked_set(m, &m->queue_select, value);
		break;
	case R_QUEUE_NOTIFY:
		virtio_notify(v, value);
		break;
	case R_INTERRUPT_ACK:
		acknowledge(m, value);
		break;
	case R_STATUS:
		virtio_set_status(v, value <= 0xff ? (uint8_t)value : 0xff);
		break;
	default:
		break; /* read-only, or not there */
	}
}

/* Registers take aligned 32-bit accesses only (4.2.2.2); the configuration space any. */
static void mmio_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct virtio_mmio *m = opaque;

	if (offset >= R_CONFIG)
		*val = virtio_config_read(m->virtio, offset - R_CONFIG, size);
	else
		*val = size == 4 ? register_read(m, offset) : 0;
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct virtio_mmio *m = opaque;

	if (offset >= R_CONFIG)
		virtio_config_write(m->virtio, offset - R_CONFIG, size, val);
	else if (size == 4)
		register_write(m, offset, (uint32_t)val);
}

static const struct bus_ops mmio_ops = { mmio_read, mmio_write, 4 };

/* --- towards the core ------------------------------------------------------------------------- */

static void transport_interrupt(void *opaque, unsigned isr, uint16_t vector)
{
	struct virtio_mmio *m = opaque;

	(void)vector;
	m->isr |= isr;
	set_line(m, true);
}

static void transport_clear(void *opaque)
{
	struct virtio_mmio *m = opaque;

	m->isr = 0;
	m->device_feature_select = m->driver_feature_select = m->queue_select = 0;
	set_line(m, false);
}

static bool transport_dma(void *opaque)
{
	(void)opaque;
	return true;
}

static const struct virtio_transport_ops transport_ops = {
	transport_interrupt, transport_clear, transport_dma,
};

int virtio_mmio_create(struct virtio *v, const struct virtio_mmio_place *place,
		       struct virtio_mmio **ret_mmio)
{
	const struct machine_described described = {
		"LNRO0005", place->base, VIRTIO_MMIO_SIZE, place->line,
	};
	struct virtio_mmio *m;
	int r;

	if (!place->base || place->base % VIRTIO_MMIO_SIZE || place->line < 5 || place->line > 23 ||
	    !range_inside(place->base, VIRTIO_MMIO_SIZE, 1ull << 32))
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->virtio = v;
	m->place = *place;
	r = bus_add(v->machine->mmio, place->base, VIRTIO_MMIO_SIZE, &mmio_ops, m, v->ops->name);
	if (r < 0) {
		free(m);
		return r;
	}
	virtio_attach(v, &transport_ops, m, 0);
	r = machine_describe(v->machine, &described);
	if (r < 0) {
		virtio_mmio_destroy(m);
		return r;
	}
	*ret_mmio = m;
	return 0;
}

struct virtio_mmio *virtio_mmio_destroy(struct virtio_mmio *m)
{
	if (!m)
		return NULL;
	virtio_reset_wait(m->virtio);
	virtio_attach(m->virtio, NULL, NULL, 0);
	(void)bus_remove(m->virtio->machine->mmio, m->place.base, m);
	free(m);
	return NULL;
}
