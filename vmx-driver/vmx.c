/* SPDX-License-Identifier: Apache-2.0 */
/* vmx.c - the engine-independent half: handles, arguments, threads, life cycle. */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"

#define VM_FLAGS_ALL ((uint32_t)VMX_VM_NESTED)
#define SOFT_DEBUG_ALL                                                                             \
	((uint32_t)(VMX_SOFT_STEP_ONLY | VMX_SOFT_ONE_INSN | VMX_SOFT_NO_CHAIN | VMX_SOFT_NO_TLB | \
		    VMX_SOFT_TINY_CACHE))
#define OPT_ALL                                                                                    \
	((uint32_t)(VMX_OPT_MSR | VMX_OPT_CPUID | VMX_OPT_EXCEPTION | VMX_OPT_RDTSC |              \
		    VMX_OPT_HYPERCALL | VMX_OPT_HALT))
#define TRANSLATE_ALL                                                                              \
	((uint32_t)(VMX_TRANSLATE_READ | VMX_TRANSLATE_WRITE | VMX_TRANSLATE_EXEC |                \
		    VMX_TRANSLATE_PRIVILEGE_EXEMPT | VMX_TRANSLATE_SET_AD))

/* Until the probe is in the tree. */
#pragma weak vmx_probe

static const struct vmx_engine_ops *const engines[] = { &vmx_kvm_ops, &vmx_soft_ops };

/* The one vCPU of this thread (contract Z3). Thread-local, so it is shared by nobody. */
static _Thread_local struct vmx_vcpu *vcpu_of_thread;

static bool vm_ok(const struct vmx_vm *vm)
{
	return vm && vm->magic == VMX_VM_MAGIC;
}

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

void vmx_log(const struct vmx_vm *vm, int level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!vm || !vm->options.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	vm->options.log(vm->options.log_opaque, level, line);
}

static const struct vmx_engine_ops *find_engine(enum vmx_engine engine)
{
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
		if (engines[i]->engine == engine)
			return engines[i];
	return NULL;
}

/* Takes a caller's options of any version: what it has beyond ours must be zero. */
static int copy_options(const struct vmx_vm_options *options, struct vmx_vm_options *ret)
{
	size_t size;

	if (!options)
		return -EINVAL;
	size = options->size;
	if (size < offsetof(struct vmx_vm_options, log) || size > 4096)
		return -EINVAL;
	for (size_t i = sizeof(*ret); i < size; i++)
		if (((const unsigned char *)options)[i])
			return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, options, size < sizeof(*ret) ? size : sizeof(*ret));
	ret->size = sizeof(*ret);
	if (ret->engine != VMX_ENGINE_AUTO && ret->engine != VMX_ENGINE_KVM &&
	    ret->engine != VMX_ENGINE_SOFT)
		return -EINVAL;
	if ((ret->flags & ~VM_FLAGS_ALL) || (ret->soft_debug & ~SOFT_DEBUG_ALL))
		return -EINVAL;
	return 0;
}

