/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/batch.h"
#include "daemon/conn.h"

static void finish(struct call *call, json_object *message, int fd)
{
	struct conn *conn = call->conn;

	if (!call->answer) {
		json_object_put(message);
		message = NULL;
	}
	if (call->batch) {
		batch_add(call->batch, message);
	} else if (conn && message) {
		conn_send(conn, message, fd);
		fd = -1;
	} else {
		json_object_put(message);
	}
	if (fd >= 0)
		close(fd);
	if (conn) {
		LIST_REMOVE(call, link);
		conn_call_done(conn);
	}
	json_object_put(call->id);
	json_object_put(call->params);
	free(call);
}

void call_reply_fd(struct call *call, json_object *result, int fd)
{
	finish(call, call->answer ? rpc_reply(call->id, json_object_get(result)) : NULL, fd);
	json_object_put(result);
}

void call_reply(struct call *call, json_object *result)
{
	call_reply_fd(call, result, -1);
}

void call_fail(struct call *call, const struct rpc_error *error)
{
	finish(call, call->answer ? rpc_error_reply(call->id, error) : NULL, -1);
}

void call_failf(struct call *call, enum rpc_code code, const char *field, const char *fmt, ...)
{
	struct rpc_error error;
	char text[sizeof(error.message)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	rpc_fail(&error, code, NULL, field, "%s", text);
	call_fail(call, &error);
}

void call_keep(struct call *call, call_gone_fn *gone, void *opaque)
{
	call->gone = gone;
	call->gone_opaque = opaque;
}
