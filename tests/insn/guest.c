/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest.c - cases in a virtual machine, through vmx.h alone.
 *
 * The guest is in long mode with 4-level paging. Its kernel is a page of stubs at KERNEL_VA: one IRETQ
 * that starts a case at the wanted privilege, and an OUT for each exception vector, by which a case
 * ends; its state before the exception is in the frame on the IST stack. The pages of the two data
 * pages are neither adjacent nor in order in guest-physical memory.
 */
#include <config.h>

#include "tests/insn/insn.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/clock.h"
#include "vmx-driver/vmx.h"

#define KERNEL_VA 0xffff800000000000ull
#define RAM_SIZE 0x400000u
#define CASE_LIMIT_NS (5 * NSEC_PER_SEC)

enum { /* guest-physical */
	P_PML4 = 0x1000, P_PDPT = 0x2000, P_PD = 0x3000, P_PT_CODE = 0x4000, P_PT_DATA = 0x5000,
	P_PDPT_KERNEL = 0x6000, P_PD_KERNEL = 0x7000, P_GDT = 0x8000, P_IDT = 0x9000, P_TSS = 0xa000,
	P_STUBS = 0xb000, P_IRET = 0xb800, P_CPUID = 0xb900, P_IST = 0xe000, P_FRAME = 0xf7c0,
	P_CODE = 0x10000, P_DATA_A = 0x42000, P_DATA_B = 0x40000, P_RO = 0x44000, P_STACK_A = 0x48000,
	P_STACK_B = 0x46000, P_PT_ALIAS = 0x4a000,
};

enum { /* as Linux has them, but for the first */
	SEL_KERNEL32 = 0x08, SEL_KERNEL64 = 0x10, SEL_KERNEL_DATA = 0x18, SEL_USER32 = 0x23,
	SEL_USER_DATA = 0x2b, SEL_USER64 = 0x33, SEL_TSS = 0x40,
};

#define PORT_BASE 0x80u /* + vector */
#define PORT_CPUID 0x7fu

struct guest {
	struct guest *first; /* whose VM it is; NULL: its own */
	struct vmx_vm *vm;
	struct vmx_vcpu *vcpu;
	uint8_t *ram; /* its own part, from gpa on */
	uint64_t gpa;
	unsigned cpus; /* of the VM */
	const uint8_t (*templates)[MEM_SIZE];
	uint8_t *xsave;
	size_t xsave_size;
	struct vmx_exit exit;
	/* The watchdog ends a case that does not end by itself. */
	pthread_t watchdog;
	bool have_watchdog;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	_Atomic uint64_t deadline; /* 0: nothing runs */
};

static void put64(struct guest *g, uint32_t at, uint64_t v)
{
	memcpy(g->ram + at, &v, 8);
}

static uint64_t get64(const struct guest *g, uint64_t at)
{
	uint64_t v = 0;

	if (at <= RAM_SIZE - 8)
		memcpy(&v, g->ram + at, 8);
	return v;
}

/* --- what the guest finds ------------------------------------------------------------------------- */

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_PS 0x80ull
#define PTE_NX (1ull << 63)

static void build_page_tables(struct guest *g)
{
	const uint64_t table = PTE_P | PTE_W | PTE_U, at = g->gpa;

	put64(g, P_PML4, (at + P_PDPT) | table);
	put64(g, P_PDPT, (at + P_PD) | table);
	put64(g, P_PD + (CODE_VA >> 21 & 511) * 8, (at + P_PT_CODE) | table);
	put64(g, P_PD + (MEM_VA >> 21 & 511) * 8, (at + P_PT_DATA) | table);
	for (unsigned i = 0; i < CODE_SIZE / 4096; i++)
		put64(g, P_PT_CODE + i * 8, (at + P_CODE + i * 4096u) | table);
	put64(g, P_PT_DATA + (MEM_VA >> 12 & 511) * 8, (at + P_DATA_A) | table | PTE_NX);
	put64(g, P_PT_DATA + ((MEM_VA >> 12 & 511) + 1) * 8, (at + P_DATA_B) | table | PTE_NX);
	put64(g, P_PD + (ALIAS_VA >> 21 & 511) * 8, (at + P_PT_ALIAS) | table);
	put64(g, P_PT_ALIAS + (ALIAS_VA >> 12 & 511) * 8, (at + P_DATA_B) | table | PTE_NX);
	put64(g, P_PT_ALIAS + ((ALIAS_VA >> 12 & 511) + 1) * 8, (at + P_DATA_A) | table | PTE_NX);
	put64(g, P_PT_DATA + (STACK_VA >> 12 & 511) * 8, (at + P_STACK_A) | table | PTE_NX);
	put64(g, P_PT_DATA + ((STACK_VA >> 12 & 511) + 1) * 8, (at + P_STACK_B) | table | PTE_NX);
	put64(g, P_PT_DATA + (RO_VA >> 12 & 511) * 8, (at + P_RO) | PTE_P | PTE_U | PTE_NX);
	put64(g, P_PML4 + (KERNEL_VA >> 39 & 511) * 8, (at + P_PDPT_KERNEL) | PTE_P | PTE_W);
	put64(g, P_PDPT_KERNEL, (at + P_PD_KERNEL) | PTE_P | PTE_W);
	for (unsigned i = 0; i < RAM_SIZE >> 21; i++)
		put64(g, P_PD_KERNEL + i * 8, (at + ((uint64_t)i << 21)) | PTE_P | PTE_W | PTE_PS);
}

