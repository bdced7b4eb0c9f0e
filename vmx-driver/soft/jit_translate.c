/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_translate.c - makes a block: decode, flag liveness, emission.
 *
 * A block is up to 64 guest instructions of one page, entered at its start, left at several
 * places. Guest arithmetic flags are in v->aflags at its borders and wherever something may fault;
 * between an instruction that makes them and the next that needs them they stay in RFLAGS.
 */
#include <stdlib.h>

#include "common/checked.h"
#include "vmx-driver/soft/jit_emit.h"

enum kind {
	K_DATA,   /* copied */
	K_NONE,   /* does nothing */
	K_LEA,
	K_BITMEM, /* BT BTS BTR BTC with a memory operand and a register bit offset */
	K_PUSH, K_POP, K_LEAVE, K_PUSHF, K_CLI,
	K_CALL, K_RET, K_JMP, K_JCC,
	K_OP,     /* an operation in C */
	K_STEP,   /* the stepper must */
};

enum where { IN_MEM = 1, IN_REG = 2 }; /* bits: where current guest flags are */

struct item {
	struct soft_insn insn;
	enum kind kind;
	uint64_t rip;
	uint32_t needs;    /* arithmetic flags that must be in RFLAGS before */
	uint32_t writes;   /* flags it leaves in RFLAGS */
	uint32_t live_out;
};

struct slow_path { /* cold part of a memory access */
	uint8_t *hole, *back;
	uint32_t site; /* jit.h */
	uint64_t rip;
	bool write, group;
	uint16_t item;
};

struct jit_scratch {
	unsigned count;
	bool open_end; /* falls through to `end_rip` */
	uint64_t end_rip;
	struct item item[JIT_BLOCK_INSNS];
	unsigned slow_count, link_count, point_count;
	struct slow_path slow[2 * JIT_BLOCK_INSNS];
	struct jit_link link[JIT_LINKS_MAX];
	struct jit_point point[8 * JIT_BLOCK_INSNS];
};

struct tr { /* one translation */
	struct soft_vcpu *v;
	struct soft_cache *cache;
	struct jit_scratch *s;
	struct jit_buf b;     /* where code goes: the hot half of the cache, or within cold_begin() */
	struct jit_buf other; /* and cold_end() the cold half */
	unsigned cold_depth;
	uint8_t *start;
	uint64_t gpa, rip;
	uint32_t mode;
	unsigned ctx;
	unsigned where; /* enum where of guest flags now */
	unsigned i;     /* current item */
	unsigned group_end; /* items before it share one check of memory: */
	int64_t group_lo;   /* r10 + r11 is the host address of this displacement off their base */
	uint64_t gpa2;
	bool crosses;   /* its only instruction goes on in the page at gpa2 */
	struct jit_block *block;
};

struct jit_scratch *jit_scratch_new(void)
{
	return calloc(1, sizeof(struct jit_scratch));
}

/* --- decode --------------------------------------------------------------------------------- */

static bool fp_usable(const struct tr *t, const struct soft_insn *insn)
{
	switch (insn->fp) {
	case FP_NONE: return true;
	case FP_X87:
	case FP_MMX: return !(t->mode & MODE_NM);
	case FP_SSE: return !(t->mode & MODE_NM) && (t->mode & MODE_SSE);
	default: return !(t->mode & MODE_NM) && (t->mode & MODE_AVX);
	}
}

static bool writes_memory(const struct soft_insn *insn)
{
	for (unsigned i = 0; i < insn->zi.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (insn->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return true;
	return false;
}

static enum kind classify_branch(const struct soft_insn *insn)
{
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? K_OP : K_JMP;
	case ZYDIS_MNEMONIC_CALL:
		return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? K_OP : K_CALL;
	case ZYDIS_MNEMONIC_RET:
		return insn->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR ? K_OP : K_RET;
	default:
		break;
	}
	if (insn->zi.meta.category == ZYDIS_CATEGORY_COND_BR &&
	    ((insn->zi.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (insn->zi.opcode & 0xf0) == 0x70) ||
	     (insn->zi.opcode_map == ZYDIS_OPCODE_MAP_0F && (insn->zi.opcode & 0xf0) == 0x80)))
		return K_JCC;
	return K_OP;
}

static bool has_reg_bit_offset(const struct soft_insn *insn)
{
	switch (insn->zi.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		       insn->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	default:
		return false;
	}
}

static bool plain_gpr64(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->reg.value >= ZYDIS_REGISTER_RAX &&
	       op->reg.value <= ZYDIS_REGISTER_R15;
}

static enum kind classify(const struct tr *t, const struct soft_insn *insn)
{
	const ZydisDecodedInstruction *zi = &insn->zi;

	if (!insn->allowed || !fp_usable(t, insn))
		return K_STEP;
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
		return K_NONE;
	case ZYDIS_MNEMONIC_LEA:
		return K_LEA;
	case ZYDIS_MNEMONIC_PUSH:
		if (zi->operand_width != 64)
			return K_STEP;
		if (plain_gpr64(&insn->op[0]) || insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return K_PUSH;
		return insn->soft_op ? K_OP : K_STEP;
	case ZYDIS_MNEMONIC_PUSHFQ:
		return zi->operand_width == 64 ? K_PUSHF : K_STEP;
	case ZYDIS_MNEMONIC_CLI:
		/* CPL 1 and 2, where IOPL decides, are the stepper's */
		return t->mode & MODE_USER ? K_OP : K_CLI;
	case ZYDIS_MNEMONIC_POP:
		if (zi->operand_width == 64 && plain_gpr64(&insn->op[0]))
			return K_POP;
		return insn->soft_op ? K_OP : K_STEP;
	case ZYDIS_MNEMONIC_LEAVE:
		return zi->operand_width == 64 ? K_LEAVE : K_STEP;
	default:
		break;
	}
	if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || zi->mnemonic == ZYDIS_MNEMONIC_RET) {
		enum kind k = classify_branch(insn);

		if (k != K_OP)
			return k;
	}
	if (zi->meta.category == ZYDIS_CATEGORY_PREFETCH || zi->meta.category == ZYDIS_CATEGORY_WIDENOP ||
	    zi->meta.category == ZYDIS_CATEGORY_NOP)
		return zi->mnemonic == ZYDIS_MNEMONIC_PAUSE ? K_DATA : K_NONE;
	if (has_reg_bit_offset(insn))
		return zi->address_width == 64 ? K_BITMEM : K_STEP;
	if (insn->soft_op)
		return K_OP;
	return jit_data_ok(insn) ? K_DATA : K_STEP;
}

