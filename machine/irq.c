/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/irq.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "machine/pc.h"

struct irqs { /* set while the machine is made, only read afterwards: no lock */
	const struct irq_sink *sink;
	void *sink_opaque;
	const struct pic_ops *pic;
	void *pic_opaque;
	const struct ioapic_ops *ioapic;
	void *ioapic_opaque;
	pthread_mutex_t pull_lock;
	unsigned pulls[PC_IOAPIC_PINS]; /* devices that pull a shared line; pull_lock */
};

struct irqs *irqs_create(void)
{
	struct irqs *irqs = calloc(1, sizeof(*irqs));

	if (irqs)
		pthread_mutex_init(&irqs->pull_lock, NULL);
	return irqs;
}

struct irqs *irqs_destroy(struct irqs *irqs)
{
	if (irqs)
		pthread_mutex_destroy(&irqs->pull_lock);
	free(irqs);
	return NULL;
}

void irqs_attach_sink(struct irqs *irqs, const struct irq_sink *sink, void *opaque)
{
	assert(!sink || (sink->msi && sink->intr && sink->route));
	irqs->sink = sink;
	irqs->sink_opaque = opaque;
}

void irqs_attach_pic(struct irqs *irqs, const struct pic_ops *ops, void *opaque)
{
	assert(!ops || (ops->set && ops->ack));
	irqs->pic = ops;
	irqs->pic_opaque = opaque;
}

void irqs_attach_ioapic(struct irqs *irqs, const struct ioapic_ops *ops, void *opaque)
{
	assert(!ops || (ops->set && ops->eoi));
	irqs->ioapic = ops;
	irqs->ioapic_opaque = opaque;
}

void irq_set_pic(struct irqs *irqs, unsigned input, bool level)
{
	if (irqs->pic && input < PC_ISA_IRQS)
		irqs->pic->set(irqs->pic_opaque, input, level);
}

void irq_set_ioapic(struct irqs *irqs, unsigned pin, bool level)
{
	if (irqs->ioapic && pin < PC_IOAPIC_PINS)
		irqs->ioapic->set(irqs->ioapic_opaque, pin, level);
}

void irq_set(struct irqs *irqs, unsigned line, bool level)
{
	if (line == PC_IRQ_CASCADE) /* taken by the second PIC */
		return;
	irq_set_pic(irqs, line, level);
	/* The PIT goes to pin 2, as the MADT says (interrupt source override). */
	irq_set_ioapic(irqs, line == PC_IRQ_PIT ? PC_IRQ_CASCADE : line, level);
}

void irq_pull(struct irqs *irqs, unsigned line, bool *pulled, bool level)
{
	if (line >= PC_IOAPIC_PINS)
		return;
	pthread_mutex_lock(&irqs->pull_lock);
	if (*pulled != level) {
		*pulled = level;
		irqs->pulls[line] += level ? 1 : -1u;
		irq_set(irqs, line, irqs->pulls[line]);
	}
	pthread_mutex_unlock(&irqs->pull_lock);
}

int irq_msi(struct irqs *irqs, uint64_t address, uint32_t data)
{
	if (address < 0xfee00000ull || address > 0xfeefffffull)
		return -EINVAL;
	return irqs->sink ? irqs->sink->msi(irqs->sink_opaque, address, data) : 0;
}

void irq_intr(struct irqs *irqs, bool level)
{
	if (irqs->sink)
		irqs->sink->intr(irqs->sink_opaque, level);
}

void irq_route(struct irqs *irqs, unsigned pin, uint64_t address, uint32_t data, bool enabled)
{
	if (irqs->sink && pin < PC_IOAPIC_PINS)
		irqs->sink->route(irqs->sink_opaque, pin, address, data, enabled);
}

int irq_ack(struct irqs *irqs)
{
	return irqs->pic ? irqs->pic->ack(irqs->pic_opaque) : -ENOENT;
}

void irq_eoi(struct irqs *irqs, uint8_t vector)
{
	if (irqs->ioapic)
		irqs->ioapic->eoi(irqs->ioapic_opaque, vector);
}
