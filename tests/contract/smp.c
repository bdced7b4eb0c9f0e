/* SPDX-License-Identifier: Apache-2.0 */
/* smp.c - several vCPUs at once; APIC timers, x2APIC and IPIs. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/bytes.h"

#define CPUS 4u
#define RWX (VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC)

struct cpu {
	struct env e; /* vcpu is its own, the rest shared */
	unsigned id;
	_Atomic bool ready, done;
	struct vmx_sregs sregs;
	int result;
	_Atomic unsigned exits, cancels;
};

/* A vCPU of this thread, in the state of vCPU 0. */
static void join_machine(struct cpu *c)
{
	const uint32_t active = VMX_ACTIVE;

	CHECK_EQ(vmx_vcpu_create(c->e.vm, c->id, &c->e.vcpu), 0);
	if (c->id)
		CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_ACTIVITY, &active, 4), 0);
	c->sregs.apic_base &= ~0x100ull;
	CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_SREGS, &c->sregs, sizeof(c->sregs)), 0);
	put_regs(c->e.vcpu, CODE, 0x9000 - c->id * 0x100);
	enable_lapic(c->e.vcpu);
	c->ready = true;
}

/* vCPU 0 is the caller's, in long mode with `code`; the others get the same state. */
static void make_cpus(struct env *e, struct cpu *c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		c[i].e = *e;
		c[i].e.vcpu = NULL;
		c[i].id = i + 1;
		CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &c[i].sregs,
					     sizeof(c[i].sregs)), 0);
	}
}

PAYLOAD(count, ".code64\n"
	"mov $20000, %ecx\n 1: lock incl 0x5000\n dec %ecx\n jnz 1b\n out %al, $0x10\n");

static void *count_cpu(void *arg)
{
	struct cpu *c = arg;

	join_machine(c);
	expect_out(&c->e, 0x10);
	CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), 0);
	return NULL;
}

/* Locked increments from several processors: none is lost. */
static void atomics(struct env *e)
{
	struct cpu c[CPUS - 1];
	pthread_t t[CPUS - 1];

	memset(c, 0, sizeof(c));
	env_long_payload(e, count);
	make_cpus(e, c, CPUS - 1);
	for (unsigned i = 0; i < CPUS - 1; i++)
		t[i] = start(count_cpu, &c[i]);
	expect_out(e, 0x10);
	for (unsigned i = 0; i < CPUS - 1; i++)
		join(t[i]);
	CHECK_EQ(get_le32(e->ram + 0x5000), CPUS * 20000);
}

PAYLOAD(wait_ipi, ".code64\n sti\n hlt\n 1: out %al, $0x10\n jmp 1b\n"
	".org wait_ipi + 0x40\n out %al, $0x20\n"
	"push %rax\n mov $0xfee000b0, %eax\n movl $0, (%rax)\n pop %rax\n iretq\n"
	/* vCPU 0: sends vector 0x61 to APIC id 1, then to all but itself */
	".org wait_ipi + 0x80\n mov $0xfee00300, %edi\n movl $0x01000000, 16(%rdi)\n"
	"movl $0x4061, (%rdi)\n out %al, $0x30\n movl $0xc4061, (%rdi)\n out %al, $0x31\n");

/* Until the guest says `port`; what it says at `other` meanwhile does not count. */
static void await_out(struct env *e, uint16_t port, uint16_t other)
{
	do
		expect(e, VMX_EXIT_IO);
	while (e->exit.io.port == other);
	CHECK_EQ(e->exit.io.port, port);
}

static void *ipi_cpu(void *arg)
{
	struct cpu *c = arg;

	join_machine(c);
	for (int i = 0; i < 2; i++) {
		await_out(&c->e, 0x20, 0x10);
		c->done = true;
		while (c->ready)
			sleep_ms(1);
		c->ready = true;
	}
	CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), 0);
	return NULL;
}

