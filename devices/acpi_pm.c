/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_pm.c - ACPI fixed hardware (ACPI 6.5, 4.8.3): PM1a event and control registers, the power
 * button, S5, the 32-bit power management timer, and 16 general-purpose events (4.8.4.1). The reset register 0xcf9 is machine/pci.c's.
 *
 * There is no SMI_CMD: the machine is in ACPI mode from the start, so SCI_EN always reads 1.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "machine/timer.h"

enum { /* PM1_STS and PM1_EN */
	PM1_TMR = 1u << 0,
	PM1_GBL = 1u << 5,
	PM1_PWRBTN = 1u << 8,
	PM1_RTC = 1u << 10,
	PM1_WAK = 1u << 15, /* status only */
};
#define PM1_ENABLES (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC)

#define PM1_SCI_EN 0x0001u
#define PM1_SLP_EN 0x2000u
#define PM1_SLP_TYP(v) ((v) >> 10 & 7u)
#define PM1_CNT_KEPT 0x1c03u /* SLP_TYP, BM_RLD, SCI_EN: the rest reads as zero */

#define PM_TIMER_CARRY 31 /* TMR_STS is set when this bit changes */

struct acpi_pm {
	struct device dev;
	pthread_mutex_t lock;
	struct timer timer;
	uint16_t status, enable, control;
	uint16_t gpe_status, gpe_enable;
	uint16_t gpe_wires; /* pulled now: their status cannot be cleared */
	uint64_t carry;     /* ticks >> PM_TIMER_CARRY that TMR_STS was last computed for */
	bool sci;
};

static uint64_t pm_ticks(struct acpi_pm *pm)
{
	return (uint64_t)((unsigned __int128)timers_now(pm->dev.machine->timers) *
			  PC_PM_TIMER_HZ / NSEC_PER_SEC);
}

/* Brings TMR_STS up to now, drives SCI, and arms the timer if its carry is to interrupt. */
static void pm_update(struct acpi_pm *pm)
{
	uint64_t carry = pm_ticks(pm) >> PM_TIMER_CARRY;
	bool sci;

	if (carry != pm->carry)
		pm->status |= PM1_TMR;
	pm->carry = carry;
	pm->gpe_status |= pm->gpe_wires;
	sci = (pm->status & pm->enable & PM1_ENABLES) || (pm->gpe_status & pm->gpe_enable);
	if (sci != pm->sci)
		irq_set(pm->dev.machine->irqs, PC_IRQ_SCI, sci);
	pm->sci = sci;
	if (pm->enable & PM1_TMR && !(pm->status & PM1_TMR)) {
		unsigned __int128 next = (unsigned __int128)(carry + 1) << PM_TIMER_CARRY;

		/* no memory: the carry is noticed at the next access instead */
		(void)timer_arm(&pm->timer, (uint64_t)((next * NSEC_PER_SEC + PC_PM_TIMER_HZ - 1) /
						       PC_PM_TIMER_HZ));
	} else {
		timer_cancel(&pm->timer);
	}
}

