/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_exit.c - isa-debug-exit: a test guest ends its machine with a code, by one port write.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/pc.h"

#define DEBUG_EXIT_PORTS 4

static void debug_exit_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)opaque, (void)offset, (void)size;
	*val = 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct device *dev = opaque;

	(void)offset, (void)size;
	/* exit codes have few bits: of a wider value the low 16 count */
	machine_request(dev->machine, MACHINE_REQUEST_DEBUG_EXIT, (int)(val & 0xffffu) << 1 | 1);
}

static const struct bus_ops debug_exit_ops = { debug_exit_read, debug_exit_write, 4 };

static void debug_exit_reset(struct device *dev)
{
	(void)dev; /* no state */
}

static void debug_exit_destroy(struct device *dev)
{
	if (!dev)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_DEBUG_EXIT, dev);
	free(dev);
}

static int debug_exit_create(struct machine *machine, const void *config,
			     struct device **ret_device)
{
	struct device *dev = calloc(1, sizeof(*dev));
	int ret;

	(void)config;
	if (!dev)
		return -ENOMEM;
	dev->class = &debug_exit_class;
	dev->machine = machine;
	ret = bus_add(machine->ports, PC_PORT_DEBUG_EXIT, DEBUG_EXIT_PORTS, &debug_exit_ops, dev,
		      "debug-exit");
	if (ret) {
		free(dev);
		return ret;
	}
	*ret_device = dev;
	return 0;
}

const struct device_class debug_exit_class = {
	.name = "debug-exit",
	.create = debug_exit_create,
	.destroy = debug_exit_destroy,
	.reset = debug_exit_reset,
};
