/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_mem(struct ctl *ctl)
{
	return ctl_simple_value(ctl, "vm.mem_resize", "size");
}
