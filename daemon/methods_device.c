/* SPDX-License-Identifier: Apache-2.0 */
/* methods_device.c - methods that are orders to a device of a running VM: its process does them. */
#include <errno.h>
#include <string.h>

#include "daemon/handlers.h"
#include "daemon/link.h"
#include "daemon/vm.h"

static void order_done(struct vm *vm, void *opaque, json_object *result,
		       const struct rpc_error *error)
{
	struct call *call = opaque;

	(void)vm;
	if (error)
		call_fail(call, error);
	else
		call_reply(call, json_object_get(result));
}

/* Passes the call's parameters on. */
static void pass_on(struct daemon *daemon, struct call *call, const char *order)
{
	const char *name = json_get_str(call->params, "name", "");
	struct vm *vm = vm_find(daemon, name);
	int r;

	if (!vm) {
		call_failf(call, RPC_NO_SUCH_VM, "name", "no VM \"%s\"", name);
		return;
	}
	if (!vm->link) {
		call_failf(call, RPC_WRONG_STATE, NULL, "%s is %s: its devices are not there",
			   vm->name, vm_state_name(vm->state));
		return;
	}
	r = link_request(vm->link, order, json_object_get(call->params), order_done, call);
	if (r < 0)
		call_failf(call, RPC_BUSY, NULL, "%s does not take orders: %s", vm->name,
			   strerror(-r));
}

void do_vm_resize(struct daemon *daemon, struct call *call)
{
	pass_on(daemon, call, "machine.resize");
}

void do_vm_balloon(struct daemon *daemon, struct call *call)
{
	pass_on(daemon, call, "machine.balloon");
}

void do_vm_mem_resize(struct daemon *daemon, struct call *call)
{
	pass_on(daemon, call, "machine.mem_resize");
}
