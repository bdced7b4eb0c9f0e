/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_event.c - events in non-root operation (SDM 3C 25.2, 25.5, 26.6, 26.7). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_apic.h"

/* Must the exception exit? (25.2, 25.3) */
static bool intercepted(const struct soft_vcpu *v, const struct soft_exc *x)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	bool bit = c->exception_bitmap >> (x->vector & 31) & 1;

	if (x->vector != EXC_PF)
		return bit;
	return bit == ((x->error & c->pf_mask) == c->pf_match);
}

int soft_vmx_intercept_exception(struct soft_vcpu *v, uint32_t type)
{
	const struct soft_exc x = v->exc;

	if (!intercepted(v, &x))
		return SOFT_OK;
	/* An event that became a double fault is no event that was being delivered. */
	if (x.vector == EXC_DF)
		v->vmx.idt_event = 0;
	(void)soft_vmx_exit(v, REASON_EXCEPTION, 0);
	if (x.vector == EXC_PF) {
		v->vmexit.qualification = x.cr2;
	} else if (x.vector == EXC_DB) {
		v->vmexit.qualification = x.dr6;
		v->vmx.pending_debug = 0; /* what was held is told of */
	}
	v->vmexit.event = EVENT_VALID | type | x.vector;
	if (v->vmx.nmi_unblocked_by_iret && !v->vmx.idt_event && x.vector != EXC_DF)
		v->vmexit.event |= EVENT_IRET_UNBLOCKED;
	if (x.has_error && (v->cr0 & CR0_PE)) {
		v->vmexit.event |= EVENT_ERROR;
		v->vmexit.event_error = x.error;
	}
	return SOFT_VMEXIT;
}

/* Debug exceptions that entry found pending and that nothing holds up. */
static int pending_debug(struct soft_vcpu *v)
{
	uint64_t pending = v->vmx.pending_debug;

	v->vmx.pending_debug = 0;
	if (!(pending & (PENDING_BREAKPOINT | PENDING_STEP)))
		return SOFT_OK;
	return soft_raise_debug(v, pending & (PENDING_HITS | PENDING_STEP));
}

int soft_vmx_between(struct soft_vcpu *v)
{
	if (v->vmx.trap_reason)
		return soft_vmx_exit(v, v->vmx.trap_reason, v->vmx.trap_qualification);
	if (v->vmx.mtf_pending)
		return soft_vmx_exit(v, REASON_MTF, 0);
	if (v->vmx.pending_debug && v->shadow != SHADOW_MOV_SS && v->activity == VMX_ACTIVE) {
		int rc = pending_debug(v);

		if (rc != SOFT_OK)
			return rc;
	}
	if (soft_vmx_timer_due(v))
		return soft_vmx_exit(v, REASON_TIMER, 0);
	if ((v->vmx.proc & PROC_NMI_WINDOW) && !v->nmi_blocked && !v->shadow)
		return soft_vmx_exit(v, REASON_NMI_WINDOW, 0);
	return SOFT_OK;
}

int soft_vmx_interrupt_window(struct soft_vcpu *v)
{
	if ((v->vmx.proc & PROC_INTERRUPT_WINDOW) && (v->rflags & FL_IF) && !v->shadow)
		return soft_vmx_exit(v, REASON_INTERRUPT_WINDOW, 0);
	return SOFT_OK;
}

int soft_vmx_nmi(struct soft_vcpu *v)
{
	(void)soft_vmx_exit(v, REASON_EXCEPTION, 0);
	v->vmexit.event = EVENT_VALID | TYPE_NMI | EXC_NMI;
	return SOFT_VMEXIT;
}

int soft_vmx_external(struct soft_vcpu *v, int vector)
{
	(void)soft_vmx_exit(v, REASON_EXTERNAL, 0);
	if (vector >= 0)
		v->vmexit.event = EVENT_VALID | TYPE_EXTERNAL | (uint32_t)vector;
	return SOFT_VMEXIT;
}

void soft_vmx_stepped(struct soft_vcpu *v)
{
	if (soft_vmx_proc(v, PROC_MTF))
		v->vmx.mtf_pending = true;
	else if (!soft_nonroot(v) || !soft_vmx_timer_due(v)) /* that one may have had to wait */
		return;
	atomic_fetch_or(&v->exit_req, SOFT_REQ_EVENT);
}

void soft_vmx_event_enter(struct soft_vcpu *v)
{
	v->vmx.mtf_pending = false;
	soft_vmx_tpr_begin(v);
	soft_vmx_timer_start(v);
}

void soft_vmx_event_leave(struct soft_vcpu *v)
{
	v->vmx.mtf_pending = v->vmx.virtual_pending = v->vmx.virtual_taken = false;
	v->vmx.trap_reason = 0;
	soft_vmx_timer_stop(v);
}
