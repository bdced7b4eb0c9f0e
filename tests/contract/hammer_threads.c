/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hammer_threads.c - what goes on around the vCPUs of the hammer. Wherever something must come
 * through (a kick, an interrupt, an EOI), the thread waits for it: what is lost is a hang, and told.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/checked.h"
#include "tests/contract/hammer.h"

#define PATIENCE_S 30u
#define KEY 0x4b4559ull
#define POISON 0xdead0000u

/* Waits for the condition; false once the phase ends. */
#define AWAIT(h, cond, what, id)                                                                   \
	({                                                                                         \
		uint64_t start_ = clock_monotonic_ns();                                            \
		bool met_;                                                                         \
		while (!(met_ = (cond)) && !(h)->aux_stop) {                                       \
			if (clock_monotonic_ns() - start_ > PATIENCE_S * NSEC_PER_SEC)             \
				test_fail("hammer", 0, "%s of vCPU %u is lost", what, id);         \
			usleep(50);                                                                \
		}                                                                                  \
		met_;                                                                              \
	})

static struct cpu *some_cpu(struct hammer *h, uint64_t *rng)
{
	return &h->cpu[hammer_random(rng) % h->cpus];
}

/* A vCPU that gets no INIT in this phase. */
static struct cpu *steady_cpu(struct hammer *h, uint64_t *rng)
{
	return h->flags & PHASE_INIT ? &h->cpu[0] : some_cpu(h, rng);
}

static void kicker(struct hammer *h)
{
	uint64_t rng = 1;

	while (!h->aux_stop) {
		struct cpu *c = some_cpu(h, &rng);
		unsigned burst = 1 + hammer_random(&rng) % 3;
		uint64_t before = c->cancels;

		for (unsigned i = 0; i < burst; i++) {
			c->kicks++;
			CHECK_EQ(vmx_vcpu_kick(c->e.vcpu), 0);
		}
		AWAIT(h, c->cancels > before, "a kick", c->id);
		if (hammer_random(&rng) % 4 == 0)
			usleep(hammer_random(&rng) % 500);
	}
}

static void fixed_interrupts(struct hammer *h)
{
	uint64_t rng = 2;

	while (!h->aux_stop) {
		struct cpu *c = steady_cpu(h, &rng);
		uint64_t before = hammer_count(c, CPU_N_FIXED);

		if (hammer_random(&rng) % 2)
			CHECK_EQ(vmx_vcpu_interrupt(c->e.vcpu, VMX_INTERRUPT_FIXED, HAMMER_FIXED), 0);
		else
			CHECK_EQ(vmx_vm_msi(h->e.vm, 0xfee00000u | c->id << 12, HAMMER_FIXED), 0);
		if (AWAIT(h, hammer_count(c, CPU_N_FIXED) != before, "an interrupt", c->id) &&
		    hammer_count(c, CPU_N_FIXED) != before + 1)
			test_fail("hammer", 0, "an interrupt of vCPU %u came twice", c->id);
	}
}

/* One that hits the vCPU while it has no IDT ends in a shutdown. */
static void nmis(struct hammer *h)
{
	uint64_t rng = 3;

	while (!h->aux_stop) {
		struct cpu *c = some_cpu(h, &rng);
		uint64_t before = hammer_count(c, CPU_N_NMI), down = c->shutdowns;

		CHECK_EQ(vmx_vcpu_interrupt(c->e.vcpu, VMX_INTERRUPT_NMI, 0), 0);
		AWAIT(h, hammer_count(c, CPU_N_NMI) != before || c->shutdowns != down, "an NMI", c->id);
	}
}

static void pic(struct hammer *h)
{
	struct cpu *c = &h->cpu[0];

	while (!h->aux_stop) {
		uint64_t before = hammer_count(c, CPU_N_EXTINT);

		CHECK_EQ(vmx_vcpu_set_extint(c->e.vcpu, true), 0);
		AWAIT(h, hammer_count(c, CPU_N_EXTINT) != before, "the PIC's interrupt", 0u);
		usleep(100);
	}
	CHECK_EQ(vmx_vcpu_set_extint(c->e.vcpu, false), 0);
}

