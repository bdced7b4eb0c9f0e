/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit.h - the translator's own interface: code cache, blocks, links.
 *
 * Host registers in translated code: rax rcx rdx rbx rbp rsi rdi r12-r15 hold the guest's registers
 * of the same name, r8 holds the guest's rsp, the guest's r8-r11 stay in v->gpr (jit_kept.h), r9-r11 are scratch,
 * rsp is the host stack (16-byte aligned between instructions; jit_branch.c), GS is the vCPU. Guest RFLAGS are in
 * v->aflags at every block boundary, or a recipe for them is part of the block's key (jit_recipe.h).
 * FP registers are the guest's.
 */
#ifndef VMX_SOFT_JIT_H
#define VMX_SOFT_JIT_H

#include "vmx-driver/soft/jit_recipe.h"
#include "vmx-driver/soft/soft.h"

#define JIT_BLOCK_INSNS 64u
#define JIT_INSN_MAX 15u /* bytes of an instruction */
#define JIT_PAGE_SHIFT 12
#define JIT_LINE_SHIFT 6

enum { /* what translated code returns beside enum soft_rc */
	JIT_LOOKUP = 100, /* go on at v->rip: not in the indirect-branch table */
	JIT_LINK = 101,   /* go on where the jump in v->scratch[0] (jit_ref) leads, and link it */
	JIT_BRANCH = 104, /* JIT_LOOKUP after an indirect branch: scratch[4] what it added to RSP,
			   * scratch[5] where it stands */
	JIT_DONE = 102,   /* a snippet ran to its end */
	JIT_TRAP = 103,   /* the host processor refused a copied instruction: v->rip is precise */
};

enum { /* struct jit_point.state: what a native fault must restore */
	POINT_FLAGS_LIVE = 1u << 0, /* guest flags are in the host's RFLAGS */
	POINT_SWAPPED = 1u << 1,    /* AL/AH (CL/CH..) exchanged: register in bits 4-5 */
	POINT_LOOP = 1u << 2,       /* host registers hold what jit_block.holds says (jit_loop.h) */
};

struct jit_point { /* host code from here on belongs to this guest instruction */
	uint32_t host;   /* offset from the block's host code */
	uint16_t guest;  /* offset from the block's guest address */
	uint16_t state;
	jit_recipe recipe; /* of the flags */
};

/* What there is of it for each block is kept small: it is memory that does nothing but be there. */
typedef uint32_t jit_ref; /* of metadata: offset in soft_cache.meta; 0: none */

struct jit_link { /* a jump that may be bent to its target's code */
	uint32_t rel32;    /* where its displacement stands: offset in soft_cache.rw (rx) */
	uint32_t unlinked; /* where it goes while not linked: the same */
	jit_ref from;      /* the block whose it is */
	jit_ref to;        /* linked to */
	jit_ref next_in;   /* in to->incoming */
	uint16_t target;   /* guest address in from's page, and JIT_MODE_BITS of its block >> 16 */
	struct jit_recipe_kept recipe; /* of the flags that go along */
};

/* In jit_block.mode: a check for each access. Where the common check of a group fails (the group lies
 * across a page border, say), such a block takes over. */
#define JIT_UNGROUPED (1u << 31)
/* The target of a jump backwards: asks for what the vCPU is wanted for before anything else. */
#define JIT_LOOP (1u << 30)
/* Moved code: its page was seen at several linear addresses, as those of libraries are, so the block is for
 * all of them. Its guest addresses, jit_block.rip too, count from the begin of its page, which stands in
 * v->code_page while it runs. Who comes from elsewhere has his target in r10 and comes in by jit_entry(). */
