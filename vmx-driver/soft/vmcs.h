/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmcs.h - the virtual-machine control structure and a vCPU's VMX state (SDM 3C chapter 25,
 * appendix B). GENERAL.
 *
 * One table, VMCS_TABLE, says all about the fields: their members here, their encodings, their
 * widths, and which control has to exist for VMREAD and VMWRITE to know them.
 *
 * The current VMCS lives in v->vmx.vmcs; guest memory has it as it was when VMPTRLD loaded it, until
 * VMCLEAR, VMXOFF, the VMPTRLD of another, or a look at the state from outside writes it back.
 */
#ifndef VMX_SOFT_VMCS_H
#define VMX_SOFT_VMCS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A control: its word and its bit. A field's `need`, 0: always there. */
enum vmx_word { VMX_PIN, VMX_PROC, VMX_PROC2, VMX_EXIT_CTLS, VMX_ENTRY_CTLS, VMX_WORDS };
#define VMX_NEED(word, bit) ((word) * 32 + (bit) + 1)

/* ONE(width, member, encoding, need), SEQ(width, member, count, encoding of the first, need);
 * width: 16, 32, 64, N (natural: 64 bits here). */
#define VMCS_TABLE(ONE, SEQ) \
	/* 16 bits: control, guest, host */ \
	ONE(16, vpid, 0x0000, VMX_NEED(VMX_PROC2, 5)) \
	ONE(16, posted_vector, 0x0002, VMX_NEED(VMX_PIN, 7)) \
	SEQ(16, guest_selector, 8, 0x0800, 0) /* SOFT_ES .. SOFT_TR */ \
	ONE(16, guest_interrupt_status, 0x0810, VMX_NEED(VMX_PROC2, 9)) \
	ONE(16, pml_index, 0x0812, VMX_NEED(VMX_PROC2, 17)) \
	SEQ(16, host_selector, 6, 0x0c00, 0) /* ES .. GS */ \
	ONE(16, host_tr_selector, 0x0c0c, 0) \
	/* 64 bits: control */ \
	SEQ(64, io_bitmap, 2, 0x2000, 0) \
	ONE(64, msr_bitmap, 0x2004, VMX_NEED(VMX_PROC, 28)) \
	ONE(64, exit_msr_store, 0x2006, 0) \
	ONE(64, exit_msr_load, 0x2008, 0) \
	ONE(64, entry_msr_load, 0x200a, 0) \
	ONE(64, executive, 0x200c, 0) \
	ONE(64, pml_address, 0x200e, VMX_NEED(VMX_PROC2, 17)) \
	ONE(64, tsc_offset, 0x2010, 0) \
	ONE(64, virtual_apic, 0x2012, VMX_NEED(VMX_PROC, 21)) \
	ONE(64, apic_access, 0x2014, VMX_NEED(VMX_PROC2, 0)) \
	ONE(64, posted_descriptor, 0x2016, VMX_NEED(VMX_PIN, 7)) \
	ONE(64, vmfunc_controls, 0x2018, VMX_NEED(VMX_PROC2, 13)) \
	ONE(64, eptp, 0x201a, VMX_NEED(VMX_PROC2, 1)) \
	SEQ(64, eoi_exit, 4, 0x201c, VMX_NEED(VMX_PROC2, 9)) \
	ONE(64, eptp_list, 0x2024, VMX_NEED(VMX_PROC2, 13)) \
	ONE(64, vmread_bitmap, 0x2026, VMX_NEED(VMX_PROC2, 14)) \
	ONE(64, vmwrite_bitmap, 0x2028, VMX_NEED(VMX_PROC2, 14)) \
	ONE(64, xss_exiting, 0x202c, VMX_NEED(VMX_PROC2, 20)) \
	/* 64 bits: read-only, guest, host */ \
	ONE(64, guest_physical, 0x2400, VMX_NEED(VMX_PROC2, 1)) \
	ONE(64, link_pointer, 0x2800, 0) \
	ONE(64, guest_debugctl, 0x2802, 0) \
	ONE(64, guest_pat, 0x2804, VMX_NEED(VMX_ENTRY_CTLS, 14)) \
	ONE(64, guest_efer, 0x2806, VMX_NEED(VMX_ENTRY_CTLS, 15)) \
	SEQ(64, guest_pdpte, 4, 0x280a, VMX_NEED(VMX_PROC2, 1)) \
	ONE(64, host_pat, 0x2c00, VMX_NEED(VMX_EXIT_CTLS, 19)) \
	ONE(64, host_efer, 0x2c02, VMX_NEED(VMX_EXIT_CTLS, 21)) \
	/* 32 bits: control */ \
	ONE(32, pin, 0x4000, 0) \
	ONE(32, proc, 0x4002, 0) \
	ONE(32, exception_bitmap, 0x4004, 0) \
	ONE(32, pf_mask, 0x4006, 0) \
	ONE(32, pf_match, 0x4008, 0) \
	ONE(32, cr3_target_count, 0x400a, 0) \
	ONE(32, exit_ctls, 0x400c, 0) \
	ONE(32, exit_store_count, 0x400e, 0) \
	ONE(32, exit_load_count, 0x4010, 0) \
	ONE(32, entry_ctls, 0x4012, 0) \
	ONE(32, entry_load_count, 0x4014, 0) \
	ONE(32, entry_event, 0x4016, 0) \
	ONE(32, entry_event_error, 0x4018, 0) \
	ONE(32, entry_insn_len, 0x401a, 0) \
	ONE(32, tpr_threshold, 0x401c, VMX_NEED(VMX_PROC, 21)) \
	ONE(32, proc2, 0x401e, VMX_NEED(VMX_PROC, 31)) \
	ONE(32, ple_gap, 0x4020, VMX_NEED(VMX_PROC2, 10)) \
	ONE(32, ple_window, 0x4022, VMX_NEED(VMX_PROC2, 10)) \
	/* 32 bits: read-only, guest, host */ \
	ONE(32, insn_error, 0x4400, 0) \
	ONE(32, exit_reason, 0x4402, 0) \
	ONE(32, exit_event, 0x4404, 0) \
	ONE(32, exit_event_error, 0x4406, 0) \
	ONE(32, idt_event, 0x4408, 0) \
	ONE(32, idt_event_error, 0x440a, 0) \
	ONE(32, exit_insn_len, 0x440c, 0) \
	ONE(32, exit_insn_info, 0x440e, 0) \
	SEQ(32, guest_limit, 8, 0x4800, 0) \
	ONE(32, guest_gdtr_limit, 0x4810, 0) \
	ONE(32, guest_idtr_limit, 0x4812, 0) \
	SEQ(32, guest_rights, 8, 0x4814, 0) \
	ONE(32, guest_interruptibility, 0x4824, 0) \
	ONE(32, guest_activity, 0x4826, 0) \
	ONE(32, guest_smbase, 0x4828, 0) \
	ONE(32, guest_sysenter_cs, 0x482a, 0) \
	ONE(32, preemption_timer, 0x482e, VMX_NEED(VMX_PIN, 6)) \
	ONE(32, host_sysenter_cs, 0x4c00, 0) \
	/* natural: control, read-only, guest, host */ \
	ONE(N, cr0_mask, 0x6000, 0) \
	ONE(N, cr4_mask, 0x6002, 0) \
	ONE(N, cr0_shadow, 0x6004, 0) \
	ONE(N, cr4_shadow, 0x6006, 0) \
	SEQ(N, cr3_target, 4, 0x6008, 0) \
	ONE(N, qualification, 0x6400, 0) \
	ONE(N, io_rcx, 0x6402, 0) \
	ONE(N, io_rsi, 0x6404, 0) \
	ONE(N, io_rdi, 0x6406, 0) \
	ONE(N, io_rip, 0x6408, 0) \
	ONE(N, guest_linear, 0x640a, 0) \
	ONE(N, guest_cr0, 0x6800, 0) \
	ONE(N, guest_cr3, 0x6802, 0) \
	ONE(N, guest_cr4, 0x6804, 0) \
	SEQ(N, guest_base, 8, 0x6806, 0) \
	ONE(N, guest_gdtr_base, 0x6816, 0) \
	ONE(N, guest_idtr_base, 0x6818, 0) \
	ONE(N, guest_dr7, 0x681a, 0) \
	ONE(N, guest_rsp, 0x681c, 0) \
	ONE(N, guest_rip, 0x681e, 0) \
	ONE(N, guest_rflags, 0x6820, 0) \
	ONE(N, guest_pending_debug, 0x6822, 0) \
	ONE(N, guest_sysenter_esp, 0x6824, 0) \
	ONE(N, guest_sysenter_eip, 0x6826, 0) \
	ONE(N, host_cr0, 0x6c00, 0) \
	ONE(N, host_cr3, 0x6c02, 0) \
	ONE(N, host_cr4, 0x6c04, 0) \
	ONE(N, host_fs_base, 0x6c06, 0) \
	ONE(N, host_gs_base, 0x6c08, 0) \
	ONE(N, host_tr_base, 0x6c0a, 0) \
	ONE(N, host_gdtr_base, 0x6c0c, 0) \
	ONE(N, host_idtr_base, 0x6c0e, 0) \
	ONE(N, host_sysenter_esp, 0x6c10, 0) \
	ONE(N, host_sysenter_eip, 0x6c12, 0) \
	ONE(N, host_rsp, 0x6c14, 0) \
	ONE(N, host_rip, 0x6c16, 0)

