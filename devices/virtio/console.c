/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console.c - see console.h. Everything happens on the loop thread; bytes are copied once, between
 * the ring's buffers and those of the peer.
 *
 * A peer that reads slowly slows the guest down: a chain for which there is no room stays in the
 * ring, with what was taken of it noted (`skip`). A peer that is not there takes everything. Input
 * waits in the peer until the guest has opened the port and has a buffer.
 *
 * What the guest must be told of a port is a set of bits, not a queue of messages: it cannot grow,
 * however often a peer comes and goes.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "devices/backend/peer.h"
#include "devices/virtio/console.h"
#include "devices/virtio/core.h"
#include "machine/loop.h"

#define CONSOLE_CLASS 0x078000u /* communication, other */
#define CONSOLE_QUEUE_SIZE 64u
#define PORTS_MAX (1 + VIRTIO_CONSOLE_PORTS_MAX)
#define CHAINS_MAX 64u     /* in one turn */
#define TURN_BYTES 65536u
#define COLUMNS_DEFAULT 80u
#define ROWS_DEFAULT 25u

enum { F_SIZE = 0, F_MULTIPORT = 1 };
enum { CFG_COLUMNS = 0, CFG_ROWS = 2, CFG_PORTS = 4, CFG_BYTES = 8 };
enum { CONTROL_RX = 2, CONTROL_TX = 3 };
#define CONTROL_BYTES 8u /* struct virtio_console_control (5.3.6.2) */

enum { /* its events */
	DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, RESIZE = 5, PORT_OPEN = 6,
	PORT_NAME = 7,
	EVENTS = 8,
};

struct port {
	struct virtio_console *console;
	struct peer *peer; /* NULL: there is no such port */
	char name[VIRTIO_CONSOLE_NAME_MAX + 1];
	bool opened;       /* the guest has it open */
	bool known;        /* the guest said that it is ready to hear of it */
	unsigned pending;  /* bit n: event n is to be told */
	uint32_t skip;     /* bytes of the next chain that were taken already */
};

struct virtio_console {
	struct device dev;
	struct virtio virtio;
	unsigned port_count; /* port 0 and the named ones */
	struct port port[PORTS_MAX];
	uint16_t columns, rows; /* virtio.lock */
	bool resized;
	bool size_told;         /* since the driver's start, where there are no messages */
	bool paused;            /* posted calls come in a pause too */
	struct loop_call resize;
	struct virtq_chain chain; /* one at a time, under virtio.lock */
};

static struct virtio_console *console_of(struct virtio *v)
{
	return (struct virtio_console *)((char *)v - offsetof(struct virtio_console, virtio));
}

static unsigned port_number(const struct port *p)
{
	return (unsigned)(p - p->console->port);
}

static unsigned rx_queue(const struct port *p)
{
	return port_number(p) ? 2 * port_number(p) + 2 : 0;
}

static unsigned tx_queue(const struct port *p)
{
	return rx_queue(p) + 1;
}

/* The port of a queue that is not for control; NULL: there is none. */
static struct port *queue_port(struct virtio_console *c, unsigned queue)
{
	unsigned n = queue < 2 ? 0 : queue / 2 - 1;
	struct port *p = n < c->port_count ? &c->port[n] : NULL;

	return p && p->peer ? p : NULL;
}

static bool multiport(const struct virtio_console *c)
{
	return virtio_has_feature(&c->virtio, F_MULTIPORT);
}

/* --- control messages ------------------------------------------------------------------------- */

/* One message into the chain that was got; the bytes written. */
static uint32_t put_message(struct port *p, unsigned event)
{
	struct virtio_console *c = p->console;
	uint8_t message[CONTROL_BYTES + VIRTIO_CONSOLE_NAME_MAX] = { 0 };
	size_t len = CONTROL_BYTES;

	put_le32(message, port_number(p));
	put_le16(message + 4, (uint16_t)event);
	put_le16(message + 6, event == PORT_OPEN ? peer_connected(p->peer) : 1);
	if (event == PORT_NAME) {
		memcpy(message + len, p->name, strlen(p->name));
		len += strlen(p->name);
	} else if (event == RESIZE) {
		/* 5.3.6.2; Linux before 2025 takes them the other way round */
		put_le16(message + len, c->columns);
		put_le16(message + len + 2, c->rows);
		len += 4;
	}
	/* a buffer that is too small gets nothing: the message is lost, and the guest's fault */
	return virtq_copy_in(&c->virtio.queue[CONTROL_RX].ring, &c->chain, 0, message, len) < 0
		       ? 0 : (uint32_t)len;
}

