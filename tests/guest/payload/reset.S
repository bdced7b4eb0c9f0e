/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reset.S - asks for a reset in each of the ways a PC has, one a life, then powers off. The count
 * of lives is at 0x80000, which no loader touches. Each life checks that the chips are as after
 * power-on (PIC masks) and that its own data was loaded again.
 */
#include "macros.h"
#define LIVES 0x80000
	PVH_NOTE start
	.code32
	.globl start
start:
	movl	$stack, %esp
	cmpl	$0x12345678, data
	jne	bad
	cmpl	$0, bss_word
	jne	bad
	movl	$0x87654321, data
	movl	%esp, bss_word
	incl	LIVES
	movl	LIVES, %eax
	addb	$'0', %al
	movb	%al, digit
	movl	$life, %esi
	call	puts
	movl	LIVES, %eax
	cmpl	$1, %eax
	je	by_keyboard
	cmpl	$2, %eax
	je	by_port_cf9
	cmpl	$3, %eax
	je	by_port_92
	POWER_OFF
by_keyboard:
	movb	$0xfe, %al
	outb	%al, $0x64
	jmp	bad
by_port_cf9:
	movw	$0xcf9, %dx
	movb	$2, %al
	outb	%al, %dx
	movb	$6, %al
	outb	%al, %dx
	jmp	bad
by_port_92:
	inb	$0x92, %al
	orb	$1, %al
	outb	%al, $0x92
bad:
	movl	$sorry, %esi
	call	puts
	ud2
	PUTS_FUNCTION
data:	.long 0x12345678
life:	.ascii "reset: life "
digit:	.asciz "?\n"
sorry:	.asciz "reset: still here\n"
	.bss
bss_word: .long 0
	.skip 256
stack:
