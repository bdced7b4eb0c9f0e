/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mem: blocks plugged and unplugged, every request that must be refused, what resets do. */
#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/mem.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"

#define MIB (1ull << 20)
#define BLOCK (2 * MIB)
#define SIZE (64 * MIB)
#define F_INACCESSIBLE (1ull << 1)
#define NEEDS_RESET 0x40

enum { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK, NACK, BUSY, ERROR };
enum { PLUGGED, UNPLUGGED, MIXED };
enum { CFG_BLOCK = 0, CFG_ADDR = 16, CFG_REGION = 24, CFG_USABLE = 32, CFG_PLUGGED = 40, CFG_REQUESTED = 48 };

struct mem {
	struct vdriver d;
	struct device *dev;
	uint64_t addr;
	uint16_t state; /* of the last answer */
};

static uint64_t cfg(struct mem *m, unsigned offset)
{
	return rig_read(m->d.rig, m->d.config + offset, 4) |
	       rig_read(m->d.rig, m->d.config + offset + 4, 4) << 32;
}

static void start(struct mem *m)
{
	vd_start(&m->d, F_INACCESSIBLE, 16);
}

static void mem_open(struct rig *r, struct mem *m, uint64_t requested)
{
	const struct virtio_mem_config config = { .size = SIZE, .requested = requested,
						  .block = BLOCK };

	memset(m, 0, sizeof(*m));
	m->dev = rig_add(r, &virtio_mem_class, &config);
	CHECK(vd_find(r, &m->d, 0x1040 + 24));
	CHECK_EQ(vd_features(&m->d), VF_CORE | VF_IN_ORDER | F_INACCESSIBLE);
	CHECK_EQ(vd_get(&m->d, VC_NUMQ, 2), 1);
	start(m);
	m->addr = cfg(m, CFG_ADDR);
}

/* Sends one request with junk wherever nobody looks; the type of the answer. */
static unsigned ask_at(struct mem *m, unsigned type, uint64_t addr, unsigned n, uint64_t buffer)
{
	uint8_t raw[24], answer[10];

	memset(raw, 0xa5, sizeof(raw));
	memset(answer, 0xee, sizeof(answer));
	put_le16(raw, (uint16_t)type);
	put_le64(raw + 8, addr);
	put_le16(raw + 16, (uint16_t)n);
	vd_store(&m->d, buffer, raw, sizeof(raw));
	vd_store(&m->d, buffer + 0x100, answer, sizeof(answer));
	vd_desc(&m->d, 0, buffer, sizeof(raw), VD_NEXT, 1);
	vd_desc(&m->d, 1, buffer + 0x100, sizeof(answer), VD_WRITE, 0);
	vd_push(&m->d, 0);
	vd_kick(&m->d, 0);
	CHECK(vd_wait(&m->d, m->d.avail));
	vd_load(&m->d, buffer + 0x100, answer, sizeof(answer));
	for (unsigned i = 2; i < 8; i++)
		CHECK_EQ(answer[i], 0);
	m->state = get_le16(answer + 8);
	return get_le16(answer);
}

static unsigned ask(struct mem *m, unsigned type, uint64_t block, unsigned n)
{
	return ask_at(m, type, m->addr + block * BLOCK, n, VD_BUFFERS);
}

static unsigned state_of(struct mem *m, uint64_t block, unsigned n)
{
	CHECK_EQ(ask(m, STATE, block, n), ACK);
	return m->state;
}

static bool reachable(struct mem *m, uint64_t gpa, uint64_t len)
{
	return mem_valid(m->d.rig->machine->memory, gpa, len);
}

/* What the host has of the device's memory. */
static uint64_t in_use(struct mem *m)
{
	struct memory_part parts[MEMORY_PARTS_MAX];
	size_t n = memory_parts(m->d.rig->machine->memory, parts);
	struct stat st = { 0 };

	CHECK(n >= 2 && parts[n - 1].gpa == m->addr && parts[n - 1].size == SIZE);
	CHECK(fstat(parts[n - 1].fd, &st) == 0);
	return (uint64_t)st.st_blocks * 512;
}

static void fill(struct mem *m, uint64_t block, uint8_t value)
{
	uint8_t page[4096];

	memset(page, value, sizeof(page));
	for (uint64_t at = 0; at < BLOCK; at += sizeof(page))
		vd_store(&m->d, m->addr + block * BLOCK + at, page, sizeof(page));
}

