/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - resume, its exits, and kicks. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"

PAYLOAD(outs, ".code16\n"
	"mov $0x12345678, %eax\n"
	"out %al, $0x10\n"
	"out %ax, $0x11\n"
	"out %eax, $0x12\n"
	"mov $0x3f8, %dx\n"
	"out %al, (%dx)\n"
	"hlt");

/* KVM may have moved on already (vmx.h). */
static void check_out_rip(struct env *e, uint64_t rip)
{
	if (e->soft || e->exit.rip != rip + 2)
		CHECK_EQ(e->exit.rip, rip);
}

static void io_out(struct env *e)
{
	env_real_payload(e, outs);
	CHECK_EQ(expect_out(e, 0x10), 0x78);
	CHECK_EQ(e->exit.io.key, 0);
	check_out_rip(e, CODE + 6);
	CHECK(e->exit.insn_len == 0 || e->exit.insn_len == 2);
	CHECK_EQ(reg(e, VMX_RIP), CODE + 8); /* looking completes it */
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.size, 2);
	CHECK_EQ(e->exit.io.port, 0x11);
	CHECK_EQ(get_le16(e->exit.io.buf), 0x5678);
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.size, 4);
	CHECK_EQ(e->exit.io.port, 0x12);
	CHECK_EQ(get_le32(e->exit.io.buf), 0x12345678);
	CHECK_EQ(expect_out(e, 0x3f8), 0x78);
}

PAYLOAD(ins, ".code16\n"
	"mov $0xaaaaaaaa, %eax\n in $0x10, %al\n mov %eax, %ebx\n"
	"mov $0xaaaaaaaa, %eax\n in $0x11, %ax\n mov %eax, %ecx\n"
	"mov $0xaaaaaaaa, %eax\n in $0x12, %eax\n mov %eax, %esi\n"
	"out %al, $0x13\n");

static void io_in(struct env *e)
{
	env_real_payload(e, ins);
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.input, true);
	CHECK_EQ(e->exit.io.size, 1);
	CHECK_EQ(e->exit.io.port, 0x10);
	*(uint8_t *)e->exit.io.buf = 0x11;
	CHECK_EQ(reg(e, VMX_RAX), 0xaaaaaa11); /* completed by looking */
	CHECK_EQ(reg(e, VMX_RIP), CODE + 8);
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.size, 2);
	put_le16(e->exit.io.buf, 0x2222);
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.size, 4);
	put_le32(e->exit.io.buf, 0x33445566);
	CHECK_EQ(expect_out(e, 0x13), 0x66);
	CHECK_EQ(reg(e, VMX_RBX), 0xaaaaaa11);
	CHECK_EQ(reg(e, VMX_RCX), 0xaaaa2222);
	CHECK_EQ(reg(e, VMX_RSI), 0x33445566);
}

PAYLOAD(string_io, ".code16\n"
	"cld\n mov $0x5000, %di\n mov $100, %cx\n mov $0x10, %dx\n rep insb\n"
	"mov $0x5000, %si\n mov $50, %cx\n mov $0x11, %dx\n rep outsw\n"
	"out %al, $0x12\n");

/* How many elements an exit carries is the engine's choice; all of them come, in order. */
static void io_string(struct env *e)
{
	unsigned n = 0;

	env_real_payload(e, string_io);
	while (n < 100) {
		expect(e, VMX_EXIT_IO);
		CHECK_EQ(e->exit.io.port, 0x10);
		CHECK_EQ(e->exit.io.input, true);
		CHECK_EQ(e->exit.io.size, 1);
		CHECK(e->exit.io.count >= 1 && e->exit.io.count <= 100 - n);
		for (uint32_t i = 0; i < e->exit.io.count; i++)
			((uint8_t *)e->exit.io.buf)[i] = (uint8_t)(n++ + 7);
	}
	for (n = 0; n < 50;) {
		expect(e, VMX_EXIT_IO);
		CHECK_EQ(e->exit.io.port, 0x11);
		CHECK_EQ(e->exit.io.input, false);
		CHECK_EQ(e->exit.io.size, 2);
		CHECK(e->exit.io.count >= 1 && e->exit.io.count <= 50 - n);
		for (uint32_t i = 0; i < e->exit.io.count; i++, n++)
			CHECK_EQ(get_le16((uint8_t *)e->exit.io.buf + 2 * i),
				 (uint8_t)(2 * n + 7) | (uint8_t)(2 * n + 8) << 8);
	}
	expect_out(e, 0x12);
	CHECK_EQ(e->ram[0x5000 + 99], 106);
	CHECK_EQ(reg(e, VMX_RCX), 0);
	CHECK_EQ(reg(e, VMX_RSI), 0x5000 + 100);
}

