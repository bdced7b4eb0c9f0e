/* SPDX-License-Identifier: Apache-2.0 */
/* exit.S - unmapped ports and memory read as all ones; ends by isa-debug-exit with 0, else 1. */
#include "macros.h"
	PVH_NOTE start
	.code32
	.globl start
start:
	movw	$0x5555, %dx
	inl	%dx, %eax
	cmpl	$0xffffffff, %eax
	jne	bad
	movl	0xd0000000, %eax
	cmpl	$0xffffffff, %eax
	jne	bad
	movl	%eax, 0xd0000000
	/* PCI: the host bridge by both ways */
	movw	$0xcf8, %dx
	movl	$0x80000000, %eax
	outl	%eax, %dx
	movw	$0xcfc, %dx
	inl	%dx, %eax
	cmpl	0xe0000000, %eax
	jne	bad
	cmpw	$0xffff, %ax
	je	bad
	xorl	%eax, %eax
	outl	%eax, $0xf4
bad:
	movl	$1, %eax
	outl	%eax, $0xf4
1:	hlt
	jmp	1b
