/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_moved.c - a library's pages at several linear addresses: one translation serves all but the first
 * (JIT_MOVED), whatever in it depends on where it stands, and is as what the stepper does there.
 */
#include "common/checked.h"
#include "tests/unit/soft_modes.h"

#define LIBRARY 0x100000u /* in RAM: two pages of code and two of data */
#define CODE_BYTES 0x2000u
#define ALL_BYTES 0x4000u
#define USER_STACK_PAGE 200u
#define USER_STACK (0x200000u + (USER_STACK_PAGE + 1) * 4096u)
#define HANDLERS 0x21000u

/* rbp: where it stands, r9d: 0, or the immediate that its function in the other page has from now on. */
PAYLOAD(library,
	"0: xor %r13d,%r13d\n xor %r14d,%r14d\n xor %r15d,%r15d\n xor %r8d,%r8d\n"
	/* data from here on: read, changed, written, its address with 64 and 32 bits */
	"lea 0b(%rip),%rbx\n sub %rbp,%rbx\n add %rbx,%r15\n"
	"lea 9f(%eip),%edx\n mov %rdx,%rax\n shr $32,%rax\n add %rax,%r14\n sub %ebp,%edx\n add %rdx,%r15\n"
	"mov 9f(%rip),%eax\n add %eax,9f+8(%rip)\n movl $7,9f+0xffe(%rip)\n movups 9f+16(%rip),%xmm0\n"
	"movd %xmm0,%eax\n add %rax,%r14\n addr32 mov 9f+8(%eip),%eax\n add %rax,%r14\n"
	"lea 9f(%rip),%rsi\n cmpb $1,9f-0b(%rbp)\n adc $0,%r14\n"
	"call 7f\n test %r9d,%r9d\n jz 1f\n mov %r9d,7f+3(%rip)\n"
	/* calls: in this page, to the other one, through a register and memory, of an address that is popped */
	"1: mov $20,%ecx\n 2: call 6f\n call 7f\n dec %ecx\n jnz 2b\n"
	"lea 7f(%rip),%rdi\n call *%rdi\n mov %rdi,9f+24(%rip)\n call *9f+24(%rip)\n call 8f\n"
	"call 3f\n 3: pop %rax\n sub %rbp,%rax\n add %rax,%r15\n"
	/* a loop over an array, with something else on the way */
	"mov $300,%ecx\n 4: mov (%rsi),%eax\n add 9f+4(%rip),%eax\n add %eax,%r14d\n mov %r14d,9f+32(%rip)\n"
	"add $4,%rsi\n dec %ecx\n jnz 4b\n"
	/* an operation, a fault of memory while the flags are a recipe, a trap of the processor */
	"xor %eax,%eax\n cpuid\n add %rax,%r14\n"
	"cmp $5,%r13d\n mov (%r8),%edx\n seta %al\n movzbl %al,%eax\n add %rax,%r14\n"
	"xor %edx,%edx\n div %r8d\n add $1,%r14\n int $0x80\n"
	"6: add $1,%r13d\n test $3,%r13b\n jnz 5f\n jmp 10f\n 5: ret\n"
	/* an instruction that lies in both pages */
	".org payload_library+0xffd\n 8: add $0x11223344,%r13d\n ret\n"
	"7: add $0x1000,%r13d\n lea 7b(%rip),%rax\n sub %rbp,%rax\n add %rax,%r15\n jmp 5b\n"
	"10: add $3,%r14\n ret\n"
	".org payload_library+0x2000\n 9:");
/* Exceptions 0 and 14: where, and on behind the instruction: of 3 bytes either. 0x80: the end. */
PAYLOAD(handlers, "add $8,%rsp\n mov (%rsp),%rax\n sub %rbp,%rax\n lea (%r15,%r15,2),%r15\n add %rax,%r15\n"
		  "addq $3,(%rsp)\n iretq\n .org payload_handlers+0x40\n push $0\n jmp payload_handlers\n"
		  ".org payload_handlers+0x80\n hlt");

static const enum vmx_reg results[] = { VMX_R13, VMX_R14, VMX_R15, VMX_RSP };

struct outcome {
	uint64_t reg[ARRAY_SIZE(results)];
	uint8_t library[ALL_BYTES];
	uint64_t translations;
};

/* The tables' first 1 GiB stands at these addresses as well. */
static void make_guest(struct guest *g, uint32_t debug)
{
	CU_ASSERT_TRUE_FATAL(guest_create(g, debug) >= 0);
	q(g, PDPT)[3] = PD | 7;
	q(g, PML4)[170] = PDPT | 7;
	LOAD(g, LIBRARY, library);
	LOAD(g, HANDLERS, handlers);
	set_gate(g, 14, HANDLERS, 0);
	set_gate(g, 0, HANDLERS + 0x40, 0);
	set_gate(g, 0x80, HANDLERS + 0x80, 3);
	set_pte(g, USER_STACK_PAGE, 0x110000u | PTE_RW | PTE_USER);
}

static void map_library(struct guest *g, uint64_t base)
{
	for (unsigned i = 0; i < ALL_BYTES >> 12; i++)
		set_pte(g, (base >> 12 & 511) + i, (LIBRARY + i * 4096u) | PTE_RW | PTE_USER);
	for (unsigned i = CODE_BYTES; i < ALL_BYTES; i += 4)
		*(uint32_t *)(void *)(g->ram + LIBRARY + i) = i * 0x9e3779b1u;
}

