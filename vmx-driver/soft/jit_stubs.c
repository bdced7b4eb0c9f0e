/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_stubs.c - the code between C and translated code, written once at the start of the cache.
 */
#include "vmx-driver/soft/jit_emit.h"

/* Guest registers that are pinned, as host register -> slot in v->gpr. */
static const struct {
	uint8_t host, guest;
} pinned[] = {
	{ H_RAX, 0 }, { H_RCX, 1 }, { H_RDX, 2 }, { H_RBX, 3 }, { H_R8, SOFT_RSP }, { H_RBP, 5 },
	{ H_RSI, 6 }, { H_RDI, 7 }, { H_R12, 12 }, { H_R13, 13 }, { H_R14, 14 }, { H_R15, 15 },
};
#define PINNED (sizeof(pinned) / sizeof(pinned[0]))

static const uint8_t callee_saved[] = { H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15 };
#define SAVED (sizeof(callee_saved) / sizeof(callee_saved[0]))

/* log2 of the bytes of L0 that a word of l0_pages stands for */
#define L0_CHUNK_SHIFT 10
_Static_assert(SOFT_L0_SIZE * sizeof(struct soft_l0) / 64 == 1u << L0_CHUNK_SHIFT, "chunks of L0");

static void push(struct jit_buf *b, unsigned reg)
{
	if (reg >= 8)
		e1(b, 0x41);
	e1(b, 0x50 | (reg & 7));
}

static void pop(struct jit_buf *b, unsigned reg)
{
	if (reg >= 8)
		e1(b, 0x41);
	e1(b, 0x58 | (reg & 7));
}

static void save_all(struct jit_buf *b)
{
	for (size_t i = 0; i < PINNED; i++)
		e_store_gpr(b, pinned[i].host, pinned[i].guest);
}

static void load_all(struct jit_buf *b)
{
	for (size_t i = 0; i < PINNED; i++)
		e_load_gpr(b, pinned[i].host, pinned[i].guest);
}

/* Those that a C function may destroy. */
static void load_volatile(struct jit_buf *b)
{
	for (size_t i = 0; i < PINNED; i++) {
		unsigned h = pinned[i].host;

		if (h != H_RBX && h != H_RBP && h < H_R12)
			e_load_gpr(b, h, pinned[i].guest);
	}
}

/* v->returns_stale = 0 */
static void emit_returns_fresh(struct jit_buf *b)
{
	e_vcpu8(b, 0xc6, 1, 0, GS_OFF(returns_stale), 0);
}

/* The host's stack with the last pair alone, which stands for a return to 0. rax is clobbered. */
static void emit_no_returns(struct jit_buf *b, const uint8_t *bottom)
{
	e_alu_imm(b, true, 4, H_RSP, -2u * JIT_RETURNS_SIZE);
	e2(b, 0x6a, 0); /* push 0 */
	e_mov_imm(b, H_RAX, (uint64_t)(uintptr_t)bottom);
	push(b, H_RAX);
	e_store(b, H_RSP, GS_OFF(returns));
	emit_returns_fresh(b);
}

static uint8_t *emit_leave(struct soft_cache *cache, struct jit_buf *b, uint8_t *start_rw, unsigned code)
{
	e_mov_imm(b, H_R11, code);
	e_jmp(b, cache->rw + (cache->stubs.exit - cache->rx));
	return cache->rx + (start_rw - cache->rw);
}

/* Ways out that many blocks have. The last pair leads to `lookup`, too. */
static void emit_ways_out(struct soft_cache *cache, struct jit_buf *b)
{
	uint8_t *start = b->p;

	e_store(b, H_R10, GS_OFF(rip));
	cache->stubs.lookup = emit_leave(cache, b, start, JIT_LOOKUP);
	start = b->p;
	e_store(b, H_R9, GS_OFF(scratch) + 8 * 4);
	e_store(b, H_R11, GS_OFF(scratch) + 8 * 5);
	e_store(b, H_R10, GS_OFF(rip));
	cache->stubs.branch = emit_leave(cache, b, start, JIT_BRANCH);
	start = b->p;
	e_store(b, H_R11, GS_OFF(scratch));
	cache->stubs.link = emit_leave(cache, b, start, JIT_LINK);
}

