/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk: what the thread that rings does itself, and what it must leave to others. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "tests/device/blkdriver.h"
#include "tests/device/ramblock.h"

#define FLUSH_FEATURE (1ull << 9)
#define DISK_BYTES (DISK_SECTORS * 512u)

struct here {
	struct disk k;
	struct ramblock ram; /* outlives the case, as the machine does */
	uint8_t bytes[DISK_BYTES];
};

static void open_with(struct rig *r, struct here *h, struct virtio_blk_config config)
{
	ramblock_init(&h->ram, h->bytes, DISK_BYTES);
	for (unsigned i = 0; i < DISK_BYTES; i++)
		h->bytes[i] = (uint8_t)(i / 512 % 255 + 1);
	config.fd = -1;
	config.block = &h->ram.block;
	config.here = config.on_loop = true; /* workers are the loop: nothing happens by itself */
	bd_add(r, &h->k, &config);
}

static struct here *here_open(struct rig *r)
{
	static struct here h;

	open_with(r, &h, (struct virtio_blk_config){ 0 });
	vd_start(&h.k.d, FLUSH_FEATURE, 64);
	return &h;
}

/* How many requests are done before the loop turns, and how many after it. */
static void ring(struct here *h, uint16_t at_once, uint16_t in_all)
{
	uint16_t before = vd_used_idx(&h->k.d);

	vd_kick(&h->k.d, 0);
	CHECK_EQ((uint16_t)(vd_used_idx(&h->k.d) - before), at_once);
	rig_turn(h->k.d.rig);
	CHECK_EQ((uint16_t)(vd_used_idx(&h->k.d) - before), in_all);
}

static void at_once(struct rig *r)
{
	struct here *h = here_open(r);
	uint8_t data[1024];
	uint32_t id, len;

	bd_put(&h->k.d, 0, T_IN, 5, 1024, true);
	ring(h, 1, 1);
	vd_load(&h->k.d, DATA(0), data, sizeof(data));
	CHECK_EQ(data[0], 6);
	CHECK_EQ(data[1023], 7);
	vd_used(&h->k.d, 0, &id, &len);
	CHECK_EQ(len, 1025);
	CHECK_EQ(bd_status(&h->k.d, 0), 0);
	memset(data, 0xa5, sizeof(data));
	vd_store(&h->k.d, DATA(1), data, sizeof(data));
	bd_put(&h->k.d, 1, T_OUT, DISK_SECTORS - 2, 1024, false);
	bd_put(&h->k.d, 2, T_IN, DISK_SECTORS - 1, 512, true); /* after it, and in one row with it */
	ring(h, 2, 2);
	CHECK_EQ(h->bytes[DISK_BYTES - 1024], 0xa5);
	vd_load(&h->k.d, DATA(2), data, 512);
	CHECK_EQ(data[511], 0xa5);
	vd_used(&h->k.d, 1, &id, &len);
	CHECK_EQ(len, 1);
	CHECK_EQ(h->ram.tries, 3);
	CHECK_EQ(h->ram.transfers, 0);
}

static void one_interrupt(struct rig *r)
{
	struct here *h = here_open(r);

	vd_set(&h->k.d, VC_STATUS, 1, 0);
	vd_msix(&h->k.d, 2);
	vd_start(&h->k.d, FLUSH_FEATURE, 64);
	vd_set(&h->k.d, VC_QVEC, 2, 1);
	for (unsigned i = 0; i < 8; i++)
		bd_put(&h->k.d, i, T_IN, i, 512, true);
	ring(h, 8, 8);
	CHECK_EQ(rig_msis(r), 1);
}

