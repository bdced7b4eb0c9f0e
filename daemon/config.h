/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - does a VM's configuration make sense on this host, and the files it names. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/netconf.h"
#include "protocol/rpc.h"

#define CONFIG_DISKS_MAX 16
#define CONFIG_MEMORY_DEFAULT ((uint64_t)512 << 20)

struct config_files {
	int kernel;
	int initrd; /* -1: none */
	size_t disk_count;
	int disks[CONFIG_DISKS_MAX];
	size_t net_count;
	struct net_ends nets[NETS_MAX]; /* filled by nets_open() */
};

/* Checks what the schema cannot: sums, features that are not there yet, the files. config passed
 * vm_config_fields. Opens everything it names into *ret (caller: config_close()). lock: also takes
 * the disks for this VM (-EBUSY kind errors), held as long as any copy of the descriptor is open.
 * -EINVAL with *error, and nothing left open. */
int config_open(json_object *config, uint64_t host_memory, bool lock, struct config_files *ret,
		struct rpc_error *error);
void config_close(struct config_files *files);

#endif
