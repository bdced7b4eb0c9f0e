/* SPDX-License-Identifier: Apache-2.0 */
/* gate.c - an event goes through the IDT or IVT (SDM 3A 6.10 to 6.14). GENERAL. */
#include "vmx-driver/soft/sys.h"

/* The common end: new CS:RIP and flags. Stack and privilege are set by the caller before. */
static void enter_handler(struct soft_vcpu *v, uint64_t rip, bool clear_if, uint64_t clear)
{
	v->rip = v->next_rip = rip;
	v->rflags &= ~(clear | (clear_if ? (uint64_t)FL_IF : 0));
	v->shadow = 0;
	soft_update_mode(v);
}

static int deliver_real(struct soft_vcpu *v, const struct sys_event *e)
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
static int check_gate(struct soft_vcpu *v, const struct sys_event *e, uint64_t g, bool long_mode)
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
static int gate_segment(struct soft_vcpu *v, const struct sys_event *e, uint64_t g, struct sys_desc *d,
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

static int deliver_long(struct soft_vcpu *v, const struct sys_event *e)
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
static unsigned legacy_frame(struct soft_vcpu *v, const struct sys_event *e, bool inner,
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

static int deliver_legacy(struct soft_vcpu *v, const struct sys_event *e)
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

int sys_deliver(struct soft_vcpu *v, const struct sys_event *e)
{
	v->log.next = 0;
	if (!(v->cr0 & CR0_PE))
		return deliver_real(v, e);
	return sys_long(v) ? deliver_long(v, e) : deliver_legacy(v, e);
}
