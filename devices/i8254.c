/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8254.c - the programmable interval timer (Intel 8254) and the speaker port 0x61.
 *
 * A counter is never stepped: what it holds and what its OUT pin shows are computed from the guest
 * clock at the moment somebody looks. One timer is armed, for the next edge of OUT 0 (IRQ 0).
 * Counting starts with the write that completes the count, not one clock later as in the chip.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "machine/timer.h"

#define PIT_HZ 1193182ull
#define PIT_CHANNELS 3
/* A guest that asks for a faster interrupt than this gets it late, not the whole host. */
#define PIT_MIN_IRQ_NS 20000ull
#define PIT_NEVER UINT64_MAX

enum { RW_LATCH = 0, RW_LOW = 1, RW_HIGH = 2, RW_BOTH = 3 };

struct pit_channel {
	uint64_t start;      /* tick at which counting (re)started */
	uint64_t held;       /* ticks counted before the gate went low (modes 0 and 4) */
	uint32_t count;      /* 1..65536, what is being counted */
	uint32_t reload;     /* last count written; modes 1 and 5 take it at the next trigger */
	uint8_t mode;        /* 0..5 */
	uint8_t rw;          /* RW_LOW..RW_BOTH */
	bool bcd;
	bool loaded;         /* a complete count was written since the control word */
	bool triggered;      /* modes 1 and 5: the gate rose */
	bool gate;
	bool write_high;     /* RW_BOTH: the next write is the high byte */
	bool read_high;      /* RW_BOTH: the next read is the high byte */
	uint8_t write_low;
	bool count_latched, status_latched;
	uint16_t latch;
	uint8_t status;
};

/* --- arithmetic on ticks -------------------------------------------------------------------- */

static uint64_t ns_to_ticks(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * PIT_HZ / NSEC_PER_SEC);
}

/* The first nanosecond that belongs to a tick: ns_to_ticks(ticks_to_ns(t)) == t. */
static uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ);
}

static uint32_t count_decode(uint16_t raw, bool bcd)
{
	uint32_t count = raw;

	if (bcd)
		count = (raw & 0xfu) + (raw >> 4 & 0xfu) * 10u + (raw >> 8 & 0xfu) * 100u +
			(raw >> 12) * 1000u;
	return count ? count : bcd ? 10000u : 0x10000u;
}

static uint16_t count_encode(uint64_t value, bool bcd)
{
	unsigned v;

	if (!bcd)
		return (uint16_t)value;
	v = (unsigned)(value % 10000u);
	return (uint16_t)(v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

/* --- one counter ---------------------------------------------------------------------------- */

static bool channel_periodic(const struct pit_channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

static bool channel_running(const struct pit_channel *c)
{
	if (!c->loaded)
		return false;
	return c->mode == 1 || c->mode == 5 ? c->triggered : c->gate;
}

static uint64_t channel_elapsed(const struct pit_channel *c, uint64_t tick)
{
	if (!channel_running(c))
		return c->held;
	return tick > c->start ? tick - c->start : 0;
}

static bool channel_out(const struct pit_channel *c, uint64_t tick)
{
	uint64_t d = channel_elapsed(c, tick);

	if (!c->loaded)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
		return d >= c->count;
	case 1:
		return !c->triggered || d >= c->count;
	case 2:
		return !c->gate || d % c->count != c->count - 1;
	case 3:
		return !c->gate || d % c->count < (c->count + 1) / 2;
	case 4:
		return d != c->count;
	default:
		return !c->triggered || d != c->count;
	}
}

static uint16_t channel_value(const struct pit_channel *c, uint64_t tick)
{
	uint64_t d = channel_elapsed(c, tick);
	uint64_t wrap = c->bcd ? 10000u : 0x10000u;

	switch (c->mode) {
	case 2:
		return count_encode(c->count - d % c->count, c->bcd);
	case 3: /* counts down by two, twice per period */
		return count_encode(c->count - 2 * (d % c->count) % c->count, c->bcd);
	default:
		return count_encode(c->count % wrap + wrap - d % wrap, c->bcd);
	}
}

/* The first tick after `tick` at which OUT goes from low to high, or PIT_NEVER. */
static uint64_t channel_next_rise(const struct pit_channel *c, uint64_t tick)
{
	uint64_t d = channel_elapsed(c, tick);

	if (!channel_running(c))
		return PIT_NEVER;
	switch (c->mode) {
	case 0:
	case 1:
		return d < c->count ? c->start + c->count : PIT_NEVER;
	case 2:
	case 3:
		return c->count > 1 ? c->start + (d / c->count + 1) * c->count : PIT_NEVER;
	default:
		return d <= c->count ? c->start + c->count + 1 : PIT_NEVER;
	}
}

static void channel_load(struct pit_channel *c, uint16_t raw, uint64_t tick)
{
	c->reload = count_decode(raw, c->bcd);
	if (c->mode == 1 || c->mode == 5) {
		if (!c->loaded)
			c->count = c->reload;
		c->loaded = true;
		return;
	}
	c->count = c->reload;
	c->start = tick;
	c->held = 0;
	c->loaded = true;
}

static void channel_control(struct pit_channel *c, uint8_t word)
{
	c->mode = word >> 1 & 7;
	if (c->mode > 5)
		c->mode -= 4; /* bit 2 is not decoded in modes 2 and 3 */
	c->rw = word >> 4 & 3;
	c->bcd = word & 1;
	c->loaded = c->triggered = false;
	c->held = 0;
	c->write_high = c->read_high = false;
	c->count_latched = c->status_latched = false;
}

static void channel_set_gate(struct pit_channel *c, bool gate, uint64_t tick)
{
	if (gate == c->gate)
		return;
	if (gate) {
		c->gate = true;
		if (c->mode == 1 || c->mode == 5) {
			c->triggered = c->loaded;
			c->count = c->reload;
			c->start = tick;
		} else if (channel_periodic(c)) {
			c->start = tick;
		} else { /* goes on where it stood */
			c->start = tick - (c->held < tick ? c->held : tick);
		}
	} else {
		if (c->mode == 0 || c->mode == 4)
			c->held = channel_elapsed(c, tick);
		else if (channel_periodic(c))
			c->held = 0;
		c->gate = false;
	}
}

static void channel_latch_count(struct pit_channel *c, uint64_t tick)
{
	if (c->count_latched)
		return; /* the first latch wins until it is read */
	c->latch = channel_value(c, tick);
	c->count_latched = true;
	c->read_high = false;
}

static void channel_latch_status(struct pit_channel *c, uint64_t tick)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)(channel_out(c, tick) << 7 | !c->loaded << 6 | c->rw << 4 |
			      c->mode << 1 | c->bcd);
	c->status_latched = true;
}

