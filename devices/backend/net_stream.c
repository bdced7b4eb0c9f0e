/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_stream.c - frames over a stream socket. See net.h. The peer is not trusted: a length that no
 * frame has ends the connection, and the guest sees its cable pulled.
 *
 * Nothing but frames crosses the socket, so checksums are completed here, and the guest computes
 * the sums of what it receives itself.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/backend/net.h"
#include "devices/backend/net_frame.h"
#include "machine/memory.h"

#define LENGTH_BYTES 4u
#define FRAME_BYTES (LENGTH_BYTES + NET_FRAME_MAX)
#define IN_BYTES (2 * FRAME_BYTES)
#define SEND_IOV_MAX 260u /* of a chain, and the length */

struct stream {
	struct net_backend nb;
	struct net_port port;
	bool ended;
	size_t in_at, in_end;     /* received: in[in_at .. in_end) */
	size_t out_at, out_end;   /* rest of a frame that the socket took a part of */
	uint8_t in[IN_BYTES];
	uint8_t out[FRAME_BYTES];
};

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static int stream_end(struct stream *s, int r)
{
	s->ended = true;
	return r;
}

/* --- from the peer ---------------------------------------------------------------------------- */

/* One recv(), as much as there is room for. */
static int stream_fill(struct stream *s)
{
	ssize_t got;

	if (s->in_at && s->in_end == sizeof(s->in)) {
		memmove(s->in, s->in + s->in_at, s->in_end - s->in_at);
		s->in_end -= s->in_at;
		s->in_at = 0;
	}
	do
		got = recv(s->port.fd, s->in + s->in_end, sizeof(s->in) - s->in_end, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		return stream_end(s, -EPIPE);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? -EAGAIN : stream_end(s, -errno);
	s->in_end += (size_t)got;
	return 0;
}

/* Length of the frame at in_at; 0: not all of it is here. */
static long stream_frame(struct stream *s)
{
	size_t have = s->in_end - s->in_at;
	uint32_t len;

	if (have < LENGTH_BYTES)
		return 0;
	len = get_be32(s->in + s->in_at);
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX) /* not our protocol */
		return stream_end(s, -EPROTO);
	return have - LENGTH_BYTES < len ? 0 : (long)len;
}

static ssize_t stream_receive(struct net_backend *nb, unsigned pair, const struct iovec *iov,
			      unsigned n)
{
	static const uint8_t header[NET_HEADER];
	struct stream *s = (struct stream *)nb;
	long len = 0;
	bool fits;
	int r;

	(void)pair;
	if (s->ended)
		return -EPIPE;
	while ((len = stream_frame(s)) == 0) {
		r = stream_fill(s);
		if (r < 0)
			return r;
	}
	if (len < 0)
		return len;
	(void)mem_iov_store(iov, n, 0, header, sizeof(header));
	fits = mem_iov_store(iov, n, sizeof(header), s->in + s->in_at + LENGTH_BYTES,
			     (size_t)len) == (size_t)len;
	s->in_at += LENGTH_BYTES + (size_t)len;
	if (s->in_at == s->in_end)
		s->in_at = s->in_end = 0;
	return fits ? (ssize_t)NET_HEADER + len : -EMSGSIZE;
}

/* --- to the peer ------------------------------------------------------------------------------ */

/* Bytes that the socket took; 0: it is full. */
static ssize_t stream_push(struct stream *s, struct iovec *iov, unsigned n)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t done;

	do
		done = sendmsg(s->port.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS
			       ? 0 : stream_end(s, -errno);
	return done;
}

/* 0: nothing waits any more; -EAGAIN: something does. */
static int stream_flush(struct stream *s)
{
	while (s->out_at < s->out_end) {
		struct iovec iov = { s->out + s->out_at, s->out_end - s->out_at };
		ssize_t done = stream_push(s, &iov, 1);

		if (done <= 0)
			return done < 0 ? (int)done : -EAGAIN;
		s->out_at += (size_t)done;
	}
	s->out_at = s->out_end = 0;
	return 0;
}

/* Keeps iov without its first `skip` bytes for later. */
static void stream_keep(struct stream *s, const struct iovec *iov, unsigned n, size_t skip)
{
	s->out_at = 0;
	s->out_end = mem_iov_load(iov, n, skip, s->out, sizeof(s->out));
}

static int stream_send(struct net_backend *nb, unsigned pair, const struct iovec *iov, unsigned n)
{
	struct stream *s = (struct stream *)nb;
	struct iovec all[SEND_IOV_MAX];
	struct net_header header;
	uint8_t length[LENGTH_BYTES];
	size_t len = 0;
	ssize_t done;
	unsigned i;
	int r;

	(void)pair;
	r = s->ended ? -EPIPE : stream_flush(s);
	if (r < 0 || !n)
		return r;
	net_header_get(&header, iov[0].iov_base);
	for (i = 1; i < n && i < SEND_IOV_MAX; i++) {
		all[i] = iov[i];
		len += iov[i].iov_len;
	}
	put_be32(length, (uint32_t)len);
	all[0] = (struct iovec){ length, sizeof(length) };
	if (header.flags & NET_HDR_F_NEEDS_CSUM) { /* on a copy: the frame is the guest's */
		stream_keep(s, all, n, 0);
		net_checksum_complete(&header, s->out + LENGTH_BYTES, len);
		r = stream_flush(s);
		return r == -EAGAIN ? 0 : r;
	}
	done = stream_push(s, all, n);
	if (done < 0)
		return (int)done;
	if (!done)
		return -EAGAIN;
	if ((size_t)done < LENGTH_BYTES + len)
		stream_keep(s, all, n, (size_t)done);
	return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static void stream_want(struct net_backend *nb, unsigned pair, unsigned want)
{
	struct stream *s = (struct stream *)nb;

	(void)pair;
	net_port_want(&s->port, want | (s->out_at < s->out_end ? NET_WANT_WRITABLE : 0));
}

static int stream_watch(struct net_backend *nb, struct loop *loop)
{
	return net_port_watch(&((struct stream *)nb)->port, loop);
}

static void stream_unwatch(struct net_backend *nb, unsigned pair)
{
	(void)pair;
	net_port_unwatch(&((struct stream *)nb)->port);
}

static void stream_destroy(struct net_backend *nb)
{
	struct stream *s = (struct stream *)nb;

	net_port_fini(&s->port);
	free(s);
}

static const struct net_backend_ops stream_ops = {
	.receive = stream_receive,
	.send = stream_send,
	.want = stream_want,
	.watch = stream_watch,
	.unwatch = stream_unwatch,
	.destroy = stream_destroy,
};

int net_stream_create(const int *fds, unsigned count, const struct net_events *events,
		      void *opaque, struct net_backend **ret_backend)
{
	struct stream *s;
	int type = 0;
	socklen_t len = sizeof(type);

	if (count != 1)
		return -EINVAL;
	if (getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EINVAL;
	s = malloc(sizeof(*s)); /* not zeroed: most of it is buffers that are seldom full */
	if (!s)
		return -ENOMEM;
	memset(s, 0, offsetof(struct stream, in));
	s->nb = (struct net_backend){ .ops = &stream_ops, .events = events, .opaque = opaque,
				      .pairs = 1 };
	net_kind_offloads(NET_STREAM, &s->nb.can_send, &s->nb.can_receive);
	net_port_init(&s->port, &s->nb, fds[0], 0);
	*ret_backend = &s->nb;
	return 0;
}
