/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_here.c - requests of virtio-blk that are over at once, done by the thread that rings: a vCPU's.
 *
 * Waking another thread takes many times as long as reading 4 KiB that the host has in memory, and
 * a driver that finds its request done before it looks does not even go to sleep. So what is only a
 * copy is made here, up to a bounded number of bytes for each ring of the bell. Everything else is
 * the loop thread's, as are limits, and rings that wait for requests or for room. A request that
 * could not be done without waiting goes to a worker; then, and when the host was slow with two (one
 * may be a thread that the host did not run), the next rings are left to the loop for a while.
 */
#include <config.h>

#include <errno.h>

#include "devices/virtio/blk_internal.h"

#define HERE_BYTES (1u << 20)  /* for each ring */
#define HERE_SLOW_NS 4000000u
#define HERE_SLOW_NEAR 32u     /* requests: two slow ones are no chance */
#define HERE_SLOW_PAUSE 64u    /* rings */
#define HERE_MISS_PAUSE 64u    /* ... at most: twice as many each time */

/* Is it for us? Its pieces are in req->iov then. Lock held. */
static int plan(struct virtio_blk *b, struct blk_request *req, uint64_t *left)
{
	uint64_t len = blk_data_bytes(req);
	int n;

	if (!blk_is_transfer(req) || len > *left ||
	    (req->type == BLK_T_OUT && !virtio_has_feature(&b->virtio, BLK_F_FLUSH)))
		return -EAGAIN;
	n = blk_data_iov(req);
	if (n > 0)
		*left -= len;
	return n > 0 ? n : -EAGAIN; /* a worker says what is wrong */
}

/* No lock. */
static int transfer(struct virtio_blk *b, struct blk_request *req, int n, bool *ret_slow)
{
	struct timers *clock = b->dev.machine->timers;
	uint64_t start = timers_now(clock);
	int r = b->block->ops->try_now(b->block, req->type == BLK_T_OUT, req->iov, (unsigned)n,
				       req->sector * BLK_SECTOR);

	*ret_slow = timers_now(clock) - start > HERE_SLOW_NS;
	if (r == 0)
		blk_transferred(req);
	return r;
}

/* How it went says who does the next ones. Lock held. */
static void learn(struct blk_here *here, int r, bool slow)
{
	if (r == -EOPNOTSUPP)
		here->off = true;
	else if (r < 0)
		here->pause = here->misses = here->misses * 2 < HERE_MISS_PAUSE ? here->misses * 2 + 1
										: HERE_MISS_PAUSE;
	else
		here->misses = 0;
	if (slow && here->slow)
		here->pause = HERE_SLOW_PAUSE;
	here->slow = slow ? HERE_SLOW_NEAR : here->slow - !!here->slow;
}

/* One request. False: no more now; *ret_done: and none is left. Lock held, let go meanwhile. */
static bool one(struct virtio_blk *b, unsigned queue, uint64_t *left, bool *ret_done)
{
	struct virtio *v = &b->virtio;
	struct blk_request *req = b->idle;
	bool slow;
	int n, r;

	*ret_done = !virtio_has(v, queue);
	if (*ret_done || !req || virtio_get(v, queue, &req->chain) <= 0)
		return false;
	b->idle = req->next;
	req->queue = queue;
	if (!blk_parse(b, req)) {
		blk_give_back(b, req, 0);
		return true;
	}
	n = plan(b, req, left);
	if (n < 0) {
		virtio_unget(v, queue, &req->chain);
		req->next = b->idle;
		b->idle = req;
		return false;
	}
	pthread_mutex_unlock(&v->lock);
	r = transfer(b, req, n, &slow);
	pthread_mutex_lock(&v->lock);
	learn(&b->here, r, slow);
	if (r == 0)
		blk_give_back(b, req, req->chain.in_bytes);
	else
		workers_submit(b->workers, &req->work);
	return r == 0 && !b->here.pause;
}

/* Is there nothing that the loop thread has to see to? Lock held. */
static bool may(struct virtio_blk *b, unsigned queue)
{
	if (b->here.off || limit_is_set(&b->limit) || b->starved[queue] || b->stalled.first)
		return false;
	if (!b->here.pause)
		return true;
	b->here.pause--;
	return false;
}

bool blk_kick_here(struct virtio *v, unsigned queue)
{
	struct virtio_blk *b = (struct virtio_blk *)((char *)v -
						     offsetof(struct virtio_blk, virtio));
	uint64_t left = HERE_BYTES;
	bool done = false;

	if (pthread_mutex_trylock(&v->lock) != 0)
		return false; /* somebody is at it */
	if (may(b, queue)) {
		do {
			virtio_want_kicks(v, queue, false);
			while (one(b, queue, &left, &done))
				;
			virtio_want_kicks(v, queue, true);
		} while (done && virtio_has(v, queue));
		blk_end_here(b);
	}
	pthread_mutex_unlock(&v->lock);
	return done;
}