#define JIT_MOVED (1u << 29)
#define JIT_MODE_BITS (JIT_UNGROUPED | JIT_LOOP | JIT_MOVED)
/* Bytes before a moved block's code that set v->code_page. */
#define JIT_ENTRY_BYTES 16u
#define JIT_NO_PAGE (~0ull)
#define JIT_NO_FRAME (~0u)
#define JIT_SEVERAL (~0ull)
struct jit_page;
struct jit_block {
	/* What a search looks at is one line of the host's cache, or two. */
	uint64_t rip; /* the offset in its page, if it is JIT_MOVED */
	jit_ref hash_next;
	uint32_t frame;  /* guest-physical page number; the offset is rip's */
	uint32_t frame2; /* that of the second part, or JIT_NO_FRAME */
	uint32_t mode;
	struct jit_recipe_kept recipe; /* of the flags that it is entered with */
	uint8_t last_line; /* 64-byte line of its page where its first part ends */
	bool dead : 1;  /* its bytes were written to: no vCPU goes there any more */
	bool loops : 1; /* there are points with POINT_LOOP: `holds` follows them */
	/* Is it in the list of that page: the one it starts in; where its only instruction goes on? */
	bool listed : 1, listed2 : 1;
	/* soft_cache.epoch while it may be found and linked; 0 when it was unlinked */
	uint32_t epoch;
	jit_ref next[2];  /* in jit_page.blocks[] */
	jit_ref incoming; /* first link that leads here */
	uint32_t host;    /* offset of its code in soft_cache.rx */
	uint16_t host_size;
	uint16_t point_bytes; /* jit_point.c, behind its links */
	uint16_t link_count;  /* behind it */
};
_Static_assert(sizeof(struct jit_block) == 64, "there are very many");

struct jit_key { /* what tells one block from another */
	uint64_t gpa, rip;
	uint64_t gpa2; /* page of the next linear page, which a block that goes on there must match */
	uint32_t mode; /* MODE_*, JIT_MODE_BITS */
	jit_recipe recipe;
};

struct jit_page { /* a guest page that holds code */
	uint64_t lines;            /* that hold code, or may */
	uint64_t of_blocks;        /* lines of the blocks below */
	bool claimed;              /* its bytes are being read: all lines count as code */
	/* No TLB lets writes through: so it stays when its code is gone, until somebody wants to write.
	 * To claim it again takes no section then. */
	bool guarded;
	/* Where the user's code in it was seen: a linear address, JIT_SEVERAL, or 0: nowhere so far. */
	uint64_t seen_at;
	/* By jit_block.next[], the oldest first: that begin here, that come over from the page before. */
	jit_ref blocks[2], last[2];
};

/* How a block calls an operation in C. */
struct jit_op_site {
	soft_op_fn *fn;
	const struct soft_insn *insn;
	uint64_t rip, next_rip; /* from v->code_page on, if the block is JIT_MOVED */
};

enum { JIT_SLOW_WRITE = 1, JIT_SLOW_PAGE = 2, JIT_SLOW_GROUP = 4, JIT_SLOW_RUN = 8, JIT_SLOW_KINDS = 16 };
struct jit_stubs { /* executable addresses, made by jit_stubs_emit() */
	int (*enter)(struct soft_vcpu *v, const void *host);
	uint8_t *exit;       /* r11d: return code; saves all registers */
	uint8_t *exit_saved; /* the same, registers are in v->gpr already */
	/* r10 la, r9d site; give r11 = delta, or the host address */
	uint8_t *slow[CTX_COUNT][JIT_SLOW_KINDS]; /* of a group: CF says check one by one */
	uint8_t *op[2];      /* r11: struct jit_op_site; of a block that is [JIT_MOVED] */
	uint8_t *dispatch;   /* after an operation: go on at v->rip */
	/* What is left of cold paths: with r10 the guest address to go on at JIT_LOOKUP; and JIT_BRANCH,
	 * r9 for scratch[4], r11 for scratch[5]; r11 a jit_ref: JIT_LINK. */
	uint8_t *lookup, *branch, *link;
};

/* A site word: what the cold path of a memory access hands to the slow stub. */
#define JIT_SITE_SLOT_MASK 0xfff0u  /* byte offset of its L0 entry in tlb.l0 */
#define JIT_SITE_LARGE 1u           /* JIT_BY_LARGE: its L0 entry is for SOFT_LARGE_SIZE bytes */
#define JIT_SITE_COUNTED 2u         /* its uses are counted in v->l0_uses */
#define JIT_SITE_RUN 4u             /* JIT_BY_RUN: instead, 16 times the index of its run */
#define JIT_SITE_SIZE_SHIFT 16      /* bytes that must lie in one page */
#define JIT_SITE_SIZE_MASK 0xfffu
#define JIT_SITE_LOOP (1u << 28)    /* of a whole loop: nothing is done to memory on its behalf */
#define JIT_SITE_PAGE (1u << 29)    /* its L0 entry's delta is the host page */
#define JIT_SITE_WIDE (1u << 30)    /* may have to be aligned, which the stepper checks before it
				     * looks at the page: no exceptions here */
#define JIT_SITE_WRITE (1u << 31)

