/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx.h - virtual processors: the contract that every engine keeps.
 *
 * A `vmx_vm` owns guest-physical mappings and traps. A `vmx_vcpu` belongs to the thread that created
 * it. vmx_vcpu_resume() runs the guest until it did something that the caller must handle and fills
 * one `struct vmx_exit`. The local APIC of each processor (and HLT, timers, IPIs, INIT/SIPI) lives
 * inside the engine; PIC, IOAPIC and every other chip live with the caller.
 *
 * Return values: 0 or a negative errno:
 *   -EINVAL    bad argument, size or alignment      -EBADF     not a live object of that kind
 *   -EBADFD    wrong thread, or the vCPU runs       -ECANCELED resume ended by a kick
 *   -ENOTSUP   the host or this engine cannot       -EEXIST    trap or vCPU exists already
 *   -ERANGE    address or vector out of range       -EACCES    no right to it
 *   -ENOENT    nothing there                        -EIO       the engine failed
 *   -ENOMEM    out of memory                        -ENOBUFS   buffer too small (size reported)
 *
 * What an engine cannot keep is said here and at the call, and vmx_probe() reports it. KVM: mappings
 * without VMX_MAP_EXEC, VMX_OPT_{CPUID,RDTSC,HYPERCALL,HALT} and exceptions other than #BP are
 * -ENOTSUP; vmx_exit.insn_len, .mem.gva and .mem.insn_bytes are not known; an APIC timer in a
 * counting mode is not stopped by vmx_vm_suspend_time() (TSC-deadline mode is); VMCALL answers as
 * KVM does, not with #UD; on AMD processors the registers after VMX_EXIT_SHUTDOWN are those after INIT.
 *
 * Both engines use the signal SIGRTMIN in the threads of vCPUs, and the caller must not. KVM: it stays
 * blocked there, and has no handler. Soft: it is let in and has one (SA_RESTART; guest timers), as
 * SIGSEGV, SIGBUS, SIGILL and SIGFPE do.
 *
 * Threads: "any" calls may come from any thread at any time; "owner" calls only from the thread
 * that created the vCPU and never while it is inside vmx_vcpu_resume(); "setup" calls from any
 * thread while no vCPU runs.
 */
#ifndef VMX_H
#define VMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMX_VCPUS_MAX 64u
#define VMX_PAGE_SIZE 4096u

struct vmx_vm;
struct vmx_vcpu;

enum vmx_engine {
	VMX_ENGINE_AUTO = 0, /* what vmx_probe() recommends */
	VMX_ENGINE_KVM = 1,
	VMX_ENGINE_SOFT = 2,
};

/* --- virtual machine ------------------------------------------------------------------------ */

enum { /* vmx_vm_options.flags */
	VMX_VM_NESTED = 1u << 0, /* offer VMX to the guest */
};

enum { /* vmx_vm_options.soft_debug: other ways to run the same guest, same results (tests) */
	VMX_SOFT_STEP_ONLY = 1u << 0,  /* every instruction by the stepper, no translated blocks */
	VMX_SOFT_ONE_INSN = 1u << 1,   /* translated blocks of one instruction */
	VMX_SOFT_NO_CHAIN = 1u << 2,   /* no direct links between blocks, no indirect-branch table */
	VMX_SOFT_NO_TLB = 1u << 3,     /* every access walks the guest's page tables */
	VMX_SOFT_TINY_CACHE = 1u << 4, /* code cache of a few blocks: flushed all the time */
	VMX_SOFT_MOVED_CODE = 1u << 5, /* 64-bit code is made to run at any address, all of it */
	VMX_SOFT_RUNS = 1u << 6,       /* accesses find runs of pages at once, not after many misses */
};

