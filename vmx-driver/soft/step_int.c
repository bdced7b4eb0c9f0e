/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step_int.c - integer instructions that have no native form in the host's 64-bit mode (BCD, BOUND,
 * SALC, short INC and DEC), or whose address is not what their operand says (XLAT, BT with memory).
 * Flags that the manual leaves undefined are those of the addition that an AMD Zen makes (compared
 * exhaustively in 32-bit code).
 */
#include "vmx-driver/soft/step.h"

int soft_op_nop(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_done(v);
}

int soft_op_ud(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return soft_raise(v, EXC_UD);
}

/* SF, ZF, PF of a byte. */
static uint64_t byte_flags(uint8_t val)
{
	uint64_t fl = val & 0x80 ? FL_SF : 0;

	if (val == 0)
		fl |= FL_ZF;
	if (!__builtin_parity(val))
		fl |= FL_PF;
	return fl;
}

/* INC and DEC of a register: CF stays. */
int soft_op_inc_short(struct soft_vcpu *v, const struct soft_insn *insn)
{
	bool dec = insn->zi.mnemonic == ZYDIS_MNEMONIC_DEC;
	unsigned bits = insn->op[0].size;
	uint64_t val, sign = 1ull << (bits - 1), fl = soft_arith_flags(v) & FL_CF;
	int rc = soft_read_operand(v, insn, 0, &val);

	if (rc)
		return rc;
	val = (dec ? val - 1 : val + 1) & soft_mask(bits / 8);
	fl |= byte_flags((uint8_t)val) & FL_PF;
	if (val == 0)
		fl |= FL_ZF;
	if (val & sign)
		fl |= FL_SF;
	if (val == (dec ? sign - 1 : sign))
		fl |= FL_OF;
	if ((val & 15) == (dec ? 15 : 0))
		fl |= FL_AF;
	soft_write_operand(v, insn, 0, val);
	soft_set_arith(v, fl);
	return soft_done(v);
}

static int decimal_adjust(struct soft_vcpu *v, bool subtract)
{
	uint64_t fl = soft_arith_flags(v), out = 0;
	uint8_t old = (uint8_t)v->gpr[SOFT_RAX], change = 0, al;

	if ((old & 15) > 9 || (fl & FL_AF)) {
		change = 6;
		out |= FL_AF;
		if (subtract ? old < 6 : old > 0xf9)
			out |= FL_CF;
	}
	if (old > 0x99 || (fl & FL_CF)) {
		change += 0x60;
		out |= FL_CF;
	}
	al = (uint8_t)(subtract ? old - change : old + change);
	if ((subtract ? (old ^ change) & (old ^ al) : ~(old ^ change) & (old ^ al)) & 0x80)
		out |= FL_OF;
	soft_set_gpr(v, SOFT_RAX, 1, al);
	soft_set_arith(v, out | byte_flags(al));
	return soft_done(v);
}

int soft_op_daa(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return decimal_adjust(v, false);
}

int soft_op_das(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return decimal_adjust(v, true);
}

static int ascii_adjust(struct soft_vcpu *v, bool subtract)
{
	uint64_t out = 0;
	uint16_t ax = (uint16_t)v->gpr[SOFT_RAX];

	if ((ax & 15) > 9 || (soft_arith_flags(v) & FL_AF)) {
		ax = (uint16_t)(subtract ? ax - 0x106 : ax + 0x106);
		out = FL_AF | FL_CF;
	}
	out |= byte_flags((uint8_t)ax) & FL_PF;
	if (ax & 0x8000)
		out |= FL_SF;
	if (ax == 0)
		out |= FL_ZF;
	soft_set_gpr(v, SOFT_RAX, 2, ax & 0xff0f);
	soft_set_arith(v, out);
	return soft_done(v);
}

int soft_op_aaa(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return ascii_adjust(v, false);
}

int soft_op_aas(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	return ascii_adjust(v, true);
}

int soft_op_aam(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint8_t base = (uint8_t)insn->op[0].imm.value.u, al = (uint8_t)v->gpr[SOFT_RAX];

	if (base == 0)
		return soft_raise(v, EXC_DE);
	soft_set_gpr(v, SOFT_RAX, 2, (uint64_t)(al / base) << 8 | al % base);
	soft_set_arith(v, byte_flags(al % base));
	return soft_done(v);
}

