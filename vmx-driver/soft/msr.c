/* SPDX-License-Identifier: Apache-2.0 */
/* msr.c - model-specific registers (SDM 4 chapter 2). GENERAL. */
#include "vmx-driver/soft/pv.h"
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

enum {
	MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b, MSR_POWERON = 0x2a,
	MSR_SMI_COUNT = 0x34, MSR_CORE_COUNT = 0x35, MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b, MSR_SPEC_CTRL = 0x48, MSR_PRED_CMD = 0x49, MSR_UCODE_WRITE = 0x79,
	MSR_UCODE_REV = 0x8b, MSR_PLATFORM_INFO = 0xce, MSR_MTRRCAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a, MSR_SYSENTER_CS = 0x174, MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a,
	MSR_PERF_STATUS = 0x198, MSR_PERF_CTL = 0x199, MSR_MISC_ENABLE = 0x1a0,
	MSR_VMX = 0x480, MSR_VMX_LAST = 0x491, MSR_DEBUGCTL = 0x1d9, MSR_MTRR_PHYS = 0x200, MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258, MSR_MTRR_FIX4K = 0x268, MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff, MSR_TSC_DEADLINE = 0x6e0, MSR_XSS = 0xda0, MSR_X2APIC = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
};
enum {
	MSR_EFER = 0xc0000080, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_FMASK,
	MSR_FS_BASE = 0xc0000100, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
};

#define UCODE_REVISION 0xd000404ull
#define MTRR_VARIABLE 8u
#define MISC_ENABLE_FIXED ((1ull << 11) | (1ull << 12)) /* no BTS, no PEBS */

/* MSRs that are a field with reserved bits. */
struct msr_field {
	uint32_t index;
	uint32_t offset;
	bool canonical;
	uint64_t mask; /* bits that may be set */
};
#define FIELD(index, member, canonical, mask) \
	{ index, offsetof(struct soft_vcpu, member), canonical, mask }
static const struct msr_field fields[] = {
	FIELD(MSR_SPEC_CTRL, spec_ctrl, false, 0x487), /* IBRS STIBP SSBD PSFD BHI_DIS_S */
	FIELD(MSR_SYSENTER_CS, sysenter_cs, false, 0xffffffff),
	FIELD(MSR_SYSENTER_ESP, sysenter_esp, true, ~0ull),
	FIELD(MSR_SYSENTER_EIP, sysenter_eip, true, ~0ull),
	FIELD(MSR_DEBUGCTL, debugctl, false, 3),
	FIELD(MSR_STAR, star, false, ~0ull),
	FIELD(MSR_LSTAR, lstar, true, ~0ull),
	FIELD(MSR_CSTAR, cstar, true, ~0ull),
	FIELD(MSR_FMASK, fmask, false, 0xffffffff),
	FIELD(MSR_FS_BASE, seg[SOFT_FS].base, true, ~0ull),
	FIELD(MSR_GS_BASE, seg[SOFT_GS].base, true, ~0ull),
	FIELD(MSR_KERNEL_GS_BASE, kernel_gs_base, true, ~0ull),
	FIELD(MSR_TSC_AUX, tsc_aux, false, 0xffffffff),
};

static uint64_t *find_field(struct soft_vcpu *v, uint32_t index, const struct msr_field **ret)
{
	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (fields[i].index != index)
			continue;
		*ret = &fields[i];
		return (uint64_t *)(void *)((uint8_t *)v + fields[i].offset);
	}
	return NULL;
}

/* --- memory types --------------------------------------------------------------------------- */

static bool types_ok(uint64_t value, uint32_t valid)
{
	for (unsigned i = 0; i < 64; i += 8) {
		unsigned type = (value >> i) & 0xff;

		if (type > 7 || !((valid >> type) & 1))
			return false;
	}
	return true;
}
enum { TYPES_PAT = 0xf3, TYPES_MTRR = 0x73 };

/* The register of a fixed or variable-range MTRR, or NULL. */
static uint64_t *find_mtrr(struct soft_vcpu *v, uint32_t index)
{
	if (index >= MSR_MTRR_PHYS && index < MSR_MTRR_PHYS + 2 * MTRR_VARIABLE)
		return &v->mtrr_phys[index - MSR_MTRR_PHYS];
	if (index == MSR_MTRR_FIX64K)
		return &v->mtrr_fixed[0];
	if (index == MSR_MTRR_FIX16K || index == MSR_MTRR_FIX16K + 1)
		return &v->mtrr_fixed[1 + index - MSR_MTRR_FIX16K];
	if (index >= MSR_MTRR_FIX4K && index < MSR_MTRR_FIX4K + 8)
		return &v->mtrr_fixed[3 + index - MSR_MTRR_FIX4K];
	return NULL;
}

