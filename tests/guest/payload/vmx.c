/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx.c - an operating system enters VMX operation by hand, and every documented failure of each
 * instruction and of VM entry is tried (SDM 3C 24-27, 3D 31). Prints what failed and a summary.
 */
#include "vmx.h"

static uint8_t vmxon_page[4096] __attribute__((aligned(4096)));
static uint8_t vmcs_page[2][4096] __attribute__((aligned(4096)));
static uint8_t copy_page[4096] __attribute__((aligned(4096)));
static uint64_t msr_area[4] __attribute__((aligned(32)));

/* --- the instructions' own failures --------------------------------------------------------- */

static const struct {
	const char *name;
	const uint8_t *code;
} all[] = {
	{ "vmxoff", try_vmxoff }, { "vmclear", try_vmclear }, { "vmptrld", try_vmptrld },
	{ "vmptrst", try_vmptrst }, { "vmread", try_vmread }, { "vmwrite", try_vmwrite },
	{ "vmlaunch", try_vmlaunch }, { "vmresume", try_vmresume }, { "invept", try_invept },
	{ "invvpid", try_invvpid }, { "vmcall", try_vmcall }, { "vmxon", try_vmxon },
};
#define ALL (sizeof(all) / sizeof(all[0]))

/* Outside VMX operation: VMCALL is a hypercall of the machine's (KVM's interface). */
static unsigned outside(const uint8_t *code)
{
	return code == try_vmcall ? NO_FAULT : UD;
}

static unsigned write_cr(const uint8_t *code, uint64_t value)
{
	operand_value = value;
	return attempt(code, KERNEL);
}

static void outside_vmx(void)
{
	uint32_t ecx, dummy;

	__asm__ volatile("cpuid" : "=a"(dummy), "=c"(ecx) : "a"(1), "c"(0) : "ebx", "edx");
	check("CPUID.1:ECX.VMX", ecx >> 5 & 1, 1);
	check("IA32_FEATURE_CONTROL is locked, with VMX", rdmsr(MSR_FEATURE_CONTROL) & 5, 5);
	for (unsigned i = 0; i < ALL; i++) {
		check(all[i].name, attempt(all[i].code, KERNEL), outside(all[i].code));
		check(all[i].name, attempt(all[i].code, USER), outside(all[i].code));
	}
	check("CR4.VMXE", write_cr(try_mov_cr4, cr4() | 1 << 13), NO_FAULT);
	for (unsigned i = 0; i < ALL - 1; i++)
		check(all[i].name, attempt(all[i].code, KERNEL), outside(all[i].code));
	*(volatile uint32_t *)vmxon_page = revision();
	operand[0] = (uintptr_t)vmxon_page;
	check("vmxon in compatibility mode", attempt(try_vmxon, COMPAT), UD);
	check("vmxon at CPL 3", attempt(try_vmxon, USER), GP);
	check("CR0.NE off", write_cr(try_mov_cr0, cr0() & ~0x20ull), NO_FAULT);
	check("vmxon without CR0.NE", with(try_vmxon, (uintptr_t)vmxon_page), GP);
	check("CR0.NE on", write_cr(try_mov_cr0, cr0() | 0x20), NO_FAULT);
	check("vmxon, operand nowhere", attempt(try_vmxon_far, KERNEL), GP);
	check("vmxon, operand in no page", attempt(try_vmxon_fault, KERNEL), PF);
	fails_invalid("vmxon, not aligned", with(try_vmxon, (uintptr_t)vmxon_page + 16));
	fails_invalid("vmxon, no such address", with(try_vmxon, 1ull << 52));
	*(volatile uint32_t *)vmxon_page = revision() + 1;
	fails_invalid("vmxon, wrong revision", with(try_vmxon, (uintptr_t)vmxon_page));
	*(volatile uint32_t *)vmxon_page = revision() | 1u << 31;
	fails_invalid("vmxon, bit 31", with(try_vmxon, (uintptr_t)vmxon_page));
	*(volatile uint32_t *)vmxon_page = revision();
	succeeds("vmxon", with(try_vmxon, (uintptr_t)vmxon_page));
}

