/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/link.h"
#include "daemon/nets.h"
#include "daemon/plug.h"
#include "daemon/probe.h"
#include "daemon/store.h"
#include "daemon/vhosts.h"
#include "daemon/waiter.h"
#include "protocol/schema.h"

static const char *const state_names[] = {
	[VM_CREATED] = "created", [VM_STARTING] = "starting", [VM_RUNNING] = "running",
	[VM_PAUSED] = "paused",   [VM_STOPPING] = "stopping", [VM_STOPPED] = "stopped",
	[VM_FAILED] = "failed",
};

#define STATE_COUNT (sizeof(state_names) / sizeof(state_names[0]))

const char *vm_state_name(enum vm_state state)
{
	return state_names[state];
}

struct vm *vm_find(struct daemon *daemon, const char *name)
{
	struct vm *vm;

	TAILQ_FOREACH(vm, &daemon->vms, entry)
		if (strcmp(vm->name, name) == 0)
			return vm;
	return NULL;
}

bool vm_ended(const struct vm *vm)
{
	return vm->state == VM_CREATED || vm->state == VM_STOPPED || vm->state == VM_FAILED;
}

uint64_t vm_memory(const struct vm *vm)
{
	return json_get_size(vm->config, "memory", CONFIG_MEMORY_DEFAULT);
}

static void forget_run(struct vm *vm)
{
	snprintf(vm->engine, sizeof(vm->engine), "%s", json_get_str(vm->config, "engine", "auto"));
	snprintf(vm->engine_reason, sizeof(vm->engine_reason), "%s",
		 strcmp(vm->engine, "auto") ? "asked for by the configuration" :
					     "decided when the VM starts");
	snprintf(vm->reason, sizeof(vm->reason), "none");
	vm->detail[0] = vm->rip[0] = '\0';
	vm->ran = vm->stopping = vm->killed = vm->has_exit_code = false;
	vm->exit_code = 0;
	vm->resets = 0;
	vm->run_s = vm->boot_ms = 0;
	json_object_put(vm->console_tail);
	vm->console_tail = NULL;
	json_object_put(vm->sandbox);
	vm->sandbox = NULL;
}

int vm_add(struct daemon *daemon, json_object *config, struct vm **ret_vm)
{
	struct vm *vm = calloc(1, sizeof(*vm)), *after = NULL, *other;

	if (!vm) {
		json_object_put(config);
		return -ENOMEM;
	}
	vm->daemon = daemon;
	vm->config = config;
	vm->name = json_get_str(config, "name", "");
	plug_name_units(config);
	LIST_INIT(&vm->waiters);
	LIST_INIT(&vm->plug_ops);
	forget_run(vm);
	TAILQ_FOREACH(other, &daemon->vms, entry) {
		if (strcmp(other->name, vm->name) > 0)
			break;
		after = other;
	}
	if (after)
		TAILQ_INSERT_AFTER(&daemon->vms, after, vm, entry);
	else
		TAILQ_INSERT_HEAD(&daemon->vms, vm, entry);
	daemon->vm_count++;
	*ret_vm = vm;
	return 0;
}

void vm_remove(struct vm *vm)
{
	probe_forget(vm->daemon->probe, vm);
	waiters_drop(vm);
	plug_drop(vm);
	link_free(vm->link);
	vm->nets = nets_free(vm->nets);
	vm->vhosts = vhosts_free(vm->vhosts);
	TAILQ_REMOVE(&vm->daemon->vms, vm, entry);
	vm->daemon->vm_count--;
	json_object_put(vm->console_tail);
	json_object_put(vm->sandbox);
	json_object_put(vm->config);
	free(vm);
}

void vm_delete(struct vm *vm)
{
	struct daemon *daemon = vm->daemon;
	json_object *event = json_object_new_object();

	json_add_str(event, "vm", vm->name);
	log_line(daemon->log, LOG_LEVEL_INFO, "vm %s: deleted", vm->name);
	store_remove(daemon, vm->name);
	vm_remove(vm);
	events_add(daemon, "vm.deleted", event);
}

static double uptime(const struct vm *vm)
{
	double s = vm->run_s;

	if (vm->link && (vm->state == VM_RUNNING || (vm->state == VM_STOPPING && vm->ran)))
		s += (double)(clock_monotonic_ns() - vm->reported_ns) / 1e9;
	return s;
}

