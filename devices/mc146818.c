/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mc146818.c - the real-time clock and its CMOS memory (Motorola MC146818A at 0x70/0x71).
 *
 * The time of day is computed from machine time when it is looked at; so are the flags of register
 * C. A timer runs only while an interrupt is enabled and none is pending. libc's time functions are
 * not used for the calendar: they read the host's time zone files.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "machine/timer.h"

enum {
	RTC_SEC = 0, RTC_SEC_ALARM, RTC_MIN, RTC_MIN_ALARM, RTC_HOUR, RTC_HOUR_ALARM,
	RTC_WEEKDAY, RTC_DAY, RTC_MONTH, RTC_YEAR,
	RTC_A, RTC_B, RTC_C, RTC_D,
	RTC_EXT_LOW = 0x17,    /* KiB above 1 MiB, at most 63 MiB: 0x17/0x18 and again 0x30/0x31 */
	RTC_EXT_LOW2 = 0x30,
	RTC_CENTURY = 0x32,    /* named in the FADT */
	RTC_EXT_HIGH = 0x34,   /* 64 KiB units above 16 MiB, 0x34/0x35 */
	RTC_RAM_4G = 0x5b,     /* 64 KiB units above 4 GiB, 0x5b..0x5d */
	RTC_BYTES = 128,
};

enum { /* A */
	A_UIP = 0x80,
	A_RATE = 0x0f,
	A_DIVIDER = 0x70,
	A_DIVIDER_RUN = 0x20, /* 32.768 kHz */
};
enum { /* B */
	B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10,
	B_BINARY = 0x04, B_24H = 0x02,
};
enum { /* C; the enables of B are at the same bits */
	C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10,
};
#define D_VALID 0x80

#define UIP_NS 244000u /* UIP rises this long before the update */
#define ALARM_ANY 0xc0u
#define DAY_SECONDS 86400
#define NO_ALARM UINT64_MAX

struct rtc {
	struct device dev;
	pthread_mutex_t lock;
	struct timer timer;
	uint8_t index;
	uint8_t reg[RTC_BYTES];
	/* RTC time in ns since 1970 is base + (machine time); seconds turn over where it does */
	int64_t base;
	uint64_t seen;  /* machine time up to which C's flags are right */
	bool irq;
	int64_t paused_at; /* host time at pause, to stay with the wall clock; 0: not paused */
};

/* --- calendar (proleptic Gregorian; days since 1970-01-01) ----------------------------------- */

struct rtc_date {
	int64_t year;
	int month, day, hour, minute, second; /* month and day from 1 */
};

