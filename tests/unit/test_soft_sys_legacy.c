/* SPDX-License-Identifier: Apache-2.0 */
/* Segmentation, vm86, tasks, mode changes of the software processor: 16- and 32-bit mode. */
#include <string.h>

#include "tests/unit/sys_rig.h"
#include "tests/unit/unit.h"

/* --- 32-bit segmentation -------------------------------------------------------------------- */

CODE32(small_ok, "mov $0xa0, %eax; mov %eax, %ds; mov 0xfc, %eax")
CODE32(small_over, "mov %eax, %ds; mov 0xfd, %eax")
CODE32(small_byte, "mov %eax, %ds; mov 0xff, %al; mov 0x100, %al")
CODE32(down_ok, "mov %eax, %ds; mov 0x100, %edx; mov 0xfffffffc, %edx")
CODE32(down_under, "mov %eax, %ds; mov 0xff, %dl")
CODE32(null_ds, "mov %eax, %ds; mov (%ebx), %edx")
CODE32(write_cs, "mov %al, %cs:(%ebx)")
CODE32(read_cs, "mov %cs:(%ebx), %eax")
CODE32(far_limit, "ljmp $0x48, $0x10000")
CODE32(load_fs, "mov %eax, %fs")
CODE32(load_ss, "mov %eax, %ss")

struct one {
	const uint8_t *code, *end;
	uint32_t eax;
	int vector;
	int64_t error;
	bool user;
};
#define ONE(name) name, name##_end

static void test_segments(void)
{
	const struct one list[] = {
		{ ONE(small_ok), 0, RIG_DONE, -1, false },
		{ ONE(small_over), SEL_SMALL, 13, 0, false },
		{ ONE(small_byte), SEL_SMALL, 13, 0, false },
		{ ONE(down_ok), SEL_DOWN, RIG_DONE, -1, false },
		{ ONE(down_under), SEL_DOWN, 13, 0, false },
		{ ONE(null_ds), 0, 13, 0, false },
		{ ONE(write_cs), 0, 13, 0, false },
		{ ONE(read_cs), 0, RIG_DONE, -1, false },
		{ ONE(far_limit), 0, 13, 0, false },
		{ ONE(load_fs), SEL_ABSENT, 11, SEL_ABSENT, false },
		{ ONE(load_fs), SEL_CODE, RIG_DONE, -1, false },
		{ ONE(load_fs), SEL_TSS, 13, SEL_TSS, false },
		{ ONE(load_fs), SEL_DATA, 13, SEL_DATA, true },
		{ ONE(load_fs), SEL_UDATA, RIG_DONE, -1, true },
		{ ONE(load_fs), SEL_CONFORMING, RIG_DONE, -1, true },
		{ ONE(load_ss), 0, 13, 0, false },
		{ ONE(load_ss), SEL_UDATA, 13, SEL_UDATA & ~3, false },
		{ ONE(load_ss), SEL_ABSENT, 12, SEL_ABSENT, false },
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		struct rig *r = rig_new(RIG_32);
		int vector;

		if (list[i].user)
			rig_user(r);
		r->regs.rax = list[i].eax;
		vector = rig_run(r, list[i].code, list[i].end);
		if (vector != list[i].vector)
			printf("\n  case %zu: vector %d error %#x\n", i, vector, r->error);
		CU_ASSERT_EQUAL(vector, list[i].vector);
		if (list[i].error >= 0)
			CU_ASSERT_EQUAL(r->error, (uint32_t)list[i].error);
		rig_free(r);
	}
}

CODE32(do_arpl, "mov $0x10, %eax; mov $3, %ecx; arpl %cx, %ax; setz %dl")
CODE32(do_into, "mov $0x7fffffff, %eax; inc %eax; into")
CODE32(no_into, "xor %eax, %eax; into")
CODE32(do_bound, "mov $5, %eax; bound %eax, (%ebx)")

