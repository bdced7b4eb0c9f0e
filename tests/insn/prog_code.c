/* SPDX-License-Identifier: Apache-2.0 */
/* prog_code.c - a program's operations: making them, which flags are defined where, linking. */
#include "tests/insn/program.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- making ----------------------------------------------------------------------------------------- */

void program_init(struct program *p, const struct forms *forms, struct rng *rng)
{
	p->decoder = &forms->decoder;
	p->rng = rng;
	p->count = p->label_count = 0;
	p->unit = p->unit_count = 0;
	p->full = false;
	p->code = (struct code){ .at = p->code_bytes, .room = sizeof(p->code_bytes),
				 .is32 = forms->mode == MODE_32 };
	memset(p->taken, 0, sizeof(p->taken));
}

unsigned unit_begin(struct program *p)
{
	unsigned outer = p->unit;

	p->unit = ++p->unit_count;
	return outer;
}

void unit_end(struct program *p, unsigned outer)
{
	p->unit = (uint16_t)outer;
}

int label_new(struct program *p)
{
	if (p->label_count == LABELS_MAX) {
		p->full = true;
		return 0;
	}
	p->label[p->label_count] = -1;
	return (int)p->label_count++;
}

void label_here(struct program *p, int label)
{
	label_op(p, label, p->count);
}

void label_op(struct program *p, int label, unsigned op)
{
	p->label[label] = (int16_t)op;
}

static struct op *op_new(struct program *p)
{
	struct op *o;

	if (p->count >= OPS_MAX - 1)
		p->full = true;
	else
		p->count++;
	o = &p->op[p->count - 1];
	memset(o, 0, sizeof(*o));
	o->label = o->page_at = -1;
	o->unit = p->unit;
	return o;
}

/* In front of an operation that reads flags; dead until it is needed. */
static void add_guard(struct program *p)
{
	struct op *o = op_new(p);
	struct code c = { .at = o->bytes, .room = sizeof(o->bytes), .is32 = p->code.is32 };
	const unsigned regs = c.is32 ? 8 : 16;

	put_reg(&c, 0, rng_percent(p->rng, 50), 0x39, (int)rng_below(p->rng, regs),
		(int)rng_below(p->rng, regs)); /* cmp */
	o->len = (uint8_t)c.len;
	o->guard = o->dead = true;
	o->defines = FL_ARITH;
}

static enum flow flow_of(const ZydisDecodedInstruction *d, const ZydisDecodedOperand *op)
{
	const bool known = op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	switch (d->meta.category) {
	case ZYDIS_CATEGORY_COND_BR: return FLOW_BRANCH;
	case ZYDIS_CATEGORY_UNCOND_BR: return known ? FLOW_JUMP : FLOW_ANY;
	case ZYDIS_CATEGORY_CALL: return known ? FLOW_CALL : FLOW_ANY_CALL;
	case ZYDIS_CATEGORY_RET: return FLOW_ANY;
	default: return d->mnemonic == ZYDIS_MNEMONIC_INT3 ? FLOW_STOP : FLOW_NEXT;
	}
}

/* Shifts and rotations: all but AF and, but by 1, OF are defined unless nothing is shifted. */
static bool is_shift(const ZydisDecodedInstruction *d)
{
	return d->meta.category == ZYDIS_CATEGORY_SHIFT || d->meta.category == ZYDIS_CATEGORY_ROTATE;
}

static void find_flags(struct op *o, const struct insn *insn)
{
	const ZydisDecodedInstruction *d = &insn->d;
	const bool by_one = is_shift(d) && insn->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
			    insn->op[1].imm.value.u == 1;

	if (!d->cpu_flags)
		return;
	o->reads = d->cpu_flags->tested & FL_ARITH;
	o->undefines = undefined_flags(d);
	if (by_one)
		o->undefines &= FL_AF;
	if ((is_shift(d) && !by_one) || d->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
							  ZYDIS_ATTRIB_HAS_REPNE))
		return; /* perhaps by 0: then they stay */
	o->defines = (d->cpu_flags->modified | d->cpu_flags->set_0 | d->cpu_flags->set_1) & FL_ARITH &
		     ~o->undefines;
}

