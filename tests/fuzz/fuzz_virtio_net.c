/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net with a peer that sends whatever it likes, and virtio-rng beside it: rings of both,
 * frames good and bad, resets, in any order.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"
#include "tests/fuzz/input.h"

#define QUEUE_SIZE 16u

struct state {
	struct rig rig;
	struct vdriver net, rng;
	struct input in;
	int peer;
};

static void start(struct state *s, struct vdriver *d, unsigned queues)
{
	static const uint64_t features[] = { 0, VF_INDIRECT, VF_EVENT_IDX,
					     VF_INDIRECT | VF_EVENT_IDX };
	uint64_t f = features[pick(&s->in, 4)] | VF_VERSION_1;
	unsigned i;

	vd_cfg_write(d, 4, 2, 6);
	vd_set(d, VC_STATUS, 1, 0);
	vd_set(d, VC_STATUS, 1, 3);
	vd_set(d, VC_GFSEL, 4, 0);
	vd_set(d, VC_GF, 4, (uint32_t)f);
	vd_set(d, VC_GFSEL, 4, 1);
	vd_set(d, VC_GF, 4, f >> 32);
	vd_set(d, VC_STATUS, 1, 0xb);
	for (i = 0; i < queues; i++)
		vd_queue(d, i, QUEUE_SIZE);
	vd_set(d, VC_STATUS, 1, 0xf);
	d->queue_size = QUEUE_SIZE;
	d->queue = 0;
	d->avail = d->ring[0].avail = d->ring[1].avail = 0;
}

/* A chain of one to three descriptors in the selected queue. */
static void push(struct state *s, struct vdriver *d, bool writable)
{
	struct input *in = &s->in;
	uint16_t first = (uint16_t)pick(in, QUEUE_SIZE);
	unsigned n = 1 + pick(in, 3), i;

	for (i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)((writable ? VD_WRITE : 0) | (i + 1 < n ? VD_NEXT : 0));
		uint32_t len = rarely(in) ? (uint32_t)input_edge(in) : 8u * input8(in);

		if (rarely(in))
			flags ^= (uint16_t)(1u << pick(in, 3));
		vd_desc(d, (first + i) % QUEUE_SIZE,
			rarely(in) ? input_edge(in) : VD_BUFFERS + 0x1000ull * pick(in, 64), len,
			flags, rarely(in) ? input16(in) : (uint16_t)((first + i + 1) % QUEUE_SIZE));
	}
	vd_push(d, rarely(in) ? input16(in) : first);
}

static void peer_sends(struct state *s)
{
	static const uint8_t payload[2048];
	struct input *in = &s->in;
	uint32_t len = rarely(in) ? (uint32_t)input_edge(in) : 14u + input8(in) * 6u;
	uint8_t head[4] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
			    (uint8_t)len };

	if (send(s->peer, head, rarely(in) ? pick(in, 4) : 4, MSG_NOSIGNAL) < 0)
		return; /* full, or shut down */
	(void)!send(s->peer, payload, len < sizeof(payload) ? len : sizeof(payload), MSG_NOSIGNAL);
}

static void peer_reads(struct state *s)
{
	uint8_t buf[4096];

	while (read(s->peer, buf, sizeof(buf)) > 0)
		;
}

static void step(struct state *s)
{
	struct input *in = &s->in;
	struct vdriver *d = &s->net;

	switch (pick(in, 12)) {
	case 0:
		start(s, d, 2);
		break;
	case 1:
	case 2:
	case 3:
		vd_select(d, input8(in) & 1u);
		push(s, d, d->queue == 0);
		vd_kick(d, d->queue);
		break;
	case 4:
	case 5:
		peer_sends(s);
		break;
	case 6:
		peer_reads(s);
		break;
	case 7:
	case 8:
		loop_turn(s->rig.machine->loop, 0);
		break;
	case 9:
		push(s, &s->rng, true);
		vd_kick(&s->rng, 0);
		break;
	case 10:
		(void)mem_store16(s->rig.machine->memory,
				  VD_DESC(input8(in) & 1u) + (input8(in) & ~1u), input16(in));
		break;
	default:
		if (rarely(in))
			machine_reset_devices(s->rig.machine);
		else if (rarely(in))
			shutdown(s->peer, SHUT_WR);
		else
			vd_set(d, VC_STATUS, 1, 0);
		break;
	}
}

/* After a reset a buffer that is posted for random numbers comes back filled. */
static void must_still_work(struct state *s)
{
	machine_reset_devices(s->rig.machine);
	s->in.left = 0;
	start(s, &s->rng, 1);
	vd_desc(&s->rng, 0, VD_BUFFERS, 16, VD_WRITE, 0);
	vd_push(&s->rng, 0);
	vd_kick(&s->rng, 0);
	rig_turn(&s->rig);
	if (vd_used_idx(&s->rng) != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_net_config config = { .mac = { 2, 0, 0, 0, 0, 1 } };
	static const struct virtio_rng_config rng;
	struct state s = { .in = { data, size } };
	unsigned i;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	s.peer = fds[0];
	config.kind = NET_STREAM;
	config.fds[0] = fds[1];
	config.fd_count = 1;
	rig_open(&s.rig);
	rig_add(&s.rig, &virtio_net_class, &config);
	rig_add(&s.rig, &virtio_rng_class, &rng);
	if (!vd_find(&s.rig, &s.net, 0x1041) || !vd_find(&s.rig, &s.rng, 0x1044))
		abort();
	start(&s, &s.rng, 1); /* they share memory for their rings: each spoils the other's */
	start(&s, &s.net, 2);
	for (i = 0; i < 1000 && s.in.left; i++)
		step(&s);
	must_still_work(&s);
	rig_close(&s.rig);
	close(s.peer);
	return 0;
}
