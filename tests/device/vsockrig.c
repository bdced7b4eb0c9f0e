/* SPDX-License-Identifier: Apache-2.0 */
/* vsockrig.c - see vsockrig.h. */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"
#include "tests/device/vsockrig.h"

#define EVENT (VD_BUFFERS + 0x70000ull)
#define ROOM 65536u /* what the guest says it has */

static void wanted(void *opaque)
{
	((struct vs *)opaque)->wanted++;
}

void vs_give(struct vs *s, unsigned slot, uint32_t len)
{
	vd_select(&s->d, 0);
	vd_desc(&s->d, slot, VS_IN(slot), len, VD_WRITE, 0);
	vd_push(&s->d, (uint16_t)slot);
	vd_kick(&s->d, 0);
}

void vs_start(struct vs *s, bool buffers)
{
	unsigned i;

	vd_start_queues(&s->d, VF_EVENT_IDX, 64, 3);
	s->read = 0;
	for (i = 0; i < VS_SLOTS && buffers; i++)
		vs_give(s, i, VS_SLOT_BYTES);
	vd_select(&s->d, 2);
	vd_desc(&s->d, 0, EVENT, 4, VD_WRITE, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 2);
	rig_turn(s->d.rig);
}

void vs_open(struct rig *r, struct vs *s)
{
	struct virtio_vsock_config config = { .cid = VSOCK_GUEST, .wanted = wanted, .opaque = s };

	memset(s, 0, sizeof(*s));
	s->alloc = ROOM;
	s->listen_fd = rig_listen(300, &s->address, &s->address_len);
	config.listen_fd = s->listen_fd;
	s->dev = rig_add(r, &virtio_vsock_class, &config);
	CHECK(vd_find(r, &s->d, 0x1053));
}

void vs_open_started(struct rig *r, struct vs *s)
{
	vs_open(r, s);
	vs_start(s, true);
}

/* --- the guest -------------------------------------------------------------------------------- */

void vs_put_raw(struct vs *s, const struct vsock_packet *p, const void *data, uint32_t bytes)
{
	uint8_t header[VSOCK_BYTES];
	uint16_t before;

	vsock_encode(header, p);
	vd_select(&s->d, 1);
	before = s->d.avail;
	vd_store(&s->d, VS_OUT, header, sizeof(header));
	vd_store(&s->d, VS_OUT + sizeof(header), data, bytes);
	vd_desc(&s->d, 0, VS_OUT, sizeof(header) + bytes, 0, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 1);
	CHECK(vd_wait(&s->d, (uint16_t)(before + 1)));
}

struct vsock_packet vs_packet(struct vs *s, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vsock_packet){ .src = VSOCK_GUEST, .dst = 2, .src_port = guest_port,
				      .dst_port = host_port, .type = 1, .op = op, .alloc = s->alloc,
				      .forwarded = s->forwarded };
}

void vs_put(struct vs *s, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_packet p = vs_packet(s, op, guest_port, host_port);

	vs_put_raw(s, &p, "", 0);
}

void vs_put_data(struct vs *s, uint32_t guest_port, uint32_t host_port, const void *data,
		 uint32_t len)
{
	struct vsock_packet p = vs_packet(s, OP_RW, guest_port, host_port);

	p.len = len;
	vs_put_raw(s, &p, data, len);
}

void vs_put_shutdown(struct vs *s, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct vsock_packet p = vs_packet(s, OP_SHUTDOWN, guest_port, host_port);

	p.flags = flags;
	vs_put_raw(s, &p, "", 0);
}

unsigned vs_next(struct vs *s)
{
	uint8_t header[VSOCK_BYTES];
	uint32_t slot, len;

	rig_turn(s->d.rig);
	vd_select(&s->d, 0);
	if (vd_used_idx(&s->d) == s->read)
		return 0;
	vd_used(&s->d, s->read++, &slot, &len);
	vd_load(&s->d, VS_IN(slot), header, sizeof(header));
	vsock_decode(header, &s->p);
	CHECK_EQ(len, VSOCK_BYTES + s->p.len);
	CHECK_EQ(s->p.dst, VSOCK_GUEST);
	if (s->p.len <= sizeof(s->data))
		vd_load(&s->d, VS_IN(slot) + VSOCK_BYTES, s->data, s->p.len);
	vs_give(s, slot, VS_SLOT_BYTES);
	return s->p.op;
}

