/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net over virtio-pci, with a stream socket behind it whose other end is ours. */
#include <config.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/backend/net.h"
#include "devices/virtio/net.h"
#include "machine/loop.h"
#include "tests/device/vdriver.h"

enum { RX = 0, TX = 1, CTRL = 2 };
#define HEADER 12u
/* MAC, STATUS; CSUM; MRG_RXBUF; CTRL_VQ, _RX, _RX_EXTRA, GUEST_ANNOUNCE, CTRL_MAC_ADDR */
#define STREAM_FEATURES \
	(1u << 5 | 1u << 16 | 1u << 0 | 1u << 15 | 1u << 17 | 1u << 18 | 1u << 20 | 1u << 21 | 1u << 23)

struct card {
	struct vdriver d;
	struct device *dev;
	int fd; /* the peer's end */
	uint8_t got[1 << 18];
	size_t len, want;
};

static void card_open(struct rig *r, struct card *c)
{
	struct virtio_net_config config = { .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
	int fds[2];

	c->len = 0;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	c->fd = fds[0];
	config.kind = NET_STREAM;
	config.fds[0] = fds[1];
	config.fd_count = 1;
	c->dev = rig_add(r, &virtio_net_class, &config);
	CHECK(vd_find(r, &c->d, 0x1041));
}

static void card_start(struct card *c, uint64_t features)
{
	vd_start_queues(&c->d, features | 1 << 5 | 1 << 16, 64, 2);
}

static bool peer_reads(void *opaque)
{
	struct card *c = opaque;
	ssize_t n = read(c->fd, c->got + c->len, sizeof(c->got) - c->len);

	if (n > 0)
		c->len += (size_t)n;
	return c->len >= c->want;
}

static bool peer_wait(struct card *c, size_t want)
{
	c->want = want;
	return rig_turn_until(c->d.rig, peer_reads, c);
}

static bool peer_sends(struct card *c, uint32_t len, uint8_t fill)
{
	uint8_t frame[4 + 2048];
	uint32_t be = htonl(len);

	memcpy(frame, &be, 4);
	memset(frame + 4, fill, len);
	return write(c->fd, frame, 4 + len) == (ssize_t)(4 + len);
}

/* A packet of header and frame in descriptor i of the transmit queue. */
static void transmit(struct card *c, unsigned i, uint32_t frame_len)
{
	uint8_t packet[HEADER + 2048] = { 0 };

	vd_select(&c->d, TX);
	memset(packet + HEADER, (int)(i + 1), frame_len);
	vd_store(&c->d, VD_BUFFERS + i * 0x1000, packet, HEADER + frame_len);
	vd_desc(&c->d, i, VD_BUFFERS + i * 0x1000, HEADER + frame_len, 0, 0);
	vd_push(&c->d, (uint16_t)i);
}

static void post_buffer(struct card *c, unsigned i, uint32_t len)
{
	vd_select(&c->d, RX);
	vd_desc(&c->d, i, VD_BUFFERS + 0x80000 + i * 0x1000, len, VD_WRITE, 0);
	vd_push(&c->d, (uint16_t)i);
	vd_kick(&c->d, RX);
}

static void configuration(struct rig *r)
{
	static struct card c;

	card_open(r, &c);
	CHECK_EQ(vd_features(&c.d), VF_CORE | STREAM_FEATURES);
	CHECK_EQ(rig_read(r, c.d.config, 4), 0x01005452);
	CHECK_EQ(rig_read(r, c.d.config + 4, 2), 0x0302);
	CHECK_EQ(rig_read(r, c.d.config + 6, 2), 1); /* link up */
	CHECK_EQ(vd_get(&c.d, VC_NUMQ, 2), 3);
	card_start(&c, 0);
	close(c.fd);
	rig_turn(r);
	CHECK_EQ(rig_read(r, c.d.config + 6, 2), 0); /* the cable is pulled */
	CHECK_EQ(rig_read(r, c.d.isr, 1) & 2, 2);
	transmit(&c, 0, 60); /* goes nowhere, and comes back */
	vd_kick(&c.d, TX);
	CHECK(vd_wait(&c.d, 1));
}

static void sends(struct rig *r)
{
	static struct card c;
	uint32_t len;

	card_open(r, &c);
	card_start(&c, 0);
	transmit(&c, 0, 60);
	transmit(&c, 1, 1514);
	transmit(&c, 2, 13);   /* no frame */
	transmit(&c, 3, 14);
	vd_kick(&c.d, TX);
	CHECK(vd_wait(&c.d, 4));
	CHECK(peer_wait(&c, 4 + 60 + 4 + 1514 + 4 + 14));
	memcpy(&len, c.got, 4);
	CHECK_EQ(ntohl(len), 60);
	CHECK_EQ(c.got[4], 1);
	memcpy(&len, c.got + 64, 4);
	CHECK_EQ(ntohl(len), 1514);
	CHECK_EQ(c.got[68 + 1513], 2);
	CHECK_EQ(c.got[68 + 1514 + 4], 4);
	CHECK_EQ(c.len, 4 + 60 + 4 + 1514 + 4 + 14);
	close(c.fd);
}

static void receives(struct rig *r)
{
	static struct card c;
	uint8_t packet[HEADER + 100];
	uint32_t id, len;

	card_open(r, &c);
	CHECK(peer_sends(&c, 60, 0x11)); /* nobody drives the card: lost */
	rig_turn(r);
	card_start(&c, 0);
	CHECK(peer_sends(&c, 100, 0x22)); /* no buffer yet: waits */
	CHECK(peer_sends(&c, 64, 0x33));
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 0);
	post_buffer(&c, 7, 1526);
	CHECK(vd_wait(&c.d, 1));
	vd_used(&c.d, 0, &id, &len);
	CHECK_EQ(id, 7);
	CHECK_EQ(len, HEADER + 100);
	vd_load(&c.d, VD_BUFFERS + 0x80000 + 7 * 0x1000, packet, sizeof(packet));
	CHECK_EQ(packet[0], 0);
	CHECK_EQ(packet[10], 1);
	CHECK_EQ(packet[HEADER], 0x22);
	CHECK_EQ(packet[HEADER + 99], 0x22);
	post_buffer(&c, 8, 1526);
	CHECK(vd_wait(&c.d, 2));
	vd_used(&c.d, 1, &id, &len);
	CHECK_EQ(len, HEADER + 64);
	post_buffer(&c, 9, 40); /* too small a buffer: the frame is lost, no more */
	CHECK(peer_sends(&c, 60, 0x44));
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 2);
	CHECK(peer_sends(&c, 20, 0x55)); /* what fits does use it */
	CHECK(vd_wait(&c.d, 3));
	vd_used(&c.d, 2, &id, &len);
	CHECK_EQ(len, HEADER + 20);
	CHECK_EQ(vd_get(&c.d, VC_STATUS, 1), 0xf);
	close(c.fd);
}

