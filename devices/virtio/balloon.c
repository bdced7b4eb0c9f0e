/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon.c - see balloon.h. Everything happens on the loop thread, a bounded number of pages in one
 * turn.
 *
 * Statistics: the driver always has one buffer in its queue, which it fills anew when it gets it
 * back. The device leaves it there, so that nothing is in flight, until somebody asks. The first
 * one that it takes then is old; the one that follows is the answer.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/core.h"
#include "machine/memory.h"
#include "machine/timer.h"

#define BALLOON_CLASS 0x00ff00u /* none of the classes */
#define BALLOON_QUEUE_SIZE 128u
#define PAGE 4096u              /* of this device, whatever the guest's is */
#define PAGES_MAX 4096u         /* of one chain; drivers send 256 */
#define CHAINS_MAX 32u          /* in one turn */
#define REPORT_BYTES_MAX (64ull << 20) /* the same for free pages */
#define STAT_BYTES 10u

enum { F_STATS = 1, F_DEFLATE_ON_OOM = 2, F_REPORTING = 5 };
#define FEATURES (1ull << F_STATS | 1ull << F_DEFLATE_ON_OOM | 1ull << F_REPORTING)
enum { CFG_PAGES = 0, CFG_ACTUAL = 4, CFG_BYTES = 8 };
enum { INFLATE = 0, DEFLATE = 1, FIRST_OPTIONAL = 2 };

struct virtio_balloon {
	struct device dev;
	struct virtio virtio;
	/* virtio.lock */
	uint64_t returned;
	unsigned stats_wanted; /* buffers to take before there is an answer */
	uint32_t valid;
	uint64_t stat[BALLOON_STATS], told_ns;
	struct virtq_chain chain; /* one at a time */
	uint8_t pages[PAGES_MAX * 4];
};

static struct virtio_balloon *balloon_of(struct virtio *v)
{
	return (struct virtio_balloon *)((char *)v - offsetof(struct virtio_balloon, virtio));
}

/* Queues after the first two are there only if their feature is, and have no gaps (5.5.2). */
static unsigned reporting_queue(const struct virtio *v)
{
	return FIRST_OPTIONAL + virtio_has_feature(v, F_STATS);
}

static void give_back(struct virtio_balloon *b, uint64_t gpa, uint64_t bytes)
{
	if (mem_discard(b->dev.machine->memory, gpa, bytes) == 0)
		b->returned += bytes;
}

/* --- the balloon ------------------------------------------------------------------------------ */

/* Page numbers, neighbours together: drivers send them in falling or in rising order. */
static void inflate(struct virtio_balloon *b)
{
	uint32_t len = b->chain.out_bytes, i;
	uint64_t low = 0, high = 0; /* pages gathered: [low, high) */

	len = len < sizeof(b->pages) ? len : (uint32_t)sizeof(b->pages);
	if (virtq_copy_out(&b->virtio.queue[INFLATE].ring, &b->chain, 0, b->pages, len) < 0)
		return;
	for (i = 0; i + 4 <= len; i += 4) {
		uint64_t page = get_le32(b->pages + i);

		if (high > low && page == high) {
			high++;
		} else if (high > low && page + 1 == low) {
			low--;
		} else {
			if (high > low)
				give_back(b, low * PAGE, (high - low) * PAGE);
			low = page;
			high = page + 1;
		}
	}
	if (high > low)
		give_back(b, low * PAGE, (high - low) * PAGE);
}

/* Buffers that are free pages; what is no whole page stays as it is. False: enough for this turn. */
static bool report(struct virtio_balloon *b, uint64_t *left)
{
	unsigned i;

	for (i = 0; i < b->chain.writable; i++) {
		const struct virtq_segment *s = &b->chain.segment[b->chain.readable + i];
		uint64_t begin = (s->gpa + PAGE - 1) & ~(PAGE - 1ull), end = (s->gpa + s->len) & ~(PAGE - 1ull);

		if (end > begin) {
			give_back(b, begin, end - begin);
			*left -= *left < end - begin ? *left : end - begin;
		}
	}
	return *left;
}

/* --- statistics ------------------------------------------------------------------------------- */

static void take_stats(struct virtio_balloon *b)
{
	uint8_t bytes[STAT_BYTES * 2 * BALLOON_STATS];
	uint32_t len = b->chain.out_bytes, i;

	len = len < sizeof(bytes) ? len : (uint32_t)sizeof(bytes);
	if (virtq_copy_out(&b->virtio.queue[FIRST_OPTIONAL].ring, &b->chain, 0, bytes, len) < 0)
		return;
	for (i = 0; i + STAT_BYTES <= len; i += STAT_BYTES) {
		unsigned tag = get_le16(bytes + i);

		if (tag < BALLOON_STATS) {
			b->stat[tag] = get_le64(bytes + i + 2);
			b->valid |= 1u << tag;
		}
	}
	b->told_ns = timers_now(b->dev.machine->timers);
}

