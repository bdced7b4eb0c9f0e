/* SPDX-License-Identifier: Apache-2.0 */
/* vdriver.c - see vdriver.h. */
#include <config.h>

#include <string.h>

#include "common/bytes.h"
#include "machine/memory.h"
#include "machine/pc.h"
#include "tests/device/vdriver.h"

void vd_store(struct vdriver *d, uint64_t gpa, const void *bytes, size_t len)
{
	CHECK(mem_write(d->rig->machine->memory, gpa, bytes, len) == 0);
}

void vd_load(struct vdriver *d, uint64_t gpa, void *bytes, size_t len)
{
	CHECK(mem_read(d->rig->machine->memory, gpa, bytes, len) == 0);
}

void vd_store16(struct vdriver *d, uint64_t gpa, uint16_t value)
{
	CHECK(mem_store16(d->rig->machine->memory, gpa, value) == 0);
}

uint16_t vd_load16(struct vdriver *d, uint64_t gpa)
{
	uint16_t value = 0;

	CHECK(mem_load16(d->rig->machine->memory, gpa, &value) == 0);
	return value;
}

static uint64_t cfg_address(const struct vdriver *d, unsigned offset)
{
	return PC_ECAM + ((uint64_t)d->slot << 15) + offset;
}

uint64_t vd_cfg_read(struct vdriver *d, unsigned offset, unsigned size)
{
	return rig_read(d->rig, cfg_address(d, offset), size);
}

void vd_cfg_write(struct vdriver *d, unsigned offset, unsigned size, uint32_t value)
{
	rig_write(d->rig, cfg_address(d, offset), size, value);
}

static void found_vendor_cap(struct vdriver *d, unsigned at)
{
	uint64_t address = d->bar + vd_cfg_read(d, at + 8, 4);
	uint32_t length = (uint32_t)vd_cfg_read(d, at + 12, 4);

	CHECK_EQ(vd_cfg_read(d, at + 4, 1), 0); /* all in BAR 0 */
	switch (vd_cfg_read(d, at + 3, 1)) {
	case 1:
		d->common = address;
		break;
	case 2:
		d->notify = address;
		d->notify_step = (uint32_t)vd_cfg_read(d, at + 16, 4);
		break;
	case 3:
		d->isr = address;
		break;
	case 4:
		d->config = address;
		d->config_length = length;
		break;
	case 5:
		d->window = at;
		break;
	default:
		break;
	}
}

bool vd_find(struct rig *rig, struct vdriver *d, uint16_t device_id)
{
	unsigned at;

	memset(d, 0, sizeof(*d));
	d->rig = rig;
	for (d->slot = 0; d->slot < 32; d->slot++)
		if (vd_cfg_read(d, 0, 4) == (0x1af4u | (uint32_t)device_id << 16))
			break;
	if (d->slot == 32)
		return false;
	vd_cfg_write(d, 4, 2, 6); /* memory, bus master */
	d->bar = vd_cfg_read(d, 0x10, 4) & ~15ull;
	for (at = (unsigned)vd_cfg_read(d, 0x34, 1); at; at = (unsigned)vd_cfg_read(d, at + 1, 1)) {
		if (vd_cfg_read(d, at, 1) == 9)
			found_vendor_cap(d, at);
		else if (vd_cfg_read(d, at, 1) == 0x11)
			d->msix = at;
	}
	return d->common && d->notify && d->isr && d->window && d->msix;
}

/* The MMIO register that does what a field of the PCI structure does; 0: none. */
static unsigned mmio_register(unsigned offset, bool write)
{
	static const struct {
		uint8_t pci, mmio;
	} table[] = {
		{ VC_DFSEL, 0x14 }, { VC_DF, 0x10 }, { VC_GFSEL, 0x24 }, { VC_GF, 0x20 },
		{ VC_STATUS, 0x70 }, { VC_GEN, 0xfc }, { VC_QSEL, 0x30 }, { VC_QENABLE, 0x44 },
		{ VC_QDESC, 0x80 }, { VC_QDESC + 4, 0x84 }, { VC_QDRIVER, 0x90 },
		{ VC_QDRIVER + 4, 0x94 }, { VC_QDEVICE, 0xa0 }, { VC_QDEVICE + 4, 0xa4 },
		{ VC_QRESET, 0xc0 },
	};
	size_t i;

	if (offset == VC_QSIZE)
		return write ? 0x38 : 0x34;
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].pci == offset)
			return table[i].mmio;
	return 0;
}

