/* SPDX-License-Identifier: Apache-2.0 */
/* net_frame.c - see net_frame.h. */
#include <config.h>

#include "common/bytes.h"
#include "devices/backend/net.h"
#include "devices/backend/net_frame.h"

void net_header_get(struct net_header *h, const uint8_t *b)
{
	*h = (struct net_header){ b[0], b[1], get_le16(b + 2), get_le16(b + 4), get_le16(b + 6),
				  get_le16(b + 8), get_le16(b + 10) };
}

void net_header_put(const struct net_header *h, uint8_t *b)
{
	b[0] = h->flags;
	b[1] = h->gso_type;
	put_le16(b + 2, h->hdr_len);
	put_le16(b + 4, h->gso_size);
	put_le16(b + 6, h->csum_start);
	put_le16(b + 8, h->csum_offset);
	put_le16(b + 10, h->num_buffers);
}

static const struct {
	uint8_t type;
	unsigned needs;
} gso_types[] = {
	{ NET_HDR_GSO_TCPV4, NET_OFFLOAD_TSO4 },
	{ NET_HDR_GSO_TCPV6, NET_OFFLOAD_TSO6 },
	{ NET_HDR_GSO_TCPV4 | NET_HDR_GSO_ECN, NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN },
	{ NET_HDR_GSO_TCPV6 | NET_HDR_GSO_ECN, NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN },
	{ NET_HDR_GSO_UDP_L4, NET_OFFLOAD_USO },
};

/* A packet that is to be cut: of a kind that was agreed on, with an open checksum. */
static bool gso_fits(const struct net_header *h, unsigned offloads)
{
	size_t i;

	for (i = 0; i < sizeof(gso_types) / sizeof(gso_types[0]); i++)
		if (gso_types[i].type == h->gso_type)
			return !(gso_types[i].needs & ~offloads) && h->gso_size &&
			       h->flags & NET_HDR_F_NEEDS_CSUM;
	return false;
}

bool net_header_check(struct net_header *h, size_t frame_len, unsigned offloads)
{
	h->num_buffers = 0;
	h->flags &= NET_HDR_F_NEEDS_CSUM | NET_HDR_F_DATA_VALID;
	if (!(offloads & NET_OFFLOAD_CSUM))
		h->flags &= (uint8_t)~NET_HDR_F_DATA_VALID;
	if (h->flags & NET_HDR_F_NEEDS_CSUM) {
		if (!(offloads & NET_OFFLOAD_CSUM) ||
		    (size_t)h->csum_start + h->csum_offset + 2 > frame_len)
			return false;
	} else {
		h->csum_start = h->csum_offset = 0;
	}
	if (h->gso_type == NET_HDR_GSO_NONE) {
		h->gso_size = h->hdr_len = 0;
		return true;
	}
	return gso_fits(h, offloads) && h->hdr_len <= frame_len;
}

uint16_t net_checksum(const uint8_t *bytes, size_t len, uint32_t sum)
{
	uint64_t wide = sum;

	/* 32 bits at a time into 64: the order of bytes does not matter to this sum. */
	for (; len >= 4; bytes += 4, len -= 4)
		wide += get_le32(bytes);
	if (len >= 2) {
		wide += get_le16(bytes);
		bytes += 2;
		len -= 2;
	}
	if (len)
		wide += *bytes;
	while (wide >> 16)
		wide = (wide & 0xffff) + (wide >> 16);
	return (uint16_t)wide;
}

void net_checksum_complete(struct net_header *h, uint8_t *frame, size_t len)
{
	uint8_t *at = frame + h->csum_start + h->csum_offset;
	uint16_t sum;

	if (!(h->flags & NET_HDR_F_NEEDS_CSUM))
		return;
	/* The field holds the pseudo header's sum already. */
	sum = (uint16_t)~net_checksum(frame + h->csum_start, len - h->csum_start, 0);
	put_le16(at, sum ? sum : 0xffff); /* to UDP, 0 means none; to TCP, both are 0 */
	h->flags = NET_HDR_F_DATA_VALID;
	h->csum_start = h->csum_offset = 0;
}
