/* SPDX-License-Identifier: Apache-2.0 */
/* tlb.c - the caches of translations, and forgetting them. GENERAL. */
#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/mmu.h"
#include "vmx-driver/soft/pcid.h"
#include "vmx-driver/soft/runs.h"

/* log2 of what pages there are, the largest first. */
static const uint8_t page_shifts[] = { 30, 22, 21, 12 };
#define LARGE_SHIFTS 3u

/* The bit of the page of 1 << shift bytes around la: one if data of it is cached, one if code is. */
static unsigned large_bit(uint64_t la, unsigned shift, bool code)
{
	return (unsigned)(((la >> shift << 6 | shift << 1 | code) * 0x9e3779b97f4a7c15ull) >> 52);
}

static void large_note(struct soft_large *large, unsigned bit)
{
	large->pages[bit / 64] |= 1ull << bit % 64;
	large->used = true;
}

static bool large_has(const struct soft_large *large, unsigned bit)
{
	return large->used && large->pages[bit / 64] >> bit % 64 & 1;
}

static void large_clear(struct soft_large *large)
{
	if (large->used)
		soft_zero(large, sizeof(*large));
}

void soft_large_copy(struct soft_large *dst, const struct soft_large *src)
{
	if (src->used)
		soft_copy(dst, src, sizeof(*dst));
	dst->used = src->used;
}

void soft_tlb_large(struct soft_tlb *t, const struct soft_large *more)
{
	struct soft_large *large = &t->large[false];

	if (!more->used)
		return;
	for (unsigned i = 0; i < sizeof(large->pages) / sizeof(large->pages[0]); i++)
		large->pages[i] |= more->pages[i];
	large->used = true;
}

static void note(struct soft_tlb *t, uint64_t la, unsigned shift, bool global, bool code)
{
	if (global) {
		t->has_global = true;
	} else {
		t->has_nonglobal = true;
		t->nonglobal_code |= code;
	}
	if (shift)
		large_note(&t->large[global], large_bit(la, shift, code));
}

void soft_tlb_log(struct soft_tlb *t, unsigned slot, bool global)
{
	t->used = true;
	t->l1_chunks |= 1ull << slot / (SOFT_L1_SIZE / 64);
	if (global)
		return;
	if (t->l1_filled < SOFT_L1_LOG)
		t->l1_log[t->l1_filled] = (uint16_t)slot;
	if (t->l1_filled <= SOFT_L1_LOG)
		t->l1_filled++;
}

void soft_l1_make_room(struct soft_tlb *t, struct soft_l1 *e)
{
	struct soft_l1 *other = soft_l1_other(t, e);

	soft_tlb_log(t, (unsigned)(other - t->l1), e->gpa & SOFT_L1_GLOBAL);
	*other = *e;
}

struct soft_l1 *soft_l1_to_first(struct soft_tlb *t, uint64_t la, struct soft_l1 *e)
{
	struct soft_l1 *first = &t->l1[(la >> 12) % SOFT_L1_SIZE], was = *first;

	if (e == first)
		return e;
	soft_tlb_log(t, (unsigned)(first - t->l1), e->gpa & SOFT_L1_GLOBAL);
	soft_tlb_log(t, (unsigned)(e - t->l1), was.gpa & SOFT_L1_GLOBAL);
	*first = *e;
	*e = was;
	return first;
}

void soft_tlb_note(struct soft_vcpu *v, unsigned ctx, uint64_t la, const struct soft_walk *w,
		   bool code)
{
	unsigned shift = 0;

	if (w->level == 3)
		shift = 30;
	else if (w->level == 2)
		shift = (v->cr4 & CR4_PAE) ? 21 : 22;
	note(&v->tlb[ctx], la, shift, w->global, code);
	/* The kernel contexts share an exec TLB: what one looked up, the other puts into its ibtc. */
	if (code && soft_ctx_kind(ctx) != CTX_USER) {
		unsigned other = ctx + (soft_ctx_kind(ctx) == CTX_KERNEL ? 1u : -1u);

		note(&v->tlb[other], la, shift, w->global, code);
	}
}

