/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_stream.c - frames over a stream socket. See net.h. The peer is not trusted: a length that no
 * frame has ends the connection, and the guest sees its cable pulled.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net.h"
#include "machine/loop.h"

#define LENGTH_BYTES 4u
#define IN_BYTES (LENGTH_BYTES + NET_FRAME_MAX)
#define OUT_BYTES (4 * IN_BYTES) /* frames that wait for the peer; more are dropped */

struct stream {
	struct net_backend nb;
	struct loop_watch *watch; /* NULL: the connection has ended */
	uint32_t armed;
	int fd;
	bool blocked;             /* receive() had no room */
	size_t in_len;
	size_t out_at, out_len;   /* pending: out[out_at .. out_at + out_len) */
	uint8_t in[IN_BYTES];
	uint8_t out[OUT_BYTES];
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

static void stream_rearm(struct stream *s)
{
	uint32_t events = (s->blocked ? 0 : EPOLLIN) | (s->out_len ? EPOLLOUT : 0);

	if (s->watch && events != s->armed && loop_modify(s->watch, events) == 0)
		s->armed = events;
}

static void stream_end(struct stream *s)
{
	if (!s->watch)
		return;
	s->watch = loop_remove(s->watch);
	s->in_len = s->out_len = 0;
	s->nb.events->link(s->nb.opaque, false);
}

/* --- from the peer ---------------------------------------------------------------------------- */

/* Hands over the whole frames of the buffer, until the card has no room. */
static void stream_deliver(struct stream *s)
{
	size_t at = 0;

	while (s->in_len - at >= LENGTH_BYTES) {
		uint32_t len = get_be32(s->in + at);

		if (len < NET_FRAME_MIN || len > NET_FRAME_MAX) { /* not our protocol */
			stream_end(s);
			return;
		}
		if (s->in_len - at - LENGTH_BYTES < len)
			break;
		if (!s->nb.events->receive(s->nb.opaque, s->in + at + LENGTH_BYTES, len)) {
			s->blocked = true;
			break;
		}
		s->nb.received++;
		at += LENGTH_BYTES + len;
	}
	memmove(s->in, s->in + at, s->in_len - at);
	s->in_len -= at;
}

/* One buffer's worth in a turn: the loop has other work. */
static void stream_read(struct stream *s)
{
	size_t room = sizeof(s->in) - s->in_len;
	ssize_t got = 0;

	if (room) {
		do
			got = recv(s->fd, s->in + s->in_len, room, MSG_DONTWAIT);
		while (got < 0 && errno == EINTR);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) {
			stream_end(s);
			return;
		}
		s->in_len += got > 0 ? (size_t)got : 0;
	}
	stream_deliver(s);
}

static void stream_resume(struct net_backend *nb)
{
	struct stream *s = (struct stream *)nb;

	s->blocked = false;
	if (s->watch)
		stream_deliver(s);
	stream_rearm(s);
}

/* --- to the peer ------------------------------------------------------------------------------ */

static ssize_t stream_push(struct stream *s, const uint8_t *bytes, size_t len)
{
	ssize_t done;

	do
		done = send(s->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	return done;
}

static void stream_flush(struct stream *s)
{
	ssize_t done;

	if (!s->out_len)
		return;
	done = stream_push(s, s->out + s->out_at, s->out_len);
	if (done < 0) {
		stream_end(s);
		return;
	}
	s->out_at += (size_t)done;
	s->out_len -= (size_t)done;
	if (!s->out_len)
		s->out_at = 0;
}

static bool stream_send(struct net_backend *nb, const uint8_t *frame, size_t len)
{
	struct stream *s = (struct stream *)nb;
	size_t need = LENGTH_BYTES + len;
	bool idle = !s->out_len;
	uint8_t *to;

	if (!s->watch || need > sizeof(s->out) - s->out_len) {
		nb->dropped++;
		return false;
	}
	if (s->out_at + s->out_len + need > sizeof(s->out)) {
		memmove(s->out, s->out + s->out_at, s->out_len);
		s->out_at = 0;
	}
	to = s->out + s->out_at + s->out_len;
	put_be32(to, (uint32_t)len);
	memcpy(to + LENGTH_BYTES, frame, len);
	s->out_len += need;
	nb->sent++;
	if (idle) /* else it waits its turn */
		stream_flush(s);
	stream_rearm(s);
	return true;
}

static void stream_ready(void *opaque, uint32_t events)
{
	struct stream *s = opaque;

	if (events & EPOLLOUT)
		stream_flush(s);
	if (s->watch && events & EPOLLIN)
		stream_read(s);
	else if (events & (EPOLLHUP | EPOLLERR))
		stream_end(s);
	stream_rearm(s);
}

/* --- life ------------------------------------------------------------------------------------- */

static void stream_destroy(struct net_backend *nb)
{
	struct stream *s = (struct stream *)nb;

	s->watch = loop_remove(s->watch);
	close(s->fd);
	free(s);
}

static const struct net_backend_ops stream_ops = {
	.send = stream_send,
	.resume = stream_resume,
	.destroy = stream_destroy,
};

int net_stream_create(struct loop *loop, int fd, const struct net_events *events, void *opaque,
		      struct net_backend **ret_backend)
{
	struct stream *s;
	int type = 0, r;
	socklen_t len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->nb = (struct net_backend){ .ops = &stream_ops, .events = events, .opaque = opaque };
	s->fd = fd;
	s->armed = EPOLLIN;
	r = loop_add(loop, fd, EPOLLIN, stream_ready, s, &s->watch);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret_backend = &s->nb;
	return 0;
}
