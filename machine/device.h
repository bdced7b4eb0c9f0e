/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h - what a device is, and the machine as a device sees it.
 *
 * A device is one file that exports one `const struct device_class`. Its own struct begins with
 * struct device. It registers ports, memory, interrupts, watches and timers in create() and undoes
 * all of it in destroy().
 *
 * Threads: create and destroy run while no vCPU runs (none exists yet or any more, or for hot plug
 * they are parked and the loop thread waits: lifecycle.h, life_freeze()); reset, pause, resume, save and load on the
 * loop thread while no vCPU runs and no watch or timer callback runs. Bus handlers come on vCPU
 * threads, watches and timers on the loop thread: a device keeps one mutex of its own and takes it
 * in each of them. Order of locks: device, then PCI device (pci_msix_notify, pci_intx), then PIC or
 * IOAPIC. A device never calls into another device otherwise.
 */
#ifndef MACHINE_DEVICE_H
#define MACHINE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bus;
struct device;
struct irqs;
struct log;
struct loop;
struct machine;
struct memory;
struct pci;
struct state_in;
struct state_out;
struct thread_hook;
struct timers;
struct vmx_vcpu;
struct vmx_vm;

struct device_class {
	const char *name; /* of the class, for messages and saved state: "virtio-blk" */
	/* config is the class's own struct (its header says which), not kept. On an error nothing
	 * is left behind. Descriptors in config belong to the device after success only. */
	int (*create)(struct machine *machine, const void *config, struct device **ret_device);
	void (*destroy)(struct device *device);
	void (*reset)(struct device *device);  /* as after create; host side stays connected */
	void (*pause)(struct device *device);  /* NULL: nothing to do. No I/O is left */
	void (*resume)(struct device *device); /* NULL: nothing to do */
	/* The only processor is about to wait for an interrupt, which may be given now: its thread,
	 * where machine->tells_idle. NULL: nothing to do. */
	void (*idle)(struct device *device);
	/* Lets go of all that it has of the host's; from now on the guest gets errors from it, and
	 * answers to everything. While paused, once. NULL: it cannot be taken away from the guest. */
	void (*lose)(struct device *device);
	int (*save)(struct device *device, struct state_out *out); /* NULL: cannot be saved */
	int (*load)(struct device *device, struct state_in *in);
};

struct device {
	const struct device_class *class; /* set by create() */
	struct machine *machine;
	struct device *next; /* machine's list */
};

/* What a guest may ask for through a device. */
enum machine_request {
	MACHINE_REQUEST_NONE,
	MACHINE_REQUEST_POWEROFF,   /* ACPI S5 */
	MACHINE_REQUEST_RESET,      /* keyboard controller, port 0xcf9, port 0x92 */
	MACHINE_REQUEST_DEBUG_EXIT, /* code = (value << 1) | 1 */
};

struct machine_described { /* see machine_describe() */
	const char *hid;
	uint64_t base, size; /* below 4 GiB */
	unsigned line;
};
#define MACHINE_DESCRIBED_MAX 64

/* Read-only for devices. Members are never NULL but vm (no processors in device tests),
 * log and threads. */
struct machine {
	struct memory *memory;
	struct bus *ports;
	struct bus *mmio;
	struct irqs *irqs;
	struct timers *timers;
	struct loop *loop;
	struct pci *pci;
	struct vmx_vm *vm;
	struct vmx_vcpu *boot_vcpu; /* NULL until it exists; vcpu.c's, for the INTR wire */
	struct log *log; /* log_line() takes NULL */
	const struct thread_hook *threads; /* for machine_thread_create(); NULL in tests */
	bool tells_idle; /* device_class.idle is called; set by vcpus_create() */
	struct machine_described described[MACHINE_DESCRIBED_MAX]; /* by machine_describe() */
	unsigned described_count;
	struct device *devices; /* in order of creation, by device_create() */
	/* Notes what the guest asked for; the first one since the last reset wins. Set by the life
	 * cycle or by a test; use machine_request(). */
	void (*request)(void *opaque, enum machine_request what, int code);
	/* A device lacks something of the host's; see machine_stall(). As request. */
	void (*stall)(void *opaque, const char *reason, const char *why);
	void *request_opaque;
};

/* A device that firmware must tell the guest of, as PCI does not (ACPI: a device with this hardware
 * id, its registers and its level-triggered, shareable interrupt). hid: a literal of at most 8
 * characters. -ENOSPC. While the machine is being made; acpi_load() comes after it. */
int machine_describe(struct machine *machine, const struct machine_described *what);

struct machine_options {
	uint64_t memory_bytes;
	struct vmx_vm *vm; /* not owned; NULL: a machine without processors */
	struct log *log;   /* not owned */
	const struct thread_hook *threads; /* not owned, may be NULL */
	bool manual;       /* manual clock, and no event thread: turn it with loop_turn() */
};

/* Memory, buses, interrupt wires, timers, loop (not started) and PCI with its host bridge; no
 * other chip. The caller owns *ret_machine. */
int machine_create(const struct machine_options *options, struct machine **ret_machine);
/* Destroys devices, last made first, then the rest. The event thread was stopped. NULL is fine;
 * returns NULL. */
struct machine *machine_destroy(struct machine *machine);

/* Makes a device and puts it into the machine's list. ret_device may be NULL. */
int device_create(struct machine *machine, const struct device_class *class, const void *config,
		  struct device **ret_device);
/* Destroys one device, as at the end of the machine. No vCPU runs and no callback of the loop. */
void device_destroy(struct device *device);
/* All devices and PCI, in order of creation. Loop thread, nothing runs. */
void machine_reset_devices(struct machine *machine);
void machine_pause_devices(struct machine *machine);
void machine_resume_devices(struct machine *machine);
/* Tells them that the only processor is about to wait. Its thread. */
void machine_idle_devices(struct machine *machine);

/* Any thread, device lock may be held: it only notes it, kicks the processors and returns. */
void machine_request(struct machine *machine, enum machine_request what, int code);

/* A device cannot go on before the operator did something (a sentence; reason: a literal
 * for programs, "disk-full"): the machine pauses, and
 * the device tries again when it is resumed. Any thread, device lock may be held: it only notes it. */
void machine_stall(struct machine *machine, const char *reason, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* 64-bit BAR window: [machine_mmio64(), + PC_MMIO64_SIZE). */
uint64_t machine_mmio64(const struct machine *machine);
/* Where the next area of memory (memory.h) may begin: above that window and all other areas. Firmware does
 * not tell of it; the guest learns of it from its device. */
uint64_t machine_area_gpa(const struct machine *machine);

#endif
