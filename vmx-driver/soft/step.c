/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one instruction at v->rip, in any mode. */
#include "vmx-driver/soft/step.h"

#define FETCH_MAX 15u
#define LEGACY_FP_BYTES 576u /* x87 and SSE state and the header of an XSAVE image */

/* --- fetch and decode ----------------------------------------------------------------------- */

static int code_address(struct soft_vcpu *v, uint64_t *ret_la, unsigned *ret_max)
{
	const struct vmx_segment *cs = &v->seg[SOFT_CS];
	uint64_t left;

	*ret_max = FETCH_MAX;
	if ((v->mode & MODE_CODE) == CODE_64) {
		*ret_la = v->rip;
		return soft_canonical(v->rip) ? SOFT_OK : soft_raise_error(v, EXC_GP, 0);
	}
	if (v->rip > cs->limit)
		return soft_raise_error(v, EXC_GP, 0);
	left = cs->limit - v->rip;
	if (left < FETCH_MAX)
		*ret_max = (unsigned)left + 1;
	*ret_la = (uint32_t)(cs->base + v->rip);
	return SOFT_OK;
}

/* Bytes at v->rip are no instruction: which fault is it? la, n, max: what was fetched of what could
 * be had. */
static int fetch_fault(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned max, bool too_short)
{
	uint8_t byte;
	uint64_t gpa;
	unsigned got;
	int rc;

	if (!too_short)
		return soft_raise(v, EXC_UD);
	if (n >= max) /* longer than 15 bytes, or beyond the segment's limit */
		return soft_raise_error(v, EXC_GP, 0);
	rc = soft_fetch(v, la + n, &byte, 1, &got, &gpa);
	return rc ? rc : SOFT_AGAIN; /* the page came meanwhile */
}

static int fetch(struct soft_vcpu *v, const struct soft_insn **ret)
{
	uint8_t bytes[FETCH_MAX + 1];
	unsigned n, max, code = v->mode & MODE_CODE;
	uint64_t la = 0, gpa;
	bool too_short;
	int rc = code_address(v, &la, &max);

	if (rc == SOFT_OK)
		rc = soft_fetch(v, la, bytes, max, &n, &gpa);
	if (rc)
		return rc;
	*ret = soft_decode(v, bytes, n, code, &too_short);
	if (!*ret)
		return fetch_fault(v, la, n, max, too_short);
	v->next_rip = v->rip + (*ret)->len;
	if (code != CODE_64) /* in 16-bit code too: beyond 0xffff the limit is what counts */
		v->next_rip &= 0xffffffffu;
	return SOFT_OK;
}

/* --- debug registers (SDM 3B 18.2) ---------------------------------------------------------- */

enum { DR7_EXEC = 0, DR7_WRITE = 1, DR7_IO = 2, DR7_ACCESS = 3 };

static bool breakpoint_on(const struct soft_vcpu *v, unsigned i)
{
	return v->dr7 >> (2 * i) & 3;
}
static unsigned breakpoint_type(const struct soft_vcpu *v, unsigned i)
{
	return v->dr7 >> (16 + 4 * i) & 3;
}

static unsigned breakpoint_length(const struct soft_vcpu *v, unsigned i)
{
	static const uint8_t lengths[4] = { 1, 2, 8, 4 };

	return lengths[v->dr7 >> (18 + 4 * i) & 3];
}

static int check_code_breakpoints(struct soft_vcpu *v)
{
	uint64_t la = v->rip, hits = 0;

	if ((v->mode & MODE_CODE) != CODE_64)
		la = (uint32_t)(v->seg[SOFT_CS].base + v->rip);
	for (unsigned i = 0; i < 4; i++)
		if (breakpoint_on(v, i) && breakpoint_type(v, i) == DR7_EXEC && v->dr[i] == la)
			hits |= 1u << i;
	return hits ? soft_raise_debug(v, hits) : SOFT_OK;
}

