/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seq.c - sequences of 2 to 20 random instructions, with short branches forward and one loop.
 *
 * Some registers keep their meaning through the sequence so that addresses stay good: four pointers,
 * and a counter for the loop (or a small index). A flag that an instruction leaves undefined may not
 * be read by a later one.
 */
#include "tests/insn/insn.h"

#include <stdio.h>
#include <string.h>

#define PIECE_MAX 48u

struct piece {
	uint8_t bytes[24];
	uint8_t len;
	int8_t target; /* index of the piece that its rel8 (last byte) leads to, or -1 */
	bool rel32;
};

struct sequence {
	struct rng rng;
	const struct forms *forms;
	struct test_case *tc;
	struct piece piece[PIECE_MAX];
	unsigned count;
	uint32_t undefined;           /* flags, here */
	uint32_t undefined_at[PIECE_MAX + 1]; /* what branches bring along */
	int loop_head;
	uint32_t reserved;
	int pointers[4];
	unsigned pointer_count, counter;
};

static void add_piece(struct sequence *q, const uint8_t *bytes, unsigned len, int target, bool rel32)
{
	struct piece *p = &q->piece[q->count++];

	memcpy(p->bytes, bytes, len);
	p->len = (uint8_t)len;
	p->target = (int8_t)target;
	p->rel32 = rel32;
}

static void setup_registers(struct sequence *q)
{
	struct cpu *in = &q->tc->in;
	static const int in64[2][4] = { { RBX, RSI, RDI, R13 }, { R9, R10, RDI, R13 } }, in32[] = { RBX, RSI, RDI };

	q->pointer_count = q->forms->mode == MODE_64 ? 4 : 3;
	memcpy(q->pointers, q->forms->mode == MODE_64 ? in64[rng_percent(&q->rng, 40)] : in32,
	       q->pointer_count * sizeof(int));
	q->counter = RBP;
	in->gpr[q->pointers[0]] = MEM_VA + 0x400;
	in->gpr[q->pointers[1]] = MEM_VA + 0x800 + rng_below(&q->rng, 64);
	in->gpr[q->pointers[2]] = MEM_VA + 0x1000 + rng_below(&q->rng, 64) - 32;
	if (q->forms->mode == MODE_64)
		in->gpr[q->pointers[3]] = MEM_END - 0x100 + rng_below(&q->rng, 0x80);
	/* Not 0: a branch may come into the loop without its MOV. */
	in->gpr[RBP] = 1 + rng_below(&q->rng, 31);
	in->gpr[RSP] = MEM_VA + 0x1800 + rng_below(&q->rng, 16) * 8;
	for (unsigned i = 0; i < q->pointer_count; i++)
		q->reserved |= 1u << q->pointers[i];
	q->reserved |= 1u << RBP | 1u << RSP;
	if (rng_percent(&q->rng, 95)) {
		/* Exceptions of the FPUs end most sequences too early. */
		in->xs.mxcsr |= 0x1f80;
		in->xs.fcw |= 0x3f;
	}
}

int insn_written_gpr(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER && (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) ?
		       gpr_number(op->reg.value) : -1;
}

bool insn_in_sequence(struct rng *rng, const struct insn *insn)
{
	const ZydisDecodedInstruction *d = &insn->d;

	if (d->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE || insn_cpl3_only(insn) ||
	    d->meta.isa_set == ZYDIS_ISA_SET_AVX2GATHER)
		return false;
	switch (d->mnemonic) {
	case ZYDIS_MNEMONIC_PAUSE:
		return !d->raw.rex.B; /* XCHG on some processors */
	case ZYDIS_MNEMONIC_DIV: case ZYDIS_MNEMONIC_IDIV: case ZYDIS_MNEMONIC_AAM:
		return rng_percent(rng, 20);
	case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_LEAVE: case ZYDIS_MNEMONIC_XLAT:
	case ZYDIS_MNEMONIC_LDMXCSR: case ZYDIS_MNEMONIC_VLDMXCSR: case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR: case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1: case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_BOUND: case ZYDIS_MNEMONIC_INTO: case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD: case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ: case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
		return false;
	default:
		return true;
	}
}

