/* SPDX-License-Identifier: Apache-2.0 */
/* net_frame.h - the header before a frame, and what its offloads stand for. No state: any thread. */
#ifndef DEVICES_BACKEND_NET_FRAME_H
#define DEVICES_BACKEND_NET_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* struct virtio_net_hdr (virtio 1.2, 5.1.6), in the host's byte order. */
struct net_header {
	uint8_t flags;       /* NET_HDR_F_* */
	uint8_t gso_type;    /* NET_HDR_GSO_* */
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

enum { NET_HDR_F_NEEDS_CSUM = 1, NET_HDR_F_DATA_VALID = 2 };
enum {
	NET_HDR_GSO_NONE = 0, NET_HDR_GSO_TCPV4 = 1, NET_HDR_GSO_TCPV6 = 4, NET_HDR_GSO_UDP_L4 = 5,
	NET_HDR_GSO_ECN = 0x80,
};

void net_header_get(struct net_header *h, const uint8_t *bytes);
void net_header_put(const struct net_header *h, uint8_t *bytes);
/* Does the header ask for no more than offloads (NET_OFFLOAD_*), and does what it says fit into a
 * frame of frame_len bytes? What means nothing is cleared. */
bool net_header_check(struct net_header *h, size_t frame_len, unsigned offloads);
/* Computes the checksum that a checked header leaves open; afterwards it leaves none. */
void net_checksum_complete(struct net_header *h, uint8_t *frame, size_t len);
/* The internet checksum's sum of len bytes, folded to 16 bits, added to sum; not inverted. */
uint16_t net_checksum(const uint8_t *bytes, size_t len, uint32_t sum);

#endif
