/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.c - the keyboard controller of a PC that has no keyboard and no mouse, and port 0x92.
 *
 * It passes its self-test, reports that no device is on either port, keeps the A20 bit (the line
 * itself is always open), and resets the machine. Bytes for a keyboard go nowhere and nothing is
 * ever answered for one, so it raises no interrupts. The ACPI tables say that there is no 8042, so
 * that a guest that reads them need not probe.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "machine/bus.h"
#include "machine/pc.h"

enum { /* status */
	ST_OUTPUT_FULL = 0x01,
	ST_SYSTEM = 0x04,   /* self-test passed */
	ST_COMMAND = 0x08,  /* the last write was a command */
	ST_UNLOCKED = 0x10,
};

enum { /* commands */
	CMD_READ_RAM = 0x20,  /* 0x20..0x3f; 0x20 is the configuration byte */
	CMD_WRITE_RAM = 0x60, /* 0x60..0x7f */
	CMD_AUX_DISABLE = 0xa7,
	CMD_AUX_ENABLE = 0xa8,
	CMD_AUX_TEST = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_KBD_TEST = 0xab,
	CMD_KBD_DISABLE = 0xad,
	CMD_KBD_ENABLE = 0xae,
	CMD_READ_INPUT = 0xc0,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_WRITE_KBD_BUFFER = 0xd2,
	CMD_WRITE_AUX_BUFFER = 0xd3,
	CMD_PULSE = 0xf0, /* 0xf0..0xff: pulses the output bits that are zero */
};

#define OUT_NOT_RESET 0x01u
#define OUT_A20 0x02u
#define CFG_SYSTEM 0x04u
#define CFG_KBD_OFF 0x10u
#define CFG_AUX_OFF 0x20u
#define TEST_CLOCK_LOW 0x01u /* of a port: its clock line is stuck, nothing is plugged in */

#define PORT_A_RESET 0x01u
#define PORT_A_A20 0x02u

struct i8042 {
	struct device dev;
	pthread_mutex_t lock;
	uint8_t status;
	uint8_t data;
	uint8_t pending; /* command that waits for its data byte, or 0 */
	uint8_t ram[32]; /* ram[0] is the configuration byte */
	uint8_t output;
};

static void kbc_answer(struct i8042 *k, uint8_t value)
{
	k->data = value;
	k->status |= ST_OUTPUT_FULL;
}

/* True: the guest asked for a reset. */
static bool kbc_set_output(struct i8042 *k, uint8_t value)
{
	k->output = value | OUT_NOT_RESET;
	return !(value & OUT_NOT_RESET);
}

static bool kbc_command(struct i8042 *k, uint8_t command)
{
	k->status |= ST_COMMAND;
	k->pending = 0;
	switch (command) {
	case CMD_READ_RAM ... CMD_READ_RAM + 31:
		kbc_answer(k, k->ram[command & 31u]);
		break;
	case CMD_WRITE_RAM ... CMD_WRITE_RAM + 31:
	case CMD_WRITE_OUTPUT:
	case CMD_WRITE_KBD_BUFFER:
	case CMD_WRITE_AUX_BUFFER:
		k->pending = command;
		break;
	case CMD_AUX_DISABLE:
		k->ram[0] |= CFG_AUX_OFF;
		break;
	case CMD_AUX_ENABLE:
		k->ram[0] &= (uint8_t)~CFG_AUX_OFF;
		break;
	case CMD_KBD_DISABLE:
		k->ram[0] |= CFG_KBD_OFF;
		break;
	case CMD_KBD_ENABLE:
		k->ram[0] &= (uint8_t)~CFG_KBD_OFF;
		break;
	case CMD_SELF_TEST:
		k->status |= ST_SYSTEM;
		kbc_answer(k, 0x55);
		break;
	case CMD_AUX_TEST:
	case CMD_KBD_TEST:
		kbc_answer(k, TEST_CLOCK_LOW);
		break;
	case CMD_READ_INPUT:
		kbc_answer(k, 0x80);
		break;
	case CMD_READ_OUTPUT:
		kbc_answer(k, k->output);
		break;
	case CMD_PULSE ... CMD_PULSE + 15:
		return !(command & OUT_NOT_RESET);
	default:
		break;
	}
	return false;
}

