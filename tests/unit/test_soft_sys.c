/* SPDX-License-Identifier: Apache-2.0 */
/* System instructions, exceptions and privilege of the software processor, in 64-bit mode. */
#include <string.h>

#include "tests/unit/sys_rig.h"
#include "tests/unit/unit.h"

/* One instruction (sequence) and what it must end in. */
struct one {
	const char *bytes;
	unsigned len;
	int vector;
	int64_t error; /* -1: not looked at */
	uint64_t cr0, cr4; /* set besides */
};
#define B(s) s, sizeof(s) - 1

static void run_list(const struct one *list, size_t n, bool user)
{
	for (size_t i = 0; i < n; i++) {
		struct rig *r = rig_new(RIG_64);
		const uint8_t *code = (const uint8_t *)list[i].bytes;
		int vector;

		if (user)
			rig_user(r);
		r->sregs.cr0 |= list[i].cr0;
		r->sregs.cr4 |= list[i].cr4;
		vector = rig_run(r, code, code + list[i].len);
		if (vector != list[i].vector ||
		    (list[i].error >= 0 && r->error != (uint32_t)list[i].error))
			printf("\n  case %zu: vector %d error %#x, expected %d %#llx\n", i, vector,
			       r->error, list[i].vector, (unsigned long long)list[i].error);
		CU_ASSERT_EQUAL(vector, list[i].vector);
		if (list[i].error >= 0)
			CU_ASSERT_EQUAL(r->error, (uint32_t)list[i].error);
		if (vector == 6 || (vector == 13 && list[i].error >= 0))
			CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE); /* restartable */
		rig_free(r);
	}
}

static void test_privileged(void)
{
	static const struct one list[] = {
		{ B("\xf4"), 13, 0, 0, 0 },             /* hlt */
		{ B("\xfa"), 13, 0, 0, 0 },             /* cli */
		{ B("\xfb"), 13, 0, 0, 0 },             /* sti */
		{ B("\xe4\x50"), 13, 0, 0, 0 },         /* in al, 50h: bitmap ends before it */
		{ B("\xee"), 13, 0, 0, 0 },             /* out dx, al */
		{ B("\x0f\x20\xc0"), 13, 0, 0, 0 },     /* mov rax, cr0 */
		{ B("\x0f\x22\xd8"), 13, 0, 0, 0 },     /* mov cr3, rax */
		{ B("\x44\x0f\x20\xc0"), 13, 0, 0, 0 }, /* mov rax, cr8 */
		{ B("\x0f\x21\xf8"), 13, 0, 0, 0 },     /* mov rax, dr7 */
		{ B("\x0f\x01\x13"), 13, 0, 0, 0 },     /* lgdt [rbx] */
		{ B("\x0f\x01\x1b"), 13, 0, 0, 0 },     /* lidt [rbx] */
		{ B("\x0f\x00\xd0"), 13, 0, 0, 0 },     /* lldt ax */
		{ B("\x0f\x00\xd8"), 13, 0, 0, 0 },     /* ltr ax */
		{ B("\x0f\x01\xf0"), 13, 0, 0, 0 },     /* lmsw ax */
		{ B("\x0f\x06"), 13, 0, 0, 0 },         /* clts */
		{ B("\x0f\x01\x3b"), 13, 0, 0, 0 },     /* invlpg [rbx] */
		{ B("\x0f\x08"), 13, 0, 0, 0 },         /* invd */
		{ B("\x0f\x09"), 13, 0, 0, 0 },         /* wbinvd */
		{ B("\x0f\x30"), 13, 0, 0, 0 },         /* wrmsr */
		{ B("\x0f\x32"), 13, 0, 0, 0 },         /* rdmsr */
		{ B("\x0f\x33"), 13, 0, 0, 0 },         /* rdpmc */
		{ B("\x0f\x01\xf8"), 13, 0, 0, 0 },     /* swapgs */
		{ B("\x48\x0f\x07"), 13, 0, 0, 0 },     /* sysretq */
		{ B("\x0f\x35"), 13, 0, 0, 0 },         /* sysexit */
		{ B("\x0f\x01\xd1"), 13, 0, 0, 0x40000 }, /* xsetbv */
		{ B("\x0f\x31"), 13, 0, 0, 4 },         /* rdtsc with TSD */
		{ B("\x0f\x01\xf9"), 13, 0, 0, 4 },     /* rdtscp with TSD */
		{ B("\x0f\x01\x03"), 13, 0, 0, 0x800 }, /* sgdt with UMIP */
		{ B("\x0f\x01\x0b"), 13, 0, 0, 0x800 }, /* sidt */
		{ B("\x0f\x00\xc0"), 13, 0, 0, 0x800 }, /* sldt */
		{ B("\x0f\x00\xc8"), 13, 0, 0, 0x800 }, /* str */
		{ B("\x0f\x01\xe0"), 13, 0, 0, 0x800 }, /* smsw */
		{ B("\x0f\x01\xe0"), RIG_DONE, -1, 0, 0 }, /* smsw without UMIP */
		{ B("\x0f\x01\x03"), RIG_DONE, -1, 0, 0 },
		{ B("\x0f\x31"), RIG_DONE, -1, 0, 0 },
		{ B("\xcd\x81"), 13, 0x81 * 8 + 2, 0, 0 }, /* int to a gate of DPL 0 */
		{ B("\xcd\x82"), 0x82, -1, 0, 0 },
		{ B("\xcc"), 3, -1, 0, 0 },
		{ B("\xb8\x10\x00\x00\x00\x8e\xd8"), 13, -1, 0, 0 }, /* ds = kernel data */
		{ B("\x0f\x01\xca"), 6, -1, 0, 0 },     /* clac */
		{ B("\x0f\xae\xc0"), 6, -1, 0, 0 },     /* rdfsbase without CR4.FSGSBASE... */
		{ B("\xf3\x0f\xae\xc0"), 6, -1, 0, 0 },
		{ B("\xf3\x0f\xae\xc0"), RIG_DONE, -1, 0, 0x10000 },
	};

	run_list(list, sizeof(list) / sizeof(list[0]) , true);
}

