/* SPDX-License-Identifier: Apache-2.0 */
/* jit_loop.c - finds loops whose addresses move by constants, and host registers for them. */
#include "vmx-driver/soft/jit_loop.h"

struct value { /* a guest register: what `root` was at the start of the iteration, + off */
	uint8_t root; /* JIT_NOBODYS: not known */
	int64_t off;
};

static unsigned guest_of(ZydisRegister reg)
{
	bool high;
	int guest = reg == ZYDIS_REGISTER_NONE ? -1 : jit_guest_reg(reg, &high);

	return guest < 0 ? JIT_NOBODYS : (unsigned)guest;
}

/* --- how registers change ---------------------------------------------------------------------- */

/* Does the item add a constant to a register, op[0]? */
static bool adds_constant(const struct item *it, int64_t *ret_off)
{
	const ZydisDecodedOperand *op = it->insn.op;
	ZydisMnemonic mnemonic = it->insn.zi.mnemonic;

	*ret_off = 0;
	if (it->kind != K_DATA || op[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
		*ret_off = mnemonic == ZYDIS_MNEMONIC_INC ? 1 : -1;
		return true;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return false;
		*ret_off = mnemonic == ZYDIS_MNEMONIC_ADD ? op[1].imm.value.s : -op[1].imm.value.s;
		return true;
	default:
		return false;
	}
}

/* Does the item give a 64-bit register, op[0], the value of one + *ret_off? Which; or JIT_NOBODYS. */
static unsigned moved_from(const struct item *it, int64_t *ret_off)
{
	const ZydisDecodedOperand *op = it->insn.op;

	*ret_off = 0;
	if ((it->kind != K_DATA && it->kind != K_LEA) || !jit_is_gpr64(&op[0]))
		return JIT_NOBODYS;
	if (adds_constant(it, ret_off))
		return guest_of(op[0].reg.value);
	switch (it->insn.zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return jit_is_gpr64(&op[1]) ? guest_of(op[1].reg.value) : JIT_NOBODYS;
	case ZYDIS_MNEMONIC_LEA:
		if (it->insn.zi.address_width != 64 || op[1].mem.index != ZYDIS_REGISTER_NONE)
			return JIT_NOBODYS;
		*ret_off = op[1].mem.disp.value;
		return op[1].mem.base == ZYDIS_REGISTER_RIP ? JIT_NOBODYS : guest_of(op[1].mem.base);
	default:
		return JIT_NOBODYS;
	}
}

static void values_at_start(struct value value[16])
{
	for (uint8_t guest = 0; guest < 16; guest++)
		value[guest] = (struct value){ .root = guest };
}

static void values_after(struct value value[16], const struct item *it)
{
	struct value now = { .root = JIT_NOBODYS };
	int64_t off;
	unsigned from = moved_from(it, &off);

	if (from != JIT_NOBODYS && value[from].root != JIT_NOBODYS) {
		now = value[from];
		now.off += off;
		if (now.off != (int32_t)now.off)
			now.root = JIT_NOBODYS;
	}
	for (unsigned guest = 0; guest < 16; guest++)
		if (jit_writes_guest(it, guest))
			value[guest] = now;
}

/* --- streams ------------------------------------------------------------------------------------ */

/* The registers of an address as they are at the item; false if one of them is not known. */
static bool root_of(const struct value value[16], const struct value last[16], ZydisRegister reg,
		    struct value *ret, int64_t *ret_stride)
{
	unsigned guest = guest_of(reg);

	*ret = (struct value){ .root = JIT_NOBODYS };
	*ret_stride = 0;
	if (reg == ZYDIS_REGISTER_NONE)
		return true;
	if (guest == JIT_NOBODYS)
		return false;
	*ret = value[guest];
	if (ret->root == JIT_NOBODYS || last[ret->root].root != ret->root)
		return false;
	*ret_stride = last[ret->root].off;
	return true;
}

/* The stream among those there are that the access is of, made if need be. */
static bool join_stream(struct loop *loop, const struct loop_stream *one, struct loop_access *access)
{
	for (unsigned k = 0; k < loop->stream_count; k++) {
		struct loop_stream *s = &loop->stream[k];
		int64_t lo = one->lo < s->lo ? one->lo : s->lo, hi = one->hi > s->hi ? one->hi : s->hi;

		if (s->base != one->base || s->index != one->index || s->log2 != one->log2 ||
		    s->code != one->code || hi - lo > LOOP_SPAN)
			continue;
		s->lo = lo;
		s->hi = hi;
		s->write |= one->write;
		access->stream = (uint8_t)k;
		return true;
	}
	if (loop->stream_count == LOOP_STREAMS)
		return false;
	access->stream = (uint8_t)loop->stream_count;
	loop->stream[loop->stream_count++] = *one;
	return true;
}

/* Fits a displacement, also with a page more or less. */
static bool is_near(int64_t disp)
{
	return disp > -(1ll << 30) && disp < 1ll << 30;
}

static bool add_access(struct loop *loop, const struct item *it, unsigned item,
		       const struct value value[16], const struct value last[16])
{
	const ZydisDecodedOperand *mem = jit_memory_operand(&it->insn);
	struct loop_access *access = &loop->access[item];
	struct value base, index;
	int64_t base_stride, index_stride;
	struct loop_stream one = {
		.item = item, .lo = mem->mem.disp.value,
		.write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE,
		.code = mem->mem.base == ZYDIS_REGISTER_RIP,
	};

	if (it->insn.zi.address_width != 64 || !mem->size || mem->size > 8 * 64 ||
	    jit_has_segment(mem))
		return false;
	if (one.code)
		one.lo += (int64_t)(it->rip + it->insn.len);
	if (!root_of(value, last, one.code ? ZYDIS_REGISTER_NONE : mem->mem.base, &base, &base_stride) ||
	    !root_of(value, last, mem->mem.index, &index, &index_stride))
		return false;
	if (base_stride && index_stride)
		return false;
	one.base = base.root;
	one.index = index.root;
	if (index.root != JIT_NOBODYS)
		one.log2 = (uint8_t)__builtin_ctz(mem->mem.scale);
	one.base_moves = base.root != JIT_NOBODYS && !index_stride;
	one.stride = base_stride + (index_stride * (1 << one.log2));
	if (one.stride > LOOP_STRIDE || one.stride < -LOOP_STRIDE)
		return false;
	one.lo += base.off + (index.off * (1 << one.log2));
	one.hi = one.lo + mem->size / 8;
	access->at = one.lo;
	access->bias = one.base_moves ? index.off * (1 << one.log2) : base.off;
	if ((base.root != JIT_NOBODYS || index.root != JIT_NOBODYS) &&
	    (!is_near(one.lo) || !is_near(mem->mem.disp.value + access->bias)))
		return false;
	return join_stream(loop, &one, access);
}

/* --- how often --------------------------------------------------------------------------------------- */

/* An operand of 32 or 64 bits: which guest register, else JIT_NOBODYS. */
static unsigned plain_guest(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && op->size >= 32 ? guest_of(op->reg.value) :
									     JIT_NOBODYS;
}

/* How many items of the loop write the register; the last of them. */
static unsigned writers(const struct tr *t, const struct loop *loop, unsigned first, unsigned guest,
			unsigned *ret_last)
{
	unsigned n = 0;

	for (unsigned k = first; k < loop->back; k++) {
		if (jit_writes_guest(&t->s->item[k], guest)) {
			*ret_last = k;
			n++;
		}
	}
	return n;
}

/* Does the item add a constant to at least so many bits of the register? */
static bool adds_to(const struct item *it, unsigned guest, unsigned bits, int64_t *ret_by)
{
	return moved_from(it, ret_by) == guest || (adds_constant(it, ret_by) && it->insn.op[0].size >= bits);
}

/* Below, or above if it moves down; not equal is all the same. */
static bool goes_on_before(unsigned cc, int64_t stride)
{
	if (cc == CC_NE)
		return true;
	if (stride > 0)
		return cc == CC_B || cc == CC_BE || cc == CC_L || cc == CC_LE;
	return cc == CC_A || cc == CC_AE || cc == CC_G || cc == CC_GE;
}

/* The loop goes on while op `moving` of the item before its end compares with the other one by cc. */
static bool find_moving(const struct tr *t, struct loop *loop, unsigned first, unsigned moving, unsigned cc)
{
	const struct item *test = &t->s->item[loop->back - 1];
	const ZydisDecodedOperand *op = &test->insn.op[moving], *other = &test->insn.op[moving ^ 1];
	bool is_cmp = test->insn.zi.mnemonic == ZYDIS_MNEMONIC_CMP;
	unsigned guest = plain_guest(op), fixed = plain_guest(other), at = 0, none;
	struct loop_trips *trips = &loop->trips;
	int64_t stride;

	if (guest == JIT_NOBODYS || writers(t, loop, first, guest, &at) != 1 ||
	    !adds_to(&t->s->item[at], guest, op->size, &stride) ||
	    stride < -LOOP_STRIDE || stride > LOOP_STRIDE || !stride || !goes_on_before(cc, stride))
		return false;
	if (is_cmp && other->type != ZYDIS_OPERAND_TYPE_IMMEDIATE &&
	    (fixed == JIT_NOBODYS || writers(t, loop, first, fixed, &none)))
		return false;
	*trips = (struct loop_trips){
		.moving = (uint8_t)guest, .fixed = is_cmp ? (uint8_t)fixed : JIT_NOBODYS,
		.wide = op->size == 64, .elided = is_cmp, .stride = (int32_t)stride,
		.beyond = cc == CC_NE ? 0 : cc < CC_L ? CC_B : CC_L,
	};
	if (is_cmp && fixed == JIT_NOBODYS)
		trips->imm = (int32_t)other->imm.value.s;
	return true;
}

static void find_trips(const struct tr *t, struct loop *loop, unsigned first)
{
	static const uint8_t mirrored[16] = { /* of operands that change places; 0: of no use */
		[CC_NE] = CC_NE, [CC_B] = CC_A, [CC_A] = CC_B, [CC_BE] = CC_AE, [CC_AE] = CC_BE,
		[CC_L] = CC_G, [CC_G] = CC_L, [CC_LE] = CC_GE, [CC_GE] = CC_LE,
	};
	const struct item *jump = &t->s->item[loop->back], *test = jump - 1;
	unsigned cc = jump->insn.zi.opcode & 15;
	int64_t off;

	if (jump->kind != K_JCC || test->kind != K_DATA || jit_memory_operand(&test->insn))
		return;
	if (test->insn.zi.mnemonic == ZYDIS_MNEMONIC_CMP) {
		if (!find_moving(t, loop, first, 0, cc) && mirrored[cc])
			find_moving(t, loop, first, 1, mirrored[cc]);
	} else if (cc == CC_NE && jit_flags_recipe(&test->insn) && adds_constant(test, &off)) {
		find_moving(t, loop, first, 0, cc);
	}
}

/* --- which loops ---------------------------------------------------------------------------------- */

static bool suits(const struct item *it)
{
	switch (it->kind) {
	case K_NONE:
		return true;
	case K_JCC:
		return jit_is_direct(it);
	case K_LEA:
		return it->insn.zi.operand_width != 16 && it->insn.zi.address_width == 64;
	case K_DATA:
		for (unsigned host = 0; host < 4; host++)
			if (jit_data_swaps(&it->insn, host))
				return false;
		return true;
	default:
		return false;
	}
}

static uint32_t used_by(const struct item *it)
{
	uint32_t used = 0;

	for (unsigned i = 0; i < it->insn.zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &it->insn.op[i];
		ZydisRegister regs[2] = { ZYDIS_REGISTER_NONE, ZYDIS_REGISTER_NONE };

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
			regs[0] = op->reg.value;
		else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			regs[0] = op->mem.base;
			regs[1] = op->mem.index;
		}
		for (unsigned k = 0; k < 2; k++)
			if (guest_of(regs[k]) != JIT_NOBODYS)
				used |= 1u << guest_of(regs[k]);
	}
	return used;
}