/* Its errors, and whatever is no transfer, are found as before. */
static void left_to_others(struct rig *r)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		bool in;
		uint8_t status;
	} table[] = {
		{ T_FLUSH, 0, 0, false, 0 },
		{ T_ID, 0, 20, true, 0 },
		{ T_IN, DISK_SECTORS, 512, true, 1 },
		{ T_IN, UINT64_MAX, 512, true, 1 },
		{ T_IN, 0, 511, true, 1 },
		{ T_OUT, DISK_SECTORS - 1, 1024, false, 1 },
		{ T_OUT, 0, 512, true, 1 },
		{ T_IN, 0, 512, false, 1 },
		{ 2, 0, 512, true, 2 },
	};
	struct here *h = here_open(r);

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
		bd_put(&h->k.d, i, table[i].type, table[i].sector, table[i].len, table[i].in);
		ring(h, 0, 1);
		CHECK_EQ(bd_status(&h->k.d, i), table[i].status);
	}
	CHECK_EQ(h->ram.tries, 0);
	CHECK_EQ(vd_get(&h->k.d, VC_STATUS, 1), 0xf);
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	ring(h, 1, 1);
	vd_start(&h->k.d, 0, 64); /* without FLUSH a write is durable: that takes its time */
	bd_put(&h->k.d, 0, T_OUT, 0, 512, false);
	ring(h, 0, 1);
	CHECK_EQ(h->ram.flushes, 2);
}

/* What is in front of one that must wait is done, and the one behind it is not overlooked. */
static void in_a_row(struct rig *r)
{
	struct here *h = here_open(r);

	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	bd_put(&h->k.d, 1, T_FLUSH, 0, 0, false);
	bd_put(&h->k.d, 2, T_IN, 1, 512, true);
	ring(h, 1, 3);
	vd_start(&h->k.d, FLUSH_FEATURE | VF_PACKED, 64);
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	bd_put(&h->k.d, 1, T_FLUSH, 0, 0, false);
	bd_put(&h->k.d, 2, T_IN, 1, 512, true);
	ring(h, 1, 3);
	CHECK_EQ(h->ram.tries, 2);
}

/* No more than a MiB for each ring. */
static void bounded(struct rig *r)
{
	struct here *h = here_open(r);
	uint8_t last;

	bd_put(&h->k.d, 0, T_IN, 0, DISK_BYTES, true);
	ring(h, 1, 1);
	vd_load(&h->k.d, DATA(0) + DISK_BYTES - 1, &last, 1);
	CHECK_EQ(last, h->bytes[DISK_BYTES - 1]);
	for (unsigned i = 0; i < 3; i++)
		bd_put(&h->k.d, i, T_OUT, 0, DISK_BYTES / 2, false);
	ring(h, 2, 3);
	CHECK_EQ(h->ram.tries, 3);
	CHECK_EQ(h->ram.transfers, 1);
}

static void would_wait(struct rig *r)
{
	struct here *h = here_open(r);
	unsigned before;

	h->ram.now = -EAGAIN;
	bd_put(&h->k.d, 0, T_IN, 3, 512, true);
	ring(h, 0, 1);
	CHECK_EQ(bd_status(&h->k.d, 0), 0);
	CHECK_EQ(h->ram.tries, 1);
	CHECK_EQ(h->ram.transfers, 1);
	for (unsigned i = 0; i < 300; i++) {
		bd_put(&h->k.d, i % 10, T_IN, i, 512, true);
		ring(h, 0, 1);
	}
	CHECK_EQ(h->ram.transfers, 301);
	CHECK(h->ram.tries > 6 && h->ram.tries < 16); /* less and less often, never never */
	h->ram.now = 0;
	before = h->ram.tries;
	for (unsigned i = 0; i < 100; i++) {
		bd_put(&h->k.d, 0, T_IN, i, 512, true);
		vd_kick(&h->k.d, 0);
		rig_turn(r);
	}
	CHECK(h->ram.tries >= before + 36); /* the host has it again */
	h->ram.now = -EOPNOTSUPP;
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	ring(h, 0, 1);
	h->ram.now = 0;
	before = h->ram.tries;
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	ring(h, 0, 1);
	CHECK_EQ(h->ram.tries, before); /* never again */
}

static struct rig *clock_rig;

static void late(struct ramblock *ram)
{
	ram->trying = NULL;
	rig_advance(clock_rig, 5000000);
}

static void late_one(struct here *h, uint16_t at_once, uint16_t in_all)
{
	h->ram.trying = late;
	bd_put(&h->k.d, 0, T_OUT, 0, 512, false);
	bd_put(&h->k.d, 1, T_OUT, 0, 512, false);
	ring(h, at_once, in_all);
}

