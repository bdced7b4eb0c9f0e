/* SPDX-License-Identifier: Apache-2.0 */
/* pv.h - KVM's interface for guests, as far as it is offered (pv.c). Owner thread, GENERAL. */
#ifndef VMX_SOFT_PV_H
#define VMX_SOFT_PV_H

#include "vmx-driver/soft/soft.h"

enum {
	MSR_PV_WALL_OLD = 0x11, MSR_PV_TIME_OLD = 0x12,
	MSR_PV_WALL = 0x4b564d00, MSR_PV_TIME = 0x4b564d01,
};

/* CPUID leaf 0x40000001 EAX. nested: of VMs that are offered VMX. */
uint32_t soft_pv_features(bool nested);
/* False: not an MSR of this interface. */
bool soft_pv_read_msr(const struct soft_vcpu *v, uint32_t index, uint64_t *ret_value);
bool soft_pv_write_msr(struct soft_vcpu *v, uint32_t index, uint64_t value);
/* The guest wrote the TSC. */
void soft_pv_tsc_moved(struct soft_vcpu *v);
/* VMCALL, outside VMX operation. */
int soft_pv_hypercall(struct soft_vcpu *v);

#endif
