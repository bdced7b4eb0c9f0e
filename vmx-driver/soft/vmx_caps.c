/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx_caps.c - what of VMX is offered: one table of controls, from which the capability MSRs (SDM 3D
 * appendix A), the checks of VM entry and the existence of VMCS fields follow. GENERAL.
 */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

enum {
	MSR_BASIC = 0x480, MSR_PIN, MSR_PROC, MSR_EXIT, MSR_ENTRY, MSR_MISC, MSR_CR0_FIXED0,
	MSR_CR0_FIXED1, MSR_CR4_FIXED0, MSR_CR4_FIXED1, MSR_VMCS_ENUM, MSR_PROC2, MSR_EPT_VPID,
	MSR_TRUE_PIN, MSR_TRUE_PROC, MSR_TRUE_EXIT, MSR_TRUE_ENTRY, MSR_VMFUNC,
};

struct word {
	uint32_t default1; /* reserved bits that are 1, and what was so before the TRUE MSRs */
	uint32_t relaxed;  /* those of them that may be 0 */
	uint32_t offered;  /* controls that work */
};
static const struct word words[VMX_WORDS] = {
	[VMX_PIN] = {
		.default1 = 0x16,
		.offered = PIN_EXTERNAL | PIN_NMI | PIN_VIRTUAL_NMI | PIN_TIMER | PIN_POSTED,
	},
	[VMX_PROC] = {
		.default1 = 0x0401e172,
		.relaxed = PROC_CR3_LOAD | PROC_CR3_STORE,
		.offered = PROC_INTERRUPT_WINDOW | PROC_TSC_OFFSET | PROC_HLT | PROC_INVLPG |
			   PROC_MWAIT | PROC_RDPMC | PROC_RDTSC | PROC_CR8_LOAD | PROC_CR8_STORE |
			   PROC_TPR_SHADOW | PROC_NMI_WINDOW | PROC_MTF | PROC_MOV_DR | PROC_IO |
			   PROC_IO_BITMAPS | PROC_MSR_BITMAPS | PROC_MONITOR | PROC_PAUSE | PROC_SECONDARY,
	},
	[VMX_PROC2] = {
		.offered = PROC2_APIC_ACCESS | PROC2_EPT | PROC2_TABLES | PROC2_RDTSCP |
			   PROC2_X2APIC | PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED |
			   PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY | PROC2_INVPCID |
			   PROC2_SHADOW_VMCS | PROC2_PML,
	},
	[VMX_EXIT_CTLS] = {
		.default1 = 0x36dff,
		.relaxed = EXIT_SAVE_DEBUG,
		.offered = EXIT_HOST_LONG | EXIT_ACK_INTERRUPT | EXIT_SAVE_PAT | EXIT_LOAD_PAT |
			   EXIT_SAVE_EFER | EXIT_LOAD_EFER | EXIT_SAVE_TIMER,
	},
	[VMX_ENTRY_CTLS] = {
		.default1 = 0x11ff,
		.relaxed = ENTRY_LOAD_DEBUG,
		.offered = ENTRY_LONG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER,
	},
};

/* Execute-only, 4 levels, UC, WB, 2 MiB, 1 GiB, INVEPT, A/D bits, single and all contexts; INVVPID
 * by address, context, all, context but global ones. */
#define EPT_CAPS (1ull << 0 | 1ull << 6 | 1ull << 8 | 1ull << 14 | 1ull << 16 | 1ull << 17 | \
		  1ull << 20 | 1ull << 21 | 1ull << 25 | 1ull << 26)
#define VPID_CAPS (1ull << 32 | 0xfull << 40)
/* Timer at TSC / 32, LMA is stored on exit, HLT and wait-for-SIPI states, 4 CR3 targets, VMWRITE to
 * all fields, events of instructions of length 0. */
#define MISC_CAPS (5ull | 1ull << 5 | 1ull << 6 | 1ull << 8 | 4ull << 16 | \
		   MISC_WRITE_ALL | 1ull << 30)
/* Write-back, INS and OUTS tell their operands, TRUE MSRs. */
#define BASIC_CAPS ((uint64_t)VMCS_REGION_SIZE << 32 | 6ull << 50 | 1ull << 54 | 1ull << 55)

void soft_vmx_caps_init(struct soft_vmx_caps *caps, bool offered, uint64_t cr4_mask, bool xsaves)
{
	caps->offered = offered;
	if (!offered)
		return;
	for (unsigned i = 0; i < VMX_WORDS; i++) {
		caps->must[i] = words[i].default1 & ~words[i].relaxed;
		caps->may[i] = words[i].default1 | words[i].offered;
	}
	if (xsaves)
		caps->may[VMX_PROC2] |= PROC2_XSAVES;
	caps->misc = MISC_CAPS;
	caps->ept_vpid = EPT_CAPS | VPID_CAPS;
	caps->cr0_must = CR0_PE | CR0_NE | CR0_PG;
	caps->cr4_must = CR4_VMXE;
	caps->cr4_may = cr4_mask;
	caps->max_index = soft_vmcs_max_index(caps);
}

static uint64_t control_msr(const struct soft_vmx_caps *caps, enum vmx_word word, bool exact)
{
	return (exact ? caps->must[word] : words[word].default1) | (uint64_t)caps->may[word] << 32;
}

bool soft_vmx_read_msr(const struct soft_vcpu *v, uint32_t index, uint64_t *ret_value)
{
	const struct soft_vmx_caps *caps = soft_vmx_caps(v);

	if (!caps->offered)
		return false;
	switch (index) {
	case MSR_BASIC:
		*ret_value = VMCS_REVISION | BASIC_CAPS;
		return true;
	case MSR_PIN:
	case MSR_TRUE_PIN:
		*ret_value = control_msr(caps, VMX_PIN, index == MSR_TRUE_PIN);
		return true;
	case MSR_PROC:
	case MSR_TRUE_PROC:
		*ret_value = control_msr(caps, VMX_PROC, index == MSR_TRUE_PROC);
		return true;
	case MSR_EXIT:
	case MSR_TRUE_EXIT:
		*ret_value = control_msr(caps, VMX_EXIT_CTLS, index == MSR_TRUE_EXIT);
		return true;
	case MSR_ENTRY:
	case MSR_TRUE_ENTRY:
		*ret_value = control_msr(caps, VMX_ENTRY_CTLS, index == MSR_TRUE_ENTRY);
		return true;
	case MSR_PROC2:
		*ret_value = control_msr(caps, VMX_PROC2, true);
		return true;
	case MSR_MISC:
		*ret_value = caps->misc;
		return true;
	case MSR_CR0_FIXED0:
		*ret_value = caps->cr0_must;
		return true;
	case MSR_CR0_FIXED1:
		*ret_value = 0xffffffffu;
		return true;
	case MSR_CR4_FIXED0:
		*ret_value = caps->cr4_must;
		return true;
	case MSR_CR4_FIXED1:
		*ret_value = caps->cr4_may;
		return true;
	case MSR_VMCS_ENUM:
		*ret_value = (uint64_t)caps->max_index << 1;
		return true;
	case MSR_EPT_VPID:
		*ret_value = caps->ept_vpid;
		return true;
	default: /* IA32_VMX_VMFUNC: not without VM functions */
		return false;
	}
}
