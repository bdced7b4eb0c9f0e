/* SPDX-License-Identifier: Apache-2.0 */
/* handlers.h - one handler per method; methods_dispatch() has the table. */
#ifndef DAEMON_HANDLERS_H
#define DAEMON_HANDLERS_H

#include "daemon/call.h"

/* methods_vm.c */
method_fn do_vm_create, do_vm_start, do_vm_stop, do_vm_kill, do_vm_pause, do_vm_resume, do_vm_reset, do_vm_disk_resize,
	do_vm_delete, do_vm_list, do_vm_info, do_vm_wait, do_vm_console;
/* methods_device.c */
method_fn do_vm_resize, do_vm_balloon, do_vm_mem_resize;
/* plug.c */
method_fn do_vm_disk_add, do_vm_disk_remove, do_vm_disk_list;
method_fn do_vm_net_add, do_vm_net_remove, do_vm_net_list;
method_fn do_vm_vhost_add, do_vm_vhost_remove, do_vm_vhost_list;
/* methods_daemon.c */
method_fn do_events_subscribe, do_daemon_info, do_daemon_probe, do_rpc_discover;

#endif
