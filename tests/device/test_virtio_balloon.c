/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: pages given back, statistics, and drivers that lie. */
#include <config.h>

#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/balloon.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"

#define F_ALL (1ull << 1 | 1ull << 2 | 1ull << 5)
#define BUFFER VD_BUFFERS

enum { INFLATE, DEFLATE, STATS, REPORT };

struct bal {
	struct vdriver d;
	struct device *dev;
};

static void bal_open(struct rig *r, struct bal *b)
{
	static const struct virtio_balloon_config config;

	memset(b, 0, sizeof(*b));
	b->dev = rig_add(r, &virtio_balloon_class, &config);
	CHECK(vd_find(r, &b->d, 0x1045));
	CHECK_EQ(vd_features(&b->d), VF_CORE | VF_IN_ORDER | F_ALL);
	CHECK_EQ(vd_get(&b->d, VC_NUMQ, 2), 4);
	vd_start_queues(&b->d, F_ALL, 64, 4);
}

static uint64_t in_use(struct rig *r)
{
	struct stat st;

	CHECK(fstat(memory_fd(r->machine->memory), &st) == 0);
	return (uint64_t)st.st_blocks * 512;
}

static void send_chain(struct bal *b, unsigned queue, uint32_t len, uint16_t flags)
{
	vd_select(&b->d, queue);
	vd_desc(&b->d, 0, BUFFER, len, flags, 0);
	vd_push(&b->d, 0);
	vd_kick(&b->d, queue);
	CHECK(vd_wait(&b->d, b->d.avail));
}

static void pages(struct bal *b, unsigned queue, const uint32_t *numbers, unsigned n)
{
	uint8_t raw[4 * 256];
	unsigned i;

	for (i = 0; i < n; i++)
		put_le32(raw + 4 * i, numbers[i]);
	vd_store(&b->d, BUFFER, raw, 4 * n);
	send_chain(b, queue, 4 * n, 0);
}

static bool zeroed(struct bal *b, uint32_t page)
{
	uint8_t bytes[4096];

	vd_load(&b->d, page * 4096ull, bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		if (bytes[i])
			return false;
	return true;
}

static void dirty(struct bal *b, uint32_t first, unsigned n)
{
	uint8_t bytes[4096];

	memset(bytes, 0x5a, sizeof(bytes));
	for (unsigned i = 0; i < n; i++)
		vd_store(&b->d, (first + i) * 4096ull, bytes, sizeof(bytes));
}

static void inflate(struct rig *r)
{
	static const uint32_t some[] = { 0x200, 0x201, 0x202, 0x20f, 0x20e, 0x20d, 0x220 };
	struct virtio_balloon_info info;
	struct bal b;
	uint64_t before;
	unsigned i;

	bal_open(r, &b);
	dirty(&b, 0x200, 0x40);
	dirty(&b, BUFFER / 4096, 1);
	before = in_use(r);
	pages(&b, INFLATE, some, ARRAY_SIZE(some));
	CHECK_EQ(before - in_use(r), ARRAY_SIZE(some) * 4096);
	for (i = 0; i < ARRAY_SIZE(some); i++)
		CHECK(zeroed(&b, some[i]));
	CHECK(!zeroed(&b, 0x203) && !zeroed(&b, 0x20c) && !zeroed(&b, 0x21f) && !zeroed(&b, 0x221));
	virtio_balloon_info(b.dev, &info);
	CHECK_EQ(info.returned, ARRAY_SIZE(some) * 4096);
	pages(&b, DEFLATE, some, ARRAY_SIZE(some));
	dirty(&b, 0x200, 3); /* and it is memory again */
	CHECK(!zeroed(&b, 0x201));
}

static void target(struct rig *r)
{
	struct virtio_balloon_info info;
	struct bal b;

	bal_open(r, &b);
	CHECK_EQ(rig_read(r, b.d.config, 4), 0);
	virtio_balloon_set(b.dev, 1 << 20);
	CHECK_EQ(rig_read(r, b.d.config, 4), 256);
	CHECK_EQ(vd_get(&b.d, VC_GEN, 1), 1);
	CHECK_EQ(rig_read(r, b.d.isr, 1) & 2, 2);
	rig_write(r, b.d.config + 4, 4, 100); /* the driver says how far it is */
	rig_write(r, b.d.config, 4, 7);       /* and cannot say what it wants */
	CHECK_EQ(rig_read(r, b.d.config, 4), 256);
	virtio_balloon_info(b.dev, &info);
	CHECK(info.driver);
	CHECK_EQ(info.target, 1 << 20);
	CHECK_EQ(info.actual, 100 * 4096);
	vd_set(&b.d, VC_STATUS, 1, 0); /* what is wanted outlives the driver */
	CHECK_EQ(rig_read(r, b.d.config, 4), 256);
	CHECK_EQ(rig_read(r, b.d.config + 4, 4), 0);
	virtio_balloon_set(b.dev, UINT64_MAX & ~4095ull);
	CHECK_EQ(rig_read(r, b.d.config, 4), 0xffffffff);
}

static void reporting(struct rig *r)
{
	struct bal b;
	uint64_t before;

	bal_open(r, &b);
	dirty(&b, 0x200, 0x40);
	before = in_use(r);
	vd_select(&b.d, REPORT);
	vd_desc(&b.d, 0, 0x200000, 0x8000, VD_WRITE | VD_NEXT, 1);
	vd_desc(&b.d, 1, 0x210001, 0x2ffe, VD_WRITE, 0); /* one whole page in it */
	vd_push(&b.d, 0);
	vd_kick(&b.d, REPORT);
	CHECK(vd_wait(&b.d, 1));
	CHECK_EQ(before - in_use(r), 9 * 4096);
	CHECK(zeroed(&b, 0x207) && !zeroed(&b, 0x208));
	CHECK(!zeroed(&b, 0x210) && zeroed(&b, 0x211) && !zeroed(&b, 0x212));
	vd_desc(&b.d, 0, 0x220000, 0x1000, 0, 0); /* to read: not a report */
	vd_push(&b.d, 0);
	vd_kick(&b.d, REPORT);
	CHECK(vd_wait(&b.d, 2));
	CHECK(!zeroed(&b, 0x220));
}

static void put_stat(struct bal *b, unsigned i, uint16_t tag, uint64_t value)
{
	uint8_t raw[10];

	put_le16(raw, tag);
	put_le64(raw + 2, value);
	vd_store(&b->d, BUFFER + 10 * i, raw, sizeof(raw));
}

static void statistics(struct rig *r)
{
	struct virtio_balloon_info info;
	struct bal b;

	bal_open(r, &b);
	vd_start_queues(&b.d, F_ALL | VF_EVENT_IDX, 64, 4);
	put_stat(&b, 0, BALLOON_FREE, 111);
	put_stat(&b, 1, 77, 5); /* unknown */
	send_chain(&b, STATS, 20, 0); /* the first comes back at once */
	virtio_balloon_info(b.dev, &info);
	CHECK_EQ(info.valid, 1u << BALLOON_FREE);
	CHECK_EQ(info.stat[BALLOON_FREE], 111);
	/* asked: the buffer that lies there is old, the next one is the answer */
	vd_select(&b.d, STATS);
	put_stat(&b, 0, BALLOON_FREE, 222);
	vd_push(&b.d, 0);
	vd_kick(&b.d, STATS);
	CHECK(vd_wait(&b.d, 2));
	put_stat(&b, 0, BALLOON_FREE, 333);
	vd_push(&b.d, 0);
	vd_kick(&b.d, STATS);
	CHECK(vd_wait(&b.d, 3));
	put_stat(&b, 0, BALLOON_FREE, 444);
	vd_push(&b.d, 0);
	vd_kick(&b.d, STATS);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&b.d), 3); /* and this one stays there */
	/* a kick is wanted for the one that comes after it was taken */
	virtio_balloon_info(b.dev, &info);
	CHECK(vd_wait(&b.d, 4));
	CHECK_EQ(vd_load16(&b.d, VD_USED(STATS) + 4 + 8 * 64), 4);
	virtio_balloon_info(b.dev, &info);
	CHECK_EQ(info.stat[BALLOON_FREE], 444);
	machine_pause_devices(r->machine); /* nothing is in flight */
	machine_resume_devices(r->machine);
	vd_set(&b.d, VC_STATUS, 1, 0);
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0);
	virtio_balloon_info(b.dev, &info);
	CHECK_EQ(info.valid, 0);
}

