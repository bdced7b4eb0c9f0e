/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - opt-in exits, suspended time, the probe. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/bytes.h"
#include "common/clock.h"

static void arguments(struct env *e)
{
	struct vmx_exit_options o = { .optional = 1u << 31 };
	uint32_t unsupported = 7;

	env_vcpu(e);
	CHECK_EQ(vmx_vm_set_exit_options(e->vm, NULL, NULL), -EINVAL);
	CHECK_EQ(vmx_vm_set_exit_options(e->vm, &o, &unsupported), -EINVAL);
	CHECK_EQ(unsupported, 0);
	o = (struct vmx_exit_options){ .optional = 0, .exception_bitmap = 8 };
	CHECK_EQ(vmx_vm_set_exit_options(e->vm, &o, NULL), -EINVAL);
	o = (struct vmx_exit_options){ 0, 0 };
	CHECK_EQ(vmx_vm_set_exit_options(e->vm, &o, NULL), 0);
}

/* Turns the option on, or skips with the engine's own word that it cannot. */
static void need(struct env *e, uint32_t optional, uint32_t exceptions)
{
	struct vmx_exit_options o = { .optional = optional, .exception_bitmap = exceptions };
	uint32_t unsupported = 0;
	int r = vmx_vm_set_exit_options(e->vm, &o, &unsupported);

	if (r == -ENOTSUP && !e->soft) {
		CHECK(unsupported & optional);
		test_skip("KVM cannot hand that out (-ENOTSUP, option bits %#x)", unsupported);
	}
	CHECK_EQ(r, 0);
}

PAYLOAD(msr_code, ".code64\n"
	"mov $0x12345678, %ecx\n rdmsr\n out %al, $0x10\n"
	"mov $0x11, %eax\n mov $0x22, %edx\n wrmsr\n out %al, $0x11\n"
	"rdmsr\n out %al, $0x12\n"
	".org msr_code + 0x80\n mov $0xee, %al\n out %al, $0x13\n");

static void msr(struct env *e)
{
	env_long_payload(e, msr_code);
	set_gate(e, 13, CODE + 0x80);
	need(e, VMX_OPT_MSR, 0);
	expect(e, VMX_EXIT_MSR);
	CHECK_EQ(e->exit.msr.index, 0x12345678);
	CHECK_EQ(e->exit.msr.write, false);
	e->exit.msr.value = 0xaabbccdd11223344;
	expect_out(e, 0x10);
	CHECK_EQ(reg(e, VMX_RAX), 0x11223344);
	CHECK_EQ(reg(e, VMX_RDX), 0xaabbccdd);
	expect(e, VMX_EXIT_MSR);
	CHECK_EQ(e->exit.msr.write, true);
	CHECK_EQ(e->exit.msr.value, 0x2200000011);
	expect_out(e, 0x11);
	expect(e, VMX_EXIT_MSR);
	e->exit.msr.fault = true; /* #GP */
	CHECK_EQ(expect_out(e, 0x13), 0xee);
}

static void msr_off(struct env *e)
{
	env_long_payload(e, msr_code);
	set_gate(e, 13, CODE + 0x80);
	CHECK_EQ(expect_out(e, 0x13), 0xee); /* unknown MSR: #GP */
}

/* An answer that is awaited must come: another exit structure is refused. */
static void msr_answer(struct env *e)
{
	struct vmx_exit other;

	env_long_payload(e, msr_code);
	need(e, VMX_OPT_MSR, 0);
	expect(e, VMX_EXIT_MSR);
	CHECK_EQ(reg(e, VMX_RIP), CODE + 5); /* not executed yet */
	memset(&other, 0, sizeof(other));
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &other), -EINVAL);
	e->exit.msr.value = 5;
	CHECK_EQ(expect_out(e, 0x10), 5);
}

PAYLOAD(count_code, ".code64\n"
	"inc %rbx\n inc %rbx\n inc %rbx\n out %al, $0x10\n");

/* An answer that never comes does nothing to what runs next: after a reset, on a vCPU made anew, and
 * where the caller sends the guest elsewhere. */
