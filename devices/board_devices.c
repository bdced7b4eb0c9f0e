/* SPDX-License-Identifier: Apache-2.0 */
/* board_devices.c - which devices this PC has, in which order, and what each is told. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/board_internal.h"
#include "devices/chips.h"
#include "machine/memory.h"

/* Each device's config, on the stack of its creation; NULL members need none. */
union device_config {
	struct mc146818_config rtc;
	struct uart16550_config uart;
};

static int no_config(struct board *board, union device_config *config, int *ret_fd)
{
	(void)board, (void)config, (void)ret_fd;
	return 0;
}

static int rtc_config(struct board *board, union device_config *config, int *ret_fd)
{
	(void)ret_fd;
	config->rtc = (struct mc146818_config){
		.unix_seconds = (int64_t)time(NULL),
		.low_ram = memory_low_size(board->machine->memory),
		.high_ram = memory_high_size(board->machine->memory),
	};
	return 0;
}

/* A device owns its descriptor after success only, and so does the board: give it a copy. */
static int copy_fd(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

static int uart_config(struct board *board, union device_config *config, int *ret_fd)
{
	config->uart = (struct uart16550_config){ .fd = -1 };
	if (board->config.console_fd >= 0) {
		*ret_fd = copy_fd(board->config.console_fd);
		if (*ret_fd < 0)
			return *ret_fd;
		config->uart.fd = *ret_fd;
	}
	return 0;
}

static bool wants_debug_exit(const struct board *board)
{
	return board->config.debug_exit;
}

/* The wiring table. Interrupt controllers come first: devices drive their wires from the start. */
static const struct {
	const struct device_class *class;
	const char *field; /* of the configuration, for messages */
	bool (*wanted)(const struct board *board); /* NULL: always */
	int (*config)(struct board *board, union device_config *config, int *ret_fd);
} wiring[] = {
	{ .class = &i8259_class, .field = "machine", .config = no_config },
	{ .class = &ioapic_class, .field = "machine", .config = no_config },
	{ .class = &i8254_class, .field = "machine", .config = no_config },
	{ .class = &mc146818_class, .field = "machine", .config = rtc_config },
	{ .class = &i8042_class, .field = "machine", .config = no_config },
	{ .class = &acpi_pm_class, .field = "machine", .config = no_config },
	{ .class = &uart16550_class, .field = "console", .config = uart_config },
	{ .class = &debug_exit_class,
	  .field = "debug_exit",
	  .wanted = wants_debug_exit,
	  .config = no_config },
};

int board_make_devices(struct board *board, char **ret_error)
{
	for (size_t i = 0; i < ARRAY_SIZE(wiring); i++) {
		union device_config config = { 0 };
		struct device *device = NULL;
		int fd = -1, r;

		if (wiring[i].wanted && !wiring[i].wanted(board))
			continue;
		r = wiring[i].config(board, &config, &fd);
		if (r >= 0)
			r = device_create(board->machine, wiring[i].class, &config, &device);
		if (r < 0) {
			if (fd >= 0)
				close(fd);
			return board_error(ret_error, r, "%s: no %s: %s", wiring[i].field,
					   wiring[i].class->name, strerror(-r));
		}
		if (wiring[i].class == &acpi_pm_class)
			board->acpi_pm = device;
	}
	return 0;
}