static void test_legacy_instructions(void)
{
	struct rig *r = rig_new(RIG_32);

	CU_ASSERT_EQUAL(RUN(r, do_arpl), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 0x13);
	CU_ASSERT_EQUAL(r->regs.rdx & 0xff, 1);
	rig_free(r);
	r = rig_new(RIG_32);
	CU_ASSERT_EQUAL(RUN(r, do_into), 4);
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE + 7); /* after it */
	rig_free(r);
	r = rig_new(RIG_32);
	CU_ASSERT_EQUAL(RUN(r, no_into), RIG_DONE);
	rig_free(r);
	r = rig_new(RIG_32);
	CU_ASSERT_EQUAL(RUN(r, do_bound), 5); /* 0..0 */
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE + 5);
	rig_free(r);
}

/* --- privilege changes ---------------------------------------------------------------------- */

CODE32(only_nop, "nop")
CODE32(do_hlt, "hlt")
CODE32(gate_call, "push $0x1111; push $0x2222; lcall $0x5b, $0; mov %esp, %edi")
CODE32(gate_end, "mov %esp, %esi; int $0x80")
CODE32(gate_return, "mov %esp, %esi; lret $8")
CODE32(iret_out,
       "push $0x23; push $0x1f000; push $2; push $0x2b; call 1f\n1: addl $(2f - 1b), (%esp); iretl\n2:")

static void test_privilege(void)
{
	struct rig *r = rig_new(RIG_32);

	rig_user(r);
	CU_ASSERT_EQUAL(RUN(r, only_nop), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rsp, RIG_STACK0 - 20);
	CU_ASSERT_EQUAL(rig_stack(r, 0), RIG_CODE + 3);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_stack(r, 3), RIG_STACK);
	CU_ASSERT_EQUAL(rig_stack(r, 4), SEL_UDATA);
	CU_ASSERT_EQUAL(r->sregs.ss.selector, SEL_DATA);
	rig_free(r);
	r = rig_new(RIG_32);
	rig_user(r);
	CU_ASSERT_EQUAL(RUN(r, do_hlt), 13);
	CU_ASSERT_EQUAL(r->error, 0);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 0x10002);
	rig_free(r);
	/* No stack for CPL 0: #TS with the selector in the TSS. */
	r = rig_new(RIG_32);
	rig_user(r);
	rig_put(r, RIG_TSS + 8, SEL_CODE, 4);
	CU_ASSERT_EQUAL(RUN(r, do_hlt), -1); /* and none for that either */
	rig_free(r);
}

static void test_call_gate(void)
{
	struct rig *r = rig_new(RIG_32);

	rig_user(r);
	memcpy(r->ram + RIG_CODE2, gate_end, (size_t)(gate_end_end - gate_end));
	rig_put(r, RIG_GDT + SEL_GATE, (RIG_CODE2 & 0xffff) | SEL_CODE << 16 |
		(uint64_t)0xec02 << 32 | (uint64_t)(RIG_CODE2 >> 16) << 48, 8);
	CU_ASSERT_EQUAL(RUN(r, gate_call), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rsi, RIG_STACK0 - 24);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 24, 4), RIG_CODE + 17);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 20, 4), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 16, 4), 0x2222);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 12, 4), 0x1111);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 8, 4), RIG_STACK - 8);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 4, 4), SEL_UDATA);
	rig_free(r);

	r = rig_new(RIG_32);
	rig_user(r);
	memcpy(r->ram + RIG_CODE2, gate_return, (size_t)(gate_return_end - gate_return));
	CU_ASSERT_EQUAL(RUN(r, gate_call), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdi, RIG_STACK); /* both stacks released the parameters */
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	rig_free(r);

	r = rig_new(RIG_32);
	CU_ASSERT_EQUAL(RUN(r, iret_out), RIG_DONE);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_stack(r, 3), 0x1f000);
	CU_ASSERT_EQUAL(r->sregs.ds.selector, 0);
	rig_free(r);
}

/* --- vm86 ----------------------------------------------------------------------------------- */

