/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user device with a back-end that is mostly good: it answers, works, and now and then breaks a
 * rule of the messages or of the used ring, dies, or is replaced, while the guest drives, resets and
 * spoils its rings.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "devices/backend/vhost_peer.h"
#include "devices/virtio/vhost_user.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "tests/device/vbackend.h"
#include "tests/device/vdriver.h"
#include "tests/fuzz/input.h"

#define QUEUE_SIZE 16u
#define F(n) (1ull << (n))
#define FEATURES (F(32) | F(VHOST_F_PROTOCOL_FEATURES) | F(9))
#define PROTOCOLS (F(VHOST_PROTOCOL_MQ) | F(VHOST_PROTOCOL_REPLY_ACK) | \
		   F(VHOST_PROTOCOL_BACKEND_REQ) | F(VHOST_PROTOCOL_CONFIG))

struct state {
	struct rig rig;
	struct vdriver d;
	struct device *dev;
	struct vbackend b;
	struct vb_chain held; /* taken, and not given back */
	bool holds;
	struct input in;
};

static void drive(struct state *s, uint64_t features)
{
	struct vdriver *d = &s->d;

	vd_set(d, VC_STATUS, 1, 0);
	vd_accept(d, features);
	for (unsigned i = 0; i < 2; i++)
		vd_queue(d, i, QUEUE_SIZE);
	vd_set(d, VC_STATUS, 1, 0xf);
	d->queue_size = QUEUE_SIZE;
	d->queue = 0;
	d->avail = d->ring[0].avail = d->ring[1].avail = 0;
}

static void push(struct state *s)
{
	struct input *in = &s->in;
	uint16_t first = (uint16_t)pick(in, QUEUE_SIZE);
	unsigned n = 1 + pick(in, 3);

	for (unsigned i = 0; i < n; i++)
		vd_desc(&s->d, (first + i) % QUEUE_SIZE,
			rarely(in) ? input_edge(in) : VD_BUFFERS + 0x1000ull * pick(in, 64),
			rarely(in) ? (uint32_t)input_edge(in) : 8u * input8(in),
			(uint16_t)((i ? VD_WRITE : 0) | (i + 1 < n ? VD_NEXT : 0)) ^
				(rarely(in) ? input8(in) & 7u : 0),
			(uint16_t)((first + i + 1) % QUEUE_SIZE));
	vd_push(&s->d, rarely(in) ? input16(in) : first);
	vd_kick(&s->d, 0);
}

/* Work, good or bad. */
static void work(struct state *s)
{
	struct input *in = &s->in;
	struct vb_ring *r = &s->b.ring[0];

	if (!s->holds)
		s->holds = vb_take(&s->b, 0, &s->held);
	if (rarely(in) && r->used)
		r->used_idx = input16(in);
	if (rarely(in))
		vb_give(&s->b, 0, (uint32_t)input_edge(in), (uint32_t)input_edge(in));
	else if (s->holds)
		vb_give(&s->b, 0, s->held.head, rarely(in) ? (uint32_t)input_edge(in) : 0);
	s->holds = rarely(in); /* and so it gives it back twice */
	vb_call(&s->b, 0);
}

/* Bytes that nobody asked for, on either socket. */
static void speak(struct state *s)
{
	struct input *in = &s->in;
	int fd = input8(in) & 1 ? s->b.sock : s->b.request_fd;
	uint8_t m[64];
	unsigned n = pick(in, sizeof(m));

	memset(m, 0, sizeof(m));
	put_le32(m, input8(in));
	put_le32(m + 4, 1 | (input8(in) & 12u));
	put_le32(m + 8, rarely(in) ? (uint32_t)input_edge(in) : n);
	for (unsigned i = 12; i < n; i++)
		m[i] = input8(in);
	if (fd >= 0)
		(void)!send(fd, m, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int backend(struct state *s)
{
	int fd = vb_open(&s->b, FEATURES | F(28), PROTOCOLS, 2);

	put_le64(s->b.config, 2048);
	s->holds = false;
	return fd;
}

static void replace(struct state *s)
{
	struct input *in = &s->in;
	int fd;

	vb_close(&s->b);
	if (rarely(in))
		return; /* nobody for a while */
	fd = backend(s);
	if (rarely(in))
		s->b.features = input64(in);
	if (rarely(in))
		s->b.protocol &= input8(in);
	if (rarely(in))
		s->b.queues = input_edge(in);
	s->b.sin = rarely(in) ? (enum vb_sin)pick(in, VB_ONES + 1) : VB_GOOD;
	s->b.sin_at = input8(in) % 26u;
	vhost_user_attach(s->dev, fd);
}

static void answer(struct state *s)
{
	for (unsigned i = 0; i < 40; i++) {
		loop_turn(s->rig.machine->loop, 0);
		(void)vb_step(&s->b);
	}
}

static void step(struct state *s)
{
	struct input *in = &s->in;

	switch (pick(in, 12)) {
	case 0:
		drive(s, F(32) | (input8(in) & 1 ? VF_INDIRECT : 0) | (input8(in) & 1 ? F(9) : 0));
		break;
	case 1: case 2: case 3:
		push(s);
		break;
	case 4: case 5:
		work(s);
		break;
	case 6: case 7:
		answer(s);
		break;
	case 8:
		(void)mem_store16(s->rig.machine->memory,
				  VD_DESC(input8(in) & 1u) + (input8(in) & ~1u), input16(in));
		break;
	case 9:
		if (rarely(in))
			speak(s);
		break;
	case 10:
		if (input8(in) & 1)
			replace(s);
		else
			rig_advance(&s->rig, (VHOST_REPLY_MS + 1) * 1000000ull);
		break;
	default:
		vd_set(&s->d, VC_STATUS, 1, 0);
		break;
	}
	loop_turn(s->rig.machine->loop, 0);
}

/* Whatever was before: a good guest and a good back-end do their work. */
static void must_still_work(struct state *s)
{
	struct vb_chain c;

	vb_close(&s->b);
	s->in.left = 0;
	answer(s);
	vd_set(&s->d, VC_STATUS, 1, 0);
	vhost_user_attach(s->dev, backend(s));
	answer(s);
	if (vd_get(&s->d, VC_STATUS, 1))
		abort();
	drive(s, F(32));
	answer(s);
	vd_desc(&s->d, 0, VD_BUFFERS, 16, VD_WRITE, 0);
	vd_push(&s->d, 0);
	vd_kick(&s->d, 0);
	answer(s);
	if (!vb_take(&s->b, 0, &c))
		abort();
	vb_give(&s->b, 0, c.head, 16);
	vb_call(&s->b, 0);
	answer(s);
	if (vd_used_idx(&s->d) != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhost_user_config config = { .kind = VHOST_KIND_BLK, .queues = 2,
					    .queue_size = QUEUE_SIZE };
	static struct state s;

	memset(&s, 0, sizeof(s));
	s.in = (struct input){ data, size };
	rig_open(&s.rig);
	config.fd = backend(&s);
	if (input8(&s.in) & 1)
		s.b.features &= ~F(28);
	vb_serve(&s.b);
	s.dev = rig_add(&s.rig, &vhost_user_class, &config);
	vb_rest(&s.b);
	if (!s.dev || !vd_find(&s.rig, &s.d, 0x1042))
		abort();
	drive(&s, F(32));
	answer(&s);
	for (unsigned i = 0; i < 1000 && s.in.left; i++)
		step(&s);
	must_still_work(&s);
	vb_close(&s.b);
	rig_close(&s.rig);
	return 0;
}
