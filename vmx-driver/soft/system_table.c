/* SPDX-License-Identifier: Apache-2.0 */
/*
 * system_table.c - descriptor-table registers and checks of selectors: LGDT LIDT SGDT SIDT LLDT LTR
 * SLDT STR LAR LSL VERR VERW ARPL (SDM 2A, 3A 2.4, 5.10). GENERAL.
 */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* UMIP: these tell a user where the kernel's tables are. */
static bool umip(const struct soft_vcpu *v)
{
	return (v->cr4 & CR4_UMIP) && v->cpl > 0;
}

/* Descriptor-table exiting; which: the instruction's number in its group (SDM 3C 27.2.5). */
static int table_exit(struct soft_vcpu *v, const struct soft_insn *insn, enum vmx_reason reason,
		      uint32_t which)
{
	uint32_t info = which << 28;

	if (!soft_vmx_proc2(v, PROC2_TABLES))
		return SOFT_OK;
	if (reason == REASON_GDTR_IDTR && insn->zi.operand_width != 16)
		info |= 1u << 11;
	return soft_vmx_exit_operands(v, insn, reason, info);
}
enum { TABLE_SGDT, TABLE_SIDT, TABLE_LGDT, TABLE_LIDT };
enum { TABLE_SLDT, TABLE_STR, TABLE_LLDT, TABLE_LTR };

static int load_table(struct soft_vcpu *v, const struct soft_insn *insn, struct vmx_table *table)
{
	unsigned wide = sys_code64(v) ? 8 : 4;
	uint8_t raw[10];
	uint64_t la, base;
	int rc;

	if (v->cpl != 0)
		return sys_gp0(v);
	if (insn->mem[0] < 0)
		return sys_ud(v);
	rc = table_exit(v, insn, REASON_GDTR_IDTR, table == &v->gdtr ? TABLE_LGDT : TABLE_LIDT);
	if (rc == SOFT_OK)
		rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], false, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, raw, 2 + wide, 0);
	if (rc != SOFT_OK)
		return rc;
	base = sys_get(raw + 2, wide);
	if (wide == 4 && insn->zi.operand_width == 16)
		base &= 0xffffff;
	if (!sys_canonical(base))
		return sys_gp0(v);
	table->limit = (uint16_t)sys_get(raw, 2);
	table->base = base;
	return sys_done(v);
}

int sys_op_lgdt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return load_table(v, insn, &v->gdtr);
}

int sys_op_lidt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return load_table(v, insn, &v->idtr);
}

static int store_table(struct soft_vcpu *v, const struct soft_insn *insn,
		       const struct vmx_table *table)
{
	unsigned wide = sys_code64(v) ? 8 : 4;
	uint8_t raw[10];
	uint64_t la;
	int rc;

	if (umip(v))
		return sys_gp0(v);
	if (insn->mem[0] < 0)
		return sys_ud(v);
	sys_put(raw, 2, table->limit);
	sys_put(raw + 2, 8, table->base);
	rc = table_exit(v, insn, REASON_GDTR_IDTR, table == &v->gdtr ? TABLE_SGDT : TABLE_SIDT);
	if (rc == SOFT_OK)
		rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], true, &la);
	if (rc == SOFT_OK)
		rc = soft_write(v, la, raw, 2 + wide, ACC_WRITE);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

int sys_op_sgdt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return store_table(v, insn, &v->gdtr);
}

int sys_op_sidt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return store_table(v, insn, &v->idtr);
}

/* In IA-32e mode the base has 64 bits, which must be canonical. */
static int check_base(struct soft_vcpu *v, const struct sys_desc *d)
{
	struct vmx_segment s;

	sys_unpack(&s, d->selector, d->lo, d->hi);
	return sys_canonical(s.base) ? SOFT_OK :
				       soft_raise_error(v, EXC_GP, d->selector & 0xfffcu);
}

