/* SPDX-License-Identifier: Apache-2.0 */
/* board_internal.h - shared by board.c and board_devices.c only. */
#ifndef DEVICES_BOARD_INTERNAL_H
#define DEVICES_BOARD_INTERNAL_H

#include "devices/board.h"
#include "machine/device.h"
#include "machine/lifecycle.h"

#define BOARD_MEMORY_MIN (16ull << 20)
#define BOARD_MEMORY_MAX (1ull << 40)

struct board {
	struct board_config config; /* as given; cmdline is not used */
	char *cmdline;
	struct log *log;
	board_changed_fn *changed;
	void *opaque;
	struct vmx_vm *vm;
	struct machine *machine;
	struct life *life;
	struct device *acpi_pm; /* has the power button */
	unsigned mmio_count;    /* virtio devices that have a place of their own */
};

int board_error(char **ret_error, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Makes every device, from copies of the descriptors. On an error machine_destroy() frees. */
int board_make_devices(struct board *board, char **ret_error);

#endif
