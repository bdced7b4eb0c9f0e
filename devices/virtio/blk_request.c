/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_request.c - a request of virtio-blk from its header to its status byte (virtio 1.2, 5.2.6).
 *
 * It is taken from the ring on the loop thread, unless blk_here.c took it before. Reading, writing
 * and flushing that need nothing but one transfer are begun there by io_uring and end there;
 * everything else, and all of it where there is no io_uring, is done by a worker with the device
 * unlocked. What io_uring did only in part, or not, a worker does again: a request may always be
 * done twice.
 *
 * A write that finds no room on the host is kept, the machine is asked to pause, and it is done
 * again when that goes on.
 */
#include <config.h>

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/blk_internal.h"

#define RANGE_BYTES 16u /* of one discard or write-zeroes range */
#define ZEROES_UNMAP 1u /* the only flag */

enum { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2 };

static const struct virtq *ring_of(const struct blk_request *req)
{
	return &req->blk->virtio.queue[req->queue].ring;
}

/* --- doing a request: worker thread, no lock -------------------------------------------------- */

/* [sector, +len bytes) lies on the disk, in whole sectors, and is not empty. */
static bool on_disk(const struct virtio_blk *b, uint64_t sector, uint64_t len)
{
	uint64_t sectors = block_size(b->block) / BLK_SECTOR;

	return len && len % BLK_SECTOR == 0 && range_inside(sector, len / BLK_SECTOR, sectors);
}

static uint8_t status_of(int r)
{
	return r == 0 ? BLK_S_OK : r == -EOPNOTSUPP ? BLK_S_UNSUPP : BLK_S_IOERR;
}

int blk_data_iov(struct blk_request *req)
{
	struct virtio_blk *b = req->blk;
	bool in = req->type == BLK_T_IN;
	uint64_t len = blk_data_bytes(req);

	if ((!in && b->block->readonly) || !on_disk(b, req->sector, len))
		return -EINVAL;
	return virtq_iov(ring_of(req), &req->chain, in, in ? 0 : BLK_HEADER_BYTES, len, req->iov,
			 VIRTQ_SEGMENTS_MAX);
}

/* *ret_filled: bytes of the writable part that hold data now. */
static int do_read(struct virtio_blk *b, struct blk_request *req, uint64_t *ret_filled)
{
	uint64_t done = 0;
	int n = blk_data_iov(req), r;

	if (n < 0)
		return n;
	r = b->block->ops->readv(b->block, req->iov, (unsigned)n, req->sector * BLK_SECTOR, &done);
	virtq_iov_written(ring_of(req), &req->chain, 0, done);
	*ret_filled = done;
	return r;
}

/* Without FLUSH the driver takes each write as durable (5.2.6.2). */
static int do_write_through(struct virtio_blk *b, int r)
{
	if (r == 0 && !virtio_has_feature(&b->virtio, BLK_F_FLUSH))
		r = b->block->ops->flush(b->block);
	return r;
}

static int do_write(struct virtio_blk *b, struct blk_request *req)
{
	int n = blk_data_iov(req);

	if (n < 0)
		return n;
	return do_write_through(b, b->block->ops->writev(b->block, req->iov, (unsigned)n,
							 req->sector * BLK_SECTOR));
}

static int do_range(struct virtio_blk *b, uint32_t type, const uint8_t *range)
{
	uint64_t sector = get_le64(range);
	uint64_t sectors = get_le32(range + 8);
	uint32_t flags = get_le32(range + 12);
	uint64_t len = sectors * BLK_SECTOR; /* below 2^41 */
	bool zeroes = type == BLK_T_WRITE_ZEROES;

	if (flags & ~(zeroes ? ZEROES_UNMAP : 0u))
		return -EOPNOTSUPP;
	if (sectors > (zeroes ? BLK_ZEROES_SECTORS_MAX : BLK_DISCARD_SECTORS_MAX) ||
	    !on_disk(b, sector, len))
		return -EINVAL;
	if (zeroes)
		return b->block->ops->write_zeroes(b->block, sector * BLK_SECTOR, len, flags);
	return b->block->ops->discard(b->block, sector * BLK_SECTOR, len);
}

static int do_ranges(struct virtio_blk *b, struct blk_request *req)
{
	uint8_t ranges[BLK_RANGES_MAX * RANGE_BYTES];
	uint32_t len = req->chain.out_bytes - BLK_HEADER_BYTES, i;
	int r;

	if (b->block->readonly || !len || len % RANGE_BYTES || len > sizeof(ranges))
		return -EINVAL;
	r = virtq_copy_out(ring_of(req), &req->chain, BLK_HEADER_BYTES, ranges, len);
	for (i = 0; i < len && r == 0; i += RANGE_BYTES)
		r = do_range(b, req->type, ranges + i);
	return do_write_through(b, r);
}

