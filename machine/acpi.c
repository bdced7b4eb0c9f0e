/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "machine/aml.h"
#include "machine/device.h"
#include "machine/memory.h"
#include "machine/pc.h"
#include "machine/pci.h"

#define HEADER 36
#define RSDP_SIZE 36
#define FACS_SIZE 64
#define FADT_SIZE 244 /* revision 4 */

struct tables {
	uint8_t *buf;
	size_t size, len;
	uint64_t base;
	bool failed;
};

static uint8_t checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* Room for n zeroed bytes, aligned; NULL once it is full. */
static uint8_t *take(struct tables *t, size_t n, size_t align)
{
	size_t at = (t->len + align - 1) & ~(align - 1);

	if (t->failed || at > t->size || n > t->size - at) {
		t->failed = true;
		return NULL;
	}
	memset(t->buf + t->len, 0, at + n - t->len);
	t->len = at + n;
	return t->buf + at;
}

static uint64_t address(const struct tables *t, const uint8_t *p)
{
	return t->base + (uint64_t)(p - t->buf);
}

/* Fills the common header (5.2.6) and the checksum over all of the table. */
static void seal(uint8_t *p, const char *signature, uint8_t revision, size_t len)
{
	memcpy(p, signature, 4);
	put_le32(p + 4, (uint32_t)len);
	p[8] = revision;
	memcpy(p + 10, "VMXD  ", 6);
	memcpy(p + 16, "VMXDPC  ", 8);
	put_le32(p + 24, 1);
	memcpy(p + 28, "VMXD", 4);
	put_le32(p + 32, 1);
	p[9] = 0;
	p[9] = checksum(p, len);
}

/* Generic address structure (5.2.3.2) of a port. */
static void put_port(uint8_t *p, uint16_t port, unsigned bits)
{
	p[0] = 1; /* system I/O */
	p[1] = (uint8_t)bits;
	p[3] = bits == 8 ? 1 : bits == 16 ? 2 : 3;
	put_le64(p + 4, port);
}

/* --- fixed tables ----------------------------------------------------------------------------- */

#define FADT_WBINVD (1u << 0)
#define FADT_PROC_C1 (1u << 2)
#define FADT_NO_SLEEP_BUTTON (1u << 5)
#define FADT_NO_FIXED_RTC (1u << 6)
#define FADT_TIMER_32 (1u << 8)
#define FADT_RESET_REG (1u << 10)
#define BOOT_ARCH_LEGACY 0x01
#define BOOT_ARCH_NO_VGA 0x04
#define RESET_VALUE 0x06

/* 5.2.9. ACPI mode from the start (no SMI command port); fixed power button. */
static uint8_t *put_fadt(struct tables *t, uint64_t facs, uint64_t dsdt)
{
	uint8_t *p = take(t, FADT_SIZE, 16);

	if (!p)
		return NULL;
	put_le32(p + 36, (uint32_t)facs);
	put_le32(p + 40, (uint32_t)dsdt);
	p[45] = 1; /* desktop */
	put_le16(p + 46, PC_IRQ_SCI);
	put_le32(p + 56, PC_PORT_PM + PC_PM_EVT);
	put_le32(p + 64, PC_PORT_PM + PC_PM_CNT);
	put_le32(p + 76, PC_PORT_PM + PC_PM_TMR);
	p[88] = 4;                  /* PM1 event block */
	p[89] = 2;                  /* PM1 control block */
	put_le32(p + 80, PC_PORT_PM + PC_PM_GPE);
	p[91] = 4;                  /* PM timer */
	p[92] = 4;                  /* GPE0 block */
	put_le16(p + 96, 0xfff);    /* no C2 */
	put_le16(p + 98, 0xfff);    /* no C3 */
	p[108] = 0x32;              /* century in CMOS */
	put_le16(p + 109, BOOT_ARCH_LEGACY | BOOT_ARCH_NO_VGA);
	put_le32(p + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
				  FADT_TIMER_32 | FADT_RESET_REG);
	put_port(p + 116, PC_PORT_RESET, 8);
	p[128] = RESET_VALUE;
	put_le64(p + 132, facs);
	put_le64(p + 140, dsdt);
	put_port(p + 148, PC_PORT_PM + PC_PM_EVT, 32);
	put_port(p + 172, PC_PORT_PM + PC_PM_CNT, 16);
	put_port(p + 208, PC_PORT_PM + PC_PM_TMR, 32);
	put_port(p + 220, PC_PORT_PM + PC_PM_GPE, 32);
	seal(p, "FACP", 4, FADT_SIZE);
	return p;
}

#define ISO_LEVEL_HIGH 0x000d

