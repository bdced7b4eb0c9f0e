/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart16550.c - the serial port COM1, a 16550A with FIFOs.
 *
 * A byte written is taken at once into the console's buffer, so the transmitter is empty as long as
 * that has room for a FIFO's worth. When the reader is slow, THRE and its interrupt are withheld:
 * an interrupt-driven guest loses nothing. When nobody reads at all for STALL_NS, the rest is
 * discarded, so that a guest that polls is not slowed down for ever.
 *
 * Input waits in the console until the guest wants it: it enabled the receive interrupt, or it
 * polls LSR for it. What a driver leaves in the FIFO when it closes the port goes back. So nothing
 * that was typed (or piped in) early is lost to a driver that clears the FIFO as it starts.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/clock.h"
#include "devices/backend/console.h"
#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pc.h"
#include "machine/timer.h"

#define FIFO_BYTES 16u
#define STALL_NS (2 * NSEC_PER_SEC)
/* So many reads of LSR in a row with the transmitter empty: the guest polls for input. (A writer
 * writes, or turns away, as soon as it sees THRE.) */
#define POLLS_FOR_INPUT 4u

enum { REG_DATA = 0, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_MODEM = 0, IIR_NONE = 1, IIR_THRE = 2, IIR_RX = 4, IIR_LINE = 6, IIR_TIMEOUT = 12,
       IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_MASK = 31 };
enum { LSR_DATA = 1, LSR_OVERRUN = 2, LSR_BREAK = 16, LSR_THRE = 32, LSR_TEMT = 64 };
enum { MSR_CTS = 16, MSR_DSR = 32, MSR_RI = 64, MSR_DCD = 128 };

struct uart {
	struct device dev;
	pthread_mutex_t lock;
	struct console *console;
	struct timer stall;      /* ends the wait for the reader */
	bool waiting;            /* THRE is withheld until there is room, or stall fires */
	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t divisor[2];
	uint8_t msr;             /* bits 7-4; deltas in msr_delta */
	uint8_t msr_delta;
	uint8_t errors;          /* LSR_OVERRUN, LSR_BREAK until LSR is read */
	uint8_t fifo[FIFO_BYTES];
	unsigned head, count;
	unsigned polls;          /* reads of LSR in a row */
	bool thre_pending;
	bool irq;
};

/* --- receiver -------------------------------------------------------------------------------- */

