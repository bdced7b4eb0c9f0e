/* SPDX-License-Identifier: Apache-2.0 */
/* power.S - waits for the power button: a level-triggered SCI by the IOAPIC; then powers off. */
#include "macros.h"
#define IDT 0x10000
#define PM1_STS 0x600
#define PM1_EN 0x602
	BZIMAGE
	leaq	sci(%rip), %rax
	movl	$(IDT + 0x50 * 16), %edi
	movw	%ax, (%rdi)
	movw	$0x10, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrq	$16, %rax
	movw	%ax, 6(%rdi)
	shrq	$16, %rax
	movq	%rax, 8(%rdi)
	lidt	idtr(%rip)
	movl	$0xfee00000, %r14d
	movl	$0xfec00000, %r15d
	movb	$0xff, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movl	$0x1ff, 0xf0(%r14)
	movl	$(0x10 + 2 * 9 + 1), (%r15)
	movl	$0, 0x10(%r15)
	movl	$(0x10 + 2 * 9), (%r15)
	movl	$0x8050, 0x10(%r15)	/* level, vector 0x50 */
	movw	$PM1_EN, %dx
	movw	$0x100, %ax		/* PWRBTN_EN */
	outw	%ax, %dx
	leaq	ready(%rip), %rsi
	call	puts
1:	cli
	cmpl	$0, pressed(%rip)
	jne	2f
	sti
	hlt
	jmp	1b
2:	/* once only: after EOI the line is low */
	sti
	nop
	nop
	cli
	cmpl	$1, pressed(%rip)
	jne	bad
	leaq	bye(%rip), %rsi
	call	puts
	POWER_OFF
bad:	leaq	sorry(%rip), %rsi
	call	puts
	ud2
sci:
	incl	pressed(%rip)
	pushq	%rax
	pushq	%rdx
	movw	$PM1_STS, %dx
	inw	%dx, %ax
	outw	%ax, %dx		/* write one to clear */
	popq	%rdx
	popq	%rax
	movl	$0, 0xb0(%r14)
	iretq
	PUTS_FUNCTION
ready:	.asciz "power: ready\n"
bye:	.asciz "power: pressed\n"
sorry:	.asciz "power: more than one interrupt\n"
	.align 4
idtr:	.word 0x51 * 16 - 1
	.quad IDT
pressed: .long 0
	.org 0x1000
