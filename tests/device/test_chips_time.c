/* SPDX-License-Identifier: Apache-2.0 */
/* PIT, RTC and ACPI PM on a clock that the test moves. */
#include <config.h>

#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/chips.h"
#include "machine/pc.h"
#include "tests/device/rig.h"

#define PIT_HZ 1193182ull
#define MS 1000000ull

/* A PIC whose INTR counts: IRQ 0 and 8..15 open, automatic EOI, acknowledged by the test. */
static void pic_open(struct rig *r)
{
	static const uint8_t script[][2] = {
		{ 0x20, 0x11 }, { 0x21, 0x30 }, { 0x21, 4 }, { 0x21, 3 },
		{ 0xa0, 0x11 }, { 0xa1, 0x38 }, { 0xa1, 2 }, { 0xa1, 3 },
		{ 0x21, 0 }, { 0xa1, 0 },
	};
	size_t i;

	rig_add(r, &i8259_class, NULL);
	for (i = 0; i < ARRAY_SIZE(script); i++)
		rig_out8(r, script[i][0], script[i][1]);
}

/* Advances in steps and acknowledges what comes; how often `vector` came. */
static unsigned count_irqs(struct rig *r, uint64_t ns, uint64_t step, int vector)
{
	unsigned n = 0;
	uint64_t done;
	int got;

	for (done = 0; done < ns; done += step) {
		rig_advance(r, step);
		while ((got = rig_ack(r)) >= 0)
			n += got == vector;
	}
	return n;
}

static uint16_t pit_count(struct rig *r, unsigned channel)
{
	uint16_t low;

	rig_out8(r, 0x43, (uint8_t)(channel << 6));
	low = rig_in8(r, (uint16_t)(0x40 + channel));
	return (uint16_t)(low | rig_in8(r, (uint16_t)(0x40 + channel)) << 8);
}

/* What Linux's quick TSC calibration and pit_hpet_ptimer_calibrate_cpu() do. */
static void pit_calibration(struct rig *r)
{
	rig_add(r, &i8254_class, NULL);
	rig_out8(r, 0x61, (rig_in8(r, 0x61) & ~2) | 1);
	rig_out8(r, 0x43, 0xb0);
	rig_out8(r, 0x42, 0xff);
	rig_out8(r, 0x42, 0xff);
	CHECK_EQ(rig_in8(r, 0x61) & 0x20, 0);
	CHECK_EQ(rig_in8(r, 0x42), 0xff); /* live, low byte first */
	CHECK_EQ(rig_in8(r, 0x42), 0xff);
	rig_advance(r, 256 * NSEC_PER_SEC / PIT_HZ + 1);
	(void)rig_in8(r, 0x42);
	CHECK_EQ(rig_in8(r, 0x42), 0xfe);
	rig_advance(r, 10 * MS);
	CHECK_EQ(pit_count(r, 2), (uint16_t)(0xffff - 256 - 11931));
	rig_advance(r, 44 * MS);
	CHECK_EQ(rig_in8(r, 0x61) & 0x20, 0);
	rig_advance(r, 1 * MS);
	CHECK_EQ(rig_in8(r, 0x61) & 0x20, 0x20);
	CHECK(pit_count(r, 2) > 0xfe00); /* goes on below zero */
}

static void pit_gate(struct rig *r)
{
	uint16_t held;

	rig_add(r, &i8254_class, NULL);
	rig_out8(r, 0x43, 0xb0);
	rig_out8(r, 0x42, 0x00);
	rig_out8(r, 0x42, 0x80);
	rig_advance(r, 5 * MS);
	CHECK_EQ(pit_count(r, 2), 0x8000); /* gate is low after reset */
	rig_out8(r, 0x61, 1);
	rig_advance(r, 5 * MS);
	held = pit_count(r, 2);
	CHECK(held == 0x8000 - 5965 || held == 0x8000 - 5966);
	rig_out8(r, 0x61, 0);
	rig_advance(r, 5 * MS);
	CHECK_EQ(pit_count(r, 2), held);
	rig_out8(r, 0x61, 1);
	rig_advance(r, 5 * MS);
	held -= pit_count(r, 2);
	CHECK(held == 5965 || held == 5966);
	/* mode 1: the gate triggers */
	rig_out8(r, 0x61, 0);
	rig_out8(r, 0x43, 0xb2);
	rig_out8(r, 0x42, 0xa9);
	rig_out8(r, 0x42, 0x04); /* 1193 ticks: 1 ms */
	rig_advance(r, 10 * MS);
	CHECK_EQ(rig_in8(r, 0x61) & 0x20, 0x20);
	rig_out8(r, 0x61, 1);
	CHECK_EQ(rig_in8(r, 0x61) & 0x20, 0);
	rig_advance(r, 1 * MS);
	CHECK_EQ(rig_in8(r, 0x61) & 0x20, 0x20);
}

