/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.c - vmxd-machine's end of the control socket: orders from a daemon, reports to it.
 *
 * More than one may be connected (an old daemon that is ending and its successor). Whoever connects
 * is told the state at once; that is all that finding a machine again takes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/machine.h"
#include "daemon/stream.h"
#include "protocol/rpc.h"

#define PEERS_MAX 4
#define QUEUE_MAX ((size_t)1024 * 1024)
#define LONELY_MS 30000 /* never started, and nobody there who could */

struct peer {
	struct control *control;
	struct stream *stream;
	TAILQ_ENTRY(peer) link;
};

struct control {
	struct machine *machine;
	int listen_fd;
	uid_t owner; /* beside root, whose daemon may connect; not to be asked for in the sandbox */
	uv_poll_t listen;
	uv_timer_t lonely;
	bool stopped;
	unsigned count;
	TAILQ_HEAD(peers, peer) peers;
};

static void send_message(struct peer *peer, json_object *message)
{
	size_t len = 0;
	const char *text = message ? json_object_to_json_string_length(message,
				JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len) : NULL;

	/* A daemon that hangs must not fill this process's memory. */
	if (text && stream_queued(peer->stream) < QUEUE_MAX) {
		((char *)(uintptr_t)text)[len] = '\n'; /* in place of the NUL; see conn.c */
		stream_send(peer->stream, text, len + 1, -1);
	}
	json_object_put(message);
}

typedef int order_fn(struct machine *machine);

static int order_start(struct machine *m) { return m->board ? board_start(m->board) : -EBADFD; }
static int order_pause(struct machine *m) { return m->board ? board_pause(m->board) : -EBADFD; }
static int order_resume(struct machine *m) { return m->board ? board_resume(m->board) : -EBADFD; }
static int order_reset(struct machine *m) { return m->board ? board_reset(m->board) : -EBADFD; }

static int order_button(struct machine *m)
{
	return m->board ? board_power_button(m->board) : -EBADFD;
}

static int order_kill(struct machine *m)
{
	machine_kill(m);
	return 0;
}

static const struct {
	const char *method;
	order_fn *fn;
} orders[] = {
	{ "machine.start", order_start },   { "machine.pause", order_pause },
	{ "machine.resume", order_resume }, { "machine.reset", order_reset },
	{ "machine.kill", order_kill },     { "machine.power_button", order_button },
};

/* The descriptors that came beside an order: how many, or -EBADF and none. */
static int take_fds(struct peer *peer, json_object *params, int *fds, size_t max)
{
	int64_t want = json_get_int(params, "fd_count", 0), n;

	for (n = 0; n < want && n < (int64_t)max; n++) {
		fds[n] = stream_take_fd(peer->stream);
		if (fds[n] < 0)
			break;
	}
	if (n == want)
		return (int)n;
	while (n > 0)
		close(fds[--n]);
	return -EBADF;
}

static int attach_net(struct board *board, json_object *params, int fd)
{
	return board_net_attach(board, json_get_str(params, "id", ""), &fd, 1);
}

static int attach_vhost(struct board *board, json_object *params, int fd)
{
	return board_vhost_attach(board, json_get_str(params, "id", ""), fd);
}

/* Another peer for a device: a descriptor came beside the order. */
static int attach(struct peer *peer, json_object *params,
		  int (*fn)(struct board *board, json_object *params, int fd))
{
	struct machine *m = peer->control->machine;
	int fd, r = take_fds(peer, params, &fd, 1);

	if (r != 1)
		return -EINVAL;
	r = m->board ? fn(m->board, params, fd) : -EBADFD;
	if (r < 0)
		close(fd);
	return r;
}

/* What the guest wanted to connect to (vsock.h): a descriptor beside it, or it cannot be had. */
static int vsock_answer(struct peer *peer, json_object *params)
{
	struct machine *m = peer->control->machine;
	int fd, r = take_fds(peer, params, &fd, 1);

	if (m->board)
		board_vsock_answer(m->board, (uint32_t)json_get_int(params, "id", 0),
				   r == 1 ? fd : -ECONNREFUSED);
	else if (r == 1)
		close(fd);
	return 0;
}

/* Orders with parameters. */
static int handle_plug(struct peer *peer, const struct rpc_request *request, char **ret_why)
{
	struct machine *machine = peer->control->machine;
	int fds[MACHINE_PLUG_FDS_MAX], n;

	*ret_why = NULL;
	if (strcmp(request->method, "machine.unit_remove") == 0)
		return machine_unit_remove(machine, request->params, ret_why);
	if (strcmp(request->method, "machine.unit_add") != 0)
		return -ENOSYS;
	n = take_fds(peer, request->params, fds, MACHINE_PLUG_FDS_MAX);
	return n < 0 ? n : machine_unit_add(machine, request->params, fds, (size_t)n, ret_why);
}

