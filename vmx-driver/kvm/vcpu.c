/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu.c - a virtual processor on KVM: made, reset, kicked and interrupted. */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int set_cpuid(struct kvm_vm *k, struct kvm_vcpu *v)
{
	size_t size = sizeof(*k->cpuid) + k->cpuid->nent * sizeof(k->cpuid->entries[0]);
	struct kvm_cpuid2 *c = malloc(size);
	int r;

	if (!c)
		return -ENOMEM;
	memcpy(c, k->cpuid, size);
	kvm_cpuid_set_id(c, v->vcpu.id);
	r = kvm_ioctl(v->fd, KVM_SET_CPUID2, c);
	free(c);
	return r;
}

/* VMX_KVM_SIGNAL is blocked in the thread and let in only inside KVM_RUN (see kvm.h). */
static int set_signal_mask(struct kvm_vcpu *v)
{
	struct { /* struct kvm_signal_mask with room for the kernel's 64 signals */
		uint32_t len;
		uint8_t set[sizeof(uint64_t)];
	} mask = { .len = sizeof(uint64_t) };
	sigset_t block, before;

	sigemptyset(&block);
	sigaddset(&block, VMX_KVM_SIGNAL);
	if (pthread_sigmask(SIG_BLOCK, &block, &before))
		return -EIO;
	sigdelset(&before, VMX_KVM_SIGNAL);
	memcpy(mask.set, &before, sizeof(mask.set));
	return kvm_ioctl(v->fd, KVM_SET_SIGNAL_MASK, &mask);
}

enum { MSR_TSC = 0x10, MSR_MISC_ENABLE = 0x1a0 };
#define MISC_ENABLE_FAST_STRINGS 1u

/* The MSRs that can be both read and written: what vm_reset puts back. */
static int save_msrs(struct kvm_vm *k, struct kvm_vcpu *v)
{
	struct kvm_msrs *m = calloc(1, sizeof(*m) + k->msrs->nmsrs * sizeof(m->entries[0]));

	if (!m)
		return -ENOMEM;
	for (uint32_t i = 0; i < k->msrs->nmsrs; i++) {
		uint64_t value;

		if (kvm_read_msr(&v->vcpu, k->msrs->indices[i], &value) < 0)
			continue;
		if (k->msrs->indices[i] == MSR_TSC) /* starts anew */
			value = 0;
		/* A processor comes up with fast strings, KVM's without: Linux 6.1's memmove() takes
		 * CPUID's word for them (FSRM) and the MSR's against them, and copies for ever. */
		if (k->msrs->indices[i] == MSR_MISC_ENABLE) {
			value |= MISC_ENABLE_FAST_STRINGS;
			(void)kvm_write_msr(&v->vcpu, MSR_MISC_ENABLE, value);
		}
		m->entries[m->nmsrs].index = k->msrs->indices[i];
		m->entries[m->nmsrs++].data = value;
	}
	v->core->initial.msrs = m;
	return 0;
}

static const struct {
	unsigned long get, set;
	size_t offset;
} initial_parts[] = {
	/* In the order of writing: the APIC's base before its registers, MP state after INIT. */
	{ KVM_GET_SREGS, KVM_SET_SREGS, offsetof(struct kvm_initial, sregs) },
	{ KVM_GET_XCRS, KVM_SET_XCRS, offsetof(struct kvm_initial, xcrs) },
	{ KVM_GET_LAPIC, KVM_SET_LAPIC, offsetof(struct kvm_initial, lapic) },
	{ KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, offsetof(struct kvm_initial, events) },
	{ KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, offsetof(struct kvm_initial, debugregs) },
	{ KVM_GET_MP_STATE, KVM_SET_MP_STATE, offsetof(struct kvm_initial, mp) },
	{ KVM_GET_REGS, KVM_SET_REGS, offsetof(struct kvm_initial, regs) },
};

static int save_initial(struct kvm_vm *k, struct kvm_vcpu *v)
{
	bool wide = k->xsave_size > sizeof(struct kvm_xsave);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < sizeof(initial_parts) / sizeof(initial_parts[0]); i++)
		r = kvm_ioctl(v->fd, initial_parts[i].get,
			      (char *)&v->core->initial + initial_parts[i].offset);
	if (r < 0)
		return r;
	v->core->initial.xsave = calloc(1, k->xsave_size);
	if (!v->core->initial.xsave)
		return -ENOMEM;
	r = kvm_ioctl(v->fd, wide ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, v->core->initial.xsave);
	return r < 0 ? r : save_msrs(k, v);
}

static void restore_msrs(struct kvm_vcpu *v)
{
	struct kvm_one_msr one = { .nmsrs = 1 };
	struct kvm_msrs *m = v->core->initial.msrs;
	uint32_t done = 0;

	/* KVM_SET_MSRS stops at the first it refuses (read-only ones): step over it. */
	while (done < m->nmsrs) {
		one.entry = m->entries[done++];
		kvm_ioctl(v->fd, KVM_SET_MSRS, &one);
	}
}

