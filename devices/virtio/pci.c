/* SPDX-License-Identifier: Apache-2.0 */
/* pci.c - see pci.h. Only decoding: every guard is the core's. */
#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/core.h"
#include "devices/virtio/pci.h"
#include "machine/device.h"
#include "machine/pci.h"

#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE(id) (0x1040 + (id))
#define VIRTIO_PCI_REVISION 1

enum { /* capability types (4.1.4) */
	CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_PCI = 5,
};
#define CAP_VENDOR 9
/* Offsets in struct virtio_pci_cap, from its first byte. */
#define CAP_AT_BAR 4
#define CAP_AT_OFFSET 8
#define CAP_AT_LENGTH 12
#define CAP_AT_DATA 16

struct virtio_pci {
	struct virtio *virtio;
	struct pci_dev *dev;
	unsigned window;         /* config offset of the CAP_PCI capability */
	/* The selectors are the transport's; v->lock guards them and isr. */
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint8_t isr;
};

/* --- common configuration (4.1.4.3) ----------------------------------------------------------- */

enum common_what {
	C_DEVICE_FEATURE_SELECT, C_DEVICE_FEATURE, C_DRIVER_FEATURE_SELECT, C_DRIVER_FEATURE,
	C_CONFIG_VECTOR, C_NUM_QUEUES, C_STATUS, C_GENERATION, C_QUEUE_SELECT, C_NOTIFY_OFF,
	C_NOTIFY_DATA,
	C_QUEUE_FIELD, /* + enum virtio_queue_field */
};

struct common_field {
	uint8_t offset, size;
	uint8_t what;
};

static const struct common_field common_fields[] = {
	{ 0x00, 4, C_DEVICE_FEATURE_SELECT },
	{ 0x04, 4, C_DEVICE_FEATURE },
	{ 0x08, 4, C_DRIVER_FEATURE_SELECT },
	{ 0x0c, 4, C_DRIVER_FEATURE },
	{ 0x10, 2, C_CONFIG_VECTOR },
	{ 0x12, 2, C_NUM_QUEUES },
	{ 0x14, 1, C_STATUS },
	{ 0x15, 1, C_GENERATION },
	{ 0x16, 2, C_QUEUE_SELECT },
	{ 0x18, 2, C_QUEUE_FIELD + VIRTQ_SIZE },
	{ 0x1a, 2, C_QUEUE_FIELD + VIRTQ_VECTOR },
	{ 0x1c, 2, C_QUEUE_FIELD + VIRTQ_ENABLE },
	{ 0x1e, 2, C_NOTIFY_OFF },
	{ 0x20, 4, C_QUEUE_FIELD + VIRTQ_DESC_LOW },
	{ 0x24, 4, C_QUEUE_FIELD + VIRTQ_DESC_HIGH },
	{ 0x28, 4, C_QUEUE_FIELD + VIRTQ_DRIVER_LOW },
	{ 0x2c, 4, C_QUEUE_FIELD + VIRTQ_DRIVER_HIGH },
	{ 0x30, 4, C_QUEUE_FIELD + VIRTQ_DEVICE_LOW },
	{ 0x34, 4, C_QUEUE_FIELD + VIRTQ_DEVICE_HIGH },
	{ 0x38, 2, C_NOTIFY_DATA },
	{ 0x3a, 2, C_QUEUE_FIELD + VIRTQ_RESET },
};

static uint32_t selector_get(struct virtio_pci *p, const uint32_t *selector)
{
	uint32_t value;

	pthread_mutex_lock(&p->virtio->lock);
	value = *selector;
	pthread_mutex_unlock(&p->virtio->lock);
	return value;
}

static void selector_set(struct virtio_pci *p, uint32_t *selector, uint32_t value)
{
	pthread_mutex_lock(&p->virtio->lock);
	*selector = value;
	pthread_mutex_unlock(&p->virtio->lock);
}

static uint16_t queue_select(struct virtio_pci *p)
{
	uint16_t value;

	pthread_mutex_lock(&p->virtio->lock);
	value = p->queue_select;
	pthread_mutex_unlock(&p->virtio->lock);
	return value;
}

