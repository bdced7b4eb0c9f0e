/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_returns.c - what CALL leaves for RET in translated code (jit_branch.c) never decides where
 * the guest goes: each case in every way that the engine can run a guest.
 */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "common/checked.h"
#include "tests/unit/soft_modes.h"

#define CALLER 0x201000u /* PT1 entry 1: at CALLER_A or CALLER_B */
#define CALLEE 0x202000u /* PT1 entry 2: at CALLEE_AT */
#define CALLER_A 0x100000u
#define CALLER_B 0x101000u
#define CALLEE_AT 0x102000u

/* --- code alone ------------------------------------------------------------------------------------ */

/* More calls in progress than there is room for, twice. */
PAYLOAD(deep, "xor %eax,%eax\n mov $5000,%ecx\n call 1f\n mov $5000,%ecx\n call 1f\n hlt\n"
	      "1: dec %ecx\n jz 2f\n call 1b\n 2: inc %eax\n ret");
/* RET as a jump, within calls. */
PAYLOAD(push_ret, "xor %eax,%eax\n mov $100,%ecx\n 1: call 2f\n inc %eax\n loop 1b\n hlt\n"
		  "2: call 3f\n inc %eax\n ret\n 3: lea 4f(%rip),%rbx\n push %rbx\n ret\n ud2\n"
		  "4: inc %eax\n ret");
/* CALL as a push whose place another target takes. */
PAYLOAD(replaced, "xor %eax,%eax\n mov $100,%ecx\n 1: call 2f\n inc %eax\n loop 1b\n hlt\n"
		  "2: lea 4f(%rip),%rbx\n call 3f\n ud2\n 3: mov %rbx,(%rsp)\n ret\n"
		  "4: inc %eax\n ret");
/* The callee returns to one instruction further on every other time. */
PAYLOAD(skips, "xor %eax,%eax\n mov $100,%ecx\n 1: call 2f\n inc %eax\n inc %eax\n loop 1b\n hlt\n"
	       "2: test $1,%cl\n jz 3f\n addq $2,(%rsp)\n 3: ret");
/* Out of three calls at once, and on with what was in progress before. */
PAYLOAD(long_jump, "xor %eax,%eax\n mov $100,%ecx\n 1: call 2f\n inc %eax\n loop 1b\n hlt\n"
		   "2: mov %rsp,%rbx\n call 3f\n ud2\n 3: call 4f\n ud2\n 4: call 5f\n ud2\n"
		   "5: mov %rbx,%rsp\n inc %eax\n ret");
/* The code that is returned to is another by then. */
PAYLOAD(patched, "xor %eax,%eax\n mov $50,%ecx\n 1: call 3f\n 2: mov $0,%ebx\n add %ebx,%eax\n loop 1b\n"
		 "hlt\n 3: mov %ecx,2b+1(%rip)\n ret");
/* Calls through a register and through memory. */
PAYLOAD(indirect, "xor %eax,%eax\n mov $100,%ecx\n lea 2f(%rip),%rbx\n push %rbx\n 1: call *%rbx\n"
		  "call *(%rsp)\n loop 1b\n pop %rbx\n hlt\n 2: inc %eax\n ret $0");
/* Accesses to user memory (STAC, CLAC) in between, calls among them. */
PAYLOAD(user_access, "mov %cr4,%rax\n or $0x200000,%eax\n mov %rax,%cr4\n xor %eax,%eax\n mov $100,%ecx\n"
		     "1: call 2f\n inc %eax\n loop 1b\n hlt\n"
		     "2: stac\n call 3f\n clac\n inc %eax\n ret\n 3: inc %eax\n ret");

static const struct {
	const uint8_t *from, *to;
	uint64_t rax;
} codes[] = {
	{ payload_deep, payload_deep_end, 10000 },
	{ payload_push_ret, payload_push_ret_end, 300 },
	{ payload_replaced, payload_replaced_end, 200 },
	{ payload_skips, payload_skips_end, 150 },
	{ payload_long_jump, payload_long_jump_end, 200 },
	{ payload_patched, payload_patched_end, 1275 },
	{ payload_indirect, payload_indirect_end, 200 },
	{ payload_user_access, payload_user_access_end, 300 },
};

static void test_codes(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct guest g;

		soft_start(&g);
		memcpy(g.ram + CODE, codes[i].from, (size_t)(codes[i].to - codes[i].from));
		CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), codes[i].rax);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSP), STACK);
		guest_destroy(&g);
	}
}

/* --- addresses that mean something else ------------------------------------------------------------- */

/* 100 calls of CALLER, at RBX, which calls CALLEE: that now and then maps CALLER anew, from A to B or back, by
 * INVLPG or CR3. A and B differ in what they do when it returns. */
PAYLOAD(remap, "xor %eax,%eax\n mov $100,%ecx\n mov $0x100003,%edx\n 1: call *%rbx\n loop 1b\n hlt");
PAYLOAD(caller, "mov $0x202000,%esi\n call *%rsi\n add $1,%eax\n ret");
PAYLOAD(callee, "test $2,%cl\n jz 2f\n ret\n 2: xor $0x1000,%edx\n mov %rdx,0x8008\n test $1,%cl\n jz 1f\n invlpg (%rbx)\n ret\n"
		"1: mov %cr3,%rdi\n mov %rdi,%cr3\n ret");

