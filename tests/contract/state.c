/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - reading and writing state: sizes, round trips, named registers, MSRs, translation. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"

static void sizes(struct env *e)
{
	static const struct {
		enum vmx_state_kind kind;
		size_t size; /* 0: any */
	} kinds[] = {
		{ VMX_STATE_REGS, sizeof(struct vmx_regs) },
		{ VMX_STATE_SREGS, sizeof(struct vmx_sregs) },
		{ VMX_STATE_DEBUGREGS, sizeof(struct vmx_debugregs) },
		{ VMX_STATE_XSAVE, 0 },
		{ VMX_STATE_LAPIC, 1024 },
		{ VMX_STATE_EVENTS, sizeof(struct vmx_events) },
		{ VMX_STATE_ACTIVITY, 4 },
	};
	static uint8_t buf[65536];
	size_t size;

	env_vcpu(e);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		enum vmx_state_kind k = kinds[i].kind;

		CHECK_EQ(vmx_vcpu_state_size(e->vcpu, k, &size), 0);
		CHECK(size >= 4 && size < sizeof(buf));
		if (kinds[i].size)
			CHECK_EQ(size, kinds[i].size);
		CHECK_EQ(vmx_vcpu_read_state(e->vcpu, k, buf, size - 1), -EINVAL);
		CHECK_EQ(vmx_vcpu_read_state(e->vcpu, k, buf, size + 1), -EINVAL);
		CHECK_EQ(vmx_vcpu_read_state(e->vcpu, k, buf, 0), -EINVAL);
		CHECK_EQ(vmx_vcpu_read_state(e->vcpu, k, NULL, size), -EINVAL);
		memset(buf, 0xee, sizeof(buf));
		CHECK_EQ(vmx_vcpu_read_state(e->vcpu, k, buf, size), 0);
		CHECK_EQ(buf[size], 0xee);
		CHECK_EQ(vmx_vcpu_write_state(e->vcpu, k, buf, size - 1), -EINVAL);
		CHECK_EQ(vmx_vcpu_write_state(e->vcpu, k, NULL, size), -EINVAL);
		CHECK_EQ(vmx_vcpu_write_state(e->vcpu, k, buf, size), 0);
	}
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, (enum vmx_state_kind)99, &size), -EINVAL);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_REGS, NULL), -EINVAL);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, (enum vmx_state_kind)99, buf, 8), -EINVAL);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_XSAVE, &size), 0);
	CHECK(size >= 576);
}

static void regs_round_trip(struct env *e)
{
	struct vmx_regs a, b;

	env_vcpu(e);
	for (size_t i = 0; i < sizeof(a) / 8; i++)
		((uint64_t *)&a)[i] = 0x1111111111111111ull * (i + 1);
	a.rip = 0xfffffff0;
	a.rflags = 0x8d7 & ~0x100ull;
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_REGS, &a, sizeof(a)), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_REGS, &b, sizeof(b)), 0);
	CHECK(!memcmp(&a, &b, sizeof(a)));
	a.rflags |= 1ull << 40;
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_REGS, &a, sizeof(a)), -EINVAL);
}

PAYLOAD(all_regs, ".code64\n"
	"inc %rax\n inc %rcx\n inc %rdx\n inc %rbx\n inc %rsp\n inc %rbp\n inc %rsi\n inc %rdi\n"
	"inc %r8\n inc %r9\n inc %r10\n inc %r11\n inc %r12\n inc %r13\n inc %r14\n inc %r15\n"
	"mov %al, 0x5000\n out %al, $0x10");

/* The guest's registers are those that were written, and the other way round. */
static void regs_meet_guest(struct env *e)
{
	struct vmx_regs a = { .rip = CODE, .rflags = 2 }, b;

	env_long_payload(e, all_regs);
	for (size_t i = 0; i < 16; i++)
		((uint64_t *)&a)[i] = 0x0101010101010101ull * (i + 1);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_REGS, &a, sizeof(a)), 0);
	expect_out(e, 0x10);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_REGS, &b, sizeof(b)), 0);
	for (size_t i = 0; i < 16; i++)
		CHECK_EQ(((uint64_t *)&b)[i], 0x0101010101010101ull * (i + 1) + 1);
	CHECK_EQ(b.rip, CODE + (uint64_t)(all_regs_end - all_regs));
	CHECK_EQ(e->ram[0x5000], 2);
}

