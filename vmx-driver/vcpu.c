/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu.c - the engine-independent half of a vCPU: its handle, its owner, entering and its state. */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TRANSLATE_ALL                                                                              \
	((uint32_t)(VMX_TRANSLATE_READ | VMX_TRANSLATE_WRITE | VMX_TRANSLATE_EXEC |                \
		    VMX_TRANSLATE_PRIVILEGE_EXEMPT | VMX_TRANSLATE_SET_AD))

#define CACHE_LINE ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

/* The one vCPU of this thread (contract Z3). Thread-local, so it is shared by nobody. */
static _Thread_local struct vmx_vcpu *vcpu_of_thread;

static bool vcpu_ok(const struct vmx_vcpu *vcpu)
{
	return vcpu && vcpu->magic == VMX_VCPU_MAGIC;
}

/* The rule of every "owner" call. */
static int check_owner(const struct vmx_vcpu *vcpu)
{
	if (!vcpu_ok(vcpu))
		return -EBADF;
	if (vcpu_of_thread != vcpu || vcpu->running)
		return -EBADFD;
	return 0;
}

/* A robust mutex held by this thread tells any other one whether this thread still lives. */
static int hold_owner_alive(struct vmx_vcpu *vcpu)
{
	pthread_mutexattr_t attr;
	int r;

	r = pthread_mutexattr_init(&attr);
	if (r)
		return -r;
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	r = pthread_mutex_init(&vcpu->owner_alive, &attr);
	pthread_mutexattr_destroy(&attr);
	if (r)
		return -r;
	pthread_mutex_lock(&vcpu->owner_alive);
	return 0;
}

static void drop_owner_alive(struct vmx_vcpu *vcpu)
{
	pthread_mutex_unlock(&vcpu->owner_alive);
	pthread_mutex_destroy(&vcpu->owner_alive);
}

/* Zeroes. Engines hold vector registers in there, so it begins with a cache line; a large one with a huge
 * page, where the host has those: one fault in place of 512, at 2 to 3 us each. */
static struct vmx_vcpu *alloc_vcpu(size_t size)
{
	size_t align = size < HUGE_PAGE ? CACHE_LINE : HUGE_PAGE;
	/* Of this size it is a mapping of its own, of which only what is touched counts. */
	uint8_t *allocated = calloc(1, size + align), *at;
	struct vmx_vcpu *vcpu;

