/* SPDX-License-Identifier: Apache-2.0 */
/* queue_split.c - the split format (virtio 1.2, 2.7). See queue.h. */
#include <config.h>

#include <errno.h>

#include "common/bytes.h"
#include "devices/virtio/queue_internal.h"

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY 1u

struct desc { /* a copy in host memory */
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

/* --- where things are (2.7.6, 2.7.8); all of it checked by geometry_ok() --------------------- */

static uint64_t avail_bytes(uint16_t size)
{
	return 4 + 2ull * size + 2; /* flags, idx, ring, used_event */
}

static uint64_t used_bytes(uint16_t size)
{
	return 4 + 8ull * size + 2; /* flags, idx, ring, avail_event */
}

static uint16_t avail_flags(const struct virtq *q) { return virtq_load16(q, q->driver); }
static uint16_t avail_idx(const struct virtq *q) { return virtq_load16(q, q->driver + 2); }
static uint16_t avail_head(const struct virtq *q, uint16_t i)
{
	return virtq_load16(q, q->driver + 4 + 2ull * (i & (q->size - 1u)));
}
static uint16_t used_event(const struct virtq *q)
{
	return virtq_load16(q, q->driver + 4 + 2ull * q->size);
}

static bool split_geometry_ok(const struct virtq *q)
{
	return !(q->size & (q->size - 1u)) && q->desc % 16 == 0 && q->driver % 2 == 0 &&
	       q->device % 4 == 0 &&
	       mem_valid(q->memory, q->desc, (uint64_t)DESC_BYTES * q->size) &&
	       mem_valid(q->memory, q->driver, avail_bytes(q->size)) &&
	       mem_valid(q->memory, q->device, used_bytes(q->size));
}

static void split_start(struct virtq *q)
{
	q->split.next_avail = q->split.next_used = q->split.signalled = 0;
}

/* --- get -------------------------------------------------------------------------------------- */

static int read_desc(const struct virtq *q, uint64_t table, unsigned index, struct desc *ret)
{
	uint8_t raw[DESC_BYTES];
	int r = mem_read(q->memory, table + (uint64_t)DESC_BYTES * index, raw, sizeof(raw));

	if (r < 0)
		return r;
	*ret = (struct desc){ get_le64(raw), get_le32(raw + 8), get_le16(raw + 12),
			      get_le16(raw + 14) };
	return 0;
}

/* Walks one table from `index`; no walk is longer than the table, so a loop ends as an error. An
 * indirect descriptor may end the queue's own table (2.7.5.3.2), never an indirect one; it is
 * returned in *indirect. */
static int walk(const struct virtq *q, struct virtq_chain *c, uint64_t table, unsigned entries,
		unsigned index, struct desc *indirect)
{
	struct desc d;
	unsigned steps;

	for (steps = 0; steps < entries; steps++) {
		if (index >= entries || read_desc(q, table, index, &d) < 0)
			return -EPROTO;
		if (d.flags & DESC_INDIRECT) {
			if (!indirect || !q->format.indirect || d.flags & DESC_NEXT)
				return -EPROTO;
			*indirect = d;
			return 1;
		}
		if (virtq_chain_add(q, c, d.gpa, d.len, d.flags & DESC_WRITE) < 0)
			return -EPROTO;
		if (!(d.flags & DESC_NEXT))
			return 0;
		index = d.next;
	}
	return -EPROTO;
}

static bool split_has(const struct virtq *q)
{
	return avail_idx(q) != q->split.next_avail;
}

static int split_get(struct virtq *q, struct virtq_chain *chain)
{
	uint16_t pending = (uint16_t)(avail_idx(q) - q->split.next_avail), head;
	struct desc indirect;
	int r;

	if (!pending)
		return 0;
	if (pending > q->size)
		return -EPROTO;
	head = avail_head(q, q->split.next_avail);
	if (head >= q->size || virtq_is_busy(q, head))
		return -EPROTO;
	chain->head = head;
	chain->slots = 1;
	r = walk(q, chain, q->desc, q->size, head, &indirect);
	if (r > 0) {
		r = virtq_indirect_entries(q, indirect.gpa, indirect.len);
		if (r > 0)
			r = walk(q, chain, indirect.gpa, (unsigned)r, 0, NULL);
	}
	if (r < 0)
		return -EPROTO;
	q->split.next_avail++;
	return 1;
}

static void split_unget(struct virtq *q, const struct virtq_chain *chain)
{
	(void)chain;
	q->split.next_avail--;
}

/* --- release and end -------------------------------------------------------------------------- */

static void split_release(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	uint64_t at = q->device + 4 + 8ull * (q->split.next_used & (q->size - 1u));
	uint8_t element[8];

	put_le32(element, chain->head);
	put_le32(element + 4, written);
	(void)mem_write(q->memory, at, element, sizeof(element));
	q->split.next_used++;
	(void)mem_store16(q->memory, q->device + 2, q->split.next_used); /* a release store */
}

static bool split_end(struct virtq *q)
{
	uint16_t from = q->split.signalled, to = q->split.next_used;

	if (from == to)
		return false;
	q->split.signalled = to;
	mem_barrier(); /* the index is out before the driver's wish is looked at */
	if (q->format.event_idx) /* 2.7.7.2: did the index pass used_event? */
		return (uint16_t)(to - used_event(q) - 1) < (uint16_t)(to - from);
	return !(avail_flags(q) & AVAIL_NO_INTERRUPT);
}

static void split_want_kicks(struct virtq *q, bool want)
{
	if (!q->format.event_idx)
		(void)mem_store16(q->memory, q->device, want ? 0 : USED_NO_NOTIFY);
	else if (want) /* else the old avail_event is passed already */
		(void)mem_store16(q->memory, q->device + 4 + 8ull * q->size, q->split.next_avail);
}

const struct virtq_ring_ops virtq_split_ops = {
	.geometry_ok = split_geometry_ok,
	.start = split_start,
	.has = split_has,
	.get = split_get,
	.unget = split_unget,
	.release = split_release,
	.end = split_end,
	.want_kicks = split_want_kicks,
};