static void test_undefined(void)
{
	static const struct one list[] = {
		{ B("\x0f\x0b"), 6, -1, 0, 0 },             /* ud2 */
		{ B("\x0f\xff\xc0"), 6, -1, 0, 0 },         /* ud0 */
		{ B("\x0f\xb9\xc0"), 6, -1, 0, 0 },         /* ud1 */
		{ B("\x0f\x01\xd9"), 6, -1, 0, 0 },         /* vmmcall */
		{ B("\x0f\x01\xc8"), 6, -1, 0, 0 },         /* monitor */
		{ B("\x0f\x01\xc9"), 6, -1, 0, 0 },         /* mwait */
		{ B("\x0f\xaa"), 6, -1, 0, 0 },             /* rsm */
		{ B("\xf3\x0f\xc7\x33"), 6, -1, 0, 0 },     /* vmxon [rbx] */
		{ B("\x0f\x01\xc4"), 6, -1, 0, 0 },         /* vmxoff */
		{ B("\x0f\x01\xd8"), 6, -1, 0, 0 },         /* vmrun */
		{ B("\x0f\x01\xfa"), 6, -1, 0, 0 },         /* monitorx */
		{ B("\x0f\x01\xfc"), 6, -1, 0, 0 },         /* clzero */
		{ B("\x0f\x01\xee"), 6, -1, 0, 0 },         /* rdpkru */
		{ B("\x0f\x01\xd5"), 6, -1, 0, 0 },         /* xend */
		{ B("\xc7\xf8\x00\x00\x00\x00"), 6, -1, 0, 0 }, /* xbegin */
		{ B("\x0f\x37"), 6, -1, 0, 0 },             /* getsec */
		{ B("\xf2\x0f\x79\xc1"), 6, -1, 0, 0 },     /* insertq (SSE4A) */
		{ B("\x0f\x0f\xc1\x9e"), 6, -1, 0, 0 },     /* pfadd (3DNow!) */
		{ B("\x8f\xe9\x78\xe1\xc1"), 6, -1, 0, 0 }, /* vphaddwd (XOP) */
		{ B("\x62\xf1\x7c\x48\x58\xc1"), 6, -1, 0, 0x40000 }, /* vaddps zmm */
		{ B("\x0f\x01\xd0"), 6, -1, 0, 0 },         /* xgetbv without OSXSAVE */
		{ B("\x0f\xae\x23"), 6, -1, 0, 0 },         /* xsave without OSXSAVE */
		{ B("\x0f\xc7\x2b"), 6, -1, 0, 0 },         /* xsaves without OSXSAVE */
		{ B("\x0f\x20\xc8"), 6, -1, 0, 0 },         /* mov rax, cr1 */
		{ B("\x0f\x21\xe0"), 6, -1, 0, 8 },         /* mov rax, dr4 with DE */
		{ B("\x0f\x21\xe0"), RIG_DONE, -1, 0, 0 },
		{ B("\xf3\x0f\x1e\xfa"), RIG_DONE, -1, 0, 0 }, /* endbr64 */
		{ B("\x0f\x0d\x0b"), RIG_DONE, -1, 0, 0 },  /* prefetchw */
		{ B("\x66\x0f\x1a\x05\x00\x00\x80\x00"), RIG_DONE, -1, 0, 0 }, /* bndmov, no access */
		{ B("\x0f\x1c\x05\x00\x00\x80\x00"), RIG_DONE, -1, 0, 0 }, /* cldemote */
		{ B("\xf3\x48\x0f\x1e\xc8"), RIG_DONE, -1, 0, 0 }, /* rdsspq */
		{ B("\xf3\x0f\x09"), RIG_DONE, -1, 0, 0 },  /* wbnoinvd */
	};

	run_list(list, sizeof(list) / sizeof(list[0]), false);
}

