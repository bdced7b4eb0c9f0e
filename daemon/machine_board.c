/* SPDX-License-Identifier: Apache-2.0 */
/* machine_board.c - from the configuration that was handed over to struct board_config. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/tsc.h"
#include "daemon/launch.h"
#include "daemon/netconf.h"
#include "daemon/machine.h"

static const struct {
	const char *name;
	uint32_t flag;
} soft_debugs[] = {
	{ "step-only", VMX_SOFT_STEP_ONLY }, { "one-insn", VMX_SOFT_ONE_INSN },
	{ "no-chain", VMX_SOFT_NO_CHAIN },   { "no-tlb", VMX_SOFT_NO_TLB },
	{ "tiny-cache", VMX_SOFT_TINY_CACHE }, { "moved-code", VMX_SOFT_MOVED_CODE },
	{ "runs", VMX_SOFT_RUNS },
};

static uint32_t soft_debug(json_object *list)
{
	size_t n = list ? json_object_array_length(list) : 0;
	uint32_t flags = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(soft_debugs); k++)
			if (strcmp(json_object_get_string(json_object_array_get_idx(list, i)),
				   soft_debugs[k].name) == 0)
				flags |= soft_debugs[k].flag;
	return flags;
}

static const struct {
	const char *name;
	enum net_kind kind;
} net_kinds[] = { { "stream", NET_STREAM }, { "packet", NET_PACKET }, { "tap", NET_TAP } };

static struct limit_rate net_limit(json_object *limits, const char *key)
{
	return (struct limit_rate){ .per_second = (uint64_t)json_get_int(limits, key, 0) };
}

/* Descriptors, one after the other: of a list, or (NULL) numbers in a row. */
struct fds {
	const int *list;
	int number;
};

static int next_fd(struct fds *fds)
{
	return fds->list ? *fds->list++ : fds->number++;
}

/* Takes its descriptors from fds. */
static int machine_net(json_object *net, struct fds *fds, struct board_net *ret)
{
	struct virtio_net_config *config = &ret->config;
	json_object *limits = json_get(net, "limits");
	const char *kind = json_get_str(net, "kind", "");
	unsigned vhosts = (unsigned)json_get_int(net, "vhosts", 0);
	unsigned count = (unsigned)json_get_int(net, "fds", 0) - vhosts;

	if (count > NET_PAIRS_MAX || vhosts > NET_PAIRS_MAX)
		return -EINVAL;
	*config = (struct virtio_net_config){
		.fd_count = count,
		.vhost_count = vhosts,
		.vhost_must = json_get_bool(net, "vhost_must", false),
		.mtu = (uint16_t)json_get_int(net, "mtu", 0),
		.to_guest = { net_limit(limits, "rx_bytes_per_s"),
			      net_limit(limits, "rx_packets_per_s") },
		.from_guest = { net_limit(limits, "tx_bytes_per_s"),
				net_limit(limits, "tx_packets_per_s") },
	};
	for (size_t i = 0; i < ARRAY_SIZE(net_kinds); i++)
		if (strcmp(net_kinds[i].name, kind) == 0)
			config->kind = net_kinds[i].kind;
	for (unsigned i = 0; i < count; i++)
		config->fds[i] = next_fd(fds);
	for (unsigned i = 0; i < vhosts; i++)
		config->vhost_fds[i] = next_fd(fds);
	snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(net, "id", ""));
	return netconf_mac_parse(json_get_str(net, "mac", ""), config->mac) ? 0 : -EINVAL;
}

/* The descriptor that was handed over for this; -1: none. */
static int handed_fd(json_object *config, const char *kind, size_t index)
{
	json_object *list = json_get(config, "handed");
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		json_object *one = json_object_array_get_idx(list, i);

		if (!strcmp(json_get_str(one, "kind", ""), kind) &&
		    json_get_int(one, "index", -1) == (int64_t)index)
			return (int)json_get_int(one, "fd", -1);
	}
	return -1;
}

static int set_ports(json_object *config, struct board_config *board)
{
	json_object *ports = json_get(config, "ports");
	size_t n = ports ? json_object_array_length(ports) : 0;

	if (n > BOARD_PORTS_MAX)
		return -EINVAL;
	board->console_virtio = json_get_bool(config, "console_virtio", false);
	board->port_count = n;
	for (size_t i = 0; i < n; i++) {
		struct board_port *port = &board->ports[i];

		snprintf(port->name, sizeof(port->name), "%s",
			 json_get_str(json_object_array_get_idx(ports, i), "name", ""));
		port->fd = handed_fd(config, "port", i);
		if (port->fd < 0)
			return -EINVAL;
	}
	return 0;
}

