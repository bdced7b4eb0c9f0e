/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user devices with a back-end of ours behind them: what is passed on, and what outlives whom. */
#include <config.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/vhost_peer.h"
#include "devices/virtio/queue.h"
#include "machine/loop.h"
#include "tests/device/vhost_rig.h"

static void offers(struct rig *r)
{
	static struct disk k;

	disk_open(r, &k, &vhost_disk);
	CHECK(vd_find(r, &k.d, 0x1042));
	/* Those of the type, and the core's but RING_RESET; not the peer's 40 and 3. */
	CHECK_EQ(vd_features(&k.d), (VF_CORE & ~VF_RING_RESET) | F(BLK_FLUSH) | F(BLK_MQ));
	CHECK_EQ(vd_get(&k.d, VC_NUMQ, 2), 2);
	CHECK_EQ(rig_read(r, k.d.config, 4), 2048);
	CHECK_EQ(rig_read(r, k.d.config + 12, 4), VIRTQ_SEGMENTS_MAX - 2);
	CHECK_EQ(rig_read(r, k.d.config + 34, 2), 2);
	CHECK_EQ(k.b.accepted_protocol, F(VHOST_PROTOCOL_MQ) | F(VHOST_PROTOCOL_REPLY_ACK) |
					F(VHOST_PROTOCOL_BACKEND_REQ) | F(VHOST_PROTOCOL_CONFIG));
	CHECK_EQ(vb_count(&k.b, VHOST_SET_OWNER), 1);
	CHECK_EQ(vb_count(&k.b, VHOST_SET_FEATURES), 0); /* nothing before the guest drives it */
	disk_start(&k, F(BLK_FLUSH));
	CHECK_EQ(k.b.accepted, BASE_FEATURES | F(BLK_FLUSH));
	CHECK_EQ(k.b.region_count, 2);
	CHECK_EQ(k.b.region[0].size, RIG_MEMORY);
	CHECK_EQ(k.b.ring[0].size, 64);
	CHECK(k.b.ring[0].enabled && k.b.ring[1].enabled);
	disk_end(&k);
}

static void works(struct rig *r)
{
	static struct disk k;
	unsigned before;

	disk_open(r, &k, &vhost_disk);
	CHECK(vd_find(r, &k.d, 0x1042));
	vd_start_queues(&k.d, 0, 64, 2);
	vd_msix(&k.d, 3);
	disk_settle(&k);
	before = rig_msis(r);
	disk_passes(&k);
	CHECK_EQ(rig_msis(r) - before, 2);
	disk_end(&k);
}

static void works_mmio_packed(struct rig *r)
{
	struct vhost_user_config c = vhost_disk;
	static struct disk k;

	c.place.mmio.base = 0xfeb00000;
	c.place.mmio.line = 5;
	disk_open(r, &k, &c);
	CHECK(vd_find_mmio(r, &k.d, c.place.mmio.base, 2));
	vd_start_queues(&k.d, VF_PACKED, 64, 2);
	disk_settle(&k);
	disk_passes(&k);
	disk_end(&k);
}

/* A peer without indirect tables, configuration of its own or acknowledgements. */
static void plain_open(struct rig *r, struct disk *k)
{
	struct vhost_user_config c = { .kind = VHOST_KIND_FS, .tag = "data", .queue_size = 64 };

	memset(k, 0, sizeof(*k));
	k->rig = r;
	c.fd = vb_open(&k->b, F(32), 0, 1);
	vb_serve(&k->b);
	CHECK_EQ(disk_make(r, k, c), 0);
	vb_rest(&k->b);
	CHECK(vd_find(r, &k->d, 0x105a));
}

static void works_plain(struct rig *r)
{
	static struct disk k;
	char tag[6] = "";

	plain_open(r, &k);
	CHECK_EQ(vd_features(&k.d), VF_CORE & ~(VF_RING_RESET | VF_INDIRECT));
	for (unsigned i = 0; i < 5; i++)
		tag[i] = (char)rig_read(r, k.d.config + i, 1);
	CHECK(!strcmp(tag, "data"));
	CHECK_EQ(rig_read(r, k.d.config + 36, 4), 1);
	vd_start_queues(&k.d, 0, 64, 2);
	disk_settle(&k);
	disk_passes(&k);
	CHECK_EQ(vb_count(&k.b, VHOST_SET_VRING_ENABLE), 0);
	disk_end(&k);
}

