/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft.h - the software VMX processor: what its files share.
 *
 * Two executors run guest code over the same state:
 *   jit*.c   translated blocks (64-bit code, flat 32-bit code): guest instructions copied, memory
 *            accesses checked against per-site and hashed TLBs. Guest registers are pinned to host
 *            registers.
 *   step*.c  one instruction at a time, any mode: control flow, stack, strings in C; everything
 *            else ("data" instructions) is executed natively by soft_exec_native() with its memory
 *            operands redirected to v->opnd_ptr. It is the debug mode, the slow path of the jit,
 *            and all of 16-bit code and of code with segments.
 * Both call the same operations (system*.c, segment.c, exception.c, string.c) for what the
 * processor does in microcode.
 *
 * FP state: while v->fp_live the guest's x87/SSE/AVX registers are in the host's registers. Every
 * file marked GENERAL is compiled with -mgeneral-regs-only, calls nothing outside the GENERAL
 * files (no libc: not even memcpy - use soft_copy()), and so may run with fp_live. All other code
 * must be reached through soft_fp_save() first.
 *   GENERAL: libsoftgeneral_la_SOURCES in local.mk. They take a lock only by soft_lock() (lock.h).
 *
 * Return codes of everything that executes a part of an instruction: enum soft_rc.
 * An operation changes no guest-visible state before it can no longer return anything but SOFT_OK
 * (memory operands are probed or read first); then the instruction can be restarted.
 * v->rip is the address of the current instruction until it completes; v->next_rip the one after.
 */
#ifndef VMX_SOFT_H
#define VMX_SOFT_H

#include <stdatomic.h>

#include "vmx-driver/engine.h"
#include "vmx-driver/soft/alias.h"
#include "vmx-driver/soft/insn.h"
#include "vmx-driver/soft/lock.h"
#include "vmx-driver/soft/tlb.h"
#include "vmx-driver/soft/vmcs.h"
#include "vmx-driver/soft/x86.h"

/* Values at any alignment in bytes that hold others as well (memcpy would be a call). */
typedef uint16_t __attribute__((aligned(1), may_alias)) soft_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) soft_u32;
typedef uint64_t __attribute__((aligned(1), may_alias)) soft_u64;

enum soft_rc {
	SOFT_OK = 0,        /* done; v->rip is the next instruction */
	SOFT_EXCEPTION = 1, /* v->exc is set; the instruction did not complete */
	SOFT_EXIT = 2,      /* the caller of resume must act: v->exit_request is filled; the
			     * instruction is restarted afterwards and finds the result in the
			     * access log (struct soft_log) */
	SOFT_SHUTDOWN = 3,  /* triple fault */
	SOFT_STEP = 4,      /* jit: let the stepper execute the instruction at v->rip */
	SOFT_AGAIN = 5,     /* look at v->exit_req / the mode, then go on at v->rip */
	SOFT_HALT = 6,      /* HLT or MWAIT completed (v->rip is after it): wait for an event */
	SOFT_VMEXIT = 7,    /* non-root operation ends: v->vmexit says why. Nothing of what was being done
			     * happened; the resume loop carries the exit out (vmx_ops.h), and who
			     * only asked may forget it */
};

/* v->mode: everything about the processor's state that changes what bytes mean or may do */
enum {
	MODE_CODE = 3u << 0, /* 0: 16-bit, 1: 32-bit, 2: 64-bit (values below) */
	MODE_SS32 = 1u << 2,
	MODE_USER = 1u << 3, /* CPL 3 */
	MODE_AC = 1u << 4,   /* CPL < 3 with EFLAGS.AC and CR4.SMAP: user pages allowed */
	MODE_NM = 1u << 5,   /* CR0.TS or CR0.EM: x87/SSE/AVX need a check */
	MODE_SSE = 1u << 6,  /* CR4.OSFXSR */
	MODE_AVX = 1u << 7,  /* CR4.OSXSAVE and XCR0 has SSE and AVX */
	MODE_SLOW = 1u << 8, /* stepper only: TF, breakpoints armed, alignment checks, 16-bit code or
			      * stack, 32-bit code without MODE_FLAT */
	MODE_FLAT = 1u << 9, /* 16/32-bit: CS DS ES SS have base 0 and limit 4 GiB, for all but code
			      * to read and write */
	MODE_REAL = 1u << 10, /* CR0.PE=0 or EFLAGS.VM: segment registers load as selector * 16 */
	MODE_NONROOT = 1u << 11, /* VMX non-root operation */
};
enum { CODE_16 = 0, CODE_32 = 1, CODE_64 = 2 };

