/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.c - virtio-vsock: packets, rings and life of the device; connections are in vsock_conn.c.
 * See vsock.h. Everything that touches a ring happens on the loop thread, a bounded number of
 * packets and bytes in one turn.
 *
 * What the guest must be told of a connection is a set of bits and a few counters, not a queue of
 * packets; connections that have something take turns, one packet each. Only resets for what is no
 * connection are queued, and when that queue is long the guest's own packets wait.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "devices/virtio/vsock_internal.h"

#define VSOCK_CLASS 0x078000u /* communication, other */
#define VSOCK_QUEUE_SIZE 128u
#define VSOCK_F_STREAM 0
#define CHAINS_MAX 64u        /* in one turn */
#define TURN_BYTES 524288u
#define LEAVE_NS (10 * NSEC_PER_SEC) /* for the guest to agree that a connection is over */
#define DIAL_NS (10 * NSEC_PER_SEC)
#define EVENT_RESET 0u        /* VIRTIO_VSOCK_EVENT_TRANSPORT_RESET */
#define EVENT_BYTES 4u

static struct virtio_vsock *vsock_of(struct virtio *v)
{
	return (struct virtio_vsock *)((char *)v - offsetof(struct virtio_vsock, virtio));
}

/* --- headers (5.10.6) ------------------------------------------------------------------------- */

static void put_header(uint8_t *to, const struct vsock_header *h)
{
	put_le64(to, h->src_cid);
	put_le64(to + 8, h->dst_cid);
	put_le32(to + 16, h->src_port);
	put_le32(to + 20, h->dst_port);
	put_le32(to + 24, h->len);
	put_le16(to + 28, h->type);
	put_le16(to + 30, h->op);
	put_le32(to + 32, h->flags);
	put_le32(to + 36, h->buffer);
	put_le32(to + 40, h->forwarded);
}

static void get_header(const uint8_t *from, struct vsock_header *h)
{
	*h = (struct vsock_header){
		.src_cid = get_le64(from), .dst_cid = get_le64(from + 8),
		.src_port = get_le32(from + 16), .dst_port = get_le32(from + 20),
		.len = get_le32(from + 24), .type = get_le16(from + 28), .op = get_le16(from + 30),
		.flags = get_le32(from + 32), .buffer = get_le32(from + 36),
		.forwarded = get_le32(from + 40),
	};
}

/* --- to the guest ----------------------------------------------------------------------------- */

void vsock_push_reset(struct virtio_vsock *s, uint64_t host_cid, uint32_t host_port,
		      uint32_t guest_port, uint16_t type)
{
	assert(s->resets < VSOCK_RESETS_MAX);
	s->reset[(s->first_reset + s->resets++) % VSOCK_RESETS_MAX] = (struct vsock_header){
		.src_cid = host_cid, .dst_cid = s->cid, .src_port = host_port,
		.dst_port = guest_port, .type = type, .op = VSOCK_RST,
	};
}

static const struct vsock_header *pop_reset(struct virtio_vsock *s)
{
	const struct vsock_header *h = &s->reset[s->first_reset];

	s->first_reset = (s->first_reset + 1) % VSOCK_RESETS_MAX;
	s->resets--;
	return h;
}

/* Which packet is next; its data is in the chain already. VSOCK_RW with len 0: there is none. */
static uint16_t next_op(struct vsock_conn *c, uint32_t *ret_len, uint32_t *ret_flags)
{
	static const uint8_t order[] = { VSOCK_REQUEST, VSOCK_RESPONSE, VSOCK_CREDIT_UPDATE,
					 VSOCK_CREDIT_REQUEST };
	size_t i;

	*ret_len = *ret_flags = 0;
	for (i = 0; i < sizeof(order); i++)
		if (c->tell & 1u << order[i]) {
			c->tell &= ~(1u << order[i]);
			return order[i];
		}
	*ret_len = vsock_conn_fill(c);
	if (*ret_len || c->state != VSOCK_OPEN || !(c->host_done & ~c->told_done))
		return VSOCK_RW;
	*ret_flags = c->told_done = c->host_done;
	if (c->host_done == VSOCK_NEITHER)
		vsock_conn_deadline(c, LEAVE_NS);
	return VSOCK_SHUTDOWN;
}

