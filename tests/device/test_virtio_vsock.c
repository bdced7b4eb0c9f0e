/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: streams both ways, credit, ends of every kind, hostile drivers and hostile peers. */
#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/virtio/vsock.h"
#include "machine/loop.h"
#include "tests/device/vdriver.h"
#include "tests/device/vsockclient.h"

#define SLOTS 16u
#define SLOT_BYTES 4096u
#define IN(n) (VD_BUFFERS + (n) * (uint64_t)SLOT_BYTES)
#define OUT (VD_BUFFERS + 0x80000ull)
#define EVENT (VD_BUFFERS + 0x70000ull)
#define ROOM 65536u /* what the guest says it has */

struct vs {
	struct vdriver d;
	struct device *dev;
	int listen_fd;
	struct sockaddr_un address;
	socklen_t address_len;
	unsigned wanted;   /* calls of it */
	uint16_t read;     /* packets that the guest has read */
	uint32_t forwarded; /* what it says of itself */
	uint32_t alloc;
	struct vsock_packet p; /* the last one read, and its data */
	uint8_t data[SLOT_BYTES];
};

static void wanted(void *opaque)
{
	((struct vs *)opaque)->wanted++;
}

static void give(struct vs *s, unsigned slot, uint32_t len)
{
	vd_select(&s->d, 0);
	vd_desc(&s->d, slot, IN(slot), len, VD_WRITE, 0);
	vd_push(&s->d, (uint16_t)slot);
	vd_kick(&s->d, 0);
}

static void start(struct vs *s, bool buffers)
{
	unsigned i;

	vd_start_queues(&s->d, VF_EVENT_IDX, 64, 3);
	s->read = 0;
	for (i = 0; i < SLOTS && buffers; i++)
		give(s, i, SLOT_BYTES);
	vd_select(&s->d, 2);
	vd_desc(&s->d, 0, EVENT, 4, VD_WRITE, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 2);
	rig_turn(s->d.rig);
}

static void open_device(struct rig *r, struct vs *s)
{
	struct virtio_vsock_config config = { .cid = VSOCK_GUEST, .wanted = wanted, .opaque = s };

	memset(s, 0, sizeof(*s));
	s->alloc = ROOM;
	s->listen_fd = rig_listen(300, &s->address, &s->address_len);
	config.listen_fd = s->listen_fd;
	s->dev = rig_add(r, &virtio_vsock_class, &config);
	CHECK(vd_find(r, &s->d, 0x1053));
}

static void open_started(struct rig *r, struct vs *s)
{
	open_device(r, s);
	start(s, true);
}

/* --- the guest -------------------------------------------------------------------------------- */

static void put_raw(struct vs *s, const struct vsock_packet *p, const void *data, uint32_t bytes)
{
	uint8_t header[VSOCK_BYTES];
	uint16_t before;

	vsock_encode(header, p);
	vd_select(&s->d, 1);
	before = s->d.avail;
	vd_store(&s->d, OUT, header, sizeof(header));
	vd_store(&s->d, OUT + sizeof(header), data, bytes);
	vd_desc(&s->d, 0, OUT, sizeof(header) + bytes, 0, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 1);
	CHECK(vd_wait(&s->d, (uint16_t)(before + 1)));
}

static struct vsock_packet packet(struct vs *s, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vsock_packet){ .src = VSOCK_GUEST, .dst = 2, .src_port = guest_port,
				      .dst_port = host_port, .type = 1, .op = op, .alloc = s->alloc,
				      .forwarded = s->forwarded };
}

static void put(struct vs *s, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_packet p = packet(s, op, guest_port, host_port);

	put_raw(s, &p, "", 0);
}

static void put_data(struct vs *s, uint32_t guest_port, uint32_t host_port, const void *data,
		     uint32_t len)
{
	struct vsock_packet p = packet(s, OP_RW, guest_port, host_port);

	p.len = len;
	put_raw(s, &p, data, len);
}

static void put_shutdown(struct vs *s, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct vsock_packet p = packet(s, OP_SHUTDOWN, guest_port, host_port);

	p.flags = flags;
	put_raw(s, &p, "", 0);
}

