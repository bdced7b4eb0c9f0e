/* SPDX-License-Identifier: Apache-2.0 */
/* transfer.c - far branches and IRET (SDM 3A 5.8, 6.12-6.14, 7.3). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

static unsigned op_bytes(const struct soft_insn *insn)
{
	return insn->zi.operand_width / 8u;
}

static uint64_t truncate(uint64_t value, unsigned bytes)
{
	return bytes >= 8 ? value : value & ((1ull << (bytes * 8)) - 1);
}

/* --- reading the stack ---------------------------------------------------------------------- */

struct stack_reader {
	uint64_t sp, mask;
	bool code64;
};

static void reader_init(const struct soft_vcpu *v, struct stack_reader *r)
{
	r->code64 = sys_code64(v);
	r->mask = r->code64 ? UINT64_MAX :
		  (v->seg[SOFT_SS].attributes & SEG_DB) ? 0xffffffffu : 0xffffu;
	r->sp = v->gpr[SOFT_RSP] & r->mask;
}

static int read_frame(struct soft_vcpu *v, struct stack_reader *r, uint64_t *val, unsigned n,
		      unsigned size)
{
	uint8_t raw[64];
	uint64_t la;
	int rc;

	if (r->code64 || r->mask - r->sp >= (uint64_t)n * size - 1) {
		rc = sys_linear(v, &v->seg[SOFT_SS], r->code64, EXC_SS, 0, r->sp, n * size, false,
				&la);
		if (rc == SOFT_OK)
			rc = soft_read(v, la, raw, n * size, 0);
		if (rc != SOFT_OK)
			return rc;
	} else {
		for (unsigned i = 0; i < n; i++) {
			rc = sys_linear(v, &v->seg[SOFT_SS], false, EXC_SS, 0,
					(r->sp + i * size) & r->mask, size, false, &la);
			if (rc == SOFT_OK)
				rc = soft_read(v, la, raw + i * size, size, 0);
			if (rc != SOFT_OK)
				return rc;
		}
	}
	for (unsigned i = 0; i < n; i++)
		val[i] = sys_get(raw + i * size, size);
	r->sp = (r->sp + n * size) & r->mask;
	return SOFT_OK;
}

/* --- common parts --------------------------------------------------------------------------- */

/* Loads CS from a checked descriptor and continues at rip; the privilege becomes cpl. */
static void enter_code(struct soft_vcpu *v, const struct sys_desc *d, unsigned cpl, uint64_t rip)
{
	sys_unpack(&v->seg[SOFT_CS], (uint16_t)((d->selector & 0xfffcu) | cpl), d->lo, 0);
	v->cpl = (uint8_t)cpl;
	v->rip = v->next_rip = rip;
}

static int enter_real(struct soft_vcpu *v, uint16_t selector, uint64_t rip)
{
	if (rip > (sys_vm86(v) ? 0xffffu : v->seg[SOFT_CS].limit))
		return sys_gp0(v);
	sys_real_segment(v, SOFT_CS, selector);
	v->rip = v->next_rip = rip;
	soft_update_mode(v);
	return SOFT_OK;
}

static int check_offset(struct soft_vcpu *v, const struct sys_desc *d, uint64_t rip)
{
	struct vmx_segment cs;

	sys_unpack(&cs, d->selector, d->lo, 0);
	return sys_code_offset_ok(v, &cs, rip) ? SOFT_OK : sys_gp0(v);
}

/* Attributes that any code segment needs, at its place in the order of checks. */
static int check_code(struct soft_vcpu *v, const struct sys_desc *d, bool privilege_ok)
{
	uint32_t attr = sys_attr(d->lo), error = d->selector & 0xfffcu;

	if (!privilege_ok || (sys_long(v) && (attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB)))
		return soft_raise_error(v, EXC_GP, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	return SOFT_OK;
}

/* Direct far JMP or CALL to a code segment: same privilege, or conforming. */
static int check_direct(struct soft_vcpu *v, const struct sys_desc *d)
{
	uint32_t attr = sys_attr(d->lo);
	bool ok;

	if (attr & SEG_EC)
		ok = sys_dpl(attr) <= v->cpl;
	else
		ok = (d->selector & 3u) <= v->cpl && sys_dpl(attr) == v->cpl;
	return check_code(v, d, ok);
}

static int far_pointer(struct soft_vcpu *v, const struct soft_insn *insn, uint16_t *ret_selector,
		       uint64_t *ret_offset)
{
	unsigned size = op_bytes(insn);
	uint8_t raw[16];
	uint64_t la;
	int rc;

	for (unsigned i = 0; i < insn->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_POINTER) {
			*ret_selector = op->ptr.segment;
			*ret_offset = truncate(op->ptr.offset, size);
			return SOFT_OK;
		}
	}
	if (insn->mem[0] < 0)
		return sys_ud(v);
	rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], false, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, raw, size + 2, 0);
	if (rc != SOFT_OK)
		return rc;
	*ret_offset = sys_get(raw, size);
	*ret_selector = (uint16_t)sys_get(raw + size, 2);
	return SOFT_OK;
}

