/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_packed.c - the packed format (virtio 1.2, 2.8). See queue.h.
 *
 * One ring of descriptors, written by both sides in turn. A lap is told from the next by two bits
 * in the flags: a descriptor is available when AVAIL is the wrap counter and USED is not, used
 * when both are. Each side keeps its own place and wrap counter. The head's flags are loaded first
 * (acquire): all that belongs to the chain was written before them.
 *
 * A buffer's id must be below the ring's size and not in flight, and no more slots are taken than
 * the ring has: a driver that marks slots as available which the device still holds ends as an
 * error. (The specification leaves ids open; no driver needs more of them than slots.)
 */
#include <config.h>

#include <errno.h>

#include "common/bytes.h"
#include "devices/virtio/queue_internal.h"

#define FLAG_AVAIL 0x0080u
#define FLAG_USED 0x8000u
#define EVENT_BYTES 4u /* offset and wrap, then flags (2.8.10) */
#define EVENT_WRAP 0x8000u

enum { EVENT_ENABLE = 0, EVENT_DISABLE = 1, EVENT_DESC = 2 };

static uint64_t slot_gpa(const struct virtq *q, unsigned slot)
{
	return q->desc + (uint64_t)DESC_BYTES * slot;
}

static bool packed_geometry_ok(const struct virtq *q)
{
	return q->desc % 16 == 0 && q->driver % 4 == 0 && q->device % 4 == 0 &&
	       mem_valid(q->memory, q->desc, (uint64_t)DESC_BYTES * q->size) &&
	       mem_valid(q->memory, q->driver, EVENT_BYTES) &&
	       mem_valid(q->memory, q->device, EVENT_BYTES);
}

static void packed_start(struct virtq *q)
{
	q->packed.next_avail = q->packed.next_used = q->packed.slots_out = q->packed.unsignalled = 0;
	q->packed.avail_wrap = q->packed.used_wrap = true;
}

/* Moves a place forward; passing the end begins the next lap. */
static void advance(const struct virtq *q, uint16_t *place, bool *wrap, unsigned slots)
{
	unsigned to = *place + slots;

	if (to >= q->size) {
		to -= q->size;
		*wrap = !*wrap;
	}
	*place = (uint16_t)to;
}

static bool is_available(const struct virtq *q, uint16_t flags)
{
	bool avail = flags & FLAG_AVAIL, used = flags & FLAG_USED;

	return avail == q->packed.avail_wrap && used != q->packed.avail_wrap;
}

static uint16_t head_flags(const struct virtq *q)
{
	return virtq_load16(q, slot_gpa(q, q->packed.next_avail) + 14);
}

static bool packed_has(const struct virtq *q)
{
	return is_available(q, head_flags(q));
}

/* --- get -------------------------------------------------------------------------------------- */

/* A table of its own: every entry belongs to the chain, in order (2.8.7). */
static int add_table(const struct virtq *q, struct virtq_chain *c, uint64_t gpa, uint32_t len)
{
	int entries = virtq_indirect_entries(q, gpa, len), i;
	uint8_t raw[DESC_BYTES];

	if (entries < 0)
		return entries;
	for (i = 0; i < entries; i++) {
		uint16_t flags;

		if (mem_read(q->memory, gpa + (uint64_t)DESC_BYTES * (unsigned)i, raw,
			     sizeof(raw)) < 0)
			return -EPROTO;
		flags = get_le16(raw + 14);
		if (flags & DESC_INDIRECT ||
		    virtq_chain_add(q, c, get_le64(raw), get_le32(raw + 8), flags & DESC_WRITE) < 0)
			return -EPROTO;
	}
	return 0;
}

/* The chain at next_avail whose head has these flags. The last descriptor of a chain has its id
 * (2.8.6). */
