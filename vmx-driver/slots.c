/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots.c - guest-physical mappings: one sorted, immutable array, replaced whole at each change.
 *
 * vCPU threads read the array without a lock; ops->slots_changed() makes sure that none uses the
 * old one before it is freed here.
 */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

#define MAP_ALL                                                                                    \
	((uint32_t)(VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC | VMX_MAP_TRACK_DIRTY | \
		    VMX_MAP_SHARED))

static size_t dirty_words(uint64_t size)
{
	return (size / VMX_PAGE_SIZE + 63) / 64;
}

static void slots_free(struct vmx_slots *slots)
{
	if (!slots)
		return;
	for (size_t i = 0; i < slots->count; i++)
		free(slots->slot[i].dirty);
	free(slots);
}

/* Appends [gpa, gpa+size) with a clean bitmap of its own. The array has room. */
static int slots_append(struct vmx_slots *slots, uint64_t gpa, uint64_t size, uint8_t *host,
			uint32_t flags)
{
	struct vmx_slot *s = &slots->slot[slots->count];

	*s = (struct vmx_slot){ .gpa = gpa, .size = size, .host = host, .flags = flags };
	if (flags & VMX_MAP_TRACK_DIRTY) {
		s->dirty = calloc(dirty_words(size), sizeof(uint64_t));
		if (!s->dirty)
			return -ENOMEM;
	}
	slots->count++;
	return 0;
}

/* What is left of old when [gpa, gpa+size) is cut out; `add` (may be NULL) takes its place. */
static int slots_build(const struct vmx_slots *old, uint64_t gpa, uint64_t size,
		       const struct vmx_slot *add, struct vmx_slots **ret)
{
	uint64_t end = gpa + size;
	struct vmx_slots *now;
	bool added = !add;
	int r = 0;

	/* One cut turns at most one slot into two, and one slot is added. */
	now = calloc(1, sizeof(*now) + (old->count + 2) * sizeof(now->slot[0]));
	if (!now)
		return -ENOMEM;
	for (size_t i = 0; i < old->count && r >= 0; i++) {
		const struct vmx_slot *s = &old->slot[i];
		uint64_t s_end = s->gpa + s->size;

		if (s->gpa < gpa)
			r = slots_append(now, s->gpa, (s_end < gpa ? s_end : gpa) - s->gpa, s->host,
					 s->flags);
		if (r >= 0 && !added && s_end > gpa) {
			r = slots_append(now, gpa, size, add->host, add->flags);
			added = true;
		}
		if (r >= 0 && s_end > end) {
			uint64_t from = s->gpa > end ? s->gpa : end;

			r = slots_append(now, from, s_end - from, s->host + (from - s->gpa),
					 s->flags);
		}
	}
	if (r >= 0 && !added)
		r = slots_append(now, gpa, size, add->host, add->flags);
	if (r < 0) {
		slots_free(now);
		return r;
	}
	*ret = now;
	return 0;
}

/* Carries the dirty bits of every page that is still mapped to the same place over. */
static void carry_dirty(const struct vmx_slots *old, struct vmx_slots *now)
{
	for (size_t i = 0; i < old->count; i++) {
		const struct vmx_slot *o = &old->slot[i];
		uint64_t pages = o->dirty ? o->size / VMX_PAGE_SIZE : 0;

		for (uint64_t p = 0; p < pages; p++) {
			const struct vmx_slot *n;
			uint64_t gpa = o->gpa + p * VMX_PAGE_SIZE, bit;

			if (!o->dirty[p / 64]) {
				p |= 63;
				continue;
			}
			if (!(o->dirty[p / 64] >> (p % 64) & 1))
				continue;
			n = vmx_slot_find(now, gpa);
			if (!n || !n->dirty || n->host + (gpa - n->gpa) != o->host + (gpa - o->gpa))
				continue;
			bit = (gpa - n->gpa) / VMX_PAGE_SIZE;
			__atomic_fetch_or(&n->dirty[bit / 64], 1ull << (bit % 64), __ATOMIC_RELAXED);
		}
	}
}

/* Publishes `now` in place of the current array, or frees it. vm->lock held. */
static int slots_replace(struct vmx_vm *vm, struct vmx_slots *now)
{
	struct vmx_slots *old = vm->slots;
	int r;

	vm->slots = now;
	r = vm->ops->slots_changed ? vm->ops->slots_changed(vm, old, now) : 0;
	if (r < 0) {
		vm->slots = old;
		if (vm->ops->slots_changed(vm, now, old) < 0)
			vmx_log(vm, 3, "the memory map could not be restored after an error");
		carry_dirty(now, old);
		slots_free(now);
		return r;
	}
	carry_dirty(old, now);
	slots_free(old);
	return 0;
}

static int check_range(const struct vmx_vm *vm, uint64_t gpa, uint64_t size)
{
	if (!vmx_vm_ok(vm))
		return -EBADF;
	if (!size || (gpa | size) % VMX_PAGE_SIZE)
		return -EINVAL;
	if (!range_inside(gpa, size, VMX_GPA_LIMIT))
		return -ERANGE;
	return 0;
}

