/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.h - what the files of the system operations share: segment descriptors, privilege checks,
 * stack frames, task switches. All of it GENERAL (see soft.h).
 */
#ifndef VMX_SOFT_SYS_H
#define VMX_SOFT_SYS_H

#include "vmx-driver/soft/soft.h"

enum { /* vmx_segment.attributes, as in a descriptor's bits 40-47 and 52-55 */
	SEG_TYPE = 0xf,
	SEG_ACCESSED = 0x1,
	SEG_RW = 0x2,         /* data: writable; code: readable */
	SEG_EC = 0x4,         /* data: expands down; code: conforming */
	SEG_CODE = 0x8,
	SEG_S = 0x10,
	SEG_DPL = 0x60,
	SEG_P = 0x80,
	SEG_L = 1 << 13,
	SEG_DB = 1 << 14,
	SEG_G = 1 << 15,
};
enum { /* system descriptor types */
	SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK = 5, SYS_INT16 = 6,
	SYS_TRAP16 = 7, SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL32 = 12, SYS_INT32 = 14,
	SYS_TRAP32 = 15,
};

#define FL_FIXED 2u
/* Every flag that exists. */
#define FL_ALL (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | \
		FL_VIF | FL_VIP | FL_ID)

struct sys_desc {
	uint64_t lo, hi; /* hi: only of 16-byte descriptors */
	uint64_t la;
	uint16_t selector;
};

/* Values in byte arrays. */
static inline uint64_t sys_get(const void *at, unsigned size)
{
	if (size == 8)
		return *(const soft_u64 *)at;
	if (size == 4)
		return *(const soft_u32 *)at;
	return *(const soft_u16 *)at;
}
static inline void sys_put(void *at, unsigned size, uint64_t value)
{
	if (size == 8)
		*(soft_u64 *)at = value;
	else if (size == 4)
		*(soft_u32 *)at = (uint32_t)value;
	else
		*(soft_u16 *)at = (uint16_t)value;
}
static inline int sys_done(struct soft_vcpu *v)
{
	v->rip = v->next_rip;
	return SOFT_OK;
}
static inline int sys_ud(struct soft_vcpu *v)
{
	return soft_raise(v, EXC_UD);
}
static inline int sys_gp0(struct soft_vcpu *v)
{
	return soft_raise_error(v, EXC_GP, 0);
}
static inline bool sys_vm86(const struct soft_vcpu *v)
{
	return v->rflags & FL_VM;
}
/* Protected mode, vm86 excluded. */
static inline bool sys_protected(const struct soft_vcpu *v)
{
	return (v->cr0 & CR0_PE) && !(v->rflags & FL_VM);
}
static inline bool sys_long(const struct soft_vcpu *v)
{
	return v->efer & EFER_LMA;
}
static inline bool sys_code64(const struct soft_vcpu *v)
{
	return (v->mode & MODE_CODE) == CODE_64;
}
static inline unsigned sys_iopl(const struct soft_vcpu *v)
{
	return (v->rflags >> 12) & 3;
}
static inline bool sys_canonical(uint64_t la)
{
	return (uint64_t)((int64_t)(la << 16) >> 16) == la;
}
static inline unsigned sys_dpl(uint32_t attributes)
{
	return (attributes >> 5) & 3;
}
static inline uint32_t sys_attr(uint64_t desc)
{
	return ((desc >> 40) & 0xff) | ((desc >> 40) & 0xf000);
}
/* Is there an optional exit of that kind (VMX_OPT_*)? */
static inline bool sys_opt(const struct soft_vcpu *v, uint32_t option)
{
	return v->v.vm->exit_options.optional & option;
}
/* The caller of resume answered the exit that this operation asked for. */
static inline bool sys_answered(struct soft_vcpu *v, enum vmx_exit_reason reason)
{
	if (v->exit_answered != (uint8_t)reason)
		return false;
	v->exit_answered = VMX_EXIT_NONE;
	return true;
}
static inline int sys_exit(struct soft_vcpu *v, enum vmx_exit_reason reason)
{
	v->exit_request.reason = reason;
	return SOFT_EXIT;
}