/* The item that jumps to the first one: all before it are such as can be in a loop. */
static bool find_back(const struct tr *t, struct loop *loop, unsigned first)
{
	const struct jit_scratch *s = t->s;

	for (unsigned k = first; k < s->count && k < LOOP_ITEMS; k++) {
		const struct item *it = &s->item[k];

		if ((it->kind == K_JCC || it->kind == K_JMP) && jit_is_direct(it) &&
		    jit_branch_target(it) == s->item[first].rip) {
			loop->back = k;
			return true;
		}
		if (!suits(it) ||
		    ((k == first || jit_memory_operand(&it->insn)) && jit_site_mode(t, it) == JIT_BY_L1))
			return false;
		loop->used |= used_by(it);
	}
	return false;
}

/* A pinned register that the loop has no use for, of those from `from` on. */
static int unused(const struct loop *loop)
{
	static const uint8_t order[] = { 15, 14, 13, 12, 5, 3, 7, 6, 2, 1, 0, SOFT_RSP };

	for (unsigned k = 0; k < sizeof(order); k++)
		if (!((loop->used | loop->borrowed) >> order[k] & 1))
			return order[k];
	return -1;
}

static int take_host(struct loop *loop, unsigned *scratch)
{
	int guest;

	if (*scratch)
		return (*scratch)-- == 2 ? H_R10 : H_R11;
	guest = unused(loop);
	if (guest < 0)
		return -1;
	loop->borrowed |= 1u << guest;
	return jit_host_reg((unsigned)guest);
}

