/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_wire.c - see vhost_wire.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/vhost_wire.h"

#define FLAG_VERSION 1u
#define VERSION_MASK 3u
#define FLAG_REPLY 4u
#define FLAG_NEED_REPLY 8u

void vhost_put32(struct vhost_message *m, uint32_t value)
{
	assert(m->size + 4 <= VHOST_WIRE_PAYLOAD_MAX);
	put_le32(m->payload + m->size, value);
	m->size += 4;
}

void vhost_put64(struct vhost_message *m, uint64_t value)
{
	vhost_put32(m, (uint32_t)value);
	vhost_put32(m, (uint32_t)(value >> 32));
}

int vhost_wire_send(int sock, const struct vhost_message *m)
{
	uint8_t header[VHOST_WIRE_HEADER];
	struct iovec iov[2] = { { header, sizeof(header) },
				{ (uint8_t *)(uintptr_t)m->payload, m->size } };
	union {
		char bytes[CMSG_SPACE(VHOST_WIRE_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	assert(m->size <= VHOST_WIRE_PAYLOAD_MAX && m->fd_count <= VHOST_WIRE_FDS_MAX);
	put_le32(header, m->request);
	put_le32(header + 4, FLAG_VERSION | (m->reply ? FLAG_REPLY : 0) |
				     (m->need_reply ? FLAG_NEED_REPLY : 0));
	put_le32(header + 8, m->size);
	if (m->fd_count) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(m->fd_count * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(m->fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), m->fds, m->fd_count * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return (size_t)n == sizeof(header) + m->size ? 0 : -EPIPE;
}

/* Reads on until `want` bytes are there. 1: they are. */
static int fill(int sock, struct vhost_reader *r, size_t want)
{
	while (r->got < want) {
		/* Without room for control data the kernel closes descriptors that come. */
		ssize_t n = recv(sock, r->bytes + r->got, want - r->got, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
		if (n == 0)
			return -EPIPE;
		r->got += (size_t)n;
	}
	return 1;
}

int vhost_wire_receive(int sock, struct vhost_reader *r, struct vhost_message *ret)
{
	uint32_t flags, size;
	int left = fill(sock, r, VHOST_WIRE_HEADER);

	if (left <= 0)
		return left;
	flags = get_le32(r->bytes + 4);
	size = get_le32(r->bytes + 8);
	if ((flags & VERSION_MASK) != FLAG_VERSION || size > VHOST_WIRE_PAYLOAD_MAX)
		return -EPROTO;
	left = fill(sock, r, VHOST_WIRE_HEADER + size);
	if (left <= 0)
		return left;
	ret->request = get_le32(r->bytes);
	ret->reply = flags & FLAG_REPLY;
	ret->need_reply = flags & FLAG_NEED_REPLY;
	ret->size = size;
	ret->fd_count = 0;
	memcpy(ret->payload, r->bytes + VHOST_WIRE_HEADER, size);
	r->got = 0;
	return 1;
}

static const char *const names[] = {
	[VHOST_GET_FEATURES] = "GET_FEATURES",
	[VHOST_SET_FEATURES] = "SET_FEATURES",
	[VHOST_SET_OWNER] = "SET_OWNER",
	[VHOST_SET_MEM_TABLE] = "SET_MEM_TABLE",
	[VHOST_SET_VRING_NUM] = "SET_VRING_NUM",
	[VHOST_SET_VRING_ADDR] = "SET_VRING_ADDR",
	[VHOST_SET_VRING_BASE] = "SET_VRING_BASE",
	[VHOST_GET_VRING_BASE] = "GET_VRING_BASE",
	[VHOST_SET_VRING_KICK] = "SET_VRING_KICK",
	[VHOST_SET_VRING_CALL] = "SET_VRING_CALL",
	[VHOST_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
	[VHOST_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
	[VHOST_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
	[VHOST_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
	[VHOST_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
	[VHOST_GET_CONFIG] = "GET_CONFIG",
};

const char *vhost_request_name(uint32_t request)
{
	return request < ARRAY_SIZE(names) && names[request] ? names[request] : "?";
}
