/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_code32.c - translated 32-bit code (jit_code32.c) where addresses wrap at 4 GiB, registers have
 * upper halves, segments end, and 64-bit code ran before it with pages that 32-bit code must not see.
 *
 * Each body runs in the stepper and translated, with ESP and EBX at many places, and memory must agree too.
 */
#include "common/checked.h"
#include "tests/unit/soft_twice.h"

#define TOP_AT 0x100000u   /* guest-physical: the last page below 4 GiB, */
#define BELOW_AT 0x101000u /* the one before, */
#define FIRST_AT 0x102000u /* page 0, */
#define SECOND_AT 0x103000u /* and that behind it */
#define OTHER_AT 0x104000u /* somewhere: OTHER */
#define WRONG_AT 0x110000u /* what 64-bit code has at 4 GiB and at the end of all addresses, and near */
#define TABLES 0x70000u
#define OTHER 0x203000ull
#define TOUCHES (CODE + 0x9000) /* 64-bit code: of the same L0 entries (jit_slot.c) */
#define NEAR 0x200

/* --- what runs ------------------------------------------------------------------------------------- */

#define CODE32(name, code) PAYLOAD(name, ".code32\n" code "\n.code64")
CODE32(pushes, "push %eax\n push %ebx\n push $-2\n push %ebp\n pop %edx\n pop %ecx\n pop %ebx\n pop %eax");
CODE32(frame, "push %ebp\n mov %esp,%ebp\n sub $0x20,%esp\n mov %eax,-4(%ebp)\n mov %ecx,(%esp)\n mov -4(%ebp),%edx\n"
	      "add $0x20,%esp\n mov -0x20(%esp),%eax\n pop %ebp");
CODE32(leaves, "push %ebp\n mov %esp,%ebp\n sub $0x10,%esp\n mov %edx,8(%esp)\n leave");
CODE32(moves, "mov %eax,(%esp)\n add $8,%esp\n mov -8(%esp),%ecx\n sub $0x18,%esp\n mov %edx,4(%esp)\n"
	      "lea 0x10(%esp),%esp\n mov -0xc(%esp),%ebp");
CODE32(far_moves, "mov %eax,(%esp)\n add $0x7e0,%esp\n mov -0x7e0(%esp),%ecx\n sub $0x7e0,%esp\n mov (%esp),%edx");
CODE32(calls, "push %eax\n call 1f\n pop %ecx\n jmp 2f\n 1: mov 4(%esp),%edx\n incl 4(%esp)\n ret\n2:");
CODE32(arguments, "push %eax\n push %ecx\n call 1f\n jmp 2f\n 1: mov 8(%esp),%edx\n ret $8\n2:");
CODE32(indirect, "call 1f\n 1: pop %ecx\n add $2f-1b,%ecx\n call *%ecx\n jmp 3f\n 2: mov %ecx,(%esp)\n addl $3f-2b,(%esp)\n"
		 "ret\n nop\n3:");
CODE32(pointer, "mov (%ebx),%eax\n add %ecx,4(%ebx)\n mov -4(%ebx),%edx\n xchg %eax,8(%ebx)\n mov %ah,1(%ebx)\n"
		"movzbl 3(%ebx),%ecx\n cmp %eax,-8(%ebx)\n adc $0,%edx");
CODE32(index, "mov $-1,%esi\n mov (%ebx,%esi,4),%eax\n mov %eax,4(%ebx,%esi)\n mov $4,%edi\n add (%edi,%ebx),%ecx\n"
	      "sub %ebx,%esi\n mov 8(%ebx,%esi),%edx");
CODE32(distant, "lea 0x40000000(%ebx),%esi\n mov -0x40000000(%esi),%eax\n mov -0x3ffffffc(%esi),%ecx\n"
		"movl $7,-0x3ffffff8(%esi)\n lea (%ebx,%ebx),%edi\n lea -4(%ebx,%edi,8),%dx");
CODE32(absolute, "mov 0x203010,%eax\n mov %eax,0x203020\n mov %al,0x203025\n add 0x203014,%ecx\n movl $9,0x203030\n"
		 "mov 0x20301c,%ax\n mov 0xfffffffe,%edx");