typedef uint16_t vmcs_u16;
typedef uint32_t vmcs_u32;
typedef uint64_t vmcs_u64;
typedef uint64_t vmcs_uN;
#define VMCS_MEMBER(width, member, encoding, need) vmcs_u##width member;
#define VMCS_MEMBERS(width, member, count, encoding, need) vmcs_u##width member[count];
struct soft_vmcs {
	VMCS_TABLE(VMCS_MEMBER, VMCS_MEMBERS)
};
#undef VMCS_MEMBER
#undef VMCS_MEMBERS

/* A VMCS region in guest memory. */
struct soft_vmcs_region {
	uint32_t revision; /* bit 31: shadow VMCS */
	uint32_t abort;
	uint32_t launched; /* our format from here on */
	uint32_t reserved;
	struct soft_vmcs vmcs;
};
#define VMCS_REVISION 0x00766d78u
#define VMCS_REGION_SIZE 4096u
#define VMCS_SHADOW (1u << 31)
#define VMCS_NONE (~0ull) /* no current VMCS */
_Static_assert(sizeof(struct soft_vmcs_region) <= VMCS_REGION_SIZE, "a VMCS fits a page");

/* Encoding: bit 0 high half, 1-9 index, 10-11 type, 13-14 width. */
enum { VMCS_CONTROL = 0, VMCS_READ_ONLY = 1, VMCS_GUEST = 2, VMCS_HOST = 3 };
enum { VMCS_WIDTH_16 = 0, VMCS_WIDTH_64 = 1, VMCS_WIDTH_32 = 2, VMCS_WIDTH_N = 3 };
static inline unsigned vmcs_type(uint32_t encoding)
{
	return encoding >> 10 & 3;
}
static inline unsigned vmcs_width(uint32_t encoding)
{
	return encoding >> 13 & 3;
}

