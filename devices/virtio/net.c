/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.c - virtio-net: packets between rings and backend, straight from and to guest memory. All of
 * it on the loop thread; a turn moves a bounded number of packets.
 *
 * A packet for which the guest has no buffers waits where it is: the backend is not read, the sender
 * is slowed down, nothing piles up. The same the other way: what the backend has no room for stays
 * in the ring, for a second; after that it is dropped until there is room, so that a peer that takes
 * nothing does not stop the guest. While there is no driver or no peer, packets are dropped, as by a
 * card that is switched off or has no cable.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/net_frame.h"
#include "devices/virtio/net_internal.h"
#include "devices/virtio/net_vhost.h"
#include "machine/memory.h"

#define NET_CLASS 0x020000u
#define NET_BATCH 64u                  /* packets in one turn */
#define NET_HEAD (NET_HEADER + NET_FRAME_MIN) /* looked at before the guest sees it */
#define STUCK_NS 1000000000ull
#define GUESS_MIN 2048u
#define RETRY_NS 1000000ull
#define MTU_MIN 68u

static struct virtq *rx_ring(struct virtio_net *n, unsigned pair)
{
	return &n->virtio.queue[net_rx_queue(pair)].ring;
}

static uint64_t now(const struct virtio_net *n)
{
	return timers_now(n->virtio.machine->timers);
}

/* --- link ------------------------------------------------------------------------------------- */

void net_set_status(struct virtio_net *n, uint16_t set, uint16_t clear)
{
	uint8_t *at = n->virtio.config + CFG_STATUS;
	uint16_t before = get_le16(at), after = (uint16_t)((before & ~clear) | set);

	if (before == after)
		return;
	put_le16(at, after);
	virtio_config_changed(&n->virtio);
	if ((before ^ after) & STATUS_LINK_UP && n->changed)
		n->changed(n->opaque);
}

void net_rearm(struct virtio_net *n, unsigned pair)
{
	struct net_pair *p = &n->pair[pair];
	unsigned want = (p->starved || n->to_guest.waits ? 0 : NET_WANT_READABLE) |
			(p->full || p->stuck ? NET_WANT_WRITABLE : 0);

	if (n->backend && !p->gone)
		n->backend->ops->want(n->backend, pair, net_vhost_active(n) ? 0 : want);
}

static void net_peer_gone(struct virtio_net *n)
{
	unsigned i;

	net_vhost_abandon(n);
	for (i = 0; i < n->pairs_max; i++) {
		n->pair[i].gone = true;
		n->backend->ops->unwatch(n->backend, i);
	}
	net_set_status(n, 0, STATUS_LINK_UP);
}

bool net_link_up(const struct virtio_net *n)
{
	return n->backend && get_le16(n->virtio.config + CFG_STATUS) & STATUS_LINK_UP;
}

/* --- limits ----------------------------------------------------------------------------------- */

/* May a packet pass now? Else the timer is set. */
static bool flow_open(struct virtio_net *n, struct net_flow *f)
{
	uint64_t t, wait;

	if (!limit_is_set(&f->limit))
		return true;
	t = now(n);
	wait = limit_wait(&f->limit, t);
	f->waits = wait && timer_arm(&f->timer, t + wait) == 0;
	return !f->waits;
}

static void flow_take(struct virtio_net *n, struct net_flow *f, uint64_t bytes)
{
	if (limit_is_set(&f->limit))
		limit_take(&f->limit, bytes, now(n));
}

/* --- to the guest: buffers -------------------------------------------------------------------- */

static void put_back(struct virtio_net *n, unsigned pair)
{
	while (n->held_count)
		virtio_unget(&n->virtio, net_rx_queue(pair), &n->held[--n->held_count]);
}

/* Takes buffers until they hold `bytes`, or there are no more; what they hold. One alone without
 * MRG_RXBUF. */
