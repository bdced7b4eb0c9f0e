/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user back-ends that break every rule there is: it costs their connection, and nobody else. */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/vhost_peer.h"
#include "machine/loop.h"
#include "tests/device/vhost_rig.h"

static const struct sin_case {
	enum vb_sin sin;
	uint32_t at;
	const char *why;
} greeting_sins[] = {
	{ VB_OTHER_REQUEST, VHOST_GET_FEATURES, "it answered GET_FEATURES with another message (2)" },
	{ VB_NO_REPLY_FLAG, VHOST_GET_FEATURES, "it answered GET_FEATURES with another message (1, no" },
	{ VB_SHORT, VHOST_GET_FEATURES, "it answered GET_FEATURES with 4 bytes, not 8" },
	{ VB_LONG, VHOST_GET_PROTOCOL_FEATURES, "with 12 bytes, not 8" },
	{ VB_HUGE, VHOST_GET_FEATURES, "what is no message of vhost-user" },
	{ VB_VERSION, VHOST_GET_QUEUE_NUM, "what is no message of vhost-user" },
	{ VB_TWICE, VHOST_GET_FEATURES, "it answered GET_PROTOCOL_FEATURES with another message (1)" },
	{ VB_HALF, VHOST_GET_CONFIG, "it closed the connection" },
	{ VB_CLOSE, VHOST_GET_FEATURES, "it closed the connection" },
	{ VB_ZERO, VHOST_GET_FEATURES, "it lacks features 0x1" },
	{ VB_ZERO, VHOST_GET_PROTOCOL_FEATURES, "it has no configuration space" },
	{ VB_ZERO, VHOST_GET_QUEUE_NUM, "it has 0 queues" },
	{ VB_ONES, VHOST_GET_QUEUE_NUM, "it has 18446744073709551615 queues" },
	{ VB_REFUSE, VHOST_SET_OWNER, "it refused SET_OWNER" },
	{ VB_REFUSE, VHOST_SET_BACKEND_REQ_FD, "it refused SET_BACKEND_REQ_FD" },
	{ VB_REFUSE, VHOST_GET_CONFIG, "it did not tell its configuration space of 60 bytes" },
	{ VB_SHORT, VHOST_GET_CONFIG, "it did not tell its configuration space of 60 bytes" },
	{ VB_ONES, VHOST_GET_CONFIG, "it did not tell its configuration space of 60 bytes" },
	{ VB_SHORT, VHOST_SET_OWNER, "it answered SET_OWNER with 4 bytes, not 8" },
}, starting_sins[] = {
	{ VB_REFUSE, VHOST_SET_FEATURES, "it refused SET_FEATURES" },
	{ VB_REFUSE, VHOST_SET_MEM_TABLE, "it refused SET_MEM_TABLE" },
	{ VB_OTHER_REQUEST, VHOST_SET_MEM_TABLE, "it answered SET_MEM_TABLE with another message (6)" },
	{ VB_REFUSE, VHOST_SET_VRING_NUM, "it refused SET_VRING_NUM" },
	{ VB_LONG, VHOST_SET_VRING_ADDR, "it answered SET_VRING_ADDR with 12 bytes, not 8" },
	{ VB_REFUSE, VHOST_SET_VRING_BASE, "it refused SET_VRING_BASE" },
	{ VB_REFUSE, VHOST_SET_VRING_KICK, "it refused SET_VRING_KICK" },
	{ VB_REFUSE, VHOST_SET_VRING_CALL, "it refused SET_VRING_CALL" },
	{ VB_REFUSE, VHOST_SET_VRING_ENABLE, "it refused SET_VRING_ENABLE" },
	{ VB_TWICE, VHOST_SET_VRING_ENABLE, "it answered SET_VRING_ENABLE with 8" },
	{ VB_SILENT, VHOST_SET_MEM_TABLE, "it did not answer SET_MEM_TABLE within 5 seconds" },
	{ VB_CLOSE, VHOST_SET_VRING_KICK, "it closed the connection" },
	{ VB_HALF, VHOST_SET_VRING_CALL, "it closed the connection" },
}, stopping_sins[] = {
	{ VB_SHORT, VHOST_GET_VRING_BASE, "it answered GET_VRING_BASE of queue 0 for another one" },
	{ VB_ONES, VHOST_GET_VRING_BASE, "it answered GET_VRING_BASE of queue 0 for another one" },
	{ VB_NO_REPLY_FLAG, VHOST_GET_VRING_BASE, "it answered GET_VRING_BASE with another message" },
	{ VB_HUGE, VHOST_GET_VRING_BASE, "what is no message of vhost-user" },
	{ VB_CLOSE, VHOST_GET_VRING_BASE, "it closed the connection" },
};

