/* SPDX-License-Identifier: Apache-2.0 */
/* PIC and IOAPIC, seen from the ports, the lines and the processors' end. */
#include <config.h>

#include <errno.h>

#include "common/checked.h"
#include "devices/chips.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "tests/device/rig.h"

/* As Linux does it: vectors 0x30 and 0x38, all but the cascade masked. */
static void pic_start(struct rig *r, uint8_t icw4)
{
	rig_add(r, &i8259_class, NULL);
	rig_out8(r, 0x20, 0x11);
	rig_out8(r, 0x21, 0x30);
	rig_out8(r, 0x21, 0x04);
	rig_out8(r, 0x21, icw4);
	rig_out8(r, 0xa0, 0x11);
	rig_out8(r, 0xa1, 0x38);
	rig_out8(r, 0xa1, 0x02);
	rig_out8(r, 0xa1, 0x01);
	rig_out8(r, 0x21, 0x00);
	rig_out8(r, 0xa1, 0x00);
}

static void pulse(struct rig *r, unsigned line)
{
	rig_irq(r, line, true);
	rig_irq(r, line, false);
}

static void pic_edge(struct rig *r)
{
	pic_start(r, 1);
	CHECK(!r->intr);
	CHECK_EQ(rig_ack(r), (uint64_t)-ENOENT);
	pulse(r, 4);
	CHECK(r->intr);
	CHECK_EQ(rig_ack(r), 0x34);
	CHECK(!r->intr);
	pulse(r, 4); /* again while in service: waits for the EOI */
	CHECK(!r->intr);
	rig_out8(r, 0x20, 0x20);
	CHECK(r->intr);
	CHECK_EQ(rig_ack(r), 0x34);
	rig_out8(r, 0x20, 0x64); /* specific EOI */
	CHECK(!r->intr);
	rig_irq(r, 4, true);
	CHECK_EQ(rig_ack(r), 0x34);
	rig_out8(r, 0x20, 0x20);
	CHECK(!r->intr); /* still high: no new edge */
}

static void pic_priority(struct rig *r)
{
	pic_start(r, 1);
	pulse(r, 5);
	pulse(r, 1);
	CHECK_EQ(rig_ack(r), 0x31);
	CHECK(!r->intr); /* 5 is lower than 1 */
	pulse(r, 0);
	CHECK_EQ(rig_ack(r), 0x30); /* nests */
	rig_out8(r, 0x20, 0x20);
	rig_out8(r, 0x20, 0x0b);
	CHECK_EQ(rig_in8(r, 0x20), 0x02); /* ISR: 1 is left */
	rig_out8(r, 0x20, 0x0a);
	CHECK_EQ(rig_in8(r, 0x20), 0x20); /* IRR: 5 */
	rig_out8(r, 0x20, 0x20);
	CHECK_EQ(rig_ack(r), 0x35);
	rig_out8(r, 0x20, 0xa0); /* rotate: 5 becomes the lowest */
	pulse(r, 5);
	pulse(r, 6);
	CHECK_EQ(rig_ack(r), 0x36);
	rig_out8(r, 0x20, 0x20);
	rig_out8(r, 0x20, 0xc7); /* set priority: as after reset */
	CHECK_EQ(rig_ack(r), 0x35);
}

static void pic_slave(struct rig *r)
{
	pic_start(r, 1);
	pulse(r, 12);
	CHECK_EQ(rig_ack(r), 0x3c);
	pulse(r, 14);
	CHECK(!r->intr);
	pulse(r, 8); /* higher on the slave, but the master has 2 in service */
	CHECK(!r->intr);
	rig_out8(r, 0xa0, 0x20);
	rig_out8(r, 0x20, 0x20);
	CHECK_EQ(rig_ack(r), 0x38);
	rig_out8(r, 0xa0, 0x60);
	rig_out8(r, 0x20, 0x62);
	CHECK_EQ(rig_ack(r), 0x3e);
	rig_out8(r, 0xa0, 0x20);
	rig_out8(r, 0x20, 0x20);
	CHECK(!r->intr);
	rig_irq(r, 2, true); /* the cascade is no input */
	CHECK(!r->intr);
}

static void pic_special_nested(struct rig *r)
{
	pic_start(r, 0x11);
	pulse(r, 12);
	CHECK_EQ(rig_ack(r), 0x3c);
	pulse(r, 8);
	CHECK_EQ(rig_ack(r), 0x38); /* a higher one of the same slave nests */
}

static void pic_level(struct rig *r)
{
	pic_start(r, 1);
	rig_out8(r, 0x4d0, 0xff);
	CHECK_EQ(rig_in8(r, 0x4d0), 0xf8); /* 0, 1, 2 are always edges */
	rig_out8(r, 0x4d1, 0xff);
	CHECK_EQ(rig_in8(r, 0x4d1), 0xde);
	rig_irq(r, 10, true);
	CHECK_EQ(rig_ack(r), 0x3a);
	rig_out8(r, 0xa0, 0x20);
	rig_out8(r, 0x20, 0x20);
	CHECK(r->intr); /* still asked for */
	CHECK_EQ(rig_ack(r), 0x3a);
	rig_irq(r, 10, false);
	rig_out8(r, 0xa0, 0x20);
	rig_out8(r, 0x20, 0x20);
	CHECK(!r->intr);
	rig_irq(r, 11, true);
	CHECK(r->intr);
	rig_irq(r, 11, false); /* gone before anybody looked */
	CHECK(!r->intr);
	CHECK_EQ(rig_ack(r), (uint64_t)-ENOENT);
}