PAYLOAD(mem_writes, ".code64\n"
	"mov $0x80000000, %edi\n mov $0x1122334455667788, %rax\n"
	"mov %al, (%rdi)\n mov %ax, 16(%rdi)\n mov %eax, 32(%rdi)\n mov %rax, 48(%rdi)\n"
	"movb $0x5a, 64(%rdi)\n out %al, $0x10");

static void expect_mem(struct env *e, uint64_t gpa, unsigned size, bool write)
{
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.gpa, gpa);
	CHECK_EQ(e->exit.mem.size, size);
	CHECK_EQ(e->exit.mem.write, write);
	CHECK_EQ(e->exit.mem.exec, false);
	CHECK_EQ(e->exit.mem.key, 0);
	if (e->exit.mem.gva_valid)
		CHECK_EQ(e->exit.mem.gva, gpa); /* identity */
}

static void mem_write(struct env *e)
{
	env_long_payload(e, mem_writes);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t value = 0;

		expect_mem(e, HOLE + 16 * i, 1u << i, true);
		memcpy(&value, e->exit.mem.buf, 1u << i);
		CHECK_EQ(value, i == 3 ? 0x1122334455667788 :
					 0x55667788 & ((1ull << (8u << i)) - 1));
	}
	expect_mem(e, HOLE + 64, 1, true);
	CHECK_EQ(e->exit.mem.buf[0], 0x5a);
	expect_out(e, 0x10);
}

PAYLOAD(mem_reads, ".code64\n"
	"mov $0x80000000, %edi\n mov $-1, %rax\n mov %rax, %rbx\n mov %rax, %rcx\n mov %rax, %rdx\n"
	"mov (%rdi), %al\n mov 16(%rdi), %bx\n mov 32(%rdi), %ecx\n mov 48(%rdi), %rdx\n"
	"movzbl 64(%rdi), %esi\n addl %eax, 80(%rdi)\n out %al, $0x10");

static void mem_read(struct env *e)
{
	env_long_payload(e, mem_reads);
	for (unsigned i = 0; i < 4; i++) {
		expect_mem(e, HOLE + 16 * i, 1u << i, false);
		memset(e->exit.mem.buf, 0x40 + (int)i, 1u << i);
	}
	CHECK_EQ(reg(e, VMX_RDX), 0x4343434343434343); /* completed by looking */
	expect_mem(e, HOLE + 64, 1, false);
	e->exit.mem.buf[0] = 0x99;
	expect_mem(e, HOLE + 80, 4, false); /* read, modify, write */
	put_le32(e->exit.mem.buf, 1);
	expect_mem(e, HOLE + 80, 4, true);
	CHECK_EQ(get_le32(e->exit.mem.buf), 0xffffff41);
	expect_out(e, 0x10);
	CHECK_EQ(reg(e, VMX_RAX), 0xffffffffffffff40);
	CHECK_EQ(reg(e, VMX_RBX), 0xffffffffffff4141);
	CHECK_EQ(reg(e, VMX_RCX), 0x42424242);
	CHECK_EQ(reg(e, VMX_RSI), 0x99);
}

PAYLOAD(jump_out, ".code64\n mov $0x80000000, %eax\n jmp *%rax");