/* A peer that reads nothing: frames wait for a second, then they are dropped, the guest goes on. One that sends without end is
 * slowed down by its own socket. */
static void floods(struct rig *r)
{
	static struct card c;
	unsigned i, round, stalls = 0;

	card_open(r, &c);
	card_start(&c, VF_EVENT_IDX);
	for (round = 0; round < 40; round++) {
		for (i = 0; i < 32; i++)
			transmit(&c, i, 1514);
		vd_kick(&c.d, TX);
		rig_turn(r);
		if (vd_used_idx(&c.d) != c.d.avail && !stalls++) {
			rig_advance(r, 999999999);
			rig_turn(r);
			CHECK(vd_used_idx(&c.d) != c.d.avail); /* waits for room */
			rig_advance(r, 1);
		}
		CHECK(vd_wait(&c.d, c.d.avail)); /* from now on dropped at once */
	}
	CHECK_EQ(stalls, 1);
	for (i = 0; i < 100000 && peer_sends(&c, 1514, 0x55); i++)
		rig_turn(r);
	CHECK(i < 1000);
	CHECK(peer_wait(&c, 100000)); /* it reads again: frames arrive whole */
	CHECK_EQ(c.got[0] | c.got[1], 0);
	CHECK_EQ(c.got[2] << 8 | c.got[3], 1514);
	CHECK_EQ(c.got[1518 + 2] << 8 | c.got[1518 + 3], 1514);
	for (i = 0; i < 20; i++)
		post_buffer(&c, i, 1526);
	CHECK(vd_wait(&c.d, 20));
	close(c.fd);
}

