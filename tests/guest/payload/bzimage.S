/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzimage.S - entered by the 64-bit protocol: checks the zero page, prints the command line, powers
 * off. Linked flat at 0; runs at any address.
 */
#include "macros.h"
	BZIMAGE
start:
	movq	%rsi, %rbx
	leaq	hello(%rip), %rsi
	call	puts
	cmpl	$0x53726448, 0x202(%rbx)	/* "HdrS" */
	jne	bad
	cmpb	$4, 0x1e8(%rbx)			/* E820 entries */
	jb	bad
	movq	0x70(%rbx), %rax		/* RSDP */
	cmpl	$0x20445352, (%rax)
	jne	bad
	movq	$0xfee00030, %rax		/* mapped: APIC version, above 3 GiB */
	movl	(%rax), %eax
	movl	0x228(%rbx), %esi
	call	puts
	movl	0x218(%rbx), %eax		/* initrd */
	testl	%eax, %eax
	jz	3f
	leaq	module(%rip), %rsi
	call	puts
	movl	0x218(%rbx), %esi
	call	puts
3:	leaq	newline(%rip), %rsi
	call	puts
	POWER_OFF
bad:
	leaq	sorry(%rip), %rsi
	call	puts
	ud2
	PUTS_FUNCTION
hello:	.asciz "bzimage: "
module:	.asciz " module: "
newline: .asciz "\n"
sorry:	.asciz "bzimage: bad zero page\n"
	.org 0x1000