/* As an IOAPIC: the next one only after the EOI of the last. */
static void ioapic(struct hammer *h)
{
	struct cpu *c = &h->cpu[0];

	CHECK_EQ(vmx_vm_ioapic_route(h->e.vm, 5, 0xfee00000, 0x8000 | HAMMER_LEVEL, true), 0);
	while (!h->aux_stop) {
		uint64_t before = c->eois;

		h->sent_level++;
		CHECK_EQ(vmx_vm_msi(h->e.vm, 0xfee00000, 0xc000 | HAMMER_LEVEL), 0);
		AWAIT(h, c->eois != before, "an EOI", 0u);
		usleep(100);
	}
}

static void inits(struct hammer *h)
{
	uint64_t rng = 4;

	while (!h->aux_stop && h->cpus > 1) {
		struct cpu *c = &h->cpu[1 + hammer_random(&rng) % (h->cpus - 1)];
		uint64_t before = c->resyncs;

		CHECK_EQ(vmx_vcpu_interrupt(c->e.vcpu, VMX_INTERRUPT_INIT, 0), 0);
		if (hammer_random(&rng) % 2)
			usleep(hammer_random(&rng) % 200);
		CHECK_EQ(vmx_vcpu_interrupt(c->e.vcpu, VMX_INTERRUPT_SIPI, HAMMER_START >> 12), 0);
		AWAIT(h, c->resyncs != before, "a start", c->id);
		usleep(hammer_random(&rng) % 2000);
	}
}

static void fill(uint8_t *page, uint32_t value)
{
	for (unsigned i = 0; i < HAMMER_TOGGLE_PAGES * VMX_PAGE_SIZE; i += 4)
		__atomic_store_n((uint32_t *)(void *)(page + i), value, __ATOMIC_RELAXED);
}

static void check_fill(const uint8_t *page, uint32_t value)
{
	for (unsigned i = 0; i < HAMMER_TOGGLE_PAGES * VMX_PAGE_SIZE; i += 4)
		CHECK_EQ(__atomic_load_n((const uint32_t *)(const void *)(page + i),
					 __ATOMIC_RELAXED), value);
}

/* Memory that is gone is poisoned: nobody reads it, nobody writes to it. */
static void mapper(struct hammer *h)
{
	const uint64_t size = HAMMER_TOGGLE_PAGES * VMX_PAGE_SIZE;
	uint64_t rng = 5;
	int mapped = -1;

	while (!h->aux_stop) {
		int to = (int)(hammer_random(&rng) % 3) - 1;

		if (to == mapped)
			continue;
		if (to >= 0) {
			check_fill(h->toggle[to], POISON);
			fill(h->toggle[to], (uint32_t)(to ? HAMMER_VALUE_B : HAMMER_VALUE_A) << 16);
			CHECK_EQ(vmx_vm_map(h->e.vm, HAMMER_TOGGLE, size, h->toggle[to],
					    VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC), 0);
		} else {
			CHECK_EQ(vmx_vm_unmap(h->e.vm, HAMMER_TOGGLE, size), 0);
		}
		if (mapped >= 0)
			fill(h->toggle[mapped], POISON);
		mapped = to;
		usleep(hammer_random(&rng) % 3000);
	}
	if (mapped >= 0) {
		CHECK_EQ(vmx_vm_unmap(h->e.vm, HAMMER_TOGGLE, size), 0);
		fill(h->toggle[mapped], POISON);
	}
}

/* As a migration: after the last round the copy is the memory (checked at the end of the phase). */
void hammer_copy_dirty(struct hammer *h)
{
	uint64_t map;

	CHECK_EQ(vmx_vm_dirty(h->e.vm, HAMMER_DIRTY, HAMMER_DIRTY_PAGES * VMX_PAGE_SIZE, &map, 1), 0);
	for (unsigned p = 0; p < HAMMER_DIRTY_PAGES; p++)
		if (map >> p & 1)
			for (unsigned i = 0; i < VMX_PAGE_SIZE; i += 8) {
				uint64_t *from = (uint64_t *)(void *)(h->dirty + p * VMX_PAGE_SIZE + i);

				put_le64(h->dirty_shadow + p * VMX_PAGE_SIZE + i,
					 __atomic_load_n(from, __ATOMIC_RELAXED));
			}
}

