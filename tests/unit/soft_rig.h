/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_rig.h - a vCPU of the soft engine whose memory, segments and native execution are replaced by
 * something small, so that the stepper's own files can be tested alone.
 *
 * Linear memory: 64 KiB of RAM at RIG_RAM, of which one page is missing, one holds translated code
 * (no host pointer for writes), and one is a device. Elsewhere: page fault.
 */
#ifndef TESTS_UNIT_SOFT_RIG_H
#define TESTS_UNIT_SOFT_RIG_H

#include <string.h>

#include "vmx-driver/soft/step.h"

#define RIG_RAM 0x10000ull
#define RIG_SIZE 0x10000ull
#define RIG_CODE 0x10000ull    /* instructions are put here */
#define RIG_DATA 0x12000ull
#define RIG_MISSING 0x16000ull
#define RIG_CODED 0x17000ull   /* page with translated code */
#define RIG_DEVICE 0x18000ull
#define RIG_STACK 0x1c000ull

struct rig {
	struct soft_vm vm;
	struct soft_vcpu v;
	uint8_t ram[RIG_SIZE] __attribute__((aligned(4096)));
	uint8_t xsave[4096] __attribute__((aligned(64)));
	bool missing;          /* RIG_MISSING really is */
	bool no_ptr;           /* soft_host_ptr() never gives one */
	unsigned native_runs, code_writes, exits, flushes, fp_saves;
};

/* A fresh rig; code: CODE_*; 16-bit code is real mode. Never NULL. */
struct rig *rig_new(unsigned code);
void rig_free(struct rig *r);
uint8_t *rig_at(struct rig *r, uint64_t la);
/* Puts the bytes at RIG_CODE and v->rip there. */
void rig_code(struct rig *r, const void *bytes, size_t n);
/* One soft_step(); answers device reads with `answer` until it ends otherwise. */
int rig_step(struct rig *r, uint64_t answer);

/* Instructions of a test; where it went on behind them. */
#define CODE(r, ...)                                                  \
	do {                                                          \
		static const uint8_t bytes_[] = { __VA_ARGS__ };      \
		rig_code(r, bytes_, sizeof(bytes_));                  \
	} while (0)
#define AFTER(r, n) CU_ASSERT_EQUAL((r)->v.rip + (r)->v.seg[SOFT_CS].base, RIG_CODE + (n))

static inline void set64(struct rig *r, uint64_t la, uint64_t val)
{
	memcpy(rig_at(r, la), &val, 8);
}

static inline uint64_t get64(struct rig *r, uint64_t la)
{
	uint64_t val;

	memcpy(&val, rig_at(r, la), 8);
	return val;
}

#endif
