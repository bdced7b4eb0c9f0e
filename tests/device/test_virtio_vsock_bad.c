/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: hostile drivers and peers, limits, resets, pauses. */
#include <config.h>

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/virtio/vsock.h"
#include "machine/loop.h"
#include "tests/device/vsockrig.h"

/* An operation that a stream does not know, in each of its states: it ends. */
static void bad_operations(struct rig *r, struct vs *s)
{
	uint32_t port;
	uint16_t op;
	int fd;

	/* ops that an open stream does not know */
	for (op = 0; op < 12; op++) {
		if (op == OP_RST || (op >= OP_SHUTDOWN && op <= OP_CREDIT_REQUEST))
			continue;
		fd = vs_open_from_host(s, 11, &port);
		vs_put(s, op, 11, port);
		CHECK_EQ(vs_next(s), OP_RST);
		CHECK_EQ(s->p.src_port, port);
		vs_at_end(r, fd);
		close(fd);
	}
	/* what a stream that is not accepted yet does not know */
	for (op = OP_SHUTDOWN; op <= OP_CREDIT_REQUEST; op++) {
		fd = vs_dial_and_say(s, "CONNECT 11\n");
		CHECK_EQ(vs_next(s), OP_REQUEST);
		vs_put(s, op, 11, s->p.src_port);
		CHECK_EQ(vs_next(s), OP_RST);
		vs_at_end(r, fd);
		close(fd);
	}
	/* no such stream; a reset of it is not answered */
	for (op = 0; op < 12; op++) {
		if (op == OP_REQUEST)
			continue;
		vs_put(s, op, 99, 99);
		CHECK_EQ(vs_next(s), op == OP_RST ? 0 : OP_RST);
	}
}

/* Each rule broken, on a stream of its own: it ends, and nothing else does. */
static void violations(struct rig *r)
{
	struct vs vs, *s = &vs;
	struct vsock_packet p;
	uint32_t port, good_port;
	int fd, good;

	vs_open_started(r, s);
	good = vs_open_from_host(s, 10, &good_port);
	bad_operations(r, s);
	/* more than the packet has, more than there is after "I send no more" */
	fd = vs_open_from_host(s, 11, &port);
	p = vs_packet(s, OP_RW, 11, port);
	p.len = 5;
	vs_put_raw(s, &p, "four", 4);
	CHECK_EQ(vs_next(s), OP_RST);
	close(fd);
	fd = vs_open_from_host(s, 11, &port);
	vs_put_shutdown(s, 11, port, 2);
	vs_put_data(s, 11, port, "again", 5);
	CHECK_EQ(vs_next(s), OP_RST);
	close(fd);
	/* other kinds of sockets, other hosts */
	p = vs_packet(s, OP_REQUEST, 11, 11);
	p.type = 2;
	vs_put_raw(s, &p, "", 0);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->p.type, 2);
	p = vs_packet(s, OP_REQUEST, 11, 11);
	p.dst = 77;
	vs_put_raw(s, &p, "", 0);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->p.src, 77);
	/* in another guest's name: not a word, and no effect */
	p = vs_packet(s, OP_RST, 10, good_port);
	p.src = VSOCK_GUEST + 1;
	vs_put_raw(s, &p, "", 0);
	CHECK_EQ(vs_next(s), 0);
	/* not even a header */
	vd_select(&s->d, 1);
	vd_desc(&s->d, 0, VS_OUT, VSOCK_BYTES - 1, 0, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 1);
	CHECK(vd_wait(&s->d, s->d.avail));
	CHECK_EQ(vs_next(s), 0);
	vs_put_data(s, 10, good_port, "fine", 4);
	vs_says(r, good, "fine");
	CHECK_EQ(vd_get(&s->d, VC_STATUS, 1), 0xf);
	close(good);
}

/* Buffers for packets that hold none: the device is lost, and the host's programs are told. */
static void small_buffers(struct rig *r)
{
	struct vs vs, *s = &vs;
	uint32_t port;
	int fd;

	vs_open(r, s);
	vs_start(s, false);
	vs_give(s, 0, VS_SLOT_BYTES);
	fd = vs_dial_and_say(s, "CONNECT 1\n");
	rig_turn(r);
	vd_select(&s->d, 0);
	CHECK(vd_wait(&s->d, 1));
	vs_give(s, 1, VSOCK_BYTES);
	port = 0x40000000;
	vs_put(s, OP_RST, 1, port + 5);
	vs_put(s, OP_SHUTDOWN, 1, port + 5); /* to be answered */
	CHECK(vd_wait_status(&s->d, 0x40, 0x40));
	vs_at_end(r, fd);
	close(fd);
	vs_start(s, true);
	fd = vs_open_from_host(s, 1, &port);
	close(fd);
}

