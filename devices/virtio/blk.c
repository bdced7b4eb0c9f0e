/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk.c - virtio-blk: requests taken from the ring on the loop thread, done by a few workers with
 * the device unlocked, and given back by them. A request that is wrong gets its status byte; one
 * that has no place for a status is a guest error.
 *
 * At most BLK_REQUESTS are in flight. More wait in the ring, and the device looks again when one
 * comes back.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/block.h"
#include "devices/backend/workers.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/core.h"

#define BLK_REQUESTS 64u
#define BLK_THREADS 4u
#define BLK_QUEUE_SIZE 256u
#define BLK_CLASS 0x010000u /* mass storage */

#define SECTOR 512u
#define HEADER_BYTES 16u
#define RANGE_BYTES 16u      /* of one discard or write-zeroes range */
#define RANGES_MAX 16u
#define DISCARD_SECTORS_MAX (1u << 22)
#define ZEROES_SECTORS_MAX (1u << 18)
#define ZEROES_UNMAP 1u      /* the only flag */

enum { /* features (5.2.3) */
	BLK_F_SEG_MAX = 2, BLK_F_RO = 5, BLK_F_BLK_SIZE = 6, BLK_F_FLUSH = 9, BLK_F_DISCARD = 13,
	BLK_F_WRITE_ZEROES = 14,
};
enum { /* types (5.2.6) */
	BLK_T_IN = 0, BLK_T_OUT = 1, BLK_T_FLUSH = 4, BLK_T_GET_ID = 8, BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};
