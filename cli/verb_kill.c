/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int verb_kill(struct ctl *ctl)
{
	return ctl_simple(ctl, "vm.kill");
}