/* More than the peer's ring holds: the rest comes when there is room. */
static void fills_the_ring(struct rig *r)
{
	static struct disk k;
	struct vb_chain chain;
	unsigned taken = 0;

	plain_open(r, &k);
	vd_start_queues(&k.d, 0, 64, 2);
	disk_settle(&k);
	disk_reads(&k, 21);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned n = 0; n < 21; n++) {
			CHECK(vb_take(&k.b, 0, &chain));
			CHECK_EQ(chain.count, 3);
			vb_give(&k.b, 0, chain.head, 1);
			taken++;
		}
		CHECK(!vb_take(&k.b, 0, &chain));
		vb_call(&k.b, 0);
		disk_settle(&k);
		CHECK_EQ(vd_used_idx(&k.d), taken);
		disk_reads(&k, 21);
	}
	disk_end(&k);
}

static void resets(struct rig *r)
{
	static struct disk k;
	struct vb_chain c;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 3);
	CHECK(vb_take(&k.b, 0, &c));
	told_start(&k.d);
	vd_set(&k.d, VC_STATUS, 1, 0);
	CHECK(vd_get(&k.d, VC_STATUS, 1) != 0); /* the peer has buffers of the guest's */
	disk_settle(&k);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	CHECK_EQ(told_ranges(), 6); /* it may have written to all of them */
	told_start(NULL);
	CHECK_EQ(vb_count(&k.b, VHOST_GET_VRING_BASE), 2);
	CHECK(!k.b.ring[0].running);
	disk_start(&k, F(BLK_FLUSH)); /* and again, with other features */
	CHECK_EQ(k.b.accepted, BASE_FEATURES | F(BLK_FLUSH));
	disk_passes(&k);
	disk_end(&k);
}

/* The guest begins anew before the peer knows that it had ended. */
static void resets_quickly(struct rig *r)
{
	static struct disk k;

	disk_open_started(r, &k, 0);
	for (unsigned i = 0; i < 5; i++)
		vd_start_queues(&k.d, i & 1 ? F(BLK_FLUSH) : 0, 64, 2);
	disk_settle(&k);
	CHECK(k.b.ring[0].running);
	CHECK_EQ(k.b.accepted, BASE_FEATURES);
	disk_passes(&k);
	disk_end(&k);
}

/* It does not stop when told to: the reset is over when the time is. */
static void resets_without_answer(struct rig *r)
{
	static struct disk k;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 3);
	k.b.sin = VB_SILENT;
	k.b.sin_at = VHOST_GET_VRING_BASE;
	vd_set(&k.d, VC_STATUS, 1, 0);
	disk_settle(&k);
	CHECK(vd_get(&k.d, VC_STATUS, 1) != 0);
	rig_advance(r, (VHOST_REPLY_MS - 1) * 1000000ull);
	disk_settle(&k);
	CHECK(vd_get(&k.d, VC_STATUS, 1) != 0);
	rig_advance(r, 2000000);
	disk_settle(&k);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	CHECK(!disk_info(&k).up);
	CHECK(disk_why(&k, "did not answer GET_VRING_BASE within 5 seconds"));
	disk_end(&k);
}

static void comes_back(struct rig *r)
{
	static struct disk k;
	struct vb_chain c[4];
	uint32_t id, len;

	disk_open_started(r, &k, F(BLK_FLUSH));
	disk_reads(&k, 4);
	for (unsigned i = 0; i < 3; i++)
		CHECK(vb_take(&k.b, 0, &c[i]));
	vb_give(&k.b, 0, c[1].head, 513); /* its last deed, without a call */
	vb_close(&k.b);
	disk_settle(&k);
	CHECK(!disk_info(&k).up);
	CHECK(disk_why(&k, "it closed the connection"));
	CHECK_EQ(vd_used_idx(&k.d), 1);
	vd_used(&k.d, 0, &id, &len);
	CHECK_EQ(id, 3);
	disk_push(&k, 4); /* meanwhile the guest goes on */
	vd_kick(&k.d, 0);
	disk_settle(&k);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0xf);
	disk_next(&k);
	disk_settle(&k);
	CHECK(disk_info(&k).up);
	CHECK_EQ(disk_info(&k).changes, 2);
	CHECK_EQ(k.b2.accepted, BASE_FEATURES | F(BLK_FLUSH));
	for (unsigned i = 0; i < 4; i++) { /* 0, 2, 3 again, then 4 */
		CHECK(vb_take(&k.b2, 0, &c[i]));
		CHECK_EQ(c[i].part[0].gpa, DATA + 0x1000ull * (i ? i + 1 : 0));
		vb_give(&k.b2, 0, c[i].head, 513);
	}
	CHECK(!vb_take(&k.b2, 0, &c[0]));
	vb_call(&k.b2, 0);
	disk_settle(&k);
	CHECK_EQ(vd_used_idx(&k.d), 5);
	disk_end(&k);
}