/* The op of the next packet for the guest, 0: there is none. Its buffer is given again. */
static unsigned next(struct vs *s)
{
	uint8_t header[VSOCK_BYTES];
	uint32_t slot, len;

	rig_turn(s->d.rig);
	vd_select(&s->d, 0);
	if (vd_used_idx(&s->d) == s->read)
		return 0;
	vd_used(&s->d, s->read++, &slot, &len);
	vd_load(&s->d, IN(slot), header, sizeof(header));
	vsock_decode(header, &s->p);
	CHECK_EQ(len, VSOCK_BYTES + s->p.len);
	CHECK_EQ(s->p.dst, VSOCK_GUEST);
	if (s->p.len <= sizeof(s->data))
		vd_load(&s->d, IN(slot) + VSOCK_BYTES, s->data, s->p.len);
	give(s, slot, SLOT_BYTES);
	return s->p.op;
}

/* The same, but for news of credit. */
static unsigned next_but_credit(struct vs *s)
{
	unsigned op;

	do
		op = next(s);
	while (op == OP_CREDIT_UPDATE);
	return op;
}

/* --- the host --------------------------------------------------------------------------------- */

static int dial(struct vs *s)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (void *)&s->address, s->address_len) == 0);
	return fd;
}

static int dial_and_say(struct vs *s, const char *text)
{
	int fd = dial(s);

	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	rig_turn(s->d.rig);
	return fd;
}

static void says(struct rig *r, int fd, const char *text)
{
	char buf[256] = { 0 };

	rig_turn(r);
	CHECK_EQ(read(fd, buf, sizeof(buf) - 1), strlen(text));
	CHECK(!strcmp(buf, text));
}

static void at_end(struct rig *r, int fd)
{
	char byte;

	ssize_t n;

	rig_turn(r);
	n = read(fd, &byte, 1);
	CHECK(n == 0 || (n < 0 && errno == ECONNRESET)); /* that: it did not read all of ours */
}

static void silent(struct rig *r, int fd)
{
	char byte;

	rig_turn(r);
	CHECK(read(fd, &byte, 1) < 0 && errno == EAGAIN);
}

/* A stream that the host began, to guest port `port`; *ret_host: its port on the host. */
static int open_from_host(struct vs *s, uint32_t port, uint32_t *ret_host)
{
	char text[32];
	int fd;

	snprintf(text, sizeof(text), "CONNECT %u\n", port);
	fd = dial_and_say(s, text);
	CHECK_EQ(next(s), OP_REQUEST);
	CHECK_EQ(s->p.dst_port, port);
	CHECK_EQ(s->p.src, 2);
	CHECK_EQ(s->p.alloc, VIRTIO_VSOCK_BUFFER);
	*ret_host = s->p.src_port;
	put(s, OP_RESPONSE, port, *ret_host);
	snprintf(text, sizeof(text), "OK %u\n", *ret_host);
	says(s->d.rig, fd, text);
	return fd;
}

/* One that the guest began; the host's end. Its socket towards the host holds little. */
static int open_from_guest(struct vs *s, uint32_t guest_port, uint32_t host_port)
{
	int fds[2], small = 4096;
	uint32_t id = 0, port = 0;

	put(s, OP_REQUEST, guest_port, host_port);
	CHECK(virtio_vsock_wanted(s->dev, &id, &port));
	CHECK_EQ(port, host_port);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
	virtio_vsock_answer(s->dev, id, fds[0]);
	CHECK_EQ(next(s), OP_RESPONSE);
	CHECK_EQ(s->p.src_port, host_port);
	CHECK_EQ(s->p.dst_port, guest_port);
	return fds[1];
}

/* --- cases ------------------------------------------------------------------------------------ */

