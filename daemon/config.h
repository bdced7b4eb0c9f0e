/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - does a VM's configuration make sense on this host, and the files it names. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/netconf.h"
#include "protocol/rpc.h"

#define CONFIG_DISKS_MAX 16
#define CONFIG_BACKING_MAX 8 /* files that a disk may lie on */
#define CONFIG_DISK_FILES_MAX (CONFIG_DISKS_MAX * (1 + CONFIG_BACKING_MAX))
#define CONFIG_MEMORY_DEFAULT ((uint64_t)512 << 20)
#define CONFIG_MEM_BLOCK_DEFAULT ((uint64_t)2 << 20)

#define CONFIG_HANDED_MAX 48

struct config_handed { /* a descriptor that the VM's process finds by kind and index */
	int fd;
	const char *kind; /* a literal: "port" */
	size_t index;     /* within its list of the configuration */
};

struct config_files {
	int kernel;
	int initrd; /* -1: none */
	size_t disk_files;                /* each disk's, and after it those that it lies on */
	int disks[CONFIG_DISK_FILES_MAX];
	size_t net_count;
	struct net_ends nets[NETS_MAX]; /* filled by nets_open() */
	size_t handed_count;
	struct config_handed handed[CONFIG_HANDED_MAX];
};

/* Checks what the schema cannot: sums, features that are not there yet, the files. config passed
 * vm_config_fields. Opens everything it names into *ret (caller: config_close()). lock: also takes
 * the disks for this VM (-EBUSY kind errors), held as long as any copy of the descriptor is open.
 * share_roots: real paths, below which directories may be shared, NULL-ended; NULL: any directory.
 * -EINVAL with *error, and nothing left open. */
int config_open(json_object *config, uint64_t host_memory, char *const *share_roots, bool lock,
		struct config_files *ret, struct rpc_error *error);
void config_close(struct config_files *files);
/* Adds a descriptor (taken over, also on an error) that launch.c hands over. -EINVAL with *error. */
int config_hand(struct config_files *files, const char *kind, size_t index, int fd,
		struct rpc_error *error);

/* config_sockets.c: checks where sockets and terminals are to be and, if make, makes and adds them.
 * -EINVAL with *error. */
int config_open_sockets(json_object *config, bool make, struct config_files *files,
			struct rpc_error *error);
/* The VM has ended: removes what is left of them. */
void config_remove_sockets(json_object *config);
/* Opens the directory of "shares"[index]. share_roots: as of config_open(). -EINVAL with *error. */
int config_open_share(json_object *config, size_t index, char *const *share_roots, int *ret_fd,
		      struct rpc_error *error);
/* One disk of a configuration; field is its name for messages: "disk". Its files in *ret, as
 * config_open() (caller: config_close()). */
int config_open_disk(json_object *disk, const char *field, bool lock, struct config_files *ret,
		     struct rpc_error *error);

#endif
