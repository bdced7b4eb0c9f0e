/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_run.c - runs translated code: finds blocks, enters them, acts on why they were left.
 *
 * GENERAL (soft.h): the guest's FP registers stay in the processor throughout.
 */
#include "vmx-driver/soft/jit.h"
#include "vmx-driver/soft/jit_make.h"
#include "vmx-driver/soft/mmu.h"
#include "vmx-driver/soft/runs.h"

/* After the guest's state is saved C code must find x87 and MXCSR as the ABI wants them. */
void soft_fp_save(struct soft_vcpu *v)
{
	static const uint32_t mxcsr_default = 0x1f80;
	uint32_t lo, hi;

	if (!v->fp_live)
		return;
	lo = (uint32_t)v->xsave_mask;
	hi = (uint32_t)(v->xsave_mask >> 32);
	__asm__ volatile("xsave64 (%0)" : : "r"(v->xsave), "a"(lo), "d"(hi) : "memory");
	__asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr_default));
	if (v->xsave_mask & 4)
		__asm__ volatile("vzeroupper");
	v->fp_live = false;
}

void soft_fp_load(struct soft_vcpu *v)
{
	uint32_t lo, hi;

	if (v->fp_live)
		return;
	lo = (uint32_t)v->xsave_mask;
	hi = (uint32_t)(v->xsave_mask >> 32);
	__asm__ volatile("xrstor64 (%0)" : : "r"(v->xsave), "a"(lo), "d"(hi) : "memory");
	v->fp_live = true;
}

static uint64_t six_bytes(const uint8_t *p)
{
	return *(const soft_u32 *)p | (uint64_t)*(const soft_u16 *)(p + 4) << 32;
}

/* v->rip, and the recipe. */
static jit_recipe take_note(struct soft_vcpu *v, const uint8_t *note)
{
	unsigned bytes = note[1]; /* that the jump goes over */
	bool moved = bytes == JIT_NOTE_MOVED || bytes == JIT_NOTE_MOVED + JIT_RECIPE_BYTES;
	unsigned of_rip = moved ? JIT_NOTE_MOVED : JIT_NOTE_RIP;

	v->rip = moved ? v->code_page + *(const soft_u16 *)(note + 2) :
			 (uint64_t)((int64_t)(six_bytes(note + 2) << 16) >> 16);
	return bytes > of_rip ? six_bytes(note + 2 + of_rip) : 0;
}

/* Index of its L0 entry, or its run. */
static unsigned site_slot(uint32_t site)
{
	return (site & JIT_SITE_SLOT_MASK) / sizeof(struct soft_l0);
}

static void fill_run(struct soft_vcpu *v, uint64_t la, uint32_t site, unsigned size)
{
	uint64_t before = __builtin_ia32_rdtsc(), aliases = v->n_aliases;

	soft_run_fill(v, la, site_slot(site), size, site & JIT_SITE_WRITE);
	if (v->n_aliases == aliases)
		jit_of(v)->run_searched[site_slot(site)] += __builtin_ia32_rdtsc() - before;
}

static int fill(struct soft_vcpu *v, uint64_t la, uint32_t site)
{
	struct soft_l0 *l0 = &v->tlb[v->ctx].l0[site_slot(site)];
	unsigned size = (site >> JIT_SITE_SIZE_SHIFT) & JIT_SITE_SIZE_MASK;
	struct soft_l0 now = { SOFT_TAG_INVALID, 0 };
	int rc = soft_tlb_fill(v, la, size, site & JIT_SITE_WRITE, &now, &v->scratch[3]);

	if (rc != SOFT_OK || now.tag == SOFT_TAG_INVALID || !soft_vm_of(v)->cache->use_l0)
		return rc;
	if (site & JIT_SITE_RUN) {
		fill_run(v, la, site, size);
	} else if (!(site & JIT_SITE_LARGE)) {
		struct soft_tlb *t = &v->tlb[v->ctx];

		t->l0_pages[(unsigned)(l0 - t->l0) / (SOFT_L0_SIZE / 64)] |= soft_l0_pages(la);
		l0->tag = now.tag;
		l0->delta = site & JIT_SITE_PAGE ? now.tag + now.delta : now.delta;
	}
	return rc;
}