static void from_host(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port, port2;
	int fd, fd2;

	open_started(r, s);
	CHECK_EQ(vd_features(&s->d), VF_CORE | VF_IN_ORDER | 1);
	CHECK_EQ(rig_read(r, s->d.config, 4), VSOCK_GUEST);
	CHECK_EQ(rig_read(r, s->d.config + 4, 4), 0);
	fd = open_from_host(s, 1024, &port);
	fd2 = open_from_host(s, 1024, &port2);
	CHECK(port != port2);
	put_data(s, 1024, port, "from the guest", 14);
	says(r, fd, "from the guest");
	silent(r, fd2);
	CHECK_EQ(write(fd2, "from the host", 13), 13);
	CHECK_EQ(next(s), OP_RW);
	CHECK_EQ(s->p.src_port, port2);
	CHECK_EQ(s->p.len, 13);
	CHECK(!memcmp(s->data, "from the host", 13));
	/* the host is done speaking, not listening */
	CHECK_EQ(write(fd, "bye", 3), 3);
	shutdown(fd, SHUT_WR);
	CHECK_EQ(next(s), OP_RW);
	CHECK_EQ(s->p.len, 3);
	CHECK_EQ(next(s), OP_SHUTDOWN);
	CHECK_EQ(s->p.flags, 2);
	put_data(s, 1024, port, "more", 4);
	says(r, fd, "more");
	put_shutdown(s, 1024, port, 3);
	at_end(r, fd);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->p.src_port, port);
	/* the guest is done speaking, not listening */
	put_shutdown(s, 1024, port2, 2);
	at_end(r, fd2);
	CHECK_EQ(write(fd2, "still", 5), 5);
	CHECK_EQ(next(s), OP_RW);
	put_shutdown(s, 1024, port2, 1);
	CHECK_EQ(next(s), OP_RST);
	CHECK(send(fd2, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	CHECK_EQ(next(s), 0);
	close(fd);
	close(fd2);
}

static void greetings(struct rig *r)
{
	static const char *const bad[] = {
		"HELLO\n", "\n", "CONNECT\n", "CONNECT \n", "CONNECT x\n", "CONNECT -1\n",
		"CONNECT 1 \n", "CONNECT 1\r\n", "CONNECT 4294967295\n", "CONNECT 4294967296\n",
		"CONNECT 99999999999999999\n", "connect 1\n", "CONNECT 1111111111111111111111111",
		" CONNECT 1\n",
	};
	struct vs vs, *s = &vs;
	const char *slowly = "CONNECT 5\n";
	uint32_t port;
	int fd;
	size_t i;

	open_started(r, s);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = dial_and_say(s, bad[i]);
		at_end(r, fd);
		close(fd);
	}
	fd = dial_and_say(s, "CONNE"); /* and leaves */
	close(fd);
	CHECK_EQ(next(s), 0);
	fd = dial(s); /* and says nothing */
	rig_turn(r);
	rig_advance(r, 11 * NSEC_PER_SEC);
	at_end(r, fd);
	close(fd);
	/* one byte at a time is fine, and so is speaking before the answer */
	fd = dial(s);
	for (i = 0; slowly[i]; i++) {
		CHECK_EQ(next(s), 0);
		CHECK_EQ(write(fd, slowly + i, 1), 1);
	}
	CHECK_EQ(write(fd, "early", 5), 5);
	CHECK_EQ(next(s), OP_REQUEST);
	port = s->p.src_port;
	silent(r, fd);
	put(s, OP_RESPONSE, 5, port);
	CHECK_EQ(next(s), OP_RW);
	CHECK(s->p.len == 5 && !memcmp(s->data, "early", 5));
	close(fd);
}

static void not_accepted(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd;

	open_device(r, s);
	fd = dial_and_say(s, "CONNECT 1\n"); /* there is no driver */
	at_end(r, fd);
	close(fd);
	start(s, true);
	fd = dial_and_say(s, "CONNECT 1\n");
	CHECK_EQ(next(s), OP_REQUEST);
	put(s, OP_RST, 1, s->p.src_port);
	at_end(r, fd);
	close(fd);
	/* nobody answers: both ends are told */
	fd = dial_and_say(s, "CONNECT 1\n");
	CHECK_EQ(next(s), OP_REQUEST);
	port = s->p.src_port;
	rig_advance(r, 11 * NSEC_PER_SEC);
	at_end(r, fd);
	close(fd);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->p.src_port, port);
	put(s, OP_RESPONSE, 1, port); /* too late */
	CHECK_EQ(next(s), OP_RST);
	/* the host gives up first */
	fd = dial_and_say(s, "CONNECT 1\n");
	CHECK_EQ(next(s), OP_REQUEST);
	close(fd);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(next(s), 0);
}

