/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h - the daemon's part in a VM's vsock: whose address is whose, and the sockets that a guest's
 * connections go to. The VM's process opens nothing, so it asks; see devices/virtio/vsock.h. Loop
 * thread.
 */
#ifndef DAEMON_VSOCK_H
#define DAEMON_VSOCK_H

#include "daemon/vm.h"

/* The address in a configuration that has "vsock". */
int64_t vsock_cid(json_object *config);
/* For a new VM: gives it a free address if its vsock has none. -EINVAL with *error: it is another
 * VM's. */
int vsock_settle(struct daemon *daemon, json_object *config, struct rpc_error *error);
/* The guest wants to reach a port of the host: connects to PATH_PORT and answers the machine. */
void vsock_connect(struct vm *vm, json_object *params);

#endif
