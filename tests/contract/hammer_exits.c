/* SPDX-License-Identifier: Apache-2.0 */
/* hammer_exits.c - one vCPU of the hammer: every exit is checked against its number. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/contract/hammer.h"

#define KEY 0x4b4559ull /* of the traps that come and go */

static _Noreturn void bad(struct cpu *c, const char *what, uint64_t got, uint64_t want)
{
	test_fail("hammer", (int)c->id, "vCPU %u, exit %u (%s at rip %#llx): %s is %#llx, not %#llx",
		  c->id, c->seq, vmx_exit_reason_name(c->e.exit.reason),
		  (unsigned long long)c->e.exit.rip, what, (unsigned long long)got,
		  (unsigned long long)want);
}

static void same(struct cpu *c, const char *what, uint64_t got, uint64_t want)
{
	if (got != want)
		bad(c, what, got, want);
}

static uint32_t mix(const struct cpu *c)
{
	return c->seq * HAMMER_MIX;
}

static uint64_t mix64(const struct cpu *c)
{
	return mix(c) * 0x100000001ull;
}

/* The guest's own count; completes an access first. */
static void check_count(struct cpu *c)
{
	same(c, "r15", (uint32_t)reg(&c->e, VMX_R15), c->seq);
}

static void check_key(struct cpu *c, uint64_t key)
{
	if (key && key != KEY)
		bad(c, "the key", key, KEY);
}

/* An answer goes into the buffer, or through the state. */
static void answer(struct cpu *c, void *buf, const void *data, size_t size, bool whole)
{
	size_t want;

	if (!whole || hammer_random(&c->rng) % 4) {
		memcpy(buf, data, size);
		return;
	}
	CHECK_EQ(vmx_vcpu_state_size(c->e.vcpu, VMX_STATE_IO, &want), 0);
	same(c, "the size of the IO state", want, size);
	CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_IO, data, size), 0);
	check_count(c);
}

/* --- ports ---------------------------------------------------------------------------------- */

static void string_exit(struct cpu *c, const struct vmx_exit *x)
{
	uint8_t want[4], *buf = x->io.buf;

	same(c, "the size", x->io.size, 1);
	for (unsigned i = 0; i < x->io.count; i++) {
		put_le32(want, (c->seq + 1) * HAMMER_MIX);
		if (x->io.input)
			buf[i] = want[c->string_pos];
		else
			same(c, "a byte of the string", buf[i], want[c->string_pos]);
		if (++c->string_pos == sizeof(want)) {
			c->string_pos = 0;
			c->seq++;
		}
	}
}

static void number_exit(struct cpu *c, const struct vmx_exit *x, unsigned size, bool input)
{
	uint8_t value[4];

	c->seq++;
	same(c, "the size", x->io.size, size);
	same(c, "the direction", x->io.input, input);
	same(c, "the count", x->io.count, 1);
	put_le32(value, mix(c));
	if (input)
		answer(c, x->io.buf, value, size, true);
	else if (memcmp(x->io.buf, value, size))
		bad(c, "the value", get_le32(x->io.buf), mix(c));
}

static void io_exit(struct cpu *c, const struct vmx_exit *x)
{
	uint32_t seq = c->seq;

	check_key(c, x->io.key);
	switch (x->io.port) {
	case HAMMER_OUT8: number_exit(c, x, 1, false); return;
	case HAMMER_OUT16: number_exit(c, x, 2, false); return;
	case HAMMER_OUT32: number_exit(c, x, 4, false); return;
	case HAMMER_IN8: number_exit(c, x, 1, true); return;
	case HAMMER_IN32: number_exit(c, x, 4, true); return;
	case HAMMER_OUTS:
	case HAMMER_INS: string_exit(c, x); return;
	case HAMMER_RESYNC:
		memcpy(x->io.buf, &seq, sizeof(seq));
		c->string_pos = 0;
		c->locked = false;
		c->resyncs++;
		return;
	case HAMMER_FAIL:
		printf("    guest: esi %#llx ebx %#llx ecx %#llx r15 %u\n",
		       (unsigned long long)reg(&c->e, VMX_RSI), (unsigned long long)reg(&c->e, VMX_RBX),
		       (unsigned long long)reg(&c->e, VMX_RCX), (unsigned)reg(&c->e, VMX_R15));
		bad(c, "what the guest found wrong (action)", get_le32(x->io.buf), 0);
	default: bad(c, "the port", x->io.port, 0);
	}
}

