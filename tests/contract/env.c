/* SPDX-License-Identifier: Apache-2.0 */
/* env.c - what contract tests share: a small machine, its modes, and a few verbs. */
#include "tests/contract/contract.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/bytes.h"

#define PML4 0x10000u
#define PDPT 0x11000u
#define PD 0x12000u
#define GDT 0x9000u
#define IDT 0xa000u
#define TSS 0xb000u

void env_vm(struct env *e)
{
	int r = vmx_vm_create(&e->options, &e->vm);

	if (r < 0)
		test_fail(__FILE__, __LINE__, "vmx_vm_create: %s", strerror(-r));
	e->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(e->ram != MAP_FAILED);
	CHECK_EQ(vmx_vm_map(e->vm, 0, RAM_SIZE, e->ram,
			    VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC | VMX_MAP_SHARED), 0);
}

void env_vcpu(struct env *e)
{
	env_vm(e);
	CHECK_EQ(vmx_vcpu_create(e->vm, 0, &e->vcpu), 0);
}

void put_regs(struct vmx_vcpu *vcpu, uint64_t rip, uint64_t rsp)
{
	struct vmx_regs regs = { .rip = rip, .rsp = rsp, .rflags = 2 };

	CHECK_EQ(vmx_vcpu_write_state(vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), 0);
}