/* Host registers for all that the fast body needs. */
static bool assign(struct loop *loop)
{
	unsigned scratch = 2;
	int host;

	for (uint8_t guest = 0; guest < 16; guest++)
		loop->name[guest] = guest;
	for (uint8_t guest = 0; guest < 16; guest++) {
		int other;

		if (!(loop->used >> guest & 1) || jit_host_reg(guest) >= 0)
			continue;
		other = unused(loop);
		if (other < 0 || other == SOFT_RSP)
			return false;
		loop->borrowed |= 1u << other;
		loop->name[guest] = (uint8_t)other;
		loop->name[other] = guest;
	}
	host = take_host(loop, &scratch);
	loop->counter = (uint8_t)host;
	for (unsigned k = 0; k < loop->stream_count && host >= 0; k++) {
		host = take_host(loop, &scratch);
		loop->stream[k].host = (uint8_t)host;
	}
	return host >= 0;
}

static uint32_t used_by_recipe(jit_recipe r)
{
	return (r ? 1u << jit_recipe_a(r) : 0) | (r && jit_recipe_has_b(r) ? 1u << jit_recipe_b(r) : 0);
}

bool jit_loop_find(const struct tr *t, struct loop *loop, unsigned first)
{
	struct value value[16], last[16];

	*loop = (struct loop){ .used = used_by_recipe(t->recipe) & 0xffff };
	if (!find_back(t, loop, first) || loop->back == first)
		return false;
	values_at_start(last);
	for (unsigned k = first; k < loop->back; k++)
		values_after(last, &t->s->item[k]);
	values_at_start(value);
	for (unsigned k = first; k < loop->back; k++) {
		const struct item *it = &t->s->item[k];

		loop->access[k].stream = JIT_NOBODYS;
		if (it->kind == K_DATA && jit_memory_operand(&it->insn) &&
		    !add_access(loop, it, k, value, last))
			return false;
		values_after(value, it);
	}
	find_trips(t, loop, first);
	return assign(loop);
}

