/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/vcpu.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "machine/bus.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/thread.h"
#include "vmx-driver/vmx.h"

/* Where a processor starts after INIT, and firmware would begin: it would reset the machine. */
#define RESET_VECTOR_PAGE 0xfffff000u

struct vcpu {
	struct vcpus *all;
	unsigned id;
	pthread_t thread;
	bool started;        /* thread exists */
	bool ready;          /* it reported the result of vmx_vcpu_create() */
	int result;          /* of that, then of call_fn */
	struct vmx_vcpu *vmx;
	struct vmx_exit exit;
	int (*call_fn)(struct vmx_vcpu *vcpu, void *opaque); /* pending for this thread */
	void *call_opaque;
};

struct vcpus {
	struct machine *machine;
	const struct vcpus_events *events;
	void *opaque;
	_Atomic uint64_t first_run_ns;
	_Atomic bool run; /* written under the lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned count, parked;
	bool quit, notify; /* notify: somebody waits for events.parked */
	struct vcpu vcpu[];
};

/* --- exits ------------------------------------------------------------------------------------ */

static void handle_io(struct machine *machine, struct vmx_exit *exit)
{
	uint8_t *p = exit->io.buf;
	unsigned size = exit->io.size;

	for (uint32_t i = 0; i < exit->io.count; i++, p += size) {
		uint64_t val = 0;

		if (exit->io.input) {
			bus_read(machine->ports, exit->io.port, size, &val);
			memcpy(p, &val, size);
		} else {
			memcpy(&val, p, size);
			bus_write(machine->ports, exit->io.port, size, val);
		}
	}
}

static void handle_mem(struct machine *machine, struct vmx_exit *exit)
{
	uint64_t val = 0;

	if (exit->mem.write) {
		memcpy(&val, exit->mem.buf, exit->mem.size);
		bus_write(machine->mmio, exit->mem.gpa, exit->mem.size, val);
	} else {
		bus_read(machine->mmio, exit->mem.gpa, exit->mem.size, &val);
		memcpy(exit->mem.buf, &val, exit->mem.size);
	}
}

static void fatal(struct vcpu *vcpu, bool triple_fault, const char *what)
{
	struct vcpu_fatal f = { .triple_fault = triple_fault,
				.cpu = vcpu->id,
				.rip = vcpu->exit.rip };

	snprintf(f.text, sizeof(f.text), "%s, at RIP 0x%" PRIx64 " on CPU %u", what, f.rip, f.cpu);
	vcpus_stop(vcpu->all);
	vcpu->all->events->fatal(vcpu->all->opaque, &f);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct machine *machine = vcpu->all->machine;
	struct vmx_exit *exit = &vcpu->exit;
	const uint32_t halted = VMX_HALTED;
	char text[160];
	int vector;

	switch (exit->reason) {
	case VMX_EXIT_IO:
		handle_io(machine, exit);
		return;
	case VMX_EXIT_MEM:
		if (!exit->mem.exec) {
			handle_mem(machine, exit);
			return;
		}
		if (exit->mem.gpa >= RESET_VECTOR_PAGE && exit->mem.gpa <= UINT32_MAX) {
			machine_request(machine, MACHINE_REQUEST_RESET, 0);
			return;
		}
		snprintf(text, sizeof(text), "the guest executes at 0x%" PRIx64
			 ", where there is no memory", exit->mem.gpa);
		fatal(vcpu, false, text);
		return;
	case VMX_EXIT_EXTINT:
		vector = irq_ack(machine->irqs);
		if (vector >= 0)
			(void)vmx_vcpu_interrupt(vcpu->vmx, VMX_INTERRUPT_EXTINT, (unsigned)vector);
		return;
	case VMX_EXIT_APIC_EOI:
		irq_eoi(machine->irqs, exit->eoi.vector);
		return;
	case VMX_EXIT_HALT:
		machine_idle_devices(machine);
		(void)vmx_vcpu_write_state(vcpu->vmx, VMX_STATE_ACTIVITY, &halted, sizeof(halted));
		return;
	case VMX_EXIT_SHUTDOWN:
		fatal(vcpu, true, "triple fault");
		return;
	case VMX_EXIT_ENTRY_FAILED:
	case VMX_EXIT_INTERNAL:
		snprintf(text, sizeof(text), "the %s engine cannot go on: %.*s (%" PRIu64 ")",
			 vmx_engine_name(vmx_vm_engine(machine->vm)),
			 (int)sizeof(exit->internal.text) - 1, exit->internal.text,
			 exit->internal.reason);
		fatal(vcpu, false, text);
		return;
	case VMX_EXIT_NONE:
		return;
	default: /* none of the optional ones was asked for */
		snprintf(text, sizeof(text), "unexpected exit %s",
			 vmx_exit_reason_name(exit->reason));
		fatal(vcpu, false, text);
		return;
	}
}

