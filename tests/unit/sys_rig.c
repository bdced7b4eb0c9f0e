/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/sys_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

uint64_t rig_get(const struct rig *r, uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	if (gpa + size <= RIG_RAM)
		memcpy(&value, r->ram + gpa, size);
	return value;
}

void rig_put(struct rig *r, uint64_t gpa, uint64_t value, unsigned size)
{
	memcpy(r->ram + gpa, &value, size);
	vmx_vm_written(r->vm, gpa, size);
}

static bool has_error(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

uint64_t rig_stack(const struct rig *r, unsigned slot)
{
	unsigned size = r->mode == RIG_64 ? 8 : r->mode == RIG_32 ? 4 : 2;
	uint64_t sp = r->regs.rsp;

	if (r->mode == RIG_REAL)
		sp = r->sregs.ss.base + (sp & 0xffff);
	return rig_get(r, sp + slot * size, size);
}

static uint64_t descriptor(uint32_t base, uint32_t limit, uint16_t attributes)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	       (uint64_t)(attributes & 0xff) << 40 | (uint64_t)(limit & 0xf0000) << 32 |
	       (uint64_t)(attributes & 0xf000) << 40 | (uint64_t)(base & 0xff000000) << 32;
}

static void set_descriptor(struct rig *r, unsigned selector, uint64_t value)
{
	rig_put(r, RIG_GDT + (selector & ~7u), value, 8);
}

static void make_gdt(struct rig *r)
{
	bool wide = r->mode == RIG_64;
	uint16_t code = wide ? 0xa09b : 0xc09b;

	set_descriptor(r, SEL_CODE, descriptor(0, 0xfffff, code));
	set_descriptor(r, SEL_DATA, descriptor(0, 0xfffff, 0xc093));
	set_descriptor(r, SEL_UCODE32, descriptor(0, 0xfffff, 0xc0fb));
	set_descriptor(r, SEL_UDATA, descriptor(0, 0xfffff, 0xc0f3));
	set_descriptor(r, SEL_UCODE, descriptor(0, 0xfffff, code | 0x60));
	set_descriptor(r, SEL_TSS, descriptor(RIG_TSS, 0x67, 0x8b));
	set_descriptor(r, SEL_CODE32, descriptor(0, 0xfffff, 0xc09b));
	set_descriptor(r, SEL_CODE16, descriptor(0, 0xffff, 0x009b));
	set_descriptor(r, SEL_ABSENT, descriptor(0, 0xfffff, 0xc013));
	/* Call gate to kernel code at RIG_CODE2, DPL 3; 32-bit: with two parameters. */
	set_descriptor(r, SEL_GATE,
		       (RIG_CODE2 & 0xffff) | SEL_CODE << 16 |
			       (uint64_t)(wide ? 0xec00 : 0xec02) << 32 |
			       (uint64_t)(RIG_CODE2 >> 16) << 48);
	set_descriptor(r, SEL_CONFORMING, descriptor(0, 0xfffff, code | 4));
	set_descriptor(r, SEL_LDT, descriptor(RIG_GDT, 0xff, 0x82));
	set_descriptor(r, SEL_ABSENT_CODE, descriptor(0, 0xfffff, code & ~0x80));
	set_descriptor(r, SEL_FRESH, descriptor(0, 0xfffff, 0xc0f2));
	if (!wide) {
		set_descriptor(r, SEL_TSS2, descriptor(RIG_TSS2, 0x67, 0x89));
		set_descriptor(r, SEL_TASK_GATE, (uint64_t)SEL_TSS2 << 16 | 0xe500ull << 32);
		set_descriptor(r, SEL_SMALL, descriptor(RIG_DATA, 0xff, 0x4093));
		set_descriptor(r, SEL_DOWN, descriptor(RIG_DATA, 0xff, 0x4097));
	}
}

static void make_idt(struct rig *r)
{
	for (unsigned i = 0; i < 256; i++) {
		const uint8_t stub[8] = { 0xe6, (uint8_t)i, 0xf4, 0xeb, 0xfd };
		uint64_t at = RIG_STUBS + i * 8, ist = r->mode == RIG_64 && i == 8 ? 1 : 0;
		unsigned dpl = i == 3 || i == 4 || i == RIG_DONE || i == 0x82 ? 3 : 0;
		unsigned type = i == 0x82 ? 0xf : 0xe;

		memcpy(r->ram + at, stub, sizeof(stub));
		if (r->mode == RIG_REAL)
			rig_put(r, i * 4, at & 0xffff, 4);
		else
			rig_put(r, RIG_IDT + i * (r->mode == RIG_64 ? 16 : 8),
				(at & 0xffff) | SEL_CODE << 16 | ist << 32 |
					(uint64_t)(0x80 | dpl << 5 | type) << 40, 8);
	}
}

static void make_tables(struct rig *r)
{
	rig_put(r, RIG_PML4, RIG_PDPT | 7, 8);
	rig_put(r, RIG_PDPT, RIG_PD | 7, 8);
	rig_put(r, RIG_PD, 0x87, 8);
	rig_put(r, RIG_PD + 8, 0x200000 | 0x83, 8);
	rig_put(r, RIG_PD + 24, 0x200000 | 0x83 | 1ull << 63, 8);
	if (r->mode == RIG_64) {
		rig_put(r, RIG_TSS + 4, RIG_STACK0, 8);
		rig_put(r, RIG_TSS + 36, RIG_IST1, 8);
	} else {
		rig_put(r, RIG_TSS + 4, RIG_STACK0, 4);
		rig_put(r, RIG_TSS + 8, SEL_DATA, 4);
	}
	rig_put(r, RIG_TSS + 0x66, 0x68, 2);
}

