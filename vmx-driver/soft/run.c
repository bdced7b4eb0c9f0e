/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - the resume loop: requests and events between instructions, instructions by the
 * translator or the stepper, exits to the caller. GENERAL: the translator comes back with the
 * guest's FP state in the registers.
 */
#include "vmx-driver/soft/glue.h"

#include <errno.h>

#include "vmx-driver/soft/lapic.h"
#include "vmx-driver/soft/vmx_apic.h"

/* What the steps of the loop say beyond enum soft_rc: *exit is filled, return to the caller. */
#define RUN_RETURN 100
#define RUN_CANCELED 101

void soft_forget_exit(struct soft_vcpu *v)
{
	v->exit_pending = v->restart = v->restart_event = false;
	v->exit_answered = VMX_EXIT_NONE;
	v->log.count = v->log.next = 0;
}

/* --- exits ---------------------------------------------------------------------------------- */

static uint64_t linear_rip(const struct soft_vcpu *v)
{
	if ((v->mode & MODE_CODE) == CODE_64)
		return v->rip;
	return (uint32_t)(v->seg[SOFT_CS].base + v->rip);
}

static void fill_common(struct soft_vcpu *v, struct vmx_exit *exit)
{
	exit->insn_len = 0;
	exit->cpl = v->cpl;
	exit->interrupt_shadow = v->shadow;
	exit->cs_selector = v->seg[SOFT_CS].selector;
	exit->cs_base = v->seg[SOFT_CS].base;
	exit->rip = v->rip;
	exit->rflags = soft_get_rflags(v);
	exit->cr8 = soft_lapic_get_cr8(v);
	soft_count(&v->n_exits);
	soft_count(&v->n_exits_for[exit->reason]);
}

static int plain_exit(struct soft_vcpu *v, struct vmx_exit *exit, enum vmx_exit_reason reason)
{
	soft_zero(exit, sizeof(*exit));
	exit->reason = reason;
	fill_common(v, exit);
	return RUN_RETURN;
}

static int internal_exit(struct soft_vcpu *v, struct vmx_exit *exit, int rc)
{
	plain_exit(v, exit, VMX_EXIT_INTERNAL);
	soft_fp_save(v);
	soft_describe_internal(v, exit, rc);
	return RUN_RETURN;
}

/* The instruction's bytes, for callers that want to look at it. */
static void fill_insn_bytes(struct soft_vcpu *v, struct vmx_exit *exit)
{
	struct soft_exc exc = v->exc;
	struct vmx_exit request;
	uint64_t gpa, data;
	unsigned n = 0;

	soft_copy(&request, &v->exit_request, sizeof(request));
	soft_copy(&data, v->exit_data, sizeof(data));
	if (soft_fetch(v, linear_rip(v), exit->mem.insn_bytes, sizeof(exit->mem.insn_bytes), &n,
		       &gpa) == SOFT_OK)
		exit->mem.insn_bytes_len = (uint8_t)n;
	soft_copy(&v->exit_request, &request, sizeof(request));
	soft_copy(v->exit_data, &data, sizeof(data));
	v->exc = exc;
}

static bool is_answerable(enum vmx_exit_reason reason)
{
	return reason == VMX_EXIT_MSR || reason == VMX_EXIT_CPUID || reason == VMX_EXIT_EXCEPTION ||
	       reason == VMX_EXIT_RDTSC || reason == VMX_EXIT_HYPERCALL;
}

/* SOFT_EXIT: hands exit_request over. in_event: while an event was being delivered. */
static int requested_exit(struct soft_vcpu *v, struct vmx_exit *exit, bool in_event)
{
	bool eoi = false;

	/* The caller's IOAPIC must see an EOI before what came after it; the access is made again. */
	for (unsigned i = 0; i < 4; i++)
		eoi |= v->eoi_exits[i] != 0;
	v->log.next = 0;
	v->exit_pending = true;
	v->restart_event = in_event;
	if (eoi) {
		v->exit_request.reason = VMX_EXIT_APIC_EOI; /* restarts, completes nothing */
		return SOFT_AGAIN;
	}
	soft_copy(exit, &v->exit_request, sizeof(*exit));
	fill_common(v, exit);
	if (exit->reason == VMX_EXIT_IO) {
		exit->io.buf = v->exit_data;
	} else if (exit->reason == VMX_EXIT_MEM) {
		exit->mem.buf = v->exit_data;
		if (!exit->mem.exec && !in_event)
			fill_insn_bytes(v, exit);
	}
	if (!in_event && v->next_rip - v->rip <= 15)
		exit->insn_len = (uint8_t)(v->next_rip - v->rip);
	return RUN_RETURN;
}