static json_object *handle(struct peer *peer, const struct rpc_request *request)
{
	struct machine *machine = peer->control->machine;
	struct rpc_error error;
	json_object *result = json_object_new_object();
	char *why = NULL;
	int r = handle_plug(peer, request, &why);

	if (strcmp(request->method, "machine.stats") == 0) {
		json_add(result, "stats", machine_stats(machine));
		return rpc_reply(request->id, result);
	}
	if (strcmp(request->method, "machine.vsock_answer") == 0)
		r = vsock_answer(peer, request->params);
	if (strcmp(request->method, "machine.net_attach") == 0)
		r = attach(peer, request->params, attach_net);
	if (strcmp(request->method, "machine.vhost_attach") == 0)
		r = attach(peer, request->params, attach_vhost);
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
		if (strcmp(orders[i].method, request->method) == 0)
			r = orders[i].fn(machine);
	if (r == -ENOSYS) {
		r = machine_device_order(machine, request, result, &error);
		if (r < 0 && r != -ENOSYS) {
			json_object_put(result);
			return rpc_error_reply(request->id, &error);
		}
	}
	if (r == 0)
		return rpc_reply(request->id, result);
	json_object_put(result);
	if (r == -ENOSYS)
		rpc_fail(&error, RPC_METHOD_NOT_FOUND, NULL, NULL, "no order \"%.64s\"",
			 request->method);
	else
		rpc_fail(&error, r == -EBADFD ? RPC_WRONG_STATE : RPC_FAILED, NULL, NULL,
			 "%s: %s: %s", machine->name, request->method,
			 why ? why : r == -EBADFD ? "not possible in this state" : strerror(-r));
	error.err = -r;
	free(why);
	return rpc_error_reply(request->id, &error);
}

static void on_line(void *owner, char *line, size_t len)
{
	struct peer *peer = owner;
	struct rpc_request request;
	struct rpc_error error;
	json_object *message = NULL, *answer;
	char why[96];

	if (json_parse(line, len, &message, why, sizeof(why)) < 0) {
		rpc_fail(&error, RPC_PARSE_ERROR, NULL, NULL, "not JSON: %s", why);
		answer = rpc_error_reply(NULL, &error);
	} else if (rpc_request_parse(message, &request, &error) < 0) {
		answer = rpc_error_reply(request.id, &error);
	} else {
		answer = handle(peer, &request);
		if (!request.has_id) {
			json_object_put(answer);
			answer = NULL;
		}
	}
	if (answer)
		send_message(peer, answer);
	json_object_put(message);
}

static void on_lonely(uv_timer_t *timer)
{
	struct control *control = timer->data;

	if (!control->count && !control->machine->ran) {
		log_line(control->machine->log, LOG_LEVEL_WARNING,
			 "no daemon came to start this VM; ending");
		machine_kill(control->machine);
	}
}

static void drop(struct peer *peer)
{
	struct control *control = peer->control;

	TAILQ_REMOVE(&control->peers, peer, link);
	control->count--;
	stream_free(peer->stream);
	if (!control->count && !control->stopped)
		uv_timer_start(&control->lonely, on_lonely, LONELY_MS, 0);
}

static void on_ended(void *owner, bool gone)
{
	(void)gone;
	drop(owner);
}

static void on_released(void *owner)
{
	free(owner);
}

static const struct stream_ops ops = {
	.line = on_line,
	.oversize = NULL,
	.ended = on_ended,
	.fds = true,
	.released = on_released,
};

static void add_peer(struct control *control, int fd)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	struct ucred who;
	socklen_t len = sizeof(who);

	if (!peer || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ||
	    (who.uid != 0 && who.uid != control->owner) ||
	    stream_new(control->machine->loop, fd, &ops, peer, &peer->stream) < 0) {
		close(fd);
		free(peer);
		return;
	}
	peer->control = control;
	if (control->count >= PEERS_MAX) /* the newest daemon is the one that matters */
		drop(TAILQ_FIRST(&control->peers));
	TAILQ_INSERT_TAIL(&control->peers, peer, link);
	control->count++;
	uv_timer_stop(&control->lonely);
	send_message(peer, rpc_notification("machine.changed",
					    machine_current(control->machine)));
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
	struct control *control = poll->data;
	int fd;

	(void)events;
	if (status < 0)
		return;
	while ((fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		add_peer(control, fd);
}

int control_new(struct machine *machine, int listen_fd, struct control **ret_control)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control) {
		close(listen_fd);
		return -ENOMEM;
	}
	control->machine = machine;
	control->listen_fd = listen_fd;
	control->owner = geteuid();
	TAILQ_INIT(&control->peers);
	uv_poll_init(machine->loop, &control->listen, listen_fd);
	uv_timer_init(machine->loop, &control->lonely);
	control->listen.data = control->lonely.data = control;
	uv_poll_start(&control->listen, UV_READABLE, on_listen);
	uv_timer_start(&control->lonely, on_lonely, LONELY_MS, 0);
	*ret_control = control;
	return 0;
}

void control_tell(struct control *control, json_object *report)
{
	struct peer *peer;

	TAILQ_FOREACH(peer, &control->peers, link)
		send_message(peer, rpc_notification("machine.changed", json_object_get(report)));
	json_object_put(report);
}

bool control_ask(struct control *control, const char *what, json_object *params)
{
	struct peer *peer = TAILQ_LAST(&control->peers, peers);

	if (peer)
		send_message(peer, rpc_notification(what, params));
	else
		json_object_put(params);
	return peer;
}

void control_stop(struct control *control)
{
	struct peer *peer;

	if (control->stopped)
		return;
	control->stopped = true;
	while ((peer = TAILQ_FIRST(&control->peers)))
		drop(peer);
	uv_close((uv_handle_t *)&control->listen, NULL);
	uv_close((uv_handle_t *)&control->lonely, NULL);
}

struct control *control_free(struct control *control)
{
	if (!control)
		return NULL;
	close(control->listen_fd);
	free(control);
	return NULL;
}
