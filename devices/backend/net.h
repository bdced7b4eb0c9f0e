/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - what stands behind a network card: packets go out and come in, each a struct
 * virtio_net_hdr of 12 bytes (virtio 1.2, 5.1.6) and an Ethernet frame.
 *
 * The card pulls: an event says that a queue may have something, the card calls receive() until it
 * is empty, straight into guest memory. Nothing here waits, and nothing is queued beyond what a
 * socket holds: send() says when there is no room, and an event when there is room again.
 *
 * Threads: the operations are called with the card's lock held, on the loop thread (want(),
 * offloads() and use_pairs() on any); events come on the loop thread without it.
 */
#ifndef DEVICES_BACKEND_NET_H
#define DEVICES_BACKEND_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_HEADER 12u
#define NET_FRAME_MIN 14u
#define NET_FRAME_MAX 65553u /* 64 KiB - 1 of payload behind header and VLAN tag */
#define NET_PACKET_MAX (NET_HEADER + NET_FRAME_MAX)
#define NET_PAIRS_MAX 8u     /* queues each way */

enum { /* what one side takes from the other */
	NET_OFFLOAD_CSUM = 1,  /* checksums that are still to be completed */
	NET_OFFLOAD_TSO4 = 2,  /* TCP segments up to 64 KiB, to be cut */
	NET_OFFLOAD_TSO6 = 4,
	NET_OFFLOAD_ECN = 8,   /* such segments with CWR set */
	NET_OFFLOAD_USO = 16,  /* UDP datagrams, to be cut */
};

struct loop;
struct net_backend;

struct net_events {
	void (*readable)(void *opaque, unsigned pair);
	void (*writable)(void *opaque, unsigned pair);
	/* The peer hung up: receive() gives what it left, then its end. Call unwatch(). */
	void (*hung_up)(void *opaque, unsigned pair);
};

enum { NET_WANT_READABLE = 1, NET_WANT_WRITABLE = 2 };

struct net_backend_ops {
	/* One packet into iov, header first. Its bytes; -EAGAIN: none is there; -EMSGSIZE: one that is
	 * no frame or did not fit, it is lost; else the peer is gone for good. */
	ssize_t (*receive)(struct net_backend *nb, unsigned pair, const struct iovec *iov,
			   unsigned n);
	/* One packet, checked by net_header_check(): iov[0] is the header, not in guest memory. 0: sent,
	 * or lost as on any wire; -EAGAIN: no room now, ask for an event; else the peer is gone for
	 * good. n 0: only pushes on what is left of an earlier packet. */
	int (*send)(struct net_backend *nb, unsigned pair, const struct iovec *iov, unsigned n);
	/* Which events may come: NET_WANT_*. */
	void (*want)(struct net_backend *nb, unsigned pair, unsigned want);
	/* Events begin; loop thread or none runs. -ENOMEM, ... */
	int (*watch)(struct net_backend *nb, struct loop *loop);
	/* No event will come any more. With the lock held only on the loop thread, or where no watch
	 * is left. */
	void (*unwatch)(struct net_backend *nb, unsigned pair);
	/* NET_OFFLOAD_* that receive() may make use of from now on, within can_receive. */
	int (*offloads)(struct net_backend *nb, unsigned offloads);
	/* How many pairs are in use, 1..pairs. */
	int (*use_pairs)(struct net_backend *nb, unsigned pairs);
	void (*destroy)(struct net_backend *nb);
};

struct net_backend {
	const struct net_backend_ops *ops;
	const struct net_events *events;
	void *opaque;
	bool disowned;        /* destroy() leaves the descriptors open */
	unsigned pairs;       /* 1..NET_PAIRS_MAX */
	unsigned can_send;    /* NET_OFFLOAD_*: what send() takes */
	unsigned can_receive; /* what receive() can be told to make use of */
};

enum net_kind {
	NET_STREAM, /* a connected stream socket, each frame behind its length (32 bits, big endian):
		     * what passt speaks, and another machine of ours */
	NET_PACKET, /* a connected SOCK_SEQPACKET socket, header and frame a message: vmxd-slirp */
	NET_TAP,    /* /dev/net/tun, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; one descriptor a pair */
};

/* fds belong to the backend after success only; 1 unless it is a tap. Nothing is watched yet.
 * -EINVAL: not of that kind, or too many. -ENOTSOCK, -EBADFD, -ENOMEM. */
typedef int net_create_fn(const int *fds, unsigned count, const struct net_events *events,
			  void *opaque, struct net_backend **ret_backend);
int net_backend_create(enum net_kind kind, const int *fds, unsigned count,
		       const struct net_events *events, void *opaque,
		       struct net_backend **ret_backend);
net_create_fn net_stream_create, net_packet_create, net_tap_create;
/* What every backend of the kind can: NET_OFFLOAD_* each way. */
void net_kind_offloads(enum net_kind kind, unsigned *ret_send, unsigned *ret_receive);

/* NULL is fine; returns NULL. Without the card's lock. */
static inline struct net_backend *net_backend_destroy(struct net_backend *nb)
{
	if (nb)
		nb->ops->destroy(nb);
	return NULL;
}

/* The same, but the descriptors stay the caller's. */
static inline struct net_backend *net_backend_disown(struct net_backend *nb)
{
	if (nb)
		nb->disowned = true;
	return net_backend_destroy(nb);
}

/* --- for backends: a descriptor and its events -------------------------------------------------- */

struct loop_watch;

struct net_port {
	struct net_backend *nb;
	struct loop_watch *watch; /* NULL: no more events */
	uint32_t armed;
	int fd;
	unsigned pair;
};

void net_port_init(struct net_port *port, struct net_backend *nb, int fd, unsigned pair);
int net_port_watch(struct net_port *port, struct loop *loop); /* asks for readable */
void net_port_want(struct net_port *port, unsigned want);
void net_port_unwatch(struct net_port *port);
void net_port_fini(struct net_port *port); /* closes fd, unless nb is disowned */

#endif
