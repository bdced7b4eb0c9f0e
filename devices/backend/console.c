/* SPDX-License-Identifier: Apache-2.0 */
/* console.c - see console.h. */
#include <config.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "devices/backend/console.h"
#include "devices/backend/fifo.h"
#include "machine/loop.h"

#define UNGET_BYTES 16u
/* Output waits this long for more, so that a guest that prints does not wake the loop (on a busy
 * host: in place of its own processor) for every byte. After a pause the first goes at once. */
#define GATHER_NS 1000000ull
#define WRITES_MAX 4u /* in one turn: a guest that prints for ever must not keep the loop */

struct console {
	pthread_mutex_t lock;
	struct loop *loop;
	struct loop_watch *watch; /* NULL: not pollable, or hung up; loop thread only */
	uint32_t armed;           /* what watch waits for */
	const struct console_events *events;
	void *opaque;
	int fd;
	bool is_socket;
	bool no_input;   /* end of file */
	bool no_output;  /* the peer is gone */
	bool discard;
	bool posted;     /* console_turn() is on its way, by post or by timer */
	bool told_gone;
	struct loop_call call;
	int timer;       /* timerfd: ends the gathering */
	struct loop_watch *timer_watch;
	uint64_t last_turn;
	bool wait_write; /* the descriptor said EAGAIN */
	uint64_t dropped;
	struct fifo out, in;
	uint8_t out_bytes[CONSOLE_OUTPUT_BYTES];
	uint8_t in_bytes[CONSOLE_INPUT_BYTES];
};

static loop_post_fn console_turn;

static ssize_t console_write_some(const struct console *c, const uint8_t *bytes, size_t n)
{
	ssize_t ret;

	do
		ret = c->is_socket ? send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT)
				   : write(c->fd, bytes, n);
	while (ret < 0 && errno == EINTR);
	return ret;
}

/* Lock held. */
static void console_kick(struct console *c)
{
	if (c->posted)
		return;
	c->posted = true;
	loop_post_call(c->loop, &c->call);
}

/* There is output. Lock held. */
static void console_gather(struct console *c)
{
	uint64_t due = c->last_turn + GATHER_NS;
	struct itimerspec at = {
		.it_value = { (time_t)(due / NSEC_PER_SEC), (long)(due % NSEC_PER_SEC) },
	};

	if (c->posted)
		return;
	if (c->timer < 0 || clock_monotonic_ns() >= due)
		console_kick(c);
	else
		c->posted = timerfd_settime(c->timer, TFD_TIMER_ABSTIME, &at, NULL) == 0;
}

/* Writes until empty or EAGAIN, or posts itself again after some writes. The lock is not held
 * during the system call: only this thread takes bytes out. Returns true if it made room. */
static bool console_flush(struct console *c)
{
	bool progress = false;
	unsigned writes = 0;
	uint8_t *bytes;
	ssize_t done;
	size_t n;

	pthread_mutex_lock(&c->lock);
	c->wait_write = false;
	while (c->out.count && !c->wait_write && writes++ < WRITES_MAX) {
		n = fifo_front(&c->out, &bytes);
		if (c->no_output) {
			done = (ssize_t)n;
			c->dropped += n;
		} else {
			pthread_mutex_unlock(&c->lock);
			done = console_write_some(c, bytes, n);
			pthread_mutex_lock(&c->lock);
		}
		if (done > 0) {
			fifo_drop(&c->out, (size_t)done);
			c->discard = false;
			progress = true;
		} else if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && c->watch) {
			c->wait_write = true;
		} else {
			c->no_output = true;
		}
	}
	if (c->out.count && !c->wait_write)
		console_kick(c);
	c->last_turn = clock_monotonic_ns();
	pthread_mutex_unlock(&c->lock);
	return progress;
}

/* Reads once, as much as there is room for. Returns true if something came. */
static bool console_fill(struct console *c)
{
	uint8_t *bytes;
	ssize_t got = 0;
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = c->in.size - c->in.count;
	n = n > UNGET_BYTES ? n - UNGET_BYTES : 0;
	if (n && !c->no_input) {
		size_t run = fifo_back(&c->in, &bytes);

		do
			got = read(c->fd, bytes, run < n ? run : n);
		while (got < 0 && errno == EINTR);
		if (got > 0)
			c->in.count += (size_t)got;
		else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
			c->no_input = true;
	}
	pthread_mutex_unlock(&c->lock);
	return got > 0;
}

static void console_rearm(struct console *c)
{
	uint32_t events = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->no_input && c->in.size - c->in.count > UNGET_BYTES)
		events |= EPOLLIN;
	if (c->wait_write)
		events |= EPOLLOUT;
	pthread_mutex_unlock(&c->lock);
	if (c->watch && c->armed != events && loop_modify(c->watch, events) == 0)
		c->armed = events;
}

static void console_tell(struct console *c, bool input, bool room)
{
	bool gone;

	pthread_mutex_lock(&c->lock);
	gone = !c->told_gone && c->fd >= 0 && (c->no_input || c->no_output);
	c->told_gone |= gone;
	pthread_mutex_unlock(&c->lock);
	if (input)
		c->events->input(c->opaque);
	if (room)
		c->events->room(c->opaque);
	if (gone && c->events->gone)
		c->events->gone(c->opaque);
}

static void console_ready(void *opaque, uint32_t events)
{
	struct console *c = opaque;
	bool input = false, room;

	if (events & EPOLLIN)
		input = console_fill(c);
	/* A hang-up is reported for ever. What is still to be read, console_turn() reads. */
	if (events & (EPOLLHUP | EPOLLERR) && !input)
		c->watch = loop_remove(c->watch);
	room = console_flush(c);
	console_rearm(c);
	console_tell(c, input, room);
}