/* mov rax, imm64; then the instruction: the fault is not at the start, so its own helper. */
struct value {
	const char *insn;
	unsigned len;
	uint64_t rax, rcx, rdx;
	int vector;
	int64_t error;
};

static void run_values(const struct value *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct rig *r = rig_new(RIG_64);
		const uint8_t *code = (const uint8_t *)list[i].insn;
		int vector;

		r->sregs.cr4 |= 0x40000;
		r->regs.rax = list[i].rax;
		r->regs.rcx = list[i].rcx;
		r->regs.rdx = list[i].rdx;
		vector = rig_run(r, code, code + list[i].len);
		if (vector != list[i].vector ||
		    (list[i].error >= 0 && r->error != (uint32_t)list[i].error))
			printf("\n  case %zu: vector %d error %#x, expected %d\n", i, vector,
			       r->error, list[i].vector);
		CU_ASSERT_EQUAL(vector, list[i].vector);
		if (list[i].error >= 0)
			CU_ASSERT_EQUAL(r->error, (uint32_t)list[i].error);
		if (vector == 13)
			CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE);
		rig_free(r);
	}
}

#define TO_CR0 "\x0f\x22\xc0"
#define TO_CR3 "\x0f\x22\xd8"
#define TO_CR4 "\x0f\x22\xe0"
#define TO_CR8 "\x44\x0f\x22\xc0"
#define TO_DR6 "\x0f\x23\xf0"
#define TO_DR7 "\x0f\x23\xf8"
#define WRMSR "\x0f\x30"
#define RDMSR "\x0f\x32"
#define TO_DS "\x8e\xd8"
#define TO_SS "\x8e\xd0"
#define TO_FS "\x8e\xe0"
#define XSETBV "\x0f\x01\xd1"

