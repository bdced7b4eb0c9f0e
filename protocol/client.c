/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "protocol/frame.h"
#include "protocol/unix.h"

#define KEPT_MAX 65536 /* messages kept while waiting for an answer */

struct client {
	int sock;
	int received_fd;
	int interrupt_fd;
	int64_t last_id;
	struct frame frame;
	json_object *kept; /* array of messages nobody has asked for yet */
	size_t kept_at;
	bool holding;
	char *held;        /* requests gathered, as sent */
	size_t held_len;
};

int client_new(const char *path, struct client **ret_client)
{
	struct client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	client->received_fd = client->interrupt_fd = -1;
	frame_init(&client->frame);
	client->sock = r = unix_connect(path, 0);
	if (r >= 0 && !(client->kept = json_object_new_array()))
		r = -ENOMEM;
	if (r < 0) {
		client_free(client);
		return r;
	}
	*ret_client = client;
	return 0;
}

struct client *client_free(struct client *client)
{
	if (!client)
		return NULL;
	if (client->sock >= 0)
		close(client->sock);
	if (client->received_fd >= 0)
		close(client->received_fd);
	frame_deinit(&client->frame);
	free(client->held);
	json_object_put(client->kept);
	free(client);
	return NULL;
}

int client_fd(const struct client *client)
{
	return client->sock;
}

void client_interrupt(struct client *client, int fd)
{
	client->interrupt_fd = fd;
}

int client_take_fd(struct client *client)
{
	int fd = client->received_fd;

	client->received_fd = -1;
	return fd;
}

static int send_all(int sock, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = unix_send(sock, bytes, len, -1);

		if (n < 0)
			return (int)n;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* One line, now or with the others that are gathered. */
static int send_line(struct client *client, const char *text)
{
	size_t len = strlen(text);
	char *held = realloc(client->held, client->held_len + len + 1);

	if (!held)
		return -ENOMEM;
	memcpy(held + client->held_len, text, len);
	held[client->held_len + len] = '\n';
	client->held = held;
	client->held_len += len + 1;
	return client->holding ? 0 : client_hold(client, false);
}

int client_hold(struct client *client, bool hold)
{
	int r = 0;

	client->holding = hold;
	if (!hold) {
		r = send_all(client->sock, client->held, client->held_len);
		client->held_len = 0;
	}
	return r;
}

int64_t client_send(struct client *client, const char *method, json_object *params)
{
	int64_t id = ++client->last_id;
	json_object *message = rpc_request_new(id, method, params);
	const char *text = message ? json_text(message) : NULL;
	int r;

	if (!text) {
		json_object_put(message);
		return -ENOMEM;
	}
	r = send_line(client, text);
	json_object_put(message);
	return r < 0 ? r : id;
}

/* Reads once. */
static int read_more(struct client *client, int timeout_ms)
{
	struct pollfd p[] = { { .fd = client->sock, .events = POLLIN },
			      { .fd = client->interrupt_fd, .events = POLLIN } };
	char *space;
	size_t size;
	ssize_t n;
	int r, fd;

	r = poll(p, ARRAY_SIZE(p), timeout_ms);
	if (r == 0)
		return -ETIMEDOUT;
	if (r < 0)
		return -errno;
	if (!p[0].revents)
		return -EINTR;
	r = frame_space(&client->frame, &space, &size);
	if (r < 0)
		return r;
	n = unix_recv(client->sock, space, size, &fd);
	if (fd >= 0) {
		if (client->received_fd >= 0)
			close(client->received_fd);
		client->received_fd = fd;
	}
	if (n <= 0)
		return n < 0 ? (int)n : -ECONNRESET;
	frame_commit(&client->frame, (size_t)n);
	return 0;
}

/* The next message from the wire. */
static int wire_next(struct client *client, int timeout_ms, json_object **ret_message)
{
	uint64_t until = timeout_ms < 0 ? 0 : clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;

	for (;;) {
		char *line;
		size_t len;
		int r = frame_next(&client->frame, &line, &len), wait_ms = timeout_ms;

		if (r < 0)
			return r;
		if (r == 1 && len == 0)
			continue;
		if (r == 1)
			return json_parse(line, len, ret_message, NULL, 0);
		if (timeout_ms > 0) {
			uint64_t now = clock_monotonic_ns();

			wait_ms = now >= until ? 0 : (int)((until - now + 999999) / 1000000);
		}
		r = read_more(client, wait_ms);
		if (r < 0)
			return r;
	}
}

int client_next(struct client *client, int timeout_ms, json_object **ret_message)
{
	size_t n = json_object_array_length(client->kept);

	if (client->kept_at < n) {
		*ret_message = json_object_get(
			json_object_array_get_idx(client->kept, client->kept_at++));
		if (client->kept_at == n) {
			json_object_array_del_idx(client->kept, 0, n);
			client->kept_at = 0;
		}
		return 0;
	}
	return wire_next(client, timeout_ms, ret_message);
}

int client_answer(json_object *message, int64_t id, json_object **ret_result,
		  struct rpc_error *error)
{
	json_object *member = json_get(message, "id"), *body;

	/* An error with id null answers the last line sent: the daemon could not read it. */
	if (json_object_object_get_ex(message, "error", &body)) {
		if (member && json_object_get_int64(member) != id)
			return -ENOMSG;
		rpc_error_parse(body, error);
		return -EREMOTE;
	}
	if (!member || json_get_int(message, "id", 0) != id)
		return -ENOMSG;
	*ret_result = json_object_get(json_get(message, "result"));
	return 0;
}

int client_wait(struct client *client, int64_t id, int timeout_ms, json_object **ret_result,
		struct rpc_error *error)
{
	*ret_result = NULL;
	if (id < 0)
		return (int)id;
	for (;;) {
		json_object *message;
		int r = wire_next(client, timeout_ms, &message);

		if (r < 0)
			return r;
		r = client_answer(message, id, ret_result, error);
		if (r == -ENOMSG && json_object_array_length(client->kept) < KEPT_MAX) {
			if (json_object_array_add(client->kept, message) < 0)
				json_object_put(message);
			continue;
		}
		json_object_put(message);
		if (r != -ENOMSG)
			return r;
	}
}

int client_call(struct client *client, const char *method, json_object *params, int timeout_ms,
		json_object **ret_result, struct rpc_error *error)
{
	return client_wait(client, client_send(client, method, params), timeout_ms, ret_result,
			   error);
}
