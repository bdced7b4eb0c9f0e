/* SPDX-License-Identifier: Apache-2.0 */
/*
 * half.c - the engine-independent half of vmx-driver on an engine that is made up: mappings against
 * a model page by page, with an engine that refuses now and then; dirty bits; the walker; bells.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmx-driver/engine.h"

#include "common/bytes.h"
#include "common/checked.h"

static unsigned passed, failed;

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #cond);                          \
			return false;                                                              \
		}                                                                                  \
	} while (0)

/* --- the engine ----------------------------------------------------------------------------- */

struct fake_vm {
	struct vmx_vm vm;
	unsigned refuse_in; /* the n-th slots_changed from now fails; 0: none */
	unsigned changes, syncs, clears, writes;
	const struct vmx_slots *current; /* what the engine was told last */
	uint64_t sync_gpa;               /* a page that the next dirty_sync finds dirty */
};

struct fake_vcpu {
	struct vmx_vcpu vcpu;
	struct vmx_regs regs;
	struct vmx_sregs sregs;
	struct vmx_debugregs debug;
	uint8_t lapic[1024];
	unsigned kicks, resumes;
	int refuse_kind;
};

static int fake_init(struct vmx_vm *vm)
{
	((struct fake_vm *)vm)->current = vm->slots;
	return 0;
}

static void fake_fini(struct vmx_vm *vm)
{
	(void)vm;
}

static int fake_changed(struct vmx_vm *vm, const struct vmx_slots *old, const struct vmx_slots *now)
{
	struct fake_vm *f = (struct fake_vm *)vm;

	f->changes++;
	if (f->refuse_in && --f->refuse_in == 0)
		return -ENOMEM;
	if (vm->slots != now || (f->current != old && f->current != now))
		abort(); /* vmx.c broke its word */
	f->current = now;
	return 0;
}

static int fake_sync(struct vmx_vm *vm, const struct vmx_slot *slot)
{
	struct fake_vm *f = (struct fake_vm *)vm;
	uint64_t page;

	f->syncs++;
	if (f->sync_gpa < slot->gpa || f->sync_gpa - slot->gpa >= slot->size)
		return 0;
	page = (f->sync_gpa - slot->gpa) / VMX_PAGE_SIZE;
	slot->dirty[page / 64] |= 1ull << (page % 64);
	f->sync_gpa = ~0ull;
	return 0;
}

static int fake_cleared(struct vmx_vm *vm, const struct vmx_slot *slot, uint64_t gpa, uint64_t size)
{
	(void)gpa;
	((struct fake_vm *)vm)->clears += slot && size;
	return 0;
}

static int fake_written(struct vmx_vm *vm, uint64_t gpa, uint64_t size)
{
	(void)gpa;
	((struct fake_vm *)vm)->writes += size != 0;
	return 0;
}

static int fake_vcpu_init(struct vmx_vcpu *vcpu)
{
	((struct fake_vcpu *)vcpu)->sregs.xcr0 = 1;
	return 0;
}

static void fake_vcpu_fini(struct vmx_vcpu *vcpu)
{
	(void)vcpu;
}

static int fake_resume(struct vmx_vcpu *vcpu, struct vmx_exit *exit)
{
	struct fake_vcpu *f = (struct fake_vcpu *)vcpu;

	if (vmx_kick_take(vcpu))
		return -ECANCELED;
	f->resumes++;
	exit->reason = VMX_EXIT_IO;
	exit->io.port = 0x12;
	exit->io.size = 1;
	return 0;
}

static void fake_kick(struct vmx_vcpu *vcpu)
{
	((struct fake_vcpu *)vcpu)->kicks++;
}

static void *part(struct vmx_vcpu *vcpu, enum vmx_state_kind kind)
{
	struct fake_vcpu *f = (struct fake_vcpu *)vcpu;

	return kind == VMX_STATE_REGS ? (void *)&f->regs :
	       kind == VMX_STATE_SREGS ? (void *)&f->sregs :
	       kind == VMX_STATE_LAPIC ? (void *)f->lapic : (void *)&f->debug;
}

