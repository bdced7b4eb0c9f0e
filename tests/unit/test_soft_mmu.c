/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_mmu.c - the paging modes of the software engine, by translation and by running. */
#include <errno.h>

#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

#define TABLE 0x70000u /* tables of these tests */
#define TARGET 0x155000u

enum paging { LONG_MODE, PAE, LEGACY, OFF };

#define PTE_P 1u
#define PTE_W 2u
#define PTE_U 4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u

static void start(struct guest *g)
{
	if (guest_create(g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
}

static void set_paging(struct guest *g, enum paging paging, uint64_t cr3)
{
	struct vmx_sregs s;

	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cr3 = cr3;
	s.cr4 = 0x10;
	s.cr0 = 0x80010033;
	s.efer = 0x800;
	if (paging == OFF)
		s.cr0 &= ~0x80000000ull;
	if (paging == PAE || paging == LONG_MODE)
		s.cr4 |= 0x20;
	if (paging == LONG_MODE)
		s.efer |= 0x500;
	s.cs = guest_segment(8, paging == LONG_MODE ? 0xa09b : 0xc09b);
	s.ds.base = paging == LEGACY ? 0x80000000u : 0;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
}

static uint32_t *d(struct guest *g, uint64_t gpa)
{
	return (uint32_t *)(void *)(g->ram + gpa);
}

/* The result, and the address if it is OK. */
static int translate(struct guest *g, uint64_t gva, uint32_t flags, uint64_t *gpa)
{
	enum vmx_translate_result result = (enum vmx_translate_result)-1;

	CU_ASSERT_EQUAL(vmx_vcpu_translate(g->cpu, gva, flags, &result, gpa), 0);
	return (int)result;
}

static void expect_ok(struct guest *g, uint64_t gva, uint32_t flags, uint64_t want)
{
	uint64_t gpa = 0;

	CU_ASSERT_EQUAL(translate(g, gva, flags, &gpa), VMX_TRANSLATE_OK);
	CU_ASSERT_EQUAL(gpa, want);
}

static void expect_bad(struct guest *g, uint64_t gva, uint32_t flags, int want)
{
	uint64_t gpa;

	CU_ASSERT_EQUAL(translate(g, gva, flags, &gpa), want);
}

static void test_legacy(void)
{
	struct guest g;

	start(&g);
	d(&g, TABLE)[3] = (TABLE + 0x1000) | PTE_P | PTE_W;
	d(&g, TABLE + 0x1000)[5] = TARGET | PTE_P;
	d(&g, TABLE)[4] = 0x0 | PTE_P | PTE_W | PTE_PS;       /* 4 MiB */
	d(&g, TABLE)[5] = 0x0 | PTE_P | PTE_PS | 1u << 21;    /* reserved */
	d(&g, TABLE)[6] = 0x0 | PTE_P | PTE_PS | 1u << 13;    /* PSE-36: 4 GiB */
	set_paging(&g, LEGACY, TABLE);
	expect_ok(&g, 3u << 22 | 5u << 12 | 0x123, VMX_TRANSLATE_READ, TARGET + 0x123);
	expect_bad(&g, 3u << 22 | 5u << 12, VMX_TRANSLATE_WRITE, VMX_TRANSLATE_PRIVILEGE);
	expect_bad(&g, 3u << 22 | 6u << 12, VMX_TRANSLATE_READ, VMX_TRANSLATE_NOT_PRESENT);
	expect_ok(&g, 4u << 22 | 0x234567, VMX_TRANSLATE_WRITE, 0x234567);
	expect_bad(&g, 5u << 22, VMX_TRANSLATE_READ, VMX_TRANSLATE_RESERVED_BITS);
	expect_bad(&g, 6u << 22, VMX_TRANSLATE_READ, VMX_TRANSLATE_GPA_UNMAPPED);
	expect_bad(&g, 7u << 22, VMX_TRANSLATE_READ, VMX_TRANSLATE_NOT_PRESENT);
	/* A and D only when asked for, and only for what succeeds. */
	CU_ASSERT_EQUAL(d(&g, TABLE)[4] & (PTE_A | PTE_D), 0);
	expect_ok(&g, 4u << 22, VMX_TRANSLATE_WRITE | VMX_TRANSLATE_SET_AD, 0);
	CU_ASSERT_EQUAL(d(&g, TABLE)[4] & (PTE_A | PTE_D), PTE_A | PTE_D);
	expect_ok(&g, 3u << 22 | 5u << 12, VMX_TRANSLATE_READ | VMX_TRANSLATE_SET_AD, TARGET);
	CU_ASSERT_EQUAL(d(&g, TABLE)[3] & (PTE_A | PTE_D), PTE_A);
	CU_ASSERT_EQUAL(d(&g, TABLE + 0x1000)[5] & (PTE_A | PTE_D), PTE_A);
	guest_destroy(&g);
}

static void test_pae(void)
{
	struct guest g;

	start(&g);
	q(&g, TABLE + 0x20)[1] = (TABLE + 0x1000) | PTE_P; /* CR3 is 32-byte aligned only */
	q(&g, TABLE + 0x1000)[2] = (TABLE + 0x2000) | PTE_P | PTE_W | PTE_U;
	q(&g, TABLE + 0x2000)[7] = TARGET | PTE_P | PTE_W | PTE_U | PTE_NX;
	q(&g, TABLE + 0x1000)[3] = 0x200000 | PTE_P | PTE_W | PTE_PS;
	q(&g, TABLE + 0x1000)[4] = 0x200000 | PTE_P | PTE_PS | 1u << 13;
	q(&g, TABLE + 0x1000)[5] = (TABLE + 0x2000) | PTE_P | 1ull << 52;
	set_paging(&g, PAE, TABLE + 0x20);
	expect_ok(&g, 1u << 30 | 2u << 21 | 7u << 12 | 8, VMX_TRANSLATE_WRITE, TARGET + 8);
	expect_bad(&g, 1u << 30 | 2u << 21 | 7u << 12, VMX_TRANSLATE_EXEC, VMX_TRANSLATE_PRIVILEGE);
	expect_ok(&g, 1u << 30 | 3u << 21 | 0x12345, VMX_TRANSLATE_EXEC, 0x212345);
	expect_bad(&g, 1u << 30 | 4u << 21, VMX_TRANSLATE_READ, VMX_TRANSLATE_RESERVED_BITS);
	expect_bad(&g, 1u << 30 | 5u << 21, VMX_TRANSLATE_READ, VMX_TRANSLATE_RESERVED_BITS);
	expect_bad(&g, 2u << 30, VMX_TRANSLATE_READ, VMX_TRANSLATE_NOT_PRESENT);
	guest_destroy(&g);
}

static void test_long(void)
{
	struct guest g;

	start(&g);
	q(&g, TABLE)[256] = (TABLE + 0x1000) | PTE_P | PTE_W | PTE_U;
	q(&g, TABLE + 0x1000)[0] = 0 | PTE_P | PTE_W | PTE_PS;              /* 1 GiB */
	q(&g, TABLE + 0x1000)[1] = 0 | PTE_P | PTE_PS | 1u << 20;           /* reserved */
	q(&g, TABLE + 0x1000)[2] = (TABLE + 0x2000) | PTE_P | PTE_U | PTE_NX;
	q(&g, TABLE + 0x2000)[0] = 0x200000 | PTE_P | PTE_W | PTE_U | PTE_PS;
	q(&g, TABLE)[257] = (TABLE + 0x1000) | PTE_P | PTE_PS;              /* reserved at the top */
	set_paging(&g, LONG_MODE, TABLE);
	expect_ok(&g, 0xffff800000234567, VMX_TRANSLATE_WRITE, 0x234567);
	expect_bad(&g, 0xffff80003fffffff, VMX_TRANSLATE_READ, VMX_TRANSLATE_GPA_UNMAPPED);
	expect_bad(&g, 0xffff800040000000, VMX_TRANSLATE_READ, VMX_TRANSLATE_RESERVED_BITS);
	expect_bad(&g, 0xffff808000000000, VMX_TRANSLATE_READ, VMX_TRANSLATE_RESERVED_BITS);
	/* What one level denies no other gives: W and NX of the PDPTE. */
	expect_ok(&g, 0xffff800080000010, VMX_TRANSLATE_READ, 0x200010);
	expect_bad(&g, 0xffff800080000010, VMX_TRANSLATE_WRITE, VMX_TRANSLATE_PRIVILEGE);
	expect_bad(&g, 0xffff800080000010, VMX_TRANSLATE_EXEC, VMX_TRANSLATE_PRIVILEGE);
	expect_bad(&g, 0x0000800000000000, VMX_TRANSLATE_READ, VMX_TRANSLATE_NOT_PRESENT);
	guest_destroy(&g);
}

static void test_off(void)
{
	struct guest g;

	start(&g);
	set_paging(&g, OFF, 0);
	expect_ok(&g, 0x123456, VMX_TRANSLATE_WRITE, 0x123456);
	expect_ok(&g, 0x100123456, VMX_TRANSLATE_READ, 0x123456);
	expect_bad(&g, RAM_SIZE, VMX_TRANSLATE_READ, VMX_TRANSLATE_GPA_UNMAPPED);
	guest_destroy(&g);
}

/* 32-bit code under 32-bit paging: an access that wraps around 4 GiB, from a 4 KiB page to a large
 * one. */
PAYLOAD(wrap, ".code32\n mov $0x7ffffffe,%esi\n mov (%esi),%eax\n movl $0x11223344,(%esi)\n"
	      "hlt\n.code64");

static void test_run_legacy(void)
{
	struct guest g;

	start(&g);
	/* 0..4M by one large page; the last page of 4 GiB at TARGET. */
	d(&g, TABLE)[0] = PTE_P | PTE_W | PTE_PS;
	d(&g, TABLE)[1023] = (TABLE + 0x1000) | PTE_P | PTE_W;
	d(&g, TABLE + 0x1000)[1023] = TARGET | PTE_P | PTE_W;
	*d(&g, TARGET + 0xffc) = 0xbbaa0000;
	*d(&g, 0) = 0x0000ddcc;
	LOAD(&g, CODE, wrap);
	set_paging(&g, LEGACY, TABLE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 0xddccbbaa);
	CU_ASSERT_EQUAL(*d(&g, TARGET + 0xffc), 0x33440000);
	CU_ASSERT_EQUAL(*d(&g, 0), 0x1122);
	CU_ASSERT_EQUAL(d(&g, TABLE)[0] & (PTE_A | PTE_D), PTE_A | PTE_D);
	CU_ASSERT_EQUAL(d(&g, TABLE + 0x1000)[1023] & (PTE_A | PTE_D), PTE_A | PTE_D);
	guest_destroy(&g);
}

/* A write that crosses into a page it may not touch changes nothing of the first. */
PAYLOAD(cross, "mov $0x201ffc,%esi\n movq $-1,(%rsi)\n hlt\n .org payload_cross+0x100\n"
	       "mov %cr2,%rax\n pop %rbx\n hlt");

static void test_cross(void)
{
	struct guest g;

	start(&g);
	LOAD(&g, CODE, cross);
	set_gate(&g, 14, CODE + 0x100, 0);
	set_pte(&g, 1, 0x100000 | PTE_RW);
	set_pte(&g, 2, 0x101000 | PTE_P);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 0x202000);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 3);
	CU_ASSERT_EQUAL(*d(&g, 0x100ffc), 0);
	/* And now it may. */
	set_pte(&g, 2, 0x103000 | PTE_RW);
	guest_set_reg(&g, VMX_RIP, CODE);
	guest_set_reg(&g, VMX_CR3, PML4);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP), CODE + 13);
	CU_ASSERT_EQUAL(*d(&g, 0x100ffc), 0xffffffff);
	CU_ASSERT_EQUAL(*d(&g, 0x103000), 0xffffffff);
	guest_destroy(&g);
}