unsigned op_end(struct program *p)
{
	struct insn insn;
	struct op found = { .flow = FLOW_NEXT }, *o;
	unsigned len = p->code.len;

	p->code.len = 0;
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(p->decoder, p->code_bytes, len, &insn.d, insn.op))) {
		insn.len = insn.d.length;
		find_flags(&found, &insn);
		found.flow = flow_of(&insn.d, insn.op);
		found.any_fault = insn_any_fault(&insn);
	}
	if (found.reads)
		add_guard(p);
	o = op_new(p);
	memcpy(o->bytes, p->code_bytes, len);
	o->len = (uint8_t)len;
	o->flow = found.flow;
	o->any_fault = found.any_fault;
	o->reads = found.reads;
	o->defines = found.defines;
	o->undefines = found.undefines;
	return p->count - 1;
}

unsigned op_ref(struct program *p, enum ref ref, unsigned ref_at, int label, int addend)
{
	unsigned i = op_end(p);
	struct op *o = &p->op[i];

	o->ref = ref == REF_RIP && p->code.is32 ? REF_ABS32 : ref;
	o->ref_at = (uint8_t)ref_at;
	o->label = (int16_t)label;
	o->addend = (int8_t)addend;
	if (ref != REF_BRANCH && !addend)
		p->taken[label] = true;
	return i;
}

unsigned op_branch(struct program *p, unsigned cc, int label)
{
	struct code *c = &p->code;
	unsigned i;

	if (cc < 16) {
		put(c, 0x0f);
		put(c, 0x80 | cc);
	} else {
		put(c, cc == BR_CALL ? 0xe8 : 0xe9);
	}
	put4(c, 0);
	i = op_ref(p, REF_BRANCH, c->len - 4, label, 0);
	p->op[i].brief = cc != BR_CALL && rng_percent(p->rng, 75);
	return i;
}

unsigned op_data(struct program *p, uint64_t v)
{
	struct op *o = op_new(p);

	memcpy(o->bytes, &v, 8);
	o->len = 8;
	o->data = true;
	o->flow = FLOW_STOP;
	return p->count - 1;
}

unsigned op_table(struct program *p, int label)
{
	unsigned i = op_data(p, 0);

	p->op[i].ref = REF_ABS64;
	p->op[i].label = (int16_t)label;
	p->taken[label] = true;
	return i;
}

/* --- flags ------------------------------------------------------------------------------------------ */

struct analysis {
	uint32_t anywhere; /* undefined, where a jump with an unknown target comes from */
	bool changed;
};

static void flows_to(struct program *p, struct analysis *a, unsigned op, uint32_t undefined)
{
	if (op >= p->count || !(undefined & ~p->op[op].undefined))
		return;
	p->op[op].undefined |= undefined;
	a->changed = true;
}

static void flow_from(struct program *p, struct analysis *a, unsigned i)
{
	const struct op *o = &p->op[i];
	uint32_t out = o->dead ? o->undefined : (o->undefined & ~o->defines) | o->undefines;

	if (o->dead || o->flow == FLOW_NEXT || o->flow == FLOW_BRANCH)
		flows_to(p, a, i + 1, out);
	if (o->dead)
		return;
	if (o->ref == REF_BRANCH)
		flows_to(p, a, (unsigned)p->label[o->label], out);
	if (o->flow == FLOW_ANY || o->flow == FLOW_ANY_CALL)
		a->anywhere |= out;
	if (o->flow == FLOW_CALL || o->flow == FLOW_ANY_CALL)
		flows_to(p, a, i + 1, a->anywhere);
}

static void find_undefined(struct program *p)
{
	struct analysis a = { .changed = true };

	for (unsigned i = 0; i < p->count; i++)
		p->op[i].undefined = 0;
	while (a.changed) {
		uint32_t before = a.anywhere;

		a.changed = false;
		for (unsigned i = 0; i < p->count; i++)
			flow_from(p, &a, i);
		for (unsigned l = 0; l < p->label_count; l++)
			if (p->taken[l])
				flows_to(p, &a, (unsigned)p->label[l], a.anywhere);
		a.changed |= before != a.anywhere;
	}
}

/* False: an operation reads an undefined flag and has no guard. */
static bool wake_guards(struct program *p)
{
	bool again = true;

	for (unsigned i = 0; i < p->count; i++)
		p->op[i].dead |= p->op[i].guard;
	while (again) {
		again = false;
		find_undefined(p);
		for (unsigned i = 0; i < p->count; i++) {
			const struct op *o = &p->op[i];

			if (o->dead || o->data || !(o->reads & o->undefined))
				continue;
			if (!i || !p->op[i - 1].guard || !p->op[i - 1].dead)
				return false;
			p->op[i - 1].dead = false;
			again = true;
		}
	}
	return true;
}

