/* SPDX-License-Identifier: Apache-2.0 */
/* unix.h - unix stream sockets: paths of any length, descriptors beside the bytes. */
#ifndef PROTOCOL_UNIX_H
#define PROTOCOL_UNIX_H

#include <sys/types.h>

/* Connects to a socket's path, however long it is. A close-on-exec descriptor, blocking unless
 * nonblock (a stream connect to a listener with room never waits), or a negative errno. */
int unix_connect(const char *path, int nonblock);
/* Makes path (replacing what is there) and listens: mode is its permissions. A non-blocking,
 * close-on-exec descriptor or a negative errno. */
int unix_listen(const char *path, mode_t mode, int backlog);
/* send() of at most len bytes with fd (or -1) beside the first. Bytes sent or a negative errno. */
ssize_t unix_send(int sock, const void *bytes, size_t len, int fd);
/* recv() with at most one descriptor (close-on-exec) in *ret_fd, else -1; further ones are closed.
 * Bytes (0 at the end) or a negative errno. */
ssize_t unix_recv(int sock, void *bytes, size_t len, int *ret_fd);

#endif
