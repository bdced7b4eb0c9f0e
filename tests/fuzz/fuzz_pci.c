/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI config space: two devices whose BARs, command registers, MSI-X and capabilities are written
 * in any order, while their memory is used and they interrupt. A BAR handler must see only its own
 * range, in sizes it takes.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "machine/bus.h"
#include "machine/device.h"
#include "machine/pc.h"
#include "machine/pci.h"
#include "tests/device/rig.h"
#include "tests/fuzz/input.h"

#define STEPS_MAX 1000
#define BAR_SIZE 0x4000u
#define VECTORS 5
#define TABLE 0x1000u

static void check(uint64_t offset, unsigned size, uint64_t bar_size)
{
	if (size > 4 || size & (size - 1) || offset % size || offset + size > bar_size)
		abort();
}

/* The MSI-X table and the pending bits are the core's. */
static void check_table(uint64_t offset, unsigned size)
{
	check(offset, size, BAR_SIZE);
	if (offset + size > TABLE && offset < TABLE + VECTORS * 16 + 8)
		abort();
}

static void table_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)opaque;
	check_table(offset, size);
	*val = offset;
}

static void table_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)opaque, (void)val;
	check_table(offset, size);
}

static void plain_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)opaque;
	check(offset, size, BAR_SIZE * 2);
	*val = offset;
}

static void plain_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)opaque, (void)val;
	check(offset, size, BAR_SIZE * 2);
}

static void port_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)opaque;
	check(offset, size, 32);
	*val = offset;
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)opaque, (void)val;
	check(offset, size, 32);
}

static const struct bus_ops table_ops = { .read = table_read, .write = table_write, .max_size = 4 };
static const struct bus_ops plain_ops = { .read = plain_read, .write = plain_write, .max_size = 4 };
static const struct bus_ops port_ops = { .read = port_read, .write = port_write, .max_size = 4 };

static const struct pci_dev_info info = {
	.name = "fuzzed",
	.vendor = 0x1af4,
	.device = 1,
	.class_code = 0xff0000,
	.intx = true,
	.bar = { [0] = { .kind = PCI_BAR_MEM64, .size = BAR_SIZE, .ops = &table_ops },
		 [2] = { .kind = PCI_BAR_IO, .size = 32, .ops = &port_ops },
		 [4] = { .kind = PCI_BAR_MEM32, .size = BAR_SIZE * 2, .ops = &plain_ops } },
	.msix_vectors = VECTORS,
	.msix_offset = TABLE,
};

/* A register that does something, or any. */
static unsigned any_register(struct input *in)
{
	static const uint8_t registers[] = { 4, 6, 0x10, 0x14, 0x18, 0x20, 0x3c, 0x40, 0x42, 0x4c };

	return rarely(in) ? input16(in) & 0xfff : registers[pick(in, sizeof(registers))];
}

static void config(struct rig *rig, struct input *in)
{
	unsigned slot = rarely(in) ? pick(in, 32) : 1 + pick(in, 2), reg = any_register(in);
	unsigned size = 1u << pick(in, 3);
	uint64_t value = rarely(in) ? input64(in) : input_edge(in);

	if (pick(in, 2)) {
		rig_write(rig, PC_ECAM + (slot << 15) + reg, size, value);
		(void)rig_read(rig, PC_ECAM + (slot << 15) + reg, rarely(in) ? 8 : size);
		return;
	}
	rig_out(rig, PC_PORT_PCI, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
	rig_out(rig, (uint16_t)(PC_PORT_PCI + 4 + (reg & 3)), size, (uint32_t)value);
	(void)rig_in(rig, (uint16_t)(PC_PORT_PCI + 4 + (reg & 3)), size);
}

static void use(struct rig *rig, struct input *in, struct pci_dev *dev)
{
	unsigned bar = 2 * pick(in, 3), size = 1 + pick(in, 8);
	uint64_t address = pci_bar_address(dev, bar), offset = input16(in);

	if (address == UINT64_MAX)
		return;
	if (bar == 2) {
		rig_out(rig, (uint16_t)(address + offset % 64), 1u << pick(in, 3), input8(in));
		return;
	}
	if (pick(in, 2)) /* at the table, most of the time */
		offset = TABLE + offset % (VECTORS * 16 + 32);
	rig_write(rig, address + offset, size, input_edge(in));
	(void)rig_read(rig, address + offset, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct pci_dev *dev[2];
	struct rig rig;

	rig_open(&rig);
	for (int i = 0; i < 2; i++)
		if (pci_dev_create(rig.machine->pci, &info, &rig, &dev[i]) < 0)
			abort();
	for (int step = 0; step < STEPS_MAX && in.left; step++) {
		switch (pick(&in, 8)) {
		case 0:
			pci_msix_notify(dev[pick(&in, 2)], pick(&in, VECTORS + 2));
			break;
		case 1:
			pci_intx(dev[pick(&in, 2)], pick(&in, 2));
			break;
		case 2:
		case 3:
		case 4:
			use(&rig, &in, dev[pick(&in, 2)]);
			break;
		default:
			config(&rig, &in);
			break;
		}
	}
	if (size & 1)
		pci_reset(rig.machine->pci);
	for (int i = 0; i < 2; i++)
		pci_dev_destroy(dev[i]);
	rig_close(&rig);
	return 0;
}