static void ipi(struct env *e)
{
	struct cpu c;
	pthread_t t;

	memset(&c, 0, sizeof(c));
	env_long_payload(e, wait_ipi);
	set_gate(e, 0x61, CODE + 0x40);
	enable_lapic(e->vcpu);
	make_cpus(e, &c, 1);
	set_reg(e, VMX_RIP, CODE + 0x80);
	t = start(ipi_cpu, &c);
	while (!c.ready)
		sleep_ms(1);
	expect_out(e, 0x30);
	while (!c.done)
		sleep_ms(1);
	c.done = false;
	c.ready = false;
	while (!c.ready)
		sleep_ms(1);
	expect_out(e, 0x31);
	while (!c.done)
		sleep_ms(1);
	c.ready = false;
	join(t);
}

PAYLOAD(reader, ".code64\n"
	"mov $0x40000000, %edi\n 1: mov (%rdi), %al\n cmp $0x33, %al\n jne 1b\n out %al, $0x10\n");

static void *reader_cpu(void *arg)
{
	struct cpu *c = arg;

	join_machine(c);
	CHECK_EQ(expect_out(&c->e, 0x10), 0x33);
	CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), 0);
	return NULL;
}

/* A mapping is replaced again and again under several processors; none ever meets a hole. */
static void remap_under_all(struct env *e)
{
	struct cpu c[CPUS];
	pthread_t t[CPUS];
	uint8_t *p[2];

	memset(c, 0, sizeof(c));
	env_long_payload(e, reader);
	for (int i = 0; i < 2; i++) {
		p[i] = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(p[i] != MAP_FAILED);
	}
	CHECK_EQ(vmx_vm_map(e->vm, 0x40000000, 8192, p[0], RWX), 0);
	make_cpus(e, c, CPUS);
	for (unsigned i = 0; i < CPUS; i++)
		t[i] = start(reader_cpu, &c[i]);
	for (unsigned i = 0; i < CPUS; i++)
		while (!c[i].ready)
			sleep_ms(1);
	for (unsigned i = 0; i < 100; i++) {
		CHECK_EQ(vmx_vm_map(e->vm, 0x40000000, 4096 + (i & 4 ? 4096 : 0), p[i & 1], RWX), 0);
		CHECK_EQ(madvise(p[~i & 1], 4096, MADV_DONTNEED), 0);
	}
	p[1][0] = 0x33; /* the last one mapped */
	CHECK_EQ(vmx_vm_written(e->vm, 0x40000000, 1), 0);
	for (unsigned i = 0; i < CPUS; i++)
		join(t[i]);
}

PAYLOAD(chatter, ".code64\n 1: out %al, $0x10\n incl 0x5000\n jmp 1b\n");

static void *chatter_cpu(void *arg)
{
	struct cpu *c = arg;

	join_machine(c);
	while (!c->done) {
		int r = vmx_vcpu_resume(c->e.vcpu, &c->e.exit);

		if (r == 0)
			c->exits++;
		else if (r == -ECANCELED)
			c->cancels++;
		else
			CHECK_EQ(r, 0);
	}
	CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), 0);
	return NULL;
}

/* Kicks from two threads into a processor that goes in and out: as many cancels as kicks at most,
 * and a last kick always gets it out. Its thread destroys the vCPU at once. */
static void kick_storm(struct env *e)
{
	unsigned kicks = 0;
	struct cpu c;
	pthread_t t;

	memset(&c, 0, sizeof(c));
	env_long_payload(e, chatter);
	make_cpus(e, &c, 1);
	t = start(chatter_cpu, &c);
	while (!c.ready)
		sleep_ms(1);
	for (unsigned i = 0; i < 300; i++) {
		CHECK_EQ(vmx_vcpu_kick(c.e.vcpu), 0);
		kicks++;
		if (i % 50 == 0)
			sleep_ms(2);
	}
	while (!c.cancels || !c.exits) /* the last one is never lost, however busy the machine */
		sleep_ms(1);
	c.done = true;
	CHECK_EQ(vmx_vcpu_kick(c.e.vcpu), 0);
	join(t);
	CHECK(c.cancels <= kicks + 1);
	CHECK(c.exits > 0);
}