void flat_real(struct vmx_vcpu *vcpu)
{
	struct vmx_sregs s;

	CHECK_EQ(vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cs.base = s.ds.base = s.es.base = s.ss.base = 0;
	s.cs.selector = s.ds.selector = s.es.selector = s.ss.selector = 0;
	CHECK_EQ(vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
}

static void load(struct env *e, const uint8_t *code, const uint8_t *end)
{
	if (!e->vcpu)
		env_vcpu(e);
	memcpy(e->ram + CODE, code, (size_t)(end - code));
	CHECK_EQ(vmx_vm_written(e->vm, CODE, (uint64_t)(end - code)), 0);
}

void env_real(struct env *e, const uint8_t *code, const uint8_t *end)
{
	load(e, code, end);
	flat_real(e->vcpu);
	put_regs(e->vcpu, CODE, 0x8000);
}

void env_tables(struct env *e)
{
	/* null, 64-bit code, data, 16 bytes of TSS descriptor */
	static const uint64_t gdt[] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff,
					0x00008b0000000067 | (uint64_t)TSS << 16, 0 };

	put_le64(e->ram + PML4, PDPT | 7);
	for (unsigned i = 0; i < 4; i++)
		put_le64(e->ram + PDPT + i * 8, (PD + i * 0x1000) | 7);
	for (uint64_t i = 0; i < 2048; i++)
		put_le64(e->ram + PD + i * 8, i << 21 | 0x87);
	memcpy(e->ram + GDT, gdt, sizeof(gdt));
	memset(e->ram + IDT, 0, 0x1000);
	CHECK_EQ(vmx_vm_written(e->vm, GDT, PD + 0x4000 - GDT), 0);
}

static struct vmx_segment segment(uint16_t selector, uint16_t attributes)
{
	return (struct vmx_segment){ .selector = selector, .attributes = attributes,
				     .limit = 0xffffffff };
}

void put_long_mode(struct vmx_vcpu *vcpu)
{
	struct vmx_sregs s;

	CHECK_EQ(vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.cs = segment(0x08, 0xa09b);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(0x10, 0xc093);
	s.tr = (struct vmx_segment){ .selector = 0x18, .base = TSS, .limit = 0x67,
				     .attributes = 0x8b };
	s.ldtr = (struct vmx_segment){ .unusable = true };
	s.gdtr = (struct vmx_table){ GDT, 39 };
	s.idtr = (struct vmx_table){ IDT, 0xfff };
	s.cr0 = 0x80000033;
	s.cr3 = PML4;
	s.cr4 = 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
	s.efer = 0x500;
	CHECK_EQ(vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
}

void env_long(struct env *e, const uint8_t *code, const uint8_t *end)
{
	load(e, code, end);
	env_tables(e);
	put_long_mode(e->vcpu);
	put_regs(e->vcpu, CODE, 0x9000);
}

void env_descriptors(uint8_t *gdtr, uint8_t *idtr, uint8_t *cr3)
{
	put_le16(gdtr, 39);
	put_le64(gdtr + 2, GDT);
	put_le16(idtr, 0xfff);
	put_le64(idtr + 2, IDT);
	put_le32(cr3, PML4);
}

void set_gate(struct env *e, unsigned vector, uint64_t handler)
{
	uint8_t *gate = e->ram + IDT + vector * 16;

	put_le64(gate, (handler & 0xffff) | 0x08 << 16 | 0x8e00ull << 32 |
			       (handler >> 16 & 0xffff) << 48);
	put_le64(gate + 8, handler >> 32);
	CHECK_EQ(vmx_vm_written(e->vm, IDT + vector * 16, 16), 0);
}

void set_ivt(struct env *e, unsigned vector, uint16_t handler)
{
	put_le32(e->ram + vector * 4, handler);
	CHECK_EQ(vmx_vm_written(e->vm, vector * 4, 4), 0);
}

void enable_lapic(struct vmx_vcpu *vcpu)
{
	uint8_t lapic[1024];

	CHECK_EQ(vmx_vcpu_read_state(vcpu, VMX_STATE_LAPIC, lapic, sizeof(lapic)), 0);
	put_le32(lapic + 0xf0, 0x1ff);
	CHECK_EQ(vmx_vcpu_write_state(vcpu, VMX_STATE_LAPIC, lapic, sizeof(lapic)), 0);
}

static void describe(const struct vmx_exit *x)
{
	switch (x->reason) {
	case VMX_EXIT_IO:
		test_fail("exit", 0, "io: port %#x size %u %s count %u at rip %#llx", x->io.port,
			  x->io.size, x->io.input ? "in" : "out", x->io.count,
			  (unsigned long long)x->rip);
	case VMX_EXIT_MEM:
		test_fail("exit", 0, "mem: gpa %#llx size %u %s at rip %#llx",
			  (unsigned long long)x->mem.gpa, x->mem.size,
			  x->mem.exec ? "exec" : x->mem.write ? "write" : "read",
			  (unsigned long long)x->rip);
	case VMX_EXIT_INTERNAL:
	case VMX_EXIT_ENTRY_FAILED:
		test_fail("exit", 0, "%s: %llu %s at rip %#llx", vmx_exit_reason_name(x->reason),
			  (unsigned long long)x->internal.reason, x->internal.text,
			  (unsigned long long)x->rip);
	default:
		test_fail("exit", 0, "%s at rip %#llx", vmx_exit_reason_name(x->reason),
			  (unsigned long long)x->rip);
	}
}

void expect(struct env *e, enum vmx_exit_reason reason)
{
	int r = vmx_vcpu_resume(e->vcpu, &e->exit);

	if (r < 0)
		test_fail(__FILE__, __LINE__, "vmx_vcpu_resume: %s", strerror(-r));
	if (e->exit.reason == reason)
		return;
	printf("    wanted an exit %s, but came:\n", vmx_exit_reason_name(reason));
	describe(&e->exit);
}

uint8_t expect_out(struct env *e, uint16_t port)
{
	expect(e, VMX_EXIT_IO);
	CHECK_EQ(e->exit.io.input, false);
	CHECK_EQ(e->exit.io.port, port);
	CHECK_EQ(e->exit.io.size, 1);
	CHECK_EQ(e->exit.io.count, 1);
	return *(uint8_t *)e->exit.io.buf;
}

void need_hardware(struct env *e, const char *why)
{
	if (e->emulated)
		test_skip("this KVM emulates, and %s", why);
}

uint64_t reg(struct env *e, enum vmx_reg name)
{
	uint64_t value;

	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, &name, 1, &value), 0);
	return value;
}

void set_reg(struct env *e, enum vmx_reg name, uint64_t value)
{
	CHECK_EQ(vmx_vcpu_set_regs(e->vcpu, &name, 1, &value), 0);
}

pthread_t start(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, fn, arg), 0);
	return thread;
}

void join(pthread_t thread)
{
	CHECK_EQ(pthread_join(thread, NULL), 0);
}

void sleep_ms(unsigned ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

	nanosleep(&t, NULL);
}
