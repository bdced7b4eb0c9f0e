/* SPDX-License-Identifier: Apache-2.0 */
/* PCI: config space both ways, BAR sizing and moves, MSI-X with masks and pending bits, INTx. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "machine/bus.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "machine/pci.h"
#include "tests/unit/unit.h"

#define CF8 0xcf8
#define CFC 0xcfc

struct rig {
	struct machine *machine;
	struct pci_dev *dev, *other;
	unsigned msis;
	uint64_t msi_address;
	uint32_t msi_data;
	uint32_t ioapic, pic; /* levels by pin */
	uint64_t last_offset, last_val;
	unsigned last_size, calls, hooks;
	enum machine_request request;
};

static int sink_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct rig *rig = opaque;

	rig->msis++;
	rig->msi_address = address;
	rig->msi_data = data;
	return 0;
}

static void sink_intr(void *opaque, bool level)
{
	(void)opaque, (void)level;
}

static void sink_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool enabled)
{
	(void)opaque, (void)pin, (void)address, (void)data, (void)enabled;
}

static void pic_set(void *opaque, unsigned input, bool level)
{
	struct rig *rig = opaque;

	rig->pic = (rig->pic & ~(1u << input)) | (uint32_t)level << input;
}

static int pic_ack(void *opaque)
{
	(void)opaque;
	return -ENOENT;
}

static void ioapic_set(void *opaque, unsigned pin, bool level)
{
	struct rig *rig = opaque;

	rig->ioapic = (rig->ioapic & ~(1u << pin)) | (uint32_t)level << pin;
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
	(void)opaque, (void)vector;
}

static const struct irq_sink sink = { .msi = sink_msi, .intr = sink_intr, .route = sink_route };
static const struct pic_ops pic_ops = { .set = pic_set, .ack = pic_ack };
static const struct ioapic_ops ioapic_ops = { .set = ioapic_set, .eoi = ioapic_eoi };

static void bar_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct rig *rig = opaque;

	rig->calls++;
	rig->last_offset = offset;
	rig->last_size = size;
	*val = 0xb0 + offset;
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct rig *rig = opaque;

	rig->calls++;
	rig->last_offset = offset;
	rig->last_size = size;
	rig->last_val = val;
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write, .max_size = 4 };

static void hook(void *opaque, unsigned offset, unsigned size)
{
	struct rig *rig = opaque;

	(void)offset, (void)size;
	rig->hooks++;
}

static void on_request(void *opaque, enum machine_request what, int code)
{
	struct rig *rig = opaque;

	(void)code;
	rig->request = what;
}

static const struct pci_dev_info dev_info = {
	.name = "test",
	.vendor = 0x1af4,
	.device = 0x1042,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x018000,
	.revision = 1,
	.intx = true,
	.bar = { [0] = { .kind = PCI_BAR_MEM64,
			 .size = 0x4000,
			 .prefetchable = true,
			 .ops = &bar_ops },
		 [2] = { .kind = PCI_BAR_IO, .size = 64, .ops = &bar_ops },
		 [3] = { .kind = PCI_BAR_MEM32, .size = 0x2000, .ops = &bar_ops } },
	.msix_vectors = 70,
	.msix_bar = 0,
	.msix_offset = 0x2000,
	.config_read = hook,
	.config_written = hook,
};

static void rig_open(struct rig *rig)
{
	struct machine_options options = { .memory_bytes = 16 << 20, .manual = true };

	memset(rig, 0, sizeof(*rig));
	CU_ASSERT_FATAL(machine_create(&options, &rig->machine) == 0);
	rig->machine->request = on_request;
	rig->machine->request_opaque = rig;
	irqs_attach_sink(rig->machine->irqs, &sink, rig);
	irqs_attach_pic(rig->machine->irqs, &pic_ops, rig);
	irqs_attach_ioapic(rig->machine->irqs, &ioapic_ops, rig);
	CU_ASSERT_FATAL(pci_dev_create(rig->machine->pci, &dev_info, rig, &rig->dev) == 0);
	CU_ASSERT_FATAL(pci_dev_create(rig->machine->pci, &dev_info, rig, &rig->other) == 0);
}

static void rig_close(struct rig *rig)
{
	pci_dev_destroy(rig->dev);
	pci_dev_destroy(rig->other);
	machine_destroy(rig->machine);
}

static uint64_t in(struct rig *rig, uint16_t port, unsigned size)
{
	uint64_t val;

	bus_read(rig->machine->ports, port, size, &val);
	return val;
}

