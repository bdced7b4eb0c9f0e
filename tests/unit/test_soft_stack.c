/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_stack.c - stretches of stack accesses (jit_stack.c) at the border of two pages, of which one
 * may be missing, read-only, a device, full of code or no address at all.
 *
 * Each body runs in the stepper and translated, from every place near the border, and memory and each access
 * to the device must agree too.
 */
#include "common/checked.h"
#include "tests/unit/soft_twice.h"

#define LOW_AT 0x100000u  /* guest-physical */
#define HIGH_AT 0x110000u
#define OTHER_AT 0x120000u /* and the next one */
#define DEVICE_AT 0xd0000000u
#define OTHER 0x205000ull /* PT1 entry 5: what another register points at */
#define BORDER 0x203000ull
#define FLUSH (CODE + 0x800)
#define FLUSH_ALL (CODE + 0x880)
#define HOLE 0x800000000000ull    /* one beyond the last canonical address of the lower half */
#define INVALID 0x8000000000000000ull /* what entries of L0 have that are empty */
#define NEAR 0x180          /* bytes around the border that count */
#define EXITS_MAX 24u

/* --- what runs ------------------------------------------------------------------------------------- */

/* RDI points at OTHER or, if that is wanted, at a page that is missing; RSI at OTHER or the page behind, in
 * turn, so that what is read there is not found by L0. */
PAYLOAD(pushes, "push %rax\n push %rbx\n push %r9\n push %rbp\n push %r12\n push %r10\n inc %rax\n"
		"pop %rbx\n pop %rax\n pop %r11\n pop %rcx\n pop %r13\n pop %r8");
PAYLOAD(frame, "push %rbp\n push %rbx\n sub $0x38,%rsp\n mov %rax,8(%rsp)\n mov %ecx,0x1c(%rsp)\n"
	       "movb $7,0x2f(%rsp)\n addq $3,8(%rsp)\n mov 8(%rsp),%rdx\n add $0x38,%rsp\n pop %rax\n pop %rbp");
PAYLOAD(lea, "lea -0x40(%rsp),%rsp\n mov %rax,(%rsp)\n mov %rbx,0x38(%rsp)\n lea 0x40(%rsp),%rsp\n"
	     "mov %rcx,-8(%rsp)\n mov -0x40(%rsp),%rdx\n cmp %rdx,-8(%rsp)\n setb %al");
PAYLOAD(lea_down, "push %rax\n lea -0x30(%rsp),%rsp\n mov %rbx,(%rsp)\n mov 0x28(%rsp),%rcx\n"
		  "lea 0x30(%rsp),%rsp\n pop %rdx");
PAYLOAD(calls, "push %rax\n call 1f\n pop %rbx\n jmp 2f\n"
	       "1: push %rbx\n sub $16,%rsp\n mov %rsp,%rdx\n movq $5,(%rsp)\n add $16,%rsp\n pop %rcx\n ret\n2:");
PAYLOAD(between, "push %rax\n mov (%rsi),%rcx\n push %rcx\n mov %rdx,8(%rdi)\n push %rbx\n add 16(%rsi),%rbx\n"
		 "mov %rbx,8(%rsp)\n pop %rax\n pop %rcx\n mov %rcx,(%rdi)\n pop %rdx");
PAYLOAD(missed, "push %rax\n mov (%rsi),%rcx\n mov %rcx,(%rsp)\n mov 8(%rsi),%rdx\n pop %rbx");
PAYLOAD(indexed, "push %rax\n mov (%rsi,%r9),%rcx\n push %rcx\n add 8(%rsi,%r10),%rbx\n pop %rdx\n pop %rax");
PAYLOAD(returns, "lea 1f(%rip),%rax\n push %rax\n push %rbx\n push %rcx\n lea 2f(%rip),%rdx\n jmp *%rdx\n"
		 "2: pop %rbx\n pop %rcx\n ret\n1:");
PAYLOAD(flags, "cmp %rax,%rbx\n push %rax\n push %rcx\n jb 1f\n mov %rbx,(%rsp)\n pop %rdx\n pop %rdx\n jmp 2f\n"
	       "1: pop %rbx\n setc %bl\n pop %rcx\n sbb %rdx,%rdx\n2:");
