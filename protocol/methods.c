/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/methods.h"

#include <string.h>

#define MIB ((int64_t)1 << 20)
#define TIB ((int64_t)1 << 40)
#define NETS_DEFAULT "one of kind user"
#define END { .name = NULL }

static const char *const engines[] = { "auto", "kvm", "soft", NULL };
static const char *const consoles[] = { "serial", "virtio", "none", NULL };
static const char *const transports[] = { "pci", "mmio", NULL };
static const char *const rings[] = { "split", "packed", NULL };
static const char *const reboots[] = { "restart", "stop", NULL };
static const char *const net_kinds[] = { "user", "tap", "stream", NULL };
static const char *const net_protocols[] = { "tcp", "udp", NULL };
static const char *const soft_debugs[] = { "step-only", "one-insn", "no-chain", "no-tlb",
					   "tiny-cache", NULL };

static const char *const disk_formats[] = { "raw", "qcow2", NULL };
static const char *const disk_caches[] = { "writeback", "none", NULL };
static const char *const vhost_uses[] = { "auto", "on", "off", NULL };
static const char *const vhost_devices[] = { "blk", "net", "fs", NULL };
static const char *const disk_ios[] = { "auto", "threads", NULL };

static const struct schema_field backing_fields[] = {
	{ .name = "path", .type = SCHEMA_PATH, .required = true, .summary = "The file." },
	{ .name = "format", .type = SCHEMA_ENUM, .values = disk_formats, .dflt = "raw",
	  .summary = "Its format, which is never guessed." },
	END
};

static const struct schema_field disk_fields[] = {
	{ .name = "path", .type = SCHEMA_PATH, .required = true,
	  .summary = "The image: a regular file or a block device." },
	{ .name = "format", .type = SCHEMA_ENUM, .values = disk_formats, .dflt = "raw",
	  .summary = "What it holds, which is never guessed." },
	{ .name = "backing", .type = SCHEMA_OBJECTS, .max = 8, .fields = backing_fields,
	  .summary = "The files that a qcow2 image lies on, the nearest first; the names in the "
		     "image itself are not followed." },
	{ .name = "readonly", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "The guest cannot write to it." },
	{ .name = "serial", .type = SCHEMA_STRING, .max = 20,
	  .summary = "Serial number that the guest reads." },
	{ .name = "cache", .type = SCHEMA_ENUM, .values = disk_caches, .dflt = "writeback",
	  .summary = "none: past the host's page cache (O_DIRECT). A flush by the guest is one on "
		     "the host either way." },
	{ .name = "io", .type = SCHEMA_ENUM, .values = disk_ios, .dflt = "auto",
	  .summary = "auto: io_uring where the host has it, else threads." },
	{ .name = "queues", .type = SCHEMA_INT, .min = 1, .max = 16,
	  .dflt = "one per processor, up to 8", .summary = "Request queues." },
	{ .name = "bytes_per_second", .type = SCHEMA_SIZE, .min = 1, .max = TIB,
	  .summary = "At most so much is read and written." },
	{ .name = "ops_per_second", .type = SCHEMA_INT, .min = 1, .max = 1000000000,
	  .summary = "At most so many requests are done." },
	{ .name = "id", .type = SCHEMA_NAME, .dflt = "disk0, disk1, ...",
	  .summary = "By which it is removed; no two devices of a VM have the same." },
	END
};

static const struct schema_field port_fields[] = {
	{ .name = "address", .type = SCHEMA_STRING, .max = 45, .dflt = "any",
	  .summary = "IPv4 address of the host." },
	{ .name = "host_port", .type = SCHEMA_INT, .min = 1, .max = 65535, .required = true,
	  .summary = "Port of the host." },
	{ .name = "guest_port", .type = SCHEMA_INT, .min = 1, .max = 65535, .required = true,
	  .summary = "Port of the guest that connections go to." },
	{ .name = "protocol", .type = SCHEMA_ENUM, .values = net_protocols, .dflt = "tcp",
	  .summary = "Of both." },
	END
};