/* Faults of operands come before failures of instructions. */
static void operand_faults(void)
{
	check("vmclear, operand in no page", attempt(try_vmclear_fault, KERNEL), PF);
	check("vmptrld, operand in no page", attempt(try_vmptrld_fault, KERNEL), PF);
	check("vmptrst, operand in no page", attempt(try_vmptrst_fault, KERNEL), PF);
	check("invept, operand in no page", attempt(try_invept_fault, KERNEL), PF);
	check("invvpid, operand in no page", attempt(try_invvpid_fault, KERNEL), PF);
	check("vmfunc in root operation", attempt(try_vmfunc, KERNEL), UD);
}

/* In VMX operation, no current VMCS. */
static void without_vmcs(void)
{
	for (unsigned i = 0; i < ALL; i++) {
		check(all[i].name, attempt(all[i].code, USER), GP);
		check(all[i].name, attempt(all[i].code, COMPAT), UD);
	}
	check("CR4.VMXE stays", write_cr(try_mov_cr4, cr4() & ~(1ull << 13)), GP);
	check("CR0.NE stays", write_cr(try_mov_cr0, cr0() & ~0x20ull), GP);
	check("CR0.PG stays", write_cr(try_mov_cr0, cr0() & ~(1ull << 31)), GP);
	fails_invalid("vmxon again", with(try_vmxon, (uintptr_t)vmxon_page));
	fails_invalid("vmcall", attempt(try_vmcall, KERNEL));
	fails_invalid("vmlaunch", attempt(try_vmlaunch, KERNEL));
	fails_invalid("vmresume", attempt(try_vmresume, KERNEL));
	fails_invalid("vmread", attempt(try_vmread, KERNEL));
	fails_invalid("vmwrite", attempt(try_vmwrite, KERNEL));
	fails_invalid("vmclear, not aligned", with(try_vmclear, (uintptr_t)vmcs_page[0] + 1));
	fails_invalid("vmclear of the VMXON region", with(try_vmclear, (uintptr_t)vmxon_page));
	fails_invalid("vmptrld of the VMXON region", with(try_vmptrld, (uintptr_t)vmxon_page));
	succeeds("vmptrst", with(try_vmptrst, 0));
	check("no current VMCS", operand[0], ~0ull);
}

static void pointers(void)
{
	uint64_t a = (uintptr_t)vmcs_page[0], b = (uintptr_t)vmcs_page[1];

	*(volatile uint32_t *)vmcs_page[0] = *(volatile uint32_t *)vmcs_page[1] = revision();
	succeeds("vmclear", with(try_vmclear, a));
	succeeds("vmclear of another", with(try_vmclear, b));
	succeeds("vmptrld", with(try_vmptrld, a));
	fails("vmxon in root operation", with(try_vmxon, (uintptr_t)vmxon_page), 15);
	fails("vmcall in root operation", attempt(try_vmcall, KERNEL), 1);
	fails("vmclear, not aligned", with(try_vmclear, a + 8), 2);
	fails("vmclear, no such address", with(try_vmclear, 1ull << 52), 2);
	fails("vmclear of the VMXON region", with(try_vmclear, (uintptr_t)vmxon_page), 3);
	fails("vmptrld, not aligned", with(try_vmptrld, a + 8), 9);
	fails("vmptrld, no such address", with(try_vmptrld, 1ull << 52), 9);
	fails("vmptrld of the VMXON region", with(try_vmptrld, (uintptr_t)vmxon_page), 10);
	*(volatile uint32_t *)vmcs_page[1] = revision() + 1;
	fails("vmptrld, wrong revision", with(try_vmptrld, b), 11);
	*(volatile uint32_t *)vmcs_page[1] = revision() | 1u << 31;
	if (rdmsr(MSR_PROC2) >> (32 + 14) & 1) {
		succeeds("vmptrld of a shadow VMCS", with(try_vmptrld, b));
		fails_invalid("vmlaunch with it", attempt(try_vmlaunch, KERNEL));
		operand_field = GUEST_RIP;
		operand_value = 0x5a5a;
		succeeds("vmwrite to it", attempt(try_vmwrite, KERNEL));
		succeeds("vmptrld of the first again", with(try_vmptrld, a));
	} else {
		fails("vmptrld, bit 31", with(try_vmptrld, b), 11);
	}
	*(volatile uint32_t *)vmcs_page[1] = revision();
	succeeds("vmptrst", with(try_vmptrst, 0));
	check("a failure leaves the current VMCS", operand[0], a);
}

