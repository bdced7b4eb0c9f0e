/* SPDX-License-Identifier: Apache-2.0 */
/* conn.h - one client's connection: reads requests, answers them, sends events. */
#ifndef DAEMON_CONN_H
#define DAEMON_CONN_H

#include "daemon/call.h"
#include "daemon/stream.h"

struct conn {
	struct daemon *daemon;
	struct stream *stream;
	uid_t uid;
	pid_t pid;
	bool may_write;
	bool held;               /* nothing more is read from it for now */
	bool ended;              /* the peer sends no more */
	bool closing;            /* freed as soon as the loop lets go */
	uint64_t finish_by_ns;   /* != 0: to be closed once flushed, or then */
	unsigned pending;        /* calls not answered yet */
	LIST_HEAD(, call) calls;
	bool subscribed;
	uint64_t next_event;     /* to be sent next */
	TAILQ_ENTRY(conn) link;  /* of the server */
};

/* Takes fd over (also on an error). The connection lives by itself from here on. */
int conn_new(struct daemon *daemon, int fd, struct conn **ret_conn);
void conn_close(struct conn *conn);
/* Sends a message (taken over; NULL does nothing). fd: -1 or taken over. */
void conn_send(struct conn *conn, json_object *message, int fd);
/* Handles requests again, if it was held and need not be any more. */
void conn_resume(struct conn *conn);
/* A call of this connection ended. */
void conn_call_done(struct conn *conn);
/* Now and then: closes what is half, over or gone. */
void conn_sweep(struct conn *conn, uint64_t now_ns);
/* Sends the events that are due, as far as the peer reads them. */
void conn_push_events(struct conn *conn);

#endif
