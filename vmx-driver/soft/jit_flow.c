/* SPDX-License-Identifier: Apache-2.0 */
/* jit_flow.c - points of a block, checks of memory. */
#include "common/checked.h"
#include "vmx-driver/soft/jit_loop.h"

jit_recipe jit_recipe_now(const struct tr *t)
{
	return t->where & IN_MEM ? 0 : jit_loop_recipe(t->loop, t->recipe);
}

void jit_point_here(struct tr *t, unsigned state)
{
	struct jit_scratch *s = t->s;
	struct jit_point *p;

	if (s->point_count >= ARRAY_SIZE(s->point)) {
		t->b.full = true;
		return;
	}
	p = &s->point[s->point_count++];
	p->host = (uint32_t)(t->b.p - t->start);
	p->guest = (uint16_t)(s->item[t->i].rip - t->rip);
	p->state = (uint16_t)(state | (t->loop ? POINT_LOOP : 0));
	p->recipe = jit_recipe_now(t);
	if (!(t->where & IN_MEM) && (t->where & IN_REG)) {
		p->state |= POINT_FLAGS_LIVE;
		p->recipe = 0;
	}
}

uint8_t *jit_stub(const struct tr *t, uint8_t *rx)
{
	return t->cache->rw + (rx - t->cache->rx);
}

/* What seldom runs stands in the other half of the cache, so that what runs often is dense. */
static void swap_halves(struct tr *t)
{
	struct jit_buf b = t->b;

	t->b = t->other;
	t->other = b;
	/* One is full, both are: no displacement is written any more, for its place may not be there. */
	t->b.full = t->other.full = t->b.full || t->other.full;
}

void jit_cold_begin(struct tr *t)
{
	if (t->cold_depth++ == 0)
		swap_halves(t);
}

void jit_cold_end(struct tr *t)
{
	if (--t->cold_depth == 0)
		swap_halves(t);
}

static uint32_t slot_offset(const struct tr *t, uint32_t slot)
{
	return e_tlb_offset(t->ctx, offsetof(struct soft_tlb, l0) + slot * sizeof(struct soft_l0));
}

static uint32_t run_offset(const struct tr *t, uint32_t run)
{
	return e_tlb_offset(t->ctx, offsetof(struct soft_tlb, run) + run * sizeof(struct soft_run));
}

static uint32_t l1_offset(const struct tr *t, size_t member)
{
	return e_tlb_offset(t->ctx, offsetof(struct soft_tlb, l1) + member);
}

static uint32_t l1_tag(const struct tr *t, bool write)
{
	return l1_offset(t, write ? offsetof(struct soft_l1, tag_w) : offsetof(struct soft_l1, tag_r));
}

/* op reg, [tag]; op is SUB or ADD: of its L0 entry or, JIT_BY_L1, of the L1 entry that r9 leads to. */
static void emit_tag(struct tr *t, unsigned opcode, unsigned reg, const struct slow_path *slow)
{
	if (slow->mode == JIT_BY_L1)
		e_gs_idx(&t->b, true, opcode, reg, H_R9, l1_tag(t, slow->write));
	else
		e_gs(&t->b, true, opcode, reg, slow->l0);
}

/* Counts a use of an L0 entry; its counts begin anew. */
static void emit_count_use(struct tr *t, uint32_t slot)
{
	t->v->l0_uses[slot] = 0;
	__atomic_store_n(&t->v->l0_misses[slot], -JIT_MISSES, __ATOMIC_RELAXED);
	e_vcpu8(&t->b, 0x83, 1, 0, GS_OFF(l0_uses) + 4 * slot, 1); /* add dword [l0_uses + slot * 4], 1 */
}

/* reg holds the address: the slot of L1 into r9, if it is an L1 site; then compares with the tag. */
static void emit_compare(struct tr *t, unsigned reg, unsigned size, struct slow_path *slow)
{
	uint32_t span = slow->mode == JIT_BY_LARGE ? SOFT_LARGE_SIZE : 4096;
	struct jit_buf *b = &t->b;

	if (slow->mode == JIT_BY_L1) {
		e_mov(b, H_R9, reg);
		e_l1_index(b, H_R9);
	}
	if (slow->site & JIT_SITE_COUNTED)
		emit_count_use(t, (slow->site & JIT_SITE_SLOT_MASK) / (unsigned)sizeof(struct soft_l0));
	emit_tag(t, 0x2b, reg, slow);
	if (slow->mode == JIT_BY_RUN)
		e_gs(b, true, 0x3b, reg, slow->l0 + (uint32_t)offsetof(struct soft_run, limit)); /* cmp */
	else
		e_alu_imm(b, true, 7, reg, span - size);
	slow->hole = e_jcc_fwd(b, CC_A);
}

