/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contract.h - the tests of vmx.h: one table, run on every engine that is there.
 *
 * Each test runs in a process of its own, under a time limit, so one that crashes or hangs costs
 * only itself. A test ends by returning; the first failed CHECK ends it.
 */
#ifndef TESTS_CONTRACT_CONTRACT_H
#define TESTS_CONTRACT_CONTRACT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "vmx-driver/vmx.h"

#define RAM_SIZE 0x400000u /* at guest-physical 0 */
#define CODE 0x1000u       /* where payloads are loaded */
#define HOLE 0x80000000ull /* nothing is ever mapped from here to the APIC */

struct env {
	struct vmx_vm_options options;
	struct vmx_vm *vm;
	struct vmx_vcpu *vcpu;
	uint8_t *ram;
	struct vmx_exit exit;
	bool soft;
	bool emulated; /* a KVM that the probe found to be a software one */
};

struct test {
	const char *name;
	const char *points; /* of vcpu-contract.md, separated by blanks */
	void (*run)(struct env *e);
};

struct suite {
	const char *name;
	const struct test *tests;
	size_t count;
};

extern const struct suite suite_life, suite_run, suite_memory, suite_traps, suite_state,
	suite_interrupts, suite_options, suite_access, suite_smp;

/* End the test (they do not return). Any thread. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			test_fail(__FILE__, __LINE__, "%s", #cond);                                \
	} while (0)
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_)                                                                      \
			test_fail(__FILE__, __LINE__, "%s is %lld (%#llx), not %lld (%#llx)", #a,  \
				  a_, (unsigned long long)a_, b_, (unsigned long long)b_);         \
	} while (0)
#define SUITE(id, text)                                                                            \
	const struct suite suite_##id = { text, tests, sizeof(tests) / sizeof(tests[0]) }

/* Guest code: assembled with the test, copied to CODE. It may refer to absolute addresses and to
 * its own labels by difference. */
#define PAYLOAD(id, code)                                                                          \
	__asm__(".pushsection .rodata\n" #id ":\n" code "\n" #id "_end: .byte 0\n"                  \
		".code64\n.popsection\n");                                                         \
	extern const uint8_t id[] __asm__(#id);                                                    \
	extern const uint8_t id##_end[] __asm__(#id "_end")

/* A VM with RAM, and vCPU 0 of this thread. */
void env_vm(struct env *e);
void env_vcpu(struct env *e);
/* vCPU 0 at CODE in real mode: all segments flat at 0, stack below 0x8000, interrupts off. */
void env_real(struct env *e, const uint8_t *code, const uint8_t *end);
/* The same in 64-bit mode: 2 MiB identity pages over 4 GiB, GDT, empty IDT, stack below 0x9000.
 * The page tables lie at 0x10000..0x15fff. */
void env_long(struct env *e, const uint8_t *code, const uint8_t *end);
#define env_real_payload(e, id) env_real(e, id, id##_end)
#define env_long_payload(e, id) env_long(e, id, id##_end)
/* Only the tables of 64-bit mode, and only the mode, on any vCPU. */
void env_tables(struct env *e);
void put_long_mode(struct vmx_vcpu *vcpu);
void put_regs(struct vmx_vcpu *vcpu, uint64_t rip, uint64_t rsp);
void flat_real(struct vmx_vcpu *vcpu);
/* What LGDT and LIDT (10 bytes each) and CR3 (4 bytes) want, for a guest that starts by itself. */
void env_descriptors(uint8_t *gdtr, uint8_t *idtr, uint8_t *cr3);
/* Long-mode gate, or real-mode vector. */
void set_gate(struct env *e, unsigned vector, uint64_t handler);
void set_ivt(struct env *e, unsigned vector, uint16_t handler);
/* Software-enables the local APIC by its state. */
void enable_lapic(struct vmx_vcpu *vcpu);

/* vmx_vcpu_resume() must return 0 and that reason. */
void expect(struct env *e, enum vmx_exit_reason reason);
/* ... an OUT of one byte to that port; returns the byte. */
uint8_t expect_out(struct env *e, uint16_t port);
/* Skips the test on a KVM that emulates, for the reason why it cannot keep the point. */
void need_hardware(struct env *e, const char *why);
uint64_t reg(struct env *e, enum vmx_reg name);
void set_reg(struct env *e, enum vmx_reg name, uint64_t value);

pthread_t start(void *(*fn)(void *), void *arg);
void join(pthread_t thread);
void sleep_ms(unsigned ms);

#endif