static void dirty_reader(struct hammer *h)
{
	while (!h->aux_stop) {
		hammer_copy_dirty(h);
		usleep(300);
	}
}

/* As a device that loads code by DMA. */
static void patcher(struct hammer *h)
{
	uint32_t *imm = (uint32_t *)(void *)(h->patch + 4);
	uint32_t version = 0;

	while (!h->aux_stop) {
		version++;
		__atomic_store_n(imm, version, __ATOMIC_RELEASE);
		CHECK_EQ(vmx_vm_written(h->e.vm, HAMMER_PATCH + 4, 4), 0);
		hammer_poke(h, HAMMER_SHARED + SHARED_VERSION, version);
		usleep(200);
	}
}

static void count_rings(struct hammer *h, int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		h->rings += n;
	CHECK_EQ(close(fd), 0);
}

static void traps(struct hammer *h)
{
	int fd[HAMMER_CPUS];

	while (!h->aux_stop) {
		for (unsigned i = 0; i < h->cpus; i++) {
			fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			CHECK(fd[i] >= 0);
			CHECK_EQ(vmx_vm_set_trap(h->e.vm, VMX_TRAP_BELL, HAMMER_BELL + i * 8, 4, fd[i],
						 KEY), 0);
		}
		CHECK_EQ(vmx_vm_set_trap(h->e.vm, VMX_TRAP_IO, HAMMER_OUT8, 0x10, -1, KEY), 0);
		CHECK_EQ(vmx_vm_set_trap(h->e.vm, VMX_TRAP_MEM, HAMMER_HOLE, 4096, -1, KEY), 0);
		usleep(500);
		for (unsigned i = 0; i < h->cpus; i++) {
			CHECK_EQ(vmx_vm_remove_trap(h->e.vm, VMX_TRAP_BELL, HAMMER_BELL + i * 8), 0);
			count_rings(h, fd[i]);
		}
		CHECK_EQ(vmx_vm_remove_trap(h->e.vm, VMX_TRAP_IO, HAMMER_OUT8), 0);
		CHECK_EQ(vmx_vm_remove_trap(h->e.vm, VMX_TRAP_MEM, HAMMER_HOLE), 0);
		usleep(500);
	}
}

/* Calls that another thread must be refused, and those that it may make. */
static void outsider(struct hammer *h)
{
	struct vmx_stat stats[64];
	uint64_t rng = 6;

	while (!h->aux_stop) {
		struct cpu *c = some_cpu(h, &rng);
		struct vmx_regs regs;
		struct vmx_exit x;
		uint64_t value;
		size_t size;

		CHECK_EQ(vmx_vcpu_read_state(c->e.vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), -EBADFD);
		CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), -EBADFD);
		CHECK_EQ(vmx_vcpu_resume(c->e.vcpu, &x), -EBADFD);
		CHECK_EQ(vmx_vcpu_read_msr(c->e.vcpu, 0x10, &value), -EBADFD);
		CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), -EBADFD);
		CHECK_EQ(vmx_vm_destroy(h->e.vm), -EBADFD);
		CHECK_EQ(vmx_vcpu_state_size(c->e.vcpu, VMX_STATE_XSAVE, &size), 0);
		CHECK(vmx_vm_stats(h->e.vm, stats, ARRAY_SIZE(stats)) > 0);
		CHECK(vmx_vm_tsc_hz(h->e.vm) > 0);
		usleep(1000);
	}
}

const struct hammer_thread hammer_threads[] = {
	{ "kicks", kicker, 0, 0, false },
	{ "interrupts", fixed_interrupts, 0, 0, true },
	{ "NMIs", nmis, PHASE_INIT, 0, true },
	{ "PIC", pic, 0, 0, true },
	{ "IOAPIC", ioapic, 0, 0, true },
	{ "INIT and SIPI", inits, 0, PHASE_INIT, true },
	{ "mappings", mapper, 0, 0, false },
	{ "dirty bits", dirty_reader, 0, 0, false },
	{ "code", patcher, 0, 0, false },
	{ "traps", traps, 0, 0, false },
	{ "outsider", outsider, 0, 0, false },
};
const size_t hammer_thread_count = ARRAY_SIZE(hammer_threads);
