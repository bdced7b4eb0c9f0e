/* SPDX-License-Identifier: Apache-2.0 */
/*
 * methods.h - the one table of methods. The daemon's dispatch and validation, rpc.discover and
 * vmxd-rpc(7) all come from it.
 */
#ifndef PROTOCOL_METHODS_H
#define PROTOCOL_METHODS_H

#include "protocol/schema.h"

enum method_id {
	METHOD_VM_CREATE,
	METHOD_VM_START,
	METHOD_VM_STOP,
	METHOD_VM_KILL,
	METHOD_VM_PAUSE,
	METHOD_VM_RESUME,
	METHOD_VM_RESET,
	METHOD_VM_RESIZE,
	METHOD_VM_DISK_RESIZE,
	METHOD_VM_BALLOON,
	METHOD_VM_MEM_RESIZE,
	METHOD_VM_DELETE,
	METHOD_VM_LIST,
	METHOD_VM_INFO,
	METHOD_VM_WAIT,
	METHOD_VM_CONSOLE,
	METHOD_VM_DISK_ADD,
	METHOD_VM_DISK_REMOVE,
	METHOD_VM_DISK_LIST,
	METHOD_VM_NET_ADD,
	METHOD_VM_NET_REMOVE,
	METHOD_VM_NET_LIST,
	METHOD_VM_VHOST_ADD,
	METHOD_VM_VHOST_REMOVE,
	METHOD_VM_VHOST_LIST,
	METHOD_EVENTS_SUBSCRIBE,
	METHOD_DAEMON_INFO,
	METHOD_DAEMON_PROBE,
	METHOD_RPC_DISCOVER,
	METHOD_COUNT,
};

enum method_access {
	ACCESS_READ,  /* whoever may connect to the socket */
	ACCESS_WRITE, /* the daemon's own user, and root */
};

struct method {
	const char *name;
	enum method_access access;
	bool fd; /* may hand over one descriptor (SCM_RIGHTS) with its answer */
	const char *summary;
	const struct schema_field *params; /* never NULL */
	const struct schema_field *result; /* never NULL */
};

/* Every VM setting: the parameters of vm.create, and what is kept on disk. */
extern const struct schema_field vm_config_fields[];

const struct method *method_get(enum method_id id);
/* METHOD_COUNT when there is none of that name. */
enum method_id method_find(const char *name);
/* The OpenRPC document; the caller owns it. NULL: no memory. */
json_object *methods_openrpc(const char *version);

#endif