static void test_registers(void)
{
	static const struct value list[] = {
		{ B(TO_CR0), 0x80010030, 0, 0, 13, 0 },          /* PG without PE */
		{ B(TO_CR0), 0xa0010031, 0, 0, 13, 0 },          /* NW without CD */
		{ B(TO_CR0), 0x180010031, 0, 0, 13, 0 },         /* bit 32 */
		{ B(TO_CR0), 0x00010031, 0, 0, 13, 0 },          /* paging off in 64-bit mode */
		{ B(TO_CR0), 0x80010033, 0, 0, RIG_DONE, -1 },
		{ B(TO_CR4), 0x600, 0, 0, 13, 0 },               /* PAE off in long mode */
		{ B(TO_CR4), 0x620 | 1u << 31, 0, 0, 13, 0 },
		{ B(TO_CR4), 0x620 | 1u << 13, 0, 0, 13, 0 },    /* VMXE */
		{ B(TO_CR4), 0x620 | 1u << 12, 0, 0, 13, 0 },    /* LA57 */
		{ B(TO_CR4), 0x620 | 1u << 17, 0, 0, RIG_DONE, -1 }, /* PCIDE */
		{ B(TO_CR3), 1ull << 63 | RIG_PML4, 0, 0, 13, 0 }, /* without PCIDE */
		{ B(TO_CR4), 0x6a0, 0, 0, RIG_DONE, -1 },
		{ B(TO_CR3), 1ull << 52 | RIG_PML4, 0, 0, 13, 0 },
		{ B(TO_CR3), RIG_PML4, 0, 0, RIG_DONE, -1 },
		{ B(TO_CR8), 16, 0, 0, 13, 0 },
		{ B(TO_CR8), 15, 0, 0, RIG_DONE, -1 },
		{ B(TO_DR6), 1ull << 32, 0, 0, 13, 0 },
		{ B(TO_DR7), 1ull << 32, 0, 0, 13, 0 },
		{ B(TO_DR7), 0x400, 0, 0, RIG_DONE, -1 },
		{ B(WRMSR), 0xd03, 0xc0000080, 0, 13, 0 },       /* EFER bit 1 */
		{ B(WRMSR), 0xc01, 0xc0000080, 0, 13, 0 },       /* LME off with paging */
		{ B(WRMSR), 0xd00, 0xc0000080, 0, RIG_DONE, -1 },
		{ B(WRMSR), 0, 0xc0000100, 0x00800000, 13, 0 },  /* FS base not canonical */
		{ B(WRMSR), 0, 0xc0000082, 0x00800000, 13, 0 },
		{ B(WRMSR), 0, 0xc0000101, 0xffff8000, RIG_DONE, -1 },
		{ B(WRMSR), 2, 0x277, 0, 13, 0 },                /* PAT type 2 */
		{ B(WRMSR), 0x00070406, 0x277, 0x00070406, RIG_DONE, -1 },
		{ B(WRMSR), 0, 0xfe, 0, 13, 0 },                 /* MTRRCAP is read-only */
		{ B(WRMSR), 0, 0x10a, 0, 13, 0 },
		{ B(WRMSR), 5, 0x3a, 0, 13, 0 },                 /* FEATURE_CONTROL is locked */
		{ B(WRMSR), 0xc06, 0x2ff, 0, RIG_DONE, -1 },
		{ B(WRMSR), 0xc02, 0x2ff, 0, 13, 0 },
		{ B(WRMSR), 1, 0x48, 0, RIG_DONE, -1 },
		{ B(WRMSR), 8, 0x48, 0, 13, 0 },
		{ B(WRMSR), 1, 0x49, 0, RIG_DONE, -1 },
		{ B(RDMSR), 0, 0x49, 0, 13, 0 },
		{ B(RDMSR), 0, 0x12345, 0, 13, 0 },
		{ B(RDMSR), 0, 0xc0010015, 0, 13, 0 },
		{ B(RDMSR), 0, 0x10, 0, RIG_DONE, -1 },
		{ B(TO_DS), SEL_ABSENT, 0, 0, 11, SEL_ABSENT },
		{ B(TO_DS), 0x1000, 0, 0, 13, 0x1000 },
		{ B(TO_DS), SEL_TSS, 0, 0, 13, SEL_TSS },
		{ B(TO_DS), SEL_DATA | 3, 0, 0, 13, SEL_DATA },  /* RPL 3 */
		{ B(TO_DS), 4, 0, 0, 13, 4 },                    /* no LDT */
		{ B(TO_DS), 3, 0, 0, RIG_DONE, -1 },
		{ B(TO_SS), SEL_CODE, 0, 0, 13, SEL_CODE },
		{ B(TO_SS), SEL_UDATA, 0, 0, 13, SEL_UDATA & ~3 },
		{ B(TO_SS), SEL_ABSENT, 0, 0, 12, SEL_ABSENT },
		{ B(TO_SS), 0, 0, 0, RIG_DONE, -1 },
		{ B(TO_SS), 3, 0, 0, 13, 0 },
		{ B(TO_FS), SEL_UDATA, 0, 0, RIG_DONE, -1 },
		{ B("\x8e\xc8"), SEL_CODE, 0, 0, 6, -1 },        /* mov cs */
		{ B("\x0f\x00\xd8"), 0, 0, 0, 13, 0 },           /* ltr 0 */
		{ B("\x0f\x00\xd8"), SEL_TSS, 0, 0, 13, SEL_TSS }, /* busy */
		{ B("\x0f\x00\xd0"), SEL_DATA, 0, 0, 13, SEL_DATA }, /* lldt of data */
		{ B("\x0f\x00\xd0"), SEL_LDT, 0, 0, RIG_DONE, -1 },
		{ B(XSETBV), 2, 0, 0, 13, 0 },                   /* without x87 */
		{ B(XSETBV), 5, 0, 0, 13, 0 },                   /* AVX without SSE */
		{ B(XSETBV), 0xe7, 0, 0, 13, 0 },                /* AVX-512 */
		{ B(XSETBV), 3, 1, 0, 13, 0 },
		{ B(XSETBV), 3, 0, 0, RIG_DONE, -1 },
	};

	run_values(list, sizeof(list) / sizeof(list[0]));
}

