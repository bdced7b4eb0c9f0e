/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8259.c - the two interrupt controllers of a PC (Intel 8259A, master and slave) and their
 * edge/level control registers (ELCR).
 *
 * An edge, once seen, stays requested until it is acknowledged or the chip is initialised again: a
 * short pulse on an emulated wire is never lost to a vCPU that happened not to run. Not there: the
 * MCS-80 vectors (no PC uses them; ICW4 bit 0 is taken as set) and buffered mode (wiring only).
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"

#define PIC_CASCADE 2u /* the master's input that the slave's INT drives */
#define PIC_NONE (-1)

enum pic_init { PIC_READY = 0, PIC_WANT_ICW2, PIC_WANT_ICW3, PIC_WANT_ICW4 };

enum { /* OCW2, bits 7..5 */
	OCW2_AEOI_ROTATE_CLEAR = 0,
	OCW2_EOI = 1,
	OCW2_NOP = 2,
	OCW2_EOI_SPECIFIC = 3,
	OCW2_AEOI_ROTATE_SET = 4,
	OCW2_EOI_ROTATE = 5,
	OCW2_SET_PRIORITY = 6,
	OCW2_EOI_SPECIFIC_ROTATE = 7,
};

struct pic {
	uint8_t lines;  /* levels of the eight inputs */
	uint8_t irr, isr, imr;
	uint8_t elcr, elcr_mask; /* 1: level triggered; which bits can be */
	uint8_t cascade;         /* the master's input that follows the slave, level triggered */
	uint8_t base;   /* vector of input 0 */
	uint8_t lowest; /* input of lowest priority; the next one has the highest */
	uint8_t icw3;
	enum pic_init init;
	bool single, want_icw4;
	bool auto_eoi, auto_rotate;
	bool special_mask, special_nested;
	bool poll, read_isr;
};

/* --- one chip ------------------------------------------------------------------------------- */

static uint8_t pic_level_inputs(const struct pic *p)
{
	return p->elcr | p->cascade;
}

static void pic_set_line(struct pic *p, unsigned input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);
	bool was = p->lines & bit;

	p->lines = (uint8_t)(level ? p->lines | bit : p->lines & ~bit);
	if (pic_level_inputs(p) & bit)
		p->irr = (uint8_t)(level ? p->irr | bit : p->irr & ~bit);
	else if (level && !was)
		p->irr |= bit;
}

/* The request that would be acknowledged now, or PIC_NONE. */
static int pic_pending(const struct pic *p)
{
	uint8_t requests = (uint8_t)(p->irr & ~p->imr);
	uint8_t blocking = p->isr;
	unsigned i;

	if (p->init != PIC_READY || !requests)
		return PIC_NONE;
	if (p->special_mask)
		blocking &= (uint8_t)~p->imr;
	if (p->special_nested)
		blocking &= (uint8_t)~p->cascade;
	for (i = 1; i <= 8; i++) {
		unsigned input = (p->lowest + i) & 7u;

		if (blocking & 1u << input)
			return PIC_NONE;
		if (requests & 1u << input)
			return (int)input;
	}
	return PIC_NONE;
}

static void pic_acknowledge(struct pic *p, unsigned input)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (!(pic_level_inputs(p) & bit))
		p->irr &= (uint8_t)~bit;
	if (!p->auto_eoi)
		p->isr |= bit;
	else if (p->auto_rotate)
		p->lowest = (uint8_t)input;
}

/* Non-specific EOI ends what is in service with the highest priority. */
static int pic_in_service(const struct pic *p)
{
	uint8_t isr = p->isr;
	unsigned i;

	if (p->special_mask)
		isr &= (uint8_t)~p->imr;
	for (i = 1; i <= 8; i++)
		if (isr & 1u << ((p->lowest + i) & 7u))
			return (int)((p->lowest + i) & 7u);
	return PIC_NONE;
}

static void pic_icw1(struct pic *p, uint8_t value)
{
	p->init = PIC_WANT_ICW2;
	p->single = value & 2u;
	p->want_icw4 = value & 1u;
	p->imr = p->isr = 0;
	p->irr = p->lines & pic_level_inputs(p); /* edges seen so far are forgotten */
	p->lowest = 7;
	p->special_mask = p->read_isr = p->poll = false;
	p->auto_eoi = p->auto_rotate = p->special_nested = false;
}