static unsigned remapped_sum(void)
{
	unsigned sum = 0;
	bool b = false;

	for (unsigned i = 100; i; i--) {
		b ^= !(i & 2);
		sum += b ? 3 : 1;
	}
	return sum;
}

/* The same code in both, but that B's adds 3 instead of 1 before its last RET. */
static void load_callers(struct guest *g, uint32_t a, uint32_t b, const uint8_t *from, const uint8_t *to)
{
	memcpy(g->ram + a, from, (size_t)(to - from));
	memcpy(g->ram + b, from, (size_t)(to - from));
	g->ram[b + (to - from) - 2] = 3; /* add $3 */
}

static void check_rax(struct guest *g, uint64_t rax)
{
	CU_ASSERT_EQUAL(guest_resume(g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(g, VMX_RAX), rax);
}

static void test_remap(void)
{
	static const uint64_t callers[] = { CALLER, CALLER + KERNEL_HIGH }; /* either half */

	for (size_t i = 0; i < ARRAY_SIZE(callers); i++) {
		struct guest g;

		soft_start(&g);
		LOAD(&g, CODE, remap);
		load_callers(&g, CALLER_A, CALLER_B, payload_caller, payload_caller_end);
		LOAD(&g, CALLEE_AT, callee);
		q(&g, PD_HIGH)[1] = PT1 | 3;
		set_pte(&g, 1, CALLER_A | PTE_RW);
		set_pte(&g, 2, CALLEE_AT | PTE_RW);
		guest_set_reg(&g, VMX_RBX, callers[i]);
		check_rax(&g, remapped_sum());
		guest_destroy(&g);
	}
}

/* The callee maps CALLER, which the exec TLB has lost to another page with its place there, anew and tells
 * nobody: where CALLER goes on then, by a jump that was never taken, is its own affair. But once it is mapped as
 * before, and this is said, A goes on in A. */
PAYLOAD(remap_quietly, "mov $0x201000,%ebx\n mov $0x100003,%edx\n xor %ebp,%ebp\n call *%rbx\n call *%rbx\n"
		       "mov $0x101800,%edi\n call *%rdi\n inc %ebp\n mov $0x101003,%edx\n call *%rbx\n"
		       "mov $0x100003,%edx\n mov %rdx,0x8008\n invlpg (%rbx)\n xor %eax,%eax\n mov $10,%ecx\n"
		       "1: call *%rbx\n loop 1b\n hlt");
PAYLOAD(caller_quiet, "mov $0x202000,%esi\n call *%rsi\n test %ebp,%ebp\n jnz 1f\n ret\n 1: add $1,%eax\n ret");
PAYLOAD(callee_quiet, "mov %rdx,0x8008\n ret");

static void test_remap_quietly(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, remap_quietly);
	load_callers(&g, CALLER_A, CALLER_B, payload_caller_quiet, payload_caller_quiet_end);
	g.ram[CALLER_B + 0x800] = 0xc3;
	LOAD(&g, CALLEE_AT, callee_quiet);
	set_pte(&g, 1, CALLER_A | PTE_RW);
	set_pte(&g, 2, CALLEE_AT | PTE_RW);
	check_rax(&g, 10);
	guest_destroy(&g);
}

/* The same for a large page, VA 4M: when it goes, branches to other pages are not forgotten. */
PAYLOAD(remap_large, "xor %eax,%eax\n mov $100,%ecx\n mov $0x500000,%ebx\n mov $0x83,%edx\n"
		     "1: call *%rbx\n loop 1b\n hlt");
PAYLOAD(callee_large, "test $2,%cl\n jz 2f\n ret\n 2: xor $0x200000,%edx\n mov %rdx,0x6010\n invlpg 0x500000\n ret");

static void test_remap_large(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, remap_large);
	load_callers(&g, 0x100000, 0x300000, payload_caller, payload_caller_end);
	LOAD(&g, CALLEE_AT, callee_large);
	q(&g, PD)[2] = 0x83;
	set_pte(&g, 2, CALLEE_AT | PTE_RW);
	check_rax(&g, remapped_sum());
	guest_destroy(&g);
}

/* The kernel's CALL, the kernel's RET and the user's in turn: CLI is not the user's to do. */
PAYLOAD(to_user, "1: mov $0x202800,%esp\n call 2f\n cli\n mov %cs,%ecx\n test $3,%cl\n jz 4f\n"
		 "mov $1,%eax\n hlt\n 2: test $1,%dl\n jnz 3f\n ret\n"
		 "3: mov %rsp,%rbx\n pushq $0x23\n push %rbx\n pushfq\n pushq $0x2b\n lea 5f(%rip),%rcx\n"
		 "push %rcx\n iretq\n 5: ret\n"
		 ".org payload_to_user+0x100\n 4: inc %edx\n cmp $10,%edx\n jb 1b\n hlt");