/* Whole tables at once: every word becomes SOFT_TAG_INVALID. As a distance that leads an access to
 * the tag's own page to host addresses 0..4095, where nothing is mapped; as host code it is no
 * address at all. Both trap. */
static void invalidate(void *table, size_t size)
{
	size_t words = size / 8;

	__asm__ volatile("rep stosq" : "+D"(table), "+c"(words) : "a"(SOFT_TAG_INVALID) : "memory");
}

#define L0_CHUNK (SOFT_L0_SIZE / 64)
#define L1_CHUNK (SOFT_L1_SIZE / 64)

/* And the runs, which are of its sites. */
static void clear_l0(struct soft_tlb *t)
{
	soft_runs_clear(t);
	for (unsigned i = 0; i < 64; i++)
		if (t->l0_pages[i]) {
			invalidate(&t->l0[i * L0_CHUNK], L0_CHUNK * sizeof(t->l0[0]));
			t->l0_pages[i] = 0;
		}
}

static void forget(struct soft_l1 *e)
{
	e->tag_r = e->tag_w = SOFT_TAG_INVALID;
	e->delta = SOFT_DELTA_INVALID;
}

static bool log_is_whole(const struct soft_tlb *t)
{
	return t->l1_filled <= SOFT_L1_LOG;
}

static void forget_logged(struct soft_tlb *t)
{
	for (unsigned i = 0; i < t->l1_filled; i++)
		if (!(t->l1[t->l1_log[i]].gpa & SOFT_L1_GLOBAL)) /* its place may have been taken */
			forget(&t->l1[t->l1_log[i]]);
	t->l1_filled = 0;
}

static void clear_l1(struct soft_tlb *t)
{
	if (!t->has_global && log_is_whole(t))
		forget_logged(t);
	else
		for (uint64_t left = t->l1_chunks; left; left &= left - 1)
			invalidate(&t->l1[(unsigned)__builtin_ctzll(left) * L1_CHUNK],
				   L1_CHUNK * sizeof(t->l1[0]));
	t->l1_chunks = 0;
	t->l1_filled = 0;
}

/* The next entry from i on of a chunk that was filled with all of `pages`, of soft_l0_pages(), at least;
 * SOFT_L0_SIZE at the end. */
static unsigned next_l0(const struct soft_tlb *t, unsigned i, uint64_t pages)
{
	while (i < SOFT_L0_SIZE && i % L0_CHUNK == 0 &&
	       (!t->l0_pages[i / L0_CHUNK] || (pages & ~t->l0_pages[i / L0_CHUNK])))
		i += L0_CHUNK;
	return i;
}

/* The next entry from i on of a chunk that was filled; SOFT_L1_SIZE at the end. */
static unsigned next_l1(const struct soft_tlb *t, unsigned i)
{
	while (i < SOFT_L1_SIZE && i % L1_CHUNK == 0 && !(t->l1_chunks >> i / L1_CHUNK & 1))
		i += L1_CHUNK;
	return i;
}

static void clear_x(struct soft_vcpu *v, unsigned ctx)
{
	uint64_t *clear = &v->x_clear[soft_x_number(ctx)];

	for (uint64_t left = ~*clear; left; left &= left - 1) {
		struct soft_xtlb *x = soft_xtlb_of(v, ctx) + (unsigned)__builtin_ctzll(left) * SOFT_X_CHUNK;

		for (unsigned i = 0; i < SOFT_X_CHUNK; i++)
			x[i].tag = SOFT_TAG_INVALID;
	}
	*clear = ~0ull;
}