/* --- memory --------------------------------------------------------------------------------- */

static void mem_number(struct cpu *c, const struct vmx_exit *x, unsigned size, bool write)
{
	uint8_t value[8];

	c->seq++;
	same(c, "the size", x->mem.size, size);
	same(c, "the direction", x->mem.write, write);
	put_le64(value, mix64(c));
	if (!write)
		answer(c, x->mem.buf, value, size, true);
	else if (memcmp(x->mem.buf, value, size))
		bad(c, "the value", get_le32(x->mem.buf), mix(c));
}

static void locked_exit(struct cpu *c, const struct vmx_exit *x)
{
	uint8_t value[4];

	same(c, "the size", x->mem.size, 4);
	same(c, "the direction", x->mem.write, c->locked);
	if (!c->locked)
		c->seq++;
	put_le32(value, mix(c) + c->locked);
	if (!c->locked)
		memcpy(x->mem.buf, value, 4);
	else if (memcmp(x->mem.buf, value, 4))
		bad(c, "the value", get_le32(x->mem.buf), mix(c) + 1);
	c->locked = !c->locked;
}

/* A fetch cannot be completed: return for the guest. */
static void fetch_exit(struct cpu *c)
{
	const enum vmx_reg names[] = { VMX_RIP, VMX_RSP };
	uint64_t values[2], rsp;

	c->seq++;
	check_count(c);
	rsp = reg(&c->e, VMX_RSP);
	values[0] = hammer_peek(c->h, rsp);
	values[1] = rsp + 8;
	CHECK_EQ(vmx_vcpu_set_regs(c->e.vcpu, names, 2, values), 0);
}

static void toggle_exit(struct cpu *c, const struct vmx_exit *x)
{
	uint8_t value[4];

	same(c, "the size", x->mem.size, 4);
	put_le32(value, (uint32_t)HAMMER_VALUE_EXIT << 16);
	if (!x->mem.write)
		memcpy(x->mem.buf, value, 4);
	else
		same(c, "the value", get_le32(x->mem.buf), (uint32_t)HAMMER_VALUE_B << 16);
}

static void mem_exit(struct cpu *c, const struct vmx_exit *x)
{
	check_key(c, x->mem.key);
	if (c->h->soft && !x->mem.exec) {
		CHECK(x->mem.gva_valid && x->mem.insn_bytes_len > 0);
		same(c, "the linear address", x->mem.gva, x->mem.gpa);
	}
	if (x->mem.gpa >= HAMMER_TOGGLE &&
	    x->mem.gpa < HAMMER_TOGGLE + HAMMER_TOGGLE_PAGES * VMX_PAGE_SIZE) {
		toggle_exit(c, x);
		return;
	}
	switch (x->mem.gpa) {
	case HAMMER_HOLE + 0x10: mem_number(c, x, 4, true); return;
	case HAMMER_HOLE + 0x20: mem_number(c, x, 4, false); return;
	case HAMMER_HOLE + 0x30: mem_number(c, x, 8, true); return;
	case HAMMER_HOLE + 0x38: mem_number(c, x, 8, false); return;
	case HAMMER_ROM + 0x40: mem_number(c, x, 4, true); return;
	case HAMMER_HOLE + 0x48: locked_exit(c, x); return;
	case HAMMER_HOLE + 0x800:
		same(c, "a fetch", x->mem.exec, true);
		fetch_exit(c);
		return;
	default:
		break;
	}
	same(c, "the address", x->mem.gpa, HAMMER_BELL + c->id * 8);
	same(c, "the direction", x->mem.write, true);
	same(c, "the size", x->mem.size, 4);
	c->bell_exits++;
}

/* --- the others ----------------------------------------------------------------------------- */