static uint64_t match_data(const struct soft_vcpu *v, uint64_t la, unsigned size, bool write)
{
	uint64_t hits = 0;

	for (unsigned i = 0; i < 4; i++) {
		unsigned type = breakpoint_type(v, i), len = breakpoint_length(v, i);
		uint64_t at = v->dr[i] & ~(uint64_t)(len - 1);

		if (!breakpoint_on(v, i) || (type != DR7_ACCESS && !(type == DR7_WRITE && write)))
			continue;
		if (la < at + len && at < la + size)
			hits |= 1u << i;
	}
	return hits;
}

/* I/O breakpoints, with CR4.DE. */
static uint64_t port_breakpoints(const struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned port = (uint16_t)v->gpr[SOFT_RDX], size = insn->zi.operand_width / 8u;
	uint64_t hits = 0;

	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			port = (uint8_t)insn->op[i].imm.value.u;
	for (unsigned i = 0; i < 4; i++) {
		unsigned len = breakpoint_length(v, i);
		uint64_t at = v->dr[i] & ~(uint64_t)(len - 1);

		if (breakpoint_on(v, i) && breakpoint_type(v, i) == DR7_IO && port < at + len &&
		    at < port + size)
			hits |= 1u << i;
	}
	return hits;
}

/* Data breakpoints that the instruction is going to hit if it completes: bits of DR6. */
static uint64_t data_breakpoints(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t hits = 0, offset, la;
	unsigned seg, size;

	if ((v->cr4 & CR4_DE) && (insn->zi.meta.category == ZYDIS_CATEGORY_IO ||
				  insn->zi.meta.category == ZYDIS_CATEGORY_IOSTRINGOP))
		hits = port_breakpoints(v, insn);

	for (unsigned i = 0; i < insn->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];
		bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
		bool stack = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
			     op->mem.segment == ZYDIS_REGISTER_SS;

		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type != ZYDIS_MEMOP_TYPE_MEM ||
		    insn->soft_op == &soft_form_ops[FORM_NOP])
			continue;
		size = op->size / 8u;
		soft_ea(v, insn, i, &seg, &offset);
		if (stack) {
			offset = soft_sp(v) - (write ? size : 0);
			offset &= soft_mask(soft_sp_width(v));
		}
		if (soft_linear(v, seg, offset, size ? size : 1, write, &la) == SOFT_OK)
			hits |= match_data(v, la, size, write);
	}
	return hits;
}

/* --- native instructions -------------------------------------------------------------------- */

struct operand { /* the memory operand of a native instruction */
	uint64_t la;
	unsigned size;
	bool read, write;
};

struct before { /* what soft_exec_native() changes, for when the result cannot be stored yet */
	uint64_t gpr[16];
	uint16_t aflags;
	bool fp;
	uint8_t legacy[LEGACY_FP_BYTES];
};

static void before_save(struct soft_vcpu *v, const struct soft_insn *insn, struct before *b)
{
	soft_copy(b->gpr, v->gpr, sizeof(b->gpr));
	b->aflags = v->aflags;
	/* Of the instructions that store to memory only x87's change FP state too. */
	b->fp = insn->fp == FP_X87;
	if (b->fp) {
		soft_fp_save(v);
		soft_copy(b->legacy, v->xsave, sizeof(b->legacy));
	}
}

static void before_restore(struct soft_vcpu *v, const struct before *b)
{
	soft_copy(v->gpr, b->gpr, sizeof(b->gpr));
	v->aflags = b->aflags;
	if (b->fp) {
		soft_fp_save(v);
		soft_copy(v->xsave, b->legacy, sizeof(b->legacy));
	}
}

/* The host reports unmasked exceptions of x87 and SSE alike. An SSE instruction that also uses MMX
 * registers looks at x87's first: pending there (FSW.ES) means #MF. */
static int native(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint16_t fsw;
	int rc = soft_exec_native(v, insn);

	if (rc != SOFT_EXCEPTION || insn->fp != FP_SSE ||
	    (v->exc.vector != EXC_XM && v->exc.vector != EXC_UD))
		return rc;
	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++) {
		if (insn->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    insn->op[i].reg.value < ZYDIS_REGISTER_MM0 ||
		    insn->op[i].reg.value > ZYDIS_REGISTER_MM7)
			continue;
		soft_fp_save(v);
		soft_copy(&fsw, v->xsave + 2, sizeof(fsw));
		return fsw & 0x80 ? soft_raise(v, EXC_MF) : rc;
	}
	return rc;
}

