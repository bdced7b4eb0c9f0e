/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_pcid.c - PCIDs on the software engine: what stays cached, and what makes it go. */
#include <errno.h>

#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

#define FRAME_1 0x100000u /* the page at 2M + 4K is this one, then that, then the other */
#define FRAME_2 0x101000u
#define FRAME_3 0x102000u
#define ACTION 0x21000u
#define HANDLER 0x22000u
#define TABLES_B 0x60000u /* a second set of tables */
#define KEEP (1ull << 63)
#define PCIDE (1ull << 17)

static void start(struct guest *g)
{
	struct vmx_sregs s;

	if (guest_create(g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cr4 |= PCIDE;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
}

/* PCID 0 reads the first page; PCID 2 reads the second, the entry names the third by then, and does
 * what R15 says; then CR3 = R14, CR3 = R13, with a look each time. */
PAYLOAD(two, "mov 0x201000,%rax\n movq $0x101003,0x8008\n"
	     "mov $0x4002,%ecx\n bts $63,%rcx\n mov %rcx,%cr3\n mov 0x201000,%rbx\n"
	     "movq $0x102003,0x8008\n call *%r15\n"
	     "mov %r14,%cr3\n mov 0x201000,%rcx\n mov %r13,%cr3\n mov 0x201000,%rdx\n hlt");
PAYLOAD(nothing, "ret");
PAYLOAD(invpcid, "mov 0x30000,%rsi\n invpcid 0x30008,%rsi\n ret");
PAYLOAD(invlpg, "invlpg 0x201000\n ret");
PAYLOAD(pge, "mov %cr4,%rsi\n btc $7,%rsi\n mov %rsi,%cr4\n btc $7,%rsi\n mov %rsi,%cr4\n ret");
PAYLOAD(wp, "mov %cr0,%rsi\n btc $16,%rsi\n mov %rsi,%cr0\n btc $16,%rsi\n mov %rsi,%cr0\n ret");
PAYLOAD(many, "mov $3,%ecx\n 1: lea 0x4000(%rcx),%rsi\n mov %rsi,%cr3\n mov 0x202000,%rdi\n"
	      "inc %ecx\n cmp $40,%ecx\n jb 1b\n mov $0x4002,%esi\n bts $63,%rsi\n mov %rsi,%cr3\n ret");
#define CODE_OF(name) payload_##name, payload_##name##_end

struct keep_case {
	const char *what;
	const uint8_t *action, *end;
	uint64_t back, invpcid[3]; /* CR3 on the way back to PCID 0; type and descriptor */
	uint64_t first, second;    /* what PCID 0 reads then, and PCID 2 after it */
};

static const struct keep_case keep_cases[] = {
	{ "bit 63", CODE_OF(nothing), PML4 | KEEP, { 0 }, 1, 2 },
	{ "no bit 63", CODE_OF(nothing), PML4, { 0 }, 3, 2 },
	{ "INVLPG: of the current one", CODE_OF(invlpg), PML4 | KEEP, { 0 }, 1, 3 },
	{ "INVPCID address", CODE_OF(invpcid), PML4 | KEEP, { 0, 0, 0x201000 }, 3, 2 },
	{ "INVPCID address, current", CODE_OF(invpcid), PML4 | KEEP, { 0, 2, 0x201000 }, 1, 3 },
	{ "INVPCID address, unused", CODE_OF(invpcid), PML4 | KEEP, { 0, 77, 0x201000 }, 1, 2 },
	{ "INVPCID context", CODE_OF(invpcid), PML4 | KEEP, { 1, 0, 0 }, 3, 2 },
	{ "INVPCID context, current", CODE_OF(invpcid), PML4 | KEEP, { 1, 2, 0 }, 1, 3 },
	{ "INVPCID all", CODE_OF(invpcid), PML4 | KEEP, { 2, 0, 0 }, 3, 3 },
	{ "INVPCID all but global", CODE_OF(invpcid), PML4 | KEEP, { 3, 0, 0 }, 3, 3 },
	{ "CR4.PGE", CODE_OF(pge), PML4 | KEEP, { 0 }, 3, 3 },
	{ "CR0.WP", CODE_OF(wp), PML4 | KEEP, { 0 }, 3, 3 },
	{ "more than there are images", CODE_OF(many), PML4 | KEEP, { 0 }, 3, 3 },
};

static void test_keep(void)
{
	for (size_t i = 0; i < sizeof(keep_cases) / sizeof(keep_cases[0]); i++) {
		const struct keep_case *c = &keep_cases[i];
		struct guest g;

		start(&g);
		LOAD(&g, CODE, two);
		memcpy(g.ram + ACTION, c->action, (size_t)(c->end - c->action));
		memcpy(g.ram + DATA, c->invpcid, sizeof(c->invpcid));
		set_pte(&g, 1, FRAME_1 | PTE_RW);
		set_pte(&g, 2, FRAME_1 | PTE_RW);
		*q(&g, FRAME_1) = 1;
		*q(&g, FRAME_2) = 2;
		*q(&g, FRAME_3) = 3;
		guest_set_reg(&g, VMX_R15, ACTION);
		guest_set_reg(&g, VMX_R14, c->back);
		guest_set_reg(&g, VMX_R13, PML4 | 2 | KEEP);
		CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 1);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 2);
		if (guest_reg(&g, VMX_RCX) != c->first || guest_reg(&g, VMX_RDX) != c->second) {
			printf("%s: %d %d\n", c->what, (int)guest_reg(&g, VMX_RCX),
			       (int)guest_reg(&g, VMX_RDX));
			CU_FAIL("another page than expected");
		}
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_CR3), PML4 | 2);
		guest_destroy(&g);
	}
}

