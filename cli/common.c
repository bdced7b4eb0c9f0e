/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "common/checked.h"

void ctl_complain(const char *fmt, ...)
{
	va_list ap;

	fputs("vmctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void ctl_note(const struct ctl *ctl, const char *fmt, ...)
{
	va_list ap;

	if (ctl->quiet)
		return;
	fputs("vmctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int ctl_connect(struct ctl *ctl)
{
	int r;

	if (ctl->client)
		return EXIT_OK;
	r = client_new(ctl->socket, &ctl->client);
	if (r == 0)
		return EXIT_OK;
	ctl_complain("no daemon at %s: %s%s", ctl->socket, strerror(-r),
		     r == -ENOENT || r == -ECONNREFUSED ? " (start vmxd, or give --socket)" : "");
	return EXIT_UNREACHABLE;
}

static int code_of(int code)
{
	switch (code) {
	case RPC_NO_SUCH_VM:
		return EXIT_NO_SUCH;
	case RPC_WRONG_STATE:
		return EXIT_WRONG_STATE;
	case RPC_TIMEOUT:
		return EXIT_TIMEOUT;
	default:
		return EXIT_FAILED;
	}
}

int ctl_error(struct ctl *ctl, int r, const struct rpc_error *error)
{
	if (r != -EREMOTE) {
		ctl_complain("the daemon is gone: %s", strerror(-r));
		return EXIT_UNREACHABLE;
	}
	if (ctl->json) {
		json_object *reply = rpc_error_reply(NULL, error);

		fprintf(stderr, "%s\n", json_text(json_get(reply, "error")));
		json_object_put(reply);
	} else {
		ctl_complain("%s", error->message);
	}
	return code_of(error->code);
}

int ctl_call(struct ctl *ctl, const char *method, json_object *params, json_object **ret_result)
{
	struct rpc_error error;
	int r = ctl_connect(ctl);

	*ret_result = NULL;
	if (r != EXIT_OK) {
		json_object_put(params);
		return r;
	}
	r = client_call(ctl->client, method, params, -1, ret_result, &error);
	return r < 0 ? ctl_error(ctl, r, &error) : EXIT_OK;
}

json_object *name_params(const char *name)
{
	json_object *params = json_object_new_object();

	json_add_str(params, "name", name);
	return params;
}

static int call_and_print(struct ctl *ctl, const char *method, json_object *params)
{
	json_object *result;
	int r = ctl_call(ctl, method, params, &result);

	if (r == EXIT_OK && ctl->json)
		print_json(result);
	json_object_put(result);
	return r;
}

int ctl_simple(struct ctl *ctl, const char *method)
{
	return call_and_print(ctl, method, name_params(ctl->argv[0]));
}

int ctl_simple_value(struct ctl *ctl, const char *method, const char *key)
{
	json_object *params = name_params(ctl->argv[0]);

	json_add(params, key, json_from_bytes(ctl->argv[1], strlen(ctl->argv[1])));
	return call_and_print(ctl, method, params);
}

void print_json(json_object *object)
{
	puts(json_text(object));
	fflush(stdout);
}

static void print_value(const char *key, json_object *value)
{
	/* A configuration has it as it was given, which may be a text. */
	if (strcmp(key, "memory") == 0 && json_object_is_type(value, json_type_int))
		printf("%-15s %" PRId64 " MiB\n", key, json_object_get_int64(value) >> 20);
	else if (json_object_is_type(value, json_type_string))
		printf("%-15s %s\n", key, json_object_get_string(value));
	else if (value)
		printf("%-15s %s\n", key, json_text(value));
	else
		printf("%-15s -\n", key);
}

void print_info(json_object *info)
{
	json_object_object_foreach(info, key, value) {
		if (json_object_is_type(value, json_type_array)) {
			printf("%s:\n", key);
			for (size_t i = 0; i < json_object_array_length(value); i++)
				printf("    %s\n", json_object_get_string(
							   json_object_array_get_idx(value, i)));
		} else if (json_object_is_type(value, json_type_object)) {
			printf("%s:\n", key);
			json_object_object_foreach(value, name, member) {
				printf("    ");
				print_value(name, member);
			}
		} else {
			print_value(key, value);
		}
	}
}

static const struct {
	const char *reason;
	int code;
	const char *text;
} ends[] = {
	{ "none", EXIT_OK, "does not run" },
	{ "guest-poweroff", EXIT_OK, "the guest powered itself off" },
	{ "guest-reset", EXIT_GUEST_RESET, "the guest asked for a reset" },
	{ "triple-fault", EXIT_GUEST_TRIPLE_FAULT, "the guest failed: triple fault" },
	{ "killed", EXIT_GUEST_KILLED, "ended by force" },
	{ "engine-error", EXIT_GUEST_ENGINE, "the engine failed" },
	{ "debug-exit", EXIT_GUEST_DEBUG_EXIT, "the guest wrote to the debug exit port" },
	{ "boot-error", EXIT_FAILED, "could not start" },
};

static size_t end_index(json_object *info)
{
	const char *reason = json_get_str(info, "reason", "");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ends); i++)
		if (strcmp(ends[i].reason, reason) == 0)
			break;
	return i;
}

int end_code(json_object *info)
{
	size_t i = end_index(info);

	return i < ARRAY_SIZE(ends) ? ends[i].code : EXIT_GUEST_DIED;
}

const char *end_text(json_object *info)
{
	size_t i = end_index(info);

	return i < ARRAY_SIZE(ends) ? ends[i].text : "its process died";
}
