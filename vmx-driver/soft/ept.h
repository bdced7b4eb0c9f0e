/* SPDX-License-Identifier: Apache-2.0 */
/* ept.h - extended page tables (SDM 3C 28.3): from addresses of the VMX guest to those of this VM.
 * GENERAL. */
#ifndef VMX_SOFT_EPT_H
#define VMX_SOFT_EPT_H

#include "vmx-driver/soft/soft.h"

enum { /* rights in an entry, and the same bits for the kind of an access in the qualification */
	EPT_R = 1u << 0,
	EPT_W = 1u << 1,
	EPT_X = 1u << 2,
	EPT_RWX = EPT_R | EPT_W | EPT_X,
};
enum { /* exit qualification of a violation (SDM 3C table 27-7) */
	EPT_Q_RIGHTS_SHIFT = 3,
	EPT_Q_GLA = 1u << 7,   /* the guest-linear address is valid */
	EPT_Q_FINAL = 1u << 8, /* its translation was accessed, not a paging-structure entry */
};
#define EPTP_AD (1ull << 6)
#define EPT_ADDR 0x000ffffffffff000ull

struct soft_ept_access {
	uint64_t gla;
	uint32_t need;     /* EPT_*: rights that it takes, told as its kind */
	uint32_t what;     /* EPT_Q_GLA, EPT_Q_FINAL or 0 */
	bool set_ad;       /* sets accessed and dirty bits, may be cached */
};

/* Translates an address of the VMX guest with v->eptp (not 0). SOFT_OK: ret->mem is the address in
 * this VM, ret->rights and ret->dirty are the page's. SOFT_VMEXIT: violation or misconfiguration. */
int soft_ept_translate(struct soft_vcpu *v, uint64_t gpa, const struct soft_ept_access *a,
		       struct soft_ept_entry *ret);
/* An entry of the guest's paging structures: what its processor needs of EPT to read it. With
 * accessed and dirty bits every such access counts as a write. */
static inline uint32_t soft_ept_table_need(const struct soft_vcpu *v)
{
	return EPT_R | ((v->eptp & EPTP_AD) ? (uint32_t)EPT_W : 0);
}
/* Memory that the processor reads by guest-physical address, outside any translation (PDPTEs).
 * *ret_host is NULL where no memory is. SOFT_OK or SOFT_VMEXIT. */
int soft_guest_phys(struct soft_vcpu *v, uint64_t gpa, uint8_t **ret_host);
/* Forgets the cached guest-physical mappings. */
void soft_ept_cache_flush(struct soft_vcpu *v);

#endif
