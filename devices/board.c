/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/log.h"
#include "devices/board_internal.h"
#include "devices/chips.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/console.h"
#include "devices/virtio/mem.h"
#include "devices/virtio/net.h"
#include "devices/virtio/vhost_user.h"
#include "devices/virtio/vsock.h"
#include "machine/acpi.h"
#include "machine/boot.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "machine/timer.h"
#include "machine/thread.h"

/* --- names ------------------------------------------------------------------------------------ */

/* The life cycle's states and reasons are the board's, so that the daemon needs one header. */
_Static_assert((int)BOARD_CREATED == (int)LIFE_CREATED &&
	       (int)BOARD_STARTING == (int)LIFE_STARTING &&
	       (int)BOARD_RUNNING == (int)LIFE_RUNNING && (int)BOARD_PAUSED == (int)LIFE_PAUSED &&
	       (int)BOARD_STOPPING == (int)LIFE_STOPPING &&
	       (int)BOARD_STOPPED == (int)LIFE_STOPPED && (int)BOARD_FAILED == (int)LIFE_FAILED,
	       "states");
_Static_assert((int)BOARD_STOP_NONE == (int)LIFE_STOP_NONE &&
	       (int)BOARD_STOP_POWEROFF == (int)LIFE_STOP_POWEROFF &&
	       (int)BOARD_STOP_RESET == (int)LIFE_STOP_RESET &&
	       (int)BOARD_STOP_TRIPLE_FAULT == (int)LIFE_STOP_TRIPLE_FAULT &&
	       (int)BOARD_STOP_DEBUG_EXIT == (int)LIFE_STOP_DEBUG_EXIT &&
	       (int)BOARD_STOP_KILLED == (int)LIFE_STOP_KILLED &&
	       (int)BOARD_STOP_ENGINE_ERROR == (int)LIFE_STOP_ENGINE_ERROR &&
	       (int)BOARD_STOP_BOOT_ERROR == (int)LIFE_STOP_BOOT_ERROR,
	       "reasons");

static const char *const state_names[] = {
	[BOARD_CREATED] = "created",   [BOARD_STARTING] = "starting", [BOARD_RUNNING] = "running",
	[BOARD_PAUSED] = "paused",     [BOARD_STOPPING] = "stopping", [BOARD_STOPPED] = "stopped",
	[BOARD_FAILED] = "failed",
};

static const char *const stop_names[] = {
	[BOARD_STOP_NONE] = "none",
	[BOARD_STOP_POWEROFF] = "guest-poweroff",
	[BOARD_STOP_RESET] = "guest-reset",
	[BOARD_STOP_TRIPLE_FAULT] = "triple-fault",
	[BOARD_STOP_DEBUG_EXIT] = "debug-exit",
	[BOARD_STOP_KILLED] = "killed",
	[BOARD_STOP_ENGINE_ERROR] = "engine-error",
	[BOARD_STOP_BOOT_ERROR] = "boot-error",
};

const char *board_state_name(enum board_state state)
{
	return (size_t)state < ARRAY_SIZE(state_names) ? state_names[state] : "?";
}

const char *board_stop_name(enum board_stop stop)
{
	return (size_t)stop < ARRAY_SIZE(stop_names) ? stop_names[stop] : "?";
}

/* --- creation --------------------------------------------------------------------------------- */

/* A sentence for *ret_error, if there is memory for it. Returns r. */
int board_error(char **ret_error, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(ret_error, fmt, ap) < 0)
		*ret_error = NULL;
	va_end(ap);
	return r;
}

static int check(const struct board_config *c, char **ret_error)
{
	if (c->memory_bytes < BOARD_MEMORY_MIN || c->memory_bytes % (1 << 20) ||
	    c->memory_bytes > BOARD_MEMORY_MAX)
		return board_error(ret_error, -EINVAL,
				   "memory: %llu bytes; it is a multiple of 1 MiB, 16 MiB to 1 TiB",
				   (unsigned long long)c->memory_bytes);
	if (!c->cpus || c->cpus > VMX_VCPUS_MAX)
		return board_error(ret_error, -EINVAL, "cpus: %u; 1 to %u", c->cpus, VMX_VCPUS_MAX);
	if (c->engine != VMX_ENGINE_KVM && c->engine != VMX_ENGINE_SOFT)
		return board_error(ret_error, -EINVAL, "engine: not chosen");
	if (c->kernel_fd < 0)
		return board_error(ret_error, -EINVAL, "kernel: none given");
	if (c->port_count > BOARD_PORTS_MAX)
		return board_error(ret_error, -EINVAL, "ports: %zu; at most %d", c->port_count,
				   BOARD_PORTS_MAX);
	if (c->disk_count > BOARD_DISKS_MAX)
		return board_error(ret_error, -EINVAL, "disks: %zu; at most %d", c->disk_count,
				   BOARD_DISKS_MAX);
	if (c->net_count > BOARD_NETS_MAX)
		return board_error(ret_error, -EINVAL, "nets: %zu; at most %d", c->net_count,
				   BOARD_NETS_MAX);
	if (c->share_count > BOARD_SHARES_MAX)
		return board_error(ret_error, -EINVAL, "shares: %zu; at most %d", c->share_count,
				   BOARD_SHARES_MAX);
	if (c->pmem_count > BOARD_PMEMS_MAX)
		return board_error(ret_error, -EINVAL, "pmem: %zu; at most %d", c->pmem_count,
				   BOARD_PMEMS_MAX);
	if (c->vhost_count > BOARD_VHOSTS_MAX)
		return board_error(ret_error, -EINVAL, "vhost_user: %zu; at most %d",
				   c->vhost_count, BOARD_VHOSTS_MAX);
	return 0;
}

