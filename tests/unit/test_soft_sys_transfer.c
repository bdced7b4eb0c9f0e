/* SPDX-License-Identifier: Apache-2.0 */
/* System calls, returns and far transfers of the software processor, in 64-bit mode. */
#include <string.h>

#include "tests/unit/sys_rig.h"
#include "tests/unit/unit.h"

CODE64(to_user,
       "push $0x23; push $0x1f000; push $0x203; push $0x2b; lea 1f(%rip), %rax; push %rax; iretq\n"
       "1:")
CODE64(iret_bad_rip,
       "push $0x10; push %rsp; push $2; push $0x08; mov $0x800000000000, %rax; push %rax; iretq")
CODE64(iret_absent, "push $0x10; push %rsp; push $2; push $0x80; push $0x10000; iretq")
CODE64(iret_nt, "pushf; orl $0x4000, (%rsp); popf; iretq")
CODE64(iret_bad_ss, "push $0x08; push %rsp; push $2; push $0x08; push $0x10000; iretq")
CODE64(iret_null_cs, "push $0x10; push %rsp; push $2; push $0; push $0x10000; iretq")

static void test_iret(void)
{
	struct rig *r = rig_new(RIG_64);

	CU_ASSERT_EQUAL(RUN(r, to_user), RIG_DONE);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 0x203);
	CU_ASSERT_EQUAL(rig_stack(r, 3), 0x1f000);
	CU_ASSERT_EQUAL(rig_stack(r, 4), SEL_UDATA);
	/* The kernel's data segments are gone. */
	CU_ASSERT_EQUAL(r->sregs.ds.selector, 0);
	CU_ASSERT_EQUAL(r->sregs.es.selector, 0);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, iret_bad_rip), 13);
	CU_ASSERT_EQUAL(r->error, 0);
	CU_ASSERT_EQUAL(rig_stack(r, 3), RIG_STACK - 40); /* nothing popped */
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, iret_absent), 11);
	CU_ASSERT_EQUAL(r->error, SEL_ABSENT_CODE);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, iret_nt), 13);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, iret_bad_ss), 13);
	CU_ASSERT_EQUAL(r->error, SEL_CODE);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, iret_null_cs), 13);
	CU_ASSERT_EQUAL(r->error, 0);
	rig_free(r);
}

CODE64(do_syscall, "syscall")
CODE64(do_sysret, "lea 1f(%rip), %rcx; mov $0x247, %r11; sysretq\n1:")
CODE64(do_sysenter, "sysenter")
CODE64(do_sysexit, "lea 1f(%rip), %rdx; mov %rsp, %rcx; .byte 0x48, 0x0f, 0x35\n1:")

static void set_syscall(struct rig *r)
{
	vmx_vcpu_write_msr(r->vcpu, 0xc0000081, 0x0018000800000000ull);
	vmx_vcpu_write_msr(r->vcpu, 0xc0000082, RIG_STUBS + RIG_DONE * 8);
	vmx_vcpu_write_msr(r->vcpu, 0xc0000084, 0x257fd5);
	vmx_vcpu_write_msr(r->vcpu, 0x174, SEL_CODE);
	vmx_vcpu_write_msr(r->vcpu, 0x175, RIG_STACK0);
	vmx_vcpu_write_msr(r->vcpu, 0x176, RIG_STUBS + RIG_DONE * 8);
}

/* Single steps: r8 tells what came before the trap. SYSCALL and SYSRET go by the TF that they leave. */
CODE64(trap_sysret, "lea 1f(%rip), %rcx; mov $0x347, %r11; sysretq\n1: inc %r8d")
CODE64(trap_off, "lea 1f(%rip), %rcx; mov $0x247, %r11; pushf; orl $0x100, (%rsp); popf; sysretq\n"
		 "1: inc %r8d")
CODE64(trap_syscall, "pushf; orl $0x100, (%rsp); popf; syscall")

