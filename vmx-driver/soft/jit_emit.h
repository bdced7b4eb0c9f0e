/* SPDX-License-Identifier: Apache-2.0 */
/* jit_emit.h - the few host instructions that the translator writes itself. */
#ifndef VMX_SOFT_JIT_EMIT_H
#define VMX_SOFT_JIT_EMIT_H

#include <string.h>

#include "vmx-driver/soft/jit.h"

enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11, H_R12,
       H_R13, H_R14, H_R15 };
enum { CC_B = 2, CC_AE = 3, CC_E = 4, CC_NE = 5, CC_BE = 6, CC_A = 7, CC_L = 12, CC_GE = 13, CC_LE = 14,
       CC_G = 15 };

#define GS_OFF(member) ((uint32_t)offsetof(struct soft_vcpu, member))

static inline void e_bytes(struct jit_buf *b, const void *bytes, size_t n)
{
	if ((size_t)(b->end - b->p) < n) {
		b->full = true;
		return;
	}
	memcpy(b->p, bytes, n);
	b->p += n;
}
/* The first n bytes of the word, at most 8. */
static inline void e_word(struct jit_buf *b, uint64_t word, size_t n)
{
	if ((size_t)(b->end - b->p) < sizeof(word)) {
		e_bytes(b, &word, n);
		return;
	}
	memcpy(b->p, &word, sizeof(word));
	b->p += n;
}
static inline void e1(struct jit_buf *b, unsigned v)
{
	uint8_t x = (uint8_t)v;

	e_bytes(b, &x, 1);
}
static inline void e2(struct jit_buf *b, unsigned v0, unsigned v1)
{
	const uint8_t x[2] = { (uint8_t)v0, (uint8_t)v1 };

	e_bytes(b, x, 2);
}
static inline void e3(struct jit_buf *b, unsigned v0, unsigned v1, unsigned v2)
{
	const uint8_t x[3] = { (uint8_t)v0, (uint8_t)v1, (uint8_t)v2 };

	e_bytes(b, x, 3);
}
static inline void e4(struct jit_buf *b, uint32_t v) { e_bytes(b, &v, 4); }
static inline void e8(struct jit_buf *b, uint64_t v) { e_bytes(b, &v, 8); }

/* One NOP of 0 to 8 bytes. */
static inline void e_nop(struct jit_buf *b, unsigned len)
{
	static const uint8_t nop[9][8] = {
		{ 0 }, { 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0x00 }, { 0x0f, 0x1f, 0x40 },
		{ 0x0f, 0x1f, 0x44 }, { 0x66, 0x0f, 0x1f, 0x44 }, { 0x0f, 0x1f, 0x80 },
		{ 0x0f, 0x1f, 0x84 },
	};

	e_bytes(b, nop[len], len);
}

/* An instruction whose operand in memory is gs:[disp32]: the n bytes of its opcode with its prefixes, the
 * first one lowest, and ModRM.reg. */