struct vmx_vm_options {
	uint32_t size; /* sizeof(struct vmx_vm_options): later versions may append */
	enum vmx_engine engine;
	uint32_t flags;            /* VMX_VM_* ; unknown bits: -EINVAL */
	uint32_t soft_debug;       /* VMX_SOFT_* ; ignored by KVM */
	uint64_t code_cache_bytes; /* soft: 0 for the default (128 MiB) */
	/* May be NULL. Called from any thread, one complete line without newline;
	 * level as in syslog (3 error .. 7 debug). */
	void (*log)(void *opaque, int level, const char *line);
	void *log_opaque;
	/* KVM: /dev/kvm, opened O_RDWR by the caller and still his; 0: it is opened here. */
	int kvm_fd;
	/* soft: how fast the host's TSC goes, if the caller knows (common/tsc.h); 0: it is measured, which
	 * takes 8 ms. KVM knows. */
	uint64_t tsc_hz;
};

/* Creates a virtual machine. The caller owns *ret_vm. Any thread.
 * -ENOTSUP: the engine cannot run here; -EINVAL: options. */
int vmx_vm_create(const struct vmx_vm_options *options, struct vmx_vm **ret_vm);
/* Destroys a VM whose vCPUs are all destroyed (else -EBADFD). NULL is fine. Setup. */
int vmx_vm_destroy(struct vmx_vm *vm);
/* Which engine it got: KVM or SOFT, never AUTO. Any. */
enum vmx_engine vmx_vm_engine(const struct vmx_vm *vm);
/* vCPUs back to their state after creation, pending kicks and events cleared; mappings, traps and
 * memory content kept (WHP W11). Setup. */
int vmx_vm_reset(struct vmx_vm *vm);

enum { /* vmx_vm_map flags */
	VMX_MAP_READ = 1u << 0,
	VMX_MAP_WRITE = 1u << 1,
	VMX_MAP_EXEC = 1u << 2,
	VMX_MAP_TRACK_DIRTY = 1u << 3,
	VMX_MAP_SHARED = 1u << 4, /* host is a mapping made with MAP_SHARED, not of hugetlbfs, whose pages are
				   * always there: an engine may map them a second time, by mremap() */
};

/* Maps [host, host+size) at guest-physical gpa; everything a multiple of 4096. A new mapping
 * replaces what it overlaps (W2). The caller keeps ownership of the host memory and must keep it
 * mapped until unmapped here. Access without the right bit, or outside any mapping, is a
 * VMX_EXIT_MEM. Any thread, also while vCPUs run: on return no vCPU uses the old mapping. */
int vmx_vm_map(struct vmx_vm *vm, uint64_t gpa, uint64_t size, void *host, uint32_t flags);
/* Removes whatever is mapped in the range (-ENOENT if nothing was). Any thread. */
int vmx_vm_unmap(struct vmx_vm *vm, uint64_t gpa, uint64_t size);
/* Read-and-clear of the dirty bits of the range: bit n of the bitmap is page n. bitmap NULL and
 * words 0: clear only. -ENOENT if the range is not wholly mapped with TRACK_DIRTY; -ENOBUFS if
 * words < pages/64 rounded up. Any thread (W3). */
int vmx_vm_dirty(struct vmx_vm *vm, uint64_t gpa, uint64_t size, uint64_t *bitmap, size_t words);
/* The caller itself wrote guest RAM behind [host, host+size) (device DMA, loading an image): the
 * engine must forget code it translated from there and mark the pages dirty. Any thread. */
int vmx_vm_written(struct vmx_vm *vm, uint64_t gpa, uint64_t size);

enum vmx_trap_kind {
	VMX_TRAP_BELL = 1, /* asynchronous: a write adds 1 to an eventfd, the guest goes on */
	VMX_TRAP_MEM = 2,  /* VMX_EXIT_MEM carries the key */
	VMX_TRAP_IO = 3,   /* VMX_EXIT_IO carries the key */
};

/* BELL: a write of exactly size (1, 2, 4, 8; 0: any) bytes at exactly addr, in unmapped memory space
 * (-EINVAL if mapped). MEM: page aligned; the local APIC's page only alone. IO: ports;
 * addr+size <= 0x10000, else -ERANGE. eventfd: BELL only (stays the caller's, must live until the
 * trap is removed; -EBADF if closed), else -1. Same kind and overlapping range: -EEXIST. An access
 * belongs to the trap that holds its first byte; with no trap it still exits, with key 0. Any. */
