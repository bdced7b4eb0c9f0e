/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - runs of pages that an access finds in one entry. GENERAL. */
#include "vmx-driver/soft/runs.h"

#include "vmx-driver/soft/mmu.h"

#define CHUNK (SOFT_RUNS / 64)
/* At most so many pages in each direction, all of which are looked up at each miss. */
#define REACH 512u
/* Of those at most so many are mapped at once. One that nobody goes to may part a run. */
#define AHEAD 4u
/* Mappings that are changed, about 10 us each */
#define CHANGES_AT_ONCE 1024u
#define CHANGES_PER_SECOND 4096u

static void forget(struct soft_run *r)
{
	*r = (struct soft_run){ .tag = SOFT_TAG_INVALID, .delta = SOFT_DELTA_INVALID };
}

/* The next one from i on that may be there; SOFT_RUNS at the end. */
static unsigned next_run(const struct soft_tlb *t, unsigned i)
{
	uint64_t used;

	if (i % CHUNK || i >= SOFT_RUNS)
		return i;
	used = t->runs_used >> i / CHUNK;
	return used ? i + (unsigned)__builtin_ctzll(used) * CHUNK : SOFT_RUNS;
}

void soft_runs_clear(struct soft_tlb *t)
{
	for (unsigned i = next_run(t, 0); i < SOFT_RUNS; i = next_run(t, i + 1))
		forget(&t->run[i]);
	t->runs_used = 0;
}

void soft_runs_flush(struct soft_tlb *t, uint64_t la, unsigned shift)
{
	uint64_t last = la + ((1ull << shift) - 1);

	for (unsigned i = next_run(t, 0); i < SOFT_RUNS; i = next_run(t, i + 1))
		if (t->run[i].tag <= last && t->run[i].last >= la)
			forget(&t->run[i]);
}

void soft_runs_protect(struct soft_tlb *t)
{
	for (unsigned i = next_run(t, 0); i < SOFT_RUNS; i = next_run(t, i + 1))
		if (i & SOFT_RUN_WRITE)
			forget(&t->run[i]);
}

struct search {
	struct soft_vcpu *v;
	bool write, alias;
	unsigned more;  /* pages that may be mapped, beside those that are */
	uint64_t delta; /* of all its pages */
};

static bool may_alias(struct soft_vcpu *v, const struct soft_l1 *e)
{
	const struct vmx_slot *slot = soft_slot(v, e->gpa & PAGE_BASE);

	return !(e->gpa & SOFT_L1_LARGE) && slot && (slot->flags & VMX_MAP_SHARED);
}

static bool take_token(struct soft_alias *a, uint64_t hz)
{
	uint64_t now = __builtin_ia32_rdtsc(), each = hz / CHANGES_PER_SECOND + 1;
	uint64_t more = (now - a->tokens_at) / each;

	if (more >= CHANGES_AT_ONCE - a->tokens) {
		a->tokens = CHANGES_AT_ONCE;
		a->tokens_at = now;
	} else {
		a->tokens += (unsigned)more;
		a->tokens_at += more * each;
	}
	if (!a->tokens)
		return false;
	a->tokens--;
	return true;
}

/* Maps the page a second time, if it can be done now; may_evict: though another one's place must be taken. */
static bool map_alias(struct soft_vcpu *v, uint64_t page, uint64_t host, bool may_evict)
{
	const struct soft_vm *vm = soft_vm_of(v);
	bool live = v->fp_live, done;

	if (v->alias.off || (!may_evict && v->alias.count >= soft_alias_most(vm->vcpu_count)) ||
	    !take_token(&v->alias, vm->tsc_hz))
		return false;
	soft_fp_save(v);
	done = soft_alias_map(v, page, host);
	if (live)
		soft_fp_load(v);
	return done;
}

/* May the page be accessed so, as far as is known, and does it lie where the run would have it? */
static bool is_of_run(struct search *s, uint64_t page)
{
	const struct soft_l1 *e = soft_l1_entry(s->v, s->v->ctx, page);

	if ((s->write ? e->tag_w : e->tag_r) != page)
		return false;
	if (!s->alias)
		return e->delta == s->delta;
	if (soft_alias_has(&s->v->alias, page, page + e->delta))
		return true;
	if (!s->more || !may_alias(s->v, e))
		return false;
	s->more--;
	return map_alias(s->v, page, page + e->delta, false);
}

/* The last page of it in that direction. */
static uint64_t extent(struct search *s, uint64_t page, int64_t step)
{
	unsigned from = soft_alias_index(page);

	s->more = AHEAD;
	for (unsigned n = 1; n <= REACH; n++) {
		uint64_t next = page + (uint64_t)step;

		/* the area's end, which is no end of memory */
		if ((step < 0 ? from < n : from + n >= SOFT_ALIAS_PAGES) || !is_of_run(s, next))
			break;
		page = next;
	}
	return page;
}

void soft_run_fill(struct soft_vcpu *v, uint64_t la, unsigned index, unsigned size, bool write)
{
	const struct soft_l1 *e = soft_l1_entry(v, v->ctx, la);
	struct soft_tlb *t = &v->tlb[v->ctx];
	uint64_t page = la & PAGE_BASE, host = page + e->delta;
	struct search s = { .v = v, .write = write, .delta = e->delta };
	struct soft_run r;
	unsigned room = 1u << soft_run_class(size);

	if ((write ? e->tag_w : e->tag_r) != page)
		return;
	/* Mapping pages may forget entries, this one too: it is whole when it is put there, and not before. */
	forget(&t->run[index]);
	s.alias = may_alias(v, e) &&
		  (soft_alias_has(&v->alias, page, host) || map_alias(v, page, host, true));
	if (s.alias)
		s.delta = soft_alias_at(&v->alias, page) - page;
	r.tag = extent(&s, page, -4096);
	r.last = extent(&s, page, 4096) + 4095;
	r.limit = r.last + 1 - room - r.tag;
	r.delta = index & SOFT_RUN_PAGE ? r.tag + s.delta : s.delta;
	t->run[index] = r;
	t->runs_used |= 1ull << index / CHUNK;
	soft_count(&v->n_runs);
}