static void hostile_peer(struct rig *r)
{
	static const uint32_t lengths[] = { 0, 13, NET_FRAME_MAX + 1, 0x7fffffff, 0xffffffff };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		static struct card c;
		struct rig other;
		uint32_t be = htonl(lengths[i]);

		rig_open(&other);
		card_open(&other, &c);
		card_start(&c, 0);
		post_buffer(&c, 0, 1526);
		CHECK(write(c.fd, &be, 3) == 3); /* in pieces */
		rig_turn(&other);
		CHECK_EQ(rig_read(&other, c.d.config + 6, 2), 1);
		CHECK(write(c.fd, (uint8_t *)&be + 3, 1) == 1);
		rig_turn(&other);
		CHECK_EQ(rig_read(&other, c.d.config + 6, 2), 0);
		CHECK_EQ(vd_used_idx(&c.d), 0);
		close(c.fd);
		rig_close(&other);
	}
	(void)r;
}

static void guest_errors(struct rig *r)
{
	static struct card c;

	card_open(r, &c);
	card_start(&c, 0);
	CHECK(peer_sends(&c, 60, 0x11));
	rig_turn(r); /* waits for a buffer */
	post_buffer(&c, 0, 1526);
	vd_select(&c.d, RX);
	vd_push(&c.d, 64); /* no such head */
	vd_kick(&c.d, RX);
	CHECK(peer_sends(&c, 60, 0x22));
	CHECK(vd_wait_status(&c.d, 0x40, 0x40));
	CHECK(peer_sends(&c, 60, 0x33)); /* dropped: no driver */
	rig_turn(r);
	card_start(&c, 0);
	CHECK(peer_sends(&c, 60, 0x44));
	post_buffer(&c, 0, 1526);
	CHECK(vd_wait(&c.d, 1));
	vd_cfg_write(&c.d, 4, 2, 2); /* bus master off: quiet */
	transmit(&c, 0, 60);
	vd_kick(&c.d, TX);
	CHECK(peer_sends(&c, 60, 0x55));
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 0);
	close(c.fd);
}

static void reset_and_pause(struct rig *r)
{
	static struct card c;

	card_open(r, &c);
	card_start(&c, 0);
	CHECK(peer_sends(&c, 60, 0x11));
	rig_turn(r); /* waits for a buffer */
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine);
	post_buffer(&c, 0, 1526);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 0);
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	CHECK(vd_wait(&c.d, 1));
	CHECK(peer_sends(&c, 60, 0x22));
	rig_turn(r); /* waits, and the driver goes away */
	vd_set(&c.d, VC_STATUS, 1, 0);
	rig_turn(r);
	card_start(&c, 0);
	post_buffer(&c, 1, 1526);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 0); /* it was for the old one */
	CHECK(peer_sends(&c, 60, 0x33));
	CHECK(vd_wait(&c.d, 1));
	close(c.fd);
}