static void from_guest(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t id = 0, id2 = 0, port = 0;
	int fd;

	open_started(r, s);
	CHECK(!virtio_vsock_wanted(s->dev, &id, &port));
	fd = open_from_guest(s, 2000, 80);
	put_data(s, 2000, 80, "GET", 3);
	says(r, fd, "GET");
	CHECK_EQ(write(fd, "200", 3), 3);
	CHECK_EQ(next(s), OP_RW);
	close(fd);
	CHECK_EQ(next(s), OP_SHUTDOWN); /* it writes no more and reads no more */
	if (s->p.flags != 3) {
		CHECK_EQ(s->p.flags, 1);
		CHECK_EQ(next(s), OP_SHUTDOWN);
		CHECK_EQ(s->p.flags, 3);
	}
	put(s, OP_RST, 2000, 80);
	/* refused */
	put(s, OP_REQUEST, 2001, 81);
	CHECK(virtio_vsock_wanted(s->dev, &id, &port));
	virtio_vsock_answer(s->dev, id, -ECONNREFUSED);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->p.dst_port, 2001);
	/* one at a time; who was given up is not connected */
	put(s, OP_REQUEST, 2002, 82);
	put(s, OP_REQUEST, 2003, 83);
	CHECK(virtio_vsock_wanted(s->dev, &id, &port));
	CHECK_EQ(port, 82);
	CHECK(!virtio_vsock_wanted(s->dev, &id2, &port));
	put(s, OP_RST, 2002, 82);
	CHECK(!virtio_vsock_wanted(s->dev, &id2, &port));
	s->wanted = 0;
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	virtio_vsock_answer(s->dev, id, fd);
	CHECK(dup2(fd, fd) < 0); /* it was closed */
	rig_turn(r);
	CHECK(s->wanted > 0);
	CHECK(virtio_vsock_wanted(s->dev, &id2, &port));
	CHECK_EQ(port, 83);
	virtio_vsock_answer(s->dev, id2 + 1000, -EIO); /* not what was asked */
	CHECK_EQ(next(s), 0);
	/* no answer at all: given up, and the next may ask */
	rig_advance(r, 12 * NSEC_PER_SEC);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->p.dst_port, 2003);
	fd = open_from_guest(s, 2004, 84);
	close(fd);
}

/* The guest has room for so much only. */
static void credit_of_guest(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint8_t bytes[5000];
	uint32_t port, total = 0;
	int fd;

	open_started(r, s);
	memset(bytes, 'x', sizeof(bytes));
	s->alloc = 1000;
	fd = open_from_host(s, 1, &port);
	CHECK_EQ(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	CHECK_EQ(next(s), OP_RW);
	CHECK_EQ(s->p.len, 1000);
	CHECK_EQ(next(s), OP_CREDIT_REQUEST);
	CHECK_EQ(next(s), 0); /* asked once */
	CHECK_EQ(write(fd, bytes, 1), 1);
	CHECK_EQ(next(s), 0);
	s->forwarded = 1000;
	s->alloc = 2500;
	put(s, OP_CREDIT_UPDATE, 1, port);
	CHECK_EQ(next(s), OP_RW);
	CHECK_EQ(s->p.len, 2500);
	CHECK_EQ(next(s), OP_CREDIT_REQUEST);
	/* it says that it read what was never sent: no room */
	s->forwarded = 0x80000000;
	put(s, OP_CREDIT_UPDATE, 1, port);
	CHECK_EQ(next(s), 0);
	s->alloc = 0xffffffff; /* all room in the world: a buffer's worth in a packet */
	s->forwarded = 3500;
	put(s, OP_CREDIT_UPDATE, 1, port);
	CHECK_EQ(next(s), OP_RW);
	total = s->p.len;
	CHECK_EQ(total, 1501);
	CHECK_EQ(next(s), 0);
	put(s, OP_CREDIT_REQUEST, 1, port);
	CHECK_EQ(next(s), OP_CREDIT_UPDATE);
	CHECK_EQ(s->p.forwarded, 0);
	CHECK_EQ(s->p.alloc, VIRTIO_VSOCK_BUFFER);
	close(fd);
}

static void fill_bytes(uint8_t *bytes, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)((at + i) * 31 + (at + i) / 251);
}