static void mem_fetch(struct env *e)
{
	env_long_payload(e, jump_out);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.exec, true);
	CHECK_EQ(e->exit.mem.gpa, HOLE);
	CHECK_EQ(e->exit.rip, HOLE);
}

PAYLOAD(header, ".code64\n push $0x10293\n popfq\n nop\n out %al, $0x10\n hlt");

static void exit_header(struct env *e)
{
	env_long_payload(e, header);
	set_reg(e, VMX_CR8, 5);
	expect_out(e, 0x10);
	CHECK_EQ(e->exit.cpl, 0);
	CHECK_EQ(e->exit.cs_selector, 8);
	CHECK_EQ(e->exit.cs_base, 0);
	check_out_rip(e, CODE + 7);
	CHECK_EQ(e->exit.rflags & 0xed7, 0x293 & 0xed7);
	CHECK_EQ(e->exit.cr8, 5);
	CHECK_EQ(e->exit.interrupt_shadow, false);
}

PAYLOAD(triple, ".code64\n ud2");

static void triple_fault(struct env *e)
{
	struct vmx_sregs s;
	uint32_t activity = 0;

	env_long_payload(e, triple);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.idtr.limit = 0;
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	expect(e, VMX_EXIT_SHUTDOWN);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_ACTIVITY, &activity, 4), 0);
	CHECK_EQ(activity, VMX_SHUTDOWN_STATE);
	expect(e, VMX_EXIT_SHUTDOWN); /* it stays so */
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
	CHECK_EQ(vmx_vm_reset(e->vm), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_ACTIVITY, &activity, 4), 0);
	CHECK_EQ(activity, VMX_ACTIVE);
}

/* Either refused when it is set, or at the next run: never a crash, never silently run. */
static void invalid_state(struct env *e)
{
	struct vmx_sregs s, before;
	int r;

	env_long_payload(e, outs);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &before, sizeof(before)), 0);
	for (int i = 0; i < 4; i++) {
		s = before;
		if (i == 0)
			s.cr0 &= ~1ull; /* PG without PE */
		else if (i == 1)
			s.cr4 |= 1ull << 31; /* reserved */
		else if (i == 2)
			s.efer |= 1ull << 20;
		else
			s.cr0 |= 1ull << 40;
		r = vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s));
		if (r == 0)
			expect(e, VMX_EXIT_ENTRY_FAILED);
		else
			CHECK_EQ(r, -EINVAL);
		CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &before, sizeof(s)), 0);
	}
}

/* Each kind for itself is possible, together they are not: said at each resume until they fit. */
static void entry_failed(struct env *e)
{
	static const struct {
		uint64_t rip, rflags;
		bool long_mode, no_code;
		const char *text;
	} table[] = {
		{ CODE, 2 | 1u << 17, true, false, "RFLAGS.VM is set in long mode" },
		{ CODE, 2 | 1u << 17, false, false, "RFLAGS.VM is set without CR0.PE" },
		{ 1ull << 48 | CODE, 2, true, false, "RIP is not canonical" },
		{ 1ull << 32 | CODE, 2, false, false, "RIP is beyond 32 bits outside 64-bit mode" },
		{ CODE, 2, true, true, "CS is no present segment" },
	};
	struct vmx_sregs real, lm, s;
	struct vmx_regs regs = { .rsp = 0x8000 };

	env_real_payload(e, outs);
	need_hardware(e, "it makes registers fit by itself");
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &real, sizeof(real)), 0);
	env_tables(e);
	put_long_mode(e->vcpu);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &lm, sizeof(lm)), 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		s = table[i].long_mode ? lm : real;
		if (table[i].no_code)
			s.cs.attributes &= (uint16_t)~0x80u;
		regs.rip = table[i].rip;
		regs.rflags = table[i].rflags;
		CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
		CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), 0);
		for (int twice = 0; twice < 2; twice++) {
			expect(e, VMX_EXIT_ENTRY_FAILED);
			CHECK_EQ(e->exit.internal.reason, 0);
			CHECK(!strcmp(e->exit.internal.text, table[i].text));
			CHECK_EQ(e->exit.rip, table[i].rip);
		}
		CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
		CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
	}
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &real, sizeof(real)), 0);
	put_regs(e->vcpu, CODE, 0x8000);
	expect(e, VMX_EXIT_IO); /* corrected, it runs */
	real.cr4 |= 1u << 17; /* PCIDE outside long mode: wrong within its kind */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &real, sizeof(real)), -EINVAL);
}

