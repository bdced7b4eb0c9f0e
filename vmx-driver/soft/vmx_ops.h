/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx_ops.h - VMX operation: controls, numbers, and what the vmx_*.c files offer each other and the
 * operations of other files (SDM 3C chapters 24-31). All of it GENERAL.
 *
 * Non-root operation is no mode of the executors. An instruction that may exit is always an
 * operation in C; it asks soft_nonroot(v) and returns soft_vmx_exit(): v->vmexit says why, and
 * SOFT_VMEXIT goes up to the resume loop, which carries the exit out (soft_vmx_leave()) when nothing
 * of what was being done is left on the way.
 */
#ifndef VMX_SOFT_VMX_OPS_H
#define VMX_SOFT_VMX_OPS_H

#include "vmx-driver/soft/soft.h"

#define VMX_BIT(n) (1u << (n))
enum { /* pin-based controls */
	PIN_EXTERNAL = VMX_BIT(0), PIN_NMI = VMX_BIT(3), PIN_VIRTUAL_NMI = VMX_BIT(5),
	PIN_TIMER = VMX_BIT(6), PIN_POSTED = VMX_BIT(7),
};
#define PROC_SECONDARY VMX_BIT(31)
enum { /* primary processor-based controls */
	PROC_INTERRUPT_WINDOW = VMX_BIT(2), PROC_TSC_OFFSET = VMX_BIT(3), PROC_HLT = VMX_BIT(7),
	PROC_INVLPG = VMX_BIT(9), PROC_MWAIT = VMX_BIT(10), PROC_RDPMC = VMX_BIT(11),
	PROC_RDTSC = VMX_BIT(12), PROC_CR3_LOAD = VMX_BIT(15), PROC_CR3_STORE = VMX_BIT(16),
	PROC_CR8_LOAD = VMX_BIT(19), PROC_CR8_STORE = VMX_BIT(20), PROC_TPR_SHADOW = VMX_BIT(21),
	PROC_NMI_WINDOW = VMX_BIT(22), PROC_MOV_DR = VMX_BIT(23), PROC_IO = VMX_BIT(24),
	PROC_IO_BITMAPS = VMX_BIT(25), PROC_MTF = VMX_BIT(27), PROC_MSR_BITMAPS = VMX_BIT(28),
	PROC_MONITOR = VMX_BIT(29), PROC_PAUSE = VMX_BIT(30),
};
enum { /* secondary processor-based controls */
	PROC2_APIC_ACCESS = VMX_BIT(0), PROC2_EPT = VMX_BIT(1), PROC2_TABLES = VMX_BIT(2),
	PROC2_RDTSCP = VMX_BIT(3), PROC2_X2APIC = VMX_BIT(4), PROC2_VPID = VMX_BIT(5),
	PROC2_WBINVD = VMX_BIT(6), PROC2_UNRESTRICTED = VMX_BIT(7),
	PROC2_APIC_REGISTERS = VMX_BIT(8), PROC2_INTERRUPT_DELIVERY = VMX_BIT(9),
	PROC2_PAUSE_LOOP = VMX_BIT(10), PROC2_RDRAND = VMX_BIT(11), PROC2_INVPCID = VMX_BIT(12),
	PROC2_VMFUNC = VMX_BIT(13), PROC2_SHADOW_VMCS = VMX_BIT(14), PROC2_ENCLS = VMX_BIT(15),
	PROC2_RDSEED = VMX_BIT(16), PROC2_PML = VMX_BIT(17), PROC2_VE = VMX_BIT(18),
	PROC2_XSAVES = VMX_BIT(20),
};
enum { /* VM-exit controls */
	EXIT_SAVE_DEBUG = VMX_BIT(2), EXIT_HOST_LONG = VMX_BIT(9), EXIT_LOAD_PERF = VMX_BIT(12),
	EXIT_ACK_INTERRUPT = VMX_BIT(15), EXIT_SAVE_PAT = VMX_BIT(18), EXIT_LOAD_PAT = VMX_BIT(19),
	EXIT_SAVE_EFER = VMX_BIT(20), EXIT_LOAD_EFER = VMX_BIT(21), EXIT_SAVE_TIMER = VMX_BIT(22),
};
enum { /* VM-entry controls */
	ENTRY_LOAD_DEBUG = VMX_BIT(2), ENTRY_LONG = VMX_BIT(9), ENTRY_SMM = VMX_BIT(10),
	ENTRY_DUAL_MONITOR = VMX_BIT(11), ENTRY_LOAD_PERF = VMX_BIT(13),
	ENTRY_LOAD_PAT = VMX_BIT(14), ENTRY_LOAD_EFER = VMX_BIT(15),
};

