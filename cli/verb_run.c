/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"

/* Cleans up after this session; what the daemon says to that does not matter. */
static void quietly(struct ctl *ctl, const char *method, const char *name)
{
	json_object *result;
	struct rpc_error error;

	if (client_call(ctl->client, method, name_params(name), 10000, &result, &error) == 0)
		json_object_put(result);
}

static void tell_end(const struct ctl *ctl, const char *name, json_object *info, int code)
{
	/* Where the end is what was asked for, the detail says the same once more. */
	bool expected = code == EXIT_OK || code == EXIT_GUEST_RESET || code == EXIT_GUEST_KILLED;
	const char *detail = expected ? "" : json_get_str(info, "detail", "");

	ctl_note(ctl, "%s: %s after %.1f s%s%s", name, end_text(info),
		 json_get_number(info, "uptime_s", 0), *detail ? ": " : "", detail);
}

static int run_attached(struct ctl *ctl, const char *name)
{
	json_object *info = NULL, *params = name_params(name);
	struct rpc_error error;
	int64_t start_id, wait_id;
	int r, fd;

	/* Both at once: a VM that ends at once, and is deleted with that, still tells how. */
	json_add_bool(params, "console", true);
	client_hold(ctl->client, true);
	start_id = client_send(ctl->client, "vm.start", params);
	wait_id = client_send(ctl->client, "vm.wait", name_params(name));
	r = client_hold(ctl->client, false);
	if (r == 0)
		r = client_wait(ctl->client, start_id, -1, &info, &error);
	json_object_put(info);
	if (r < 0) {
		r = ctl_error(ctl, r, &error);
		quietly(ctl, "vm.delete", name); /* it never ran: the next try may have the name */
		return r;
	}
	fd = client_take_fd(ctl->client);
	if (fd < 0) {
		ctl_complain("the daemon sent no descriptor");
		return EXIT_FAILED;
	}
	r = attach(ctl, name, fd, wait_id, &info);
	if (info) {
		r = end_code(info);
		if (ctl->json)
			fprintf(stderr, "%s\n", json_text(info)); /* stdout is the guest's */
		else
			tell_end(ctl, name, info, r);
		json_object_put(info);
	} else if (r > 128 && has_option(ctl, OPTION_RM)) {
		quietly(ctl, "vm.kill", name); /* its life is bound to this session */
	} else if (r > 128) {
		ctl_note(ctl, "%s runs on", name);
	}
	return r;
}

int verb_run(struct ctl *ctl)
{
	bool detach = has_option(ctl, OPTION_DETACH) || has_option(ctl, OPTION_NO_CONSOLE);
	char made_up[32];
	const char *name = ctl->argc ? ctl->argv[0] : made_up;
	json_object *config, *info;
	int r;

	snprintf(made_up, sizeof(made_up), "run-%d", (int)getpid());
	r = config_from_options(ctl, name, &config);
	if (r != EXIT_OK)
		return r;
	r = ctl_call(ctl, "vm.create", config, &info);
	json_object_put(info);
	if (r != EXIT_OK)
		return r;
	if (!detach)
		return run_attached(ctl, name);
	r = ctl_call(ctl, "vm.start", name_params(name), &info);
	if (r != EXIT_OK)
		quietly(ctl, "vm.delete", name);
	else if (ctl->json)
		print_json(info);
	else if (!ctl->argc)
		puts(name); /* it was made up here: a script wants to know */
	json_object_put(info);
	return r;
}