/* int enter(struct soft_vcpu *v (rdi), const void *host (rsi)) */
static void emit_enter(struct jit_buf *b, const uint8_t *bottom)
{
	for (size_t i = 0; i < SAVED; i++)
		push(b, callee_saved[i]);
	e2(b, 0x48, 0x83);
	e2(b, 0xec, 8); /* sub rsp, 8: aligned to 16 */
	e_store(b, H_RSP, GS_OFF(host_rsp));
	e_mov(b, H_R11, H_RSI);
	e_load(b, H_R10, GS_OFF(rip)); /* for jit_entry() */
	emit_no_returns(b, bottom);
	load_all(b);
	e3(b, 0x41, 0xff, 0xe3); /* jmp r11 */
}

static void emit_exits(struct soft_cache *cache, struct jit_buf *b)
{
	cache->stubs.exit = cache->rx + (b->p - cache->rw);
	save_all(b);
	cache->stubs.exit_saved = cache->rx + (b->p - cache->rw);
	e_rr(b, false, 0x89, H_RAX, H_R11);
	e_load(b, H_RSP, GS_OFF(host_rsp));
	e2(b, 0x48, 0x83);
	e2(b, 0xc4, 8); /* add rsp, 8 */
	for (size_t i = SAVED; i-- > 0;)
		pop(b, callee_saved[i]);
	e1(b, 0xc3);
}

/* lea dst, [dst + src]: adds and leaves the flags */
static void e_lea_sum(struct jit_buf *b, unsigned dst, unsigned src)
{
	e2(b, 0x48 | (dst >= 8 ? 5 : 0) | (src >= 8 ? 2 : 0), 0x8d);
	e2(b, 0x04 | (dst & 7) << 3, (src & 7) << 3 | (dst & 7)); /* dst is not rbp or r13 */
}

struct slow_stub { /* which of them */
	unsigned ctx;
	bool write, page, group, run;
};

static uint32_t tlb_offset(const struct slow_stub *stub, size_t member)
{
	return e_tlb_offset(stub->ctx, member);
}

static void pop_two(struct jit_buf *b)
{
	pop(b, H_RCX);
	pop(b, H_RAX);
}

/* rax: offset of la's L1 entry, rcx and r11 are free. Returns the holes of the jumps for a miss. */
static void emit_l1_check(struct jit_buf *b, const struct slow_stub *stub, uint8_t **ret_miss,
			  uint8_t **ret_cross)
{
	size_t tag = stub->write ? offsetof(struct soft_l1, tag_w) : offsetof(struct soft_l1, tag_r);
	uint8_t *found;

	e_mov(b, H_RAX, H_R10);
	e_l1_index(b, H_RAX);
	e_mov(b, H_RCX, H_R10);
	e_alu_imm(b, true, 4, H_RCX, (uint32_t)-4096);
	e_gs_idx(b, true, 0x3b, H_RCX, H_RAX, tlb_offset(stub, offsetof(struct soft_tlb, l1) + tag));
	found = e_jcc_fwd(b, CC_E);
	e_alu_imm(b, false, 6, H_RAX, SOFT_L1_OTHER * (uint32_t)sizeof(struct soft_l1)); /* xor */
	e_gs_idx(b, true, 0x3b, H_RCX, H_RAX, tlb_offset(stub, offsetof(struct soft_tlb, l1) + tag));
	*ret_miss = e_jcc_fwd(b, CC_NE);
	e_fix(b, found, b->p);
	e_rr(b, false, 0x89, H_RCX, H_R10);
	e_alu_imm(b, false, 4, H_RCX, 4095);
	e_rr(b, false, 0x89, H_R11, H_R9);
	e_shift_imm(b, false, 5, H_R11, JIT_SITE_SIZE_SHIFT);
	e_alu_imm(b, false, 4, H_R11, JIT_SITE_SIZE_MASK);
	e_rr(b, false, 0x01, H_RCX, H_R11);
	e_alu_imm(b, false, 7, H_RCX, 4096);
	*ret_cross = e_jcc_fwd(b, CC_A);
}

