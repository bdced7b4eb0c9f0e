/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_user.h - a virtio device whose work is done by another process, over vhost-user: disks,
 * network cards, file systems (virtio-fs).
 *
 * What the guest sees is this process's: registers, status, feature negotiation and its rings, with
 * all the core's checks (vhost_ring.h says why the peer has rings of its own). What the peer does is
 * the work, in guest memory, all of which it can read and write: it must be trusted with the guest,
 * and need not be with anything else.
 *
 * A peer that dies, or breaks a rule (vhost_peer.h), costs its connection: the device stands still,
 * a network card tells that its link is down, and what the peer had not given back is kept. The next
 * one that vhost_user_attach() brings gets it again, in order, so nothing is lost; a request that the
 * first had done and not yet given back is done twice (which no disk minds). It must offer what the
 * guest was promised at first.
 *
 * Memory that a peer writes: told to the processors' engine (mem_written()) when a buffer leaves it,
 * by being given back or at a reset, and before the guest can know. All of the buffer, whatever length
 * the peer says. What a peer writes where it was given no buffer, or after it lost its connection,
 * the soft engine may take up late.
 */
#ifndef DEVICES_VIRTIO_VHOST_USER_H
#define DEVICES_VIRTIO_VHOST_USER_H

#include "devices/virtio/vhost_config.h"
#include "machine/device.h"

/* Creation waits for the peer, VHOST_REPLY_MS at most. -EPROTO: it is none, or cannot do what it must
 * (why says it). */
extern const struct device_class vhost_user_class;

/* Brings another peer, in place of one that is gone or of one that is there. fd is the device's.
 * Whether it will do shows in vhost_user_info(). Any thread. */
void vhost_user_attach(struct device *device, int fd);
void vhost_user_info(struct device *device, struct vhost_user_info *ret_info); /* any thread */

#endif