static void vm_log(void *opaque, int level, const char *line)
{
	log_line(opaque, (enum log_level)level, "%s", line);
}

static int make_vm(struct board *board, char **ret_error)
{
	const struct board_config *c = &board->config;
	struct vmx_vm_options options = {
		.size = sizeof(options),
		.engine = c->engine,
		.flags = c->vm_flags,
		.soft_debug = c->soft_debug,
		.code_cache_bytes = c->code_cache_bytes,
		.log = vm_log,
		.log_opaque = board->log,
		.kvm_fd = c->kvm_fd,
		.tsc_hz = c->tsc_hz,
	};
	int r = vmx_vm_create(&options, &board->vm);

	if (r == -ENOTSUP && (c->vm_flags & VMX_VM_NESTED) && c->engine == VMX_ENGINE_KVM)
		return board_error(ret_error, r, "nested: the host's KVM offers its guests no VMX "
				   "(kvm_intel has to be loaded with nested=1); the soft engine does");
	if (r < 0)
		return board_error(ret_error, r, "engine: %s cannot make a virtual machine: %s",
				   vmx_engine_name(c->engine), strerror(-r));
	return 0;
}

static int make_machine(struct board *board, char **ret_error)
{
	struct machine_options options = { .memory_bytes = board->config.memory_bytes,
					   .vm = board->vm,
					   .log = board->log,
					   .threads = board->config.threads };
	int r = machine_create(&options, &board->machine);

	if (r < 0)
		return board_error(ret_error, r, "memory: %llu bytes cannot be had: %s",
				   (unsigned long long)options.memory_bytes, strerror(-r));
	return 0;
}

/* Also after each guest reset: the guest may have written over tables and kernel. */
static int load(void *opaque, struct boot_entry *ret_entry, char **ret_error)
{
	struct board *board = opaque;
	struct boot_request request = { .kernel_fd = board->config.kernel_fd,
					.initrd_fd = board->config.initrd_fd,
					.cmdline = board->cmdline };
	int r;

	board_units_settle(board); /* what the guest did not let go before its reset */
	r = acpi_load(board->machine, board->config.cpus, &request.rsdp);

	*ret_error = NULL;
	if (r < 0)
		return board_error(ret_error, r, "memory: no room for the ACPI tables");
	r = boot_load(board->machine->memory, &request, ret_entry, ret_error);
	if (r >= 0 && !board->protocol)
		log_since(board->log, board->config.asked_ns, "kernel");
	if (r >= 0)
		board->protocol = ret_entry->protocol;
	return r;
}

static void changed(void *opaque)
{
	struct board *board = opaque;

	if (board->changed)
		board->changed(board->opaque);
}

static int make_life(struct board *board, char **ret_error)
{
	struct life_options options = {
		.machine = board->machine,
		.cpus = board->config.cpus,
		.reboot_stops = board->config.reboot_stops,
		.asked_ns = board->config.asked_ns,
		.load = load,
		.changed = changed,
		.opaque = board,
	};
	int r = life_create(&options, &board->life, ret_error);

	if (r < 0 && !*ret_error)
		return board_error(ret_error, r, "cpus: %u virtual processors cannot be made: %s",
				   options.cpus, strerror(-r));
	return r;
}

/* Frees everything but the descriptors. */
static void destroy(struct board *board)
{
	life_destroy(board->life);
	machine_destroy(board->machine);
	board_units_free(board);
	pthread_mutex_destroy(&board->units_lock);
	if (board->vm)
		(void)vmx_vm_destroy(board->vm);
	free(board->cmdline);
	free(board);
}

