/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - what an engine gives to the engine-independent half (vm.c, vcpu.c).
 *
 * That half checks arguments, handles (magic words), thread and running rules, keeps traps and memory
 * slots, and calls the engine through one table. Engines embed struct vmx_vm / struct vmx_vcpu as
 * their first member. An operation that an engine leaves NULL is -ENOTSUP.
 */
#ifndef VMX_ENGINE_H
#define VMX_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "vmx-driver/vmx.h"

struct vmx_slot { /* one mapping, page granular, no two overlap; sorted by gpa */
	uint64_t gpa, size;
	uint8_t *host;
	uint32_t flags;
	uint64_t *dirty; /* bitmap by page, or NULL; bits set with atomic or */
};

struct vmx_trap {
	enum vmx_trap_kind kind;
	uint64_t addr, size, key;
	int eventfd;
};

struct vmx_slots { /* immutable once published: replaced whole (see vmx_vm.slots) */
	size_t count;
	struct vmx_slot slot[];
};

struct vmx_engine_ops {
	enum vmx_engine engine;
	size_t vm_size, vcpu_size; /* of the engine's structs */
	int (*vm_init)(struct vmx_vm *vm);
	void (*vm_fini)(struct vmx_vm *vm);
	int (*vm_reset)(struct vmx_vm *vm);
	/* The set of mappings changed from `old` to `now` (vm->slots is `now` already); on return
	 * no vCPU uses `old` or its dirty bitmaps, and every dirty bit known to the engine for
	 * `old` is in old's bitmaps (slots.c then carries them over to `now`). On an error it puts
	 * `old` back and calls it again with the two exchanged. Called with vm->lock held. */
	int (*slots_changed)(struct vmx_vm *vm, const struct vmx_slots *old,
			     const struct vmx_slots *now);
	/* Collect dirty bits of a slot into slot->dirty before it is read; NULL: nothing to do.
	 * vm->lock held. */
	int (*dirty_sync)(struct vmx_vm *vm, const struct vmx_slot *slot);
	/* Dirty bits of pages were cleared: catch the next write again; on return no vCPU writes
	 * there unnoticed. NULL: nothing to do. vm->lock held. */
	int (*dirty_cleared)(struct vmx_vm *vm, const struct vmx_slot *slot, uint64_t gpa,
			     uint64_t size);
	/* Dirty bits are set by slots.c already. vm->lock held. */
	int (*written)(struct vmx_vm *vm, uint64_t gpa, uint64_t size);
	/* NULL: the list of traps.c (vmx_trap_find) is all the engine needs. Called before the trap is in
	 * the list, or after it left it. vm->lock held. */
	int (*trap_changed)(struct vmx_vm *vm, const struct vmx_trap *trap, bool added);
	int (*msi)(struct vmx_vm *vm, uint64_t address, uint32_t data);
	int (*ioapic_route)(struct vmx_vm *vm, unsigned pin, uint64_t address, uint32_t data,
			    bool enabled);
	int (*suspend_time)(struct vmx_vm *vm, bool suspend);
	uint64_t (*tsc_hz)(const struct vmx_vm *vm);
	int (*exit_options)(struct vmx_vm *vm, const struct vmx_exit_options *options,
			    uint32_t *ret_unsupported);
	size_t (*stats)(struct vmx_vm *vm, struct vmx_stat *stats, size_t n);
	size_t (*memory)(struct vmx_vm *vm, struct vmx_memory *ret, size_t n); /* NULL: none */