/* Something on the way took the FP state out of the registers, or waited for another vCPU's section,
 * in which all code may have been thrown away: no going back into it. */
static bool code_may_be_gone(const struct soft_vcpu *v)
{
	return !v->fp_live || v->parked_since;
}

/* A better way for an access whose L0 entry does not do, though L1 had it. */
static enum jit_site_mode next_mode(struct soft_vcpu *v, uint64_t la, uint32_t site)
{
	const struct soft_l1 *e = soft_l1_entry(v, v->ctx, la);

	if (site & (JIT_SITE_LARGE | JIT_SITE_LOOP))
		return JIT_BY_L1;
	if (!(site & JIT_SITE_WRITE) && e->tag_r == (la & ~4095ull) && (e->gpa & SOFT_L1_LARGE))
		return JIT_BY_LARGE;
	return v->mode & MODE_USER ? JIT_BY_RUN : JIT_BY_L1;
}

/* The code of the instruction at a guest-physical address is made anew if that is something new about it. */
static void note_site(struct soft_vcpu *v, uint64_t gpa, unsigned note)
{
	uint64_t noted = gpa << JIT_SITE_NOTE_BITS | note;

	if (__atomic_exchange_n(jit_site_place(soft_vm_of(v)->cache, gpa), noted, __ATOMIC_RELAXED) == noted)
		return;
	jit_of(v)->retranslate = gpa;
	atomic_fetch_or(&v->exit_req, SOFT_REQ_MODE);
}

/* How its access finds its page from now on. */
static void set_mode(struct soft_vcpu *v, uint64_t gpa, enum jit_site_mode mode)
{
	unsigned note = jit_site_note(soft_vm_of(v)->cache, gpa);

	if (mode != JIT_BY_L0_COUNTED || (note & JIT_SITE_MODE) != JIT_BY_L0_FOR_GOOD)
		note_site(v, gpa, (note & JIT_SITE_READS) | mode);
}

/* Guest-physical address of the instruction at v->rip. Was it found? */
static bool find_site(struct soft_vcpu *v, uint64_t *ret_gpa)
{
	struct soft_exc kept = v->exc;
	unsigned got = 0;
	uint8_t byte;

	if (soft_fetch(v, v->rip, &byte, 0, &got, ret_gpa) == SOFT_OK)
		return true;
	v->exc = kept;
	return false;
}

/* From this many cycles a miss on L0 is left as it is. Supervisor accesses share entries (jit_slot.c): the
 * misses of one are no measure of the access that they are found by. */
static unsigned cycles_of(const struct soft_vcpu *v, uint32_t site)
{
	if (site & JIT_SITE_LOOP)
		return JIT_LOOP_MISS_CYCLES;
	return site & JIT_SITE_LARGE || !(v->mode & MODE_USER) ? JIT_FEW_MISS_CYCLES : JIT_MISS_CYCLES;
}

/* Counts how often a run has not got what L1 has, or could have. The longer the search for a run the seldomer are
 * its misses: that time does not count. */
static void count_run_misses(struct soft_vcpu *v, uint32_t site)
{
	struct jit_vcpu *j = jit_of(v);
	unsigned slot = site_slot(site);
	uint64_t now, gpa, passed;
	bool often;

	if (++j->run_misses[slot] < JIT_RUN_MISSES)
		return;
	now = __builtin_ia32_rdtsc();
	passed = now - j->run_missed_at[slot] - j->run_searched[slot];
	often = passed < (uint64_t)JIT_RUN_MISSES * JIT_RUN_MISS_CYCLES;
	j->run_misses[slot] = 0;
	j->run_searched[slot] = 0;
	j->run_missed_at[slot] = now;
	if (often && !soft_vm_of(v)->cache->all_runs && find_site(v, &gpa))
		set_mode(v, gpa, JIT_BY_L1);
}

