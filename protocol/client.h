/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - the side that asks: blocking calls over one connection. One thread at a time. */
#ifndef PROTOCOL_CLIENT_H
#define PROTOCOL_CLIENT_H

#include "protocol/rpc.h"

struct client;

/* Connects to a daemon's socket. -ENOENT, -ECONNREFUSED: none there; other errno of connect(). */
int client_new(const char *path, struct client **ret_client);
struct client *client_free(struct client *client); /* NULL is fine; returns NULL */
/* For poll(): readable means client_next() has something to do. Owned by the client. */
int client_fd(const struct client *client);

/* Sends a request; params (may be NULL) is taken over. Returns its id (> 0) or a negative errno. */
int64_t client_send(struct client *client, const char *method, json_object *params);
/* Between client_hold(true) and client_hold(false) requests are gathered, and then sent at once: the
 * daemon has all of them before it does the first. Negative errno from the sending. */
int client_hold(struct client *client, bool hold);
/* The next message from the daemon: the caller owns *ret_message. timeout_ms < 0 waits for ever, 0
 * does not wait. A descriptor that came since is kept for client_take_fd().
 * -ETIMEDOUT; -ECONNRESET at the end; -EBADMSG: the daemon does not speak JSON-RPC. */
int client_next(struct client *client, int timeout_ms, json_object **ret_message);
/* From here on whatever waits for the daemon ends with -EINTR when fd is readable and the daemon has
 * said nothing; a request stays sent, and its answer can be waited for again. fd stays the caller's;
 * -1: no more. */
void client_interrupt(struct client *client, int fd);
/* Request and answer. 0 and *ret_result (caller owns; may be NULL: a null result), or -EREMOTE with
 * *error from the daemon, or another negative errno of the connection. Notifications that come in
 * between are kept for client_next(). */
int client_call(struct client *client, const char *method, json_object *params, int timeout_ms,
		json_object **ret_result, struct rpc_error *error);
/* The same for a request that client_send() sent; a negative id is returned as the error. */
int client_wait(struct client *client, int64_t id, int timeout_ms, json_object **ret_result,
		struct rpc_error *error);
/* Does message answer request id? Then as client_call(); -ENOMSG if it does not. */
int client_answer(json_object *message, int64_t id, json_object **ret_result,
		  struct rpc_error *error);
/* The descriptor that came with an answer; the caller owns it. -1: none. */
int client_take_fd(struct client *client);

#endif
