/* SPDX-License-Identifier: Apache-2.0 */
/* traps.c - the list of traps: what a port or address means to the caller. */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"

/* A BELL of size 0 is one address. */
static uint64_t trap_span(const struct vmx_trap *t)
{
	return t->size ? t->size : 1;
}

static bool trap_hit(const struct vmx_trap *t, enum vmx_trap_kind kind, uint64_t addr,
		     uint64_t size)
{
	if (t->kind != kind)
		return false;
	if (kind == VMX_TRAP_BELL)
		return t->addr == addr && (!t->size || t->size == size);
	return addr >= t->addr && addr - t->addr < t->size;
}

bool vmx_trap_find(struct vmx_vm *vm, enum vmx_trap_kind kind, uint64_t addr, uint64_t size,
		   struct vmx_trap *ret)
{
	bool found = false;

	pthread_rwlock_rdlock(&vm->trap_lock);
	for (size_t i = 0; i < vm->trap_count && !found; i++) {
		found = trap_hit(&vm->traps[i], kind, addr, size);
		if (found && ret)
			*ret = vm->traps[i];
	}
	pthread_rwlock_unlock(&vm->trap_lock);
	return found;
}

/* The lock is held over the write, so that no eventfd is touched after vmx_vm_remove_trap(). */
bool vmx_trap_ring(struct vmx_vm *vm, uint64_t gpa, uint64_t size)
{
	const uint64_t one = 1;
	bool found = false;

	pthread_rwlock_rdlock(&vm->trap_lock);
	for (size_t i = 0; i < vm->trap_count && !found; i++) {
		struct pollfd p = { .fd = vm->traps[i].eventfd, .events = POLLOUT };

		found = trap_hit(&vm->traps[i], VMX_TRAP_BELL, gpa, size);
		/* A counter that a peer drove to its end must not block the vCPU. */
		if (found && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) &&
		    write(p.fd, &one, sizeof(one)) < 0)
			vmx_log(vm, 4, "the bell at %#llx could not be rung: %s",
				(unsigned long long)gpa, strerror(errno));
	}
	pthread_rwlock_unlock(&vm->trap_lock);
	return found;
}

static int check_bell(const struct vmx_trap *t)
{
	if (t->size > 8 || (t->size & (t->size - 1)))
		return -EINVAL;
	if (!range_inside(t->addr, trap_span(t), VMX_GPA_LIMIT))
		return -ERANGE;
	if (t->eventfd < 0)
		return -EINVAL;
	return fcntl(t->eventfd, F_GETFD) < 0 ? -EBADF : 0;
}

static int check_mem(const struct vmx_trap *t)
{
	if (!t->size || (t->addr | t->size) % VMX_PAGE_SIZE || t->eventfd != -1)
		return -EINVAL;
	if (!range_inside(t->addr, t->size, VMX_GPA_LIMIT))
		return -ERANGE;
	/* Z2: the local APIC's page only by itself. (It fires only where the APIC is not.) */
	if (range_overlaps(t->addr, t->size, VMX_APIC_DEFAULT_BASE, VMX_PAGE_SIZE) &&
	    t->size != VMX_PAGE_SIZE)
		return -EINVAL;
	return 0;
}

static int check_trap(const struct vmx_trap *t)
{
	switch (t->kind) {
	case VMX_TRAP_BELL:
		return check_bell(t);
	case VMX_TRAP_MEM:
		return check_mem(t);
	case VMX_TRAP_IO:
		if (!t->size || t->eventfd != -1)
			return -EINVAL;
		return range_inside(t->addr, t->size, 0x10000) ? 0 : -ERANGE;
	}
	return -EINVAL;
}

/* vm->lock held: nobody else changes the list or the mappings. */
static int add_trap(struct vmx_vm *vm, const struct vmx_trap *t)
{
	struct vmx_trap *traps, *old;
	size_t bytes;
	int r;

	if (t->kind == VMX_TRAP_BELL && vmx_slot_find(vm->slots, t->addr))
		return -EINVAL;
	for (size_t i = 0; i < vm->trap_count; i++)
		if (vm->traps[i].kind == t->kind &&
		    range_overlaps(vm->traps[i].addr, trap_span(&vm->traps[i]), t->addr,
				   trap_span(t)))
			return -EEXIST;
	if (!checked_mul(vm->trap_count + 1, sizeof(*traps), &bytes))
		return -ENOMEM;
	traps = malloc(bytes);
	if (!traps)
		return -ENOMEM;
	r = vm->ops->trap_changed ? vm->ops->trap_changed(vm, t, true) : 0;
	if (r < 0) {
		free(traps);
		return r;
	}
	if (vm->trap_count)
		memcpy(traps, vm->traps, vm->trap_count * sizeof(*traps));
	traps[vm->trap_count] = *t;
	pthread_rwlock_wrlock(&vm->trap_lock);
	old = vm->traps;
	vm->traps = traps;
	vm->trap_count++;
	pthread_rwlock_unlock(&vm->trap_lock);
	free(old);
	return 0;
}

int vmx_vm_set_trap(struct vmx_vm *vm, enum vmx_trap_kind kind, uint64_t addr, uint64_t size,
		    int eventfd, uint64_t key)
{
	const struct vmx_trap t = {
		.kind = kind, .addr = addr, .size = size, .key = key, .eventfd = eventfd,
	};
	int r;

	if (!vmx_vm_ok(vm))
		return -EBADF;
	r = check_trap(&t);
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	r = add_trap(vm, &t);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

int vmx_vm_remove_trap(struct vmx_vm *vm, enum vmx_trap_kind kind, uint64_t addr)
{
	struct vmx_trap t;
	int r = -ENOENT;

	if (!vmx_vm_ok(vm))
		return -EBADF;
	if (kind != VMX_TRAP_BELL && kind != VMX_TRAP_MEM && kind != VMX_TRAP_IO)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	for (size_t i = 0; i < vm->trap_count; i++) {
		if (vm->traps[i].kind != kind || vm->traps[i].addr != addr)
			continue;
		t = vm->traps[i];
		pthread_rwlock_wrlock(&vm->trap_lock);
		vm->traps[i] = vm->traps[--vm->trap_count];
		pthread_rwlock_unlock(&vm->trap_lock);
		r = vm->ops->trap_changed ? vm->ops->trap_changed(vm, &t, false) : 0;
		break;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}