/* The next packet of the first connection that has one, into the chain; its bytes. 0: it had none. */
static uint32_t put_packet(struct virtio_vsock *s)
{
	struct vsock_conn *c = TAILQ_FIRST(&s->ready);
	struct vsock_header h = {
		.src_cid = VSOCK_HOST_CID, .dst_cid = s->cid, .src_port = c->host_port,
		.dst_port = c->guest_port, .type = VSOCK_STREAM, .buffer = VIRTIO_VSOCK_BUFFER,
	};
	uint8_t bytes[VSOCK_HEADER];

	TAILQ_REMOVE(&s->ready, c, ready_link);
	c->ready = false;
	h.op = next_op(c, &h.len, &h.flags);
	if (h.op == VSOCK_RW && !h.len) {
		vsock_conn_touch(c);
		return 0;
	}
	h.forwarded = c->told_forwarded = c->forwarded;
	c->tell &= ~(1u << VSOCK_CREDIT_UPDATE);
	put_header(bytes, &h);
	(void)virtq_copy_in(&s->virtio.queue[VSOCK_QUEUE_RX].ring, &s->chain, 0, bytes,
			    sizeof(bytes));
	vsock_conn_touch(c);
	return VSOCK_HEADER + h.len;
}

static uint32_t put_reset(struct virtio_vsock *s)
{
	uint8_t bytes[VSOCK_HEADER];

	put_header(bytes, pop_reset(s));
	(void)virtq_copy_in(&s->virtio.queue[VSOCK_QUEUE_RX].ring, &s->chain, 0, bytes,
			    sizeof(bytes));
	return sizeof(bytes);
}

static bool have_packets(const struct virtio_vsock *s)
{
	return s->resets || !TAILQ_EMPTY(&s->ready);
}

/* One buffer of the guest's. False: none there, or the driver broke a rule. */
static bool serve_one(struct virtio_vsock *s, uint32_t *left)
{
	struct virtio *v = &s->virtio;
	uint32_t len;

	if (virtio_get(v, VSOCK_QUEUE_RX, &s->chain) <= 0)
		return false;
	if (s->chain.in_bytes <= VSOCK_HEADER) {
		virtio_guest_error(v, "a buffer without room for a packet");
		virtio_release(v, VSOCK_QUEUE_RX, &s->chain, 0);
		return false;
	}
	len = s->resets ? put_reset(s) : put_packet(s);
	if (len)
		virtio_release(v, VSOCK_QUEUE_RX, &s->chain, len);
	else
		virtio_unget(v, VSOCK_QUEUE_RX, &s->chain);
	*left -= *left < len ? *left : len;
	return true;
}

void vsock_serve(struct virtio_vsock *s)
{
	struct virtio *v = &s->virtio;
	uint32_t left = TURN_BYTES;
	unsigned n = 0;

	if (s->paused)
		return;
	while (n++ < CHAINS_MAX && left && have_packets(s) && serve_one(s, &left))
		;
	virtio_end(v, VSOCK_QUEUE_RX);
	virtio_want_kicks(v, VSOCK_QUEUE_RX, have_packets(s));
	if (have_packets(s) && virtio_has(v, VSOCK_QUEUE_RX))
		virtio_kick_again(v, VSOCK_QUEUE_RX);
	if (s->stalled && s->resets < VSOCK_RESETS_STALL)
		virtio_kick_again(v, VSOCK_QUEUE_TX);
	if (v->status & VIRTIO_NEEDS_RESET) /* the other ends need not wait for that */
		vsock_conn_kill_all(s);
}

/* A driver that lost its connections to a reset may not have noticed. */
static void send_events(struct virtio_vsock *s)
{
	struct virtio *v = &s->virtio;
	uint8_t event[EVENT_BYTES];

	if (s->paused || !s->lost || virtio_get(v, VSOCK_QUEUE_EVENT, &s->chain) <= 0)
		return;
	s->lost = false;
	put_le32(event, EVENT_RESET);
	virtio_release(v, VSOCK_QUEUE_EVENT, &s->chain,
		       virtq_copy_in(&v->queue[VSOCK_QUEUE_EVENT].ring, &s->chain, 0, event,
				     sizeof(event)) < 0 ? 0 : sizeof(event));
	virtio_end(v, VSOCK_QUEUE_EVENT);
}

/* --- from the guest --------------------------------------------------------------------------- */

