/* SPDX-License-Identifier: Apache-2.0 */
/* pcid.h - what the guest's address spaces have in the TLB while another one is in use. GENERAL. */
#ifndef VMX_SOFT_PCID_H
#define VMX_SOFT_PCID_H

#include "vmx-driver/soft/soft.h"

/* Linux uses 6 PCIDs a processor: the current one has no image. */
#define SOFT_IMAGES 6u
#define SOFT_IMAGE_PAGES 256u
#define SOFT_IMAGE_BRANCHES 1024u

struct soft_image {
	bool used;
	uint16_t pcid;
	uint64_t age;        /* v->images->clock when it was saved */
	unsigned page_count, branch_count;
	struct {
		uint16_t ctx, slot;
		struct soft_l1 entry;
	} page[SOFT_IMAGE_PAGES];
	/* The branch table of user code: all of it is void when code was thrown away since. */
	uint32_t mode;
	uint64_t code_epoch;
	struct {
		uint16_t slot;
		struct soft_ibtc entry;
	} branch[SOFT_IMAGE_BRANCHES];
	uint64_t ibtc_pages[64];
	uint8_t ibtc_halves;
	struct soft_large large[CTX_KINDS];
};

struct soft_images {
	uint64_t clock;
	struct soft_image image[SOFT_IMAGES];
};

/* MOV CR3 from one PCID to another, in root operation; keep: bit 63 of its operand. What is not global
 * leaves the TLB; what the new one had there when it was left comes back. */
void soft_pcid_switch(struct soft_vcpu *v, uint16_t from, uint16_t to, bool keep);
/* Forgets what a PCID that is not in use has, or all of them. */
void soft_pcid_drop(struct soft_vcpu *v, uint16_t pcid);
void soft_pcid_drop_all(struct soft_vcpu *v);
/* The page at that host address may not be written without a look any more. */
void soft_pcid_protect(struct soft_vcpu *v, uint64_t host);

#endif