static int fake_read(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, void *buf, size_t size)
{
	memcpy(buf, part(vcpu, kind), size);
	return 0;
}

static int fake_write(struct vmx_vcpu *vcpu, enum vmx_state_kind kind, const void *buf, size_t size)
{
	if (((struct fake_vcpu *)vcpu)->refuse_kind == (int)kind)
		return -EIO;
	memcpy(part(vcpu, kind), buf, size);
	return 0;
}

const struct vmx_engine_ops vmx_soft_ops = {
	.engine = VMX_ENGINE_SOFT,
	.vm_size = sizeof(struct fake_vm),
	.vcpu_size = sizeof(struct fake_vcpu),
	.vm_init = fake_init,
	.vm_fini = fake_fini,
	.slots_changed = fake_changed,
	.dirty_sync = fake_sync,
	.dirty_cleared = fake_cleared,
	.written = fake_written,
	.vcpu_init = fake_vcpu_init,
	.vcpu_fini = fake_vcpu_fini,
	.resume = fake_resume,
	.kick = fake_kick,
	.read_state = fake_read,
	.write_state = fake_write,
};

static int fake_absent(struct vmx_vm *vm)
{
	vmx_log(vm, 3, "there is no such thing here");
	return -ENOTSUP;
}

const struct vmx_engine_ops vmx_kvm_ops = {
	.engine = VMX_ENGINE_KVM,
	.vm_size = sizeof(struct fake_vm),
	.vcpu_size = sizeof(struct fake_vcpu),
	.vm_init = fake_absent,
	.vm_fini = fake_fini,
};

/* --- mappings against a model ---------------------------------------------------------------- */

#define PAGES 224u
#define BASE 0x100000000ull

struct model_page {
	uint8_t *host; /* NULL: unmapped */
	uint32_t flags;
	bool dirty;
};

static bool slots_agree(const struct vmx_slots *s, const struct model_page *model)
{
	uint64_t end = 0;

	for (size_t i = 0; i < s->count; i++) { /* sorted, no overlap, no empty one */
		CHECK(s->slot[i].size && s->slot[i].gpa >= end);
		CHECK(!s->slot[i].dirty == !(s->slot[i].flags & VMX_MAP_TRACK_DIRTY));
		end = s->slot[i].gpa + s->slot[i].size;
	}
	for (unsigned p = 0; p < PAGES; p++) {
		uint64_t gpa = BASE + p * VMX_PAGE_SIZE;
		const struct vmx_slot *slot = vmx_slot_find(s, gpa);

		CHECK(!slot == !model[p].host);
		if (!slot)
			continue;
		CHECK(slot->host + (gpa - slot->gpa) == model[p].host);
		CHECK(slot->flags == model[p].flags);
	}
	CHECK(!vmx_slot_find(s, BASE - 1));
	CHECK(!vmx_slot_find(s, BASE + PAGES * VMX_PAGE_SIZE));
	return true;
}

static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*seed >> 33);
}

/* Asks for the dirty bits of a range: all of them right if it is wholly tracked, else -ENOENT. */
static bool check_dirty(struct vmx_vm *vm, struct model_page *model, unsigned from, unsigned n)
{
	uint64_t map[PAGES / 64 + 2];
	bool tracked = true;
	int r;

	for (unsigned p = from; p < from + n; p++)
		tracked &= model[p].host && (model[p].flags & VMX_MAP_TRACK_DIRTY);
	memset(map, 0xff, sizeof(map));
	r = vmx_vm_dirty(vm, BASE + from * VMX_PAGE_SIZE, n * VMX_PAGE_SIZE, map, ARRAY_SIZE(map));
	CHECK(r == (tracked ? 0 : -ENOENT));
	for (unsigned i = 0; tracked && i < ARRAY_SIZE(map) * 64; i++) {
		bool want = i < n && model[from + i].dirty;

		CHECK((map[i / 64] >> (i % 64) & 1) == want);
		if (want)
			model[from + i].dirty = false;
	}
	return true;
}