/* --- linking ---------------------------------------------------------------------------------------- */

static unsigned op_size(const struct op *o)
{
	return o->dead ? 0 : !o->is_short ? o->len : 2;
}

static bool lay_out(struct program *p)
{
	uint32_t at = 0;

	for (unsigned i = 0; i < p->count; i++) {
		struct op *o = &p->op[i];

		if (o->page_at >= 0)
			at += ((uint32_t)o->page_at - at) & 0xfff;
		o->at = at;
		at += op_size(o);
	}
	p->tc.code_len = (uint16_t)at;
	return at <= PROGRAM_SIZE - 64;
}

static int64_t distance(const struct program *p, const struct op *o)
{
	return (int64_t)p->op[p->label[o->label]].at - (int64_t)(o->at + op_size(o));
}

/* Makes branches short that can be; in the end all of those that are fit. */
static bool choose_sizes(struct program *p)
{
	bool changed = true;

	for (unsigned i = 0; i < p->count; i++)
		p->op[i].is_short = p->op[i].brief && p->op[i].ref == REF_BRANCH;
	while (changed) {
		changed = false;
		if (!lay_out(p))
			return false;
		for (unsigned i = 0; i < p->count; i++) {
			struct op *o = &p->op[i];

			if (o->dead || !o->is_short || distance(p, o) == (int8_t)distance(p, o))
				continue;
			o->is_short = false;
			changed = true;
		}
	}
	return true;
}

static void put_op_image(struct program *p, const struct op *o)
{
	uint8_t *to = p->image + o->at;
	uint64_t value = 0;

	if (o->ref != REF_NONE)
		value = p->tc.code_va + p->op[p->label[o->label]].at + (uint64_t)(int64_t)o->addend;
	if (o->is_short) {
		to[0] = o->bytes[0] == 0xe9 ? 0xeb : o->bytes[1] - 0x10;
		to[1] = (uint8_t)distance(p, o);
		return;
	}
	memcpy(to, o->bytes, o->len);
	if (o->ref == REF_BRANCH || o->ref == REF_RIP)
		value -= p->tc.code_va + o->at + o->len;
	if (o->ref != REF_NONE)
		memcpy(to + o->ref_at, &value, o->ref == REF_ABS64 ? 8 : 4);
}

bool program_settle(struct program *p)
{
	if (p->full || !wake_guards(p) || !choose_sizes(p))
		return false;
	memset(p->image, 0xcc, sizeof(p->image));
	for (unsigned i = 0; i < p->count; i++)
		if (!p->op[i].dead)
			put_op_image(p, &p->op[i]);
	p->tc.program = p->image;
	p->tc.in.rip = p->tc.code_va + p->op[p->label[p->main]].at;
	return true;
}

const struct op *program_op_at(const struct program *p, uint64_t va)
{
	for (unsigned i = 0; i < p->count; i++) {
		const struct op *o = &p->op[i];

		if (!o->dead && va >= p->tc.code_va + o->at && va < p->tc.code_va + o->at + op_size(o))
			return o;
	}
	return NULL;
}

static void list_op(const struct program *p, const struct op *o)
{
	const uint64_t va = p->tc.code_va + o->at;
	ZydisDisassembledInstruction d;
	const char *text = "(data)";

	if (!o->data && ZYAN_SUCCESS(ZydisDisassembleIntel(p->decoder->machine_mode, va, p->image + o->at,
							   op_size(o), &d)))
		text = d.text;
	printf("    %08" PRIx64 "  ", va);
	for (unsigned k = 0; k < op_size(o); k++)
		printf("%02x", p->image[o->at + k]);
	printf("%*s%s\n", 24 - 2 * (int)op_size(o) > 1 ? 24 - 2 * (int)op_size(o) : 1, "", text);
}

void program_list(const struct program *p)
{
	unsigned alive = 0;

	for (unsigned i = 0; i < p->count; i++) {
		const struct op *o = &p->op[i];

		if (o->dead)
			continue;
		alive++;
		if (p->label[p->main] == (int)i)
			printf("  start:\n");
		list_op(p, o);
	}
	printf("  %u instructions\n", alive);
}