static void refuse(struct virtio_vsock *s, const struct vsock_header *h)
{
	if (h->op != VSOCK_RST)
		vsock_push_reset(s, h->dst_cid, h->dst_port, h->src_port, h->type);
}

/* The guest connects to the host. */
static void dial(struct virtio_vsock *s, const struct vsock_header *h)
{
	struct vsock_conn *c = s->wanted ? vsock_conn_new(s, VSOCK_DIALLING) : NULL;

	if (!c) {
		refuse(s, h);
		return;
	}
	vsock_conn_know(c, h->src_port, h->dst_port);
	c->guest_buffer = h->buffer;
	c->guest_forwarded = h->forwarded;
	vsock_conn_deadline(c, DIAL_NS);
	s->wanted(s->opaque);
}

static void take_for(struct vsock_conn *c, const struct vsock_header *h)
{
	bool asking = c->state == VSOCK_ASKING && !(c->tell & 1u << VSOCK_REQUEST);

	c->guest_buffer = h->buffer;
	c->guest_forwarded = h->forwarded;
	if (h->op == VSOCK_RST)
		vsock_conn_reset(c);
	else if (h->op == VSOCK_RESPONSE && asking)
		vsock_conn_accepted(c);
	else if (c->state != VSOCK_OPEN)
		vsock_conn_abort(c);
	else if (h->op == VSOCK_RW)
		vsock_conn_take(c, h->len);
	else if (h->op == VSOCK_SHUTDOWN)
		vsock_conn_shutdown(c, h->flags);
	else if (h->op == VSOCK_CREDIT_REQUEST)
		c->tell |= 1u << VSOCK_CREDIT_UPDATE;
	else if (h->op != VSOCK_CREDIT_UPDATE)
		vsock_conn_abort(c);
	vsock_conn_touch(c);
}

/* The packet in the chain. */
static void take_packet(struct virtio_vsock *s)
{
	uint8_t bytes[VSOCK_HEADER];
	struct vsock_header h;
	struct vsock_conn *c;

	if (virtq_copy_out(&s->virtio.queue[VSOCK_QUEUE_TX].ring, &s->chain, 0, bytes,
			   sizeof(bytes)) < 0)
		return; /* not even a header: there is nobody to answer to */
	get_header(bytes, &h);
	if (h.src_cid != s->cid)
		return; /* nor is there here */
	if (h.dst_cid != VSOCK_HOST_CID || h.type != VSOCK_STREAM) {
		refuse(s, &h);
		return;
	}
	c = vsock_conn_find(s, h.src_port, h.dst_port);
	if (c && h.op == VSOCK_RW && h.len > s->chain.out_bytes - VSOCK_HEADER)
		vsock_conn_abort(c);
	else if (c)
		take_for(c, &h);
	else if (h.op == VSOCK_REQUEST)
		dial(s, &h);
	else
		refuse(s, &h);
}

static void take_packets(struct virtio_vsock *s)
{
	struct virtio *v = &s->virtio;
	uint32_t left = TURN_BYTES;
	unsigned n = 0;

	if (s->paused)
		return;
	virtio_want_kicks(v, VSOCK_QUEUE_TX, false);
	while (n++ < CHAINS_MAX && left && s->resets < VSOCK_RESETS_STALL &&
	       virtio_get(v, VSOCK_QUEUE_TX, &s->chain) > 0) {
		left -= left < s->chain.out_bytes ? left : s->chain.out_bytes;
		take_packet(s);
		virtio_release(v, VSOCK_QUEUE_TX, &s->chain, 0);
	}
	virtio_end(v, VSOCK_QUEUE_TX);
	vsock_serve(s);
	s->stalled = s->resets >= VSOCK_RESETS_STALL;
	if (s->stalled)
		return; /* vsock_serve() rings the bell */
	virtio_want_kicks(v, VSOCK_QUEUE_TX, true);
	if (virtio_has(v, VSOCK_QUEUE_TX))
		virtio_kick_again(v, VSOCK_QUEUE_TX);
}

static void vsock_kick(struct virtio *v, unsigned queue)
{
	struct virtio_vsock *s = vsock_of(v);

	pthread_mutex_lock(&v->lock);
	if (queue == VSOCK_QUEUE_RX)
		vsock_serve(s);
	else if (queue == VSOCK_QUEUE_TX)
		take_packets(s);
	else
		send_events(s);
	pthread_mutex_unlock(&v->lock);
}