/* What follows the call of a slow stub: a short jump over so many bytes of the guest's address, of which
 * all bits from 47 on are the same, or of its offset in v->code_page, and JIT_RECIPE_BYTES of a recipe, if
 * there is one. */
#define JIT_NOTE_RIP 6u
#define JIT_NOTE_MOVED 2u

/* The pairs of guest CALLs in progress (jit_branch.c): the first is below an address that is 0 modulo
 * twice this, so that one bit of RSP tells when there are too many. */
#define JIT_RETURNS_SIZE 0x8000u
#define JIT_KEPT_SIZE 1024u
#define JIT_SITES 4096u
/* How an access finds its page: in its L0 entry; in one that holds a large page (for reads alone: code
 * in one of its 4-KiB pages would have to be kept from writes); in one that holds a run of pages; in L1, by
 * the address. Where L0 misses often it is counted for a while how many of the uses that is: then a run is
 * it, or L1, or L0 for good. Where the run misses often as well L1 is it. */
enum jit_site_mode { JIT_BY_L0, JIT_BY_LARGE, JIT_BY_L1, JIT_BY_L0_COUNTED, JIT_BY_L0_FOR_GOOD, JIT_BY_RUN };
#define JIT_SITE_MODE 7u
/* Beside its mode, of the first access of a group: the writes that follow it are mostly not done, and its
 * page lets nobody write. So they are checked by themselves. */
#define JIT_SITE_READS 8u
#define JIT_SITE_NOTE_BITS 4
static inline bool jit_mode_l0(enum jit_site_mode mode)
{
	return mode != JIT_BY_LARGE && mode != JIT_BY_L1 && mode != JIT_BY_RUN;
}
/* So many misses of L0 are looked at together; one in less than so many cycles on average is often. */
#define JIT_MISSES 1024u
#define JIT_MISS_CYCLES 3000u
/* One miss in so many uses costs about what L1 costs all of them. */
#define JIT_MISS_USES 8u
#define JIT_RUN_MISS_USES 32u /* and a run; */
#define JIT_RUN_MISS_CYCLES 4000u /* its misses go to C, */
#define JIT_RUN_MISSES 1024u /* as many as it takes to find all pages of a long one */
#define JIT_FEW_MISS_CYCLES 100u /* where uses are not counted */
#define JIT_LOOP_MISS_CYCLES 300u /* for a loop, each of whose misses costs a turn of its ordinary body */
/* So many refusals of groups are looked at together; a group that is refused more than once in so many
 * cycles is the likeliest to meet with the last of them. */
#define JIT_REFUSALS 128u
#define JIT_REFUSAL_CYCLES 100000u
#define JIT_PAGES_TOP 1024u /* gpa >> 30: guest memory up to 1 TiB */
#define JIT_PAGES_LEAF (1u << 18)
#define JIT_LINKS_MAX (4u * JIT_BLOCK_INSNS)

#define JIT_KEPT_FIRST 9u /* r9 and r10 */
#define JIT_KEPT_HOSTS 2u

struct jit_buf { /* where code is being written */
	uint8_t *p, *end; /* writable mapping */
	bool full;
	/* jit_kept.h, while `keeps`: host registers from JIT_KEPT_FIRST on that have copies of guest
	 * registers while `at` is p; the one that was wanted last. */
	bool keeps;
	bool moved; /* guest addresses are emitted as v->code_page + something (e_guest()) */
	uint8_t kept_last;
	struct {
		const uint8_t *at;
		uint8_t guest;
	} kept[JIT_KEPT_HOSTS];
};

struct jit_kept { /* its address is computed when it runs, so that its bytes say all */
	struct jit_kept *next;
	uint64_t turn; /* soft_cache.turn when a block used it last */
	struct soft_insn insn;
};

struct jit_region { /* jit_region.c */
	size_t used, used_cold, meta_used; /* bytes of its pieces */
	size_t meta_made; /* meta_used without that of the block being made */
	uint32_t count;   /* its blocks, by host address; references to them end its metadata */
	uint32_t unlinked; /* so many of them were, so that it can be emptied */
	bool gone;         /* all, and that was announced: soft_cache.gone */
};

struct jit_scratch; /* jit_tr.h: decoded instructions of the block being made */