/* Into vm86 mode at 1000:0100 with the given flags in EAX. */
CODE32(to_vm86,
       "push $0x4444; push $0x3333; push $0x3000; push $0x1111; push $0x2000; push $0xff00\n"
       "push %eax; push $0x1000; push $0x100; iretl")
CODE16(vm86_code, "movl 0, %eax; mov %cs, %cx; int $0x80")
CODE16(vm86_cli, "cli")
CODE16(vm86_sldt, "sldt %ax")
CODE16(vm86_in, "in $0x50, %al")

static struct rig *vm86(const uint8_t *code, const uint8_t *end, uint32_t flags, int vector)
{
	struct rig *r = rig_new(RIG_32);

	memcpy(r->ram + RIG_CODE + 0x100, code, (size_t)(end - code));
	rig_put(r, RIG_DATA, 0xabcd1234, 4);
	r->regs.rax = flags;
	CU_ASSERT_EQUAL(RUN(r, to_vm86), vector);
	return r;
}

static void test_vm86(void)
{
	struct rig *r = vm86(ONE(vm86_code), 0x23002, RIG_DONE);

	CU_ASSERT_EQUAL(r->regs.rax, 0xabcd1234);
	CU_ASSERT_EQUAL(r->regs.rcx & 0xffff, 0x1000);
	CU_ASSERT_EQUAL(rig_stack(r, 0), 0x100 + (uint64_t)(vm86_code_end - vm86_code));
	CU_ASSERT_EQUAL(rig_stack(r, 1), 0x1000);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 0x23002);
	CU_ASSERT_EQUAL(rig_stack(r, 3), 0xff00);
	CU_ASSERT_EQUAL(rig_stack(r, 4), 0x2000);
	CU_ASSERT_EQUAL(rig_stack(r, 5), 0x1111); /* ES */
	CU_ASSERT_EQUAL(rig_stack(r, 6), 0x3000);
	CU_ASSERT_EQUAL(rig_stack(r, 7), 0x3333);
	CU_ASSERT_EQUAL(rig_stack(r, 8), 0x4444);
	CU_ASSERT_EQUAL(r->regs.rsp, RIG_STACK0 - 36);
	CU_ASSERT_EQUAL(r->sregs.ds.selector, 0);
	rig_free(r);
	r = vm86(ONE(vm86_code), 0x20002, 13); /* INT n with IOPL 0 */
	CU_ASSERT_EQUAL(r->error, 0);
	rig_free(r);
	r = vm86(ONE(vm86_cli), 0x20002, 13);
	CU_ASSERT_EQUAL(r->error, 0);
	CU_ASSERT_EQUAL(rig_stack(r, 0), 0x100);
	rig_free(r);
	rig_free(vm86(ONE(vm86_sldt), 0x23002, 6));
	rig_free(vm86(ONE(vm86_in), 0x23002, 13)); /* the bitmap counts whatever IOPL is */
}

/* --- tasks ---------------------------------------------------------------------------------- */

CODE32(jmp_task, "mov $0x77, %edi; ljmp $0x90, $0")
CODE32(call_task, "mov $0x77, %edi; lcall $0x90, $0; mov $9, %ebp")
CODE32(call_task_gate, "mov $0x77, %edi; lcall $0x98, $0; mov $9, %ebp")
CODE32(int_task, "mov $0x77, %edi; int $0x90; mov $9, %ebp")
CODE32(fault_task, "mov $0x1000, %eax; mov %eax, %fs")
CODE32(task_end, "int $0x80")
CODE32(task_return, "inc %edi; iretl")
CODE32(task_error, "pop %edx; int $0x80")

static struct rig *task_rig(const uint8_t *code, const uint8_t *end)
{
	struct rig *r = rig_new(RIG_32);

