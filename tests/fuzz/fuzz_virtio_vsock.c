/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock: packets of a guest that mostly keeps the rules, and programs of the host that connect,
 * speak, read little, and leave. */
#include <config.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/virtio/vsock.h"
#include "tests/device/vsockclient.h"
#include "tests/fuzz/vfuzz.h"

#define PEERS 6u
#define FIRST_PORT 0x40000000u

struct state {
	struct vfuzz f;
	struct device *dev;
	struct sockaddr_un address;
	socklen_t address_len;
	int peer[PEERS];
	uint32_t alloc, forwarded;
};

static void wanted(void *opaque)
{
	(void)opaque;
}

/* Most packets belong to one of a few streams. */
static void send_packet(void *opaque)
{
	struct state *s = opaque;
	static const uint8_t ops[] = { OP_REQUEST, OP_RESPONSE, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW,
				       OP_RW, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
	struct input *in = &s->f.in;
	static uint8_t bytes[VSOCK_BYTES + 8192];
	uint32_t len = input8(in) & 1 ? 0 : 32u * input8(in);
	bool host = input8(in) & 1;
	struct vsock_packet p = {
		.src = rarely(in) ? input_edge(in) : VSOCK_GUEST, .dst = rarely(in) ? input_edge(in) : 2,
		.src_port = 1 + pick(in, 3),
		.dst_port = rarely(in) ? input32(in) : host ? FIRST_PORT + pick(in, 4) : pick(in, 4),
		.type = rarely(in) ? input16(in) : 1,
		.op = rarely(in) ? input16(in) : ops[pick(in, sizeof(ops))],
		.flags = pick(in, 4),
	};

	if (rarely(in))
		s->alloc = (uint32_t)input_edge(in);
	s->forwarded += input8(in);
	p.alloc = s->alloc;
	p.forwarded = rarely(in) ? input32(in) : s->forwarded;
	p.len = rarely(in) ? (uint32_t)input_edge(in) : p.op == OP_RW ? len : 0;
	vsock_encode(bytes, &p);
	vf_push(&s->f, 1, bytes, rarely(in) ? pick(in, VSOCK_BYTES) + 1u : VSOCK_BYTES + len, 0);
}

static void give_buffers(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	unsigned n = 1 + pick(in, 8);

	while (n--)
		vf_push(&s->f, 0, NULL, 0, rarely(in) ? input8(in) : 64u + 16u * input8(in));
	if (rarely(in))
		vf_push(&s->f, 2, NULL, 0, pick(in, 9));
}

static void host_speaks(struct state *s, unsigned i)
{
	static const char *const lines[] = { "CONNECT 1\n", "CONNECT 2\n", "CONNECT 3\nearly", "CONN" };
	static const uint8_t bytes[4096];
	struct input *in = &s->f.in;
	const char *line = lines[pick(in, 4)];

	if (s->peer[i] < 0) {
		s->peer[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connect(s->peer[i], (void *)&s->address, s->address_len) == 0)
			(void)!send(s->peer[i], line, strlen(line), MSG_NOSIGNAL);
	} else {
		(void)!send(s->peer[i], bytes, 16u * input8(in), MSG_NOSIGNAL);
	}
}

static void host_does(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	unsigned i = pick(in, PEERS);
	uint8_t buf[4096];

	switch (pick(in, 6)) {
	case 0:
		if (s->peer[i] >= 0)
			close(s->peer[i]);
		s->peer[i] = -1;
		break;
	case 1:
		if (s->peer[i] >= 0)
			shutdown(s->peer[i], (int)pick(in, 3));
		break;
	case 2:
		if (s->peer[i] >= 0)
			(void)!read(s->peer[i], buf, sizeof(buf));
		break;
	default:
		host_speaks(s, i);
		break;
	}
}

/* What the guest wants to connect to is there, or not, or is not the answer to anything. */
static void answer(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	uint32_t id = 0, port;
	unsigned i = pick(in, PEERS);
	int fds[2], small = 4096;

	if (!virtio_vsock_wanted(s->dev, &id, &port) && !rarely(in))
		return;
	if (rarely(in))
		id = input8(in);
	if (input8(in) & 1 || s->peer[i] >= 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
		virtio_vsock_answer(s->dev, id, -111);
		return;
	}
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	virtio_vsock_answer(s->dev, id, fds[0]);
	s->peer[i] = fds[1];
}

/* A packet that nobody expects is answered by a reset. */
static void must_still_work(struct state *s)
{
	const struct vsock_packet p = { .src = VSOCK_GUEST, .dst = 2, .src_port = 9, .dst_port = 9,
					.type = 1, .op = OP_RW };
	uint8_t bytes[VSOCK_BYTES];

	vf_again(&s->f);
	vsock_encode(bytes, &p);
	vf_push(&s->f, 0, NULL, 0, 4096);
	vf_push(&s->f, 1, bytes, sizeof(bytes), 0);
	vf_must_come_back(&s->f, 1, 1);
	vf_must_come_back(&s->f, 0, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static vf_deed *const deeds[VF_DEEDS] = { send_packet, send_packet, send_packet,
						  give_buffers, host_does, answer };
	struct virtio_vsock_config config = { .cid = VSOCK_GUEST, .wanted = wanted };
	struct state *s = calloc(1, sizeof(*s));
	unsigned i;

	if (!s)
		abort();
	for (i = 0; i < PEERS; i++)
		s->peer[i] = -1;
	s->alloc = 65536;
	s->f.features = 1;
	s->f.queues = 3;
	s->f.device_id = 19;
	vf_open(&s->f, data, size, &config.place);
	config.listen_fd = rig_listen(16, &s->address, &s->address_len);
	s->dev = vf_add(&s->f, &virtio_vsock_class, &config);
	vf_run(&s->f, deeds, s);
	must_still_work(s);
	vf_close(&s->f);
	for (i = 0; i < PEERS; i++)
		if (s->peer[i] >= 0)
			close(s->peer[i]);
	free(s);
	return 0;
}
