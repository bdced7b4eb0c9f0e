/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_twice.h - short bodies of code that run from many places, in the stepper, which says what is right,
 * and then translated: registers, the fault's frame and what else a test puts into its results must agree.
 */
#ifndef TESTS_UNIT_SOFT_TWICE_H
#define TESTS_UNIT_SOFT_TWICE_H

#include "tests/unit/soft_modes.h"

#define BODIES (CODE + 0x1000) /* BODY_SIZE each, with a HLT behind */
#define BODY_SIZE 0x100u
#define HANDLERS (CODE + 0x400) /* 16 bytes a vector: a HLT */
#define IST (STACK + 0x4000)    /* of all vectors */

struct body {
	const char *name;
	const uint8_t *from, *to;
};

#define BODY(name) { #name, payload_##name, payload_##name##_end }

/* What every result begins with. A result is zeroed before it is filled, and compared as bytes. */
struct ran {
	int reason;
	struct vmx_regs regs;
	uint64_t cr2, frame[6];
};

struct twice {
	const struct body *bodies;
	size_t body_count, place_count;
	unsigned steps;     /* from so many offsets in each place */
	size_t result_size; /* of an array [place][body][step] */
	void (*make)(struct guest *g, uint32_t mode);
	const char *(*enter)(struct guest *g, size_t place); /* gives its name */
	void (*run)(struct guest *g, size_t place, unsigned body, unsigned step, void *result);
	void (*show)(const char *how, const void *result);
};

static inline void put_body(struct guest *g, uint32_t at, const uint8_t *from, const uint8_t *to)
{
	CU_ASSERT_FATAL(to - from < BODY_SIZE);
	memcpy(g->ram + at, from, (size_t)(to - from));
	g->ram[at + (to - from)] = 0xf4;
}

/* A guest with the bodies and handlers in place. */
static inline void twice_guest(struct guest *g, uint32_t mode, const struct body *bodies, size_t count)
{
	if (guest_create(g, mode) < 0)
		CU_FAIL_FATAL("guest_create");
	memcpy(g->ram + TSS + 0x24, &(uint64_t){ IST }, 8);
	for (unsigned v = 0; v < 32; v++) {
		set_gate(g, v, HANDLERS + v * 16, 0);
		*q(g, IDT + v * 16) |= 1ull << 32; /* IST 1 */
		g->ram[HANDLERS + v * 16] = 0xf4;
	}
	for (size_t i = 0; i < count; i++)
		put_body(g, (uint32_t)(BODIES + i * BODY_SIZE), bodies[i].from, bodies[i].to);
}

/* What the guest is like after its exit; the flags that are defined after every instruction. */
static inline void take_ran(struct guest *g, int reason, struct ran *r)
{
	r->reason = reason;
	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_REGS, &r->regs, sizeof(r->regs)), 0);
	r->regs.rflags &= 0xcd5;
	r->cr2 = guest_reg(g, VMX_CR2);
	memcpy(r->frame, g->ram + IST - 48, 48);
}

static inline void show_ran(const char *how, const struct ran *r)
{
	printf("    %s: exit %d rip %#llx rsp %#llx rax %#llx rcx %#llx rdx %#llx rbx %#llx flags %#llx, fault %#llx at %#llx "
	       "rsp %#llx cr2 %#llx", how, r->reason, (unsigned long long)r->regs.rip,
	       (unsigned long long)r->regs.rsp, (unsigned long long)r->regs.rax, (unsigned long long)r->regs.rcx,
	       (unsigned long long)r->regs.rdx, (unsigned long long)r->regs.rbx, (unsigned long long)r->regs.rflags,
	       (unsigned long long)r->frame[0], (unsigned long long)r->frame[1], (unsigned long long)r->frame[4],
	       (unsigned long long)r->cr2);
}

/* Runs a body twice, as what was found the first time is remembered by the code. */
static inline bool twice_same(const struct twice *t, struct guest *g, size_t place, const char *name, unsigned body,
			      unsigned step, const void *want, void *got)
{
	for (unsigned again = 0; again < 2; again++) {
		memset(got, 0, t->result_size);
		t->run(g, place, body, step, got);
		if (memcmp(want, got, t->result_size) == 0)
			continue;
		printf("\n    %s, step %u, body %s:\n", name, step, t->bodies[body].name);
		t->show("stepped", want);
		t->show("now", got);
		return false;
	}
	return true;
}

/* Fills the results or, with room for one more in `got`, compares with them. How many differ, of each body in
 * a place one at most. */
static inline unsigned twice_run(const struct twice *t, uint32_t mode, void *results, void *got)
{
	unsigned wrong = 0;
	uint8_t *r = results;
	struct guest g;

	t->make(&g, mode);
	for (size_t place = 0; place < t->place_count; place++) {
		const char *name = t->enter(&g, place);

		for (unsigned body = 0; body < t->body_count; body++) {
			bool good = true;

			for (unsigned step = 0; step < t->steps; step++, r += t->result_size) {
				if (!got)
					t->run(&g, place, body, step, r);
				else if (good)
					good = twice_same(t, &g, place, name, body, step, r, got);
			}
			wrong += !good;
		}
	}
	guest_destroy(&g);
	return wrong;
}

#endif