static void msr_left(struct env *e)
{
	for (int way = 0; way < 3; way++) {
		env_long_payload(e, msr_code);
		need(e, VMX_OPT_MSR, 0);
		memcpy(e->ram + 0x2000, count_code, (size_t)(count_code_end - count_code));
		CHECK_EQ(vmx_vm_written(e->vm, 0x2000, 64), 0);
		expect(e, VMX_EXIT_MSR);
		if (way == 0) {
			CHECK_EQ(vmx_vm_reset(e->vm), 0);
			put_long_mode(e->vcpu);
		} else if (way == 1) {
			CHECK_EQ(vmx_vcpu_destroy(e->vcpu), 0);
			CHECK_EQ(vmx_vcpu_create(e->vm, 0, &e->vcpu), 0);
			put_long_mode(e->vcpu);
		}
		put_regs(e->vcpu, 0x2000, 0x9000);
		expect(e, VMX_EXIT_IO);
		CHECK_EQ(reg(e, VMX_RBX), 3);
		CHECK_EQ(reg(e, VMX_RAX), 0);
	}
}

PAYLOAD(cpuid_code, ".code64\n"
	"mov $0x40000100, %eax\n mov $3, %ecx\n cpuid\n out %al, $0x10\n"
	"mov $1, %eax\n cpuid\n out %al, $0x11\n");

static void cpuid(struct env *e)
{
	env_long_payload(e, cpuid_code);
	need(e, VMX_OPT_CPUID, 0);
	expect(e, VMX_EXIT_CPUID);
	CHECK_EQ(e->exit.cpuid.leaf, 0x40000100);
	CHECK_EQ(e->exit.cpuid.subleaf, 3);
	e->exit.cpuid.eax = 0x11;
	e->exit.cpuid.ebx = 0x22222222;
	e->exit.cpuid.ecx = 0x33333333;
	e->exit.cpuid.edx = 0x44444444;
	CHECK_EQ(expect_out(e, 0x10), 0x11);
	CHECK_EQ(reg(e, VMX_RBX), 0x22222222);
	CHECK_EQ(reg(e, VMX_RCX), 0x33333333);
	CHECK_EQ(reg(e, VMX_RDX), 0x44444444);
	expect(e, VMX_EXIT_CPUID);
	CHECK(e->exit.cpuid.edx & 1u << 6); /* the default result: PAE is there */
	CHECK(e->exit.cpuid.ecx & 1u << 31); /* and a hypervisor */
}

PAYLOAD(cpuid_say, ".code64\n mov $1, %eax\n cpuid\n out %al, $0x10\n hlt");

static void cpuid_values(struct env *e)
{
	env_long_payload(e, cpuid_say);
	expect_out(e, 0x10);
	CHECK_EQ(reg(e, VMX_RBX) >> 24, 0);           /* APIC id */
	CHECK_EQ(reg(e, VMX_RCX) >> 5 & 1, 0);        /* no VMX unless asked for */
	CHECK_EQ(reg(e, VMX_RCX) >> 31, 1);
	CHECK_EQ(reg(e, VMX_RCX) >> 21 & 1, 1);       /* x2APIC */
	CHECK(reg(e, VMX_RDX) & 1u << 9);             /* APIC */
}

PAYLOAD(breakpoint, ".code64\n"
	"int3\n out %al, $0x10\n int3\n out %al, $0x11\n"
	".org breakpoint + 0x80\n mov $0x33, %al\n out %al, $0x13\n iretq\n");

static void exception(struct env *e)
{
	env_long_payload(e, breakpoint);
	need_hardware(e, "it knows no INT3");
	set_gate(e, 3, CODE + 0x80);
	need(e, VMX_OPT_EXCEPTION, 1u << 3);
	expect(e, VMX_EXIT_EXCEPTION);
	CHECK_EQ(e->exit.exception.vector, 3);
	CHECK_EQ(e->exit.exception.has_error_code, false);
	CHECK_EQ(e->exit.rip, CODE); /* at the instruction */
	e->exit.exception.swallow = true;
	set_reg(e, VMX_RIP, CODE + 1);
	expect_out(e, 0x10);
	expect(e, VMX_EXIT_EXCEPTION);
	e->exit.exception.swallow = false;
	CHECK_EQ(expect_out(e, 0x13), 0x33);
	expect_out(e, 0x11);
}

PAYLOAD(page_fault, ".code64\n"
	"mov $0x10000000000, %rax\n movb $1, (%rax)\n"
	".org page_fault + 0x80\n pop %rax\n out %al, $0x13\n hlt");