/* LLDT and LTR up to the descriptor; *ret_null: a null selector. */
static int system_descriptor(struct soft_vcpu *v, const struct soft_insn *insn, struct sys_desc *d,
			     bool *ret_null)
{
	uint64_t value = 0;
	int rc;

	*ret_null = false;
	if (!sys_protected(v))
		return sys_ud(v);
	if (v->cpl != 0)
		return sys_gp0(v);
	rc = table_exit(v, insn, REASON_LDTR_TR,
			insn->zi.mnemonic == ZYDIS_MNEMONIC_LTR ? TABLE_LTR : TABLE_LLDT);
	if (rc == SOFT_OK)
		rc = soft_read_operand(v, insn, 0, &value);
	if (rc != SOFT_OK)
		return rc;
	d->selector = (uint16_t)value;
	if (!(value & 0xfffc)) {
		*ret_null = true;
		return SOFT_OK;
	}
	if (value & 4)
		return soft_raise_error(v, EXC_GP, (uint32_t)value & 0xfffc);
	return sys_read_desc(v, (uint16_t)value, EXC_GP, 0, sys_long(v), d);
}

int sys_op_lldt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct sys_desc d;
	bool null;
	int rc = system_descriptor(v, insn, &d, &null);

	if (rc != SOFT_OK)
		return rc;
	if (null) {
		sys_null_segment(&v->seg[SOFT_LDTR], d.selector);
		return sys_done(v);
	}
	if (((d.lo >> 40) & 0x1f) != SYS_LDT)
		return soft_raise_error(v, EXC_GP, d.selector & 0xfffcu);
	if (!(sys_attr(d.lo) & SEG_P))
		return soft_raise_error(v, EXC_NP, d.selector & 0xfffcu);
	rc = check_base(v, &d);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&v->seg[SOFT_LDTR], d.selector, d.lo, d.hi);
	return sys_done(v);
}

int sys_op_ltr(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct sys_desc d;
	unsigned type;
	uint8_t busy;
	bool null;
	int rc = system_descriptor(v, insn, &d, &null);

	if (rc != SOFT_OK)
		return rc;
	if (null)
		return sys_gp0(v);
	type = (d.lo >> 40) & 0x1f;
	if (type != SYS_TSS32 && (type != SYS_TSS16 || sys_long(v)))
		return soft_raise_error(v, EXC_GP, d.selector & 0xfffcu);
	if (!(sys_attr(d.lo) & SEG_P))
		return soft_raise_error(v, EXC_NP, d.selector & 0xfffcu);
	rc = check_base(v, &d);
	if (rc != SOFT_OK)
		return rc;
	d.lo |= 2ull << 40;
	busy = (uint8_t)(d.lo >> 40);
	rc = soft_write(v, d.la + 5, &busy, 1, ACC_WRITE | ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&v->seg[SOFT_TR], d.selector, d.lo, d.hi);
	return sys_done(v);
}

static int store_selector(struct soft_vcpu *v, const struct soft_insn *insn, unsigned seg)
{
	int rc;

	if (!sys_protected(v))
		return sys_ud(v);
	if (umip(v))
		return sys_gp0(v);
	rc = table_exit(v, insn, REASON_LDTR_TR, seg == SOFT_TR ? TABLE_STR : TABLE_SLDT);
	if (rc == SOFT_OK)
		rc = soft_write_operand(v, insn, 0, v->seg[seg].selector);
	return rc == SOFT_OK ? sys_done(v) : rc;
}

int sys_op_sldt(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return store_selector(v, insn, SOFT_LDTR);
}

int sys_op_str(struct soft_vcpu *v, const struct soft_insn *insn)
{
	return store_selector(v, insn, SOFT_TR);
}

/* --- LAR LSL VERR VERW ARPL: ZF tells whether the selector would do ------------------------- */

static void set_zf(struct soft_vcpu *v, bool zf)
{
	soft_set_arith(v, (soft_arith_flags(v) & ~(uint64_t)FL_ZF) | (zf ? FL_ZF : 0));
}

/* The descriptor of a selector without faulting on it: *ret_ok. Memory may still fault. */
static int peek(struct soft_vcpu *v, uint16_t selector, struct sys_desc *d, bool *ret_ok)
{
	const struct vmx_segment *ldt = &v->seg[SOFT_LDTR];
	uint32_t limit = v->gdtr.limit;

	*ret_ok = false;
	if (!(selector & 0xfffc))
		return SOFT_OK;
	if (selector & 4) {
		if (ldt->unusable)
			return SOFT_OK;
		limit = ldt->limit;
	}
	if ((selector | 7u) > limit)
		return SOFT_OK;
	*ret_ok = true;
	return sys_read_desc(v, selector, EXC_GP, 0, false, d);
}

