/* SPDX-License-Identifier: Apache-2.0 */
/* board_hotplug.c - devices that come and go while the guest runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/board_internal.h"
#include "devices/chips.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/net.h"
#include "devices/virtio/vhost_user.h"
#include "machine/pci.h"

/* --- the list --------------------------------------------------------------------------------- */

int board_unit_add(struct board *board, size_t row, size_t index, const char *id,
		   struct device *device, int slot)
{
	struct unit *unit = calloc(1, sizeof(*unit)), **at;

	if (!unit)
		return -ENOMEM;
	unit->row = row;
	unit->index = index;
	unit->device = device;
	unit->info.class = device->class->name;
	unit->info.slot = slot;
	memcpy(unit->info.id, id, strnlen(id, BOARD_ID_MAX));
	pthread_mutex_lock(&board->units_lock);
	for (at = &board->units; *at; at = &(*at)->next)
		;
	*at = unit;
	board->plugs++;
	pthread_mutex_unlock(&board->units_lock);
	return 0;
}

struct unit *board_unit_find(const struct board *board, const char *id)
{
	struct unit *unit;

	for (unit = board->units; unit && (unit->lost || strcmp(unit->info.id, id)); unit = unit->next)
		;
	return unit;
}

bool board_unit_link(const struct unit *unit)
{
	struct virtio_net_info info;

	if (unit->lost || unit->device->class != &virtio_net_class)
		return false;
	virtio_net_info(unit->device, &info);
	return info.link;
}

/* The machine stands still. */
static void destroy(struct board *board, struct unit *unit)
{
	struct unit **at;

	pthread_mutex_lock(&board->units_lock);
	for (at = &board->units; *at != unit; at = &(*at)->next)
		;
	*at = unit->next;
	board->plugs++;
	pthread_mutex_unlock(&board->units_lock);
	if (unit->info.slot >= 0)
		acpi_hotplug_empty(board->hotplug, (unsigned)unit->info.slot);
	device_destroy(unit->device);
	free(unit);
}

void board_units_settle(struct board *board)
{
	uint32_t slots = board->hotplug ? acpi_hotplug_let_go(board->hotplug) : 0;
	struct unit *unit, *next;

	for (unit = board->units; unit; unit = next) {
		next = unit->next;
		if (unit->info.slot >= 0 && slots >> unit->info.slot & 1)
			destroy(board, unit);
	}
}

void board_units_free(struct board *board)
{
	struct unit *unit;

	while ((unit = board->units)) {
		board->units = unit->next;
		free(unit);
	}
}

size_t board_units(struct board *board, struct board_unit *units, size_t n)
{
	const struct unit *unit;
	size_t count = 0;

	pthread_mutex_lock(&board->units_lock);
	for (unit = board->units; unit; unit = unit->next) {
		if (unit->lost)
			continue;
		if (count < n) {
			units[count] = unit->info;
			units[count].link = board_unit_link(unit);
		}
		count++;
	}
	pthread_mutex_unlock(&board->units_lock);
	return count;
}

/* --- plugging --------------------------------------------------------------------------------- */

static void tell(struct board *board)
{
	if (board->changed)
		board->changed(board->opaque);
}

static bool started(struct board *board)
{
	struct life_info info;

	life_info(board->life, &info);
	return info.state != LIFE_CREATED;
}

static int check_plug(struct board *board, const char *id, char **ret_error)
{
	if (board->config.virtio & BOARD_VIRTIO_MMIO)
		return board_error(ret_error, -ENOTSUP, "devices with memory-mapped registers "
				   "(\"transport\": \"mmio\") cannot be plugged");
	if (!*id || board_unit_find(board, id))
		return board_error(ret_error, *id ? -EEXIST : -EINVAL, "id: \"%s\" is taken", id);
	return 0;
}

/* A number of that row's that no unit has. */
static size_t free_index(const struct board *board, const struct device_class *class, size_t max)
{
	for (size_t index = 0; index < max; index++) {
		const struct unit *unit = board->units;

		while (unit && (unit->lost || unit->device->class != class || unit->index != index))
			unit = unit->next;
		if (!unit)
			return index;
	}
	return max;
}

/* The machine stands still. */
static int plug(struct board *board, const struct device_class *class, size_t index,
		char **ret_error)
{
	bool hot = started(board);
	struct life_info info;
	struct unit *unit;
	int r;

	pci_hot_plug(board->machine->pci, hot);
	r = board_make_device(board, class, index, ret_error);
	pci_hot_plug(board->machine->pci, false);
	if (r < 0)
		return r;
	for (unit = board->units; unit->next; unit = unit->next)
		;
	life_info(board->life, &info);
	if (info.state == LIFE_PAUSED && class->pause) /* as all the others are */
		class->pause(unit->device);
	if (hot && unit->info.slot >= 0)
		acpi_hotplug_up(board->hotplug, (unsigned)unit->info.slot);
	return 0;
}

static void put_disk(struct board *board, size_t index, const void *what)
{
	board->config.disks[index] = *(const struct board_disk *)what;
}

