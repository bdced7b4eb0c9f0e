/* SPDX-License-Identifier: Apache-2.0 */
/* soft_guest.h - a small long-mode guest on the software engine, for tests/unit/test_soft_run.c. */
#ifndef TESTS_UNIT_SOFT_GUEST_H
#define TESTS_UNIT_SOFT_GUEST_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/unit.h"
#include "vmx-driver/vmx.h"

#define RAM_SIZE 0x400000u
#define GDT 0x1000u
#define IDT 0x2000u
#define TSS 0x3000u
#define PML4 0x4000u
#define PDPT 0x5000u
#define PD 0x6000u
#define PT0 0x7000u       /* VA 0..2M: identity, supervisor, writable, 4 KiB pages */
#define PT1 0x8000u       /* VA 2M..4M: the tests' own */
#define PDPT_HIGH 0x9000u
#define PD_HIGH 0xa000u
#define CODE 0x20000u
#define DATA 0x30000u     /* results of the payload */
#define STACK 0x50000u
#define KERNEL_HIGH 0xffffffff80000000ull /* the first 2 MiB as one global page */
#define PTE_RW 3u
#define PTE_USER 4u
#define PTE_NX (1ull << 63)

struct guest {
	struct vmx_vm *vm;
	struct vmx_vcpu *cpu;
	uint8_t *ram;
	struct vmx_exit exit;
};

/* A payload between two labels of an asm block. */
#define PAYLOAD(name, code)                                                                  \
	extern const uint8_t payload_##name[], payload_##name##_end[];                       \
	__asm__(".pushsection .rodata\n.global payload_" #name "\npayload_" #name ":\n" code \
		"\n.global payload_" #name "_end\npayload_" #name "_end:\n.popsection\n")
#define LOAD(g, at, name) \
	memcpy((g)->ram + (at), payload_##name, (size_t)(payload_##name##_end - payload_##name))

static inline uint64_t *q(struct guest *g, uint64_t gpa)
{
	return (uint64_t *)(void *)(g->ram + gpa);
}

static inline void set_gate(struct guest *g, unsigned vector, uint64_t handler, unsigned dpl)
{
	uint64_t *e = q(g, IDT + vector * 16);

	e[0] = (handler & 0xffff) | 8ull << 16 | (0x8eull | dpl << 5) << 40 |
	       (handler >> 16 & 0xffff) << 48;
	e[1] = handler >> 32;
}

/* PT1 entry n (VA 2M + n pages). */
static inline void set_pte(struct guest *g, unsigned n, uint64_t value)
{
	q(g, PT1)[n] = value;
}

static inline void guest_tables(struct guest *g)
{
	static const uint64_t gdt[] = {
		0, 0x00af9b000000ffff /* 08 code */, 0x00cf93000000ffff /* 10 data */,
		0x00cffb000000ffff /* 18 user code 32 */, 0x00cff3000000ffff /* 20 user data */,
		0x00affb000000ffff /* 28 user code */, 0x00008b0000000067 | (uint64_t)TSS << 16, 0,
	};

	memcpy(g->ram + GDT, gdt, sizeof(gdt));
	memcpy(g->ram + TSS + 4, &(uint64_t){ STACK + 0x8000 }, 8); /* RSP0 */
	*q(g, PML4) = PDPT | 7;
	q(g, PML4)[511] = PDPT_HIGH | 3;
	*q(g, PDPT) = PD | 7;
	q(g, PDPT_HIGH)[510] = PD_HIGH | 3;
	*q(g, PD_HIGH) = 0x1e3; /* large, global, writable, accessed, dirty */
	q(g, PD)[0] = PT0 | 7;
	q(g, PD)[1] = PT1 | 7;
	for (unsigned i = 0; i < 512; i++)
		q(g, PT0)[i] = i << 12 | PTE_RW;
	/* The local APIC at VA 2M - 4K, so that a payload reaches it without another table. */
	q(g, PT0)[511] = 0xfee00000u | PTE_RW;
	/* A device at VA 2M - 8K. */
	q(g, PT0)[510] = 0xd0000000u | PTE_RW;
}

static inline struct vmx_segment guest_segment(uint16_t selector, uint16_t attributes)
{
	return (struct vmx_segment){ .limit = ~0u, .selector = selector, .attributes = attributes };
}

static inline int guest_long_mode(struct guest *g)
{
	const enum vmx_reg names[] = { VMX_RIP, VMX_RSP, VMX_RFLAGS };
	const uint64_t values[] = { CODE, STACK, 2 };
	struct vmx_sregs s;
	int r = vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s));

	if (r < 0)
		return r;
	s.cs = guest_segment(8, 0xa09b);
	s.ds = s.es = s.ss = s.fs = s.gs = guest_segment(0x10, 0xc093);
	s.tr = (struct vmx_segment){ .base = TSS, .limit = 0x67, .selector = 0x30,
				     .attributes = 0x8b };
	s.gdtr = (struct vmx_table){ GDT, 0x3f };
	s.idtr = (struct vmx_table){ IDT, 0xfff };
	s.cr0 = 0x80010033; /* PG WP NE ET MP PE */
	s.cr3 = PML4;
	s.cr4 = 0x6a0;      /* PAE PGE OSFXSR OSXMMEXCPT */
	s.efer = 0xd01;     /* NX LMA LME SCE */
	r = vmx_vcpu_write_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s));
	return r < 0 ? r : vmx_vcpu_set_regs(g->cpu, names, 3, values);
}