/* May code at this privilege, with the selector's RPL, see the segment? */
static bool visible(const struct soft_vcpu *v, const struct sys_desc *d)
{
	uint32_t attr = sys_attr(d->lo);

	if ((attr & (SEG_S | SEG_CODE | SEG_EC)) == (SEG_S | SEG_CODE | SEG_EC))
		return true;
	return sys_dpl(attr) >= v->cpl && sys_dpl(attr) >= (d->selector & 3u);
}

static int read_selector(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i,
			 struct sys_desc *d, bool *ret_ok)
{
	uint64_t value = 0;
	int rc;

	if (!sys_protected(v))
		return sys_ud(v);
	rc = soft_read_operand(v, insn, i, &value);
	if (rc == SOFT_OK)
		rc = peek(v, (uint16_t)value, d, ret_ok);
	if (rc == SOFT_OK && *ret_ok)
		*ret_ok = visible(v, d);
	return rc;
}

/* System types that LAR (limit false) and LSL (limit true) know. */
static bool type_known(const struct soft_vcpu *v, unsigned type, bool limit)
{
	uint32_t legacy = limit ? 0x0a0e : 0x1a3e, wide = limit ? 0x0a04 : 0x1a04;

	return ((sys_long(v) ? wide : legacy) >> type) & 1;
}

int sys_op_lar(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct sys_desc d;
	uint32_t attr;
	bool ok;
	int rc = read_selector(v, insn, 1, &d, &ok);

	if (rc != SOFT_OK)
		return rc;
	if (ok) {
		attr = sys_attr(d.lo);
		ok = (attr & SEG_S) || type_known(v, attr & 0xf, false);
	}
	if (ok) {
		rc = soft_write_operand(v, insn, 0, (d.lo >> 32) & 0x00f0ff00);
		if (rc != SOFT_OK)
			return rc;
	}
	set_zf(v, ok);
	return sys_done(v);
}

int sys_op_lsl(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct vmx_segment s;
	struct sys_desc d;
	bool ok;
	int rc = read_selector(v, insn, 1, &d, &ok);

	if (rc != SOFT_OK)
		return rc;
	if (ok) {
		uint32_t attr = sys_attr(d.lo);

		ok = (attr & SEG_S) || type_known(v, attr & 0xf, true);
	}
	if (ok) {
		sys_unpack(&s, d.selector, d.lo, 0);
		rc = soft_write_operand(v, insn, 0, s.limit);
		if (rc != SOFT_OK)
			return rc;
	}
	set_zf(v, ok);
	return sys_done(v);
}

int sys_op_verr(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct sys_desc d;
	bool ok;
	int rc = read_selector(v, insn, 0, &d, &ok);

	if (rc != SOFT_OK)
		return rc;
	if (ok) {
		uint32_t attr = sys_attr(d.lo);

		ok = (attr & SEG_S) && (attr & (SEG_CODE | SEG_RW)) != SEG_CODE;
	}
	set_zf(v, ok);
	return sys_done(v);
}

int sys_op_verw(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct sys_desc d;
	bool ok;
	int rc = read_selector(v, insn, 0, &d, &ok);

	if (rc != SOFT_OK)
		return rc;
	if (ok)
		ok = (sys_attr(d.lo) & (SEG_S | SEG_CODE | SEG_RW)) == (SEG_S | SEG_RW);
	set_zf(v, ok);
	return sys_done(v);
}

int sys_op_arpl(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t dst = 0, src = 0;
	bool raise;
	int rc;

	if (!sys_protected(v))
		return sys_ud(v);
	rc = soft_read_operand(v, insn, 0, &dst);
	if (rc == SOFT_OK)
		rc = soft_read_operand(v, insn, 1, &src);
	if (rc != SOFT_OK)
		return rc;
	raise = (dst & 3) < (src & 3);
	if (raise) {
		rc = soft_write_operand(v, insn, 0, (dst & ~3ull) | (src & 3));
		if (rc != SOFT_OK)
			return rc;
	}
	set_zf(v, raise);
	return sys_done(v);
}
