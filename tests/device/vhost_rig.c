/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_rig.c - see vhost_rig.h. */
#include <config.h>

#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/vhost_rig.h"

const struct vhost_user_config vhost_disk = { .kind = VHOST_KIND_BLK, .queues = 2,
						     .queue_size = 64 };

int disk_make(struct rig *r, struct disk *k, struct vhost_user_config config)
{
	config.why = k->why;
	return device_create(r->machine, &vhost_user_class, &config, &k->dev);
}

int disk_backend(struct disk *k)
{
	int fd = vb_open(&k->b, BASE_FEATURES | F(BLK_FLUSH) | F(BLK_MQ) | F(40) | F(3), PROTOCOLS, 4);

	put_le64(k->b.config, 2048);  /* capacity */
	put_le32(k->b.config + 12, 500); /* seg_max */
	put_le16(k->b.config + 34, 4); /* num_queues */
	return fd;
}

void disk_open(struct rig *r, struct disk *k, const struct vhost_user_config *conf)
{
	struct vhost_user_config c = *conf;

	memset(k, 0, sizeof(*k));
	k->rig = r;
	c.fd = disk_backend(k);
	vb_serve(&k->b);
	CHECK_EQ(disk_make(r, k, c), 0);
	vb_rest(&k->b);
	CHECK(k->why[0] == '\0');
}

void disk_settle(struct disk *k)
{
	for (int i = 0, idle = 0; i < 2000 && idle < 3; i++) {
		bool any = loop_turn(k->rig->machine->loop, 0) > 0;

		any |= vb_step(&k->b);
		any |= k->b2.sock > 0 && vb_step(&k->b2);
		idle = any ? 0 : idle + 1;
	}
}

void disk_start(struct disk *k, uint64_t features)
{
	CHECK(vd_find(k->rig, &k->d, 0x1042));
	vd_start_queues(&k->d, features, 64, 2);
	disk_settle(k);
	CHECK(k->b.ring[0].running && k->b.ring[1].running);
}

void disk_open_started(struct rig *r, struct disk *k, uint64_t features)
{
	disk_open(r, k, &vhost_disk);
	disk_start(k, features);
}

void disk_push(struct disk *k, unsigned n)
{
	uint64_t at = DATA + 0x1000ull * n;

	vd_desc(&k->d, 3 * n, at, 16, VD_NEXT, (uint16_t)(3 * n + 1));
	vd_desc(&k->d, 3 * n + 1, at + 0x200, 512, VD_NEXT | VD_WRITE, (uint16_t)(3 * n + 2));
	vd_desc(&k->d, 3 * n + 2, at + 0x800, 1, VD_WRITE, 0);
	vd_push(&k->d, (uint16_t)(3 * n));
}

void disk_reads(struct disk *k, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		disk_push(k, i);
	vd_kick(&k->d, 0);
	disk_settle(k);
}

struct vhost_user_info disk_info(struct disk *k)
{
	struct vhost_user_info info;

	vhost_user_info(k->dev, &info);
	return info;
}

bool disk_why(struct disk *k, const char *text)
{
	struct vhost_user_info info = disk_info(k);

	if (strstr(info.why, text))
		return true;
	printf("     why: \"%s\", wanted \"%s\"\n", info.why, text);
	return false;
}

void disk_next(struct disk *k)
{
	struct disk other;
	int fd = disk_backend(&other);

	k->b2 = other.b;
	vhost_user_attach(k->dev, fd);
}

void disk_end(struct disk *k)
{
	vb_close(&k->b); /* it has hung up: destroying does not wait for it */
	if (k->b2.sock)
		vb_close(&k->b2);
}

void disk_take_over(struct disk *k)
{
	k->b = k->b2;
	memset(&k->b2, 0, sizeof(k->b2));
}

/* --- writes are told before the guest can see them: mem_written() comes by here ------------------ */

static struct {
	uint64_t gpa, len;
	uint16_t used_then;
} told[64];
static unsigned told_count;
static struct vdriver *told_driver;

void __real_mem_written(struct memory *memory, uint64_t gpa, uint64_t len);
void __wrap_mem_written(struct memory *memory, uint64_t gpa, uint64_t len);

void __wrap_mem_written(struct memory *memory, uint64_t gpa, uint64_t len)
{
	if (told_driver && told_count < ARRAY_SIZE(told)) {
		told[told_count].gpa = gpa;
		told[told_count].len = len;
		told[told_count++].used_then = vd_used_idx(told_driver);
	}
	__real_mem_written(memory, gpa, len);
}

void told_start(struct vdriver *d)
{
	told_count = 0;
	told_driver = d;
}

unsigned told_ranges(void)
{
	return told_count;
}

/* Chains go to the peer whole, and come back in its order. */
void disk_passes(struct disk *k)
{
	static const uint8_t bytes[512] = { 1, 2, 3 };
	struct vb_chain c, c2;
	uint8_t got[512];
	uint32_t id, len;

	disk_reads(k, 2);
	CHECK(vb_take(&k->b, 0, &c) && vb_take(&k->b, 0, &c2));
	CHECK_EQ(c.count, 3);
	CHECK(!c.part[0].write && c.part[1].write && c.part[2].write);
	CHECK_EQ(c.part[1].gpa, DATA + 0x200);
	CHECK_EQ(c.part[1].len, 512);
	CHECK_EQ(c2.part[0].gpa, DATA + 0x1000);
	memcpy(vb_memory(&k->b, c2.part[1].gpa, 512), bytes, 512);
	told_start(&k->d);
	vb_give(&k->b, 0, c2.head, 513);
	vb_call(&k->b, 0);
	disk_settle(k);
	CHECK_EQ(vd_used_idx(&k->d), 1);
	vd_used(&k->d, 0, &id, &len);
	CHECK_EQ(id, 3);
	CHECK_EQ(len, 513);
	vd_load(&k->d, DATA + 0x1200, got, sizeof(got));
	CHECK(!memcmp(got, bytes, sizeof(got)));
	CHECK_EQ(told_count, 2); /* both parts, before it came back */
	CHECK_EQ(told[0].gpa, DATA + 0x1200);
	CHECK_EQ(told[0].len, 512);
	CHECK_EQ(told[0].used_then, 0);
	CHECK_EQ(told[1].used_then, 0);
	vb_give(&k->b, 0, c.head, 0);
	vb_call(&k->b, 0);
	disk_settle(k);
	CHECK_EQ(vd_used_idx(&k->d), 2);
	CHECK_EQ(told_count, 4); /* whatever length the peer says */
	CHECK_EQ(told[2].len, 512);
	told_start(NULL);
}

