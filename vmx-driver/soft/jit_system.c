/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_system.c - what system calls and task switches do many times, in line: the cases that need nothing
 * but the vCPU's own state. For the others the operation in C is called, from the cold half.
 */
#include "vmx-driver/soft/jit_tr.h"
#include "vmx-driver/soft/step.h"

#define BYTE(flag) ((unsigned)__builtin_ctzll(flag) / 8) /* of its word, where the flag stands, */
#define IN_BYTE(flag) ((uint8_t)((flag) >> BYTE(flag) * 8)) /* and in that byte */

/* test byte [at + that of the flag], the flag; then jumps on condition cc: the hole */
static uint8_t *jump_on_flag(struct jit_buf *b, uint32_t at, uint64_t flag, unsigned cc)
{
	e_vcpu8(b, 0xf6, 1, 0, at + BYTE(flag), IN_BYTE(flag));
	return e_jcc_fwd(b, cc);
}

static unsigned operand_guest(const ZydisDecodedOperand *op)
{
	bool high;

	return (unsigned)jit_guest_reg(op->reg.value, &high);
}

/* The host register that a result is computed in, and what makes it the guest's. */
static unsigned result_reg(unsigned guest)
{
	int host = jit_host_reg(guest);

	return host >= 0 ? (unsigned)host : H_R9;
}

static void emit_result(struct jit_buf *b, unsigned guest)
{
	if (jit_host_reg(guest) < 0)
		e_store_gpr(b, H_R9, guest); /* no copy stays: the operation leaves none */
}

/* Where the holes lead: the operation in C. after: goes on behind what was emitted; else wherever the
 * vCPU is then, in whatever mode. */
static void emit_otherwise(struct tr *t, struct item *it, uint8_t *const *holes, unsigned n, bool after)
{
	struct jit_buf *b = &t->b;
	const uint8_t *back = b->p;

	jit_cold_begin(t);
	for (unsigned i = 0; i < n; i++)
		e_fix(b, holes[i], b->p);
	jit_emit_op_call(t, it);
	if (after)
		e_jmp(b, back);
	else
		jit_emit_dispatch(t, it);
	jit_cold_end(t);
}

