/* SPDX-License-Identifier: Apache-2.0 */
/* glue.h - between soft.c run.c exclusive.c state.c. */
#ifndef VMX_SOFT_GLUE_H
#define VMX_SOFT_GLUE_H

#include "vmx-driver/soft/soft.h"

static inline struct soft_vcpu *soft_vcpu_of(struct vmx_vcpu *vcpu)
{
	return (struct soft_vcpu *)(void *)vcpu;
}
static inline struct soft_vm *soft_vm_from(struct vmx_vm *vm)
{
	return (struct soft_vm *)(void *)vm;
}

/* run.c */
int soft_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit);
/* Completes the access of a VMX_EXIT_IO or MEM: state is looked at from outside. */
void soft_complete(struct soft_vcpu *v);
/* State was written from outside: a restarted instruction would no longer be the same. */
void soft_forget_exit(struct soft_vcpu *v);

/* jit_cache.c */
size_t soft_memory(struct vmx_vm *base, struct vmx_memory *ret, size_t n);
/* stats.c */
size_t soft_stats(struct vmx_vm *base, struct vmx_stat *stats, size_t n);

/* soft.c */
void soft_describe_internal(const struct soft_vcpu *v, struct vmx_exit *exit, int rc);

/* exclusive.c: a vCPU thread runs, or is parked (outside resume, asleep, held up by a section). */
void soft_enter_running(struct soft_vcpu *v);
void soft_leave_running(struct soft_vcpu *v);
void soft_park(struct soft_vcpu *v); /* lets waiting sections pass; saves the FP state */
/* Sleeps, parked, until something is requested or the APIC timer is due. Saves the FP state. */
void soft_wait(struct soft_vcpu *v);

/* state.c */
int soft_state_size(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, size_t *ret_size);
int soft_read_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size);
int soft_write_state(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf, size_t size);
int soft_state_read_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
int soft_state_write_msr(struct vmx_vcpu *vcpu, uint32_t index, uint64_t value);
int soft_translate(struct vmx_vcpu *vcpu, uint64_t gva, uint32_t flags,
		   enum vmx_translate_result *ret_result, uint64_t *ret_gpa);

#endif