json_object *vm_info(const struct vm *vm, bool with_config)
{
	json_object *info = json_object_new_object();

	json_add_str(info, "name", vm->name);
	json_add_str(info, "state", vm_state_name(vm->state));
	json_add_str(info, "reason", vm->reason);
	if (vm->detail[0])
		json_add(info, "detail", json_from_bytes(vm->detail, strlen(vm->detail)));
	json_add_str(info, "engine", vm->engine);
	json_add(info, "engine_reason", json_from_bytes(vm->engine_reason,
							strlen(vm->engine_reason)));
	json_add_bool(info, "nested", json_get_bool(vm->config, "nested", false));
	if (vm->link && link_pid(vm->link))
		json_add_int(info, "pid", link_pid(vm->link));
	else
		json_add_str(info, "pid", NULL);
	json_add_int(info, "cpus", json_get_int(vm->config, "cpus", 1));
	json_add_int(info, "memory", (int64_t)vm_memory(vm));
	json_add_double(info, "uptime_s", uptime(vm));
	json_add_double(info, "boot_ms", vm->boot_ms);
	json_add_int(info, "resets", vm->resets);
	if (vm->has_exit_code)
		json_add_int(info, "exit_code", vm->exit_code);
	if (vm->rip[0])
		json_add_str(info, "rip", vm->rip);
	if (vm->console_tail)
		json_add(info, "console_tail", json_object_get(vm->console_tail));
	if (vm->link && strcmp(json_get_str(vm->config, "console", "serial"), "none") != 0) {
		char *path = link_console_path(vm);

		json_add_str(info, "console_socket", path);
		free(path);
	}
	if (with_config && vm->link && vm->sandbox)
		json_add(info, "sandbox", json_object_get(vm->sandbox));
	json_add(info, "nets", nets_json(vm));
	json_add(info, "peers", vhosts_json(vm));
	if (with_config)
		json_add(info, "config", json_object_get(vm->config));
	return info;
}

/* The event, and the log. */
static void tell_state(struct vm *vm)
{
	json_object *event = json_object_new_object();
	enum vm_state state = vm->state;

	json_add_str(event, "vm", vm->name);
	json_add_str(event, "state", vm_state_name(state));
	json_add_str(event, "reason", vm->reason);
	if (vm->detail[0])
		json_add(event, "detail", json_from_bytes(vm->detail, strlen(vm->detail)));
	log_line(vm->daemon->log, state == VM_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
		 "vm %s: %s%s%s%s%s", vm->name, vm_state_name(state),
		 strcmp(vm->reason, "none") ? ", " : "", strcmp(vm->reason, "none") ? vm->reason : "",
		 vm->detail[0] ? ": " : "", vm->detail);
	events_add(vm->daemon, "vm.state", event);
}

void vm_set_state(struct vm *vm, enum vm_state state)
{
	if (vm->state == state)
		return;
	vm->state = state;
	tell_state(vm);
	waiters_check(vm);
}

/* It was resumed, and paused itself again before anybody saw it run. */
static void stalled_again(struct vm *vm)
{
	struct rpc_error error;

	tell_state(vm);
	rpc_fail(&error, RPC_FAILED, vm->reason, NULL, "%s is paused again: %s", vm->name,
		 vm->detail);
	waiters_fail(vm, WAIT_RESUME, &error);
}

void vm_start_failed(struct vm *vm, const struct rpc_error *error)
{
	log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: start failed: %s", vm->name,
		 error->message);
	waiters_fail(vm, WAIT_START, error);
	forget_run(vm);
	vm_set_state(vm, vm->before == VM_CREATED ? VM_CREATED : VM_STOPPED);
	if (json_get_bool(vm->config, "transient", false))
		vm_delete(vm);
}

static void on_started(struct vm *vm, void *opaque, json_object *result,
		       const struct rpc_error *error)
{
	(void)opaque;
	(void)result;
	/* A machine that cannot start says why in its end, which is on its way. */
	if (error && strcmp(error->reason, "ended") != 0)
		log_line(vm->daemon->log, LOG_LEVEL_ERROR, "vm %s: %s", vm->name, error->message);
}