	memcpy(r->ram + RIG_CODE2, code, (size_t)(end - code));
	rig_put(r, RIG_TSS2 + 0x20, RIG_CODE2, 4);
	rig_put(r, RIG_TSS2 + 0x24, 2, 4);
	rig_put(r, RIG_TSS2 + 0x38, RIG_IST1, 4);
	rig_put(r, RIG_TSS2 + 0x44, 0x55, 4); /* EDI */
	for (unsigned i = 0; i < 6; i++)
		rig_put(r, RIG_TSS2 + 0x48 + i * 4, i == 1 ? SEL_CODE : SEL_DATA, 4);
	return r;
}

static unsigned tss_type(const struct rig *r, unsigned selector)
{
	return rig_get(r, RIG_GDT + selector + 5, 1) & 0xf;
}

static void test_tasks(void)
{
	const struct one back[] = {
		{ ONE(call_task), 0, 0, 0, false },
		{ ONE(call_task_gate), 0, 0, 0, false },
		{ ONE(int_task), 0, 0, 0, false },
	};
	struct rig *r = task_rig(ONE(task_end));

	CU_ASSERT_EQUAL(RUN(r, jmp_task), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdi, 0x55);
	CU_ASSERT_EQUAL(r->sregs.tr.selector, SEL_TSS2);
	CU_ASSERT_EQUAL(tss_type(r, SEL_TSS), 9);
	CU_ASSERT_EQUAL(tss_type(r, SEL_TSS2), 11);
	CU_ASSERT_EQUAL(rig_get(r, RIG_TSS + 0x20, 4), RIG_CODE + 12);
	CU_ASSERT_EQUAL(rig_get(r, RIG_TSS + 0x44, 4), 0x77);
	CU_ASSERT_EQUAL(rig_get(r, RIG_TSS + 0x38, 4), RIG_STACK);
	CU_ASSERT_EQUAL(rig_get(r, RIG_TSS + 0x4c, 2), SEL_CODE);
	CU_ASSERT_EQUAL(r->sregs.cr0 & 8, 8);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 2);
	rig_free(r);

	for (unsigned i = 0; i < 3; i++) {
		r = task_rig(ONE(task_return));
		rig_put(r, RIG_IDT + 0x90 * 8, (uint64_t)SEL_TSS2 << 16 | 0x8500ull << 32, 8);
		CU_ASSERT_EQUAL(rig_run(r, back[i].code, back[i].end), RIG_DONE);
		CU_ASSERT_EQUAL(r->regs.rdi, 0x77);
		CU_ASSERT_EQUAL(r->regs.rbp, 9);
		CU_ASSERT_EQUAL(r->sregs.tr.selector, SEL_TSS);
		CU_ASSERT_EQUAL(tss_type(r, SEL_TSS), 11);
		CU_ASSERT_EQUAL(tss_type(r, SEL_TSS2), 9);
		CU_ASSERT_EQUAL(rig_get(r, RIG_TSS2, 2), SEL_TSS);     /* link */
		CU_ASSERT_EQUAL(rig_get(r, RIG_TSS2 + 0x44, 4), 0x56); /* its own state */
		CU_ASSERT_EQUAL(rig_stack(r, 2) & 0x4000, 0);          /* NT */
		rig_free(r);
	}

	r = task_rig(ONE(task_error));
	rig_put(r, RIG_IDT + 13 * 8, (uint64_t)SEL_TSS2 << 16 | 0x8500ull << 32, 8);
	CU_ASSERT_EQUAL(RUN(r, fault_task), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x1000);
	CU_ASSERT_EQUAL(rig_get(r, RIG_TSS + 0x20, 4), RIG_CODE + 5); /* of the fault */
	rig_free(r);

	/* A bad CS in the new TSS is a #TS in the new task. */
	r = task_rig(ONE(task_end));
	rig_put(r, RIG_TSS2 + 0x4c, SEL_DATA, 4);
	CU_ASSERT_EQUAL(RUN(r, jmp_task), 10);
	CU_ASSERT_EQUAL(r->error, SEL_DATA);
	CU_ASSERT_EQUAL(r->sregs.tr.selector, SEL_TSS2);
	rig_free(r);

	/* A busy TSS. */
	r = task_rig(ONE(task_end));
	rig_put(r, RIG_GDT + SEL_TSS2 + 5, 0x8b, 1);
	CU_ASSERT_EQUAL(RUN(r, jmp_task), 13);
	CU_ASSERT_EQUAL(r->error, SEL_TSS2);
	CU_ASSERT_EQUAL(r->sregs.tr.selector, SEL_TSS);
	rig_free(r);
}