struct soft_exc {
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint64_t cr2; /* #PF */
	uint64_t dr6; /* #DB: bits to set */
};

/* What an instruction already did outside RAM. An access that needs the caller of resume ends the
 * instruction with SOFT_EXIT; when it is restarted the n-th such access takes entry n instead. */
enum soft_log_kind { SOFT_LOG_MEM_READ, SOFT_LOG_MEM_WRITE, SOFT_LOG_IO_READ, SOFT_LOG_IO_WRITE };
#define SOFT_LOG_MAX 80 /* FXSAVE to a device; what is beyond reads as ones, writes nothing */
struct soft_log {
	unsigned count; /* entries filled */
	unsigned next;  /* entry that the next access of this execution takes */
	struct {
		enum soft_log_kind kind;
		uint8_t size; /* 1..8 */
		uint64_t addr;
		uint64_t data;
	} entry[SOFT_LOG_MAX];
};

/* v->exit_req bits: any thread may set them (atomic or), the resume loop clears them. Translated
 * code leaves at the next poll when the word is not 0. */
enum {
	SOFT_REQ_KICK = 1u << 0,
	SOFT_REQ_EVENT = 1u << 1,     /* an interrupt, NMI, INIT, SIPI may be deliverable */
	SOFT_REQ_EXCLUSIVE = 1u << 2, /* another thread wants all vCPUs parked */
	SOFT_REQ_MODE = 1u << 3,      /* v->mode needs a look by the resume loop */
	SOFT_REQ_TIMER = 1u << 4,     /* the host's timer: the APIC timer may be due */
};

struct soft_lapic;  /* lapic.h */
struct soft_cache;  /* jit.h: translated code, shared by the VM's vCPUs */
struct soft_decoder; /* decode.c: per-vCPU cache of decoded instructions */
struct soft_cpuid;  /* cpuid.c: what this VM's guest is offered */
struct soft_images; /* pcid.h: address spaces that are not in use */

enum { SHADOW_STI = 1, SHADOW_MOV_SS = 2 }; /* v->shadow; 0: none */