/* Into 16 bits, the others of the register stay. */
static bool emit_mov_from_sreg(struct tr *t, const struct item *it)
{
	const ZydisDecodedOperand *op = it->insn.op;
	unsigned opcode = op->size == 16 ? 0x8b66 : 0xb70f; /* mov, or movzx to 32 bits */
	int seg = soft_sreg(op[1].reg.value);
	unsigned guest, reg;

	if (seg < 0 || op->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	guest = operand_guest(op);
	reg = result_reg(guest);
	if (reg == H_R9 && op->size == 16)
		e_load_gpr(&t->b, reg, guest);
	if (reg >= 8) /* REX comes after 66, before 0f */
		opcode = op->size == 16 ? 0x8b4466 : 0xb70f44;
	e_vcpu(&t->b, opcode, reg >= 8 ? 3 : 2, reg, GS_OFF(seg[seg].selector));
	emit_result(&t->b, guest);
	return true;
}

static bool emit_read_base(struct tr *t, struct item *it, unsigned seg)
{
	unsigned guest = operand_guest(&it->insn.op[0]), reg = result_reg(guest);
	uint8_t *hole = jump_on_flag(&t->b, GS_OFF(cr4), CR4_FSGSBASE, CC_E);

	e_gs(&t->b, it->insn.zi.operand_width == 64, 0x8b, reg, GS_OFF(seg[seg].base));
	emit_result(&t->b, guest);
	emit_otherwise(t, it, &hole, 1, true);
	return true;
}

static bool emit_write_base(struct tr *t, struct item *it, unsigned seg)
{
	unsigned guest = operand_guest(&it->insn.op[0]);
	int host = jit_host_reg(guest);
	struct jit_buf *b = &t->b;
	uint8_t *hole[2];
	unsigned n = 0;

	hole[n++] = jump_on_flag(b, GS_OFF(cr4), CR4_FSGSBASE, CC_E);
	if (host >= 0)
		e_mov(b, H_R9, (unsigned)host);
	else
		e_load_gpr(b, H_R9, guest);
	if (it->insn.zi.operand_width == 64)
		hole[n++] = jit_emit_canonical(b, H_R9);
	else
		e_rr(b, false, 0x89, H_R9, H_R9);
	e_store(b, H_R9, GS_OFF(seg[seg].base));
	emit_otherwise(t, it, hole, n, true);
	return true;
}

/* RDTSCP comes after the loads before it. */
static bool emit_rdtsc(struct tr *t, struct item *it, bool rdtscp)
{
	struct jit_buf *b = &t->b;
	uint8_t *hole = NULL;

	if ((t->mode & MODE_NONROOT) || (t->v->v.vm->exit_options.optional & VMX_OPT_RDTSC))
		return false;
	if (t->mode & MODE_USER)
		hole = jump_on_flag(b, GS_OFF(cr4), CR4_TSD, CC_NE);
	if (rdtscp)
		e3(b, 0x0f, 0xae, 0xe8); /* lfence */
	e2(b, 0x0f, 0x31);
	e_shift_imm(b, true, 4, H_RDX, 32);
	e_rr(b, true, 0x09, H_RAX, H_RDX);
	e_gs(b, true, 0x03, H_RAX, GS_OFF(tsc_offset));
	e_mov(b, H_RDX, H_RAX);
	e_shift_imm(b, true, 5, H_RDX, 32);
	e_rr(b, false, 0x89, H_RAX, H_RAX);
	if (rdtscp)
		e_gs(b, false, 0x8b, H_RCX, GS_OFF(tsc_aux));
	if (hole)
		emit_otherwise(t, it, &hole, 1, true);
	return true;
}

/* With nothing that may have waited for IF. Its shadow ends as that of the operation. */
static bool emit_sti(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	uint8_t *set, *hole;

	if (t->mode & (MODE_USER | MODE_NONROOT))
		return false;
	set = jump_on_flag(b, GS_OFF(rflags), FL_IF, CC_NE);
	e_vcpu8(b, 0x80, 1, 7, GS_OFF(look_again), 0); /* cmp byte [look_again], 0 */
	hole = e_jcc_fwd(b, CC_NE);
	e_vcpu8(b, 0x80, 1, 1, GS_OFF(rflags) + BYTE(FL_IF), IN_BYTE(FL_IF)); /* or */
	e_vcpu8(b, 0xc6, 1, 0, GS_OFF(shadow), SHADOW_STI);
	e_fix(b, set, b->p);
	emit_otherwise(t, it, &hole, 1, true);
	return true;
}

bool jit_emit_system(struct tr *t, struct item *it)
{
	switch (it->insn.zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return it->insn.soft_op == &soft_form_ops[FORM_MOV_FROM_SREG] && emit_mov_from_sreg(t, it);
	case ZYDIS_MNEMONIC_RDFSBASE: return emit_read_base(t, it, SOFT_FS);
	case ZYDIS_MNEMONIC_RDGSBASE: return emit_read_base(t, it, SOFT_GS);
	case ZYDIS_MNEMONIC_WRFSBASE: return emit_write_base(t, it, SOFT_FS);
	case ZYDIS_MNEMONIC_WRGSBASE: return emit_write_base(t, it, SOFT_GS);
	case ZYDIS_MNEMONIC_RDTSC: return emit_rdtsc(t, it, false);
	case ZYDIS_MNEMONIC_RDTSCP: return emit_rdtsc(t, it, true);
	case ZYDIS_MNEMONIC_STI: return emit_sti(t, it);
	default: return false;
	}
}

/* From here on the block's code is that of the other supervisor context: what soft_update_mode() would do
 * is known, unless the tables of that context are another mode's. */
static void emit_change_ac(struct tr *t, struct item *it)
{
	bool set = !(t->mode & MODE_AC);
	unsigned ctx = set ? t->ctx + 1 : t->ctx - 1, n = 0;
	uint32_t mode = (t->mode ^ MODE_AC) & ~JIT_MODE_BITS;
	struct jit_buf *b = &t->b;
	uint8_t *hole[2];

	if (set)
		hole[n++] = jump_on_flag(b, GS_OFF(cr4), CR4_SMAP, CC_E);
	e_vcpu32(b, 0x81, 1, 7, e_tlb_offset(ctx, offsetof(struct soft_tlb, ibtc_mode)), mode); /* cmp */
	hole[n++] = e_jcc_fwd(b, CC_NE);
	e_vcpu8(b, 0x80, 1, 6, GS_OFF(rflags) + BYTE(FL_AC), IN_BYTE(FL_AC)); /* xor */
	e_vcpu8(b, 0xc6, 1, 0, GS_OFF(ctx), (uint8_t)ctx);
	e_vcpu32(b, 0xc7, 1, 0, GS_OFF(mode), mode);
	e_load(b, H_R9, GS_OFF(self));
	e_lea(b, H_R9, H_R9, (int32_t)e_tlb_offset(ctx, offsetof(struct soft_tlb, ibtc)));
	e_store(b, H_R9, GS_OFF(ibtc));
	emit_otherwise(t, it, hole, n, false);
	t->mode ^= MODE_AC;
	t->ctx = ctx;
}
_Static_assert(CTX_KERNEL + 1 == CTX_KERNEL_AC, "emit_change_ac() goes from one to the other");

/* With CR4.SMAP AC is what the mode says; without, it means nothing to supervisor code. */
void jit_emit_ac(struct tr *t, struct item *it)
{
	bool set = it->insn.zi.mnemonic == ZYDIS_MNEMONIC_STAC;
	uint8_t *hole;

	jit_flags_clobber(t);
	if (set != !!(t->mode & MODE_AC)) {
		emit_change_ac(t, it);
	} else if (!set) {
		hole = jump_on_flag(&t->b, GS_OFF(cr4), CR4_SMAP, CC_E);
		emit_otherwise(t, it, &hole, 1, true);
	}
}

void jit_emit_cli(struct tr *t)
{
	jit_flags_clobber(t);
	e_vcpu32(&t->b, 0x81, 1, 4, GS_OFF(rflags), (uint32_t)~FL_IF); /* and dword [rflags], imm32 */
}

void jit_emit_swapgs(struct tr *t)
{
	struct jit_buf *b = &t->b;

	e_load(b, H_R9, GS_OFF(seg[SOFT_GS].base));
	e_load(b, H_R10, GS_OFF(kernel_gs_base));
	e_store(b, H_R9, GS_OFF(kernel_gs_base));
	e_store(b, H_R10, GS_OFF(seg[SOFT_GS].base));
}