static void bad_config(struct rig *r)
{
	struct virtio_net_config config = { .fds = { -1 }, .fd_count = 1,
					    .mac = { 2, 0, 0, 0, 0, 1 } };
	struct device *dev = NULL;
	int fds[2];

	CHECK_EQ(device_create(r->machine, &virtio_net_class, &config, &dev), (uint64_t)-EBADF);
	config.fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK_EQ(device_create(r->machine, &virtio_net_class, &config, &dev), (uint64_t)-ENOTSOCK);
	close(config.fds[0]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	config.fds[0] = fds[0];
	config.mac[0] = 1;
	CHECK_EQ(device_create(r->machine, &virtio_net_class, &config, &dev), (uint64_t)-EINVAL);
	CHECK(fcntl(fds[0], F_GETFD) >= 0); /* still ours */
	close(fds[0]);
	close(fds[1]);
}

/* --- with a peer that takes headers ------------------------------------------------------------ */

#define F(bit) (1ull << (bit))
#define PACKET_FEATURES \
	(STREAM_FEATURES | F(1) | F(2) | F(11) | F(12) | F(13)) /* GUEST_CSUM, HOST_TSO4, 6, ECN */

static void packet_open(struct rig *r, struct card *c, uint64_t features)
{
	struct virtio_net_config config = { .kind = NET_PACKET, .fd_count = 1,
					    .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	c->fd = fds[0];
	config.fds[0] = fds[1];
	c->dev = rig_add(r, &virtio_net_class, &config);
	CHECK(vd_find(r, &c->d, 0x1041));
	CHECK_EQ(vd_features(&c->d), VF_CORE | PACKET_FEATURES);
	vd_start_queues(&c->d, features, 64, 3);
}

/* Sends one packet with this header; what the peer gets of it, -1: nothing. */
static ssize_t sends_header(struct card *c, const uint8_t *header, uint32_t frame_len)
{
	static const uint8_t frame[2000];

	vd_select(&c->d, TX);
	vd_store(&c->d, VD_BUFFERS, header, HEADER);
	vd_store(&c->d, VD_BUFFERS + HEADER, frame, frame_len);
	vd_desc(&c->d, 0, VD_BUFFERS, HEADER + frame_len, 0, 0);
	vd_push(&c->d, 0);
	vd_kick(&c->d, TX);
	CHECK(vd_wait(&c->d, c->d.avail));
	return recv(c->fd, c->got, sizeof(c->got), MSG_DONTWAIT);
}

static void headers(struct rig *r)
{
	/* flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; frames of 1000 bytes */
	static const struct {
		uint8_t flags, gso;
		uint16_t hdr, size, start, offset;
		bool fine;
	} cases[] = {
		{ 0, 0, 0, 0, 0, 0, true },           { 1, 0, 0, 0, 34, 16, true },
		{ 1, 0, 0, 0, 982, 16, true },        { 1, 0, 0, 0, 983, 16, false },
		{ 1, 0, 0, 0, 0xffff, 0xffff, false }, { 1, 0, 0, 0, 998, 0, true },
		{ 1, 0, 0, 0, 999, 0, false },        { 1, 1, 54, 500, 34, 16, true },
		{ 1, 4, 74, 500, 54, 16, true },      { 1, 0x81, 54, 500, 34, 16, true },
		{ 0, 1, 54, 500, 34, 16, false },     { 1, 1, 54, 0, 34, 16, false },
		{ 1, 1, 1001, 500, 34, 16, false },   { 1, 2, 54, 500, 34, 16, false },
		{ 1, 3, 54, 500, 34, 6, false },      { 1, 5, 54, 500, 34, 6, false },
		{ 1, 0x80, 54, 500, 34, 16, false },  { 1, 0xff, 54, 500, 34, 16, false },
		{ 0xfc, 0, 9, 9, 9, 9, true },
	};
	static struct card c;

	packet_open(r, &c, PACKET_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint8_t h[HEADER] = {
			cases[i].flags, cases[i].gso, (uint8_t)cases[i].hdr,
			(uint8_t)(cases[i].hdr >> 8), (uint8_t)cases[i].size,
			(uint8_t)(cases[i].size >> 8), (uint8_t)cases[i].start,
			(uint8_t)(cases[i].start >> 8), (uint8_t)cases[i].offset,
			(uint8_t)(cases[i].offset >> 8), 0xff, 0xff,
		};

		CHECK_EQ(sends_header(&c, h, 1000), cases[i].fine ? HEADER + 1000 : (uint64_t)-1);
		if (cases[i].fine) { /* bits that mean nothing do not pass */
			CHECK_EQ(c.got[0] & ~3, 0);
			CHECK_EQ(c.got[10] | c.got[11], 0);
		}
	}
	CHECK_EQ(vd_get(&c.d, VC_STATUS, 1), 0xf); /* the guest's own loss, not its device's */
	close(c.fd);
}

/* What was not negotiated is not passed on, either way. */
static void plain_headers(struct rig *r)
{
	static const uint8_t partial[HEADER] = { 1, 0, 0, 0, 0, 0, 34, 0, 16 };
	static struct card c;
	uint8_t packet[HEADER + 60] = { 2 }; /* sums are valid: means nothing to this driver */

	packet_open(r, &c, 1 << 5);
	CHECK_EQ(sends_header(&c, partial, 100), (uint64_t)-1);
	post_buffer(&c, 0, 1526);
	CHECK(send(c.fd, packet, sizeof(packet), 0) == sizeof(packet));
	CHECK(vd_wait(&c.d, 1));
	vd_load(&c.d, VD_BUFFERS + 0x80000, packet, sizeof(packet));
	CHECK_EQ(packet[0], 0);
	packet[0] = 1; /* a sum left open: the driver could not complete it */
	post_buffer(&c, 1, 1526);
	CHECK(send(c.fd, packet, sizeof(packet), 0) == sizeof(packet));
	CHECK(send(c.fd, packet, 20, 0) == 20); /* no packet at all */
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 1);
	close(c.fd);
}

static void merged(struct rig *r)
{
	static struct card c;
	static uint8_t packet[HEADER + 9000], back[HEADER + 9000];
	uint32_t id, len, at = 0;
	unsigned i;

	packet_open(r, &c, PACKET_FEATURES);
	for (i = 0; i < sizeof(packet); i++)
		packet[i] = i < HEADER ? 0 : (uint8_t)(i * 7);
	for (i = 0; i < 3; i++)
		post_buffer(&c, i, 1526);
	CHECK(send(c.fd, packet, sizeof(packet), 0) == sizeof(packet));
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 0); /* not enough of them */
	for (; i < 7; i++)
		post_buffer(&c, i, 1526);
	rig_advance(r, 1000000);
	CHECK(vd_wait(&c.d, 6));
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&c.d), 6); /* the seventh waits for another packet */
	for (i = 0; i < 6; i++) {
		vd_used(&c.d, (uint16_t)i, &id, &len);
		CHECK_EQ(id, i);
		CHECK_EQ(len, i < 5 ? 1526 : sizeof(packet) - 5 * 1526);
		vd_load(&c.d, VD_BUFFERS + 0x80000 + id * 0x1000, back + at, len);
		at += len;
	}
	CHECK_EQ(back[10] | back[11] << 8, 6);
	CHECK(memcmp(packet + HEADER, back + HEADER, sizeof(packet) - HEADER) == 0);
	/* Now it reads straight into several, as it expects such packets. */
	for (i = 0; i < 6; i++)
		post_buffer(&c, i, 1526);
	CHECK(send(c.fd, packet, sizeof(packet), 0) == sizeof(packet));
	CHECK(vd_wait(&c.d, 12));
	vd_used(&c.d, 6, &id, &len);
	CHECK_EQ(id, 6);
	vd_load(&c.d, VD_BUFFERS + 0x80000 + 6 * 0x1000, back, 1526);
	CHECK_EQ(back[10] | back[11] << 8, 6);
	CHECK(memcmp(packet + HEADER, back + HEADER, 1526 - HEADER) == 0);
	close(c.fd);
}

