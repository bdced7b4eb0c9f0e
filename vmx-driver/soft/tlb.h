/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlb.h - the tables in which an access or an indirect branch finds what it needs without a walk:
 * per vCPU, read by translated code (jit_stubs.c) and filled by tlb.c, access.c and ept.c. Only the
 * vCPU's own thread touches them, or another one in an exclusive section.
 */
#ifndef VMX_SOFT_TLB_H
#define VMX_SOFT_TLB_H

#include <stdbool.h>
#include <stdint.h>

/* TLB contexts: whose rules an access follows. The second half is for VMX non-root operation; its
 * tables are not set up and not looked at where the VM has no VMX (v->ctx_count). */
enum { CTX_USER = 0, CTX_KERNEL = 1, CTX_KERNEL_AC = 2, CTX_KINDS = 3, CTX_COUNT = 2 * CTX_KINDS };

#define SOFT_L0_SIZE 4096u
#define SOFT_L1_SIZE 4096u
#define SOFT_L1_OTHER (SOFT_L1_SIZE / 2)
#define SOFT_IBTC_SIZE 16384u
#define SOFT_IBTC_LOG 2048u
#define SOFT_L1_LOG 512u
#define SOFT_TAG_INVALID 0x8000000000000000ull /* not canonical: no access gets there and lives */
#define SOFT_DELTA_INVALID 0x8100000000000000ull /* tag + this is not a host address: #GP */

/* L0, one entry per access site: (la - tag) <= 4096 - size is a hit; host = la + delta, or, in entries
 * with SOFT_L0_PAGE in their index, host = la - tag + delta. SOFT_L0_WRITE: may be written. */
enum { SOFT_L0_LINE = 4, SOFT_L0_WRITE = 4, SOFT_L0_PAGE = 8, SOFT_L0_KINDS = 16 };
struct soft_l0 {
	uint64_t tag, delta;
};
/* L1, hashed by page number: index (la >> 12) % SOFT_L1_SIZE, or that ^ SOFT_L1_OTHER for a page that had
 * to make room. tag_r / tag_w are the page's linear address when it may be read / written by this
 * context, else SOFT_TAG_INVALID. */
enum {
	SOFT_L1_GLOBAL = 1,
	SOFT_L1_LARGE = 2, /* all SOFT_LARGE_SIZE bytes around it may be read with the same delta */
};
#define SOFT_LARGE_SHIFT 21
#define SOFT_LARGE_SIZE (1u << SOFT_LARGE_SHIFT)
struct soft_l1 {
	uint64_t tag_r, tag_w, delta;
	uint64_t gpa; /* page, and SOFT_L1_* */
};
/* Runs, of sites whose L0 entry misses often: pages that follow each other in linear memory, all of which
 * the site may access, and that do so in host memory too (alias.h). (la - tag) <= limit is a hit for
 * accesses of up to the size that the index is for (jit_slot.c); host as of L0. */
#define SOFT_RUNS_OF_KIND 128u
enum { SOFT_RUN_WRITE = 1 * SOFT_RUNS_OF_KIND, SOFT_RUN_PAGE = 2 * SOFT_RUNS_OF_KIND };
#define SOFT_RUNS (4 * SOFT_RUNS_OF_KIND)
#define SOFT_RUN_SIZE_MAX 128u /* the largest access that has one */
struct soft_run {
	uint64_t tag, delta, limit;
	uint64_t last; /* byte of it */
};
/* log2 of the size that the run of such an access is for */
static inline unsigned soft_run_class(unsigned size)
{
	return size > 1 ? 32 - (unsigned)__builtin_clz(size - 1) : 0;
}
/* Indirect-branch table: index jit_branch_slot(rip); host entry for guest address rip, valid
 * for the current mode of that context. */
struct soft_ibtc {
	uint64_t rip;
	void *host;
};
/* What an entry of L0 for that address leaves in l0_pages: a bit for its page and one for the 2 MiB
 * around it. jit_stubs.c does the same. */
static inline uint64_t soft_l0_pages(uint64_t la)
{
	return 1ull << (la >> 12 & 63) | 1ull << (la >> 21 & 63);
}
struct soft_large { /* large pages of which fragments are cached */
	uint64_t pages[64]; /* bloom filter: tlb.c, large_bit() */
	bool used;          /* any bit of it is set */
};
/* The rip of entry i if it is for none. A jump to SOFT_TAG_INVALID itself looks in entry 0. */
static inline uint64_t soft_ibtc_free(unsigned i)
{
	return i ? SOFT_TAG_INVALID : 1;
}
/* Of all addresses: 0 the lower, 1 the upper, which is the kernel's. */
static inline unsigned soft_half(uint64_t la)
{
	return la >> 47 & 1;
}
struct soft_tlb {
	struct soft_l0 l0[SOFT_L0_SIZE];
	struct soft_l1 l1[SOFT_L1_SIZE];
	struct soft_ibtc ibtc[SOFT_IBTC_SIZE];
	struct soft_run run[SOFT_RUNS];
	uint64_t runs_used; /* bit n: in the n-th 64th of run there may be some */
	/* For each 64th of l0, what was put into it since it was cleared: soft_l0_pages(). */
	uint64_t l0_pages[64];
	/* Bit n: something was put into the n-th 64th of the table since it was cleared. */
	uint64_t l1_chunks;
	uint32_t ibtc_filled; /* entries since it was cleared: the first ones are in ibtc_log */
	uint16_t ibtc_log[SOFT_IBTC_LOG];
	uint64_t ibtc_pages[64]; /* bloom filter over linear pages with ibtc entries: bit
				  * (page ^ page >> 12) % 4096 */
	uint8_t ibtc_halves;     /* soft_half() of those pages, a bit each */
	uint32_t ibtc_mode;      /* v->mode the ibtc entries are for */
	bool has_nonglobal;      /* something not global was cached since the last full flush */
	bool nonglobal_code;     /* and that is so of code: exec TLB, ibtc */
	bool has_global;         /* something global was cached */
	bool used;               /* l0 or l1 may hold a valid entry */
	uint32_t l1_filled;      /* entries of l1 that are not global since they were cleared, and */
	uint16_t l1_log[SOFT_L1_LOG]; /* the first ones */
	struct soft_large large[2]; /* of pages that are not global, and that are */
};

/* Exec TLB of soft_fetch(): index (la >> 12) % SIZE, per context (both kernel ones share it). */
#define SOFT_X_SIZE 256u
#define SOFT_X_CHUNK (SOFT_X_SIZE / 64)
struct soft_xtlb {
	uint64_t tag; /* linear page, or SOFT_TAG_INVALID */
	uint64_t gpa; /* page */
	uint8_t *host;
};

/* Guest-physical mappings: what EPT says of a page. Index (gpa >> 12) % SIZE. */
#define SOFT_EPT_CACHE 1024u
struct soft_ept_entry {
	uint64_t gpa;   /* page in the VMX guest, or SOFT_TAG_INVALID */
	uint64_t mem;   /* page in this VM */
	uint8_t rights; /* EPT_R, EPT_W, EPT_X (ept.h) */
	bool dirty;     /* a write sets no bit any more */
};

#endif
