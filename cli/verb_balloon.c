/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/cli.h"

int verb_balloon(struct ctl *ctl)
{
	json_object *params = name_params(ctl->argv[0]), *result;
	int r;

	json_add(params, "memory", json_from_bytes(ctl->argv[1], strlen(ctl->argv[1])));
	r = ctl_call(ctl, "vm.balloon", params, &result);
	if (r == EXIT_OK && ctl->json)
		print_json(result);
	json_object_put(result);
	return r;
}
