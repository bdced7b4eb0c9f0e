/* SPDX-License-Identifier: Apache-2.0 */
/* apic_send.c - where interrupts go: IPIs and MSIs (SDM 3A 11.6, 11.11). GENERAL. */
#include "vmx-driver/soft/lapic.h"

static bool is_x2(const struct soft_vcpu *v)
{
	return v->apic_base & APIC_BASE_X2;
}

void soft_apic_post(struct soft_vcpu *t, unsigned vector, bool level)
{
	struct soft_lapic *a = t->lapic;
	uint64_t bit = 1ull << (vector % 64);

	if (!(t->apic_base & APIC_BASE_EN) || !(a->svr & SVR_ENABLE))
		return;
	if (vector < 16) { /* received illegal vector */
		if (!(atomic_fetch_or(&a->errors, 1u << 6) & 1u << 6) &&
		    (a->lvt[LVT_ERROR] & 0xff) >= 16)
			soft_lapic_fire(t, LVT_ERROR);
		return;
	}
	if (level)
		atomic_fetch_or(&a->tmr[vector / 64], bit);
	else if (atomic_load_explicit(&a->tmr[vector / 64], memory_order_relaxed) & bit)
		atomic_fetch_and(&a->tmr[vector / 64], ~bit);
	atomic_fetch_or(&a->irr[vector / 64], bit);
	soft_request(t, SOFT_REQ_EVENT);
}

static void deliver(struct soft_vcpu *t, const struct soft_message *m)
{
	switch (m->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		soft_apic_post(t, m->vector, m->level);
		break;
	case APIC_NMI:
		if (t->apic_base & APIC_BASE_EN)
			soft_post_nmi(t);
		break;
	case APIC_INIT:
		soft_post_init_locked(t);
		break;
	case APIC_SIPI:
		soft_post_sipi_locked(t, m->vector);
		break;
	default: /* SMI, ExtINT: nothing here listens */
		break;
	}
}

static bool matches(const struct soft_vcpu *t, const struct soft_message *m)
{
	const struct soft_lapic *a = t->lapic;

	if (t == m->not_to)
		return false;
	if (m->broadcast)
		return true;
	if (!m->logical)
		return m->dest == t->v.id;
	if (is_x2(t))
		return m->dest >> 16 == a->ldr >> 16 && (m->dest & a->ldr & 0xffff);
	if (a->dfr >> 28 == 0xf) /* flat */
		return m->dest & (a->ldr >> 24);
	return (m->dest ^ a->ldr >> 24) < 16 && (m->dest & (a->ldr >> 24) & 0xf);
}

/* Of those that match, the one with the lowest task priority; among equals in turn. */
static struct soft_vcpu *find_lowest(struct soft_vm *vm, const struct soft_message *m)
{
	unsigned start = atomic_fetch_add_explicit(&vm->lowest_next, 1, memory_order_relaxed);
	struct soft_vcpu *best = NULL;

	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		struct soft_vcpu *t = vm->vcpus[(start + i) % VMX_VCPUS_MAX];

		if (!t || !(t->apic_base & APIC_BASE_EN) || !(t->lapic->svr & SVR_ENABLE) ||
		    !matches(t, m))
			continue;
		if (!best || t->lapic->tpr < best->lapic->tpr)
			best = t;
	}
	return best;
}

/* apic_lock held: it keeps the vCPUs of the table alive. */
static void send_locked(struct soft_vm *vm, const struct soft_message *m)
{
	struct soft_vcpu *t;

	if (m->mode == APIC_LOWEST) {
		t = find_lowest(vm, m);
		if (t)
			deliver(t, m);
		return;
	}
	if (!m->logical && !m->broadcast) {
		t = m->dest < VMX_VCPUS_MAX ? vm->vcpus[m->dest] : NULL;
		if (t && t != m->not_to)
			deliver(t, m);
		return;
	}
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		t = vm->vcpus[i];
		if (t && matches(t, m))
			deliver(t, m);
	}
}

void soft_apic_send(struct soft_vm *vm, const struct soft_message *m)
{
	soft_lock(&vm->apic_lock);
	send_locked(vm, m);
	soft_unlock(&vm->apic_lock);
}

void soft_apic_send_icr(struct soft_vcpu *v, uint32_t icr, uint32_t dest)
{
	struct soft_message m = {
		.vector = (uint8_t)icr,
		.mode = icr >> 8 & 7,
		.logical = icr >> 11 & 1,
		.level = icr >> 15 & 1,
		.dest = dest,
	};

	/* INIT level de-assert does nothing on processors of this century; of the fixed modes only
	 * edge triggered ones exist in an ICR. */
	if (m.mode == APIC_INIT && m.level && !(icr >> 14 & 1))
		return;
	m.level = false;
	if ((m.mode == APIC_FIXED || m.mode == APIC_LOWEST) && m.vector < 16) {
		if (!(atomic_fetch_or(&v->lapic->errors, 1u << 5) & 1u << 5))
			soft_lapic_fire(v, LVT_ERROR);
		return;
	}
	m.broadcast = dest == (is_x2(v) ? UINT32_MAX : 0xff);
	switch (icr >> 18 & 3) {
	case 1: /* self */
		m.dest = v->v.id;
		m.logical = m.broadcast = false;
		break;
	case 2:
		m.broadcast = true;
		break;
	case 3:
		m.broadcast = true;
		m.not_to = v;
		break;
	default:
		break;
	}
	soft_apic_send(soft_vm_of(v), &m);
}
