/* SPDX-License-Identifier: Apache-2.0 */
/* soft.c - the software processor as an engine: VMs, vCPUs, and the table of operations. */
#include "vmx-driver/soft/soft.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/tsc.h"
#include "vmx-driver/soft/ept.h"
#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/lapic.h"
#include "vmx-driver/soft/pcid.h"
#include "vmx-driver/soft/vmx_ops.h"

#define HWCAP2_FSGSBASE_BIT 2u
/* Up to here single pages lose their write permission; beyond, everything does. */
#define PROTECT_PAGES_MAX 8u

void soft_describe_internal(const struct soft_vcpu *v, struct vmx_exit *exit, int rc)
{
	exit->internal.reason = (uint64_t)rc;
	snprintf(exit->internal.text, sizeof(exit->internal.text),
		 "the executor returned %d at rip %#llx", rc, (unsigned long long)v->rip);
}

/* --- VM ------------------------------------------------------------------------------------- */

static void add_ops(struct soft_vm *vm, const struct soft_op *ops)
{
	for (; ops->fn; ops++)
		vm->ops[ops->mnemonic] = ops;
}

static int create_parts(struct soft_vm *vm)
{
	int r;

	vm->tsc_hz = vm->vm.options.tsc_hz ? vm->vm.options.tsc_hz : tsc_hz(NULL);
	if (!vm->tsc_hz)
		return -ENOTSUP;
	vm->tsc_offset = 0 - __builtin_ia32_rdtsc();
	add_ops(vm, soft_step_ops);
	add_ops(vm, soft_system_ops);
	if (vm->vm.options.flags & VMX_VM_NESTED)
		add_ops(vm, soft_vmx_op_table);
	r = soft_cpuid_create(vm);
	if (r >= 0)
		r = soft_cache_create(vm);
	return r;
}

static void soft_vm_fini(struct vmx_vm *base)
{
	struct soft_vm *vm = soft_vm_from(base);

	soft_cache_destroy(vm);
	soft_cpuid_destroy(vm);
	pthread_cond_destroy(&vm->excl_cond);
	pthread_mutex_destroy(&vm->excl_lock);
}

static int soft_vm_init(struct vmx_vm *base)
{
	struct soft_vm *vm = soft_vm_from(base);
	int r;

	pthread_mutex_init(&vm->excl_lock, NULL);
	pthread_cond_init(&vm->excl_cond, NULL);
	r = create_parts(vm);
	if (r < 0)
		soft_vm_fini(base);
	return r;
}

static int soft_slots_changed(struct vmx_vm *base, const struct vmx_slots *old,
			      const struct vmx_slots *now)
{
	struct soft_vm *vm = soft_vm_from(base);

	(void)old;
	soft_exclusive_begin(vm, NULL);
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		if (!vm->vcpus[i])
			continue;
		soft_tlb_flush_all(vm->vcpus[i]);
		soft_alias_keep(&vm->vcpus[i]->alias, now);
	}
	soft_cache_slots_changed(vm, now);
	soft_exclusive_end(vm, NULL);
	return 0;
}

static int soft_dirty_cleared(struct vmx_vm *base, const struct vmx_slot *slot, uint64_t gpa,
			      uint64_t size)
{
	struct soft_vm *vm = soft_vm_from(base);

	(void)slot;
	soft_exclusive_begin(vm, NULL);
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		struct soft_vcpu *v = vm->vcpus[i];

		if (!v)
			continue;
		if (size > PROTECT_PAGES_MAX * VMX_PAGE_SIZE) {
			soft_tlb_flush_all(v);
			continue;
		}
		for (uint64_t at = 0; at < size; at += VMX_PAGE_SIZE)
			soft_tlb_protect_page(v, gpa + at);
	}
	soft_exclusive_end(vm, NULL);
	return 0;
}

/* Most of what devices write holds no code. */
static int soft_written(struct vmx_vm *base, uint64_t gpa, uint64_t size)
{
	struct soft_vm *vm = soft_vm_from(base);

	while (size) {
		uint64_t left = VMX_PAGE_SIZE - gpa % VMX_PAGE_SIZE, part = size < left ? size : left;

		if (soft_code_page(vm, gpa & ~(uint64_t)(VMX_PAGE_SIZE - 1)) &&
		    soft_code_overlaps(vm, gpa, (unsigned)part))
			soft_code_written(vm, NULL, gpa, part);
		gpa += part;
		size -= part;
	}
	return 0;
}

