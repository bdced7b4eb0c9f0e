/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c - what the engine counted, for vmx_vm_stats() and `vmctl info --stats` (vmctl(1)). */
#include "common/checked.h"
#include "common/clock.h"
#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/jit.h"
#include "vmx-driver/soft/lapic.h"

/* Sums over the vCPUs. */
static const struct {
	const char *name;
	size_t offset;
} of_vcpus[] = {
	{ "exits", offsetof(struct soft_vcpu, n_exits) },
	{ "exits_io", offsetof(struct soft_vcpu, n_exits_for[VMX_EXIT_IO]) },
	{ "exits_mem", offsetof(struct soft_vcpu, n_exits_for[VMX_EXIT_MEM]) },
	{ "exits_extint", offsetof(struct soft_vcpu, n_exits_for[VMX_EXIT_EXTINT]) },
	{ "exits_eoi", offsetof(struct soft_vcpu, n_exits_for[VMX_EXIT_APIC_EOI]) },
	{ "translations", offsetof(struct soft_vcpu, n_translations) },
	{ "steps", offsetof(struct soft_vcpu, n_steps) },
	{ "branch_misses", offsetof(struct soft_vcpu, n_branch_misses) },
	{ "tlb_fills", offsetof(struct soft_vcpu, n_tlb_fills) },
	{ "tlb_runs", offsetof(struct soft_vcpu, n_runs) },
	{ "tlb_alias_pages", offsetof(struct soft_vcpu, n_aliases) },
	{ "tlb_flushes", offsetof(struct soft_vcpu, n_flushes) },
	{ "page_walks", offsetof(struct soft_vcpu, n_walks) },
	{ "interrupts", offsetof(struct soft_vcpu, n_interrupts) },
	{ "exceptions", offsetof(struct soft_vcpu, n_exceptions) },
	{ "halts", offsetof(struct soft_vcpu, n_halts) },
	{ "halt_sleeps", offsetof(struct soft_vcpu, n_sleeps) },
	{ "pause_yields", offsetof(struct soft_vcpu, n_yields) },
	{ "code_invalidations", offsetof(struct soft_vcpu, n_invalidations) },
};

static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static uint64_t sum(struct soft_vm *vm, size_t offset)
{
	uint64_t all = 0;

	for (unsigned c = 0; c < VMX_VCPUS_MAX; c++)
		if (vm->vcpus[c])
			all += load((uint64_t *)(void *)((char *)vm->vcpus[c] + offset));
	return all;
}

/* Each site's entry counts misses that L1 served, from -JIT_MISSES up to 0, and then begins again. */
static uint64_t l0_misses(struct soft_vm *vm, const void *unused)
{
	uint64_t all = 0;

	(void)unused;
	for (unsigned c = 0; c < VMX_VCPUS_MAX; c++) {
		struct soft_vcpu *v = vm->vcpus[c];

		if (!v)
			continue;
		all += load(&v->n_l0_rounds) * JIT_MISSES;
		for (unsigned i = 0; i < SOFT_L0_SIZE; i++)
			all += __atomic_load_n(&v->l0_misses[i], __ATOMIC_RELAXED) + JIT_MISSES;
	}
	return all;
}

static uint64_t as_is(struct soft_vm *vm, const void *counter)
{
	(void)vm;
	return load(counter);
}

static uint64_t in_ns(struct soft_vm *vm, const void *ticks)
{
	return soft_mul_div(load(ticks), NSEC_PER_SEC, vm->tsc_hz);
}

static uint64_t ns_per_insn(struct soft_vm *vm, const void *ticks)
{
	uint64_t insns = load(&vm->cache->n_insns);

	return insns ? in_ns(vm, ticks) / insns : 0;
}

static uint64_t in_regions(struct soft_vm *vm, const void *offset)
{
	const struct soft_cache *c = vm->cache;
	uint64_t all = 0;

	for (unsigned i = 0; i < c->region_count; i++)
		all += __atomic_load_n((const size_t *)(const void *)((const char *)&c->regions[i] +
								      *(const size_t *)offset),
				       __ATOMIC_RELAXED);
	return all;
}

static size_t of_vm(struct soft_vm *vm, struct vmx_stat *stats, size_t n)
{
	static const size_t hot = offsetof(struct jit_region, used);
	static const size_t cold = offsetof(struct jit_region, used_cold);
	static const size_t meta = offsetof(struct jit_region, meta_made);
	struct soft_cache *c = vm->cache;
	const struct {
		const char *name;
		uint64_t (*value)(struct soft_vm *vm, const void *arg);
		const void *arg;
	} rows[] = {
		{ "tlb_l0_misses", l0_misses, NULL },
		{ "translated_insns", as_is, &c->n_insns },
		{ "translated_bytes", as_is, &c->n_bytes },
		{ "translation_ns", in_ns, &c->translation_ticks },
		{ "translation_ns_per_insn", ns_per_insn, &c->translation_ticks },
		{ "translation_waits", as_is, &c->n_waits },
		{ "translation_wait_longest_ns", in_ns, &c->longest_wait },
		{ "translation_held_longest_ns", in_ns, &c->longest_hold },
		{ "code_cache_flushes", as_is, &c->n_flushes },
		{ "code_cache_evictions", as_is, &c->n_evictions },
		{ "code_cache_evictions_parked", as_is, &c->n_evictions_parked },
		{ "code_cache_eviction_longest_ns", in_ns, &c->longest_eviction },
		{ "code_cache_hot_bytes", in_regions, &hot },
		{ "code_cache_cold_bytes", in_regions, &cold },
		{ "code_cache_metadata_bytes", in_regions, &meta },
		{ "code_blocks_killed", as_is, &c->n_killed },
		{ "pauses", as_is, &vm->n_pauses },
		{ "pause_longest_ns", in_ns, &vm->longest_pause },
		{ "pause_longest_parked_ns", in_ns, &vm->longest_section },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows) && i < n; i++)
		stats[i] = (struct vmx_stat){ rows[i].name, rows[i].value(vm, rows[i].arg) };
	return ARRAY_SIZE(rows);
}

size_t soft_stats(struct vmx_vm *base, struct vmx_stat *stats, size_t n)
{
	struct soft_vm *vm = soft_vm_from(base);
	size_t count = ARRAY_SIZE(of_vcpus);

	soft_lock(&vm->apic_lock); /* keeps the vCPUs alive */
	for (size_t i = 0; i < count && i < n; i++)
		stats[i] = (struct vmx_stat){ of_vcpus[i].name, sum(vm, of_vcpus[i].offset) };
	count += of_vm(vm, stats + (n < count ? n : count), n < count ? 0 : n - count);
	soft_unlock(&vm->apic_lock);
	return count;
}