CODE32(edges, "mov 0xfffffff8,%eax\n mov 0xffffeff8,%ecx\n mov %ecx,0xfffffff0\n mov 8,%edx\n mov %edx,0x10\n"
	      "mov 0x1008,%esi");
CODE32(one_byte, "inc %eax\n dec %ecx\n inc %esp\n dec %esp\n inc %edi\n dec %ebp\n xchg %eax,%edx\n cwde\n cdq\n bswap %ecx\n"
		 "inc %ax\n nop\n dec %esi\n adc %esi,%edi");
CODE32(old, "push %ebx\n aaa\n das\n aam\n .byte 0xd6\n xlat\n pop %ebx\n pusha\n pushf\n andl $0x8d5,(%esp)\n pop %ecx\n popa\n"
	    "enter $16,$1\n leave\n push %ds\n pop %es");
CODE32(narrow, "mov $0x3010,%si\n .byte 0x67\n mov (%esi),%al\n push %ax\n pop %cx\n push %dx\n add $2,%esp\n"
	       "mov %cs:(%ebx),%eax\n mov %ss:4(%ebx),%ecx\n cmp %eax,%es:(%ebx)\n sbb %edx,%edx");
CODE32(bits, "mov $37,%ecx\n bts %ecx,(%ebx)\n setc %al\n bt %ecx,(%ebx)\n sbb %esi,%esi\n btr $5,4(%ebx)\n mov $-9,%ecx\n"
	     "btc %ecx,(%ebx)\n cmpxchg8b (%ebx)\n cmpxchg %edx,8(%ebx)\n xadd %eax,4(%ebx)");
CODE32(loops, "mov $3,%ecx\n1: inc %eax\n loop 1b\n jecxz 2f\n inc %edx\n2: mov $9,%ecx\n3: add (%ebx),%edx\n dec %ecx\n jnz 3b\n"
	      "mov %ebx,%esi\n lea 0x20(%ebx),%edi\n mov $4,%ecx\n rep movsl");
CODE32(segments, "mov %gs:0,%eax\n mov %ecx,%gs:-8\n add %gs:4,%ecx\n mov $0x10,%esi\n mov %fs:(%esi),%edx\n mov %dl,%fs:4(%esi)\n"
		 "mov %gs:-16(%esi),%esi");
CODE32(values, "push (%ebx)\n push 4(%ebx)\n push $0x12345678\n pop %eax\n pop 8(%ebx)\n pop %ecx\n push %esp\n pop %edx\n push %esp\n"
	       "pop %esp");
CODE32(flags, "cmp %eax,%ecx\n push %eax\n jb 1f\n mov (%esp),%edx\n1: setbe %dl\n pop %eax\n lea 4(%eax),%esi\n sub $5,%ecx\n"
	      "lea (%ecx,%eax),%edi\n jo 2f\n sbb %ebp,%ebp\n2:");
PAYLOAD(touch, "push %rax\n pop %rcx\n push %rax\n mov %rdx,-8(%rsp)\n pop %rdx\n mov (%rbx),%rdx\n mov %rdx,8(%rbx)\n"
	       "mov -8(%rbx),%rdx\n hlt");

static const struct body bodies[] = {
	BODY(pushes), BODY(frame), BODY(leaves), BODY(moves), BODY(far_moves), BODY(calls), BODY(arguments),
	BODY(indirect), BODY(pointer), BODY(index), BODY(distant), BODY(absolute), BODY(edges), BODY(one_byte),
	BODY(old), BODY(narrow), BODY(bits), BODY(loops), BODY(segments), BODY(values), BODY(flags),
};

/* --- where ----------------------------------------------------------------------------------------- */