/* A reset while nobody is there does not wait for anybody. */
static void resets_alone(struct rig *r)
{
	static struct disk k;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 2);
	vb_close(&k.b);
	disk_settle(&k);
	vd_set(&k.d, VC_STATUS, 1, 0);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	vd_start_queues(&k.d, 0, 64, 2);
	disk_reads(&k, 2);
	disk_next(&k);
	disk_settle(&k);
	CHECK(k.b2.ring[0].running);
	disk_take_over(&k);
	CHECK_EQ(vd_used_idx(&k.d), 0);
	disk_end(&k);
}

static void changes_peers(struct rig *r)
{
	static struct disk k;
	struct vb_chain c;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 1);
	disk_next(&k); /* while the first is alive */
	disk_settle(&k);
	CHECK(disk_info(&k).up);
	CHECK(!vb_step(&k.b) && k.b2.ring[0].running);
	CHECK(vb_take(&k.b2, 0, &c));
	disk_end(&k);
}

/* One that can do less than the guest was promised does not get in. */
static void refuses_less(struct rig *r)
{
	static const struct {
		uint64_t without_features, without_protocol, queues;
		const char *why;
	} cases[] = {
		{ F(BLK_FLUSH), 0, 4, "it lacks features 0x200" },
		{ F(28), 0, 4, "it lacks features 0x10000000" },
		{ F(32), 0, 4, "it lacks features 0x100000000" },
		{ 0, F(VHOST_PROTOCOL_CONFIG), 4, "it has no configuration space" },
		{ 0, 0, 1, "it has 1 queues, too few" },
	};
	static struct disk k;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 2);
	vb_close(&k.b);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		disk_next(&k);
		k.b2.features &= ~cases[i].without_features;
		k.b2.protocol &= ~cases[i].without_protocol;
		k.b2.queues = cases[i].queues;
		disk_settle(&k);
		CHECK(!disk_info(&k).up);
		CHECK(disk_why(&k, cases[i].why));
		CHECK_EQ(vb_count(&k.b2, VHOST_SET_MEM_TABLE), 0);
		vb_close(&k.b2);
	}
	disk_next(&k);
	disk_settle(&k);
	CHECK(disk_info(&k).up && k.b2.ring[0].running);
	disk_end(&k);
}

static void pauses(struct rig *r)
{
	static struct disk k;
	struct vb_chain c;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 3);
	CHECK(vb_take(&k.b, 0, &c));
	vb_give(&k.b, 0, c.head, 513);
	CHECK(vb_take(&k.b, 0, &c));
	vb_serve(&k.b);
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine); /* two seconds: the others are not done */
	vb_rest(&k.b);
	CHECK_EQ(vd_used_idx(&k.d), 1);
	CHECK_EQ(vb_count(&k.b, VHOST_GET_VRING_BASE), 2);
	disk_push(&k, 3);
	vd_kick(&k.d, 0);
	disk_settle(&k);
	CHECK(!vb_take(&k.b, 0, &c));
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	disk_settle(&k);
	for (unsigned i = 1; i < 4; i++) {
		CHECK(vb_take(&k.b, 0, &c));
		CHECK_EQ(c.part[0].gpa, DATA + 0x1000ull * i);
		vb_give(&k.b, 0, c.head, 1);
	}
	vb_call(&k.b, 0);
	disk_settle(&k);
	CHECK_EQ(vd_used_idx(&k.d), 4);
	disk_end(&k);
}

/* The machine's reset, with and without a peer that answers. */
static void machine_resets(struct rig *r)
{
	static struct disk k;

	disk_open_started(r, &k, 0);
	disk_reads(&k, 3);
	vb_serve(&k.b);
	machine_reset_devices(r->machine);
	vb_rest(&k.b);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	CHECK(!k.b.ring[0].running && disk_info(&k).up);
	disk_start(&k, 0);
	disk_reads(&k, 3);
	vb_close(&k.b);
	machine_reset_devices(r->machine);
	CHECK_EQ(vd_get(&k.d, VC_STATUS, 1), 0);
	CHECK(!disk_info(&k).up);
	disk_end(&k);
}