/* Tells what is to be told, as far as there are buffers. Lock held. */
static void tell(struct virtio_console *c)
{
	/* in this order: a port must be there before it has a name or is open */
	static const uint8_t order[] = { PORT_ADD, CONSOLE_PORT, PORT_NAME, PORT_OPEN, RESIZE };
	struct virtio *v = &c->virtio;
	unsigned i, e;

	if (!multiport(c))
		return;
	for (i = 0; i < c->port_count; i++)
		for (e = 0; e < sizeof(order); e++) {
			struct port *p = &c->port[i];

			if (!(p->pending & 1u << order[e]))
				continue;
			if (virtio_get(v, CONTROL_RX, &c->chain) <= 0) {
				virtio_want_kicks(v, CONTROL_RX, true);
				if (virtio_has(v, CONTROL_RX))
					virtio_kick_again(v, CONTROL_RX);
				goto out;
			}
			p->pending &= ~(1u << order[e]);
			virtio_release(v, CONTROL_RX, &c->chain, put_message(p, order[e]));
		}
out:
	virtio_end(v, CONTROL_RX);
}

static void send_input(struct port *p);

/* Lock held. */
static void hear(struct virtio_console *c, uint32_t id, unsigned event, unsigned value)
{
	struct port *p = id < c->port_count && c->port[id].peer ? &c->port[id] : NULL;
	unsigned i;

	switch (event) {
	case DEVICE_READY:
		for (i = 0; i < c->port_count && value == 1; i++)
			if (c->port[i].peer)
				c->port[i].pending |= 1u << PORT_ADD;
		break;
	case PORT_READY:
		if (!p || value != 1)
			break;
		p->known = true;
		p->pending |= port_number(p) ? 1u << PORT_NAME
					     : 1u << CONSOLE_PORT | 1u << RESIZE;
		if (peer_connected(p->peer))
			p->pending |= 1u << PORT_OPEN;
		break;
	case PORT_OPEN:
		if (!p)
			break;
		p->opened = value;
		send_input(p);
		break;
	default:
		break;
	}
}

static void take_messages(struct virtio_console *c)
{
	struct virtio *v = &c->virtio;
	uint8_t message[CONTROL_BYTES];
	unsigned n = 0;

	while (n++ < CHAINS_MAX && virtio_get(v, CONTROL_TX, &c->chain) > 0) {
		bool whole = virtq_copy_out(&v->queue[CONTROL_TX].ring, &c->chain, 0, message,
					    sizeof(message)) == 0;

		virtio_release(v, CONTROL_TX, &c->chain, 0);
		if (whole)
			hear(c, get_le32(message), get_le16(message + 4), get_le16(message + 6));
	}
	virtio_end(v, CONTROL_TX);
	virtio_want_kicks(v, CONTROL_TX, true);
	if (virtio_has(v, CONTROL_TX))
		virtio_kick_again(v, CONTROL_TX);
	tell(c);
}

/* --- data ------------------------------------------------------------------------------------- */

/* Fills one chain with input; the bytes. Lock held. */
static uint32_t fill(struct port *p)
{
	struct virtio_console *c = p->console;
	const struct virtq *ring = &c->virtio.queue[rx_queue(p)].ring;
	uint32_t done = 0;
	uint8_t buf[4096];

	while (done < c->chain.in_bytes) {
		size_t want = c->chain.in_bytes - done, got;

		got = peer_read(p->peer, buf, want < sizeof(buf) ? want : sizeof(buf));
		if (!got || virtq_copy_in(ring, &c->chain, done, buf, got) < 0)
			break;
		done += (uint32_t)got;
	}
	return done;
}

/* Gives the guest what the peer said. Lock held. */
static void send_input(struct port *p)
{
	struct virtio_console *c = p->console;
	struct virtio *v = &c->virtio;
	unsigned queue = rx_queue(p), n = 0;

	if (c->paused || (multiport(c) && !p->opened))
		return;
	while (n++ < CHAINS_MAX && peer_pending(p->peer) && virtio_get(v, queue, &c->chain) > 0)
		virtio_release(v, queue, &c->chain, fill(p));
	virtio_end(v, queue);
	if (!peer_pending(p->peer))
		return;
	virtio_want_kicks(v, queue, true);
	if (virtio_has(v, queue)) /* more than a turn's worth, or just come */
		virtio_kick_again(v, queue);
}

