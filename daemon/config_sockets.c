/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_sockets.c - sockets and terminals that a VM's devices have beside it: made when it starts,
 * handed to its process, removed when it has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config.h"
#include "protocol/unix.h"

int config_hand(struct config_files *files, const char *kind, size_t index, int fd,
		struct rpc_error *error)
{
	if (files->handed_count == CONFIG_HANDED_MAX) {
		close(fd);
		return rpc_fail(error, RPC_INVALID_PARAMS, "too-many", kind,
				"%s: more descriptors than a VM may have", kind);
	}
	files->handed[files->handed_count++] =
		(struct config_handed){ .fd = fd, .kind = kind, .index = index };
	return 0;
}

static int socket_error(struct rpc_error *error, const char *field, const char *path, int err)
{
	rpc_fail(error, RPC_INVALID_PARAMS, "not-usable", field, "%s: %s: %s", field, path,
		 strerror(err));
	error->err = err;
	return -EINVAL;
}

/* A socket that nobody listens on any more may be replaced, and nothing else. */
static int check_place(const char *path, const char *field, struct rpc_error *error)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : socket_error(error, field, path, errno);
	if (!S_ISSOCK(st.st_mode))
		return rpc_fail(error, RPC_INVALID_PARAMS, "exists", field,
				"%s: %s is there and is no socket; give another path or remove it",
				field, path);
	fd = unix_connect(path, 1);
	if (fd < 0 && fd != -EAGAIN)
		return 0;
	if (fd >= 0)
		close(fd);
	return rpc_fail(error, RPC_BUSY, "socket-in-use", field,
			"%s: another program listens on %s", field, path);
}

static int add_socket(struct config_files *files, const char *kind, size_t index,
		      const char *field, const char *path, bool make, struct rpc_error *error)
{
	int r = check_place(path, field, error), fd;

	if (r < 0 || !make)
		return r;
	fd = unix_listen(path, 0600, 16);
	return fd < 0 ? socket_error(error, field, path, -fd)
		      : config_hand(files, kind, index, fd, error);
}

/* A terminal, and a link to its name at `path`. Its other side stays open in the VM's process, so
 * that the terminal does not hang up when a program closes it. */
static int add_terminal(struct config_files *files, size_t index, const char *field,
			const char *path, bool make, struct rpc_error *error)
{
	struct stat st;
	char name[64];
	int master, slave = -1, r = 0;

	if (lstat(path, &st) == 0 && !S_ISLNK(st.st_mode))
		return rpc_fail(error, RPC_INVALID_PARAMS, "exists", field,
				"%s: %s is there and is no link; give another path or remove it",
				field, path);
	if (!make)
		return 0;
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0 ||
	    (slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0 ||
	    (unlink(path) < 0 && errno != ENOENT) || symlink(name, path) < 0)
		r = socket_error(error, field, path, errno);
	if (r == 0) {
		r = config_hand(files, "port", index, master, error);
		master = -1;
	}
	if (r == 0)
		r = config_hand(files, "terminal", index, slave, error);
	else if (slave >= 0)
		close(slave);
	if (master >= 0)
		close(master);
	return r;
}

static int add_port(json_object *port, size_t index, bool make, struct config_files *files,
		    struct rpc_error *error)
{
	const char *socket = json_get_str(port, "socket", NULL);
	const char *pty = json_get_str(port, "pty", NULL);
	char field[48];

	snprintf(field, sizeof(field), "ports[%zu]", index);
	if (!socket == !pty)
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", field,
				"%s: needs either \"socket\" or \"pty\"", field);
	snprintf(field, sizeof(field), "ports[%zu].%s", index, socket ? "socket" : "pty");
	return socket ? add_socket(files, "port", index, field, socket, make, error)
		      : add_terminal(files, index, field, pty, make, error);
}

int config_open_sockets(json_object *config, bool make, struct config_files *files,
			struct rpc_error *error)
{
	json_object *ports = json_get(config, "ports"), *vsock = json_get(config, "vsock");
	size_t n = ports ? json_object_array_length(ports) : 0;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		json_object *port = json_object_array_get_idx(ports, i);
		const char *name = json_get_str(port, "name", "");

		for (size_t k = 0; k < i; k++)
			if (!strcmp(name, json_get_str(json_object_array_get_idx(ports, k), "name",
						       "")))
				return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", "ports",
						"ports: two are called \"%s\"", name);
		r = add_port(port, i, make, files, error);
	}
	if (r == 0 && vsock)
		r = add_socket(files, "vsock", 0, "vsock.path", json_get_str(vsock, "path", ""),
			       make, error);
	return r;
}

static void remove_if(const char *path, mode_t kind)
{
	struct stat st;

	if (path && lstat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind)
		(void)unlink(path);
}

void config_remove_sockets(json_object *config)
{
	json_object *ports = json_get(config, "ports");
	size_t n = ports ? json_object_array_length(ports) : 0;

	for (size_t i = 0; i < n; i++) {
		json_object *port = json_object_array_get_idx(ports, i);

		remove_if(json_get_str(port, "socket", NULL), S_IFSOCK);
		remove_if(json_get_str(port, "pty", NULL), S_IFLNK);
	}
	if (json_get(config, "vsock"))
		remove_if(json_get_str(json_get(config, "vsock"), "path", NULL), S_IFSOCK);
}