static void test_step(void)
{
	struct vmx_debugregs d;
	struct rig *r = rig_new(RIG_64);

	set_syscall(r);
	CU_ASSERT_EQUAL(RUN(r, trap_sysret), 1);
	CU_ASSERT_EQUAL(rig_stack(r, 0), r->regs.rcx);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 0x347);
	CU_ASSERT_EQUAL(rig_stack(r, 4), SEL_UDATA);
	CU_ASSERT_EQUAL(r->regs.r8, 0);
	CU_ASSERT_EQUAL(r->regs.rflags & 0x100, 0);
	vmx_vcpu_read_state(r->vcpu, VMX_STATE_DEBUGREGS, &d, sizeof(d));
	CU_ASSERT_EQUAL(d.dr6 & (1u << 14), 1u << 14);
	rig_free(r);

	r = rig_new(RIG_64);
	set_syscall(r);
	CU_ASSERT_EQUAL(RUN(r, trap_off), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.r8, 1);
	CU_ASSERT_EQUAL(rig_stack(r, 2) & 0x100, 0);
	rig_free(r);

	r = rig_new(RIG_64);
	rig_user(r);
	set_syscall(r); /* its mask has TF */
	CU_ASSERT_EQUAL(RUN(r, trap_syscall), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.r11 & 0x100, 0x100);
	rig_free(r);
}

static void test_syscall(void)
{
	struct rig *r = rig_new(RIG_64);

	rig_user(r);
	set_syscall(r);
	r->regs.rflags = 0x246;
	CU_ASSERT_EQUAL(RUN(r, do_syscall), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rcx, RIG_CODE + 2);
	CU_ASSERT_EQUAL(r->regs.r11, 0x246);
	CU_ASSERT_EQUAL(r->regs.rflags, 2);
	CU_ASSERT_EQUAL(r->sregs.cs.selector, 8);
	CU_ASSERT_EQUAL(r->sregs.cs.attributes, 0xa09b);
	CU_ASSERT_EQUAL(r->sregs.ss.selector, 0x10);
	CU_ASSERT_EQUAL(r->regs.rsp, RIG_STACK);
	rig_free(r);

	r = rig_new(RIG_64);
	set_syscall(r);
	CU_ASSERT_EQUAL(RUN(r, do_sysret), RIG_DONE);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_stack(r, 2), 0x247);
	CU_ASSERT_EQUAL(rig_stack(r, 3), RIG_STACK);
	CU_ASSERT_EQUAL(rig_stack(r, 4), SEL_UDATA);
	rig_free(r);

	r = rig_new(RIG_64);
	set_syscall(r);
	r->regs.rcx = 0x800000000000;
	CU_ASSERT_EQUAL(rig_run(r, (const uint8_t *)"\x48\x0f\x07",
				(const uint8_t *)"\x48\x0f\x07" + 3), 13);
	CU_ASSERT_EQUAL(r->sregs.cs.selector, 8);
	rig_free(r);

	r = rig_new(RIG_64);
	rig_user(r);
	set_syscall(r);
	r->sregs.efer &= ~1ull;
	CU_ASSERT_EQUAL(RUN(r, do_syscall), 6);
	rig_free(r);
}

static void test_sysenter(void)
{
	struct rig *r = rig_new(RIG_64);

	rig_user(r);
	set_syscall(r);
	r->regs.rflags = 0x247;
	CU_ASSERT_EQUAL(RUN(r, do_sysenter), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rsp, RIG_STACK0);
	CU_ASSERT_EQUAL(r->regs.rflags, 0x47);
	CU_ASSERT_EQUAL(r->sregs.cs.selector, 8);
	rig_free(r);
	r = rig_new(RIG_64);
	set_syscall(r);
	CU_ASSERT_EQUAL(RUN(r, do_sysexit), RIG_DONE);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_stack(r, 4), 0x33);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, do_sysenter), 13);
	rig_free(r);
}

CODE64(call_gate, "lcall *(%rbx)")
CODE64(far_compat, "push $0x40; lea 1f(%rip), %rax; push %rax; lretq\n.code32\n1: mov $0x1234, %eax")
CODE64(swap, "swapgs; rdgsbase %rax; swapgs; rdgsbase %rdx")
CODE64(gate_handler, "mov %rsp, %rsi; int $0x80")