static void out(struct rig *rig, uint16_t port, unsigned size, uint64_t val)
{
	bus_write(rig->machine->ports, port, size, val);
}

static uint64_t load(struct rig *rig, uint64_t addr, unsigned size)
{
	uint64_t val;

	bus_read(rig->machine->mmio, addr, size, &val);
	return val;
}

static void store(struct rig *rig, uint64_t addr, unsigned size, uint64_t val)
{
	bus_write(rig->machine->mmio, addr, size, val);
}

static uint32_t cfg(struct rig *rig, unsigned slot, unsigned reg, unsigned size)
{
	out(rig, CF8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
	return (uint32_t)in(rig, (uint16_t)(CFC + (reg & 3)), size);
}

static void cfg_set(struct rig *rig, unsigned slot, unsigned reg, unsigned size, uint32_t val)
{
	out(rig, CF8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
	out(rig, (uint16_t)(CFC + (reg & 3)), size, val);
}

static void test_config(void)
{
	struct rig rig;

	rig_open(&rig);
	CU_ASSERT(cfg(&rig, 0, 0, 4) == 0x00081b36);
	CU_ASSERT(cfg(&rig, 0, 8, 4) >> 8 == 0x060000);
	CU_ASSERT(cfg(&rig, 1, 0, 4) == 0x10421af4);
	CU_ASSERT(cfg(&rig, 1, 2, 2) == 0x1042);
	CU_ASSERT(cfg(&rig, 1, 3, 1) == 0x10);
	CU_ASSERT(cfg(&rig, 1, 0x2c, 4) == 0x11001af4);
	CU_ASSERT(cfg(&rig, 3, 0, 4) == 0xffffffff); /* empty slot */
	/* ECAM shows the same; other functions and buses nothing; extended space zeros. */
	CU_ASSERT(load(&rig, PC_ECAM + (1 << 15), 4) == 0x10421af4);
	CU_ASSERT(load(&rig, PC_ECAM + (1 << 15) + 0x100, 4) == 0);
	CU_ASSERT(load(&rig, PC_ECAM + (1 << 15) + (1 << 12), 4) == 0xffffffff);
	CU_ASSERT(load(&rig, PC_ECAM + (1 << 20), 4) == 0xffffffff);
	/* The address latch: whole words only, and its enable bit. */
	out(&rig, CF8, 4, 0x00000800);
	CU_ASSERT(in(&rig, CFC, 4) == 0xffffffff);
	out(&rig, CF8, 4, 0xffffffff);
	CU_ASSERT(in(&rig, CF8, 4) == 0x80fffffc);
	out(&rig, CF8, 1, 0);
	CU_ASSERT(in(&rig, CF8, 4) == 0x80fffffc);
	/* Read-only fields stay. */
	cfg_set(&rig, 1, 0, 4, 0x12345678);
	cfg_set(&rig, 1, 8, 4, 0x12345678);
	cfg_set(&rig, 1, 0x2c, 4, 0);
	cfg_set(&rig, 1, 0x34, 1, 0);
	CU_ASSERT(cfg(&rig, 1, 0, 4) == 0x10421af4 && cfg(&rig, 1, 8, 4) == 0x01800001);
	CU_ASSERT(cfg(&rig, 1, 0x2c, 4) == 0x11001af4 && cfg(&rig, 1, 0x34, 1) == 0x40);
	cfg_set(&rig, 1, 4, 2, 0xffff);
	CU_ASSERT(cfg(&rig, 1, 4, 2) == 0x0407 && pci_bus_master(rig.dev));
	pci_reset(rig.machine->pci);
	CU_ASSERT(cfg(&rig, 1, 4, 2) == 0x0003 && !pci_bus_master(rig.dev));
	rig_close(&rig);
}

static void test_reset_port(void)
{
	struct rig rig;

	rig_open(&rig);
	out(&rig, PC_PORT_RESET, 1, 0x02);
	CU_ASSERT(rig.request == MACHINE_REQUEST_NONE && in(&rig, PC_PORT_RESET, 1) == 2);
	out(&rig, CF8, 4, 0x80000600); /* not a reset: a word write to the latch */
	CU_ASSERT(rig.request == MACHINE_REQUEST_NONE);
	out(&rig, PC_PORT_RESET, 1, 0x06);
	CU_ASSERT(rig.request == MACHINE_REQUEST_RESET);
	rig_close(&rig);
}

static void test_bar_sizing(void)
{
	static const struct {
		unsigned reg;
		uint32_t sized;
	} cases[] = {
		{ 0x10, 0xffffc00c }, { 0x14, 0xffffffff }, { 0x18, 0xffffffc1 },
		{ 0x1c, 0xffffe000 }, { 0x20, 0 },          { 0x24, 0 },
	};
	struct rig rig;

	rig_open(&rig);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t old = cfg(&rig, 1, cases[i].reg, 4);

		cfg_set(&rig, 1, cases[i].reg, 4, 0xffffffff);
		CU_ASSERT(cfg(&rig, 1, cases[i].reg, 4) == cases[i].sized);
		cfg_set(&rig, 1, cases[i].reg, 4, old);
		CU_ASSERT(cfg(&rig, 1, cases[i].reg, 4) == old);
	}
	/* Placed as firmware would: inside the windows, aligned, apart from each other. */
	for (unsigned bar = 0; bar < 4; bar++) {
		uint64_t a = pci_bar_address(rig.dev, bar), b = pci_bar_address(rig.other, bar);

		if (bar == 1) {
			CU_ASSERT(a == UINT64_MAX);
			continue;
		}
		CU_ASSERT(a != UINT64_MAX && a != b && a % dev_info.bar[bar].size == 0);
	}
	CU_ASSERT(pci_bar_address(rig.dev, 0) >= machine_mmio64(rig.machine));
	CU_ASSERT(pci_bar_address(rig.dev, 3) >= PC_MMIO32);
	rig_close(&rig);
}

static void test_bar_move(void)
{
	struct rig rig;
	uint64_t a, b;

	rig_open(&rig);
	a = pci_bar_address(rig.dev, 3);
	b = pci_bar_address(rig.other, 3);
	CU_ASSERT(load(&rig, a + 8, 4) == 0xb8 && rig.last_size == 4);
	CU_ASSERT(load(&rig, a + 0x2000 - 4, 4) == 0x20ac);
	/* An 8-byte access comes as two of the most that the device takes. */
	rig.calls = 0;
	store(&rig, a + 0x10, 8, 0x1122334455667788);
	CU_ASSERT(rig.calls == 2 && rig.last_offset == 0x14 && rig.last_val == 0x11223344);
	cfg_set(&rig, 1, 0x1c, 4, 0xd0000000);
	CU_ASSERT(load(&rig, a + 8, 4) == 0xffffffff && load(&rig, 0xd0000008, 4) == 0xb8);
	/* Decoding off and on. */
	cfg_set(&rig, 1, 4, 2, 1);
	CU_ASSERT(load(&rig, 0xd0000008, 4) == 0xffffffff);
	CU_ASSERT(pci_bar_address(rig.dev, 2) != UINT64_MAX);
	cfg_set(&rig, 1, 4, 2, 3);
	CU_ASSERT(load(&rig, 0xd0000008, 4) == 0xb8);
	/* On top of another: the first stays; when it goes, the second appears. */
	cfg_set(&rig, 1, 0x1c, 4, (uint32_t)b);
	CU_ASSERT(pci_bar_address(rig.dev, 3) == UINT64_MAX && pci_bar_address(rig.other, 3) == b);
	cfg_set(&rig, 2, 0x1c, 4, 0xd8000000);
	CU_ASSERT(pci_bar_address(rig.dev, 3) == b && pci_bar_address(rig.other, 3) == 0xd8000000);
	/* Over ECAM, past 4 GiB, at 0: nowhere. */
	cfg_set(&rig, 1, 0x1c, 4, (uint32_t)PC_ECAM);
	CU_ASSERT(pci_bar_address(rig.dev, 3) == UINT64_MAX);
	cfg_set(&rig, 1, 0x1c, 4, 0);
	CU_ASSERT(pci_bar_address(rig.dev, 3) == UINT64_MAX);
	cfg_set(&rig, 1, 0x10, 4, 0xffffffff);
	cfg_set(&rig, 1, 0x14, 4, 0xffffffff);
	CU_ASSERT(pci_bar_address(rig.dev, 0) == 0xffffffffffffc000 ||
		  pci_bar_address(rig.dev, 0) == UINT64_MAX);
	cfg_set(&rig, 1, 0x18, 4, 0xffffffff);
	CU_ASSERT(load(&rig, PC_ECAM, 4) == 0x00081b36);
	pci_reset(rig.machine->pci);
	CU_ASSERT(pci_bar_address(rig.dev, 3) == a && pci_bar_address(rig.other, 3) == b);
	rig_close(&rig);
}

static unsigned find_capability(struct rig *rig, unsigned slot, uint8_t id)
{
	unsigned at = cfg(rig, slot, 0x34, 1);

	for (int i = 0; at && i < 48; i++) {
		if (cfg(rig, slot, at, 1) == id)
			return at;
		at = cfg(rig, slot, at + 1, 1);
	}
	return 0;
}

static void test_capabilities(void)
{
	static const uint8_t body[] = { 0x11, 0x22, 0x33, 0x44, 0x55 };
	static const uint8_t mask[] = { 0x00, 0xff, 0x0f, 0x00, 0x00 };
	struct rig rig;
	int at, n;

	rig_open(&rig);
	at = pci_add_capability(rig.dev, 0x09, body, mask, sizeof(body));
	CU_ASSERT(at > 0x40 && at % 4 == 0);
	CU_ASSERT(find_capability(&rig, 1, 0x11) == 0x40);
	CU_ASSERT(find_capability(&rig, 1, 0x09) == (unsigned)at);
	rig.hooks = 0;
	cfg_set(&rig, 1, (unsigned)at, 4, 0xffffffff);
	CU_ASSERT(rig.hooks == 1);
	CU_ASSERT(cfg(&rig, 1, (unsigned)at, 4) == 0xff110009 && rig.hooks == 2);
	cfg_set(&rig, 1, (unsigned)at + 4, 1, 0xfe);
	CU_ASSERT(cfg(&rig, 1, (unsigned)at + 4, 1) == 0x3e);
	rig.hooks = 2;
	(void)cfg(&rig, 1, 0x40, 4); /* MSI-X is the core's own */
	CU_ASSERT(rig.hooks == 2);
	pci_config_put(rig.dev, (unsigned)at + 5, 1, 0x77);
	CU_ASSERT(pci_config_get(rig.dev, (unsigned)at + 5, 1) == 0x77);
	for (n = 0; pci_add_capability(rig.dev, 0x09, body, NULL, sizeof(body)) > 0; n++)
		;
	CU_ASSERT(n > 10 && n < 24);
	CU_ASSERT(pci_add_capability(rig.dev, 9, body, NULL, 300) == -ENOSPC);
	pci_reset(rig.machine->pci);
	CU_ASSERT(cfg(&rig, 1, (unsigned)at, 4) >> 16 == 0x2211);
	rig_close(&rig);
}

static void test_msix(void)
{
	struct rig rig;
	uint64_t table, pba;

	rig_open(&rig);
	table = pci_bar_address(rig.dev, 0) + 0x2000;
	pba = table + 70 * 16;
	CU_ASSERT(cfg(&rig, 1, 0x42, 2) == 69);
	CU_ASSERT(cfg(&rig, 1, 0x44, 4) == 0x2000 && cfg(&rig, 1, 0x48, 4) == 0x2000 + 70 * 16);
	CU_ASSERT(load(&rig, table + 12, 4) == 1); /* masked after reset */
	/* Off: nothing is sent, nothing is remembered. */
	pci_msix_notify(rig.dev, 0);
	cfg_set(&rig, 1, 0x42, 2, 0xffff);
	CU_ASSERT(cfg(&rig, 1, 0x42, 2) == 0xc000 + 69 && pci_msix_enabled(rig.dev));
	CU_ASSERT(load(&rig, pba, 8) == 0 && rig.msis == 0);
	/* Entry masked and function masked: pending; unmasking both sends once. */
	store(&rig, table + 65 * 16, 4, 0xfee0100f);
	store(&rig, table + 65 * 16 + 4, 4, 0);
	store(&rig, table + 65 * 16 + 8, 4, 0x4041);
	CU_ASSERT(load(&rig, table + 65 * 16, 4) == 0xfee0100c);
	pci_msix_notify(rig.dev, 65);
	pci_msix_notify(rig.dev, 65);
	CU_ASSERT(load(&rig, pba + 8, 4) == 2 && load(&rig, pba, 4) == 0);
	store(&rig, table + 65 * 16 + 12, 4, 0);
	CU_ASSERT(rig.msis == 0);
	cfg_set(&rig, 1, 0x43, 1, 0x80);
	CU_ASSERT(rig.msis == 1 && rig.msi_address == 0xfee0100c && rig.msi_data == 0x4041);
	CU_ASSERT(load(&rig, pba + 8, 4) == 0);
	pci_msix_notify(rig.dev, 65);
	CU_ASSERT(rig.msis == 2);
	/* Masked by its entry, then unmasked by an 8-byte write. */
	store(&rig, table + 65 * 16 + 12, 4, 0xffffffff);
	CU_ASSERT(load(&rig, table + 65 * 16 + 12, 4) == 1);
	pci_msix_notify(rig.dev, 65);
	CU_ASSERT(rig.msis == 2);
	store(&rig, table + 65 * 16 + 8, 8, 0x4042);
	CU_ASSERT(rig.msis == 3 && rig.msi_data == 0x4042);
	/* What is not there, or not allowed. */
	store(&rig, pba, 4, 0xffffffff);
	CU_ASSERT(load(&rig, pba, 4) == 0);
	pci_msix_notify(rig.dev, 70);
	pci_msix_notify(rig.dev, UINT32_MAX);
	store(&rig, table + 65 * 16, 1, 0xff);
	CU_ASSERT(load(&rig, table + 65 * 16, 4) == 0xfee0100c && rig.msis == 3);
	store(&rig, table + 65 * 16, 4, 0x00001000); /* no interrupt lives there */
	pci_msix_notify(rig.dev, 65);
	CU_ASSERT(rig.msis == 3);
	/* The device sees its part of the BAR, and never the table. */
	rig.calls = 0;
	(void)load(&rig, table - 4, 4);
	(void)load(&rig, pba + 16, 4);
	CU_ASSERT(rig.calls == 2);
	pci_reset(rig.machine->pci);
	CU_ASSERT(load(&rig, table + 65 * 16 + 8, 8) == 0x100000000ull &&
		  !pci_msix_enabled(rig.dev));
	rig_close(&rig);
}

static void test_intx(void)
{
	struct rig rig;
	struct pci_dev *far[4];
	uint32_t line;

	rig_open(&rig);
	for (int i = 0; i < 4; i++) /* slots 3..6: 5 shares its line with 1 */
		CU_ASSERT_FATAL(pci_dev_create(rig.machine->pci, &dev_info, &rig, &far[i]) == 0);
	line = 1u << (PC_IRQ_PCI_GSI + 1);
	CU_ASSERT(cfg(&rig, 1, 0x3d, 1) == 1 && cfg(&rig, 1, 0x3c, 1) == PC_IRQ_PCI_PIC + 1);
	pci_intx(rig.dev, true);
	pci_intx(rig.dev, true);
	CU_ASSERT(rig.ioapic == line && rig.pic == 1u << (PC_IRQ_PCI_PIC + 1));
	CU_ASSERT(cfg(&rig, 1, 6, 2) & 8);
	pci_intx(far[2], true);
	pci_intx(rig.dev, false);
	CU_ASSERT(rig.ioapic == line && !(cfg(&rig, 1, 6, 2) & 8));
	pci_intx(far[2], false);
	CU_ASSERT(rig.ioapic == 0 && rig.pic == 0);
	/* Slot 3 has another pin, but the same PIC input. */
	pci_intx(rig.dev, true);
	pci_intx(far[0], true);
	pci_intx(rig.dev, false);
	CU_ASSERT(rig.ioapic == 1u << (PC_IRQ_PCI_GSI + 3) &&
		  rig.pic == 1u << (PC_IRQ_PCI_PIC + 1));
	pci_intx(far[0], false);
	CU_ASSERT(rig.pic == 0);
	/* Disabled by the command register: silent, but still shown; MSI-X silences it too. */
	pci_intx(rig.dev, true);
	cfg_set(&rig, 1, 4, 2, 0x403);
	CU_ASSERT(rig.ioapic == 0 && (cfg(&rig, 1, 6, 2) & 8));
	cfg_set(&rig, 1, 4, 2, 3);
	CU_ASSERT(rig.ioapic == line);
	cfg_set(&rig, 1, 0x42, 2, 0x8000);
	CU_ASSERT(rig.ioapic == 0);
	cfg_set(&rig, 1, 0x42, 2, 0);
	CU_ASSERT(rig.ioapic == line);
	pci_reset(rig.machine->pci);
	CU_ASSERT(rig.ioapic == 0 && rig.pic == 0);
	pci_intx(far[3], true);
	for (int i = 0; i < 4; i++)
		pci_dev_destroy(far[i]);
	CU_ASSERT(rig.ioapic == 0);
	rig_close(&rig);
}

static void test_descriptions(void)
{
	static const struct {
		int bar;
		struct pci_bar_info info;
		unsigned vectors;
		uint32_t offset;
	} bad[] = {
		{ 3, { .kind = PCI_BAR_MEM32, .size = 0x3000, .ops = &bar_ops }, 0, 0 },
		{ 3, { .kind = PCI_BAR_MEM32, .size = 0x800, .ops = &bar_ops }, 0, 0 },
		{ 3, { .kind = PCI_BAR_MEM32, .size = 0, .ops = &bar_ops }, 0, 0 },
		{ 3, { .kind = PCI_BAR_MEM32, .size = 0x1000 }, 0, 0 },
		{ 3, { .kind = PCI_BAR_MEM32, .size = 1ull << 40, .ops = &bar_ops }, 0, 0 },
		{ 5, { .kind = PCI_BAR_MEM64, .size = 0x1000, .ops = &bar_ops }, 0, 0 },
		{ 1, { .kind = PCI_BAR_MEM32, .size = 0x1000, .ops = &bar_ops }, 0, 0 },
		{ 5, { .kind = PCI_BAR_IO, .size = 512, .ops = &bar_ops }, 0, 0 },
		{ 5, { .kind = PCI_BAR_NONE }, 2049, 0x2000 },
		{ 5, { .kind = PCI_BAR_NONE }, 4, 0x2004 },
		{ 5, { .kind = PCI_BAR_NONE }, 4, 0x4000 },
		{ 5, { .kind = PCI_BAR_NONE }, 512, 0x2000 },
	};
	struct pci_dev *dev, *all[PCI_SLOTS];
	struct rig rig;
	int n = 0;

	rig_open(&rig);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pci_dev_info info = dev_info;

		info.bar[bad[i].bar] = bad[i].info;
		info.msix_vectors = bad[i].vectors;
		info.msix_offset = bad[i].offset;
		CU_ASSERT(pci_dev_create(rig.machine->pci, &info, &rig, &dev) == -EINVAL);
	}
	{
		struct pci_dev_info info = dev_info;

		info.bar[0].size = PC_MMIO64_SIZE * 2;
		CU_ASSERT(pci_dev_create(rig.machine->pci, &info, &rig, &dev) == -ENOSPC);
	}
	while (n < PCI_SLOTS && pci_dev_create(rig.machine->pci, &dev_info, &rig, &all[n]) == 0)
		n++;
	CU_ASSERT(n == PCI_SLOTS - 3);
	while (n)
		pci_dev_destroy(all[--n]);
	CU_ASSERT(pci_dev_destroy(NULL) == NULL);
	rig_close(&rig);
}

