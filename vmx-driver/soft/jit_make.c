/* SPDX-License-Identifier: Apache-2.0 */
/* jit_make.c - asks for translations, takes the host processor's traps in them. */
#include "vmx-driver/soft/jit_make.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/checked.h"
#include "vmx-driver/soft/glue.h"
#include "vmx-driver/soft/jit_emit.h"

#define SNIPPETS_SIZE (256u << 10)
#define SNIPPET_MAX 256u
/* More kinds of flags than this come to one place by way of an adapter. */
#define VARIANTS_MAX 4u

/* The vCPU of this thread: a signal handler is given nothing else. Set and cleared with the
 * vCPU's life on its owner thread. */
static __thread struct soft_vcpu *current_vcpu;

/* --- blocks --------------------------------------------------------------------------------- */

/* From now on no vCPU writes to the page without asking soft_code_overlaps(). */
static struct jit_page *claim_page(struct soft_vcpu *v, uint64_t gpa)
{
	struct soft_vm *vm = soft_vm_of(v);
	struct soft_cache *cache = vm->cache;
	struct jit_page *page;
	bool fresh;

	soft_lock(&cache->lock);
	page = jit_page_make(cache, gpa);
	fresh = page && !page->guarded;
	if (page) { /* while its bytes are read every line counts as code; jit_make() narrows it */
		page->claimed = true;
		__atomic_store_n(&page->guarded, true, __ATOMIC_RELEASE);
		/* Seen before the bytes are read: who writes there writes first, and looks then. */
		__atomic_store_n(&page->lines, ~0ull, __ATOMIC_SEQ_CST);
	}
	soft_unlock(&cache->lock);
	if (!fresh)
		return page;
	soft_exclusive_begin(vm, v);
	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++)
		if (vm->vcpus[i])
			soft_tlb_protect_page(vm->vcpus[i], gpa & ~4095ull);
	soft_exclusive_end(vm, v);
	return page;
}

static void release_page(struct soft_cache *cache, struct jit_page *page)
{
	soft_lock(&cache->lock);
	if (page) {
		page->claimed = false;
		jit_page_narrow(page);
	}
	soft_unlock(&cache->lock);
}

/* Taken around claiming pages, which needs the others parked: who waits for it is parked meanwhile. */
static uint64_t lock_translating(struct soft_vcpu *v)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	uint64_t began;

	if (pthread_mutex_trylock(&cache->translating) != 0) {
		began = __builtin_ia32_rdtsc();
		soft_leave_running(v);
		pthread_mutex_lock(&cache->translating);
		soft_enter_running(v);
		soft_count(&cache->n_waits);
		soft_longest(&cache->longest_wait, began);
	}
	return __builtin_ia32_rdtsc();
}

static void unlock_translating(struct soft_cache *cache, uint64_t began)
{
	soft_longest(&cache->longest_hold, began);
	pthread_mutex_unlock(&cache->translating);
}

/* Blocks for the same guest code that differ in their flags' recipe. cache->lock held. */
static unsigned variants(const struct soft_cache *cache, const struct jit_key *key)
{
	const struct jit_block *block = jit_hash_first(cache, key);
	unsigned n = 0;

	for (; block; block = jit_block_at(cache, block->hash_next))
		n += jit_block_is(cache, block, key);
	return n;
}

/* The block from the bytes of claimed pages. NULL: there are none, or not even one instruction fits. */
static struct jit_block *translate(struct soft_vcpu *v, const struct jit_key *key, bool adapter)
{
	struct soft_vm *vm = soft_vm_of(v);
	struct soft_cache *cache = vm->cache;
	unsigned insns = cache->block_insns;

	for (;;) {
		struct jit_source source = { .adapter = adapter, .insns = insns };
		uint64_t began = __builtin_ia32_rdtsc();
		struct jit_block *block;

		source.page = soft_gpa_ptr(v, key->gpa & ~4095ull, false);
		if (key->gpa2 != JIT_NO_PAGE)
			source.page2 = soft_gpa_ptr(v, key->gpa2, false);
		if (!source.page)
			return NULL;
		block = jit_translate(v, key, &source);
		soft_add(&cache->translation_ticks, __builtin_ia32_rdtsc() - began);
		if (block)
			return block;
		if (!jit_region_empty(cache) || cache->kept_count >= cache->kept_max)
			jit_region_next(vm, v);
		else if (insns > 1) /* more than a region holds */
			insns = (insns + 3) / 4;
		else
			return NULL;
	}
}

