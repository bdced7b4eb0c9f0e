/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_lapic.c - the software engine's local APIC: registers, modes, priorities, messages. */
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "common/clock.h"
#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

#define X2(offset) (0x800u + ((offset) >> 4))
#define BASE 0xfee00000u
#define EN (1u << 11)
#define EXTD (1u << 10)
#define BSP (1u << 8)

static void start(struct guest *g)
{
	if (guest_create(g, 0) < 0)
		CU_FAIL_FATAL("guest_create");
}

static uint64_t rd(struct guest *g, uint32_t index)
{
	uint64_t value = 0xbad;

	CU_ASSERT_EQUAL(vmx_vcpu_read_msr(g->cpu, index, &value), 0);
	return value;
}

static void wr(struct guest *g, uint32_t index, uint64_t value)
{
	CU_ASSERT_EQUAL(vmx_vcpu_write_msr(g->cpu, index, value), 0);
}

static void start_x2(struct guest *g)
{
	start(g);
	wr(g, 0x1b, BASE | EN | EXTD | BSP);
	wr(g, X2(0xf0), 0x1ff);
}

/* The 1024 bytes as a caller sees them. */
static uint32_t page_reg(struct guest *g, unsigned offset)
{
	uint8_t page[1024];
	uint32_t value;

	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	memcpy(&value, page + offset, sizeof(value));
	return value;
}

static void test_reset(void)
{
	struct guest g;

	start(&g);
	CU_ASSERT_EQUAL(rd(&g, 0x1b), BASE | EN | BSP);
	CU_ASSERT_EQUAL(page_reg(&g, 0x20), 0);
	CU_ASSERT_EQUAL(page_reg(&g, 0x30), 0x50014);
	CU_ASSERT_EQUAL(page_reg(&g, 0xe0), 0xffffffff);
	CU_ASSERT_EQUAL(page_reg(&g, 0xf0), 0xff);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(page_reg(&g, 0x320 + i * 16), 0x10000);
	}
	CU_ASSERT_EQUAL(page_reg(&g, 0x350), 0x700); /* virtual wire */
	/* No x2APIC registers before x2APIC mode. */
	CU_ASSERT_NOT_EQUAL(vmx_vcpu_write_msr(g.cpu, X2(0xf0), 0x1ff), 0);
	guest_destroy(&g);
}

/* Transitions of IA32_APIC_BASE: from, to, allowed. */
static void test_modes(void)
{
	static const struct {
		uint32_t from[2], to;
		int want;
	} cases[] = {
		{ { EN, EN }, EN | EXTD, 0 },           { { EN, EN }, 0, 0 },
		{ { EN, EN }, EXTD, -EINVAL },          { { EN, EN | EXTD }, EN, -EINVAL },
		{ { EN, EN | EXTD }, EXTD, -EINVAL },   { { EN, EN | EXTD }, 0, 0 },
		{ { EN, 0 }, EN | EXTD, -EINVAL },      { { EN, 0 }, EN, 0 },
		{ { EN, EN }, EN | 1, -EINVAL },        { { EN, EN }, EN | 1u << 9, -EINVAL },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct guest g;

		start(&g);
		for (unsigned k = 0; k < 2; k++)
			wr(&g, 0x1b, BASE | BSP | cases[i].from[k]);
		CU_ASSERT_EQUAL(vmx_vcpu_write_msr(g.cpu, 0x1b, BASE | BSP | cases[i].to),
				cases[i].want);
		guest_destroy(&g);
	}
}

