/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "devices/virtio/pci.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/fuzz/moves.h"
#include "tests/fuzz/vfuzz.h"

#define MMIO_BASE 0xd0000000ull
#define TABLES 0xa0000ull   /* indirect ones */
#define FIRST (VD_BUFFERS + 0x1000u)
#define LAST (RIG_MEMORY - 0x20000u)
#define PIECES_MAX 4u

/* --- the driver ------------------------------------------------------------------------------- */

void vf_open(struct vfuzz *f, const uint8_t *data, size_t size, struct virtio_place *place)
{
	uint8_t kind;

	f->in = (struct input){ data, size };
	kind = input8(&f->in);
	f->hostile = kind & 2;
	f->next = FIRST;
	if (kind & 1)
		place->mmio = (struct virtio_mmio_place){ MMIO_BASE, 5 };
	rig_open(&f->rig);
	f->d.mmio = place->mmio.base;
}

struct device *vf_add(struct vfuzz *f, const struct device_class *class, const void *config)
{
	struct device *dev = rig_add(&f->rig, class, config);

	if (!(f->d.mmio ? vd_find_mmio(&f->rig, &f->d, MMIO_BASE, f->device_id)
			: vd_find(&f->rig, &f->d, (uint16_t)(0x1040 + f->device_id))))
		abort();
	vf_start(f);
	if (f->hostile) {
		f->spoiler = (struct spoiler){ f->rig.machine->memory, &f->in, 64 };
		spoil_with(&f->spoiler);
	}
	return dev;
}

void vf_start(struct vfuzz *f)
{
	struct vdriver *d = &f->d;
	uint8_t rings = input8(&f->in);
	uint64_t features = VF_VERSION_1 | (rings & 1 ? VF_INDIRECT : 0) |
			    (rings & 2 ? VF_EVENT_IDX : 0) | (rings & 4 ? VF_PACKED : 0) |
			    (rings & 8 ? VF_IN_ORDER : 0) | (rings & 16 ? VF_RING_RESET : 0);
	unsigned i;

	if (f->features)
		features |= f->features & (rings & 32 ? ~0ull : input64(&f->in));
	if (rarely(&f->in))
		features ^= input64(&f->in);
	if (!d->mmio)
		vd_cfg_write(d, 4, 2, 6);
	vd_set(d, VC_STATUS, 1, 0);
	vd_accept(d, features);
	d->queue_size = VF_SIZE;
	for (i = 0; i < f->queues; i++)
		vd_queue(d, i, rarely(&f->in) ? input16(&f->in) : VF_SIZE);
	d->queue = 0;
	d->avail = 0;
	if (!rarely(&f->in))
		vd_set(d, VC_STATUS, 1, 0xf);
}

static uint64_t take_memory(struct vfuzz *f, uint32_t len)
{
	uint64_t at = f->next;

	if (len > LAST - FIRST)
		len = LAST - FIRST;
	if (len > LAST - at)
		at = FIRST;
	f->next = at + ((len + 63u) & ~63u);
	return at;
}

struct piece {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
};

/* One part of a chain, in one or two pieces. */
static unsigned cut(struct vfuzz *f, struct piece *pieces, uint64_t gpa, uint32_t len, uint16_t flags)
{
	uint32_t first = input8(&f->in) & 1 ? len : input8(&f->in) % len;

	if (!first || first >= len) {
		pieces[0] = (struct piece){ gpa, len, flags };
		return 1;
	}
	pieces[0] = (struct piece){ gpa, first, flags };
	pieces[1] = (struct piece){ gpa + first, len - first, flags };
	return 2;
}

static void break_piece(struct vfuzz *f, struct piece *p)
{
	struct input *in = &f->in;

	switch (pick(in, 4)) {
	case 0:
		p->gpa = input_edge(in);
		break;
	case 1:
		p->len = (uint32_t)input_edge(in);
		break;
	case 2:
		p->flags ^= (uint16_t)(1u << pick(in, 3));
		break;
	default:
		p->flags = input16(in);
		break;
	}
}

static void put_pieces(struct vfuzz *f, uint16_t head, const struct piece *pieces, unsigned n)
{
	struct vdriver *d = &f->d;
	struct input *in = &f->in;
	bool indirect = n && (input8(in) & 3) == 3;
	uint64_t table = TABLES + 0x100ull * head;
	unsigned i;

	for (i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)(pieces[i].flags | (i + 1 < n ? VD_NEXT : 0));
		uint16_t next = rarely(in) ? input16(in)
				: (uint16_t)(indirect ? i + 1 : (head + i + 1) % VF_SIZE);

		if (indirect)
			vd_desc_at(d, table, i, pieces[i].gpa, pieces[i].len, flags, next);
		else
			vd_desc(d, (head + i) % VF_SIZE, pieces[i].gpa, pieces[i].len, flags, next);
	}
	if (indirect)
		vd_desc(d, head, table, rarely(in) ? input16(in) : 16 * n, VD_INDIRECT, 0);
}

