/* SPDX-License-Identifier: Apache-2.0 */
/* hammer.h - where the hammer's guest (hammer_guest.S) and its host (hammer*.c) meet. */
#ifndef TESTS_CONTRACT_HAMMER_H
#define TESTS_CONTRACT_HAMMER_H

/* The n-th exit of a vCPU carries, or is answered with, n * HAMMER_MIX (low bits where it is narrow):
 * one that is lost, doubled or answered with another's answer does not fit. */
#define HAMMER_MIX 0x9e3779b1

#define HAMMER_CODE 0x1000
#define HAMMER_START 0x6000 /* page of the SIPI */
#define HAMMER_BOOT 0x6800  /* pseudo descriptors of GDT and IDT, CR3: at 0, 16, 32 */
#define HAMMER_SHARED 0x210000
#define HAMMER_CPU 0x200000 /* + id * 4096 */
#define HAMMER_STACK 0x300000 /* + id * 4096, grows downwards */
#define HAMMER_DIRTY 0x40000000
#define HAMMER_DIRTY_PAGES 64
#define HAMMER_TOGGLE 0x50000000
#define HAMMER_TOGGLE_PAGES 4
#define HAMMER_ROM 0x51000000
#define HAMMER_PATCH 0x60000000     /* "mov $version, %eax; ret" by the host */
#define HAMMER_PATCH_CPU 0x60001000 /* + id * 64: the same by that vCPU */
#define HAMMER_HOLE 0x80000000
#define HAMMER_BELL 0x81000000 /* + id * 8 */

/* What a read of the page that comes and goes may give in its upper half. */
#define HAMMER_VALUE_A 0xaaaa
#define HAMMER_VALUE_B 0xbbbb
#define HAMMER_VALUE_EXIT 0xcccc

/* Ports. */
#define HAMMER_OUT8 0x10
#define HAMMER_OUT16 0x12
#define HAMMER_OUT32 0x14
#define HAMMER_IN8 0x18
#define HAMMER_IN32 0x1c
#define HAMMER_OUTS 0x20
#define HAMMER_INS 0x24
#define HAMMER_RESYNC 0x30
#define HAMMER_FAIL 0xf0

#define HAMMER_MSR 0x12345
#define HAMMER_LEAF 0x40001000

/* Vectors. */
#define HAMMER_FIXED 0x40
#define HAMMER_EXTINT 0x41
#define HAMMER_LEVEL 0x50
#define HAMMER_IPI 0x60
#define HAMMER_TIMER 0x61

/* A vCPU's own block. */
#define CPU_ID 0x00
#define CPU_N_FIXED 0x08
#define CPU_N_NMI 0x10
#define CPU_N_EXTINT 0x18
#define CPU_N_LEVEL 0x20
#define CPU_N_TIMER 0x28
#define CPU_N_BP 0x30
#define CPU_N_UD 0x38
#define CPU_N_GP 0x40
#define CPU_BELL_BEGUN 0x48
#define CPU_BELL_DONE 0x50
#define CPU_LOOPS 0x58
#define CPU_REQUESTS 0x60 /* bit n: vCPU n waits for an answer to its IPI */
#define CPU_IDT 0x70      /* pseudo descriptor of an empty IDT */
#define CPU_STRING 0x80
#define CPU_SEED 0x90
#define CPU_N_IPI 0x98
/* The shared block. */
#define SHARED_ACTIONS 0x00 /* which are on */
#define SHARED_HALT_EXITS 0x08
#define SHARED_VERSION 0x10 /* of the function at HAMMER_PATCH */
#define SHARED_CPUS 0x18
#define SHARED_TIMER 0x20 /* initial count of the APIC timer */
#define SHARED_CPU_VERSION 0x80 /* + id * 8 */

