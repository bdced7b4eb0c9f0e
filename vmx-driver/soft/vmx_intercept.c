/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_intercept.c - instructions that cause VM exits (SDM 3C 25.1, 25.3, 27.2.1, 27.2.5). GENERAL. */
#include "vmx-driver/soft/sys.h"
#include "vmx-driver/soft/vmx_ops.h"

/* --- instruction information (27.2.5) ------------------------------------------------------- */

enum {
	INFO_REGISTER = 1u << 10, INFO_REG1_SHIFT = 3, INFO_ADDRESS_SHIFT = 7,
	INFO_SEGMENT_SHIFT = 15, INFO_INDEX_SHIFT = 18, INFO_BASE_SHIFT = 23,
	INFO_REG2_SHIFT = 28, INFO_NO_INDEX = 1u << 22, INFO_NO_BASE = 1u << 27,
};

static unsigned gpr_number(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return (unsigned)(reg - ZYDIS_REGISTER_RAX);
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return (unsigned)(reg - ZYDIS_REGISTER_EAX);
	return (unsigned)(reg - ZYDIS_REGISTER_AX) & 15;
}

static bool is_gpr(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15;
}

static uint32_t address_info(const struct soft_insn *insn, ZydisRegister segment)
{
	unsigned size = insn->zi.address_width == 64 ? 2 : insn->zi.address_width == 32;
	unsigned seg = segment >= ZYDIS_REGISTER_ES && segment <= ZYDIS_REGISTER_GS ?
			       (unsigned)(segment - ZYDIS_REGISTER_ES) :
			       (unsigned)SOFT_DS;

	return size << INFO_ADDRESS_SHIFT | seg << INFO_SEGMENT_SHIFT;
}

static uint32_t memory_info(const struct soft_vcpu *v, const struct soft_insn *insn,
			    const ZydisDecodedOperand *op, uint64_t *displacement)
{
	uint32_t info = address_info(insn, op->mem.segment);
	uint64_t value = (uint64_t)op->mem.disp.value;

	if (is_gpr(op->mem.index))
		info |= gpr_number(op->mem.index) << INFO_INDEX_SHIFT |
			(op->mem.scale == 8 ? 3u : op->mem.scale >> 1);
	else
		info |= INFO_NO_INDEX;
	if (is_gpr(op->mem.base))
		info |= gpr_number(op->mem.base) << INFO_BASE_SHIFT;
	else
		info |= INFO_NO_BASE;
	if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP)
		value += v->next_rip;
	*displacement = sys_code64(v) ? value : (uint32_t)value;
	return info;
}

int soft_vmx_exit_operands(struct soft_vcpu *v, const struct soft_insn *insn, uint32_t reason,
			   uint32_t info)
{
	uint64_t displacement = 0;

	for (unsigned i = 0; i < insn->zi.operand_count_visible; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
			info |= memory_info(v, insn, op, &displacement);
		else if (op->type != ZYDIS_OPERAND_TYPE_REGISTER || !is_gpr(op->reg.value))
			continue;
		else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			info |= INFO_REGISTER | gpr_number(op->reg.value) << INFO_REG1_SHIFT;
		else
			info |= gpr_number(op->reg.value) << INFO_REG2_SHIFT;
	}
	(void)soft_vmx_exit(v, reason, displacement);
	v->vmexit.insn_info = info;
	return SOFT_VMEXIT;
}

/* --- ports and MSRs ------------------------------------------------------------------------- */

bool soft_vmx_bitmap_bit(struct soft_vcpu *v, uint64_t page, unsigned bit)
{
	const uint8_t *p = soft_gpa_ptr(v, page, false);

	return !p || (p[bit / 8] >> (bit % 8) & 1);
}

static bool port_exits(struct soft_vcpu *v, unsigned port, unsigned size)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;

	if (!(v->vmx.proc & PROC_IO_BITMAPS))
		return v->vmx.proc & PROC_IO;
	for (unsigned i = port; i < port + size; i++)
		if (i > 0xffff || soft_vmx_bitmap_bit(v, c->io_bitmap[i >> 15], i & 0x7fff))
			return true;
	return false;
}