/* Global pages outlive MOV CR3, others do not; INVLPG takes both. */
PAYLOAD(global, "mov 0x201000,%rax\n mov 0x202000,%rbx\n"
		"movq $0x104103,0x8008\n movq $0x105003,0x8010\n"
		"mov %cr3,%rcx\n mov %rcx,%cr3\n mov 0x201000,%rcx\n mov 0x202000,%rdx\n"
		"invlpg 0x201000\n mov 0x201000,%rsi\n hlt");

static void test_global(void)
{
	struct guest g;

	start(&g);
	LOAD(&g, CODE, global);
	set_pte(&g, 1, 0x100000 | PTE_RW | 0x100);
	set_pte(&g, 2, 0x101000 | PTE_RW);
	*q(&g, 0x100000) = 1;
	*q(&g, 0x101000) = 2;
	*q(&g, 0x104000) = 3;
	*q(&g, 0x105000) = 4;
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 1);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 2);
	/* 3 would be allowed as well: a TLB may forget. */
	CU_ASSERT_TRUE(guest_reg(&g, VMX_RCX) == 1 || guest_reg(&g, VMX_RCX) == 3);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDX), 4);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSI), 3);
	guest_destroy(&g);
}

/* Code on a page that is not global, called before and after another page takes its place. */
PAYLOAD(codeswap, "mov $100,%ebx\n 1: mov $0x201000,%eax\n call *%rax\n dec %ebx\n jnz 1b\n"
		  "mov %ecx,%esi\n movq $0x106003,0x8008\n mov %cr3,%rcx\n mov %rcx,%cr3\n"
		  "mov $0x201000,%eax\n call *%rax\n hlt");

