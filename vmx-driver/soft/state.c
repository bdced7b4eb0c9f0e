/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - reading and writing a vCPU's state from outside; only while it is not in resume. */
#include <errno.h>
#include <string.h>

#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/lapic.h"
#include "vmx-driver/soft/mmu.h"
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

#define XSAVE_HEADER 512u

/* vmx_regs names the registers in encoding order. */
_Static_assert(offsetof(struct vmx_regs, r15) == 15 * sizeof(uint64_t), "order of vmx_regs");

/* Recomputes what the processor derives from registers that were written. */
static void settle(struct soft_vcpu *v)
{
	if (!(v->cr0 & CR0_PE))
		v->cpl = 0;
	else if (v->rflags & FL_VM)
		v->cpl = 3;
	else
		v->cpl = (uint8_t)sys_dpl(v->seg[SOFT_SS].attributes);
	soft_update_mode(v);
	soft_request(v, SOFT_REQ_EVENT);
}

/* --- registers ------------------------------------------------------------------------------ */

static void read_regs(struct soft_vcpu *v, struct vmx_regs *r)
{
	memcpy(r, v->gpr, sizeof(v->gpr));
	r->rip = v->rip;
	r->rflags = soft_get_rflags(v);
}

static int write_regs(struct soft_vcpu *v, const struct vmx_regs *r)
{
	/* An instruction that waits for the caller's answer is finished only where it is; an
	 * exception that does is delivered, or swallowed, wherever RIP goes. */
	if (r->rip != v->rip && !(v->exit_pending && v->restart_event))
		soft_forget_exit(v);
	memcpy(v->gpr, r, sizeof(v->gpr));
	v->rip = v->next_rip = r->rip;
	soft_set_rflags(v, r->rflags);
	settle(v);
	return 0;
}

static void read_sregs(struct soft_vcpu *v, struct vmx_sregs *s)
{
	memset(s, 0, sizeof(*s));
	memcpy(&s->es, v->seg, sizeof(v->seg));
	s->gdtr = v->gdtr;
	s->idtr = v->idtr;
	s->cr0 = v->cr0;
	s->cr2 = v->exc_pending && v->exc.vector == EXC_PF ? v->exc.cr2 : v->cr2;
	s->cr3 = v->cr3;
	s->cr4 = v->cr4;
	s->cr8 = soft_lapic_get_cr8(v);
	s->efer = v->efer;
	s->apic_base = v->apic_base;
	s->xcr0 = v->xcr0;
}

static bool control_registers_ok(const struct soft_vcpu *v, const struct vmx_sregs *s)
{
	const struct soft_cpuid *id = sys_cpuid(v);
	bool lma = (s->efer & EFER_LME) && (s->cr0 & CR0_PG);

	if (s->cr0 >> 32 || ((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE)) ||
	    ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)))
		return false;
	if ((s->cr4 & ~id->cr4_mask) || (s->cr3 & ~id->phys_mask) || s->cr8 > 15)
		return false;
	if ((s->efer & ~(id->efer_mask | EFER_LMA)) || lma != !!(s->efer & EFER_LMA))
		return false;
	if (lma && (!(s->cr4 & CR4_PAE) || ((s->cs.attributes & SEG_L) &&
					    (s->cs.attributes & SEG_DB))))
		return false;
	return (s->xcr0 & 1) && !(s->xcr0 & ~soft_xcr0_offered(soft_vm_of(v)));
}

static bool apic_base_ok(const struct soft_vcpu *v, uint64_t base)
{
	return (base >> 10 & 3) != 1 && !(base & 0x2ff) && !(base & v->pa_reserved) && !(base >> 52);
}