static size_t hold(struct virtio_net *n, unsigned pair, size_t bytes)
{
	unsigned most = virtio_has_feature(&n->virtio, NET_F_MRG_RXBUF) ? NET_HELD_MAX : 1, i;
	size_t room = 0;

	for (i = 0; i < n->held_count; i++)
		room += n->held[i].in_bytes;
	while (room < bytes && n->held_count < most &&
	       virtio_get(&n->virtio, net_rx_queue(pair), &n->held[n->held_count]) > 0)
		room += n->held[n->held_count++].in_bytes;
	return room;
}

/* Can there ever be enough of them? */
static bool hold_all(const struct virtio_net *n, unsigned pair)
{
	return !virtio_has_feature(&n->virtio, NET_F_MRG_RXBUF) || n->held_count == NET_HELD_MAX ||
	       n->held_count >= n->virtio.queue[net_rx_queue(pair)].ring.size;
}

/* Host memory of the held buffers from `skip` on into iov[at..]; entries in use. Buffers that do not
 * fit there are put back. */
static unsigned map_held(struct virtio_net *n, unsigned pair, size_t skip, unsigned at)
{
	unsigned i;

	for (i = 0; i < n->held_count; i++) {
		const struct virtq_chain *c = &n->held[i];
		size_t offset = skip < c->in_bytes ? skip : c->in_bytes;
		int got = virtq_iov(rx_ring(n, pair), c, true, offset, c->in_bytes - offset,
				    n->iov + at, NET_IOV_MAX - 1 - at);

		if (got < 0)
			break;
		at += (unsigned)got;
		skip -= offset;
	}
	while (n->held_count > i)
		virtio_unget(&n->virtio, net_rx_queue(pair), &n->held[--n->held_count]);
	return at;
}

/* Copies into the held buffers. */
static void fill_held(struct virtio_net *n, unsigned pair, size_t offset, const uint8_t *bytes,
		      size_t len)
{
	unsigned i;

	for (i = 0; i < n->held_count && len; i++) {
		const struct virtq_chain *c = &n->held[i];
		size_t part = offset < c->in_bytes ? c->in_bytes - offset : 0;

		part = part < len ? part : len;
		if (part)
			(void)virtq_copy_in(rx_ring(n, pair), c, offset, bytes, part);
		offset -= offset < c->in_bytes ? offset : c->in_bytes;
		bytes += part;
		len -= part;
	}
}

/* The kernel wrote [from, to) of the held buffers. */
static void tell_written(struct virtio_net *n, unsigned pair, size_t from, size_t to)
{
	unsigned i;

	for (i = 0; i < n->held_count && to; i++) {
		const struct virtq_chain *c = &n->held[i];
		size_t end = to < c->in_bytes ? to : c->in_bytes;

		if (from < end)
			virtq_iov_written(rx_ring(n, pair), c, from, end - from);
		from -= from < c->in_bytes ? from : c->in_bytes;
		to -= end;
	}
}

/* Gives the buffers that hold the packet to the driver; the others stay held. */
static void give(struct virtio_net *n, unsigned pair, size_t len)
{
	unsigned used, i;
	size_t left = len;

	for (used = 0; used < n->held_count && left; used++) {
		size_t part = left < n->held[used].in_bytes ? left : n->held[used].in_bytes;

		virtio_release(&n->virtio, net_rx_queue(pair), &n->held[used], (uint32_t)part);
		left -= part;
	}
	for (i = used; i < n->held_count; i++)
		n->held[i - used] = n->held[i];
	n->held_count -= used;
}

/* How many buffers a packet of len bytes takes. */
static uint16_t buffers_for(const struct virtio_net *n, size_t len)
{
	uint16_t count = 0;

	while (count < n->held_count && len) {
		size_t room = n->held[count++].in_bytes;

		len -= len < room ? len : room;
	}
	return count;
}

/* --- to the guest: packets -------------------------------------------------------------------- */

enum rx { RX_NONE, RX_TAKEN, RX_STARVED };

/* Is a packet that begins so for this guest, and fit for it? Makes the header its own. */
static bool rx_accept(struct virtio_net *n, uint8_t *head, size_t len)
{
	struct net_header h;

	net_header_get(&h, head);
	if (!net_header_check(&h, len - NET_HEADER, n->rx_offloads)) {
		n->counters.rx_dropped++;
		return false;
	}
	net_header_put(&h, head);
	return net_filter_passes(n, head + NET_HEADER);
}