static void fields(void)
{
	static const uint32_t none[] = { 0x0010, 0x1000, 0x2ffe, 0x4001, 0x6801, 0x0801, 0x7fff,
					 0x8000, 0x12345678, 0xffffffffu };
	uint64_t b = (uintptr_t)vmcs_page[1];

	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		operand_field = none[i];
		fails("vmread of no field", attempt(try_vmread, KERNEL), 12);
		fails("vmwrite of no field", attempt(try_vmwrite, KERNEL), 12);
	}
	operand_field = EXIT_REASON;
	if (rdmsr(MSR_MISC) >> 29 & 1)
		succeeds("vmwrite of a read-only field", attempt(try_vmwrite, KERNEL));
	else
		fails("vmwrite of a read-only field", attempt(try_vmwrite, KERNEL), 13);
	operand_field = GUEST_RIP;
	operand_value = 0x123456789abcdef0;
	succeeds("vmwrite", attempt(try_vmwrite, KERNEL));
	succeeds("vmread to memory", attempt(try_vmread, KERNEL));
	check("what was read", operand[0], 0x123456789abcdef0);
	operand[0] = 0x1122334455667788;
	succeeds("vmwrite from memory", attempt(try_vmwrite_mem, KERNEL));
	succeeds("vmread to a register", attempt(try_vmread_reg, KERNEL));
	check("what was read", operand[0], 0x1122334455667788);
	result_flags = 0;
	check("vmread to nowhere", attempt(try_vmread_fault, KERNEL), PF);
	check("vmwrite from nowhere", attempt(try_vmwrite_fault, KERNEL), PF);
	vmwrite(LINK, 0x1111222233334444);
	check("high half", vmread(LINK + 1), 0x11112222);
	vmwrite(LINK + 1, 0x55556666);
	check("both halves", vmread(LINK), 0x5555666633334444);
	vmwrite(0x0800, 0xfffff);
	check("16 bits", vmread(0x0800), 0xffff);
	vmwrite(PIN, ~0ull);
	check("32 bits", vmread(PIN), 0xffffffffu);
	/* A copy of a cleared VMCS is one. */
	succeeds("vmclear", with(try_vmclear, (uintptr_t)vmcs_page[0]));
	for (unsigned i = 0; i < 4096; i++)
		copy_page[i] = vmcs_page[0][i];
	succeeds("vmptrld of a copy", with(try_vmptrld, (uintptr_t)copy_page));
	check("its content", vmread(LINK), 0x5555666633334444);
	succeeds("vmclear of another", with(try_vmclear, b));
	check("leaves the current one", vmread(LINK), 0x5555666633334444);
	succeeds("vmptrld", with(try_vmptrld, b));
	succeeds("vmptrld back", with(try_vmptrld, (uintptr_t)copy_page));
	check("still there", vmread(LINK), 0x5555666633334444);
	succeeds("vmptrld", with(try_vmptrld, b));
}