enum vmx_reason { /* basic exit reasons (appendix C) */
	REASON_EXCEPTION = 0, REASON_EXTERNAL = 1, REASON_TRIPLE_FAULT = 2, REASON_INIT = 3,
	REASON_SIPI = 4, REASON_INTERRUPT_WINDOW = 7, REASON_NMI_WINDOW = 8,
	REASON_TASK_SWITCH = 9, REASON_CPUID = 10, REASON_GETSEC = 11, REASON_HLT = 12,
	REASON_INVD = 13, REASON_INVLPG = 14, REASON_RDPMC = 15, REASON_RDTSC = 16,
	REASON_RSM = 17, REASON_VMCALL = 18, REASON_VMCLEAR = 19, REASON_VMLAUNCH = 20,
	REASON_VMPTRLD = 21, REASON_VMPTRST = 22, REASON_VMREAD = 23, REASON_VMRESUME = 24,
	REASON_VMWRITE = 25, REASON_VMXOFF = 26, REASON_VMXON = 27, REASON_CR = 28, REASON_DR = 29,
	REASON_IO = 30, REASON_RDMSR = 31, REASON_WRMSR = 32, REASON_BAD_GUEST = 33,
	REASON_BAD_MSR = 34, REASON_MWAIT = 36, REASON_MTF = 37, REASON_MONITOR = 39,
	REASON_PAUSE = 40, REASON_TPR = 43, REASON_APIC_ACCESS = 44, REASON_EOI = 45,
	REASON_GDTR_IDTR = 46, REASON_LDTR_TR = 47, REASON_EPT_VIOLATION = 48,
	REASON_EPT_MISCONFIG = 49, REASON_INVEPT = 50, REASON_RDTSCP = 51, REASON_TIMER = 52,
	REASON_INVVPID = 53, REASON_WBINVD = 54, REASON_XSETBV = 55, REASON_APIC_WRITE = 56,
	REASON_RDRAND = 57, REASON_INVPCID = 58, REASON_VMFUNC = 59, REASON_RDSEED = 61,
	REASON_PML_FULL = 62, REASON_XSAVES = 63, REASON_XRSTORS = 64,
};
#define REASON_ENTRY_FAILED (1u << 31)

enum vmx_error { /* VM-instruction errors (31.4) */
	VMERR_VMCALL_ROOT = 1, VMERR_VMCLEAR_ADDRESS = 2, VMERR_VMCLEAR_VMXON = 3,
	VMERR_LAUNCH_NOT_CLEAR = 4, VMERR_RESUME_NOT_LAUNCHED = 5, VMERR_CONTROLS = 7,
	VMERR_HOST_STATE = 8, VMERR_VMPTRLD_ADDRESS = 9, VMERR_VMPTRLD_VMXON = 10,
	VMERR_VMPTRLD_REVISION = 11, VMERR_FIELD = 12, VMERR_READ_ONLY = 13, VMERR_VMXON_ROOT = 15,
	VMERR_MOV_SS = 26, VMERR_INVALIDATE = 28,
};

enum vmx_abort { /* 28.7 */
	ABORT_SAVE_MSR = 1, ABORT_HOST_PDPTE = 2, ABORT_LOAD_MSR = 4, ABORT_HOST_LONG = 6,
};

enum { /* events: entry field, exit interruption information, IDT-vectoring information */
	EVENT_VECTOR = 0xff,
	EVENT_TYPE = 7u << 8,
	EVENT_ERROR = 1u << 11,
	EVENT_IRET_UNBLOCKED = 1u << 12,
	QUALIFY_IRET_UNBLOCKED = 1u << 12, /* the same in exit qualifications */
};
#define EVENT_VALID (1u << 31)
enum { /* their types */
	TYPE_EXTERNAL = 0u << 8, TYPE_NMI = 2u << 8, TYPE_EXCEPTION = 3u << 8,
	TYPE_SOFT_INT = 4u << 8, TYPE_INT1 = 5u << 8, TYPE_SOFT_EXCEPTION = 6u << 8,
	TYPE_OTHER = 7u << 8,
};

