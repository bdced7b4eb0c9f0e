/* SPDX-License-Identifier: Apache-2.0 */
/* vmx_lib.c - the VMX payload: telling, the processor, a VMCS that enters. */
#include "vmx.h"

unsigned passed, failed;

/* --- telling -------------------------------------------------------------------------------- */

static void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

void print(const char *text)
{
	for (; *text; text++)
		outb(0x3f8, (uint8_t)*text);
}

void print_hex(uint64_t value)
{
	char text[17];
	unsigned n = 16;

	text[n] = 0;
	do {
		text[--n] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value);
	print(text + n);
}

void print_dec(unsigned value)
{
	char text[12];
	unsigned n = 11;

	text[n] = 0;
	do
		text[--n] = (char)('0' + value % 10);
	while (value /= 10);
	print(text + n);
}

void check(const char *what, uint64_t got, uint64_t want)
{
	if (got == want) {
		passed++;
		return;
	}
	failed++;
	print("FAIL: ");
	print(what);
	print(": ");
	print_hex(got);
	print(", not ");
	print_hex(want);
	print("\n");
}

/* --- the processor -------------------------------------------------------------------------- */

uint64_t rdmsr(uint32_t index)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index));
	return lo | (uint64_t)hi << 32;
}

uint64_t vmread(uint32_t field)
{
	uint64_t value = 0;

	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)field) : "cc");
	return value;
}

void vmwrite(uint32_t field, uint64_t value)
{
	bool bad;

	__asm__ volatile("vmwrite %1, %2\n\tsetbe %0"
			 : "=qm"(bad) : "r"(value), "r"((uint64_t)field) : "cc");
	if (bad) {
		print("FAIL: field ");
		print_hex(field);
		print(" cannot be written\n");
		failed++;
	}
}

uint32_t revision(void)
{
	return (uint32_t)rdmsr(0x480) & 0x7fffffffu;
}

uint32_t control(uint32_t msr, uint32_t wanted)
{
	uint64_t cap = rdmsr(msr);

	return ((uint32_t)cap | wanted) & (uint32_t)(cap >> 32);
}

uint64_t cr0(void)
{
	uint64_t value;

	__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

uint64_t cr4(void)
{
	uint64_t value;

	__asm__ volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

unsigned with(const uint8_t *code, uint64_t address)
{
	operand[0] = address;
	return attempt(code, KERNEL);
}

void succeeds(const char *what, unsigned got)
{
	check(what, got, NO_FAULT);
	check(what, result_flags & ARITH, 0);
}

void fails_invalid(const char *what, unsigned got)
{
	check(what, got, NO_FAULT);
	check(what, result_flags & ARITH, CF);
}

void fails(const char *what, unsigned got, unsigned error)
{
	check(what, got, NO_FAULT);
	check(what, result_flags & ARITH, ZF);
	check(what, vmread(INSN_ERROR), error);
}

void set_up(void)
{
	static const uint8_t selectors[] = { 0x10, 0x08, 0x10, 0x10, 0x10, 0x10, 0, 0x30 };

	for (unsigned i = 0; i < 8; i++) {
		bool code = i == 1, ldtr = i == 6, tr = i == 7;

		vmwrite(0x800 + i * 2, selectors[i]);
		vmwrite(0x4800 + i * 2, tr ? 0x67 : 0xffffffffu);
		vmwrite(0x4814 + i * 2, ldtr ? 0x10000u : tr ? 0x8bu : code ? 0xa09bu : 0xc093u);
		vmwrite(0x6806 + i * 2, tr ? (uintptr_t)tss : 0);
		if (!ldtr)
			vmwrite(0xc00 + (tr ? 12 : i * 2), selectors[i]);
	}
	vmwrite(PIN, control(0x48d, 0));
	vmwrite(PROC, control(0x48e, 1u << 7));
	vmwrite(EXIT_CTLS, control(0x48f, 1u << 9 | 1u << 20 | 1u << 21));
	vmwrite(ENTRY_CTLS, control(0x490, 1u << 2 | 1u << 9 | 1u << 15));
	vmwrite(EXCEPTIONS, ~0u);
	vmwrite(CR3_TARGETS, 0);
	vmwrite(EXIT_STORES, 0);
	vmwrite(EXIT_LOADS, 0);
	vmwrite(ENTRY_LOADS, 0);
	vmwrite(EVENT, 0);
	for (unsigned i = 0; i < 2; i++) { /* guest, host */
		unsigned side = i ? 0x6c00 : 0x6800;

		vmwrite(side, cr0());
		vmwrite(side + 2, (uintptr_t)pml4);
		vmwrite(side + 4, cr4());
		vmwrite(i ? 0x2c02 : 0x2806, rdmsr(MSR_EFER));
		vmwrite(i ? 0x6c0c : 0x6816, gdt_pointer.base);
		vmwrite(i ? 0x6c0e : 0x6818, idt_pointer.base);
		vmwrite(i ? 0x6c10 : 0x6824, 0);
		vmwrite(i ? 0x6c12 : 0x6826, 0);
	}
	vmwrite(0x4810, gdt_pointer.limit);
	vmwrite(0x4812, idt_pointer.limit);
	vmwrite(0x6c06, 0);
	vmwrite(0x6c08, 0);
	vmwrite(0x6c0a, (uintptr_t)tss);
	vmwrite(0x6c14, (uintptr_t)guest_stack_end);
	vmwrite(0x6c16, (uintptr_t)host_entry);
	vmwrite(0x6000, 0);
	vmwrite(0x6002, 0);
	vmwrite(0x681a, 0x400);
	vmwrite(0x2802, 0);
	vmwrite(LINK, ~0ull);
	vmwrite(BLOCKING, 0);
	vmwrite(ACTIVITY, 0);
	vmwrite(PENDING_DEBUG, 0);
	vmwrite(0x681c, (uintptr_t)guest_stack_end);
	vmwrite(GUEST_RIP, (uintptr_t)guest_loop);
	vmwrite(GUEST_RFLAGS, 2);
}
