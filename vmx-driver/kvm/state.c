/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - a vCPU's state, between the kernel's structures and those of vmx.h. */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

int kvm_state_size(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size)
{
	const struct kvm_vm *k = kvm_vm_of(vcpu->vm);
	const struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	const struct kvm_run *run = v->run;

	if (kind == VMX_STATE_XSAVE)
		*ret_size = k->xsave_size;
	else if (kind == VMX_STATE_NESTED)
		*ret_size = k->nested_size;
	else if (v->pending != PENDING_ACCESS)
		*ret_size = 0;
	else if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN)
		*ret_size = (size_t)run->io.size * run->io.count;
	else if (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write)
		*ret_size = run->mmio.len;
	return 0;
}

/* The general registers have the kernel's order a, b, c, d; ours is the encoding's. */
static void regs_from(const struct kvm_regs *k, struct vmx_regs *r)
{
	*r = (struct vmx_regs){
		.rax = k->rax, .rcx = k->rcx, .rdx = k->rdx, .rbx = k->rbx,
		.rsp = k->rsp, .rbp = k->rbp, .rsi = k->rsi, .rdi = k->rdi,
		.r8 = k->r8, .r9 = k->r9, .r10 = k->r10, .r11 = k->r11,
		.r12 = k->r12, .r13 = k->r13, .r14 = k->r14, .r15 = k->r15,
		.rip = k->rip, .rflags = k->rflags,
	};
}

static void regs_to(const struct vmx_regs *r, struct kvm_regs *k)
{
	*k = (struct kvm_regs){
		.rax = r->rax, .rcx = r->rcx, .rdx = r->rdx, .rbx = r->rbx,
		.rsp = r->rsp, .rbp = r->rbp, .rsi = r->rsi, .rdi = r->rdi,
		.r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11,
		.r12 = r->r12, .r13 = r->r13, .r14 = r->r14, .r15 = r->r15,
		.rip = r->rip, .rflags = r->rflags,
	};
}

static const struct {
	size_t kvm, vmx;
} segments[] = {
#define SEGMENT(k, v) { offsetof(struct kvm_sregs, k), offsetof(struct vmx_sregs, v) }
	SEGMENT(es, es), SEGMENT(cs, cs), SEGMENT(ss, ss),   SEGMENT(ds, ds),
	SEGMENT(fs, fs), SEGMENT(gs, gs), SEGMENT(ldt, ldtr), SEGMENT(tr, tr),
#undef SEGMENT
};

static void segment_from(const struct kvm_segment *k, struct vmx_segment *s)
{
	*s = (struct vmx_segment){
		.base = k->base,
		.limit = k->limit,
		.selector = k->selector,
		.attributes = (uint16_t)((k->type & 15) | (k->s & 1) << 4 | (k->dpl & 3) << 5 |
					 (k->present & 1) << 7 | (k->avl & 1) << 12 |
					 (k->l & 1) << 13 | (k->db & 1) << 14 | (k->g & 1) << 15),
		.unusable = k->unusable,
	};
}

static void segment_to(const struct vmx_segment *s, struct kvm_segment *k)
{
	*k = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attributes & 15,
		.s = s->attributes >> 4 & 1,
		.dpl = s->attributes >> 5 & 3,
		.present = s->attributes >> 7 & 1,
		.avl = s->attributes >> 12 & 1,
		.l = s->attributes >> 13 & 1,
		.db = s->attributes >> 14 & 1,
		.g = s->attributes >> 15 & 1,
		.unusable = s->unusable,
	};
}

static int read_sregs(struct kvm_vcpu *v, struct vmx_sregs *s)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 0 };
	struct kvm_sregs k;
	int r = kvm_ioctl(v->fd, KVM_GET_SREGS, &k);

	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_GET_XCRS, &xcrs);
	if (r < 0)
		return r;
	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		segment_from((struct kvm_segment *)((char *)&k + segments[i].kvm),
			     (struct vmx_segment *)((char *)s + segments[i].vmx));
	s->gdtr = (struct vmx_table){ k.gdt.base, k.gdt.limit };
	s->idtr = (struct vmx_table){ k.idt.base, k.idt.limit };
	s->cr0 = k.cr0;
	s->cr2 = k.cr2;
	s->cr3 = k.cr3;
	s->cr4 = k.cr4;
	s->cr8 = k.cr8;
	s->efer = k.efer;
	s->apic_base = k.apic_base;
	s->xcr0 = 1;
	for (uint32_t i = 0; i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (xcrs.xcrs[i].xcr == 0)
			s->xcr0 = xcrs.xcrs[i].value;
	return 0;
}