enum { /* guest interruptibility state */
	BLOCK_STI = 1u << 0, BLOCK_MOV_SS = 1u << 1, BLOCK_SMI = 1u << 2, BLOCK_NMI = 1u << 3,
	BLOCK_ALL = 0xf,
};
enum { ACTIVITY_ACTIVE = 0, ACTIVITY_HLT = 1, ACTIVITY_SHUTDOWN = 2, ACTIVITY_SIPI = 3 };
#define RIGHTS_UNUSABLE (1u << 16)

#define MISC_WRITE_ALL (1ull << 29) /* IA32_VMX_MISC: VMWRITE knows no read-only fields */

/* --- what is offered (vmx_caps.c) ----------------------------------------------------------- */

/* cr4_mask: CR4 bits that the VM's processor has; xsaves: it has XSAVES. */
void soft_vmx_caps_init(struct soft_vmx_caps *caps, bool offered, uint64_t cr4_mask, bool xsaves);
/* IA32_VMX_BASIC .. IA32_VMX_VMFUNC (0x480-0x491): false: no such MSR. */
bool soft_vmx_read_msr(const struct soft_vcpu *v, uint32_t index, uint64_t *ret_value);
static inline const struct soft_vmx_caps *soft_vmx_caps(const struct soft_vcpu *v)
{
	return &soft_vm_of(v)->vmx_caps;
}

/* --- asking --------------------------------------------------------------------------------- */

static inline bool soft_nonroot(const struct soft_vcpu *v)
{
	return __builtin_expect(v->nonroot, 0);
}
/* In non-root operation with any of these primary / secondary controls. */
static inline bool soft_vmx_proc(const struct soft_vcpu *v, uint32_t bits)
{
	return soft_nonroot(v) && (v->vmx.proc & bits);
}
static inline bool soft_vmx_proc2(const struct soft_vcpu *v, uint32_t bits)
{
	return soft_nonroot(v) && (v->vmx.proc2 & bits);
}
static inline bool soft_vmx_pin(const struct soft_vcpu *v, uint32_t bits)
{
	return soft_nonroot(v) && (v->vmx.pin & bits);
}

/* --- VM exits (vmx_exit.c) ------------------------------------------------------------------ */

/* Asks for an exit: SOFT_VMEXIT. v->rip is what will be saved as RIP, v->next_rip - v->rip the
 * instruction's length. The caller may fill the rest of v->vmexit afterwards. */
static inline int soft_vmx_exit(struct soft_vcpu *v, uint32_t reason, uint64_t qualification)
{
	v->vmexit = (struct soft_vmexit){
		.reason = reason,
		.qualification = qualification,
		.host_tsc = v->vmx.vmcs.exit_store_count ? __builtin_ia32_rdtsc() : 0,
	};
	return SOFT_VMEXIT;
}
/* Carries out what v->vmexit asks for: saves the guest's state and the exit information (the event
 * being delivered, if any, becomes the IDT-vectoring information), loads the host's state. Resume
 * loop only. SOFT_AGAIN, or SOFT_SHUTDOWN after a VM abort. */
int soft_vmx_leave(struct soft_vcpu *v);

/* --- VM entry (vmx_entry.c, vmx_check_*.c) --------------------------------------------------- */

/* 26.8: the entry ends with this exit reason, the host's state is loaded. SOFT_AGAIN, SOFT_SHUTDOWN. */
int soft_vmx_entry_failed(struct soft_vcpu *v, uint32_t reason, uint64_t qualification);
uint16_t soft_vmx_vpid(const struct soft_vcpu *v); /* of the VMCS, 0: VPIDs are not in use */
bool soft_vmx_eptp_ok(const struct soft_vcpu *v, uint64_t eptp);
bool soft_vmx_pat_ok(uint64_t pat);
/* Checks; 0 or the VM-instruction error. */
unsigned soft_vmx_check_controls(struct soft_vcpu *v);
unsigned soft_vmx_check_host(struct soft_vcpu *v);
/* True, or false with the exit qualification. */
bool soft_vmx_check_guest(struct soft_vcpu *v, uint64_t *ret_qualification);
/* VMLAUNCH and VMRESUME after their own checks. */
int soft_vmx_enter(struct soft_vcpu *v);
/* Loads an MSR list; 0, or 1 + the index of the entry that failed. entry: of a VM entry. */
unsigned soft_vmx_load_msrs(struct soft_vcpu *v, uint64_t list, uint32_t count);
/* tsc: the processor's at the moment of the exit. */
bool soft_vmx_store_msrs(struct soft_vcpu *v, uint64_t list, uint32_t count, uint64_t tsc);

