/* SPDX-License-Identifier: Apache-2.0 */
/* verb_net.c - net list, add, remove. */
#include <stdio.h>

#include "cli/cli.h"

static void print(json_object *unit)
{
	printf("%-4s %-17s %s%s\n", json_get_bool(unit, "link", false) ? "up" : "down",
	       json_get_str(unit, "mac", ""), json_get_str(unit, "kind", ""),
	       json_get_bool(unit, "vhost_net", false) ? " (vhost-net)" : "");
}

static const struct plug_kind net = { "net", "nets", net_from_text, "LINK MAC               KIND", print };

int verb_net(struct ctl *ctl)
{
	return plug_verb(ctl, &net);
}
