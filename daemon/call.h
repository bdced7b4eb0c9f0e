/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call.h - one request of a peer, from dispatch until its answer.
 *
 * A handler gets a call whose parameters passed the method's schema. It must end it exactly once,
 * now or later, with call_reply(), call_reply_fd() or call_fail(); the call is freed by that. A call
 * kept for later outlives its connection: then the `gone` function is called, which must forget the
 * call and end it.
 */
#ifndef DAEMON_CALL_H
#define DAEMON_CALL_H

#include "daemon/daemon.h"
#include "protocol/methods.h"

typedef void call_gone_fn(struct call *call, void *opaque);

struct batch;

struct call {
	struct daemon *daemon;
	struct conn *conn;       /* NULL: the peer is gone, or it is the daemon's own */
	struct batch *batch;     /* NULL: not part of one */
	json_object *id;         /* owned */
	bool answer;             /* false: a notification */
	json_object *params;     /* owned; may be NULL */
	const struct method *method;
	call_gone_fn *gone;
	void *gone_opaque;
	LIST_ENTRY(call) link;   /* of conn */
};

/* result is taken over. */
void call_reply(struct call *call, json_object *result);
/* fd is taken over; it goes to the peer beside the answer. */
void call_reply_fd(struct call *call, json_object *result, int fd);
void call_fail(struct call *call, const struct rpc_error *error);
/* call_fail() with an error made here. */
void call_failf(struct call *call, enum rpc_code code, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Keeps the call for later: gone is called if the connection ends first. */
void call_keep(struct call *call, call_gone_fn *gone, void *opaque);

typedef void method_fn(struct daemon *daemon, struct call *call);
/* Runs the handler of call->method (methods_vm.c, methods_daemon.c). */
void methods_dispatch(struct daemon *daemon, enum method_id id, struct call *call);

#endif
