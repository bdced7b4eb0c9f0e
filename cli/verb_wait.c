/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_wait(struct ctl *ctl)
{
	json_object *params = name_params(ctl->argv[0]), *info;
	double timeout;
	int r;

	if (has_option(ctl, OPTION_TIMEOUT)) {
		if (!option_number(ctl, OPTION_TIMEOUT, 31536000, &timeout)) {
			json_object_put(params);
			return EXIT_USAGE;
		}
		json_add_double(params, "timeout_s", timeout);
	}
	r = ctl_call(ctl, "vm.wait", params, &info);
	if (r == EXIT_OK) {
		if (ctl->json)
			print_json(info);
		else
			ctl_note(ctl, "%s: %s", ctl->argv[0], end_text(info));
		r = end_code(info);
	}
	json_object_put(info);
	return r;
}
