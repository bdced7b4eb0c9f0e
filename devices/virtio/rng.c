/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.c - virtio-rng. The whole device is one queue of buffers to fill, on the loop thread: the
 * kernel's generator does not block once the host has booted. A turn fills a few buffers and a
 * bounded number of bytes, so that a greedy guest does not keep the loop from its other work.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "devices/virtio/core.h"
#include "devices/virtio/rng.h"

#define RNG_CLASS 0x00ff00u /* none of the classes */
#define RNG_QUEUE_SIZE 64u
#define RNG_BYTES 256u      /* of one buffer at most; also what getrandom() gives in one piece */
#define RNG_CHAINS 32u      /* in one turn */

struct virtio_rng {
	struct device dev;
	struct virtio virtio;
	struct virtq_chain chain; /* one at a time */
};

static struct virtio_rng *rng_of(struct virtio *v)
{
	return (struct virtio_rng *)((char *)v - offsetof(struct virtio_rng, virtio));
}

/* Bytes filled; 0 if the host has none now (the guest asks again). */
static uint32_t rng_fill(const struct virtio_rng *g)
{
	uint8_t bytes[RNG_BYTES];
	size_t want = g->chain.in_bytes < RNG_BYTES ? g->chain.in_bytes : RNG_BYTES;
	ssize_t got = getrandom(bytes, want, GRND_NONBLOCK);

	if (got <= 0 ||
	    virtq_copy_in(&g->virtio.queue[0].ring, &g->chain, 0, bytes, (size_t)got) < 0)
		return 0;
	return (uint32_t)got;
}

static void rng_kick(struct virtio *v, unsigned queue)
{
	struct virtio_rng *g = rng_of(v);
	unsigned n = 0;

	pthread_mutex_lock(&v->lock);
	while (n < RNG_CHAINS && virtio_get(v, queue, &g->chain) > 0) {
		virtio_release(v, queue, &g->chain, rng_fill(g));
		n++;
	}
	virtio_end(v, queue);
	if (virtio_has(v, queue))
		virtio_kick_again(v, queue);
	else
		virtio_want_kicks(v, queue, true);
	if (virtio_has(v, queue)) /* came before the driver saw that */
		virtio_kick_again(v, queue);
	pthread_mutex_unlock(&v->lock);
}

static const struct virtio_ops rng_ops = {
	.name = "virtio-rng",
	.id = VIRTIO_ID_RNG,
	.features = 1ull << VIRTIO_F_IN_ORDER,
	.kick = rng_kick,
};

static void rng_reset(struct device *dev)
{
	virtio_reset_wait(&((struct virtio_rng *)dev)->virtio);
}

static void rng_destroy(struct device *dev)
{
	struct virtio_rng *g = (struct virtio_rng *)dev;

	if (!g)
		return;
	virtio_disconnect(&g->virtio);
	virtio_fini(&g->virtio);
	free(g);
}

static int rng_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct virtio_rng_config *c = config;
	const struct virtio_info info = { .ops = &rng_ops, .queue_count = 1,
					  .features = 1ull << VIRTIO_F_IN_ORDER,
					  .without = c->place.without,
					  .queue_size = RNG_QUEUE_SIZE };
	struct virtio_rng *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->dev.class = &virtio_rng_class;
	g->dev.machine = machine;
	r = virtio_init(&g->virtio, machine, &info);
	if (r == 0)
		r = virtio_connect(&g->virtio, &c->place, RNG_CLASS);
	if (r < 0) {
		rng_destroy(&g->dev);
		return r;
	}
	*ret_device = &g->dev;
	return 0;
}

const struct device_class virtio_rng_class = {
	.name = "virtio-rng",
	.create = rng_create,
	.destroy = rng_destroy,
	.reset = rng_reset,
};