static void pm_timer(void *opaque, uint64_t now)
{
	struct acpi_pm *pm = opaque;

	(void)now;
	pthread_mutex_lock(&pm->lock);
	pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_power_button(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	pthread_mutex_lock(&pm->lock);
	pm->status |= PM1_PWRBTN;
	pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_gpe(struct device *dev, unsigned gpe, bool level)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;
	uint16_t wire = (uint16_t)(1u << gpe);

	pthread_mutex_lock(&pm->lock);
	pm->gpe_wires = level ? pm->gpe_wires | wire : pm->gpe_wires & (uint16_t)~wire;
	pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

static void pm_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct acpi_pm *pm = opaque;
	uint8_t block[16] = { 0 };
	uint32_t ticks;
	unsigned i;

	pthread_mutex_lock(&pm->lock);
	pm_update(pm);
	ticks = (uint32_t)pm_ticks(pm);
	block[PC_PM_EVT] = (uint8_t)pm->status;
	block[PC_PM_EVT + 1] = (uint8_t)(pm->status >> 8);
	block[PC_PM_EVT + 2] = (uint8_t)pm->enable;
	block[PC_PM_EVT + 3] = (uint8_t)(pm->enable >> 8);
	block[PC_PM_CNT] = (uint8_t)(pm->control | PM1_SCI_EN);
	block[PC_PM_CNT + 1] = (uint8_t)(pm->control >> 8);
	put_le16(block + PC_PM_GPE, pm->gpe_status);
	put_le16(block + PC_PM_GPE + 2, pm->gpe_enable);
	pthread_mutex_unlock(&pm->lock);
	for (i = 0; i < 4; i++)
		block[PC_PM_TMR + i] = (uint8_t)(ticks >> 8 * i);
	*val = 0;
	for (i = 0; i < size && offset + i < sizeof(block); i++)
		*val |= (uint64_t)block[offset + i] << 8 * i;
}

/* Writes one byte; true: the guest asked for S5. */
static bool pm_write_byte(struct acpi_pm *pm, uint64_t offset, uint8_t val)
{
	switch (offset) {
	case PC_PM_EVT: /* status: write 1 to clear */
		pm->status &= (uint16_t)~val;
		break;
	case PC_PM_EVT + 1:
		pm->status &= (uint16_t)~(val << 8);
		break;
	case PC_PM_EVT + 2:
		pm->enable = (uint16_t)((pm->enable & 0xff00u) | val) & PM1_ENABLES;
		break;
	case PC_PM_EVT + 3:
		pm->enable = (uint16_t)((pm->enable & 0x00ffu) | val << 8) & PM1_ENABLES;
		break;
	case PC_PM_CNT:
		pm->control = (uint16_t)((pm->control & 0xff00u) | val) & PM1_CNT_KEPT;
		break;
	case PC_PM_CNT + 1:
		pm->control = (uint16_t)((pm->control & 0x00ffu) | val << 8) & PM1_CNT_KEPT;
		return val & PM1_SLP_EN >> 8 && PM1_SLP_TYP((unsigned)val << 8) == PC_SLP_TYP_S5;
	case PC_PM_GPE: /* status: write 1 to clear */
		pm->gpe_status &= (uint16_t)~val;
		break;
	case PC_PM_GPE + 1:
		pm->gpe_status &= (uint16_t)~(val << 8);
		break;
	case PC_PM_GPE + 2:
		pm->gpe_enable = (uint16_t)((pm->gpe_enable & 0xff00u) | val);
		break;
	case PC_PM_GPE + 3:
		pm->gpe_enable = (uint16_t)((pm->gpe_enable & 0x00ffu) | val << 8);
		break;
	default:
		break; /* the timer is read-only */
	}
	return false;
}

static void pm_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct acpi_pm *pm = opaque;
	bool off = false;
	unsigned i;

	pthread_mutex_lock(&pm->lock);
	pm_update(pm);
	for (i = 0; i < size; i++)
		off |= pm_write_byte(pm, offset + i, (uint8_t)(val >> 8 * i));
	pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
	if (off)
		machine_request(pm->dev.machine, MACHINE_REQUEST_POWEROFF, 0);
}

static const struct bus_ops pm_ops = { pm_read, pm_write, 4 };

static void pm_reset(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	pthread_mutex_lock(&pm->lock);
	pm->status = pm->enable = pm->control = 0;
	pm->gpe_status = pm->gpe_enable = pm->gpe_wires = 0; /* who pulls them is reset too */
	pm->carry = pm_ticks(pm) >> PM_TIMER_CARRY;
	pm_update(pm);
	pthread_mutex_unlock(&pm->lock);
}

static void pm_destroy(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	if (!pm)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_PM, pm);
	timer_fini(&pm->timer);
	pthread_mutex_destroy(&pm->lock);
	free(pm);
}

static int pm_create(struct machine *machine, const void *config, struct device **ret_device)
{
	struct acpi_pm *pm = calloc(1, sizeof(*pm));
	int ret;

	(void)config;
	if (!pm)
		return -ENOMEM;
	pm->dev.class = &acpi_pm_class;
	pm->dev.machine = machine;
	pthread_mutex_init(&pm->lock, NULL);
	timer_init(&pm->timer, machine->timers, pm_timer, pm);
	pm_reset(&pm->dev);
	ret = bus_add(machine->ports, PC_PORT_PM, PC_PM_SIZE, &pm_ops, pm, "acpi-pm");
	if (ret) {
		pm_destroy(&pm->dev);
		return ret;
	}
	*ret_device = &pm->dev;
	return 0;
}

const struct device_class acpi_pm_class = {
	.name = "acpi-pm",
	.create = pm_create,
	.destroy = pm_destroy,
	.reset = pm_reset,
};