static void test_codeswap(void)
{
	static const uint8_t one[] = { 0xb9, 1, 0, 0, 0, 0xc3 }, two[] = { 0xb9, 2, 0, 0, 0, 0xc3 };
	struct guest g;

	start(&g);
	LOAD(&g, CODE, codeswap);
	memcpy(g.ram + 0x100000, one, sizeof(one));
	memcpy(g.ram + 0x106000, two, sizeof(two));
	set_pte(&g, 1, 0x100000 | PTE_RW);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSI), 1);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RCX), 2);
	guest_destroy(&g);
}

/* One load that goes to and fro in a large page, across a border of 4 KiB too, often enough to be
 * translated for large pages; then the page moves. */
PAYLOAD(large, "mov $0x400000,%edi\n mov $100000,%ecx\n call 2f\n mov %rbx,%rsi\n xor %ebx,%ebx\n"
	       "movq $0xe3,0x6010\n invlpg 0x5ff000\n mov $2,%ecx\n call 2f\n hlt\n"
	       "2: mov (%rdi),%rax\n add %rax,%rbx\n xor $0x1ffc,%rdi\n dec %ecx\n jnz 2b\n ret");

static void test_large(void)
{
	struct guest g;

	start(&g);
	LOAD(&g, CODE, large);
	q(&g, PD)[2] = 0x2000e3;
	*q(&g, 0x200000) = 5;
	memcpy(g.ram + 0x201ffc, &(uint64_t){ 7 | 1ull << 32 }, 8);
	*q(&g, 0) = 9;
	memcpy(g.ram + 0x1ffc, &(uint64_t){ 11 | 1ull << 33 }, 8);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSI), 50000 * (5 + 7 + (1ull << 32)));
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 9 + 11 + (1ull << 33));
	guest_destroy(&g);
}