static bool one_step(struct fake_vm *f, struct model_page *model, uint8_t *host, uint64_t *seed)
{
	static const uint32_t rights[] = { 1, 3, 7, 1 | 8, 3 | 8, 7 | 8 };
	unsigned wide = next_random(seed) % 4 ? 20 : PAGES; /* small ones, and some over words */
	unsigned from = next_random(seed) % PAGES, n = 1 + next_random(seed) % wide;
	unsigned what = next_random(seed) % 8, h = next_random(seed) % PAGES;
	uint32_t flags = rights[next_random(seed) % ARRAY_SIZE(rights)];
	uint64_t gpa = BASE + from * VMX_PAGE_SIZE;
	bool any = false, refuse = next_random(seed) % 8 == 0;
	int r;

	if (n > PAGES - from)
		n = PAGES - from;
	for (unsigned p = from; p < from + n; p++)
		any |= model[p].host != NULL;
	if (what < 4) {
		f->refuse_in = refuse;
		r = vmx_vm_map(&f->vm, gpa, n * VMX_PAGE_SIZE, host + h * VMX_PAGE_SIZE, flags);
		CHECK(r == (refuse ? -ENOMEM : 0));
		for (unsigned p = from; !refuse && p < from + n; p++) {
			uint8_t *to = host + (h + p - from) * VMX_PAGE_SIZE;

			/* the same page at the same place keeps its dirty bit */
			model[p].dirty &= model[p].host == to && (flags & VMX_MAP_TRACK_DIRTY) &&
					  (model[p].flags & VMX_MAP_TRACK_DIRTY);
			model[p].host = to;
			model[p].flags = flags;
		}
	} else if (what == 4) {
		f->refuse_in = any && refuse;
		r = vmx_vm_unmap(&f->vm, gpa, n * VMX_PAGE_SIZE);
		CHECK(r == (!any ? -ENOENT : refuse ? -ENOMEM : 0));
		for (unsigned p = from; r == 0 && p < from + n; p++)
			model[p] = (struct model_page){ .host = NULL };
	} else if (what < 7) { /* bytes within these pages */
		CHECK(vmx_vm_written(&f->vm, gpa + 5, n * VMX_PAGE_SIZE - 10) == 0);
		for (unsigned p = from; p < from + n; p++)
			model[p].dirty |= model[p].host && (model[p].flags & VMX_MAP_TRACK_DIRTY);
	} else {
		CHECK(check_dirty(&f->vm, model, from, n));
	}
	f->refuse_in = 0;
	CHECK(f->current == f->vm.slots);
	return slots_agree(f->vm.slots, model);
}

static struct vmx_vm *new_vm(void)
{
	const struct vmx_vm_options o = { .size = sizeof(o), .engine = VMX_ENGINE_SOFT };
	struct vmx_vm *vm;

	return vmx_vm_create(&o, &vm) < 0 ? NULL : vm;
}