static void invalidations(void)
{
	uint64_t cap = rdmsr(0x48c);

	operand[0] = operand[1] = 0;
	if (cap & 1 << 20) {
		for (uint64_t type = 0; type < 5; type++) {
			if (type == 1 || type == 2)
				continue;
			operand_value = type;
			fails("invept, bad type", attempt(try_invept, KERNEL), 28);
		}
		operand_value = 1;
		fails("invept, bad EPTP", attempt(try_invept, KERNEL), 28);
		operand[0] = (uintptr_t)pml4 | 0x1e;
		operand[1] = 1;
		fails("invept, reserved", attempt(try_invept, KERNEL), 28);
		operand[1] = 0;
		succeeds("invept of one", attempt(try_invept, KERNEL));
		operand_value = 2;
		succeeds("invept of all", attempt(try_invept, KERNEL));
	}
	if (!(cap >> 32 & 1))
		return;
	operand[0] = operand[1] = 0;
	operand_value = 4;
	fails("invvpid, bad type", attempt(try_invvpid, KERNEL), 28);
	for (operand_value = 0; operand_value < 4; operand_value++)
		if (operand_value != 2)
			fails("invvpid, VPID 0", attempt(try_invvpid, KERNEL), 28);
	operand[0] = 0x10001;
	operand_value = 1;
	fails("invvpid, reserved", attempt(try_invvpid, KERNEL), 28);
	operand[0] = 1;
	operand[1] = 1ull << 62;
	operand_value = 0;
	fails("invvpid, no such address", attempt(try_invvpid, KERNEL), 28);
	operand[1] = 0;
	for (operand_value = 0; operand_value < 4; operand_value++)
		succeeds("invvpid", attempt(try_invvpid, KERNEL));
}

/* --- entries -------------------------------------------------------------------------------- */

static void launch(void)
{
	fails("vmresume of a clear VMCS", attempt(try_vmresume, KERNEL), 5);
	fails("vmlaunch after MOV SS", attempt(try_vmlaunch_mov_ss, KERNEL), 26);
	vmwrite(CR3_TARGETS, 5);
	fails("vmlaunch, bad control", attempt(try_vmlaunch, KERNEL), 7);
	vmwrite(CR3_TARGETS, 0);
	vmwrite(GUEST_RFLAGS, 0);
	check("vmlaunch, bad guest state", attempt(try_vmlaunch, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 1u << 31 | 33);
	check("its qualification", vmread(QUALIFICATION), 0);
	vmwrite(GUEST_RFLAGS, 2);
	fails("the VMCS is clear yet", attempt(try_vmresume, KERNEL), 5);
	check("vmlaunch", attempt(try_vmlaunch, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 18);
	check("its length", vmread(EXIT_LEN), 3);
	check("the guest ran", guest_count, 1);
	fails("vmlaunch again", attempt(try_vmlaunch, KERNEL), 4);
	fails("vmresume after MOV SS", attempt(try_vmresume_mov_ss, KERNEL), 26);
	for (unsigned i = 2; i < 1000; i++) {
		vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_LEN));
		if (attempt(try_vmresume, KERNEL) != VM_EXIT || vmread(EXIT_REASON) != 18 ||
		    guest_count != i) {
			check("the vmresume loop", guest_count, i);
			break;
		}
	}
	check("1000 entries", guest_count, 999);
}

