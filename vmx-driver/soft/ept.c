/* SPDX-License-Identifier: Apache-2.0 */
/* ept.c - extended page tables (SDM 3C 28.3). GENERAL. */
#include "vmx-driver/soft/ept.h"

#include "vmx-driver/soft/mmu.h"
#include "vmx-driver/soft/vmx_ops.h"

#define PML_ENTRIES 512u
enum {
	EPTE_PS = 1u << 7,
	EPTE_A = 1u << 8,
	EPTE_D = 1u << 9,
};
#define EPT_LEVELS 4
/* A walk starts over when another processor changes an entry under it; not for ever. */
#define EPT_RETRIES 8

struct ept_path {
	uint64_t addr[EPT_LEVELS], value[EPT_LEVELS];
	unsigned count, shift; /* shift: log2 of what the leaf maps */
	uint32_t rights;       /* of all entries together */
};

static int violation(struct soft_vcpu *v, uint64_t gpa, const struct soft_ept_access *a,
		     uint32_t rights)
{
	v->vmexit = (struct soft_vmexit){
		.reason = REASON_EPT_VIOLATION,
		.qualification = a->need | rights << EPT_Q_RIGHTS_SHIFT | a->what,
		.gla = a->gla,
		.gpa = gpa,
	};
	return SOFT_VMEXIT;
}

static int misconfiguration(struct soft_vcpu *v, uint64_t gpa, const struct soft_ept_access *a)
{
	v->vmexit = (struct soft_vmexit){
		.reason = REASON_EPT_MISCONFIG, .gla = a->gla, .gpa = gpa,
	};
	return SOFT_VMEXIT;
}

/* SDM 3C 28.3.3.1. Execute-only pages are offered. */
static bool misconfigured(const struct soft_vcpu *v, uint64_t value, unsigned shift, bool leaf)
{
	unsigned type = value >> 3 & 7;

	if ((value & (EPT_R | EPT_W)) == EPT_W || (value & v->pa_reserved))
		return true;
	if (!leaf)
		return value & (shift == 39 ? 0xf8 : 0x78);
	return type == 2 || type == 3 || type == 7 ||
	       (value & EPT_ADDR & ((1ull << shift) - 1));
}

/* Collects the entries for gpa. SOFT_OK or SOFT_VMEXIT. */
static int walk(struct soft_vcpu *v, uint64_t gpa, const struct soft_ept_access *a,
		struct ept_path *path)
{
	uint64_t table = v->eptp & EPT_ADDR;

	path->count = 0;
	path->rights = EPT_RWX;
	if (gpa >> 48) /* four levels do not reach there */
		return violation(v, gpa, a, 0);
	for (unsigned shift = 39;; shift -= 9) {
		uint64_t at = table + (gpa >> shift & 511) * 8, value;
		const uint8_t *p = soft_gpa_ptr(v, at, false);
		bool leaf;

		if (!p) /* the bus gives ones: reserved bits */
			return misconfiguration(v, gpa, a);
		value = __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
		if (!(value & EPT_RWX))
			return violation(v, gpa, a, 0);
		leaf = shift == 12 || ((shift == 30 || shift == 21) && (value & EPTE_PS));
		if (misconfigured(v, value, shift, leaf))
			return misconfiguration(v, gpa, a);
		path->rights &= value;
		path->addr[path->count] = at;
		path->value[path->count++] = value;
		path->shift = shift;
		if (leaf)
			return a->need & ~path->rights ? violation(v, gpa, a, path->rights) : SOFT_OK;
		table = value & EPT_ADDR;
	}
}

/* 29.3.6: what becomes dirty is logged. SOFT_OK, or SOFT_VMEXIT: the log is full. */
static int log_room(struct soft_vcpu *v)
{
	if (v->vmx.vmcs.pml_index < PML_ENTRIES)
		return SOFT_OK;
	v->vmexit = (struct soft_vmexit){ .reason = REASON_PML_FULL };
	return SOFT_VMEXIT;
}