/* Takes one chain as far as the peer has room and the turn lasts. False: not to its end. */
static bool drain(struct port *p, uint32_t *left)
{
	struct virtio_console *c = p->console;
	const struct virtq *ring = &c->virtio.queue[tx_queue(p)].ring;
	uint8_t buf[4096];

	while (p->skip < c->chain.out_bytes) {
		size_t n = c->chain.out_bytes - p->skip, room = peer_room(p->peer);

		n = n < room ? n : room;
		n = n < sizeof(buf) ? n : sizeof(buf);
		n = n < *left ? n : *left;
		if (!n)
			return false;
		if (virtq_copy_out(ring, &c->chain, p->skip, buf, n) < 0)
			break;
		p->skip += (uint32_t)peer_write(p->peer, buf, n);
		*left -= (uint32_t)n;
	}
	p->skip = 0;
	return true;
}

/* Gives the peer what the guest said. Lock held. */
static void send_output(struct port *p)
{
	struct virtio_console *c = p->console;
	struct virtio *v = &c->virtio;
	unsigned queue = tx_queue(p), n = 0;
	uint32_t left = TURN_BYTES;

	if (c->paused)
		return;
	/* Linux looks at the size in the configuration space only when told that it changed, and not
	 * before the terminal is in use. */
	if (!c->size_told && !multiport(c) && virtio_has(v, queue)) {
		c->size_told = true;
		virtio_config_changed(v);
	}
	virtio_want_kicks(v, queue, false);
	while (n++ < CHAINS_MAX && virtio_get(v, queue, &c->chain) > 0) {
		if (!drain(p, &left)) {
			virtio_unget(v, queue, &c->chain);
			break;
		}
		virtio_release(v, queue, &c->chain, 0);
	}
	virtio_end(v, queue);
	if (virtio_has(v, queue) && !peer_room(p->peer))
		return; /* its room event brings us back */
	virtio_want_kicks(v, queue, true);
	if (virtio_has(v, queue))
		virtio_kick_again(v, queue);
}

static void console_kick(struct virtio *v, unsigned queue)
{
	struct virtio_console *c = console_of(v);
	struct port *p = queue_port(c, queue);

	pthread_mutex_lock(&v->lock);
	if (queue == CONTROL_RX)
		tell(c);
	else if (queue == CONTROL_TX)
		take_messages(c);
	else if (p && queue == rx_queue(p))
		send_input(p);
	else if (p)
		send_output(p);
	pthread_mutex_unlock(&v->lock);
}

/* --- the peers -------------------------------------------------------------------------------- */

static void peer_input(void *opaque)
{
	struct port *p = opaque;

	pthread_mutex_lock(&p->console->virtio.lock);
	send_input(p);
	pthread_mutex_unlock(&p->console->virtio.lock);
}

static void peer_room_grew(void *opaque)
{
	struct port *p = opaque;

	pthread_mutex_lock(&p->console->virtio.lock);
	send_output(p);
	pthread_mutex_unlock(&p->console->virtio.lock);
}

static void peer_changed(void *opaque)
{
	struct port *p = opaque;

	pthread_mutex_lock(&p->console->virtio.lock);
	if (p->known)
		p->pending |= 1u << PORT_OPEN;
	if (!p->console->paused)
		tell(p->console);
	send_output(p); /* nobody reads: what waited for room goes */
	pthread_mutex_unlock(&p->console->virtio.lock);
}

static const struct peer_events peer_events = { peer_input, peer_room_grew, peer_changed };

/* --- the size --------------------------------------------------------------------------------- */

static void put_size(struct virtio_console *c)
{
	put_le16(c->virtio.config + CFG_COLUMNS, c->columns);
	put_le16(c->virtio.config + CFG_ROWS, c->rows);
}

/* Loop thread. */
static void resized(void *opaque)
{
	struct virtio_console *c = opaque;

	pthread_mutex_lock(&c->virtio.lock);
	if (c->resized && !c->paused) {
		c->resized = false;
		put_size(c);
		if (c->port[0].known)
			c->port[0].pending |= 1u << RESIZE;
		virtio_config_changed(&c->virtio);
		tell(c);
	}
	pthread_mutex_unlock(&c->virtio.lock);
}

void virtio_console_resize(struct device *dev, uint16_t columns, uint16_t rows)
{
	struct virtio_console *c = (struct virtio_console *)dev;

	pthread_mutex_lock(&c->virtio.lock);
	if (columns && rows && (c->columns != columns || c->rows != rows)) {
		c->columns = columns;
		c->rows = rows;
		c->resized = true;
		loop_post_call(dev->machine->loop, &c->resize);
	}
	pthread_mutex_unlock(&c->virtio.lock);
}

/* --- the device ------------------------------------------------------------------------------- */

/* The driver is gone: it has no port open, and its half-taken chain is forgotten. */
static void console_stopped(struct virtio *v)
{
	struct virtio_console *c = console_of(v);
	unsigned i;

	c->size_told = false;
	for (i = 0; i < c->port_count; i++) {
		c->port[i].opened = c->port[i].known = false;
		c->port[i].pending = 0;
		c->port[i].skip = 0;
	}
}

