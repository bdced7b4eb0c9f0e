/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_create(struct ctl *ctl)
{
	json_object *config, *info;
	int r = config_from_options(ctl, ctl->argv[0], &config);

	if (r != EXIT_OK)
		return r;
	r = ctl_call(ctl, "vm.create", config, &info);
	if (r == EXIT_OK && ctl->json)
		print_json(info);
	json_object_put(info);
	return r;
}
