/* SPDX-License-Identifier: Apache-2.0 */
/* verb_disk.c - disk list, add, remove, resize. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static json_object *from_text(struct ctl *ctl, const char *text)
{
	(void)ctl;
	return disk_from_text(text);
}

static void print(json_object *unit)
{
	printf("%-2s %s\n", json_get_bool(unit, "readonly", false) ? "ro" : "rw",
	       json_get_str(unit, "path", ""));
}

static const struct plug_kind disk = { "disk", "disks", from_text, "   IMAGE", print };

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
	return plug_verb(ctl, &disk);
}
