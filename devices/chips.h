/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chips.h - the chips of the PC: one class each, and what create() takes as its config.
 * Where no config struct is named, config is NULL. Addresses and lines come from machine/pc.h.
 */
#ifndef DEVICES_CHIPS_H
#define DEVICES_CHIPS_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/device.h"

extern const struct device_class i8259_class;   /* two PICs and ELCR; attaches itself to irqs */
extern const struct device_class ioapic_class;  /* 24 pins; attaches itself to irqs */
extern const struct device_class i8254_class;   /* PIT and port 0x61 */
extern const struct device_class i8042_class;   /* keyboard controller, port 0x92 */

/* Real-time clock and CMOS memory. */
struct mc146818_config {
	int64_t unix_seconds; /* wall-clock time (UTC) at creation */
	uint64_t low_ram;     /* bytes of RAM below 4 GiB, for the BIOS's CMOS fields */
	uint64_t high_ram;    /* bytes of RAM above 4 GiB */
};
extern const struct device_class mc146818_class;

/* ACPI PM1a block and PM timer. */
extern const struct device_class acpi_pm_class;
/* Somebody pressed the power button: SCI, if the guest enabled it. Any thread. */
void acpi_pm_power_button(struct device *dev);
/* The wire of a general-purpose event 0..15: SCI while it is pulled, if the guest enabled it. Any
 * thread; a lock of the caller's may be held. */
void acpi_pm_gpe(struct device *dev, unsigned gpe, bool level);

/* Which slots of PCI the guest shall look at: see machine/acpi_hotplug.c. */
struct acpi_hotplug_config {
	struct device *pm; /* acpi-pm; made before, destroyed after this one */
	/* The guest has let slots go (any thread, no lock held), or the machine was reset while they
	 * were to be: acpi_hotplug_let_go() has them. Must only note it. */
	void (*changed)(void *opaque);
	void *opaque;
};
extern const struct device_class acpi_hotplug_class;
/* The slot has a device that the guest does not know yet. Any thread. */
void acpi_hotplug_up(struct device *dev, unsigned slot);
/* Asks the guest to let the slot go, again if it was asked before. Any thread. */
void acpi_hotplug_down(struct device *dev, unsigned slot);
/* It has no device any more: nothing is asked for any more. Any thread. */
void acpi_hotplug_empty(struct device *dev, unsigned slot);
/* Is there something for acpi_hotplug_let_go()? Any thread. */
bool acpi_hotplug_waits(struct device *dev);
/* Slots that were asked for and let go since the last call, a bit each. Any thread. */
uint32_t acpi_hotplug_let_go(struct device *dev);

/* 16550A at COM1. */
struct uart16550_config {
	int fd; /* non-blocking socket, tty or pipe end, read and written; -1: nothing connected.
		 * Stays the caller's on an error, else closed by destroy() */
};
extern const struct device_class uart16550_class;

/* isa-debug-exit: a write of v requests MACHINE_REQUEST_DEBUG_EXIT with code (v << 1) | 1. */
extern const struct device_class debug_exit_class;
/* The ports of QEMU's pc-testdev: a latch, and the level of each interrupt line. */
extern const struct device_class test_device_class;

#endif