/* May this instruction stand here? */
static bool suits(struct sequence *q, const struct insn *insn)
{
	const ZydisDecodedInstruction *d = &insn->d;
	const bool string = d->meta.category == ZYDIS_CATEGORY_STRINGOP;

	if (!insn_in_sequence(&q->rng, insn) || (d->cpu_flags && (d->cpu_flags->tested & q->undefined)))
		return false;
	for (unsigned i = 0; i < d->operand_count; i++) {
		const ZydisDecodedOperand *op = &insn->op[i];
		const int reg = insn_written_gpr(op);

		if (reg < 0 || !(q->reserved >> reg & 1))
			continue;
		if (op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && (reg == RSP || string))
			continue; /* push and pop; string instructions move on a little */
		/* Seldom a pointer may break; the loop's counter never. */
		if (reg == RBP || rng_percent(&q->rng, 97))
			return false;
	}
	return true;
}

/* A memory operand off one of the pointers; the displacement decides where. */
static void choose_address(struct sequence *q, struct insn_choice *c)
{
	c->addr_prefix = q->forms->mode == MODE_64 && rng_percent(&q->rng, 4);
	c->segment = 0;
	c->rip_relative = false;
	c->base = q->pointers[rng_below(&q->rng, q->pointer_count)];
	if (rng_percent(&q->rng, 6))
		c->base = RSP;
	c->index = rng_percent(&q->rng, 25) ? (int)q->counter : -1;
	c->scale = c->index >= 0 ? (uint8_t)rng_below(&q->rng, 4) : 0;
	c->disp_size = (uint8_t)(rng_percent(&q->rng, 60) ? 1 : rng_percent(&q->rng, 50) ? 0 : 4);
	c->disp = (int32_t)rng_below(&q->rng, 240) - 120;
	if (rng_percent(&q->rng, 70))
		c->disp &= ~15;
}

static void after_insn(struct sequence *q, const ZydisDecodedInstruction *d)
{
	if (!d->cpu_flags)
		return;
	/* A shift or rotation by 0 leaves the flags as they are. */
	if (d->meta.category != ZYDIS_CATEGORY_SHIFT && d->meta.category != ZYDIS_CATEGORY_ROTATE)
		q->undefined &= ~(d->cpu_flags->modified | d->cpu_flags->set_0 | d->cpu_flags->set_1);
	q->undefined |= undefined_flags(d);
	q->tc->undefined_anywhere |= q->undefined;
}

static void add_random(struct sequence *q)
{
	const struct forms *f = q->forms;

	for (unsigned tries = 0; tries < 60; tries++) {
		size_t m = rng_below(&q->rng, (uint32_t)f->mnemonic_count);
		const struct form *form = &f->form[f->first[m] +
						   rng_below(&q->rng, f->first[m + 1] - f->first[m])];
		struct insn_choice c;
		struct insn insn;

		/* Half of them general-purpose: most mnemonics are SIMD. */
		if (rng_percent(&q->rng, 50) && (form->vex || form->map > MAP_0F))
			continue;
		random_choice(&q->rng, f, form, &c);
		choose_address(q, &c);
		if (!encode(f, form, &c, &q->rng, &insn))
			continue;
		if (!suits(q, &insn))
			continue;
		fill_immediates(&q->rng, &insn);
		if (!insn_decode(f, &insn))
			continue;
		if (insn.d.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
					 ZYDIS_ATTRIB_HAS_REPNE)) {
			const uint8_t mov_ecx[] = { 0xb9, (uint8_t)rng_below(&q->rng, 12), 0, 0, 0 };

			add_piece(q, mov_ecx, sizeof(mov_ecx), -1, false);
		}
		add_piece(q, insn.bytes, insn.len, -1, false);
		q->tc->any_fault |= insn_any_fault(&insn);
		after_insn(q, &insn.d);
		return;
	}
}

/* jcc or jmp or call, forward over some pieces (the target is known later: relative for now). */
static void add_branch(struct sequence *q)
{
	uint8_t bytes[8];
	unsigned condition = rng_below(&q->rng, 16), len = 0;
	const bool near = rng_percent(&q->rng, 30);
	const int target = (int)(q->count + 2 + rng_below(&q->rng, 3));
	static const uint32_t reads[] = { FL_OF, FL_CF, FL_ZF, FL_CF | FL_ZF, FL_SF, FL_PF,
					  FL_SF | FL_OF, FL_SF | FL_OF | FL_ZF };

	if (rng_percent(&q->rng, 15)) {
		bytes[len++] = 0xe8;
		add_piece(q, bytes, len, target, true);
	} else if (rng_percent(&q->rng, 10)) {
		bytes[len++] = near ? 0xe9 : 0xeb;
		add_piece(q, bytes, len, target, near);
	} else if (reads[condition >> 1] & q->undefined) {
		return;
	} else if (near) {
		bytes[len++] = 0x0f;
		bytes[len++] = (uint8_t)(0x80 | condition);
		add_piece(q, bytes, len, target, true);
	} else {
		bytes[len++] = (uint8_t)(0x70 | condition);
		add_piece(q, bytes, len, target, false);
	}
	if (target <= (int)PIECE_MAX)
		q->undefined_at[target] |= q->undefined;
}