static void sregs_round_trip(struct env *e)
{
	struct vmx_sregs a, b;

	env_long_payload(e, all_regs);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &a, sizeof(a)), 0);
	CHECK_EQ(a.cr0, 0x80000033);
	CHECK_EQ(a.efer, 0x500);
	CHECK_EQ(a.cs.attributes, 0xa09b);
	a.fs.base = 0x123456789000;
	a.gs.base = 0xffff888812345000;
	a.cr2 = 0xffff800000000123;
	a.cr8 = 7;
	a.cr4 |= 1u << 7; /* PGE */
	a.gdtr = (struct vmx_table){ 0xffff800000001000, 0x7f };
	a.idtr = (struct vmx_table){ 0xffff800000002000, 0xfff };
	a.ldtr = (struct vmx_segment){ .selector = 0x28, .base = 0x7000, .limit = 0xff,
				       .attributes = 0x82 };
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &a, sizeof(a)), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &b, sizeof(b)), 0);
	CHECK_EQ(b.fs.base, a.fs.base);
	CHECK_EQ(b.gs.base, a.gs.base);
	CHECK_EQ(b.cr2, a.cr2);
	CHECK_EQ(b.cr3, a.cr3);
	CHECK_EQ(b.cr4, a.cr4);
	CHECK_EQ(b.cr8, 7);
	CHECK_EQ(b.gdtr.base, a.gdtr.base);
	CHECK_EQ(b.gdtr.limit, 0x7f);
	CHECK_EQ(b.idtr.base, a.idtr.base);
	CHECK_EQ(b.ldtr.base, 0x7000);
	CHECK_EQ(b.ldtr.limit, 0xff);
	CHECK_EQ(b.ldtr.attributes, 0x82);
	CHECK_EQ(b.tr.attributes, 0x8b);
}

static void debugregs_round_trip(struct env *e)
{
	struct vmx_debugregs a = { .dr = { 0x1000, 0x2000, 0x3000, 0x4000 },
				   .dr6 = 0xffff0ff0, .dr7 = 0x400 }, b;

	env_vcpu(e);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_DEBUGREGS, &a, sizeof(a)), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_DEBUGREGS, &b, sizeof(b)), 0);
	CHECK(!memcmp(&a, &b, sizeof(a)));
}

/* Just moves: a KVM that emulates knows little else. */
PAYLOAD(xmm, ".code64\n"
	"movdqu 0x5000, %xmm3\n out %al, $0x10\n"
	"movdqu %xmm3, 0x5010\n out %al, $0x11");

/* XMM registers lie at 160 in the XSAVE area, and are the guest's. */
static void xsave(struct env *e)
{
	static uint8_t area[65536];
	size_t size;

	env_long_payload(e, xmm);
	for (unsigned i = 0; i < 16; i++)
		e->ram[0x5000 + i] = (uint8_t)(i + 1);
	expect_out(e, 0x10);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_XSAVE, &size), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_XSAVE, area, size), 0);
	CHECK(!memcmp(area + 160 + 3 * 16, e->ram + 0x5000, 16));
	CHECK_EQ(get_le32(area + 24), 0x1f80); /* MXCSR */
	CHECK(get_le16(area) == 0x40 || get_le16(area) == 0x37f); /* FCW after RESET; KVM: FNINIT */
	CHECK(get_le64(area + 512) & 2);       /* XSTATE_BV: SSE in use */
	for (unsigned i = 0; i < 16; i++)
		area[160 + 3 * 16 + i] = (uint8_t)(0xf0 + i);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_XSAVE, area, size), 0);
	expect_out(e, 0x11);
	CHECK(!memcmp(e->ram + 0x5010, area + 160 + 3 * 16, 16));
}

