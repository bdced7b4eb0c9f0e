/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "protocol/frame.h"
#include "protocol/unix.h"

#define FDS_MAX 32 /* that wait to be taken: of a few orders */

struct chunk {
	struct chunk *next;
	size_t len, sent;
	int fd;
	char bytes[];
};

struct stream {
	uv_poll_t poll;
	int fd;
	const struct stream_ops *ops;
	void *owner;
	struct frame frame;
	uint64_t partial_since;
	struct chunk *first, **last;
	size_t queued;
	int events;    /* what the poll handle waits for */
	bool held;     /* by the owner */
	bool ended;    /* nothing more to read */
	bool discard;
	bool closing;
	bool pumping;  /* inside ops->line: it must not be entered again */
	unsigned fd_count;
	int fds[FDS_MAX]; /* received, the oldest first */
};

static void on_poll(uv_poll_t *handle, int status, int events);

static void update_poll(struct stream *s)
{
	int events = 0;

	if (s->closing)
		return;
	if (!s->ended && (!s->held || s->discard))
		events |= UV_READABLE;
	if (s->first)
		events |= UV_WRITABLE;
	if (events == s->events)
		return;
	s->events = events;
	if (events)
		uv_poll_start(&s->poll, events, on_poll);
	else
		uv_poll_stop(&s->poll);
}

int stream_new(uv_loop_t *loop, int fd, const struct stream_ops *ops, void *owner,
	       struct stream **ret_stream)
{
	struct stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->ops = ops;
	s->owner = owner;
	s->last = &s->first;
	frame_init(&s->frame);
	r = uv_poll_init(loop, &s->poll, fd); /* also makes fd non-blocking */
	if (r < 0) {
		free(s);
		return r;
	}
	s->poll.data = s;
	update_poll(s);
	*ret_stream = s;
	return 0;
}

static void drop_first(struct stream *s)
{
	struct chunk *c = s->first;

	s->first = c->next;
	if (!s->first)
		s->last = &s->first;
	s->queued -= c->len - c->sent;
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

static void on_close(uv_handle_t *handle)
{
	struct stream *s = handle->data;
	const struct stream_ops *ops = s->ops;
	void *owner = s->owner;

	close(s->fd);
	while (s->fd_count)
		close(s->fds[--s->fd_count]);
	while (s->first)
		drop_first(s);
	frame_deinit(&s->frame);
	free(s);
	if (ops->released)
		ops->released(owner);
}

void stream_free(struct stream *s)
{
	if (!s || s->closing)
		return;
	s->closing = true;
	uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, on_close);
}

/* The peer broke: nothing can be written any more, and nothing more will come. */
static void end(struct stream *s, bool gone)
{
	if (s->ended && !gone)
		return;
	s->ended = true;
	if (gone)
		while (s->first)
			drop_first(s);
	update_poll(s);
	s->ops->ended(s->owner, gone);
}

/* Writes what the socket takes. Returns 0, or a negative errno when the peer is gone. */
static int flush(struct stream *s)
{
	while (s->first) {
		struct chunk *c = s->first;
		ssize_t n = unix_send(s->fd, c->bytes + c->sent, c->len - c->sent, c->fd);

		if (n == -EAGAIN || n == -ENOBUFS)
			return 0;
		if (n < 0)
			return (int)n;
		if (c->fd >= 0)
			close(c->fd);
		c->fd = -1;
		c->sent += (size_t)n;
		s->queued -= (size_t)n;
		if (c->sent == c->len)
			drop_first(s);
	}
	return 0;
}

int stream_send(struct stream *s, const char *bytes, size_t len, int fd)
{
	struct chunk *c;
	size_t sent = 0;

	if (s->closing) {
		if (fd >= 0)
			close(fd);
		return -EPIPE;
	}
	if (!s->first && fd < 0) { /* mostly there is room at once */
		ssize_t n = unix_send(s->fd, bytes, len, -1);

		if (n < 0 && n != -EAGAIN && n != -ENOBUFS)
			return (int)n; /* the poll will tell that the peer is gone */
		sent = n > 0 ? (size_t)n : 0;
		if (sent == len)
			return 0;
	}
	c = malloc(sizeof(*c) + (len - sent));
	if (!c) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	*c = (struct chunk){ .len = len - sent, .fd = fd };
	memcpy(c->bytes, bytes + sent, len - sent);
	*s->last = c;
	s->last = &c->next;
	s->queued += c->len;
	update_poll(s);
	return 0;
}