int soft_op_aad(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint8_t base = (uint8_t)insn->op[0].imm.value.u, al = (uint8_t)v->gpr[SOFT_RAX];
	uint8_t ah = (uint8_t)(v->gpr[SOFT_RAX] >> 8);

	uint8_t add = (uint8_t)(ah * base), sum = (uint8_t)(al + add);
	uint64_t fl = byte_flags(sum);

	if (sum < al)
		fl |= FL_CF;
	if ((al & 15) + (add & 15) > 15)
		fl |= FL_AF;
	if (~(al ^ add) & (al ^ sum) & 0x80)
		fl |= FL_OF;
	soft_set_gpr(v, SOFT_RAX, 2, sum);
	soft_set_arith(v, fl);
	return soft_done(v);
}

int soft_op_bound(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned size = insn->zi.operand_width / 8;
	int32_t bound[2] = { 0, 0 }, index;
	int16_t bound16[2];
	uint64_t val, la;
	int rc = soft_read_operand(v, insn, 0, &val);

	if (rc == SOFT_OK)
		rc = soft_operand_la(v, insn, 1, false, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, size == 2 ? (void *)bound16 : (void *)bound, 2 * size, 0);
	if (rc)
		return rc;
	index = (int32_t)val;
	if (size == 2) {
		index = (int16_t)val;
		bound[0] = bound16[0];
		bound[1] = bound16[1];
	}
	if (index < bound[0] || index > bound[1])
		return soft_raise(v, EXC_BR);
	return soft_done(v);
}

int soft_op_salc(struct soft_vcpu *v, const struct soft_insn *insn)
{
	(void)insn;
	soft_set_gpr(v, SOFT_RAX, 1, soft_arith_flags(v) & FL_CF ? 0xff : 0);
	return soft_done(v);
}

int soft_op_xlat(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned seg;
	uint64_t offset, la;
	uint8_t al;
	int rc;

	soft_ea(v, insn, 0, &seg, &offset);
	offset = (offset + (v->gpr[SOFT_RAX] & 0xff)) & soft_mask(insn->zi.address_width / 8);
	rc = soft_data_la(v, seg, offset, 1, false, &la);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, &al, 1, 0);
	if (rc)
		return rc;
	soft_set_gpr(v, SOFT_RAX, 1, al);
	return soft_done(v);
}

int soft_op_lea(struct soft_vcpu *v, const struct soft_insn *insn)
{
	unsigned seg;
	uint64_t offset;
	int rc;

	soft_ea(v, insn, 1, &seg, &offset);
	rc = soft_write_operand(v, insn, 0, offset);
	return rc ? rc : soft_done(v);
}

/* --- AH..BH with what needs a REX prefix natively -------------------------------------------- */

/* MOVZX, MOVSX, CRC32 of AH..BH to SP or ESP. */
int soft_op_extend_high(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint64_t val;
	int rc = soft_read_operand(v, insn, 1, &val);

	if (rc)
		return rc;
	if (insn->zi.mnemonic == ZYDIS_MNEMONIC_MOVSX)
		val = (uint64_t)(int8_t)val;
	if (insn->zi.mnemonic == ZYDIS_MNEMONIC_CRC32) {
		uint32_t crc = (uint32_t)v->gpr[SOFT_RSP];

		__asm__("crc32b %1, %0" : "+r"(crc) : "rm"((uint8_t)val));
		val = crc;
	}
	soft_write_operand(v, insn, 0, val);
	return soft_done(v);
}

/* The memory byte, replaced by `new` if it was `*old`; *old is what it was. */
static int exchange_byte(struct soft_vcpu *v, const struct soft_insn *insn, uint64_t la, uint8_t new,
			 uint8_t *old)
{
	bool exclusive = insn->lock && soft_is_smp(v);
	uint8_t was = 0;
	void *host;
	int rc = soft_host_ptr(v, la, 1, ACC_WRITE, &host);

	if (rc)
		return rc;
	if (host) {
		__atomic_compare_exchange_n((uint8_t *)host, old, new, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		return SOFT_OK;
	}
	if (exclusive)
		soft_exclusive_begin(soft_vm_of(v), v);
	rc = soft_read(v, la, &was, 1, 0);
	if (rc == SOFT_OK)
		rc = soft_write(v, la, was == *old ? &new : &was, 1, ACC_WRITE);
	if (exclusive)
		soft_exclusive_end(soft_vm_of(v), v);
	*old = was;
	return rc;
}

int soft_op_cmpxchg_high(struct soft_vcpu *v, const struct soft_insn *insn)
{
	uint8_t al = (uint8_t)v->gpr[SOFT_RAX], old = al;
	uint64_t la, new;
	int rc = soft_read_operand(v, insn, 1, &new);

	if (rc == SOFT_OK)
		rc = soft_operand_la(v, insn, 0, true, &la);
	if (rc == SOFT_OK)
		rc = exchange_byte(v, insn, la, (uint8_t)new, &old);
	if (rc)
		return rc;
	v->aflags = soft_compare_flags(al, old, 1);
	soft_set_gpr(v, SOFT_RAX, 1, old);
	return soft_done(v);
}

/* --- BT BTS BTR BTC memory, register -------------------------------------------------------- */

static uint64_t apply_bit(ZydisMnemonic mnemonic, uint64_t val, uint64_t mask)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_BTS:
		return val | mask;
	case ZYDIS_MNEMONIC_BTR:
		return val & ~mask;
	case ZYDIS_MNEMONIC_BTC:
		return val ^ mask;
	default:
		return val;
	}
}

