/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - every device class there is, and what each wants to know at creation.
 * The classes themselves are one file each; registry.c is the one visible array.
 */
#ifndef DEVICES_REGISTRY_H
#define DEVICES_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/device.h"

/* Chips. Where no config struct is named, config is NULL. */
extern const struct device_class i8259_class;    /* both PICs, ELCR */
extern const struct device_class ioapic_class;
extern const struct device_class i8254_class;    /* PIT, port 0x61 */
extern const struct device_class mc146818_class; /* RTC and CMOS */
extern const struct device_class i8042_class;    /* reset by 0xfe, port 0x92 */
extern const struct device_class acpi_pm_class;  /* PM1a, PM timer, S5, power button */
extern const struct device_class ns16550_class;  /* struct ns16550_config */
extern const struct device_class debug_exit_class;
/* PCI. */
extern const struct device_class virtio_blk_class; /* struct virtio_blk_config */

struct ns16550_config {
	uint16_t port;
	unsigned irq;
	int fd; /* non-blocking stream, read for input and written for output; -1: none */
};

struct virtio_blk_config {
	int fd;
	bool readonly;
	const char *serial; /* at most 20 bytes, may be "" */
};

/* The ACPI power button was pressed. Loop thread. */
void acpi_pm_power_button(struct device *device);

extern const struct device_class *const device_classes[];
extern const size_t device_class_count;
/* By name, or NULL. */
const struct device_class *device_class_find(const char *name);

#endif
