/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - mappings as KVM memory slots.
 *
 * The kernel cannot split or move a slot, only delete and add. So that no vCPU sees the hole in
 * between, and no dirty bit is lost, the vCPUs are held outside KVM_RUN while anything is deleted.
 */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

void kvm_hold_point(struct kvm_vcpu *v)
{
	struct kvm_vm *k = kvm_vm_of(v->vcpu.vm);

	pthread_mutex_lock(&k->hold_lock);
	pthread_cond_broadcast(&k->hold_changed);
	while (k->hold)
		pthread_cond_wait(&k->hold_changed, &k->hold_lock);
	pthread_mutex_unlock(&k->hold_lock);
}

static bool any_in_run(const struct kvm_vm *k)
{
	for (size_t i = 0; i < VMX_VCPUS_MAX; i++) {
		struct vmx_vcpu *vcpu = k->vm.vcpus[i];

		if (vcpu && kvm_vcpu_of(vcpu)->in_run)
			return true;
	}
	return false;
}

static void hold_vcpus(struct kvm_vm *k)
{
	k->hold = true;
	for (size_t i = 0; i < VMX_VCPUS_MAX; i++)
		if (k->vm.vcpus[i])
			kvm_kick(k->vm.vcpus[i]);
	pthread_mutex_lock(&k->hold_lock);
	while (any_in_run(k))
		pthread_cond_wait(&k->hold_changed, &k->hold_lock);
	pthread_mutex_unlock(&k->hold_lock);
}

static void release_vcpus(struct kvm_vm *k)
{
	pthread_mutex_lock(&k->hold_lock);
	k->hold = false;
	pthread_cond_broadcast(&k->hold_changed);
	pthread_mutex_unlock(&k->hold_lock);
}