/* One load that goes to and fro between two pages 16 MiB apart, which want the same place in the TLB: the
 * later one has it then. The earlier one moves and INVLPG says so (R8); both, and MOV CR3 does (R9); and
 * once more each after so often that the load does not use L0 any more (R10, RBX). */
PAYLOAD(ways, "mov $0x201000,%esi\n mov $0x1201000,%edi\n mov $20,%ecx\n call 2f\n"
	      "movq $0x102003,0x8008\n invlpg (%rsi)\n call 1f\n mov %rbx,%r8\n"
	      "movq $0x103003,0x8008\n movq $0x104003,0x70008\n"
	      "mov %cr3,%rcx\n mov %rcx,%cr3\n call 1f\n mov %rbx,%r9\n"
	      "mov $30000,%ecx\n call 2f\n mov %rbx,%r10\n"
	      "movq $0x105003,0x8008\n invlpg (%rsi)\n movq $0x106003,0x70008\n invlpg (%rdi)\n"
	      "call 1f\n hlt\n"
	      "1: mov $2,%ecx\n 2: xor %ebx,%ebx\n"
	      "3: mov (%rsi),%rax\n add %rax,%rbx\n xchg %rsi,%rdi\n dec %ecx\n jnz 3b\n ret");

static void test_ways(void)
{
	struct guest g;

	start(&g);
	LOAD(&g, CODE, ways);
	set_pte(&g, 1, 0x100000 | PTE_RW);
	q(&g, PD)[9] = TABLE | PTE_RW;
	q(&g, TABLE)[1] = 0x101000 | PTE_RW;
	for (unsigned i = 0; i < 7; i++)
		*q(&g, 0x100000 + 0x1000 * i) = 1u << i;
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_R8), 4 + 2);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_R9), 8 + 16);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_R10), 15000 * (8 + 16));
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 32 + 64);
	guest_destroy(&g);
}

