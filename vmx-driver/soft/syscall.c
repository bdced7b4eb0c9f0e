/* SPDX-License-Identifier: Apache-2.0 */
/* syscall.c - INT n, SYSCALL SYSRET SYSENTER SYSEXIT, SWAPGS (SDM 2, 3A 5.8.7-5.8.8). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

enum { /* attributes of the flat segments that these load without looking at any descriptor */
	ATTR_CODE64 = SEG_G | SEG_L | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED,
	ATTR_CODE32 = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED,
	ATTR_DATA = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED,
};

static void flat_segment(struct soft_vcpu *v, unsigned seg, uint16_t selector, uint32_t attributes,
			 unsigned cpl)
{
	struct vmx_segment *s = &v->seg[seg];

	s->base = 0;
	s->limit = 0xffffffff;
	s->selector = selector;
	s->attributes = (uint16_t)(attributes | cpl << 5);
	s->unusable = false;
}

static int go(struct soft_vcpu *v, unsigned cpl, uint64_t rip)
{
	v->cpl = (uint8_t)cpl;
	v->rip = v->next_rip = rip;
	soft_update_mode(v);
	return SOFT_OK;
}

int sys_op_syscall(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t flags;
	uint16_t cs;

	(void)insn;
	if (!(v->efer & EFER_SCE) || !sys_code64(v))
		return sys_ud(v);
	flags = soft_get_rflags(v) & ~(uint64_t)FL_RF;
	cs = (uint16_t)(v->star >> 32) & 0xfffc;
	v->gpr[SOFT_RCX] = v->next_rip;
	v->gpr[11] = flags;
	flat_segment(v, SOFT_CS, cs, ATTR_CODE64, 0);
	flat_segment(v, SOFT_SS, (uint16_t)(cs + 8), ATTR_DATA, 0);
	flags &= ~v->fmask;
	v->rflags = (flags & FL_ALL & ~(uint64_t)FL_ARITH) | FL_FIXED;
	soft_set_arith(v, flags);
	return go(v, 0, v->lstar);
}

/* Unlike IRET and POPF, SYSRET steps itself if it sets TF: the trap comes before the program's first
 * instruction. Where each instruction ends by itself for MTF, which comes first, soft_step() takes it. */
static int sysret_trap(struct soft_vcpu *v)
{
	if (!(v->rflags & FL_TF))
		return SOFT_OK;
	if (!soft_vmx_proc(v, PROC_MTF))
		return soft_raise_debug(v, PENDING_STEP);
	v->vmx.pending_debug |= PENDING_STEP;
	return SOFT_OK;
}

int sys_op_sysret(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t flags = v->gpr[11], rip = v->gpr[SOFT_RCX];
	uint16_t cs = (uint16_t)(v->star >> 48);
	bool to64 = insn->zi.raw.rex.W;
	bool was_if = v->rflags & FL_IF;

	if (!(v->efer & EFER_SCE) || !sys_code64(v))
		return sys_ud(v);
	if (v->cpl != 0 || (to64 && !sys_canonical(rip)))
		return sys_gp0(v);
	if (to64) {
		flat_segment(v, SOFT_CS, (uint16_t)((cs + 16) | 3), ATTR_CODE64, 3);
	} else {
		flat_segment(v, SOFT_CS, cs | 3, ATTR_CODE32, 3);
		rip = (uint32_t)rip;
	}
	flat_segment(v, SOFT_SS, (uint16_t)((cs + 8) | 3), ATTR_DATA, 3);
	v->rflags = (flags & FL_ALL & ~(uint64_t)(FL_ARITH | FL_RF | FL_VM)) | FL_FIXED;
	soft_set_arith(v, flags);
	(void)go(v, 3, rip);
	if (!was_if && (flags & FL_IF))
		soft_events_recheck(v);
	return sysret_trap(v);
}

int sys_op_sysenter(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint16_t cs = (uint16_t)v->sysenter_cs & 0xfffc;
	bool wide = sys_long(v);

	(void)insn;
	if (!(v->cr0 & CR0_PE) || !cs)
		return sys_gp0(v);
	v->rflags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
	flat_segment(v, SOFT_CS, cs, wide ? ATTR_CODE64 : ATTR_CODE32, 0);
	flat_segment(v, SOFT_SS, (uint16_t)(cs + 8), ATTR_DATA, 0);
	v->gpr[SOFT_RSP] = wide ? v->sysenter_esp : (uint32_t)v->sysenter_esp;
	return go(v, 0, wide ? v->sysenter_eip : (uint32_t)v->sysenter_eip);
}

int sys_op_sysexit(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint16_t cs = (uint16_t)v->sysenter_cs;
	uint64_t rip = v->gpr[SOFT_RDX], rsp = v->gpr[SOFT_RCX];
	bool to64 = insn->zi.raw.rex.W && sys_code64(v);

	if (!(cs & 0xfffc) || !sys_protected(v) || v->cpl != 0)
		return sys_gp0(v);
	if (to64 && (!sys_canonical(rip) || !sys_canonical(rsp)))
		return sys_gp0(v);
	if (to64) {
		flat_segment(v, SOFT_CS, (uint16_t)((cs + 32) | 3), ATTR_CODE64, 3);
		flat_segment(v, SOFT_SS, (uint16_t)((cs + 40) | 3), ATTR_DATA, 3);
	} else {
		flat_segment(v, SOFT_CS, (uint16_t)((cs + 16) | 3), ATTR_CODE32, 3);
		flat_segment(v, SOFT_SS, (uint16_t)((cs + 24) | 3), ATTR_DATA, 3);
		rip = (uint32_t)rip;
		rsp = (uint32_t)rsp;
	}
	v->gpr[SOFT_RSP] = rsp;
	return go(v, 3, rip);
}

int sys_op_swapgs(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t base;

	(void)insn;
	if (!sys_code64(v))
		return sys_ud(v);
	if (v->cpl != 0)
		return sys_gp0(v);
	base = v->seg[SOFT_GS].base;
	v->seg[SOFT_GS].base = v->kernel_gs_base;
	v->kernel_gs_base = base;
	return sys_done(v);
}

/* --- INT ------------------------------------------------------------------------------------ */

int sys_op_int(struct soft_vcpu *v, const struct soft_insn *insn)
{
	if (sys_vm86(v) && sys_iopl(v) < 3)
		return sys_gp0(v);
	return soft_deliver_interrupt(v, EVENT_SOFT_INT, insn->op[0].imm.value.u & 0xff);
}

/* INT3 and INTO are exceptions for those who asked to see them; otherwise as INT n with vector 3
 * or 4, but regardless of IOPL in vm86 mode. */
int sys_op_int3(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_deliver_interrupt(v, EVENT_INT3, EXC_BP);
}

int sys_op_into(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	if (sys_code64(v))
		return sys_ud(v);
	if (!(soft_arith_flags(v) & FL_OF))
		return sys_done(v);
	return soft_deliver_interrupt(v, EVENT_INTO, EXC_OF);
}

int sys_op_int1(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_deliver_interrupt(v, EVENT_INT1, EXC_DB);
}
