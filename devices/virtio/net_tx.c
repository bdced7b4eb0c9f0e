/* SPDX-License-Identifier: Apache-2.0 */
/* net_tx.c - virtio-net: packets from the guest to the backend. See net.c. */
#include <config.h>

#include <errno.h>

#include "devices/backend/net_frame.h"
#include "devices/virtio/net_internal.h"
#include "devices/virtio/net_vhost.h"

#define STUCK_NS 1000000000ull

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

	if (!net_flow_open(n, &n->from_guest) || virtio_get(v, queue, &n->chain) <= 0)
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
		net_flow_take(n, &n->from_guest, n->chain.out_bytes - NET_HEADER);
	} else {
		n->counters.tx_dropped++;
	}
	virtio_release(v, queue, &n->chain, 0);
	return true;
}

/* Lock held. */
void net_transmit(struct virtio_net *n, unsigned pair)
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
			(void)timer_arm(&n->stuck_timer, net_now(n) + STUCK_NS);
	} else if (!n->from_guest.waits) {
		virtio_want_kicks(v, queue, true);
		if (virtio_has(v, queue)) /* more than a turn's worth, or just come */
			virtio_kick_again(v, queue);
	}
	net_rearm(n, pair);
}

void net_writable(void *opaque, unsigned pair)
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

void net_from_guest_on(void *opaque, uint64_t time)
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
void net_give_up(void *opaque, uint64_t time)
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