/* --- paging and mode changes ---------------------------------------------------------------- */

CODE32(paging_32,
       "mov $0x10, %eax; mov %eax, %cr4; mov $0x7000, %eax; mov %eax, %cr3\n"
       "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0; mov 0x430000, %edx")
CODE32(paging_pae,
       "mov $0x20, %eax; mov %eax, %cr4; mov $0x2000, %eax; mov %eax, %cr3\n"
       "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0; mov 0x230000, %edx")
CODE32(to_long,
       "mov $0x20, %eax; mov %eax, %cr4; mov $0x1000, %eax; mov %eax, %cr3\n"
       "mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr\n"
       "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
       "push $0x80; call 1f\n1: addl $(2f - 1b), (%esp); lret\n.code64\n"
       "2: mov $0x1122334455667788, %rdx; out %al, $0x77; hlt")

static void test_paging(void)
{
	struct rig *r = rig_new(RIG_32);

	rig_put(r, 0x7000, 0x83, 4);
	rig_put(r, 0x7004, 0x83, 4); /* 4 MiB again at 0 */
	rig_put(r, RIG_DATA, 0x600d, 4);
	CU_ASSERT_EQUAL(RUN(r, paging_32), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x600d);
	rig_free(r);

	/* PDPT entries of PAE paging have reserved bits where others have U and W. */
	r = rig_new(RIG_32);
	CU_ASSERT_EQUAL(RUN(r, paging_pae), 13);
	CU_ASSERT_EQUAL(r->error, 0);
	CU_ASSERT_EQUAL(r->sregs.cr0 >> 31, 0);
	rig_free(r);
	r = rig_new(RIG_32);
	rig_put(r, RIG_PDPT, RIG_PD | 1, 8);
	rig_put(r, RIG_PD + 8, 0x83, 8); /* 2 MiB again at 0 */
	rig_put(r, RIG_DATA, 0x600d, 4);
	CU_ASSERT_EQUAL(RUN(r, paging_pae), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x600d);
	rig_free(r);

	r = rig_new(RIG_32);
	rig_put(r, RIG_GDT + 0x80, 0x00af9b000000ffff, 8);
	CU_ASSERT_EQUAL(RUN(r, to_long), 0x77);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x1122334455667788);
	CU_ASSERT_EQUAL(r->sregs.efer & 0x500, 0x500);
	rig_free(r);
}

/* --- real mode ------------------------------------------------------------------------------ */

CODE16(real_int, "mov $0x1234, %ax; stc")
CODE16(real_div, "xor %cx, %cx; div %cx")
CODE16(real_far, "lcall $0x1000, $(1f - real_far); jmp 2f\n1: mov $5, %bp; lret\n2: mov $6, %di")
CODE16(real_limit, "mov 0xffff, %ax")
CODE16(real_lldt, "lldt %ax")
CODE16(real_push, "push %ax")
CODE16(real_flags, "pushw $0x3002; popf; pushf; pop %dx; pushw $2; popf")
CODE16(real_iret, "pushf; push %cs; call 1f\n1: pop %ax; add $(2f - 1b), %ax; push %ax; iret\n"
		  "hlt\n2: mov $7, %di")
CODE16(real_to_32,
       "cli; lgdt 0x3000; mov %cr0, %eax; or $1, %eax; mov %eax, %cr0\n"
       "ljmpl $0x08, $(0x10000 + 1f - real_to_32)\n.code32\n"
       "1: mov $0x10, %eax; mov %eax, %ds; mov 0x230000 - 0x200000, %edx; out %al, $0x77; hlt")
