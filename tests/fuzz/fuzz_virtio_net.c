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
#include "tests/fuzz/netinput.h"

enum { RX = 0, TX = 1, CONTROL = 2 };

struct state {
	struct vfuzz f; /* the first: deeds of it alone are given it */
	int peer;
	bool packets; /* NET_PACKET */
};

static void guest_sends(void *opaque)
{
	ni_send(opaque, TX);
}

static void give_buffers(void *opaque)
{
	ni_buffers(opaque, RX);
}

static void commands(void *opaque)
{
	ni_command(opaque, CONTROL);
}

static void peer_sends(struct state *s)
{
	static uint8_t bytes[NI_PACKET_MAX];
	struct input *in = &s->f.in;
	uint32_t len = ni_frame(in, bytes + NI_HEADER);

	if (s->packets) {
		ni_header(in, bytes, len);
		(void)!send(s->peer, bytes, rarely(in) ? pick(in, NI_HEADER + 14) : NI_HEADER + len,
			    MSG_NOSIGNAL);
		return;
	}
	put_be32(bytes + NI_HEADER - 4, rarely(in) ? (uint32_t)input_edge(in) : len);
	(void)!send(s->peer, bytes + NI_HEADER - 4, rarely(in) ? pick(in, 4) : 4 + len, MSG_NOSIGNAL);
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
	static const uint8_t bytes[NI_HEADER + 60];
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
