/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: streams both ways, credit, ends of every kind. */
#include <config.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/virtio/vsock.h"
#include "tests/device/vsockrig.h"

static void from_host(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port, port2;
	int fd, fd2;

	vs_open_started(r, s);
	CHECK_EQ(vd_features(&s->d), VF_CORE | VF_IN_ORDER | 1);
	CHECK_EQ(rig_read(r, s->d.config, 4), VSOCK_GUEST);
	CHECK_EQ(rig_read(r, s->d.config + 4, 4), 0);
	fd = vs_open_from_host(s, 1024, &port);
	fd2 = vs_open_from_host(s, 1024, &port2);
	CHECK(port != port2);
	vs_put_data(s, 1024, port, "from the guest", 14);
	vs_says(r, fd, "from the guest");
	vs_silent(r, fd2);
	CHECK_EQ(write(fd2, "from the host", 13), 13);
	CHECK_EQ(vs_next(s), OP_RW);
	CHECK_EQ(s->p.src_port, port2);
	CHECK_EQ(s->p.len, 13);
	CHECK(!memcmp(s->data, "from the host", 13));
	/* the host is done speaking, not listening */
	CHECK_EQ(write(fd, "bye", 3), 3);
	shutdown(fd, SHUT_WR);
	CHECK_EQ(vs_next(s), OP_RW);
	CHECK_EQ(s->p.len, 3);
	CHECK_EQ(vs_next(s), OP_SHUTDOWN);
	CHECK_EQ(s->p.flags, 2);
	vs_put_data(s, 1024, port, "more", 4);
	vs_says(r, fd, "more");
	vs_put_shutdown(s, 1024, port, 3);
	vs_at_end(r, fd);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->p.src_port, port);
	/* the guest is done speaking, not listening */
	vs_put_shutdown(s, 1024, port2, 2);
	vs_at_end(r, fd2);
	CHECK_EQ(write(fd2, "still", 5), 5);
	CHECK_EQ(vs_next(s), OP_RW);
	vs_put_shutdown(s, 1024, port2, 1);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK(send(fd2, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	CHECK_EQ(vs_next(s), 0);
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

	vs_open_started(r, s);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		fd = vs_dial_and_say(s, bad[i]);
		vs_at_end(r, fd);
		close(fd);
	}
	fd = vs_dial_and_say(s, "CONNE"); /* and leaves */
	close(fd);
	CHECK_EQ(vs_next(s), 0);
	fd = vs_dial(s); /* and says nothing */
	rig_turn(r);
	rig_advance(r, 11 * NSEC_PER_SEC);
	vs_at_end(r, fd);
	close(fd);
	/* one byte at a time is fine, and so is speaking before the answer */
	fd = vs_dial(s);
	for (i = 0; slowly[i]; i++) {
		CHECK_EQ(vs_next(s), 0);
		CHECK_EQ(write(fd, slowly + i, 1), 1);
	}
	CHECK_EQ(write(fd, "early", 5), 5);
	CHECK_EQ(vs_next(s), OP_REQUEST);
	port = s->p.src_port;
	vs_silent(r, fd);
	vs_put(s, OP_RESPONSE, 5, port);
	CHECK_EQ(vs_next(s), OP_RW);
	CHECK(s->p.len == 5 && !memcmp(s->data, "early", 5));
	close(fd);
}

static void not_accepted(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd;

	vs_open(r, s);
	fd = vs_dial_and_say(s, "CONNECT 1\n"); /* there is no driver */
	vs_at_end(r, fd);
	close(fd);
	vs_start(s, true);
	fd = vs_dial_and_say(s, "CONNECT 1\n");
	CHECK_EQ(vs_next(s), OP_REQUEST);
	vs_put(s, OP_RST, 1, s->p.src_port);
	vs_at_end(r, fd);
	close(fd);
	/* nobody answers: both ends are told */
	fd = vs_dial_and_say(s, "CONNECT 1\n");
	CHECK_EQ(vs_next(s), OP_REQUEST);
	port = s->p.src_port;
	rig_advance(r, 11 * NSEC_PER_SEC);
	vs_at_end(r, fd);
	close(fd);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->p.src_port, port);
	vs_put(s, OP_RESPONSE, 1, port); /* too late */
	CHECK_EQ(vs_next(s), OP_RST);
	/* the host gives up first */
	fd = vs_dial_and_say(s, "CONNECT 1\n");
	CHECK_EQ(vs_next(s), OP_REQUEST);
	close(fd);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(vs_next(s), 0);
}

