/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhosts.h - the peers of a VM's vhost-user devices: connected before it starts, and again when one
 * of them has gone.
 *
 * The machine opens nothing, so it tells that a peer is gone and why, and gets another connection as
 * soon as somebody listens at that socket again. A new daemon does the same for machines of an old
 * one. Loop thread.
 */
#ifndef DAEMON_VHOSTS_H
#define DAEMON_VHOSTS_H

#include "daemon/config.h"
#include "daemon/vhostconf.h"
#include "daemon/vm.h"

struct vhosts;

/* Connects all of them, and adds their descriptors to files. -EINVAL with *error. */
int vhosts_open(struct vm *vm, struct config_files *files, struct rpc_error *error);
/* Connects one that is to be added, and knows it from then on. -EINVAL with *error. */
int vhosts_open_new(struct vm *vm, json_object *vhost, const char *field, struct vhostconf *ret,
		    int *ret_fd, struct rpc_error *error);
/* vm was found running; or has one more; or has that one no more. */
void vhosts_adopt(struct vm *vm);
void vhosts_adopt_new(struct vm *vm, const char *id);
void vhosts_drop(struct vm *vm, const char *id);
/* The machine told how its peers are: an array of {"id", "up", "why"} (NULL: it has none). */
void vhosts_report(struct vm *vm, json_object *peers);
/* The VM has ended. NULL is fine; returns NULL. */
struct vhosts *vhosts_free(struct vhosts *vhosts);
/* For vm.info: an array; the caller owns it. */
json_object *vhosts_json(const struct vm *vm);
/* What a list of such devices has beside their configuration: {"up"}; the caller owns it. */
json_object *vhosts_unit_json(const struct vm *vm, const char *id);

#endif