static uint32_t common_get(struct virtio_pci *p, unsigned what)
{
	struct virtio *v = p->virtio;

	switch (what) {
	case C_DEVICE_FEATURE_SELECT:
		return selector_get(p, &p->device_feature_select);
	case C_DEVICE_FEATURE:
		return virtio_device_features(v, selector_get(p, &p->device_feature_select));
	case C_DRIVER_FEATURE_SELECT:
		return selector_get(p, &p->driver_feature_select);
	case C_DRIVER_FEATURE:
		return virtio_driver_features(v, selector_get(p, &p->driver_feature_select));
	case C_CONFIG_VECTOR:
		return virtio_config_vector(v);
	case C_NUM_QUEUES:
		return v->queue_count;
	case C_STATUS:
		return virtio_status(v);
	case C_GENERATION:
		return virtio_config_generation(v);
	case C_QUEUE_SELECT:
	case C_NOTIFY_OFF:
	case C_NOTIFY_DATA: /* cell n belongs to queue n */
		return queue_select(p);
	default:
		return virtio_queue_get(v, queue_select(p),
					(enum virtio_queue_field)(what - C_QUEUE_FIELD));
	}
}

static void common_set(struct virtio_pci *p, unsigned what, uint32_t value)
{
	struct virtio *v = p->virtio;

	switch (what) {
	case C_DEVICE_FEATURE_SELECT:
		selector_set(p, &p->device_feature_select, value);
		break;
	case C_DRIVER_FEATURE_SELECT:
		selector_set(p, &p->driver_feature_select, value);
		break;
	case C_DRIVER_FEATURE:
		virtio_set_driver_features(v, selector_get(p, &p->driver_feature_select), value);
		break;
	case C_CONFIG_VECTOR:
		virtio_set_config_vector(v, (uint16_t)value);
		break;
	case C_STATUS:
		virtio_set_status(v, (uint8_t)value);
		break;
	case C_QUEUE_SELECT:
		pthread_mutex_lock(&v->lock);
		p->queue_select = (uint16_t)value;
		pthread_mutex_unlock(&v->lock);
		break;
	case C_DEVICE_FEATURE:
	case C_NUM_QUEUES:
	case C_GENERATION:
	case C_NOTIFY_OFF:
	case C_NOTIFY_DATA:
		break; /* read-only */
	default:
		virtio_queue_set(v, queue_select(p),
				 (enum virtio_queue_field)(what - C_QUEUE_FIELD), value);
		break;
	}
}

/* Reads have no side effects here, so one of another width than its field is put together from
 * bytes. (A driver must not do that.) */
static uint64_t common_read(struct virtio_pci *p, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	size_t i;
	unsigned b;

	for (i = 0; i < ARRAY_SIZE(common_fields); i++) {
		const struct common_field *f = &common_fields[i];
		uint32_t got;

		if (!range_overlaps(f->offset, f->size, offset, size))
			continue;
		got = common_get(p, f->what);
		for (b = 0; b < f->size; b++)
			if (f->offset + b >= offset && f->offset + b < offset + size)
				value |= (uint64_t)(got >> 8 * b & 0xffu)
					 << 8 * (f->offset + b - offset);
	}
	return value;
}

/* A write of another width than its field's is dropped. */
static void common_write(struct virtio_pci *p, uint64_t offset, unsigned size, uint64_t value)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(common_fields); i++) {
		const struct common_field *f = &common_fields[i];

		if (f->offset == offset && f->size == size)
			common_set(p, f->what, (uint32_t)value);
	}
}

/* --- the BAR ---------------------------------------------------------------------------------- */

static uint8_t take_isr(struct virtio_pci *p)
{
	uint8_t isr;

	pthread_mutex_lock(&p->virtio->lock);
	isr = p->isr;
	p->isr = 0;
	pci_intx(p->dev, false);
	pthread_mutex_unlock(&p->virtio->lock);
	return isr;
}