/* --- exceptions ----------------------------------------------------------------------------- */

CODE64(read_rdx, "mov (%rdx), %rax")
CODE64(write_rdx, "mov %rax, (%rdx)")
CODE64(jump_rdx, "jmp *%rdx")
CODE64(load_ds, "mov %eax, %ds")

static void expect_pf(bool user, const uint8_t *code, const uint8_t *end, uint64_t la,
		      uint32_t error)
{
	struct rig *r = rig_new(RIG_64);
	bool fetch = code == jump_rdx;

	if (user)
		rig_user(r);
	r->regs.rdx = la;
	CU_ASSERT_EQUAL(rig_run(r, code, end), 14);
	CU_ASSERT_EQUAL(r->error, error);
	CU_ASSERT_EQUAL(r->sregs.cr2, la);
	CU_ASSERT_EQUAL(rig_stack(r, 0), fetch ? la : RIG_CODE);
	CU_ASSERT_EQUAL(rig_stack(r, 1), user ? SEL_UCODE : SEL_CODE);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 0x10002); /* RF */
	CU_ASSERT_EQUAL(rig_stack(r, 3), RIG_STACK);
	CU_ASSERT_EQUAL(rig_stack(r, 4), user ? SEL_UDATA : SEL_DATA);
	CU_ASSERT_EQUAL(r->regs.rsp, (user ? RIG_STACK0 : RIG_STACK) - 40);
	CU_ASSERT_EQUAL(r->sregs.cs.selector, SEL_CODE);
	CU_ASSERT_EQUAL(r->sregs.ss.selector, user ? 0 : SEL_DATA);
	rig_free(r);
}

static void test_page_faults(void)
{
	expect_pf(true, read_rdx, read_rdx_end, RIG_KERNEL_PAGE + 8, 5);
	expect_pf(true, write_rdx, write_rdx_end, RIG_KERNEL_PAGE + 8, 7);
	expect_pf(false, read_rdx, read_rdx_end, RIG_NO_PAGE + 16, 0);
	expect_pf(false, write_rdx, write_rdx_end, RIG_NO_PAGE + 16, 2);
	expect_pf(true, jump_rdx, jump_rdx_end, RIG_KERNEL_PAGE, 0x15);
	expect_pf(false, jump_rdx, jump_rdx_end, RIG_NX_PAGE, 0x11);
}