static bool kbc_data(struct i8042 *k, uint8_t value)
{
	uint8_t command = k->pending;

	k->status &= (uint8_t)~ST_COMMAND;
	k->pending = 0;
	switch (command) {
	case CMD_WRITE_RAM ... CMD_WRITE_RAM + 31:
		k->ram[command & 31u] = value;
		break;
	case CMD_WRITE_OUTPUT:
		return kbc_set_output(k, value);
	case CMD_WRITE_KBD_BUFFER:
	case CMD_WRITE_AUX_BUFFER:
		kbc_answer(k, value);
		break;
	default:
		break; /* for a keyboard that is not there */
	}
	return false;
}

static void kbc_data_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct i8042 *k = opaque;

	(void)offset, (void)size;
	pthread_mutex_lock(&k->lock);
	*val = k->data;
	k->status &= (uint8_t)~ST_OUTPUT_FULL;
	pthread_mutex_unlock(&k->lock);
}

static void kbc_status_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct i8042 *k = opaque;

	(void)offset, (void)size;
	pthread_mutex_lock(&k->lock);
	*val = k->status;
	pthread_mutex_unlock(&k->lock);
}

static void kbc_write(struct i8042 *k, bool (*fn)(struct i8042 *, uint8_t), uint64_t val)
{
	bool reset;

	pthread_mutex_lock(&k->lock);
	reset = fn(k, (uint8_t)val);
	pthread_mutex_unlock(&k->lock);
	if (reset)
		machine_request(k->dev.machine, MACHINE_REQUEST_RESET, 0);
}

static void kbc_data_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)offset, (void)size;
	kbc_write(opaque, kbc_data, val);
}

static void kbc_command_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)offset, (void)size;
	kbc_write(opaque, kbc_command, val);
}

static void port_a_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct i8042 *k = opaque;

	(void)offset, (void)size;
	pthread_mutex_lock(&k->lock);
	*val = k->output & OUT_A20 ? PORT_A_A20 : 0;
	pthread_mutex_unlock(&k->lock);
}

static bool port_a_set(struct i8042 *k, uint8_t val)
{
	k->output = (uint8_t)((k->output & ~OUT_A20) | (val & PORT_A_A20 ? OUT_A20 : 0));
	return val & PORT_A_RESET;
}

static void port_a_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)offset, (void)size;
	kbc_write(opaque, port_a_set, val);
}

static const struct bus_ops kbc_data_ops = { kbc_data_read, kbc_data_write, 1 };
static const struct bus_ops kbc_command_ops = { kbc_status_read, kbc_command_write, 1 };
static const struct bus_ops port_a_ops = { port_a_read, port_a_write, 1 };

static void kbc_reset(struct device *dev)
{
	struct i8042 *k = (struct i8042 *)dev;

	pthread_mutex_lock(&k->lock);
	k->status = ST_SYSTEM | ST_UNLOCKED;
	k->data = k->pending = 0;
	for (unsigned i = 0; i < sizeof(k->ram); i++)
		k->ram[i] = 0;
	k->ram[0] = CFG_SYSTEM | CFG_KBD_OFF | CFG_AUX_OFF;
	k->output = OUT_NOT_RESET | OUT_A20;
	pthread_mutex_unlock(&k->lock);
}

static void kbc_destroy(struct device *dev)
{
	struct i8042 *k = (struct i8042 *)dev;

	if (!k)
		return;
	(void)bus_remove(dev->machine->ports, PC_PORT_KBD, k);
	(void)bus_remove(dev->machine->ports, PC_PORT_KBD_CMD, k);
	(void)bus_remove(dev->machine->ports, PC_PORT_A, k);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

static int kbc_create(struct machine *machine, const void *config, struct device **ret_device)
{
	struct i8042 *k = calloc(1, sizeof(*k));
	int ret;

	(void)config;
	if (!k)
		return -ENOMEM;
	k->dev.class = &i8042_class;
	k->dev.machine = machine;
	pthread_mutex_init(&k->lock, NULL);
	kbc_reset(&k->dev);
	ret = bus_add(machine->ports, PC_PORT_KBD, 1, &kbc_data_ops, k, "i8042-data");
	if (!ret)
		ret = bus_add(machine->ports, PC_PORT_KBD_CMD, 1, &kbc_command_ops, k,
			      "i8042-command");
	if (!ret)
		ret = bus_add(machine->ports, PC_PORT_A, 1, &port_a_ops, k, "port-a");
	if (ret) {
		kbc_destroy(&k->dev);
		return ret;
	}
	*ret_device = &k->dev;
	return 0;
}

const struct device_class i8042_class = {
	.name = "i8042",
	.create = kbc_create,
	.destroy = kbc_destroy,
	.reset = kbc_reset,
};