/* 5.2.12. */
static uint8_t *put_madt(struct tables *t, unsigned cpus)
{
	size_t len = HEADER + 8 + cpus * 8 + 12 + 2 * 10 + 6;
	uint8_t *p = take(t, len, 16), *e;

	if (!p)
		return NULL;
	put_le32(p + 36, (uint32_t)PC_LAPIC);
	put_le32(p + 40, 1); /* there are 8259s as well */
	e = p + 44;
	for (unsigned i = 0; i < cpus; i++, e += 8) {
		e[1] = 8;
		e[2] = (uint8_t)i;
		e[3] = (uint8_t)i;
		e[4] = 1; /* enabled */
	}
	e[0] = 1; /* IOAPIC */
	e[1] = 12;
	e[2] = PC_IOAPIC_ID;
	put_le32(e + 4, (uint32_t)PC_IOAPIC);
	e += 12;
	e[0] = 2; /* interrupt source override: the PIT is at pin 2 */
	e[1] = 10;
	e[3] = PC_IRQ_PIT;
	put_le32(e + 4, PC_IRQ_CASCADE);
	e += 10;
	e[0] = 2; /* and the SCI is level triggered */
	e[1] = 10;
	e[3] = PC_IRQ_SCI;
	put_le32(e + 4, PC_IRQ_SCI);
	put_le16(e + 8, ISO_LEVEL_HIGH);
	e += 10;
	e[0] = 4; /* NMI at LINT1 of all */
	e[1] = 6;
	e[2] = 0xff;
	e[5] = 1;
	seal(p, "APIC", 3, len);
	return p;
}

static uint8_t *put_mcfg(struct tables *t)
{
	size_t len = HEADER + 8 + 16;
	uint8_t *p = take(t, len, 16);

	if (!p)
		return NULL;
	put_le64(p + 44, PC_ECAM);
	p[55] = PC_ECAM_BUSES - 1;
	seal(p, "MCFG", 1, len);
	return p;
}

/* --- DSDT ------------------------------------------------------------------------------------- */

#define OP_STORE 0x70
#define OP_RETURN 0xa4
#define OP_ARG0 0x68

/* Interrupts of INTA of each slot, as pci_msix.c wires them. */
static void put_prt(struct aml *aml, const char *name, unsigned first, unsigned count)
{
	aml_name(aml, name);
	aml_package(aml, PCI_SLOTS);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		aml_package(aml, 4);
		aml_integer(aml, (uint64_t)slot << 16 | 0xffff);
		aml_integer(aml, 0); /* INTA */
		aml_integer(aml, 0); /* no link device */
		aml_integer(aml, first + slot % count);
		aml_close(aml);
	}
	aml_close(aml);
}

static void put_pci(struct aml *aml, uint64_t mmio64)
{
	aml_device(aml, "PCI0");
	aml_name_eisa_id(aml, "_HID", "PNP0A08");
	aml_name_eisa_id(aml, "_CID", "PNP0A03");
	aml_name_integer(aml, "_UID", 0);
	aml_name_integer(aml, "_BBN", 0);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_res_bus_range(aml, 0, PC_ECAM_BUSES - 1);
	aml_res_io(aml, PC_PORT_PCI, 8);
	aml_res_io_range(aml, 0, PC_PORT_PCI - 1);
	aml_res_io_range(aml, PC_PORT_PCI + 8, 0xffff);
	aml_res_memory32_range(aml, PC_MMIO32, PC_MMIO32_END - 1);
	aml_res_memory64_range(aml, mmio64, mmio64 + PC_MMIO64_SIZE - 1);
	aml_resources_close(aml);
	put_prt(aml, "PRTA", PC_IRQ_PCI_GSI, PC_IRQ_PCI_GSI_COUNT);
	put_prt(aml, "PRTP", PC_IRQ_PCI_PIC, 2);
	aml_method(aml, "_PRT", 0);
	aml_if(aml);
	aml_path(aml, "PICM");
	aml_byte(aml, OP_RETURN);
	aml_path(aml, "PRTA");
	aml_close(aml);
	aml_byte(aml, OP_RETURN);
	aml_path(aml, "PRTP");
	aml_close(aml);
	acpi_put_hotplug_slots(aml);
	aml_close(aml);
}

/* What no other device names: Linux believes in ECAM only if it is reserved here. */
static void put_board(struct aml *aml)
{
	aml_device(aml, "MBRD");
	aml_name_eisa_id(aml, "_HID", "PNP0C02");
	aml_name_integer(aml, "_UID", 0);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_res_memory32(aml, (uint32_t)PC_ECAM, (uint32_t)PC_ECAM_SIZE);
	aml_res_io(aml, PC_PORT_ELCR, 2);
	aml_res_io(aml, PC_PORT_PM, PC_PM_SIZE);
	aml_res_io(aml, PC_PORT_HOTPLUG, PC_HOTPLUG_SIZE);
	aml_resources_close(aml);
	aml_close(aml);
}