static void run_guest(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	uint64_t none = 0;
	char text[160];
	int r;

	if (!atomic_load_explicit(&all->first_run_ns, memory_order_relaxed) &&
	    atomic_compare_exchange_strong(&all->first_run_ns, &none, clock_monotonic_ns()))
		all->events->first_run(all->opaque);
	while (atomic_load_explicit(&all->run, memory_order_acquire)) {
		r = vmx_vcpu_resume(vcpu->vmx, &vcpu->exit);
		if (r == -ECANCELED)
			continue;
		if (r < 0) {
			snprintf(text, sizeof(text), "resume failed: %s", strerror(-r));
			fatal(vcpu, false, text);
			return;
		}
		handle_exit(vcpu);
	}
}

/* --- threads ---------------------------------------------------------------------------------- */

/* Waits until there is something to run. False: the thread shall end. */
static bool park(struct vcpu *vcpu)
{
	struct vcpus *all = vcpu->all;
	bool quit;

	pthread_mutex_lock(&all->lock);
	all->parked++;
	while (!all->quit && !atomic_load(&all->run)) {
		if (vcpu->call_fn) {
			int (*fn)(struct vmx_vcpu *, void *) = vcpu->call_fn;
			int r;

			pthread_mutex_unlock(&all->lock);
			r = fn(vcpu->vmx, vcpu->call_opaque);
			pthread_mutex_lock(&all->lock);
			vcpu->result = r;
			vcpu->call_fn = NULL;
			pthread_cond_broadcast(&all->changed);
		} else if (all->notify && all->parked == all->count) {
			all->notify = false;
			pthread_mutex_unlock(&all->lock);
			all->events->parked(all->opaque);
			pthread_mutex_lock(&all->lock);
		} else {
			pthread_cond_wait(&all->changed, &all->lock);
		}
	}
	all->parked--;
	quit = all->quit;
	pthread_mutex_unlock(&all->lock);
	return !quit;
}

static void *vcpu_main(void *opaque)
{
	struct vcpu *vcpu = opaque;
	struct vcpus *all = vcpu->all;
	struct vmx_vcpu *vmx = NULL;
	bool kvm = vmx_vm_engine(all->machine->vm) == VMX_ENGINE_KVM;
	int r = vmx_vcpu_create(all->machine->vm, vcpu->id, &vmx);

	machine_thread_begin(all->machine->threads, kvm ? THREAD_VCPU_KVM : THREAD_VCPU_SOFT);
	pthread_mutex_lock(&all->lock);
	vcpu->vmx = vmx;
	vcpu->result = r;
	vcpu->ready = true;
	pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->lock);
	if (r < 0)
		return NULL;
	while (park(vcpu))
		run_guest(vcpu);
	return NULL;
}

static int start(struct vcpu *vcpu)
{
	char name[16];
	int r;

	snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	/* No hook: making a vCPU takes more than running it. vcpu_main() begins. */
	r = machine_thread_create(&vcpu->thread, NULL, THREAD_KINDS, name, vcpu_main, vcpu);
	if (r < 0)
		return r;
	vcpu->started = true;
	return 0;
}

int vcpus_wait(struct vcpus *all)
{
	int r = 0;

	pthread_mutex_lock(&all->lock);
	for (unsigned i = 0; i < all->count; i++) {
		while (all->vcpu[i].started && !all->vcpu[i].ready)
			pthread_cond_wait(&all->changed, &all->lock);
		if (r == 0)
			r = all->vcpu[i].result;
	}
	pthread_mutex_unlock(&all->lock);
	all->machine->boot_vcpu = all->vcpu[0].vmx;
	return r;
}