static void from_guest(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t id = 0, id2 = 0, port = 0;
	int fd;

	vs_open_started(r, s);
	CHECK(!virtio_vsock_wanted(s->dev, &id, &port));
	fd = vs_open_from_guest(s, 2000, 80);
	vs_put_data(s, 2000, 80, "GET", 3);
	vs_says(r, fd, "GET");
	CHECK_EQ(write(fd, "200", 3), 3);
	CHECK_EQ(vs_next(s), OP_RW);
	close(fd);
	CHECK_EQ(vs_next(s), OP_SHUTDOWN); /* it writes no more and reads no more */
	if (s->p.flags != 3) {
		CHECK_EQ(s->p.flags, 1);
		CHECK_EQ(vs_next(s), OP_SHUTDOWN);
		CHECK_EQ(s->p.flags, 3);
	}
	vs_put(s, OP_RST, 2000, 80);
	/* refused */
	vs_put(s, OP_REQUEST, 2001, 81);
	CHECK(virtio_vsock_wanted(s->dev, &id, &port));
	virtio_vsock_answer(s->dev, id, -ECONNREFUSED);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->p.dst_port, 2001);
	/* one at a time; who was given up is not connected */
	vs_put(s, OP_REQUEST, 2002, 82);
	vs_put(s, OP_REQUEST, 2003, 83);
	CHECK(virtio_vsock_wanted(s->dev, &id, &port));
	CHECK_EQ(port, 82);
	CHECK(!virtio_vsock_wanted(s->dev, &id2, &port));
	vs_put(s, OP_RST, 2002, 82);
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
	CHECK_EQ(vs_next(s), 0);
	/* no answer at all: given up, and the next may ask */
	rig_advance(r, 12 * NSEC_PER_SEC);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->p.dst_port, 2003);
	fd = vs_open_from_guest(s, 2004, 84);
	close(fd);
}

