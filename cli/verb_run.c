/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"

#define CLEAN_MS 10000 /* for the daemon to answer a session that is at its end */

/* Cleans up after this session; what the daemon says to that does not matter. */
static void quietly(struct ctl *ctl, const char *method, const char *name)
{
	json_object *result;
	struct rpc_error error;

	if (client_call(ctl->client, method, name_params(name), CLEAN_MS, &result, &error) == 0)
		json_object_put(result);
}

/* A signal came before the VM was started. id: of the vm.create whose answer tells whether the VM is
 * this session's; 0: it is. Nothing of it is kept. */
static int call_off(struct ctl *ctl, const char *name, int64_t id)
{
	json_object *info = NULL;
	struct rpc_error error;
	int r = 0;

	client_interrupt(ctl->client, -1);
	if (id)
		r = client_wait(ctl->client, id, CLEAN_MS, &info, &error);
	json_object_put(info);
	if (r == 0) {
		quietly(ctl, "vm.kill", name);
		quietly(ctl, "vm.delete", name);
	} else if (r == -ETIMEDOUT) {
		ctl_complain("the daemon does not answer; %s may have been created", name);
	}
	return 128 + signals_next(ctl);
}

static void tell_end(const struct ctl *ctl, const char *name, json_object *info, int code)
{
	/* Where the end is what was asked for, the detail says the same once more. */
	bool expected = code == EXIT_OK || code == EXIT_GUEST_RESET || code == EXIT_GUEST_KILLED;
	const char *detail = expected ? "" : json_get_str(info, "detail", "");

	ctl_note(ctl, "%s: %s after %.1f s%s%s", name, end_text(info),
		 json_get_number(info, "uptime_s", 0), *detail ? ": " : "", detail);
}

static int run_attached(struct ctl *ctl, const char *name, int64_t wait_id)
{
	json_object *info;
	int fd = client_take_fd(ctl->client), r;

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

/* Starts what was created. *ret_info: the VM, owned. *ret_wait_id: of a vm.wait, if it is to be
 * attached to. */
static int start(struct ctl *ctl, const char *name, bool attached, json_object **ret_info,
		 int64_t *ret_wait_id)
{
	json_object *params = name_params(name);
	struct rpc_error error;
	int64_t id;
	int r;

	*ret_info = NULL;
	if (attached)
		json_add_bool(params, "console", true);
	/* Both at once: a VM that ends at once, and is deleted with that, still tells how. */
	client_hold(ctl->client, true);
	id = client_send(ctl->client, "vm.start", params);
	if (attached)
		*ret_wait_id = client_send(ctl->client, "vm.wait", name_params(name));
	r = client_hold(ctl->client, false);
	if (r == 0)
		r = client_wait(ctl->client, id, -1, ret_info, &error);
	client_interrupt(ctl->client, -1);
	if (r == -EINTR)
		return call_off(ctl, name, 0);
	if (r < 0) {
		r = ctl_error(ctl, r, &error);
		quietly(ctl, "vm.delete", name); /* it never ran: the next try may have the name */
	}
	return r;
}

/* EXIT_OK, or another code after saying why. config is taken. */
static int create(struct ctl *ctl, const char *name, json_object *config)
{
	json_object *info = NULL;
	struct rpc_error error;
	int64_t id;
	int r = ctl_connect(ctl);

	if (r != EXIT_OK) {
		json_object_put(config);
		return r;
	}
	r = signals_take(ctl, false);
	if (r < 0) {
		json_object_put(config);
		return ctl_error(ctl, r, NULL);
	}
	client_interrupt(ctl->client, ctl->signals);
	id = client_send(ctl->client, "vm.create", config);
	r = client_wait(ctl->client, id, -1, &info, &error);
	json_object_put(info);
	if (r == -EINTR)
		return call_off(ctl, name, id);
	return r < 0 ? ctl_error(ctl, r, &error) : EXIT_OK;
}

int verb_run(struct ctl *ctl)
{
	bool detach = has_option(ctl, OPTION_DETACH) || has_option(ctl, OPTION_NO_CONSOLE);
	char made_up[32];
	const char *name = ctl->argc ? ctl->argv[0] : made_up;
	json_object *config, *info;
	int64_t wait_id = 0;
	int r;

	snprintf(made_up, sizeof(made_up), "run-%d", (int)getpid());
	r = config_from_options(ctl, name, &config);
	if (r == EXIT_OK)
		r = create(ctl, name, config);
	if (r != EXIT_OK)
		return r;
	r = start(ctl, name, !detach, &info, &wait_id);
	if (r == EXIT_OK && !detach)
		r = run_attached(ctl, name, wait_id);
	else if (r == EXIT_OK && ctl->json)
		print_json(info);
	else if (r == EXIT_OK && !ctl->argc)
		puts(name); /* it was made up here: a script wants to know */
	json_object_put(info);
	return r;
}