static void pit_load0(struct rig *r, uint8_t control, uint16_t count)
{
	rig_out8(r, 0x43, control);
	rig_out8(r, 0x40, (uint8_t)count);
	rig_out8(r, 0x40, (uint8_t)(count >> 8));
}

static void pit_interrupts(struct rig *r)
{
	pic_open(r);
	rig_add(r, &i8254_class, NULL);
	pit_load0(r, 0x34, 11932); /* mode 2, 100 Hz */
	CHECK_EQ(count_irqs(r, 1000 * MS, MS, 0x30) / 2, 50); /* 100, or 101 with the first edge */
	pit_load0(r, 0x36, 0); /* mode 3, 18.2 Hz */
	(void)count_irqs(r, MS, MS, 0x30);
	CHECK_EQ(count_irqs(r, 1099 * MS, MS, 0x30), 20);
	pit_load0(r, 0x30, 1193); /* mode 0: once */
	CHECK_EQ(count_irqs(r, 100 * MS, MS, 0x30), 1);
	pit_load0(r, 0x38, 1193); /* mode 4: once */
	(void)rig_ack(r);
	CHECK_EQ(count_irqs(r, 100 * MS, MS, 0x30), 1);
	rig_out8(r, 0x43, 0x30); /* control word alone: stops */
	CHECK_EQ(count_irqs(r, 100 * MS, MS, 0x30), 0);
	pit_load0(r, 0x34, 2); /* 600 kHz: held to a bounded rate */
	CHECK(count_irqs(r, 10 * MS, 1000, 0x30) <= 501);
	pit_load0(r, 0x34, 1); /* not a legal count */
	CHECK(count_irqs(r, 10 * MS, MS, 0x30) <= 1);
}

static void pit_read_back(struct rig *r)
{
	uint8_t low;

	rig_add(r, &i8254_class, NULL);
	rig_out8(r, 0x43, 0x34);
	rig_out8(r, 0x43, 0xe2); /* status of channel 0 */
	CHECK_EQ(rig_in8(r, 0x40), 0xf4); /* OUT, null count, both bytes, mode 2 */
	rig_out8(r, 0x40, 0x10);
	rig_out8(r, 0x40, 0x27);
	rig_out8(r, 0x43, 0xe2);
	CHECK_EQ(rig_in8(r, 0x40), 0xb4);
	rig_out8(r, 0x43, 0xc2); /* count and status */
	rig_advance(r, MS);
	CHECK_EQ(rig_in8(r, 0x40), 0xb4);
	low = rig_in8(r, 0x40);
	CHECK_EQ(low | rig_in8(r, 0x40) << 8, 10000); /* of when it was latched */
	CHECK_EQ(pit_count(r, 0), 10000 - 1193);
	rig_out8(r, 0x43, 0x35); /* BCD */
	rig_out8(r, 0x40, 0x00);
	rig_out8(r, 0x40, 0x20);
	rig_advance(r, MS);
	CHECK_EQ(pit_count(r, 0), 0x0807); /* 2000 - 1193 */
	rig_out8(r, 0x43, 0x14); /* low byte only */
	rig_out8(r, 0x40, 200);
	CHECK_EQ(rig_in8(r, 0x40), 200);
	rig_out8(r, 0x43, 0x24); /* high byte only */
	rig_out8(r, 0x40, 2);
	CHECK_EQ(rig_in8(r, 0x40), 2);
	CHECK_EQ(rig_in8(r, 0x43), 0xff);
}

static void pit_any_bytes(struct rig *r)
{
	uint32_t x = 7;
	unsigned i;

	pic_open(r);
	rig_add(r, &i8254_class, NULL);
	for (i = 0; i < 100000; i++) {
		uint16_t port;

		x = x * 1664525u + 1013904223u;
		port = (x >> 8 & 7u) == 7 ? 0x61 : (uint16_t)(0x40 + (x >> 8 & 3u));
		if (x >> 31)
			rig_out8(r, port, (uint8_t)(x >> 16));
		else
			(void)rig_in8(r, port);
		rig_advance(r, x >> 12 & 0xfffffu);
		(void)rig_ack(r);
	}
}