/* The guest has room for so much only. */
static void credit_of_guest(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint8_t bytes[5000];
	uint32_t port, total = 0;
	int fd;

	vs_open_started(r, s);
	memset(bytes, 'x', sizeof(bytes));
	s->alloc = 1000;
	fd = vs_open_from_host(s, 1, &port);
	CHECK_EQ(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	CHECK_EQ(vs_next(s), OP_RW);
	CHECK_EQ(s->p.len, 1000);
	CHECK_EQ(vs_next(s), OP_CREDIT_REQUEST);
	CHECK_EQ(vs_next(s), 0); /* asked once */
	CHECK_EQ(write(fd, bytes, 1), 1);
	CHECK_EQ(vs_next(s), 0);
	s->forwarded = 1000;
	s->alloc = 2500;
	vs_put(s, OP_CREDIT_UPDATE, 1, port);
	CHECK_EQ(vs_next(s), OP_RW);
	CHECK_EQ(s->p.len, 2500);
	CHECK_EQ(vs_next(s), OP_CREDIT_REQUEST);
	/* it says that it read what was never sent: no room */
	s->forwarded = 0x80000000;
	vs_put(s, OP_CREDIT_UPDATE, 1, port);
	CHECK_EQ(vs_next(s), 0);
	s->alloc = 0xffffffff; /* all room in the world: a buffer's worth in a packet */
	s->forwarded = 3500;
	vs_put(s, OP_CREDIT_UPDATE, 1, port);
	CHECK_EQ(vs_next(s), OP_RW);
	total = s->p.len;
	CHECK_EQ(total, 1501);
	CHECK_EQ(vs_next(s), 0);
	vs_put(s, OP_CREDIT_REQUEST, 1, port);
	CHECK_EQ(vs_next(s), OP_CREDIT_UPDATE);
	CHECK_EQ(s->p.forwarded, 0);
	CHECK_EQ(s->p.alloc, VIRTIO_VSOCK_BUFFER);
	close(fd);
}

/* The host reads nothing: the guest may send a buffer's worth, and no more. */
static void credit_of_host(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t sent, told = 0;
	int fd;

	vs_open_started(r, s);
	fd = vs_open_from_guest(s, 3, 4);
	sent = vs_fill_up(s, 3, 4, VIRTIO_VSOCK_BUFFER);
	CHECK(sent > VIRTIO_VSOCK_BUFFER); /* the socket holds something too */
	CHECK_EQ(vs_next(s), 0);
	/* it reads all: nothing is lost, and the guest is told without asking */
	CHECK_EQ(vs_drain(r, fd, 0), sent);
	while (vs_next(s) == OP_CREDIT_UPDATE)
		told = s->p.forwarded;
	CHECK(told >= sent - VIRTIO_VSOCK_BUFFER / 4);
	close(fd);
	while (vs_next(s) == OP_SHUTDOWN)
		;
	vs_put(s, OP_RST, 3, 4);
	/* one byte more than there is credit for: that is the end */
	fd = vs_open_from_guest(s, 5, 6);
	(void)vs_fill_up(s, 5, 6, VIRTIO_VSOCK_BUFFER);
	vs_put_data(s, 5, 6, "x", 1);
	CHECK_EQ(vs_next(s), OP_RST);
	vs_put_data(s, 5, 6, "x", 1);
	CHECK_EQ(vs_next(s), OP_RST);
	close(fd);
}

/* What the guest sent before it closed reaches a reader that takes its time. */
static void lingers(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t sent, sent2;
	int fd, fd2, fd3;

	vs_open_started(r, s);
	fd = vs_open_from_guest(s, 1, 1);
	sent = vs_fill_up(s, 1, 1, 50000);
	vs_put_shutdown(s, 1, 1, 3);
	CHECK_EQ(vs_next(s), 0); /* not yet */
	CHECK_EQ(vs_drain(r, fd, 0), sent);
	CHECK_EQ(vs_next_but_credit(s), OP_RST);
	/* Linux waits 8 seconds for that, and says so */
	fd2 = vs_open_from_guest(s, 2, 2);
	sent2 = vs_fill_up(s, 2, 2, 50000);
	vs_put_shutdown(s, 2, 2, 3);
	vs_put(s, OP_RST, 2, 2);
	fd3 = vs_open_from_guest(s, 2, 2); /* the guest has forgotten it: the same ports again */
	vs_put_data(s, 2, 2, "new", 3);
	CHECK_EQ(vs_drain(r, fd2, 0), sent2);
	vs_at_end(r, fd2);
	vs_says(r, fd3, "new");
	CHECK_EQ(vs_next(s), 0);
	close(fd2);
	/* nobody ever reads: it ends some time */
	fd2 = vs_open_from_guest(s, 4, 4);
	(void)vs_fill_up(s, 4, 4, 50000);
	vs_put_shutdown(s, 4, 4, 3);
	rig_advance(r, 31 * NSEC_PER_SEC);
	CHECK_EQ(vs_next_but_credit(s), OP_RST);
	/* a reset without a word before throws away what waits */
	(void)vs_fill_up(s, 2, 2, 50000);
	vs_put(s, OP_RST, 2, 2);
	CHECK(vs_drain(r, fd3, 0) < 50000);
	vs_at_end(r, fd3);
	close(fd);
	close(fd2);
	close(fd3);
}

static void host_leaves(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd;

	vs_open_started(r, s);
	fd = vs_open_from_host(s, 9, &port);
	CHECK_EQ(write(fd, "last words", 10), 10);
	close(fd);
	rig_turn(r);
	vs_put_data(s, 9, port, "too late", 8); /* goes nowhere, and is no violation */
	/* "it does not read" may come at any time; what it said comes, and then "nor write" */
	while (vs_next(s) == OP_SHUTDOWN)
		CHECK_EQ(s->p.flags, 1);
	CHECK_EQ(s->p.op, OP_RW);
	CHECK_EQ(s->p.len, 10);
	CHECK_EQ(vs_next(s), OP_SHUTDOWN);
	CHECK_EQ(s->p.flags, 3);
	CHECK_EQ(vs_next(s), 0);
	rig_advance(r, 12 * NSEC_PER_SEC); /* the guest does not say that it heard */
	CHECK_EQ(vs_next(s), OP_RST);
	vs_put(s, OP_SHUTDOWN, 9, port);
	CHECK_EQ(vs_next(s), OP_RST);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "from the host", from_host }, { "greetings", greetings },
		{ "not accepted", not_accepted }, { "from the guest", from_guest },
		{ "the guest's credit", credit_of_guest }, { "the host's credit", credit_of_host },
		{ "lingers", lingers }, { "the host leaves", host_leaves },
	};

	return rig_main("virtio-vsock", cases, ARRAY_SIZE(cases), argc, argv);
}