struct jit_block *jit_make(struct soft_vcpu *v, const struct jit_key *key)
{
	struct soft_vm *vm = soft_vm_of(v);
	struct soft_cache *cache = vm->cache;
	uint64_t began = lock_translating(v);
	struct jit_page *page = claim_page(v, key->gpa), *page2 = NULL;
	struct jit_block *block;
	bool adapter;

	if (key->gpa2 != JIT_NO_PAGE)
		page2 = claim_page(v, key->gpa2);
	soft_lock(&cache->lock);
	block = jit_block_find(cache, key);
	adapter = page && key->recipe && variants(cache, key) >= VARIANTS_MAX;
	soft_unlock(&cache->lock);
	if (!block && page) {
		block = translate(v, key, adapter);
		if (block) {
			jit_block_add(vm, block);
			jit_region_prepare(cache);
			soft_count(&v->n_translations);
		}
	}
	release_page(cache, page);
	release_page(cache, page2);
	unlock_translating(cache, began);
	return block;
}

/* --- snippets ------------------------------------------------------------------------------- */

/* CMPXCHG of AH..BH with memory: no REX, so the address must be in a legacy register. */
static bool is_high_cmpxchg(const struct soft_insn *insn)
{
	bool high = false;

	return insn->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG &&
	       insn->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	       jit_guest_reg(insn->op[1].reg.value, &high) >= 0 && high;
}

static void emit_high_cmpxchg(struct jit_buf *b, const struct soft_insn *insn)
{
	bool high;
	unsigned reg = (unsigned)jit_guest_reg(insn->op[1].reg.value, &high) + 4;

	e_mov(b, H_R9, H_RDI);
	e_mov(b, H_RDI, H_R10);
	if (insn->lock)
		e1(b, 0xf0);
	e3(b, 0x0f, 0xb0, reg << 3 | H_RDI); /* cmpxchg [rdi], reg */
	e_mov(b, H_RDI, H_R9);
}

const void *jit_snippet_make(struct soft_vcpu *v, struct soft_insn *insn)
{
	struct soft_cache *cache = soft_vm_of(v)->cache;
	struct jit_vcpu *j = jit_of(v);
	struct jit_buf b;
	uint32_t touched = 0, written = 0;
	uint8_t *start;
	unsigned state;

	jit_facts_find(insn);
	if (!insn->facts.copied && !is_high_cmpxchg(insn))
		return NULL;
	if (j->snippets_used + SNIPPET_MAX > j->snippets_size) {
		j->snippets_used = 0;
		j->generation++;
	}
	start = j->snippets_rw + j->snippets_used;
	b = (struct jit_buf){ .p = start, .end = start + SNIPPET_MAX };
	if (insn->zi.cpu_flags) {
		written = (insn->zi.cpu_flags->modified | insn->zi.cpu_flags->set_0 |
			   insn->zi.cpu_flags->set_1 | insn->zi.cpu_flags->undefined) & FL_ARITH;
		touched = written | (insn->zi.cpu_flags->tested & FL_ARITH);
	}
	e_load(&b, H_R10, GS_OFF(opnd_ptr));
	if (touched)
		e_flags_load(&b);
	if (is_high_cmpxchg(insn))
		emit_high_cmpxchg(&b, insn);
	else
		jit_emit_data(&b, insn, (struct jit_place){ .base = H_R10 }, &state);
	if (written)
		e_flags_save(&b, H_R9);
	e_mov_imm(&b, H_R11, JIT_DONE);
	/* the snippets are not within reach of rel32 for sure: jmp [rip + 0] */
	e2(&b, 0xff, 0x25);
	e4(&b, 0);
	e8(&b, (uint64_t)(uintptr_t)cache->stubs.exit);
	if (b.full)
		return NULL;
	j->snippets_used += ((size_t)(b.p - start) + 15) & ~15ull;
	insn->snippet = j->snippets_rx + (start - j->snippets_rw);
	insn->snippet_generation = j->generation;
	return insn->snippet;
}