enum kind { CONTROL, HOST, GUEST };
struct bad {
	uint32_t field;
	enum kind kind;
	uint64_t value;
	uint64_t qualification;
};
#define NON_CANONICAL (1ull << 62)
static const struct bad bad_values[] = {
	{ PIN, CONTROL, 0, 0 }, { PIN, CONTROL, 0xffffffffu, 0 }, { PROC, CONTROL, 0, 0 },
	{ PROC, CONTROL, 0xffffffffu, 0 }, { EXIT_CTLS, CONTROL, 0, 0 },
	{ EXIT_CTLS, CONTROL, 0xffffffffu, 0 }, { ENTRY_CTLS, CONTROL, 0, 0 },
	{ ENTRY_CTLS, CONTROL, 0xffffffffu, 0 }, { CR3_TARGETS, CONTROL, 5, 0 },
	{ EVENT, CONTROL, 0x80000100u, 0 }, { EVENT, CONTROL, 0x80000203u, 0 }, /* type 1; NMI, 3 */
	{ EVENT, CONTROL, 0x80000320u, 0 }, { EVENT, CONTROL, 0x8000030du, 0 }, /* 32; #GP bare */
	{ EVENT, CONTROL, 0x80000b06u, 0 }, { EVENT, CONTROL, 0x80001320u, 0 }, /* #UD with error */
	/* host */
	{ 0x6c00, HOST, 0, 0 }, { 0x6c04, HOST, 0, 0 }, { 0x6c02, HOST, 1ull << 60, 0 },
	{ 0x6c10, HOST, NON_CANONICAL, 0 }, { 0x6c12, HOST, NON_CANONICAL, 0 },
	{ 0x6c06, HOST, NON_CANONICAL, 0 }, { 0x6c08, HOST, NON_CANONICAL, 0 },
	{ 0x6c0a, HOST, NON_CANONICAL, 0 }, { 0x6c0c, HOST, NON_CANONICAL, 0 },
	{ 0x6c0e, HOST, NON_CANONICAL, 0 }, { 0x6c16, HOST, NON_CANONICAL, 0 },
	{ 0xc02, HOST, 0, 0 }, { 0xc0c, HOST, 0, 0 }, { 0xc00, HOST, 3, 0 }, { 0xc06, HOST, 4, 0 },
	{ 0x2c02, HOST, 0, 0 }, { 0x2c02, HOST, 1, 0 }, { 0x2c02, HOST, 1ull << 63, 0 },
	/* guest */
	{ 0x6800, GUEST, 0, 0 }, { 0x6800, GUEST, 0x80000020u, 0 }, { 0x6804, GUEST, 0, 0 },
	{ 0x6804, GUEST, 0x2000, 0 }, { 0x6802, GUEST, 1ull << 60, 0 },
	{ 0x681a, GUEST, 1ull << 32, 0 }, { 0x2802, GUEST, 1ull << 40, 0 },
	{ 0x6824, GUEST, NON_CANONICAL, 0 }, { 0x6826, GUEST, NON_CANONICAL, 0 },
	{ 0x2806, GUEST, 0, 0 }, { 0x2806, GUEST, 1ull << 63, 0 }, /* EFER */
	{ 0x080e, GUEST, 4, 0 }, { 0x6814, GUEST, NON_CANONICAL, 0 }, /* TR */
	{ 0x4822, GUEST, 0x89, 0 }, { 0x4822, GUEST, 0x1008b, 0 }, { 0x4822, GUEST, 0xb, 0 },
	{ 0x4820, GUEST, 0x83, 0 }, { 0x4820, GUEST, 0x2, 0 }, /* LDTR */
	{ 0x4816, GUEST, 0xa093, 0 }, { 0x4816, GUEST, 0xe09b, 0 }, { 0x4816, GUEST, 0x209b, 0 },
	{ 0x4816, GUEST, 0xa01b, 0 }, { 0x4816, GUEST, 0xa08b, 0 }, { 0x4816, GUEST, 0xa0fb, 0 },
	{ 0x4816, GUEST, 0xaf9b, 0 }, { 0x6808, GUEST, 1ull << 32, 0 }, /* CS */
	{ 0x4818, GUEST, 0xc09b, 0 }, { 0x4818, GUEST, 0xc0f3, 0 }, { 0x804, GUEST, 0x13, 0 }, /* SS */
	{ 0x481a, GUEST, 0xc092, 0 }, { 0x481a, GUEST, 0xc099, 0 }, { 0x481a, GUEST, 0xc013, 0 },
	{ 0x806, GUEST, 0x13, 0 }, { 0x4806, GUEST, 0xffff0000u, 0 }, /* DS */
	{ 0x680e, GUEST, NON_CANONICAL, 0 }, { 0x6816, GUEST, NON_CANONICAL, 0 }, /* FS, GDTR */
	{ 0x6818, GUEST, NON_CANONICAL, 0 }, { 0x4810, GUEST, 0x10000, 0 },
	{ 0x4812, GUEST, 0x10000, 0 }, { GUEST_RIP, GUEST, NON_CANONICAL, 0 },
	{ GUEST_RFLAGS, GUEST, 0, 0 }, { GUEST_RFLAGS, GUEST, 2 | 1u << 15, 0 },
	{ GUEST_RFLAGS, GUEST, 2 | 1u << 17, 0 }, { GUEST_RFLAGS, GUEST, 2 | 1ull << 22, 0 },
	{ EVENT, GUEST, 0x80000020u, 0 }, /* an interrupt without IF */
	{ ACTIVITY, GUEST, 4, 0 }, { BLOCKING, GUEST, 3, 0 }, { BLOCKING, GUEST, 1, 0 },
	{ BLOCKING, GUEST, 4, 0 }, { BLOCKING, GUEST, 0x20, 0 },
	{ PENDING_DEBUG, GUEST, 1 << 4, 0 }, { PENDING_DEBUG, GUEST, 1 << 13, 0 },
	{ LINK, GUEST, 1, 4 }, { LINK, GUEST, 1ull << 60, 4 },
	{ LINK, GUEST, (uint64_t)1 << 31, 4 }, /* no VMCS there */
};