static uint64_t string_address(struct soft_vcpu *v, const struct soft_insn *insn, bool in,
			       uint32_t *info)
{
	uint64_t mask = insn->zi.address_width == 64 ? ~0ull : (1ull << insn->zi.address_width) - 1;
	uint64_t offset = v->gpr[in ? SOFT_RDI : SOFT_RSI] & mask;
	ZydisRegister segment = ZYDIS_REGISTER_ES;
	unsigned seg;

	for (unsigned i = 0; !in && i < insn->zi.operand_count; i++)
		if (insn->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			segment = insn->op[i].mem.segment;
	*info = address_info(insn, segment);
	seg = *info >> INFO_SEGMENT_SHIFT & 7;
	if (!sys_code64(v))
		return (uint32_t)(offset + v->seg[seg].base);
	return offset + (seg == SOFT_FS || seg == SOFT_GS ? v->seg[seg].base : 0);
}

int soft_vmx_intercept_io(struct soft_vcpu *v, uint16_t port, unsigned size, bool in,
			  const struct soft_insn *insn)
{
	bool string = insn->zi.meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
	bool rep = insn->zi.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
					  ZYDIS_ATTRIB_HAS_REPNE);
	bool immediate = insn->op[in ? 1 : 0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	uint32_t info = 0;
	uint64_t gla = 0;

	if (!port_exits(v, port, size))
		return SOFT_OK;
	if (string)
		gla = string_address(v, insn, in, &info);
	(void)soft_vmx_exit(v, REASON_IO, (size - 1) | (uint32_t)in << 3 | (uint32_t)string << 4 |
						  (uint32_t)(string && rep) << 5 |
						  (uint32_t)(!string && immediate) << 6 |
						  (uint32_t)port << 16);
	v->vmexit.gla = gla;
	v->vmexit.insn_info = info;
	return SOFT_VMEXIT;
}

int soft_vmx_intercept_msr(struct soft_vcpu *v, uint32_t index, bool write)
{
	unsigned base = write ? 2048 * 8 : 0;

	if (v->vmx.proc & PROC_MSR_BITMAPS) {
		if ((index & 0x3fffe000u) == 0 && (index >> 30 == 0 || index >> 30 == 3)) {
			if (index >> 30)
				base += 1024 * 8;
			if (!soft_vmx_bitmap_bit(v, v->vmx.vmcs.msr_bitmap, base + (index & 0x1fff)))
				return SOFT_OK;
		}
	}
	return soft_vmx_exit(v, write ? REASON_WRMSR : REASON_RDMSR, 0);
}

/* --- control and debug registers ------------------------------------------------------------ */

enum { CR_TO = 0u << 4, CR_FROM = 1u << 4, CR_CLTS = 2u << 4, CR_LMSW = 3u << 4 };

static int exit_cr(struct soft_vcpu *v, unsigned cr, unsigned kind, unsigned gpr)
{
	return soft_vmx_exit(v, REASON_CR, cr | kind | gpr << 8);
}

static bool cr3_target(const struct soft_vmcs *c, uint64_t value)
{
	for (unsigned i = 0; i < c->cr3_target_count && i < 4; i++)
		if (c->cr3_target[i] == value)
			return true;
	return false;
}

/* CR0 and CR4: bits of the mask are the host's. */
static int write_masked(struct soft_vcpu *v, unsigned cr, unsigned gpr, uint64_t mask,
			uint64_t shadow, uint64_t now, uint64_t *value)
{
	if ((*value ^ shadow) & mask)
		return exit_cr(v, cr, CR_TO, gpr);
	*value = (now & mask) | (*value & ~mask);
	return SOFT_OK;
}

int soft_vmx_intercept_cr_write(struct soft_vcpu *v, unsigned cr, unsigned gpr, uint64_t *value)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;

	switch (cr) {
	case 0:
		return write_masked(v, 0, gpr, c->cr0_mask, c->cr0_shadow, v->cr0, value);
	case 3:
		if ((v->vmx.proc & PROC_CR3_LOAD) && !cr3_target(c, *value))
			return exit_cr(v, 3, CR_TO, gpr);
		return SOFT_OK;
	case 4:
		return write_masked(v, 4, gpr, c->cr4_mask, c->cr4_shadow, v->cr4, value);
	case 8:
		if (v->vmx.proc & PROC_CR8_LOAD)
			return exit_cr(v, 8, CR_TO, gpr);
		return SOFT_OK;
	default:
		return SOFT_OK;
	}
}

int soft_vmx_intercept_cr_read(struct soft_vcpu *v, unsigned cr, unsigned gpr, uint64_t *value)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;

	switch (cr) {
	case 0:
		*value = (*value & ~c->cr0_mask) | (c->cr0_shadow & c->cr0_mask);
		return SOFT_OK;
	case 3:
		return v->vmx.proc & PROC_CR3_STORE ? exit_cr(v, 3, CR_FROM, gpr) : SOFT_OK;
	case 4:
		*value = (*value & ~c->cr4_mask) | (c->cr4_shadow & c->cr4_mask);
		return SOFT_OK;
	case 8:
		return v->vmx.proc & PROC_CR8_STORE ? exit_cr(v, 8, CR_FROM, gpr) : SOFT_OK;
	default:
		return SOFT_OK;
	}
}

int soft_vmx_intercept_clts(struct soft_vcpu *v, bool *ret_skip)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;

	*ret_skip = c->cr0_mask & CR0_TS;
	if (c->cr0_mask & c->cr0_shadow & CR0_TS)
		return exit_cr(v, 0, CR_CLTS, 0);
	return SOFT_OK;
}

int soft_vmx_intercept_lmsw(struct soft_vcpu *v, const struct soft_insn *insn, uint64_t gla,
			    uint64_t *value)
{
	const struct soft_vmcs *c = &v->vmx.vmcs;
	uint64_t rest = CR0_MP | CR0_EM | CR0_TS, mask = c->cr0_mask & (rest | CR0_PE);
	bool memory = insn->mem[0] >= 0;

	if ((c->cr0_mask & (*value ^ c->cr0_shadow) & rest) ||
	    (c->cr0_mask & ~c->cr0_shadow & *value & CR0_PE)) {
		(void)exit_cr(v, 0, CR_LMSW | (memory ? 1u << 6 : 0), 0);
		v->vmexit.qualification |= (*value & 0xffff) << 16;
		v->vmexit.gla = memory ? gla : 0;
		return SOFT_VMEXIT;
	}
	*value = (v->cr0 & mask) | (*value & ~mask);
	return SOFT_OK;
}

int soft_vmx_intercept_dr(struct soft_vcpu *v, unsigned dr, unsigned gpr, bool read)
{
	if (!(v->vmx.proc & PROC_MOV_DR))
		return SOFT_OK;
	return soft_vmx_exit(v, REASON_DR, (dr & 7) | (uint32_t)read << 4 | gpr << 8);
}
