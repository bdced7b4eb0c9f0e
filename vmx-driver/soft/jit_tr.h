/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_tr.h - one translation, shared by the files that make a block: jit_facts.c and jit_decode.c (what
 * the instructions are), jit_flags.c (where the guest's flags are), jit_flow.c (memory checks),
 * jit_branch.c (ways out of a block), jit_insns.c and jit_system.c (instructions), jit_group.c (several accesses under one check),
 * jit_translate.c.
 */
#ifndef VMX_SOFT_JIT_TR_H
#define VMX_SOFT_JIT_TR_H

#include "vmx-driver/soft/jit_kept.h"
#include "vmx-driver/soft/jit_shape.h"

enum where { IN_MEM = 1, IN_REG = 2 }; /* bits: where current guest flags are */

struct item {
	struct soft_insn insn;
	enum jit_kind kind;
	uint64_t rip;
	uint32_t needs;    /* arithmetic flags that must be in RFLAGS before */
	uint32_t writes;   /* flags it leaves in RFLAGS: none or all */
	unsigned note;     /* of its access, as of now: other processors may note something else any time */
	bool saves;        /* it ends, or may end, where only v->aflags will do */
};

struct group { /* items before `end` share one check of memory */
	unsigned end;
	bool stack; /* all its accesses are to the stack, while RSP moves (jit_stack.c) */
	const ZydisDecodedOperand *mem; /* one of its operands: the others differ in displacement */
	struct jit_place place; /* of displacement `bias` off their base */
	int64_t bias;
	int64_t lo;             /* first displacement that was checked, off the base as it is now */
	unsigned size;          /* bytes from there */
	uint32_t l0;            /* GS displacement of its L0 entry */
};

struct slow_path { /* cold part of a memory access */
	uint8_t *hole, *back;
	uint32_t site; /* jit.h */
	unsigned ctx;
	uint64_t rip;
	jit_recipe recipe;
	/* the address: base + disp; base r11: the constant disp; page: base and the tag */
	struct jit_place where;
	uint32_t l0;        /* GS displacement of its L0 entry */
	enum jit_site_mode mode;
	bool write, group, page;
	bool loop;          /* of all iterations of a loop: if it fails, one by itself */
	int8_t kept[JIT_KEPT_HOSTS]; /* guest registers that r9 and r10 have copies of, or -1 */
	bool indexed;       /* r11, which had the address, becomes the distance to host memory and the base */
	int added;          /* guest register that is the base, or -1 */
	bool narrow;        /* the address wraps at 4 GiB, but the place that it is of does not */
	bool within;        /* a group, whose r11 must be right again afterwards; the address is r10's */
	struct group around;
};

struct jit_scratch {
	unsigned count;
	bool open_end; /* falls through to `end_rip` */
	bool to_loop;  /* which is the start of a loop */
	uint64_t end_rip;
	/* The block's bytes, read once: what they are must not change from one look to the next. */
	uint8_t code[JIT_BLOCK_INSNS * JIT_INSN_MAX];
	struct item item[JIT_BLOCK_INSNS];
	struct jit_shape shape[JIT_SHAPES];
	unsigned slow_count, link_count, point_count;
	struct slow_path slow[2 * JIT_BLOCK_INSNS];
	struct jit_link link[JIT_LINKS_MAX];
	uint8_t *link_ref[JIT_LINKS_MAX]; /* where its jit_ref is to stand */
	struct jit_point point[8 * JIT_BLOCK_INSNS];
	uint8_t packed[8 * JIT_BLOCK_INSNS * JIT_POINT_MAX]; /* the points */
	bool loops;         /* there is a fast body (jit_loop.h), */
	uint8_t holds[16];  /* with these (jit_holds()) */
};

struct loop;
struct loop_stream;
struct tr { /* one translation */
	struct soft_vcpu *v;
	struct soft_cache *cache;
	struct jit_scratch *s;
	struct jit_buf b;     /* where code goes: the hot half of the cache, or within cold_begin() */
	struct jit_buf other; /* and cold_end() the cold half */
	unsigned cold_depth;
	uint8_t *start;
	uint64_t gpa, rip;
	uint32_t mode; /* now, and ctx: STAC and CLAC change them within a block */
	unsigned word; /* bytes of a near address and of what PUSH stores: 8, in 32-bit code 4 */
	unsigned ctx;
	unsigned insns_max;
	unsigned where; /* enum where of guest flags now */
	jit_recipe recipe; /* another way to them, if not 0 */
	jit_recipe entry_recipe; /* that the block is entered with */
	unsigned i;     /* current item */
	struct group group;
	uint64_t gpa2;
	bool crosses;   /* its only instruction goes on in the page at gpa2 */
	struct loop *loop;  /* its fast body is being emitted (jit_loop.h), or NULL */
	uint8_t *ordinary;  /* where the other body is */
};

/* jit_decode.c */
void jit_decode_block(struct tr *t, const uint8_t *page, const uint8_t *page2);
static inline bool jit_is_sti(const struct item *it)
{
	return it->kind == K_OP && it->insn.zi.mnemonic == ZYDIS_MNEMONIC_STI;
}
bool jit_ends_block(const struct item *it);
bool jit_is_gpr64(const ZydisDecodedOperand *op);
/* A general-purpose register as wide as the stack of its code: of t->word bytes. */
bool jit_is_word(const struct soft_insn *insn, const ZydisDecodedOperand *op);
/* MOV and POP: nothing comes between it and the next instruction, and that one should know. */
bool jit_loads_ss(const struct soft_insn *insn);
/* The operand in memory that the instruction accesses, or NULL. */
static inline const ZydisDecodedOperand *jit_memory_operand(const struct soft_insn *insn)
{
	return insn->facts.accessed >= 0 ? &insn->op[insn->facts.accessed] : NULL;
}
/* Does it write (a part of) that general-purpose register? */
static inline bool jit_writes_guest(const struct item *it, unsigned guest)
{
	return it->insn.writes >> guest & 1;
}
/* Are its addresses as wide as code of its kind usually has them? */
static inline bool jit_own_width(const struct item *it)
{
	return it->insn.zi.address_width == (it->insn.code == CODE_64 ? 64 : 32);
}
/* Guest address of what follows the instruction. */
static inline uint64_t jit_next_rip(const struct item *it)
{
	uint64_t next = it->rip + it->insn.len;

	return it->insn.code == CODE_64 ? next : (uint32_t)next;
}
/* Is that on or before `rip`? Both may count from the begin of a page (JIT_MOVED). */
static inline bool jit_is_back(uint64_t target, uint64_t rip)
{
	return (int64_t)(target - rip) <= 0;
}
/* Target of a CALL, JMP or Jcc with an immediate operand, and is it one? */
uint64_t jit_branch_target(const struct item *it);
bool jit_is_direct(const struct item *it);

/* jit_code32.c: what 32-bit code has of its own. */
/* Has the instruction another kind than in 64-bit code? Then which. */
bool jit_kind32(const struct soft_insn *insn, enum jit_kind *ret);
/* Outside 64-bit code: is the address likely to be what its registers give with 64 bits? Those of
 * pointers, and of what is near them, are; its check finds out. In 64-bit code all are. */
bool jit_is_pointer(const struct item *it, const ZydisDecodedOperand *mem);
/* jit_emit_access() in 32-bit code. */
struct jit_place jit_emit_access32(struct tr *t, const struct item *it, const ZydisDecodedOperand *mem,
				   unsigned size, bool write);

/* jit_flags.c; all of them clobber r9 and, but for jit_flags_to_reg(), r10 where there may be copies
 * (jit_kept.h) */
/* Guest flags into v->aflags / into RFLAGS, if they are not there. */
void jit_flags_to_mem(struct tr *t);
void jit_flags_to_reg(struct tr *t);
/* Item i changes the flags, or some of them, or perhaps, but nobody can tell, as others follow that change
 * them all: what they were before is not wanted then. */
bool jit_flags_idle(const struct tr *t, unsigned i);
/* They can be had without RFLAGS from here on. */
void jit_flags_settle(struct tr *t);
/* The same, and RFLAGS are about to be destroyed by the translator's own code. */
void jit_flags_clobber(struct tr *t);
/* Before anything is emitted for item i: keeps what the recipe needs of what it overwrites. */
void jit_flags_before(struct tr *t, unsigned i);
/* Right before an instruction that sets flags is emitted: their recipe, or 0. */
jit_recipe jit_flags_prepare(struct tr *t, const struct item *it);
/* What the flags of an instruction between registers can be had by afterwards, wherever it stands, or 0. */
jit_recipe jit_flags_recipe(const struct soft_insn *insn);
/* An instruction with an operand in memory that is better done in two, as then there is a recipe;
 * and doing so. */
bool jit_flags_splits(const struct tr *t, const struct item *it);
jit_recipe jit_flags_split(struct tr *t, const struct item *it, struct jit_place place);

/* jit_flow.c */
void jit_point_here(struct tr *t, unsigned state);
/* The recipe for whoever leaves here, or stays away while the flags are settled: 0 for v->aflags. */
jit_recipe jit_recipe_now(const struct tr *t);
uint8_t *jit_stub(const struct tr *t, uint8_t *rx);
/* What seldom runs stands in the other half of the cache, so that what runs often is dense. */
void jit_cold_begin(struct tr *t);
void jit_cold_end(struct tr *t);
/* Checks the access to [base + disp, +size), base a host register but not r11; afterwards r11 is the
 * distance to host memory. Guest flags are settled. group: it stands for several accesses.
 * Returns the GS displacement of its L0 entry. */
uint32_t jit_emit_check_site(struct tr *t, unsigned base, int32_t disp, unsigned size, bool write,
			     bool group);
/* The same for an address in r11, which becomes that of the host. */
struct jit_place jit_emit_check_r11(struct tr *t, unsigned size, bool write, bool group);
/* Can an operand with an index be checked without waiting for the index afterwards? Then doing so. */
bool jit_can_index(const struct item *it, const ZydisDecodedOperand *mem);
struct jit_place jit_emit_check_indexed(struct tr *t, const struct item *it, const ZydisDecodedOperand *mem,
					unsigned size, bool write, bool group);
/* The same for one access to an address that is known; code: how far it is from the guest's code is. */
struct jit_place jit_emit_check_constant(struct tr *t, uint64_t la, bool code, unsigned size, bool write);
/* The same for one access; its place. */
struct jit_place jit_emit_check(struct tr *t, unsigned base, int32_t disp, unsigned size, bool write);
/* The same for an operand within a group that is not of it: r10 alone is used. */
struct jit_place jit_emit_check_within(struct tr *t, const struct item *it,
				       const ZydisDecodedOperand *mem);
/* The address of a memory operand and its check; what clobbers r10 and, unless it is in the place,
 * r9, comes before. */
struct jit_place jit_emit_access(struct tr *t, const struct item *it, const ZydisDecodedOperand *mem,
				 unsigned size, bool write);
/* Gives each stream of a loop an L0 entry of its own. */
void jit_loop_slots(struct tr *t, struct loop *loop);
/* r10: address of the stream in its first iteration. r11 = its offset in its page, or on to the
 * ordinary body. */
void jit_emit_check_loop(struct tr *t, const struct loop_stream *s);
void jit_emit_slow_paths(struct tr *t);

/* jit_slot.c: the L0 entry of an access: its own; one that holds a large page, for a read that is
 * JIT_BY_LARGE, and for no other; that of a page which is always the same; or by the host register of
 * its base. page: of those that hold the host page. */
uint32_t jit_slot_own(struct tr *t, bool write, bool page);
uint32_t jit_slot_large(struct tr *t, bool page);
uint32_t jit_slot_of_page(struct tr *t, uint64_t page, bool write);
uint32_t jit_slot_of_base(struct tr *t, unsigned base, bool write);
/* The run of an access that is JIT_BY_RUN: its index. */
uint32_t jit_slot_run(struct tr *t, unsigned size, bool write, bool page);
/* What is noted of the instruction at rip, in the page that is translated. */
unsigned jit_site_noted(const struct tr *t, uint64_t rip);
/* How the instruction's accesses find their page, as far as is noted; and how such an access does. */
enum jit_site_mode jit_site_mode(const struct tr *t, const struct item *it);
enum jit_site_mode jit_access_mode(enum jit_site_mode mode, unsigned size, bool write);
/* Is a group that begins with it one of reads? */
bool jit_site_reads(const struct item *it);

/* jit_branch.c */
/* v->rip = rip; leave with code. */
void jit_emit_leave(struct tr *t, uint64_t rip, unsigned code);
/* Leaves to rip if something is wanted of the vCPU. RFLAGS are clobbered. */
void jit_emit_poll(struct tr *t, uint64_t rip);
/* r10 holds the guest address to go to; guest flags are in v->aflags. undo: what the current
 * instruction added to RSP, should the address turn out not to be one (jit_run.c). */
void jit_emit_indirect(struct tr *t, int32_t undo, bool call);
/* The same for a RET, which has taken the address from the guest's stack. */
void jit_emit_return(struct tr *t, int32_t undo);
/* Before a guest CALL: r9 holds the address that the guest returns to. True: what follows calls (the
 * parameter of that name), and comes back to jit_emit_call_back(). */
bool jit_emit_call_pair(struct tr *t);
void jit_emit_call_back(struct tr *t, uint64_t next);
/* r10 holds the linear address of what stands at that offset in its page: v->code_page. No flags. */
void jit_emit_entry(struct jit_buf *b, uint64_t at);
#define ALWAYS 0x10u /* instead of a condition code */
#define CALLING 0x11u
/* A jump (on condition cc, ALWAYS, or CALLING) to the block for a target in this page, bent to it when that
 * exists. */
void jit_emit_link(struct tr *t, unsigned cc, uint64_t target, uint32_t mode_bits);
/* The target of a jump that may be bent: in this page, and wholly so. */
bool jit_linkable(const struct tr *t, uint64_t target);
/* Goes to a known guest address. */
void jit_emit_edge(struct tr *t, uint64_t target, bool backward, bool call);
bool jit_after_sti(const struct jit_scratch *s);

/* jit_insns.c */
void jit_emit_item(struct tr *t, struct item *it);
/* Calls the operation in C. Guest flags are in v->aflags. */
void jit_emit_op_call(struct tr *t, const struct item *it);
/* Behind such a call: on to wherever the vCPU is then. */
void jit_emit_dispatch(struct tr *t, const struct item *it);
/* The hole of a jump that is taken when the address in reg is not canonical. r10 is clobbered. */
uint8_t *jit_emit_canonical(struct jit_buf *b, unsigned reg);

/* jit_system.c */
/* An operation that has a way in line, and that; guest flags are settled. False: it has none. */
bool jit_emit_system(struct tr *t, struct item *it);
void jit_emit_ac(struct tr *t, struct item *it);
void jit_emit_cli(struct tr *t);
void jit_emit_swapgs(struct tr *t);

/* jit_group.c */
/* Is the operand in memory of the current item one of the current group's? */
bool jit_in_group(const struct tr *t, const ZydisDecodedOperand *mem);
/* Looks for accesses off one base from the current item on and emits their common check. */
void jit_start_group(struct tr *t);
/* An access that can be in a group: all its accesses have the same base and index. */
bool jit_can_group(const struct item *it, const ZydisDecodedOperand *mem);
bool jit_same_address_regs(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b);
bool jit_writes_reg(const struct item *it, ZydisRegister reg);
/* Can stand between two accesses of a group: leaves r11 alone. */
bool jit_keeps_scratch(const struct item *it);
/* An access off something else that can be checked with r10 alone, so that the group's r11 lasts. */
bool jit_can_be_within(const struct tr *t, const struct item *it, const ZydisDecodedOperand *mem);

/* jit_stack.c */
/* [RSP + displacement] */
bool jit_is_stack(const ZydisDecodedOperand *mem);
/* Where that is in host memory once it is checked. */
struct jit_place jit_stack_place(int32_t disp);
/* Looks for accesses to the stack from the current item on and emits their common check. */
void jit_start_stack_group(struct tr *t);
/* Is the current item's access to the stack checked already? */
bool jit_in_stack_group(const struct tr *t);
/* The current item and those after it, n in all, were emitted. */
void jit_stack_moved(struct tr *t, unsigned n);
/* Runs of PUSH, of POP and RET. How many items were emitted; 0: no run here. */
unsigned jit_push_run(struct tr *t);
unsigned jit_pop_run(struct tr *t);

/* jit_loop.c */
/* A block that goes on into a loop ends there. */
void jit_loop_cut(struct tr *t);
/* jit_loop_emit.c */
/* For a block that is a loop by itself: its checks and its fast body. The ordinary one follows. */
void jit_loop_emit(struct tr *t);
/* The place of the current item's operand in memory while t->loop. */
struct jit_place jit_loop_place(const struct tr *t, const ZydisDecodedOperand *mem);
/* A recipe by the names that registers have in the loop, or back; as it is if there is no loop. */
jit_recipe jit_loop_recipe(const struct loop *loop, jit_recipe r);

#endif