static bool random_mappings(void)
{
	uint8_t *host = mmap(NULL, 2 * PAGES * VMX_PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(host != MAP_FAILED);
	for (uint64_t run = 1; run <= 20; run++) {
		struct model_page model[PAGES];
		struct vmx_vm *vm = new_vm();
		uint64_t seed = run;

		CHECK(vm);
		memset(model, 0, sizeof(model));
		for (unsigned i = 0; i < 500; i++)
			if (!one_step((struct fake_vm *)vm, model, host, &seed)) {
				printf("run %llu, step %u\n", (unsigned long long)run, i);
				return false;
			}
		CHECK(vmx_vm_destroy(vm) == 0);
	}
	munmap(host, 2 * PAGES * VMX_PAGE_SIZE);
	return true;
}

/* What the engine knows of dirty pages is asked for, and it is told what was cleared. */
static bool dirty_with_engine(void)
{
	struct vmx_vm *vm = new_vm();
	struct fake_vm *f = (struct fake_vm *)vm;
	uint8_t *host = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t map;

	CHECK(vm && host != MAP_FAILED);
	CHECK(vmx_vm_map(vm, BASE, 0x10000, host, VMX_MAP_READ | VMX_MAP_TRACK_DIRTY) == 0);
	f->sync_gpa = BASE + 0x3000;
	CHECK(vmx_vm_dirty(vm, BASE, 0x10000, &map, 1) == 0);
	CHECK(map == 8 && f->syncs == 1 && f->clears == 1);
	CHECK(vmx_vm_dirty(vm, BASE, 0x10000, &map, 1) == 0);
	CHECK(map == 0 && f->syncs == 2 && f->clears == 1); /* nothing cleared, nothing told */
	CHECK(vmx_vm_written(vm, BASE + 0xfff, 1) == 0 && f->writes == 1);
	CHECK(vmx_vm_dirty(vm, BASE, 0x1000, NULL, 0) == 0 && f->clears == 2);
	CHECK(vmx_vm_destroy(vm) == 0);
	munmap(host, 0x10000);
	return true;
}

static bool set_regs_is_atomic(void)
{
	const enum vmx_reg names[] = { VMX_RAX, VMX_CR2, VMX_DR0 };
	const uint64_t values[] = { 1, 2, 3 };
	struct vmx_vm *vm = new_vm();
	struct vmx_vcpu *vcpu;
	struct fake_vcpu *f;
	uint64_t got[3];

	CHECK(vm && vmx_vcpu_create(vm, 7, &vcpu) == 0);
	f = (struct fake_vcpu *)vcpu;
	for (int kind = VMX_STATE_REGS; kind <= VMX_STATE_DEBUGREGS; kind++) {
		f->refuse_kind = kind;
		CHECK(vmx_vcpu_set_regs(vcpu, names, 3, values) == -EIO);
		CHECK(vmx_vcpu_get_regs(vcpu, names, 3, got) == 0);
		CHECK(!got[0] && !got[1] && !got[2]);
	}
	f->refuse_kind = 0;
	CHECK(vmx_vcpu_set_regs(vcpu, names, 3, values) == 0);
	CHECK(vmx_vcpu_get_regs(vcpu, names, 3, got) == 0);
	CHECK(got[0] == 1 && got[1] == 2 && got[2] == 3);
	CHECK(vmx_vcpu_destroy(vcpu) == 0 && vmx_vm_destroy(vm) == 0);
	return true;
}

static bool kicks(void)
{
	struct vmx_vm *vm = new_vm();
	struct vmx_vcpu *vcpu;
	struct fake_vcpu *f;
	struct vmx_exit exit;

	CHECK(vm && vmx_vcpu_create(vm, 0, &vcpu) == 0);
	f = (struct fake_vcpu *)vcpu;
	CHECK(vmx_vm_set_trap(vm, VMX_TRAP_IO, 0x10, 4, -1, 99) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(vmx_vcpu_kick(vcpu) == 0);
	CHECK(f->kicks == 1); /* the engine hears of the first only */
	CHECK(vmx_vcpu_resume(vcpu, &exit) == -ECANCELED && f->resumes == 0);
	CHECK(vmx_vcpu_resume(vcpu, &exit) == 0 && f->resumes == 1);
	CHECK(exit.io.key == 99);
	CHECK(vm->running == 0 && !vcpu->running);
	CHECK(vmx_vcpu_destroy(vcpu) == 0 && vmx_vm_destroy(vm) == 0);
	return true;
}

static bool bell_rings(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct vmx_vm *vm = new_vm();
	uint64_t n = 0;

	CHECK(vm && fd >= 0);
	CHECK(vmx_vm_set_trap(vm, VMX_TRAP_BELL, 0x5000, 4, fd, 0) == 0);
	CHECK(!vmx_trap_ring(vm, 0x5000, 2) && !vmx_trap_ring(vm, 0x5001, 4));
	CHECK(vmx_trap_ring(vm, 0x5000, 4) && vmx_trap_ring(vm, 0x5000, 4));
	CHECK(read(fd, &n, 8) == 8 && n == 2);
	CHECK(vmx_vm_remove_trap(vm, VMX_TRAP_BELL, 0x5000) == 0);
	CHECK(!vmx_trap_ring(vm, 0x5000, 4));
	CHECK(vmx_vm_destroy(vm) == 0);
	close(fd);
	return true;
}

/* --- the walker, in the modes that a contract test does not reach ----------------------------- */

struct walk_rig {
	struct vmx_slots *slots;
	struct vmx_sregs sregs;
	uint8_t *ram;
};

static bool walk_is(const struct walk_rig *w, uint64_t gva, uint32_t flags,
		    enum vmx_translate_result want, uint64_t want_gpa)
{
	uint64_t gpa = 0;

	CHECK(vmx_walk(w->slots, &w->sregs, 2, 40, gva, flags, &gpa) == want);
	CHECK(want != VMX_TRANSLATE_OK || gpa == want_gpa);
	return true;
}

static bool walk_modes(struct walk_rig *w)
{
	w->sregs.cr0 = 0x80010001;
	w->sregs.cr3 = 0x1000;
	/* 32-bit: directory at 0x1000, table at 0x2000 */
	put_le32(w->ram + 0x1000 + 4, 0x2007);
	put_le32(w->ram + 0x2000 + 12, 0x5003);
	put_le32(w->ram + 0x1000 + 8, 0x00c00083); /* 4 MiB */
	CHECK(walk_is(w, 0x403123, VMX_TRANSLATE_WRITE, VMX_TRANSLATE_OK, 0x5123));
	CHECK(walk_is(w, 0x1000000000403123, 0, VMX_TRANSLATE_OK, 0x5123)); /* 32 bits count */
	CHECK(walk_is(w, 0x404000, 0, VMX_TRANSLATE_NOT_PRESENT, 0));
	CHECK(walk_is(w, 0x800000, 0, VMX_TRANSLATE_GPA_UNMAPPED, 0)); /* no PSE: a table there */
	w->sregs.cr4 = 0x10;
	put_le32(w->ram + 0x1000 + 8, 0x00000083);
	CHECK(walk_is(w, 0x8abcde, 0, VMX_TRANSLATE_GPA_UNMAPPED, 0)); /* 0xabcde: beyond RAM */
	CHECK(walk_is(w, 0x801cde, 0, VMX_TRANSLATE_OK, 0x1cde));
	/* PAE: pointers at 0x3000 */
	w->sregs.cr4 = 0x20;
	w->sregs.cr3 = 0x3000;
	put_le64(w->ram + 0x3000 + 3 * 8, 0x4001);
	put_le64(w->ram + 0x4000, 0x000083);
	put_le64(w->ram + 0x4008, 0x5001 | 1ull << 62); /* reserved outside long mode */
	CHECK(walk_is(w, 0xc0001111, VMX_TRANSLATE_WRITE, VMX_TRANSLATE_OK, 0x1111));
	CHECK(walk_is(w, 0xc0200000, 0, VMX_TRANSLATE_RESERVED_BITS, 0));
	CHECK(walk_is(w, 0x40000000, 0, VMX_TRANSLATE_NOT_PRESENT, 0));
	/* 5 levels: one more above 0x7000 */
	w->sregs.cr4 = 0x1020;
	w->sregs.efer = 0x500;
	w->sregs.cr3 = 0x6000;
	put_le64(w->ram + 0x6000 + 8, 0x7003);
	put_le64(w->ram + 0x7000, 0x8003);
	put_le64(w->ram + 0x8000, 0x83); /* 1 GiB */
	CHECK(walk_is(w, 0x1000000002222, 0, VMX_TRANSLATE_OK, 0x2222));
	w->sregs.cr4 = 0x20; /* 4 levels: that address is not canonical */
	CHECK(walk_is(w, 0x1000000002222, 0, VMX_TRANSLATE_NOT_PRESENT, 0));
	return true;
}

static bool walk_rights(struct walk_rig *w)
{
	w->sregs.efer = 0xd00;
	w->sregs.cr0 = 0x80010001;
	w->sregs.cr4 = 0x20;
	w->sregs.cr3 = 0x7000;
	put_le64(w->ram + 0x7000, 0x8007);
	put_le64(w->ram + 0x8000, 0x9007);
	put_le64(w->ram + 0x9000, 0x87); /* 2 MiB, user */
	CHECK(walk_is(w, 0x100, VMX_TRANSLATE_EXEC, VMX_TRANSLATE_OK, 0x100));
	w->sregs.cr4 |= 1u << 20; /* SMEP */
	CHECK(walk_is(w, 0x100, VMX_TRANSLATE_EXEC, VMX_TRANSLATE_PRIVILEGE, 0));
	CHECK(walk_is(w, 0x100, VMX_TRANSLATE_READ, VMX_TRANSLATE_OK, 0x100));
	w->sregs.cr4 |= 1u << 21; /* SMAP */
	CHECK(walk_is(w, 0x100, VMX_TRANSLATE_READ, VMX_TRANSLATE_PRIVILEGE, 0));
	w->sregs.ss.attributes = 0xf3; /* CPL 3 */
	CHECK(walk_is(w, 0x100, VMX_TRANSLATE_READ | VMX_TRANSLATE_EXEC, VMX_TRANSLATE_OK, 0x100));
	put_le64(w->ram + 0x9000, 0x87 | 1ull << 45); /* beyond 40 bits */
	CHECK(walk_is(w, 0x100, 0, VMX_TRANSLATE_RESERVED_BITS, 0));
	put_le64(w->ram + 0x9000, 0x87 | 1u << 14); /* under a 2 MiB page */
	CHECK(walk_is(w, 0x100, 0, VMX_TRANSLATE_RESERVED_BITS, 0));
	return true;
}

static bool walker(void)
{
	struct walk_rig w;
	bool ok;

	memset(&w, 0, sizeof(w));
	w.ram = aligned_alloc(4096, 0x10000);
	w.slots = calloc(1, sizeof(*w.slots) + sizeof(w.slots->slot[0]));
	CHECK(w.ram && w.slots);
	memset(w.ram, 0, 0x10000);
	w.slots->count = 1;
	w.slots->slot[0] = (struct vmx_slot){ .size = 0x10000, .host = w.ram,
					      .flags = VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC };
	ok = walk_modes(&w) && walk_rights(&w);
	free(w.ram);
	free(w.slots);
	return ok;
}

/* An engine that is not there, and one whose guest code never does as it should. */
static bool probe_explains(void)
{
	struct vmx_probe p;
	struct vmx_vm_options o = { .size = sizeof(o), .engine = VMX_ENGINE_AUTO };
	struct vmx_vm *vm;

	CHECK(vmx_probe(&p) == 0);
	CHECK(p.choice == VMX_ENGINE_AUTO && !p.kvm.usable && !p.soft.usable);
	CHECK(p.kvm.why[0] && p.soft.why[0] && p.why[0]);
	CHECK(vmx_vm_create(&o, &vm) == -ENOTSUP && !vm);
	return true;
}

int main(void)
{
	static const struct {
		const char *name;
		bool (*run)(void);
	} tests[] = {
		{ "random-mappings", random_mappings },
		{ "dirty-with-engine", dirty_with_engine },
		{ "set-regs-is-atomic", set_regs_is_atomic },
		{ "kicks", kicks },
		{ "bell-rings", bell_rings },
		{ "walker", walker },
		{ "probe-explains", probe_explains },
	};

	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		bool ok = tests[i].run();

		printf("%s: %s\n", tests[i].name, ok ? "pass" : "FAIL");
		passed += ok;
		failed += !ok;
	}
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
