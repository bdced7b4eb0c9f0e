/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmx_start.S - the way of vmx.c into 64-bit mode, its faults, and single instructions to try at
 * any privilege: attempt() runs one of the stubs and says what came of it.
 */
	.section .multiboot, "ax"
	.long 0x1badb002, 3, -(0x1badb002 + 3)
	.text
	.code32
	.globl start
start:
	movl	$stack_end, %esp
	movl	$pml4, %edi		/* 4 GiB, one to one, 2 MiB pages, for everybody */
	movl	$(pdpt + 7), (%edi)
	movl	$pdpt, %edi
	movl	$(pd + 7), %eax
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$4096, %eax
	loop	1b
	movl	$pd, %edi
	movl	$0x87, %eax
	movl	$2048, %ecx
1:	movl	%eax, (%edi)
	addl	$8, %edi
	addl	$0x200000, %eax
	loop	1b
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	movl	$0x80000033, %eax	/* PG, NE, ET, MP, PE */
	movl	%eax, %cr0
	movl	$tss, %eax
	movw	%ax, gdt_tss + 2
	shrl	$16, %eax
	movb	%al, gdt_tss + 4
	movb	%ah, gdt_tss + 7
	lgdt	gdt_pointer
	ljmp	$8, $1f
	.code64
1:	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movl	$0x30, %eax
	ltr	%ax
	movl	$idt, %edi		/* 256 gates, 32 bytes of code each from vectors on */
	movl	$vectors, %eax
	xorl	%ecx, %ecx
2:	movw	%ax, (%rdi)
	movw	$8, 2(%rdi)
	movw	$0xee00, 4(%rdi)	/* interrupt gate, DPL 3 */
	movl	%eax, %edx
	shrl	$16, %edx
	movw	%dx, 6(%rdi)
	addl	$16, %edi
	addl	$32, %eax
	incl	%ecx
	cmpl	$256, %ecx
	jne	2b
	lidt	idt_pointer
	movl	$stack_end, %esp
	call	main
	movw	$0x604, %dx
	movw	$0x3400, %ax
	outw	%ax, %dx
3:	hlt
	jmp	3b

/* unsigned attempt(void *code, unsigned mode): 0 here, 3 at CPL 3, 32 in compatibility mode. Gives
 * the vector that ended it, 0x80 when it got to its end, 0x100 when a VM exit came. */
	.globl attempt
attempt:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushfq
	movq	%rsp, escape_rsp
	movl	operand_field, %ecx
	movq	operand_value, %rax
	cmpl	$3, %esi
	je	1f
	cmpl	$32, %esi
	je	2f
	jmp	*%rdi
1:	pushq	$0x23
	pushq	$user_stack_end
	pushq	$2
	pushq	$0x2b
	pushq	%rdi
	iretq
2:	pushq	$0x18
	pushq	%rdi
	lretq

	.balign 32
vectors:
	.set	n, 0
	.rept	256
	.balign 32
	.if	(n == 8) || (n >= 10 && n <= 14) || (n == 17)
	popq	fault_error
	.endif
	movl	$n, %eax
	jmp	escape
	.set	n, n + 1
	.endr
	.balign 16
escape:
	popq	fault_rip
	movq	escape_rsp, %rsp
	movl	$0x10, %edx
	movl	%edx, %ss
	movl	%edx, %ds
	movl	%edx, %es
	popfq
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

/* What HOST_RIP is. The pushed word takes the place of a fault's RIP. */
	.globl host_entry
host_entry:
	movq	%rax, guest_rax
	movq	escape_rsp, %rsp
	pushq	$0
	movl	$0x100, %eax
	jmp	escape

/* The instructions. Flags set beforehand show which are cleared. */
.macro STUB name:req, insn:req
	.globl	try_\name
try_\name:
	pushq	$0x8d7			/* OF SF ZF AF PF CF */
	popfq
	\insn
	pushfq
	popq	result_flags
	int	$0x80
.endm
	STUB vmxon, "vmxon operand"
	STUB vmxoff, "vmxoff"
	STUB vmclear, "vmclear operand"
	STUB vmptrld, "vmptrld operand"
	STUB vmptrst, "vmptrst operand"
	STUB vmread, "vmread %rcx, operand"
	STUB vmread_reg, "vmread %rcx, %rdx; movq %rdx, operand"
	STUB vmread_fault, "movabs $0x7f0000000000, %rdx; vmread %rcx, (%rdx)"
	STUB vmwrite, "vmwrite %rax, %rcx"
	STUB vmwrite_mem, "vmwrite operand, %rcx"
	STUB vmlaunch, "vmlaunch"
	STUB vmresume, "vmresume"
	STUB vmcall, "vmcall"
	STUB invept, "invept operand, %rax"
	STUB invvpid, "invvpid operand, %rax"
	STUB vmlaunch_mov_ss, "movl $0x10, %edx; movl %edx, %ss; vmlaunch"
	STUB mov_cr4, "movq %rax, %cr4"
	STUB mov_cr0, "movq %rax, %cr0"
	/* operands in no page */
	STUB vmxon_fault, "movabs $0x7f0000000000, %rdx; vmxon (%rdx)"
	STUB vmclear_fault, "movabs $0x7f0000000000, %rdx; vmclear (%rdx)"
	STUB vmptrld_fault, "movabs $0x7f0000000000, %rdx; vmptrld (%rdx)"
	STUB vmptrst_fault, "movabs $0x7f0000000000, %rdx; vmptrst (%rdx)"
	STUB vmwrite_fault, "movabs $0x7f0000000000, %rdx; vmwrite (%rdx), %rcx"
	STUB invept_fault, "movabs $0x7f0000000000, %rdx; invept (%rdx), %rax"
	STUB invvpid_fault, "movabs $0x7f0000000000, %rdx; invvpid (%rdx), %rax"
	STUB vmresume_mov_ss, "movl $0x10, %edx; movl %edx, %ss; vmresume"
	STUB vmfunc, "vmfunc"
	STUB vmxon_far, "movabs $0x8000000000000000, %rdx; vmxon (%rdx)"