PAYLOAD(taken, "push %rcx\n push %rax\n mov %rax,-0x20(%rsp)\n test %rsp,%rsp\n jnz 1f\n pop %rbx\n pop %rbx\n"
	       "1: mov %rbx,(%rsp)\n inc %rcx\n pop %rax\n pop %rbx");
PAYLOAD(odd, "movups %xmm0,-0x18(%rsp)\n movw $0x1122,-2(%rsp)\n incl -0x30(%rsp)\n xchg %rax,-0x10(%rsp)\n"
	     "movups -0x11(%rsp),%xmm1\n movq %xmm1,%rdx\n negb -1(%rsp)\n mov 4(%rsp),%ecx");
PAYLOAD(itself, "push %rsp\n push %rsp\n pop %rax\n pop %rbx\n push %rsp\n pop %rsp\n push %rbx\n mov %rsp,%rcx\n"
		"mov %rcx,(%rsp)\n pop %rdx");
PAYLOAD(values, "push $-5\n push $0x12345678\n push (%rsi)\n pushfq\n pop %rax\n and $0x8d5,%eax\n pop %rbx\n pop %rcx\n"
		"pop %rdx\n push 8(%rsi)\n pop 16(%rdi)");
PAYLOAD(leaves, "push %rbp\n mov %rsp,%rbp\n sub $0x28,%rsp\n mov %rax,-8(%rbp)\n mov %rbx,(%rsp)\n"
		"push %rcx\n mov -0x30(%rbp),%rdx\n leave");
PAYLOAD(switches, "push %rax\n push %rbx\n mov %rsp,%r12\n lea 0x100(%rsi),%rsp\n push %rcx\n push %rdx\n pop %r13\n"
		  "pop %r14\n mov %r12,%rsp\n pop %rdx\n pop %rcx");
PAYLOAD(on_stack, "mov $0xc3c0ff48,%ecx\n push %rcx\n call *%rsp\n incb 2(%rsp)\n push %rax\n pop %rbx\n" /* inc %rax */
		  "movl $0xc3c1ff48,(%rsp)\n call *%rsp\n pop %rdx");
PAYLOAD(arguments, "push %rax\n push %rbx\n call 1f\n jmp 2f\n 1: mov 8(%rsp),%rcx\n add 16(%rsp),%rcx\n ret $16\n2:");
PAYLOAD(flush, "invlpg (%rax)\n invlpg (%rbx)\n hlt");
PAYLOAD(flush_all, "mov %cr3,%rax\n mov %rax,%cr3\n hlt");

static const struct body bodies[] = {
	BODY(pushes), BODY(frame), BODY(lea), BODY(calls), BODY(between), BODY(flags), BODY(taken),
	BODY(lea_down), BODY(missed), BODY(indexed), BODY(returns), BODY(odd), BODY(itself), BODY(values),
	BODY(leaves), BODY(switches), BODY(on_stack), BODY(arguments),
};

/* --- where ----------------------------------------------------------------------------------------- */

#define LOW_RW (LOW_AT | PTE_RW)
#define HIGH_RW (HIGH_AT | PTE_RW)

static const struct place {
	const char *name;
	uint64_t border, low, high; /* entries of the page tables */
	bool other_missing;
	uint32_t code_at;           /* guest-physical: a RET there has run before; 0: none */
} places[] = {
	{ "two pages", BORDER, LOW_RW, HIGH_RW, false, 0 },
	{ "the lower page is missing", BORDER, 0, HIGH_RW, false, 0 },
	{ "the upper page is missing", BORDER, LOW_RW, 0, false, 0 },
	{ "two pages again, what else is written is missing", BORDER, LOW_RW, HIGH_RW, true, 0 },
	{ "the lower page is read-only", BORDER, LOW_AT | 1, HIGH_RW, false, 0 },
	{ "the upper page is read-only", BORDER, LOW_RW, HIGH_AT | 1, false, 0 },
	{ "both are one page", BORDER, LOW_RW, LOW_RW, false, 0 },
	{ "the lower page is a device", BORDER, DEVICE_AT | PTE_RW, HIGH_RW, false, 0 },
	{ "the upper page is a device", BORDER, LOW_RW, DEVICE_AT | PTE_RW, false, 0 },
	{ "code in the lower page", BORDER, LOW_RW, HIGH_RW, false, LOW_AT + 0xfd0 },
	{ "code in the upper page", BORDER, LOW_RW, HIGH_RW, false, HIGH_AT + 0x20 },
	{ "the end of the lower half", HOLE, LOW_RW, 0, false, 0 },
	{ "the begin of the upper half", -HOLE, 0, HIGH_RW, false, 0 },
	{ "no addresses", INVALID + 0x1000, 0, 0, false, 0 },
};