static void lapic(struct env *e)
{
	uint8_t page[1024];

	env_vcpu(e);
	enable_lapic(e->vcpu);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(get_le32(page + 0x20), 0); /* APIC ID of vCPU 0 */
	CHECK_EQ(get_le32(page + 0xf0), 0x1ff);
	put_le32(page + 0x80, 0x20);
	put_le32(page + 0x370, 0x10000 | 0x45); /* LVT error, masked */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	memset(page, 0, sizeof(page));
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(get_le32(page + 0x80), 0x20);
	CHECK_EQ(get_le32(page + 0x370), 0x10045);
	CHECK_EQ(reg(e, VMX_CR8), 2); /* TPR and CR8 are one */
}

PAYLOAD(page_fault_handler, ".code64\n"
	"out %al, $0x10\n hlt\n .org page_fault_handler + 0x100\n pop %rax\n out %al, $0x14\n hlt");

/* A pending exception is delivered by the next resume, with its error code. */
static void events(struct env *e)
{
	struct vmx_events a, b;

	env_long_payload(e, page_fault_handler);
	set_gate(e, 14, CODE + 0x100);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_EVENTS, &a, sizeof(a)), 0);
	CHECK_EQ(a.exception_pending, false);
	CHECK_EQ(a.nmi_pending, false);
	CHECK_EQ(a.extint_pending, false);
	a.exception_pending = true;
	a.exception_vector = 14;
	a.exception_has_error_code = true;
	a.exception_error_code = 0x2a;
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_EVENTS, &a, sizeof(a)), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_EVENTS, &b, sizeof(b)), 0);
	CHECK_EQ(b.exception_pending, true);
	CHECK_EQ(b.exception_vector, 14);
	CHECK_EQ(b.exception_error_code, 0x2a);
	CHECK_EQ(expect_out(e, 0x14), 0x2a);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_EVENTS, &b, sizeof(b)), 0);
	CHECK_EQ(b.exception_pending, false);
}

static void events_invalid(struct env *e)
{
	struct vmx_events a;

	env_vcpu(e);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_EVENTS, &a, sizeof(a)), 0);
	a.exception_pending = true;
	a.exception_vector = 77;
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_EVENTS, &a, sizeof(a)), -EINVAL);
	a.exception_vector = 2; /* an NMI is none */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_EVENTS, &a, sizeof(a)), -EINVAL);
}

PAYLOAD(nothing, ".code16\n out %al, $0x10\n hlt");

static void *wake(void *arg)
{
	struct env *e = arg;

	sleep_ms(30);
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	return NULL;
}

static void activity(struct env *e)
{
	uint32_t a = 17, halted = VMX_HALTED, active = VMX_ACTIVE;
	pthread_t t;

	env_real_payload(e, nothing);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_ACTIVITY, &a, 4), -EINVAL);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_ACTIVITY, &halted, 4), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_ACTIVITY, &a, 4), 0);
	CHECK_EQ(a, VMX_HALTED);
	t = start(wake, e);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED); /* it sleeps */
	join(t);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_ACTIVITY, &active, 4), 0);
	expect_out(e, 0x10);
}

PAYLOAD(input, ".code64\n"
	"mov $-1, %rax\n in $0x20, %ax\n out %al, $0x10\n"
	"mov $0x80000000, %edi\n mov (%rdi), %rbx\n out %al, $0x11");

static void io_state(struct env *e)
{
	const uint16_t two = 0xbeef;
	const uint64_t eight = 0x0123456789abcdef;
	uint64_t buf;
	size_t size;

	env_long_payload(e, input);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_IO, &size), 0);
	CHECK_EQ(size, 0);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_IO, &two, 2), -EINVAL);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_IO, &two, 0), -ENOENT);
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_IO, &size), 0);
	CHECK_EQ(size, 2);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_IO, &buf, 2), -EINVAL); /* write only */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_IO, &two, 1), -EINVAL);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_IO, &two, 2), 0);
	CHECK_EQ(expect_out(e, 0x10), 0xef);
	CHECK_EQ(reg(e, VMX_RAX), 0xffffffffffffbeef);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_IO, &size), 0);
	CHECK_EQ(size, 0); /* an output waits for nothing */
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_IO, &eight, 8), 0);
	expect_out(e, 0x11);
	CHECK_EQ(reg(e, VMX_RBX), eight);
}