static int write_sregs(struct kvm_vcpu *v, const struct vmx_sregs *s)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = s->xcr0 } };
	struct kvm_sregs k, before;
	int r = kvm_ioctl(v->fd, KVM_GET_SREGS, &k); /* the interrupt bitmap is not ours to change */

	if (r < 0)
		return r;
	before = k;
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		segment_to((const struct vmx_segment *)((const char *)s + segments[i].vmx),
			   (struct kvm_segment *)((char *)&k + segments[i].kvm));
	k.gdt.base = s->gdtr.base;
	k.gdt.limit = s->gdtr.limit;
	k.idt.base = s->idtr.base;
	k.idt.limit = s->idtr.limit;
	k.cr0 = s->cr0;
	k.cr2 = s->cr2;
	k.cr3 = s->cr3;
	k.cr4 = s->cr4;
	k.cr8 = s->cr8;
	k.efer = s->efer;
	k.apic_base = s->apic_base;
	r = kvm_ioctl(v->fd, KVM_SET_SREGS, &k);
	if (r < 0)
		return r;
	r = kvm_ioctl(v->fd, KVM_SET_XCRS, &xcrs);
	if (r < 0) /* all or nothing */
		kvm_ioctl(v->fd, KVM_SET_SREGS, &before);
	/* KVM_RUN takes CR8 from here only without an APIC of the kernel's; keep it right anyway. */
	v->run->cr8 = s->cr8;
	return r;
}

static int read_debugregs(struct kvm_vcpu *v, struct vmx_debugregs *d)
{
	struct kvm_debugregs k;
	int r = kvm_ioctl(v->fd, KVM_GET_DEBUGREGS, &k);

	if (r < 0)
		return r;
	for (size_t i = 0; i < 4; i++)
		d->dr[i] = k.db[i];
	d->dr6 = k.dr6;
	d->dr7 = k.dr7;
	return 0;
}

static int write_debugregs(struct kvm_vcpu *v, const struct vmx_debugregs *d)
{
	struct kvm_debugregs k;

	memset(&k, 0, sizeof(k));
	for (size_t i = 0; i < 4; i++)
		k.db[i] = d->dr[i];
	k.dr6 = d->dr6;
	k.dr7 = d->dr7;
	return kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &k);
}

static int read_events(struct kvm_vcpu *v, struct vmx_events *e)
{
	struct kvm_vcpu_events k;
	struct kvm_mp_state mp;
	int r = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &k);

	if (r >= 0)
		r = kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp);
	if (r < 0)
		return r;
	memset(e, 0, sizeof(*e));
	e->exception_pending = k.exception.injected;
	e->exception_vector = k.exception.nr;
	e->exception_has_error_code = k.exception.has_error_code;
	e->exception_error_code = k.exception.error_code;
	e->nmi_pending = k.nmi.pending || k.nmi.injected || v->nmi;
	e->nmi_blocked = k.nmi.masked;
	e->interrupt_shadow = k.interrupt.shadow;
	/* An interrupt given to KVM_INTERRUPT is not shown by the kernel before it was injected. */
	e->extint_pending = k.interrupt.injected || v->extint_queued >= 0;
	if (k.interrupt.injected)
		e->extint_vector = k.interrupt.nr;
	else if (v->extint_queued >= 0)
		e->extint_vector = (uint8_t)v->extint_queued;
	e->init_pending = (k.flags & KVM_VCPUEVENT_VALID_SMM) && k.smi.latched_init;
	e->sipi_pending = mp.mp_state == KVM_MP_STATE_SIPI_RECEIVED;
	e->sipi_vector = e->sipi_pending ? (uint8_t)k.sipi_vector : 0;
	return 0;
}

