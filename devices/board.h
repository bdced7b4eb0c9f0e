/* SPDX-License-Identifier: Apache-2.0 */
/*
 * board.h - one whole PC: guest memory, processors, chips, virtio devices, boot image.
 *
 * This is all that vmxd-machine (daemon/) needs of the layers below. It knows no JSON and no libuv:
 * it opens no file (every descriptor is handed in, and is owned by the board after a successful
 * create) and reports through one callback.
 */
#ifndef DEVICES_BOARD_H
#define DEVICES_BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/disk.h"
#include "devices/backend/limit.h"
#include "devices/virtio/net_config.h"
#include "devices/virtio/vhost_config.h"
#include "vmx-driver/vmx.h"

struct log;
struct board;
struct thread_hook;

enum board_state {
	BOARD_CREATED,
	BOARD_STARTING,
	BOARD_RUNNING,
	BOARD_PAUSED,
	BOARD_STOPPING,
	BOARD_STOPPED, /* ended as asked for: see enum board_stop */
	BOARD_FAILED,  /* ended by an error: see board_info.detail */
};

enum board_stop { /* why it stopped */
	BOARD_STOP_NONE,
	BOARD_STOP_POWEROFF,     /* the guest powered itself off (ACPI S5) */
	BOARD_STOP_RESET,        /* the guest asked for a reset and on_reboot is stop */
	BOARD_STOP_TRIPLE_FAULT,
	BOARD_STOP_DEBUG_EXIT,   /* isa-debug-exit was written; code in board_info.exit_code */
	BOARD_STOP_KILLED,       /* board_kill() */
	BOARD_STOP_ENGINE_ERROR, /* VMX_EXIT_INTERNAL, ENTRY_FAILED */
	BOARD_STOP_BOOT_ERROR,   /* the image could not be loaded */
};

#define BOARD_ID_MAX 64

struct board_disk {
	char id[BOARD_ID_MAX + 1]; /* by which it is removed; unique among all units */
	struct disk_image image; /* files or block devices, opened O_RDWR or O_RDONLY */
	char serial[21];         /* virtio-blk device ID string, may be empty */
	unsigned queues;         /* 0: as many as there are processors, at most 8 */
	bool threads;            /* no io_uring */
	struct limit_rate bytes, ops; /* 0: no limit */
};

struct board_net {
	char id[BOARD_ID_MAX + 1]; /* as of disks */
	struct virtio_net_config config; /* changed and opaque are the board's */
};

#define BOARD_DISKS_MAX 16
#define BOARD_NETS_MAX 8

enum { /* board_config.virtio: for all virtio devices */
	BOARD_VIRTIO_MMIO = 1,   /* memory-mapped registers instead of PCI; at most 64 devices */
	BOARD_VIRTIO_PACKED = 2, /* the format of rings that is not the default */
};

struct board_port { /* a named port of the virtio console */
	char name[65];
	int fd; /* connected stream, terminal, or listening unix socket; non-blocking */
};

#define BOARD_PORTS_MAX 8
struct board_share {
	int fd;            /* directory, shared by 9P (devices/backend/p9.h) */
	bool readonly;
	char tag[32];      /* what the guest mounts; not empty */
};

#define BOARD_SHARES_MAX 8

struct board_pmem {
	int fd; /* file or block device, opened O_RDWR: see devices/virtio/pmem.h */
};

#define BOARD_PMEMS_MAX 4

struct board_mem { /* as in devices/virtio/mem.h */
	uint64_t size, requested, block;
};

struct board_vsock { /* devices/virtio/vsock.h */
	uint32_t cid;      /* 0: the board has none */
	int fd;            /* listening unix socket, non-blocking */
};

struct board_vhost {       /* a device whose work another process does: vhost_user.h */
	enum vhost_kind kind;
	int fd;            /* connected socket */
	unsigned queues;
	uint16_t queue_size;
	char tag[VHOST_TAG_MAX + 1];
	uint8_t mac[6];
	char id[BOARD_ID_MAX + 1];
};

#define BOARD_VHOSTS_MAX 8