static void put_isa(struct aml *aml, const char *name, const char *id, uint16_t port, uint8_t ports,
		    unsigned irq)
{
	aml_device(aml, name);
	aml_name_eisa_id(aml, "_HID", id);
	aml_name_integer(aml, "_UID", 0);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_res_io(aml, port, ports);
	aml_res_irq(aml, irq);
	aml_resources_close(aml);
	aml_close(aml);
}

static void put_described(struct aml *aml, const struct machine_described *what, unsigned n)
{
	char name[8];

	snprintf(name, sizeof(name), "MM%02X", n & 0xff);
	aml_device(aml, name);
	aml_name_string(aml, "_HID", what->hid);
	aml_name_integer(aml, "_UID", n);
	aml_name_integer(aml, "_CCA", 1); /* its DMA is coherent */
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_res_memory32(aml, (uint32_t)what->base, (uint32_t)what->size);
	aml_res_gsi(aml, what->line);
	aml_resources_close(aml);
	aml_close(aml);
}

static uint8_t *put_dsdt(struct tables *t, const struct acpi_config *config)
{
	uint8_t *p = take(t, HEADER, 16);
	struct aml aml;

	if (!p)
		return NULL;
	aml_init(&aml, t->buf + t->len, t->size - t->len);
	aml_name(&aml, "_S5_");
	aml_package(&aml, 4);
	aml_integer(&aml, PC_SLP_TYP_S5);
	aml_integer(&aml, PC_SLP_TYP_S5);
	aml_integer(&aml, 0);
	aml_integer(&aml, 0);
	aml_close(&aml);
	aml_name_integer(&aml, "PICM", 0); /* the guest tells: 0 PIC, 1 APIC */
	aml_method(&aml, "_PIC", 1);
	aml_byte(&aml, OP_STORE);
	aml_byte(&aml, OP_ARG0);
	aml_path(&aml, "PICM");
	aml_close(&aml);
	aml_scope(&aml, "\\_SB_");
	put_pci(&aml, config->mmio64);
	put_board(&aml);
	put_isa(&aml, "COM1", "PNP0501", PC_PORT_COM1, 8, PC_IRQ_COM1);
	put_isa(&aml, "RTC_", "PNP0B00", PC_PORT_RTC, 2, PC_IRQ_RTC);
	for (unsigned i = 0; i < config->described_count; i++)
		put_described(&aml, &config->described[i], i);
	aml_close(&aml);
	acpi_put_hotplug_event(&aml);
	if (!aml_ok(&aml)) {
		t->failed = true;
		return NULL;
	}
	t->len += aml.len;
	seal(p, "DSDT", 2, HEADER + aml.len);
	return p;
}

/* --- all of them ------------------------------------------------------------------------------ */

static void put_rsdp(uint8_t *p, uint64_t xsdt)
{
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "VMXD  ", 6);
	p[15] = 2; /* revision */
	put_le32(p + 20, RSDP_SIZE);
	put_le64(p + 24, xsdt);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, RSDP_SIZE);
}

long acpi_build(const struct acpi_config *config, uint8_t *buf, size_t size)
{
	struct tables t = { .buf = buf, .size = size, .base = config->base };
	uint8_t *rsdp = take(&t, RSDP_SIZE, 16), *facs = take(&t, FACS_SIZE, 64);
	uint8_t *dsdt = put_dsdt(&t, config), *table[3], *xsdt;
	size_t len = HEADER + sizeof(table) / sizeof(table[0]) * 8;

	if (t.failed)
		return -ENOBUFS;
	memcpy(facs, "FACS", 4);
	put_le32(facs + 4, FACS_SIZE);
	facs[32] = 2; /* version */
	table[0] = put_fadt(&t, address(&t, facs), address(&t, dsdt));
	table[1] = put_madt(&t, config->cpus);
	table[2] = put_mcfg(&t);
	xsdt = take(&t, len, 16);
	if (t.failed)
		return -ENOBUFS;
	for (size_t i = 0; i < 3; i++)
		put_le64(xsdt + HEADER + i * 8, address(&t, table[i]));
	seal(xsdt, "XSDT", 1, len);
	put_rsdp(rsdp, address(&t, xsdt));
	return (long)t.len;
}

int acpi_load(struct machine *machine, unsigned cpus, uint64_t *ret_rsdp)
{
	struct acpi_config config = { .cpus = cpus,
				      .base = PC_BIOS,
				      .mmio64 = machine_mmio64(machine),
				      .described = machine->described,
				      .described_count = machine->described_count };
	uint8_t *buf = malloc(ACPI_SIZE_MAX);
	long len;
	int r;

	if (!buf)
		return -ENOMEM;
	len = acpi_build(&config, buf, ACPI_SIZE_MAX);
	r = len < 0 ? (int)len : mem_write(machine->memory, config.base, buf, (size_t)len);
	free(buf);
	if (r >= 0)
		*ret_rsdp = config.base;
	return r;
}