/* Sends until the device has `want` bytes in its buffer; returns what was sent in all. */
static uint32_t fill_up(struct vs *s, uint32_t guest_port, uint32_t host_port, uint32_t want)
{
	static uint8_t bytes[4096];
	uint32_t sent = 0, forwarded = 0;

	while (sent - forwarded < want) {
		uint32_t n = want - (sent - forwarded);

		n = n < sizeof(bytes) ? n : (uint32_t)sizeof(bytes);
		fill_bytes(bytes, n, sent);
		put_data(s, guest_port, host_port, bytes, n);
		sent += n;
		put(s, OP_CREDIT_REQUEST, guest_port, host_port);
		CHECK_EQ(next(s), OP_CREDIT_UPDATE);
		if (s->p.op != OP_CREDIT_UPDATE)
			break;
		forwarded = s->p.forwarded;
	}
	return sent;
}

/* All that the host can read now; checks it. */
static size_t drain(struct rig *r, int fd, size_t at)
{
	static uint8_t got[65536], want[65536];
	ssize_t n;

	for (;;) {
		rig_turn(r);
		n = read(fd, got, sizeof(got));
		if (n <= 0)
			return at;
		fill_bytes(want, (size_t)n, at);
		CHECK(!memcmp(got, want, (size_t)n));
		at += (size_t)n;
	}
}

/* The host reads nothing: the guest may send a buffer's worth, and no more. */
static void credit_of_host(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t sent, told = 0;
	int fd;

	open_started(r, s);
	fd = open_from_guest(s, 3, 4);
	sent = fill_up(s, 3, 4, VIRTIO_VSOCK_BUFFER);
	CHECK(sent > VIRTIO_VSOCK_BUFFER); /* the socket holds something too */
	CHECK_EQ(next(s), 0);
	/* it reads all: nothing is lost, and the guest is told without asking */
	CHECK_EQ(drain(r, fd, 0), sent);
	while (next(s) == OP_CREDIT_UPDATE)
		told = s->p.forwarded;
	CHECK(told >= sent - VIRTIO_VSOCK_BUFFER / 4);
	close(fd);
	while (next(s) == OP_SHUTDOWN)
		;
	put(s, OP_RST, 3, 4);
	/* one byte more than there is credit for: that is the end */
	fd = open_from_guest(s, 5, 6);
	(void)fill_up(s, 5, 6, VIRTIO_VSOCK_BUFFER);
	put_data(s, 5, 6, "x", 1);
	CHECK_EQ(next(s), OP_RST);
	put_data(s, 5, 6, "x", 1);
	CHECK_EQ(next(s), OP_RST);
	close(fd);
}

