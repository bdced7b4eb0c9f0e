/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_hotplug.c - the registers behind PCI hot plug by ACPI: which slots have a new device, which
 * are to be let go, and which the guest has let go. The DSDT reads and writes them
 * (machine/acpi_hotplug.c); nothing here touches a device: who made it also takes it away.
 *
 * A guest may eject whatever it likes: a slot that was not asked for keeps its device, and the
 * guest finds it again when it looks.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/pc.h"
#include "machine/pci.h"

struct acpi_hotplug {
	struct device dev;
	struct acpi_hotplug_config config;
	pthread_mutex_t lock;
	uint32_t up, down;  /* not read yet by the guest */
	uint32_t asked;     /* to be let go */
	uint32_t let_go;    /* of those, not taken yet by acpi_hotplug_let_go() */
};

static struct acpi_hotplug *of(struct device *dev)
{
	return (struct acpi_hotplug *)dev;
}

void acpi_hotplug_up(struct device *dev, unsigned slot)
{
	struct acpi_hotplug *h = of(dev);

	pthread_mutex_lock(&h->lock);
	h->up |= 1u << slot;
	pthread_mutex_unlock(&h->lock);
	acpi_pm_gpe(h->config.pm, PC_GPE_HOTPLUG);
}

void acpi_hotplug_down(struct device *dev, unsigned slot)
{
	struct acpi_hotplug *h = of(dev);

	pthread_mutex_lock(&h->lock);
	h->down |= 1u << slot;
	h->asked |= 1u << slot;
	pthread_mutex_unlock(&h->lock);
	acpi_pm_gpe(h->config.pm, PC_GPE_HOTPLUG);
}

void acpi_hotplug_empty(struct device *dev, unsigned slot)
{
	struct acpi_hotplug *h = of(dev);
	uint32_t keep = ~(1u << slot);

	pthread_mutex_lock(&h->lock);
	h->up &= keep;
	h->down &= keep;
	h->asked &= keep;
	h->let_go &= keep;
	pthread_mutex_unlock(&h->lock);
}

bool acpi_hotplug_waits(struct device *dev)
{
	struct acpi_hotplug *h = of(dev);
	bool waits;

	pthread_mutex_lock(&h->lock);
	waits = h->let_go != 0;
	pthread_mutex_unlock(&h->lock);
	return waits;
}

uint32_t acpi_hotplug_let_go(struct device *dev)
{
	struct acpi_hotplug *h = of(dev);
	uint32_t slots;

	pthread_mutex_lock(&h->lock);
	slots = h->let_go;
	h->let_go = 0;
	pthread_mutex_unlock(&h->lock);
	return slots;
}

static void hotplug_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct acpi_hotplug *h = opaque;

	*val = 0;
	if (size != 4)
		return;
	pthread_mutex_lock(&h->lock);
	if (offset == PC_HOTPLUG_UP) {
		*val = h->up;
		h->up = 0;
	} else if (offset == PC_HOTPLUG_DOWN) {
		*val = h->down;
		h->down = 0;
	}
	pthread_mutex_unlock(&h->lock);
}

static void hotplug_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct acpi_hotplug *h = opaque;
	uint32_t slots;

	if (size != 4 || offset != PC_HOTPLUG_EJECT)
		return;
	pthread_mutex_lock(&h->lock);
	slots = (uint32_t)val & h->asked;
	h->asked &= ~slots;
	h->down &= ~slots;
	h->let_go |= slots;
	pthread_mutex_unlock(&h->lock);
	if (slots && h->config.changed)
		h->config.changed(h->config.opaque);
}

static const struct bus_ops hotplug_ops = { hotplug_read, hotplug_write, 4 };

/* The guest starts anew and finds what is there: what was to go, it never sees again. */
static void hotplug_reset(struct device *dev)
{
	struct acpi_hotplug *h = of(dev);
	bool changed;

	pthread_mutex_lock(&h->lock);
	h->up = h->down = 0;
	h->let_go |= h->asked;
	h->asked = 0;
	changed = h->let_go;
	pthread_mutex_unlock(&h->lock);
	if (changed && h->config.changed)
		h->config.changed(h->config.opaque);
}

static void hotplug_destroy(struct device *dev)
{
	struct acpi_hotplug *h = of(dev);

	if (!h)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_HOTPLUG, h);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static int hotplug_create(struct machine *machine, const void *config, struct device **ret_device)
{
	struct acpi_hotplug *h = calloc(1, sizeof(*h));
	int r;

	_Static_assert(PCI_SLOTS == 32, "a bit a slot");
	if (!h)
		return -ENOMEM;
	h->dev.class = &acpi_hotplug_class;
	h->dev.machine = machine;
	h->config = *(const struct acpi_hotplug_config *)config;
	pthread_mutex_init(&h->lock, NULL);
	r = bus_add(machine->ports, PC_PORT_HOTPLUG, PC_HOTPLUG_SIZE, &hotplug_ops, h,
		    "acpi-hotplug");
	if (r < 0) {
		hotplug_destroy(&h->dev);
		return r;
	}
	*ret_device = &h->dev;
	return 0;
}

const struct device_class acpi_hotplug_class = {
	.name = "acpi-hotplug",
	.create = hotplug_create,
	.destroy = hotplug_destroy,
	.reset = hotplug_reset,
};