static int soft_msi(struct vmx_vm *base, uint64_t address, uint32_t data)
{
	struct soft_message m = {
		.dest = (uint32_t)(address >> 12) & 0xff,
		.logical = address >> 2 & 1,
		.vector = (uint8_t)data,
		.mode = data >> 8 & 7,
		.level = data >> 15 & 1,
	};

	m.broadcast = m.dest == 0xff;
	if (m.mode == APIC_SIPI) /* not by message */
		return 0;
	soft_apic_send(soft_vm_from(base), &m);
	return 0;
}

/* vm->lock is held and no vCPU runs. */
static int soft_suspend_time(struct vmx_vm *base, bool suspend)
{
	struct soft_vm *vm = soft_vm_from(base);
	uint64_t now = __builtin_ia32_rdtsc(), gap;

	if (suspend) {
		vm->time_suspended_tsc = now;
		return 0;
	}
	gap = now - vm->time_suspended_tsc;
	vm->tsc_offset -= gap;
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
		struct soft_vcpu *v = vm->vcpus[i];

		if (!v)
			continue;
		v->tsc_offset -= gap;
		soft_lapic_time_shift(v, gap);
	}
	return 0;
}

static uint64_t soft_tsc_hz(const struct vmx_vm *base)
{
	return ((const struct soft_vm *)(const void *)base)->tsc_hz;
}

static int soft_exit_options(struct vmx_vm *base, const struct vmx_exit_options *options,
			     uint32_t *ret_unsupported)
{
	*ret_unsupported = 0;
	/* Translated code may do inline what is to exit from now on. */
	if (options->optional != base->exit_options.optional)
		soft_code_flush_all(soft_vm_from(base), NULL);
	return 0;
}

/* --- vCPU ----------------------------------------------------------------------------------- */

/* Translated code finds its vCPU at GS. */
static int set_gs(uint64_t base)
{
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) {
		__asm__ volatile("wrgsbase %0" : : "r"(base));
		return 0;
	}
	return syscall(SYS_arch_prctl, ARCH_SET_GS, base) ? -errno : 0;
}

static int create_xsave(struct soft_vcpu *v)
{
	uint32_t eax, ebx, ecx, edx, size = 576, lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	v->xsave_mask = ((uint64_t)hi << 32 | lo) & (soft_xcr0_offered(soft_vm_of(v)) | 3);
	for (unsigned i = 2; i < 63; i++) {
		if (!(v->xsave_mask >> i & 1))
			continue;
		__cpuid_count(0xd, i, eax, ebx, ecx, edx);
		if (ebx + eax > size)
			size = ebx + eax;
	}
	v->xsave_size = size;
	/* What is beyond is read with wide moves by nobody, but costs nothing to have. */
	v->xsave = aligned_alloc(64, (size + 63) & ~63u);
	if (!v->xsave)
		return -ENOMEM;
	memset(v->xsave, 0, (size + 63) & ~63u);
	return 0;
}

static void reset_vcpu(struct soft_vcpu *v)
{
	soft_forget_exit(v);
	v->exc_pending = v->extint_ready = false;
	v->init_pending = v->sipi_pending = false;
	v->nmi_pending = 0;
	v->extint_line = false;
	v->apic_base = VMX_APIC_DEFAULT_BASE | APIC_BASE_EN | (v->v.id ? 0 : APIC_BASE_BSP);
	soft_cpu_reset(v, false);
	soft_lapic_reset(v);
	v->activity = v->v.id ? VMX_WAIT_FOR_SIPI : VMX_ACTIVE;
	atomic_store(&v->exit_req, 0);
}

static int soft_vm_reset(struct vmx_vm *base)
{
	struct soft_vm *vm = soft_vm_from(base);

	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++)
		if (vm->vcpus[i])
			reset_vcpu(vm->vcpus[i]);
	return 0;
}

static void set_vcpu(struct soft_vm *vm, unsigned id, struct soft_vcpu *v)
{
	soft_exclusive_begin(vm, NULL);
	soft_lock(&vm->apic_lock);
	vm->vcpu_count += !!v - !!vm->vcpus[id];
	vm->vcpus[id] = v;
	soft_unlock(&vm->apic_lock);
	soft_exclusive_end(vm, NULL);
}

static void soft_vcpu_fini(struct vmx_vcpu *vcpu)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);

	set_vcpu(soft_vm_of(v), vcpu->id, NULL);
	if (pthread_equal(pthread_self(), vcpu->owner))
		set_gs(0);
	soft_timer_destroy(v);
	soft_jit_vcpu_fini(v);
	soft_decoder_fini(v);
	soft_alias_fini(&v->alias);
	free(v->lapic);
	free(v->images);
	free(v->xsave);
}

