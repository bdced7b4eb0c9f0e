/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_hotplug.c - the registers behind PCI hot plug by ACPI: which slots have a new device, which
 * are to be let go, and which the guest has let go. The DSDT reads and writes them
 * (machine/acpi_hotplug.c); nothing here touches a device: who made it also takes it away.
 *
 * The event's wire is pulled for as long as there is something to read: a guest that still boots, and
 * clears all events when it begins with ACPI, finds it then. A slot is empty to the guest from the
 * moment it lets go, though the device behind it is taken away a little later: whoever rescans the
 * bus in between must not find it again.
 *
 * A guest that could not let go (Linux says so to all that comes while it boots) is asked again a
 * little later. One that says nothing is not: it may be at it still, and who knows what is in the slot
 * when it reads the second request.
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
#include "machine/timer.h"

#define AGAIN_NS (500 * (uint64_t)1000000)

struct acpi_hotplug {
	struct device dev;
	struct acpi_hotplug_config config;
	pthread_mutex_t lock;
	uint32_t up, down;  /* not read yet by the guest */
	uint32_t asked;     /* to be let go */
	uint32_t let_go;    /* of those, not taken yet by acpi_hotplug_let_go() */
	uint32_t refused;   /* asked for, to be asked for again */
	struct timer again;
};

static struct acpi_hotplug *of(struct device *dev)
{
	return (struct acpi_hotplug *)dev;
}

/* Lock held. */
static void pull(struct acpi_hotplug *h)
{
	acpi_pm_gpe(h->config.pm, PC_GPE_HOTPLUG, h->up | h->down);
}

void acpi_hotplug_up(struct device *dev, unsigned slot)
{
	struct acpi_hotplug *h = of(dev);

	pthread_mutex_lock(&h->lock);
	h->up |= 1u << slot;
	pull(h);
	pthread_mutex_unlock(&h->lock);
}

void acpi_hotplug_down(struct device *dev, unsigned slot)
{
	struct acpi_hotplug *h = of(dev);

	pthread_mutex_lock(&h->lock);
	h->down |= 1u << slot;
	h->asked |= 1u << slot;
	pull(h);
	pthread_mutex_unlock(&h->lock);
}

void acpi_hotplug_empty(struct device *dev, unsigned slot)
{
	struct acpi_hotplug *h = of(dev);
	uint32_t keep = ~(1u << slot);

	pthread_mutex_lock(&h->lock);
	h->up &= keep;
	h->down &= keep;
	h->asked &= keep;
	h->refused &= keep;
	h->let_go &= keep;
	pull(h);
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
	pull(h);
	pthread_mutex_unlock(&h->lock);
}

/* Those of slots that were asked for go. */
static void let_go(struct acpi_hotplug *h, uint32_t slots)
{
	pthread_mutex_lock(&h->lock);
	slots &= h->asked;
	h->asked &= ~slots;
	h->refused &= ~slots;
	h->down &= ~slots;
	h->let_go |= slots;
	pull(h);
	pthread_mutex_unlock(&h->lock);
	pci_slots_hide(h->dev.machine->pci, slots);
	if (slots && h->config.changed)
		h->config.changed(h->config.opaque);
}

static void refuse(struct acpi_hotplug *h, uint32_t slots)
{
	pthread_mutex_lock(&h->lock);
	h->refused |= slots & h->asked;
	if (h->refused) /* no memory: whoever wants it may ask */
		(void)timer_arm(&h->again, timers_now(h->dev.machine->timers) + AGAIN_NS);
	pthread_mutex_unlock(&h->lock);
}

static void ask_again(void *opaque, uint64_t now)
{
	struct acpi_hotplug *h = opaque;

	(void)now;
	pthread_mutex_lock(&h->lock);
	h->down |= h->refused & h->asked;
	h->refused = 0;
	pull(h);
	pthread_mutex_unlock(&h->lock);
}

static void hotplug_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	if (size != 4)
		return;
	if (offset == PC_HOTPLUG_EJECT)
		let_go(opaque, (uint32_t)val);
	else if (offset == PC_HOTPLUG_REFUSED)
		refuse(opaque, (uint32_t)val);
}

static const struct bus_ops hotplug_ops = { hotplug_read, hotplug_write, 4 };

/* The guest starts anew and finds what is there: what was to go, it never sees again. */
static void hotplug_reset(struct device *dev)
{
	struct acpi_hotplug *h = of(dev);

	pthread_mutex_lock(&h->lock);
	h->up = h->refused = 0;
	pthread_mutex_unlock(&h->lock);
	let_go(h, UINT32_MAX);
}

static void hotplug_destroy(struct device *dev)
{
	struct acpi_hotplug *h = of(dev);

	if (!h)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_HOTPLUG, h);
	timer_fini(&h->again);
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
	timer_init(&h->again, machine->timers, ask_again, h);
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
