/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rig.h - a machine without processors, with a clock that stands still, and a script's verbs.
 */
#ifndef TESTS_DEVICE_RIG_H
#define TESTS_DEVICE_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "machine/device.h"

#define RIG_MEMORY (4u << 20)
#define RIG_MSIS 256

struct rig_msi {
	uint64_t address;
	uint32_t data;
};

struct rig {
	struct machine *machine;
	pthread_mutex_t lock;       /* messages come from worker threads too */
	bool intr;                  /* PIC's INTR wire */
	unsigned intr_edges;        /* rises of it */
	struct rig_msi msi[RIG_MSIS]; /* the first ones; msis counts all */
	unsigned msis;
	uint32_t routed;            /* IOAPIC pins whose route is enabled */
	enum machine_request request;
	int request_code;
	bool mmio;                  /* this run of the case is for virtio over MMIO */
	bool packed;                /* ... with packed rings */
};

/* Fails the program if the machine can't be made. */
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);
struct device *rig_add(struct rig *rig, const struct device_class *class, const void *config);

void rig_out8(struct rig *rig, uint16_t port, uint8_t value);
uint8_t rig_in8(struct rig *rig, uint16_t port);
void rig_out(struct rig *rig, uint16_t port, unsigned size, uint32_t value);
uint32_t rig_in(struct rig *rig, uint16_t port, unsigned size);
void rig_write(struct rig *rig, uint64_t address, unsigned size, uint64_t value);
uint64_t rig_read(struct rig *rig, uint64_t address, unsigned size);
unsigned rig_msis(struct rig *rig); /* messages so far */
void rig_irq(struct rig *rig, unsigned line, bool level);
int rig_ack(struct rig *rig);
void rig_advance(struct rig *rig, uint64_t ns);
/* Turns the loop until `done` says so, or about two seconds of host time are over (false). */
bool rig_turn_until(struct rig *rig, bool (*done)(void *opaque), void *opaque);
void rig_turn(struct rig *rig); /* what is ready now */

/* A listening, non-blocking unix socket with an abstract name of the kernel's choice; aborts. */
int rig_listen(int backlog, struct sockaddr_un *ret_address, socklen_t *ret_len);

/* --- cases ----------------------------------------------------------------------------------- */

struct rig_case {
	const char *name;
	void (*fn)(struct rig *rig);
};

/* Both: one after the other. Rings: both, and each with both ring formats. */
enum rig_transport { RIG_PCI, RIG_MMIO, RIG_BOTH, RIG_RINGS };

struct rig_virtio_case {
	const char *name;
	void (*fn)(struct rig *rig);
	enum rig_transport transport;
};

/* Each case gets a fresh machine. Prints a line per failed check and the sum; the exit status. */
int rig_main(const char *suite, const struct rig_case *cases, size_t n, int argc, char **argv);
/* The same, over the transports that each is for (rig.mmio, rig.packed). */
int rig_virtio_main(const char *suite, const struct rig_virtio_case *cases, size_t n, int argc,
		    char **argv);
void rig_check_failed(const char *file, int line, const char *what);

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition))                                            \
			rig_check_failed(__FILE__, __LINE__, #condition);    \
	} while (0)
#define CHECK_EQ(got, wanted)                                                \
	rig_check_equal(__FILE__, __LINE__, #got, (uint64_t)(got), (uint64_t)(wanted))
void rig_check_equal(const char *file, int line, const char *what, uint64_t got, uint64_t wanted);

#endif