/* Loops over arrays of floats are mostly long; many of the others end in their first iterations, which
 * the block that they follow has done by then. */
static bool is_long(const struct tr *t, const struct loop *loop, unsigned first)
{
	for (unsigned k = first; k < loop->back; k++)
		if (t->s->item[k].insn.fp != FP_NONE && loop->access[k].stream != JIT_NOBODYS)
			return true;
	return false;
}

void jit_loop_cut(struct tr *t)
{
	struct jit_scratch *s = t->s;
	struct loop loop;

	for (unsigned k = 1; k < s->count; k++) {
		const struct item *it = &s->item[k];
		uint64_t target;
		unsigned first = 1;

		if ((it->kind != K_JCC && it->kind != K_JMP) || !jit_is_direct(it))
			continue;
		target = jit_branch_target(it);
		while (first <= k && s->item[first].rip != target)
			first++;
		if (first > k || !jit_linkable(t, target) || jit_after_sti(s) ||
		    !jit_loop_find(t, &loop, first) || !is_long(t, &loop, first))
			continue;
		s->count = first;
		s->end_rip = target;
		s->open_end = s->to_loop = true;
		return;
	}
}

/* --- renaming --------------------------------------------------------------------------------------- */

static ZydisRegister renamed(ZydisRegister reg, const uint8_t name[16])
{
	bool high;
	int guest = reg == ZYDIS_REGISTER_NONE ? -1 : jit_guest_reg(reg, &high), to;

	if (guest < 0 || high || name[guest] == guest)
		return reg;
	to = name[guest];
	if (reg >= ZYDIS_REGISTER_RAX)
		return (ZydisRegister)(ZYDIS_REGISTER_RAX + to);
	if (reg >= ZYDIS_REGISTER_EAX)
		return (ZydisRegister)(ZYDIS_REGISTER_EAX + to);
	if (reg >= ZYDIS_REGISTER_AX)
		return (ZydisRegister)(ZYDIS_REGISTER_AX + to);
	return (ZydisRegister)(to < 4 ? ZYDIS_REGISTER_AL + to : ZYDIS_REGISTER_SPL + to - 4);
}

void jit_loop_rename(struct tr *t, const struct loop *loop)
{
	for (unsigned k = 0; k <= loop->back; k++) {
		struct soft_insn *insn = &t->s->item[k].insn;

		insn->renamed = !insn->renamed;
		for (unsigned i = 0; i < insn->zi.operand_count; i++) {
			ZydisDecodedOperand *op = &insn->op[i];

			if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
				op->reg.value = renamed(op->reg.value, loop->name);
			} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
				op->mem.base = renamed(op->mem.base, loop->name);
				op->mem.index = renamed(op->mem.index, loop->name);
			}
		}
		insn->writes = soft_written_gprs(insn);
		jit_facts_find(insn);
	}
}