static void exception_page_fault(struct env *e)
{
	env_long_payload(e, page_fault);
	set_gate(e, 14, CODE + 0x80);
	need(e, VMX_OPT_EXCEPTION, 1u << 14);
	expect(e, VMX_EXIT_EXCEPTION);
	CHECK_EQ(e->exit.exception.vector, 14);
	CHECK_EQ(e->exit.exception.has_error_code, true);
	CHECK_EQ(e->exit.exception.error_code, 2);
	CHECK_EQ(e->exit.exception.parameter, 0x10000000000);
	CHECK_EQ(e->exit.rip, CODE + 10);
	CHECK_EQ(expect_out(e, 0x13), 2);
}

PAYLOAD(tsc_code, ".code64\n rdtsc\n out %al, $0x10\n jmp tsc_code");

static void rdtsc(struct env *e)
{
	env_long_payload(e, tsc_code);
	need(e, VMX_OPT_RDTSC, 0);
	expect(e, VMX_EXIT_RDTSC);
	CHECK_EQ(e->exit.rdtsc.rdtscp, false);
	e->exit.rdtsc.tsc = 0x1122334455667788;
	CHECK_EQ(expect_out(e, 0x10), 0x88);
	CHECK_EQ(reg(e, VMX_RDX), 0x11223344);
}

PAYLOAD(vmcall_code, ".code64\n"
	"mov $7, %eax\n mov $1, %ebx\n mov $2, %ecx\n vmcall\n out %al, $0x10\n");

static void hypercall(struct env *e)
{
	env_long_payload(e, vmcall_code);
	need(e, VMX_OPT_HYPERCALL, 0);
	expect(e, VMX_EXIT_HYPERCALL);
	CHECK_EQ(e->exit.hypercall.nr, 7);
	CHECK_EQ(e->exit.hypercall.args[0], 1);
	CHECK_EQ(e->exit.hypercall.args[1], 2);
	e->exit.hypercall.result = 0x99;
	CHECK_EQ(expect_out(e, 0x10), 0x99);
}

static void hypercall_off(struct env *e)
{
	env_long_payload(e, vmcall_code);
	need_hardware(e, "it may not come back from VMCALL");
	/* Both engines answer as KVM does: no such call. */
	CHECK_EQ(expect_out(e, 0x10), -1000 & 0xff);
	CHECK_EQ(reg(e, VMX_RAX), (uint64_t)-1000);
}

/* CPUID's signature, then kvmclock's page at 0x8fc0 and its wall clock at 0x8f00, the TSC in RBX. */
PAYLOAD(clock_code, ".code64\n"
	"mov $0x40000000, %eax\n cpuid\n mov %ebx, %eax\n out %al, $0x10\n"
	"mov $0x4b564d00, %ecx\n mov $0x8f00, %eax\n xor %edx, %edx\n wrmsr\n"
	"mov $0x4b564d01, %ecx\n mov $0x8fc1, %eax\n wrmsr\n"
	"rdtsc\n shl $32, %rdx\n lea (%rdx,%rax), %rbx\n out %al, $0x10\n"
	"mov $0x10, %ecx\n rdmsr\n add $0x100, %edx\n wrmsr\n" /* the TSC jumps */
	"rdtsc\n shl $32, %rdx\n lea (%rdx,%rax), %rbx\n out %al, $0x10\n");

/* What the page says of the TSC in RBX, in nanoseconds. */
static uint64_t page_ns(struct env *e)
{
	struct {
		uint32_t version, pad;
		uint64_t tsc, ns;
		uint32_t mul;
		int8_t shift;
		uint8_t flags, pad2[2];
	} t;
	uint64_t ticks;

	memcpy(&t, e->ram + 0x8fc0, sizeof(t));
	CHECK(t.version && !(t.version & 1));
	ticks = reg(e, VMX_RBX) - t.tsc;
	ticks = t.shift < 0 ? ticks >> -t.shift : ticks << t.shift;
	return t.ns + (uint64_t)((unsigned __int128)ticks * t.mul >> 32);
}

static void kvmclock(struct env *e)
{
	uint64_t first, second;
	uint32_t wall[3];

	env_long_payload(e, clock_code);
	need_hardware(e, "it may hide KVM's interface");
	CHECK_EQ(expect_out(e, 0x10), 'K');
	expect_out(e, 0x10);
	memcpy(wall, e->ram + 0x8f00, sizeof(wall));
	first = page_ns(e);
	CHECK((uint64_t)time(NULL) - (wall[1] + first / 1000000000) <= 2);
	CHECK(wall[2] < 1000000000 && !(wall[0] & 1));
	expect_out(e, 0x10);
	if (!e->soft)
		return; /* KVM's page is right again at its next update */
	second = page_ns(e); /* the clock did not jump with it */
	CHECK(second >= first && second - first < 10000000000);
}