CODE64(read_noncanonical, "mov (%rdx), %rax")
CODE64(push_only, "push %rax")

static void test_noncanonical(void)
{
	struct rig *r = rig_new(RIG_64);

	r->regs.rdx = 0x800000000000;
	CU_ASSERT_EQUAL(RUN(r, read_noncanonical), 13);
	CU_ASSERT_EQUAL(r->error, 0);
	rig_free(r);
	r = rig_new(RIG_64);
	r->sregs.idtr.limit = 0xfff;
	r->regs.rsp = 0x900000000000;
	/* #SS on a bad stack: cannot be pushed either, then #DF on its own stack. */
	CU_ASSERT_EQUAL(RUN(r, push_only), 8);
	CU_ASSERT_EQUAL(r->error, 0);
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE);
	CU_ASSERT_EQUAL(r->regs.rsp, RIG_IST1 - 40);
	rig_free(r);
	r = rig_new(RIG_64);
	rig_user(r);
	r->regs.rsp = 0x900000000000;
	CU_ASSERT_EQUAL(RUN(r, push_only), 12);
	CU_ASSERT_EQUAL(r->error, 0);
	rig_free(r);
}

CODE64(int_f0, "int $0xf0")

static void test_double_fault(void)
{
	struct rig *r = rig_new(RIG_64);

	/* #GP's gate is not present: #NP during #GP is a double fault. */
	rig_put(r, RIG_IDT + 13 * 16 + 5, 0x0e, 1);
	r->regs.rax = 0x1000;
	CU_ASSERT_EQUAL(RUN(r, load_ds), 8);
	CU_ASSERT_EQUAL(r->error, 0);
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE);
	rig_free(r);
	/* #PF while delivering #PF: the gate's handler stack is missing. */
	r = rig_new(RIG_64);
	rig_user(r);
	rig_put(r, RIG_TSS + 4, RIG_NO_PAGE + 0x1000, 8);
	r->regs.rdx = RIG_KERNEL_PAGE;
	CU_ASSERT_EQUAL(RUN(r, read_rdx), 8);
	CU_ASSERT_EQUAL(r->sregs.cr2, RIG_NO_PAGE + 0x1000 - 48);
	rig_free(r);
	/* #GP while delivering an INT n: just a #GP, EXT clear. */
	r = rig_new(RIG_64);
	r->sregs.idtr.limit = 0x8ff;
	CU_ASSERT_EQUAL(RUN(r, int_f0), 13);
	CU_ASSERT_EQUAL(r->error, 0xf0 * 8 + 2);
	rig_free(r);
	/* A page fault in the delivery of #UD is benign + page fault. */
	r = rig_new(RIG_64);
	rig_put(r, RIG_IDT + 6 * 16 + 4, 2, 1); /* IST2 */
	rig_put(r, RIG_TSS + 44, RIG_NO_PAGE + 0x1000, 8);
	CU_ASSERT_EQUAL(rig_run(r, (const uint8_t *)"\x0f\x0b", (const uint8_t *)"\x0f\x0b" + 2),
			14);
	CU_ASSERT_EQUAL(r->error, 2);
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE);
	rig_free(r);
}

static void test_triple_fault(void)
{
	struct rig *r = rig_new(RIG_64);

	r->sregs.idtr.limit = 0;
	r->regs.rax = 0x1000;
	CU_ASSERT_EQUAL(RUN(r, load_ds), -1);
	rig_free(r);
}

CODE64(debug_gd, "mov %rax, %dr0")
CODE64(trap_flag, "pushf; orl $0x100, (%rsp); popf; nop; nop")