/* --- call gates ----------------------------------------------------------------------------- */

struct gate {
	struct sys_desc code;
	uint64_t offset;
	unsigned params;
	unsigned size; /* of what is pushed */
};

/* Privilege and presence of a gate, TSS or task gate descriptor named by a far JMP or CALL. */
static int check_gate(struct soft_vcpu *v, const struct sys_desc *d)
{
	uint32_t attr = sys_attr(d->lo), error = d->selector & 0xfffcu;

	if (sys_dpl(attr) < v->cpl || sys_dpl(attr) < (d->selector & 3u))
		return soft_raise_error(v, EXC_GP, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	return SOFT_OK;
}

static int call_gate(struct soft_vcpu *v, struct sys_desc *d, bool jump, struct gate *ret)
{
	bool wide = sys_long(v), gate32 = d->lo & (1ull << 43);
	uint16_t selector = (uint16_t)(d->lo >> 16);
	uint32_t attr, error = selector & 0xfffcu;
	int rc;

	rc = check_gate(v, d);
	if (rc != SOFT_OK)
		return rc;
	if (wide) {
		rc = sys_read_desc(v, d->selector, EXC_GP, 0, true, d);
		if (rc != SOFT_OK)
			return rc;
		if (d->hi & 0x1f00ull)
			return soft_raise_error(v, EXC_GP, d->selector & 0xfffcu);
	}
	ret->offset = d->lo & 0xffff;
	if (gate32)
		ret->offset |= (d->lo >> 32) & 0xffff0000u;
	if (wide)
		ret->offset |= d->hi << 32;
	ret->size = wide ? 8 : gate32 ? 4 : 2;
	ret->params = wide ? 0 : (d->lo >> 32) & 31;
	if (!error)
		return sys_gp0(v);
	rc = sys_read_desc(v, selector, EXC_GP, 0, false, &ret->code);
	if (rc != SOFT_OK)
		return rc;
	attr = sys_attr(ret->code.lo);
	if ((attr & (SEG_S | SEG_CODE)) != (SEG_S | SEG_CODE) || sys_dpl(attr) > v->cpl ||
	    (jump && !(attr & SEG_EC) && sys_dpl(attr) != v->cpl) ||
	    (wide && (attr & (SEG_L | SEG_DB)) != SEG_L))
		return soft_raise_error(v, EXC_GP, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	return SOFT_OK;
}

/* Return address (and at an inner privilege: old stack and parameters) onto the right stack. */
static int push_gate_frame(struct soft_vcpu *v, const struct gate *g, unsigned cpl)
{
	uint64_t frame[SYS_FRAME_MAX], params[32];
	struct sys_stack stack;
	unsigned n = 0;
	int rc;

	if (cpl != v->cpl) {
		rc = sys_tss_stack(v, cpl, 0, 0, &stack);
		if (rc != SOFT_OK)
			return rc;
		frame[n++] = v->seg[SOFT_SS].selector;
		frame[n++] = v->gpr[SOFT_RSP];
		for (unsigned i = 0; i < g->params; i += 8) {
			struct stack_reader r;
			unsigned count = g->params - i < 8 ? g->params - i : 8;

			reader_init(v, &r);
			r.sp = (r.sp + i * g->size) & r.mask;
			rc = read_frame(v, &r, params + i, count, g->size);
			if (rc != SOFT_OK)
				return rc;
		}
		for (unsigned i = g->params; i-- > 0;)
			frame[n++] = params[i];
	} else {
		sys_current_stack(v, &stack);
	}
	frame[n++] = v->seg[SOFT_CS].selector;
	frame[n++] = v->next_rip;
	rc = sys_push_frame(v, &stack, frame, n, g->size);
	if (rc != SOFT_OK)
		return rc;
	sys_set_sp(v, &stack.ss, stack.code64, stack.sp);
	v->seg[SOFT_SS] = stack.ss;
	return SOFT_OK;
}

static int through_call_gate(struct soft_vcpu *v, struct sys_desc *d, bool jump)
{
	struct gate g;
	unsigned cpl;
	int rc;

	rc = call_gate(v, d, jump, &g);
	if (rc == SOFT_OK)
		rc = check_offset(v, &g.code, g.offset);
	if (rc == SOFT_OK)
		rc = sys_mark_accessed(v, &g.code);
	if (rc != SOFT_OK)
		return rc;
	cpl = v->cpl;
	if (!(sys_attr(g.code.lo) & SEG_EC))
		cpl = sys_dpl(sys_attr(g.code.lo));
	if (!jump) {
		rc = push_gate_frame(v, &g, cpl);
		if (rc != SOFT_OK)
			return rc;
	}
	enter_code(v, &g.code, cpl, g.offset);
	soft_update_mode(v);
	return SOFT_OK;
}

/* --- far JMP and CALL ----------------------------------------------------------------------- */

/* A system descriptor as the target: gate, task gate or TSS. */
static int through_system(struct soft_vcpu *v, struct sys_desc *d, bool jump)
{
	unsigned type = (d->lo >> 40) & 0xf;
	enum sys_task_reason reason = jump ? TASK_JMP : TASK_CALL;
	int rc;

	if (type == SYS_CALL32 || (type == SYS_CALL16 && !sys_long(v)))
		return through_call_gate(v, d, jump);
	if (sys_long(v) || (type != SYS_TASK && type != SYS_TSS16 && type != SYS_TSS32))
		return soft_raise_error(v, EXC_GP, d->selector & 0xfffcu);
	rc = check_gate(v, d);
	if (rc != SOFT_OK)
		return rc;
	if (type == SYS_TASK)
		return sys_task_gate(v, d->lo, reason, false, 0, v->next_rip, 0);
	return sys_task_switch(v, d->selector, reason, false, 0, v->next_rip, 0);
}

static int far_branch(struct soft_vcpu *v, const struct soft_insn *insn, bool jump)
{
	unsigned size = op_bytes(insn);
	uint64_t offset = 0, frame[2] = { v->seg[SOFT_CS].selector, v->next_rip };
	struct sys_stack stack;
	struct sys_desc d;
	uint16_t selector = 0;
	int rc;

	rc = far_pointer(v, insn, &selector, &offset);
	if (rc != SOFT_OK)
		return rc;
	sys_current_stack(v, &stack);
	if (v->mode & MODE_REAL) {
		if (offset > (sys_vm86(v) ? 0xffffu : v->seg[SOFT_CS].limit))
			return sys_gp0(v);
		if (!jump) {
			rc = sys_push_frame(v, &stack, frame, 2, size);
			if (rc != SOFT_OK)
				return rc;
			sys_set_sp(v, &stack.ss, false, stack.sp);
		}
		return enter_real(v, selector, offset);
	}
	if (!(selector & 0xfffc))
		return sys_gp0(v);
	rc = sys_read_desc(v, selector, EXC_GP, 0, false, &d);
	if (rc != SOFT_OK)
		return rc;
	if (!(sys_attr(d.lo) & SEG_S))
		return through_system(v, &d, jump);
	if (!(sys_attr(d.lo) & SEG_CODE))
		return soft_raise_error(v, EXC_GP, selector & 0xfffcu);
	rc = check_direct(v, &d);
	if (rc == SOFT_OK)
		rc = check_offset(v, &d, offset);
	if (rc == SOFT_OK)
		rc = sys_mark_accessed(v, &d);
	if (rc == SOFT_OK && !jump)
		rc = sys_push_frame(v, &stack, frame, 2, size);
	if (rc != SOFT_OK)
		return rc;
	if (!jump)
		sys_set_sp(v, &stack.ss, stack.code64, stack.sp);
	enter_code(v, &d, v->cpl, offset);
	soft_update_mode(v);
	return SOFT_OK;
}

int soft_op_jmp_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return far_branch(v, insn, true);
}

int soft_op_call_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return far_branch(v, insn, false);
}

