/* SPDX-License-Identifier: Apache-2.0 */
/* plug.c - calls that add and remove devices, and what the process says of them. */
#include "daemon/plug_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/handlers.h"
#include "daemon/link.h"

#define REMOVE_TIMEOUT_S 30.0

/* A call that waits for the machine or the guest. */
struct plug_op {
	struct vm *vm;             /* NULL: the VM is gone, only the order's end is awaited */
	struct call *call;         /* NULL: the caller is gone */
	const struct plug_kind *kind;
	json_object *unit;         /* to be added; NULL: a removal */
	char id[UNIT_ID_MAX + 1]; /* to be removed */
	double timeout_s;
	uv_timer_t timer;
	LIST_ENTRY(plug_op) link;
};

/* --- operations ------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
	struct plug_op *op = handle->data;

	json_object_put(op->unit);
	free(op);
}

/* The call, which is the caller's to end; NULL if it is gone. The operation is over. */
static struct call *finish(struct plug_op *op)
{
	struct call *call = op->call;

	op->call = NULL;
	if (op->vm)
		LIST_REMOVE(op, link);
	op->vm = NULL;
	uv_close((uv_handle_t *)&op->timer, on_timer_closed);
	return call;
}

static void fail(struct plug_op *op, const struct rpc_error *error)
{
	struct call *call = finish(op);

	if (call)
		call_fail(call, error);
}

static void succeed(struct plug_op *op, json_object *result)
{
	struct call *call = finish(op);

	if (call)
		call_reply(call, result);
	else
		json_object_put(result);
}

static void on_gone(struct call *call, void *opaque)
{
	struct plug_op *op = opaque;

	op->call = NULL; /* what was begun goes on */
	call_reply(call, NULL);
}

static struct plug_op *op_new(struct vm *vm, struct call *call, const struct plug_kind *kind)
{
	struct plug_op *op = calloc(1, sizeof(*op));

	if (!op) {
		call_failf(call, RPC_INTERNAL, NULL, "out of memory");
		return NULL;
	}
	op->vm = vm;
	op->call = call;
	op->kind = kind;
	uv_timer_init(vm->daemon->loop, &op->timer);
	op->timer.data = op;
	LIST_INSERT_HEAD(&vm->plug_ops, op, link);
	call_keep(call, on_gone, op);
	return op;
}

/* The configuration has changed in memory; r: of its file. */
static void finish_saved(struct plug_op *op, int r, json_object *result)
{
	struct rpc_error error;

	if (r < 0) {
		rpc_fail(&error, RPC_FAILED, "not-kept", NULL,
			 "%s: done, but its configuration cannot be kept in %s: %s", op->vm->name,
			 op->vm->daemon->options.state_dir, strerror(-r));
		error.err = -r;
		json_object_put(result);
		fail(op, &error);
	} else {
		succeed(op, result);
	}
}

static void send_failed(struct plug_op *op, int r)
{
	struct rpc_error error;

	rpc_fail(&error, RPC_BUSY, NULL, NULL, "%s does not take orders: %s", op->vm->name,
		 strerror(-r));
	fail(op, &error);
}

/* --- adding ----------------------------------------------------------------------------------- */

static void on_added(struct vm *vm, void *opaque, json_object *result,
		     const struct rpc_error *error)
{
	struct plug_op *op = opaque;
	const char *id = json_get_str(op->unit, "id", "");
	int r;

	(void)result;
	if (error && op->vm && op->kind->gone)
		op->kind->gone(op->vm, id);
	if (error || !op->vm) {
		if (error)
			fail(op, error);
		return;
	}
	r = plug_config_add(vm, op->kind, op->unit);
	finish_saved(op, r, plug_unit_json(vm, op->kind, op->unit));
}

/* Takes unit and what was opened over. */
static void add_running(struct vm *vm, struct call *call, const struct plug_kind *kind,
			json_object *unit, struct plug_opened *opened)
{
	struct plug_op *op = op_new(vm, call, kind);
	int r;

	if (!op) {
		while (opened->count)
			close(opened->fds[--opened->count]);
		json_object_put(opened->params);
		json_object_put(unit);
		return;
	}
	op->unit = unit;
	json_add_str(opened->params, "class", kind->class);
	json_add(opened->params, "config", json_object_get(unit)); /* told again to a new daemon */
	r = link_request_fds(vm->link, "machine.unit_add", opened->params, opened->fds,
			     opened->count, on_added, op);
	if (r < 0 && kind->gone)
		kind->gone(vm, json_get_str(unit, "id", ""));
	if (r < 0)
		send_failed(op, r);
}