	if (!allocated)
		return NULL;
	at = allocated + (align - (uintptr_t)allocated % align);
	if (align == HUGE_PAGE)
		(void)madvise(at, size & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
	vcpu = (struct vmx_vcpu *)(void *)at;
	vcpu->allocated = allocated;
	return vcpu;
}

int vmx_vcpu_create(struct vmx_vm *vm, unsigned id, struct vmx_vcpu **ret_vcpu)
{
	struct vmx_vcpu *vcpu;
	int r;

	if (!ret_vcpu)
		return -EINVAL;
	*ret_vcpu = NULL;
	if (!vmx_vm_ok(vm))
		return -EBADF;
	if (id >= VMX_VCPUS_MAX)
		return -EINVAL;
	if (vcpu_of_thread)
		return -EBADFD;
	vcpu = alloc_vcpu(vm->ops->vcpu_size);
	if (!vcpu)
		return -ENOMEM;
	vcpu->id = id;
	vcpu->vm = vm;
	vcpu->owner = pthread_self();
	vcpu->owner_tid = gettid();
	r = hold_owner_alive(vcpu);
	if (r < 0) {
		free(vcpu->allocated);
		return r;
	}
	pthread_mutex_lock(&vm->lock);
	r = vm->vcpus[id] ? -EEXIST : vm->ops->vcpu_init(vcpu);
	if (r >= 0) {
		vcpu->magic = VMX_VCPU_MAGIC;
		vm->vcpus[id] = vcpu;
	}
	pthread_mutex_unlock(&vm->lock);
	if (r < 0) {
		drop_owner_alive(vcpu);
		free(vcpu->allocated);
		return r;
	}
	vcpu_of_thread = vcpu;
	*ret_vcpu = vcpu;
	return 0;
}

/*
 * The calls that any thread may make take the vCPU between these two, so that its owner, woken by
 * such a call, may destroy it at once: destroying waits for those that are still inside.
 */
static int vcpu_get(struct vmx_vcpu *vcpu)
{
	if (!vcpu_ok(vcpu))
		return -EBADF;
	atomic_fetch_add(&vcpu->visitors, 1);
	return 0;
}

static int vcpu_put(struct vmx_vcpu *vcpu, int r)
{
	atomic_fetch_sub(&vcpu->visitors, 1);
	return r;
}

int vmx_vcpu_destroy(struct vmx_vcpu *vcpu)
{
	struct vmx_vm *vm;

	if (!vcpu)
		return 0;
	if (!vcpu_ok(vcpu))
		return -EBADF;
	if (vcpu_of_thread != vcpu) {
		if (pthread_mutex_trylock(&vcpu->owner_alive) != EOWNERDEAD)
			return -EBADFD;
		pthread_mutex_consistent(&vcpu->owner_alive);
	} else if (vcpu->running) {
		return -EBADFD;
	} else {
		vcpu_of_thread = NULL;
	}
	while (atomic_load(&vcpu->visitors))
		sched_yield();
	vm = vcpu->vm;
	pthread_mutex_lock(&vm->lock);
	vcpu->magic = 0;
	vm->vcpus[vcpu->id] = NULL;
	vm->ops->vcpu_fini(vcpu);
	pthread_mutex_unlock(&vm->lock);
	drop_owner_alive(vcpu);
	free(vcpu->allocated);
	return 0;
}

static int enter(struct vmx_vcpu *vcpu)
{
	struct vmx_vm *vm = vcpu->vm;
	int r;

	/* Counts first and looks then, as lock_setup() does the other way round: one sees the other. */
	vcpu->running = true;
	atomic_fetch_add(&vm->running, 1);
	if (!vm->setup && !vm->time_suspended)
		return 0;
	atomic_fetch_sub(&vm->running, 1);
	pthread_mutex_lock(&vm->lock);
	r = vmx_set_time(vm, false);
	if (r >= 0)
		atomic_fetch_add(&vm->running, 1);
	else
		vcpu->running = false;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

/* 0: go on; 1: *exit says why not. */
static int check_entry(struct vmx_vcpu *vcpu, struct vmx_exit *exit)
{
	struct vmx_sregs sregs;
	struct vmx_regs regs;
	const char *wrong;
	int r;

	if (!vcpu->unchecked)
		return 0;
	r = vcpu->vm->ops->read_state(vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
	if (r >= 0)
		r = vcpu->vm->ops->read_state(vcpu, VMX_STATE_SREGS, &sregs, sizeof(sregs));
	if (r < 0)
		return r;
	wrong = vmx_entry_possible(&regs, &sregs);
	vcpu->unchecked = wrong;
	if (!wrong)
		return 0;
	memset(exit, 0, sizeof(*exit));
	exit->reason = VMX_EXIT_ENTRY_FAILED;
	exit->cs_selector = sregs.cs.selector;
	exit->cs_base = sregs.cs.base;
	exit->rip = regs.rip;
	exit->rflags = regs.rflags;
	exit->cr8 = sregs.cr8;
	snprintf(exit->internal.text, sizeof(exit->internal.text), "%s", wrong);
	return 1;
}

int vmx_vcpu_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit)
{
	struct vmx_trap trap;
	int r = check_owner(vcpu);

	if (r < 0)
		return r;
	if (!exit)
		return -EINVAL;
	if (vmx_kick_take(vcpu))
		return -ECANCELED;
	r = check_entry(vcpu, exit);
	if (r)
		return r < 0 ? r : 0;
	r = enter(vcpu);
	if (r < 0)
		return r;
	r = vcpu->vm->ops->resume(vcpu, exit);
	vcpu->running = false;
	atomic_fetch_sub(&vcpu->vm->running, 1);
	if (r < 0)
		return r;
	if (exit->reason == VMX_EXIT_IO)
		exit->io.key = vmx_trap_find(vcpu->vm, VMX_TRAP_IO, exit->io.port, exit->io.size,
					     &trap) ? trap.key : 0;
	else if (exit->reason == VMX_EXIT_MEM)
		exit->mem.key = vmx_trap_find(vcpu->vm, VMX_TRAP_MEM, exit->mem.gpa,
					      exit->mem.size, &trap) ? trap.key : 0;
	return 0;
}

int vmx_vcpu_kick(struct vmx_vcpu *vcpu)
{
	int r = vcpu_get(vcpu);

	if (r < 0)
		return r;
	if (!atomic_exchange(&vcpu->kicked, true))
		vcpu->vm->ops->kick(vcpu);
	return vcpu_put(vcpu, 0);
}

static int interrupt(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector)
{
	unsigned first = 0, last = 0;
	int r;

	switch (type) {
	case VMX_INTERRUPT_FIXED:
		first = 16;
		last = 255;
		break;
	case VMX_INTERRUPT_EXTINT:
	case VMX_INTERRUPT_SIPI:
		last = 255;
		break;
	case VMX_INTERRUPT_NMI:
	case VMX_INTERRUPT_INIT:
	case VMX_INTERRUPT_LINT1:
		break;
	default:
		return -EINVAL;
	}
	if (vector < first || vector > last)
		return -ERANGE;
	if (type == VMX_INTERRUPT_EXTINT) {
		r = check_owner(vcpu);
		if (r < 0)
			return r;
	}
	return vcpu->vm->ops->interrupt ? vcpu->vm->ops->interrupt(vcpu, type, vector) : -ENOTSUP;
}

int vmx_vcpu_interrupt(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector)
{
	int r = vcpu_get(vcpu);

	return r < 0 ? r : vcpu_put(vcpu, interrupt(vcpu, type, vector));
}

int vmx_vcpu_set_extint(struct vmx_vcpu *vcpu, bool level)
{
	int r = vcpu_get(vcpu);

	if (r < 0)
		return r;
	r = vcpu->vm->ops->set_extint ? vcpu->vm->ops->set_extint(vcpu, level) : -ENOTSUP;
	return vcpu_put(vcpu, r);
}

int vmx_vcpu_state_size(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size)
{
	if (!vcpu_ok(vcpu))
		return -EBADF;
	if (!ret_size)
		return -EINVAL;
	*ret_size = 0;
	switch (kind) { /* what does not depend on the engine */
	case VMX_STATE_REGS:
		*ret_size = sizeof(struct vmx_regs);
		return 0;
	case VMX_STATE_SREGS:
		*ret_size = sizeof(struct vmx_sregs);
		return 0;
	case VMX_STATE_DEBUGREGS:
		*ret_size = sizeof(struct vmx_debugregs);
		return 0;
	case VMX_STATE_LAPIC:
		*ret_size = 1024;
		return 0;
	case VMX_STATE_EVENTS:
		*ret_size = sizeof(struct vmx_events);
		return 0;
	case VMX_STATE_ACTIVITY:
		*ret_size = sizeof(uint32_t);
		return 0;
	case VMX_STATE_XSAVE:
	case VMX_STATE_IO:
	case VMX_STATE_NESTED:
		return vcpu->vm->ops->state_size ?
			       vcpu->vm->ops->state_size(vcpu, kind, ret_size) : -ENOTSUP;
	}
	return -EINVAL;
}

static int check_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf,
		       size_t size)
{
	size_t want;
	int r = check_owner(vcpu);

	if (r < 0)
		return r;
	r = vmx_vcpu_state_size(vcpu, kind, &want);
	if (r < 0)
		return r;
	return size == want && (buf || !size) ? 0 : -EINVAL;
}

int vmx_vcpu_read_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size)
{
	int r = check_state(vcpu, kind, buf, size);

	if (r < 0)
		return r;
	if (kind == VMX_STATE_IO) /* write only (Z6) */
		return -EINVAL;
	if (!size)
		return 0;
	return vcpu->vm->ops->read_state(vcpu, kind, buf, size);
}