struct soft_cache {
	soft_spin lock; /* blocks, hash, pages; translation itself happens under `translating` */
	pthread_mutex_t translating;
	int fd;
	size_t size;
	uint8_t *rw, *rx; /* the same memory, mapped twice */
	struct jit_stubs stubs; /* at its start */
	/* A ring of regions, each with a piece of hot code, of cold code and of metadata: offsets of the
	 * first ones' pieces in rw (rx) and sizes of all. Changed with `translating` held. */
	struct jit_region *regions;
	unsigned region_count;
	size_t hot_at, hot_size, cold_at, cold_size;
	uint8_t *meta;
	size_t meta_size;
	uint64_t turn; /* regions begun since the start: region turn % region_count is filled now */
	/* Changed with `lock` held. gone: counts when nothing leads to some blocks any more but branch
	 * tables: those of region `gone_region`, or all (JIT_ALL_REGIONS). */
	uint64_t gone;
	unsigned gone_region;
	uint32_t epoch; /* of blocks that are in use; another one after all were thrown away */
	jit_ref *hash;
	uint32_t hash_mask;
	/* Instructions that operations are called with. An operation may park in its middle: what it
	 * was called with outlives its block (v->op_insn). */
	struct jit_kept *kept[JIT_KEPT_SIZE];
	size_t kept_count, kept_max;
	struct jit_page ***pages; /* [gpa >> 30][(gpa >> 12) & 0x3ffff] */
	struct jit_scratch *scratch;
	bool chain, use_l0, all_moved, all_runs;
	/* Accesses that are not plain JIT_BY_L0, by the guest-physical address of the instruction, hashed:
	 * gpa << JIT_SITE_NOTE_BITS | JIT_SITE_READS | enum jit_site_mode. Hints: one may push out another. */
	uint64_t site_notes[JIT_SITES];
	unsigned block_insns;
	unsigned l0_next[SOFT_L0_KINDS / SOFT_L0_LINE]; /* how many slots of L0 each kind of site took */
	unsigned l0_next_large;                         /* and those that are JIT_BY_LARGE */
	unsigned run_next[4][8]; /* runs of each kind that were taken, by log2 of the size */
	uint64_t n_blocks, n_insns, n_flushes, n_killed, n_bytes, translation_ticks;
	/* regions emptied, how often others had to stand still for it, the longest time it took */
	uint64_t n_evictions, n_evictions_parked, longest_eviction;
	uint64_t n_waits, longest_wait, longest_hold; /* of `translating` */
};
#define JIT_ALL_REGIONS (~0u)

struct jit_vcpu {
	uint8_t *snippets_rw, *snippets_rx;
	size_t snippets_size, snippets_used;
	uint32_t generation;
	volatile bool in_snippet; /* a native fault belongs to soft_exec_native() */
	uint64_t missed_at[SOFT_L0_SIZE]; /* TSC when the misses of an L0 entry were last counted out */
	uint32_t run_misses[SOFT_RUNS];
	uint64_t run_missed_at[SOFT_RUNS]; /* TSC when they were counted out */
	uint64_t run_searched[SOFT_RUNS];  /* cycles since then in which runs were looked for, and no page was new */
	unsigned refusals;   /* of groups, */
	uint64_t refused_at; /* since that TSC */
	uint64_t retranslate; /* code at this guest-physical address is to be made anew, or JIT_NO_PAGE */
	uint64_t gone; /* soft_cache.gone when its branch tables and soft_jit_run() last heeded it */
};

/* Where an instruction's address has its place in soft_cache.site_notes. */
static inline uint64_t *jit_site_place(struct soft_cache *cache, uint64_t gpa)
{
	return &cache->site_notes[(uint32_t)(gpa ^ gpa >> 12) * 0x9e3779b1u >> 20];
}
/* What is noted of it there: JIT_SITE_*. */
static inline unsigned jit_site_note(struct soft_cache *cache, uint64_t gpa)
{
	uint64_t noted = __atomic_load_n(jit_site_place(cache, gpa), __ATOMIC_RELAXED);

	return noted >> JIT_SITE_NOTE_BITS == gpa ? noted & ((1u << JIT_SITE_NOTE_BITS) - 1) : 0;
}

#define JIT_BRANCH_HASH 0x9e3779b1u
#define JIT_BRANCH_SHIFT 18 /* 32 - log2(SOFT_IBTC_SIZE) */
_Static_assert(SOFT_IBTC_SIZE == 1u << (32 - JIT_BRANCH_SHIFT), "size of the branch table");
/* Index of a guest address in an indirect-branch table; e_branch_slot() computes the same. */
static inline unsigned jit_branch_slot(uint64_t rip)
{
	return (uint32_t)rip * JIT_BRANCH_HASH >> JIT_BRANCH_SHIFT;
}

