/* SPDX-License-Identifier: Apache-2.0 */
/* task.c - hardware task switches (SDM 3A chapter 8). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

struct task { /* the dynamic part of a TSS, of either size */
	uint32_t cr3, rip, flags, gpr[8];
	uint16_t seg[6]; /* ES CS SS DS FS GS */
	uint16_t ldt, link;
	bool trap;
};

static uint32_t get(const uint8_t *raw, unsigned offset, bool wide)
{
	return (uint32_t)sys_get(raw + offset, wide ? 4 : 2);
}

static void put(uint8_t *raw, unsigned offset, uint32_t value, bool wide)
{
	sys_put(raw + offset, wide ? 4 : 2, value);
}

static void unpack(const uint8_t *raw, bool tss32, struct task *t)
{
	unsigned step = tss32 ? 4 : 2, at = tss32 ? 0x20 : 0xe;

	t->link = (uint16_t)get(raw, 0, false);
	t->cr3 = tss32 ? get(raw, 0x1c, true) : 0;
	t->rip = get(raw, at, tss32);
	t->flags = get(raw, at + step, tss32);
	for (unsigned i = 0; i < 8; i++)
		t->gpr[i] = get(raw, at + (2 + i) * step, tss32);
	for (unsigned i = 0; i < 6; i++)
		t->seg[i] = i < 4 || tss32 ? (uint16_t)get(raw, at + (10 + i) * step, false) : 0;
	t->ldt = (uint16_t)get(raw, tss32 ? 0x60 : 0x2a, false);
	t->trap = tss32 && (raw[0x64] & 1);
}

/* Stores the running task's state. Selectors in a 32-bit TSS keep the upper halves there. */
static void pack(const struct soft_vcpu *v, uint8_t *raw, bool tss32, uint64_t rip, uint64_t flags)
{
	unsigned step = tss32 ? 4 : 2, at = tss32 ? 0x20 : 0xe;

	put(raw, at, (uint32_t)rip, tss32);
	put(raw, at + step, (uint32_t)flags, tss32);
	for (unsigned i = 0; i < 8; i++)
		put(raw, at + (2 + i) * step, (uint32_t)v->gpr[i], tss32);
	for (unsigned i = 0; i < (tss32 ? 6u : 4u); i++)
		put(raw, at + (10 + i) * step, v->seg[i].selector, false);
}