static int write_events(struct kvm_vcpu *v, const struct vmx_events *e)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_SIPI_RECEIVED };
	struct kvm_vcpu_events k;
	int r = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &k);

	if (r < 0)
		return r;
	if (e->exception_pending && (e->exception_vector > 31 || e->exception_vector == 2))
		return -EINVAL;
	k.exception.injected = e->exception_pending;
	k.exception.pending = 0;
	k.exception.nr = e->exception_vector;
	k.exception.has_error_code = e->exception_has_error_code;
	k.exception.error_code = e->exception_error_code;
	k.nmi.injected = 0;
	k.nmi.pending = e->nmi_pending;
	k.nmi.masked = e->nmi_blocked;
	k.interrupt.injected = e->extint_pending;
	k.interrupt.nr = e->extint_vector;
	k.interrupt.soft = 0;
	k.interrupt.shadow = e->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0;
	k.sipi_vector = e->sipi_vector;
	if (k.flags & KVM_VCPUEVENT_VALID_SMM)
		k.smi.latched_init = e->init_pending;
	else if (e->init_pending)
		return -ENOTSUP;
	k.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SIPI_VECTOR;
	r = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &k);
	if (r < 0)
		return r;
	v->nmi = false;
	v->extint_queued = -1;
	return e->sipi_pending ? kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp) : 0;
}

static int read_activity(struct kvm_vcpu *v, uint32_t *activity)
{
	struct kvm_mp_state mp;
	int r = kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp);

	if (r < 0)
		return r;
	if (v->shutdown)
		*activity = VMX_SHUTDOWN_STATE;
	else if (mp.mp_state == KVM_MP_STATE_RUNNABLE)
		*activity = VMX_ACTIVE;
	else if (mp.mp_state == KVM_MP_STATE_HALTED || mp.mp_state == KVM_MP_STATE_AP_RESET_HOLD)
		*activity = VMX_HALTED;
	else
		*activity = VMX_WAIT_FOR_SIPI;
	return 0;
}

static int write_activity(struct kvm_vcpu *v, uint32_t activity)
{
	static const uint32_t states[] = {
		[VMX_ACTIVE] = KVM_MP_STATE_RUNNABLE,
		[VMX_HALTED] = KVM_MP_STATE_HALTED,
		[VMX_WAIT_FOR_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
		[VMX_SHUTDOWN_STATE] = KVM_MP_STATE_RUNNABLE,
	};
	struct kvm_mp_state mp;
	int r;

	if (activity >= ARRAY_SIZE(states))
		return -EINVAL;
	mp.mp_state = states[activity];
	r = kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
	if (r >= 0)
		v->shutdown = activity == VMX_SHUTDOWN_STATE;
	return r;
}

static int read_regs(struct kvm_vcpu *v, struct vmx_regs *regs)
{
	struct kvm_regs k;
	int r = kvm_ioctl(v->fd, KVM_GET_REGS, &k);

	if (r >= 0)
		regs_from(&k, regs);
	return r;
}

static int write_regs(struct kvm_vcpu *v, const struct vmx_regs *regs)
{
	struct kvm_regs k;
	int r = 0;

	/* An MSR access that waits for its answer is finished only where it is. */
	if (v->pending == PENDING_MSR)
		r = kvm_ioctl(v->fd, KVM_GET_REGS, &k);
	if (r < 0)
		return r;
	if (v->pending == PENDING_MSR && k.rip != regs->rip)
		kvm_abandon(v);
	regs_to(regs, &k);
	return kvm_ioctl(v->fd, KVM_SET_REGS, &k);
}

static int read_nested(struct kvm_vcpu *v, void *buf, size_t size)
{
	struct kvm_nested_state *n = buf;

	memset(buf, 0, size);
	n->size = (uint32_t)size;
	return kvm_ioctl(v->fd, KVM_GET_NESTED_STATE, n);
}

static int write_nested(struct kvm_vcpu *v, const void *buf, size_t size)
{
	struct kvm_nested_state *n;
	int r;

	if (((const struct kvm_nested_state *)buf)->size > size)
		return -EINVAL;
	n = malloc(size);
	if (!n)
		return -ENOMEM;
	memcpy(n, buf, size);
	r = kvm_ioctl(v->fd, KVM_SET_NESTED_STATE, n);
	free(n);
	return r;
}

/* Puts the data where the caller's buf points to as well. */
static int write_io(struct kvm_vcpu *v, const void *buf, size_t size)
{
	if (v->run->exit_reason == KVM_EXIT_IO)
		memcpy((char *)v->run + v->run->io.data_offset, buf, size);
	else
		memcpy(v->run->mmio.data, buf, size);
	return 0;
}

static int get_state(struct kvm_vcpu *v, enum vmx_state_kind kind, void *buf, size_t size)
{
	switch (kind) {
	case VMX_STATE_REGS:
		return read_regs(v, buf);
	case VMX_STATE_SREGS:
		return read_sregs(v, buf);
	case VMX_STATE_DEBUGREGS:
		return read_debugregs(v, buf);
	case VMX_STATE_XSAVE:
		return kvm_ioctl(v->fd, size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 :
									  KVM_GET_XSAVE, buf);
	case VMX_STATE_LAPIC:
		return kvm_ioctl(v->fd, KVM_GET_LAPIC, buf);
	case VMX_STATE_EVENTS:
		return read_events(v, buf);
	case VMX_STATE_ACTIVITY:
		return read_activity(v, buf);
	case VMX_STATE_NESTED:
		return read_nested(v, buf, size);
	case VMX_STATE_IO:
		break;
	}
	return -EINVAL;
}

int kvm_read_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size)
{
	int r = kvm_complete(kvm_vcpu_of(vcpu));

	if (r >= 0)
		r = get_state(kvm_vcpu_of(vcpu), kind, buf, size);
	return r < 0 ? r : 0;
}