static bool ends_block(const struct item *it)
{
	switch (it->kind) {
	case K_CALL:
	case K_RET:
	case K_JMP:
	case K_STEP:
		return true;
	case K_OP:
		if (it->insn.zi.mnemonic == ZYDIS_MNEMONIC_STI)
			return false;
		return !(it->insn.soft_op->flags & SOFT_OP_FALLS) || writes_memory(&it->insn);
	default:
		return false;
	}
}

/* Flags that an instruction reads or leaves as they were, and those it sets. */
static void flags_of(struct item *it)
{
	const ZydisDecodedInstruction *zi = &it->insn.zi;
	uint32_t tested = 0, written = 0;

	it->needs = it->writes = 0;
	if (it->kind == K_OP || it->kind == K_STEP || it->kind == K_NONE || it->kind == K_LEA ||
	    it->kind == K_PUSH || it->kind == K_POP || it->kind == K_LEAVE || it->kind == K_PUSHF ||
	    it->kind == K_CLI || it->kind == K_CALL || it->kind == K_RET || it->kind == K_JMP)
		return;
	if (zi->cpu_flags) {
		tested = zi->cpu_flags->tested & FL_ARITH;
		written = (zi->cpu_flags->modified | zi->cpu_flags->set_0 | zi->cpu_flags->set_1 |
			   zi->cpu_flags->undefined) & FL_ARITH;
	}
	it->needs = tested;
	it->writes = written;
	/* A shift or rotate by 0 leaves all flags alone; a rotate leaves most of them. */
	if (written && (zi->meta.category == ZYDIS_CATEGORY_SHIFT ||
			zi->meta.category == ZYDIS_CATEGORY_ROTATE ||
			zi->mnemonic == ZYDIS_MNEMONIC_SHLD || zi->mnemonic == ZYDIS_MNEMONIC_SHRD)) {
		const ZydisDecodedOperand *last = &it->insn.op[zi->operand_count_visible - 1];
		bool known = last->type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
			     (last->imm.value.u & 31) != 0 && zi->meta.category == ZYDIS_CATEGORY_SHIFT;

		if (!known)
			it->needs = FL_ARITH;
	} else if (zi->mnemonic == ZYDIS_MNEMONIC_BSF || zi->mnemonic == ZYDIS_MNEMONIC_BSR) {
		it->needs = FL_ARITH; /* some processors leave all but ZF alone */
	} else if (written && written != FL_ARITH) {
		it->needs = FL_ARITH; /* the others must survive it */
	}
	if (written && it->needs)
		it->writes = FL_ARITH;
}

/* Decodes the instruction at offset `at` of the page. An instruction that goes on in the next page
 * is a block of its own. False: not here. */
static bool decode_one(struct tr *t, struct item *it, const uint8_t *page, const uint8_t *page2,
		       unsigned at)
{
	struct soft_vm *vm = soft_vm_of(t->v);
	unsigned here = 4096 - at < 15 ? 4096 - at : 15;
	bool too_short = false;
	uint8_t both[30];

	if (soft_decode_into(vm, page + at, here, CODE_64, &it->insn, &too_short))
		return true;
	if (!too_short || !page2 || t->s->count)
		return false;
	memcpy(both, page + at, here);
	memcpy(both + here, page2, 15);
	if (!soft_decode_into(vm, both, 15, CODE_64, &it->insn, &too_short))
		return false;
	t->crosses = true;
	return true;
}

static void decode_block(struct tr *t, const uint8_t *page, const uint8_t *page2)
{
	struct jit_scratch *s = t->s;
	unsigned at = (unsigned)(t->rip & 0xfff), limit = t->cache->block_insns;
	uint64_t rip = t->rip;

	s->count = 0;
	s->open_end = true;
	while (s->count < limit && at < 4096) {
		struct item *it = &s->item[s->count];

		it->rip = rip;
		if (!decode_one(t, it, page, page2, at)) {
			if (s->count && jit_near_end(rip))
				break; /* perhaps only the page ends: a block of its own finds out */
			it->kind = K_STEP;
			it->insn.len = 1;
			rip++;
			it->needs = it->writes = 0;
			s->count++;
			s->open_end = false;
			break;
		}
		it->kind = classify(t, &it->insn);
		flags_of(it);
		at += it->insn.len;
		rip += it->insn.len;
		s->count++;
		if (ends_block(it)) {
			s->open_end = false;
			break;
		}
		/* No interrupt between STI and the next instruction: that one ends the block. */
		if (it->insn.zi.mnemonic == ZYDIS_MNEMONIC_STI && s->count + 1 < limit)
			limit = s->count + 1;
	}
	s->end_rip = rip;
}

/* Which flags are wanted after each instruction: all of them where the block can be left. */
static void liveness(struct jit_scratch *s)
{
	uint32_t live = FL_ARITH;

	for (unsigned i = s->count; i-- > 0;) {
		struct item *it = &s->item[i];

		if (it->kind == K_JCC || it->kind == K_OP || it->kind == K_STEP || it->kind == K_PUSHF)
			live = FL_ARITH;
		it->live_out = live;
		live = (live & ~it->writes) | it->needs;
	}
}

/* --- emission: flags, exits, memory --------------------------------------------------------- */

static void point(struct tr *t, unsigned state)
{
	struct jit_scratch *s = t->s;
	struct jit_point *p;

	if (s->point_count >= ARRAY_SIZE(s->point)) {
		t->b.full = true;
		return;
	}
	p = &s->point[s->point_count++];
	p->host = (uint32_t)(t->b.p - t->start);
	p->guest = (uint16_t)(s->item[t->i].rip - t->rip);
	p->state = (uint16_t)state;
}

