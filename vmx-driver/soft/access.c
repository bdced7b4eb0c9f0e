/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access.c - guest memory and ports as instructions see them: TLB, RAM, the local APIC's page,
 * devices through the access log. GENERAL.
 */
#include "vmx-driver/soft/mmu.h"

#include "vmx-driver/soft/vmx_apic.h"

enum page_kind { PAGE_RAM, PAGE_LAPIC, PAGE_VIRTUAL_APIC, PAGE_DEVICE };

struct page {
	uint64_t gpa; /* of the address itself */
	uint8_t *host; /* of the address itself; RAM only */
	enum page_kind kind;
	bool code; /* RAM, and for a write: the page holds translated code */
	struct soft_walk walk;
};

static void copy_8(void *dst, const void *src, unsigned at)
{
	*(volatile soft_u64 *)((uint8_t *)dst + at) =
		*(const volatile soft_u64 *)((const uint8_t *)src + at);
}

/* One access for each size that a processor moves at once: others see all or nothing of it. */
static void copy(void *dst, const void *src, unsigned n)
{
	switch (n) {
	case 1:
		*(volatile uint8_t *)dst = *(const volatile uint8_t *)src;
		break;
	case 2:
		*(volatile soft_u16 *)dst = *(const volatile soft_u16 *)src;
		break;
	case 4:
		*(volatile soft_u32 *)dst = *(const volatile soft_u32 *)src;
		break;
	case 8:
		copy_8(dst, src, 0);
		break;
	default:
		if (n > 16) {
			soft_copy(dst, src, n);
		} else if (n >= 8) { /* two moves that overlap */
			copy_8(dst, src, 0);
			copy_8(dst, src, n - 8);
		} else {
			for (unsigned i = 0; i < n; i++)
				((volatile uint8_t *)dst)[i] = ((const volatile uint8_t *)src)[i];
		}
	}
}

static bool no_tlb(const struct soft_vcpu *v)
{
	return v->v.vm->options.soft_debug & VMX_SOFT_NO_TLB;
}

static bool is_lapic_page(const struct soft_vcpu *v, uint64_t gpa)
{
	return (v->apic_base & (3u << 10)) == 1u << 11 &&
	       !((v->apic_base ^ gpa) & 0x000ffffffffff000ull);
}

/* Does the page lie in a large one whose SOFT_LARGE_SIZE bytes around it are one piece of host memory?
 * EPT may map each of its 4-KiB pages elsewhere. */
static bool is_large(const struct soft_vcpu *v, uint64_t la, bool narrow, const struct vmx_slot *s,
		     const struct page *p)
{
	uint64_t lo = p->gpa & ~(uint64_t)(SOFT_LARGE_SIZE - 1);

	return p->walk.level > 1 && !v->nonroot && lo >= s->gpa &&
	       (!narrow || soft_narrow_piece(la, SOFT_LARGE_SHIFT)) &&
	       lo - s->gpa + SOFT_LARGE_SIZE <= s->size &&
	       !is_lapic_page(v, (v->apic_base & (SOFT_LARGE_SIZE - 1) & PAGE_BASE) | lo);
}

static void fill_l1(struct soft_vcpu *v, unsigned ctx, uint64_t la, const struct vmx_slot *s,
		    const struct page *p)
{
	struct soft_l1 *e = soft_l1_entry(v, ctx, la);
	const struct soft_walk *w = &p->walk;
	uint64_t page = la & PAGE_BASE;
	bool narrow = soft_tlb_narrow(&v->tlb[ctx]), write;

	if (narrow && !soft_narrow_piece(la, 12))
		return;
	write = w->write && w->dirty && (s->flags & VMX_MAP_WRITE) &&
		!soft_code_page(soft_vm_of(v), p->gpa & PAGE_BASE) &&
		(!s->dirty || soft_is_dirty(s, p->gpa));
	if (e->tag_r != page && e->tag_r != SOFT_TAG_INVALID)
		soft_l1_make_room(&v->tlb[ctx], e);
	soft_tlb_log(&v->tlb[ctx], (unsigned)(e - v->tlb[ctx].l1), w->global);
	e->tag_r = page;
	e->tag_w = write ? page : SOFT_TAG_INVALID;
	e->delta = (uint64_t)(uintptr_t)p->host - la;
	e->gpa = (p->gpa & PAGE_BASE) | (w->global ? SOFT_L1_GLOBAL : 0) |
		 (is_large(v, la, narrow, s, p) ? SOFT_L1_LARGE : 0);
	soft_tlb_note(v, ctx, la, w, false);
}

