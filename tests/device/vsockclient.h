/* SPDX-License-Identifier: Apache-2.0 */
/* vsockclient.h - packets of virtio-vsock (virtio 1.2, 5.10.6) as a driver writes and reads them. */
#ifndef TESTS_DEVICE_VSOCKCLIENT_H
#define TESTS_DEVICE_VSOCKCLIENT_H

#include <stdint.h>
#include <string.h>

#include "common/bytes.h"

#define VSOCK_BYTES 44u
#define VSOCK_GUEST 7u /* the guest's address in these tests */

enum { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };

struct vsock_packet {
	uint64_t src, dst;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, alloc, forwarded;
};

static inline void vsock_encode(uint8_t *to, const struct vsock_packet *p)
{
	put_le64(to, p->src);
	put_le64(to + 8, p->dst);
	put_le32(to + 16, p->src_port);
	put_le32(to + 20, p->dst_port);
	put_le32(to + 24, p->len);
	put_le16(to + 28, p->type);
	put_le16(to + 30, p->op);
	put_le32(to + 32, p->flags);
	put_le32(to + 36, p->alloc);
	put_le32(to + 40, p->forwarded);
}

static inline void vsock_decode(const uint8_t *from, struct vsock_packet *p)
{
	p->src = get_le64(from);
	p->dst = get_le64(from + 8);
	p->src_port = get_le32(from + 16);
	p->dst_port = get_le32(from + 20);
	p->len = get_le32(from + 24);
	p->type = get_le16(from + 28);
	p->op = get_le16(from + 30);
	p->flags = get_le32(from + 32);
	p->alloc = get_le32(from + 36);
	p->forwarded = get_le32(from + 40);
}

#endif