void vf_push(struct vfuzz *f, unsigned queue, const void *out, uint32_t out_len, uint32_t in_len)
{
	struct vdriver *d = &f->d;
	struct input *in = &f->in;
	struct piece pieces[PIECES_MAX];
	uint16_t head;
	uint64_t gpa;
	unsigned n = 0;

	vd_select(d, queue);
	head = (uint16_t)(d->avail * PIECES_MAX % VF_SIZE);
	if (out_len) {
		gpa = take_memory(f, out_len);
		vd_store(d, gpa, out, out_len);
		n += cut(f, pieces, gpa, out_len, 0);
	}
	if (in_len)
		n += cut(f, pieces + n, take_memory(f, in_len), in_len, VD_WRITE);
	if (n && rarely(in))
		break_piece(f, &pieces[pick(in, n)]);
	put_pieces(f, head, pieces, n);
	/* In the packed ring the driver walks its own table: a broken link there is its own problem. */
	vd_push(d, !d->packed && rarely(in) ? input16(in) : head);
	vd_kick(d, queue);
}

/* --- the rest of the machine ------------------------------------------------------------------ */

static void poke(struct vfuzz *f)
{
	static const uint8_t sizes[] = { 1, 2, 4, 4, 4, 8 };
	static const uint32_t areas[] = { 0, VIRTIO_PCI_MSIX, VIRTIO_PCI_CONFIG, VIRTIO_PCI_NOTIFY };
	struct input *in = &f->in;
	unsigned size = sizes[pick(in, 6)], area = pick(in, 5);
	uint64_t offset = area < 4 ? areas[area] + (input8(in) & 0x7fu)
				   : input16(in) & (VIRTIO_PCI_BAR_SIZE - 1u);

	move_poke(&f->d, in, offset, size);
}

/* One queue alone is reset, and maybe set up again. */
static void renew_queue(struct vfuzz *f)
{
	struct vdriver *d = &f->d;
	unsigned queue = pick(&f->in, f->queues);

	vd_set(d, VC_QSEL, 2, queue);
	vd_set(d, VC_QRESET, 2, 1);
	if (input8(&f->in) & 1)
		return;
	vd_select(d, queue);
	vd_queue(d, queue, VF_SIZE);
}

void vf_step(struct vfuzz *f)
{
	static const uint64_t parts[] = { VD_DESC(0), VD_AVAIL(0), VD_USED(0), TABLES };
	struct input *in = &f->in;
	unsigned part;

	switch (pick(in, 16)) {
	case 0:
		vf_start(f);
		break;
	case 1:
	case 2:
		poke(f);
		break;
	case 3:
		if (!f->d.mmio)
			move_config(&f->d, in);
		break;
	case 4: /* another processor scribbles */
		part = pick(in, 4);
		(void)mem_store16(f->rig.machine->memory,
				  parts[part] + (part < 3 ? pick(in, f->queues) * 0x10000ull : 0) +
				  (input8(in) & ~1u), input16(in));
		break;
	case 5:
		vd_set(&f->d, VC_STATUS, 1, rarely(in) ? input8(in) : 0);
		break;
	case 6:
		if (rarely(in))
			machine_reset_devices(f->rig.machine);
		break;
	case 7:
		if (f->held || !(input8(in) & 7))
			move_hold(&f->rig, &f->held);
		break;
	case 8:
		renew_queue(f);
		break;
	case 9:
		rig_advance(&f->rig, input8(in) * 100000000ull);
		break;
	case 10:
	case 11:
		vd_kick(&f->d, rarely(in) ? input16(in) : pick(in, f->queues));
		break;
	default:
		loop_turn(f->rig.machine->loop, 0);
		break;
	}
}

void vf_run(struct vfuzz *f, vf_deed *const deeds[VF_DEEDS], void *opaque)
{
	unsigned i;

	for (i = 0; i < 1000 && f->in.left; i++) {
		vf_deed *deed = deeds[pick(&f->in, VF_DEEDS)];

		if (deed)
			deed(opaque);
		else
			vf_step(f);
	}
}

void vf_again(struct vfuzz *f)
{
	f->in.left = 0; /* no more choices: no more violations */
	if (f->held)
		move_hold(&f->rig, &f->held);
	machine_reset_devices(f->rig.machine);
	vf_start(f);
	if ((vd_get(&f->d, VC_STATUS, 1) & 0xff) != 0xf)
		abort();
}

void vf_must_come_back(struct vfuzz *f, unsigned queue, uint16_t n)
{
	vd_select(&f->d, queue);
	rig_turn(&f->rig);
	if (vd_used_idx(&f->d) != n)
		abort();
}

void vf_close(struct vfuzz *f)
{
	spoil_with(NULL);
	rig_close(&f->rig);
}