void soft_ibtc_flush(struct soft_vcpu *v, unsigned ctx)
{
	struct soft_tlb *t = &v->tlb[ctx];

	if (t->ibtc_filled > SOFT_IBTC_LOG)
		invalidate(t->ibtc, sizeof(t->ibtc));
	else
		for (unsigned i = 0; i < t->ibtc_filled; i++)
			t->ibtc[t->ibtc_log[i]] = (struct soft_ibtc){ SOFT_TAG_INVALID, NULL };
	t->ibtc_filled = 0;
	v->returns_stale = 1;
	t->ibtc[0].rip = soft_ibtc_free(0);
	for (unsigned i = 0; i < sizeof(t->ibtc_pages) / sizeof(t->ibtc_pages[0]); i++)
		t->ibtc_pages[i] = 0;
	t->ibtc_halves = 0;
}

void soft_tlb_flush_ctx(struct soft_vcpu *v, unsigned ctx)
{
	struct soft_tlb *t = &v->tlb[ctx];

	if (t->used) {
		clear_l0(t);
		clear_l1(t);
	}
	clear_x(v, ctx);
	soft_ibtc_flush(v, ctx);
	t->used = false;
	t->has_nonglobal = t->nonglobal_code = t->has_global = false;
	large_clear(&t->large[false]);
	large_clear(&t->large[true]);
}

/* What is not global goes. L0 does not know: it fills again from L1. */
static void flush_nonglobal(struct soft_vcpu *v, unsigned ctx)
{
	struct soft_tlb *t = &v->tlb[ctx];

	clear_l0(t);
	if (log_is_whole(t))
		forget_logged(t);
	else
		for (unsigned i = next_l1(t, 0); i < SOFT_L1_SIZE; i = next_l1(t, i + 1))
			if (!(t->l1[i].gpa & SOFT_L1_GLOBAL))
				forget(&t->l1[i]);
	t->l1_filled = 0;
	large_clear(&t->large[false]);
	t->has_nonglobal = false;
}

void soft_tlb_flush_current(struct soft_vcpu *v, bool keep_global)
{
	unsigned first = soft_ctx_half(v);

	soft_count(&v->n_flushes);
	for (unsigned ctx = first; ctx < first + CTX_KINDS; ctx++) {
		if (!keep_global || soft_ctx_kind(ctx) == CTX_USER || v->tlb[ctx].nonglobal_code)
			soft_tlb_flush_ctx(v, ctx);
		else if (v->tlb[ctx].has_nonglobal)
			flush_nonglobal(v, ctx);
	}
}

void soft_tlb_flush(struct soft_vcpu *v, bool keep_global)
{
	if (!v->nonroot)
		soft_pcid_drop_all(v);
	soft_tlb_flush_current(v, keep_global);
}

void soft_tlb_flush_all(struct soft_vcpu *v)
{
	soft_pcid_drop_all(v);
	soft_count(&v->n_flushes);
	for (unsigned ctx = 0; ctx < v->ctx_count; ctx++)
		soft_tlb_flush_ctx(v, ctx);
	soft_ept_cache_flush(v);
}

/* A naturally aligned piece of linear memory: a page, or the large one that it is a fragment of. */
struct piece {
	uint64_t number; /* its address >> shift */
	unsigned shift;
};

static bool within(uint64_t la, struct piece piece)
{
	return la >> piece.shift == piece.number;
}

/* What must go so that nothing is left of the page at la: all of the largest page around it of which
 * something is, or may be, cached here. */
static struct piece around(const struct soft_tlb *t, uint64_t la, bool code)
{
	unsigned i = t->large[false].used || t->large[true].used ? 0 : LARGE_SHIFTS;

	for (; i < LARGE_SHIFTS; i++) {
		unsigned bit = large_bit(la, page_shifts[i], code);

		if (large_has(&t->large[false], bit) || large_has(&t->large[true], bit))
			break;
	}
	return (struct piece){ la >> page_shifts[i], page_shifts[i] };
}

/* What all entries of L0 for addresses of the piece have in soft_l0_pages(). */
static uint64_t common_bits(struct piece piece)
{
	uint64_t la = piece.number << piece.shift;

	if (piece.shift == 12)
		return soft_l0_pages(la);
	return piece.shift == 21 ? 1ull << (la >> 21 & 63) : 0;
}