/* Guest flags into v->aflags, if they are only in RFLAGS. */
static void flags_to_mem(struct tr *t)
{
	if (t->where & IN_MEM)
		return;
	e_flags_save(&t->b);
	t->where |= IN_MEM;
}

static void flags_to_reg(struct tr *t)
{
	if (t->where & IN_REG)
		return;
	e_flags_load(&t->b);
	t->where |= IN_REG;
}

/* Host flags are about to be destroyed by the translator's own code. */
static void flags_clobber(struct tr *t, uint32_t live)
{
	if (live || t->cache->strict_flags)
		flags_to_mem(t);
	t->where = IN_MEM;
}

static uint8_t *stub(const struct tr *t, uint8_t *rx)
{
	return t->cache->rw + (rx - t->cache->rx);
}

/* What seldom runs stands in the other half of the cache, so that what runs often is dense. */
static void swap_halves(struct tr *t)
{
	struct jit_buf b = t->b;

	t->b = t->other;
	t->other = b;
}

static void cold_begin(struct tr *t)
{
	if (t->cold_depth++ == 0)
		swap_halves(t);
}

static void cold_end(struct tr *t)
{
	if (--t->cold_depth == 0)
		swap_halves(t);
}

/* v->rip = rip; leave with code. */
static void emit_leave(struct tr *t, uint64_t rip, unsigned code)
{
	e_store_imm(&t->b, GS_OFF(rip), rip);
	e_mov_imm(&t->b, H_R11, code);
	e_jmp(&t->b, stub(t, t->cache->stubs.exit));
}

static uint32_t branch_table(const struct tr *t)
{
	return GS_OFF(tlb) + (uint32_t)(t->ctx * sizeof(struct soft_tlb)) +
	       (uint32_t)offsetof(struct soft_tlb, ibtc);
}

static void emit_indirect_miss(struct tr *t, int32_t undo)
{
	struct jit_buf *b = &t->b;

	e_store(b, H_R10, GS_OFF(rip));
	e_store_imm(b, GS_OFF(scratch) + 8 * 4, (uint64_t)(int64_t)undo);
	e_store_imm(b, GS_OFF(scratch) + 8 * 5, t->s->item[t->i].rip);
	e_mov_imm(b, H_R11, JIT_BRANCH);
	e_jmp(b, stub(t, t->cache->stubs.exit));
}

/* r10 holds the guest address to go to; guest flags are in memory. undo: what the current
 * instruction added to RSP, should the address turn out not to be one (jit_run.c, branch()). */
static void emit_indirect(struct tr *t, int32_t undo)
{
	struct jit_buf *b = &t->b;
	uint32_t table = branch_table(t);
	uint8_t *miss, *poll;

	if (!t->cache->chain) {
		emit_indirect_miss(t, undo);
		return;
	}
	e_mov(b, H_R11, H_R10);
	e_shift_imm(b, true, 5, H_R11, 7);
	e_rr(b, true, 0x31, H_R11, H_R10);              /* xor r11, r10 */
	e_alu_imm(b, false, 4, H_R11, SOFT_IBTC_SIZE - 1);
	e_shift_imm(b, false, 4, H_R11, 4);
	e_poll(b);
	poll = e_jcc_fwd(b, CC_NE);
	e_gs_idx(b, true, 0x3b, H_R10, H_R11, table);   /* cmp r10, [rip] */
	miss = e_jcc_fwd(b, CC_NE);
	e2(b, 0x65, 0x41);                              /* jmp gs:[r11 + host] */
	e2(b, 0xff, 0xa3);
	e4(b, table + (uint32_t)offsetof(struct soft_ibtc, host));
	cold_begin(t);
	e_fix(b, poll, b->p);
	e_fix(b, miss, b->p);
	emit_indirect_miss(t, undo);
	cold_end(t);
}

/* To a known address in another page: which page that is can change, so through the table. */
static void emit_far_edge(struct tr *t, uint64_t target)
{
	struct jit_buf *b = &t->b;
	uint32_t at = branch_table(t) + jit_branch_slot(target) * (uint32_t)sizeof(struct soft_ibtc);
	uint8_t *miss, *poll;

	e_mov_imm(b, H_R10, target);
	e_poll(b);
	poll = e_jcc_fwd(b, CC_NE);
	e_gs(b, true, 0x3b, H_R10, at);
	miss = e_jcc_fwd(b, CC_NE);
	e3(b, 0x65, 0xff, 0x24); /* jmp gs:[disp32] */
	e1(b, 0x25);
	e4(b, at + (uint32_t)offsetof(struct soft_ibtc, host));
	cold_begin(t);
	e_fix(b, poll, b->p);
	e_fix(b, miss, b->p);
	e_store(b, H_R10, GS_OFF(rip));
	e_mov_imm(b, H_R11, JIT_LOOKUP);
	e_jmp(b, stub(t, t->cache->stubs.exit));
	cold_end(t);
}

static bool after_sti(const struct jit_scratch *s)
{
	for (unsigned i = s->count > 1 ? s->count - 2 : 0; i < s->count; i++)
		if (s->item[i].insn.zi.mnemonic == ZYDIS_MNEMONIC_STI)
			return true;
	return false;
}

#define ALWAYS 0x10u /* instead of a condition code */

/* A jump (on condition cc, or ALWAYS) to the block for a target in this page, bent to it when that
 * exists. */
