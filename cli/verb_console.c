/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_console(struct ctl *ctl)
{
	json_object *params = name_params(ctl->argv[0]), *result, *info;
	int r, fd;

	json_add_bool(params, "fd", true);
	r = ctl_call(ctl, "vm.console", params, &result);
	json_object_put(result);
	if (r != EXIT_OK)
		return r;
	fd = client_take_fd(ctl->client);
	if (fd < 0) {
		ctl_complain("the daemon sent no descriptor");
		return EXIT_FAILED;
	}
	r = attach(ctl, ctl->argv[0], fd,
		   client_send(ctl->client, "vm.wait", name_params(ctl->argv[0])), &info);
	if (info) {
		ctl_note(ctl, "%s: %s", ctl->argv[0], end_text(info));
		r = end_code(info);
	}
	json_object_put(info);
	return r;
}