/* Where an exit costs little, and nobody else can do what a device tells its driver before the processor
 * waits. */
static bool tell_idle(struct vmx_vm *vm, unsigned count)
{
	const struct vmx_exit_options options = { .optional = VMX_OPT_HALT };

	return count == 1 && vmx_vm_engine(vm) == VMX_ENGINE_SOFT &&
	       vmx_vm_set_exit_options(vm, &options, NULL) == 0;
}

int vcpus_create(struct machine *machine, unsigned count, const struct vcpus_events *events,
		 void *opaque, struct vcpus **ret_vcpus)
{
	struct vcpus *all;
	int r;

	assert(machine->vm && events->parked && events->fatal);
	if (!count || count > VMX_VCPUS_MAX)
		return -EINVAL;
	all = calloc(1, sizeof(*all) + count * sizeof(all->vcpu[0]));
	if (!all)
		return -ENOMEM;
	all->machine = machine;
	all->events = events;
	all->opaque = opaque;
	all->count = count;
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->changed, NULL);
	machine->tells_idle = tell_idle(machine->vm, count);
	for (unsigned i = 0; i < count; i++) {
		all->vcpu[i].all = all;
		all->vcpu[i].id = i;
		r = start(&all->vcpu[i]);
		if (r < 0) {
			vcpus_destroy(all);
			return r;
		}
	}
	*ret_vcpus = all;
	return 0;
}

struct vcpus *vcpus_destroy(struct vcpus *all)
{
	if (!all)
		return NULL;
	(void)vcpus_wait(all);
	pthread_mutex_lock(&all->lock);
	all->quit = true;
	pthread_mutex_unlock(&all->lock);
	vcpus_stop(all);
	for (unsigned i = 0; i < all->count; i++)
		if (all->vcpu[i].started)
			pthread_join(all->vcpu[i].thread, NULL);
	all->machine->boot_vcpu = NULL;
	for (unsigned i = 0; i < all->count; i++)
		(void)vmx_vcpu_destroy(all->vcpu[i].vmx);
	pthread_cond_destroy(&all->changed);
	pthread_mutex_destroy(&all->lock);
	free(all);
	return NULL;
}

void vcpus_run(struct vcpus *all)
{
	pthread_mutex_lock(&all->lock);
	all->notify = false;
	atomic_store(&all->run, true);
	pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->lock);
}

void vcpus_stop(struct vcpus *all)
{
	pthread_mutex_lock(&all->lock);
	atomic_store(&all->run, false);
	pthread_cond_broadcast(&all->changed);
	pthread_mutex_unlock(&all->lock);
	for (unsigned i = 0; i < all->count; i++)
		if (all->vcpu[i].vmx)
			(void)vmx_vcpu_kick(all->vcpu[i].vmx);
}

bool vcpus_park(struct vcpus *all)
{
	bool parked;

	vcpus_stop(all);
	pthread_mutex_lock(&all->lock);
	parked = all->parked == all->count;
	all->notify = !parked;
	pthread_mutex_unlock(&all->lock);
	return parked;
}

int vcpus_call(struct vcpus *all, unsigned cpu, int (*fn)(struct vmx_vcpu *vcpu, void *opaque),
	       void *opaque)
{
	struct vcpu *vcpu = &all->vcpu[cpu];
	int r;

	assert(cpu < all->count);
	pthread_mutex_lock(&all->lock);
	assert(!atomic_load(&all->run) && !vcpu->call_fn);
	vcpu->call_opaque = opaque;
	vcpu->call_fn = fn;
	pthread_cond_broadcast(&all->changed);
	while (vcpu->call_fn)
		pthread_cond_wait(&all->changed, &all->lock);
	r = vcpu->result;
	pthread_mutex_unlock(&all->lock);
	return r;
}

void vcpus_forget_exits(struct vcpus *all)
{
	for (unsigned i = 0; i < all->count; i++)
		memset(&all->vcpu[i].exit, 0, sizeof(all->vcpu[i].exit));
}

uint64_t vcpus_first_run_ns(const struct vcpus *all)
{
	return atomic_load(&all->first_run_ns);
}