struct board_config {
	uint64_t memory_bytes;  /* multiple of 1 MiB, at least 16 MiB */
	unsigned cpus;          /* 1..64 */
	enum vmx_engine engine; /* KVM or SOFT: already chosen by the probe */
	uint32_t vm_flags;      /* VMX_VM_* */
	uint32_t soft_debug;    /* VMX_SOFT_* */
	uint64_t code_cache_bytes;
	uint64_t tsc_hz;        /* of the host, if known; 0: the engine finds out */
	uint64_t asked_ns;      /* CLOCK_MONOTONIC when somebody asked for the start; 0: board_start() */
	int kvm_fd;             /* open /dev/kvm, still the caller's; 0: opened by the engine */
	const struct thread_hook *threads; /* machine/thread.h; outlives the board; may be NULL */
	int kernel_fd;          /* bzImage, PVH ELF or multiboot 1 image; -1: none (then -EINVAL) */
	int initrd_fd;          /* -1: none */
	const char *cmdline;    /* may be NULL; copied */
	int console_fd;         /* COM1: a connected stream socket or tty or pipe end, non-blocking,
				 * read for input and written for output; -1: output discarded */
	bool console_virtio;    /* console_fd belongs to hvc0 instead of COM1 */
	size_t port_count;
	struct board_port ports[BOARD_PORTS_MAX];
	bool balloon;           /* there is a virtio-balloon */
	struct board_mem mem;   /* of a virtio-mem; size 0: none */
	size_t pmem_count;
	struct board_pmem pmems[BOARD_PMEMS_MAX];
	bool reboot_stops;      /* a guest reset stops the VM instead of restarting it */
	bool debug_exit;        /* isa-debug-exit at port 0xf4 */
	bool test_device;       /* pc-testdev: ports 0xe0, 0x2000 */
	unsigned virtio;        /* BOARD_VIRTIO_* */
	size_t disk_count;
	struct board_disk disks[BOARD_DISKS_MAX];
	size_t net_count;
	struct board_net nets[BOARD_NETS_MAX];
	size_t share_count;
	int proc_fd;            /* /proc/self/fd, if there are shares; the caller's, outlives the board */
	struct board_share shares[BOARD_SHARES_MAX];
	struct board_vsock vsock;
	size_t vhost_count;
	struct board_vhost vhosts[BOARD_VHOSTS_MAX];
};

struct board_unit { /* a device that can be plugged in and taken out */
	const char *class; /* "virtio-blk", ... */
	char id[BOARD_ID_MAX + 1];
	int slot;          /* of PCI; -1: memory-mapped registers, cannot be taken out */
	bool removing;     /* the guest was asked to let it go */
	bool link;         /* a network card: it has a peer */
};

#define BOARD_UNITS_MAX 64

struct board_info {
	enum board_state state;
	enum board_stop stop;
	char detail[256];       /* one sentence: what happened, with RIP for a triple fault */
	int exit_code;          /* of DEBUG_EXIT: (value << 1) | 1 */
	uint64_t rip;           /* of the last stop, 0 if unknown */
	unsigned resets;        /* guest resets so far */
	unsigned plugs;         /* changes of what board_units() gives */
	uint64_t run_ns;        /* time spent running, monotonic */
	uint32_t links;         /* network cards that have a peer, a bit each in no order */
	const char *stall_reason; /* for programs: "disk-full", "file-lost" */
	unsigned peers;         /* changes of what board_vhost_info() tells */
	char stall[256];        /* why it is paused, if a device lacks something; or empty */
	unsigned stalls;        /* how often that was so */
	uint64_t boot_ns;       /* until the first guest instruction: board_config.asked_ns */
};

/* Called (from any of the board's threads, never with a board lock held) when state, resets or plugs
 * changed, boot_ns became known, or board_settle() has something to do; must only note it and return, e.g. write to an eventfd or uv_async_send(). */
typedef void board_changed_fn(void *opaque);

/* Checks the configuration, loads the image, makes memory, chips and vCPU threads; nothing runs
 * yet. On an error *ret_error (caller frees) says what is wrong in one sentence that names the
 * field ("kernel: not a bzImage, PVH ELF or multiboot image"), and the descriptors stay the
 * caller's. Errors: -EINVAL, -ENOMEM, -ENOEXEC (no kernel), -EFBIG (kernel or initrd does not fit),
 * -ENOTSUP. */