static void pic_ocw2(struct pic *p, uint8_t value)
{
	unsigned command = value >> 5;
	int input = value & 7;

	switch (command) {
	case OCW2_AEOI_ROTATE_CLEAR:
	case OCW2_AEOI_ROTATE_SET:
		p->auto_rotate = command == OCW2_AEOI_ROTATE_SET;
		break;
	case OCW2_SET_PRIORITY:
		p->lowest = (uint8_t)input;
		break;
	case OCW2_EOI:
	case OCW2_EOI_ROTATE:
		input = pic_in_service(p);
		if (input == PIC_NONE)
			break;
		p->isr &= (uint8_t)~(1u << input);
		if (command == OCW2_EOI_ROTATE)
			p->lowest = (uint8_t)input;
		break;
	case OCW2_EOI_SPECIFIC:
	case OCW2_EOI_SPECIFIC_ROTATE:
		p->isr &= (uint8_t)~(1u << input);
		if (command == OCW2_EOI_SPECIFIC_ROTATE)
			p->lowest = (uint8_t)input;
		break;
	default:
		break;
	}
}

static void pic_ocw3(struct pic *p, uint8_t value)
{
	if (value & 4u)
		p->poll = true;
	else if (value & 2u)
		p->read_isr = value & 1u;
	if (value & 0x40u)
		p->special_mask = value & 0x20u;
}

static void pic_write_command(struct pic *p, uint8_t value)
{
	if (value & 0x10u)
		pic_icw1(p, value);
	else if (value & 8u)
		pic_ocw3(p, value);
	else
		pic_ocw2(p, value);
}

static void pic_write_data(struct pic *p, uint8_t value)
{
	switch (p->init) {
	case PIC_READY:
		p->imr = value;
		return;
	case PIC_WANT_ICW2:
		p->base = value & 0xf8u;
		p->init = !p->single ? PIC_WANT_ICW3 : p->want_icw4 ? PIC_WANT_ICW4 : PIC_READY;
		return;
	case PIC_WANT_ICW3:
		p->icw3 = value; /* the cascade is wired at input 2, whatever is written */
		p->init = p->want_icw4 ? PIC_WANT_ICW4 : PIC_READY;
		return;
	case PIC_WANT_ICW4:
		p->special_nested = value & 0x10u;
		p->auto_eoi = value & 2u;
		p->init = PIC_READY;
		return;
	}
}

/* A read in poll mode is an acknowledge cycle that tells the input, not the vector. */
static uint8_t pic_poll(struct pic *p)
{
	int input = pic_pending(p);

	p->poll = false;
	if (input == PIC_NONE)
		return 0;
	pic_acknowledge(p, (unsigned)input);
	return (uint8_t)(0x80 | input);
}

static uint8_t pic_read(struct pic *p, bool data)
{
	if (p->poll)
		return pic_poll(p);
	if (data)
		return p->imr;
	return p->read_isr ? p->isr : p->irr;
}

static void pic_write_elcr(struct pic *p, uint8_t value)
{
	uint8_t changed = (uint8_t)((p->elcr ^ value) & p->elcr_mask);

	p->elcr = value & p->elcr_mask;
	/* an input that becomes level triggered requests what its line says */
	p->irr = (uint8_t)((p->irr & ~(changed & p->elcr)) | (p->lines & changed & p->elcr));
}

/* --- the device: a master, a slave, the wire between them ------------------------------------ */

struct pics {
	struct device dev;
	pthread_mutex_t lock;
	struct pic chip[2];
	bool intr;
};

/* Carries the slave's INT to the master and the master's to the processor. Lock held: that keeps
 * the order of INTR's edges; the processor's side never calls back. */
static void pics_update(struct pics *s)
{
	bool intr;

	pic_set_line(&s->chip[0], PIC_CASCADE, pic_pending(&s->chip[1]) != PIC_NONE);
	intr = pic_pending(&s->chip[0]) != PIC_NONE;
	if (intr != s->intr) {
		s->intr = intr;
		irq_intr(s->dev.machine->irqs, intr);
	}
}

static void pics_set(void *opaque, unsigned input, bool level)
{
	struct pics *s = opaque;

	if (input >= 16 || input == PIC_CASCADE)
		return;
	pthread_mutex_lock(&s->lock);
	pic_set_line(&s->chip[input >> 3], input & 7u, level);
	pics_update(s);
	pthread_mutex_unlock(&s->lock);
}