static void build_descriptors(struct guest *g)
{
	const uint64_t tss = KERNEL_VA + P_TSS;

	put64(g, P_GDT + SEL_KERNEL32, 0x00cf9b000000ffff);
	put64(g, P_GDT + SEL_KERNEL64, 0x00af9b000000ffff);
	put64(g, P_GDT + SEL_KERNEL_DATA, 0x00cf93000000ffff);
	put64(g, P_GDT + (SEL_USER32 & ~7), 0x00cffb000000ffff);
	put64(g, P_GDT + (SEL_USER_DATA & ~7), 0x00cff3000000ffff);
	put64(g, P_GDT + (SEL_USER64 & ~7), 0x00affb000000ffff);
	put64(g, P_GDT + SEL_TSS, 0x00008b0000000067 | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56);
	put64(g, P_GDT + SEL_TSS + 8, tss >> 32);
	memcpy(g->ram + P_TSS + 0x66, "\x68", 2); /* no I/O bitmap */
	put64(g, P_TSS + 4, KERNEL_VA + P_IST);    /* RSP0 */
	put64(g, P_TSS + 0x24, KERNEL_VA + P_IST); /* IST1 */
	for (unsigned v = 0; v < 32; v++) {
		const uint64_t at = KERNEL_VA + P_STUBS + v * 16;
		const uint64_t dpl = v == 3 || v == 4 ? 3 : 0;

		put64(g, P_IDT + v * 16, (at & 0xffff) | (uint64_t)SEL_KERNEL64 << 16 | 1ull << 32 |
					 (0x8e | dpl << 5) << 40 | (at >> 16 & 0xffff) << 48);
		put64(g, P_IDT + v * 16 + 8, at >> 32);
		memcpy(g->ram + P_STUBS + v * 16, (uint8_t[]){ 0xe6, (uint8_t)(PORT_BASE + v), 0xf4 }, 3);
	}
	memcpy(g->ram + P_IRET, "\x48\xcf", 2);
	memcpy(g->ram + P_CPUID, "\x0f\xa2\xe6\x7f\xf4", 5);
}

static int build_vcpu(struct guest *g)
{
	const struct vmx_segment data = { .limit = ~0u, .selector = SEL_USER_DATA, .attributes = 0xc0f3 };
	const struct vmx_segment none = { .base = 0, .unusable = true };
	struct vmx_sregs s;
	int r = vmx_vcpu_read_state(g->vcpu, VMX_STATE_SREGS, &s, sizeof(s));

	if (r < 0)
		return r;
	s.cs = (struct vmx_segment){ .limit = ~0u, .selector = SEL_KERNEL64, .attributes = 0xa09b };
	s.ss = (struct vmx_segment){ .limit = ~0u, .selector = SEL_KERNEL_DATA, .attributes = 0xc093 };
	s.ds = s.es = data;
	s.fs = s.gs = none;
	s.gs.base = GS_BASE;
	s.ldtr = none;
	s.tr = (struct vmx_segment){ .base = KERNEL_VA + P_TSS, .limit = 0x67, .selector = SEL_TSS,
				     .attributes = 0x8b };
	s.gdtr = (struct vmx_table){ .base = KERNEL_VA + P_GDT, .limit = 0x4f };
	s.idtr = (struct vmx_table){ .base = KERNEL_VA + P_IDT, .limit = 32 * 16 - 1 };
	s.cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	s.cr3 = g->gpa + P_PML4;
	s.cr4 = 0x506a0; /* OSXSAVE FSGSBASE OSXMMEXCPT OSFXSR PGE PAE */
	s.efer = 0xd01;  /* NXE LMA LME SCE */
	s.xcr0 = 7;
	return vmx_vcpu_write_state(g->vcpu, VMX_STATE_SREGS, &s, sizeof(s));
}

