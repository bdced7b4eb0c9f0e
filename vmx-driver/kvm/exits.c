/* SPDX-License-Identifier: Apache-2.0 */
/* exits.c - from the kernel's exit reasons to those of the contract. */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int kvm_exit_context(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	const struct kvm_run *run = v->run;
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int r = 0;

	if (run->kvm_valid_regs) {
		regs = run->s.regs.regs;
		sregs = run->s.regs.sregs;
		events = run->s.regs.events;
	} else {
		r = kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
		if (r >= 0)
			r = kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);
		if (r >= 0)
			r = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events);
		if (r < 0)
			return r;
	}
	exit->insn_len = 0; /* KVM does not tell */
	exit->cpl = sregs.ss.dpl;
	exit->interrupt_shadow = events.interrupt.shadow;
	exit->cs_selector = sregs.cs.selector;
	exit->cs_base = sregs.cs.base;
	exit->rip = regs.rip;
	exit->rflags = regs.rflags;
	exit->cr8 = run->cr8;
	return 0;
}

void kvm_exit_failed(struct kvm_vcpu *v, struct vmx_exit *exit, int error)
{
	exit->reason = VMX_EXIT_INTERNAL;
	exit->internal.reason = (uint64_t)-error;
	snprintf(exit->internal.text, sizeof(exit->internal.text), "KVM_RUN: %s", strerror(-error));
	v->pending = PENDING_NONE;
	v->count.other++;
	if (kvm_exit_context(v, exit) < 0)
		exit->rip = 0;
}

static void io_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	exit->reason = VMX_EXIT_IO;
	exit->io.port = v->run->io.port;
	exit->io.size = v->run->io.size;
	exit->io.input = v->run->io.direction == KVM_EXIT_IO_IN;
	exit->io.count = v->run->io.count;
	exit->io.buf = (char *)v->run + v->run->io.data_offset;
	v->pending = PENDING_ACCESS;
	v->count.io++;
}

static void mem_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	exit->reason = VMX_EXIT_MEM;
	exit->mem.gpa = v->run->mmio.phys_addr;
	exit->mem.size = (uint8_t)v->run->mmio.len;
	exit->mem.write = v->run->mmio.is_write;
	exit->mem.exec = false;
	exit->mem.gva_valid = false;
	exit->mem.gva = 0;
	exit->mem.buf = v->run->mmio.data;
	exit->mem.insn_bytes_len = 0;
	v->pending = PENDING_ACCESS;
	v->count.mem++;
}

static void msr_exit(struct kvm_vcpu *v, struct vmx_exit *exit, bool write)
{
	exit->reason = VMX_EXIT_MSR;
	exit->msr.index = v->run->msr.index;
	exit->msr.write = write;
	exit->msr.value = write ? v->run->msr.data : 0;
	exit->msr.fault = false;
	v->pending = PENDING_MSR;
	v->count.msr++;
}

static void debug_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	const struct kvm_debug_exit_arch *debug = &v->run->debug.arch;

	v->count.other++;
	exit->reason = VMX_EXIT_DEBUG;
	if (debug->exception >= 32 || !(v->debug_applied >> debug->exception & 1))
		return;
	exit->reason = VMX_EXIT_EXCEPTION;
	exit->exception.vector = (uint8_t)debug->exception;
	exit->exception.has_error_code = false;
	exit->exception.error_code = 0;
	exit->exception.parameter = 0;
	exit->exception.swallow = false;
	v->pending = PENDING_EXCEPTION;
	v->pending_vector = exit->exception.vector;
}

/* The kernel cannot fetch an instruction from where no memory is, and calls that a failed
 * emulation. */
static bool fetch_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	struct kvm_translation t = { .linear_address = exit->cs_base + exit->rip };
	struct vmx_vm *vm = v->vcpu.vm;
	bool mapped;

	if (v->run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
		return false;
	if (kvm_ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return false;
	/* Outside KVM_RUN nothing keeps the list of mappings but its lock. */
	pthread_mutex_lock(&vm->lock);
	mapped = vmx_slot_find(vm->slots, t.physical_address);
	pthread_mutex_unlock(&vm->lock);
	if (mapped)
		return false;
	exit->reason = VMX_EXIT_MEM;
	memset(&exit->mem, 0, sizeof(exit->mem));
	exit->mem.gpa = t.physical_address;
	exit->mem.size = 1;
	exit->mem.exec = true;
	exit->mem.gva_valid = true;
	exit->mem.gva = t.linear_address;
	exit->mem.buf = v->run->mmio.data; /* somewhere to point to: it cannot be completed */
	v->count.mem++;
	return true;
}

static void internal_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that KVM cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "an exception within another one",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an exit while an event was delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit of unknown reason",
	};
	uint32_t n = v->run->internal.suberror;

	if (fetch_exit(v, exit))
		return;
	exit->reason = VMX_EXIT_INTERNAL;
	exit->internal.reason = n;
	snprintf(exit->internal.text, sizeof(exit->internal.text), "KVM internal error %u: %s", n,
		 n < sizeof(names) / sizeof(names[0]) && names[n] ? names[n] : "unknown");
	v->count.other++;
}

static void entry_failed_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	exit->reason = VMX_EXIT_ENTRY_FAILED;
	exit->internal.reason = v->run->fail_entry.hardware_entry_failure_reason;
	snprintf(exit->internal.text, sizeof(exit->internal.text),
		 "the processor refused the guest's state, hardware reason %#llx",
		 (unsigned long long)exit->internal.reason);
	v->count.other++;
}

static void unknown_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	exit->reason = VMX_EXIT_INTERNAL;
	exit->internal.reason = v->run->exit_reason;
	snprintf(exit->internal.text, sizeof(exit->internal.text),
		 "KVM exit %u, which this engine does not know", v->run->exit_reason);
	v->count.other++;
}

int kvm_translate_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	int r = kvm_exit_context(v, exit);

	if (r < 0)
		return r;
	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		io_exit(v, exit);
		return 1;
	case KVM_EXIT_MMIO:
		mem_exit(v, exit);
		return 1;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		if (!v->extint)
			return 0;
		exit->reason = VMX_EXIT_EXTINT;
		v->count.extint++;
		return 1;
	case KVM_EXIT_IOAPIC_EOI:
		exit->reason = VMX_EXIT_APIC_EOI;
		exit->eoi.vector = v->run->eoi.vector;
		v->count.eoi++;
		return 1;
	case KVM_EXIT_X86_RDMSR:
		msr_exit(v, exit, false);
		return 1;
	case KVM_EXIT_X86_WRMSR:
		msr_exit(v, exit, true);
		return 1;
	case KVM_EXIT_DEBUG:
		debug_exit(v, exit);
		return 1;
	case KVM_EXIT_SHUTDOWN:
		exit->reason = VMX_EXIT_SHUTDOWN;
		v->shutdown = true;
		v->count.other++;
		return 1;
	case KVM_EXIT_FAIL_ENTRY:
		entry_failed_exit(v, exit);
		return 1;
	case KVM_EXIT_INTERNAL_ERROR:
		internal_exit(v, exit);
		return 1;
	case KVM_EXIT_INTR:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_TPR_ACCESS:
		return 0;
	default:
		unknown_exit(v, exit);
		return 1;
	}
}