static unsigned uart_rx_size(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned uart_rx_trigger(const struct uart *u)
{
	static const uint8_t levels[4] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

static void uart_rx_push(struct uart *u, uint8_t byte)
{
	if (u->count == uart_rx_size(u)) {
		u->errors |= LSR_OVERRUN;
		return;
	}
	u->fifo[(u->head + u->count++) % FIFO_BYTES] = byte;
}

static bool uart_rx_wanted(const struct uart *u)
{
	return !(u->mcr & MCR_LOOP) && (u->ier & IER_RX || u->polls >= POLLS_FOR_INPUT);
}

static void uart_rx_fill(struct uart *u)
{
	uint8_t byte;

	if (!uart_rx_wanted(u))
		return;
	while (u->count < uart_rx_size(u) && console_get(u->console, &byte))
		uart_rx_push(u, byte);
}

/* Empties the FIFO; what came from the console goes back there. */
static void uart_rx_clear(struct uart *u)
{
	uint8_t bytes[FIFO_BYTES];
	unsigned i;

	for (i = 0; i < u->count; i++)
		bytes[i] = u->fifo[(u->head + i) % FIFO_BYTES];
	if (!(u->mcr & MCR_LOOP))
		console_unget(u->console, bytes, u->count);
	u->head = u->count = 0;
}

/* --- interrupts ------------------------------------------------------------------------------ */

static uint8_t uart_iir(const struct uart *u)
{
	if (u->ier & IER_LINE && u->errors)
		return IIR_LINE;
	if (u->ier & IER_RX && u->count)
		return u->count >= uart_rx_trigger(u) ? IIR_RX : IIR_TIMEOUT;
	if (u->ier & IER_THRE && u->thre_pending)
		return IIR_THRE;
	if (u->ier & IER_MODEM && u->msr_delta)
		return IIR_MODEM;
	return IIR_NONE;
}

/* On a PC, OUT2 lets the interrupt out, and loopback takes all outputs away. */
static void uart_update_irq(struct uart *u)
{
	bool irq = uart_iir(u) != IIR_NONE && (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	if (irq != u->irq)
		irq_set(u->dev.machine->irqs, PC_IRQ_COM1, irq);
	u->irq = irq;
}

/* --- transmitter ----------------------------------------------------------------------------- */

/* Sets the end of the wait for the reader. */
static bool uart_begin_wait(struct uart *u)
{
	uint64_t now = timers_now(u->dev.machine->timers);

	u->waiting = timer_arm(&u->stall, now + STALL_NS) == 0;
	if (!u->waiting) /* no memory for the timer: don't wait at all */
		console_discard(u->console);
	return u->waiting;
}

static bool uart_tx_empty(struct uart *u)
{
	if (u->mcr & MCR_LOOP || console_room(u->console) >= FIFO_BYTES)
		return true;
	return !u->waiting && !uart_begin_wait(u);
}

static void uart_tx(struct uart *u, uint8_t byte)
{
	u->thre_pending = false;
	uart_update_irq(u); /* a new edge for the next THRE, also when it follows at once */
	if (u->mcr & MCR_LOOP)
		uart_rx_push(u, byte);
	else
		(void)console_put(u->console, byte);
	u->thre_pending = uart_tx_empty(u);
	uart_update_irq(u);
}

/* The console has room again, or does not care any more. */
static void uart_tx_resume(struct uart *u)
{
	if (!u->waiting || !uart_tx_empty(u))
		return;
	timer_cancel(&u->stall);
	u->waiting = false;
	u->thre_pending = true;
	uart_update_irq(u);
}

static void uart_stalled(void *opaque, uint64_t now)
{
	struct uart *u = opaque;

	(void)now;
	pthread_mutex_lock(&u->lock);
	if (u->waiting) { /* else it was cancelled while we came */
		if (console_room(u->console) < FIFO_BYTES)
			console_discard(u->console);
		u->waiting = false;
		u->thre_pending = true;
		uart_update_irq(u);
	}
	pthread_mutex_unlock(&u->lock);
}

static void uart_console_input(void *opaque)
{
	struct uart *u = opaque;

	pthread_mutex_lock(&u->lock);
	uart_rx_fill(u);
	uart_update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static void uart_console_room(void *opaque)
{
	struct uart *u = opaque;

	pthread_mutex_lock(&u->lock);
	uart_tx_resume(u);
	pthread_mutex_unlock(&u->lock);
}

/* --- registers ------------------------------------------------------------------------------- */

static uint8_t uart_read_data(struct uart *u)
{
	uint8_t byte = 0;

	if (u->count) {
		byte = u->fifo[u->head];
		u->head = (u->head + 1) % FIFO_BYTES;
		u->count--;
	}
	if (!u->count) { /* the line goes down before it rises for more: an edge per FIFO */
		uart_update_irq(u);
		uart_rx_fill(u);
	}
	return byte;
}

static uint8_t uart_read_iir(struct uart *u)
{
	uint8_t iir = uart_iir(u);

	if (iir == IIR_THRE)
		u->thre_pending = false;
	return iir | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t uart_read_lsr(struct uart *u)
{
	uint8_t lsr;
	bool empty = uart_tx_empty(u);

	u->polls = empty ? u->polls + 1 : 0;
	if (u->polls >= POLLS_FOR_INPUT)
		u->polls = POLLS_FOR_INPUT;
	uart_rx_fill(u);
	lsr = u->errors | (u->count ? LSR_DATA : 0) | (empty ? LSR_THRE | LSR_TEMT : 0);
	u->errors = 0;
	return lsr;
}

static uint8_t uart_read_msr(struct uart *u)
{
	uint8_t msr = u->msr | u->msr_delta;

	u->msr_delta = 0;
	return msr;
}

static uint8_t uart_read_register(struct uart *u, unsigned reg)
{
	bool dlab = u->lcr & LCR_DLAB;

	if (reg != REG_LSR && reg != REG_DATA)
		u->polls = 0;
	switch (reg) {
	case REG_DATA:
		return dlab ? u->divisor[0] : uart_read_data(u);
	case REG_IER:
		return dlab ? u->divisor[1] : u->ier;
	case REG_IIR_FCR:
		return uart_read_iir(u);
	case REG_LCR:
		return u->lcr;
	case REG_MCR:
		return u->mcr;
	case REG_LSR:
		return uart_read_lsr(u);
	case REG_MSR:
		return uart_read_msr(u);
	default:
		return u->scr;
	}
}

/* Outside loopback the far end is always there: CTS, DSR and DCD. */
static void uart_set_modem(struct uart *u)
{
	uint8_t msr = MSR_CTS | MSR_DSR | MSR_DCD, changed;

	if (u->mcr & MCR_LOOP)
		msr = (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
		      (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
	changed = u->msr ^ msr;
	if (msr & MSR_RI)
		changed &= (uint8_t)~MSR_RI; /* RI counts when it ends */
	u->msr_delta |= changed >> 4;
	u->msr = msr;
}

static void uart_write_mcr(struct uart *u, uint8_t value)
{
	if ((u->mcr ^ value) & MCR_LOOP)
		uart_rx_clear(u);
	u->mcr = value & MCR_MASK;
	uart_set_modem(u);
	uart_rx_fill(u);
}

static void uart_write_ier(struct uart *u, uint8_t value)
{
	uint8_t old = u->ier;

	u->ier = value & 0xfu;
	if (old & IER_RX && !(u->ier & IER_RX))
		uart_rx_clear(u);
	uart_rx_fill(u);
	if (!(old & IER_THRE) && u->ier & IER_THRE)
		u->thre_pending = uart_tx_empty(u);
}

static void uart_write_fcr(struct uart *u, uint8_t value)
{
	if ((u->fcr ^ value) & FCR_ENABLE || value & FCR_CLEAR_RX)
		uart_rx_clear(u);
	u->fcr = value & FCR_ENABLE ? value & 0xc9u : 0; /* the rest can't be set without it */
	uart_rx_fill(u);
}

static void uart_write_lcr(struct uart *u, uint8_t value)
{
	/* in loopback a break comes back as one */
	if (u->mcr & MCR_LOOP && value & LCR_BREAK && !(u->lcr & LCR_BREAK)) {
		uart_rx_push(u, 0);
		u->errors |= LSR_BREAK;
	}
	u->lcr = value;
}

static void uart_write_register(struct uart *u, unsigned reg, uint8_t value)
{
	bool dlab = u->lcr & LCR_DLAB;

	u->polls = 0;
	switch (reg) {
	case REG_DATA:
		if (dlab)
			u->divisor[0] = value;
		else
			uart_tx(u, value);
		break;
	case REG_IER:
		if (dlab)
			u->divisor[1] = value;
		else
			uart_write_ier(u, value);
		break;
	case REG_IIR_FCR:
		uart_write_fcr(u, value);
		break;
	case REG_LCR:
		uart_write_lcr(u, value);
		break;
	case REG_MCR:
		uart_write_mcr(u, value);
		break;
	case REG_SCR:
		u->scr = value;
		break;
	default:
		break; /* LSR and MSR are read-only */
	}
}

static void uart_port_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct uart *u = opaque;

	(void)size;
	pthread_mutex_lock(&u->lock);
	*val = uart_read_register(u, (unsigned)offset);
	uart_update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static void uart_port_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct uart *u = opaque;

	(void)size;
	pthread_mutex_lock(&u->lock);
	uart_write_register(u, (unsigned)offset, (uint8_t)val);
	uart_update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static const struct bus_ops uart_ops = { uart_port_read, uart_port_write, 1 };
static const struct console_events uart_console_events = { .input = uart_console_input,
	.room = uart_console_room };

/* --- the device ------------------------------------------------------------------------------ */

static void uart_reset(struct device *dev)
{
	struct uart *u = (struct uart *)dev;

	pthread_mutex_lock(&u->lock);
	uart_rx_clear(u);
	timer_cancel(&u->stall);
	u->waiting = false;
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
	u->divisor[0] = 12; /* 9600 baud */
	u->divisor[1] = 0;
	u->errors = u->msr_delta = 0;
	u->msr = MSR_CTS | MSR_DSR | MSR_DCD;
	u->polls = 0;
	u->thre_pending = false;
	uart_update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static void uart_pause(struct device *dev)
{
	console_sync(((struct uart *)dev)->console);
}

static void uart_destroy(struct device *dev)
{
	struct uart *u = (struct uart *)dev;

	if (!u)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_COM1, u);
	timer_fini(&u->stall);
	console_destroy(u->console);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static int uart_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct uart16550_config *c = config;
	struct uart *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->dev.class = &uart16550_class;
	u->dev.machine = machine;
	pthread_mutex_init(&u->lock, NULL);
	timer_init(&u->stall, machine->timers, uart_stalled, u);
	ret = bus_add(machine->ports, PC_PORT_COM1, 8, &uart_ops, u, "uart16550");
	if (ret)
		goto fail;
	ret = console_create(machine->loop, c->fd, &uart_console_events, u, &u->console);
	if (ret)
		goto fail;
	uart_reset(&u->dev);
	*ret_device = &u->dev;
	return 0;
fail:
	uart_destroy(&u->dev);
	return ret;
}

const struct device_class uart16550_class = {
	.name = "uart16550",
	.create = uart_create,
	.destroy = uart_destroy,
	.reset = uart_reset,
	.pause = uart_pause,
};
