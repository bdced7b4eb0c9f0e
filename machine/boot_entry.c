/* SPDX-License-Identifier: Apache-2.0 */
/* boot_entry.c - the boot processor's descriptor tables, page tables and registers at entry. */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "machine/boot_internal.h"
#include "machine/memory.h"
#include "vmx-driver/vmx.h"

#define CR0_PE (1ull << 0)
#define CR0_ET (1ull << 4)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define SEL_CODE 0x10 /* __BOOT_CS */
#define SEL_DATA 0x18 /* __BOOT_DS */
#define SEL_TSS 0x20
#define GDT_ENTRIES 5

#define ATTR_CODE64 0xa09b /* G L P S execute/read accessed */
#define ATTR_CODE32 0xc09b /* G D P S execute/read accessed */
#define ATTR_DATA 0xc093   /* G B P S read/write accessed */
#define ATTR_TSS 0x008b    /* P, busy 32/64-bit TSS */

static uint64_t descriptor(uint32_t base, uint32_t limit, uint16_t attributes)
{
	return (uint64_t)(limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	       (uint64_t)(attributes & 0xf0ff) << 40 | (uint64_t)(limit >> 16 & 0xf) << 48 |
	       (uint64_t)(base >> 24) << 56;
}

void boot_put_tables(struct memory *memory, enum boot_mode mode)
{
	uint64_t gdt[GDT_ENTRIES] = { 0 }, entries[512];
	uint16_t code = mode == BOOT_LONG64 ? ATTR_CODE64 : ATTR_CODE32;

	gdt[SEL_CODE / 8] = descriptor(0, 0xfffff, code);
	gdt[SEL_DATA / 8] = descriptor(0, 0xfffff, ATTR_DATA);
	gdt[SEL_TSS / 8] = descriptor(0, 0x67, ATTR_TSS & ~2); /* available */
	(void)mem_write(memory, BOOT_GDT, gdt, sizeof(gdt));
	if (mode != BOOT_LONG64)
		return;
	/* One page of PML4, one of PDPT, four of 2 MiB pages. */
	memset(entries, 0, sizeof(entries));
	entries[0] = (BOOT_PAGE_TABLES + 0x1000) | 3;
	(void)mem_write(memory, BOOT_PAGE_TABLES, entries, sizeof(entries));
	for (unsigned i = 0; i < 4; i++)
		entries[i] = (BOOT_PAGE_TABLES + 0x2000 + i * 0x1000) | 3;
	(void)mem_write(memory, BOOT_PAGE_TABLES + 0x1000, entries, sizeof(entries));
	for (unsigned page = 0; page < 4; page++) {
		for (unsigned i = 0; i < 512; i++)
			entries[i] = ((uint64_t)(page * 512 + i) << 21) | 0x83;
		(void)mem_write(memory, BOOT_PAGE_TABLES + 0x2000 + page * 0x1000, entries,
				sizeof(entries));
	}
}

static int set_sregs(const struct boot_entry *entry, struct vmx_vcpu *vcpu)
{
	const struct vmx_segment data = { .limit = UINT32_MAX,
					  .selector = SEL_DATA,
					  .attributes = ATTR_DATA };
	bool wide = entry->mode == BOOT_LONG64;
	struct vmx_sregs s;
	int r;

	r = vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));
	if (r < 0)
		return r;
	s.es = s.ss = s.ds = s.fs = s.gs = data;
	s.cs = data;
	s.cs.selector = SEL_CODE;
	s.cs.attributes = wide ? ATTR_CODE64 : ATTR_CODE32;
	s.tr = (struct vmx_segment){ .limit = 0x67, .selector = SEL_TSS, .attributes = ATTR_TSS };
	s.ldtr = (struct vmx_segment){ .limit = 0xffff, .attributes = 0x82 };
	s.gdtr = (struct vmx_table){ .base = BOOT_GDT, .limit = GDT_ENTRIES * 8 - 1 };
	s.idtr = (struct vmx_table){ .base = 0, .limit = 0 };
	s.cr0 = CR0_PE | CR0_ET | (wide ? CR0_PG : 0);
	s.cr3 = wide ? BOOT_PAGE_TABLES : 0;
	s.cr4 = wide ? CR4_PAE : 0;
	s.efer = wide ? EFER_LME | EFER_LMA : 0;
	return vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));
}

int boot_enter(const struct boot_entry *entry, struct vmx_vcpu *vcpu)
{
	struct vmx_regs regs = {
		.rax = entry->rax,
		.rbx = entry->rbx,
		.rsi = entry->rsi,
		.rsp = entry->rsp,
		.rip = entry->rip,
		.rflags = 2,
	};
	int r = set_sregs(entry, vcpu);

	if (r < 0)
		return r;
	return vmx_vcpu_write_state(vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
}