/* Counts how often L0 misses for this access while L1 has it. */
static void count_misses(struct soft_vcpu *v, uint64_t la, uint32_t site)
{
	unsigned slot = site_slot(site);
	unsigned cycles = cycles_of(v, site);
	struct jit_vcpu *j = jit_of(v);
	uint64_t now = __builtin_ia32_rdtsc(), gpa;
	enum jit_site_mode mode;
	bool often = now - j->missed_at[slot] < JIT_MISSES * cycles;

	if (site & JIT_SITE_RUN) {
		count_run_misses(v, site);
		return;
	}
	if (v->l0_misses[slot] != 0)
		return;
	__atomic_store_n(&v->l0_misses[slot], -JIT_MISSES, __ATOMIC_RELAXED);
	soft_count(&v->n_l0_rounds);
	j->missed_at[slot] = now;
	if (site & JIT_SITE_COUNTED) {
		mode = next_mode(v, la, site);
		if (v->l0_uses[slot] >= JIT_MISSES * (mode == JIT_BY_RUN ? JIT_RUN_MISS_USES : JIT_MISS_USES))
			mode = JIT_BY_L0_FOR_GOOD;
		v->l0_uses[slot] = 0;
	} else if (!often) {
		return;
	} else {
		mode = cycles == JIT_MISS_CYCLES ? JIT_BY_L0_COUNTED : next_mode(v, la, site);
	}
	if (find_site(v, &gpa))
		set_mode(v, gpa, mode);
}

/* Counts the groups whose page does not let write, each of which costs a walk. Often it is the same one, as
 * the writes in it are never done: to a constant, to what a fork left shared. */
static void count_refusals(struct soft_vcpu *v, uint32_t site)
{
	struct jit_vcpu *j = jit_of(v);
	uint64_t now, gpa;
	bool often;

	if (!(site & JIT_SITE_WRITE) || ++j->refusals < JIT_REFUSALS)
		return;
	now = __builtin_ia32_rdtsc();
	often = now - j->refused_at < JIT_REFUSALS * JIT_REFUSAL_CYCLES;
	j->refusals = 0;
	j->refused_at = now;
	if (often && find_site(v, &gpa))
		note_site(v, gpa, jit_site_note(soft_vm_of(v)->cache, gpa) | JIT_SITE_READS);
}

/* 32-bit code: its addresses end at 4 GiB. */
static bool is_narrow(const struct soft_vcpu *v)
{
	return (v->mode & MODE_CODE) != CODE_64;
}

/* Called by the slow stub on a miss in L0 and L1. ret: return address into the cold path, where
 * emit_note() (jit_flow.c) left the instruction's guest address and, unless it is 0, the recipe of the
 * flags. */
int jit_slow(struct soft_vcpu *v, uint64_t la, uint32_t site, const uint8_t *ret)
{
	jit_recipe recipe = take_note(v, ret);
	int rc;

	rc = fill(v, la, site);
	if (rc == SOFT_OK)
		count_misses(v, la, site);
	else if (site & JIT_SITE_WIDE)
		rc = SOFT_STEP;
	if (rc == SOFT_OK && code_may_be_gone(v))
		rc = SOFT_AGAIN;
	if (rc != SOFT_OK)
		jit_recipe_follow(v, recipe);
	return rc;
}

/* The same for a group of accesses. Whatever is in its way, one access after the other finds out
 * whose fault it is: 1, and nothing happened. More: leave with that. */
int jit_slow_group(struct soft_vcpu *v, uint64_t la, uint32_t site, const uint8_t *ret)
{
	jit_recipe recipe = take_note(v, ret);
	struct soft_exc kept = v->exc;
	int rc;

	if (is_narrow(v) && !soft_narrow_piece(la, 12))
		return 1;
	if (site & JIT_SITE_LOOP) {
		uint32_t *misses = &v->l0_misses[site_slot(site)];

		/* Which access of a loop comes first is not known: pages are marked as used one by one.
		 * L1 has not got it: two streams may share its place there. */
		rc = SOFT_STEP;
		__atomic_store_n(misses, *misses + 1, __ATOMIC_RELAXED);
	} else {
		rc = fill(v, la, site);
		if (rc != SOFT_OK)
			count_refusals(v, site);
	}
	if (rc == SOFT_OK || site & JIT_SITE_LOOP)
		count_misses(v, la, site);
	v->exc = kept;
	if (!code_may_be_gone(v))
		return rc != SOFT_OK;
	jit_recipe_follow(v, recipe);
	return SOFT_AGAIN;
}

static struct soft_ibtc *ibtc_slot(struct soft_vcpu *v, uint64_t rip)
{
	return &v->ibtc[jit_branch_slot(rip)];
}

