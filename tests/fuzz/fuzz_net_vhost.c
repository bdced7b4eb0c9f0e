/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net whose packets the host's kernel moves (vhost-net): a kernel of ours takes, gives back, refuses
 * requests, reports errors, and now and then breaks a rule of the rings, while the guest drives, resets,
 * pauses and spoils its own. What the kernel is told must always be whole.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/virtio/net_internal.h"
#include "tests/device/vkernel.h"
#include "tests/fuzz/netinput.h"

#include <linux/vhost.h> /* the last: its names are vhost-user's too */

#define RINGS (2 * VK_PAIRS)

struct state {
	struct vfuzz f;
	struct device *dev;
	struct vb_chain held[RINGS]; /* taken, and not given back */
	bool holds[RINGS];
};

/* What vkernel.c checks of its caller. */
void __wrap_rig_check_failed(const char *file, int line, const char *what);

void __wrap_rig_check_failed(const char *file, int line, const char *what)
{
	(void)file, (void)line, (void)what;
	abort();
}

static void guest_sends(void *opaque)
{
	struct vfuzz *f = opaque;

	ni_send(f, 2 * pick(&f->in, kernel.pairs) + 1);
}

static void give_buffers(void *opaque)
{
	struct vfuzz *f = opaque;

	ni_buffers(f, 2 * pick(&f->in, kernel.pairs));
}

static void commands(void *opaque)
{
	ni_command(opaque, 2 * kernel.pairs);
}

/* A part of a chain lies in the guest's memory, and is the kernel's to write. */
static void fill(struct state *s, const struct vb_chain *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		uint8_t *at = vb_memory(&kernel.b, c->part[i].gpa, c->part[i].len);

		if (!at)
			abort();
		if (c->part[i].write && c->part[i].len)
			at[(NI_HEADER - 2) % c->part[i].len] = input8(&s->f.in);
	}
}

static void kernel_works(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	unsigned q = pick(in, 2 * kernel.pairs);
	struct vb_ring *r = &kernel.b.ring[q];

	if (!r->running) {
		s->holds[q] = false;
		return;
	}
	if (!s->holds[q])
		s->holds[q] = vb_take(&kernel.b, q, &s->held[q]);
	if (s->holds[q])
		fill(s, &s->held[q]);
	if (rarely(in))
		r->used_idx = input16(in);
	if (rarely(in))
		vb_give(&kernel.b, q, (uint32_t)input_edge(in), (uint32_t)input_edge(in));
	else if (s->holds[q])
		vb_give(&kernel.b, q, s->held[q].head,
			rarely(in) ? (uint32_t)input_edge(in) : q & 1 ? 0 : 12u + input8(in));
	s->holds[q] = rarely(in); /* and so it gives it back twice */
	vb_call(&kernel.b, q);
}

static void kernel_changes(void *opaque)
{
	static const unsigned long requests[] = {
		VHOST_SET_FEATURES, VHOST_SET_MEM_TABLE, VHOST_SET_VRING_NUM, VHOST_SET_VRING_ADDR,
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_NET_SET_BACKEND, 0,
	};
	struct state *s = opaque;
	struct input *in = &s->f.in;

	switch (pick(in, 4)) {
	case 0:
		if (rarely(in))
			kernel.refused = requests[pick(in, ARRAY_SIZE(requests))];
		break;
	case 1:
		if (rarely(in) && kernel.starts)
			(void)eventfd_write(kernel.err_fd, 1);
		break;
	case 2:
		if (rarely(in))
			shutdown(kernel.peer[0], (int)pick(in, 3));
		break;
	default:
		if (rarely(in))
			vb_call(&kernel.b, pick(in, 2 * kernel.pairs));
		break;
	}
}

/* Who has the other end of the tap, once the kernel does not. */
static void peer_does(void *opaque)
{
	static uint8_t bytes[NI_PACKET_MAX];
	struct state *s = opaque;
	struct input *in = &s->f.in;
	uint32_t len = ni_frame(in, bytes + NI_HEADER);

	ni_header(in, bytes, len);
	(void)!send(kernel.peer[pick(in, kernel.pairs)], bytes, NI_HEADER + len, MSG_NOSIGNAL);
}

/* A frame is taken by whoever does it now: the kernel, the card itself, or, without a link, nobody. */
static void must_still_work(struct state *s)
{
	static const uint8_t bytes[NI_HEADER + 60];
	struct virtio_net_info info;
	struct vb_chain c;
	uint8_t buf[4096];

	kernel.refused = 0;
	vf_again(&s->f);
	for (unsigned i = 0; i < kernel.pairs; i++)
		while (read(kernel.peer[i], buf, sizeof(buf)) > 0)
			;
	rig_turn(&s->f.rig);
	vf_push(&s->f, 1, bytes, sizeof(bytes), 0);
	rig_turn(&s->f.rig);
	virtio_net_info(s->dev, &info);
	if (info.vhost && info.link) {
		if (!kernel.b.ring[1].running || !vb_take(&kernel.b, 1, &c))
			abort();
		vb_give(&kernel.b, 1, c.head, 0);
		vb_call(&kernel.b, 1);
	}
	vf_must_come_back(&s->f, 1, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static vf_deed *const deeds[VF_DEEDS] = { guest_sends, give_buffers, commands, peer_does,
						  kernel_works, kernel_works, kernel_changes };
	struct virtio_net_config config = { .kind = NET_TAP, .mac = { 2, 0, 0, 0, 0, 1 },
					    .vhost_must = true };
	struct state *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	vf_open(&s->f, data, size, &config.place);
	vk_open(1 + pick(&s->f.in, VK_PAIRS));
	kernel.error = EBUSY;
	memcpy(config.fds, kernel.tap, sizeof(kernel.tap));
	memcpy(config.vhost_fds, kernel.vhost, sizeof(kernel.vhost));
	config.fd_count = config.vhost_count = kernel.pairs;
	s->f.features = NET_FEATURES & ~(kernel.pairs > 1 ? 0 : 1ull << NET_F_MQ);
	s->f.queues = 2 * kernel.pairs + 1;
	s->f.device_id = 1;
	s->dev = vf_add(&s->f, &virtio_net_class, &config);
	vf_run(&s->f, deeds, s);
	must_still_work(s);
	vf_close(&s->f);
	vk_close();
	free(s);
	return 0;
}
