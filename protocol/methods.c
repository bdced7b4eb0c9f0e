/* SPDX-License-Identifier: Apache-2.0 */
/* methods.c - the one table of methods, with what each takes and answers. */
#include "protocol/methods_internal.h"

#include <string.h>

#define NAME_FIELD \
	{ .name = "name", .type = SCHEMA_NAME, .required = true, .summary = "The VM." }

static const struct schema_field none[] = { END };
static const struct schema_field name_only[] = { NAME_FIELD, END };

static const struct schema_field disk_resize_params[] = {
	NAME_FIELD,
	{ .name = "disk", .type = SCHEMA_NAME, .required = true,
	  .summary = "Its id: disk0 is the first in the configuration." },
	{ .name = "size", .type = SCHEMA_SIZE, .min = 512, .max = INT64_MAX - 511,
	  .dflt = "what its file or block device has got",
	  .summary = "The new size, in whole sectors of 512 bytes; not smaller than before." },
	END
};

static const struct schema_field disk_resize_result[] = {
	{ .name = "size", .type = SCHEMA_INT, .required = true, .summary = "Bytes it has now." },
	END
};

static const struct schema_field start_params[] = {
	NAME_FIELD,
	{ .name = "console", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Also attach to the console, before the guest runs: the answer carries one "
		     "descriptor (SCM_RIGHTS)." },
	END
};

static const struct schema_field stop_params[] = {
	NAME_FIELD,
	{ .name = "timeout_s", .type = SCHEMA_NUMBER, .max = 86400, .dflt = "30",
	  .summary = "How long the guest has after its ACPI power button was pressed; then it is "
		     "ended by force. 0 ends it at once." },
	END
};