static void launch(struct vm *vm)
{
	struct config_files files;
	struct rpc_error error;
	int console = -1;
	bool wants = waiter_wants_console(vm);
	int r = config_open(vm->config, vm->daemon->host_memory,
			    vm->daemon->options.share_roots, true, &files, &error);

	log_since(vm->daemon->log, vm->asked_ns, "files");
	if (r == 0) {
		r = nets_open(vm, files.nets, &files.net_count, &error);
		if (r == 0)
			r = vhosts_open(vm, &files, &error);
		log_since(vm->daemon->log, vm->asked_ns, "networks");
		if (r == 0)
			r = link_launch(vm, &files, wants ? &console : NULL, &error);
		config_close(&files);
	}
	if (r < 0) {
		vm->nets = nets_free(vm->nets);
		vm->vhosts = vhosts_free(vm->vhosts);
		vm_start_failed(vm, &error);
		return;
	}
	log_since(vm->daemon->log, vm->asked_ns, "process made");
	if (console >= 0)
		waiter_give_console(vm, console);
	log_line(vm->daemon->log, LOG_LEVEL_INFO, "vm %s: process %d, engine %s: %s", vm->name,
		 (int)link_pid(vm->link), vm->engine, vm->engine_reason);
	link_request(vm->link, "machine.start", NULL, on_started, NULL);
}

static void on_probed(void *opaque, json_object *result, const char *why)
{
	struct vm *vm = opaque;
	const char *choice = json_get_str(result, "choice", "auto");
	struct rpc_error error;

	if (vm->killed) {
		rpc_fail(&error, RPC_WRONG_STATE, "killed", NULL, "%s was killed", vm->name);
		vm_start_failed(vm, &error);
		return;
	}
	if (!result || strcmp(choice, "auto") == 0) {
		rpc_fail(&error, RPC_NO_ENGINE, NULL, "engine", "no engine can run %s: %s", vm->name,
			 result ? json_get_str(result, "why", "") : why);
		vm_start_failed(vm, &error);
		return;
	}
	snprintf(vm->engine, sizeof(vm->engine), "%s", choice);
	snprintf(vm->engine_reason, sizeof(vm->engine_reason), "%s",
		 json_get_str(result, "why", ""));
	launch(vm);
}

void vm_start(struct vm *vm)
{
	vm->asked_ns = clock_monotonic_ns();
	vm->before = vm->state;
	forget_run(vm);
	vm_set_state(vm, VM_STARTING);
	if (strcmp(vm->engine, "auto") != 0) {
		launch(vm);
	} else if (probe_ask(vm->daemon->probe, false, on_probed, vm) < 0) {
		struct rpc_error error;

		rpc_fail(&error, RPC_INTERNAL, NULL, NULL, "out of memory");
		vm_start_failed(vm, &error);
	}
}

void vm_stop(struct vm *vm)
{
	if (!vm->link) { /* STARTING: there is no guest yet whose button could be pressed */
		vm_kill(vm);
		return;
	}
	vm->stopping = true;
	if (vm->state == VM_PAUSED)
		link_request(vm->link, "machine.resume", NULL, NULL, NULL);
	link_request(vm->link, "machine.power_button", NULL, NULL, NULL);
	vm_set_state(vm, VM_STOPPING);
}

void vm_kill(struct vm *vm)
{
	vm->killed = true;
	if (!vm->link) /* STARTING: the probe is still at work */
		return;
	if (link_request(vm->link, "machine.kill", NULL, NULL, NULL) < 0)
		link_kill_after(vm->link, 0);
	else
		link_kill_after(vm->link, 5000);
	if (!vm_ended(vm))
		vm_set_state(vm, VM_STOPPING);
}

