/* SPDX-License-Identifier: Apache-2.0 */
/* verb_vhost.c - vhost list, add, remove. */
#include <stdio.h>

#include "cli/cli.h"

static void print(json_object *unit)
{
	printf("%-4s %-4s %s\n", json_get_bool(unit, "up", false) ? "up" : "down",
	       json_get_str(unit, "device", ""), json_get_str(unit, "socket", ""));
}

static const struct plug_kind vhost = { "vhost", "vhost_user", vhost_from_text, "PEER KIND SOCKET", print };

int verb_vhost(struct ctl *ctl)
{
	return plug_verb(ctl, &vhost);
}