static int64_t days_from_date(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

static void date_from_days(int64_t days, struct rtc_date *ret)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;

	ret->day = (int)(doy - (153 * mp + 2) / 5 + 1);
	ret->month = (int)(mp < 10 ? mp + 3 : mp - 9);
	ret->year = yoe + era * 400 + (ret->month <= 2);
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* --- number formats -------------------------------------------------------------------------- */

static uint8_t rtc_encode(const struct rtc *r, int value)
{
	if (r->reg[RTC_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static int rtc_decode(const struct rtc *r, uint8_t raw)
{
	if (r->reg[RTC_B] & B_BINARY)
		return raw;
	return (raw >> 4) * 10 + (raw & 0xf);
}

static uint8_t rtc_encode_hour(const struct rtc *r, int hour)
{
	if (r->reg[RTC_B] & B_24H)
		return rtc_encode(r, hour);
	return rtc_encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static int rtc_decode_hour(const struct rtc *r, uint8_t raw)
{
	if (r->reg[RTC_B] & B_24H)
		return rtc_decode(r, raw);
	return rtc_decode(r, raw & 0x7f) % 12 + (raw & 0x80 ? 12 : 0);
}

/* --- time of day ----------------------------------------------------------------------------- */

static int64_t rtc_ns(const struct rtc *r, uint64_t now)
{
	return r->base + (int64_t)now;
}

/* Writes the time into the registers, unless the guest holds them (SET). */
static void rtc_show_time(struct rtc *r, uint64_t now)
{
	int64_t seconds = floor_div(rtc_ns(r, now), (int64_t)NSEC_PER_SEC);
	int64_t days = floor_div(seconds, DAY_SECONDS);
	int rest = (int)(seconds - days * DAY_SECONDS);
	struct rtc_date d;

	if (r->reg[RTC_B] & B_SET)
		return;
	date_from_days(days, &d);
	r->reg[RTC_SEC] = rtc_encode(r, rest % 60);
	r->reg[RTC_MIN] = rtc_encode(r, rest / 60 % 60);
	r->reg[RTC_HOUR] = rtc_encode_hour(r, rest / 3600);
	r->reg[RTC_WEEKDAY] = rtc_encode(r, (int)(((days + 4) % 7 + 7) % 7) + 1);
	r->reg[RTC_DAY] = rtc_encode(r, d.day);
	r->reg[RTC_MONTH] = rtc_encode(r, d.month);
	r->reg[RTC_YEAR] = rtc_encode(r, (int)(((d.year % 100) + 100) % 100));
	r->reg[RTC_CENTURY] = rtc_encode(r, (int)(d.year / 100 % 100));
}

/* Takes the registers as the time from now on; whatever they hold gives some time. */
static void rtc_take_time(struct rtc *r, uint64_t now)
{
	int month = rtc_decode(r, r->reg[RTC_MONTH]);
	int64_t year = rtc_decode(r, r->reg[RTC_CENTURY]) * 100ll + rtc_decode(r, r->reg[RTC_YEAR]);
	int64_t days, seconds, fraction; /* the fraction of a second goes on */

	if (month < 1 || month > 12)
		month = 1;
	if (year < 1900 || year > 2200) /* junk; also keeps ns within 64 bits */
		year = 1970;
	days = days_from_date(year, month, rtc_decode(r, r->reg[RTC_DAY]));
	seconds = days * DAY_SECONDS + rtc_decode_hour(r, r->reg[RTC_HOUR]) * 3600ll +
		  rtc_decode(r, r->reg[RTC_MIN]) * 60ll + rtc_decode(r, r->reg[RTC_SEC]);
	fraction = rtc_ns(r, now);
	fraction -= floor_div(fraction, (int64_t)NSEC_PER_SEC) * (int64_t)NSEC_PER_SEC;
	r->base = seconds * (int64_t)NSEC_PER_SEC + fraction - (int64_t)now;
}

static bool alarm_matches(uint8_t raw, int wanted, int value)
{
	return raw >= ALARM_ANY || wanted == value;
}

/* Seconds from `from` (seconds of a day) to the next alarm, 1..86400, or NO_ALARM. Skips whole
 * hours and minutes that don't match, so it takes at most 24 + 60 + 60 steps. */
static uint64_t rtc_alarm_distance(const struct rtc *r, int from)
{
	uint8_t raw_h = r->reg[RTC_HOUR_ALARM], raw_m = r->reg[RTC_MIN_ALARM];
	uint8_t raw_s = r->reg[RTC_SEC_ALARM];
	int h = rtc_decode_hour(r, raw_h), m = rtc_decode(r, raw_m), s = rtc_decode(r, raw_s);
	int t = from + 1;

	while (t <= from + DAY_SECONDS) {
		if (!alarm_matches(raw_h, h, t / 3600 % 24))
			t += 3600 - t % 3600;
		else if (!alarm_matches(raw_m, m, t / 60 % 60))
			t += 60 - t % 60;
		else if (!alarm_matches(raw_s, s, t % 60))
			t++;
		else
			return (uint64_t)(t - from);
	}
	return NO_ALARM;
}

/* --- flags and interrupts -------------------------------------------------------------------- */

static bool rtc_counting(const struct rtc *r)
{
	return (r->reg[RTC_A] & A_DIVIDER) == A_DIVIDER_RUN && !(r->reg[RTC_B] & B_SET);
}

/* ns between periodic interrupts, 0: none. Rates 1 and 2 are those of 8 and 9 with this crystal. */
static uint64_t rtc_period(const struct rtc *r)
{
	unsigned rate = r->reg[RTC_A] & A_RATE;

	if (!rate || (r->reg[RTC_A] & A_DIVIDER) != A_DIVIDER_RUN)
		return 0;
	if (rate < 3)
		rate += 7;
	return (NSEC_PER_SEC << (rate - 1)) / 32768;
}

/* Machine time of the next update (a full second of RTC time) after `after`. */
static uint64_t rtc_next_second(const struct rtc *r, uint64_t after)
{
	int64_t ns = rtc_ns(r, after);
	int64_t second = floor_div(ns, (int64_t)NSEC_PER_SEC);

	return after + (uint64_t)((second + 1) * (int64_t)NSEC_PER_SEC - ns);
}

static uint64_t rtc_next_alarm(const struct rtc *r, uint64_t after)
{
	int64_t second = floor_div(rtc_ns(r, after), (int64_t)NSEC_PER_SEC);
	int64_t day = floor_div(second, DAY_SECONDS);
	uint64_t distance = rtc_alarm_distance(r, (int)(second - day * DAY_SECONDS));

	if (distance == NO_ALARM)
		return NO_ALARM;
	return rtc_next_second(r, after) + (distance - 1) * NSEC_PER_SEC;
}

/* Sets the flags of what happened since the last look, drives IRQ 8, arms the timer. */
static void rtc_update(struct rtc *r, uint64_t now)
{
	uint64_t period = rtc_period(r), next = UINT64_MAX;
	uint8_t enabled = r->reg[RTC_B] & (B_PIE | B_AIE | B_UIE);
	uint64_t seen = r->seen;
	bool irq;

	if (now > seen) {
		if (period && now / period != seen / period)
			r->reg[RTC_C] |= C_PF;
		if (rtc_counting(r)) {
			if (rtc_next_second(r, seen) <= now)
				r->reg[RTC_C] |= C_UF;
			if (!(r->reg[RTC_C] & C_AF) && rtc_next_alarm(r, seen) <= now)
				r->reg[RTC_C] |= C_AF;
		}
		r->seen = now;
	}
	irq = r->reg[RTC_C] & enabled;
	r->reg[RTC_C] = (uint8_t)((r->reg[RTC_C] & ~C_IRQF) | (irq ? C_IRQF : 0));
	if (irq != r->irq)
		irq_set(r->dev.machine->irqs, PC_IRQ_RTC, irq);
	r->irq = irq;

	if (irq || !enabled) { /* nothing new to tell before C is read */
		timer_cancel(&r->timer);
		return;
	}
	if (enabled & B_PIE && period)
		next = (now / period + 1) * period;
	if (rtc_counting(r)) {
		uint64_t t = enabled & B_UIE ? rtc_next_second(r, now) : UINT64_MAX;

		next = t < next ? t : next;
		t = enabled & B_AIE ? rtc_next_alarm(r, now) : UINT64_MAX;
		next = t < next ? t : next;
	}
	if (next == UINT64_MAX)
		timer_cancel(&r->timer);
	else
		(void)timer_arm(&r->timer, next); /* no memory: a tick is missed */
}

static void rtc_timer(void *opaque, uint64_t now)
{
	struct rtc *r = opaque;

	(void)now;
	pthread_mutex_lock(&r->lock);
	rtc_update(r, timers_now(r->dev.machine->timers));
	pthread_mutex_unlock(&r->lock);
}

/* --- registers ------------------------------------------------------------------------------- */

static bool is_time(unsigned index)
{
	switch (index) {
	case RTC_SEC: case RTC_MIN: case RTC_HOUR: case RTC_WEEKDAY: case RTC_DAY:
	case RTC_MONTH: case RTC_YEAR: case RTC_CENTURY:
		return true;
	default:
		return false;
	}
}

static uint8_t rtc_read_register(struct rtc *r, uint64_t now)
{
	uint8_t value;

	rtc_update(r, now);
	switch (r->index) {
	case RTC_A:
		value = r->reg[RTC_A];
		if (rtc_counting(r) && rtc_next_second(r, now) - now <= UIP_NS)
			value |= A_UIP;
		return value;
	case RTC_C:
		value = r->reg[RTC_C];
		r->reg[RTC_C] = 0;
		rtc_update(r, now);
		return value;
	case RTC_D:
		return D_VALID;
	default:
		if (is_time(r->index))
			rtc_show_time(r, now);
		return r->reg[r->index];
	}
}

static void rtc_write_b(struct rtc *r, uint8_t value, uint64_t now)
{
	uint8_t old = r->reg[RTC_B];

	if (value & B_SET) {
		rtc_show_time(r, now); /* the registers keep the last time */
		value &= (uint8_t)~B_UIE;
	}
	r->reg[RTC_B] = value;
	if (old & B_SET && !(value & B_SET))
		rtc_take_time(r, now);
}

static void rtc_write_register(struct rtc *r, uint8_t value, uint64_t now)
{
	rtc_update(r, now);
	switch (r->index) {
	case RTC_A:
		r->reg[RTC_A] = value & (uint8_t)~A_UIP;
		break;
	case RTC_B:
		rtc_write_b(r, value, now);
		break;
	case RTC_C:
	case RTC_D:
		return; /* read-only */
	default:
		if (is_time(r->index))
			rtc_show_time(r, now);
		r->reg[r->index] = value;
		if (is_time(r->index) && !(r->reg[RTC_B] & B_SET))
			rtc_take_time(r, now);
		break;
	}
	rtc_update(r, now);
}

static void rtc_port_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct rtc *r = opaque;

	(void)size;
	if (offset == 0)
		return; /* the index is write-only */
	pthread_mutex_lock(&r->lock);
	*val = rtc_read_register(r, timers_now(r->dev.machine->timers));
	pthread_mutex_unlock(&r->lock);
}

static void rtc_port_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct rtc *r = opaque;

	(void)size;
	pthread_mutex_lock(&r->lock);
	if (offset == 0)
		r->index = val & (RTC_BYTES - 1); /* bit 7 masks NMI: there is none */
	else
		rtc_write_register(r, (uint8_t)val, timers_now(r->dev.machine->timers));
	pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops rtc_ops = { rtc_port_read, rtc_port_write, 1 };

/* --- the device ------------------------------------------------------------------------------ */

static int64_t host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * (int64_t)NSEC_PER_SEC + t.tv_nsec;
}

/* The battery keeps time and memory; a reset clears the interrupt enables. */
static void rtc_reset(struct device *dev)
{
	struct rtc *r = (struct rtc *)dev;

	pthread_mutex_lock(&r->lock);
	r->index = 0;
	r->reg[RTC_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE);
	r->reg[RTC_C] = 0;
	rtc_update(r, timers_now(dev->machine->timers));
	pthread_mutex_unlock(&r->lock);
}

static void rtc_pause(struct device *dev)
{
	struct rtc *r = (struct rtc *)dev;

	r->paused_at = host_ns();
}

/* Machine time stood still: the wall clock did not. */
static void rtc_resume(struct device *dev)
{
	struct rtc *r = (struct rtc *)dev;
	int64_t away = r->paused_at ? host_ns() - r->paused_at : 0;

	pthread_mutex_lock(&r->lock);
	r->paused_at = 0;
	if (away > 0)
		r->base += away;
	rtc_update(r, timers_now(dev->machine->timers));
	pthread_mutex_unlock(&r->lock);
}

static void rtc_fill_memory_sizes(struct rtc *r, const struct mc146818_config *c)
{
	uint64_t ext = c->low_ram > 1u << 20 ? (c->low_ram - (1u << 20)) >> 10 : 0;
	uint64_t high = c->low_ram > 16u << 20 ? (c->low_ram - (16u << 20)) >> 16 : 0;
	uint64_t above = c->high_ram >> 16;

	ext = ext > 0xfc00 ? 0xfc00 : ext;
	r->reg[0x15] = 640 & 0xff;
	r->reg[0x16] = 640 >> 8;
	r->reg[RTC_EXT_LOW] = r->reg[RTC_EXT_LOW2] = (uint8_t)ext;
	r->reg[RTC_EXT_LOW + 1] = r->reg[RTC_EXT_LOW2 + 1] = (uint8_t)(ext >> 8);
	high = high > 0xffff ? 0xffff : high;
	r->reg[RTC_EXT_HIGH] = (uint8_t)high;
	r->reg[RTC_EXT_HIGH + 1] = (uint8_t)(high >> 8);
	r->reg[RTC_RAM_4G] = (uint8_t)above;
	r->reg[RTC_RAM_4G + 1] = (uint8_t)(above >> 8);
	r->reg[RTC_RAM_4G + 2] = (uint8_t)(above >> 16);
}

static void rtc_destroy(struct device *dev)
{
	struct rtc *r = (struct rtc *)dev;

	if (!r)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_RTC, r);
	timer_fini(&r->timer);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static int rtc_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct mc146818_config *c = config;
	struct rtc *r;
	int ret;

	if (c->unix_seconds < 0 || c->unix_seconds > 7258118400ll) /* year 2200 */
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->dev.class = &mc146818_class;
	r->dev.machine = machine;
	pthread_mutex_init(&r->lock, NULL);
	timer_init(&r->timer, machine->timers, rtc_timer, r);
	r->seen = timers_now(machine->timers);
	r->base = c->unix_seconds * (int64_t)NSEC_PER_SEC - (int64_t)r->seen;
	r->reg[RTC_A] = A_DIVIDER_RUN | 6; /* 1024 Hz */
	r->reg[RTC_B] = B_24H;
	rtc_fill_memory_sizes(r, c);
	ret = bus_add(machine->ports, PC_PORT_RTC, 2, &rtc_ops, r, "mc146818");
	if (ret) {
		rtc_destroy(&r->dev);
		return ret;
	}
	*ret_device = &r->dev;
	return 0;
}

const struct device_class mc146818_class = {
	.name = "mc146818",
	.create = rtc_create,
	.destroy = rtc_destroy,
	.reset = rtc_reset,
	.pause = rtc_pause,
	.resume = rtc_resume,
};
