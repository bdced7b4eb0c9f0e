/* SPDX-License-Identifier: Apache-2.0 */
/* exception.c - exceptions and interrupts (SDM 3A chapter 6): who sees them before the guest does,
 * and what becomes of a fault in their delivery. GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* v->delivering: class of the event in whose delivery v->exc came up (SDM 3A table 6-5). */
enum { CLASS_NONE, CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

int soft_raise(struct soft_vcpu *v, unsigned vector)
{
	v->exc = (struct soft_exc){ .vector = (uint8_t)vector };
	return SOFT_EXCEPTION;
}

int soft_raise_error(struct soft_vcpu *v, unsigned vector, uint32_t error)
{
	v->exc = (struct soft_exc){ .vector = (uint8_t)vector, .has_error = true, .error = error };
	return SOFT_EXCEPTION;
}

int soft_raise_pf(struct soft_vcpu *v, uint64_t la, uint32_t error)
{
	v->exc = (struct soft_exc){
		.vector = EXC_PF, .has_error = true, .error = error, .cr2 = la,
	};
	return SOFT_EXCEPTION;
}

static unsigned exc_class(unsigned vector)
{
	switch (vector) {
	case EXC_DE:
	case EXC_TS:
	case EXC_NP:
	case EXC_SS:
	case EXC_GP:
		return CLASS_CONTRIBUTORY;
	case EXC_PF:
		return CLASS_PAGE_FAULT;
	case EXC_DF:
		return CLASS_DOUBLE_FAULT;
	default:
		return CLASS_BENIGN;
	}
}

/* RF in the pushed image: faults resume their instruction (SDM 3B 17.3.1.1). */
static bool pushes_rf(const struct soft_exc *x)
{
	switch (x->vector) {
	case EXC_NMI:
	case EXC_BP:
	case EXC_OF:
	case EXC_DF:
	case EXC_MC:
		return false;
	case EXC_DB:
		return x->dr6 & (1u << 13);
	default:
		return true;
	}
}

/* SOFT_OK: go on with the delivery. SOFT_AGAIN: the caller swallowed it. */
static int optional_exit(struct soft_vcpu *v)
{
	struct vmx_exit *x = &v->exit_request;

	if (v->exc.vector > 31 || !sys_opt(v, VMX_OPT_EXCEPTION) ||
	    !(v->v.vm->exit_options.exception_bitmap >> v->exc.vector & 1))
		return SOFT_OK;
	if (sys_answered(v, VMX_EXIT_EXCEPTION))
		return x->exception.swallow ? SOFT_AGAIN : SOFT_OK;
	x->exception.vector = v->exc.vector;
	x->exception.has_error_code = v->exc.has_error;
	x->exception.error_code = v->exc.error;
	x->exception.parameter = v->exc.vector == EXC_PF ? v->exc.cr2 : v->exc.dr6;
	x->exception.swallow = false;
	return sys_exit(v, VMX_EXIT_EXCEPTION);
}

/* In VMX non-root operation the host may want it. */
static int intercept(struct soft_vcpu *v)
{
	int rc;

	if (!soft_nonroot(v))
		return SOFT_OK;
	rc = soft_vmx_intercept_exception(v, TYPE_EXCEPTION);
	if (rc != SOFT_OK && !v->vmx.idt_event && pushes_rf(&v->exc))
		v->rflags |= FL_RF;
	return rc;
}

static void note_event(struct soft_vcpu *v, uint32_t type, unsigned vector, bool has_error,
		       uint32_t error)
{
	if (soft_nonroot(v))
		soft_vmx_delivering(v, type | vector |
				    (has_error && (v->cr0 & CR0_PE) ? (uint32_t)EVENT_ERROR : 0),
				    error);
}

/* Breakpoints that a load of SS hit, and which the #DB of INT1 behind it tells of (SDM 3A 6.8.3). */
static uint64_t held_hits(const struct soft_vcpu *v)
{
	uint64_t held = v->vmx.pending_debug;

	return held & PENDING_BREAKPOINT ? held & PENDING_HITS : 0;
}

/* A #DB is delivered. B0-B3 tell of this one, the others add up until cleared by software. */
static void tell_debug(struct soft_vcpu *v, uint64_t dr6)
{
	v->dr6 = (v->dr6 & ~0xfull) | dr6;
	v->dr7 &= ~(1ull << 13);
	v->vmx.pending_debug = 0;
}

static int deliver_one(struct soft_vcpu *v, const struct soft_exc *x)
{
	struct sys_event e = {
		.vector = x->vector,
		.has_error = x->has_error && (v->cr0 & CR0_PE),
		.error = x->error,
		.ext = 1,
		.rip = v->rip,
		.rflags = soft_get_rflags(v) | (pushes_rf(x) ? (uint64_t)FL_RF : 0),
	};

	if (x->vector == EXC_PF)
		v->cr2 = x->cr2;
	if (x->vector == EXC_DB)
		tell_debug(v, x->dr6);
	return sys_deliver(v, &e);
}

int soft_deliver_exception(struct soft_vcpu *v)
{
	for (;;) {
		unsigned first = v->delivering, class = exc_class(v->exc.vector);
		struct soft_exc x;
		int rc;

		if (first == CLASS_DOUBLE_FAULT && class != CLASS_DOUBLE_FAULT) {
			v->delivering = CLASS_NONE; /* for whoever leads out of the shutdown */
			return SOFT_SHUTDOWN;
		}
		if ((first == CLASS_CONTRIBUTORY && class == CLASS_CONTRIBUTORY) ||
		    (first == CLASS_PAGE_FAULT &&
		     (class == CLASS_CONTRIBUTORY || class == CLASS_PAGE_FAULT))) {
			if (class == CLASS_PAGE_FAULT)
				v->cr2 = v->exc.cr2; /* as the processor does */
			(void)soft_raise_error(v, EXC_DF, 0);
			class = CLASS_DOUBLE_FAULT;
		}
		rc = intercept(v);
		if (rc == SOFT_OK)
			rc = optional_exit(v);
		if (rc == SOFT_AGAIN) {
			v->delivering = CLASS_NONE;
			v->log.count = v->log.next = 0;
			return SOFT_OK;
		}
		if (rc != SOFT_OK)
			return rc;
		x = v->exc;
		note_event(v, TYPE_EXCEPTION, x.vector, x.has_error, x.error);
		rc = deliver_one(v, &x);
		if (rc == SOFT_EXIT) {
			v->exc = x;
			return rc;
		}
		v->log.count = v->log.next = 0;
		if (rc == SOFT_OK) {
			soft_vmx_delivered(v);
			v->delivering = CLASS_NONE;
			soft_count(&v->n_exceptions);
			return rc;
		}
		if (rc != SOFT_EXCEPTION)
			return rc;
		v->delivering = (uint8_t)class;
	}
}

static const uint16_t event_types[] = {
	[EVENT_EXTERNAL] = TYPE_EXTERNAL, [EVENT_NMI] = TYPE_NMI, [EVENT_SOFT_INT] = TYPE_SOFT_INT,
	[EVENT_INT3] = TYPE_SOFT_EXCEPTION, [EVENT_INTO] = TYPE_SOFT_EXCEPTION,
	[EVENT_INT1] = TYPE_INT1,
};

int soft_deliver_interrupt(struct soft_vcpu *v, enum soft_event event, unsigned vector)
{
	bool software = event == EVENT_SOFT_INT || event == EVENT_INT3 || event == EVENT_INTO;
	bool insn = software || event == EVENT_INT1;
	struct sys_event e = {
		.vector = (uint8_t)vector,
		.software = software,
		.ext = !software,
		.rip = insn ? v->next_rip : v->rip,
		.rflags = soft_get_rflags(v),
	};
	int rc;

	if (insn && event != EVENT_SOFT_INT) { /* #BP, #OF, #DB: a trap that is swallowed is over */
		v->exc = (struct soft_exc){
			.vector = (uint8_t)vector,
			.dr6 = event == EVENT_INT1 ? held_hits(v) : 0,
		};
		rc = SOFT_OK;
		if (soft_nonroot(v))
			rc = soft_vmx_intercept_exception(v, event_types[event]);
		if (rc == SOFT_OK)
			rc = optional_exit(v);
		if (rc == SOFT_AGAIN)
			return sys_done(v);
		if (rc != SOFT_OK)
			return rc;
	}
	note_event(v, event_types[event], vector, false, 0);
	rc = sys_deliver(v, &e);
	if (rc == SOFT_EXIT)
		return rc;
	if (!insn || rc == SOFT_OK)
		v->log.count = v->log.next = 0;
	if (rc != SOFT_OK) {
		/* Benign: whatever came up is delivered as it is. */
		if (!insn && rc == SOFT_EXCEPTION)
			v->delivering = CLASS_BENIGN;
		return rc;
	}
	soft_vmx_delivered(v);
	if (event == EVENT_INT1)
		tell_debug(v, held_hits(v));
	if (event == EVENT_NMI)
		v->nmi_blocked = true;
	if (!insn)
		soft_count(&v->n_interrupts);
	return SOFT_OK;
}

int soft_deliver_injected(struct soft_vcpu *v)
{
	uint32_t inject = v->vmx.inject, type = inject & EVENT_TYPE, vector = inject & EVENT_VECTOR;
	bool insn = type == TYPE_SOFT_INT || type == TYPE_INT1 || type == TYPE_SOFT_EXCEPTION;
	struct sys_event e = {
		.vector = (uint8_t)vector,
		.has_error = inject & EVENT_ERROR,
		.error = v->vmx.vmcs.entry_event_error,
		.software = insn && type != TYPE_INT1,
		.ext = !insn || type == TYPE_INT1,
		.rflags = soft_get_rflags(v),
	};
	int rc;

	v->next_rip = v->rip + (insn ? v->vmx.vmcs.entry_insn_len : 0);
	if (!sys_code64(v))
		v->next_rip = (uint32_t)v->next_rip;
	e.rip = v->next_rip;
	soft_vmx_delivering(v, inject & (EVENT_VECTOR | EVENT_TYPE | EVENT_ERROR), e.error);
	rc = sys_deliver(v, &e);
	if (rc == SOFT_EXIT)
		return rc;
	v->vmx.inject = 0;
	v->log.count = v->log.next = 0;
	if (rc == SOFT_EXCEPTION)
		v->delivering = (uint8_t)(type == TYPE_EXCEPTION ? exc_class(vector) : CLASS_BENIGN);
	if (rc != SOFT_OK)
		return rc;
	soft_vmx_delivered(v);
	if (type == TYPE_NMI)
		v->nmi_blocked = true;
	return SOFT_OK;
}
