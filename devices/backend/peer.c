/* SPDX-License-Identifier: Apache-2.0 */
/* peer.c - see peer.h. */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/console.h"
#include "devices/backend/peer.h"
#include "machine/loop.h"

struct peer {
	struct loop *loop;
	const struct peer_events *events;
	void *opaque;
	int listen_fd; /* -1: a connected stream for ever */
	struct loop_watch *listen_watch;
	struct console *console; /* NULL: nobody is there */
	bool leaving;            /* it said all it will */
	struct loop_call drop;
};

static void peer_input(void *opaque)
{
	struct peer *p = opaque;

	p->events->input(p->opaque);
}

static void peer_room_grew(void *opaque)
{
	struct peer *p = opaque;

	p->events->room(p->opaque);
}

static void peer_gone(void *opaque)
{
	struct peer *p = opaque;

	if (p->listen_fd < 0)
		return;
	p->leaving = true;
	if (!console_pending(p->console))
		loop_post_call(p->loop, &p->drop);
}

static const struct console_events console_events = { peer_input, peer_room_grew, peer_gone };

/* Posted: the peer has left, and everything it said was read. */
static void peer_drop(void *opaque)
{
	struct peer *p = opaque;

	if (!p->leaving)
		return;
	p->leaving = false;
	p->console = console_destroy(p->console);
	(void)loop_modify(p->listen_watch, EPOLLIN);
	p->events->changed(p->opaque);
}

static void peer_accept(void *opaque, uint32_t events)
{
	struct peer *p = opaque;
	int fd;

	(void)events;
	if (p->console && console_hung_up(p->console)) {
		/* what it said is read first: who comes next waits */
		(void)loop_modify(p->listen_watch, 0);
		return;
	}
	fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (p->console || console_create(p->loop, fd, &console_events, p, &p->console) < 0) {
		close(fd);
		return;
	}
	p->events->changed(p->opaque);
}

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t len = sizeof(on);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

int peer_create(struct loop *loop, int fd, const struct peer_events *events, void *opaque,
		struct peer **ret_peer)
{
	struct peer *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->loop = loop;
	p->events = events;
	p->opaque = opaque;
	p->listen_fd = -1;
	p->drop = (struct loop_call){ .fn = peer_drop, .opaque = p };
	if (is_listening(fd)) {
		r = loop_add(loop, fd, EPOLLIN, peer_accept, p, &p->listen_watch);
		if (r == 0)
			p->listen_fd = fd;
	} else {
		r = console_create(loop, fd, &console_events, p, &p->console);
	}
	if (r < 0) {
		free(p);
		return r;
	}
	*ret_peer = p;
	return 0;
}

struct peer *peer_destroy(struct peer *p)
{
	if (!p)
		return NULL;
	p->listen_watch = loop_remove(p->listen_watch);
	loop_cancel_call(p->loop, &p->drop);
	console_destroy(p->console);
	if (p->listen_fd >= 0)
		close(p->listen_fd);
	free(p);
	return NULL;
}

void peer_sync(struct peer *p)
{
	if (p->console)
		console_sync(p->console);
}

bool peer_connected(const struct peer *p)
{
	return p->console;
}

size_t peer_room(struct peer *p)
{
	return p->console ? console_room(p->console) : SIZE_MAX;
}

size_t peer_write(struct peer *p, const uint8_t *bytes, size_t n)
{
	return p->console ? console_write(p->console, bytes, n) : n;
}

size_t peer_pending(struct peer *p)
{
	return p->console ? console_pending(p->console) : 0;
}

size_t peer_read(struct peer *p, uint8_t *bytes, size_t n)
{
	size_t got = p->console ? console_read(p->console, bytes, n) : 0;

	if (got && p->leaving && !console_pending(p->console))
		loop_post_call(p->loop, &p->drop);
	return got;
}