static int set_vsock(json_object *config, struct board_config *board)
{
	int64_t cid = json_get_int(config, "vsock_cid", 0);

	if (!cid)
		return 0;
	board->vsock = (struct board_vsock){ .cid = (uint32_t)cid,
					     .fd = handed_fd(config, "vsock", 0) };
	return board->vsock.fd < 0 ? -EINVAL : 0;
}

int machine_share_fd(const struct machine *machine, size_t index)
{
	return handed_fd(machine->config, "share", index);
}

static int set_shares(const struct machine *machine, struct board_config *board)
{
	json_object *shares = json_get(machine->config, "shares");
	size_t n = shares ? json_object_array_length(shares) : 0;

	if (n > BOARD_SHARES_MAX)
		return -EINVAL;
	board->proc_fd = machine->proc_fd;
	board->share_count = n;
	for (size_t i = 0; i < n; i++) {
		json_object *one = json_object_array_get_idx(shares, i);
		struct board_share *share = &board->shares[i];

		share->fd = machine_share_fd(machine, i);
		share->readonly = json_get_bool(one, "readonly", false);
		snprintf(share->tag, sizeof(share->tag), "%s", json_get_str(one, "tag", ""));
		if (share->fd < 0)
			return -EINVAL;
	}
	return 0;
}

static int set_pmems(json_object *config, struct board_config *board)
{
	while (board->pmem_count < BOARD_PMEMS_MAX) {
		int fd = handed_fd(config, "pmem", board->pmem_count);

		if (fd < 0)
			return 0;
		board->pmems[board->pmem_count++].fd = fd;
	}
	return handed_fd(config, "pmem", BOARD_PMEMS_MAX) < 0 ? 0 : -EINVAL;
}

static struct board_mem mem_config(json_object *mem)
{
	return (struct board_mem){ .size = (uint64_t)json_get_int(mem, "size", 0),
				   .requested = (uint64_t)json_get_int(mem, "requested", 0),
				   .block = (uint64_t)json_get_int(mem, "block", 0) };
}

static const char *const vhost_kinds[VHOST_KINDS] = {
	[VHOST_KIND_BLK] = "blk", [VHOST_KIND_NET] = "net", [VHOST_KIND_FS] = "fs",
};

static int machine_vhost(json_object *one, int fd, struct board_vhost *ret)
{
	const char *device = json_get_str(one, "device", "");

	*ret = (struct board_vhost){ .fd = fd, .queues = (unsigned)json_get_int(one, "queues", 0),
				     .queue_size = (uint16_t)json_get_int(one, "queue_size", 0) };
	snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(one, "id", ""));
	snprintf(ret->tag, sizeof(ret->tag), "%s", json_get_str(one, "tag", ""));
	while (ret->kind < VHOST_KINDS && strcmp(vhost_kinds[ret->kind], device) != 0)
		ret->kind++;
	return fd < 0 || ret->kind == VHOST_KINDS ||
	       !netconf_mac_parse(json_get_str(one, "mac", ""), ret->mac) ? -EINVAL : 0;
}

static int set_vhosts(json_object *config, struct board_config *board)
{
	json_object *vhosts = json_get(config, "vhosts");
	size_t n = vhosts ? json_object_array_length(vhosts) : 0;
	int r = n > BOARD_VHOSTS_MAX ? -EINVAL : 0;

	board->vhost_count = n;
	for (size_t i = 0; i < n && r == 0; i++)
		r = machine_vhost(json_object_array_get_idx(vhosts, i), handed_fd(config, "vhost", i),
				  &board->vhosts[i]);
	return r;
}

static enum disk_format disk_format(const char *name)
{
	return strcmp(name, "qcow2") == 0 ? DISK_QCOW2 : DISK_RAW;
}

static void machine_disk(json_object *disk, struct fds *fds, struct board_disk *ret)
{
	json_object *backing = json_get(disk, "backing");
	size_t n = backing ? json_object_array_length(backing) : 0;

	*ret = (struct board_disk){
		.image.readonly = json_get_bool(disk, "readonly", false),
		.image.files = 1 + (n < DISK_BACKING_MAX ? n : DISK_BACKING_MAX),
		.queues = (unsigned)json_get_int(disk, "queues", 0),
		.threads = json_get_bool(disk, "threads", false),
		.bytes.per_second = (uint64_t)json_get_int(disk, "bytes", 0),
		.ops.per_second = (uint64_t)json_get_int(disk, "ops", 0),
	};
	snprintf(ret->serial, sizeof(ret->serial), "%s", json_get_str(disk, "serial", ""));
	snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(disk, "id", ""));
	for (size_t i = 0; i < ret->image.files; i++) {
		ret->image.file[i].fd = next_fd(fds);
		ret->image.file[i].format = disk_format(i ?
			json_object_get_string(json_object_array_get_idx(backing, i - 1)) :
			json_get_str(disk, "format", "raw"));
	}
}

