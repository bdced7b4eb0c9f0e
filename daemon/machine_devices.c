/* SPDX-License-Identifier: Apache-2.0 */
/* machine_devices.c - orders to devices, with parameters, as methods_device.c passes them on. */
#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "daemon/machine.h"
#include "protocol/schema.h"

static int refuse(struct rpc_error *error, int r, const char *what)
{
	rpc_fail(error, RPC_WRONG_STATE, "no-device", NULL, "%s", what);
	error->err = -r;
	return r;
}

static int order_resize(struct machine *m, json_object *params, json_object *result,
			struct rpc_error *error)
{
	int r = board_console_resize(m->board, (uint16_t)json_get_int(params, "columns", 0),
				     (uint16_t)json_get_int(params, "rows", 0));

	(void)result;
	return r < 0 ? refuse(error, r, "the console has no size: it is a serial line") : 0;
}

static const char *disk_resize_why(int r)
{
	return r == -ENOENT  ? "there is no such disk" :
	       r == -ERANGE  ? "a disk does not get smaller" :
	       r == -EROFS   ? "the disk is read-only" :
	       r == -ENOTSUP ? "this disk does not get larger (a block device: make that larger, and "
			       "leave \"size\" out; a qcow2 image of version 2: its snapshots)" :
			       strerror(-r);
}

static int order_disk_resize(struct machine *m, json_object *params, json_object *result,
			     struct rpc_error *error)
{
	const char *disk = json_get_str(params, "disk", "");
	uint64_t size = 0;
	int r = board_disk_resize(m->board, disk, (uint64_t)json_get_int(params, "size", 0), &size);

	if (r < 0) {
		rpc_fail(error, RPC_FAILED, NULL, "disk", "%s: %s: %s", m->name, disk,
			 disk_resize_why(r));
		error->err = -r;
		return r;
	}
	json_add_int(result, "size", (int64_t)size);
	return 0;
}

static int order_balloon(struct machine *m, json_object *params, json_object *result,
			 struct rpc_error *error)
{
	int r = board_balloon(m->board, json_get_size(params, "memory", 0));

	(void)result;
	if (r == -ERANGE)
		return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", "memory",
				"memory: more than %s has", m->name);
	return r < 0 ? refuse(error, r, "there is no balloon: make the VM with \"balloon\"") : 0;
}

static int order_mem_resize(struct machine *m, json_object *params, json_object *result,
			    struct rpc_error *error)
{
	int r = board_mem_resize(m->board, json_get_size(params, "size", 0));

	(void)result;
	if (r == -EINVAL)
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", "size",
				"size: not a whole number of blocks (mem_block_bytes in the stats)");
	if (r == -ERANGE)
		return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", "size",
				"size: more than the \"mem\" of %s", m->name);
	return r < 0 ? refuse(error, r, "there is no such memory: make the VM with \"mem\"") : 0;
}

static const struct {
	const char *method;
	int (*fn)(struct machine *m, json_object *params, json_object *result,
		  struct rpc_error *error);
} orders[] = {
	{ "machine.resize", order_resize },
	{ "machine.disk_resize", order_disk_resize },
	{ "machine.balloon", order_balloon },
	{ "machine.mem_resize", order_mem_resize },
};

int machine_device_order(struct machine *m, const struct rpc_request *request,
			 json_object *result, struct rpc_error *error)
{
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		if (strcmp(orders[i].method, request->method) != 0)
			continue;
		if (!m->board) {
			rpc_fail(error, RPC_WRONG_STATE, NULL, NULL, "%s has ended", m->name);
			return -EBADFD;
		}
		return orders[i].fn(m, request->params, result, error);
	}
	return -ENOSYS;
}
