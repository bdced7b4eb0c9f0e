/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_ept.c - extended page tables of the software engine: what a walk gives, refuses and sets,
 * against the rules of SDM 3C 28.3 written down once more, and the nested walk through both tables.
 */
#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"
#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/mmu.h"

#define EPT_PML4 0x90000u
#define EPT_PDPT 0x91000u
#define EPT_PD 0x92000u
#define EPT_PT 0x93000u
#define WB (6u << 3)
#define LARGE (1u << 7)
#define EPT_A (1u << 8)
#define EPT_D (1u << 9)
#define VIOLATION 48u
#define MISCONFIG 49u

/* The guest's physical memory of these tests: page n of the first 2 MiB is page n of the VM's memory
 * from TARGET on. */
static struct soft_vcpu *start(struct guest *g, uint64_t eptp_bits)
{
	struct soft_vcpu *v;

	if (guest_create(g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
	v = (struct soft_vcpu *)(void *)g->cpu;
	q(g, EPT_PML4)[0] = EPT_PDPT | EPT_RWX;
	q(g, EPT_PDPT)[0] = EPT_PD | EPT_RWX;
	q(g, EPT_PD)[0] = EPT_PT | EPT_RWX;
	v->nonroot = true;
	v->eptp = EPT_PML4 | 6 | 3 << 3 | eptp_bits;
	return v;
}

static void finish(struct guest *g)
{
	struct soft_vcpu *v = (struct soft_vcpu *)(void *)g->cpu;

	v->nonroot = false;
	v->eptp = 0;
	guest_destroy(g);
}

static int look(struct soft_vcpu *v, uint64_t gpa, uint32_t need, struct soft_ept_entry *e)
{
	const struct soft_ept_access a = {
		.gla = 0x123456, .need = need, .what = EPT_Q_GLA | EPT_Q_FINAL, .set_ad = true,
	};

	v->ept_cached = true;
	soft_ept_cache_flush(v);
	return soft_ept_translate(v, gpa, &a, e);
}

/* Every combination of rights on two levels against every kind of access. */
static void test_rights(void)
{
	struct soft_ept_entry e;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	for (unsigned upper = 0; upper < 8; upper++)
		for (unsigned leaf = 0; leaf < 8; leaf++)
			for (unsigned need = 1; need <= 4; need <<= 1) {
				bool bad = (upper & 3) == 2 || (upper && (leaf & 3) == 2);
				unsigned both = upper & leaf;
				int rc;

				q(&g, EPT_PD)[0] = EPT_PT | upper;
				q(&g, EPT_PT)[5] = 0x155000 | WB | leaf;
				rc = look(v, 0x5678, need, &e);
				if (!bad && (both & need)) {
					CU_ASSERT_EQUAL(rc, SOFT_OK);
					CU_ASSERT_EQUAL(e.mem, 0x155678);
					CU_ASSERT_EQUAL(e.rights, both);
					continue;
				}
				CU_ASSERT_EQUAL(rc, SOFT_VMEXIT);
				CU_ASSERT_EQUAL(v->vmexit.reason, bad ? MISCONFIG : VIOLATION);
				CU_ASSERT_EQUAL(v->vmexit.gpa, 0x5678);
				if (!bad) {
					CU_ASSERT_EQUAL(v->vmexit.gla, 0x123456);
					CU_ASSERT_EQUAL(v->vmexit.qualification,
							need | both << 3 | 0x180);
				}
			}
	finish(&g);
}

static void expect_misconfig(struct soft_vcpu *v, uint64_t *entry, uint64_t value)
{
	struct soft_ept_entry e;
	uint64_t old = *entry;

	*entry = value;
	CU_ASSERT_EQUAL(look(v, 0x5000, EPT_R, &e), SOFT_VMEXIT);
	CU_ASSERT_EQUAL(v->vmexit.reason, MISCONFIG);
	*entry = old;
}

static void test_misconfigured(void)
{
	struct soft_ept_entry e;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	q(&g, EPT_PT)[5] = 0x155000 | WB | EPT_RWX;
	CU_ASSERT_EQUAL(look(v, 0x5000, EPT_R, &e), SOFT_OK);
	/* memory types that do not exist, in a page of each size */
	for (unsigned type = 0; type < 8; type++) {
		bool bad = type == 2 || type == 3 || type == 7;

		q(&g, EPT_PT)[5] = 0x155000 | type << 3 | EPT_RWX;
		CU_ASSERT_EQUAL(look(v, 0x5000, EPT_R, &e), bad ? SOFT_VMEXIT : SOFT_OK);
	}
	q(&g, EPT_PT)[5] = 0x155000 | WB | EPT_RWX;
	for (unsigned bit = 3; bit < 8; bit++) { /* reserved above the leaf */
		expect_misconfig(v, q(&g, EPT_PML4), EPT_PDPT | EPT_RWX | 1u << bit);
		if (bit < 7) {
			expect_misconfig(v, q(&g, EPT_PDPT), EPT_PD | EPT_RWX | 1u << bit);
			expect_misconfig(v, q(&g, EPT_PD), EPT_PT | EPT_RWX | 1u << bit);
		}
	}
	for (uint64_t bits = v->pa_reserved; bits; bits &= bits - 1) {
		expect_misconfig(v, q(&g, EPT_PML4), EPT_PDPT | EPT_RWX | (bits & -bits));
		expect_misconfig(v, &q(&g, EPT_PT)[5], 0x155000 | WB | EPT_RWX | (bits & -bits));
	}
	for (unsigned bit = 12; bit < 21; bit++)
		expect_misconfig(v, q(&g, EPT_PD), 1u << bit | LARGE | WB | EPT_RWX);
	for (unsigned bit = 12; bit < 30; bit++)
		expect_misconfig(v, q(&g, EPT_PDPT), 1u << bit | LARGE | WB | EPT_RWX);
	/* tables where no memory is */
	expect_misconfig(v, q(&g, EPT_PML4), 0x7ffff000 | EPT_RWX);
	/* what nobody looks at */
	q(&g, EPT_PT)[5] = 0x155000 | WB | EPT_RWX | LARGE | 0xc00 | 0xfff0000000000000ull;
	CU_ASSERT_EQUAL(look(v, 0x5000, EPT_R, &e), SOFT_OK);
	finish(&g);
}

static void test_large(void)
{
	struct soft_ept_entry e;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	q(&g, EPT_PD)[3] = 0x200000 | LARGE | WB | EPT_RWX;
	CU_ASSERT_EQUAL(look(v, 0x7abcde, EPT_W, &e), SOFT_OK);
	CU_ASSERT_EQUAL(e.mem, 0x3abcde);
	q(&g, EPT_PDPT)[2] = 1ull << 30 | LARGE | WB | EPT_R;
	CU_ASSERT_EQUAL(look(v, 0x9abcdef0, EPT_R, &e), SOFT_OK);
	CU_ASSERT_EQUAL(e.mem, 0x5abcdef0);
	CU_ASSERT_EQUAL(look(v, 0x9abcdef0, EPT_W, &e), SOFT_VMEXIT);
	CU_ASSERT_EQUAL(look(v, 1ull << 48, EPT_R, &e), SOFT_VMEXIT);
	CU_ASSERT_EQUAL(v->vmexit.reason, VIOLATION);
	finish(&g);
}

static void test_accessed(void)
{
	struct soft_ept_entry e;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	q(&g, EPT_PT)[5] = 0x155000 | WB | EPT_RWX;
	CU_ASSERT_EQUAL(look(v, 0x5000, EPT_W, &e), SOFT_OK);
	CU_ASSERT_TRUE(e.dirty);
	CU_ASSERT_EQUAL(q(&g, EPT_PT)[5], 0x155000 | WB | EPT_RWX); /* not enabled */
	v->eptp |= EPTP_AD;
	CU_ASSERT_EQUAL(look(v, 0x5000, EPT_R, &e), SOFT_OK);
	CU_ASSERT_FALSE(e.dirty);
	CU_ASSERT_EQUAL(q(&g, EPT_PML4)[0], EPT_PDPT | EPT_RWX | EPT_A);
	CU_ASSERT_EQUAL(q(&g, EPT_PD)[0], EPT_PT | EPT_RWX | EPT_A);
	CU_ASSERT_EQUAL(q(&g, EPT_PT)[5], 0x155000 | WB | EPT_RWX | EPT_A);
	CU_ASSERT_EQUAL(look(v, 0x5000, EPT_W, &e), SOFT_OK);
	CU_ASSERT_TRUE(e.dirty);
	CU_ASSERT_EQUAL(q(&g, EPT_PD)[0], EPT_PT | EPT_RWX | EPT_A);
	CU_ASSERT_EQUAL(q(&g, EPT_PT)[5], 0x155000 | WB | EPT_RWX | EPT_A | EPT_D);
	finish(&g);
}

/* --- through the guest's paging structures --------------------------------------------------- */

/* The tables that soft_guest.h made, mapped page by page with all rights. */
static void identity(struct guest *g)
{
	for (unsigned i = 0; i < 512; i++)
		q(g, EPT_PT)[i] = (uint64_t)i << 12 | WB | EPT_RWX;
	q(g, EPT_PD)[1] = 0x200000 | LARGE | WB | EPT_RWX;
}

static int walk(struct soft_vcpu *v, uint64_t la, unsigned flags, struct soft_walk *w)
{
	v->ept_cached = true;
	soft_ept_cache_flush(v);
	return soft_walk_tables(v, la, flags, CTX_KINDS + CTX_KERNEL, true, w);
}

static void expect_violation(struct soft_vcpu *v, uint64_t la, unsigned flags, uint64_t gpa,
			     uint64_t qualification)
{
	struct soft_walk w;

	CU_ASSERT_EQUAL(walk(v, la, flags, &w), SOFT_VMEXIT);
	CU_ASSERT_EQUAL(v->vmexit.reason, VIOLATION);
	CU_ASSERT_EQUAL(v->vmexit.gpa, gpa);
	CU_ASSERT_EQUAL(v->vmexit.gla, la);
	CU_ASSERT_EQUAL(v->vmexit.qualification, qualification);
}

static void test_nested(void)
{
	struct soft_walk w;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	identity(&g);
	q(&g, EPT_PT)[0x155] = 0x177000 | WB | EPT_RWX;
	set_pte(&g, 3, 0x155000 | PTE_RW);
	CU_ASSERT_EQUAL(walk(v, 0x203abc, ACC_WRITE, &w), SOFT_OK);
	CU_ASSERT_EQUAL(w.gpa, 0x177abc);
	CU_ASSERT_TRUE(w.write && w.dirty);
	/* the page itself: kinds of access, rights */
	q(&g, EPT_PT)[0x155] = 0x177000 | WB | EPT_R;
	CU_ASSERT_EQUAL(walk(v, 0x203abc, 0, &w), SOFT_OK);
	CU_ASSERT_FALSE(w.write);
	expect_violation(v, 0x203abc, ACC_WRITE, 0x155abc, 2 | EPT_R << 3 | 0x180);
	expect_violation(v, 0x203abc, ACC_EXEC, 0x155abc, 4 | EPT_R << 3 | 0x180);
	q(&g, EPT_PT)[0x155] = 0;
	expect_violation(v, 0x203abc, 0, 0x155abc, 1 | 0x180);
	/* the guest's own fault comes before it */
	set_pte(&g, 3, 0x155000 | 1);
	CU_ASSERT_EQUAL(walk(v, 0x203abc, ACC_WRITE, &w), SOFT_EXCEPTION);
	finish(&g);
}

/* Entries of the guest's tables: bit 8 is clear; a write only where a bit has to be set. */
static void test_nested_tables(void)
{
	struct soft_walk w;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	identity(&g);
	q(&g, EPT_PT)[PT1 >> 12] = 0;
	expect_violation(v, 0x203000, ACC_WRITE, PT1 + 3 * 8, 1 | 0x80);
	q(&g, EPT_PT)[PT1 >> 12] = PT1 | WB | EPT_R;
	set_pte(&g, 3, 0x155000 | PTE_RW);
	expect_violation(v, 0x203000, 0, PT1 + 3 * 8, 3 | EPT_R << 3 | 0x80);
	set_pte(&g, 3, 0x155000 | PTE_RW | 0x20);
	CU_ASSERT_EQUAL(walk(v, 0x203000, 0, &w), SOFT_OK);
	expect_violation(v, 0x203000, ACC_WRITE, PT1 + 3 * 8, 3 | EPT_R << 3 | 0x80);
	set_pte(&g, 3, 0x155000 | PTE_RW | 0x60);
	CU_ASSERT_EQUAL(walk(v, 0x203000, ACC_WRITE, &w), SOFT_OK);
	/* with A/D bits of EPT every access to them is a write */
	v->eptp |= EPTP_AD;
	expect_violation(v, 0x203000, 0, PT1 + 3 * 8, 3 | EPT_R << 3 | 0x80);
	q(&g, EPT_PT)[PT1 >> 12] = PT1 | WB | EPT_RWX;
	CU_ASSERT_EQUAL(walk(v, 0x203000, 0, &w), SOFT_OK);
	CU_ASSERT_EQUAL(q(&g, EPT_PT)[PT1 >> 12] & (EPT_A | EPT_D), EPT_A | EPT_D);
	CU_ASSERT_EQUAL(q(&g, EPT_PT)[0x155] & (EPT_A | EPT_D), EPT_A);
	finish(&g);
}

/* What is cached goes by INVEPT only, but a right that is missing is looked up again. */
static void test_cache(void)
{
	const struct soft_ept_access read = { .need = EPT_R, .set_ad = true };
	const struct soft_ept_access write = { .need = EPT_W, .set_ad = true };
	struct soft_ept_entry e;
	struct guest g;
	struct soft_vcpu *v = start(&g, 0);

	v->ept_cache_of = v->eptp;
	q(&g, EPT_PT)[5] = 0x155000 | WB | EPT_R;
	CU_ASSERT_EQUAL(soft_ept_translate(v, 0x5000, &read, &e), SOFT_OK);
	q(&g, EPT_PT)[5] = 0x166000 | WB | EPT_R | EPT_W;
	CU_ASSERT_EQUAL(soft_ept_translate(v, 0x5000, &read, &e), SOFT_OK);
	CU_ASSERT_EQUAL(e.mem, 0x155000);
	CU_ASSERT_EQUAL(soft_ept_translate(v, 0x5000, &write, &e), SOFT_OK);
	CU_ASSERT_EQUAL(e.mem, 0x166000);
	q(&g, EPT_PT)[5] = 0;
	soft_invept(v, false, v->eptp + 0x1000); /* another's */
	CU_ASSERT_EQUAL(soft_ept_translate(v, 0x5000, &read, &e), SOFT_OK);
	soft_invept(v, false, v->eptp);
	CU_ASSERT_EQUAL(soft_ept_translate(v, 0x5000, &read, &e), SOFT_VMEXIT);
	finish(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "rights", test_rights },
		{ "misconfigurations", test_misconfigured },
		{ "large pages", test_large },
		{ "accessed and dirty bits", test_accessed },
		{ "behind the guest's tables", test_nested },
		{ "the guest's tables themselves", test_nested_tables },
		{ "what is cached", test_cache },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("ept", tests));
}
