/* SPDX-License-Identifier: Apache-2.0 */
/* vmx.h - what the files of the VMX payload share: the stubs of vmx_start.S, and vmx_lib.c. */
#ifndef TESTS_GUEST_PAYLOAD_VMX_H
#define TESTS_GUEST_PAYLOAD_VMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NO_FAULT = 0x80, VM_EXIT = 0x100, UD = 6, GP = 13, PF = 14 };
enum { CF = 1, PF_FLAG = 4, AF = 0x10, ZF = 0x40, SF = 0x80, OF = 0x800,
       ARITH = CF | PF_FLAG | AF | ZF | SF | OF };
enum { KERNEL = 0, USER = 3, COMPAT = 32 };

unsigned attempt(const void *code, unsigned mode);
extern const uint8_t try_vmxon[], try_vmxoff[], try_vmclear[], try_vmptrld[], try_vmptrst[],
	try_vmread[], try_vmread_reg[], try_vmread_fault[], try_vmwrite[], try_vmwrite_mem[],
	try_vmlaunch[], try_vmresume[], try_vmcall[], try_invept[], try_invvpid[],
	try_vmxon_fault[], try_vmclear_fault[], try_vmptrld_fault[], try_vmptrst_fault[],
	try_vmwrite_fault[], try_invept_fault[], try_invvpid_fault[], try_vmresume_mov_ss[],
	try_vmfunc[], try_vmlaunch_mov_ss[], try_mov_cr0[], try_mov_cr4[], try_vmxon_far[];
extern const uint8_t host_entry[], guest_loop[], guest_hlt[], guest_cpuid[];
extern volatile uint64_t operand[2], operand_value, result_flags, guest_count;
extern volatile uint32_t operand_field;
extern uint8_t pml4[], tss[], guest_stack_end[];
struct table {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));
extern struct table gdt_pointer, idt_pointer;

enum { MSR_FEATURE_CONTROL = 0x3a, MSR_MISC = 0x485, MSR_PROC2 = 0x48b, MSR_EFER = 0xc0000080 };
enum { PIN = 0x4000, PROC = 0x4002, EXCEPTIONS = 0x4004, CR3_TARGETS = 0x400a, EXIT_CTLS = 0x400c,
       EXIT_STORES = 0x400e, EXIT_LOADS = 0x4010, ENTRY_CTLS = 0x4012, ENTRY_LOADS = 0x4014,
       EVENT = 0x4016, EVENT_ERROR = 0x4018, EVENT_LEN = 0x401a, PROC2 = 0x401e,
       INSN_ERROR = 0x4400, EXIT_REASON = 0x4402, EXIT_LEN = 0x440c, QUALIFICATION = 0x6400,
       GUEST_RIP = 0x681e, GUEST_RFLAGS = 0x6820, LINK = 0x2800, BLOCKING = 0x4824,
       ACTIVITY = 0x4826, PENDING_DEBUG = 0x6822 };

/* --- telling: every check counts; what fails is printed ------------------------------------- */

extern unsigned passed, failed;
void print(const char *text);
void print_hex(uint64_t value);
void print_dec(unsigned value);
void check(const char *what, uint64_t got, uint64_t want);

/* --- the processor -------------------------------------------------------------------------- */

uint64_t cr0(void);
uint64_t cr4(void);
uint64_t rdmsr(uint32_t index);
uint64_t vmread(uint32_t field);
void vmwrite(uint32_t field, uint64_t value); /* a failure counts */
uint32_t revision(void);
/* A control word that has what must be set and, of `wanted`, all that may be. */
uint32_t control(uint32_t msr, uint32_t wanted);
/* Runs a stub with operand[0]; the ways in which VMX instructions end. */
unsigned with(const uint8_t *code, uint64_t address);
void succeeds(const char *what, unsigned got);
void fails_invalid(const char *what, unsigned got);
void fails(const char *what, unsigned got, unsigned error);
/* The current VMCS becomes one that enters, at guest_loop, with nothing but HLT exiting. */
void set_up(void);

/* --- the tests ------------------------------------------------------------------------------ */

void main(void);
void controls(void); /* vmx_controls.c: every control; wants a launched VMCS */

#endif