int vmx_vm_create(const struct vmx_vm_options *options, struct vmx_vm **ret_vm)
{
	const struct vmx_engine_ops *ops;
	struct vmx_vm_options opt;
	struct vmx_probe probe;
	struct vmx_vm *vm;
	int r;

	if (!ret_vm)
		return -EINVAL;
	*ret_vm = NULL;
	r = copy_options(options, &opt);
	if (r < 0)
		return r;
	if (opt.engine == VMX_ENGINE_AUTO) {
		r = vmx_probe(&probe);
		if (r < 0)
			return r;
		opt.engine = probe.choice;
	}
	ops = find_engine(opt.engine);
	if (!ops)
		return -ENOTSUP;
	vm = calloc(1, ops->vm_size);
	if (!vm)
		return -ENOMEM;
	vm->ops = ops;
	vm->options = opt;
	vm->slots = calloc(1, sizeof(struct vmx_slots));
	if (!vm->slots) {
		free(vm);
		return -ENOMEM;
	}
	pthread_mutex_init(&vm->lock, NULL);
	pthread_rwlock_init(&vm->trap_lock, NULL);
	vm->magic = VMX_VM_MAGIC;
	r = ops->vm_init(vm);
	if (r < 0) {
		vm->magic = 0;
		pthread_rwlock_destroy(&vm->trap_lock);
		pthread_mutex_destroy(&vm->lock);
		free(vm->slots);
		free(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

int vmx_vm_destroy(struct vmx_vm *vm)
{
	struct vmx_slots *slots;

	if (!vm)
		return 0;
	if (!vm_ok(vm))
		return -EBADF;
	pthread_mutex_lock(&vm->lock);
	for (size_t i = 0; i < VMX_VCPUS_MAX; i++)
		if (vm->vcpus[i]) {
			pthread_mutex_unlock(&vm->lock);
			return -EBADFD;
		}
	vm->magic = 0;
	pthread_mutex_unlock(&vm->lock);
	vm->ops->vm_fini(vm);
	slots = vm->slots;
	for (size_t i = 0; i < slots->count; i++)
		free(slots->slot[i].dirty);
	free(slots);
	free(vm->traps);
	pthread_rwlock_destroy(&vm->trap_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	return 0;
}

enum vmx_engine vmx_vm_engine(const struct vmx_vm *vm)
{
	return vm_ok(vm) ? vm->ops->engine : VMX_ENGINE_AUTO;
}

static void unlock_setup(struct vmx_vm *vm)
{
	vm->setup = false;
	pthread_mutex_unlock(&vm->lock);
}

/* Takes vm->lock for a "setup" call: no vCPU runs until unlock. */
static int lock_setup(struct vmx_vm *vm)
{
	if (!vm_ok(vm))
		return -EBADF;
	pthread_mutex_lock(&vm->lock);
	vm->setup = true;
	if (vm->running) {
		unlock_setup(vm);
		return -EBADFD;
	}
	return 0;
}

int vmx_vm_reset(struct vmx_vm *vm)
{
	int r = lock_setup(vm);

	if (r < 0)
		return r;
	r = vm->ops->vm_reset ? vm->ops->vm_reset(vm) : -ENOTSUP;
	for (size_t i = 0; r >= 0 && i < VMX_VCPUS_MAX; i++) {
		struct vmx_vcpu *vcpu = vm->vcpus[i];

		if (vcpu)
			vcpu->kicked = false;
	}
	unlock_setup(vm);
	return r;
}

int vmx_vm_msi(struct vmx_vm *vm, uint64_t address, uint32_t data)
{
	if (!vm_ok(vm))
		return -EBADF;
	if ((address & ~0xfffffull) != VMX_APIC_DEFAULT_BASE)
		return -EINVAL;
	return vm->ops->msi ? vm->ops->msi(vm, address, data) : -ENOTSUP;
}

int vmx_vm_ioapic_route(struct vmx_vm *vm, unsigned pin, uint64_t address, uint32_t data,
			bool enabled)
{
	if (!vm_ok(vm))
		return -EBADF;
	if (pin >= VMX_IOAPIC_PINS)
		return -ERANGE;
	if (enabled && (address & ~0xfffffull) != VMX_APIC_DEFAULT_BASE)
		return -EINVAL;
	return vm->ops->ioapic_route ? vm->ops->ioapic_route(vm, pin, address, data, enabled) : 0;
}

static int set_time(struct vmx_vm *vm, bool suspend)
{
	int r = 0;

	if (vm->time_suspended != suspend) {
		r = vm->ops->suspend_time ? vm->ops->suspend_time(vm, suspend) : -ENOTSUP;
		if (r >= 0)
			vm->time_suspended = suspend;
	}
	return r;
}

int vmx_vm_suspend_time(struct vmx_vm *vm)
{
	int r = lock_setup(vm);

	if (r < 0)
		return r;
	r = set_time(vm, true);
	unlock_setup(vm);
	return r;
}

int vmx_vm_resume_time(struct vmx_vm *vm)
{
	int r = lock_setup(vm);

	if (r < 0)
		return r;
	r = set_time(vm, false);
	unlock_setup(vm);
	return r;
}

uint64_t vmx_vm_tsc_hz(const struct vmx_vm *vm)
{
	return vm_ok(vm) && vm->ops->tsc_hz ? vm->ops->tsc_hz(vm) : 0;
}

int vmx_vm_set_exit_options(struct vmx_vm *vm, const struct vmx_exit_options *options,
			    uint32_t *ret_unsupported)
{
	uint32_t unsupported = 0;
	int r;

	if (ret_unsupported)
		*ret_unsupported = 0;
	if (!vm_ok(vm))
		return -EBADF;
	if (!options || (options->optional & ~OPT_ALL))
		return -EINVAL;
	if (options->exception_bitmap && !(options->optional & VMX_OPT_EXCEPTION))
		return -EINVAL;
	r = lock_setup(vm);
	if (r < 0)
		return r;
	if (vm->ops->exit_options) {
		r = vm->ops->exit_options(vm, options, &unsupported);
	} else if (options->optional) {
		unsupported = options->optional;
		r = -ENOTSUP;
	}
	if (r >= 0)
		vm->exit_options = *options;
	else if (ret_unsupported)
		*ret_unsupported = unsupported;
	unlock_setup(vm);
	return r;
}

size_t vmx_vm_stats(struct vmx_vm *vm, struct vmx_stat *stats, size_t n)
{
	if (!vm_ok(vm) || !vm->ops->stats)
		return 0;
	return vm->ops->stats(vm, stats, stats ? n : 0);
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

int vmx_vcpu_create(struct vmx_vm *vm, unsigned id, struct vmx_vcpu **ret_vcpu)
{
	struct vmx_vcpu *vcpu;
	size_t size;
	int r;

	if (!ret_vcpu)
		return -EINVAL;
	*ret_vcpu = NULL;
	if (!vm_ok(vm))
		return -EBADF;
	if (id >= VMX_VCPUS_MAX)
		return -EINVAL;
	if (vcpu_of_thread)
		return -EBADFD;
	/* Engines hold vector registers in there: whole cache lines. */
	size = (vm->ops->vcpu_size + 63) & ~(size_t)63;
	vcpu = aligned_alloc(64, size);
	if (!vcpu)
		return -ENOMEM;
	memset(vcpu, 0, size);
	vcpu->id = id;
	vcpu->vm = vm;
	vcpu->owner = pthread_self();
	vcpu->owner_tid = gettid();
	r = hold_owner_alive(vcpu);
	if (r < 0) {
		free(vcpu);
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
		free(vcpu);
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
	free(vcpu);
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
	r = set_time(vm, false);
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

const char *vmx_engine_name(enum vmx_engine engine)
{
	switch (engine) {
	case VMX_ENGINE_AUTO:
		return "auto";
	case VMX_ENGINE_KVM:
		return "kvm";
	case VMX_ENGINE_SOFT:
		return "soft";
	}
	return "unknown";
}

const char *vmx_exit_reason_name(enum vmx_exit_reason reason)
{
	static const char *const names[] = {
		[VMX_EXIT_NONE] = "none",	  [VMX_EXIT_IO] = "io",
		[VMX_EXIT_MEM] = "mem",		  [VMX_EXIT_SHUTDOWN] = "shutdown",
		[VMX_EXIT_ENTRY_FAILED] = "entry-failed", [VMX_EXIT_INTERNAL] = "internal",
		[VMX_EXIT_EXTINT] = "extint",	  [VMX_EXIT_APIC_EOI] = "apic-eoi",
		[VMX_EXIT_HALT] = "halt",	  [VMX_EXIT_MSR] = "msr",
		[VMX_EXIT_CPUID] = "cpuid",	  [VMX_EXIT_EXCEPTION] = "exception",
		[VMX_EXIT_RDTSC] = "rdtsc",	  [VMX_EXIT_HYPERCALL] = "hypercall",
		[VMX_EXIT_DEBUG] = "debug",
	};

	return (unsigned)reason < ARRAY_SIZE(names) ? names[reason] : "unknown";
}