struct soft_vm {
	struct vmx_vm vm; /* first */
	struct soft_cache *cache;
	struct soft_cpuid *cpuid;
	const struct soft_op *ops[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* step_ops + system_ops, by mnemonic */
	uint64_t tsc_hz;
	uint64_t time_suspended_tsc;
	/* Exclusive sections: see soft_exclusive_begin() below */
	pthread_mutex_t excl_lock;
	pthread_cond_t excl_cond;
	_Atomic unsigned excl_pending, excl_running;
	/* Guest-physical pages that hold translated code: byte per page of each slot, looked up
	 * through soft_code_page(); owned by jit_cache.c */
	struct soft_code_map *code_map;
	soft_spin apic_lock;
	struct soft_vcpu *vcpus[VMX_VCPUS_MAX]; /* by id; changed in an exclusive section and
						 * under apic_lock */
	unsigned vcpu_count;
	_Atomic uintptr_t excl_owner; /* pthread_self() of who is between begin and end, or 0 */
	unsigned excl_depth;
	struct soft_vcpu *excl_vcpu; /* that vCPU, if it ran before: it goes on after the section */
	uint64_t tsc_offset;   /* of new vCPUs: guest time begins at 0 */
	_Atomic uint64_t pv_wall; /* pv.c: an MSR that all processors share */
	_Atomic bool tsc_split; /* a guest gave its processors different TSCs */
	struct soft_vmx_caps vmx_caps;
	/* With excl_lock, in TSC ticks: the longest from wanting a section to its end, and of that the
	 * longest with all parked; when the present one was wanted and began */
	uint64_t n_pauses, longest_pause, longest_section, pause_began, section_began;
	_Atomic unsigned lowest_next; /* lowest-priority interrupts go round */
};

/* Why non-root operation ends (SDM 3C 27.2): what is known where it happens. Instruction length,
 * interruption and IDT-vectoring information are added by who carries the exit out. */
struct soft_vmexit {
	uint32_t reason;        /* basic exit reason */
	uint64_t qualification;
	uint64_t gla, gpa;      /* guest-linear and guest-physical address, where the reason has them */
	uint32_t insn_info;     /* VM-exit instruction information */
	uint32_t event, event_error; /* VM-exit interruption information */
	uint64_t host_tsc;      /* at that moment; 0: not asked */
};

struct soft_vcpu {
	struct vmx_vcpu v; /* first */
	struct soft_vcpu *self;
	/* --- reached from translated code by GS displacement: keep near the start --- */
	uint64_t gpr[16];    /* encoding order; current whenever C code runs */
	uint64_t rip, next_rip;
	const struct soft_insn *op_insn; /* what translated code last called an operation with */
	_Atomic uint32_t exit_req;
	uint16_t aflags;     /* arithmetic flags: low byte OF (0/1), high byte as LAHF gives */
	uint8_t cpl;
	uint8_t ctx;         /* CTX_* of the current mode */
	uint32_t mode;       /* MODE_* */
	uint64_t rflags;     /* all but the arithmetic flags (kept 0 here); bit 1 set */
	struct vmx_segment seg[8]; /* SOFT_ES.. ; base is valid for FS/GS in 64-bit mode too */
	void *host_rsp;      /* jit: host stack of who called translated code */
	void *returns;       /* and where its own begins: the pair that is never taken away */
	void *opnd_ptr;      /* memory operand of soft_exec_native() */
	uint64_t scratch[8]; /* jit's own */
	uint64_t flag_slot[2], flag_recipe; /* jit_recipe.h; the recipe of flags not yet in aflags */
	struct soft_ibtc *ibtc; /* of the current context */
	uint64_t code_page;  /* while it runs moved code (JIT_MOVED): the linear address of its page */
	uint64_t tsc_offset;
	uint8_t returns_stale; /* guest addresses may mean something else than when translated code was
				* entered: whoever forgets branches (tlb.c) or changes the mode says so */
	uint8_t seg_whole[2]; /* outside 64-bit code: FS and GS are 4 GiB to read and write */
	struct soft_tlb tlb[CTX_COUNT];
	uint32_t l0_misses[SOFT_L0_SIZE]; /* that L1 served; counts up to 0 */
	uint32_t l0_uses[SOFT_L0_SIZE];   /* of sites that are JIT_SITE_COUNTED */
	/* --- the rest --- */
	uint8_t bounce[128] __attribute__((aligned(64)));
	struct vmx_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0, xss;
	_Atomic uint64_t apic_base; /* others route interrupts by it */
	uint64_t pdpte[4];   /* PAE paging */
	uint64_t dr[4], dr6, dr7;
	uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux, pat, misc_enable, spec_ctrl;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip, feature_control, tsc_adjust, debugctl;
	_Atomic uint64_t pv_time; /* pv.c: MSRs */
	uint64_t mtrr_deftype, mtrr_phys[16], mtrr_fixed[11];
	struct soft_exc exc;
	struct soft_log log;
	struct vmx_exit exit_request; /* valid with SOFT_EXIT; buf pointers are filled from exit_data */
	uint8_t exit_data[8];
	bool exit_pending;   /* exit_request was returned to the caller; result not yet logged */
	uint8_t exit_answered; /* enum vmx_exit_reason of an opt-in exit (MSR CPUID EXCEPTION RDTSC
			      * HYPERCALL) whose answer the caller left in exit_request; set by the
			      * resume loop, consumed by the operation when it runs again */
	bool look_again;     /* there may be events that have waited since somebody last looked, for IF
			      * or for what calls soft_events_recheck() */
	uint8_t shadow;      /* SHADOW_*: just executed, no interrupt before the next one ends */
	/* Set by any thread; INIT and SIPI with apic_lock. */
	_Atomic bool init_pending, sipi_pending;
	_Atomic uint8_t nmi_pending; /* 0..2: one being recognized and one latched behind it */
	_Atomic uint8_t sipi_vector;
	bool nmi_blocked;
	_Atomic bool extint_line;
	bool extint_ready;   /* vector acknowledged, deliver first */
	uint8_t extint_vector;
	uint8_t delivering;  /* exception.c: class of the event being delivered, for double faults */
	_Atomic uint8_t activity; /* enum vmx_activity; owner, read with apic_lock by others */
	struct soft_lapic *lapic;
	struct soft_decoder *decoder;
	void *jit;           /* jit's per-vCPU data */
	bool fp_live;
	bool parked_since; /* it parked since it last entered translated code, which may be gone: no
			    * way back into it. Read together with fp_live (jit_stubs.c). */
	uint32_t xsave_size;
	uint64_t xsave_mask;  /* components kept for the guest: host XCR0 & what CPUID offers */
	uint8_t *xsave;      /* guest FP state while !fp_live; 64-byte aligned, standard format */
	/* exclusive sections and waiting */
	_Atomic bool parked;
	_Atomic int wake;    /* futex word: 1 while its thread sleeps or is about to */
	struct soft_xtlb xtlb[4][SOFT_X_SIZE];
	uint64_t x_clear[4]; /* of each of them, bit n: the n-th 64th has no entry */
	struct soft_images *images; /* pcid.h; NULL: none */
	struct soft_alias alias;
	uint64_t code_epoch; /* counts what may be in branch tables and is no code any more */
	/* VMX non-root operation, as far as memory and the loop are concerned (ept.c, tlb.c) */
	bool nonroot;
	uint8_t ctx_count;   /* CTX_COUNT, or CTX_KINDS where there is no VMX */
	uint64_t eptp;       /* EPT pointer of this operation; 0: no EPT */
	struct soft_vmexit vmexit; /* with SOFT_VMEXIT */
	struct soft_tlb_owner {    /* whose mappings the tables hold: [root, non-root] */
		uint64_t eptp, cr0, cr3, cr4, efer;
		uint16_t vpid;
	} tlb_owner[2];
	struct soft_ept_entry ept_cache[SOFT_EPT_CACHE];
	uint64_t ept_cache_of; /* EPT pointer */
	bool ept_cached;       /* there is something in it */
	uint64_t pa_reserved; /* bits 51:MAXPHYADDR of page-table entries */
	bool exc_pending;    /* exc is to be delivered before the next instruction */
	bool restart;        /* resume runs what made the last exit again before all else */
	bool restart_event;  /* the exit happened while an event was delivered, not in an instruction */
	uint32_t poll_ns;    /* how long HLT spins before it sleeps; adapts */
	uint32_t pauses;     /* PAUSEs in a row, the last of them when */
	uint64_t paused_at;
	_Atomic uint64_t eoi_exits[4]; /* level-triggered vectors whose EOI the caller must see */
	struct soft_vmx vmx; /* VMX operation: vmcs.h, vmx_ops.h */
	/* counters for vmx_vm_stats */
	uint64_t n_exits, n_translations, n_steps, n_tlb_fills, n_flushes, n_interrupts, n_exceptions,
		n_invalidations, n_branch_misses, n_walks, n_halts, n_sleeps, n_yields,
		n_l0_rounds, n_runs, n_aliases,
		n_exits_for[VMX_EXIT_DEBUG + 1];
};

/* A counter that only one thread at a time changes, while soft_stats() may be reading it. */
static inline void soft_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}
static inline void soft_count(uint64_t *counter)
{
	soft_add(counter, 1);
}
static inline void soft_longest(uint64_t *longest, uint64_t since)
{
	uint64_t ticks = __builtin_ia32_rdtsc() - since;

	if (ticks > *longest)
		__atomic_store_n(longest, ticks, __ATOMIC_RELAXED);
}

