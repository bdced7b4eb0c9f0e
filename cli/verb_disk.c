/* SPDX-License-Identifier: Apache-2.0 */
/* verb_disk.c - devices that can be plugged: disk add, remove, list, resize. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/checked.h"

/* One row for each kind of device; their verbs are alike. */
struct plug_kind {
	const char *word, *list;
	json_object *(*from_text)(const char *text);
	const char *shown; /* the member that says most about one */
};

static const struct plug_kind disk = { "disk", "disks", disk_from_text, "path" };

static void print_unit(const struct plug_kind *kind, json_object *unit)
{
	json_object *slot = json_get(unit, "slot");

	printf("%-16s %-10s %4s %-2s %s\n", json_get_str(unit, "id", ""),
	       json_get_str(unit, "state", ""), slot ? json_object_get_string(slot) : "-",
	       json_get_bool(unit, "readonly", false) ? "ro" : "rw",
	       json_get_str(unit, kind->shown, ""));
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
		printf("%-16s %-10s %4s %-2s %s\n", "ID", "STATE", "SLOT", "", "IMAGE");
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
	json_object *params = name_params(ctl->argv[1]), *result;
	int r;

	json_add(params, kind->word, kind->from_text(ctl->argv[2]));
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

static int units(struct ctl *ctl, const struct plug_kind *kind)
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

static int resize(struct ctl *ctl)
{
	json_object *params = name_params(ctl->argv[1]), *result = NULL;
	int r;

	json_add(params, "disk", json_from_bytes(ctl->argv[2], strlen(ctl->argv[2])));
	if (ctl->argc > 3)
		json_add(params, "size", json_from_bytes(ctl->argv[3], strlen(ctl->argv[3])));
	r = ctl_call(ctl, "vm.disk_resize", params, &result);
	if (r == EXIT_OK && ctl->json)
		print_json(result);
	else if (r == EXIT_OK)
		ctl_note(ctl, "%s: %s has %" PRId64 " bytes", ctl->argv[1], ctl->argv[2],
			 json_get_int(result, "size", 0));
	json_object_put(result);
	return r;
}

int verb_disk(struct ctl *ctl)
{
	if (strcmp(ctl->argv[0], "resize") == 0 && ctl->argc >= 3)
		return resize(ctl);
	return units(ctl, &disk);
}