/* --- far RET and IRET ----------------------------------------------------------------------- */

/* CS of a return: RPL is the privilege returned to. */
static int return_segment(struct soft_vcpu *v, uint16_t selector, struct sys_desc *d)
{
	uint32_t attr;
	unsigned rpl = selector & 3u;
	bool ok;
	int rc;

	if (!(selector & 0xfffc))
		return sys_gp0(v);
	rc = sys_read_desc(v, selector, EXC_GP, 0, false, d);
	if (rc != SOFT_OK)
		return rc;
	attr = sys_attr(d->lo);
	ok = (attr & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE) && rpl >= v->cpl;
	if (attr & SEG_EC)
		ok = ok && sys_dpl(attr) <= rpl;
	else
		ok = ok && sys_dpl(attr) == rpl;
	return check_code(v, d, ok);
}

/* SS popped by a return to privilege cpl into code of descriptor cs. */
static int return_stack(struct soft_vcpu *v, uint16_t selector, const struct sys_desc *cs,
			unsigned cpl, struct vmx_segment *ret)
{
	struct sys_desc d;
	int rc;

	if (!(selector & 0xfffc)) {
		bool code64 = sys_long(v) && (sys_attr(cs->lo) & SEG_L);

		if (!code64 || cpl == 3 || (selector & 3u) != cpl)
			return sys_gp0(v);
		sys_null_segment(ret, selector);
		ret->attributes = (uint16_t)(cpl << 5);
		return SOFT_OK;
	}
	rc = sys_read_desc(v, selector, EXC_GP, 0, false, &d);
	if (rc == SOFT_OK)
		rc = sys_check_ss(v, &d, cpl, EXC_GP, 0);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(ret, selector, d.lo, 0);
	return SOFT_OK;
}

