/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A path that does not fit sun_path goes by way of its directory in /proc/self/fd. *ret_dirfd is to
 * be closed after use (-1: none). */
static int make_address(const char *path, struct sockaddr_un *addr, int *ret_dirfd)
{
	const char *base;
	char *dir;
	int fd, n;

	*ret_dirfd = -1;
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if (!*path)
		return -ENOENT;
	if (strlen(path) < sizeof(addr->sun_path)) {
		memcpy(addr->sun_path, path, strlen(path) + 1);
		return 0;
	}
	base = strrchr(path, '/');
	if (!base)
		return -ENAMETOOLONG;
	dir = strndup(path, (size_t)(base - path) + 1);
	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (fd < 0)
		return -errno;
	n = snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d%s", fd, base);
	if (n >= (int)sizeof(addr->sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	*ret_dirfd = fd;
	return 0;
}

int unix_connect(const char *path, int nonblock)
{
	struct sockaddr_un addr;
	int dirfd, sock, r = make_address(path, &addr, &dirfd);

	if (r < 0)
		return r;
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0);
	if (sock < 0)
		r = -errno;
	else if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = -errno;
	if (r < 0 && sock >= 0)
		close(sock);
	if (dirfd >= 0)
		close(dirfd);
	return r < 0 ? r : sock;
}

int unix_listen(const char *path, mode_t mode, int backlog)
{
	struct sockaddr_un addr;
	int dirfd, sock, r = make_address(path, &addr, &dirfd);

	if (r < 0)
		return r;
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0) {
		r = -errno;
		goto out;
	}
	/* Nobody may connect before the mode is right: the socket's own mode masks the file's. */
	if (fchmod(sock, mode) < 0 || (unlink(addr.sun_path) < 0 && errno != ENOENT) ||
	    bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    chmod(addr.sun_path, mode) < 0 || listen(sock, backlog) < 0)
		r = -errno;
	if (r < 0)
		close(sock);
out:
	if (dirfd >= 0)
		close(dirfd);
	return r < 0 ? r : sock;
}

ssize_t unix_send(int sock, const void *bytes, size_t len, int fd)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.space);
	}
	do
		n = sendmsg(sock, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void take_fds(struct msghdr *message, int *ret_fd)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
}

ssize_t unix_recv(int sock, void *bytes, size_t len, int *ret_fd)
{
	struct iovec iov = { .iov_base = bytes, .iov_len = len };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control.space) };
	ssize_t n;

	*ret_fd = -1;
	do
		n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&message, ret_fd);
	return n;
}
