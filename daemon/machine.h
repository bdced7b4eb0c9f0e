/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - the inside of vmxd-machine, the process of one VM.
 *
 * Everything it works with is handed over when it is exec'd (launch.h has the numbers); it opens
 * nothing itself. The main thread runs the loop: the control socket, the console and the board's
 * reports; the board has threads of its own. It ends when the board has, after the console's
 * readers got everything and the end is written to the status file, whether a daemon listens or not.
 */
#ifndef DAEMON_MACHINE_H
#define DAEMON_MACHINE_H

#include <stdbool.h>
#include <sys/queue.h>

#include <uv.h>

#include "common/log.h"
#include "daemon/sandbox.h"
#include "devices/board.h"
#include "protocol/json.h"
#include "protocol/rpc.h"

struct console;
struct control;

struct machine {
	uv_loop_t *loop;
	struct log *log;
	json_object *config;      /* as launch.c made it */
	const char *name;
	struct board *board;      /* NULL: could not be made, or is destroyed */
	uv_async_t changed;       /* the board's state changed */
	struct control *control;
	struct console *console;  /* NULL: the VM has none */
	enum board_state told;    /* the state that control was told last */
	unsigned told_resets, told_stalls, told_plugs, told_peers;
	uint32_t told_links;
	bool told_boot;
	json_object *plugged;     /* id -> configuration, of what was plugged in later */
	struct sandbox *sandbox;  /* NULL: vmxd --no-sandbox */
	struct thread_hook threads;
	int kvm_fd;               /* opened while there were files to open; 0: none */
	int proc_fd;              /* /proc/self/fd, likewise, if directories are shared */
	bool ran;
	bool ended;               /* the board is gone, the end is being told */
	int status_fd;
};

/* machine_board.c: makes the board from the configuration and the descriptors from MACHINE_FD_FILES
 * on. Negative errno and *ret_error (caller frees). */
int machine_make_board(struct machine *machine, int console_fd, char **ret_error);
/* The descriptor of a shared directory. */
int machine_share_fd(const struct machine *machine, size_t index);
#define MACHINE_PLUG_FDS_MAX 16
/* Plugs in what the order's params describe; the descriptors are taken over. Negative errno and
 * *ret_error. */
int machine_unit_add(struct machine *machine, json_object *params, const int *fds, size_t n,
		     char **ret_error);
int machine_unit_remove(struct machine *machine, json_object *params, char **ret_error);
/* What is plugged in, as an array. */
json_object *machine_units(struct machine *machine);
/* The engine's counters as a JSON object. */
json_object *machine_stats(struct machine *machine);

/* machine_devices.c: an order to a device. 0 and *result is filled; -ENOSYS: no such order; else
 * *error says why. */
int machine_device_order(struct machine *machine, const struct rpc_request *request,
			 json_object *result, struct rpc_error *error);

/* machine_report.c: what the daemon is told. info NULL: there is no board. */
json_object *machine_report_base(const struct machine *machine, const char *state,
				 const char *reason, const char *detail);
json_object *machine_report(const struct machine *machine, const struct board_info *info);
json_object *machine_boot_failure(const struct machine *machine, int err, const char *why);

/* console.c: takes guest_fd (our end) and listen_fd over. */
int console_new(uv_loop_t *loop, int guest_fd, int listen_fd, struct console **ret_console);
/* The guest has ended: reads what it still said. */
void console_drain(struct console *console);
/* After that: lets the readers finish, then calls done once. */
void console_finish(struct console *console, void (*done)(void *opaque), void *opaque);
struct console *console_free(struct console *console); /* after the loop ended */
/* The last lines, at most n, as an array of strings. */
json_object *console_tail(const struct console *console, size_t n);

/* control.c: takes listen_fd over. */
int control_new(struct machine *machine, int listen_fd, struct control **ret_control);
/* Sends the report (taken over) to whoever is connected. */
void control_tell(struct control *control, json_object *report);
/* Asks the newest daemon for something, that comes as an order. False: none is connected. */
bool control_ask(struct control *control, const char *what, json_object *params);
void control_stop(struct control *control);
struct control *control_free(struct control *control);

/* machine_main.c: the VM's end, from the control socket or a signal. */
void machine_kill(struct machine *machine);
/* machine_main.c: the current report. */
json_object *machine_current(struct machine *machine);
/* machine_main.c: what the board calls. */
board_changed_fn machine_board_changed;

/* machine_probe.c: `vmxd-machine --probe`; the exit status. */
int machine_probe(void);

#endif
