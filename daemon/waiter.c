/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/waiter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct waiter {
	struct vm *vm;
	struct call *call; /* NULL: done, only the timer's end is awaited */
	enum waiter_kind kind;
	bool forced;
	int console_fd;
	uv_timer_t timer;
	LIST_ENTRY(waiter) link;
};

static void on_closed(uv_handle_t *handle)
{
	struct waiter *w = handle->data;

	if (w->console_fd >= 0)
		close(w->console_fd);
	free(w);
}

/* Takes it out of the list; the call is the caller's to end. */
static struct call *detach(struct waiter *w)
{
	struct call *call = w->call;

	w->call = NULL;
	LIST_REMOVE(w, link);
	uv_close((uv_handle_t *)&w->timer, on_closed);
	return call;
}

static void on_gone(struct call *call, void *opaque)
{
	detach(opaque);
	call_reply(call, NULL);
}

static void on_timeout(uv_timer_t *timer)
{
	struct waiter *w = timer->data;

	if (w->kind == WAIT_STOP) {
		w->forced = true;
		vm_kill(w->vm);
	} else {
		const char *name = w->vm->name;
		enum vm_state state = w->vm->state;

		call_failf(detach(w), RPC_TIMEOUT, "timeout_s", "%s is still %s", name,
			   vm_state_name(state));
	}
}

int waiter_add(struct vm *vm, struct call *call, enum waiter_kind kind, double timeout_s)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w) {
		call_failf(call, RPC_INTERNAL, NULL, "out of memory");
		return -ENOMEM;
	}
	w->vm = vm;
	w->call = call;
	w->kind = kind;
	w->console_fd = -1;
	uv_timer_init(vm->daemon->loop, &w->timer);
	w->timer.data = w;
	LIST_INSERT_HEAD(&vm->waiters, w, link);
	call_keep(call, on_gone, w);
	if (timeout_s >= 0)
		uv_timer_start(&w->timer, on_timeout, (uint64_t)(timeout_s * 1000), 0);
	return 0;
}

static struct waiter *find_start(const struct vm *vm)
{
	struct waiter *w;

	LIST_FOREACH(w, &vm->waiters, link)
		if (w->kind == WAIT_START)
			return w;
	return NULL;
}

bool waiter_wants_console(const struct vm *vm)
{
	struct waiter *w = find_start(vm);

	return w && json_get_bool(w->call->params, "console", false);
}

void waiter_give_console(struct vm *vm, int fd)
{
	struct waiter *w = find_start(vm);

	if (w && w->console_fd < 0)
		w->console_fd = fd;
	else
		close(fd);
}

static json_object *stop_result(const struct vm *vm, bool forced)
{
	json_object *result = json_object_new_object();

	json_add_bool(result, "forced", forced);
	json_add(result, "vm", vm_info(vm, false));
	return result;
}

/* The start of a VM that has ended already: did the guest run, or could it not? */
static void finish_start(struct waiter *w)
{
	struct vm *vm = w->vm;
	int code = RPC_BOOT_ERROR, fd;
	char field[16] = "";
	struct rpc_error error;

	if (vm->ran || vm->state == VM_RUNNING) {
		fd = w->console_fd;
		w->console_fd = -1;
		call_reply_fd(detach(w), vm_info(vm, false), fd);
		return;
	}
	if (strcmp(vm->reason, "machine-died") == 0)
		code = RPC_MACHINE_DIED;
	else if (strcmp(vm->reason, "engine-error") == 0)
		code = RPC_NO_ENGINE;
	else if (strcmp(vm->reason, "killed") == 0)
		code = RPC_WRONG_STATE;
	sscanf(vm->detail, "%15[a-z]:", field);
	if (!vm->detail[0] || vm->detail[strlen(field)] != ':')
		field[0] = '\0';
	rpc_fail(&error, code, NULL, field, "%s could not start: %s", vm->name,
		 vm->detail[0] ? vm->detail : vm->reason);
	call_fail(detach(w), &error);
}

static void fail_ended(struct waiter *w)
{
	struct vm *vm = w->vm;

	call_failf(detach(w), RPC_WRONG_STATE, NULL, "%s has ended: %s", vm->name, vm->reason);
}

static void check(struct waiter *w)
{
	struct vm *vm = w->vm;
	bool ended = vm_ended(vm), forced = w->forced;

	switch (w->kind) {
	case WAIT_START:
		if (ended || vm->state == VM_RUNNING || vm->state == VM_PAUSED)
			finish_start(w);
		break;
	case WAIT_END:
		if (ended)
			call_reply(detach(w), vm_info(vm, false));
		break;
	case WAIT_STOP:
		if (ended)
			call_reply(detach(w), stop_result(vm, forced));
		break;
	case WAIT_PAUSE:
		if (vm->state == VM_PAUSED)
			call_reply(detach(w), vm_info(vm, false));
		else if (ended)
			fail_ended(w);
		break;
	case WAIT_RESUME:
		if (vm->state == VM_RUNNING)
			call_reply(detach(w), vm_info(vm, false));
		else if (ended)
			fail_ended(w);
		break;
	case WAIT_ACCEPTED:
		if (ended)
			fail_ended(w);
		break;
	}
}

void waiters_check(struct vm *vm)
{
	struct waiter *w, *next;

	/* Ending a call may free others of its connection only later, through the loop. */
	for (w = LIST_FIRST(&vm->waiters); w; w = next) {
		next = LIST_NEXT(w, link);
		check(w);
	}
}

void waiters_fail(struct vm *vm, enum waiter_kind kind, const struct rpc_error *error)
{
	struct waiter *w, *next;

	for (w = LIST_FIRST(&vm->waiters); w; w = next) {
		next = LIST_NEXT(w, link);
		if (w->kind == kind)
			call_fail(detach(w), error);
	}
}

void waiters_accepted(struct vm *vm, enum waiter_kind kind, const struct rpc_error *error)
{
	struct waiter *w, *oldest = NULL;

	LIST_FOREACH(w, &vm->waiters, link)
		if (w->kind == kind)
			oldest = w; /* new ones are put in front */
	if (!oldest)
		return;
	if (error)
		call_fail(detach(oldest), error);
	else
		call_reply(detach(oldest), vm_info(vm, false));
}

void waiters_drop(struct vm *vm)
{
	struct waiter *w;

	while ((w = LIST_FIRST(&vm->waiters)))
		call_failf(detach(w), RPC_NO_SUCH_VM, "name", "%s is gone", vm->name);
}
