/* SPDX-License-Identifier: Apache-2.0 */
/* exception.c - delivery of exceptions and interrupts (SDM 3A chapter 6). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* v->delivering: class of the event in whose delivery v->exc came up (SDM 3A table 6-5). */
enum { CLASS_NONE, CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

struct event {
	uint8_t vector;
	bool has_error;
	bool software;  /* INT n, INT3, INTO: the gate's DPL counts */
	uint8_t ext;    /* EXT bit of error codes raised by the delivery */
	uint32_t error;
	uint64_t rip;   /* to push */
	uint64_t rflags; /* to push */
};

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

/* --- stacks --------------------------------------------------------------------------------- */

void sys_current_stack(const struct soft_vcpu *v, struct sys_stack *ret)
{
	ret->ss = v->seg[SOFT_SS];
	ret->sp = v->gpr[SOFT_RSP];
	ret->code64 = sys_code64(v);
	ret->access = 0;
	ret->error = 0;
}

void sys_set_sp(struct soft_vcpu *v, const struct vmx_segment *ss, bool code64, uint64_t sp)
{
	if (code64)
		v->gpr[SOFT_RSP] = sp;
	else if (ss->attributes & SEG_DB)
		v->gpr[SOFT_RSP] = (uint32_t)sp;
	else
		v->gpr[SOFT_RSP] = (v->gpr[SOFT_RSP] & ~0xffffull) | (sp & 0xffff);
}

static uint64_t stack_mask(const struct sys_stack *stack)
{
	if (stack->code64)
		return UINT64_MAX;
	return (stack->ss.attributes & SEG_DB) ? 0xffffffffu : 0xffffu;
}

/* The frame wraps around the segment: one value at a time, all checked before the first store. */
static int push_wrapped(struct soft_vcpu *v, struct sys_stack *stack, const uint64_t *val,
			unsigned n, unsigned size)
{
	uint64_t la[SYS_FRAME_MAX], mask = stack_mask(stack), sp = stack->sp;
	int rc;

	for (unsigned i = 0; i < n; i++) {
		sp = (sp - size) & mask;
		rc = sys_linear(v, &stack->ss, false, EXC_SS, stack->error, sp, size, true, &la[i]);
		if (rc == SOFT_OK)
			rc = soft_probe(v, la[i], size, ACC_WRITE | stack->access);
		if (rc != SOFT_OK)
			return rc;
	}
	for (unsigned i = 0; i < n; i++) {
		rc = soft_write(v, la[i], &val[i], size, ACC_WRITE | stack->access);
		if (rc != SOFT_OK)
			return rc;
	}
	stack->sp = sp;
	return SOFT_OK;
}

int sys_push_frame(struct soft_vcpu *v, struct sys_stack *stack, const uint64_t *val, unsigned n,
		   unsigned size)
{
	uint64_t frame[SYS_FRAME_MAX], mask = stack_mask(stack), la;
	uint64_t sp = stack->sp & mask;
	unsigned total = n * size;
	int rc;

	if (n > SYS_FRAME_MAX)
		return SOFT_SHUTDOWN;
	if (!stack->code64 && sp < total && sp != 0)
		return push_wrapped(v, stack, val, n, size);
	sp = (sp - total) & mask;
	rc = sys_linear(v, &stack->ss, stack->code64, EXC_SS, stack->error, sp, total, true, &la);
	if (rc != SOFT_OK)
		return rc;
	for (unsigned i = 0; i < n; i++)
		sys_put((uint8_t *)frame + (n - 1 - i) * size, size, val[i]);
	rc = soft_write(v, la, frame, total, ACC_WRITE | stack->access);
	if (rc == SOFT_OK)
		stack->sp = sp;
	return rc;
}

static int tss_stack_legacy(struct soft_vcpu *v, unsigned cpl, unsigned ext, struct sys_stack *ret)
{
	const struct vmx_segment *tr = &v->seg[SOFT_TR];
	bool tss32 = tr->attributes & 8;
	uint32_t offset = tss32 ? cpl * 8 + 4 : cpl * 4 + 2;
	unsigned len = tss32 ? 6 : 4;
	uint8_t raw[8];
	uint16_t selector;
	struct sys_desc d;
	int rc;

	if (tr->unusable || offset + (tss32 ? 7 : 3) > tr->limit)
		return soft_raise_error(v, EXC_TS, (tr->selector & 0xfffcu) | ext);
	rc = soft_read(v, (uint32_t)(tr->base + offset), raw, len, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	ret->sp = sys_get(raw, tss32 ? 4 : 2);
	selector = (uint16_t)sys_get(raw + (tss32 ? 4 : 2), 2);
	if (!(selector & 0xfffc))
		return soft_raise_error(v, EXC_TS, ext);
	rc = sys_read_desc(v, selector, EXC_TS, ext, false, &d);
	if (rc == SOFT_OK)
		rc = sys_check_ss(v, &d, cpl, EXC_TS, ext);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&ret->ss, selector, d.lo, 0);
	ret->error = (selector & 0xfffcu) | ext;
	return SOFT_OK;
}

int sys_tss_stack(struct soft_vcpu *v, unsigned cpl, unsigned ist, unsigned ext,
		  struct sys_stack *ret)
{
	const struct vmx_segment *tr = &v->seg[SOFT_TR];
	uint32_t offset = ist ? 28 + ist * 8 : 4 + cpl * 8;
	int rc;

