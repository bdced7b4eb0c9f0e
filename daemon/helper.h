/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper.h - programs that work beside a VM's process and end by themselves when that does: vmxd-slirp,
 * virtiofsd. They outlive the daemon. Loop thread.
 */
#ifndef DAEMON_HELPER_H
#define DAEMON_HELPER_H

#include "daemon/vm.h"

#define HELPER_FD 3 /* the first of its descriptors */
#define HELPER_FDS_MAX 2

/* Starts path with args (args[0]: its name for the log; ends with NULL), nothing of the daemon's
 * surroundings, and n descriptors, still the caller's, from HELPER_FD on. -ENOMEM, or what exec says. */
int helper_spawn(struct vm *vm, const char *path, char **args, const int *fds, int n);
/* The daemon ends: lets go of them, which go on. */
void helpers_forget(struct daemon *daemon);

#endif
