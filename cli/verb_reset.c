/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_reset(struct ctl *ctl)
{
	return ctl_simple(ctl, "vm.reset");
}
