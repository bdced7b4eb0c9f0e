/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_ring.c - see vhost_ring.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/virtio/vhost_ring.h"

#define NONE VHOST_RING_NONE
#define DESC_BYTES 16u
#define TABLE_BYTES ((size_t)VIRTQ_SEGMENTS_MAX * DESC_BYTES)
#define AVAIL_BYTES(size) (6u + 2u * (size))
#define USED_BYTES(size) (6u + 8u * (size))
#define USED_NO_NOTIFY 1u

enum { FLAG_NEXT = 1, FLAG_WRITE = 2, FLAG_INDIRECT = 4 };

/* --- layout: the parts that one side writes do not share a page --------------------------------- */

static size_t pages(size_t bytes)
{
	return (bytes + 4095) & ~(size_t)4095;
}

static size_t used_offset(uint16_t size)
{
	return pages((size_t)size * DESC_BYTES + AVAIL_BYTES(size));
}

static size_t tables_offset(uint16_t size)
{
	return used_offset(size) + pages(USED_BYTES(size));
}

size_t vhost_ring_bytes(uint16_t size)
{
	return tables_offset(size) + size * TABLE_BYTES;
}

uint64_t vhost_ring_desc(const struct vhost_ring *r)
{
	return r->gpa;
}

uint64_t vhost_ring_avail(const struct vhost_ring *r)
{
	return r->gpa + (uint64_t)r->size * DESC_BYTES;
}

uint64_t vhost_ring_used(const struct vhost_ring *r)
{
	return r->gpa + used_offset(r->size);
}

static uint8_t *avail_part(const struct vhost_ring *r)
{
	return r->shared + (size_t)r->size * DESC_BYTES;
}

static uint8_t *used_part(const struct vhost_ring *r)
{
	return r->shared + used_offset(r->size);
}

static void store16(uint8_t *at, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE);
}

static uint16_t load16(const uint8_t *at)
{
	return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}

static uint32_t load32(const uint8_t *at)
{
	return __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED);
}

/* --- life ------------------------------------------------------------------------------------- */

int vhost_ring_init(struct vhost_ring *r, uint16_t size, uint8_t *shared, uint64_t gpa)
{
	*r = (struct vhost_ring){ .size = size, .shared = shared, .gpa = gpa,
				  .oldest = NONE, .newest = NONE, .free_count = size };
	r->slot = calloc(size, sizeof(*r->slot));
	if (!r->slot)
		return -ENOMEM;
	for (uint16_t i = 0; i < size; i++)
		r->slot[i].next = i + 1 < size ? (uint16_t)(i + 1) : NONE;
	return 0;
}

void vhost_ring_fini(struct vhost_ring *r)
{
	free(r->slot);
	r->slot = NULL;
}

/* --- placing ---------------------------------------------------------------------------------- */

static void put_desc(uint8_t *at, const struct virtq_segment *s, uint16_t flags, uint16_t next)
{
	put_le64(at, s->gpa);
	put_le32(at + 8, s->len);
	put_le16(at + 12, flags);
	put_le16(at + 14, next);
}

static uint16_t segment_flags(const struct virtq_chain *c, unsigned i)
{
	bool last = i + 1 == (unsigned)c->readable + c->writable;

	return (uint16_t)((i >= c->readable ? FLAG_WRITE : 0) | (last ? 0 : FLAG_NEXT));
}

/* One descriptor that points to a table of the others. */
static void write_indirect(const struct vhost_ring *r, uint16_t head)
{
	const struct virtq_chain *c = &r->slot[head].chain;
	unsigned n = (unsigned)c->readable + c->writable;
	size_t offset = tables_offset(r->size) + head * TABLE_BYTES;
	const struct virtq_segment table = { r->gpa + offset, n * DESC_BYTES };

	for (unsigned i = 0; i < n; i++)
		put_desc(r->shared + offset + (size_t)i * DESC_BYTES, &c->segment[i],
			 segment_flags(c, i), (uint16_t)(i + 1));
	put_desc(r->shared + (size_t)head * DESC_BYTES, &table, FLAG_INDIRECT, 0);
}