static void add_stopped(struct vm *vm, struct call *call, const struct plug_kind *kind,
			json_object *unit)
{
	int r = plug_config_add(vm, kind, unit);

	if (r < 0) {
		(void)plug_config_remove(vm, kind, json_get_str(unit, "id", ""));
		call_failf(call, RPC_FAILED, NULL, "%s cannot be kept in %s: %s", vm->name,
			   vm->daemon->options.state_dir, strerror(-r));
	} else {
		call_reply(call, plug_unit_json(vm, kind, unit));
	}
}

static bool running(const struct vm *vm)
{
	return (vm->state == VM_RUNNING || vm->state == VM_PAUSED) && vm->link;
}

static struct vm *find_vm(struct daemon *daemon, struct call *call)
{
	const char *name = json_get_str(call->params, "name", "");
	struct vm *vm = vm_find(daemon, name);

	if (!vm)
		call_failf(call, RPC_NO_SUCH_VM, "name", "no VM \"%s\"", name);
	return vm;
}

static void wrong_state(struct call *call, const struct vm *vm)
{
	call_failf(call, RPC_WRONG_STATE, NULL, "%s is %s: its devices can be changed when it is "
		   "created, running, paused or stopped", vm->name, vm_state_name(vm->state));
}

static void do_add(struct daemon *daemon, struct call *call, const struct plug_kind *kind)
{
	struct vm *vm = find_vm(daemon, call);
	struct plug_opened opened = { 0 };
	struct rpc_error error;
	json_object *unit;

	if (!vm)
		return;
	if (!vm_ended(vm) && !running(vm)) {
		wrong_state(call, vm);
		return;
	}
	unit = json_get(call->params, kind->word);
	if (json_get(unit, "id") && plug_find(vm->config, json_get_str(unit, "id", ""))) {
		call_failf(call, RPC_EXISTS, "id", "%s has a device \"%s\" already", vm->name,
			   json_get_str(unit, "id", ""));
		return;
	}
	if (units_count(json_get(vm->config, kind->list)) >= kind->max) {
		call_failf(call, RPC_LIMIT, NULL, "%s has %zu %ss already", vm->name, kind->max,
			   kind->word);
		return;
	}
	if (!json_get(unit, "id"))
		plug_set_id(vm->config, kind, unit);
	if (kind->open(vm, unit, running(vm), &opened, &error) < 0)
		call_fail(call, &error);
	else if (running(vm))
		add_running(vm, call, kind, json_object_get(unit), &opened);
	else
		add_stopped(vm, call, kind, unit);
}

/* --- removing --------------------------------------------------------------------------------- */

static json_object *removed_json(const char *id)
{
	json_object *result = json_object_new_object();

	json_add_str(result, "id", id);
	return result;
}

static void on_timeout(uv_timer_t *timer)
{
	struct plug_op *op = timer->data;
	struct rpc_error error;

	rpc_fail(&error, RPC_TIMEOUT, NULL, "timeout_s",
		 "the guest of %s has not let %s go in time; it goes when the guest does, or at its "
		 "next reset; with force it goes at once", op->vm->name, op->id);
	fail(op, &error);
}

static void on_asked(struct vm *vm, void *opaque, json_object *result,
		     const struct rpc_error *error)
{
	struct plug_op *op = opaque;

	(void)vm, (void)result;
	if (error)
		fail(op, error);
	else if (op->vm) /* the report that it is gone may be on its way already */
		uv_timer_start(&op->timer, on_timeout, (uint64_t)(op->timeout_s * 1000), 0);
}

static void do_remove(struct daemon *daemon, struct call *call, const struct plug_kind *kind)
{
	struct vm *vm = find_vm(daemon, call);
	const char *id = json_get_str(call->params, "id", "");
	json_object *params;
	struct plug_op *op;
	int r;

	if (!vm)
		return;
	if (!vm_ended(vm) && !running(vm)) {
		wrong_state(call, vm);
		return;
	}
	if (!units_find(json_get(vm->config, kind->list), id, NULL)) {
		call_failf(call, RPC_INVALID_PARAMS, "id", "%s has no %s \"%s\"", vm->name,
			   kind->word, id);
		return;
	}
	if (!running(vm)) {
		r = plug_config_remove(vm, kind, id);
		if (r < 0)
			call_failf(call, RPC_FAILED, NULL, "%s cannot be kept in %s: %s", vm->name,
				   daemon->options.state_dir, strerror(-r));
		else
			call_reply(call, removed_json(id));
		return;
	}
	op = op_new(vm, call, kind);
	if (!op)
		return;
	snprintf(op->id, sizeof(op->id), "%s", id);
	op->timeout_s = json_get_number(call->params, "timeout_s", REMOVE_TIMEOUT_S);
	params = json_object_new_object();
	json_add_str(params, "id", id);
	json_add_bool(params, "force", json_get_bool(call->params, "force", false));
	r = link_request(vm->link, "machine.unit_remove", params, on_asked, op);
	if (r < 0)
		send_failed(op, r);
}