int vmx_vm_map(struct vmx_vm *vm, uint64_t gpa, uint64_t size, void *host, uint32_t flags)
{
	const struct vmx_slot add = { .host = host, .flags = flags };
	struct vmx_slots *now;
	uintptr_t host_end;
	int r = check_range(vm, gpa, size);

	if (r < 0)
		return r;
	if (!host || (uintptr_t)host % VMX_PAGE_SIZE ||
	    !checked_add((uintptr_t)host, size, &host_end))
		return -EINVAL;
	if ((flags & ~MAP_ALL) || !(flags & VMX_MAP_READ))
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	r = slots_build(vm->slots, gpa, size, &add, &now);
	if (r >= 0)
		r = slots_replace(vm, now);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vmx_vm_unmap(struct vmx_vm *vm, uint64_t gpa, uint64_t size)
{
	const struct vmx_slots *old;
	struct vmx_slots *now;
	bool any = false;
	int r = check_range(vm, gpa, size);

	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	old = vm->slots;
	for (size_t i = 0; i < old->count; i++)
		any |= range_overlaps(gpa, size, old->slot[i].gpa, old->slot[i].size);
	r = any ? slots_build(old, gpa, size, NULL, &now) : -ENOENT;
	if (r >= 0)
		r = slots_replace(vm, now);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* Is the range mapped without a hole, every slot with all of `flags`? vm->lock held. */
static bool range_mapped(const struct vmx_slots *slots, uint64_t gpa, uint64_t size, uint32_t flags)
{
	uint64_t end = gpa + size;

	while (gpa < end) {
		const struct vmx_slot *s = vmx_slot_find(slots, gpa);

		if (!s || (s->flags & flags) != flags)
			return false;
		gpa = s->gpa + s->size;
	}
	return true;
}

/* Moves the bits of pages [first, first+n) of slot->dirty to bitmap (may be NULL) from bit `to`. */
static bool take_dirty(const struct vmx_slot *slot, uint64_t first, uint64_t n, uint64_t *bitmap,
		       uint64_t to)
{
	bool any = false;

	while (n) {
		unsigned shift = first % 64;
		uint64_t run = 64 - shift < n ? 64 - shift : n;
		uint64_t mask = (run == 64 ? ~0ull : (1ull << run) - 1) << shift;
		uint64_t bits = __atomic_fetch_and(&slot->dirty[first / 64], ~mask, __ATOMIC_SEQ_CST);

		bits = (bits & mask) >> shift;
		if (bits && bitmap) {
			bitmap[to / 64] |= bits << (to % 64);
			if (to % 64 && bits >> (64 - to % 64))
				bitmap[to / 64 + 1] |= bits >> (64 - to % 64);
		}
		any |= bits != 0;
		first += run;
		to += run;
		n -= run;
	}
	return any;
}

static int slot_dirty(struct vmx_vm *vm, const struct vmx_slot *s, uint64_t gpa, uint64_t len,
		      uint64_t *bitmap, uint64_t to)
{
	int r = vm->ops->dirty_sync ? vm->ops->dirty_sync(vm, s) : 0;

	if (r < 0)
		return r;
	/* Clear first, then re-arm: what is written in between is in memory before the caller
	 * reads the page that it was told of. */
	if (take_dirty(s, (gpa - s->gpa) / VMX_PAGE_SIZE, len / VMX_PAGE_SIZE, bitmap, to) &&
	    vm->ops->dirty_cleared)
		r = vm->ops->dirty_cleared(vm, s, gpa, len);
	return r;
}

int vmx_vm_dirty(struct vmx_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap, size_t words)
{
	uint64_t start = gpa, end = gpa + size;
	int r = check_range(vm, gpa, size);

	if (r < 0)
		return r;
	if (!bitmap && words)
		return -EINVAL;
	if (bitmap && words < dirty_words(size))
		return -ENOBUFS;
	if (bitmap)
		memset(bitmap, 0, words * sizeof(*bitmap));
	pthread_mutex_lock(&vm->lock);
	if (!range_mapped(vm->slots, gpa, size, VMX_MAP_TRACK_DIRTY))
		r = -ENOENT;
	while (r >= 0 && gpa < end) {
		const struct vmx_slot *s = vmx_slot_find(vm->slots, gpa);
		uint64_t s_end = s->gpa + s->size, len = (s_end < end ? s_end : end) - gpa;

		r = slot_dirty(vm, s, gpa, len, bitmap, (gpa - start) / VMX_PAGE_SIZE);
		gpa += len;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* Any alignment: a device writes bytes. */
int vmx_vm_written(struct vmx_vm *vm, uint64_t gpa, uint64_t size)
{
	const struct vmx_slots *slots;
	int r;

	if (!vmx_vm_ok(vm))
		return -EBADF;
	if (!range_inside(gpa, size, VMX_GPA_LIMIT))
		return -ERANGE;
	if (!size)
		return 0;
	pthread_mutex_lock(&vm->lock);
	slots = vm->slots;
	for (size_t i = 0; i < slots->count; i++) {
		const struct vmx_slot *s = &slots->slot[i];
		uint64_t from, to;

		if (!s->dirty || !range_overlaps(gpa, size, s->gpa, s->size))
			continue;
		from = gpa > s->gpa ? (gpa - s->gpa) / VMX_PAGE_SIZE : 0;
		to = gpa + size - 1 < s->gpa + s->size - 1 ? gpa + size - 1 : s->gpa + s->size - 1;
		to = (to - s->gpa) / VMX_PAGE_SIZE;
		for (uint64_t p = from; p <= to; p++)
			__atomic_fetch_or(&s->dirty[p / 64], 1ull << (p % 64), __ATOMIC_RELAXED);
	}
	r = vm->ops->written ? vm->ops->written(vm, gpa, size) : 0;
	pthread_mutex_unlock(&vm->lock);
	return r;
}