unsigned vs_next_but_credit(struct vs *s)
{
	unsigned op;

	do
		op = vs_next(s);
	while (op == OP_CREDIT_UPDATE);
	return op;
}

/* --- the host --------------------------------------------------------------------------------- */

int vs_dial(struct vs *s)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (void *)&s->address, s->address_len) == 0);
	return fd;
}

int vs_dial_and_say(struct vs *s, const char *text)
{
	int fd = vs_dial(s);

	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	rig_turn(s->d.rig);
	return fd;
}

void vs_says(struct rig *r, int fd, const char *text)
{
	char buf[256] = { 0 };

	rig_turn(r);
	CHECK_EQ(read(fd, buf, sizeof(buf) - 1), strlen(text));
	CHECK(!strcmp(buf, text));
}

void vs_at_end(struct rig *r, int fd)
{
	char byte;

	ssize_t n;

	rig_turn(r);
	n = read(fd, &byte, 1);
	CHECK(n == 0 || (n < 0 && errno == ECONNRESET)); /* that: it did not read all of ours */
}

void vs_silent(struct rig *r, int fd)
{
	char byte;

	rig_turn(r);
	CHECK(read(fd, &byte, 1) < 0 && errno == EAGAIN);
}

int vs_open_from_host(struct vs *s, uint32_t port, uint32_t *ret_host)
{
	char text[32];
	int fd;

	snprintf(text, sizeof(text), "CONNECT %u\n", port);
	fd = vs_dial_and_say(s, text);
	CHECK_EQ(vs_next(s), OP_REQUEST);
	CHECK_EQ(s->p.dst_port, port);
	CHECK_EQ(s->p.src, 2);
	CHECK_EQ(s->p.alloc, VIRTIO_VSOCK_BUFFER);
	*ret_host = s->p.src_port;
	vs_put(s, OP_RESPONSE, port, *ret_host);
	snprintf(text, sizeof(text), "OK %u\n", *ret_host);
	vs_says(s->d.rig, fd, text);
	return fd;
}

int vs_open_from_guest(struct vs *s, uint32_t guest_port, uint32_t host_port)
{
	int fds[2], small = 4096;
	uint32_t id = 0, port = 0;

	vs_put(s, OP_REQUEST, guest_port, host_port);
	CHECK(virtio_vsock_wanted(s->dev, &id, &port));
	CHECK_EQ(port, host_port);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
	virtio_vsock_answer(s->dev, id, fds[0]);
	CHECK_EQ(vs_next(s), OP_RESPONSE);
	CHECK_EQ(s->p.src_port, host_port);
	CHECK_EQ(s->p.dst_port, guest_port);
	return fds[1];
}

static void fill_bytes(uint8_t *bytes, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)((at + i) * 31 + (at + i) / 251);
}

uint32_t vs_fill_up(struct vs *s, uint32_t guest_port, uint32_t host_port, uint32_t want)
{
	static uint8_t bytes[4096];
	uint32_t sent = 0, forwarded = 0;

	while (sent - forwarded < want) {
		uint32_t n = want - (sent - forwarded);

		n = n < sizeof(bytes) ? n : (uint32_t)sizeof(bytes);
		fill_bytes(bytes, n, sent);
		vs_put_data(s, guest_port, host_port, bytes, n);
		sent += n;
		vs_put(s, OP_CREDIT_REQUEST, guest_port, host_port);
		CHECK_EQ(vs_next(s), OP_CREDIT_UPDATE);
		if (s->p.op != OP_CREDIT_UPDATE)
			break;
		forwarded = s->p.forwarded;
	}
	return sent;
}

size_t vs_drain(struct rig *r, int fd, size_t at)
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