static int set_region(struct kvm_vm *k, size_t number, const struct kvm_memslot *m, bool remove)
{
	struct kvm_userspace_memory_region region = {
		.slot = (uint32_t)number,
		.flags = remove ? 0 : m->flags,
		.guest_phys_addr = m->gpa,
		.memory_size = remove ? 0 : m->size,
		.userspace_addr = (uintptr_t)m->host,
	};

	return kvm_ioctl(k->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int wanted(const struct kvm_vm *k, const struct vmx_slot *s, struct kvm_memslot *ret)
{
	/* KVM cannot take the right to execute away. */
	if (!(s->flags & VMX_MAP_EXEC))
		return -ENOTSUP;
	if (!(s->flags & VMX_MAP_WRITE) && !k->have_readonly_mem)
		return -ENOTSUP;
	*ret = (struct kvm_memslot){ .gpa = s->gpa, .size = s->size, .host = s->host, .used = true };
	if (!(s->flags & VMX_MAP_WRITE))
		ret->flags |= KVM_MEM_READONLY;
	if (s->flags & VMX_MAP_TRACK_DIRTY)
		ret->flags |= KVM_MEM_LOG_DIRTY_PAGES;
	return 0;
}

static bool same_place(const struct kvm_memslot *a, const struct kvm_memslot *b)
{
	return a->used && b->used && a->gpa == b->gpa && a->size == b->size && a->host == b->host &&
	       (a->flags & KVM_MEM_READONLY) == (b->flags & KVM_MEM_READONLY);
}

static const struct vmx_slot *slot_at(const struct vmx_slots *slots, uint64_t gpa)
{
	const struct vmx_slot *s = vmx_slot_find(slots, gpa);

	return s && s->gpa == gpa ? s : NULL;
}

/* Merges the kernel's dirty log of slot `number` into the bitmap. */
static int fetch_dirty(struct kvm_vm *k, size_t number, uint64_t *dirty)
{
	size_t words = (k->slots[number].size / VMX_PAGE_SIZE + 63) / 64;
	struct kvm_dirty_log log = { .slot = (uint32_t)number };
	uint64_t *bits = calloc(words, sizeof(*bits));
	int r;

	if (!bits)
		return -ENOMEM;
	log.dirty_bitmap = bits;
	r = kvm_ioctl(k->fd, KVM_GET_DIRTY_LOG, &log);
	for (size_t i = 0; r >= 0 && i < words; i++)
		if (bits[i])
			__atomic_fetch_or(&dirty[i], bits[i], __ATOMIC_RELAXED);
	free(bits);
	return r;
}

int kvm_dirty_sync(struct vmx_vm *vm, const struct vmx_slot *slot)
{
	struct kvm_vm *k = kvm_vm_of(vm);

	for (size_t i = 0; i < k->slot_count; i++)
		if (k->slots[i].used && k->slots[i].gpa == slot->gpa)
			return fetch_dirty(k, i, slot->dirty);
	return -ENOENT;
}

static int remove_slot(struct kvm_vm *k, const struct vmx_slots *old, size_t number)
{
	struct kvm_memslot *m = &k->slots[number];
	const struct vmx_slot *s = slot_at(old, m->gpa);
	int r = 0;

	if (s && s->dirty && s->size == m->size && (m->flags & KVM_MEM_LOG_DIRTY_PAGES))
		r = fetch_dirty(k, number, s->dirty);
	if (r >= 0)
		r = set_region(k, number, m, true);
	if (r >= 0)
		m->used = false;
	return r;
}

static int add_slot(struct kvm_vm *k, const struct kvm_memslot *m)
{
	size_t n = 0;
	int r;

	while (n < k->slot_count && k->slots[n].used)
		n++;
	if (n == k->slot_count) {
		struct kvm_memslot *slots;
		size_t count = k->slot_count ? k->slot_count * 2 : 16;

		if (k->slot_count >= k->slot_max)
			return -ENOMEM;
		if (count > k->slot_max)
			count = k->slot_max;
		slots = reallocarray(k->slots, count, sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		memset(slots + k->slot_count, 0, (count - k->slot_count) * sizeof(*slots));
		k->slots = slots;
		k->slot_count = count;
	}
	r = set_region(k, n, m, false);
	if (r >= 0)
		k->slots[n] = *m;
	return r;
}

/* Finds the kernel's slot at the place of m, or slot_count. */
static size_t find_same(const struct kvm_vm *k, const struct kvm_memslot *m)
{
	for (size_t i = 0; i < k->slot_count; i++)
		if (same_place(&k->slots[i], m))
			return i;
	return k->slot_count;
}

static bool is_stale(const struct kvm_vm *k, const struct kvm_memslot *m,
		     const struct vmx_slots *now)
{
	const struct vmx_slot *s = slot_at(now, m->gpa);
	struct kvm_memslot want;

	return m->used && !(s && wanted(k, s, &want) >= 0 && same_place(&want, m));
}

static int apply(struct kvm_vm *k, const struct vmx_slots *old, const struct vmx_slots *now)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < k->slot_count; i++)
		if (is_stale(k, &k->slots[i], now))
			r = remove_slot(k, old, i);
	for (size_t i = 0; r >= 0 && i < now->count; i++) {
		struct kvm_memslot want;
		size_t n;

		r = wanted(k, &now->slot[i], &want);
		if (r < 0)
			break;
		n = find_same(k, &want);
		if (n == k->slot_count) {
			r = add_slot(k, &want);
		} else if (k->slots[n].flags != want.flags) {
			r = set_region(k, n, &want, false);
			if (r >= 0)
				k->slots[n] = want;
		}
	}
	return r;
}

int kvm_slots_changed(struct vmx_vm *vm, const struct vmx_slots *old, const struct vmx_slots *now)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_memslot want;
	bool removes = false;
	int r = 0;

	/* What cannot be is refused before anything is touched. */
	for (size_t i = 0; i < now->count; i++) {
		r = wanted(k, &now->slot[i], &want);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < k->slot_count; i++)
		removes |= is_stale(k, &k->slots[i], now);
	if (removes)
		hold_vcpus(k);
	r = apply(k, old, now);
	if (removes)
		release_vcpus(k);
	return r;
}
