/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define GENERAL (OPTION_BIT(OPTION_SOCKET) | OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_QUIET) | \
		 OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_VERSION))

static void one(const struct verb *v)
{
	printf("Usage: vmctl %s %s\n%s\n", v->name, v->arguments, v->summary);
	if (v->options) {
		puts("\nOptions:");
		options_print(v->options);
	}
	puts("\nGeneral options, before or after the verb:");
	options_print(GENERAL);
}

int verb_help(struct ctl *ctl)
{
	const char *name = ctl->argc ? ctl->argv[0] : NULL;

	/* `vmctl VERB --help` as well as `vmctl help VERB`. */
	if (ctl->verb->run != verb_help)
		name = ctl->verb->name;
	for (const struct verb *v = verbs; name && v->name; v++) {
		if (strcmp(v->name, name) == 0) {
			one(v);
			return EXIT_OK;
		}
	}
	if (name) {
		ctl_complain("no verb \"%s\"", name);
		return EXIT_USAGE;
	}
	puts("Usage: vmctl [OPTION]... VERB [ARGUMENT]...\n\nVerbs:");
	for (const struct verb *v = verbs; v->name; v++) {
		char left[48];

		snprintf(left, sizeof(left), "%s %s", v->name, v->arguments);
		printf("  %-34s %s\n", left, v->summary);
	}
	puts("\nOptions, before or after the verb:");
	options_print(GENERAL);
	puts("\n'vmctl help VERB' tells more.");
	return EXIT_OK;
}
