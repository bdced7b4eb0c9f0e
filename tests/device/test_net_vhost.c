/* SPDX-License-Identifier: Apache-2.0 */
/* A network card whose packets the kernel moves, with a kernel that is ours (vkernel.h). */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/net.h"
#include "machine/loop.h"
#include "tests/device/vdriver.h"
#include "tests/device/vkernel.h"

#include <linux/vhost.h> /* the last: its names are vhost-user's too */

#define F(n) VK_F(n)
#define HEADER 12u

enum { RX = 0, TX = 1 };

/* --- a card with it ------------------------------------------------------------------------------ */

struct card {
	struct rig *rig;
	struct vdriver d;
	struct device *dev;
	char why[NET_WHY_MAX];
};

static int card_make(struct rig *r, struct card *c, bool must)
{
	struct virtio_net_config config = { .kind = NET_TAP, .mac = { 0x52, 0x54, 0, 1, 2, 3 },
					    .fd_count = kernel.pairs, .vhost_count = kernel.pairs,
					    .vhost_must = must, .why = c->why };

	memset(c, 0, sizeof(*c));
	c->rig = r;
	memcpy(config.fds, kernel.tap, sizeof(kernel.tap));
	memcpy(config.vhost_fds, kernel.vhost, sizeof(kernel.vhost));
	return device_create(r->machine, &virtio_net_class, &config, &c->dev);
}

static void card_open(struct rig *r, struct card *c, unsigned pairs)
{
	vk_open(pairs);
	CHECK_EQ(card_make(r, c, true), 0);
	CHECK(vd_find(r, &c->d, 0x1041));
}

static void card_start(struct card *c, uint64_t features)
{
	vd_start_queues(&c->d, features | F(NET_F_MAC) | F(NET_F_STATUS), 64, 2 * kernel.pairs);
	rig_turn(c->rig);
}

static struct virtio_net_info info(struct card *c)
{
	struct virtio_net_info info;

	virtio_net_info(c->dev, &info);
	return info;
}

static uint64_t tx_at(unsigned i) { return VD_BUFFERS + i * 0x1000ull; }
static uint64_t rx_at(unsigned i) { return VD_BUFFERS + 0x80000ull + i * 0x1000ull; }

/* A packet in two descriptors, header and frame, of transmit queue `queue`. */
static void transmit(struct card *c, unsigned queue, unsigned i, uint32_t len)
{
	uint8_t packet[HEADER + 2048] = { 0 };

	memset(packet + HEADER, (int)(i + 1), len);
	vd_select(&c->d, queue);
	vd_store(&c->d, tx_at(i), packet, HEADER + len);
	vd_desc(&c->d, 2 * i, tx_at(i), HEADER, VD_NEXT, (uint16_t)(2 * i + 1));
	vd_desc(&c->d, 2 * i + 1, tx_at(i) + HEADER, len, 0, 0);
	vd_push(&c->d, (uint16_t)(2 * i));
	vd_kick(&c->d, queue);
	rig_turn(c->rig);
}

static void post(struct card *c, unsigned queue, unsigned i, uint32_t len)
{
	vd_select(&c->d, queue);
	vd_desc(&c->d, i, rx_at(i), len, VD_WRITE, 0);
	vd_push(&c->d, (uint16_t)i);
	vd_kick(&c->d, queue);
	rig_turn(c->rig);
}

/* The kernel sends the next packet; its length without header, 0: there is none. */
static uint32_t sent(struct card *c, unsigned queue, uint8_t *ret_first)
{
	struct vb_chain chain;
	uint32_t len = 0;

	if (!vb_take(&kernel.b, queue, &chain))
		return 0;
	for (unsigned i = 0; i < chain.count; i++) {
		CHECK(!chain.part[i].write);
		len += chain.part[i].len;
	}
	*ret_first = *vb_memory(&kernel.b, chain.part[chain.count - 1].gpa, 1);
	vb_give(&kernel.b, queue, chain.head, 0);
	vb_call(&kernel.b, queue);
	rig_turn(c->rig);
	return len - HEADER;
}