/* segment.c */
/* Fills a descriptor cache from an 8-byte code, data or 8/16-byte system descriptor. */
void sys_unpack(struct vmx_segment *s, uint16_t selector, uint64_t lo, uint64_t hi);
void sys_null_segment(struct vmx_segment *s, uint16_t selector);
void sys_real_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector);
/* Reads a descriptor; outside its table: `vector`(selector | ext). wide: 16 bytes. */
int sys_read_desc(struct soft_vcpu *v, uint16_t selector, unsigned vector, unsigned ext, bool wide,
		  struct sys_desc *ret);
/* Sets the accessed bit where it is clear. */
int sys_mark_accessed(struct soft_vcpu *v, struct sys_desc *d);
/* soft_linear() for a segment that need not be loaded: faults with vector(error). */
int sys_linear(struct soft_vcpu *v, const struct vmx_segment *s, bool code64, unsigned vector,
	       uint32_t error, uint64_t offset, unsigned size, bool write, uint64_t *ret_la);
/* Checks a descriptor for SS at privilege cpl: `vector`(sel|ext) or #SS(sel|ext); marks it. */
int sys_check_ss(struct soft_vcpu *v, struct sys_desc *d, unsigned cpl, unsigned vector,
		 unsigned ext);
/* Is the offset inside the code segment (or canonical, if it is a 64-bit one)? */
bool sys_code_offset_ok(const struct soft_vcpu *v, const struct vmx_segment *cs, uint64_t offset);
/* Data segments that the new, outer privilege may not use become null (far RET, IRET). */
void sys_drop_segments(struct soft_vcpu *v);

/* frame.c */
#define SYS_FRAME_MAX 40u /* a call gate copies up to 31 parameters */
struct sys_stack { /* a stack that need not be the current one */
	struct vmx_segment ss;
	uint64_t sp;
	bool code64;     /* 64-bit: no segmentation */
	unsigned access; /* ACC_* for soft_write */
	uint32_t error;  /* of #SS */
};
/* Stores n values of `size` bytes below stack->sp, val[0] at the highest address, and moves sp.
 * Writes all or nothing. */
int sys_push_frame(struct soft_vcpu *v, struct sys_stack *stack, const uint64_t *val, unsigned n,
		   unsigned size);
/* The current stack. */
void sys_current_stack(const struct soft_vcpu *v, struct sys_stack *ret);
/* Writes back sp to the stack pointer register by the stack's width. */
void sys_set_sp(struct soft_vcpu *v, const struct vmx_segment *ss, bool code64, uint64_t sp);
/* SS:SP for privilege cpl from the TSS (ist: 0 none, 64-bit only). ret->ss is checked and unpacked
 * (64-bit: null with that RPL). */
int sys_tss_stack(struct soft_vcpu *v, unsigned cpl, unsigned ist, unsigned ext,
		  struct sys_stack *ret);

/* gate.c */
struct sys_event {
	uint8_t vector;
	bool has_error;
	bool software;  /* INT n, INT3, INTO: the gate's DPL counts */
	uint8_t ext;    /* EXT bit of error codes raised by the delivery */
	uint32_t error;
	uint64_t rip;   /* to push */
	uint64_t rflags; /* to push */
};
/* Through the IDT (real mode: the IVT) to the handler: checks, stack, frame, privilege, flags.
 * SOFT_OK, SOFT_EXIT, or SOFT_EXCEPTION (then the guest's registers are as before, but after a task
 * switch). Starts the access log anew. */
int sys_deliver(struct soft_vcpu *v, const struct sys_event *e);