static void resume_arguments(struct env *e)
{
	env_vcpu(e);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, NULL), -EINVAL);
}

PAYLOAD(counter, ".code16\n incl 0x5000\n jmp counter");

static void kick_before(struct env *e)
{
	env_real_payload(e, counter);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED); /* many kicks, one cancel */
	CHECK_EQ(get_le32(e->ram + 0x5000), 0);
	CHECK_EQ(reg(e, VMX_RIP), CODE);
}

static void *kick_later(void *arg)
{
	struct env *e = arg;

	sleep_ms(30);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	return NULL;
}

static uint32_t counted(const struct env *e)
{
	return __atomic_load_n((const uint32_t *)(e->ram + 0x5000), __ATOMIC_RELAXED);
}

/* Kicks as soon as the guest counted on. */
static void *kick_counting(void *arg)
{
	struct env *e = arg;
	uint32_t before = counted(e);

	while (counted(e) == before)
		sleep_ms(1);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	return NULL;
}

/* The five kicks may have spanned the first cancel: brings the pending ones to one, and takes that. */
static void no_kick_left(struct env *e)
{
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
}

static void kick_running(struct env *e)
{
	env_real_payload(e, counter);
	for (int i = 0; i < 5; i++) {
		pthread_t t = start(kick_counting, e);
		uint32_t now;

		CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
		join(t);
		now = counted(e);
		no_kick_left(e);
		CHECK_EQ(counted(e), now);
		CHECK(reg(e, VMX_RIP) >= CODE && reg(e, VMX_RIP) < CODE + 8);
	}
}

PAYLOAD(summing, ".code64\n xor %ecx, %ecx\n"
		 "1: mov 0x100000(%rdi,%rcx,8), %rax\n add %rax, %r9\n mov %r9, (%rsi,%rcx,8)\n"
		 "add $1, %rcx\n lea 3(%r10), %r10\n cmp $4096, %rcx\n jne 1b\n"
		 "incl 0x5000\n jmp summing");

/* Wherever in a loop over memory a kick finds the guest, its registers are those of one iteration, and
 * those that the loop does not use are untouched. */
static void kick_in_loop(struct env *e)
{
	static const enum vmx_reg others[] = { VMX_RDX, VMX_RBX, VMX_RBP, VMX_R8, VMX_R11,
					       VMX_R12, VMX_R13, VMX_R14, VMX_R15 };

	env_long_payload(e, summing);
	for (unsigned i = 0; i < 4096; i++)
		e->ram[0x100000 + 8 * i] = 1;
	set_reg(e, VMX_RDI, 0);
	set_reg(e, VMX_RSI, 0x180000);
	set_reg(e, VMX_R9, 0);
	set_reg(e, VMX_R10, 0);
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		set_reg(e, others[i], 0x1234567800000000ull + i);
	for (unsigned turn = 0; turn < 20; turn++) {
		pthread_t t = start(kick_counting, e);
		uint64_t sum, steps;

		CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
		join(t);
		no_kick_left(e);
		sum = reg(e, VMX_R9);
		steps = reg(e, VMX_R10) / 3;
		CHECK(sum - steps <= 1 && reg(e, VMX_R10) % 3 == 0);
		CHECK(reg(e, VMX_RCX) <= 4096);
		if (reg(e, VMX_RIP) == CODE + 2)
			CHECK(sum == steps && (sum - reg(e, VMX_RCX)) % 4096 == 0);
		CHECK_EQ(reg(e, VMX_RDI), 0);
		CHECK_EQ(reg(e, VMX_RSI), 0x180000);
		for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
			CHECK_EQ(reg(e, others[i]), 0x1234567800000000ull + i);
	}
}

