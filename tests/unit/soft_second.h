/* SPDX-License-Identifier: Apache-2.0 */
/* soft_second.h - a second processor for the guest of soft_guest.h, on a thread of its own. */
#ifndef TESTS_UNIT_SOFT_SECOND_H
#define TESTS_UNIT_SOFT_SECOND_H

#include <pthread.h>
#include <sched.h>

#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

struct second {
	struct guest g;
	struct vmx_vcpu *_Atomic cpu;
	uint64_t rip;
	int result;
	pthread_t thread;
};

static void *second_main(void *arg)
{
	struct second *s = arg;
	const enum vmx_reg rip = VMX_RIP;
	const uint32_t active = VMX_ACTIVE;
	int r = vmx_vcpu_create(s->g.vm, 1, &s->g.cpu);

	if (r >= 0)
		r = guest_long_mode(&s->g);
	if (r >= 0)
		r = vmx_vcpu_set_regs(s->g.cpu, &rip, 1, &s->rip);
	if (r >= 0)
		r = vmx_vcpu_write_state(s->g.cpu, VMX_STATE_ACTIVITY, &active, sizeof(active));
	s->cpu = s->g.cpu;
	s->result = r >= 0 ? guest_resume(&s->g) : r;
	vmx_vcpu_destroy(s->g.cpu);
	return NULL;
}

/* The second processor begins at rip. */
static inline void second_start(struct second *s, struct guest *g, uint64_t rip)
{
	*s = (struct second){ .g = { .vm = g->vm, .ram = g->ram }, .rip = rip };
	CU_ASSERT_EQUAL_FATAL(pthread_create(&s->thread, NULL, second_main, s), 0);
	while (!s->cpu)
		sched_yield();
}

#endif