static void stats_kicked(struct virtio_balloon *b)
{
	struct virtio *v = &b->virtio;

	/* One buffer a turn: the driver answers each with the next. */
	if (b->stats_wanted && virtio_get(v, FIRST_OPTIONAL, &b->chain) > 0) {
		b->stats_wanted--;
		take_stats(b);
		virtio_release(v, FIRST_OPTIONAL, &b->chain, 0);
		virtio_end(v, FIRST_OPTIONAL);
	}
	virtio_want_kicks(v, FIRST_OPTIONAL, true);
	if (b->stats_wanted && virtio_has(v, FIRST_OPTIONAL))
		virtio_kick_again(v, FIRST_OPTIONAL);
}

static void balloon_kick(struct virtio *v, unsigned queue)
{
	struct virtio_balloon *b = balloon_of(v);
	uint64_t left = REPORT_BYTES_MAX;
	unsigned n = 0;

	pthread_mutex_lock(&v->lock);
	if (queue == FIRST_OPTIONAL && virtio_has_feature(v, F_STATS)) {
		stats_kicked(b);
		pthread_mutex_unlock(&v->lock);
		return;
	}
	while (n++ < CHAINS_MAX && left && virtio_get(v, queue, &b->chain) > 0) {
		if (queue == INFLATE)
			inflate(b);
		else if (queue == reporting_queue(v) && virtio_has_feature(v, F_REPORTING))
			(void)report(b, &left);
		virtio_release(v, queue, &b->chain, 0);
	}
	virtio_end(v, queue);
	virtio_want_kicks(v, queue, true);
	if (virtio_has(v, queue))
		virtio_kick_again(v, queue);
	pthread_mutex_unlock(&v->lock);
}

void virtio_balloon_set(struct device *dev, uint64_t bytes)
{
	struct virtio_balloon *b = (struct virtio_balloon *)dev;
	uint64_t pages = bytes / PAGE;

	pthread_mutex_lock(&b->virtio.lock);
	put_le32(b->virtio.config + CFG_PAGES, pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX);
	virtio_config_changed(&b->virtio);
	pthread_mutex_unlock(&b->virtio.lock);
}

void virtio_balloon_info(struct device *dev, struct virtio_balloon_info *ret_info)
{
	struct virtio_balloon *b = (struct virtio_balloon *)dev;

	pthread_mutex_lock(&b->virtio.lock);
	*ret_info = (struct virtio_balloon_info){
		.driver = virtio_running(&b->virtio),
		.target = (uint64_t)get_le32(b->virtio.config + CFG_PAGES) * PAGE,
		.actual = (uint64_t)get_le32(b->virtio.config + CFG_ACTUAL) * PAGE,
		.returned = b->returned,
		.valid = b->valid,
		.told_ns = b->told_ns,
	};
	memcpy(ret_info->stat, b->stat, sizeof(b->stat));
	if (!b->stats_wanted && virtio_has_feature(&b->virtio, F_STATS)) {
		b->stats_wanted = 2;
		virtio_kick_again(&b->virtio, FIRST_OPTIONAL);
	}
	pthread_mutex_unlock(&b->virtio.lock);
}

/* --- the device ------------------------------------------------------------------------------- */

/* With DRIVER_OK comes the first statistics buffer: it counts as asked for. */
static void balloon_started(struct virtio *v)
{
	balloon_of(v)->stats_wanted = 1;
}

static void balloon_stopped(struct virtio *v)
{
	struct virtio_balloon *b = balloon_of(v);

	b->stats_wanted = 0;
	b->valid = 0;
	put_le32(v->config + CFG_ACTUAL, 0);
}

static const struct virtio_ops balloon_ops = {
	.name = "virtio-balloon",
	.id = VIRTIO_ID_BALLOON,
	.features = FEATURES | 1ull << VIRTIO_F_IN_ORDER,
	.kick = balloon_kick,
	.started = balloon_started,
	.stopped = balloon_stopped,
};

static void balloon_reset(struct device *dev)
{
	virtio_reset_wait(&((struct virtio_balloon *)dev)->virtio);
}

static void balloon_destroy(struct device *dev)
{
	struct virtio_balloon *b = (struct virtio_balloon *)dev;

	if (!b)
		return;
	virtio_disconnect(&b->virtio);
	virtio_fini(&b->virtio);
	free(b);
}

static int balloon_create(struct machine *machine, const void *opaque, struct device **ret_device)
{
	const struct virtio_balloon_config *config = opaque;
	const uint8_t space[CFG_BYTES] = { 0 };
	const struct virtio_info info = {
		.ops = &balloon_ops,
		.features = FEATURES | 1ull << VIRTIO_F_IN_ORDER,
		.without = config->place.without,
		.queue_count = 4,
		.queue_size = BALLOON_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};
	struct virtio_balloon *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->dev.class = &virtio_balloon_class;
	b->dev.machine = machine;
	r = virtio_init(&b->virtio, machine, &info);
	if (r == 0)
		r = virtio_connect(&b->virtio, &config->place, BALLOON_CLASS);
	if (r < 0) {
		balloon_destroy(&b->dev);
		return r;
	}
	memset(b->virtio.config_wmask + CFG_ACTUAL, 0xff, 4);
	*ret_device = &b->dev;
	return 0;
}

const struct device_class virtio_balloon_class = {
	.name = "virtio-balloon",
	.create = balloon_create,
	.destroy = balloon_destroy,
	.reset = balloon_reset,
};
