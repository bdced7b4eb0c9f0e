/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_run.c - the software engine as a whole: memory, faults, devices, interrupts, several
 * processors; each test in every way that the engine can run a guest. */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/soft_modes.h"

/* --- data and devices ----------------------------------------------------------------------- */

PAYLOAD(real, ".code16\n mov $0x41,%al\n out %al,$0x80\n in $0x81,%al\n mov %al,0x3000\n"
	      "mov 0x3000,%bx\n hlt\n.code64");

static void test_real(void)
{
	struct vmx_sregs s;
	struct guest g;

	soft_start(&g);
	vmx_vm_reset(g.vm);
	LOAD(&g, CODE, real);
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	CU_ASSERT_EQUAL(s.cs.base, 0xffff0000u);
	s.cs.selector = CODE >> 4;
	s.cs.base = CODE;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	guest_set_reg(&g, VMX_RIP, 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(g.exit.io.port, 0x80);
	CU_ASSERT_EQUAL(*(uint8_t *)g.exit.io.buf, 0x41);
	CU_ASSERT_FALSE(g.exit.io.input);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_TRUE(g.exit.io.input);
	*(uint8_t *)g.exit.io.buf = 0x77;
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 0x77);
	guest_destroy(&g);
}

/* Sums 1..1000 through memory and the stack; all on the high, large, global mapping. */
PAYLOAD(sum, "mov $0xffffffff80030000,%rdi\n mov $1000,%ecx\n xor %eax,%eax\n mov %rax,(%rdi)\n"
	     "1: push %rcx\n add %rcx,(%rdi)\n pop %rdx\n call 2f\n dec %ecx\n jnz 1b\n"
	     "mov (%rdi),%rax\n mov %rax,8(%rdi)\n hlt\n 2: incq 16(%rdi)\n ret");

static void test_sum(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, sum);
	guest_set_reg(&g, VMX_RIP, KERNEL_HIGH + CODE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(q(&g, DATA)[1], 500500);
	CU_ASSERT_EQUAL(q(&g, DATA)[2], 1000);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDX), 1);
	guest_destroy(&g);
}

/* Read-modify-write of a device, a 16-byte read, one that begins in RAM and ends in the device. */
PAYLOAD(device, "mov $0x1fe000,%rsi\n addl $5,0x10(%rsi)\n movdqu 0x20(%rsi),%xmm1\n"
		"movdqu %xmm1,0x30000\n mov -4(%rsi),%rax\n movq %rax,0x30010\n hlt");

static void test_device(void)
{
	static const struct {
		uint64_t gpa, data;
		unsigned size;
		bool write;
	} want[] = {
		{ 0xd0000010, 37, 4, false }, { 0xd0000010, 42, 4, true },
		{ 0xd0000020, 0x1111111122222222, 8, false },
		{ 0xd0000028, 0x3333333344444444, 8, false },
		{ 0xd0000000, 0x55667788, 4, false },
	};
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, device);
	*(uint32_t *)(void *)(g.ram + 0x1fdffc) = 0x11223344;
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		uint64_t data = want[i].data;

		CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_MEM);
		CU_ASSERT_EQUAL(g.exit.mem.gpa, want[i].gpa);
		CU_ASSERT_EQUAL(g.exit.mem.size, want[i].size);
		CU_ASSERT_EQUAL(g.exit.mem.write, want[i].write);
		CU_ASSERT_TRUE(g.exit.mem.insn_bytes_len > 0);
		CU_ASSERT_EQUAL(g.exit.mem.insn_bytes[0], g.ram[g.exit.rip]);
		if (want[i].write) {
			CU_ASSERT_EQUAL(memcmp(g.exit.mem.buf, &data, want[i].size), 0);
		} else {
			memcpy(g.exit.mem.buf, &data, want[i].size);
		}
	}
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 0x1111111122222222);
	CU_ASSERT_EQUAL(q(&g, DATA)[1], 0x3333333344444444);
	CU_ASSERT_EQUAL(q(&g, DATA)[2], 0x5566778811223344);
	guest_destroy(&g);
}

PAYLOAD(bell, "mov $0x1fe000,%rsi\n mov $3,%ecx\n 1: movw $7,0x40(%rsi)\n loop 1b\n hlt");

