/* SPDX-License-Identifier: Apache-2.0 */
/* board_devices.c - which devices this PC has, in which order, and what each is told. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/backend/block.h"
#include "devices/board_internal.h"
#include "devices/chips.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/core.h"
#include "devices/virtio/mem.h"
#include "devices/virtio/net.h"
#include "devices/virtio/p9.h"
#include "devices/virtio/pmem.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "devices/virtio/vhost_user.h"
#include "machine/memory.h"
#include "machine/pc.h"
#include "machine/pci.h"

#define BLK_QUEUES_DEFAULT 8u

/* Each device's config, on the stack of its creation; NULL members need none. */
union device_config {
	struct mc146818_config rtc;
	struct uart16550_config uart;
	struct virtio_blk_config blk;
	struct virtio_rng_config rng;
	struct virtio_console_config console;
	struct virtio_balloon_config balloon;
	struct virtio_mem_config mem;
	struct virtio_pmem_config pmem;
	struct acpi_hotplug_config hotplug;
	struct virtio_net_config net;
	struct virtio_p9_config p9;
	struct virtio_vsock_config vsock;
	struct vhost_user_config vhost;
};

/* Descriptors that the device owns after success. */
struct copies {
	unsigned count;
	int fd[2 * NET_PAIRS_MAX];
};

static int no_config(struct board *board, size_t index, union device_config *config,
		     struct copies *copies)
{
	(void)board, (void)index, (void)config, (void)copies;
	return 0;
}

static int rtc_config(struct board *board, size_t index, union device_config *config,
		     struct copies *copies)
{
	(void)index, (void)copies;
	config->rtc = (struct mc146818_config){
		.unix_seconds = (int64_t)time(NULL),
		.low_ram = memory_low_size(board->machine->memory),
		.high_ram = memory_high_size(board->machine->memory),
	};
	return 0;
}

/* A device owns its descriptor after success only, and so does the board: give it a copy. */
static int copy_fd(int fd, struct copies *copies)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return -errno;
	copies->fd[copies->count++] = copy;
	return copy;
}

static int uart_config(struct board *board, size_t index, union device_config *config,
		       struct copies *copies)
{
	(void)index;
	config->uart = (struct uart16550_config){ .fd = -1 };
	if (board->config.console_fd >= 0 && !board->config.console_virtio) {
		config->uart.fd = copy_fd(board->config.console_fd, copies);
		if (config->uart.fd < 0)
			return config->uart.fd;
	}
	return 0;
}

/* The next page, and a line: those of the ISA that nobody has while there are any (a guest that knows
 * no ACPI is told of them on its command line), then the ones of the IOAPIC that PCI leaves, shared. */
static int virtio_place(struct board *board, struct virtio_place *ret_place)
{
	static const uint8_t own[] = { 5, 6, 7, 14, 15 };
	unsigned n = board->mmio_count;

	*ret_place = (struct virtio_place){ 0 };
	if (!(board->config.virtio & BOARD_VIRTIO_PACKED))
		ret_place->without = 1ull << VIRTIO_F_RING_PACKED;
	if (!(board->config.virtio & BOARD_VIRTIO_MMIO))
		return 0;
	if (n == PC_MMIO_DEVICES_MAX)
		return -ENOSPC;
	board->mmio_count++;
	ret_place->mmio.base = PC_MMIO_DEVICES + (uint64_t)n * VIRTIO_MMIO_SIZE;
	ret_place->mmio.line = n < ARRAY_SIZE(own) ? own[n] : 20 + (n - ARRAY_SIZE(own)) % 4;
	return 0;
}

static int rng_config(struct board *board, size_t index, union device_config *config,
		      struct copies *copies)
{
	(void)index, (void)copies;
	return virtio_place(board, &config->rng.place);
}

static int blk_config(struct board *board, size_t index, union device_config *config,
		     struct copies *copies)
{
	const struct board_disk *disk = &board->config.disks[index];

