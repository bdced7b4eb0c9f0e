/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_balloon(struct ctl *ctl)
{
	return ctl_simple_value(ctl, "vm.balloon", "memory");
}