static void named_regs(struct env *e)
{
	const enum vmx_reg names[] = { VMX_R9, VMX_CR3, VMX_DR2, VMX_RAX, VMX_EFER, VMX_RIP };
	const enum vmx_reg bad[] = { VMX_RAX, VMX_REG_COUNT };
	const enum vmx_reg pair[] = { VMX_RBX, VMX_CR0 };
	const uint64_t values[] = { 1, 0x10000, 0x3000, 4, 0x500, CODE };
	uint64_t got[6];

	env_long_payload(e, nothing);
	CHECK_EQ(vmx_vcpu_set_regs(e->vcpu, names, 6, values), 0);
	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, names, 6, got), 0);
	CHECK(!memcmp(values, got, sizeof(got)));
	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, NULL, 0, NULL), 0);
	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, NULL, 1, got), -EINVAL);
	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, names, 1, NULL), -EINVAL);
	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, bad, 2, got), -EINVAL);
	CHECK_EQ(vmx_vcpu_set_regs(e->vcpu, bad, 2, values), -EINVAL);
	CHECK_EQ(reg(e, VMX_RAX), 4); /* all or nothing */
	got[0] = 0x55;
	got[1] = 0x80000032; /* PG without PE */
	CHECK_EQ(vmx_vcpu_set_regs(e->vcpu, pair, 2, got), -EINVAL);
	CHECK_EQ(reg(e, VMX_RBX), 0);
	CHECK_EQ(reg(e, VMX_CR0), 0x80000033);
	for (int n = 0; n < VMX_REG_COUNT; n++) { /* each can be set to what it is */
		uint64_t value = reg(e, (enum vmx_reg)n);

		set_reg(e, (enum vmx_reg)n, value);
		CHECK_EQ(reg(e, (enum vmx_reg)n), value);
	}
}

static void msrs(struct env *e)
{
	uint64_t value;

	env_long_payload(e, nothing);
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0xc0000080, &value), 0);
	CHECK_EQ(value, 0x500);
	CHECK_EQ(vmx_vcpu_write_msr(e->vcpu, 0xc0000082, 0xffffffff81000000), 0); /* LSTAR */
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0xc0000082, &value), 0);
	CHECK_EQ(value, 0xffffffff81000000);
	CHECK_EQ(vmx_vcpu_write_msr(e->vcpu, 0xc0000102, 0x1234), 0); /* KERNEL_GS_BASE */
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0xc0000102, &value), 0);
	CHECK_EQ(value, 0x1234);
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0x1b, &value), 0); /* APIC_BASE */
	CHECK_EQ(value, 0xfee00900);
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0x10, NULL), -EINVAL);
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0x12345678, &value), -ENOENT);
	CHECK_EQ(vmx_vcpu_write_msr(e->vcpu, 0x12345678, 1), -ENOENT);
	if (e->soft) /* a value that the MSR cannot have: PAT type 2; KVM does not tell the two apart */
		CHECK_EQ(vmx_vcpu_write_msr(e->vcpu, 0x277, 2), -EINVAL);
}

static void check_translate(struct env *e, uint64_t gva, uint32_t flags,
			    enum vmx_translate_result want, uint64_t want_gpa)
{
	enum vmx_translate_result result = (enum vmx_translate_result)-1;
	uint64_t gpa = 1;

	CHECK_EQ(vmx_vcpu_translate(e->vcpu, gva, flags, &result, &gpa), 0);
	CHECK_EQ(result, want);
	if (want == VMX_TRANSLATE_OK)
		CHECK_EQ(gpa, want_gpa);
}

#define PT 0x20000u
#define R VMX_TRANSLATE_READ
#define W VMX_TRANSLATE_WRITE
#define X VMX_TRANSLATE_EXEC

