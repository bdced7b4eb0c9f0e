/* SPDX-License-Identifier: Apache-2.0 */
/* net_rx.c - virtio-net: packets from the backend to the guest. See net.c. */
#include <config.h>

#include <errno.h>

#include "common/bytes.h"
#include "devices/backend/net_frame.h"
#include "devices/virtio/net_internal.h"
#include "devices/virtio/net_vhost.h"
#include "machine/memory.h"

#define NET_HEAD (NET_HEADER + NET_FRAME_MIN) /* looked at before the guest sees it */
#define RETRY_NS 1000000ull

static struct virtq *rx_ring(struct virtio_net *n, unsigned pair)
{
	return &n->virtio.queue[net_rx_queue(pair)].ring;
}

/* --- buffers ---------------------------------------------------------------------------------- */

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

/* --- packets ---------------------------------------------------------------------------------- */

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
	net_flow_take(n, &n->to_guest, len - NET_HEADER);
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
		p->guess -= (p->guess - NET_GUESS_MIN) / 8;
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
	if (!net_flow_open(n, &n->to_guest))
		return RX_NONE;
	if (n->pending && n->pending_pair == pair)
		return rx_pending(n, pair);
	return rx_read(n, pair);
}

/* Lock held. */
void net_receive(struct virtio_net *n, unsigned pair)
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
		n->to_guest.waits = timer_arm(&n->to_guest.timer, net_now(n) + RETRY_NS) == 0;
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

void net_readable(void *opaque, unsigned pair)
{
	struct virtio_net *n = opaque;

	pthread_mutex_lock(&n->virtio.lock);
	net_receive(n, pair);
	pthread_mutex_unlock(&n->virtio.lock);
}

void net_hung_up(void *opaque, unsigned pair)
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

void net_to_guest_on(void *opaque, uint64_t time)
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
