/* SPDX-License-Identifier: Apache-2.0 */
/* net_vhost.c - see net_vhost.h. */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/log.h"
#include "devices/backend/vhost_kernel.h"
#include "devices/virtio/net_vhost.h"
#include "devices/virtio/vhost_queue.h"
#include "machine/device.h"
#include "machine/loop.h"
#include "machine/memory.h"

#define BIT(n) (1ull << (n))
#define NEEDED (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(NET_F_MRG_RXBUF))
#define NUM_BUFFERS_AT (NET_HEADER - 2)

_Static_assert(2 * NET_PAIRS_MAX <= VHOST_QUEUES_MAX, "queues of packets");

struct net_vhost {
	struct virtio_net *net;
	struct vhost_queues queues;
	struct vhost_setup setup;
	bool active, paused;
	bool broken;               /* the kernel could not go on */
	unsigned pairs;            /* that it works on */
	int fd[NET_PAIRS_MAX];     /* /dev/vhost-net, one a pair */
	int tap[NET_PAIRS_MAX];    /* still the backend's */
	int err_fd;                /* eventfd; -1: none */
	struct loop_watch *err_watch;
	unsigned more[NET_PAIRS_MAX]; /* buffers of a received packet that are still to come */
};

/* --- chains -------------------------------------------------------------------------------------- */

static struct virtio_net *card(const struct vhost_queue *q)
{
	return net_of(q->all->virtio);
}

static bool sends(unsigned queue)
{
	return queue & 1;
}

static bool vhost_parks(unsigned queue)
{
	return !sends(queue);
}

/* What the kernel takes for an error that stops the queue does not reach it. */
static bool vhost_fits(struct vhost_queue *q, const struct virtq_chain *c)
{
	if (!sends(q->index))
		return !c->readable && c->in_bytes >= NET_HEADER;
	if (!c->writable && c->out_bytes >= NET_HEADER + NET_FRAME_MIN && c->out_bytes <= NET_PACKET_MAX)
		return true;
	card(q)->counters.tx_dropped++;
	return false;
}

/* Counts, and says what the kernel leaves out: a packet in one buffer has one (5.1.6.4.1). */
static void received(struct vhost_queue *q, const struct virtq_chain *c, uint32_t written)
{
	struct virtio_net *n = card(q);
	const struct virtq *ring = &n->virtio.queue[q->index].ring;
	unsigned *more = &n->vhost->more[q->index / 2];
	uint8_t count[2] = { 1, 0 };
	struct iovec iov;

	n->counters.rx_bytes += written;
	if (*more) {
		--*more;
		return;
	}
	if (!written)
		return;
	n->counters.rx_packets++;
	n->counters.rx_bytes -= written < NET_HEADER ? written : NET_HEADER;
	if (!virtio_has_feature(&n->virtio, NET_F_MRG_RXBUF))
		(void)virtq_copy_in(ring, c, NUM_BUFFERS_AT, count, sizeof(count));
	else if (virtq_iov(ring, c, true, NUM_BUFFERS_AT, sizeof(count), &iov, 1) == 1 &&
		 mem_iov_load(&iov, 1, 0, count, sizeof(count)) == sizeof(count) && get_le16(count))
		*more = get_le16(count) - 1u;
}

static void vhost_done(struct vhost_queue *q, const struct virtq_chain *c, uint32_t written)
{
	struct virtio_net *n = card(q);

	if (!sends(q->index)) {
		received(q, c, written);
		return;
	}
	n->counters.tx_packets++;
	n->counters.tx_bytes += c->out_bytes - NET_HEADER;
}

/* --- the kernel ---------------------------------------------------------------------------------- */

bool net_vhost_active(const struct virtio_net *n)
{
	return n->vhost && n->vhost->active;
}

bool net_vhost_usable(const struct virtio_net *n)
{
	return n->vhost && !n->vhost->broken;
}

/* Packets go by this process from now on. */
static void give_up(struct virtio_net *n, const char *why)
{
	struct net_vhost *h = n->vhost;

	log_line(n->virtio.machine->log, LOG_LEVEL_WARNING,
		 "virtio-net: vhost-net cannot go on: %s; packets go without it from now on", why);
	h->broken = true;
	net_vhost_abandon(n);
	for (unsigned i = 0; i < n->pairs_max; i++) {
		virtio_kick_again(&n->virtio, net_rx_queue(i));
		virtio_kick_again(&n->virtio, net_tx_queue(i));
	}
	if (n->changed)
		n->changed(n->opaque);
}

static void rearm_all(struct virtio_net *n)
{
	for (unsigned i = 0; i < n->pairs_max; i++)
		net_rearm(n, i);
}

static void stop_kernel(struct net_vhost *h)
{
	while (h->pairs)
		vhost_kernel_stop(h->fd[--h->pairs]);
}

void net_vhost_start(struct virtio_net *n)
{
	struct net_vhost *h = n->vhost;
	int r = 0;

	if (!h || h->active || h->paused || h->broken || !virtio_running(&n->virtio) || !net_link_up(n))
		return;
	h->setup.features = BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) |
			    (n->virtio.accepted & BIT(NET_F_MRG_RXBUF));
	memset(h->more, 0, sizeof(h->more));
	vhost_queues_restart(&h->queues, &h->setup);
	while (h->pairs < n->pairs && r == 0) {
		r = vhost_kernel_start(h->fd[h->pairs], &h->setup, net_rx_queue(h->pairs),
				       h->tap[h->pairs], h->err_fd);
		if (r == 0)
			h->pairs++;
	}
	if (r < 0) {
		stop_kernel(h);
		give_up(n, strerror(-r));
		return;
	}
	h->active = true;
	rearm_all(n);
	vhost_queues_kick(&h->queues);
}