static void set_pte(struct env *e, unsigned n, uint64_t value)
{
	put_le64(e->ram + PT + n * 8, value);
	CHECK_EQ(vmx_vm_written(e->vm, PT + n * 8, 8), 0);
}

/* A page table for 4 GiB - 2 MiB, in the last page directory of the test machine. */
static void translate(struct env *e)
{
	const uint64_t at = 0xffe00000;
	struct vmx_sregs s;

	env_long_payload(e, nothing);
	put_le64(e->ram + 0x15000 + 511 * 8, PT | 7);
	CHECK_EQ(vmx_vm_written(e->vm, 0x15000, 4096), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.efer |= 0x800;    /* NXE */
	s.cr0 |= 1u << 16; /* WP */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	check_translate(e, 0x1234, R | W | X, VMX_TRANSLATE_OK, 0x1234); /* a 2 MiB page */
	set_pte(e, 1, 0x3000 | 1);          /* read-only, supervisor */
	set_pte(e, 2, 0x4000 | 7 | 1ull << 63); /* no execute */
	set_pte(e, 3, 0x5000 | 7 | 1ull << 51); /* beyond the processor's address width or unmapped */
	set_pte(e, 4, 0x70000000 | 7);
	set_pte(e, 5, 0x6000 | 7);
	check_translate(e, at, R, VMX_TRANSLATE_NOT_PRESENT, 0);
	check_translate(e, at + 0x1abc, R, VMX_TRANSLATE_OK, 0x3abc);
	check_translate(e, at + 0x1abc, W, VMX_TRANSLATE_PRIVILEGE, 0);
	check_translate(e, at + 0x2000, R | W, VMX_TRANSLATE_OK, 0x4000);
	check_translate(e, at + 0x2000, X, VMX_TRANSLATE_PRIVILEGE, 0);
	check_translate(e, at + 0x4000, R, VMX_TRANSLATE_GPA_UNMAPPED, 0);
	check_translate(e, 0x800000000000, R, VMX_TRANSLATE_NOT_PRESENT, 0); /* not canonical */
	check_translate(e, 0x10000000000, R, VMX_TRANSLATE_NOT_PRESENT, 0);
	CHECK_EQ(vmx_vm_map(e->vm, 0x6000, 4096, e->ram + 0x6000, VMX_MAP_READ | VMX_MAP_EXEC), 0);
	check_translate(e, at + 0x5000, R | X, VMX_TRANSLATE_OK, 0x6000);
	check_translate(e, at + 0x5000, W, VMX_TRANSLATE_GPA_NO_WRITE, 0);
	s.cr0 &= ~(1ull << 16); /* without WP the supervisor may write */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	check_translate(e, at + 0x1abc, W, VMX_TRANSLATE_OK, 0x3abc);
	s.efer &= ~0x800ull; /* now NX is a reserved bit */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	check_translate(e, at + 0x2000, R, VMX_TRANSLATE_RESERVED_BITS, 0);
}

static void translate_user(struct env *e)
{
	const uint64_t at = 0xffe00000;
	struct vmx_sregs s;

	env_long_payload(e, nothing);
	put_le64(e->ram + 0x15000 + 511 * 8, PT | 7);
	set_pte(e, 1, 0x3000 | 3); /* supervisor */
	set_pte(e, 2, 0x4000 | 7);
	CHECK_EQ(vmx_vm_written(e->vm, 0x15000, 4096), 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cs.attributes = 0xa0fb;
	s.ss.attributes = s.ds.attributes = s.es.attributes = 0xc0f3;
	s.cs.selector = 0x2b;
	s.ss.selector = s.ds.selector = s.es.selector = 0x33;
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	check_translate(e, at + 0x1000, R, VMX_TRANSLATE_PRIVILEGE, 0);
	check_translate(e, at + 0x1000, R | VMX_TRANSLATE_PRIVILEGE_EXEMPT, VMX_TRANSLATE_OK, 0x3000);
	check_translate(e, at + 0x2000, R | W, VMX_TRANSLATE_OK, 0x4000);
}

static void translate_sets_bits(struct env *e)
{
	const uint64_t at = 0xffe00000;
	enum vmx_translate_result result;
	uint64_t gpa;

	env_long_payload(e, nothing);
	put_le64(e->ram + 0x15000 + 511 * 8, PT | 7);
	set_pte(e, 1, 0x3000 | 7);
	CHECK_EQ(vmx_vm_written(e->vm, 0x15000, 4096), 0);
	check_translate(e, at + 0x1000, R | W, VMX_TRANSLATE_OK, 0x3000);
	CHECK_EQ(e->ram[PT + 8], 7); /* only looked */
	check_translate(e, at + 0x1000, R | VMX_TRANSLATE_SET_AD, VMX_TRANSLATE_OK, 0x3000);
	CHECK_EQ(e->ram[PT + 8], 0x27);
	check_translate(e, at + 0x1000, W | VMX_TRANSLATE_SET_AD, VMX_TRANSLATE_OK, 0x3000);
	CHECK_EQ(e->ram[PT + 8], 0x67);
	CHECK_EQ(e->ram[0x10000], 0x27); /* the levels above: accessed */
	CHECK_EQ(vmx_vcpu_translate(e->vcpu, at, 1u << 20, &result, &gpa), -EINVAL);
	CHECK_EQ(vmx_vcpu_translate(e->vcpu, at, R, NULL, &gpa), -EINVAL);
	CHECK_EQ(vmx_vcpu_translate(e->vcpu, at, R, &result, NULL), -EINVAL);
}

static void translate_real(struct env *e)
{
	env_real_payload(e, nothing);
	check_translate(e, 0x12345, R | W | X, VMX_TRANSLATE_OK, 0x12345);
	check_translate(e, HOLE, R, VMX_TRANSLATE_GPA_UNMAPPED, 0);
}

static void nested_not_offered(struct env *e)
{
	size_t size = 1;

	env_vcpu(e);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_NESTED, &size), 0);
	CHECK_EQ(size, 0);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_NESTED, NULL, 0), 0);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_NESTED, NULL, 0), 0);
}