static const struct schema_field info_params[] = {
	NAME_FIELD,
	{ .name = "stats", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Ask the engine for its counters too." },
	END
};

static const struct schema_field wait_params[] = {
	NAME_FIELD,
	{ .name = "timeout_s", .type = SCHEMA_NUMBER, .max = 31536000, .dflt = "none",
	  .summary = "Give up after this long, with the error \"timeout\"." },
	END
};

static const struct schema_field console_params[] = {
	NAME_FIELD,
	{ .name = "fd", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Attach now: the answer carries one connected descriptor (SCM_RIGHTS)." },
	END
};

static const struct schema_field resize_params[] = {
	NAME_FIELD,
	{ .name = "columns", .type = SCHEMA_INT, .required = true, .min = 1, .max = 65535,
	  .summary = "Characters in a line." },
	{ .name = "rows", .type = SCHEMA_INT, .required = true, .min = 1, .max = 65535,
	  .summary = "Lines." },
	END
};

static const struct schema_field balloon_params[] = {
	NAME_FIELD,
	{ .name = "memory", .type = SCHEMA_SIZE, .required = true, .min = MIB, .max = TIB,
	  .summary = "What the guest is to make do with, at most the memory of the VM." },
	END
};

static const struct schema_field mem_resize_params[] = {
	NAME_FIELD,
	{ .name = "size", .type = SCHEMA_SIZE, .required = true, .max = TIB,
	  .summary = "What the guest is to have beside its memory, in whole blocks of \"mem\"." },
	END
};

static const struct schema_field disk_add_params[] = {
	NAME_FIELD,
	{ .name = "disk", .type = SCHEMA_OBJECT, .required = true, .fields = disk_config_fields,
	  .summary = "As in vm.create." },
	END
};

static const struct schema_field net_add_params[] = {
	NAME_FIELD,
	{ .name = "net", .type = SCHEMA_OBJECT, .required = true, .fields = net_config_fields,
	  .summary = "As in vm.create." },
	END
};

static const struct schema_field vhost_add_params[] = {
	NAME_FIELD,
	{ .name = "vhost", .type = SCHEMA_OBJECT, .required = true, .fields = vhost_config_fields,
	  .summary = "As \"vhost_user\" in vm.create." },
	END
};

static const struct schema_field unit_remove_params[] = {
	NAME_FIELD,
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Of the device." },
	{ .name = "force", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Do not wait for the guest: it gets errors from what it still sees of the device." },
	{ .name = "timeout_s", .type = SCHEMA_NUMBER, .max = 86400, .dflt = "30",
	  .summary = "How long the guest has to let it go before the error \"timeout\"; it may "
		     "still do it afterwards." },
	END
};

static const struct schema_field subscribe_params[] = {
	{ .name = "from", .type = SCHEMA_INT, .max = INT64_MAX - 1, .dflt = "the next event",
	  .summary = "First sequence number wanted; older events that are still known are sent "
		     "again." },
	END
};

static const struct schema_field probe_params[] = {
	{ .name = "refresh", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Measure again instead of telling the last result." },
	END
};

static const struct schema_field sandbox_result[] = {
	{ .name = "enabled", .type = SCHEMA_BOOL, .required = true,
	  .summary = "The VM's process is confined." },
	{ .name = "why", .type = SCHEMA_STRING, .summary = "Of one that is not: why not." },
	{ .name = "seccomp", .type = SCHEMA_BOOL, .summary = "Each thread has its own few system calls." },
	{ .name = "landlock", .type = SCHEMA_INT,
	  .summary = "ABI of Landlock, which denies every file; 0: this kernel has none." },
	{ .name = "landlock_tcp", .type = SCHEMA_BOOL, .summary = "Landlock denies TCP as well." },
	{ .name = "empty_root", .type = SCHEMA_BOOL, .summary = "Its root directory is an empty one." },
	{ .name = "root", .type = SCHEMA_STRING, .summary = "By which way, or why it is not." },
	{ .name = "no_capabilities", .type = SCHEMA_BOOL,
	  .summary = "It has none, and none is in its bounding set." },
	END
};

#define NET_RESULT_FIELDS \
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Its id." }, \
	{ .name = "kind", .type = SCHEMA_ENUM, .values = net_kind_words, .required = true, \
	  .summary = "user, tap or stream." }, \
	{ .name = "mac", .type = SCHEMA_STRING, .required = true, .summary = "Its address." }, \
	{ .name = "link", .type = SCHEMA_BOOL, .required = true, \
	  .summary = "The VM runs, and there is something behind the card." }, \
	{ .name = "vhost_net", .type = SCHEMA_BOOL, .required = true, \
	  .summary = "The host's kernel moves its packets." }

static const struct schema_field net_result[] = {
	NET_RESULT_FIELDS,
	END
};

static const struct schema_field peer_result[] = {
	{ .name = "device", .type = SCHEMA_STRING, .required = true,
	  .summary = "As in the configuration: vhost_user[0]." },
	{ .name = "kind", .type = SCHEMA_STRING, .required = true, .summary = "blk, net or fs." },
	{ .name = "up", .type = SCHEMA_BOOL, .required = true,
	  .summary = "The program that does its work is there; else the device waits for it." },
	{ .name = "why", .type = SCHEMA_STRING, .required = true,
	  .summary = "Of one that is not, why; or empty." },
	END
};

static const struct schema_field info_result[] = {
	{ .name = "name", .type = SCHEMA_NAME, .required = true, .summary = "The VM." },
	{ .name = "state", .type = SCHEMA_STRING, .required = true,
	  .summary = "created, starting, running, paused, stopping, stopped or failed." },
	{ .name = "reason", .type = SCHEMA_STRING, .required = true,
	  .summary = "Why it ended: none, guest-poweroff, guest-reset, triple-fault, debug-exit, "
		     "killed, engine-error, boot-error, sandbox-violation, machine-died or "
		     "host-restart; of one that is "
		     "paused: disk-full if a disk found no room on the host, file-lost if a file of \"pmem\" "
		     "got shorter." },
	{ .name = "detail", .type = SCHEMA_STRING, .summary = "The same as a sentence." },
	{ .name = "engine", .type = SCHEMA_STRING, .required = true,
	  .summary = "kvm or soft; auto before the first start of a VM that leaves it open." },
	{ .name = "engine_reason", .type = SCHEMA_STRING, .required = true,
	  .summary = "Why that engine." },
	{ .name = "nested", .type = SCHEMA_BOOL, .required = true,
	  .summary = "The guest is offered VMX." },
	{ .name = "pid", .type = SCHEMA_INT, .summary = "Of its vmxd-machine; null without one." },
	{ .name = "cpus", .type = SCHEMA_INT, .required = true, .summary = "Virtual processors." },
	{ .name = "memory", .type = SCHEMA_INT, .required = true, .summary = "Bytes." },
	{ .name = "uptime_s", .type = SCHEMA_NUMBER, .required = true,
	  .summary = "Time it ran, pauses left out." },
	{ .name = "boot_ms", .type = SCHEMA_NUMBER, .required = true,
	  .summary = "From the request that started it to the guest's first instruction." },
	{ .name = "resets", .type = SCHEMA_INT, .required = true,
	  .summary = "How often the guest was reset." },
	{ .name = "exit_code", .type = SCHEMA_INT, .summary = "Of reason debug-exit." },
	{ .name = "rip", .type = SCHEMA_STRING,
	  .summary = "Where the guest was when it failed, in hexadecimal." },
	{ .name = "console_tail", .type = SCHEMA_STRINGS,
	  .summary = "The last lines on the console, of a VM that failed." },
	{ .name = "console_socket", .type = SCHEMA_STRING, .summary = "While there is a console." },
	{ .name = "sandbox", .type = SCHEMA_OBJECT, .fields = sandbox_result,
	  .summary = "How its process is confined (vm.info only, while it has one)." },
	{ .name = "nets", .type = SCHEMA_OBJECTS, .required = true, .max = 8, .fields = net_result,
	  .summary = "Its network cards." },
	{ .name = "peers", .type = SCHEMA_OBJECTS, .required = true, .max = 8,
	  .fields = peer_result, .summary = "Its vhost-user devices." },
	{ .name = "config", .type = SCHEMA_ANY, .summary = "As it was created (vm.info only)." },
	{ .name = "stats", .type = SCHEMA_ANY, .summary = "The engine's counters, if asked for." },
	END
};

static const struct schema_field stop_result[] = {
	{ .name = "forced", .type = SCHEMA_BOOL, .required = true,
	  .summary = "The guest did not end in time." },
	{ .name = "vm", .type = SCHEMA_OBJECT, .required = true, .fields = info_result,
	  .summary = "As of vm.info." },
	END
};

static const struct schema_field list_result[] = {
	{ .name = "vms", .type = SCHEMA_OBJECTS, .required = true, .fields = info_result,
	  .summary = "As of vm.info, by name." },
	END
};

#define UNIT_STATE_FIELDS \
	{ .name = "state", .type = SCHEMA_STRING, .required = true, \
	  .summary = "configured (the VM does not run), starting, attached, or removing (the guest " \
		     "was asked to let it go)." }, \
	{ .name = "slot", .type = SCHEMA_INT, .summary = "Of PCI, while it is attached." }

#define UNIT_LIST_FIELD(list, unit) \
	{ .name = list, .type = SCHEMA_OBJECTS, .required = true, .fields = unit, \
	  .summary = "Each as it was configured, and its state." }

static const struct schema_field disk_result[] = {
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Its id." },
	{ .name = "path", .type = SCHEMA_PATH, .required = true, .summary = "Its image." },
	UNIT_STATE_FIELDS,
	END
};

static const struct schema_field disk_list_result[] = {
	UNIT_LIST_FIELD("disks", disk_result), END
};

static const struct schema_field net_unit_result[] = {
	NET_RESULT_FIELDS,
	UNIT_STATE_FIELDS,
	END
};

static const struct schema_field net_list_result[] = {
	UNIT_LIST_FIELD("nets", net_unit_result), END
};

static const struct schema_field vhost_result[] = {
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Its id." },
	{ .name = "device", .type = SCHEMA_ENUM, .values = vhost_device_words, .required = true,
	  .summary = "blk, net or fs." },
	{ .name = "socket", .type = SCHEMA_PATH, .required = true, .summary = "Its program's." },
	{ .name = "up", .type = SCHEMA_BOOL, .required = true,
	  .summary = "The VM runs, and the program is there." },
	UNIT_STATE_FIELDS,
	END
};

static const struct schema_field vhost_list_result[] = {
	UNIT_LIST_FIELD("vhost_user", vhost_result), END
};

static const struct schema_field unit_remove_result[] = {
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Of the device." },
	END
};

static const struct schema_field console_result[] = {
	{ .name = "socket", .type = SCHEMA_STRING, .required = true,
	  .summary = "A stream socket: what was said lately, then what is said; what is written "
		     "goes to the guest." },
	{ .name = "fds", .type = SCHEMA_INT, .required = true,
	  .summary = "Descriptors that came with this answer: 0 or 1." },
	END
};

static const struct schema_field subscribe_result[] = {
	{ .name = "instance", .type = SCHEMA_STRING, .required = true,
	  .summary = "Changes with every start of the daemon, and numbering begins again." },
	{ .name = "next", .type = SCHEMA_INT, .required = true,
	  .summary = "Number of the first event that will be sent." },
	{ .name = "lost", .type = SCHEMA_INT, .required = true,
	  .summary = "How many of those asked for are no longer known." },
	END
};

static const struct schema_field daemon_result[] = {
	{ .name = "version", .type = SCHEMA_STRING, .required = true, .summary = "Of vmxd." },
	{ .name = "api", .type = SCHEMA_STRING, .required = true,
	  .summary = "Major and minor number; a new minor number only adds." },
	{ .name = "instance", .type = SCHEMA_STRING, .required = true,
	  .summary = "Changes with every start of the daemon." },
	{ .name = "pid", .type = SCHEMA_INT, .required = true, .summary = "Of vmxd." },
	{ .name = "uptime_s", .type = SCHEMA_NUMBER, .required = true, .summary = "Of vmxd." },
	{ .name = "socket", .type = SCHEMA_STRING, .required = true, .summary = "Its socket." },
	{ .name = "runtime_dir", .type = SCHEMA_STRING, .required = true,
	  .summary = "Sockets of the VMs." },
	{ .name = "state_dir", .type = SCHEMA_STRING, .required = true,
	  .summary = "Configurations of the VMs." },
	{ .name = "vms", .type = SCHEMA_INT, .required = true, .summary = "How many there are." },
	{ .name = "running", .type = SCHEMA_INT, .required = true,
	  .summary = "How many have a process." },
	{ .name = "connections", .type = SCHEMA_INT, .required = true, .summary = "Open now." },
	{ .name = "memory", .type = SCHEMA_INT, .required = true, .summary = "The host's, in bytes." },
	{ .name = "access", .type = SCHEMA_STRING, .required = true,
	  .summary = "What this caller may do: write or read." },
	END
};

static const struct schema_field engine_result[] = {
	{ .name = "usable", .type = SCHEMA_BOOL, .required = true, .summary = "It can run guests." },
	{ .name = "why", .type = SCHEMA_STRING, .required = true, .summary = "One sentence." },
	{ .name = "advice", .type = SCHEMA_STRING, .required = true,
	  .summary = "What to do about it; may be empty." },
	{ .name = "insns_per_second", .type = SCHEMA_INT, .required = true,
	  .summary = "Of a timed loop." },
	END
};

static const struct schema_field facility_result[] = {
	{ .name = "name", .type = SCHEMA_STRING, .required = true,
	  .summary = "tap, vhost-net, passt, virtiofsd, io_uring or huge-pages." },
	{ .name = "usable", .type = SCHEMA_BOOL, .required = true, .summary = "It is there, for this user." },
	{ .name = "why", .type = SCHEMA_STRING, .required = true, .summary = "What was found." },
	{ .name = "advice", .type = SCHEMA_STRING, .required = true,
	  .summary = "What to do about it, and what goes on without it; may be empty." },
	END
};

static const struct schema_field probe_result[] = {
	{ .name = "choice", .type = SCHEMA_STRING, .required = true,
	  .summary = "kvm or soft; auto when none can run." },
	{ .name = "why", .type = SCHEMA_STRING, .required = true, .summary = "Why that one." },
	{ .name = "kvm", .type = SCHEMA_OBJECT, .required = true, .fields = engine_result,
	  .summary = "The engine over /dev/kvm." },
	{ .name = "soft", .type = SCHEMA_OBJECT, .required = true, .fields = engine_result,
	  .summary = "The software processor." },
	{ .name = "sandbox", .type = SCHEMA_OBJECT, .required = true, .fields = sandbox_result,
	  .summary = "What this host allows of a VM's sandbox." },
	{ .name = "facilities", .type = SCHEMA_OBJECTS, .required = true, .max = 16,
	  .fields = facility_result, .summary = "What the host has for devices." },
	END
};

static const struct schema_field any_result[] = { END };

static const struct method methods[METHOD_COUNT] = {
	[METHOD_VM_CREATE] = { "vm.create", ACCESS_WRITE, false,
		"Checks a configuration as a whole and keeps it; nothing runs yet.",
		vm_config_fields, info_result },
	[METHOD_VM_START] = { "vm.start", ACCESS_WRITE, true,
		"Starts a VM that does not run; answered when the guest runs, or could not.",
		start_params, info_result },
	[METHOD_VM_STOP] = { "vm.stop", ACCESS_WRITE, false,
		"Presses the ACPI power button and waits for the end; by force after timeout_s.",
		stop_params, stop_result },
	[METHOD_VM_KILL] = { "vm.kill", ACCESS_WRITE, false,
		"Ends a VM at once; answered when it has ended.", name_only, info_result },
	[METHOD_VM_PAUSE] = { "vm.pause", ACCESS_WRITE, false,
		"Stands a running guest still, its clock too.", name_only, info_result },
	[METHOD_VM_RESUME] = { "vm.resume", ACCESS_WRITE, false,
		"Lets a paused guest go on.", name_only, info_result },
	[METHOD_VM_DISK_RESIZE] = { "vm.disk_resize", ACCESS_WRITE, false,
		"Makes a disk of a VM that runs larger; the guest is told.",
		disk_resize_params, disk_resize_result },
	[METHOD_VM_RESET] = { "vm.reset", ACCESS_WRITE, false,
		"Resets the guest as its reset button would.", name_only, info_result },
	[METHOD_VM_RESIZE] = { "vm.resize", ACCESS_WRITE, false,
		"Tells the guest the size of the terminal at its virtio console.",
		resize_params, any_result },
	[METHOD_VM_BALLOON] = { "vm.balloon", ACCESS_WRITE, false,
		"Asks the guest to give memory back, or lets it have it again; it takes its time, see "
		"balloon_actual_bytes in the stats of vm.info.", balloon_params, any_result },
	[METHOD_VM_MEM_RESIZE] = { "vm.mem_resize", ACCESS_WRITE, false,
		"Asks the guest to take memory, or to give it back; it takes its time, and gives back what "
		"it can: see mem_plugged_bytes in the stats of vm.info.", mem_resize_params, any_result },
	[METHOD_VM_DELETE] = { "vm.delete", ACCESS_WRITE, false,
		"Forgets a VM that does not run; its images are not touched.", name_only, any_result },
	[METHOD_VM_LIST] = { "vm.list", ACCESS_READ, false, "All VMs.", none, list_result },
	[METHOD_VM_INFO] = { "vm.info", ACCESS_READ, false, "One VM.", info_params, info_result },
	[METHOD_VM_WAIT] = { "vm.wait", ACCESS_READ, false,
		"Answered when the VM has ended, at once if it does not run.",
		wait_params, info_result },
	[METHOD_VM_CONSOLE] = { "vm.console", ACCESS_WRITE, true,
		"Where the console of a VM that runs is, or a descriptor attached to it.",
		console_params, console_result },
	[METHOD_VM_DISK_ADD] = { "vm.disk_add", ACCESS_WRITE, false,
		"Adds a disk to a VM's configuration, and to its guest while it runs; answered when "
		"the guest can see it.", disk_add_params, disk_result },
	[METHOD_VM_DISK_REMOVE] = { "vm.disk_remove", ACCESS_WRITE, false,
		"Asks the guest to let a disk go, and takes it out of the configuration; answered when "
		"the guest has done so.", unit_remove_params, unit_remove_result },
	[METHOD_VM_DISK_LIST] = { "vm.disk_list", ACCESS_READ, false, "The disks of a VM.",
		name_only, disk_list_result },
	[METHOD_VM_NET_ADD] = { "vm.net_add", ACCESS_WRITE, false,
		"Adds a network card to a VM's configuration, and to its guest while it runs; answered "
		"when the guest can see it.", net_add_params, net_unit_result },
	[METHOD_VM_NET_REMOVE] = { "vm.net_remove", ACCESS_WRITE, false,
		"Asks the guest to let a network card go, and takes it out of the configuration; "
		"answered when the guest has done so.", unit_remove_params, unit_remove_result },
	[METHOD_VM_NET_LIST] = { "vm.net_list", ACCESS_READ, false, "The network cards of a VM.",
		name_only, net_list_result },
	[METHOD_VM_VHOST_ADD] = { "vm.vhost_add", ACCESS_WRITE, false,
		"Adds a vhost-user device to a VM's configuration, and to its guest while it runs, which "
		"stands still until the program has greeted; answered when the guest can see it.",
		vhost_add_params, vhost_result },
	[METHOD_VM_VHOST_REMOVE] = { "vm.vhost_remove", ACCESS_WRITE, false,
		"Asks the guest to let a vhost-user device go, and takes it out of the configuration; "
		"answered when the guest has done so. Not by force.", unit_remove_params,
		unit_remove_result },
	[METHOD_VM_VHOST_LIST] = { "vm.vhost_list", ACCESS_READ, false,
		"The vhost-user devices of a VM.", name_only, vhost_list_result },
	[METHOD_EVENTS_SUBSCRIBE] = { "events.subscribe", ACCESS_READ, false,
		"Sends an \"event\" notification for whatever happens from now on, or from a number on.",
		subscribe_params, subscribe_result },
	[METHOD_DAEMON_INFO] = { "daemon.info", ACCESS_READ, false, "The daemon itself.", none,
		daemon_result },
	[METHOD_DAEMON_PROBE] = { "daemon.probe", ACCESS_READ, false,
		"What the engines can do on this host, which one auto means, and what the host has for "
		"devices.",
		probe_params, probe_result },
	[METHOD_RPC_DISCOVER] = { "rpc.discover", ACCESS_READ, false,
		"This list, as an OpenRPC document.", none, any_result },
};

const struct method *method_get(enum method_id id)
{
	return &methods[id];
}

enum method_id method_find(const char *name)
{
	enum method_id id;

	for (id = 0; id < METHOD_COUNT; id++)
		if (strcmp(methods[id].name, name) == 0)
			break;
	return id;
}