/* The kernel receives a packet into one buffer. */
static bool received(struct card *c, unsigned queue, uint8_t first, uint32_t len, uint16_t buffers)
{
	struct vb_chain chain;
	uint8_t *to;

	if (!vb_take(&kernel.b, queue, &chain))
		return false;
	CHECK(chain.count == 1 && chain.part[0].write && chain.part[0].len >= len);
	to = vb_memory(&kernel.b, chain.part[0].gpa, len);
	if (buffers) {
		memset(to, 0, HEADER);
		put_le16(to + HEADER - 2, buffers);
		memset(to + HEADER, first, len - HEADER);
	}
	vb_give(&kernel.b, queue, chain.head, len);
	vb_call(&kernel.b, queue);
	rig_turn(c->rig);
	return true;
}

/* --- cases --------------------------------------------------------------------------------------- */

static void moves_packets(struct rig *r)
{
	static struct card c;
	uint8_t first = 0, bytes[HEADER + 1];
	uint32_t id, len;

	card_open(r, &c, 1);
	CHECK(!(vd_features(&c.d) & VF_RING_RESET));
	CHECK(kernel.owned[0] && !kernel.starts);
	CHECK(info(&c).vhost);
	card_start(&c, 0);
	CHECK_EQ(kernel.starts, 2);
	CHECK_EQ(kernel.b.accepted, F(32) | F(28));
	transmit(&c, TX, 0, 60);
	transmit(&c, TX, 1, 1514);
	CHECK_EQ(sent(&c, TX, &first), 60);
	CHECK_EQ(first, 1);
	CHECK_EQ(sent(&c, TX, &first), 1514);
	CHECK_EQ(first, 2);
	CHECK_EQ(sent(&c, TX, &first), 0);
	vd_select(&c.d, TX);
	CHECK_EQ(vd_used_idx(&c.d), 2);
	post(&c, RX, 0, 1600);
	CHECK(received(&c, RX, 7, HEADER + 100, 9)); /* one buffer has one, whatever was there */
	vd_select(&c.d, RX);
	CHECK_EQ(vd_used_idx(&c.d), 1);
	vd_used(&c.d, 0, &id, &len);
	CHECK_EQ(len, HEADER + 100);
	vd_load(&c.d, rx_at(0), bytes, sizeof(bytes));
	CHECK_EQ(get_le16(bytes + HEADER - 2), 1);
	CHECK_EQ(bytes[HEADER], 7);
	CHECK_EQ(info(&c).counters.tx_packets, 2);
	CHECK_EQ(info(&c).counters.tx_bytes, 1574);
	CHECK_EQ(info(&c).counters.rx_packets, 1);
	CHECK_EQ(info(&c).counters.rx_bytes, 100);
	CHECK_EQ(send(kernel.peer[0], "x", 1, 0), 1); /* the tap is the kernel's: not read here */
	rig_turn(r);
	CHECK_EQ(recv(kernel.tap[0], bytes, 1, 0), 1);
	vk_close();
}

static void mergeable(struct rig *r)
{
	static struct card c;

	card_open(r, &c, 1);
	card_start(&c, F(NET_F_MRG_RXBUF) | VF_PACKED);
	CHECK_EQ(kernel.b.accepted, F(32) | F(28) | F(NET_F_MRG_RXBUF));
	for (unsigned i = 0; i < 3; i++)
		post(&c, RX, i, 256);
	CHECK(received(&c, RX, 1, 256, 2)); /* two buffers, one packet */
	CHECK(received(&c, RX, 1, 100, 0));
	CHECK(received(&c, RX, 2, 80, 1));
	CHECK(vd_wait(&c.d, 3));
	CHECK_EQ(info(&c).counters.rx_packets, 2);
	CHECK_EQ(info(&c).counters.rx_bytes, 256 + 100 - HEADER + 80 - HEADER);
	vk_close();
}

/* Chains that would stop the kernel's queue come back, and the next one is served. */
static void guest_errors(struct rig *r)
{
	static struct card c;
	uint8_t first;

	card_open(r, &c, 1);
	card_start(&c, 0);
	vd_select(&c.d, TX);
	vd_desc(&c.d, 0, tx_at(0), 100, VD_WRITE, 0); /* to be written */
	vd_push(&c.d, 0);
	vd_desc(&c.d, 1, tx_at(1), HEADER, 0, 0);     /* no frame */
	vd_push(&c.d, 1);
	vd_kick(&c.d, TX);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 2);
	vd_select(&c.d, RX);
	vd_desc(&c.d, 0, rx_at(0), 100, 0, 0);        /* to be read */
	vd_push(&c.d, 0);
	vd_kick(&c.d, RX);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 1);
	CHECK_EQ(info(&c).counters.tx_dropped, 2);
	transmit(&c, TX, 2, 60);
	CHECK_EQ(sent(&c, TX, &first), 60);
	vd_select(&c.d, TX);
	vd_desc(&c.d, 9, RIG_MEMORY, 100, 0, 0);      /* no memory */
	vd_push(&c.d, 9);
	vd_kick(&c.d, TX);
	rig_turn(r);
	CHECK(vd_get(&c.d, VC_STATUS, 1) & 64);
	CHECK_EQ(sent(&c, TX, &first), 0);
	card_start(&c, 0);                            /* a reset helps */
	transmit(&c, TX, 0, 60);
	CHECK_EQ(sent(&c, TX, &first), 60);
	vk_close();
}

