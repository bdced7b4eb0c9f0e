/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.c - virtio-net. Both directions run on the loop thread, a frame copied once each way. A
 * turn moves a bounded number of frames. A frame for which the guest has no buffer waits in the
 * backend, which stops reading: the sender is slowed down, nothing piles up. While there is no
 * driver, frames are dropped, as by a card that is switched off.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/backend/net.h"
#include "devices/virtio/core.h"
#include "devices/virtio/net.h"
#include "devices/virtio/pci.h"
#include "machine/loop.h"

#define NET_CLASS 0x020000u
#define NET_QUEUE_SIZE 256u
#define NET_HEADER 12u        /* struct virtio_net_hdr with num_buffers (5.1.6) */
#define NET_CHAINS 64u        /* in one turn */
#define NET_PACKET_MAX (NET_HEADER + NET_FRAME_MAX)

enum { RX = 0, TX = 1 };
enum { NET_F_MAC = 5, NET_F_STATUS = 16 };
enum { CFG_MAC = 0, CFG_STATUS = 6, CFG_BYTES = 8 };
#define STATUS_LINK_UP 1u

struct virtio_net {
	struct device dev;
	struct virtio virtio;
	struct virtio_pci *pci;
	struct net_backend *backend;
	bool paused;              /* posted calls come in a pause too; virtio.lock */
	bool blocked;             /* a frame waits for a buffer; virtio.lock */
	struct virtq_chain chain; /* one at a time, under virtio.lock */
	uint8_t packet[NET_PACKET_MAX]; /* on its way out; loop thread */
};

static struct virtio_net *net_of(struct virtio *v)
{
	return (struct virtio_net *)((char *)v - offsetof(struct virtio_net, virtio));
}

/* --- to the guest ----------------------------------------------------------------------------- */

/* Fills the chain with header and frame; the bytes written, 0 if it is too small. */
static uint32_t net_fill(const struct virtio_net *n, const uint8_t *frame, size_t len)
{
	const struct virtq *ring = &n->virtio.queue[RX].ring;
	uint8_t header[NET_HEADER] = { 0 };

	put_le16(header + 10, 1); /* num_buffers */
	if (n->chain.in_bytes < NET_HEADER + len ||
	    virtq_copy_in(ring, &n->chain, 0, header, sizeof(header)) < 0 ||
	    virtq_copy_in(ring, &n->chain, NET_HEADER, frame, len) < 0)
		return 0;
	return (uint32_t)(NET_HEADER + len);
}

static bool net_receive(void *opaque, const uint8_t *frame, size_t len)
{
	struct virtio_net *n = opaque;
	struct virtio *v = &n->virtio;
	bool taken = true;

	pthread_mutex_lock(&v->lock);
	if (virtio_get(v, RX, &n->chain) > 0) {
		virtio_release(v, RX, &n->chain, net_fill(n, frame, len));
		virtio_end(v, RX);
	} else if (virtio_running(v)) {
		taken = false;
		n->blocked = true;
		virtio_want_kicks(v, RX, true);
		if (virtio_has(v, RX)) /* came before the driver saw that */
			virtio_kick_again(v, RX);
	}
	pthread_mutex_unlock(&v->lock);
	return taken;
}

static void net_unblock(void *opaque)
{
	struct virtio_net *n = opaque;
	bool resume;

	pthread_mutex_lock(&n->virtio.lock);
	resume = n->blocked && !n->paused;
	if (resume)
		n->blocked = false;
	pthread_mutex_unlock(&n->virtio.lock);
	if (resume)
		n->backend->ops->resume(n->backend);
}

static void net_link(void *opaque, bool up)
{
	struct virtio_net *n = opaque;

	pthread_mutex_lock(&n->virtio.lock);
	put_le16(n->virtio.config + CFG_STATUS, up ? STATUS_LINK_UP : 0);
	virtio_config_changed(&n->virtio);
	pthread_mutex_unlock(&n->virtio.lock);
}

static const struct net_events net_events = { net_receive, net_link };

/* --- from the guest --------------------------------------------------------------------------- */