static void rx_done(struct virtio_net *n, unsigned pair, uint8_t *head, size_t len)
{
	put_le16(head + NET_HEADER - 2, buffers_for(n, len));
	fill_held(n, pair, 0, head, NET_HEAD);
	give(n, pair, len);
	n->counters.rx_packets++;
	n->counters.rx_bytes += len - NET_HEADER;
	flow_take(n, &n->to_guest, len - NET_HEADER);
}

/* The packet that waits in n->packet. */
static enum rx rx_pending(struct virtio_net *n, unsigned pair)
{
	if (hold(n, pair, n->pending) < n->pending) {
		if (!hold_all(n, pair))
			return RX_STARVED;
		n->counters.rx_dropped++; /* no buffers of this driver are that large */
		n->pending = 0;
		return RX_TAKEN;
	}
	fill_held(n, pair, NET_HEAD, n->packet + NET_HEAD, n->pending - NET_HEAD);
	rx_done(n, pair, n->packet, n->pending);
	n->pending = 0;
	return RX_TAKEN;
}

/* Reads one packet into the buffers; what is longer than they are, by way of n->packet. */
static enum rx rx_read(struct virtio_net *n, unsigned pair)
{
	struct net_pair *p = &n->pair[pair];
	uint8_t head[NET_HEAD];
	size_t room = hold(n, pair, p->guess);
	unsigned count;
	ssize_t got;

	if (!room)
		return RX_STARVED;
	n->iov[0] = (struct iovec){ head, sizeof(head) };
	count = map_held(n, pair, sizeof(head), 1);
	room = hold(n, pair, 0);
	n->iov[count++] = (struct iovec){ n->spill, sizeof(n->spill) };
	got = n->backend->ops->receive(n->backend, pair, n->iov, count);
	if (got == -EMSGSIZE) {
		tell_written(n, pair, NET_HEAD, room);
		n->counters.rx_dropped++;
		return RX_TAKEN;
	}
	if (got < 0) {
		if (got != -EAGAIN)
			net_peer_gone(n);
		return RX_NONE;
	}
	tell_written(n, pair, NET_HEAD, (size_t)got);
	if ((size_t)got > p->guess)
		p->guess = (size_t)got < NET_PACKET_MAX ? (uint32_t)got : NET_PACKET_MAX;
	else
		p->guess -= (p->guess - GUESS_MIN) / 8;
	if (!rx_accept(n, head, (size_t)got))
		return RX_TAKEN;
	if ((size_t)got <= room) {
		rx_done(n, pair, head, (size_t)got);
		return RX_TAKEN;
	}
	if (n->pending) { /* another queue's packet waits there */
		n->counters.rx_dropped++;
		return RX_TAKEN;
	}
	n->pending = mem_iov_load(n->iov, count, 0, n->packet, (size_t)got);
	n->pending_pair = pair;
	return rx_pending(n, pair);
}

/* Nobody drives the card. */
static enum rx rx_drop(struct virtio_net *n, unsigned pair)
{
	struct iovec iov = { n->spill, sizeof(n->spill) };
	ssize_t got = n->backend->ops->receive(n->backend, pair, &iov, 1);

	if (got >= 0 || got == -EMSGSIZE)
		return RX_TAKEN;
	if (got != -EAGAIN)
		net_peer_gone(n);
	return RX_NONE;
}

static enum rx rx_one(struct virtio_net *n, unsigned pair)
{
	if (!n->backend || n->pair[pair].gone)
		return RX_NONE;
	if (!virtio_running(&n->virtio) || !rx_ring(n, pair)->enabled) {
		n->pending = 0;
		return rx_drop(n, pair);
	}
	if (!flow_open(n, &n->to_guest))
		return RX_NONE;
	if (n->pending && n->pending_pair == pair)
		return rx_pending(n, pair);
	return rx_read(n, pair);
}

