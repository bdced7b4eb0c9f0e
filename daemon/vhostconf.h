/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhostconf.h - the devices of a configuration whose work another process does (vhost-user): those in
 * "vhost_user", each behind a socket, then the "shares" that are served by virtiofsd.
 */
#ifndef DAEMON_VHOSTCONF_H
#define DAEMON_VHOSTCONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/rpc.h"

#define VHOSTS_MAX 16

struct vhostconf { /* text is borrowed from the configuration */
	char field[40];      /* its name in messages and events: "vhost_user[0]", "shares[1]" */
	const char *device;  /* "blk", "net", "fs" */
	const char *socket;  /* where the peer listens; NULL: vmxd starts a virtiofsd */
	size_t share;        /* then: which of the shares it is */
	const char *tag;     /* fs; else "" */
	uint8_t mac[6];      /* net */
	unsigned queues, queue_size; /* 0: the default */
};

size_t vhostconf_count(json_object *config);
/* Entry `index` of a configuration that passed vm_config_fields. -EINVAL with *error. */
int vhostconf_get(json_object *config, size_t index, struct vhostconf *ret, struct rpc_error *error);
/* Checks them all, also against each other. -EINVAL with *error. */
int vhostconf_check(json_object *config, struct rpc_error *error);
/* What the machine is told: an array; the caller owns it. */
json_object *vhostconf_machine_json(json_object *config);
/* Is this share one that virtiofsd serves? */
bool vhostconf_is_virtiofs(json_object *share);

#endif
