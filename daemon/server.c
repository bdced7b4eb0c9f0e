/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/conn.h"
#include "daemon/notify.h"
#include "protocol/unix.h"

#define SWEEP_MS 1000
#define ACCEPT_PAUSE_MS 100

struct server {
	struct daemon *daemon;
	int fd;
	bool own_file;      /* the socket's file was made here */
	bool stopped;
	uv_poll_t poll;
	uv_async_t resume;
	uv_timer_t sweep;
	uv_timer_t pause;   /* after the descriptors ran out */
	unsigned count;
	TAILQ_HEAD(, conn) conns;
};

static void on_accept(uv_poll_t *handle, int status, int events);

static void refuse(int fd)
{
	static const char text[] =
		"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32005,\"message\":\"too many "
		"connections\",\"data\":{\"reason\":\"too-many-connections\"}},\"id\":null}\n";

	unix_send(fd, text, sizeof(text) - 1, -1);
	close(fd);
}

static void on_unpause(uv_timer_t *timer)
{
	struct server *s = timer->data;

	if (!s->stopped)
		uv_poll_start(&s->poll, UV_READABLE, on_accept);
}

static void on_accept(uv_poll_t *handle, int status, int events)
{
	struct server *s = handle->data;

	(void)events;
	if (status < 0)
		return;
	for (int i = 0; i < 64; i++) { /* those who are connected want their turn too */
		struct conn *conn;
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			    errno == ENOBUFS) { /* stays readable: do not spin */
				uv_poll_stop(&s->poll);
				uv_timer_start(&s->pause, on_unpause, ACCEPT_PAUSE_MS, 0);
			}
			return;
		}
		if (s->count >= DAEMON_CONNECTIONS_MAX) {
			refuse(fd);
			continue;
		}
		if (conn_new(s->daemon, fd, &conn) < 0)
			continue;
		TAILQ_INSERT_TAIL(&s->conns, conn, link);
		s->count++;
	}
}

static void on_sweep(uv_timer_t *timer)
{
	struct server *s = timer->data;
	struct conn *conn, *next;
	uint64_t now = clock_monotonic_ns();

	for (conn = TAILQ_FIRST(&s->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		conn_sweep(conn, now);
	}
	notify_watchdog();
}

static void on_resume(uv_async_t *async)
{
	struct server *s = async->data;
	struct conn *conn, *next;

	for (conn = TAILQ_FIRST(&s->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		conn_resume(conn);
	}
}

void server_resume(struct server *s)
{
	if (!s->stopped)
		uv_async_send(&s->resume);
}

int server_new(struct daemon *daemon, int listen_fd, struct server **ret_server)
{
	struct server *s = calloc(1, sizeof(*s));

	if (!s) {
		if (listen_fd >= 0)
			close(listen_fd);
		return -ENOMEM;
	}
	s->daemon = daemon;
	s->own_file = listen_fd < 0;
	TAILQ_INIT(&s->conns);
	s->fd = listen_fd >= 0 ? listen_fd : unix_listen(daemon->options.socket, 0600, 128);
	if (s->fd < 0) {
		int r = s->fd;

		free(s);
		return r;
	}
	*ret_server = s;
	return 0;
}

int server_start(struct server *s)
{
	int r = uv_poll_init(s->daemon->loop, &s->poll, s->fd);

	if (r < 0)
		return r;
	uv_async_init(s->daemon->loop, &s->resume, on_resume);
	uv_timer_init(s->daemon->loop, &s->sweep);
	uv_timer_init(s->daemon->loop, &s->pause);
	s->poll.data = s->resume.data = s->sweep.data = s->pause.data = s;
	uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
	return uv_poll_start(&s->poll, UV_READABLE, on_accept);
}

void server_stop(struct server *s)
{
	struct conn *conn;

	if (s->stopped)
		return;
	s->stopped = true;
	if (s->own_file)
		unlink(s->daemon->options.socket);
	uv_close((uv_handle_t *)&s->poll, NULL);
	uv_close((uv_handle_t *)&s->resume, NULL);
	uv_close((uv_handle_t *)&s->sweep, NULL);
	uv_close((uv_handle_t *)&s->pause, NULL);
	while ((conn = TAILQ_FIRST(&s->conns)))
		conn_close(conn);
}

struct server *server_free(struct server *s)
{
	if (!s)
		return NULL;
	close(s->fd);
	free(s);
	return NULL;
}

void server_forget(struct server *s, struct conn *conn)
{
	TAILQ_REMOVE(&s->conns, conn, link);
	s->count--;
}

void server_push_events(struct server *s)
{
	struct conn *conn;

	if (!s)
		return;
	/* Sending never closes a connection at once, so the list stands still meanwhile. */
	TAILQ_FOREACH(conn, &s->conns, link)
		conn_push_events(conn);
}

unsigned server_connections(const struct server *s)
{
	return s->count;
}