/* --- instructions (vmx_insn.c) --------------------------------------------------------------- */

extern const struct soft_op soft_vmx_op_table[]; /* ends with fn NULL; for VMs that offer VMX */
/* Writes the current VMCS back to guest memory, if it is newer. */
void soft_vmx_flush(struct soft_vcpu *v);
/* VMX off, as after reset. */
void soft_vmx_reset(struct soft_vcpu *v);
/* VMX_STATE_NESTED (vmx_state.c). Size 0: VMX is not offered. False: not a possible state. */
size_t soft_vmx_state_size(const struct soft_vcpu *v);
void soft_vmx_state_read(struct soft_vcpu *v, void *buf);
bool soft_vmx_state_write(struct soft_vcpu *v, const void *buf);
/* Physical-address check of pointers in instructions and fields: aligned to `align`, within
 * MAXPHYADDR. */
bool soft_vmx_address_ok(const struct soft_vcpu *v, uint64_t gpa, unsigned align);

/* --- events (vmx_event.c) -------------------------------------------------------------------- */

/* Notes the event whose delivery begins (it becomes IDT-vectoring information should the delivery
 * exit); soft_vmx_delivered() when it is through. */
static inline void soft_vmx_delivering(struct soft_vcpu *v, uint32_t event, uint32_t error)
{
	v->vmx.idt_event = event | EVENT_VALID;
	v->vmx.idt_error = error;
}
static inline void soft_vmx_delivered(struct soft_vcpu *v)
{
	v->vmx.idt_event = 0;
	v->vmx.nmi_unblocked_by_iret = false;
}
/* Would v->exc (with its final vector) exit? Then does so: SOFT_VMEXIT; else SOFT_OK. */
int soft_vmx_intercept_exception(struct soft_vcpu *v, uint32_t type);
/* Exits that are due between two instructions, before NMIs are looked at (MTF, TPR threshold, timer,
 * NMI window); between those and external interrupts the interrupt window. SOFT_VMEXIT, or SOFT_OK. */
int soft_vmx_between(struct soft_vcpu *v);
int soft_vmx_interrupt_window(struct soft_vcpu *v);
/* Exits by an NMI and by an interrupt (vector -1: not acknowledged). */
int soft_vmx_nmi(struct soft_vcpu *v);
int soft_vmx_external(struct soft_vcpu *v, int vector);
/* An instruction completed, or an event was delivered: the monitor trap flag wants to know. */
void soft_vmx_stepped(struct soft_vcpu *v);
/* The last step of an entry, the first one of an exit: timers and the like. */
void soft_vmx_event_enter(struct soft_vcpu *v);
void soft_vmx_event_leave(struct soft_vcpu *v);

/* --- intercepts of instructions (vmx_intercept.c). In non-root operation only. ---------------- */

/* An exit with instruction information and the displacement of the memory operand as qualification
 * (27.2.5). info: bits that the operands do not say. */
int soft_vmx_exit_operands(struct soft_vcpu *v, const struct soft_insn *insn, uint32_t reason,
			   uint32_t info);
/* A bit in a page of guest memory; true where there is none. */
bool soft_vmx_bitmap_bit(struct soft_vcpu *v, uint64_t page, unsigned bit);
/* These: SOFT_OK: go on with the instruction. */
/* Port access by IN, OUT, INS, OUTS. */
int soft_vmx_intercept_io(struct soft_vcpu *v, uint16_t port, unsigned size, bool in,
			  const struct soft_insn *insn);
int soft_vmx_intercept_msr(struct soft_vcpu *v, uint32_t index, bool write);
/* MOV to and from control registers. CR0 and CR4: *value becomes what the guest may write, or sees. */
int soft_vmx_intercept_cr_write(struct soft_vcpu *v, unsigned cr, unsigned gpr, uint64_t *value);
int soft_vmx_intercept_cr_read(struct soft_vcpu *v, unsigned cr, unsigned gpr, uint64_t *value);
/* *ret_skip: TS stays as it is. */
int soft_vmx_intercept_clts(struct soft_vcpu *v, bool *ret_skip);
/* The source operand; gla: its linear address, if it is in memory. */
int soft_vmx_intercept_lmsw(struct soft_vcpu *v, const struct soft_insn *insn, uint64_t gla,
			    uint64_t *value);
int soft_vmx_intercept_dr(struct soft_vcpu *v, unsigned dr, unsigned gpr, bool read);

#endif