static void test_registers(void)
{
	static const struct {
		uint32_t offset;
		uint64_t value;
		int want; /* of the write */
	} cases[] = {
		{ 0x80, 0x35, 0 }, { 0x80, 0x100, -EINVAL }, { 0x20, 0, -EINVAL },
		{ 0x30, 0, -EINVAL }, { 0xa0, 0, -EINVAL }, { 0xd0, 0, -EINVAL },
		{ 0xe0, 0, -ENOENT }, { 0xf0, 0x1ff, 0 }, { 0xf0, 1ull << 32, -EINVAL },
		{ 0x100, 0, -EINVAL }, { 0x280, 0, 0 }, { 0x280, 1, -EINVAL },
		{ 0x310, 0, -ENOENT }, { 0x320, 0x200ec, 0 }, { 0x320, 0x80000, -EINVAL },
		{ 0x380, 0xffffffff, 0 }, { 0x390, 0, -EINVAL }, { 0x3e0, 0xb, 0 },
		{ 0x3e0, 0x10, -EINVAL }, { 0xb0, 0, 0 }, { 0xb0, 1, -ENOENT },
		{ 0x3f0, 0x100, -ENOENT }, { 0x300, 1u << 13, -EINVAL },
	};
	struct guest g;
	uint64_t value;

	start_x2(&g);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CU_ASSERT_EQUAL(vmx_vcpu_write_msr(g.cpu, X2(cases[i].offset), cases[i].value),
				cases[i].want);
	}
	CU_ASSERT_EQUAL(rd(&g, X2(0x80)), 0x35);
	CU_ASSERT_EQUAL(rd(&g, X2(0x320)), 0x200ec);
	CU_ASSERT_EQUAL(rd(&g, X2(0xd0)), 1);
	CU_ASSERT_EQUAL(vmx_vcpu_read_msr(g.cpu, X2(0xb0), &value), -ENOENT);
	guest_destroy(&g);
}

/* Vectors go to the IRR; the priority of what is served and of the task decides. */
PAYLOAD(serve, "sti\n nop\n nop\n cli\n hlt\n"
	       ".org payload_serve+0x200\n incl 0x30000\n iretq\n");

static void test_priority(void)
{
	struct guest g;

	start_x2(&g);
	LOAD(&g, CODE, serve);
	set_gate(&g, 0x41, CODE + 0x200, 0);
	set_gate(&g, 0x52, CODE + 0x200, 0);
	wr(&g, X2(0x80), 0x50);
	wr(&g, X2(0x3f0), 0x41);
	CU_ASSERT_EQUAL(vmx_vcpu_interrupt(g.cpu, VMX_INTERRUPT_FIXED, 0x52), 0);
	CU_ASSERT_EQUAL(rd(&g, X2(0x220)), 1u << 1 | 1u << 18);
	CU_ASSERT_EQUAL(page_reg(&g, 0x220), 1u << 1 | 1u << 18);
	/* Both have the class of the task priority or less: neither comes. */
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 0);
	/* Below 0x50: 0x52 comes, is never ended, and holds 0x41 off. */
	guest_set_reg(&g, VMX_CR8, 3);
	guest_set_reg(&g, VMX_RIP, CODE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 1);
	CU_ASSERT_EQUAL(rd(&g, X2(0x120)), 1u << 18);
	CU_ASSERT_EQUAL(rd(&g, X2(0xa0)), 0x50);
	wr(&g, X2(0xb0), 0);
	guest_set_reg(&g, VMX_RIP, CODE);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(q(&g, DATA)[0], 2);
	CU_ASSERT_EQUAL(rd(&g, X2(0xa0)), 0x40);
	guest_destroy(&g);
}

static void test_errors(void)
{
	struct guest g;

	start_x2(&g);
	wr(&g, X2(0x370), 0x77);
	wr(&g, X2(0x300), 1u << 18 | 5); /* fixed, self, vector 5 */
	CU_ASSERT_EQUAL(rd(&g, X2(0x280)), 0);
	wr(&g, X2(0x280), 0);
	CU_ASSERT_EQUAL(rd(&g, X2(0x280)), 1u << 5);
	CU_ASSERT_EQUAL(rd(&g, X2(0x230)), 1u << 23); /* the error's own vector */
	wr(&g, X2(0x280), 0);
	CU_ASSERT_EQUAL(rd(&g, X2(0x280)), 0);
	guest_destroy(&g);
}