/* Translates, checks, finds what is there, and fills L1 if it is RAM. SOFT_OK, SOFT_EXCEPTION or
 * SOFT_VMEXIT. */
static int resolve(struct soft_vcpu *v, uint64_t la, unsigned flags, struct page *p)
{
	unsigned ctx = soft_ctx(v, flags);
	const struct vmx_slot *s;
	uint32_t need = VMX_MAP_READ;
	int rc;

	if ((v->efer & EFER_LMA) && !soft_canonical(la))
		return soft_raise_error(v, EXC_GP, 0);
	soft_count(&v->n_walks);
	rc = soft_walk_tables(v, la, flags, ctx, true, &p->walk);
	if (rc != SOFT_OK)
		return rc == SOFT_EXCEPTION ? soft_raise_pf(v, la, p->walk.error) : rc;
	p->gpa = p->walk.gpa;
	p->host = NULL;
	p->code = false;
	p->kind = PAGE_VIRTUAL_APIC;
	if (soft_vmx_apic_page(v, p->gpa))
		return SOFT_OK;
	p->kind = PAGE_LAPIC;
	if (is_lapic_page(v, p->gpa))
		return SOFT_OK;
	if (flags & ACC_WRITE)
		need = VMX_MAP_WRITE;
	else if (flags & ACC_EXEC)
		need = VMX_MAP_EXEC;
	s = soft_slot(v, p->gpa);
	p->kind = PAGE_DEVICE;
	if (!s || !(s->flags & need))
		return SOFT_OK;
	p->kind = PAGE_RAM;
	p->host = s->host + (p->gpa - s->gpa);
	if (flags & ACC_WRITE) {
		p->code = soft_code_page_write(soft_vm_of(v), p->gpa & PAGE_BASE);
		soft_mark_dirty(s, p->gpa);
	}
	if (!(flags & ACC_EXEC) && (s->flags & VMX_MAP_READ) && !no_tlb(v))
		fill_l1(v, ctx, la, s, p);
	return SOFT_OK;
}

/* The access as L1 knows it; NULL: ask resolve(). Within one page. */
static inline uint8_t *cached(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags)
{
	struct soft_l1 *e = soft_l1_entry(v, soft_ctx(v, flags), la);
	uint64_t tag = (flags & ACC_WRITE) ? e->tag_w : e->tag_r;

	if (la - tag > 4096 - n || (tag & PAGE_OFFSET) || tag == SOFT_TAG_INVALID)
		return NULL;
	return (uint8_t *)(uintptr_t)(la + e->delta);
}

/* --- outside RAM ---------------------------------------------------------------------------- */

static bool is_read(enum soft_log_kind kind)
{
	return kind == SOFT_LOG_MEM_READ || kind == SOFT_LOG_IO_READ;
}

static void log_add(struct soft_vcpu *v, enum soft_log_kind kind, uint64_t addr, unsigned size,
		    uint64_t data)
{
	struct soft_log *log = &v->log;

	log->entry[log->count].kind = kind;
	log->entry[log->count].size = (uint8_t)size;
	log->entry[log->count].addr = addr;
	log->entry[log->count].data = data;
	log->count++;
	log->next = log->count;
}

/* Takes the next entry of the log if this execution of the instruction had it done already. */
static bool log_take(struct soft_vcpu *v, enum soft_log_kind kind, uint64_t addr, unsigned size,
		     uint64_t *data)
{
	struct soft_log *log = &v->log;
	unsigned i = log->next;

	if (i < log->count) {
		if (log->entry[i].kind == kind && log->entry[i].addr == addr &&
		    log->entry[i].size == size) {
			if (is_read(kind))
				*data = log->entry[i].data;
			log->next++;
			return true;
		}
		log->count = i; /* it goes another way this time */
	}
	if (log->count < SOFT_LOG_MAX)
		return false;
	if (is_read(kind))
		*data = ~0ull;
	return true;
}

/* Not GENERAL: through here only. */
static bool ring_bell(struct soft_vcpu *v, uint64_t gpa, unsigned size)
{
	bool live = v->fp_live, rung;

	if (!atomic_load_explicit(&v->v.vm->trap_count, memory_order_relaxed))
		return false;
	soft_fp_save(v);
	rung = vmx_trap_ring(v->v.vm, gpa, size);
	if (live)
		soft_fp_load(v);
	return rung;
}

