/* SPDX-License-Identifier: Apache-2.0 */
/* vm.c - the engine-independent half of a VM: its handle, options, life cycle and time. */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

#define VM_FLAGS_ALL ((uint32_t)VMX_VM_NESTED)
#define SOFT_DEBUG_ALL                                                                             \
	((uint32_t)(VMX_SOFT_STEP_ONLY | VMX_SOFT_ONE_INSN | VMX_SOFT_NO_CHAIN | VMX_SOFT_NO_TLB | \
		    VMX_SOFT_TINY_CACHE | VMX_SOFT_MOVED_CODE | VMX_SOFT_RUNS))
#define OPT_ALL                                                                                    \
	((uint32_t)(VMX_OPT_MSR | VMX_OPT_CPUID | VMX_OPT_EXCEPTION | VMX_OPT_RDTSC |              \
		    VMX_OPT_HYPERCALL | VMX_OPT_HALT))

static const struct vmx_engine_ops *const engines[] = { &vmx_kvm_ops, &vmx_soft_ops };

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
	if (!vmx_vm_ok(vm))
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
	return vmx_vm_ok(vm) ? vm->ops->engine : VMX_ENGINE_AUTO;
}

static void unlock_setup(struct vmx_vm *vm)
{
	vm->setup = false;
	pthread_mutex_unlock(&vm->lock);
}

/* Takes vm->lock for a "setup" call: no vCPU runs until unlock. */
static int lock_setup(struct vmx_vm *vm)
{
	if (!vmx_vm_ok(vm))
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
	if (!vmx_vm_ok(vm))
		return -EBADF;
	if ((address & ~0xfffffull) != VMX_APIC_DEFAULT_BASE)
		return -EINVAL;
	return vm->ops->msi ? vm->ops->msi(vm, address, data) : -ENOTSUP;
}

int vmx_vm_ioapic_route(struct vmx_vm *vm, unsigned pin, uint64_t address, uint32_t data,
			bool enabled)
{
	if (!vmx_vm_ok(vm))
		return -EBADF;
	if (pin >= VMX_IOAPIC_PINS)
		return -ERANGE;
	if (enabled && (address & ~0xfffffull) != VMX_APIC_DEFAULT_BASE)
		return -EINVAL;
	return vm->ops->ioapic_route ? vm->ops->ioapic_route(vm, pin, address, data, enabled) : 0;
}

int vmx_set_time(struct vmx_vm *vm, bool suspend)
{
	int r = 0;

	if (vm->time_suspended != suspend) {
		r = vm->ops->suspend_time ? vm->ops->suspend_time(vm, suspend) : -ENOTSUP;
		if (r >= 0)
			vm->time_suspended = suspend;
	}
	return r;
}

static int set_time_alone(struct vmx_vm *vm, bool suspend)
{
	int r = lock_setup(vm);

	if (r < 0)
		return r;
	r = vmx_set_time(vm, suspend);
	unlock_setup(vm);
	return r;
}

int vmx_vm_suspend_time(struct vmx_vm *vm)
{
	return set_time_alone(vm, true);
}

int vmx_vm_resume_time(struct vmx_vm *vm)
{
	return set_time_alone(vm, false);
}

uint64_t vmx_vm_tsc_hz(const struct vmx_vm *vm)
{
	return vmx_vm_ok(vm) && vm->ops->tsc_hz ? vm->ops->tsc_hz(vm) : 0;
}

int vmx_vm_set_exit_options(struct vmx_vm *vm, const struct vmx_exit_options *options,
			    uint32_t *ret_unsupported)
{
	uint32_t unsupported = 0;
	int r;

	if (ret_unsupported)
		*ret_unsupported = 0;
	if (!vmx_vm_ok(vm))
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
	if (!vmx_vm_ok(vm) || !vm->ops->stats)
		return 0;
	return vm->ops->stats(vm, stats, stats ? n : 0);
}

size_t vmx_vm_memory(struct vmx_vm *vm, struct vmx_memory *ret, size_t n)
{
	if (!vmx_vm_ok(vm) || !vm->ops->memory)
		return 0;
	return vm->ops->memory(vm, ret, ret ? n : 0);
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
