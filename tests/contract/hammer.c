/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hammer.c - several vCPUs that do everything that can end a resume, while other threads kick,
 * interrupt and restart them, change mappings, traps, code and dirty bits under them, and read. No
 * exit may be lost, doubled or answered with another's answer; nothing may hang. Under the thread
 * sanitizer in `make check` (hammer-tsan.sh), and without it on every engine (hammer.sh).
 */
#include "tests/contract/hammer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/clock.h"

#define RWX (VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC)
#define BIT(n) (1u << (n))
#define ROUND_LIMIT_NS (20 * NSEC_PER_SEC)

void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	flockfile(stdout); /* the first one that fails has the word */
	printf("FAIL: %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	puts("\n0 passed, 1 failed, 0 skipped");
	fflush(stdout);
	_exit(1);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	puts(": skip\n0 passed, 0 failed, 1 skipped");
	fflush(stdout);
	_exit(77);
}

static void log_line(void *opaque, int level, const char *line)
{
	(void)opaque;
	printf("    log %d: %s\n", level, line);
}

/* --- the machine ---------------------------------------------------------------------------- */

static uint8_t *memory(size_t size)
{
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static void map(struct hammer *h, uint64_t gpa, uint64_t size, uint8_t *host, uint32_t flags)
{
	CHECK_EQ(vmx_vm_map(h->e.vm, gpa, size, host, flags), 0);
}

/* mov $0, %eax; ret - with the immediate aligned where `lead` puts it. */
static void put_function(uint8_t *p, unsigned lead)
{
	memset(p, 0x90, lead);
	p[lead] = 0xb8;
	put_le32(p + lead + 1, 0);
	p[lead + 5] = 0xc3;
}

static void set_gates(struct hammer *h)
{
	static const struct {
		unsigned vector;
		const uint8_t *handler;
	} gates[] = {
		{ 2, hammer_on_nmi },		   { 3, hammer_on_bp },
		{ 6, hammer_on_ud },		   { 13, hammer_on_gp },
		{ HAMMER_FIXED, hammer_on_fixed }, { HAMMER_EXTINT, hammer_on_extint },
		{ HAMMER_LEVEL, hammer_on_level }, { HAMMER_IPI, hammer_on_ipi },
		{ HAMMER_TIMER, hammer_on_timer },
	};

	for (unsigned v = 0; v < 256; v++)
		set_gate(&h->e, v, HAMMER_CODE + (uint64_t)(hammer_on_other - hammer_guest));
	for (size_t i = 0; i < ARRAY_SIZE(gates); i++)
		set_gate(&h->e, gates[i].vector,
			 HAMMER_CODE + (uint64_t)(gates[i].handler - hammer_guest));
}

static void make_machine(struct hammer *h)
{
	size_t toggle = HAMMER_TOGGLE_PAGES * VMX_PAGE_SIZE, dirty = HAMMER_DIRTY_PAGES * VMX_PAGE_SIZE;
	uint8_t *rom = memory(VMX_PAGE_SIZE), *boot;

	env_vm(&h->e);
	env_tables(&h->e);
	set_gates(h);
	memcpy(h->e.ram + HAMMER_CODE, hammer_guest, (size_t)(hammer_guest_end - hammer_guest));
	memcpy(h->e.ram + HAMMER_START, hammer_start, (size_t)(hammer_start_end - hammer_start));
	CHECK(hammer_guest_end - hammer_guest < HAMMER_START - HAMMER_CODE);
	boot = h->e.ram + HAMMER_BOOT;
	env_descriptors(boot, boot + 16, boot + 32);
	CHECK_EQ(vmx_vm_written(h->e.vm, 0, RAM_SIZE), 0);
	for (unsigned i = 0; i < 2; i++) {
		h->toggle[i] = memory(toggle);
		for (size_t at = 0; at < toggle; at += 4)
			put_le32(h->toggle[i] + at, 0xdead0000);
	}
	h->dirty = memory(dirty);
	h->dirty_shadow = memory(dirty);
	h->patch = memory(2 * VMX_PAGE_SIZE);
	put_le32(rom + 0x80, HAMMER_VALUE_A);
	map(h, HAMMER_DIRTY, dirty, h->dirty, RWX | VMX_MAP_TRACK_DIRTY);
	map(h, HAMMER_ROM, VMX_PAGE_SIZE, rom, VMX_MAP_READ | (h->soft ? 0 : VMX_MAP_EXEC));
	put_function(h->patch, 3);
	for (unsigned i = 0; i < HAMMER_CPUS; i++)
		put_function(h->patch + VMX_PAGE_SIZE + i * 64, 0);
	map(h, HAMMER_PATCH, 2 * VMX_PAGE_SIZE, h->patch, RWX);
}

/* --- phases --------------------------------------------------------------------------------- */

static const unsigned phases[] = {
	0,
	PHASE_OPTIONS,
	PHASE_INIT,
	PHASE_OPTIONS | PHASE_HALT | PHASE_TIME,
	PHASE_INIT | PHASE_OPTIONS | PHASE_HALT | PHASE_AGAIN,
	PHASE_AGAIN,
};

/* Options that this engine has, and the actions that need them. */
static uint32_t set_options(struct hammer *h)
{
	static const struct {
		uint32_t option, actions;
	} table[] = {
		{ VMX_OPT_MSR, BIT(ACT_RDMSR) | BIT(ACT_WRMSR) },
		{ VMX_OPT_CPUID, BIT(ACT_CPUID) },
		{ VMX_OPT_EXCEPTION, BIT(ACT_INT3) },
		{ VMX_OPT_RDTSC, BIT(ACT_RDTSC) },
		{ VMX_OPT_HYPERCALL, BIT(ACT_HYPERCALL) },
	};
	struct vmx_exit_options o = { 0, 0 };
	uint32_t actions = 0;

	if (h->flags & PHASE_HALT && h->soft)
		o.optional |= VMX_OPT_HALT;
	for (size_t i = 0; h->flags & PHASE_OPTIONS && i < ARRAY_SIZE(table); i++) {
		if (!h->soft && table[i].option != VMX_OPT_MSR && table[i].option != VMX_OPT_EXCEPTION)
			continue;
		if (h->no_exceptions && table[i].option == VMX_OPT_EXCEPTION)
			continue;
		o.optional |= table[i].option;
		actions |= table[i].actions;
	}
	if (o.optional & VMX_OPT_EXCEPTION)
		o.exception_bitmap = BIT(3);
	if (h->soft && (o.optional & VMX_OPT_EXCEPTION)) {
		o.exception_bitmap |= BIT(6);
		actions |= BIT(ACT_UD2);
	}
	CHECK_EQ(vmx_vm_set_exit_options(h->e.vm, &o, NULL), 0);
	return actions;
}

static uint32_t choose_actions(const struct hammer *h)
{
	uint32_t actions = BIT(ACT_OUT8) | BIT(ACT_OUT16) | BIT(ACT_OUT32) | BIT(ACT_IN8) |
			   BIT(ACT_IN32) | BIT(ACT_OUTS) | BIT(ACT_INS) | BIT(ACT_WRITE) |
			   BIT(ACT_READ) | BIT(ACT_WRITE64) | BIT(ACT_READ64) | BIT(ACT_ROM) |
			   BIT(ACT_LOCKED) | BIT(ACT_TOGGLE_READ) | BIT(ACT_TOGGLE_WRITE) |
			   BIT(ACT_BELL) | BIT(ACT_DIRTY) | BIT(ACT_PATCHED) | BIT(ACT_PATCH_SELF) |
			   BIT(ACT_PATCHED_CPU) | BIT(ACT_FETCH) | BIT(ACT_SPIN);

	if (!h->emulated)
		actions |= BIT(ACT_HALT);
	if (h->soft) /* KVM on AMD forgets the state (vmx.h) */
		actions |= BIT(ACT_SHUTDOWN);
	if (!h->emulated && !(h->flags & PHASE_INIT))
		actions |= BIT(ACT_IPI);
	return actions;
}

static void prepare(struct hammer *h, unsigned flags, uint64_t seed)
{
	h->flags = flags;
	h->actions = choose_actions(h) | set_options(h);
	h->rings = h->sent_level = 0;
	h->stop = h->aux_stop = false;
	memset(h->e.ram + HAMMER_CPU, 0, HAMMER_CPUS * VMX_PAGE_SIZE);
	memset(h->e.ram + HAMMER_SHARED, 0, VMX_PAGE_SIZE);
	for (unsigned i = 0; i < HAMMER_CPUS; i++) {
		hammer_poke(h, HAMMER_CPU + i * 4096 + CPU_ID, i);
		hammer_poke(h, HAMMER_CPU + i * 4096 + CPU_SEED, seed * HAMMER_CPUS + i);
		put_le32(h->patch + VMX_PAGE_SIZE + i * 64 + 1, 0);
	}
	put_le32(h->patch + 4, 0);
	hammer_poke(h, HAMMER_SHARED + SHARED_ACTIONS, h->actions);
	hammer_poke(h, HAMMER_SHARED + SHARED_HALT_EXITS, h->soft && (flags & PHASE_HALT));
	hammer_poke(h, HAMMER_SHARED + SHARED_CPUS, h->cpus);
	hammer_poke(h, HAMMER_SHARED + SHARED_TIMER, h->soft ? 25000 : 1000000);
	CHECK_EQ(vmx_vm_written(h->e.vm, 0, RAM_SIZE), 0);
	CHECK_EQ(vmx_vm_written(h->e.vm, HAMMER_PATCH, 2 * VMX_PAGE_SIZE), 0);
	CHECK_EQ(vmx_vm_reset(h->e.vm), 0);
	if (flags & PHASE_TIME && h->soft) {
		CHECK_EQ(vmx_vm_suspend_time(h->e.vm), 0);
		sleep_ms(5);
	}
}

static void between(const char *what, uint64_t low, uint64_t value, uint64_t high)
{
	if (value < low || value > high)
		test_fail("hammer", 0, "%s: %llu, not %llu to %llu", what, (unsigned long long)value,
			  (unsigned long long)low, (unsigned long long)high);
}

/* All vCPUs are out of the guest. What was under way at the end may have happened or not. */
static void check_phase(struct hammer *h)
{
	uint64_t begun = 0, done = 0, bells = h->rings;
	struct cpu *first = &h->cpu[0];

	for (unsigned i = 0; i < h->cpus; i++) {
		struct cpu *c = &h->cpu[i];

		begun += hammer_count(c, CPU_BELL_BEGUN);
		done += hammer_count(c, CPU_BELL_DONE);
		bells += c->bell_exits;
		between("rounds of a vCPU", 1, hammer_count(c, CPU_LOOPS), UINT64_MAX);
		between("cancels of a vCPU", 0, c->cancels, c->kicks); /* the kicker waits for each */
	}
	between("bells", done, bells, begun);
	between("interrupts of the PIC", first->extints - !!first->extints,
		hammer_count(first, CPU_N_EXTINT), first->extints);
	between("EOIs", h->sent_level - !!h->sent_level, first->eois, h->sent_level);
	between("level interrupts", first->eois, hammer_count(first, CPU_N_LEVEL), h->sent_level);
	hammer_copy_dirty(h);
	if (memcmp(h->dirty, h->dirty_shadow, HAMMER_DIRTY_PAGES * VMX_PAGE_SIZE))
		test_fail("hammer", 0, "a write left no dirty bit");
}

struct aux {
	struct hammer *h;
	void (*run)(struct hammer *h);
	pthread_t thread;
};

static void *run_aux(void *arg)
{
	struct aux *a = arg;

	a->run(a->h);
	return NULL;
}

/* On a host with much else to do a phase's time may be over before a vCPU got anywhere. */
static bool all_went_round(const struct hammer *h)
{
	for (unsigned i = 0; i < h->cpus; i++)
		if (!hammer_count(&h->cpu[i], CPU_LOOPS))
			return false;
	return true;
}

static void run_phase(struct hammer *h, unsigned flags, uint64_t seed, uint64_t ns)
{
	uint64_t end = clock_monotonic_ns() + ns;
	struct aux aux[16];
	unsigned n = 0;

	pthread_barrier_wait(&h->barrier);
	prepare(h, flags, seed);
	pthread_barrier_wait(&h->barrier);
	pthread_barrier_wait(&h->barrier);
	for (size_t i = 0; i < hammer_thread_count; i++) {
		const struct hammer_thread *t = &hammer_threads[i];

		if ((t->not_in & flags) || (t->only_in & flags) != t->only_in ||
		    (t->hardware && h->emulated))
			continue;
		CHECK(n < ARRAY_SIZE(aux));
		aux[n] = (struct aux){ .h = h, .run = t->run };
		aux[n].thread = start(run_aux, &aux[n]);
		n++;
	}
	while (clock_monotonic_ns() < end ||
	       (!all_went_round(h) && clock_monotonic_ns() < end + ROUND_LIMIT_NS))
		sleep_ms(10);
	h->aux_stop = true;
	for (unsigned i = 0; i < n; i++)
		join(aux[i].thread);
	h->stop = true;
	for (unsigned i = 0; i < h->cpus; i++) {
		h->cpu[i].kicks++;
		CHECK_EQ(vmx_vcpu_kick(h->cpu[i].e.vcpu), 0);
	}
	pthread_barrier_wait(&h->barrier);
	check_phase(h);
}

/* Every kind of exit that this engine has must have come. */
static void check_kinds(const struct hammer *h)
{
	uint32_t want = BIT(VMX_EXIT_IO) | BIT(VMX_EXIT_MEM) | BIT(VMX_EXIT_MSR);

	if (!h->emulated)
		want |= BIT(VMX_EXIT_EXTINT) | BIT(VMX_EXIT_APIC_EOI);
	if (!h->no_exceptions)
		want |= BIT(VMX_EXIT_EXCEPTION);
	if (h->soft)
		want |= BIT(VMX_EXIT_SHUTDOWN) | BIT(VMX_EXIT_HALT) | BIT(VMX_EXIT_CPUID) | BIT(VMX_EXIT_RDTSC) |
			BIT(VMX_EXIT_HYPERCALL);
	for (unsigned r = 0; r < 16; r++) {
		uint64_t n = 0;

		for (unsigned i = 0; i < h->cpus; i++)
			n += h->cpu[i].exits[r];
		if (n)
			printf("%s %llu, ", vmx_exit_reason_name((enum vmx_exit_reason)r),
			       (unsigned long long)n);
		if (!n && (want & BIT(r)))
			test_fail("hammer", 0, "no exit of the kind %s",
				  vmx_exit_reason_name((enum vmx_exit_reason)r));
	}
	puts("no exit lost or doubled");
}

static void hammer(struct hammer *h, unsigned seconds)
{
	uint64_t end, ns = seconds * NSEC_PER_SEC / (2 * ARRAY_SIZE(phases));
	unsigned n = 0;

	alarm(seconds * 4 + 300); /* what hangs without being waited for */
	make_machine(h);
	CHECK_EQ(pthread_barrier_init(&h->barrier, NULL, h->cpus + 1), 0);
	for (unsigned i = 0; i < h->cpus; i++) {
		h->cpu[i].h = h;
		h->cpu[i].id = i;
		h->cpu[i].e.vm = h->e.vm;
		h->cpu[i].thread = start(hammer_cpu, &h->cpu[i]);
	}
	end = clock_monotonic_ns() + seconds * NSEC_PER_SEC;
	do {
		run_phase(h, phases[n % ARRAY_SIZE(phases)], n, ns);
		n++;
	} while (clock_monotonic_ns() < end || n < ARRAY_SIZE(phases));
	pthread_barrier_wait(&h->barrier);
	h->end = true;
	pthread_barrier_wait(&h->barrier);
	for (unsigned i = 0; i < h->cpus; i++)
		join(h->cpu[i].thread);
	check_kinds(h);
	CHECK_EQ(vmx_vm_destroy(h->e.vm), 0);
	printf("%u phases\n", n);
}

static bool kvm_emulates(void)
{
	struct vmx_probe p;

	return vmx_probe(&p) == 0 && !p.kvm.usable && p.kvm.insns_per_second > 0;
}

int main(int argc, char **argv)
{
	static struct hammer h; /* vCPUs' states: too large for the stack */
	const char *engine = "soft";
	unsigned seconds = 6;
	uint32_t debug = 0;
	struct vmx_vm *vm;
	int hardware = 0;

	h.cpus = HAMMER_CPUS;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--engine"))
			engine = argv[i + 1];
		else if (!strcmp(argv[i], "--seconds"))
			seconds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--cpus"))
			h.cpus = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--hardware")) /* whatever the probe says of its speed */
			hardware = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--exceptions"))
			h.no_exceptions = !atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--soft-debug"))
			debug = (uint32_t)strtoul(argv[i + 1], NULL, 0);
	}
	if (argc % 2 == 0 || h.cpus < 1 || h.cpus > HAMMER_CPUS || !seconds) {
		fputs("hammer [--engine kvm|soft] [--seconds N] [--cpus 1..4] [--soft-debug BITS] "
		      "[--hardware 1] [--exceptions 0]\n", stderr);
		return 2;
	}
	h.soft = strcmp(engine, "kvm");
	h.e.soft = h.soft;
	h.e.options = (struct vmx_vm_options){
		.size = sizeof(h.e.options), .engine = h.soft ? VMX_ENGINE_SOFT : VMX_ENGINE_KVM,
		.soft_debug = debug, .log = log_line,
	};
	if (vmx_vm_create(&h.e.options, &vm) < 0)
		test_skip("%s is not on this machine", engine);
	CHECK_EQ(vmx_vm_destroy(vm), 0);
	h.emulated = !h.soft && !hardware && kvm_emulates();
	h.no_exceptions |= h.emulated; /* such a one knows no INT3 */
	hammer(&h, seconds);
	puts("1 passed, 0 failed, 0 skipped");
	return 0;
}