static int set_state(struct kvm_vcpu *v, enum vmx_state_kind kind, const void *buf, size_t size)
{
	switch (kind) {
	case VMX_STATE_REGS:
		return write_regs(v, buf);
	case VMX_STATE_SREGS:
		return write_sregs(v, buf);
	case VMX_STATE_DEBUGREGS:
		return write_debugregs(v, buf);
	case VMX_STATE_XSAVE:
		return kvm_ioctl(v->fd, KVM_SET_XSAVE, (void *)(uintptr_t)buf);
	case VMX_STATE_LAPIC:
		return kvm_ioctl(v->fd, KVM_SET_LAPIC, (void *)(uintptr_t)buf);
	case VMX_STATE_EVENTS:
		return write_events(v, buf);
	case VMX_STATE_ACTIVITY:
		return write_activity(v, *(const uint32_t *)buf);
	case VMX_STATE_NESTED:
		return write_nested(v, buf, size);
	case VMX_STATE_IO:
		return write_io(v, buf, size);
	}
	return -EINVAL;
}

int kvm_write_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf, size_t size)
{
	struct kvm_vcpu *v = kvm_vcpu_of(vcpu);
	int r = kind == VMX_STATE_IO ? 0 : kvm_complete(v);

	if (r >= 0)
		r = set_state(v, kind, buf, size);
	return r < 0 ? r : 0;
}

static int one_msr(struct vmx_vcpu *vcpu, unsigned long request, uint32_t index, uint64_t *value)
{
	struct kvm_one_msr m = { .nmsrs = 1, .entry = { .index = index, .data = *value } };
	int r = kvm_ioctl(kvm_vcpu_of(vcpu)->fd, request, &m);

	*value = m.entry.data;
	if (r < 0)
		return r;
	return r == 1 ? 0 : -ENOENT;
}

int kvm_read_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	int r = kvm_complete(kvm_vcpu_of(vcpu));

	*ret_value = 0;
	return r < 0 ? r : one_msr(vcpu, KVM_GET_MSRS, index, ret_value);
}

int kvm_write_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value)
{
	uint64_t before;
	int r = kvm_complete(kvm_vcpu_of(vcpu));

	if (r >= 0)
		r = one_msr(vcpu, KVM_SET_MSRS, index, &value);
	/* The kernel does not tell an unknown MSR from a bad value. */
	if (r == -ENOENT && one_msr(vcpu, KVM_GET_MSRS, index, (before = 0, &before)) >= 0)
		r = -EINVAL;
	return r;
}
