/* SPDX-License-Identifier: Apache-2.0 */
/* waiter.h - calls that are answered when a VM has come to a state. */
#ifndef DAEMON_WAITER_H
#define DAEMON_WAITER_H

#include "daemon/call.h"
#include "daemon/vm.h"

enum waiter_kind {
	WAIT_START,  /* vm.start: the guest runs, or could not */
	WAIT_END,    /* vm.wait, vm.kill: it has ended */
	WAIT_STOP,   /* vm.stop: the same, by force after the time */
	WAIT_PAUSE,
	WAIT_RESUME,
	WAIT_ACCEPTED, /* vm.reset: the machine took the order */
};

/* Keeps call until vm comes there. timeout_s < 0: no limit. -ENOMEM: the call has failed. */
int waiter_add(struct vm *vm, struct call *call, enum waiter_kind kind, double timeout_s);
/* Does vm.start's caller want a descriptor of the console? Gives it one (taken over). */
bool waiter_wants_console(const struct vm *vm);
void waiter_give_console(struct vm *vm, int fd);
/* vm's state changed. */
void waiters_check(struct vm *vm);
/* All of that kind fail. */
void waiters_fail(struct vm *vm, enum waiter_kind kind, const struct rpc_error *error);
/* The first of that kind is answered, or fails (error not NULL). */
void waiters_accepted(struct vm *vm, enum waiter_kind kind, const struct rpc_error *error);
/* vm goes away: all that are left fail. */
void waiters_drop(struct vm *vm);

#endif
