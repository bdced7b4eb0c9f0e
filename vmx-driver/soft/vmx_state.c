/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_state.c - a vCPU's VMX state as VMX_STATE_NESTED saves and restores it. GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* The layout is that of struct soft_vmcs, which its size tells apart too. */
#define NESTED_MAGIC 0x32584d56u /* VMX2 */
enum { NESTED_ON = 1u << 0, NESTED_NONROOT = 1u << 1, NESTED_LAUNCHED = 1u << 2,
       NESTED_TIMER = 1u << 3, NESTED_MTF = 1u << 4, NESTED_TAKEN = 1u << 5,
       NESTED_RECOGNIZED = 1u << 6, NESTED_SHADOW = 1u << 7, NESTED_ALL = 0xff };

struct nested {
	uint32_t magic, size;
	uint32_t flags, inject;
	uint64_t vmxon, current;
	uint64_t tsc_offset, pending_debug;
	uint64_t timer_left; /* TSC ticks */
	uint64_t pdpte[4];
	uint64_t trap_qualification;
	uint32_t trap_reason, virtual_vector;
	struct soft_vmcs vmcs;
};

size_t soft_vmx_state_size(const struct soft_vcpu *v)
{
	return soft_vmx_caps(v)->offered ? sizeof(struct nested) : 0;
}

void soft_vmx_state_read(struct soft_vcpu *v, void *buf)
{
	const struct soft_vmx *x = &v->vmx;
	struct nested *n = buf;
	uint64_t now = __builtin_ia32_rdtsc();

	soft_vmx_flush(v); /* who looks at guest memory finds it up to date */
	soft_zero(n, sizeof(*n));
	n->magic = NESTED_MAGIC;
	n->size = sizeof(*n);
	n->flags = (x->on ? NESTED_ON : 0u) | (v->nonroot ? NESTED_NONROOT : 0u) |
		   (x->launched ? NESTED_LAUNCHED : 0u) | (x->timer_on ? NESTED_TIMER : 0u) |
		   (x->mtf_pending ? NESTED_MTF : 0u) | (x->virtual_taken ? NESTED_TAKEN : 0u) |
		   (x->virtual_pending ? NESTED_RECOGNIZED : 0u) |
		   (x->shadow ? NESTED_SHADOW : 0u);
	n->trap_reason = x->trap_reason;
	n->trap_qualification = x->trap_qualification;
	n->virtual_vector = x->virtual_vector;
	n->inject = x->inject;
	n->vmxon = x->vmxon;
	n->current = x->current;
	n->tsc_offset = x->tsc_offset;
	n->pending_debug = x->pending_debug;
	n->timer_left = x->timer_on && x->timer_end > now ? x->timer_end - now : 0;
	soft_copy(n->pdpte, v->pdpte, sizeof(n->pdpte));
	soft_copy(&n->vmcs, &x->vmcs, sizeof(n->vmcs));
}

/* Pointers and flags that fit together. */
static bool possible(const struct soft_vcpu *v, const struct nested *n)
{
	bool on = n->flags & NESTED_ON, nonroot = n->flags & NESTED_NONROOT;

	if (n->magic != NESTED_MAGIC || n->size != sizeof(*n) || (n->flags & ~(uint32_t)NESTED_ALL))
		return false;
	if (!on)
		return !(n->flags & ~(uint32_t)NESTED_ON) && n->vmxon == VMCS_NONE &&
		       n->current == VMCS_NONE && !n->inject && !n->tsc_offset;
	if (!soft_vmx_address_ok(v, n->vmxon, VMX_PAGE_SIZE))
		return false;
	if (n->trap_reason && n->trap_reason != REASON_TPR && n->trap_reason != REASON_EOI &&
	    n->trap_reason != REASON_APIC_WRITE)
		return false;
	if (nonroot && (n->flags & NESTED_SHADOW))
		return false;
	if ((n->flags & (NESTED_TAKEN | NESTED_RECOGNIZED)) &&
	    !(n->vmcs.proc & PROC_SECONDARY && n->vmcs.proc2 & PROC2_INTERRUPT_DELIVERY))
		return false;
	if (n->current == VMCS_NONE)
		return !nonroot;
	return soft_vmx_address_ok(v, n->current, VMX_PAGE_SIZE) && n->current != n->vmxon &&
	       (nonroot || (!n->inject && !n->tsc_offset));
}

static void resume_nonroot(struct soft_vcpu *v, const struct nested *n)
{
	struct soft_vmx *x = &v->vmx;

	x->pin = x->vmcs.pin;
	x->proc = x->vmcs.proc;
	x->proc2 = x->proc & PROC_SECONDARY ? x->vmcs.proc2 : 0;
	x->inject = n->inject;
	x->tsc_offset = n->tsc_offset;
	x->pending_debug = n->pending_debug;
	x->timer_on = n->flags & NESTED_TIMER;
	x->timer_end = __builtin_ia32_rdtsc() + n->timer_left;
	x->mtf_pending = n->flags & NESTED_MTF;
	x->virtual_taken = n->flags & NESTED_TAKEN;
	x->virtual_pending = n->flags & NESTED_RECOGNIZED;
	x->virtual_vector = (uint8_t)n->virtual_vector;
	x->trap_reason = n->trap_reason;
	x->trap_qualification = n->trap_qualification;
	v->nonroot = true;
	v->eptp = x->proc2 & PROC2_EPT ? x->vmcs.eptp : 0;
	soft_copy(v->pdpte, n->pdpte, sizeof(v->pdpte));
}

bool soft_vmx_state_write(struct soft_vcpu *v, const void *buf)
{
	const struct nested *n = buf;
	struct soft_vmx old;
	bool ok;

	if (!possible(v, n))
		return false;
	soft_copy(&old, &v->vmx, sizeof(old));
	soft_copy(&v->vmx.vmcs, &n->vmcs, sizeof(v->vmx.vmcs));
	v->vmx.current = n->current;
	/* Non-root operation runs on controls that entry accepts, whoever wrote them. */
	ok = !(n->flags & NESTED_NONROOT) ||
	     (!soft_vmx_check_controls(v) && !soft_vmx_check_host(v) &&
	      (!n->inject || ((n->inject & EVENT_VALID) && n->inject == n->vmcs.entry_event)));
	if (!ok) {
		soft_copy(&v->vmx, &old, sizeof(old));
		return false;
	}
	soft_vmx_reset(v);
	v->tsc_offset += n->tsc_offset - old.tsc_offset;
	v->vmx.on = n->flags & NESTED_ON;
	v->vmx.launched = n->flags & NESTED_LAUNCHED;
	v->vmx.shadow = n->flags & NESTED_SHADOW;
	v->vmx.vmxon = n->vmxon;
	v->vmx.current = n->current;
	v->vmx.dirty = n->current != VMCS_NONE;
	soft_copy(&v->vmx.vmcs, &n->vmcs, sizeof(v->vmx.vmcs));
	if (n->flags & NESTED_NONROOT)
		resume_nonroot(v, n);
	soft_tlb_flush_all(v);
	soft_update_mode(v);
	return true;
}
