/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All chips at once, hammered by several threads as by several processors, with the event thread
 * running, devices paused and reset in between. Nothing to compare: it ends, and a thread sanitizer
 * has nothing to say.
 */
#include <config.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/loop.h"
#include "machine/pc.h"
#include "machine/timer.h"

#define RUN_NS (NSEC_PER_SEC / 2)
#define PROCESSORS 3
#define ROUNDS 3

struct hammer {
	struct machine *machine;
	atomic_bool stop;
	atomic_uint accesses;
	int console;
};

static void *processor(void *opaque)
{
	static const uint16_t ports[] = {
		0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x40, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71,
		0x3f8, 0x3f9, 0x3fa, 0x3fc, 0x3fd, 0x3fe, 0x600, 0x602, 0x604, 0x608, 0xcf8, 0xcfc,
	};
	struct hammer *h = opaque;
	uint32_t x = (uint32_t)(uintptr_t)&x;

	while (!h->stop) {
		uint64_t value;

		x = x * 1664525u + 1013904223u;
		switch (x >> 29) {
		case 0: case 1: case 2:
			bus_write(h->machine->ports, ports[(x >> 8) % ARRAY_SIZE(ports)], 1,
				  x >> 16 & 0xff);
			break;
		case 3: case 4:
			bus_read(h->machine->ports, ports[(x >> 8) % ARRAY_SIZE(ports)], 1, &value);
			break;
		case 5:
			bus_write(h->machine->mmio, PC_IOAPIC + (x >> 8 & 0x10), 4,
				  x >> 12 & 0xffff);
			irq_eoi(h->machine->irqs, (uint8_t)(x >> 4));
			break;
		case 6:
			(void)irq_ack(h->machine->irqs);
			break;
		default:
			irq_set(h->machine->irqs, x >> 8 & 31u, x >> 16 & 1u);
			break;
		}
		h->accesses++;
	}
	return NULL;
}

static void *terminal(void *opaque)
{
	struct hammer *h = opaque;
	char buf[4096];

	while (!h->stop) {
		if (read(h->console, buf, sizeof(buf)) < 0)
			usleep(100);
		(void)!write(h->console, "type\n", 5);
	}
	return NULL;
}

static void make_chips(struct machine *m, int fd)
{
	struct mc146818_config rtc = { .unix_seconds = 1700000000 };
	struct uart16550_config uart = { .fd = fd };

	static const struct device_class *const plain[] = {
		&i8259_class, &ioapic_class, &i8254_class, &i8042_class, &acpi_pm_class,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(plain); i++)
		if (device_create(m, plain[i], NULL, NULL))
			exit(99);
	if (device_create(m, &mc146818_class, &rtc, NULL) ||
	    device_create(m, &uart16550_class, &uart, NULL))
		exit(99);
}

static void round_of(struct hammer *h)
{
	pthread_t cpu[PROCESSORS], tty;
	unsigned i;

	h->stop = false;
	for (i = 0; i < PROCESSORS; i++)
		pthread_create(&cpu[i], NULL, processor, h);
	pthread_create(&tty, NULL, terminal, h);
	usleep(RUN_NS / 1000);
	h->stop = true;
	for (i = 0; i < PROCESSORS; i++)
		pthread_join(cpu[i], NULL);
	pthread_join(tty, NULL);
}

int main(void)
{
	struct machine_options options = { .memory_bytes = 1u << 20 };
	struct hammer h = { .stop = false };
	int fds[2], i;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) ||
	    machine_create(&options, &h.machine))
		return 99;
	h.console = fds[0];
	make_chips(h.machine, fds[1]);
	if (loop_start(h.machine->loop, NULL))
		return 99;
	for (i = 0; i < ROUNDS; i++) {
		round_of(&h);
		loop_hold(h.machine->loop, true);
		timers_suspend(h.machine->timers, true);
		machine_pause_devices(h.machine);
		if (i == 1)
			machine_reset_devices(h.machine);
		machine_resume_devices(h.machine);
		timers_suspend(h.machine->timers, false);
		loop_hold(h.machine->loop, false);
	}
	loop_stop(h.machine->loop);
	machine_destroy(h.machine);
	close(fds[0]);
	printf("%u accesses\n%d passed, 0 failed, 0 skipped\n", h.accesses, ROUNDS);
	return h.accesses > 1000 ? 0 : 1;
}
