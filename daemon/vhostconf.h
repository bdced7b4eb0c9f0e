/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhostconf.h - the devices of a configuration whose work another process does, each behind a socket:
 * "vhost_user", then "shares" by virtiofs.
 */
#ifndef DAEMON_VHOSTCONF_H
#define DAEMON_VHOSTCONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/netconf.h"
#include "protocol/json.h"
#include "protocol/rpc.h"

#define VHOSTS_MAX 8

struct vhostconf { /* text is borrowed from the configuration */
	char field[40];      /* its name in messages and events: "vhost_user[0]" */
	char id[NET_ID_MAX + 1]; /* of a share: its field, which is no id of anything else */
	const char *device;  /* "blk", "net", "fs" */
	const char *socket;  /* where the peer listens; NULL: virtiofsd is started, for */
	size_t share;        /*   this one of "shares" */
	const char *tag;     /* fs; else "" */
	uint8_t mac[6];      /* net */
	unsigned queues, queue_size; /* 0: the default */
};

/* Is that share one of them? */
bool vhostconf_is_virtiofs(json_object *share);
size_t vhostconf_count(json_object *config);
/* Entry `index` of a configuration that passed vm_config_fields. -EINVAL with *error. */
int vhostconf_get(json_object *config, size_t index, struct vhostconf *ret, struct rpc_error *error);
/* The one with that id. -ENOENT. */
int vhostconf_find(json_object *config, const char *id, struct vhostconf *ret);
/* Checks them all, also against each other. -EINVAL with *error. */
int vhostconf_check(json_object *config, struct rpc_error *error);
/* One more for "vhost_user", which has an id, beside them; field: its name for messages. */
int vhostconf_check_new(json_object *config, json_object *vhost, const char *field,
			struct vhostconf *ret, struct rpc_error *error);
/* What the machine is told of one, or of all: an array. The caller owns it. */
json_object *vhostconf_one_json(const struct vhostconf *conf);
json_object *vhostconf_machine_json(json_object *config);

#endif