static void log_answer(struct soft_vcpu *v, enum soft_log_kind kind, uint64_t addr, unsigned size)
{
	struct soft_log *log = &v->log;

	if (log->count >= SOFT_LOG_MAX)
		return;
	log->entry[log->count].kind = kind;
	log->entry[log->count].addr = addr;
	log->entry[log->count].size = (uint8_t)size;
	soft_copy(&log->entry[log->count].data, v->exit_data, sizeof(v->exit_data));
	log->count++;
}

/* Takes the caller's answer to the last exit: what made it has to run again first. */
static int finish_exit(struct soft_vcpu *v, const struct vmx_exit *exit)
{
	const struct vmx_exit *x = &v->exit_request;

	if (!v->exit_pending)
		return 0;
	if (is_answerable(x->reason)) {
		if (exit->reason != x->reason)
			return -EINVAL;
		soft_copy(&v->exit_request, exit, sizeof(*exit));
		v->exit_answered = (uint8_t)exit->reason;
	} else if (x->reason == VMX_EXIT_IO) {
		log_answer(v, x->io.input ? SOFT_LOG_IO_READ : SOFT_LOG_IO_WRITE, x->io.port,
			   x->io.size);
	} else if (x->reason == VMX_EXIT_MEM && !x->mem.exec) {
		log_answer(v, x->mem.write ? SOFT_LOG_MEM_WRITE : SOFT_LOG_MEM_READ, x->mem.gpa,
			   x->mem.size);
	}
	v->exit_pending = false;
	v->log.next = 0;
	v->restart = true;
	return 0;
}

/* --- events --------------------------------------------------------------------------------- */

static int deliver_exception(struct soft_vcpu *v)
{
	int rc;

	v->exc_pending = true;
	rc = soft_deliver_exception(v);
	if (rc == SOFT_OK) {
		v->exc_pending = false;
		v->activity = VMX_ACTIVE;
		soft_vmx_stepped(v);
	}
	return rc;
}

static int deliver_interrupt(struct soft_vcpu *v, enum soft_event event, unsigned vector)
{
	int rc = soft_deliver_interrupt(v, event, vector);

	if (rc == SOFT_OK || rc == SOFT_EXCEPTION)
		v->activity = VMX_ACTIVE;
	if (rc == SOFT_OK)
		soft_vmx_stepped(v);
	return rc;
}

static int deliver_nmi(struct soft_vcpu *v)
{
	int rc;

	atomic_fetch_sub(&v->nmi_pending, 1);
	rc = deliver_interrupt(v, EVENT_NMI, EXC_NMI);
	if (rc == SOFT_EXIT)
		atomic_fetch_add(&v->nmi_pending, 1);
	return rc;
}

static int deliver_extint(struct soft_vcpu *v)
{
	int rc = deliver_interrupt(v, EVENT_EXTERNAL, v->extint_vector);

	if (rc != SOFT_EXIT)
		v->extint_ready = false;
	return rc;
}

static int deliver_lapic(struct soft_vcpu *v, unsigned vector)
{
	int rc = deliver_interrupt(v, EVENT_EXTERNAL, vector);

	if (rc != SOFT_EXIT)
		soft_lapic_accept(v, vector);
	return rc;
}

static void take_init(struct soft_vcpu *v)
{
	struct soft_vm *vm = soft_vm_of(v);

	soft_lock(&vm->apic_lock);
	v->init_pending = false;
	v->activity = v->apic_base & APIC_BASE_BSP ? VMX_ACTIVE : VMX_WAIT_FOR_SIPI;
	soft_unlock(&vm->apic_lock);
	v->exc_pending = v->extint_ready = false;
	v->nmi_pending = 0;
	soft_forget_exit(v);
	soft_cpu_reset(v, true);
	soft_lapic_reset(v);
}

static void take_sipi(struct soft_vcpu *v)
{
	struct soft_vm *vm = soft_vm_of(v);
	uint8_t vector;
	bool wanted;

	soft_lock(&vm->apic_lock);
	if (v->init_pending) { /* came just now, and this SIPI belongs to it: look again */
		soft_unlock(&vm->apic_lock);
		return;
	}
	wanted = v->activity == VMX_WAIT_FOR_SIPI;
	v->sipi_pending = false;
	vector = v->sipi_vector;
	if (wanted)
		v->activity = VMX_ACTIVE;
	soft_unlock(&vm->apic_lock);
	if (!wanted)
		return;
	v->seg[SOFT_CS].selector = (uint16_t)(vector << 8);
	v->seg[SOFT_CS].base = (uint64_t)vector << 12;
	v->rip = v->next_rip = 0;
	soft_update_mode(v);
}