/* A host that took too long twice is not asked for a while. */
static void slow(struct rig *r)
{
	struct here *h = here_open(r);

	clock_rig = r;
	late_one(h, 2, 2);
	for (unsigned i = 0; i < 40; i++) { /* that is long ago then */
		bd_put(&h->k.d, 0, T_IN, 0, 512, true);
		ring(h, 1, 1);
	}
	late_one(h, 2, 2);
	h->ram.tries = 0;
	late_one(h, 1, 2);
	for (unsigned i = 0; i < 63; i++) { /* the row was one ring too */
		bd_put(&h->k.d, 0, T_IN, 0, 512, true);
		ring(h, 0, 1);
	}
	CHECK_EQ(h->ram.tries, 1);
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	ring(h, 0, 1);
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	ring(h, 1, 1);
}

static void on_stall(void *opaque, const char *reason, const char *why)
{
	CHECK(!strcmp(reason, "disk-full") && *why);
	++*(unsigned *)opaque;
}

/* As by a worker: kept, the machine is asked to pause, and it is done again. */
static void host_full(struct rig *r)
{
	struct here *h = here_open(r);
	unsigned stalls = 0;

	r->machine->stall = on_stall;
	r->machine->request_opaque = &stalls;
	h->ram.now = h->ram.error = -ENOSPC;
	bd_put(&h->k.d, 0, T_OUT, 0, 512, false);
	ring(h, 0, 0);
	CHECK_EQ(stalls, 1);
	CHECK_EQ(bd_status(&h->k.d, 0), 0xee);
	h->ram.now = 0;
	for (unsigned i = 1; i < 3; i++) { /* others wait for the loop, which tells them the same */
		bd_put(&h->k.d, i, T_OUT, i, 512, false);
		ring(h, 0, 0);
	}
	CHECK_EQ(h->ram.tries, 1);
	h->ram.error = 0;
	machine_pause_devices(r->machine);
	machine_resume_devices(r->machine);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&h->k.d), 3);
	CHECK_EQ(bd_status(&h->k.d, 0), 0);
	r->machine->request_opaque = r;
}

static void limits(struct rig *r)
{
	static struct here h;

	open_with(r, &h, (struct virtio_blk_config){ .ops = { .per_second = 10, .burst = 1 } });
	vd_start(&h.k.d, FLUSH_FEATURE, 64);
	bd_put(&h.k.d, 0, T_IN, 0, 512, true);
	bd_put(&h.k.d, 1, T_IN, 1, 512, true);
	ring(&h, 0, 1);
	rig_advance(r, 200000000);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&h.k.d), 2);
	CHECK_EQ(h.ram.tries, 0);
}

/* --- resets meanwhile ------------------------------------------------------------------------- */

static pthread_barrier_t entered, leave;

static void hold(struct ramblock *ram)
{
	ram->trying = NULL;
	pthread_barrier_wait(&entered);
	pthread_barrier_wait(&leave);
}

static void *ringer(void *opaque)
{
	vd_kick(opaque, 0);
	return NULL;
}

static void reset_meanwhile(struct rig *r)
{
	struct here *h = here_open(r);
	pthread_t thread;

	pthread_barrier_init(&entered, NULL, 2);
	pthread_barrier_init(&leave, NULL, 2);
	h->ram.trying = hold;
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	bd_put(&h->k.d, 1, T_IN, 0, 512, true);
	pthread_create(&thread, NULL, ringer, &h->k.d);
	pthread_barrier_wait(&entered);
	vd_set(&h->k.d, VC_STATUS, 1, 0); /* another processor, and it need not wait */
	CHECK(vd_get(&h->k.d, VC_STATUS, 1) != 0);
	pthread_barrier_wait(&leave);
	pthread_join(thread, NULL);
	rig_turn(r);
	CHECK_EQ(vd_get(&h->k.d, VC_STATUS, 1), 0);
	CHECK_EQ(vd_used_idx(&h->k.d), 0);
	CHECK_EQ(h->ram.tries, 1); /* what had not begun was forgotten */
	vd_start(&h->k.d, FLUSH_FEATURE, 64);
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	ring(h, 1, 1);
	vd_kick(&h->k.d, 0); /* nothing there */
	vd_set(&h->k.d, VC_STATUS, 1, 0);
	vd_kick(&h->k.d, 0); /* no driver */
	rig_turn(r);
	CHECK_EQ(h->ram.tries, 2);
}