static void ibtc_note_page(struct soft_vcpu *v, uint64_t page)
{
	uint64_t bit = (page ^ page >> 12) & 4095;

	v->tlb[v->ctx].ibtc_pages[bit / 64] |= 1ull << bit % 64;
	v->tlb[v->ctx].ibtc_halves |= (uint8_t)(1u << soft_half(page << 12));
}

static void ibtc_set(struct soft_vcpu *v, uint64_t rip, const struct jit_block *block)
{
	struct soft_ibtc *slot = ibtc_slot(v, rip);
	struct soft_tlb *t = &v->tlb[v->ctx];

	slot->rip = rip;
	slot->host = jit_entry(soft_vm_of(v)->cache, block);
	if (t->ibtc_filled < SOFT_IBTC_LOG)
		t->ibtc_log[t->ibtc_filled] = (uint16_t)jit_branch_slot(rip);
	if (t->ibtc_filled <= SOFT_IBTC_LOG)
		t->ibtc_filled++;
	ibtc_note_page(v, rip >> 12);
	if (block->frame2 != JIT_NO_FRAME)
		ibtc_note_page(v, (rip >> 12) + 1);
}

/* Guest-physical page of the linear page after v->rip's, if its first instruction may reach there. */
static uint64_t next_page(struct soft_vcpu *v)
{
	struct soft_exc kept = v->exc;
	uint64_t gpa;
	unsigned got;
	uint8_t byte;

	if (!jit_near_end(v->rip) || (is_narrow(v) && v->rip >= 0xfffff000u))
		return JIT_NO_PAGE;
	if (soft_fetch(v, (v->rip | 4095) + 1, &byte, 0, &got, &gpa) == SOFT_OK)
		return gpa;
	v->exc = kept;
	return JIT_NO_PAGE;
}

/* Some blocks are not to be run any more which this vCPU may know yet: from its branch tables, or as it
 * held a link or a block. */
static bool code_is_gone(const struct soft_vcpu *v)
{
	return __atomic_load_n(&soft_vm_of(v)->cache->gone, __ATOMIC_ACQUIRE) != jit_of((struct soft_vcpu *)v)->gone;
}

/* Forgets them. */
static void leave_gone_code(struct soft_vcpu *v)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct jit_vcpu *j = jit_of(v);
	uint64_t gone;
	unsigned region;

	soft_lock(&cache->lock);
	gone = cache->gone;
	region = gone == j->gone + 1 ? cache->gone_region : JIT_ALL_REGIONS;
	soft_unlock(&cache->lock);
	jit_branches_forget(v, region);
	__atomic_store_n(&j->gone, gone, __ATOMIC_RELEASE);
}

/* Where the jump leads. */
static uint64_t link_target(const struct soft_vcpu *v, const struct jit_link *link)
{
	const struct soft_cache *cache = soft_vm_of((struct soft_vcpu *)v)->cache;
	uint64_t target = jit_link_target(cache, link);

	return jit_is_moved(jit_block_at(cache, link->from)) ? v->code_page + target : target;
}

/* Blocks that are linked are both moved or neither; others are as their page is. */
static bool wants_moved(struct soft_vcpu *v, const struct jit_link *link, uint64_t gpa)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;

	if (link)
		return (uint32_t)link->target << 16 & JIT_MOVED;
	return jit_may_move(cache, v->mode) && (cache->all_moved || jit_seen_elsewhere(cache, gpa, v->rip));
}