/* What the guest sent before it closed reaches a reader that takes its time. */
static void lingers(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t sent, sent2;
	int fd, fd2, fd3;

	open_started(r, s);
	fd = open_from_guest(s, 1, 1);
	sent = fill_up(s, 1, 1, 50000);
	put_shutdown(s, 1, 1, 3);
	CHECK_EQ(next(s), 0); /* not yet */
	CHECK_EQ(drain(r, fd, 0), sent);
	CHECK_EQ(next_but_credit(s), OP_RST);
	/* Linux waits 8 seconds for that, and says so */
	fd2 = open_from_guest(s, 2, 2);
	sent2 = fill_up(s, 2, 2, 50000);
	put_shutdown(s, 2, 2, 3);
	put(s, OP_RST, 2, 2);
	fd3 = open_from_guest(s, 2, 2); /* the guest has forgotten it: the same ports again */
	put_data(s, 2, 2, "new", 3);
	CHECK_EQ(drain(r, fd2, 0), sent2);
	at_end(r, fd2);
	says(r, fd3, "new");
	CHECK_EQ(next(s), 0);
	close(fd2);
	/* nobody ever reads: it ends some time */
	fd2 = open_from_guest(s, 4, 4);
	(void)fill_up(s, 4, 4, 50000);
	put_shutdown(s, 4, 4, 3);
	rig_advance(r, 31 * NSEC_PER_SEC);
	CHECK_EQ(next_but_credit(s), OP_RST);
	/* a reset without a word before throws away what waits */
	(void)fill_up(s, 2, 2, 50000);
	put(s, OP_RST, 2, 2);
	CHECK(drain(r, fd3, 0) < 50000);
	at_end(r, fd3);
	close(fd);
	close(fd2);
	close(fd3);
}

static void host_leaves(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd;

	open_started(r, s);
	fd = open_from_host(s, 9, &port);
	CHECK_EQ(write(fd, "last words", 10), 10);
	close(fd);
	rig_turn(r);
	put_data(s, 9, port, "too late", 8); /* goes nowhere, and is no violation */
	/* "it does not read" may come at any time; what it said comes, and then "nor write" */
	while (next(s) == OP_SHUTDOWN)
		CHECK_EQ(s->p.flags, 1);
	CHECK_EQ(s->p.op, OP_RW);
	CHECK_EQ(s->p.len, 10);
	CHECK_EQ(next(s), OP_SHUTDOWN);
	CHECK_EQ(s->p.flags, 3);
	CHECK_EQ(next(s), 0);
	rig_advance(r, 12 * NSEC_PER_SEC); /* the guest does not say that it heard */
	CHECK_EQ(next(s), OP_RST);
	put(s, OP_SHUTDOWN, 9, port);
	CHECK_EQ(next(s), OP_RST);
}

/* Each rule broken, on a stream of its own: it ends, and nothing else does. */
static void violations(struct rig *r)
{
	struct vs vs, *s = &vs;
	struct vsock_packet p;
	uint32_t port, good_port;
	int fd, good;
	uint16_t op;

	open_started(r, s);
	good = open_from_host(s, 10, &good_port);
	/* ops that an open stream does not know */
	for (op = 0; op < 12; op++) {
		if (op == OP_RST || (op >= OP_SHUTDOWN && op <= OP_CREDIT_REQUEST))
			continue;
		fd = open_from_host(s, 11, &port);
		put(s, op, 11, port);
		CHECK_EQ(next(s), OP_RST);
		CHECK_EQ(s->p.src_port, port);
		at_end(r, fd);
		close(fd);
	}
	/* what a stream that is not accepted yet does not know */
	for (op = OP_SHUTDOWN; op <= OP_CREDIT_REQUEST; op++) {
		fd = dial_and_say(s, "CONNECT 11\n");
		CHECK_EQ(next(s), OP_REQUEST);
		put(s, op, 11, s->p.src_port);
		CHECK_EQ(next(s), OP_RST);
		at_end(r, fd);
		close(fd);
	}
	/* no such stream; a reset of it is not answered */
	for (op = 0; op < 12; op++) {
		if (op == OP_REQUEST)
			continue;
		put(s, op, 99, 99);
		CHECK_EQ(next(s), op == OP_RST ? 0 : OP_RST);
	}
	/* more than the packet has, more than there is after "I send no more" */
	fd = open_from_host(s, 11, &port);
	p = packet(s, OP_RW, 11, port);
	p.len = 5;
	put_raw(s, &p, "four", 4);
	CHECK_EQ(next(s), OP_RST);
	close(fd);
	fd = open_from_host(s, 11, &port);
	put_shutdown(s, 11, port, 2);
	put_data(s, 11, port, "again", 5);
	CHECK_EQ(next(s), OP_RST);
	close(fd);
	/* other kinds of sockets, other hosts */
	p = packet(s, OP_REQUEST, 11, 11);
	p.type = 2;
	put_raw(s, &p, "", 0);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->p.type, 2);
	p = packet(s, OP_REQUEST, 11, 11);
	p.dst = 77;
	put_raw(s, &p, "", 0);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->p.src, 77);
	/* in another guest's name: not a word, and no effect */
	p = packet(s, OP_RST, 10, good_port);
	p.src = VSOCK_GUEST + 1;
	put_raw(s, &p, "", 0);
	CHECK_EQ(next(s), 0);
	/* not even a header */
	vd_select(&s->d, 1);
	vd_desc(&s->d, 0, OUT, VSOCK_BYTES - 1, 0, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 1);
	CHECK(vd_wait(&s->d, s->d.avail));
	CHECK_EQ(next(s), 0);
	put_data(s, 10, good_port, "fine", 4);
	says(r, good, "fine");
	CHECK_EQ(vd_get(&s->d, VC_STATUS, 1), 0xf);
	close(good);
}