static void tells_its_config(struct rig *r)
{
	static struct disk k;
	uint8_t answer[20];

	disk_open_started(r, &k, 0);
	put_le64(k.b.config, 4096);
	CHECK(vb_config_changed(&k.b, true));
	disk_settle(&k);
	CHECK_EQ(rig_read(r, k.d.config, 4), 4096);
	CHECK_EQ(rig_read(r, k.d.config + 34, 2), 2);
	CHECK_EQ(rig_read(r, k.d.isr, 1) & 2, 2);
	CHECK_EQ(read(k.b.request_fd, answer, sizeof(answer)), 20);
	CHECK_EQ(get_le64(answer + 12), 0);
	disk_passes(&k);
	CHECK_EQ(write(k.b.request_fd, "0123456789abcdef", 16), 16); /* no message at all */
	disk_settle(&k);
	CHECK(disk_info(&k).up); /* costs only that socket */
	CHECK(!vb_config_changed(&k.b, false));
	disk_end(&k);
}

/* --- a network card ------------------------------------------------------------------------------ */

static void network_card(struct rig *r)
{
	struct vhost_user_config c = { .kind = VHOST_KIND_NET, .queue_size = 64,
				       .mac = { 0x52, 1, 2, 3, 4, 5 } };
	static struct disk k;
	struct vb_chain chain;

	memset(&k, 0, sizeof(k));
	k.rig = r;
	c.fd = vb_open(&k.b, BASE_FEATURES | F(0) | F(15) | F(17) | F(22), PROTOCOLS, 1);
	vb_serve(&k.b);
	CHECK_EQ(disk_make(r, &k, c), 0);
	vb_rest(&k.b);
	CHECK(vd_find(r, &k.d, 0x1041));
	CHECK_EQ(vd_features(&k.d), (VF_CORE & ~VF_RING_RESET) | F(0) | F(15) | F(5) | F(16));
	CHECK_EQ(rig_read(r, k.d.config, 4), 0x03020152);
	CHECK_EQ(rig_read(r, k.d.config + 6, 2), 1);
	vd_start_queues(&k.d, F(5) | F(16), 64, 2);
	disk_settle(&k);
	CHECK_EQ(k.b.accepted, BASE_FEATURES); /* not those that it never offered */
	vd_desc(&k.d, 0, DATA, 2048, VD_WRITE, 0);
	vd_push(&k.d, 0);
	vd_kick(&k.d, 0);
	disk_settle(&k);
	CHECK(vb_take(&k.b, 0, &chain));
	vb_serve(&k.b);
	machine_pause_devices(r->machine); /* does not wait for packets */
	machine_resume_devices(r->machine);
	vb_rest(&k.b);
	disk_settle(&k);
	CHECK(vb_take(&k.b, 0, &chain)); /* the same again */
	vb_close(&k.b);
	disk_settle(&k);
	CHECK_EQ(rig_read(r, k.d.config + 6, 2), 0); /* the cable is pulled */
	CHECK_EQ(rig_read(r, k.d.isr, 1) & 2, 2);
	CHECK_EQ(vd_used_idx(&k.d), 0);
	disk_end(&k);
}

static const struct rig_case cases[] = {
	{ "what the guest is offered", offers },
	{ "requests", works },
	{ "requests, MMIO, packed rings", works_mmio_packed },
	{ "requests, a peer that can do little", works_plain },
	{ "full rings", fills_the_ring },
	{ "reset with requests under way", resets },
	{ "reset again and again", resets_quickly },
	{ "reset, and the peer does not answer", resets_without_answer },
	{ "a peer that dies and comes back", comes_back },
	{ "reset without a peer", resets_alone },
	{ "one peer for another", changes_peers },
	{ "a peer that offers less", refuses_less },
	{ "pause and resume", pauses },
	{ "reset of the machine", machine_resets },
	{ "a new configuration", tells_its_config },
	{ "a network card", network_card },
};

int main(int argc, char **argv)
{
	return rig_main("vhost", cases, ARRAY_SIZE(cases), argc, argv);
}
