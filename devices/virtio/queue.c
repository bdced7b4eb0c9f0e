/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - see queue.h: what both ring formats have. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "devices/virtio/queue_internal.h"

/* --- life ------------------------------------------------------------------------------------- */

int virtq_enable(struct virtq *q, const struct virtq_format *format)
{
	const struct virtq_ring_ops *ops = format->packed ? &virtq_packed_ops : &virtq_split_ops;

	if (!q->size || q->size > q->size_max || !ops->geometry_ok(q))
		return -EINVAL;
	q->format = *format;
	q->ops = ops;
	q->ops->start(q);
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

/* --- building a chain ------------------------------------------------------------------------- */

void virtq_chain_begin(struct virtq_chain *c)
{
	c->head = c->slots = 0;
	c->readable = c->writable = 0;
	c->out_bytes = c->in_bytes = 0;
}

int virtq_chain_add(const struct virtq *q, struct virtq_chain *c, uint64_t gpa, uint32_t len,
		    bool write)
{
	unsigned n = (unsigned)c->readable + c->writable;
	uint32_t total;

	if (!len)
		return 0; /* an empty buffer is odd, and harmless */
	if (n >= VIRTQ_SEGMENTS_MAX || (!write && c->writable))
		return -EPROTO;
	if (!mem_valid(q->memory, gpa, len) ||
	    !checked_add(c->out_bytes, c->in_bytes, &total) || !checked_add(total, len, &total))
		return -EPROTO;
	c->segment[n] = (struct virtq_segment){ gpa, len };
	if (write) {
		c->writable++;
		c->in_bytes += len;
	} else {
		c->readable++;
		c->out_bytes += len;
	}
	return 0;
}

int virtq_indirect_entries(const struct virtq *q, uint64_t gpa, uint32_t len)
{
	unsigned entries = len / DESC_BYTES;

	if (!entries || len % DESC_BYTES || entries > VIRTQ_SIZE_MAX ||
	    !mem_valid(q->memory, gpa, len))
		return -EPROTO;
	return (int)entries;
}

/* --- the verbs -------------------------------------------------------------------------------- */

bool virtq_has(struct virtq *q)
{
	return q->enabled && !q->dead && q->ops->has(q);
}

int virtq_get(struct virtq *q, struct virtq_chain *chain)
{
	int r;

	if (q->dead)
		return -EPROTO;
	if (!q->enabled)
		return 0;
	virtq_chain_begin(chain);
	r = q->ops->get(q, chain);
	if (r < 0)
		q->dead = true;
	if (r <= 0)
		return r;
	assert(chain->head < q->size && !virtq_is_busy(q, chain->head));
	q->busy[chain->head / 64] |= 1ull << chain->head % 64;
	q->in_flight++;
	return 1;
}

void virtq_drop(struct virtq *q, const struct virtq_chain *chain)
{
	uint16_t head = chain->head;

	assert(q->in_flight && virtq_is_busy(q, head));
	q->busy[head / 64] &= ~(1ull << head % 64);
	q->in_flight--;
	if (q->format.packed)
		q->packed.slots_out -= chain->slots;
}

void virtq_unget(struct virtq *q, const struct virtq_chain *chain)
{
	virtq_drop(q, chain);
	q->ops->unget(q, chain);
}

void virtq_release(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	virtq_drop(q, chain);
	q->ops->release(q, chain, written);
}

bool virtq_end(struct virtq *q)
{
	return q->enabled && q->ops->end(q);
}

void virtq_want_kicks(struct virtq *q, bool want)
{
	if (!q->enabled || q->dead)
		return;
	q->ops->want_kicks(q, want);
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