static void test_far(void)
{
	struct rig *r = rig_new(RIG_64);

	rig_user(r);
	rig_put(r, RIG_DATA, (uint64_t)(SEL_GATE | 3) << 32, 8);
	memcpy(r->ram + RIG_CODE2, gate_handler, (size_t)(gate_handler_end - gate_handler));
	CU_ASSERT_EQUAL(RUN(r, call_gate), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rsi, RIG_STACK0 - 32);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 32, 8), RIG_CODE + 2);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 24, 8), SEL_UCODE);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 16, 8), RIG_STACK);
	CU_ASSERT_EQUAL(rig_get(r, RIG_STACK0 - 8, 8), SEL_UDATA);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_CODE);
	CU_ASSERT_EQUAL(rig_stack(r, 4), 0); /* SS became null */
	rig_free(r);

	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, far_compat), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 0x1234);
	CU_ASSERT_EQUAL(rig_stack(r, 1), SEL_CODE32);
	rig_free(r);

	r = rig_new(RIG_64);
	r->sregs.cr4 |= 0x10000;
	r->sregs.gs.base = 0x5678;
	vmx_vcpu_write_msr(r->vcpu, 0xc0000102, 0x1234);
	CU_ASSERT_EQUAL(RUN(r, swap), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 0x1234);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x5678);
	rig_free(r);
}

CODE64(access_rights,
       "mov $0x10, %ecx; lar %ecx, %eax; setz %r8b; mov $0x1000, %ecx; lar %ecx, %edx; setz %r9b\n"
       "mov $0x30, %ecx; lsl %ecx, %esi; setz %r10b; mov $0x08, %ecx; verr %cx; setz %r11b\n"
       "verw %cx; setz %r12b; mov $0x10, %ecx; verw %cx; setz %r13b; mov $0x8b, %ecx; mov %ecx, %fs")

static void test_selectors(void)
{
	struct rig *r = rig_new(RIG_64);

	r->regs.rdx = 77;
	CU_ASSERT_EQUAL(RUN(r, access_rights), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 0xc09300);
	CU_ASSERT_EQUAL(r->regs.r8 & 0xff, 1);
	CU_ASSERT_EQUAL(r->regs.rdx, 77);
	CU_ASSERT_EQUAL(r->regs.r9 & 0xff, 0);
	CU_ASSERT_EQUAL(r->regs.rsi, 0x67);
	CU_ASSERT_EQUAL(r->regs.r10 & 0xff, 1);
	CU_ASSERT_EQUAL(r->regs.r11 & 0xff, 1);
	CU_ASSERT_EQUAL(r->regs.r12 & 0xff, 0);
	CU_ASSERT_EQUAL(r->regs.r13 & 0xff, 1);
	/* The accessed bit was clear. */
	CU_ASSERT_EQUAL(rig_get(r, RIG_GDT + (SEL_FRESH & ~7) + 5, 1), 0xf3);
	rig_free(r);
}

CODE64(user_popf, "pushq $0x3202; popfq; pushfq; pop %rax")
CODE64(read_port, "in $0x50, %al")
CODE64(tables, "sgdt (%rbx); sidt 16(%rbx); str %eax; sldt %ecx; smsw %rdx")

static void test_user_flags_and_ports(void)
{
	struct rig *r = rig_new(RIG_64);

	rig_user(r);
	CU_ASSERT_EQUAL(RUN(r, user_popf), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rax, 2); /* neither IF nor IOPL */
	rig_free(r);
	r = rig_new(RIG_64);
	rig_user(r);
	r->sregs.tr.limit = 0x67 + 32;
	CU_ASSERT_EQUAL(RUN(r, read_port), 0x150);
	rig_free(r);
	r = rig_new(RIG_64);
	rig_user(r);
	r->sregs.tr.limit = 0x67 + 32;
	rig_put(r, RIG_TSS + 0x68 + 10, 1, 1);
	CU_ASSERT_EQUAL(RUN(r, read_port), 13);
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, tables), RIG_DONE);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA, 2), 0xff);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + 2, 8), RIG_GDT);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + 16, 2), 0xfff);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + 18, 8), RIG_IDT);
	CU_ASSERT_EQUAL(r->regs.rax, SEL_TSS);
	CU_ASSERT_EQUAL(r->regs.rcx, 0);
	CU_ASSERT_EQUAL(r->regs.rdx, 0x80010031);
	rig_free(r);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "IRETQ", test_iret },
		{ "SYSCALL and SYSRET", test_syscall },
		{ "SYSCALL and SYSRET with TF", test_step },
		{ "SYSENTER and SYSEXIT", test_sysenter },
		{ "far transfers, SWAPGS", test_far },
		{ "LAR LSL VERR VERW, accessed bit", test_selectors },
		{ "flags and ports of a user", test_user_flags_and_ports },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("transfers, 64-bit", tests));
}
