/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk behind virtio-pci or virtio-mmio, whole: config space, registers, rings, requests,
 * resets and pauses in any order, on a machine that does everything in this thread.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/pci.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/ramblock.h"
#include "tests/fuzz/moves.h"

#define DISK_BYTES (64u * 512u)
#define KIND_HERE 0x80u /* who rings does what it can */
#define KIND_FILE 0x40u /* ... with a file that is not always in memory */
#define QUEUE_SIZE 16u
#define MMIO_BASE 0xd0000000ull

struct state {
	struct rig rig;
	struct vdriver d;
	struct input in;
	int file; /* of KIND_FILE, or -1 */
	bool held;
};

static void start(struct state *s)
{
	static const uint64_t features[] = { 0, VF_INDIRECT, VF_EVENT_IDX,
					     VF_INDIRECT | VF_EVENT_IDX | 1 << 9 };
	struct vdriver *d = &s->d;
	uint64_t f = features[pick(&s->in, 4)] | VF_VERSION_1;

	if (rarely(&s->in))
		f ^= input64(&s->in);
	vd_cfg_write(d, 4, 2, 6);
	vd_set(d, VC_STATUS, 1, 0);
	vd_accept(d, f);
	d->packed = false; /* its rings are split, whatever it said */
	vd_queue(d, 0, QUEUE_SIZE);
	if (!rarely(&s->in))
		vd_set(d, VC_STATUS, 1, 0xf);
	d->queue_size = QUEUE_SIZE;
	d->avail = 0;
}

static uint64_t data_gpa(struct state *s)
{
	return rarely(&s->in) ? input_edge(&s->in) : VD_BUFFERS + 0x1000 + (input8(&s->in) & 0xf0u);
}

static void push_request(struct state *s)
{
	static const uint32_t types[] = { 0, 1, 4, 8, 11, 13 };
	struct vdriver *d = &s->d;
	struct input *in = &s->in;
	uint64_t header_at = VD_BUFFERS + 0x10ull * pick(in, 16), table = VD_DESC(0);
	uint32_t type = rarely(in) ? input32(in) : types[pick(in, 6)];
	uint32_t len = rarely(in) ? (uint32_t)input_edge(in) : 512u * pick(in, 4);
	uint16_t first = (uint16_t)pick(in, QUEUE_SIZE);
	uint16_t data_flags = type == 0 || type == 8 ? 2 : 0;
	bool indirect = !(input8(in) & 3u);
	uint16_t base = indirect ? 0 : first;
	uint8_t header[16] = { 0 };

	put_le32(header, type);
	put_le64(header + 8, rarely(in) ? input_edge(in) : pick(in, 64));
	vd_store(d, header_at, header, sizeof(header));
	if (type >= 11) { /* ranges instead of data */
		uint8_t range[16] = { 0 };

		range[0] = input8(in) & 63u;
		range[8] = input8(in) & 15u;
		range[12] = rarely(in) ? input8(in) : type == 13 ? input8(in) & 1u : 0;
		len = rarely(in) ? input8(in) : 16;
		vd_store(d, VD_BUFFERS + 0x1000, range, sizeof(range));
	}
	if (rarely(in))
		data_flags ^= 2;
	if (indirect)
		table = 0x80000 + 0x100ull * first;
	vd_desc_at(d, table, base, header_at, rarely(in) ? input8(in) : 16, 1,
		   (uint16_t)(indirect ? 1 : (base + 1u) % QUEUE_SIZE));
	vd_desc_at(d, table, indirect ? 1 : (base + 1u) % QUEUE_SIZE, data_gpa(s), len,
		   data_flags | 1, (uint16_t)(indirect ? 2 : (base + 2u) % QUEUE_SIZE));
	vd_desc_at(d, table, indirect ? 2 : (base + 2u) % QUEUE_SIZE, VD_BUFFERS + 0x800 + first, 1,
		   rarely(in) ? input8(in) : 2, 0);
	if (indirect)
		vd_desc(d, first, table, rarely(in) ? input8(in) : 48, 4, 0);
	vd_push(d, rarely(in) ? input16(in) : first);
}