size_t stream_queued(const struct stream *s)
{
	return s->queued;
}

/* Hands out the lines that are here. */
static void pump(struct stream *s)
{
	if (s->pumping)
		return;
	s->pumping = true;
	while (!s->closing && !s->held && !s->discard) {
		char *line;
		size_t len;
		int r = frame_next(&s->frame, &line, &len);

		if (r == 0)
			break;
		if (r < 0) {
			s->discard = true;
			if (s->ops->oversize)
				s->ops->oversize(s->owner);
			break;
		}
		if (len)
			s->ops->line(s->owner, line, len);
	}
	s->pumping = false;
	if (s->closing)
		return;
	if (!frame_partial(&s->frame) || s->held || s->discard)
		s->partial_since = 0;
	else if (!s->partial_since)
		s->partial_since = clock_monotonic_ns();
}

static void read_discard(struct stream *s)
{
	char waste[65536];

	for (int i = 0; i < 16; i++) { /* other peers want their turn too */
		ssize_t n = read(s->fd, waste, sizeof(waste));

		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		if (n == 0 || errno != EAGAIN)
			end(s, n < 0 || stream_gone(s));
		return;
	}
}

/* Descriptors that come uninvited are closed by the kernel: read() takes none. */
static ssize_t receive(struct stream *s, char *space, size_t size)
{
	ssize_t n;
	int fd;

	if (!s->ops->fds) {
		n = read(s->fd, space, size);
		return n < 0 ? -errno : n;
	}
	n = unix_recv(s->fd, space, size, &fd);
	if (fd >= 0 && s->fd_count < FDS_MAX)
		s->fds[s->fd_count++] = fd;
	else if (fd >= 0)
		close(fd);
	return n;
}

int stream_take_fd(struct stream *s)
{
	int fd = s->fd_count ? s->fds[0] : -1;

	if (fd >= 0)
		memmove(s->fds, s->fds + 1, --s->fd_count * sizeof(s->fds[0]));
	return fd;
}

static void read_some(struct stream *s)
{
	char *space;
	size_t size;
	ssize_t n;

	if (frame_space(&s->frame, &space, &size) < 0) {
		end(s, true);
		return;
	}
	n = receive(s, space, size);
	if (n > 0) {
		frame_commit(&s->frame, (size_t)n);
		pump(s);
	} else if (n == 0 || (n != -EAGAIN && n != -EINTR)) {
		end(s, n < 0 || stream_gone(s));
	}
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct stream *s = handle->data;

	if (status < 0) {
		s->events = 0; /* libuv stopped the handle */
		end(s, true);
		return;
	}
	if (events & UV_WRITABLE) {
		bool waiting = s->first != NULL;

		if (flush(s) < 0) {
			end(s, true);
			return;
		}
		update_poll(s);
		if (waiting && !s->first && s->ops->drained)
			s->ops->drained(s->owner);
	}
	if (s->closing || !(events & UV_READABLE) || s->ended)
		return;
	if (s->discard)
		read_discard(s);
	else if (!s->held)
		read_some(s);
}

void stream_hold(struct stream *s, bool hold)
{
	if (s->held == hold || s->closing)
		return;
	s->held = hold;
	if (!hold)
		pump(s);
	update_poll(s);
}

void stream_discard(struct stream *s)
{
	s->discard = true;
	s->partial_since = 0;
	update_poll(s);
}

uint64_t stream_partial_since(const struct stream *s)
{
	return s->partial_since;
}

bool stream_gone(const struct stream *s)
{
	struct pollfd p = { .fd = s->fd };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

int stream_fd(const struct stream *s)
{
	return s->fd;
}
