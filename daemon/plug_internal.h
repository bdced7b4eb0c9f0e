/* SPDX-License-Identifier: Apache-2.0 */
/* plug_internal.h - what the files of plug.h share: kinds of devices, and their lists in a
 * configuration. Loop thread. */
#ifndef DAEMON_PLUG_INTERNAL_H
#define DAEMON_PLUG_INTERNAL_H

#include "daemon/netconf.h"
#include "daemon/plug.h"

#define UNIT_ID_MAX 64 /* a SCHEMA_NAME */

struct plug_opened { /* what is behind a unit */
	size_t count;
	int fds[NET_FDS_MAX];
	json_object *params; /* what the machine is told; NULL: it does not run */
};

/* What can be plugged. */
struct plug_kind {
	const char *word;  /* for people, for events, and in ids */
	const char *list;  /* in the configuration */
	const char *class; /* of the machine's devices */
	size_t max;
	/* Is it usable? Of a VM that runs: also opens it. -EINVAL with *error. */
	int (*open)(struct vm *vm, json_object *unit, bool live, struct plug_opened *ret,
		    struct rpc_error *error);
	/* The list where the configuration says nothing; NULL: none. */
	json_object *(*list_default)(void);
	/* What the daemon keeps beside a unit of a VM that runs; may be NULL. */
	void (*known)(struct vm *vm, const char *id);
	void (*gone)(struct vm *vm, const char *id);
	json_object *(*describe)(const struct vm *vm, const char *id); /* more for a list; may be NULL */
};

enum { PLUG_DISK, PLUG_NET, PLUG_VHOST, PLUG_KINDS };
extern const struct plug_kind plug_kinds[PLUG_KINDS];

/* plug_config.c. A list may be NULL, or anything: it is then empty. */
size_t units_count(json_object *list);
/* The unit of that id, the list's; NULL: none. ret_index may be NULL. */
json_object *units_find(json_object *list, const char *id, size_t *ret_index);
/* The kind of which the configuration has a unit of that id; NULL: none. */
const struct plug_kind *plug_find(json_object *config, const char *id);
/* Gives unit the first id of its kind that is free. */
void plug_set_id(json_object *config, const struct plug_kind *kind, json_object *unit);
/* Change the configuration, tell an event, and write the file; nothing if it is so already. unit
 * stays the caller's. 0, or a negative errno: the configuration has changed, its file has not. */
int plug_config_add(struct vm *vm, const struct plug_kind *kind, json_object *unit);
int plug_config_remove(struct vm *vm, const struct plug_kind *kind, const char *id);
/* A unit as it was configured, and its state; the caller's. */
json_object *plug_unit_json(const struct vm *vm, const struct plug_kind *kind, json_object *unit);

#endif