static int write_mtrr(struct soft_vcpu *v, uint32_t index, uint64_t *reg, uint64_t value)
{
	uint64_t phys = sys_cpuid(v)->phys_mask & ~0xfffull;

	if (reg >= v->mtrr_fixed && reg < v->mtrr_fixed + 11) {
		if (!types_ok(value, TYPES_MTRR))
			return sys_gp0(v);
	} else if (index & 1) {
		if (value & ~(phys | 0x800))
			return sys_gp0(v);
	} else if ((value & ~(phys | 0xff)) || !types_ok(value & 0xff, TYPES_MTRR)) {
		return sys_gp0(v);
	}
	*reg = value;
	return SOFT_OK;
}

static int write_deftype(struct soft_vcpu *v, uint64_t value)
{
	if ((value & ~0xcffull) || !types_ok(value & 0xff, TYPES_MTRR))
		return sys_gp0(v);
	v->mtrr_deftype = value;
	return SOFT_OK;
}

/* --- the others ----------------------------------------------------------------------------- */

static int write_efer(struct soft_vcpu *v, uint64_t value)
{
	uint64_t changed;

	if (value & ~(sys_cpuid(v)->efer_mask | EFER_LMA))
		return sys_gp0(v);
	value = (value & ~EFER_LMA) | (v->efer & EFER_LMA);
	changed = value ^ v->efer;
	if ((changed & EFER_LME) && (v->cr0 & CR0_PG))
		return sys_gp0(v);
	v->efer = value;
	if (changed & EFER_NX)
		soft_tlb_flush(v, false);
	if (changed)
		soft_update_mode(v);
	return SOFT_OK;
}

static unsigned ratio(const struct soft_vcpu *v)
{
	uint64_t r = soft_vm_of(v)->tsc_hz / 100000000u;

	return r > 255 ? 255 : (unsigned)r;
}

static bool has_xss(const struct soft_vcpu *v)
{
	return sys_cpuid(v)->isa[ZYDIS_ISA_SET_XSAVES];
}

static bool is_lapic(uint32_t index)
{
	return index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
	       (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST);
}

int sys_read_msr(struct soft_vcpu *v, uint32_t index, uint64_t *ret_value)
{
	const struct msr_field *f;
	const uint64_t *reg;

	if (is_lapic(index))
		return soft_lapic_msr(v, index, false, ret_value);
	if (index >= MSR_VMX && index <= MSR_VMX_LAST)
		return soft_vmx_read_msr(v, index, ret_value) ? SOFT_OK : SOFT_AGAIN;
	reg = find_field(v, index, &f);
	if (!reg)
		reg = find_mtrr(v, index);
	if (reg) {
		*ret_value = *reg;
		return SOFT_OK;
	}
	switch (index) {
	case MSR_TSC:
		*ret_value = soft_rdtsc(v);
		return SOFT_OK;
	case MSR_TSC_ADJUST:
		*ret_value = v->tsc_adjust;
		return SOFT_OK;
	case MSR_EFER:
		*ret_value = v->efer;
		return SOFT_OK;
	case MSR_PAT:
		*ret_value = v->pat;
		return SOFT_OK;
	case MSR_XSS:
		*ret_value = v->xss;
		return has_xss(v) ? SOFT_OK : SOFT_AGAIN;
	case MSR_MTRRCAP:
		*ret_value = MTRR_VARIABLE | 1u << 8 | 1u << 10;
		return SOFT_OK;
	case MSR_MTRR_DEF_TYPE:
		*ret_value = v->mtrr_deftype;
		return SOFT_OK;
	case MSR_MISC_ENABLE:
		*ret_value = v->misc_enable | MISC_ENABLE_FIXED;
		return SOFT_OK;
	case MSR_FEATURE_CONTROL:
		*ret_value = v->feature_control;
		return SOFT_OK;
	case MSR_ARCH_CAPABILITIES:
		*ret_value = sys_cpuid(v)->arch_capabilities;
		return SOFT_OK;
	case MSR_UCODE_REV:
		*ret_value = UCODE_REVISION << 32;
		return SOFT_OK;
	case MSR_PLATFORM_INFO:
		*ret_value = (uint64_t)ratio(v) << 8 | (uint64_t)ratio(v) << 40;
		return SOFT_OK;
	case MSR_PERF_STATUS:
	case MSR_PERF_CTL:
		*ret_value = (uint64_t)ratio(v) << 8;
		return SOFT_OK;
	case MSR_PLATFORM_ID:
	case MSR_POWERON:
	case MSR_SMI_COUNT:
	case MSR_MCG_CAP:
	case MSR_MCG_STATUS:
		*ret_value = 0;
		return SOFT_OK;
	default:
		return soft_pv_read_msr(v, index, ret_value) ? SOFT_OK : SOFT_AGAIN;
	}
}