static int walk(const struct virtq *q, struct virtq_chain *c, uint16_t flags)
{
	unsigned slot = q->packed.next_avail, room = (unsigned)q->size - q->packed.slots_out, n;
	uint8_t raw[DESC_BYTES];

	for (n = 1; n <= room; n++) {
		uint64_t gpa;
		uint32_t len;

		if (mem_read(q->memory, slot_gpa(q, slot), raw, sizeof(raw)) < 0)
			return -EPROTO;
		if (n > 1) /* the head's are those that were found to be available */
			flags = get_le16(raw + 14);
		gpa = get_le64(raw);
		len = get_le32(raw + 8);
		c->head = get_le16(raw + 12);
		c->slots = (uint16_t)n;
		if (flags & DESC_INDIRECT) /* alone, never in a list (2.8.19) */
			return n > 1 || flags & DESC_NEXT || !q->format.indirect
				       ? -EPROTO
				       : add_table(q, c, gpa, len);
		if (virtq_chain_add(q, c, gpa, len, flags & DESC_WRITE) < 0)
			return -EPROTO;
		if (!(flags & DESC_NEXT))
			return 0;
		slot = slot + 1 == q->size ? 0 : slot + 1;
	}
	return -EPROTO;
}

static int packed_get(struct virtq *q, struct virtq_chain *chain)
{
	uint16_t flags = head_flags(q);

	if (!is_available(q, flags))
		return 0;
	if (walk(q, chain, flags) < 0 || chain->head >= q->size || virtq_is_busy(q, chain->head))
		return -EPROTO;
	q->packed.slots_out += chain->slots;
	advance(q, &q->packed.next_avail, &q->packed.avail_wrap, chain->slots);
	return 1;
}

static void packed_unget(struct virtq *q, const struct virtq_chain *chain)
{
	if (q->packed.next_avail < chain->slots) { /* back into the lap before */
		q->packed.next_avail = (uint16_t)(q->packed.next_avail + q->size);
		q->packed.avail_wrap = !q->packed.avail_wrap;
	}
	q->packed.next_avail = (uint16_t)(q->packed.next_avail - chain->slots);
}

/* --- release and end -------------------------------------------------------------------------- */

static void packed_release(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	uint64_t at = slot_gpa(q, q->packed.next_used);
	uint16_t flags = q->packed.used_wrap ? FLAG_AVAIL | FLAG_USED : 0;
	uint8_t raw[6];

	if (written) /* only then the length means something */
		flags |= DESC_WRITE;
	put_le32(raw, written);
	put_le16(raw + 4, chain->head);
	(void)mem_write(q->memory, at + 8, raw, sizeof(raw));
	(void)mem_store16(q->memory, at + 14, flags); /* a release store */
	advance(q, &q->packed.next_used, &q->packed.used_wrap, chain->slots);
	q->packed.unsignalled += chain->slots;
}

/* Was the driver's event slot among the last n that were used, of which next_used is the end? In
 * places of this lap: those of the lap before are negative. */
static bool passed(const struct virtq *q, uint16_t off_wrap, unsigned n)
{
	int end = q->packed.next_used, event = off_wrap & (EVENT_WRAP - 1u);

	if (!!(off_wrap & EVENT_WRAP) != q->packed.used_wrap)
		event -= q->size;
	return event < end && event >= end - (int)n;
}

static bool packed_end(struct virtq *q)
{
	unsigned n = q->packed.unsignalled;
	uint32_t event = 0;

	if (!n)
		return false;
	q->packed.unsignalled = 0;
	mem_barrier(); /* the descriptors are out before the driver's wish is looked at */
	(void)mem_load32(q->memory, q->driver, &event);
	switch (event >> 16 & 3u) {
	case EVENT_DISABLE:
		return false;
	case EVENT_DESC:
		return !q->format.event_idx || n >= q->size || passed(q, (uint16_t)event, n);
	default:
		return true;
	}
}

static void packed_want_kicks(struct virtq *q, bool want)
{
	uint32_t event = (uint32_t)EVENT_DISABLE << 16;

	if (want && q->format.event_idx)
		event = (uint32_t)EVENT_DESC << 16 | q->packed.next_avail |
			(q->packed.avail_wrap ? EVENT_WRAP : 0);
	else if (want)
		event = (uint32_t)EVENT_ENABLE << 16;
	(void)mem_store32(q->memory, q->device, event);
}

const struct virtq_ring_ops virtq_packed_ops = {
	.geometry_ok = packed_geometry_ok,
	.start = packed_start,
	.has = packed_has,
	.get = packed_get,
	.unget = packed_unget,
	.release = packed_release,
	.end = packed_end,
	.want_kicks = packed_want_kicks,
};
