/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_device.c - what test guests expect of QEMU's pc-testdev: a latch of four bytes to read back
 * (0xe0), a port that takes the address of a page to forget (0xe4: nothing to do here), one port for
 * each interrupt line (0x2000), whose level is what was written, and 64 KiB of memory that is a
 * device's (0xff000000).
 */
#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/checked.h"
#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"

#define LATCH_PORTS 8
#define LATCH_SIZE 4
#define LINES 24

/* Each byte is an atomic one: vCPUs may share them, in any widths. */
struct test_device {
	struct device dev;
	_Atomic uint32_t latch, raised; /* raised: lines. Any vCPU thread */
	_Atomic uint8_t memory[PC_TEST_MEMORY_SIZE];
};

static uint32_t latch_mask(uint64_t offset, unsigned size)
{
	uint64_t mask = size == 4 ? UINT32_MAX : (1ull << size * 8) - 1;

	return (uint32_t)(mask << offset * 8);
}

static void latch_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct test_device *t = opaque;

	*val = 0;
	if (offset < LATCH_SIZE)
		*val = (t->latch & latch_mask(offset, size)) >> offset * 8;
}

static void latch_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct test_device *t = opaque;
	uint32_t mask, old = t->latch;

	if (offset >= LATCH_SIZE)
		return;
	mask = latch_mask(offset, size);
	while (!atomic_compare_exchange_weak(&t->latch, &old,
					     (old & ~mask) | ((uint32_t)(val << offset * 8) & mask)))
		;
}

static void line_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)opaque, (void)offset, (void)size;
	*val = 0;
}

static void line_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct test_device *t = opaque;

	(void)size;
	if (val)
		atomic_fetch_or(&t->raised, 1u << offset);
	irq_set(t->dev.machine->irqs, (unsigned)offset, val != 0);
}

static void memory_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct test_device *t = opaque;

	*val = 0;
	for (unsigned i = 0; i < size && offset + i < PC_TEST_MEMORY_SIZE; i++)
		*val |= (uint64_t)t->memory[offset + i] << i * 8;
}

static void memory_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct test_device *t = opaque;

	for (unsigned i = 0; i < size && offset + i < PC_TEST_MEMORY_SIZE; i++)
		t->memory[offset + i] = (uint8_t)(val >> i * 8);
}

static const struct test_range {
	uint32_t first, count;
	bool mmio;
	struct bus_ops ops;
} ranges[] = {
	{ PC_PORT_TEST_LATCH, LATCH_PORTS, false, { latch_read, latch_write, 4 } },
	{ PC_PORT_TEST_LINES, LINES, false, { line_read, line_write, 1 } },
	{ PC_TEST_MEMORY, PC_TEST_MEMORY_SIZE, true, { memory_read, memory_write, 8 } },
};

static struct bus *bus_of(struct machine *machine, const struct test_range *range)
{
	return range->mmio ? machine->mmio : machine->ports;
}

static void test_device_reset(struct device *dev)
{
	struct test_device *t = (struct test_device *)dev;
	uint32_t raised = atomic_exchange(&t->raised, 0);

	t->latch = 0;
	for (unsigned line = 0; line < LINES; line++)
		if (raised >> line & 1)
			irq_set(dev->machine->irqs, line, false);
}

static void test_device_destroy(struct device *dev)
{
	if (!dev)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		(void)bus_remove(bus_of(dev->machine, &ranges[i]), ranges[i].first, dev);
	free(dev);
}

static int test_device_create(struct machine *machine, const void *config,
			      struct device **ret_device)
{
	struct test_device *t = calloc(1, sizeof(*t));
	int ret = 0;

	(void)config;
	if (!t)
		return -ENOMEM;
	t->dev.class = &test_device_class;
	t->dev.machine = machine;
	for (size_t i = 0; !ret && i < ARRAY_SIZE(ranges); i++)
		ret = bus_add(bus_of(machine, &ranges[i]), ranges[i].first, ranges[i].count,
			      &ranges[i].ops, t, "test-device");
	if (ret) {
		test_device_destroy(&t->dev);
		return ret;
	}
	*ret_device = &t->dev;
	return 0;
}

const struct device_class test_device_class = {
	.name = "test-device",
	.create = test_device_create,
	.destroy = test_device_destroy,
	.reset = test_device_reset,
};