/* One-shot, then periodic; the divider is 1. */
PAYLOAD(timer, ".code64\n"
	"mov $0xfee00000, %edi\n movl $0xb, 0x3e0(%rdi)\n movl $0x71, 0x320(%rdi)\n"
	"movl $1000000, 0x380(%rdi)\n sti\n hlt\n out %al, $0x10\n"
	"movl $0x20071, 0x320(%rdi)\n movl $1000000, 0x380(%rdi)\n"
	"hlt\n hlt\n hlt\n movl $0, 0x380(%rdi)\n mov 0x390(%rdi), %eax\n out %al, $0x11\n"
	".org timer + 0x100\n incl 0x5000\n movl $0, 0xb0(%rdi)\n iretq\n");

static void apic_timer(struct env *e)
{
	env_long_payload(e, timer);
	set_gate(e, 0x71, CODE + 0x100);
	enable_lapic(e->vcpu);
	expect_out(e, 0x10);
	CHECK_EQ(get_le32(e->ram + 0x5000), 1);
	CHECK_EQ(expect_out(e, 0x11), 0); /* stopped */
	CHECK(get_le32(e->ram + 0x5000) >= 4);
}

PAYLOAD(deadline, ".code64\n"
	"mov $0xfee00000, %edi\n movl $0x40072, 0x320(%rdi)\n mfence\n"
	"rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, %rbx\n add $20000000, %rax\n"
	"mov %rax, %rdx\n shr $32, %rdx\n mov $0x6e0, %ecx\n wrmsr\n sti\n hlt\n"
	"rdtsc\n shl $32, %rdx\n or %rdx, %rax\n sub %rbx, %rax\n mov %rax, %rsi\n"
	"rdmsr\n out %al, $0x10\n"
	".org deadline + 0x100\n incl 0x5000\n movl $0, 0xb0(%rdi)\n iretq\n");

static void tsc_deadline(struct env *e)
{
	env_long_payload(e, deadline);
	set_gate(e, 0x72, CODE + 0x100);
	enable_lapic(e->vcpu);
	CHECK_EQ(expect_out(e, 0x10), 0); /* disarmed */
	CHECK_EQ(get_le32(e->ram + 0x5000), 1);
	CHECK(reg(e, VMX_RSI) >= 19000000); /* not early (KVM may be, by a hair) */
}

PAYLOAD(x2apic, ".code64\n"
	"mov $0x1b, %ecx\n rdmsr\n or $0xc00, %eax\n wrmsr\n"
	"mov $0x802, %ecx\n rdmsr\n out %al, $0x10\n"                          /* id */
	"mov $0x83f, %ecx\n mov $0x73, %eax\n xor %edx, %edx\n wrmsr\n"         /* self IPI */
	"sti\n nop\n hlt\n 1: out %al, $0x11\n jmp 1b\n"
	".org x2apic + 0x100\n out %al, $0x20\n"
	"mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n iretq\n");

static void x2apic_mode(struct env *e)
{
	uint64_t base;

	env_long_payload(e, x2apic);
	set_gate(e, 0x73, CODE + 0x100);
	enable_lapic(e->vcpu);
	CHECK_EQ(expect_out(e, 0x10), 0);
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0x1b, &base), 0);
	CHECK_EQ(base, 0xfee00d00);
	await_out(e, 0x20, 0x11);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x73), 0);
	await_out(e, 0x20, 0x11); /* EOI worked */
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfee00000, 0x73), 0);
	await_out(e, 0x20, 0x11);
}

static const struct test tests[] = {
	{ "atomics", "Z3 W1", atomics },
	{ "ipi", "W8", ipi },
	{ "remap-under-all", "W2", remap_under_all },
	{ "kick-storm", "Z5 K", kick_storm },
	{ "apic-timer", "W8", apic_timer },
	{ "tsc-deadline", "W8", tsc_deadline },
	{ "x2apic-mode", "W8", x2apic_mode },
};
SUITE(smp, "smp");
