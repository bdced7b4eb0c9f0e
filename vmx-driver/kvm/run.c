/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - vmx_vcpu_resume() on KVM: what must be done before, around and after KVM_RUN. */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "common/bytes.h"

/* The signal that ended KVM_RUN is still queued and would end the next one as well. */
static void drain_signal(void)
{
	static const struct timespec now;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, VMX_KVM_SIGNAL);
	sigtimedwait(&set, NULL, &now);
}

/* One KVM_RUN. 0: run->exit_reason is valid; -EINTR: kicked, held, or a real signal. */
static int run_once(struct kvm_vcpu *v, bool immediate)
{
	struct kvm_vm *k = kvm_vm_of(v->vcpu.vm);
	int r;

	v->in_run = true;
	while (k->hold) {
		v->in_run = false;
		kvm_hold_point(v);
		v->in_run = true;
	}
	if (immediate)
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	else
		v->extint_queued = -1;
	r = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
	v->in_run = false;
	if (k->hold)
		kvm_hold_point(v);
	if (r == -EINTR && !immediate)
		drain_signal();
	return r;
}

int kvm_complete(struct kvm_vcpu *v)
{
	int r;

	if (v->pending != PENDING_ACCESS || v->stashed)
		return 0;
	r = run_once(v, true);
	if (r == 0)
		v->stashed = true; /* an instruction of several accesses wants the next one */
	else if (r != -EINTR)
		return r;
	v->pending = PENDING_NONE;
	return 0;
}

void kvm_abandon(struct kvm_vcpu *v)
{
	if (v->pending == PENDING_MSR) {
		v->run->msr.data = 0;
		v->run->msr.error = 0;
		v->pending = PENDING_ACCESS;
	}
	kvm_complete(v);
	v->pending = PENDING_NONE;
}

/* LINT1 as the guest programmed it. */
static int deliver_lint1(struct kvm_vcpu *v)
{
	struct kvm_lapic_state lapic;
	uint32_t lvt;
	int r = kvm_ioctl(v->fd, KVM_GET_LAPIC, &lapic);

	if (r < 0)
		return r;
	lvt = get_le32(lapic.regs + 0x360);
	if (lvt & 1u << 16)
		return 0;
	if ((lvt >> 8 & 7) == 4)
		return kvm_ioctl(v->fd, KVM_NMI, NULL);
	return (lvt >> 8 & 7) == 0 && (lvt & 0xff) >= 16 ?
		       kvm_interrupt(&v->vcpu, VMX_INTERRUPT_FIXED, lvt & 0xff) : 0;
}

static int deliver_asked(struct kvm_vcpu *v)
{
	int r = 0;

	if (v->nmi && atomic_exchange(&v->nmi, false))
		r = kvm_ioctl(v->fd, KVM_NMI, NULL);
	if (r >= 0 && v->lint1 && atomic_exchange(&v->lint1, false))
		r = deliver_lint1(v);
	return r;
}

static int apply_debug(struct kvm_vcpu *v, uint32_t inject)
{
	uint32_t bitmap = v->vcpu.vm->exit_options.exception_bitmap;
	struct kvm_guest_debug debug = { .control = inject };
	int r;

	if (bitmap == v->debug_applied && !inject)
		return 0;
	if (bitmap)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	r = kvm_ioctl(v->fd, KVM_SET_GUEST_DEBUG, &debug);
	if (r >= 0)
		v->debug_applied = bitmap;
	return r;
}

/* Hands the caller's answer to the last exit to the kernel. */
static int take_answer(struct kvm_vcpu *v, const struct vmx_exit *exit)
{
	switch (v->pending) {
	case PENDING_MSR:
		if (exit->reason != VMX_EXIT_MSR)
			return -EINVAL;
		v->run->msr.data = exit->msr.value;
		v->run->msr.error = exit->msr.fault;
		v->pending = PENDING_ACCESS;
		return 0;
	case PENDING_EXCEPTION:
		if (exit->reason != VMX_EXIT_EXCEPTION)
			return -EINVAL;
		v->pending = PENDING_NONE;
		return exit->exception.swallow ? 0 : apply_debug(v, KVM_GUESTDBG_INJECT_BP);
	case PENDING_ACCESS:
	case PENDING_NONE:
		break;
	}
	return apply_debug(v, 0);
}

static int extint_exit(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	exit->reason = VMX_EXIT_EXTINT;
	v->count.extint++;
	return kvm_exit_context(v, exit);
}

/*
 * The level of LINT0 is high: is the guest able to take the interrupt at once? An immediate pass
 * makes the kernel tell. Needed before each entry, since a halted vCPU would sleep in the kernel
 * without ever reporting its interrupt window. 1: yes; 0: no; 2: the pass produced an exit.
 */
static int extint_ready(struct kvm_vcpu *v)
{
	int r = run_once(v, true);

	if (r == 0)
		return 2;
	if (r != -EINTR)
		return r;
	v->pending = PENDING_NONE;
	return v->run->ready_for_interrupt_injection;
}

/*
 * The first KVM_RUN after a reset. The kernel may still want to tell of an EOI from before, which it
 * does before the first instruction, and which no ioctl takes back. As run_once().
 */
static int run_fresh(struct kvm_vcpu *v)
{
	struct kvm_regs before, after;
	int r = kvm_ioctl(v->fd, KVM_GET_REGS, &before);

	v->fresh = false;
	if (r < 0)
		return r;
	r = run_once(v, false);
	if (r < 0 || v->run->exit_reason != KVM_EXIT_IOAPIC_EOI)
		return r;
	r = kvm_ioctl(v->fd, KVM_GET_REGS, &after);
	return r < 0 ? r : before.rip == after.rip ? -EAGAIN : 0;
}

/* 1: *exit is filled; 0: go round again; else an error or -ECANCELED. */
static int step(struct kvm_vcpu *v, struct vmx_exit *exit)
{
	bool evaluated = v->extint;
	int ready = 0, r;

	if (evaluated) {
		ready = extint_ready(v);
		if (ready < 0)
			goto failed;
		if (ready == 2)
			return kvm_translate_exit(v, exit);
	}
	/* What is asked for from here on sets immediate_exit again after its flag. */
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (vmx_kick_take(&v->vcpu))
		return -ECANCELED;
	r = deliver_asked(v);
	if (r < 0)
		return r;
	if (v->extint && !evaluated)
		return 0;
	if (v->extint && ready)
		return extint_exit(v, exit) < 0 ? -EIO : 1;
	v->run->request_interrupt_window = v->extint;
	ready = v->fresh ? run_fresh(v) : run_once(v, false);
	v->count.runs++;
	if (ready >= 0) {
		v->pending = PENDING_NONE;
		return kvm_translate_exit(v, exit);
	}
	if (ready == -EINTR || ready == -EAGAIN) {
		v->pending = PENDING_NONE;
		v->count.interrupted++;
		return 0;
	}
failed:
	kvm_exit_failed(v, exit, ready);
	return 1;
}

int kvm_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	int r = take_answer(v, exit);

	if (r < 0)
		return r;
	if (v->stashed) {
		v->stashed = false;
		r = kvm_translate_exit(v, exit);
		if (r)
			return r < 0 ? r : 0;
	}
	do {
		if (v->shutdown) {
			exit->reason = VMX_EXIT_SHUTDOWN;
			return kvm_exit_context(v, exit);
		}
		r = step(v, exit);
	} while (r == 0);
	return r < 0 ? r : 0;
}