static void test_bell(void)
{
	uint64_t count = 0;
	struct guest g;
	int fd = eventfd(0, EFD_NONBLOCK);

	soft_start(&g);
	LOAD(&g, CODE, bell);
	CU_ASSERT_EQUAL(vmx_vm_set_trap(g.vm, VMX_TRAP_BELL, 0xd0000040, 2, fd, 0), 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(read(fd, &count, sizeof(count)), sizeof(count));
	CU_ASSERT_EQUAL(count, 3);
	CU_ASSERT_EQUAL(vmx_vm_remove_trap(g.vm, VMX_TRAP_BELL, 0xd0000040), 0);
	guest_set_reg(&g, VMX_RIP, CODE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_MEM);
	guest_destroy(&g);
	close(fd);
}

/* The bases of GS change places; flags and the registers that live in memory do not. */
PAYLOAD(swapgs, "mov $0xc0000101,%ecx\n mov $0x30100,%eax\n xor %edx,%edx\n wrmsr\n inc %ecx\n"
		"mov $0x30200,%eax\n wrmsr\n mov $0x1234,%r9d\n mov $0x5678,%r10d\n cmp %eax,%eax\n"
		"swapgs\n sete %gs:0\n mov %r9,%gs:8\n mov %r10,%gs:16\n swapgs\n movb $7,%gs:0\n"
		"swapgs\n dec %ecx\n rdmsr\n mov %eax,0x30300\n inc %ecx\n rdmsr\n mov %eax,0x30308\n hlt");

static void test_swapgs(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, swapgs);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(g.ram[0x30200], 1);
	CU_ASSERT_EQUAL(*q(&g, 0x30208), 0x1234);
	CU_ASSERT_EQUAL(*q(&g, 0x30210), 0x5678);
	CU_ASSERT_EQUAL(g.ram[0x30100], 7);
	CU_ASSERT_EQUAL(*q(&g, 0x30300), 0x30200);
	CU_ASSERT_EQUAL(*q(&g, 0x30308), 0x30100);
	guest_destroy(&g);
}

/* --- page faults ---------------------------------------------------------------------------- */

/* rsi: address, rbx: what to do. The handler notes error code and CR2 and goes to 9. */
PAYLOAD(fault, "movq $-1,0x30000\n cmp $1,%ebx\n je 1f\n cmp $2,%ebx\n je 2f\n"
	       "cmp $3,%ebx\n je 3f\n"
	       "mov (%rsi),%rax\n jmp 9f\n 1: mov %rax,(%rsi)\n jmp 9f\n 2: stac\n mov (%rsi),%rax\n"
	       "clac\n jmp 9f\n 3: call *%rsi\n 9: mov $0x50000,%esp\n hlt\n"
	       ".org payload_fault+0x100\n"
	       "pop 0x30000\n mov %cr2,%rax\n mov %rax,0x30008\n mov $0x50000,%esp\n hlt");

struct fault_case {
	uint64_t pte;
	unsigned op;    /* 0 read, 1 write, 2 read with AC, 3 call */
	int64_t error;  /* -1: no fault */
	uint64_t pte_after; /* bits A and D */
};

