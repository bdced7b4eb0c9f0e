/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "cli/cli.h"

int verb_delete(struct ctl *ctl)
{
	json_object *result = NULL;
	struct rpc_error error;
	int r;

	if (has_option(ctl, OPTION_FORCE)) {
		r = ctl_connect(ctl);
		if (r != EXIT_OK)
			return r;
		r = client_call(ctl->client, "vm.kill", name_params(ctl->argv[0]), -1, &result,
				&error);
		json_object_put(result);
		/* That it does not run is what was wanted; a transient VM is gone with its end. */
		if (r < 0 && !(r == -EREMOTE && error.code == RPC_WRONG_STATE))
			return ctl_error(ctl, r, &error);
		r = client_call(ctl->client, "vm.delete", name_params(ctl->argv[0]), -1, &result,
				&error);
		if (r < 0 && !(r == -EREMOTE && error.code == RPC_NO_SUCH_VM))
			return ctl_error(ctl, r, &error);
		json_object_put(result);
		return EXIT_OK;
	}
	return ctl_simple(ctl, "vm.delete");
}
