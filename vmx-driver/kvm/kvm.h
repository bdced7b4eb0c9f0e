/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.h - what the files of the KVM engine share.
 *
 * The engine keeps the local APIC in the kernel and every other chip outside (split irqchip).
 *
 * Breaking a running KVM_RUN: run->immediate_exit makes the next entry return at once, and the
 * signal VMX_KVM_SIGNAL, sent to the vCPU's thread only, ends the current one. That signal is
 * blocked in the thread from vmx_vcpu_create() on (and stays so) and is let in by KVM_SET_SIGNAL_MASK
 * only inside KVM_RUN, where it ends the call without ever being delivered: the process's signal
 * handlers are not touched. It is taken off the queue with sigtimedwait().
 */
#ifndef VMX_KVM_KVM_H
#define VMX_KVM_KVM_H

#include <linux/kvm.h>
#include <signal.h>

#include "vmx-driver/engine.h"

#define VMX_KVM_SIGNAL SIGRTMIN

struct kvm_memslot { /* one of the kernel's memory slots; index = its number */
	uint64_t gpa, size;
	uint8_t *host;
	uint32_t flags; /* KVM_MEM_* */
	bool used;
};

struct kvm_route {
	uint64_t address;
	uint32_t data;
	bool enabled;
};

struct kvm_initial { /* state after creation, for vm_reset */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
	void *xsave;
	struct kvm_msrs *msrs;
};

/* The kernel's half of a vCPU. It cannot give one up before the VM ends: a destroyed vCPU's is kept
 * for the next one of that id. */
struct kvm_core {
	int fd; /* -1: none */
	struct kvm_run *run;
	struct kvm_initial initial;
};

struct kvm_vm {
	struct vmx_vm vm;
	struct kvm_core *parked[VMX_VCPUS_MAX]; /* under vm.lock */
	int dev_fd, fd;
	int run_size;
	size_t xsave_size;
	size_t nested_size; /* 0: not offered */
	uint64_t tsc_hz;
	bool have_tsc_deadline, have_readonly_mem, have_user_msr, have_sync_regs;
	struct kvm_cpuid2 *cpuid;   /* of vCPU 0; others differ in their APIC id */
	struct kvm_msr_list *msrs;  /* what vm_reset puts back */

	struct kvm_memslot *slots; /* under vm.lock */
	size_t slot_count, slot_max;

	/* Holding the vCPUs outside KVM_RUN while a mapping is replaced. */
	_Atomic bool hold;
	pthread_mutex_t hold_lock;
	pthread_cond_t hold_changed;

	pthread_mutex_t route_lock;
	struct kvm_route routes[VMX_IOAPIC_PINS];

	uint64_t suspend_tsc; /* guest TSC when time was suspended */
	uint64_t suspend_clock;
};

enum kvm_pending { /* what the last exit left to be completed */
	PENDING_NONE,
	PENDING_ACCESS, /* IO or MEM: any KVM_RUN completes it */
	PENDING_MSR,
	PENDING_EXCEPTION,
};

struct kvm_counters {
	_Atomic uint64_t runs, io, mem, msr, extint, eoi, interrupted, other;
};

struct kvm_vcpu {
	struct vmx_vcpu vcpu;
	struct kvm_core *core;
	int fd;              /* core's */
	struct kvm_run *run; /* core's */
	_Atomic bool in_run; /* between the last look at kicked/hold and the return of KVM_RUN */
	_Atomic bool extint; /* level of LINT0 */
	_Atomic bool nmi, lint1; /* asked for by another thread, done by the owner */
	_Atomic bool shutdown; /* triple-faulted: stays so until INIT, reset or a new activity */
	enum kvm_pending pending;
	uint8_t pending_vector;
	bool fresh;        /* not run since it was reset */
	bool stashed;      /* run holds an exit that a completion produced: next resume returns it */
	int extint_queued; /* vector given to KVM_INTERRUPT since the last real KVM_RUN, or -1 */
	uint32_t debug_applied; /* exception bitmap the kernel was told of */
	bool suspended;
	uint64_t suspend_deadline;
	struct kvm_counters count;
};

/* struct kvm_msrs with room for one. */
struct kvm_one_msr {
	uint32_t nmsrs, pad;
	struct kvm_msr_entry entry;
};

static inline struct kvm_vm *kvm_vm_of(const struct vmx_vm *vm)
{
	return (struct kvm_vm *)vm;
}

static inline struct kvm_vcpu *kvm_vcpu_of(const struct vmx_vcpu *vcpu)
{
	return (struct kvm_vcpu *)vcpu;
}

/* ioctl() that retries what a signal broke; 0 or more, or a negative errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* state.c: -ENOENT where the guest has no such MSR. */
int kvm_read_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
int kvm_write_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value);

/* memory.c */
int kvm_slots_changed(struct vmx_vm *vm, const struct vmx_slots *old, const struct vmx_slots *now);
int kvm_dirty_sync(struct vmx_vm *vm, const struct vmx_slot *slot);
/* A vCPU thread left KVM_RUN, or did not enter it: waits while the VM is held. */
void kvm_hold_point(struct kvm_vcpu *v);

/* cpuid.c: the table for the guest; caller frees. */
int kvm_cpuid_new(struct kvm_vm *k, struct kvm_cpuid2 **ret);
/* Sets the leaves that name the processor itself. */
void kvm_cpuid_set_id(struct kvm_cpuid2 *cpuid, uint32_t apic_id);
/* The TSC's frequency, in leaves 0x15 and 0x40000010. */
void kvm_cpuid_set_tsc(struct kvm_cpuid2 *cpuid, uint64_t tsc_hz);

/* vcpu.c */
int kvm_vcpu_init(struct vmx_vcpu *vcpu);
void kvm_vcpu_fini(struct vmx_vcpu *vcpu);
void kvm_core_free(struct kvm_vm *k, struct kvm_core *core); /* NULL is fine */
int kvm_vcpu_reset(struct kvm_vcpu *v);
void kvm_kick(struct vmx_vcpu *vcpu);
int kvm_interrupt(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector);
int kvm_set_extint(struct vmx_vcpu *vcpu, bool level);

/* run.c */
int kvm_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit);
/* Completes an access whose data is there, so that the state is one between instructions. */
int kvm_complete(struct kvm_vcpu *v);
/* The state goes away: what the kernel would still do to it for the last exit is done now, whatever
 * it is, and not to the next state. */
void kvm_abandon(struct kvm_vcpu *v);

/* exits.c: translates what KVM_RUN returned. 1: *exit is filled; 0: nothing for the caller. */
int kvm_translate_exit(struct kvm_vcpu *v, struct vmx_exit *exit);
/* KVM_RUN itself failed. */
void kvm_exit_failed(struct kvm_vcpu *v, struct vmx_exit *exit, int error);
/* Rip, flags, CS and so on of the exit. */
int kvm_exit_context(struct kvm_vcpu *v, struct vmx_exit *exit);

/* state.c */
int kvm_state_size(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size);
int kvm_read_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size);
int kvm_write_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf, size_t size);

#endif
