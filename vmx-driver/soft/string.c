/* SPDX-License-Identifier: Apache-2.0 */
/*
 * string.c - MOVS CMPS STOS LODS SCAS INS OUTS, with and without REP.
 *
 * A repeated instruction advances in pieces: at most one page of source and destination each, or
 * one element where memory is not plain RAM. The count and index registers are exact after every
 * piece, so it can end anywhere: at a fault, at an exit to the caller, or because v->exit_req asks
 * (SOFT_AGAIN with v->rip still at the instruction).
 */
#include "vmx-driver/soft/step.h"
#include "vmx-driver/soft/vmx_ops.h"

struct rep {
	const struct soft_insn *insn;
	unsigned size;    /* of an element */
	unsigned width;   /* of addresses and the count, bytes */
	unsigned seg;     /* of the source */
	bool rep, repne;  /* repne: F2, which SCAS and CMPS tell apart */
	bool down;        /* DF */
	uint64_t count, si, di; /* within width; count is 1 without REP */
	uint64_t step;    /* what one element adds to an index */
};

static void rep_begin(struct soft_vcpu *v, const struct soft_insn *insn, struct rep *r)
{
	const ZydisDecodedOperand *op;

	r->insn = insn;
	r->size = 1;
	r->seg = SOFT_DS;
	r->width = insn->zi.address_width / 8;
	r->rep = r->repne = false;
	/* Not the attributes: F2 means REP for MOVS, STOS, LODS, INS, OUTS too. The last one counts. */
	for (unsigned i = 0; i < insn->zi.raw.prefix_count; i++) {
		if (insn->zi.raw.prefixes[i].value == 0xf2) {
			r->rep = r->repne = true;
		} else if (insn->zi.raw.prefixes[i].value == 0xf3) {
			r->rep = true;
			r->repne = false;
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		if (insn->mem[i] < 0)
			continue;
		op = &insn->op[insn->mem[i]];
		r->size = op->size / 8u;
		if (op->mem.base == ZYDIS_REGISTER_RSI || op->mem.base == ZYDIS_REGISTER_ESI ||
		    op->mem.base == ZYDIS_REGISTER_SI)
			r->seg = (unsigned)soft_sreg(op->mem.segment);
	}
	r->down = v->rflags & FL_DF;
	r->step = r->down ? -(uint64_t)r->size : r->size;
	r->count = r->rep ? v->gpr[SOFT_RCX] & soft_mask(r->width) : 1;
	r->si = v->gpr[SOFT_RSI] & soft_mask(r->width);
	r->di = v->gpr[SOFT_RDI] & soft_mask(r->width);
}

enum { USE_SI = 1, USE_DI = 2 };

/* n elements are done: registers, and nothing of them is left in the access log. */
static void rep_commit(struct soft_vcpu *v, struct rep *r, uint64_t n, unsigned use)
{
	if (use & USE_SI) {
		r->si = (r->si + n * r->step) & soft_mask(r->width);
		soft_set_gpr(v, SOFT_RSI, r->width, r->si);
	}
	if (use & USE_DI) {
		r->di = (r->di + n * r->step) & soft_mask(r->width);
		soft_set_gpr(v, SOFT_RDI, r->width, r->di);
	}
	r->count -= n;
	if (r->rep)
		soft_set_gpr(v, SOFT_RCX, r->width, r->count);
	soft_log_clear(v);
}

/* What to return after a piece, or -1 to go on with the next. */
static int rep_next(struct soft_vcpu *v, const struct rep *r)
{
	if (r->count == 0)
		return soft_done(v);
	if (soft_single(v)) { /* the trap comes after each element */
		v->next_rip = v->rip;
		return SOFT_OK;
	}
	if (atomic_load_explicit(&v->exit_req, memory_order_relaxed))
		return SOFT_AGAIN;
	return -1;
}

/* How many elements from offset on lie in one page, in the direction of DF, with no wrap. */
static uint64_t elements_in_page(const struct rep *r, uint64_t offset, uint64_t la)
{
	uint64_t n, wrap, room = soft_mask(r->width) - offset;

	if (r->down) {
		n = (la & 0xfff) + r->size > 0x1000 ? 0 : (la & 0xfff) / r->size + 1;
		wrap = offset / r->size + 1;
	} else {
		n = (0x1000 - (la & 0xfff)) / r->size;
		wrap = ((room < 0xffff ? room : 0xffff) + 1) / r->size;
	}
	return n < wrap ? n : wrap;
}

struct span { /* n elements of memory at one index register */
	uint64_t la;  /* of the first element */
	uint64_t low; /* of the lowest byte */
	void *host;   /* of the lowest byte, or NULL */
};

/* Linear address of the element at offset. */
static int element_la(struct soft_vcpu *v, const struct rep *r, unsigned seg, uint64_t offset,
		      bool write, uint64_t *ret_la)
{
	return soft_data_la(v, seg, offset, r->size, write, ret_la);
}

/* Tries to get n elements at s->la as host memory (s->host). False if not all of them may be
 * accessed: then the elements go one by one, and the one that faults is exact. */
static bool span_open(struct soft_vcpu *v, const struct rep *r, unsigned seg, uint64_t offset,
		      bool write, uint64_t n, struct span *s)
{
	uint64_t below = r->down ? (n - 1) * r->size : 0, la;
	unsigned bytes = (unsigned)(n * r->size);

	s->host = NULL;
	s->low = s->la - below;
	if (n > 1 && soft_linear(v, seg, offset - below, bytes, write, &la) != SOFT_OK)
		return false;
	if (soft_host_ptr(v, s->low, bytes, write ? ACC_WRITE : 0, &s->host) != SOFT_OK) {
		s->host = NULL;
		return false;
	}
	return true;
}

static uint64_t piece(const struct soft_vcpu *v, const struct rep *r)
{
	return soft_single(v) ? 1 : r->count;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- MOVS ----------------------------------------------------------------------------------- */

#define REP_NATIVE(insn)                                                                        \
	do {                                                                                    \
		if (down)                                                                       \
			__asm__ volatile("std; rep " insn "; cld"                               \
					 : "+D"(dst), "+S"(src), "+c"(n)                        \
					 : "a"(val)                                             \
					 : "memory", "cc");                                     \
		else                                                                            \
			__asm__ volatile("rep " insn                                            \
					 : "+D"(dst), "+S"(src), "+c"(n)                        \
					 : "a"(val)                                             \
					 : "memory");                                           \
	} while (0)

/* The host's own instruction: also right for overlapping operands. dst, src: first element. */
static void movs_native(uint8_t *dst, const uint8_t *src, uint64_t n, unsigned size, bool down)
{
	uint64_t val = 0;

	switch (size) {
	case 1:
		REP_NATIVE("movsb");
		break;
	case 2:
		REP_NATIVE("movsw");
		break;
	case 4:
		REP_NATIVE("movsl");
		break;
	default:
		REP_NATIVE("movsq");
		break;
	}
}

static void stos_native(uint8_t *dst, uint64_t val, uint64_t n, unsigned size, bool down)
{
	const uint8_t *src = NULL;

	switch (size) {
	case 1:
		REP_NATIVE("stosb");
		break;
	case 2:
		REP_NATIVE("stosw");
		break;
	case 4:
		REP_NATIVE("stosl");
		break;
	default:
		REP_NATIVE("stosq");
		break;
	}
}

static int movs_element(struct soft_vcpu *v, const struct rep *r, uint64_t src, uint64_t dst)
{
	uint64_t val = 0;
	int rc = soft_read(v, src, &val, r->size, 0);

	if (rc == SOFT_OK)
		rc = soft_write(v, dst, &val, r->size, ACC_WRITE);
	return rc;
}

/* Moves up to n elements if both sides are plain memory; returns how many it did. */
static uint64_t movs_span(struct soft_vcpu *v, const struct rep *r, struct span *src,
			  struct span *dst, uint64_t n)
{
	uint64_t bytes = n * r->size, last = r->down ? bytes - r->size : 0;

	if (!span_open(v, r, r->seg, r->si, false, n, src) || !src->host ||
	    !span_open(v, r, SOFT_ES, r->di, true, n, dst))
		return 0;
	if (dst->host) {
		movs_native((uint8_t *)dst->host + last, (uint8_t *)src->host + last, n, r->size,
			    r->down);
		return n;
	}
	/* A page with translated code takes a whole write as well as many small ones. */
	if (n > 1 && (src->low + bytes <= dst->low || dst->low + bytes <= src->low) &&
	    soft_is_ram(v, dst->low) &&
	    soft_write(v, dst->low, src->host, (unsigned)bytes, ACC_WRITE) == SOFT_OK)
		return n;
	return 0;
}

int soft_op_movs(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	struct span src, dst;
	uint64_t n;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	for (;;) {
		rc = element_la(v, &r, r.seg, r.si, false, &src.la);
		if (rc == SOFT_OK)
			rc = element_la(v, &r, SOFT_ES, r.di, true, &dst.la);
		if (rc)
			return rc;
		n = min64(piece(v, &r), min64(elements_in_page(&r, r.si, src.la),
					      elements_in_page(&r, r.di, dst.la)));
		if (n)
			n = movs_span(v, &r, &src, &dst, n);
		if (n == 0) {
			rc = movs_element(v, &r, src.la, dst.la);
			if (rc)
				return rc;
			n = 1;
		}
		rep_commit(v, &r, n, USE_SI | USE_DI);
		rc = rep_next(v, &r);
		if (rc >= 0)
			return rc;
	}
}

/* --- STOS ----------------------------------------------------------------------------------- */

/* Fills RAM that holds translated code, 64 bytes at a time. n > 0 */
static uint64_t stos_code_page(struct soft_vcpu *v, const struct rep *r, uint64_t low, uint64_t n)
{
	uint64_t buf[8], part = min64(n, sizeof(buf) / r->size);

	if (!soft_is_ram(v, low))
		return 0;
	stos_native((uint8_t *)buf, v->gpr[SOFT_RAX], part, r->size, false);
	if (r->down)
		low += (n - part) * r->size;
	return soft_write(v, low, buf, (unsigned)(part * r->size), ACC_WRITE) == SOFT_OK ? part : 0;
}

/* Stores up to n elements if the destination is plain memory; returns how many it did. */
static uint64_t stos_span(struct soft_vcpu *v, const struct rep *r, struct span *dst, uint64_t n)
{
	uint64_t last = r->down ? (n - 1) * r->size : 0;

	if (!span_open(v, r, SOFT_ES, r->di, true, n, dst))
		return 0;
	if (!dst->host)
		return n > 1 ? stos_code_page(v, r, dst->low, n) : 0;
	stos_native((uint8_t *)dst->host + last, v->gpr[SOFT_RAX], n, r->size, r->down);
	return n;
}

int soft_op_stos(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	struct span dst;
	uint64_t n;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	for (;;) {
		rc = element_la(v, &r, SOFT_ES, r.di, true, &dst.la);
		if (rc)
			return rc;
		n = min64(piece(v, &r), elements_in_page(&r, r.di, dst.la));
		if (n)
			n = stos_span(v, &r, &dst, n);
		if (n == 0) {
			rc = soft_write(v, dst.la, &v->gpr[SOFT_RAX], r.size, ACC_WRITE);
			if (rc)
				return rc;
			n = 1;
		}
		rep_commit(v, &r, n, USE_DI);
		rc = rep_next(v, &r);
		if (rc >= 0)
			return rc;
	}
}

/* --- LODS, SCAS, CMPS ----------------------------------------------------------------------- */

int soft_op_lods(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	uint64_t la, val;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	for (;;) {
		val = 0;
		rc = element_la(v, &r, r.seg, r.si, false, &la);
		if (rc == SOFT_OK)
			rc = soft_read(v, la, &val, r.size, 0);
		if (rc)
			return rc;
		soft_set_gpr(v, SOFT_RAX, r.size, val);
		rep_commit(v, &r, 1, USE_SI);
		rc = rep_next(v, &r);
		if (rc >= 0)
			return rc;
	}
}

uint16_t soft_compare_flags(uint64_t a, uint64_t b, unsigned size)
{
	uint16_t ax;

	switch (size) {
	case 1:
		__asm__("cmpb %2, %1; lahf; seto %%al"
			: "=&a"(ax) : "q"((uint8_t)a), "q"((uint8_t)b) : "cc");
		break;
	case 2:
		__asm__("cmpw %2, %1; lahf; seto %%al"
			: "=&a"(ax) : "r"((uint16_t)a), "r"((uint16_t)b) : "cc");
		break;
	case 4:
		__asm__("cmpl %2, %1; lahf; seto %%al"
			: "=&a"(ax) : "r"((uint32_t)a), "r"((uint32_t)b) : "cc");
		break;
	default:
		__asm__("cmpq %2, %1; lahf; seto %%al" : "=&a"(ax) : "r"(a), "r"(b) : "cc");
		break;
	}
	return ax;
}

/* REPE ends after a difference, REPNE after a match. */
static bool ends_here(const struct rep *r, uint64_t a, uint64_t b)
{
	return r->rep && (a == b) == r->repne;
}

/* After an element of SCAS or CMPS that was compared: like rep_next(). */
static int compare_next(struct soft_vcpu *v, const struct rep *r, bool end)
{
	return end ? soft_done(v) : rep_next(v, r);
}

/* Compares up to n elements in host memory; the last pair compared is in *a and *b. */
static uint64_t compare_span(const struct rep *r, const uint8_t *p, const uint8_t *q, uint64_t n,
			     uint64_t *a, uint64_t *b)
{
	int64_t step = r->down ? -(int64_t)r->size : (int64_t)r->size;

	for (uint64_t i = 0; i < n; i++) {
		if (p)
			*a = soft_load_host(p + (int64_t)i * step, r->size);
		*b = soft_load_host(q + (int64_t)i * step, r->size);
		if (ends_here(r, *a, *b))
			return i + 1;
	}
	return n;
}

int soft_op_scas(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	struct span dst;
	uint64_t n, a, b;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	a = v->gpr[SOFT_RAX] & soft_mask(r.size);
	for (;;) {
		rc = element_la(v, &r, SOFT_ES, r.di, false, &dst.la);
		if (rc)
			return rc;
		n = min64(piece(v, &r), elements_in_page(&r, r.di, dst.la));
		dst.host = NULL;
		if (n)
			span_open(v, &r, SOFT_ES, r.di, false, n, &dst);
		b = 0;
		if (n && dst.host) {
			n = compare_span(&r, NULL,
					 (uint8_t *)dst.host + (r.down ? (n - 1) * r.size : 0), n,
					 &a, &b);
		} else {
			rc = soft_read(v, dst.la, &b, r.size, 0);
			if (rc)
				return rc;
			n = 1;
		}
		v->aflags = soft_compare_flags(a, b, r.size);
		rep_commit(v, &r, n, USE_DI);
		rc = compare_next(v, &r, ends_here(&r, a, b));
		if (rc >= 0)
			return rc;
	}
}

/* One pair, or up to n where both sides are plain memory. */
static int cmps_piece(struct soft_vcpu *v, const struct rep *r, struct span *src, struct span *dst,
		      uint64_t *n, uint64_t *a, uint64_t *b)
{
	uint64_t last = *n && r->down ? (*n - 1) * r->size : 0;
	int rc;

	*a = *b = 0;
	src->host = dst->host = NULL;
	if (*n) {
		span_open(v, r, r->seg, r->si, false, *n, src);
		span_open(v, r, SOFT_ES, r->di, false, *n, dst);
	}
	if (src->host && dst->host) {
		*n = compare_span(r, (uint8_t *)src->host + last, (uint8_t *)dst->host + last, *n,
				  a, b);
		return SOFT_OK;
	}
	*n = 1;
	rc = soft_read(v, dst->la, b, r->size, 0);
	if (rc == SOFT_OK)
		rc = soft_read(v, src->la, a, r->size, 0);
	return rc;
}

int soft_op_cmps(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	struct span src, dst;
	uint64_t n, a, b;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	for (;;) {
		rc = element_la(v, &r, SOFT_ES, r.di, false, &dst.la);
		if (rc == SOFT_OK)
			rc = element_la(v, &r, r.seg, r.si, false, &src.la);
		if (rc)
			return rc;
		n = min64(piece(v, &r), min64(elements_in_page(&r, r.si, src.la),
					      elements_in_page(&r, r.di, dst.la)));
		rc = cmps_piece(v, &r, &src, &dst, &n, &a, &b);
		if (rc)
			return rc;
		v->aflags = soft_compare_flags(a, b, r.size);
		rep_commit(v, &r, n, USE_SI | USE_DI);
		rc = compare_next(v, &r, ends_here(&r, a, b));
		if (rc >= 0)
			return rc;
	}
}

/* --- INS, OUTS ------------------------------------------------------------------------------ */
/* One element at a time: the port access ends the instruction with SOFT_EXIT, and its second run
 * finds the result in the access log. */

int soft_op_ins(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	uint16_t port = (uint16_t)v->gpr[SOFT_RDX];
	uint64_t la;
	uint32_t data;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	for (;;) {
		data = 0;
		rc = soft_io_allowed(v, port, r.size);
		if (rc == SOFT_OK && soft_nonroot(v))
			rc = soft_vmx_intercept_io(v, port, r.size, true, insn);
		if (rc == SOFT_OK)
			rc = element_la(v, &r, SOFT_ES, r.di, true, &la);
		if (rc == SOFT_OK)
			rc = soft_probe(v, la, r.size, ACC_WRITE);
		if (rc == SOFT_OK)
			rc = soft_port(v, port, r.size, false, &data);
		if (rc == SOFT_OK)
			rc = soft_write(v, la, &data, r.size, ACC_WRITE);
		if (rc)
			return rc;
		rep_commit(v, &r, 1, USE_DI);
		rc = rep_next(v, &r);
		if (rc >= 0)
			return rc;
	}
}

int soft_op_outs(struct soft_vcpu *v, const struct soft_insn *insn)
{
	struct rep r;
	uint16_t port = (uint16_t)v->gpr[SOFT_RDX];
	uint64_t la;
	uint32_t data;
	int rc;

	rep_begin(v, insn, &r);
	if (r.count == 0)
		return soft_done(v);
	for (;;) {
		data = 0;
		rc = soft_io_allowed(v, port, r.size);
		if (rc == SOFT_OK && soft_nonroot(v))
			rc = soft_vmx_intercept_io(v, port, r.size, false, insn);
		if (rc == SOFT_OK)
			rc = element_la(v, &r, r.seg, r.si, false, &la);
		if (rc == SOFT_OK)
			rc = soft_read(v, la, &data, r.size, 0);
		if (rc == SOFT_OK)
			rc = soft_port(v, port, r.size, true, &data);
		if (rc)
			return rc;
		rep_commit(v, &r, 1, USE_SI);
		rc = rep_next(v, &r);
		if (rc >= 0)
			return rc;
	}
}