static void fault_one(struct guest *g, const struct fault_case *c)
{
	set_pte(g, 1, c->pte);
	vmx_vm_written(g->vm, PT1, 4096);
	guest_set_reg(g, VMX_RIP, CODE);
	guest_set_reg(g, VMX_RSP, STACK);
	guest_set_reg(g, VMX_RSI, 0x201008);
	guest_set_reg(g, VMX_RBX, c->op);
	guest_set_reg(g, VMX_CR3, PML4); /* flushes */
	CU_ASSERT_EQUAL(guest_resume(g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL((int64_t)q(g, DATA)[0], c->error);
	if (c->error >= 0) {
		CU_ASSERT_EQUAL(q(g, DATA)[1], 0x201008);
	}
	CU_ASSERT_EQUAL(q(g, PT1)[1] & 0x60, c->pte_after);
}

static void test_faults(void)
{
	static const struct fault_case cases[] = {
		{ 0, 0, 0, 0 }, { 0, 1, 2, 0 }, { 0, 3, 0x10, 0 },
		{ 0x100000 | 3, 0, -1, 0x20 }, { 0x100000 | 3, 1, -1, 0x60 },
		{ 0x100000 | 1, 0, -1, 0x20 }, { 0x100000 | 1, 1, 3, 0 },
		{ 0x100000 | 3, 3, -1, 0x20 }, { 0x100000 | 3 | PTE_NX, 3, 0x11, 0 },
		{ 0x100000 | 7, 0, 1, 0 } /* SMAP */, { 0x100000 | 7, 2, -1, 0x20 },
		{ 0x100000 | 7, 3, 0x11, 0 } /* SMEP */, { 0x100000 | 3 | 1ull << 51, 0, 9, 0 },
	};
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, fault);
	set_gate(&g, 14, CODE + 0x100, 0);
	g.ram[0x100008] = 0xc3;
	guest_set_reg(&g, VMX_CR4, guest_reg(&g, VMX_CR4) | 3u << 20);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		fault_one(&g, &cases[i]);
	/* Without WP a supervisor writes to a read-only page, and the page becomes dirty. */
	guest_set_reg(&g, VMX_CR0, guest_reg(&g, VMX_CR0) & ~(1ull << 16));
	fault_one(&g, &(struct fault_case){ 0x100000 | 1, 1, -1, 0x60 });
	guest_destroy(&g);
}

/* The PTE goes away; the old translation may live until INVLPG, not longer. */
PAYLOAD(invlpg, "mov $0x201000,%esi\n mov $100,%ecx\n 1: mov (%rsi),%rax\n loop 1b\n"
		"movq $0x101003,0x8008\n invlpg (%rsi)\n mov (%rsi),%rbx\n"
		"movq $0x102003,0x8008\n mov %cr3,%rdx\n mov %rdx,%cr3\n mov (%rsi),%rdx\n"
		"movq $0,0x8008\n invlpg (%rsi)\n mov (%rsi),%rax\n ud2\n"
		".org payload_invlpg+0x100\n hlt");

static void test_invlpg(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, invlpg);
	set_gate(&g, 14, CODE + 0x100, 0);
	set_pte(&g, 1, 0x100000 | PTE_RW);
	*q(&g, 0x100000) = 1;
	*q(&g, 0x101000) = 2;
	*q(&g, 0x102000) = 3;
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), 1);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 2);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RDX), 3);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_CR2), 0x201000);
	guest_destroy(&g);
}

/* No handler at all. */
static void test_triple(void)
{
	struct guest g;

	soft_start(&g);
	g.ram[CODE] = 0x0f;
	g.ram[CODE + 1] = 0x0b;
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_SHUTDOWN);
	CU_ASSERT_EQUAL(g.exit.rip, CODE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_SHUTDOWN);
	CU_ASSERT_EQUAL(vmx_vm_reset(g.vm), 0);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP), 0xfff0);
	guest_destroy(&g);
}

/* --- code that changes ---------------------------------------------------------------------- */

/* Patches the immediate of an instruction ahead, 50 times, and adds up what it executed; then
 * writes to data beside it on the same page. */
PAYLOAD(smc, "xor %ebx,%ebx\n mov $50,%ecx\n 1: mov %ecx,2f+1(%rip)\n 2: mov $0,%eax\n"
	     "add %rax,%rbx\n mov %ecx,3f(%rip)\n loop 1b\n hlt\n .balign 64\n 3: .long 0");

static void test_smc(void)
{
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, smc);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), 1275);
	/* The same by the host, as a device does it. */
	g.ram[CODE] = 0xf4;
	CU_ASSERT_EQUAL(vmx_vm_written(g.vm, CODE, 1), 0);
	guest_set_reg(&g, VMX_RIP, CODE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP), CODE + 1);
	guest_destroy(&g);
}

PAYLOAD(dirty, "1: movb $1,0x30000\n incl 0x31000\n mov 0x32000,%eax\n hlt\n jmp 1b");

