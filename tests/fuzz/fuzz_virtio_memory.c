/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem and virtio-pmem, and virtio-rng that writes into what they offer: requests good and bad,
 * rings and buffers in memory that goes while it is used, resizes, resets, a file whose end moves. Beside
 * it a model of which blocks there are: what the device says, what memory says and what it says must agree.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "devices/virtio/mem.h"
#include "devices/virtio/pmem.h"
#include "devices/virtio/rng.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"
#include "tests/fuzz/input.h"

#define QUEUE_SIZE 16u
#define BLOCK VIRTIO_MEM_BLOCK_MIN
#define BLOCKS 32u
#define PMEM_SIZE VIRTIO_PMEM_ALIGN

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE, REQUESTS };
enum { ACK, NACK, BUSY, ERROR };

struct state {
	struct rig rig;
	struct vdriver mem, pmem, rng;
	struct device *mem_dev;
	struct input in;
	int file;
	uint64_t addr, pmem_addr;
	uint32_t plugged; /* the model */
	unsigned requested; /* blocks */
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void start(struct vdriver *d, uint64_t features)
{
	vd_cfg_write(d, 4, 2, 6);
	must(vd_negotiate(d, features | VF_VERSION_1) == 0xb);
	vd_queue(d, 0, QUEUE_SIZE);
	vd_set(d, VC_STATUS, 1, 0xf);
	d->queue_size = QUEUE_SIZE;
	d->queue = 0;
	d->avail = d->ring[0].avail = 0;
}

/* Where a driver's buffer may be: RAM, blocks that are there or not, the file. */
static uint64_t place(struct state *s)
{
	struct input *in = &s->in;

	switch (pick(in, 4)) {
	case 0:
		return s->addr + pick(in, BLOCKS) * BLOCK + 16u * input8(in);
	case 1:
		return s->pmem_addr + pick(in, PMEM_SIZE / 4096) * 4096ull;
	default:
		return VD_BUFFERS + 0x1000ull * pick(in, 64);
	}
}

/* What the device must answer, by the model; the model follows. */
static unsigned expected(struct state *s, unsigned type, uint64_t addr, unsigned n)
{
	uint64_t first = (addr - s->addr) / BLOCK, mask;

	if (type == UNPLUG_ALL) {
		s->plugged = 0;
		return ACK;
	}
	if (type >= REQUESTS || addr < s->addr || addr % BLOCK || !n || first >= BLOCKS ||
	    n > BLOCKS - first)
		return ERROR;
	mask = ((1ull << n) - 1) << first;
	if (type == STATE)
		return ACK;
	if (type == UNPLUG) {
		if ((s->plugged & mask) != mask)
			return ERROR;
		s->plugged &= (uint32_t)~mask;
		return ACK;
	}
	if (s->plugged & mask)
		return ERROR;
	if ((unsigned)__builtin_popcount(s->plugged) + n > s->requested)
		return NACK;
	s->plugged |= (uint32_t)mask;
	return ACK;
}

static void agree(struct state *s)
{
	struct virtio_mem_info info;

	for (unsigned i = 0; i < BLOCKS; i++)
		must(mem_valid(s->rig.machine->memory, s->addr + i * BLOCK, BLOCK) ==
		     !!(s->plugged >> i & 1));
	virtio_mem_info(s->mem_dev, &info);
	must(info.plugged == (uint64_t)__builtin_popcount(s->plugged) * BLOCK);
}

/* In RAM, so that it is answered; the answer is as it must be. */
static void request(struct state *s)
{
	struct input *in = &s->in;
	unsigned type = pick(in, REQUESTS + 1), n = rarely(in) ? input16(in) : 1 + pick(in, 4), want;
	uint64_t addr = rarely(in) ? input_edge(in) : s->addr + pick(in, BLOCKS + 1) * BLOCK;
	uint8_t raw[24] = { 0 }, answer[10];

	if (rarely(in))
		addr += input16(in);
	put_le16(raw, (uint16_t)type);
	put_le64(raw + 8, addr);
	put_le16(raw + 16, (uint16_t)n);
	start(&s->mem, 1ull << 1);
	vd_store(&s->mem, VD_BUFFERS, raw, sizeof(raw));
	vd_desc(&s->mem, 0, VD_BUFFERS, sizeof(raw), VD_NEXT, 1);
	vd_desc(&s->mem, 1, VD_BUFFERS + 64, sizeof(answer), VD_WRITE, 0);
	vd_push(&s->mem, 0);
	vd_kick(&s->mem, 0);
	want = expected(s, type, addr, n);
	rig_turn(&s->rig);
	must(vd_used_idx(&s->mem) == 1);
	vd_load(&s->mem, VD_BUFFERS + 64, answer, sizeof(answer));
	must(get_le16(answer) == want);
	agree(s);
}

/* Anything, anywhere. */
static void junk(struct state *s, struct vdriver *d)
{
	struct input *in = &s->in;
	unsigned n = 1 + pick(in, 3);

	for (unsigned i = 0; i < n; i++)
		vd_desc(d, i, rarely(in) ? input_edge(in) : place(s),
			rarely(in) ? (uint32_t)input_edge(in) : 1u + input8(in) % 32u,
			(uint16_t)((i + 1 < n ? VD_NEXT : 0) | (i ? VD_WRITE : 0)) ^
				(rarely(in) ? 1u << pick(in, 3) : 0),
			(uint16_t)(i + 1));
	vd_push(d, rarely(in) ? input16(in) : 0);
	vd_kick(d, 0);
}

static void rng_writes(struct state *s)
{
	start(&s->rng, 0);
	vd_desc(&s->rng, 0, place(s), 1u + input8(&s->in), VD_WRITE, 0);
	vd_push(&s->rng, 0);
	vd_kick(&s->rng, 0);
	rig_turn(&s->rig);
}

static void step(struct state *s)
{
	struct input *in = &s->in;

	switch (pick(in, 10)) {
	case 0: case 1: case 2: case 3:
		request(s);
		break;
	case 4:
		s->requested = pick(in, BLOCKS + 1);
		must(virtio_mem_resize(s->mem_dev, s->requested * BLOCK) == 0);
		break;
	case 5:
		start(&s->pmem, 0);
		junk(s, &s->pmem);
		rig_turn(&s->rig);
		break;
	case 6:
		rng_writes(s);
		break;
	case 7: /* touches the file and whatever is left of it */
		must(ftruncate(s->file, pick(in, 3) * (off_t)(PMEM_SIZE / 2)) == 0);
		vd_store16(&s->pmem, s->pmem_addr + pick(in, PMEM_SIZE / 4096) * 4096ull, 1);
		rig_turn(&s->rig);
		break;
	case 8: /* what its memory says is taken over, and must be what it says itself */
		start(&s->mem, rarely(in) ? 0 : 1ull << 1);
		junk(s, &s->mem);
		rig_turn(&s->rig);
		s->plugged = 0;
		for (unsigned i = 0; i < BLOCKS; i++)
			s->plugged |= (uint32_t)mem_valid(s->rig.machine->memory,
							  s->addr + i * BLOCK, BLOCK) << i;
		agree(s);
		break;
	default:
		if (rarely(in)) {
			machine_reset_devices(s->rig.machine);
			s->plugged = 0;
			agree(s);
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct virtio_mem_config mem = { .size = BLOCKS * BLOCK, .block = BLOCK };
	static const struct virtio_rng_config rng;
	struct virtio_pmem_config pmem = { .on_loop = true };
	struct state s = { .in = { data, size }, .file = memfd_create("pmem", MFD_CLOEXEC) };

	must(s.file >= 0 && ftruncate(s.file, PMEM_SIZE) == 0);
	pmem.fd = dup(s.file);
	rig_open(&s.rig);
	s.addr = machine_area_gpa(s.rig.machine);
	s.mem_dev = rig_add(&s.rig, &virtio_mem_class, &mem);
	s.pmem_addr = machine_area_gpa(s.rig.machine);
	rig_add(&s.rig, &virtio_pmem_class, &pmem);
	rig_add(&s.rig, &virtio_rng_class, &rng);
	must(vd_find(&s.rig, &s.mem, 0x1058) && vd_find(&s.rig, &s.pmem, 0x105b) &&
	     vd_find(&s.rig, &s.rng, 0x1044));
	for (unsigned i = 0; i < 200 && s.in.left; i++)
		step(&s);
	s.in.left = 0;
	request(&s); /* it still answers */
	rig_close(&s.rig);
	close(s.file);
	return 0;
}