static inline struct jit_vcpu *jit_of(struct soft_vcpu *v)
{
	return v->jit;
}

/* --- data.c: one guest instruction copied with other registers and memory operand ----------- */
/* How many scratch registers its register operands take: r9 and, where it has a memory operand, r10
 * or r11, whichever is not in its place. */
static inline unsigned jit_data_scratch(const struct soft_insn *insn)
{
	return insn->facts.scratch;
}
/* Is that host register exchanged with its own high byte around the copy? Then no address may use it. */
static inline bool jit_data_swaps(const struct soft_insn *insn, unsigned host)
{
	const struct jit_field *reg = &insn->facts.field[FIELD_REG];

	return insn->facts.mem >= 0 && reg->high && reg->guest == host;
}
/* Is the base of FS or GS a part of its address? In code that is translated all others are flat. */
static inline bool jit_has_segment(const ZydisDecodedOperand *mem)
{
	return mem->mem.segment == ZYDIS_REGISTER_FS || mem->mem.segment == ZYDIS_REGISTER_GS;
}
struct jit_place { /* the memory operand of a copied instruction: [base + index + disp] */
	uint8_t base;
	uint8_t index; /* + JIT_INDEX(host register), or 0 */
	uint8_t log2;  /* which is shifted by this */
	int32_t disp;
};
#define JIT_INDEX(host) (0x10u | (host))
/* Emits loads of memory-resident guest registers, the instruction, and stores.
 * *ret_point_state: POINT_SWAPPED and its register, or 0. */
void jit_emit_data(struct jit_buf *b, const struct soft_insn *insn, struct jit_place place,
		   unsigned *ret_point_state);
/* Effective address (with segment base) of the operand into dst; clobbers r10 and r11 (with copies,
 * jit_kept.h, r9 as well), and host flags if a segment base is added. next_rip is for RIP-relative ones. */
void jit_emit_ea(struct jit_buf *b, unsigned dst, const struct soft_insn *insn,
		 const ZydisDecodedOperand *op, uint64_t next_rip, bool with_segment);
/* Pinned or r8 for rsp; -1: in memory. */
static inline int jit_host_reg(unsigned guest)
{
	if (guest == SOFT_RSP)
		return 8;
	return (guest & ~3u) == 8 ? -1 : (int)guest;
}
/* Guest register number of a general-purpose register, -1 if it is none; *ret_high: AH..BH. */
static inline int jit_guest_reg(ZydisRegister reg, bool *ret_high)
{
	unsigned n = (unsigned)reg - ZYDIS_REGISTER_AL; /* AL..BL AH..BH SPL..R15B, then 16 of each size */

	*ret_high = false;
	if (n > ZYDIS_REGISTER_R15 - ZYDIS_REGISTER_AL)
		return -1;
	if (n >= ZYDIS_REGISTER_AX - ZYDIS_REGISTER_AL)
		return (int)(n - (ZYDIS_REGISTER_AX - ZYDIS_REGISTER_AL)) & 15;
	*ret_high = n >= 4 && n < 8;
	return (int)(n < 4 ? n : n - 4);
}
_Static_assert(ZYDIS_REGISTER_AX == ZYDIS_REGISTER_AL + 20 && ZYDIS_REGISTER_EAX == ZYDIS_REGISTER_AX + 16 &&
	       ZYDIS_REGISTER_RAX == ZYDIS_REGISTER_EAX + 16 && ZYDIS_REGISTER_R15 == ZYDIS_REGISTER_RAX + 15,
	       "the order of registers in jit_guest_reg()");

/* --- the rest ------------------------------------------------------------------------------- */
void jit_stubs_emit(struct soft_cache *cache, struct jit_buf *b);
struct jit_source { /* what a block is made from */
	const uint8_t *page, *page2; /* the page's bytes; those of the next linear page at gpa2, or NULL */
	bool adapter; /* it only saves the flags of its recipe and goes on in the block without one */
	unsigned insns; /* at most */
};
/* Makes the block for a key; NULL: no room in the current region. fp saved, cache->translating held. */
struct jit_block *jit_translate(struct soft_vcpu *v, const struct jit_key *key,
				const struct jit_source *source);