/* Takes one packet out of the ring and gives its buffer back. Its bytes; 0: one that is no frame; -1: there is none. Lock held. */
static long net_take(struct virtio_net *n)
{
	struct virtio *v = &n->virtio;
	long len = 0;

	if (virtio_get(v, TX, &n->chain) <= 0)
		return -1;
	if (n->chain.out_bytes >= NET_HEADER + NET_FRAME_MIN &&
	    n->chain.out_bytes <= sizeof(n->packet) &&
	    virtq_copy_out(&v->queue[TX].ring, &n->chain, 0, n->packet, n->chain.out_bytes) == 0)
		len = (long)n->chain.out_bytes;
	virtio_release(v, TX, &n->chain, 0);
	return len;
}

static void net_transmit(struct virtio_net *n)
{
	struct virtio *v = &n->virtio;
	unsigned i;
	long len = 0;

	pthread_mutex_lock(&v->lock);
	for (i = 0; i < NET_CHAINS && len >= 0; i++) {
		len = net_take(n);
		pthread_mutex_unlock(&v->lock);
		if (len > 0) /* no offloads were offered: the header says nothing */
			(void)n->backend->ops->send(n->backend, n->packet + NET_HEADER,
						    (size_t)len - NET_HEADER);
		pthread_mutex_lock(&v->lock);
	}
	virtio_end(v, TX);
	virtio_want_kicks(v, TX, true);
	if (virtio_has(v, TX)) /* more than a turn's worth, or just come */
		virtio_kick_again(v, TX);
	pthread_mutex_unlock(&v->lock);
}

static void net_kick(struct virtio *v, unsigned queue)
{
	if (queue == RX)
		net_unblock(net_of(v));
	else
		net_transmit(net_of(v));
}

/* The driver is gone: what waits for it may be dropped. */
static void net_stopped(struct virtio *v)
{
	struct virtio_net *n = net_of(v);

	if (n->blocked)
		(void)loop_post(v->machine->loop, net_unblock, n);
}

static const struct virtio_ops net_ops = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.features = 1ull << NET_F_MAC | 1ull << NET_F_STATUS,
	.kick = net_kick,
	.stopped = net_stopped,
};

/* --- the device ------------------------------------------------------------------------------- */

static void net_reset(struct device *dev)
{
	virtio_reset_wait(&((struct virtio_net *)dev)->virtio);
}

static void net_set_paused(struct device *dev, bool paused)
{
	struct virtio_net *n = (struct virtio_net *)dev;

	pthread_mutex_lock(&n->virtio.lock);
	n->paused = paused;
	if (!paused && n->blocked)
		(void)loop_post(dev->machine->loop, net_unblock, n);
	pthread_mutex_unlock(&n->virtio.lock);
}

static void net_pause(struct device *dev)
{
	net_set_paused(dev, true);
}

static void net_resume(struct device *dev)
{
	net_set_paused(dev, false);
}

static void net_destroy(struct device *dev)
{
	struct virtio_net *n = (struct virtio_net *)dev;

	if (!n)
		return;
	n->blocked = false;
	virtio_pci_destroy(n->pci);
	virtio_fini(&n->virtio);
	net_backend_destroy(n->backend);
	free(n);
}

static int net_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct virtio_net_config *c = config;
	uint8_t space[CFG_BYTES] = { 0 };
	const struct virtio_info info = {
		.ops = &net_ops,
		.features = 1ull << NET_F_MAC | 1ull << NET_F_STATUS,
		.queue_count = 2,
		.queue_size = NET_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};
	struct virtio_net *n;
	int r;

	if (c->mac[0] & 1u)
		return -EINVAL; /* a group address */
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->dev.class = &virtio_net_class;
	n->dev.machine = machine;
	memcpy(space + CFG_MAC, c->mac, sizeof(c->mac));
	put_le16(space + CFG_STATUS, STATUS_LINK_UP);
	r = virtio_init(&n->virtio, machine, &info);
	if (r == 0)
		r = virtio_pci_create(&n->virtio, NET_CLASS, &n->pci);
	if (r == 0) /* last: the descriptor is ours from here on */
		r = net_stream_create(machine->loop, c->fd, &net_events, n, &n->backend);
	if (r < 0) {
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
};