/* Runs it on a copy of its operand, which keeps the alignment of the original. */
static int bounce_run(struct soft_vcpu *v, const struct soft_insn *insn, const struct operand *o)
{
	uint8_t *at = v->bounce + (o->size <= 64 ? o->la & 63 : 0);
	struct before before;
	int rc = SOFT_OK;

	if (o->write)
		rc = soft_probe(v, o->la, o->size, ACC_WRITE);
	/* An x87 store with an unmasked exception leaves memory as it is. */
	if (rc == SOFT_OK &&
	    (o->read || (insn->fp == FP_X87 && soft_is_ram(v, o->la) &&
			 soft_is_ram(v, o->la + o->size - 1))))
		rc = soft_read(v, o->la, at, o->size, 0);
	if (rc)
		return rc;
	if (o->write)
		before_save(v, insn, &before);
	v->opnd_ptr = at;
	rc = native(v, insn);
	if (rc || !o->write)
		return rc;
	rc = soft_write(v, o->la, at, o->size, ACC_WRITE);
	if (rc)
		before_restore(v, &before);
	return rc;
}

static int run_bounced(struct soft_vcpu *v, const struct soft_insn *insn, const struct operand *o)
{
	bool exclusive = insn->lock && soft_is_smp(v);
	int rc;

	if (o->size > sizeof(v->bounce))
		return soft_raise(v, EXC_UD);
	if (exclusive)
		soft_exclusive_begin(soft_vm_of(v), v);
	rc = bounce_run(v, insn, o);
	if (exclusive)
		soft_exclusive_end(soft_vm_of(v), v);
	return rc;
}

/* Must the memory operand be aligned to its size? Then #GP(0) comes before any other fault. */
static bool wants_alignment(const struct soft_insn *insn, unsigned size)
{
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CMPXCHG16B:
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVDQA32:
	case ZYDIS_MNEMONIC_VMOVDQA64:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
		return true;
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return false;
	default:
		/* SHA's may be anywhere on the processors that were tried */
		return size == 16 && insn->fp == FP_SSE &&
		       insn->zi.meta.category != ZYDIS_CATEGORY_SHA;
	}
}

static bool misaligned(struct soft_vcpu *v, const struct soft_insn *insn, unsigned size)
{
	unsigned seg;
	uint64_t offset;

	if (size < 16 || !wants_alignment(insn, size))
		return false;
	soft_ea(v, insn, (unsigned)insn->mem[0], &seg, &offset);
	if ((v->mode & MODE_CODE) != CODE_64 || seg == SOFT_FS || seg == SOFT_GS)
		offset += v->seg[seg].base;
	return offset & (size - 1);
}

int soft_run_native(struct soft_vcpu *v, const struct soft_insn *insn)
{
	const ZydisDecodedOperand *op;
	struct operand o;
	int rc;

	if (insn->mem[0] < 0) {
		rc = native(v, insn);
		return rc ? rc : soft_done(v);
	}
	op = &insn->op[insn->mem[0]];
	o.size = op->size / 8u;
	o.read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	o.write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	if (o.size == 0)
		return soft_raise(v, EXC_UD);
	if (misaligned(v, insn, o.size))
		return soft_raise_error(v, EXC_GP, 0);
	rc = soft_operand_la(v, insn, (unsigned)insn->mem[0], o.write, &o.la);
	if (rc == SOFT_OK)
		rc = soft_host_ptr(v, o.la, o.size, o.write ? ACC_WRITE : 0, &v->opnd_ptr);
	if (rc)
		return rc;
	rc = v->opnd_ptr ? native(v, insn) : run_bounced(v, insn, &o);
	return rc ? rc : soft_done(v);
}

/* --- one instruction ------------------------------------------------------------------------ */

