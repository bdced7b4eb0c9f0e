/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vkernel.h - a host kernel with vhost-net that is ours: ioctl() is wrapped (-Wl,--wrap=ioctl), and what the
 * kernel is told is checked and kept as of a vhost-user back-end, whose verbs (vbackend.h) then do the work.
 */
#ifndef TESTS_DEVICE_VKERNEL_H
#define TESTS_DEVICE_VKERNEL_H

#include "devices/virtio/net_spec.h"
#include "tests/device/vbackend.h"

#define VK_PAIRS 2u
#define VK_F(n) (1ull << (n))
#define VK_FEATURES (VK_F(32) | VK_F(28) | VK_F(29) | VK_F(24) | VK_F(NET_F_MRG_RXBUF))

extern struct vkernel {
	struct vbackend b;         /* what it was told; rings of pair n: 2n, 2n + 1 */
	uint64_t features;
	int vhost[VK_PAIRS], tap[VK_PAIRS], peer[VK_PAIRS]; /* peer: where a tap's packets go */
	int err_fd;
	unsigned pairs;
	bool owned[VK_PAIRS];
	unsigned starts, stops;
	unsigned long refused;     /* request; 0: none */
	int error;
} kernel;

/* Descriptors for a card of so many pairs, which owns vhost[] and tap[] from then on. */
void vk_open(unsigned pairs);
/* That card is gone, or will be without a word to the kernel. */
void vk_close(void);

#endif
