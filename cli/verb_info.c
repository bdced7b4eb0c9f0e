/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_info(struct ctl *ctl)
{
	json_object *params = name_params(ctl->argv[0]), *info;
	int r;

	if (has_option(ctl, OPTION_STATS))
		json_add_bool(params, "stats", true);
	r = ctl_call(ctl, "vm.info", params, &info);
	if (r == EXIT_OK && ctl->json)
		print_json(info);
	else if (r == EXIT_OK)
		print_info(info);
	json_object_put(info);
	return r;
}