/* Counts a miss that L1 serves. Returns the hole of the jump that is taken when there were many. */
static uint8_t *emit_count(struct jit_buf *b)
{
	e_rr(b, false, 0x89, H_R11, H_R9);
	e_alu_imm(b, false, 4, H_R11, JIT_SITE_SLOT_MASK);
	e_shift_imm(b, false, 5, H_R11, 2);
	e3(b, 0x65, 0x41, 0x83); /* add dword gs:[r11 + l0_misses], 1 */
	e1(b, 0x80 | (H_R11 & 7));
	e4(b, GS_OFF(l0_misses));
	e1(b, 1);
	return e_jcc_fwd(b, CC_E);
}

static void e_bts(struct jit_buf *b, unsigned reg, unsigned bit)
{
	e4(b, 0xc0ab0f48 | (uint32_t)(bit << 3 | reg) << 24); /* both below r8 */
}

/* rax: offset of la's L1 entry, r11: its delta. Fills the site's L0 entry, with the whole large page
 * for a site that is JIT_SITE_LARGE - if there is one. rax, rcx and r9 are clobbered. */
static void emit_fill(struct jit_buf *b, const struct slow_stub *stub)
{
	uint32_t l0 = tlb_offset(stub, offsetof(struct soft_tlb, l0));
	uint32_t pages = tlb_offset(stub, offsetof(struct soft_tlb, l0_pages));
	size_t gpa = offsetof(struct soft_tlb, l1) + offsetof(struct soft_l1, gpa);
	uint8_t *large, *small, *unfilled;

	e_mov(b, H_RCX, H_R10);
	e_test_imm8(b, H_R9, JIT_SITE_LARGE);
	large = e_jcc_fwd(b, CC_NE);
	e_alu_imm(b, true, 4, H_RCX, (uint32_t)-4096);
	small = e_jmp_fwd(b);
	e_fix(b, large, b->p);
	e_gs_idx(b, false, 0x8b, H_RCX, H_RAX, tlb_offset(stub, gpa));
	e_test_imm8(b, H_RCX, SOFT_L1_LARGE);
	unfilled = e_jcc_fwd(b, CC_E);
	e_mov(b, H_RCX, H_R10);
	e_alu_imm(b, true, 4, H_RCX, -SOFT_LARGE_SIZE);
	e_fix(b, small, b->p);
	e_alu_imm(b, false, 4, H_R9, JIT_SITE_SLOT_MASK);
	e_gs_idx(b, true, 0x89, H_RCX, H_R9, l0 + (uint32_t)offsetof(struct soft_l0, tag));
	if (stub->page) /* of the host */
		e_rr(b, true, 0x01, H_RCX, H_R11);
	e_gs_idx(b, true, 0x89, stub->page ? H_RCX : H_R11, H_R9,
		 l0 + (uint32_t)offsetof(struct soft_l0, delta));
	e_shift_imm(b, false, 5, H_R9, L0_CHUNK_SHIFT - 3);
	e_alu_imm(b, false, 4, H_R9, 63 * 8);
	e_gs_idx(b, true, 0x8b, H_RAX, H_R9, pages);
	e_mov(b, H_RCX, H_R10); /* soft_l0_pages() */
	e_shift_imm(b, true, 5, H_RCX, 12);
	e_bts(b, H_RAX, H_RCX);
	e_shift_imm(b, true, 5, H_RCX, 21 - 12);
	e_bts(b, H_RAX, H_RCX);
	e_gs_idx(b, true, 0x89, H_RAX, H_R9, pages);
	e_fix(b, unfilled, b->p);
}

/* What L1 has, in line. */
static void emit_from_l1(struct jit_buf *b, const struct slow_stub *stub)
{
	size_t delta = offsetof(struct soft_tlb, l1) + offsetof(struct soft_l1, delta);
	uint8_t *miss, *cross, *often;

	push(b, H_RAX);
	push(b, H_RCX);
	emit_l1_check(b, stub, &miss, &cross);
	often = emit_count(b);
	e_gs_idx(b, true, 0x8b, H_R11, H_RAX, tlb_offset(stub, delta));
	emit_fill(b, stub);
	if (stub->page)
		e_rr(b, true, 0x01, H_R11, H_R10);
	pop_two(b);
	if (stub->group)
		e1(b, 0xf8); /* clc */
	e1(b, 0xc3);
	if (stub->group) {
		e_fix(b, cross, b->p);
		pop_two(b);
		e2(b, 0xf9, 0xc3); /* stc; ret */
	}
	e_fix(b, miss, b->p);
	e_fix(b, often, b->p);
	if (!stub->group)
		e_fix(b, cross, b->p);
	pop_two(b);
}