/* What happens when the check fails, emitted at the end; ->l0: the entry that it looks in, which is the
 * slot's but for a site that is JIT_BY_LARGE or JIT_BY_RUN. NULL: too many. */
static struct slow_path *add_slow_path(struct tr *t, uint32_t slot, unsigned size, bool write,
				       bool page, enum jit_site_mode mode)
{
	struct jit_scratch *s = t->s;
	struct slow_path *slow = &s->slow[s->slow_count];

	if (s->slow_count >= ARRAY_SIZE(s->slow)) {
		t->b.full = true;
		return NULL;
	}
	s->slow_count++;
	slow->mode = jit_access_mode(mode, size, write);
	if (slow->mode == JIT_BY_LARGE)
		slot = jit_slot_large(t, page);
	else if (slow->mode == JIT_BY_RUN)
		slot = jit_slot_run(t, size, write, page);
	/* a wide operand may have to be aligned, which is checked before the page is looked at */
	slow->site = slot * (uint32_t)sizeof(struct soft_l0) | size << JIT_SITE_SIZE_SHIFT |
		     (size >= 16 ? JIT_SITE_WIDE : 0) | (page ? JIT_SITE_PAGE : 0) |
		     (slow->mode == JIT_BY_LARGE ? JIT_SITE_LARGE : 0) |
		     (slow->mode == JIT_BY_RUN ? JIT_SITE_RUN : 0) |
		     (slow->mode == JIT_BY_L0_COUNTED ? JIT_SITE_COUNTED : 0);
	slow->group = slow->loop = false;
	slow->ctx = t->ctx;
	slow->rip = s->item[t->i].rip;
	slow->recipe = jit_recipe_now(t);
	slow->write = write;
	slow->page = page;
	slow->within = slow->indexed = slow->narrow = false;
	memset(slow->kept, -1, sizeof(slow->kept));
	slow->l0 = slow->mode == JIT_BY_RUN ? run_offset(t, slot) : slot_offset(t, slot);
	return slow;
}

/* A check from there on is emitted, which changes those host registers and, JIT_BY_L1, r9. Its slow path
 * changes r9 and r10 and gives them back what they had copies of. */
static void keep_over_check(struct tr *t, struct slow_path *slow, const uint8_t *from, unsigned changed)
{
	struct jit_buf *b = &t->b;

	slow->back = b->p;
	if (slow->mode == JIT_BY_L1)
		changed |= HOST_BIT(H_R9);
	e_kept_over(b, from, changed);
	for (unsigned k = 0; k < JIT_KEPT_HOSTS; k++)
		slow->kept[k] = (int8_t)e_kept_guest(b, JIT_KEPT_FIRST + k);
}

/* A base that lives in memory, in a host register that the check leaves alone; r9: and what comes between
 * it and the access. */
static unsigned base_in_host(struct tr *t, unsigned guest, enum jit_site_mode mode, bool r9)
{
	if (r9 && mode != JIT_BY_L1 && t->b.keeps)
		return e_use_gpr(&t->b, guest, 0);
	e_get_gpr(&t->b, H_R10, guest);
	return H_R10;
}

static uint32_t check_at(struct tr *t, uint32_t slot, unsigned base, int32_t disp, unsigned size,
			 bool write, bool group)
{
	struct jit_buf *b = &t->b;
	struct slow_path *slow = add_slow_path(t, slot, size, write, false,
					       jit_site_mode(t, &t->s->item[t->i]));
	const uint8_t *from = b->p;

	if (!slow)
		return 0;
	slow->group = group;
	slow->narrow = t->word != 8 && base != H_R10;
	slow->where = (struct jit_place){ .base = (uint8_t)base, .disp = disp };
	if (t->cache->use_l0) {
		e_lea(b, H_R11, base, disp);
		emit_compare(t, H_R11, size, slow);
		if (slow->mode == JIT_BY_L1)
			e_gs_idx(b, true, 0x8b, H_R11, H_R9, l1_offset(t, offsetof(struct soft_l1, delta)));
		else
			e_load(b, H_R11, slow->l0 + 8);
	} else {
		slow->hole = e_jmp_fwd(b);
	}
	keep_over_check(t, slow, from, HOST_BIT(H_R11));
	return slow->l0;
}