/* One access of 1..8 bytes to the caller of resume. */
static int device(struct soft_vcpu *v, uint64_t la, uint64_t gpa, unsigned size, bool write,
		  uint64_t *data)
{
	enum soft_log_kind kind = write ? SOFT_LOG_MEM_WRITE : SOFT_LOG_MEM_READ;
	struct vmx_exit *x = &v->exit_request;

	if (log_take(v, kind, gpa, size, data))
		return SOFT_OK;
	if (write && ring_bell(v, gpa, size)) {
		log_add(v, kind, gpa, size, 0);
		return SOFT_OK;
	}
	soft_zero(&x->mem, sizeof(x->mem));
	x->reason = VMX_EXIT_MEM;
	x->mem.gpa = gpa;
	x->mem.size = (uint8_t)size;
	x->mem.write = write;
	x->mem.gva_valid = true;
	x->mem.gva = la;
	*(soft_u64 *)v->exit_data = write ? *data : 0;
	return SOFT_EXIT;
}

static int lapic(struct soft_vcpu *v, uint64_t gpa, unsigned size, bool write, uint64_t *data)
{
	enum soft_log_kind kind = write ? SOFT_LOG_MEM_WRITE : SOFT_LOG_MEM_READ;
	int rc;

	if (log_take(v, kind, gpa, size, data))
		return SOFT_OK;
	rc = soft_lapic_mmio(v, (uint32_t)(gpa & PAGE_OFFSET), size, write, data);
	if (rc == SOFT_OK)
		log_add(v, kind, gpa, size, *data);
	return rc;
}

/* n bytes within one page that is not RAM. */
static int outside(struct soft_vcpu *v, uint64_t la, const struct page *p, uint8_t *buf, unsigned n,
		   bool write)
{
	uint64_t gpa = p->gpa;

	if (p->kind == PAGE_VIRTUAL_APIC)
		return soft_vmx_apic_access(v, la, gpa, buf, n, write);
	while (n) {
		unsigned size = n <= 8 ? n : 8 - (gpa & 7);
		uint64_t data = 0;
		int rc;

		if (write)
			soft_copy(&data, buf, size);
		rc = p->kind == PAGE_LAPIC ? lapic(v, gpa, size, write, &data) :
					     device(v, la, gpa, size, write, &data);
		if (rc != SOFT_OK)
			return rc;
		if (!write)
			soft_copy(buf, &data, size);
		la += size;
		gpa += size;
		buf += size;
		n -= size;
	}
	return SOFT_OK;
}

int soft_port(struct soft_vcpu *v, uint16_t port, unsigned size, bool write, uint32_t *data)
{
	enum soft_log_kind kind = write ? SOFT_LOG_IO_WRITE : SOFT_LOG_IO_READ;
	struct vmx_exit *x = &v->exit_request;
	uint64_t value = write ? *data : 0;

	if (log_take(v, kind, port, size, &value)) {
		if (!write)
			*data = (uint32_t)(size == 4 ? value : value & ((1u << size * 8) - 1));
		return SOFT_OK;
	}
	soft_zero(&x->io, sizeof(x->io));
	x->reason = VMX_EXIT_IO;
	x->io.port = port;
	x->io.size = (uint8_t)size;
	x->io.input = !write;
	x->io.count = 1;
	*(soft_u64 *)v->exit_data = value;
	return SOFT_EXIT;
}

/* --- reads and writes ----------------------------------------------------------------------- */

static int read_page(struct soft_vcpu *v, uint64_t la, uint8_t *buf, unsigned n, unsigned flags)
{
	uint8_t *host = cached(v, la, n, flags);
	struct page p;
	int rc;

	if (!host) {
		rc = resolve(v, la, flags, &p);
		if (rc != SOFT_OK)
			return rc;
		if (p.kind != PAGE_RAM)
			return outside(v, la, &p, buf, n, false);
		host = p.host;
	}
	copy(buf, host, n);
	return SOFT_OK;
}

enum write_what { WRITE_ALL, WRITE_OUTSIDE, WRITE_RAM };