static void poke(struct state *s)
{
	static const uint8_t sizes[] = { 1, 2, 4, 4, 4, 8 };
	struct input *in = &s->in;
	unsigned size = sizes[pick(in, 6)];
	uint64_t offset;

	switch (pick(in, 5)) {
	case 0: /* common configuration */
		offset = input8(in) & 0x3fu;
		break;
	case 1: /* MSI-X table */
		offset = VIRTIO_PCI_MSIX + (input8(in) & 0x7cu);
		break;
	case 2:
		offset = VIRTIO_PCI_CONFIG + pick(in, 70);
		break;
	case 3:
		offset = VIRTIO_PCI_NOTIFY + pick(in, 16) * 4;
		break;
	default:
		offset = input16(in) & (VIRTIO_PCI_BAR_SIZE - 1u);
		break;
	}
	move_poke(&s->d, in, offset, size);
}

static void step(struct state *s)
{
	struct input *in = &s->in;

	switch (pick(in, 16)) {
	case 0:
		start(s);
		break;
	case 1:
	case 2:
	case 3:
	case 4:
	case 5:
		push_request(s);
		break;
	case 6:
	case 7:
		vd_kick(&s->d, 0);
		break;
	case 8:
	case 9:
		loop_turn(s->rig.machine->loop, 0);
		break;
	case 10:
	case 11:
		poke(s);
		break;
	case 12:
		move_config(&s->d, in);
		break;
	case 13: /* another processor scribbles */
		(void)mem_store16(s->rig.machine->memory,
				  (rarely(in) ? VD_AVAIL(0) : VD_DESC(0)) + (input8(in) & ~1u),
				  input16(in));
		break;
	case 14:
		vd_set(&s->d, VC_STATUS, 1, rarely(in) ? input8(in) : 0);
		break;
	default:
		if (rarely(in))
			machine_reset_devices(s->rig.machine);
		else if (rarely(in))
			move_hold(&s->rig, &s->held);
		else if (s->file >= 0) /* the host needs the memory for something else */
			(void)posix_fadvise(s->file, 4096 * pick(in, 8), 4096, POSIX_FADV_DONTNEED);
		break;
	}
}

/* Whatever happened: after a reset of the machine the disk works. */
static void must_still_work(struct state *s)
{
	struct vdriver *d = &s->d;
	uint8_t header[16] = { 4 }, status = 0xee; /* flush */

	machine_reset_devices(s->rig.machine);
	s->in.left = 0; /* no more choices: no more violations */
	start(s);
	vd_store(d, VD_BUFFERS, header, sizeof(header));
	vd_store(d, VD_BUFFERS + 0x100, &status, 1);
	vd_desc(d, 0, VD_BUFFERS, 16, VD_NEXT, 1);
	vd_desc(d, 1, VD_BUFFERS + 0x100, 1, VD_WRITE, 0);
	vd_push(d, 0);
	vd_kick(d, 0);
	rig_turn(&s->rig);
	vd_load(d, VD_BUFFERS + 0x100, &status, 1);
	if (vd_used_idx(d) != 1 || status != 0)
		abort();
}

/* Nothing of it is in memory at first. On some file systems nothing ever says so (tmpfs). */
static int open_disk(unsigned kind)
{
	int fd = kind & KIND_FILE ? open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		fd = memfd_create("disk", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, DISK_BYTES) < 0)
		abort();
	return fd;
}

/* Each fourth one would wait. */
static void trying(struct ramblock *ram)
{
	ram->now = ram->tries % 4 ? 0 : -EAGAIN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_blk_config config = { .on_loop = true, .serial = "fuzz", .fd = -1 };
	struct state s = { .in = { data, size }, .file = -1 };
	struct ramblock ram;
	static uint8_t bytes[DISK_BYTES];
	unsigned i, kind = input8(&s.in);

	config.here = kind & (KIND_HERE | KIND_FILE);
	if (kind & KIND_HERE) {
		memset(bytes, 0, sizeof(bytes));
		ramblock_init(&ram, bytes, sizeof(bytes));
		ram.trying = trying;
		config.block = &ram.block;
	} else {
		config.fd = open_disk(kind);
		s.file = kind & KIND_FILE ? config.fd : -1;
	}
	kind &= 0x3f;
	config.readonly = ram.block.readonly = kind == 1;
	if (kind == 2)
		config.place.mmio = (struct virtio_mmio_place){ MMIO_BASE, 5 };
	rig_open(&s.rig);
	rig_add(&s.rig, &virtio_blk_class, &config);
	if (!(kind == 2 ? vd_find_mmio(&s.rig, &s.d, MMIO_BASE, 2)
			: vd_find(&s.rig, &s.d, 0x1042)))
		abort();
	start(&s);
	for (i = 0; i < 1000 && s.in.left; i++)
		step(&s);
	if (s.held)
		move_hold(&s.rig, &s.held);
	must_still_work(&s);
	rig_close(&s.rig);
	return 0;
}
