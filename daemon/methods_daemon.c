/* SPDX-License-Identifier: Apache-2.0 */
/* methods_daemon.c - the methods that mean no VM, and the table of all handlers. */
#include <config.h>

#include <unistd.h>

#include "common/clock.h"
#include "daemon/conn.h"
#include "daemon/events.h"
#include "daemon/handlers.h"
#include "daemon/probe.h"
#include "daemon/server.h"
#include "daemon/vm.h"

static method_fn *const handlers[METHOD_COUNT] = {
	[METHOD_VM_CREATE] = do_vm_create,
	[METHOD_VM_START] = do_vm_start,
	[METHOD_VM_STOP] = do_vm_stop,
	[METHOD_VM_KILL] = do_vm_kill,
	[METHOD_VM_PAUSE] = do_vm_pause,
	[METHOD_VM_RESUME] = do_vm_resume,
	[METHOD_VM_RESET] = do_vm_reset,
	[METHOD_VM_RESIZE] = do_vm_resize,
	[METHOD_VM_DISK_RESIZE] = do_vm_disk_resize,
	[METHOD_VM_BALLOON] = do_vm_balloon,
	[METHOD_VM_MEM_RESIZE] = do_vm_mem_resize,
	[METHOD_VM_DELETE] = do_vm_delete,
	[METHOD_VM_LIST] = do_vm_list,
	[METHOD_VM_INFO] = do_vm_info,
	[METHOD_VM_WAIT] = do_vm_wait,
	[METHOD_VM_CONSOLE] = do_vm_console,
	[METHOD_VM_DISK_ADD] = do_vm_disk_add,
	[METHOD_VM_DISK_REMOVE] = do_vm_disk_remove,
	[METHOD_VM_DISK_LIST] = do_vm_disk_list,
	[METHOD_VM_NET_ADD] = do_vm_net_add,
	[METHOD_VM_NET_REMOVE] = do_vm_net_remove,
	[METHOD_VM_NET_LIST] = do_vm_net_list,
	[METHOD_VM_VHOST_ADD] = do_vm_vhost_add,
	[METHOD_VM_VHOST_REMOVE] = do_vm_vhost_remove,
	[METHOD_VM_VHOST_LIST] = do_vm_vhost_list,
	[METHOD_EVENTS_SUBSCRIBE] = do_events_subscribe,
	[METHOD_DAEMON_INFO] = do_daemon_info,
	[METHOD_DAEMON_PROBE] = do_daemon_probe,
	[METHOD_RPC_DISCOVER] = do_rpc_discover,
};

void methods_dispatch(struct daemon *daemon, enum method_id id, struct call *call)
{
	handlers[id](daemon, call);
}

void do_events_subscribe(struct daemon *daemon, struct call *call)
{
	struct conn *conn = call->conn;
	uint64_t next = events_next(daemon->events), first = events_first(daemon->events);
	int64_t from = json_get_int(call->params, "from", -1);
	uint64_t start = from < 0 || (uint64_t)from > next ? next : (uint64_t)from;
	json_object *result = json_object_new_object();

	if (from == 0)
		start = 1;
	json_add_str(result, "instance", daemon->instance);
	json_add_int(result, "next", (int64_t)(start < first ? first : start));
	json_add_int(result, "lost", start < first ? (int64_t)(first - start) : 0);
	if (conn) {
		conn->subscribed = true;
		conn->next_event = start < first ? first : start;
	}
	call_reply(call, result);
	if (conn)
		conn_push_events(conn);
}

void do_daemon_info(struct daemon *daemon, struct call *call)
{
	json_object *info = json_object_new_object();
	int64_t running = 0;
	struct vm *vm;

	TAILQ_FOREACH(vm, &daemon->vms, entry)
		running += vm->link != NULL;
	json_add_str(info, "version", PACKAGE_VERSION);
	json_add_str(info, "api", DAEMON_API);
	json_add_str(info, "instance", daemon->instance);
	json_add_int(info, "pid", getpid());
	json_add_double(info, "uptime_s",
			(double)(clock_monotonic_ns() - daemon->started_ns) / 1e9);
	json_add_str(info, "socket", daemon->options.socket);
	json_add_str(info, "runtime_dir", daemon->options.runtime_dir);
	json_add_str(info, "state_dir", daemon->options.state_dir);
	json_add_int(info, "vms", daemon->vm_count);
	json_add_int(info, "running", running);
	json_add_int(info, "connections", server_connections(daemon->server));
	json_add_int(info, "memory", (int64_t)daemon->host_memory);
	json_add_str(info, "access", call->conn && call->conn->may_write ? "write" : "read");
	call_reply(call, info);
}

static void on_probed(void *opaque, json_object *result, const char *why)
{
	struct call *call = opaque;

	if (result)
		call_reply(call, json_object_get(result));
	else
		call_failf(call, RPC_NO_ENGINE, NULL, "%s", why);
}

static void on_prober_gone(struct call *call, void *opaque)
{
	struct probe *probe = opaque;

	probe_forget(probe, call);
	call_reply(call, NULL);
}

void do_daemon_probe(struct daemon *daemon, struct call *call)
{
	call_keep(call, on_prober_gone, daemon->probe);
	if (probe_ask(daemon->probe, json_get_bool(call->params, "refresh", false), on_probed,
		      call) < 0)
		call_failf(call, RPC_INTERNAL, NULL, "out of memory");
}

void do_rpc_discover(struct daemon *daemon, struct call *call)
{
	(void)daemon;
	call_reply(call, methods_openrpc(PACKAGE_VERSION));
}