/* --- the watchdog ----------------------------------------------------------------------------------- */

static void *watchdog(void *opaque)
{
	struct guest *g = opaque;

	pthread_mutex_lock(&g->lock);
	while (!g->stop) {
		struct timespec t;
		uint64_t deadline;

		clock_gettime(CLOCK_REALTIME, &t);
		t.tv_nsec += 200000000;
		if (t.tv_nsec >= (long)NSEC_PER_SEC)
			t.tv_sec++, t.tv_nsec -= (long)NSEC_PER_SEC;
		pthread_cond_timedwait(&g->wake, &g->lock, &t);
		deadline = atomic_load(&g->deadline);
		if (deadline && clock_monotonic_ns() > deadline)
			vmx_vcpu_kick(g->vcpu);
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

/* --- create and destroy ----------------------------------------------------------------------------- */

static void log_line_to_stdout(void *opaque, int level, const char *line)
{
	(void)opaque;
	if (level <= 4)
		printf("engine: %s\n", line);
}

struct guest *guest_free(struct guest *g)
{
	if (!g)
		return NULL;
	if (g->have_watchdog) {
		pthread_mutex_lock(&g->lock);
		g->stop = true;
		pthread_cond_signal(&g->wake);
		pthread_mutex_unlock(&g->lock);
		pthread_join(g->watchdog, NULL);
	}
	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->wake);
	vmx_vcpu_destroy(g->vcpu);
	if (!g->first) {
		vmx_vm_destroy(g->vm);
		if (g->ram)
			munmap(g->ram, (size_t)RAM_SIZE * g->cpus);
	}
	free(g->xsave);
	free(g);
	return NULL;
}

/* The VM and the memory of all its processors. */
static int setup_vm(struct guest *g, int engine, uint32_t soft_debug)
{
	struct vmx_vm_options options = { .size = sizeof(options), .engine = (enum vmx_engine)engine,
					  .soft_debug = soft_debug, .log = log_line_to_stdout };
	void *ram;
	int r;

	if (soft_debug & VMX_SOFT_TINY_CACHE)
		options.code_cache_bytes = 0;
	r = vmx_vm_create(&options, &g->vm);
	if (r < 0)
		return r;
	ram = mmap(NULL, (size_t)RAM_SIZE * g->cpus, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		return -errno;
	g->ram = ram;
	return vmx_vm_map(g->vm, 0, (uint64_t)RAM_SIZE * g->cpus, g->ram,
			  VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC | VMX_MAP_SHARED);
}

static int setup_cpu(struct guest *g)
{
	const uint32_t active = VMX_ACTIVE;
	int r;

	build_page_tables(g);
	build_descriptors(g);
	memcpy(g->ram + P_RO, g->templates[0], RO_SIZE);
	r = vmx_vcpu_create(g->vm, (uint32_t)(g->gpa / RAM_SIZE), &g->vcpu);
	if (r < 0)
		return r;
	r = build_vcpu(g);
	if (r == 0) /* all but the first wait for a SIPI */
		r = vmx_vcpu_write_state(g->vcpu, VMX_STATE_ACTIVITY, &active, sizeof(active));
	if (r < 0)
		return r;
	r = vmx_vcpu_state_size(g->vcpu, VMX_STATE_XSAVE, &g->xsave_size);
	if (r < 0)
		return r;
	if (g->xsave_size < 832)
		return -ENOTSUP; /* no AVX: not written for it */
	g->xsave = aligned_alloc(64, (g->xsave_size + 63) & ~(size_t)63);
	if (!g->xsave)
		return -ENOMEM;
	r = vmx_vcpu_read_state(g->vcpu, VMX_STATE_XSAVE, g->xsave, g->xsave_size);
	if (r < 0)
		return r;
	r = pthread_create(&g->watchdog, NULL, watchdog, g);
	g->have_watchdog = r == 0;
	return -r;
}

static struct guest *guest_alloc(const uint8_t (*templates)[MEM_SIZE], unsigned cpus)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->templates = templates;
	g->cpus = cpus;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->wake, NULL);
	return g;
}

