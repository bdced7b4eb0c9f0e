/* SPDX-License-Identifier: Apache-2.0 */
/* acpi.h - the ACPI tables of this PC: RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT. */
#ifndef MACHINE_ACPI_H
#define MACHINE_ACPI_H

#include <stddef.h>
#include <stdint.h>

struct machine;
struct machine_described;

#define ACPI_SIZE_MAX 0x10000u

struct acpi_config {
	unsigned cpus;
	uint64_t base;   /* guest address of the tables, RSDP first; 16-byte aligned */
	uint64_t mmio64; /* first byte of the 64-bit BAR window */
	const struct machine_described *described; /* see device.h */
	unsigned described_count;
};

/* Writes the tables into buf (ACPI_SIZE_MAX bytes, at least). Returns their length, or -ENOBUFS. */
long acpi_build(const struct acpi_config *config, uint8_t *buf, size_t size);

/* Builds and puts them into guest memory at PC_BIOS. *ret_rsdp is for the boot protocols. */
int acpi_load(struct machine *machine, unsigned cpus, uint64_t *ret_rsdp);

struct aml;
/* acpi_hotplug.c: inside the PCI root's device, and at the end of the DSDT. */
void acpi_put_hotplug_slots(struct aml *aml);
void acpi_put_hotplug_event(struct aml *aml);

#endif
