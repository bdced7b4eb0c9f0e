/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console.c - COM1 for everybody: a ring of what the guest said lately, and readers that come and go.
 *
 * Each reader has a place in the stream of all bytes ever said. One that falls behind by more than
 * the ring loses the oldest bytes, and is told so where they are missing; the guest never waits for a
 * reader. Input waits for the guest.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/machine.h"

#define RING_SIZE ((size_t)256 * 1024)
#define READERS_MAX 16
#define INPUT_SIZE 4096
#define FINISH_TICK_MS 100
#define FINISH_STALL_NS (5 * NSEC_PER_SEC)
#define FINISH_ALL_NS (60 * NSEC_PER_SEC)

struct reader {
	struct console *console;
	uv_poll_t poll;
	int fd;
	int events;
	uint64_t at;       /* next byte of the stream to send, after the note */
	uint64_t lost;     /* bytes before it that no note has told of */
	char note[96];
	size_t note_len, note_sent;
	bool input_ended;
	bool closing;
	size_t input_len;  /* bytes for the guest that it has not taken */
	char input[INPUT_SIZE];
	TAILQ_ENTRY(reader) link;
};

struct console {
	uv_loop_t *loop;
	int guest_fd;      /* our end; -1: nothing comes or goes any more */
	int guest_socket, listen_fd;
	uv_poll_t guest, listen;
	int guest_events;
	uint64_t total;    /* bytes said since the start */
	unsigned reader_count;
	TAILQ_HEAD(, reader) readers;
	bool finishing, finished;
	uv_timer_t finish_timer;
	uint64_t finish_began, progress;
	void (*done)(void *opaque);
	void *done_opaque;
	char ring[RING_SIZE];
};

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

static void on_guest(uv_poll_t *handle, int status, int events);
static void on_reader(uv_poll_t *handle, int status, int events);
static void finish_check(struct console *c);

static void on_reader_closed(uv_handle_t *handle)
{
	struct reader *r = handle->data;

	close(r->fd);
	free(r);
}

static void drop_reader(struct reader *r)
{
	if (r->closing)
		return;
	r->closing = true;
	TAILQ_REMOVE(&r->console->readers, r, link);
	r->console->reader_count--;
	uv_close((uv_handle_t *)&r->poll, on_reader_closed);
}

static void update_guest(struct console *c)
{
	int events = c->guest_fd < 0 ? 0 : UV_READABLE;
	struct reader *r;

	TAILQ_FOREACH(r, &c->readers, link)
		if (r->input_len && events)
			events |= UV_WRITABLE;
	if (events == c->guest_events)
		return;
	c->guest_events = events;
	if (events)
		uv_poll_start(&c->guest, events, on_guest);
	else
		uv_poll_stop(&c->guest);
}

static void update_reader(struct reader *r)
{
	int events = 0;

	if (r->closing)
		return;
	if (!r->input_ended && !r->input_len)
		events |= UV_READABLE;
	if (r->at < r->console->total)
		events |= UV_WRITABLE;
	if (events == r->events)
		return;
	r->events = events;
	if (events)
		uv_poll_start(&r->poll, events, on_reader);
	else
		uv_poll_stop(&r->poll);
}

/* What the ring has no more is left out; a note that has not begun to go tells of it. */
static void skip_lost(struct reader *r)
{
	const struct console *c = r->console;

	if (c->total - r->at > RING_SIZE) {
		r->lost += c->total - RING_SIZE - r->at;
		r->at = c->total - RING_SIZE;
	}
	if (!r->lost || r->note_len)
		return;
	r->note_len = (size_t)snprintf(r->note, sizeof(r->note),
				       "\r\n[vmxd: %llu bytes are missing here: read too slowly]\r\n",
				       (unsigned long long)r->lost);
	r->note_sent = 0;
	r->lost = 0;
}

/* The next bytes for the reader, in one piece. 0: it has all. */
static size_t next_bytes(const struct reader *r, const char **ret_bytes)
{
	const struct console *c = r->console;
	size_t from = r->at % RING_SIZE, n = RING_SIZE - from;

	if (r->note_len) {
		*ret_bytes = r->note + r->note_sent;
		return r->note_len - r->note_sent;
	}
	*ret_bytes = c->ring + from;
	return n < c->total - r->at ? n : (size_t)(c->total - r->at);
}

