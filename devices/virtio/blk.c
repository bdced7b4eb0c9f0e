/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk.c - virtio-blk: the device, its life and its configuration space. What it does with a request
 * is in blk_request.c and blk_here.c; blk_hold.c says when the driver is told.
 *
 * At most BLK_REQUESTS are in flight. More wait in the rings, and the device looks again when one
 * comes back.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/log.h"
#include "devices/virtio/blk_internal.h"

#define BLK_THREADS 4u
#define BLK_QUEUE_SIZE 256u
#define BLK_CLASS 0x010000u /* mass storage */

enum { /* offsets in the configuration space (5.2.4) */
	CFG_CAPACITY = 0, CFG_SEG_MAX = 12, CFG_BLK_SIZE = 20, CFG_NUM_QUEUES = 34,
	CFG_MAX_DISCARD = 36, CFG_MAX_DISCARD_SEG = 40, CFG_DISCARD_ALIGN = 44, CFG_MAX_ZEROES = 48,
	CFG_MAX_ZEROES_SEG = 52, CFG_ZEROES_UNMAP = 56, CFG_BYTES = 60,
};

static struct virtio_blk *blk_of(struct virtio *v)
{
	return (struct virtio_blk *)((char *)v - offsetof(struct virtio_blk, virtio));
}

static void blk_resetting(struct virtio *v)
{
	blk_drop_stalled(blk_of(v), -1);
}

static void blk_queue_reset(struct virtio *v, unsigned queue)
{
	blk_drop_stalled(blk_of(v), (int)queue);
}

static void blk_stopped(struct virtio *v)
{
	struct virtio_blk *b = blk_of(v);

	memset(b->starved, 0, sizeof(b->starved));
	memset(b->throttled, 0, sizeof(b->throttled));
	memset(b->ended, 0, sizeof(b->ended));
	b->here.pause = b->here.misses = b->here.slow = 0;
	blk_hold_reset(&b->hold);
}

static const struct virtio_ops blk_ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.features = 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_RO | 1ull << BLK_F_BLK_SIZE |
		    1ull << BLK_F_FLUSH | 1ull << BLK_F_MQ | 1ull << BLK_F_DISCARD |
		    1ull << BLK_F_WRITE_ZEROES,
	.kick = blk_kick,
	.kick_here = blk_kick_here,
	.stopped = blk_stopped,
	.resetting = blk_resetting,
	.queue_reset = blk_queue_reset,
};

/* --- life --------------------------------------------------------------------------------------- */

/* What is begun ends, also while no thread and no watch does it. */
static void help(struct virtio_blk *b)
{
	uring_wait(b->uring);
	workers_help(b->workers);
}

static void blk_reset(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	help(b);
	virtio_reset_wait(&b->virtio);
}

static void blk_pause(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	help(b);
	virtio_drain(&b->virtio);
	blk_batch_done(b); /* what its driver was not told of yet */
}

static void blk_resume(struct device *dev)
{
	blk_retry_stalled((struct virtio_blk *)dev);
}

/* Requests go on being answered, each with an error, so that a driver can let the disk go. */
static void blk_lose(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	b->uring = uring_destroy(b->uring);
	b->here.off = true;
	b->block = block_lost(&b->lost, b->block);
}

static void blk_destroy(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	if (!b)
		return;
	help(b);
	virtio_disconnect(&b->virtio);
	if (b->has_timers) {
		timer_fini(&b->timer);
		timer_fini(&b->hold.timer);
	}
	virtio_fini(&b->virtio);
	uring_destroy(b->uring);
	workers_destroy(b->workers);
	block_destroy(b->block);
	free(b);
}

