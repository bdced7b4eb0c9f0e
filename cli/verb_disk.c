/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

#include "common/checked.h"

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

static const struct {
	const char *name;
	int min, max; /* words after it */
	int (*fn)(struct ctl *ctl);
} actions[] = {
	{ "resize", 2, 3, resize },
};

int verb_disk(struct ctl *ctl)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(ctl->argv[0], actions[i].name) != 0)
			continue;
		if (ctl->argc - 1 < actions[i].min || ctl->argc - 1 > actions[i].max)
			break;
		return actions[i].fn(ctl);
	}
	ctl_complain("disk: usage: vmctl disk resize NAME DISK [SIZE]");
	return EXIT_USAGE;
}
