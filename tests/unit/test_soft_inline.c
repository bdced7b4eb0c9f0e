/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_inline.c - instructions of the supervisor that translated code does in line (jit_system.c): what
 * they do, and when they are not to. Each case in every way that the engine can run a guest.
 */
#include "common/checked.h"
#include "tests/unit/soft_modes.h"

#define HANDLERS 0x21000u  /* one each HANDLER_SIZE for the exceptions: r15 = its vector; hlt */
#define HANDLER_SIZE 16u
#define GATE 0x30u         /* and the next: interrupts, which the payload handles, */
#define GATES 2u
#define GATE_AT 0x800u     /* so far from its start, and half of that further */
#define USER_CODE 0x200000 /* PT1 entry 0: the payload again, for the user */

PAYLOAD(handler, "mov $0,%r15d\n hlt"); /* the vector is put in */

#define OR_CR4(bits) "mov %cr4,%rdx\n or $" bits ",%edx\n mov %rdx,%cr4\n"
#define FSGSBASE "0x10000"
#define SMAP "0x200000"
#define TSD "4"
/* On as the user at the label 2. */
#define TO_USER "lea 2f(%rip),%rbx\n and $0xfff,%ebx\n add $0x200000,%rbx\n push $0x23\n push $0x201000\n" \
		"pushfq\n push $0x2b\n push %rbx\n iretq\n"
/* eax = eax << 1 | AC */
#define SHIFT_IN_AC "pushfq\n pop %rcx\n shr $18,%ecx\n and $1,%ecx\n lea (%rcx,%rax,2),%eax\n"

PAYLOAD(selectors, "mov $-1,%rax\n mov $-1,%r9\n mov $-1,%rbx\n mov $-1,%r13\n mov $-1,%r10\n mov $-1,%r12\n"
		   "mov %cs,%eax\n mov %ds,%r9\n mov %ss,%bx\n mov %fs,%r13d\n mov %es,%r10w\n mov %cs,%r12w\n"
		   "shl $16,%eax\n or %r9,%rax\n add %rbx,%rax\n add %r13,%rax\n add %r10,%rax\n add %r12,%rax\n hlt");
PAYLOAD(bases, OR_CR4(FSGSBASE) "movabs $0xffff800000000010,%r9\n wrfsbase %r9\n mov $-2,%rcx\n wrgsbase %ecx\n"
	       "mov $-1,%rbx\n mov $-1,%r10\n rdgsbase %rax\n rdfsbase %r10\n rdfsbase %ebx\n cmp %r9,%r10\n"
	       "jne 1f\n add %rbx,%rax\n 1: hlt");
PAYLOAD(bad_base, OR_CR4(FSGSBASE) "mov $7,%eax\n wrfsbase %rax\n movabs $0x800000000000,%rcx\n wrfsbase %rcx\n hlt");
PAYLOAD(no_base, "mov $7,%eax\n rdgsbase %rax\n hlt");
/* The clock goes on from where it was set, and RDTSCP's number is that of the MSR. */
PAYLOAD(clock, "mov $0xc0000103,%ecx\n mov $77,%eax\n xor %edx,%edx\n wrmsr\n mov $0x10,%ecx\n xor %eax,%eax\n"
	       "mov $0x12345,%edx\n wrmsr\n rdtsc\n mov %rdx,%rbx\n shl $32,%rbx\n or %rax,%rbx\n rdtscp\n"
	       "mov %rdx,%rsi\n shl $32,%rsi\n or %rax,%rsi\n cmp %rbx,%rsi\n jb 1f\n sub $0x12345,%edx\n"
	       "cmp $100,%edx\n ja 1f\n mov %ecx,%eax\n hlt\n 1: mov $1,%eax\n hlt");
PAYLOAD(user_clock, TO_USER "2: rdtsc\n shl $32,%rdx\n or %rdx,%rax\n test %rax,%rax\n setnz %al\n movzbl %al,%eax\n hlt");
PAYLOAD(user_no_clock, OR_CR4(TSD) "rdtsc\n mov $9,%eax\n" TO_USER "2: rdtsc\n ud2");
/* Each IPI, sent with IF clear, comes after the instruction behind STI; STI alone brings nothing. */
PAYLOAD(sti, "movl $0x1ff,0x1ff0f0\n xor %eax,%eax\n mov $100,%ecx\n"
	     "1: cli\n test $1,%cl\n jz 3f\n movl $0x40030,0x1ff300\n 3: xor %ebx,%ebx\n sti\n inc %ebx\n inc %ebx\n"
	     "loop 1b\n hlt\n .org payload_sti + 0x800\n add %ebx,%eax\n movl $0,0x1ff0b0\n iretq");
/* The second of two of one class waits for the first one's EOI, which is with IF clear. */
PAYLOAD(sti_eoi, "movl $0x1ff,0x1ff0f0\n xor %eax,%eax\n mov $50,%ecx\n"
		 "1: cli\n sti\n nop\n cli\n movl $0x40030,0x1ff300\n movl $0x40031,0x1ff300\n sti\n nop\n loop 1b\n hlt\n"
		 ".org payload_sti_eoi + 0x800\n add $1,%eax\n movl $0,0x1ff0b0\n iretq\n"
		 ".org payload_sti_eoi + 0xc00\n mov %eax,%ebx\n sti\n nop\n cli\n cmp %eax,%ebx\n jne 2f\n"
		 "movl $0,0x1ff0b0\n sti\n nop\n cli\n inc %ebx\n cmp %eax,%ebx\n jne 2f\n iretq\n 2: ud2");
