/* SPDX-License-Identifier: Apache-2.0 */
/* tlb.c - the caches of translations, and forgetting them. GENERAL. */
#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/mmu.h"
#include "vmx-driver/soft/pcid.h"

void soft_tlb_large(struct soft_tlb *t, const struct soft_large *more)
{
	if (more->lo < t->large.lo)
		t->large.lo = more->lo;
	if (more->hi > t->large.hi)
		t->large.hi = more->hi;
	if (more->shift > t->large.shift)
		t->large.shift = more->shift;
}

static void note(struct soft_tlb *t, uint64_t page, uint64_t size, bool global, bool code)
{
	if (global) {
		t->has_global = true;
	} else {
		t->has_nonglobal = true;
		t->nonglobal_code |= code;
	}
	if (size) {
		/* The whole large page: INVLPG of any of its addresses drops all of it. */
		uint64_t lo = page & ~(size - 1);

		soft_tlb_large(t, &(struct soft_large){ lo, lo + (size - 1),
							(uint8_t)__builtin_ctzll(size) });
	}
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

void soft_tlb_note(struct soft_vcpu *v, unsigned ctx, uint64_t la, const struct soft_walk *w,
		   bool code)
{
	uint64_t size = 0;

	if (w->level == 3)
		size = 1ull << 30;
	else if (w->level == 2)
		size = (v->cr4 & CR4_PAE) ? 1u << 21 : 1u << 22;
	note(&v->tlb[ctx], la & PAGE_BASE, size, w->global, code);
	/* The kernel contexts share an exec TLB: what one looked up, the other puts into its ibtc. */
	if (code && soft_ctx_kind(ctx) != CTX_USER) {
		unsigned other = ctx + (soft_ctx_kind(ctx) == CTX_KERNEL ? 1u : -1u);

		note(&v->tlb[other], la & PAGE_BASE, size, w->global, code);
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

static void clear_l0(struct soft_tlb *t)
{
	for (uint64_t left = t->l0_chunks; left; left &= left - 1)
		invalidate(&t->l0[(unsigned)__builtin_ctzll(left) * L0_CHUNK],
			   L0_CHUNK * sizeof(t->l0[0]));
	t->l0_chunks = 0;
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

/* The next entry from i on of a chunk that was filled; SOFT_L0_SIZE at the end. */
static unsigned next_l0(const struct soft_tlb *t, unsigned i)
{
	while (i < SOFT_L0_SIZE && i % L0_CHUNK == 0 && !(t->l0_chunks >> i / L0_CHUNK & 1))
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
	struct soft_xtlb *x = soft_xtlb_of(v, ctx);

	for (unsigned i = 0; i < SOFT_X_SIZE; i++)
		x[i].tag = SOFT_TAG_INVALID;
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
	t->large = (struct soft_large){ .lo = ~0ull };
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

static void flush_page_ctx(struct soft_vcpu *v, unsigned ctx, uint64_t page)
{
	struct soft_tlb *t = &v->tlb[ctx];
	struct soft_xtlb *x = &soft_xtlb_of(v, ctx)[(page >> 12) % SOFT_X_SIZE];
	uint64_t number = page >> 12, bit = (number ^ number >> 12) % 4096;

	if (x->tag == page)
		x->tag = SOFT_TAG_INVALID;
	if (t->ibtc_pages[bit / 64] >> (bit % 64) & 1)
		soft_ibtc_flush(v, ctx);
	if (t->used) {
		struct soft_l1 *e = soft_l1_entry(v, ctx, page);

		if (e->tag_r == page || e->tag_w == page)
			forget(e);
		for (unsigned i = next_l0(t, 0); i < SOFT_L0_SIZE; i = next_l0(t, i + 1))
			if (t->l0[i].tag == page) {
				t->l0[i].tag = SOFT_TAG_INVALID;
				t->l0[i].delta = SOFT_DELTA_INVALID;
			}
	}
}

/* The page may be a fragment of a large one, all of which must go: everything in the naturally
 * aligned range that the largest page cached here has. */
static void flush_large_ctx(struct soft_vcpu *v, unsigned ctx, uint64_t la)
{
	struct soft_tlb *t = &v->tlb[ctx];
	struct soft_xtlb *x = soft_xtlb_of(v, ctx);
	unsigned shift = t->large.shift;
	uint64_t number = la >> shift;

	for (unsigned i = 0; i < SOFT_X_SIZE; i++)
		if (x[i].tag >> shift == number)
			x[i].tag = SOFT_TAG_INVALID;
	for (unsigned i = 0; i < SOFT_IBTC_SIZE; i++) /* an instruction may begin a page earlier */
		if (t->ibtc[i].rip >> shift == number || (t->ibtc[i].rip + 4096) >> shift == number)
			t->ibtc[i].rip = soft_ibtc_free(i);
	if (!t->used)
		return;
	for (unsigned i = next_l0(t, 0); i < SOFT_L0_SIZE; i = next_l0(t, i + 1))
		if (t->l0[i].tag >> shift == number) {
			t->l0[i].tag = SOFT_TAG_INVALID;
			t->l0[i].delta = SOFT_DELTA_INVALID;
		}
	for (unsigned i = next_l1(t, 0); i < SOFT_L1_SIZE; i = next_l1(t, i + 1))
		if (t->l1[i].tag_r >> shift == number)
			forget(&t->l1[i]);
}

static void flush_page(struct soft_vcpu *v, unsigned first, uint64_t la)
{
	soft_count(&v->n_flushes);
	v->returns_stale = 1;
	for (unsigned ctx = first; ctx < first + CTX_KINDS; ctx++) {
		struct soft_tlb *t = &v->tlb[ctx];

		if (la >= t->large.lo && la <= t->large.hi)
			flush_large_ctx(v, ctx, la);
		else
			flush_page_ctx(v, ctx, la & PAGE_BASE);
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
		for (unsigned i = next_l0(t, 0); i < SOFT_L0_SIZE; i = next_l0(t, i + 1))
			if (t->l0[i].delta + (i & SOFT_L0_PAGE ? 0 : t->l0[i].tag) == host) {
				t->l0[i].tag = SOFT_TAG_INVALID;
				t->l0[i].delta = SOFT_DELTA_INVALID;
			}
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