/* mov ebp, n ... sub ebp, 1; jnz */
static void start_loop(struct sequence *q)
{
	const uint8_t mov[] = { 0xbd, (uint8_t)(1 + rng_below(&q->rng, 4)), 0, 0, 0 };

	add_piece(q, mov, sizeof(mov), -1, false);
	q->loop_head = (int)q->count;
}

static void end_loop(struct sequence *q)
{
	static const uint8_t sub[] = { 0x83, 0xed, 0x01 }, jnz[] = { 0x0f, 0x85 };

	add_piece(q, sub, sizeof(sub), -1, false);
	q->undefined = 0;
	/* No branch may end between the two (see link()): the loop could be endless. */
	add_piece(q, jnz, sizeof(jnz), q->loop_head, true);
	q->loop_head = -1;
}

/* Gives every branch its distance. */
static void link(struct sequence *q)
{
	struct test_case *tc = q->tc;
	unsigned at[PIECE_MAX + 1], n = 0;

	for (unsigned i = 0; i < q->count; i++) {
		at[i] = n;
		n += q->piece[i].len + (q->piece[i].target < 0 ? 0 : q->piece[i].rel32 ? 4 : 1);
	}
	at[q->count] = n;
	for (unsigned i = 0; i < q->count; i++) {
		const struct piece *p = &q->piece[i];
		unsigned target = p->target < 0 ? 0 : (unsigned)p->target;
		uint8_t *code = tc->code + at[i];

		memcpy(code, p->bytes, p->len);
		if (p->target < 0)
			continue;
		if (target > q->count)
			target = q->count;
		/* Not between the loop's SUB and its JNZ. */
		if (target > i && target < q->count && q->piece[target].target >= 0 &&
		    q->piece[target].target < (int)target)
			target--;
		if (p->rel32) {
			int32_t rel = (int32_t)at[target] - (int32_t)(at[i] + p->len + 4);

			memcpy(code + p->len, &rel, 4);
		} else {
			code[p->len] = (uint8_t)(at[target] - (at[i] + p->len + 1));
		}
	}
	tc->code_len = (uint16_t)n;
}

void generate_sequence(struct test_case *tc, const struct forms *forms, uint64_t seed, uint64_t index)
{
	struct sequence q = { .forms = forms, .tc = tc, .loop_head = -1 };
	unsigned length, loop_at;

	q.rng = rng_make(seed, index * 4 + 2 + forms->mode);
	memset(tc, 0, offsetof(struct test_case, in));
	tc->seed = seed;
	tc->index = index;
	tc->mode = forms->mode;
	tc->template = (uint16_t)rng_below(&q.rng, TEMPLATES);
	tc->code_va = (uint32_t)CODE_VA + (uint32_t)(index % CODE_SLOTS) * CODE_SLOT + 64;
	snprintf(tc->name, sizeof(tc->name), "sequence");
	random_cpu(&q.rng, &tc->in);
	setup_registers(&q);
	length = 2 + rng_below(&q.rng, SEQ_MAX - 1);
	loop_at = rng_percent(&q.rng, 40) ? rng_below(&q.rng, length) : ~0u;
	for (unsigned i = 0; i < length && q.count < PIECE_MAX - 6; i++) {
		q.undefined |= q.undefined_at[q.count];
		if (i == loop_at)
			start_loop(&q); /* its end defines all flags: nothing new arrives at its head */
		if (rng_percent(&q.rng, 12))
			add_branch(&q);
		else
			add_random(&q);
		q.undefined |= q.undefined_at[q.count];
		if (q.loop_head >= 0 && (int)q.count > q.loop_head + 2 && rng_percent(&q.rng, 30))
			end_loop(&q);
	}
	if (q.loop_head >= 0)
		end_loop(&q);
	for (unsigned i = q.count; i <= PIECE_MAX; i++)
		q.undefined |= q.undefined_at[i];
	link(&q);
	tc->undefined = q.undefined;
	tc->in.rip = tc->code_va;
}
