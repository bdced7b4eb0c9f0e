/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h - a connected unix socket on the loop: lines in, bytes and descriptors out.
 *
 * Used for clients, for the daemon's end of a machine's control socket, and for the machine's end.
 * Loop thread only. Nothing here waits; what the peer does not read is queued, and stream_queued()
 * tells the owner when to stop asking for more.
 */
#ifndef DAEMON_STREAM_H
#define DAEMON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

struct stream;

struct stream_ops {
	/* One line; it may be changed, and lives until the return. May free the stream. */
	void (*line)(void *owner, char *line, size_t len);
	/* A line is longer than FRAME_LINE_MAX; no more lines will come. May be NULL. */
	void (*oversize)(void *owner);
	/* The queue ran empty. May be NULL. */
	void (*drained)(void *owner);
	/* The peer will send no more. gone: it will not read either. The stream stays until
	 * stream_free(). */
	void (*ended)(void *owner, bool gone);
	/* Descriptors may come beside lines: see stream_take_fd(). Else they are closed. */
	bool fds;
	/* The stream's memory is gone after this: the last call. May be NULL. */
	void (*released)(void *owner);
};

/* Takes fd over on success, and makes it non-blocking. -ENOMEM or what libuv says. */
int stream_new(uv_loop_t *loop, int fd, const struct stream_ops *ops, void *owner,
	       struct stream **ret_stream);
/* Closes; ops->released comes from the loop later. NULL is fine. Queued bytes are dropped. */
void stream_free(struct stream *stream);
/* Queues len bytes, and fd (or -1; always taken over) beside the first. -ENOMEM, -EPIPE. */
int stream_send(struct stream *stream, const char *bytes, size_t len, int fd);
size_t stream_queued(const struct stream *stream);
/* While held, no lines are handed out and nothing more is read. */
void stream_hold(struct stream *stream, bool hold);
/* From now on input is read and thrown away (so that the peer can finish writing). */
void stream_discard(struct stream *stream);
/* When the line that is half here began (monotonic ns); 0: no half line. */
uint64_t stream_partial_since(const struct stream *stream);
/* Has the peer closed both directions? Asks the kernel. */
bool stream_gone(const struct stream *stream);
/* The oldest descriptor that came and was not taken yet, the caller's from now on; -1: none. It came
 * before the line that it belongs to is handed out. */
int stream_take_fd(struct stream *stream);
int stream_fd(const struct stream *stream); /* still the stream's */

#endif