static const struct place {
	const char *name;
	uint64_t around; /* ESP and EBX */
	uint64_t upper;  /* half of all registers */
	uint64_t fs_base, gs_base;
	uint32_t gs_limit;
	uint16_t gs_attributes, ds_attributes;
	bool touched;    /* 64-bit code was there before */
} places[] = {
	{ "somewhere", OTHER + 0x800, 0, 0, OTHER + 0x100, ~0u, 0xc093, 0xc093, false },
	{ "between two pages", OTHER + 0x1000, 0, OTHER, OTHER, ~0u, 0xc093, 0xc093, false },
	{ "upper halves", OTHER + 0x800, 1ull << 32, 0x100000000 + OTHER, 0x700000000 + OTHER + 8, ~0u, 0xc093, 0xc093,
	  false },
	{ "upper halves of ones", OTHER + 0x800, -1ull << 32, 0, OTHER, ~0u, 0xc093, 0xc093, true },
	{ "the end of 4 GiB", 1ull << 32, 0, 0xfffffff0, 4, ~0u, 0xc093, 0xc093, false },
	{ "the end of 4 GiB, known otherwise", 1ull << 32, 0, 0, 8, ~0u, 0xc093, 0xc093, true },
	{ "the last page", 0xfffff000, 0, 0, 0xffffffe0, ~0u, 0xc093, 0xc093, true },
	{ "the last page, upper halves", 0xfffff000, 1ull << 32, 0, OTHER, ~0u, 0xc093, 0xc093, true },
	{ "4 GiB and more", 0x800, 1ull << 32, 0, OTHER, ~0u, 0xc093, 0xc093, true },
	{ "a page and 4 GiB", 0x1000, 1ull << 32, 0, OTHER, ~0u, 0xc093, 0xc093, true },
	{ "no addresses", 0x800, 1ull << 63, 0, OTHER, ~0u, 0xc093, 0xc093, true },
	{ "GS ends", OTHER + 0x800, 0, 0, OTHER, 0xfff, 0x4093, 0xc093, false },
	{ "GS is not writable", OTHER + 0x800, 0, 0, OTHER, ~0u, 0xc091, 0xc093, false },
	{ "GS grows down", OTHER + 0x800, 0, 0, OTHER, ~0u, 0xc097, 0xc093, false },
	{ "DS is not writable", OTHER + 0x800, 0, 0, OTHER, ~0u, 0xc093, 0xc091, false },
};

static const struct {
	uint64_t va;
	uint32_t gpa;
} pages[] = {
	{ 0xfffff000, TOP_AT }, { 0xffffe000, BELOW_AT }, { 0, FIRST_AT }, { 0x1000, SECOND_AT }, { OTHER, OTHER_AT },
	{ OTHER + 0x1000, OTHER_AT + 0x1000 }, { 0x100000000, WRONG_AT }, { 0x100001000, WRONG_AT + 0x1000 },
	{ 0x1fffff000, WRONG_AT + 0x2000 }, { 0x1ffffe000, WRONG_AT + 0x3000 },
	{ 0x100000000 + OTHER, WRONG_AT + 0x4000 }, { -4096ull, WRONG_AT + 0x5000 },
	{ -8192ull, WRONG_AT + 0x6000 }, { 0xffffffff00000000 + OTHER, WRONG_AT + 0x7000 },
};

static void map(struct guest *g, uint32_t *next_table, uint64_t va, uint32_t gpa)
{
	uint32_t table = PML4;

	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *e = &q(g, table)[va >> shift & 511];

		if (!*e) {
			*e = *next_table | PTE_RW;
			*next_table += 0x1000;
		}
		table = (uint32_t)*e & ~0xfffu;
	}
	q(g, table)[va >> 12 & 511] = gpa | PTE_RW;
}

static void make_guest(struct guest *g, uint32_t mode)
{
	uint32_t next_table = TABLES;
	struct vmx_sregs s;

	twice_guest(g, mode, bodies, ARRAY_SIZE(bodies));
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		map(g, &next_table, pages[i].va, pages[i].gpa);
	/* page 1 is another one now */
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.gdtr.base = KERNEL_HIGH + GDT;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bodies); i++)
		put_body(g, TOUCHES + i * BODY_SIZE, payload_touch, payload_touch_end);
}

/* --- one run --------------------------------------------------------------------------------------- */

#define PIECES 9u
struct result {
	struct ran ran;
	uint64_t memory[PIECES];
};

