/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plug.h - devices of a VM that come and go: its configuration, its process and its file agree.
 *
 * Order of an addition: the process plugs it in, then the configuration and its file get it. Of a
 * removal: the guest lets it go, the process says so, then it leaves both. What a process says it
 * has (with the configuration of what was plugged in) is the truth about a VM that runs, so a daemon
 * that was killed anywhere in between finishes it when it finds the process again. Loop thread.
 */
#ifndef DAEMON_PLUG_H
#define DAEMON_PLUG_H

#include "daemon/vm.h"

/* Gives every unit of a configuration an id ("disk0", ...) that has none; what is there by default is
 * written down. */
void plug_name_units(json_object *config);
/* -EINVAL: two have the same id. */
int plug_check_ids(json_object *config, struct rpc_error *error);
/* The process told what it has. */
void plug_report(struct vm *vm, json_object *units);
/* It has ended: what waited for the guest is done now; or the VM goes: all calls are ended. */
void plug_ended(struct vm *vm);
void plug_drop(struct vm *vm);

#endif