/* --- RTC ------------------------------------------------------------------------------------- */

static const struct mc146818_config noon = { /* Thursday 2026-12-31 23:59:58 UTC */
	.unix_seconds = 1798761598,
	.low_ram = 64 << 20,
	.high_ram = 3ull << 30,
};

static uint8_t rtc(struct rig *r, uint8_t reg)
{
	rig_out8(r, 0x70, reg);
	return rig_in8(r, 0x71);
}

static void rtc_set(struct rig *r, uint8_t reg, uint8_t value)
{
	rig_out8(r, 0x70, reg);
	rig_out8(r, 0x71, value);
}

static void rtc_calendar(struct rig *r)
{
	rig_add(r, &mc146818_class, &noon);
	CHECK_EQ(rtc(r, 0), 0x58);
	CHECK_EQ(rtc(r, 2), 0x59);
	CHECK_EQ(rtc(r, 4), 0x23);
	CHECK_EQ(rtc(r, 6), 5);
	CHECK_EQ(rtc(r, 7), 0x31);
	CHECK_EQ(rtc(r, 8), 0x12);
	CHECK_EQ(rtc(r, 9), 0x26);
	CHECK_EQ(rtc(r, 0x32), 0x20);
	CHECK_EQ(rtc(r, 0x0d), 0x80);
	rig_advance(r, 2 * NSEC_PER_SEC);
	CHECK_EQ(rtc(r, 0), 0);
	CHECK_EQ(rtc(r, 4), 0);
	CHECK_EQ(rtc(r, 6), 6);
	CHECK_EQ(rtc(r, 7), 1);
	CHECK_EQ(rtc(r, 8), 1);
	CHECK_EQ(rtc(r, 9), 0x27);
	rtc_set(r, 0x0b, 0x04); /* binary, 12 hours */
	CHECK_EQ(rtc(r, 4), 12); /* midnight */
	CHECK_EQ(rtc(r, 9), 27);
	rig_advance(r, 13 * 3600 * NSEC_PER_SEC);
	CHECK_EQ(rtc(r, 4), 0x81); /* 1 PM */
	CHECK_EQ(rtc(r, 0x34) | rtc(r, 0x35) << 8, (48 << 20) >> 16);
	CHECK_EQ(rtc(r, 0x5b) | rtc(r, 0x5c) << 8, (3ull << 30) >> 16);
}

static void rtc_setting(struct rig *r)
{
	rig_add(r, &mc146818_class, &noon);
	rtc_set(r, 0x0b, 0x86); /* SET, binary, 24 h */
	rtc_set(r, 0, 57);
	rtc_set(r, 2, 59);
	rtc_set(r, 4, 23);
	rtc_set(r, 7, 28);
	rtc_set(r, 8, 2);
	rtc_set(r, 9, 24);
	rtc_set(r, 0x32, 20);
	rig_advance(r, 10 * NSEC_PER_SEC);
	CHECK_EQ(rtc(r, 0), 57); /* stands still */
	rtc_set(r, 0x0b, 0x06);
	rig_advance(r, 3 * NSEC_PER_SEC);
	CHECK_EQ(rtc(r, 0), 0);
	CHECK_EQ(rtc(r, 7), 29); /* leap year */
	CHECK_EQ(rtc(r, 8), 2);
	rtc_set(r, 8, 0xff); /* junk gives some time, no more */
	rtc_set(r, 7, 0xff);
	rtc_set(r, 4, 0xff);
	rtc_set(r, 0x32, 0xff);
	rig_advance(r, NSEC_PER_SEC);
	CHECK(rtc(r, 8) >= 1 && rtc(r, 8) <= 12);
	rtc_set(r, 0x40, 0xa5);
	CHECK_EQ(rtc(r, 0x40), 0xa5);
	CHECK_EQ(rtc(r, 0x80 | 0x40), 0xa5); /* the NMI bit is no address */
}