/* Actions, by their bit. */
#define ACT_OUT8 0
#define ACT_OUT16 1
#define ACT_OUT32 2
#define ACT_IN8 3
#define ACT_IN32 4
#define ACT_OUTS 5
#define ACT_INS 6
#define ACT_WRITE 7
#define ACT_READ 8
#define ACT_WRITE64 9
#define ACT_READ64 10
#define ACT_ROM 11
#define ACT_LOCKED 12
#define ACT_TOGGLE_READ 13
#define ACT_TOGGLE_WRITE 14
#define ACT_BELL 15
#define ACT_DIRTY 16
#define ACT_PATCHED 17
#define ACT_PATCH_SELF 18
#define ACT_PATCHED_CPU 19
#define ACT_HALT 20
#define ACT_RDMSR 21
#define ACT_WRMSR 22
#define ACT_CPUID 23
#define ACT_RDTSC 24
#define ACT_HYPERCALL 25
#define ACT_INT3 26
#define ACT_UD2 27
#define ACT_SHUTDOWN 28
#define ACT_IPI 29
#define ACT_FETCH 30
#define ACT_SPIN 31

#ifndef __ASSEMBLER__

#include <stdatomic.h>

#include "tests/contract/contract.h"

#define HAMMER_CPUS 4u

enum { /* phase.flags: what a phase has beyond the accesses that always exit */
	PHASE_OPTIONS = 1u << 0, /* the exits one can opt in to */
	PHASE_HALT = 1u << 1,    /* HLT exits */
	PHASE_INIT = 1u << 2,    /* vCPUs 1.. get INIT and SIPI; no NMI, no IPI that waits */
	PHASE_AGAIN = 1u << 3,   /* vCPUs are made anew, else reset */
	PHASE_TIME = 1u << 4,    /* after a while with the time suspended */
};

struct hammer;
struct cpu {
	struct env e;
	struct hammer *h;
	unsigned id;
	pthread_t thread;
	uint64_t rng;
	/* Exits counted: what the guest's r15 is. Owner. */
	uint32_t seq;
	unsigned string_pos; /* bytes of a string instruction that came already */
	bool locked;         /* the read of a locked access came, not its write */
	uint64_t exits[16];  /* by reason */
	/* Read by the other threads. */
	_Atomic uint64_t cancels, kicks, extints, eois, shutdowns, resyncs, bell_exits;
};

struct hammer {
	struct env e; /* the VM */
	struct cpu cpu[HAMMER_CPUS];
	unsigned cpus;
	bool soft, emulated, no_exceptions;
	unsigned flags; /* of the phase */
	uint32_t actions;
	pthread_barrier_t barrier;
	_Atomic bool stop, aux_stop, end;
	uint8_t *dirty, *dirty_shadow, *toggle[2], *patch;
	_Atomic uint64_t rings; /* of all bells */
	uint64_t sent_level;
};

extern const uint8_t hammer_guest[], hammer_guest_end[], hammer_start[], hammer_start_end[];
extern const uint8_t hammer_on_fixed[], hammer_on_nmi[], hammer_on_extint[], hammer_on_level[],
	hammer_on_ipi[], hammer_on_timer[], hammer_on_bp[], hammer_on_ud[], hammer_on_gp[],
	hammer_on_other[], hammer_after_shutdown[];

/* hammer_exits.c: one vCPU's thread through all phases. */
void *hammer_cpu(void *arg);
/* hammer_threads.c: what disturbs them, until h->aux_stop. */
struct hammer_thread {
	const char *name;
	void (*run)(struct hammer *h);
	unsigned not_in, only_in; /* phases by their flags */
	bool hardware; /* not on a KVM that emulates */
};
extern const struct hammer_thread hammer_threads[];
extern const size_t hammer_thread_count;
/* Copies the pages of HAMMER_DIRTY that were written since the last time. */
void hammer_copy_dirty(struct hammer *h);

/* A word of guest memory that the guest may be writing. */
static inline uint64_t hammer_peek(const struct hammer *h, uint64_t gpa)
{
	return __atomic_load_n((const uint64_t *)(const void *)(h->e.ram + gpa), __ATOMIC_ACQUIRE);
}
static inline void hammer_poke(struct hammer *h, uint64_t gpa, uint64_t value)
{
	__atomic_store_n((uint64_t *)(void *)(h->e.ram + gpa), value, __ATOMIC_RELEASE);
}
static inline uint64_t hammer_count(const struct cpu *c, unsigned counter)
{
	return hammer_peek(c->h, HAMMER_CPU + c->id * 4096u + counter);
}
static inline uint64_t hammer_random(uint64_t *rng)
{
	*rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
	return *rng >> 33;
}

#endif
#endif
