/* SPDX-License-Identifier: Apache-2.0 */
/* segment.c - descriptors and segmented addresses (SDM 3A chapters 3 and 5). GENERAL. */
#include "vmx-driver/soft/sys.h"

void sys_unpack(struct vmx_segment *s, uint16_t selector, uint64_t lo, uint64_t hi)
{
	uint32_t limit = (uint32_t)((lo & 0xffff) | ((lo >> 32) & 0xf0000));

	s->selector = selector;
	s->attributes = (uint16_t)sys_attr(lo);
	s->base = ((lo >> 16) & 0xffffff) | ((lo >> 32) & 0xff000000) | hi << 32;
	s->limit = (s->attributes & SEG_G) ? limit << 12 | 0xfff : limit;
	s->unusable = false;
}

void sys_null_segment(struct vmx_segment *s, uint16_t selector)
{
	s->base = 0;
	s->limit = 0;
	s->selector = selector;
	s->attributes = 0;
	s->unusable = true;
}

/* Real and vm86 mode. Real mode leaves limit and attributes as they are ("unreal mode"). */
void sys_real_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector)
{
	struct vmx_segment *s = &v->seg[seg];
	bool was_null = s->unusable;

	s->selector = selector;
	s->base = (uint32_t)selector << 4;
	s->unusable = false;
	if (sys_vm86(v)) {
		s->limit = 0xffff;
		s->attributes = 0xf3;
	} else if (was_null) {
		s->limit = 0xffff;
		s->attributes = 0x93;
	}
}

int sys_read_desc(struct soft_vcpu *v, uint16_t selector, unsigned vector, unsigned ext, bool wide,
		  struct sys_desc *ret)
{
	uint32_t offset = selector & 0xfff8u;
	uint32_t last = offset + (wide ? 15 : 7);
	uint32_t limit = v->gdtr.limit;
	uint64_t base = v->gdtr.base;
	uint64_t raw[2];
	int rc;