PAYLOAD(halt_code, ".code64\n hlt\n out %al, $0x10\n");

static void halt(struct env *e)
{
	env_long_payload(e, halt_code);
	need(e, VMX_OPT_HALT, 0);
	expect(e, VMX_EXIT_HALT);
	expect_out(e, 0x10); /* the caller waited: the guest goes on behind it */
}

static uint64_t guest_tsc(struct env *e)
{
	expect_out(e, 0x10);
	return reg(e, VMX_RDX) << 32 | reg(e, VMX_RAX);
}

/* From `before` to `after` the guest's time went on, but by no more than `most`. */
static void check_time(uint64_t before, uint64_t after, uint64_t most)
{
	if (after < before)
		test_fail(__FILE__, __LINE__, "the TSC went back by %llu",
			  (unsigned long long)(before - after));
	if (after - before > most)
		test_fail(__FILE__, __LINE__, "the TSC went on by %llu, more than %llu",
			  (unsigned long long)(after - before), (unsigned long long)most);
}

static void suspend_time(struct env *e)
{
	uint64_t before, after, running, hz;
	int r;

	env_long_payload(e, tsc_code);
	hz = vmx_vm_tsc_hz(e->vm);
	before = guest_tsc(e);
	sleep_ms(100);
	after = guest_tsc(e);
	CHECK(after - before > hz / 12); /* else it goes on */
	r = vmx_vm_suspend_time(e->vm);
	if (r == -ENOTSUP && !e->soft)
		test_skip("this kernel's KVM cannot move the TSC (-ENOTSUP)");
	CHECK_EQ(r, 0);
	CHECK_EQ(vmx_vm_suspend_time(e->vm), 0); /* twice is once */
	sleep_ms(300);
	CHECK_EQ(vmx_vm_resume_time(e->vm), 0);
	CHECK_EQ(vmx_vm_resume_time(e->vm), 0);
	before = guest_tsc(e);
	check_time(after, before, hz / 4);
	CHECK_EQ(vmx_vm_suspend_time(e->vm), 0);
	sleep_ms(300);
	running = guest_tsc(e); /* the next resume ends it as well */
	check_time(before, running, hz / 4);
}

static void probe(struct env *e)
{
	uint64_t t = clock_monotonic_ns();
	const struct vmx_probe_result *mine;
	struct vmx_probe p;

	memset(&p, 0xff, sizeof(p));
	CHECK_EQ(vmx_probe(NULL), -EINVAL);
	CHECK_EQ(vmx_probe(&p), 0);
	CHECK(clock_monotonic_ns() - t < 60 * NSEC_PER_SEC);
	mine = e->soft ? &p.soft : &p.kvm;
	CHECK(p.why[0] && memchr(p.why, 0, sizeof(p.why)));
	CHECK(mine->why[0] && memchr(mine->why, 0, sizeof(mine->why)));
	CHECK(memchr(mine->advice, 0, sizeof(mine->advice)));
	CHECK(mine->insns_per_second > 0); /* this engine runs here, or we would not */
	if (p.choice == VMX_ENGINE_KVM)
		CHECK(p.kvm.usable);
	else if (p.choice == VMX_ENGINE_SOFT)
		CHECK(p.soft.usable);
	else
		CHECK(!p.kvm.usable && !p.soft.usable);
}

static const struct test tests[] = {
	{ "arguments", "W1", arguments },
	{ "msr", "W1 W5 W6", msr },
	{ "msr-off", "W1", msr_off },
	{ "msr-answer", "W5", msr_answer },
	{ "msr-left", "W5 W11 K", msr_left },
	{ "cpuid", "W1 W5 W6", cpuid },
	{ "cpuid-values", "W1", cpuid_values },
	{ "exception", "W1 W5", exception },
	{ "exception-page-fault", "W1 W5", exception_page_fault },
	{ "rdtsc", "W1 W5 W6", rdtsc },
	{ "hypercall", "W1 W5", hypercall },
	{ "hypercall-off", "W1", hypercall_off },
	{ "kvmclock", "K", kvmclock },
	{ "halt", "W1 W5", halt },
	{ "suspend-time", "W10", suspend_time },
	{ "probe", "W1", probe },
};
SUITE(options, "options");