static void put_net(struct board *board, size_t index, const void *what)
{
	board->config.nets[index] = *(const struct board_net *)what;
}

static void put_vhost(struct board *board, size_t index, const void *what)
{
	board->config.vhosts[index] = *(const struct board_vhost *)what;
}

/* What can be plugged, and where what it is made from goes in the configuration. */
static const struct pluggable {
	const struct device_class *class;
	const char *words;
	size_t max;
	void (*put)(struct board *board, size_t index, const void *what);
} disks = { &virtio_blk_class, "disks", BOARD_DISKS_MAX, put_disk },
  nets = { &virtio_net_class, "network cards", BOARD_NETS_MAX, put_net },
  vhosts = { &vhost_user_class, "vhost-user devices", BOARD_VHOSTS_MAX, put_vhost };

static int add(struct board *board, const struct pluggable *kind, const char *id, const void *what,
	       char **ret_error)
{
	size_t index;
	int r;

	*ret_error = NULL;
	r = life_freeze(board->life);
	if (r < 0)
		return r;
	board_units_settle(board);
	r = check_plug(board, id, ret_error);
	index = free_index(board, kind->class, kind->max);
	if (r == 0 && index == kind->max)
		r = board_error(ret_error, -ENOSPC, "there are %zu %s already", kind->max,
				kind->words);
	if (r == 0) {
		kind->put(board, index, what);
		r = plug(board, kind->class, index, ret_error);
	}
	life_thaw(board->life);
	if (r == 0)
		tell(board);
	return r;
}

/* The devices have copies of all descriptors. */

int board_disk_add(struct board *board, const struct board_disk *disk, char **ret_error)
{
	int r = add(board, &disks, disk->id, disk, ret_error);

	for (size_t i = 0; r == 0 && i < disk->image.files; i++)
		close(disk->image.file[i].fd);
	return r;
}

int board_net_add(struct board *board, const struct board_net *net, char **ret_error)
{
	int r = add(board, &nets, net->id, net, ret_error);

	if (r == 0)
		virtio_net_config_close(&net->config);
	return r;
}

int board_vhost_add(struct board *board, const struct board_vhost *vhost, char **ret_error)
{
	int r = add(board, &vhosts, vhost->id, vhost, ret_error);

	if (r == 0)
		close(vhost->fd);
	return r;
}

int board_disk_resize(struct board *board, const char *id, uint64_t bytes, uint64_t *ret_bytes)
{
	const struct unit *unit = board_unit_find(board, id);

	if (!unit || unit->device->class != &virtio_blk_class)
		return -ENOENT;
	return virtio_blk_resize(unit->device, bytes, ret_bytes);
}

/* Asks the guest, who says so by board_settle() at some time. */
static void ask(struct board *board, struct unit *unit)
{
	pthread_mutex_lock(&board->units_lock);
	unit->info.removing = true;
	board->plugs++;
	pthread_mutex_unlock(&board->units_lock);
	acpi_hotplug_down(board->hotplug, (unsigned)unit->info.slot);
}

/* The host has it back at once. The guest gets errors until it lets go of the slot: a device that does
 * not answer any more would make a driver wait for ever. */
static int take_away(struct board *board, struct unit *unit, char **ret_error)
{
	const struct device_class *class = unit->device->class;
	struct life_info info;

	if (!class->lose)
		return board_error(ret_error, -ENOTSUP, "a %s cannot be taken away by force",
				   class->name);
	life_info(board->life, &info);
	if (class->pause && info.state != LIFE_PAUSED)
		class->pause(unit->device);
	class->lose(unit->device);
	if (class->resume && info.state != LIFE_PAUSED)
		class->resume(unit->device);
	pthread_mutex_lock(&board->units_lock);
	unit->lost = true;
	pthread_mutex_unlock(&board->units_lock);
	ask(board, unit);
	return 0;
}

int board_unit_remove(struct board *board, const char *id, bool force, char **ret_error)
{
	struct unit *unit;
	int r;

	*ret_error = NULL;
	r = life_freeze(board->life); /* the guest may be letting it go just now */
	if (r < 0)
		return r;
	board_units_settle(board);
	unit = board_unit_find(board, id);
	if (!unit) {
		r = board_error(ret_error, -ENOENT, "there is no device \"%s\"", id);
	} else if (unit->info.slot < 0) {
		r = board_error(ret_error, -ENOTSUP, "devices with memory-mapped registers "
				"(\"transport\": \"mmio\") cannot be taken out");
	} else if (!started(board)) {
		destroy(board, unit);
	} else if (force) {
		r = take_away(board, unit, ret_error);
	} else {
		ask(board, unit);
	}
	life_thaw(board->life);
	if (r == 0)
		tell(board);
	return r;
}

void board_settle(struct board *board)
{
	if (!acpi_hotplug_waits(board->hotplug) || life_freeze(board->life) < 0)
		return;
	board_units_settle(board);
	life_thaw(board->life);
	tell(board);
}