static void emit_link(struct tr *t, unsigned cc, uint64_t target, uint32_t mode_bits)
{
	unsigned opcode_len = cc == ALWAYS ? 1 : 2;
	struct jit_buf *b = &t->b;
	struct jit_scratch *s = t->s;
	struct jit_link *link;

	if (s->link_count >= JIT_LINKS_MAX) {
		b->full = true;
		return;
	}
	link = &s->link[s->link_count];
	/* one aligned store bends the jump while others run it */
	while (((uintptr_t)(b->p + opcode_len) & 3) && !b->full)
		e1(b, 0x90);
	if (cc == ALWAYS)
		e1(b, 0xe9);
	else
		e2(b, 0x0f, 0x80 | cc);
	link->rel32 = b->p;
	e4(b, 0);
	cold_begin(t);
	e_fix(b, link->rel32, b->p);
	link->unlinked = b->p;
	link->target = target;
	link->mode_bits = mode_bits;
	e_store_imm(b, GS_OFF(rip), target);
	/* struct jit_link * : filled in when the links have their place; see finish() */
	e_mov_imm(b, H_R11, (uint64_t)s->link_count | 0x4c494e4b00000000u);
	e_store(b, H_R11, GS_OFF(scratch));
	e_mov_imm(b, H_R11, JIT_LINK);
	e_jmp(b, stub(t, t->cache->stubs.exit));
	cold_end(t);
	s->link_count++;
}

/* The target of a jump that may be bent: in this page, and wholly so. */
static bool linkable(const struct tr *t, uint64_t target)
{
	return t->cache->chain && target >> JIT_PAGE_SHIFT == t->rip >> JIT_PAGE_SHIFT &&
	       !jit_near_end(target);
}

/* Goes to a known guest address; guest flags are in memory. */
static void emit_edge(struct tr *t, uint64_t target, bool backward)
{
	struct jit_buf *b = &t->b;

	if (!t->cache->chain) {
		emit_leave(t, target, JIT_LOOKUP);
		return;
	}
	if (!linkable(t, target)) {
		emit_far_edge(t, target);
		return;
	}
	/* What waited for STI is taken here, not some blocks later when IF may be clear again. */
	if (backward || after_sti(t->s)) {
		uint8_t *poll;

		e_poll(b);
		poll = e_jcc_fwd(b, CC_NE);
		cold_begin(t);
		e_fix(b, poll, b->p);
		emit_leave(t, target, SOFT_AGAIN);
		cold_end(t);
	}
	emit_link(t, ALWAYS, target, 0);
}

/* Checks the access to [r10, +size); afterwards r11 is the distance to host memory. Guest flags
 * have been saved. */
static void emit_check_site(struct tr *t, unsigned size, bool write, bool group)
{
	struct jit_buf *b = &t->b;
	struct jit_scratch *s = t->s;
	struct slow_path *slow = &s->slow[s->slow_count];
	uint64_t rip = s->item[t->i].rip;
	/* A site's L0 slot: odd ones for writes, so that a load never uses a store's permission. */
	uint32_t hash = (uint32_t)((t->gpa ^ t->gpa >> 12) + (rip - t->rip)) * 2654435761u >> 20;
	uint32_t slot = ((hash << 1) | write) % SOFT_L0_SIZE;
	uint32_t l0 = GS_OFF(tlb) + (uint32_t)(t->ctx * sizeof(struct soft_tlb)) +
		      (uint32_t)offsetof(struct soft_tlb, l0) + slot * 16u;

	if (s->slow_count >= ARRAY_SIZE(s->slow)) {
		b->full = true;
		return;
	}
	s->slow_count++;
	/* a wide operand may have to be aligned, which is checked before the page is looked at */
	slow->site = slot * 16u | size << JIT_SITE_SIZE_SHIFT |
		     (size >= 16 ? JIT_SITE_WIDE : 0);
	slow->group = group;
	slow->rip = rip;
	slow->write = write;
	slow->item = (uint16_t)t->i;
	if (t->cache->use_l0) {
		e_mov(b, H_R11, H_R10);
		e_gs(b, true, 0x2b, H_R11, l0);
		e_alu_imm(b, true, 7, H_R11, 4096 - size);
		slow->hole = e_jcc_fwd(b, CC_A);
		e_load(b, H_R11, l0 + 8);
	} else {
		slow->hole = e_jmp_fwd(b);
	}
	slow->back = b->p;
}

static void emit_check(struct tr *t, unsigned size, bool write)
{
	emit_check_site(t, size, write, false);
}

static void emit_slow_paths(struct tr *t)
{
	struct jit_buf *b = &t->b;
	struct jit_scratch *s = t->s;

	for (unsigned k = 0; k < s->slow_count; k++) {
		struct slow_path *slow = &s->slow[k];

		e_fix(b, slow->hole, b->p);
		e_mov_imm(b, H_R9, slow->site);
		if (slow->group) {
			uint8_t *apart;

			e_call(b, stub(t, t->cache->stubs.slow_group[t->ctx][slow->write]));
			apart = e_jcc_fwd(b, CC_B);
			e_jmp(b, slow->back);
			e_fix(b, apart, b->p);
			emit_link(t, ALWAYS, slow->rip, JIT_UNGROUPED);
			continue;
		}
		e_call(b, stub(t, t->cache->stubs.slow[t->ctx][slow->write]));
		e_jmp(b, slow->back);
		e8(b, slow->rip); /* jit_slow() reads it behind the jump */
	}
}

/* --- emission: instructions ------------------------------------------------------------------ */

static const ZydisDecodedOperand *memory_operand(const struct soft_insn *insn)
{
	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    insn->op[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN)
			return &insn->op[i];
	return NULL;
}

static void emit_data(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const ZydisDecodedOperand *mem = memory_operand(&it->insn);
	struct jit_place place = { 0 };
	unsigned state;

	if (mem && t->i < t->group_end) {
		place = (struct jit_place){ true, (int8_t)(mem->mem.disp.value - t->group_lo) };
	} else if (mem) {
		unsigned size = mem->size ? mem->size / 8u : 1;
		bool write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

		/* what the instruction itself overwrites without reading need not survive */
		flags_clobber(t, it->needs | (it->live_out & ~it->writes));
		jit_emit_ea(b, H_R10, &it->insn, mem, it->rip + it->insn.len, true);
		emit_check(t, size, write);
		place.use_index = jit_data_scratch(&it->insn) < 2;
		if (!place.use_index)
			e_rr(b, true, 0x01, H_R10, H_R11); /* add r10, r11 */
	}
	if (it->needs) {
		flags_to_reg(t); /* r9 is free: register operands are loaded afterwards */
	}
	point(t, t->where & IN_MEM ? 0 : POINT_FLAGS_LIVE);
	jit_emit_data(b, &it->insn, place, &state);
	if (state & POINT_SWAPPED)
		t->s->point[t->s->point_count - 1].state |= (uint16_t)state;
	if (it->writes)
		t->where = IN_REG;
}

