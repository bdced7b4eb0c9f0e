/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exclusive.c - sections in which no other vCPU is inside an instruction; vCPUs that sleep.
 *
 * excl_running counts the vCPU threads that execute guest code; a section begins when it is 0 and
 * holds excl_lock to its end. While one waits (excl_pending) no vCPU starts or goes on.
 */
#include "vmx-driver/soft/glue.h"

#include <sched.h>

#include "vmx-driver/soft/lapic.h"

/* HLT spins at most so long before it sleeps. */
#define POLL_MAX_NS 50000u

static uintptr_t this_thread(void)
{
	return (uintptr_t)pthread_self();
}

/* A vCPU counts itself and then looks for sections; who wants one says so and then looks at the
 * count: one of the two sees the other. */
static void stop_running(struct soft_vm *vm, struct soft_vcpu *v)
{
	v->parked = v->parked_since = true;
	if (atomic_fetch_sub(&vm->excl_running, 1) == 1 && atomic_load(&vm->excl_pending)) {
		pthread_mutex_lock(&vm->excl_lock);
		pthread_cond_broadcast(&vm->excl_cond);
		pthread_mutex_unlock(&vm->excl_lock);
	}
}

void soft_enter_running(struct soft_vcpu *v)
{
	struct soft_vm *vm = soft_vm_of(v);

	for (;;) {
		v->parked = false;
		atomic_fetch_add(&vm->excl_running, 1);
		if (!atomic_load(&vm->excl_pending))
			return;
		stop_running(vm, v);
		pthread_mutex_lock(&vm->excl_lock);
		while (atomic_load(&vm->excl_pending))
			pthread_cond_wait(&vm->excl_cond, &vm->excl_lock);
		pthread_mutex_unlock(&vm->excl_lock);
	}
}

void soft_leave_running(struct soft_vcpu *v)
{
	stop_running(soft_vm_of(v), v);
}

void soft_park(struct soft_vcpu *v)
{
	struct soft_vm *vm = soft_vm_of(v);

	soft_fp_save(v);
	if (atomic_load(&vm->excl_pending)) {
		stop_running(vm, v);
		soft_enter_running(v);
	}
}

void soft_exclusive_begin(struct soft_vm *vm, struct soft_vcpu *v)
{
	uint64_t began;

	if (vm->excl_owner == this_thread()) {
		vm->excl_depth++;
		return;
	}
	if (v)
		soft_fp_save(v);
	pthread_mutex_lock(&vm->excl_lock);
	began = __builtin_ia32_rdtsc();
	atomic_fetch_add(&vm->excl_pending, 1);
	if (v && !v->parked) {
		v->parked = v->parked_since = true;
		if (atomic_fetch_sub(&vm->excl_running, 1) == 1)
			pthread_cond_broadcast(&vm->excl_cond); /* another section waits for it */
	} else {
		v = NULL;
	}
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++)
		/* Who is parked looks at excl_pending before it runs: it need not be woken now. */
		if (vm->vcpus[i] && vm->vcpus[i] != v && !atomic_load(&vm->vcpus[i]->parked))
			soft_request(vm->vcpus[i], SOFT_REQ_EXCLUSIVE);
	while (atomic_load(&vm->excl_running))
		pthread_cond_wait(&vm->excl_cond, &vm->excl_lock);
	vm->excl_owner = this_thread();
	vm->excl_depth = 1;
	vm->excl_vcpu = v;
	vm->pause_began = began;
	vm->section_began = __builtin_ia32_rdtsc();
}

void soft_exclusive_end(struct soft_vm *vm, struct soft_vcpu *v)
{
	(void)v;
	if (--vm->excl_depth)
		return;
	vm->excl_owner = 0;
	soft_count(&vm->n_pauses);
	soft_longest(&vm->longest_pause, vm->pause_began);
	soft_longest(&vm->longest_section, vm->section_began);
	if (vm->excl_vcpu) {
		vm->excl_vcpu->parked = false;
		atomic_fetch_add(&vm->excl_running, 1);
		/* Who came to wait meanwhile saw it parked and asked nothing of it. */
		if (atomic_load(&vm->excl_pending) > 1)
			soft_request(vm->excl_vcpu, SOFT_REQ_EXCLUSIVE);
		vm->excl_vcpu = NULL;
	}
	atomic_fetch_sub(&vm->excl_pending, 1);
	pthread_cond_broadcast(&vm->excl_cond);
	pthread_mutex_unlock(&vm->excl_lock);
}

static bool poll_requests(struct soft_vcpu *v, uint64_t ticks, uint64_t expires)
{
	uint64_t start = __builtin_ia32_rdtsc(), now = start;

	while (now - start < ticks) {
		if (atomic_load_explicit(&v->exit_req, memory_order_relaxed) || now >= expires)
			return true;
		__builtin_ia32_pause();
		now = __builtin_ia32_rdtsc();
	}
	return false;
}

void soft_yield(struct soft_vcpu *v)
{
	soft_count(&v->n_yields);
	soft_fp_save(v);
	soft_leave_running(v);
	sched_yield();
	soft_enter_running(v);
}

void soft_wait(struct soft_vcpu *v)
{
	uint64_t hz = soft_vm_of(v)->tsc_hz, expires = soft_next_expiry(v), start, slept;

	soft_count(&v->n_halts);
	soft_fp_save(v);
	soft_leave_running(v);
	start = __builtin_ia32_rdtsc();
	if (!poll_requests(v, v->poll_ns * (hz / 1000000) / 1000, expires)) {
		soft_count(&v->n_sleeps);
		soft_sleep(v);
		/* Spin longer where spinning would have done; stop where it was in vain. */
		slept = __builtin_ia32_rdtsc() - start;
		if (slept < (uint64_t)POLL_MAX_NS * (hz / 1000000) / 1000)
			v->poll_ns = v->poll_ns ? POLL_MAX_NS : POLL_MAX_NS / 4;
		else
			v->poll_ns /= 2;
	}
	soft_enter_running(v);
}