int board_create(const struct board_config *config, struct log *log, board_changed_fn *changed_fn,
		 void *opaque, struct board **ret_board, char **ret_error)
{
	struct board *board;
	int r;

	*ret_error = NULL;
	r = check(config, ret_error);
	if (r < 0)
		return r;
	board = calloc(1, sizeof(*board));
	if (!board)
		return -ENOMEM;
	board->config = *config;
	board->log = log;
	pthread_mutex_init(&board->units_lock, NULL);
	board->changed = changed_fn;
	board->opaque = opaque;
	board->cmdline = strdup(config->cmdline ? config->cmdline : "");
	r = board->cmdline ? 0 : -ENOMEM;
	if (r >= 0)
		r = make_vm(board, ret_error);
	if (r >= 0)
		r = make_machine(board, ret_error);
	if (r >= 0)
		r = board_make_devices(board, ret_error);
	log_since(log, config->asked_ns, "engine, memory, devices");
	if (r >= 0) /* which loads: the tables tell of the devices */
		r = make_life(board, ret_error);
	log_since(log, config->asked_ns, "processors");
	if (r < 0) {
		destroy(board);
		return r;
	}
	/* The devices have copies of theirs: see board_devices.c. */
	if (config->console_fd >= 0)
		close(config->console_fd);
	for (size_t i = 0; i < config->port_count; i++)
		close(config->ports[i].fd);
	for (size_t i = 0; i < config->disk_count; i++)
		for (size_t k = 0; k < config->disks[i].image.files; k++)
			close(config->disks[i].image.file[k].fd);
	for (size_t i = 0; i < config->net_count; i++)
		virtio_net_config_close(&config->nets[i].config);
	for (size_t i = 0; i < config->share_count; i++)
		close(config->shares[i].fd);
	for (size_t i = 0; i < config->pmem_count; i++)
		close(config->pmems[i].fd);
	for (size_t i = 0; i < config->vhost_count; i++)
		close(config->vhosts[i].fd);
	log_line(log, LOG_LEVEL_INFO, "%s, %u CPUs, %llu MiB, %s", vmx_engine_name(config->engine),
		 config->cpus, (unsigned long long)config->memory_bytes >> 20, board->protocol);
	*ret_board = board;
	return 0;
}

void board_destroy(struct board *board)
{
	int kernel_fd, initrd_fd;

	if (!board)
		return;
	kernel_fd = board->config.kernel_fd;
	initrd_fd = board->config.initrd_fd;
	destroy(board);
	close(kernel_fd);
	if (initrd_fd >= 0)
		close(initrd_fd);
}

/* --- control ---------------------------------------------------------------------------------- */

int board_start(struct board *board)
{
	return life_start(board->life);
}

int board_pause(struct board *board)
{
	return life_pause(board->life);
}

int board_resume(struct board *board)
{
	return life_resume(board->life);
}

int board_reset(struct board *board)
{
	return life_reset(board->life);
}

int board_kill(struct board *board)
{
	return life_kill(board->life);
}

int board_console_resize(struct board *board, uint16_t columns, uint16_t rows)
{
	if (!board->console || !board->config.console_virtio)
		return -ENODEV;
	virtio_console_resize(board->console, columns, rows);
	return 0;
}

bool board_vsock_wanted(struct board *board, uint32_t *ret_id, uint32_t *ret_port)
{
	return board->vsock && virtio_vsock_wanted(board->vsock, ret_id, ret_port);
}

void board_vsock_answer(struct board *board, uint32_t id, int fd)
{
	if (board->vsock)
		virtio_vsock_answer(board->vsock, id, fd);
	else if (fd >= 0)
		close(fd);
}

int board_power_button(struct board *board)
{
	struct life_info info;

	life_info(board->life, &info);
	if (info.state != LIFE_RUNNING)
		return -EBADFD;
	acpi_pm_power_button(board->acpi_pm);
	return 0;
}

void board_info(struct board *board, struct board_info *ret_info)
{
	unsigned plugs;
	struct life_info info;

	pthread_mutex_lock(&board->units_lock);
	plugs = board->plugs;
	pthread_mutex_unlock(&board->units_lock);
	life_info(board->life, &info);
	*ret_info = (struct board_info){
		.state = (enum board_state)info.state,
		.stop = (enum board_stop)info.stop,
		.exit_code = info.exit_code,
		.rip = info.rip,
		.resets = info.resets,
		.plugs = plugs,
		.run_ns = info.run_ns,
		.boot_ns = info.boot_ns,
		.stalls = info.stalls,
		.stall_reason = info.stall_reason,
	};
	memcpy(ret_info->stall, info.stall, sizeof(ret_info->stall));
	memcpy(ret_info->detail, info.detail, sizeof(ret_info->detail));
	pthread_mutex_lock(&board->units_lock);
	for (const struct unit *unit = board->units; unit; unit = unit->next) {
		struct vhost_user_info vhost;

		if (board_unit_link(unit))
			ret_info->links |= 1u << unit->index;
		if (unit->device->class == &vhost_user_class) {
			vhost_user_info(unit->device, &vhost);
			ret_info->peers += vhost.changes;
		}
	}
	pthread_mutex_unlock(&board->units_lock);
}