static void test_dirty(void)
{
	uint64_t bits = 0;
	struct guest g;

	soft_start(&g);
	LOAD(&g, CODE, dirty);
	CU_ASSERT_EQUAL(vmx_vm_dirty(g.vm, 0, RAM_SIZE, NULL, 0), 0);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
		CU_ASSERT_EQUAL(vmx_vm_dirty(g.vm, 0x30000, 0x3000, &bits, 1), 0);
		CU_ASSERT_EQUAL(bits, 3);
		CU_ASSERT_EQUAL(vmx_vm_dirty(g.vm, 0x30000, 0x3000, &bits, 1), 0);
		CU_ASSERT_EQUAL(bits, 0);
	}
	guest_destroy(&g);
}

/* A mapping that is replaced, made read-only, and taken away. */
static void test_remap(void)
{
	struct guest g;
	uint8_t *other = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	soft_start(&g);
	LOAD(&g, CODE, dirty);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(vmx_vm_map(g.vm, 0x31000, 4096, other, VMX_MAP_READ | VMX_MAP_WRITE), 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(other[0], 1);
	CU_ASSERT_EQUAL(vmx_vm_map(g.vm, 0x31000, 4096, other, VMX_MAP_READ), 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_MEM);
	CU_ASSERT_TRUE(g.exit.mem.write);
	CU_ASSERT_EQUAL(g.exit.mem.gpa, 0x31000);
	CU_ASSERT_EQUAL(*(uint32_t *)(void *)g.exit.mem.buf, 2);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(other[0], 1);
	CU_ASSERT_EQUAL(vmx_vm_unmap(g.vm, 0x31000, 4096), 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_MEM);
	CU_ASSERT_FALSE(g.exit.mem.write);
	guest_destroy(&g);
	munmap(other, 4096);
}

/* --- interrupts ----------------------------------------------------------------------------- */

/* xAPIC: enable, one-shot timer of vector 0x40; wait; the same by x2APIC and TSC deadline. */
PAYLOAD(timer, "mov $0x1ff000,%ebp\n movl $0x1ff,0xf0(%rbp)\n movl $0xb,0x3e0(%rbp)\n"
	       "movl $0x40,0x320(%rbp)\n movl $25000,0x380(%rbp)\n"
	       "1: sti\n hlt\n cli\n cmpl $1,0x30000\n jne 1b\n"
	       "mov $0x1b,%ecx\n rdmsr\n or $0xc00,%eax\n wrmsr\n"
	       "mov $0x832,%ecx\n xor %edx,%edx\n mov $0x40041,%eax\n wrmsr\n"
	       "rdtsc\n shl $32,%rdx\n or %rdx,%rax\n add $2000000,%rax\n mov %rax,%r8\n"
	       "mov %rax,%rdx\n shr $32,%rdx\n mov $0x6e0,%ecx\n wrmsr\n"
	       "2: sti\n hlt\n cli\n cmpl $1,0x30004\n jne 2b\n"
	       "rdtsc\n shl $32,%rdx\n or %rdx,%rax\n sub %r8,%rax\n mov %rax,0x30008\n"
	       "out %al,$0xf4\n"
	       ".org payload_timer+0x100\n incl 0x30000\n movl $0,0xb0(%rbp)\n iretq\n"
	       ".org payload_timer+0x200\n incl 0x30004\n push %rax\n push %rcx\n push %rdx\n"
	       "xor %eax,%eax\n xor %edx,%edx\n mov $0x80b,%ecx\n wrmsr\n pop %rdx\n pop %rcx\n"
	       "pop %rax\n iretq");

static void test_timer(void)
{
	const struct vmx_exit_options none = { 0 };
	struct guest g;

	soft_start(&g);
	vmx_vm_set_exit_options(g.vm, &none, NULL);
	LOAD(&g, CODE, timer);
	set_gate(&g, 0x40, CODE + 0x100, 0);
	set_gate(&g, 0x41, CODE + 0x200, 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 0x100000001);
	/* Late is what the host makes it; early never. */
	CU_ASSERT_TRUE((int64_t)q(&g, DATA)[1] >= 0);
	guest_destroy(&g);
}

PAYLOAD(wait, "mov $0x1ff000,%ebp\n movl $0x1ff,0xf0(%rbp)\n sti\n 1: jmp 1b\n"
	      ".org payload_wait+0x100\n incl 0x30000\n mov (%rsp),%rax\n out %al,$0x10\n"
	      "movl $0,0xb0(%rbp)\n out %al,$0x11\n iretq");

struct poster {
	struct guest *g;
	int what;
	uint64_t address;
	uint32_t data;
};

static void *post(void *arg)
{
	struct poster *p = arg;

	usleep(20000);
	switch (p->what) {
	case 0:
		vmx_vm_msi(p->g->vm, p->address, p->data);
		break;
	case 1:
		vmx_vcpu_set_extint(p->g->cpu, true);
		break;
	case 2:
		vmx_vcpu_kick(p->g->cpu);
		vmx_vcpu_kick(p->g->cpu);
		break;
	case 3:
		vmx_vcpu_interrupt(p->g->cpu, VMX_INTERRUPT_NMI, 0);
		break;
	default:
		vmx_vcpu_interrupt(p->g->cpu, VMX_INTERRUPT_FIXED, p->data);
		break;
	}
	return NULL;
}

static int resume_and_post(struct guest *g, int what, uint64_t address, uint32_t data)
{
	struct poster p = { g, what, address, data };
	pthread_t thread;
	int r;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, post, &p), 0);
	r = guest_resume(g);
	pthread_join(thread, NULL);
	return r;
}

