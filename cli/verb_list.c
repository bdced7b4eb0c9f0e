/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"

static void print_row(json_object *vm)
{
	json_object *pid = json_get(vm, "pid");

	printf("%-20s %-9s %-15s %-6s %4" PRId64 " %7" PRId64 "M %10.1fs %7s\n",
	       json_get_str(vm, "name", ""), json_get_str(vm, "state", ""),
	       json_get_str(vm, "reason", ""), json_get_str(vm, "engine", ""),
	       json_get_int(vm, "cpus", 0), json_get_int(vm, "memory", 0) >> 20,
	       json_get_number(vm, "uptime_s", 0), pid ? json_object_get_string(pid) : "-");
}

int verb_list(struct ctl *ctl)
{
	json_object *result, *vms;
	int r = ctl_call(ctl, "vm.list", NULL, &result);
	size_t n;

	if (r != EXIT_OK)
		return r;
	vms = json_get(result, "vms");
	n = json_object_is_type(vms, json_type_array) ? json_object_array_length(vms) : 0;
	if (!ctl->json && (n || isatty(STDOUT_FILENO)))
		printf("%-20s %-9s %-15s %-6s %4s %8s %11s %7s\n", "NAME", "STATE", "REASON",
		       "ENGINE", "CPUS", "MEMORY", "UPTIME", "PID");
	for (size_t i = 0; i < n; i++) {
		json_object *vm = json_object_array_get_idx(vms, i);

		if (ctl->json)
			print_json(vm);
		else
			print_row(vm);
	}
	json_object_put(result);
	return EXIT_OK;
}
