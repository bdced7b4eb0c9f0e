/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - the daemon's end of one vmxd-machine: its process and its control socket.
 *
 * The machine listens on RUNTIME/vm/NAME/control.sock, so that a new daemon reaches it exactly as
 * the one that started it did. It leaves its end in status.json beside it. Loop thread.
 */
#ifndef DAEMON_LINK_H
#define DAEMON_LINK_H

#include "daemon/config.h"
#include "daemon/vm.h"

/* An order was taken (error NULL; result borrowed) or refused, or the machine ended
 * first (error->reason "ended"). Called once, never from link_request() itself. */
typedef void link_done_fn(struct vm *vm, void *opaque, json_object *result,
			  const struct rpc_error *error);

/* Starts a process for vm, with files handed over (still the caller's), and connects.
 * *ret_console (if not NULL) gets a descriptor attached to the console before anything runs.
 * -EINVAL with *error. */
int link_launch(struct vm *vm, const struct config_files *files, int *ret_console,
		struct rpc_error *error);
/* Looks for a process that an earlier daemon started: 0 and vm->link is set (its report comes
 * soon); -ENOENT: none, and *ret_final is what it left (owned; NULL: nothing). */
int link_adopt(struct vm *vm, json_object **ret_final);
/* Lets go of a machine, which goes on. */
void link_free(struct link *link);

/* Sends an order. params is taken over. done may be NULL. -ENOTCONN, -ENOMEM, -EBUSY (too many
 * are waiting already). */
int link_request(struct link *link, const char *method, json_object *params, link_done_fn *done,
		 void *opaque);
/* The same with a descriptor beside it (-1: none), or n, always taken over; params says how many. */
int link_request_fd(struct link *link, const char *method, json_object *params, int fd,
		    link_done_fn *done, void *opaque);
int link_request_fds(struct link *link, const char *method, json_object *params, const int *fds,
		     size_t n, link_done_fn *done, void *opaque);
/* SIGKILLs the process if it lives so much longer. */
void link_kill_after(struct link *link, unsigned ms);
pid_t link_pid(const struct link *link);
/* A new descriptor (blocking) attached to the console, or a negative errno. */
int link_attach(struct vm *vm);
/* Where the console's socket is; the caller frees. */
char *link_console_path(const struct vm *vm);
/* Removes what a process that has ended left in the runtime directory. */
void link_clean(const struct vm *vm);

#endif