/* The pieces of memory that count, NEAR bytes each. */
static uint64_t *piece(struct guest *g, unsigned i)
{
	static const uint32_t at[PIECES] = {
		TOP_AT, TOP_AT + 0x1000 - NEAR, BELOW_AT + 0x1000 - NEAR, FIRST_AT, FIRST_AT + 0x800 - NEAR / 2,
		FIRST_AT + 0x1000 - NEAR, SECOND_AT, OTHER_AT + 0x800 - NEAR / 2, OTHER_AT + 0x1000 - NEAR / 2,
	};

	return q(g, at[i]);
}

static void fill(struct guest *g)
{
	for (unsigned i = 0; i < PIECES; i++)
		for (unsigned k = 0; k < NEAR / 8; k++)
			piece(g, i)[k] = (k * 7 + i * 1000 + 1) * 0x9e3779b97f4a7c15ull;
	for (unsigned k = 0; k < NEAR; k++) /* FS and GS */
		g->ram[OTHER_AT + k] = (uint8_t)(k * 5 + 1);
}

static uint64_t sum_of(const uint64_t *words)
{
	uint64_t sum = 0;

	for (unsigned k = 0; k < NEAR / 8; k++)
		sum = (sum ^ words[k]) * 0x100000001b3ull + (sum >> 40);
	return sum;
}

static void set_segments(struct guest *g, const struct place *p, bool code64)
{
	struct vmx_sregs s;

	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cs = guest_segment(8, code64 ? 0xa09b : 0xc09b);
	s.ss = s.es = s.fs = s.gs = guest_segment(0x10, 0xc093);
	s.ds = guest_segment(0x10, p->ds_attributes);
	s.fs.base = p->fs_base;
	s.gs = guest_segment(0x10, p->gs_attributes);
	s.gs.base = p->gs_base;
	s.gs.limit = p->gs_limit;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
}

static void start(struct guest *g, const struct place *p, unsigned body, uint64_t at, bool code64)
{
	const uint64_t low = p->around + at, u = p->upper;
	struct vmx_regs regs = {
		.rax = u | 0x12345678, .rcx = u | 0x44444444, .rdx = u | 0x5555, .rbx = u + (uint32_t)(low ^ (at & 4) * 8),
		.rsp = u + (uint32_t)low, .rbp = u | 0x6666, .rsi = u | 0x77, .rdi = u | 0x88, .r8 = 8, .r9 = ~9ull,
		.r10 = 10, .r11 = 11, .r12 = 12, .r13 = ~13ull, .r14 = 14, .r15 = 15,
		.rip = (code64 ? TOUCHES : BODIES) + body * BODY_SIZE, .rflags = at & 64 ? 0x8d7 : 2,
	};

	if (code64 && !u) /* as 32-bit code might take it, did it not wrap */
		regs.rbx = low, regs.rsp = low;
	set_segments(g, p, code64);
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g->cpu, VMX_STATE_REGS, &regs, sizeof(regs)), 0);
}

static uint64_t offset_of(unsigned step)
{
	return (uint64_t)(int64_t)((int)step * 4 - 0x78) + (step % 7 == 3);
}

static void run_body(struct guest *g, size_t place, unsigned body, unsigned step, void *result)
{
	const struct place *p = &places[place];
	struct result *r = result;

	if (p->touched) {
		start(g, p, body, offset_of(step), true);
		CU_ASSERT_EQUAL(guest_resume(g), VMX_EXIT_HALT);
	}
	fill(g);
	guest_set_reg(g, VMX_CR2, 0);
	memset(g->ram + IST - 64, 0, 64);
	start(g, p, body, offset_of(step), false);
	take_ran(g, guest_resume(g), &r->ran);
	for (unsigned i = 0; i < PIECES; i++)
		r->memory[i] = sum_of(piece(g, i));
}

static void show(const char *how, const void *result)
{
	const struct result *r = result;

	show_ran(how, &r->ran);
	printf(", memory");
	for (unsigned i = 0; i < PIECES; i++)
		printf(" %04llx", (unsigned long long)r->memory[i] & 0xffff);
	printf("\n");
}

static const char *name_of(struct guest *g, size_t place)
{
	(void)g;
	return places[place].name;
}