static int write_sregs(struct soft_vcpu *v, const struct vmx_sregs *s)
{
	uint64_t cr0 = v->cr0, cr3 = v->cr3, cr4 = v->cr4, efer = v->efer;

	if (!control_registers_ok(v, s) || !apic_base_ok(v, s->apic_base))
		return -EINVAL;
	v->cr0 = s->cr0 | CR0_ET;
	v->cr3 = s->cr3;
	v->cr4 = s->cr4;
	v->efer = s->efer;
	if ((s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !(s->efer & EFER_LMA) &&
	    sys_load_pdptes(v, s->cr3) != SOFT_OK) {
		v->cr0 = cr0;
		v->cr3 = cr3;
		v->cr4 = cr4;
		v->efer = efer;
		return -EINVAL;
	}
	memcpy(v->seg, &s->es, sizeof(v->seg));
	v->gdtr = s->gdtr;
	v->idtr = s->idtr;
	v->cr2 = s->cr2;
	v->xcr0 = s->xcr0;
	v->apic_base = s->apic_base;
	soft_lapic_set_cr8(v, s->cr8);
	soft_tlb_flush_all(v);
	settle(v);
	return 0;
}

static int write_debugregs(struct soft_vcpu *v, const struct vmx_debugregs *d)
{
	if (d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	memcpy(v->dr, d->dr, sizeof(v->dr));
	v->dr6 = (d->dr6 & 0xe00f) | 0xffff0ff0u;
	v->dr7 = (d->dr7 & 0xffff2bffu) | 0x400;
	settle(v);
	return 0;
}

static void read_debugregs(const struct soft_vcpu *v, struct vmx_debugregs *d)
{
	memcpy(d->dr, v->dr, sizeof(v->dr));
	d->dr6 = v->dr6;
	d->dr7 = v->dr7;
}

/* --- the rest ------------------------------------------------------------------------------- */

static int write_xsave(struct soft_vcpu *v, const uint8_t *area)
{
	static const uint8_t zero[48];
	uint64_t header[2];
	uint32_t mxcsr;

	memcpy(header, area + XSAVE_HEADER, sizeof(header));
	memcpy(&mxcsr, area + 24, sizeof(mxcsr));
	if ((header[0] & ~v->xsave_mask) || header[1] ||
	    memcmp(area + XSAVE_HEADER + 16, zero, sizeof(zero)) ||
	    (mxcsr & ~sys_cpuid(v)->mxcsr_mask))
		return -EINVAL;
	memcpy(v->xsave, area, v->xsave_size);
	return 0;
}

static void read_events(const struct soft_vcpu *v, struct vmx_events *e)
{
	memset(e, 0, sizeof(*e));
	e->exception_pending = v->exc_pending;
	if (v->exc_pending) {
		e->exception_vector = v->exc.vector;
		e->exception_has_error_code = v->exc.has_error;
		e->exception_error_code = v->exc.error;
	}
	e->nmi_pending = v->nmi_pending != 0;
	e->nmi_blocked = v->nmi_blocked;
	e->interrupt_shadow = v->shadow;
	e->extint_pending = v->extint_ready;
	e->extint_vector = v->extint_vector;
	e->init_pending = v->init_pending;
	e->sipi_pending = v->sipi_pending;
	e->sipi_vector = v->sipi_vector;
}

static int write_events(struct soft_vcpu *v, const struct vmx_events *e)
{
	if (e->exception_pending && (e->exception_vector > 31 || e->exception_vector == EXC_NMI))
		return -EINVAL;
	v->exc_pending = e->exception_pending;
	if (e->exception_pending)
		v->exc = (struct soft_exc){
			.vector = e->exception_vector,
			.has_error = e->exception_has_error_code,
			.error = e->exception_error_code,
			.cr2 = v->cr2,
		};
	v->delivering = 0;
	v->nmi_pending = e->nmi_pending;
	v->nmi_blocked = e->nmi_blocked;
	v->shadow = e->interrupt_shadow;
	v->extint_ready = e->extint_pending;
	v->extint_vector = e->extint_vector;
	v->init_pending = e->init_pending;
	v->sipi_pending = e->sipi_pending;
	v->sipi_vector = e->sipi_vector;
	soft_request(v, SOFT_REQ_EVENT);
	return 0;
}

static int write_activity(struct soft_vcpu *v, const uint32_t *value)
{
	if (*value > VMX_SHUTDOWN_STATE)
		return -EINVAL;
	v->activity = (enum vmx_activity)*value;
	soft_request(v, SOFT_REQ_EVENT);
	return 0;
}

/* Bytes that the caller still owes a pending input, 0 if there is none. */
static size_t io_size(const struct soft_vcpu *v)
{
	const struct vmx_exit *x = &v->exit_request;

	if (!v->exit_pending)
		return 0;
	if (x->reason == VMX_EXIT_IO && x->io.input)
		return x->io.size;
	if (x->reason == VMX_EXIT_MEM && !x->mem.write && !x->mem.exec)
		return x->mem.size;
	return 0;
}

int soft_state_size(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);

	switch (kind) {
	case VMX_STATE_XSAVE:
		*ret_size = v->xsave_size;
		return 0;
	case VMX_STATE_IO:
		*ret_size = io_size(v);
		return 0;
	case VMX_STATE_NESTED:
		*ret_size = soft_vmx_state_size(v);
		return 0;
	default:
		return -EINVAL;
	}
}

int soft_read_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);

	soft_complete(v);
	switch (kind) {
	case VMX_STATE_REGS:
		read_regs(v, buf);
		return 0;
	case VMX_STATE_SREGS:
		read_sregs(v, buf);
		return 0;
	case VMX_STATE_DEBUGREGS:
		read_debugregs(v, buf);
		return 0;
	case VMX_STATE_XSAVE:
		memcpy(buf, v->xsave, size);
		return 0;
	case VMX_STATE_LAPIC:
		soft_lapic_get_page(v, buf);
		return 0;
	case VMX_STATE_EVENTS:
		read_events(v, buf);
		return 0;
	case VMX_STATE_ACTIVITY:
		*(uint32_t *)buf = v->activity;
		return 0;
	case VMX_STATE_NESTED: /* writes the VMCS to guest memory */
		soft_enter_running(v);
		soft_vmx_state_read(v, buf);
		soft_leave_running(v);
		return 0;
	default:
		return -EINVAL;
	}
}