/* A command with these bytes; its answer, or 0x55 if none was written. */
static uint8_t command(struct card *c, const uint8_t *bytes, uint32_t len, uint32_t room)
{
	uint8_t ack = 0x55;

	vd_select(&c->d, CTRL);
	vd_store(&c->d, VD_BUFFERS, bytes, len);
	vd_store(&c->d, VD_BUFFERS + 0x2000, &ack, 1);
	vd_desc(&c->d, 0, VD_BUFFERS, len, room ? VD_NEXT : 0, 1);
	vd_desc(&c->d, 1, VD_BUFFERS + 0x2000, room, VD_WRITE, 0);
	vd_push(&c->d, 0);
	vd_kick(&c->d, CTRL);
	CHECK(vd_wait(&c->d, c->d.avail));
	vd_load(&c->d, VD_BUFFERS + 0x2000, &ack, 1);
	return ack;
}

static bool receives_for(struct card *c, uint8_t first, uint8_t last)
{
	uint8_t packet[HEADER + 60] = { 0 };
	uint16_t before;

	vd_select(&c->d, RX);
	before = vd_used_idx(&c->d);
	post_buffer(c, before % 32, 1526);
	packet[HEADER] = first;
	packet[HEADER + 5] = last;
	if (send(c->fd, packet, sizeof(packet), 0) != sizeof(packet))
		return false;
	rig_turn(c->d.rig);
	if (vd_used_idx(&c->d) != before)
		return true;
	c->d.avail--; /* the buffer is still there: it is counted once */
	return false;
}