/* Buffers for packets that hold none: the device is lost, and the host's programs are told. */
static void small_buffers(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd;

	open_device(r, s);
	start(s, false);
	give(s, 0, SLOT_BYTES);
	fd = dial_and_say(s, "CONNECT 1\n");
	rig_turn(r);
	vd_select(&s->d, 0);
	CHECK(vd_wait(&s->d, 1));
	give(s, 1, VSOCK_BYTES);
	port = 0x40000000;
	put(s, OP_RST, 1, port + 5);
	put(s, OP_SHUTDOWN, 1, port + 5); /* to be answered */
	CHECK(vd_wait_status(&s->d, 0x40, 0x40));
	at_end(r, fd);
	close(fd);
	start(s, true);
	fd = open_from_host(s, 1, &port);
	close(fd);
}

/* The guest reads nothing and sends what must be answered: its packets wait. */
static void flood(struct rig *r)
{
	struct vs vs, *s = &vs;
	struct vsock_packet p;
	uint8_t header[VSOCK_BYTES];
	unsigned i, resets = 0;

	open_device(r, s);
	start(s, false);
	vd_select(&s->d, 1);
	p = packet(s, OP_RW, 1, 1);
	vsock_encode(header, &p);
	vd_store(&s->d, OUT, header, sizeof(header));
	for (i = 0; i < 64; i++)
		vd_desc(&s->d, i, OUT, sizeof(header), 0, 0);
	for (i = 0; i < 64; i++)
		vd_push(&s->d, (uint16_t)i);
	vd_kick(&s->d, 1);
	CHECK(vd_wait(&s->d, 64));
	for (i = 0; i < 40; i++)
		vd_push(&s->d, (uint16_t)i);
	vd_kick(&s->d, 1);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&s->d), 64);
	for (i = 0; i < SLOTS; i++)
		give(s, i, SLOT_BYTES);
	while (next(s) == OP_RST)
		resets++;
	CHECK_EQ(resets, 104);
	vd_select(&s->d, 1);
	CHECK_EQ(vd_used_idx(&s->d), 104);
}

static void limit(struct rig *r)
{
	struct vs vs, *s = &vs;
	int fd[VIRTIO_VSOCK_CONNECTIONS_MAX], more;
	unsigned i;

	open_started(r, s);
	for (i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++)
		fd[i] = dial(s);
	rig_turn(r);
	more = dial(s);
	at_end(r, more);
	close(more);
	silent(r, fd[VIRTIO_VSOCK_CONNECTIONS_MAX - 1]);
	put(s, OP_REQUEST, 1, 1);
	CHECK_EQ(next(s), OP_RST);
	CHECK_EQ(s->wanted, 0);
	close(fd[17]);
	rig_turn(r);
	put(s, OP_REQUEST, 1, 1);
	CHECK_EQ(next(s), 0);
	CHECK_EQ(s->wanted, 1);
	for (i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++)
		if (i != 17)
			close(fd[i]);
}

static unsigned events(struct vs *s)
{
	vd_select(&s->d, 2);
	return vd_used_idx(&s->d);
}