/* An INIT or SIPI is used up by the VM exit that it causes; *ret_vector: the SIPI's. */
static void drop_signal(struct soft_vcpu *v, bool init, uint8_t *ret_vector)
{
	struct soft_vm *vm = soft_vm_of(v);

	soft_lock(&vm->apic_lock);
	*ret_vector = v->sipi_vector;
	if (init)
		v->init_pending = false;
	else
		v->sipi_pending = false;
	soft_unlock(&vm->apic_lock);
}

/* Signals that work in every activity state. In VMX root operation INIT is held up. */
static int take_signals(struct soft_vcpu *v)
{
	uint8_t vector;

	if (v->init_pending && soft_nonroot(v)) {
		drop_signal(v, true, &vector);
		return soft_vmx_exit(v, REASON_INIT, 0);
	}
	if (v->init_pending && !v->vmx.on)
		take_init(v);
	if (!v->sipi_pending)
		return SOFT_OK;
	if (v->activity == VMX_WAIT_FOR_SIPI && soft_nonroot(v)) {
		drop_signal(v, false, &vector);
		return soft_vmx_exit(v, REASON_SIPI, vector);
	}
	if (v->vmx.on && !soft_nonroot(v)) /* lost, whether an INIT is held up or not */
		drop_signal(v, false, &vector);
	else
		take_sipi(v);
	return SOFT_OK;
}

static int eoi_exit(struct soft_vcpu *v, struct vmx_exit *exit)
{
	for (unsigned i = 0; i < 4; i++) {
		uint64_t word = atomic_load(&v->eoi_exits[i]);
		unsigned bit;

		if (!word)
			continue;
		bit = (unsigned)__builtin_ctzll(word);
		atomic_fetch_and(&v->eoi_exits[i], ~(1ull << bit));
		soft_request(v, SOFT_REQ_EVENT); /* there may be more */
		plain_exit(v, exit, VMX_EXIT_APIC_EOI);
		exit->eoi.vector = (uint8_t)(i * 64 + bit);
		return RUN_RETURN;
	}
	return SOFT_OK;
}

static int deliver_injected(struct soft_vcpu *v)
{
	int rc;

	if ((v->vmx.inject & EVENT_TYPE) == TYPE_OTHER) { /* no event, but an exit right away */
		v->vmx.inject = 0;
		v->vmx.mtf_pending = true;
		soft_request(v, SOFT_REQ_EVENT);
		return SOFT_OK;
	}
	rc = soft_deliver_injected(v);
	if (rc == SOFT_OK || rc == SOFT_EXCEPTION)
		v->activity = VMX_ACTIVE;
	if (rc == SOFT_OK) {
		soft_vmx_stepped(v);
		soft_events_recheck(v); /* windows open before the handler's first instruction */
	}
	return rc;
}

/* A virtual interrupt of the VMX guest; it is in service before its delivery can exit. */
static int deliver_virtual(struct soft_vcpu *v)
{
	int rc;

	if (!v->vmx.virtual_taken)
		v->vmx.virtual_vector = (uint8_t)soft_virq_take(v);
	rc = deliver_interrupt(v, EVENT_EXTERNAL, v->vmx.virtual_vector);
	v->vmx.virtual_taken = rc == SOFT_EXIT;
	return rc;
}

/* An interrupt that the VMX host wants to see. */
static int external_exit(struct soft_vcpu *v, struct vmx_exit *exit)
{
	bool acknowledge = v->vmx.vmcs.exit_ctls & EXIT_ACK_INTERRUPT;
	bool wire = v->extint_line && soft_lapic_takes_extint(v);
	int vector;

	if (v->shadow)
		return SOFT_AGAIN;
	if (v->extint_ready) {
		v->extint_ready = !acknowledge;
		return soft_vmx_external(v, acknowledge ? v->extint_vector : -1);
	}
	if (wire && acknowledge) {
		soft_request(v, SOFT_REQ_EVENT);
		return plain_exit(v, exit, VMX_EXIT_EXTINT);
	}
	vector = soft_lapic_pending(v);
	if (vector < 0 && !wire)
		return SOFT_AGAIN;
	if (!acknowledge)
		return soft_vmx_external(v, -1);
	soft_lapic_accept(v, (unsigned)vector);
	if (soft_virq_posted(v, (unsigned)vector))
		return SOFT_OK;
	return soft_vmx_external(v, vector);
}