/* Sends what the socket takes. False: the reader is gone. */
static bool send_some(struct reader *r)
{
	const char *bytes;
	size_t n;

	skip_lost(r);
	while ((n = next_bytes(r, &bytes))) {
		ssize_t sent = send(r->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN || errno == ENOBUFS;
		r->console->progress = clock_monotonic_ns();
		if (!r->note_len) {
			r->at += (uint64_t)sent;
			continue;
		}
		r->note_sent += (size_t)sent;
		if (r->note_sent == r->note_len)
			r->note_len = 0;
		skip_lost(r);
	}
	return true;
}

static void send_all(struct console *c)
{
	struct reader *r, *next;

	for (r = TAILQ_FIRST(&c->readers); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (send_some(r))
			update_reader(r);
		else
			drop_reader(r);
	}
}

static void add_output(struct console *c, const char *bytes, size_t len)
{
	while (len) {
		size_t at = c->total % RING_SIZE, n = RING_SIZE - at;

		if (n > len)
			n = len;
		memcpy(c->ring + at, bytes, n);
		c->total += n;
		bytes += n;
		len -= n;
	}
}

/* Takes what the guest said. False: it can say no more. */
static bool read_guest(struct console *c, unsigned times)
{
	char bytes[16384];
	bool more = true;

	while (c->guest_fd >= 0 && times--) {
		ssize_t n = read(c->guest_fd, bytes, sizeof(bytes));

		if (n > 0)
			add_output(c, bytes, (size_t)n);
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n == 0 || errno != EAGAIN)
			more = false;
		if (n <= 0)
			break;
	}
	return more;
}

static void write_guest(struct console *c)
{
	struct reader *r;

	TAILQ_FOREACH(r, &c->readers, link) {
		ssize_t n;

		if (!r->input_len || c->guest_fd < 0)
			continue;
		n = send(c->guest_fd, r->input, r->input_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
			return;
		if (n < 0)
			n = (ssize_t)r->input_len; /* nobody will ever read it */
		r->input_len -= (size_t)n;
		memmove(r->input, r->input + n, r->input_len);
		update_reader(r);
	}
}

static void close_guest(struct console *c)
{
	if (c->guest_fd < 0)
		return;
	uv_poll_stop(&c->guest);
	c->guest_events = 0;
	shutdown(c->guest_fd, SHUT_RDWR);
	c->guest_fd = -1; /* closed with the handle, in console_free() */
}

static void on_guest(uv_poll_t *handle, int status, int events)
{
	struct console *c = handle->data;

	if (status < 0) {
		c->guest_events = 0;
		close_guest(c);
		return;
	}
	if (events & UV_WRITABLE)
		write_guest(c);
	if ((events & UV_READABLE) && !read_guest(c, 4))
		close_guest(c);
	send_all(c);
	update_guest(c);
}

static void on_reader(uv_poll_t *handle, int status, int events)
{
	struct reader *r = handle->data;
	struct console *c = r->console;

	if (status < 0) {
		drop_reader(r);
		return;
	}
	if ((events & UV_WRITABLE) && !send_some(r)) {
		drop_reader(r);
		return;
	}
	if ((events & UV_READABLE) && !r->input_len) {
		ssize_t n = read(r->fd, r->input, sizeof(r->input));

		if (n > 0) {
			r->input_len = (size_t)n;
			write_guest(c);
		} else if (n == 0) {
			/* It may only have nothing more to say; if it is gone altogether, drop it. */
			r->input_ended = true;
			if (hung_up(r->fd)) {
				drop_reader(r);
				return;
			}
		} else if (errno != EAGAIN && errno != EINTR) {
			drop_reader(r);
			return;
		}
	}
	if (c->finishing) {
		finish_check(c);
		return;
	}
	update_reader(r);
	update_guest(c);
}

static void add_reader(struct console *c, int fd)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (!r || uv_poll_init(c->loop, &r->poll, fd) < 0) {
		close(fd);
		free(r);
		return;
	}
	r->console = c;
	r->fd = fd;
	r->poll.data = r;
	r->at = c->total > RING_SIZE ? c->total - RING_SIZE : 0;
	TAILQ_INSERT_TAIL(&c->readers, r, link);
	c->reader_count++;
	update_reader(r);
}

