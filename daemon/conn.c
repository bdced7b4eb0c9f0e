/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "daemon/batch.h"
#include "daemon/events.h"
#include "daemon/server.h"

#define QUEUE_HIGH ((size_t)256 * 1024) /* bytes not read by the peer: no more work for it */
#define PENDING_MAX 128u                /* calls not answered */
#define HALF_LINE_NS (30 * NSEC_PER_SEC)
#define FINISH_NS (10 * NSEC_PER_SEC)

/* Nothing more is done for a peer that does not read, or that has asked for much already. */
static bool overloaded(const struct conn *conn)
{
	return stream_queued(conn->stream) > QUEUE_HIGH || conn->pending >= PENDING_MAX;
}

/* Going on means handling requests, which must not happen in the middle of whatever ended a call:
 * the server does it, from the loop. */
static void update_hold(struct conn *conn)
{
	if (conn->closing)
		return;
	if (overloaded(conn)) {
		conn->held = true;
		stream_hold(conn->stream, true);
	} else if (conn->held) {
		server_resume(conn->daemon->server);
	}
}

void conn_resume(struct conn *conn)
{
	if (conn->closing || !conn->held || overloaded(conn))
		return;
	conn->held = false;
	stream_hold(conn->stream, false);
}

void conn_send(struct conn *conn, json_object *message, int fd)
{
	const char *text;
	size_t len = 0;

	if (!message || conn->closing) {
		json_object_put(message);
		if (fd >= 0)
			close(fd);
		return;
	}
	text = json_object_to_json_string_length(message, JSON_C_TO_STRING_PLAIN |
						 JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	if (text) {
		/* The text ends in a NUL, which the newline may take the place of: the buffer is
		 * the object's own and is printed anew if it is asked for again. */
		((char *)(uintptr_t)text)[len] = '\n';
		/* Without memory for an answer the peer must not wait for it: the sweep closes. */
		if (stream_send(conn->stream, text, len + 1, fd) == -ENOMEM)
			conn->finish_by_ns = 1;
	} else if (fd >= 0) {
		close(fd);
	}
	json_object_put(message);
	update_hold(conn);
}

static void send_error(struct conn *conn, json_object *id, const struct rpc_error *error)
{
	conn_send(conn, rpc_error_reply(id, error), -1);
}

/* Answers what is left to be answered, then closes. */
static void finish(struct conn *conn)
{
	if (conn->finish_by_ns)
		return;
	conn->finish_by_ns = clock_monotonic_ns() + FINISH_NS;
	stream_discard(conn->stream);
	if (!stream_queued(conn->stream))
		shutdown(stream_fd(conn->stream), SHUT_WR);
}

void conn_call_done(struct conn *conn)
{
	conn->pending--;
	update_hold(conn);
	if (conn->ended && !conn->pending && !stream_queued(conn->stream))
		conn_close(conn);
}

static struct call *call_new(struct conn *conn, struct batch *batch,
			     const struct rpc_request *request, const struct method *method)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->daemon = conn->daemon;
	call->conn = conn;
	call->batch = batch;
	call->id = json_object_get(request->id);
	call->answer = request->has_id;
	call->params = json_object_get(request->params);
	call->method = method;
	LIST_INSERT_HEAD(&conn->calls, call, link);
	conn->pending++;
	return call;
}

/* Everything that can be wrong with a request before its handler sees it. */
static int check(struct conn *conn, struct batch *batch, const struct rpc_request *request,
		 enum method_id *ret_id, struct rpc_error *error)
{
	const struct method *method;

	*ret_id = method_find(request->method);
	if (*ret_id == METHOD_COUNT)
		return rpc_fail(error, RPC_METHOD_NOT_FOUND, NULL, "method",
				"no method \"%.64s\"", request->method);
	method = method_get(*ret_id);
	if (method->access == ACCESS_WRITE && !conn->may_write)
		return rpc_fail(error, RPC_DENIED, NULL, NULL,
				"%s: only the daemon's own user and root may do that",
				method->name);
	if (conn->pending >= 2 * PENDING_MAX) /* by batches: single requests wait for their turn */
		return rpc_fail(error, RPC_LIMIT, "too-many-calls", NULL,
				"more than %u calls of this connection are not answered yet",
				2 * PENDING_MAX);
	if (batch && method->fd && (json_get_bool(request->params, "fd", false) ||
				    json_get_bool(request->params, "console", false)))
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-in-batch", NULL,
				"a descriptor cannot be handed over in a batch");
	return schema_check(method->params, request->params, "", error);
}

static void handle_one(struct conn *conn, struct batch *batch, json_object *message)
{
	struct rpc_request request;
	struct rpc_error error;
	struct call *call;
	enum method_id id = METHOD_COUNT;
	int r = rpc_request_parse(message, &request, &error);

	if (r == 0)
		r = check(conn, batch, &request, &id, &error);
	if (r == 0) {
		call = call_new(conn, batch, &request, method_get(id));
		if (call) {
			methods_dispatch(conn->daemon, id, call);
			return;
		}
		rpc_fail(&error, RPC_INTERNAL, NULL, NULL, "out of memory");
	}
	if (batch)
		batch_add(batch, request.has_id ? rpc_error_reply(request.id, &error) : NULL);
	else if (request.has_id)
		send_error(conn, request.id, &error);
}

