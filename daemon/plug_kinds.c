/* SPDX-License-Identifier: Apache-2.0 */
/* plug_kinds.c - what can be plugged: disks, network cards, vhost-user devices. */
#include "daemon/plug_internal.h"

#include <string.h>

#include "daemon/config.h"
#include "daemon/launch.h"
#include "daemon/nets.h"
#include "daemon/vhosts.h"

_Static_assert(1 + CONFIG_BACKING_MAX <= NET_FDS_MAX, "struct plug_opened");

static int open_disk(struct vm *vm, json_object *unit, bool live, struct plug_opened *ret,
		     struct rpc_error *error)
{
	struct config_files files;
	int r = config_open_disk(unit, "disk", live, &files, error);

	(void)vm;
	if (r < 0)
		return r;
	if (!live) {
		config_close(&files);
		return 0;
	}
	ret->count = files.disk_files;
	memcpy(ret->fds, files.disks, ret->count * sizeof(ret->fds[0]));
	ret->params = launch_disk_json(unit);
	return 0;
}

static int open_net(struct vm *vm, json_object *unit, bool live, struct plug_opened *ret,
		    struct rpc_error *error)
{
	struct netconf conf;
	struct net_ends ends;
	int r = live ? nets_open_new(vm, unit, "net", &ends, error) :
		       netconf_check_new(vm->config, unit, "net", &conf, error);

	if (r < 0 || !live)
		return r;
	ret->count = ends.fd_count;
	memcpy(ret->fds, ends.fds, ret->count * sizeof(ret->fds[0]));
	ret->params = launch_net_json(unit, &ends);
	return 0;
}

static int open_vhost(struct vm *vm, json_object *unit, bool live, struct plug_opened *ret,
		      struct rpc_error *error)
{
	struct vhostconf conf;
	int r = live ? vhosts_open_new(vm, unit, "vhost", &conf, &ret->fds[0], error) :
		       vhostconf_check_new(vm->config, unit, "vhost", &conf, error);

	if (r < 0 || !live)
		return r;
	ret->count = 1;
	ret->params = vhostconf_one_json(&conf);
	return 0;
}

const struct plug_kind plug_kinds[PLUG_KINDS] = {
	[PLUG_DISK] = {
		.word = "disk", .list = "disks", .class = "virtio-blk", .max = CONFIG_DISKS_MAX,
		.open = open_disk,
	},
	[PLUG_NET] = {
		.word = "net", .list = "nets", .class = "virtio-net", .max = NETS_MAX,
		.open = open_net, .list_default = netconf_default, .known = nets_adopt_new,
		.gone = nets_drop, .describe = nets_card_json,
	},
	[PLUG_VHOST] = {
		.word = "vhost", .list = "vhost_user", .class = "vhost-user", .max = VHOSTS_MAX,
		.open = open_vhost, .known = vhosts_adopt_new, .gone = vhosts_drop,
		.describe = vhosts_unit_json,
	},
};