static void bad_ring(struct rig *r)
{
	struct here *h = here_open(r);

	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	vd_desc(&h->k.d, 0, HEADER(0), 16, VD_NEXT, 0); /* a loop */
	ring(h, 0, 0);
	CHECK_EQ(vd_get(&h->k.d, VC_STATUS, 1) & 0x40, 0x40);
	vd_start(&h->k.d, FLUSH_FEATURE, 64);
	bd_put(&h->k.d, 0, T_IN, 0, 512, true);
	vd_desc(&h->k.d, 0, HEADER(0), 8, VD_NEXT, 1); /* half a header */
	vd_desc(&h->k.d, 1, STATUS(0), 1, VD_WRITE, 0);
	ring(h, 0, 0);
	CHECK_EQ(vd_get(&h->k.d, VC_STATUS, 1) & 0x40, 0x40);
	CHECK_EQ(h->ram.tries, 0);
}

/* --- when the driver is told ------------------------------------------------------------------ */

/* The only processor, which says when it waits; each queue has an interrupt of its own. */
static struct here *told_open(struct rig *r)
{
	struct here *h = here_open(r);

	r->machine->tells_idle = true;
	vd_set(&h->k.d, VC_STATUS, 1, 0);
	vd_msix(&h->k.d, 2);
	vd_start(&h->k.d, FLUSH_FEATURE, 64);
	vd_set(&h->k.d, VC_QVEC, 2, 1);
	return h;
}

/* One request, done at once; interrupts that came of it. */
static unsigned one_more(struct here *h)
{
	struct rig *r = h->k.d.rig;
	unsigned before = rig_msis(r), slot = vd_used_idx(&h->k.d) % 16;

	bd_put(&h->k.d, slot, T_IN, slot, 512, true);
	ring(h, 1, 1);
	CHECK_EQ(bd_status(&h->k.d, slot), 0);
	return rig_msis(r) - before;
}

static unsigned told_when_idle(struct here *h)
{
	unsigned before = rig_msis(h->k.d.rig);

	machine_idle_devices(h->k.d.rig->machine);
	return rig_msis(h->k.d.rig) - before;
}

/* Requests that it was told of one by one, until it was not. */
static unsigned until_held(struct here *h)
{
	unsigned n = 0;

	while (n < 100000 && one_more(h))
		n++;
	return n;
}

/* A driver that waits for each request waits for an answer seldom, and ever more so. */
static void one_by_one(struct rig *r)
{
	struct here *h = told_open(r);
	unsigned n = until_held(h);

	CHECK(n >= 16);
	for (unsigned i = 0; i < 3; i++) {
		unsigned more;

		CHECK_EQ(told_when_idle(h), 1);
		CHECK_EQ(told_when_idle(h), 0);
		more = until_held(h);
		CHECK(i ? more == 2 * n : more == n);
		n = more;
	}
	for (unsigned i = 0; i < 12; i++) {
		CHECK_EQ(told_when_idle(h), 1);
		n = until_held(h);
	}
	CHECK(n >= 1024 && n < 100000);
}

/* One that goes on meanwhile is told of more and more together. */
static void many_together(struct rig *r)
{
	struct here *h = told_open(r);
	unsigned held = 1, most = 0, told = 0;

	(void)until_held(h);
	for (unsigned i = 0; i < 4000; i++) {
		unsigned n = one_more(h);

		told += n;
		held = n ? 0 : held + 1;
		most = held > most ? held : most;
	}
	CHECK(most >= 15 && most < 64);
	CHECK(told < 4000 / 8);
	while (one_more(h))
		;
	CHECK_EQ(told_when_idle(h), 1);
	while (one_more(h))
		;
	rig_advance(r, 1000000); /* the first one has waited long enough when the next one comes */
	CHECK_EQ(one_more(h), 1);
	CHECK_EQ(told_when_idle(h), 0);
}