static int execute(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t start = v->rip;
	int rc;

	if (!insn->allowed ||
	    ((v->mode & MODE_REAL) && insn->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX))
		return soft_raise(v, EXC_UD);
	if (insn->fp != FP_NONE) {
		rc = soft_fp_check(v, insn);
		if (rc)
			return rc;
	}
	if (!insn->soft_op)
		return soft_run_native(v, insn);
	rc = insn->soft_op->fn(v, insn);
	if (rc == SOFT_OK)
		soft_settle(v, start);
	return rc;
}

static bool is_iret(const struct soft_insn *insn)
{
	return insn->zi.mnemonic == ZYDIS_MNEMONIC_IRET ||
	       insn->zi.mnemonic == ZYDIS_MNEMONIC_IRETD ||
	       insn->zi.mnemonic == ZYDIS_MNEMONIC_IRETQ;
}

/* The single-step trap belongs to instructions that began with TF set, but entering a handler, the
 * kernel or, by SYSRET, a program cleared TF before it could be taken, and a load of SS puts it off. */
static bool steps(const struct soft_vcpu *v, const struct soft_insn *insn)
{
	if (insn->zi.meta.category == ZYDIS_CATEGORY_INTERRUPT && !is_iret(insn) &&
	    insn->zi.mnemonic != ZYDIS_MNEMONIC_BOUND && !(v->rflags & FL_TF))
		return false;
	if ((insn->zi.mnemonic == ZYDIS_MNEMONIC_SYSCALL ||
	     insn->zi.mnemonic == ZYDIS_MNEMONIC_SYSRET) && !(v->rflags & FL_TF))
		return false;
	return !v->shadow || insn->zi.mnemonic == ZYDIS_MNEMONIC_STI;
}

struct start { /* state when the instruction began */
	bool shadow, tf, rf;
	uint64_t hits;
};

/* The instruction completed: what lasts until then ends, traps are taken. */
static int retire(struct soft_vcpu *v, const struct soft_insn *insn, const struct start *s)
{
	uint64_t dr6 = s->hits;

	soft_log_clear(v);
	soft_count(&v->n_steps);
	if (s->shadow) {
		v->shadow = 0;
		soft_events_recheck(v);
	}
	if (s->rf && !is_iret(insn))
		v->rflags &= ~(uint64_t)FL_RF;
	soft_vmx_stepped(v);
	if (v->shadow == SHADOW_MOV_SS) { /* puts off what it hit itself */
		v->vmx.pending_debug = dr6 ? dr6 | PENDING_BREAKPOINT : 0;
		return SOFT_OK;
	}
	if (s->tf && steps(v, insn))
		dr6 |= 1u << 14;
	if (v->vmx.pending_debug & (PENDING_BREAKPOINT | PENDING_STEP))
		dr6 |= v->vmx.pending_debug & (PENDING_HITS | PENDING_STEP);
	v->vmx.pending_debug = 0;
	if (v->vmx.mtf_pending && dr6) { /* its exit comes first and tells of the trap */
		v->vmx.pending_debug = dr6 | (dr6 & PENDING_HITS ? PENDING_BREAKPOINT : 0);
		dr6 = 0;
	}
	return dr6 ? soft_raise_debug(v, dr6) : SOFT_OK;
}

int soft_step(struct soft_vcpu *v)
{
	const struct soft_insn *insn;
	struct start s = {
		.shadow = v->shadow,
		.tf = v->rflags & FL_TF,
		.rf = v->rflags & FL_RF,
	};
	int rc = SOFT_OK;

	v->log.next = 0;
	if ((v->dr7 & 0xff) && !s.rf && !s.shadow)
		rc = check_code_breakpoints(v);
	if (rc == SOFT_OK)
		rc = fetch(v, &insn);
	if (rc == SOFT_OK) {
		if (v->dr7 & 0xff)
			s.hits = data_breakpoints(v, insn);
		rc = execute(v, insn);
		if (rc == SOFT_OK)
			return retire(v, insn, &s);
		if (rc == SOFT_HALT) {
			rc = retire(v, insn, &s);
			return rc ? rc : SOFT_HALT;
		}
	}
	if (rc != SOFT_EXIT)
		soft_log_clear(v);
	return rc;
}
