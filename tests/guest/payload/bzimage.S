/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzimage.S - looks like a bzImage: one setup sector after the boot sector, then the protected-mode
 * part with its 64-bit entry at 0x200. Linked flat at 0; runs at any address.
 */
#include "macros.h"
	.org 0x1f1
	.byte 1			/* setup_sects */
	.org 0x1fe
	.word 0xaa55
	jmp	1f
	.ascii "HdrS"
	.word 0x20f
	.org 0x211
	.byte 1			/* LOADED_HIGH */
	.org 0x22c
	.long 0x7fffffff	/* initrd_addr_max */
	.long 0x200000		/* kernel_alignment */
	.byte 1			/* relocatable */
	.org 0x236
	.word 1			/* 64-bit entry */
	.long 255		/* cmdline_size */
	.org 0x258
	.quad 0x1000000		/* pref_address */
	.long 0x10000		/* init_size */
	.org 0x268
1:	.org 0x400
	/* the 32-bit entry would be here */
	.org 0x600
	.code64
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