static void configuration(struct rig *r)
{
	struct virtio_mem_info info;
	struct mem m;

	mem_open(r, &m, 8 * MIB);
	CHECK_EQ(cfg(&m, CFG_BLOCK), BLOCK);
	CHECK_EQ(m.addr % (2ull << 30), 0);
	CHECK(m.addr >= machine_mmio64(r->machine) + (16ull << 30)); /* clear of the BARs */
	CHECK_EQ(cfg(&m, CFG_REGION), SIZE);
	CHECK_EQ(cfg(&m, CFG_USABLE), SIZE);
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 0);
	CHECK_EQ(cfg(&m, CFG_REQUESTED), 8 * MIB);
	rig_write(r, m.d.config + CFG_REQUESTED, 4, SIZE); /* not its business */
	CHECK_EQ(cfg(&m, CFG_REQUESTED), 8 * MIB);
	CHECK_EQ(virtio_mem_resize(m.dev, SIZE), 0);
	CHECK_EQ(cfg(&m, CFG_REQUESTED), SIZE);
	CHECK_EQ(vd_get(&m.d, VC_GEN, 1), 1);
	CHECK_EQ(rig_read(r, m.d.isr, 1) & 2, 2);
	CHECK_EQ(virtio_mem_resize(m.dev, SIZE + BLOCK), -ERANGE);
	CHECK_EQ(virtio_mem_resize(m.dev, BLOCK / 2), -EINVAL);
	virtio_mem_info(m.dev, &info);
	CHECK(info.driver && info.size == SIZE && info.block == BLOCK && info.requested == SIZE &&
	      info.plugged == 0);
}

static void plugging(struct rig *r)
{
	struct mem m;
	uint8_t byte;

	mem_open(r, &m, SIZE);
	CHECK(!reachable(&m, m.addr, 1));
	CHECK_EQ(ask(&m, PLUG, 4, 3), ACK);
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 3 * BLOCK);
	CHECK_EQ(rig_read(r, m.d.isr, 1) & 2, 0); /* and nobody is interrupted for that */
	CHECK(reachable(&m, m.addr + 4 * BLOCK, 3 * BLOCK));
	CHECK(!reachable(&m, m.addr + 4 * BLOCK - 1, 2));
	CHECK(!reachable(&m, m.addr + 7 * BLOCK - 1, 2));
	CHECK_EQ(state_of(&m, 4, 3), PLUGGED);
	CHECK_EQ(state_of(&m, 3, 1), UNPLUGGED);
	CHECK_EQ(state_of(&m, 0, SIZE / BLOCK), MIXED);
	fill(&m, 5, 0x5a);
	CHECK_EQ(in_use(&m), BLOCK);
	CHECK_EQ(ask(&m, UNPLUG, 5, 1), ACK); /* out of the middle */
	CHECK_EQ(in_use(&m), 0);
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 2 * BLOCK);
	CHECK(!reachable(&m, m.addr + 5 * BLOCK, 1) && !reachable(&m, m.addr + 6 * BLOCK - 1, 1));
	CHECK(reachable(&m, m.addr + 4 * BLOCK, BLOCK) && reachable(&m, m.addr + 6 * BLOCK, BLOCK));
	CHECK(!reachable(&m, m.addr + 4 * BLOCK, 3 * BLOCK));
	CHECK_EQ(ask(&m, PLUG, 5, 1), ACK);
	CHECK(reachable(&m, m.addr + 4 * BLOCK, 3 * BLOCK));
	vd_load(&m.d, m.addr + 5 * BLOCK + 4096, &byte, 1);
	CHECK_EQ(byte, 0); /* nothing of what was there */
	CHECK_EQ(ask(&m, PLUG, 0, 1), ACK);
	CHECK_EQ(ask(&m, PLUG, SIZE / BLOCK - 1, 1), ACK);
	CHECK_EQ(ask(&m, UNPLUG_ALL, 999, 0), ACK);
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 0);
	CHECK_EQ(state_of(&m, 0, SIZE / BLOCK), UNPLUGGED);
	CHECK_EQ(ask(&m, UNPLUG_ALL, 0, 1), ACK); /* of nothing */
	CHECK_EQ(in_use(&m), 0);
}