static void shutdown_exit(struct cpu *c)
{
	const uint32_t active = VMX_ACTIVE;
	struct vmx_sregs s;

	c->seq++;
	check_count(c);
	CHECK_EQ(vmx_vcpu_read_state(c->e.vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	s.idtr.base = get_le64(c->h->e.ram + HAMMER_BOOT + 18);
	s.idtr.limit = 0xfff;
	CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_ACTIVITY, &active, sizeof(active)), 0);
	set_reg(&c->e, VMX_RIP, HAMMER_CODE + (uint64_t)(hammer_after_shutdown - hammer_guest));
	c->shutdowns++;
}

static void exception_exit(struct cpu *c, struct vmx_exit *x)
{
	c->seq++;
	if (x->exception.vector != 3)
		same(c, "the vector", x->exception.vector, 6);
	same(c, "an error code", x->exception.has_error_code, false);
	check_count(c);
	x->exception.swallow = mix(c) & 1;
	if (x->exception.swallow) /* INT3, UD2 */
		set_reg(&c->e, VMX_RIP, x->rip + (x->exception.vector == 3 ? 1 : 2));
}

static void msr_exit(struct cpu *c, struct vmx_exit *x)
{
	c->seq++;
	same(c, "the MSR", x->msr.index, HAMMER_MSR);
	if (x->msr.write)
		same(c, "the value", x->msr.value, mix64(c));
	else
		x->msr.value = mix64(c);
	x->msr.fault = mix(c) & 1;
}

static void cpuid_exit(struct cpu *c, struct vmx_exit *x)
{
	c->seq++;
	same(c, "the leaf", x->cpuid.leaf, HAMMER_LEAF);
	x->cpuid.eax = x->cpuid.edx = mix(c);
}

static void extint_exit(struct cpu *c)
{
	same(c, "the vCPU of the PIC", c->id, 0);
	CHECK_EQ(vmx_vcpu_set_extint(c->e.vcpu, false), 0);
	CHECK_EQ(vmx_vcpu_interrupt(c->e.vcpu, VMX_INTERRUPT_EXTINT, HAMMER_EXTINT), 0);
	c->extints++;
}

static void one_exit(struct cpu *c, struct vmx_exit *x)
{
	c->exits[x->reason & 15]++;
	switch (x->reason) {
	case VMX_EXIT_IO: io_exit(c, x); return;
	case VMX_EXIT_MEM: mem_exit(c, x); return;
	case VMX_EXIT_SHUTDOWN: shutdown_exit(c); return;
	case VMX_EXIT_EXTINT: extint_exit(c); return;
	case VMX_EXIT_APIC_EOI:
		same(c, "the vector", x->eoi.vector, HAMMER_LEVEL);
		c->eois++;
		return;
	case VMX_EXIT_HALT:
		c->seq++;
		check_count(c);
		return;
	case VMX_EXIT_MSR: msr_exit(c, x); return;
	case VMX_EXIT_CPUID: cpuid_exit(c, x); return;
	case VMX_EXIT_EXCEPTION: exception_exit(c, x); return;
	case VMX_EXIT_RDTSC:
		c->seq++;
		x->rdtsc.tsc = mix64(c);
		return;
	case VMX_EXIT_HYPERCALL:
		c->seq++;
		same(c, "the number", x->hypercall.nr, mix(c));
		x->hypercall.result = ~mix(c);
		return;
	case VMX_EXIT_INTERNAL:
	case VMX_EXIT_ENTRY_FAILED:
		printf("    %s\n", x->internal.text);
		break;
	default:
		break;
	}
	bad(c, "the reason", x->reason, 0);
}

/* The state of a vCPU between two of its exits: read whole, and put back as it was. */
static void look_at_state(struct cpu *c)
{
	static const enum vmx_state_kind kinds[] = { VMX_STATE_REGS, VMX_STATE_SREGS,
						     VMX_STATE_DEBUGREGS, VMX_STATE_XSAVE };
	enum vmx_translate_result t;
	struct vmx_events events;
	uint8_t buf[16384];
	uint64_t gpa, aux;
	size_t size;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		CHECK_EQ(vmx_vcpu_state_size(c->e.vcpu, kinds[i], &size), 0);
		CHECK(size <= sizeof(buf));
		CHECK_EQ(vmx_vcpu_read_state(c->e.vcpu, kinds[i], buf, size), 0);
		CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, kinds[i], buf, size), 0);
	}
	CHECK_EQ(vmx_vcpu_read_state(c->e.vcpu, VMX_STATE_LAPIC, buf, 1024), 0);
	CHECK_EQ(vmx_vcpu_read_state(c->e.vcpu, VMX_STATE_EVENTS, &events, sizeof(events)), 0);
	CHECK_EQ(vmx_vcpu_translate(c->e.vcpu, HAMMER_CODE, VMX_TRANSLATE_READ, &t, &gpa), 0);
	CHECK_EQ(vmx_vcpu_write_msr(c->e.vcpu, 0xc0000103, c->seq), 0);
	CHECK_EQ(vmx_vcpu_read_msr(c->e.vcpu, 0xc0000103, &aux), 0);
	if (!(c->h->flags & PHASE_INIT)) {
		same(c, "the translation", t, VMX_TRANSLATE_OK);
		same(c, "the translated address", gpa, HAMMER_CODE);
	}
	same(c, "TSC_AUX", aux, c->seq);
}

/* Accesses whose answer is in place; the others must be answered before they are completed. */
static bool may_look(const struct cpu *c)
{
	enum vmx_exit_reason r = c->e.exit.reason;

	return r == VMX_EXIT_IO || r == VMX_EXIT_MEM || r == VMX_EXIT_HALT || r == VMX_EXIT_APIC_EOI;
}

static void run_phase(struct cpu *c)
{
	while (!c->h->stop) {
		int r = vmx_vcpu_resume(c->e.vcpu, &c->e.exit);

		if (r == -ECANCELED) {
			c->cancels++;
			if (hammer_random(&c->rng) % 8 == 0)
				look_at_state(c);
			continue;
		}
		if (r < 0)
			bad(c, "the result of resume", (uint64_t)-r, 0);
		one_exit(c, &c->e.exit);
		if (may_look(c) && hammer_random(&c->rng) % 64 == 0)
			look_at_state(c);
	}
}

/* A fresh vCPU, or a reset one, begins where a SIPI would lead it. */
static void begin(struct cpu *c)
{
	const uint32_t active = VMX_ACTIVE;
	struct vmx_regs regs = {
		.rip = HAMMER_CODE, .rflags = 2, .rdi = c->id,
		/* an NMI may come before the first instruction */
		.rsp = HAMMER_STACK + (c->id + 1) * 4096, .rbp = HAMMER_CPU + c->id * 4096,
	};

	c->seq = 0;
	c->string_pos = 0;
	c->locked = false;
	c->cancels = c->kicks = c->extints = c->eois = c->shutdowns = c->bell_exits = 0;
	CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_ACTIVITY, &active, sizeof(active)), 0);
	put_long_mode(c->e.vcpu);
	CHECK_EQ(vmx_vcpu_write_state(c->e.vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), 0);
}

/* The main thread is at these barriers as well: it prepares a phase between the first two of them
 * and looks at its results after the third. */
void *hammer_cpu(void *arg)
{
	struct cpu *c = arg;
	struct hammer *h = c->h;

	c->rng = c->id;
	CHECK_EQ(vmx_vcpu_create(h->e.vm, c->id, &c->e.vcpu), 0);
	for (;;) {
		pthread_barrier_wait(&h->barrier);
		pthread_barrier_wait(&h->barrier);
		if (h->end)
			break;
		if (h->flags & PHASE_AGAIN) {
			CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), 0);
			CHECK_EQ(vmx_vcpu_create(h->e.vm, c->id, &c->e.vcpu), 0);
		}
		begin(c);
		pthread_barrier_wait(&h->barrier); /* all vCPUs are there: now they may be disturbed */
		run_phase(c);
		pthread_barrier_wait(&h->barrier);
	}
	CHECK_EQ(vmx_vcpu_destroy(c->e.vcpu), 0);
	return NULL;
}
