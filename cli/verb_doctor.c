/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static void print_finding(const char *name, json_object *finding)
{
	const char *advice = json_get_str(finding, "advice", "");

	printf("%-10s %s: %s\n", name, json_get_bool(finding, "usable", false) ? "usable" : "not usable",
	       json_get_str(finding, "why", ""));
	if (*advice)
		printf("%-10s %s\n", "", advice);
}

static void print_facilities(json_object *list)
{
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		json_object *facility = json_object_array_get_idx(list, i);

		print_finding(json_get_str(facility, "name", "?"), facility);
	}
}

static void print_sandbox(json_object *sandbox)
{
	int64_t landlock = json_get_int(sandbox, "landlock", 0);

	if (!json_get_bool(sandbox, "enabled", false)) {
		printf("%-10s not possible: %s\n", "sandbox", json_get_str(sandbox, "why", "?"));
		printf("%-10s VMs do not start; vmxd --no-sandbox does without it\n", "");
		return;
	}
	printf("%-10s seccomp; ", "sandbox");
	if (landlock)
		printf("Landlock ABI %" PRId64 "%s; ", landlock,
		       json_get_bool(sandbox, "landlock_tcp", false) ? "" : " (without TCP)");
	else
		printf("no Landlock in this kernel; ");
	printf("%s (%s); %s\n", json_get_bool(sandbox, "empty_root", false) ? "empty root" :
		"the host's root", json_get_str(sandbox, "root", ""),
		json_get_bool(sandbox, "no_capabilities", false) ? "no capabilities" :
		"no capabilities but in the bounding set, where they do nothing");
}

int verb_doctor(struct ctl *ctl)
{
	json_object *params = json_object_new_object(), *info, *probe;
	int r = ctl_call(ctl, "daemon.info", NULL, &info);

	if (r != EXIT_OK) {
		json_object_put(params);
		return r;
	}
	if (has_option(ctl, OPTION_REFRESH))
		json_add_bool(params, "refresh", true);
	r = ctl_call(ctl, "daemon.probe", params, &probe);
	if (r == EXIT_OK && ctl->json) {
		json_object *both = json_object_new_object();

		json_add(both, "daemon", json_object_get(info));
		json_add(both, "probe", json_object_get(probe));
		print_json(both);
		json_object_put(both);
	} else if (r == EXIT_OK) {
		printf("%-10s vmxd %s at %s, %" PRId64 " VMs, %" PRId64 " running\n", "daemon",
		       json_get_str(info, "version", "?"), json_get_str(info, "socket", "?"),
		       json_get_int(info, "vms", 0), json_get_int(info, "running", 0));
		printf("%-10s %s\n", "access", json_get_str(info, "access", "?"));
		print_finding("kvm", json_get(probe, "kvm"));
		print_finding("soft", json_get(probe, "soft"));
		printf("%-10s %s: %s\n", "auto", json_get_str(probe, "choice", "?"),
		       json_get_str(probe, "why", ""));
		print_sandbox(json_get(probe, "sandbox"));
		print_facilities(json_get(probe, "facilities"));
	}
	if (r == EXIT_OK && strcmp(json_get_str(probe, "choice", "auto"), "auto") == 0)
		r = EXIT_FAILED;
	json_object_put(info);
	json_object_put(probe);
	return r;
}