static void refusals(struct rig *r)
{
	static const struct {
		unsigned type, n;
		uint64_t offset;
		unsigned answer;
	} cases[] = { /* with blocks 2 and 3 plugged and room for one more */
		{ PLUG, 1, 1, ERROR },          { PLUG, 0, 0, ERROR },
		{ PLUG, 33, 0, ERROR },         { PLUG, 1, SIZE, ERROR },
		{ PLUG, 2, SIZE - BLOCK, ERROR }, { PLUG, 65535, 0, ERROR },
		{ PLUG, 1, UINT64_MAX - BLOCK + 1, ERROR }, { PLUG, 1, -BLOCK, ERROR },
		{ PLUG, 1, 2 * BLOCK, ERROR },  { PLUG, 2, BLOCK, ERROR },
		{ PLUG, 3, BLOCK, ERROR },      { PLUG, 2, 4 * BLOCK, NACK },
		{ UNPLUG, 1, 2 * BLOCK + 4096, ERROR }, { UNPLUG, 0, 2 * BLOCK, ERROR },
		{ UNPLUG, 3, 2 * BLOCK, ERROR }, { UNPLUG, 2, BLOCK, ERROR },
		{ UNPLUG, 1, 0, ERROR },        { UNPLUG, 1, SIZE, ERROR },
		{ UNPLUG, 65535, 0, ERROR },
		{ STATE, 1, 7, ERROR },         { STATE, 0, 0, ERROR },
		{ STATE, 1, SIZE, ERROR },      { STATE, 33, 0, ERROR },
		{ 4, 1, 0, ERROR },             { 0xffff, 1, 2 * BLOCK, ERROR },
	};
	struct mem m;

	mem_open(r, &m, 3 * BLOCK);
	CHECK_EQ(ask(&m, PLUG, 2, 2), ACK);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned got = ask_at(&m, cases[i].type, m.addr + cases[i].offset, cases[i].n, VD_BUFFERS);

		CHECK_EQ(i << 8 | got, i << 8 | cases[i].answer);
	}
	CHECK_EQ(ask_at(&m, PLUG, 0, 1, VD_BUFFERS), ERROR); /* RAM is not its region */
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 2 * BLOCK);
	CHECK_EQ(state_of(&m, 2, 2), PLUGGED);
	/* less is wanted than it has: not one more, as long as that is so */
	CHECK_EQ(virtio_mem_resize(m.dev, BLOCK), 0);
	CHECK_EQ(ask(&m, PLUG, 0, 1), NACK);
	CHECK_EQ(ask(&m, UNPLUG, 2, 2), ACK);
	CHECK_EQ(ask(&m, PLUG, 0, 1), ACK);
	CHECK_EQ(ask(&m, PLUG, 1, 1), NACK);
	CHECK_EQ(vd_get(&m.d, VC_STATUS, 1), 0xf);
}

static void resets(struct rig *r)
{
	struct mem m;
	uint8_t byte;

	mem_open(r, &m, SIZE);
	CHECK_EQ(ask(&m, PLUG, 1, 2), ACK);
	fill(&m, 1, 0x77);
	vd_set(&m.d, VC_STATUS, 1, 0); /* of the device: blocks and contents stay */
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 2 * BLOCK);
	vd_load(&m.d, m.addr + BLOCK, &byte, 1);
	CHECK_EQ(byte, 0x77);
	start(&m);
	CHECK_EQ(state_of(&m, 1, 2), PLUGGED);
	CHECK_EQ(virtio_mem_resize(m.dev, 4 * BLOCK), 0);
	machine_reset_devices(r->machine); /* of the machine: nothing is left but the wish */
	CHECK_EQ(in_use(&m), 0);
	CHECK(vd_find(r, &m.d, 0x1040 + 24));
	start(&m);
	CHECK_EQ(cfg(&m, CFG_PLUGGED), 0);
	CHECK_EQ(cfg(&m, CFG_REQUESTED), 4 * BLOCK);
	CHECK_EQ(state_of(&m, 0, SIZE / BLOCK), UNPLUGGED);
}

static void old_driver(struct rig *r)
{
	struct mem m;

	mem_open(r, &m, SIZE);
	CHECK_EQ(vd_negotiate(&m.d, VF_VERSION_1), 0xb);
	vd_queue(&m.d, 0, 16);
	vd_set(&m.d, VC_STATUS, 1, 0xf);
	CHECK_EQ(vd_get(&m.d, VC_STATUS, 1) & NEEDS_RESET, NEEDS_RESET);
	start(&m);
	CHECK_EQ(ask(&m, PLUG, 0, 1), ACK);
}

