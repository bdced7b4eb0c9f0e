/* SPDX-License-Identifier: Apache-2.0 */
/* jit_group.c - one check for several accesses off one base. */
#include "common/checked.h"
#include "vmx-driver/soft/jit_tr.h"

#define GROUP_ITEMS 24u
#define GROUP_SPAN 120 /* bytes */

/* The base is a host register as it stands. */
static bool is_direct(const struct item *it, const ZydisDecodedOperand *mem)
{
	bool high;

	return jit_is_pointer(it, mem) && mem->mem.base != ZYDIS_REGISTER_NONE && mem->mem.index == ZYDIS_REGISTER_NONE &&
	       jit_host_reg((unsigned)jit_guest_reg(mem->mem.base, &high)) >= 0;
}

bool jit_can_group(const struct item *it, const ZydisDecodedOperand *mem)
{
	return it->kind == K_DATA && mem && mem->size && !jit_has_segment(mem) && jit_own_width(it) &&
	       mem->mem.base != ZYDIS_REGISTER_RIP &&
	       (mem->mem.base != ZYDIS_REGISTER_NONE || mem->mem.index != ZYDIS_REGISTER_NONE) &&
	       mem->mem.disp.value == (int32_t)mem->mem.disp.value;
}

bool jit_same_address_regs(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b)
{
	return a->mem.base == b->mem.base && a->mem.index == b->mem.index &&
	       (a->mem.index == ZYDIS_REGISTER_NONE || a->mem.scale == b->mem.scale);
}

bool jit_writes_reg(const struct item *it, ZydisRegister reg)
{
	bool high;
	int guest = jit_guest_reg(reg, &high);

	return guest >= 0 && jit_writes_guest(it, (unsigned)guest);
}

static bool is_resident(ZydisRegister reg)
{
	bool high;
	int guest = reg == ZYDIS_REGISTER_NONE || reg == ZYDIS_REGISTER_RIP ? -1 :
		    jit_guest_reg(reg, &high);

	return guest >= 0 && jit_host_reg((unsigned)guest) < 0;
}

bool jit_keeps_scratch(const struct item *it)
{
	const ZydisDecodedOperand *ea = &it->insn.op[1];

	switch (it->kind) {
	case K_NONE:
	case K_JCC:
		return true;
	case K_DATA:
		return !jit_memory_operand(&it->insn) && jit_data_scratch(&it->insn) <= 2;
	case K_LEA:
		/* the second register that lives in memory may have to be in r11 */
		return jit_own_width(it) && it->insn.zi.operand_width != 16 &&
		       (ea->mem.base == ZYDIS_REGISTER_NONE || !is_resident(ea->mem.index));
	default:
		return false;
	}
}

bool jit_can_be_within(const struct tr *t, const struct item *it, const ZydisDecodedOperand *mem)
{
	return t->cache->use_l0 && it->kind == K_DATA && mem && mem->size &&
	       jit_own_width(it) && jit_data_scratch(&it->insn) <= 1 && !is_resident(mem->mem.index) &&
	       (t->word == 8 || !jit_has_segment(mem));
}

bool jit_in_group(const struct tr *t, const ZydisDecodedOperand *mem)
{
	return jit_can_group(&t->s->item[t->i], mem) &&
	       (t->group.stack ? jit_is_stack(mem) : jit_same_address_regs(mem, t->group.mem));
}

static bool is_write(const ZydisDecodedOperand *mem)
{
	return mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

/* Looks for accesses off one base from the current item on and emits their common check. */
void jit_start_group(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct item *head = &s->item[t->i];
	const ZydisDecodedOperand *first = jit_memory_operand(&head->insn);
	ZydisDecodedOperand start;
	int64_t lo, hi;
	unsigned end = t->i, count = 0;
	bool write = false, reads, lasts;

	if (!jit_can_group(head, first))
		return;
	/* what it takes to check the group again after a miss within it */
	lasts = is_direct(head, first) && jit_mode_l0(jit_site_mode(t, head));
	reads = jit_site_reads(head) && !is_write(first);
	lo = hi = first->mem.disp.value;
	for (unsigned k = t->i; k < s->count && k < t->i + GROUP_ITEMS; k++) {
		struct item *it = &s->item[k];
		const ZydisDecodedOperand *mem = jit_memory_operand(&it->insn);

		if (jit_can_group(it, mem) && jit_same_address_regs(mem, first)) {
			int64_t from = mem->mem.disp.value < lo ? mem->mem.disp.value : lo;
			int64_t to = mem->mem.disp.value + mem->size / 8;

			to = to > hi ? to : hi;
			if (to - from > GROUP_SPAN || (reads && is_write(mem)))
				break;
			lo = from;
			hi = to;
			write |= is_write(mem);
			end = k + 1;
			count++;
		} else if (!jit_keeps_scratch(it) && !(lasts && jit_can_be_within(t, it, mem))) {
			break;
		}
		if (jit_writes_reg(it, first->mem.base) || jit_writes_reg(it, first->mem.index))
			break;
	}
	if (count < 2)
		return;
	jit_flags_clobber(t);
	t->group = (struct group){ .end = end, .mem = first, .lo = lo, .size = (unsigned)(hi - lo) };
	if (is_direct(head, first)) {
		bool high;
		int base = jit_host_reg((unsigned)jit_guest_reg(first->mem.base, &high));

		t->group.place = (struct jit_place){ .base = (uint8_t)base, .index = JIT_INDEX(H_R11) };
		t->group.l0 = jit_emit_check_site(t, (unsigned)base, (int32_t)lo, t->group.size, write,
						  true);
		return;
	}
	start = *first;
	start.mem.disp.value = lo;
	if (jit_can_index(head, first)) {
		t->group.place = jit_emit_check_indexed(t, head, &start, t->group.size, write, true);
	} else {
		jit_emit_ea(&t->b, H_R11, &head->insn, &start, 0, false);
		t->group.bias = lo;
		t->group.place = jit_emit_check_r11(t, t->group.size, write, true);
	}
}