/* Guests of our own. */
	.globl guest_loop, guest_hlt, guest_cpuid
guest_loop:
	incq	guest_count
	vmcall
	jmp	guest_loop
guest_hlt:
	hlt
guest_cpuid:
	cpuid
.macro GUEST name:req, insn:req
	.globl	guest_\name
guest_\name:
	\insn
	vmcall
.endm
	GUEST invlpg, "invlpg operand"
	GUEST rdpmc, "xorl %ecx, %ecx; rdpmc"
	GUEST rdtsc, "rdtsc"
	GUEST to_cr3, "movl $pml4, %eax; movq %rax, %cr3"
	GUEST from_cr3, "movq %cr3, %rax"
	GUEST to_cr8, "xorl %eax, %eax; movq %rax, %cr8"
	GUEST from_cr8, "movq %cr8, %rax"
	GUEST from_dr, "movq %dr7, %rax"
	GUEST in, "inb $0x80, %al"
	GUEST pause, "pause"
	GUEST sgdt, "sgdt operand"
	GUEST sldt, "sldt %eax"
	GUEST rdtscp, "rdtscp"
	GUEST wbinvd, "wbinvd"
	GUEST invpcid, "movl $2, %eax; movq $0, operand; invpcid operand, %rax"
	GUEST rdmsr, "movl $0x10, %ecx; rdmsr"
	GUEST xsaves, "xorl %eax, %eax; xorl %edx, %edx; xsaves area"
	GUEST mwait, "mwait"
	GUEST monitor, "monitor"
	GUEST vmfunc, "vmfunc"
	GUEST sti_hlt, "sti; hlt"
	GUEST sti_nop_hlt, "sti; nop; hlt"
	GUEST sti_call, "sti; call 1f; 1: cli"
	GUEST mov_ss, "movl $0x10, %eax; movl %eax, %ss"
	GUEST mov_ss_nop, "movl $0x10, %eax; movl %eax, %ss; nop"
	GUEST mov_ss_int1, "movw operand, %ss; .byte 0xf1"
	GUEST iret, "movl %esp, %eax; pushq $0x10; pushq %rax; pushq $2; pushq $8; pushq $1f; iretq; 1:"
	GUEST iret_bad, "movl %esp, %eax; pushq $0x10; pushq %rax; pushq $2; pushq $0x10; pushq $1f; iretq; 1:"
	GUEST iret_far, "movl $0xd0000000, %esp; iretq"

	.section .data
	.balign 16
gdt:	.quad 0
	.quad 0x00af9b000000ffff	/* 08 code */
	.quad 0x00cf93000000ffff	/* 10 data */
	.quad 0x00cf9b000000ffff	/* 18 32-bit code */
	.quad 0x00cff3000000ffff	/* 20 user data */
	.quad 0x00affb000000ffff	/* 28 user code */
	.globl gdt_tss
gdt_tss:
	.quad 0x0000890000000067
	.quad 0
gdt_end:
	.globl gdt_pointer, idt_pointer
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
idt_pointer:
	.word 4095
	.quad idt
	.globl tss
tss:	.long 0
	.quad fault_stack_end, 0, 0
	.fill 76, 1, 0
	.globl operand, operand_field, operand_value, result_flags, fault_rip, fault_error
	.globl guest_count, guest_rax
operand: .quad 0, 0
operand_value: .quad 0
operand_field: .long 0, 0
result_flags: .quad 0
fault_rip: .quad 0
fault_error: .quad 0
escape_rsp: .quad 0
guest_count: .quad 0
guest_rax: .quad 0

	.section .bss, "aw", @nobits
	.balign 4096
area:	.skip 4096
	.globl pml4, guest_stack_end
pml4:	.skip 4096
pdpt:	.skip 4096
pd:	.skip 4 * 4096
idt:	.skip 4096
	.skip 8192
stack_end:
	.skip 4096
fault_stack_end:
	.skip 4096
user_stack_end:
	.skip 4096
guest_stack_end:
