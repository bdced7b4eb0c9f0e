/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - threads of the machine: named, confined, and deaf to the signals that the process
 * handles. */
#ifndef MACHINE_THREAD_H
#define MACHINE_THREAD_H

#include <pthread.h>

struct log;

/* Every kind of thread that a VM's process may have. What each may ask of the kernel is in
 * daemon/sandbox_rules.c; a new kind is one line here and its bit in the rows there. */
enum thread_kind {
	THREAD_CONTROL,   /* the process's main thread: orders, console readers, hot plug */
	THREAD_LOOP,      /* loop.h */
	THREAD_VCPU_SOFT,
	THREAD_VCPU_KVM,
	THREAD_BLOCK,     /* backend/workers.h */
	THREAD_SHARE,     /* the same, serving shared directories: backend/p9.h */
	THREAD_MEMORY,    /* huge.h */
	THREAD_KINDS
};

/* Told by each thread about itself, before it touches anything that a guest wrote: it gives up what
 * its kind does not need, and does not return if it cannot. One per machine; NULL: nothing to do
 * (tests). */
struct thread_hook {
	void (*begin)(void *opaque, enum thread_kind kind);
	void *opaque;
};

/* Starts fn(opaque) on a new thread. name: at most 15 characters. Signals an engine may use to kick a
 * vCPU stay as they are. The hook outlives the thread. Negative errno of pthread_create(). */
int machine_thread_create(pthread_t *ret_thread, const struct thread_hook *hook,
			  enum thread_kind kind, const char *name, void *(*fn)(void *),
			  void *opaque);
/* For a thread that was created without a hook, because it has more to set up first. */
void machine_thread_begin(const struct thread_hook *hook, enum thread_kind kind);

/* SCHED_FIFO never takes a host processor from a vCPU whose guest spins until another thread has done
 * something. Where there are as many vCPUs as host processors or more, the calling thread, and so what it
 * creates later, changes to SCHED_RR with the same priority or, if it may not, to SCHED_OTHER. Returns the
 * new policy; -1: it stays as it was. Before the sandbox. */
int machine_thread_take_turns(struct log *log, unsigned vcpus);

#endif