/* Lock held. */
static void net_receive(struct virtio_net *n, unsigned pair)
{
	struct virtio *v = &n->virtio;
	unsigned queue = net_rx_queue(pair), i;
	enum rx r = RX_TAKEN;

	if (net_vhost_active(n))
		return;
	n->pair[pair].starved = false;
	for (i = 0; i < NET_BATCH && r == RX_TAKEN; i++)
		r = rx_one(n, pair);
	put_back(n, pair);
	virtio_end(v, queue);
	n->pair[pair].starved = r == RX_STARVED;
	if (r == RX_STARVED && n->pending && n->pending_pair == pair) {
		/* Some are there, but not enough: no kick tells of more. */
		n->to_guest.waits = timer_arm(&n->to_guest.timer, now(n) + RETRY_NS) == 0;
	} else if (r == RX_STARVED) {
		virtio_want_kicks(v, queue, true);
		if (virtio_has(v, queue)) /* came before the driver saw that */
			virtio_kick_again(v, queue);
	} else {
		virtio_want_kicks(v, queue, false);
		if (r == RX_TAKEN)
			virtio_kick_again(v, queue);
	}
	net_rearm(n, pair);
}

static void net_readable(void *opaque, unsigned pair)
{
	struct virtio_net *n = opaque;

	pthread_mutex_lock(&n->virtio.lock);
	net_receive(n, pair);
	pthread_mutex_unlock(&n->virtio.lock);
}

static void net_hung_up(void *opaque, unsigned pair)
{
	struct virtio_net *n = opaque;

	pthread_mutex_lock(&n->virtio.lock);
	net_vhost_abandon(n);
	if (n->backend)
		n->backend->ops->unwatch(n->backend, pair);
	net_set_status(n, 0, STATUS_LINK_UP);
	while (!virtio_running(&n->virtio) && rx_one(n, pair) == RX_TAKEN)
		; /* what it left: not more than its socket held */
	net_receive(n, pair); /* down to its end; kicks do the rest where buffers are short */
	pthread_mutex_unlock(&n->virtio.lock);
}


/* --- from the guest --------------------------------------------------------------------------- */

/* Sends the packet of n->chain. -EAGAIN: the backend has no room. */
static int tx_send(struct virtio_net *n, unsigned pair)
{
	const struct virtq *ring = &n->virtio.queue[net_tx_queue(pair)].ring;
	size_t len = n->chain.out_bytes;
	uint8_t head[NET_HEADER];
	struct net_header h;
	int count, r;

	if (len < NET_HEADER + NET_FRAME_MIN || len > NET_PACKET_MAX || !net_link_up(n) ||
	    n->pair[pair].stuck || virtq_copy_out(ring, &n->chain, 0, head, sizeof(head)) < 0)
		return -EINVAL;
	net_header_get(&h, head);
	if (!net_header_check(&h, len - NET_HEADER, n->tx_offloads))
		return -EINVAL;
	net_header_put(&h, head);
	n->iov[0] = (struct iovec){ head, sizeof(head) };
	count = virtq_iov(ring, &n->chain, false, NET_HEADER, len - NET_HEADER, n->iov + 1,
			  NET_IOV_MAX - 1);
	if (count < 0)
		return -EINVAL;
	r = n->backend->ops->send(n->backend, pair, n->iov, (unsigned)count + 1);
	if (r < 0 && r != -EAGAIN)
		net_peer_gone(n);
	return r;
}

/* One packet; false: no more now. */
static bool tx_one(struct virtio_net *n, unsigned pair)
{
	struct virtio *v = &n->virtio;
	unsigned queue = net_tx_queue(pair);
	int r;

	if (!flow_open(n, &n->from_guest) || virtio_get(v, queue, &n->chain) <= 0)
		return false;
	r = tx_send(n, pair);
	if (r == -EAGAIN) {
		virtio_unget(v, queue, &n->chain);
		n->pair[pair].full = true;
		return false;
	}
	if (r == 0) {
		n->counters.tx_packets++;
		n->counters.tx_bytes += n->chain.out_bytes - NET_HEADER;
		flow_take(n, &n->from_guest, n->chain.out_bytes - NET_HEADER);
	} else {
		n->counters.tx_dropped++;
	}
	virtio_release(v, queue, &n->chain, 0);
	return true;
}

