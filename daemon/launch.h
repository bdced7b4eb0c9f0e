/* SPDX-License-Identifier: Apache-2.0 */
/* launch.h - what a vmxd-machine is given, and its directory. Used by link.c. */
#ifndef DAEMON_LAUNCH_H
#define DAEMON_LAUNCH_H

#include "daemon/config.h"
#include "daemon/vm.h"

/* Descriptors in the machine, from 3 on; the images come after the fixed ones. */
enum {
	MACHINE_FD_CONFIG = 3,  /* memfd: one JSON object */
	MACHINE_FD_CONTROL = 4, /* listening */
	MACHINE_FD_CONSOLE = 5, /* listening */
	MACHINE_FD_STATUS = 6,  /* its end is written here */
	MACHINE_FD_FILES = 7,   /* kernel, initrd if any, disks (each with its backing), nets; then those of "handed" */
};

struct launch {
	int config, control, console, status;
};

/* RUNTIME/vm/NAME and a file in it; the caller frees. */
char *launch_path(const struct vm *vm, const char *file);
/* Makes the directory, the sockets and the files. -EINVAL with *error. */
int launch_prepare(const struct vm *vm, const struct config_files *files, struct launch *ret,
		   struct rpc_error *error);
void launch_close(struct launch *launch);
/* What the machine is told of one disk, or card, of the configuration; the caller owns it. */
json_object *launch_disk_json(json_object *disk);
json_object *launch_net_json(json_object *net, const struct net_ends *ends);
/* Execs vmxd-machine as a session of its own. Negative errno of libuv. */
int launch_spawn(const struct vm *vm, const struct launch *launch,
		 const struct config_files *files, uv_process_t *process, uv_exit_cb on_exit);
/* The pid file: so that a later daemon knows the process again. */
void launch_write_pid(const struct vm *vm, pid_t pid);
/* The process in the pid file if it still is that one, else 0. */
pid_t launch_read_pid(const struct vm *vm);

#endif
