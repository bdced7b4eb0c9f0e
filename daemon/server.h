/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - the listening socket and the connections that came from it. */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include "daemon/daemon.h"

/* Makes the socket, or takes over listen_fd (>= 0, from the service manager). Negative errno. */
int server_new(struct daemon *daemon, int listen_fd, struct server **ret_server);
/* Begins to accept. */
int server_start(struct server *server);
/* Closes the socket (removing its file if it was made here) and all connections; the memory goes
 * with server_free() after the loop has ended. */
void server_stop(struct server *server);
struct server *server_free(struct server *server);
void server_forget(struct server *server, struct conn *conn);
/* Soon, from the loop: connections that were held go on. */
void server_resume(struct server *server);
void server_push_events(struct server *server); /* NULL is fine */
unsigned server_connections(const struct server *server);

#endif