static void emit_lea_insn(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const struct soft_insn *insn = &it->insn;
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(insn->op[0].reg.value, &high);
	int host = jit_host_reg(guest);
	unsigned dst = host >= 0 ? (unsigned)host : H_R9;

	if (insn->zi.operand_width == 64) {
		jit_emit_ea(b, dst, insn, &insn->op[1], it->rip + insn->len, false);
		if (host < 0)
			e_store_gpr(b, dst, guest);
		return;
	}
	jit_emit_ea(b, H_R10, insn, &insn->op[1], it->rip + insn->len, false);
	if (insn->zi.operand_width == 32) {
		e_rr(b, false, 0x89, dst, H_R10);
	} else {
		if (host < 0)
			e_load_gpr(b, dst, guest);
		e1(b, 0x66);
		e_rr(b, false, 0x89, dst, H_R10);
	}
	if (host < 0)
		e_store_gpr(b, dst, guest);
}

static void load_guest(struct jit_buf *b, unsigned into, const ZydisDecodedOperand *op)
{
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(op->reg.value, &high);
	int host = jit_host_reg(guest);

	if (host >= 0)
		e_mov(b, into, (unsigned)host);
	else
		e_load_gpr(b, into, guest);
}

/* BT family with a bit offset in a register: it selects the unit in memory (SDM 2A, BT). */
static void emit_bitmem(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const struct soft_insn *insn = &it->insn;
	unsigned width = insn->zi.operand_width, log2 = width == 64 ? 6 : width == 32 ? 5 : 4;
	bool write = insn->zi.mnemonic != ZYDIS_MNEMONIC_BT;
	uint8_t opcode = insn->zi.opcode;

	flags_clobber(t, FL_ARITH);
	jit_emit_ea(b, H_R10, insn, &insn->op[0], it->rip + insn->len, true);
	load_guest(b, H_R9, &insn->op[1]);
	if (width == 32)
		e_rr(b, true, 0x63, H_R9, H_R9); /* movsxd r9, r9d (RM form: same register) */
	else if (width == 16)
		e2(b, 0x4d, 0x0f), e2(b, 0xbf, 0xc9); /* movsx r9, r9w */
	e_shift_imm(b, true, 7, H_R9, log2);
	e_shift_imm(b, true, 4, H_R9, log2 - 3);
	e_rr(b, true, 0x01, H_R10, H_R9);
	emit_check(t, width / 8, write);
	load_guest(b, H_R9, &insn->op[1]);
	e_alu_imm(b, false, 4, H_R9, width - 1);
	/* the other flags survive: loaded through rax, which r9 must not be used for */
	e_store(b, H_R9, GS_OFF(scratch) + 8);
	e_flags_load(b);
	e_load(b, H_R9, GS_OFF(scratch) + 8);
	point(t, 0);
	if (insn->lock)
		e1(b, 0xf0);
	if (width == 16)
		e1(b, 0x66);
	e2(b, 0x47 | (width == 64 ? 8 : 0), 0x0f); /* REX.RXB: r9, [r10 + r11] */
	e3(b, opcode, 0x04 | (H_R9 & 7) << 3, 0x1a);
	t->where = IN_REG;
}

static void emit_push_value(struct tr *t, unsigned reg)
{
	struct jit_buf *b = &t->b;

	point(t, 0);
	e_mem_r10_r11(b, 0x89, reg);
	e_lea(b, H_R8, H_R8, -8);
}

static void emit_push(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const ZydisDecodedOperand *op = &it->insn.op[0];
	unsigned reg = H_R9;

	flags_clobber(t, it->live_out);
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		jit_emit_ea(b, H_R10, &it->insn, op, it->rip + it->insn.len, true);
		emit_check(t, 8, false);
		point(t, 0);
		e_mem_r10_r11(b, 0x8b, H_R9);
		e_store(b, H_R9, GS_OFF(scratch) + 8);
	}
	e_lea(b, H_R10, H_R8, -8);
	emit_check(t, 8, true);
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		e_load(b, H_R9, GS_OFF(scratch) + 8);
	} else if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		e_mov_imm(b, H_R9, op->imm.is_signed ? (uint64_t)op->imm.value.s : op->imm.value.u);
	} else {
		bool high;
		unsigned guest = (unsigned)jit_guest_reg(op->reg.value, &high);
		int host = jit_host_reg(guest);

		if (host >= 0)
			reg = (unsigned)host;
		else
			e_load_gpr(b, H_R9, guest);
	}
	emit_push_value(t, reg);
}

/* PUSHFQ: v->rflags and v->aflags put together; RF and VM are pushed as 0. */
static void emit_pushf(struct tr *t)
{
	struct jit_buf *b = &t->b;

	flags_clobber(t, FL_ARITH);
	e_lea(b, H_R10, H_R8, -8);
	emit_check(t, 8, true);
	e_store(b, H_R11, GS_OFF(scratch) + 8);
	e2(b, 0x65, 0x44); /* movzx r9d, byte gs:[aflags]: OF */
	e3(b, 0x0f, 0xb6, 0x0c);
	e1(b, 0x25);
	e4(b, GS_OFF(aflags));
	e_shift_imm(b, false, 4, H_R9, 11);
	e2(b, 0x65, 0x44); /* movzx r11d, byte gs:[aflags + 1] */
	e3(b, 0x0f, 0xb6, 0x1c);
	e1(b, 0x25);
	e4(b, GS_OFF(aflags) + 1);
	e_rr(b, false, 0x09, H_R9, H_R11); /* or */
	e_gs(b, true, 0x0b, H_R9, GS_OFF(rflags));
	e_alu_imm(b, false, 4, H_R9, (uint32_t)~(FL_RF | FL_VM));
	e_load(b, H_R11, GS_OFF(scratch) + 8);
	emit_push_value(t, H_R9);
}