/* The new TSS's descriptor, checked. */
static int find_tss(struct soft_vcpu *v, uint16_t selector, enum sys_task_reason reason,
		    unsigned ext, struct sys_desc *d)
{
	unsigned vector = reason == TASK_IRET ? EXC_TS : EXC_GP, type;
	uint32_t error = (selector & 0xfffcu) | ext;
	struct vmx_segment s;
	int rc;

	if ((selector & 4) || !(selector & 0xfffc))
		return soft_raise_error(v, vector, error);
	rc = sys_read_desc(v, selector, vector, ext, false, d);
	if (rc != SOFT_OK)
		return rc;
	type = (d->lo >> 40) & 0x1f;
	if (reason == TASK_IRET ? type != SYS_TSS16_BUSY && type != SYS_TSS32_BUSY :
				  type != SYS_TSS16 && type != SYS_TSS32)
		return soft_raise_error(v, vector, error);
	if (!(sys_attr(d->lo) & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	sys_unpack(&s, selector, d->lo, 0);
	if (s.limit < ((type & 8) ? 0x67u : 0x2bu))
		return soft_raise_error(v, EXC_TS, error);
	return SOFT_OK;
}

/* The busy bit of a TSS descriptor in the GDT. */
static int set_busy(struct soft_vcpu *v, uint16_t selector, bool busy)
{
	uint64_t la = (uint32_t)(v->gdtr.base + (selector & 0xfff8u) + 5);
	uint8_t byte;
	int rc;

	rc = soft_read(v, la, &byte, 1, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	byte = busy ? byte | 2 : (uint8_t)(byte & ~2u);
	return soft_write(v, la, &byte, 1, ACC_WRITE | ACC_SYSTEM);
}

/* --- loading the new task: what faults here does so in the new task ------------------------- */

static int load_ldt(struct soft_vcpu *v, uint16_t selector, unsigned ext)
{
	uint32_t error = (selector & 0xfffcu) | ext;
	struct sys_desc d;
	int rc;

	sys_null_segment(&v->seg[SOFT_LDTR], selector);
	if (!(selector & 0xfffc))
		return SOFT_OK;
	if (selector & 4)
		return soft_raise_error(v, EXC_TS, error);
	rc = sys_read_desc(v, selector, EXC_TS, ext, false, &d);
	if (rc != SOFT_OK)
		return rc;
	if (((d.lo >> 40) & 0x1f) != SYS_LDT || !(sys_attr(d.lo) & SEG_P))
		return soft_raise_error(v, EXC_TS, error);
	sys_unpack(&v->seg[SOFT_LDTR], selector, d.lo, 0);
	return SOFT_OK;
}

static int load_cs(struct soft_vcpu *v, uint16_t selector, unsigned ext)
{
	uint32_t attr, error = (selector & 0xfffcu) | ext;
	unsigned rpl = selector & 3u;
	struct sys_desc d;
	int rc;

	if (!(selector & 0xfffc))
		return soft_raise_error(v, EXC_TS, error);
	rc = sys_read_desc(v, selector, EXC_TS, ext, false, &d);
	if (rc != SOFT_OK)
		return rc;
	attr = sys_attr(d.lo);
	if ((attr & (SEG_S | SEG_CODE)) != (SEG_S | SEG_CODE) ||
	    ((attr & SEG_EC) ? sys_dpl(attr) > rpl : sys_dpl(attr) != rpl))
		return soft_raise_error(v, EXC_TS, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	rc = sys_mark_accessed(v, &d);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&v->seg[SOFT_CS], selector, d.lo, 0);
	return SOFT_OK;
}

static int load_ss(struct soft_vcpu *v, uint16_t selector, unsigned ext)
{
	struct sys_desc d;
	int rc;

	if (!(selector & 0xfffc))
		return soft_raise_error(v, EXC_TS, ext);
	rc = sys_read_desc(v, selector, EXC_TS, ext, false, &d);
	if (rc == SOFT_OK)
		rc = sys_check_ss(v, &d, v->cpl, EXC_TS, ext);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&v->seg[SOFT_SS], selector, d.lo, 0);
	return SOFT_OK;
}

static int load_data(struct soft_vcpu *v, unsigned seg, uint16_t selector, unsigned ext)
{
	int rc;

	if (!(selector & 0xfffc))
		return SOFT_OK;
	rc = soft_load_segment(v, seg, selector);
	/* What MOV calls #GP(selector) is #TS(selector) here. */
	if (rc == SOFT_EXCEPTION && v->exc.vector == EXC_GP)
		return soft_raise_error(v, EXC_TS, (selector & 0xfffcu) | ext);
	if (rc == SOFT_EXCEPTION && v->exc.vector == EXC_NP)
		v->exc.error |= ext;
	return rc;
}

static int load_segments(struct soft_vcpu *v, const struct task *t, unsigned ext)
{
	static const uint8_t data[] = { SOFT_ES, SOFT_DS, SOFT_FS, SOFT_GS };
	int rc;

	if (t->flags & FL_VM) {
		for (unsigned i = 0; i < 6; i++)
			sys_real_segment(v, i, t->seg[i]);
		return load_ldt(v, t->ldt, ext);
	}
	for (unsigned i = 0; i < 6; i++)
		sys_null_segment(&v->seg[i], t->seg[i]);
	rc = load_ldt(v, t->ldt, ext);
	/* The stack first, so that a fault of the others finds one. */
	if (rc == SOFT_OK)
		rc = load_ss(v, t->seg[SOFT_SS], ext);
	soft_update_mode(v);
	for (unsigned i = 0; i < 4 && rc == SOFT_OK; i++)
		rc = load_data(v, data[i], t->seg[data[i]], ext);
	if (rc == SOFT_OK)
		rc = load_cs(v, t->seg[SOFT_CS], ext);
	return rc;
}

static int push_error(struct soft_vcpu *v, bool tss32, uint32_t error)
{
	uint64_t value = error;
	struct sys_stack stack;
	int rc;

	sys_current_stack(v, &stack);
	rc = sys_push_frame(v, &stack, &value, 1, tss32 ? 4 : 2);
	if (rc == SOFT_OK)
		sys_set_sp(v, &stack.ss, false, stack.sp);
	return rc;
}

static int enter_task(struct soft_vcpu *v, const struct task *t, bool tss32, bool has_error,
		      uint32_t error, unsigned ext)
{
	int rc;

	if (tss32 && (v->cr0 & CR0_PG) && v->cr3 != t->cr3) {
		rc = soft_write_cr(v, 3, t->cr3);
		if (rc != SOFT_OK)
			return soft_raise_error(v, EXC_TS, (v->seg[SOFT_TR].selector & 0xfffcu) | ext);
	}
	v->rip = v->next_rip = t->rip;
	for (unsigned i = 0; i < 8; i++)
		v->gpr[i] = tss32 ? t->gpr[i] : (v->gpr[i] & 0xffff0000u) | t->gpr[i];
	v->cpl = (t->flags & FL_VM) ? 3 : t->seg[SOFT_CS] & 3;
	v->shadow = 0;
	sys_set_flags(v, t->flags, tss32 ? FL_ALL : 0xffff);
	rc = load_segments(v, t, ext);
	soft_update_mode(v);
	if (rc != SOFT_OK)
		return rc;
	/* Local breakpoints belong to the old task. */
	v->dr7 &= ~0x155ull;
	soft_update_mode(v);
	if (has_error) {
		rc = push_error(v, tss32, error);
		if (rc != SOFT_OK)
			return rc;
	}
	if (t->rip > v->seg[SOFT_CS].limit)
		return soft_raise_error(v, EXC_GP, ext);
	return t->trap ? soft_raise_debug(v, 1u << 15) : SOFT_OK;
}

/* There are no task switches in non-root operation. */
static int task_exit(struct soft_vcpu *v, uint16_t selector, enum sys_task_reason reason)
{
	static const uint8_t source[] = {
		[TASK_CALL] = 0, [TASK_IRET] = 1, [TASK_JMP] = 2, [TASK_INT] = 3,
	};

	return soft_vmx_exit(v, REASON_TASK_SWITCH, selector | (uint64_t)source[reason] << 30);
}

int sys_task_switch(struct soft_vcpu *v, uint16_t selector, enum sys_task_reason reason,
		    bool has_error, uint32_t error, uint64_t old_rip, unsigned ext)
{
	struct vmx_segment *tr = &v->seg[SOFT_TR];
	uint16_t old_selector = tr->selector;
	uint8_t old_raw[0x68], new_raw[0x68];
	bool old32 = tr->attributes & 8, new32;
	uint64_t flags = soft_get_rflags(v), old_la = (uint32_t)tr->base, new_la;
	struct sys_desc d;
	struct task t;
	unsigned old_len = old32 ? 0x60 : 0x2a, new_len;
	int rc;

	rc = find_tss(v, selector, reason, ext, &d);
	if (rc != SOFT_OK)
		return rc;
	if (soft_nonroot(v))
		return task_exit(v, selector, reason);
	new32 = (d.lo >> 43) & 1;
	new_len = new32 ? 0x68 : 0x2c;
	new_la = (uint32_t)(((d.lo >> 16) & 0xffffff) | ((d.lo >> 32) & 0xff000000));
	rc = soft_read(v, new_la, new_raw, new_len, ACC_SYSTEM);
	if (rc == SOFT_OK)
		rc = soft_read(v, old_la, old_raw, old_len, ACC_SYSTEM);
	if (rc == SOFT_OK)
		rc = soft_probe(v, old_la, old_len, ACC_WRITE | ACC_SYSTEM);
	if (rc == SOFT_OK && (reason == TASK_CALL || reason == TASK_INT))
		rc = soft_probe(v, new_la, 2, ACC_WRITE | ACC_SYSTEM);
	if (rc == SOFT_OK)
		rc = soft_probe(v, d.la + 5, 1, ACC_WRITE | ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	if (reason == TASK_JMP || reason == TASK_IRET) {
		rc = set_busy(v, old_selector, false);
		if (rc != SOFT_OK)
			return rc;
	}
	if (reason == TASK_IRET)
		flags &= ~(uint64_t)FL_NT;
	unpack(new_raw, new32, &t);
	pack(v, old_raw, old32, old_rip, flags);
	/* Only the dynamic fields are written. */
	rc = soft_write(v, old_la + (old32 ? 0x20 : 0xe), old_raw + (old32 ? 0x20 : 0xe),
			old_len - (old32 ? 0x20 : 0xe), ACC_WRITE | ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	if (reason == TASK_CALL || reason == TASK_INT) {
		rc = soft_write(v, new_la, &old_selector, 2, ACC_WRITE | ACC_SYSTEM);
		if (rc != SOFT_OK)
			return rc;
		t.flags |= FL_NT;
	}
	if (reason != TASK_IRET) {
		rc = set_busy(v, selector, true);
		if (rc != SOFT_OK)
			return rc;
		d.lo |= 2ull << 40;
	}
	sys_unpack(tr, selector, d.lo, 0);
	v->cr0 |= CR0_TS;
	if (reason == TASK_IRET && v->nmi_blocked) {
		v->nmi_blocked = false;
		soft_events_recheck(v);
	}
	return enter_task(v, &t, new32, has_error, error, ext);
}

int sys_task_gate(struct soft_vcpu *v, uint64_t gate, enum sys_task_reason reason, bool has_error,
		  uint32_t error, uint64_t old_rip, unsigned ext)
{
	return sys_task_switch(v, (uint16_t)(gate >> 16), reason, has_error, error, old_rip, ext);
}