struct jit_scratch *jit_scratch_new(void);
static inline void *jit_at(const struct soft_cache *cache, jit_ref ref)
{
	return cache->meta + ref;
}
static inline jit_ref jit_ref_of(const struct soft_cache *cache, const void *p)
{
	return (jit_ref)((const uint8_t *)p - cache->meta);
}
static inline struct jit_block *jit_block_at(const struct soft_cache *cache, jit_ref ref)
{
	return ref ? jit_at(cache, ref) : NULL;
}
static inline struct jit_link *jit_link_at(const struct soft_cache *cache, jit_ref ref)
{
	return ref ? jit_at(cache, ref) : NULL;
}
static inline struct jit_link *jit_links(struct jit_block *block)
{
	return (struct jit_link *)(void *)(block + 1);
}
static inline const uint8_t *jit_points(const struct jit_block *block)
{
	return (const uint8_t *)(block + 1) + block->link_count * sizeof(struct jit_link);
}
/* For a block with `loops`, by pinned guest register: whose value its host register has at a POINT_LOOP, or
 * JIT_NOBODYS. */
static inline const uint8_t *jit_holds(const struct jit_block *block)
{
	return jit_points(block) + block->point_bytes;
}
/* Guest-physical address of its part k; of the second one, which begins a page, or JIT_NO_PAGE. */
static inline uint64_t jit_block_gpa(const struct jit_block *block, unsigned k)
{
	if (k)
		return block->frame2 != JIT_NO_FRAME ? (uint64_t)block->frame2 << 12 : JIT_NO_PAGE;
	return (uint64_t)block->frame << 12 | (block->rip & 4095);
}
static inline bool jit_block_listed(const struct jit_block *block, unsigned k)
{
	return k ? block->listed2 : block->listed;
}
static inline void jit_block_list(struct jit_block *block, unsigned k, bool listed)
{
	if (k)
		block->listed2 = listed;
	else
		block->listed = listed;
}
static inline uint8_t *jit_host(const struct soft_cache *cache, const struct jit_block *block)
{
	return cache->rx + block->host;
}
/* Is it for any linear address of its page? */
static inline bool jit_is_moved(const struct jit_block *block)
{
	return block->mode & JIT_MOVED;
}
/* Where it is entered with its guest address in r10. */
static inline uint8_t *jit_entry(const struct soft_cache *cache, const struct jit_block *block)
{
	return jit_host(cache, block) - (jit_is_moved(block) ? JIT_ENTRY_BYTES : 0);
}
/* May code of that mode be moved? */
static inline bool jit_may_move(const struct soft_cache *cache, uint32_t mode)
{
	return (mode & MODE_CODE) == CODE_64 && (mode & MODE_USER || cache->all_moved);
}
/* Guest address that the jump goes to; from the begin of its page if the block is JIT_MOVED. */
static inline uint64_t jit_link_target(const struct soft_cache *cache, const struct jit_link *link)
{
	return (jit_block_at(cache, link->from)->rip & ~4095ull) | (link->target & 4095);
}
/* Where the blocks of one place begin; those that differ in their recipe alone are in one. GENERAL. */
jit_ref *jit_hash_slot(const struct soft_cache *cache, uint64_t frame, uint64_t rip, uint32_t mode);
/* The first block in the place of a key, or NULL. cache->lock held. GENERAL. */
static inline struct jit_block *jit_hash_first(const struct soft_cache *cache, const struct jit_key *key)
{
	return jit_block_at(cache, *jit_hash_slot(cache, key->gpa >> 12, key->rip, key->mode));
}
/* The block for a key, or NULL. cache->lock held. GENERAL. */
struct jit_block *jit_block_find(struct soft_cache *cache, const struct jit_key *key);
/* Was the user's code in that page seen elsewhere than where `rip` is? Any thread. GENERAL. */
bool jit_seen_elsewhere(struct soft_cache *cache, uint64_t gpa, uint64_t rip);
/* An instruction at this address may go on in the next page. */
static inline bool jit_near_end(uint64_t rip)
{
	return (rip & 4095) > 4096 - 15;
}
void jit_block_add(struct soft_vm *vm, struct jit_block *block);
/* May it be found and linked? cache->lock held. */
static inline bool jit_block_live(const struct soft_cache *cache, const struct jit_block *block)
{
	return block->epoch == cache->epoch;
}
/* The same, and is it for that key, whatever its recipe and second page? */
static inline bool jit_block_is(const struct soft_cache *cache, const struct jit_block *block,
				const struct jit_key *key)
{
	return block->frame == key->gpa >> 12 && block->rip == key->rip && block->mode == key->mode &&
	       jit_block_live(cache, block);
}
/* It can't be found any more, and no block jumps to or from it. cache->lock held. */
void jit_block_unlink(struct soft_cache *cache, struct jit_block *block);
/* A copy that lives as long as the block that is being made, and while v->op_insn of any vCPU names
 * it; one for all instructions of the same bytes. NULL: full. */