/* vCPU 0 moves a BAR while vCPU 1 uses it and notifications come. */
struct racer {
	struct rig *rig;
	_Atomic bool stop;
};

static void *user(void *opaque)
{
	struct racer *racer = opaque;
	struct rig *rig = racer->rig;
	uint64_t val;

	while (!atomic_load(&racer->stop)) {
		bus_read(rig->machine->mmio, 0xd0000000, 4, &val);
		bus_write(rig->machine->mmio, 0xd1000004, 4, 1);
		pci_msix_notify(rig->dev, 3);
		pci_intx(rig->dev, val & 1);
	}
	return NULL;
}

static void test_move_race(void)
{
	struct rig rig;
	struct racer racer = { .rig = &rig };
	pthread_t thread;

	rig_open(&rig);
	pthread_create(&thread, NULL, user, &racer);
	for (int i = 0; i < 3000; i++) {
		cfg_set(&rig, 1, 0x1c, 4, i & 1 ? 0xd0000000 : 0xd1000000);
		cfg_set(&rig, 1, 4, 2, i % 3 ? 3 : 0);
		cfg_set(&rig, 1, 0x42, 2, i & 4 ? 0x8000 : 0);
	}
	atomic_store(&racer.stop, true);
	pthread_join(thread, NULL);
	pci_intx(rig.dev, false);
	CU_ASSERT(rig.ioapic == 0);
	rig_close(&rig);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "config space by ports and ECAM", test_config },
		{ "reset control port", test_reset_port },
		{ "BAR sizing and placement", test_bar_sizing },
		{ "BARs move, overlap, vanish", test_bar_move },
		{ "capabilities", test_capabilities },
		{ "MSI-X", test_msix },
		{ "INTx", test_intx },
		{ "bad descriptions", test_descriptions },
		{ "a BAR moves under another processor", test_move_race },
		CU_TEST_INFO_NULL,
	};

	return UNIT_RUN(UNIT_SUITE("pci", tests));
}