void net_vhost_stop(struct virtio_net *n)
{
	struct net_vhost *h = n->vhost;

	if (!net_vhost_active(n))
		return;
	stop_kernel(h);
	(void)vhost_queues_collect(&h->queues);
	h->active = false;
	rearm_all(n);
}

void net_vhost_abandon(struct virtio_net *n)
{
	if (!n->vhost)
		return;
	net_vhost_stop(n);
	vhost_queues_abandon(&n->vhost->queues);
}

void net_vhost_rewire(struct virtio_net *n, const int *taps)
{
	if (n->vhost)
		memcpy(n->vhost->tap, taps, n->pairs_max * sizeof(*taps));
}

/* --- events -------------------------------------------------------------------------------------- */

static void feed(struct vhost_queue *q)
{
	const struct net_vhost *h = card(q)->vhost;

	if (h->active && q->index / 2 < h->pairs)
		vhost_queue_feed(q);
}

void net_vhost_kick(struct virtio_net *n, unsigned queue)
{
	feed(&n->vhost->queues.queue[queue]);
}

static void vhost_called(struct vhost_queue *q)
{
	struct virtio_net *n = card(q);
	const char *what;

	pthread_mutex_lock(&n->virtio.lock);
	if (net_vhost_active(n)) {
		what = vhost_queue_collect(q);
		if (what)
			give_up(n, what);
		else
			feed(q);
	}
	pthread_mutex_unlock(&n->virtio.lock);
}

static void on_err(void *opaque, uint32_t events)
{
	struct virtio_net *n = opaque;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(n->vhost->err_fd, &count);
	pthread_mutex_lock(&n->virtio.lock);
	if (net_vhost_active(n))
		give_up(n, "the kernel reports an error in a ring");
	pthread_mutex_unlock(&n->virtio.lock);
}

void net_vhost_pause(struct virtio_net *n, bool pause)
{
	struct net_vhost *h = n->vhost;

	if (!h)
		return;
	pthread_mutex_lock(&n->virtio.lock);
	net_vhost_stop(n);
	h->paused = pause;
	vhost_queues_park(&h->queues, pause);
	net_vhost_start(n);
	pthread_mutex_unlock(&n->virtio.lock);
}

/* --- life ---------------------------------------------------------------------------------------- */

static int make_queues(struct net_vhost *h, unsigned pairs)
{
	struct loop *loop = h->net->virtio.machine->loop;

	h->queues.parks = vhost_parks;
	h->queues.fits = vhost_fits;
	h->queues.done = vhost_done;
	h->queues.called = vhost_called;
	h->queues.size = NET_QUEUE_SIZE;
	h->queues.indirect = true;
	h->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->err_fd < 0)
		return -errno;
	return vhost_queues_make(&h->queues, loop, 2 * pairs);
}

static void close_all(struct net_vhost *h, unsigned fds)
{
	if (!h)
		return;
	h->err_watch = loop_remove(h->err_watch);
	vhost_queues_close(&h->queues);
	if (h->err_fd >= 0)
		close(h->err_fd);
	while (fds)
		close(h->fd[--fds]);
	free(h);
}

struct net_vhost *net_vhost_destroy(struct net_vhost *h)
{
	struct virtio_net *n;

	if (!h)
		return NULL;
	n = h->net;
	pthread_mutex_lock(&n->virtio.lock);
	net_vhost_abandon(n);
	pthread_mutex_unlock(&n->virtio.lock);
	close_all(h, n->pairs_max);
	return NULL;
}

int net_vhost_create(struct virtio_net *n, const struct virtio_net_config *c)
{
	struct net_vhost *h = calloc(1, sizeof(*h));
	int r = h ? 0 : -ENOMEM;

	if (r == 0) {
		h->net = n;
		vhost_queues_init(&h->queues, &n->virtio);
		memcpy(h->tap, c->fds, sizeof(h->tap));
		r = make_queues(h, c->vhost_count);
	}
	for (unsigned i = 0; i < c->vhost_count && r == 0; i++)
		r = vhost_kernel_own(h->fd[i] = c->vhost_fds[i], NEEDED);
	if (r == 0)
		r = loop_add(n->virtio.machine->loop, h->err_fd, EPOLLIN, on_err, n, &h->err_watch);
	if (r == 0) {
		n->vhost = h;
		return 0;
	}
	close_all(h, 0);
	if (c->vhost_must && c->why)
		snprintf(c->why, NET_WHY_MAX, "this kernel's vhost-net cannot be used: %s", strerror(-r));
	if (c->vhost_must)
		return r;
	log_line(n->virtio.machine->log, LOG_LEVEL_WARNING,
		 "virtio-net: this kernel's vhost-net cannot be used: %s; packets go without it",
		 strerror(-r));
	for (unsigned i = 0; i < c->vhost_count; i++)
		close(c->vhost_fds[i]);
	return 0;
}
