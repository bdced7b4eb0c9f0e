/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_loop.h - loops whose memory is checked before they run, not at each access.
 *
 * A block that ends in a jump to its own start, and whose operands in memory move by a constant from one
 * iteration to the next, has its body twice. Its start looks at the page of each such stream of
 * addresses and computes how many iterations stay within all of them; the fast body runs so many
 * without checks, with host addresses. Where a page is not at hand, or the next iteration crosses
 * its border, the ordinary body does one iteration and goes back to the start.
 *
 * The fast body keeps what it needs in host registers whose guest registers the loop does not use;
 * guest registers that live in memory otherwise are renamed to such for as long.
 */
#ifndef VMX_SOFT_JIT_LOOP_H
#define VMX_SOFT_JIT_LOOP_H

#include "vmx-driver/soft/jit_tr.h"

#define LOOP_ITEMS 48u
#define LOOP_STREAMS 8u
#define LOOP_SPAN 512      /* bytes that a stream has in one iteration, at most */
#define LOOP_STRIDE 1024   /* bytes that it moves */
#define LOOP_TWICE 24u     /* guest instructions of a body that may stand there a second time */
#define LOOP_POLL 4096u    /* guest instructions without a look at what the vCPU is wanted for */

struct loop_stream {
	uint8_t base, index, log2; /* guest registers, or JIT_NOBODYS: base + (index << log2) */
	bool base_moves;           /* with its iterations; else only the index does, if any */
	bool write;
	bool code;                 /* from the guest's code on: [RIP + ...] */
	uint8_t host;    /* register with what is added to the one that moves: distance and the other */
	unsigned item;   /* one of its accesses */
	int64_t stride;
	int64_t lo, hi;  /* of its first iteration, from base + (index << log2) as they are then */
	uint32_t slot, l0; /* its L0 entry, and the GS displacement of that */
};

struct loop_access { /* an item's operand in memory */
	uint8_t stream;  /* or JIT_NOBODYS */
	int64_t bias;    /* of the register that does not move, since the start of the iteration */
	int64_t at;      /* from base + (index << log2) as they were then */
};

/* Where the jump back asks how far a register that moves by a constant is from one that does not, or from
 * an immediate: then the iterations are counted before they run, and neither compared nor left in
 * their middle. */
struct loop_trips {
	uint8_t moving;  /* guest register */
	uint8_t fixed;   /* guest register, or JIT_NOBODYS: imm */
	bool wide;       /* 64 bits are compared, not 32 */
	bool elided;     /* by a CMP, which is not there in the fast body */
	uint8_t beyond;  /* condition code of fixed - moving (its negative, going down): past it; or 0 */
	int32_t stride;  /* added before it is compared; 0: nothing of the kind */
	int32_t imm;
};

struct loop {
	unsigned back; /* item that jumps back */
	struct loop_trips trips;
	unsigned bodies; /* so many were emitted */
	unsigned pad, pad_body; /* bytes before the head of that one */
	unsigned stream_count;
	struct loop_stream stream[LOOP_STREAMS];
	struct loop_access access[LOOP_ITEMS];
	uint32_t used;      /* guest registers of the loop */
	uint8_t name[16];   /* the guest register whose host register it has, an involution */
	uint32_t borrowed;  /* pinned guest registers whose values wait in v->gpr */
	uint8_t counter;    /* host register */
	uint8_t *head, *end; /* of the fast body */
	uint8_t *miss;      /* a jump to the ordinary body, or NULL */
};

/* jit_loop.c: is there such a loop from that item on, and what are its streams? */
bool jit_loop_find(const struct tr *t, struct loop *loop, unsigned first);
/* Its items' registers by the names that they have in the fast body, and, called again, by their own. */
void jit_loop_rename(struct tr *t, const struct loop *loop);

#endif