static void bar_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct virtio_pci *p = opaque;
	uint64_t at = offset % VIRTIO_PCI_PART;

	switch (offset - at) {
	case VIRTIO_PCI_COMMON:
		*val = common_read(p, at, size);
		break;
	case VIRTIO_PCI_ISR:
		*val = at == 0 ? take_isr(p) : 0;
		break;
	case VIRTIO_PCI_CONFIG:
		*val = virtio_config_read(p->virtio, at, size);
		break;
	default:
		*val = 0;
		break;
	}
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct virtio_pci *p = opaque;
	uint64_t at = offset % VIRTIO_PCI_PART;

	switch (offset - at) {
	case VIRTIO_PCI_COMMON:
		common_write(p, at, size, val);
		break;
	case VIRTIO_PCI_CONFIG:
		virtio_config_write(p->virtio, at, size, val);
		break;
	case VIRTIO_PCI_NOTIFY: /* the cell says which queue; what is written does not matter */
		if (at % VIRTIO_PCI_NOTIFY_STEP == 0)
			virtio_notify(p->virtio, (uint32_t)(at / VIRTIO_PCI_NOTIFY_STEP));
		break;
	default:
		break;
	}
}

static const struct bus_ops bar_ops = { bar_read, bar_write, 4 };

/* --- the window in config space (4.1.4.9) ----------------------------------------------------- */

/* What the window points at, if it is one access of ours. */
static bool window_target(struct virtio_pci *p, uint32_t *ret_offset, unsigned *ret_length)
{
	uint32_t bar = pci_config_get(p->dev, p->window + CAP_AT_BAR, 1);
	uint32_t offset = pci_config_get(p->dev, p->window + CAP_AT_OFFSET, 4);
	uint32_t length = pci_config_get(p->dev, p->window + CAP_AT_LENGTH, 4);

	if (bar != 0 || (length != 1 && length != 2 && length != 4) || offset % length ||
	    !range_inside(offset, length, VIRTIO_PCI_MSIX))
		return false;
	*ret_offset = offset;
	*ret_length = length;
	return true;
}

static bool window_data(const struct virtio_pci *p, unsigned offset, unsigned size)
{
	return range_overlaps(offset, size, p->window + CAP_AT_DATA, 4);
}

static void window_read(void *opaque, unsigned offset, unsigned size)
{
	struct virtio_pci *p = opaque;
	uint32_t at;
	uint64_t value = 0;
	unsigned length;

	if (!window_data(p, offset, size) || !window_target(p, &at, &length))
		return;
	bar_read(p, at, length, &value);
	pci_config_put(p->dev, p->window + CAP_AT_DATA, length, (uint32_t)value);
}

static void window_written(void *opaque, unsigned offset, unsigned size)
{
	struct virtio_pci *p = opaque;
	uint32_t at;
	unsigned length;

	if (window_data(p, offset, size) && window_target(p, &at, &length))
		bar_write(p, at, length, pci_config_get(p->dev, p->window + CAP_AT_DATA, length));
}

/* --- towards the core ------------------------------------------------------------------------- */

static void transport_interrupt(void *opaque, unsigned isr, uint16_t vector)
{
	struct virtio_pci *p = opaque;

	if (pci_msix_enabled(p->dev)) {
		if (vector != VIRTIO_NO_VECTOR)
			pci_msix_notify(p->dev, vector);
	} else {
		p->isr |= (uint8_t)isr;
		pci_intx(p->dev, true);
	}
}

static void transport_clear(void *opaque)
{
	struct virtio_pci *p = opaque;

	p->isr = 0;
	p->device_feature_select = p->driver_feature_select = 0;
	p->queue_select = 0;
	pci_intx(p->dev, false);
}

static bool transport_dma(void *opaque)
{
	struct virtio_pci *p = opaque;

	return pci_bus_master(p->dev);
}

static const struct virtio_transport_ops transport_ops = {
	transport_interrupt, transport_clear, transport_dma,
};

/* --- creation --------------------------------------------------------------------------------- */