/* Lock held. */
static void net_transmit(struct virtio_net *n, unsigned pair)
{
	struct virtio *v = &n->virtio;
	struct net_pair *p = &n->pair[pair];
	unsigned queue = net_tx_queue(pair), i;

	if (p->full || net_vhost_active(n))
		return;
	virtio_want_kicks(v, queue, false);
	for (i = 0; i < NET_BATCH && tx_one(n, pair); i++)
		;
	virtio_end(v, queue);
	if (p->full) {
		if (!timer_armed(&n->stuck_timer))
			(void)timer_arm(&n->stuck_timer, now(n) + STUCK_NS);
	} else if (!n->from_guest.waits) {
		virtio_want_kicks(v, queue, true);
		if (virtio_has(v, queue)) /* more than a turn's worth, or just come */
			virtio_kick_again(v, queue);
	}
	net_rearm(n, pair);
}

static void net_writable(void *opaque, unsigned pair)
{
	struct virtio_net *n = opaque;
	int r = 0;

	pthread_mutex_lock(&n->virtio.lock);
	if (n->backend)
		r = n->backend->ops->send(n->backend, pair, NULL, 0);
	if (r == 0) {
		n->pair[pair].full = n->pair[pair].stuck = false;
		net_transmit(n, pair);
	} else if (r != -EAGAIN) {
		net_peer_gone(n);
	}
	pthread_mutex_unlock(&n->virtio.lock);
}

static const struct net_events net_events = { net_readable, net_writable, net_hung_up };

/* --- timers ----------------------------------------------------------------------------------- */

static void to_guest_on(void *opaque, uint64_t time)
{
	struct virtio_net *n = opaque;
	unsigned i;

	(void)time;
	pthread_mutex_lock(&n->virtio.lock);
	n->to_guest.waits = false;
	for (i = 0; i < n->pairs_max; i++)
		net_receive(n, i);
	pthread_mutex_unlock(&n->virtio.lock);
}

static void from_guest_on(void *opaque, uint64_t time)
{
	struct virtio_net *n = opaque;
	unsigned i;

	(void)time;
	pthread_mutex_lock(&n->virtio.lock);
	n->from_guest.waits = false;
	for (i = 0; i < n->pairs_max; i++)
		net_transmit(n, i);
	pthread_mutex_unlock(&n->virtio.lock);
}

/* The backend took nothing for a second: what comes is dropped until it does. */
static void give_up(void *opaque, uint64_t time)
{
	struct virtio_net *n = opaque;
	unsigned i;

	(void)time;
	pthread_mutex_lock(&n->virtio.lock);
	for (i = 0; i < n->pairs_max; i++) {
		if (!n->pair[i].full)
			continue;
		n->pair[i].stuck = true; /* net_writable() ends it */
		n->pair[i].full = false;
		net_transmit(n, i);
	}
	pthread_mutex_unlock(&n->virtio.lock);
}

/* --- the driver ------------------------------------------------------------------------------- */

/* Without MQ the control queue comes right behind the first pair (5.1.2). */
static unsigned control_queue(const struct virtio_net *n)
{
	return virtio_has_feature(&n->virtio, NET_F_MQ) ? 2 * n->pairs_max : 2;
}

static void net_kick(struct virtio *v, unsigned queue)
{
	struct virtio_net *n = net_of(v);

	pthread_mutex_lock(&v->lock);
	if (queue == control_queue(n)) {
		if (virtio_has_feature(v, NET_F_CTRL_VQ))
			net_control(n, queue);
	} else if (net_vhost_active(n)) {
		net_vhost_kick(n, queue);
	} else if (queue % 2 == 0) {
		if (!n->to_guest.waits)
			net_receive(n, queue / 2);
	} else {
		net_transmit(n, queue / 2);
	}
	pthread_mutex_unlock(&v->lock);
}