static inline struct soft_vm *soft_vm_of(const struct soft_vcpu *v)
{
	return (struct soft_vm *)v->v.vm;
}

/* memcpy for GENERAL files. */
static inline void soft_copy(void *dst, const void *src, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
static inline void soft_zero(void *dst, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(0) : "memory");
}

/* --- flags and mode (flags.c: GENERAL, owner STEP) ------------------------------------------ */
uint64_t soft_get_rflags(const struct soft_vcpu *v);
/* Sets all of RFLAGS (bits that do not exist are dropped); updates the mode and rechecks events. */
void soft_set_rflags(struct soft_vcpu *v, uint64_t rflags);
static inline uint64_t soft_arith_flags(const struct soft_vcpu *v)
{
	return ((v->aflags >> 8) & (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)) |
	       ((v->aflags & 1) ? FL_OF : 0);
}
static inline void soft_set_arith(struct soft_vcpu *v, uint64_t flags)
{
	v->aflags = (uint16_t)((flags & (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF)) << 8 |
			       ((flags & FL_OF) ? 1 : 0) | 0x200);
}
/* Recomputes v->cpl-dependent mode, ctx, ibtc after anything it depends on changed (CPL, CS, SS,
 * CR0, CR4, EFER, XCR0, RFLAGS.TF/AC/VM, DR7). v->cpl itself is set by the caller. Flushes the
 * context's ibtc when it held entries for another mode. */
