/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with a back end that waits: resets, errors, pauses and the end meanwhile. */
#include <config.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/backend/block.h"
#include "devices/virtio/blk.h"
#include "machine/loop.h"
#include "tests/device/blkdriver.h"

/* --- a back end that waits -------------------------------------------------------------------- */

struct slow {
	struct block block;
	pthread_mutex_t lock;
	pthread_cond_t go;
	bool open;
	atomic_uint entered, destroyed;
};

static int slow_wait(struct block *b)
{
	struct slow *s = (struct slow *)b;

	pthread_mutex_lock(&s->lock);
	s->entered++;
	while (!s->open)
		pthread_cond_wait(&s->go, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int slow_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		      uint64_t *ret_done)
{
	unsigned i;

	(void)offset;
	(void)slow_wait(b);
	*ret_done = 0;
	for (i = 0; i < n; i++) {
		memset(iov[i].iov_base, 0x77, iov[i].iov_len);
		*ret_done += iov[i].iov_len;
	}
	return 0;
}

static int slow_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	(void)iov, (void)n, (void)offset;
	return slow_wait(b);
}

static int slow_range(struct block *b, uint64_t offset, uint64_t len)
{
	(void)offset, (void)len;
	return slow_wait(b);
}

static int slow_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	(void)unmap;
	return slow_range(b, offset, len);
}

static void slow_destroy(struct block *b)
{
	((struct slow *)b)->destroyed++;
}

static const struct block_ops slow_ops = {
	.readv = slow_readv, .writev = slow_writev, .flush = slow_wait, .discard = slow_range,
	.write_zeroes = slow_zeroes, .destroy = slow_destroy,
};

static void slow_open(struct rig *r, struct disk *k, struct slow *s)
{
	struct virtio_blk_config config = { .fd = -1, .block = &s->block };

	memset(s, 0, sizeof(*s));
	s->block = (struct block){ .ops = &slow_ops, .size = DISK_SECTORS * 512 };
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->go, NULL);
	k->fd = -1;
	bd_add(r, k, &config);
}

static void slow_go(struct slow *s)
{
	pthread_mutex_lock(&s->lock);
	s->open = true;
	pthread_cond_broadcast(&s->go);
	pthread_mutex_unlock(&s->lock);
}

static bool slow_entered(void *opaque)
{
	return ((struct slow *)opaque)->entered > 0;
}

/* One request, which the disk is at now. */
static void slow_begin(struct rig *r, struct disk *k, struct slow *s, uint32_t type)
{
	slow_open(r, k, s);
	vd_start(&k->d, 0, 64);
	bd_put(&k->d, 0, type, 0, 512, type == T_IN);
	vd_kick(&k->d, 0);
	CHECK(rig_turn_until(r, slow_entered, s));
}

/* Set up anew, as a driver does, it works. */
static void works_again(struct disk *k)
{
	vd_start(&k->d, 0, 64);
	CHECK_EQ(bd_request(&k->d, T_IN, 0, 512, true), 0);
}

static void reset_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	unsigned i;

	slow_open(r, &k, &s);
	vd_start(&k.d, 0, 64);
	for (i = 0; i < 20; i++)
		bd_put(&k.d, i, T_IN, i, 512, true);
	vd_kick(&k.d, 0);
	CHECK(rig_turn_until(r, slow_entered, &s));
	vd_set(&k.d, VC_STATUS, 1, 0);
	CHECK(vd_get(&k.d, VC_STATUS, 1) != 0); /* not yet, and nobody waited for it */
	vd_set(&k.d, VC_STATUS, 1, 0xf);
	vd_set(&k.d, VC_QENABLE, 2, 1);
	vd_kick(&k.d, 0);
	rig_turn(r);
	slow_go(&s);
	CHECK(vd_wait_status(&k.d, 0xff, 0));
	CHECK_EQ(vd_used_idx(&k.d), 0); /* nothing came back after the reset */
	CHECK(s.entered <= 4); /* what had not begun was forgotten */
	works_again(&k);
}

static void error_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	uint8_t data;

	slow_open(r, &k, &s);
	vd_start(&k.d, 0, 64);
	bd_good_chain(&k.d);
	vd_push(&k.d, 0);
	vd_push(&k.d, 0); /* a head that is in flight already */
	vd_kick(&k.d, 0);
	CHECK(vd_wait_status(&k.d, 0x40, 0x40));
	vd_set(&k.d, VC_STATUS, 1, 0);
	slow_go(&s);
	CHECK(vd_wait_status(&k.d, 0xff, 0));
	CHECK_EQ(vd_used_idx(&k.d), 0);
	works_again(&k);
	vd_load(&k.d, DATA(0), &data, 1);
	CHECK_EQ(data, 0x77);
}

static void *go_later(void *opaque)
{
	usleep(50000);
	slow_go(opaque);
	return NULL;
}

static void pause_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	pthread_t thread;
	uint16_t used;

	slow_begin(r, &k, &s, T_IN);
	pthread_create(&thread, NULL, go_later, &s);
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine);
	used = vd_used_idx(&k.d);
	CHECK_EQ(used, 1); /* quiet now: what was in flight is back */
	bd_put(&k.d, 1, T_IN, 0, 512, true);
	vd_kick(&k.d, 0);
	rig_turn(r);
	usleep(20000);
	CHECK_EQ(vd_used_idx(&k.d), 1);
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	CHECK(vd_wait(&k.d, 2)); /* the kick was not lost */
	pthread_join(thread, NULL);
}

static void machine_reset_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	pthread_t thread;

	slow_begin(r, &k, &s, T_OUT);
	pthread_create(&thread, NULL, go_later, &s);
	machine_reset_devices(r->machine);
	CHECK_EQ(s.open, true);
	pthread_join(thread, NULL);
	CHECK_EQ(vd_cfg_read(&k.d, 4, 2) & 4, 0); /* bus mastering is off again */
	vd_cfg_write(&k.d, 4, 2, 6);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	works_again(&k);
}

static void destroy_in_flight(struct rig *r)
{
	struct disk k;
	static struct slow s; /* outlives the case: the machine is closed after it */
	pthread_t thread;
	struct rig other;

	(void)r;
	rig_open(&other);
	slow_begin(&other, &k, &s, T_OUT);
	pthread_create(&thread, NULL, go_later, &s);
	rig_close(&other);
	pthread_join(thread, NULL);
	CHECK_EQ(s.destroyed, 1);
}

int main(int argc, char **argv)
{
	static const struct rig_virtio_case cases[] = {
		{ "reset in flight", reset_in_flight, RIG_BOTH },
		{ "guest error in flight", error_in_flight, RIG_BOTH },
		{ "pause in flight", pause_in_flight, RIG_BOTH },
		{ "destroy in flight", destroy_in_flight, RIG_BOTH },
		{ "machine reset in flight", machine_reset_in_flight, RIG_PCI },
	};

	return rig_virtio_main("virtio-blk-wait", cases, ARRAY_SIZE(cases), argc, argv);
}