static const struct {
	uint8_t feature;
	uint8_t offload;
} tx_features[] = {
	{ NET_F_CSUM, NET_OFFLOAD_CSUM },         { NET_F_HOST_TSO4, NET_OFFLOAD_TSO4 },
	{ NET_F_HOST_TSO6, NET_OFFLOAD_TSO6 },    { NET_F_HOST_ECN, NET_OFFLOAD_ECN },
	{ NET_F_HOST_USO, NET_OFFLOAD_USO },
}, rx_features[] = {
	{ NET_F_GUEST_CSUM, NET_OFFLOAD_CSUM },   { NET_F_GUEST_TSO4, NET_OFFLOAD_TSO4 },
	{ NET_F_GUEST_TSO6, NET_OFFLOAD_TSO6 },   { NET_F_GUEST_ECN, NET_OFFLOAD_ECN },
	{ NET_F_GUEST_USO4, NET_OFFLOAD_USO },    { NET_F_GUEST_USO6, NET_OFFLOAD_USO },
};

unsigned net_rx_offloads(uint64_t features)
{
	unsigned offloads = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rx_features); i++)
		if (features >> rx_features[i].feature & 1)
			offloads |= rx_features[i].offload;
	/* The two kinds of USO come from the host as one. */
	if (!(features >> NET_F_GUEST_USO4 & 1) || !(features >> NET_F_GUEST_USO6 & 1))
		offloads &= ~(unsigned)NET_OFFLOAD_USO;
	return offloads & NET_OFFLOAD_CSUM ? offloads : 0; /* all need that one */
}

static unsigned net_tx_offloads(uint64_t features)
{
	unsigned offloads = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tx_features); i++)
		if (features >> tx_features[i].feature & 1)
			offloads |= tx_features[i].offload;
	return offloads;
}

void net_set_rx_offloads(struct virtio_net *n, unsigned offloads)
{
	n->rx_offloads = offloads;
	if (n->backend && n->backend->ops->offloads)
		(void)n->backend->ops->offloads(n->backend, offloads);
}

int net_use_pairs(struct virtio_net *n, unsigned pairs)
{
	int r = 0;

	net_vhost_stop(n);
	if (n->backend && n->backend->ops->use_pairs)
		r = n->backend->ops->use_pairs(n->backend, pairs);
	if (r == 0)
		n->pairs = pairs;
	net_vhost_start(n);
	return r;
}

static void net_started(struct virtio *v)
{
	struct virtio_net *n = net_of(v);

	n->tx_offloads = net_tx_offloads(v->accepted);
	net_set_rx_offloads(n, net_rx_offloads(v->accepted));
	net_vhost_start(n);
}

static void net_resetting(struct virtio *v)
{
	net_vhost_abandon(net_of(v));
}

/* The driver is gone, or the machine begins. Loop thread or a vCPU's, lock held. */
static void net_stopped(struct virtio *v)
{
	struct virtio_net *n = net_of(v);
	unsigned i;

	net_vhost_stop(n);
	n->pending = 0;
	n->to_guest.waits = n->from_guest.waits = false;
	n->tx_offloads = 0;
	net_set_rx_offloads(n, 0);
	(void)net_use_pairs(n, 1);
	net_filter_reset(n);
	v->config[CFG_STATUS] &= (uint8_t)~STATUS_ANNOUNCE;
	for (i = 0; i < n->pairs_max; i++) {
		n->pair[i] = (struct net_pair){ .gone = n->pair[i].gone, .guess = GUESS_MIN };
		net_rearm(n, i); /* what comes is read, and dropped */
	}
}

static const struct virtio_ops net_ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.features = NET_FEATURES,
	.kick = net_kick,
	.started = net_started,
	.resetting = net_resetting,
	.stopped = net_stopped,
};

/* --- peers ------------------------------------------------------------------------------------ */