static void log_dirty(struct soft_vcpu *v, uint64_t gpa)
{
	uint64_t at = v->vmx.vmcs.pml_address + v->vmx.vmcs.pml_index * 8u;
	uint8_t *p = soft_gpa_ptr(v, at, true);

	v->vmx.vmcs.pml_index--;
	if (!p)
		return;
	__atomic_store_n((uint64_t *)(void *)p, gpa & PAGE_BASE, __ATOMIC_RELAXED);
	if (soft_code_overlaps(soft_vm_of(v), at, 8))
		soft_code_written(soft_vm_of(v), v, at, 8);
}

/* False: an entry changed meanwhile. */
static bool set_ad(struct soft_vcpu *v, struct ept_path *path, bool write)
{
	for (unsigned i = 0; i < path->count; i++) {
		uint64_t bits = EPTE_A | (write && i == path->count - 1 ? (uint64_t)EPTE_D : 0);
		uint64_t old = path->value[i];
		uint8_t *p;

		if ((old & bits) == bits)
			continue;
		p = soft_gpa_ptr(v, path->addr[i], true);
		if (!p) /* tables in ROM */
			continue;
		if (!__atomic_compare_exchange_n((uint64_t *)p, &old, old | bits, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			return false;
		path->value[i] |= bits;
		if (soft_code_overlaps(soft_vm_of(v), path->addr[i], 8))
			soft_code_written(soft_vm_of(v), v, path->addr[i], 8);
	}
	return true;
}

static bool enough(const struct soft_ept_entry *e, uint32_t need)
{
	return !(need & ~(uint32_t)e->rights) && (!(need & EPT_W) || e->dirty);
}

int soft_ept_translate(struct soft_vcpu *v, uint64_t gpa, const struct soft_ept_access *a,
		       struct soft_ept_entry *ret)
{
	struct soft_ept_entry *e = &v->ept_cache[(gpa >> 12) % SOFT_EPT_CACHE];
	bool ad = v->eptp & EPTP_AD, log;
	struct ept_path path;
	uint64_t leaf;

	if (e->gpa == (gpa & PAGE_BASE) && enough(e, a->need)) {
		*ret = *e;
		ret->mem |= gpa & PAGE_OFFSET;
		return SOFT_OK;
	}
	for (unsigned retry = 0;; retry++) {
		int rc = walk(v, gpa, a, &path);

		if (rc != SOFT_OK) {
			if (e->gpa == (gpa & PAGE_BASE)) /* a violation drops what was cached */
				e->gpa = SOFT_TAG_INVALID;
			return rc;
		}
		log = ad && a->set_ad && (a->need & EPT_W) && (v->vmx.proc2 & PROC2_PML) &&
		      !(path.value[path.count - 1] & EPTE_D);
		if (log && log_room(v) != SOFT_OK)
			return SOFT_VMEXIT;
		if (!ad || !a->set_ad || set_ad(v, &path, a->need & EPT_W) || retry == EPT_RETRIES)
			break;
	}
	if (log)
		log_dirty(v, gpa);
	leaf = path.value[path.count - 1];
	ret->gpa = gpa & PAGE_BASE;
	ret->mem = (leaf & EPT_ADDR & ~((1ull << path.shift) - 1)) |
		   (gpa & ((1ull << path.shift) - 1) & PAGE_BASE);
	ret->rights = (uint8_t)path.rights;
	ret->dirty = !ad || (leaf & EPTE_D);
	if (a->set_ad && !(v->v.vm->options.soft_debug & VMX_SOFT_NO_TLB)) {
		*e = *ret;
		v->ept_cached = true;
	}
	ret->mem |= gpa & PAGE_OFFSET;
	return SOFT_OK;
}

int soft_guest_phys(struct soft_vcpu *v, uint64_t gpa, uint8_t **ret_host)
{
	const struct soft_ept_access a = { .need = EPT_R, .set_ad = true };
	struct soft_ept_entry e = { .mem = gpa };

	*ret_host = NULL;
	if (v->eptp) {
		int rc = soft_ept_translate(v, gpa, &a, &e);

		if (rc != SOFT_OK)
			return rc;
	}
	*ret_host = soft_gpa_ptr(v, e.mem, false);
	return SOFT_OK;
}

void soft_ept_cache_flush(struct soft_vcpu *v)
{
	if (!v->ept_cached)
		return;
	for (unsigned i = 0; i < SOFT_EPT_CACHE; i++)
		v->ept_cache[i].gpa = SOFT_TAG_INVALID;
	v->ept_cached = false;
}