/* R8: what three fragments of a large page hold and what code in a fourth one gives, at RDI, often enough
 * for every cache to have them; R9: the same after the entry at RBX was changed to RCX and INVLPG of RSI,
 * a page of which nothing was used. R15: called in between. */
#define TWICE                                                                                  \
	"lea 0x2000(%rdi),%rax\n call *%rax\n add %rax,%r9\n dec %r13d\n jnz 1b\n"           \
	"test %r8,%r8\n jnz 3f\n mov %r9,%r8\n call *%r15\n mov %rcx,(%rbx)\n invlpg (%rsi)\n" \
	"jmp 2b\n 3: hlt"
PAYLOAD(fragments, "2: mov $50,%r13d\n 1: mov (%rdi),%r9\n add 0x1000(%rdi),%r9\n"
		   "add 0x3008(%rdi),%r9\n" TWICE);
PAYLOAD(code_fragment, "2: mov $50,%r13d\n 1: xor %r9d,%r9d\n" TWICE);
PAYLOAD(nothing, "ret");
PAYLOAD(to_and_fro, "mov $0x4001,%eax\n mov %rax,%cr3\n mov (%rsi),%rax\n"
		    "mov $0x4000,%eax\n bts $63,%rax\n mov %rax,%cr3\n ret");

#define FRAGMENTS 0x105000u /* in each 2 MiB: where they are */
#define PD_2 0xb000u
#define PTE_G 0x100u
#define LARGE_PTE (PTE_P | PTE_W | PTE_PS)
#define CR4_PCIDE 0x20000u

enum how { DATA_AND_CODE, FROM_PCID, CODE_ONLY };

struct fragments_case {
	const char *what;
	enum how how;
	uint64_t base, entry, before, after, page;
};

/* The entry maps 2M..4M of memory before, and 0..2M after. */
static const struct fragments_case fragments_cases[] = {
	{ "2 MiB", DATA_AND_CODE, 0x400000, PD + 16, 0x200000 | LARGE_PTE, LARGE_PTE, 0x5ff000 },
	{ "2 MiB, global", DATA_AND_CODE, 0x400000, PD + 16, 0x200000 | LARGE_PTE | PTE_G, LARGE_PTE,
	  0x400000 },
	{ "2 MiB into 4 KiB", DATA_AND_CODE, 0x400000, PD + 16, 0x200000 | LARGE_PTE,
	  PT0 | PTE_P | PTE_W, 0x401000 },
	{ "1 GiB into 2 MiB", DATA_AND_CODE, 0x40200000, PDPT + 8, LARGE_PTE, PD_2 | PTE_P | PTE_W,
	  0x7ffff000 },
	{ "1 GiB, global", DATA_AND_CODE, 0x40200000, PDPT + 8, LARGE_PTE | PTE_G,
	  PD_2 | PTE_P | PTE_W, 0x40000000 },
	{ "2 MiB, from another PCID", FROM_PCID, 0x400000, PD + 16, 0x200000 | LARGE_PTE, LARGE_PTE,
	  0x5ff000 },
	{ "2 MiB, code", CODE_ONLY, 0x400000, PD + 16, 0x200000 | LARGE_PTE, LARGE_PTE, 0x5ff000 },
	{ "4 KiB", DATA_AND_CODE, 0x200000, PT1 + 8 * (FRAGMENTS >> 12),
	  (0x200000 + FRAGMENTS) | PTE_P | PTE_W, FRAGMENTS | PTE_P | PTE_W, 0x200000 + FRAGMENTS },
};

static void fill_fragments(struct guest *g, uint64_t at, unsigned value)
{
	const uint8_t code[] = { 0xb8, (uint8_t)value, 0, 0, 0, 0xc3 };

	*q(g, at) = value << 8;
	*q(g, at + 0x1000) = value << 16;
	*q(g, at + 0x3008) = value << 24;
	memcpy(g->ram + at + 0x2000, code, sizeof(code));
}