PAYLOAD(halt, ".code16\n cli\n 1: hlt\n jmp 1b");

static void kick_halted(struct env *e)
{
	pthread_t t;
	uint32_t activity;

	env_real_payload(e, halt);
	t = start(kick_later, e);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
	join(t);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_ACTIVITY, &activity, 4), 0);
	CHECK_EQ(activity, VMX_HALTED);
}

/* A kick between an exit and its completion loses nothing. */
static void kick_with_pending_input(struct env *e)
{
	env_real_payload(e, ins);
	expect(e, VMX_EXIT_IO);
	*(uint8_t *)e->exit.io.buf = 0x77;
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.port, 0x11);
	CHECK_EQ(reg(e, VMX_RBX), 0xaaaaaa77);
}

PAYLOAD(out_loop, ".code16\n out %al, $0x10\n jmp out_loop");

/* A kick during a resume that ends with an exit is for the next resume: none is lost, and each
 * cancels once. */
static void kick_races(struct env *e)
{
	unsigned cancels = 0;

	env_real_payload(e, out_loop);
	for (int i = 0; i < 500; i++) {
		int r;

		if (i % 2)
			CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
		r = vmx_vcpu_resume(e->vcpu, &e->exit);
		if (r == -ECANCELED)
			cancels++;
		else
			CHECK_EQ(r, 0);
	}
	CHECK_EQ(cancels, 250);
}

static uint64_t stat_named(const struct vmx_stat *s, size_t n, const char *name)
{
	uint64_t value = UINT64_MAX;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(s[i].name, name) != 0)
			continue;
		CHECK_EQ(value, UINT64_MAX); /* once */
		value = s[i].value;
	}
	return value;
}

static void stats(struct env *e)
{
	struct vmx_stat s[64];
	size_t n;

	env_real_payload(e, out_loop);
	for (int i = 0; i < 10; i++)
		expect_out(e, 0x10);
	n = vmx_vm_stats(e->vm, NULL, 0);
	CHECK(n > 0 && n <= 64);
	CHECK_EQ(vmx_vm_stats(e->vm, s, 64), n);
	for (size_t i = 0; i < n; i++)
		CHECK(s[i].name && s[i].name[0]);
	if (vmx_vm_engine(e->vm) != VMX_ENGINE_SOFT)
		return;
	CHECK_EQ(stat_named(s, n, "exits_io"), 10);
	CHECK_EQ(stat_named(s, n, "exits"), 10);
	CHECK_EQ(stat_named(s, n, "exits_mem"), 0);
	CHECK(stat_named(s, n, "steps") >= 10); /* real mode */
	CHECK_EQ(stat_named(s, n, "translated_insns"), 0);
	CHECK_EQ(stat_named(s, n, "halts"), 0);
}

static const struct test tests[] = {
	{ "io-out", "Z4 W4 W5 W6 K", io_out },
	{ "io-in", "Z4 Z6 W6 K", io_in },
	{ "io-string", "W6", io_string },
	{ "mem-write", "Z4 W5 W6", mem_write },
	{ "mem-read", "Z4 W6 K", mem_read },
	{ "mem-fetch", "W2 W6", mem_fetch },
	{ "exit-header", "W4", exit_header },
	{ "triple-fault", "W5 K", triple_fault },
	{ "invalid-state", "W7 K", invalid_state },
	{ "entry-failed", "W5 W7 K", entry_failed },
	{ "resume-arguments", "Z4", resume_arguments },
	{ "kick-before", "Z5 W13 K", kick_before },
	{ "kick-running", "Z5 K", kick_running },
	{ "kick-in-loop", "Z5 K", kick_in_loop },
	{ "kick-halted", "Z5 K", kick_halted },
	{ "kick-with-pending-input", "Z5 K", kick_with_pending_input },
	{ "kick-races", "Z5", kick_races },
	{ "stats", "W1", stats },
};
SUITE(run, "run");