bool vd_find_mmio(struct rig *rig, struct vdriver *d, uint64_t base, uint32_t device_id)
{
	memset(d, 0, sizeof(*d));
	d->rig = rig;
	d->mmio = base;
	d->config = base + 0x100;
	return rig_read(rig, base, 4) == 0x74726976 && rig_read(rig, base + 4, 4) == 2 &&
	       rig_read(rig, base + 8, 4) == device_id;
}

uint64_t vd_get(struct vdriver *d, unsigned offset, unsigned size)
{
	if (d->mmio)
		return mmio_register(offset, false)
			       ? rig_read(d->rig, d->mmio + mmio_register(offset, false), 4)
			       : 0;
	return rig_read(d->rig, d->common + offset, size);
}

void vd_set(struct vdriver *d, unsigned offset, unsigned size, uint64_t value)
{
	if (d->mmio) {
		if (mmio_register(offset, true))
			rig_write(d->rig, d->mmio + mmio_register(offset, true), 4, value);
		return;
	}
	rig_write(d->rig, d->common + offset, size, value);
}

uint64_t vd_features(struct vdriver *d)
{
	uint64_t low, high;

	vd_set(d, VC_DFSEL, 4, 0);
	low = vd_get(d, VC_DF, 4);
	vd_set(d, VC_DFSEL, 4, 1);
	high = vd_get(d, VC_DF, 4);
	return low | high << 32;
}

void vd_accept(struct vdriver *d, uint64_t features)
{
	vd_set(d, VC_STATUS, 1, 1);
	vd_set(d, VC_STATUS, 1, 3);
	vd_set(d, VC_GFSEL, 4, 0);
	vd_set(d, VC_GF, 4, (uint32_t)features);
	vd_set(d, VC_GFSEL, 4, 1);
	vd_set(d, VC_GF, 4, features >> 32);
	vd_set(d, VC_STATUS, 1, 0xb);
	d->packed = features & VF_PACKED;
}

uint8_t vd_negotiate(struct vdriver *d, uint64_t features)
{
	vd_set(d, VC_STATUS, 1, 0);
	CHECK(vd_wait_status(d, 0xff, 0));
	vd_accept(d, features);
	return (uint8_t)vd_get(d, VC_STATUS, 1);
}

void vd_set_address(struct vdriver *d, unsigned offset, uint64_t gpa)
{
	vd_set(d, offset, 4, (uint32_t)gpa);
	vd_set(d, offset + 4, 4, gpa >> 32);
}

void vd_queue(struct vdriver *d, unsigned queue, uint16_t size)
{
	static const uint8_t zeroes[0x8000];

	vd_store(d, VD_DESC(queue), zeroes, 0x8000);
	vd_store(d, VD_AVAIL(queue), zeroes, 0x8000);
	vd_set(d, VC_QSEL, 2, queue);
	vd_set(d, VC_QSIZE, 2, size);
	vd_set_address(d, VC_QDESC, VD_DESC(queue));
	vd_set_address(d, VC_QDRIVER, VD_AVAIL(queue));
	vd_set_address(d, VC_QDEVICE, VD_USED(queue));
	vd_set(d, VC_QENABLE, 2, 1);
	vd_restart_ring(d, queue);
}

void vd_restart_ring(struct vdriver *d, unsigned queue)
{
	if (queue >= VD_QUEUES)
		return;
	memset(&d->ring[queue], 0, sizeof(d->ring[queue]));
	d->ring[queue].wrap = d->ring[queue].used_wrap = true;
	if (queue == d->queue)
		d->avail = 0;
}

void vd_start(struct vdriver *d, uint64_t features, uint16_t size)
{
	vd_start_queues(d, features, size, 1);
}

void vd_start_queues(struct vdriver *d, uint64_t features, uint16_t size, unsigned queues)
{
	unsigned i;

	CHECK_EQ(vd_negotiate(d, features | VF_VERSION_1), 0xb);
	for (i = 0; i < queues; i++) {
		vd_queue(d, i, size);
		CHECK_EQ(vd_get(d, VC_QENABLE, 2), 1);
	}
	d->queue_size = size;
	d->queue = 0;
	d->avail = 0;
	vd_set(d, VC_STATUS, 1, 0xf);
	CHECK_EQ(vd_get(d, VC_STATUS, 1), 0xf);
}

