/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng over virtio-pci. */
#include <config.h>

#include <string.h>

#include "common/checked.h"
#include "devices/virtio/rng.h"
#include "tests/device/vdriver.h"

static void rng_open(struct rig *r, struct vdriver *d)
{
	static const struct virtio_rng_config config;

	rig_add(r, &virtio_rng_class, &config);
	CHECK(vd_find(r, d, 0x1044));
	CHECK_EQ(d->config, 0); /* no configuration space, no capability for it */
	vd_start(d, 0, 64);
}

static void fills(struct rig *r)
{
	struct vdriver d;
	uint8_t bytes[64] = { 0 }, zero[64] = { 0 };
	uint32_t id, len;

	rng_open(r, &d);
	vd_store(&d, VD_BUFFERS, bytes, sizeof(bytes));
	vd_desc(&d, 5, VD_BUFFERS, 24, VD_NEXT | VD_WRITE, 6);
	vd_desc(&d, 6, VD_BUFFERS + 24, 24, VD_WRITE, 0);
	vd_push(&d, 5);
	vd_kick(&d, 0);
	CHECK(vd_wait(&d, 1));
	vd_used(&d, 0, &id, &len);
	CHECK_EQ(id, 5);
	CHECK_EQ(len, 48);
	vd_load(&d, VD_BUFFERS, bytes, sizeof(bytes));
	CHECK(memcmp(bytes, zero, 24) && memcmp(bytes + 24, zero, 24));
	CHECK(!memcmp(bytes + 48, zero, 16)); /* and not a byte more */
}

static void odd_buffers(struct rig *r)
{
	struct vdriver d;
	uint32_t id, len;

	rng_open(r, &d);
	vd_desc(&d, 0, VD_BUFFERS, 64, 0, 0); /* nothing to write to */
	vd_push(&d, 0);
	vd_desc(&d, 1, 0x200000, 0x100000, VD_WRITE, 0); /* a mebibyte: some of it */
	vd_push(&d, 1);
	vd_desc(&d, 2, 0, 0, VD_WRITE, 0);
	vd_push(&d, 2);
	vd_kick(&d, 0);
	CHECK(vd_wait(&d, 3));
	vd_used(&d, 0, &id, &len);
	CHECK_EQ(len, 0);
	vd_used(&d, 1, &id, &len);
	CHECK(len > 0 && len <= 4096);
	vd_used(&d, 2, &id, &len);
	CHECK_EQ(len, 0);
}

static void greedy(struct rig *r)
{
	struct vdriver d;
	unsigned i, round;

	rng_open(r, &d);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 64; i++) {
			vd_desc(&d, i, VD_BUFFERS, 64, VD_WRITE, 0);
			vd_push(&d, (uint16_t)i);
		}
		vd_kick(&d, 0);
		CHECK(vd_wait(&d, d.avail));
	}
}

static void errors_and_reset(struct rig *r)
{
	struct vdriver d;

	rng_open(r, &d);
	vd_push(&d, 64);
	vd_kick(&d, 0);
	CHECK(vd_wait_status(&d, 0x40, 0x40));
	vd_start(&d, 0, 64);
	vd_desc(&d, 0, VD_BUFFERS, 64, VD_WRITE, 0);
	vd_push(&d, 0);
	vd_kick(&d, 0);
	CHECK(vd_wait(&d, 1));
	vd_cfg_write(&d, 4, 2, 2); /* bus master off: quiet, and the loop turns on */
	vd_push(&d, 0);
	vd_kick(&d, 0);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&d), 1);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "fills buffers", fills },
		{ "odd buffers", odd_buffers },
		{ "greedy guest", greedy },
		{ "errors and reset", errors_and_reset },
	};

	return rig_main("virtio-rng", cases, ARRAY_SIZE(cases), argc, argv);
}