static int write_kind(struct soft_vcpu *v, enum vmx_state_kind kind, const void *buf)
{
	switch (kind) {
	case VMX_STATE_REGS:
		return write_regs(v, buf);
	case VMX_STATE_SREGS:
		return write_sregs(v, buf);
	case VMX_STATE_DEBUGREGS:
		return write_debugregs(v, buf);
	case VMX_STATE_XSAVE:
		return write_xsave(v, buf);
	case VMX_STATE_LAPIC:
		soft_lapic_set_page(v, buf);
		return 0;
	case VMX_STATE_EVENTS:
		return write_events(v, buf);
	case VMX_STATE_ACTIVITY:
		return write_activity(v, buf);
	case VMX_STATE_NESTED:
		return soft_vmx_state_write(v, buf) ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

/*
 * What walks the guest's tables or touches this vCPU's TLBs does it as a running vCPU: other
 * threads change both, and the mappings, only while none runs.
 */
int soft_write_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf, size_t size)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);
	int r;

	if (kind == VMX_STATE_IO) {
		memcpy(v->exit_data, buf, size);
		return 0;
	}
	soft_complete(v);
	soft_enter_running(v);
	r = write_kind(v, kind, buf);
	soft_leave_running(v);
	return r;
}

/* --- MSRs ----------------------------------------------------------------------------------- */

/* One that the guest has by its own: an optional exit for the others is not asked here. */
static int msr_access(struct soft_vcpu *v, uint32_t index, bool write, uint64_t *value)
{
	struct vmx_exit request;
	struct soft_exc exc;
	int rc;

	soft_complete(v);
	request = v->exit_request;
	exc = v->exc;
	soft_enter_running(v);
	rc = write ? soft_write_msr(v, index, *value) : soft_read_msr(v, index, value);
	soft_leave_running(v);
	v->exit_request = request;
	v->exc = exc;
	return rc;
}

int soft_state_read_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	return msr_access(soft_vcpu_of(vcpu), index, false, ret_value) == SOFT_OK ? 0 : -ENOENT;
}

int soft_state_write_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);
	uint64_t old;

	if (msr_access(v, index, true, &value) == SOFT_OK)
		return 0;
	return msr_access(v, index, false, &old) == SOFT_OK ? -EINVAL : -ENOENT;
}

/* --- addresses ------------------------------------------------------------------------------ */

static enum vmx_translate_result walk_result(uint32_t error)
{
	if (error & PF_RSVD)
		return VMX_TRANSLATE_RESERVED_BITS;
	return error & PF_P ? VMX_TRANSLATE_PRIVILEGE : VMX_TRANSLATE_NOT_PRESENT;
}

static enum vmx_translate_result check_slot(const struct soft_vcpu *v, uint64_t gpa, uint32_t flags)
{
	const struct vmx_slot *s = soft_slot(v, gpa);

	if (!s)
		return VMX_TRANSLATE_GPA_UNMAPPED;
	if ((flags & VMX_TRANSLATE_WRITE) && !(s->flags & VMX_MAP_WRITE))
		return VMX_TRANSLATE_GPA_NO_WRITE;
	if (((flags & VMX_TRANSLATE_READ) && !(s->flags & VMX_MAP_READ)) ||
	    ((flags & VMX_TRANSLATE_EXEC) && !(s->flags & VMX_MAP_EXEC)))
		return VMX_TRANSLATE_GPA_NO_READ;
	return VMX_TRANSLATE_OK;
}

static enum vmx_translate_result translate(struct soft_vcpu *v, uint64_t gva, uint32_t flags,
					   uint64_t *ret_gpa)
{
	/* EXEC and WRITE are different questions to the tables; a read is always allowed with them. */
	const unsigned kinds[] = {
		(flags & VMX_TRANSLATE_EXEC) ? ACC_EXEC : 0u,
		(flags & VMX_TRANSLATE_WRITE) ? ACC_WRITE : 0u,
	};
	unsigned ctx = v->ctx;
	struct soft_walk w = { .error = 0 };

	int rc;

	if (flags & VMX_TRANSLATE_PRIVILEGE_EXEMPT)
		ctx = soft_ctx_half(v) + CTX_KERNEL_AC;
	if ((v->efer & EFER_LMA) && !soft_canonical(gva))
		return VMX_TRANSLATE_NOT_PRESENT;
	for (unsigned set = 0; set < 2; set++) {
		if (set && !(flags & VMX_TRANSLATE_SET_AD))
			break;
		for (unsigned i = 0; i < 2; i++) {
			rc = soft_walk_tables(v, gva, kinds[i], ctx, set, &w);
			if (rc == SOFT_EXCEPTION)
				return walk_result(w.error);
			if (rc != SOFT_OK) /* nothing of EPT's is there */
				return VMX_TRANSLATE_GPA_UNMAPPED;
		}
	}
	*ret_gpa = w.gpa;
	return check_slot(v, w.gpa, flags);
}

int soft_translate(struct vmx_vcpu *vcpu, uint64_t gva, uint32_t flags,
		   enum vmx_translate_result *ret_result, uint64_t *ret_gpa)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);

	soft_complete(v);
	soft_enter_running(v);
	*ret_result = translate(v, gva, flags, ret_gpa);
	soft_leave_running(v);
	return 0;
}