/* The shadow ends with a RET to code that has run before, and no more than one instruction of which is to
 * run when IF has been set: the loop asks for events while it is clear. */
PAYLOAD(sti_ret, "movl $0x1ff,0x1ff0f0\n xor %eax,%eax\n mov $100,%ecx\n"
		 "1: cli\n cmp $50,%ecx\n ja 4f\n movl $0x40030,0x1ff300\n 4: mov $9,%ebx\n"
		 "2: dec %ebx\n jnz 2b\n call 3f\n cli\n inc %ebx\n dec %ecx\n jnz 1b\n hlt\n 3: sti\n ret\n"
		 ".org payload_sti_ret + 0x800\n cmp $1,%ebx\n adc $0,%eax\n movl $0,0x1ff0b0\n iretq");
/* User memory between STAC and CLAC, in straight code, past a branch and in a call; then after CLAC. */
PAYLOAD(user_memory, OR_CR4(SMAP) "mov $100,%ecx\n movabs $0x201000,%rsi\n xor %eax,%eax\n"
		     "1: push %rcx\n stac\n movl %ecx,(%rsi)\n test $1,%cl\n jz 2f\n addl $2,(%rsi)\n 2: mov (%rsi),%ebx\n"
		     "clac\n pop %rcx\n add %ebx,%eax\n push %rax\n stac\n call 3f\n clac\n pop %rax\n loop 1b\n"
		     "mov (%rsi),%ebx\n hlt\n 3: add %ebx,4(%rsi)\n ret");
/* AC follows STAC and CLAC with SMAP and without, each also where it is so already. */
PAYLOAD(ac, "mov $1,%eax\n stac\n" SHIFT_IN_AC "stac\n" SHIFT_IN_AC "clac\n" SHIFT_IN_AC "clac\n" SHIFT_IN_AC
	    OR_CR4(SMAP) SHIFT_IN_AC "stac\n" SHIFT_IN_AC "stac\n" SHIFT_IN_AC "clac\n" SHIFT_IN_AC "clac\n"
	    SHIFT_IN_AC "hlt");
/* In the shadow of STI, with an IPI waiting: that comes behind STAC, and finds AC set. */
PAYLOAD(sti_stac, OR_CR4(SMAP) "movl $0x1ff,0x1ff0f0\n mov $1,%eax\n mov $4,%edi\n"
		  "1: cli\n movl $0x40030,0x1ff300\n sti\n stac\n nop\n sti\n clac\n dec %edi\n jnz 1b\n hlt\n"
		  ".org payload_sti_stac + 0x800\n mov 16(%rsp),%rcx\n shr $18,%ecx\n and $1,%ecx\n"
		  "lea (%rcx,%rax,2),%eax\n movl $0,0x1ff0b0\n iretq");
PAYLOAD(user_stac, OR_CR4(SMAP) "mov $5,%eax\n" TO_USER "2: stac\n hlt");

#define CASE(name, rax, vector) { #name, payload_##name, payload_##name##_end, rax, vector }
static const struct {
	const char *name;
	const uint8_t *from, *to;
	uint64_t rax;
	unsigned vector; /* of the exception that ends it, or 0 */
} cases[] = {
	CASE(selectors, 0xffffffffffff0010 * 2 + 0x10 + 0x80010 + 0xffffffffffff0008, 0),
	CASE(bases, 0xfffffffeu + 0x10ull, 0),
	CASE(bad_base, 7, 13),
	CASE(no_base, 7, 6),
	CASE(clock, 77, 0),
	CASE(user_clock, 1, 13),
	CASE(user_no_clock, 9, 13),
	CASE(sti, 50, 0),
	CASE(sti_eoi, 50, 0),
	CASE(sti_ret, 50, 0),
	CASE(user_memory, 5050 + 50 * 2, 14),
	CASE(ac, 0x38c, 0),
	CASE(sti_stac, 31, 0),
	CASE(user_stac, 5, 6),
};

static void set_up(struct guest *g, size_t i)
{
	soft_start(g);
	memcpy(g->ram + CODE, cases[i].from, (size_t)(cases[i].to - cases[i].from));
	for (unsigned vector = 0; vector < 32; vector++) {
		uint32_t at = HANDLERS + vector * HANDLER_SIZE;

		LOAD(g, at, handler);
		g->ram[at + 2] = (uint8_t)vector; /* mov r15d, imm32 */
		set_gate(g, vector, at, 0);
	}
	for (unsigned k = 0; k < GATES; k++)
		set_gate(g, GATE + k, CODE + GATE_AT + k * GATE_AT / 2, 0);
	set_pte(g, 0, CODE | PTE_RW | PTE_USER);
	set_pte(g, 1, DATA | PTE_RW | PTE_USER);
}

static void test_cases(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t rax, r15;
		struct guest g;

		set_up(&g, i);
		CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
		rax = guest_reg(&g, VMX_RAX);
		r15 = guest_reg(&g, VMX_R15);
		if (rax != cases[i].rax || r15 != cases[i].vector)
			printf("\n%s: rax %#llx, vector %llu, rip %#llx\n", cases[i].name, (unsigned long long)rax,
			       (unsigned long long)r15, (unsigned long long)guest_reg(&g, VMX_RIP));
		CU_ASSERT_EQUAL(rax, cases[i].rax);
		CU_ASSERT_EQUAL(r15, cases[i].vector);
		guest_destroy(&g);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "system instructions in line", test_cases },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITES(tests));
}
