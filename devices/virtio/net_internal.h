/* SPDX-License-Identifier: Apache-2.0 */
/* net_internal.h - shared by net.c (life), net_rx.c and net_tx.c (packets) and net_ctrl.c (the
 * control queue) only. */
#ifndef DEVICES_VIRTIO_NET_INTERNAL_H
#define DEVICES_VIRTIO_NET_INTERNAL_H

#include "devices/virtio/core.h"
#include "devices/virtio/net.h"
#include "devices/virtio/net_spec.h"
#include "machine/timer.h"

#define NET_QUEUE_SIZE 256u
#define NET_HELD_MAX 64u      /* buffers of one packet */
#define NET_IOV_MAX 512u
#define NET_BATCH 64u         /* packets in one turn */
#define NET_GUESS_MIN 2048u
#define NET_FILTER_MACS 64u   /* of each kind; more, and all of that kind pass */

#define NET_FEATURES \
	(1ull << NET_F_CSUM | 1ull << NET_F_GUEST_CSUM | 1ull << NET_F_CTRL_GUEST_OFFLOADS | \
	 1ull << NET_F_MTU | 1ull << NET_F_MAC | 1ull << NET_F_GUEST_TSO4 | \
	 1ull << NET_F_GUEST_TSO6 | 1ull << NET_F_GUEST_ECN | 1ull << NET_F_HOST_TSO4 | \
	 1ull << NET_F_HOST_TSO6 | 1ull << NET_F_HOST_ECN | 1ull << NET_F_MRG_RXBUF | \
	 1ull << NET_F_STATUS | 1ull << NET_F_CTRL_VQ | 1ull << NET_F_CTRL_RX | \
	 1ull << NET_F_CTRL_RX_EXTRA | 1ull << NET_F_GUEST_ANNOUNCE | 1ull << NET_F_MQ | \
	 1ull << NET_F_CTRL_MAC_ADDR | 1ull << NET_F_GUEST_USO4 | 1ull << NET_F_GUEST_USO6 | \
	 1ull << NET_F_HOST_USO)

/* What the driver wants to see (5.1.6.5.1, 5.1.6.5.2). */
struct net_filter {
	bool promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast;
	unsigned macs[2]; /* of unicast, multicast; > NET_FILTER_MACS: all */
	uint8_t mac[2][NET_FILTER_MACS][6];
};

struct net_pair {
	bool starved; /* receive: the guest has no buffers, nothing is read */
	bool full;    /* transmit: the backend takes no more */
	bool stuck;   /* for so long that packets are dropped */
	bool gone;    /* the backend's events came to their end */
	uint32_t guess; /* bytes that the next packet may have */
};

struct net_flow { /* one direction's limit */
	struct limit limit;
	struct timer timer; /* goes off when it lets go on */
	bool waits;
};

/* All of it under virtio.lock. */
struct virtio_net {
	struct device dev;
	struct virtio virtio;
	struct net_backend *backend; /* NULL: no peer */
	enum net_kind kind;
	unsigned can_send, can_receive; /* offloads that were offered */
	unsigned tx_offloads, rx_offloads; /* that are agreed on */
	unsigned pairs_max, pairs;
	struct net_vhost *vhost; /* NULL: packets go by this process */
	void (*changed)(void *opaque);
	void *opaque;
	uint8_t mac[6]; /* as configured */
	struct net_filter filter;
	struct virtio_net_counters counters;
	struct net_flow to_guest, from_guest;
	struct timer stuck_timer;
	struct net_pair pair[NET_PAIRS_MAX];
	struct iovec iov[NET_IOV_MAX];
	struct virtq_chain chain; /* transmit, control */
	unsigned held_count;      /* buffers taken and not yet filled, of the queue being served */
	struct virtq_chain held[NET_HELD_MAX];
	size_t pending; /* bytes of a packet that waits for buffers; of pending_pair */
	unsigned pending_pair;
	uint8_t packet[NET_PACKET_MAX]; /* that one */
	uint8_t spill[NET_PACKET_MAX];  /* what does not fit into the buffers taken */
};

static inline struct virtio_net *net_of(struct virtio *v)
{
	return (struct virtio_net *)((char *)v - offsetof(struct virtio_net, virtio));
}

static inline unsigned net_rx_queue(unsigned pair) { return 2 * pair; }
static inline unsigned net_tx_queue(unsigned pair) { return 2 * pair + 1; }

static inline uint64_t net_now(const struct virtio_net *n)
{
	return timers_now(n->virtio.machine->timers);
}

/* net.c. Lock held. */
void net_peer_gone(struct virtio_net *n);
/* May a packet pass now? Else the timer is set. */
bool net_flow_open(struct virtio_net *n, struct net_flow *f);
void net_flow_take(struct virtio_net *n, struct net_flow *f, uint64_t bytes);
void net_set_status(struct virtio_net *n, uint16_t set, uint16_t clear);
bool net_link_up(const struct virtio_net *n);
/* Which events the backend may bring for this pair. */
void net_rearm(struct virtio_net *n, unsigned pair);
/* What the backend may make use of, from now on. */
void net_set_rx_offloads(struct virtio_net *n, unsigned offloads);
int net_use_pairs(struct virtio_net *n, unsigned pairs);

/* net_rx.c. Lock held. */
void net_receive(struct virtio_net *n, unsigned pair);
/* Events and a timer: no lock. */
void net_readable(void *opaque, unsigned pair);
void net_hung_up(void *opaque, unsigned pair);
timer_fn net_to_guest_on;

/* net_tx.c. Lock held. */
void net_transmit(struct virtio_net *n, unsigned pair);
/* An event and timers: no lock. */
void net_writable(void *opaque, unsigned pair);
timer_fn net_from_guest_on, net_give_up;

/* net_ctrl.c. Lock held. */
void net_control(struct virtio_net *n, unsigned queue);
void net_filter_reset(struct virtio_net *n);
/* Does the driver want a frame to that address? */
bool net_filter_passes(const struct virtio_net *n, const uint8_t *to);
/* NET_OFFLOAD_* of a set of guest offload features (5.1.6.5.6.1). */
unsigned net_rx_offloads(uint64_t features);

#endif