static void run_at(struct guest *g, uint64_t base, uint64_t imm, struct outcome *ret)
{
	const enum vmx_reg names[] = { VMX_RIP, VMX_RSP, VMX_RFLAGS, VMX_RBP, VMX_R9 };
	const uint64_t values[] = { base, USER_STACK, 2, base, imm };
	struct vmx_sregs s;

	map_library(g, base);
	CU_ASSERT_TRUE_FATAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)) >= 0);
	s.cs = guest_segment(0x2b, 0xa0fb);
	s.ss = guest_segment(0x23, 0xc0f3);
	CU_ASSERT_TRUE_FATAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)) >= 0);
	CU_ASSERT_TRUE_FATAL(vmx_vcpu_set_regs(g->cpu, names, ARRAY_SIZE(names), values) >= 0);
	CU_ASSERT_EQUAL(guest_resume(g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(g, VMX_RIP), HANDLERS + 0x81);
	CU_ASSERT_TRUE(vmx_vcpu_get_regs(g->cpu, results, ARRAY_SIZE(results), ret->reg) >= 0);
	memcpy(ret->library, g->ram + LIBRARY, ALL_BYTES);
	ret->translations = guest_stat(g, "translations");
}

static const struct {
	uint64_t base, imm;
} runs[] = {
	{ 0x210000, 0 }, { 0x550000000000 + 0x240000, 0 }, { 0xc0000000 + 0x280000, 0 }, { 0x2a0000, 0 },
	{ 0x210000, 0 }, { 0x5500c0000000 + 0x300000, 0 }, { 0x210000, 5 }, { 0x2a0000, 6 },
	{ 0x550000000000 + 0x240000, 0 }, { 0x210000, 0 }, { 0xc0000000 + 0x280000, 9 },
};
#define MOVED_FROM 2u /* all code was translated at a second address */
#define CHANGED_FROM 6u

static void run_all(uint32_t debug, struct outcome ret[ARRAY_SIZE(runs)])
{
	struct guest g;

	make_guest(&g, debug);
	for (unsigned i = 0; i < ARRAY_SIZE(runs); i++)
		run_at(&g, runs[i].base, runs[i].imm, &ret[i]);
	guest_destroy(&g);
}

static void test_same(void)
{
	static struct outcome right[ARRAY_SIZE(runs)], is[ARRAY_SIZE(runs)];

	run_all(VMX_SOFT_STEP_ONLY, right);
	run_all(soft_mode, is);
	for (unsigned i = 0; i < ARRAY_SIZE(runs); i++) {
		CU_ASSERT_NOT_EQUAL(is[i].reg[0], 0);
		for (unsigned k = 0; k < ARRAY_SIZE(results); k++)
			CU_ASSERT_EQUAL(is[i].reg[k], right[i].reg[k]);
		CU_ASSERT_EQUAL(memcmp(is[i].library, right[i].library, ALL_BYTES), 0);
		if (i >= MOVED_FROM && i < CHANGED_FROM && !soft_mode)
			CU_ASSERT_EQUAL(is[i].translations, is[MOVED_FROM - 1].translations);
	}
}

/* --- twice in one address space ---------------------------------------------------------------------- */

#define TWIN 0x108000u /* what the other one has for its second and third page */

/* rbp: where it stands, r9: where else. Either calls the other; what it adds is its own, before and after:
 * data, and an instruction that ends in its own second page. */
PAYLOAD(twin,
	"mov $60,%ecx\n xor %r13d,%r13d\n xor %r14d,%r14d\n xor %r15d,%r15d\n lea 1f(%rip),%rbx\n"
	"mov %rbp,%r12\n xor %r9,%r12\n call 1f\n int $0x80\n"
	"1: add 9f(%rip),%r13d\n dec %ecx\n jz 2f\n xor %r12,%rbx\n call *%rbx\n xor %r12,%rbx\n"
	"2: add 9f+4(%rip),%r14d\n lea 1b(%rip),%rax\n sub %rbx,%rax\n add %rax,%r15\n call 8f\n ret\n"
	".org payload_twin+0xffd\n 8: add $0x11223344,%r13d\n ret\n .org payload_twin+0x2000\n 9:");

static void map_twin(struct guest *g, uint64_t base)
{
	unsigned first = base >> 12 & 511;

	memcpy(g->ram + TWIN, g->ram + LIBRARY + 0x1000, 0x1000);
	g->ram[TWIN] ^= 0x5a; /* of the instruction */
	for (unsigned i = 0; i < 0x1000; i += 4)
		*(uint32_t *)(void *)(g->ram + TWIN + 0x1000 + i) = ~i;
	set_pte(g, first, LIBRARY | PTE_RW | PTE_USER);
	set_pte(g, first + 1, TWIN | PTE_RW | PTE_USER);
	set_pte(g, first + 2, (TWIN + 0x1000) | PTE_RW | PTE_USER);
}

static void run_twins(uint32_t debug, struct outcome ret[3])
{
	static const uint64_t bases[] = { 0x210000, 0x550000000000 + 0x240000 };
	struct guest g;

	make_guest(&g, debug);
	LOAD(&g, LIBRARY, twin);
	for (unsigned i = 0; i < 3; i++) {
		map_twin(&g, bases[!(i & 1)]);
		run_at(&g, bases[i & 1], bases[!(i & 1)], &ret[i]);
	}
	guest_destroy(&g);
}

static void test_twins(void)
{
	static struct outcome right[3], is[3];

	run_twins(VMX_SOFT_STEP_ONLY, right);
	run_twins(soft_mode, is);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_NOT_EQUAL(is[i].reg[0], 0);
		CU_ASSERT_EQUAL(is[i].reg[2], 0);
		CU_ASSERT_EQUAL(memcmp(is[i].reg, right[i].reg, sizeof(is[i].reg)), 0);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "as the stepper, wherever it stands", test_same },
		{ "as the stepper, twice in one address space", test_twins },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITES_TRANSLATED(tests));
}