/* flags: VMX_VM_* */
static inline int guest_create_flags(struct guest *g, uint32_t soft_debug, uint32_t flags)
{
	const struct vmx_vm_options options = {
		.size = sizeof(options), .engine = VMX_ENGINE_SOFT, .soft_debug = soft_debug,
		.flags = flags,
	};
	const struct vmx_exit_options halt = { .optional = VMX_OPT_HALT };
	int r;

	memset(g, 0, sizeof(*g));
	g->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g->ram == MAP_FAILED)
		return -1;
	r = vmx_vm_create(&options, &g->vm);
	if (r >= 0)
		r = vmx_vm_map(g->vm, 0, RAM_SIZE, g->ram, VMX_MAP_READ | VMX_MAP_WRITE |
								   VMX_MAP_EXEC | VMX_MAP_TRACK_DIRTY |
								   VMX_MAP_SHARED);
	if (r >= 0)
		r = vmx_vcpu_create(g->vm, 0, &g->cpu);
	if (r >= 0)
		r = vmx_vm_set_exit_options(g->vm, &halt, NULL);
	guest_tables(g);
	return r >= 0 ? guest_long_mode(g) : r;
}

static inline int guest_create(struct guest *g, uint32_t soft_debug)
{
	return guest_create_flags(g, soft_debug, 0);
}

static inline void guest_destroy(struct guest *g)
{
	vmx_vcpu_destroy(g->cpu);
	vmx_vm_destroy(g->vm);
	munmap(g->ram, RAM_SIZE);
}

static inline uint64_t guest_reg(struct guest *g, enum vmx_reg name)
{
	uint64_t value = 0x6e6f6e65;

	vmx_vcpu_get_regs(g->cpu, &name, 1, &value);
	return value;
}

static inline void guest_set_reg(struct guest *g, enum vmx_reg name, uint64_t value)
{
	vmx_vcpu_set_regs(g->cpu, &name, 1, &value);
}

/* A statistic of the engine (vmx_vm_stats()). */
static inline uint64_t guest_stat(struct guest *g, const char *name)
{
	struct vmx_stat stats[128];
	size_t n = vmx_vm_stats(g->vm, stats, 128);

	for (size_t i = 0; i < n && i < 128; i++)
		if (strcmp(stats[i].name, name) == 0)
			return stats[i].value;
	CU_FAIL("no such statistic");
	return 0;
}

/* Resumes once; the reason of the exit, or the negative error. */
static inline int guest_resume(struct guest *g)
{
	int r = vmx_vcpu_resume(g->cpu, &g->exit);

	return r < 0 ? r : (int)g->exit.reason;
}

#endif
