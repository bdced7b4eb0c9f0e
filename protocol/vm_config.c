/* SPDX-License-Identifier: Apache-2.0 */
/* vm_config.c - all that a VM can be configured with: vm_config_fields, and its parts. */
#include "protocol/methods_internal.h"

#define NETS_DEFAULT "one of kind user"

const char *const engine_words[] = { "auto", "kvm", "soft", NULL };
static const char *const consoles[] = { "serial", "virtio", "none", NULL };
static const char *const transports[] = { "pci", "mmio", NULL };
static const char *const rings[] = { "split", "packed", NULL };
static const char *const reboots[] = { "restart", "stop", NULL };
const char *const net_kind_words[] = { "user", "tap", "stream", NULL };
static const char *const net_protocols[] = { "tcp", "udp", NULL };
static const char *const soft_debugs[] = { "step-only", "one-insn", "no-chain", "no-tlb",
					   "tiny-cache", "moved-code", "runs", NULL };

static const char *const disk_formats[] = { "raw", "qcow2", NULL };
static const char *const disk_caches[] = { "writeback", "none", NULL };
static const char *const vhost_uses[] = { "auto", "on", "off", NULL };
const char *const vhost_device_words[] = { "blk", "net", "fs", NULL };
static const char *const disk_ios[] = { "auto", "threads", NULL };

static const struct schema_field backing_fields[] = {
	{ .name = "path", .type = SCHEMA_PATH, .required = true, .summary = "The file." },
	{ .name = "format", .type = SCHEMA_ENUM, .values = disk_formats, .dflt = "raw",
	  .summary = "Its format, which is never guessed." },
	END
};

const struct schema_field disk_config_fields[] = {
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
	{ .name = "address", .type = SCHEMA_STRING, .max = 45, .dflt = "any of IPv4",
	  .summary = "Address of the host: IPv4, or IPv6, which leads to the guest's IPv6." },
	{ .name = "host_port", .type = SCHEMA_INT, .min = 1, .max = 65535, .required = true,
	  .summary = "Port of the host." },
	{ .name = "guest_port", .type = SCHEMA_INT, .min = 1, .max = 65535, .required = true,
	  .summary = "Port of the guest that connections go to." },
	{ .name = "protocol", .type = SCHEMA_ENUM, .values = net_protocols, .dflt = "tcp",
	  .summary = "Of both." },
	END
};

const struct schema_field net_config_fields[] = {
	{ .name = "kind", .type = SCHEMA_ENUM, .values = net_kind_words, .dflt = "user",
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

const struct schema_field vhost_config_fields[] = {
	{ .name = "device", .type = SCHEMA_ENUM, .values = vhost_device_words, .required = true,
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
	  .summary = "bzImage of 64 or 32 bits, ELF with a PVH note, or multiboot 1 image." },
	{ .name = "memory", .type = SCHEMA_SIZE, .min = 16 * MIB, .max = TIB, .dflt = "512M",
	  .summary = "Guest memory, in whole MiB, at most what the host has." },
	{ .name = "cpus", .type = SCHEMA_INT, .min = 1, .max = 64, .dflt = "1",
	  .summary = "Virtual processors." },
	{ .name = "engine", .type = SCHEMA_ENUM, .values = engine_words, .dflt = "auto",
	  .summary = "What runs the guest's instructions; auto takes what daemon.probe recommends." },
	{ .name = "initrd", .type = SCHEMA_PATH, .summary = "Initial RAM disk." },
	{ .name = "cmdline", .type = SCHEMA_STRING, .max = 2047, .dflt = "\"\"",
	  .summary = "The kernel's command line." },
	{ .name = "disks", .type = SCHEMA_OBJECTS, .max = 16, .fields = disk_config_fields,
	  .summary = "Disks, seen as virtio block devices in this order." },
	{ .name = "nets", .type = SCHEMA_OBJECTS, .max = 8, .fields = net_config_fields,
	  .dflt = NETS_DEFAULT, .summary = "Network cards, in this order." },
	{ .name = "shares", .type = SCHEMA_OBJECTS, .max = 8, .fields = share_fields,
	  .summary = "Directories of the host, seen as virtio 9P devices or virtio file systems." },
	{ .name = "vhost_user", .type = SCHEMA_OBJECTS, .max = 8, .fields = vhost_config_fields,
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