static void console_queue_reset(struct virtio *v, unsigned queue)
{
	struct port *p = queue_port(console_of(v), queue);

	if (p && queue == tx_queue(p))
		p->skip = 0;
}

static const struct virtio_ops console_ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.features = 1ull << F_SIZE | 1ull << F_MULTIPORT | 1ull << VIRTIO_F_IN_ORDER,
	.kick = console_kick,
	.stopped = console_stopped,
	.queue_reset = console_queue_reset,
};

static void console_reset(struct device *dev)
{
	virtio_reset_wait(&((struct virtio_console *)dev)->virtio);
}

static void console_pause(struct device *dev)
{
	struct virtio_console *c = (struct virtio_console *)dev;
	unsigned i;

	pthread_mutex_lock(&c->virtio.lock);
	c->paused = true;
	pthread_mutex_unlock(&c->virtio.lock);
	for (i = 0; i < c->port_count; i++)
		if (c->port[i].peer)
			peer_sync(c->port[i].peer);
}

static void console_resume(struct device *dev)
{
	struct virtio_console *c = (struct virtio_console *)dev;
	unsigned i;

	pthread_mutex_lock(&c->virtio.lock);
	c->paused = false;
	for (i = 0; i < c->virtio.queue_count; i++)
		virtio_kick_again(&c->virtio, i);
	pthread_mutex_unlock(&c->virtio.lock);
	loop_post_call(dev->machine->loop, &c->resize);
}

static void console_destroy_device(struct device *dev)
{
	struct virtio_console *c = (struct virtio_console *)dev;
	unsigned i;

	if (!c)
		return;
	virtio_disconnect(&c->virtio);
	virtio_fini(&c->virtio);
	for (i = 0; i < c->port_count; i++)
		peer_destroy(c->port[i].peer);
	loop_cancel_call(dev->machine->loop, &c->resize);
	free(c);
}

static int init_virtio(struct virtio_console *c, const struct virtio_console_config *config)
{
	uint8_t space[CFG_BYTES] = { 0 };
	const struct virtio_info info = {
		.ops = &console_ops,
		.features = 1ull << F_SIZE | 1ull << VIRTIO_F_IN_ORDER |
			    (c->port_count > 1 ? 1ull << F_MULTIPORT : 0),
		.without = config->place.without,
		.queue_count = c->port_count > 1 ? 2 * c->port_count + 2 : 2,
		.queue_size = CONSOLE_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};

	put_le16(space + CFG_COLUMNS, c->columns);
	put_le16(space + CFG_ROWS, c->rows);
	put_le32(space + CFG_PORTS, c->port_count);
	return virtio_init(&c->virtio, c->dev.machine, &info);
}

static int make_peers(struct virtio_console *c, const struct virtio_console_config *config)
{
	int r = 0;
	unsigned i;

	for (i = 0; i < c->port_count && r == 0; i++) {
		struct port *p = &c->port[i];
		int fd = i ? config->port[i - 1].fd : config->fd;

		p->console = c;
		if (i)
			memcpy(p->name, config->port[i - 1].name, sizeof(p->name) - 1);
		if (fd < 0)
			continue;
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return -errno;
		r = peer_create(c->dev.machine->loop, fd, &peer_events, p, &p->peer);
		if (r < 0)
			close(fd);
	}
	return r;
}

static int console_create_device(struct machine *machine, const void *opaque,
				 struct device **ret_device)
{
	const struct virtio_console_config *config = opaque;
	struct virtio_console *c;
	int r;

	if (config->port_count > VIRTIO_CONSOLE_PORTS_MAX ||
	    (config->fd < 0 && !config->port_count))
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->dev.class = &virtio_console_class;
	c->dev.machine = machine;
	c->port_count = 1 + config->port_count;
	c->columns = COLUMNS_DEFAULT;
	c->rows = ROWS_DEFAULT;
	c->resize = (struct loop_call){ .fn = resized, .opaque = c };
	r = init_virtio(c, config);
	if (r == 0)
		r = make_peers(c, config);
	if (r == 0)
		r = virtio_connect(&c->virtio, &config->place, CONSOLE_CLASS);
	if (r < 0) {
		console_destroy_device(&c->dev);
		return r;
	}
	*ret_device = &c->dev;
	return 0;
}

const struct device_class virtio_console_class = {
	.name = "virtio-console",
	.create = console_create_device,
	.destroy = console_destroy_device,
	.reset = console_reset,
	.pause = console_pause,
	.resume = console_resume,
};
