/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pcid.c - process-context identifiers (SDM 3A 4.10.1): the tables that translated code looks in hold
 * one address space; what the others had there is kept in images and put back. GENERAL.
 *
 * An image may leave out whatever it likes, as a TLB may. It holds no global pages, so INVLPG and the
 * like need not look for them.
 */
#include "vmx-driver/soft/pcid.h"

#include "vmx-driver/soft/mmu.h"

static struct soft_image *find(struct soft_vcpu *v, uint16_t pcid)
{
	for (unsigned i = 0; v->images && i < SOFT_IMAGES; i++)
		if (v->images->image[i].used && v->images->image[i].pcid == pcid)
			return &v->images->image[i];
	return NULL;
}

static struct soft_image *oldest(struct soft_images *images)
{
	struct soft_image *found = &images->image[0];

	for (unsigned i = 0; i < SOFT_IMAGES; i++) {
		struct soft_image *at = &images->image[i];

		if (!at->used)
			return at;
		if (at->age < found->age)
			found = at;
	}
	return found;
}

static unsigned at_most(unsigned n, unsigned most)
{
	return n < most ? n : most;
}

static void save_pages(struct soft_vcpu *v, struct soft_image *image)
{
	image->page_count = 0;
	for (unsigned ctx = 0; ctx < CTX_KINDS; ctx++) {
		const struct soft_tlb *t = &v->tlb[ctx];
		unsigned n = at_most(t->l1_filled, SOFT_L1_LOG);

		for (unsigned i = 0; i < n && image->page_count < SOFT_IMAGE_PAGES; i++) {
			const struct soft_l1 *e = &t->l1[t->l1_log[i]];

			if (e->tag_r == SOFT_TAG_INVALID || (e->gpa & SOFT_L1_GLOBAL))
				continue;
			image->page[image->page_count].ctx = (uint16_t)ctx;
			image->page[image->page_count].slot = t->l1_log[i];
			image->page[image->page_count++].entry = *e;
		}
	}
}

static void save_branches(struct soft_vcpu *v, struct soft_image *image)
{
	const struct soft_tlb *t = &v->tlb[CTX_USER];
	unsigned n = at_most(t->ibtc_filled, SOFT_IBTC_LOG);

	image->branch_count = 0;
	image->mode = t->ibtc_mode;
	image->code_epoch = v->code_epoch;
	for (unsigned i = 0; i < n && image->branch_count < SOFT_IMAGE_BRANCHES; i++) {
		const struct soft_ibtc *e = &t->ibtc[t->ibtc_log[i]];

		if (e->rip == soft_ibtc_free(t->ibtc_log[i]))
			continue;
		image->branch[image->branch_count].slot = t->ibtc_log[i];
		image->branch[image->branch_count++].entry = *e;
	}
	soft_copy(image->ibtc_pages, t->ibtc_pages, sizeof(image->ibtc_pages));
	image->ibtc_halves = t->ibtc_halves;
}

static void save(struct soft_vcpu *v, uint16_t pcid)
{
	struct soft_image *image = find(v, pcid);

	if (!image)
		image = oldest(v->images);
	image->used = true;
	image->pcid = pcid;
	image->age = ++v->images->clock;
	for (unsigned ctx = 0; ctx < CTX_KINDS; ctx++)
		soft_large_copy(&image->large[ctx], &v->tlb[ctx].large[false]);
	save_pages(v, image);
	save_branches(v, image);
}

static void load_branches(struct soft_vcpu *v, const struct soft_image *image)
{
	struct soft_tlb *t = &v->tlb[CTX_USER];

	if (!image->branch_count || image->code_epoch != v->code_epoch ||
	    image->mode != t->ibtc_mode)
		return;
	for (unsigned i = 0; i < image->branch_count; i++) {
		t->ibtc[image->branch[i].slot] = image->branch[i].entry;
		t->ibtc_log[i] = image->branch[i].slot;
	}
	t->ibtc_filled = image->branch_count;
	soft_copy(t->ibtc_pages, image->ibtc_pages, sizeof(t->ibtc_pages));
	t->ibtc_halves = image->ibtc_halves;
	t->has_nonglobal = t->nonglobal_code = true;
}
_Static_assert(SOFT_IMAGE_BRANCHES <= SOFT_IBTC_LOG, "what is put back is in the log");

static bool fits(const struct soft_tlb *t, const struct soft_l1 *e)
{
	return !soft_tlb_narrow(t) ||
	       soft_narrow_piece(e->tag_r, e->gpa & SOFT_L1_LARGE ? SOFT_LARGE_SHIFT : 12);
}

/* Into tables in which nothing is left that is not global. */
static void load(struct soft_vcpu *v, struct soft_image *image)
{
	/* A user context without anything is what the program's code was that comes back. */
	if (v->ctx != CTX_USER)
		v->tlb[CTX_USER].ibtc_mode = image->mode;
	for (unsigned i = 0; i < image->page_count; i++) {
		struct soft_tlb *t = &v->tlb[image->page[i].ctx];

		if (!fits(t, &image->page[i].entry))
			continue;
		soft_tlb_log(t, image->page[i].slot, false);
		t->l1[image->page[i].slot] = image->page[i].entry;
		t->has_nonglobal = true;
	}
	for (unsigned ctx = 0; ctx < CTX_KINDS; ctx++)
		soft_tlb_large(&v->tlb[ctx], &image->large[ctx]);
	load_branches(v, image);
	image->used = false;
}

void soft_pcid_switch(struct soft_vcpu *v, uint16_t from, uint16_t to, bool keep)
{
	struct soft_image *image;

	if (v->images)
		save(v, from);
	soft_tlb_flush_current(v, v->cr4 & CR4_PGE);
	image = find(v, to);
	if (image && keep)
		load(v, image);
	else if (image)
		image->used = false;
}

void soft_pcid_drop(struct soft_vcpu *v, uint16_t pcid)
{
	struct soft_image *image = find(v, pcid);

	if (image)
		image->used = false;
}

void soft_pcid_drop_all(struct soft_vcpu *v)
{
	for (unsigned i = 0; v->images && i < SOFT_IMAGES; i++)
		v->images->image[i].used = false;
}

void soft_pcid_protect(struct soft_vcpu *v, uint64_t host)
{
	for (unsigned i = 0; v->images && i < SOFT_IMAGES; i++) {
		struct soft_image *image = &v->images->image[i];

		for (unsigned k = 0; image->used && k < image->page_count; k++) {
			struct soft_l1 *e = &image->page[k].entry;

			if (e->tag_w + e->delta == host)
				e->tag_w = SOFT_TAG_INVALID;
		}
	}
}