/* The guest reads nothing and sends what must be answered: its packets wait. */
static void flood(struct rig *r)
{
	struct vs vs, *s = &vs;
	struct vsock_packet p;
	uint8_t header[VSOCK_BYTES];
	unsigned i, resets = 0;

	vs_open(r, s);
	vs_start(s, false);
	vd_select(&s->d, 1);
	p = vs_packet(s, OP_RW, 1, 1);
	vsock_encode(header, &p);
	vd_store(&s->d, VS_OUT, header, sizeof(header));
	for (i = 0; i < 64; i++)
		vd_desc(&s->d, i, VS_OUT, sizeof(header), 0, 0);
	for (i = 0; i < 64; i++)
		vd_push(&s->d, (uint16_t)i);
	vd_kick(&s->d, 1);
	CHECK(vd_wait(&s->d, 64));
	for (i = 0; i < 40; i++)
		vd_push(&s->d, (uint16_t)i);
	vd_kick(&s->d, 1);
	rig_turn(r);
	CHECK_EQ(vd_used_idx(&s->d), 64);
	for (i = 0; i < VS_SLOTS; i++)
		vs_give(s, i, VS_SLOT_BYTES);
	while (vs_next(s) == OP_RST)
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

	vs_open_started(r, s);
	for (i = 0; i < VIRTIO_VSOCK_CONNECTIONS_MAX; i++)
		fd[i] = vs_dial(s);
	rig_turn(r);
	more = vs_dial(s);
	vs_at_end(r, more);
	close(more);
	vs_silent(r, fd[VIRTIO_VSOCK_CONNECTIONS_MAX - 1]);
	vs_put(s, OP_REQUEST, 1, 1);
	CHECK_EQ(vs_next(s), OP_RST);
	CHECK_EQ(s->wanted, 0);
	close(fd[17]);
	rig_turn(r);
	vs_put(s, OP_REQUEST, 1, 1);
	CHECK_EQ(vs_next(s), 0);
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

	vs_open_started(r, s);
	CHECK_EQ(events(s), 0);
	open = vs_open_from_host(s, 1, &port);
	asking = vs_dial_and_say(s, "CONNECT 2\n");
	CHECK_EQ(vs_next(s), OP_REQUEST);
	greeting = vs_dial_and_say(s, "CON");
	clogged = vs_open_from_guest(s, 3, 3);
	(void)vs_fill_up(s, 3, 3, 50000);
	vs_put(s, OP_REQUEST, 4, 4);
	CHECK(virtio_vsock_wanted(s->dev, &id, &wish));
	vd_set(&s->d, VC_STATUS, 1, 0);
	vs_at_end(r, open);
	vs_at_end(r, asking);
	vs_at_end(r, greeting);
	(void)vs_drain(r, clogged, 0);
	vs_at_end(r, clogged);
	vs_start(s, true);
	late = socket(AF_UNIX, SOCK_STREAM, 0);
	virtio_vsock_answer(s->dev, id, late);
	CHECK(dup2(late, late) < 0);
	rig_turn(r);
	/* the driver is told, once, that what it had is no more */
	CHECK_EQ(events(s), 1);
	vs_put_data(s, 1, port, "x", 1);
	CHECK_EQ(vs_next(s), OP_RST);
	close(open);
	open = vs_open_from_host(s, 1, &port);
	machine_reset_devices(r->machine);
	vs_at_end(r, open);
	vd_cfg_write(&s->d, 4, 2, 6);
	vs_start(s, true);
	CHECK_EQ(events(s), 1);
	vd_set(&s->d, VC_STATUS, 1, 0);
	vs_start(s, true);
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

	vs_open_started(r, s);
	fd = vs_open_from_host(s, 1, &port);
	clogged = vs_open_from_guest(s, 2, 2);
	(void)vs_fill_up(s, 2, 2, 50000);
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine);
	CHECK_EQ(write(fd, "while it sleeps", 15), 15);
	fd2 = vs_dial_and_say(s, "CONNECT 3\n");
	CHECK_EQ(vs_next(s), 0);
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	CHECK_EQ(vs_next(s), OP_RW);
	CHECK_EQ(s->p.len, 15);
	CHECK_EQ(vs_next(s), OP_REQUEST);
	CHECK(vs_drain(r, clogged, 0) > 50000);
	vs_put_data(s, 1, port, "awake", 5);
	vs_says(r, fd, "awake");
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
		{ "violations", violations }, { "small buffers", small_buffers },
		{ "flood", flood }, { "limit", limit },
		{ "resets", resets }, { "pause and resume", pauses },
		{ "bad configurations", bad_config },
	};

	return rig_main("virtio-vsock-bad", cases, ARRAY_SIZE(cases), argc, argv);
}
