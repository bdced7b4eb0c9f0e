/* SPDX-License-Identifier: Apache-2.0 */
/* machine_probe.c - `vmxd-machine --probe`: one line of JSON about the engines, the sandbox and the host,
 * in a process that may die of it. */
#include <stdio.h>

#include "daemon/host.h"
#include "daemon/machine.h"

static json_object *result_json(const struct vmx_probe_result *r)
{
	json_object *object = json_object_new_object();

	json_add_bool(object, "usable", r->usable);
	json_add_str(object, "why", r->why);
	json_add_str(object, "advice", r->advice);
	json_add_int(object, "insns_per_second", (int64_t)r->insns_per_second);
	return object;
}

int machine_probe(void)
{
	struct vmx_probe probe;
	json_object *object, *sandbox = sandbox_probe(); /* forks: before there are threads */
	int r = vmx_probe(&probe);

	if (r < 0) {
		json_object_put(sandbox);
		fprintf(stderr, "vmxd-machine: the probe failed: error %d\n", -r);
		return 1;
	}
	object = json_object_new_object();
	json_add_str(object, "choice", vmx_engine_name(probe.choice));
	json_add_str(object, "why", probe.why);
	json_add(object, "kvm", result_json(&probe.kvm));
	json_add(object, "soft", result_json(&probe.soft));
	json_add(object, "sandbox", sandbox);
	json_add(object, "facilities", host_facilities());
	puts(json_text(object));
	json_object_put(object);
	return fflush(stdout) == 0 ? 0 : 1;
}
