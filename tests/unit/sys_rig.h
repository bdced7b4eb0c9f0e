/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys_rig.h - a small guest for the tests of system instructions: code runs until INT 80h or a
 * fault, whose handler writes its vector to the port of that number; the test then looks at the
 * registers and at the frame on the handler's stack.
 */
#ifndef TESTS_UNIT_SYS_RIG_H
#define TESTS_UNIT_SYS_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmx-driver/vmx.h"

#define RIG_RAM 0x600000u
#define RIG_PML4 0x1000u
#define RIG_PDPT 0x2000u
#define RIG_PD 0x3000u
#define RIG_GDT 0x4000u
#define RIG_IDT 0x5000u
#define RIG_TSS 0x6000u
#define RIG_TSS2 0x6800u
#define RIG_STUBS 0x8000u
#define RIG_CODE 0x10000u
#define RIG_CODE2 0x14000u
#define RIG_STACK 0x20000u  /* where tests start */
#define RIG_STACK0 0x24000u /* RSP0 */
#define RIG_IST1 0x28000u
#define RIG_DATA 0x30000u
#define RIG_KERNEL_PAGE 0x200000u /* supervisor only */
#define RIG_NO_PAGE 0x400000u     /* not present */
#define RIG_NX_PAGE 0x600000u     /* not executable (outside RAM) */
#define RIG_DONE 0x80             /* "vector" of a test that got to its end */

enum { /* selectors */
	SEL_CODE = 0x08, SEL_DATA = 0x10, SEL_UCODE32 = 0x1b, SEL_UDATA = 0x23, SEL_UCODE = 0x2b,
	SEL_TSS = 0x30, SEL_CODE32 = 0x40, SEL_CODE16 = 0x48, SEL_ABSENT = 0x50, SEL_GATE = 0x58,
	SEL_CONFORMING = 0x68, SEL_LDT = 0x70, SEL_ABSENT_CODE = 0x80, SEL_FRESH = 0x8b,
	SEL_TSS2 = 0x90, SEL_TASK_GATE = 0x98, SEL_SMALL = 0xa0, SEL_DOWN = 0xa8,
};
enum rig_mode { RIG_REAL, RIG_32, RIG_64 };

struct rig {
	struct vmx_vm *vm;
	struct vmx_vcpu *vcpu;
	uint8_t *ram;
	enum rig_mode mode;
	struct vmx_exit exit;
	struct vmx_regs regs;   /* before and after */
	struct vmx_sregs sregs;
	uint32_t error;         /* error code of the fault, if it has one */
};

/* Makes it in the mode, at CPL 0, with everything of RIG_* in place. NULL: no engine. */
struct rig *rig_new(enum rig_mode mode);
void rig_free(struct rig *r);
/* 32- and 64-bit: CPL 3 from now on. */
void rig_user(struct rig *r);
/* Runs the bytes (INT 80h is appended) with r->regs and r->sregs. Returns the vector that came, 0x100
 * + port for another port, -1 for shutdown, -2 for anything else. r->regs, r->sregs: afterwards. */
int rig_run(struct rig *r, const uint8_t *code, const uint8_t *end);
uint64_t rig_stack(const struct rig *r, unsigned slot); /* slot-th value on the handler's stack */
uint64_t rig_get(const struct rig *r, uint64_t gpa, unsigned size);
void rig_put(struct rig *r, uint64_t gpa, uint64_t value, unsigned size);

/* Guest code of a test: CODE64(name, "insn; insn") etc. at file scope. */
#define GUEST_CODE(bits, name, text)                                                            \
	__asm__(".pushsection .rodata\n.code" #bits "\n.globl " #name "\n" #name ":\n" text     \
		"\n.globl " #name "_end\n" #name "_end:\n.code64\n.popsection\n");               \
	extern const uint8_t name[], name##_end[];
#define CODE16(name, text) GUEST_CODE(16, name, text)
#define CODE32(name, text) GUEST_CODE(32, name, text)
#define CODE64(name, text) GUEST_CODE(64, name, text)
#define RUN(r, name) rig_run(r, name, name##_end)

#endif
