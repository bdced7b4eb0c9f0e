/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_kept.h - guest registers that live in memory, and copies of them that r9 and r10 have.
 *
 * What was loaded or stored need not go through memory again, for which the processor takes several
 * cycles. A copy is good while nothing was emitted since, or e_kept_over() said that what was leaves
 * it alone: so whoever knows nothing of copies ends them all. Memory has the value as well, always:
 * slow paths take the copies from there.
 */
#ifndef VMX_SOFT_JIT_KEPT_H
#define VMX_SOFT_JIT_KEPT_H

#include "vmx-driver/soft/jit_emit.h"

#define HOST_BIT(host) (1u << (host))

/* The guest register that the host register has a copy of here, or -1. */
static inline int e_kept_guest(const struct jit_buf *b, unsigned host)
{
	unsigned k = host - JIT_KEPT_FIRST;

	return b->keeps && k < JIT_KEPT_HOSTS && b->kept[k].at == b->p ? b->kept[k].guest : -1;
}
/* A host register that has a copy of the guest register here, or -1. */
static inline int e_kept_host(const struct jit_buf *b, unsigned guest)
{
	for (unsigned host = JIT_KEPT_FIRST; host < JIT_KEPT_FIRST + JIT_KEPT_HOSTS; host++)
		if (e_kept_guest(b, host) == (int)guest)
			return (int)host;
	return -1;
}
/* What was emitted from there on changed those host registers (HOST_BIT()) alone. */
static inline void e_kept_over(struct jit_buf *b, const uint8_t *from, unsigned changed)
{
	for (unsigned k = 0; k < JIT_KEPT_HOSTS; k++)
		if (b->kept[k].at == from)
			b->kept[k].at = changed >> (JIT_KEPT_FIRST + k) & 1 ? NULL : b->p;
}
/* The host register has a copy of the guest register from here on. */
static inline void e_keep(struct jit_buf *b, unsigned host, unsigned guest)
{
	unsigned k = host - JIT_KEPT_FIRST;

	if (k >= JIT_KEPT_HOSTS)
		return;
	b->kept[k].guest = (uint8_t)guest;
	b->kept[k].at = b->p;
	b->kept_last = (uint8_t)host;
}
/* Reads a guest register into that host register. */
static inline void e_get_gpr(struct jit_buf *b, unsigned host, unsigned guest)
{
	const uint8_t *from = b->p;
	int kept = e_kept_host(b, guest);

	if (kept == (int)host)
		return;
	if (kept >= 0)
		e_mov(b, host, (unsigned)kept);
	else
		e_load_gpr(b, host, guest);
	e_kept_over(b, from, HOST_BIT(host));
	e_keep(b, host, guest);
}
/* Its new value is in that host register. */
static inline void e_put_gpr(struct jit_buf *b, unsigned host, unsigned guest)
{
	const uint8_t *from = b->p;
	unsigned stale = 0;

	for (unsigned k = JIT_KEPT_FIRST; k < JIT_KEPT_FIRST + JIT_KEPT_HOSTS; k++)
		if (e_kept_guest(b, k) == (int)guest)
			stale |= HOST_BIT(k);
	e_store_gpr(b, host, guest);
	e_kept_over(b, from, stale | HOST_BIT(host));
	e_keep(b, host, guest);
}
/* The host register, r9 to r11 and none of `taken`, whose copy is the least loss. */
static inline unsigned e_kept_spare(const struct jit_buf *b, unsigned taken)
{
	unsigned spare = H_R11;

	for (unsigned host = JIT_KEPT_FIRST; host < JIT_KEPT_FIRST + JIT_KEPT_HOSTS; host++) {
		if (taken >> host & 1)
			continue;
		if (e_kept_guest(b, host) < 0)
			return host;
		if (spare == H_R11 || host != b->kept_last)
			spare = host;
	}
	return spare;
}
/* Any host register that has it, loaded into one that is none of `taken` if need be. */
static inline unsigned e_use_gpr(struct jit_buf *b, unsigned guest, unsigned taken)
{
	int kept = e_kept_host(b, guest);
	unsigned host = kept >= 0 ? (unsigned)kept : e_kept_spare(b, taken);

	if (kept < 0)
		e_get_gpr(b, host, guest);
	else
		b->kept_last = (uint8_t)host;
	return host;
}

/* op reg, the base of FS or GS */
static inline void e_segment_base(struct jit_buf *b, bool w, unsigned opcode, unsigned reg, ZydisRegister segment)
{
	const uint8_t *from = b->p;

	e_gs(b, w, opcode, reg, segment == ZYDIS_REGISTER_FS ? GS_OFF(seg[SOFT_FS].base) : GS_OFF(seg[SOFT_GS].base));
	e_kept_over(b, from, HOST_BIT(reg));
}

#endif
