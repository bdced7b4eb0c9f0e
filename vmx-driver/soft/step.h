/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.h - what the stepper's files share (decode.c flags.c operand.c step*.c string.c).
 *
 * An operation that returns SOFT_OK has set both v->rip and v->next_rip to the address of the next
 * instruction: soft_done() or soft_jump(). A caller can also rely on the weaker rule that an
 * operation which left v->rip alone continues at v->next_rip (soft_settle()).
 */
#ifndef VMX_SOFT_STEP_H
#define VMX_SOFT_STEP_H

#include "vmx-driver/soft/soft.h"
#include "vmx-driver/soft/vmx_ops.h"

/* Operations that a mnemonic alone does not name: decode.c chooses by the form of the instruction. */
enum soft_form {
	FORM_NONE,
	FORM_NOP,
	FORM_UD,
	FORM_JMP,
	FORM_CALL,
	FORM_RET,
	FORM_JMP_FAR,
	FORM_CALL_FAR,
	FORM_RET_FAR,
	FORM_JCC,
	FORM_MOV_SYSTEM,
	FORM_MOV_TO_SREG,
	FORM_MOV_FROM_SREG,
	FORM_MOV_MOFFS,
	FORM_INC_SHORT, /* 40-4F outside 64-bit code */
	FORM_BIT_MEMORY, /* BT BTS BTR BTC memory, register */
	FORM_CMPXCHG_HIGH, /* memory, AH..BH: no room for both in a native copy */
	FORM_EXTEND_HIGH,  /* MOVZX MOVSX CRC32 (E)SP, AH..BH: the same */
	FORM_MOVS,
	FORM_CMPS,
	FORM_STOS,
	FORM_LODS,
	FORM_SCAS,
	FORM_INS,
	FORM_OUTS,
	FORM_COUNT,
};
extern const struct soft_op soft_form_ops[FORM_COUNT];

/* Natively, with its memory operand in guest memory. Completes the instruction. */
int soft_run_native(struct soft_vcpu *v, const struct soft_insn *insn); /* step.c */

soft_op_fn soft_op_nop, soft_op_ud; /* step_int.c */
soft_op_fn soft_op_inc_short, soft_op_daa, soft_op_das, soft_op_aaa, soft_op_aas, soft_op_aam,
	soft_op_aad, soft_op_bound, soft_op_salc, soft_op_xlat, soft_op_lea, soft_op_bit_memory,
	soft_op_cmpxchg_high, soft_op_extend_high;
soft_op_fn soft_op_jmp, soft_op_call, soft_op_ret, soft_op_jcc, soft_op_loop, soft_op_jcxz,
	soft_op_cld, soft_op_std, soft_op_cache_line;                       /* step_control.c */
soft_op_fn soft_op_push, soft_op_pop, soft_op_pusha, soft_op_popa, soft_op_pushf, soft_op_enter,
	soft_op_leave, soft_op_mov_to_sreg, soft_op_mov_from_sreg, soft_op_load_far,
	soft_op_mov_moffs;                                                  /* step_stack.c */
soft_op_fn soft_op_movs, soft_op_cmps, soft_op_stos, soft_op_lods, soft_op_scas, soft_op_ins,
	soft_op_outs;                                                       /* string.c */
soft_op_fn soft_op_masked_store_implicit, soft_op_masked_move, soft_op_gather; /* step_vector.c */

#define SOFT_DECODER_SIZE 4096u
struct soft_decoder {
	struct soft_insn insn[SOFT_DECODER_SIZE]; /* len 0: empty */
};

/* --- registers ------------------------------------------------------------------------------ */
struct soft_reg { /* where a general register lies in v->gpr */
	uint8_t index, shift, size;
};
static inline bool soft_gpr(ZydisRegister reg, struct soft_reg *ret)
{
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		*ret = (struct soft_reg){ (uint8_t)(reg - ZYDIS_REGISTER_RAX), 0, 8 };
	else if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		*ret = (struct soft_reg){ (uint8_t)(reg - ZYDIS_REGISTER_EAX), 0, 4 };
	else if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		*ret = (struct soft_reg){ (uint8_t)(reg - ZYDIS_REGISTER_AX), 0, 2 };
	else if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		*ret = (struct soft_reg){ (uint8_t)(reg - ZYDIS_REGISTER_AL), 0, 1 };
	else if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		*ret = (struct soft_reg){ (uint8_t)(reg - ZYDIS_REGISTER_AH), 8, 1 };
	else if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		*ret = (struct soft_reg){ (uint8_t)(reg - ZYDIS_REGISTER_SPL + 4), 0, 1 };
	else
		return false;
	return true;
}
/* SOFT_ES..SOFT_GS, or -1. */
static inline int soft_sreg(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS ?
		       (int)(reg - ZYDIS_REGISTER_ES) : -1;
}
static inline uint64_t soft_mask(unsigned size) /* size in bytes */
{
	return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;
}
/* Writes the low `size` bytes of general register `index` as an instruction would: 4 clears the
 * upper half, 1 and 2 keep the rest. */