static int write_field(struct soft_vcpu *v, const struct msr_field *f, uint64_t *reg,
		       uint64_t value)
{
	if ((value & ~f->mask) || (f->canonical && !sys_canonical(value)))
		return sys_gp0(v);
	*reg = value;
	return SOFT_OK;
}

int sys_write_msr(struct soft_vcpu *v, uint32_t index, uint64_t value)
{
	const struct msr_field *f;
	uint64_t *reg;

	if (is_lapic(index))
		return soft_lapic_msr(v, index, true, &value);
	if (index >= MSR_VMX && index <= MSR_VMX_LAST && soft_vmx_caps(v)->offered)
		return sys_gp0(v);
	reg = find_field(v, index, &f);
	if (reg)
		return write_field(v, f, reg, value);
	reg = find_mtrr(v, index);
	if (reg)
		return write_mtrr(v, index, reg, value);
	switch (index) {
	case MSR_TSC:
		value -= soft_rdtsc(v) - v->vmx.tsc_offset; /* not what non-root sees */
		v->tsc_offset += value;
		v->tsc_adjust += value;
		soft_pv_tsc_moved(v);
		return SOFT_OK;
	case MSR_TSC_ADJUST:
		v->tsc_offset += value - v->tsc_adjust;
		v->tsc_adjust = value;
		soft_pv_tsc_moved(v);
		return SOFT_OK;
	case MSR_EFER:
		return write_efer(v, value);
	case MSR_PAT:
		if (!types_ok(value, TYPES_PAT))
			return sys_gp0(v);
		v->pat = value;
		return SOFT_OK;
	case MSR_XSS: /* there are no supervisor components */
		if (!has_xss(v))
			return SOFT_AGAIN;
		return value ? sys_gp0(v) : SOFT_OK;
	case MSR_MTRR_DEF_TYPE:
		return write_deftype(v, value);
	case MSR_MISC_ENABLE:
		v->misc_enable = value;
		return SOFT_OK;
	case MSR_PRED_CMD: /* predictors hold nothing of the guest's choosing */
		return (value & ~1ull) ? sys_gp0(v) : SOFT_OK;
	case MSR_MCG_STATUS:
		return value ? sys_gp0(v) : SOFT_OK;
	case MSR_UCODE_WRITE:
	case MSR_UCODE_REV:
	case MSR_PERF_CTL:
		return SOFT_OK;
	case MSR_PLATFORM_ID:
	case MSR_POWERON:
	case MSR_SMI_COUNT:
	case MSR_FEATURE_CONTROL: /* locked */
	case MSR_PLATFORM_INFO:
	case MSR_MTRRCAP:
	case MSR_ARCH_CAPABILITIES:
	case MSR_MCG_CAP:
	case MSR_PERF_STATUS:
		return sys_gp0(v);
	default:
		return soft_pv_write_msr(v, index, value) ? SOFT_OK : SOFT_AGAIN;
	}
}

int soft_read_msr(struct soft_vcpu *v, uint32_t index, uint64_t *ret_value)
{
	int rc = sys_read_msr(v, index, ret_value);

	return rc == SOFT_AGAIN ? sys_gp0(v) : rc;
}

int soft_write_msr(struct soft_vcpu *v, uint32_t index, uint64_t value)
{
	int rc = sys_write_msr(v, index, value);

	return rc == SOFT_AGAIN ? sys_gp0(v) : rc;
}
