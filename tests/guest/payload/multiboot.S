/* SPDX-License-Identifier: Apache-2.0 */
/* multiboot.S - entered by multiboot 1; with FLAT the header carries the addresses. */
#include "macros.h"
#ifdef FLAT
#define FLAGS 0x00010003
#else
#define FLAGS 0x00000003
#endif
	.section .multiboot, "ax"
header:
	.long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
	.long header, header, 0, bss_end, start
	.text
	.code32
	.globl start
start:
	movl	$stack, %esp
	cmpl	$0x2badb002, %eax
	jne	bad
	cmpl	$0, bss_word
	jne	bad
	cmpl	$639, 4(%ebx)		/* conventional memory */
	jne	bad
	testl	$0x40, (%ebx)		/* memory map */
	jz	bad
	movl	$hello, %esi
	call	puts
	movl	16(%ebx), %esi		/* command line */
	call	puts
	testl	$8, (%ebx)		/* modules */
	jz	3f
	movl	$module, %esi
	call	puts
	movl	24(%ebx), %eax
	movl	(%eax), %esi
	call	puts
3:	movl	$newline, %esi
	call	puts
	POWER_OFF
bad:
	movl	$sorry, %esi
	call	puts
	ud2
	PUTS_FUNCTION
hello:	.asciz "multiboot: "
module:	.asciz " module: "
newline: .asciz "\n"
sorry:	.asciz "multiboot: bad information\n"
	.bss
	.skip 1024
stack:
bss_word: .long 0
bss_end:
