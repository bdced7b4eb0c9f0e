/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hammer_guest.S - the guest of hammer.c: each vCPU takes actions at random, for ever.
 *
 * rbp: the vCPU's block, r13: the shared block, r14: random state, r15: number of the last counted
 * exit. No x87, SSE or AVX: in the build for the thread sanitizer its run-time library uses them
 * between the guest's instructions.
 */
#include "tests/contract/hammer.h"

	.section .note.GNU-stack, "", @progbits
	.section .rodata
	.globl hammer_guest, hammer_guest_end, hammer_start, hammer_start_end
	.globl hammer_after_shutdown
	.code64

/* The next counted exit: eax is its value. */
.macro NEXT
	inc %r15d
	imul $HAMMER_MIX, %r15d, %eax
.endm
/* The next random number in rax. */
.macro RANDOM
	movabs $6364136223846793005, %rax
	imul %rax, %r14
	movabs $1442695040888963407, %rax
	add %rax, %r14
	mov %r14, %rax
	shr $33, %rax
.endm
/* esi says what went wrong; eax and ebx how. */
.macro FAIL_IF cond, number
	mov $\number, %esi
	j\cond fail
.endm

hammer_guest:
	/* From the reset state of hammer.c or from hammer_start: id in edi. */
	mov %edi, %ebp
	shl $12, %ebp
	mov %ebp, %esp
	add $HAMMER_CPU, %ebp
	add $HAMMER_STACK + 0x1000, %esp
	mov $HAMMER_SHARED, %r13d
	mov CPU_SEED(%rbp), %r14
	/* APIC on; a periodic timer of about a millisecond */
	mov $0xfee00000, %eax
	movl $0x1ff, 0xf0(%rax)
	movl $0xb, 0x3e0(%rax)
	movl $0x20000 | HAMMER_TIMER, 0x320(%rax)
	mov SHARED_TIMER(%r13), %ecx
	mov %ecx, 0x380(%rax)
	in $HAMMER_RESYNC, %eax
	mov %eax, %r15d
	sti
loop:
	incq CPU_LOOPS(%rbp)
	RANDOM
	mov %r14, CPU_SEED(%rbp)
	mov %eax, %ecx
	and $31, %ecx
	bt %ecx, SHARED_ACTIONS(%r13)
	jnc loop
	lea table(%rip), %rdx
	movslq (%rdx,%rcx,4), %rcx
	add %rdx, %rcx
	jmp *%rcx

table:
	.long out8 - table, out16 - table, out32 - table, in8 - table
	.long in32 - table, outs_ - table, ins_ - table, write - table
	.long read - table, write64 - table, read64 - table, rom - table
	.long locked - table, toggle_read - table, toggle_write - table, bell - table
	.long dirty - table, patched - table, patch_self - table, patched_cpu - table
	.long halt - table, rdmsr_ - table, wrmsr_ - table, cpuid_ - table
	.long rdtsc_ - table, hypercall - table, int3_ - table, ud2_ - table
	.long shutdown - table, ipi - table, fetch - table, spin - table

out8:
	NEXT
	out %al, $HAMMER_OUT8
	jmp loop
out16:
	NEXT
	out %ax, $HAMMER_OUT16
	jmp loop
out32:
	NEXT
	out %eax, $HAMMER_OUT32
	jmp loop
in8:
	NEXT
	movzbl %al, %ebx
	xor %eax, %eax
	in $HAMMER_IN8, %al
	cmp %eax, %ebx
	FAIL_IF ne, ACT_IN8
	jmp loop
in32:
	NEXT
	mov %eax, %ebx
	in $HAMMER_IN32, %eax
	cmp %eax, %ebx
	FAIL_IF ne, ACT_IN32
	jmp loop
outs_:
	NEXT
	mov %eax, CPU_STRING(%rbp)
	lea CPU_STRING(%rbp), %rsi
	mov $4, %ecx
	mov $HAMMER_OUTS, %edx
	cld
	rep outsb
	jmp loop