/* --- what the process says -------------------------------------------------------------------- */

/* Removals of that id are done. */
static void removed(struct vm *vm, const char *id, int r)
{
	struct plug_op *op, *next;

	for (op = LIST_FIRST(&vm->plug_ops); op; op = next) {
		next = LIST_NEXT(op, link);
		if (!op->unit && strcmp(op->id, id) == 0)
			finish_saved(op, r, removed_json(id));
	}
}

static void drop_missing(struct vm *vm, const struct plug_kind *kind)
{
	json_object *list = json_get(vm->config, kind->list);

	for (size_t i = units_count(list); i-- > 0;) {
		const char *name = json_get_str(json_object_array_get_idx(list, i), "id", "");
		char id[UNIT_ID_MAX + 1];

		snprintf(id, sizeof(id), "%s", name);
		if (!units_find(vm->units, id, NULL))
			removed(vm, id, plug_config_remove(vm, kind, id));
	}
}

void plug_report(struct vm *vm, json_object *units)
{
	if (!json_object_is_type(units, json_type_array))
		return;
	json_object_put(vm->units);
	vm->units = json_object_get(units);
	for (size_t k = 0; k < PLUG_KINDS; k++) {
		for (size_t i = 0; i < units_count(units); i++) {
			json_object *unit = json_object_array_get_idx(units, i);

			if (strcmp(json_get_str(unit, "class", ""), plug_kinds[k].class) == 0 &&
			    json_get(unit, "config"))
				(void)plug_config_add(vm, &plug_kinds[k], json_get(unit, "config"));
		}
		drop_missing(vm, &plug_kinds[k]);
	}
}

void plug_ended(struct vm *vm)
{
	struct rpc_error error;
	struct plug_op *op;

	json_object_put(vm->units);
	vm->units = NULL;
	while ((op = LIST_FIRST(&vm->plug_ops))) {
		if (op->unit) { /* its order fails by itself; this is for one that was done */
			rpc_fail(&error, RPC_WRONG_STATE, "ended", NULL, "%s ended meanwhile",
				 vm->name);
			fail(op, &error);
		} else { /* there is no guest any more that could keep it */
			char id[UNIT_ID_MAX + 1];

			snprintf(id, sizeof(id), "%s", op->id);
			removed(vm, id, plug_config_remove(vm, op->kind, id));
		}
	}
}

void plug_drop(struct vm *vm)
{
	struct rpc_error error;
	struct plug_op *op;

	rpc_fail(&error, RPC_NO_SUCH_VM, NULL, "name", "%s is gone", vm->name);
	while ((op = LIST_FIRST(&vm->plug_ops)))
		fail(op, &error);
	json_object_put(vm->units);
	vm->units = NULL;
}

/* --- methods ---------------------------------------------------------------------------------- */

static void do_list(struct daemon *daemon, struct call *call, const struct plug_kind *kind)
{
	struct vm *vm = find_vm(daemon, call);
	json_object *result, *out, *list;

	if (!vm)
		return;
	result = json_object_new_object();
	out = json_object_new_array();
	list = json_get(vm->config, kind->list);
	for (size_t i = 0; out && i < units_count(list); i++)
		json_object_array_add(out, plug_unit_json(vm, kind, json_object_array_get_idx(list, i)));
	json_add(result, kind->list, out);
	call_reply(call, result);
}

#define METHODS(word, kind) \
	void do_vm_##word##_add(struct daemon *daemon, struct call *call) \
	{ \
		do_add(daemon, call, &plug_kinds[kind]); \
	} \
	void do_vm_##word##_remove(struct daemon *daemon, struct call *call) \
	{ \
		do_remove(daemon, call, &plug_kinds[kind]); \
	} \
	void do_vm_##word##_list(struct daemon *daemon, struct call *call) \
	{ \
		do_list(daemon, call, &plug_kinds[kind]); \
	}

METHODS(disk, PLUG_DISK)
METHODS(net, PLUG_NET)
METHODS(vhost, PLUG_VHOST)