/* From the daemon's look at the clocks: waits for nothing. */
static uint64_t host_tsc_hz(json_object *sample)
{
	const struct tsc_sample since = {
		.tsc = (uint64_t)json_get_int(sample, "tsc", 0),
		.raw_ns = (uint64_t)json_get_int(sample, "raw_ns", 0),
		.suspended_ns = (uint64_t)json_get_int(sample, "suspended_ns", 0),
	};

	return tsc_hz(sample ? &since : NULL);
}

int machine_make_board(struct machine *machine, int console_fd, char **ret_error)
{
	json_object *config = machine->config, *disks = json_get(config, "disks");
	json_object *nets = json_get(config, "nets");
	const char *engine = json_get_str(config, "engine", "");
	bool initrd = json_get_bool(config, "initrd", false);
	struct fds fds = { NULL, MACHINE_FD_FILES + 1 + initrd }; /* of the first disk */
	struct board_config board = {
		.memory_bytes = (uint64_t)json_get_int(config, "memory", 0),
		.cpus = (unsigned)json_get_int(config, "cpus", 1),
		.engine = strcmp(engine, "kvm") == 0 ? VMX_ENGINE_KVM : VMX_ENGINE_SOFT,
		.vm_flags = json_get_bool(config, "nested", false) ? (uint32_t)VMX_VM_NESTED : 0,
		.soft_debug = soft_debug(json_get(config, "soft_debug")),
		.code_cache_bytes = (uint64_t)json_get_int(config, "code_cache", 0),
		.kvm_fd = machine->kvm_fd,
		.tsc_hz = host_tsc_hz(json_get(config, "tsc")),
		.asked_ns = (uint64_t)json_get_int(config, "asked_ns", 0),
		.threads = &machine->threads,
		.kernel_fd = MACHINE_FD_FILES,
		.initrd_fd = initrd ? MACHINE_FD_FILES + 1 : -1,
		.cmdline = json_get_str(config, "cmdline", ""),
		.console_fd = console_fd,
		.balloon = json_get_bool(config, "balloon", false),
		.mem = mem_config(json_get(config, "mem")),
		.reboot_stops = json_get_bool(config, "reboot_stops", false),
		.debug_exit = json_get_bool(config, "debug_exit", false),
		.test_device = json_get_bool(config, "test_device", false),
		.virtio = (json_get_bool(config, "mmio", false) ? BOARD_VIRTIO_MMIO : 0u) |
			  (json_get_bool(config, "packed", false) ? BOARD_VIRTIO_PACKED : 0u),
		.disk_count = disks ? json_object_array_length(disks) : 0,
		.net_count = nets ? json_object_array_length(nets) : 0,
	};

	if (board.disk_count > BOARD_DISKS_MAX || board.net_count > BOARD_NETS_MAX ||
	    set_ports(config, &board) < 0 || set_shares(machine, &board) < 0 ||
	    set_vsock(config, &board) < 0 || set_pmems(config, &board) < 0 ||
	    set_vhosts(config, &board) < 0)
		return -EINVAL;
	for (size_t i = 0; i < board.disk_count; i++) {
		json_object *disk = json_object_array_get_idx(disks, i);

		machine_disk(disk, &fds, &board.disks[i]);
	}
	for (size_t i = 0; i < board.net_count; i++) {
		if (machine_net(json_object_array_get_idx(nets, i), &fds, &board.nets[i]) < 0)
			return -EINVAL;
	}
	return board_create(&board, machine->log, machine_board_changed, machine, &machine->board,
			    ret_error);
}

static int add_disk(struct machine *machine, json_object *params, const int *list, size_t n,
		    char **ret_error)
{
	struct fds fds = { list, 0 };
	struct board_disk disk;

	if (!n || n > 1 + DISK_BACKING_MAX)
		return -EINVAL;
	machine_disk(params, &fds, &disk);
	if (disk.image.files != n)
		return -EINVAL;
	return board_disk_add(machine->board, &disk, ret_error);
}

static int add_net(struct machine *machine, json_object *params, const int *list, size_t n,
		   char **ret_error)
{
	struct fds fds = { list, 0 };
	struct board_net net;

	if (n != (size_t)json_get_int(params, "fds", 0) || machine_net(params, &fds, &net) < 0)
		return -EINVAL;
	return board_net_add(machine->board, &net, ret_error);
}

