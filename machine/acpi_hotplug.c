/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_hotplug.c - the DSDT's half of PCI hot plug; devices/acpi_hotplug.c is the other.
 *
 * Every slot of the root bus can be ejected. GPE 1, a level, runs _L01, which reads which slots have a new
 * device and which are to be let go, and tells the drivers of these (ACPI 5.6.4, 5.6.6): guests
 * need no driver but that of PCI. _EJ0 of a slot says that the guest has let it go, _OST that it could
 * not: Linux answers so while it boots, before its driver knows the slots.
 */
#include <stdio.h>

#include "machine/acpi.h"
#include "machine/aml.h"
#include "machine/pc.h"
#include "machine/pci.h"

#define OP_LOCAL0 0x60
#define OP_LOCAL1 0x61
#define OP_ARG0 0x68
#define OP_ARG1 0x69
#define OP_STORE 0x70
#define OP_AND 0x7b
#define OP_NOTIFY 0x86
#define OP_NOT 0x92
#define OP_EQUAL 0x93
#define NO_TARGET 0
#define NOTIFY_DEVICE_CHECK 1
#define NOTIFY_EJECT_REQUEST 3
#define OST_IN_PROGRESS 0x84 /* of an ejection (ACPI 6.3.5.2): another one will follow */
#define SPACE_IO 1
#define FIELD_DWORDS 3 /* access width; no lock, other bits kept */

static void put_registers(struct aml *aml)
{
	static const char *const names[] = { "HPUP", "HPDN", "HPEJ", "HPRF" };

	aml_op_region(aml, "HPRG", SPACE_IO, PC_PORT_HOTPLUG, PC_HOTPLUG_SIZE);
	aml_field(aml, "HPRG", FIELD_DWORDS);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		aml_field_unit(aml, names[i], 32);
	aml_close(aml);
}

static void put_store(struct aml *aml, uint64_t value, const char *to)
{
	aml_byte(aml, OP_STORE);
	aml_integer(aml, value);
	aml_path(aml, to);
}

static void put_equal(struct aml *aml, uint8_t arg, uint64_t value)
{
	aml_byte(aml, OP_EQUAL);
	aml_byte(aml, arg);
	aml_integer(aml, value);
}

/* _OST (event, status, details): a request to eject that failed. */
static void put_status(struct aml *aml, unsigned slot)
{
	aml_method(aml, "_OST", 3);
	aml_if(aml);
	put_equal(aml, OP_ARG0, NOTIFY_EJECT_REQUEST);
	aml_if(aml);
	aml_byte(aml, OP_ARG1);
	aml_if(aml);
	aml_byte(aml, OP_NOT);
	put_equal(aml, OP_ARG1, OST_IN_PROGRESS);
	put_store(aml, 1ull << slot, "HPRF");
	for (int i = 0; i < 4; i++)
		aml_close(aml);
}

static void put_slot(struct aml *aml, unsigned slot, const char *name)
{
	aml_device(aml, name);
	aml_name_integer(aml, "_ADR", (uint64_t)slot << 16);
	aml_name_integer(aml, "_SUN", slot);
	aml_method(aml, "_EJ0", 1);
	put_store(aml, 1ull << slot, "HPEJ");
	aml_close(aml);
	put_status(aml, slot);
	aml_close(aml);
}

static void put_load(struct aml *aml, const char *from, uint8_t local)
{
	aml_byte(aml, OP_STORE);
	aml_path(aml, from);
	aml_byte(aml, local);
}

/* If (local & slot's bit) Notify (slot, what) */
static void put_notify(struct aml *aml, uint8_t local, unsigned slot, const char *name, uint8_t what)
{
	aml_if(aml);
	aml_byte(aml, OP_AND);
	aml_byte(aml, local);
	aml_integer(aml, 1ull << slot);
	aml_byte(aml, NO_TARGET);
	aml_byte(aml, OP_NOTIFY);
	aml_path(aml, name);
	aml_integer(aml, what);
	aml_close(aml);
}

void acpi_put_hotplug_slots(struct aml *aml)
{
	char name[8];

	put_registers(aml);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		snprintf(name, sizeof(name), "SL%02X", slot);
		put_slot(aml, slot, name);
	}
	aml_method(aml, "HPEV", 0);
	put_load(aml, "HPUP", OP_LOCAL0);
	put_load(aml, "HPDN", OP_LOCAL1);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		snprintf(name, sizeof(name), "SL%02X", slot);
		put_notify(aml, OP_LOCAL0, slot, name, NOTIFY_DEVICE_CHECK);
		put_notify(aml, OP_LOCAL1, slot, name, NOTIFY_EJECT_REQUEST);
	}
	aml_close(aml);
}

void acpi_put_hotplug_event(struct aml *aml)
{
	_Static_assert(PC_GPE_HOTPLUG == 1, "the name of the method has its number");
	aml_scope(aml, "\\_GPE");
	aml_method(aml, "_L01", 0);
	aml_bytes(aml, "\\\x2f\x03_SB_PCI0HPEV", 15); /* \_SB.PCI0.HPEV () */
	aml_close(aml);
	aml_close(aml);
}