	ret->code64 = sys_long(v);
	ret->access = v->cpl == 3 && cpl != 3 ? ACC_SYSTEM : 0;
	if (!ret->code64)
		return tss_stack_legacy(v, cpl, ext, ret);
	if (tr->unusable || offset + 7 > tr->limit)
		return soft_raise_error(v, EXC_TS, (tr->selector & 0xfffcu) | ext);
	rc = soft_read(v, tr->base + offset, &ret->sp, 8, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	ret->error = ext;
	if (!sys_canonical(ret->sp))
		return soft_raise_error(v, EXC_SS, ext);
	if (cpl == v->cpl) {
		ret->ss = v->seg[SOFT_SS];
		return SOFT_OK;
	}
	sys_null_segment(&ret->ss, (uint16_t)cpl);
	ret->ss.attributes = (uint16_t)(cpl << 5);
	return SOFT_OK;
}

/* --- delivery ------------------------------------------------------------------------------- */

/* The common end: new CS:RIP and flags. Stack and privilege are set by the caller before. */
static void enter_handler(struct soft_vcpu *v, uint64_t rip, bool clear_if, uint64_t clear)
{
	v->rip = v->next_rip = rip;
	v->rflags &= ~(clear | (clear_if ? (uint64_t)FL_IF : 0));
	v->shadow = 0;
	soft_update_mode(v);
}

static int deliver_real(struct soft_vcpu *v, const struct event *e)
{
	struct sys_stack stack;
	uint64_t frame[3] = { e->rflags, v->seg[SOFT_CS].selector, e->rip };
	uint16_t entry[2];
	int rc;

	if (e->vector * 4u + 3 > v->idtr.limit)
		return soft_raise(v, EXC_GP);
	rc = soft_read(v, (uint32_t)(v->idtr.base + e->vector * 4u), entry, 4, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	sys_current_stack(v, &stack);
	rc = sys_push_frame(v, &stack, frame, 3, 2);
	if (rc != SOFT_OK)
		return rc;
	sys_set_sp(v, &stack.ss, false, stack.sp);
	sys_real_segment(v, SOFT_CS, entry[1]);
	enter_handler(v, entry[0], true, FL_TF | FL_RF | FL_AC);
	return SOFT_OK;
}

/* Checks of the gate that all modes share. g: first 8 bytes. */
static int check_gate(struct soft_vcpu *v, const struct event *e, uint64_t g, bool long_mode)
{
	uint32_t error = e->vector * 8u + 2 + e->ext;
	unsigned type = (g >> 40) & 0x1f;
	bool ok = type == SYS_INT32 || type == SYS_TRAP32 ||
		  (!long_mode && (type == SYS_INT16 || type == SYS_TRAP16 || type == SYS_TASK));

	if (!ok || (e->software && ((g >> 45) & 3) < v->cpl))
		return soft_raise_error(v, EXC_GP, error);
	if (!(g & (1ull << 47)))
		return soft_raise_error(v, EXC_NP, error);
	return SOFT_OK;
}

/* The gate's code segment; *ret_cpl is the privilege of the handler. */
static int gate_segment(struct soft_vcpu *v, const struct event *e, uint64_t g, struct sys_desc *d,
			unsigned *ret_cpl)
{
	uint16_t selector = (uint16_t)(g >> 16);
	uint32_t attr, error = (selector & 0xfffcu) | e->ext;
	int rc;

	if (!(selector & 0xfffc))
		return soft_raise_error(v, EXC_GP, e->ext);
	rc = sys_read_desc(v, selector, EXC_GP, e->ext, false, d);
	if (rc != SOFT_OK)
		return rc;
	attr = sys_attr(d->lo);
	if ((attr & (SEG_S | SEG_CODE)) != (SEG_S | SEG_CODE) || sys_dpl(attr) > v->cpl ||
	    (sys_long(v) && (attr & (SEG_L | SEG_DB)) != SEG_L))
		return soft_raise_error(v, EXC_GP, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	*ret_cpl = (attr & SEG_EC) ? v->cpl : sys_dpl(attr);
	if (sys_vm86(v) && *ret_cpl != 0)
		return soft_raise_error(v, EXC_GP, error);
	return SOFT_OK;
}

static int deliver_long(struct soft_vcpu *v, const struct event *e)
{
	uint32_t offset = e->vector * 16u;
	uint64_t g[2], rip, frame[6];
	struct sys_stack stack;
	struct sys_desc d;
	unsigned cpl, ist, n = 5;
	int rc;

	if (offset + 15 > v->idtr.limit)
		return soft_raise_error(v, EXC_GP, e->vector * 8u + 2 + e->ext);
	rc = soft_read(v, v->idtr.base + offset, g, 16, ACC_SYSTEM);
	if (rc == SOFT_OK)
		rc = check_gate(v, e, g[0], true);
	if (rc == SOFT_OK)
		rc = gate_segment(v, e, g[0], &d, &cpl);
	if (rc != SOFT_OK)
		return rc;
	ist = (g[0] >> 32) & 7;
	if (cpl != v->cpl || ist) {
		rc = sys_tss_stack(v, cpl, ist, e->ext, &stack);
		if (rc != SOFT_OK)
			return rc;
	} else {
		sys_current_stack(v, &stack);
		/* From compatibility mode the stack is 64 bits wide as well. */
		stack.code64 = true;
		stack.error = e->ext;
	}
	rip = (g[0] & 0xffff) | ((g[0] >> 32) & 0xffff0000u) | g[1] << 32;
	if (!sys_canonical(rip))
		return soft_raise_error(v, EXC_GP, e->ext);
	frame[0] = v->seg[SOFT_SS].selector;
	frame[1] = v->gpr[SOFT_RSP];
	frame[2] = e->rflags;
	frame[3] = v->seg[SOFT_CS].selector;
	frame[4] = e->rip;
	if (e->has_error)
		frame[n++] = e->error;
	stack.sp &= ~15ull;
	if (!sys_code64(v)) /* 64-bit addresses already, though the mode says otherwise */
		stack.access = ACC_SYSTEM;
	rc = sys_mark_accessed(v, &d);
	if (rc == SOFT_OK)
		rc = sys_push_frame(v, &stack, frame, n, 8);
	if (rc != SOFT_OK)
		return rc;
	v->gpr[SOFT_RSP] = stack.sp;
	if (cpl != v->cpl)
		v->seg[SOFT_SS] = stack.ss;
	v->cpl = (uint8_t)cpl;
	sys_unpack(&v->seg[SOFT_CS], (uint16_t)((d.selector & 0xfffcu) | cpl), d.lo, 0);
	enter_handler(v, rip, !(g[0] & (1ull << 40)), FL_TF | FL_NT | FL_RF | FL_VM);
	return SOFT_OK;
}

/* Builds what a legacy gate pushes; returns the count. */
static unsigned legacy_frame(struct soft_vcpu *v, const struct event *e, bool inner,
			     uint64_t frame[10])
{
	unsigned n = 0;

	if (sys_vm86(v)) {
		frame[n++] = v->seg[SOFT_GS].selector;
		frame[n++] = v->seg[SOFT_FS].selector;
		frame[n++] = v->seg[SOFT_DS].selector;
		frame[n++] = v->seg[SOFT_ES].selector;
	}
	if (inner) {
		frame[n++] = v->seg[SOFT_SS].selector;
		frame[n++] = v->gpr[SOFT_RSP];
	}
	frame[n++] = e->rflags;
	frame[n++] = v->seg[SOFT_CS].selector;
	frame[n++] = e->rip;
	if (e->has_error)
		frame[n++] = e->error;
	return n;
}

static int deliver_legacy(struct soft_vcpu *v, const struct event *e)
{
	uint32_t offset = e->vector * 8u;
	uint64_t g, frame[10], rip;
	struct sys_stack stack;
	struct vmx_segment cs;
	struct sys_desc d;
	unsigned cpl, n, type;
	int rc;

	if (offset + 7 > v->idtr.limit)
		return soft_raise_error(v, EXC_GP, e->vector * 8u + 2 + e->ext);
	rc = soft_read(v, (uint32_t)(v->idtr.base + offset), &g, 8, ACC_SYSTEM);
	if (rc == SOFT_OK)
		rc = check_gate(v, e, g, false);
	if (rc != SOFT_OK)
		return rc;
	type = (g >> 40) & 0xf;
	if (type == SYS_TASK)
		return sys_task_gate(v, g, TASK_INT, e->has_error, e->error, e->rip, e->ext);
	rc = gate_segment(v, e, g, &d, &cpl);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&cs, (uint16_t)((d.selector & 0xfffcu) | cpl), d.lo, 0);
	if (cpl != v->cpl) {
		rc = sys_tss_stack(v, cpl, 0, e->ext, &stack);
		if (rc != SOFT_OK)
			return rc;
	} else {
		sys_current_stack(v, &stack);
		stack.error = e->ext;
	}
	rip = g & 0xffff;
	if (type & 8)
		rip |= (g >> 32) & 0xffff0000u;
	if (rip > cs.limit)
		return soft_raise_error(v, EXC_GP, e->ext);
	n = legacy_frame(v, e, cpl != v->cpl, frame);
	rc = sys_mark_accessed(v, &d);
	if (rc == SOFT_OK)
		rc = sys_push_frame(v, &stack, frame, n, (type & 8) ? 4 : 2);
	if (rc != SOFT_OK)
		return rc;
	cs.attributes |= SEG_ACCESSED;
	if (sys_vm86(v)) {
		static const uint8_t data[] = { SOFT_GS, SOFT_FS, SOFT_DS, SOFT_ES };

		for (unsigned i = 0; i < 4; i++)
			sys_null_segment(&v->seg[data[i]], 0);
	}
	sys_set_sp(v, &stack.ss, false, stack.sp);
	v->seg[SOFT_SS] = stack.ss;
	v->seg[SOFT_CS] = cs;
	v->cpl = (uint8_t)cpl;
	enter_handler(v, rip, !(type & 1), FL_TF | FL_NT | FL_RF | FL_VM);
	return SOFT_OK;
}

static int deliver(struct soft_vcpu *v, const struct event *e)
{
	v->log.next = 0;
	if (!(v->cr0 & CR0_PE))
		return deliver_real(v, e);
	return sys_long(v) ? deliver_long(v, e) : deliver_legacy(v, e);
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
	struct event e = {
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
	return deliver(v, &e);
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
	struct event e = {
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
	rc = deliver(v, &e);
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
	struct event e = {
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
	rc = deliver(v, &e);
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
