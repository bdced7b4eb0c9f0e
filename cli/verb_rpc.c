/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/cli.h"

int verb_rpc(struct ctl *ctl)
{
	json_object *params = NULL, *result;
	char why[128];
	int r;

	if (ctl->argc == 2 &&
	    json_parse(ctl->argv[1], strlen(ctl->argv[1]), &params, why, sizeof(why)) < 0) {
		ctl_complain("the parameters are not JSON: %s", why);
		return EXIT_USAGE;
	}
	r = ctl_call(ctl, ctl->argv[0], params, &result);
	if (r == EXIT_OK)
		print_json(result);
	json_object_put(result);
	return r;
}