static void start_wait(struct guest *g, unsigned vector)
{
	soft_start(g);
	LOAD(g, CODE, wait);
	set_gate(g, vector, CODE + 0x100, 0);
}

static void test_msi(void)
{
	struct guest g;

	start_wait(&g, 0x55);
	CU_ASSERT_EQUAL(resume_and_post(&g, 0, 0xfee00000, 0x55), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 1);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO); /* edge: the EOI is nobody's business */
	CU_ASSERT_EQUAL(resume_and_post(&g, 4, 0, 0x55), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(g.exit.io.port, 0x10);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	/* Level: the exit comes before what the guest did after the EOI. */
	CU_ASSERT_EQUAL(resume_and_post(&g, 0, 0xfee00000, 0xc055), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(g.exit.io.port, 0x10);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_APIC_EOI);
	CU_ASSERT_EQUAL(g.exit.eoi.vector, 0x55);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(g.exit.io.port, 0x11);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 3);
	guest_destroy(&g);
}

static void test_extint(void)
{
	struct guest g;

	start_wait(&g, 0x30);
	/* Enabling the APIC masked nothing: LINT0 still is ExtINT. */
	CU_ASSERT_EQUAL(resume_and_post(&g, 1, 0, 0), VMX_EXIT_EXTINT);
	CU_ASSERT_EQUAL(vmx_vcpu_set_extint(g.cpu, false), 0);
	CU_ASSERT_EQUAL(vmx_vcpu_interrupt(g.cpu, VMX_INTERRUPT_EXTINT, 0x30), 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(g.exit.io.port, 0x10);
	guest_destroy(&g);
}

static void test_nmi(void)
{
	struct guest g;

	start_wait(&g, 2);
	CU_ASSERT_EQUAL(resume_and_post(&g, 3, 0, 0), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 1);
	guest_destroy(&g);
}

static void test_kick(void)
{
	struct guest g;

	start_wait(&g, 0x30);
	CU_ASSERT_EQUAL(resume_and_post(&g, 2, 0, 0), -ECANCELED);
	/* Two kicks, one cancellation: the next resume waits for the third. */
	CU_ASSERT_EQUAL(resume_and_post(&g, 2, 0, 0), -ECANCELED);
	guest_destroy(&g);
}

/* --- two processors ------------------------------------------------------------------------- */

PAYLOAD(boot2, "mov $0x1ff000,%ebp\n movl $0x1ff,0xf0(%rbp)\n movl $0x1000000,0x310(%rbp)\n"
	       "movl $0x4500,0x300(%rbp)\n movl $0x1000000,0x310(%rbp)\n movl $0x4660,0x300(%rbp)\n"
	       "1: pause\n cmpl $0x1234,0x30000\n jne 1b\n mov $100000,%ecx\n"
	       "2: lock incq 0x30010\n loop 2b\n"
	       "3: pause\n cmpl $1,0x30004\n jne 3b\n out %al,$0xf4\n 4: jmp 4b");
PAYLOAD(second, ".code16\n cli\n xor %ax,%ax\n mov %ax,%ds\n mov $0x3000,%bx\n mov %bx,%ds\n"
		"movw $0x1234,0\n mov $50000,%cx\n mov $2,%dx\n"
		"1: lock incl 0x10\n loop 1b\n mov $50000,%cx\n dec %dx\n jnz 1b\n"
		"movw $1,4\n 2: hlt\n jmp 2b\n.code64");

struct second {
	struct vmx_vm *vm;
	struct vmx_vcpu *_Atomic cpu;
	int result;
};

static void *second_cpu(void *arg)
{
	struct second *s = arg;
	struct vmx_exit exit = { 0 };
	struct vmx_vcpu *cpu;

	s->result = vmx_vcpu_create(s->vm, 1, &cpu);
	s->cpu = cpu;
	if (s->result >= 0)
		s->result = vmx_vcpu_resume(cpu, &exit);
	vmx_vcpu_destroy(cpu);
	return NULL;
}

static void test_second(void)
{
	const struct vmx_exit_options none = { 0 };
	struct second s = { 0 };
	pthread_t thread;
	struct guest g;

	soft_start(&g);
	vmx_vm_set_exit_options(g.vm, &none, NULL);
	s.vm = g.vm;
	LOAD(&g, CODE, boot2);
	LOAD(&g, 0x60000, second);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, second_cpu, &s), 0);
	while (!s.cpu)
		usleep(1000);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_EQUAL(q(&g, DATA)[2], 200000);
	vmx_vcpu_kick(s.cpu);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(s.result, -ECANCELED);
	guest_destroy(&g);
}