/* What both a report and the end of a machine carry. */
static void take_report(struct vm *vm, json_object *report)
{
	json_object *tail = json_get(report, "console_tail");

	snprintf(vm->reason, sizeof(vm->reason), "%s", json_get_str(report, "reason", "none"));
	snprintf(vm->detail, sizeof(vm->detail), "%s", json_get_str(report, "detail", ""));
	snprintf(vm->rip, sizeof(vm->rip), "%s", json_get_str(report, "rip", ""));
	vm->has_exit_code = json_get(report, "exit_code") != NULL;
	vm->exit_code = (int)json_get_int(report, "exit_code", 0);
	vm->resets = json_get_int(report, "resets", 0);
	vm->stalls = json_get_int(report, "stalls", 0);
	vm->run_s = json_get_number(report, "run_s", 0);
	vm->boot_ms = json_get_number(report, "boot_ms", 0);
	vm->reported_ns = clock_monotonic_ns();
	if (json_get_bool(report, "ran", false))
		vm->ran = true;
	if (json_object_is_type(tail, json_type_array)) {
		json_object_put(vm->console_tail);
		vm->console_tail = json_object_get(tail);
	}
	if (json_get(report, "sandbox")) {
		json_object_put(vm->sandbox);
		vm->sandbox = json_object_get(json_get(report, "sandbox"));
	}
	/* After a daemon's restart the machine knows better which engine it runs on. */
	if (json_get_str(report, "engine", NULL))
		snprintf(vm->engine, sizeof(vm->engine), "%s", json_get_str(report, "engine", ""));
	if (json_get_str(report, "engine_reason", NULL))
		snprintf(vm->engine_reason, sizeof(vm->engine_reason), "%s",
			 json_get_str(report, "engine_reason", ""));
}

/* A guest can do it for ever: the first ones have a line of the log each, then each power of two. */
static bool reset_is_logged(int64_t before, int64_t now)
{
	return now <= 8 || __builtin_clzll((uint64_t)before | 1) != __builtin_clzll((uint64_t)now);
}

void vm_link_report(struct vm *vm, json_object *report)
{
	const char *name = json_get_str(report, "state", "");
	enum vm_state state = VM_STARTING;
	int64_t resets = vm->resets, stalls = vm->stalls;

	take_report(vm, report);
	vhosts_report(vm, json_get(report, "peers"));
	plug_report(vm, json_get(report, "units"));
	nets_report(vm, json_get(report, "units"));
	if (vm->resets != resets && vm->state != VM_STARTING) {
		json_object *event = json_object_new_object();

		json_add_str(event, "vm", vm->name);
		json_add_int(event, "resets", vm->resets);
		if (reset_is_logged(resets, vm->resets))
			log_line(vm->daemon->log, LOG_LEVEL_INFO, "vm %s: reset (%lld so far)", vm->name,
				 (long long)vm->resets);
		events_add(vm->daemon, "vm.reset", event);
	}
	for (size_t i = 0; i < STATE_COUNT; i++)
		if (strcmp(state_names[i], name) == 0)
			state = (enum vm_state)i;
	/* The end is reached only when the process is gone. */
	if (state == VM_STOPPED || state == VM_FAILED || vm->stopping || vm->killed)
		state = VM_STOPPING;
	else if (state == VM_CREATED)
		state = VM_STARTING;
	if (state == VM_PAUSED && vm->state == VM_PAUSED && vm->stalls != stalls)
		stalled_again(vm);
	vm_set_state(vm, state);
	/* No sooner: until now the processors were the machine's, and no guest needs its network yet. */
	if (state != VM_STARTING)
		nets_start(vm);
}

void vm_link_ended(struct vm *vm, json_object *final, const char *how)
{
	const char *state = json_get_str(final, "state", "failed");

	vm->nets = nets_free(vm->nets);
	vm->vhosts = vhosts_free(vm->vhosts);
	if (final) {
		take_report(vm, final);
	} else if (vm->killed) {
		snprintf(vm->reason, sizeof(vm->reason), "killed");
		snprintf(vm->detail, sizeof(vm->detail), "the VM's process %s", how);
		state = "stopped";
	} else {
		snprintf(vm->reason, sizeof(vm->reason), "machine-died");
		snprintf(vm->detail, sizeof(vm->detail), "the VM's process %s", how);
		vm->run_s = uptime(vm);
	}
	vm->stopping = vm->killed = false;
	plug_ended(vm);
	vm_set_state(vm, strcmp(state, "stopped") == 0 ? VM_STOPPED : VM_FAILED);
	if (json_get_bool(vm->config, "transient", false))
		vm_delete(vm);
}