int virtio_net_attach(struct device *device, const int *fds, unsigned count)
{
	struct virtio_net *n = (struct virtio_net *)device;
	struct net_backend *new, *old;
	unsigned i;
	int r = net_backend_create(n->kind, fds, count, &net_events, n, &new);

	if (r < 0)
		return r;
	if (n->can_send & ~new->can_send || n->can_receive & ~new->can_receive ||
	    new->pairs != n->pairs_max)
		r = -EINVAL;
	else
		r = new->ops->watch(new, device->machine->loop);
	if (r < 0) {
		net_backend_disown(new);
		return r;
	}
	pthread_mutex_lock(&n->virtio.lock);
	net_vhost_abandon(n);
	net_vhost_rewire(n, fds);
	old = n->backend;
	n->backend = new;
	for (i = 0; i < n->pairs_max; i++)
		n->pair[i].gone = n->pair[i].full = n->pair[i].stuck = false;
	net_set_rx_offloads(n, n->rx_offloads);
	(void)net_use_pairs(n, n->pairs);
	for (i = 0; i < n->pairs_max; i++) {
		net_rearm(n, i);
		virtio_kick_again(&n->virtio, net_tx_queue(i));
	}
	net_set_status(n, STATUS_LINK_UP |
			  (virtio_has_feature(&n->virtio, NET_F_GUEST_ANNOUNCE) ? STATUS_ANNOUNCE : 0),
		       0);
	net_vhost_start(n);
	pthread_mutex_unlock(&n->virtio.lock);
	net_backend_destroy(old);
	return 0;
}

void virtio_net_config_close(const struct virtio_net_config *config)
{
	for (unsigned i = 0; i < config->fd_count; i++)
		close(config->fds[i]);
	for (unsigned i = 0; i < config->vhost_count; i++)
		close(config->vhost_fds[i]);
}

void virtio_net_info(struct device *device, struct virtio_net_info *ret_info)
{
	struct virtio_net *n = (struct virtio_net *)device;

	pthread_mutex_lock(&n->virtio.lock);
	*ret_info = (struct virtio_net_info){ .link = net_link_up(n), .vhost = net_vhost_usable(n),
					      .pairs = n->pairs, .counters = n->counters };
	pthread_mutex_unlock(&n->virtio.lock);
}

/* --- the device ------------------------------------------------------------------------------- */

static void net_reset(struct device *dev)
{
	virtio_reset_wait(&((struct virtio_net *)dev)->virtio);
}

static void net_pause(struct device *dev)
{
	net_vhost_pause((struct virtio_net *)dev, true);
}

static void net_resume(struct device *dev)
{
	net_vhost_pause((struct virtio_net *)dev, false);
}

static void net_lose(struct device *dev)
{
	struct virtio_net *n = (struct virtio_net *)dev;
	struct net_backend *old;

	pthread_mutex_lock(&n->virtio.lock);
	if (n->backend)
		net_peer_gone(n);
	old = n->backend;
	n->backend = NULL;
	pthread_mutex_unlock(&n->virtio.lock);
	net_backend_destroy(old);
}

static void net_destroy(struct device *dev)
{
	struct virtio_net *n = (struct virtio_net *)dev;
	unsigned i;

	if (!n)
		return;
	virtio_disconnect(&n->virtio); /* from here on no kick is served */
	n->vhost = net_vhost_destroy(n->vhost);
	for (i = 0; n->backend && i < n->backend->pairs; i++)
		n->backend->ops->unwatch(n->backend, i);
	timer_fini(&n->to_guest.timer);
	timer_fini(&n->from_guest.timer);
	timer_fini(&n->stuck_timer);
	virtio_fini(&n->virtio);
	net_backend_destroy(n->backend);
	free(n);
}