static inline void e_vcpu(struct jit_buf *b, uint32_t opcode, unsigned n, unsigned reg, uint32_t disp)
{
	e_word(b, 0x65 | (uint64_t)opcode << 8 | (uint64_t)(0x2504 | (reg & 7) << 3) << 8 * (n + 1), n + 3);
	e4(b, disp);
}
/* The same with an immediate of 1 or 4 bytes */
static inline void e_vcpu8(struct jit_buf *b, uint32_t opcode, unsigned n, unsigned reg, uint32_t disp,
			   uint8_t imm)
{
	e_vcpu(b, opcode, n, reg, disp);
	e1(b, imm);
}
static inline void e_vcpu32(struct jit_buf *b, uint32_t opcode, unsigned n, unsigned reg, uint32_t disp,
			    uint32_t imm)
{
	e_vcpu(b, opcode, n, reg, disp);
	e4(b, imm);
}
/* op reg, gs:[disp32] with 64-bit (w) or 32-bit operands */
static inline void e_gs(struct jit_buf *b, bool w, unsigned opcode, unsigned reg, uint32_t disp)
{
	unsigned rex = 0x40 | (w ? 8 : 0) | (reg >= 8 ? 4 : 0), n = rex != 0x40 ? 2 : 1;

	e_vcpu(b, n == 2 ? rex | opcode << 8 : opcode, n, reg, disp);
}
/* op reg, gs:[index + disp32] */
static inline void e_gs_idx(struct jit_buf *b, bool w, unsigned opcode, unsigned reg, unsigned index,
			    uint32_t disp)
{
	uint32_t word = 0x65 | (0x40u | (w ? 8 : 0) | (reg >= 8 ? 4 : 0) | (index >= 8 ? 1 : 0)) << 8 |
			opcode << 16 | (0x80 | (reg & 7) << 3 | (index & 7)) << 24;

	e_word(b, word | (uint64_t)disp << 32, 8); /* index is never rsp/r12 here */
}
/* op reg, gs:[r11 * 8 + disp32] */
static inline void e_gs_r11x8(struct jit_buf *b, bool w, unsigned opcode, unsigned reg, uint32_t disp)
{
	e2(b, 0x65, 0x42 | (w ? 8 : 0) | (reg >= 8 ? 4 : 0));
	e3(b, opcode, 0x04 | (reg & 7) << 3, 0xc5 | (H_R11 & 7) << 3);
	e4(b, disp);
}
static inline void e_load(struct jit_buf *b, unsigned reg, uint32_t disp) { e_gs(b, true, 0x8b, reg, disp); }
static inline void e_store(struct jit_buf *b, unsigned reg, uint32_t disp) { e_gs(b, true, 0x89, reg, disp); }
static inline void e_load_gpr(struct jit_buf *b, unsigned host, unsigned guest)
{
	e_load(b, host, GS_OFF(gpr) + 8 * guest);
}
static inline void e_store_gpr(struct jit_buf *b, unsigned host, unsigned guest)
{
	e_store(b, host, GS_OFF(gpr) + 8 * guest);
}
/* op dst, src : 64-bit, MR form */
static inline void e_rr(struct jit_buf *b, bool w, unsigned opcode, unsigned dst, unsigned src)
{
	unsigned rex = 0x40 | (w ? 8 : 0) | (src >= 8 ? 4 : 0) | (dst >= 8 ? 1 : 0);
	unsigned n = rex != 0x40, word = opcode | (0xc0 | (src & 7) << 3 | (dst & 7)) << 8;

	e_word(b, n ? rex | word << 8 : word, n + 2);
}
/* test r8, imm8 */
static inline void e_test_imm8(struct jit_buf *b, unsigned reg, uint8_t imm)
{
	e3(b, 0x40 | (reg >= 8 ? 1 : 0), 0xf6, 0xc0 | (reg & 7));
	e1(b, imm);
}
static inline void e_mov(struct jit_buf *b, unsigned dst, unsigned src) { e_rr(b, true, 0x89, dst, src); }
/* mov reg, imm by the shortest encoding; no flags */
static inline void e_mov_imm(struct jit_buf *b, unsigned reg, uint64_t imm)
{
	if (imm <= 0xffffffffu) {
		if (reg >= 8)
			e1(b, 0x41);
		e1(b, 0xb8 | (reg & 7));
		e4(b, (uint32_t)imm);
	} else if ((int64_t)imm == (int32_t)imm) {
		e3(b, 0x48 | (reg >= 8 ? 1 : 0), 0xc7, 0xc0 | (reg & 7));
		e4(b, (uint32_t)imm);
	} else {
		e2(b, 0x48 | (reg >= 8 ? 1 : 0), 0xb8 | (reg & 7));
		e8(b, imm);
	}
}
/* and/cmp/add... r32/64, imm32, in one byte if that says it: group 1 /ext */
static inline void e_alu_imm(struct jit_buf *b, bool w, unsigned ext, unsigned reg, uint32_t imm)
{
	unsigned rex = 0x40 | (w ? 8 : 0) | (reg >= 8 ? 1 : 0);

	bool small = (int32_t)imm == (int8_t)imm;

	if (rex != 0x40)
		e1(b, rex);
	e_word(b, (small ? 0x83 : 0x81) | (0xc0 | ext << 3 | (reg & 7)) << 8 | (uint64_t)imm << 16,
	       small ? 3 : 6);
}
static inline void e_shift_imm(struct jit_buf *b, bool w, unsigned ext, unsigned reg, unsigned count)
{
	unsigned rex = 0x40 | (w ? 8 : 0) | (reg >= 8 ? 1 : 0);

	if (rex != 0x40)
		e1(b, rex);
	e3(b, 0xc1, 0xc0 | ext << 3 | (reg & 7), count);
}
/* ModRM, SIB and displacement of a place; its REX bits are X (index) and B (base >= 8). */
static inline void e_place(struct jit_buf *b, unsigned reg, struct jit_place place)
{
	unsigned low = place.base & 7, mod = 2, n = 1;
	uint64_t word;

	if (place.disp == 0 && low != 5)
		mod = 0;
	else if (place.disp == (int8_t)place.disp)
		mod = 1;
	word = mod << 6 | (reg & 7) << 3;
	if (place.index || low == 4) {
		unsigned index = place.index ? place.log2 << 6 | (place.index & 7) << 3 : 0x20;

		word |= 4 | (index | low) << 8;
		n = 2;
	} else {
		word |= low;
	}
	e_word(b, word | (uint64_t)(uint32_t)place.disp << 8 * n, n + (mod == 2 ? 4 : mod));
}
static inline unsigned e_place_rex(unsigned reg, struct jit_place place)
{
	return 0x40 | (reg >= 8 ? 4 : 0) | (place.index & 8 ? 2 : 0) | (place.base >= 8 ? 1 : 0);
}
/* mov reg, [place] (opcode 8b) or mov [place], reg (89) */
static inline void e_mem_w(struct jit_buf *b, bool w, unsigned opcode, unsigned reg, struct jit_place place)
{
	e2(b, (w ? 8 : 0) | e_place_rex(reg, place), opcode);
	e_place(b, reg, place);
}
static inline void e_mem(struct jit_buf *b, unsigned opcode, unsigned reg, struct jit_place place)
{
	e_mem_w(b, true, opcode, reg, place);
}
/* lea dst, [base + disp]; a move if there is nothing to add */
static inline void e_lea_w(struct jit_buf *b, bool w, unsigned dst, unsigned base, int32_t disp)
{
	struct jit_place place = { .base = (uint8_t)base, .disp = disp };

	if (disp == 0)
		e_rr(b, w, 0x89, dst, base);
	else
		e_mem_w(b, w, 0x8d, dst, place);
}
static inline void e_lea(struct jit_buf *b, unsigned dst, unsigned base, int32_t disp)
{
	e_lea_w(b, true, dst, base, disp);
}
/* lea reg, [reg + disp], whatever is to be added. */
static inline void e_add_far(struct jit_buf *b, unsigned reg, int64_t disp)
{
	while (disp != (int32_t)disp) {
		int32_t part = disp < 0 ? INT32_MIN : INT32_MAX;

		e_lea(b, reg, reg, part);
		disp -= part;
	}
	if (disp)
		e_lea(b, reg, reg, (int32_t)disp);
}
/* reg = an address of the guest's code or off it; no flags */
static inline void e_guest(struct jit_buf *b, unsigned reg, uint64_t at)
{
	if (!b->moved) {
		e_mov_imm(b, reg, at);
		return;
	}
	e_load(b, reg, GS_OFF(code_page));
	e_add_far(b, reg, (int64_t)at);
}
/* reg = a guest address that is known; code: as far from the guest's code as it is from the block */
static inline void e_address(struct jit_buf *b, unsigned reg, uint64_t at, bool code)
{
	if (code)
		e_guest(b, reg, at);
	else
		e_mov_imm(b, reg, at);
}
/* mov qword gs:[disp], imm64 through r11 when it does not fit */
static inline void e_store_imm(struct jit_buf *b, uint32_t disp, uint64_t imm)
{
	if ((int64_t)imm == (int32_t)imm) {
		e_vcpu32(b, 0xc748, 2, 0, disp, (uint32_t)imm);
	} else {
		e_mov_imm(b, H_R11, imm);
		e_store(b, H_R11, disp);
	}
}
/* mov qword gs:[disp], an address of the guest's code; through r11 */
static inline void e_store_guest(struct jit_buf *b, uint32_t disp, uint64_t at)
{
	if (!b->moved) {
		e_store_imm(b, disp, at);
		return;
	}
	e_guest(b, H_R11, at);
	e_store(b, H_R11, disp);
}
/* cmp qword gs:[disp], imm32 */
static inline void e_cmp_gs_imm(struct jit_buf *b, uint32_t disp, uint32_t imm)
{
	e_vcpu32(b, 0x8148, 2, 7, disp, imm);
}
/* cmp dword gs:[disp], 0 */
static inline void e_poll(struct jit_buf *b)
{
	e_vcpu8(b, 0x83, 1, 7, GS_OFF(exit_req), 0);
}
/* r11 = twice the index in an indirect-branch table of the entry for r10 (jit_branch_slot()): with a
 * scale of 8 its offset. */