ins_:
	NEXT
	mov %eax, %ebx
	lea CPU_STRING(%rbp), %rdi
	mov $4, %ecx
	mov $HAMMER_INS, %edx
	cld
	rep insb
	mov CPU_STRING(%rbp), %eax
	cmp %eax, %ebx
	FAIL_IF ne, ACT_INS
	jmp loop
write:
	mov $HAMMER_HOLE, %edx
	NEXT
	mov %eax, 0x10(%rdx)
	jmp loop
read:
	mov $HAMMER_HOLE, %edx
	NEXT
	mov %eax, %ebx
	mov 0x20(%rdx), %eax
	cmp %eax, %ebx
	FAIL_IF ne, ACT_READ
	jmp loop
write64:
	mov $HAMMER_HOLE, %edx
	NEXT
	mov %rax, %rbx
	shl $32, %rbx
	or %rbx, %rax
	mov %rax, 0x30(%rdx)
	jmp loop
read64:
	mov $HAMMER_HOLE, %edx
	NEXT
	mov %rax, %rbx
	shl $32, %rbx
	or %rax, %rbx
	mov 0x38(%rdx), %rax
	cmp %rax, %rbx
	FAIL_IF ne, ACT_READ64
	jmp loop
rom:
	mov $HAMMER_ROM, %edx
	NEXT
	mov %eax, 0x40(%rdx)
	mov 0x80(%rdx), %eax
	mov $HAMMER_VALUE_A, %ebx
	cmp %eax, %ebx
	FAIL_IF ne, ACT_ROM
	jmp loop
locked: /* a read and a write: two exits */
	mov $HAMMER_HOLE, %edx
	NEXT
	mov %eax, %ebx
	mov $1, %eax
	lock xadd %eax, 0x48(%rdx)
	cmp %eax, %ebx
	FAIL_IF ne, ACT_LOCKED
	jmp loop
toggle_read: /* RAM, other RAM, or an exit */
	and $(HAMMER_TOGGLE_PAGES * 4096 - 4), %eax
	mov %eax, %edx
	add $HAMMER_TOGGLE, %edx
	mov (%rdx), %eax
	mov %eax, %ebx
	shr $16, %ebx
	cmp $HAMMER_VALUE_A, %ebx
	je loop
	cmp $HAMMER_VALUE_B, %ebx
	je loop
	cmp $HAMMER_VALUE_EXIT, %ebx
	FAIL_IF ne, ACT_TOGGLE_READ
	jmp loop
toggle_write:
	and $(HAMMER_TOGGLE_PAGES * 4096 - 4), %eax
	mov %eax, %edx
	add $HAMMER_TOGGLE, %edx
	movl $(HAMMER_VALUE_B << 16), (%rdx)
	jmp loop
bell:
	mov CPU_ID(%rbp), %edx
	lea HAMMER_BELL - 0x80000000(,%rdx,8), %edx
	add $0x80000000, %edx
	incq CPU_BELL_BEGUN(%rbp)
	movl $1, (%rdx)
	incq CPU_BELL_DONE(%rbp)
	jmp loop
dirty: /* each vCPU counts in words of its own */
	and $(HAMMER_DIRTY_PAGES - 1), %eax
	shl $12, %eax
	mov CPU_ID(%rbp), %edx
	lea HAMMER_DIRTY(%rax,%rdx,8), %eax
	incq (%rax)
	jmp loop
patched:
	mov SHARED_VERSION(%r13), %ebx
	mov %cr2, %rax /* serializes */
	mov %rax, %cr2
	mov $HAMMER_PATCH, %edx
	call *%rdx
	cmp %ebx, %eax
	FAIL_IF b, ACT_PATCHED
	jmp loop
patch_self:
	mov CPU_ID(%rbp), %ecx
	mov SHARED_CPU_VERSION(%r13,%rcx,8), %ebx
	inc %ebx
	mov %ecx, %edx
	shl $6, %edx
	add $HAMMER_PATCH_CPU, %edx
	mov %ebx, 1(%rdx)
	mov %ebx, SHARED_CPU_VERSION(%r13,%rcx,8)
	jmp 1f
1:	call *%rdx
	cmp %ebx, %eax
	FAIL_IF ne, ACT_PATCH_SELF
	jmp loop
patched_cpu:
	xor %edx, %edx
	divl SHARED_CPUS(%r13)
	mov %edx, %ecx
	mov SHARED_CPU_VERSION(%r13,%rcx,8), %ebx
	mov %cr2, %rax
	mov %rax, %cr2
	shl $6, %edx
	add $HAMMER_PATCH_CPU, %edx
	call *%rdx
	cmp %ebx, %eax
	FAIL_IF b, ACT_PATCHED_CPU
	jmp loop
halt:
	cmpl $0, SHARED_HALT_EXITS(%r13)
	je 1f
	inc %r15d
1:	hlt
	jmp loop
rdmsr_: /* an odd value: refused */
	NEXT
	mov %eax, %ebx
	mov $HAMMER_MSR, %ecx
	mov CPU_N_GP(%rbp), %rdi
	rdmsr
	test $1, %ebx
	jnz refused
	cmp %eax, %ebx
	FAIL_IF ne, ACT_RDMSR
	cmp %edx, %ebx
	FAIL_IF ne, ACT_RDMSR
	jmp 1f
wrmsr_:
	NEXT
	mov %eax, %ebx
	mov %eax, %edx
	mov $HAMMER_MSR, %ecx
	mov CPU_N_GP(%rbp), %rdi
	wrmsr
	test $1, %ebx
	jnz refused
1:	cmp %rdi, CPU_N_GP(%rbp)
	FAIL_IF ne, ACT_WRMSR
	jmp loop
refused:
	inc %rdi
	jmp 1b
cpuid_:
	NEXT
	mov %eax, %esi
	mov $HAMMER_LEAF, %eax
	xor %ecx, %ecx
	cpuid
	mov %esi, %ebx
	cmp %eax, %ebx
	FAIL_IF ne, ACT_CPUID
	cmp %edx, %ebx
	FAIL_IF ne, ACT_CPUID
	jmp loop
rdtsc_:
	NEXT
	mov %eax, %ebx
	rdtsc
	cmp %eax, %ebx
	FAIL_IF ne, ACT_RDTSC
	cmp %edx, %ebx
	FAIL_IF ne, ACT_RDTSC
	jmp loop
hypercall:
	NEXT
	mov %eax, %ebx
	not %ebx
	vmcall
	cmp %eax, %ebx
	FAIL_IF ne, ACT_HYPERCALL
	jmp loop
int3_: /* an odd value: swallowed */
	NEXT
	mov %eax, %ebx
	mov CPU_N_BP(%rbp), %rdi
	int3
	not %ebx
	and $1, %ebx
	add %rbx, %rdi
	cmp %rdi, CPU_N_BP(%rbp)
	FAIL_IF ne, ACT_INT3
	jmp loop
ud2_:
	NEXT
	mov %eax, %ebx
	mov CPU_N_UD(%rbp), %rdi
	ud2
	not %ebx
	and $1, %ebx
	add %rbx, %rdi
	cmp %rdi, CPU_N_UD(%rbp)
	FAIL_IF ne, ACT_UD2
	jmp loop
shutdown: /* an interrupt with no table: a triple fault; seldom */
	test $0x780, %eax
	jnz loop
	cli /* the host's count of what came must not be lost with the table */
	inc %r15d
	lidt CPU_IDT(%rbp)
	int $0x80
hammer_after_shutdown:
	sti
	jmp loop
