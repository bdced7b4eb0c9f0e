/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.h - the processors' threads: each runs its vCPU and serves its exits from the buses.
 *
 * A thread is either parked (waiting) or running the guest. All are parked after creation.
 */
#ifndef MACHINE_VCPU_H
#define MACHINE_VCPU_H

#include <stdbool.h>
#include <stdint.h>

struct machine;
struct vcpus;
struct vmx_vcpu;

struct vcpu_fatal { /* why the guest cannot go on */
	bool triple_fault; /* else the engine's fault, or an instruction fetch from nowhere */
	unsigned cpu;
	uint64_t rip;
	char text[200];
};

struct vcpus_events { /* on a vCPU thread, no lock held; must only note it and return */
	void (*parked)(void *opaque); /* all are, after a vcpus_park() that had to wait */
	void (*first_run)(void *opaque); /* one is about to execute the guest's first instruction */
	void (*fatal)(void *opaque, const struct vcpu_fatal *fatal); /* vcpus_stop() was done */
};

/* Begins to make `count` vCPUs, each on a thread of its own. machine->vm must be set, and guest memory may
 * be filled meanwhile. Errors of pthread_create(). */
int vcpus_create(struct machine *machine, unsigned count, const struct vcpus_events *events,
		 void *opaque, struct vcpus **ret_vcpus);
/* Waits until all are made, before anything else is done with them; machine->boot_vcpu is set then. Errors of
 * vmx_vcpu_create(). */
int vcpus_wait(struct vcpus *vcpus);
/* Ends the threads, destroys the vCPUs. No device callback runs any more (loop held, devices
 * paused). NULL is fine; returns NULL. Not from a vCPU thread. */
struct vcpus *vcpus_destroy(struct vcpus *vcpus);

void vcpus_run(struct vcpus *vcpus);  /* all of them */
/* Lets no vCPU execute another guest instruction once its exit is handled. Any thread. */
void vcpus_stop(struct vcpus *vcpus);
/* vcpus_stop(); true if all are parked already, else events.parked comes. Any thread. */
bool vcpus_park(struct vcpus *vcpus);
/* Runs fn on the owner thread of a vCPU and waits for it. All are parked. Its result. */
int vcpus_call(struct vcpus *vcpus, unsigned cpu, int (*fn)(struct vmx_vcpu *vcpu, void *opaque),
	       void *opaque);
/* After vmx_vm_reset(): what an exit still wanted is void. All are parked. */
void vcpus_forget_exits(struct vcpus *vcpus);
/* Host time (monotonic ns) just before the very first guest instruction, 0 before it. */
uint64_t vcpus_first_run_ns(const struct vcpus *vcpus);

#endif