static int add_vhost(struct machine *machine, json_object *params, const int *list, size_t n,
		     char **ret_error)
{
	struct board_vhost vhost;

	if (n != 1 || machine_vhost(params, list[0], &vhost) < 0)
		return -EINVAL;
	return board_vhost_add(machine->board, &vhost, ret_error);
}

static const struct {
	const char *class;
	int (*add)(struct machine *machine, json_object *params, const int *list, size_t n,
		   char **ret_error);
} pluggable[] = { { "virtio-blk", add_disk }, { "virtio-net", add_net }, { "vhost-user", add_vhost } };

int machine_unit_add(struct machine *machine, json_object *params, const int *fds, size_t n,
		     char **ret_error)
{
	const char *class = json_get_str(params, "class", ""), *id = json_get_str(params, "id", "");
	int r = machine->board ? -ENOTSUP : -EBADFD;

	*ret_error = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(pluggable) && machine->board; i++)
		if (strcmp(pluggable[i].class, class) == 0)
			r = pluggable[i].add(machine, params, fds, n, ret_error);
	if (r < 0) {
		for (size_t i = 0; i < n; i++)
			close(fds[i]);
		return r;
	}
	if (!machine->plugged)
		machine->plugged = json_object_new_object();
	json_add(machine->plugged, id, json_object_get(json_get(params, "config")));
	return 0;
}

int machine_unit_remove(struct machine *machine, json_object *params, char **ret_error)
{
	*ret_error = NULL;
	return machine->board ? board_unit_remove(machine->board, json_get_str(params, "id", ""),
						  json_get_bool(params, "force", false), ret_error) :
				-EBADFD;
}

static void add_net_state(struct board *board, const char *id, json_object *unit)
{
	struct virtio_net_info info = { 0 };

	(void)board_net_info(board, id, &info);
	json_add_bool(unit, "link", info.link);
	json_add_bool(unit, "vhost_net", info.vhost);
}

json_object *machine_units(struct machine *machine)
{
	struct board_unit units[BOARD_UNITS_MAX];
	size_t n = board_units(machine->board, units, BOARD_UNITS_MAX);
	json_object *list = json_object_new_array();

	for (size_t i = 0; list && i < n && i < BOARD_UNITS_MAX; i++) {
		json_object *unit = json_object_new_object();
		json_object *config = json_get(machine->plugged, units[i].id);

		json_add_str(unit, "id", units[i].id);
		json_add_str(unit, "class", units[i].class);
		json_add_int(unit, "slot", units[i].slot);
		json_add_bool(unit, "removing", units[i].removing);
		if (strcmp(units[i].class, "virtio-net") == 0)
			add_net_state(machine->board, units[i].id, unit);
		if (config)
			json_add(unit, "config", json_object_get(config));
		json_object_array_add(list, unit);
	}
	return list;
}

static void add_net_stats(struct board *board, const char *id, json_object *object)
{
	struct virtio_net_info info;
	const struct virtio_net_counters *c = &info.counters;

	if (board_net_info(board, id, &info) < 0)
		return;
	const struct {
		const char *name;
		uint64_t value;
	} values[] = {
		{ "rx_packets", c->rx_packets }, { "rx_bytes", c->rx_bytes },
		{ "rx_dropped", c->rx_dropped }, { "tx_packets", c->tx_packets },
		{ "tx_bytes", c->tx_bytes },     { "tx_dropped", c->tx_dropped },
	};

	for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
		char name[BOARD_ID_MAX + 16];

		snprintf(name, sizeof(name), "%s_%s", id, values[k].name);
		json_add_int(object, name, (int64_t)values[k].value);
	}
}

json_object *machine_stats(struct machine *machine)
{
	struct board_unit units[BOARD_UNITS_MAX];
	struct vmx_stat stats[128];
	json_object *object = json_object_new_object();
	size_t n = machine->board ? board_stats(machine->board, stats, ARRAY_SIZE(stats)) : 0;

	if (n > ARRAY_SIZE(stats))
		n = ARRAY_SIZE(stats);
	for (size_t i = 0; i < n; i++)
		json_add_int(object, stats[i].name, (int64_t)stats[i].value);
	n = machine->board ? board_units(machine->board, units, BOARD_UNITS_MAX) : 0;
	for (size_t i = 0; i < n && i < BOARD_UNITS_MAX; i++)
		add_net_stats(machine->board, units[i].id, object);
	return object;
}
