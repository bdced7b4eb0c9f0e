/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.c - see mem.h. Requests are served on the loop thread, a few in one turn: each may stop the
 * processors for a moment, as their memory map changes.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/core.h"
#include "devices/virtio/mem.h"
#include "machine/memory.h"

#define MEM_CLASS 0x00ff00u /* none of the classes */
#define MEM_QUEUE_SIZE 64u
#define MEM_CHAINS 8u /* in one turn */

enum { F_UNPLUGGED_INACCESSIBLE = 1 };
#define FEATURES (1ull << F_UNPLUGGED_INACCESSIBLE | 1ull << VIRTIO_F_IN_ORDER)

enum { /* config space (5.15.4) */
	CFG_BLOCK = 0, CFG_ADDR = 16, CFG_REGION = 24, CFG_USABLE = 32, CFG_PLUGGED = 40,
	CFG_REQUESTED = 48, CFG_BYTES = 56,
};
enum { /* requests and responses (5.15.6) */
	REQ_TYPE = 0, REQ_ADDR = 8, REQ_BLOCKS = 16, REQ_BYTES = 24,
	RESP_TYPE = 0, RESP_STATE = 8, RESP_BYTES = 10,
};
enum { REQ_PLUG, REQ_UNPLUG, REQ_UNPLUG_ALL, REQ_STATE };
enum { RESP_ACK, RESP_NACK, RESP_BUSY, RESP_ERROR };
enum { STATE_PLUGGED, STATE_UNPLUGGED, STATE_MIXED };

struct virtio_mem {
	struct device dev;
	struct virtio virtio;
	struct memory_area *area; /* of the machine's memory */
	uint64_t addr, size, block; /* as in the config space, which the guest cannot write */
	/* virtio.lock */
	uint64_t requested, plugged;
	struct virtq_chain chain; /* one at a time */
};

static struct virtio_mem *mem_of(struct virtio *v)
{
	return (struct virtio_mem *)((char *)v - offsetof(struct virtio_mem, virtio));
}

static void set_plugged(struct virtio_mem *m, uint64_t plugged)
{
	m->plugged = plugged;
	put_le64(m->virtio.config + CFG_PLUGGED, plugged);
}

/* --- requests --------------------------------------------------------------------------------- */

static int plug(struct virtio_mem *m, uint64_t first, uint64_t n)
{
	uint64_t bytes = n * m->block;
	int r;

	if (memory_area_plugged(m->area, first, n))
		return RESP_ERROR;
	if (m->plugged > m->requested || bytes > m->requested - m->plugged)
		return RESP_NACK;
	r = memory_area_plug(m->area, first, n);
	if (r < 0)
		return RESP_BUSY;
	set_plugged(m, m->plugged + bytes);
	return RESP_ACK;
}

static int unplug(struct virtio_mem *m, uint64_t first, uint64_t n)
{
	if (memory_area_plugged(m->area, first, n) != n)
		return RESP_ERROR;
	if (memory_area_unplug(m->area, first, n) < 0)
		return RESP_BUSY;
	set_plugged(m, m->plugged - n * m->block);
	return RESP_ACK;
}

static int unplug_all(struct virtio_mem *m)
{
	int r = memory_area_unplug_all(m->area);

	set_plugged(m, memory_area_plugged(m->area, 0, m->size / m->block) * m->block);
	return r < 0 ? RESP_BUSY : RESP_ACK;
}

static uint16_t state(const struct virtio_mem *m, uint64_t first, uint64_t n)
{
	uint64_t plugged = memory_area_plugged(m->area, first, n);

	return plugged == n ? STATE_PLUGGED : plugged ? STATE_MIXED : STATE_UNPLUGGED;
}

/* The blocks that the request is about; false: not all are blocks of the usable region. */
static bool blocks_of(const struct virtio_mem *m, const uint8_t *req, uint64_t *ret_first,
		      uint64_t *ret_n)
{
	uint64_t addr = get_le64(req + REQ_ADDR), n = get_le16(req + REQ_BLOCKS);

	if (addr < m->addr || addr % m->block || !n ||
	    !range_inside((addr - m->addr) / m->block, n, m->size / m->block))
		return false;
	*ret_first = (addr - m->addr) / m->block;
	*ret_n = n;
	return true;
}

static void serve(struct virtio_mem *m, const uint8_t *req, uint8_t *resp)
{
	unsigned type = get_le16(req + REQ_TYPE);
	uint64_t first, n;
	int r = RESP_ERROR;

	if (type == REQ_UNPLUG_ALL) {
		r = unplug_all(m);
	} else if (blocks_of(m, req, &first, &n)) {
		switch (type) {
		case REQ_PLUG:
			r = plug(m, first, n);
			break;
		case REQ_UNPLUG:
			r = unplug(m, first, n);
			break;
		case REQ_STATE:
			put_le16(resp + RESP_STATE, state(m, first, n));
			r = RESP_ACK;
			break;
		default:
			break;
		}
	}
	put_le16(resp + RESP_TYPE, (uint16_t)r);
}