/* A processor that does not wait, and does not ring: it is told all the same. */
static void told_in_time(struct rig *r)
{
	struct here *h = told_open(r);
	unsigned before;

	(void)until_held(h);
	before = rig_msis(r);
	rig_advance(r, 1999999);
	CHECK_EQ(rig_msis(r), before);
	rig_advance(r, 1);
	CHECK_EQ(rig_msis(r), before + 1);
	rig_advance(r, 1000000000);
	CHECK_EQ(told_when_idle(h), 0);
	CHECK_EQ(rig_msis(r), before + 1);
}

/* Others' requests, a pause and a reset leave nothing behind. */
static void told_by_others(struct rig *r)
{
	struct here *h = told_open(r);
	unsigned before;

	(void)until_held(h);
	before = rig_msis(r);
	bd_put(&h->k.d, 20, T_FLUSH, 0, 0, false);
	ring(h, 0, 1);
	CHECK_EQ(rig_msis(r), before + 2); /* when this one is taken, and when it is done */
	CHECK_EQ(told_when_idle(h), 0);
	while (one_more(h))
		;
	before = rig_msis(r);
	machine_pause_devices(r->machine);
	CHECK_EQ(rig_msis(r), before + 1);
	machine_resume_devices(r->machine);
	while (one_more(h))
		;
	before = rig_msis(r);
	vd_start(&h->k.d, FLUSH_FEATURE, 64);
	CHECK_EQ(told_when_idle(h), 0);
	rig_advance(r, 1000000000);
	CHECK_EQ(rig_msis(r), before);
	vd_set(&h->k.d, VC_QVEC, 2, 1);
	CHECK_EQ(one_more(h), 1);
	r->machine->tells_idle = false; /* nobody would say when */
	for (unsigned i = 0; i < 200; i++)
		CHECK_EQ(one_more(h), 1);
}

/* --- a file ----------------------------------------------------------------------------------- */

/* What was written a moment ago is in the host's cache, if its file system can say so. */
static void raw_file(struct rig *r)
{
	char path[] = "./here.XXXXXX";
	int fd = mkstemp(path), got;
	uint8_t in[4096], out[4096];
	struct iovec iov[2] = { { in, 512 }, { in + 512, 3584 } };
	struct iovec from = { out, sizeof(out) };
	struct block *b;

	(void)r;
	CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, 8192) == 0);
	CHECK_EQ(block_raw_create(fd, false, &b), 0);
	memset(out, 0x3c, sizeof(out));
	CHECK_EQ(b->ops->try_now(b, true, &from, 1, 4096), 0);
	got = b->ops->try_now(b, false, iov, 2, 4096);
	CHECK(got == 0 || got == -EOPNOTSUPP);
	CHECK(got < 0 || !memcmp(in, out, sizeof(in)));
	CHECK_EQ(iov[1].iov_len, 3584);
	CHECK(ftruncate(fd, 4096 + 512) == 0); /* behind the end there is nothing */
	CHECK(b->ops->try_now(b, false, iov, 2, 4096) < 0);
	block_destroy(b);
}

int main(int argc, char **argv)
{
	static const struct rig_virtio_case cases[] = {
		{ "at once", at_once, RIG_BOTH },
		{ "one interrupt", one_interrupt, RIG_PCI },
		{ "left to others", left_to_others, RIG_BOTH },
		{ "in a row", in_a_row, RIG_BOTH },
		{ "bounded", bounded, RIG_PCI },
		{ "would wait", would_wait, RIG_PCI },
		{ "slow host", slow, RIG_PCI },
		{ "no room on the host", host_full, RIG_PCI },
		{ "limits", limits, RIG_PCI },
		{ "reset meanwhile", reset_meanwhile, RIG_BOTH },
		{ "bad ring", bad_ring, RIG_BOTH },
		{ "one by one", one_by_one, RIG_PCI },
		{ "many together", many_together, RIG_PCI },
		{ "told in time", told_in_time, RIG_PCI },
		{ "told by others", told_by_others, RIG_PCI },
		{ "raw file", raw_file, RIG_PCI },
	};

	return rig_virtio_main("virtio-blk-here", cases, ARRAY_SIZE(cases), argc, argv);
}