static bool nmi_due(struct soft_vcpu *v)
{
	/* Virtual NMIs: it is not the processor's own that are blocked. */
	bool blocked = v->nmi_blocked && !soft_vmx_pin(v, PIN_VIRTUAL_NMI);
	uint8_t two = 2;

	if (blocked) /* one is in service: one more is remembered, not two */
		(void)atomic_compare_exchange_strong(&v->nmi_pending, &two, 1);
	return v->nmi_pending && !blocked && !v->shadow;
}

static int take_nmi(struct soft_vcpu *v)
{
	if (!soft_vmx_pin(v, PIN_NMI))
		return deliver_nmi(v);
	atomic_fetch_sub(&v->nmi_pending, 1);
	return soft_vmx_nmi(v);
}

/* Interrupts and exceptions due before the next instruction. SOFT_AGAIN: there was none. */
static int deliver_event(struct soft_vcpu *v, struct vmx_exit *exit)
{
	int vector, rc = SOFT_OK;

	if (v->vmx.inject)
		return deliver_injected(v);
	if (v->exc_pending)
		return deliver_exception(v);
	if (v->vmx.virtual_taken)
		return deliver_virtual(v);
	if (soft_nonroot(v))
		rc = soft_vmx_between(v);
	if (rc == SOFT_OK && nmi_due(v))
		return take_nmi(v);
	if (rc == SOFT_OK && soft_nonroot(v))
		rc = soft_vmx_interrupt_window(v);
	if (rc != SOFT_OK)
		return rc;
	if (v->vmx.virtual_pending && (v->rflags & FL_IF) && !v->shadow)
		return deliver_virtual(v);
	if (soft_vmx_pin(v, PIN_EXTERNAL))
		return external_exit(v, exit);
	if (!(v->rflags & FL_IF) || v->shadow)
		return SOFT_AGAIN;
	if (v->extint_ready)
		return deliver_extint(v);
	if (v->extint_line && soft_lapic_takes_extint(v)) {
		soft_request(v, SOFT_REQ_EVENT);
		return plain_exit(v, exit, VMX_EXIT_EXTINT);
	}
	vector = soft_lapic_pending(v);
	return vector < 0 ? SOFT_AGAIN : deliver_lapic(v, (unsigned)vector);
}

/* Everything between two instructions. SOFT_OK: execute; SOFT_AGAIN: look again. */
static int between(struct soft_vcpu *v, struct vmx_exit *exit)
{
	uint32_t req = atomic_exchange(&v->exit_req, 0);
	int rc;

	v->look_again = true;
	if (req & SOFT_REQ_TIMER)
		v->lapic->timer_at = 0;
	if (req & SOFT_REQ_EXCLUSIVE)
		soft_park(v);
	if ((req & SOFT_REQ_KICK) && vmx_kick_take(&v->v)) {
		soft_request(v, SOFT_REQ_EVENT); /* whatever else there was */
		return RUN_CANCELED;
	}
	rc = eoi_exit(v, exit);
	if (rc != SOFT_OK)
		return rc;
	rc = take_signals(v);
	if (rc != SOFT_OK)
		return rc;
	soft_lapic_timer(v);
	switch (atomic_load(&v->activity)) {
	case VMX_SHUTDOWN_STATE:
		return plain_exit(v, exit, VMX_EXIT_SHUTDOWN);
	case VMX_WAIT_FOR_SIPI:
		break;
	default:
		rc = deliver_event(v, exit);
		if (rc != SOFT_AGAIN)
			return rc == SOFT_OK ? SOFT_AGAIN : rc;
		if (v->activity == VMX_ACTIVE)
			return SOFT_OK;
		break;
	}
	/* An expired timer may just have posted something. */
	if (!atomic_load(&v->exit_req))
		soft_wait(v);
	return SOFT_AGAIN;
}

/* --- instructions --------------------------------------------------------------------------- */

static int execute(struct soft_vcpu *v)
{
	int rc;

	if (!(v->mode & MODE_SLOW) && !v->shadow &&
	    !(v->v.vm->options.soft_debug & VMX_SOFT_STEP_ONLY)) {
		rc = soft_jit_run(v);
		if (rc != SOFT_STEP)
			return rc;
	}
	return soft_step(v);
}