void vd_msix(struct vdriver *d, unsigned vectors)
{
	uint64_t table = d->bar + (vd_cfg_read(d, d->msix + 4, 4) & ~7ull);
	unsigned i;

	for (i = 0; i < vectors; i++) {
		rig_write(d->rig, table + 16 * i, 4, 0xfee00000);
		rig_write(d->rig, table + 16 * i + 4, 4, 0);
		rig_write(d->rig, table + 16 * i + 8, 4, 0x40 + i);
		rig_write(d->rig, table + 16 * i + 12, 4, 0);
	}
	vd_cfg_write(d, d->msix + 2, 2, 0x8000);
	vd_set(d, VC_CVEC, 2, 0);
	vd_set(d, VC_QSEL, 2, 0);
	vd_set(d, VC_QVEC, 2, 1);
}

void vd_desc_at(struct vdriver *d, uint64_t table, unsigned index, uint64_t gpa, uint32_t len,
		uint16_t flags, uint16_t next)
{
	uint8_t raw[16];

	put_le64(raw, gpa);
	put_le32(raw + 8, len);
	put_le16(raw + 12, flags);
	put_le16(raw + 14, next);
	vd_store(d, table + 16ull * index, raw, sizeof(raw));
}

void vd_desc(struct vdriver *d, unsigned index, uint64_t gpa, uint32_t len, uint16_t flags,
	     uint16_t next)
{
	vd_desc_at(d, d->packed ? VD_SHADOW(d->queue) : VD_DESC(d->queue), index, gpa, len, flags,
		   next);
}

void vd_select(struct vdriver *d, unsigned queue)
{
	d->ring[d->queue].avail = d->avail;
	d->queue = queue;
	d->avail = d->ring[queue].avail;
}

/* --- packed ----------------------------------------------------------------------------------- */

static void packed_write(struct vdriver *d, unsigned slot, uint64_t gpa, uint32_t len, uint16_t id,
			 uint16_t flags)
{
	uint8_t raw[14];

	put_le64(raw, gpa);
	put_le32(raw + 8, len);
	put_le16(raw + 12, id);
	vd_store(d, VD_SLOT(d->queue, slot), raw, sizeof(raw));
	vd_store16(d, VD_SLOT(d->queue, slot) + 14, flags);
}

static void packed_next(const struct vdriver *d, uint16_t *slot, bool *wrap, unsigned by)
{
	*slot = (uint16_t)(*slot + by);
	if (*slot >= d->queue_size) {
		*slot = (uint16_t)(*slot - d->queue_size);
		*wrap = !*wrap;
	}
}

void vd_slot(struct vdriver *d, uint64_t gpa, uint32_t len, uint16_t id, uint16_t flags)
{
	struct vd_ring *ring = &d->ring[d->queue];

	packed_write(d, ring->slot, gpa, len, id, flags ^ (ring->wrap ? 0x80 : 0x8000));
	packed_next(d, &ring->slot, &ring->wrap, 1);
}

/* The head's flags last: that makes the chain available. */
static void packed_push(struct vdriver *d, uint16_t head)
{
	struct vd_ring *ring = &d->ring[d->queue];
	uint16_t at = head, head_slot = ring->slot, head_flags = 0, n = 0;
	uint8_t raw[16];

	do {
		uint16_t flags;

		vd_load(d, VD_SHADOW(d->queue) + 16ull * at, raw, sizeof(raw));
		flags = get_le16(raw + 12) ^ (ring->wrap ? 0x80 : 0x8000);
		if (!n)
			head_flags = flags;
		packed_write(d, ring->slot, get_le64(raw), get_le32(raw + 8), head,
			     n ? flags : vd_load16(d, VD_SLOT(d->queue, head_slot) + 14));
		packed_next(d, &ring->slot, &ring->wrap, 1);
		at = get_le16(raw + 14);
		n++;
	} while (get_le16(raw + 12) & VD_NEXT && n < d->queue_size);
	if (head < 1024)
		ring->slots[head] = n;
	vd_store16(d, VD_SLOT(d->queue, head_slot) + 14, head_flags);
}