uint32_t jit_emit_check_site(struct tr *t, unsigned base, int32_t disp, unsigned size, bool write,
			     bool group)
{
	return check_at(t, jit_slot_of_base(t, base, write), base, disp, size, write, group);
}

void jit_loop_slots(struct tr *t, struct loop *loop)
{
	for (unsigned k = 0; k < loop->stream_count; k++) {
		struct loop_stream *s = &loop->stream[k];

		s->slot = jit_slot_own(t, s->write, false);
		s->l0 = slot_offset(t, s->slot);
	}
}

void jit_emit_check_loop(struct tr *t, const struct loop_stream *s)
{
	unsigned size = (unsigned)(s->hi - s->lo);
	struct slow_path *slow = add_slow_path(t, s->slot, size, s->write, false, JIT_BY_L0);

	if (!slow)
		return;
	slow->loop = slow->group = true;
	slow->site |= JIT_SITE_LOOP;
	slow->where = (struct jit_place){ .base = H_R10 };
	e_mov(&t->b, H_R11, H_R10);
	emit_compare(t, H_R11, size, slow);
}

/* Checks the address in `reg`, r10 or r11, which becomes that of the host. */
static struct slow_path *check_in_place(struct tr *t, unsigned reg, unsigned size, bool write)
{
	struct jit_buf *b = &t->b;
	struct slow_path *slow = add_slow_path(t, jit_slot_own(t, write, true), size, write, true,
					       jit_site_mode(t, &t->s->item[t->i]));
	const uint8_t *from = b->p;

	if (!slow)
		return NULL;
	slow->where = (struct jit_place){ .base = (uint8_t)reg };
	if (t->cache->use_l0) {
		emit_compare(t, reg, size, slow);
		if (slow->mode == JIT_BY_L1) {
			emit_tag(t, 0x03, reg, slow);
			e_gs_idx(b, true, 0x03, reg, H_R9, l1_offset(t, offsetof(struct soft_l1, delta)));
		} else {
			e_gs(b, true, 0x03, reg, slow->l0 + 8);
		}
	} else {
		slow->hole = e_jmp_fwd(b);
	}
	keep_over_check(t, slow, from, HOST_BIT(reg));
	return slow;
}

struct jit_place jit_emit_check_r11(struct tr *t, unsigned size, bool write, bool group)
{
	struct slow_path *slow = check_in_place(t, H_R11, size, write);

	if (slow)
		slow->group = group;
	return (struct jit_place){ .base = H_R11 };
}

bool jit_can_index(const struct item *it, const ZydisDecodedOperand *mem)
{
	bool high;

	return it->insn.zi.address_width == 64 && mem->mem.index != ZYDIS_REGISTER_NONE &&
	       !jit_has_segment(mem) &&
	       mem->mem.disp.value == (int32_t)mem->mem.disp.value &&
	       jit_host_reg((unsigned)jit_guest_reg(mem->mem.index, &high)) >= 0;
}

/* r11 += the base, which the slow path finds where it lives */
static void emit_slow_add_base(struct jit_buf *b, const struct slow_path *slow)
{
	int host = slow->added < 0 ? -1 : jit_host_reg((unsigned)slow->added);

	if (host >= 0)
		e_rr(b, true, 0x01, H_R11, (unsigned)host);
	else if (slow->added >= 0)
		e_gs(b, true, 0x03, H_R11, GS_OFF(gpr) + 8 * (uint32_t)slow->added);
}

/* r11 = the base, in that host register if there is one, + the distance to host memory of the L0 or L1
 * entry. */
static void emit_add_base(struct tr *t, const struct slow_path *slow, int base)
{
	struct jit_buf *b = &t->b;
	unsigned opcode = base < 0 ? 0x8b : 0x03;

	if (base >= 0)
		e_mov(b, H_R11, (unsigned)base);
	if (slow->mode == JIT_BY_L1)
		e_gs_idx(b, true, opcode, H_R11, H_R9, l1_offset(t, offsetof(struct soft_l1, delta)));
	else
		e_gs(b, true, opcode, H_R11, slow->l0 + 8);
}

