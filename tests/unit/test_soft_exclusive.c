/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_exclusive.c - sections in which no other processor runs (exclusive.c), several at once. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tests/unit/unit.h"
#include "vmx-driver/soft/glue.h"

#define CPUS 3u
#define ROUNDS 300u
#define PATIENCE_NS (10 * 1000000000ull)

struct rig {
	struct soft_vm vm;
	struct soft_vcpu *v[CPUS];
	_Atomic unsigned running, done;
	_Atomic bool go;
	uint64_t until;
};

struct cpu {
	struct rig *r;
	struct soft_vcpu *v;
	pthread_t thread;
};

/* As a guest that runs: parks when it is asked to. */
static void look(struct soft_vcpu *v)
{
	if (atomic_load(&v->exit_req) & SOFT_REQ_EXCLUSIVE) {
		atomic_fetch_and(&v->exit_req, ~(uint32_t)SOFT_REQ_EXCLUSIVE);
		soft_park(v);
	}
	sched_yield();
}

/* Runs, has a section of its own, and runs on until everybody had one. */
static void *section(void *arg)
{
	struct cpu *c = arg;
	struct rig *r = c->r;

	soft_enter_running(c->v);
	atomic_fetch_add(&r->running, 1);
	while (!r->go)
		sched_yield();
	soft_exclusive_begin(&r->vm, c->v);
	atomic_fetch_add(&r->done, 1);
	soft_exclusive_end(&r->vm, c->v);
	while (r->done < CPUS - 1 && clock_monotonic_ns() < r->until)
		look(c->v);
	soft_leave_running(c->v);
	return NULL;
}

/* Runs and does not look for requests until both others wait for it. */
static void *slow(void *arg)
{
	struct cpu *c = arg;
	struct rig *r = c->r;

	soft_enter_running(c->v);
	atomic_fetch_add(&r->running, 1);
	while (atomic_load(&r->vm.excl_pending) < CPUS - 1)
		sched_yield();
	soft_leave_running(c->v);
	return NULL;
}

/* Whoever comes first goes on running afterwards, and the other one must have its turn then. */
static bool round_of_two(struct rig *r)
{
	struct cpu cpus[CPUS];

	r->running = r->done = 0;
	r->go = false;
	r->until = clock_monotonic_ns() + PATIENCE_NS;
	for (unsigned i = 0; i < CPUS; i++) {
		atomic_store(&r->v[i]->exit_req, 0);
		cpus[i] = (struct cpu){ .r = r, .v = r->v[i] };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&cpus[i].thread, NULL, i ? section : slow,
						     &cpus[i]), 0);
	}
	while (r->running < CPUS)
		sched_yield();
	r->go = true;
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(cpus[i].thread, NULL);
	return clock_monotonic_ns() < r->until;
}

static void test_two(void)
{
	struct rig *r = calloc(1, sizeof(*r));

	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	pthread_mutex_init(&r->vm.excl_lock, NULL);
	pthread_cond_init(&r->vm.excl_cond, NULL);
	for (unsigned i = 0; i < CPUS; i++) {
		r->v[i] = aligned_alloc(64, (sizeof(*r->v[i]) + 63) & ~(size_t)63);
		CU_ASSERT_PTR_NOT_NULL_FATAL(r->v[i]);
		memset(r->v[i], 0, sizeof(*r->v[i]));
		r->v[i]->v.vm = &r->vm.vm;
		r->v[i]->parked = true;
		r->vm.vcpus[i] = r->v[i];
	}
	for (unsigned i = 0; i < ROUNDS; i++)
		if (!round_of_two(r)) {
			CU_FAIL("a section never had its turn");
			break;
		}
	for (unsigned i = 0; i < CPUS; i++)
		free(r->v[i]);
	pthread_cond_destroy(&r->vm.excl_cond);
	pthread_mutex_destroy(&r->vm.excl_lock);
	free(r);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "two sections at once", test_two },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("sections in which nobody runs", tests));
}