/* After a reset nothing of the guest's is with the kernel, which stands. */
static void resets(struct rig *r)
{
	static struct card c;
	uint8_t first;

	card_open(r, &c, 1);
	for (unsigned i = 0; i < 3; i++) {
		card_start(&c, 0);
		CHECK_EQ(kernel.starts, 2 * (i + 1));
		post(&c, RX, 0, 1600);
		transmit(&c, TX, 0, 60 + i);
		if (i == 1)
			CHECK_EQ(sent(&c, TX, &first), 61);
		vd_set(&c.d, VC_STATUS, 1, 0);
		CHECK_EQ(vd_get(&c.d, VC_STATUS, 1), 0);
		CHECK_EQ(kernel.stops, 2 * (i + 1));
		CHECK(!received(&c, RX, 1, 100, 1));
	}
	card_start(&c, 0);
	c.dev->class->pause(c.dev);
	c.dev->class->reset(c.dev);
	c.dev->class->resume(c.dev);
	CHECK_EQ(kernel.stops, 8);
	CHECK_EQ(kernel.starts, 8);
	vk_close();
}

/* What the kernel had when the machine stood still it has again, once and in order. */
static void pauses(struct rig *r)
{
	static struct card c;
	uint8_t first = 0;

	card_open(r, &c, 1);
	card_start(&c, 0);
	post(&c, RX, 0, 1600);
	post(&c, RX, 1, 1600);
	for (unsigned i = 0; i < 3; i++)
		transmit(&c, TX, i, 60 + i);
	CHECK_EQ(sent(&c, TX, &first), 60);
	c.dev->class->pause(c.dev);
	CHECK_EQ(kernel.stops, 2);
	c.dev->class->resume(c.dev);
	rig_turn(r);
	CHECK_EQ(kernel.starts, 4);
	CHECK_EQ(sent(&c, TX, &first), 61);
	CHECK_EQ(sent(&c, TX, &first), 62);
	CHECK_EQ(sent(&c, TX, &first), 0);
	CHECK(received(&c, RX, 5, 100, 1));
	CHECK(received(&c, RX, 6, 100, 1));
	CHECK(!received(&c, RX, 7, 100, 1));
	vd_select(&c.d, RX);
	CHECK_EQ(vd_used_idx(&c.d), 2);
	vk_close();
}

/* The kernel cannot go on: what it had comes back, and packets go without it. */
static void falls_back(struct rig *r)
{
	static struct card c;
	uint8_t packet[HEADER + 2048];

	card_open(r, &c, 1);
	card_start(&c, 0);
	post(&c, RX, 0, 1600);
	transmit(&c, TX, 0, 60);
	CHECK(eventfd_write(kernel.err_fd, 1) == 0);
	rig_turn(r);
	CHECK(!info(&c).vhost && info(&c).link);
	CHECK_EQ(kernel.stops, 2);
	vd_select(&c.d, TX);
	CHECK_EQ(vd_used_idx(&c.d), 1);
	transmit(&c, TX, 1, 77);
	CHECK_EQ(recv(kernel.peer[0], packet, sizeof(packet), 0), HEADER + 77);
	post(&c, RX, 1, 1600);
	memset(packet, 0, sizeof(packet));
	memset(packet + HEADER, 0xff, 6);
	CHECK_EQ(send(kernel.peer[0], packet, HEADER + 99, 0), HEADER + 99);
	rig_turn(r);
	vd_select(&c.d, RX);
	CHECK_EQ(vd_used_idx(&c.d), 2);
	card_start(&c, 0);
	CHECK_EQ(kernel.starts, 2);
	vk_close();
}

