/* SPDX-License-Identifier: Apache-2.0 */
/* Every chip of the PC on one machine: port and memory accesses, lines, time, in any order. */
#include <config.h>

#include <stdlib.h>

#include "common/checked.h"
#include "devices/chips.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "tests/device/rig.h"
#include "tests/fuzz/input.h"

#define STEPS_MAX 2000

static const struct {
	uint16_t base, size;
} ports[] = {
	{ PC_PORT_PIC1, 2 }, { PC_PORT_PIC2, 2 }, { PC_PORT_ELCR, 2 }, { PC_PORT_PIT, 4 },
	{ PC_PORT_NMI_SC, 1 }, { PC_PORT_KBD, 1 }, { PC_PORT_KBD_CMD, 1 }, { PC_PORT_RTC, 2 },
	{ PC_PORT_A, 1 }, { PC_PORT_COM1, 8 }, { PC_PORT_PM, PC_PM_SIZE },
	{ PC_PORT_DEBUG_EXIT, 4 }, { PC_PORT_PCI, 8 }, { PC_PORT_TEST_LATCH, 8 },
	{ PC_PORT_TEST_LINES, 24 },
};

static void make(struct rig *rig, struct device **ret_pm)
{
	struct mc146818_config rtc = { .unix_seconds = 1700000000, .low_ram = RIG_MEMORY };
	struct uart16550_config uart = { .fd = -1 };

	rig_open(rig);
	rig_add(rig, &i8259_class, NULL);
	rig_add(rig, &ioapic_class, NULL);
	rig_add(rig, &i8254_class, NULL);
	rig_add(rig, &mc146818_class, &rtc);
	rig_add(rig, &i8042_class, NULL);
	*ret_pm = rig_add(rig, &acpi_pm_class, NULL);
	rig_add(rig, &uart16550_class, &uart);
	rig_add(rig, &debug_exit_class, NULL);
	rig_add(rig, &test_device_class, NULL);
}

static uint16_t any_port(struct input *in)
{
	unsigned i = pick(in, ARRAY_SIZE(ports));

	if (rarely(in))
		return input16(in);
	return (uint16_t)(ports[i].base + pick(in, ports[i].size));
}

static unsigned any_size(struct input *in)
{
	return rarely(in) ? 1u << pick(in, 3) : 1;
}

static uint64_t any_ioapic(struct input *in)
{
	static const uint16_t registers[] = { 0, 0x10, 0x40 };

	return PC_IOAPIC + (rarely(in) ? input16(in) & 0xfffu : registers[pick(in, 3)]);
}

static void step(struct rig *rig, struct device *pm, struct input *in)
{
	int vector;

	switch (pick(in, 10)) {
	case 0:
	case 1:
	case 2:
		rig_out(rig, any_port(in), any_size(in), input8(in) | (uint32_t)input8(in) << 8);
		break;
	case 3:
	case 4:
		(void)rig_in(rig, any_port(in), any_size(in));
		break;
	case 5:
		rig_write(rig, any_ioapic(in), 4, input32(in));
		break;
	case 6:
		(void)rig_read(rig, any_ioapic(in), 4);
		irq_eoi(rig->machine->irqs, input8(in));
		break;
	case 7:
		rig_irq(rig, pick(in, 32), input8(in) & 1u);
		break;
	case 8:
		rig_advance(rig, (uint64_t)input16(in) << (rarely(in) ? 24 : 8));
		break;
	default:
		vector = rig_ack(rig);
		if (vector > 255)
			abort();
		if (rarely(in))
			acpi_pm_power_button(pm);
		if (rarely(in))
			machine_reset_devices(rig->machine);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct device *pm;
	struct rig rig;
	unsigned i;

	make(&rig, &pm);
	for (i = 0; i < STEPS_MAX && in.left; i++)
		step(&rig, pm, &in);
	rig_turn(&rig);
	rig_close(&rig);
	return 0;
}