static void emit_cli(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;

	flags_clobber(t, it->live_out);
	e3(b, 0x65, 0x81, 0x24); /* and dword gs:[rflags], imm32 */
	e1(b, 0x25);
	e4(b, GS_OFF(rflags));
	e4(b, (uint32_t)~FL_IF);
}

static void emit_pop(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	bool high;
	unsigned guest = (unsigned)jit_guest_reg(it->insn.op[0].reg.value, &high);
	int host = jit_host_reg(guest);

	flags_clobber(t, it->live_out);
	e_mov(b, H_R10, H_R8);
	emit_check(t, 8, false);
	point(t, 0);
	if (guest == SOFT_RSP) { /* the popped value wins over the increment */
		e_mem_r10_r11(b, 0x8b, H_R8);
		return;
	}
	e_mem_r10_r11(b, 0x8b, host >= 0 ? (unsigned)host : H_R9);
	e_lea(b, H_R8, H_R8, 8);
	if (host < 0)
		e_store_gpr(b, H_R9, guest);
}

static void emit_leave_insn(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;

	flags_clobber(t, it->live_out);
	e_mov(b, H_R10, H_RBP);
	emit_check(t, 8, false);
	point(t, 0);
	e_mem_r10_r11(b, 0x8b, H_R9);
	e_lea(b, H_R8, H_RBP, 8);
	e_mov(b, H_RBP, H_R9);
}

/* Target of an indirect branch into r10. */
static void emit_branch_target(struct tr *t, struct item *it)
{
	const struct soft_insn *insn = &it->insn;
	struct jit_buf *b = &t->b;

	if (insn->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		load_guest(b, H_R10, &insn->op[0]);
		return;
	}
	jit_emit_ea(b, H_R10, insn, &insn->op[0], it->rip + insn->len, true);
	emit_check(t, 8, false);
	point(t, 0);
	e_mem_r10_r11(b, 0x8b, H_R10);
}

static uint64_t branch_target(const struct item *it)
{
	return it->rip + it->insn.len + it->insn.op[0].imm.value.u;
}