/* A kernel that refuses, at each step. */
static void refusals(struct rig *r)
{
	static const struct {
		unsigned long request;
		bool at_creation;
	} requests[] = {
		{ VHOST_SET_OWNER, true }, { VHOST_GET_FEATURES, true }, { VHOST_SET_FEATURES, false },
		{ VHOST_SET_MEM_TABLE, false }, { VHOST_SET_VRING_NUM, false },
		{ VHOST_SET_VRING_ADDR, false }, { VHOST_SET_VRING_KICK, false },
		{ VHOST_NET_SET_BACKEND, false },
	};
	uint8_t packet[HEADER + 2048];
	static struct card c;

	vk_open(1);
	kernel.features &= ~F(28);
	CHECK_EQ(card_make(r, &c, true), -ENOTSUP);
	CHECK(strstr(c.why, "vhost-net cannot be used"));
	CHECK(fcntl(kernel.vhost[0], F_GETFD) >= 0 && fcntl(kernel.tap[0], F_GETFD) >= 0); /* still ours */
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		vk_open(1);
		kernel.refused = requests[i].request;
		kernel.error = EBUSY;
		if (requests[i].at_creation)
			CHECK_EQ(card_make(r, &c, true), -EBUSY);
		kernel.owned[0] = false;
		CHECK_EQ(card_make(r, &c, false), 0);
		CHECK_EQ(info(&c).vhost, !requests[i].at_creation);
		CHECK(vd_find(r, &c.d, 0x1041));
		card_start(&c, 0);
		CHECK(!info(&c).vhost);
		transmit(&c, TX, 0, 60);
		CHECK_EQ(recv(kernel.peer[0], packet, sizeof(packet), 0), HEADER + 60);
		device_destroy(c.dev);
		vk_close();
	}
}

/* Two pairs: the second is the kernel's when the driver says that it uses it. */
static void pairs(struct rig *r)
{
	static struct card c;
	uint8_t ack = 0xff, command[4] = { 4, 0, 2, 0 }, first;

	card_open(r, &c, 2);
	vd_start_queues(&c.d, F(NET_F_MAC) | F(NET_F_STATUS) | F(NET_F_MQ) | F(NET_F_CTRL_VQ), 64, 5);
	rig_turn(r);
	CHECK_EQ(kernel.starts, 2);
	post(&c, RX, 0, 1600);
	transmit(&c, 3, 0, 60);
	CHECK_EQ(sent(&c, 3, &first), 0);
	vd_select(&c.d, 4);
	vd_store(&c.d, tx_at(8), command, sizeof(command));
	vd_store(&c.d, tx_at(9), &ack, 1);
	vd_desc(&c.d, 0, tx_at(8), 2, VD_NEXT, 1);
	vd_desc(&c.d, 1, tx_at(8) + 2, 2, VD_NEXT, 2);
	vd_desc(&c.d, 2, tx_at(9), 1, VD_WRITE, 0);
	vd_push(&c.d, 0);
	vd_kick(&c.d, 4);
	rig_turn(r);
	vd_load(&c.d, tx_at(9), &ack, 1);
	CHECK_EQ(ack, 0);
	CHECK_EQ(kernel.starts, 6);
	CHECK_EQ(sent(&c, 3, &first), 60);
	CHECK(received(&c, RX, 1, 100, 1));
	vk_close();
}

/* The tap is gone: the guest sees its cable pulled, and gets back what was on its way. */
static void tap_is_gone(struct rig *r)
{
	static struct card c;

	card_open(r, &c, 1);
	card_start(&c, 0);
	post(&c, RX, 0, 1600);
	transmit(&c, TX, 0, 60);
	close(kernel.peer[0]);
	shutdown(kernel.tap[0], SHUT_RDWR);
	rig_turn(r);
	CHECK(!info(&c).link);
	CHECK_EQ(kernel.stops, 2);
	vd_select(&c.d, TX);
	CHECK_EQ(vd_used_idx(&c.d), 1);
	c.dev->class->pause(c.dev);
	c.dev->class->lose(c.dev);
	c.dev->class->resume(c.dev);
	CHECK_EQ(kernel.starts, 2);
	kernel.peer[0] = -1;
	vk_close();
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "moves packets", moves_packets },
		{ "mergeable buffers", mergeable },
		{ "guest errors", guest_errors },
		{ "resets", resets },
		{ "pauses", pauses },
		{ "falls back", falls_back },
		{ "refusals", refusals },
		{ "two pairs", pairs },
		{ "a tap that is gone", tap_is_gone },
	};

	return rig_main("net-vhost", cases, ARRAY_SIZE(cases), argc, argv);
}