static void bad_entries(void)
{
	static const char *const names[] = { "control ", "host field ", "guest field " };

	for (unsigned i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		const struct bad *x = &bad_values[i];
		uint64_t old = vmread(x->field), count = guest_count;
		unsigned got, before = failed;

		vmwrite(GUEST_RIP, (uintptr_t)guest_loop);
		if (x->field == GUEST_RIP)
			old = (uintptr_t)guest_loop;
		vmwrite(x->field, x->value);
		got = attempt(try_vmresume, KERNEL);
		if (x->kind == GUEST) {
			check("entry", got, VM_EXIT);
			check("reason", vmread(EXIT_REASON), 1u << 31 | 33);
			check("qualification", vmread(QUALIFICATION), x->qualification);
		} else {
			fails("entry", got, x->kind == CONTROL ? 7 : 8);
		}
		check("nothing ran", guest_count, count);
		vmwrite(x->field, old);
		if (x->field == EVENT)
			vmwrite(EVENT, 0);
		if (failed != before) {
			print("  that was ");
			print(names[x->kind]);
			print_hex(x->field);
			print(" = ");
			print_hex(x->value);
			print("\n");
			set_up();
		}
	}
	vmwrite(GUEST_RIP, (uintptr_t)guest_loop);
	check("and then it runs", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 18);
}

static void entry_fails(const char *what, uint64_t qualification)
{
	check(what, attempt(try_vmresume, KERNEL), VM_EXIT);
	check(what, vmread(EXIT_REASON), 1u << 31 | 33);
	check(what, vmread(QUALIFICATION), qualification);
	set_up();
}

/* What takes more than one field. */
static void bad_pairs(void)
{
	static const uint32_t events[] = { 0x80000202u, 0x80000020u };

	for (unsigned i = 0; i < 2; i++) { /* an NMI, an interrupt */
		vmwrite(GUEST_RFLAGS, 0x202);
		vmwrite(EVENT, events[i]);
		vmwrite(BLOCKING, 1);
		entry_fails("an event behind STI", i ? 0 : 3);
		vmwrite(GUEST_RFLAGS, 0x202);
		vmwrite(EVENT, events[i]);
		vmwrite(BLOCKING, 2);
		entry_fails("an event behind MOV SS", 0);
	}
	vmwrite(ACTIVITY, 1);
	vmwrite(GUEST_RFLAGS, 0x202);
	vmwrite(BLOCKING, 1);
	entry_fails("HLT behind STI", 0);
	vmwrite(ACTIVITY, 3);
	vmwrite(EVENT, 0x80000202u);
	entry_fails("an NMI into wait-for-SIPI", 0);
	vmwrite(GUEST_RFLAGS, 0x102);
	vmwrite(BLOCKING, 2);
	entry_fails("TF behind MOV SS, no trap pending", 0);
	/* PAE paging, whose four entries are read from where CR3 points */
	for (unsigned i = 0; i < 4; i++)
		msr_area[i] = i == 2 ? 1 | 1 << 1 : 0;
	vmwrite(ENTRY_CTLS, vmread(ENTRY_CTLS) & ~(uint64_t)(1 << 9));
	vmwrite(0x4816, 0xc09b);
	vmwrite(0x2806, 0);
	vmwrite(0x6802, (uintptr_t)msr_area);
	entry_fails("a reserved bit in a page-directory-pointer entry", 2);
}