static void pic_mask(struct rig *r)
{
	pic_start(r, 1);
	rig_out8(r, 0x21, 0x10);
	CHECK_EQ(rig_in8(r, 0x21), 0x10);
	pulse(r, 4);
	CHECK(!r->intr);
	rig_out8(r, 0x21, 0);
	CHECK_EQ(rig_ack(r), 0x34);
	/* special mask: a masked one in service blocks nobody */
	rig_out8(r, 0x21, 0x10);
	rig_out8(r, 0x20, 0x68);
	pulse(r, 7);
	CHECK_EQ(rig_ack(r), 0x37);
	rig_out8(r, 0x20, 0x48);
	rig_out8(r, 0x20, 0x0b);
	CHECK_EQ(rig_in8(r, 0x20), 0x90);
}

static void pic_auto_eoi(struct rig *r)
{
	pic_start(r, 3);
	pulse(r, 4);
	CHECK_EQ(rig_ack(r), 0x34);
	pulse(r, 4);
	CHECK_EQ(rig_ack(r), 0x34); /* nothing stays in service */
	rig_out8(r, 0x20, 0x80); /* and rotates */
	pulse(r, 3);
	pulse(r, 4);
	CHECK_EQ(rig_ack(r), 0x33);
	pulse(r, 3);
	CHECK_EQ(rig_ack(r), 0x34);
}

static void pic_poll(struct rig *r)
{
	pic_start(r, 1);
	rig_out8(r, 0x20, 0x0c);
	CHECK_EQ(rig_in8(r, 0x20), 0x00);
	pulse(r, 6);
	rig_out8(r, 0x20, 0x0c);
	CHECK_EQ(rig_in8(r, 0x20), 0x86);
	CHECK(!r->intr);
	rig_out8(r, 0x20, 0x0b);
	CHECK_EQ(rig_in8(r, 0x20), 0x40);
}

static void pic_init_half(struct rig *r)
{
	pic_start(r, 1);
	rig_out8(r, 0x20, 0x11); /* begun, not ended: requests nothing */
	pulse(r, 1);
	CHECK(!r->intr);
	CHECK_EQ(rig_ack(r), (uint64_t)-ENOENT);
	rig_out8(r, 0x21, 0x40);
	rig_out8(r, 0x21, 0x04);
	rig_out8(r, 0x21, 0x01);
	CHECK_EQ(rig_ack(r), 0x41);
	rig_out8(r, 0x20, 0x13); /* single: no ICW3 */
	rig_out8(r, 0x21, 0x50);
	rig_out8(r, 0x21, 0x01);
	pulse(r, 3);
	CHECK_EQ(rig_ack(r), 0x53);
}

/* Every command byte in every state, with requests all the time: no state is out of range. */
static void pic_any_bytes(struct rig *r)
{
	uint32_t x = 1;
	unsigned i;

	pic_start(r, 1);
	for (i = 0; i < 200000; i++) {
		static const uint16_t ports[] = { 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1 };
		int vector;

		x = x * 1664525u + 1013904223u;
		switch (x >> 29) {
		case 0: case 1: case 2:
			rig_out8(r, ports[(x >> 8) % 6], (uint8_t)(x >> 16));
			break;
		case 3:
			(void)rig_in8(r, ports[(x >> 8) % 6]);
			break;
		case 4:
			vector = rig_ack(r);
			CHECK(vector == -ENOENT || (vector >= 0 && vector < 256));
			break;
		default:
			rig_irq(r, x >> 8 & 31u, x >> 16 & 1u);
			break;
		}
	}
}

static void rte(struct rig *r, unsigned pin, uint64_t value)
{
	rig_write(r, PC_IOAPIC, 4, 0x10 + 2 * pin + 1);
	rig_write(r, PC_IOAPIC + 0x10, 4, value >> 32);
	rig_write(r, PC_IOAPIC, 4, 0x10 + 2 * pin);
	rig_write(r, PC_IOAPIC + 0x10, 4, (uint32_t)value);
}

static uint64_t rte_low(struct rig *r, unsigned pin)
{
	rig_write(r, PC_IOAPIC, 4, 0x10 + 2 * pin);
	return rig_read(r, PC_IOAPIC + 0x10, 4);
}

static void ioapic_registers(struct rig *r)
{
	rig_add(r, &ioapic_class, NULL);
	rig_write(r, PC_IOAPIC, 4, 1);
	CHECK_EQ(rig_read(r, PC_IOAPIC + 0x10, 4), 0x170020);
	CHECK_EQ(rig_read(r, PC_IOAPIC, 4), 1);
	rig_write(r, PC_IOAPIC, 4, 0);
	rig_write(r, PC_IOAPIC + 0x10, 4, 0xffffffff);
	CHECK_EQ(rig_read(r, PC_IOAPIC + 0x10, 4), 0x0f000000);
	CHECK_EQ(rte_low(r, 5), 0x10000);
	rte(r, 5, ~0ull);
	CHECK_EQ(rte_low(r, 5), 0x1afff); /* no delivery status, no remote IRR */
	rig_write(r, PC_IOAPIC, 4, 0x40); /* behind the table */
	rig_write(r, PC_IOAPIC + 0x10, 4, 0);
	CHECK_EQ(rig_read(r, PC_IOAPIC + 0x10, 4), 0);
	rig_write(r, PC_IOAPIC, 4, 0xff);
	CHECK_EQ(rig_read(r, PC_IOAPIC + 0x10, 4), 0);
}

static void ioapic_edge(struct rig *r)
{
	rig_add(r, &ioapic_class, NULL);
	rig_irq(r, 4, true); /* masked: lost */
	rte(r, 4, 0x0100000000000034ull);
	CHECK_EQ(r->msis, 0);
	CHECK_EQ(r->routed, 1u << 4);
	rig_irq(r, 4, false);
	rig_irq(r, 4, true);
	CHECK_EQ(r->msis, 1);
	CHECK_EQ(r->msi[0].address, 0xfee01000);
	CHECK_EQ(r->msi[0].data, 0x34);
	rig_irq(r, 4, true);
	CHECK_EQ(r->msis, 1);
	pulse(r, 4);
	rig_irq(r, 4, false);
	rig_irq(r, 4, true);
	CHECK_EQ(r->msis, 2);
	rte(r, 2, 0x0300000000000930ull); /* lowest priority, logical */
	rig_irq(r, 0, true); /* line 0 is pin 2 */
	CHECK_EQ(r->msis, 3);
	CHECK_EQ(r->msi[2].address, 0xfee0300c);
	CHECK_EQ(r->msi[2].data, 0x130);
}

static void ioapic_level(struct rig *r)
{
	rig_add(r, &ioapic_class, NULL);
	rig_irq(r, 9, true);
	rte(r, 9, 0x8039); /* unmasked while high */
	CHECK_EQ(r->msis, 1);
	CHECK_EQ(r->msi[0].data, 0xc039);
	CHECK_EQ(rte_low(r, 9), 0xc039); /* remote IRR */
	rig_irq(r, 9, false);
	rig_irq(r, 9, true);
	CHECK_EQ(r->msis, 1); /* waits for the EOI */
	irq_eoi(r->machine->irqs, 0x38);
	CHECK_EQ(r->msis, 1);
	irq_eoi(r->machine->irqs, 0x39);
	CHECK_EQ(r->msis, 2);
	rig_irq(r, 9, false);
	rig_write(r, PC_IOAPIC + 0x40, 4, 0x39); /* by the EOI register */
	CHECK_EQ(r->msis, 2);
	CHECK_EQ(rte_low(r, 9), 0x8039);
	/* switching to edge and back clears remote IRR: Linux, without an EOI register */
	rig_irq(r, 9, true);
	CHECK_EQ(rte_low(r, 9), 0xc039);
	rte(r, 9, 0x10039);
	CHECK_EQ(rte_low(r, 9), 0x10039);
	rte(r, 9, 0x8039);
	CHECK_EQ(r->msis, 4);
}

static void ioapic_bad_entries(struct rig *r)
{
	unsigned mode;

	rig_add(r, &ioapic_class, NULL);
	rte(r, 5, 0x0f); /* vector too small */
	rig_irq(r, 5, true);
	CHECK_EQ(r->msis, 0);
	for (mode = 0; mode < 8; mode++) {
		rte(r, 6, 0x10000);
		rte(r, 6, mode << 8 | 0x40);
		r->msis = 0;
		rig_irq(r, 6, true);
		rig_irq(r, 6, false);
		CHECK_EQ(r->msis, mode == 0 || mode == 1 || mode == 4 || mode == 5);
	}
	rig_write(r, PC_IOAPIC + 0xffc, 4, 1);
	CHECK_EQ(rig_read(r, PC_IOAPIC + 0x20, 4), 0);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "pic edge", pic_edge },
		{ "pic priority and rotation", pic_priority },
		{ "pic slave", pic_slave },
		{ "pic special fully nested", pic_special_nested },
		{ "pic level", pic_level },
		{ "pic masks", pic_mask },
		{ "pic automatic EOI", pic_auto_eoi },
		{ "pic poll", pic_poll },
		{ "pic half initialised", pic_init_half },
		{ "pic any bytes", pic_any_bytes },
		{ "ioapic registers", ioapic_registers },
		{ "ioapic edge", ioapic_edge },
		{ "ioapic level", ioapic_level },
		{ "ioapic bad entries", ioapic_bad_entries },
	};

	return rig_main("irq", cases, ARRAY_SIZE(cases), argc, argv);
}