static void flush_l1(struct soft_tlb *t, unsigned first, unsigned n, struct piece piece)
{
	for (unsigned i = next_l1(t, first); i < first + n; i = next_l1(t, i + 1))
		if (within(t->l1[i].tag_r, piece))
			forget(&t->l1[i]);
}

static void flush_data(struct soft_vcpu *v, unsigned ctx, struct piece piece)
{
	uint64_t bits = common_bits(piece);
	struct soft_tlb *t = &v->tlb[ctx];
	uint64_t pages = 1ull << (piece.shift - 12);
	unsigned n = pages < SOFT_L1_OTHER ? (unsigned)pages : SOFT_L1_OTHER;
	unsigned first = (unsigned)(piece.number * pages % SOFT_L1_SIZE);

	flush_l1(t, first, n, piece);
	flush_l1(t, first ^ SOFT_L1_OTHER, n, piece);
	for (unsigned i = next_l0(t, 0, bits); i < SOFT_L0_SIZE; i = next_l0(t, i + 1, bits))
		if (within(t->l0[i].tag, piece)) {
			t->l0[i].tag = SOFT_TAG_INVALID;
			t->l0[i].delta = SOFT_DELTA_INVALID;
		}
	soft_runs_flush(t, piece.number << piece.shift, piece.shift);
}

static bool has_branches(const struct soft_tlb *t, struct piece piece)
{
	uint64_t bit = (piece.number ^ piece.number >> 12) % 4096;

	/* Programs lose pages all the time, which is nothing to the kernel's branches. */
	if (!(t->ibtc_halves >> soft_half(piece.number << piece.shift) & 1))
		return false;
	return piece.shift > 12 || (t->ibtc_pages[bit / 64] >> bit % 64 & 1);
}

static void flush_branches(struct soft_vcpu *v, unsigned ctx, struct piece piece)
{
	struct soft_tlb *t = &v->tlb[ctx];
	unsigned kept = 0;

	if (t->ibtc_filled > SOFT_IBTC_LOG) {
		soft_ibtc_flush(v, ctx);
		return;
	}
	for (unsigned i = 0; i < t->ibtc_filled; i++) {
		unsigned slot = t->ibtc_log[i];
		uint64_t rip = t->ibtc[slot].rip;

		/* The instructions behind it may begin a page earlier. */
		if (within(rip, piece) || within(rip + 4096, piece))
			t->ibtc[slot] = (struct soft_ibtc){ soft_ibtc_free(slot), NULL };
		else
			t->ibtc_log[kept++] = (uint16_t)slot;
	}
	t->ibtc_filled = kept;
}

static void flush_code(struct soft_vcpu *v, unsigned ctx, struct piece piece)
{
	struct soft_xtlb *x = soft_xtlb_of(v, ctx);
	uint64_t pages = 1ull << (piece.shift - 12);
	unsigned n = pages < SOFT_X_SIZE ? (unsigned)pages : SOFT_X_SIZE;
	unsigned first = (unsigned)(piece.number * pages % SOFT_X_SIZE);

	/* The kernel contexts' is one. */
	for (unsigned i = first; i < first + n && soft_ctx_kind(ctx) != CTX_KERNEL_AC; i++)
		if (within(x[i].tag, piece))
			x[i].tag = SOFT_TAG_INVALID;
	if (has_branches(&v->tlb[ctx], piece))
		flush_branches(v, ctx, piece);
}

static void flush_page(struct soft_vcpu *v, unsigned first, uint64_t la)
{
	soft_count(&v->n_flushes);
	v->returns_stale = 1;
	for (unsigned ctx = first; ctx < first + CTX_KINDS; ctx++) {
		const struct soft_tlb *t = &v->tlb[ctx];

		if (t->used)
			flush_data(v, ctx, around(t, la, false));
		flush_code(v, ctx, around(t, la, true));
	}
}

void soft_tlb_flush_page(struct soft_vcpu *v, uint64_t la)
{
	flush_page(v, soft_ctx_half(v), la);
}

