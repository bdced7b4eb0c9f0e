/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h - interrupt wires: from devices to PIC and IOAPIC, and from those to the processors.
 *
 * Lines: 0..15 are the ISA interrupts, each wired to the PIC input of that number and to an IOAPIC
 * pin (0 to pin 2, else the same number; 2 itself goes nowhere). 16..23 are wired to IOAPIC pins
 * only. PCI INTx comes through pci.h, which shares lines. Levels are logical: true is asserted,
 * whatever the electrical polarity; a device whose interrupt is edge-like pulses true, false.
 *
 * Locks: irq_* take none of their own (irq_pull() one that is a leaf before the chips'), so a device
 * may call them with its lock held. They call
 * PIC and IOAPIC, which take theirs; PIC and IOAPIC never call a device. Order: device, then chip.
 * irqs_attach_* only while the machine is being made.
 */
#ifndef MACHINE_IRQ_H
#define MACHINE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct irqs;

/* What stands at the processors' end. The machine fills it from the engine, a test with its own. */
struct irq_sink {
	int (*msi)(void *opaque, uint64_t address, uint32_t data);
	void (*intr)(void *opaque, bool level); /* INTR wire of the PIC, to the boot processor */
	void (*route)(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool enabled);
};

struct pic_ops {
	void (*set)(void *opaque, unsigned input, bool level); /* input 0..15, as irq_set() */
	/* Interrupt-acknowledge cycle: the vector, or -ENOENT if INTR is low by now. A spurious
	 * interrupt is a vector (IRQ 7 of the chip), as on the real part. */
	int (*ack)(void *opaque);
};

struct ioapic_ops {
	void (*set)(void *opaque, unsigned pin, bool level); /* pin 0..23 */
	void (*eoi)(void *opaque, uint8_t vector);           /* broadcast of a local APIC */
};

struct irqs *irqs_create(void);                /* NULL: no memory */
struct irqs *irqs_destroy(struct irqs *irqs);  /* NULL is fine; returns NULL */
/* No member of ops is NULL; ops outlive irqs. What a missing chip would get is dropped. */
void irqs_attach_sink(struct irqs *irqs, const struct irq_sink *sink, void *opaque);
void irqs_attach_pic(struct irqs *irqs, const struct pic_ops *ops, void *opaque);
void irqs_attach_ioapic(struct irqs *irqs, const struct ioapic_ops *ops, void *opaque);

/* For devices. A line >= 24 is ignored. Any thread. */
void irq_set(struct irqs *irqs, unsigned line, bool level);
/* The same for a line that several devices share: it is up while any of them pulls. *pulled is this
 * device's part, false at first. */
void irq_pull(struct irqs *irqs, unsigned line, bool *pulled, bool level);
/* For PCI INTx, which reaches the two chips under different numbers: one of them alone. */
void irq_set_pic(struct irqs *irqs, unsigned input, bool level);
void irq_set_ioapic(struct irqs *irqs, unsigned pin, bool level);
/* For devices and the IOAPIC: sends a message-signalled interrupt. -EINVAL: not an MSI address
 * (a guest may well program one: drop it). Any thread. */
int irq_msi(struct irqs *irqs, uint64_t address, uint32_t data);

/* For the PIC: its INTR output changed. Called with the PIC's lock held. */
void irq_intr(struct irqs *irqs, bool level);
/* For the IOAPIC: what pin sends now (address and data as the MSI that it would send; data bit 15
 * set for level). Needed by KVM to report EOIs. */
void irq_route(struct irqs *irqs, unsigned pin, uint64_t address, uint32_t data, bool enabled);

/* For the vCPU threads. */
int irq_ack(struct irqs *irqs); /* vector, or -ENOENT */
void irq_eoi(struct irqs *irqs, uint8_t vector);

#endif
