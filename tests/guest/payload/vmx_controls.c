/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx_controls.c - every bit of every capability MSR: a control that is not offered, or that has to be
 * 1 and is not, is error 7; one that is offered enters, wants what it needs, and does what the manual
 * says (SDM 3C 25.6, 26.1, 26.2.1; 3D appendix A). Then what an exit tells of blocking.
 */
#include "vmx.h"

#define BIT(n) (1u << (n))
enum { VMCALL = 18, EXCEPTION = 0, NOT_TRIED = 0xff, EXIT_EVENT = 0x4404 };

static uint8_t bitmap[4096] __attribute__((aligned(4096))); /* zeros: nothing exits */
static uint8_t virtual_apic[4096] __attribute__((aligned(4096)));
static uint8_t apic_access[4096] __attribute__((aligned(4096)));
static uint64_t ept_pml4[512] __attribute__((aligned(4096)));
static uint64_t ept_pdpt[512] __attribute__((aligned(4096))); /* 3 GiB one to one; nothing above */

static const struct word {
	const char *name;
	uint32_t field, msr;
} words[] = {
	{ "pin-based ", PIN, 0x48d }, { "primary ", PROC, 0x48e }, { "exit ", EXIT_CTLS, 0x48f },
	{ "entry ", ENTRY_CTLS, 0x490 }, { "secondary ", PROC2, 0x48b },
};
enum { WORD_COUNT = sizeof(words) / sizeof(words[0]) };

/* What a control wants of others (26.2.1.1), and the exit of a guest that only calls if it is another. */
static const struct need {
	uint32_t field;
	uint8_t bit, reason;
	uint32_t pin, proc, proc2, exit;
} needs[] = {
	{ PIN, 5, VMCALL, BIT(3), 0, 0, 0 },
	{ PIN, 7, VMCALL, BIT(0), BIT(21), BIT(9), BIT(15) },
	{ PROC, 22, 8, BIT(3) | BIT(5), 0, 0, 0 },
	{ PROC, 27, 37, 0, 0, 0, 0 },
	{ PROC2, 4, VMCALL, 0, BIT(21), 0, 0 },
	{ PROC2, 7, VMCALL, 0, 0, BIT(1), 0 },
	{ PROC2, 8, VMCALL, 0, BIT(21), 0, 0 },
	{ PROC2, 9, VMCALL, BIT(0), BIT(21), 0, 0 },
	{ PROC2, 17, VMCALL, 0, 0, BIT(1), 0 },
	{ EXIT_CTLS, 22, VMCALL, BIT(6), 0, 0, 0 },
};