static int init_virtio(struct virtio_blk *b, const struct virtio_blk_config *c)
{
	uint8_t config[CFG_BYTES] = { 0 };
	struct virtio_info info = {
		.ops = &blk_ops,
		.features = 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_BLK_SIZE | 1ull << BLK_F_FLUSH,
		.without = c->place.without,
		.queue_count = c->queues ? c->queues : 1,
		.queue_size = BLK_QUEUE_SIZE,
		.config = config,
		.config_size = sizeof(config),
	};

	if (info.queue_count > VIRTIO_BLK_QUEUES_MAX)
		return -EINVAL;
	put_le32(config + CFG_SEG_MAX, VIRTQ_SEGMENTS_MAX - 2); /* header and status */
	put_le32(config + CFG_BLK_SIZE, BLK_SECTOR);
	if (info.queue_count > 1) {
		info.features |= 1ull << BLK_F_MQ;
		put_le16(config + CFG_NUM_QUEUES, (uint16_t)info.queue_count);
	}
	if (c->readonly) {
		info.features |= 1ull << BLK_F_RO;
	} else {
		info.features |= 1ull << BLK_F_DISCARD | 1ull << BLK_F_WRITE_ZEROES;
		put_le32(config + CFG_MAX_DISCARD, BLK_DISCARD_SECTORS_MAX);
		put_le32(config + CFG_MAX_DISCARD_SEG, BLK_RANGES_MAX);
		put_le32(config + CFG_DISCARD_ALIGN, 1);
		put_le32(config + CFG_MAX_ZEROES, BLK_ZEROES_SECTORS_MAX);
		put_le32(config + CFG_MAX_ZEROES_SEG, BLK_RANGES_MAX);
		config[CFG_ZEROES_UNMAP] = 1;
	}
	return virtio_init(&b->virtio, b->dev.machine, &info);
}

static void init_requests(struct virtio_blk *b)
{
	unsigned i;

	for (i = 0; i < BLK_REQUESTS; i++) {
		struct blk_request *req = &b->request[i];

		req->work.fn = blk_work;
		req->op.done = blk_op_done;
		req->blk = b;
		req->next = b->idle;
		b->idle = req;
	}
	b->stalled.last = &b->stalled.first;
}

/* Without it everything is as before, on other threads. */
static void init_uring(struct virtio_blk *b, const struct virtio_blk_config *c)
{
	int r;

	if (c->threads || c->on_loop || !b->block->ops->map)
		return;
	r = uring_create(b->dev.machine->loop, BLK_REQUESTS, blk_batch_done, b, &b->uring);
	if (r < 0)
		log_line(b->dev.machine->log, LOG_LEVEL_INFO, "disk: no io_uring: %s", strerror(-r));
}

static int blk_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct virtio_blk_config *c = config;
	struct virtio_blk *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->dev.class = &virtio_blk_class;
	b->dev.machine = machine;
	memcpy(b->serial, c->serial, strnlen(c->serial, sizeof(b->serial)));
	init_requests(b);
	limit_init(&b->limit, c->bytes, c->ops, timers_now(machine->timers));
	timer_init(&b->timer, machine->timers, blk_timer, b);
	timer_init(&b->hold.timer, machine->timers, blk_hold_timer, b);
	b->has_timers = true;
	blk_hold_reset(&b->hold);
	r = workers_create("vmxd-blk", c->on_loop ? 0 : BLK_THREADS, machine->threads,
			   machine->loop, &b->workers);
	if (r == 0)
		r = init_virtio(b, c);
	if (r == 0)
		r = virtio_connect(&b->virtio, &c->place, BLK_CLASS);
	/* last, as nothing may fail once the descriptor is ours */
	if (r == 0 && c->fd >= 0)
		r = block_raw_create(c->fd, c->readonly, &b->block);
	else if (r == 0)
		b->block = c->block;
	if (r == 0 && !b->block)
		r = -EINVAL;
	if (r < 0) {
		blk_destroy(&b->dev);
		return r;
	}
	put_le64(b->virtio.config + CFG_CAPACITY, block_size(b->block) / BLK_SECTOR);
	b->here.off = !c->here || !b->block->ops->try_now;
	init_uring(b, c);
	*ret_device = &b->dev;
	return 0;
}

int virtio_blk_resize(struct device *device, uint64_t size, uint64_t *ret_size)
{
	struct virtio_blk *b = (struct virtio_blk *)device;
	int r = b->block->ops->resize ? b->block->ops->resize(b->block, size) : -ENOTSUP;

	if (r < 0)
		return r;
	*ret_size = block_size(b->block);
	pthread_mutex_lock(&b->virtio.lock);
	put_le64(b->virtio.config + CFG_CAPACITY, *ret_size / BLK_SECTOR);
	virtio_config_changed(&b->virtio);
	pthread_mutex_unlock(&b->virtio.lock);
	return 0;
}

const struct device_class virtio_blk_class = {
	.name = "virtio-blk",
	.create = blk_create,
	.destroy = blk_destroy,
	.reset = blk_reset,
	.pause = blk_pause,
	.resume = blk_resume,
	.idle = blk_idle,
	.lose = blk_lose,
};