	unsigned cpus = board->config.cpus < BLK_QUEUES_DEFAULT ? board->config.cpus
								: BLK_QUEUES_DEFAULT;
	int r;

	(void)copies; /* disk_open() makes its own */
	config->blk = (struct virtio_blk_config){
		.fd = -1,
		.readonly = disk->image.readonly,
		.queues = disk->queues ? disk->queues : cpus,
		.threads = disk->threads,
		.here = !disk->threads,
		.bytes = disk->bytes,
		.ops = disk->ops,
	};
	r = disk_open(&disk->image, board->why, &config->blk.block);
	if (r < 0)
		return r;
	snprintf(config->blk.serial, sizeof(config->blk.serial), "%.*s",
		 (int)sizeof(disk->serial) - 1, disk->serial);
	return virtio_place(board, &config->blk.place);
}

/* Something of a device that the owner asks for when it is told of a change. */
static void board_noted(void *opaque)
{
	struct board *board = opaque;

	if (board->changed)
		board->changed(board->opaque);
}

static int hotplug_config(struct board *board, size_t index, union device_config *config,
			  struct copies *copies)
{
	(void)index, (void)copies;
	config->hotplug = (struct acpi_hotplug_config){ board->acpi_pm, board_noted, board };
	return 0;
}

static int copy_fds(int *fds, unsigned count, struct copies *copies)
{
	for (unsigned i = 0; i < count; i++) {
		fds[i] = copy_fd(fds[i], copies);
		if (fds[i] < 0)
			return fds[i];
	}
	return 0;
}

static int net_config(struct board *board, size_t index, union device_config *config,
		      struct copies *copies)
{
	struct virtio_net_config *net = &config->net;
	int r;

	*net = board->config.nets[index].config;
	net->changed = board->changed;
	net->opaque = board->opaque;
	net->why = board->why;
	r = copy_fds(net->fds, net->fd_count, copies);
	if (r == 0)
		r = copy_fds(net->vhost_fds, net->vhost_count, copies);
	return r == 0 ? virtio_place(board, &net->place) : r;
}

static const char *disk_id(const struct board *board, size_t index)
{
	return board->config.disks[index].id;
}

static const char *net_id(const struct board *board, size_t index)
{
	return board->config.nets[index].id;
}

static int console_config(struct board *board, size_t index, union device_config *config,
			  struct copies *copies)
{
	const struct board_config *c = &board->config;
	struct virtio_console_config *to = &config->console;

	(void)index, (void)copies; /* it makes copies itself */
	to->fd = c->console_virtio ? c->console_fd : -1;
	to->port_count = (unsigned)c->port_count;
	for (size_t i = 0; i < c->port_count; i++) {
		to->port[i].fd = c->ports[i].fd;
		snprintf(to->port[i].name, sizeof(to->port[i].name), "%.*s",
			 (int)sizeof(c->ports[i].name) - 1, c->ports[i].name);
	}
	return virtio_place(board, &to->place);
}

/* What the process may open, but for a reserve, is divided among the shares. */
static uint32_t share_fds(size_t count)
{
	const rlim_t reserve = 256 + VIRTIO_VSOCK_CONNECTIONS_MAX, most = 65536;
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur <= reserve + 64 * count)
		return 64;
	files.rlim_cur = (files.rlim_cur - reserve) / count;
	return (uint32_t)(files.rlim_cur < most ? files.rlim_cur : most);
}

static int p9_config(struct board *board, size_t index, union device_config *config,
		     struct copies *copies)
{
	const struct board_share *share = &board->config.shares[index];
	int fd = copy_fd(share->fd, copies);

	if (fd < 0)
		return fd;
	config->p9 = (struct virtio_p9_config){ .dir_fd = fd, .proc_fd = board->config.proc_fd,
						.readonly = share->readonly,
						.fds_max = share_fds(board->config.share_count) };
	snprintf(config->p9.tag, sizeof(config->p9.tag), "%.*s", (int)sizeof(share->tag) - 1,
		 share->tag);
	return virtio_place(board, &config->p9.place);
}