void soft_update_mode(struct soft_vcpu *v);
/* Sets SOFT_REQ_EVENT if anything pending might be deliverable now. Call after IF was set, TPR or
 * CR8 lowered, EOI, NMI unblocked, shadow ended. (lapic.c) */
void soft_events_recheck(struct soft_vcpu *v);

/* --- exceptions (exception.c: GENERAL, owner SYS) ------------------------------------------- */
int soft_raise(struct soft_vcpu *v, unsigned vector);                      /* no error code */
int soft_raise_error(struct soft_vcpu *v, unsigned vector, uint32_t error);
int soft_raise_pf(struct soft_vcpu *v, uint64_t la, uint32_t error);
static inline int soft_raise_debug(struct soft_vcpu *v, uint64_t dr6) /* #DB that sets those bits */
{
	int rc = soft_raise(v, EXC_DB);

	v->exc.dr6 = dr6;
	return rc;
}
/* Delivers v->exc through the IDT (or IVT): pushes, switches stacks and privilege, double-fault and
 * triple-fault rules (SDM 3A 6.15), RF, CR2/DR6. SOFT_OK, SOFT_EXIT, or SOFT_SHUTDOWN. */
int soft_deliver_exception(struct soft_vcpu *v);
enum soft_event { EVENT_EXTERNAL, EVENT_NMI, EVENT_SOFT_INT, EVENT_INT3, EVENT_INTO, EVENT_INT1 };
/* Delivers the event that VM entry injects (v->vmx.inject), as soft_deliver_interrupt(). */
int soft_deliver_injected(struct soft_vcpu *v);
/* Delivers an interrupt. For the software ones v->next_rip is what is pushed. A fault of any of them
 * leaves v->exc set with SOFT_EXCEPTION: the event is used up, soft_deliver_exception() is next. */
int soft_deliver_interrupt(struct soft_vcpu *v, enum soft_event event, unsigned vector);

/* --- segments (segment.c: GENERAL, owner SYS) ----------------------------------------------- */
/* Linear address of [seg:offset, +size): limit, type and canonical checks: #SS(0) or #GP(0). */
int soft_linear(struct soft_vcpu *v, unsigned seg, uint64_t offset, unsigned size, bool write,
		uint64_t *ret_la);
/* MOV/POP to a data or stack segment register, with all checks (also real and vm86 mode). */
int soft_load_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector);
/* Width of stack pointer in bytes (2, 4, 8), and of an address given insn->zi.address_width. */
unsigned soft_stack_width(const struct soft_vcpu *v);

/* --- memory (mmu.c, tlb.c: GENERAL, owner MMU) ---------------------------------------------- */
static inline bool soft_canonical(uint64_t la)
{
	return (uint64_t)((int64_t)(la << 16) >> 16) == la;
}
enum { /* flags */
	ACC_WRITE = 1u << 0,
	ACC_EXEC = 1u << 1,
	ACC_SYSTEM = 1u << 2, /* implicit supervisor access (descriptor tables, TSS): CPL ignored */
};
/* Linear memory at the current privilege; any length; page crossing; MMIO through v->log.
 * SOFT_OK, SOFT_EXCEPTION (#PF), SOFT_EXIT. A write that would fault anywhere writes nothing. */
int soft_read(struct soft_vcpu *v, uint64_t la, void *buf, unsigned n, unsigned flags);
int soft_write(struct soft_vcpu *v, uint64_t la, const void *buf, unsigned n, unsigned flags);
/* Only the checks of such an access (sets A/D bits as it would). */
int soft_probe(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags);
/* Host address of [la, la+n) if it lies in one RAM page and the access is allowed; NULL in
 * *ret_host if it is legal but crosses a page, is MMIO, or writes a page with translated code. */
int soft_host_ptr(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags, void **ret_host);
/* Code bytes at la: up to max (15); stops at a page that can't be fetched. #PF only when not even
 * one byte can be fetched. *ret_gpa: guest-physical address of the first byte. max 0: only that
 * and the checks. */
int soft_fetch(struct soft_vcpu *v, uint64_t la, uint8_t *buf, unsigned max, unsigned *ret_n,
	       uint64_t *ret_gpa);
/* Fills L1 (and if site != NULL that L0 entry) for a jit access that missed. SOFT_OK: *ret_delta
 * is valid for this access now (for a write to a page with code that misses its code lines it is
 * valid only this once and nothing was cached); SOFT_STEP: let the stepper do it (MMIO, page
 * crossing, write over code, debug); SOFT_EXCEPTION. */
int soft_tlb_fill(struct soft_vcpu *v, uint64_t la, unsigned size, bool write,
		  struct soft_l0 *site, uint64_t *ret_delta);
/* Whole page walk without side effects other than (flags) A/D bits: for vmx_vcpu_translate. */
int soft_walk(struct soft_vcpu *v, uint64_t la, unsigned access_flags, bool user, bool set_ad,
	      uint64_t *ret_gpa, uint32_t *ret_pf_error, unsigned *ret_level);
/* What the guest's own invalidations do: only of the current operation (root or non-root). */
void soft_tlb_flush(struct soft_vcpu *v, bool keep_global); /* CR4 changes, INVPCID of all */
void soft_tlb_flush_current(struct soft_vcpu *v, bool keep_global); /* of the current PCID: MOV CR3 */
void soft_tlb_flush_page(struct soft_vcpu *v, uint64_t la); /* INVLPG */
/* All that is known of memory, in both operations: slots or the state changed from outside. */
void soft_tlb_flush_all(struct soft_vcpu *v);
/* VM entry and VM exit (SDM 3C 28.4). leave: before anything of the operation that ends changes
 * (v->nonroot, v->eptp, control registers); enter: after all of it did, before soft_update_mode().
 * The mappings of both operations stay, unless they are of another VPID, EPT pointer or paging mode
 * now. vpid: of the VMCS, 0: VPIDs are not in use. */
void soft_tlb_leave(struct soft_vcpu *v, uint16_t vpid);
void soft_tlb_enter(struct soft_vcpu *v, uint16_t vpid);
/* INVEPT of one EPT pointer (all: of every one), INVVPID of all (all), one VPID or one address. In
 * root operation; operands were checked. */
void soft_invept(struct soft_vcpu *v, bool all, uint64_t eptp);
enum soft_invvpid { INVVPID_ADDRESS, INVVPID_SINGLE, INVVPID_ALL, INVVPID_KEEP_GLOBAL };
void soft_invvpid(struct soft_vcpu *v, enum soft_invvpid type, uint16_t vpid, uint64_t la);
void soft_tlb_flush_ctx(struct soft_vcpu *v, unsigned ctx);
void soft_ibtc_flush(struct soft_vcpu *v, unsigned ctx);
/* Takes write permission to a guest page out of this vCPU's L0 and L1 (the page got code, or dirty
 * tracking wants the next write). gpa: page. */
void soft_tlb_protect_page(struct soft_vcpu *v, uint64_t gpa);
/* Guest-physical access by the engine itself (page tables); RAM only, -1 if not. */
uint8_t *soft_gpa_ptr(struct soft_vcpu *v, uint64_t gpa, bool write);
/* Port access of 1, 2 or 4 bytes through v->log: SOFT_OK with *data, or SOFT_EXIT. Permission was
 * checked by the caller. */