static int pics_ack(void *opaque)
{
	struct pics *s = opaque;
	struct pic *master = &s->chip[0], *slave = &s->chip[1];
	int input, vector;

	pthread_mutex_lock(&s->lock);
	input = pic_pending(master);
	if (input == PIC_NONE) {
		vector = -ENOENT;
	} else {
		vector = master->base + input;
		pic_acknowledge(master, (unsigned)input);
	}
	if (input == PIC_CASCADE) {
		input = pic_pending(slave);
		/* input 7 stands for a request that went away meanwhile, with nothing in service */
		vector = slave->base + (input == PIC_NONE ? 7 : input);
		if (input != PIC_NONE)
			pic_acknowledge(slave, (unsigned)input);
	}
	pics_update(s);
	pthread_mutex_unlock(&s->lock);
	return vector;
}

static void pics_read(struct pics *s, unsigned chip, uint64_t offset, uint64_t *val)
{
	pthread_mutex_lock(&s->lock);
	*val = pic_read(&s->chip[chip], offset & 1u);
	pics_update(s);
	pthread_mutex_unlock(&s->lock);
}

static void pics_write(struct pics *s, unsigned chip, uint64_t offset, uint64_t val)
{
	pthread_mutex_lock(&s->lock);
	if (offset & 1u)
		pic_write_data(&s->chip[chip], (uint8_t)val);
	else
		pic_write_command(&s->chip[chip], (uint8_t)val);
	pics_update(s);
	pthread_mutex_unlock(&s->lock);
}

static void master_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)size;
	pics_read(opaque, 0, offset, val);
}

static void master_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)size;
	pics_write(opaque, 0, offset, val);
}

static void slave_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)size;
	pics_read(opaque, 1, offset, val);
}

static void slave_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)size;
	pics_write(opaque, 1, offset, val);
}

static void elcr_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct pics *s = opaque;

	(void)size;
	pthread_mutex_lock(&s->lock);
	*val = s->chip[offset].elcr;
	pthread_mutex_unlock(&s->lock);
}

static void elcr_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct pics *s = opaque;

	(void)size;
	pthread_mutex_lock(&s->lock);
	pic_write_elcr(&s->chip[offset], (uint8_t)val);
	pics_update(s);
	pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops master_ops = { master_read, master_write, 1 };
static const struct bus_ops slave_ops = { slave_read, slave_write, 1 };
static const struct bus_ops elcr_ops = { elcr_read, elcr_write, 1 };
static const struct pic_ops pics_wire_ops = { pics_set, pics_ack };

/* Not initialised by ICWs, a chip requests nothing: the lines that stay high are kept. */
static void pics_reset(struct device *dev)
{
	struct pics *s = (struct pics *)dev;
	unsigned i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < 2; i++)
		s->chip[i] = (struct pic){ .lines = s->chip[i].lines, .lowest = 7, .imr = 0xff,
					   .elcr_mask = i ? 0xde : 0xf8,
					   .cascade = i ? 0 : 1u << PIC_CASCADE };
	pics_update(s);
	pthread_mutex_unlock(&s->lock);
}

static void pics_destroy(struct device *dev)
{
	struct pics *s = (struct pics *)dev;

	if (!s)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_PIC1, s);
	(void)bus_remove(dev->machine->ports, PC_PORT_PIC2, s);
	(void)bus_remove(dev->machine->ports, PC_PORT_ELCR, s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int pics_create(struct machine *machine, const void *config, struct device **ret_device)
{
	struct pics *s = calloc(1, sizeof(*s));
	int ret;

	(void)config;
	if (!s)
		return -ENOMEM;
	s->dev.class = &i8259_class;
	s->dev.machine = machine;
	pthread_mutex_init(&s->lock, NULL);
	pics_reset(&s->dev);
	ret = bus_add(machine->ports, PC_PORT_PIC1, 2, &master_ops, s, "i8259-master");
	if (!ret)
		ret = bus_add(machine->ports, PC_PORT_PIC2, 2, &slave_ops, s, "i8259-slave");
	if (!ret)
		ret = bus_add(machine->ports, PC_PORT_ELCR, 2, &elcr_ops, s, "elcr");
	if (ret) {
		pics_destroy(&s->dev);
		return ret;
	}
	irqs_attach_pic(machine->irqs, &pics_wire_ops, s);
	*ret_device = &s->dev;
	return 0;
}

const struct device_class i8259_class = {
	.name = "i8259",
	.create = pics_create,
	.destroy = pics_destroy,
	.reset = pics_reset,
};
