/* SPDX-License-Identifier: Apache-2.0 */
/* vm.c - the engine over /dev/kvm: the machine's half (capabilities, traps, MSIs, time). */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "common/checked.h"
#include "common/clock.h"

/* Pages that KVM on Intel needs for itself in guest-physical space, where no RAM and no firmware
 * of usual size is. */
#define IDENTITY_MAP_ADDR 0xfeffc000ull
#define TSS_ADDR 0xfeffd000ul

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "memory slots" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit (Linux 4.13)" },
	{ KVM_CAP_SPLIT_IRQCHIP, "split interrupt controller (Linux 4.4)" },
	{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
	{ KVM_CAP_SIGNAL_MSI, "message-signalled interrupts" },
	{ KVM_CAP_IOEVENTFD, "doorbells" },
	{ KVM_CAP_IOEVENTFD_ANY_LENGTH, "doorbells of any length" },
	{ KVM_CAP_MP_STATE, "activity state" },
	{ KVM_CAP_VCPU_EVENTS, "event state" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_XSAVE, "extended state" },
	{ KVM_CAP_XCRS, "XCR0" },
};

static int check_capability(const struct kvm_vm *k, int cap)
{
	int r = ioctl(k->fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

static int check_needed(const struct kvm_vm *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!check_capability(k, needed[i].cap)) {
			vmx_log(&k->vm, 3, "this kernel's KVM lacks: %s", needed[i].name);
			return -ENOTSUP;
		}
	return 0;
}

static int open_device(struct kvm_vm *k)
{
	int r;

	k->dev_fd = k->vm.options.kvm_fd > 0 ? fcntl(k->vm.options.kvm_fd, F_DUPFD_CLOEXEC, 3) :
					       open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (k->dev_fd < 0) {
		r = -errno;
		vmx_log(&k->vm, 3, "/dev/kvm: %s", strerror(-r));
		if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
			return -ENOTSUP;
		return r == -EPERM ? -EACCES : r;
	}
	if (ioctl(k->dev_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		vmx_log(&k->vm, 3, "/dev/kvm does not speak KVM's API version %d", KVM_API_VERSION);
		return -ENOTSUP;
	}
	do
		k->fd = ioctl(k->dev_fd, KVM_CREATE_VM, 0ul);
	while (k->fd < 0 && errno == EINTR);
	if (k->fd < 0) {
		r = -errno;
		vmx_log(&k->vm, 3, "KVM_CREATE_VM: %s", strerror(-r));
		return r == -ENOMEM || r == -EACCES ? r : -ENOTSUP;
	}
	return 0;
}

static int learn_capabilities(struct kvm_vm *k)
{
	int n;

	k->run_size = ioctl(k->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (k->run_size < (int)sizeof(struct kvm_run))
		return -ENOTSUP;
	n = check_capability(k, KVM_CAP_XSAVE2);
	k->xsave_size = n > (int)sizeof(struct kvm_xsave) ? (size_t)n : sizeof(struct kvm_xsave);
	n = check_capability(k, KVM_CAP_NR_MEMSLOTS);
	k->slot_max = n > 0 ? (size_t)n : 32;
	k->have_readonly_mem = check_capability(k, KVM_CAP_READONLY_MEM);
	k->have_user_msr = check_capability(k, KVM_CAP_X86_USER_SPACE_MSR);
	k->have_tsc_deadline = check_capability(k, KVM_CAP_TSC_DEADLINE_TIMER);
	n = check_capability(k, KVM_CAP_SYNC_REGS);
	k->have_sync_regs = (n & KVM_SYNC_X86_VALID_FIELDS) == KVM_SYNC_X86_VALID_FIELDS;
	if (k->vm.options.flags & VMX_VM_NESTED) {
		n = check_capability(k, KVM_CAP_NESTED_STATE);
		if (n <= 0) {
			vmx_log(&k->vm, 3, "this kernel's KVM offers no nested virtualization");
			return -ENOTSUP;
		}
		k->nested_size = (size_t)n;
	}
	return 0;
}

static int make_chips(struct kvm_vm *k)
{
	uint64_t identity = IDENTITY_MAP_ADDR;
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { VMX_IOAPIC_PINS } };
	int r;

	if (check_capability(k, KVM_CAP_SET_IDENTITY_MAP_ADDR)) {
		r = kvm_ioctl(k->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
		if (r < 0)
			return r;
	}
	if (check_capability(k, KVM_CAP_SET_TSS_ADDR) &&
	    ioctl(k->fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
		return -errno;
	return kvm_ioctl(k->fd, KVM_ENABLE_CAP, &split);
}

static uint64_t measure_tsc(void)
{
	uint64_t t0 = clock_monotonic_ns(), c0 = __rdtsc(), t, c;

	do {
		t = clock_monotonic_ns();
		c = __rdtsc();
	} while (t - t0 < NSEC_PER_SEC / 100);
	return (c - c0) * NSEC_PER_SEC / (t - t0);
}

/* The frequency belongs to a vCPU; a passing VM with one tells it before ours has any. */
static uint64_t find_tsc_hz(const struct kvm_vm *k)
{
	int khz, vm_fd, vcpu_fd;

	if (!check_capability(k, KVM_CAP_GET_TSC_KHZ))
		return measure_tsc();
	vm_fd = ioctl(k->dev_fd, KVM_CREATE_VM, 0ul);
	if (vm_fd < 0)
		return measure_tsc();
	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0ul);
	khz = vcpu_fd < 0 ? -1 : ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
	if (vcpu_fd >= 0)
		close(vcpu_fd);
	close(vm_fd);
	return khz > 0 ? (uint64_t)khz * 1000 : measure_tsc();
}

static int list_msrs(struct kvm_vm *k)
{
	struct kvm_msr_list none = { .nmsrs = 0 };
	int r = kvm_ioctl(k->dev_fd, KVM_GET_MSR_INDEX_LIST, &none);

	if (r < 0 && r != -E2BIG)
		return r;
	k->msrs = calloc(1, sizeof(*k->msrs) + none.nmsrs * sizeof(k->msrs->indices[0]));
	if (!k->msrs)
		return -ENOMEM;
	k->msrs->nmsrs = none.nmsrs;
	return kvm_ioctl(k->dev_fd, KVM_GET_MSR_INDEX_LIST, k->msrs);
}

static void vm_fini(struct vmx_vm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);

	for (size_t i = 0; i < VMX_VCPUS_MAX; i++)
		kvm_core_free(k, k->parked[i]);
	if (k->fd >= 0)
		close(k->fd);
	if (k->dev_fd >= 0)
		close(k->dev_fd);
	free(k->cpuid);
	free(k->msrs);
	free(k->slots);
	pthread_mutex_destroy(&k->route_lock);
	pthread_cond_destroy(&k->hold_changed);
	pthread_mutex_destroy(&k->hold_lock);
}

static int vm_init(struct vmx_vm *vm)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	int r;

	k->dev_fd = k->fd = -1;
	pthread_mutex_init(&k->hold_lock, NULL);
	pthread_cond_init(&k->hold_changed, NULL);
	pthread_mutex_init(&k->route_lock, NULL);
	r = open_device(k);
	if (r >= 0)
		r = check_needed(k);
	if (r >= 0)
		r = learn_capabilities(k);
	if (r >= 0)
		r = make_chips(k);
	if (r >= 0)
		r = list_msrs(k);
	if (r >= 0)
		r = kvm_cpuid_new(k, &k->cpuid);
	if (r < 0) {
		vm_fini(vm);
		return r;
	}
	k->tsc_hz = find_tsc_hz(k);
	kvm_cpuid_set_tsc(k->cpuid, k->tsc_hz);
	return 0;
}

static int vm_reset(struct vmx_vm *vm)
{
	for (size_t i = 0; i < VMX_VCPUS_MAX; i++) {
		struct vmx_vcpu *vcpu = vm->vcpus[i];
		int r = vcpu ? kvm_vcpu_reset(kvm_vcpu_of(vcpu)) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static int trap_changed(struct vmx_vm *vm, const struct vmx_trap *trap, bool added)
{
	struct kvm_ioeventfd bell = {
		.addr = trap->addr,
		.len = (uint32_t)trap->size,
		.fd = trap->eventfd,
		.flags = added ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	if (trap->kind != VMX_TRAP_BELL)
		return 0;
	return kvm_ioctl(kvm_vm_of(vm)->fd, KVM_IOEVENTFD, &bell);
}

static int msi(struct vmx_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi m = { .address_lo = (uint32_t)address, .data = data };
	int r = kvm_ioctl(kvm_vm_of(vm)->fd, KVM_SIGNAL_MSI, &m);

	/* 0: the guest blocks it; -1 (EPERM by number): no processor is addressed. Both as on a bus. */
	return r >= 0 || r == -EPERM ? 0 : r;
}

static int ioapic_route(struct vmx_vm *vm, unsigned pin, uint64_t address, uint32_t data,
			bool enabled)
{
	struct { /* struct kvm_irq_routing with room */
		uint32_t nr, flags;
		struct kvm_irq_routing_entry entry[VMX_IOAPIC_PINS];
	} table = { .nr = 0 };
	struct kvm_vm *k = kvm_vm_of(vm);
	int r;

	pthread_mutex_lock(&k->route_lock);
	k->routes[pin] = (struct kvm_route){ address, data, enabled };
	for (unsigned i = 0; i < VMX_IOAPIC_PINS; i++) {
		if (!k->routes[i].enabled)
			continue;
		table.entry[table.nr++] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi.address_lo = (uint32_t)k->routes[i].address,
			.u.msi.data = k->routes[i].data,
		};
	}
	r = kvm_ioctl(k->fd, KVM_SET_GSI_ROUTING, &table);
	pthread_mutex_unlock(&k->route_lock);
	return r < 0 ? r : 0;
}

/*
 * Time. The TSC is put back by its offset: a plain write of the MSR would be taken by the kernel for
 * an attempt to synchronize and ignored when it is less than a second off. How far is measured on one
 * vCPU and the same for all, so that they stay in step; it is nothing on a host with an unstable
 * TSC, whose kernel stops the TSC of a vCPU that does not run. A TSC-deadline timer is disarmed
 * meanwhile. The counting modes of the APIC timer go on (taking the register page out and putting
 * it back could lose an interrupt that arrives in between).
 */
static int vcpu_tsc_offset(struct kvm_vcpu *v, unsigned request, uint64_t *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return kvm_ioctl(v->fd, request, &attr);
}

/* There are kernels (PVM's) that take an offset and do nothing with it. */
static bool tsc_offset_works(struct kvm_vcpu *v, uint64_t offset)
{
	uint64_t before, after, moved = offset - (1ull << 48);
	bool works;

	works = kvm_read_msr(&v->vcpu, 0x10, &before) >= 0 &&
		vcpu_tsc_offset(v, KVM_SET_DEVICE_ATTR, &moved) >= 0 &&
		kvm_read_msr(&v->vcpu, 0x10, &after) >= 0 &&
		before - after > 1ull << 47 && before - after <= 1ull << 48;
	return vcpu_tsc_offset(v, KVM_SET_DEVICE_ATTR, &offset) >= 0 && works;
}

static int suspend_vcpu(struct kvm_vcpu *v)
{
	uint64_t offset;
	int r = vcpu_tsc_offset(v, KVM_GET_DEVICE_ATTR, &offset);

	v->suspend_deadline = 0;
	if (r < 0 || !tsc_offset_works(v, offset))
		return -ENOTSUP;
	if (kvm_read_msr(&v->vcpu, 0x6e0, &v->suspend_deadline) >= 0 && v->suspend_deadline)
		r = kvm_write_msr(&v->vcpu, 0x6e0, 0);
	v->suspended = r >= 0;
	return r;
}

static int resume_vcpu(struct kvm_vcpu *v, uint64_t elapsed, uint64_t least)
{
	uint64_t offset, now;
	int r = vcpu_tsc_offset(v, KVM_GET_DEVICE_ATTR, &offset);

	v->suspended = false;
	if (r < 0)
		return r;
	offset -= elapsed;
	r = vcpu_tsc_offset(v, KVM_SET_DEVICE_ATTR, &offset);
	/* Where the kernel stops the TSC, `elapsed` is what a preemption in between made of it:
	 * never let the guest's time go back for that. */
	if (r >= 0)
		r = kvm_read_msr(&v->vcpu, 0x10, &now);
	if (r >= 0 && (int64_t)(now - least) < 0) {
		r = vcpu_tsc_offset(v, KVM_GET_DEVICE_ATTR, &offset);
		offset += least - now;
		if (r >= 0)
			r = vcpu_tsc_offset(v, KVM_SET_DEVICE_ATTR, &offset);
	}
	if (r >= 0 && v->suspend_deadline)
		r = kvm_write_msr(&v->vcpu, 0x6e0, v->suspend_deadline);
	return r;
}

static int suspend_vcpus(struct kvm_vm *k)
{
	struct kvm_clock_data clock;
	struct kvm_vcpu *last = NULL;
	int r = kvm_ioctl(k->fd, KVM_GET_CLOCK, &clock);

	for (size_t i = 0; r >= 0 && i < VMX_VCPUS_MAX; i++) {
		struct vmx_vcpu *vcpu = k->vm.vcpus[i];

		if (!vcpu)
			continue;
		last = kvm_vcpu_of(vcpu);
		r = suspend_vcpu(last);
	}
	k->suspend_clock = clock.clock;
	if (r >= 0 && last)
		r = kvm_read_msr(&last->vcpu, 0x10, &k->suspend_tsc);
	return r;
}

static int resume_vcpus(struct kvm_vm *k)
{
	struct kvm_clock_data clock = { .clock = k->suspend_clock };
	uint64_t tsc = k->suspend_tsc;
	int r = 0;

	/* Backwards: it begins with the vCPU that suspend_tsc was read from. */
	for (size_t i = VMX_VCPUS_MAX, first = 1; r >= 0 && i > 0; i--) {
		struct vmx_vcpu *vcpu = k->vm.vcpus[i - 1];

		if (!vcpu || !kvm_vcpu_of(vcpu)->suspended)
			continue;
		if (first)
			r = kvm_read_msr(vcpu, 0x10, &tsc);
		first = 0;
		if (r >= 0)
			r = resume_vcpu(kvm_vcpu_of(vcpu), tsc - k->suspend_tsc, k->suspend_tsc);
	}
	return r < 0 ? r : kvm_ioctl(k->fd, KVM_SET_CLOCK, &clock);
}

static int suspend_time(struct vmx_vm *vm, bool suspend)
{
	return suspend ? suspend_vcpus(kvm_vm_of(vm)) : resume_vcpus(kvm_vm_of(vm));
}

static uint64_t tsc_hz(const struct vmx_vm *vm)
{
	return ((const struct kvm_vm *)vm)->tsc_hz;
}

/* Only what the kernel can hand out; the exception bitmap only for #BP. */
static int exit_options(struct vmx_vm *vm, const struct vmx_exit_options *options,
			uint32_t *ret_unsupported)
{
	struct kvm_vm *k = kvm_vm_of(vm);
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = { options->optional & VMX_OPT_MSR ? KVM_MSR_EXIT_REASON_UNKNOWN : 0 },
	};
	uint32_t can = VMX_OPT_EXCEPTION | (k->have_user_msr ? VMX_OPT_MSR : 0);

	if (options->exception_bitmap & ~(1u << 3) ||
	    check_capability(k, KVM_CAP_SET_GUEST_DEBUG) <= 0)
		can &= ~(uint32_t)VMX_OPT_EXCEPTION;
	*ret_unsupported = options->optional & ~can;
	if (*ret_unsupported)
		return -ENOTSUP;
	return k->have_user_msr ? kvm_ioctl(k->fd, KVM_ENABLE_CAP, &cap) : 0;
}

static const struct {
	const char *name;
	size_t offset;
} counters[] = {
#define COUNTER(field) { #field, offsetof(struct kvm_counters, field) }
	COUNTER(runs), COUNTER(io), COUNTER(mem), COUNTER(msr),
	COUNTER(extint), COUNTER(eoi), COUNTER(interrupted), COUNTER(other),
#undef COUNTER
};

static size_t stats(struct vmx_vm *vm, struct vmx_stat *stat, size_t n)
{
	pthread_mutex_lock(&vm->lock); /* against vmx_vcpu_destroy() */
	for (size_t i = 0; i < n && i < ARRAY_SIZE(counters); i++) {
		stat[i] = (struct vmx_stat){ .name = counters[i].name };
		for (size_t c = 0; c < VMX_VCPUS_MAX; c++) {
			struct vmx_vcpu *vcpu = vm->vcpus[c];

			if (vcpu)
				stat[i].value += *(_Atomic uint64_t *)(
					(char *)&kvm_vcpu_of(vcpu)->count + counters[i].offset);
		}
	}
	pthread_mutex_unlock(&vm->lock);
	return ARRAY_SIZE(counters);
}

const struct vmx_engine_ops vmx_kvm_ops = {
	.engine = VMX_ENGINE_KVM,
	.vm_size = sizeof(struct kvm_vm),
	.vcpu_size = sizeof(struct kvm_vcpu),
	.vm_init = vm_init,
	.vm_fini = vm_fini,
	.vm_reset = vm_reset,
	.slots_changed = kvm_slots_changed,
	.dirty_sync = kvm_dirty_sync,
	.trap_changed = trap_changed,
	.msi = msi,
	.ioapic_route = ioapic_route,
	.suspend_time = suspend_time,
	.tsc_hz = tsc_hz,
	.exit_options = exit_options,
	.stats = stats,
	.vcpu_init = kvm_vcpu_init,
	.vcpu_fini = kvm_vcpu_fini,
	.resume = kvm_resume,
	.kick = kvm_kick,
	.interrupt = kvm_interrupt,
	.set_extint = kvm_set_extint,
	.state_size = kvm_state_size,
	.read_state = kvm_read_state,
	.write_state = kvm_write_state,
	.read_msr = kvm_read_msr,
	.write_msr = kvm_write_msr,
};