/* A miss in L0: r10 la, r9d a site word (jit.h); called. Gives r11 = delta, or la's host address for
 * a page site; keeps r10. First the hashed L1 in line, then jit_slow(). */
static void emit_slow(struct soft_cache *cache, struct jit_buf *b, const struct slow_stub *stub)
{
	uint8_t *miss;

	if (cache->use_l0 && !stub->run) /* a run is more than L1 says at once */
		emit_from_l1(b, stub);
	save_all(b);
	e_store(b, H_R10, GS_OFF(scratch) + 8 * 2);
	e2(b, 0x48, 0x8b);
	e2(b, 0x0c, 0x24); /* mov rcx, [rsp]: return address */
	e_load(b, H_RDI, GS_OFF(self));
	e_mov(b, H_RSI, H_R10);
	e_rr(b, false, 0x89, H_RDX, H_R9);
	if (stub->write)
		e_alu_imm(b, false, 1, H_RDX, JIT_SITE_WRITE); /* or */
	e2(b, 0x48, 0x83);
	e2(b, 0xec, 8);
	e_mov_imm(b, H_RAX, (uint64_t)(uintptr_t)(stub->group ? jit_slow_group : jit_slow));
	e2(b, 0xff, 0xd0);
	e2(b, 0x48, 0x83);
	e2(b, 0xc4, 8);
	if (stub->group) {
		e3(b, 0x83, 0xf8, 0x01); /* cmp eax, 1 */
		miss = e_jcc_fwd(b, CC_A);
		e1(b, 0xf5);             /* cmc: CF = eax != 0 */
	} else {
		e2(b, 0x85, 0xc0); /* test eax, eax */
		miss = e_jcc_fwd(b, CC_NE);
	}
	load_volatile(b);
	e_load(b, H_R10, GS_OFF(scratch) + 8 * 2);
	e_load(b, H_R11, GS_OFF(scratch) + 8 * 3);
	if (stub->page)
		e_lea_sum(b, H_R11, H_R10);
	e1(b, 0xc3);
	e_fix(b, miss, b->p);
	e_rr(b, false, 0x89, H_R11, H_RAX);
	e_jmp(b, cache->rw + (cache->stubs.exit_saved - cache->rx));
}

_Static_assert(offsetof(struct soft_vcpu, parked_since) == offsetof(struct soft_vcpu, fp_live) + 1,
	       "compared as one word");

/* An address of the site, r11, into the vCPU. */
static void emit_site_address(struct jit_buf *b, size_t of_site, uint32_t of_vcpu, bool moved)
{
	e3(b, 0x49, 0x8b, 0x43);
	e1(b, (unsigned)of_site); /* mov rax, [r11 + of_site] */
	if (moved)
		e_gs(b, true, 0x03, H_RAX, GS_OFF(code_page));
	e_store(b, H_RAX, of_vcpu);
}

