/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/vsock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link.h"
#include "protocol/unix.h"

#define CID_MIN 3 /* those below are the host's, and everybody's */

int64_t vsock_cid(json_object *config)
{
	return json_get_int(json_get(config, "vsock"), "cid", 0);
}

static const struct vm *cid_owner(struct daemon *daemon, int64_t cid)
{
	const struct vm *vm;

	TAILQ_FOREACH(vm, &daemon->vms, entry)
		if (json_get(vm->config, "vsock") && vsock_cid(vm->config) == cid)
			return vm;
	return NULL;
}

int vsock_settle(struct daemon *daemon, json_object *config, struct rpc_error *error)
{
	json_object *vsock = json_get(config, "vsock");
	const struct vm *owner;
	int64_t cid = CID_MIN;

	if (!vsock)
		return 0;
	if (!json_get(vsock, "cid")) {
		while (cid_owner(daemon, cid))
			cid++;
		json_add_int(vsock, "cid", cid);
		return 0;
	}
	owner = cid_owner(daemon, vsock_cid(config));
	return owner ? rpc_fail(error, RPC_EXISTS, NULL, "vsock.cid",
				"vsock.cid: %" PRId64 " is the address of %s; leave it out to get a "
				"free one", vsock_cid(config), owner->name) : 0;
}

void vsock_connect(struct vm *vm, json_object *params)
{
	const char *base = json_get_str(json_get(vm->config, "vsock"), "path", NULL);
	int64_t port = json_get_int(params, "port", -1);
	json_object *answer = json_object_new_object();
	char *path = NULL;
	int fd = -ENOENT;

	if (base && port >= 0 && asprintf(&path, "%s_%" PRId64, base, port) >= 0)
		fd = unix_connect(path, 1);
	if (fd < 0)
		log_line(vm->daemon->log, LOG_LEVEL_DEBUG, "vm %s: vsock port %" PRId64 ": %s", vm->name,
			 port, strerror(-fd));
	free(path);
	json_add_int(answer, "id", json_get_int(params, "id", 0));
	if (link_request_fd(vm->link, "machine.vsock_answer", answer, fd < 0 ? -1 : fd, NULL, NULL) < 0)
		log_line(vm->daemon->log, LOG_LEVEL_DEBUG, "vm %s: vsock: its process is busy", vm->name);
}