/* Two programs at one address, one after the other; PCID 0's changes while PCID 2 is in use. */
PAYLOAD(enter, "push $0x23\n push $0x202ff0\n push $2\n push $0x2b\n push $0x201000\n iretq");
PAYLOAD(program_a, "add $1,%rsi\n int $0x40\n mov $0x201000,%eax\n jmp *%rax");
PAYLOAD(program_b, "add $127,%rsi\n int $0x40\n mov $0x201000,%eax\n jmp *%rax");
PAYLOAD(handler, "inc %ebx\n cmp $100,%ebx\n je 2f\n cmp $50,%ebx\n jne 1f\n movb $2,0x100003\n"
		 "1: xchg %r14,%r13\n mov %r14,%cr3\n iretq\n 2: hlt");

/* The second set of tables, with another page there. */
static void start_two(struct guest *g)
{
	start(g);
	LOAD(g, CODE, enter);
	LOAD(g, FRAME_1, program_a);
	LOAD(g, FRAME_2, program_b);
	set_gate(g, 0x40, HANDLER, 3);
	set_pte(g, 1, FRAME_1 | PTE_RW | PTE_USER);
	q(g, PT0)[FRAME_1 >> 12] = FRAME_1 | PTE_RW;
	memcpy(g->ram + TABLES_B, g->ram + PML4, 0x1000);
	memcpy(g->ram + TABLES_B + 0x1000, g->ram + PDPT, 0x1000);
	memcpy(g->ram + TABLES_B + 0x2000, g->ram + PD, 0x1000);
	*q(g, TABLES_B) = (TABLES_B + 0x1000) | PTE_RW | PTE_USER;
	*q(g, TABLES_B + 0x1000) = (TABLES_B + 0x2000) | PTE_RW | PTE_USER;
	q(g, TABLES_B + 0x2000)[1] = (TABLES_B + 0x3000) | PTE_RW | PTE_USER;
	q(g, TABLES_B + 0x3000)[1] = FRAME_2 | PTE_RW | PTE_USER;
	guest_set_reg(g, VMX_R14, PML4 | KEEP);
	guest_set_reg(g, VMX_R13, TABLES_B | 2 | KEEP);
}

static void test_code(void)
{
	struct guest g;

	start_two(&g);
	LOAD(&g, HANDLER, handler);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 100);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSI), 25 * 1 + 25 * 2 + 50 * 127);
	guest_destroy(&g);
}

/* The first program has come back, its branches with it, and gets another page. */
PAYLOAD(handler_remap, "inc %ebx\n cmp $100,%ebx\n je 2f\n xchg %r14,%r13\n mov %r14,%cr3\n"
		       "test $7,%bl\n jnz 1f\n xorq $0x2000,0x8008\n invlpg 0x201000\n 1: iretq\n 2: hlt");

static void test_code_remap(void)
{
	unsigned sum = 0, add = 1;
	struct guest g;

	for (unsigned n = 0; n < 100; n++) { /* so many were before */
		if (n && n % 8 == 0)
			add ^= 1 ^ 3;
		sum += n & 1 ? 127 : add;
	}
	start_two(&g);
	LOAD(&g, HANDLER, handler_remap);
	LOAD(&g, FRAME_3, program_a);
	g.ram[FRAME_3 + 3] = 3; /* add $3 */
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RSI), sum);
	guest_destroy(&g);
}

