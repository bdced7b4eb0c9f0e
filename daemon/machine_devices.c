/* SPDX-License-Identifier: Apache-2.0 */
/* machine_devices.c - orders to devices, with parameters, as methods_device.c passes them on. */
#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "daemon/machine.h"

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

static const struct {
	const char *method;
	int (*fn)(struct machine *m, json_object *params, json_object *result,
		  struct rpc_error *error);
} orders[] = {
	{ "machine.resize", order_resize },
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