static const struct schema_field net_fields[] = {
	{ .name = "kind", .type = SCHEMA_ENUM, .values = net_kinds, .dflt = "user",
	  .summary = "user: a network of its own behind the host's, with DHCP and DNS, without any "
		     "privilege; tap: an interface of the host; stream: a unix stream socket, as "
		     "passt's or another VM's." },
	{ .name = "mac", .type = SCHEMA_STRING, .max = 17, .dflt = "made from host and VM's name",
	  .summary = "The card's address, as 52:54:00:12:34:56." },
	{ .name = "mtu", .type = SCHEMA_INT, .min = 68, .max = 65535,
	  .dflt = "65520 for user, else not told",
	  .summary = "What the guest's driver is told." },
	{ .name = "publish", .type = SCHEMA_OBJECTS, .max = 64, .fields = port_fields,
	  .summary = "user: ports of the host that lead to the guest." },
	{ .name = "host_access", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "user: the guest reaches services of the host's loopback at 10.0.2.2." },
	{ .name = "ipv6", .type = SCHEMA_BOOL, .dflt = "true", .summary = "user: IPv6 too." },
	{ .name = "ifname", .type = SCHEMA_STRING, .min = 1, .max = 15,
	  .summary = "tap: the interface." },
	{ .name = "queues", .type = SCHEMA_INT, .min = 1, .max = 8, .dflt = "1",
	  .summary = "tap: pairs of queues." },
	{ .name = "create", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "tap: make it if it is not there; it goes with the VM." },
	{ .name = "bridge", .type = SCHEMA_STRING, .min = 1, .max = 15,
	  .summary = "tap: what a tap that is made becomes a port of." },
	{ .name = "vhost", .type = SCHEMA_ENUM, .values = vhost_uses, .dflt = "auto",
	  .summary = "tap: the host's kernel moves the packets (vhost-net): auto where it can, on or the "
		     "VM does not start, off. Not with limits." },
	{ .name = "path", .type = SCHEMA_PATH, .summary = "stream: the socket." },
	{ .name = "listen", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "stream: make the socket and wait for the peer, rather than connect." },
	{ .name = "rx_bytes_per_s", .type = SCHEMA_SIZE, .min = 1000, .max = TIB, .dflt = "none",
	  .summary = "Limit of what the guest receives." },
	{ .name = "rx_packets_per_s", .type = SCHEMA_SIZE, .min = 1, .max = TIB, .dflt = "none",
	  .summary = "The same in packets." },
	{ .name = "tx_bytes_per_s", .type = SCHEMA_SIZE, .min = 1000, .max = TIB, .dflt = "none",
	  .summary = "Limit of what the guest sends." },
	{ .name = "tx_packets_per_s", .type = SCHEMA_SIZE, .min = 1, .max = TIB, .dflt = "none",
	  .summary = "The same in packets." },
	{ .name = "id", .type = SCHEMA_NAME, .dflt = "net0, net1, ...",
	  .summary = "What it is removed by; no other device of the VM has it." },
	END
};

static const struct schema_field console_port_fields[] = {
	{ .name = "name", .type = SCHEMA_NAME, .required = true,
	  .summary = "What the guest calls it; no two have the same." },
	{ .name = "socket", .type = SCHEMA_PATH,
	  .summary = "A listening unix socket, made when the VM starts; one program at a time." },
	{ .name = "pty", .type = SCHEMA_PATH,
	  .summary = "Instead of a socket: a link to a terminal that is made when the VM starts." },
	END
};

static const char *const share_drivers[] = { "9p", "virtiofs", NULL };

static const struct schema_field share_fields[] = {
	{ .name = "path", .type = SCHEMA_PATH, .required = true,
	  .summary = "A directory, below one that the daemon may share (vmxd --share-root)." },
	{ .name = "tag", .type = SCHEMA_NAME, .required = true,
	  .summary = "What the guest mounts, at most 31 characters: mount -t 9p -o "
		     "trans=virtio,version=9p2000.L TAG DIR." },
	{ .name = "readonly", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "9p: the guest cannot change anything in it." },
	{ .name = "driver", .type = SCHEMA_ENUM, .values = share_drivers, .dflt = "9p",
	  .summary = "9p: served by the VM's process; virtiofs: by the program virtiofsd, which the "
		     "daemon starts: mount -t virtiofs TAG DIR." },
	END
};

static const struct schema_field pmem_fields[] = {
	{ .name = "path", .type = SCHEMA_PATH, .required = true,
	  .summary = "A file or block device whose size is a multiple of 2 MiB; a sparse file gets all its "
		     "room when the VM starts. One VM can have it at a time." },
	END
};

static const struct schema_field mem_fields[] = {
	{ .name = "size", .type = SCHEMA_SIZE, .required = true, .min = MIB, .max = TIB,
	  .summary = "How much there can be beside memory, in whole blocks; with memory at most what "
		     "the host has." },
	{ .name = "requested", .type = SCHEMA_SIZE, .max = TIB, .dflt = "0",
	  .summary = "How much the guest is to take when it starts, in whole blocks." },
	{ .name = "block", .type = SCHEMA_SIZE, .min = MIB, .max = 1024 * MIB, .dflt = "2M",
	  .summary = "What it comes and goes in: a power of two." },
	END
};

