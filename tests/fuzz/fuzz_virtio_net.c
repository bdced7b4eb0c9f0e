/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net with a peer that sends whatever it likes, as a stream of frames or in packets with headers:
 * frames good and bad, every offload, commands of the control queue, limits.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "devices/virtio/net_internal.h"
#include "tests/fuzz/vfuzz.h"

#define HEADER 12u
enum { RX = 0, TX = 1, CONTROL = 2 };

struct state {
	struct vfuzz f;
	int peer;
	bool packets; /* NET_PACKET */
};

static void put_net_header(struct input *in, uint8_t *h, uint32_t len)
{
	static const uint8_t gso[] = { 0, 0, 1, 4, 5, 0x81, 3 };

	h[0] = rarely(in) ? input8(in) : (uint8_t)pick(in, 4);
	h[1] = rarely(in) ? input8(in) : gso[pick(in, sizeof(gso))];
	put_le16(h + 2, rarely(in) ? input16(in) : 54);
	put_le16(h + 4, rarely(in) ? input16(in) : (uint16_t)(100 + input8(in)));
	put_le16(h + 6, rarely(in) ? input16(in) : 34);
	put_le16(h + 8, rarely(in) ? (uint16_t)len : 16);
	put_le16(h + 10, rarely(in) ? input16(in) : 0);
}

/* Ethernet, IPv4 or IPv6, TCP or UDP; lengths that are mostly right. */
static uint32_t put_frame(struct input *in, uint8_t *at)
{
	uint32_t len = rarely(in) ? pick(in, 60) : 60u + 8u * input8(in);
	bool six = input8(in) & 1;

	memset(at, 0, 60);
	memset(at, input8(in) & 1 ? 0xff : 2, 6);
	at[12] = six ? 0x86 : 8;
	at[13] = six ? 0xdd : 0;
	at[14] = six ? 0x60 : rarely(in) ? input8(in) : 0x45;
	put_be16(at + (six ? 18 : 16), rarely(in) ? input16(in) : (uint16_t)(len - (six ? 54 : 14)));
	at[six ? 20 : 23] = rarely(in) ? input8(in) : input8(in) & 1 ? 6 : 17;
	if (!six)
		at[46] = rarely(in) ? input8(in) : 0x50;
	return len;
}

static void guest_sends(void *opaque)
{
	struct state *s = opaque;
	static uint8_t bytes[HEADER + 4096];
	struct input *in = &s->f.in;
	uint32_t len = put_frame(in, bytes + HEADER);

	put_net_header(in, bytes, len);
	vf_push(&s->f, TX, bytes, rarely(in) ? pick(in, HEADER) + 1u : HEADER + len, 0);
}

static void give_buffers(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	unsigned n = 1 + pick(in, 4);

	while (n--)
		vf_push(&s->f, RX, NULL, 0, rarely(in) ? input8(in) :
			input8(in) & 1 ? 1526 : 128u + 8u * input8(in));
}

static void commands(void *opaque)
{
	struct state *s = opaque;
	static const uint8_t known[][2] = { { 0, 0 }, { 0, 1 }, { 0, 2 }, { 0, 3 }, { 0, 4 }, { 0, 5 },
					    { 1, 0 }, { 1, 1 }, { 2, 0 }, { 3, 0 }, { 4, 0 }, { 5, 0 } };
	struct input *in = &s->f.in;
	unsigned which = pick(in, 12), n = input8(in) & 1 ? 1 : pick(in, 100), i;
	uint8_t bytes[2 + 200];

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	bytes[0] = rarely(in) ? input8(in) : known[which][0];
	bytes[1] = rarely(in) ? input8(in) : known[which][1];
	if (bytes[0] == 1 && !bytes[1]) { /* two tables of addresses */
		put_le32(bytes + 2, rarely(in) ? (uint32_t)input_edge(in) : pick(in, 3));
		n = 4 + 12 + 4 + 6;
	} else {
		put_le64(bytes + 2, rarely(in) ? input64(in) : input8(in));
	}
	vf_push(&s->f, CONTROL, bytes, 2 + n, rarely(in) ? pick(in, 4) : 1);
}

static void peer_sends(struct state *s)
{
	static uint8_t bytes[HEADER + 4096];
	struct input *in = &s->f.in;
	uint32_t len = put_frame(in, bytes + HEADER);

	if (s->packets) {
		put_net_header(in, bytes, len);
		(void)!send(s->peer, bytes, rarely(in) ? pick(in, HEADER + 14) : HEADER + len,
			    MSG_NOSIGNAL);
		return;
	}
	put_be32(bytes + HEADER - 4, rarely(in) ? (uint32_t)input_edge(in) : len);
	(void)!send(s->peer, bytes + HEADER - 4, rarely(in) ? pick(in, 4) : 4 + len, MSG_NOSIGNAL);
}

static void peer_does(void *opaque)
{
	struct state *s = opaque;
	uint8_t buf[8192];

	switch (pick(&s->f.in, 4)) {
	case 0:
		if (rarely(&s->f.in))
			shutdown(s->peer, (int)pick(&s->f.in, 3));
		break;
	case 1:
		(void)!read(s->peer, buf, sizeof(buf));
		break;
	default:
		peer_sends(s);
		break;
	}
}

/* A frame is taken, whether its peer is still there or not. */
static void must_still_work(struct state *s)
{
	static const uint8_t bytes[HEADER + 60];
	uint8_t buf[65536];

	vf_again(&s->f);
	vf_push(&s->f, TX, bytes, sizeof(bytes), 0);
	do {
		rig_advance(&s->f.rig, 10000000000ull); /* limits let go */
		rig_turn(&s->f.rig);
	} while (read(s->peer, buf, sizeof(buf)) > 0);
	vf_must_come_back(&s->f, TX, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static vf_deed *const deeds[VF_DEEDS] = { guest_sends, guest_sends, give_buffers,
						  commands, peer_does, peer_does };
	struct virtio_net_config config = { .mac = { 2, 0, 0, 0, 0, 1 }, .fd_count = 1, .mtu = 1500 };
	struct state *s = calloc(1, sizeof(*s));
	unsigned kind;
	int fds[2];

	if (!s)
		abort();
	s->f.features = NET_FEATURES & ~(1ull << NET_F_MQ);
	s->f.queues = 3;
	s->f.device_id = 1;
	vf_open(&s->f, data, size, &config.place);
	kind = input8(&s->f.in);
	s->packets = kind & 1;
	if (kind & 2) {
		config.from_guest.packets.per_second = 100;
		config.to_guest.bytes.per_second = 100000;
	}
	if (socketpair(AF_UNIX, (s->packets ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC,
		       0, fds) < 0)
		abort();
	s->peer = fds[0];
	config.kind = s->packets ? NET_PACKET : NET_STREAM;
	config.fds[0] = fds[1];
	vf_add(&s->f, &virtio_net_class, &config);
	vf_run(&s->f, deeds, s);
	must_still_work(s);
	vf_close(&s->f);
	close(s->peer);
	free(s);
	return 0;
}