static void mem_kick(struct virtio *v, unsigned queue)
{
	struct virtio_mem *m = mem_of(v);
	uint8_t req[REQ_BYTES];
	unsigned n = 0;

	pthread_mutex_lock(&v->lock);
	while (n++ < MEM_CHAINS && virtio_get(v, queue, &m->chain) > 0) {
		uint8_t resp[RESP_BYTES] = { 0 };
		bool whole = m->chain.in_bytes >= RESP_BYTES &&
			     virtq_copy_out(&v->queue[queue].ring, &m->chain, 0, req, REQ_BYTES) == 0;

		if (whole) {
			serve(m, req, resp);
			/* It may have unplugged the answer's own memory. */
			(void)virtq_copy_in(&v->queue[queue].ring, &m->chain, 0, resp, RESP_BYTES);
		} else {
			virtio_guest_error(v, "a request of a wrong size");
		}
		virtio_release(v, queue, &m->chain, whole ? RESP_BYTES : 0);
	}
	virtio_end(v, queue);
	virtio_want_kicks(v, queue, true);
	if (virtio_has(v, queue))
		virtio_kick_again(v, queue);
	pthread_mutex_unlock(&v->lock);
}

static void mem_started(struct virtio *v)
{
	if (!virtio_has_feature(v, F_UNPLUGGED_INACCESSIBLE))
		virtio_guest_error(v, "the driver would read memory that is not plugged");
}

/* --- the operator ----------------------------------------------------------------------------- */

int virtio_mem_resize(struct device *dev, uint64_t bytes)
{
	struct virtio_mem *m = (struct virtio_mem *)dev;

	if (bytes % m->block)
		return -EINVAL;
	if (bytes > m->size)
		return -ERANGE;
	pthread_mutex_lock(&m->virtio.lock);
	m->requested = bytes;
	put_le64(m->virtio.config + CFG_REQUESTED, bytes);
	virtio_config_changed(&m->virtio);
	pthread_mutex_unlock(&m->virtio.lock);
	return 0;
}

void virtio_mem_info(struct device *dev, struct virtio_mem_info *ret_info)
{
	struct virtio_mem *m = (struct virtio_mem *)dev;

	pthread_mutex_lock(&m->virtio.lock);
	*ret_info = (struct virtio_mem_info){
		.driver = virtio_running(&m->virtio),
		.size = m->size,
		.block = m->block,
		.requested = m->requested,
		.plugged = m->plugged,
	};
	pthread_mutex_unlock(&m->virtio.lock);
}

/* --- the device ------------------------------------------------------------------------------- */

static const struct virtio_ops mem_ops = {
	.name = "virtio-mem",
	.id = VIRTIO_ID_MEM,
	.features = FEATURES,
	.kick = mem_kick,
	.started = mem_started,
};

static void mem_reset(struct device *dev)
{
	struct virtio_mem *m = (struct virtio_mem *)dev;

	virtio_reset_wait(&m->virtio);
	pthread_mutex_lock(&m->virtio.lock);
	(void)unplug_all(m); /* what the host cannot take now, the driver finds and unplugs */
	pthread_mutex_unlock(&m->virtio.lock);
}

/* The area stays until the machine's memory goes. */
static void mem_destroy(struct device *dev)
{
	struct virtio_mem *m = (struct virtio_mem *)dev;

	if (!m)
		return;
	virtio_disconnect(&m->virtio);
	virtio_fini(&m->virtio);
	free(m);
}

static int mem_init(struct virtio_mem *m, const struct virtio_mem_config *config)
{
	uint8_t space[CFG_BYTES] = { 0 };
	const struct virtio_info info = {
		.ops = &mem_ops,
		.features = FEATURES,
		.without = config->place.without,
		.queue_count = 1,
		.queue_size = MEM_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};
	int r;

	put_le64(space + CFG_BLOCK, m->block);
	put_le64(space + CFG_ADDR, m->addr);
	put_le64(space + CFG_REGION, m->size);
	put_le64(space + CFG_USABLE, m->size);
	put_le64(space + CFG_REQUESTED, m->requested);
	r = virtio_init(&m->virtio, m->dev.machine, &info);
	if (r == 0)
		r = virtio_connect(&m->virtio, &config->place, MEM_CLASS);
	if (r == 0) /* last: there is no way to take it back */
		r = memory_area_add(m->dev.machine->memory, m->addr, m->size, m->block, &m->area);
	return r;
}

static int mem_create(struct machine *machine, const void *opaque, struct device **ret_device)
{
	const struct virtio_mem_config *config = opaque;
	struct virtio_mem *m;
	int r;

	if (config->block < VIRTIO_MEM_BLOCK_MIN || config->block > VIRTIO_MEM_BLOCK_MAX ||
	    config->block & (config->block - 1) || !config->size ||
	    config->size > VIRTIO_MEM_MAX || config->size % config->block ||
	    config->requested > config->size || config->requested % config->block)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->dev.class = &virtio_mem_class;
	m->dev.machine = machine;
	m->addr = machine_area_gpa(machine);
	m->size = config->size;
	m->block = config->block;
	m->requested = config->requested;
	r = mem_init(m, config);
	if (r < 0) {
		mem_destroy(&m->dev);
		return r;
	}
	*ret_device = &m->dev;
	return 0;
}

const struct device_class virtio_mem_class = {
	.name = "virtio-mem",
	.create = mem_create,
	.destroy = mem_destroy,
	.reset = mem_reset,
};