static const struct schema_field vsock_fields[] = {
	{ .name = "path", .type = SCHEMA_PATH, .required = true,
	  .summary = "A listening unix socket, made when the VM starts: a program that connects and "
		     "says \"CONNECT PORT\" reaches that port of the guest. A connection of the guest "
		     "to port N of the host goes to the socket that listens at this path with _N "
		     "behind it." },
	{ .name = "cid", .type = SCHEMA_INT, .min = 3, .max = 0xfffffffe, .dflt = "a free one",
	  .summary = "The guest's address; no two VMs have the same." },
	END
};

static const struct schema_field vhost_fields[] = {
	{ .name = "device", .type = SCHEMA_ENUM, .values = vhost_devices, .required = true,
	  .summary = "blk: a disk; net: a network card; fs: a file system (virtio-fs)." },
	{ .name = "socket", .type = SCHEMA_PATH, .required = true,
	  .summary = "Where the program listens that does the device's work. It can read and write "
		     "all of the guest's memory." },
	{ .name = "tag", .type = SCHEMA_NAME,
	  .summary = "fs: what the guest mounts, at most 36 characters: mount -t virtiofs TAG DIR." },
	{ .name = "mac", .type = SCHEMA_STRING, .max = 17, .dflt = "made from host and VM's name",
	  .summary = "net: the card's address." },
	{ .name = "queues", .type = SCHEMA_INT, .min = 1, .max = 15, .dflt = "1",
	  .summary = "blk and fs: queues of requests, at most as many as the program has." },
	{ .name = "queue_size", .type = SCHEMA_INT, .min = 2, .max = 1024, .dflt = "256",
	  .summary = "Entries of a queue, a power of two." },
	{ .name = "id", .type = SCHEMA_NAME, .dflt = "vhost0, vhost1, ...",
	  .summary = "What it is removed by; no other device of the VM has it." },
	END
};

const struct schema_field vm_config_fields[] = {
	{ .name = "name", .type = SCHEMA_NAME, .required = true,
	  .summary = "What the VM is called; no two have the same." },
	{ .name = "kernel", .type = SCHEMA_PATH, .required = true,
	  .summary = "bzImage, ELF with a PVH note, or multiboot 1 image." },
	{ .name = "memory", .type = SCHEMA_SIZE, .min = 16 * MIB, .max = TIB, .dflt = "512M",
	  .summary = "Guest memory, in whole MiB, at most what the host has." },
	{ .name = "cpus", .type = SCHEMA_INT, .min = 1, .max = 64, .dflt = "1",
	  .summary = "Virtual processors." },
	{ .name = "engine", .type = SCHEMA_ENUM, .values = engines, .dflt = "auto",
	  .summary = "What runs the guest's instructions; auto takes what daemon.probe recommends." },
	{ .name = "initrd", .type = SCHEMA_PATH, .summary = "Initial RAM disk." },
	{ .name = "cmdline", .type = SCHEMA_STRING, .max = 2047, .dflt = "\"\"",
	  .summary = "The kernel's command line." },
	{ .name = "disks", .type = SCHEMA_OBJECTS, .max = 16, .fields = disk_fields,
	  .summary = "Disks, seen as virtio block devices in this order." },
	{ .name = "nets", .type = SCHEMA_OBJECTS, .max = 8, .fields = net_fields,
	  .dflt = NETS_DEFAULT, .summary = "Network cards, in this order." },
	{ .name = "shares", .type = SCHEMA_OBJECTS, .max = 8, .fields = share_fields,
	  .summary = "Directories of the host, seen as virtio 9P devices or virtio file systems." },
	{ .name = "vhost_user", .type = SCHEMA_OBJECTS, .max = 8, .fields = vhost_fields,
	  .summary = "Devices whose work another program does, over vhost-user." },
	{ .name = "console", .type = SCHEMA_ENUM, .values = consoles, .dflt = "serial",
	  .summary = "What is kept and can be attached to: the first serial port, or the virtio "
		     "console (hvc0 in Linux)." },
	{ .name = "ports", .type = SCHEMA_OBJECTS, .max = 8, .fields = console_port_fields,
	  .summary = "Named streams between guest and host, /dev/virtio-ports/NAME in Linux." },
	{ .name = "vsock", .type = SCHEMA_OBJECT, .fields = vsock_fields,
	  .summary = "Stream sockets of the family AF_VSOCK between guest and host." },
	{ .name = "balloon", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "A virtio balloon: vm.balloon, statistics of the guest's memory, and memory "
		     "that the guest has free goes back to the host by itself." },
	{ .name = "mem", .type = SCHEMA_OBJECT, .fields = mem_fields,
	  .summary = "Memory that comes and goes while the guest runs (virtio-mem): vm.mem_resize. "
		     "Linux needs virtio_mem, and 5.16 or later." },
	{ .name = "pmem", .type = SCHEMA_OBJECTS, .max = 4, .fields = pmem_fields,
	  .summary = "Persistent memory (virtio-pmem): files that the guest has as memory, /dev/pmem0 and "
		     "so on in Linux. What is flushed there is in the file." },
	{ .name = "transport", .type = SCHEMA_ENUM, .values = transports, .dflt = "pci",
	  .summary = "How the guest reaches its virtio devices: PCI, or memory-mapped registers "
		     "(ACPI devices LNRO0005), for kernels without PCI." },
	{ .name = "rings", .type = SCHEMA_ENUM, .values = rings, .dflt = "split",
	  .summary = "packed: also offer the guest packed virtio rings." },
	{ .name = "on_reboot", .type = SCHEMA_ENUM, .values = reboots, .dflt = "restart",
	  .summary = "What a reset by the guest does." },
	{ .name = "transient", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Delete the VM as soon as it ended." },
	{ .name = "nested", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Offer VMX to the guest, so that it can run virtual machines itself; on the kvm "
		     "engine only where the host's KVM does so." },
	{ .name = "debug_exit", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "A port (0xf4) by which a test guest ends itself with a code." },
	{ .name = "test_device", .type = SCHEMA_BOOL, .dflt = "false",
	  .summary = "Ports by which a test guest sets interrupt lines (0x2000 and up), a latch (0xe0) "
		     "and memory (0xff000000), as QEMU's pc-testdev has them." },
	{ .name = "code_cache", .type = SCHEMA_SIZE, .min = MIB, .max = 1024 * MIB,
	  .summary = "Size of the soft engine's code cache; 128 MiB if none is given." },
	{ .name = "soft_debug", .type = SCHEMA_STRINGS, .max = 5, .values = soft_debugs,
	  .summary = "Slower ways for the soft engine to do the same, for tests." },
	END
};

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
	{ .name = "disk", .type = SCHEMA_OBJECT, .required = true, .fields = disk_fields,
	  .summary = "As in vm.create." },
	END
};