static void write_direct(const struct vhost_ring *r, uint16_t head)
{
	const struct virtq_chain *c = &r->slot[head].chain;
	uint16_t at = head;

	for (unsigned i = 0; at != NONE; i++, at = r->slot[at].next)
		put_desc(r->shared + (size_t)at * DESC_BYTES, &c->segment[i], segment_flags(c, i),
			 r->slot[at].next);
}

/* The chain's descriptors are its own already. */
static void publish(struct vhost_ring *r, uint16_t head)
{
	const struct virtq_chain *c = &r->slot[head].chain;

	if (r->slot[head].next == NONE && c->readable + c->writable > 1)
		write_indirect(r, head);
	else
		write_direct(r, head);
	store16(avail_part(r) + 4 + 2 * (size_t)(r->avail % r->size), head);
	r->avail++;
	store16(avail_part(r) + 2, r->avail);
}

struct vhost_slot *vhost_ring_next(struct vhost_ring *r)
{
	return r->free_count ? &r->slot[r->free] : NULL;
}

int vhost_ring_place(struct vhost_ring *r)
{
	uint16_t head = r->free, last = head;
	struct vhost_slot *s = &r->slot[head];
	unsigned n = (unsigned)s->chain.readable + s->chain.writable;

	assert(n && r->free_count);
	if (n > 1 && r->indirect)
		n = 1;
	if (n > r->free_count)
		return -ENOSPC;
	for (unsigned i = 1; i < n; i++)
		last = r->slot[last].next;
	r->free = r->slot[last].next;
	r->slot[last].next = NONE;
	r->free_count -= (uint16_t)n;
	s->in_flight = true;
	s->parked = false;
	s->newer = NONE;
	s->older = r->newest;
	if (r->newest == NONE)
		r->oldest = head;
	else
		r->slot[r->newest].newer = head;
	r->newest = head;
	publish(r, head);
	return 0;
}

bool vhost_ring_wants_kick(const struct vhost_ring *r)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* our index first, then its flag */
	return !(load16(used_part(r)) & USED_NO_NOTIFY);
}

/* --- taking ----------------------------------------------------------------------------------- */

static void unlink_slot(struct vhost_ring *r, uint16_t head)
{
	struct vhost_slot *s = &r->slot[head];
	uint16_t last = head, n = 1;

	if (s->older == NONE)
		r->oldest = s->newer;
	else
		r->slot[s->older].newer = s->newer;
	if (s->newer == NONE)
		r->newest = s->older;
	else
		r->slot[s->newer].older = s->older;
	s->in_flight = false;
	for (; r->slot[last].next != NONE; n++)
		last = r->slot[last].next;
	r->slot[last].next = r->free;
	r->free = head;
	r->free_count += n;
}

int vhost_ring_take(struct vhost_ring *r, struct vhost_slot **ret_slot, uint32_t *ret_written,
		    const char **ret_what)
{
	const uint8_t *used = used_part(r);
	uint16_t there = load16(used + 2);
	const uint8_t *element = used + 4 + 8 * (size_t)(r->used % r->size);
	uint32_t head, written;

	if (there == r->used)
		return 0;
	*ret_what = "its used ring is ahead of what it was given";
	if ((uint16_t)(there - r->used) > r->size)
		return -EPROTO;
	head = load32(element);
	written = load32(element + 4);
	*ret_what = "it gave back a buffer that it did not have";
	if (head >= r->size || !r->slot[head].in_flight)
		return -EPROTO;
	*ret_what = "it says to have written more than a buffer holds";
	if (written > r->slot[head].chain.in_bytes)
		return -EPROTO;
	r->used++;
	unlink_slot(r, (uint16_t)head);
	*ret_slot = &r->slot[head];
	*ret_written = written;
	return 1;
}

struct vhost_slot *vhost_ring_abandon(struct vhost_ring *r)
{
	uint16_t head = r->oldest;

	if (head == NONE)
		return NULL;
	unlink_slot(r, head);
	return &r->slot[head];
}

void vhost_ring_restart(struct vhost_ring *r)
{
	memset(r->shared, 0, tables_offset(r->size));
	r->avail = r->used = 0;
	for (uint16_t head = r->oldest; head != NONE; head = r->slot[head].newer)
		publish(r, head);
}