CODE16(real_unreal,
       "cli; lgdt 0x3000; mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x10, %cx; mov %cx, %ds\n"
       "and $0xfe, %al; mov %eax, %cr0; xor %cx, %cx; mov %cx, %ds; movl $0x30000, %ebx\n"
       "movl (%ebx), %edx")

static void test_real(void)
{
	struct rig *r = rig_new(RIG_REAL);

	CU_ASSERT_EQUAL(RUN(r, real_int), RIG_DONE);
	CU_ASSERT_EQUAL(rig_stack(r, 0), (uint64_t)(real_int_end - real_int) + 2);
	CU_ASSERT_EQUAL(rig_stack(r, 1), RIG_CODE >> 4);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 3);
	CU_ASSERT_EQUAL(r->regs.rsp, 0xff00 - 6);
	rig_free(r);
	r = rig_new(RIG_REAL);
	CU_ASSERT_EQUAL(RUN(r, real_div), 0);
	CU_ASSERT_EQUAL(rig_stack(r, 0), 2);
	rig_free(r);
	r = rig_new(RIG_REAL);
	CU_ASSERT_EQUAL(RUN(r, real_far), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rbp, 5);
	CU_ASSERT_EQUAL(r->regs.rdi, 6);
	CU_ASSERT_EQUAL(r->regs.rsp, 0xff00 - 6);
	rig_free(r);
	r = rig_new(RIG_REAL);
	CU_ASSERT_EQUAL(RUN(r, real_limit), 13);
	CU_ASSERT_EQUAL(rig_stack(r, 0), 0); /* no error code */
	rig_free(r);
	r = rig_new(RIG_REAL);
	CU_ASSERT_EQUAL(RUN(r, real_lldt), 6);
	rig_free(r);
	r = rig_new(RIG_REAL);
	r->regs.rsp = 0;
	CU_ASSERT_EQUAL(RUN(r, real_push), RIG_DONE); /* wraps to FFFE */
	CU_ASSERT_EQUAL(r->regs.rsp & 0xffff, 0xfffe - 6);
	rig_free(r);
	r = rig_new(RIG_REAL);
	r->regs.rsp = 1;
	CU_ASSERT_EQUAL(RUN(r, real_push), -1); /* #SS, and no stack for it */
	rig_free(r);
	r = rig_new(RIG_REAL);
	CU_ASSERT_EQUAL(RUN(r, real_flags), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdx & 0xffff, 0x3002);
	rig_free(r);
	r = rig_new(RIG_REAL);
	CU_ASSERT_EQUAL(RUN(r, real_iret), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdi, 7);
	rig_free(r);
}

static void put_gdtr(struct rig *r)
{
	rig_put(r, 0x3000, 0xff, 2);
	rig_put(r, 0x3002, RIG_GDT, 4);
	rig_put(r, RIG_GDT + SEL_CODE, 0x00cf9b000000ffff, 8);
	rig_put(r, RIG_DATA, 0x600d, 4);
}

static void test_from_real(void)
{
	struct rig *r = rig_new(RIG_REAL);

	put_gdtr(r);
	CU_ASSERT_EQUAL(RUN(r, real_to_32), 0x77);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x600d);
	CU_ASSERT_EQUAL(r->sregs.cs.selector, 8);
	rig_free(r);
	/* Limits survive the way back: "unreal mode". */
	r = rig_new(RIG_REAL);
	put_gdtr(r);
	CU_ASSERT_EQUAL(RUN(r, real_unreal), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x600d);
	rig_free(r);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "segment limits and loads", test_segments },
		{ "ARPL INTO BOUND", test_legacy_instructions },
		{ "interrupts and privilege", test_privilege },
		{ "call gates, IRET outwards", test_call_gate },
		{ "virtual-8086 mode", test_vm86 },
		{ "task switches", test_tasks },
		{ "32-bit, PAE and long-mode paging", test_paging },
		{ "real mode", test_real },
		{ "real to protected mode", test_from_real },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("system, 16- and 32-bit", tests));
}