/* Readers that left without a word are only noticed by asking. */
static void drop_gone(struct console *c)
{
	struct reader *r, *next;

	for (r = TAILQ_FIRST(&c->readers); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (hung_up(r->fd))
			drop_reader(r);
	}
}

static void on_listen(uv_poll_t *handle, int status, int events)
{
	struct console *c = handle->data;
	int fd;

	(void)events;
	if (status < 0)
		return;
	while ((fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (c->reader_count >= READERS_MAX)
			drop_gone(c);
		if (c->reader_count >= READERS_MAX)
			close(fd);
		else
			add_reader(c, fd);
	}
}

int console_new(uv_loop_t *loop, int guest_fd, int listen_fd, struct console **ret_console)
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c) {
		close(guest_fd);
		close(listen_fd);
		return -ENOMEM;
	}
	c->loop = loop;
	c->guest_fd = c->guest_socket = guest_fd;
	c->listen_fd = listen_fd;
	TAILQ_INIT(&c->readers);
	uv_poll_init(loop, &c->guest, guest_fd);
	uv_poll_init(loop, &c->listen, listen_fd);
	uv_timer_init(loop, &c->finish_timer);
	c->guest.data = c->listen.data = c->finish_timer.data = c;
	uv_poll_start(&c->listen, UV_READABLE, on_listen);
	update_guest(c);
	*ret_console = c;
	return 0;
}

static void finish_check(struct console *c)
{
	uint64_t now = clock_monotonic_ns();
	struct reader *r, *next;

	if (c->finished)
		return;
	for (r = TAILQ_FIRST(&c->readers); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (!send_some(r) || r->at == c->total)
			drop_reader(r);
		else
			update_reader(r);
	}
	if (!TAILQ_EMPTY(&c->readers) && now - c->progress < FINISH_STALL_NS &&
	    now - c->finish_began < FINISH_ALL_NS)
		return;
	while ((r = TAILQ_FIRST(&c->readers)))
		drop_reader(r);
	c->finished = true;
	uv_close((uv_handle_t *)&c->finish_timer, NULL);
	uv_close((uv_handle_t *)&c->guest, NULL);
	c->done(c->done_opaque);
}

static void on_finish_tick(uv_timer_t *timer)
{
	finish_check(timer->data);
}

void console_drain(struct console *c)
{
	read_guest(c, UINT_MAX); /* its end is closed: this comes to the last byte and stops */
	close_guest(c);
}

void console_finish(struct console *c, void (*done)(void *opaque), void *opaque)
{
	c->finishing = true;
	c->done = done;
	c->done_opaque = opaque;
	c->finish_began = c->progress = clock_monotonic_ns();
	on_listen(&c->listen, 0, UV_READABLE); /* who has connected gets all of it too */
	uv_close((uv_handle_t *)&c->listen, NULL);
	uv_timer_start(&c->finish_timer, on_finish_tick, 0, FINISH_TICK_MS);
}

struct console *console_free(struct console *c)
{
	if (!c)
		return NULL;
	close(c->guest_socket);
	close(c->listen_fd);
	free(c);
	return NULL;
}

json_object *console_tail(const struct console *c, size_t n)
{
	json_object *lines = json_object_new_array();
	uint64_t oldest, start, end;
	size_t count = 0;

	if (!c || !lines || !c->total)
		return lines;
	oldest = c->total > RING_SIZE ? c->total - RING_SIZE : 0;
	if (c->total - oldest > 8192)
		oldest = c->total - 8192;
	for (start = c->total; start > oldest && count <= n; start--)
		if (c->ring[(start - 1) % RING_SIZE] == '\n' && start != c->total && ++count == n)
			break;
	while (start < c->total) {
		char line[8192];
		size_t len = 0;

		for (end = start; end < c->total && c->ring[end % RING_SIZE] != '\n'; end++)
			if (len < sizeof(line))
				line[len++] = c->ring[end % RING_SIZE];
		while (len && line[len - 1] == '\r')
			len--;
		json_object_array_add(lines, json_from_bytes(line, len));
		start = end + 1;
	}
	return lines;
}
