/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.c - virtio-net: the device, its life and its driver; packets are in net_rx.c and net_tx.c. They
 * go between rings and backend, straight from and to guest memory, on the loop thread; a turn moves
 * a bounded number of them.
 *
 * A packet for which the guest has no buffers waits where it is: the backend is not read, the sender
 * is slowed down, nothing piles up. The same the other way: what the backend has no room for stays
 * in the ring, for a second; after that it is dropped until there is room, so that a peer that takes
 * nothing does not stop the guest. While there is no driver or no peer, packets are dropped, as by a
 * card that is switched off or has no cable.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/net_frame.h"
#include "devices/virtio/net_internal.h"
#include "devices/virtio/net_vhost.h"

#define NET_CLASS 0x020000u
#define MTU_MIN 68u

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

void net_peer_gone(struct virtio_net *n)
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

bool net_flow_open(struct virtio_net *n, struct net_flow *f)
{
	uint64_t t, wait;

	if (!limit_is_set(&f->limit))
		return true;
	t = net_now(n);
	wait = limit_wait(&f->limit, t);
	f->waits = wait && timer_arm(&f->timer, t + wait) == 0;
	return !f->waits;
}

void net_flow_take(struct virtio_net *n, struct net_flow *f, uint64_t bytes)
{
	if (limit_is_set(&f->limit))
		limit_take(&f->limit, bytes, net_now(n));
}

static const struct net_events net_events = { net_readable, net_writable, net_hung_up };

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
		n->pair[i] = (struct net_pair){ .gone = n->pair[i].gone, .guess = NET_GUESS_MIN };
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
	init_flow(n, &n->to_guest, &c->to_guest, net_to_guest_on);
	init_flow(n, &n->from_guest, &c->from_guest, net_from_guest_on);
	timer_init(&n->stuck_timer, machine->timers, net_give_up, n);
	net_kind_offloads(c->kind, &n->can_send, &n->can_receive);
	for (i = 0; i < n->pairs_max; i++)
		n->pair[i].guess = NET_GUESS_MIN;
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