static uint64_t *pte(struct guest *g, uint64_t va)
{
	return va < 0x400000 ? &q(g, PT1)[va >> 12 & 511] : &q(g, va >> 63 ? 0x7c000 : 0x7b000)[va >> 12 & 511];
}

static void make_guest(struct guest *g, uint32_t mode)
{
	twice_guest(g, mode, bodies, ARRAY_SIZE(bodies));
	/* the two ends of the hole between the halves of the address space */
	q(g, PML4)[255] = 0x78000 | PTE_RW;
	q(g, PML4)[256] = 0x79000 | PTE_RW;
	q(g, 0x78000)[511] = 0x7a000 | PTE_RW;
	q(g, 0x7a000)[511] = 0x7b000 | PTE_RW;
	q(g, 0x79000)[0] = 0x7d000 | PTE_RW;
	q(g, 0x7d000)[0] = 0x7c000 | PTE_RW;
	LOAD(g, FLUSH, flush);
	LOAD(g, FLUSH_ALL, flush_all);
}

static void run_at(struct guest *g, uint64_t rip, uint64_t rsp, uint64_t rax, uint64_t rbx)
{
	guest_set_reg(g, VMX_RIP, rip);
	guest_set_reg(g, VMX_RSP, rsp);
	guest_set_reg(g, VMX_RAX, rax);
	guest_set_reg(g, VMX_RBX, rbx);
	CU_ASSERT_EQUAL(guest_resume(g), VMX_EXIT_HALT);
}

static void set_page(struct guest *g, uint64_t va, uint64_t value)
{
	if (va < HOLE || va >= -HOLE)
		*pte(g, va) = value;
}

/* Gives its name. */
static const char *set_place(struct guest *g, size_t place)
{
	const struct place *p = &places[place];

	set_page(g, p->border, p->high);
	set_page(g, p->border - 4096, p->low);
	set_page(g, OTHER, OTHER_AT | PTE_RW);
	set_page(g, OTHER + 0x1000, (OTHER_AT + 0x1000) | PTE_RW);
	run_at(g, p->low || p->high ? FLUSH : FLUSH_ALL, STACK, p->border, p->border - 4096);
	return p->name;
}

/* --- one run --------------------------------------------------------------------------------------- */

struct access {
	uint64_t gpa, data, size, write;
};

struct result {
	struct ran ran;
	uint64_t exits;
	struct access exit[EXITS_MAX];
	uint8_t low[NEAR], high[NEAR], other[2][0x110];
};

static void fill(struct guest *g)
{
	for (unsigned i = 0; i < NEAR; i++) {
		g->ram[LOW_AT + 0x1000 - NEAR + i] = (uint8_t)(i * 7 + 1);
		g->ram[HIGH_AT + i] = (uint8_t)(i * 5 + 2);
		g->ram[LOW_AT + i] = (uint8_t)(i * 3 + 4);
	}
	for (unsigned i = 0; i < 0x110; i++)
		g->ram[OTHER_AT + i] = g->ram[OTHER_AT + 0x1000 + i] = (uint8_t)(i * 11 + 3);
	memset(g->ram + IST - 64, 0, 64);
}

/* What is among the stack's bytes was there before: the guest calls it, so that it is translated. */
static void put_code(struct guest *g, uint32_t at)
{
	if (!at)
		return;
	g->ram[at] = 0xf4;
	CU_ASSERT_EQUAL(vmx_vm_written(g->vm, at, 1), 0);
	run_at(g, at, STACK, 0, 0);
}