#define LOCKED_BIT(type)                                                                        \
	do {                                                                                    \
		type *p = host, m = (type)mask;                                                 \
		*ret_old = mnemonic == ZYDIS_MNEMONIC_BTS ?                                     \
				   __atomic_fetch_or(p, m, __ATOMIC_SEQ_CST) :                  \
			   mnemonic == ZYDIS_MNEMONIC_BTR ?                                     \
				   __atomic_fetch_and(p, (type)~m, __ATOMIC_SEQ_CST) :          \
				   __atomic_fetch_xor(p, m, __ATOMIC_SEQ_CST);                  \
	} while (0)

static void locked_bit(ZydisMnemonic mnemonic, void *host, unsigned size, uint64_t mask,
		       uint64_t *ret_old)
{
	if (size == 2)
		LOCKED_BIT(uint16_t);
	else if (size == 4)
		LOCKED_BIT(uint32_t);
	else
		LOCKED_BIT(uint64_t);
}

static int bit_slow(struct soft_vcpu *v, const struct soft_insn *insn, uint64_t la, unsigned size,
		    uint64_t mask, uint64_t *ret_old)
{
	bool write = insn->zi.mnemonic != ZYDIS_MNEMONIC_BT;
	bool exclusive = insn->lock && soft_is_smp(v);
	uint64_t old = 0, val;
	int rc = SOFT_OK;

	if (exclusive)
		soft_exclusive_begin(soft_vm_of(v), v);
	if (write)
		rc = soft_probe(v, la, size, ACC_WRITE);
	if (rc == SOFT_OK)
		rc = soft_read(v, la, &old, size, 0);
	if (rc == SOFT_OK && write) {
		val = apply_bit(insn->zi.mnemonic, old, mask);
		rc = soft_write(v, la, &val, size, ACC_WRITE);
	}
	if (exclusive)
		soft_exclusive_end(soft_vm_of(v), v);
	*ret_old = old;
	return rc;
}

/* The bit offset is signed and reaches beyond the operand: it moves the address. */
int soft_op_bit_memory(struct soft_vcpu *v, const struct soft_insn *insn)
{
	ZydisMnemonic mnemonic = insn->zi.mnemonic;
	bool write = mnemonic != ZYDIS_MNEMONIC_BT;
	unsigned size = insn->op[0].size / 8u, bits = size * 8, seg;
	uint64_t offset, la, bit, mask, old = 0, val;
	int64_t index;
	void *host;
	int rc;

	rc = soft_read_operand(v, insn, 1, &bit);
	if (rc)
		return rc;
	index = (int64_t)(bit << (64 - bits)) >> (64 - bits);
	mask = 1ull << (bit & (bits - 1));
	soft_ea(v, insn, 0, &seg, &offset);
	/* arithmetic shift: toward lower addresses for negative offsets */
	offset += (uint64_t)(index >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * size;
	offset &= soft_mask(insn->zi.address_width / 8);
	rc = soft_data_la(v, seg, offset, size, write, &la);
	if (rc == SOFT_OK)
		rc = soft_host_ptr(v, la, size, write ? ACC_WRITE : 0, &host);
	if (rc)
		return rc;
	if (!host) {
		rc = bit_slow(v, insn, la, size, mask, &old);
		if (rc)
			return rc;
	} else if (insn->lock) {
		locked_bit(mnemonic, host, size, mask, &old);
	} else {
		old = soft_load_host(host, size);
		if (write) {
			val = apply_bit(mnemonic, old, mask);
			soft_store_host(host, val, size);
		}
	}
	soft_set_arith(v, (soft_arith_flags(v) & ~(uint64_t)FL_CF) | (old & mask ? FL_CF : 0));
	return soft_done(v);
}