/* The new stack pointer: which part of RSP is replaced depends on where it goes. */
static void return_sp(struct soft_vcpu *v, uint64_t sp)
{
	bool code64 = sys_long(v) && (v->seg[SOFT_CS].attributes & SEG_L);

	sys_set_sp(v, &v->seg[SOFT_SS], code64, sp);
}

int soft_op_ret_far(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = op_bytes(insn), cpl;
	uint64_t release = insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ?
			   insn->op[0].imm.value.u & 0xffff : 0;
	uint64_t val[2], outer[2] = { 0, 0 };
	struct stack_reader r;
	struct vmx_segment ss;
	struct sys_desc d;
	int rc;

	reader_init(v, &r);
	rc = read_frame(v, &r, val, 2, size);
	if (rc != SOFT_OK)
		return rc;
	if (v->mode & MODE_REAL) {
		rc = enter_real(v, (uint16_t)val[1], val[0]);
		if (rc == SOFT_OK)
			sys_set_sp(v, &v->seg[SOFT_SS], false, r.sp + release);
		return rc;
	}
	rc = return_segment(v, (uint16_t)val[1], &d);
	if (rc != SOFT_OK)
		return rc;
	cpl = d.selector & 3u;
	r.sp = (r.sp + release) & r.mask;
	if (cpl != v->cpl) {
		rc = read_frame(v, &r, outer, 2, size);
		if (rc == SOFT_OK)
			rc = return_stack(v, (uint16_t)outer[1], &d, cpl, &ss);
		if (rc != SOFT_OK)
			return rc;
	}
	rc = check_offset(v, &d, val[0]);
	if (rc == SOFT_OK)
		rc = sys_mark_accessed(v, &d);
	if (rc != SOFT_OK)
		return rc;
	if (cpl == v->cpl) {
		sys_set_sp(v, &v->seg[SOFT_SS], r.code64, r.sp);
		enter_code(v, &d, cpl, val[0]);
	} else {
		enter_code(v, &d, cpl, val[0]);
		v->seg[SOFT_SS] = ss;
		return_sp(v, outer[0] + release);
		sys_drop_segments(v);
	}
	soft_update_mode(v);
	return SOFT_OK;
}

/* Which flags IRET (and POPF, without RF) may change. */
static uint64_t iret_flags(const struct soft_vcpu *v, unsigned size)
{
	uint64_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;

	if (v->cpl <= sys_iopl(v))
		mask |= FL_IF;
	if (v->cpl == 0)
		mask |= FL_IOPL | FL_VIF | FL_VIP;
	return size == 2 ? mask & 0xffff : mask;
}

static int iret_real(struct soft_vcpu *v, struct stack_reader *r, unsigned size)
{
	uint64_t val[3], mask = iret_flags(v, size);
	int rc;

	if (sys_vm86(v)) {
		if (sys_iopl(v) < 3)
			return sys_gp0(v);
		mask &= ~(uint64_t)FL_IOPL;
	}
	rc = read_frame(v, r, val, 3, size);
	if (rc == SOFT_OK)
		rc = enter_real(v, (uint16_t)val[1], val[0]);
	if (rc != SOFT_OK)
		return rc;
	sys_set_sp(v, &v->seg[SOFT_SS], false, r->sp);
	sys_set_flags(v, val[2], mask & ~(uint64_t)(FL_VIF | FL_VIP));
	return SOFT_OK;
}