static void handle_batch(struct conn *conn, json_object *messages)
{
	size_t n = json_object_array_length(messages);
	struct batch *batch;
	struct rpc_error error;

	if (n < 1 || n > RPC_BATCH_MAX) {
		rpc_fail(&error, RPC_INVALID_REQUEST, n ? "batch-too-long" : "empty-batch", NULL,
			 "a batch has 1 to %d requests", RPC_BATCH_MAX);
		send_error(conn, NULL, &error);
		return;
	}
	batch = batch_new(conn, n);
	if (!batch) {
		conn_close(conn);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (conn->closing)
			batch_add(batch, NULL);
		else
			handle_one(conn, batch, json_object_array_get_idx(messages, i));
	}
}

static void on_line(void *owner, char *line, size_t len)
{
	struct conn *conn = owner;
	json_object *message;
	struct rpc_error error;
	char why[128];

	if (json_parse(line, len, &message, why, sizeof(why)) < 0) {
		rpc_fail(&error, RPC_PARSE_ERROR, NULL, NULL, "not JSON: %s", why);
		send_error(conn, NULL, &error);
		return;
	}
	if (json_object_is_type(message, json_type_array))
		handle_batch(conn, message);
	else
		handle_one(conn, NULL, message);
	json_object_put(message);
}

static void on_oversize(void *owner)
{
	struct conn *conn = owner;
	struct rpc_error error;

	rpc_fail(&error, RPC_INVALID_REQUEST, "line-too-long", NULL,
		 "a line is longer than 1 MiB; the connection ends here");
	send_error(conn, NULL, &error);
	finish(conn);
}

static void on_drained(void *owner)
{
	struct conn *conn = owner;

	if (conn->finish_by_ns)
		shutdown(stream_fd(conn->stream), SHUT_WR);
	if (conn->ended && !conn->pending) {
		conn_close(conn);
		return;
	}
	update_hold(conn);
	if (!conn->closing)
		conn_push_events(conn);
}

static void on_ended(void *owner, bool gone)
{
	struct conn *conn = owner;

	conn->ended = true;
	/* A peer that only shut down its writing side still gets its answers. */
	if (gone || conn->finish_by_ns || (!conn->pending && !stream_queued(conn->stream)))
		conn_close(conn);
}

static void on_released(void *owner)
{
	free(owner);
}

static const struct stream_ops ops = {
	.line = on_line,
	.oversize = on_oversize,
	.drained = on_drained,
	.ended = on_ended,
	.released = on_released,
};

int conn_new(struct daemon *daemon, int fd, struct conn **ret_conn)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int r = -ENOMEM;

	if (!conn)
		goto fail;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		r = -errno;
		goto fail;
	}
	conn->daemon = daemon;
	conn->uid = peer.uid;
	conn->pid = peer.pid;
	conn->may_write = peer.uid == 0 || peer.uid == geteuid();
	LIST_INIT(&conn->calls);
	r = stream_new(daemon->loop, fd, &ops, conn, &conn->stream);
	if (r < 0)
		goto fail;
	log_line(daemon->log, LOG_LEVEL_DEBUG, "client pid %d uid %u connected", (int)conn->pid,
		 (unsigned)conn->uid);
	*ret_conn = conn;
	return 0;
fail:
	close(fd);
	free(conn);
	return r;
}

void conn_close(struct conn *conn)
{
	struct call *call;

	if (conn->closing)
		return;
	conn->closing = true;
	while ((call = LIST_FIRST(&conn->calls))) {
		LIST_REMOVE(call, link);
		call->conn = NULL;
		call->answer = false;
		if (call->batch)
			batch_orphan(call->batch);
		if (call->gone)
			call->gone(call, call->gone_opaque);
	}
	server_forget(conn->daemon->server, conn);
	stream_free(conn->stream);
}

void conn_sweep(struct conn *conn, uint64_t now_ns)
{
	uint64_t since = stream_partial_since(conn->stream);
	struct rpc_error error;

	if (stream_gone(conn->stream) || (conn->finish_by_ns && now_ns > conn->finish_by_ns)) {
		conn_close(conn);
	} else if (since && !conn->finish_by_ns && now_ns - since > HALF_LINE_NS) {
		rpc_fail(&error, RPC_PARSE_ERROR, "half-line", NULL,
			 "a line without an end for %llu s; the connection ends here",
			 HALF_LINE_NS / NSEC_PER_SEC);
		send_error(conn, NULL, &error);
		finish(conn);
	}
}

void conn_push_events(struct conn *conn)
{
	struct events *events = conn->daemon->events;

	while (conn->subscribed && !conn->closing && stream_queued(conn->stream) < QUEUE_HIGH &&
	       conn->next_event < events_next(events)) {
		uint64_t first = events_first(events);

		if (conn->next_event < first) { /* it read too slowly */
			json_object *params = json_object_new_object();

			json_add_int(params, "lost", (int64_t)(first - conn->next_event));
			json_add_int(params, "next", (int64_t)first);
			conn->next_event = first;
			conn_send(conn, rpc_notification("events.lost", params), -1);
			continue;
		}
		conn_send(conn, rpc_notification("event",
						 events_get(events, conn->next_event++)), -1);
	}
}