int kvm_vcpu_reset(struct kvm_vcpu *v)
{
	struct kvm_vcpu_events *events = &v->core->initial.events;
	int r = 0;

	kvm_abandon(v);
	v->stashed = v->suspended = false;
	v->nmi = v->lint1 = v->extint = v->shutdown = false;
	v->extint_queued = -1;
	v->fresh = true;
	events->flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
			 KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	for (size_t i = 0; r >= 0 && i < sizeof(initial_parts) / sizeof(initial_parts[0]); i++)
		r = kvm_ioctl(v->fd, initial_parts[i].set,
			      (char *)&v->core->initial + initial_parts[i].offset);
	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_SET_XSAVE, v->core->initial.xsave);
	if (r >= 0)
		restore_msrs(v);
	return r;
}

void kvm_core_free(struct kvm_vm *k, struct kvm_core *core)
{
	if (!core)
		return;
	if (core->run)
		munmap(core->run, (size_t)k->run_size);
	if (core->fd >= 0)
		close(core->fd);
	free(core->initial.xsave);
	free(core->initial.msrs);
	free(core);
}

void kvm_vcpu_fini(struct vmx_vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	kvm_abandon(v);
	kvm_vm_of(vcpu->vm)->parked[vcpu->id] = v->core;
}

static int core_new(struct kvm_vm *k, unsigned id, struct kvm_core **ret)
{
	struct kvm_core *core = calloc(1, sizeof(*core));
	void *run;
	int r = 0;

	if (!core)
		return -ENOMEM;
	core->fd = ioctl(k->fd, KVM_CREATE_VCPU, (unsigned long)id);
	if (core->fd < 0) {
		r = -errno;
		goto fail;
	}
	run = mmap(NULL, (size_t)k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, core->fd, 0);
	if (run == MAP_FAILED) {
		r = -errno;
		goto fail;
	}
	core->run = run;
	if (k->have_sync_regs)
		core->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS |
					    KVM_SYNC_X86_EVENTS;
	*ret = core;
	return 0;
fail:
	kvm_core_free(k, core);
	return r;
}

int kvm_vcpu_init(struct vmx_vcpu *vcpu)
{
	struct kvm_vm *k = kvm_vm_of(vcpu->vm);
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	bool parked = k->parked[vcpu->id];
	int r;

	v->extint_queued = -1;
	if (parked)
		v->core = k->parked[vcpu->id];
	else if ((r = core_new(k, vcpu->id, &v->core)) < 0)
		return r;
	v->fd = v->core->fd;
	v->run = v->core->run;
	r = set_signal_mask(v);
	if (r >= 0 && parked)
		r = kvm_vcpu_reset(v);
	if (r >= 0 && !parked)
		r = set_cpuid(k, v);
	if (r >= 0 && !parked)
		r = save_initial(k, v);
	/* The kernel's map from APIC ids to processors was made before this one was in its list;
	 * writing the registers makes it anew. Without that no INIT finds a new processor. */
	if (r >= 0 && !parked)
		r = kvm_ioctl(v->fd, KVM_SET_LAPIC, &v->core->initial.lapic);
	if (r < 0) {
		vmx_log(vcpu->vm, 3, "KVM vCPU %u: %s", vcpu->id, strerror(-r));
		if (!parked)
			kvm_core_free(k, v->core);
		return r;
	}
	k->parked[vcpu->id] = NULL;
	return 0;
}

/* A hint: the flag was set before, so the thread either sees it before KVM_RUN, or finds
 * immediate_exit there, or is inside and gets the signal. */
void kvm_kick(struct vmx_vcpu *vcpu)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->in_run)
		tgkill(getpid(), vcpu->owner_tid, VMX_KVM_SIGNAL);
}

static int message(struct kvm_vcpu *v, unsigned mode, unsigned vector)
{
	struct kvm_msi m = {
		.address_lo = VMX_APIC_DEFAULT_BASE | v->vcpu.id << 12,
		.data = mode << 8 | vector,
	};
	int r = kvm_ioctl(kvm_vm_of(v->vcpu.vm)->fd, KVM_SIGNAL_MSI, &m);

	return r >= 0 || r == -EPERM ? 0 : r;
}

static int answer_extint(struct kvm_vcpu *v, unsigned vector)
{
	struct kvm_interrupt irq = { .irq = vector };
	int r = kvm_complete(v);

	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_INTERRUPT, &irq);
	if (r >= 0)
		v->extint_queued = (int)vector;
	return r;
}

int kvm_interrupt(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	switch (type) {
	case VMX_INTERRUPT_FIXED:
		return message(v, 0, vector);
	case VMX_INTERRUPT_INIT:
		v->shutdown = false;
		return message(v, 5, 0);
	case VMX_INTERRUPT_SIPI:
		return message(v, 6, vector);
	case VMX_INTERRUPT_EXTINT:
		return answer_extint(v, vector);
	case VMX_INTERRUPT_NMI: /* KVM_NMI would wait for the end of KVM_RUN: the owner does it */
		v->nmi = true;
		break;
	case VMX_INTERRUPT_LINT1:
		v->lint1 = true;
		break;
	}
	kvm_kick(vcpu);
	return 0;
}

int kvm_set_extint(struct vmx_vcpu *vcpu, bool level)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);

	if (atomic_exchange(&v->extint, level) != level && level)
		kvm_kick(vcpu);
	return 0;
}