static void control(struct rig *r)
{
	static const struct {
		uint8_t bytes[24];
		uint32_t len;
		uint8_t ack;
	} cases[] = {
		{ { 0, 0, 0 }, 3, 0 },  { { 0, 0 }, 2, 1 },     { { 0, 0, 1, 1 }, 4, 1 },
		{ { 0, 6, 1 }, 3, 1 },  { { 0, 0xff, 1 }, 3, 1 }, { { 0 }, 1, 1 },
		{ { 1, 1, 1, 0, 0, 0, 0, 1 }, 8, 1 }, /* a group address */
		{ { 1, 1, 2, 0, 0, 0, 0 }, 7, 1 },    { { 1, 2 }, 2, 1 },
		{ { 1, 0 }, 2, 1 },                   { { 1, 0, 0, 0, 0, 0 }, 6, 1 },
		{ { 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 10, 1 },
		{ { 1, 0, 0x56, 0x55, 0x55, 0x55, 0, 0, 0, 0 }, 10, 1 },
		{ { 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0 }, 15, 1 },
		{ { 2, 0, 1, 0 }, 4, 1 }, /* VLANs were not offered */
		{ { 3, 0 }, 2, 0 },     { { 3, 1 }, 2, 1 },
		{ { 4, 0, 1, 0 }, 4, 1 }, /* nor several queues */
		{ { 5, 0, 2, 0, 0, 0, 0, 0, 0, 0 }, 10, 0 },
		{ { 5, 0, 0x82, 0, 0, 0, 0, 0, 0, 0 }, 10, 1 }, /* GUEST_TSO4 */
		{ { 5, 0, 0 }, 3, 1 },  { { 99, 0, 0 }, 3, 1 },
	};
	static const uint8_t mine[] = { 1, 1, 2, 0, 0, 0, 0, 9 };
	static const uint8_t table[] = { 1, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 7,
					 1, 0, 0, 0, 1, 0, 0, 0, 0, 8 };
	static const uint8_t calm[] = { 0, 0, 0 };
	static struct card c;

	packet_open(r, &c, PACKET_FEATURES);
	CHECK(receives_for(&c, 0x66, 1)); /* everything, until the driver says otherwise */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_EQ(command(&c, cases[i].bytes, cases[i].len, 1), cases[i].ack);
	CHECK_EQ(command(&c, mine, sizeof(mine), 0), 0x55); /* no room for an answer: not done */
	CHECK_EQ(rig_read(r, c.d.config + 4, 2), 0x0302);
	CHECK_EQ(command(&c, mine, sizeof(mine), 1), 0);
	CHECK_EQ(rig_read(r, c.d.config + 4, 2), 0x0900);
	CHECK_EQ(command(&c, table, sizeof(table), 1), 0);
	CHECK_EQ(command(&c, calm, sizeof(calm), 1), 0);
	CHECK(receives_for(&c, 2, 9));
	CHECK(receives_for(&c, 4, 7));
	CHECK(receives_for(&c, 1, 8));
	CHECK(!receives_for(&c, 0x66, 1));
	CHECK(!receives_for(&c, 1, 9));
	CHECK_EQ(vd_get(&c.d, VC_STATUS, 1), 0xf);
	vd_set(&c.d, VC_STATUS, 1, 0); /* with the driver goes what it set */
	rig_turn(r);
	CHECK_EQ(rig_read(r, c.d.config + 4, 2), 0x0302);
	close(c.fd);
}

static void another_peer(struct rig *r)
{
	static struct card c;
	struct virtio_net_info info;
	int fds[2], wrong[2];

	packet_open(r, &c, PACKET_FEATURES);
	close(c.fd);
	rig_turn(r);
	virtio_net_info(c.dev, &info);
	CHECK(!info.link);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wrong) == 0);
	CHECK_EQ(virtio_net_attach(c.dev, wrong, 1), (uint64_t)-EINVAL);
	close(wrong[0]);
	close(wrong[1]);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK_EQ(virtio_net_attach(c.dev, &fds[1], 1), 0);
	c.fd = fds[0];
	virtio_net_info(c.dev, &info);
	CHECK(info.link);
	CHECK_EQ(rig_read(r, c.d.config + 6, 2), 3); /* up, and to be announced */
	CHECK_EQ(command(&c, (const uint8_t[]){ 3, 0 }, 2, 1), 0);
	CHECK_EQ(rig_read(r, c.d.config + 6, 2), 1);
	CHECK(receives_for(&c, 0x52, 3));
	close(c.fd);
}