static inline void e_branch_slot(struct jit_buf *b)
{
	e3(b, 0x45, 0x69, 0xc0 | (H_R11 & 7) << 3 | (H_R10 & 7)); /* imul r11d, r10d, imm32 */
	e4(b, JIT_BRANCH_HASH);
	e_shift_imm(b, false, 5, H_R11, JIT_BRANCH_SHIFT);
	e_rr(b, false, 0x01, H_R11, H_R11); /* 16 bytes an entry, a scale goes to 8 */
}
/* GS displacement of a member of a context's tables. */
static inline uint32_t e_tlb_offset(unsigned ctx, size_t member)
{
	return GS_OFF(tlb) + (uint32_t)(ctx * sizeof(struct soft_tlb)) + (uint32_t)member;
}
/* reg holds an address: becomes the offset of its entry in L1. */
static inline void e_l1_index(struct jit_buf *b, unsigned reg)
{
	e_shift_imm(b, true, 5, reg, 7);
	e_alu_imm(b, false, 4, reg, (SOFT_L1_SIZE - 1) * (uint32_t)sizeof(struct soft_l1));
}
_Static_assert(sizeof(struct soft_l1) == 1u << (12 - 7), "the shift in e_l1_index()");
/* Direct jumps and calls; target as an address of the writable mapping. */
static inline void e_jmp(struct jit_buf *b, const uint8_t *target_rw)
{
	e_word(b, 0xe9 | (uint64_t)(uint32_t)(target_rw - (b->p + 5)) << 8, 5);
}
static inline void e_call(struct jit_buf *b, const uint8_t *target_rw)
{
	e_word(b, 0xe8 | (uint64_t)(uint32_t)(target_rw - (b->p + 5)) << 8, 5);
}
/* Forward jumps: emit with hole, then fix. Returns where the rel32 stands. */
static inline uint8_t *e_jcc_fwd(struct jit_buf *b, unsigned cc)
{
	e_word(b, 0x0f | (0x80 | cc) << 8, 6);
	return b->p - 4;
}
static inline uint8_t *e_jmp_fwd(struct jit_buf *b)
{
	e_word(b, 0xe9, 5);
	return b->p - 4;
}
static inline void e_fix(struct jit_buf *b, uint8_t *rel32, const uint8_t *target)
{
	int32_t d = (int32_t)(target - (rel32 + 4));

	if (!b->full)
		memcpy(rel32, &d, 4);
}
/* Guest flags between RFLAGS and v->aflags; `scratch`, r9 to r11, is clobbered, RFLAGS kept by the save. */
static inline void e_flags_save(struct jit_buf *b, unsigned scratch)
{
	e_mov(b, scratch, H_RAX);
	e1(b, 0x9f);             /* lahf */
	e3(b, 0x0f, 0x90, 0xc0); /* seto al */
	e_vcpu(b, 0x8966, 2, H_RAX, GS_OFF(aflags)); /* mov [aflags], ax */
	e_mov(b, H_RAX, scratch);
}
/* r9 is clobbered. */
static inline void e_flags_load(struct jit_buf *b)
{
	e_mov(b, H_R9, H_RAX);
	e_vcpu(b, 0xb70f, 2, H_RAX, GS_OFF(aflags)); /* movzx eax, word [aflags] */
	e2(b, 0x04, 0x7f);       /* add al, 0x7f: OF */
	e1(b, 0x9e);             /* sahf */
	e_mov(b, H_RAX, H_R9);
}

#endif
