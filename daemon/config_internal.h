/* SPDX-License-Identifier: Apache-2.0 */
/* config_internal.h - shared by config*.c only. */
#ifndef DAEMON_CONFIG_INTERNAL_H
#define DAEMON_CONFIG_INTERNAL_H

#include "daemon/config.h"
#include "protocol/json.h"

/* "field: path: why", with the reason that fits err. -EINVAL. */
int config_file_error(struct rpc_error *error, const char *field, const char *path, int err);

/* config.c: opens (and locks) a file or block device that a guest may write to or, as of flags, read;
 * files: what the VM has already. *ret_fd is set on success only. -EINVAL with *error. */
int config_open_image(const char *path, int flags, bool lock, const char *field,
		      const struct config_files *files, int *ret_fd, struct rpc_error *error);
/* config_pmem.c: opens the files of persistent memory into files. */
int config_open_pmem(json_object *config, bool lock, struct config_files *files,
		     struct rpc_error *error);

/* config_share.c: opens the directories into files. roots: see config_open(). */
int config_open_shares(json_object *config, char *const *roots, struct config_files *files,
		       struct rpc_error *error);

#endif