PAYLOAD(cpuid_one, ".code64\n mov $1, %eax\n cpuid\n out %al, $0x10\n");

/* Asked for, VMX is there, or the VM is refused. */
static void nested_offered(struct env *e)
{
	static uint8_t buf[65536];
	struct vmx_vm *vm;
	size_t size = 0;
	int r;

	e->options.flags = VMX_VM_NESTED;
	r = vmx_vm_create(&e->options, &vm);
	if (r == -ENOTSUP)
		test_skip("this engine offers no VMX here (-ENOTSUP)");
	CHECK_EQ(r, 0);
	CHECK_EQ(vmx_vm_destroy(vm), 0);
	env_long_payload(e, cpuid_one);
	expect_out(e, 0x10);
	CHECK_EQ(reg(e, VMX_RCX) >> 5 & 1, 1);
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_NESTED, &size), 0);
	CHECK(size > 0 && size <= sizeof(buf));
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_NESTED, buf, size), 0);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_NESTED, buf, size), 0);
}

static const struct test tests[] = {
	{ "sizes", "Z6 W12", sizes },
	{ "regs-round-trip", "Z6 W7", regs_round_trip },
	{ "regs-meet-guest", "Z6 K", regs_meet_guest },
	{ "sregs-round-trip", "Z6 W7", sregs_round_trip },
	{ "debugregs-round-trip", "Z6", debugregs_round_trip },
	{ "xsave", "Z6 W12", xsave },
	{ "lapic", "W12", lapic },
	{ "events", "W8 W12", events },
	{ "events-invalid", "W7", events_invalid },
	{ "activity", "W12", activity },
	{ "io-state", "Z6 K", io_state },
	{ "named-regs", "W7", named_regs },
	{ "msrs", "W7", msrs },
	{ "translate", "W9", translate },
	{ "translate-user", "W9", translate_user },
	{ "translate-sets-bits", "W9", translate_sets_bits },
	{ "translate-real", "W9", translate_real },
	{ "nested-not-offered", "W12", nested_not_offered },
	{ "nested-offered", "W1 W12", nested_offered },
};
SUITE(state, "state");
