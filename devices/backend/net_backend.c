/* SPDX-License-Identifier: Apache-2.0 */
/* net_backend.c - which backends there are, and the descriptor that each of them watches. */
#include <config.h>

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/backend/net.h"
#include "machine/loop.h"

#define TCP_OFFLOADS \
	(NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)

static const struct {
	net_create_fn *create;
	unsigned can_send, can_receive;
} kinds[] = {
	/* Only frames cross the socket: sums are completed here, and nobody vouches for any. */
	[NET_STREAM] = { net_stream_create, NET_OFFLOAD_CSUM, 0 },
	/* vmxd-slirp takes it all, and its own packets are never longer than the MTU. */
	[NET_PACKET] = { net_packet_create, TCP_OFFLOADS, NET_OFFLOAD_CSUM },
	[NET_TAP] = { net_tap_create, TCP_OFFLOADS, TCP_OFFLOADS },
};

int net_backend_create(enum net_kind kind, const int *fds, unsigned count,
		       const struct net_events *events, void *opaque,
		       struct net_backend **ret_backend)
{
	if ((size_t)kind >= ARRAY_SIZE(kinds) || !count || count > NET_PAIRS_MAX)
		return -EINVAL;
	return kinds[kind].create(fds, count, events, opaque, ret_backend);
}

void net_kind_offloads(enum net_kind kind, unsigned *ret_send, unsigned *ret_receive)
{
	*ret_send = kinds[kind].can_send;
	*ret_receive = kinds[kind].can_receive;
}

static void port_ready(void *opaque, uint32_t events)
{
	const struct net_port *port = opaque;
	const struct net_backend *nb = port->nb;
	unsigned pair = port->pair;

	if (events & EPOLLOUT)
		nb->events->writable(nb->opaque, pair);
	if (events & (EPOLLHUP | EPOLLERR)) /* comes whether asked for or not, for ever */
		nb->events->hung_up(nb->opaque, pair);
	else if (events & EPOLLIN)
		nb->events->readable(nb->opaque, pair);
}

void net_port_init(struct net_port *port, struct net_backend *nb, int fd, unsigned pair)
{
	*port = (struct net_port){ .nb = nb, .fd = fd, .pair = pair };
}

int net_port_watch(struct net_port *port, struct loop *loop)
{
	port->armed = EPOLLIN;
	return loop_add(loop, port->fd, EPOLLIN, port_ready, port, &port->watch);
}

void net_port_want(struct net_port *port, unsigned want)
{
	uint32_t events = (want & NET_WANT_READABLE ? (uint32_t)EPOLLIN : 0) |
			  (want & NET_WANT_WRITABLE ? (uint32_t)EPOLLOUT : 0);

	if (port->watch && events != port->armed && loop_modify(port->watch, events) == 0)
		port->armed = events;
}

void net_port_unwatch(struct net_port *port)
{
	port->watch = loop_remove(port->watch);
}

void net_port_fini(struct net_port *port)
{
	net_port_unwatch(port);
	if (!port->nb->disowned)
		close(port->fd);
}