static int do_get_id(struct virtio_blk *b, struct blk_request *req, uint64_t *ret_filled)
{
	uint64_t n = req->chain.in_bytes - 1;

	n = n < sizeof(b->serial) ? n : sizeof(b->serial);
	*ret_filled = n;
	return virtq_copy_in(ring_of(req), &req->chain, 0, b->serial, n);
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

/* --- giving back ------------------------------------------------------------------------------ */

void blk_give_back(struct virtio_blk *b, struct blk_request *req, uint32_t written)
{
	virtio_release(&b->virtio, req->queue, &req->chain, written);
	req->next = b->idle;
	b->idle = req;
	b->ended[req->queue] = true;
	b->hold.held++;
}

void blk_end_batch(struct virtio_blk *b)
{
	b->hold.held = 0;
	__atomic_store_n(&b->hold.waiting, false, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < b->virtio.queue_count; i++) {
		if (!b->ended[i])
			continue;
		b->ended[i] = false;
		virtio_end(&b->virtio, i);
	}
	for (unsigned i = 0; i < b->virtio.queue_count && b->idle; i++) {
		if (!b->starved[i])
			continue;
		b->starved[i] = false;
		virtio_kick_again(&b->virtio, i);
	}
}

/* The status byte, and zeroes where data should have been: what the used length covers was written,
 * all of it. No lock. */
static void put_status(struct blk_request *req, int r, uint64_t filled)
{
	uint64_t last = req->chain.in_bytes - 1;
	uint8_t status = status_of(r);

	(void)virtq_zero_in(ring_of(req), &req->chain, filled, last - filled);
	(void)virtq_copy_in(ring_of(req), &req->chain, last, &status, 1);
}

void blk_transferred(struct blk_request *req)
{
	uint64_t filled = req->type == BLK_T_IN ? blk_data_bytes(req) : 0;

	virtq_iov_written(ring_of(req), &req->chain, 0, filled);
	put_status(req, 0, filled);
}

/* --- no room on the host ---------------------------------------------------------------------- */

static bool is_full(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* False: the driver is gone. Lock held. */
static bool stall(struct virtio_blk *b, struct blk_request *req, int r)
{
	if (!virtio_running(&b->virtio) || b->virtio.queue[req->queue].resetting)
		return false;
	req->next = NULL;
	*b->stalled.last = req;
	b->stalled.last = &req->next;
	virtio_park(&b->virtio, 1);
	machine_stall(b->dev.machine, "disk-full",
		      "disk %.*s: %s: make room on the host, then resume the VM",
		      (int)sizeof(b->serial), b->serial, strerror(-r));
	return true;
}

void blk_drop_stalled(struct virtio_blk *b, int queue)
{
	struct blk_request *req, *rest = b->stalled.first;

	b->stalled = (struct blk_list){ NULL, &b->stalled.first };
	while ((req = rest)) {
		rest = req->next;
		if (queue >= 0 && req->queue != (unsigned)queue) {
			req->next = NULL;
			*b->stalled.last = req;
			b->stalled.last = &req->next;
			continue;
		}
		virtio_park(&b->virtio, -1);
		blk_give_back(b, req, 0);
	}
}

void blk_retry_stalled(struct virtio_blk *b)
{
	struct blk_request *req, *rest;

	pthread_mutex_lock(&b->virtio.lock);
	rest = b->stalled.first;
	b->stalled = (struct blk_list){ NULL, &b->stalled.first };
	while ((req = rest)) {
		rest = req->next;
		virtio_park(&b->virtio, -1);
		workers_submit(b->workers, &req->work);
	}
	pthread_mutex_unlock(&b->virtio.lock);
}

void blk_work(struct work *work)
{
	struct blk_request *req = (struct blk_request *)((char *)work -
							 offsetof(struct blk_request, work));
	struct virtio_blk *b = req->blk;
	struct virtio *v = &b->virtio;
	uint64_t filled = 0;
	int r = 0;
	bool run;

	pthread_mutex_lock(&v->lock);
	run = virtio_running(v); /* else the driver is gone: forget it */
	pthread_mutex_unlock(&v->lock);
	if (run) {
		r = do_request(b, req, &filled);
		if (!is_full(r))
			put_status(req, r, filled);
	}
	pthread_mutex_lock(&v->lock);
	if (!run || !is_full(r) || !stall(b, req, r)) {
		blk_give_back(b, req, req->chain.in_bytes);
		blk_end_batch(b);
	}
	pthread_mutex_unlock(&v->lock);
}

/* --- io_uring: loop thread -------------------------------------------------------------------- */

void blk_op_done(struct uring_op *op, int result)
{
	struct blk_request *req = (struct blk_request *)((char *)op -
							 offsetof(struct blk_request, op));
	struct virtio_blk *b = req->blk;
	uint64_t want = blk_data_bytes(req);

	b->block->ops->unmap(b->block, &req->map);
	if (result < 0 || (uint64_t)result != want) {
		workers_submit(b->workers, &req->work);
		return;
	}
	blk_transferred(req);
	pthread_mutex_lock(&b->virtio.lock);
	blk_give_back(b, req, req->chain.in_bytes);
	pthread_mutex_unlock(&b->virtio.lock);
}

void blk_batch_done(void *opaque)
{
	struct virtio_blk *b = opaque;

	pthread_mutex_lock(&b->virtio.lock);
	blk_end_batch(b);
	pthread_mutex_unlock(&b->virtio.lock);
}

static bool is_aligned(const struct block *block, const struct iovec *iov, int n, uint64_t offset)
{
	uint64_t bits = offset;

	for (int i = 0; i < n; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return !(bits & (block->align - 1u));
}

static bool begin_transfer(struct virtio_blk *b, struct blk_request *req)
{
	uint64_t offset = req->sector * BLK_SECTOR, len = 0;
	bool write = req->type == BLK_T_OUT;
	int n;

	if (write && !virtio_has_feature(&b->virtio, BLK_F_FLUSH))
		return false;
	n = blk_data_iov(req);
	if (n <= 0 || !is_aligned(b->block, req->iov, n, offset))
		return false; /* a worker finds out what is wrong */
	for (int i = 0; i < n; i++)
		len += req->iov[i].iov_len;
	if (b->block->ops->map(b->block, write, offset, len, &req->map) < 0)
		return false;
	if (uring_rw(b->uring, &req->op, write, req->map.fd, req->iov, (unsigned)n, req->map.offset))
		return true;
	b->block->ops->unmap(b->block, &req->map);
	return false;
}

static bool begin_flush(struct virtio_blk *b, struct blk_request *req)
{
	if (!b->block->flush_by_fd || b->block->ops->map(b->block, false, 0, 0, &req->map) < 0)
		return false;
	if (uring_fdatasync(b->uring, &req->op, req->map.fd))
		return true;
	b->block->ops->unmap(b->block, &req->map);
	return false;
}

static void begin(struct virtio_blk *b, struct blk_request *req)
{
	bool begun = false;

	if (b->uring && blk_is_transfer(req))
		begun = begin_transfer(b, req);
	else if (b->uring && req->type == BLK_T_FLUSH)
		begun = begin_flush(b, req);
	if (!begun)
		workers_submit(b->workers, &req->work);
}

/* --- taking ----------------------------------------------------------------------------------- */

bool blk_parse(struct virtio_blk *b, struct blk_request *req)
{
	uint8_t header[BLK_HEADER_BYTES];

	if (!req->chain.in_bytes ||
	    virtq_copy_out(ring_of(req), &req->chain, 0, header, sizeof(header)) < 0) {
		virtio_guest_error(&b->virtio, "request without header or status byte");
		return false;
	}
	req->type = get_le32(header);
	req->sector = get_le64(header + 8);
	return true;
}

/* May another request be begun? If not, the timer is on. Lock held. */
static bool within_limits(struct virtio_blk *b)
{
	uint64_t now, wait;

	if (!limit_is_set(&b->limit))
		return true;
	now = timers_now(b->dev.machine->timers);
	wait = limit_wait(&b->limit, now);
	return !wait || timer_arm(&b->timer, now + wait) < 0;
}

void blk_timer(void *opaque, uint64_t now)
{
	struct virtio_blk *b = opaque;

	(void)now;
	pthread_mutex_lock(&b->virtio.lock);
	for (unsigned i = 0; i < b->virtio.queue_count; i++)
		if (b->throttled[i])
			virtio_kick_again(&b->virtio, i);
	memset(b->throttled, 0, sizeof(b->throttled));
	pthread_mutex_unlock(&b->virtio.lock);
}

static void charge(struct virtio_blk *b, const struct blk_request *req)
{
	if (limit_is_set(&b->limit))
		limit_take(&b->limit, blk_data_bytes(req), timers_now(b->dev.machine->timers));
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
			if (!within_limits(b)) {
				b->throttled[queue] = true;
				return;
			}
			if (virtio_get(v, queue, &req->chain) <= 0)
				break;
			b->idle = req->next;
			req->queue = queue;
			if (blk_parse(b, req)) {
				charge(b, req);
				begin(b, req);
			} else {
				blk_give_back(b, req, 0);
			}
		}
		virtio_want_kicks(v, queue, true);
	} while (virtio_has(v, queue));
}

void blk_kick(struct virtio *v, unsigned queue)
{
	struct virtio_blk *b = (struct virtio_blk *)((char *)v -
						     offsetof(struct virtio_blk, virtio));

	pthread_mutex_lock(&v->lock);
	blk_take(b, queue);
	blk_end_batch(b);
	pthread_mutex_unlock(&v->lock);
	if (b->uring)
		uring_submit(b->uring);
}