	if (selector & 4) {
		const struct vmx_segment *ldt = &v->seg[SOFT_LDTR];

		if (ldt->unusable)
			return soft_raise_error(v, vector, (selector & 0xfffcu) | ext);
		base = ldt->base;
		limit = ldt->limit;
	}
	if (last > limit)
		return soft_raise_error(v, vector, (selector & 0xfffcu) | ext);
	ret->la = base + offset;
	if (!sys_long(v))
		ret->la = (uint32_t)ret->la;
	rc = soft_read(v, ret->la, raw, wide ? 16 : 8, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	ret->lo = raw[0];
	ret->hi = wide ? raw[1] & 0xffffffff : 0;
	ret->selector = selector;
	return SOFT_OK;
}

int sys_mark_accessed(struct soft_vcpu *v, struct sys_desc *d)
{
	uint8_t byte;

	if (d->lo & (1ull << 40))
		return SOFT_OK;
	d->lo |= 1ull << 40;
	byte = (uint8_t)(d->lo >> 40);
	return soft_write(v, d->la + 5, &byte, 1, ACC_WRITE | ACC_SYSTEM);
}

static bool limit_ok(const struct vmx_segment *s, uint32_t offset, unsigned size)
{
	uint64_t last = (uint64_t)offset + size - 1;

	if ((s->attributes & (SEG_S | SEG_CODE | SEG_EC)) == (SEG_S | SEG_EC))
		return offset > s->limit &&
		       last <= ((s->attributes & SEG_DB) ? 0xffffffffu : 0xffffu);
	return last <= s->limit;
}

int sys_linear(struct soft_vcpu *v, const struct vmx_segment *s, bool code64, unsigned vector,
	       uint32_t error, uint64_t offset, unsigned size, bool write, uint64_t *ret_la)
{
	uint64_t la;

	if (code64) {
		la = offset;
		if (s == &v->seg[SOFT_FS] || s == &v->seg[SOFT_GS])
			la += s->base;
		if (!sys_canonical(la) || !sys_canonical(la + size - 1))
			return soft_raise_error(v, vector, error);
		*ret_la = la;
		return SOFT_OK;
	}
	offset = (uint32_t)offset;
	if (!(v->mode & MODE_REAL)) {
		if (s->unusable)
			return soft_raise_error(v, vector, error);
		if (s->attributes & SEG_CODE) {
			if (write || !(s->attributes & SEG_RW))
				return soft_raise_error(v, vector, error);
		} else if (write && !(s->attributes & SEG_RW)) {
			return soft_raise_error(v, vector, error);
		}
	}
	if (!limit_ok(s, (uint32_t)offset, size))
		return soft_raise_error(v, vector, error);
	*ret_la = (uint32_t)(s->base + offset);
	return SOFT_OK;
}

int soft_linear(struct soft_vcpu *v, unsigned seg, uint64_t offset, unsigned size, bool write,
		uint64_t *ret_la)
{
	return sys_linear(v, &v->seg[seg], sys_code64(v), seg == SOFT_SS ? EXC_SS : EXC_GP, 0,
			  offset, size, write, ret_la);
}

unsigned soft_stack_width(const struct soft_vcpu *v)
{
	if (sys_code64(v))
		return 8;
	return (v->seg[SOFT_SS].attributes & SEG_DB) ? 4 : 2;
}

bool sys_code_offset_ok(const struct soft_vcpu *v, const struct vmx_segment *cs, uint64_t offset)
{
	if (sys_long(v) && (cs->attributes & SEG_L))
		return sys_canonical(offset);
	return offset <= cs->limit;
}

int sys_check_ss(struct soft_vcpu *v, struct sys_desc *d, unsigned cpl, unsigned vector,
		 unsigned ext)
{
	uint32_t attr = sys_attr(d->lo);
	uint32_t error = (d->selector & 0xfffcu) | ext;

	if ((d->selector & 3u) != cpl || sys_dpl(attr) != cpl ||
	    (attr & (SEG_S | SEG_CODE | SEG_RW)) != (SEG_S | SEG_RW))
		return soft_raise_error(v, vector, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_SS, error);
	return sys_mark_accessed(v, d);
}

void sys_drop_segments(struct soft_vcpu *v)
{
	static const uint8_t data[] = { SOFT_ES, SOFT_DS, SOFT_FS, SOFT_GS };

	for (unsigned i = 0; i < 4; i++) {
		struct vmx_segment *s = &v->seg[data[i]];

		if (s->unusable || sys_dpl(s->attributes) >= v->cpl ||
		    (s->attributes & (SEG_CODE | SEG_EC)) == (SEG_CODE | SEG_EC))
			continue;
		s->selector = 0;
		s->attributes = 0;
		s->unusable = true;
	}
}

static int load_ss(struct soft_vcpu *v, uint16_t selector)
{
	struct sys_desc d;
	int rc;

	if (!(selector & 0xfffc)) {
		if (!sys_code64(v) || v->cpl == 3 || (selector & 3) != v->cpl)
			return sys_gp0(v);
		sys_null_segment(&v->seg[SOFT_SS], selector);
		v->seg[SOFT_SS].attributes = (uint16_t)(v->cpl << 5);
		return SOFT_OK;
	}
	rc = sys_read_desc(v, selector, EXC_GP, 0, false, &d);
	if (rc != SOFT_OK)
		return rc;
	rc = sys_check_ss(v, &d, v->cpl, EXC_GP, 0);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&v->seg[SOFT_SS], selector, d.lo, 0);
	return SOFT_OK;
}

static int load_data(struct soft_vcpu *v, unsigned seg, uint16_t selector)
{
	struct sys_desc d;
	uint32_t attr, error = selector & 0xfffcu;
	int rc;

	if (!error) {
		sys_null_segment(&v->seg[seg], selector);
		return SOFT_OK;
	}
	rc = sys_read_desc(v, selector, EXC_GP, 0, false, &d);
	if (rc != SOFT_OK)
		return rc;
	attr = sys_attr(d.lo);
	if (!(attr & SEG_S) || (attr & (SEG_CODE | SEG_RW)) == SEG_CODE)
		return soft_raise_error(v, EXC_GP, error);
	if ((attr & (SEG_CODE | SEG_EC)) != (SEG_CODE | SEG_EC) &&
	    (sys_dpl(attr) < v->cpl || sys_dpl(attr) < (selector & 3u)))
		return soft_raise_error(v, EXC_GP, error);
	if (!(attr & SEG_P))
		return soft_raise_error(v, EXC_NP, error);
	rc = sys_mark_accessed(v, &d);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&v->seg[seg], selector, d.lo, 0);
	return SOFT_OK;
}

int soft_load_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector)
{
	int rc;

	if (v->mode & MODE_REAL) {
		sys_real_segment(v, seg, selector);
		soft_update_mode(v);
		return SOFT_OK;
	}
	rc = seg == SOFT_SS ? load_ss(v, selector) : load_data(v, seg, selector);
	/* In 64-bit mode these segments decide nothing; a change of CS recomputes the mode. */
	if (rc == SOFT_OK && !sys_code64(v))
		soft_update_mode(v);
	return rc;
}