static uint8_t channel_read(struct pit_channel *c, uint64_t tick)
{
	uint16_t value;
	bool high = c->rw == RW_HIGH || (c->rw == RW_BOTH && c->read_high);

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	value = c->count_latched ? c->latch : channel_value(c, tick);
	if (c->rw == RW_BOTH)
		c->read_high = !c->read_high;
	if (high || c->rw == RW_LOW)
		c->count_latched = false;
	return (uint8_t)(high ? value >> 8 : value);
}

static void channel_write(struct pit_channel *c, uint8_t value, uint64_t tick)
{
	switch (c->rw) {
	case RW_LOW:
		channel_load(c, value, tick);
		break;
	case RW_HIGH:
		channel_load(c, (uint16_t)(value << 8), tick);
		break;
	default:
		if (c->write_high) {
			channel_load(c, (uint16_t)(value << 8 | c->write_low), tick);
		} else {
			c->write_low = value;
			if (c->mode == 0) { /* the first byte stops the count, OUT goes low */
				c->loaded = false;
				c->held = 0;
			}
		}
		c->write_high = !c->write_high;
		break;
	}
}

/* --- the device ----------------------------------------------------------------------------- */

struct pit {
	struct device dev;
	pthread_mutex_t lock;
	struct timer timer;
	struct pit_channel channel[PIT_CHANNELS];
	uint64_t last_tick; /* up to which edges of OUT 0 were looked at */
	bool irq;
	uint8_t port61;     /* bits 0-3 as written: gate 2, speaker, parity and channel check */
};

static void pit_set_irq(struct pit *p, bool level)
{
	if (p->irq != level)
		irq_set(p->dev.machine->irqs, PC_IRQ_PIT, level);
	p->irq = level;
}

/* Shows on IRQ 0 what OUT 0 did since the last look. (Another thread may have looked later.) */
static void pit_catch_up(struct pit *p, uint64_t tick)
{
	if (tick < p->last_tick)
		return;
	if (channel_next_rise(&p->channel[0], p->last_tick) <= tick) {
		pit_set_irq(p, false);
		pit_set_irq(p, true);
	}
	p->last_tick = tick;
}

static void pit_rearm(struct pit *p, uint64_t now)
{
	uint64_t rise = channel_next_rise(&p->channel[0], p->last_tick);
	uint64_t deadline;

	if (rise == PIT_NEVER) {
		timer_cancel(&p->timer);
		return;
	}
	deadline = ticks_to_ns(rise);
	if (deadline < now + PIT_MIN_IRQ_NS)
		deadline = now + PIT_MIN_IRQ_NS;
	(void)timer_arm(&p->timer, deadline); /* no memory: the guest misses a tick */
}

