/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_wire.h - messages of the vhost-user protocol as they are on the socket (QEMU's
 * docs/interop/vhost-user.rst): a header of 12 bytes, a payload, all in the host's byte order, which
 * here is little-endian; descriptors beside the first byte.
 *
 * Nothing here waits and nothing here has a state but the reader, which holds the part of a message
 * that has come. Descriptors that come from a peer are never taken: nothing that we negotiate has any.
 */
#ifndef DEVICES_BACKEND_VHOST_WIRE_H
#define DEVICES_BACKEND_VHOST_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vhost_request { /* front-end to back-end */
	VHOST_GET_FEATURES = 1,
	VHOST_SET_FEATURES = 2,
	VHOST_SET_OWNER = 3,
	VHOST_SET_MEM_TABLE = 5,
	VHOST_SET_VRING_NUM = 8,
	VHOST_SET_VRING_ADDR = 9,
	VHOST_SET_VRING_BASE = 10,
	VHOST_GET_VRING_BASE = 11,
	VHOST_SET_VRING_KICK = 12,
	VHOST_SET_VRING_CALL = 13,
	VHOST_GET_PROTOCOL_FEATURES = 15,
	VHOST_SET_PROTOCOL_FEATURES = 16,
	VHOST_GET_QUEUE_NUM = 17,
	VHOST_SET_VRING_ENABLE = 18,
	VHOST_SET_BACKEND_REQ_FD = 21,
	VHOST_GET_CONFIG = 24,
};

enum { /* back-end to front-end, on a socket of its own */
	VHOST_BACKEND_CONFIG_CHANGE = 2,
};

enum { /* protocol features, bits */
	VHOST_PROTOCOL_MQ = 0,
	VHOST_PROTOCOL_REPLY_ACK = 3,
	VHOST_PROTOCOL_BACKEND_REQ = 5,
	VHOST_PROTOCOL_CONFIG = 9,
};
#define VHOST_F_PROTOCOL_FEATURES 30 /* among the virtio features */

#define VHOST_WIRE_HEADER 12u
#define VHOST_WIRE_PAYLOAD_MAX 400u /* a configuration space; 8 regions of memory */
#define VHOST_WIRE_FDS_MAX 8u
#define VHOST_REGION_BYTES 32u      /* of SET_MEM_TABLE */
#define VHOST_CONFIG_HEADER 12u     /* offset, size, flags: before the bytes of GET_CONFIG */
#define VHOST_NO_FD 0x100u          /* SET_VRING_KICK and _CALL: there is no descriptor */

struct vhost_message {
	uint32_t request;
	uint32_t size; /* of the payload */
	bool reply, need_reply;
	uint8_t payload[VHOST_WIRE_PAYLOAD_MAX];
	unsigned fd_count; /* to send; still the caller's */
	int fds[VHOST_WIRE_FDS_MAX];
};

/* Appends to the payload, which has room. */
void vhost_put32(struct vhost_message *m, uint32_t value);
void vhost_put64(struct vhost_message *m, uint64_t value);

/* The whole message. -EAGAIN: nothing was sent, there is no room now; -EPIPE: the peer is gone, or
 * takes half messages only; what sendmsg() says. */
int vhost_wire_send(int sock, const struct vhost_message *m);

struct vhost_reader {
	size_t got;
	uint8_t bytes[VHOST_WIRE_HEADER + VHOST_WIRE_PAYLOAD_MAX];
};

/* The next message, if all of it is there: 1. 0: not yet. -EPIPE: the peer closed, or what recv()
 * says. -EPROTO: not of this protocol's version, or larger than any message that we know. */
int vhost_wire_receive(int sock, struct vhost_reader *reader, struct vhost_message *ret);

const char *vhost_request_name(uint32_t request); /* "GET_FEATURES", "?" */

#endif
