/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h - an address space with handlers: the machine has one of ports and one of memory.
 *
 * A handler sees only accesses that lie wholly in its range, of 1, 2, 4 or 8 bytes, naturally
 * aligned (by bus address) and not larger than its max_size: the bus splits all others, lowest
 * address first. What nobody answers reads as all ones; writes there are dropped.
 *
 * The bus looks the handler up, drops its lock and calls. So a handler may add, move and remove
 * ranges itself (a BAR that the guest moves), and a range may be called once more just after it
 * was removed by another thread: `opaque` must live until the vCPU threads are gone.
 */
#ifndef MACHINE_BUS_H
#define MACHINE_BUS_H

#include <stdint.h>

struct bus;

struct bus_ops {
	/* *val is all ones on entry: a handler that does not know the register leaves it. The bus
	 * cuts it to `size` bytes. vCPU threads, several at a time: the device locks itself. */
	void (*read)(void *opaque, uint64_t offset, unsigned size, uint64_t *val);
	/* val is already cut to `size` bytes. */
	void (*write)(void *opaque, uint64_t offset, unsigned size, uint64_t val);
	unsigned max_size; /* 1, 2, 4 or 8; 0 means 8 */
};

/* `limit` is the size of the address space (0x10000 for ports; 0 for all 2^64). NULL: no memory. */
struct bus *bus_create(uint64_t limit);
struct bus *bus_destroy(struct bus *bus); /* NULL is fine; returns NULL */

/* Adds [base, base+size). name (a literal, for messages) and ops must outlive the bus.
 * -EINVAL: empty or outside the space; -EEXIST: overlaps another; -ENOMEM. Any thread. */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *opaque,
	    const char *name);
/* Removes the range that begins at base and belongs to opaque. -ENOENT. Any thread. */
int bus_remove(struct bus *bus, uint64_t base, const void *opaque);

/* One access of 1..8 bytes, at any alignment. *ret_val is always set. Any thread. */
void bus_read(struct bus *bus, uint64_t addr, unsigned size, uint64_t *ret_val);
void bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t val);

#endif
