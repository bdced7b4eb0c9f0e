/* SPDX-License-Identifier: Apache-2.0 */
/* pvh.S - entered by PVH: checks the start info, prints the command line, powers off. */
#include "macros.h"
	PVH_NOTE start
	.code32
	.globl start
start:
	movl	$stack, %esp
	cmpl	$0x336ec578, (%ebx)
	jne	bad
	cmpl	$1, 4(%ebx)
	jne	bad
	cmpl	$0, bss_word
	jne	bad
	movl	32(%ebx), %eax		/* RSDP */
	cmpl	$0x20445352, (%eax)	/* "RSD " */
	jne	bad
	movl	$hello, %esi
	call	puts
	movl	24(%ebx), %esi		/* command line */
	call	puts
	cmpl	$0, 12(%ebx)		/* modules */
	je	3f
	movl	$module, %esi
	call	puts
	movl	16(%ebx), %eax
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
hello:	.asciz "pvh: "
module:	.asciz " module: "
newline: .asciz "\n"
sorry:	.asciz "pvh: bad start info\n"
	.bss
	.skip 1024
stack:
bss_word: .long 0