/* The driver goes, with streams in every state. */
static void resets(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port, id = 0, wish = 0;
	int open, asking, greeting, clogged, late;

	open_started(r, s);
	CHECK_EQ(events(s), 0);
	open = open_from_host(s, 1, &port);
	asking = dial_and_say(s, "CONNECT 2\n");
	CHECK_EQ(next(s), OP_REQUEST);
	greeting = dial_and_say(s, "CON");
	clogged = open_from_guest(s, 3, 3);
	(void)fill_up(s, 3, 3, 50000);
	put(s, OP_REQUEST, 4, 4);
	CHECK(virtio_vsock_wanted(s->dev, &id, &wish));
	vd_set(&s->d, VC_STATUS, 1, 0);
	at_end(r, open);
	at_end(r, asking);
	at_end(r, greeting);
	(void)drain(r, clogged, 0);
	at_end(r, clogged);
	start(s, true);
	late = socket(AF_UNIX, SOCK_STREAM, 0);
	virtio_vsock_answer(s->dev, id, late);
	CHECK(dup2(late, late) < 0);
	rig_turn(r);
	/* the driver is told, once, that what it had is no more */
	CHECK_EQ(events(s), 1);
	put_data(s, 1, port, "x", 1);
	CHECK_EQ(next(s), OP_RST);
	close(open);
	open = open_from_host(s, 1, &port);
	machine_reset_devices(r->machine);
	at_end(r, open);
	vd_cfg_write(&s->d, 4, 2, 6);
	start(s, true);
	CHECK_EQ(events(s), 1);
	vd_set(&s->d, VC_STATUS, 1, 0);
	start(s, true);
	CHECK_EQ(events(s), 0); /* there was nothing to lose */
	close(open);
	close(asking);
	close(greeting);
	close(clogged);
}

static void pauses(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd, fd2, clogged;

	open_started(r, s);
	fd = open_from_host(s, 1, &port);
	clogged = open_from_guest(s, 2, 2);
	(void)fill_up(s, 2, 2, 50000);
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine);
	CHECK_EQ(write(fd, "while it sleeps", 15), 15);
	fd2 = dial_and_say(s, "CONNECT 3\n");
	CHECK_EQ(next(s), 0);
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	CHECK_EQ(next(s), OP_RW);
	CHECK_EQ(s->p.len, 15);
	CHECK_EQ(next(s), OP_REQUEST);
	CHECK(drain(r, clogged, 0) > 50000);
	put_data(s, 1, port, "awake", 5);
	says(r, fd, "awake");
	/* it is destroyed with all of that open */
	close(fd);
	close(fd2);
	close(clogged);
}

static void bad_config(struct rig *r)
{
	struct virtio_vsock_config config = { .cid = 2, .listen_fd = -1 };
	struct device *dev = NULL;

	CHECK_EQ(device_create(r->machine, &virtio_vsock_class, &config, &dev), (uint64_t)-EINVAL);
	config.cid = 0xffffffff;
	CHECK_EQ(device_create(r->machine, &virtio_vsock_class, &config, &dev), (uint64_t)-EINVAL);
	config.cid = 3;
	config.listen_fd = 9999;
	CHECK_EQ(device_create(r->machine, &virtio_vsock_class, &config, &dev), (uint64_t)-EBADF);
	config.listen_fd = -1;
	CHECK_EQ(device_create(r->machine, &virtio_vsock_class, &config, &dev), 0);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "from the host", from_host },       { "greetings", greetings },
		{ "not accepted", not_accepted },     { "from the guest", from_guest },
		{ "the guest's credit", credit_of_guest }, { "the host's credit", credit_of_host },
		{ "lingers", lingers },               { "the host leaves", host_leaves },
		{ "violations", violations },         { "small buffers", small_buffers },
		{ "flood", flood },                   { "limit", limit },
		{ "resets", resets },                 { "pause and resume", pauses },
		{ "bad configurations", bad_config },
	};

	return rig_main("virtio-vsock", cases, ARRAY_SIZE(cases), argc, argv);
}
