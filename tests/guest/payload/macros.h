/* SPDX-License-Identifier: Apache-2.0 */
/* macros.h - what payloads share: serial output, power-off, the way in. */

#define COM1 0x3f8
#define PM1A_CNT 0x604
#define SLP_S5 0x3400

/* Prints the zero-terminated string at %esi. Uses %eax, %edx. */
.macro PUTS_FUNCTION
puts:
	lodsb
	testb	%al, %al
	jz	2f
	movb	%al, %ah
	movw	$(COM1 + 5), %dx
1:	inb	%dx, %al
	testb	$0x20, %al
	jz	1b
	movb	%ah, %al
	movw	$COM1, %dx
	outb	%al, %dx
	jmp	puts
2:	ret
.endm

.macro POWER_OFF
	movw	$PM1A_CNT, %dx
	movw	$SLP_S5, %ax
	outw	%ax, %dx
1:	hlt
	jmp	1b
.endm

/* XEN_ELFNOTE_PHYS32_ENTRY */
.macro PVH_NOTE entry
	.section .note, "a", @note
	.align 4
	.long 4, 4, 18
	.asciz "Xen"
	.long \entry
	.text
.endm

/* A bzImage at 0 of the file: boot sector, one sector of setup, entry by the 64-bit protocol. */
.macro BZIMAGE
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
1:	.org 0x600		/* 0x200 into the protected-mode part */
	.code64
.endm