/* r11: struct jit_op_site; called. Returns when the operation gave SOFT_OK. */
static void emit_op(struct soft_cache *cache, struct jit_buf *b, bool moved)
{
	uint8_t *fail, *saved;

	save_all(b);
	emit_site_address(b, offsetof(struct jit_op_site, rip), GS_OFF(rip), moved);
	emit_site_address(b, offsetof(struct jit_op_site, next_rip), GS_OFF(next_rip), moved);
	e_load(b, H_RDI, GS_OFF(self));
	e3(b, 0x49, 0x8b, 0x73);
	e1(b, offsetof(struct jit_op_site, insn)); /* mov rsi, [r11 + insn] */
	e_store(b, H_RSI, GS_OFF(op_insn));
	e2(b, 0x48, 0x83);
	e2(b, 0xec, 8);
	e3(b, 0x41, 0xff, 0x53);
	e1(b, offsetof(struct jit_op_site, fn)); /* call [r11 + fn] */
	e2(b, 0x48, 0x83);
	e2(b, 0xc4, 8);
	e2(b, 0x85, 0xc0);
	fail = e_jcc_fwd(b, CC_NE);
	e_vcpu(b, 0x8166, 2, 7, GS_OFF(fp_live)); /* cmp word [fp_live], 1: live, and not parked since */
	e2(b, 1, 0);
	saved = e_jcc_fwd(b, CC_NE);
	load_all(b);
	e1(b, 0xc3);
	/* back to soft_jit_run(), which loads the FP state and looks for code anew */
	e_fix(b, saved, b->p);
	e_mov_imm(b, H_RAX, SOFT_AGAIN);
	e_fix(b, fail, b->p);
	e_rr(b, false, 0x89, H_R11, H_RAX);
	e_jmp(b, cache->rw + (cache->stubs.exit_saved - cache->rx));
}

/* Goes on at v->rip in whatever context the vCPU is now. */
static void emit_dispatch(struct soft_cache *cache, struct jit_buf *b)
{
	uint8_t *poll, *miss, *fresh;

	e_poll(b);
	poll = e_jcc_fwd(b, CC_NE);
	e_vcpu8(b, 0x80, 1, 7, GS_OFF(returns_stale), 0); /* cmp byte [returns_stale], 0 */
	fresh = e_jcc_fwd(b, CC_E);
	e_load(b, H_RSP, GS_OFF(returns));
	emit_returns_fresh(b);
	e_fix(b, fresh, b->p);
	if (cache->chain) {
		e_load(b, H_R10, GS_OFF(rip));
		e_branch_slot(b);
		e_shift_imm(b, false, 4, H_R11, 3);
		e_gs(b, true, 0x03, H_R11, GS_OFF(ibtc)); /* add r11, gs:[ibtc] */
		e3(b, 0x4d, 0x3b, 0x13);                  /* cmp r10, [r11] */
		miss = e_jcc_fwd(b, CC_NE);
		e3(b, 0x41, 0xff, 0x63);                  /* jmp [r11 + 8] */
		e1(b, offsetof(struct soft_ibtc, host));
		e_fix(b, miss, b->p);
	}
	e_mov_imm(b, H_R11, JIT_LOOKUP);
	e_jmp(b, cache->rw + (cache->stubs.exit - cache->rx));
	e_fix(b, poll, b->p);
	e_mov_imm(b, H_R11, SOFT_AGAIN);
	e_jmp(b, cache->rw + (cache->stubs.exit - cache->rx));
}

static uint8_t *here(struct soft_cache *cache, struct jit_buf *b)
{
	while (((uintptr_t)b->p & 15) && !b->full)
		e1(b, 0xcc);
	return cache->rx + (b->p - cache->rw);
}

void jit_stubs_emit(struct soft_cache *cache, struct jit_buf *b)
{
	(void)here(cache, b);
	emit_exits(cache, b);
	emit_ways_out(cache, b);
	cache->stubs.enter = (int (*)(struct soft_vcpu *, const void *))(uintptr_t)here(cache, b);
	emit_enter(b, cache->stubs.lookup);
	for (unsigned ctx = 0; ctx < CTX_COUNT; ctx++) {
		for (unsigned k = 0; k < JIT_SLOW_KINDS; k++) {
			struct slow_stub stub = {
				.ctx = ctx, .write = k & JIT_SLOW_WRITE, .page = k & JIT_SLOW_PAGE,
				.group = k & JIT_SLOW_GROUP, .run = k & JIT_SLOW_RUN,
			};

			cache->stubs.slow[ctx][k] = here(cache, b);
			emit_slow(cache, b, &stub);
		}
	}
	for (unsigned moved = 0; moved < 2; moved++) {
		cache->stubs.op[moved] = here(cache, b);
		emit_op(cache, b, moved);
	}
	cache->stubs.dispatch = here(cache, b);
	emit_dispatch(cache, b);
}