static inline void soft_set_gpr(struct soft_vcpu *v, unsigned index, unsigned size, uint64_t val)
{
	if (size >= 4)
		v->gpr[index] = val & soft_mask(size);
	else
		v->gpr[index] = (v->gpr[index] & ~soft_mask(size)) | (val & soft_mask(size));
}

/* --- stack ---------------------------------------------------------------------------------- */
static inline unsigned soft_sp_width(const struct soft_vcpu *v)
{
	if ((v->mode & MODE_CODE) == CODE_64)
		return 8;
	return v->mode & MODE_SS32 ? 4 : 2;
}
static inline uint64_t soft_sp(const struct soft_vcpu *v)
{
	return v->gpr[SOFT_RSP] & soft_mask(soft_sp_width(v));
}
/* Reads or writes `size` bytes at stack offset sp, wrapped to the stack's width. */
int soft_stack_read(struct soft_vcpu *v, uint64_t sp, uint64_t *val, unsigned size);
int soft_stack_write(struct soft_vcpu *v, uint64_t sp, uint64_t val, unsigned size);

/* Flags of a - b, in the form of v->aflags. */
uint16_t soft_compare_flags(uint64_t a, uint64_t b, unsigned size); /* string.c */

/* --- memory --------------------------------------------------------------------------------- */
static inline bool soft_aligned_only(const struct soft_vcpu *v)
{
	return v->cpl == 3 && (v->rflags & FL_AC) && (v->cr0 & CR0_AM);
}
/* soft_linear() and the alignment check of CPL 3. */
int soft_data_la(struct soft_vcpu *v, unsigned seg, uint64_t offset, unsigned size, bool write,
		 uint64_t *ret_la);
/* True if the page at la can be written and is RAM, though soft_host_ptr() gave no pointer. */
bool soft_is_ram(struct soft_vcpu *v, uint64_t la);
/* More than one vCPU exists. */
bool soft_is_smp(const struct soft_vcpu *v);

/* One access of the host's processor: whole for other vCPUs where the guest's would be. */
static inline uint64_t soft_load_host(const void *host, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)host;
	case 2:
		return *(const volatile soft_u16 *)host;
	case 4:
		return *(const volatile soft_u32 *)host;
	default:
		return *(const volatile soft_u64 *)host;
	}
}
static inline void soft_store_host(void *host, uint64_t val, unsigned size)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)host = (uint8_t)val;
		break;
	case 2:
		*(volatile soft_u16 *)host = (uint16_t)val;
		break;
	case 4:
		*(volatile soft_u32 *)host = (uint32_t)val;
		break;
	default:
		*(volatile soft_u64 *)host = val;
		break;
	}
}

/* --- the end of an operation ---------------------------------------------------------------- */
static inline int soft_done(struct soft_vcpu *v)
{
	v->rip = v->next_rip;
	return SOFT_OK;
}
/* Near branch: checks (#GP(0)), then goes there. size: bytes of operand. */
int soft_jump_check(struct soft_vcpu *v, uint64_t target);
static inline int soft_jump(struct soft_vcpu *v, uint64_t target)
{
	v->rip = v->next_rip = target;
	return SOFT_OK;
}
static inline void soft_settle(struct soft_vcpu *v, uint64_t start)
{
	if (v->rip == start)
		v->rip = v->next_rip;
}
/* An element of a repeated instruction is committed: what it did outside RAM is history. */
static inline void soft_log_clear(struct soft_vcpu *v)
{
	v->log.count = 0;
	v->log.next = 0;
}
/* True while each instruction (and each element of a repeated one) must end by itself. */
static inline bool soft_single(const struct soft_vcpu *v)
{
	return (v->rflags & FL_TF) || (v->dr7 & 0xff) || soft_vmx_proc(v, PROC_MTF);
}

#endif