/* The block for v->rip, made if need be. SOFT_OK with *ret_host, or why not. */
static int find(struct soft_vcpu *v, struct jit_link *link, void **ret_host)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct soft_ibtc *slot = ibtc_slot(v, v->rip);
	struct jit_key key = {
		.rip = v->rip,
		.mode = v->mode | (link ? (uint32_t)link->target << 16 & JIT_MODE_BITS : 0),
		.recipe = link ? jit_recipe_of(link->recipe) : 0,
	};
	struct jit_block *block;
	unsigned got = 0;
	uint8_t byte;
	int rc;

	if (!link && cache->chain && slot->rip == v->rip) {
		*ret_host = slot->host;
		return SOFT_OK;
	}
	if (is_narrow(v) && v->rip >> 32)
		return SOFT_STEP; /* set from outside: a fault */
	rc = soft_fetch(v, v->rip, &byte, 0, &got, &key.gpa);
	if (rc != SOFT_OK)
		return rc;
	key.gpa2 = next_page(v);
	if (wants_moved(v, link, key.gpa)) {
		key.rip &= 4095;
		key.mode |= JIT_MOVED;
	}
	soft_lock(&cache->lock);
	block = jit_block_find(cache, &key);
	soft_unlock(&cache->lock);
	if (!block) {
		soft_fp_save(v);
		block = jit_make(v, &key);
		soft_fp_load(v);
		if (!block)
			return SOFT_STEP;
	}
	soft_lock(&cache->lock);
	/* This vCPU may have parked on the way, and the link be gone with its block. */
	if (link && !code_is_gone(v) && link_target(v, link) == v->rip && cache->chain)
		jit_link(cache, link, block);
	soft_unlock(&cache->lock);
	if (cache->chain && (key.mode & ~JIT_MOVED) == v->mode && !key.recipe)
		ibtc_set(v, v->rip, block);
	*ret_host = jit_entry(cache, block);
	return SOFT_OK;
}

int soft_jit_run(struct soft_vcpu *v)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct jit_link *link = NULL;

	if (v->log.count)
		return SOFT_STEP;
	if (jit_of(v)->retranslate != JIT_NO_PAGE) {
		soft_fp_save(v);
		soft_code_written(soft_vm_of(v), v, jit_of(v)->retranslate, 1);
		jit_of(v)->retranslate = JIT_NO_PAGE;
	}
	soft_fp_load(v);
	for (;;) {
		void *host;
		int rc;

		if (atomic_load_explicit(&v->exit_req, memory_order_acquire) || (v->mode & MODE_SLOW))
			return SOFT_AGAIN;
		if (v->shadow)
			return SOFT_STEP;
		if (code_is_gone(v)) {
			leave_gone_code(v);
			link = NULL;
		}
		rc = find(v, link, &host);
		if (rc != SOFT_OK)
			return rc;
		if (code_is_gone(v))
			continue;
		v->parked_since = false;
		rc = cache->stubs.enter(v, host);
		link = NULL;
		jit_recipe_follow(v, v->flag_recipe);
		v->flag_recipe = 0;
		switch (rc) {
		case JIT_LINK:
			(void)__atomic_load_n(&cache->n_blocks, __ATOMIC_ACQUIRE);
			link = jit_link_at(cache, (jit_ref)v->scratch[0]);
			v->rip = link_target(v, link);
			jit_recipe_follow(v, jit_recipe_of(link->recipe));
			break;
		case JIT_BRANCH:
			soft_count(&v->n_branch_misses);
			if (!soft_canonical(v->rip)) { /* the branch itself faults */
				v->gpr[SOFT_RSP] -= v->scratch[4];
				v->rip = v->scratch[5];
				return SOFT_STEP;
			}
			break;
		case JIT_LOOKUP:
			break;
		case JIT_TRAP:
			return SOFT_STEP;
		default:
			return rc;
		}
	}
}

int soft_exec_native(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct jit_vcpu *j = jit_of(v);
	const void *host = insn->snippet;
	int rc;

	if (!host || insn->snippet_generation != j->generation) {
		soft_fp_save(v);
		host = jit_snippet_make(v, (struct soft_insn *)insn);
		if (!host)
			return soft_raise(v, EXC_UD);
	}
	if (insn->fp != FP_NONE)
		soft_fp_load(v);
	j->in_snippet = true;
	rc = soft_vm_of(v)->cache->stubs.enter(v, host);
	j->in_snippet = false;
	if (rc == JIT_DONE)
		return SOFT_OK;
	switch (rc - JIT_TRAP_VECTOR) {
	case EXC_DE: return soft_raise(v, EXC_DE);
	case EXC_MF:
		if (insn->fp == FP_SSE || insn->fp == FP_AVX)
			return soft_raise(v, v->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
		return soft_raise(v, EXC_MF);
	case EXC_UD: return soft_raise(v, EXC_UD);
	default: return soft_raise_error(v, EXC_GP, 0);
	}
}