static void test_timer(void)
{
	uint64_t first, second, tsc;
	struct guest g;

	start_x2(&g);
	wr(&g, X2(0x3e0), 0xb); /* divide by 1 */
	wr(&g, X2(0x320), 0x10040);
	wr(&g, X2(0x380), 0xffffffff);
	first = rd(&g, X2(0x390));
	second = rd(&g, X2(0x390));
	CU_ASSERT_TRUE(first > 0xf0000000 && second <= first);
	wr(&g, X2(0x380), 0);
	CU_ASSERT_EQUAL(rd(&g, X2(0x390)), 0);
	/* The deadline belongs to its mode. */
	wr(&g, 0x6e0, 1234);
	CU_ASSERT_EQUAL(rd(&g, 0x6e0), 0);
	wr(&g, X2(0x320), 0x50040);
	tsc = rd(&g, 0x10);
	wr(&g, 0x6e0, tsc + 1000000000000ull);
	CU_ASSERT_EQUAL(rd(&g, 0x6e0), tsc + 1000000000000ull);
	CU_ASSERT_EQUAL(rd(&g, X2(0x380)), 0);
	wr(&g, 0x6e0, ~0ull);
	CU_ASSERT_EQUAL(rd(&g, 0x6e0), ~0ull);
	wr(&g, X2(0x320), 0x10040);
	CU_ASSERT_EQUAL(rd(&g, 0x6e0), 0);
	guest_destroy(&g);
}

static uint64_t tsc_of(const struct guest *g, uint64_t ns)
{
	return (uint64_t)((double)ns * (double)vmx_vm_tsc_hz(g->vm) / 1e9);
}

/* The guest's time stands still, and so does its timer. */
PAYLOAD(late, "sti\n 1: jmp 1b\n .org payload_late+0x100\n rdtsc\n out %al,$0x10\n");

static void test_suspend(void)
{
	uint64_t before, after, ran, slept;
	struct guest g;

	start_x2(&g);
	LOAD(&g, CODE, late);
	set_gate(&g, 0x40, CODE + 0x100, 0);
	wr(&g, X2(0x320), 0x40040);
	ran = clock_monotonic_ns();
	before = rd(&g, 0x10);
	wr(&g, 0x6e0, before + vmx_vm_tsc_hz(g.vm) / 100); /* in 10 ms */
	CU_ASSERT_EQUAL(vmx_vm_suspend_time(g.vm), 0);
	slept = clock_monotonic_ns();
	nanosleep(&(struct timespec){ .tv_nsec = 60000000 }, NULL);
	slept = clock_monotonic_ns() - slept;
	CU_ASSERT_EQUAL(vmx_vm_resume_time(g.vm), 0);
	after = rd(&g, 0x10);
	ran = clock_monotonic_ns() - ran - slept;
	/* Not the 60 ms, and on a host that had the time for it the timer is not due. */
	CU_ASSERT_TRUE(after - before <= tsc_of(&g, ran + 1000000));
	CU_ASSERT_TRUE(rd(&g, X2(0x220)) == 0 || rd(&g, 0x10) - before >= vmx_vm_tsc_hz(g.vm) / 100);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_TRUE(rd(&g, 0x10) - before >= vmx_vm_tsc_hz(g.vm) / 100);
	guest_destroy(&g);
}

/* --- messages to several processors --------------------------------------------------------- */

struct cpu { /* a vCPU on a thread that only holds it */
	struct vmx_vm *vm;
	unsigned id;
	struct vmx_vcpu *cpu;
	int result;
	pthread_t thread;
	pthread_barrier_t *made, *used, *looked;
	uint32_t irr; /* 0x40..0x5f, after the messages */
	uint32_t ldr; /* xAPIC, before them; 0: x2APIC mode */
};

static void *hold(void *arg)
{
	struct cpu *c = arg;
	uint8_t page[1024];

	c->result = vmx_vcpu_create(c->vm, c->id, &c->cpu);
	if (c->result >= 0 && !c->ldr)
		c->result = vmx_vcpu_write_msr(c->cpu, 0x1b, BASE | EN | EXTD);
	if (c->result >= 0)
		c->result = vmx_vcpu_read_state(c->cpu, VMX_STATE_LAPIC, page, sizeof(page));
	page[0xf1] = 1; /* enabled */
	memcpy(page + 0xd0, &c->ldr, sizeof(c->ldr));
	if (c->result >= 0)
		c->result = vmx_vcpu_write_state(c->cpu, VMX_STATE_LAPIC, page, sizeof(page));
	pthread_barrier_wait(c->made);
	pthread_barrier_wait(c->used);
	vmx_vcpu_read_state(c->cpu, VMX_STATE_LAPIC, page, sizeof(page));
	memcpy(&c->irr, page + 0x220, sizeof(c->irr));
	pthread_barrier_wait(c->looked);
	vmx_vcpu_destroy(c->cpu);
	return NULL;
}