int vmx_vm_set_trap(struct vmx_vm *vm, enum vmx_trap_kind kind, uint64_t addr, uint64_t size,
		    int eventfd, uint64_t key);
/* -ENOENT: no trap of that kind starts at addr. On return its eventfd is no longer touched. Any. */
int vmx_vm_remove_trap(struct vmx_vm *vm, enum vmx_trap_kind kind, uint64_t addr);

/* Delivers a message-signalled interrupt: address 0xFEExxxxx and data as in SDM 3A 11.11. Any.
 * -EINVAL for an address outside 0xFEE00000..0xFEEFFFFF. */
int vmx_vm_msi(struct vmx_vm *vm, uint64_t address, uint32_t data);
/* Tells the engine what IOAPIC pin sends (0..23), so that VMX_EXIT_APIC_EOI comes for its vector
 * when it is level triggered. The soft engine needs no help and accepts it. Any. */
int vmx_vm_ioapic_route(struct vmx_vm *vm, unsigned pin, uint64_t address, uint32_t data,
			bool enabled);

/* Guest time (TSC, APIC timers) stands still between the two; only while no vCPU runs (-EBADFD);
 * also resumed by the next vmx_vcpu_resume() (W10). */
int vmx_vm_suspend_time(struct vmx_vm *vm);
int vmx_vm_resume_time(struct vmx_vm *vm);
/* Guest TSC frequency in Hz. Any. */
uint64_t vmx_vm_tsc_hz(const struct vmx_vm *vm);

/* Which further guest actions end vmx_vcpu_resume(); all off after create. Setup (W1). */
enum { /* vmx_exit_options.optional */
	VMX_OPT_MSR = 1u << 0,       /* every MSR the engine does not know itself */
	VMX_OPT_CPUID = 1u << 1,     /* carries the default result */
	VMX_OPT_EXCEPTION = 1u << 2, /* those in exception_bitmap */
	VMX_OPT_RDTSC = 1u << 3,
	VMX_OPT_HYPERCALL = 1u << 4, /* VMCALL / VMMCALL; otherwise as on KVM (its documented calls) */
	VMX_OPT_HALT = 1u << 5,      /* HLT exits instead of waiting inside */
};
struct vmx_exit_options {
	uint32_t optional;
	uint32_t exception_bitmap; /* bit n: vector n */
};
/* -ENOTSUP names (by the bits left in *ret_unsupported, may be NULL) what this engine can't. */
int vmx_vm_set_exit_options(struct vmx_vm *vm, const struct vmx_exit_options *options,
			    uint32_t *ret_unsupported);

/* Counters for `vmctl info --stats`: name/value pairs, engine-specific. Fills at most n, returns
 * how many there are. Any. */
struct vmx_stat {
	const char *name;
	uint64_t value;
};
size_t vmx_vm_stats(struct vmx_vm *vm, struct vmx_stat *stats, size_t n);

/* Memory of the engine's own (translated code) that is worth huge pages: the mapping of a file, and how
 * many of 512 pages are to be in use for it. It stays until vmx_vm_destroy(). Fills at most n, returns
 * how many there are. Any. */
struct vmx_memory {
	void *host;
	uint64_t size;
	int fd; /* not for reading or writing; the VM's */
	unsigned least;
};
size_t vmx_vm_memory(struct vmx_vm *vm, struct vmx_memory *ret, size_t n);

/* --- virtual processor ---------------------------------------------------------------------- */

/* Creates vCPU `id` (0..63, also its initial APIC id), bound to this thread. vCPU 0 is the boot
 * processor; others wait for INIT/SIPI inside resume. -EEXIST: that id exists; -EBADFD: this
 * thread has a vCPU already. */
int vmx_vcpu_create(struct vmx_vm *vm, unsigned id, struct vmx_vcpu **ret_vcpu);
/* Owner, or any thread once the owner has ended. NULL is fine. Waits for calls of "any" kind that
 * other threads have already begun on it; none may begin afterwards. */
int vmx_vcpu_destroy(struct vmx_vcpu *vcpu);