enum { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

enum { /* offsets in the configuration space (5.2.4) */
	CFG_CAPACITY = 0, CFG_SEG_MAX = 12, CFG_BLK_SIZE = 20, CFG_MAX_DISCARD = 36,
	CFG_MAX_DISCARD_SEG = 40, CFG_DISCARD_ALIGN = 44, CFG_MAX_ZEROES = 48,
	CFG_MAX_ZEROES_SEG = 52, CFG_ZEROES_UNMAP = 56, CFG_BYTES = 60,
};

struct blk_request {
	struct work work;
	struct virtio_blk *blk;
	struct blk_request *next;
	unsigned queue;
	uint32_t type;
	uint64_t sector;
	struct virtq_chain chain;
};

struct virtio_blk {
	struct device dev;
	struct virtio virtio;
	struct block *block;
	struct workers *workers;
	char serial[VIRTIO_BLK_SERIAL_MAX];
	struct blk_request *idle;    /* list; virtio.lock */
	bool starved[VIRTIO_QUEUES_MAX]; /* something waits in that ring for a request */
	struct blk_request request[BLK_REQUESTS];
};

static struct virtio_blk *blk_of(struct virtio *v)
{
	return (struct virtio_blk *)((char *)v - offsetof(struct virtio_blk, virtio));
}

/* --- doing a request: worker thread, no lock -------------------------------------------------- */

/* [sector, +len bytes) lies on the disk, in whole sectors, and is not empty. */
static bool on_disk(const struct virtio_blk *b, uint64_t sector, uint64_t len)
{
	uint64_t sectors = b->block->size / SECTOR;

	return len && len % SECTOR == 0 && range_inside(sector, len / SECTOR, sectors);
}

static uint8_t status_of(int r)
{
	return r == 0 ? BLK_S_OK : r == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
}

/* *ret_filled: bytes of the writable part that hold data now. */
static int do_read(struct virtio_blk *b, struct blk_request *req, uint64_t *ret_filled)
{
	const struct virtq *q = &b->virtio.queue[req->queue].ring;
	uint64_t len = req->chain.in_bytes - 1, done = 0;
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	int n, r;

	if (!on_disk(b, req->sector, len))
		return -EINVAL;
	n = virtq_iov(q, &req->chain, true, 0, len, iov, VIRTQ_SEGMENTS_MAX);
	if (n < 0)
		return n;
	r = b->block->ops->readv(b->block, iov, (unsigned)n, req->sector * SECTOR, &done);
	virtq_iov_written(q, &req->chain, 0, done);
	*ret_filled = done;
	return r;
}

static int do_write(struct virtio_blk *b, struct blk_request *req)
{
	uint64_t len = req->chain.out_bytes - HEADER_BYTES;
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	int n, r;

	if (b->block->readonly || !on_disk(b, req->sector, len))
		return -EINVAL;
	n = virtq_iov(&b->virtio.queue[req->queue].ring, &req->chain, false, HEADER_BYTES, len, iov,
		      VIRTQ_SEGMENTS_MAX);
	if (n < 0)
		return n;
	r = b->block->ops->writev(b->block, iov, (unsigned)n, req->sector * SECTOR);
	/* without FLUSH the driver takes each write as durable (5.2.6.2) */
	if (r == 0 && !virtio_has_feature(&b->virtio, BLK_F_FLUSH))
		r = b->block->ops->flush(b->block);
	return r;
}

static int do_range(struct virtio_blk *b, uint32_t type, const uint8_t *range)
{
	uint64_t sector = get_le64(range);
	uint64_t sectors = get_le32(range + 8);
	uint32_t flags = get_le32(range + 12);
	uint64_t len = sectors * SECTOR; /* below 2^41 */
	bool zeroes = type == BLK_T_WRITE_ZEROES;

	if (flags & ~(zeroes ? ZEROES_UNMAP : 0u))
		return -EOPNOTSUPP;
	if (sectors > (zeroes ? ZEROES_SECTORS_MAX : DISCARD_SECTORS_MAX) ||
	    !on_disk(b, sector, len))
		return -EINVAL;
	if (zeroes)
		return b->block->ops->write_zeroes(b->block, sector * SECTOR, len, flags);
	return b->block->ops->discard(b->block, sector * SECTOR, len);
}

static int do_ranges(struct virtio_blk *b, struct blk_request *req)
{
	uint8_t ranges[RANGES_MAX * RANGE_BYTES];
	uint32_t len = req->chain.out_bytes - HEADER_BYTES, i;
	int r;

	if (b->block->readonly || !len || len % RANGE_BYTES || len > sizeof(ranges))
		return -EINVAL;
	r = virtq_copy_out(&b->virtio.queue[req->queue].ring, &req->chain, HEADER_BYTES, ranges,
			   len);
	for (i = 0; i < len && r == 0; i += RANGE_BYTES)
		r = do_range(b, req->type, ranges + i);
	if (r == 0 && !virtio_has_feature(&b->virtio, BLK_F_FLUSH))
		r = b->block->ops->flush(b->block);
	return r;
}

static int do_get_id(struct virtio_blk *b, struct blk_request *req, uint64_t *ret_filled)
{
	uint64_t n = req->chain.in_bytes - 1;

	n = n < sizeof(b->serial) ? n : sizeof(b->serial);
	*ret_filled = n;
	return virtq_copy_in(&b->virtio.queue[req->queue].ring, &req->chain, 0, b->serial, n);
}

static int do_request(struct virtio_blk *b, struct blk_request *req, uint64_t *ret_filled)
{
	switch (req->type) {
	case BLK_T_IN:
		return do_read(b, req, ret_filled);
	case BLK_T_OUT:
		return do_write(b, req);
	case BLK_T_FLUSH:
		return b->block->ops->flush(b->block);
	case BLK_T_GET_ID:
		return do_get_id(b, req, ret_filled);
	case BLK_T_DISCARD:
	case BLK_T_WRITE_ZEROES:
		return do_ranges(b, req);
	default:
		return -EOPNOTSUPP;
	}
}

/* --- taking and giving back ------------------------------------------------------------------- */

static void give_back(struct virtio_blk *b, struct blk_request *req, uint32_t written)
{
	struct virtio *v = &b->virtio;
	unsigned queue = req->queue;

	virtio_release(v, queue, &req->chain, written);
	virtio_end(v, queue);
	req->next = b->idle;
	b->idle = req;
	if (b->starved[queue]) {
		b->starved[queue] = false;
		virtio_kick_again(v, queue);
	}
}

static void blk_work(struct work *work)
{
	struct blk_request *req = (struct blk_request *)((char *)work -
							 offsetof(struct blk_request, work));
	struct virtio_blk *b = req->blk;
	struct virtio *v = &b->virtio;
	const struct virtq *q = &v->queue[req->queue].ring;
	uint64_t filled = 0, last = req->chain.in_bytes - 1;
	uint8_t status;
	bool run;

	pthread_mutex_lock(&v->lock);
	run = virtio_running(v); /* else the driver is gone: forget it */
	pthread_mutex_unlock(&v->lock);
	if (run) {
		status = status_of(do_request(b, req, &filled));
		/* what the used length covers was written, all of it */
		(void)virtq_zero_in(q, &req->chain, filled, last - filled);
		(void)virtq_copy_in(q, &req->chain, last, &status, 1);
	}
	pthread_mutex_lock(&v->lock);
	give_back(b, req, req->chain.in_bytes);
	pthread_mutex_unlock(&v->lock);
}

/* The header, copied once. Lock held. */
static bool blk_parse(struct virtio_blk *b, struct blk_request *req)
{
	uint8_t header[HEADER_BYTES];

	if (!req->chain.in_bytes ||
	    virtq_copy_out(&b->virtio.queue[req->queue].ring, &req->chain, 0, header,
			   sizeof(header)) < 0) {
		virtio_guest_error(&b->virtio, "request without header or status byte");
		return false;
	}
	req->type = get_le32(header);
	req->sector = get_le64(header + 8);
	return true;
}

/* Takes all there is, or as much as there are requests for. Lock held. */
static void blk_take(struct virtio_blk *b, unsigned queue)
{
	struct virtio *v = &b->virtio;

	do {
		virtio_want_kicks(v, queue, false);
		for (;;) {
			struct blk_request *req = b->idle;

			if (!req) {
				b->starved[queue] = true;
				return;
			}
			if (virtio_get(v, queue, &req->chain) <= 0)
				break;
			b->idle = req->next;
			req->queue = queue;
			if (blk_parse(b, req))
				workers_submit(b->workers, &req->work);
			else
				give_back(b, req, 0);
		}
		virtio_want_kicks(v, queue, true);
	} while (virtio_has(v, queue));
}

static void blk_kick(struct virtio *v, unsigned queue)
{
	struct virtio_blk *b = blk_of(v);

	pthread_mutex_lock(&v->lock);
	blk_take(b, queue);
	pthread_mutex_unlock(&v->lock);
}

static void blk_stopped(struct virtio *v)
{
	memset(blk_of(v)->starved, 0, sizeof(blk_of(v)->starved));
}

static const struct virtio_ops blk_ops = {
	.name = "virtio-blk",
	.id = VIRTIO_ID_BLOCK,
	.features = 1ull << BLK_F_SEG_MAX | 1ull << BLK_F_RO | 1ull << BLK_F_BLK_SIZE |
		    1ull << BLK_F_FLUSH | 1ull << BLK_F_DISCARD | 1ull << BLK_F_WRITE_ZEROES,
	.kick = blk_kick,
	.stopped = blk_stopped,
};

/* --- the device ------------------------------------------------------------------------------- */

static void blk_reset(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	workers_help(b->workers);
	virtio_reset_wait(&b->virtio);
}

static void blk_pause(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	workers_help(b->workers);
	virtio_drain(&b->virtio);
}

static void blk_destroy(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;

	if (!b)
		return;
	workers_help(b->workers);
	virtio_disconnect(&b->virtio);
	virtio_fini(&b->virtio);
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
		.queue_count = 1,
		.queue_size = BLK_QUEUE_SIZE,
		.config = config,
		.config_size = sizeof(config),
	};