static int write_page(struct soft_vcpu *v, uint64_t la, const uint8_t *buf, unsigned n,
		      unsigned flags, enum write_what what)
{
	uint8_t *host = cached(v, la, n, flags);
	struct page p;
	int rc;

	if (host) {
		if (what != WRITE_OUTSIDE)
			copy(host, buf, n);
		return SOFT_OK;
	}
	rc = resolve(v, la, flags, &p);
	if (rc != SOFT_OK)
		return rc;
	if (p.kind != PAGE_RAM)
		return what == WRITE_RAM ? SOFT_OK : outside(v, la, &p, (uint8_t *)buf, n, true);
	if (what == WRITE_OUTSIDE)
		return SOFT_OK;
	copy(p.host, buf, n);
	if (p.code) {
		/* After the write: a translator that saw the old bytes has claimed the page before. */
		__asm__ volatile("mfence" : : : "memory");
		if (soft_code_overlaps(soft_vm_of(v), p.gpa, n))
			soft_code_written(soft_vm_of(v), v, p.gpa, n);
	}
	return SOFT_OK;
}

static unsigned in_page(uint64_t la, unsigned n)
{
	unsigned left = 4096 - (unsigned)(la & PAGE_OFFSET);

	return n < left ? n : left;
}

int soft_probe(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags)
{
	while (n) {
		unsigned part;
		struct page p;

		la = soft_wrap(v, la, flags);
		part = in_page(la, n);
		if ((flags & ACC_EXEC) || !cached(v, la, part, flags)) {
			int rc = resolve(v, la, flags, &p);

			if (rc != SOFT_OK)
				return rc;
		}
		la += part;
		n -= part;
	}
	return SOFT_OK;
}

int soft_read(struct soft_vcpu *v, uint64_t la, void *buf, unsigned n, unsigned flags)
{
	int rc;

	if (!n)
		return SOFT_OK;
	flags &= ~(unsigned)ACC_WRITE;
	la = soft_wrap(v, la, flags);
	if (in_page(la, n) == n)
		return read_page(v, la, buf, n, flags);
	/* All faults come before the first access to a device. */
	rc = soft_probe(v, la, n, flags);
	while (rc == SOFT_OK && n) {
		unsigned part = in_page(la, n);

		rc = read_page(v, la, buf, part, flags);
		buf = (uint8_t *)buf + part;
		la = soft_wrap(v, la + part, flags);
		n -= part;
	}
	return rc;
}

static int write_pages(struct soft_vcpu *v, uint64_t la, const uint8_t *buf, unsigned n,
		       unsigned flags, enum write_what what)
{
	int rc = SOFT_OK;

	while (rc == SOFT_OK && n) {
		unsigned part = in_page(la, n);

		rc = write_page(v, la, buf, part, flags, what);
		buf += part;
		la = soft_wrap(v, la + part, flags);
		n -= part;
	}
	return rc;
}

int soft_write(struct soft_vcpu *v, uint64_t la, const void *buf, unsigned n, unsigned flags)
{
	int rc;

	if (!n)
		return SOFT_OK;
	flags |= ACC_WRITE;
	la = soft_wrap(v, la, flags);
	if (in_page(la, n) == n)
		return write_page(v, la, buf, n, flags, WRITE_ALL);
	/* What can end the instruction early comes first: a restart must not find RAM changed. */
	rc = soft_probe(v, la, n, flags);
	if (rc == SOFT_OK)
		rc = write_pages(v, la, buf, n, flags, WRITE_OUTSIDE);
	if (rc == SOFT_OK)
		rc = write_pages(v, la, buf, n, flags, WRITE_RAM);
	return rc;
}

/* A write that must look for code when it is done. With other vCPUs that goes for the whole page:
 * one of them may translate another line of it between a look and the write. */
static bool code_in_the_way(struct soft_vcpu *v, const struct page *p, unsigned n)
{
	struct soft_vm *vm = soft_vm_of(v);

	return p->code && (vm->vcpu_count > 1 || soft_code_overlaps(vm, p->gpa, n));
}

int soft_host_ptr(struct soft_vcpu *v, uint64_t la, unsigned n, unsigned flags, void **ret_host)
{
	struct page p;
	int rc;

	*ret_host = NULL;
	la = soft_wrap(v, la, flags);
	if (in_page(la, n) != n)
		return soft_probe(v, la, n, flags);
	*ret_host = cached(v, la, n, flags);
	if (*ret_host)
		return SOFT_OK;
	rc = resolve(v, la, flags, &p);
	if (rc == SOFT_OK && p.kind == PAGE_RAM && !code_in_the_way(v, &p, n))
		*ret_host = p.host;
	return rc;
}

/* --- code ----------------------------------------------------------------------------------- */