int vmx_vcpu_write_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf,
			 size_t size)
{
	int r = check_state(vcpu, kind, buf, size);

	if (r >= 0 && !vmx_state_possible(kind, buf))
		r = -EINVAL;
	if (r < 0)
		return r;
	if (!size) /* no nested state here, or no access that waits for data */
		return kind == VMX_STATE_IO ? -ENOENT : 0;
	if (kind == VMX_STATE_REGS || kind == VMX_STATE_SREGS)
		vcpu->unchecked = true;
	return vcpu->vm->ops->write_state(vcpu, kind, buf, size);
}

int vmx_vcpu_read_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	int r = check_owner(vcpu);

	if (r < 0)
		return r;
	if (!ret_value)
		return -EINVAL;
	return vcpu->vm->ops->read_msr ? vcpu->vm->ops->read_msr(vcpu, index, ret_value) : -ENOTSUP;
}

int vmx_vcpu_write_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value)
{
	int r = check_owner(vcpu);

	if (r < 0)
		return r;
	return vcpu->vm->ops->write_msr ? vcpu->vm->ops->write_msr(vcpu, index, value) : -ENOTSUP;
}

static int translate(struct vmx_vcpu *vcpu, uint64_t gva, uint32_t flags,
		     enum vmx_translate_result *ret_result, uint64_t *ret_gpa)
{
	struct vmx_vm *vm = vcpu->vm;
	struct vmx_sregs sregs;
	struct vmx_regs regs;
	int r = vm->ops->read_state(vcpu, VMX_STATE_SREGS, &sregs, sizeof(sregs));

	if (r >= 0)
		r = vm->ops->read_state(vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	*ret_result = vmx_walk(vm->slots, &sregs, regs.rflags, vm->phys_bits ? vm->phys_bits : 52,
			       gva, flags, ret_gpa);
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vmx_vcpu_translate(struct vmx_vcpu *vcpu, uint64_t gva, uint32_t flags,
		       enum vmx_translate_result *ret_result, uint64_t *ret_gpa)
{
	int r = check_owner(vcpu);

	if (r < 0)
		return r;
	if (!ret_result || !ret_gpa || (flags & ~TRANSLATE_ALL))
		return -EINVAL;
	*ret_gpa = 0;
	return vcpu->vm->ops->translate ?
		       vcpu->vm->ops->translate(vcpu, gva, flags, ret_result, ret_gpa) :
		       translate(vcpu, gva, flags, ret_result, ret_gpa);
}