const struct soft_insn *jit_insn_keep(struct soft_cache *cache, const struct soft_insn *insn);
/* Frees those that were last used in or before that turn. cache->translating held. vm NULL: all. */
void jit_insns_forget(struct soft_vm *vm, struct soft_cache *cache, uint64_t turn);
/* The record of a guest page, NULL if it never held code. GENERAL. */
struct jit_page *jit_page_get(struct soft_cache *cache, uint64_t gpa);
/* The lines of a page that hold code are those of its blocks. cache->lock held. */
void jit_page_narrow(struct jit_page *page);
/* Takes those blocks off its list k, the oldest of all, that have their metadata in [first, first + size).
 * cache->lock held. */
void jit_page_leave(struct soft_cache *cache, struct jit_page *page, unsigned k, jit_ref first, size_t size);
struct jit_page *jit_page_make(struct soft_cache *cache, uint64_t gpa);
uint64_t jit_line_mask(uint64_t gpa, uint64_t n); /* 64-byte lines of [gpa, gpa+n) in its page */
/* Lines of its page k that it was translated from. */
uint64_t jit_block_lines(const struct jit_block *block, unsigned k);
/* Bends the jump whose displacement stands at one offset of the code to another. */
void jit_store_rel32(const struct soft_cache *cache, uint32_t rel32, uint32_t to);
/* Bends a jump to the block. cache->lock held. GENERAL. */
void jit_link(struct soft_cache *cache, struct jit_link *link, struct jit_block *to);
/* Branch-table entries of the vCPU that lead into the region, or all. GENERAL. */
void jit_branches_forget(struct soft_vcpu *v, unsigned region);

/* --- jit_region.c: room for blocks; cache->translating held ------------------------------------ */
/* Memory that costs nothing until it is touched. NULL: none. */
void *jit_reserve(size_t size);
/* Regions in all of the cache from `used` on, a multiple of 16. 0 or -ENOMEM. */
int jit_regions_create(struct soft_cache *cache, size_t used);
void jit_regions_destroy(struct soft_cache *cache);
/* Where the next block goes; what was begun before and not committed is forgotten. */
void jit_region_begin(struct soft_cache *cache, struct jit_buf *hot, struct jit_buf *cold);
/* There it stands, with its metadata. */
void jit_region_commit(struct soft_cache *cache, const struct jit_buf *hot, const struct jit_buf *cold,
		       struct jit_block *block);
/* Metadata that lives as long as the block being made. NULL: full. */
void *jit_meta_alloc(struct soft_cache *cache, size_t size);
/* Has the current region no block yet? */
bool jit_region_empty(const struct soft_cache *cache);
/* Some work towards emptying the oldest region, if it is time for that. */
void jit_region_prepare(struct soft_cache *cache);
/* Empties the oldest region, which is the current one from now on. fp saved; v may park. */
void jit_region_next(struct soft_vm *vm, struct soft_vcpu *v);
/* Whose hot code is there, or NULL. For the vCPU that runs it: any time, without locks. */
struct jit_block *jit_block_of_host(struct soft_cache *cache, const uint8_t *host);

/* --- jit_point.c: a block's points in few bytes each ---------------------------------------------- */
#define JIT_POINT_MAX 16u /* bytes, at most */
/* Writes them to `to`; returns the end. */
uint8_t *jit_points_pack(uint8_t *to, const struct jit_point *points, unsigned n);
/* The last one at or before that offset from the block's host code, or the first. Is there one? */
bool jit_points_find(const uint8_t *from, size_t bytes, uint32_t host, struct jit_point *ret);

int jit_signals_install(void);
int jit_slow(struct soft_vcpu *v, uint64_t la, uint32_t site, const uint8_t *ret);
int jit_slow_group(struct soft_vcpu *v, uint64_t la, uint32_t site, const uint8_t *ret);

#endif
