/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioapic.c - the I/O APIC (82093AA with the EOI register of version 0x20), 24 pins.
 *
 * As in the part, an edge on a masked pin is lost and the level of a masked pin is not. Delivery
 * mode ExtINT sends nothing: the PIC reaches the processor by its own wire (LINT0).
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"

#define IOAPIC_VERSION 0x20u

enum { /* memory-mapped */
	IOREGSEL = 0x00,
	IOWIN = 0x10,
	IOEOI = 0x40,
};

enum { /* by IOREGSEL */
	REG_ID = 0,
	REG_VERSION = 1,
	REG_ARBITRATION = 2,
	REG_TABLE = 0x10,
};

#define RTE_VECTOR 0xffull
#define RTE_MODE(e) ((unsigned)((e) >> 8 & 7u))
#define RTE_LOGICAL (1ull << 11)
#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL (1ull << 15)
#define RTE_MASKED (1ull << 16)
#define RTE_DEST(e) ((uint32_t)((e) >> 56))
#define RTE_WRITABLE 0xff0000000001afffull /* not delivery status (12), not remote IRR (14) */

enum { MODE_FIXED = 0, MODE_LOWEST = 1, MODE_NMI = 4, MODE_INIT = 5 };

struct ioapic {
	struct device dev;
	pthread_mutex_t lock;
	uint32_t lines;      /* level of each pin */
	uint8_t select;
	uint8_t id;
	uint64_t rte[PC_IOAPIC_PINS];
};

/* SDM 3A 11.11: the message of a redirection entry. */
static uint64_t rte_address(uint64_t rte)
{
	return PC_LAPIC | (uint64_t)RTE_DEST(rte) << 12 |
	       (RTE_MODE(rte) == MODE_LOWEST ? 1u << 3 : 0) | (rte & RTE_LOGICAL ? 1u << 2 : 0);
}

static uint32_t rte_data(uint64_t rte)
{
	bool level = rte & RTE_LEVEL;

	return (uint32_t)(rte & RTE_VECTOR) | RTE_MODE(rte) << 8 | (level ? 3u << 14 : 0);
}

static bool rte_delivers(uint64_t rte)
{
	unsigned mode = RTE_MODE(rte);

	if (rte & RTE_MASKED)
		return false;
	if (mode == MODE_FIXED || mode == MODE_LOWEST)
		return (rte & RTE_VECTOR) >= 16;
	return mode == MODE_NMI || mode == MODE_INIT;
}

static void ioapic_send(struct ioapic *a, unsigned pin)
{
	uint64_t rte = a->rte[pin];

	if (!rte_delivers(rte))
		return;
	if (rte & RTE_LEVEL) {
		if (rte & RTE_REMOTE_IRR)
			return;
		if (RTE_MODE(rte) <= MODE_LOWEST) /* others have no EOI */
			a->rte[pin] |= RTE_REMOTE_IRR;
	}
	/* a destination that nobody has drops the message, as on a real bus */
	(void)irq_msi(a->dev.machine->irqs, rte_address(rte), rte_data(rte));
}

static void ioapic_send_if_level(struct ioapic *a, unsigned pin)
{
	if (a->rte[pin] & RTE_LEVEL && a->lines & 1u << pin)
		ioapic_send(a, pin);
}

static void ioapic_set(void *opaque, unsigned pin, bool level)
{
	struct ioapic *a = opaque;
	uint32_t bit;
	bool was;

	if (pin >= PC_IOAPIC_PINS)
		return;
	bit = 1u << pin;
	pthread_mutex_lock(&a->lock);
	was = a->lines & bit;
	a->lines = level ? a->lines | bit : a->lines & ~bit;
	if (level && !was)
		ioapic_send(a, pin);
	pthread_mutex_unlock(&a->lock);
}

/* Lock held. */
static void ioapic_end(struct ioapic *a, uint8_t vector)
{
	unsigned pin;

	for (pin = 0; pin < PC_IOAPIC_PINS; pin++) {
		uint64_t rte = a->rte[pin];

		if ((rte & RTE_VECTOR) != vector || !(rte & RTE_REMOTE_IRR))
			continue;
		a->rte[pin] &= ~RTE_REMOTE_IRR;
		ioapic_send_if_level(a, pin);
	}
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
	struct ioapic *a = opaque;

	pthread_mutex_lock(&a->lock);
	ioapic_end(a, vector);
	pthread_mutex_unlock(&a->lock);
}

