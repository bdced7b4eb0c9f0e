/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console: the terminal alone, named ports, peers that come and go, hostile drivers. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/console.h"
#include "machine/loop.h"
#include "tests/device/vdriver.h"

#define IN(n) (VD_BUFFERS + (n) * 0x1000ull)
#define OUT(n) (VD_BUFFERS + 0x80000ull + (n) * 0x1000ull)

enum { C_RX = 2, C_TX = 3 };
enum { READY = 0, ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, RESIZE = 5, OPEN = 6, NAME = 7 };

struct con {
	struct vdriver d;
	struct device *dev;
	int peer;      /* of the terminal; -1: none */
	int listen_fd; /* of port 1 */
	struct sockaddr_un address;
	socklen_t address_len;
	unsigned told; /* control messages read */
};

static void con_open(struct rig *r, struct con *c, bool terminal, bool port)
{
	struct virtio_console_config config = { .fd = -1 };
	int pair[2] = { -1, -1 };

	memset(c, 0, sizeof(*c));
	c->peer = c->listen_fd = -1;
	if (terminal) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
		config.fd = pair[0];
		c->peer = pair[1];
	}
	if (port) {
		c->listen_fd = rig_listen(4, &c->address, &c->address_len);
		config.port_count = 1;
		config.port[0].fd = c->listen_fd;
		strcpy(config.port[0].name, "org.example.agent");
	}
	c->dev = rig_add(r, &virtio_console_class, &config);
	if (terminal)
		close(pair[0]);
	if (port)
		close(c->listen_fd);
	CHECK(vd_find(r, &c->d, 0x1043));
}

static int dial(struct con *c)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (void *)&c->address, c->address_len) == 0);
	return fd;
}

/* Gives queue's n-th buffer of `len` bytes to the device. */
static void give(struct con *c, unsigned queue, unsigned slot, uint32_t len)
{
	vd_select(&c->d, queue);
	vd_desc(&c->d, slot, IN(queue) + slot * 0x200, len, VD_WRITE, 0);
	vd_push(&c->d, (uint16_t)slot);
	vd_kick(&c->d, queue);
}

static void put(struct con *c, unsigned queue, const void *bytes, uint32_t len)
{
	vd_select(&c->d, queue);
	vd_store(&c->d, OUT(queue), bytes, len);
	vd_desc(&c->d, 0, OUT(queue), len, 0, 0);
	vd_push(&c->d, 0);
	vd_kick(&c->d, queue);
}

static void control(struct con *c, uint32_t id, uint16_t event, uint16_t value)
{
	uint8_t message[8];

	put_le32(message, id);
	put_le16(message + 4, event);
	put_le16(message + 6, value);
	put(c, C_TX, message, sizeof(message));
	CHECK(vd_wait(&c->d, c->d.avail));
}

/* The next control message; its text in `text`. Its buffer is given again. */
static unsigned message(struct con *c, uint32_t *id, uint16_t *value, char *text)
{
	uint8_t bytes[80] = { 0 };
	uint32_t slot, len;

	*id = 99;
	*value = 99;
	vd_select(&c->d, C_RX);
	rig_turn(c->d.rig);
	if (vd_used_idx(&c->d) == (uint16_t)c->told)
		return 99;
	vd_used(&c->d, (uint16_t)c->told++, &slot, &len);
	CHECK(len >= 8 && len <= sizeof(bytes));
	vd_load(&c->d, IN(C_RX) + slot * 0x200, bytes, len < sizeof(bytes) ? len : sizeof(bytes));
	*id = get_le32(bytes);
	*value = get_le16(bytes + 6);
	memcpy(text, bytes + 8, len - 8);
	text[len - 8] = 0;
	give(c, C_RX, slot, 0x200);
	return get_le16(bytes + 4);
}

#define MESSAGE(event, wanted_id, wanted_value) do { \
		CHECK_EQ(message(c, &id, &value, text), event); \
		CHECK_EQ(id, wanted_id); \
		CHECK_EQ(value, wanted_value); \
	} while (0)

static void start_ports(struct con *c)
{
	unsigned i;

	vd_start_queues(&c->d, 1 << 1, 64, 6);
	c->told = 0;
	for (i = 0; i < 8; i++)
		give(c, C_RX, i, 0x200);
	control(c, 0xffffffff, READY, 1);
}