/* A page that gets code is not written behind the translator's back through what another PCID kept. */
PAYLOAD(write, "movb $1,0x201000\n mov $0x4002,%ecx\n bts $63,%rcx\n mov %rcx,%cr3\n"
	       "mov $100,%ebx\n 1: mov $0x100001,%eax\n call *%rax\n dec %ebx\n jnz 1b\n"
	       "mov $0x4000,%ecx\n bts $63,%rcx\n mov %rcx,%cr3\n movb $9,0x201002\n"
	       "mov $0x100001,%eax\n call *%rax\n hlt");

static void test_write(void)
{
	static const uint8_t code[] = { 0, 0xba, 1, 0, 0, 0, 0xc3 }; /* mov $1,%edx; ret */
	struct guest g;

	start(&g);
	LOAD(&g, CODE, write);
	memcpy(g.ram + FRAME_1, code, sizeof(code));
	set_pte(&g, 1, FRAME_1 | PTE_RW);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDX), 9);
	guest_destroy(&g);
}

/* #GP(0): handler in the IDT halts with the error code on the stack. */
PAYLOAD(cr3_63, "mov $0x4000,%eax\n bts $63,%rax\n mov %rax,%cr3\n hlt");
PAYLOAD(pcide, "mov %cr4,%rax\n bts $17,%rax\n mov %rax,%cr4\n hlt");
PAYLOAD(pg, "mov %cr0,%rax\n btr $31,%rax\n mov %rax,%cr0\n hlt");
PAYLOAD(just_invpcid, "mov 0x30000,%rsi\n invpcid 0x30008,%rsi\n hlt");
PAYLOAD(fault, "mov $0xfa11,%r12d\n hlt");

struct fault_case {
	const char *what;
	const uint8_t *code, *end;
	uint64_t cr3, pcide, invpcid[3];
	bool fault;
};

static const struct fault_case fault_cases[] = {
	{ "bit 63 without PCIDs", CODE_OF(cr3_63), PML4, 0, { 0 }, true },
	{ "bit 63 with PCIDs", CODE_OF(cr3_63), PML4, PCIDE, { 0 }, false },
	{ "PCIDE with PCID 0", CODE_OF(pcide), PML4, 0, { 0 }, false },
	{ "PCIDE with bits in CR3", CODE_OF(pcide), PML4 | 8, 0, { 0 }, true },
	{ "paging off with PCIDE", CODE_OF(pg), PML4, PCIDE, { 0 }, true },
	{ "INVPCID type 4", CODE_OF(just_invpcid), PML4, PCIDE, { 4 }, true },
	{ "INVPCID of a high PCID", CODE_OF(just_invpcid), PML4, PCIDE, { 1, 0xfff }, false },
	{ "INVPCID reserved bit", CODE_OF(just_invpcid), PML4, PCIDE, { 2, 0x1000 }, true },
	{ "INVPCID not canonical", CODE_OF(just_invpcid), PML4, PCIDE, { 0, 0, 1ull << 47 }, true },
	{ "INVPCID not canonical, unused", CODE_OF(just_invpcid), PML4, PCIDE, { 1, 0, 1ull << 47 },
	  false },
	{ "INVPCID PCID 1 without PCIDs", CODE_OF(just_invpcid), PML4, 0, { 1, 1 }, true },
	{ "INVPCID PCID 0 without PCIDs", CODE_OF(just_invpcid), PML4, 0, { 1, 0 }, false },
	{ "INVPCID all, PCID 1 without", CODE_OF(just_invpcid), PML4, 0, { 2, 1 }, false },
};

static void test_faults(void)
{
	for (size_t i = 0; i < sizeof(fault_cases) / sizeof(fault_cases[0]); i++) {
		const struct fault_case *c = &fault_cases[i];
		struct vmx_sregs s;
		struct guest g;

		start(&g);
		CU_ASSERT_EQUAL(vmx_vcpu_read_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
		s.cr3 = c->cr3;
		s.cr4 = (s.cr4 & ~PCIDE) | c->pcide;
		CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
		memcpy(g.ram + CODE, c->code, (size_t)(c->end - c->code));
		memcpy(g.ram + DATA, c->invpcid, sizeof(c->invpcid));
		LOAD(&g, HANDLER, fault);
		set_gate(&g, 13, HANDLER, 0);
		CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
		if ((guest_reg(&g, VMX_R12) == 0xfa11) != c->fault) {
			printf("%s\n", c->what);
			CU_FAIL("a fault too many or too few");
		}
		guest_destroy(&g);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "what stays and what goes", test_keep },
		{ "branches of two programs", test_code },
		{ "a program that came back is mapped anew", test_code_remap },
		{ "writes over code", test_write },
		{ "faults", test_faults },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("pcid", tests));
}