/* Takes what came back. */
static uint16_t packed_used(struct vdriver *d)
{
	struct vd_ring *ring = &d->ring[d->queue];

	for (;;) {
		uint64_t slot = VD_SLOT(d->queue, ring->used_slot);
		uint16_t flags = vd_load16(d, slot + 14), id;
		uint8_t raw[6];

		if (!(flags & 0x80) != !ring->used_wrap || !(flags & 0x8000) != !ring->used_wrap)
			return ring->used;
		vd_load(d, slot + 8, raw, sizeof(raw));
		id = get_le16(raw + 4);
		ring->log[ring->used % VD_USED_LOG].id = id;
		ring->log[ring->used % VD_USED_LOG].len = flags & VD_WRITE ? get_le32(raw) : 0;
		ring->used++;
		CHECK(id < 1024 && ring->slots[id]);
		packed_next(d, &ring->used_slot, &ring->used_wrap,
			    id < 1024 && ring->slots[id] ? ring->slots[id] : 1);
	}
}

void vd_push(struct vdriver *d, uint16_t head)
{
	if (d->packed) {
		packed_push(d, head);
		d->avail++;
		return;
	}
	vd_store16(d, VD_AVAIL(d->queue) + 4 + 2ull * (d->avail % d->queue_size), head);
	d->avail++;
	vd_store16(d, VD_AVAIL(d->queue) + 2, d->avail);
}

void vd_kick(struct vdriver *d, unsigned queue)
{
	if (d->mmio)
		rig_write(d->rig, d->mmio + 0x50, 4, queue);
	else
		rig_write(d->rig, d->notify + (uint64_t)queue * d->notify_step, 2, queue);
}

uint16_t vd_used_idx(struct vdriver *d)
{
	return d->packed ? packed_used(d) : vd_load16(d, VD_USED(d->queue) + 2);
}

struct waiting {
	struct vdriver *d;
	uint16_t n;
	uint8_t mask, value;
};

static bool used_enough(void *opaque)
{
	struct waiting *w = opaque;

	return vd_used_idx(w->d) == w->n;
}

bool vd_wait(struct vdriver *d, uint16_t n)
{
	struct waiting w = { .d = d, .n = n };

	return rig_turn_until(d->rig, used_enough, &w);
}

static bool status_is(void *opaque)
{
	struct waiting *w = opaque;

	return (vd_get(w->d, VC_STATUS, 1) & w->mask) == w->value;
}

bool vd_wait_status(struct vdriver *d, uint8_t mask, uint8_t value)
{
	struct waiting w = { .d = d, .mask = mask, .value = value };

	return rig_turn_until(d->rig, status_is, &w);
}

void vd_used(struct vdriver *d, uint16_t index, uint32_t *ret_id, uint32_t *ret_len)
{
	uint8_t raw[8];

	if (d->packed) {
		(void)packed_used(d);
		*ret_id = d->ring[d->queue].log[index % VD_USED_LOG].id;
		*ret_len = d->ring[d->queue].log[index % VD_USED_LOG].len;
		return;
	}
	vd_load(d, VD_USED(d->queue) + 4 + 8ull * (index % d->queue_size), raw, sizeof(raw));
	*ret_id = get_le32(raw);
	*ret_len = get_le32(raw + 4);
}

/* --- another processor ------------------------------------------------------------------------ */

static void *flip(void *opaque)
{
	struct vd_flipper *f = opaque;
	uint32_t x = 99;

	while (!f->stop) {
		uint64_t gpa;

		x = x * 1664525u + 1013904223u;
		gpa = f->where[x >> 30].gpa + (x >> 8 & f->where[x >> 30].mask);
		/* Small numbers, and the flags of packed descriptors. */
		(void)mem_store16(f->rig->machine->memory, gpa & ~1ull,
				  (uint16_t)(x >> 4 & (x & 0x8000 ? 0x8087 : 0x1ff)));
	}
	return NULL;
}

void vd_flip_start(struct vd_flipper *f, struct rig *rig)
{
	f->rig = rig;
	CHECK_EQ(pthread_create(&f->thread, NULL, flip, f), 0);
}

void vd_flip_stop(struct vd_flipper *f)
{
	f->stop = true;
	pthread_join(f->thread, NULL);
}
