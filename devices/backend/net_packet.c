/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_packet.c - descriptors that keep packets apart: a SOCK_SEQPACKET socket whose messages are
 * header and frame, and taps, several queues of one interface. See net.h.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#include "devices/backend/net.h"

#ifndef TUN_F_USO4 /* headers older than the kernel may be */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct packet {
	struct net_backend nb;
	bool is_tap;
	bool ended;
	unsigned used; /* taps: queues that are attached */
	struct net_port ports[NET_PAIRS_MAX];
};

static struct packet *packet_of(struct net_backend *nb)
{
	return (struct packet *)nb;
}

static int packet_end(struct packet *p, int r)
{
	p->ended = true;
	return r;
}

static ssize_t packet_receive(struct net_backend *nb, unsigned pair, const struct iovec *iov,
			      unsigned n)
{
	struct packet *p = packet_of(nb);
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t got;

	if (p->ended)
		return -EPIPE;
	do
		got = p->is_tap ? readv(p->ports[pair].fd, iov, (int)n)
				: recvmsg(p->ports[pair].fd, &message, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : packet_end(p, -errno);
	if (got == 0)
		return packet_end(p, -EPIPE);
	if ((size_t)got < NET_HEADER + NET_FRAME_MIN || message.msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	return got;
}

/* What the error of a write means: this packet only, or all that would follow. */
static int write_error(struct packet *p, int error)
{
	switch (error) {
	case EAGAIN:
		return -EAGAIN;
	case EINVAL: case EIO: case EMSGSIZE: case ENOBUFS: case ENOMEM: case E2BIG:
		return 0; /* the kernel did not like it, the interface is down: lost */
	default:
		return packet_end(p, -error);
	}
}

static int packet_send(struct net_backend *nb, unsigned pair, const struct iovec *iov, unsigned n)
{
	struct packet *p = packet_of(nb);
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t done;

	if (p->ended)
		return -EPIPE;
	if (!n)
		return 0;
	do
		done = p->is_tap ? writev(p->ports[pair].fd, iov, (int)n)
				 : sendmsg(p->ports[pair].fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	return done < 0 ? write_error(p, errno) : 0;
}

static void packet_want(struct net_backend *nb, unsigned pair, unsigned want)
{
	net_port_want(&packet_of(nb)->ports[pair], want);
}

static void packet_unwatch(struct net_backend *nb, unsigned pair)
{
	net_port_unwatch(&packet_of(nb)->ports[pair]);
}

static void packet_destroy(struct net_backend *nb)
{
	struct packet *p = packet_of(nb);
	unsigned i;

	for (i = 0; i < nb->pairs; i++)
		net_port_fini(&p->ports[i]);
	free(p);
}

static int packet_watch(struct net_backend *nb, struct loop *loop)
{
	unsigned i;
	int r = 0;

	for (i = 0; i < nb->pairs && r >= 0; i++)
		r = net_port_watch(&packet_of(nb)->ports[i], loop);
	return r;
}

static int packet_create(const struct packet *template, const int *fds,
			 struct net_backend **ret_backend)
{
	struct packet *p = malloc(sizeof(*p));
	unsigned i;

	if (!p)
		return -ENOMEM;
	*p = *template;
	p->used = p->nb.pairs;
	for (i = 0; i < p->nb.pairs; i++)
		net_port_init(&p->ports[i], &p->nb, fds[i], i);
	*ret_backend = &p->nb;
	return 0;
}

/* --- sockets ---------------------------------------------------------------------------------- */

static const struct net_backend_ops packet_ops = {
	.receive = packet_receive,
	.send = packet_send,
	.want = packet_want,
	.watch = packet_watch,
	.unwatch = packet_unwatch,
	.destroy = packet_destroy,
};

int net_packet_create(const int *fds, unsigned count, const struct net_events *events,
		      void *opaque, struct net_backend **ret_backend)
{
	struct packet p = {
		.nb = { .ops = &packet_ops, .events = events, .opaque = opaque, .pairs = 1 },
	};
	int type = 0;
	socklen_t len = sizeof(type);

	if (count != 1)
		return -EINVAL;
	if (getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type != SOCK_SEQPACKET)
		return -EINVAL;
	net_kind_offloads(NET_PACKET, &p.nb.can_send, &p.nb.can_receive);
	return packet_create(&p, fds, ret_backend);
}

/* --- taps ------------------------------------------------------------------------------------- */

static unsigned tun_flags(unsigned offloads)
{
	return (offloads & NET_OFFLOAD_CSUM ? TUN_F_CSUM : 0) |
	       (offloads & NET_OFFLOAD_TSO4 ? TUN_F_TSO4 : 0) |
	       (offloads & NET_OFFLOAD_TSO6 ? TUN_F_TSO6 : 0) |
	       (offloads & NET_OFFLOAD_ECN ? TUN_F_TSO_ECN : 0) |
	       (offloads & NET_OFFLOAD_USO ? TUN_F_USO4 | TUN_F_USO6 : 0);
}

/* One interface: what is set through one queue holds for all. */
static int tap_offloads(struct net_backend *nb, unsigned offloads)
{
	return ioctl(packet_of(nb)->ports[0].fd, TUNSETOFFLOAD, tun_flags(offloads)) < 0 ? -errno : 0;
}

/* The kernel spreads packets over attached queues only. */
static int tap_use_pairs(struct net_backend *nb, unsigned pairs)
{
	struct packet *p = packet_of(nb);

	while (p->used != pairs) {
		bool more = p->used < pairs;
		struct ifreq ifr = { .ifr_flags = more ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

		if (ioctl(p->ports[more ? p->used : p->used - 1].fd, TUNSETQUEUE, &ifr) < 0)
			return -errno;
		p->used = more ? p->used + 1 : p->used - 1;
	}
	return 0;
}

static const struct net_backend_ops tap_ops = {
	.receive = packet_receive,
	.send = packet_send,
	.want = packet_want,
	.watch = packet_watch,
	.unwatch = packet_unwatch,
	.offloads = tap_offloads,
	.use_pairs = tap_use_pairs,
	.destroy = packet_destroy,
};

int net_tap_create(const int *fds, unsigned count, const struct net_events *events,
		   void *opaque, struct net_backend **ret_backend)
{
	const int wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct packet p = {
		.nb = { .ops = &tap_ops, .events = events, .opaque = opaque, .pairs = count },
		.is_tap = true,
	};
	unsigned i;

	for (i = 0; i < count; i++) {
		struct ifreq ifr = { .ifr_flags = 0 };
		int size = NET_HEADER;

		if (ioctl(fds[i], TUNGETIFF, &ifr) < 0)
			return errno == ENOTTY ? -EINVAL : -errno;
		if ((ifr.ifr_flags & wanted) != wanted ||
		    (count > 1 && !(ifr.ifr_flags & IFF_MULTI_QUEUE)))
			return -EINVAL;
		if (ioctl(fds[i], TUNSETVNETHDRSZ, &size) < 0)
			return -errno;
	}
	net_kind_offloads(NET_TAP, &p.nb.can_send, &p.nb.can_receive);
	if (ioctl(fds[0], TUNSETOFFLOAD, tun_flags(p.nb.can_receive | NET_OFFLOAD_USO)) == 0) {
		p.nb.can_send |= NET_OFFLOAD_USO; /* since Linux 6.2 */
		p.nb.can_receive |= NET_OFFLOAD_USO;
	}
	if (ioctl(fds[0], TUNSETOFFLOAD, 0) < 0) /* until the driver says what it takes */
		return -errno;
	return packet_create(&p, fds, ret_backend);
}