static void test_debug(void)
{
	struct rig *r = rig_new(RIG_64);
	struct vmx_debugregs d;

	vmx_vcpu_read_state(r->vcpu, VMX_STATE_DEBUGREGS, &d, sizeof(d));
	d.dr7 |= 1u << 13;
	vmx_vcpu_write_state(r->vcpu, VMX_STATE_DEBUGREGS, &d, sizeof(d));
	CU_ASSERT_EQUAL(RUN(r, debug_gd), 1);
	vmx_vcpu_read_state(r->vcpu, VMX_STATE_DEBUGREGS, &d, sizeof(d));
	CU_ASSERT_EQUAL(d.dr6 & (1u << 13), 1u << 13);
	CU_ASSERT_EQUAL(d.dr7, 0x400);
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, trap_flag), 1);
	/* After the NOP that follows POPF: 1 + 7 + 1 + 1 bytes. */
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE + 10);
	CU_ASSERT_EQUAL(rig_stack(r, 2) & 0x100, 0x100);
	CU_ASSERT_EQUAL(r->regs.rflags & 0x100, 0);
	vmx_vcpu_read_state(r->vcpu, VMX_STATE_DEBUGREGS, &d, sizeof(d));
	CU_ASSERT_EQUAL(d.dr6 & (1u << 14), 1u << 14);
	rig_free(r);
}

/* --- CPUID ---------------------------------------------------------------------------------- */

CODE64(cpuid_0, "xor %eax, %eax; cpuid")
CODE64(cpuid_eax, "cpuid")

static void test_cpuid(void)
{
	struct rig *r = rig_new(RIG_64);
	uint64_t hz;

	CU_ASSERT_EQUAL(RUN(r, cpuid_0), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 0x16);
	CU_ASSERT_EQUAL(r->regs.rbx, 0x756e6547);
	rig_free(r);

	r = rig_new(RIG_64);
	hz = vmx_vm_tsc_hz(r->vm);
	r->regs.rax = 0x15;
	CU_ASSERT_EQUAL(RUN(r, cpuid_eax), RIG_DONE);
	CU_ASSERT_NOT_EQUAL(r->regs.rax, 0);
	if (r->regs.rax) {
		uint64_t got = r->regs.rcx * r->regs.rbx / r->regs.rax;

		CU_ASSERT(got > hz ? got - hz < 1000 : hz - got < 1000);
		/* Linux multiplies in 32 bits. */
		CU_ASSERT(r->regs.rcx / 1000 * r->regs.rbx <= 0xffffffff);
	}
	rig_free(r);

	/* Too high: the highest basic leaf. */
	r = rig_new(RIG_64);
	r->regs.rax = 0x80000fff;
	CU_ASSERT_EQUAL(RUN(r, cpuid_eax), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rcx, 100);
	rig_free(r);

	/* No AVX-512, MPX, PKU, TSX, VMX, MONITOR; PCID. */
	r = rig_new(RIG_64);
	r->regs.rax = 7;
	CU_ASSERT_EQUAL(RUN(r, cpuid_eax), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rbx & (1u << 16 | 1u << 14 | 1u << 11 | 1u << 4), 0);
	CU_ASSERT_EQUAL(r->regs.rcx & (1u << 3), 0);
	CU_ASSERT_EQUAL(r->regs.rdx & (1u << 29), 1u << 29);
	rig_free(r);
	r = rig_new(RIG_64);
	r->regs.rax = 1;
	CU_ASSERT_EQUAL(RUN(r, cpuid_eax), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 0x606a6);
	CU_ASSERT_EQUAL(r->regs.rcx & (1u << 3 | 1u << 5 | 1u << 17), 1u << 17);
	CU_ASSERT_EQUAL(r->regs.rcx & (1u << 27), 0); /* OSXSAVE follows CR4 */
	rig_free(r);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "privileged instructions fault at CPL 3", test_privileged },
		{ "what is not offered is #UD", test_undefined },
		{ "values of CR, DR, MSR and segment registers", test_registers },
		{ "page faults", test_page_faults },
		{ "non-canonical addresses", test_noncanonical },
		{ "double faults", test_double_fault },
		{ "triple fault", test_triple_fault },
		{ "debug exceptions", test_debug },
		{ "CPUID", test_cpuid },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("system, 64-bit", tests));
}