/* --- state ---------------------------------------------------------------------------------- */

static void test_state(void)
{
	enum vmx_translate_result result;
	struct vmx_sregs s, bad;
	uint8_t lapic[1024];
	uint64_t gpa;
	struct guest g;

	soft_start(&g);
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g.cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	bad = s;
	bad.cr0 &= ~1ull;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_SREGS, &bad, sizeof(bad)), -EINVAL);
	bad = s;
	bad.cr4 = 1ull << 40;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_SREGS, &bad, sizeof(bad)), -EINVAL);
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g.cpu, VMX_STATE_LAPIC, lapic, sizeof(lapic)), 0);
	CU_ASSERT_EQUAL(lapic[0x30], 0x14);
	lapic[0x80] = 0x50;
	CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_LAPIC, lapic, sizeof(lapic)), 0);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_CR8), 5);
	set_pte(&g, 0, 0x100000 | 1);
	CU_ASSERT_EQUAL(vmx_vcpu_translate(g.cpu, 0x200123, VMX_TRANSLATE_READ, &result, &gpa), 0);
	CU_ASSERT_EQUAL(result, VMX_TRANSLATE_OK);
	CU_ASSERT_EQUAL(gpa, 0x100123);
	CU_ASSERT_EQUAL(q(&g, PT1)[0], 0x100001);
	CU_ASSERT_EQUAL(vmx_vcpu_translate(g.cpu, 0x200123, VMX_TRANSLATE_WRITE, &result, &gpa), 0);
	CU_ASSERT_EQUAL(result, VMX_TRANSLATE_PRIVILEGE);
	CU_ASSERT_EQUAL(vmx_vcpu_translate(g.cpu, 0x201123, VMX_TRANSLATE_READ, &result, &gpa), 0);
	CU_ASSERT_EQUAL(result, VMX_TRANSLATE_NOT_PRESENT);
	guest_destroy(&g);
}

static CU_TestInfo tests[] = {
	{ "real mode, ports", test_real },
	{ "memory and stack", test_sum },
	{ "devices", test_device },
	{ "bells", test_bell },
	{ "SWAPGS", test_swapgs },
	{ "page faults", test_faults },
	{ "INVLPG and MOV CR3", test_invlpg },
	{ "triple fault", test_triple },
	{ "code that changes", test_smc },
	{ "dirty pages", test_dirty },
	{ "mappings change", test_remap },
	{ "APIC timer", test_timer },
	{ "MSI and EOI", test_msi },
	{ "external interrupt", test_extint },
	{ "NMI", test_nmi },
	{ "kick", test_kick },
	{ "second processor", test_second },
	{ "state", test_state },
	CU_TEST_INFO_NULL,
};

int main(void)
{
	return UNIT_RUN(SOFT_SUITES(tests));
}
