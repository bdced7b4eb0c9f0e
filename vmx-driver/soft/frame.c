/* SPDX-License-Identifier: Apache-2.0 */
/* frame.c - the stacks that a transfer of control switches to, and the frames that it pushes there
 * (SDM 3A 6.12.1, 6.14). GENERAL. */
#include "vmx-driver/soft/sys.h"

void sys_current_stack(const struct soft_vcpu *v, struct sys_stack *ret)
{
	ret->ss = v->seg[SOFT_SS];
	ret->sp = v->gpr[SOFT_RSP];
	ret->code64 = sys_code64(v);
	ret->access = 0;
	ret->error = 0;
}

void sys_set_sp(struct soft_vcpu *v, const struct vmx_segment *ss, bool code64, uint64_t sp)
{
	if (code64)
		v->gpr[SOFT_RSP] = sp;
	else if (ss->attributes & SEG_DB)
		v->gpr[SOFT_RSP] = (uint32_t)sp;
	else
		v->gpr[SOFT_RSP] = (v->gpr[SOFT_RSP] & ~0xffffull) | (sp & 0xffff);
}

static uint64_t stack_mask(const struct sys_stack *stack)
{
	if (stack->code64)
		return UINT64_MAX;
	return (stack->ss.attributes & SEG_DB) ? 0xffffffffu : 0xffffu;
}

/* The frame wraps around the segment: one value at a time, all checked before the first store. */
static int push_wrapped(struct soft_vcpu *v, struct sys_stack *stack, const uint64_t *val,
			unsigned n, unsigned size)
{
	uint64_t la[SYS_FRAME_MAX], mask = stack_mask(stack), sp = stack->sp;
	int rc;

	for (unsigned i = 0; i < n; i++) {
		sp = (sp - size) & mask;
		rc = sys_linear(v, &stack->ss, false, EXC_SS, stack->error, sp, size, true, &la[i]);
		if (rc == SOFT_OK)
			rc = soft_probe(v, la[i], size, ACC_WRITE | stack->access);
		if (rc != SOFT_OK)
			return rc;
	}
	for (unsigned i = 0; i < n; i++) {
		rc = soft_write(v, la[i], &val[i], size, ACC_WRITE | stack->access);
		if (rc != SOFT_OK)
			return rc;
	}
	stack->sp = sp;
	return SOFT_OK;
}

int sys_push_frame(struct soft_vcpu *v, struct sys_stack *stack, const uint64_t *val, unsigned n,
		   unsigned size)
{
	uint64_t frame[SYS_FRAME_MAX], mask = stack_mask(stack), la;
	uint64_t sp = stack->sp & mask;
	unsigned total = n * size;
	int rc;

	if (n > SYS_FRAME_MAX)
		return SOFT_SHUTDOWN;
	if (!stack->code64 && sp < total && sp != 0)
		return push_wrapped(v, stack, val, n, size);
	sp = (sp - total) & mask;
	rc = sys_linear(v, &stack->ss, stack->code64, EXC_SS, stack->error, sp, total, true, &la);
	if (rc != SOFT_OK)
		return rc;
	for (unsigned i = 0; i < n; i++)
		sys_put((uint8_t *)frame + (n - 1 - i) * size, size, val[i]);
	rc = soft_write(v, la, frame, total, ACC_WRITE | stack->access);
	if (rc == SOFT_OK)
		stack->sp = sp;
	return rc;
}

static int tss_stack_legacy(struct soft_vcpu *v, unsigned cpl, unsigned ext, struct sys_stack *ret)
{
	const struct vmx_segment *tr = &v->seg[SOFT_TR];
	bool tss32 = tr->attributes & 8;
	uint32_t offset = tss32 ? cpl * 8 + 4 : cpl * 4 + 2;
	unsigned len = tss32 ? 6 : 4;
	uint8_t raw[8];
	uint16_t selector;
	struct sys_desc d;
	int rc;

	if (tr->unusable || offset + (tss32 ? 7 : 3) > tr->limit)
		return soft_raise_error(v, EXC_TS, (tr->selector & 0xfffcu) | ext);
	rc = soft_read(v, (uint32_t)(tr->base + offset), raw, len, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	ret->sp = sys_get(raw, tss32 ? 4 : 2);
	selector = (uint16_t)sys_get(raw + (tss32 ? 4 : 2), 2);
	if (!(selector & 0xfffc))
		return soft_raise_error(v, EXC_TS, ext);
	rc = sys_read_desc(v, selector, EXC_TS, ext, false, &d);
	if (rc == SOFT_OK)
		rc = sys_check_ss(v, &d, cpl, EXC_TS, ext);
	if (rc != SOFT_OK)
		return rc;
	sys_unpack(&ret->ss, selector, d.lo, 0);
	ret->error = (selector & 0xfffcu) | ext;
	return SOFT_OK;
}

int sys_tss_stack(struct soft_vcpu *v, unsigned cpl, unsigned ist, unsigned ext,
		  struct sys_stack *ret)
{
	const struct vmx_segment *tr = &v->seg[SOFT_TR];
	uint32_t offset = ist ? 28 + ist * 8 : 4 + cpl * 8;
	int rc;

	ret->code64 = sys_long(v);
	ret->access = v->cpl == 3 && cpl != 3 ? ACC_SYSTEM : 0;
	if (!ret->code64)
		return tss_stack_legacy(v, cpl, ext, ret);
	if (tr->unusable || offset + 7 > tr->limit)
		return soft_raise_error(v, EXC_TS, (tr->selector & 0xfffcu) | ext);
	rc = soft_read(v, tr->base + offset, &ret->sp, 8, ACC_SYSTEM);
	if (rc != SOFT_OK)
		return rc;
	ret->error = ext;
	if (!sys_canonical(ret->sp))
		return soft_raise_error(v, EXC_SS, ext);
	if (cpl == v->cpl) {
		ret->ss = v->seg[SOFT_SS];
		return SOFT_OK;
	}
	sys_null_segment(&ret->ss, (uint16_t)cpl);
	ret->ss.attributes = (uint16_t)(cpl << 5);
	return SOFT_OK;
}