static void fill_x(struct soft_vcpu *v, uint64_t page, const struct page *p)
{
	unsigned slot = (unsigned)(page >> 12) % SOFT_X_SIZE;
	struct soft_xtlb *x = &soft_xtlb_of(v, v->ctx)[slot];

	v->x_clear[soft_x_number(v->ctx)] &= ~(1ull << slot / SOFT_X_CHUNK);
	x->tag = page;
	x->gpa = p->gpa & PAGE_BASE;
	x->host = p->host - (p->gpa & PAGE_OFFSET);
}

/* Host address of the code byte at la; *ret_host NULL: no memory to run from. */
static int code_ptr(struct soft_vcpu *v, uint64_t la, uint8_t **ret_host, uint64_t *ret_gpa)
{
	uint64_t page = la & PAGE_BASE;
	struct soft_xtlb *x = &soft_xtlb_of(v, v->ctx)[(page >> 12) % SOFT_X_SIZE];
	struct page p;
	int rc;

	if (x->tag == page) {
		*ret_host = x->host + (la - page);
		*ret_gpa = x->gpa + (la - page);
		return SOFT_OK;
	}
	rc = resolve(v, la, ACC_EXEC, &p);
	if (rc != SOFT_OK)
		return rc;
	*ret_host = p.kind == PAGE_RAM ? p.host : NULL;
	*ret_gpa = p.gpa;
	if (p.kind != PAGE_RAM)
		return SOFT_OK;
	/* Who asks may cache the answer itself (ibtc). */
	soft_tlb_note(v, v->ctx, la, &p.walk, true);
	if (!no_tlb(v))
		fill_x(v, page, &p);
	return SOFT_OK;
}

int soft_fetch(struct soft_vcpu *v, uint64_t la, uint8_t *buf, unsigned max, unsigned *ret_n,
	       uint64_t *ret_gpa)
{
	struct soft_exc saved;
	unsigned part;
	uint8_t *host;
	uint64_t gpa;
	int rc;

	*ret_n = 0;
	la = soft_wrap(v, la, 0);
	rc = code_ptr(v, la, &host, ret_gpa);
	if (rc != SOFT_OK)
		return rc;
	if (!host) {
		struct vmx_exit *x = &v->exit_request;

		if (soft_vmx_apic_page(v, *ret_gpa))
			return soft_vmx_apic_exit(v, la, *ret_gpa, APIC_ACCESS_FETCH);
		soft_zero(&x->mem, sizeof(x->mem));
		x->reason = VMX_EXIT_MEM;
		x->mem.gpa = *ret_gpa;
		x->mem.size = 1;
		x->mem.exec = true;
		x->mem.gva_valid = true;
		x->mem.gva = la;
		*(soft_u64 *)v->exit_data = 0;
		return SOFT_EXIT;
	}
	part = in_page(la, max);
	copy(buf, host, part);
	*ret_n = part;
	if (part == max)
		return SOFT_OK;
	/* The next page only as far as it can be fetched; its fault is not ours yet. */
	saved = v->exc;
	rc = code_ptr(v, soft_wrap(v, la + part, 0), &host, &gpa);
	v->exc = saved;
	if (rc == SOFT_OK && host) {
		copy(buf + part, host, max - part);
		*ret_n = max;
	}
	return SOFT_OK;
}

/* --- translated code ------------------------------------------------------------------------ */

int soft_tlb_fill(struct soft_vcpu *v, uint64_t la, unsigned size, bool write,
		  struct soft_l0 *site, uint64_t *ret_delta)
{
	unsigned flags = write ? ACC_WRITE : 0;
	struct soft_l1 *e;
	struct page p;
	int rc;

	if (!soft_canonical(la) || in_page(la, size) != size)
		return SOFT_STEP;
	e = soft_l1_entry(v, v->ctx, la);
	if (!cached(v, la, size, flags)) {
		soft_count(&v->n_tlb_fills);
		rc = resolve(v, la, flags, &p);
		if (rc != SOFT_OK)
			return rc;
		if (p.kind != PAGE_RAM || code_in_the_way(v, &p, size))
			return SOFT_STEP;
		if (!cached(v, la, size, flags)) { /* for this once */
			*ret_delta = (uint64_t)(uintptr_t)p.host - la;
			return SOFT_OK;
		}
	}
	e = soft_l1_to_first(&v->tlb[v->ctx], la, e);
	*ret_delta = e->delta;
	if (site) {
		site->tag = la & PAGE_BASE;
		site->delta = e->delta;
		v->tlb[v->ctx].used = true;
	}
	return SOFT_OK;
}