static int create_vcpu_parts(struct soft_vcpu *v)
{
	uint32_t regs[4];
	int r;

	v->lapic = calloc(1, sizeof(*v->lapic));
	v->images = calloc(1, sizeof(*v->images)); /* touched when PCIDs are used */
	if (!v->lapic || !v->images)
		return -ENOMEM;
	r = soft_timer_create(v);
	if (r >= 0)
		r = create_xsave(v);
	if (r >= 0)
		r = soft_decoder_init(v);
	if (r >= 0)
		r = soft_jit_vcpu_init(v);
	if (r < 0)
		return r;
	soft_cpuid(v, 0x80000008u, 0, regs);
	v->pa_reserved = 0x000fffffffffffffull & ~((1ull << (regs[0] & 0xff)) - 1);
	return 0;
}

static int soft_vcpu_init(struct vmx_vcpu *vcpu)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);
	int r;

	v->self = v;
	v->parked = true;
	v->tsc_offset = soft_vm_of(v)->tsc_offset;
	v->ctx_count = vcpu->vm->options.flags & VMX_VM_NESTED ? CTX_COUNT : CTX_KINDS;
	v->ept_cached = v->ctx_count == CTX_COUNT; /* so that everything is set */
	soft_ept_cache_flush(v);
	for (unsigned ctx = 0; ctx < v->ctx_count; ctx++) {
		v->tlb[ctx].used = true; /* so that everything is set */
		v->tlb[ctx].l1_chunks = v->tlb[ctx].runs_used = ~0ull;
		v->tlb[ctx].l1_filled = SOFT_L1_LOG + 1;
		v->tlb[ctx].ibtc_filled = SOFT_IBTC_LOG + 1;
		soft_tlb_flush_ctx(v, ctx);
	}
	r = create_vcpu_parts(v);
	if (r >= 0)
		r = set_gs((uint64_t)(uintptr_t)v);
	if (r < 0) {
		soft_vcpu_fini(vcpu);
		return r;
	}
	reset_vcpu(v);
	set_vcpu(soft_vm_of(v), vcpu->id, v);
	return 0;
}

static void soft_kick(struct vmx_vcpu *vcpu)
{
	soft_request(soft_vcpu_of(vcpu), SOFT_REQ_KICK);
}

static int soft_interrupt(struct vmx_vcpu *vcpu, enum vmx_interrupt_type type, unsigned vector)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);
	struct soft_vm *vm = soft_vm_of(v);

	switch (type) {
	case VMX_INTERRUPT_FIXED:
		soft_apic_post(v, vector, false);
		return 0;
	case VMX_INTERRUPT_NMI:
		soft_post_nmi(v);
		return 0;
	case VMX_INTERRUPT_INIT:
	case VMX_INTERRUPT_SIPI:
		soft_lock(&vm->apic_lock);
		if (type == VMX_INTERRUPT_INIT)
			soft_post_init_locked(v);
		else
			soft_post_sipi_locked(v, vector);
		soft_unlock(&vm->apic_lock);
		return 0;
	case VMX_INTERRUPT_EXTINT:
		v->extint_vector = (uint8_t)vector;
		v->extint_ready = true;
		soft_request(v, SOFT_REQ_EVENT);
		return 0;
	case VMX_INTERRUPT_LINT1:
		soft_lapic_fire(v, LVT_LINT1);
		return 0;
	}
	return -EINVAL;
}

static int soft_set_extint(struct vmx_vcpu *vcpu, bool level)
{
	struct soft_vcpu *v = soft_vcpu_of(vcpu);

	if (atomic_exchange(&v->extint_line, level) != level && level)
		soft_request(v, SOFT_REQ_EVENT);
	return 0;
}

const struct vmx_engine_ops vmx_soft_ops = {
	.engine = VMX_ENGINE_SOFT,
	.vm_size = sizeof(struct soft_vm),
	.vcpu_size = sizeof(struct soft_vcpu),
	.vm_init = soft_vm_init,
	.vm_fini = soft_vm_fini,
	.vm_reset = soft_vm_reset,
	.slots_changed = soft_slots_changed,
	.dirty_cleared = soft_dirty_cleared,
	.written = soft_written,
	.msi = soft_msi,
	.suspend_time = soft_suspend_time,
	.tsc_hz = soft_tsc_hz,
	.exit_options = soft_exit_options,
	.stats = soft_stats,
	.memory = soft_memory,
	.vcpu_init = soft_vcpu_init,
	.vcpu_fini = soft_vcpu_fini,
	.resume = soft_resume,
	.kick = soft_kick,
	.interrupt = soft_interrupt,
	.set_extint = soft_set_extint,
	.state_size = soft_state_size,
	.read_state = soft_read_state,
	.write_state = soft_write_state,
	.read_msr = soft_state_read_msr,
	.write_msr = soft_state_write_msr,
	.translate = soft_translate,
};