struct jit_place jit_emit_check_indexed(struct tr *t, const struct item *it, const ZydisDecodedOperand *mem,
					unsigned size, bool write, bool group)
{
	struct jit_buf *b = &t->b;
	bool high;
	struct jit_place place = {
		.base = H_R11, .disp = (int32_t)mem->mem.disp.value,
		.index = JIT_INDEX((uint8_t)jit_host_reg((unsigned)jit_guest_reg(mem->mem.index, &high))),
		.log2 = (uint8_t)__builtin_ctz(mem->mem.scale),
	};
	struct slow_path *slow = add_slow_path(t, jit_slot_own(t, write, false), size, write, false,
					       jit_site_mode(t, it));
	const uint8_t *from;
	int base = -1;

	if (!slow)
		return place;
	slow->group = group;
	slow->indexed = true;
	slow->added = mem->mem.base == ZYDIS_REGISTER_NONE ? -1 : jit_guest_reg(mem->mem.base, &high);
	slow->where = (struct jit_place){ .base = H_R11 };
	if (slow->added >= 0)
		base = jit_host_reg((unsigned)slow->added);
	if (slow->added >= 0 && base < 0)
		base = (int)base_in_host(t, (unsigned)slow->added, slow->mode, true);
	jit_emit_ea(b, H_R11, &it->insn, mem, 0, false);
	from = b->p;
	if (t->cache->use_l0) {
		emit_compare(t, H_R11, size, slow);
		emit_add_base(t, slow, base);
	} else {
		slow->hole = e_jmp_fwd(b);
	}
	keep_over_check(t, slow, from, HOST_BIT(H_R11));
	return place;
}