static void greets_badly(struct rig *r)
{
	static struct disk k;

	for (size_t i = 0; i < ARRAY_SIZE(greeting_sins); i++) {
		struct vhost_user_config c = vhost_disk;
		const struct sin_case *s = &greeting_sins[i];

		memset(&k, 0, sizeof(k));
		c.fd = disk_backend(&k);
		k.b.sin = s->sin;
		k.b.sin_at = s->at;
		vb_serve(&k.b);
		CHECK(disk_make(r, &k, c) < 0);
		vb_close(&k.b);
		CHECK_EQ(close(c.fd), 0); /* still ours */
		CHECK(strstr(k.why, s->why) != NULL);
		if (!strstr(k.why, s->why))
			printf("     %zu: \"%s\", wanted \"%s\"\n", i, k.why, s->why);
	}
}

/* The same from a peer that comes later: the device goes on without it, and takes the next. */
static void comes_badly(struct rig *r)
{
	static struct disk k;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 2);
	vb_close(&k.b);
	for (size_t i = 0; i < ARRAY_SIZE(greeting_sins) + ARRAY_SIZE(starting_sins); i++) {
		bool early = i < ARRAY_SIZE(greeting_sins);
		const struct sin_case *s = early ? &greeting_sins[i]
						 : &starting_sins[i - ARRAY_SIZE(greeting_sins)];

		disk_next(&k);
		k.b2.sin = s->sin;
		k.b2.sin_at = s->at;
		disk_settle(&k);
		rig_advance(r, (VHOST_REPLY_MS + 1) * 1000000ull);
		disk_settle(&k);
		/* A second answer to the last message comes when there is nothing to answer. */
		CHECK(!disk_info(&k).up || s->sin == VB_TWICE);
		if (s->sin != VB_TWICE)
			CHECK(disk_why(&k, s->why));
		vb_close(&k.b2);
		disk_settle(&k);
		CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf);
		CHECK_EQ(vd_used_idx(&k.d), 0);
	}
	disk_next(&k);
	disk_settle(&k);
	CHECK(disk_info(&k).up && k.b2.ring[0].running);
	disk_end(&k);
}

static void stops_badly(struct rig *r)
{
	static struct disk k;

	disk_open(r, &k, &vhost_disk);
	for (size_t i = 0; i < ARRAY_SIZE(stopping_sins); i++) {
		disk_start(&k, 0);
		disk_reads(&k, 2);
		k.b.sin = stopping_sins[i].sin;
		k.b.sin_at = stopping_sins[i].at;
		vd_set(&k.d, VC_STATUS, 1, 0);
		disk_settle(&k);
		CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
		CHECK(disk_why(&k, stopping_sins[i].why));
		vb_close(&k.b);
		disk_next(&k);
		disk_settle(&k);
		disk_take_over(&k);
	}
	disk_end(&k);
}

static void speaks_unasked(struct disk *k)
{
	uint8_t m[20] = { 1, 0, 0, 0, 5, 0, 0, 0, 8 };

	CHECK_EQ(write(k->b.sock, m, sizeof(m)), sizeof(m));
}

static void garbage(struct disk *k)
{
	CHECK_EQ(write(k->b.sock, "GET / HTTP/1.0\r\n\r\n", 18), 18);
}

static void runs_ahead(struct disk *k)
{
	k->b.ring[0].used_idx = 100;
	vb_give(&k->b, 0, 0, 0);
}

static void gives_too_much(struct disk *k)
{
	struct vb_chain c;

	while (vb_take(&k->b, 0, &c))
		vb_give(&k->b, 0, c.head, c.part[1].len + 2);
}

static void gives_twice(struct disk *k)
{
	struct vb_chain c;

	CHECK(vb_take(&k->b, 0, &c));
	vb_give(&k->b, 0, c.head, 0);
	vb_give(&k->b, 0, c.head, 0);
}