static bool is_direct(const struct item *it)
{
	return it->insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

static void emit_call(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	uint64_t next = it->rip + it->insn.len;

	flags_clobber(t, FL_ARITH);
	if (!is_direct(it)) {
		emit_branch_target(t, it);
		e_store(b, H_R10, GS_OFF(scratch) + 8);
	}
	e_lea(b, H_R10, H_R8, -8);
	emit_check(t, 8, true);
	e_mov_imm(b, H_R9, next);
	emit_push_value(t, H_R9);
	if (is_direct(it)) {
		emit_edge(t, branch_target(it), branch_target(it) <= it->rip);
	} else {
		e_load(b, H_R10, GS_OFF(scratch) + 8);
		emit_indirect(t, -8);
	}
}

static void emit_ret(struct tr *t, struct item *it)
{
	struct jit_buf *b = &t->b;
	const struct soft_insn *insn = &it->insn;
	int32_t extra = 8;

	if (insn->zi.operand_count_visible && insn->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		extra += (int32_t)(insn->op[0].imm.value.u & 0xffff);
	flags_clobber(t, FL_ARITH);
	e_mov(b, H_R10, H_R8);
	emit_check(t, 8, false);
	point(t, 0);
	e_mem_r10_r11(b, 0x8b, H_R10);
	e_lea(b, H_R8, H_R8, extra);
	emit_indirect(t, extra);
}

static void emit_jmp(struct tr *t, struct item *it)
{
	flags_clobber(t, FL_ARITH);
	if (is_direct(it)) {
		emit_edge(t, branch_target(it), branch_target(it) <= it->rip);
	} else {
		emit_branch_target(t, it);
		emit_indirect(t, 0);
	}
}

/* The flags are saved before the jump, which does not change them: then both ways are direct. */
static void emit_jcc(struct tr *t, struct item *it)
{
	uint64_t target = branch_target(it);
	unsigned cc = it->insn.zi.opcode & 15;
	uint8_t *hole;
	unsigned where;

	flags_to_reg(t);
	flags_to_mem(t);
	where = t->where;
	if (target <= it->rip && t->cache->chain) {
		/* a loop: most often taken, so its way back stands in line */
		hole = e_jcc_fwd(&t->b, cc ^ 1);
		emit_edge(t, target, true);
		e_fix(&t->b, hole, t->b.p);
	} else if (linkable(t, target) && !after_sti(t->s)) {
		emit_link(t, cc, target, 0);
	} else {
		hole = e_jcc_fwd(&t->b, cc);
		cold_begin(t);
		e_fix(&t->b, hole, t->b.p);
		emit_edge(t, target, false);
		cold_end(t);
	}
	t->where = where;
}

static void emit_op(struct tr *t, struct item *it)
{
	struct soft_cache *cache = t->cache;
	struct jit_op_site *site = jit_meta_alloc(cache, sizeof(*site));
	struct soft_insn *copy = jit_meta_alloc(cache, sizeof(*copy));

	if (!site || !copy) {
		t->b.full = true;
		return;
	}
	*copy = it->insn;
	site->fn = it->insn.soft_op->fn;
	site->insn = copy;
	site->rip = it->rip;
	site->next_rip = it->rip + it->insn.len;
	flags_clobber(t, FL_ARITH);
	e_mov_imm(&t->b, H_R11, (uint64_t)(uintptr_t)site);
	e_call(&t->b, stub(t, cache->stubs.op));
	if (it->insn.zi.mnemonic == ZYDIS_MNEMONIC_STI && t->i + 1 < t->s->count &&
	    t->s->item[t->i + 1].kind != K_STEP) {
		/* the instruction in its shadow is in this block, before the next poll */
		e3(&t->b, 0x65, 0xc6, 0x04); /* mov byte gs:[shadow], 0 */
		e1(&t->b, 0x25);
		e4(&t->b, GS_OFF(shadow));
		e1(&t->b, 0);
	}
	if (ends_block(it))
		e_jmp(&t->b, stub(t, cache->stubs.dispatch));
}

/* --- groups: one check for several accesses ---------------------------------------------------- */

#define GROUP_ITEMS 24u
#define GROUP_SPAN 120 /* bytes; displacements must fit a signed byte */

/* An access that can be in a group: all its accesses have the same base and index. */
static bool can_group(const struct item *it, const ZydisDecodedOperand *mem)
{
	return it->kind == K_DATA && mem && mem->size && mem->mem.segment != ZYDIS_REGISTER_FS &&
	       mem->mem.segment != ZYDIS_REGISTER_GS && it->insn.zi.address_width == 64 &&
	       mem->mem.base != ZYDIS_REGISTER_RIP &&
	       (mem->mem.base != ZYDIS_REGISTER_NONE || mem->mem.index != ZYDIS_REGISTER_NONE) &&
	       mem->mem.disp.value == (int32_t)mem->mem.disp.value && jit_data_scratch(&it->insn) <= 1;
}

static bool same_address_regs(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b)
{
	return a->mem.base == b->mem.base && a->mem.index == b->mem.index &&
	       (a->mem.index == ZYDIS_REGISTER_NONE || a->mem.scale == b->mem.scale);
}

static bool writes_reg(const struct item *it, ZydisRegister reg)
{
	bool high;
	int guest = jit_guest_reg(reg, &high);

	if (guest < 0)
		return false;
	for (unsigned i = 0; i < it->insn.zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &it->insn.op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    jit_guest_reg(op->reg.value, &high) == guest)
			return true;
	}
	return false;
}

/* Can stand between two accesses of a group: leaves r10 and r11 alone. */
static bool keeps_scratch(const struct item *it)
{
	const ZydisDecodedOperand *ea = &it->insn.op[1];
	bool high;

	switch (it->kind) {
	case K_NONE:
	case K_JCC:
		return true;
	case K_DATA:
		return !memory_operand(&it->insn) && jit_data_scratch(&it->insn) <= 1;
	case K_LEA:
		return it->insn.zi.operand_width == 64 && it->insn.zi.address_width == 64 &&
		       (ea->mem.base == ZYDIS_REGISTER_NONE || ea->mem.base == ZYDIS_REGISTER_RIP ||
			jit_host_reg((unsigned)jit_guest_reg(ea->mem.base, &high)) >= 0) &&
		       (ea->mem.index == ZYDIS_REGISTER_NONE ||
			jit_host_reg((unsigned)jit_guest_reg(ea->mem.index, &high)) >= 0);
	default:
		return false;
	}
}

/* Looks for accesses off one base from the current item on and emits their common check. */
static void start_group(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct item *head = &s->item[t->i];
	const ZydisDecodedOperand *first = memory_operand(&head->insn);
	ZydisDecodedOperand start;
	int64_t lo, hi;
	unsigned end = t->i, count = 0;
	bool write = false;

	if (!can_group(head, first))
		return;
	lo = hi = first->mem.disp.value;
	for (unsigned k = t->i; k < s->count && k < t->i + GROUP_ITEMS; k++) {
		struct item *it = &s->item[k];
		const ZydisDecodedOperand *mem = memory_operand(&it->insn);

		if (can_group(it, mem) && same_address_regs(mem, first)) {
			int64_t from = mem->mem.disp.value < lo ? mem->mem.disp.value : lo;
			int64_t to = mem->mem.disp.value + mem->size / 8;

			to = to > hi ? to : hi;
			if (to - from > GROUP_SPAN)
				break;
			lo = from;
			hi = to;
			write |= (mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
			end = k + 1;
			count++;
		} else if (!keeps_scratch(it)) {
			break;
		}
		if (writes_reg(it, first->mem.base) || writes_reg(it, first->mem.index))
			break;
	}
	if (count < 2)
		return;
	/* nobody but the group's own instructions touches the flags from here on */
	flags_clobber(t, FL_ARITH);
	start = *first;
	start.mem.disp.value = lo;
	jit_emit_ea(&t->b, H_R10, &head->insn, &start, 0, false);
	emit_check_site(t, (unsigned)(hi - lo), write, true);
	t->group_end = end;
	t->group_lo = lo;
}

/* PUSH reg / imm one after the other. Returns how many were emitted (0: not a run). */
static unsigned push_run(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct jit_buf *b = &t->b;
	unsigned n = 0;

	while (t->i + n < s->count && n < 12 && s->item[t->i + n].kind == K_PUSH &&
	       plain_gpr64(&s->item[t->i + n].insn.op[0]) &&
	       s->item[t->i + n].insn.op[0].reg.value != ZYDIS_REGISTER_RSP)
		n++;
	if (n < 2)
		return 0;
	flags_clobber(t, FL_ARITH);
	e_lea(b, H_R10, H_R8, -8 * (int32_t)n);
	emit_check_site(t, 8 * n, true, true);
	point(t, 0);
	for (unsigned k = 0; k < n; k++) {
		bool high;
		unsigned guest = (unsigned)jit_guest_reg(s->item[t->i + k].insn.op[0].reg.value, &high);
		int host = jit_host_reg(guest);

		if (host < 0)
			e_load_gpr(b, H_R9, guest);
		e_mem_r10_r11_disp(b, 0x89, host < 0 ? H_R9 : (unsigned)host, (int8_t)(8 * (n - 1 - k)));
	}
	e_lea(b, H_R8, H_R8, -8 * (int32_t)n);
	return n;
}

/* POP reg one after the other, and the RET that may follow. */
static unsigned pop_run(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct jit_buf *b = &t->b;
	unsigned n = 0;
	bool ret;

	while (t->i + n < s->count && n < 12 && s->item[t->i + n].kind == K_POP &&
	       s->item[t->i + n].insn.op[0].reg.value != ZYDIS_REGISTER_RSP)
		n++;
	ret = n && t->i + n < s->count && s->item[t->i + n].kind == K_RET &&
	      s->item[t->i + n].insn.zi.operand_count_visible == 0;
	if (n + ret < 2)
		return 0;
	flags_clobber(t, FL_ARITH);
	e_mov(b, H_R10, H_R8);
	emit_check_site(t, 8 * (n + ret), false, true);
	point(t, 0);
	for (unsigned k = 0; k < n; k++) {
		bool high;
		unsigned guest = (unsigned)jit_guest_reg(s->item[t->i + k].insn.op[0].reg.value, &high);
		int host = jit_host_reg(guest);

		e_mem_r10_r11_disp(b, 0x8b, host < 0 ? H_R9 : (unsigned)host, (int8_t)(8 * k));
		if (host < 0)
			e_store_gpr(b, H_R9, guest);
	}
	if (ret)
		e_mem_r10_r11_disp(b, 0x8b, H_R10, (int8_t)(8 * n));
	e_lea(b, H_R8, H_R8, 8 * (int32_t)(n + ret));
	if (ret) {
		t->i += n;
		emit_indirect(t, 8);
		return 1;
	}
	return n;
}

static void emit_item(struct tr *t, struct item *it)
{
	switch (it->kind) {
	case K_DATA: emit_data(t, it); break;
	case K_NONE: break;
	case K_LEA:
		if (it->insn.zi.address_width != 64)
			flags_clobber(t, it->live_out);
		emit_lea_insn(t, it);
		break;
	case K_BITMEM: emit_bitmem(t, it); break;
	case K_PUSH: emit_push(t, it); break;
	case K_POP: emit_pop(t, it); break;
	case K_PUSHF: emit_pushf(t); break;
	case K_CLI: emit_cli(t, it); break;
	case K_LEAVE: emit_leave_insn(t, it); break;
	case K_CALL: emit_call(t, it); break;
	case K_RET: emit_ret(t, it); break;
	case K_JMP: emit_jmp(t, it); break;
	case K_JCC: emit_jcc(t, it); break;
	case K_OP: emit_op(t, it); break;
	case K_STEP:
		flags_clobber(t, FL_ARITH);
		emit_leave(t, it->rip, SOFT_STEP);
		break;
	}
}

/* --- finish ---------------------------------------------------------------------------------- */

/* Moves links and points behind the block and fills the links' addresses into the code. */
static bool finish(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct jit_block *block = t->block;
	uint64_t first = t->rip & 0xfff, last = (s->end_rip - 1 - t->rip) + first;

	block->points = jit_meta_alloc(t->cache, s->point_count * sizeof(*s->point));
	block->links = jit_meta_alloc(t->cache, s->link_count * sizeof(*s->link));
	if (!block->points || !block->links)
		return false;
	memcpy(block->points, s->point, s->point_count * sizeof(*s->point));
	memcpy(block->links, s->link, s->link_count * sizeof(*s->link));
	block->point_count = s->point_count;
	block->link_count = s->link_count;
	for (unsigned k = 0; k < s->link_count; k++) {
		uint8_t *p = block->links[k].unlinked, *limit = p + 64;
		uint64_t mark = (uint64_t)k | 0x4c494e4b00000000u, real = (uint64_t)(uintptr_t)&block->links[k];

		while (p < limit && memcmp(p, &mark, 8) != 0)
			p++;
		if (p == limit)
			return false;
		memcpy(p, &real, 8);
		block->links[k].unlinked = t->cache->rx + (block->links[k].unlinked - t->cache->rw);
	}
	if (last > 4095)
		last = 4095;
	block->lines = 0;
	for (uint64_t line = first >> JIT_LINE_SHIFT; line <= last >> JIT_LINE_SHIFT; line++)
		block->lines |= 1ull << line;
	block->gpa2 = JIT_NO_PAGE;
	if (t->crosses) {
		block->gpa2 = t->gpa2;
		block->lines2 = 1;
	}
	block->host = t->cache->rx + (t->start - t->cache->rw);
	block->host_size = (uint32_t)(t->b.p - t->start);
	return true;
}

static bool emit_block(struct tr *t)
{
	struct jit_scratch *s = t->s;

	s->slow_count = s->link_count = s->point_count = 0;
	t->where = IN_MEM;
	t->group_end = 0;
	for (t->i = 0; t->i < s->count;) {
		bool groups = t->cache->chain && !(t->mode & JIT_UNGROUPED);
		unsigned n = groups ? push_run(t) : 0;

		if (!n && groups)
			n = pop_run(t);
		if (!n) {
			if (t->i >= t->group_end && groups)
				start_group(t);
			emit_item(t, &s->item[t->i]);
			n = 1;
		}
		t->i += n;
	}
	if (s->open_end) {
		t->i = s->count - 1;
		flags_clobber(t, FL_ARITH);
		emit_edge(t, s->end_rip, false);
	}
	cold_begin(t);
	emit_slow_paths(t);
	cold_end(t);
	return !t->b.full && !t->other.full && finish(t);
}

struct jit_block *jit_translate(struct soft_vcpu *v, uint32_t mode, uint64_t gpa, const uint8_t *page,
				uint64_t gpa2, const uint8_t *page2)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct tr t = {
		.v = v, .cache = cache, .s = cache->scratch, .gpa = gpa, .rip = v->rip, .mode = mode,
		.ctx = v->ctx, .gpa2 = gpa2,
	};

	t.b.p = t.start = cache->rw + ((cache->used + 15) & ~15ull);
	t.b.end = cache->rw + cache->size / 2;
	t.other.p = cache->rw + ((cache->used_cold + 15) & ~15ull);
	t.other.end = cache->rw + cache->size;
	t.block = jit_meta_alloc(cache, sizeof(*t.block));
	if (!t.block || t.b.p >= t.b.end)
		return NULL;
	memset(t.block, 0, sizeof(*t.block));
	t.block->gpa = gpa;
	t.block->rip = v->rip;
	t.block->mode = mode;
	decode_block(&t, page, page2);
	liveness(t.s);
	if (!emit_block(&t))
		return NULL;
	cache->used = (size_t)(t.b.p - cache->rw);
	cache->n_bytes += (size_t)(t.other.p - cache->rw) - cache->used_cold;
	cache->used_cold = (size_t)(t.other.p - cache->rw);
	cache->n_blocks++;
	cache->n_insns += t.s->count;
	cache->n_bytes += t.block->host_size;
	return t.block;
}
