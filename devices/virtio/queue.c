/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - see queue.h. Section numbers are those of virtio 1.2. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/queue.h"
#include "machine/memory.h"

enum { /* 2.7.5 */
	DESC_NEXT = 1,
	DESC_WRITE = 2,
	DESC_INDIRECT = 4,
};
#define DESC_BYTES 16u
#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY 1u

struct desc { /* a copy in host memory */
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

/* --- where things are in the rings (2.7.6, 2.7.8); all of it checked by virtq_enable() -------- */

static uint64_t avail_bytes(uint16_t size)
{
	return 4 + 2ull * size + 2; /* flags, idx, ring, used_event */
}

static uint64_t used_bytes(uint16_t size)
{
	return 4 + 8ull * size + 2; /* flags, idx, ring, avail_event */
}

static uint16_t load16(const struct virtq *q, uint64_t gpa)
{
	uint16_t value = 0;

	(void)mem_load16(q->memory, gpa, &value); /* RAM does not go away */
	return value;
}

static uint16_t avail_flags(const struct virtq *q) { return load16(q, q->driver); }
static uint16_t avail_idx(const struct virtq *q) { return load16(q, q->driver + 2); }
static uint16_t avail_head(const struct virtq *q, uint16_t i)
{
	return load16(q, q->driver + 4 + 2ull * (i & (q->size - 1u)));
}
static uint16_t used_event(const struct virtq *q)
{
	return load16(q, q->driver + 4 + 2ull * q->size);
}

/* --- life ------------------------------------------------------------------------------------- */

int virtq_enable(struct virtq *q, bool event_idx, bool indirect)
{
	if (!q->size || q->size > q->size_max || q->size & (q->size - 1u))
		return -EINVAL;
	if (q->desc % 16 || q->driver % 2 || q->device % 4)
		return -EINVAL;
	if (!mem_valid(q->memory, q->desc, (uint64_t)DESC_BYTES * q->size) ||
	    !mem_valid(q->memory, q->driver, avail_bytes(q->size)) ||
	    !mem_valid(q->memory, q->device, used_bytes(q->size)))
		return -EINVAL;
	q->event_idx = event_idx;
	q->indirect = indirect;
	q->next_avail = q->next_used = q->signalled = 0;
	q->dead = false;
	q->enabled = true;
	return 0;
}

void virtq_reset(struct virtq *q)
{
	struct memory *memory = q->memory;
	uint16_t size_max = q->size_max;

	assert(!q->in_flight);
	assert(size_max <= VIRTQ_SIZE_MAX);
	memset(q, 0, sizeof(*q));
	q->memory = memory;
	q->size_max = q->size = size_max;
	q->vector = 0xffff;
}

/* --- get -------------------------------------------------------------------------------------- */

static int queue_dead(struct virtq *q)
{
	q->dead = true;
	return -EPROTO;
}

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

static int add_segment(const struct virtq *q, struct virtq_chain *c, const struct desc *d)
{
	bool write = d->flags & DESC_WRITE;
	unsigned n = (unsigned)c->readable + c->writable;
	uint32_t total;

	if (!d->len)
		return 0; /* an empty buffer is odd, and harmless */
	if (n >= VIRTQ_SEGMENTS_MAX || (!write && c->writable))
		return -EPROTO;
	if (!mem_valid(q->memory, d->gpa, d->len) ||
	    !checked_add(c->out_bytes, c->in_bytes, &total) || !checked_add(total, d->len, &total))
		return -EPROTO;
	c->segment[n] = (struct virtq_segment){ d->gpa, d->len };
	if (write) {
		c->writable++;
		c->in_bytes += d->len;
	} else {
		c->readable++;
		c->out_bytes += d->len;
	}
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
			if (!indirect || !q->indirect || d.flags & DESC_NEXT)
				return -EPROTO;
			*indirect = d;
			return 1;
		}
		if (add_segment(q, c, &d) < 0)
			return -EPROTO;
		if (!(d.flags & DESC_NEXT))
			return 0;
		index = d.next;
	}
	return -EPROTO;
}

static int walk_indirect(const struct virtq *q, struct virtq_chain *c, const struct desc *d)
{
	unsigned entries = d->len / DESC_BYTES;

	if (!entries || d->len % DESC_BYTES || entries > VIRTQ_SIZE_MAX ||
	    !mem_valid(q->memory, d->gpa, d->len))
		return -EPROTO;
	return walk(q, c, d->gpa, entries, 0, NULL);
}

bool virtq_has(struct virtq *q)
{
	return q->enabled && !q->dead && avail_idx(q) != q->next_avail;
}

int virtq_get(struct virtq *q, struct virtq_chain *chain)
{
	struct desc indirect;
	uint16_t pending, head;
	int r;

	if (q->dead)
		return -EPROTO;
	if (!q->enabled)
		return 0;
	pending = (uint16_t)(avail_idx(q) - q->next_avail);
	if (!pending)
		return 0;
	if (pending > q->size)
		return queue_dead(q);
	head = avail_head(q, q->next_avail);
	if (head >= q->size || q->busy[head / 64] >> head % 64 & 1)
		return queue_dead(q);

	chain->head = head;
	chain->readable = chain->writable = 0;
	chain->out_bytes = chain->in_bytes = 0;
	r = walk(q, chain, q->desc, q->size, head, &indirect);
	if (r > 0)
		r = walk_indirect(q, chain, &indirect);
	if (r < 0)
		return queue_dead(q);
	q->next_avail++;
	q->busy[head / 64] |= 1ull << head % 64;
	q->in_flight++;
	return 1;
}

