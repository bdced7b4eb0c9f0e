/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_sites.c - an access finds its page by L0 or by L1, as its misses of L0 say (jit_run.c). */
#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

#define USER_CODE 0x201000u /* PT1 entries 1, 4 and 5 */
#define USER_DATA 0x204000u
#define ROUNDS 400000u

/* One access, in user mode, which changes between two pages whenever (ecx & edi) is 0. */
PAYLOAD(sites, "pushq $0x23\n pushq $0\n pushfq\n pushq $0x2b\n lea 1f(%rip),%rax\n push %rax\n iretq\n"
	       "1: xor %edx,%edx\n test %edi,%ecx\n setz %dl\n mov %edx,%eax\n shl $12,%eax\n"
	       "xor %rax,%rsi\n mov (%rsi),%rax\n add %rax,%rbx\n"
	       "dec %ecx\n jnz 1b\n ud2");

/* Its code goes to 0x101000; both pages hold a 3. */
static void create(struct guest *g)
{
	if (guest_create(g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
	g->ram[CODE + 0x100] = 0xf4;
	set_gate(g, 6, CODE + 0x100, 0);
	set_pte(g, 1, 0x101000 | PTE_RW | PTE_USER);
	set_pte(g, 4, 0x104000 | PTE_RW | PTE_USER);
	set_pte(g, 5, 0x105000 | PTE_RW | PTE_USER);
	*q(g, 0x104000) = *q(g, 0x105000) = 3;
	guest_set_reg(g, VMX_RIP, USER_CODE);
	guest_set_reg(g, VMX_RBX, 0);
}

/* How often L0 missed. */
static uint64_t run(uint32_t mask)
{
	struct guest g;
	uint64_t n;

	create(&g);
	LOAD(&g, 0x101000, sites);
	guest_set_reg(&g, VMX_RSI, USER_DATA);
	guest_set_reg(&g, VMX_RDI, mask);
	guest_set_reg(&g, VMX_RCX, ROUNDS);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 3 * ROUNDS);
	n = guest_stat(&g, "tlb_l0_misses");
	guest_destroy(&g);
	return n;
}

static void test_often(void)
{
	CU_ASSERT_TRUE(run(0) < ROUNDS / 4);
}

/* L0 is better than L1: it goes on missing. */
static void test_seldom(void)
{
	uint64_t n = run(63);

	CU_ASSERT_TRUE(n >= ROUNDS / 64 - 1024);
	CU_ASSERT_TRUE(n < ROUNDS / 32);
}

/* The same with registers that translated code has in memory, and copies of which are used around the
 * access: r8 adds up where r9 points to, rbx what is there, rdi the turns. */
PAYLOAD(copies, "pushq $0x23\n pushq $0\n pushfq\n pushq $0x2b\n lea 1f(%rip),%rax\n push %rax\n iretq\n"
		"1: xor %edx,%edx\n test $0,%ecx\n setz %dl\n mov %edx,%eax\n shl $12,%eax\n"
		"xor %rax,%r9\n mov (%r9),%rax\n add %rax,%rbx\n add %r9,%r8\n"
		"mov %ecx,%r10d\n mov (%r9),%rax\n add %r10,%rdi\n dec %ecx\n jnz 1b\n ud2");

static void test_copies(void)
{
	struct guest g;

	create(&g);
	LOAD(&g, 0x101000, copies);
	guest_set_reg(&g, VMX_RDI, 0);
	guest_set_reg(&g, VMX_R8, 0);
	guest_set_reg(&g, VMX_R9, USER_DATA);
	guest_set_reg(&g, VMX_RCX, ROUNDS);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 3 * ROUNDS);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDI), (uint64_t)ROUNDS * (ROUNDS + 1) / 2);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_R8), (uint64_t)ROUNDS / 2 * (2 * USER_DATA + 0x1000));
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_l0_misses") < ROUNDS / 4); /* most of it by L1 */
	guest_destroy(&g);
}

/* Supervisor code: one access that goes to the large page at rdi, and another one off the same base that
 * may share what it has in L0. At last both go to small pages, which lie apart in memory. */
PAYLOAD(shared, "1: mov %ecx,%eax\n and $1,%eax\n shl $12,%eax\n lea (%rdi,%rax),%rsi\n call 2f\n"
		"dec %ecx\n jnz 1b\n"
		"mov %r12,%rsi\n mov (%rsi),%rdx\n mov %r13,%rsi\n call 2f\n hlt\n"
		"2: mov (%rsi),%rax\n ret");

/* What is found of a small page is not taken for 2 MiB around it. */
static void test_shared(void)
{
	struct guest g;

	if (guest_create(&g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
	LOAD(&g, CODE, shared);
	set_pte(&g, 4, 0x104000 | PTE_RW);
	set_pte(&g, 5, 0x180000 | PTE_RW);
	*q(&g, 0x104000) = 4;
	*q(&g, 0x105000) = 0xbad;
	*q(&g, 0x180000) = 5;
	guest_set_reg(&g, VMX_RDI, KERNEL_HIGH + 0x104000);
	guest_set_reg(&g, VMX_R12, USER_DATA);
	guest_set_reg(&g, VMX_R13, USER_DATA + 0x1000);
	guest_set_reg(&g, VMX_RCX, ROUNDS);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDX), 4);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 5);
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_l0_misses") < ROUNDS / 4);
	guest_destroy(&g);
}