static bool readable(void *opaque)
{
	struct pollfd p = { .fd = *(int *)opaque, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void says(struct rig *r, int fd, const char *text)
{
	char buf[256] = { 0 };

	CHECK(rig_turn_until(r, readable, &fd));
	CHECK_EQ(read(fd, buf, sizeof(buf) - 1), strlen(text));
	CHECK(!strcmp(buf, text));
}

static void terminal(struct rig *r)
{
	struct con con, *c = &con;
	char buf[16] = { 0 };
	uint32_t id, len;

	con_open(r, c, true, false);
	CHECK_EQ(vd_features(&c->d), VF_CORE | VF_IN_ORDER | 1);
	CHECK_EQ(vd_get(&c->d, VC_NUMQ, 2), 2);
	CHECK_EQ(rig_read(r, c->d.config, 2), 80);
	CHECK_EQ(rig_read(r, c->d.config + 2, 2), 25);
	vd_start_queues(&c->d, 1, 64, 2);
	put(c, 1, "hello\n", 6);
	says(r, c->peer, "hello\n");
	/* input waits until there is a buffer, and fills several */
	CHECK_EQ(write(c->peer, "0123456789", 10), 10);
	rig_turn(r);
	give(c, 0, 0, 4);
	give(c, 0, 1, 64);
	CHECK(vd_wait(&c->d, 2));
	vd_used(&c->d, 0, &id, &len);
	CHECK_EQ(len, 4);
	vd_used(&c->d, 1, &id, &len);
	CHECK_EQ(len, 6);
	vd_load(&c->d, IN(0) + 0x200, buf, 6);
	CHECK(!memcmp(buf, "456789", 6));
	/* with its first output the terminal is told its size; then a new one */
	CHECK_EQ(rig_read(r, c->d.isr, 1) & 2, 2);
	CHECK_EQ(vd_get(&c->d, VC_GEN, 1), 1);
	put(c, 1, "more\n", 5);
	says(r, c->peer, "more\n");
	virtio_console_resize(c->dev, 132, 43);
	rig_turn(r);
	CHECK_EQ(rig_read(r, c->d.config, 4), 132 | 43 << 16);
	CHECK_EQ(vd_get(&c->d, VC_GEN, 1), 2);
	CHECK_EQ(rig_read(r, c->d.isr, 1) & 2, 2);
	virtio_console_resize(c->dev, 132, 43); /* the same */
	virtio_console_resize(c->dev, 0, 43);   /* none */
	rig_turn(r);
	CHECK_EQ(vd_get(&c->d, VC_GEN, 1), 2);
	close(c->peer);
}

/* More than the peer takes: the guest waits, nothing is lost, nothing is twice. */
static void slow_peer(struct rig *r)
{
	struct con con, *c = &con;
	static uint8_t wanted[300000], got[300000];
	size_t total = 0, i;

	con_open(r, c, true, false);
	vd_start_queues(&c->d, 0, 64, 2);
	for (i = 0; i < sizeof(wanted); i++)
		wanted[i] = (uint8_t)(i * 31 + i / 251);
	vd_select(&c->d, 1);
	vd_store(&c->d, 0x200000, wanted, sizeof(wanted));
	for (i = 0; i < 3; i++)
		vd_desc(&c->d, (unsigned)i, 0x200000 + i * 100000, 100000, 0, 0);
	for (i = 0; i < 3; i++)
		vd_push(&c->d, (uint16_t)i);
	vd_kick(&c->d, 1);
	for (i = 0; i < 200; i++)
		loop_turn(r->machine->loop, 1);
	CHECK(vd_used_idx(&c->d) < 3);
	vd_set(&c->d, VC_QSEL, 2, 0);
	for (i = 0; i < 100000 && total < sizeof(got); i++) {
		ssize_t n = read(c->peer, got + total, sizeof(got) - total);

		if (n > 0)
			total += (size_t)n;
		loop_turn(r->machine->loop, n > 0 ? 0 : 1);
	}
	CHECK_EQ(total, sizeof(got));
	CHECK(!memcmp(got, wanted, sizeof(got)));
	CHECK(vd_wait(&c->d, 3));
	/* and a reset while it waits forgets the rest */
	for (i = 0; i < 3; i++)
		vd_push(&c->d, (uint16_t)i);
	vd_kick(&c->d, 1);
	rig_turn(r);
	vd_start_queues(&c->d, 0, 64, 2);
	while (read(c->peer, got, sizeof(got)) > 0)
		rig_turn(r);
	put(c, 1, "fresh", 5);
	CHECK(vd_wait(&c->d, 1));
	close(c->peer);
}

static void ports(struct rig *r)
{
	struct con con, *c = &con;
	char text[80], buf[32] = { 0 };
	uint32_t id, len;
	uint16_t value;
	int peer, other;

	con_open(r, c, true, true);
	CHECK_EQ(vd_features(&c->d), VF_CORE | VF_IN_ORDER | 3);
	CHECK_EQ(vd_get(&c->d, VC_NUMQ, 2), 6);
	CHECK_EQ(rig_read(r, c->d.config + 4, 4), 2);
	start_ports(c);
	MESSAGE(ADD, 0, 1);
	MESSAGE(ADD, 1, 1);
	control(c, 0, PORT_READY, 1);
	MESSAGE(CONSOLE_PORT, 0, 1);
	MESSAGE(OPEN, 0, 1);
	MESSAGE(RESIZE, 0, 1);
	CHECK_EQ(get_le16((uint8_t *)text), 80);
	CHECK_EQ(get_le16((uint8_t *)text + 2), 25);
	control(c, 1, PORT_READY, 1);
	MESSAGE(NAME, 1, 1);
	CHECK(!strcmp(text, "org.example.agent"));
	CHECK_EQ(message(c, &id, &value, text), 99); /* nobody is there */
	/* what is written to nobody is taken */
	put(c, 5, "nobody", 6);
	CHECK(vd_wait(&c->d, 1));
	peer = dial(c);
	MESSAGE(OPEN, 1, 1);
	other = dial(c); /* one at a time */
	CHECK(rig_turn_until(r, readable, &other));
	CHECK_EQ(read(other, buf, 1), 0);
	close(other);
	put(c, 5, "to the host", 11);
	says(r, peer, "to the host");
	/* input waits until the guest has the port open */
	give(c, 4, 0, 64);
	CHECK_EQ(write(peer, "to the guest", 12), 12);
	rig_turn(r);
	vd_select(&c->d, 4);
	CHECK_EQ(vd_used_idx(&c->d), 0);
	control(c, 1, OPEN, 1);
	vd_select(&c->d, 4);
	CHECK(vd_wait(&c->d, 1));
	vd_used(&c->d, 0, &id, &len);
	CHECK_EQ(len, 12);
	/* last words, then gone; another comes */
	CHECK_EQ(write(peer, "bye", 3), 3);
	close(peer);
	rig_turn(r);
	give(c, 4, 1, 64);
	CHECK(vd_wait(&c->d, 2));
	vd_load(&c->d, IN(4) + 0x200, buf, 3);
	CHECK(!memcmp(buf, "bye", 3));
	MESSAGE(OPEN, 1, 0);
	peer = dial(c);
	MESSAGE(OPEN, 1, 1);
	put(c, 5, "again", 5);
	says(r, peer, "again");
	/* the terminal goes on beside it, and its size is a message */
	put(c, 1, "term", 4);
	says(r, c->peer, "term");
	virtio_console_resize(c->dev, 100, 30);
	MESSAGE(RESIZE, 0, 1);
	CHECK_EQ(get_le16((uint8_t *)text), 100);
	CHECK_EQ(get_le16((uint8_t *)text + 2), 30);
	/* after a reset everything is told anew */
	start_ports(c);
	MESSAGE(ADD, 0, 1);
	MESSAGE(ADD, 1, 1);
	CHECK_EQ(message(c, &id, &value, text), 99);
	close(peer);
	close(c->peer);
}

static void ports_only(struct rig *r)
{
	struct con con, *c = &con;
	char text[80];
	uint32_t id;
	uint16_t value;

	con_open(r, c, false, true);
	start_ports(c);
	MESSAGE(ADD, 1, 1); /* there is no port 0 */
	control(c, 0, PORT_READY, 1);
	control(c, 0, OPEN, 1);
	put(c, 1, "nowhere", 7);
	rig_turn(r);
	give(c, 0, 0, 64);
	rig_turn(r);
	CHECK_EQ(message(c, &id, &value, text), 99);
	CHECK_EQ(vd_get(&c->d, VC_STATUS, 1), 0xf);
}

/* Messages that make no sense, in any number and order, and buffers that are too small. */
static void hostile(struct rig *r)
{
	static const uint32_t ids[] = { 0, 1, 2, 8, 9, 0x7fffffff, 0xffffffff };
	struct con con, *c = &con;
	uint8_t junk[3] = { 1, 2, 3 };
	unsigned i, event, slot;
	int peer;

	con_open(r, c, true, true);
	start_ports(c);
	for (i = 0; i < ARRAY_SIZE(ids); i++)
		for (event = 0; event < 12; event++) {
			control(c, ids[i], (uint16_t)event, 1);
			control(c, ids[i], (uint16_t)event, 0);
			control(c, ids[i], (uint16_t)event, 0xffff);
		}
	put(c, C_TX, junk, sizeof(junk));
	CHECK(vd_wait(&c->d, c->d.avail));
	CHECK_EQ(vd_get(&c->d, VC_STATUS, 1), 0xf);
	/* comes and goes without end: what is to be told does not grow */
	for (i = 0; i < 200; i++) {
		peer = dial(c);
		rig_turn(r);
		close(peer);
		rig_turn(r);
	}
	start_ports(c);
	for (slot = 8; slot < 20; slot++)
		give(c, C_RX, slot, slot % 8); /* seven bytes at most */
	control(c, 1, PORT_READY, 1);
	rig_turn(r);
	give(c, 0, 0, 0);
	vd_select(&c->d, 0);
	CHECK_EQ(write(c->peer, "x", 1), 1);
	give(c, 0, 1, 4);
	rig_turn(r);
	CHECK_EQ(vd_get(&c->d, VC_STATUS, 1), 0xf);
	/* a readable buffer where one to write to belongs */
	control(c, 0, OPEN, 1);
	vd_select(&c->d, 0);
	vd_desc(&c->d, 2, IN(0), 64, 0, 0);
	vd_push(&c->d, 2);
	CHECK_EQ(write(c->peer, "y", 1), 1);
	vd_kick(&c->d, 0);
	rig_turn(r);
	CHECK_EQ(vd_get(&c->d, VC_STATUS, 1), 0xf);
	close(c->peer);
}

static void pauses(struct rig *r)
{
	struct con con, *c = &con;

	con_open(r, c, true, false);
	vd_start_queues(&c->d, 1, 64, 2);
	loop_hold(r->machine->loop, true);
	machine_pause_devices(r->machine);
	put(c, 1, "late", 4);
	give(c, 0, 0, 64);
	CHECK_EQ(write(c->peer, "in", 2), 2);
	virtio_console_resize(c->dev, 90, 30);
	rig_turn(r);
	vd_select(&c->d, 0);
	CHECK_EQ(vd_used_idx(&c->d), 0);
	CHECK_EQ(rig_read(r, c->d.config, 2), 80);
	machine_resume_devices(r->machine);
	loop_hold(r->machine->loop, false);
	CHECK(vd_wait(&c->d, 1));
	says(r, c->peer, "late");
	CHECK_EQ(rig_read(r, c->d.config, 2), 90);
	machine_reset_devices(r->machine);
	close(c->peer);
}

static void bad_descriptors(struct rig *r)
{
	struct virtio_console_config config = { .fd = -1 };
	struct device *dev = NULL;

	CHECK_EQ(device_create(r->machine, &virtio_console_class, &config, &dev), (uint64_t)-EINVAL);
	config.fd = 9999;
	CHECK_EQ(device_create(r->machine, &virtio_console_class, &config, &dev), (uint64_t)-EBADF);
	config.fd = -1;
	config.port_count = VIRTIO_CONSOLE_PORTS_MAX + 1;
	CHECK_EQ(device_create(r->machine, &virtio_console_class, &config, &dev), (uint64_t)-EINVAL);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "terminal", terminal },     { "slow peer", slow_peer },
		{ "ports", ports },           { "ports without a terminal", ports_only },
		{ "hostile driver", hostile }, { "pause and resume", pauses },
		{ "bad descriptors", bad_descriptors },
	};

	return rig_main("virtio-console", cases, ARRAY_SIZE(cases), argc, argv);
}