/* Without statistics the queue of free pages is the third (5.5.2). */
static void without_statistics(struct rig *r)
{
	struct bal b;

	bal_open(r, &b);
	vd_start_queues(&b.d, 1ull << 5, 64, 3);
	dirty(&b, 0x200, 2);
	vd_select(&b.d, 2);
	vd_desc(&b.d, 0, 0x200000, 0x1000, VD_WRITE, 0);
	vd_push(&b.d, 0);
	vd_kick(&b.d, 2);
	CHECK(vd_wait(&b.d, 1));
	CHECK(zeroed(&b, 0x200) && !zeroed(&b, 0x201));
}

static void hostile(struct rig *r)
{
	static const uint32_t bad[] = { 0xffffffff, 0xfffffffe, 0, 0xfffff, RIG_MEMORY / 4096,
					RIG_MEMORY / 4096 - 1, 0xfec00, 0x100000, 0x80000000 };
	struct bal b;
	uint8_t junk[7] = { 1 };

	bal_open(r, &b);
	dirty(&b, 0x200, 1);
	pages(&b, INFLATE, bad, ARRAY_SIZE(bad)); /* page 0 and the last one are its own affair */
	CHECK(!zeroed(&b, 0x200));
	vd_store(&b.d, BUFFER, junk, sizeof(junk));
	send_chain(&b, INFLATE, 7, 0);
	send_chain(&b, INFLATE, 3, 0);
	send_chain(&b, INFLATE, 64, VD_WRITE);
	send_chain(&b, DEFLATE, 3, 0);
	send_chain(&b, STATS, 9, 0);
	/* all of memory as one list of page numbers: bounded */
	vd_select(&b.d, INFLATE);
	vd_desc(&b.d, 0, 0x300000, 0x100000, 0, 0);
	vd_push(&b.d, 0);
	vd_kick(&b.d, INFLATE);
	CHECK(vd_wait(&b.d, b.d.avail));
	CHECK_EQ(vd_get(&b.d, VC_STATUS, 1), 0xf);
	/* its own ring */
	vd_start_queues(&b.d, F_ALL, 64, 4);
	pages(&b, DEFLATE, bad, 1);
	vd_desc(&b.d, 1, BUFFER, 4, 0, 0);
	put_le32(junk, VD_DESC(INFLATE) / 4096);
	vd_store(&b.d, BUFFER, junk, 4);
	vd_select(&b.d, INFLATE);
	vd_desc(&b.d, 0, BUFFER, 4, 0, 0);
	vd_push(&b.d, 0);
	vd_kick(&b.d, INFLATE);
	CHECK(vd_wait(&b.d, 1));
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "inflate", inflate },
		{ "target", target },
		{ "free page reporting", reporting },
		{ "statistics", statistics },
		{ "without statistics", without_statistics },
		{ "hostile driver", hostile },
	};

	return rig_main("virtio-balloon", cases, ARRAY_SIZE(cases), argc, argv);
}