struct vmcs_field {
	uint16_t offset; /* in struct soft_vmcs, of the first of a sequence */
	uint16_t need;   /* VMX_NEED() or 0 */
	uint8_t size;    /* bytes: 2, 4, 8; 0: no such field */
	uint8_t first;   /* index (bits 9:1) that offset belongs to */
};

/* What the VM's processor offers: IA32_VMX_* in other words (vmx_caps.c). */
struct soft_vmx_caps {
	uint32_t must[VMX_WORDS]; /* bits that have to be 1 (as the TRUE MSRs say) */
	uint32_t may[VMX_WORDS];  /* bits that may be 1 */
	uint64_t ept_vpid;        /* IA32_VMX_EPT_VPID_CAP */
	uint64_t misc;            /* IA32_VMX_MISC */
	uint64_t cr0_must, cr4_must, cr4_may;
	unsigned max_index;
	bool offered; /* VMX at all */
};
/* Does the processor have the control VMX_NEED(word, bit)? 0: yes. */
static inline bool soft_vmx_has(const struct soft_vmx_caps *caps, unsigned need)
{
	return !need || (caps->may[(need - 1) / 32] >> (need - 1) % 32 & 1);
}

/* The field's row if the VM's processor has it, else NULL. GENERAL. */
const struct vmcs_field *soft_vmcs_field(const struct soft_vmx_caps *caps, uint32_t encoding);
/* Value of a field that soft_vmcs_field() found; the high half for odd encodings. GENERAL. */
uint64_t soft_vmcs_get(const struct soft_vmcs *vmcs, const struct vmcs_field *f, uint32_t encoding);
void soft_vmcs_set(struct soft_vmcs *vmcs, const struct vmcs_field *f, uint32_t encoding,
		   uint64_t value);
