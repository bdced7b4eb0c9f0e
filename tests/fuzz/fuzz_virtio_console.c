/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console: the terminal and two named ports, messages of the control queue, peers that come, speak,
 * read little, and leave. */
#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/bytes.h"
#include "devices/virtio/console.h"
#include "tests/fuzz/vfuzz.h"

#define PORTS 3u

enum { CONTROL_RX = 2, CONTROL_TX = 3 };

struct state {
	struct vfuzz f;
	struct device *dev;
	struct sockaddr_un address; /* of port 2's socket */
	socklen_t address_len;
	int peer[PORTS];
};

static void connected(struct virtio_console_config *config, unsigned port, int *peer)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	*(port ? &config->port[port - 1].fd : &config->fd) = fds[0];
	*peer = fds[1];
}

static void control(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	uint8_t message[8];

	put_le32(message, rarely(in) ? input32(in) : pick(in, PORTS + 1));
	put_le16(message + 4, rarely(in) ? input16(in) : (uint16_t)pick(in, 8));
	put_le16(message + 6, rarely(in) ? input16(in) : 1);
	vf_push(&s->f, CONTROL_TX, message, rarely(in) ? pick(in, 8) : 8, 0);
}

static unsigned queue_of(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

static void guest_speaks(void *opaque)
{
	struct state *s = opaque;
	static const uint8_t bytes[8192];
	struct input *in = &s->f.in;

	vf_push(&s->f, queue_of(pick(in, PORTS)) + 1, bytes, 32u * input8(in), 0);
}

static void give_buffers(void *opaque)
{
	struct state *s = opaque;
	struct input *in = &s->f.in;
	unsigned queue = input8(in) & 1 ? CONTROL_RX : queue_of(pick(in, PORTS));
	unsigned n = 1 + pick(in, 4);

	while (n--)
		vf_push(&s->f, queue, NULL, 0, rarely(in) ? input8(in) : 80);
}

static void host_does(void *opaque)
{
	struct state *s = opaque;
	static const uint8_t bytes[1024];
	struct input *in = &s->f.in;
	int *peer = &s->peer[pick(in, PORTS)];
	uint8_t buf[8192];

	switch (pick(in, 6)) {
	case 0:
		if (*peer >= 0 && rarely(in))
			shutdown(*peer, (int)pick(in, 3));
		break;
	case 1:
		if (s->peer[2] >= 0)
			close(s->peer[2]);
		s->peer[2] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)!connect(s->peer[2], (void *)&s->address, s->address_len);
		break;
	case 2:
		virtio_console_resize(s->dev, (uint16_t)input8(in), (uint16_t)input8(in));
		break;
	case 3:
		if (*peer >= 0)
			(void)!read(*peer, buf, sizeof(buf));
		break;
	default:
		if (*peer >= 0)
			(void)!send(*peer, bytes, 4u * input8(in), MSG_NOSIGNAL);
		break;
	}
}

/* The peer reads, so the guest's output goes on: the real clock takes part, as output is gathered. */
static bool came_back(void *opaque)
{
	struct state *s = opaque;
	uint8_t buf[8192];

	while (read(s->peer[0], buf, sizeof(buf)) > 0)
		;
	return vd_used_idx(&s->f.d) == 1;
}

/* The terminal takes what the guest says. */
static void must_still_work(struct state *s)
{
	vf_again(&s->f);
	vf_push(&s->f, 1, "x", 1, 0);
	if (!rig_turn_until(&s->f.rig, came_back, s))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static vf_deed *const deeds[VF_DEEDS] = { control, control, guest_speaks, give_buffers,
						  host_does };
	struct virtio_console_config config = {
		.port_count = PORTS - 1,
		.port = { { .name = "one" }, { .name = "two" } },
	};
	struct state *s = calloc(1, sizeof(*s));
	unsigned i;

	if (!s)
		abort();
	s->f.features = 3;
	s->f.queues = 2 * PORTS + 2;
	s->f.device_id = 3;
	connected(&config, 0, &s->peer[0]);
	connected(&config, 1, &s->peer[1]);
	config.port[1].fd = rig_listen(4, &s->address, &s->address_len);
	s->peer[2] = -1;
	vf_open(&s->f, data, size, &config.place);
	s->dev = vf_add(&s->f, &virtio_console_class, &config);
	close(config.fd);
	close(config.port[0].fd);
	close(config.port[1].fd);
	vf_run(&s->f, deeds, s);
	must_still_work(s);
	vf_close(&s->f);
	for (i = 0; i < PORTS; i++)
		if (s->peer[i] >= 0)
			close(s->peer[i]);
	free(s);
	return 0;
}