	int (*vcpu_init)(struct vmx_vcpu *vcpu);
	void (*vcpu_fini)(struct vmx_vcpu *vcpu);
	/* May leave exit->io.key and exit->mem.key alone: vcpu.c fills them from the traps. It sets
	 * every other field that it knows; *exit is not cleared before. */
	int (*resume)(struct vmx_vcpu *vcpu, struct vmx_exit *exit);
	/* vcpu->kicked is already set; make a running resume notice. Any thread. */
	void (*kick)(struct vmx_vcpu *vcpu);
	int (*interrupt)(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector);
	int (*set_extint)(struct vmx_vcpu *vcpu, bool level);
	int (*state_size)(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size);
	int (*read_state)(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size);
	int (*write_state)(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf,
			   size_t size);
	int (*read_msr)(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
	int (*write_msr)(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value);
	/* NULL: vcpu.c walks the guest's tables itself (vmx_walk). */
	int (*translate)(struct vmx_vcpu *vcpu, uint64_t gva, uint32_t flags,
			 enum vmx_translate_result *ret_result, uint64_t *ret_gpa);
};

#define VMX_VM_MAGIC 0x564d5856u
#define VMX_VCPU_MAGIC 0x56435055u

struct vmx_vm {
	uint32_t magic;
	const struct vmx_engine_ops *ops;
	struct vmx_vm_options options;
	pthread_mutex_t lock; /* slots, vcpu table, setup calls against the start of a resume;
			       * engines take their own locks inside it */
	pthread_rwlock_t trap_lock; /* traps[]; taken inside lock; nothing is taken inside it */
	_Atomic(struct vmx_slots *) slots; /* vCPU threads read it; slots_changed() fences them off */
	struct vmx_trap *traps;
	_Atomic size_t trap_count; /* 0 is seen without the lock */
	_Atomic(struct vmx_vcpu *) vcpus[VMX_VCPUS_MAX]; /* written under lock */
	unsigned phys_bits;               /* of a guest-physical address; 0 for 52 */
	_Atomic unsigned running;         /* vCPUs inside resume */
	_Atomic bool setup;               /* under lock: a "setup" call looks at running, or works */
	struct vmx_exit_options exit_options;
	_Atomic bool time_suspended;      /* under lock */
};

struct vmx_vcpu {
	uint32_t magic;
	unsigned id;
	void *allocated;     /* what free() takes */
	struct vmx_vm *vm;
	pthread_t owner;
	pid_t owner_tid;
	pthread_mutex_t owner_alive; /* robust, held by the owner: EOWNERDEAD once it has ended */
	_Atomic bool running;
	_Atomic bool kicked; /* sticky: consumed by one -ECANCELED */
	bool unchecked;      /* state was written since vmx_entry_possible() said yes; owner */
	_Atomic unsigned visitors; /* threads inside kick, interrupt or set_extint */
};

/* Is this the handle of a living VM? */
static inline bool vmx_vm_ok(const struct vmx_vm *vm)
{
	return vm && vm->magic == VMX_VM_MAGIC;
}

/* Consumes a pending kick. Owner thread. */
static inline bool vmx_kick_take(struct vmx_vcpu *vcpu)
{
	return atomic_load_explicit(&vcpu->kicked, memory_order_relaxed) &&
	       atomic_exchange(&vcpu->kicked, false);
}
#define VMX_APIC_DEFAULT_BASE 0xfee00000u
#define VMX_IOAPIC_PINS 24u
#define VMX_GPA_LIMIT (1ull << 52) /* first address that no processor can reach */

/* Finds the slot that holds gpa, or NULL. Safe on a vCPU thread that runs, or under vm->lock. */
static inline const struct vmx_slot *vmx_slot_find(const struct vmx_slots *slots, uint64_t gpa)
{
	size_t lo = 0, hi = slots->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct vmx_slot *s = &slots->slot[mid];

		if (gpa < s->gpa)
			hi = mid;
		else if (gpa - s->gpa < s->size)
			return s;
		else
			lo = mid + 1;
	}
	return NULL;
}
/* Looks up the trap that an access of `size` bytes at addr hits: MEM and IO by its first byte, BELL
 * by exact address and size. Copies it to *ret (may be NULL); false if there is none. Any thread. */
bool vmx_trap_find(struct vmx_vm *vm, enum vmx_trap_kind kind, uint64_t addr, uint64_t size,
		   struct vmx_trap *ret);
/* A guest write hit a BELL trap: signals its eventfd. True if there was one. Any thread. */
bool vmx_trap_ring(struct vmx_vm *vm, uint64_t gpa, uint64_t size);
/* Can a processor be in that state? Looked at before every write (W7). */
bool vmx_state_possible(enum vmx_state_kind kind, const void *buf);
/* Do the registers fit each other, so that a processor can go on from there? NULL: yes; else what is
 * wrong, in words. */
const char *vmx_entry_possible(const struct vmx_regs *regs, const struct vmx_sregs *sregs);
/* Walks the guest's page tables: W9's verdict, and *ret_gpa where there is one. vm->lock held. */
enum vmx_translate_result vmx_walk(const struct vmx_slots *slots, const struct vmx_sregs *sregs,
				   uint64_t rflags, unsigned phys_bits, uint64_t gva,
				   uint32_t flags, uint64_t *ret_gpa);
/* Stops the guest's time or lets it go on; nothing if it is so already. -ENOTSUP: the engine cannot;
 * or the engine's errno. vm->lock held. */
int vmx_set_time(struct vmx_vm *vm, bool suspend);
/* Logs one line through options.log. Any thread. */
void vmx_log(const struct vmx_vm *vm, int level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

extern const struct vmx_engine_ops vmx_soft_ops, vmx_kvm_ops;

#endif