static void rtc_update_in_progress(struct rig *r)
{
	rig_add(r, &mc146818_class, &noon);
	CHECK_EQ(rtc(r, 0x0a), 0x26);
	rig_advance(r, NSEC_PER_SEC - 100000);
	CHECK_EQ(rtc(r, 0x0a), 0xa6);
	CHECK_EQ(rtc(r, 0), 0x58);
	rig_advance(r, 100000);
	CHECK_EQ(rtc(r, 0x0a), 0x26);
	CHECK_EQ(rtc(r, 0), 0x59);
	CHECK_EQ(rtc(r, 0x0c) & 0xd0, 0x50); /* PF and UF, no interrupt */
	CHECK_EQ(rtc(r, 0x0c), 0);
}

static unsigned rtc_irqs(struct rig *r, uint64_t ns, uint64_t step)
{
	unsigned n = 0;
	uint64_t done;

	for (done = 0; done < ns; done += step) {
		rig_advance(r, step);
		if (rig_ack(r) == 0x38) {
			n++;
			CHECK(rtc(r, 0x0c) & 0x80);
		}
	}
	return n;
}

static void rtc_interrupts(struct rig *r)
{
	pic_open(r);
	rig_add(r, &mc146818_class, &noon);
	rtc_set(r, 0x0b, 0x12); /* update */
	CHECK_EQ(rtc_irqs(r, 10 * NSEC_PER_SEC, 100 * MS), 10);
	rtc_set(r, 0x0b, 0x42); /* periodic, 1024 Hz */
	CHECK_EQ(rtc_irqs(r, NSEC_PER_SEC, 100000), 1024);
	rtc_set(r, 0x0a, 0x20); /* rate 0: none, and no shift by -1 */
	CHECK(rtc_irqs(r, NSEC_PER_SEC, MS) <= 1);
	rtc_set(r, 0x0a, 0x2f); /* 2 Hz */
	CHECK_EQ(rtc_irqs(r, 2 * NSEC_PER_SEC, MS), 4);
	rtc_set(r, 0x0a, 0x76); /* divider held in reset */
	CHECK(rtc_irqs(r, NSEC_PER_SEC, MS) <= 1);
	rtc_set(r, 0x0a, 0x26);
	rtc_set(r, 0x0b, 0x42);
	rig_advance(r, 10 * NSEC_PER_SEC); /* nobody reads C: one interrupt, not 10240 */
	CHECK_EQ(rig_ack(r), 0x38);
	rig_advance(r, 10 * NSEC_PER_SEC);
	CHECK_EQ(rig_ack(r), (uint64_t)-2);
}

static void rtc_alarm(struct rig *r)
{
	pic_open(r);
	rig_add(r, &mc146818_class, &noon);
	rtc_set(r, 1, 0x05);
	rtc_set(r, 3, 0x00);
	rtc_set(r, 5, 0x00);
	rtc_set(r, 0x0b, 0x22);
	rig_advance(r, 6900 * MS);
	CHECK_EQ(rig_ack(r), (uint64_t)-2);
	rig_advance(r, 200 * MS); /* 00:00:05 */
	CHECK_EQ(rig_ack(r), 0x38);
	CHECK_EQ(rtc(r, 0x0c) & 0xa0, 0xa0);
	CHECK_EQ(rtc_irqs(r, 86400 * NSEC_PER_SEC, 60 * NSEC_PER_SEC), 1);
	rtc_set(r, 3, 0xc0); /* every minute at :05 */
	rtc_set(r, 5, 0xff);
	CHECK_EQ(rtc_irqs(r, 600 * NSEC_PER_SEC, NSEC_PER_SEC), 10);
	rtc_set(r, 1, 0x7b); /* no such second */
	CHECK_EQ(rtc_irqs(r, 600 * NSEC_PER_SEC, NSEC_PER_SEC), 0);
}

static void rtc_pause(struct rig *r)
{
	struct device *dev = rig_add(r, &mc146818_class, &noon);
	uint64_t before, least, most;
	uint8_t second;

	dev->class->resume(dev); /* without a pause: nothing happened */
	CHECK_EQ(rtc(r, 9), 0x26);
	before = clock_monotonic_ns();
	dev->class->pause(dev);
	least = clock_monotonic_ns();
	usleep(1100000);
	least = clock_monotonic_ns() - least;
	dev->class->resume(dev); /* machine time stood still, the wall clock did not */
	most = clock_monotonic_ns() - before;
	second = rtc(r, 0); /* 58, and then as many as passed: one, on a busy host more */
	second = second < 0x58 ? 2 + second : second - 0x58;
	CHECK(second >= least / NSEC_PER_SEC && second <= most / NSEC_PER_SEC);
	dev->class->resume(dev);
	CHECK_EQ(rtc(r, 0), second < 2 ? 0x58 + second : second - 2);
}