/* From CPL 0 into virtual-8086 mode; val: EIP, CS, EFLAGS. */
static int iret_vm86(struct soft_vcpu *v, struct stack_reader *r, const uint64_t val[3])
{
	static const uint8_t order[] = { SOFT_SS, SOFT_ES, SOFT_DS, SOFT_FS, SOFT_GS };
	uint64_t outer[6];
	int rc;

	rc = read_frame(v, r, outer, 6, 4);
	if (rc != SOFT_OK)
		return rc;
	if (val[0] > 0xffff)
		return sys_gp0(v);
	sys_set_flags(v, val[2], FL_ALL);
	v->cpl = 3;
	sys_real_segment(v, SOFT_CS, (uint16_t)val[1]);
	for (unsigned i = 0; i < 5; i++)
		sys_real_segment(v, order[i], (uint16_t)outer[i + 1]);
	v->gpr[SOFT_RSP] = (uint32_t)outer[0];
	v->rip = v->next_rip = (uint16_t)val[0];
	soft_update_mode(v);
	return SOFT_OK;
}

static int iret_protected(struct soft_vcpu *v, struct stack_reader *r, unsigned size)
{
	uint64_t val[5], mask = iret_flags(v, size);
	bool code64 = sys_code64(v), outer;
	struct vmx_segment ss;
	struct sys_desc d;
	unsigned cpl;
	int rc;

	rc = read_frame(v, r, val, code64 ? 5 : 3, size);
	if (rc != SOFT_OK)
		return rc;
	if (size >= 4 && (val[2] & FL_VM) && v->cpl == 0 && !sys_long(v))
		return iret_vm86(v, r, val);
	rc = return_segment(v, (uint16_t)val[1], &d);
	if (rc != SOFT_OK)
		return rc;
	cpl = d.selector & 3u;
	outer = cpl != v->cpl;
	if (outer && !code64) {
		rc = read_frame(v, r, val + 3, 2, size);
		if (rc != SOFT_OK)
			return rc;
	}
	if (outer || code64) {
		rc = return_stack(v, (uint16_t)val[4], &d, cpl, &ss);
		if (rc != SOFT_OK)
			return rc;
	}
	rc = check_offset(v, &d, val[0]);
	if (rc == SOFT_OK)
		rc = sys_mark_accessed(v, &d);
	if (rc != SOFT_OK)
		return rc;
	enter_code(v, &d, cpl, val[0]);
	if (outer || code64) {
		v->seg[SOFT_SS] = ss;
		return_sp(v, val[3]);
	} else {
		sys_set_sp(v, &v->seg[SOFT_SS], false, r->sp);
	}
	if (outer)
		sys_drop_segments(v);
	sys_set_flags(v, val[2], mask);
	soft_update_mode(v);
	return SOFT_OK;
}

static int iret(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = op_bytes(insn);
	struct stack_reader r;

	reader_init(v, &r);
	if (v->mode & MODE_REAL)
		return iret_real(v, &r, size);
	if (v->rflags & FL_NT) {
		uint16_t link;
		int rc;

		if (sys_long(v))
			return sys_gp0(v);
		rc = soft_read(v, (uint32_t)v->seg[SOFT_TR].base, &link, 2, ACC_SYSTEM);
		if (rc != SOFT_OK)
			return rc;
		return sys_task_switch(v, link, TASK_IRET, false, 0, v->next_rip, 0);
	}
	return iret_protected(v, &r, size);
}

/* IRET ends the blocking of NMIs (with virtual NMIs, of those) even if it faults or exits; then the VMX
 * host is told of it (27.2.3). What has to wait for the caller of resume did not happen yet. */
static int unblock_nmi(struct soft_vcpu *v, int rc)
{
	if (rc != SOFT_OK && rc != SOFT_EXCEPTION && rc != SOFT_VMEXIT)
		return rc;
	v->nmi_blocked = false;
	v->vmx.nmi_unblocked_by_iret = rc != SOFT_OK;
	soft_events_recheck(v);
	return rc;
}

int sys_op_iret(struct soft_vcpu *v, const struct soft_insn *insn)
{
	int rc = iret(v, insn);

	if (!v->nmi_blocked || (soft_vmx_pin(v, PIN_NMI) && !soft_vmx_pin(v, PIN_VIRTUAL_NMI)))
		return rc;
	return unblock_nmi(v, rc);
}
