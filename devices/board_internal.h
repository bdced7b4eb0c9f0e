/* SPDX-License-Identifier: Apache-2.0 */
/* board_internal.h - shared by board.c and board_devices.c only. */
#ifndef DEVICES_BOARD_INTERNAL_H
#define DEVICES_BOARD_INTERNAL_H

#include <pthread.h>

#include "devices/board.h"
#include "machine/device.h"
#include "machine/lifecycle.h"

#define BOARD_MEMORY_MIN (16ull << 20)
#define BOARD_MEMORY_MAX (1ull << 40)

struct unit {
	struct board_unit info;
	size_t row, index; /* of the wiring table, and what of it this is */
	struct device *device;
	bool lost; /* taken away by force, but the guest still has what is left of it */
	struct unit *next;
};

struct board {
	struct board_config config; /* as given; cmdline is not used */
	char *cmdline;
	const char *protocol; /* by which the kernel was loaded; NULL: not yet */
	struct log *log;
	board_changed_fn *changed;
	void *opaque;
	struct vmx_vm *vm;
	struct machine *machine;
	struct life *life;
	char why[DISK_WHY_MAX];  /* of what a device's config function refused; may be empty */
	struct device *acpi_pm; /* has the power button */
	struct device *hotplug; /* acpi-hotplug */
	struct device *console; /* virtio; NULL: none */
	struct device *balloon; /* NULL: none */
	struct device *mem;     /* virtio-mem; NULL: none */
	struct device *vsock;   /* NULL: none */
	/* Changed only while the machine stands still; the lock is for who looks meanwhile. */
	pthread_mutex_t units_lock;
	struct unit *units;
	unsigned plugs;
	unsigned mmio_count;    /* virtio devices that have a place of their own */
};

int board_error(char **ret_error, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Makes every device, from copies of the descriptors. On an error machine_destroy() frees. */
int board_make_devices(struct board *board, char **ret_error);
/* The same for one more of a class that is in the table. The machine stands still. */
int board_make_device(struct board *board, const struct device_class *class, size_t index,
		      char **ret_error);

/* board_hotplug.c. A device was made that has an id; slot -1: not on PCI. */
int board_unit_add(struct board *board, size_t row, size_t index, const char *id,
		   struct device *device, int slot);
/* NULL: there is none. The machine stands still, or units_lock is held; the same for link: is it a
 * network card that has a peer? */
struct unit *board_unit_find(const struct board *board, const char *id);
bool board_unit_link(const struct unit *unit);
/* Destroys what the guest has let go. The machine stands still. */
void board_units_settle(struct board *board);
void board_units_free(struct board *board);

#endif