static void msr_lists(void)
{
	msr_area[0] = 0x174; /* IA32_SYSENTER_CS */
	msr_area[1] = 0x55;
	msr_area[2] = 0xc0000100; /* IA32_FS_BASE: not by list */
	msr_area[3] = 0;
	vmwrite(0x200a, (uintptr_t)msr_area);
	vmwrite(ENTRY_LOADS, 2);
	vmwrite(GUEST_RIP, (uintptr_t)guest_loop);
	check("entry with a bad MSR", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 1u << 31 | 34);
	check("the bad one's number", vmread(QUALIFICATION), 2);
	vmwrite(ENTRY_LOADS, 1);
	msr_area[2] = 0x174;
	vmwrite(0x2006, (uintptr_t)&msr_area[2]);
	vmwrite(EXIT_STORES, 1);
	check("entry with an MSR", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 18);
	check("what the exit stored", msr_area[3], 0x55);
	vmwrite(0x200a, (uintptr_t)msr_area + 8);
	fails("an area not aligned", attempt(try_vmresume, KERNEL), 7);
	vmwrite(ENTRY_LOADS, 0);
	vmwrite(EXIT_STORES, 0);
}

static void guests(void)
{
	vmwrite(GUEST_RIP, (uintptr_t)guest_hlt);
	check("HLT", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 12);
	vmwrite(GUEST_RIP, (uintptr_t)guest_cpuid);
	check("CPUID", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 10);
	vmwrite(GUEST_RIP, (uintptr_t)try_vmxoff);
	check("VMXOFF", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason", vmread(EXIT_REASON), 26);
	vmwrite(GUEST_RIP, (uintptr_t)guest_loop);
	vmwrite(EVENT, 0x80000b0eu); /* #PF */
	vmwrite(EVENT_ERROR, 4);
	vmwrite(0x4812, 0); /* which the guest's IDT does not have */
	check("an event that cannot be delivered", attempt(try_vmresume, KERNEL), VM_EXIT);
	check("its reason: #DF", vmread(EXIT_REASON) << 8 | (vmread(0x4404) & 0xff), 8);
	vmwrite(0x4812, idt_pointer.limit);
	check("the event is used up", vmread(EVENT) >> 31, 0);
}

static void off(void)
{
	succeeds("vmclear", with(try_vmclear, (uintptr_t)vmcs_page[1]));
	succeeds("vmptrst", with(try_vmptrst, 0));
	check("no current VMCS", operand[0], ~0ull);
	succeeds("vmptrld", with(try_vmptrld, (uintptr_t)vmcs_page[1]));
	fails("a cleared VMCS is clear", attempt(try_vmresume, KERNEL), 5);
	succeeds("vmxoff", attempt(try_vmxoff, KERNEL));
	for (unsigned i = 0; i < ALL - 1; i++)
		check(all[i].name, attempt(all[i].code, KERNEL), outside(all[i].code));
	check("CR4.VMXE goes", write_cr(try_mov_cr4, cr4() & ~(1ull << 13)), NO_FAULT);
}

void main(void)
{
	outside_vmx();
	operand_faults();
	without_vmcs();
	pointers();
	fields();
	invalidations();
	set_up();
	launch();
	bad_entries();
	bad_pairs();
	msr_lists();
	controls();
	guests();
	off();
	print("vmx: ");
	print_dec(passed);
	print(" passed, ");
	print_dec(failed);
	print(" failed\n");
}
