/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_vhost.h - a card whose packets the host's kernel moves (vhost-net): between a tap and rings of
 * ours (vhost_queue.h), whose chains the loop thread takes from the guest's rings and gives back. The
 * bytes of a packet this process does not touch.
 *
 * Everything but packets stays where it is, in net.c: link, control queue, offloads, the number of
 * pairs. The kernel works while the driver does and the machine runs; else, and when the kernel cannot
 * go on, net.c moves packets itself.
 *
 * Threads: virtio.lock held, but for create, destroy and pause.
 */
#ifndef DEVICES_VIRTIO_NET_VHOST_H
#define DEVICES_VIRTIO_NET_VHOST_H

#include "devices/virtio/net_internal.h"

/* n->vhost, of a card whose backend and virtio part are there, from the descriptors of c, which become its
 * own. One that cannot be had is an error if it must, else said in the log: then packets go by this
 * process. What vhost_kernel_own() and vhost_queues_make() say. */
int net_vhost_create(struct virtio_net *n, const struct virtio_net_config *c);
/* The card goes, nobody drives it any more. NULL is fine; returns NULL. */
struct net_vhost *net_vhost_destroy(struct net_vhost *h);

/* --- all of these do nothing, or say no, without one --------------------------------------------- */

/* The kernel should work, if everything it needs is there. */
void net_vhost_start(struct virtio_net *n);
/* On return it touches neither rings nor memory. What it was not done with waits for the next start. */
void net_vhost_stop(struct virtio_net *n);
/* The same, and the guest gets back what waits: no packet was sent from it, or received into it. */
void net_vhost_abandon(struct virtio_net *n);
/* Does it move the packets now? */
bool net_vhost_active(const struct virtio_net *n);
/* Will it, when there is a driver? */
bool net_vhost_usable(const struct virtio_net *n);
/* The driver's bell, of a queue of packets. */
void net_vhost_kick(struct virtio_net *n, unsigned queue);
/* The card has other taps. It does not work. */
void net_vhost_rewire(struct virtio_net *n, const int *taps);
/* The machine stands still; without the lock. */
void net_vhost_pause(struct virtio_net *n, bool pause);

#endif