/* Its own buffers and rings, and another device's, in blocks that go while they are in use. */
static void ground_pulled(struct rig *r)
{
	static const struct virtio_balloon_config balloon;
	struct vdriver other = { 0 };
	struct mem m;
	uint8_t number[4];

	mem_open(r, &m, SIZE);
	CHECK_EQ(ask(&m, PLUG, 0, 2), ACK);
	CHECK_EQ(ask_at(&m, STATE, m.addr, 2, m.addr + BLOCK), ACK); /* in plugged memory */
	rig_add(r, &virtio_balloon_class, &balloon);
	CHECK(vd_find(r, &other, 0x1045));
	CHECK_EQ(vd_negotiate(&other, VF_VERSION_1), 0xb);
	vd_set(&other, VC_QSEL, 2, 0);
	vd_set(&other, VC_QSIZE, 2, 16);
	vd_set(&other, VC_QDESC, 4, (uint32_t)m.addr);
	vd_set(&other, VC_QDESC + 4, 4, m.addr >> 32);
	vd_set(&other, VC_QDRIVER, 4, (uint32_t)(m.addr + 0x1000));
	vd_set(&other, VC_QDRIVER + 4, 4, m.addr >> 32);
	vd_set(&other, VC_QDEVICE, 4, (uint32_t)(m.addr + BLOCK)); /* the used ring elsewhere */
	vd_set(&other, VC_QDEVICE + 4, 4, m.addr >> 32);
	vd_set(&other, VC_QENABLE, 2, 1);
	vd_set(&other, VC_STATUS, 1, 0xf);
	CHECK_EQ(vd_get(&other, VC_QENABLE, 2), 1);
	/* a page of the plugged memory goes into the balloon: its own memory like any other */
	fill(&m, 1, 0x11);
	put_le32(number, (uint32_t)((m.addr + BLOCK + 0x3000) / 4096));
	vd_store(&other, VD_BUFFERS + 0x200, number, 4);
	vd_desc_at(&other, m.addr, 0, VD_BUFFERS + 0x200, 4, 0, 0);
	vd_store16(&other, m.addr + 0x1004, 0);
	vd_store16(&other, m.addr + 0x1002, 1);
	vd_kick(&other, 0);
	rig_turn(r);
	CHECK_EQ(vd_load16(&other, m.addr + BLOCK + 2), 1);
	CHECK_EQ(in_use(&m), BLOCK + 0x1000); /* rings in one block, all but that page of the other */
	/* the used ring goes */
	CHECK_EQ(ask(&m, UNPLUG, 1, 1), ACK);
	vd_store16(&other, m.addr + 0x1002, 2);
	vd_kick(&other, 0);
	rig_turn(r);
	/* and the rest of it */
	CHECK_EQ(ask(&m, UNPLUG_ALL, 0, 0), ACK);
	vd_kick(&other, 0);
	rig_turn(r);
	CHECK_EQ(vd_get(&m.d, VC_STATUS, 1), 0xf);
	/* a request that unplugs the memory of its own answer */
	CHECK_EQ(ask(&m, PLUG, 0, 1), ACK);
	vd_store(&m.d, VD_BUFFERS, (uint8_t[24]){ UNPLUG_ALL }, 24);
	vd_desc(&m.d, 0, VD_BUFFERS, 24, VD_NEXT, 1);
	vd_desc(&m.d, 1, m.addr, 10, VD_WRITE, 0);
	vd_push(&m.d, 0);
	vd_kick(&m.d, 0);
	CHECK(vd_wait(&m.d, m.d.avail));
	CHECK_EQ(in_use(&m), 0);
}

static void wrong_sizes(struct rig *r)
{
	static const struct {
		uint32_t out, in;
	} sizes[] = { { 23, 10 }, { 24, 9 }, { 8, 10 }, { 24, 0 }, { 0, 34 } };
	struct mem m;

	mem_open(r, &m, SIZE);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		start(&m);
		vd_store(&m.d, VD_BUFFERS, (uint8_t[24]){ UNPLUG_ALL }, 24);
		if (sizes[i].out)
			vd_desc(&m.d, 0, VD_BUFFERS, sizes[i].out, sizes[i].in ? VD_NEXT : 0, 1);
		vd_desc(&m.d, sizes[i].out ? 1 : 0, VD_BUFFERS + 0x100, sizes[i].in, VD_WRITE, 0);
		vd_push(&m.d, 0);
		vd_kick(&m.d, 0);
		CHECK(vd_wait_status(&m.d, NEEDS_RESET, NEEDS_RESET));
	}
	start(&m);
	CHECK_EQ(ask(&m, PLUG, 0, 1), ACK);
}

static void bad_configurations(struct rig *r)
{
	static const struct virtio_mem_config bad[] = {
		{ .size = SIZE, .block = 3 * MIB },
		{ .size = SIZE, .block = 4096 },
		{ .size = SIZE, .block = 2048 * MIB },
		{ .size = SIZE + MIB, .block = BLOCK },
		{ .size = 0, .block = BLOCK },
		{ .size = SIZE, .requested = SIZE + BLOCK, .block = BLOCK },
		{ .size = SIZE, .requested = MIB, .block = BLOCK },
		{ .size = 2 * VIRTIO_MEM_MAX, .block = BLOCK },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_EQ(device_create(r->machine, &virtio_mem_class, &bad[i], NULL), -EINVAL);
	CHECK_EQ(memory_areas_end(r->machine->memory), 0);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "configuration", configuration },
		{ "plugging", plugging },
		{ "refusals", refusals },
		{ "resets", resets },
		{ "a driver that reads anywhere", old_driver },
		{ "memory that goes while it is used", ground_pulled },
		{ "requests of wrong sizes", wrong_sizes },
		{ "bad configurations", bad_configurations },
	};

	return rig_main("virtio-mem", cases, ARRAY_SIZE(cases), argc, argv);
}
