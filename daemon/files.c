/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int files_mkdir(const char *path, mode_t mode)
{
	char *copy = strdup(path);
	struct stat st;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; r == 0; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			r = -errno;
		*p = c;
		if (!c)
			break;
	}
	free(copy);
	if (r < 0)
		return r;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The directory entry must reach the disk too. */
static void sync_dir_of(const char *path)
{
	char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
	int fd;

	if (slash) {
		*slash = '\0';
		fd = open(*copy ? copy : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			fsync(fd);
			close(fd);
		}
	}
	free(copy);
}

int files_write(const char *path, const char *bytes, size_t len, bool durable)
{
	char *temporary;
	int fd, r;

	if (asprintf(&temporary, "%s.new", path) < 0)
		return -ENOMEM;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		goto out;
	}
	r = write_all(fd, bytes, len);
	if (r == 0 && durable && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	else if (durable)
		sync_dir_of(path);
out:
	free(temporary);
	return r;
}

int files_read(const char *path, size_t max, char **ret_bytes, size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r = 0;
	char *bytes;
	size_t n = 0;

	if (fd < 0)
		return -errno;
	bytes = malloc(max + 2);
	if (!bytes)
		r = -ENOMEM;
	while (r == 0 && n <= max) {
		ssize_t got = read(fd, bytes + n, max + 1 - n);

		if (got == 0)
			break;
		if (got > 0)
			n += (size_t)got;
		else if (errno != EINTR)
			r = -errno;
	}
	if (r == 0 && n > max)
		r = -EFBIG;
	close(fd);
	if (r < 0) {
		free(bytes);
		return r;
	}
	bytes[n] = '\0';
	*ret_bytes = bytes;
	if (ret_len)
		*ret_len = n;
	return 0;
}

int files_lock(const char *path, pid_t *ret_pid)
{
	char text[32] = "";
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	ssize_t n;

	*ret_pid = 0;
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int r = errno == EWOULDBLOCK ? -EBUSY : -errno;

		n = pread(fd, text, sizeof(text) - 1, 0);
		if (n > 0)
			*ret_pid = (pid_t)strtol(text, NULL, 10);
		close(fd);
		return r;
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
		/* The lock holds all the same; only the pid in it is for people. */
	}
	return fd;
}

unsigned long long files_process_start(pid_t pid)
{
	char path[64], *text, *p;
	unsigned long long start = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (files_read(path, 4096, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')'); /* the name before it may hold anything */
	/* Fields 3 to 21 (proc(5)), then starttime; a zombie has ended. */
	if (p && p[1] && p[2] != 'Z' &&
	    sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			  "%*d %*d %llu", &start) != 1)
		start = 0;
	free(text);
	return start;
}