/* body: the capability behind its first two bytes (id and next), with room for 4 bytes more. */
static int add_cap(struct virtio_pci *p, uint8_t type, uint32_t offset, uint32_t length,
		   const uint32_t *extra, const void *wmask)
{
	uint8_t body[18] = { 0 };
	size_t len = extra ? 18 : 14;

	body[0] = (uint8_t)(len + 2);
	body[1] = type;
	put_le32(body + CAP_AT_OFFSET - 2, offset);
	put_le32(body + CAP_AT_LENGTH - 2, length);
	if (extra)
		put_le32(body + CAP_AT_DATA - 2, *extra);
	return pci_add_capability(p->dev, CAP_VENDOR, body, wmask, len);
}

static int add_caps(struct virtio_pci *p)
{
	static const uint8_t window_wmask[18] = {
		[CAP_AT_BAR - 2] = 0xff,
		[CAP_AT_OFFSET - 2] = 0xff, 0xff, 0xff, 0xff,
		[CAP_AT_LENGTH - 2] = 0xff, 0xff, 0xff, 0xff,
		[CAP_AT_DATA - 2] = 0xff, 0xff, 0xff, 0xff,
	};
	const uint32_t step = VIRTIO_PCI_NOTIFY_STEP, none = 0;
	uint32_t config_size = (uint32_t)p->virtio->config_size;
	int r;

	r = add_cap(p, CAP_COMMON, VIRTIO_PCI_COMMON, 0x3c, NULL, NULL);
	if (r >= 0)
		r = add_cap(p, CAP_ISR, VIRTIO_PCI_ISR, 1, NULL, NULL);
	if (r >= 0 && config_size)
		r = add_cap(p, CAP_DEVICE, VIRTIO_PCI_CONFIG, config_size, NULL, NULL);
	if (r >= 0)
		r = add_cap(p, CAP_NOTIFY, VIRTIO_PCI_NOTIFY, step * p->virtio->queue_count, &step,
			    NULL);
	if (r >= 0)
		r = add_cap(p, CAP_PCI, 0, 0, &none, window_wmask);
	if (r >= 0)
		p->window = (unsigned)r;
	return r < 0 ? r : 0;
}

static int add_bells(struct virtio_pci *p)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < p->virtio->queue_count && r == 0; i++)
		r = pci_bell_add(p->dev, 0, VIRTIO_PCI_NOTIFY + VIRTIO_PCI_NOTIFY_STEP * i,
				 virtio_notify_fd(p->virtio, i));
	return r;
}

int virtio_pci_create(struct virtio *v, uint32_t class_code, struct virtio_pci **ret_pci)
{
	struct pci_dev_info info = {
		.name = v->ops->name,
		.vendor = VIRTIO_PCI_VENDOR,
		.device = VIRTIO_PCI_DEVICE(v->ops->id),
		.subsystem_vendor = VIRTIO_PCI_VENDOR,
		.subsystem = VIRTIO_PCI_DEVICE(v->ops->id),
		.class_code = class_code,
		.revision = VIRTIO_PCI_REVISION,
		.intx = true,
		.bar[0] = { .kind = PCI_BAR_MEM32, .size = VIRTIO_PCI_BAR_SIZE, .ops = &bar_ops },
		.msix_vectors = v->queue_count + 1,
		.msix_bar = 0,
		.msix_offset = VIRTIO_PCI_MSIX,
		.config_read = window_read,
		.config_written = window_written,
	};
	struct virtio_pci *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->virtio = v;
	r = pci_dev_create(v->machine->pci, &info, p, &p->dev);
	if (r < 0) {
		free(p);
		return r;
	}
	virtio_attach(v, &transport_ops, p, (uint16_t)info.msix_vectors);
	r = add_caps(p);
	if (r == 0 && !virtio_wants_exits(v))
		r = add_bells(p);
	if (r < 0) {
		virtio_pci_destroy(p);
		return r;
	}
	*ret_pci = p;
	return 0;
}

struct virtio_pci *virtio_pci_destroy(struct virtio_pci *p)
{
	if (!p)
		return NULL;
	virtio_reset_wait(p->virtio);
	virtio_attach(p->virtio, NULL, NULL, 0);
	pci_dev_destroy(p->dev);
	free(p);
	return NULL;
}