#define STEPS 61u
#define RESULTS (ARRAY_SIZE(places) * ARRAY_SIZE(bodies) * STEPS)

static void test_bodies(void)
{
	static const struct twice twice = {
		.bodies = bodies, .body_count = ARRAY_SIZE(bodies), .place_count = ARRAY_SIZE(places),
		.steps = STEPS, .result_size = sizeof(struct result),
		.make = make_guest, .enter = name_of, .run = run_body, .show = show,
	};
	struct result *results = calloc(RESULTS, sizeof(*results)), got;
	size_t whole = 0; /* is what they agree about worth anything? */

	CU_ASSERT_PTR_NOT_NULL_FATAL(results);
	twice_run(&twice, VMX_SOFT_STEP_ONLY, results, NULL);
	for (size_t i = 0; i < RESULTS; i++)
		whole += results[i].ran.regs.rip >= BODIES;
	CU_ASSERT_TRUE(whole > RESULTS / 2 && RESULTS - whole > RESULTS / 20);
	CU_ASSERT_EQUAL(twice_run(&twice, soft_mode, results, &got), 0);
	free(results);
}

/* --- code at the end of 4 GiB -------------------------------------------------------------------------- */

CODE32(last, "1: inc %eax\n dec %ecx\n jnz 1b\n cmp $5,%edx\n je .+0x20"); /* that far is page 0 */
CODE32(first, "add $3,%esi\n hlt");

/* Goes on at 0, by running on or by a jump; or an instruction is cut off there. */
static void test_wrapping_code(void)
{
	for (unsigned how = 0; how < 3; how++) {
		struct result r[2];

		for (unsigned k = 0; k < 2; k++) {
			const size_t n = (size_t)(payload_last_end - payload_last) - (how == 2);
			const struct place *p = &places[0];
			struct guest g;
			make_guest(&g, k ? soft_mode : VMX_SOFT_STEP_ONLY);
			memcpy(g.ram + TOP_AT + 0x1000 - n, payload_last, n);
			memcpy(g.ram + FIRST_AT, payload_first, (size_t)(payload_first_end - payload_first));
			memcpy(g.ram + FIRST_AT + 0x1e, "\x47\xf4", 2); /* where the jump goes: inc edi; hlt */
			start(&g, p, 0, 0, false);
			guest_set_reg(&g, VMX_RIP, 0x100000000 - n);
			guest_set_reg(&g, VMX_RCX, 300);
			guest_set_reg(&g, VMX_RDX, how == 1 ? 5 : 4);
			memset(&r[k], 0, sizeof(r[k]));
			take_ran(&g, guest_resume(&g), &r[k].ran);
			guest_destroy(&g);
		}
		CU_ASSERT_EQUAL(r[0].ran.regs.rip, how == 0 ? 4 : how == 1 ? 0x20 : HANDLERS + 13 * 16 + 1u);
		if (memcmp(&r[0], &r[1], sizeof(r[0])) != 0) {
			CU_FAIL("code at the end of 4 GiB");
			show("stepped", &r[0]);
			show("now", &r[1]);
		}
	}
}

/* --- is it translated? ------------------------------------------------------------------------------------ */

CODE32(busy, "1: push %eax\n call 2f\n pop %edx\n add %gs:0,%edx\n mov (%ebx),%eax\n lea 1(%eax,%edx),%eax\n mov %eax,0x203040\n"
	     "dec %ecx\n jnz 1b\n hlt\n 2: incl 4(%esp)\n ret");

static void test_translated(void)
{
	struct guest g;
	uint64_t before;

	make_guest(&g, soft_mode);
	put_body(&g, BODIES, payload_busy, payload_busy_end);
	start(&g, &places[0], 0, 0, false);
	guest_set_reg(&g, VMX_RCX, 1000);
	before = guest_stat(&g, "steps");
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RCX), 0);
	CU_ASSERT_TRUE(guest_stat(&g, "steps") - before < 50);
	guest_destroy(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "like the stepper", test_bodies },
		{ "code that wraps", test_wrapping_code },
		{ "translated", test_translated },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITES_TRANSLATED(tests));
}