int guest_new(struct guest **ret, const uint8_t (*templates)[MEM_SIZE], int engine,
	      uint32_t soft_debug, unsigned cpus)
{
	struct guest *g = guest_alloc(templates, cpus);
	int r;

	if (!g)
		return -ENOMEM;
	r = setup_vm(g, engine, soft_debug);
	if (r == 0)
		r = setup_cpu(g);
	if (r < 0) {
		guest_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

int guest_join(struct guest **ret, struct guest *first, unsigned cpu)
{
	struct guest *g = guest_alloc(first->templates, first->cpus);
	int r;

	if (!g)
		return -ENOMEM;
	g->first = first;
	g->vm = first->vm;
	g->gpa = (uint64_t)RAM_SIZE * cpu;
	g->ram = first->ram + g->gpa;
	r = setup_cpu(g);
	if (r < 0) {
		guest_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

/* --- running ----------------------------------------------------------------------------------------- */

static void set_regs(struct vmx_regs *r, const uint64_t *gpr)
{
	*r = (struct vmx_regs){ .rax = gpr[0], .rcx = gpr[1], .rdx = gpr[2], .rbx = gpr[3],
				.rsp = gpr[4], .rbp = gpr[5], .rsi = gpr[6], .rdi = gpr[7],
				.r8 = gpr[8], .r9 = gpr[9], .r10 = gpr[10], .r11 = gpr[11],
				.r12 = gpr[12], .r13 = gpr[13], .r14 = gpr[14], .r15 = gpr[15],
				.rflags = 2 };
}

static void get_regs(const struct vmx_regs *r, uint64_t *gpr)
{
	const uint64_t v[16] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
				 r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };

	memcpy(gpr, v, sizeof(v));
}

static void failed(struct outcome *out, const char *what, int r)
{
	out->status = ENGINE_FAILED;
	snprintf(out->why, sizeof(out->why), "%s: %s", what, r < 0 ? strerror(-r) : "unexpected");
}

/* Resumes until the guest writes to one of our ports. */
static bool resume(struct guest *g, struct outcome *out)
{
	int r;

	atomic_store(&g->deadline, clock_monotonic_ns() + CASE_LIMIT_NS);
	r = vmx_vcpu_resume(g->vcpu, &g->exit);
	atomic_store(&g->deadline, 0);
	if (r == -ECANCELED) {
		out->status = HUNG;
	} else if (r < 0) {
		failed(out, "resume", r);
	} else if (g->exit.reason != VMX_EXIT_IO || g->exit.io.input || g->exit.io.port < PORT_CPUID ||
		   g->exit.io.port >= PORT_BASE + 32) {
		const bool text = g->exit.reason == VMX_EXIT_INTERNAL ||
				  g->exit.reason == VMX_EXIT_ENTRY_FAILED;

		out->status = ENGINE_FAILED;
		snprintf(out->why, sizeof(out->why), "exit %s at %#llx %.60s",
			 vmx_exit_reason_name(g->exit.reason), (unsigned long long)g->exit.rip,
			 text ? g->exit.internal.text : "");
	} else {
		return true;
	}
	return false;
}

static bool vector_pushes_code(unsigned v)
{
	return v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21;
}

static void collect(struct guest *g, struct outcome *out)
{
	static const enum vmx_reg cr2 = VMX_CR2;
	struct vmx_regs regs;
	uint64_t at;
	int r;

	r = vmx_vcpu_read_state(g->vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
	if (r == 0)
		r = vmx_vcpu_read_state(g->vcpu, VMX_STATE_XSAVE, g->xsave, g->xsave_size);
	if (r == 0)
		r = vmx_vcpu_get_regs(g->vcpu, &cr2, 1, &out->cr2);
	if (r < 0) {
		failed(out, "reading state", r);
		return;
	}
	out->vector = (uint8_t)(g->exit.io.port - PORT_BASE);
	get_regs(&regs, out->out.gpr);
	at = regs.rsp - KERNEL_VA;
	if (vector_pushes_code(out->vector)) {
		out->error_code = (uint32_t)get64(g, at);
		at += 8;
	}
	out->out.rip = get64(g, at);
	out->out.rflags = get64(g, at + 16);
	out->out.gpr[RSP] = get64(g, at + 24);
	xstate_from_area(g->xsave, &out->out.xs);
	memcpy(out->mem, g->ram + P_DATA_A, 4096);
	memcpy(out->mem + 4096, g->ram + P_DATA_B, 4096);
	memcpy(out->stack, g->ram + P_STACK_A, 4096);
	memcpy(out->stack + 4096, g->ram + P_STACK_B, 4096);
	out->status = RAN;
}

/* A case that was stopped half way may have left an event behind, or a processor shut down. */
static int recover(struct guest *g)
{
	const struct vmx_events none = { .exception_pending = false };
	const uint32_t active = VMX_ACTIVE;
	int r = vmx_vcpu_write_state(g->vcpu, VMX_STATE_EVENTS, &none, sizeof(none));

	if (r == 0)
		r = vmx_vcpu_write_state(g->vcpu, VMX_STATE_ACTIVITY, &active, sizeof(active));
	return r < 0 ? r : build_vcpu(g);
}

static void run_case(struct guest *g, const struct test_case *tc, unsigned cpl, struct outcome *out)
{
	const uint64_t cs = tc->mode == MODE_64 ? (cpl ? SEL_USER64 : SEL_KERNEL64) :
						  (cpl ? SEL_USER32 : SEL_KERNEL32);
	struct vmx_regs regs;
	int r;

	memset(out, 0, sizeof(*out));
	place_memory(tc, g->templates, out->mem);
	memcpy(g->ram + P_DATA_A, out->mem, 4096);
	memcpy(g->ram + P_DATA_B, out->mem + 4096, 4096);
	place_stack(tc, g->templates, out->stack);
	memcpy(g->ram + P_STACK_A, out->stack, 4096);
	memcpy(g->ram + P_STACK_B, out->stack + 4096, 4096);
	put64(g, P_FRAME, tc->in.rip);
	put64(g, P_FRAME + 8, cs);
	put64(g, P_FRAME + 16, tc->in.rflags);
	put64(g, P_FRAME + 24, tc->in.gpr[RSP]);
	put64(g, P_FRAME + 32, cpl ? SEL_USER_DATA : SEL_KERNEL_DATA);
	set_regs(&regs, tc->in.gpr);
	regs.rsp = KERNEL_VA + P_FRAME;
	regs.rip = KERNEL_VA + P_IRET;
	xstate_to_area(&tc->in.xs, g->xsave);
	r = vmx_vcpu_write_state(g->vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
	if (r == 0)
		r = vmx_vcpu_write_state(g->vcpu, VMX_STATE_XSAVE, g->xsave, g->xsave_size);
	if (r < 0)
		failed(out, "writing state", r);
	else if (resume(g, out))
		collect(g, out);
	if (out->status != RAN && recover(g) < 0)
		failed(out, "reset", -EIO);
}

int guest_run(struct guest *g, const struct test_case *tc, size_t n, unsigned cpl, struct outcome *out)
{
	int r;

	memset(g->ram + P_CODE, 0xcc, CODE_SIZE);
	for (size_t i = 0; i < n; i++)
		place_code(&tc[i], g->ram + P_CODE);
	r = vmx_vm_written(g->vm, g->gpa + P_CODE, CODE_SIZE);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (cpl == 3 || !tc[i].cpl3_only)
			run_case(g, &tc[i], cpl, &out[i]);
	}
	return 0;
}

static int guest_cpuid(struct guest *g, uint32_t leaf, uint32_t subleaf, struct vmx_regs *regs)
{
	struct outcome *out = calloc(1, sizeof(*out));
	int r = out ? 0 : -ENOMEM;

	memset(regs, 0, sizeof(*regs));
	regs->rax = leaf;
	regs->rcx = subleaf;
	regs->rip = KERNEL_VA + P_CPUID;
	regs->rsp = KERNEL_VA + P_FRAME;
	regs->rflags = 2;
	if (r == 0)
		r = vmx_vcpu_write_state(g->vcpu, VMX_STATE_REGS, regs, sizeof(*regs));
	if (r == 0 && !resume(g, out)) {
		printf("CPUID in the guest: %s\n", out->why);
		r = -EIO;
	}
	if (r == 0 && g->exit.io.port != PORT_CPUID) {
		printf("CPUID in the guest: vector %u\n", g->exit.io.port - PORT_BASE);
		r = -EIO;
	}
	if (r == 0)
		r = vmx_vcpu_read_state(g->vcpu, VMX_STATE_REGS, regs, sizeof(*regs));
	free(out);
	return r;
}

int guest_features(struct guest *g, struct features *f)
{
	struct vmx_regs regs;
	int r = guest_cpuid(g, 1, 0, &regs);

	memset(f, 0, sizeof(*f));
	if (r < 0)
		return r;
	f->l1_ecx = (uint32_t)regs.rcx;
	f->l1_edx = (uint32_t)regs.rdx;
	r = guest_cpuid(g, 7, 0, &regs);
	if (r < 0)
		return r;
	f->l7_ebx = (uint32_t)regs.rbx;
	f->l7_ecx = (uint32_t)regs.rcx;
	r = guest_cpuid(g, 0x80000001, 0, &regs);
	if (r < 0)
		return r;
	f->x1_ecx = (uint32_t)regs.rcx;
	f->x1_edx = (uint32_t)regs.rdx;
	return 0;
}
