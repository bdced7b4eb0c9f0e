/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_stop(struct ctl *ctl)
{
	json_object *params = name_params(ctl->argv[0]), *result = NULL;
	double timeout;
	int r = EXIT_USAGE;

	if (has_option(ctl, OPTION_TIMEOUT)) {
		if (!option_number(ctl, OPTION_TIMEOUT, 86400, &timeout)) {
			json_object_put(params);
			return r;
		}
		json_add_double(params, "timeout_s", timeout);
	}
	r = ctl_call(ctl, "vm.stop", params, &result);
	if (r == EXIT_OK && ctl->json)
		print_json(result);
	else if (r == EXIT_OK && json_get_bool(result, "forced", false))
		ctl_note(ctl, "%s did not power itself off in time and was ended by force",
			 ctl->argv[0]);
	json_object_put(result);
	return r;
}