static void ioapic_write_rte(struct ioapic *a, unsigned index, uint32_t val)
{
	unsigned pin = index / 2;
	uint64_t old = a->rte[pin];
	unsigned shift = index & 1u ? 32 : 0;
	uint64_t mask = RTE_WRITABLE & 0xffffffffull << shift;
	uint64_t rte = (old & ~mask) | ((uint64_t)val << shift & mask);

	if (!(rte & RTE_LEVEL))
		rte &= ~RTE_REMOTE_IRR;
	a->rte[pin] = rte;
	if ((rte ^ old) & ~RTE_REMOTE_IRR)
		irq_route(a->dev.machine->irqs, pin, rte_address(rte), rte_data(rte),
			  rte_delivers(rte));
	ioapic_send_if_level(a, pin);
}

static void ioapic_write_register(struct ioapic *a, uint32_t val)
{
	if (a->select == REG_ID)
		a->id = val >> 24 & 0xfu;
	else if (a->select >= REG_TABLE && a->select < REG_TABLE + 2 * PC_IOAPIC_PINS)
		ioapic_write_rte(a, a->select - REG_TABLE, val);
}

static uint32_t ioapic_read_register(const struct ioapic *a)
{
	unsigned index = a->select - REG_TABLE;

	switch (a->select) {
	case REG_ID:
	case REG_ARBITRATION:
		return (uint32_t)a->id << 24;
	case REG_VERSION:
		return (PC_IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
	default:
		if (a->select < REG_TABLE || index >= 2 * PC_IOAPIC_PINS)
			return 0;
		return (uint32_t)(a->rte[index / 2] >> (index & 1u ? 32 : 0));
	}
}

/* The registers take 32-bit accesses; a narrower read gets its part, a narrower write to the
 * window writes zeroes elsewhere, as the part's documentation leaves it open. */
static void ioapic_mmio_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct ioapic *a = opaque;
	uint32_t reg = 0;

	(void)size;
	pthread_mutex_lock(&a->lock);
	switch (offset & ~3ull) {
	case IOREGSEL:
		reg = a->select;
		break;
	case IOWIN:
		reg = ioapic_read_register(a);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&a->lock);
	*val = reg >> 8 * (offset & 3u);
}

static void ioapic_mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct ioapic *a = opaque;

	(void)size;
	pthread_mutex_lock(&a->lock);
	switch (offset) {
	case IOREGSEL:
		a->select = (uint8_t)val;
		break;
	case IOWIN:
		ioapic_write_register(a, (uint32_t)val);
		break;
	case IOEOI:
		ioapic_end(a, (uint8_t)val);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&a->lock);
}

static const struct bus_ops ioapic_mmio_ops = { ioapic_mmio_read, ioapic_mmio_write, 4 };
static const struct ioapic_ops ioapic_wire_ops = { ioapic_set, ioapic_eoi };

static void ioapic_reset(struct device *dev)
{
	struct ioapic *a = (struct ioapic *)dev;
	unsigned pin;

	pthread_mutex_lock(&a->lock);
	a->select = 0;
	a->id = PC_IOAPIC_ID;
	for (pin = 0; pin < PC_IOAPIC_PINS; pin++) {
		a->rte[pin] = RTE_MASKED;
		irq_route(dev->machine->irqs, pin, rte_address(RTE_MASKED), rte_data(RTE_MASKED),
			  false);
	}
	pthread_mutex_unlock(&a->lock);
}

static void ioapic_destroy(struct device *dev)
{
	struct ioapic *a = (struct ioapic *)dev;

	if (!a)
		return;
	(void)bus_remove(dev->machine->mmio, PC_IOAPIC, a);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static int ioapic_create(struct machine *machine, const void *config, struct device **ret_device)
{
	struct ioapic *a = calloc(1, sizeof(*a));
	int ret;

	(void)config;
	if (!a)
		return -ENOMEM;
	a->dev.class = &ioapic_class;
	a->dev.machine = machine;
	pthread_mutex_init(&a->lock, NULL);
	ioapic_reset(&a->dev);
	ret = bus_add(machine->mmio, PC_IOAPIC, PC_IOAPIC_SIZE, &ioapic_mmio_ops, a, "ioapic");
	if (ret) {
		ioapic_destroy(&a->dev);
		return ret;
	}
	irqs_attach_ioapic(machine->irqs, &ioapic_wire_ops, a);
	*ret_device = &a->dev;
	return 0;
}

const struct device_class ioapic_class = {
	.name = "ioapic",
	.create = ioapic_create,
	.destroy = ioapic_destroy,
	.reset = ioapic_reset,
};
