/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine/bus.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "machine/pc.h"
#include "machine/pci.h"
#include "machine/timer.h"
#include "vmx-driver/vmx.h"

/* --- the processors' end of the interrupt wires ----------------------------------------------- */

static int sink_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct machine *machine = opaque;

	return vmx_vm_msi(machine->vm, address, data);
}

static void sink_intr(void *opaque, bool level)
{
	struct machine *machine = opaque;

	if (machine->boot_vcpu)
		(void)vmx_vcpu_set_extint(machine->boot_vcpu, level);
}

static void sink_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool enabled)
{
	struct machine *machine = opaque;

	(void)vmx_vm_ioapic_route(machine->vm, pin, address, data, enabled);
}

static const struct irq_sink vmx_sink = {
	.msi = sink_msi,
	.intr = sink_intr,
	.route = sink_route,
};

/* --- the machine ------------------------------------------------------------------------------ */

int machine_create(const struct machine_options *options, struct machine **ret_machine)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int r;

	if (!machine)
		return -ENOMEM;
	machine->vm = options->vm;
	machine->log = options->log;
	machine->threads = options->threads;
	r = memory_create(options->memory_bytes, &machine->memory);
	if (r < 0)
		goto fail;
	if (machine->vm)
		r = memory_attach(machine->memory, machine->vm);
	if (r < 0)
		goto fail;
	machine->ports = bus_create(0x10000);
	machine->mmio = bus_create(0);
	machine->irqs = irqs_create();
	r = -ENOMEM;
	if (!machine->ports || !machine->mmio || !machine->irqs)
		goto fail;
	if (machine->vm)
		irqs_attach_sink(machine->irqs, &vmx_sink, machine);
	r = timers_create(options->manual, &machine->timers);
	if (r < 0)
		goto fail;
	r = loop_create(machine->timers, &machine->loop);
	if (r < 0)
		goto fail;
	r = pci_create(machine, &machine->pci);
	if (r < 0)
		goto fail;
	*ret_machine = machine;
	return 0;
fail:
	machine_destroy(machine);
	return r;
}

struct machine *machine_destroy(struct machine *machine)
{
	if (!machine)
		return NULL;
	while (machine->devices) {
		struct device **at = &machine->devices, *last;

		while ((*at)->next)
			at = &(*at)->next;
		last = *at;
		*at = NULL;
		last->class->destroy(last);
	}
	pci_destroy(machine->pci);
	loop_destroy(machine->loop);
	timers_destroy(machine->timers);
	irqs_destroy(machine->irqs);
	bus_destroy(machine->mmio);
	bus_destroy(machine->ports);
	memory_destroy(machine->memory);
	free(machine);
	return NULL;
}

int machine_describe(struct machine *machine, const struct machine_described *what)
{
	if (machine->described_count == MACHINE_DESCRIBED_MAX)
		return -ENOSPC;
	machine->described[machine->described_count++] = *what;
	return 0;
}

int device_create(struct machine *machine, const struct device_class *class, const void *config,
		  struct device **ret_device)
{
	struct device *device = NULL, **at;
	int r;

	assert(class->name && class->create && class->destroy && class->reset);
	r = class->create(machine, config, &device);
	if (r < 0)
		return r;
	device->class = class;
	device->machine = machine;
	device->next = NULL;
	for (at = &machine->devices; *at; at = &(*at)->next)
		;
	*at = device;
	if (ret_device)
		*ret_device = device;
	return 0;
}

void device_destroy(struct device *device)
{
	struct device **at;

	for (at = &device->machine->devices; *at != device; at = &(*at)->next)
		assert(*at);
	*at = device->next;
	device->class->destroy(device);
}

/* PCI first: a device's reset then finds its BARs, MSI-X and INTx as after creation. */
void machine_reset_devices(struct machine *machine)
{
	pci_reset(machine->pci);
	for (struct device *device = machine->devices; device; device = device->next)
		device->class->reset(device);
}

void machine_pause_devices(struct machine *machine)
{
	for (struct device *device = machine->devices; device; device = device->next)
		if (device->class->pause)
			device->class->pause(device);
}

void machine_resume_devices(struct machine *machine)
{
	for (struct device *device = machine->devices; device; device = device->next)
		if (device->class->resume)
			device->class->resume(device);
}

void machine_idle_devices(struct machine *machine)
{
	for (struct device *device = machine->devices; device; device = device->next)
		if (device->class->idle)
			device->class->idle(device);
}

void machine_stall(struct machine *machine, const char *reason, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (machine->stall)
		machine->stall(machine->request_opaque, reason, why);
}

void machine_request(struct machine *machine, enum machine_request what, int code)
{
	if (machine->request)
		machine->request(machine->request_opaque, what, code);
}

uint64_t machine_mmio64(const struct machine *machine)
{
	uint64_t end = PC_HIGH_RAM + memory_high_size(machine->memory);

	/* Aligned to its own size, so that every BAR that fits can be aligned to its own. */
	return (end + PC_MMIO64_SIZE - 1) / PC_MMIO64_SIZE * PC_MMIO64_SIZE;
}

uint64_t machine_area_gpa(const struct machine *machine)
{
	uint64_t from = machine_mmio64(machine) + PC_MMIO64_SIZE;
	uint64_t end = memory_areas_end(machine->memory);

	if (end > from)
		from = end;
	return (from + PC_AREA_ALIGN - 1) / PC_AREA_ALIGN * PC_AREA_ALIGN;
}