/* Ten packets a second, the first one at once. */
static void limits(struct rig *r)
{
	struct virtio_net_config config = { .kind = NET_PACKET, .fd_count = 1,
					    .mac = { 0x52, 0x54, 0, 1, 2, 3 },
					    .from_guest.packets = { 10, 1 },
					    .to_guest.packets = { 10, 1 } };
	static const uint8_t packet[HEADER + 60];
	static struct card c;
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	c.fd = fds[0];
	config.fds[0] = fds[1];
	rig_advance(r, 1000000000);
	rig_add(r, &virtio_net_class, &config);
	CHECK(vd_find(r, &c.d, 0x1041));
	vd_start_queues(&c.d, 1 << 5, 64, 2);
	for (unsigned i = 0; i < 8; i++) {
		transmit(&c, i, 60);
		post_buffer(&c, i, 1526);
		CHECK(send(c.fd, packet, sizeof(packet), 0) == sizeof(packet));
	}
	vd_kick(&c.d, TX);
	rig_turn(r);
	for (unsigned i = 0; i < 6; i++) {
		unsigned sent;

		vd_select(&c.d, TX);
		sent = vd_used_idx(&c.d);
		CHECK(sent >= i + 1 && sent <= i + 2); /* a burst of one, then one each time */
		vd_select(&c.d, RX);
		sent = vd_used_idx(&c.d);
		CHECK(sent >= i + 1 && sent <= i + 2);
		rig_advance(r, 100000000);
		rig_turn(r);
	}
	close(c.fd);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "configuration and link", configuration },
		{ "sends", sends },
		{ "receives", receives },
		{ "floods", floods },
		{ "hostile peer", hostile_peer },
		{ "guest errors", guest_errors },
		{ "reset and pause", reset_and_pause },
		{ "bad configuration", bad_config },
		{ "headers", headers },
		{ "headers that were not agreed on", plain_headers },
		{ "mergeable buffers", merged },
		{ "control queue", control },
		{ "another peer", another_peer },
		{ "limits", limits },
	};

	return rig_main("virtio-net", cases, ARRAY_SIZE(cases), argc, argv);
}