/* --- the device ------------------------------------------------------------------------------- */

static void vsock_stopped(struct virtio *v)
{
	struct virtio_vsock *s = vsock_of(v);

	s->lost |= !TAILQ_EMPTY(&s->conns);
	vsock_conn_kill_all(s);
	s->resets = 0;
	s->stalled = false;
}

static const struct virtio_ops vsock_ops = {
	.name = "virtio-vsock",
	.id = VIRTIO_ID_VSOCK,
	.features = 1ull << VSOCK_F_STREAM | 1ull << VIRTIO_F_IN_ORDER,
	.kick = vsock_kick,
	.stopped = vsock_stopped,
};

static void vsock_reset(struct device *dev)
{
	virtio_reset_wait(&((struct virtio_vsock *)dev)->virtio);
}

static void vsock_pause(struct device *dev)
{
	struct virtio_vsock *s = (struct virtio_vsock *)dev;

	pthread_mutex_lock(&s->virtio.lock);
	s->paused = true;
	pthread_mutex_unlock(&s->virtio.lock);
}

static void vsock_resume(struct device *dev)
{
	struct virtio_vsock *s = (struct virtio_vsock *)dev;
	unsigned i;

	pthread_mutex_lock(&s->virtio.lock);
	s->paused = false;
	vsock_conn_retry_all(s);
	for (i = 0; i < s->virtio.queue_count; i++)
		virtio_kick_again(&s->virtio, i);
	pthread_mutex_unlock(&s->virtio.lock);
}

static void vsock_destroy(struct device *dev)
{
	struct virtio_vsock *s = (struct virtio_vsock *)dev;

	if (!s)
		return;
	virtio_disconnect(&s->virtio);
	s->listen_watch = loop_remove(s->listen_watch);
	timer_fini(&s->tick);
	virtio_fini(&s->virtio); /* all connections are dead after that */
	loop_cancel_call(dev->machine->loop, &s->post);
	vsock_sweep(s);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	free(s);
}

static int init_virtio(struct virtio_vsock *s, const struct virtio_vsock_config *config)
{
	uint8_t space[8];
	const struct virtio_info info = {
		.ops = &vsock_ops,
		.features = vsock_ops.features,
		.without = config->place.without,
		.queue_count = 3,
		.queue_size = VSOCK_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};

	put_le64(space, config->cid);
	return virtio_init(&s->virtio, s->dev.machine, &info);
}

static int vsock_create(struct machine *machine, const void *opaque, struct device **ret_device)
{
	const struct virtio_vsock_config *config = opaque;
	struct virtio_vsock *s;
	unsigned i;
	int r;

	if (config->cid < VIRTIO_VSOCK_CID_MIN || config->cid > VIRTIO_VSOCK_CID_MAX)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->dev.class = &virtio_vsock_class;
	s->dev.machine = machine;
	s->cid = config->cid;
	s->wanted = config->wanted;
	s->opaque = config->opaque;
	s->listen_fd = -1;
	s->post = (struct loop_call){ .fn = vsock_posted, .opaque = s };
	TAILQ_INIT(&s->conns);
	TAILQ_INIT(&s->dead);
	TAILQ_INIT(&s->ready);
	for (i = 0; i < VSOCK_BUCKETS; i++)
		LIST_INIT(&s->known[i]);
	timer_init(&s->tick, machine->timers, vsock_tick, s);
	r = init_virtio(s, config);
	if (r == 0)
		r = virtio_connect(&s->virtio, &config->place, VSOCK_CLASS);
	if (r == 0 && config->listen_fd >= 0)
		r = loop_add(machine->loop, config->listen_fd, EPOLLIN, vsock_host_connects, s,
			     &s->listen_watch);
	if (r < 0) {
		vsock_destroy(&s->dev);
		return r;
	}
	s->listen_fd = config->listen_fd;
	*ret_device = &s->dev;
	return 0;
}

const struct device_class virtio_vsock_class = {
	.name = "virtio-vsock",
	.create = vsock_create,
	.destroy = vsock_destroy,
	.reset = vsock_reset,
	.pause = vsock_pause,
	.resume = vsock_resume,
};