/* Posted by another thread: there is output, or room for input again. */
static void console_turn(void *opaque)
{
	struct console *c = opaque;
	bool input, room;

	pthread_mutex_lock(&c->lock);
	c->posted = false;
	pthread_mutex_unlock(&c->lock);
	input = !c->watch && console_fill(c);
	room = console_flush(c);
	console_rearm(c);
	console_tell(c, input, room);
}

static void console_gathered(void *opaque, uint32_t events)
{
	struct console *c = opaque;
	uint64_t expired;

	(void)events;
	if (read(c->timer, &expired, sizeof(expired)) == sizeof(expired))
		console_turn(c);
}

void console_sync(struct console *c)
{
	(void)console_flush(c);
}

size_t console_room(struct console *c)
{
	size_t room;

	pthread_mutex_lock(&c->lock);
	room = c->discard ? c->out.size : c->out.size - c->out.count;
	pthread_mutex_unlock(&c->lock);
	return room;
}

bool console_put(struct console *c, uint8_t byte)
{
	bool fits;

	pthread_mutex_lock(&c->lock);
	fits = c->fd >= 0 && !c->no_output && !c->discard && c->out.count < c->out.size;
	if (fits) {
		c->out.bytes[(c->out.head + c->out.count) % c->out.size] = byte;
		c->out.count++;
		if (!c->wait_write)
			console_gather(c);
	} else {
		c->dropped++;
	}
	pthread_mutex_unlock(&c->lock);
	return fits;
}

size_t console_write(struct console *c, const uint8_t *bytes, size_t n)
{
	size_t done = n;

	pthread_mutex_lock(&c->lock);
	if (c->fd < 0 || c->no_output || c->discard)
		c->dropped += n;
	else
		done = fifo_put(&c->out, bytes, n);
	if (c->out.count && !c->wait_write)
		console_gather(c);
	pthread_mutex_unlock(&c->lock);
	return done;
}

bool console_get(struct console *c, uint8_t *ret_byte)
{
	return console_read(c, ret_byte, 1);
}

size_t console_read(struct console *c, uint8_t *bytes, size_t n)
{
	size_t done = 0, run, before;
	uint8_t *from;

	pthread_mutex_lock(&c->lock);
	before = c->in.count;
	while (done < n && c->in.count) {
		run = fifo_front(&c->in, &from);
		run = run < n - done ? run : n - done;
		memcpy(bytes + done, from, run);
		fifo_drop(&c->in, run);
		done += run;
	}
	/* reading stopped when the buffer was full: go on at half */
	if (before > c->in.size / 2 && c->in.count <= c->in.size / 2)
		console_kick(c);
	pthread_mutex_unlock(&c->lock);
	return done;
}

size_t console_pending(struct console *c)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = c->in.count;
	pthread_mutex_unlock(&c->lock);
	return n;
}

bool console_hung_up(const struct console *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void console_unget(struct console *c, const uint8_t *bytes, size_t n)
{
	pthread_mutex_lock(&c->lock);
	while (n && c->in.count < c->in.size) {
		c->in.head = (c->in.head + c->in.size - 1) % c->in.size;
		c->in.bytes[c->in.head] = bytes[--n];
		c->in.count++;
	}
	pthread_mutex_unlock(&c->lock);
}

void console_discard(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	c->discard = true;
	pthread_mutex_unlock(&c->lock);
}

uint64_t console_dropped(struct console *c)
{
	uint64_t n;

	pthread_mutex_lock(&c->lock);
	n = c->dropped;
	pthread_mutex_unlock(&c->lock);
	return n;
}

int console_create(struct loop *loop, int fd, const struct console_events *events, void *opaque,
		   struct console **ret_console)
{
	struct console *c = calloc(1, sizeof(*c));
	socklen_t len = sizeof(int);
	int type, ret;

	if (!c)
		return -ENOMEM;
	c->loop = loop;
	c->events = events;
	c->opaque = opaque;
	c->fd = fd;
	c->call = (struct loop_call){ .fn = console_turn, .opaque = c };
	c->out = (struct fifo){ .bytes = c->out_bytes, .size = sizeof(c->out_bytes) };
	c->in = (struct fifo){ .bytes = c->in_bytes, .size = sizeof(c->in_bytes) };
	c->timer = -1;
	pthread_mutex_init(&c->lock, NULL);
	if (fd >= 0) {
		c->is_socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
		c->armed = EPOLLIN;
		ret = loop_add(loop, fd, EPOLLIN, console_ready, c, &c->watch);
		if (ret == -EPERM) {
			c->no_input = true;
		} else if (ret) {
			pthread_mutex_destroy(&c->lock);
			free(c);
			return ret;
		}
		c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		if (c->timer >= 0 &&
		    loop_add(loop, c->timer, EPOLLIN, console_gathered, c, &c->timer_watch) < 0) {
			close(c->timer); /* goes without: every byte at once */
			c->timer = -1;
		}
	}
	*ret_console = c;
	return 0;
}

struct console *console_destroy(struct console *c)
{
	if (!c)
		return NULL;
	if (c->fd >= 0) {
		(void)console_flush(c);
		loop_cancel_call(c->loop, &c->call);
		c->watch = loop_remove(c->watch);
		c->timer_watch = loop_remove(c->timer_watch);
		if (c->timer >= 0)
			close(c->timer);
		close(c->fd);
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}