static void test_privilege(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CALLER_A, to_user);
	set_gate(&g, 13, CALLER + 0x100, 0);
	set_pte(&g, 1, CALLER_A | PTE_RW | PTE_USER);
	set_pte(&g, 2, CALLEE_AT | PTE_RW | PTE_USER);
	guest_set_reg(&g, VMX_RIP, CALLER);
	guest_set_reg(&g, VMX_RAX, 0);
	guest_set_reg(&g, VMX_RDX, 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDX), 10);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 0);
	guest_destroy(&g);
}

/* A RET with no CALL in progress, to 0, where code is; and to what is no address, which faults. */
PAYLOAD(to_nowhere, "pushq $0\n ret");
PAYLOAD(not_canonical, "mov $1,%eax\n shl $63,%rax\n push %rax\n mov %rsp,%rbx\n 1: ret");

static void test_nowhere(void)
{
	struct guest g;
	uint64_t sp;

	soft_start(&g);
	LOAD(&g, CODE, to_nowhere);
	g.ram[0] = 0xf4;
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP), 1);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSP), STACK);
	LOAD(&g, CODE + 0x40, not_canonical);
	g.ram[CODE + 0x100] = 0xf4;
	set_gate(&g, 13, CODE + 0x100, 0);
	guest_set_reg(&g, VMX_RIP, CODE + 0x40);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP), CODE + 0x101);
	sp = guest_reg(&g, VMX_RSP); /* error code, RIP, CS, RFLAGS, RSP, SS */
	CU_ASSERT_EQUAL(*q(&g, sp + 8),
			CODE + 0x40 + (uint64_t)(payload_not_canonical_end - payload_not_canonical) - 1);
	CU_ASSERT_EQUAL(*q(&g, sp + 32), guest_reg(&g, VMX_RBX));
	guest_destroy(&g);
}

/* --- calls without end ------------------------------------------------------------------------------ */

#define LEVELS 60u
#define TREE 0x100000u

/* Functions that call the next one twice, all forward and in one page: 2^LEVELS returns. EDX is how
 * deep they may go, so that all of it can be translated and linked first. */
PAYLOAD(level, "dec %edx\n jz 1f\n .byte 0xe8, 0x08, 0, 0, 0, 0xe8, 0x03, 0, 0, 0\n 1: inc %edx\n ret");
PAYLOAD(climb, "mov $60,%ecx\n mov $0x100000,%ebx\n 1: mov $3,%edx\n call *%rbx\n add $17,%ebx\n"
	       "dec %ecx\n jnz 1b\n mov $1,%eax\n mov %eax,0x30000\n mov $100,%edx\n"
	       "mov $0x100000,%ebx\n call *%rbx\n hlt");

static void make_tree(struct guest *g)
{
	size_t size = (size_t)(payload_level_end - payload_level);

	CU_ASSERT_EQUAL(size, 17);
	for (unsigned i = 0; i < LEVELS; i++)
		LOAD(g, TREE + i * size, level);
	g->ram[TREE + LEVELS * size] = 0xc3;
	LOAD(g, CODE, climb);
}

static void *kick_soon(void *arg)
{
	struct guest *g = arg;

	while (!__atomic_load_n(q(g, DATA), __ATOMIC_RELAXED)) /* alarm() ends it if that never comes */
		usleep(1000);
	usleep(20000);
	CU_ASSERT_EQUAL(vmx_vcpu_kick(g->cpu), 0);
	return NULL;
}

static void kicked(void (*make)(struct guest *g))
{
	struct guest g;
	pthread_t thread;

	soft_start(&g);
	make(&g);
	alarm(30); /* a guest that cannot be stopped ends this program */
	CU_ASSERT_EQUAL(pthread_create(&thread, NULL, kick_soon, &g), 0);
	CU_ASSERT_EQUAL(vmx_vcpu_resume(g.cpu, &g.exit), -ECANCELED);
	CU_ASSERT_EQUAL(*q(&g, DATA), 1);
	alarm(0);
	pthread_join(thread, NULL);
	guest_destroy(&g);
}

static void test_kicked(void)
{
	kicked(make_tree);
}

/* Without an end, from one page to the next and back. */
PAYLOAD(pages, "movq $1,0x30000\n 1: jmp 2f\n .org payload_pages+0x1000\n 2: jmp 1b");

static void make_pages(struct guest *g)
{
	LOAD(g, CODE, pages);
}

static void test_kicked_loop(void)
{
	kicked(make_pages);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "calls, returns and what looks like them", test_codes },
		{ "the caller's page is another one", test_remap },
		{ "the caller's page is another one and nobody knows", test_remap_quietly },
		{ "the caller's page is part of a large one", test_remap_large },
		{ "the return is less privileged than the call", test_privilege },
		{ "returns to nowhere", test_nowhere },
		{ "a tree of calls is stopped", test_kicked },
		{ "a loop over two pages is stopped", test_kicked_loop },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITES(tests));
}