static void set_segment(struct vmx_segment *s, uint16_t selector, uint16_t attributes)
{
	*s = (struct vmx_segment){ .limit = 0xffffffff, .selector = selector,
				   .attributes = attributes };
}

static void set_mode(struct rig *r)
{
	struct vmx_sregs *s = &r->sregs;

	if (r->mode == RIG_REAL) {
		s->cs = s->ds = s->es = s->ss = s->fs = s->gs =
			(struct vmx_segment){ .limit = 0xffff, .attributes = 0x93 };
		s->cs.selector = RIG_CODE >> 4;
		s->cs.base = RIG_CODE;
		s->ss.selector = 0x1000;
		s->ss.base = 0x10000;
		return;
	}
	set_segment(&s->cs, SEL_CODE, r->mode == RIG_64 ? 0xa09b : 0xc09b);
	set_segment(&s->ss, SEL_DATA, 0xc093);
	s->ds = s->es = s->fs = s->gs = s->ss;
	s->tr = (struct vmx_segment){ .base = RIG_TSS, .limit = 0x67, .selector = SEL_TSS,
				      .attributes = 0x8b };
	s->ldtr = (struct vmx_segment){ .unusable = true };
	s->gdtr = (struct vmx_table){ .base = RIG_GDT, .limit = 0xff };
	s->idtr = (struct vmx_table){ .base = RIG_IDT, .limit = r->mode == RIG_64 ? 0xfff : 0x7ff };
	s->cr0 = 0x31;
	if (r->mode == RIG_32)
		return;
	s->cr3 = RIG_PML4;
	s->cr4 = 0x620;       /* PAE OSFXSR OSXMMEXCPT */
	s->cr0 = 0x80010031u; /* PG WP NE ET PE */
	s->efer = 0xd01;      /* NX LMA LME SCE */
}

struct rig *rig_new(enum rig_mode mode)
{
	const char *debug = getenv("VMXD_SOFT_DEBUG");
	struct vmx_vm_options options = {
		.size = sizeof(options), .engine = VMX_ENGINE_SOFT,
		.soft_debug = debug ? (uint32_t)strtoul(debug, NULL, 0) : 0,
	};
	struct rig *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->mode = mode;
	r->ram = mmap(NULL, RIG_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->ram == MAP_FAILED || vmx_vm_create(&options, &r->vm) < 0 ||
	    vmx_vm_map(r->vm, 0, RIG_RAM, r->ram,
		       VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC) < 0 ||
	    vmx_vcpu_create(r->vm, 0, &r->vcpu) < 0) {
		fprintf(stderr, "no software engine here\n");
		exit(1);
	}
	vmx_vcpu_read_state(r->vcpu, VMX_STATE_SREGS, &r->sregs, sizeof(r->sregs));
	make_gdt(r);
	make_tables(r);
	make_idt(r);
	set_mode(r);
	r->regs = (struct vmx_regs){ .rsp = mode == RIG_REAL ? 0xff00 : RIG_STACK, .rbx = RIG_DATA,
				     .rip = mode == RIG_REAL ? 0 : RIG_CODE, .rflags = 2 };
	return r;
}

void rig_free(struct rig *r)
{
	if (!r)
		return;
	vmx_vcpu_destroy(r->vcpu);
	vmx_vm_destroy(r->vm);
	munmap(r->ram, RIG_RAM);
	free(r);
}

void rig_user(struct rig *r)
{
	struct vmx_sregs *s = &r->sregs;

	set_segment(&s->cs, SEL_UCODE, r->mode == RIG_64 ? 0xa0fb : 0xc0fb);
	set_segment(&s->ss, SEL_UDATA, 0xc0f3);
	s->ds = s->es = s->ss;
}

int rig_run(struct rig *r, const uint8_t *code, const uint8_t *end)
{
	static const uint8_t done[] = { 0xcd, RIG_DONE };
	size_t n = (size_t)(end - code);
	int rc;

	memcpy(r->ram + RIG_CODE, code, n);
	memcpy(r->ram + RIG_CODE + n, done, sizeof(done));
	vmx_vm_written(r->vm, RIG_CODE, n + sizeof(done));
	rc = vmx_vcpu_write_state(r->vcpu, VMX_STATE_SREGS, &r->sregs, sizeof(r->sregs));
	if (rc < 0) {
		fprintf(stderr, "sregs refused: %s\n", strerror(-rc));
		return -2;
	}
	vmx_vcpu_write_state(r->vcpu, VMX_STATE_REGS, &r->regs, sizeof(r->regs));
	rc = vmx_vcpu_resume(r->vcpu, &r->exit);
	vmx_vcpu_read_state(r->vcpu, VMX_STATE_REGS, &r->regs, sizeof(r->regs));
	vmx_vcpu_read_state(r->vcpu, VMX_STATE_SREGS, &r->sregs, sizeof(r->sregs));
	if (rc < 0)
		return -2;
	if (r->exit.reason == VMX_EXIT_SHUTDOWN)
		return -1;
	if (r->exit.reason != VMX_EXIT_IO) {
		fprintf(stderr, "exit reason %d\n", r->exit.reason);
		return -2;
	}
	if (r->exit.io.input)
		return 0x100 + r->exit.io.port;
	/* An error code on top of the frame is taken off, so that rig_stack(0) is RIP always. */
	if (r->mode != RIG_REAL && has_error(r->exit.io.port)) {
		r->error = (uint32_t)rig_stack(r, 0);
		r->regs.rsp += r->mode == RIG_64 ? 8 : 4;
	}
	return r->exit.io.port;
}