/* task.c */
enum sys_task_reason { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
/* Switches to the TSS that the descriptor names. A fault before the switch is restartable; one
 * after it is raised in the new task (SDM 3A 8.3), v->rip then is there. */
int sys_task_switch(struct soft_vcpu *v, uint16_t selector, enum sys_task_reason reason,
		    bool has_error, uint32_t error, uint64_t old_rip, unsigned ext);
/* Through a task gate descriptor (already checked for privilege and presence). */
int sys_task_gate(struct soft_vcpu *v, uint64_t gate, enum sys_task_reason reason, bool has_error,
		  uint32_t error, uint64_t old_rip, unsigned ext);

/* system_cr.c */
int sys_load_pdptes(struct soft_vcpu *v, uint64_t cr3); /* SOFT_OK, #GP(0) or SOFT_VMEXIT */
void sys_set_flags(struct soft_vcpu *v, uint64_t value, uint64_t mask); /* RFLAGS bits of mask */

/* msr.c: as soft_read_msr() and soft_write_msr(), but SOFT_AGAIN for an MSR that is not known. */
int sys_read_msr(struct soft_vcpu *v, uint32_t index, uint64_t *ret_value);
int sys_write_msr(struct soft_vcpu *v, uint32_t index, uint64_t value);

/* The operations that system_ops.c puts into soft_system_ops[]. */
/* transfer.c */
soft_op_fn sys_op_iret;
/* syscall.c */
soft_op_fn sys_op_int, sys_op_int1, sys_op_int3, sys_op_into, sys_op_swapgs, sys_op_syscall,
	sys_op_sysenter, sys_op_sysexit, sys_op_sysret;
/* system_cr.c */
soft_op_fn sys_op_clts, sys_op_lmsw, sys_op_smsw;
/* system_table.c */
soft_op_fn sys_op_arpl, sys_op_lar, sys_op_lgdt, sys_op_lidt, sys_op_lldt, sys_op_lsl,
	sys_op_ltr, sys_op_sgdt, sys_op_sidt, sys_op_sldt, sys_op_str, sys_op_verr, sys_op_verw;
/* system.c */
soft_op_fn sys_op_clac, sys_op_cli, sys_op_cpuid, sys_op_hlt, sys_op_pause, sys_op_hypercall, sys_op_in,
	sys_op_invlpg, sys_op_invpcid, sys_op_out, sys_op_popf, sys_op_rdfsbase, sys_op_rdgsbase,
	sys_op_rdmsr, sys_op_rdpid, sys_op_rdpmc, sys_op_rdtsc, sys_op_rdtscp, sys_op_stac,
	sys_op_sti, sys_op_ud, sys_op_wbinvd, sys_op_wrfsbase, sys_op_wrgsbase, sys_op_wrmsr;
/* xsave.c */
soft_op_fn sys_op_xsave, sys_op_xsavec, sys_op_xsaves, sys_op_xrstor, sys_op_xrstors, sys_op_fxsave, sys_op_fxrstor,
	sys_op_xgetbv, sys_op_xsetbv;

/* cpuid_guest.c */
struct soft_cpuid_leaf {
	uint32_t leaf, subleaf;
	uint32_t reg[4]; /* eax ebx ecx edx */
};
#define SOFT_CPUID_LEAVES 64u
struct soft_cpuid {
	unsigned count;
	struct soft_cpuid_leaf leaf[SOFT_CPUID_LEAVES];
	uint64_t xcr0;       /* what the guest may set */
	uint64_t cr4_mask;   /* CR4 bits that exist */
	uint64_t efer_mask;
	uint64_t phys_mask;  /* physical address bits */
	uint64_t arch_capabilities;
	uint32_t mxcsr_mask;
	uint32_t signature;  /* leaf 1 EAX */
	/* isa sets that the guest is offered, by ZydisISASet */
	uint8_t isa[ZYDIS_ISA_SET_MAX_VALUE + 1];
};
static inline const struct soft_cpuid *sys_cpuid(const struct soft_vcpu *v)
{
	return soft_vm_of(v)->cpuid;
}

#endif