static const struct schema_field net_add_params[] = {
	NAME_FIELD,
	{ .name = "net", .type = SCHEMA_OBJECT, .required = true, .fields = net_fields,
	  .summary = "As in vm.create." },
	END
};

static const struct schema_field vhost_add_params[] = {
	NAME_FIELD,
	{ .name = "vhost", .type = SCHEMA_OBJECT, .required = true, .fields = vhost_fields,
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
	{ .name = "kind", .type = SCHEMA_ENUM, .values = net_kinds, .required = true, \
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

static const struct schema_field disk_result[] = {
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Its id." },
	{ .name = "path", .type = SCHEMA_PATH, .required = true, .summary = "Its image." },
	UNIT_STATE_FIELDS,
	END
};

static const struct schema_field disk_list_result[] = {
	{ .name = "disks", .type = SCHEMA_OBJECTS, .required = true, .fields = disk_result,
	  .summary = "Each as it was configured, and its state." },
	END
};

static const struct schema_field net_unit_result[] = {
	NET_RESULT_FIELDS,
	UNIT_STATE_FIELDS,
	END
};

static const struct schema_field net_list_result[] = {
	{ .name = "nets", .type = SCHEMA_OBJECTS, .required = true, .fields = net_unit_result,
	  .summary = "Each as it was configured, and its state." },
	END
};

static const struct schema_field vhost_result[] = {
	{ .name = "id", .type = SCHEMA_NAME, .required = true, .summary = "Its id." },
	{ .name = "device", .type = SCHEMA_ENUM, .values = vhost_devices, .required = true,
	  .summary = "blk, net or fs." },
	{ .name = "socket", .type = SCHEMA_PATH, .required = true, .summary = "Its program's." },
	{ .name = "up", .type = SCHEMA_BOOL, .required = true,
	  .summary = "The VM runs, and the program is there." },
	UNIT_STATE_FIELDS,
	END
};

static const struct schema_field vhost_list_result[] = {
	{ .name = "vhost_user", .type = SCHEMA_OBJECTS, .required = true, .fields = vhost_result,
	  .summary = "Each as it was configured, and its state." },
	END
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