/* VM exits, and the triple fault, which is one. */
static int leave_nonroot(struct soft_vcpu *v, int rc)
{
	if (rc == SOFT_SHUTDOWN) {
		v->vmx.idt_event = 0;
		rc = soft_vmx_exit(v, REASON_TRIPLE_FAULT, 0);
	}
	return rc == SOFT_VMEXIT ? soft_vmx_leave(v) : rc;
}

/* What an execution or a delivery ended with. SOFT_AGAIN: go on; else RUN_*. */
static int handle(struct soft_vcpu *v, struct vmx_exit *exit, int rc, bool in_event)
{
	if (rc == SOFT_EXCEPTION) {
		v->log.count = v->log.next = 0;
		in_event = true;
		rc = deliver_exception(v);
	}
	if (soft_nonroot(v))
		rc = leave_nonroot(v, rc);
	switch (rc) {
	case SOFT_OK:
	case SOFT_AGAIN:
		return SOFT_AGAIN;
	case SOFT_EXIT:
		return requested_exit(v, exit, in_event);
	case SOFT_SHUTDOWN:
		v->activity = VMX_SHUTDOWN_STATE;
		v->exc_pending = false;
		return plain_exit(v, exit, VMX_EXIT_SHUTDOWN);
	case SOFT_HALT:
		v->log.count = v->log.next = 0;
		v->shadow = 0; /* STI; HLT: the one that it covered is done */
		soft_events_recheck(v);
		if (v->v.vm->exit_options.optional & VMX_OPT_HALT)
			return plain_exit(v, exit, VMX_EXIT_HALT);
		v->activity = VMX_HALTED;
		return SOFT_AGAIN;
	case RUN_RETURN:
	case RUN_CANCELED:
		return rc;
	default:
		return internal_exit(v, exit, rc);
	}
}

/* Runs again what had made the last exit, before anything else is looked at. */
static int restart(struct soft_vcpu *v, struct vmx_exit *exit)
{
	bool in_event = v->restart_event;
	int rc;

	v->restart = v->restart_event = false;
	rc = in_event ? deliver_event(v, exit) : soft_step(v);
	/* An answer that was not asked for again is not for whoever asks next. */
	v->exit_answered = VMX_EXIT_NONE;
	return handle(v, exit, rc, in_event);
}

static int run_once(struct soft_vcpu *v, struct vmx_exit *exit)
{
	int rc = SOFT_OK;

	if (atomic_load(&v->exit_req) & SOFT_REQ_EXCLUSIVE) {
		atomic_fetch_and(&v->exit_req, ~(uint32_t)SOFT_REQ_EXCLUSIVE);
		soft_park(v);
	}
	if (v->restart)
		return restart(v, exit);
	if (atomic_load_explicit(&v->exit_req, memory_order_relaxed) || v->activity != VMX_ACTIVE ||
	    v->exc_pending) {
		rc = between(v, exit);
		if (rc != SOFT_OK && rc != SOFT_AGAIN)
			rc = handle(v, exit, rc, true);
	}
	return rc == SOFT_OK ? handle(v, exit, execute(v), false) : rc;
}

int soft_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);
	int rc = finish_exit(v, exit);

	if (rc < 0)
		return rc;
	v->look_again = true; /* anything may have been changed from outside */
	soft_timer_enter(v);
	soft_enter_running(v);
	do {
		rc = run_once(v, exit);
		if (rc == SOFT_AGAIN && v->exit_pending) { /* an EOI that must be told first */
			v->exit_pending = false;
			v->restart = true;
			rc = eoi_exit(v, exit);
		}
	} while (rc != RUN_RETURN && rc != RUN_CANCELED);
	soft_fp_save(v);
	soft_leave_running(v);
	soft_timer_leave();
	return rc == RUN_CANCELED ? -ECANCELED : 0;
}

/* Delivering and exits are left for the next resume. */
void soft_complete(struct soft_vcpu *v)
{
	enum vmx_exit_reason reason = v->exit_request.reason;
	int rc;

	if (!v->exit_pending || (reason != VMX_EXIT_IO && reason != VMX_EXIT_MEM) ||
	    v->restart_event)
		return;
	finish_exit(v, &v->exit_request);
	soft_enter_running(v);
	rc = soft_step(v);
	soft_fp_save(v);
	soft_leave_running(v);
	v->restart = rc == SOFT_EXIT;
	v->log.next = 0;
	v->exc_pending = rc == SOFT_EXCEPTION;
	if (rc == SOFT_HALT)
		v->activity = VMX_HALTED;
	else if (rc == SOFT_SHUTDOWN)
		v->activity = VMX_SHUTDOWN_STATE;
}