/* Highest index (bits 9:1) among the fields that exist: IA32_VMX_VMCS_ENUM. */
unsigned soft_vmcs_max_index(const struct soft_vmx_caps *caps);

enum { /* pending debug exceptions: bits 0-3 of DR6, and these */
	PENDING_HITS = 0xf,
	PENDING_BREAKPOINT = 1u << 12, /* one of the hits is of an enabled breakpoint */
	PENDING_STEP = 1u << 14,
};

/* VMX state of a vCPU: v->vmx (and v->nonroot, v->eptp). Owner thread. All zero but for the pointers
 * (VMCS_NONE) outside VMX operation. */
struct soft_vmx {
	bool on;       /* in VMX operation; v->nonroot: in that of a guest (L2) */
	bool launched; /* launch state of the current VMCS */
	bool dirty;    /* vmcs is newer than guest memory */
	bool shadow;   /* the current VMCS is a shadow VMCS: no entry with it */
	uint64_t vmxon;   /* pointer given to VMXON, VMCS_NONE */
	uint64_t current; /* pointer of the current VMCS, VMCS_NONE */
	struct soft_vmcs vmcs; /* the current VMCS */
	/* What entry and exit derive from it; valid while nonroot. */
	uint32_t pin, proc, proc2; /* controls; proc2 is 0 without "activate secondary controls" */
	uint32_t idt_event, idt_error; /* event being delivered (format of IDT-vectoring information),
					* 0: none */
	uint32_t inject; /* event that the entry still has to inject, 0: none */
	uint64_t tsc_offset; /* what the VMCS adds to the TSC, a part of v->tsc_offset; 0 in root */
	uint64_t pending_debug; /* PENDING_*: held by MOV SS until the next instruction ends; also outside
				 * VMX operation */
	bool nmi_unblocked_by_iret; /* the IRET that is being executed ended NMI blocking */
	bool mtf_pending;  /* an MTF exit comes before the next instruction */
	bool virtual_pending; /* a virtual interrupt is recognized */
	bool virtual_taken;   /* one is in service, but its delivery has to begin again */
	uint8_t virtual_vector;
	uint32_t trap_reason; /* an exit comes before the next instruction, 0: none: the TPR fell below
			       * its threshold, EOI, or a write to the APIC */
	uint64_t trap_qualification;
	uint64_t timer_end; /* preemption timer: host TSC at which it reaches 0 */
	bool timer_on;
};

#endif