static int vsock_config(struct board *board, size_t index, union device_config *config,
			struct copies *copies)
{
	int fd = copy_fd(board->config.vsock.fd, copies);

	(void)index;
	if (fd < 0)
		return fd;
	config->vsock = (struct virtio_vsock_config){ .cid = board->config.vsock.cid,
						      .listen_fd = fd, .wanted = board_noted,
						      .opaque = board };
	return virtio_place(board, &config->vsock.place);
}

static int vhost_config(struct board *board, size_t index, union device_config *config,
			struct copies *copies)
{
	const struct board_vhost *vhost = &board->config.vhosts[index];
	int fd = copy_fd(vhost->fd, copies);

	if (fd < 0)
		return fd;
	config->vhost = (struct vhost_user_config){
		.kind = vhost->kind, .fd = fd, .queues = vhost->queues,
		.queue_size = vhost->queue_size, .why = board->why,
		.changed = board->changed, .opaque = board->opaque,
	};
	memcpy(config->vhost.tag, vhost->tag, sizeof(vhost->tag));
	memcpy(config->vhost.mac, vhost->mac, sizeof(vhost->mac));
	return virtio_place(board, &config->vhost.place);
}

static const char *vhost_id(const struct board *board, size_t index)
{
	return board->config.vhosts[index].id;
}

static int balloon_config(struct board *board, size_t index, union device_config *config,
			  struct copies *copies)
{
	(void)index, (void)copies;
	return virtio_place(board, &config->balloon.place);
}

static int mem_config(struct board *board, size_t index, union device_config *config,
		      struct copies *copies)
{
	const struct board_mem *mem = &board->config.mem;

	(void)index, (void)copies;
	config->mem = (struct virtio_mem_config){ .size = mem->size, .requested = mem->requested,
						  .block = mem->block };
	return virtio_place(board, &config->mem.place);
}

static int pmem_config(struct board *board, size_t index, union device_config *config,
		       struct copies *copies)
{
	int fd = copy_fd(board->config.pmems[index].fd, copies);

	if (fd < 0)
		return fd;
	config->pmem = (struct virtio_pmem_config){ .fd = fd };
	snprintf(config->pmem.name, sizeof(config->pmem.name), "pmem[%zu]", index);
	return virtio_place(board, &config->pmem.place);
}

static size_t one(const struct board *board)
{
	(void)board;
	return 1;
}

static size_t debug_exits(const struct board *board)
{
	return board->config.debug_exit;
}

static size_t test_devices(const struct board *board)
{
	return board->config.test_device;
}

static size_t disks(const struct board *board)
{
	return board->config.disk_count;
}

static size_t nets(const struct board *board)
{
	return board->config.net_count;
}

static size_t consoles(const struct board *board)
{
	return (board->config.console_virtio && board->config.console_fd >= 0) ||
	       board->config.port_count;
}

static size_t shares(const struct board *board)
{
	return board->config.share_count;
}

static size_t vsocks(const struct board *board)
{
	return board->config.vsock.cid != 0;
}

static size_t vhosts(const struct board *board)
{
	return board->config.vhost_count;
}

static size_t balloons(const struct board *board)
{
	return board->config.balloon;
}

static size_t mems(const struct board *board)
{
	return board->config.mem.size != 0;
}

static size_t pmems(const struct board *board)
{
	return board->config.pmem_count;
}