/* Entries are told apart by the host page, so that two addresses of one page are both found. */
void soft_tlb_protect_page(struct soft_vcpu *v, uint64_t gpa)
{
	const struct vmx_slot *s = soft_slot(v, gpa);
	uint64_t host;

	if (!s)
		return;
	host = (uint64_t)(uintptr_t)(s->host + ((gpa & PAGE_BASE) - s->gpa));
	soft_pcid_protect(v, host);
	for (unsigned ctx = 0; ctx < v->ctx_count; ctx++) {
		struct soft_tlb *t = &v->tlb[ctx];

		if (!t->used)
			continue;
		for (unsigned i = next_l1(t, 0); i < SOFT_L1_SIZE; i = next_l1(t, i + 1))
			if (t->l1[i].tag_w + t->l1[i].delta == host)
				t->l1[i].tag_w = SOFT_TAG_INVALID;
		for (unsigned i = next_l0(t, 0, 0); i < SOFT_L0_SIZE; i = next_l0(t, i + 1, 0))
			if (t->l0[i].delta + (i & SOFT_L0_PAGE ? 0 : t->l0[i].tag) == host) {
				t->l0[i].tag = SOFT_TAG_INVALID;
				t->l0[i].delta = SOFT_DELTA_INVALID;
			}
		soft_runs_protect(t);
	}
}

/* --- VMX (SDM 3C 28.4) ---------------------------------------------------------------------- */

#define PAGING_CR0 (CR0_PG | CR0_WP)
#define PAGING_CR4 (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP)
#define PAGING_EFER (EFER_LMA | EFER_NX)

static struct soft_tlb_owner owner_now(const struct soft_vcpu *v, uint16_t vpid)
{
	return (struct soft_tlb_owner){
		.eptp = v->eptp, .vpid = v->nonroot ? vpid : 0, .cr3 = v->cr3,
		.cr0 = v->cr0 & PAGING_CR0, .cr4 = v->cr4 & PAGING_CR4,
		.efer = v->efer & PAGING_EFER,
	};
}

/* What rights the tables' entries stand for depends on the control registers: other ones, other
 * entries. A CR3 that was changed in the VMCS need not be noticed, but is. */
static bool same_owner(const struct soft_tlb_owner *a, const struct soft_tlb_owner *b)
{
	return a->vpid == b->vpid && a->eptp == b->eptp && a->cr0 == b->cr0 && a->cr3 == b->cr3 &&
	       a->cr4 == b->cr4 && a->efer == b->efer;
}

void soft_tlb_leave(struct soft_vcpu *v, uint16_t vpid)
{
	v->tlb_owner[v->nonroot] = owner_now(v, vpid);
}

void soft_tlb_enter(struct soft_vcpu *v, uint16_t vpid)
{
	struct soft_tlb_owner now = owner_now(v, vpid);

	if (v->eptp && v->eptp != v->ept_cache_of) {
		soft_ept_cache_flush(v);
		v->ept_cache_of = v->eptp;
	}
	if (!vpid || !same_owner(&now, &v->tlb_owner[v->nonroot]))
		soft_tlb_flush(v, false);
}

static void flush_nonroot(struct soft_vcpu *v)
{
	soft_count(&v->n_flushes);
	for (unsigned ctx = CTX_KINDS; ctx < v->ctx_count; ctx++)
		soft_tlb_flush_ctx(v, ctx);
}

void soft_invept(struct soft_vcpu *v, bool all, uint64_t eptp)
{
	if (all || !((eptp ^ v->ept_cache_of) & EPT_ADDR))
		soft_ept_cache_flush(v);
	if (all || !((eptp ^ v->tlb_owner[1].eptp) & EPT_ADDR))
		flush_nonroot(v);
}

void soft_invvpid(struct soft_vcpu *v, enum soft_invvpid type, uint16_t vpid, uint64_t la)
{
	if (type != INVVPID_ALL && vpid != v->tlb_owner[1].vpid)
		return;
	if (type == INVVPID_ADDRESS)
		flush_page(v, CTX_KINDS, la);
	else
		flush_nonroot(v);
}