/* The device gives what can be told apart and takes all. */
static void answer(struct guest *g, struct result *r)
{
	struct access *a = &r->exit[r->exits++];
	const uint64_t data = 0x1122334455667788ull * (r->exits + 1) ^ g->exit.mem.gpa;

	*a = (struct access){ .gpa = g->exit.mem.gpa, .size = g->exit.mem.size, .write = g->exit.mem.write };
	memcpy(a->write ? (void *)&a->data : (void *)g->exit.mem.buf,
	       a->write ? (const void *)g->exit.mem.buf : (const void *)&data, a->size);
}

#define STEPS 81u /* places for RSP around the border */
#define RESULTS (ARRAY_SIZE(places) * ARRAY_SIZE(bodies) * STEPS)

/* Every fourth byte around the border, and now and then in between. */
static uint64_t rsp_at(const struct place *p, unsigned step)
{
	return p->border - 0xa0 + step * 4 + (step % 6 == 3);
}

static void run_body(struct guest *g, size_t place, unsigned body, unsigned step, void *result)
{
	const struct place *p = &places[place];
	const uint64_t rsp = rsp_at(p, step), other = OTHER + (rsp & 4) * 0x400;
	struct vmx_regs regs = {
		.rax = 0x1111111122222222, .rbx = 0x99, .rcx = 0x3333333344444444, .rdx = 0x5555, .rbp = 0x6666,
		.rsi = other, .rdi = p->other_missing ? 0x207000 : OTHER, .r8 = 8, .r9 = 9, .r10 = 16,
		.r11 = 11, .r12 = 12, .r13 = 13, .r14 = 14, .r15 = 15, .rsp = rsp,
		.rip = BODIES + body * BODY_SIZE, .rflags = rsp & 64 ? 0x8d7 : 2,
	};
	struct result *r = result;
	int reason;

	put_code(g, p->code_at);
	fill(g);
	if (p->code_at)
		g->ram[p->code_at] = 0xf4; /* as it was */
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_REGS, &regs, sizeof(regs)), 0);
	do
		reason = guest_resume(g);
	while (reason == VMX_EXIT_MEM && (answer(g, r), r->exits < EXITS_MAX));
	take_ran(g, reason, &r->ran);
	memcpy(r->low, g->ram + LOW_AT + 0x1000 - NEAR, NEAR);
	memcpy(r->high, g->ram + (p->high == LOW_RW ? LOW_AT : HIGH_AT), NEAR);
	memcpy(r->other[0], g->ram + OTHER_AT, sizeof(r->other[0]));
	memcpy(r->other[1], g->ram + OTHER_AT + 0x1000, sizeof(r->other[1]));
}

static void show(const char *how, const void *result)
{
	const struct result *r = result;

	show_ran(how, &r->ran);
	printf(", after %llu of the device\n", (unsigned long long)r->exits);
}

static void test_stretches(void)
{
	static const struct twice twice = {
		.bodies = bodies, .body_count = ARRAY_SIZE(bodies), .place_count = ARRAY_SIZE(places),
		.steps = STEPS, .result_size = sizeof(struct result),
		.make = make_guest, .enter = set_place, .run = run_body, .show = show,
	};
	struct result *results = calloc(RESULTS, sizeof(*results)), got;
	size_t whole = 0, faults = 0, device = 0; /* is what they agree about worth anything? */

	CU_ASSERT_PTR_NOT_NULL_FATAL(results);
	twice_run(&twice, VMX_SOFT_STEP_ONLY, results, NULL);
	for (size_t i = 0; i < RESULTS; i++) {
		const struct ran *ran = &results[i].ran;

		whole += ran->reason == VMX_EXIT_HALT && ran->regs.rip >= BODIES;
		faults += ran->reason == VMX_EXIT_HALT && ran->regs.rip < BODIES;
		device += results[i].exits != 0;
	}
	CU_ASSERT_TRUE(whole > RESULTS / 3 && faults > RESULTS / 8 && device > RESULTS / 20);
	CU_ASSERT_EQUAL(twice_run(&twice, soft_mode, results, &got), 0);
	free(results);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "stretches of stack accesses", test_stretches },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITES_TRANSLATED(tests));
}