int soft_port(struct soft_vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *data);

/* --- translated code and pages (jit_cache.c, owner JIT) ------------------------------------- */
/* True if any of the 64-byte lines of [gpa, gpa+n) (within a page) holds translated code. GENERAL. */
bool soft_code_overlaps(struct soft_vm *vm, uint64_t gpa, unsigned n);
/* True if the page holds any, or held some and was not written to since: no TLB lets writes through. */
bool soft_code_page(struct soft_vm *vm, uint64_t gpa); /* GENERAL */
/* The same for who is about to write: false if it holds none now, and writes may go through. GENERAL. */
bool soft_code_page_write(struct soft_vm *vm, uint64_t gpa);
/* Memory [gpa, gpa+n) changed: drops what was translated from it, on all vCPUs. v: the calling
 * vCPU or NULL. Calls libc: not GENERAL - but safe with fp_live (it saves what it must). */
void soft_code_written(struct soft_vm *vm, struct soft_vcpu *v, uint64_t gpa, uint64_t n);
void soft_code_flush_all(struct soft_vm *vm, struct soft_vcpu *v);
int soft_cache_create(struct soft_vm *vm);
void soft_cache_destroy(struct soft_vm *vm);
void soft_cache_slots_changed(struct soft_vm *vm, const struct vmx_slots *now);
int soft_jit_vcpu_init(struct soft_vcpu *v);
void soft_jit_vcpu_fini(struct soft_vcpu *v);
/* Runs translated code from v->rip until something else is to do: SOFT_AGAIN, SOFT_STEP,
 * SOFT_EXCEPTION, SOFT_EXIT, SOFT_HALT, SOFT_SHUTDOWN. Only when (v->mode & MODE_SLOW) == 0. */
int soft_jit_run(struct soft_vcpu *v);
/* Runs one data instruction natively: registers from and to v->gpr, flags from and to v->aflags,
 * memory operand at v->opnd_ptr (which must be readable/writable host memory of its size), FP state
 * loaded when insn->fp. Does not touch v->rip. SOFT_OK, or SOFT_EXCEPTION for what the host
 * processor raised (#DE #UD #XM #MF #GP for misaligned SSE). */
int soft_exec_native(struct soft_vcpu *v, const struct soft_insn *insn);
/* Guest FP state: into the host's registers / into v->xsave (and the host's defaults restored). */
void soft_fp_load(struct soft_vcpu *v);
void soft_fp_save(struct soft_vcpu *v);

/* --- stepper (step.c ..., owner STEP) ------------------------------------------------------- */
/* Executes one instruction at v->rip, whatever it is, in any mode. On SOFT_OK v->rip is advanced,
 * v->log cleared; #DB traps of TF and breakpoints included. */
int soft_step(struct soft_vcpu *v);
/* Decodes; result valid until the next call on this vCPU. NULL: not an instruction (#UD), or more
 * bytes are needed (*ret_short true). Not GENERAL inside, but saves FP state itself. */
const struct soft_insn *soft_decode(struct soft_vcpu *v, const uint8_t *bytes, unsigned n,
				    unsigned code, bool *ret_short);
/* The same without cache into caller's memory, for the translator. False as NULL above. */
bool soft_decode_into(struct soft_vm *vm, const uint8_t *bytes, unsigned n, unsigned code,
		      struct soft_insn *ret, bool *ret_short);
/* soft_insn.writes, as its operands are now. */
uint16_t soft_written_gprs(const struct soft_insn *insn);
int soft_decoder_init(struct soft_vcpu *v);
void soft_decoder_fini(struct soft_vcpu *v);
/* Effective address of memory operand op[i]: segment, offset (wrapped to the address size). */
void soft_ea(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, unsigned *ret_seg,
	     uint64_t *ret_offset);
/* The same, through segmentation, to a linear address; size from the operand. */
int soft_operand_la(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, bool write,
		    uint64_t *ret_la);
/* Reads / writes operand op[i] (register, memory, immediate) of up to 8 bytes as an integer.
 * Register writes follow the 32-bit zero extension rule. */