static void pit_timer(void *opaque, uint64_t now)
{
	struct pit *p = opaque;

	pthread_mutex_lock(&p->lock);
	pit_catch_up(p, ns_to_ticks(now));
	pit_rearm(p, now);
	pthread_mutex_unlock(&p->lock);
}

static void pit_read_back(struct pit *p, uint8_t word, uint64_t tick)
{
	unsigned i;

	for (i = 0; i < PIT_CHANNELS; i++) {
		if (!(word & 2u << i))
			continue;
		if (!(word & 0x20u))
			channel_latch_count(&p->channel[i], tick);
		if (!(word & 0x10u))
			channel_latch_status(&p->channel[i], tick);
	}
}

static void pit_control(struct pit *p, uint8_t word, uint64_t tick)
{
	unsigned select = word >> 6;

	if (select == 3)
		pit_read_back(p, word, tick);
	else if ((word >> 4 & 3u) == RW_LATCH)
		channel_latch_count(&p->channel[select], tick);
	else
		channel_control(&p->channel[select], word);
}

static void pit_port_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct pit *p = opaque;
	uint64_t now, tick;

	(void)size;
	pthread_mutex_lock(&p->lock);
	now = timers_now(p->dev.machine->timers);
	tick = ns_to_ticks(now);
	pit_catch_up(p, tick);
	if (offset == 3)
		pit_control(p, (uint8_t)val, tick);
	else
		channel_write(&p->channel[offset], (uint8_t)val, tick);
	pit_set_irq(p, channel_out(&p->channel[0], tick));
	pit_rearm(p, now);
	pthread_mutex_unlock(&p->lock);
}

static void pit_port_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct pit *p = opaque;

	(void)size;
	if (offset == 3)
		return; /* the control word cannot be read */
	pthread_mutex_lock(&p->lock);
	*val = channel_read(&p->channel[offset], ns_to_ticks(timers_now(p->dev.machine->timers)));
	pthread_mutex_unlock(&p->lock);
}

static void speaker_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct pit *p = opaque;

	(void)offset, (void)size;
	pthread_mutex_lock(&p->lock);
	p->port61 = val & 0xfu;
	channel_set_gate(&p->channel[2], val & 1u,
			 ns_to_ticks(timers_now(p->dev.machine->timers)));
	pthread_mutex_unlock(&p->lock);
}

static void speaker_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct pit *p = opaque;
	uint64_t tick;

	(void)offset, (void)size;
	pthread_mutex_lock(&p->lock);
	tick = ns_to_ticks(timers_now(p->dev.machine->timers));
	/* bit 4 toggles with each memory refresh (about 15 us), bit 5 is OUT 2 */
	*val = p->port61 | (tick / 18 & 1u) << 4 |
	       (uint64_t)channel_out(&p->channel[2], tick) << 5;
	pthread_mutex_unlock(&p->lock);
}

static const struct bus_ops pit_port_ops = { pit_port_read, pit_port_write, 1 };
static const struct bus_ops speaker_ops = { speaker_read, speaker_write, 1 };

static void pit_reset(struct device *dev)
{
	struct pit *p = (struct pit *)dev;
	unsigned i;

	pthread_mutex_lock(&p->lock);
	timer_cancel(&p->timer);
	for (i = 0; i < PIT_CHANNELS; i++)
		p->channel[i] = (struct pit_channel){ .count = 0x10000, .reload = 0x10000,
						      .rw = RW_BOTH, .gate = i != 2 };
	p->last_tick = ns_to_ticks(timers_now(dev->machine->timers));
	p->port61 = 0;
	pit_set_irq(p, false);
	pthread_mutex_unlock(&p->lock);
}

static void pit_destroy(struct device *dev)
{
	struct pit *p = (struct pit *)dev;

	if (!p)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_PIT, p);
	(void)bus_remove(dev->machine->ports, PC_PORT_NMI_SC, p);
	timer_fini(&p->timer);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int pit_create(struct machine *machine, const void *config, struct device **ret_device)
{
	struct pit *p = calloc(1, sizeof(*p));
	int ret;

	(void)config;
	if (!p)
		return -ENOMEM;
	p->dev.class = &i8254_class;
	p->dev.machine = machine;
	pthread_mutex_init(&p->lock, NULL);
	timer_init(&p->timer, machine->timers, pit_timer, p);
	pit_reset(&p->dev);
	ret = bus_add(machine->ports, PC_PORT_PIT, 4, &pit_port_ops, p, "i8254");
	if (!ret)
		ret = bus_add(machine->ports, PC_PORT_NMI_SC, 1, &speaker_ops, p, "speaker");
	if (ret) {
		pit_destroy(&p->dev);
		return ret;
	}
	*ret_device = &p->dev;
	return 0;
}

const struct device_class i8254_class = {
	.name = "i8254",
	.create = pit_create,
	.destroy = pit_destroy,
	.reset = pit_reset,
};