struct message {
	uint64_t address;
	uint32_t data;
};

/* Sends them to three vCPUs (0 is the caller's) and returns which of them got 0x40 + i. */
static void deliver(const struct message *m, unsigned n, bool x2, uint32_t *got)
{
	pthread_barrier_t made, used, looked;
	struct cpu cpus[2];
	struct guest g;

	if (x2)
		start_x2(&g);
	else
		start(&g);
	if (!x2) {
		uint8_t page[1024];

		vmx_vcpu_read_state(g.cpu, VMX_STATE_LAPIC, page, sizeof(page));
		page[0xf1] = page[0xd3] = 1;
		CU_ASSERT_EQUAL(vmx_vcpu_write_state(g.cpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	}
	pthread_barrier_init(&made, NULL, 3);
	pthread_barrier_init(&used, NULL, 3);
	pthread_barrier_init(&looked, NULL, 3);
	for (unsigned i = 0; i < 2; i++) {
		cpus[i] = (struct cpu){ .vm = g.vm, .id = i + 1, .made = &made, .used = &used,
					.looked = &looked, .ldr = x2 ? 0 : 2u << (24 + i) };
		pthread_create(&cpus[i].thread, NULL, hold, &cpus[i]);
	}
	pthread_barrier_wait(&made);
	for (unsigned i = 0; i < n; i++) {
		if (m[i].address) {
			CU_ASSERT_EQUAL(vmx_vm_msi(g.vm, m[i].address, m[i].data | (0x40 + i)), 0);
		} else { /* by the ICR of vCPU 0 */
			wr(&g, X2(0x300), (uint64_t)m[i].data << 32 | (0x40 + i));
		}
	}
	pthread_barrier_wait(&used);
	pthread_barrier_wait(&looked);
	for (unsigned i = 0; i < n; i++)
		got[i] = page_reg(&g, 0x220) >> i & 1;
	for (unsigned k = 0; k < 2; k++) {
		pthread_join(cpus[k].thread, NULL);
		CU_ASSERT_EQUAL(cpus[k].result, 0);
		for (unsigned i = 0; i < n; i++)
			got[i] |= (cpus[k].irr >> i & 1) << (k + 1);
	}
	guest_destroy(&g);
}

static void test_msi(void)
{
	static const struct message m[] = {
		{ BASE | 1u << 12, 0 },         /* physical 1 */
		{ BASE | 0xffu << 12, 0 },      /* broadcast */
		{ BASE | 5u << 12, 0 },         /* nobody */
		{ BASE | 6u << 12 | 4, 0 },     /* logical, flat: 1 and 2 */
		{ BASE | 7u << 12 | 12, 0x100 }, /* logical, lowest priority: one of all */
		{ BASE | 2u << 12, 0x4000 },    /* physical 2 */
	};
	uint32_t got[6];

	deliver(m, 6, false, got);
	CU_ASSERT_EQUAL(got[0], 2);
	CU_ASSERT_EQUAL(got[1], 7);
	CU_ASSERT_EQUAL(got[2], 0);
	CU_ASSERT_EQUAL(got[3], 6);
	CU_ASSERT_EQUAL(__builtin_popcount(got[4]), 1);
	CU_ASSERT_EQUAL(got[5], 4);
}

static void test_icr(void)
{
	/* Destination in x2APIC form; the shorthands need bits of the low half, so they are apart. */
	static const struct message m[] = { { 0, 2 }, { 0, 0xffffffff }, { 0, 9 }, { 0, 0 } };
	uint32_t got[4];

	deliver(m, 4, true, got);
	CU_ASSERT_EQUAL(got[0], 4);
	CU_ASSERT_EQUAL(got[1], 7);
	CU_ASSERT_EQUAL(got[2], 0);
	CU_ASSERT_EQUAL(got[3], 1);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "after reset", test_reset },
		{ "modes", test_modes },
		{ "registers in x2APIC mode", test_registers },
		{ "priorities", test_priority },
		{ "errors", test_errors },
		{ "timer registers", test_timer },
		{ "time stands still", test_suspend },
		{ "MSIs to three processors", test_msi },
		{ "ICR", test_icr },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("lapic", tests));
}
