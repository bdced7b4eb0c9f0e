/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/bus.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

struct range {
	uint64_t base, size;
	const struct bus_ops *ops;
	void *opaque;
	const char *name;
};

struct bus {
	uint64_t last; /* highest address */
	pthread_rwlock_t lock;
	struct range *ranges; /* sorted by base, no two overlap */
	size_t count, capacity;
};

struct bus *bus_create(uint64_t limit)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return NULL;
	bus->last = limit - 1; /* 0 wraps to all of it */
	pthread_rwlock_init(&bus->lock, NULL);
	return bus;
}

struct bus *bus_destroy(struct bus *bus)
{
	if (!bus)
		return NULL;
	pthread_rwlock_destroy(&bus->lock);
	free(bus->ranges);
	free(bus);
	return NULL;
}

/* Index of the first range whose end lies above addr. */
static size_t lower_bound(const struct bus *bus, uint64_t addr)
{
	size_t low = 0, high = bus->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct range *r = &bus->ranges[mid];

		if (r->base + (r->size - 1) < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int insert(struct bus *bus, size_t at, const struct range *new)
{
	if (bus->count == bus->capacity) {
		size_t capacity = bus->capacity ? bus->capacity * 2 : 32;
		struct range *ranges = reallocarray(bus->ranges, capacity, sizeof(*ranges));

		if (!ranges)
			return -ENOMEM;
		bus->ranges = ranges;
		bus->capacity = capacity;
	}
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*new));
	bus->ranges[at] = *new;
	bus->count++;
	return 0;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *opaque,
	    const char *name)
{
	struct range new = { base, size, ops, opaque, name };
	size_t at;
	int r = -EEXIST;

	assert(ops && ops->read && ops->write);
	if (!size || base > bus->last || size - 1 > bus->last - base)
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	at = lower_bound(bus, base);
	if (at == bus->count || bus->ranges[at].base > base + (size - 1))
		r = insert(bus, at, &new);
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

int bus_remove(struct bus *bus, uint64_t base, const void *opaque)
{
	size_t at;
	int r = -ENOENT;

	pthread_rwlock_wrlock(&bus->lock);
	at = lower_bound(bus, base);
	if (at < bus->count && bus->ranges[at].base == base && bus->ranges[at].opaque == opaque) {
		bus->count--;
		memmove(&bus->ranges[at], &bus->ranges[at + 1],
			(bus->count - at) * sizeof(bus->ranges[0]));
		r = 0;
	}
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

/* Copies the range that holds addr, so that no lock is held while its handler runs. */
static bool lookup(struct bus *bus, uint64_t addr, struct range *ret)
{
	size_t at;
	bool found;

	pthread_rwlock_rdlock(&bus->lock);
	at = lower_bound(bus, addr);
	found = at < bus->count && bus->ranges[at].base <= addr;
	if (found)
		*ret = bus->ranges[at];
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

/* The biggest piece at addr that a handler may see: a power of two, aligned, inside the range. */
static unsigned piece(uint64_t addr, unsigned size, const struct range *range)
{
	unsigned max = range->ops->max_size ? range->ops->max_size : 8, n = 1;

	while (n * 2 <= size && n * 2 <= max && addr % (n * 2) == 0 &&
	       addr - range->base + n * 2 <= range->size)
		n *= 2;
	return n;
}

static uint64_t mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

void bus_read(struct bus *bus, uint64_t addr, unsigned size, uint64_t *ret_val)
{
	uint64_t all = 0;
	unsigned n;

	assert(size >= 1 && size <= 8);
	for (unsigned done = 0; done < size; done += n) {
		uint64_t val = UINT64_MAX, at = addr + done;
		struct range range;

		n = 1;
		if (at <= bus->last && lookup(bus, at, &range)) {
			n = piece(at, size - done, &range);
			range.ops->read(range.opaque, at - range.base, n, &val);
		}
		all |= (val & mask(n)) << done * 8;
	}
	*ret_val = all;
}

void bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t val)
{
	unsigned n;

	assert(size >= 1 && size <= 8);
	for (unsigned done = 0; done < size; done += n) {
		uint64_t at = addr + done;
		struct range range;

		if (at > bus->last || !lookup(bus, at, &range)) {
			n = 1;
			continue;
		}
		n = piece(at, size - done, &range);
		range.ops->write(range.opaque, at - range.base, n, (val >> done * 8) & mask(n));
	}
}