/* The device, or NULL: there is none. No unit comes or goes until give(). */
static struct device *take(struct board *board, const char *id, const struct device_class *class)
{
	const struct unit *unit;

	pthread_mutex_lock(&board->units_lock);
	unit = board_unit_find(board, id);
	return unit && unit->device->class == class ? unit->device : NULL;
}

/* r, or -ENODEV for none. */
static int give(struct board *board, const struct device *device, int r)
{
	pthread_mutex_unlock(&board->units_lock);
	return device ? r : -ENODEV;
}

int board_net_attach(struct board *board, const char *id, const int *fds, unsigned count)
{
	struct device *device = take(board, id, &virtio_net_class);

	return give(board, device, device ? virtio_net_attach(device, fds, count) : 0);
}

int board_net_info(struct board *board, const char *id, struct virtio_net_info *ret_info)
{
	struct device *device = take(board, id, &virtio_net_class);

	if (device)
		virtio_net_info(device, ret_info);
	return give(board, device, 0);
}

int board_vhost_attach(struct board *board, const char *id, int fd)
{
	struct device *device = take(board, id, &vhost_user_class);

	if (device)
		vhost_user_attach(device, fd);
	return give(board, device, 0);
}

int board_vhost_info(struct board *board, const char *id, struct vhost_user_info *ret_info)
{
	struct device *device = take(board, id, &vhost_user_class);

	if (device)
		vhost_user_info(device, ret_info);
	return give(board, device, 0);
}

/* Writes n of a device's counters behind those that are there; how many there are now. */
static size_t append_stats(struct vmx_stat *stats, size_t n, size_t count,
			   const struct vmx_stat *more, size_t more_count)
{
	for (size_t i = 0; i < more_count; i++, count++)
		if (count < n)
			stats[count] = more[i];
	return count;
}

static size_t balloon_stats(struct board *board, struct vmx_stat *stats, size_t n, size_t count)
{
	static const char *const names[BALLOON_STATS] = {
		"guest_swap_in_bytes", "guest_swap_out_bytes", "guest_major_faults",
		"guest_minor_faults", "guest_free_bytes", "guest_total_bytes",
		"guest_available_bytes", "guest_cache_bytes", "guest_huge_allocations",
		"guest_huge_failures",
	};
	struct virtio_balloon_info info;
	struct vmx_stat all[5 + BALLOON_STATS];
	size_t have = 0;

	if (!board->balloon)
		return count;
	virtio_balloon_info(board->balloon, &info);
	all[have++] = (struct vmx_stat){ "balloon_target_bytes", info.target };
	all[have++] = (struct vmx_stat){ "balloon_actual_bytes", info.actual };
	all[have++] = (struct vmx_stat){ "balloon_returned_bytes", info.returned };
	all[have++] = (struct vmx_stat){ "balloon_driver", info.driver };
	if (info.valid)
		all[have++] = (struct vmx_stat){
			"guest_told_ms_ago",
			(timers_now(board->machine->timers) - info.told_ns) / 1000000,
		};
	for (size_t i = 0; i < BALLOON_STATS; i++)
		if (info.valid >> i & 1)
			all[have++] = (struct vmx_stat){ names[i], info.stat[i] };
	return append_stats(stats, n, count, all, have);
}

static size_t mem_stats(struct board *board, struct vmx_stat *stats, size_t n, size_t count)
{
	struct virtio_mem_info info;

	if (!board->mem)
		return count;
	virtio_mem_info(board->mem, &info);
	return append_stats(stats, n, count, (struct vmx_stat[]){
		{ "mem_size_bytes", info.size },
		{ "mem_block_bytes", info.block },
		{ "mem_requested_bytes", info.requested },
		{ "mem_plugged_bytes", info.plugged },
		{ "mem_driver", info.driver },
	}, 5);
}

int board_balloon(struct board *board, uint64_t bytes)
{
	if (!board->balloon)
		return -ENODEV;
	if (bytes < 1 << 20 || bytes > board->config.memory_bytes)
		return -ERANGE;
	virtio_balloon_set(board->balloon, board->config.memory_bytes - bytes);
	return 0;
}

int board_mem_resize(struct board *board, uint64_t bytes)
{
	return board->mem ? virtio_mem_resize(board->mem, bytes) : -ENODEV;
}

size_t board_stats(struct board *board, struct vmx_stat *stats, size_t n)
{
	size_t count = vmx_vm_stats(board->vm, stats, n);

	count = balloon_stats(board, stats, n, count);
	return mem_stats(board, stats, n, count);
}
