/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.S - ticks of the PIT, first by the PIC (vector 0x20), then by the IOAPIC (vector 0x40), then
 * the local APIC's own timer (0x40); halts between them.
 */
#include "macros.h"
#define TICKS 20
#define IDT 0x10000
	BZIMAGE
	leaq	pic_tick(%rip), %rax
	movl	$(IDT + 0x20 * 16), %edi
	call	gate
	leaq	apic_tick(%rip), %rax
	movl	$(IDT + 0x40 * 16), %edi
	call	gate
	lidt	idtr(%rip)
	movl	$0xfee00000, %r14d
	movl	$0xfec00000, %r15d
	/* PICs at 0x20 and 0x28, all masked but IRQ 0 */
	movb	$0x11, %al
	outb	%al, $0x20
	outb	%al, $0xa0
	movb	$0x20, %al
	outb	%al, $0x21
	movb	$0x28, %al
	outb	%al, $0xa1
	movb	$4, %al
	outb	%al, $0x21
	movb	$2, %al
	outb	%al, $0xa1
	movb	$1, %al
	outb	%al, $0x21
	outb	%al, $0xa1
	movb	$0xfe, %al
	outb	%al, $0x21
	movb	$0xff, %al
	outb	%al, $0xa1
	/* PIT channel 0: mode 2, about 1 kHz */
	movb	$0x34, %al
	outb	%al, $0x43
	movb	$0xa9, %al
	outb	%al, $0x40
	movb	$0x04, %al
	outb	%al, $0x40
	call	wait_ticks
	leaq	by_pic(%rip), %rsi
	call	puts
	/* PIC off; local APIC on; IOAPIC pin 2 to CPU 0, edge */
	movb	$0xff, %al
	outb	%al, $0x21
	movl	$0x1ff, 0xf0(%r14)
	movl	$0x15, (%r15)
	movl	$0, 0x10(%r15)
	movl	$0x14, (%r15)
	movl	$0x40, 0x10(%r15)
	call	wait_ticks
	leaq	by_ioapic(%rip), %rsi
	call	puts
	/* IOAPIC pin masked; local APIC timer, periodic */
	movl	$0x10040, 0x10(%r15)
	movl	$0xb, 0x3e0(%r14)
	movl	$0x20040, 0x320(%r14)
	movl	$1000000, 0x380(%r14)
	call	wait_ticks
	leaq	by_lapic(%rip), %rsi
	call	puts
	POWER_OFF

gate:	/* %edi: entry, %rax: handler */
	movw	%ax, (%rdi)
	movw	$0x10, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	shrq	$16, %rax
	movw	%ax, 6(%rdi)
	shrq	$16, %rax
	movq	%rax, 8(%rdi)
	ret
wait_ticks:
	movl	$0, count(%rip)
1:	cli
	cmpl	$TICKS, count(%rip)
	jae	2f
	sti
	hlt
	jmp	1b
2:	ret
pic_tick:
	incl	count(%rip)
	pushq	%rax
	movb	$0x20, %al
	outb	%al, $0x20
	popq	%rax
	iretq
apic_tick:
	incl	count(%rip)
	movl	$0, 0xb0(%r14)
	iretq
	PUTS_FUNCTION
by_pic:	.asciz "irq: pic "
by_ioapic: .asciz "ioapic "
by_lapic: .asciz "lapic\n"
	.align 4
idtr:	.word 0x41 * 16 - 1
	.quad IDT
count:	.long 0
	.org 0x1000