static void gives_unknown(struct disk *k)
{
	vb_give(&k->b, 0, 63, 0);
}

static void gives_beyond(struct disk *k)
{
	vb_give(&k->b, 0, 0x10000, 0);
}

static void gives_backwards(struct disk *k)
{
	k->b.ring[0].used_idx = 0xfffe;
	vb_give(&k->b, 0, 0, 0);
}

static const struct {
	void (*fn)(struct disk *k);
	const char *why;
	unsigned used;
} running_sins[] = {
	{ speaks_unasked, "it sent a message (1) that nobody had asked for", 0 },
	{ garbage, "it sent what is no message of vhost-user", 0 },
	{ runs_ahead, "its used ring is ahead of what it was given", 0 },
	{ gives_backwards, "its used ring is ahead of what it was given", 0 },
	{ gives_too_much, "it says to have written more than a buffer holds", 0 },
	{ gives_twice, "it gave back a buffer that it did not have", 1 },
	{ gives_unknown, "it gave back a buffer that it did not have", 0 },
	{ gives_beyond, "it gave back a buffer that it did not have", 0 },
};

/* Costs the connection, and not the guest's requests. */
static void works_badly(struct rig *r)
{
	static struct disk k;

	disk_open(r, &k, &vhost_disk);
	for (size_t i = 0; i < ARRAY_SIZE(running_sins); i++) {
		struct vb_chain c;
		unsigned n = 0;

		disk_start(&k, 0);
		disk_reads(&k, 2);
		running_sins[i].fn(&k);
		vb_call(&k.b, 0);
		disk_settle(&k);
		CHECK(!disk_info(&k).up);
		CHECK(disk_why(&k, running_sins[i].why));
		CHECK_EQ(vd_used_idx(&k.d), running_sins[i].used);
		CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf);
		vb_close(&k.b);
		disk_next(&k);
		disk_settle(&k);
		disk_take_over(&k);
		while (vb_take(&k.b, 0, &c)) {
			vb_give(&k.b, 0, c.head, 1);
			n++;
		}
		CHECK_EQ(n, 2 - running_sins[i].used);
		vb_call(&k.b, 0);
		disk_settle(&k);
		CHECK_EQ(vd_used_idx(&k.d), 2);
	}
	disk_end(&k);
}

static void bad_guest(struct rig *r)
{
	static struct disk k;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 1);
	vd_desc(&k.d, 40, RIG_MEMORY - 8, 16, 0, 0); /* not wholly in memory */
	vd_push(&k.d, 40);
	vd_kick(&k.d, 0);
	disk_settle(&k);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1) & 0x40, 0x40);
	CHECK(disk_info(&k).up);
	vd_set(&k.d, VC_STATUS, 1, 0);
	disk_settle(&k);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	disk_start(&k, 0);
	disk_passes(&k);
	disk_end(&k);
}

static void bad_configs(struct rig *r)
{
	struct vhost_user_config c = vhost_disk;
	static struct disk k;

	c.fd = disk_backend(&k);
	c.queue_size = 48;
	CHECK_EQ(disk_make(r, &k, c), -EINVAL);
	c.queue_size = 2048;
	CHECK_EQ(disk_make(r, &k, c), -EINVAL);
	c.queue_size = 64;
	c.kind = VHOST_KINDS;
	CHECK_EQ(disk_make(r, &k, c), -EINVAL);
	c.kind = VHOST_KIND_FS;
	k.b.queues = 1; /* an fs needs two */
	vb_serve(&k.b);
	CHECK_EQ(disk_make(r, &k, c), -EPROTO);
	CHECK(!strcmp(k.why, "it has 1 queues, too few"));
	vb_close(&k.b);
	CHECK_EQ(close(c.fd), 0);
}

static const struct rig_case cases[] = {
	{ "a bad greeting at first", greets_badly },
	{ "a bad greeting or start later", comes_badly },
	{ "a bad stop", stops_badly },
	{ "bad work", works_badly },
	{ "a bad guest", bad_guest },
	{ "bad configurations", bad_configs },
};

int main(int argc, char **argv)
{
	return rig_main("vhost-bad", cases, ARRAY_SIZE(cases), argc, argv);
}
