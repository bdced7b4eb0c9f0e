/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"
#include "tests/device/echo.h"

#define ECHO_ID 42u
#define MMIO_LINE 5u

/* --- the device ------------------------------------------------------------------------------- */

static struct echo *echo_of(struct virtio *v)
{
	return (struct echo *)((char *)v - offsetof(struct echo, virtio));
}

/* What can be read goes into what can be written. Lock held. */
static void echo_answer(struct virtio *v, unsigned queue, const struct virtq_chain *c)
{
	uint32_t n = c->out_bytes < c->in_bytes ? c->out_bytes : c->in_bytes, done;
	uint8_t buf[256];

	n = n < 0x10000 ? n : 0x10000;
	for (done = 0; done < n && virtio_running(v); done += sizeof(buf)) {
		uint32_t len = n - done < sizeof(buf) ? n - done : sizeof(buf);

		CHECK(virtq_copy_out(&v->queue[queue].ring, c, done, buf, len) == 0);
		CHECK(virtq_copy_in(&v->queue[queue].ring, c, done, buf, len) == 0);
	}
	virtio_release(v, queue, c, n);
}

static void echo_kick(struct virtio *v, unsigned queue)
{
	struct echo *e = echo_of(v);
	struct virtq_chain chain;

	pthread_mutex_lock(&v->lock);
	do {
		virtio_want_kicks(v, queue, false);
		while (e->helds < ECHO_HELD_MAX && virtio_get(v, queue, &chain) > 0) {
			if (e->hold) {
				e->held[e->helds].queue = queue;
				e->held[e->helds++].chain = chain;
			} else {
				echo_answer(v, queue, &chain);
			}
		}
		virtio_end(v, queue);
		virtio_want_kicks(v, queue, true);
	} while (e->helds < ECHO_HELD_MAX && virtio_has(v, queue));
	pthread_mutex_unlock(&v->lock);
}

void echo_release(struct echo *e, unsigned i)
{
	struct virtio *v = &e->virtio;
	unsigned queue = e->held[i].queue;

	CHECK(i < e->helds);
	pthread_mutex_lock(&v->lock);
	echo_answer(v, queue, &e->held[i].chain);
	virtio_end(v, queue);
	memmove(&e->held[i], &e->held[i + 1], (--e->helds - i) * sizeof(e->held[0]));
	pthread_mutex_unlock(&v->lock);
}

static void echo_queue_reset(struct virtio *v, unsigned queue)
{
	(void)queue;
	echo_of(v)->queue_resets++;
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.id = ECHO_ID,
	.kick = echo_kick,
	.queue_reset = echo_queue_reset,
};

static int echo_create(struct machine *machine, const void *config, struct device **ret_device);

static void echo_reset(struct device *dev)
{
	virtio_reset_wait(&((struct echo *)dev)->virtio);
}

static void echo_destroy(struct device *dev)
{
	struct echo *e = (struct echo *)dev;

	while (e->helds)
		echo_release(e, 0);
	virtio_pci_destroy(e->pci);
	virtio_mmio_destroy(e->mmio);
	virtio_fini(&e->virtio);
	free(e);
}

static const struct device_class echo_class = {
	.name = "echo",
	.create = echo_create,
	.destroy = echo_destroy,
	.reset = echo_reset,
};

static int echo_create(struct machine *machine, const void *config, struct device **ret_device)
{
	static const uint8_t space[4] = { 1, 2, 3, 4 };
	const struct virtio_mmio_place place = { ECHO_MMIO, MMIO_LINE };
	const struct virtio_info info = { .ops = &echo_ops, .queue_count = 2, .queue_size = 256,
					  .config = space, .config_size = sizeof(space) };
	const struct rig *rig = config;
	struct echo *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->dev.class = &echo_class;
	e->dev.machine = machine;
	r = virtio_init(&e->virtio, machine, &info);
	if (r == 0)
		r = rig->mmio ? virtio_mmio_create(&e->virtio, &place, &e->mmio)
			      : virtio_pci_create(&e->virtio, 0x00ff00, &e->pci);
	*ret_device = &e->dev;
	return r;
}

/* --- the driver ------------------------------------------------------------------------------- */

uint64_t echo_with(struct echo_bench *b, uint64_t features)
{
	return features | VF_VERSION_1 | (b->rig->packed ? VF_PACKED : 0);
}

void echo_open(struct rig *r, struct echo_bench *b)
{
	memset(b, 0, sizeof(*b));
	b->rig = r;
	b->e = (struct echo *)rig_add(r, &echo_class, r);
	CHECK(r->mmio ? vd_find_mmio(r, &b->d, ECHO_MMIO, ECHO_ID)
		      : vd_find(r, &b->d, 0x1040 + ECHO_ID));
}

void echo_start(struct echo_bench *b, uint64_t features, uint16_t size)
{
	vd_start_queues(&b->d, echo_with(b, features), size, 2);
}

void echo_fill(struct echo_bench *b, unsigned slot, uint8_t seed, uint32_t len)
{
	uint8_t bytes[0x100];
	uint32_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)(seed + 7 * i);
	vd_store(&b->d, ECHO_OUT(slot), bytes, len);
	memset(bytes, 0, sizeof(bytes));
	vd_store(&b->d, ECHO_IN(slot), bytes, sizeof(bytes));
}

bool echo_came_back(struct echo_bench *b, unsigned slot, uint8_t seed, uint32_t len)
{
	uint8_t bytes[0x100];
	uint32_t i;

	vd_load(&b->d, ECHO_IN(slot), bytes, sizeof(bytes));
	for (i = 0; i < sizeof(bytes); i++)
		if (bytes[i] != (i < len ? (uint8_t)(seed + 7 * i) : 0))
			return false;
	return true;
}

void echo_chain(struct echo_bench *b, uint16_t first, unsigned slot, uint32_t len,
		unsigned pieces)
{
	unsigned i;

	for (i = 0; i < pieces; i++)
		vd_desc(&b->d, first + i, ECHO_OUT(slot) + i * (len / pieces),
			i + 1 < pieces ? len / pieces : len - i * (len / pieces), VD_NEXT,
			(uint16_t)(first + i + 1));
	vd_desc(&b->d, first + pieces, ECHO_IN(slot), 0x100, VD_WRITE, 0);
}

bool echo_all_back(struct echo_bench *b)
{
	return vd_wait(&b->d, b->d.avail);
}

bool echo_take_interrupt(struct echo_bench *b)
{
	uint64_t isr;

	rig_turn(b->rig);
	if (!b->rig->mmio)
		return rig_read(b->rig, b->d.isr, 1) & 1;
	isr = rig_read(b->rig, ECHO_MMIO + 0x60, 4);
	rig_write(b->rig, ECHO_MMIO + 0x64, 4, isr);
	return isr & 1;
}

void echo_must_work(struct echo_bench *b)
{
	echo_fill(b, 0, 99, 40);
	echo_chain(b, 0, 0, 40, 1);
	vd_push(&b->d, 0);
	vd_kick(&b->d, b->d.queue);
	CHECK(echo_all_back(b));
	CHECK(echo_came_back(b, 0, 99, 40));
}

void echo_good(struct echo_bench *b)
{
	echo_chain(b, 0, 0, 32, 1);
}