struct jit_place jit_emit_check_within(struct tr *t, const struct item *it,
				       const ZydisDecodedOperand *mem)
{
	struct slow_path *slow;

	jit_emit_ea(&t->b, H_R10, &it->insn, mem, it->rip + it->insn.len, true);
	slow = check_in_place(t, H_R10, mem->size / 8u,
			      mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	if (slow) {
		slow->within = true;
		slow->around = t->group;
	}
	return (struct jit_place){ .base = H_R10 };
}

static struct jit_place checked_place(unsigned base, int32_t disp)
{
	return (struct jit_place){ .base = (uint8_t)base, .index = JIT_INDEX(H_R11), .disp = disp };
}

struct jit_place jit_emit_check(struct tr *t, unsigned base, int32_t disp, unsigned size, bool write)
{
	jit_emit_check_site(t, base, disp, size, write, false);
	return checked_place(base, disp);
}

/* Its page is compared with the tag at once. */
struct jit_place jit_emit_check_constant(struct tr *t, uint64_t la, bool code, unsigned size, bool write)
{
	struct jit_buf *b = &t->b;
	uint32_t slot = jit_slot_of_page(t, la >> 12, write), l0 = slot_offset(t, slot);
	bool is_short = (int64_t)la == (int32_t)la && !(code && b->moved);
	struct jit_place place = { .base = H_R11, .disp = (int32_t)la };
	const uint8_t *from = b->p;
	struct slow_path *slow;

	if (!t->cache->use_l0 || (la & 4095) + size > 4096) {
		e_address(b, H_R10, la, code);
		return jit_emit_check(t, H_R10, 0, size, write);
	}
	slow = add_slow_path(t, slot, size, write, false, JIT_BY_L0);
	if (!slow)
		return place;
	if (is_short) {
		e_cmp_gs_imm(b, l0, (uint32_t)la & ~4095u);
	} else {
		place = (struct jit_place){ .base = H_R10, .index = JIT_INDEX(H_R11), .disp = la & 4095 };
		e_address(b, H_R10, la & ~4095ull, code);
		e_gs(b, true, 0x3b, H_R10, l0);
	}
	slow->where = (struct jit_place){ .base = place.base, .disp = place.disp };
	slow->hole = e_jcc_fwd(b, CC_NE);
	e_load(b, H_R11, l0 + 8);
	keep_over_check(t, slow, from, HOST_BIT(H_R11) | (is_short ? 0 : HOST_BIT(H_R10)));
	return place;
}

struct jit_place jit_emit_access(struct tr *t, const struct item *it, const ZydisDecodedOperand *mem,
				 unsigned size, bool write)
{
	struct jit_buf *b = &t->b;
	uint64_t next_rip = it->rip + it->insn.len;
	int64_t disp = mem->mem.disp.value;
	bool has_base = mem->mem.base != ZYDIS_REGISTER_NONE;
	bool has_segment = jit_has_segment(mem);
	bool high;
	int host;

	if (t->word != 8)
		return jit_emit_access32(t, it, mem, size, write);
	if (jit_can_index(it, mem))
		return jit_emit_check_indexed(t, it, mem, size, write, false);
	if (it->insn.zi.address_width != 64 || mem->mem.index != ZYDIS_REGISTER_NONE ||
	    disp != (int32_t)disp || (mem->mem.base == ZYDIS_REGISTER_RIP && has_segment)) {
		jit_emit_ea(b, H_R11, &it->insn, mem, next_rip, true);
		return jit_emit_check_r11(t, size, write, false);
	}
	if (mem->mem.base == ZYDIS_REGISTER_RIP)
		return jit_emit_check_constant(t, next_rip + (uint64_t)disp, true, size, write);
	if (!has_base && !has_segment)
		return jit_emit_check_constant(t, (uint64_t)disp, false, size, write);
	if (!has_base) {
		/* a processor's own data: the base stays the same, so pages of it are told apart */
		uint32_t slot = jit_slot_of_page(t, (uint64_t)disp >> 12 ^ mem->mem.segment, write);

		e_segment_base(b, true, 0x8b, H_R10, mem->mem.segment);
		check_at(t, slot, H_R10, (int32_t)disp, size, write, false);
		return checked_place(H_R10, (int32_t)disp);
	}
	host = jit_host_reg((unsigned)jit_guest_reg(mem->mem.base, &high));
	if (host < 0 && !has_segment) { /* flags are loaded with r9 */
		host = (int)base_in_host(t, (unsigned)jit_guest_reg(mem->mem.base, &high),
					 jit_access_mode(jit_site_mode(t, it), size, write), !it->needs);
	} else if (has_segment) {
		if (host < 0)
			e_get_gpr(b, H_R10, (unsigned)jit_guest_reg(mem->mem.base, &high));
		else
			e_mov(b, H_R10, (unsigned)host);
		e_segment_base(b, true, 0x03, H_R10, mem->mem.segment);
		host = H_R10;
	}
	return jit_emit_check(t, (unsigned)host, (int32_t)disp, size, write);
}

/* Goes on at the access in a block without groups. */
static void emit_ungrouped(struct tr *t, const struct slow_path *slow)
{
	t->where = slow->recipe ? 0 : IN_MEM;
	t->recipe = slow->recipe;
	jit_emit_link(t, ALWAYS, slow->rip, JIT_UNGROUPED);
}

/* r10 = the address that the check was of. */
static void emit_slow_address(struct tr *t, const struct slow_path *slow)
{
	struct jit_buf *b = &t->b;

	if (slow->page || slow->indexed) {
		if (slow->where.base != H_R10)
			e_mov(b, H_R10, slow->where.base);
		if (t->cache->use_l0) /* the tag was subtracted */
			emit_tag(t, 0x03, H_R10, slow);
	} else if (slow->where.base == H_R11)
		e_mov_imm(b, H_R10, (uint64_t)(int64_t)slow->where.disp);
	else if (slow->where.base != H_R10 || slow->where.disp)
		e_lea(b, H_R10, slow->where.base, slow->where.disp);
}

/* r10, an address computed with 64 bits, wraps at 4 GiB; a group whose does is none: the hole of a jump that
 * is taken then, else NULL. */
static uint8_t *emit_wrap(struct jit_buf *b, const struct slow_path *slow)
{
	if (!slow->group) {
		e_rr(b, false, 0x89, H_R10, H_R10);
		return NULL;
	}
	e_rr(b, false, 0x89, H_R9, H_R10);
	e_rr(b, true, 0x39, H_R9, H_R10); /* cmp */
	return e_jcc_fwd(b, CC_NE);
}

/* What the check's own way leaves in r9 and r10. */
static void emit_slow_kept(struct jit_buf *b, const struct slow_path *slow)
{
	for (unsigned k = 0; k < JIT_KEPT_HOSTS; k++)
		if (slow->kept[k] >= 0)
			e_load_gpr(b, JIT_KEPT_FIRST + k, (unsigned)slow->kept[k]);
}

/* Back to what follows the check, where r10 is the base again if it was. */
static void emit_slow_back(struct tr *t, const struct slow_path *slow)
{
	struct jit_buf *b = &t->b;

	if (slow->narrow && !slow->group) {
		/* r11 += the address that was meant - the one that the place is of */
		e_rr(b, true, 0x01, H_R11, H_R10);
		e_lea(b, H_R10, slow->where.base, slow->where.disp);
		e_rr(b, true, 0x29, H_R11, H_R10);
	} else if (slow->indexed)
		emit_slow_add_base(b, slow);
	else if (slow->where.base == H_R10 && slow->where.disp && !slow->page)
		e_lea(b, H_R10, H_R10, -slow->where.disp);
	emit_slow_kept(b, slow);
	e_jmp(b, slow->back);
}

/* The group around is checked again, as its page may have been lost; if so, each by itself. */
static void emit_within_back(struct tr *t, const struct slow_path *slow)
{
	const struct group *group = &slow->around;
	struct jit_buf *b = &t->b;
	uint8_t *lost;

	e_mov(b, H_R10, H_R11);
	e_lea(b, H_R11, group->place.base, (int32_t)group->lo);
	e_gs(b, true, 0x2b, H_R11, group->l0);
	e_alu_imm(b, true, 7, H_R11, 4096 - group->size);
	lost = e_jcc_fwd(b, CC_A);
	e_load(b, H_R11, group->l0 + 8);
	emit_slow_kept(b, slow);
	e_jmp(b, slow->back);
	e_fix(b, lost, b->p);
	emit_ungrouped(t, slow);
}

static void e6(struct jit_buf *b, uint64_t val)
{
	e4(b, (uint32_t)val);
	e2(b, val >> 32 & 0xff, val >> 40 & 0xff);
}

/* jit_slow() reads it. */
static void emit_note(struct jit_buf *b, const struct slow_path *slow)
{
	unsigned recipe = slow->recipe ? JIT_RECIPE_BYTES : 0;

	if (b->moved) {
		e2(b, 0xeb, JIT_NOTE_MOVED + recipe);
		e2(b, slow->rip & 0xff, slow->rip >> 8 & 0xff);
	} else {
		e2(b, 0xeb, JIT_NOTE_RIP + recipe);
		e6(b, slow->rip);
	}
	if (slow->recipe)
		e6(b, slow->recipe);
}

static uint8_t *slow_stub(const struct tr *t, const struct slow_path *slow)
{
	unsigned kind = (slow->write ? JIT_SLOW_WRITE : 0) | (slow->page ? JIT_SLOW_PAGE : 0) |
			(slow->group ? JIT_SLOW_GROUP : 0) | (slow->mode == JIT_BY_RUN ? JIT_SLOW_RUN : 0);

	return jit_stub(t, t->cache->stubs.slow[t->ctx][kind]);
}

void jit_emit_slow_paths(struct tr *t)
{
	struct jit_buf *b = &t->b;
	struct jit_scratch *s = t->s;

	for (unsigned k = 0; k < s->slow_count; k++) {
		struct slow_path *slow = &s->slow[k];
		uint8_t *over, *wraps = NULL;

		t->ctx = slow->ctx;
		e_fix(b, slow->hole, b->p);
		emit_slow_address(t, slow);
		if (slow->narrow)
			wraps = emit_wrap(b, slow);
		e_mov_imm(b, H_R9, slow->site);
		e_call(b, slow_stub(t, slow));
		emit_note(b, slow);
		if (slow->loop) {
			e_jmp(b, t->ordinary);
			continue;
		}
		if (slow->group) {
			over = e_jcc_fwd(b, CC_B);
			emit_slow_back(t, slow);
			e_fix(b, over, b->p);
			if (wraps)
				e_fix(b, wraps, b->p);
			emit_ungrouped(t, slow);
			continue;
		}
		if (slow->within)
			emit_within_back(t, slow);
		else
			emit_slow_back(t, slow);
	}
}
