/* SPDX-License-Identifier: Apache-2.0 */
/* net_spec.h - numbers of network cards, whoever does their work (virtio 1.2, 5.1). */
#ifndef DEVICES_VIRTIO_NET_SPEC_H
#define DEVICES_VIRTIO_NET_SPEC_H

enum { /* feature bits (5.1.3); USO: 1.3 */
	NET_F_CSUM = 0, NET_F_GUEST_CSUM = 1, NET_F_CTRL_GUEST_OFFLOADS = 2, NET_F_MTU = 3,
	NET_F_MAC = 5, NET_F_GUEST_TSO4 = 7, NET_F_GUEST_TSO6 = 8, NET_F_GUEST_ECN = 9,
	NET_F_GUEST_UFO = 10, NET_F_HOST_TSO4 = 11, NET_F_HOST_TSO6 = 12, NET_F_HOST_ECN = 13,
	NET_F_HOST_UFO = 14, NET_F_MRG_RXBUF = 15, NET_F_STATUS = 16, NET_F_CTRL_VQ = 17,
	NET_F_CTRL_RX = 18, NET_F_CTRL_RX_EXTRA = 20, NET_F_GUEST_ANNOUNCE = 21, NET_F_MQ = 22,
	NET_F_CTRL_MAC_ADDR = 23, NET_F_GUEST_USO4 = 54, NET_F_GUEST_USO6 = 55, NET_F_HOST_USO = 56,
};

/* Configuration space (5.1.4). */
enum { CFG_MAC = 0, CFG_STATUS = 6, CFG_PAIRS = 8, CFG_MTU = 10, CFG_BYTES = 12 };
enum { STATUS_LINK_UP = 1, STATUS_ANNOUNCE = 2 };

#endif