int soft_jit_vcpu_init(struct soft_vcpu *v)
{
	struct jit_vcpu *j = calloc(1, sizeof(*j));
	int fd, r;

	if (!j)
		return -ENOMEM;
	v->jit = j;
	j->generation = 1;
	j->retranslate = JIT_NO_PAGE;
	for (unsigned i = 0; i < SOFT_L0_SIZE; i++)
		v->l0_misses[i] = -JIT_MISSES;
	j->snippets_size = SNIPPETS_SIZE;
	fd = memfd_create("vmx-snippets", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, SNIPPETS_SIZE) < 0)
		goto fail;
	j->snippets_rw = mmap(NULL, SNIPPETS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	j->snippets_rx = mmap(NULL, SNIPPETS_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (j->snippets_rw == MAP_FAILED || j->snippets_rx == MAP_FAILED)
		goto fail;
	close(fd);
	current_vcpu = v;
	return 0;
fail:
	r = -errno;
	if (fd >= 0)
		close(fd);
	soft_jit_vcpu_fini(v);
	return r;
}

void soft_jit_vcpu_fini(struct soft_vcpu *v)
{
	struct jit_vcpu *j = v->jit;

	if (!j)
		return;
	if (j->snippets_rw && j->snippets_rw != MAP_FAILED)
		munmap(j->snippets_rw, SNIPPETS_SIZE);
	if (j->snippets_rx && j->snippets_rx != MAP_FAILED)
		munmap(j->snippets_rx, SNIPPETS_SIZE);
	free(j);
	v->jit = NULL;
	if (current_vcpu == v)
		current_vcpu = NULL;
}

/* --- traps of the host processor ------------------------------------------------------------- */

static unsigned vector_of(int sig, const siginfo_t *info)
{
	switch (sig) {
	case SIGFPE:
		return info->si_code == FPE_INTDIV || info->si_code == FPE_INTOVF ? EXC_DE : EXC_MF;
	case SIGILL: return EXC_UD;
	default: return EXC_GP;
	}
}

static void leave_to(ucontext_t *uc, const struct soft_vcpu *v, const void *stub, unsigned code)
{
	greg_t *r = uc->uc_mcontext.gregs;

	r[REG_R11] = code;
	r[REG_RSP] = (greg_t)(uintptr_t)v->host_rsp;
	r[REG_RIP] = (greg_t)(uintptr_t)stub;
	r[REG_EFL] &= ~(greg_t)(FL_TF | FL_DF | FL_AC);
}

/* Guest state as it was before the instruction, from the host's registers. False: it can't be one. */
static bool recover(struct soft_vcpu *v, const struct jit_block *block, const uint8_t *at, ucontext_t *uc)
{
	static const uint8_t regs[][2] = {
		{ REG_RAX, 0 }, { REG_RCX, 1 }, { REG_RDX, 2 }, { REG_RBX, 3 }, { REG_R8, SOFT_RSP },
		{ REG_RBP, 5 }, { REG_RSI, 6 }, { REG_RDI, 7 }, { REG_R12, 12 }, { REG_R13, 13 },
		{ REG_R14, 14 }, { REG_R15, 15 },
	};
	const struct soft_cache *cache = soft_vm_of(v)->cache;
	uint32_t off = (uint32_t)(at - jit_host(cache, block));
	struct jit_point p;

	if (!jit_points_find(jit_points(block), block->point_bytes, off, &p))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		unsigned guest = regs[i][1];

		if (p.state & POINT_LOOP)
			guest = jit_holds(block)[guest];
		if (guest != JIT_NOBODYS)
			v->gpr[guest] = (uint64_t)uc->uc_mcontext.gregs[regs[i][0]];
	}
	v->rip = block->rip + p.guest + (jit_is_moved(block) ? v->code_page : 0);
	if (p.state & POINT_SWAPPED) {
		uint64_t *g = &v->gpr[p.state >> 4 & 3];

		*g = (*g & ~0xffffull) | (*g & 0xff) << 8 | (*g >> 8 & 0xff);
	}
	if (p.state & POINT_FLAGS_LIVE)
		soft_set_arith(v, (uint64_t)uc->uc_mcontext.gregs[REG_EFL]);
	else
		jit_recipe_follow(v, p.recipe);
	return true;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	struct soft_vcpu *v = current_vcpu;
	ucontext_t *uc = context;
	const uint8_t *at = (const uint8_t *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	struct soft_cache *cache = v ? soft_vm_of(v)->cache : NULL;
	struct jit_vcpu *j = v ? v->jit : NULL;

	if (cache && j && j->in_snippet && at >= j->snippets_rx && at < j->snippets_rx + j->snippets_size) {
		leave_to(uc, v, cache->stubs.exit_saved, JIT_TRAP_VECTOR + vector_of(sig, info));
		return;
	}
	if (cache && at >= cache->rx && at < cache->rx + cache->size) {
		struct jit_block *block = jit_block_of_host(cache, at);

		if (block && recover(v, block, at, uc)) {
			leave_to(uc, v, cache->stubs.exit_saved, JIT_TRAP);
			return;
		}
	}
	/* Not ours: as if there were no handler. */
	signal(sig, SIG_DFL);
}

int jit_signals_install(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], &action, NULL) < 0)
			return -errno;
	return 0;
}
