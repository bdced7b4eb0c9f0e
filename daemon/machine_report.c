/* SPDX-License-Identifier: Apache-2.0 */
/* machine_report.c - the board's state in the daemon's words. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/machine.h"

#define TAIL_LINES 20

json_object *machine_report_base(const struct machine *machine, const char *state,
				 const char *reason, const char *detail)
{
	json_object *report = json_object_new_object();

	json_add_int(report, "pid", getpid());
	json_add_str(report, "state", state);
	json_add_str(report, "reason", reason);
	json_add(report, "detail", json_from_bytes(detail, strlen(detail)));
	json_add_str(report, "engine", json_get_str(machine->config, "engine", ""));
	json_add_str(report, "engine_reason", json_get_str(machine->config, "engine_reason", ""));
	json_add_bool(report, "ran", machine->ran);
	json_add(report, "sandbox", sandbox_json(machine->sandbox));
	return report;
}

/* Of each vhost-user device: is somebody there who does its work? */
static json_object *peers(const struct machine *machine)
{
	struct board_unit units[BOARD_UNITS_MAX];
	size_t n = machine->board ? board_units(machine->board, units, BOARD_UNITS_MAX) : 0;
	json_object *list = json_object_new_array();
	struct vhost_user_info info;

	for (size_t i = 0; i < n && i < BOARD_UNITS_MAX; i++) {
		json_object *peer;

		if (board_vhost_info(machine->board, units[i].id, &info) < 0)
			continue;
		peer = json_object_new_object();
		json_add_str(peer, "id", units[i].id);
		json_add_bool(peer, "up", info.up);
		json_add(peer, "why", json_from_bytes(info.why, strlen(info.why)));
		json_object_array_add(list, peer);
	}
	return list;
}

json_object *machine_report(const struct machine *machine, const struct board_info *info)
{
	bool stalled = info->state == BOARD_PAUSED && info->stall[0];
	json_object *report = machine_report_base(machine, board_state_name(info->state),
						  stalled ? info->stall_reason :
							    board_stop_name(info->stop),
						  stalled ? info->stall : info->detail);
	char rip[24];

	if (machine->board)
		json_add(report, "units", machine_units((struct machine *)(uintptr_t)machine));
	json_add_int(report, "resets", info->resets);
	json_add_int(report, "stalls", info->stalls);
	json_add_double(report, "run_s", (double)info->run_ns / 1e9);
	json_add_double(report, "boot_ms", (double)info->boot_ns / 1e6);
	json_add(report, "peers", peers(machine));
	if (info->stop == BOARD_STOP_DEBUG_EXIT)
		json_add_int(report, "exit_code", info->exit_code);
	if (info->rip && info->state == BOARD_FAILED) {
		snprintf(rip, sizeof(rip), "0x%" PRIx64, info->rip);
		json_add_str(report, "rip", rip);
	}
	if (info->state == BOARD_FAILED)
		json_add(report, "console_tail", console_tail(machine->console, TAIL_LINES));
	return report;
}

json_object *machine_boot_failure(const struct machine *machine, int err, const char *why)
{
	bool engine = err == -ENOTSUP;
	json_object *report = machine_report_base(machine, "failed", engine ? "engine-error" : "boot-error",
					  why ? why : strerror(-err));

	json_add_int(report, "errno", -err);
	return report;
}
