/* SPDX-License-Identifier: Apache-2.0 */
/* plug.c - what the verbs for devices that can be plugged share: list, add, remove. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/checked.h"

static void print_unit(const struct plug_kind *kind, json_object *unit)
{
	json_object *slot = json_get(unit, "slot");

	printf("%-16s %-10s %4s ", json_get_str(unit, "id", ""), json_get_str(unit, "state", ""),
	       slot ? json_object_get_string(slot) : "-");
	kind->print(unit);
}

static int list(struct ctl *ctl, const struct plug_kind *kind, const char *method)
{
	json_object *result, *units;
	int r = ctl_call(ctl, method, name_params(ctl->argv[1]), &result);
	size_t n;

	if (r != EXIT_OK)
		return r;
	units = json_get(result, kind->list);
	n = json_object_is_type(units, json_type_array) ? json_object_array_length(units) : 0;
	if (!ctl->json && (n || isatty(STDOUT_FILENO)))
		printf("%-16s %-10s %4s %s\n", "ID", "STATE", "SLOT", kind->columns);
	for (size_t i = 0; i < n; i++) {
		if (ctl->json)
			print_json(json_object_array_get_idx(units, i));
		else
			print_unit(kind, json_object_array_get_idx(units, i));
	}
	json_object_put(result);
	return EXIT_OK;
}

static int add(struct ctl *ctl, const struct plug_kind *kind, const char *method)
{
	json_object *unit = kind->from_text(ctl, ctl->argv[2]), *params, *result;
	int r;

	if (!unit)
		return EXIT_USAGE;
	params = name_params(ctl->argv[1]);
	json_add(params, kind->word, unit);
	r = ctl_call(ctl, method, params, &result);
	if (r == EXIT_OK && ctl->json)
		print_json(result);
	else if (r == EXIT_OK)
		printf("%s\n", json_get_str(result, "id", ""));
	json_object_put(result);
	return r;
}

static int take_out(struct ctl *ctl, const char *method)
{
	json_object *params = name_params(ctl->argv[1]), *result;
	double timeout;
	int r;

	json_add_str(params, "id", ctl->argv[2]);
	if (has_option(ctl, OPTION_FORCE))
		json_add_bool(params, "force", true);
	if (has_option(ctl, OPTION_TIMEOUT)) {
		if (!option_number(ctl, OPTION_TIMEOUT, 86400, &timeout)) {
			json_object_put(params);
			return EXIT_USAGE;
		}
		json_add_double(params, "timeout_s", timeout);
	}
	r = ctl_call(ctl, method, params, &result);
	if (r == EXIT_OK && ctl->json)
		print_json(result);
	json_object_put(result);
	return r;
}

int plug_verb(struct ctl *ctl, const struct plug_kind *kind)
{
	static const struct {
		const char *word;
		int arguments;
	} actions[] = { { "list", 2 }, { "add", 3 }, { "remove", 3 } };
	const char *what = ctl->argv[0];
	char method[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(actions); i++)
		if (strcmp(actions[i].word, what) == 0)
			break;
	if (i == ARRAY_SIZE(actions) || ctl->argc != actions[i].arguments) {
		ctl_complain("usage: vmctl %s %s", ctl->verb->name, ctl->verb->arguments);
		return EXIT_USAGE;
	}
	snprintf(method, sizeof(method), "vm.%s_%s", kind->word, what);
	if (i == 0)
		return list(ctl, kind, method);
	return i == 1 ? add(ctl, kind, method) : take_out(ctl, method);
}