int board_create(const struct board_config *config, struct log *log, board_changed_fn *changed,
		 void *opaque, struct board **ret_board, char **ret_error);
/* Stops everything, joins the threads, frees. NULL is fine. */
void board_destroy(struct board *board);

/* All of these return at once (the new state is reported by the callback) and may be called from
 * any thread that is not the board's own. -EBADFD: not possible in this state. */
int board_start(struct board *board);
int board_pause(struct board *board);
int board_resume(struct board *board);
int board_reset(struct board *board);
int board_power_button(struct board *board); /* ACPI power button event */
/* Asks the guest to make do with `bytes` of its memory (1 MiB at least, at most all). -ENODEV: it has
 * no balloon; -ERANGE. */
int board_balloon(struct board *board, uint64_t bytes);
/* Asks the guest to take `bytes` beside its memory. -ENODEV: it has no virtio-mem; -EINVAL: no multiple of
 * the block size; -ERANGE. */
int board_mem_resize(struct board *board, uint64_t bytes);
/* The terminal at console_fd has another size, at least 1 each. -ENODEV: it is not hvc0. */
int board_console_resize(struct board *board, uint16_t columns, uint16_t rows);
/* As virtio_vsock_wanted(): a stream that the guest wants to a port of the host. `changed` was called
 * when there may be one. */
bool board_vsock_wanted(struct board *board, uint32_t *ret_id, uint32_t *ret_port);
/* The answer; fd (or a negative errno) is taken over. */
void board_vsock_answer(struct board *board, uint32_t id, int fd);
int board_kill(struct board *board);         /* -> STOPPED with BOARD_STOP_KILLED */

/*
 * Hot plug, all from one thread that is not the board's own. While the guest runs it is told by ACPI
 * and does the rest itself; a paused one when it goes on.
 */
/* Plugs in a disk, a network card, or a device whose work another process does (the guest stands still until
 * that has greeted, seconds at most). Its descriptors are the board's on success. -EEXIST: the id is
 * taken; -ENOSPC: no slot; -ENOTSUP: there is no PCI in this VM; -EBADFD: it has ended; else as of
 * board_create(). */
int board_disk_add(struct board *board, const struct board_disk *disk, char **ret_error);
int board_net_add(struct board *board, const struct board_net *net, char **ret_error);
int board_vhost_add(struct board *board, const struct board_vhost *vhost, char **ret_error);
/* Makes a disk larger; bytes 0: takes the size that its file has got. As virtio_blk_resize(), or
 * -ENOENT: no such disk. */
int board_disk_resize(struct board *board, const char *id, uint64_t bytes, uint64_t *ret_bytes);
/* Asks the guest to let a unit go: it is gone after a board_settle() that follows, or never, if the
 * guest does not. At once if the guest was not started yet, or with force: then the guest gets errors
 * from what it still sees in the slot, until it lets that go too. -ENOENT, -ENOTSUP, -EBADFD. */
int board_unit_remove(struct board *board, const char *id, bool force, char **ret_error);
/* To be called when `changed` was: destroys what the guest has let go. */
void board_settle(struct board *board);
/* Fills up to n; returns how many there are. */
size_t board_units(struct board *board, struct board_unit *units, size_t n);

void board_info(struct board *board, struct board_info *ret_info);
/* Counters of the engine (vmx_vm_stats), then those of the balloon and of virtio-mem. */
size_t board_stats(struct board *board, struct vmx_stat *stats, size_t n);

/* Puts another peer behind a network card: see virtio_net_attach(). -ENODEV: no such card. */
int board_net_attach(struct board *board, const char *id, const int *fds, unsigned count);
/* -ENODEV. */
int board_net_info(struct board *board, const char *id, struct virtio_net_info *ret_info);

/* Brings another peer for a vhost-user device (fd is the board's on success): see vhost_user_attach().
 * -ENODEV: no such device. */
int board_vhost_attach(struct board *board, const char *id, int fd);
/* -ENODEV. */
int board_vhost_info(struct board *board, const char *id, struct vhost_user_info *ret_info);

const char *board_state_name(enum board_state state); /* "created", "running", ... */
const char *board_stop_name(enum board_stop stop);    /* "none", "guest-poweroff", "guest-reset",
	"triple-fault", "debug-exit", "killed", "engine-error", "boot-error" */

#endif
