/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_hold.c - when the driver is told of what its own processor did.
 *
 * A processor that does a request itself (blk_here.c) has done it before the driver goes on. One
 * interrupt for each is a fifth of what such a request costs the guest; a driver that keeps many under
 * way rings again at once, and is told of several together. It waits for none of them meanwhile:
 * before the processor waits for an interrupt it is told of all, as it is HOLD_MOST_NS after the first of
 * them at the latest, when the processor has other things to do.
 *
 * How many are told together is learned. One at a time at first; now and then the second is waited
 * for; where that comes before the processor halts, more are. A driver that waits for each request
 * pays for one such question in HOLD_SKIP_MOST.
 *
 * Only where there is one processor, as another one could do what the interrupt is for.
 */
#include <config.h>

#include "devices/virtio/blk_internal.h"

#define HOLD_NS 1000000u      /* the oldest one waits no longer when another comes */
#define HOLD_MOST_NS 2000000u /* nor when none comes */
#define HOLD_MOST 32u
#define HOLD_STEADY 8u /* rows in which the driver did not wait, until twice as many are tried */
#define HOLD_SKIP 64u   /* requests told of at once before it is tried again, doubled each time */
#define HOLD_SKIP_MOST 4096u

void blk_hold_reset(struct blk_hold *h)
{
	h->want = h->row = h->held = 0;
	h->waiting = false;
	h->skip = h->back_off = HOLD_SKIP;
}

/* So many were too many: the driver waited for those it had begun, or does nothing more. Lock held. */
static void too_many(struct virtio_blk *b)
{
	struct blk_hold *h = &b->hold;

	h->row = 0;
	h->want = h->held > h->want / 2 ? h->held : h->want / 2;
	if (h->want < 2) {
		h->want = 0;
		h->skip = h->back_off;
		h->back_off = h->back_off * 2 < HOLD_SKIP_MOST ? h->back_off * 2 : HOLD_SKIP_MOST;
	}
	blk_end_batch(b);
}

/* There were as many as wanted. Lock held. */
static void enough(struct blk_hold *h)
{
	if (++h->row < HOLD_STEADY)
		return;
	h->row = 0;
	h->back_off = HOLD_SKIP;
	if (h->want < HOLD_MOST)
		h->want *= 2;
}

/* May the driver be told later? Lock held. */
static bool may_wait(struct virtio_blk *b)
{
	struct blk_hold *h = &b->hold;
	uint64_t now;

	if (!b->dev.machine->tells_idle)
		return false;
	if (!h->want && h->skip) {
		h->skip--;
		return false;
	}
	if (!h->want)
		h->want = 2;
	if (h->held >= h->want) {
		enough(h);
		return false;
	}
	now = timers_now(b->dev.machine->timers);
	if (!h->waiting)
		h->since = now;
	else if (now - h->since >= HOLD_NS)
		return false;
	h->waiting = true;
	return timer_armed(&h->timer) || timer_arm(&h->timer, now + HOLD_MOST_NS) == 0;
}

void blk_end_here(struct virtio_blk *b)
{
	bool starved = false;

	for (unsigned i = 0; i < b->virtio.queue_count; i++)
		starved = starved || b->starved[i];
	if (b->hold.held && (starved || !may_wait(b)))
		blk_end_batch(b);
}

void blk_hold_timer(void *opaque, uint64_t now)
{
	struct virtio_blk *b = opaque;
	struct blk_hold *h = &b->hold;

	pthread_mutex_lock(&b->virtio.lock);
	/* The first one may have come since `now`. */
	if (h->waiting && (now >= h->since + HOLD_MOST_NS || timer_arm(&h->timer, h->since + HOLD_MOST_NS) < 0))
		too_many(b);
	pthread_mutex_unlock(&b->virtio.lock);
}

void blk_idle(struct device *dev)
{
	struct virtio_blk *b = (struct virtio_blk *)dev;
	struct blk_hold *h = &b->hold;

	/* Only this thread makes it true. */
	if (!__atomic_load_n(&h->waiting, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&b->virtio.lock);
	if (h->waiting)
		too_many(b);
	pthread_mutex_unlock(&b->virtio.lock);
}