ipi: /* all others answer, as in a TLB shootdown */
	mov CPU_ID(%rbp), %ecx
	xor %edx, %edx
	mov $HAMMER_CPU, %ebx
1:	cmp %ecx, %edx
	je 2f
	lock bts %ecx, CPU_REQUESTS(%rbx)
2:	add $0x1000, %ebx
	inc %edx
	cmp SHARED_CPUS(%r13), %edx
	jb 1b
	mov $0xfee00000, %eax
	movl $0xc4000 | HAMMER_IPI, 0x300(%rax)
	xor %edx, %edx
	mov $HAMMER_CPU, %ebx
3:	cmp %ecx, %edx
	je 5f
4:	pause
	bt %ecx, CPU_REQUESTS(%rbx)
	jc 4b
5:	add $0x1000, %ebx
	inc %edx
	cmp SHARED_CPUS(%r13), %edx
	jb 3b
	jmp loop
fetch: /* a call to where nothing is: the host returns for us */
	inc %r15d
	mov $HAMMER_HOLE + 0x800, %edx
	call *%rdx
	jmp loop
spin:
	and $1023, %eax
	mov %eax, %ecx
	inc %ecx
1:	lea (%rdx,%rcx), %rdx
	dec %ecx
	jnz 1b
	jmp loop

fail:
	xchg %eax, %esi
	out %eax, $HAMMER_FAIL
	jmp fail

	.globl hammer_on_fixed, hammer_on_nmi, hammer_on_extint, hammer_on_level, hammer_on_ipi
	.globl hammer_on_timer, hammer_on_bp, hammer_on_ud, hammer_on_gp, hammer_on_other
.macro HANDLER name, counter
hammer_on_\name:
	incq \counter(%rbp)
	push %rax
	mov $0xfee00000, %eax
	movl $0, 0xb0(%rax)
	pop %rax
	iretq
.endm
	HANDLER fixed, CPU_N_FIXED
	HANDLER level, CPU_N_LEVEL
	HANDLER timer, CPU_N_TIMER
hammer_on_ipi:
	incq CPU_N_IPI(%rbp)
	push %rax
	xor %eax, %eax
	xchg %rax, CPU_REQUESTS(%rbp)
	mov $0xfee00000, %eax
	movl $0, 0xb0(%rax)
	pop %rax
	iretq
hammer_on_nmi:
	incq CPU_N_NMI(%rbp)
	iretq
hammer_on_extint:
	incq CPU_N_EXTINT(%rbp)
	iretq
hammer_on_bp:
	incq CPU_N_BP(%rbp)
	iretq
hammer_on_ud:
	incq CPU_N_UD(%rbp)
	addq $2, (%rsp)
	iretq
hammer_on_gp: /* RDMSR and WRMSR */
	incq CPU_N_GP(%rbp)
	addq $8, %rsp
	addq $2, (%rsp)
	iretq
hammer_on_other:
	mov $0x80, %esi
	jmp fail
hammer_guest_end:

/* Where a SIPI starts: real mode, CS base HAMMER_START. */
	.code16
hammer_start:
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	.byte 0x66, 0x67, 0x0f, 0x01, 0x15 /* lgdtl abs32 */
	.long HAMMER_BOOT
	mov $0x620, %eax
	mov %eax, %cr4
	mov HAMMER_BOOT + 32, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	xor %edx, %edx
	mov $0x100, %eax
	wrmsr
	mov $0x80000033, %eax
	mov %eax, %cr0
	.byte 0x66, 0xea /* ljmpl */
	.long HAMMER_START + (start64 - hammer_start)
	.word 0x08
	.code64
start64:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $HAMMER_BOOT + 16, %eax
	lidt (%rax)
	mov $0xfee00000, %eax
	mov 0x20(%rax), %edi
	shr $24, %edi
	mov $HAMMER_CODE, %eax
	jmp *%rax
hammer_start_end:
