/* SPDX-License-Identifier: Apache-2.0 */
/* methods_vm.c - the vm.* methods. Parameters have passed the method's schema. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/handlers.h"
#include "daemon/link.h"
#include "daemon/store.h"
#include "daemon/vm.h"
#include "daemon/vsock.h"
#include "daemon/waiter.h"

#define ORDER_TIMEOUT_S 30.0
#define STOP_TIMEOUT_S 30.0

/* The VM that is meant; NULL: there is none, and the call has failed (and is freed). */
static struct vm *find(struct daemon *daemon, struct call *call)
{
	const char *name = json_get_str(call->params, "name", "");
	struct vm *vm = vm_find(daemon, name);

	if (!vm)
		call_failf(call, RPC_NO_SUCH_VM, "name", "no VM \"%s\"", name);
	return vm;
}

static void wrong_state(struct call *call, const struct vm *vm, const char *what)
{
	call_failf(call, RPC_WRONG_STATE, NULL, "%s is %s, so it cannot be %s", vm->name,
		   vm_state_name(vm->state), what);
}

void do_vm_create(struct daemon *daemon, struct call *call)
{
	const char *name = json_get_str(call->params, "name", "");
	struct config_files files;
	struct rpc_error error;
	json_object *event;
	struct vm *vm;
	int r;

	if (vm_find(daemon, name)) {
		call_failf(call, RPC_EXISTS, "name",
			   "there is a VM \"%s\" already: start or delete it, or choose another name",
			   name);
		return;
	}
	if (daemon->vm_count >= DAEMON_VMS_MAX) {
		call_failf(call, RPC_LIMIT, NULL, "there are %u VMs already", daemon->vm_count);
		return;
	}
	if (vsock_settle(daemon, call->params, &error) < 0 ||
	    config_open(call->params, daemon->host_memory, daemon->options.share_roots, false,
			&files, &error) < 0) {
		call_fail(call, &error);
		return;
	}
	config_close(&files);
	r = store_save(daemon, name, call->params);
	if (r == 0) {
		r = vm_add(daemon, json_object_get(call->params), &vm);
		if (r < 0)
			store_remove(daemon, name);
	}
	if (r < 0) {
		rpc_fail(&error, RPC_FAILED, NULL, NULL, "%s cannot be kept in %s: %s", name,
			 daemon->options.state_dir, strerror(-r));
		error.err = -r;
		call_fail(call, &error);
		return;
	}
	log_line(daemon->log, LOG_LEVEL_INFO, "vm %s: created", vm->name);
	event = json_object_new_object();
	json_add_str(event, "vm", vm->name);
	events_add(daemon, "vm.created", event);
	call_reply(call, vm_info(vm, false));
}

void do_vm_start(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);

	if (!vm)
		return;
	if (!vm_ended(vm))
		wrong_state(call, vm, "started");
	else if (json_get_bool(call->params, "console", false) &&
		 strcmp(json_get_str(vm->config, "console", "serial"), "none") == 0)
		call_failf(call, RPC_WRONG_STATE, "console", "%s has no console", vm->name);
	else if (waiter_add(vm, call, WAIT_START, -1) == 0)
		vm_start(vm);
}

void do_vm_stop(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);
	double timeout_s;

	if (!vm)
		return;
	timeout_s = json_get_number(call->params, "timeout_s", STOP_TIMEOUT_S);
	if (vm_ended(vm)) {
		wrong_state(call, vm, "stopped");
		return;
	}
	if (waiter_add(vm, call, WAIT_STOP, timeout_s) == 0)
		vm_stop(vm);
}

void do_vm_kill(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);

	if (!vm)
		return;
	if (vm_ended(vm)) {
		wrong_state(call, vm, "killed");
		return;
	}
	if (waiter_add(vm, call, WAIT_END, -1) == 0)
		vm_kill(vm);
}

struct order_kind {
	const char *method;
	enum waiter_kind wait;
	enum vm_state from, or_from;
	const char *what;
	link_done_fn *done;
};

static void paused_done(struct vm *vm, void *opaque, json_object *result,
			const struct rpc_error *error)
{
	(void)opaque;
	(void)result;
	if (error)
		waiters_accepted(vm, WAIT_PAUSE, error);
}

static void resumed_done(struct vm *vm, void *opaque, json_object *result,
			 const struct rpc_error *error)
{
	(void)opaque;
	(void)result;
	if (error)
		waiters_accepted(vm, WAIT_RESUME, error);
}

static void reset_done(struct vm *vm, void *opaque, json_object *result,
		       const struct rpc_error *error)
{
	(void)opaque;
	(void)result;
	waiters_accepted(vm, WAIT_ACCEPTED, error);
}

static const struct order_kind pause_order = {
	"machine.pause", WAIT_PAUSE, VM_RUNNING, VM_RUNNING, "paused", paused_done,
};
static const struct order_kind resume_order = {
	"machine.resume", WAIT_RESUME, VM_PAUSED, VM_PAUSED, "resumed", resumed_done,
};
static const struct order_kind reset_order = {
	"machine.reset", WAIT_ACCEPTED, VM_RUNNING, VM_PAUSED, "reset", reset_done,
};