/* User mode: an access that goes to ever other ones of WIDE pages, about 1500 further each time. */
#define WIDE 4096u
#define WIDE_AT 0x1000000u
#define WIDE_TABLES 0x110000u
PAYLOAD(wide, "pushq $0x23\n pushq $0\n pushfq\n pushq $0x2b\n lea 1f(%rip),%rax\n push %rax\n iretq\n"
	      "1: imul $1537,%ecx,%eax\n and $4095,%eax\n shl $12,%eax\n lea (%rdi,%rax),%rsi\n"
	      "mov (%rsi),%rax\n dec %ecx\n jnz 1b\n ud2");

/* They lie together in memory, so that a run is long; but not long enough, and to find it takes long. Its
 * misses must not be taken for few because of that. */
static void test_wide(void)
{
	const uint32_t flags = VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC;
	struct guest g;

	create(&g);
	LOAD(&g, 0x101000, wide);
	CU_ASSERT_EQUAL(vmx_vm_map(g.vm, 0, RAM_SIZE, g.ram, flags), 0); /* none is mapped twice */
	for (unsigned i = 0; i < WIDE; i++) {
		uint64_t table = WIDE_TABLES + i / 512 * 4096;

		q(&g, PD)[WIDE_AT / 0x200000 + i / 512] = table | 7;
		q(&g, table)[i % 512] = (i * 4096ull % RAM_SIZE) | 1 | PTE_USER;
	}
	guest_set_reg(&g, VMX_RDI, WIDE_AT);
	guest_set_reg(&g, VMX_RCX, ROUNDS / 4);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_l0_misses") < ROUNDS / 8);
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_runs") < ROUNDS / 16);
	guest_destroy(&g);
}

/* Supervisor code: one access off a register that translated code has in memory, to another page of the large
 * one at rdi each time. Then a store has its place, to the page at r12 which is none of it. */
PAYLOAD(patched, "1: mov %ecx,%eax\n and $1,%eax\n shl $12,%eax\n lea (%rdi,%rax),%r9\n call 2f\n"
		 "dec %ecx\n jnz 1b\n"
		 "mov $3,%ecx\n movb $0x89,2f+1(%rip)\n" /* mov %rax,(%r9) */
		 "3: mov %rcx,%rax\n lea (%r12,%rcx,8),%r9\n call 2f\n dec %ecx\n jnz 3b\n hlt\n"
		 ".balign 64\n 2: mov (%r9),%rax\n ret");

/* What was found out about the load is known of the store at its address. */
static void test_patched(void)
{
	static uint8_t before[RAM_SIZE];
	struct guest g;
	unsigned other = 0;

	if (guest_create(&g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
	LOAD(&g, CODE, patched);
	guest_set_reg(&g, VMX_RDI, KERNEL_HIGH + 0x104000);
	guest_set_reg(&g, VMX_R12, 0x110000);
	guest_set_reg(&g, VMX_RCX, ROUNDS);
	memcpy(before, g.ram, RAM_SIZE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	for (unsigned i = 1; i <= 3; i++)
		CU_ASSERT_EQUAL(q(&g, 0x110000)[i], i);
	memset(g.ram + 0x110000, 0, 32);
	for (unsigned at = 0x60000; at < RAM_SIZE; at++)
		other += g.ram[at] != before[at];
	CU_ASSERT_EQUAL(other, 0);
	guest_destroy(&g);
}

/* User mode: a read, and a write to the same object that is done when edi counts out. */
PAYLOAD(refused, "pushq $0x23\n pushq $0\n pushfq\n pushq $0x2b\n lea 1f(%rip),%rax\n push %rax\n iretq\n"
		 "1: mov (%rsi),%rax\n add %rax,%rbx\n cmp %ecx,%edi\n jne 2f\n movq $5,8(%rsi)\n"
		 "2: dec %ecx\n jnz 1b\n ud2");

/* The page may not be written to and is not, until the last turn: one walk, or some until that was seen. */
static void test_refused(void)
{
	struct guest g;

	create(&g);
	LOAD(&g, 0x101000, refused);
	set_gate(&g, 14, CODE + 0x100, 0);
	set_pte(&g, 4, 0x104000 | 1 | PTE_USER);
	guest_set_reg(&g, VMX_RSI, USER_DATA);
	guest_set_reg(&g, VMX_RDI, 1);
	guest_set_reg(&g, VMX_RCX, ROUNDS);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 3 * ROUNDS);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RCX), 1); /* at the write */
	CU_ASSERT_EQUAL(*q(&g, 0x104008), 0);
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_fills") < ROUNDS / 100);
	guest_destroy(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "another page each time", test_often },
		{ "another page now and then", test_seldom },
		{ "copies of registers around it", test_copies },
		{ "a small page where a large one was", test_shared },
		{ "more pages than a run has", test_wide },
		{ "a store where a load was", test_patched },
		{ "a group that may not write and does not", test_refused },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("how an access finds its page", tests));
}