static void run_fragments(const struct fragments_case *c)
{
	uint64_t before = c->how == CODE_ONLY ? 1 : 0x01010101;
	uint64_t after = c->base == 0x200000 ? 0x01010201 : 2 * before;
	struct vmx_sregs s;
	struct guest g;

	start(&g);
	if (c->how == CODE_ONLY)
		LOAD(&g, CODE, code_fragment);
	else
		LOAD(&g, CODE, fragments);
	if (c->how == FROM_PCID)
		LOAD(&g, CODE + 0x1000, to_and_fro);
	else
		LOAD(&g, CODE + 0x1000, nothing);
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cr4 |= c->how == FROM_PCID ? CR4_PCIDE : 0;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	fill_fragments(&g, 0x200000 + FRAGMENTS, 1);
	fill_fragments(&g, FRAGMENTS, 2);
	q(&g, PD_2)[1] = LARGE_PTE;
	for (unsigned i = FRAGMENTS >> 12; i < (FRAGMENTS >> 12) + 4; i++)
		set_pte(&g, i, (0x200000 + (i << 12)) | PTE_P | PTE_W);
	*q(&g, c->entry) = c->before;
	guest_set_reg(&g, VMX_RDI, c->base + FRAGMENTS);
	guest_set_reg(&g, VMX_RBX, c->entry);
	guest_set_reg(&g, VMX_RCX, c->after);
	guest_set_reg(&g, VMX_RSI, c->page);
	guest_set_reg(&g, VMX_R15, CODE + 0x1000);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_R8), before);
	if (guest_reg(&g, VMX_R9) != after) {
		printf("%s: %x\n", c->what, (unsigned)guest_reg(&g, VMX_R9));
		CU_FAIL("something else than the tables say");
	}
	guest_destroy(&g);
}

static void test_fragments(void)
{
	for (size_t i = 0; i < sizeof(fragments_cases) / sizeof(fragments_cases[0]); i++)
		run_fragments(&fragments_cases[i]);
}

/* The same of 32-bit paging: a page of 4 MiB gives way to pages of 4 KiB. */
PAYLOAD(four_mib, ".code32\n mov $50,%ecx\n 1: mov 0x80701000,%eax\n add 0x80500000,%eax\n"
		  "dec %ecx\n jnz 1b\n movl $0x71003,0x80070004\n invlpg 0x80400000\n"
		  "mov 0x80701000,%ebx\n add 0x80500000,%ebx\n hlt\n.code64");

static void test_four_mib(void)
{
	struct guest g;

	start(&g);
	d(&g, TABLE)[0] = PTE_P | PTE_W | PTE_PS;
	d(&g, TABLE)[1] = PTE_P | PTE_W | PTE_PS;
	d(&g, TABLE + 0x1000)[0x301] = 0x155000 | PTE_P | PTE_W;
	d(&g, TABLE + 0x1000)[0x100] = 0x156000 | PTE_P | PTE_W;
	*d(&g, 0x301000) = 1;
	*d(&g, 0x100000) = 2;
	*d(&g, 0x155000) = 0x10;
	*d(&g, 0x156000) = 0x20;
	LOAD(&g, CODE, four_mib);
	set_paging(&g, LEGACY, TABLE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 3);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 0x30);
	guest_destroy(&g);
}

/* Tables in memory that is not there: a fault with reserved bits, not a crash. */
static void test_no_tables(void)
{
	struct guest g;

	start(&g);
	set_paging(&g, LONG_MODE, 0x7ffff000);
	expect_bad(&g, 0x1000, VMX_TRANSLATE_READ, VMX_TRANSLATE_RESERVED_BITS);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_SHUTDOWN);
	guest_destroy(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "32-bit paging", test_legacy },
		{ "PAE paging", test_pae },
		{ "4-level paging", test_long },
		{ "no paging", test_off },
		{ "running under 32-bit paging", test_run_legacy },
		{ "page crossing", test_cross },
		{ "global pages", test_global },
		{ "code pages change places", test_codeswap },
		{ "large pages", test_large },
		{ "two pages for one place", test_ways },
		{ "fragments of large pages", test_fragments },
		{ "fragments of 4 MiB", test_four_mib },
		{ "no page tables", test_no_tables },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("mmu", tests));
}