static void order(struct daemon *daemon, struct call *call, const struct order_kind *kind)
{
	struct vm *vm = find(daemon, call);
	struct rpc_error error;
	int r;

	if (!vm)
		return;
	if ((vm->state != kind->from && vm->state != kind->or_from) || !vm->link) {
		wrong_state(call, vm, kind->what);
		return;
	}
	if (waiter_add(vm, call, kind->wait, ORDER_TIMEOUT_S) < 0)
		return;
	r = link_request(vm->link, kind->method, NULL, kind->done, NULL);
	if (r < 0) {
		rpc_fail(&error, RPC_BUSY, NULL, NULL, "%s does not take orders: %s", vm->name,
			 strerror(-r));
		waiters_fail(vm, kind->wait, &error);
	}
}

void do_vm_pause(struct daemon *daemon, struct call *call)
{
	order(daemon, call, &pause_order);
}

void do_vm_resume(struct daemon *daemon, struct call *call)
{
	order(daemon, call, &resume_order);
}

void do_vm_reset(struct daemon *daemon, struct call *call)
{
	order(daemon, call, &reset_order);
}

static void resize_done(struct vm *vm, void *opaque, json_object *result,
			const struct rpc_error *error)
{
	(void)vm;
	if (error)
		call_fail(opaque, error);
	else
		call_reply(opaque, json_object_get(result));
}

void do_vm_disk_resize(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);
	int64_t size = (int64_t)json_get_size(call->params, "size", 0);
	json_object *params;

	if (!vm)
		return;
	if (!vm->link) {
		wrong_state(call, vm, "told of a larger disk; qemu-img resize does that");
		return;
	}
	if (size % 512) {
		call_failf(call, RPC_INVALID_PARAMS, "size", "size: not a multiple of 512 bytes");
		return;
	}
	params = json_object_new_object();
	json_add_str(params, "disk", json_get_str(call->params, "disk", ""));
	json_add_int(params, "size", size);
	if (link_request(vm->link, "machine.disk_resize", params, resize_done, call) < 0)
		call_failf(call, RPC_BUSY, NULL, "%s does not answer", vm->name);
}

void do_vm_delete(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);

	if (!vm)
		return;
	if (!vm_ended(vm)) {
		wrong_state(call, vm, "deleted");
		return;
	}
	vm_delete(vm);
	call_reply(call, json_object_new_object());
}

void do_vm_list(struct daemon *daemon, struct call *call)
{
	json_object *result = json_object_new_object(), *list = json_object_new_array();
	struct vm *vm;

	TAILQ_FOREACH(vm, &daemon->vms, entry)
		if (list)
			json_object_array_add(list, vm_info(vm, false));
	json_add(result, "vms", list);
	call_reply(call, result);
}

static void stats_done(struct vm *vm, void *opaque, json_object *result,
		       const struct rpc_error *error)
{
	struct call *call = opaque;
	json_object *info;

	(void)vm;
	if (error) {
		call_fail(call, error);
		return;
	}
	info = vm_info(vm, true);
	json_add(info, "stats", json_object_get(json_get(result, "stats")));
	call_reply(call, info);
}

void do_vm_info(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);
	json_object *info;

	if (!vm)
		return;
	if (json_get_bool(call->params, "stats", false) && vm->link) {
		if (link_request(vm->link, "machine.stats", NULL, stats_done, call) == 0)
			return;
		call_failf(call, RPC_BUSY, NULL, "%s does not answer", vm->name);
		return;
	}
	info = vm_info(vm, true);
	if (json_get_bool(call->params, "stats", false))
		json_add(info, "stats", json_object_new_object());
	call_reply(call, info);
}

void do_vm_wait(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);

	if (!vm)
		return;
	if (vm_ended(vm))
		call_reply(call, vm_info(vm, false));
	else
		waiter_add(vm, call, WAIT_END, json_get_number(call->params, "timeout_s", -1));
}

void do_vm_console(struct daemon *daemon, struct call *call)
{
	struct vm *vm = find(daemon, call);
	json_object *result;
	char *path;
	int fd = -1;

	if (!vm)
		return;
	if (strcmp(json_get_str(vm->config, "console", "serial"), "none") == 0) {
		call_failf(call, RPC_WRONG_STATE, NULL, "%s has no console", vm->name);
		return;
	}
	if (!vm->link) {
		wrong_state(call, vm, "attached to");
		return;
	}
	path = link_console_path(vm);
	if (path && json_get_bool(call->params, "fd", false)) {
		fd = link_attach(vm);
		if (fd < 0) {
			call_failf(call, fd == -EAGAIN ? RPC_BUSY : RPC_FAILED, NULL,
				   "%s: the console cannot be reached: %s", vm->name,
				   strerror(-fd));
			free(path);
			return;
		}
	}
	result = json_object_new_object();
	json_add_str(result, "socket", path);
	json_add_int(result, "fds", fd >= 0);
	free(path);
	call_reply_fd(call, result, fd);
}