/* --- release and end -------------------------------------------------------------------------- */

void virtq_drop(struct virtq *q, const struct virtq_chain *chain)
{
	uint16_t head = chain->head;

	assert(q->in_flight && q->busy[head / 64] >> head % 64 & 1);
	q->busy[head / 64] &= ~(1ull << head % 64);
	q->in_flight--;
}

void virtq_release(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	uint8_t element[8];

	virtq_drop(q, chain);
	put_le32(element, chain->head);
	put_le32(element + 4, written);
	(void)mem_write(q->memory, q->device + 4 + 8ull * (q->next_used & (q->size - 1u)), element,
			sizeof(element));
	q->next_used++;
	(void)mem_store16(q->memory, q->device + 2, q->next_used); /* a release store */
}

bool virtq_end(struct virtq *q)
{
	uint16_t from = q->signalled, to = q->next_used;

	if (!q->enabled || from == to)
		return false;
	q->signalled = to;
	mem_barrier(); /* the index is out before the driver's wish is looked at */
	if (q->event_idx) /* 2.7.7.2: did the index pass used_event? */
		return (uint16_t)(to - used_event(q) - 1) < (uint16_t)(to - from);
	return !(avail_flags(q) & AVAIL_NO_INTERRUPT);
}

void virtq_want_kicks(struct virtq *q, bool want)
{
	if (!q->enabled || q->dead)
		return;
	if (!q->event_idx)
		(void)mem_store16(q->memory, q->device, want ? 0 : USED_NO_NOTIFY);
	else if (want) /* else the old avail_event is passed already */
		(void)mem_store16(q->memory, q->device + 4 + 8ull * q->size, q->next_avail);
	mem_barrier();
}

/* --- the bytes of a chain --------------------------------------------------------------------- */

struct cursor { /* over one part of a chain */
	const struct virtq_segment *segment, *end;
	uint64_t skip;
	uint64_t left;
};

static int cursor_open(struct cursor *u, const struct virtq_chain *c, bool in, uint64_t offset,
		       uint64_t len)
{
	if (!range_inside(offset, len, in ? c->in_bytes : c->out_bytes))
		return -ERANGE;
	u->segment = c->segment + (in ? c->readable : 0);
	u->end = u->segment + (in ? c->writable : c->readable);
	u->skip = offset;
	u->left = len;
	return 0;
}

/* The next piece that lies in one segment; false at the end. */
static bool cursor_next(struct cursor *u, struct virtq_segment *ret)
{
	uint64_t n;

	while (u->left && u->segment < u->end && u->skip >= u->segment->len)
		u->skip -= (u->segment++)->len;
	if (!u->left || u->segment == u->end)
		return false;
	n = u->segment->len - u->skip;
	n = n < u->left ? n : u->left;
	*ret = (struct virtq_segment){ u->segment->gpa + u->skip, (uint32_t)n };
	u->left -= n;
	u->skip = 0;
	u->segment++;
	return true;
}

int virtq_copy_out(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		   void *buf, size_t len)
{
	struct virtq_segment s;
	struct cursor u;
	uint8_t *to = buf;
	int r = cursor_open(&u, chain, false, offset, len);

	for (; r == 0 && cursor_next(&u, &s); to += s.len)
		r = mem_read(q->memory, s.gpa, to, s.len);
	return r;
}

int virtq_copy_in(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		  const void *buf, size_t len)
{
	struct virtq_segment s;
	struct cursor u;
	const uint8_t *from = buf;
	int r = cursor_open(&u, chain, true, offset, len);

	for (; r == 0 && cursor_next(&u, &s); from += s.len)
		r = mem_write(q->memory, s.gpa, from, s.len);
	return r;
}

int virtq_zero_in(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		  uint64_t len)
{
	struct virtq_segment s;
	struct cursor u;
	int r = cursor_open(&u, chain, true, offset, len);

	while (r == 0 && cursor_next(&u, &s))
		r = mem_zero(q->memory, s.gpa, s.len);
	return r;
}

int virtq_iov(const struct virtq *q, const struct virtq_chain *chain, bool in, uint64_t offset,
	      uint64_t len, struct iovec *iov, unsigned max)
{
	struct virtq_segment s;
	struct cursor u;
	unsigned n = 0;
	int r = cursor_open(&u, chain, in, offset, len);

	if (r < 0)
		return r;
	while (cursor_next(&u, &s)) {
		if (n == max)
			return -ERANGE;
		r = mem_iov(q->memory, s.gpa, s.len, &iov[n++]);
		if (r < 0)
			return r;
	}
	return (int)n;
}

void virtq_iov_written(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		       uint64_t len)
{
	struct virtq_segment s;
	struct cursor u;

	if (cursor_open(&u, chain, true, offset, len) < 0)
		return;
	while (cursor_next(&u, &s))
		mem_written(q->memory, s.gpa, s.len);
}