enum vmx_exit_reason {
	VMX_EXIT_NONE = 0,
	VMX_EXIT_IO = 1,          /* port access */
	VMX_EXIT_MEM = 2,         /* access outside mappings, or without the right to it */
	VMX_EXIT_SHUTDOWN = 3,    /* triple fault */
	VMX_EXIT_ENTRY_FAILED = 4, /* invalid state was set (vmx_vcpu_write_state()), or the
				    * processor refused entry; .internal */
	VMX_EXIT_INTERNAL = 5,    /* the engine cannot go on; detail in .internal */
	VMX_EXIT_EXTINT = 6,      /* interrupt-acknowledge cycle: answer with vmx_vcpu_interrupt() of
				   * type VMX_INTERRUPT_EXTINT, or lower the line */
	VMX_EXIT_APIC_EOI = 7,    /* EOI of a level-triggered vector */
	VMX_EXIT_HALT = 8,        /* opt-in from here on */
	VMX_EXIT_MSR = 9,
	VMX_EXIT_CPUID = 10,
	VMX_EXIT_EXCEPTION = 11,
	VMX_EXIT_RDTSC = 12,
	VMX_EXIT_HYPERCALL = 13,
	VMX_EXIT_DEBUG = 14,
};

struct vmx_exit {
	enum vmx_exit_reason reason;
	uint8_t insn_len; /* 0 where unknown (KVM does not always tell) */
	uint8_t cpl;
	bool interrupt_shadow;
	uint16_t cs_selector;
	uint64_t cs_base;
	uint64_t rip; /* of the instruction; KVM: of the next one after some outputs and writes */
	uint64_t rflags;
	uint64_t cr8;
	union {
		struct {
			uint16_t port;
			uint8_t size;  /* 1, 2, 4 */
			bool input;
			uint32_t count; /* >= 1: elements in buf (string instructions) */
			void *buf;      /* engine's; size*count bytes; for input the caller fills
					 * it before the next resume, which completes the access */
			uint64_t key;
		} io;
		struct {
			uint64_t gpa;
			uint8_t size; /* 1..8 */
			bool write;
			bool exec;    /* an instruction fetch: cannot be completed */
			bool gva_valid;
			uint64_t gva;
			uint8_t *buf; /* engine's, `size` bytes, as io.buf */
			uint64_t key;
			uint8_t insn_bytes_len; /* 0..15 */
			uint8_t insn_bytes[15];
		} mem;
		struct {
			uint64_t reason; /* engine's number (KVM: hardware_entry_failure_reason) */
			char text[96];
		} internal; /* also ENTRY_FAILED */
		struct {
			uint8_t vector;
		} eoi;
		struct {
			uint32_t index;
			bool write;
			uint64_t value; /* for a read the caller fills it */
			bool fault;     /* the caller sets it: #GP(0) */
		} msr;
		struct {
			uint32_t leaf, subleaf;
			uint32_t eax, ebx, ecx, edx; /* default result; the caller may change it */
		} cpuid;
		struct {
			uint8_t vector;
			bool has_error_code;
			uint32_t error_code;
			uint64_t parameter; /* CR2 for #PF, DR6 for #DB */
			bool swallow;       /* the caller sets it: not delivered */
		} exception;
		struct {
			uint64_t tsc; /* the caller may change it */
			bool rdtscp;
		} rdtsc;
		struct {
			uint64_t nr, args[6]; /* rax; rbx rcx rdx rsi rdi rbp */
			uint64_t result;      /* the caller fills it: rax */
		} hypercall;
	};
};

/* Runs the guest until it needs the caller (0, *exit filled) or a kick (-ECANCELED; nothing is
 * lost, call again). The same *exit must be passed again to complete what it asked for; -EINVAL if
 * an answer is awaited and exit->reason is another.
 *
 * After IO and MEM, any state call of the owner but the write of VMX_STATE_IO completes the access
 * first, with what buf holds then: state is always as between two instructions (of a string or a
 * wide access, some elements may be still to come). After MSR, CPUID, EXCEPTION, RDTSC and HYPERCALL
 * the state shows the instruction as not executed, until the next resume completes it. After
 * SHUTDOWN every resume ends so again, until INIT, vmx_vm_reset() or a new VMX_STATE_ACTIVITY.
 * Owner. -EBADFD from another thread. */
int vmx_vcpu_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit);
/* Makes the current or the next resume return -ECANCELED, once however often called. Any. */
int vmx_vcpu_kick(struct vmx_vcpu *vcpu);

enum vmx_interrupt_type {
	VMX_INTERRUPT_FIXED = 0, /* vector 16..255 into the local APIC (edge) */
	VMX_INTERRUPT_NMI = 1,
	VMX_INTERRUPT_INIT = 2,
	VMX_INTERRUPT_SIPI = 3,  /* vector = start page */
	VMX_INTERRUPT_EXTINT = 4, /* answer to VMX_EXIT_EXTINT; owner only */
	VMX_INTERRUPT_LINT1 = 5,
};
/* Requests an interrupt; stays pending until taken. vector > 255 or < 16 for FIXED, or not 0 where
 * the type has none: -ERANGE. Any. */
int vmx_vcpu_interrupt(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector);
/* Level of the PIC's INTR wire at this vCPU's LINT0. While high, and when the guest can take it
 * (IF, no shadow, LINT0 in ExtINT mode unmasked or APIC disabled), resume ends with
 * VMX_EXIT_EXTINT. Wakes a halted vCPU. Any. */
int vmx_vcpu_set_extint(struct vmx_vcpu *vcpu, bool level);

/* --- state ---------------------------------------------------------------------------------- */

struct vmx_segment { /* SDM 3A 3.4.5; attributes as in VMX access rights (3C 25.4.1) */
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t attributes; /* type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, DB 14, G 15 */
	bool unusable;
};
struct vmx_table {
	uint64_t base;
	uint16_t limit;
};
struct vmx_regs {
	uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi; /* encoding order */
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
};
struct vmx_sregs {
	struct vmx_segment es, cs, ss, ds, fs, gs; /* encoding order */
	struct vmx_segment ldtr, tr;
	struct vmx_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer, apic_base;
	uint64_t xcr0;
};
struct vmx_debugregs {
	uint64_t dr[4], dr6, dr7;
};
struct vmx_events { /* what is between two instructions */
	bool exception_pending;
	uint8_t exception_vector;
	bool exception_has_error_code;
	uint32_t exception_error_code;
	bool nmi_pending, nmi_blocked;
	bool interrupt_shadow;
	bool extint_pending; /* acknowledged, not yet delivered */
	uint8_t extint_vector;
	bool init_pending;
	bool sipi_pending;
	uint8_t sipi_vector;
};
enum vmx_activity { VMX_ACTIVE = 0, VMX_HALTED = 1, VMX_WAIT_FOR_SIPI = 2, VMX_SHUTDOWN_STATE = 3 };

enum vmx_state_kind {
	VMX_STATE_REGS = 1,      /* struct vmx_regs */
	VMX_STATE_SREGS = 2,     /* struct vmx_sregs */
	VMX_STATE_DEBUGREGS = 3, /* struct vmx_debugregs */
	VMX_STATE_XSAVE = 4,     /* standard XSAVE area, size by vmx_vcpu_state_size() */
	VMX_STATE_LAPIC = 5,     /* 1024 bytes: registers at their offsets (SDM 3A table 11-1) */
	VMX_STATE_EVENTS = 6,    /* struct vmx_events */
	VMX_STATE_ACTIVITY = 7,  /* uint32_t enum vmx_activity */
	VMX_STATE_IO = 8,        /* write only: the data of a pending input or memory read; size 0
				  * (and -ENOENT) while none is pending */
	VMX_STATE_NESTED = 9,    /* VMX operation, VMCS pointers (size 0 where not offered) */
};
/* Exact size of a kind, in bytes, on this vCPU; -EINVAL for an unknown kind. Any. */
int vmx_vcpu_state_size(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size);
/*
 * size must equal the kind's size (-EINVAL). Owner. Values that no processor can have (W7):
 *   -EINVAL, the state unchanged: what is wrong within the kind that is written (a reserved bit of a
 *     control register, paging without protection, EFER.LMA against LME and PG, ...);
 *   VMX_EXIT_ENTRY_FAILED at each resume until it is corrected: kinds that do not fit each other,
 *     since they are written one after the other. internal.reason is 0 and internal.text says what:
 *     RFLAGS.VM without CR0.PE or in long mode, RIP beyond 32 bits outside 64-bit mode or not
 *     canonical in it, CS in protected mode no present segment.
 * What a processor refuses beyond that (KVM) is ENTRY_FAILED too, internal.reason its number.
 */
int vmx_vcpu_read_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size);
int vmx_vcpu_write_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf,
			 size_t size);
/* MSRs by index. -ENOENT for one that the guest does not have. Owner. */
int vmx_vcpu_read_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
int vmx_vcpu_write_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value);

enum vmx_reg { /* named registers, any subset in one call */
	VMX_RAX, VMX_RCX, VMX_RDX, VMX_RBX, VMX_RSP, VMX_RBP, VMX_RSI, VMX_RDI,
	VMX_R8, VMX_R9, VMX_R10, VMX_R11, VMX_R12, VMX_R13, VMX_R14, VMX_R15,
	VMX_RIP, VMX_RFLAGS, VMX_CR0, VMX_CR2, VMX_CR3, VMX_CR4, VMX_CR8, VMX_EFER, VMX_XCR0,
	VMX_DR0, VMX_DR1, VMX_DR2, VMX_DR3, VMX_DR6, VMX_DR7, VMX_APIC_BASE,
	VMX_REG_COUNT,
};
int vmx_vcpu_get_regs(struct vmx_vcpu *vcpu, const enum vmx_reg *names, size_t n, uint64_t *values);
int vmx_vcpu_set_regs(struct vmx_vcpu *vcpu, const enum vmx_reg *names, size_t n,
		      const uint64_t *values);

enum vmx_translate_result { /* W9 */
	VMX_TRANSLATE_OK = 0,
	VMX_TRANSLATE_NOT_PRESENT = 1,
	VMX_TRANSLATE_PRIVILEGE = 2,
	VMX_TRANSLATE_RESERVED_BITS = 3,
	VMX_TRANSLATE_GPA_UNMAPPED = 4,
	VMX_TRANSLATE_GPA_NO_READ = 5,
	VMX_TRANSLATE_GPA_NO_WRITE = 6,
};
enum { /* vmx_vcpu_translate flags */
	VMX_TRANSLATE_READ = 1u << 0,
	VMX_TRANSLATE_WRITE = 1u << 1,
	VMX_TRANSLATE_EXEC = 1u << 2,
	VMX_TRANSLATE_PRIVILEGE_EXEMPT = 1u << 3, /* as CPL 0, whatever the CPL is */
	VMX_TRANSLATE_SET_AD = 1u << 4,           /* set accessed/dirty bits as an access would */
};
/* 0 means *ret_result is valid, whichever it is. Owner. */
int vmx_vcpu_translate(struct vmx_vcpu *vcpu, uint64_t gva, uint32_t flags,
		       enum vmx_translate_result *ret_result, uint64_t *ret_gpa);

/* --- probe ---------------------------------------------------------------------------------- */

struct vmx_probe_result {
	bool usable;
	char why[160];           /* one sentence for an operator */
	char advice[200];        /* what to do about it; empty if nothing */
	uint64_t insns_per_second; /* of a timed loop; 0 if it did not run */
	uint32_t missing_options;  /* VMX_OPT_* that it cannot keep */
};
struct vmx_probe {
	struct vmx_probe_result kvm, soft;
	enum vmx_engine choice; /* AUTO: none usable */
	char why[200];
};
/* Runs real guest code on each engine (about 0.1 s; 4 s for one that does not answer) and chooses. Any thread without a
 * vCPU; spends it on threads of its own. */
int vmx_probe(struct vmx_probe *ret_probe);
const char *vmx_engine_name(enum vmx_engine engine); /* "auto", "kvm", "soft" */
const char *vmx_exit_reason_name(enum vmx_exit_reason reason);

#ifdef __cplusplus
}
#endif
#endif