/* The wiring table. Interrupt controllers come first: devices drive their wires from the start. */
static const struct {
	const struct device_class *class;
	const char *field; /* of the configuration, for messages */
	size_t (*count)(const struct board *board);
	int (*config)(struct board *board, size_t index, union device_config *config,
		      struct copies *copies);
	const char *(*id)(const struct board *board, size_t index); /* NULL: cannot be plugged */
} wiring[] = {
	{ &i8259_class, "machine", one, no_config, NULL },
	{ &ioapic_class, "machine", one, no_config, NULL },
	{ &i8254_class, "machine", one, no_config, NULL },
	{ &mc146818_class, "machine", one, rtc_config, NULL },
	{ &i8042_class, "machine", one, no_config, NULL },
	{ &acpi_pm_class, "machine", one, no_config, NULL },
	{ &acpi_hotplug_class, "machine", one, hotplug_config, NULL },
	{ &uart16550_class, "console", one, uart_config, NULL },
	{ &debug_exit_class, "debug_exit", debug_exits, no_config, NULL },
	{ &test_device_class, "test_device", test_devices, no_config, NULL },
	{ &virtio_blk_class, "disks", disks, blk_config, disk_id },
	{ &virtio_net_class, "nets", nets, net_config, net_id },
	{ &virtio_rng_class, "machine", one, rng_config, NULL },
	{ &virtio_console_class, "console", consoles, console_config, NULL },
	{ &virtio_p9_class, "shares", shares, p9_config, NULL },
	{ &vhost_user_class, "vhost_user", vhosts, vhost_config, vhost_id },
	{ &virtio_balloon_class, "balloon", balloons, balloon_config, NULL },
	{ &virtio_mem_class, "mem", mems, mem_config, NULL },
	{ &virtio_vsock_class, "vsock", vsocks, vsock_config, NULL },
	{ &virtio_pmem_class, "pmem", pmems, pmem_config, NULL },
};

static int make_device(struct board *board, size_t row, size_t index, char **ret_error)
{
	union device_config config = { 0 };
	uint32_t before = pci_occupied(board->machine->pci), new;
	struct copies copies = { 0 };
	struct device *device = NULL;
	int r;

	board->why[0] = '\0';
	r = wiring[row].config(board, index, &config, &copies);
	if (r >= 0)
		r = device_create(board->machine, wiring[row].class, &config, &device);
	if (r < 0) {
		while (copies.count)
			close(copies.fd[--copies.count]);
		if (wiring[row].class == &virtio_blk_class)
			block_destroy(config.blk.block);
		if (board->why[0])
			return board_error(ret_error, r, "%s[%zu]: %s", wiring[row].field, index,
					   board->why);
		return board_error(ret_error, r, "%s[%zu]: no %s: %s", wiring[row].field, index,
				   wiring[row].class->name, strerror(-r));
	}
	if (wiring[row].class == &acpi_pm_class)
		board->acpi_pm = device;
	if (wiring[row].class == &virtio_console_class)
		board->console = device;
	if (wiring[row].class == &virtio_balloon_class)
		board->balloon = device;
	if (wiring[row].class == &virtio_mem_class)
		board->mem = device;
	if (wiring[row].class == &virtio_vsock_class)
		board->vsock = device;
	if (wiring[row].class == &acpi_hotplug_class)
		board->hotplug = device;
	if (!wiring[row].id)
		return 0;
	new = pci_occupied(board->machine->pci) & ~before;
	r = board_unit_add(board, row, index, wiring[row].id(board, index), device,
			   new ? __builtin_ctz(new) : -1);
	if (r < 0)
		device_destroy(device);
	return r;
}

int board_make_device(struct board *board, const struct device_class *class, size_t index,
		      char **ret_error)
{
	for (size_t row = 0; row < ARRAY_SIZE(wiring); row++)
		if (wiring[row].class == class)
			return make_device(board, row, index, ret_error);
	return -ENOENT;
}

int board_make_devices(struct board *board, char **ret_error)
{
	for (size_t row = 0; row < ARRAY_SIZE(wiring); row++) {
		size_t count = wiring[row].count(board);

		for (size_t index = 0; index < count; index++) {
			int r = make_device(board, row, index, ret_error);

			if (r < 0)
				return r;
		}
	}
	return 0;
}