static void rtc_any_bytes(struct rig *r)
{
	uint32_t x = 3;
	unsigned i;

	rig_add(r, &mc146818_class, &noon);
	for (i = 0; i < 100000; i++) {
		x = x * 1664525u + 1013904223u;
		if (x >> 31)
			rtc_set(r, x >> 8 & 0x3f, (uint8_t)(x >> 16));
		else
			(void)rtc(r, x >> 8 & 0xff);
		rig_advance(r, (uint64_t)(x >> 20) << (x & 31u) >> 8);
	}
}

/* --- ACPI ------------------------------------------------------------------------------------ */

static void pm_timer(struct rig *r)
{
	uint32_t a;

	rig_add(r, &acpi_pm_class, NULL);
	a = rig_in(r, 0x608, 4);
	rig_advance(r, NSEC_PER_SEC);
	CHECK_EQ(rig_in(r, 0x608, 4) - a, 3579545);
	rig_out(r, 0x608, 4, 0);
	CHECK_EQ(rig_in(r, 0x608, 4) - a, 3579545);
}

static void pm_carry(struct rig *r)
{
	pic_open(r);
	rig_add(r, &acpi_pm_class, NULL);
	rig_out(r, 0x602, 2, 1);
	rig_advance(r, 599 * NSEC_PER_SEC); /* 2^31 ticks are 599.9 s */
	CHECK_EQ(rig_in(r, 0x600, 2), 0);
	CHECK(!r->intr);
	rig_advance(r, NSEC_PER_SEC);
	CHECK(r->intr);
	CHECK_EQ(rig_in(r, 0x600, 2), 1);
	rig_out(r, 0x600, 2, 1);
	CHECK_EQ(rig_in(r, 0x600, 2), 0);
}

static void pm_button(struct rig *r)
{
	struct device *pm;

	pic_open(r);
	rig_out8(r, 0x4d1, 2); /* SCI is level triggered */
	pm = rig_add(r, &acpi_pm_class, NULL);
	acpi_pm_power_button(pm);
	CHECK(!r->intr); /* not enabled yet */
	rig_out(r, 0x602, 2, 0xffff);
	CHECK_EQ(rig_in(r, 0x602, 2), 0x521);
	CHECK(r->intr);
	CHECK_EQ(rig_ack(r), 0x39);
	CHECK(r->intr); /* level, automatic EOI */
	rig_out(r, 0x600, 2, 0x100);
	CHECK(!r->intr);
	acpi_pm_power_button(pm);
	CHECK(r->intr);
	pm->class->reset(pm);
	CHECK(!r->intr);
	CHECK_EQ(rig_in(r, 0x600, 4), 0);
}

static void pm_sleep(struct rig *r)
{
	rig_add(r, &acpi_pm_class, NULL);
	CHECK_EQ(rig_in(r, 0x604, 2), 1); /* SCI_EN */
	rig_out(r, 0x604, 2, 5 << 10);
	CHECK_EQ(r->request, MACHINE_REQUEST_NONE);
	rig_out(r, 0x604, 2, 1 << 13 | 3 << 10);
	CHECK_EQ(r->request, MACHINE_REQUEST_NONE);
	rig_out(r, 0x604, 2, 1 << 13 | 5 << 10);
	CHECK_EQ(r->request, MACHINE_REQUEST_POWEROFF);
	CHECK_EQ(rig_in(r, 0x604, 2), 5 << 10 | 1); /* SLP_EN reads as zero */
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "pit calibration by channel 2", pit_calibration },
		{ "pit gate", pit_gate },
		{ "pit interrupts", pit_interrupts },
		{ "pit read-back, BCD, byte modes", pit_read_back },
		{ "pit any bytes", pit_any_bytes },
		{ "rtc calendar", rtc_calendar },
		{ "rtc setting", rtc_setting },
		{ "rtc update in progress", rtc_update_in_progress },
		{ "rtc interrupts", rtc_interrupts },
		{ "rtc alarm", rtc_alarm },
		{ "rtc over a pause", rtc_pause },
		{ "rtc any bytes", rtc_any_bytes },
		{ "pm timer", pm_timer },
		{ "pm timer carry", pm_carry },
		{ "pm power button", pm_button },
		{ "pm sleep", pm_sleep },
	};

	return rig_main("time", cases, ARRAY_SIZE(cases), argc, argv);
}