	put_le32(config + CFG_SEG_MAX, VIRTQ_SEGMENTS_MAX - 2); /* header and status */
	put_le32(config + CFG_BLK_SIZE, SECTOR);
	if (c->readonly) {
		info.features |= 1ull << BLK_F_RO;
	} else {
		info.features |= 1ull << BLK_F_DISCARD | 1ull << BLK_F_WRITE_ZEROES;
		put_le32(config + CFG_MAX_DISCARD, DISCARD_SECTORS_MAX);
		put_le32(config + CFG_MAX_DISCARD_SEG, RANGES_MAX);
		put_le32(config + CFG_DISCARD_ALIGN, 1);
		put_le32(config + CFG_MAX_ZEROES, ZEROES_SECTORS_MAX);
		put_le32(config + CFG_MAX_ZEROES_SEG, RANGES_MAX);
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
		req->blk = b;
		req->next = b->idle;
		b->idle = req;
	}
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
	put_le64(b->virtio.config + CFG_CAPACITY, b->block->size / SECTOR);
	*ret_device = &b->dev;
	return 0;
}

const struct device_class virtio_blk_class = {
	.name = "virtio-blk",
	.create = blk_create,
	.destroy = blk_destroy,
	.reset = blk_reset,
	.pause = blk_pause,
};