static const struct need *need_of(uint32_t field, unsigned bit)
{
	for (unsigned i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
		if (needs[i].field == field && needs[i].bit == bit)
			return &needs[i];
	return NULL;
}

/* The set_up() guest, and whatever a control may point at. */
static void ready(void)
{
	set_up();
	vmwrite(PROC, vmread(PROC) | BIT(31));
	vmwrite(PROC2, 0);
	vmwrite(0x0000, 1); /* VPID */
	vmwrite(0x0002, 0x40); /* posted interrupts */
	vmwrite(0x2016, (uintptr_t)virtual_apic);
	vmwrite(0x2000, (uintptr_t)bitmap);
	vmwrite(0x2002, (uintptr_t)bitmap);
	vmwrite(0x2004, (uintptr_t)bitmap);
	vmwrite(0x2012, (uintptr_t)virtual_apic);
	vmwrite(0x2014, (uintptr_t)apic_access);
	vmwrite(0x200e, (uintptr_t)bitmap);
	vmwrite(0x0812, 511);
	vmwrite(0x201a, (uintptr_t)ept_pml4 | 0x1e);
	vmwrite(0x2026, (uintptr_t)bitmap);
	vmwrite(0x2028, (uintptr_t)bitmap);
	vmwrite(0x401c, 0);
	vmwrite(0x482e, 0xffffffffu);
	vmwrite(0x2804, rdmsr(0x277));
	vmwrite(0x2c00, rdmsr(0x277));
}

static void set(uint32_t field, uint32_t bits)
{
	if (bits)
		vmwrite(field, vmread(field) | bits);
}

static void meet(const struct need *n)
{
	set(PIN, n->pin);
	set(PROC, n->proc);
	set(PROC2, n->proc2);
	set(EXIT_CTLS, n->exit);
}

/* Runs it in the guest; the basic exit reason. */
static uint64_t run(const uint8_t *code)
{
	vmwrite(GUEST_RIP, (uintptr_t)code);
	check("it enters", attempt(try_vmresume, KERNEL), VM_EXIT);
	return vmread(EXIT_REASON);
}

static void name_of(const struct word *w, unsigned bit, unsigned before)
{
	if (failed == before)
		return;
	print("  that was ");
	print(w->name);
	print("control ");
	print_dec(bit);
	print("\n");
}

static void one_bit(const struct word *w, unsigned bit)
{
	uint64_t cap = rdmsr(w->msr);
	const struct need *n = need_of(w->field, bit);
	unsigned before = failed;

	ready();
	if (cap >> bit & 1) {
		vmwrite(w->field, vmread(w->field) & ~(uint64_t)BIT(bit));
		fails("a control that has to be 1", attempt(try_vmresume, KERNEL), 7);
	} else if (!(cap >> (32 + bit) & 1)) {
		set(w->field, BIT(bit));
		fails("a control that is not offered", attempt(try_vmresume, KERNEL), 7);
	} else {
		set(w->field, BIT(bit));
		if (n && (n->pin | n->proc | n->proc2 | n->exit)) {
			fails("without what it needs", attempt(try_vmresume, KERNEL), 7);
			meet(n);
		}
		check("a guest that only calls", run(guest_loop), n ? n->reason : VMCALL);
	}
	name_of(w, bit, before);
}

/* --- what they do --------------------------------------------------------------------------- */

extern const uint8_t guest_invlpg[], guest_rdpmc[], guest_rdtsc[], guest_to_cr3[], guest_from_cr3[],
	guest_to_cr8[], guest_from_cr8[], guest_from_dr[], guest_in[], guest_pause[], guest_sgdt[],
	guest_sldt[], guest_rdtscp[], guest_wbinvd[], guest_invpcid[], guest_rdmsr[], guest_xsaves[],
	guest_mwait[], guest_monitor[], guest_vmfunc[];

static const struct deed {
	const char *name;
	const uint8_t *code;
	uint32_t field;
	uint8_t bit, with, without; /* exit reasons with the control and without */
} deeds[] = {
	{ "HLT", guest_hlt, PROC, 7, 12, NOT_TRIED }, /* it would wait for ever */
	{ "INVLPG", guest_invlpg, PROC, 9, 14, VMCALL },
	{ "MWAIT, not offered", guest_mwait, PROC, 10, EXCEPTION, EXCEPTION },
	{ "MONITOR, not offered", guest_monitor, PROC, 29, EXCEPTION, EXCEPTION },
	{ "RDPMC", guest_rdpmc, PROC, 11, 15, EXCEPTION },
	{ "RDTSC", guest_rdtsc, PROC, 12, 16, VMCALL },
	{ "MOV to CR3", guest_to_cr3, PROC, 15, 28, VMCALL },
	{ "MOV from CR3", guest_from_cr3, PROC, 16, 28, VMCALL },
	{ "MOV to CR8", guest_to_cr8, PROC, 19, 28, VMCALL },
	{ "MOV from CR8", guest_from_cr8, PROC, 20, 28, VMCALL },
	{ "MOV DR", guest_from_dr, PROC, 23, 29, VMCALL },
	{ "IN", guest_in, PROC, 24, 30, VMCALL },
	{ "RDMSR", guest_rdmsr, PROC, 28, VMCALL, 31 },
	{ "PAUSE", guest_pause, PROC, 30, 40, VMCALL },
	{ "SGDT", guest_sgdt, PROC2, 2, 46, VMCALL },
	{ "SLDT", guest_sldt, PROC2, 2, 47, VMCALL },
	{ "RDTSCP", guest_rdtscp, PROC2, 3, VMCALL, EXCEPTION },
	{ "WBINVD", guest_wbinvd, PROC2, 6, 54, VMCALL },
	{ "VMFUNC, not offered", guest_vmfunc, PROC2, 13, EXCEPTION, EXCEPTION },
	{ "XSAVES", guest_xsaves, PROC2, 20, VMCALL, EXCEPTION },
};

static bool offered(uint32_t field, unsigned bit)
{
	for (unsigned i = 0; i < WORD_COUNT; i++)
		if (words[i].field == field)
			return rdmsr(words[i].msr) >> (32 + bit) & 1;
	return false;
}

static void deed(const struct deed *d)
{
	unsigned before = failed;

	for (unsigned on = d->without == NOT_TRIED; on < 2; on++) {
		if (on && !offered(d->field, d->bit))
			break;
		ready();
		vmwrite(PROC, vmread(PROC) & ~(uint64_t)(d->field == PROC ? BIT(d->bit) : 0));
		vmwrite(0x6804, cr4() | BIT(18)); /* OSXSAVE */
		if (on)
			set(d->field, BIT(d->bit));
		check(d->name, run(d->code), on ? d->with : d->without);
	}
	if (failed != before) {
		print("  that was ");
		print(d->name);
		print("\n");
	}
}

static void invpcid(void)
{
	uint32_t eax = 7, ebx, ecx = 0, edx;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	if (!(ebx >> 10 & 1)) /* the processor has no such instruction */
		return;
	ready();
	check("INVPCID, not enabled", run(guest_invpcid), EXCEPTION);
	if (!offered(PROC2, 12))
		return;
	ready();
	set(PROC2, BIT(12));
	check("INVPCID", run(guest_invpcid), VMCALL);
	ready();
	set(PROC2, BIT(12));
	set(PROC, BIT(9));
	check("INVPCID as INVLPG", run(guest_invpcid), 58);
}

/* Windows, the timer, bitmaps, and masks, which are no matter of one instruction. */
static void windows(void)
{
	ready();
	set(PROC, BIT(2));
	vmwrite(GUEST_RFLAGS, 0x202);
	check("interrupt window", run(guest_loop), 7);
	check("nothing ran", vmread(GUEST_RIP), (uintptr_t)guest_loop);
	ready();
	set(PROC, BIT(2));
	vmwrite(GUEST_RFLAGS, 0x202);
	vmwrite(BLOCKING, 1);
	check("interrupt window behind STI", run(guest_loop), 7);
	check("one instruction ran", vmread(GUEST_RIP) > (uintptr_t)guest_loop, 1);
	ready();
	set(PIN, BIT(6));
	vmwrite(0x482e, 0);
	check("preemption timer", run(guest_loop), 52);
	ready();
	set(PIN, BIT(6));
	set(EXIT_CTLS, BIT(22));
	check("preemption timer not yet", run(guest_loop), VMCALL);
	check("its rest", vmread(0x482e) > 0 && vmread(0x482e) <= 0xffffffffu, 1);
	ready();
	set(PROC, BIT(25));
	check("IN by bitmap", run(guest_in), VMCALL);
	bitmap[0x80 / 8] = 1;
	check("IN by bitmap", run(guest_in), 30);
	check("its qualification", vmread(QUALIFICATION), 0x80ull << 16 | 1 << 6 | 1 << 3);
	bitmap[0x80 / 8] = 0;
}

/* --- blocking ------------------------------------------------------------------------------- */

extern const uint8_t guest_sti_hlt[], guest_sti_nop_hlt[], guest_sti_call[], guest_mov_ss[],
	guest_mov_ss_nop[], guest_mov_ss_int1[], guest_iret[], guest_iret_bad[], guest_iret_far[];

static void shadows(void)
{
	ready();
	check("STI; HLT", run(guest_sti_hlt), 12);
	check("blocking by STI", vmread(BLOCKING), 1);
	ready();
	check("STI; NOP; HLT", run(guest_sti_nop_hlt), 12);
	check("no blocking", vmread(BLOCKING), 0);
	ready();
	check("STI; CALL", run(guest_sti_call), VMCALL);
	check("no blocking behind a branch", vmread(BLOCKING), 0);
	ready();
	vmwrite(GUEST_RFLAGS, 0x202);
	check("STI with IF set", run(guest_sti_hlt), 12);
	check("does not block", vmread(BLOCKING), 0);
	ready();
	check("MOV SS; VMCALL", run(guest_mov_ss), VMCALL);
	check("blocking by MOV SS", vmread(BLOCKING), 2);
	ready();
	check("MOV SS; NOP; VMCALL", run(guest_mov_ss_nop), VMCALL);
	check("no blocking", vmread(BLOCKING), 0);
}

/* A load of SS hits a breakpoint, which waits; the #DB of INT1 behind it tells of that one, once. */
static void held_breakpoint(void)
{
	ready();
	__asm__ volatile("mov %0, %%dr0" : : "r"((uint64_t)(uintptr_t)operand));
	vmwrite(0x681a, 0x400 | 1 | 3 << 16 | 1 << 18); /* L0, reads and writes, 2 bytes */
	operand[0] = 0x10;
	check("INT1 behind MOV SS", run(guest_mov_ss_int1), EXCEPTION);
	check("its information", vmread(EXIT_EVENT), 0x80000501);
	check("its length", vmread(EXIT_LEN), 1);
	check("the breakpoint", vmread(QUALIFICATION), 1);
	check("nothing is pending", vmread(PENDING_DEBUG), 0);
}

/* IRET ends blocking by NMI; an exit in the middle of it says so in bit 12 (27.2.3). */
static void iret(uint32_t pin, bool blocked)
{
	uint64_t bit = blocked ? BIT(12) : 0;

	ready();
	set(PIN, pin);
	vmwrite(BLOCKING, blocked ? 8 : 0);
	check("VMCALL", run(guest_loop), VMCALL);
	check("blocking by NMI stays", vmread(BLOCKING), blocked ? 8 : 0);
	check("IRET", run(guest_iret), VMCALL);
	check("ends blocking by NMI", vmread(BLOCKING), 0);
	vmwrite(BLOCKING, blocked ? 8 : 0);
	check("IRET that faults", run(guest_iret_bad), EXCEPTION);
	check("its information", vmread(EXIT_EVENT), 0x80000b0d | bit);
	check("ends blocking by NMI", vmread(BLOCKING), 0);
	check("a fault of another instruction", run(guest_mwait), EXCEPTION);
	check("its information", vmread(EXIT_EVENT), 0x80000306);
	if (!offered(PROC2, 1) || !(rdmsr(0x48c) >> 17 & 1))
		return;
	set(PROC2, BIT(1));
	vmwrite(BLOCKING, blocked ? 8 : 0);
	check("IRET that reads nowhere", run(guest_iret_far), 48);
	check("its qualification", vmread(QUALIFICATION) & (BIT(12) | 7), bit | 1);
	check("ends blocking by NMI", vmread(BLOCKING), 0);
}

void controls(void)
{
	ept_pml4[0] = (uintptr_t)ept_pdpt | 7;
	for (uint64_t i = 0; i < 3; i++)
		ept_pdpt[i] = i << 30 | 0xb7;
	for (unsigned w = 0; w < WORD_COUNT; w++)
		for (unsigned bit = 0; bit < 32; bit++)
			if (words[w].field != PROC || bit != 31)
				one_bit(&words[w], bit);
	for (unsigned i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++)
		deed(&deeds[i]);
	invpcid();
	windows();
	shadows();
	held_breakpoint();
	iret(0, true);
	iret(BIT(3) | BIT(5), true);
	iret(BIT(3) | BIT(5), false);
	set_up();
}