int soft_read_operand(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, uint64_t *val);
int soft_write_operand(struct soft_vcpu *v, const struct soft_insn *insn, unsigned i, uint64_t val);
/* Pushes / pops with the stack's width for addressing. */
int soft_push(struct soft_vcpu *v, uint64_t val, unsigned size);
int soft_pop(struct soft_vcpu *v, uint64_t *val, unsigned size);
/* #NM / #UD checks of FP instructions against CR0, CR4, XCR0. */
int soft_fp_check(struct soft_vcpu *v, const struct soft_insn *insn);
extern const struct soft_op soft_step_ops[];   /* ends with fn NULL */
extern const struct soft_op soft_system_ops[]; /* the same; owner SYS */

/* What MOV, JMP, CALL and RET are when an operand is a control or debug register, or the branch is
 * far (transfer.c, system_cr.c: GENERAL, owner SYS): decode.c or the MOV/JMP/CALL/RET operation
 * calls them. */
int soft_op_mov_system(struct soft_vcpu *v, const struct soft_insn *insn); /* MOV with CRn, DRn */
int soft_op_jmp_far(struct soft_vcpu *v, const struct soft_insn *insn);
int soft_op_call_far(struct soft_vcpu *v, const struct soft_insn *insn);
int soft_op_ret_far(struct soft_vcpu *v, const struct soft_insn *insn);
/* I/O permission (IOPL, else the TSS's bitmap): SOFT_OK, SOFT_EXCEPTION (#GP(0), #PF), SOFT_EXIT. */
int soft_io_allowed(struct soft_vcpu *v, uint16_t port, unsigned size);
/* CPUID leaf 0x15 names it and the local APIC timer counts at it (before its divider). */
#define SOFT_CRYSTAL_HZ 25000000u

/* --- system (system*.c msr.c cpuid.c, owner SYS) -------------------------------------------- */
int soft_read_msr(struct soft_vcpu *v, uint32_t index, uint64_t *ret_value); /* SOFT_EXCEPTION #GP */
int soft_write_msr(struct soft_vcpu *v, uint32_t index, uint64_t value);
int soft_cpuid_create(struct soft_vm *vm);
void soft_cpuid_destroy(struct soft_vm *vm);
void soft_cpuid(struct soft_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]); /* GENERAL */
bool soft_isa_allowed(struct soft_vm *vm, const ZydisDecodedInstruction *zi);
uint64_t soft_xcr0_offered(struct soft_vm *vm); /* XCR0 bits the guest may set */
/* Power-on / INIT state of registers (SDM 3A table 9-1). */
void soft_cpu_reset(struct soft_vcpu *v, bool init);
int soft_write_cr(struct soft_vcpu *v, unsigned cr, uint64_t value); /* all checks; 0 2 3 4 8 */

/* --- local APIC, events, glue (lapic.c timer.c soft.c state.c, owner MMU) ------------------- */
void soft_lapic_reset(struct soft_vcpu *v);
int soft_lapic_mmio(struct soft_vcpu *v, uint32_t offset, unsigned size, bool write,
		    uint64_t *data); /* xAPIC page; SOFT_OK, or SOFT_EXIT for a level EOI */
int soft_lapic_msr(struct soft_vcpu *v, uint32_t index, bool write, uint64_t *value); /* x2APIC,
	TSC_DEADLINE, APIC_BASE; SOFT_EXCEPTION #GP */
uint64_t soft_lapic_get_cr8(struct soft_vcpu *v);
void soft_lapic_set_cr8(struct soft_vcpu *v, uint64_t value);
static inline uint64_t soft_rdtsc(const struct soft_vcpu *v)
{
	return __builtin_ia32_rdtsc() + v->tsc_offset;
}
/* Parks all other vCPUs at a point between two instructions (exclusive_begin returns when they
 * are; v may be NULL from a thread without vCPU). Not GENERAL; saves v's FP state. */
void soft_exclusive_begin(struct soft_vm *vm, struct soft_vcpu *v);
void soft_exclusive_end(struct soft_vm *vm, struct soft_vcpu *v);
void soft_request(struct soft_vcpu *v, uint32_t req_bits); /* sets exit_req and wakes it */
/* Lets the host run something else, parked. Saves the FP state. (exclusive.c) */
void soft_yield(struct soft_vcpu *v);

#endif