static uint64_t offers(const struct virtio_net *n, const struct virtio_net_config *c)
{
	uint64_t features = 1ull << NET_F_MAC | 1ull << NET_F_STATUS | 1ull << NET_F_MRG_RXBUF |
			    1ull << NET_F_CTRL_VQ | 1ull << NET_F_CTRL_RX |
			    1ull << NET_F_CTRL_RX_EXTRA | 1ull << NET_F_CTRL_MAC_ADDR |
			    1ull << NET_F_GUEST_ANNOUNCE;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tx_features); i++)
		if (n->can_send & tx_features[i].offload)
			features |= 1ull << tx_features[i].feature;
	for (i = 0; i < ARRAY_SIZE(rx_features); i++)
		if (n->can_receive & rx_features[i].offload)
			features |= 1ull << rx_features[i].feature;
	if (n->can_receive)
		features |= 1ull << NET_F_CTRL_GUEST_OFFLOADS;
	if (c->mtu)
		features |= 1ull << NET_F_MTU;
	if (n->pairs_max > 1)
		features |= 1ull << NET_F_MQ;
	return features;
}

static int init_virtio(struct virtio_net *n, struct machine *machine,
		       const struct virtio_net_config *c)
{
	uint8_t space[CFG_BYTES] = { 0 };
	const struct virtio_info info = {
		.ops = &net_ops,
		.features = offers(n, c),
		.without = c->place.without | (c->vhost_count ? 1ull << VIRTIO_F_RING_RESET : 0),
		.queue_count = 2 * n->pairs_max + 1,
		.queue_size = NET_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};

	memcpy(space + CFG_MAC, c->mac, sizeof(c->mac));
	put_le16(space + CFG_STATUS, c->fd_count ? STATUS_LINK_UP : 0);
	put_le16(space + CFG_PAIRS, (uint16_t)n->pairs_max);
	put_le16(space + CFG_MTU, c->mtu);
	return virtio_init(&n->virtio, machine, &info);
}

static void init_flow(struct virtio_net *n, struct net_flow *f,
		      const struct virtio_net_limits *limits, timer_fn *fn)
{
	struct timers *timers = n->dev.machine->timers;

	limit_init(&f->limit, limits->bytes, limits->packets, timers_now(timers));
	timer_init(&f->timer, timers, fn, n);
}

static int net_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct virtio_net_config *c = config;
	struct virtio_net *n;
	unsigned i;
	int r;

	if (c->mac[0] & 1u || (c->mtu && c->mtu < MTU_MIN) || (!c->fd_count && c->kind == NET_TAP) ||
	    (c->vhost_count && (c->kind != NET_TAP || c->vhost_count != c->fd_count)))
		return -EINVAL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->dev.class = &virtio_net_class;
	n->dev.machine = machine;
	n->kind = c->kind;
	n->changed = c->changed;
	n->opaque = c->opaque;
	n->pairs_max = c->fd_count ? c->fd_count : 1;
	memcpy(n->mac, c->mac, sizeof(n->mac));
	init_flow(n, &n->to_guest, &c->to_guest, to_guest_on);
	init_flow(n, &n->from_guest, &c->from_guest, from_guest_on);
	timer_init(&n->stuck_timer, machine->timers, give_up, n);
	net_kind_offloads(c->kind, &n->can_send, &n->can_receive);
	for (i = 0; i < n->pairs_max; i++)
		n->pair[i].guess = GUESS_MIN;
	r = c->fd_count ? net_backend_create(c->kind, c->fds, c->fd_count, &net_events, n,
					     &n->backend) : 0;
	if (r == 0 && n->backend) {
		n->can_send = n->backend->can_send;
		n->can_receive = n->backend->can_receive;
	}
	if (r == 0)
		r = init_virtio(n, machine, c);
	if (r == 0) {
		net_filter_reset(n);
		r = virtio_connect(&n->virtio, &c->place, NET_CLASS);
	}
	if (r == 0 && n->backend) /* last: events need all of it */
		r = n->backend->ops->watch(n->backend, machine->loop);
	if (r == 0 && c->vhost_count)
		r = net_vhost_create(n, c);
	if (r < 0) {
		if (n->backend)
			n->backend->disowned = true;
		net_destroy(&n->dev);
		return r;
	}
	*ret_device = &n->dev;
	return 0;
}

const struct device_class virtio_net_class = {
	.name = "virtio-net",
	.create = net_create,
	.destroy = net_destroy,
	.reset = net_reset,
	.pause = net_pause,
	.resume = net_resume,
	.lose = net_lose,
};
